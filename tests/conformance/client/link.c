#include "tests/conformance/client/link.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/conformance/client/case_server.h"
#include "tests/conformance/trial.h"

enum { READ_SIZE = 64 << 10, SENDS_AT_ONCE = 512, PIECES_PER_MS = 8 };

static struct case_server *server_of(const struct link *link)
{
    return link->trial->server;
}

static void append(struct usbip_buffer *buffer, const void *bytes, size_t size)
{
    if (size > 0 && usbip_buffer_append(buffer, bytes, size) < 0)
        abort();
}

static void take(struct usbip_buffer *buffer, size_t size)
{
    buffer->size -= size;
    if (buffer->size > 0)
        memmove(buffer->data, buffer->data + size, buffer->size);
}

/* ---- Log ---- */

static void log_bytes(struct link *link, const char *what, const void *bytes, size_t size)
{
    wire_log_bytes(&link->trial->log, link->tag, what, bytes, size);
}

static void log_request(struct link *link, const struct usbip_header *header,
                        const uint8_t *payload, size_t size)
{
    char setup[WIRE_LOG_HEX_SIZE], data[WIRE_LOG_HEX_SIZE];
    if (header->command == USBIP_CMD_UNLINK) {
        wire_log_add(&link->trial->log, "%c < CMD_UNLINK seqnum %" PRIu32 " of %" PRIu32, link->tag,
                     header->seqnum, header->cmd_unlink.unlink_seqnum);
        return;
    }
    wire_log_add(
        &link->trial->log,
        "%c < CMD_SUBMIT seqnum %" PRIu32 " devid %08" PRIx32 " %s ep %" PRIu32 " flags %" PRIx32
        " length %" PRIu32 " packets %" PRId32 " interval %" PRId32 " setup %s%s%s",
        link->tag, header->seqnum, header->devid, header->direction ? "IN" : "OUT", header->ep,
        header->cmd_submit.transfer_flags, header->cmd_submit.transfer_buffer_length,
        header->cmd_submit.number_of_packets, header->cmd_submit.interval,
        wire_log_hex(header->cmd_submit.setup, USBIP_SETUP_SIZE, setup), size > 0 ? " | " : "",
        wire_log_hex(payload, size, data));
}

static void log_reply(struct link *link, const struct usbip_header *header, const void *payload,
                      size_t size)
{
    char data[WIRE_LOG_HEX_SIZE];
    if (header->command == USBIP_RET_UNLINK)
        wire_log_add(&link->trial->log, "%c > RET_UNLINK seqnum %" PRIu32 " status %" PRId32,
                     link->tag, header->seqnum, header->ret_unlink.status);
    else
        wire_log_add(&link->trial->log,
                     "%c > RET_SUBMIT seqnum %" PRIu32 " status %" PRId32 " actual_length %" PRIu32
                     " %s",
                     link->tag, header->seqnum, header->ret_submit.status,
                     header->ret_submit.actual_length, wire_log_hex(payload, size, data));
}

/* ---- Pending requests ---- */

static void add_pending(struct link *link, const struct request *request)
{
    if (link->pending_count == link->pending_capacity) {
        size_t capacity = link->pending_capacity ? 2 * link->pending_capacity : 64;
        struct request *pending = realloc(link->pending, capacity * sizeof *pending);
        if (!pending)
            abort();
        link->pending = pending;
        link->pending_capacity = capacity;
    }
    link->pending[link->pending_count++] = *request;
}

static struct request *find_pending(struct link *link, uint32_t seqnum)
{
    for (size_t i = 0; i < link->pending_count; i++) {
        if (link->pending[i].seqnum == seqnum)
            return &link->pending[i];
    }
    return NULL;
}

void link_retire(struct link *link, uint32_t seqnum)
{
    struct request *request = find_pending(link, seqnum);
    if (!request)
        return;
    size_t behind = (size_t)(link->pending + link->pending_count - (request + 1));
    memmove(request, request + 1, behind * sizeof *request);
    link->pending_count--;
}

struct request *link_pending(struct link *link, uint8_t endpoint, unsigned index)
{
    for (size_t i = 0; i < link->pending_count; i++) {
        struct request *request = &link->pending[i];
        if (!request->unlink && request->endpoint == endpoint && index-- == 0)
            return request;
    }
    return NULL;
}

unsigned link_pending_count(const struct link *link, uint8_t endpoint)
{
    unsigned count = 0;
    for (size_t i = 0; i < link->pending_count; i++)
        count += !link->pending[i].unlink && link->pending[i].endpoint == endpoint;
    return count;
}

/* ---- Sending ---- */

/*
 * Sends what may be sent now. Small segments take much room at the receiver, where TCP drops those
 * that come too fast, so there are only so many in a millisecond.
 */
static void flush(struct link *link)
{
    const int sends = link->piece > 0 ? PIECES_PER_MS : SENDS_AT_ONCE;
    for (int i = 0; i < sends; i++) {
        size_t size = link->out.size;
        if (size == 0 || link->held || link->fd < 0)
            return;
        if (link->piece > 0) {
            if (case_now_us() < link->next_us)
                return;
            size = size < link->piece ? size : link->piece;
        }
        ssize_t sent = send(link->fd, link->out.data, size, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (sent < 0) { /* the client is gone, which its side tells */
            link->out.size = 0;
            return;
        }
        take(&link->out, (size_t)sent);
        if (link->piece > 0 && (link->pause_ms > 0 || i == sends - 1))
            link->next_us =
                case_now_us() + (uint64_t)(link->pause_ms > 0 ? link->pause_ms : 1) * 1000;
    }
}

void link_send(struct link *link, const void *bytes, size_t size)
{
    if (link->no_more || link->fd < 0)
        return;
    log_bytes(link, ">", bytes, size);
    append(&link->out, bytes, size);
    flush(link);
}

void link_send_pdu(struct link *link, const struct usbip_header *header, const void *payload,
                   size_t size)
{
    uint8_t bytes[USBIP_HEADER_SIZE];
    if (link->no_more || link->fd < 0)
        return;
    usbip_encode_header(bytes, header);
    append(&link->out, bytes, sizeof bytes);
    append(&link->out, payload, size);
    log_reply(link, header, payload, size);
}

void link_send_ret_submit(struct link *link, uint32_t seqnum, int32_t status,
                          uint32_t actual_length, const void *payload, size_t size)
{
    const struct usbip_header header = {
        .command = USBIP_RET_SUBMIT,
        .seqnum = seqnum,
        .ret_submit = {.status = status, .actual_length = actual_length}};
    link_send_pdu(link, &header, payload, size);
}

void link_send_ret_unlink(struct link *link, uint32_t seqnum, int32_t status)
{
    const struct usbip_header header = {
        .command = USBIP_RET_UNLINK, .seqnum = seqnum, .ret_unlink.status = status};
    link_send_pdu(link, &header, NULL, 0);
}

void link_complete(struct link *link, const struct request *request, int32_t status,
                   uint32_t actual_length, const void *payload, size_t size)
{
    const uint32_t seqnum = request->seqnum;
    usbip_device_unlink(server_of(link)->far_end.device, seqnum);
    link_send_ret_submit(link, seqnum, status, actual_length, payload, size);
    link_retire(link, seqnum);
}

/* The engine lets the device go. */
static void end_session(struct link *link)
{
    usbip_device_session_free(link->session);
    link->session = NULL;
}

static void close_socket(struct link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
}

void link_end(struct link *link)
{
    if (link->no_more || link->fd < 0)
        return;
    link->piece = 0;
    link->held = false;
    flush(link);
    wire_log_add(&link->trial->log, "%c > FIN", link->tag);
    link->no_more = true;
    shutdown(link->fd, SHUT_WR);
    end_session(link);
}

void link_reset(struct link *link)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};
    if (link->fd < 0)
        return;
    wire_log_add(&link->trial->log, "%c > RST", link->tag);
    setsockopt(link->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close_socket(link);
    end_session(link);
    link->no_more = true;
    link->ended = true; /* nothing can be seen of the client's end any more */
}

bool link_is_acknowledged(const struct link *link)
{
    int unacknowledged = 0;
    return link->out.size == 0 && ioctl(link->fd, SIOCOUTQ, &unacknowledged) == 0 &&
           unacknowledged == 0;
}

bool link_vanish(struct link *link)
{
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    const struct sock_fprog filter = {.len = 1, .filter = &nothing};
    wire_log_add(&link->trial->log, "%c - no packet of the client arrives any more", link->tag);
    link->held = true;
    return setsockopt(link->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0;
}

/* ---- From the engine to the client ---- */

static void take_urb_reply(struct link *link, const uint8_t *pdu, size_t size)
{
    struct case_server *server = server_of(link);
    struct reply reply = {.payload = (uint8_t *)pdu + USBIP_HEADER_SIZE,
                          .payload_size = size - USBIP_HEADER_SIZE};
    usbip_decode_header(pdu, &reply.header);
    const struct request *request = find_pending(link, reply.header.seqnum);
    if (request)
        reply.request = *request;
    if (server->hooks.reply)
        server->hooks.reply(link->trial, link, &reply);
    if (reply.drop)
        return;
    link_send_pdu(link, &reply.header, reply.payload, reply.payload_size);
    link_retire(link, reply.request.seqnum);
    if (reply.request.unlink)
        link_retire(link, reply.request.victim);
}

/* Bytes of the PDU of the engine at the start of link->replies; 0: not all is there. */
static size_t reply_size(struct link *link)
{
    const struct usbip_buffer *replies = &link->replies;
    struct usbip_header header;
    if (replies->size < USBIP_HEADER_SIZE)
        return 0;
    usbip_decode_header(replies->data, &header);
    size_t size = USBIP_HEADER_SIZE;
    const struct request *request = find_pending(link, header.seqnum);
    if (header.command == USBIP_RET_SUBMIT && request && request->in)
        size += header.ret_submit.actual_length;
    return replies->size >= size ? size : 0;
}

/* Where the record of a device is in the answer to an import. */
static void note_import(struct link *link, const struct usbip_buffer *bytes)
{
    struct usbip_device_record record;
    if (bytes->size < USBIP_IMPORT_REPLY_SIZE)
        return;
    usbip_decode_device_record(bytes->data + USBIP_OP_COMMON_SIZE, &record);
    link->devid = usbip_devid(&record);
}

/* A second connection is refused, or gets an empty list. */
static bool has_record(const struct usbip_buffer *bytes, uint16_t code)
{
    const size_t head =
        code == OP_REQ_IMPORT ? USBIP_OP_COMMON_SIZE : USBIP_DEVLIST_REPLY_HEADER_SIZE;
    return bytes->size >= head + USBIP_DEVICE_RECORD_SIZE;
}

static void take_op_reply(struct link *link, uint16_t code)
{
    struct case_server *server = server_of(link);
    if (code == OP_REQ_IMPORT) {
        link->imported = usbip_device_session_has_device(link->session);
        note_import(link, &link->replies);
        link->engine_devid = link->devid;
    }
    if (server->hooks.op_reply && has_record(&link->replies, code))
        server->hooks.op_reply(link->trial, link, code, &link->replies);
    note_import(link, &link->replies);
    if (link->replies.size > 0)
        link_send(link, link->replies.data, link->replies.size);
    link->replies.size = 0;
}

static void drain_engine(struct link *link)
{
    const uint8_t *data;
    size_t size;
    while (link->session && (size = usbip_device_session_take_output(link->session, &data)) > 0)
        append(&link->replies, data, size);
}

static void pass_replies(struct link *link)
{
    drain_engine(link);
    size_t done = 0, size;
    /* A hook may add requests or take them away, so each PDU is looked at when its turn comes. */
    while (link->imported && (size = reply_size(link)) > 0) {
        uint8_t *pdu = malloc(size);
        if (!pdu)
            abort();
        memcpy(pdu, link->replies.data, size);
        take(&link->replies, size);
        take_urb_reply(link, pdu, size);
        free(pdu);
        done++;
        drain_engine(link);
    }
    if (link->session && usbip_device_session_is_over(link->session) && link->replies.size == 0 &&
        !link->keep_open)
        link_end(link);
    flush(link);
}

/* ---- From the client to the engine ---- */

static void feed(struct link *link, const uint8_t *bytes, size_t size)
{
    if (link->session)
        usbip_device_session_receive(link->session, bytes, size);
}

static size_t op_request_size(const struct link *link)
{
    if (link->in.size < USBIP_OP_COMMON_SIZE)
        return 0;
    struct usbip_op_common common;
    usbip_decode_op_common(link->in.data, &common);
    size_t size = common.code == OP_REQ_IMPORT ? USBIP_IMPORT_REQUEST_SIZE : USBIP_OP_COMMON_SIZE;
    return link->in.size >= size ? size : 0;
}

static void take_op_request(struct link *link, size_t size)
{
    struct usbip_op_common common;
    usbip_decode_op_common(link->in.data, &common);
    log_bytes(link,
              common.code == OP_REQ_IMPORT    ? "< OP_REQ_IMPORT"
              : common.code == OP_REQ_DEVLIST ? "< OP_REQ_DEVLIST"
                                              : "< unknown request",
              link->in.data, size);
    feed(link, link->in.data, size);
    take(&link->in, size);
    drain_engine(link);
    if (link->session)
        take_op_reply(link, common.code);
    pass_replies(link);
}

/* Bytes of the PDU at the start of link->in; 0: not all is there; -1: it is none. */
static int64_t urb_request_size(const struct link *link)
{
    struct usbip_header header;
    if (link->in.size < USBIP_HEADER_SIZE)
        return 0;
    if (usbip_decode_header(link->in.data, &header) < 0 ||
        (header.command != USBIP_CMD_SUBMIT && header.command != USBIP_CMD_UNLINK))
        return -1;
    int64_t size = USBIP_HEADER_SIZE;
    if (header.command == USBIP_CMD_SUBMIT && header.direction == USBIP_DIR_OUT)
        size += header.cmd_submit.transfer_buffer_length;
    if (size > USBIP_HEADER_SIZE + LINK_MAX_PAYLOAD)
        return -1;
    return link->in.size >= (size_t)size ? size : 0;
}

static struct request request_of(const struct usbip_header *header)
{
    struct request request = {.seqnum = header->seqnum,
                              .unlink = header->command == USBIP_CMD_UNLINK};
    if (request.unlink) {
        request.victim = header->cmd_unlink.unlink_seqnum;
        return request;
    }
    request.in = header->direction == USBIP_DIR_IN;
    request.endpoint = (uint8_t)(header->ep & 0x0f);
    if (request.in && request.endpoint != 0)
        request.endpoint |= USB_DIR_IN;
    request.length = header->cmd_submit.transfer_buffer_length;
    request.given = request.in ? 0 : request.length;
    usbip_decode_setup(header->cmd_submit.setup, &request.setup);
    return request;
}

/* The engine gets the request with the devid that it knows, and as much data as the hook left. */
static void give_engine(struct link *link, const struct usbip_header *header,
                        const struct request *request, const uint8_t *payload)
{
    struct usbip_header given = *header;
    uint8_t bytes[USBIP_HEADER_SIZE];
    given.devid = link->engine_devid;
    if (!request->unlink && !request->in)
        given.cmd_submit.transfer_buffer_length = request->given;
    usbip_encode_header(bytes, &given);
    feed(link, bytes, sizeof bytes);
    feed(link, payload, request->given);
}

static void take_urb_request(struct link *link, size_t size)
{
    struct case_server *server = server_of(link);
    struct usbip_header header;
    uint8_t *pdu = malloc(size);
    if (!pdu)
        abort();
    memcpy(pdu, link->in.data, size);
    take(&link->in, size);
    usbip_decode_header(pdu, &header);
    log_request(link, &header, pdu + USBIP_HEADER_SIZE, size - USBIP_HEADER_SIZE);
    rules_check(link, &header, pdu);
    struct request request = request_of(&header);
    add_pending(link, &request);
    if (header.seqnum > link->highest_seqnum)
        link->highest_seqnum = header.seqnum;
    link->requests++;
    if (!server->hooks.request || !server->hooks.request(link->trial, link, &request))
        give_engine(link, &header, &request, pdu + USBIP_HEADER_SIZE);
    free(pdu);
    pass_replies(link);
}

static void take_requests(struct link *link)
{
    while (!link->mute && !link->no_more) {
        int64_t size = link->imported ? urb_request_size(link) : (int64_t)op_request_size(link);
        if (size == 0)
            return;
        if (size < 0) {
            log_bytes(link, "< neither CMD_SUBMIT nor CMD_UNLINK:", link->in.data, link->in.size);
            rule_broken(link, RULE_LENGTH, "what follows is no PDU: the stream is out of step");
            link_end(link);
            return;
        }
        if (link->imported)
            take_urb_request(link, (size_t)size);
        else
            take_op_request(link, (size_t)size);
    }
    link->in.size = 0; /* of no interest any more */
}

static void client_ended(struct link *link, bool reset)
{
    wire_log_add(&link->trial->log, "%c < %s", link->tag, reset ? "RST" : "FIN");
    link->ended = true;
    link->reset = reset;
    link->cut_off = link->in.size > 0;
    link->no_more = true;
    close_socket(link);
    end_session(link);
}

static void receive(struct link *link)
{
    uint8_t *room = usbip_buffer_reserve(&link->in, READ_SIZE);
    if (!room)
        abort();
    ssize_t size = recv(link->fd, room, READ_SIZE, 0);
    if (size > 0) {
        link->in.size += (size_t)size;
        take_requests(link);
    } else if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
        client_ended(link, size < 0);
    }
}

/* ---- Life ---- */

static void woken(void *context)
{
    (void)context; /* what there is, is taken after every call of the engine */
}

struct link *link_new(struct trial *trial, int fd, char tag)
{
    static const struct usbip_device_session_events events = {woken};
    const int one = 1;
    struct link *link = calloc(1, sizeof *link);
    if (!link)
        abort();
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    link->fd = fd;
    link->trial = trial;
    link->tag = tag;
    link->session = usbip_device_session_new(&trial->server->bus, "client", &events, link);
    if (!link->session)
        abort();
    wire_log_add(&trial->log, "%c - the client connects", tag);
    return link;
}

void link_free(struct link *link)
{
    close_socket(link);
    end_session(link);
    usbip_buffer_free(&link->in);
    usbip_buffer_free(&link->replies);
    usbip_buffer_free(&link->out);
    free(link->pending);
    free(link);
}

void link_act(struct link *link)
{
    if (link->fd >= 0 && !link->deaf)
        receive(link);
    if (link->imported)
        pass_replies(link);
    else
        flush(link);
}

bool link_has_output(const struct link *link)
{
    return link->fd >= 0 && link->out.size > 0 && !link->held;
}

short link_wanted_events(const struct link *link)
{
    bool sends = link_has_output(link) && case_now_us() >= link->next_us;
    return (short)((link->deaf ? 0 : POLLIN) | (sends ? POLLOUT : 0));
}
