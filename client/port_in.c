#include <stdlib.h>
#include <string.h>

#include "client/port_internal.h"

#include "protocol/cdc.h"

enum {
    EMPTIES_BEFORE_BACK_OFF = 4,
    MIN_BACK_OFF_MS = 1,
    MAX_BACK_OFF_MS = 4, /* what a byte may be late because of it */

    MAX_PACKETS = 64,     /* of one transfer that is not a fast one */
    STREAM_PACKETS = 128, /* full ones, without a pause, are a stream */
    MAX_PROBES = 16,      /* transfers of two packets under way in a stream */
    SILENCE_MS = 500,     /* longer than a round trip: the device had nothing to say */
    /* Fast transfers under way where round trips are short. */
    FAST_DEPTH = 2 * USBIP_NEAR_WINDOW / USBIP_FAST_TRANSFER_SIZE + 1,
};

/* ---- Back-off ---- */

static void note_data(struct usbip_back_off *back_off)
{
    *back_off = (struct usbip_back_off){.delay_ms = MIN_BACK_OFF_MS};
}

/* A transfer that is done without data. */
static void note_empty(struct usbip_back_off *back_off, uint64_t now_ms)
{
    if (++back_off->empties <= EMPTIES_BEFORE_BACK_OFF || now_ms < back_off->resume_ms)
        return;
    /* One more, for up to a millisecond of the present one has passed already. */
    back_off->resume_ms = now_ms + back_off->delay_ms + 1;
    if (back_off->delay_ms < MAX_BACK_OFF_MS)
        back_off->delay_ms *= 2;
}

/* ---- IN transfers ---- */

static void told_modem(struct usbip_port *port, unsigned modem)
{
    port->modem_lines = modem & USBIP_MODEM_LINES;
    port->modem_events |= modem & ~(unsigned)USBIP_MODEM_LINES;
}

static bool may_submit(const struct usbip_port *port)
{
    return port->in_running && port->trouble == 0 && port->state != USBIP_PORT_CLOSING;
}

/* Polling interval as Linux expects it: frames, from high speed on microframes (table 9-13). */
static uint32_t interval_of(const struct usbip_port *port, uint8_t bInterval)
{
    enum { MAX_EXPONENT = 16 };
    unsigned exponent = bInterval < MAX_EXPONENT ? bInterval : MAX_EXPONENT;

    if (port->record.speed < USBIP_SPEED_HIGH || exponent == 0)
        return bInterval > 0 ? bInterval : 1;
    return 1u << (exponent - 1);
}

static void in_done(struct usbip_transfer *transfer);

/*
 * What the next transfer asks for. A transfer of one packet ends with that packet, whatever
 * follows. A longer one costs less for each byte, but may wait for good when a device forgets to
 * end its data: it is for devices that were seen not to. To see that in a stream takes transfers of
 * two packets, of which there are never more under way than Linux's cdc-acm always has.
 */
static unsigned packets_of_next(const struct usbip_port *port)
{
    unsigned most = USBIP_DATA_TRANSFER_SIZE / port->chip.bulk_in_packet_size;

    if (port->in_fast)
        return USBIP_FAST_TRANSFER_SIZE / port->chip.bulk_in_packet_size;
    if (port->in_ending == USBIP_IN_ENDS)
        return most < MAX_PACKETS ? most : MAX_PACKETS;
    return port->in_ending == USBIP_IN_UNKNOWN && port->in_stream_packets >= STREAM_PACKETS &&
                   port->in_probes < MAX_PROBES && most > 1
               ? 2
               : 1;
}

static uint32_t size_of_next(const struct usbip_port *port)
{
    return packets_of_next(port) * port->chip.bulk_in_packet_size;
}

static struct usbip_in_transfer *in_at(struct usbip_port *port, unsigned index)
{
    return &port->in[(port->in_head + index) % USBIP_MAX_IN_TRANSFERS];
}

static bool is_probe(const struct usbip_port *port, const struct usbip_transfer *transfer)
{
    return transfer->length == 2u * port->chip.bulk_in_packet_size;
}

static void submit_in(struct usbip_port *port, uint64_t now_ms)
{
    if (!may_submit(port) || port->in_halted || now_ms < port->in_back_off.resume_ms)
        return;
    while (port->in_count < port->in_depth &&
           usbip_port_bytes_available(port) < USBIP_RECEIVE_BUFFER_SIZE) {
        struct usbip_in_transfer *in = in_at(port, port->in_count);
        uint32_t length = size_of_next(port);

        if (port->in_bytes + length > USBIP_IN_WINDOW)
            return;
        in->transfer = (struct usbip_transfer){
            .endpoint = port->chip.bulk_in,
            .type = port->chip.data_type,
            .length = length,
            .in_place = true,
            .interval = interval_of(port, port->chip.data_interval),
            .done = in_done,
            .user = port,
        };
        if (usbip_host_session_submit(port->session, &in->transfer, now_ms) < 0) {
            usbip_port_trouble(port, USBIP_ERROR_DISCONNECTED, true,
                               "cannot submit an IN transfer");
            return;
        }
        in->state = USBIP_IN_FLIGHT;
        in->generation = port->in_generation;
        in->submitted_ms = now_ms;
        port->in_count++;
        port->in_bytes += length;
        port->in_probes += is_probe(port, &in->transfer);
    }
}

/* While half of them are with the server, the others need no call of their own to get there. */
static void set_depth(struct usbip_port *port, unsigned depth)
{
    port->in_depth = depth;
    usbip_connection_set_unhurried(port->connection, depth / 2 * USBIP_HEADER_SIZE);
}

/*
 * Whether full transfers came fast, counted from when the first of them was asked for: then what
 * has waited for a reader who was late is not taken for it, nor a burst at the end of a long way.
 */
static bool is_fast(const struct usbip_port *port, uint64_t now_ms)
{
    return port->in_ending == USBIP_IN_ENDS && port->in_run_bytes >= USBIP_NEAR_WINDOW &&
           port->in_run_bytes >= (now_ms - port->in_run_ms) * USBIP_FAST_TRANSFER_SIZE;
}

/*
 * Transfers that come full, one after the other, could have been more. Where they come at once,
 * twice USBIP_NEAR_WINDOW is enough, for half of them may be on their way back to the server; more
 * only has to be fetched from farther away in memory. But they may be larger then.
 */
static void adapt_depth(struct usbip_port *port, const struct usbip_in_transfer *in,
                        uint64_t now_ms)
{
    uint32_t length = in->transfer.length;
    bool full = in->transfer.actual_length == length;
    bool is_near = now_ms - in->submitted_ms < USBIP_LONG_TRIP_MS;
    bool enough = is_near && port->in_bytes >= 2 * USBIP_NEAR_WINDOW;

    /* What was asked for before transfers became larger tells nothing of these. */
    if (!full || (port->in_fast && length != size_of_next(port))) {
        port->in_full_run = 0;
        return;
    }
    if (port->in_full_run == 0) {
        port->in_run_ms = in->submitted_ms;
        port->in_run_bytes = 0;
    }
    port->in_run_bytes += length;
    if (++port->in_full_run < port->in_depth)
        return;
    port->in_full_run = 0;
    if (is_fast(port, now_ms)) {
        port->in_fast = true;
        set_depth(port, is_near ? FAST_DEPTH : 2 * FAST_DEPTH);
    } else if (port->in_depth < USBIP_MAX_IN_TRANSFERS && !enough) {
        port->in_fast = false;
        set_depth(port, 2 * port->in_depth);
    }
}

/* What the end of a transfer tells of how the device ends its data. */
static void learn_ending(struct usbip_port *port, const struct usbip_transfer *transfer,
                         uint64_t now_ms)
{
    uint32_t size = transfer->actual_length, packet_size = port->chip.bulk_in_packet_size;
    bool full = size == transfer->length, paused = now_ms - port->in_last_ms >= SILENCE_MS;

    if (size % packet_size == 0 && !full && (size > 0 || (port->in_last_full && !paused)))
        port->in_ending = USBIP_IN_ENDS; /* nothing but an empty packet does that */
    else if (paused && port->in_last_full && port->in_ending == USBIP_IN_UNKNOWN)
        port->in_ending = USBIP_IN_FORGETS;
    if (paused || !full)
        port->in_stream_packets = 0;
    if (size == 0)
        return;
    port->in_stream_packets += size / packet_size;
    port->in_last_full = full;
    port->in_last_ms = now_ms;
}

static void in_halt_cleared(struct usbip_port *port, int result, const uint8_t *data, uint32_t size)
{
    (void)data;
    (void)size;
    if (result < 0) {
        usbip_port_trouble(port, result, false, "the halt of endpoint 0x%02x cannot be cleared",
                           port->chip.bulk_in);
        return;
    }
    port->in_halted = false;
    port->in_generation++;
    submit_in(port, usbip_connection_now_ms(port->connection));
}

/*
 * One event fails all the transfers in flight; only the first of them counts, which is what the
 * generation is for.
 */
static void in_failed(struct usbip_port *port, const struct usbip_in_transfer *in)
{
    int32_t status = in->transfer.status;
    uint8_t endpoint = in->transfer.endpoint;

    if (usbip_status_is_gone(status)) {
        usbip_port_trouble(port, USBIP_ERROR_DISCONNECTED, true, "the device is gone");
        return;
    }
    if (port->state == USBIP_PORT_CLOSING || in->generation != port->in_generation ||
        port->in_halted)
        return;
    if (++port->in_failures > USBIP_MAX_RETRIES) {
        bool stalled = status == -USBIP_EPIPE;

        /* A device that is being pulled out answers like this before the server notices. */
        usbip_port_trouble(port, stalled ? USBIP_ERROR_STALL : USBIP_ERROR_TRANSFER, !stalled,
                           "endpoint 0x%02x failed %u times in a row: %s (%s); plug the device in "
                           "again",
                           endpoint, port->in_failures, usbip_status_name(status),
                           usbip_status_text(status));
    } else if (status == -USBIP_EPIPE) {
        port->in_halted = true;
        usbip_port_clear_halt(port, endpoint, in_halt_cleared);
    } else {
        port->in_generation++;
        port->in_back_off.resume_ms = usbip_connection_now_ms(port->connection) + MAX_BACK_OFF_MS;
    }
}

static void take_in(struct usbip_port *port, struct usbip_in_transfer *in, const uint8_t *data)
{
    const struct usbip_driver *driver = port->chip.driver;
    struct usbip_transfer *transfer = &in->transfer;
    uint64_t now_ms = usbip_connection_now_ms(port->connection);
    size_t size = transfer->actual_length;
    uint8_t *room = usbip_port_receive_room(port, size);

    /* It may be there already, or near. */
    if (size > 0 && room != data)
        memmove(room, data, size);
    if (driver->received) {
        unsigned modem = port->modem_lines;

        size = driver->received(&port->chip, room, size, &modem);
        told_modem(port, modem);
    }
    usbip_port_received(port, room, size);
    /* Only what was asked for with SHORT_NOT_OK may be called short; a server may do so anyway. */
    if (transfer->status != 0 && transfer->status != -USBIP_EREMOTEIO) {
        in_failed(port, in);
        return;
    }
    if (in->generation == port->in_generation)
        port->in_failures = 0;
    if (driver->may_forget_to_end)
        learn_ending(port, transfer, now_ms);
    adapt_depth(port, in, now_ms);
    if (size > 0)
        note_data(&port->in_back_off);
    else
        note_empty(&port->in_back_off, now_ms);
}

/* Keeps what came before its turn. */
static void keep(struct usbip_port *port, struct usbip_in_transfer *in)
{
    uint32_t size = in->transfer.actual_length;

    in->state = USBIP_IN_DONE;
    port->in_kept++;
    in->kept = size > 0 ? malloc(size) : NULL;
    if (in->kept)
        memcpy(in->kept, in->transfer.payload, size);
    else if (size > 0)
        usbip_port_trouble(port, USBIP_ERROR_MEMORY, false, "out of memory");
}

static void take_first(struct usbip_port *port, const uint8_t *data)
{
    struct usbip_in_transfer *in = in_at(port, 0);

    port->in_head = (port->in_head + 1) % USBIP_MAX_IN_TRANSFERS;
    port->in_count--;
    port->in_bytes -= in->transfer.length;
    port->in_probes -= is_probe(port, &in->transfer);
    in->state = USBIP_IN_IDLE;
    take_in(port, in, data);
}

/* Servers may end transfers in any order; the bytes have that of the submits. */
static void in_done(struct usbip_transfer *transfer)
{
    struct usbip_port *port = transfer->user;
    struct usbip_in_transfer *in = (struct usbip_in_transfer *)transfer;

    if (port->dropping || port->trouble != 0) {
        in->state = USBIP_IN_DONE;
        return;
    }
    if (in != in_at(port, 0)) {
        keep(port, in);
        return;
    }
    take_first(port, transfer->payload);
    while (port->in_count > 0 && port->trouble == 0 && in_at(port, 0)->state == USBIP_IN_DONE) {
        uint8_t *kept = in_at(port, 0)->kept;

        in_at(port, 0)->kept = NULL;
        port->in_kept--;
        take_first(port, kept);
        free(kept);
    }
    submit_in(port, usbip_connection_now_ms(port->connection));
}

/* ---- Notifications ---- */

static void notification_done(struct usbip_transfer *transfer);

static void submit_notification(struct usbip_port *port, uint64_t now_ms)
{
    uint32_t packet_size = port->chip.interrupt_packet_size;

    if (port->chip.interrupt_in == 0 || port->notification_in_flight || !may_submit(port) ||
        port->notification_failures > USBIP_MAX_RETRIES ||
        now_ms < port->notification_back_off.resume_ms)
        return;
    port->notification = (struct usbip_transfer){
        .endpoint = port->chip.interrupt_in,
        .type = USB_ENDPOINT_XFER_INT,
        .buffer = port->notification_data,
        /* A notification is longer than the packets of some devices. */
        .length = (CDC_SERIAL_STATE_SIZE + packet_size - 1) / packet_size * packet_size,
        .interval = interval_of(port, port->chip.interrupt_interval),
        .done = notification_done,
        .user = port,
    };
    if (usbip_host_session_submit(port->session, &port->notification, now_ms) == 0)
        port->notification_in_flight = true;
}

/* Modem lines are a comfort: when they cannot be had, data goes on without them. */
static void notification_done(struct usbip_transfer *transfer)
{
    struct usbip_port *port = transfer->user;
    uint64_t now_ms;

    port->notification_in_flight = false;
    if (port->dropping)
        return;
    now_ms = usbip_connection_now_ms(port->connection);
    if (transfer->status == 0)
        port->notification_failures = 0;
    else
        port->notification_failures++;
    if (transfer->actual_length > 0 && transfer->status == 0 && port->chip.driver->notified) {
        unsigned modem = port->modem_lines;

        port->chip.driver->notified(&port->chip, transfer->buffer, transfer->actual_length, &modem);
        told_modem(port, modem);
        note_data(&port->notification_back_off);
    } else {
        note_empty(&port->notification_back_off, now_ms);
    }
    submit_notification(port, now_ms);
}

/* ---- Running ---- */

void usbip_port_in_start(struct usbip_port *port)
{
    uint64_t now_ms = usbip_connection_now_ms(port->connection);

    port->in_ending = port->chip.driver->may_forget_to_end ? USBIP_IN_UNKNOWN : USBIP_IN_ENDS;
    port->in_last_full = false;
    port->in_last_ms = now_ms;
    port->in_full_run = 0;
    port->in_stream_packets = 0;
    port->in_fast = false;
    set_depth(port, USBIP_MIN_IN_TRANSFERS);
    note_data(&port->in_back_off);
    note_data(&port->notification_back_off);
    port->in_failures = 0;
    port->notification_failures = 0;
    port->in_running = true;
    submit_notification(port, now_ms);
    submit_in(port, now_ms);
}

void usbip_port_in_reset(struct usbip_port *port)
{
    for (unsigned i = 0; i < port->in_count; i++) {
        free(in_at(port, i)->kept);
        in_at(port, i)->kept = NULL;
        in_at(port, i)->state = USBIP_IN_IDLE;
    }
    port->in_head = 0;
    port->in_count = 0;
    port->in_kept = 0;
    port->in_bytes = 0;
    port->in_probes = 0;
    port->in_halted = false;
    port->in_running = false;
    port->notification_in_flight = false;
}

void usbip_port_in_unlink(struct usbip_port *port, uint64_t now_ms)
{
    if (port->notification_in_flight)
        usbip_host_session_unlink(port->session, &port->notification, now_ms);
    for (unsigned i = 0; i < port->in_count; i++) {
        if (in_at(port, i)->state == USBIP_IN_FLIGHT)
            usbip_host_session_unlink(port->session, &in_at(port, i)->transfer, now_ms);
    }
}

void usbip_port_in_advance(struct usbip_port *port)
{
    /* The time is of interest only to what is held back. */
    bool held_back = port->in_back_off.resume_ms > 0 || port->notification_back_off.resume_ms > 0;
    uint64_t now_ms = held_back          ? usbip_now_ms()
                      : port->connection ? usbip_connection_now_ms(port->connection)
                                         : 0;

    submit_notification(port, now_ms);
    submit_in(port, now_ms);
}

uint64_t usbip_port_in_deadline_ms(const struct usbip_port *port)
{
    uint64_t deadline_ms = UINT64_MAX;

    if (!may_submit(port))
        return UINT64_MAX;
    if (port->in_back_off.resume_ms > 0 && port->in_count < port->in_depth && !port->in_halted &&
        usbip_port_bytes_available(port) < USBIP_RECEIVE_BUFFER_SIZE)
        deadline_ms = port->in_back_off.resume_ms;
    if (port->notification_back_off.resume_ms > 0 && !port->notification_in_flight &&
        port->notification_failures <= USBIP_MAX_RETRIES && port->chip.interrupt_in != 0 &&
        port->notification_back_off.resume_ms < deadline_ms)
        deadline_ms = port->notification_back_off.resume_ms;
    return deadline_ms;
}
