/* C. What a client sends. */
#include "tests/conformance/client/rules.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/cdc.h"
#include "tests/conformance/client/client_trial.h"

enum {
    UNLINK_REST = 0x18, /* the bytes of a CMD_UNLINK from here on are 0 */
    MIN_QUEUED = 2,
    KNOWN_FLAGS = USBIP_URB_SHORT_NOT_OK | USBIP_URB_ISO_ASAP | USBIP_URB_NO_TRANSFER_DMA_MAP |
                  USBIP_URB_ZERO_PACKET | USBIP_URB_NO_INTERRUPT | USBIP_URB_FREE_BUFFER |
                  USBIP_URB_DIR_IN,
    /* How Linux maps buffers, as its client passes it on. */
    MAPPING_FLAGS = 0x00ff0000,
};

void rule_kept(struct link *link, enum rule rule)
{
    link->trial->server->rules->rules[rule].checked++;
}

void rule_broken(struct link *link, enum rule rule, const char *format, ...)
{
    char *violation = link->trial->server->rules->rules[rule].violation;
    rule_kept(link, rule);
    if (violation[0] != '\0')
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(violation, RULE_TEXT_SIZE, format, arguments);
    va_end(arguments);
    wire_log_add(&link->trial->log, "%c - a rule is broken: %s", link->tag, violation);
}

static bool is_pending(const struct link *link, uint32_t seqnum, bool unlink)
{
    for (size_t i = 0; i < link->pending_count; i++) {
        if (link->pending[i].seqnum == seqnum && link->pending[i].unlink == unlink)
            return true;
    }
    return false;
}

static void check_seqnum(struct link *link, const struct usbip_header *header)
{
    if (header->seqnum == 0)
        rule_broken(link, RULE_SEQNUM, "seqnum 0");
    else if (is_pending(link, header->seqnum, false) || is_pending(link, header->seqnum, true))
        rule_broken(link, RULE_SEQNUM, "seqnum %" PRIu32 " is in flight already", header->seqnum);
    else
        rule_kept(link, RULE_SEQNUM);
}

static void check_unlink(struct link *link, const struct usbip_header *header, const uint8_t *bytes)
{
    const uint32_t victim = header->cmd_unlink.unlink_seqnum;
    unsigned rest = 0;
    for (size_t i = UNLINK_REST; i < USBIP_HEADER_SIZE; i++)
        rest |= bytes[i];
    if (header->ep != 0 || header->direction != 0 || rest != 0)
        rule_broken(link, RULE_UNLINK_FORM,
                    "CMD_UNLINK has ep %" PRIu32 " and direction %" PRIu32 "%s", header->ep,
                    header->direction, rest != 0 ? ", and its end is not zero" : "");
    else
        rule_kept(link, RULE_UNLINK_FORM);
    for (size_t i = 0; i < link->pending_count; i++) {
        if (link->pending[i].unlink && link->pending[i].victim == victim) {
            rule_broken(link, RULE_UNLINK_OWN, "seqnum %" PRIu32 " is unlinked twice", victim);
            return;
        }
    }
    /* What was answered a moment ago the client may not know yet. */
    if (victim == 0 || victim > link->highest_seqnum)
        rule_broken(link, RULE_UNLINK_OWN, "seqnum %" PRIu32 " was never submitted", victim);
    else
        rule_kept(link, RULE_UNLINK_OWN);
}

static void check_control(struct link *link, const struct usbip_header *header,
                          const struct usbip_setup *setup)
{
    const struct case_server *server = link->trial->server;
    const uint32_t length = header->cmd_submit.transfer_buffer_length;
    bool in = setup->bmRequestType & USB_DIR_IN;
    /* Without a data stage the direction says nothing, and both occur. */
    if (setup->wLength > 0 && in != (header->direction == USBIP_DIR_IN))
        rule_broken(link, RULE_EP, "bmRequestType %02x has direction %" PRIu32,
                    setup->bmRequestType, header->direction);
    if (length != setup->wLength)
        rule_broken(link, RULE_LENGTH, "transfer_buffer_length %" PRIu32 ", wLength %u", length,
                    setup->wLength);
    else
        rule_kept(link, RULE_LENGTH);
    if (setup->bmRequestType == (USB_DIR_IN | USB_TYPE_STANDARD | USB_RECIP_DEVICE) &&
        setup->bRequest == USB_REQ_GET_DESCRIPTOR) {
        link->has_device_descriptor |= setup->wValue >> 8 == USB_DT_DEVICE;
        link->has_configuration_descriptor |= setup->wValue >> 8 == USB_DT_CONFIG;
    }
    if (setup->bmRequestType == (USB_TYPE_STANDARD | USB_RECIP_DEVICE) &&
        setup->bRequest == USB_REQ_SET_CONFIGURATION)
        link->has_configuration |= setup->wValue != 0;
    if (setup->bmRequestType != (USB_TYPE_CLASS | USB_RECIP_INTERFACE) ||
        server->comm_interface < 0)
        return;
    if (setup->bRequest == CDC_SET_LINE_CODING &&
        (setup->wIndex != server->comm_interface || setup->wLength != CDC_LINE_CODING_SIZE ||
         setup->wValue != 0))
        rule_broken(link, RULE_LINE_STATE,
                    "SET_LINE_CODING with wValue %04x, wIndex %u and %u bytes", setup->wValue,
                    setup->wIndex, setup->wLength);
    if (setup->bRequest == CDC_SET_CONTROL_LINE_STATE &&
        (setup->wIndex != server->comm_interface || setup->wLength != 0 ||
         (setup->wValue & ~(USBIP_LINE_DTR | USBIP_LINE_RTS)) != 0))
        rule_broken(link, RULE_LINE_STATE,
                    "SET_CONTROL_LINE_STATE with wValue %04x, wIndex %u and %u bytes",
                    setup->wValue, setup->wIndex, setup->wLength);
}

static void check_data(struct link *link, const struct usbip_header *header)
{
    static const uint8_t zeros[USBIP_SETUP_SIZE];
    const struct case_server *server = link->trial->server;
    const uint32_t length = header->cmd_submit.transfer_buffer_length;
    const uint8_t address =
        (uint8_t)(header->ep | (header->direction == USBIP_DIR_IN ? USB_DIR_IN : 0));
    rule_kept(link, RULE_LENGTH);
    if (memcmp(header->cmd_submit.setup, zeros, sizeof zeros) != 0)
        rule_broken(link, RULE_SETUP, "ep %" PRIu32 " has setup bytes", header->ep);
    else
        rule_kept(link, RULE_SETUP);
    if (!link->has_device_descriptor || !link->has_configuration_descriptor ||
        !link->has_configuration)
        rule_broken(link, RULE_ORDER, "ep %" PRIu32 " is used before %s", header->ep,
                    link->has_configuration ? "the descriptors were read" : "SET_CONFIGURATION");
    else
        rule_kept(link, RULE_ORDER);
    if (address == server->interrupt_in) {
        if (header->cmd_submit.interval < 1)
            rule_broken(link, RULE_INTERVAL, "interrupt ep %" PRIu32 " has interval %" PRId32,
                        header->ep, header->cmd_submit.interval);
        else
            rule_kept(link, RULE_INTERVAL);
    }
    if (address != server->bulk_in)
        return;
    if (length == 0 || length % server->bulk_in_packet != 0)
        rule_broken(link, RULE_IN_QUEUE,
                    "bulk IN of %" PRIu32 " bytes is not a multiple of wMaxPacketSize %u", length,
                    server->bulk_in_packet);
    else
        rule_kept(link, RULE_IN_QUEUE);
}

static void check_submit(struct link *link, const struct usbip_header *header)
{
    const int32_t packets = header->cmd_submit.number_of_packets;
    const uint32_t flags = header->cmd_submit.transfer_flags;
    struct usbip_setup setup;
    if (header->ep > 15 || header->direction > 1)
        rule_broken(link, RULE_EP, "ep %" PRIu32 ", direction %" PRIu32, header->ep,
                    header->direction);
    else
        rule_kept(link, RULE_EP);
    if (packets != 0 && packets != -1)
        rule_broken(link, RULE_NUMBER_OF_PACKETS, "number_of_packets %" PRId32, packets);
    else
        rule_kept(link, RULE_NUMBER_OF_PACKETS);
    if ((flags & ~(uint32_t)(KNOWN_FLAGS | MAPPING_FLAGS)) != 0 ||
        ((flags & USBIP_URB_DIR_IN) && header->direction != USBIP_DIR_IN))
        rule_broken(link, RULE_FLAGS, "transfer_flags %08" PRIx32 " for direction %" PRIu32, flags,
                    header->direction);
    else
        rule_kept(link, RULE_FLAGS);
    if (header->ep != 0) {
        check_data(link, header);
        return;
    }
    usbip_decode_setup(header->cmd_submit.setup, &setup);
    check_control(link, header, &setup);
}

void rules_check(struct link *link, const struct usbip_header *header, const uint8_t *bytes)
{
    if (header->devid != link->devid)
        rule_broken(link, RULE_DEVID, "devid %08" PRIx32 " where the import said %08" PRIx32,
                    header->devid, link->devid);
    else
        rule_kept(link, RULE_DEVID);
    check_seqnum(link, header);
    if (header->command == USBIP_CMD_UNLINK)
        check_unlink(link, header, bytes);
    else
        check_submit(link, header);
}

/* ---- The cases ---- */

/* A session in which every rule has something to look at. */
static void plain_session(struct trial *trial)
{
    struct link *link = client_open(trial, NULL);
    const struct case_server *server = trial->server;
    if (server->far_end.line_codings == 0 || !server->far_end.open)
        rule_broken(link, RULE_LINE_STATE, "the port is open %s",
                    server->far_end.open ? "without SET_LINE_CODING" : "and DTR is off");
    else
        rule_kept(link, RULE_LINE_STATE);
    if (!client_await_in(trial, link, MIN_QUEUED))
        rule_broken(link, RULE_IN_QUEUE, "only %u bulk IN transfers are queued while it is open",
                    link_pending_count(link, server->bulk_in));
    static const size_t sizes[] = {1, 64, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        client_expect_echo(trial, sizes[i]);
    client_finish(trial, link, CLIENT_WELL);
}

static const char source[] = "usbip_protocol.rst, USBIP_CMD_SUBMIT";

static const struct conformance_case cases[] = {
    [RULE_DEVID] = {"C018", "hdr-devid", MUST, CORE, 0,
                    "Every PDU has the devid of the imported device, CMD_UNLINK too.", source,
                    plain_session, NULL},
    [RULE_SEQNUM] = {"C019", "hdr-seqnum", MUST, CORE, 0,
                     "Seqnums are not 0, and unique among all PDUs in flight.", source,
                     plain_session, NULL},
    [RULE_EP] = {"C020", "hdr-ep", MUST, CORE, 0,
                 "ep is 0 to 15 without direction bit, direction 0 or 1; on endpoint 0 it is that "
                 "of bmRequestType.",
                 source, plain_session, NULL},
    [RULE_LENGTH] =
        {"C021", "submit-length", MUST, CORE, 0,
         "A control transfer has transfer_buffer_length wLength; an OUT transfer brings "
         "so many bytes, an IN transfer none.",
         "urb.c of Linux closes the connection otherwise", plain_session, NULL},
    [RULE_NUMBER_OF_PACKETS] = {"C022", "submit-np", MUST, CORE, 0,
                                "number_of_packets is 0 or -1 for what is not isochronous.", source,
                                plain_session, NULL},
    [RULE_FLAGS] = {"C023", "submit-flags", SHOULD, CORE, 0,
                    "transfer_flags has known bits only, and DIR_IN for IN transfers only.",
                    "include/uapi/linux/usbip.h", plain_session, NULL},
    [RULE_INTERVAL] = {"C024", "submit-interval", MUST, CORE, 0,
                       "Interrupt transfers have an interval of at least 1.",
                       "urb.c of Linux closes the connection at 0", plain_session, NULL},
    [RULE_SETUP] = {"C025", "setup-zero", SHOULD, CORE, 0,
                    "setup is 0 for all endpoints but endpoint 0.", source, plain_session, NULL},
    [RULE_ORDER] = {"C026", "enum-order", MUST, CORE, 0,
                    "The descriptors of device and configuration are read and the configuration is "
                    "set before any other endpoint is used.",
                    "an exported device is not configured", plain_session, NULL},
    [RULE_UNLINK_FORM] = {"C027", "unlink-form", SHOULD, CORE, 0,
                          "CMD_UNLINK has ep and direction 0, and zeros behind unlink_seqnum.",
                          "usbip_protocol.rst, USBIP_CMD_UNLINK", plain_session, NULL},
    [RULE_UNLINK_OWN] = {"C028", "unlink-only-own", MUST, CORE, 0,
                         "Only transfers of this connection are unlinked, none of them twice.",
                         "usbip_protocol.rst, USBIP_CMD_UNLINK", plain_session, NULL},
    [RULE_LINE_STATE] = {"C029", "cdc-open-bytes", MUST, CORE, 0,
                         "SET_LINE_CODING brings 7 bytes and SET_CONTROL_LINE_STATE bits 0 (DTR) "
                         "and 1 (RTS), to the communications interface; an open port has both.",
                         "CDC PSTN 1.2, section 6.3", plain_session, NULL},
    [RULE_IN_QUEUE] = {"C030", "in-queue", SHOULD, CORE, 0,
                       "While the port is open at least 2 bulk IN transfers are queued, each of "
                       "whole packets.",
                       "one at a time loses throughput, a part of a packet loses data",
                       plain_session, NULL},
};

const struct section client_requests = {"C", "What a client sends", cases,
                                        sizeof cases / sizeof cases[0]};
