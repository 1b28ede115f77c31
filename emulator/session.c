#include "emulator/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/fault_device.h"
#include "protocol/buffer.h"
#include "protocol/bytes.h"
#include "protocol/output.h"

enum { PEER_SIZE = 80, COMMAND_SIZE = 4, NO_ENDPOINT = 0xff, LARGE_PDU = 4096 };

struct usbip_device_session {
    struct usbip_bus *bus;
    struct usbip_device_session_events events;
    void *context;
    char peer[PEER_SIZE];
    bool awake; /* wake was called since output was last taken */
    bool over;
    bool held_back;            /* the device was refused room */
    struct usbip_buffer input; /* the beginning of a PDU */
    size_t period; /* from the end of one large PDU to that of the next, when it was last seen */
    size_t since_large;          /* bytes of PDUs behind the last large one */
    struct usbip_range received; /* empty, but for the time in which they are received */
    struct usbip_output outputs[2];
    struct usbip_output *output; /* of these: being filled */
    struct usbip_output *taken;  /* and handed out, as far as taken_size */
    size_t taken_size;
    struct usbip_output_piece piece; /* of `taken`, with faults */
    struct usbip_fault_link link;
    enum usbip_cut cut;
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
    if (session->device)
        usbip_fault_link_drop(&session->link);
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

static void release_device(struct usbip_device_session *session)
{
    if (!session->device)
        return;
    usbip_log(&session->bus->log, USBIP_LOG_INFO, "%s: detached from %s", subject(session),
              session->peer);
    usbip_device_release(session->device);
    session->device = NULL;
}

/* Bytes that wait, whatever for. */
static size_t waiting_size(const struct usbip_device_session *session)
{
    return usbip_output_size(session->output) + usbip_output_size(session->taken) -
           session->taken_size + session->link.held_bytes;
}

/* What cannot be copied is lost: its lenders may not wait for it to be sent. */
static int settle(struct usbip_device_session *session, struct usbip_output *output)
{
    if (usbip_output_settle(output) == 0)
        return 0;
    usbip_output_clear(output);
    return end_out_of_memory(session);
}

/* Where the next reply begins, for its faults: they need it in one piece. Or negative. */
static int64_t begin_reply(struct usbip_device_session *session)
{
    if (session->link.active && settle(session, session->output) < 0)
        return -1;
    return (int64_t)session->output->bytes.size;
}

/* A reply ends the output, from `start` on: its faults. */
static int finish_reply(struct usbip_device_session *session, int64_t start,
                        const struct usbip_reply *reply)
{
    if (session->over && session->device)
        return -1;
    if (usbip_fault_link_reply(&session->link, &session->output->bytes, (size_t)start, reply) < 0)
        return end_out_of_memory(session);
    return 0;
}

static int append(struct usbip_device_session *session, const void *data, size_t size)
{
    if (usbip_buffer_append(&session->output->bytes, data, size) < 0)
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
    session->link.device = device;
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

static int answer_op(struct usbip_device_session *session, const uint8_t *pdu, bool imports)
{
    int64_t start = begin_reply(session);
    if (start < 0)
        return -1;
    int result = imports ? reply_import(session, pdu) : reply_devlist(session);
    if (!session->link.active || session->output->bytes.size == (size_t)start)
        return result;
    const struct usbip_reply reply = {.kind = imports ? USBIP_REPLY_IMPORT : USBIP_REPLY_DEVLIST};
    if (finish_reply(session, start, &reply) < 0)
        return -1;
    if (!session->link.refused)
        return result;
    release_device(session);
    return end(session);
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
    int32_t packets = header->cmd_submit.number_of_packets;
    bool limited = !in || personality->limits_in_transfers;
    bool breaks = personality->failed_allocation_breaks_device;
    if (packets == 0 && !limited && !breaks)
        return 0; /* most of what comes; the rest of this would say no more */
    int type = header->ep == 0 ? USB_ENDPOINT_XFER_CONTROL
                               : usbip_device_target_type(session->device, header);
    if (type < 0 && personality->missing_endpoint == USBIP_IGNORE)
        return 0; /* what follows is taken for the next header */
    uint32_t length = header->cmd_submit.transfer_buffer_length;
    if (breaks && length == 0 && (header->cmd_submit.transfer_flags & USBIP_URB_DMA_MAP_SG)) {
        usbip_device_break(session->device);
        return reject_header(session, header, "DMA_MAP_SG without transfer_buffer_length");
    }
    if (length > USBIP_SESSION_MAX_TRANSFER && limited) {
        char why[80];
        snprintf(why, sizeof why, "transfer_buffer_length %" PRIu32 " is above the limit of %d",
                 length, USBIP_SESSION_MAX_TRANSFER);
        if (breaks)
            usbip_device_break(session->device);
        return reject_header(session, header, why);
    }
    int64_t size = in ? 0 : length;
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

static int append_ret_unlink(struct usbip_device_session *session,
                             const uint8_t bytes[USBIP_HEADER_SIZE],
                             const struct usbip_reply *reply)
{
    int64_t start = begin_reply(session);
    if (start < 0 || append(session, bytes, USBIP_HEADER_SIZE) < 0)
        return -1;
    return session->link.active ? finish_reply(session, start, reply) : 0;
}

static int send_withheld(struct usbip_device_session *session)
{
    const struct usbip_reply missed = {.kind = USBIP_REPLY_UNLINK, .endpoint = NO_ENDPOINT};
    for (size_t at = 0; at < session->withheld.size; at += USBIP_HEADER_SIZE) {
        if (append_ret_unlink(session, session->withheld.data + at, &missed) < 0)
            return -1;
    }
    session->withheld.size = 0;
    return 0;
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
    uint32_t unlink_seqnum = request->cmd_unlink.unlink_seqnum;
    enum usbip_direction direction = USBIP_DIR_OUT;
    int endpoint = -1; /* of the URB; only faults ask for it */
    if (session->link.active)
        endpoint = usbip_device_find_urb(session->device, unlink_seqnum, &direction);
    bool waited = usbip_device_unlink(session->device, unlink_seqnum);
    if (session->over)
        return -1;
    struct usbip_header reply = {
        .command = USBIP_RET_UNLINK,
        .seqnum = request->seqnum,
        .ret_unlink.status = waited ? personality->unlinked_status : 0,
    };
    uint8_t bytes[USBIP_HEADER_SIZE];
    usbip_encode_header(bytes, &reply);
    if (personality->echoes_header)
        usbip_encode_target(bytes, request->devid, request->direction, request->ep);
    const struct usbip_reply kind = {
        .kind = USBIP_REPLY_UNLINK,
        .endpoint = endpoint >= 0 ? (uint8_t)endpoint : NO_ENDPOINT,
        .in = direction == USBIP_DIR_IN,
        .unlinked = endpoint >= 0,
        .unlinked_seqnum = unlink_seqnum,
    };
    if (!waited && personality->withholds_missed_unlinks)
        return withhold(session, bytes);
    if (send_withheld(session) < 0)
        return -1;
    return append_ret_unlink(session, bytes, &kind);
}

static int urb_pdu(struct usbip_device_session *session, const uint8_t *pdu)
{
    if (session->header.command == USBIP_CMD_UNLINK)
        return unlink_urb(session);
    usbip_device_submit(session->device, &session->header, pdu + USBIP_HEADER_SIZE);
    return 0;
}

/* From where a payload is to be sent. */
static enum usbip_output_origin origin_of(const struct usbip_device_session *session,
                                          const uint8_t *payload, size_t size)
{
    if (size < USBIP_OUTPUT_MIN_LOAN || session->link.active)
        return USBIP_OUTPUT_COPIED;
    if (usbip_range_contains(&session->received, payload, size))
        return USBIP_OUTPUT_PASSING;
    if (usbip_range_contains(usbip_device_lasting(session->device), payload, size))
        return USBIP_OUTPUT_LASTING;
    return USBIP_OUTPUT_COPIED;
}

static void finish_ret_submit(struct usbip_device_session *session, int64_t start,
                              const struct usbip_urb *urb, uint32_t actual_length)
{
    const struct usbip_reply reply = {
        .kind = USBIP_REPLY_SUBMIT,
        .endpoint = urb->endpoint,
        .in = urb->direction == USBIP_DIR_IN,
    };
    if (urb->endpoint)
        usbip_device_faults_bytes(session->device, actual_length);
    finish_reply(session, start, &reply);
}

void usbip_device_session_complete(struct usbip_device_session *session,
                                   const struct usbip_urb *urb, int32_t status,
                                   uint32_t actual_length, const uint8_t *payload,
                                   uint32_t payload_size)
{
    if (session->over)
        return;
    const struct usbip_personality *personality = session->personality;
    if (status != 0 && personality->failure_status != 0) {
        status = personality->failure_status;
        actual_length = payload_size = 0;
    }
    struct usbip_output_piece loan = {payload, payload_size,
                                      origin_of(session, payload, payload_size)};
    bool lent = loan.origin != USBIP_OUTPUT_COPIED;
    size_t size = USBIP_HEADER_SIZE + (lent ? 0 : payload_size);
    int64_t start = begin_reply(session);
    if (start < 0)
        return;
    uint8_t *header = usbip_buffer_reserve(&session->output->bytes, size);
    if (!header) {
        end_out_of_memory(session);
        return;
    }
    usbip_encode_ret_submit(header, urb->seqnum, status, actual_length, urb->number_of_packets);
    if (personality->echoes_header)
        usbip_encode_target(header, urb->devid, urb->direction, urb->ep);
    if (payload && !lent && payload_size > 0)
        memcpy(header + USBIP_HEADER_SIZE, payload, payload_size);
    session->output->bytes.size += size;
    if (lent && usbip_output_lend(session->output, &loan) < 0) {
        session->output->bytes.size -= size;
        end_out_of_memory(session);
        return;
    }
    wake(session);
    if (session->link.active)
        finish_ret_submit(session, start, urb, actual_length);
    if (session->withheld.size > 0)
        send_withheld(session);
}

uint8_t *usbip_device_session_reserve(struct usbip_device_session *session, uint32_t size)
{
    if (begin_reply(session) < 0)
        return NULL;
    uint8_t *header =
        usbip_buffer_reserve(&session->output->bytes, USBIP_HEADER_SIZE + (size_t)size);
    return header ? header + USBIP_HEADER_SIZE : NULL;
}

bool usbip_device_session_has_room(struct usbip_device_session *session)
{
    bool room = !session->over && waiting_size(session) < USBIP_SESSION_OUTPUT_LIMIT;
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
    session->since_large += size;
    if (size >= LARGE_PDU) {
        session->period = session->since_large;
        session->since_large = 0;
    }
    int result = session->device ? urb_pdu(session, bytes)
                                 : answer_op(session, bytes, size == USBIP_IMPORT_REQUEST_SIZE);
    /* The behaviour may have unplugged the device meanwhile. */
    return session->over ? -1 : result;
}

static const struct usbip_framing framing = {pdu_size, pdu};

/* Replies are due, reading goes on, or output may leave again. */
static void on_link_timer(struct usbip_timer *timer)
{
    struct usbip_device_session *session = timer->user;
    if (usbip_fault_link_release(&session->link, &session->output->bytes) < 0) {
        end_out_of_memory(session);
        return;
    }
    struct usbip_buffer unread = usbip_fault_link_unread(&session->link);
    if (unread.size > 0)
        usbip_device_session_receive(session, unread.data, unread.size);
    usbip_buffer_free(&unread);
    wake(session);
}

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
    session->output = &session->outputs[0];
    session->taken = &session->outputs[1];
    snprintf(session->peer, sizeof session->peer, "%s", peer);
    usbip_fault_link_init(&session->link, &bus->faults, on_link_timer, session);
    return session;
}

void usbip_device_session_free(struct usbip_device_session *session)
{
    if (!session)
        return;
    session->over = true;
    release_device(session);
    usbip_fault_link_free(&session->link);
    usbip_buffer_free(&session->input);
    usbip_output_free(&session->outputs[0]);
    usbip_output_free(&session->outputs[1]);
    usbip_buffer_free(&session->withheld);
    free(session);
}

int usbip_device_session_receive_in_place(struct usbip_device_session *session, const uint8_t *data,
                                          size_t size)
{
    if (session->over)
        return -1;
    if (session->robbed)
        return 0;
    if (session->link.active) {
        int64_t admitted = usbip_fault_link_admit(&session->link, data, size);
        if (admitted < 0)
            return end_out_of_memory(session);
        size = (size_t)admitted;
    }
    session->received = (struct usbip_range){data, size};
    int result = usbip_assemble(&framing, session, &session->input, data, size);
    session->received = (struct usbip_range){0};
    if (result == 0)
        return 0;
    return session->over ? -1 : end_out_of_memory(session);
}

size_t usbip_device_session_read_size(const struct usbip_device_session *session, size_t most)
{
    size_t have = session->since_large + session->input.size;
    if (session->period <= have || session->period - have > most)
        return most;
    size_t left = most - (session->period - have);
    return most - left % session->period;
}

bool usbip_device_session_borrows(const struct usbip_device_session *session)
{
    return session->output->passing_count > 0;
}

void usbip_device_session_settle(struct usbip_device_session *session)
{
    if (usbip_device_session_borrows(session))
        settle(session, session->output);
}

int usbip_device_session_receive(struct usbip_device_session *session, const uint8_t *data,
                                 size_t size)
{
    int result = usbip_device_session_receive_in_place(session, data, size);
    usbip_device_session_settle(session);
    return result;
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

/* A fault ends the connection behind what has been taken. */
static void cut(struct usbip_device_session *session, enum usbip_cut cut)
{
    usbip_log(&session->bus->log, USBIP_LOG_INFO, "%s: %s: a fault has %s the connection",
              session->peer, subject(session), cut == USBIP_CUT_RESET ? "reset" : "closed");
    session->cut = cut;
    session->over = true;
    usbip_fault_link_drop(&session->link);
    release_device(session);
    usbip_output_clear(session->output);
    session->taken_size = usbip_output_size(session->taken);
}

/* Of what is left of `taken`, as much as a fault lets out at once. */
static size_t take_piece(struct usbip_device_session *session,
                         const struct usbip_output_piece **pieces, size_t *count)
{
    enum usbip_cut how = USBIP_CUT_NONE;
    if (settle(session, session->taken) < 0)
        return 0;
    size_t size = session->taken->bytes.size - session->taken_size;
    session->piece.data = size > 0 ? session->taken->bytes.data + session->taken_size : NULL;
    if (session->link.active)
        size = usbip_fault_link_let_out(&session->link, size, &how);
    session->piece.size = size;
    *pieces = &session->piece;
    *count = size > 0;
    if (how != USBIP_CUT_NONE)
        cut(session, how);
    else
        session->taken_size += size;
    return size;
}

size_t usbip_device_session_take_pieces(struct usbip_device_session *session,
                                        const struct usbip_output_piece **pieces, size_t *count)
{
    size_t size = usbip_output_size(session->taken);
    session->awake = false;
    *count = 0;
    if (session->taken_size == size) {
        usbip_output_swap(&session->output, &session->taken);
        session->taken_size = 0;
        if (session->output->bytes.capacity > 2 * USBIP_SESSION_OUTPUT_LIMIT)
            usbip_output_free(session->output);
        size = usbip_output_size(session->taken);
    }
    if (session->link.active || session->taken_size > 0) {
        size = take_piece(session, pieces, count);
    } else {
        *pieces = usbip_output_pieces(session->taken, count);
        session->taken_size = size;
    }
    if (session->held_back && session->device &&
        waiting_size(session) < USBIP_SESSION_OUTPUT_LIMIT) {
        session->held_back = false;
        usbip_device_resume(session->device);
    }
    return size;
}

size_t usbip_device_session_take_output(struct usbip_device_session *session, const uint8_t **data)
{
    const struct usbip_output_piece *pieces;
    size_t count;
    *data = NULL;
    if (settle(session, session->output) < 0)
        return 0;
    size_t size = usbip_device_session_take_pieces(session, &pieces, &count);
    if (count > 0)
        *data = pieces->data;
    return size;
}

size_t usbip_device_session_output_size(const struct usbip_device_session *session)
{
    if (usbip_fault_link_is_shut(&session->link))
        return 0;
    return usbip_output_size(session->output) + usbip_output_size(session->taken) -
           session->taken_size;
}

bool usbip_device_session_holds_output(const struct usbip_device_session *session)
{
    /* A device that is gone says no more. */
    return !(session->over && session->device) &&
           waiting_size(session) > usbip_device_session_output_size(session);
}

enum usbip_cut usbip_device_session_cut(const struct usbip_device_session *session)
{
    return session->cut;
}

bool usbip_device_session_wants_input(const struct usbip_device_session *session)
{
    return !session->over && !session->link.stopped_by &&
           waiting_size(session) < USBIP_SESSION_OUTPUT_LIMIT;
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
    usbip_fault_link_drop(&session->link);
}

void usbip_device_session_disconnect(struct usbip_device_session *session, const char *reason)
{
    if (session->over)
        return;
    usbip_log(&session->bus->log, USBIP_LOG_INFO, "%s: %s, connection to %s closed",
              subject(session), reason, session->peer);
    end(session);
}
