#include "emulator/server_internal.h"

#include <sys/epoll.h>

/* As often a full buffer is followed by another reading before there are answers, if nobody else is
 * there who might wait. */
enum { MAX_READINGS = 32 };

/* In the loop's first turn, for only its thread may use it. */
static void try_ring(struct usbip_server *server)
{
    server->has_tried_ring = true;
    if (!server->options.virtual_time && !server->options.without_io_uring)
        server->ring = usbip_ring_new();
}

/* In another thread than before, for example. libuv goes on in its place. */
static void drop_broken_ring(struct usbip_server *server)
{
    if (!usbip_ring_is_broken(server->ring))
        return;
    usbip_ring_free(server->ring);
    server->ring = NULL;
}

static bool takes_input(const struct connection *connection)
{
    return !usbip_device_session_is_over(connection->session) &&
           usbip_device_session_wants_input(connection->session);
}

static bool can_go_on(const struct connection *connection)
{
    bool sends_later = connection->writing && connection->queued.len == 0;
    return !connection->closing && !sends_later && !connection->ended && !connection->lingering &&
           !connection->server->dirty && usbip_device_session_has_device(connection->session) &&
           takes_input(connection);
}

/* No timer of a device is due before. */
static bool has_time_until(struct usbip_server *server, uint64_t us)
{
    return usbip_scheduler_due_us(server->options.scheduler) >= us;
}

/* When a turn has to end, or 0. */
static uint64_t end_of_turn(struct usbip_server *server, uint64_t now_us, uint64_t until_us)
{
    uint64_t end_us = now_us + USBIP_SERVER_CONVERSATION_US;
    uint64_t due_us = usbip_scheduler_due_us(server->options.scheduler);
    uv_idle_stop(&server->busy); /* or the loop would say that it shall not block */
    uv_update_time(server->loop);
    int wait_ms = uv_backend_timeout(server->loop);
    if (wait_ms >= 0 && now_us + (uint64_t)wait_ms * 1000 < end_us)
        end_us = now_us + (uint64_t)wait_ms * 1000;
    if (due_us < end_us)
        end_us = due_us;
    if (until_us < end_us)
        end_us = until_us;
    return end_us >= now_us + USBIP_SERVER_SHORT_TURN_US ? end_us : 0;
}

static size_t read_size(const struct connection *connection)
{
    return usbip_device_session_read_size(connection->session, USBIP_SERVER_READ_SIZE);
}

/* What did not fit goes the usual way. */
static void end_sending(struct connection *connection, ptrdiff_t sent)
{
    uv_buf_t rest = connection->queued;
    connection->queued = uv_buf_init(NULL, 0);
    connection->writing = false;
    if (sent < 0 && sent != UV_EAGAIN) {
        usbip_server_lose(connection, (int)sent);
        return;
    }
    size_t done = sent < 0 ? 0 : (size_t)sent;
    if (done == rest.len)
        return;
    rest = uv_buf_init(rest.base + done, (unsigned)(rest.len - done));
    int status = usbip_server_write_later(connection, &rest, 1);
    if (status < 0)
        usbip_server_lose(connection, status);
}

/* Takes what was received, and more as long as it fills the buffer. Returns false at the end. */
static bool take(struct connection *connection, ptrdiff_t received, size_t room)
{
    struct usbip_server *server = connection->server;
    int most = usbip_server_is_alone(connection) ? MAX_READINGS : 1;
    for (int readings = 1;; readings++) {
        if (received == UV_EAGAIN)
            return true;
        if (received <= 0) {
            usbip_server_take_end(connection, (int)received);
            return false;
        }
        if (!usbip_server_take_input(connection, server->read_buffer, (size_t)received))
            return false;
        if ((size_t)received < room || readings == most || !takes_input(connection))
            return true;
        room = read_size(connection);
        received = usbip_ring_receive(server->ring, server->read_buffer, room);
    }
}

/* Returns whether there is to be another exchange. */
static bool exchange(struct connection *connection, uint64_t end_us)
{
    struct usbip_server *server = connection->server;
    size_t room = read_size(connection);
    struct usbip_ring_result result = usbip_ring_exchange(server->ring, server->read_buffer, room);
    if (connection->queued.len > 0)
        end_sending(connection, result.sent);
    if (connection->closing || result.received == UV_EAGAIN)
        return false;
    server->speaker = connection;
    if (!take(connection, result.received, room))
        return false;
    server->converses = !usbip_ring_is_over(server->ring) && has_time_until(server, end_us);
    usbip_server_flush_dirty(connection);
    return server->converses && can_go_on(connection) && has_time_until(server, end_us);
}

static void run_turn(struct connection *connection, int socket, uint64_t now_us, uint64_t end_us)
{
    struct usbip_server *server = connection->server;
    int backend_fd = uv_backend_fd(server->loop);
    usbip_server_stop_reading(connection);
    /* libuv does that only when something has come, and the turn would end with it. */
    epoll_ctl(backend_fd, EPOLL_CTL_DEL, socket, NULL);
    server->talker = connection;
    usbip_ring_begin(server->ring, socket, backend_fd, end_us - now_us);
    while (exchange(connection, end_us))
        continue;
    server->converses = false;
    if (connection->queued.len > 0)
        end_sending(connection, usbip_ring_exchange(server->ring, NULL, 0).sent);
    usbip_ring_end(server->ring);
    drop_broken_ring(server);
    uv_update_time(server->loop);
    if (!server->talker)
        return; /* closed meanwhile */
    server->talker = NULL;
    /* The loop has to know about it before it learns what came later from others. */
    usbip_server_update_reading(connection);
    if (server->speaker) {
        connection->slice_began_us = usbip_server_now_us(server);
        usbip_server_note_light_activity(connection);
    }
}

static void converse(struct usbip_server *server, struct connection *connection, uint64_t until_us)
{
    uint64_t now_us = usbip_server_now_us(server), end_us;
    uv_os_fd_t socket;
    if (!server->ring || !can_go_on(connection) ||
        usbip_server_others_active_until_us(connection) > now_us ||
        uv_fileno((uv_handle_t *)&connection->socket, &socket) < 0)
        return;
    end_us = end_of_turn(server, now_us, until_us);
    if (end_us > 0)
        run_turn(connection, socket, now_us, end_us);
}

void usbip_server_converse(struct usbip_server *server, uint64_t until_us)
{
    struct connection *connection = server->speaker;
    bool alone = !server->several_spoke;
    if (!server->has_tried_ring)
        try_ring(server);
    server->speaker = NULL;
    server->several_spoke = false;
    if (connection && alone)
        converse(server, connection, until_us);
    server->speaker = NULL;
}
