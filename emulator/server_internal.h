/*
 * The server's state, shared by
 *   server.c              the loop's turns, time, listening, life
 *   server_connection.c   reading, writing and its end; what floods get
 *   server_conversation.c with one client, over io_uring
 *   ring.c                io_uring
 */
#ifndef EMULATOR_SERVER_INTERNAL_H
#define EMULATOR_SERVER_INTERNAL_H

#include <uv.h>

#include "emulator/ring.h"
#include "emulator/server.h"
#include "emulator/session.h"

struct connection {
    uv_tcp_t socket;
    struct usbip_server *server;
    struct usbip_device_session *session;
    struct connection *next, *previous;
    struct connection *next_dirty;
    bool dirty;   /* on the server's list of those with something to do */
    bool reading; /* by libuv */
    bool resting; /* on the server's list of those that are not read for a while */
    struct connection *next_resting;
    uint64_t rest_until_us;
    uint64_t slice_began_us;
    uint64_t heavy_until_us; /* has had more than a slice to say not long ago */
    bool writing;            /* the last output that was taken is still on its way */
    bool ended;              /* nothing more will come from the client */
    bool lingering;          /* our side is closed: what the client still sends is dropped */
    bool closing;
    bool local; /* on this machine */
    bool near;  /* little waits in its socket */
    uv_write_t write;
    uint8_t *kept;   /* of what is on its way: what its lender has back */
    uv_buf_t queued; /* output that leaves with the ring's next exchange */
    uv_shutdown_t shutdown;
    void *tapped; /* what the tap calls it; NULL: it does not listen */
    char peer[USBIP_SERVER_ADDRESS_SIZE];
};

struct usbip_server {
    uv_loop_t *loop;
    struct usbip_server_options options;
    uint64_t started_us;     /* the loop's clock at the scheduler's time 0 */
    uint64_t started_now_us; /* and the scheduler's time then */
    bool did_something;      /* in this turn of the loop */
    bool closing;
    unsigned open_handles;
    struct connection *connections;
    struct connection *dirty;
    struct connection *resting;
    unsigned resting_count;
    /* Which light client was the last to say something, and when; when another one did before. */
    const struct connection *active;
    uint64_t active_us, other_active_us;

    struct usbip_ring *ring; /* NULL: there is none, or none any more */
    bool has_tried_ring;
    struct connection *speaker; /* who said something since the last turn, */
    bool several_spoke;         /* and was not the only one */
    bool converses;             /* output may be queued for an exchange */
    struct connection *talker;  /* read by the ring, and not by libuv, in this turn */

    uv_tcp_t listener;
    bool has_listener;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t busy; /* active: the loop shall not block */
    uv_timer_t timer;
    uint64_t timer_due_us; /* what the timer is set for, while it is active */
    char read_buffer[USBIP_SERVER_READ_SIZE];
};

/* ---- server.c ---- */

const struct usbip_log *usbip_server_log(const struct usbip_server *server);
/* Real time, in the scheduler's terms. */
uint64_t usbip_server_now_us(const struct usbip_server *server);
/*
 * Fires what is due. When the timers cannot keep up with the time, the clients get their turn in
 * between, and the devices' time falls behind.
 */
void usbip_server_catch_up(struct usbip_server *server);
void usbip_server_format_address(const struct sockaddr_storage *address,
                                 char text[USBIP_SERVER_ADDRESS_SIZE]);
/* The server is freed with the last of its handles. */
void usbip_server_on_handle_closed(struct usbip_server *server);

/* ---- server_connection.c ---- */

/* Of a socket that is accepted. Returns 0 or a libuv error, and then the caller closes it. */
int usbip_server_start_connection(struct connection *connection);
/* Its memory stays until the loop's next turn. */
void usbip_server_close_connection(struct connection *connection);
/* The same, after words about a libuv error. */
void usbip_server_lose(struct connection *connection, int status);
bool usbip_server_is_alone(const struct connection *connection);

/* A light client said something when its slice began. */
void usbip_server_note_light_activity(const struct connection *connection);
/* Until when another client counts as active that is light. */
uint64_t usbip_server_others_active_until_us(const struct connection *connection);

/* What was received, of the server's read buffer. Returns false when the connection has come to its
 * end. */
bool usbip_server_take_input(struct connection *connection, const char *data, size_t size);
/* Nothing more will be: 0, UV_EOF or the error of a read. */
void usbip_server_take_end(struct connection *connection, int status);
/* Lets libuv read if it should. */
void usbip_server_update_reading(struct connection *connection);
void usbip_server_stop_reading(struct connection *connection);

/* Sends all there is, as far as the socket takes it; that of all connections that have any, or of
 * one. What becomes dirty meanwhile has its turn after the next poll. */
void usbip_server_flush_all(struct usbip_server *server);
void usbip_server_flush_dirty(struct connection *connection);
/* Sends when there is room. Returns 0 or a libuv error. */
int usbip_server_write_later(struct connection *connection, const uv_buf_t *buffers,
                             unsigned count);
/* Ends the rests that are over. Returns when the next one is. */
uint64_t usbip_server_wake_rested(struct usbip_server *server);

/* ---- server_conversation.c ---- */

/*
 * While one client talks with its device and no other light one does, sending to it and waiting for
 * what it says next are one call of io_uring. Returns after a turn of that, which ends before
 * `until_us`, or at once. Between turns libuv reads.
 */
void usbip_server_converse(struct usbip_server *server, uint64_t until_us);

#endif
