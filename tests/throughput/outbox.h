/*
 * What is to be sent, collected and then given to the system with as few calls as possible: headers
 * and small payloads are copied together, large payloads are referred to where they are.
 */
#ifndef TESTS_THROUGHPUT_OUTBOX_H
#define TESTS_THROUGHPUT_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "protocol/usbip.h"

enum { OUTBOX_COPY_LIMIT = 2048 }; /* larger payloads are not copied */

/* All zero is empty, and has no room. */
struct outbox {
    uint8_t *bytes; /* what was copied */
    size_t used, capacity;
    struct iovec *parts;
    size_t first, count, part_capacity; /* parts[first] to parts[count - 1] wait */
};

/* Room for so many PDUs with payloads of that size. False when memory is out. */
bool outbox_init(struct outbox *outbox, size_t pdus, size_t payload_size);
void outbox_free(struct outbox *outbox);

static inline bool outbox_is_empty(const struct outbox *outbox)
{
    return outbox->first == outbox->count;
}

/* Whether so many more PDUs fit, with payloads of any size. */
static inline bool outbox_has_room(const struct outbox *outbox, size_t pdus)
{
    return outbox->capacity - outbox->used >= pdus * (USBIP_HEADER_SIZE + OUTBOX_COPY_LIMIT) &&
           outbox->part_capacity - outbox->count >= 2 * pdus;
}

/* Room for a header, which is then to be filled. There must be room. */
uint8_t *outbox_header(struct outbox *outbox, size_t size);
/* A payload, which must stay where it is until it has been sent. There must be room. */
void outbox_payload(struct outbox *outbox, const uint8_t *data, size_t size);

/*
 * Sends what the socket takes, flags as for send(). Returns 0, or -1 with errno. What was sent has
 * left its room.
 */
int outbox_send(struct outbox *outbox, int socket, int flags);

#endif
