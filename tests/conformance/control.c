/* E. Control transfers. */
#include <inttypes.h>
#include <string.h>

#include "protocol/bytes.h"
#include "tests/conformance/trial.h"

enum {
    UNKNOWN_REQUEST = 0x7f, /* vendor request that no device is likely to have */
    PIPELINED = 8,
    QUICK_MS = 500,
    VENDOR_KEEP = 7, /* of device.lua: stores data */
    VENDOR_TELL = 8, /* of device.lua: its own setup packet, and what was stored */
};

static void expect_device_descriptor(struct trial *trial, uint16_t length)
{
    struct wire *wire = trial_import(trial);
    uint32_t expected = length < USB_DT_DEVICE_SIZE ? length : USB_DT_DEVICE_SIZE;
    struct wire_pdu *pdu = trial_expect(
        trial, wire, trial_get_descriptor(wire, USB_DT_DEVICE, 0, 0, length), 0, expected);
    if (pdu->payload[0] != USB_DT_DEVICE_SIZE || pdu->payload[1] != USB_DT_DEVICE)
        trial_fail(trial, "the descriptor begins with %02x %02x", pdu->payload[0], pdu->payload[1]);
    trial_record(trial, "REPLY(0,%" PRIu32 ")", expected);
    trial_expect_alive(trial, wire);
}

static void get_device_18(struct trial *trial)
{
    expect_device_descriptor(trial, 18);
}

static void get_device_64(struct trial *trial)
{
    expect_device_descriptor(trial, 64);
}

static void get_device_8(struct trial *trial)
{
    expect_device_descriptor(trial, 8);
}

static void need_configuration(struct trial *trial)
{
    if (trial->target->configuration_size == 0)
        trial_fail(trial, "the configuration descriptor could not be read before the first case");
}

static void get_config(struct trial *trial)
{
    const struct target *target = trial->target;
    need_configuration(trial);
    struct wire *wire = trial_import(trial);
    trial_expect(trial, wire, trial_get_descriptor(wire, USB_DT_CONFIG, 0, 0, 9), 0, 9);
    uint16_t size = (uint16_t)target->configuration_size;
    struct wire_pdu *pdu =
        trial_expect(trial, wire, trial_get_descriptor(wire, USB_DT_CONFIG, 0, 0, size), 0, size);
    if (usbip_load_le16(pdu->payload + 2) != size ||
        memcmp(pdu->payload, target->configuration_bytes, size) != 0)
        trial_fail(trial, "the configuration descriptor is not what it was");
    trial_expect_alive(trial, wire);
}

static void get_string(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    const uint8_t indices[] = {0, trial->target->device_descriptor[15]};
    for (int i = 0; i < 2; i++) {
        struct wire_pdu *pdu = trial_reply(
            trial, wire,
            trial_get_descriptor(wire, USB_DT_STRING, indices[i], i > 0 ? 0x0409 : 0, 255));
        int32_t status = pdu->header.ret_submit.status;
        trial_record_more(trial, "%s",
                          status == 0              ? "string"
                          : status == -USBIP_EPIPE ? "REPLY(-32,0)"
                                                   : "wrong");
        if (status == -USBIP_EPIPE && pdu->payload_size == 0)
            continue;
        if (status != 0 || pdu->payload_size < 2 || pdu->payload[0] != pdu->payload_size ||
            pdu->payload[1] != USB_DT_STRING)
            trial_fail(trial,
                       "string %u: status %" PRId32 " with %zu bytes is no string descriptor",
                       indices[i], status, pdu->payload_size);
    }
    trial_expect_alive(trial, wire);
}

static void expect_stall(struct trial *trial, struct wire *wire, uint32_t seqnum)
{
    trial_expect(trial, wire, seqnum, -USBIP_EPIPE, 0);
    trial_record(trial, "REPLY(-32,0)");
    trial_expect_alive(trial, wire);
}

static void get_config_bad_index(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    expect_stall(trial, wire, trial_get_descriptor(wire, USB_DT_CONFIG, 9, 0, 255));
}

static void ctl_out_data(struct trial *trial)
{
    static const uint8_t coding[7] = {0x00, 0xc2, 0x01, 0, 0, 0, 8};
    uint16_t interface = (uint16_t)trial->target->acm_interface;
    struct wire *wire = trial_configure(trial);
    struct usbip_setup setup = {0x21, 0x20, 0, interface, sizeof coding};
    trial_expect(trial, wire, wire_control(wire, &setup, coding), 0, sizeof coding);
    setup = (struct usbip_setup){0xa1, 0x21, 0, interface, sizeof coding};
    struct wire_pdu *pdu =
        trial_expect(trial, wire, wire_control(wire, &setup, NULL), 0, sizeof coding);
    if (memcmp(pdu->payload, coding, sizeof coding) != 0)
        trial_fail(trial, "the device has another line coding than it was given");
    trial_record(trial, "REPLY(0,7)");
}

static void ctl_out_nodata(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    struct usbip_setup setup = {0x21, 0x22, 0, (uint16_t)trial->target->acm_interface, 0};
    trial_expect(trial, wire, wire_control(wire, &setup, NULL), 0, 0);
    trial_record(trial, "REPLY(0,0)");
    trial_expect_alive(trial, wire);
}

/* A control transfer whose fields contradict each other: whatever happens, it must do no harm. */
static void observe(struct trial *trial, uint8_t bmRequestType, uint16_t wLength,
                    uint32_t direction, uint32_t length, uint32_t flags)
{
    static const uint8_t payload[64];
    struct wire *wire = trial_import(trial);
    struct wire_submit submit = {
        .direction = direction, .length = length, .flags = flags, .payload = payload};
    struct wire_pdu *pdu;
    usbip_encode_setup(submit.setup, &(struct usbip_setup){bmRequestType, USB_REQ_GET_DESCRIPTOR,
                                                           USB_DT_DEVICE << 8, 0, wLength});
    if (trial_observe(trial, wire, wire_submit(wire, &submit), &pdu) == OUTCOME_REPLY &&
        pdu->header.ret_submit.actual_length > length)
        trial_fail(trial, "actual_length is above transfer_buffer_length");
}

static void ctl_length_above_wlength(struct trial *trial)
{
    observe(trial, USB_DIR_IN, 18, USBIP_DIR_IN, 64, 0);
}

static void ctl_length_below_wlength(struct trial *trial)
{
    observe(trial, USB_DIR_IN, 64, USBIP_DIR_IN, 18, 0);
}

static void ctl_direction_mismatch(struct trial *trial)
{
    observe(trial, USB_DIR_IN, 18, USBIP_DIR_OUT, 18, 0);
}

static void ctl_short_not_ok(struct trial *trial)
{
    observe(trial, USB_DIR_IN, 64, USBIP_DIR_IN, 64, USBIP_URB_SHORT_NOT_OK);
}

static void ctl_stall_recovers(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    struct usbip_setup setup = {0xc0, UNKNOWN_REQUEST, 0, 0, 8};
    expect_stall(trial, wire, wire_control(wire, &setup, NULL));
}

static void ctl_4k(struct trial *trial)
{
    static const uint16_t lengths[] = {4096, 65535};
    need_configuration(trial);
    struct wire *wire = trial_import(trial);
    for (int i = 0; i < 2; i++) {
        uint32_t size = trial->target->configuration_size;
        struct wire_pdu *pdu = trial_expect(
            trial, wire, trial_get_descriptor(wire, USB_DT_CONFIG, 0, 0, lengths[i]), 0, size);
        if (memcmp(pdu->payload, trial->target->configuration_bytes, size) != 0)
            trial_fail(trial, "the configuration descriptor is not what it was");
    }
    trial_expect_alive(trial, wire);
}

static void ctl_zero_in(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    struct usbip_setup setup = {USB_DIR_IN, USB_REQ_GET_DESCRIPTOR, USB_DT_DEVICE << 8, 0, 0};
    struct wire_pdu *pdu = trial_reply(trial, wire, wire_control(wire, &setup, NULL));
    int32_t status = pdu->header.ret_submit.status;
    trial_record(trial, "REPLY(%" PRId32 ",%" PRIu32 ")", status,
                 pdu->header.ret_submit.actual_length);
    if (status > 0 || pdu->header.ret_submit.actual_length != 0)
        trial_fail(trial, "a request without data has some in its reply, or a positive status");
    trial_expect_alive(trial, wire);
}

static void ctl_vendor_inout(struct trial *trial)
{
    if (trial->target->stimulus != &stimulus_vendor_requests)
        trial_not_applicable(trial, "the stimulus (%s) does not tell which requests have come",
                             trial->target->stimulus->name);
    struct wire *wire = trial_import(trial);
    enum { SIZE = 300, SETUP_SIZE = 8, KEPT_SETUP_SIZE = 6 };
    const uint8_t *data = trial_random_bytes(trial, SIZE);
    struct usbip_setup setup = {0x41, VENDOR_KEEP, 0x1234, 0xabcd, SIZE};
    trial_expect(trial, wire, wire_control(wire, &setup, data), 0, SIZE);
    setup = (struct usbip_setup){0xc1, VENDOR_TELL, 0x55aa, 0x8001, 1024};
    const uint32_t size = SETUP_SIZE + KEPT_SETUP_SIZE + SIZE;
    struct wire_pdu *pdu = trial_expect(trial, wire, wire_control(wire, &setup, NULL), 0, size);
    static const uint8_t setups[SETUP_SIZE + KEPT_SETUP_SIZE] = {
        0xc1, VENDOR_TELL, 0xaa, 0x55, 0x01, 0x80, 0x00, 0x04, /* of the second */
        0x34, 0x12,        0xcd, 0xab, 0x2c, 0x01,             /* of the first */
    };
    if (memcmp(pdu->payload, setups, sizeof setups) != 0)
        trial_fail(trial, "the device saw other setup packets than were sent");
    if (memcmp(pdu->payload + sizeof setups, data, SIZE) != 0)
        trial_fail(trial, "the device received other data than were sent");
}

static void ctl_not_blocked_by_bulk(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    wire->timeout_ms = QUICK_MS;
    trial_in(trial, wire, trial->target->bulk_in_packet);
    trial_expect_alive(trial, wire);
}

static void ctl_pipelined(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    uint32_t seqnums[PIPELINED];
    for (int i = 0; i < PIPELINED; i++)
        seqnums[i] = trial_get_descriptor(wire, USB_DT_DEVICE, 0, 0, (uint16_t)(8 + i));
    for (int i = 0; i < PIPELINED; i++)
        trial_expect(trial, wire, seqnums[i], 0, (uint32_t)(8 + i));
}

static const struct conformance_case cases[] = {
    {"S072", "get-device-18", MUST, CORE, NEED_DEVICE,
     "GET_DESCRIPTOR(DEVICE) with wLength 18 gives 18 bytes.", "USB 2.0, 9.4.3", get_device_18,
     NULL},
    {"S073", "get-device-64", MUST, CORE, NEED_DEVICE,
     "GET_DESCRIPTOR(DEVICE) with wLength 64 gives 18 bytes: short is not an error.",
     "USB 2.0, 9.4.3", get_device_64, NULL},
    {"S074", "get-device-8", MUST, CORE, NEED_DEVICE,
     "GET_DESCRIPTOR(DEVICE) with wLength 8 gives 8 bytes.", "USB 2.0, 9.4.3", get_device_8, NULL},
    {"S075", "get-config", MUST, CORE, NEED_DEVICE,
     "The configuration descriptor comes in two steps, and is the same each time.",
     "USB 2.0, 9.4.3", get_config, NULL},
    {"S076", "get-string", MUST, CORE, NEED_DEVICE,
     "A string descriptor comes whole, or the request stalls.", "USB 2.0, 9.4.3", get_string, NULL},
    {"S077", "get-config-bad-index", SHOULD, CORE, NEED_DEVICE,
     "A configuration that does not exist stalls, and the connection goes on.", "USB 2.0, 9.4.3",
     get_config_bad_index, NULL},
    {"S078", "ctl-out-data", MUST, CORE, NEED_DEVICE | NEED_ACM,
     "SET_LINE_CODING reaches the device with its 7 bytes.", "PSTN 1.2, 6.3.10", ctl_out_data,
     NULL},
    {"S079", "ctl-out-nodata", MUST, CORE, NEED_DEVICE | NEED_ACM,
     "SET_CONTROL_LINE_STATE, without data, is answered with status 0 and length 0.",
     "PSTN 1.2, 6.3.12", ctl_out_nodata, NULL},
    {"S080", "ctl-len-gt-wlength", MAY, HOSTILE, NEED_DEVICE,
     "transfer_buffer_length above wLength may do anything but harm.", "no rule; for information",
     ctl_length_above_wlength, NULL},
    {"S081", "ctl-len-lt-wlength", MAY, HOSTILE, NEED_DEVICE,
     "transfer_buffer_length below wLength may do anything but harm.", "no rule; for information",
     ctl_length_below_wlength, NULL},
    {"S082", "ctl-dir-mismatch", MAY, HOSTILE, NEED_DEVICE,
     "A direction that contradicts bmRequestType may do anything but harm.",
     "no rule; for information", ctl_direction_mismatch, NULL},
    {"S083", "ctl-stall-recovers", MUST, CORE, NEED_DEVICE,
     "A request that the device does not know ends with -EPIPE, and the next one works.",
     "USB 2.0, 8.5.3.4", ctl_stall_recovers, NULL},
    {"S084", "ctl-4k", MUST, STRICT, NEED_DEVICE,
     "A wLength of 4096 and of 65535 is all right, whatever the device has.", "USB 2.0, 9.3.5",
     ctl_4k, NULL},
    {"S085", "ctl-zero-in", SHOULD, STRICT, NEED_DEVICE,
     "wLength 0 means no data, whatever bit 7 of bmRequestType says.", "USB 2.0, 9.3.1",
     ctl_zero_in, NULL},
    {"S086", "ctl-short-not-ok", MAY, STRICT, NEED_DEVICE,
     "SHORT_NOT_OK turns a short answer into -EREMOTEIO, or is ignored here.",
     "usbip_protocol.rst, USBIP_CMD_SUBMIT", ctl_short_not_ok, NULL},
    {"S087", "ctl-vendor-inout", MUST, STRICT, NEED_DEVICE | NEED_STIMULUS,
     "Vendor requests reach the device as they are, in both directions.", "USB 2.0, 9.3",
     ctl_vendor_inout, NULL},
    {"S088", "ctl-not-blocked-by-bulk", MUST, CORE, NEED_DEVICE | NEED_BULK,
     "A pending IN transfer does not hold up endpoint 0.", "usbip_protocol.rst, Architecture",
     ctl_not_blocked_by_bulk, NULL},
    {"S089", "ctl-pipelined", MUST, CORE, NEED_DEVICE,
     "Eight control requests at once are all answered, each by its seqnum.",
     "usbip_protocol.rst, Architecture", ctl_pipelined, NULL},
};

const struct section control_transfers = {"E", "Control transfers", cases,
                                          sizeof cases / sizeof cases[0]};
