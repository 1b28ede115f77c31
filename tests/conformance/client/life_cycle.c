/* F. The connection's life: loss, silence, coming back, closing. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "protocol/bytes.h"
#include "protocol/cdc.h"
#include "tests/conformance/client/client_trial.h"

enum {
    MUCH = 8 << 20, /* bytes; no client should take so much that nobody reads */
    PARTIAL_HEADER = 20,
    ANNOUNCED = 20,
    PARTIAL_PAYLOAD = 10,
    RECONNECT_MS = 30000,
    SHORT_RECONNECT_MS = 1500,
    MIN_PAUSE_US = 20000, /* between two attempts */
    STATUS_OFFSET = 4,
};

static void slow_consumer_server(struct trial *trial)
{
    uint8_t *much = trial_alloc(trial, MUCH);
    trial->client->told_timeout = true;
    struct link *link = client_open(trial, NULL);
    client_settle(trial);
    client_await_in(trial, link, 2);
    link->deaf = true;
    client_say(trial, much, MUCH);
    client_device_sends(trial, "still here\n", 11);
    if (client_hears_among(trial, "still here\n")) {
        client_outcome(trial, "IN goes on");
    } else {
        client_outcome(trial, "IN stops");
        client_fault(trial, "nothing is received while the server does not read");
    }
    client_await_exit(trial, link, CLIENT_FAILS, trial->client->choice->patience_ms);
    if (trial->client->process.input_taken == MUCH) {
        client_outcome(trial, "unbounded");
        client_fault(trial, "the client takes %d bytes that it cannot send", MUCH);
    }
    link->deaf = false;
}

/* ---- Loss ---- */

static void expect_loss(struct trial *trial, struct link *link)
{
    if (!client_await_end(trial, link, trial->client->choice->timeout_ms)) {
        client_outcome(trial, "stays");
        client_fault(trial, "the client does not close its side");
    }
    client_after_close(trial, link);
    const struct usbip_buffer *output = &trial->client->process.output;
    if (output->size > 0 && memchr(output->data, 'x', output->size)) {
        client_outcome(trial, "partial data");
        client_fault(trial, "the client takes a part of a payload for the whole");
    }
}

static void connection_lost(struct trial *trial)
{
    uint8_t bytes[USBIP_HEADER_SIZE + ANNOUNCED];
    client_variant(trial, "idle");
    struct link *link = client_open(trial, NULL);
    link_end(link);
    expect_loss(trial, link);

    struct usbip_header header = {.command = USBIP_RET_SUBMIT,
                                  .ret_submit.actual_length = ANNOUNCED};
    memset(bytes, 'x', sizeof bytes);
    for (int i = 0; i < 2; i++) {
        client_variant(trial, i == 0 ? "in a header" : "in a payload");
        link = client_open(trial, NULL);
        if (!client_await_in(trial, link, 1))
            trial_fail(trial, "no bulk IN transfer is queued");
        header.seqnum = link_pending(link, trial->server->bulk_in, 0)->seqnum;
        usbip_encode_header(bytes, &header);
        link_send(link, bytes,
                  (size_t)(i == 0 ? PARTIAL_HEADER : USBIP_HEADER_SIZE + PARTIAL_PAYLOAD));
        link_end(link);
        expect_loss(trial, link);
    }

    client_variant(trial, "RST");
    link = client_open(trial, NULL);
    link_reset(link);
    expect_loss(trial, link);
}

static void silent_stall(struct trial *trial)
{
    trial->client->told_timeout = true;
    struct link *link = client_open(trial, NULL);
    link->mute = true;
    client_say(trial, "anybody?\n", 9);
    client_await_exit(trial, link, CLIENT_FAILS, trial->client->choice->patience_ms);
}

static bool is_acknowledged(struct trial *trial, void *context)
{
    (void)trial;
    return link_is_acknowledged(context);
}

static void half_open(struct trial *trial)
{
    struct link *link = client_open(trial, NULL);
    client_wait(trial, is_acknowledged, link, trial->client->choice->timeout_ms);
    if (!link_vanish(link))
        trial_not_applicable(trial, "this system has no socket filters");
    client_await_exit(trial, link, CLIENT_FAILS, trial->client->choice->patience_ms);
}

/* ---- Coming back ---- */

/* What becomes of the imports after the connection was lost. */
struct attempts {
    bool lost;
    unsigned count;
};

static const uint32_t refusals[] = {USBIP_ST_DEV_BUSY, USBIP_ST_DEV_BUSY, USBIP_ST_NODEV,
                                    USBIP_ST_NODEV, USBIP_ST_NODEV};
enum { REFUSALS = sizeof refusals / sizeof refusals[0] };

static void refuse_at_first(struct trial *trial, struct link *link, uint16_t code,
                            struct usbip_buffer *bytes)
{
    struct attempts *attempts = trial->server->context;
    (void)link;
    if (code != OP_REQ_IMPORT || !attempts->lost || attempts->count++ >= REFUSALS)
        return;
    usbip_store_be32(bytes->data + STATUS_OFFSET, refusals[attempts->count - 1]);
    bytes->size = USBIP_OP_COMMON_SIZE;
}

/* Returns the link of the attempt that succeeds, or NULL. */
static struct link *await_return(struct trial *trial, struct attempts *attempts)
{
    uint64_t before_us = 0;
    for (;;) {
        struct link *link =
            client_try_link(trial, client_has_command(trial) ? RECONNECT_MS : CLIENT_BY_HAND_MS);
        if (!link || attempts->count > REFUSALS)
            return link;
        link_end(link); /* as servers do behind a refusal */
        if (before_us > 0 && case_now_us() < before_us + MIN_PAUSE_US)
            client_fault(trial, "the client tries again without a pause");
        before_us = case_now_us();
    }
}

static void reconnect(struct trial *trial)
{
    static const struct hooks hooks = {.op_reply = refuse_at_first};
    struct attempts attempts = {0};
    trial->server->context = &attempts;
    trial->client->reconnect_ms = RECONNECT_MS;
    struct link *link = client_open(trial, &hooks);
    client_expect_echo(trial, 10);
    const unsigned line_codings = trial->server->far_end.line_codings;
    attempts.lost = true;
    link_end(link);
    link = await_return(trial, &attempts);
    if (!link) {
        client_fault(trial, "the client does not come back");
        client_finish(trial, link, CLIENT_FAILS);
        return;
    }
    client_outcome(trial, "reconnects");
    if (!client_await_open(trial, link, trial->client->choice->timeout_ms))
        client_fault(trial, "the port is not open again");
    else if (trial->server->far_end.line_codings == line_codings)
        client_fault(trial, "the line coding is not set again");
    client_must_go_on(trial, link);
}

static void reconnect_other_identity(struct trial *trial)
{
    static const struct device_choice other = {"cdc_acm", USBIP_SPEED_FULL, 0x2341, 0x0036, "B-1"};
    trial->client->reconnect_ms = SHORT_RECONNECT_MS;
    struct link *link = client_open(trial, NULL);
    client_expect_echo(trial, 10);
    link_end(link);
    client_await_end(trial, link, trial->client->choice->timeout_ms);
    case_server_plug(trial->server, &other);
    client_await_exit(trial, NULL, CLIENT_FAILS,
                      trial->client->choice->timeout_ms + SHORT_RECONNECT_MS);
    const struct far_end *far_end = &trial->server->far_end;
    if (far_end->opened > 0 || far_end->received.size > 0) {
        client_outcome(trial, "takes the other device");
        client_fault(trial, "the client opens another device, 2341:0036, as if it was the first");
    }
}

/* ---- Closing ---- */

static bool watch_dtr(struct trial *trial, struct link *link, struct request *request)
{
    bool *dtr_off = trial->server->context;
    (void)link;
    if (!request->unlink && request->endpoint == 0 &&
        request->setup.bmRequestType == (USB_TYPE_CLASS | USB_RECIP_INTERFACE) &&
        request->setup.bRequest == CDC_SET_CONTROL_LINE_STATE)
        *dtr_off = !(request->setup.wValue & USBIP_LINE_DTR);
    return false;
}

static void close_hygiene(struct trial *trial)
{
    static const struct hooks hooks = {.request = watch_dtr};
    bool dtr_off = false;
    trial->server->context = &dtr_off;
    struct link *link = client_open(trial, &hooks);
    client_expect_echo(trial, 10);
    if (client_has_command(trial))
        client_process_end_input(&trial->client->process);
    bool ended = client_await_end(trial, link,
                                  client_has_command(trial) ? trial->client->choice->timeout_ms
                                                            : CLIENT_BY_HAND_MS);
    client_outcome(trial, dtr_off ? "DTR off" : "DTR stays on");
    client_outcome(trial, link->pending_count == 0 ? "unlinks" : "transfers left");
    client_outcome(trial, !ended ? "stays" : link->reset ? "RST" : "FIN");
    if (link->cut_off)
        client_fault(trial, "the connection ends in the middle of a PDU");
    else if (!ended)
        client_fault(trial, "the connection does not end");
    else if (!dtr_off)
        client_fault(trial, "DTR is not lowered");
    else if (link->pending_count > 0)
        client_fault(trial, "%zu transfers are neither unlinked nor answered", link->pending_count);
    else if (link->reset)
        client_fault(trial, "the connection ends with RST");
    client_await_exit(trial, link, CLIENT_WELL, trial->client->choice->timeout_ms);
}

static const struct conformance_case cases[] = {
    {"C056", "slow-consumer-server", MUST, CORE, NEED_COMMAND,
     "While the server does not read, data is received, no more than a bounded amount is taken, "
     "and a time-out is told.",
     "a server may read as slowly as it likes", slow_consumer_server, NULL},
    {"C057", "fin-and-rst", MUST, CORE, 0,
     "When the connection ends, everything that waits fails at once, and no part of a payload is "
     "taken for the whole.",
     "servers close when a device is unplugged", connection_lost, NULL},
    {"C058", "silent-stall", MUST, CORE, NEED_COMMAND,
     "A server that does not answer any more is told after a time-out.", "USB/IP has no heartbeat",
     silent_stall, NULL},
    {"C059", "half-open", MUST, CORE | SOAK, NEED_COMMAND,
     "A server that vanishes without a word is noticed by TCP's keep-alive.",
     "RFC 9293, section 3.8.4", half_open, NULL},
    {"C060", "reconnect", SHOULD, CORE, 0,
     "After a loss the device is looked for, with pauses, for 30 s, and set up as it was.",
     "a device that is reset comes back after a while", reconnect, NULL},
    {"C061", "reconnect-other-identity", MUST, CORE, NEED_COMMAND,
     "Another device at the same busid is not taken for the first.",
     "boot loaders have ids of their own", reconnect_other_identity, NULL},
    {"C062", "close-hygiene", SHOULD, CORE, 0,
     "Closing lowers DTR, unlinks what waits, and ends with FIN, never within a PDU.",
     "cdc-acm.c of Linux", close_hygiene, NULL},
};

const struct section client_life_cycle = {"F", "The connection's life", cases,
                                          sizeof cases / sizeof cases[0]};
