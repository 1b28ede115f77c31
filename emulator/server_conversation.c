#include "emulator/server_internal.h"

#include <sys/epoll.h>

static bool has_ring(struct usbip_server *server)
{
    if (server->options.without_io_uring || server->has_no_ring)
        return false;
    if (!server->ring)
        server->ring = usbip_ring_new();
    server->has_no_ring = !server->ring;
    return !server->has_no_ring;
}

/* In another thread than the one that it was made in, for example. libuv goes on in its place. */
static void drop_broken_ring(struct usbip_server *server)
{
    if (!usbip_ring_is_broken(server->ring))
        return;
    usbip_ring_free(server->ring);
    server->ring = NULL;
    server->has_no_ring = true;
}

static bool can_go_on(const struct connection *connection)
{
    const struct usbip_device_session *session = connection->session;
    bool sends_later = connection->writing && connection->queued.len == 0;
    return !connection->closing && usbip_server_is_alone(connection) && !sends_later &&
           !connection->ended && !connection->lingering && !connection->server->dirty &&
           usbip_device_session_has_device(session) && !usbip_device_session_is_over(session) &&
           usbip_device_session_wants_input(session);
}

/* Nothing needs a turn of the loop, or a timer, as early as that. */
static bool has_time_until(struct usbip_server *server, uint64_t end_us)
{
    return usbip_scheduler_due_us(server->options.scheduler) >= end_us;
}

static bool can_begin(struct usbip_server *server, uint64_t end_us)
{
    const struct connection *connection = server->connections;
    if (!server->spoke || !connection || server->options.virtual_time || !can_go_on(connection) ||
        !has_time_until(server, end_us) || !has_ring(server))
        return false;
    uv_idle_stop(&server->busy); /* or the loop would say that it shall not block */
    int wait_ms = uv_backend_timeout(server->loop);
    return wait_ms < 0 || wait_ms >= USBIP_SERVER_CONVERSATION_US / 1000;
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

/* Returns whether there is to be another exchange. */
static bool exchange(struct connection *connection, uint64_t end_us)
{
    struct usbip_server *server = connection->server;
    size_t room = usbip_device_session_read_size(connection->session, USBIP_SERVER_READ_SIZE);
    struct usbip_ring_result result = usbip_ring_exchange(server->ring, server->read_buffer, room);
    if (connection->queued.len > 0)
        end_sending(connection, result.sent);
    if (connection->closing || result.received == UV_EAGAIN)
        return false;
    if (result.received <= 0) {
        usbip_server_take_end(connection, (int)result.received);
        return false;
    }
    if (!usbip_server_take_input(connection, server->read_buffer, (size_t)result.received))
        return false;
    server->converses = !usbip_ring_is_over(server->ring) && has_time_until(server, end_us);
    usbip_server_flush_dirty(connection);
    return server->converses && can_go_on(connection) && has_time_until(server, end_us);
}

static void run_turn(struct connection *connection, int socket, uint64_t end_us)
{
    struct usbip_server *server = connection->server;
    usbip_server_stop_reading(connection);
    /* libuv does that only when something has come, and the turn would end with it. */
    epoll_ctl(uv_backend_fd(server->loop), EPOLL_CTL_DEL, socket, NULL);
    server->talker = connection;
    usbip_ring_begin(server->ring, socket, uv_backend_fd(server->loop),
                     USBIP_SERVER_CONVERSATION_US);
    while (exchange(connection, end_us))
        continue;
    server->converses = false;
    if (connection->queued.len > 0)
        end_sending(connection, usbip_ring_exchange(server->ring, NULL, 0).sent);
    usbip_ring_end(server->ring);
    drop_broken_ring(server);
    uv_update_time(server->loop);
    /* The loop has to know about it before it learns what came later from others. */
    if (server->talker) {
        server->talker = NULL;
        usbip_server_update_reading(connection);
    }
}

void usbip_server_converse(struct usbip_server *server)
{
    uint64_t end_us = usbip_server_now_us(server) + USBIP_SERVER_CONVERSATION_US;
    uv_os_fd_t socket;
    if (can_begin(server, end_us) &&
        uv_fileno((uv_handle_t *)&server->connections->socket, &socket) == 0)
        run_turn(server->connections, socket, end_us);
    server->spoke = false;
}
