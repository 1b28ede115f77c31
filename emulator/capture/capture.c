#include "emulator/capture/capture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/capture/capture_internal.h"

enum {
    USB_CLASS_HUB = 0x09,
    FULL_RECORD = 262144 - 64, /* data in the longest usbmon record that libpcap reads */
};

void usbip_capture_free(struct usbip_capture *capture)
{
    if (!capture)
        return;
    for (unsigned i = 0; i < capture->device_count; i++)
        free(capture->devices[i].descriptors);
    free(capture->devices);
    free(capture->transfers);
    capture_arena_free(capture->arena);
    free(capture->path);
    free(capture);
}

/* ---- Choosing a device ---- */

/* What the user wants: one of both. */
struct wish {
    bool by_address;
    uint16_t first, second; /* bus and address, or vendor and product */
};

static bool parse_wish(const char *text, struct wish *wish)
{
    size_t digits = strspn(text, "0123456789abcdefABCDEF");
    wish->by_address = text[digits] == '.';
    if (!wish->by_address && text[digits] != ':')
        return false;
    int base = wish->by_address ? 10 : 16;
    char *end;
    unsigned long first = strtoul(text, &end, base);
    if (digits == 0 || end != text + digits)
        return false;
    const char *rest = end + 1;
    unsigned long second = strtoul(rest, &end, base);
    if (end == rest || *end || strspn(rest, "0123456789abcdefABCDEF") != (size_t)(end - rest))
        return false;
    wish->first = (uint16_t)first;
    wish->second = (uint16_t)second;
    return first <= UINT16_MAX && second <= UINT16_MAX;
}

bool usbip_capture_is_wish(const char *text)
{
    struct wish wish;
    return parse_wish(text, &wish);
}

static bool fits(const struct usbip_capture_device *device, const struct wish *wish)
{
    if (!wish)
        return true;
    if (wish->by_address)
        return capture_device_is_at(device, wish->first, wish->second);
    return device->has_ids && device->idVendor == wish->first && device->idProduct == wish->second;
}

/* Serial devices before others, hubs last. */
static unsigned rank(const struct usbip_capture_device *device)
{
    if (device->chip)
        return 2;
    return !(device->has_ids && device->bDeviceClass == USB_CLASS_HUB);
}

int usbip_capture_select(const struct usbip_capture *capture, const char *wish_text,
                         char reason[USBIP_CAPTURE_REASON_SIZE],
                         char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    struct wish wish;
    if (wish_text && !parse_wish(wish_text, &wish)) {
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, USBIP_CAPTURE_NO_WISH, wish_text);
        return -1;
    }
    int best = -1;
    unsigned count = 0, equals = 0; /* that fit, and those of them with the best one's rank */
    for (unsigned i = 0; i < capture->device_count; i++) {
        const struct usbip_capture_device *device = &capture->devices[i];
        if (!fits(device, wish_text ? &wish : NULL))
            continue;
        count++;
        unsigned best_rank = best < 0 ? 0 : rank(&capture->devices[best]);
        if (best < 0 || rank(device) > best_rank) {
            best = (int)i;
            equals = 1;
        } else if (rank(device) == best_rank) {
            equals++;
            if (device->transfer_count > capture->devices[best].transfer_count)
                best = (int)i;
        }
    }
    if (best < 0) {
        if (wish_text)
            snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE,
                     "%s: no device %s is in it; inspect without --device lists those that are",
                     capture->path, wish_text);
        else
            snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, "%s: no USB transfer is in it",
                     capture->path);
        return -1;
    }
    const struct usbip_capture_device *device = &capture->devices[best];
    if (count == 1)
        snprintf(reason, USBIP_CAPTURE_REASON_SIZE, wish_text ? "as asked for" : "the only device");
    else if (equals == 1 && device->chip)
        snprintf(reason, USBIP_CAPTURE_REASON_SIZE, "the only serial device of %u", count);
    else if (equals == 1)
        snprintf(reason, USBIP_CAPTURE_REASON_SIZE, "the only one of %u that is no hub", count);
    else
        snprintf(reason, USBIP_CAPTURE_REASON_SIZE, "the busiest of %u %s", equals,
                 device->chip ? "serial devices" : "devices, none of which is serial");
    if (device->truncated_record > 0) {
        const char *advice = device->truncated_size < FULL_RECORD
                                 ? "record again with a larger snap length or buffer"
                                 : "usbmon records hold no more; capture the USB/IP connection "
                                   "instead, with tcpdump";
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE,
                 "%s: record %u: the recorder kept %u of the %u bytes that device %u.%u "
                 "transferred; %s",
                 capture->path, device->truncated_record, device->truncated_size,
                 device->truncated_wanted, device->bus, device->address, advice);
        return -1;
    }
    return best;
}
