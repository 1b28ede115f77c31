/*
 * A relay: accepts connections, makes one to a server for each, and passes all bytes on in both
 * directions, unchanged, on a libuv loop that belongs to the caller. A tap sees what has been
 * passed on, behind it.
 *
 * The ends are passed on, too: who closes his side or resets the connection does so to the peer.
 * Who does not read is not read for: at most USBIP_RELAY_MAX_UNSENT bytes and one read more wait
 * for a peer. One thread.
 */
#ifndef CAPTURE_RELAY_H
#define CAPTURE_RELAY_H

#include "protocol/address.h"
#include "protocol/tap.h"

struct uv_loop_s;

enum {
    USBIP_RELAY_READ_SIZE = 256 << 10, /* bytes that are read at once */
    USBIP_RELAY_MAX_UNSENT =
        1 << 20,                  /* bytes on their way to a peer before the other is not read */
    USBIP_RELAY_BACKLOG = 128,    /* connections that wait to be accepted */
    USBIP_RELAY_KEEPALIVE_S = 60, /* silence before TCP asks whether a peer is there */
    USBIP_RELAY_ADDRESS_SIZE = USBIP_HOST_SIZE + 16,
    USBIP_RELAY_ERROR_SIZE = 256,
};

struct usbip_relay;

struct usbip_relay_options {
    const char *listen;   /* "HOST:PORT"; port 0 is a free one */
    const char *upstream; /* the server; its addresses are looked up once, and tried in turn */
    const struct usbip_tap *tap;
    /* A connection that could not be passed on: one line without a newline. */
    void (*report)(void *context, const char *line);
    void *context;
};

/*
 * Looks up both addresses and listens; `bound` is the address with the real port. The strings and
 * the tap must outlive the relay. Returns NULL and, in error_text, why not; run the loop then, too.
 */
struct usbip_relay *usbip_relay_new(struct uv_loop_s *loop,
                                    const struct usbip_relay_options *options,
                                    char bound[USBIP_RELAY_ADDRESS_SIZE],
                                    char error_text[USBIP_RELAY_ERROR_SIZE]);

/*
 * Stops listening and closes all connections. The relay frees itself in the loop's next turns; run
 * the loop until then.
 */
void usbip_relay_close(struct usbip_relay *relay);

#endif
