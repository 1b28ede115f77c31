#include "emulator/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/address.h"

const struct usbip_log *usbip_server_log(const struct usbip_server *server)
{
    return &server->options.bus->log;
}

/* ---- Time ---- */

uint64_t usbip_server_now_us(const struct usbip_server *server)
{
    return uv_hrtime() / 1000 - server->started_us + server->started_now_us;
}

void usbip_server_catch_up(struct usbip_server *server)
{
    struct usbip_scheduler *scheduler = server->options.scheduler;
    if (server->options.virtual_time)
        return;
    uint64_t now_us = usbip_server_now_us(server), due_us = usbip_scheduler_due_us(scheduler);
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
    uint64_t now_us = usbip_server_now_us(server);
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
    if (server->dirty || (server->options.virtual_time && due_us != USBIP_NEVER))
        uv_idle_start(&server->busy, on_busy);
    else
        uv_idle_stop(&server->busy);
}

/* ---- The loop's turns ---- */

static void on_prepare(uv_prepare_t *handle)
{
    struct usbip_server *server = handle->data;
    server->did_something = false;
    usbip_server_catch_up(server);
    usbip_server_flush_all(server);
    uint64_t rested_us = usbip_server_wake_rested(server);
    usbip_server_converse(server, rested_us);
    prepare_to_wait(server, rested_us);
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

void usbip_server_format_address(const struct sockaddr_storage *address,
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

static void on_connection(uv_stream_t *listener, int status)
{
    struct usbip_server *server = listener->data;
    struct connection *connection = status == 0 ? calloc(1, sizeof *connection) : NULL;
    server->did_something = true;
    if (status == 0)
        status = connection ? uv_tcp_init(server->loop, &connection->socket) : UV_ENOMEM;
    if (!connection || status < 0) {
        free(connection);
        usbip_log(usbip_server_log(server), USBIP_LOG_ERROR,
                  "a connection could not be accepted: %s", uv_strerror(status));
        return;
    }
    connection->server = server;
    connection->socket.data = connection;
    connection->next = server->connections;
    if (connection->next)
        connection->next->previous = connection;
    server->connections = connection;
    server->open_handles++;
    status = usbip_server_start_connection(connection);
    if (status < 0) {
        usbip_log(usbip_server_log(server), USBIP_LOG_INFO, "a connection was lost at once: %s",
                  uv_strerror(status));
        usbip_server_close_connection(connection);
    }
}

/* ---- Life ---- */

void usbip_server_on_handle_closed(struct usbip_server *server)
{
    if (--server->open_handles > 0)
        return;
    usbip_ring_free(server->ring);
    free(server);
}

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
    usbip_server_on_handle_closed(handle->data);
}

void usbip_server_close(struct usbip_server *server)
{
    if (server->closing)
        return;
    server->closing = true;
    while (server->connections)
        usbip_server_close_connection(server->connections);
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
    usbip_server_format_address(&name, bound);
    return (int)strtol(strrchr(bound, ':') + 1, NULL, 10);
}
