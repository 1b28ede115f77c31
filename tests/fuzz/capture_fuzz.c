/*
 * The reader of captures, given any file: what it makes of it must hang together, and be possible
 * to describe.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "emulator/capture/description.h"
#include "protocol/configuration.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() would vanish where NDEBUG is defined. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void check_line(const char *text)
{
    CHECK(*text != '\0' && strlen(text) < USBIP_CAPTURE_ERROR_SIZE && !strchr(text, '\n'));
}

static unsigned sum;

static void check_transfers(const struct usbip_capture *capture)
{
    uint32_t order = 0;
    for (uint32_t i = 0; i < capture->transfer_count; i++) {
        const struct usbip_capture_transfer *t = &capture->transfers[i];
        CHECK(t->device < capture->device_count);
        CHECK(t->submit_record > 0 || t->complete_record > 0);
        CHECK((t->submit_record > 0) == (t->submit_order > 0));
        CHECK((t->complete_record > 0) == (t->complete_order > 0));
        CHECK(t->submit_order == 0 || t->complete_order == 0 ||
              t->submit_order < t->complete_order);
        /* Sorted by the first event. */
        uint32_t first = t->submit_order ? t->submit_order : t->complete_order;
        CHECK(first > order);
        order = first;
        CHECK((t->data != NULL) == (t->size > 0));
        CHECK(t->type <= USB_ENDPOINT_XFER_INT);
        for (uint32_t j = 0; j < t->size; j++)
            sum += t->data[j];
    }
}

static void check_device(const struct usbip_capture *capture, unsigned index)
{
    const struct usbip_capture_device *device = &capture->devices[index];
    uint64_t transfers = 0;
    for (unsigned i = 0; i < device->endpoint_count; i++) {
        transfers += device->endpoints[i].transfers;
        CHECK(i == 0 || device->endpoints[i - 1].address < device->endpoints[i].address);
    }
    CHECK(transfers == device->transfer_count);
    CHECK(device->without_submit + device->without_completion <= device->transfer_count);

    struct usbip_description description;
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    CHECK(usbip_describe(capture, index, NULL, &description, error_text) == 0);
    struct usbip_configuration table;
    CHECK(usbip_parse_configuration(description.configuration, description.configuration_size,
                                    &table) == 0);
    CHECK(table.descriptor.wTotalLength == description.configuration_size);
    usbip_description_free(&description);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64], error_text[USBIP_CAPTURE_ERROR_SIZE] = "", reason[USBIP_CAPTURE_REASON_SIZE];
    int file = memfd_create("capture", 0);
    CHECK(file >= 0);
    CHECK(size == 0 || write(file, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    struct usbip_capture *capture = usbip_capture_load(path, error_text);
    if (!capture) {
        check_line(error_text);
    } else {
        check_transfers(capture);
        for (unsigned i = 0; i < capture->device_count; i++)
            check_device(capture, i);
        if (usbip_capture_select(capture, NULL, reason, error_text) < 0)
            check_line(error_text);
        /* The same bytes describe devices, too. */
        struct usbip_description description;
        if (capture->device_count > 0) {
            if (usbip_describe(capture, 0, path, &description, error_text) < 0)
                check_line(error_text);
            else
                usbip_description_free(&description);
        }
    }
    usbip_capture_free(capture);
    close(file);
    return 0;
}
