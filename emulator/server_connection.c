#include "emulator/server_internal.h"

#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/address.h"

/* How often one client may have new output within one turn of the loop. */
enum { MAX_ROUNDS = 16 };

/* ---- Connections ---- */

static void on_connection_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    struct usbip_server *server = connection->server;
    free(connection->kept);
    free(connection);
    usbip_server_on_handle_closed(server);
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

void usbip_server_close_connection(struct connection *connection)
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
    if (server->speaker == connection)
        server->speaker = NULL;
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

void usbip_server_lose(struct connection *connection, int status)
{
    usbip_log(usbip_server_log(connection->server), USBIP_LOG_INFO, "%s: connection lost: %s",
              connection->peer, uv_strerror(status));
    usbip_server_close_connection(connection);
}

/*
 * ---- Floods ----
 *
 * A client that has had more than a slice to say at once is heavy for a while; others are light.
 * Heavy ones are equals. Beside light ones they rest.
 */

bool usbip_server_is_alone(const struct connection *connection)
{
    return !connection->next && !connection->previous;
}

uint64_t usbip_server_others_active_until_us(const struct connection *connection)
{
    const struct usbip_server *server = connection->server;
    uint64_t us = server->active == connection ? server->other_active_us : server->active_us;
    return us > 0 ? us + USBIP_SERVER_ACTIVE_US : 0;
}

void usbip_server_note_light_activity(const struct connection *connection)
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
    uint64_t now_us = usbip_server_now_us(server);
    connection->heavy_until_us = now_us + USBIP_SERVER_HEAVY_US;
    uv_read_stop((uv_stream_t *)&connection->socket);
    connection->reading = false;
    make_dirty(connection);
    if (connection->resting || usbip_server_others_active_until_us(connection) <= now_us)
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
    if (usbip_server_is_alone(connection) && !connection->lingering) {
        size = usbip_device_session_read_size(connection->session, size);
    } else if (!usbip_server_is_alone(connection)) {
        connection->slice_began_us = usbip_server_now_us(connection->server);
        if (connection->slice_began_us < usbip_server_others_active_until_us(connection))
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
bool usbip_server_take_input(struct connection *connection, const char *data, size_t size)
{
    usbip_server_catch_up(connection->server);
    if (connection->closing)
        return false; /* a timer has closed the server */
    tap_bytes(connection, USBIP_TO_SERVER, data, size);
    usbip_device_session_receive_in_place(connection->session, (const uint8_t *)data, size);
    return send_borrowed(connection);
}

void usbip_server_take_end(struct connection *connection, int status)
{
    if (status != 0 && status != UV_EOF) {
        usbip_server_lose(connection, status);
        return;
    }
    connection->ended = true;
    usbip_device_session_end_of_input(connection->session);
    make_dirty(connection);
}

void usbip_server_stop_reading(struct connection *connection)
{
    uv_read_stop((uv_stream_t *)&connection->socket);
    connection->reading = false;
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;
    struct usbip_server *server = connection->server;
    if (size == 0)
        return;
    server->did_something = true;
    if (connection->lingering) {
        if (size < 0)
            usbip_server_close_connection(connection);
        return;
    }
    if (size < 0) {
        usbip_server_stop_reading(connection);
        usbip_server_take_end(connection, (int)size);
        return;
    }
    if (!usbip_server_take_input(connection, buffer->base, (size_t)size))
        return;
    if (!usbip_server_is_alone(connection) && (size_t)size == buffer->len) {
        end_slice(connection);
        return;
    }
    usbip_server_note_light_activity(connection);
    server->several_spoke |= server->speaker && server->speaker != connection;
    server->speaker = connection;
    if (!usbip_device_session_wants_input(connection->session)) {
        usbip_server_stop_reading(connection);
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
        usbip_server_lose(connection, status);
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

int usbip_server_write_later(struct connection *connection, const uv_buf_t *buffers, unsigned count)
{
    connection->write.data = connection;
    int status = uv_write(&connection->write, (uv_stream_t *)&connection->socket, buffers, count,
                          on_written);
    connection->writing = status == 0;
    return status;
}

/* Whether all output there is can wait for the ring's next exchange. */
static bool can_queue(const struct connection *connection, const struct usbip_output_piece *pieces,
                      size_t count)
{
    const struct usbip_device_session *session = connection->session;
    return connection->server->converses && count == 1 && pieces[0].origin == USBIP_OUTPUT_COPIED &&
           !usbip_device_session_is_over(session) && usbip_device_session_output_size(session) == 0;
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
    if (can_queue(connection, pieces, count)) {
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
    return usbip_server_write_later(connection, buffers + first, (unsigned)(count - first));
}

static void on_shut_down(uv_shutdown_t *request, int status)
{
    struct connection *connection = request->data;
    if (status < 0)
        usbip_server_close_connection(connection);
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
        usbip_server_close_connection(connection);
}

void usbip_server_update_reading(struct connection *connection)
{
    uv_stream_t *stream = (uv_stream_t *)&connection->socket;
    bool wants = !connection->ended && !connection->resting &&
                 connection != connection->server->talker &&
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
            usbip_server_lose(connection, status);
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
        usbip_server_close_connection(connection);
    else
        usbip_server_update_reading(connection);
    return more;
}

/* What a client that rests has caused is part of what it rests for. */
static bool flush_and_rest(struct connection *connection)
{
    if (!connection->resting)
        return flush(connection);
    uint64_t began_us = usbip_server_now_us(connection->server);
    bool more = flush(connection);
    rest_longer(connection, usbip_server_now_us(connection->server) - began_us);
    return more;
}

/* It stays marked meanwhile: its session may wake us for what is taken here anyway. */
static void flush_marked(struct connection *connection)
{
    bool more = flush_and_rest(connection);
    connection->dirty = false;
    if (more)
        make_dirty(connection);
}

void usbip_server_flush_all(struct usbip_server *server)
{
    struct connection *connection = server->dirty, *next;
    server->dirty = NULL;
    for (; connection; connection = next) {
        next = connection->next_dirty;
        flush_marked(connection);
    }
}

void usbip_server_flush_dirty(struct connection *connection)
{
    if (!connection->dirty)
        return;
    remove_dirty(connection);
    connection->dirty = true;
    flush_marked(connection);
}

uint64_t usbip_server_wake_rested(struct usbip_server *server)
{
    uint64_t first_us = USBIP_NEVER, now_us = server->resting ? usbip_server_now_us(server) : 0;
    for (struct connection *connection = server->resting, *next; connection; connection = next) {
        next = connection->next_resting;
        uint64_t until_us = usbip_server_others_active_until_us(connection);
        if (connection->rest_until_us < until_us)
            until_us = connection->rest_until_us;
        if (until_us > now_us) {
            first_us = until_us < first_us ? until_us : first_us;
            continue;
        }
        remove_resting(connection);
        usbip_server_update_reading(connection);
    }
    return first_us;
}

static void on_session_wake(void *context)
{
    make_dirty(context);
}

static const struct usbip_device_session_events session_events = {.wake = on_session_wake};

/* ---- The beginning ---- */

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 ip6;
        memcpy(&ip6, address, sizeof ip6);
        return usbip_is_loopback_ip6(ip6.sin6_addr.s6_addr);
    }
    struct sockaddr_in ip4;
    memcpy(&ip4, address, sizeof ip4);
    return usbip_is_loopback_ip4((const uint8_t *)&ip4.sin_addr);
}

/* On this machine nothing is ever lost, and BBR, where it is the rule, paces with timers. */
static void avoid_pacing(const uv_tcp_t *socket)
{
#ifdef TCP_CONGESTION
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)socket, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", sizeof "reno" - 1);
#else
    (void)socket;
#endif
}

int usbip_server_start_connection(struct connection *connection)
{
    struct usbip_server *server = connection->server;
    struct sockaddr_storage address = {0};
    int size = sizeof address;
    int status = uv_accept((uv_stream_t *)&server->listener, (uv_stream_t *)&connection->socket);
    if (status == 0)
        status = uv_tcp_getpeername(&connection->socket, (struct sockaddr *)&address, &size);
    if (status < 0)
        return status;
    usbip_server_format_address(&address, connection->peer);
    connection->local = is_loopback(&address);
    /* Without these it works too, only slower or longer. */
    if (connection->local)
        avoid_pacing(&connection->socket);
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
