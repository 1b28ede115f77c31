/* The report of inspect for programs; docs/captures.md describes it. */
#include <jansson.h>
#include <stdio.h>

#include "emulator/capture/chip.h"
#include "emulator/capture/inspect.h"

/* json_object_set_new() and its kin take NULL for a value that could not be made, and fail. */

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

static json_t *hex(const uint8_t *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * UINT16_MAX + 1];
    if (size > UINT16_MAX)
        return NULL;
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 0x0f];
    }
    return json_stringn(text, 2 * size);
}

static json_t *ids(const struct usbip_capture_device *device)
{
    if (!device->has_ids)
        return json_null();
    return json_sprintf("%04x:%04x", device->idVendor, device->idProduct);
}

static json_t *list_devices(const struct inspection *inspection)
{
    const struct usbip_capture *capture = inspection->capture;
    json_t *list = json_array();
    for (unsigned i = 0; i < capture->device_count; i++) {
        const struct usbip_capture_device *device = &capture->devices[i];
        json_array_append_new(
            list,
            json_pack("{s:o, s:o, s:o, s:I, s:b}", "address",
                      json_sprintf("%u.%u", device->bus, device->address), "ids", ids(device),
                      "chip", text_or_null(device->chip ? device->chip->name : NULL), "transfers",
                      (json_int_t)device->transfer_count, "chosen", device == inspection->device));
    }
    return list;
}

static json_t *list_endpoints(const struct usbip_capture_device *device)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < device->endpoint_count; i++) {
        const struct usbip_capture_endpoint *endpoint = &device->endpoints[i];
        json_array_append_new(
            list,
            json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "bEndpointAddress",
                      endpoint->address, "type", inspect_transfer_type(endpoint->type), "transfers",
                      (json_int_t)endpoint->transfers, "bytes", (json_int_t)endpoint->bytes,
                      "longest", (json_int_t)endpoint->longest, "stalled",
                      (json_int_t)endpoint->stalls, "failed", (json_int_t)endpoint->failed,
                      "unlinked", (json_int_t)endpoint->unlinked));
    }
    return list;
}

static json_t *list_strings(const struct usbip_description *description)
{
    json_t *strings = json_object();
    for (unsigned i = 0; i < USBIP_DESCRIPTION_STRINGS; i++) {
        char index[4];
        snprintf(index, sizeof index, "%u", i);
        if (description->strings[i])
            json_object_set_new(strings, index, json_string(description->strings[i]));
    }
    return strings;
}

static json_t *describe_origin(enum usbip_description_origin origin, uint32_t record, json_t *bytes)
{
    return json_pack("{s:s, s:o, s:o}", "from", usbip_description_origin_name(origin), "record",
                     record > 0 ? json_integer(record) : json_null(), "bytes", bytes);
}

static json_t *describe_gaps(const struct inspection *inspection)
{
    struct inspect_gap gaps[INSPECT_GAPS];
    json_t *object = json_object();
    inspect_find_gaps(inspection, gaps);
    for (unsigned i = 0; i < INSPECT_GAPS; i++)
        json_object_set_new(object, gaps[i].name, json_integer((json_int_t)gaps[i].count));
    return object;
}

static json_t *describe_device(const struct inspection *inspection)
{
    const struct usbip_capture_device *device = inspection->device;
    const struct usbip_description *description = inspection->description;
    uint8_t descriptor[USB_DT_DEVICE_SIZE];
    usbip_encode_device_descriptor(descriptor, &description->device);
    json_t *object = json_pack(
        "{s:o, s:s, s:o, s:o, s:s, s:b}", "address",
        json_sprintf("%u.%u", device->bus, device->address), "chosen_because", inspection->reason,
        "busid", text_or_null(device->busid[0] ? device->busid : NULL), "chip",
        text_or_null(description->chip ? description->chip->name : NULL), "speed",
        usbip_speed_name(description->speed), "speed_is_known", description->speed_is_known);
    json_object_set_new(object, "ports",
                        description->chip ? json_integer(description->chip->ports) : json_null());
    json_object_set_new(object, "idVendor", json_integer(description->device.idVendor));
    json_object_set_new(object, "idProduct", json_integer(description->device.idProduct));
    json_object_set_new(object, "bcdDevice", json_integer(description->device.bcdDevice));
    json_object_set_new(object, "device_descriptor",
                        describe_origin(description->device_origin, description->device_record,
                                        hex(descriptor, sizeof descriptor)));
    json_object_set_new(
        object, "configuration_descriptor",
        describe_origin(description->configuration_origin, description->configuration_record,
                        hex(description->configuration, description->configuration_size)));
    json_object_set_new(object, "strings", list_strings(description));
    json_object_set_new(object, "endpoints", list_endpoints(device));
    json_object_update_new(
        object, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "transfers",
                          (json_int_t)device->transfer_count, "stalled", (json_int_t)device->stalls,
                          "failed", (json_int_t)device->failed, "unlinked",
                          (json_int_t)device->unlinked, "refused", (json_int_t)device->refused,
                          "injected", (json_int_t)device->injected, "first_ns",
                          (json_int_t)device->first_ns, "last_ns", (json_int_t)device->last_ns));
    json_object_set_new(object, "missing", describe_gaps(inspection));
    return object;
}

bool inspect_print_json(const struct inspection *inspection)
{
    const struct usbip_capture *capture = inspection->capture;
    json_t *path = json_string(capture->path);
    /* A name that is no UTF-8 cannot be in JSON. */
    json_t *report =
        json_pack("{s:o, s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "file",
                  path ? path : json_null(), "format", capture->format, "gzip", capture->compressed,
                  "link_type", capture->link_type, "records", (json_int_t)capture->record_count,
                  "records_left_out", (json_int_t)capture->other_records, "records_skipped",
                  (json_int_t)capture->skipped_records, "first_ns", (json_int_t)capture->first_ns,
                  "last_ns", (json_int_t)capture->last_ns, "devices", list_devices(inspection),
                  "device", describe_device(inspection));
    bool written = report && json_dumpf(report, stdout, JSON_INDENT(2)) == 0;
    putchar('\n');
    json_decref(report);
    return written;
}
