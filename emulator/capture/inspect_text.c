/* The report of inspect for people. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "emulator/capture/chip.h"
#include "emulator/capture/inspect.h"
#include "emulator/log.h"
#include "protocol/cdc.h"

enum { NANOSECONDS = 1000000000 };

static void print_time_span(uint64_t first_ns, uint64_t last_ns)
{
    char text[64] = "?";
    time_t seconds = (time_t)(first_ns / NANOSECONDS);
    struct tm utc;
    if (gmtime_r(&seconds, &utc))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc);
    printf("%.6f s from %s UTC", (double)(last_ns - first_ns) / NANOSECONDS, text);
}

static void print_string(const char *text)
{
    char line[USBIP_LOG_LINE_SIZE];
    snprintf(line, sizeof line, "%s", text);
    usbip_blank_control_characters(line);
    printf("\"%s\"", line);
}

static void print_devices(const struct inspection *inspection)
{
    const struct usbip_capture *capture = inspection->capture;
    puts("devices");
    for (unsigned i = 0; i < capture->device_count; i++) {
        const struct usbip_capture_device *device = &capture->devices[i];
        char address[16], ids[16] = "?";
        snprintf(address, sizeof address, "%u.%u", device->bus, device->address);
        if (device->has_ids)
            snprintf(ids, sizeof ids, "%04x:%04x", device->idVendor, device->idProduct);
        printf("  %-8s %-10s %-10s %8" PRIu32 " transfers", address, ids,
               device->chip ? device->chip->name : "", device->transfer_count);
        if (device == inspection->device)
            printf("  <- %s", inspection->reason);
        putchar('\n');
    }
}

/* ---- Descriptors ---- */

static void print_origin(enum usbip_description_origin origin, uint32_t record)
{
    printf("%s%s", origin == USBIP_ORIGIN_SYNTHESISED ? "" : "from ",
           usbip_description_origin_name(origin));
    if (record > 0)
        printf(", record %" PRIu32, record);
}

static void print_named(const struct inspection *inspection, const char *name, uint8_t index)
{
    if (index == 0)
        return;
    printf("  %s ", name);
    if (inspection->description->strings[index])
        print_string(inspection->description->strings[index]);
    else
        printf("(string %u is missing)", index);
}

static void print_device_descriptor(const struct inspection *inspection)
{
    const struct usbip_device_descriptor *d = &inspection->description->device;
    printf("    bcdUSB %x.%02x  class %02x/%02x/%02x  ep0 %u bytes  bcdDevice %x.%02x\n",
           d->bcdUSB >> 8, d->bcdUSB & 0xffu, d->bDeviceClass, d->bDeviceSubClass,
           d->bDeviceProtocol, d->bMaxPacketSize0, d->bcdDevice >> 8, d->bcdDevice & 0xffu);
    if (d->iManufacturer || d->iProduct || d->iSerialNumber) {
        fputs("  ", stdout);
        print_named(inspection, "manufacturer", d->iManufacturer);
        print_named(inspection, "product", d->iProduct);
        print_named(inspection, "serial", d->iSerialNumber);
        putchar('\n');
    }
}

static void print_class_descriptor(const uint8_t *bytes, size_t size)
{
    printf("      class descriptor");
    for (size_t i = 0; i < size; i++)
        printf(" %02x", bytes[i]);
    static const char *const names[] = {
        [CDC_HEADER_TYPE] = "CDC header",
        [CDC_CALL_MANAGEMENT_TYPE] = "CDC call management",
        [CDC_ACM_TYPE] = "CDC ACM",
        [CDC_UNION_TYPE] = "CDC union",
    };
    if (bytes[1] == USB_DT_CS_INTERFACE && size > 2 && bytes[2] < sizeof names / sizeof names[0] &&
        names[bytes[2]])
        printf("  %s", names[bytes[2]]);
    putchar('\n');
}

/* Which serial port it is, of an FTDI chip with several: requests name it by this number. */
static void print_port(const struct usbip_chip *chip, uint8_t interface)
{
    if (chip && chip->family == USBIP_CHIP_FTDI && chip->ports > 1 && interface < chip->ports)
        printf("  port %u", interface + 1u);
}

static void print_descriptor(const struct inspection *inspection, const uint8_t *bytes, size_t size)
{
    struct usbip_interface_descriptor interface;
    struct usbip_interface_association_descriptor association;
    struct usbip_endpoint_descriptor endpoint;
    if (usbip_decode_interface_descriptor(bytes, size, &interface) == 0) {
        printf("    interface %u", interface.bInterfaceNumber);
        if (interface.bAlternateSetting > 0)
            printf(" setting %u", interface.bAlternateSetting);
        printf("  class %02x/%02x/%02x", interface.bInterfaceClass, interface.bInterfaceSubClass,
               interface.bInterfaceProtocol);
        if (inspection->description->strings[interface.iInterface]) {
            fputs("  ", stdout);
            print_string(inspection->description->strings[interface.iInterface]);
        }
        print_port(inspection->description->chip, interface.bInterfaceNumber);
        putchar('\n');
    } else if (usbip_decode_interface_association_descriptor(bytes, size, &association) == 0) {
        printf("    function of interfaces %u to %u  class %02x/%02x/%02x\n",
               association.bFirstInterface,
               association.bFirstInterface + association.bInterfaceCount - 1,
               association.bFunctionClass, association.bFunctionSubClass,
               association.bFunctionProtocol);
    } else if (usbip_decode_endpoint_descriptor(bytes, size, &endpoint) == 0) {
        printf("      endpoint 0x%02x %-3s  %-9s  %u bytes", endpoint.bEndpointAddress,
               endpoint.bEndpointAddress & USB_DIR_IN ? "IN" : "OUT",
               inspect_transfer_type(endpoint.bmAttributes),
               endpoint.wMaxPacketSize & USB_ENDPOINT_MAXP_MASK);
        if (endpoint.bInterval > 0)
            printf("  interval %u", endpoint.bInterval);
        putchar('\n');
    } else {
        print_class_descriptor(bytes, size);
    }
}

static void print_configuration(const struct inspection *inspection)
{
    const struct usbip_description *description = inspection->description;
    struct usbip_config_descriptor configuration;
    if (usbip_decode_config_descriptor(description->configuration, description->configuration_size,
                                       &configuration) < 0)
        return;
    printf("  configuration %u, %zu bytes, ", configuration.bConfigurationValue,
           description->configuration_size);
    print_origin(description->configuration_origin, description->configuration_record);
    printf("\n    %u interface%s, %s-powered, %u mA\n", configuration.bNumInterfaces,
           configuration.bNumInterfaces == 1 ? "" : "s",
           configuration.bmAttributes & USB_CONFIG_ATT_SELFPOWER ? "self" : "bus",
           2u * configuration.bMaxPower);
    size_t offset = 0;
    const uint8_t *descriptor;
    int length;
    while ((length = usbip_next_descriptor(description->configuration,
                                           description->configuration_size, &offset, &descriptor)) >
           0) {
        if (descriptor[1] != USB_DT_CONFIG)
            print_descriptor(inspection, descriptor, (size_t)length);
    }
}

/* ---- Traffic ---- */

static void print_count(uint32_t count, const char *what)
{
    if (count > 0)
        printf("  %" PRIu32 " %s", count, what);
}

static void print_endpoints(const struct usbip_capture_device *device)
{
    puts("  endpoints used");
    for (unsigned i = 0; i < device->endpoint_count; i++) {
        const struct usbip_capture_endpoint *endpoint = &device->endpoints[i];
        const char *direction = endpoint->type == USB_ENDPOINT_XFER_CONTROL ? ""
                                : endpoint->address & USB_DIR_IN            ? "IN"
                                                                            : "OUT";
        printf("    0x%02x %-3s  %-9s %8" PRIu32 " transfers %10" PRIu64 " bytes",
               endpoint->address, direction, inspect_transfer_type(endpoint->type),
               endpoint->transfers, endpoint->bytes);
        printf("  longest %" PRIu32, endpoint->longest);
        print_count(endpoint->stalls, "stalled");
        print_count(endpoint->failed, "failed");
        print_count(endpoint->unlinked, "unlinked");
        putchar('\n');
    }
}

static void print_gaps(const struct inspection *inspection)
{
    struct inspect_gap gaps[INSPECT_GAPS];
    bool complete = true;
    inspect_find_gaps(inspection, gaps);
    puts("  missing");
    for (unsigned i = 0; i < INSPECT_GAPS; i++) {
        if (gaps[i].count == 0)
            continue;
        complete = false;
        printf("    %s: %" PRIu64, gaps[i].text, gaps[i].count);
        if (gaps[i].record > 0)
            printf(", the first in record %" PRIu32, gaps[i].record);
        putchar('\n');
    }
    if (complete)
        puts("    nothing");
}

static void print_device(const struct inspection *inspection)
{
    const struct usbip_capture_device *device = inspection->device;
    const struct usbip_description *description = inspection->description;
    printf("device %u.%u  %04x:%04x  %s  %s speed%s\n", device->bus, device->address,
           description->device.idVendor, description->device.idProduct,
           description->chip ? description->chip->name : "no chip that is known",
           usbip_speed_name(description->speed), description->speed_is_known ? "" : " (a guess)");
    if (device->busid[0]) {
        printf("  busid ");
        print_string(device->busid);
        putchar('\n');
    }
    printf("  device descriptor, ");
    print_origin(description->device_origin, description->device_record);
    putchar('\n');
    print_device_descriptor(inspection);
    print_configuration(inspection);
    print_endpoints(device);
    printf("  %" PRIu32 " transfers in ", device->transfer_count);
    print_time_span(device->first_ns, device->last_ns);
    print_count(device->stalls, "stalled");
    print_count(device->failed, "failed");
    print_count(device->unlinked, "unlinked by the host");
    print_count(device->refused, "refused by the host");
    print_count(device->injected, "by the recorder itself");
    putchar('\n');
    print_gaps(inspection);
}

void inspect_print(const struct inspection *inspection)
{
    const struct usbip_capture *capture = inspection->capture;
    printf("%s: %s%s, %s, %" PRIu32 " records, ", capture->path,
           capture->compressed ? "gzip, " : "", capture->format, capture->link_type,
           capture->record_count);
    print_time_span(capture->first_ns, capture->last_ns);
    putchar('\n');
    if (capture->other_records > 0)
        printf("left out: %" PRIu32 " records of interfaces with other link types\n",
               capture->other_records);
    if (capture->skipped_records > 0)
        printf("skipped: %" PRIu32 " records that belong to no transfer\n",
               capture->skipped_records);
    print_devices(inspection);
    print_device(inspection);
}
