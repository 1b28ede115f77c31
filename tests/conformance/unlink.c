/* H. CMD_UNLINK. */
#include <inttypes.h>
#include <string.h>

#include "protocol/bytes.h"
#include "tests/conformance/trial.h"

enum {
    LATE_MS = 100,           /* in which a server that answers all the same has done so */
    NEVER_USED = 0x7ffffff0, /* a seqnum */
    PENDING = 4,
    RACES = 1000,
    SOAK_RACES = 10000,
    RACE_MAX_IN = 4,
    RACE_DATA = 8, /* bytes that are sent at once */
    STORM_ROUNDS = 50,
    STORM_SOAK_ROUNDS = 1000,
    STORM_PENDING = 16,
    BLOCKING_SIZE = 64 << 10,
    BLOCKING_TRANSFERS = 64, /* 4 MiB: no device keeps so much */
};

/* The victim must not be answered any more, now or later. */
static void expect_never(struct trial *trial, struct wire *wire, uint32_t seqnum)
{
    trial_expect_alive(trial, wire);
    if (wire_position(wire, seqnum) >= 0)
        trial_fail(trial, "request %" PRIu32 " was unlinked, and is answered all the same", seqnum);
}

static void unlink_pending_in(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t victim = trial_in(trial, wire, 64);
    trial_expect_unlinked(trial, wire, wire_unlink(wire, victim), -USBIP_ECONNRESET);
    trial_record(trial, "UNLINK(-104)");
    trial_pause(LATE_MS);
    expect_never(trial, wire, victim);
}

static void unlink_completed(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    uint32_t victim = trial_get_status(wire);
    trial_reply(trial, wire, victim);
    trial_expect_unlinked(trial, wire, wire_unlink(wire, victim), 0);
    trial_record(trial, "UNLINK(0)");
}

static void unlink_unknown(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    trial_expect_unlinked(trial, wire, wire_unlink(wire, NEVER_USED), 0);
    trial_record(trial, "UNLINK(0)");
}

static void unlink_header(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t victim = trial_in(trial, wire, 64);
    uint32_t seqnum = wire_unlink(wire, victim);
    struct wire_pdu *pdu = trial_expect_unlinked(trial, wire, seqnum, -USBIP_ECONNRESET);
    for (size_t i = 0x18; i < USBIP_HEADER_SIZE; i++) {
        if (pdu->bytes[i] != 0)
            trial_fail(trial, "byte 0x%02zx of RET_UNLINK is 0x%02x, not 0", i, pdu->bytes[i]);
    }
    trial_expect_alive(trial, wire); /* RET_UNLINK has no payload */
}

/* What has become of each request, from the order in which the answers came. */
static void check_terminal(struct trial *trial, struct wire *wire, uint32_t submit,
                           uint32_t unlink_seqnum)
{
    unsigned answers = 0, unlinks = 0;
    long answered_at = -1, unlinked_at = -1;
    int32_t status = 0;
    for (size_t i = wire->pdu_count; i > 0; i--) {
        const struct wire_pdu *pdu = wire->pdus[i - 1];
        if (pdu->header.seqnum == submit) {
            answers++;
            answered_at = (long)i;
        } else if (unlink_seqnum && pdu->header.seqnum == unlink_seqnum) {
            unlinks++;
            unlinked_at = (long)i;
            status = pdu->header.ret_unlink.status;
        } else if (pdu->header.seqnum < submit) {
            break; /* of the round before */
        }
    }
    if (answers > 1 || unlinks > 1)
        trial_fail(trial, "request %" PRIu32 " has %u answers, its unlink %u", submit, answers,
                   unlinks);
    if (answered_at > unlinked_at && unlink_seqnum) {
        trial_record(trial, "answered behind RET_UNLINK");
        trial_fail(trial, "request %" PRIu32 " is answered behind its RET_UNLINK", submit);
    }
    if (answers > 0 && unlinks > 0 && status != 0)
        trial_fail(trial, "request %" PRIu32 " is answered, and unlinked with status %" PRId32,
                   submit, status);
}

static const uint8_t raced[RACE_MAX_IN * RACE_DATA + 1] = "numberednumberednumberednumbered";

/* How many of the bytes that are left have come with this transfer, if it was answered. */
static size_t take_raced(struct trial *trial, struct wire *wire, uint32_t seqnum, size_t left)
{
    long position = wire_position(wire, seqnum);
    size_t size;
    if (position < 0)
        return 0;
    const uint8_t *data = trial_data(trial, wire->pdus[position], &size);
    if (size > left || (size > 0 && memcmp(data, raced + sizeof raced - 1 - left, size) != 0))
        trial_fail(trial, "request %" PRIu32 " has other bytes than were sent", seqnum);
    return size;
}

/* Some transfers, data for none to all of them, and unlinks for some, all in one segment. */
static void race(struct trial *trial, struct wire *wire)
{
    struct usbip_buffer buffer = {0};
    uint32_t submits[RACE_MAX_IN], unlinks[RACE_MAX_IN] = {0};
    unsigned count = 1 + trial_random(trial) % RACE_MAX_IN;
    for (unsigned i = 0; i < count; i++)
        submits[i] = wire_append_submit(wire, &buffer,
                                        &(struct wire_submit){.direction = USBIP_DIR_IN,
                                                              .ep = trial->target->bulk_in,
                                                              .length = 64});
    uint32_t out[RACE_MAX_IN], outs = trial_random(trial) % (count + 1);
    bool unlink_first = trial_random(trial) % 2;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; (pass == 0) != unlink_first && i < outs; i++)
            out[i] = wire_append_submit(wire, &buffer,
                                        &(struct wire_submit){.ep = trial->target->bulk_out,
                                                              .length = RACE_DATA,
                                                              .payload = raced});
        for (unsigned i = 0; (pass == 0) == unlink_first && i < count; i++) {
            if (trial_random(trial) % 2)
                unlinks[i] = wire_append_unlink(wire, &buffer, submits[i]);
        }
    }
    size_t piece = 1 + trial_random(trial) % (buffer.size + 48);
    wire_send_pieces(wire, buffer.data, buffer.size, piece, 0);
    usbip_buffer_free(&buffer);
    for (unsigned i = 0; i < outs; i++)
        trial_expect(trial, wire, out[i], 0, RACE_DATA);
    for (unsigned i = 0; i < count; i++) {
        if (!unlinks[i])
            unlinks[i] = wire_unlink(wire, submits[i]);
    }
    trial_expect_alive(trial, wire);
    for (unsigned i = 0; i < count; i++) {
        struct wire_pdu *pdu;
        if (wire_wait(wire, unlinks[i], &pdu) != WIRE_OK)
            trial_fail(trial, "CMD_UNLINK %" PRIu32 " is not answered", unlinks[i]);
    }
    trial_expect_alive(trial, wire);
    size_t left = outs * (size_t)RACE_DATA;
    for (unsigned i = 0; i < count; i++) {
        check_terminal(trial, wire, submits[i], unlinks[i]);
        left -= take_raced(trial, wire, submits[i], left);
    }
    /* What found no transfer must not be lost, nor answer those of the next round. */
    uint32_t rest[RACE_MAX_IN];
    unsigned packets = trial->target->stimulus->exact_packets ? (unsigned)left / RACE_DATA : 0;
    for (unsigned i = 0; i < packets; i++)
        rest[i] = trial_in(trial, wire, 64);
    trial_expect_stream(trial, wire, rest, packets, 64,
                        raced + RACE_MAX_IN * (size_t)RACE_DATA - left, left);
}

static void single_terminal(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    int rounds = trial->target->soak ? SOAK_RACES : RACES;
    stimulate_echo(trial, wire, 1);
    for (int i = 0; i < rounds; i++)
        race(trial, wire);
    trial_record(trial, "%d rounds", rounds);
}

static void unlink_one_of_n(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t seqnums[PENDING];
    for (int i = 0; i < PENDING; i++)
        seqnums[i] = trial_in(trial, wire, 64);
    trial_expect_unlinked(trial, wire, wire_unlink(wire, seqnums[1]), -USBIP_ECONNRESET);
    stimulate_send_numbered(trial, wire, 4, 16);
    stimulate_expect_number(trial, wire, seqnums[0], 1);
    stimulate_expect_number(trial, wire, seqnums[2], 2);
    stimulate_expect_number(trial, wire, seqnums[3], 3);
    stimulate_expect_number(trial, wire, trial_in(trial, wire, 64), 4);
    expect_never(trial, wire, seqnums[1]);
}

static void unlink_all_of_n(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t seqnums[PENDING], unlinks[PENDING];
    for (int i = 0; i < PENDING; i++)
        seqnums[i] = trial_in(trial, wire, 64);
    for (int i = 0; i < PENDING; i++)
        unlinks[i] = wire_unlink(wire, seqnums[i]);
    for (int i = 0; i < PENDING; i++)
        trial_expect_unlinked(trial, wire, unlinks[i], -USBIP_ECONNRESET);
    for (int i = 0; i < PENDING; i++)
        expect_never(trial, wire, seqnums[i]);
}

static void unlink_holdoff_leak(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t first = trial_in(trial, wire, 64), second = trial_in(trial, wire, 64);
    trial_expect_unlinked(trial, wire, wire_unlink(wire, first), -USBIP_ECONNRESET);
    stimulate_send_numbered(trial, wire, 1, 16);
    stimulate_expect_number(trial, wire, second, 1);
    uint32_t third = trial_in(trial, wire, 64), fourth = trial_in(trial, wire, 64);
    trial_expect_unlinked(trial, wire, wire_unlink(wire, third), -USBIP_ECONNRESET);
    trial_expect_pending(trial, wire, fourth);
    stimulate_send_numbered(trial, wire, 1, 16);
    stimulate_expect_number(trial, wire, fourth, 1);
}

static void unlink_then_resubmit(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t victim = trial_in(trial, wire, 64);
    trial_expect_unlinked(trial, wire, wire_unlink(wire, victim), -USBIP_ECONNRESET);
    uint32_t again = trial_in(trial, wire, 64);
    stimulate_send_numbered(trial, wire, 1, 16);
    stimulate_expect_number(trial, wire, again, 1);
    expect_never(trial, wire, victim);
}

/* The other device echoes; as long as nobody reads, it takes no more at some point. */
static void unlink_out(struct trial *trial)
{
    const struct usbip_device_record *other = &trial->target->other;
    if (other->idVendor != STIMULUS_DEVICE_VENDOR || other->idProduct != STIMULUS_ECHO_PRODUCT)
        trial_not_applicable(trial, "no device here can refuse data (second.lua can)");
    struct wire *wire = trial_import_busid(trial, other->busid);
    const uint8_t *data = trial_random_bytes(trial, BLOCKING_SIZE);
    trial_set_configuration(trial, wire, 1);
    uint32_t last = 0;
    for (int i = 0; i < BLOCKING_TRANSFERS; i++)
        last = wire_submit(
            wire, &(struct wire_submit){.ep = 1, .length = BLOCKING_SIZE, .payload = data});
    trial_expect_pending(trial, wire, last);
    trial_expect_unlinked(trial, wire, wire_unlink(wire, last), -USBIP_ECONNRESET);
    expect_never(trial, wire, last);
}

static void unlink_double(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t victim = trial_in(trial, wire, 64);
    trial_expect_unlinked(trial, wire, wire_unlink(wire, victim), -USBIP_ECONNRESET);
    trial_expect_unlinked(trial, wire, wire_unlink(wire, victim), 0);
}

static void unlink_fields_ignored(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    struct usbip_buffer buffer = {0};
    uint32_t victim = trial_in(trial, wire, 64);
    uint32_t seqnum = wire_append_unlink(wire, &buffer, victim);
    usbip_store_be32(buffer.data + 12, USBIP_DIR_IN);
    usbip_store_be32(buffer.data + 16, trial->target->bulk_in);
    wire_send(wire, buffer.data, buffer.size);
    usbip_buffer_free(&buffer);
    trial_expect_unlinked(trial, wire, seqnum, -USBIP_ECONNRESET);
    expect_never(trial, wire, victim);
}

static void open_close_storm(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    int rounds = trial->target->soak ? STORM_SOAK_ROUNDS : STORM_ROUNDS;
    for (int round = 0; round < rounds; round++) {
        uint32_t seqnums[STORM_PENDING], unlinks[STORM_PENDING];
        for (int i = 0; i < STORM_PENDING; i++)
            seqnums[i] = trial_in(trial, wire, 64);
        for (int i = 0; i < STORM_PENDING; i++)
            unlinks[i] = wire_unlink(wire, seqnums[i]);
        trial_expect_alive(trial, wire);
        for (int i = 0; i < STORM_PENDING; i++)
            trial_expect_unlinked(trial, wire, unlinks[i], -USBIP_ECONNRESET);
    }
    trial_record(trial, "%d rounds", rounds);
}

#define WITH_BULK (NEED_DEVICE | NEED_BULK)

static const char unlink_rules[] = "usbip_protocol.rst, USBIP_RET_UNLINK";

static const struct conformance_case cases[] = {
    {"S124", "unlink-pending-in", MUST, CORE, WITH_BULK | NEED_STIMULUS,
     "A pending transfer that is unlinked ends with RET_UNLINK(-ECONNRESET) and nothing else.",
     unlink_rules, unlink_pending_in, NULL},
    {"S125", "unlink-completed", MUST, CORE, NEED_DEVICE,
     "Unlinking what has been answered gives RET_UNLINK(0).", unlink_rules, unlink_completed, NULL},
    {"S126", "unlink-unknown", SHOULD, CORE, NEED_DEVICE,
     "Unlinking a seqnum that was never used gives RET_UNLINK(0).", unlink_rules, unlink_unknown,
     NULL},
    {"S127", "unlink-header", MUST, CORE, WITH_BULK | NEED_STIMULUS,
     "RET_UNLINK has the seqnum of the CMD_UNLINK, and zeros behind its status.", unlink_rules,
     unlink_header, NULL},
    {"S128", "single-terminal", MUST, CORE | SOAK, WITH_BULK | NEED_STIMULUS,
     "However data and unlinks race, a transfer has one end, and none behind its RET_UNLINK.",
     unlink_rules, single_terminal, NULL},
    {"S129", "unlink-one-of-n", SHOULD, CORE, WITH_BULK | NEED_STIMULUS,
     "Unlinking one of several transfers loses no data: the others get all of it, in order.",
     unlink_rules, unlink_one_of_n, NULL},
    {"S130", "unlink-all-of-n", MUST, CORE, WITH_BULK | NEED_STIMULUS,
     "All of several pending transfers can be unlinked.", unlink_rules, unlink_all_of_n, NULL},
    {"S131", "unlink-holdoff-leak", SHOULD, STRICT, WITH_BULK | NEED_STIMULUS,
     "Unlinking some transfers never ends another one.", unlink_rules, unlink_holdoff_leak, NULL},
    {"S132", "unlink-then-resubmit", MUST, STRICT, WITH_BULK | NEED_STIMULUS,
     "What the device sends after an unlink goes to the next transfer.", unlink_rules,
     unlink_then_resubmit, NULL},
    {"S133", "unlink-out", MUST, STRICT, NEED_DEVICE | NEED_SECOND_DEVICE,
     "An OUT transfer that the device does not take can be unlinked.", unlink_rules, unlink_out,
     NULL},
    {"S134", "unlink-ep0", MUST, STRICT, NEED_DEVICE,
     "A control transfer that takes its time can be unlinked.", unlink_rules, NULL,
     "no stimulus can make a control request wait"},
    {"S135", "unlink-double", MUST, STRICT, WITH_BULK | NEED_STIMULUS,
     "Of two unlinks of one transfer the first gives -ECONNRESET, the second 0.", unlink_rules,
     unlink_double, NULL},
    {"S136", "unlink-fields-ignored", MUST, STRICT, WITH_BULK | NEED_STIMULUS,
     "direction and ep of a CMD_UNLINK do not matter.", unlink_rules, unlink_fields_ignored, NULL},
    {"S137", "open-close-storm", MUST, STRICT | SOAK, WITH_BULK | NEED_STIMULUS,
     "Opening and closing a port again and again (16 transfers, unlinked) keeps the connection.",
     unlink_rules, open_close_storm, NULL},
};

const struct section unlinking = {"H", "Unlinking", cases, sizeof cases / sizeof cases[0]};
