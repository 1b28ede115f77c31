#include "client/connection.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/socket.h"

enum {
    INPUT_SIZE = 256 * 1024,
    MAX_READS = 16, /* per call, so that a fast server cannot keep the caller here */
    HOST_SIZE = 256,
    PEER_SIZE = HOST_SIZE + sizeof "[]:65535",
    NO_FD = -1,
};

enum state {
    STATE_CONNECTING,
    STATE_ESTABLISHED,
    STATE_CLOSED,
};

struct usbip_connection {
    struct usbip_host_session *session;
    char peer[PEER_SIZE]; /* "host:port", for people */

    enum state state;
    int fd;
    int error;
    char error_text[USBIP_ERROR_TEXT_SIZE];

    struct usbip_socket_addresses *addresses;
    unsigned address_count;
    unsigned next_address;
    uint64_t attempt_deadline_ms; /* of the present address */
    uint64_t connect_deadline_ms; /* of all */
    uint32_t connect_timeout_ms;
    uint64_t now_ms; /* when it was last looked after */

    /* Taken from the session and not sent yet. */
    const struct usbip_output_piece *pieces;
    size_t piece_count;
    size_t sent; /* of the first piece */
    size_t unsent_size;
    uint64_t sent_total;
    size_t unhurried_size; /* bytes that were made while receiving and may wait */

    const struct usbip_tap *tap;
    void *tapped; /* what the tap calls this; NULL: it does not listen */

    uint8_t input[INPUT_SIZE];
};

/* Words that are too long are cut off. */
__attribute__((format(printf, 2, 3))) static void say(char error_text[USBIP_ERROR_TEXT_SIZE],
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, USBIP_ERROR_TEXT_SIZE, format, arguments);
    va_end(arguments);
}

/* ---- Names of servers ---- */

/* Reads a decimal port. Returns it, or 0 when it is none. */
static uint16_t parse_port(const char *text)
{
    unsigned port = 0;
    if (*text == '\0')
        return 0;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        port = port * 10 + (unsigned)(*text - '0');
        if (port > UINT16_MAX)
            return 0;
    }
    return (uint16_t)port;
}

/*
 * Splits "name", "name:port", "[address]", "[address]:port" and, as nobody can mean a port there, a
 * bare IPv6 address. Returns 0 or -1.
 */
static int parse_server(const char *text, char name[HOST_SIZE], uint16_t *port)
{
    const char *start = text;
    size_t size;
    const char *rest;
    if (*text == '[') {
        start = text + 1;
        size = strcspn(start, "]");
        if (start[size] != ']')
            return -1;
        rest = start + size + 1;
    } else {
        const char *colon = strchr(text, ':');
        bool has_port = colon != NULL && strchr(colon + 1, ':') == NULL;
        size = has_port ? (size_t)(colon - text) : strlen(text);
        rest = text + size;
    }
    if (size == 0 || size >= HOST_SIZE)
        return -1;
    memcpy(name, start, size);
    name[size] = '\0';
    if (*rest == '\0') {
        *port = USBIP_PORT;
        return 0;
    }
    *port = *rest == ':' ? parse_port(rest + 1) : 0;
    return *port != 0 ? 0 : -1;
}

int usbip_connection_check_host(const char *host)
{
    char name[HOST_SIZE];
    uint16_t port;
    return parse_server(host, name, &port) == 0 ? 0 : USBIP_ERROR_ARGUMENT;
}

/* ---- The end ---- */

static void close_socket(struct usbip_connection *connection)
{
    if (connection->fd != NO_FD) {
        usbip_socket_close(connection->fd);
        connection->fd = NO_FD;
    }
}

/*
 * Closes, with the session's error if it has one: it may know better than the socket what went
 * wrong. A session whose device list is complete takes no error, and then there is none.
 */
static int end(struct usbip_connection *connection)
{
    connection->state = STATE_CLOSED;
    connection->unsent_size = 0;
    close_socket(connection);
    connection->error = usbip_host_session_error(connection->session);
    if (connection->error != 0) {
        say(connection->error_text, "%s: %s", connection->peer,
            usbip_host_session_error_text(connection->session));
    }
    return connection->error;
}

static int lose(struct usbip_connection *connection, const char *reason)
{
    usbip_host_session_fail(connection->session, USBIP_ERROR_DISCONNECTED, reason);
    return end(connection);
}

/* ---- Connecting ---- */

/*
 * Starts with the next address that can be tried. Each gets an equal share of the time that is
 * left, so one that does not answer takes nothing from those after it. Returns 0, or an error when
 * there is none left; `reason` is then why the last one failed.
 */
static int try_next_address(struct usbip_connection *connection, uint64_t now_ms, char *reason)
{
    close_socket(connection);
    while (connection->next_address < connection->address_count) {
        unsigned left = connection->address_count - connection->next_address;
        uint64_t share_ms = connection->connect_deadline_ms > now_ms
                                ? (connection->connect_deadline_ms - now_ms) / left
                                : 0;
        connection->attempt_deadline_ms = now_ms + share_ms;
        connection->fd =
            usbip_socket_connect(connection->addresses, connection->next_address++, reason);
        if (connection->fd != NO_FD)
            return 0;
    }
    char text[USBIP_ERROR_TEXT_SIZE];
    say(text, "cannot connect: %s; is a USB/IP server running there?", reason);
    usbip_host_session_fail(connection->session, USBIP_ERROR_CONNECT, text);
    return end(connection);
}

/* Returns an error, or 0; then the state tells whether the connection is there. */
static int go_on_connecting(struct usbip_connection *connection, uint64_t now_ms)
{
    char reason[USBIP_SOCKET_REASON_SIZE];
    int result = usbip_socket_is_connected(connection->fd, reason);
    if (result > 0) {
        connection->state = STATE_ESTABLISHED;
        usbip_socket_addresses_free(connection->addresses);
        connection->addresses = NULL;
        return 0;
    }
    if (result == 0) {
        if (now_ms < connection->attempt_deadline_ms)
            return 0;
        snprintf(reason, sizeof reason, "no answer within %u ms",
                 (unsigned)connection->connect_timeout_ms);
    }
    return try_next_address(connection, now_ms, reason);
}

int usbip_connection_start(struct usbip_connection **connection, const char *host,
                           struct usbip_host_session *session, uint32_t connect_timeout_ms,
                           char error_text[USBIP_ERROR_TEXT_SIZE])
{
    *connection = NULL;
    char name[HOST_SIZE];
    uint16_t port;
    int error;
    if (parse_server(host, name, &port) != 0) {
        say(error_text, "\"%s\" names no server: write name, name:port or [IPv6 address]:port",
            host);
        usbip_host_session_free(session);
        return USBIP_ERROR_ARGUMENT;
    }
    struct usbip_connection *result = calloc(1, sizeof *result);
    if (result == NULL) {
        say(error_text, "%s: out of memory", host);
        usbip_host_session_free(session);
        return USBIP_ERROR_MEMORY;
    }
    result->session = session;
    result->fd = NO_FD;
    snprintf(result->peer, sizeof result->peer, strchr(name, ':') != NULL ? "[%s]:%u" : "%s:%u",
             name, (unsigned)port);

    char reason[USBIP_SOCKET_REASON_SIZE];
    if (usbip_socket_resolve(&result->addresses, name, port, reason) != 0) {
        say(error_text, "%s: cannot find the host: %s", result->peer, reason);
        usbip_connection_free(result);
        return USBIP_ERROR_RESOLVE;
    }
    result->address_count = usbip_socket_address_count(result->addresses);
    result->connect_timeout_ms = connect_timeout_ms;
    uint64_t now_ms = result->now_ms = usbip_now_ms();
    result->connect_deadline_ms = now_ms + connect_timeout_ms;
    error = try_next_address(result, now_ms, reason);
    if (error != 0) {
        memcpy(error_text, result->error_text, USBIP_ERROR_TEXT_SIZE);
        usbip_connection_free(result);
        return error;
    }
    *connection = result;
    return 0;
}

void usbip_connection_set_tap(struct usbip_connection *connection, const struct usbip_tap *tap)
{
    connection->tap = tap;
    connection->tapped = tap->opened(tap->context);
}

void usbip_connection_set_unhurried(struct usbip_connection *connection, size_t size)
{
    connection->unhurried_size = size;
}

static void tap_bytes(struct usbip_connection *connection, enum usbip_way way, const uint8_t *data,
                      size_t size)
{
    if (connection->tapped != NULL)
        connection->tap->passed(connection->tapped, way, data, size);
}

void usbip_connection_free(struct usbip_connection *connection)
{
    if (connection == NULL)
        return;
    close_socket(connection);
    if (connection->tapped != NULL)
        connection->tap->closed(connection->tapped);
    usbip_socket_addresses_free(connection->addresses);
    usbip_host_session_free(connection->session);
    free(connection);
}

void usbip_connection_shut_down(struct usbip_connection *connection)
{
    if (connection->fd >= 0)
        usbip_socket_shut_down(connection->fd);
}

/* ---- Running ---- */

/* What a reading filled, in the order in which it came. */
static void tap_input(struct usbip_connection *connection, const struct usbip_input_piece *pieces,
                      size_t size)
{
    for (; connection->tapped != NULL && size > 0; pieces++) {
        size_t part = size < pieces->size ? size : pieces->size;
        tap_bytes(connection, USBIP_TO_CLIENT, pieces->data, part);
        size -= part;
    }
}

/*
 * Waits for the first of what comes, at most until then. Payloads of its first reading go to
 * `memory` as far as they can.
 */
static int receive(struct usbip_connection *connection, uint64_t until_ms, uint8_t *memory,
                   size_t size)
{
    for (int i = 0; i < MAX_READS; i++) {
        char reason[USBIP_SOCKET_REASON_SIZE];
        struct usbip_input_piece pieces[USBIP_LAYOUT_MAX_PIECES];
        size_t piece_count = usbip_host_session_expect(
            connection->session, memory, i == 0 ? size : 0, connection->input, INPUT_SIZE, pieces);
        ptrdiff_t count = usbip_socket_receive(connection->fd, pieces, piece_count,
                                               i == 0 ? until_ms : 0, reason);
        if (i == 0)
            connection->now_ms = usbip_now_ms();
        if (count == USBIP_SOCKET_AGAIN)
            return 0;
        if (count == USBIP_SOCKET_BROKEN) {
            char text[USBIP_ERROR_TEXT_SIZE];
            say(text, "connection lost: %s", reason);
            return lose(connection, text);
        }
        if (count == 0)
            return lose(connection, "the server closed the connection");
        tap_input(connection, pieces, (size_t)count);
        if (usbip_host_session_received(connection->session, (size_t)count) != 0)
            return end(connection);
        if (count < INPUT_SIZE)
            return 0; /* most likely all there is; if not, the descriptor stays readable */
    }
    return 0;
}

static void note_sent(struct usbip_connection *connection, size_t size)
{
    connection->unsent_size -= size;
    connection->sent_total += size;
    while (size > 0) {
        const struct usbip_output_piece *piece = connection->pieces;
        size_t left = piece->size - connection->sent, part = size < left ? size : left;
        tap_bytes(connection, USBIP_TO_SERVER, piece->data + connection->sent, part);
        connection->sent += part;
        size -= part;
        if (connection->sent == piece->size) {
            connection->pieces++;
            connection->piece_count--;
            connection->sent = 0;
        }
    }
}

static int send_output(struct usbip_connection *connection)
{
    for (;;) {
        if (connection->unsent_size == 0) {
            connection->unsent_size = usbip_host_session_take_pieces(
                connection->session, &connection->pieces, &connection->piece_count);
            connection->sent = 0;
            if (connection->unsent_size == 0)
                return 0;
        }
        char reason[USBIP_SOCKET_REASON_SIZE];
        ptrdiff_t count = usbip_socket_send(connection->fd, connection->pieces,
                                            connection->piece_count, connection->sent, reason);
        if (count == USBIP_SOCKET_AGAIN)
            return 0;
        if (count == USBIP_SOCKET_BROKEN) {
            /* What the server said before it went may be there still. */
            receive(connection, 0, NULL, 0);
            if (connection->state == STATE_CLOSED)
                return connection->error;
            char text[USBIP_ERROR_TEXT_SIZE];
            say(text, "connection lost: %s", reason);
            return lose(connection, text);
        }
        note_sent(connection, (size_t)count);
    }
}

/* Connects, receives, for which it waits until then, lets time pass; what is to be sent waits. */
static int take_in(struct usbip_connection *connection, uint64_t until_ms, uint8_t *memory,
                   size_t size)
{
    if (usbip_host_session_error(connection->session) != 0)
        return end(connection); /* its owner has ended it */
    if (connection->state == STATE_CONNECTING) {
        connection->now_ms = usbip_now_ms();
        int error = go_on_connecting(connection, connection->now_ms);
        if (error != 0 || connection->state == STATE_CONNECTING)
            return error;
    }
    receive(connection, until_ms, memory, size);
    if (connection->state == STATE_CLOSED)
        return connection->error;
    if (usbip_host_session_advance(connection->session, connection->now_ms) != 0)
        return end(connection);
    return 0;
}

int usbip_connection_process(struct usbip_connection *connection)
{
    if (connection->state == STATE_CLOSED)
        return connection->error;
    int error = take_in(connection, 0, NULL, 0);
    return error != 0 || connection->state != STATE_ESTABLISHED ? error : send_output(connection);
}

int usbip_connection_flush(struct usbip_connection *connection)
{
    if (connection->state == STATE_CLOSED)
        return connection->error;
    if (usbip_host_session_error(connection->session) != 0)
        return end(connection);
    return connection->state == STATE_ESTABLISHED ? send_output(connection) : 0;
}

int usbip_connection_wait(struct usbip_connection *connection, uint64_t until_ms)
{
    return usbip_connection_wait_for(connection, until_ms, NULL, 0);
}

int usbip_connection_wait_for(struct usbip_connection *connection, uint64_t until_ms,
                              uint8_t *memory, size_t size)
{
    if (connection->state == STATE_CLOSED)
        return connection->error;
    int error = usbip_connection_flush(connection);
    if (connection->state == STATE_CLOSED)
        return error;
    uint64_t deadline_ms = usbip_connection_deadline_ms(connection);
    if (until_ms < deadline_ms)
        deadline_ms = until_ms;
    int events = usbip_connection_events(connection);
    if (events != USBIP_EVENT_READ) {
        usbip_socket_wait(connection->fd, events, deadline_ms);
        deadline_ms = 0;
    }
    error = take_in(connection, deadline_ms, memory, size);
    if (error != 0 || connection->state != STATE_ESTABLISHED ||
        usbip_host_session_output_size(connection->session) <= connection->unhurried_size)
        return error;
    return send_output(connection);
}

/* ---- Questions ---- */

uint64_t usbip_connection_now_ms(const struct usbip_connection *connection)
{
    return connection->now_ms;
}

uint64_t usbip_connection_sent(const struct usbip_connection *connection)
{
    return connection->sent_total;
}

uint64_t usbip_connection_sent_later(const struct usbip_connection *connection)
{
    return connection->sent_total + connection->unsent_size +
           usbip_host_session_output_size(connection->session);
}

int usbip_connection_fd(const struct usbip_connection *connection)
{
    return connection->fd;
}

int usbip_connection_events(const struct usbip_connection *connection)
{
    switch (connection->state) {
    case STATE_CONNECTING:
        return USBIP_EVENT_WRITE;
    case STATE_ESTABLISHED:
        if (connection->unsent_size > 0 || usbip_host_session_output_size(connection->session) > 0)
            return USBIP_EVENT_READ | USBIP_EVENT_WRITE;
        return USBIP_EVENT_READ;
    case STATE_CLOSED:
        break;
    }
    return 0;
}

uint64_t usbip_connection_deadline_ms(const struct usbip_connection *connection)
{
    switch (connection->state) {
    case STATE_CONNECTING:
        return connection->attempt_deadline_ms;
    case STATE_ESTABLISHED:
        return usbip_host_session_deadline_ms(connection->session);
    case STATE_CLOSED:
        break;
    }
    return UINT64_MAX;
}

struct usbip_host_session *usbip_connection_session(const struct usbip_connection *connection)
{
    return connection->session;
}

const char *usbip_connection_error_text(const struct usbip_connection *connection)
{
    return connection->error_text;
}
