/* The byte buffers that sessions assemble PDUs in, and the assembly of PDUs from a byte stream. */
#ifndef PROTOCOL_BUFFER_H
#define PROTOCOL_BUFFER_H

#include <stddef.h>
#include <stdint.h>

/* A growable run of bytes. All zero is an empty buffer. */
struct usbip_buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

/* The same as usbip_buffer_reserve(), for when there is no room. */
uint8_t *usbip_buffer_grow(struct usbip_buffer *buffer, size_t size);

/*
 * Room for `size` more bytes behind the present ones; buffer->size does not change. Returns where
 * to write, or NULL when memory is out. Valid until the next call for this buffer.
 */
static inline uint8_t *usbip_buffer_reserve(struct usbip_buffer *buffer, size_t size)
{
    if (buffer->data != NULL && size <= buffer->capacity - buffer->size)
        return buffer->data + buffer->size;
    return usbip_buffer_grow(buffer, size);
}

/* Returns 0, or -1 when memory is out. */
int usbip_buffer_append(struct usbip_buffer *buffer, const void *data, size_t size);

void usbip_buffer_free(struct usbip_buffer *buffer);

/* How a byte stream is cut into PDUs. Both functions get the context of usbip_assemble. */
struct usbip_framing {
    /*
     * How many bytes the PDU at `bytes` has, as far as the `have` bytes tell. A result above `have`
     * asks for so many and is asked again; at most `have` is the PDU's final size, at least 1.
     * Negative: the stream is broken.
     */
    int64_t (*pdu_size)(void *context, const uint8_t *bytes, size_t have);

    /* One whole PDU, valid during the call. Negative: stop. */
    int (*pdu)(void *context, const uint8_t *bytes, size_t size);
};

/*
 * Cuts `size` bytes into PDUs and hands each on, in place where it is whole; an incomplete one is
 * kept in *partial for the next call. Returns 0, or the first negative value of a callback (-1 when
 * memory is out or pdu_size says 0: callbacks that need to be told apart from it return others).
 * After a negative value the stream has lost its place.
 */
int usbip_assemble(const struct usbip_framing *framing, void *context, struct usbip_buffer *partial,
                   const uint8_t *data, size_t size);

#endif
