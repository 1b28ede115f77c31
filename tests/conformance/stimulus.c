#include "tests/conformance/stimulus.h"

#include <inttypes.h>
#include <stdlib.h>

#include "protocol/bytes.h"
#include "tests/conformance/trial.h"

enum { MAX_SAMPLES = 4096 };

/* Bytes at a stride, so that a script can do the same for megabytes; each counts with its place. */
uint32_t stimulus_checksum(const uint8_t *data, size_t size)
{
    size_t stride = size / MAX_SAMPLES + 1;
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i += stride)
        sum = (sum * 31 + data[i]) & 0xffffff;
    return size > 0 ? (sum * 31 + data[size - 1]) & 0xffffff : 0;
}

/* ---- Vendor requests of device.lua ---- */

enum vendor_request {
    VENDOR_SEND = 1,     /* OUT, wIndex endpoint: sends the data */
    VENDOR_NUMBERED = 2, /* wValue transfers of wIndex bytes */
    VENDOR_HALT = 3,     /* wIndex endpoint */
    VENDOR_UNPLUG = 4,   /* wValue ms */
    VENDOR_ECHO = 5,     /* wValue 0 or 1 */
    VENDOR_RECEIVED = 6, /* IN: 12 bytes */
};

static void request(struct trial *trial, struct wire *wire, uint8_t bRequest, uint16_t wValue,
                    uint16_t wIndex, const void *data, size_t size)
{
    const struct wire_pdu *pdu =
        trial_control(trial, wire, USB_TYPE_VENDOR, bRequest, wValue, wIndex, (uint16_t)size, data);
    if (pdu->header.ret_submit.status != 0)
        trial_fail(trial, "the stimulus %d is refused with status %d: see the server's log",
                   bRequest, pdu->header.ret_submit.status);
}

static void vendor_send(struct trial *trial, struct wire *wire, uint8_t endpoint, const void *data,
                        size_t size)
{
    request(trial, wire, VENDOR_SEND, 0, endpoint, data, size);
}

static void vendor_send_numbered(struct trial *trial, struct wire *wire, unsigned count,
                                 unsigned size)
{
    request(trial, wire, VENDOR_NUMBERED, (uint16_t)count, (uint16_t)size, NULL, 0);
}

static void vendor_halt(struct trial *trial, struct wire *wire, uint8_t endpoint)
{
    request(trial, wire, VENDOR_HALT, 0, endpoint, NULL, 0);
}

static void vendor_unplug(struct trial *trial, struct wire *wire, unsigned ms)
{
    request(trial, wire, VENDOR_UNPLUG, (uint16_t)ms, 0, NULL, 0);
}

static void vendor_echo(struct trial *trial, struct wire *wire, int on)
{
    request(trial, wire, VENDOR_ECHO, on != 0, 0, NULL, 0);
}

static void vendor_received(struct trial *trial, struct wire *wire,
                            struct stimulus_received *received)
{
    const struct wire_pdu *pdu =
        trial_control(trial, wire, USB_DIR_IN | USB_TYPE_VENDOR, VENDOR_RECEIVED, 0, 0, 12, NULL);
    if (pdu->header.ret_submit.status != 0 || pdu->payload_size != 12)
        trial_fail(trial, "the device does not say what it has received");
    *received = (struct stimulus_received){
        .bytes = usbip_load_le32(pdu->payload),
        .transfers = usbip_load_le32(pdu->payload + 4),
        .checksum = usbip_load_le32(pdu->payload + 8),
    };
}

const struct stimulus stimulus_vendor_requests = {
    .name = "vendor requests",
    .exact_packets = true,
    .send = vendor_send,
    .send_numbered = vendor_send_numbered,
    .halt = vendor_halt,
    .unplug = vendor_unplug,
    .echo = vendor_echo,
    .received = vendor_received,
};

/* ---- Operations ---- */

static noreturn void cannot(struct trial *trial, const char *what)
{
    trial_not_applicable(trial, "the stimulus (%s) cannot %s", trial->target->stimulus->name, what);
}

void stimulate_open(struct trial *trial, struct wire *wire)
{
    if (trial->target->stimulus && trial->target->stimulus->open)
        trial->target->stimulus->open(trial, wire);
}

void stimulate_send(struct trial *trial, struct wire *wire, uint8_t endpoint, const void *data,
                    size_t size)
{
    if (!trial->target->stimulus->send)
        cannot(trial, "make the device send");
    trial->target->stimulus->send(trial, wire, endpoint, data, size);
}

static void send_number(struct trial *trial, struct wire *wire)
{
    uint8_t *bytes = trial_alloc(trial, trial->numbers.size);
    usbip_store_le32(bytes, ++trial->numbers.sent);
    stimulate_send(trial, wire, trial->target->bulk_in | USB_DIR_IN, bytes, trial->numbers.size);
}

void stimulate_send_numbered(struct trial *trial, struct wire *wire, unsigned count, unsigned size)
{
    trial->numbers.sent = 0;
    trial->numbers.count = count;
    trial->numbers.size = size;
    if (!trial->target->stimulus->send_numbered) {
        send_number(trial, wire);
        return;
    }
    trial->numbers.sent = count;
    trial->target->stimulus->send_numbered(trial, wire, count, size);
}

void stimulate_expect_number(struct trial *trial, struct wire *wire, uint32_t seqnum,
                             uint32_t number)
{
    const uint8_t *data = trial_expect_data(trial, wire, seqnum, 0, trial->numbers.size);
    uint32_t got = usbip_load_le32(data);
    if (got != number)
        trial_fail(trial, "request %" PRIu32 " has packet %" PRIu32 ", not %" PRIu32, seqnum, got,
                   number);
    if (trial->numbers.sent == number && number < trial->numbers.count)
        send_number(trial, wire);
}

void stimulate_halt(struct trial *trial, struct wire *wire, uint8_t endpoint)
{
    if (!trial->target->stimulus->halt)
        cannot(trial, "halt an endpoint");
    trial->target->stimulus->halt(trial, wire, endpoint);
}

void stimulate_unplug(struct trial *trial, struct wire *wire, unsigned ms)
{
    if (!trial->target->stimulus->unplug)
        cannot(trial, "unplug the device");
    trial->target->stimulus->unplug(trial, wire, ms);
}

void stimulate_echo(struct trial *trial, struct wire *wire, int on)
{
    if (!trial->target->stimulus->echo)
        cannot(trial, "make the device echo");
    trial->target->stimulus->echo(trial, wire, on);
}

struct stimulus_received stimulate_received(struct trial *trial, struct wire *wire)
{
    struct stimulus_received received;
    if (!trial->target->stimulus->received)
        cannot(trial, "tell what the device has received");
    trial->target->stimulus->received(trial, wire, &received);
    return received;
}
