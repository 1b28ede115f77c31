/*
 * Packets of a USB 2.0 bus, as analysers see them: tokens, data and handshakes are put together to
 * transactions, transactions to transfers.
 *
 * A host asks for transfers, but a bus shows only packets, so the ends of bulk and interrupt
 * transfers are found so: a packet shorter than wMaxPacketSize ends one; data that go the other way
 * end it too, for one side has answered the other; and MAX_TRANSFER bytes do. What the host asked
 * for stays unknown.
 *
 * Source: Universal Serial Bus Specification 2.0, chapter 8.
 */
#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/capture/capture_internal.h"
#include "protocol/buffer.h"
#include "protocol/bytes.h"
#include "protocol/configuration.h"

#ifndef DLT_USB_2_0_LOW_SPEED
#define DLT_USB_2_0_LOW_SPEED 293
#define DLT_USB_2_0_FULL_SPEED 294
#define DLT_USB_2_0_HIGH_SPEED 295
#endif

/* PIDs, table 8-1, with their check bits. */
enum {
    PID_OUT = 0xe1,
    PID_IN = 0x69,
    PID_SOF = 0xa5,
    PID_SETUP = 0x2d,
    PID_DATA0 = 0xc3,
    PID_DATA1 = 0x4b,
    PID_DATA2 = 0x87,
    PID_MDATA = 0x0f,
    PID_ACK = 0xd2,
    PID_NAK = 0x5a,
    PID_STALL = 0x1e,
    PID_NYET = 0x96,
    PID_PRE_ERR = 0x3c,
    PID_SPLIT = 0x78,
    PID_PING = 0xb4,
};

enum {
    BUS = 1, /* a file has one, without a number */
    TOKEN_SIZE = 3,
    DATA_OVERHEAD = 3, /* PID and CRC16 */
    MAX_DATA = 1024,
    MAX_TRANSFER = 64 * 1024,
    ADDRESSES = 128,
    PIPES = 32, /* of a device */
};

struct pipe {
    uint32_t transfer; /* under way, + 1; 0: none */
    uint8_t last_pid;  /* of the last data packet that was taken; 0: none */
    uint16_t last_crc;
    uint32_t last_size;
    uint8_t type;               /* of the endpoint, when known */
    uint16_t packet_size;       /* 0: not known */
    uint16_t longest;           /* packet */
    struct capture_record last; /* what took the last packet; no bytes */
    struct usbip_buffer data;
};

struct bus_device {
    uint32_t index;                /* of devices[] */
    uint32_t configuration_record; /* that the pipes are set up by */
    struct pipe pipes[PIPES];
};

struct state {
    struct bus_device *devices[ADDRESSES];
    struct capture_record token_record;
    uint8_t token; /* that is being answered; 0: none */
    uint8_t address, endpoint;
    bool after_split; /* the next token belongs to a hub's transaction */
    uint8_t data_pid; /* 0: no data packet yet */
    uint32_t size;
    uint16_t crc;
    uint8_t data[MAX_DATA];
};

static uint16_t crc16(const uint8_t *bytes, size_t size)
{
    uint16_t crc = 0xffff;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 1 ? crc >> 1 ^ 0xa001 : crc >> 1);
    }
    return (uint16_t)~crc;
}

/* Over the 11 bits of a token. */
static uint8_t crc5(uint16_t bits)
{
    uint8_t crc = 0x1f;
    for (int i = 0; i < 11; i++)
        crc = (uint8_t)((crc ^ bits >> i) & 1 ? crc >> 1 ^ 0x14 : crc >> 1);
    return (uint8_t)(~crc & 0x1f);
}

/* ---- Devices and their endpoints ---- */

static struct bus_device *find_device(struct capture_builder *builder, struct state *state,
                                      enum usbip_speed speed)
{
    struct bus_device *device = state->devices[state->address];
    if (!device) {
        device = calloc(1, sizeof *device);
        if (!device) {
            capture_out_of_memory(builder);
            return NULL;
        }
        state->devices[state->address] = device;
    }
    device->index = capture_device(builder, BUS, state->address);
    if (device->index == CAPTURE_NONE)
        return NULL;
    if (speed != USBIP_SPEED_UNKNOWN)
        builder->capture->devices[device->index].speed = speed;
    return device;
}

static struct pipe *pipe_of(struct bus_device *device, uint8_t endpoint, bool in)
{
    return &device->pipes[endpoint * 2 + in];
}

/* The sizes of packets are in the configuration descriptor, once the host has read it. */
static void look_at_configuration(struct capture_builder *builder, struct bus_device *device)
{
    const struct usbip_capture_descriptor *found = usbip_capture_find_descriptor(
        &builder->capture->devices[device->index], USB_DT_CONFIG, 0, 0);
    if (!found || found->record == device->configuration_record)
        return;
    device->configuration_record = found->record;
    struct usbip_configuration table;
    if (usbip_parse_configuration(found->data, found->size, &table) < 0)
        return;
    for (unsigned i = 0; i < table.endpoint_count; i++) {
        const struct usbip_endpoint_descriptor *endpoint = &table.endpoints[i];
        struct pipe *pipe = pipe_of(device, endpoint->bEndpointAddress & 0x0f,
                                    endpoint->bEndpointAddress & USB_DIR_IN);
        pipe->type = endpoint->bmAttributes & USB_ENDPOINT_XFERTYPE_MASK;
        pipe->packet_size = endpoint->wMaxPacketSize & USB_ENDPOINT_MAXP_MASK;
    }
}

static uint16_t packet_size_of(const struct pipe *pipe, enum usbip_speed speed)
{
    if (pipe->packet_size > 0)
        return pipe->packet_size;
    if (speed == USBIP_SPEED_LOW)
        return 8;
    return speed == USBIP_SPEED_HIGH || pipe->longest > 64 ? 512 : 64;
}

/* ---- Transfers ---- */

static int submit(struct capture_builder *builder, const struct capture_record *record,
                  struct bus_device *device, struct pipe *pipe, uint8_t endpoint,
                  const uint8_t *setup)
{
    struct capture_urb urb = {
        .device = device->index,
        .endpoint = endpoint,
        .type = endpoint & 0x0f ? pipe->type : USB_ENDPOINT_XFER_CONTROL,
        .setup = setup,
    };
    if (urb.type == USB_ENDPOINT_XFER_CONTROL && (endpoint & 0x0f))
        urb.type = USB_ENDPOINT_XFER_BULK;
    uint32_t transfer = capture_submit(builder, record, &urb);
    if (transfer == CAPTURE_NONE)
        return -1;
    pipe->transfer = transfer + 1;
    pipe->data.size = 0;
    return 0;
}

static int complete(struct capture_builder *builder, const struct capture_record *record,
                    struct bus_device *device, struct pipe *pipe, int32_t status)
{
    uint32_t transfer = pipe->transfer - 1;
    struct capture_urb urb = {
        .device = device->index,
        .length = (uint32_t)pipe->data.size,
        .status = status,
        .data = pipe->data.data,
        .size = (uint32_t)pipe->data.size,
        .wanted = (uint32_t)pipe->data.size,
    };
    if (!usbip_transfer_is_in(&builder->capture->transfers[transfer]) &&
        capture_set_data(builder, record, transfer, &urb) < 0)
        return -1;
    pipe->transfer = 0;
    pipe->data.size = 0;
    return capture_complete_transfer(builder, record, transfer, &urb) == CAPTURE_NONE ? -1 : 0;
}

/* Ends what was under way in one direction: data go the other way now. */
static int end_direction(struct capture_builder *builder, struct bus_device *device, bool in)
{
    for (unsigned i = 2 + in; i < PIPES; i += 2) {
        struct pipe *pipe = &device->pipes[i];
        if (pipe->transfer > 0 && complete(builder, &pipe->last, device, pipe, 0) < 0)
            return -1;
    }
    return 0;
}

/* The host or the device sends a packet again when the handshake to it was lost. */
static bool is_repeated(const struct state *state, struct pipe *pipe)
{
    if (state->data_pid == pipe->last_pid && state->crc == pipe->last_crc &&
        state->size == pipe->last_size)
        return true;
    pipe->last_pid = state->data_pid;
    pipe->last_crc = state->crc;
    pipe->last_size = state->size;
    return false;
}

static void free_device(struct bus_device *device)
{
    for (unsigned i = 0; device && i < PIPES; i++)
        usbip_buffer_free(&device->pipes[i].data);
    free(device);
}

/* A request that has succeeded may change what comes next on the bus. */
static void follow_request(struct state *state, struct bus_device *device,
                           const struct usbip_setup *setup)
{
    if ((setup->bmRequestType & USB_TYPE_MASK) != USB_TYPE_STANDARD)
        return;
    switch (setup->bRequest) {
    case USB_REQ_SET_ADDRESS:
        /* The model follows by itself (capture_note_descriptor). */
        for (unsigned i = 0; i < 2; i++) {
            unsigned address = i == 0 ? 0 : setup->wValue % ADDRESSES;
            free_device(state->devices[address]);
            state->devices[address] = NULL;
        }
        break;
    case USB_REQ_CLEAR_FEATURE:
    case USB_REQ_SET_CONFIGURATION:
    case USB_REQ_SET_INTERFACE:
        /* Data toggles begin anew. */
        for (unsigned i = 0; i < PIPES; i++)
            device->pipes[i].last_pid = 0;
        break;
    default:
        break;
    }
}

static int end_control(struct capture_builder *builder, struct state *state,
                       const struct capture_record *record, struct bus_device *device,
                       int32_t status)
{
    struct pipe *pipe = &device->pipes[0];
    struct usbip_setup setup;
    usbip_decode_setup(builder->capture->transfers[pipe->transfer - 1].setup, &setup);
    if (complete(builder, record, device, pipe, status) < 0)
        return -1;
    if (status == 0)
        follow_request(state, device, &setup);
    return 0;
}

static int control_transaction(struct capture_builder *builder, struct state *state,
                               const struct capture_record *record, struct bus_device *device,
                               bool stalled)
{
    struct pipe *pipe = &device->pipes[0];
    if (state->token == PID_SETUP) {
        if (state->size != USBIP_SETUP_SIZE)
            return 0;
        pipe->last_pid = 0;
        return submit(builder, &state->token_record, device, pipe, 0, state->data);
    }
    if (pipe->transfer == 0)
        return 0; /* its SETUP came before the file begins */
    if (stalled)
        return end_control(builder, state, record, device, -USBIP_EPIPE);
    const struct usbip_capture_transfer *transfer =
        &builder->capture->transfers[pipe->transfer - 1];
    if (usbip_transfer_is_in(transfer) != (state->token == PID_IN))
        return end_control(builder, state, record, device, 0);
    if (is_repeated(state, pipe) || pipe->data.size + state->size > UINT16_MAX)
        return 0;
    if (usbip_buffer_append(&pipe->data, state->data, state->size) < 0)
        return capture_out_of_memory(builder);
    return 0;
}

static int data_transaction(struct capture_builder *builder, struct state *state,
                            const struct capture_record *record, struct bus_device *device,
                            bool stalled)
{
    bool in = state->token == PID_IN;
    struct pipe *pipe = pipe_of(device, state->endpoint, in);
    look_at_configuration(builder, device);
    if (!stalled && is_repeated(state, pipe))
        return 0;
    if (end_direction(builder, device, !in) < 0)
        return -1;
    if (pipe->transfer == 0 && submit(builder, &state->token_record, device, pipe,
                                      (uint8_t)(state->endpoint | (in ? USB_DIR_IN : 0)), NULL) < 0)
        return -1;
    if (stalled) {
        pipe->last_pid = 0;
        return complete(builder, record, device, pipe, -USBIP_EPIPE);
    }
    if (usbip_buffer_append(&pipe->data, state->data, state->size) < 0)
        return capture_out_of_memory(builder);
    if (state->size > pipe->longest)
        pipe->longest = (uint16_t)state->size;
    pipe->last = *record;
    enum usbip_speed speed = builder->capture->devices[device->index].speed;
    if (state->size < packet_size_of(pipe, speed) || pipe->data.size >= MAX_TRANSFER ||
        pipe->type == USB_ENDPOINT_XFER_ISOC)
        return complete(builder, record, device, pipe, 0);
    return 0;
}

static int end_transaction(struct capture_builder *builder, struct state *state,
                           const struct capture_record *record, enum usbip_speed speed,
                           bool stalled)
{
    struct bus_device *device = find_device(builder, state, speed);
    if (!device)
        return -1;
    int result = state->endpoint == 0 ? control_transaction(builder, state, record, device, stalled)
                                      : data_transaction(builder, state, record, device, stalled);
    state->token = 0;
    return result;
}

/* ---- Packets ---- */

static bool take_token(struct state *state, const struct capture_record *record)
{
    state->token = 0;
    bool is_left_out = state->after_split;
    state->after_split = false;
    if (record->size != TOKEN_SIZE)
        return false;
    uint16_t bits = usbip_load_le16(record->bytes + 1);
    if (crc5(bits) != bits >> 11)
        return false;
    if (is_left_out)
        return true;
    state->token = record->bytes[0];
    state->address = bits & 0x7f;
    state->endpoint = bits >> 7 & 0x0f;
    state->data_pid = 0;
    state->token_record = *record;
    return true;
}

static bool take_data(struct state *state, const struct capture_record *record)
{
    if (record->size < DATA_OVERHEAD || record->size > MAX_DATA + DATA_OVERHEAD)
        return false;
    state->size = record->size - DATA_OVERHEAD;
    state->crc = usbip_load_le16(record->bytes + 1 + state->size);
    if (crc16(record->bytes + 1, state->size) != state->crc)
        return false;
    memcpy(state->data, record->bytes + 1, state->size);
    state->data_pid = record->bytes[0];
    return true;
}

static bool is_isochronous(const struct state *state)
{
    struct bus_device *device = state->devices[state->address];
    return device && state->endpoint != 0 &&
           pipe_of(device, state->endpoint, state->token == PID_IN)->type == USB_ENDPOINT_XFER_ISOC;
}

static int read_packet(struct capture_builder *builder, struct state *state,
                       const struct capture_record *record, enum usbip_speed speed)
{
    if (record->size < record->original_size)
        return capture_record_too_short(builder, record, "packet", record->original_size);
    bool is_whole = true;
    switch (record->size > 0 ? record->bytes[0] : 0) {
    case PID_SETUP:
    case PID_IN:
    case PID_OUT:
        is_whole = take_token(state, record);
        break;
    case PID_DATA0:
    case PID_DATA1:
    case PID_DATA2:
    case PID_MDATA:
        is_whole = take_data(state, record);
        if (!is_whole)
            state->token = 0;
        else if (state->token != 0 && is_isochronous(state))
            return end_transaction(builder, state, record, speed, false);
        break;
    case PID_ACK:
    case PID_NYET:
        if (state->token != 0 && state->data_pid != 0)
            return end_transaction(builder, state, record, speed, false);
        break;
    case PID_STALL:
        if (state->token != 0)
            return end_transaction(builder, state, record, speed, true);
        break;
    case PID_SPLIT:
        state->after_split = true;
        state->token = 0;
        break;
    case PID_SOF:
    case PID_NAK:
    case PID_PING:
        state->token = 0;
        break;
    case PID_PRE_ERR:
        break;
    default:
        is_whole = false;
    }
    builder->capture->skipped_records += !is_whole;
    return 0;
}

static int read_unknown_speed(struct capture_builder *builder, void *state,
                              const struct capture_record *record)
{
    return read_packet(builder, state, record, USBIP_SPEED_UNKNOWN);
}

static int read_low_speed(struct capture_builder *builder, void *state,
                          const struct capture_record *record)
{
    return read_packet(builder, state, record, USBIP_SPEED_LOW);
}

static int read_full_speed(struct capture_builder *builder, void *state,
                           const struct capture_record *record)
{
    return read_packet(builder, state, record, USBIP_SPEED_FULL);
}

static int read_high_speed(struct capture_builder *builder, void *state,
                           const struct capture_record *record)
{
    return read_packet(builder, state, record, USBIP_SPEED_HIGH);
}

static int end(struct capture_builder *builder, void *context)
{
    struct state *state = context;
    for (unsigned i = 0; i < ADDRESSES; i++) {
        struct bus_device *device = state->devices[i];
        if (device &&
            (end_direction(builder, device, false) < 0 || end_direction(builder, device, true) < 0))
            return -1;
    }
    return 0;
}

static void free_state(void *context)
{
    struct state *state = context;
    for (unsigned i = 0; i < ADDRESSES; i++)
        free_device(state->devices[i]);
}

#define PACKET_FORMAT(type, function)                                                              \
    {                                                                                              \
        .link_type = DLT_##type, .name = #type, .state_size = sizeof(struct state),                \
        .read = (function), .end = end, .free = free_state,                                        \
    }

const struct capture_format capture_formats_packets[4] = {
    PACKET_FORMAT(USB_2_0, read_unknown_speed),
    PACKET_FORMAT(USB_2_0_LOW_SPEED, read_low_speed),
    PACKET_FORMAT(USB_2_0_FULL_SPEED, read_full_speed),
    PACKET_FORMAT(USB_2_0_HIGH_SPEED, read_high_speed),
};
