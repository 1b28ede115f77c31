/* The stimuli of real devices, whose serial line has a far end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/bytes.h"
#include "protocol/cdc.h"
#include "protocol/ftdi.h"
#include "tests/conformance/line.h"
#include "tests/conformance/trial.h"

enum {
    MARK_SIZE = 16,
    MARK_TRIES = 20,
    MARK_PAUSE_MS = 500,
    MARK_TRANSFERS = 64, /* without a mark in them */
    FIRST_MARK_SEQNUM =
        0x40000000, /* so that cases have the same seqnums, however many there are */
    BAUD_RATE = 115200,
};

/*
 * Marks go through the line to find its end: what comes behind one was sent behind it. When a
 * device is configured a terminal device at its far end can be hung up, and what is sent meanwhile
 * is lost; so a mark that does not arrive is sent again, as another one.
 */
struct mark {
    uint8_t bytes[MARK_SIZE];
    uint32_t seqnum; /* of a request that has to do with it */
};

static struct mark next_mark(void)
{
    static uint32_t count;
    struct mark mark = {.bytes = "\001\002mark\003", .seqnum = FIRST_MARK_SEQNUM + count};
    usbip_store_le32(mark.bytes + MARK_SIZE - 4, count++);
    return mark;
}

static void submit_mark(struct trial *trial, struct wire *wire, const struct mark *mark)
{
    wire_submit(wire, &(struct wire_submit){.with_seqnum = true,
                                            .seqnum = mark->seqnum,
                                            .direction = USBIP_DIR_OUT,
                                            .ep = trial->target->bulk_out,
                                            .length = MARK_SIZE,
                                            .payload = mark->bytes});
}

static bool is_done(struct wire *wire, uint32_t seqnum, struct wire_pdu **pdu)
{
    return wire_wait(wire, seqnum, pdu) == WIRE_OK && (*pdu)->header.ret_submit.status == 0;
}

/* Has the device send a mark, and returns it. */
static struct mark send_mark(struct trial *trial, struct wire *wire)
{
    struct mark mark = next_mark();
    if (trial->target->line)
        line_send(trial->target->line, mark.bytes, MARK_SIZE);
    else
        submit_mark(trial, wire, &mark);
    return mark;
}

/* Reads what the device sends until a mark comes. */
static bool drain(struct trial *trial, struct wire *wire)
{
    const uint32_t length = 4u * trial->target->bulk_in_packet;
    uint8_t *seen = trial_alloc(trial, length + MARK_SIZE); /* the end of what has come */
    size_t have = 0;
    struct mark mark = send_mark(trial, wire);
    uint32_t seqnum = 0;
    for (int tries = 0, transfers = 0; tries < MARK_TRIES;) {
        struct wire_pdu *pdu;
        size_t size;
        if (!seqnum) {
            seqnum = next_mark().seqnum;
            wire_submit(wire, &(struct wire_submit){.with_seqnum = true,
                                                    .seqnum = seqnum,
                                                    .direction = USBIP_DIR_IN,
                                                    .ep = trial->target->bulk_in,
                                                    .length = length});
        }
        enum wire_event event = wire_wait(wire, seqnum, &pdu);
        /* An FTDI is never silent. */
        if (event == WIRE_SILENT || ++transfers % MARK_TRANSFERS == 0) {
            mark = send_mark(trial, wire);
            tries++;
        }
        if (event == WIRE_SILENT)
            continue;
        if (event != WIRE_OK || pdu->header.ret_submit.status != 0)
            return false;
        seqnum = 0;
        const uint8_t *data = trial_data(trial, pdu, &size);
        if (size > length)
            return false;
        memcpy(seen + have, data, size);
        have += size;
        if (have >= MARK_SIZE && memcmp(seen + have - MARK_SIZE, mark.bytes, MARK_SIZE) == 0)
            return true;
        if (have > MARK_SIZE) {
            memmove(seen, seen + have - MARK_SIZE, MARK_SIZE);
            have = MARK_SIZE;
        }
    }
    return false;
}

/* Sends a mark to the far end until one arrives there. */
static bool reach_far_end(struct trial *trial, struct wire *wire)
{
    for (int i = 0; i < MARK_TRIES; i++) {
        struct mark mark = next_mark();
        struct wire_pdu *pdu;
        uint8_t *before;
        size_t size;
        submit_mark(trial, wire, &mark);
        if (!is_done(wire, mark.seqnum, &pdu))
            return false;
        if (line_await(trial->target->line, mark.bytes, MARK_SIZE, MARK_PAUSE_MS, &before, &size)) {
            free(before);
            return true;
        }
    }
    return false;
}

/* 115200 8N1, DTR and RTS: without DTR many devices do not send. */
static void set_up(struct trial *trial, struct wire *wire)
{
    const struct target *target = trial->target;
    uint16_t interface = (uint16_t)target->acm_interface, wValue, wIndex;
    if (target->acm_interface >= 0) {
        uint8_t coding[CDC_LINE_CODING_SIZE];
        usbip_cdc_encode_line_coding(
            coding, &(struct usbip_line_coding){.dwDTERate = BAUD_RATE, .bDataBits = 8});
        trial_control(trial, wire, 0x21, CDC_SET_LINE_CODING, 0, interface, sizeof coding, coding);
        trial_control(trial, wire, 0x21, CDC_SET_CONTROL_LINE_STATE,
                      USBIP_LINE_DTR | USBIP_LINE_RTS, interface, 0, NULL);
    } else if (target->status_bytes > 0) {
        usbip_ftdi_encode_baud_rate(BAUD_RATE, &wValue, &wIndex);
        trial_control(trial, wire, USB_TYPE_VENDOR, FTDI_SIO_SET_BAUD_RATE, wValue, wIndex, 0,
                      NULL);
        trial_control(trial, wire, USB_TYPE_VENDOR, FTDI_SIO_SET_DATA, 8, 0, 0, NULL);
        trial_control(trial, wire, USB_TYPE_VENDOR, FTDI_SIO_MODEM_CTRL,
                      FTDI_MODEM_CTRL_SET_DTR | FTDI_MODEM_CTRL_DTR | FTDI_MODEM_CTRL_SET_RTS |
                          FTDI_MODEM_CTRL_RTS,
                      0, 0, NULL);
    }
}

static void line_stimulus_open(struct trial *trial, struct wire *wire)
{
    struct line *line = trial->target->line;
    set_up(trial, wire);
    if (line) {
        line_set_echo(line, false);
        line_clear(line);
    }
    /* Marks are no part of the exchange that the report shows. */
    struct wire_log *log = wire->log, *hidden = trial_alloc(trial, sizeof *hidden);
    int timeout_ms = wire->timeout_ms;
    wire->log = hidden;
    bool reached = !line || reach_far_end(trial, wire);
    wire->timeout_ms = MARK_PAUSE_MS;
    bool drained = reached && drain(trial, wire);
    wire->timeout_ms = timeout_ms;
    wire->log = log;
    if (!reached)
        trial_fail(trial, "what is sent to the device does not arrive at its far end");
    if (!drained)
        trial_fail(trial, "what the far end sends does not come from the device");
}

/* The only endpoint that the far end can send on, and never nothing. */
static void check_send(struct trial *trial, uint8_t endpoint, size_t size)
{
    if (endpoint != (trial->target->bulk_in | USB_DIR_IN))
        trial_not_applicable(trial, "the far end of a line sends on bulk IN only");
    if (size == 0)
        trial_not_applicable(trial, "the far end of a line cannot send a packet of length 0");
}

static void line_stimulus_send(struct trial *trial, struct wire *wire, uint8_t endpoint,
                               const void *data, size_t size)
{
    (void)wire;
    check_send(trial, endpoint, size);
    line_send(trial->target->line, data, size);
}

static void loopback_send(struct trial *trial, struct wire *wire, uint8_t endpoint,
                          const void *data, size_t size)
{
    check_send(trial, endpoint, size);
    trial_expect(trial, wire, trial_out(trial, wire, data, (uint32_t)size), 0, (uint32_t)size);
}

static const struct wire_pdu *endpoint_status(struct trial *trial, struct wire *wire,
                                              uint8_t endpoint)
{
    return trial_control(trial, wire, USB_DIR_IN | USB_RECIP_ENDPOINT, USB_REQ_GET_STATUS, 0,
                         endpoint, 2, NULL);
}

/* The host can do this itself, where the device knows of such requests. */
static void halt(struct trial *trial, struct wire *wire, uint8_t endpoint)
{
    if (endpoint_status(trial, wire, endpoint)->payload_size != 2)
        trial_not_applicable(trial, "the device does not tell whether an endpoint is halted");
    trial_control(trial, wire, USB_RECIP_ENDPOINT, USB_REQ_SET_FEATURE, USB_ENDPOINT_HALT, endpoint,
                  0, NULL);
    const struct wire_pdu *pdu = endpoint_status(trial, wire, endpoint);
    if (pdu->payload_size != 2 || pdu->payload[0] != 1)
        trial_not_applicable(trial, "the device does not let the host halt its endpoint");
}

static void line_stimulus_echo(struct trial *trial, struct wire *wire, int on)
{
    (void)wire;
    line_set_echo(trial->target->line, on);
}

static void loopback_echo(struct trial *trial, struct wire *wire, int on)
{
    (void)wire;
    if (!on)
        trial_not_applicable(trial, "a plug always sends back");
}

static void line_stimulus_received(struct trial *trial, struct wire *wire,
                                   struct stimulus_received *received)
{
    struct mark mark = next_mark();
    uint8_t *before;
    size_t size;
    submit_mark(trial, wire, &mark);
    trial_expect(trial, wire, mark.seqnum, 0, MARK_SIZE);
    if (!line_await(trial->target->line, mark.bytes, MARK_SIZE, trial->target->timeout_ms, &before,
                    &size))
        trial_fail(trial, "what is sent to the device does not arrive at its far end");
    *received = (struct stimulus_received){.bytes = (uint32_t)size,
                                           .checksum = stimulus_checksum(before, size)};
    free(before);
}

const struct stimulus stimulus_line = {
    .name = "a line",
    .open = line_stimulus_open,
    .send = line_stimulus_send,
    .halt = halt,
    .echo = line_stimulus_echo,
    .received = line_stimulus_received,
};

const struct stimulus stimulus_loopback = {
    .name = "a plug",
    .open = line_stimulus_open,
    .send = loopback_send,
    .halt = halt,
    .echo = loopback_echo,
};

/* ---- --stimulus ---- */

int stimulus_connect(struct target *target, const char *text, char error_text[256])
{
    static const char unix_kind[] = "unix:", tty_kind[] = "tty:";
    const bool is_unix = strncmp(text, unix_kind, strlen(unix_kind)) == 0;
    if (strcmp(text, "loopback") == 0) {
        target->stimulus = &stimulus_loopback;
        return 0;
    }
    if (!is_unix && strncmp(text, tty_kind, strlen(tty_kind)) != 0) {
        snprintf(error_text, 256, "is not unix:PATH, tty:PATH or loopback");
        return -1;
    }
    const char *path = strchr(text, ':') + 1;
    target->line = is_unix ? line_open_unix(path) : line_open_tty(path);
    if (!target->line) {
        snprintf(error_text, 256, "cannot be opened: %s", strerror(errno));
        return -1;
    }
    target->stimulus = &stimulus_line;
    return 0;
}

void stimulus_disconnect(struct target *target)
{
    if (target->line)
        line_close(target->line);
    target->line = NULL;
    target->stimulus = NULL;
}
