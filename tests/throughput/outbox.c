#include "tests/throughput/outbox.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

bool outbox_init(struct outbox *outbox, size_t pdus, size_t payload_size)
{
    size_t copied = payload_size < OUTBOX_COPY_LIMIT ? payload_size : OUTBOX_COPY_LIMIT;
    *outbox = (struct outbox){
        .capacity = pdus * (USBIP_HEADER_SIZE + copied),
        .part_capacity = 2 * pdus,
    };
    outbox->bytes = malloc(outbox->capacity);
    outbox->parts = calloc(outbox->part_capacity, sizeof *outbox->parts);
    return outbox->bytes && outbox->parts;
}

void outbox_free(struct outbox *outbox)
{
    free(outbox->bytes);
    free(outbox->parts);
    *outbox = (struct outbox){0};
}

/* Appends to the last part where that is possible. */
static void add_part(struct outbox *outbox, const uint8_t *data, size_t size)
{
    if (!outbox_is_empty(outbox)) {
        struct iovec *last = &outbox->parts[outbox->count - 1];
        if ((uint8_t *)last->iov_base + last->iov_len == data) {
            last->iov_len += size;
            return;
        }
    }
    outbox->parts[outbox->count++] = (struct iovec){(void *)data, size};
}

uint8_t *outbox_header(struct outbox *outbox, size_t size)
{
    uint8_t *header = outbox->bytes + outbox->used;
    outbox->used += size;
    add_part(outbox, header, size);
    return header;
}

void outbox_payload(struct outbox *outbox, const uint8_t *data, size_t size)
{
    if (size > OUTBOX_COPY_LIMIT)
        add_part(outbox, data, size);
    else if (size > 0)
        memcpy(outbox_header(outbox, size), data, size);
}

static void drop_sent(struct outbox *outbox, size_t size)
{
    while (size > 0) {
        struct iovec *part = &outbox->parts[outbox->first];
        size_t taken = size < part->iov_len ? size : part->iov_len;
        part->iov_base = (uint8_t *)part->iov_base + taken;
        part->iov_len -= taken;
        size -= taken;
        if (part->iov_len == 0)
            outbox->first++;
    }
}

/* Moves what waits to the front, so that there is room for as much again as was sent. */
static void compact(struct outbox *outbox)
{
    outbox->used = 0;
    for (size_t i = outbox->first; i < outbox->count; i++) {
        struct iovec part = outbox->parts[i];
        const uint8_t *data = part.iov_base;
        if (data >= outbox->bytes && data < outbox->bytes + outbox->capacity) {
            part.iov_base = memmove(outbox->bytes + outbox->used, data, part.iov_len);
            outbox->used += part.iov_len;
        }
        outbox->parts[i - outbox->first] = part;
    }
    outbox->count -= outbox->first;
    outbox->first = 0;
}

int outbox_send(struct outbox *outbox, int socket, int flags)
{
    while (!outbox_is_empty(outbox)) {
        size_t count = outbox->count - outbox->first;
        struct msghdr message = {
            .msg_iov = outbox->parts + outbox->first,
            .msg_iovlen = count < IOV_MAX ? count : IOV_MAX,
        };
        ssize_t sent = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN)
            return -1;
        if (sent < 0)
            break;
        drop_sent(outbox, (size_t)sent);
    }
    compact(outbox);
    return 0;
}
