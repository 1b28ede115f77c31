#include "emulator/fifo.h"

#include <stdlib.h>
#include <string.h>

#include "emulator/function.h"

enum { MIN_CAPACITY = 1024, KEPT_CAPACITY = 16384 };

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Copies to the ring at an offset from its first byte, or from there, in at most two pieces. */
static void copy_in(struct usbip_fifo *fifo, const uint8_t *data, size_t size)
{
    size_t at = (fifo->first + fifo->size) & (fifo->capacity - 1);
    size_t head = min_size(size, fifo->capacity - at);
    memcpy(fifo->data + at, data, head);
    memcpy(fifo->data, data + head, size - head);
}

static void copy_out(const struct usbip_fifo *fifo, uint8_t *data, size_t size)
{
    size_t head = min_size(size, fifo->capacity - fifo->first);
    memcpy(data, fifo->data + fifo->first, head);
    memcpy(data + head, fifo->data, size - head);
}

static int grow(struct usbip_fifo *fifo, size_t needed)
{
    size_t capacity = fifo->capacity ? fifo->capacity : MIN_CAPACITY;
    while (capacity < needed)
        capacity *= 2;
    if (capacity == fifo->capacity)
        return 0;
    uint8_t *data = malloc(capacity);
    if (!data)
        return -1;
    if (fifo->size > 0)
        copy_out(fifo, data, fifo->size);
    free(fifo->data);
    fifo->data = data;
    fifo->capacity = capacity;
    fifo->first = 0;
    return 0;
}

size_t usbip_fifo_put(struct usbip_fifo *fifo, const uint8_t *data, size_t size)
{
    size = min_size(size, usbip_fifo_room(fifo));
    if (size == 0 || grow(fifo, fifo->size + size) < 0)
        return 0;
    copy_in(fifo, data, size);
    fifo->size += size;
    return size;
}

size_t usbip_fifo_get(struct usbip_fifo *fifo, uint8_t *data, size_t size)
{
    size = min_size(size, fifo->size);
    if (size == 0)
        return 0;
    copy_out(fifo, data, size);
    usbip_fifo_drop(fifo, size);
    return size;
}

void usbip_fifo_drop(struct usbip_fifo *fifo, size_t size)
{
    size = min_size(size, fifo->size);
    if (size == 0)
        return;
    fifo->first = (fifo->first + size) & (fifo->capacity - 1);
    fifo->size -= size;
    if (fifo->size == 0 && fifo->capacity > KEPT_CAPACITY)
        usbip_fifo_clear(fifo);
}

size_t usbip_fifo_find(const struct usbip_fifo *fifo, size_t first, size_t count, uint8_t byte)
{
    size_t at = first;
    while (at < first + count && fifo->data[(fifo->first + at) & (fifo->capacity - 1)] != byte)
        at++;
    return at;
}

size_t usbip_fifo_room(const struct usbip_fifo *fifo)
{
    return USBIP_FIFO_SIZE - fifo->size;
}

void usbip_fifo_clear(struct usbip_fifo *fifo)
{
    free(fifo->data);
    *fifo = (struct usbip_fifo){0};
}
