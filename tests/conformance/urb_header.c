/* D. The headers of the URB phase. */
#include <inttypes.h>
#include <string.h>

#include "protocol/bytes.h"
#include "tests/conformance/trial.h"

enum { PADDING_OF_RET_SUBMIT = 0x28, PADDING_OF_RET_UNLINK = 0x18, UNDECLARED_COUNT = 15 };

/* An endpoint number that no interface of the device declares in this direction, or 0. */
static uint32_t undeclared_endpoint(const struct trial *trial, uint8_t direction)
{
    const struct usbip_configuration *table = &trial->target->configuration;
    for (uint32_t number = UNDECLARED_COUNT; number > 0; number--) {
        bool declared = false;
        for (unsigned i = 0; i < table->endpoint_count; i++)
            declared |= table->endpoints[i].bEndpointAddress == (number | direction);
        if (!declared)
            return number;
    }
    return 0;
}

/* For the cases that need an IN transfer that ends: the device descriptor. */
static struct wire_submit get_device(uint32_t length)
{
    struct wire_submit submit = {
        .direction = USBIP_DIR_IN, .flags = USBIP_URB_DIR_IN, .length = length};
    usbip_encode_setup(submit.setup,
                       &(struct usbip_setup){USB_DIR_IN, USB_REQ_GET_DESCRIPTOR, USB_DT_DEVICE << 8,
                                             0, (uint16_t)length});
    return submit;
}

static void check_basic_header(struct trial *trial, const struct wire_pdu *pdu)
{
    if (pdu->header.devid != 0 || pdu->header.direction != 0 || pdu->header.ep != 0)
        trial_fail(trial,
                   "%s has devid %" PRIx32 ", direction %" PRIu32 " and ep %" PRIu32
                   ", which shall be 0",
                   usbip_command_name(pdu->header.command), pdu->header.devid,
                   pdu->header.direction, pdu->header.ep);
}

static void ret_header_zero(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    struct wire_submit submit = get_device(USB_DT_DEVICE_SIZE);
    check_basic_header(trial, trial_reply(trial, wire, wire_submit(wire, &submit)));
    check_basic_header(trial,
                       trial_control(trial, wire, 0, USB_REQ_SET_CONFIGURATION,
                                     trial->target->configuration.descriptor.bConfigurationValue, 0,
                                     0, NULL));
    check_basic_header(trial, trial_expect_unlinked(trial, wire, wire_unlink(wire, 99999), 0));
}

static void check_padding(struct trial *trial, const struct wire_pdu *pdu, size_t from)
{
    for (size_t i = from; i < USBIP_HEADER_SIZE; i++) {
        if (pdu->bytes[i] != 0)
            trial_fail(trial, "byte 0x%02zx of %s is 0x%02x, not 0", i,
                       usbip_command_name(pdu->header.command), pdu->bytes[i]);
    }
}

static void ret_padding(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    struct wire_submit submit = get_device(USB_DT_DEVICE_SIZE);
    check_padding(trial, trial_reply(trial, wire, wire_submit(wire, &submit)),
                  PADDING_OF_RET_SUBMIT);
    check_padding(trial, trial_expect_unlinked(trial, wire, wire_unlink(wire, 99999), 0),
                  PADDING_OF_RET_UNLINK);
}

static void ret_length_in(struct trial *trial)
{
    static const uint32_t lengths[] = {1, 8, 18, 64};
    struct wire *wire = trial_import(trial);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct wire_submit submit = get_device(lengths[i]);
        uint32_t length = lengths[i] < USB_DT_DEVICE_SIZE ? lengths[i] : USB_DT_DEVICE_SIZE;
        trial_expect(trial, wire, wire_submit(wire, &submit), 0, length);
        trial_expect_alive(trial, wire); /* nothing was missing, nothing too much */
    }
}

static void ret_length_out(struct trial *trial)
{
    static const uint8_t coding[7] = {0x80, 0x25, 0, 0, 0, 0, 8};
    struct wire *wire = trial_configure(trial);
    uint16_t interface = (uint16_t)trial->target->acm_interface;
    struct wire_pdu *pdu =
        trial_control(trial, wire, 0x21, 0x20, 0, interface, sizeof coding, coding);
    if (pdu->header.ret_submit.status != 0 || pdu->header.ret_submit.actual_length != 7)
        trial_fail(trial, "SET_LINE_CODING with 7 bytes ends with status %" PRId32 " and %" PRIu32,
                   pdu->header.ret_submit.status, pdu->header.ret_submit.actual_length);
    trial_expect_alive(trial, wire);
    /* A class request that no device knows. */
    pdu = trial_control(trial, wire, 0x21, 0x7f, 0, interface, sizeof coding, coding);
    trial_record(trial, "REPLY(0,7), REPLY(%" PRId32 ",%" PRIu32 ")", pdu->header.ret_submit.status,
                 pdu->header.ret_submit.actual_length);
    if (pdu->header.ret_submit.actual_length > sizeof coding)
        trial_fail(trial, "more bytes are accepted than were sent");
    trial_expect_alive(trial, wire);
}

static void check_packets(struct trial *trial, int32_t packets)
{
    struct wire *wire = trial_import(trial);
    struct wire_submit submit = get_device(USB_DT_DEVICE_SIZE);
    submit.number_of_packets = packets;
    struct wire_pdu *pdu =
        trial_expect(trial, wire, wire_submit(wire, &submit), 0, USB_DT_DEVICE_SIZE);
    trial_record(trial, "REPLY(0,18), packets %" PRId32, pdu->header.ret_submit.number_of_packets);
    if (pdu->header.ret_submit.number_of_packets != packets)
        trial_fail(trial, "number_of_packets %" PRId32 " comes back as %" PRId32, packets,
                   pdu->header.ret_submit.number_of_packets);
    trial_expect_alive(trial, wire);
}

static void np_zero(struct trial *trial)
{
    check_packets(trial, 0);
}

static void np_minus_one(struct trial *trial)
{
    check_packets(trial, -1);
}

static void np_garbage(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    struct wire_pdu *pdu;
    trial_observe(trial, wire,
                  wire_submit(wire, &(struct wire_submit){.direction = USBIP_DIR_IN,
                                                          .ep = trial->target->bulk_in,
                                                          .length = 64,
                                                          .number_of_packets = 42}),
                  &pdu);
}

static void start_frame_zero(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    struct wire_submit submit = get_device(USB_DT_DEVICE_SIZE);
    struct wire_pdu *pdu =
        trial_expect(trial, wire, wire_submit(wire, &submit), 0, USB_DT_DEVICE_SIZE);
    if (pdu->header.ret_submit.start_frame != 0 || pdu->header.ret_submit.error_count != 0)
        trial_fail(trial, "start_frame is %" PRId32 " and error_count %" PRId32 ", not 0",
                   pdu->header.ret_submit.start_frame, pdu->header.ret_submit.error_count);
}

static void devid_wrong(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    struct wire_submit submit = get_device(USB_DT_DEVICE_SIZE);
    struct wire_pdu *pdu;
    submit.devid_xor = 1;
    switch (trial_observe(trial, wire, wire_submit(wire, &submit), &pdu)) {
    case OUTCOME_REPLY:
        if (pdu->header.ret_submit.status == 0 &&
            (pdu->payload_size != USB_DT_DEVICE_SIZE ||
             memcmp(pdu->payload, trial->target->device_descriptor, USB_DT_DEVICE_SIZE) != 0))
            trial_fail(trial, "another device has answered");
        break;
    case OUTCOME_DESYNC:
        trial_fail(trial, "the stream is out of step");
    default:
        break;
    }
}

static void expect_command_refused(struct trial *trial, uint32_t command)
{
    struct wire *wire = trial_import(trial);
    uint8_t bytes[USBIP_HEADER_SIZE] = {0};
    usbip_store_be32(bytes, command);
    usbip_store_be32(bytes + 4, 7);
    usbip_store_be32(bytes + 8, wire->devid);
    wire_send(wire, bytes, sizeof bytes);
    if (trial_observe_op(trial, wire) != OUTCOME_CLOSE)
        trial_fail(trial, "command 0x%" PRIx32 ": the connection stays open", command);
}

static void unknown_command(struct trial *trial)
{
    expect_command_refused(trial, 0);
    expect_command_refused(trial, 5);
    expect_command_refused(trial, 0x80000001);
}

static void ret_from_client(struct trial *trial)
{
    expect_command_refused(trial, USBIP_RET_SUBMIT);
    expect_command_refused(trial, USBIP_RET_UNLINK);
}

/* A transfer that has to end with an error, and the connection goes on. */
static void expect_error(struct trial *trial, struct wire *wire, const struct wire_submit *submit)
{
    struct wire_pdu *pdu;
    if (trial_observe(trial, wire, wire_submit(wire, submit), &pdu) != OUTCOME_REPLY)
        trial_fail(trial, "endpoint %" PRIu32 " %s: no reply", submit->ep,
                   submit->direction ? "IN" : "OUT");
    if (pdu->header.ret_submit.status >= 0)
        trial_fail(trial, "endpoint %" PRIu32 " %s: status %" PRId32 " is not negative", submit->ep,
                   submit->direction ? "IN" : "OUT", pdu->header.ret_submit.status);
    trial_expect_alive(trial, wire);
}

static void ep_out_of_range(struct trial *trial)
{
    static const uint32_t endpoints[] = {16, 0x81};
    for (size_t i = 0; i < sizeof endpoints / sizeof endpoints[0]; i++) {
        struct wire *wire = trial_configure(trial);
        expect_error(
            trial, wire,
            &(struct wire_submit){.direction = USBIP_DIR_IN, .ep = endpoints[i], .length = 64});
        wire_close(wire); /* or the next import is refused */
    }
}

static void ep_missing_in(struct trial *trial)
{
    uint32_t endpoint = undeclared_endpoint(trial, USB_DIR_IN);
    if (!endpoint)
        trial_not_applicable(trial, "the device has all 15 IN endpoints");
    expect_error(trial, trial_configure(trial),
                 &(struct wire_submit){.direction = USBIP_DIR_IN, .ep = endpoint, .length = 64});
}

static void ep_missing_out(struct trial *trial)
{
    static const uint8_t payload[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint32_t endpoint = undeclared_endpoint(trial, 0);
    if (!endpoint)
        trial_not_applicable(trial, "the device has all 15 OUT endpoints");
    expect_error(trial, trial_configure(trial),
                 &(struct wire_submit){.direction = USBIP_DIR_OUT,
                                       .ep = endpoint,
                                       .length = sizeof payload,
                                       .payload = payload});
}

static void ep_before_config(struct trial *trial)
{
    expect_error(trial, trial_import(trial),
                 &(struct wire_submit){
                     .direction = USBIP_DIR_IN, .ep = trial->target->bulk_in, .length = 64});
}

static void check_seqnums(struct trial *trial, const uint32_t *seqnums, size_t count)
{
    struct wire *wire = trial_import(trial);
    for (size_t i = 0; i < count; i++) {
        struct wire_submit submit = get_device(USB_DT_DEVICE_SIZE);
        struct wire_pdu *pdu;
        submit.with_seqnum = true;
        submit.seqnum = seqnums[i];
        wire_submit(wire, &submit);
        enum wire_event event = wire_next(wire, &pdu);
        if (event != WIRE_OK)
            trial_fail(trial, "seqnum 0x%" PRIx32 " is not answered", seqnums[i]);
        if (pdu->header.seqnum != seqnums[i] || !pdu->known)
            trial_fail(trial, "seqnum 0x%" PRIx32 " is answered with 0x%" PRIx32, seqnums[i],
                       pdu->header.seqnum);
        if (pdu->payload_size != USB_DT_DEVICE_SIZE ||
            memcmp(pdu->payload, trial->target->device_descriptor, USB_DT_DEVICE_SIZE) != 0)
            trial_fail(trial, "the descriptor is not what it was");
    }
}

static void seqnum_extremes(struct trial *trial)
{
    static const uint32_t seqnums[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff};
    check_seqnums(trial, seqnums, sizeof seqnums / sizeof seqnums[0]);
}

static void seqnum_nonmonotonic(struct trial *trial)
{
    static const uint32_t seqnums[] = {10, 5, 7};
    check_seqnums(trial, seqnums, sizeof seqnums / sizeof seqnums[0]);
}

static void seqnum_reuse_after_done(struct trial *trial)
{
    static const uint32_t seqnums[] = {100, 100, 100};
    check_seqnums(trial, seqnums, sizeof seqnums / sizeof seqnums[0]);
}

static void seqnum_duplicate_inflight(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    struct wire_pdu *pdu;
    const struct wire_submit submit = {.with_seqnum = true,
                                       .seqnum = 1000,
                                       .direction = USBIP_DIR_IN,
                                       .ep = trial->target->bulk_in,
                                       .length = 64};
    wire_submit(wire, &submit);
    trial_observe(trial, wire, wire_submit(wire, &submit), &pdu);
}

static void flags_unknown(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    struct wire_submit submit = get_device(64);
    submit.flags = ~(uint32_t)USBIP_URB_DMA_MAP_SG;
    struct wire_pdu *pdu = trial_reply(trial, wire, wire_submit(wire, &submit));
    int32_t status = pdu->header.ret_submit.status;
    trial_record(trial, "REPLY(%" PRId32 ",%" PRIu32 ")", status,
                 pdu->header.ret_submit.actual_length);
    if ((status != 0 && status != -USBIP_EREMOTEIO) ||
        pdu->header.ret_submit.actual_length != USB_DT_DEVICE_SIZE)
        trial_fail(trial, "flags that mean nothing here change the result");
    trial_expect_alive(trial, wire);
}

static void flags_dir_mismatch(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    struct wire_submit submit = get_device(USB_DT_DEVICE_SIZE);
    submit.flags = 0;
    trial_expect(trial, wire, wire_submit(wire, &submit), 0, USB_DT_DEVICE_SIZE);
    static const uint8_t coding[7] = {0x80, 0x25, 0, 0, 0, 0, 8};
    struct wire_submit out = {.direction = USBIP_DIR_OUT,
                              .flags = USBIP_URB_DIR_IN,
                              .length = sizeof coding,
                              .payload = coding};
    usbip_encode_setup(out.setup,
                       &(struct usbip_setup){0x21, 0x20, 0, (uint16_t)trial->target->acm_interface,
                                             sizeof coding});
    trial_expect(trial, wire, wire_submit(wire, &out), 0, sizeof coding);
    trial_expect_alive(trial, wire);
}

static void flags_sg_zero(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    struct wire_pdu *pdu;
    trial_observe(trial, wire,
                  wire_submit(wire, &(struct wire_submit){.direction = USBIP_DIR_OUT,
                                                          .ep = trial->target->bulk_out,
                                                          .flags = USBIP_URB_DMA_MAP_SG}),
                  &pdu);
}

static void setup_on_bulk(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    struct wire_submit submit = {.direction = USBIP_DIR_IN,
                                 .ep = trial->target->bulk_in,
                                 .flags = USBIP_URB_DIR_IN,
                                 .length = 64};
    /* SET_CONFIGURATION(0), which would take the endpoint away. */
    usbip_encode_setup(submit.setup, &(struct usbip_setup){0, USB_REQ_SET_CONFIGURATION, 0, 0, 0});
    uint32_t seqnum = wire_submit(wire, &submit);
    stimulate_send(trial, wire, trial->target->bulk_in | USB_DIR_IN, "setup", 5);
    if (memcmp(trial_expect_data(trial, wire, seqnum, 0, 5), "setup", 5) != 0)
        trial_fail(trial, "other bytes come than the device has sent");
}

static const struct conformance_case cases[] = {
    {"S049", "ret-header-zero", SHOULD, CORE, NEED_DEVICE,
     "devid, direction and ep of a reply are 0 (its command and seqnum are a MUST).",
     "usbip_protocol.rst, usbip_header_basic", ret_header_zero, NULL},
    {"S050", "ret-padding", MUST, CORE, NEED_DEVICE,
     "The bytes of a reply behind its fields are 0.",
     "usbip_protocol.rst, USBIP_RET_SUBMIT and USBIP_RET_UNLINK", ret_padding, NULL},
    {"S051", "ret-length-in", MUST, CORE, NEED_DEVICE,
     "actual_length bytes follow the reply to an IN transfer, no more and no less.",
     "usbip_protocol.rst, USBIP_RET_SUBMIT", ret_length_in, NULL},
    {"S052", "ret-length-out", MUST, CORE, NEED_DEVICE | NEED_ACM,
     "Nothing follows the reply to an OUT transfer; actual_length is what the device has taken.",
     "usbip_protocol.rst, USBIP_RET_SUBMIT", ret_length_out, NULL},
    {"S053", "np-zero", MUST, CORE, NEED_DEVICE,
     "number_of_packets 0 is right for a transfer that is not isochronous, and comes back.",
     "Linux and Windows clients send it", np_zero, NULL},
    {"S054", "np-minus-one", MUST, CORE, NEED_DEVICE,
     "number_of_packets 0xffffffff is right for a transfer that is not isochronous, and comes "
     "back.",
     "usbip_protocol.rst, USBIP_CMD_SUBMIT", np_minus_one, NULL},
    {"S055", "np-garbage", MAY, HOSTILE, NEED_DEVICE | NEED_BULK,
     "Another number_of_packets on a bulk endpoint may do anything but harm.",
     "no rule; for information", np_garbage, NULL},
    {"S056", "start-frame-zero", MUST, STRICT, NEED_DEVICE,
     "start_frame and error_count are 0 for a transfer that is not isochronous.",
     "usbip_protocol.rst, USBIP_RET_SUBMIT", start_frame_zero, NULL},
    {"S057", "devid-wrong", MUST, STRICT, NEED_DEVICE,
     "A wrong devid ends the connection or is ignored, but never reaches another device.",
     "usbip_protocol.rst, usbip_header_basic", devid_wrong, NULL},
    {"S058", "unknown-command", SHOULD, STRICT, NEED_DEVICE,
     "A command that does not exist ends the connection.", "stub_rx.c of the Linux server",
     unknown_command, NULL},
    {"S059", "ret-from-client", SHOULD, STRICT, NEED_DEVICE,
     "A reply from a client ends the connection.", "stub_rx.c of the Linux server", ret_from_client,
     NULL},
    {"S060", "ep-out-of-range", SHOULD, HOSTILE, NEED_DEVICE,
     "A transfer to an endpoint number above 15 ends with an error.",
     "usbip_protocol.rst, usbip_header_basic", ep_out_of_range, NULL},
    {"S061", "ep-missing-in", SHOULD, HOSTILE, NEED_DEVICE,
     "An IN transfer to an endpoint that does not exist ends with an error.",
     "usbip_protocol.rst, USBIP_CMD_SUBMIT", ep_missing_in, NULL},
    {"S062", "ep-missing-out", SHOULD, HOSTILE, NEED_DEVICE,
     "An OUT transfer to an endpoint that does not exist is read whole and ends with an error.",
     "usbip_protocol.rst, USBIP_CMD_SUBMIT", ep_missing_out, NULL},
    {"S063", "ep-before-config", SHOULD, HOSTILE, NEED_DEVICE | NEED_BULK,
     "Before SET_CONFIGURATION a transfer to an endpoint other than 0 ends with an error.",
     "USB 2.0, 9.1.1.4", ep_before_config, NULL},
    {"S064", "seqnum-extremes", MUST, STRICT, NEED_DEVICE, "Any seqnum comes back as it is.",
     "usbip_protocol.rst, usbip_header_basic", seqnum_extremes, NULL},
    {"S065", "seqnum-nonmonotonic", MUST, STRICT, NEED_DEVICE, "Seqnums need not rise.",
     "usbip_protocol.rst, usbip_header_basic", seqnum_nonmonotonic, NULL},
    {"S066", "seqnum-reuse-after-done", SHOULD, STRICT, NEED_DEVICE,
     "A seqnum can be used again when its request has been answered.",
     "usbip_protocol.rst, usbip_header_basic", seqnum_reuse_after_done, NULL},
    {"S067", "seqnum-duplicate-inflight", MAY, HOSTILE, NEED_DEVICE | NEED_BULK,
     "Two requests under way with one seqnum may do anything but harm.", "no rule; for information",
     seqnum_duplicate_inflight, NULL},
    {"S068", "flags-unknown", MUST, STRICT, NEED_DEVICE,
     "Bits of transfer_flags that mean nothing for a transfer are ignored.",
     "usbip_protocol.rst, USBIP_CMD_SUBMIT", flags_unknown, NULL},
    {"S069", "flags-dir-mismatch", MUST, STRICT, NEED_DEVICE | NEED_ACM,
     "What counts is the field direction, not the flag.", "usbip_protocol.rst, USBIP_CMD_SUBMIT",
     flags_dir_mismatch, NULL},
    {"S070", "flags-sg-zero", MUST, HOSTILE, NEED_DEVICE | NEED_BULK,
     "The flag for scattered memory with a length of 0 does no harm.",
     "stub_rx.c of the Linux server", flags_sg_zero, NULL},
    {"S071", "setup-on-bulk", MUST, STRICT, NEED_DEVICE | NEED_BULK | NEED_STIMULUS,
     "The setup bytes of a transfer to an endpoint other than 0 are ignored.",
     "usbip_protocol.rst, USBIP_CMD_SUBMIT", setup_on_bulk, NULL},
};

const struct section urb_header = {"D", "Headers of URBs", cases, sizeof cases / sizeof cases[0]};
