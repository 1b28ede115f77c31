/* K. Isochronous transfers, which serial devices do not have. */
#include <inttypes.h>

#include "tests/conformance/trial.h"

enum { SOME_PACKETS = 8, MANY_PACKETS = 128, TOO_MANY_PACKETS = USBIP_MAX_ISO_PACKETS + 1 };

/* The endpoint works in its alternate setting only. */
static struct wire *begin(struct trial *trial, const struct target_iso *iso)
{
    struct wire *wire = trial_configure(trial);
    struct wire_pdu *pdu = trial_control(trial, wire, USB_RECIP_INTERFACE, USB_REQ_SET_INTERFACE,
                                         iso->alternate, iso->interface, 0, NULL);
    if (pdu->header.ret_submit.status != 0)
        trial_fail(trial, "SET_INTERFACE(%u) ends with status %" PRId32, iso->alternate,
                   pdu->header.ret_submit.status);
    return wire;
}

/* Packets of the endpoint's size, one behind the other. */
static uint32_t submit(struct trial *trial, struct wire *wire, const struct target_iso *iso,
                       uint32_t direction, int32_t count)
{
    struct usbip_iso_packet_descriptor *packets =
        trial_alloc(trial, (size_t)count * sizeof *packets);
    for (int32_t i = 0; i < count; i++)
        packets[i] = (struct usbip_iso_packet_descriptor){.offset = (uint32_t)i * iso->packet,
                                                          .length = iso->packet};
    uint32_t length = (uint32_t)count * iso->packet;
    struct wire_submit request = {
        .direction = direction,
        .ep = iso->endpoint,
        .flags = USBIP_URB_ISO_ASAP,
        .length = length,
        .number_of_packets = count,
        .interval = 1,
        .packets = packets,
    };
    if (direction == USBIP_DIR_OUT)
        request.payload = trial_alloc(trial, length);
    return wire_submit(wire, &request);
}

/* Every packet is described, with the offset that it had, and the lengths add up. */
static void expect_packets(struct trial *trial, const struct wire_pdu *pdu,
                           const struct target_iso *iso, int32_t count)
{
    int32_t status = pdu->header.ret_submit.status;
    uint64_t sum = 0;
    if (status != 0 && status != -USBIP_EXDEV)
        trial_fail(trial, "the transfer ends with status %" PRId32, status);
    if (pdu->header.ret_submit.number_of_packets != count)
        trial_fail(trial, "number_of_packets is %" PRId32 ", not %" PRId32,
                   pdu->header.ret_submit.number_of_packets, count);
    for (uint32_t i = 0; i < pdu->packet_count; i++) {
        struct usbip_iso_packet_descriptor d;
        usbip_decode_iso_packet_descriptor(
            pdu->packets + (size_t)i * USBIP_ISO_PACKET_DESCRIPTOR_SIZE, &d);
        if (d.offset != i * iso->packet || d.actual_length > d.length)
            trial_fail(trial,
                       "packet %" PRIu32 " has offset %" PRIu32 " and %" PRIu32 " of %" PRIu32
                       " bytes",
                       i, d.offset, d.actual_length, d.length);
        sum += d.actual_length;
    }
    if (sum != pdu->header.ret_submit.actual_length)
        trial_fail(trial, "actual_length is %" PRIu32 ", that of the packets %" PRIu64 " together",
                   pdu->header.ret_submit.actual_length, sum);
}

static void iso_in_depad(struct trial *trial)
{
    const struct target_iso *iso = &trial->target->iso_in;
    if (!iso->endpoint)
        trial_not_applicable(trial, "the device has no isochronous IN endpoint");
    struct wire *wire = begin(trial, iso);
    uint32_t seqnum = submit(trial, wire, iso, USBIP_DIR_IN, SOME_PACKETS);
    expect_packets(trial, trial_reply(trial, wire, seqnum), iso, SOME_PACKETS);
    trial_expect_alive(trial, wire);
}

static void iso_np_limits(struct trial *trial)
{
    static const int32_t counts[] = {1, MANY_PACKETS};
    bool in = trial->target->iso_in.endpoint != 0;
    const struct target_iso *iso = in ? &trial->target->iso_in : &trial->target->iso_out;
    uint32_t direction = in ? USBIP_DIR_IN : USBIP_DIR_OUT;
    struct wire *wire = begin(trial, iso);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint32_t seqnum = submit(trial, wire, iso, direction, counts[i]);
        expect_packets(trial, trial_reply(trial, wire, seqnum), iso, counts[i]);
    }
    struct wire_pdu *pdu;
    uint32_t seqnum = submit(trial, wire, iso, direction, TOO_MANY_PACKETS);
    if (trial_observe(trial, wire, seqnum, &pdu) == OUTCOME_REPLY &&
        pdu->header.ret_submit.status == 0)
        trial_fail(trial, "%d packets are accepted", TOO_MANY_PACKETS);
}

static void iso_out_ret(struct trial *trial)
{
    const struct target_iso *iso = &trial->target->iso_out;
    if (!iso->endpoint)
        trial_not_applicable(trial, "the device has no isochronous OUT endpoint");
    struct wire *wire = begin(trial, iso);
    uint32_t seqnum = submit(trial, wire, iso, USBIP_DIR_OUT, SOME_PACKETS);
    expect_packets(trial, trial_reply(trial, wire, seqnum), iso, SOME_PACKETS);
    trial_expect_alive(trial, wire);
}

static const char source[] = "usbip_protocol.rst, usbip_iso_packet_descriptor";

static const struct conformance_case cases[] = {
    {"S160", "iso-in-depad", MUST, STRICT, NEED_DEVICE | NEED_ISO,
     "The data of the packets come without gaps, then the descriptors with their first offsets.",
     source, iso_in_depad, NULL},
    {"S161", "iso-np-limits", MUST, STRICT, NEED_DEVICE | NEED_ISO,
     "Transfers of 1 and of 128 packets work, one of more than 1024 does not.", source,
     iso_np_limits, NULL},
    {"S162", "iso-out-ret", MUST, STRICT, NEED_DEVICE | NEED_ISO,
     "The reply to an OUT transfer has no data, but the descriptors.", source, iso_out_ret, NULL},
};

const struct section iso = {"K", "Isochronous transfers", cases, sizeof cases / sizeof cases[0]};
