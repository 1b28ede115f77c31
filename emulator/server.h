/*
 * The server: device sessions behind TCP sockets, on a libuv loop that belongs to the caller.
 *
 * Everything that a client has sent is read at once, and everything that is to be sent to it goes
 * out in one write per turn of the loop, unless a fault wants pieces; what comes back from where it
 * was read goes out before more is read. While one client talks alone, that goes over io_uring,
 * where there is one: then a turn of the loop may take as long as USBIP_SERVER_CONVERSATION_US
 * says, though it ends at once when a descriptor of the loop has news. One thread.
 */
#ifndef EMULATOR_SERVER_H
#define EMULATOR_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "emulator/bus.h"
#include "emulator/scheduler.h"
#include "protocol/tap.h"

struct uv_loop_s;

enum {
    USBIP_SERVER_READ_SIZE = 256 << 10, /* bytes that are read at once */
    /*
     * A client is heavy while, and for a time after, more than a slice of its requests has waited
     * to be read. While others are active that are not, it is read a slice at a time, and rests
     * after each for so many times as long as that took, longer when more of them rest, but never
     * for long.
     */
    USBIP_SERVER_SLICE_SIZE = 64 << 10,
    USBIP_SERVER_HEAVY_US = 100000,
    USBIP_SERVER_REST = 14,
    USBIP_SERVER_MAX_REST_US = 250000,
    USBIP_SERVER_ACTIVE_US = 2000,        /* after its last request a client counts as active */
    USBIP_SERVER_MAX_UNSENT = 1 << 20,    /* bytes on their way to a client before it is not read */
    USBIP_SERVER_NEAR_UNSENT = 256 << 10, /* bytes of a source on their way to a local client, */
    USBIP_SERVER_NEAR_PAYLOAD = 32 << 10, /* when its payloads have so many bytes or more */
    USBIP_SERVER_CONVERSATION_US = 4000,  /* with one client, before the loop has a turn */
    USBIP_SERVER_SHORT_TURN_US = 500,     /* would not be worth it */
    USBIP_SERVER_BACKLOG = 1024,          /* connections that wait to be accepted */
    USBIP_SERVER_KEEPALIVE_S = 60,        /* silence before TCP asks whether the client is there */
    USBIP_SERVER_CATCH_UP_US = 10000,     /* of late timers that fire before clients are served */
    USBIP_SERVER_ADDRESS_SIZE = 80,
    USBIP_SERVER_ERROR_SIZE = 256,
};

struct usbip_server;

struct usbip_server_options {
    struct usbip_bus *bus; /* its log is the server's too */
    struct usbip_scheduler *scheduler;
    /*
     * False: the scheduler's time is real time from now on. True: its time stands still, and jumps
     * to the next timer whenever a turn of the loop has nothing else to do.
     */
    bool virtual_time;
    const struct usbip_tap *tap; /* listens to all connections; NULL: nobody does */
    bool without_io_uring;       /* all goes through libuv */
};

/*
 * Makes a server that drives the scheduler. Bus, scheduler and loop must outlive it. Returns NULL
 * when memory is out.
 */
struct usbip_server *usbip_server_new(struct uv_loop_s *loop,
                                      const struct usbip_server_options *options);

/* Whether this has the form of an address to listen on. */
bool usbip_server_is_address(const char *address);

/*
 * Accepts connections on "HOST:PORT" or "[IPv6]:PORT"; a host name stands for its first address,
 * port 0 for a free one. On success `bound` is the address with the real port. Returns the port, or
 * -1 and, in error_text, why. Once per server.
 */
int usbip_server_listen(struct usbip_server *server, const char *address,
                        char bound[USBIP_SERVER_ADDRESS_SIZE],
                        char error_text[USBIP_SERVER_ERROR_SIZE]);

/*
 * Stops listening, ends all sessions and drives the scheduler no more. The server frees itself in
 * the loop's next turns, when the last of its handles is closed; run the loop until then.
 */
void usbip_server_close(struct usbip_server *server);

#endif
