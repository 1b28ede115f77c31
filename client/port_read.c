#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "client/port_internal.h"

size_t usbip_port_bytes_available(const struct usbip_port *port)
{
    return port->received_end - port->received_start;
}

uint8_t *usbip_port_receive_room(struct usbip_port *port, size_t size)
{
    if (size > 0 && usbip_port_bytes_available(port) == 0 && port->reader_room >= size)
        return port->reader;
    if (port->received_end + size > USBIP_RECEIVE_CAPACITY) {
        size_t kept = usbip_port_bytes_available(port);

        memmove(port->received, port->received + port->received_start, kept);
        port->received_start = 0;
        port->received_end = kept;
    }
    return port->received + port->received_end;
}

size_t usbip_port_direct_room(const struct usbip_port *port)
{
    return usbip_port_bytes_available(port) == 0 && port->in_kept == 0 ? port->reader_room : 0;
}

void usbip_port_received(struct usbip_port *port, const uint8_t *room, size_t size)
{
    if (room == port->received + port->received_end) {
        port->received_end += size;
    } else {
        port->reader += size;
        port->reader_room -= size;
    }
}

/* Removes bytes from the front, and lets the device send again if it had to wait for that. */
static void consume(struct usbip_port *port, size_t size)
{
    bool was_full = usbip_port_bytes_available(port) >= USBIP_RECEIVE_BUFFER_SIZE;

    port->received_start += size;
    if (port->received_start == port->received_end) {
        port->received_start = 0; /* the start of the buffer is in the processor's cache */
        port->received_end = 0;
    }
    if (was_full && usbip_port_bytes_available(port) < USBIP_RECEIVE_BUFFER_SIZE)
        usbip_port_process(port);
}

static int take(struct usbip_port *port, void *data, size_t size)
{
    memcpy(data, port->received + port->received_start, size);
    consume(port, size);
    return (int)size;
}

void usbip_port_discard_input(struct usbip_port *port)
{
    usbip_port_process(port);
    consume(port, usbip_port_bytes_available(port));
}

/* Waits, and takes what comes into the reader's own memory as far as it fits. */
static size_t wait_for_bytes(struct usbip_port *port, void *data, size_t size, uint64_t deadline_ms)
{
    size_t got;

    port->reader = data;
    port->reader_room = size;
    usbip_port_wait(port, deadline_ms);
    got = size - port->reader_room;
    port->reader_room = 0;
    return got;
}

int usbip_port_read(struct usbip_port *port, void *data, size_t size, uint32_t timeout_ms)
{
    uint64_t deadline_ms = usbip_port_deadline(timeout_ms);

    if (size == 0)
        return 0;
    if (size > INT_MAX)
        size = INT_MAX;
    for (bool waited = false;; waited = true) {
        size_t available = usbip_port_bytes_available(port), got;

        if (available > 0)
            return take(port, data, size < available ? size : available);
        if (port->state == USBIP_PORT_CLOSED)
            return usbip_port_closed_error(port);
        if (waited && usbip_now_ms() >= deadline_ms)
            return 0;
        got = wait_for_bytes(port, data, size, deadline_ms);
        if (got > 0)
            return (int)got;
    }
}

static int too_late(struct usbip_port *port, const char *what, uint32_t timeout_ms)
{
    bool restoring = port->state == USBIP_PORT_RESTORING;

    return usbip_port_fail(port, USBIP_ERROR_TIMEOUT, "no %s within %u ms, %zu bytes received%s%s",
                           what, (unsigned)timeout_ms, usbip_port_bytes_available(port),
                           restoring ? "; not restored yet after: " : "",
                           restoring ? port->loss_text : "");
}

/* Puts what a reader has got before what is in the buffer: it gave up. */
static void put_back(struct usbip_port *port, const uint8_t *data, size_t size)
{
    if (port->received_start < size) {
        size_t available = usbip_port_bytes_available(port);

        memmove(port->received + size, port->received + port->received_start, available);
        port->received_start = size;
        port->received_end = size + available;
    }
    port->received_start -= size;
    memcpy(port->received + port->received_start, data, size);
}

int usbip_port_read_all(struct usbip_port *port, void *data, size_t size, uint32_t timeout_ms)
{
    uint64_t deadline_ms = usbip_port_deadline(timeout_ms);
    uint8_t *bytes = data;
    size_t got = 0; /* into the reader's memory; what is in the buffer came after that */

    if (size > USBIP_RECEIVE_BUFFER_SIZE)
        return usbip_port_fail(port, USBIP_ERROR_LIMIT,
                               "cannot read %zu bytes at once, the limit is %d", size,
                               USBIP_RECEIVE_BUFFER_SIZE);
    for (bool waited = false;; waited = true) {
        size_t available = usbip_port_bytes_available(port);

        if (available >= size - got) {
            take(port, bytes + got, size - got);
            return (int)size;
        }
        if (port->state == USBIP_PORT_CLOSED) {
            put_back(port, bytes, got);
            return usbip_port_closed_error(port);
        }
        if (waited && usbip_now_ms() >= deadline_ms) {
            char what[64];

            put_back(port, bytes, got);
            snprintf(what, sizeof(what), "%zu bytes", size);
            return too_late(port, what, timeout_ms);
        }
        /* What is there goes first; but who only looks shall not have it moved to and fro. */
        if (available > 0 && timeout_ms > 0)
            got += (size_t)take(port, bytes + got, available);
        got += wait_for_bytes(port, bytes + got, size - got, deadline_ms);
    }
}

/*
 * Looks for the delimiter in the first `limit` bytes. *searched bytes are known not to start one,
 * and more may be known afterwards. Returns the offset of the delimiter, or -1.
 */
static ptrdiff_t find_delimiter(const struct usbip_port *port, size_t limit, size_t *searched)
{
    const uint8_t *bytes = port->received + port->received_start;
    size_t size = usbip_port_bytes_available(port);

    if (size > limit)
        size = limit;
    while (*searched + port->delimiter_size <= size) {
        const uint8_t *first = memchr(bytes + *searched, port->delimiter[0],
                                      size - port->delimiter_size + 1 - *searched);

        if (first == NULL) {
            *searched = size - port->delimiter_size + 1;
            break;
        }
        *searched = (size_t)(first - bytes);
        if (memcmp(first, port->delimiter, port->delimiter_size) == 0)
            return first - bytes;
        ++*searched;
    }
    return -1;
}

/* Waits for a line that, with its delimiter, has at most `limit` bytes. Returns its length without.
 */
static ptrdiff_t wait_for_line(struct usbip_port *port, size_t limit, uint32_t timeout_ms)
{
    uint64_t deadline_ms = usbip_port_deadline(timeout_ms);
    size_t searched = 0;

    if (limit > USBIP_RECEIVE_BUFFER_SIZE)
        limit = USBIP_RECEIVE_BUFFER_SIZE;
    for (bool waited = false;; waited = true) {
        ptrdiff_t length = find_delimiter(port, limit, &searched);

        if (length >= 0)
            return length;
        if (usbip_port_bytes_available(port) >= limit)
            return usbip_port_fail(port, USBIP_ERROR_LIMIT,
                                   "no delimiter within %zu bytes, which is all that was asked for",
                                   limit);
        if (port->state == USBIP_PORT_CLOSED)
            return usbip_port_closed_error(port);
        if (waited && usbip_now_ms() >= deadline_ms)
            return too_late(port, "delimiter", timeout_ms);
        usbip_port_wait(port, deadline_ms);
    }
}

int usbip_port_read_until(struct usbip_port *port, void *data, size_t size, uint32_t timeout_ms)
{
    ptrdiff_t length = wait_for_line(port, size, timeout_ms);

    return length < 0 ? (int)length : take(port, data, (size_t)length + port->delimiter_size);
}

int usbip_port_read_line(struct usbip_port *port, char *line, size_t size, uint32_t timeout_ms)
{
    ptrdiff_t length;

    if (size == 0)
        return usbip_port_fail(port, USBIP_ERROR_ARGUMENT, "a line needs room for its NUL");
    /* The NUL needs the room of a byte, the delimiter none. */
    length = wait_for_line(port, size - 1 + port->delimiter_size, timeout_ms);
    if (length < 0)
        return (int)length;
    memcpy(line, port->received + port->received_start, (size_t)length);
    line[length] = '\0';
    consume(port, (size_t)length + port->delimiter_size);
    return (int)length;
}

unsigned usbip_port_modem_state(struct usbip_port *port)
{
    unsigned state = port->modem_lines | port->modem_events;

    port->modem_events = 0;
    return state;
}
