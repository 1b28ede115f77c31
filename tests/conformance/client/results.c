/* E. Lengths, errors and order of transfers. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/conformance/client/client_trial.h"

enum {
    FTDI_VENDOR = 0x0403,
    FTDI_PRODUCT = 0x6001,
    FTDI_BYTES = 1000,
    FRAGMENTED_BYTES = 200,
    COALESCED_BYTES = 64 << 10,
    CLAIMED = 64,    /* bytes that a reply announces and does not bring */
    OUT_BYTES = 100, /* more than a header */
    STORM_MS = 400,
    STORM_START_MS = 100,
    BACK_OFF_FACTOR = 3,
    MIN_CYCLE_US = 1000, /* of a transfer that ends without data again and again */
    MAX_GONE_TRANSFERS = 200,
};

/* ---- Lengths ---- */

/* The first transfer that waits for data; fails when there is none. */
static struct request first_in(struct trial *trial, struct link *link)
{
    if (!client_await_in(trial, link, 1))
        trial_fail(trial, "no bulk IN transfer is queued");
    return *link_pending(link, trial->server->bulk_in, 0);
}

static void actual_too_long(struct trial *trial)
{
    struct link *link = client_open(trial, NULL);
    struct request request = first_in(trial, link);
    uint8_t *bytes = trial_alloc(trial, request.length + 1);
    link_complete(link, &request, 0, request.length + 1, bytes, request.length + 1);
    client_must_close(trial, link);
}

static void actual_negative(struct trial *trial)
{
    static const uint32_t lengths[] = {0xffffffff, 0x80000000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        client_variant(trial, "%08" PRIx32, lengths[i]);
        struct link *link = client_open(trial, NULL);
        struct request request = first_in(trial, link);
        link_complete(link, &request, 0, lengths[i], NULL, 0);
        client_must_close(trial, link);
    }
}

/* The device takes all but the last byte of the first transfer. */
static bool take_less(struct trial *trial, struct link *link, struct request *request)
{
    bool *done = trial->server->context;
    (void)link;
    if (!*done && !request->unlink && request->endpoint == trial->server->bulk_out &&
        request->length > 1) {
        *done = true;
        request->given--;
    }
    return false;
}

static void out_short(struct trial *trial)
{
    static const struct hooks hooks = {.request = take_less};
    static const char words[] = "do not lose me\n";
    bool done = false;
    trial->server->context = &done;
    struct link *link = client_open(trial, &hooks);
    client_say(trial, words, strlen(words));
    bool whole = client_await_received(trial, strlen(words), trial->client->choice->timeout_ms) &&
                 memcmp(trial->server->far_end.received.data, words, strlen(words)) == 0;
    client_outcome(trial, whole ? "resends" : "bytes lost");
    client_finish(trial, link, whole ? CLIENT_WELL : CLIENT_FAILS);
}

static void add_payload(struct trial *trial, struct link *link, struct reply *reply)
{
    static uint8_t bytes[OUT_BYTES];
    (void)link;
    if (reply->header.command != USBIP_RET_SUBMIT ||
        reply->request.endpoint != trial->server->bulk_out)
        return;
    memset(bytes, 0x55, sizeof bytes);
    reply->payload = bytes;
    reply->payload_size = reply->header.ret_submit.actual_length < sizeof bytes
                              ? reply->header.ret_submit.actual_length
                              : sizeof bytes;
}

static void out_payload(struct trial *trial)
{
    static const struct hooks hooks = {.reply = add_payload};
    char words[OUT_BYTES];
    struct link *link = client_open(trial, &hooks);
    memset(words, 'o', sizeof words);
    client_say(trial, words, sizeof words);
    client_must_close(trial, link);
}

/* ---- Errors ---- */

static void add_error(struct trial *trial, struct link *link, struct reply *reply)
{
    int32_t *status = trial->server->context;
    (void)link;
    if (reply->header.command == USBIP_RET_SUBMIT && reply->payload_size > 0 &&
        reply->request.endpoint == trial->server->bulk_in) {
        reply->header.ret_submit.status = *status;
        *status = 0; /* once */
    }
}

static void err_with_data(struct trial *trial)
{
    static const struct hooks hooks = {.reply = add_error};
    static const int32_t statuses[] = {-USBIP_EREMOTEIO, -USBIP_EOVERFLOW};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        int32_t status = statuses[i];
        client_variant(trial, "%" PRId32, status);
        trial->server->context = &status;
        struct link *link = client_open(trial, &hooks);
        client_say(trial, "data", 4);
        if (!client_hears_among(trial, "data")) {
            client_outcome(trial, "bytes lost");
            client_fault(trial, "the data that came with the error are lost");
        }
        client_must_go_on(trial, link);
    }
}

static void err_no_data_claims(struct trial *trial)
{
    trial->client->told_timeout = true;
    struct link *link = client_open(trial, NULL);
    struct request request = first_in(trial, link);
    link->mute = true;
    link_complete(link, &request, -USBIP_EPIPE, CLAIMED, NULL, 0);
    client_say(trial, "anybody?\n", 9);
    client_await_exit(trial, link, CLIENT_FAILS, trial->client->choice->patience_ms);
}

struct halts {
    uint8_t endpoint; /* whose CLEAR_FEATURE(ENDPOINT_HALT) is counted */
    unsigned cleared;
    int32_t answer; /* to every bulk IN transfer at once, when answers */
    bool answers;
    bool byte; /* with one byte of data each */
    unsigned answered;
};

static bool watch_halts(struct trial *trial, struct link *link, struct request *request)
{
    struct halts *halts = trial->server->context;
    if (request->unlink)
        return false;
    if (request->endpoint == 0 &&
        request->setup.bmRequestType == (USB_TYPE_STANDARD | USB_RECIP_ENDPOINT) &&
        request->setup.bRequest == USB_REQ_CLEAR_FEATURE &&
        request->setup.wIndex == halts->endpoint)
        halts->cleared++;
    if (!halts->answers || request->endpoint != trial->server->bulk_in)
        return false;
    halts->answered++;
    link_send_ret_submit(link, request->seqnum, halts->answer, halts->byte, ".", halts->byte);
    link_retire(link, request->seqnum);
    return true;
}

static const struct hooks watching = {.request = watch_halts};

static void positive_status(struct trial *trial)
{
    struct halts halts = {.endpoint = trial->server->bulk_in};
    trial->server->context = &halts;
    struct link *link = client_open(trial, &watching);
    struct request request = first_in(trial, link);
    link_complete(link, &request, USBIP_EPIPE, 0, NULL, 0);
    enum reaction reaction = client_react(trial, link);
    if (reaction == REACTION_HANGS)
        client_fault(trial, "nothing gets through any more");
    else if (reaction == REACTION_GOES_ON && halts.cleared == 0)
        client_fault(trial, "the client takes status 32 for success");
    if (halts.cleared > 0)
        client_outcome(trial, "clears the halt");
    client_finish(trial, link, reaction == REACTION_CLOSES ? CLIENT_FAILS : CLIENT_WELL);
}

/* Every bulk IN transfer ends like this from now on. */
static void answer_all(struct trial *trial, struct link *link, struct halts *halts, int32_t status)
{
    struct request *request;
    halts->answer = status;
    halts->answers = true;
    while ((request = link_pending(link, trial->server->bulk_in, 0))) {
        const struct request copy = *request;
        link_complete(link, &copy, status, 0, NULL, 0);
    }
}

static void stall_one(struct trial *trial, const char *label, bool in)
{
    struct halts halts = {0};
    client_variant(trial, "%s", label);
    halts.endpoint = in ? trial->server->bulk_in : trial->server->bulk_out;
    trial->server->context = &halts;
    struct link *link = client_open(trial, &watching);
    usbip_device_halt(trial->server->far_end.device, halts.endpoint);
    enum reaction reaction = client_react(trial, link);
    if (halts.cleared > 0)
        client_outcome(trial, "clears the halt");
    if (reaction != REACTION_GOES_ON || halts.cleared == 0)
        client_fault(trial, "the client does not get over a stall of endpoint %02x",
                     halts.endpoint);
    client_finish(trial, link, CLIENT_WELL);
}

static void stall(struct trial *trial)
{
    stall_one(trial, "IN", true);
    stall_one(trial, "OUT", false);

    struct halts halts = {.endpoint = trial->server->bulk_in};
    client_variant(trial, "for ever");
    trial->server->context = &halts;
    struct link *link = client_open(trial, &watching);
    answer_all(trial, link, &halts, -USBIP_EPIPE);
    if (client_await_end(trial, link, trial->client->choice->timeout_ms)) {
        client_outcome(trial, "gives up");
        client_after_close(trial, link);
        return;
    }
    client_outcome(trial, "retries for ever");
    client_fault(trial, "the client does not give up an endpoint that stalls again and again");
    halts.answers = false;
    client_finish(trial, link, CLIENT_ANYHOW);
}

static void refuse_line_coding(struct trial *trial, struct link *link, struct reply *reply)
{
    (void)trial;
    (void)link;
    if (reply->header.command == USBIP_RET_SUBMIT && reply->request.endpoint == 0 &&
        reply->request.setup.bmRequestType == (USB_TYPE_CLASS | USB_RECIP_INTERFACE) &&
        reply->request.setup.bRequest == 0x20 /* SET_LINE_CODING */) {
        reply->header.ret_submit.status = -USBIP_EPIPE;
        reply->header.ret_submit.actual_length = 0;
    }
}

static void stall_ep0(struct trial *trial)
{
    static const struct hooks hooks = {.reply = refuse_line_coding};
    client_must_go_on(trial, client_open(trial, &hooks));
}

static bool has_stormed(struct trial *trial, void *context)
{
    const struct halts *halts = trial->server->context;
    return ((struct link *)context)->ended || halts->answered > MAX_GONE_TRANSFERS;
}

static void gone(struct trial *trial, int32_t status)
{
    struct halts halts = {.endpoint = trial->server->bulk_in};
    client_variant(trial, "%" PRId32, status);
    trial->server->context = &halts;
    struct link *link = client_open(trial, &watching);
    answer_all(trial, link, &halts, status);
    client_wait(trial, has_stormed, link, trial->client->choice->timeout_ms);
    if (halts.answered > MAX_GONE_TRANSFERS) {
        client_outcome(trial, "storms");
        client_fault(trial, "the client submits to a device that is gone as fast as it can");
    }
    client_outcome(trial, link->ended ? "closes" : "awaits FIN");
    link_end(link);
    client_after_close(trial, link);
}

static void gone_codes(struct trial *trial)
{
    gone(trial, -USBIP_ESHUTDOWN);
    gone(trial, -USBIP_ENODEV);

    struct halts halts = {.endpoint = trial->server->bulk_in};
    client_variant(trial, "%d", -USBIP_EPROTO);
    trial->server->context = &halts;
    struct link *link = client_open(trial, &watching);
    answer_all(trial, link, &halts, -USBIP_EPROTO);
    bool gives_up = client_await_end(trial, link, trial->client->choice->timeout_ms);
    client_outcome(trial, gives_up ? "gives up" : "retries for ever");
    if (!gives_up)
        client_fault(trial, "the client does not give up transfers that fail again and again");
    link_end(link);
    client_after_close(trial, link);
}

/* ---- Order and pace ---- */

static void in_out_of_order(struct trial *trial)
{
    struct link *link = client_open(trial, NULL);
    client_settle(trial);
    if (!client_await_in(trial, link, 2))
        trial_not_applicable(trial, "the client queues only one bulk IN transfer");
    const struct request first = *link_pending(link, trial->server->bulk_in, 0);
    const struct request second = *link_pending(link, trial->server->bulk_in, 1);
    link_complete(link, &second, 0, 6, "second", 6);
    link_complete(link, &first, 0, 6, "first ", 6);
    if (!client_hears(trial, "first second", 12)) {
        client_outcome(trial, "other order");
        client_fault(trial, "the client puts the bytes in the order of the replies");
    }
    client_must_go_on(trial, link);
}

/* How long it takes on average until a transfer that has ended is submitted again. */
static uint64_t measure_cycle_us(struct trial *trial, struct link *link, struct halts *halts,
                                 unsigned depth)
{
    client_await_end(trial, link, STORM_START_MS);
    halts->answered = 0;
    client_await_end(trial, link, STORM_MS);
    return halts->answered > 0 ? (uint64_t)STORM_MS * 1000 * depth / halts->answered : UINT64_MAX;
}

/*
 * On a slow machine transfers take their time anyway, so what those with data take is the measure:
 * a back-off is much longer, and a client without one is about as fast.
 */
static void zlp_storm(struct trial *trial)
{
    struct halts halts = {.endpoint = trial->server->bulk_in, .byte = true};
    trial->server->context = &halts;
    struct link *link = client_open(trial, &watching);
    client_settle(trial);
    client_await_in(trial, link, 2);
    unsigned depth = link_pending_count(link, trial->server->bulk_in);
    answer_all(trial, link, &halts, 0);
    uint64_t with_data_us = measure_cycle_us(trial, link, &halts, depth);
    halts.byte = false;
    uint64_t without_us = measure_cycle_us(trial, link, &halts, depth);
    bool spins = without_us < MIN_CYCLE_US || without_us < BACK_OFF_FACTOR * with_data_us;
    client_outcome(trial, spins ? "spins" : "backs off");
    if (spins)
        client_fault(trial,
                     "the client submits each of its transfers again after %" PRIu64
                     " us although they end without data; with data, after %" PRIu64 " us",
                     without_us, with_data_us);
    halts.answers = false;
    client_must_go_on(trial, link);
}

static uint8_t *counted_bytes(struct trial *trial, size_t size)
{
    uint8_t *bytes = trial_alloc(trial, size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i + (i >> 8) * 7);
    return bytes;
}

static void expect_from_device(struct trial *trial, size_t size)
{
    uint8_t *bytes = counted_bytes(trial, size);
    client_device_sends(trial, bytes, size);
    if (!client_hears(trial, bytes, size)) {
        client_outcome(trial, "other bytes");
        client_fault(trial, "the %zu bytes of the device do not come out as they were", size);
    }
}

static void ftdi_status_bytes(struct trial *trial)
{
    static const struct device_choice ftdi = {"ftdi", USBIP_SPEED_FULL, FTDI_VENDOR, FTDI_PRODUCT,
                                              "C-3"};
    case_server_plug(trial->server, &ftdi);
    struct link *link = client_open(trial, NULL);
    client_settle(trial);
    expect_from_device(trial, FTDI_BYTES);
    client_must_go_on(trial, link);
}

static void cut_to_bytes(struct trial *trial, struct link *link, uint16_t code,
                         struct usbip_buffer *bytes)
{
    (void)trial;
    (void)code;
    (void)bytes;
    link->piece = 1;
}

static void fragmented(struct trial *trial)
{
    static const struct hooks hooks = {.op_reply = cut_to_bytes};
    static const struct device_choice fast = {"cdc_acm", USBIP_SPEED_HIGH, 0x1209, 0x00c2, "C-1"};
    client_variant(trial, "bytes");
    struct link *link = client_open(trial, &hooks);
    client_expect_echo(trial, FRAGMENTED_BYTES);
    client_must_go_on(trial, link);

    client_variant(trial, "one segment");
    case_server_plug(trial->server, &fast);
    link = client_open(trial, NULL);
    client_settle(trial);
    client_await_in(trial, link, 2);
    link->held = true; /* until every transfer that waits has its answer */
    uint8_t *bytes = counted_bytes(trial, COALESCED_BYTES);
    client_device_sends(trial, bytes, COALESCED_BYTES);
    case_server_act(trial->server);
    link->held = false;
    if (!client_hears(trial, bytes, COALESCED_BYTES)) {
        client_outcome(trial, "other bytes");
        client_fault(trial, "the bytes of the device do not come out as they were");
    }
    client_must_go_on(trial, link);
}

static const char source[] = "usbip_protocol.rst, USBIP_RET_SUBMIT";
static const char usb_source[] = "USB 2.0, section 9.4.1 and 8.5.3.4";

static const struct conformance_case cases[] = {
    {"C042", "actual-too-long", MUST, CORE, 0,
     "A reply with more data than was asked for ends the connection.", source, actual_too_long,
     NULL},
    {"C043", "actual-negative", MUST, CORE, 0, "So does one with a length below 0.", source,
     actual_negative, NULL},
    {"C044", "out-short", MUST, CORE, NEED_COMMAND,
     "What the device did not take of an OUT transfer is sent again, or told as an error.", source,
     out_short, NULL},
    {"C045", "out-payload", MUST, CORE, 0,
     "The reply to an OUT transfer has no payload; what follows it is not taken for a PDU.", source,
     out_payload, NULL},
    {"C046", "err-with-data", MUST, CORE, NEED_COMMAND,
     "A reply with an error may have data, which count.", source, err_with_data, NULL},
    {"C047", "err-no-data-claims", MUST, CORE, NEED_COMMAND,
     "Announced data that never come are waited for only until a time-out.", source,
     err_no_data_claims, NULL},
    {"C048", "positive-status", SHOULD, CORE, NEED_COMMAND,
     "A status above 0 is the error with that number.", "some servers forget the sign",
     positive_status, NULL},
    {"C049", "stall-in-out", MUST, CORE, NEED_COMMAND,
     "After a stall the halt is cleared and the transfer sent again, but not for ever.", usb_source,
     stall, NULL},
    {"C050", "stall-ep0", MUST, CORE, 0, "A stall of a control request fails that request only.",
     usb_source, stall_ep0, NULL},
    {"C051", "gone-codes", MUST, CORE, NEED_COMMAND,
     "After ESHUTDOWN and ENODEV the device is gone; EPROTO is tried again a few times.",
     "Linux, Documentation/driver-api/usb/error-codes.rst", gone_codes, NULL},
    {"C052", "in-out-of-order", MUST, CORE, NEED_COMMAND,
     "Replies are matched by seqnum, and the bytes of an endpoint have the order of the requests.",
     source, in_out_of_order, NULL},
    {"C053", "zlp-storm", MUST, CORE, 0,
     "Transfers that end without data at once, again and again, are held back by 1 ms or more.",
     "some servers never let a transfer wait", zlp_storm, NULL},
    {"C054", "ftdi-status-bytes", MUST, CORE, NEED_COMMAND,
     "FTDI's two status bytes are taken out of every packet, not of every transfer.",
     "ftdi_sio.c of Linux", ftdi_status_bytes, NULL},
    {"C055", "fragmented", MUST, CORE, NEED_COMMAND, "The bounds of TCP segments mean nothing.",
     "usbip_protocol.rst: sent in one or more pieces", fragmented, NULL},
};

const struct section client_results = {"E", "Lengths, errors, order", cases,
                                       sizeof cases / sizeof cases[0]};
