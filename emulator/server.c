#include "emulator/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "emulator/ring.h"
#include "emulator/session.h"
#include "protocol/address.h"

/* How often one client may have new output within one turn of the loop. */
enum { MAX_ROUNDS = 16 };

struct connection {
    uv_tcp_t socket;
    struct usbip_server *server;
    struct usbip_device_session *session;
    struct connection *next, *previous;
    struct connection *next_dirty;
    bool dirty; /* on the server's list of those with something to do */
    bool reading;
    bool resting; /* on the server's list of those that are not read for a while */
    struct connection *next_resting;
    uint64_t rest_until_us;
    uint64_t slice_began_us;
    uint64_t heavy_until_us; /* has had more than a slice to say not long ago */
    uv_buf_t queued; /* output that goes with the ring's next exchange */
    bool writing;            /* the last output that was taken is still on its way */
    bool ended;              /* nothing more will come from the client */
    bool lingering;          /* our side is closed: what the client still sends is dropped */
    bool closing;
    bool local; /* on this machine */
    bool near;  /* little waits in its socket */
    uv_write_t write;
    uint8_t *kept; /* of what is on its way: what its lender has back */
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
    struct usbip_ring *ring; /* NULL: there is none */
    bool has_tried_ring;
    struct connection *talker; /* its socket is read by the ring, not by libuv */
    bool talking;              /* the ring's turn has begun */
    bool said;
    /* Which light client was the last to say something, and when; when another one did before. */
    const struct connection *active;
    uint64_t active_us, other_active_us;

    uv_tcp_t listener;
    bool has_listener;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t busy; /* active: the loop shall not block */
    uv_timer_t timer;
    uint64_t timer_due_us; /* what the timer is set for, while it is active */
    char read_buffer[USBIP_SERVER_READ_SIZE];
};

static const struct usbip_log *log_of(const struct usbip_server *server)
{
    return &server->options.bus->log;
}

/* ---- Time ---- */

static uint64_t real_now_us(const struct usbip_server *server)
{
    return uv_hrtime() / 1000 - server->started_us + server->started_now_us;
}

/*
 * Fires what is due. When the timers cannot keep up with the time, the clients get their turn in
 * between, and the devices' time falls behind.
 */
static void catch_up(struct usbip_server *server)
{
    struct usbip_scheduler *scheduler = server->options.scheduler;
    if (server->options.virtual_time)
        return;
    uint64_t now_us = real_now_us(server), due_us = usbip_scheduler_due_us(scheduler);
    if (due_us < now_us && now_us - due_us > USBIP_SERVER_CATCH_UP_US)
        now_us = due_us + USBIP_SERVER_CATCH_UP_US;
    usbip_scheduler_advance(scheduler, now_us);
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer; /* it only ends the loop's wait */
}

static void on_busy(uv_idle_t *idle)
{
    (void)idle;
}

/* Makes the loop come back in time for the next timer. libuv counts in ms: late rather than early.
 */
static void set_timer(struct usbip_server *server, uint64_t due_us)
{
    if (due_us == USBIP_NEVER) {
        uv_timer_stop(&server->timer);
        return;
    }
    if (uv_is_active((uv_handle_t *)&server->timer) && server->timer_due_us == due_us)
        return;
    uint64_t now_us = real_now_us(server);
    server->timer_due_us = due_us;
    uv_update_time(server->loop);
    uv_timer_start(&server->timer, on_timer, due_us > now_us ? (due_us - now_us + 999) / 1000 : 0,
                   0);
}

static void prepare_to_wait(struct usbip_server *server, uint64_t rested_us)
{
    uint64_t due_us = usbip_scheduler_due_us(server->options.scheduler);
    bool rest_ends_first = server->options.virtual_time || rested_us < due_us;
    set_timer(server, rest_ends_first ? rested_us : due_us);
    if (server->dirty || server->talker || (server->options.virtual_time && due_us != USBIP_NEVER))
        uv_idle_start(&server->busy, on_busy);
    else
        uv_idle_stop(&server->busy);
}

/* ---- Connections ---- */

static void on_handle_closed(struct usbip_server *server)
{
    if (--server->open_handles == 0)
        free(server);
}

static void on_connection_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    struct usbip_server *server = connection->server;
    free(connection->kept);
    free(connection);
    on_handle_closed(server);
}

static void make_dirty(struct connection *connection)
{
    struct usbip_server *server = connection->server;
    if (connection->dirty || connection->closing)
        return;
    connection->dirty = true;
    connection->next_dirty = server->dirty;
    server->dirty = connection;
}

static void remove_dirty(struct connection *connection)
{
    struct connection **at = &connection->server->dirty;
    while (*at && *at != connection)
        at = &(*at)->next_dirty;
    if (*at)
        *at = connection->next_dirty;
    connection->dirty = false;
}

static void remove_resting(struct connection *connection)
{
    struct connection **at = &connection->server->resting;
    while (*at && *at != connection)
        at = &(*at)->next_resting;
    if (*at) {
        *at = connection->next_resting;
        connection->server->resting_count--;
    }
    connection->resting = false;
}

static void tap_bytes(struct connection *connection, enum usbip_way way, const void *data,
                      size_t size)
{
    if (connection->tapped)
        connection->server->options.tap->passed(connection->tapped, way, data, size);
}

static void close_connection(struct connection *connection)
{
    struct usbip_server *server = connection->server;
    if (connection->closing)
        return;
    remove_dirty(connection);
    remove_resting(connection);
    if (server->active == connection)
        server->active = NULL;
    if (server->talker == connection)
        server->talker = NULL;
    if (connection->tapped)
        server->options.tap->closed(connection->tapped);
    connection->closing = true;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    /* The session frees what is being written; closing the handle first drops the request. */
    bool resets =
        connection->session && usbip_device_session_cut(connection->session) == USBIP_CUT_RESET;
    if (!resets || uv_tcp_close_reset(&connection->socket, on_connection_closed) < 0)
        uv_close((uv_handle_t *)&connection->socket, on_connection_closed);
    usbip_device_session_free(connection->session);
    connection->session = NULL;
}

static void lose(struct connection *connection, int status)
{
    usbip_log(log_of(connection->server), USBIP_LOG_INFO, "%s: connection lost: %s",
              connection->peer, uv_strerror(status));
    close_connection(connection);
}

/*
 * ---- Floods ----
 *
 * A client that has had more than a slice to say at once is heavy for a while; others are light.
 * Heavy ones are equals. Beside light ones they rest.
 */

static bool is_alone(const struct connection *connection)
{
    return !connection->next && !connection->previous;
}

/* Until when another client counts as active that is light. */
static uint64_t others_active_until_us(const struct connection *connection)
{
    const struct usbip_server *server = connection->server;
    uint64_t us = server->active == connection ? server->other_active_us : server->active_us;
    return us > 0 ? us + USBIP_SERVER_ACTIVE_US : 0;
}

static void note_light_activity(const struct connection *connection)
{
    struct usbip_server *server = connection->server;
    if (connection->slice_began_us < connection->heavy_until_us)
        return;
    if (server->active != connection) {
        server->active = connection;
        server->other_active_us = server->active_us;
    }
    server->active_us = connection->slice_began_us;
}

/* All that rest share what is left for them. */
static void rest_longer(struct connection *connection, uint64_t work_us)
{
    uint64_t rest_us = USBIP_SERVER_REST * work_us * connection->server->resting_count;
    if (rest_us > USBIP_SERVER_MAX_REST_US)
        rest_us = USBIP_SERVER_MAX_REST_US;
    connection->rest_until_us += rest_us;
}

/* A slice has been read, and more may be there. */
static void end_slice(struct connection *connection)
{
    struct usbip_server *server = connection->server;
    uint64_t now_us = real_now_us(server);
    connection->heavy_until_us = now_us + USBIP_SERVER_HEAVY_US;
    uv_read_stop((uv_stream_t *)&connection->socket);
    connection->reading = false;
    make_dirty(connection);
    if (connection->resting || others_active_until_us(connection) <= now_us)
        return;
    connection->resting = true;
    connection->next_resting = server->resting;
    server->resting = connection;
    server->resting_count++;
    connection->rest_until_us = now_us;
    rest_longer(connection, now_us - connection->slice_began_us);
}

/* ---- Reading and writing ---- */

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct connection *connection = handle->data;
    size_t size = USBIP_SERVER_READ_SIZE;
    (void)suggested;
    if (is_alone(connection) && !connection->lingering) {
        size = usbip_device_session_read_size(connection->session, size);
    } else if (!is_alone(connection)) {
        connection->slice_began_us = real_now_us(connection->server);
        if (connection->slice_began_us < others_active_until_us(connection))
            size = USBIP_SERVER_SLICE_SIZE;
    }
    *buffer = uv_buf_init(connection->server->read_buffer, (unsigned)size);
}

static bool flush(struct connection *connection);

/* Output that lies in the read buffer. Returns false when the connection has come to its end. */
static bool send_borrowed(struct connection *connection)
{
    if (!usbip_device_session_borrows(connection->session))
        return true;
    if (flush(connection))
        make_dirty(connection);
    if (connection->closing)
        return false;
    usbip_device_session_settle(connection->session);
    return !connection->lingering;
}

/* Returns false when the connection has come to its end. */
static bool take_input(struct connection *connection, const char *data, size_t size)
{
    catch_up(connection->server);
    tap_bytes(connection, USBIP_TO_SERVER, data, size);
    usbip_device_session_receive_in_place(connection->session, (const uint8_t *)data, size);
    return send_borrowed(connection);
}

static void take_end(struct connection *connection, ptrdiff_t status)
{
    if (status != 0 && status != UV_EOF) {
        lose(connection, (int)status);
        return;
    }
    connection->ended = true;
    usbip_device_session_end_of_input(connection->session);
    make_dirty(connection);
}

static void stop_reading(struct connection *connection)
{
    uv_read_stop((uv_stream_t *)&connection->socket);
    connection->reading = false;
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;
    if (size == 0)
        return;
    connection->server->did_something = true;
    if (connection->lingering) {
        if (size < 0)
            close_connection(connection);
        return;
    }
    if (size < 0) {
        stop_reading(connection);
        take_end(connection, size);
        return;
    }
    if (!take_input(connection, buffer->base, (size_t)size))
        return;
    if (!is_alone(connection) && (size_t)size == buffer->len) {
        end_slice(connection);
        return;
    }
    note_light_activity(connection);
    connection->server->talker = connection; 
    if (!usbip_device_session_wants_input(connection->session)) {
        stop_reading(connection);
        make_dirty(connection);
    }
}

static void on_written(uv_write_t *request, int status)
{
    struct connection *connection = request->data;
    if (connection->closing)
        return;
    connection->server->did_something = true;
    connection->writing = false;
    free(connection->kept);
    connection->kept = NULL;
    if (status < 0) {
        lose(connection, status);
        return;
    }
    make_dirty(connection);
}

/*
 * What a source sends to a client on this machine shall be read before it leaves the cache, so
 * little of it may wait in the socket. Of no use where both sides send: then they would only wait
 * for each other more often.
 */
static void keep_near(struct connection *connection, const struct usbip_output_piece *piece)
{
    int size = USBIP_SERVER_NEAR_UNSENT;
    if (connection->near || !connection->local || piece->origin != USBIP_OUTPUT_LASTING ||
        piece->size < USBIP_SERVER_NEAR_PAYLOAD)
        return;
    connection->near = true;
    uv_send_buffer_size((uv_handle_t *)&connection->socket, &size);
}

/* Copies of what passes, for as long as it is on its way. */
static bool keep_passing(struct connection *connection, uv_buf_t *buffers,
                         const struct usbip_output_piece *pieces, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += pieces[i].origin == USBIP_OUTPUT_PASSING ? buffers[i].len : 0;
    if (size == 0)
        return true;
    uint8_t *at = connection->kept = malloc(size);
    for (size_t i = 0; at && i < count; i++) {
        if (pieces[i].origin != USBIP_OUTPUT_PASSING)
            continue;
        buffers[i].base = memcpy(at, buffers[i].base, buffers[i].len);
        at += buffers[i].len;
    }
    return at != NULL;
}

static int write_later(struct connection *connection, const uv_buf_t *buffers, unsigned count)
{
    connection->write.data = connection;
    int status = uv_write(&connection->write, (uv_stream_t *)&connection->socket, buffers, count,
                          on_written);
    connection->writing = status == 0;
    return status;
}

/* Sends what is taken, the part that does not fit into the socket later. Returns 0 or a libuv
 * error. */
static int send_pieces(struct connection *connection, const struct usbip_output_piece *pieces,
                       size_t count, size_t size)
{
    uv_stream_t *stream = (uv_stream_t *)&connection->socket;
    uv_buf_t buffers[USBIP_OUTPUT_MAX_PIECES];
    size_t first = 0;
    for (size_t i = 0; i < count; i++) {
        buffers[i] = uv_buf_init((char *)pieces[i].data, (unsigned)pieces[i].size);
        tap_bytes(connection, USBIP_TO_CLIENT, pieces[i].data, pieces[i].size);
        keep_near(connection, &pieces[i]);
    }
    if (connection->server->talking && count == 1 && size <= USBIP_SERVER_RING_SEND &&
        !usbip_device_session_is_over(connection->session) &&
        usbip_device_session_output_size(connection->session) == 0) {
        usbip_ring_send(connection->server->ring, pieces[0].data, size);
        connection->queued = buffers[0];
        connection->writing = true;
        return 0;
    }
    int sent = uv_try_write(stream, buffers, (unsigned)count);
    if (sent < 0 && sent != UV_EAGAIN)
        return sent;
    size_t left = sent < 0 ? 0 : (size_t)sent;
    if (left == size)
        return 0;
    while (left >= buffers[first].len)
        left -= buffers[first++].len;
    buffers[first].base += left;
    buffers[first].len -= left;
    if (!keep_passing(connection, buffers + first, pieces + first, count - first))
        return UV_ENOMEM;
    return write_later(connection, buffers + first, (unsigned)(count - first));
}

static void on_shut_down(uv_shutdown_t *request, int status)
{
    struct connection *connection = request->data;
    if (status < 0)
        close_connection(connection);
}

/* Closes our side only: with input that nobody has read, close() would send RST instead of FIN. */
static void linger(struct connection *connection)
{
    uv_stream_t *stream = (uv_stream_t *)&connection->socket;
    connection->lingering = true;
    connection->shutdown.data = connection;
    int status = uv_shutdown(&connection->shutdown, stream, on_shut_down);
    if (status == 0 && !connection->reading)
        status = uv_read_start(stream, on_allocate, on_read);
    if (status < 0)
        close_connection(connection);
}

static void update_reading(struct connection *connection)
{
    uv_stream_t *stream = (uv_stream_t *)&connection->socket;
    bool wants = !connection->ended && !connection->resting && connection != connection->server->talker &&
                 usbip_device_session_wants_input(connection->session) &&
                 uv_stream_get_write_queue_size(stream) <= USBIP_SERVER_MAX_UNSENT;
    if (wants == connection->reading)
        return;
    connection->reading = wants && uv_read_start(stream, on_allocate, on_read) == 0;
    if (!wants)
        uv_read_stop(stream);
}

/* Sends all there is, as far as the socket takes it. Returns true when there may be more at once.
 */
static bool flush(struct connection *connection)
{
    struct usbip_device_session *session = connection->session;
    if (connection->lingering)
        return false;
    for (int round = 0; !connection->writing && round < MAX_ROUNDS; round++) {
        const struct usbip_output_piece *pieces;
        size_t count, size = usbip_device_session_take_pieces(session, &pieces, &count);
        int status = size > 0 ? send_pieces(connection, pieces, count, size) : 0;
        if (status < 0) {
            lose(connection, status);
            return false;
        }
        if (size == 0 || usbip_device_session_output_size(session) == 0)
            break;
    }
    bool more = !connection->writing && usbip_device_session_output_size(session) > 0;
    bool over = connection->ended || usbip_device_session_is_over(session);
    bool waits = (connection->writing && !usbip_device_session_has_device(session)) ||
                 usbip_device_session_holds_output(session);
    if (over && !waits && !more && !connection->ended &&
        usbip_device_session_cut(session) == USBIP_CUT_CLOSE)
        linger(connection);
    else if (over && !waits && !more)
        close_connection(connection);
    else
        update_reading(connection);
    return more;
}

static bool can_talk(const struct connection *connection)
{
    return is_alone(connection) && !connection->writing && !connection->lingering &&
           !connection->ended && !connection->closing &&
           usbip_device_session_has_device(connection->session) &&
           !usbip_device_session_is_over(connection->session) &&
           usbip_device_session_wants_input(connection->session);
}

/* What did not fit goes the usual way. */
static void after_exchange(struct connection *connection, ptrdiff_t sent)
{
    size_t done = sent == UV_EAGAIN ? 0 : (size_t)sent;
    uv_buf_t rest = uv_buf_init(connection->queued.base + done,
                                (unsigned)(connection->queued.len - done));
    int status = sent < 0 && sent != UV_EAGAIN ? (int)sent : 0;
    connection->writing = false;
    connection->queued.len = 0;
    if (status == 0 && rest.len > 0)
        status = write_later(connection, &rest, 1);
    if (status < 0)
        lose(connection, status);
}

static bool talk_once(struct usbip_server *server, struct connection *connection, uint64_t end_us)
{
    size_t room = usbip_device_session_read_size(connection->session, USBIP_SERVER_READ_SIZE);
    struct usbip_ring_result result =
        usbip_ring_exchange(server->ring, server->read_buffer, room);
    if (connection->queued.len > 0)
        after_exchange(connection, result.sent);
    if (connection->closing || result.received == UV_EAGAIN)
        return false;
    server->said = true;
    if (result.received <= 0) {
        take_end(connection, result.received);
        return false;
    }
    if (!take_input(connection, server->read_buffer, (size_t)result.received))
        return false;
    server->talking = !usbip_ring_is_over(server->ring) && can_talk(connection) &&
                      usbip_scheduler_due_us(server->options.scheduler) >= end_us;
    if (connection->dirty) {
        remove_dirty(connection);
        connection->dirty = true;
        bool more = flush(connection);
        connection->dirty = false;
        if (more)
            make_dirty(connection);
    }
    return server->talking && !connection->closing && (connection->queued.len > 0 || can_talk(connection)) && !server->dirty;
}

static void talk(struct usbip_server *server)
{
    struct connection *connection = server->talker;
    if (!connection)
        return;
    uv_os_fd_t fd;
    if (!server->has_tried_ring) {
        server->has_tried_ring = true;
        server->ring = usbip_ring_new();
    }
    uv_idle_stop(&server->busy);
    int wait_ms = uv_backend_timeout(server->loop);
    uint64_t due_us = usbip_scheduler_due_us(server->options.scheduler),
             end_us = real_now_us(server) + 4000;
    if (!server->ring || server->options.virtual_time || !can_talk(connection) || server->dirty ||
        (wait_ms >= 0 && wait_ms < 4) || due_us < end_us ||
        uv_fileno((uv_handle_t *)&connection->socket, &fd) < 0) {
        server->talker = NULL;
        update_reading(connection);
        return;
    }
    if (connection->reading)
        stop_reading(connection);
    server->said = false;
    usbip_ring_begin(server->ring, fd, uv_backend_fd(server->loop), 4000);
    server->talking = true;
    while (talk_once(server, connection, end_us))
        continue;
    server->talking = false;
    usbip_ring_end(server->ring);
    uv_update_time(server->loop);
    if (connection->closing)
        return;
    if (!server->said)
        server->talker = NULL;
    update_reading(connection);
}

/* What a client that rests has caused is part of what it rests for. */
static bool flush_and_rest(struct connection *connection)
{
    if (!connection->resting)
        return flush(connection);
    uint64_t began_us = real_now_us(connection->server);
    bool more = flush(connection);
    rest_longer(connection, real_now_us(connection->server) - began_us);
    return more;
}

/* What becomes dirty meanwhile has its turn after the next poll. */
static void flush_all(struct usbip_server *server)
{
    struct connection *connection = server->dirty, *next;
    server->dirty = NULL;
    for (; connection; connection = next) {
        next = connection->next_dirty;
        /* It stays marked until then: its session may wake us for what is taken here anyway. */
        bool more = flush_and_rest(connection);
        connection->dirty = false;
        if (more)
            make_dirty(connection);
    }
}

/* Ends the rests that are over. Returns when the next one is. */
static uint64_t wake_rested(struct usbip_server *server)
{
    uint64_t first_us = USBIP_NEVER, now_us = server->resting ? real_now_us(server) : 0;
    for (struct connection *connection = server->resting, *next; connection; connection = next) {
        next = connection->next_resting;
        uint64_t until_us = others_active_until_us(connection);
        if (connection->rest_until_us < until_us)
            until_us = connection->rest_until_us;
        if (until_us > now_us) {
            first_us = until_us < first_us ? until_us : first_us;
            continue;
        }
        remove_resting(connection);
        update_reading(connection);
    }
    return first_us;
}

static void on_session_wake(void *context)
{
    make_dirty(context);
}

static const struct usbip_device_session_events session_events = {.wake = on_session_wake};

/* ---- The loop's turns ---- */

static void on_prepare(uv_prepare_t *handle)
{
    struct usbip_server *server = handle->data;
    server->did_something = false;
    catch_up(server);
    flush_all(server);
    talk(server);
    prepare_to_wait(server, wake_rested(server));
}

static void on_check(uv_check_t *handle)
{
    struct usbip_server *server = handle->data;
    struct usbip_scheduler *scheduler = server->options.scheduler;
    uint64_t due_us = usbip_scheduler_due_us(scheduler);
    if (server->options.virtual_time && due_us != USBIP_NEVER && !server->did_something &&
        !server->dirty && !server->resting)
        usbip_scheduler_advance(scheduler, due_us);
}

/* ---- Accepting ---- */

static void format_address(const struct sockaddr_storage *address,
                           char text[USBIP_SERVER_ADDRESS_SIZE])
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 ip6;
        memcpy(&ip6, address, sizeof ip6);
        uv_ip6_name(&ip6, host, sizeof host);
        snprintf(text, USBIP_SERVER_ADDRESS_SIZE, "[%s]:%u", host, ntohs(ip6.sin6_port));
    } else {
        struct sockaddr_in ip4;
        memcpy(&ip4, address, sizeof ip4);
        uv_ip4_name(&ip4, host, sizeof host);
        snprintf(text, USBIP_SERVER_ADDRESS_SIZE, "%s:%u", host, ntohs(ip4.sin_port));
    }
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 ip6;
        memcpy(&ip6, address, sizeof ip6);
        return IN6_IS_ADDR_LOOPBACK(&ip6.sin6_addr);
    }
    struct sockaddr_in ip4;
    memcpy(&ip4, address, sizeof ip4);
    return ntohl(ip4.sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
}

static int start_connection(struct connection *connection)
{
    struct usbip_server *server = connection->server;
    struct sockaddr_storage address = {0};
    int size = sizeof address;
    int status = uv_accept((uv_stream_t *)&server->listener, (uv_stream_t *)&connection->socket);
    if (status == 0)
        status = uv_tcp_getpeername(&connection->socket, (struct sockaddr *)&address, &size);
    if (status < 0)
        return status;
    format_address(&address, connection->peer);
    connection->local = is_loopback(&address);
    /* Without these it works too, only slower or longer. */
    uv_tcp_nodelay(&connection->socket, 1);
    uv_tcp_keepalive(&connection->socket, 1, USBIP_SERVER_KEEPALIVE_S);
    connection->session = usbip_device_session_new(server->options.bus, connection->peer,
                                                   &session_events, connection);
    if (!connection->session)
        return UV_ENOMEM;
    if (server->options.tap)
        connection->tapped = server->options.tap->opened(server->options.tap->context);
    status = uv_read_start((uv_stream_t *)&connection->socket, on_allocate, on_read);
    connection->reading = status == 0;
    return status;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct usbip_server *server = listener->data;
    struct connection *connection = status == 0 ? calloc(1, sizeof *connection) : NULL;
    server->did_something = true;
    if (status == 0)
        status = connection ? uv_tcp_init(server->loop, &connection->socket) : UV_ENOMEM;
    if (!connection || status < 0) {
        free(connection);
        usbip_log(log_of(server), USBIP_LOG_ERROR, "a connection could not be accepted: %s",
                  uv_strerror(status));
        return;
    }
    connection->server = server;
    connection->socket.data = connection;
    connection->next = server->connections;
    if (connection->next)
        connection->next->previous = connection;
    server->connections = connection;
    server->open_handles++;
    status = start_connection(connection);
    if (status < 0) {
        usbip_log(log_of(server), USBIP_LOG_INFO, "a connection was lost at once: %s",
                  uv_strerror(status));
        close_connection(connection);
    }
}

/* ---- Life ---- */

struct usbip_server *usbip_server_new(struct uv_loop_s *loop,
                                      const struct usbip_server_options *options)
{
    struct usbip_server *server = calloc(1, sizeof *server);
    if (!server)
        return NULL;
    server->loop = loop;
    server->options = *options;
    server->started_us = uv_hrtime() / 1000;
    server->started_now_us = options->scheduler->now_us;
    uv_prepare_init(loop, &server->prepare);
    uv_check_init(loop, &server->check);
    uv_idle_init(loop, &server->busy);
    uv_timer_init(loop, &server->timer);
    server->prepare.data = server->check.data = server->busy.data = server->timer.data = server;
    uv_prepare_start(&server->prepare, on_prepare);
    uv_check_start(&server->check, on_check);
    server->open_handles = 4;
    return server;
}

static void on_server_handle_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

void usbip_server_close(struct usbip_server *server)
{
    if (server->closing)
        return;
    server->closing = true;
    while (server->connections)
        close_connection(server->connections);
    if (server->has_listener)
        uv_close((uv_handle_t *)&server->listener, on_server_handle_closed);
    uv_close((uv_handle_t *)&server->prepare, on_server_handle_closed);
    uv_close((uv_handle_t *)&server->check, on_server_handle_closed);
    uv_close((uv_handle_t *)&server->busy, on_server_handle_closed);
    uv_close((uv_handle_t *)&server->timer, on_server_handle_closed);
}

static int bind_listener(struct usbip_server *server, const char *host, const char *port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    uv_getaddrinfo_t lookup;
    int status = uv_getaddrinfo(server->loop, &lookup, NULL, host, port, &hints);
    if (status < 0)
        return status;
    status = uv_tcp_bind(&server->listener, lookup.addrinfo->ai_addr, 0);
    uv_freeaddrinfo(lookup.addrinfo);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&server->listener, USBIP_SERVER_BACKLOG, on_connection);
    return status;
}

bool usbip_server_is_address(const char *address)
{
    char host[USBIP_HOST_SIZE];
    const char *port;
    return usbip_split_address(address, host, &port);
}

int usbip_server_listen(struct usbip_server *server, const char *address,
                        char bound[USBIP_SERVER_ADDRESS_SIZE],
                        char error_text[USBIP_SERVER_ERROR_SIZE])
{
    char host[USBIP_HOST_SIZE];
    const char *port;
    if (!usbip_split_address(address, host, &port)) {
        snprintf(error_text, USBIP_SERVER_ERROR_SIZE,
                 "\"%.80s\" is not an address to listen on; write HOST:PORT or [IPv6]:PORT, "
                 "such as 127.0.0.1:3240",
                 address);
        return -1;
    }
    int status = uv_tcp_init(server->loop, &server->listener);
    if (status == 0) {
        server->listener.data = server;
        server->has_listener = true;
        server->open_handles++;
        status = bind_listener(server, host, port);
    }
    struct sockaddr_storage name = {0};
    int size = sizeof name;
    if (status == 0)
        status = uv_tcp_getsockname(&server->listener, (struct sockaddr *)&name, &size);
    if (status < 0) {
        snprintf(error_text, USBIP_SERVER_ERROR_SIZE,
                 "cannot listen on %s: %s; choose another address, or port 0 for a free one",
                 address, uv_strerror(status));
        return -1;
    }
    format_address(&name, bound);
    return (int)strtol(strrchr(bound, ':') + 1, NULL, 10);
}
