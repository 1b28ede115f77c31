/* I. Ordering, pipelining, framing. */
#include <inttypes.h>
#include <string.h>

#include "protocol/bytes.h"
#include "tests/conformance/trial.h"

enum {
    IN_ORDER = 16,
    DEEP = 256,
    COALESCED = 50,
    AFTER_CONFIGURATION = 10,
    BYTE_PAUSE_MS = 1,
    SLOW_PENDING = 64,
    SLOW_SIZE = 8192,
    SLOW_ROUNDS = 16, /* 8 MiB in all: more than sockets hold */
    SLOW_MS = 200,
    SLOW_SOAK_MS = 30000,
    OUT_COUNT = 40,
    OUT_MAX = 4096,
};

static void in_order_per_endpoint(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t seqnums[IN_ORDER];
    for (int i = 0; i < IN_ORDER; i++)
        seqnums[i] = trial_in(trial, wire, 64);
    stimulate_send_numbered(trial, wire, IN_ORDER, 16);
    for (unsigned i = 0; i < IN_ORDER; i++)
        stimulate_expect_number(trial, wire, seqnums[i], i + 1);
    for (int i = 1; i < IN_ORDER; i++) {
        if (wire_position(wire, seqnums[i]) < wire_position(wire, seqnums[i - 1]))
            trial_fail(trial, "request %" PRIu32 " is answered before %" PRIu32, seqnums[i],
                       seqnums[i - 1]);
    }
}

static void out_of_order_across_endpoints(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t interrupt = trial_pending_interrupt(trial, wire);
    stimulate_echo(trial, wire, 1);
    uint32_t seqnum = trial_in(trial, wire, 64);
    trial_expect(trial, wire, trial_out(trial, wire, "echo", 4), 0, 4);
    trial_expect_data(trial, wire, seqnum, 0, 4);
    trial_expect_pending(trial, wire, interrupt);
}

static void deep_queue(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t seqnums[DEEP], length = trial->target->bulk_in_packet;
    for (int i = 0; i < DEEP; i++)
        seqnums[i] = trial_in(trial, wire, length);
    stimulate_echo(trial, wire, 1);
    uint8_t numbers[DEEP][16] = {0};
    for (uint32_t i = 0; i < DEEP; i++) {
        usbip_store_le32(numbers[i], i + 1);
        trial_out(trial, wire, numbers[i], sizeof numbers[i]);
    }
    trial_expect_stream(trial, wire, seqnums, DEEP, length, numbers[0], sizeof numbers);
}

static void coalesced(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    struct usbip_buffer buffer = {0};
    uint32_t seqnums[COALESCED];
    for (int i = 0; i < COALESCED; i++)
        seqnums[i] =
            wire_append_control(wire, &buffer,
                                &(struct usbip_setup){USB_DIR_IN, USB_REQ_GET_DESCRIPTOR,
                                                      USB_DT_DEVICE << 8, 0, USB_DT_DEVICE_SIZE},
                                NULL);
    wire_send(wire, buffer.data, buffer.size);
    usbip_buffer_free(&buffer);
    for (int i = 0; i < COALESCED; i++)
        trial_expect(trial, wire, seqnums[i], 0, USB_DT_DEVICE_SIZE);
}

static void fragmented_submit(struct trial *trial)
{
    static const uint8_t coding[7] = {0x80, 0x25, 0, 0, 0, 0, 8};
    struct wire *wire = trial_configure(trial);
    struct usbip_buffer buffer = {0};
    struct usbip_setup setup = {0x21, 0x20, 0, (uint16_t)trial->target->acm_interface,
                                sizeof coding};
    uint32_t seqnum = wire_append_control(wire, &buffer, &setup, coding);
    wire_send_pieces(wire, buffer.data, buffer.size, 1, BYTE_PAUSE_MS);
    usbip_buffer_free(&buffer);
    trial_expect(trial, wire, seqnum, 0, sizeof coding);
    trial_expect_alive(trial, wire);
}

static void special_blocks_stream(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    struct usbip_buffer buffer = {0};
    uint32_t seqnums[AFTER_CONFIGURATION];
    uint32_t first = wire_append_control(
        wire, &buffer,
        &(struct usbip_setup){0, USB_REQ_SET_CONFIGURATION,
                              trial->target->configuration.descriptor.bConfigurationValue, 0, 0},
        NULL);
    for (int i = 0; i < AFTER_CONFIGURATION; i++)
        seqnums[i] = wire_append_submit(wire, &buffer,
                                        &(struct wire_submit){.direction = USBIP_DIR_IN,
                                                              .ep = trial->target->bulk_in,
                                                              .length = 64});
    wire_send(wire, buffer.data, buffer.size);
    usbip_buffer_free(&buffer);
    trial_expect(trial, wire, first, 0, 0);
    if (!trial->target->stimulus->exact_packets) {
        /* What a line sends now can be lost, for its far end is hung up meanwhile. */
        for (unsigned i = 0; i < AFTER_CONFIGURATION; i++)
            trial_expect_pending(trial, wire, seqnums[i]);
        return;
    }
    stimulate_send_numbered(trial, wire, AFTER_CONFIGURATION, 16);
    for (unsigned i = 0; i < AFTER_CONFIGURATION; i++)
        stimulate_expect_number(trial, wire, seqnums[i], i + 1);
}

static void slow_reader(struct trial *trial)
{
    if (trial->target->stimulus != &stimulus_vendor_requests)
        trial_not_applicable(trial, "the stimulus (%s) does not work without its replies",
                             trial->target->stimulus->name);
    struct wire *wire = trial_configure(trial);
    uint32_t *seqnums = trial_alloc(trial, sizeof *seqnums * SLOW_ROUNDS * SLOW_PENDING);
    const struct usbip_setup numbered = {USB_TYPE_VENDOR, 2, SLOW_PENDING, SLOW_SIZE, 0};
    wire->deaf = true;
    for (int i = 0; i < SLOW_ROUNDS * SLOW_PENDING; i++) {
        seqnums[i] = trial_in(trial, wire, SLOW_SIZE);
        if (i % SLOW_PENDING == SLOW_PENDING - 1)
            wire_control(wire, &numbered, NULL);
    }
    trial_pause(trial->target->soak ? SLOW_SOAK_MS : SLOW_MS);
    wire->deaf = false;
    trial->numbers.size = SLOW_SIZE;
    for (uint32_t i = 0; i < SLOW_ROUNDS * SLOW_PENDING; i++)
        stimulate_expect_number(trial, wire, seqnums[i], 1 + i % SLOW_PENDING);
    trial_expect_alive(trial, wire);
}

static void out_actual_length_sum(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t seqnums[OUT_COUNT], sum = 0, accepted = 0;
    stimulate_received(trial, wire);
    for (int i = 0; i < OUT_COUNT; i++) {
        uint32_t size = 1 + trial_random(trial) % OUT_MAX;
        sum += size;
        seqnums[i] = trial_out(trial, wire, trial_random_bytes(trial, size), size);
    }
    for (int i = 0; i < OUT_COUNT; i++) {
        struct wire_pdu *pdu = trial_reply(trial, wire, seqnums[i]);
        accepted += pdu->header.ret_submit.actual_length;
    }
    struct stimulus_received received = stimulate_received(trial, wire);
    if (accepted != sum || received.bytes != sum)
        trial_fail(trial,
                   "%" PRIu32 " bytes are sent, %" PRIu32 " accepted, and %" PRIu32 " received",
                   sum, accepted, received.bytes);
}

#define WITH_DATA (NEED_DEVICE | NEED_BULK | NEED_STIMULUS)

static const struct conformance_case cases[] = {
    {"S138", "in-order-per-endpoint", MUST, CORE, WITH_DATA,
     "Transfers of one endpoint end in the order in which they were submitted, with the data in "
     "theirs.",
     "USB 2.0, 5.3.2", in_order_per_endpoint, NULL},
    {"S139", "out-of-order-across-eps", MUST, CORE, WITH_DATA | NEED_INTERRUPT,
     "A pending transfer of one endpoint does not hold up another endpoint.",
     "usbip_protocol.rst, Architecture", out_of_order_across_endpoints, NULL},
    {"S140", "deep-queue", SHOULD, CORE | SOAK, WITH_DATA,
     "256 IN transfers can wait while OUT transfers go on.", "usbip_protocol.rst, Architecture",
     deep_queue, NULL},
    {"S141", "coalesced", MUST, CORE, NEED_DEVICE, "50 requests in one segment are all answered.",
     "usbip_protocol.rst, Architecture", coalesced, NULL},
    {"S142", "fragmented-submit", MUST, CORE, NEED_DEVICE | NEED_ACM,
     "A request with its data that arrives byte by byte is answered as usual.",
     "usbip_protocol.rst, Architecture", fragmented_submit, NULL},
    {"S143", "special-blocks-stream", MUST, STRICT, WITH_DATA,
     "Transfers right behind SET_CONFIGURATION find their endpoints.", "USB 2.0, 9.4.7",
     special_blocks_stream, NULL},
    {"S144", "slow-reader", MUST, STRICT | SOAK, WITH_DATA,
     "While the client does not read nothing is lost, and nothing changes its order.",
     "usbip_protocol.rst, Architecture", slow_reader, NULL},
    {"S145", "out-actual-length-sum", MUST, STRICT, WITH_DATA,
     "Over all OUT transfers what was sent, was accepted and has arrived is the same.",
     "usbip_protocol.rst, USBIP_RET_SUBMIT", out_actual_length_sum, NULL},
};

const struct section ordering = {"I", "Order, pipelining, framing", cases,
                                 sizeof cases / sizeof cases[0]};
