#include "capture/relay.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

/* One of the two sockets of a link. */
struct side {
    uv_tcp_t socket;
    struct link *link;
    struct side *peer;
    enum usbip_way way; /* of what is read here */
    bool open;          /* the handle is */
    bool reading;
    bool ended; /* nothing more comes from here */
    bool shut;  /* nothing more goes there, and that has been sent */
    uv_shutdown_t shutdown;
};

struct link {
    struct usbip_relay *relay;
    struct link *next, *previous;
    struct side client, server;
    const struct addrinfo *address; /* of the server, to be tried next */
    int error;                      /* of the last one */
    uv_connect_t connect;
    void *tapped;
    bool closing;
};

/* What a socket did not take at once. */
struct unsent {
    uv_write_t request;
    char data[];
};

struct usbip_relay {
    uv_loop_t *loop;
    struct usbip_relay_options options;
    uv_tcp_t listener;
    uv_getaddrinfo_t upstream; /* done; it keeps the addresses */
    struct link *links;
    unsigned open_handles;
    bool closing;
    char read_buffer[USBIP_RELAY_READ_SIZE];
};

__attribute__((format(printf, 2, 3))) static void report(const struct usbip_relay *relay,
                                                         const char *format, ...)
{
    char line[USBIP_RELAY_ERROR_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    relay->options.report(relay->options.context, line);
}

/* ---- The ends of links ---- */

static void on_handle_closed(struct usbip_relay *relay)
{
    if (--relay->open_handles > 0)
        return;
    uv_freeaddrinfo(relay->upstream.addrinfo);
    free(relay);
}

static void connect_server(struct link *link);

static void on_side_closed(uv_handle_t *handle)
{
    struct side *side = handle->data;
    struct link *link = side->link;
    struct usbip_relay *relay = link->relay;
    side->open = false;
    if (!link->closing)
        connect_server(link); /* it was an address that did not answer */
    else if (!link->client.open && !link->server.open)
        free(link);
    on_handle_closed(relay);
}

static void close_side(struct side *side, bool reset)
{
    if (!side->open || uv_is_closing((uv_handle_t *)&side->socket))
        return;
    if (!reset || uv_tcp_close_reset(&side->socket, on_side_closed) < 0)
        uv_close((uv_handle_t *)&side->socket, on_side_closed);
}

/* Reset: who is still there sees that this is no orderly end. */
static void close_link(struct link *link, bool reset)
{
    struct usbip_relay *relay = link->relay;
    if (link->closing)
        return;
    link->closing = true;
    if (link->previous)
        link->previous->next = link->next;
    else
        relay->links = link->next;
    if (link->next)
        link->next->previous = link->previous;
    close_side(&link->client, reset);
    close_side(&link->server, reset);
    if (link->tapped)
        relay->options.tap->closed(link->tapped);
}

/* ---- Bytes ---- */

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    const struct side *side = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(side->link->relay->read_buffer, USBIP_RELAY_READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer);

static void update_reading(struct side *side)
{
    uv_stream_t *stream = (uv_stream_t *)&side->socket;
    bool wants = !side->ended && uv_stream_get_write_queue_size(
                                     (uv_stream_t *)&side->peer->socket) <= USBIP_RELAY_MAX_UNSENT;
    if (wants == side->reading)
        return;
    side->reading = wants && uv_read_start(stream, on_allocate, on_read) == 0;
    if (!wants)
        uv_read_stop(stream);
}

static void on_written(uv_write_t *request, int status)
{
    struct side *side = request->handle->data;
    free(request->data);
    if (side->link->closing)
        return;
    if (status < 0)
        close_link(side->link, true);
    else
        update_reading(side->peer);
}

/* Returns 0 or a libuv error. */
static int send_bytes(struct side *side, const char *data, size_t size)
{
    uv_stream_t *stream = (uv_stream_t *)&side->socket;
    uv_buf_t buffer = uv_buf_init((char *)data, (unsigned)size);
    int sent = uv_try_write(stream, &buffer, 1);
    if (sent < 0 && sent != UV_EAGAIN)
        return sent;
    size_t left = size - (sent > 0 ? (size_t)sent : 0);
    if (left == 0)
        return 0;
    struct unsent *unsent = malloc(sizeof *unsent + left);
    if (!unsent)
        return UV_ENOMEM;
    memcpy(unsent->data, data + (size - left), left);
    unsent->request.data = unsent;
    buffer = uv_buf_init(unsent->data, (unsigned)left);
    int status = uv_write(&unsent->request, stream, &buffer, 1, on_written);
    if (status < 0)
        free(unsent);
    return status;
}

static void on_shut_down(uv_shutdown_t *request, int status)
{
    struct side *side = request->handle->data;
    struct link *link = side->link;
    if (link->closing)
        return;
    side->shut = true;
    if (status < 0)
        close_link(link, true);
    else if (side->peer->shut)
        close_link(link, false);
}

static void on_end(struct side *side)
{
    side->ended = true;
    update_reading(side);
    int status =
        uv_shutdown(&side->peer->shutdown, (uv_stream_t *)&side->peer->socket, on_shut_down);
    if (status < 0)
        close_link(side->link, true);
}

/* The peer gets the bytes first: a recording must not make him wait. */
static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct side *side = stream->data;
    struct link *link = side->link;
    if (size == 0)
        return;
    if (size == UV_EOF) {
        on_end(side);
        return;
    }
    int status = size < 0 ? (int)size : send_bytes(side->peer, buffer->base, (size_t)size);
    if (size > 0 && link->tapped)
        link->relay->options.tap->passed(link->tapped, side->way, (const uint8_t *)buffer->base,
                                         (size_t)size);
    if (status < 0)
        close_link(link, true);
    else
        update_reading(side);
}

/* ---- Beginnings of links ---- */

static void tune(uv_tcp_t *socket)
{
    /* Without these it works too, only slower or longer. */
    uv_tcp_nodelay(socket, 1);
    uv_tcp_keepalive(socket, 1, USBIP_RELAY_KEEPALIVE_S);
}

static int open_side(struct link *link, struct side *side)
{
    int status = uv_tcp_init(link->relay->loop, &side->socket);
    if (status < 0)
        return status;
    side->socket.data = side;
    side->open = true;
    link->relay->open_handles++;
    return 0;
}

static void on_connected(uv_connect_t *request, int status)
{
    struct link *link = request->data;
    if (link->closing)
        return;
    if (status < 0) {
        link->error = status;
        close_side(&link->server, false); /* and then the next address */
        return;
    }
    tune(&link->server.socket);
    update_reading(&link->client);
    update_reading(&link->server);
}

static void connect_server(struct link *link)
{
    const struct addrinfo *address = link->address;
    if (!address) {
        report(link->relay, "cannot connect to %s: %s; is a USB/IP server running there?",
               link->relay->options.upstream, uv_strerror(link->error));
        close_link(link, true);
        return;
    }
    link->address = address->ai_next;
    link->error = open_side(link, &link->server);
    if (link->error < 0) {
        link->address = NULL;
        connect_server(link);
        return;
    }
    link->connect.data = link;
    int status =
        uv_tcp_connect(&link->connect, &link->server.socket, address->ai_addr, on_connected);
    if (status < 0) {
        link->error = status;
        close_side(&link->server, false);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct usbip_relay *relay = listener->data;
    struct link *link = status == 0 ? calloc(1, sizeof *link) : NULL;
    if (status == 0 && !link)
        status = UV_ENOMEM;
    if (link) {
        link->relay = relay;
        link->client = (struct side){.link = link, .peer = &link->server, .way = USBIP_TO_SERVER};
        link->server = (struct side){.link = link, .peer = &link->client, .way = USBIP_TO_CLIENT};
        status = open_side(link, &link->client);
    }
    if (status < 0) {
        free(link);
        report(relay, "a connection could not be accepted: %s", uv_strerror(status));
        return;
    }
    link->next = relay->links;
    if (link->next)
        link->next->previous = link;
    relay->links = link;
    status = uv_accept(listener, (uv_stream_t *)&link->client.socket);
    if (status < 0) {
        report(relay, "a connection was lost at once: %s", uv_strerror(status));
        close_link(link, true);
        return;
    }
    tune(&link->client.socket);
    link->tapped = relay->options.tap->opened(relay->options.tap->context);
    link->address = relay->upstream.addrinfo;
    connect_server(link);
}

/* ---- Life ---- */

/* Looks an address up. Returns 0 or a libuv error. */
static int look_up(uv_loop_t *loop, const char *address, int flags, uv_getaddrinfo_t *result)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};
    char host[USBIP_HOST_SIZE];
    const char *port;
    if (!usbip_split_address(address, host, &port))
        return UV_EINVAL;
    return uv_getaddrinfo(loop, result, NULL, host, port, &hints);
}

static int listen_on(struct usbip_relay *relay, char bound[USBIP_RELAY_ADDRESS_SIZE])
{
    uv_getaddrinfo_t found;
    struct sockaddr_storage name = {0};
    int size = sizeof name;
    int status = look_up(relay->loop, relay->options.listen, AI_PASSIVE, &found);
    if (status < 0)
        return status;
    status = uv_tcp_bind(&relay->listener, found.addrinfo->ai_addr, 0);
    uv_freeaddrinfo(found.addrinfo);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&relay->listener, USBIP_RELAY_BACKLOG, on_connection);
    if (status == 0)
        status = uv_tcp_getsockname(&relay->listener, (struct sockaddr *)&name, &size);
    if (status < 0)
        return status;
    /* An IPv6 address has its port where an IPv4 address has it. */
    const struct sockaddr_in *ip = (const struct sockaddr_in *)&name;
    const char *colon = strrchr(relay->options.listen, ':');
    snprintf(bound, USBIP_RELAY_ADDRESS_SIZE, "%.*s:%u", (int)(colon - relay->options.listen),
             relay->options.listen, ntohs(ip->sin_port));
    return 0;
}

static void on_listener_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

struct usbip_relay *usbip_relay_new(struct uv_loop_s *loop,
                                    const struct usbip_relay_options *options,
                                    char bound[USBIP_RELAY_ADDRESS_SIZE],
                                    char error_text[USBIP_RELAY_ERROR_SIZE])
{
    struct usbip_relay *relay = calloc(1, sizeof *relay);
    int status = relay ? uv_tcp_init(loop, &relay->listener) : UV_ENOMEM;
    if (status < 0) {
        snprintf(error_text, USBIP_RELAY_ERROR_SIZE, "%s", uv_strerror(status));
        free(relay);
        return NULL;
    }
    relay->loop = loop;
    relay->options = *options;
    relay->listener.data = relay;
    relay->open_handles = 1;
    status = look_up(loop, options->upstream, 0, &relay->upstream);
    if (status < 0) {
        snprintf(error_text, USBIP_RELAY_ERROR_SIZE, "cannot find the server %s: %s",
                 options->upstream, uv_strerror(status));
    } else if ((status = listen_on(relay, bound)) < 0) {
        snprintf(error_text, USBIP_RELAY_ERROR_SIZE,
                 "cannot listen on %s: %s; choose another address, or port 0 for a free one",
                 options->listen, uv_strerror(status));
    }
    if (status < 0) {
        usbip_relay_close(relay);
        return NULL;
    }
    return relay;
}

void usbip_relay_close(struct usbip_relay *relay)
{
    if (relay->closing)
        return;
    relay->closing = true;
    while (relay->links)
        close_link(relay->links, false);
    uv_close((uv_handle_t *)&relay->listener, on_listener_closed);
}
