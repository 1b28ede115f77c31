#include "emulator/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/buffer.h"
#include "protocol/bytes.h"

enum { PEER_SIZE = 80, COMMAND_SIZE = 4 };

struct usbip_device_session {
    struct usbip_bus *bus;
    struct usbip_device_session_events events;
    void *context;
    char peer[PEER_SIZE];
    bool awake; /* wake was called since output was last taken */
    bool over;
    bool held_back;              /* the device was refused room */
    struct usbip_buffer input;   /* the beginning of a PDU */
    struct usbip_buffer output;  /* being filled */
    struct usbip_buffer taken;   /* handed out by take_output */
    struct usbip_device *device; /* imported: the URB phase */
    uint32_t devid;
    struct usbip_header header; /* of the PDU whose size was asked for last */

    const struct usbip_personality *personality; /* of the server, then of the device */
    bool robbed;                                 /* another session has taken the device */
    struct usbip_buffer withheld;                /* RET_UNLINKs that wait for the next completion */
};

static void wake(struct usbip_device_session *session)
{
    if (session->awake)
        return;
    session->awake = true;
    session->events.wake(session->context);
}

static int end(struct usbip_device_session *session)
{
    session->over = true;
    session->awake = false; /* that it is over is news, even while output waits */
    wake(session);
    return -1;
}

/* Name of the device for messages, or what the client is doing instead. */
static const char *subject(const struct usbip_device_session *session)
{
    return session->device ? usbip_device_name(session->device) : "no device imported";
}

static int end_out_of_memory(struct usbip_device_session *session)
{
    usbip_log(&session->bus->log, USBIP_LOG_ERROR, "%s: out of memory, connection closed",
              session->peer);
    return end(session);
}

static int append(struct usbip_device_session *session, const void *data, size_t size)
{
    if (usbip_buffer_append(&session->output, data, size) < 0)
        return end_out_of_memory(session);
    wake(session);
    return 0;
}

/* ---- OP phase ---- */

static int append_op_common(struct usbip_device_session *session, uint16_t code, uint32_t status)
{
    uint8_t bytes[USBIP_OP_COMMON_SIZE];
    usbip_encode_op_common(bytes, &(struct usbip_op_common){USBIP_VERSION, code, status});
    return append(session, bytes, sizeof bytes);
}

/* The connection ends with its operation, or may bring another. */
static int end_op(struct usbip_device_session *session)
{
    return session->personality->keeps_op_connection ? 0 : end(session);
}

static int append_listed_device(struct usbip_device_session *session,
                                const struct usbip_device *device)
{
    struct usbip_device_record record;
    usbip_bus_describe(device, &record);
    uint8_t bytes[USBIP_DEVICE_RECORD_SIZE];
    usbip_encode_device_record(bytes, &record);
    if (append(session, bytes, sizeof bytes) < 0)
        return -1;
    struct usbip_interface_record interfaces[UINT8_MAX];
    unsigned count = usbip_device_interfaces(device, interfaces, UINT8_MAX);
    for (unsigned i = 0; i < count; i++) {
        usbip_encode_interface_record(bytes, &interfaces[i]);
        if (append(session, bytes, USBIP_INTERFACE_RECORD_SIZE) < 0)
            return -1;
    }
    return 0;
}

static int reply_devlist(struct usbip_device_session *session)
{
    const struct usbip_bus *bus = session->bus;
    uint32_t count = 0;
    for (unsigned i = 0; i < bus->count; i++)
        count += usbip_device_is_listed(bus->devices[i]);
    uint8_t bytes[4];
    usbip_store_be32(bytes, count);
    if (append_op_common(session, OP_REP_DEVLIST, USBIP_ST_OK) < 0 ||
        append(session, bytes, sizeof bytes) < 0)
        return -1;
    for (unsigned i = 0; i < bus->count; i++) {
        if (usbip_device_is_listed(bus->devices[i]) &&
            append_listed_device(session, bus->devices[i]) < 0)
            return -1;
    }
    return end_op(session);
}

static int refuse_import(struct usbip_device_session *session, const char *busid, uint32_t status)
{
    usbip_log(&session->bus->log, USBIP_LOG_INFO, "%s: import of \"%s\" refused: %s (%s)",
              session->peer, busid, usbip_op_status_text(status), usbip_op_status_name(status));
    if (append_op_common(session, OP_REP_IMPORT, status) < 0)
        return -1;
    return end_op(session);
}

static int reply_import(struct usbip_device_session *session, const uint8_t *pdu)
{
    char busid[USBIP_BUSID_SIZE + 1];
    usbip_decode_busid(pdu + USBIP_OP_COMMON_SIZE, busid);
    struct usbip_device *device = usbip_bus_find(session->bus, busid);
    if (!device)
        return refuse_import(session, busid, session->personality->unknown_busid_status);
    uint32_t status = usbip_device_claim(device, session);
    if (status != USBIP_ST_OK)
        return refuse_import(session, busid, status);
    session->device = device;
    session->personality = usbip_device_personality(device);
    struct usbip_device_record record;
    usbip_bus_describe(device, &record);
    session->devid = usbip_devid(&record);
    uint8_t bytes[USBIP_DEVICE_RECORD_SIZE];
    usbip_encode_device_record(bytes, &record);
    usbip_log(&session->bus->log, USBIP_LOG_INFO, "%s: attached by %s", busid, session->peer);
    if (append_op_common(session, OP_REP_IMPORT, USBIP_ST_OK) < 0)
        return -1;
    return append(session, bytes, sizeof bytes);
}

static bool is_version(const struct usbip_personality *personality, uint16_t version)
{
    return version == USBIP_VERSION || personality->version_check == USBIP_VERSION_ANY ||
           (personality->version_check == USBIP_VERSION_OR_ZERO && version == 0);
}

static int64_t op_size(struct usbip_device_session *session, const uint8_t *bytes, size_t have)
{
    if (have < USBIP_OP_COMMON_SIZE)
        return USBIP_OP_COMMON_SIZE;
    struct usbip_op_common common;
    usbip_decode_op_common(bytes, &common);
    if (!is_version(session->personality, common.version)) {
        usbip_log(&session->bus->log, USBIP_LOG_ERROR,
                  "%s: protocol version 0x%04x, only 0x%04x is supported; connection closed",
                  session->peer, common.version, USBIP_VERSION);
        return end(session);
    }
    if (common.status != 0 || (common.code != OP_REQ_DEVLIST && common.code != OP_REQ_IMPORT)) {
        usbip_log(&session->bus->log, USBIP_LOG_ERROR,
                  "%s: request 0x%04x with status %" PRIu32
                  " is not OP_REQ_DEVLIST or OP_REQ_IMPORT; connection closed",
                  session->peer, common.code, common.status);
        return end(session);
    }
    return common.code == OP_REQ_IMPORT ? USBIP_IMPORT_REQUEST_SIZE : USBIP_OP_COMMON_SIZE;
}

/* ---- URB phase ---- */

static int64_t reject_header(struct usbip_device_session *session,
                             const struct usbip_header *header, const char *why)
{
    usbip_log(&session->bus->log, USBIP_LOG_ERROR,
              "%s: %s: PDU with command %" PRIu32 ", seqnum %" PRIu32 ", devid 0x%08" PRIx32
              ", direction %" PRIu32 ", ep %" PRIu32 ": %s; connection closed",
              session->peer, subject(session), header->command, header->seqnum, header->devid,
              header->direction, header->ep, why);
    return end(session);
}

/* Bytes that follow the header of a CMD_SUBMIT, or negative. */
static int64_t payload_size(struct usbip_device_session *session, const struct usbip_header *header)
{
    if (header->direction != USBIP_DIR_OUT && header->direction != USBIP_DIR_IN)
        return reject_header(session, header, "direction is neither 0 (OUT) nor 1 (IN)");
    const struct usbip_personality *personality = session->personality;
    bool in = header->direction == USBIP_DIR_IN;
    int type = header->ep == 0 ? USB_ENDPOINT_XFER_CONTROL
                               : usbip_device_target_type(session->device, header);
    if (type < 0 && personality->missing_endpoint == USBIP_IGNORE)
        return 0; /* what follows is taken for the next header */
    uint32_t length = header->cmd_submit.transfer_buffer_length;
    if (length > USBIP_SESSION_MAX_TRANSFER && (!in || personality->limits_in_transfers)) {
        char why[80];
        snprintf(why, sizeof why, "transfer_buffer_length %" PRIu32 " is above the limit of %d",
                 length, USBIP_SESSION_MAX_TRANSFER);
        if (personality->long_transfer_breaks_device)
            usbip_device_break(session->device);
        return reject_header(session, header, why);
    }
    int64_t size = in ? 0 : length;
    int32_t packets = header->cmd_submit.number_of_packets;
    if (type == USB_ENDPOINT_XFER_ISOC ||
        (personality->packets_make_isochronous && header->ep != 0 && packets > 0)) {
        if (packets < 0 || packets > USBIP_MAX_ISO_PACKETS)
            return reject_header(session, header, "number_of_packets is not 0 to 1024");
        size += (int64_t)packets * USBIP_ISO_PACKET_DESCRIPTOR_SIZE;
    }
    return size;
}

static int64_t urb_size(struct usbip_device_session *session, const uint8_t *bytes, size_t have)
{
    if (have < COMMAND_SIZE)
        return COMMAND_SIZE;
    /* At once, without waiting for the rest: an operation in its place is shorter than a header. */
    uint32_t command = usbip_load_be32(bytes);
    if (command != USBIP_CMD_SUBMIT && command != USBIP_CMD_UNLINK) {
        usbip_log(&session->bus->log, USBIP_LOG_ERROR,
                  "%s: %s: PDU with command 0x%08" PRIx32
                  " is not CMD_SUBMIT or CMD_UNLINK; connection closed",
                  session->peer, subject(session), command);
        return end(session);
    }
    if (have < USBIP_HEADER_SIZE)
        return USBIP_HEADER_SIZE;
    struct usbip_header *header = &session->header;
    usbip_decode_header(bytes, header);
    if (header->devid != session->devid && !session->personality->ignores_devid)
        return reject_header(session, header, "devid is not that of the imported device");
    if (header->command == USBIP_CMD_UNLINK)
        return USBIP_HEADER_SIZE;
    int64_t payload = payload_size(session, header);
    return payload < 0 ? payload : USBIP_HEADER_SIZE + payload;
}

static void echo_header(struct usbip_header *reply, uint32_t devid, uint32_t direction, uint32_t ep)
{
    reply->devid = devid;
    reply->direction = direction;
    reply->ep = ep;
}

static int send_withheld(struct usbip_device_session *session)
{
    size_t size = session->withheld.size;
    session->withheld.size = 0;
    return append(session, session->withheld.data, size);
}

/* Keeps a RET_UNLINK back, as far as there is room for it. */
static int withhold(struct usbip_device_session *session, const uint8_t bytes[USBIP_HEADER_SIZE])
{
    if (usbip_buffer_append(&session->withheld, bytes, USBIP_HEADER_SIZE) < 0)
        return end_out_of_memory(session);
    return session->withheld.size < USBIP_SESSION_MAX_WITHHELD ? 0 : send_withheld(session);
}

static int unlink_urb(struct usbip_device_session *session)
{
    const struct usbip_personality *personality = session->personality;
    const struct usbip_header *request = &session->header;
    bool waited = usbip_device_unlink(session->device, request->cmd_unlink.unlink_seqnum);
    if (session->over)
        return -1;
    struct usbip_header reply = {
        .command = USBIP_RET_UNLINK,
        .seqnum = request->seqnum,
        .ret_unlink.status = waited ? personality->unlinked_status : 0,
    };
    if (personality->echoes_header)
        echo_header(&reply, request->devid, request->direction, request->ep);
    uint8_t bytes[USBIP_HEADER_SIZE];
    usbip_encode_header(bytes, &reply);
    if (!waited && personality->withholds_missed_unlinks)
        return withhold(session, bytes);
    if (session->withheld.size > 0 && send_withheld(session) < 0)
        return -1;
    return append(session, bytes, sizeof bytes);
}

static int urb_pdu(struct usbip_device_session *session, const uint8_t *pdu)
{
    if (session->header.command == USBIP_CMD_UNLINK)
        return unlink_urb(session);
    usbip_device_submit(session->device, &session->header, pdu + USBIP_HEADER_SIZE);
    return 0;
}

void usbip_device_session_complete(struct usbip_device_session *session,
                                   const struct usbip_urb *urb, int32_t status,
                                   uint32_t actual_length, uint32_t payload_size)
{
    if (session->over)
        return;
    const struct usbip_personality *personality = session->personality;
    if (status != 0 && personality->failure_status != 0) {
        status = personality->failure_status;
        actual_length = payload_size = 0;
    }
    struct usbip_header reply = {
        .command = USBIP_RET_SUBMIT,
        .seqnum = urb->seqnum,
        .ret_submit = {.status = status,
                       .actual_length = actual_length,
                       .number_of_packets = urb->number_of_packets},
    };
    if (personality->echoes_header)
        echo_header(&reply, urb->devid, urb->direction, urb->ep);
    uint8_t *header = usbip_buffer_reserve(&session->output, USBIP_HEADER_SIZE + payload_size);
    if (!header) {
        end_out_of_memory(session);
        return;
    }
    usbip_encode_header(header, &reply);
    session->output.size += USBIP_HEADER_SIZE + payload_size;
    wake(session);
    if (session->withheld.size > 0)
        send_withheld(session);
}

uint8_t *usbip_device_session_reserve(struct usbip_device_session *session, uint32_t size)
{
    uint8_t *header = usbip_buffer_reserve(&session->output, USBIP_HEADER_SIZE + (size_t)size);
    return header ? header + USBIP_HEADER_SIZE : NULL;
}

bool usbip_device_session_has_room(struct usbip_device_session *session)
{
    bool room = usbip_device_session_wants_input(session);
    session->held_back |= !room;
    return room;
}

/* ---- Bytes in, bytes out ---- */

static int64_t pdu_size(void *context, const uint8_t *bytes, size_t have)
{
    struct usbip_device_session *session = context;
    return session->device ? urb_size(session, bytes, have) : op_size(session, bytes, have);
}

static int pdu(void *context, const uint8_t *bytes, size_t size)
{
    struct usbip_device_session *session = context;
    int result = session->device                     ? urb_pdu(session, bytes)
                 : size == USBIP_IMPORT_REQUEST_SIZE ? reply_import(session, bytes)
                                                     : reply_devlist(session);
    /* The behaviour may have unplugged the device meanwhile. */
    return session->over ? -1 : result;
}

static const struct usbip_framing framing = {pdu_size, pdu};

struct usbip_device_session *
usbip_device_session_new(struct usbip_bus *bus, const char *peer,
                         const struct usbip_device_session_events *events, void *context)
{
    struct usbip_device_session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    session->bus = bus;
    session->personality = bus->personality ? bus->personality : &usbip_personality_strict;
    session->events = *events;
    session->context = context;
    snprintf(session->peer, sizeof session->peer, "%s", peer);
    return session;
}

void usbip_device_session_free(struct usbip_device_session *session)
{
    if (!session)
        return;
    session->over = true;
    if (session->device) {
        usbip_log(&session->bus->log, USBIP_LOG_INFO, "%s: detached from %s", subject(session),
                  session->peer);
        usbip_device_release(session->device);
    }
    usbip_buffer_free(&session->input);
    usbip_buffer_free(&session->output);
    usbip_buffer_free(&session->taken);
    usbip_buffer_free(&session->withheld);
    free(session);
}

int usbip_device_session_receive(struct usbip_device_session *session, const uint8_t *data,
                                 size_t size)
{
    if (session->over)
        return -1;
    if (session->robbed)
        return 0;
    if (usbip_assemble(&framing, session, &session->input, data, size) == 0)
        return 0;
    return session->over ? -1 : end_out_of_memory(session);
}

void usbip_device_session_end_of_input(struct usbip_device_session *session)
{
    if (session->over)
        return;
    if (session->input.size > 0)
        usbip_log(
            &session->bus->log, USBIP_LOG_ERROR,
            "%s: %s: the client closed the connection in the middle of a PDU, after %zu bytes",
            session->peer, subject(session), session->input.size);
    end(session);
}

size_t usbip_device_session_take_output(struct usbip_device_session *session, const uint8_t **data)
{
    struct usbip_buffer taken = session->output;
    session->output = session->taken;
    session->output.size = 0;
    session->taken = taken;
    session->awake = false;
    if (session->output.capacity > 2 * USBIP_SESSION_OUTPUT_LIMIT)
        usbip_buffer_free(&session->output);
    if (session->held_back && session->device) {
        session->held_back = false;
        usbip_device_resume(session->device);
    }
    *data = taken.data;
    return taken.size;
}

size_t usbip_device_session_output_size(const struct usbip_device_session *session)
{
    return session->output.size;
}

bool usbip_device_session_wants_input(const struct usbip_device_session *session)
{
    return !session->over && session->output.size < USBIP_SESSION_OUTPUT_LIMIT;
}

bool usbip_device_session_is_over(const struct usbip_device_session *session)
{
    return session->over;
}

bool usbip_device_session_has_device(const struct usbip_device_session *session)
{
    return session->device != NULL;
}

void usbip_device_session_lose_device(struct usbip_device_session *session)
{
    usbip_log(&session->bus->log, USBIP_LOG_INFO, "%s: taken from %s, whose connection stays open",
              subject(session), session->peer);
    session->device = NULL;
    session->robbed = true;
}

void usbip_device_session_disconnect(struct usbip_device_session *session, const char *reason)
{
    if (session->over)
        return;
    usbip_log(&session->bus->log, USBIP_LOG_INFO, "%s: %s, connection to %s closed",
              subject(session), reason, session->peer);
    end(session);
}
