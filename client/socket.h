/*
 * The little that the connection needs of the system: TCP sockets, on which nothing blocks unless
 * it is told for how long, and waiting for one. Times are those of usbip_now_ms(). One source file
 * per system implements it; nothing else in the client talks to the system.
 *
 * A `reason` receives words such as "Connection refused" and has USBIP_SOCKET_REASON_SIZE bytes.
 */
#ifndef CLIENT_SOCKET_H
#define CLIENT_SOCKET_H

#include <stddef.h>
#include <stdint.h>

#include "client/layout.h"
#include "protocol/output.h"

enum {
    USBIP_SOCKET_REASON_SIZE = 128,
    /* Sent bytes unconfirmed for so long: connection lost. Linux takes it in place of the number of
     * keep-alive probes, too: a silent peer that has vanished is noticed after this time. */
    USBIP_SOCKET_USER_TIMEOUT_MS = 20000,
};

/* What receive and send return instead of a count. */
enum {
    USBIP_SOCKET_AGAIN = -1, /* nothing can be done now */
    USBIP_SOCKET_BROKEN = -2,
};

/* The addresses of a host. */
struct usbip_socket_addresses;

/* Blocks while the name is looked up. Returns 0, or -1 with a reason. The caller frees. */
int usbip_socket_resolve(struct usbip_socket_addresses **addresses, const char *host, uint16_t port,
                         char *reason);
unsigned usbip_socket_address_count(const struct usbip_socket_addresses *addresses);
void usbip_socket_addresses_free(struct usbip_socket_addresses *addresses); /* NULL is allowed */

/*
 * A new socket, without Nagle's delay and with keep-alive, that starts to connect to the address at
 * index. Returns the descriptor, which the caller closes, or -1 with a reason.
 */
int usbip_socket_connect(const struct usbip_socket_addresses *addresses, unsigned index,
                         char *reason);
/* Whether a connect has succeeded: 1, 0 when that is not known yet, or -1 with a reason. Once it
 * has, data can be sent and received. */
int usbip_socket_is_connected(int fd, char *reason);
/* Ends the sending side: the peer reads the end of the stream. Receiving goes on. */
void usbip_socket_shut_down(int fd);
void usbip_socket_close(int fd);

/*
 * Move bytes and return how many, or USBIP_SOCKET_AGAIN, or USBIP_SOCKET_BROKEN with a reason. 0
 * received: the peer has closed. A broken connection raises no signal.
 *
 * To receive, at least one piece and at most USBIP_LAYOUT_MAX_PIECES, waits until until_ms;
 * UINT64_MAX waits for ever, 0 does not. It may return early with USBIP_SOCKET_AGAIN.
 */
ptrdiff_t usbip_socket_receive(int fd, const struct usbip_input_piece *pieces, size_t count,
                               uint64_t until_ms, char *reason);
/* The pieces, `count` of which there is at least one, but for the first `skipped` bytes. How many
 * go at once is for the system to say: less than all may be sent although there is room for more.
 */
ptrdiff_t usbip_socket_send(int fd, const struct usbip_output_piece *pieces, size_t count,
                            size_t skipped, char *reason);

/*
 * Waits for one of the USBIP_EVENT_… or until until_ms; UINT64_MAX waits for ever. It may return
 * early. An fd of -1 only waits.
 */
void usbip_socket_wait(int fd, int events, uint64_t until_ms);

#endif
