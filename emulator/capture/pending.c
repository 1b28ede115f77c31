/* The table of transfers whose completion is awaited, by the ids of their URBs. */
#include <stdlib.h>

#include "emulator/capture/capture_internal.h"

enum { FIRST_CAPACITY = 64 };

/* Also of the pipe, for a format may use one id everywhere. */
static uint32_t hash_of(const struct capture_builder *builder, const struct capture_urb *urb)
{
    uint64_t pipe = 0;
    if (!urb->unique) {
        const struct usbip_capture_device *device = &builder->capture->devices[urb->device];
        pipe =
            (uint64_t)device->bus << 32 | (uint64_t)device->address << 8 | (urb->endpoint & 0x0f);
    }
    uint64_t hash = (urb->id ^ pipe * 0xff51afd7ed558ccdu) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32);
}

static bool is_same_pipe(const struct capture_builder *builder,
                         const struct usbip_capture_transfer *transfer,
                         const struct capture_urb *urb)
{
    const struct usbip_capture_device *one = &builder->capture->devices[transfer->device];
    const struct usbip_capture_device *other = &builder->capture->devices[urb->device];
    uint8_t difference = transfer->endpoint ^ urb->endpoint;
    if (transfer->type == USB_ENDPOINT_XFER_CONTROL)
        difference &= (uint8_t)~USB_DIR_IN;
    return difference == 0 && capture_device_is_at(one, other->bus, other->address);
}

/* Where the URB's transfer is in the table, or CAPTURE_NONE. */
static uint32_t find_slot(const struct capture_builder *builder, const struct capture_urb *urb)
{
    if (builder->pending_count == 0)
        return CAPTURE_NONE;
    uint32_t mask = builder->pending_capacity - 1;
    for (uint32_t i = hash_of(builder, urb) & mask;; i = (i + 1) & mask) {
        const struct capture_pending *pending = &builder->pending[i];
        if (pending->transfer == CAPTURE_NONE)
            return CAPTURE_NONE;
        if (pending->id == urb->id &&
            (urb->unique ||
             is_same_pipe(builder, &builder->capture->transfers[pending->transfer], urb)))
            return i;
    }
}

static void place_pending(struct capture_builder *builder, const struct capture_pending *pending)
{
    uint32_t mask = builder->pending_capacity - 1, i = pending->hash & mask;
    while (builder->pending[i].transfer != CAPTURE_NONE)
        i = (i + 1) & mask;
    builder->pending[i] = *pending;
}

static int grow_pending(struct capture_builder *builder)
{
    uint32_t old_capacity = builder->pending_capacity;
    struct capture_pending *old = builder->pending;
    uint32_t capacity = old_capacity ? 2 * old_capacity : FIRST_CAPACITY;
    struct capture_pending *table = calloc(capacity, sizeof *table);
    if (!table)
        return capture_out_of_memory(builder);
    for (uint32_t i = 0; i < capacity; i++)
        table[i].transfer = CAPTURE_NONE;
    builder->pending = table;
    builder->pending_capacity = capacity;
    for (uint32_t i = 0; i < old_capacity; i++) {
        if (old[i].transfer != CAPTURE_NONE)
            place_pending(builder, &old[i]);
    }
    free(old);
    return 0;
}

int capture_add_pending(struct capture_builder *builder, const struct capture_urb *urb,
                        uint32_t transfer)
{
    /* An id that is used anew: the completion of the URB that had it before is not in the file. */
    uint32_t slot = find_slot(builder, urb);
    if (slot != CAPTURE_NONE) {
        builder->pending[slot].transfer = transfer;
        return 0;
    }
    if (2 * (builder->pending_count + 1) > builder->pending_capacity && grow_pending(builder) < 0)
        return -1;
    place_pending(builder, &(struct capture_pending){urb->id, transfer, hash_of(builder, urb)});
    builder->pending_count++;
    return 0;
}

static void remove_pending(struct capture_builder *builder, uint32_t slot)
{
    uint32_t mask = builder->pending_capacity - 1;
    struct capture_pending *table = builder->pending;
    builder->pending_count--;
    /* Those behind it move up, as far as their own slot allows. */
    for (uint32_t next = (slot + 1) & mask; table[next].transfer != CAPTURE_NONE;
         next = (next + 1) & mask) {
        if (((next - table[next].hash) & mask) >= ((next - slot) & mask)) {
            table[slot] = table[next];
            slot = next;
        }
    }
    table[slot].transfer = CAPTURE_NONE;
}

uint32_t capture_find_pending(const struct capture_builder *builder, const struct capture_urb *urb)
{
    uint32_t slot = find_slot(builder, urb);
    return slot == CAPTURE_NONE ? CAPTURE_NONE : builder->pending[slot].transfer;
}

uint32_t capture_take_pending(struct capture_builder *builder, const struct capture_urb *urb)
{
    uint32_t slot = find_slot(builder, urb);
    if (slot == CAPTURE_NONE)
        return CAPTURE_NONE;
    uint32_t transfer = builder->pending[slot].transfer;
    remove_pending(builder, slot);
    return transfer;
}
