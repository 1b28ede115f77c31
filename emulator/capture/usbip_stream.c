#include "emulator/capture/usbip_stream.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/buffer.h"
#include "protocol/bytes.h"

enum {
    MAX_TRANSFER_SIZE = 16 << 20, /* of a header that is taken for one */
    MAX_DEVLIST_DEVICES = 1024,
    MAX_FOREIGN_PIECES = 8, /* of a connection, until it is given up as not USB/IP */
    TWO_HEADERS = 2 * USBIP_HEADER_SIZE,
    MAX_ENDPOINT = 15,
    MAX_ERRNO = 4095,
};

enum role {
    ROLE_UNKNOWN,
    ROLE_CLIENT,
    ROLE_SERVER,
};

struct half {
    enum role role;
    bool in_sync; /* the buffer begins with a PDU */
    struct usbip_buffer buffer;
};

struct capture_usbip_stream {
    uint32_t number;
    bool expected, known, foreign;
    unsigned foreign_pieces;
    uint32_t device;
    bool device_is_known; /* by devid: else a stand-in for replies without requests */
    char busid[USBIP_BUSID_SIZE + 1];
    struct half halves[2];
};

struct capture_usbip_stream *capture_usbip_stream_new(uint32_t number, bool expected)
{
    struct capture_usbip_stream *stream = calloc(1, sizeof *stream);
    if (stream) {
        stream->number = number;
        stream->expected = expected;
        stream->device = CAPTURE_NONE;
    }
    return stream;
}

void capture_usbip_stream_free(struct capture_usbip_stream *stream)
{
    if (!stream)
        return;
    usbip_buffer_free(&stream->halves[0].buffer);
    usbip_buffer_free(&stream->halves[1].buffer);
    free(stream);
}

bool capture_usbip_stream_is_known(const struct capture_usbip_stream *stream)
{
    return stream->known;
}

bool capture_usbip_stream_is_foreign(const struct capture_usbip_stream *stream)
{
    return stream->foreign;
}

/* ---- What bytes look like ---- */

static bool is_iso_count(int32_t count)
{
    return count >= -1 && count <= USBIP_MAX_ISO_PACKETS;
}

static bool is_status(int32_t status)
{
    return status <= 0 && status >= -MAX_ERRNO;
}

/* ROLE_UNKNOWN: it is no header of a URB, or an unlikely one. */
static enum role role_of_header(const uint8_t *bytes)
{
    struct usbip_header header;
    if (usbip_decode_header(bytes, &header) < 0 || header.direction > 1 || header.ep > MAX_ENDPOINT)
        return ROLE_UNKNOWN;
    switch (header.command) {
    case USBIP_CMD_SUBMIT:
        return header.cmd_submit.transfer_buffer_length <= MAX_TRANSFER_SIZE &&
                       is_iso_count(header.cmd_submit.number_of_packets) && header.devid != 0
                   ? ROLE_CLIENT
                   : ROLE_UNKNOWN;
    case USBIP_CMD_UNLINK:
        return header.devid != 0 ? ROLE_CLIENT : ROLE_UNKNOWN;
    case USBIP_RET_SUBMIT:
        return header.ret_submit.actual_length <= MAX_TRANSFER_SIZE &&
                       is_iso_count(header.ret_submit.number_of_packets) &&
                       is_status(header.ret_submit.status)
                   ? ROLE_SERVER
                   : ROLE_UNKNOWN;
    default:
        return is_status(header.ret_unlink.status) ? ROLE_SERVER : ROLE_UNKNOWN;
    }
}

/* The same for what comes before URBs. */
static enum role role_of_operation(const uint8_t *bytes)
{
    struct usbip_op_common common;
    usbip_decode_op_common(bytes, &common);
    if (common.version >> 8 != USBIP_VERSION >> 8)
        return ROLE_UNKNOWN;
    if (common.code == OP_REQ_IMPORT || common.code == OP_REQ_DEVLIST)
        return ROLE_CLIENT;
    return common.code == OP_REP_IMPORT || common.code == OP_REP_DEVLIST ? ROLE_SERVER
                                                                         : ROLE_UNKNOWN;
}

static bool is_operation(const uint8_t *bytes)
{
    return bytes[0] != 0;
}

static enum role role_of(const uint8_t *bytes, size_t size)
{
    if (size >= USBIP_OP_COMMON_SIZE && is_operation(bytes))
        return role_of_operation(bytes);
    return size >= USBIP_HEADER_SIZE ? role_of_header(bytes) : ROLE_UNKNOWN;
}

/* Where the first PDU from `at` on begins. Without one: where one may begin that is not whole. */
static size_t find_pdu(const struct half *half, size_t at, enum role *role)
{
    for (; at + USBIP_OP_COMMON_SIZE <= half->buffer.size; at++) {
        const uint8_t *bytes = half->buffer.data + at;
        size_t left = half->buffer.size - at;
        if (!is_operation(bytes) && left < USBIP_HEADER_SIZE)
            break;
        *role = role_of(bytes, left);
        if (*role != ROLE_UNKNOWN && (half->role == ROLE_UNKNOWN || *role == half->role))
            return at;
    }
    *role = ROLE_UNKNOWN;
    return at;
}

/* ---- Sizes ---- */

/* Each of these returns the size of the PDU at `bytes`; more than `have` when it takes that many
 * bytes to know more; or -1: it is none. */

static int64_t devlist_size(const uint8_t *bytes, size_t have)
{
    if (have < USBIP_DEVLIST_REPLY_HEADER_SIZE)
        return USBIP_DEVLIST_REPLY_HEADER_SIZE;
    uint32_t count = usbip_load_be32(bytes + USBIP_OP_COMMON_SIZE);
    if (count > MAX_DEVLIST_DEVICES)
        return -1;
    size_t size = USBIP_DEVLIST_REPLY_HEADER_SIZE;
    for (uint32_t i = 0; i < count; i++) {
        if (have < size + USBIP_DEVICE_RECORD_SIZE)
            return (int64_t)(size + USBIP_DEVICE_RECORD_SIZE);
        struct usbip_device_record record;
        usbip_decode_device_record(bytes + size, &record);
        size +=
            USBIP_DEVICE_RECORD_SIZE + (size_t)record.bNumInterfaces * USBIP_INTERFACE_RECORD_SIZE;
    }
    return (int64_t)size;
}

static int64_t operation_size(const uint8_t *bytes, size_t have)
{
    struct usbip_op_common common;
    if (have < USBIP_OP_COMMON_SIZE)
        return USBIP_OP_COMMON_SIZE;
    usbip_decode_op_common(bytes, &common);
    switch (common.code) {
    case OP_REQ_IMPORT:
        return USBIP_IMPORT_REQUEST_SIZE;
    case OP_REQ_DEVLIST:
        return USBIP_OP_COMMON_SIZE;
    case OP_REP_IMPORT:
        return common.status == USBIP_ST_OK ? USBIP_IMPORT_REPLY_SIZE : USBIP_OP_COMMON_SIZE;
    default:
        return common.status == USBIP_ST_OK ? devlist_size(bytes, have)
                                            : USBIP_DEVLIST_REPLY_HEADER_SIZE;
    }
}

static uint64_t id_of(const struct capture_usbip_stream *stream, uint32_t seqnum)
{
    return (uint64_t)stream->number << 32 | seqnum;
}

/* The transfer that a CMD_SUBMIT with this number has begun, or NULL. */
static const struct usbip_capture_transfer *find_transfer(const struct capture_builder *builder,
                                                          const struct capture_usbip_stream *stream,
                                                          uint32_t seqnum)
{
    struct capture_urb urb = {.id = id_of(stream, seqnum), .unique = true};
    uint32_t index = capture_find_pending(builder, &urb);
    return index == CAPTURE_NONE ? NULL : &builder->capture->transfers[index];
}

/* Whether a reply without a request brings data: what comes behind its header tells. */
static int64_t orphan_size(const uint8_t *bytes, size_t have, const struct usbip_header *header)
{
    uint32_t length = header->ret_submit.actual_length;
    int64_t with_data = (int64_t)USBIP_HEADER_SIZE + length;
    if (header->direction == USBIP_DIR_IN || length == 0)
        return with_data;
    bool is_out = have >= TWO_HEADERS && role_of_header(bytes + USBIP_HEADER_SIZE) == ROLE_SERVER;
    if (have < TWO_HEADERS && with_data != (int64_t)have)
        return TWO_HEADERS;
    return is_out ? USBIP_HEADER_SIZE : with_data;
}

static int64_t urb_size(const struct capture_builder *builder,
                        const struct capture_usbip_stream *stream, const uint8_t *bytes,
                        size_t have)
{
    if (have < USBIP_HEADER_SIZE)
        return USBIP_HEADER_SIZE;
    struct usbip_header header;
    if (role_of_header(bytes) == ROLE_UNKNOWN || usbip_decode_header(bytes, &header) < 0)
        return -1;
    int32_t packets = 0;
    int64_t size = USBIP_HEADER_SIZE;
    if (header.command == USBIP_CMD_SUBMIT) {
        packets = header.cmd_submit.number_of_packets;
        if (header.direction == USBIP_DIR_OUT)
            size += header.cmd_submit.transfer_buffer_length;
    } else if (header.command == USBIP_RET_SUBMIT) {
        const struct usbip_capture_transfer *transfer =
            find_transfer(builder, stream, header.seqnum);
        if (!transfer)
            return orphan_size(bytes, have, &header);
        if (usbip_transfer_is_in(transfer)) {
            if (header.ret_submit.actual_length > transfer->requested_length)
                return -1;
            size += header.ret_submit.actual_length;
        }
        if (transfer->type == USB_ENDPOINT_XFER_ISOC)
            packets = header.ret_submit.number_of_packets;
    }
    return packets > 0 ? size + (int64_t)packets * USBIP_ISO_PACKET_DESCRIPTOR_SIZE : size;
}

static int64_t pdu_size(const struct capture_builder *builder,
                        const struct capture_usbip_stream *stream, const struct half *half,
                        const uint8_t *bytes, size_t have)
{
    if (is_operation(bytes)) {
        if (have >= USBIP_OP_COMMON_SIZE && role_of_operation(bytes) != half->role)
            return -1;
        return operation_size(bytes, have);
    }
    if (have >= USBIP_HEADER_SIZE && role_of_header(bytes) != half->role)
        return -1;
    return urb_size(builder, stream, bytes, have);
}

/* ---- PDUs ---- */

static int use_device(struct capture_builder *builder, struct capture_usbip_stream *stream,
                      uint16_t bus, uint16_t address)
{
    struct usbip_capture *capture = builder->capture;
    if (stream->device != CAPTURE_NONE && !stream->device_is_known) {
        /* Now it is known whose the replies so far were. */
        capture->devices[stream->device].bus = bus;
        capture->devices[stream->device].address = address;
    } else {
        stream->device = capture_device(builder, bus, address);
    }
    stream->device_is_known = true;
    return stream->device == CAPTURE_NONE ? -1 : 0;
}

static int take_import(struct capture_builder *builder, struct capture_usbip_stream *stream,
                       const uint8_t *bytes)
{
    struct usbip_device_record record;
    usbip_decode_device_record(bytes + USBIP_OP_COMMON_SIZE, &record);
    stream->device_is_known = false;
    stream->device = CAPTURE_NONE;
    if (use_device(builder, stream, (uint16_t)record.busnum, (uint16_t)record.devnum) < 0)
        return -1;
    const struct usbip_capture_device *known = &builder->capture->devices[stream->device];
    if (known->has_ids &&
        (known->idVendor != record.idVendor || known->idProduct != record.idProduct))
        stream->device =
            capture_add_device(builder, (uint16_t)record.busnum, (uint16_t)record.devnum);
    if (stream->device == CAPTURE_NONE)
        return -1;
    struct usbip_capture_device *device = &builder->capture->devices[stream->device];
    device->has_ids = true;
    device->idVendor = record.idVendor;
    device->idProduct = record.idProduct;
    device->bcdDevice = record.bcdDevice;
    device->bDeviceClass = record.bDeviceClass;
    device->bDeviceSubClass = record.bDeviceSubClass;
    device->bDeviceProtocol = record.bDeviceProtocol;
    if (record.speed <= USBIP_SPEED_SUPER_PLUS)
        device->speed = (enum usbip_speed)record.speed;
    memcpy(device->busid, record.busid, sizeof device->busid);
    return 0;
}

static int take_operation(struct capture_builder *builder, struct capture_usbip_stream *stream,
                          const uint8_t *bytes)
{
    struct usbip_op_common common;
    usbip_decode_op_common(bytes, &common);
    if (common.code == OP_REP_IMPORT && common.status == USBIP_ST_OK)
        return take_import(builder, stream, bytes);
    return 0;
}

static int take_submit(struct capture_builder *builder, struct capture_usbip_stream *stream,
                       const struct capture_record *record, const uint8_t *bytes,
                       const struct usbip_header *header)
{
    uint16_t bus = (uint16_t)(header->devid >> 16), address = (uint16_t)header->devid;
    if (!stream->device_is_known && use_device(builder, stream, bus, address) < 0)
        return -1;
    bool in = header->direction == USBIP_DIR_IN;
    uint32_t length = header->cmd_submit.transfer_buffer_length;
    struct capture_urb urb = {
        .id = id_of(stream, header->seqnum),
        .unique = true,
        .device = stream->device,
        .endpoint = (uint8_t)(header->ep | (in ? USB_DIR_IN : 0)),
        .type = USB_ENDPOINT_XFER_BULK,
        .flags = USBIP_TRANSFER_REQUESTED_KNOWN,
        .length = length,
        .data = bytes + USBIP_HEADER_SIZE,
        .size = in ? 0 : length,
        .wanted = in ? 0 : length,
    };
    if (header->ep == 0) {
        urb.type = USB_ENDPOINT_XFER_CONTROL;
        urb.setup = header->cmd_submit.setup;
    } else if (header->cmd_submit.number_of_packets > 0) {
        urb.type = USB_ENDPOINT_XFER_ISOC;
    } else if (header->cmd_submit.interval > 0) {
        urb.type = USB_ENDPOINT_XFER_INT;
    }
    return capture_submit(builder, record, &urb) == CAPTURE_NONE ? -1 : 0;
}

static int take_return(struct capture_builder *builder, struct capture_usbip_stream *stream,
                       const struct capture_record *record, const uint8_t *bytes, size_t size,
                       const struct usbip_header *header)
{
    if (stream->device == CAPTURE_NONE &&
        (stream->device = capture_device(builder, 0, 0)) == CAPTURE_NONE)
        return -1;
    uint32_t length = header->ret_submit.actual_length;
    const struct usbip_capture_transfer *transfer = find_transfer(builder, stream, header->seqnum);
    bool in = transfer ? usbip_transfer_is_in(transfer) : size > USBIP_HEADER_SIZE;
    struct capture_urb urb = {
        .id = id_of(stream, header->seqnum),
        .unique = true,
        .device = stream->device,
        .endpoint = (uint8_t)(header->ep | (in ? USB_DIR_IN : 0)),
        /* A reply does not repeat what it is of. */
        .type = header->ep == 0 ? USB_ENDPOINT_XFER_CONTROL : USB_ENDPOINT_XFER_BULK,
        .length = length,
        .status = header->ret_submit.status,
        .data = bytes + USBIP_HEADER_SIZE,
        .size = in ? length : 0,
        .wanted = in ? length : 0,
    };
    return capture_complete(builder, record, &urb) == CAPTURE_NONE ? -1 : 0;
}

static int take_unlink(struct capture_builder *builder, struct capture_usbip_stream *stream,
                       const struct usbip_header *header)
{
    /* The reply names the unlink only: from now on both numbers lead to the transfer. */
    struct capture_urb urb = {
        .id = id_of(stream, header->cmd_unlink.unlink_seqnum),
        .unique = true,
    };
    uint32_t transfer = capture_find_pending(builder, &urb);
    urb.id = id_of(stream, header->seqnum);
    return transfer == CAPTURE_NONE ? 0 : capture_add_pending(builder, &urb, transfer);
}

static int take_unlinked(struct capture_builder *builder, struct capture_usbip_stream *stream,
                         const struct capture_record *record, const struct usbip_header *header)
{
    struct capture_urb urb = {
        .id = id_of(stream, header->seqnum),
        .unique = true,
        .status = header->ret_unlink.status,
    };
    uint32_t transfer = capture_take_pending(builder, &urb);
    /* With 0, the transfer had ended before. */
    if (transfer == CAPTURE_NONE || urb.status == 0 ||
        builder->capture->transfers[transfer].complete_order > 0)
        return 0;
    return capture_complete_transfer(builder, record, transfer, &urb) == CAPTURE_NONE ? -1 : 0;
}

static int take_pdu(struct capture_builder *builder, struct capture_usbip_stream *stream,
                    const struct capture_record *record, const uint8_t *bytes, size_t size)
{
    if (is_operation(bytes))
        return take_operation(builder, stream, bytes);
    struct usbip_header header;
    usbip_decode_header(bytes, &header); /* pdu_size() has checked it */
    switch (header.command) {
    case USBIP_CMD_SUBMIT:
        return take_submit(builder, stream, record, bytes, &header);
    case USBIP_CMD_UNLINK:
        return take_unlink(builder, stream, &header);
    case USBIP_RET_SUBMIT:
        return take_return(builder, stream, record, bytes, size, &header);
    default:
        return take_unlinked(builder, stream, record, &header);
    }
}

/* ---- Bytes ---- */

static void count_lost(struct capture_builder *builder, const struct capture_usbip_stream *stream,
                       size_t size)
{
    if (stream->device != CAPTURE_NONE)
        builder->capture->devices[stream->device].lost_bytes += size;
}

static void drop_front(struct half *half, size_t size)
{
    if (size == 0)
        return;
    half->buffer.size -= size;
    memmove(half->buffer.data, half->buffer.data + size, half->buffer.size);
}

/* Looks for a PDU to go on with, from *at on. Returns false when there is none yet. */
static bool synchronise(struct capture_builder *builder, struct capture_usbip_stream *stream,
                        struct half *half, size_t *at)
{
    enum role role;
    size_t found = find_pdu(half, *at, &role);
    count_lost(builder, stream, found - *at);
    *at = found;
    if (role == ROLE_UNKNOWN)
        return false;
    struct half *other = &stream->halves[half == &stream->halves[0]];
    half->role = role;
    other->role = role == ROLE_CLIENT ? ROLE_SERVER : ROLE_CLIENT;
    half->in_sync = stream->known = true;
    return true;
}

/* The first bytes of a connection on any port: is it USB/IP? */
static bool is_ours(struct capture_usbip_stream *stream, const uint8_t *bytes, size_t size)
{
    if (stream->known || stream->expected || role_of(bytes, size) != ROLE_UNKNOWN)
        return true;
    stream->foreign = ++stream->foreign_pieces == MAX_FOREIGN_PIECES;
    return false;
}

int capture_usbip_stream_feed(struct capture_builder *builder, struct capture_usbip_stream *stream,
                              unsigned direction, const struct capture_record *record,
                              const uint8_t *bytes, size_t size)
{
    struct half *half = &stream->halves[direction];
    if (!is_ours(stream, bytes, size))
        return 0;
    if (usbip_buffer_append(&half->buffer, bytes, size) < 0)
        return capture_out_of_memory(builder);
    size_t at = 0;
    while (at + sizeof(uint32_t) <= half->buffer.size) {
        if (!half->in_sync && !synchronise(builder, stream, half, &at))
            break;
        const uint8_t *pdu = half->buffer.data + at;
        size_t have = half->buffer.size - at;
        int64_t wanted = pdu_size(builder, stream, half, pdu, have);
        if (wanted > (int64_t)have)
            break;
        if (wanted < 0) {
            half->in_sync = false;
            count_lost(builder, stream, 1);
            at++;
            continue;
        }
        if (take_pdu(builder, stream, record, pdu, (size_t)wanted) < 0)
            return -1;
        at += (size_t)wanted;
    }
    drop_front(half, at);
    return 0;
}

void capture_usbip_stream_skip(struct capture_builder *builder, struct capture_usbip_stream *stream,
                               unsigned direction, uint32_t size)
{
    struct half *half = &stream->halves[direction];
    count_lost(builder, stream, half->buffer.size + size);
    half->buffer.size = 0;
    half->in_sync = false;
}
