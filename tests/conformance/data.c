/* G. Bulk and interrupt data. */
#include <inttypes.h>
#include <string.h>

#include "tests/conformance/trial.h"

enum {
    KIB = 1024,
    SLOWEST = 64, /* bytes in a millisecond that a device takes at least */
    ECHO_SIZE = 1024 * KIB,
    ECHO_CHUNK = 16 * KIB, /* the longest of a random length */
    ECHO_PENDING = 8,
    LARGE_ECHO = 1020 * KIB, /* what our emulator keeps for a host that does not read yet */
    PENDING = 4,
    PROBES = 20,
    STRANGE_INTERVAL = 256,
};

static uint8_t bulk_in_address(const struct trial *trial)
{
    return trial->target->bulk_in | USB_DIR_IN;
}

static void expect_bytes(struct trial *trial, struct wire *wire, uint32_t seqnum, int32_t status,
                         const void *data, size_t size)
{
    const uint8_t *got = trial_expect_data(trial, wire, seqnum, status, size);
    if (size > 0 && memcmp(got, data, size) != 0)
        trial_fail(trial, "other bytes come than the device has sent");
}

/* Sends one transfer; it is accepted whole, and the device has it byte by byte. */
static void expect_received(struct trial *trial, struct wire *wire, uint32_t size, uint32_t flags)
{
    const uint8_t *data = trial_random_bytes(trial, size);
    stimulate_received(trial, wire);
    uint32_t seqnum = wire_submit(
        wire, &(struct wire_submit){
                  .ep = trial->target->bulk_out, .flags = flags, .length = size, .payload = data});
    wire->timeout_ms = trial->target->timeout_ms + (int)(size / SLOWEST);
    trial_expect(trial, wire, seqnum, 0, size);
    wire->timeout_ms = trial->target->timeout_ms;
    struct stimulus_received received = stimulate_received(trial, wire);
    if (received.bytes != size || received.checksum != stimulus_checksum(data, size))
        trial_fail(trial,
                   "%" PRIu32 " bytes are sent, the device has received %" PRIu32 ", or others",
                   size, received.bytes);
}

static void bulk_out_sizes(struct trial *trial)
{
    uint32_t packet = trial->target->bulk_out_packet;
    const uint32_t sizes[] = {1, packet - 1, packet, packet + 1, 4096};
    struct wire *wire = trial_configure(trial);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        expect_received(trial, wire, sizes[i], 0);
}

static void expect_in(struct trial *trial, struct wire *wire, uint32_t request, uint32_t size)
{
    const uint8_t *data = trial_random_bytes(trial, size);
    uint32_t seqnum = trial_in(trial, wire, request);
    trial_expect_pending(trial, wire, seqnum);
    stimulate_send(trial, wire, bulk_in_address(trial), data, size);
    expect_bytes(trial, wire, seqnum, 0, data, size);
}

static void bulk_in_short(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    expect_in(trial, wire, 512, 5);
    trial_record(trial, "REPLY(0,%" PRIu32 ")", trial_data_length(trial, 5));
}

static void bulk_in_exact_multiple(struct trial *trial)
{
    const struct target *target = trial->target;
    struct wire *wire = trial_configure(trial);
    expect_in(trial, wire, 2u * target->bulk_in_packet,
              2u * (target->bulk_in_packet - target->status_bytes));
    trial_expect_alive(trial, wire);
}

static void bulk_in_zlp(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    expect_in(trial, wire, 64, 0);
    trial_record(trial, "REPLY(0,0)");
    trial_expect_alive(trial, wire);
}

/* A transfer that may not be short, and is. */
static uint32_t submit_short_not_ok(struct trial *trial, struct wire *wire)
{
    const uint32_t seqnum =
        wire_submit(wire, &(struct wire_submit){.direction = USBIP_DIR_IN,
                                                .ep = trial->target->bulk_in,
                                                .flags = USBIP_URB_DIR_IN | USBIP_URB_SHORT_NOT_OK,
                                                .length = 64});
    stimulate_send(trial, wire, bulk_in_address(trial), "short", 5);
    return seqnum;
}

static void expect_short_not_ok(struct trial *trial, struct wire *wire)
{
    const uint32_t seqnum = submit_short_not_ok(trial, wire);
    expect_bytes(trial, wire, seqnum, -USBIP_EREMOTEIO, "short", 5);
}

static void short_not_ok(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    expect_short_not_ok(trial, wire);
    trial_record(trial, "REPLY(-121,%" PRIu32 ")", trial_data_length(trial, 5));
    trial_expect_alive(trial, wire);
}

static void bulk_stall(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t pending = trial_in(trial, wire, 64);
    stimulate_halt(trial, wire, bulk_in_address(trial));
    trial_expect(trial, wire, pending, -USBIP_EPIPE, 0);
    for (int i = 0; i < 3; i++)
        trial_expect(trial, wire, trial_in(trial, wire, 64), -USBIP_EPIPE, 0);
    trial_control(trial, wire, USB_RECIP_ENDPOINT, USB_REQ_CLEAR_FEATURE, USB_ENDPOINT_HALT,
                  bulk_in_address(trial), 0, NULL);
    expect_in(trial, wire, 64, 3);
}

static void bulk_in_pends(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t seqnums[PENDING];
    for (int i = 0; i < PENDING; i++)
        seqnums[i] = trial_in(trial, wire, 64);
    for (int i = 0; i < PROBES; i++)
        trial_expect_alive(trial, wire);
    for (int i = 0; i < PENDING; i++)
        trial_expect_pending(trial, wire, seqnums[i]);
}

static void bulk_babble(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t size = trial->target->bulk_in_packet;
    const uint8_t *data = trial_random_bytes(trial, size);
    uint32_t seqnum = trial_in(trial, wire, 10);
    stimulate_send(trial, wire, bulk_in_address(trial), data, size);
    struct wire_pdu *pdu = trial_reply(trial, wire, seqnum);
    int32_t status = pdu->header.ret_submit.status;
    trial_record(trial, "REPLY(%" PRId32 ",%" PRIu32 ")", status,
                 pdu->header.ret_submit.actual_length);
    if (pdu->header.ret_submit.actual_length > 10)
        trial_fail(trial, "more bytes come than were asked for");
    if (status != -USBIP_EOVERFLOW)
        trial_fail(trial, "the status is %" PRId32 ", not -EOVERFLOW", status);
    trial_expect_alive(trial, wire);
}

static void bulk_out_large(struct trial *trial)
{
    static const uint32_t sizes[] = {64 * KIB, 1024 * KIB, 4096 * KIB - 4096};
    struct wire *wire = trial_configure(trial);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        expect_received(trial, wire, sizes[i], 0);
}

static void bulk_in_large(struct trial *trial)
{
    static const uint32_t sizes[] = {64 * KIB, LARGE_ECHO};
    struct wire *wire = trial_configure(trial);
    stimulate_echo(trial, wire, 1);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const uint8_t *data = trial_random_bytes(trial, sizes[i]);
        uint32_t seqnum = trial_in(trial, wire, sizes[i]);
        uint32_t out = trial_out(trial, wire, data, sizes[i]);
        wire->timeout_ms = trial->target->timeout_ms + (int)(sizes[i] / SLOWEST);
        trial_expect_stream(trial, wire, &seqnum, 1, sizes[i], data, sizes[i]);
        trial_expect(trial, wire, out, 0, sizes[i]);
    }
}

static void length_huge(struct trial *trial)
{
    static const uint32_t lengths[] = {0x10000000, 0x7fffffff, 0xffffffff};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        for (uint32_t direction = USBIP_DIR_OUT; direction <= USBIP_DIR_IN; direction++) {
            struct wire *wire = trial_configure(trial);
            struct wire_pdu *pdu;
            uint32_t ep = direction ? trial->target->bulk_in : trial->target->bulk_out;
            trial_observe(trial, wire,
                          wire_submit(wire, &(struct wire_submit){.direction = direction,
                                                                  .ep = ep,
                                                                  .length = lengths[i]}),
                          &pdu);
            wire_close(wire);
        }
    }
}

static void zero_packet_flag(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    expect_received(trial, wire, trial->target->bulk_out_packet, USBIP_URB_ZERO_PACKET);
    trial_expect_alive(trial, wire);
}

static void bulk_out_zero(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    if (!trial->target->stimulus->exact_packets)
        trial_not_applicable(trial, "the stimulus (%s) does not see an empty transfer",
                             trial->target->stimulus->name);
    stimulate_received(trial, wire);
    trial_expect(trial, wire, trial_out(trial, wire, NULL, 0), 0, 0);
    struct stimulus_received received = stimulate_received(trial, wire);
    trial_record(trial, "REPLY(0,0), %" PRIu32 " transfer of %" PRIu32 " bytes", received.transfers,
                 received.bytes);
    if (received.transfers != 1 || received.bytes != 0)
        trial_fail(trial, "the device has received %" PRIu32 " transfers with %" PRIu32 " bytes",
                   received.transfers, received.bytes);
}

static void int_in(struct trial *trial)
{
    static const uint8_t notification[10] = {0xa1, 0x20, 0, 0, 0, 0, 2, 0, 3, 0};
    struct wire *wire = trial_configure(trial);
    uint32_t seqnum = trial_pending_interrupt(trial, wire);
    stimulate_send(trial, wire, trial->target->interrupt_in | USB_DIR_IN, notification,
                   sizeof notification);
    const struct wire_pdu *pdu = trial_expect(trial, wire, seqnum, 0, sizeof notification);
    if (memcmp(pdu->payload, notification, sizeof notification) != 0)
        trial_fail(trial, "other bytes come than the device has sent");
}

static void observe_interval(struct trial *trial, int32_t interval)
{
    struct wire *wire = trial_configure(trial);
    struct wire_pdu *pdu;
    trial_observe(trial, wire,
                  wire_submit(wire, &(struct wire_submit){.direction = USBIP_DIR_IN,
                                                          .ep = trial->target->interrupt_in,
                                                          .length = trial->target->interrupt_packet,
                                                          .interval = interval}),
                  &pdu);
}

static void int_interval_zero(struct trial *trial)
{
    observe_interval(trial, 0);
}

static void int_interval_large_fs(struct trial *trial)
{
    observe_interval(trial, STRANGE_INTERVAL);
}

/* Compares one IN transfer with what was sent, and asks for the next. */
static size_t take_echo(struct trial *trial, struct wire *wire, uint32_t *pending,
                        const uint8_t *data, size_t at)
{
    struct wire_pdu *pdu = trial_reply(trial, wire, pending[0]);
    if (pdu->header.ret_submit.status != 0)
        trial_fail(trial, "an IN transfer ends with status %" PRId32,
                   pdu->header.ret_submit.status);
    size_t size;
    const uint8_t *bytes = trial_data(trial, pdu, &size);
    if (size > ECHO_SIZE - at || (size > 0 && memcmp(bytes, data + at, size) != 0))
        trial_fail(trial, "byte %zu and those that follow are not what was sent", at);
    memmove(pending, pending + 1, (ECHO_PENDING - 1) * sizeof *pending);
    pending[ECHO_PENDING - 1] = trial_in(trial, wire, ECHO_CHUNK);
    return at + size;
}

static void integrity_echo(struct trial *trial)
{
    const uint8_t *data = trial_random_bytes(trial, ECHO_SIZE);
    struct wire *wire = trial_configure(trial);
    uint32_t pending[ECHO_PENDING];
    stimulate_echo(trial, wire, 1);
    for (int i = 0; i < ECHO_PENDING; i++)
        pending[i] = trial_in(trial, wire, ECHO_CHUNK);
    size_t sent = 0, received = 0;
    unsigned empty = 0;
    while (received < ECHO_SIZE) {
        while (sent < ECHO_SIZE && sent - received < (size_t)ECHO_PENDING * ECHO_CHUNK) {
            uint32_t size = 1 + trial_random(trial) % ECHO_CHUNK;
            if (size > ECHO_SIZE - sent)
                size = (uint32_t)(ECHO_SIZE - sent);
            trial_out(trial, wire, data + sent, size);
            sent += size;
        }
        size_t before = received;
        received = take_echo(trial, wire, pending, data, received);
        empty = received > before ? 0 : empty + 1;
        if (empty == TRIAL_MAX_EMPTY)
            trial_fail(trial, "only %zu of %d bytes come back", received, ECHO_SIZE);
    }
    trial_expect_alive(trial, wire);
}

static void status_sign(struct trial *trial)
{
    static const int32_t known[] = {USBIP_ENOENT,    USBIP_EXDEV,     USBIP_ENODEV,
                                    USBIP_EPIPE,     USBIP_ETIME,     USBIP_EPROTO,
                                    USBIP_EOVERFLOW, USBIP_EILSEQ,    USBIP_ECONNRESET,
                                    USBIP_ESHUTDOWN, USBIP_ETIMEDOUT, USBIP_EREMOTEIO};
    struct wire *wire = trial_configure(trial);
    trial_control(trial, wire, 0xc0, 0x7f, 0, 0, 8, NULL);
    if (trial->target->stimulus) {
        stimulate_open(trial, wire);
        trial_reply(trial, wire, submit_short_not_ok(trial, wire));
    }
    /* A line cannot halt the endpoint of every device. */
    if (trial->target->stimulus == &stimulus_vendor_requests) {
        stimulate_halt(trial, wire, bulk_in_address(trial));
        trial_reply(trial, wire, trial_in(trial, wire, 64));
    }
    trial_expect_alive(trial, wire);
    for (size_t i = 0; i < wire->pdu_count; i++) {
        int32_t status = wire->pdus[i]->header.ret_submit.status;
        bool is_known = status == 0;
        for (size_t j = 0; j < sizeof known / sizeof known[0]; j++)
            is_known |= status == -known[j];
        if (!is_known)
            trial_fail(trial, "status %" PRId32 " is none that USB/IP has", status);
    }
}

static void error_payload_framing(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    for (int i = 0; i < 3; i++) {
        trial_reply(trial, wire, submit_short_not_ok(trial, wire));
        trial_expect_alive(trial, wire);
    }
}

#define WITH_DATA (NEED_DEVICE | NEED_BULK | NEED_STIMULUS)

static const struct conformance_case cases[] = {
    {"S105", "bulk-out-sizes", MUST, CORE, WITH_DATA,
     "OUT transfers around the packet size are accepted whole, and arrive byte by byte.",
     "usbip_protocol.rst, USBIP_RET_SUBMIT", bulk_out_sizes, NULL},
    {"S106", "bulk-in-short", MUST, CORE, WITH_DATA,
     "A short packet ends an IN transfer with status 0 and its length.", "USB 2.0, 5.8.3",
     bulk_in_short, NULL},
    {"S107", "bulk-in-exact-multiple", MUST, CORE, WITH_DATA,
     "A transfer that is full ends at once, without waiting for a packet of length 0.",
     "USB 2.0, 5.8.3", bulk_in_exact_multiple, NULL},
    {"S108", "bulk-in-zlp", MUST, CORE, WITH_DATA,
     "A packet of length 0 ends an IN transfer with status 0 and length 0.", "USB 2.0, 5.8.3",
     bulk_in_zlp, NULL},
    {"S109", "short-not-ok", SHOULD, CORE, WITH_DATA,
     "With SHORT_NOT_OK a short transfer ends with -EREMOTEIO, and its bytes come all the same.",
     "usbip_protocol.rst, USBIP_RET_SUBMIT", short_not_ok, NULL},
    {"S110", "bulk-stall", MUST, CORE, WITH_DATA,
     "A halted endpoint ends transfers with -EPIPE, until the halt is cleared.", "USB 2.0, 5.8.5",
     bulk_stall, NULL},
    {"S111", "bulk-in-pends", MUST, CORE, WITH_DATA,
     "While the device has nothing to send an IN transfer is not answered.",
     "usbip_protocol.rst, Architecture", bulk_in_pends, NULL},
    {"S112", "bulk-babble", SHOULD, STRICT, WITH_DATA,
     "A packet longer than what is left of a transfer ends it with -EOVERFLOW.", "USB 2.0, 8.7.4",
     bulk_babble, NULL},
    {"S113", "bulk-out-large", MUST, STRICT, WITH_DATA,
     "OUT transfers of 64 KiB work (a MUST), of 1 MiB and nearly 4 MiB too (a SHOULD).",
     "stub_rx.c of the Linux server", bulk_out_large, NULL},
    {"S114", "bulk-in-large", MUST, STRICT, WITH_DATA,
     "IN transfers of 64 KiB work (a MUST), of nearly 1 MiB too (a SHOULD).",
     "stub_rx.c of the Linux server", bulk_in_large, NULL},
    {"S115", "length-huge", MUST, HOSTILE, NEED_DEVICE | NEED_BULK,
     "A transfer_buffer_length of 256 MiB and more does no harm.", "no rule; for safety",
     length_huge, NULL},
    {"S116", "zero-packet-flag", SHOULD, STRICT, WITH_DATA,
     "With ZERO_PACKET the data arrive (the packet of length 0 behind them shows on a bus only).",
     "usbip.h of the Linux kernel", zero_packet_flag, NULL},
    {"S117", "bulk-out-zero", SHOULD, STRICT, WITH_DATA,
     "An OUT transfer of length 0 is answered with length 0, and reaches the device.",
     "USB 2.0, 5.8.3", bulk_out_zero, NULL},
    {"S118", "int-in", MUST, CORE, NEED_DEVICE | NEED_INTERRUPT | NEED_STIMULUS,
     "What the device sends on its interrupt endpoint arrives.", "USB 2.0, 5.7.3", int_in, NULL},
    {"S119", "int-interval-zero", MAY, HOSTILE, NEED_DEVICE | NEED_INTERRUPT,
     "An interrupt transfer with interval 0 may do anything but harm.", "no rule; for information",
     int_interval_zero, NULL},
    {"S120", "int-interval-large-fs", MAY, HOSTILE, NEED_DEVICE | NEED_INTERRUPT,
     "An interrupt transfer with interval 256 may do anything but harm.",
     "no rule; for information", int_interval_large_fs, NULL},
    {"S121", "integrity-echo", MUST, CORE, WITH_DATA,
     "1 MiB of random bytes in random pieces comes back as it was.",
     "usbip_protocol.rst, Architecture", integrity_echo, NULL},
    {"S122", "status-sign", MUST, CORE, NEED_DEVICE | NEED_BULK,
     "Every status is 0 or the negative of an errno that USB transfers have.",
     "usbip_protocol.rst, USBIP_RET_SUBMIT", status_sign, NULL},
    {"S123", "error-payload-framing", MUST, CORE, WITH_DATA,
     "Also with an error exactly actual_length bytes follow.",
     "usbip_protocol.rst, USBIP_RET_SUBMIT", error_payload_framing, NULL},
};

const struct section data_transfers = {"G", "Bulk and interrupt data", cases,
                                       sizeof cases / sizeof cases[0]};
