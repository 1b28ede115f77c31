#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "client/port_internal.h"

enum {
    FAST_MS = 250, /* in which all that is under way is taken, or it is not made more */
    FRESH_MS = 10, /* how long the last look for answers is good enough */
};

static void submit_out(struct usbip_port *port, struct usbip_out_transfer *out);

static struct usbip_out_transfer *out_at(struct usbip_port *port, unsigned index)
{
    return port->out_order[(port->out_head + index) % USBIP_MAX_OUT_TRANSFERS];
}

/* The one that was used last: its buffer is nearest to the processor. */
static struct usbip_out_transfer *append_out(struct usbip_port *port, uint32_t size)
{
    struct usbip_out_transfer *out = port->out_free[--port->out_free_count];

    out->size = size;
    port->out_bytes += size;
    out->under_way = port->out_bytes;
    port->out_order[(port->out_head + port->out_count++) % USBIP_MAX_OUT_TRANSFERS] = out;
    return out;
}

static void remove_first(struct usbip_port *port)
{
    port->out_bytes -= out_at(port, 0)->size;
    port->out_free[port->out_free_count++] = out_at(port, 0);
    port->out_head = (port->out_head + 1) % USBIP_MAX_OUT_TRANSFERS;
    port->out_count--;
}

static void drop_all(struct usbip_port *port)
{
    for (unsigned i = 0; i < USBIP_MAX_OUT_TRANSFERS; i++)
        port->out_free[i] = &port->out[i];
    port->out_free_count = USBIP_MAX_OUT_TRANSFERS;
    port->out_head = 0;
    port->out_count = 0;
    port->out_bytes = 0;
    port->out_in_flight = 0;
    port->out_recovering = false;
}

static void write_failed(struct usbip_port *port, int error, const char *text)
{
    port->write_error = error;
    snprintf(port->write_error_text, sizeof(port->write_error_text), "%s", text);
    drop_all(port);
}

/* ---- Recovery ---- */

static void resubmit(struct usbip_port *port)
{
    port->out_recovering = false;
    for (unsigned i = 0; i < port->out_count && port->trouble == 0; i++) {
        struct usbip_out_transfer *out = out_at(port, i);

        out->transfer.buffer += out->transfer.actual_length;
        out->transfer.length -= out->transfer.actual_length;
        submit_out(port, out);
    }
}

static void out_halt_cleared(struct usbip_port *port, int result, const uint8_t *data,
                             uint32_t size)
{
    (void)data;
    (void)size;
    if (port->state == USBIP_PORT_CLOSING)
        return;
    if (result < 0)
        write_failed(port, result, "the device stalls the data and cannot be made to go on");
    else
        resubmit(port);
}

/*
 * No transfer is in flight, and the first one was not accepted wholly. What is left of it may be
 * sent again only if nothing behind it was accepted, or the bytes would come in another order.
 */
static void recover(struct usbip_port *port)
{
    const struct usbip_transfer *first = &out_at(port, 0)->transfer;
    char text[USBIP_ERROR_TEXT_SIZE];
    bool in_order = true, stalled = false;

    if (usbip_status_is_gone(first->status)) {
        usbip_port_trouble(port, USBIP_ERROR_DISCONNECTED, true, "the device is gone");
        return;
    }
    for (unsigned i = 0; i < port->out_count; i++) {
        const struct usbip_transfer *transfer = &out_at(port, i)->transfer;

        in_order = in_order && (i == 0 || transfer->actual_length == 0);
        stalled = stalled || transfer->status == -USBIP_EPIPE;
    }
    if (first->actual_length > 0)
        port->out_failures = 0;
    if (!in_order || ++port->out_failures > USBIP_MAX_RETRIES) {
        snprintf(text, sizeof(text), "endpoint 0x%02x accepted %u of %u bytes: %s (%s)%s",
                 first->endpoint, (unsigned)first->actual_length, (unsigned)first->length,
                 usbip_status_name(first->status), usbip_status_text(first->status),
                 in_order ? ", again and again" : ", and then later ones: bytes are lost");
        if (stalled)
            usbip_port_clear_halt(port, first->endpoint, NULL);
        write_failed(port, first->status == -USBIP_EPIPE ? USBIP_ERROR_STALL : USBIP_ERROR_TRANSFER,
                     text);
        return;
    }
    port->out_recovering = true;
    if (stalled)
        usbip_port_clear_halt(port, first->endpoint, out_halt_cleared);
    else
        resubmit(port);
}

/* ---- Transfers ---- */

/*
 * A device that takes all there may be within a short time may be given more at once, where that
 * is little or the way to it is long; where the way turns out to be short, less again, but in
 * larger transfers. A slow one may not: what waits for it is what closing, or a time-out, has to
 * give up.
 */
static void adapt_depth(struct usbip_port *port, const struct usbip_out_transfer *out)
{
    uint64_t took_ms = usbip_connection_now_ms(port->connection) - out->submitted_ms;
    bool is_near = took_ms < USBIP_LONG_TRIP_MS;
    uint32_t length = out->size < port->out_size ? out->size : port->out_size;
    uint32_t all = port->out_depth * length;

    /* Who takes a little at once may still take long for all there may be. */
    port->out_fast = is_near && (port->out_fast || out->under_way >= USBIP_NEAR_WINDOW);
    if (is_near && all - length >= USBIP_NEAR_WINDOW && port->out_depth > USBIP_MIN_OUT_TRANSFERS)
        port->out_depth--;
    else if (port->out_limited && port->out_depth < USBIP_MAX_OUT_TRANSFERS && took_ms < FAST_MS &&
             (!is_near || all < USBIP_NEAR_WINDOW))
        port->out_depth++;
}

static void out_done(struct usbip_transfer *transfer)
{
    struct usbip_port *port = transfer->user;
    struct usbip_out_transfer *out = (struct usbip_out_transfer *)transfer;
    bool whole = transfer->status == 0 && transfer->actual_length == transfer->length;

    out->state = whole ? USBIP_OUT_DONE : USBIP_OUT_INCOMPLETE;
    if (port->dropping || port->state == USBIP_PORT_CLOSING)
        return;
    if (out->end > port->out_ended)
        port->out_ended = out->end;
    if (whole)
        adapt_depth(port, out);
    port->out_in_flight--;
    while (port->out_count > 0 && out_at(port, 0)->state == USBIP_OUT_DONE) {
        remove_first(port);
        port->out_failures = 0;
    }
    if (port->out_count > 0 && port->out_in_flight == 0)
        recover(port);
}

static void submit_out(struct usbip_port *port, struct usbip_out_transfer *out)
{
    uint64_t now_ms = usbip_connection_now_ms(port->connection);

    out->transfer.actual_length = 0;
    out->submitted_ms = now_ms;
    if (usbip_host_session_submit(port->session, &out->transfer, now_ms) < 0) {
        usbip_port_trouble(port, USBIP_ERROR_DISCONNECTED, true, "cannot submit an OUT transfer");
        return;
    }
    out->end = usbip_connection_sent_later(port->connection);
    out->state = USBIP_OUT_FLIGHT;
    port->out_in_flight++;
}

void usbip_port_out_start(struct usbip_port *port)
{
    uint32_t packet_size = port->chip.bulk_out_packet_size;

    drop_all(port);
    port->out_size = USBIP_DATA_TRANSFER_SIZE / packet_size * packet_size;
    port->out_fast_size = USBIP_FAST_TRANSFER_SIZE / packet_size * packet_size;
    port->out_fast = false;
    port->out_failures = 0;
    port->out_depth = USBIP_MIN_OUT_TRANSFERS;
    port->out_limited = false;
}

void usbip_port_out_reset(struct usbip_port *port)
{
    port->out_ended = 0;
    if (port->out_count > 0 && port->state != USBIP_PORT_CLOSING)
        write_failed(port, USBIP_ERROR_DISCONNECTED,
                     "the connection was lost before the device confirmed what was written");
    else
        drop_all(port);
}

void usbip_port_out_unlink(struct usbip_port *port, uint64_t now_ms)
{
    for (unsigned i = 0; i < port->out_count; i++) {
        if (out_at(port, i)->state == USBIP_OUT_FLIGHT)
            usbip_host_session_unlink(port->session, &out_at(port, i)->transfer, now_ms);
    }
}

/* ---- Writing ---- */

static bool is_ended_sent(const struct usbip_port *port)
{
    return port->connection == NULL || usbip_connection_sent(port->connection) >= port->out_ended;
}

/*
 * A server may answer a transfer before it has been sent, and its buffer is in use until then. That
 * no answer tells, so it is tried here and not only while waiting for one.
 */
static bool send_ended(struct usbip_port *port)
{
    if (!is_ended_sent(port))
        usbip_port_turn(port, usbip_connection_flush(port->connection));
    return is_ended_sent(port);
}

/* How many bytes may be under way. */
static uint32_t out_window(const struct usbip_port *port)
{
    return port->out_depth * port->out_size;
}

static bool has_room(struct usbip_port *port)
{
    return send_ended(port) && port->state == USBIP_PORT_OPEN && port->trouble == 0 &&
           !port->out_recovering && port->out_count < port->out_depth &&
           port->out_bytes < out_window(port) &&
           usbip_host_session_output_size(port->session) < USBIP_SEND_BUFFER_LIMIT;
}

/* How much of so many bytes the next transfer takes. */
static uint32_t part_of(const struct usbip_port *port, size_t size)
{
    bool fast = port->out_fast && port->out_bytes + port->out_fast_size <= out_window(port);
    uint32_t most = fast ? port->out_fast_size : port->out_size;

    return size < most ? (uint32_t)size : most;
}

/* Returns the number of bytes taken. */
static size_t give(struct usbip_port *port, const uint8_t *data, size_t size)
{
    size_t given = 0;

    while (given < size && has_room(port)) {
        uint32_t part = part_of(port, size - given);
        struct usbip_out_transfer *out = append_out(port, part);

        memcpy(out->buffer, data + given, part);
        out->transfer = (struct usbip_transfer){
            .endpoint = port->chip.bulk_out,
            .type = port->chip.data_type,
            .buffer = out->buffer,
            .length = part,
            .in_place = true,
            .interval = port->chip.data_interval,
            .done = out_done,
            .user = port,
        };
        submit_out(port, out);
        given += part;
    }
    port->out_limited = given < size;
    return given;
}

/* Tells, once, what has become of earlier writes. Returns 0 or the error. */
static int take_write_error(struct usbip_port *port)
{
    int error = port->write_error;

    if (error == 0)
        return 0;
    port->write_error = 0;
    return usbip_port_fail(port, error, "%s", port->write_error_text);
}

static int write_too_late(struct usbip_port *port, uint32_t timeout_ms)
{
    bool restoring = port->state == USBIP_PORT_RESTORING;

    return usbip_port_fail(port, USBIP_ERROR_TIMEOUT,
                           "the device did not accept all data within %u ms%s%s",
                           (unsigned)timeout_ms, restoring ? "; not restored yet after: " : "",
                           restoring ? port->loss_text : "");
}

/* Of a caller that writes much, every write need not look for answers, too. */
static void send_given(struct usbip_port *port)
{
    if (port->connection == NULL ||
        usbip_now_ms() - usbip_connection_now_ms(port->connection) >= FRESH_MS)
        usbip_port_process(port);
    else
        usbip_port_turn(port, usbip_connection_flush(port->connection));
}

int usbip_port_write(struct usbip_port *port, const void *data, size_t size, uint32_t timeout_ms)
{
    uint64_t deadline_ms = usbip_port_deadline(timeout_ms);

    if (size > INT_MAX)
        size = INT_MAX;
    for (bool waited = false;; waited = true) {
        size_t given;
        int error = take_write_error(port);

        if (error < 0)
            return error;
        if (port->state == USBIP_PORT_CLOSED)
            return usbip_port_closed_error(port);
        given = give(port, data, size);
        if (given > 0)
            send_given(port);
        if (given > 0 || size == 0 || (waited && usbip_now_ms() >= deadline_ms))
            return (int)given;
        usbip_port_wait(port, deadline_ms);
    }
}

int usbip_port_write_all(struct usbip_port *port, const void *data, size_t size,
                         uint32_t timeout_ms)
{
    const uint8_t *bytes = data;
    size_t given = 0;
    uint64_t deadline_ms = usbip_port_deadline(timeout_ms);

    if (size > INT_MAX)
        return usbip_port_fail(port, USBIP_ERROR_LIMIT,
                               "cannot write %zu bytes at once, the limit "
                               "is %d",
                               size, INT_MAX);
    for (bool waited = false;; waited = true) {
        int error = take_write_error(port);

        if (error < 0)
            return error;
        if (port->state == USBIP_PORT_CLOSED)
            return usbip_port_closed_error(port);
        given += give(port, bytes + given, size - given);
        if (given == size && port->out_count == 0 && send_ended(port))
            return (int)size;
        if (waited && usbip_now_ms() >= deadline_ms)
            return write_too_late(port, timeout_ms);
        usbip_port_wait(port, deadline_ms);
    }
}

int usbip_port_drain(struct usbip_port *port, uint32_t timeout_ms)
{
    return usbip_port_write_all(port, NULL, 0, timeout_ms);
}
