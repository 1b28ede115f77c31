/* F. Requests that the server has to know itself. */
#include <inttypes.h>
#include <string.h>

#include "tests/conformance/trial.h"

enum { WRONG_CONFIGURATION = 99, NO_ENDPOINT = 0x8f };

static uint8_t configuration_value(const struct trial *trial)
{
    return trial->target->configuration.descriptor.bConfigurationValue;
}

static uint8_t bulk_in_address(const struct trial *trial)
{
    return trial->target->bulk_in | USB_DIR_IN;
}

static int32_t status_of(struct trial *trial, struct wire *wire, uint8_t bmRequestType,
                         uint8_t bRequest, uint16_t wValue, uint16_t wIndex)
{
    const struct wire_pdu *pdu =
        trial_control(trial, wire, bmRequestType, bRequest, wValue, wIndex, 0, NULL);
    trial_record_more(trial, "REPLY(%" PRId32 ",%" PRIu32 ")", pdu->header.ret_submit.status,
                      pdu->header.ret_submit.actual_length);
    return pdu->header.ret_submit.status;
}

static void expect_status(struct trial *trial, struct wire *wire, uint8_t bmRequestType,
                          uint8_t bRequest, uint16_t wValue, uint16_t wIndex, int32_t expected)
{
    int32_t status = status_of(trial, wire, bmRequestType, bRequest, wValue, wIndex);
    if (status != expected)
        trial_fail(trial, "%s: status %" PRId32 ", not %" PRId32,
                   usbip_standard_request_name(bRequest), status, expected);
    trial_expect_alive(trial, wire);
}

/* What the device sends on bulk IN arrives. */
static void expect_data(struct trial *trial, struct wire *wire)
{
    stimulate_open(trial, wire);
    uint32_t seqnum = trial_in(trial, wire, trial->target->bulk_in_packet);
    if (trial->target->stimulus) {
        stimulate_send(trial, wire, bulk_in_address(trial), "data", 4);
        trial_expect_data(trial, wire, seqnum, 0, 4);
        return;
    }
    trial_expect_alive(trial, wire);
    long position = wire_position(wire, seqnum);
    if (position >= 0 && wire->pdus[position]->header.ret_submit.status != 0)
        trial_fail(trial, "the endpoint does not work: status %" PRId32,
                   wire->pdus[position]->header.ret_submit.status);
}

static void set_config_first(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    expect_status(trial, wire, 0, USB_REQ_SET_CONFIGURATION, configuration_value(trial), 0, 0);
    expect_data(trial, wire);
}

static void set_config_again(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t pending = trial_in(trial, wire, 64);
    expect_status(trial, wire, 0, USB_REQ_SET_CONFIGURATION, configuration_value(trial), 0, 0);
    long position = wire_position(wire, pending);
    if (position < 0) {
        trial_record_more(trial, "the pending transfer survives");
        wire_unlink(wire, pending);
    } else {
        int32_t status = wire->pdus[position]->header.ret_submit.status;
        trial_record_more(trial, "the pending transfer ends with %" PRId32, status);
        if (status >= 0)
            trial_fail(trial, "the pending transfer ends with status %" PRId32, status);
    }
    expect_data(trial, wire);
}

static void set_config_invalid(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    expect_status(trial, wire, 0, USB_REQ_SET_CONFIGURATION, WRONG_CONFIGURATION, 0, -USBIP_EPIPE);
}

static void set_config_0(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    status_of(trial, wire, 0, USB_REQ_SET_CONFIGURATION, 0, 0);
    trial_set_configuration(trial, wire, configuration_value(trial));
    expect_data(trial, wire);
}

static void get_config_after(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    struct wire_pdu *pdu =
        trial_control(trial, wire, USB_DIR_IN, USB_REQ_GET_CONFIGURATION, 0, 0, 1, NULL);
    if (pdu->header.ret_submit.status != 0 || pdu->payload_size != 1 ||
        pdu->payload[0] != configuration_value(trial))
        trial_fail(trial, "the configuration is not the one that was set");
}

/* The setting with an alternate to it that has a bulk endpoint in both directions, or none. */
static const struct usbip_altsetting *alternate(const struct trial *trial)
{
    const struct usbip_configuration *table = &trial->target->configuration;
    for (unsigned i = 0; i < table->altsetting_count; i++) {
        if (table->altsettings[i].descriptor.bAlternateSetting != 0)
            return &table->altsettings[i];
    }
    return NULL;
}

/* Our device sends back what it gets there. */
static void expect_alternate_echo(struct trial *trial, struct wire *wire,
                                  const struct usbip_altsetting *setting)
{
    const struct usbip_configuration *table = &trial->target->configuration;
    const struct usbip_endpoint_descriptor *in =
        usbip_find_endpoint(table, setting, USB_ENDPOINT_XFER_BULK, USB_DIR_IN);
    const struct usbip_endpoint_descriptor *out =
        usbip_find_endpoint(table, setting, USB_ENDPOINT_XFER_BULK, 0);
    if (!in || !out || trial->target->stimulus != &stimulus_vendor_requests)
        return;
    uint32_t seqnum = wire_submit(wire, &(struct wire_submit){.direction = USBIP_DIR_IN,
                                                              .ep = in->bEndpointAddress & 0xf,
                                                              .length = 64});
    wire_submit(wire,
                &(struct wire_submit){.ep = out->bEndpointAddress, .length = 4, .payload = "alt1"});
    trial_expect(trial, wire, seqnum, 0, 4);
}

static void set_interface_ok(struct trial *trial)
{
    const struct usbip_altsetting *setting = alternate(trial);
    if (!setting)
        trial_not_applicable(trial, "no interface of the device has an alternate setting");
    struct wire *wire = trial_configure(trial);
    uint8_t interface = setting->descriptor.bInterfaceNumber;
    expect_status(trial, wire, USB_RECIP_INTERFACE, USB_REQ_SET_INTERFACE,
                  setting->descriptor.bAlternateSetting, interface, 0);
    struct wire_pdu *pdu = trial_control(trial, wire, USB_DIR_IN | USB_RECIP_INTERFACE,
                                         USB_REQ_GET_INTERFACE, 0, interface, 1, NULL);
    if (pdu->payload_size != 1 || pdu->payload[0] != setting->descriptor.bAlternateSetting)
        trial_fail(trial, "GET_INTERFACE gives another setting");
    expect_alternate_echo(trial, wire, setting);
    trial_set_configuration(trial, wire, configuration_value(trial));
}

static void set_interface_bad(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    expect_status(trial, wire, USB_RECIP_INTERFACE, USB_REQ_SET_INTERFACE, 7, 0, -USBIP_EPIPE);
    expect_status(trial, wire, USB_RECIP_INTERFACE, USB_REQ_SET_INTERFACE, 0, 9, -USBIP_EPIPE);
}

static void clear_halt(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    stimulate_halt(trial, wire, bulk_in_address(trial));
    trial_expect(trial, wire, trial_in(trial, wire, 64), -USBIP_EPIPE, 0);
    expect_status(trial, wire, USB_RECIP_ENDPOINT, USB_REQ_CLEAR_FEATURE, USB_ENDPOINT_HALT,
                  bulk_in_address(trial), 0);
    expect_data(trial, wire);
}

static void clear_halt_not_halted(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    expect_status(trial, wire, USB_RECIP_ENDPOINT, USB_REQ_CLEAR_FEATURE, USB_ENDPOINT_HALT,
                  bulk_in_address(trial), 0);
    expect_data(trial, wire);
}

static void clear_halt_missing_ep(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    expect_status(trial, wire, USB_RECIP_ENDPOINT, USB_REQ_CLEAR_FEATURE, USB_ENDPOINT_HALT,
                  NO_ENDPOINT, -USBIP_EPIPE);
}

static void port_reset(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    status_of(trial, wire, 0x23, USB_REQ_SET_FEATURE, 4, 0);
    trial_expect_alive(trial, wire);
}

static void set_address(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    struct wire_pdu *pdu;
    trial_observe(trial, wire,
                  wire_control(wire, &(struct usbip_setup){0, USB_REQ_SET_ADDRESS, 5, 0, 0}, NULL),
                  &pdu);
}

static void set_feature_halt(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint8_t endpoint = bulk_in_address(trial);
    expect_status(trial, wire, USB_RECIP_ENDPOINT, USB_REQ_SET_FEATURE, USB_ENDPOINT_HALT, endpoint,
                  0);
    trial_expect(trial, wire, trial_in(trial, wire, 64), -USBIP_EPIPE, 0);
    expect_status(trial, wire, USB_RECIP_ENDPOINT, USB_REQ_CLEAR_FEATURE, USB_ENDPOINT_HALT,
                  endpoint, 0);
    expect_data(trial, wire);
}

static void get_status_recipients(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    const struct {
        uint8_t recipient;
        uint16_t wIndex;
    } asked[] = {{USB_RECIP_DEVICE, 0},
                 {USB_RECIP_INTERFACE, 0},
                 {USB_RECIP_ENDPOINT, 0},
                 {USB_RECIP_ENDPOINT, bulk_in_address(trial)}};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        struct wire_pdu *pdu = trial_control(trial, wire, USB_DIR_IN | asked[i].recipient,
                                             USB_REQ_GET_STATUS, 0, asked[i].wIndex, 2, NULL);
        int32_t status = pdu->header.ret_submit.status;
        trial_record_more(trial, "REPLY(%" PRId32 ",%zu)", status, pdu->payload_size);
        if (!(status == 0 && pdu->payload_size == 2) &&
            !(status == -USBIP_EPIPE && pdu->payload_size == 0))
            trial_fail(trial, "GET_STATUS of recipient %u: status %" PRId32 " and %zu bytes",
                       asked[i].recipient, status, pdu->payload_size);
    }
    trial_expect_alive(trial, wire);
}

static const struct conformance_case cases[] = {
    {"S090", "set-config-first", MUST, CORE, NEED_DEVICE | NEED_BULK,
     "SET_CONFIGURATION is answered with status 0, and then the endpoints work.", "USB 2.0, 9.4.7",
     set_config_first, NULL},
    {"S091", "set-config-again", SHOULD, STRICT, NEED_DEVICE | NEED_BULK,
     "The same configuration can be set again; a pending transfer ends with an error or survives.",
     "USB 2.0, 9.4.7", set_config_again, NULL},
    {"S092", "set-config-invalid", SHOULD, HOSTILE, NEED_DEVICE,
     "A configuration that does not exist stalls, and the connection goes on.", "USB 2.0, 9.4.7",
     set_config_invalid, NULL},
    {"S093", "set-config-0", MAY, STRICT, NEED_DEVICE | NEED_BULK,
     "After SET_CONFIGURATION(0) the device can be configured again, and works.", "USB 2.0, 9.4.7",
     set_config_0, NULL},
    {"S094", "get-config-after", SHOULD, STRICT, NEED_DEVICE,
     "GET_CONFIGURATION gives what was set.", "USB 2.0, 9.4.2", get_config_after, NULL},
    {"S095", "set-interface-ok", MUST, STRICT, NEED_DEVICE,
     "SET_INTERFACE is answered with status 0, and the endpoints of the setting work.",
     "USB 2.0, 9.4.10", set_interface_ok, NULL},
    {"S096", "set-interface-bad", SHOULD, HOSTILE, NEED_DEVICE,
     "An interface or a setting that does not exist stalls, and the connection goes on.",
     "USB 2.0, 9.4.10", set_interface_bad, NULL},
    {"S097", "set-interface-stalling-dev", MAY, STRICT, NEED_DEVICE,
     "A device that stalls SET_INTERFACE(0) is seen to, or the server hides it.",
     "message.c of the Linux USB core", NULL,
     "no device here stalls SET_INTERFACE for a setting that it has"},
    {"S098", "clear-halt", MUST, CORE, NEED_DEVICE | NEED_BULK | NEED_STIMULUS,
     "CLEAR_FEATURE(ENDPOINT_HALT) is answered with status 0, and transfers work again.",
     "USB 2.0, 9.4.5", clear_halt, NULL},
    {"S099", "clear-halt-not-halted", SHOULD, STRICT, NEED_DEVICE | NEED_BULK,
     "CLEAR_FEATURE(ENDPOINT_HALT) for an endpoint that is well does no harm.", "USB 2.0, 9.4.5",
     clear_halt_not_halted, NULL},
    {"S100", "clear-halt-missing-ep", SHOULD, STRICT, NEED_DEVICE,
     "CLEAR_FEATURE(ENDPOINT_HALT) for an endpoint that does not exist stalls.", "USB 2.0, 9.4.1",
     clear_halt_missing_ep, NULL},
    {"S101", "port-reset-pseudo", MAY, STRICT, NEED_DEVICE,
     "A port reset, as it is sent to a hub, resets the device, or stalls.",
     "stub_rx.c of the Linux server", port_reset, NULL},
    {"S102", "set-address", MAY, HOSTILE, NEED_DEVICE,
     "SET_ADDRESS is the server's own affair: from a client it does no harm.", "USB 2.0, 9.4.6",
     set_address, NULL},
    {"S103", "set-feature-halt", SHOULD, STRICT, NEED_DEVICE | NEED_BULK,
     "SET_FEATURE(ENDPOINT_HALT) makes transfers end with -EPIPE until it is cleared.",
     "USB 2.0, 9.4.9", set_feature_halt, NULL},
    {"S104", "get-status-recipients", SHOULD, STRICT, NEED_DEVICE | NEED_BULK,
     "GET_STATUS of the device, an interface and an endpoint gives 2 bytes, or stalls.",
     "USB 2.0, 9.4.5", get_status_recipients, NULL},
};

const struct section intercepted = {"F", "Requests that the server must know", cases,
                                    sizeof cases / sizeof cases[0]};
