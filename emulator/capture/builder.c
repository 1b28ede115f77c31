#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/capture/capture_internal.h"

enum {
    FIRST_TRANSFER_CAPACITY = 64,
    FIRST_DEVICE_CAPACITY = 4,
};

/* ---- Errors ---- */

int capture_fail(struct capture_builder *builder, uint32_t record, const char *format, ...)
{
    char place[32] = "";
    if (record > 0)
        snprintf(place, sizeof place, "record %u: ", record);
    /* A long name must not push out what is wrong. */
    int size = snprintf(builder->error_text, USBIP_CAPTURE_ERROR_SIZE, "%.*s: %s",
                        USBIP_CAPTURE_ERROR_SIZE / 2, builder->capture->path, place);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(builder->error_text + size, (size_t)(USBIP_CAPTURE_ERROR_SIZE - size), format,
              arguments);
    va_end(arguments);
    return -1;
}

int capture_out_of_memory(struct capture_builder *builder)
{
    return capture_fail(builder, 0, "out of memory");
}

int capture_record_too_short(struct capture_builder *builder, const struct capture_record *record,
                             const char *what, uint32_t header_size)
{
    if (record->size < record->original_size)
        return capture_fail(builder, record->number,
                            "the recorder kept %u of its %u bytes, which is less than its %s; "
                            "record again with a larger snap length",
                            record->size, record->original_size, what);
    return capture_fail(builder, record->number,
                        "has %u bytes, but a %s has %u: the file is damaged or its link type wrong",
                        record->size, what, header_size);
}

/* ---- Devices ---- */

uint32_t capture_add_device(struct capture_builder *builder, uint16_t bus, uint16_t address)
{
    struct usbip_capture *capture = builder->capture;
    if (capture->device_count == USBIP_CAPTURE_MAX_DEVICES) {
        capture_fail(builder, 0, "more than %d devices: it is damaged, or must be split",
                     USBIP_CAPTURE_MAX_DEVICES);
        return CAPTURE_NONE;
    }
    if (capture->device_count == builder->device_capacity) {
        unsigned capacity =
            builder->device_capacity ? 2 * builder->device_capacity : FIRST_DEVICE_CAPACITY;
        struct usbip_capture_device *devices =
            realloc(capture->devices, capacity * sizeof *devices);
        if (!devices) {
            capture_out_of_memory(builder);
            return CAPTURE_NONE;
        }
        capture->devices = devices;
        builder->device_capacity = capacity;
    }
    capture->devices[capture->device_count] =
        (struct usbip_capture_device){.bus = bus, .address = address};
    return capture->device_count++;
}

uint32_t capture_device(struct capture_builder *builder, uint16_t bus, uint16_t address)
{
    const struct usbip_capture *capture = builder->capture;
    /* The latest one: the address may have belonged to another before. */
    for (unsigned i = capture->device_count; i > 0; i--) {
        if (capture_device_is_at(&capture->devices[i - 1], bus, address))
            return i - 1;
    }
    return capture_add_device(builder, bus, address);
}

/* ---- Transfers ---- */

static uint32_t add_transfer(struct capture_builder *builder, const struct capture_urb *urb)
{
    struct usbip_capture *capture = builder->capture;
    if (capture->transfer_count == builder->transfer_capacity) {
        size_t capacity = builder->transfer_capacity ? builder->transfer_capacity / 2u * 3u
                                                     : FIRST_TRANSFER_CAPACITY;
        struct usbip_capture_transfer *transfers = NULL;
        if (capacity < CAPTURE_NONE)
            transfers = realloc(capture->transfers, capacity * sizeof *transfers);
        if (!transfers) {
            capture_out_of_memory(builder);
            return CAPTURE_NONE;
        }
        capture->transfers = transfers;
        builder->transfer_capacity = (uint32_t)capacity;
    }
    struct usbip_capture_transfer *transfer = &capture->transfers[capture->transfer_count];
    *transfer = (struct usbip_capture_transfer){
        .device = (uint16_t)urb->device,
        .endpoint = urb->endpoint,
        .type = urb->type,
    };
    return capture->transfer_count++;
}

int capture_set_data(struct capture_builder *builder, const struct capture_record *record,
                     uint32_t index, const struct capture_urb *urb)
{
    struct usbip_capture_transfer *transfer = &builder->capture->transfers[index];
    if (urb->size > 0 && transfer->size == 0) {
        transfer->data = capture_arena_copy(&builder->capture->arena, urb->data, urb->size);
        if (!transfer->data)
            return capture_out_of_memory(builder);
        transfer->size = urb->size;
    }
    if (urb->size < urb->wanted) {
        struct usbip_capture_device *device = &builder->capture->devices[transfer->device];
        transfer->flags |= USBIP_TRANSFER_TRUNCATED;
        if (device->truncated_record == 0 && transfer->type != USB_ENDPOINT_XFER_ISOC) {
            device->truncated_record = record->number;
            device->truncated_size = urb->size;
            device->truncated_wanted = urb->wanted;
        }
    }
    return 0;
}

uint32_t capture_submit(struct capture_builder *builder, const struct capture_record *record,
                        const struct capture_urb *urb)
{
    uint32_t index = add_transfer(builder, urb);
    if (index == CAPTURE_NONE || capture_add_pending(builder, urb, index) < 0)
        return CAPTURE_NONE;
    struct usbip_capture_transfer *transfer = &builder->capture->transfers[index];
    transfer->submit_ns = record->time_ns;
    transfer->submit_record = record->number;
    transfer->submit_order = ++builder->order;
    transfer->requested_length = urb->length;
    transfer->flags = urb->flags;
    if (urb->setup) {
        memcpy(transfer->setup, urb->setup, sizeof transfer->setup);
        transfer->flags |= USBIP_TRANSFER_HAS_SETUP;
        struct usbip_setup setup;
        usbip_decode_setup(urb->setup, &setup);
        transfer->endpoint = usbip_setup_direction(&setup) == USBIP_DIR_IN ? USB_DIR_IN : 0;
        transfer->requested_length = setup.wLength;
        transfer->flags |= USBIP_TRANSFER_REQUESTED_KNOWN;
    }
    if (!usbip_transfer_is_in(transfer) && capture_set_data(builder, record, index, urb) < 0)
        return CAPTURE_NONE;
    return index;
}

uint32_t capture_complete(struct capture_builder *builder, const struct capture_record *record,
                          const struct capture_urb *urb)
{
    uint32_t index = capture_take_pending(builder, urb);
    /* One that is over already was unlinked under another id. */
    if (index == CAPTURE_NONE || builder->capture->transfers[index].complete_order > 0)
        index = add_transfer(builder, urb);
    if (index == CAPTURE_NONE)
        return CAPTURE_NONE;
    return capture_complete_transfer(builder, record, index, urb);
}

uint32_t capture_complete_transfer(struct capture_builder *builder,
                                   const struct capture_record *record, uint32_t index,
                                   const struct capture_urb *urb)
{
    struct usbip_capture_transfer *transfer = &builder->capture->transfers[index];
    transfer->complete_ns = record->time_ns;
    transfer->complete_record = record->number;
    transfer->complete_order = ++builder->order;
    transfer->actual_length = urb->length;
    transfer->status = urb->status;
    transfer->flags |= urb->flags;
    if (urb->status == -USBIP_ENOENT || urb->status == -USBIP_ECONNRESET ||
        urb->status == -USBIP_ESHUTDOWN)
        transfer->flags |= USBIP_TRANSFER_UNLINKED;
    if (usbip_transfer_is_in(transfer) && capture_set_data(builder, record, index, urb) < 0)
        return CAPTURE_NONE;
    if (!(transfer->flags & USBIP_TRANSFER_REQUESTED_KNOWN) &&
        transfer->requested_length < transfer->actual_length)
        transfer->requested_length = transfer->actual_length;
    if (transfer->flags & USBIP_TRANSFER_HAS_SETUP && transfer->status == 0 &&
        capture_note_descriptor(builder, index) < 0)
        return CAPTURE_NONE;
    return index;
}

void capture_builder_free(struct capture_builder *builder)
{
    free(builder->pending);
}
