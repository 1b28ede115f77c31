#include "client/port_internal.h"

#include "protocol/cdc.h"

enum {
    EMPTIES_BEFORE_BACK_OFF = 4,
    MIN_BACK_OFF_MS = 1,
    MAX_BACK_OFF_MS = 4, /* what a byte may be late because of it */
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

static void submit_in(struct usbip_port *port)
{
    uint64_t now_ms = usbip_now_ms();

    if (!may_submit(port) || port->in_halted || now_ms < port->in_back_off.resume_ms)
        return;
    for (unsigned i = 0; i < USBIP_IN_TRANSFERS; i++) {
        struct usbip_in_transfer *in = &port->in[i];

        if (usbip_port_bytes_available(port) >= USBIP_RECEIVE_BUFFER_SIZE)
            return;
        if (in->state != USBIP_IN_IDLE)
            continue;
        in->transfer = (struct usbip_transfer){
            .endpoint = port->chip.bulk_in,
            .type = port->chip.data_type,
            .buffer = in->buffer,
            .length = port->in_size,
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
        port->in_order[(port->in_head + port->in_count) % USBIP_IN_TRANSFERS] = (uint8_t)i;
        port->in_count++;
    }
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
    submit_in(port);
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
        port->in_back_off.resume_ms = usbip_now_ms() + MAX_BACK_OFF_MS;
    }
}

static void take_in(struct usbip_port *port, struct usbip_in_transfer *in)
{
    const struct usbip_driver *driver = port->chip.driver;
    struct usbip_transfer *transfer = &in->transfer;
    size_t size = transfer->actual_length;

    if (driver->received) {
        unsigned modem = port->modem_lines;

        size = driver->received(&port->chip, in->buffer, size, &modem);
        told_modem(port, modem);
    }
    usbip_port_received(port, in->buffer, size);
    /* Only what was asked for with SHORT_NOT_OK may be called short; a server may do so anyway. */
    if (transfer->status != 0 && transfer->status != -USBIP_EREMOTEIO) {
        in_failed(port, in);
        return;
    }
    if (in->generation == port->in_generation)
        port->in_failures = 0;
    if (size > 0)
        note_data(&port->in_back_off);
    else
        note_empty(&port->in_back_off, usbip_now_ms());
}

/* Servers may end transfers in any order; the bytes have that of the submits. */
static void in_done(struct usbip_transfer *transfer)
{
    struct usbip_port *port = transfer->user;
    struct usbip_in_transfer *in = (struct usbip_in_transfer *)transfer;

    in->state = USBIP_IN_DONE;
    if (port->dropping)
        return;
    while (port->in_count > 0 && port->trouble == 0) {
        struct usbip_in_transfer *first = &port->in[port->in_order[port->in_head]];

        if (first->state != USBIP_IN_DONE)
            break;
        port->in_head = (port->in_head + 1) % USBIP_IN_TRANSFERS;
        port->in_count--;
        first->state = USBIP_IN_IDLE;
        take_in(port, first);
    }
    submit_in(port);
}

/* ---- Notifications ---- */

static void notification_done(struct usbip_transfer *transfer);

static void submit_notification(struct usbip_port *port)
{
    uint64_t now_ms = usbip_now_ms();
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

    port->notification_in_flight = false;
    if (port->dropping)
        return;
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
        note_empty(&port->notification_back_off, usbip_now_ms());
    }
    submit_notification(port);
}

/* ---- Running ---- */

void usbip_port_in_start(struct usbip_port *port)
{
    uint32_t packet_size = port->chip.bulk_in_packet_size;
    uint32_t packets = port->chip.driver->in_transfer_packets;

    if (packets * packet_size > USBIP_DATA_TRANSFER_SIZE)
        packets = USBIP_DATA_TRANSFER_SIZE / packet_size;
    port->in_size = packets * packet_size;
    note_data(&port->in_back_off);
    note_data(&port->notification_back_off);
    port->in_failures = 0;
    port->notification_failures = 0;
    port->in_running = true;
    submit_notification(port);
    submit_in(port);
}

void usbip_port_in_reset(struct usbip_port *port)
{
    for (unsigned i = 0; i < USBIP_IN_TRANSFERS; i++)
        port->in[i].state = USBIP_IN_IDLE;
    port->in_head = 0;
    port->in_count = 0;
    port->in_halted = false;
    port->in_running = false;
    port->notification_in_flight = false;
}

void usbip_port_in_unlink(struct usbip_port *port, uint64_t now_ms)
{
    if (port->notification_in_flight)
        usbip_host_session_unlink(port->session, &port->notification, now_ms);
    for (unsigned i = 0; i < USBIP_IN_TRANSFERS; i++) {
        if (port->in[i].state == USBIP_IN_FLIGHT)
            usbip_host_session_unlink(port->session, &port->in[i].transfer, now_ms);
    }
}

void usbip_port_in_advance(struct usbip_port *port)
{
    submit_notification(port);
    submit_in(port);
}

uint64_t usbip_port_in_deadline_ms(const struct usbip_port *port)
{
    uint64_t deadline_ms = UINT64_MAX;

    if (!may_submit(port))
        return UINT64_MAX;
    if (port->in_back_off.resume_ms > 0 && port->in_count < USBIP_IN_TRANSFERS &&
        !port->in_halted && usbip_port_bytes_available(port) < USBIP_RECEIVE_BUFFER_SIZE)
        deadline_ms = port->in_back_off.resume_ms;
    if (port->notification_back_off.resume_ms > 0 && !port->notification_in_flight &&
        port->notification_failures <= USBIP_MAX_RETRIES && port->chip.interrupt_in != 0 &&
        port->notification_back_off.resume_ms < deadline_ms)
        deadline_ms = port->notification_back_off.resume_ms;
    return deadline_ms;
}
