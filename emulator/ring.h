/*
 * Talking over one socket with io_uring: to send, and to wait for what comes next, is one system
 * call instead of three. By turns, which end when something else wants attention.
 *
 * One thread, the one that makes it: in another one the ring breaks. Linux 6.1 and later; where
 * there is no io_uring, or it is not allowed, as in many containers, there is no ring.
 */
#ifndef EMULATOR_RING_H
#define EMULATOR_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct usbip_ring;

/* NULL: none is to be had. */
struct usbip_ring *usbip_ring_new(void);
/* NULL is allowed. Linux clears up later and may interrupt its thread for that, with EINTR. */
void usbip_ring_free(struct usbip_ring *ring);

/*
 * Begins a turn with a stream socket, which ends after `limit_us`, or as soon as the descriptor
 * `other` is readable.
 */
void usbip_ring_begin(struct usbip_ring *ring, int socket, int other, uint64_t limit_us);

/* Sends this with the next exchange, as far as there is room for it at once. Once for each; `data`
 * must stay until then. */
void usbip_ring_send(struct usbip_ring *ring, const void *data, size_t size);

struct usbip_ring_result {
    /* Bytes; 0 at the end of the stream; or -errno, -EAGAIN when the turn ended before any came, or
     * not all could be sent. */
    ptrdiff_t received;
    ptrdiff_t sent; /* bytes of what was to be sent, or -errno */
};

/*
 * Sends, and when all is sent, waits until something has come or the turn is over. Afterwards
 * neither buffer is used any more. Without `data` it only sends. Not with `data` when the turn is
 * over.
 */
struct usbip_ring_result usbip_ring_exchange(struct usbip_ring *ring, void *data, size_t size);

/* Receives what is there already. Returns as `received` above, -EAGAIN when there is nothing. */
ptrdiff_t usbip_ring_receive(const struct usbip_ring *ring, void *data, size_t size);

/* Whether the turn has ended by itself. */
bool usbip_ring_is_over(const struct usbip_ring *ring);

/* Ends the turn. */
void usbip_ring_end(struct usbip_ring *ring);

/* Whether the system refuses to go on with it, as in a thread that has not made it. Nothing is sent
 * or received any more; free it. */
bool usbip_ring_is_broken(const struct usbip_ring *ring);

#endif
