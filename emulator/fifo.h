/* Bytes that wait for the host, up to USBIP_FIFO_SIZE; memory only while there are some. */
#ifndef EMULATOR_FIFO_H
#define EMULATOR_FIFO_H

#include <stddef.h>
#include <stdint.h>

/* A ring; all zero is empty. capacity is 0 or a power of two. */
struct usbip_fifo {
    uint8_t *data;
    size_t capacity;
    size_t first;
    size_t size;
};

/* Appends what fits. Returns the number of bytes, fewer than size at the limit or out of memory. */
size_t usbip_fifo_put(struct usbip_fifo *fifo, const uint8_t *data, size_t size);
/* Takes at most size bytes. Returns their number. */
size_t usbip_fifo_get(struct usbip_fifo *fifo, uint8_t *data, size_t size);
/* Drops at most size bytes from the front. */
void usbip_fifo_drop(struct usbip_fifo *fifo, size_t size);
/*
 * Where a byte is among the `count` that begin at offset `first`, counted from the front. Returns
 * first + count when it is not there.
 */
size_t usbip_fifo_find(const struct usbip_fifo *fifo, size_t first, size_t count, uint8_t byte);
size_t usbip_fifo_room(const struct usbip_fifo *fifo);
void usbip_fifo_clear(struct usbip_fifo *fifo);

#endif
