#include "protocol/buffer.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    MIN_CAPACITY = 256,
    /* What a finished partial PDU may leave allocated; one huge transfer must not keep its memory
     * for as long as the connection lasts. */
    MAX_KEPT_CAPACITY = 128 * 1024,
};

uint8_t *usbip_buffer_grow(struct usbip_buffer *buffer, size_t size)
{
    size_t capacity = MIN_CAPACITY;
    uint8_t *data;

    if (size > SIZE_MAX - buffer->size)
        return NULL;
    while (capacity < buffer->size + size)
        capacity = capacity > SIZE_MAX / 2 ? SIZE_MAX : capacity * 2;
    data = realloc(buffer->data, capacity);
    if (data == NULL)
        return NULL;
    buffer->data = data;
    buffer->capacity = capacity;
    return data + buffer->size;
}

int usbip_buffer_append(struct usbip_buffer *buffer, const void *data, size_t size)
{
    uint8_t *room;

    if (size == 0)
        return 0;
    room = usbip_buffer_reserve(buffer, size);
    if (room == NULL)
        return -1;
    memcpy(room, data, size);
    buffer->size += size;
    return 0;
}

void usbip_buffer_free(struct usbip_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct usbip_buffer){0};
}

static void drop_front(struct usbip_buffer *buffer, size_t size)
{
    buffer->size -= size;
    if (buffer->size > 0)
        memmove(buffer->data, buffer->data + size, buffer->size);
    else if (buffer->capacity > MAX_KEPT_CAPACITY)
        usbip_buffer_free(buffer);
}

/* The PDU's size as framing->pdu_size tells it, or a negative value that fits an int. */
static int64_t ask_size(const struct usbip_framing *framing, void *context, const uint8_t *bytes,
                        size_t have)
{
    int64_t size = framing->pdu_size(context, bytes, have);

    if (size == 0)
        return -1; /* would never get on */
    return size < INT_MIN ? INT_MIN : size;
}

int usbip_assemble(const struct usbip_framing *framing, void *context, struct usbip_buffer *partial,
                   const uint8_t *data, size_t size)
{
    int64_t wanted;
    int result;

    while (partial->size > 0) {
        wanted = ask_size(framing, context, partial->data, partial->size);
        if (wanted < 0)
            return (int)wanted;
        if ((uint64_t)wanted > partial->size) {
            uint64_t missing = (uint64_t)wanted - partial->size;
            size_t taken = missing < size ? (size_t)missing : size;

            if (taken == 0)
                return 0;
            /* Memory grows with what has arrived, not with what a header promises. */
            if (usbip_buffer_append(partial, data, taken) < 0)
                return -1;
            data += taken;
            size -= taken;
            continue;
        }
        result = framing->pdu(context, partial->data, (size_t)wanted);
        drop_front(partial, (size_t)wanted);
        if (result < 0)
            return result;
    }

    while (size > 0) {
        wanted = ask_size(framing, context, data, size);
        if (wanted < 0)
            return (int)wanted;
        if ((uint64_t)wanted > size)
            return usbip_buffer_append(partial, data, size);
        result = framing->pdu(context, data, (size_t)wanted);
        if (result < 0)
            return result;
        data += wanted;
        size -= (size_t)wanted;
    }
    return 0;
}
