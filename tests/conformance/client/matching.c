/* D. Replies, the requests that they answer, and CMD_UNLINK. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/conformance/client/client_trial.h"

enum {
    NEVER_USED = 100000, /* so far above the highest seqnum is none in use */
    TOLERANCE_MS = 200,  /* in which a client that does not tolerate something closes */
    UNLINK_TIMEOUT_MS = 2000,
    MAX_HELD = 64,
};

/* ---- Replies that answer nothing ---- */

static void ret_unknown_seqnum(struct trial *trial)
{
    struct link *link = client_open(trial, NULL);
    link_send_ret_submit(link, link->highest_seqnum + NEVER_USED, 0, 0, NULL, 0);
    client_must_close(trial, link);
}

static bool is_bulk_data(const struct trial *trial, const struct reply *reply)
{
    return reply->header.command == USBIP_RET_SUBMIT &&
           reply->request.endpoint == trial->server->bulk_in && reply->payload_size > 0;
}

static void send_twice(struct trial *trial, struct link *link, struct reply *reply)
{
    if (is_bulk_data(trial, reply))
        link_send_pdu(link, &reply->header, reply->payload, reply->payload_size);
}

static void ret_duplicate(struct trial *trial)
{
    static const struct hooks hooks = {.reply = send_twice};
    client_must_close(trial, client_open(trial, &hooks));
}

static void ret_unlink_unknown(struct trial *trial)
{
    struct link *link = client_open(trial, NULL);
    link_send_ret_unlink(link, link->highest_seqnum + NEVER_USED, -USBIP_ECONNRESET);
    client_must_go_on(trial, link);
}

static void unknown_command(struct trial *trial)
{
    static const uint8_t commands[] = {0, 1, 5};
    for (size_t i = 0; i < sizeof commands; i++) {
        uint8_t header[USBIP_HEADER_SIZE] = {0, 0, 0, commands[i]};
        client_variant(trial, "%u", commands[i]);
        struct link *link = client_open(trial, NULL);
        link_send(link, header, sizeof header);
        client_must_close(trial, link);
    }
}

static void echo_header(struct trial *trial, struct link *link, struct reply *reply)
{
    (void)trial;
    reply->header.devid = link->devid;
    reply->header.direction = reply->request.in;
    reply->header.ep = reply->request.endpoint & 0x0f;
}

static void hdr_echo(struct trial *trial)
{
    static const struct hooks hooks = {.reply = echo_header};
    client_must_go_on(trial, client_open(trial, &hooks));
}

static void set_packets(struct trial *trial, struct link *link, struct reply *reply)
{
    (void)link;
    if (reply->header.command == USBIP_RET_SUBMIT && reply->request.endpoint != 0)
        reply->header.ret_submit.number_of_packets = *(const int32_t *)trial->server->context;
}

static void np_variants(struct trial *trial)
{
    static const struct hooks hooks = {.reply = set_packets};
    static int32_t packets[] = {0, -1, 42};
    for (size_t i = 0; i < sizeof packets / sizeof packets[0]; i++) {
        client_variant(trial, "%" PRId32, packets[i]);
        trial->server->context = &packets[i];
        client_must_go_on(trial, client_open(trial, &hooks));
    }
}

/* ---- CMD_UNLINK, which clients send when they close a port ---- */

struct unlinking {
    bool seen;       /* a CMD_UNLINK, or its answer */
    int32_t status;  /* that RET_UNLINK gets */
    bool was_nudged; /* GET_STATUS came behind it */
    uint32_t held[MAX_HELD];
    unsigned held_count;
};

static bool is_seen(struct trial *trial, void *context)
{
    const struct unlinking *unlinking = context;
    return unlinking->seen || (client_has_command(trial) && !trial->client->process.running);
}

/* Opens the port and closes it again, until a CMD_UNLINK comes. */
static struct link *open_and_close(struct trial *trial, const struct hooks *hooks,
                                   struct unlinking *unlinking)
{
    trial->server->context = unlinking;
    struct link *link = client_open(trial, hooks);
    if (client_has_command(trial))
        client_process_end_input(&trial->client->process);
    client_wait(trial, is_seen, unlinking,
                client_has_command(trial) ? trial->client->choice->timeout_ms : CLIENT_BY_HAND_MS);
    if (!unlinking->seen)
        trial_not_applicable(trial, "the client unlinks nothing when it closes the port");
    return link;
}

static void finish_closing(struct trial *trial, struct link *link)
{
    client_await_exit(trial, link, CLIENT_WELL,
                      trial->client->choice->timeout_ms + UNLINK_TIMEOUT_MS);
}

/* The first victim is answered behind its RET_UNLINK; those behind it have to wait. */
static void answer_late(struct trial *trial, struct link *link, struct reply *reply)
{
    static const char late[] = "late";
    struct unlinking *unlinking = trial->server->context;
    const uint32_t victim = reply->request.victim;
    if (reply->header.command != USBIP_RET_UNLINK)
        return;
    reply->drop = true;
    if (unlinking->seen) {
        if (unlinking->held_count < MAX_HELD)
            unlinking->held[unlinking->held_count++] = reply->header.seqnum;
        return;
    }
    const struct request *request = NULL;
    for (size_t i = 0; i < link->pending_count; i++) {
        if (link->pending[i].seqnum == victim)
            request = &link->pending[i];
    }
    unsigned size = request && request->in ? sizeof late - 1 : 0;
    link_send_pdu(link, &reply->header, NULL, 0);
    link_send_ret_submit(link, victim, 0, size, late, size);
    link_retire(link, reply->header.seqnum);
    link_retire(link, victim);
    unlinking->seen = true;
}

static void ret_after_ret_unlink(struct trial *trial)
{
    static const struct hooks hooks = {.reply = answer_late};
    struct unlinking unlinking = {0};
    struct link *link = open_and_close(trial, &hooks, &unlinking);
    client_await_end(trial, link, TOLERANCE_MS);
    bool closes = link->ended && link->pending_count > 0;
    client_outcome(trial, closes ? "closes" : "goes on");
    if (closes)
        client_fault(trial, "the client closes the connection, with transfers still waiting");
    trial->server->hooks.reply = NULL;
    for (unsigned i = 0; i < unlinking.held_count; i++) {
        link_send_ret_unlink(link, unlinking.held[i], -USBIP_ECONNRESET);
        link_retire(link, unlinking.held[i]);
    }
    finish_closing(trial, link);
}

static bool complete_first(struct trial *trial, struct link *link, struct request *request)
{
    struct unlinking *unlinking = trial->server->context;
    if (!request->unlink)
        return false;
    unlinking->seen = true;
    for (size_t i = 0; i < link->pending_count; i++) {
        const struct request *victim = &link->pending[i];
        if (victim->seqnum == request->victim && victim->endpoint == trial->server->bulk_in) {
            const struct request copy = *victim;
            link_complete(link, &copy, 0, 4, "late", 4);
            break;
        }
    }
    return false;
}

static void ret_then_unlink_0(struct trial *trial)
{
    static const struct hooks hooks = {.request = complete_first};
    struct unlinking unlinking = {0};
    finish_closing(trial, open_and_close(trial, &hooks, &unlinking));
}

static bool note_nudge(struct trial *trial, struct link *link, struct request *request)
{
    struct unlinking *unlinking = trial->server->context;
    (void)link;
    if (unlinking->seen && !request->unlink && request->endpoint == 0 &&
        request->setup.bmRequestType == USB_DIR_IN && request->setup.bRequest == USB_REQ_GET_STATUS)
        unlinking->was_nudged = true;
    return false;
}

static void set_status(struct trial *trial, struct link *link, struct reply *reply)
{
    struct unlinking *unlinking = trial->server->context;
    (void)link;
    if (reply->header.command != USBIP_RET_UNLINK)
        return;
    unlinking->seen = true;
    reply->header.ret_unlink.status = unlinking->status;
}

/* Every RET_UNLINK comes, with this status: nothing is left to wait for. */
static void close_with_status(struct trial *trial, int32_t status)
{
    static const struct hooks hooks = {.request = note_nudge, .reply = set_status};
    struct unlinking unlinking = {.status = status};
    finish_closing(trial, open_and_close(trial, &hooks, &unlinking));
    if (unlinking.was_nudged) {
        client_outcome(trial, "nudges");
        client_fault(trial, "the client still waits for what RET_UNLINK has ended");
    }
}

static void unlink_0_no_submit(struct trial *trial)
{
    close_with_status(trial, 0);
}

static void unlink_other_status(struct trial *trial)
{
    static const int32_t statuses[] = {-USBIP_EPIPE, -USBIP_ENOENT, USBIP_ECONNRESET};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        client_variant(trial, "%" PRId32, statuses[i]);
        close_with_status(trial, statuses[i]);
    }
}

static void drop_ret_unlink(struct trial *trial, struct link *link, struct reply *reply)
{
    struct unlinking *unlinking = trial->server->context;
    (void)link;
    if (reply->header.command != USBIP_RET_UNLINK)
        return;
    unlinking->seen = true;
    reply->drop = true;
}

/* A nudge is for servers that hold the answer back until another transfer is done. */
static void unlink_never(struct trial *trial)
{
    static const struct hooks hooks = {.request = note_nudge, .reply = drop_ret_unlink};
    struct unlinking unlinking = {0};
    struct link *link = open_and_close(trial, &hooks, &unlinking);
    finish_closing(trial, link);
    if (unlinking.was_nudged)
        client_outcome(trial, "nudges");
}

static const char unlink_source[] = "usbip_protocol.rst, USBIP_RET_UNLINK";
static const char submit_source[] = "usbip_protocol.rst, USBIP_RET_SUBMIT";

static const struct conformance_case cases[] = {
    {"C031", "ret-unknown-seqnum", MUST, CORE, 0,
     "A RET_SUBMIT for a seqnum that was never used ends the connection: nobody knows how long it "
     "is.",
     submit_source, ret_unknown_seqnum, NULL},
    {"C032", "ret-duplicate", MUST, CORE, 0, "So does one that has come before.", submit_source,
     ret_duplicate, NULL},
    {"C033", "ret-after-ret-unlink", MUST, CORE, 0,
     "A RET_SUBMIT behind the RET_UNLINK of its transfer is swallowed, data and all.",
     "servers have sent it", ret_after_ret_unlink, NULL},
    {"C034", "ret-then-unlink-0", MUST, CORE, 0,
     "A transfer that was answered before its CMD_UNLINK arrived is complete.", unlink_source,
     ret_then_unlink_0, NULL},
    {"C035", "unlink-0-no-submit", MUST, CORE, 0,
     "RET_UNLINK with status 0 ends the transfer, also when no RET_SUBMIT came.",
     "stub_tx.c of Linux, a URB that completes while it is unlinked", unlink_0_no_submit, NULL},
    {"C036", "unlink-other-status", MUST, CORE, 0, "So does one with any other status.",
     unlink_source, unlink_other_status, NULL},
    {"C037", "unlink-never", MUST, CORE, 0,
     "A RET_UNLINK that does not come is waited for at most 2 s.",
     "stub_rx.c of Linux holds it back", unlink_never, NULL},
    {"C038", "ret-unlink-unknown", MUST, CORE, 0, "A RET_UNLINK that nobody asked for is ignored.",
     unlink_source, ret_unlink_unknown, NULL},
    {"C039", "unknown-command", MUST, CORE, 0, "A PDU that is no reply ends the connection.",
     "usbip_protocol.rst, usbip_header_basic", unknown_command, NULL},
    {"C040", "hdr-echo", MUST, CORE, 0, "devid, direction and ep of a reply are not looked at.",
     "usbip_protocol.rst: shall be 0, and some servers echo them", hdr_echo, NULL},
    {"C041", "np-variants", MUST, CORE, 0, "Nor is number_of_packets of what is not isochronous.",
     submit_source, np_variants, NULL},
};

const struct section client_matching = {"D", "Replies and their requests", cases,
                                        sizeof cases / sizeof cases[0]};
