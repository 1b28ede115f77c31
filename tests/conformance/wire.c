#include "tests/conformance/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 256 << 10, FIRST_SEQNUM = 2 };

/* ---- Log ---- */

void wire_make_plain(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~')
            *text = '?';
    }
}

void wire_log_add(struct wire_log *log, const char *format, ...)
{
    const size_t half = WIRE_LOG_LINES / 2;
    char *line = log->count < half ? log->first[log->count] : log->last[log->count % half];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, WIRE_LOG_LINE_SIZE, format, arguments);
    va_end(arguments);
    wire_make_plain(line);
    log->count++;
}

const char *wire_log_hex(const void *data, size_t size, char text[WIRE_LOG_HEX_SIZE])
{
    const uint8_t *bytes = data;
    size_t shown = size < WIRE_LOG_SHOWN ? size : WIRE_LOG_SHOWN, at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < shown; i++)
        at += (size_t)sprintf(text + at, "%s%02x", i > 0 && i % 4 == 0 ? " " : "", bytes[i]);
    if (shown < size)
        strcpy(text + at, "...");
    return text;
}

void wire_log_bytes(struct wire_log *log, char tag, const char *what, const void *bytes,
                    size_t size)
{
    char text[WIRE_LOG_HEX_SIZE];
    wire_log_add(log, "%c %s %zu bytes: %s", tag, what, size, wire_log_hex(bytes, size, text));
}

static void log_bytes(struct wire *wire, const char *what, const void *bytes, size_t size)
{
    wire_log_bytes(wire->log, wire->tag, what, bytes, size);
}

/* ---- Connection ---- */

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static bool wait_for(int fd, short events, long long until, short *got)
{
    for (;;) {
        long long left = until - now_ms();
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int count = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
        if (count < 0 && errno == EINTR)
            continue;
        *got = poll_fd.revents;
        return count > 0;
    }
}

static int connect_to(const struct addrinfo *address, long long until)
{
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    address->ai_protocol);
    if (fd < 0)
        return -1;
    int error = 0, one = 1;
    socklen_t size = sizeof error;
    short got;
    if (connect(fd, address->ai_addr, address->ai_addrlen) < 0) {
        error = errno;
        if (error == EINPROGRESS) {
            error = ETIMEDOUT;
            if (wait_for(fd, POLLOUT, until, &got))
                getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        }
    }
    if (error == 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        return fd;
    }
    close(fd);
    errno = error;
    return -1;
}

int wire_open(struct wire *wire, const char *host, const char *port, int timeout_ms, char tag,
              struct wire_log *log)
{
    *wire = (struct wire){
        .fd = -1, .tag = tag, .log = log, .timeout_ms = timeout_ms, .next_seqnum = FIRST_SEQNUM};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *addresses;
    int result = getaddrinfo(host, port, &hints, &addresses);
    if (result != 0) {
        wire_log_add(log, "%c no address for %s port %s: %s", tag, host, port,
                     gai_strerror(result));
        return -1;
    }
    long long until = now_ms() + timeout_ms;
    for (const struct addrinfo *at = addresses; at && wire->fd < 0; at = at->ai_next)
        wire->fd = connect_to(at, until);
    freeaddrinfo(addresses);
    if (wire->fd < 0) {
        wire_log_add(log, "%c cannot connect to %s port %s: %s", tag, host, port, strerror(errno));
        return -1;
    }
    wire_log_add(log, "%c connected", tag);
    return 0;
}

void wire_close(struct wire *wire)
{
    if (wire->fd >= 0)
        close(wire->fd);
    wire->fd = -1;
    for (size_t i = 0; i < wire->pdu_count; i++) {
        free(wire->pdus[i]->payload);
        free(wire->pdus[i]);
    }
    free(wire->pdus);
    free(wire->requests);
    usbip_buffer_free(&wire->in);
    wire->pdus = NULL;
    wire->requests = NULL;
    wire->pdu_count = wire->request_count = wire->pdu_capacity = wire->request_capacity = 0;
    wire->start = wire->first_pending = 0;
}

void wire_abort(struct wire *wire)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    if (wire->fd >= 0)
        setsockopt(wire->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    wire_log_add(wire->log, "%c > RST", wire->tag);
    wire_close(wire);
}

bool wire_vanish(struct wire *wire)
{
    /* Drops every segment of this connection before TCP sees it. */
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &nothing};
    wire_log_add(wire->log, "%c vanishes", wire->tag);
    return setsockopt(wire->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

void wire_end_sending(struct wire *wire)
{
    wire_log_add(wire->log, "%c > FIN", wire->tag);
    if (wire->fd >= 0)
        shutdown(wire->fd, SHUT_WR);
}

/* ---- Bytes ---- */

static size_t unread(const struct wire *wire)
{
    return wire->in.size - wire->start;
}

static void take(struct wire *wire, size_t size)
{
    wire->start += size;
    if (wire->start == wire->in.size)
        wire->start = wire->in.size = 0;
}

/* Takes what is there, if anything. */
static void receive(struct wire *wire)
{
    if (wire->start > READ_SIZE) {
        memmove(wire->in.data, wire->in.data + wire->start, unread(wire));
        wire->in.size -= wire->start;
        wire->start = 0;
    }
    uint8_t *room =
        unread(wire) < WIRE_MAX_UNREAD ? usbip_buffer_reserve(&wire->in, READ_SIZE) : NULL;
    ssize_t size = room ? recv(wire->fd, room, READ_SIZE, 0) : 0;
    if (!room) {
        wire->ended = true;
        wire_log_add(wire->log, "%c < more than is read", wire->tag);
    } else if (size > 0) {
        wire->in.size += (size_t)size;
    } else if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
        wire->ended = true;
        wire->reset = size < 0;
        wire_log_add(wire->log, "%c < %s", wire->tag, wire->reset ? "RST" : "FIN");
    }
}

static bool send_all(struct wire *wire, const uint8_t *bytes, size_t size)
{
    long long until = now_ms() + wire->timeout_ms;
    while (size > 0 && wire->fd >= 0 && !wire->reset) {
        ssize_t sent = send(wire->fd, bytes, size, MSG_NOSIGNAL);
        if (sent > 0) {
            bytes += sent;
            size -= (size_t)sent;
            until = now_ms() + wire->timeout_ms;
            continue;
        }
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            break;
        short got, events = POLLOUT;
        if (!wire->deaf && !wire->ended)
            events |= POLLIN;
        if (!wait_for(wire->fd, events, until, &got))
            break;
        if (got & POLLIN)
            receive(wire);
    }
    return size == 0;
}

bool wire_send(struct wire *wire, const void *bytes, size_t size)
{
    log_bytes(wire, ">", bytes, size);
    return send_all(wire, bytes, size);
}

bool wire_send_pieces(struct wire *wire, const void *bytes, size_t size, size_t piece, int pause_ms)
{
    char what[64];
    snprintf(what, sizeof what, "> in pieces of %zu", piece);
    log_bytes(wire, what, bytes, size);
    const uint8_t *at = bytes;
    while (size > 0) {
        size_t now = size < piece ? size : piece;
        if (!send_all(wire, at, now))
            return false;
        at += now;
        size -= now;
        struct timespec pause = {pause_ms / 1000, (pause_ms % 1000) * 1000000L};
        if (size > 0 && pause_ms > 0)
            nanosleep(&pause, NULL);
    }
    return true;
}

/* Waits until `size` bytes are unread. */
static enum wire_event fill_until(struct wire *wire, size_t size, long long until)
{
    while (unread(wire) < size) {
        short got;
        if (wire->ended || wire->fd < 0)
            return WIRE_CLOSED;
        if (!wait_for(wire->fd, POLLIN, until, &got))
            return WIRE_SILENT;
        receive(wire);
    }
    return WIRE_OK;
}

static enum wire_event fill(struct wire *wire, size_t size)
{
    return fill_until(wire, size, now_ms() + wire->timeout_ms);
}

enum wire_event wire_read(struct wire *wire, void *bytes, size_t size)
{
    enum wire_event event = fill(wire, size);
    if (event != WIRE_OK) {
        if (unread(wire) > 0)
            log_bytes(wire, "< cut off", wire->in.data + wire->start, unread(wire));
        return event;
    }
    memcpy(bytes, wire->in.data + wire->start, size);
    take(wire, size);
    log_bytes(wire, "<", bytes, size);
    return WIRE_OK;
}

bool wire_peek(struct wire *wire, void *bytes, size_t size)
{
    if (fill(wire, size) != WIRE_OK)
        return false;
    memcpy(bytes, wire->in.data + wire->start, size);
    return true;
}

enum wire_event wire_read_end(struct wire *wire, size_t *left)
{
    enum wire_event event = fill(wire, SIZE_MAX);
    *left = unread(wire);
    if (*left > 0)
        log_bytes(wire, "<", wire->in.data + wire->start, *left);
    return event;
}

/* ---- URB phase ---- */

static void note_request(struct wire *wire, struct wire_request request)
{
    if (wire->request_count == wire->request_capacity) {
        size_t capacity = wire->request_capacity ? 2 * wire->request_capacity : 64;
        struct wire_request *requests = realloc(wire->requests, capacity * sizeof *requests);
        if (!requests)
            abort();
        wire->requests = requests;
        wire->request_capacity = capacity;
    }
    wire->requests[wire->request_count++] = request;
    wire->unasked_until_ms = 0;
}

static void append(struct usbip_buffer *buffer, const void *bytes, size_t size)
{
    if (size > 0 && usbip_buffer_append(buffer, bytes, size) < 0)
        abort();
}

uint32_t wire_append_submit(struct wire *wire, struct usbip_buffer *buffer,
                            const struct wire_submit *submit)
{
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = submit->with_seqnum ? submit->seqnum : wire->next_seqnum++,
        .devid = wire->devid ^ submit->devid_xor,
        .direction = submit->direction,
        .ep = submit->ep,
        .cmd_submit = {.transfer_flags = submit->flags,
                       .transfer_buffer_length = submit->length,
                       .start_frame = submit->start_frame,
                       .number_of_packets = submit->number_of_packets,
                       .interval = submit->interval},
    };
    memcpy(header.cmd_submit.setup, submit->setup, USBIP_SETUP_SIZE);
    uint8_t bytes[USBIP_HEADER_SIZE];
    usbip_encode_header(bytes, &header);
    append(buffer, bytes, sizeof bytes);
    if (submit->direction == USBIP_DIR_OUT && submit->payload)
        append(buffer, submit->payload, submit->length);
    for (int32_t i = 0; submit->packets && i < submit->number_of_packets; i++) {
        uint8_t descriptor[USBIP_ISO_PACKET_DESCRIPTOR_SIZE];
        usbip_encode_iso_packet_descriptor(descriptor, &submit->packets[i]);
        append(buffer, descriptor, sizeof descriptor);
    }
    note_request(wire, (struct wire_request){.seqnum = header.seqnum,
                                             .length = submit->length,
                                             .isochronous = submit->packets != NULL,
                                             .in = submit->direction == USBIP_DIR_IN});
    char text[WIRE_LOG_HEX_SIZE];
    wire_log_add(wire->log,
                 "%c > CMD_SUBMIT seqnum %" PRIu32 " devid %08" PRIx32 " %s ep %" PRIu32
                 " flags %" PRIx32 " length %" PRIu32 " packets %" PRId32 " interval %" PRId32
                 " setup %s",
                 wire->tag, header.seqnum, header.devid, header.direction ? "IN" : "OUT", header.ep,
                 submit->flags, submit->length, submit->number_of_packets, submit->interval,
                 wire_log_hex(submit->setup, USBIP_SETUP_SIZE, text));
    return header.seqnum;
}

uint32_t wire_append_unlink(struct wire *wire, struct usbip_buffer *buffer, uint32_t victim)
{
    struct usbip_header header = {
        .command = USBIP_CMD_UNLINK,
        .seqnum = wire->next_seqnum++,
        .devid = wire->devid,
        .cmd_unlink.unlink_seqnum = victim,
    };
    uint8_t bytes[USBIP_HEADER_SIZE];
    usbip_encode_header(bytes, &header);
    append(buffer, bytes, sizeof bytes);
    note_request(wire, (struct wire_request){.seqnum = header.seqnum, .unlink = true});
    wire_log_add(wire->log, "%c > CMD_UNLINK seqnum %" PRIu32 " of %" PRIu32, wire->tag,
                 header.seqnum, victim);
    return header.seqnum;
}

uint32_t wire_append_control(struct wire *wire, struct usbip_buffer *buffer,
                             const struct usbip_setup *setup, const void *payload)
{
    struct wire_submit submit = {
        .direction = usbip_setup_direction(setup), .length = setup->wLength, .payload = payload};
    if (submit.direction == USBIP_DIR_IN)
        submit.flags = USBIP_URB_DIR_IN;
    usbip_encode_setup(submit.setup, setup);
    return wire_append_submit(wire, buffer, &submit);
}

/* A server that is gone is seen when its reply is read. */
static void send_buffer(struct wire *wire, struct usbip_buffer *buffer)
{
    send_all(wire, buffer->data, buffer->size);
    usbip_buffer_free(buffer);
}

uint32_t wire_submit(struct wire *wire, const struct wire_submit *submit)
{
    struct usbip_buffer buffer = {0};
    uint32_t seqnum = wire_append_submit(wire, &buffer, submit);
    send_buffer(wire, &buffer);
    return seqnum;
}

uint32_t wire_unlink(struct wire *wire, uint32_t victim)
{
    struct usbip_buffer buffer = {0};
    uint32_t seqnum = wire_append_unlink(wire, &buffer, victim);
    send_buffer(wire, &buffer);
    return seqnum;
}

uint32_t wire_control(struct wire *wire, const struct usbip_setup *setup, const void *payload)
{
    struct usbip_buffer buffer = {0};
    uint32_t seqnum = wire_append_control(wire, &buffer, setup, payload);
    send_buffer(wire, &buffer);
    return seqnum;
}

/* The oldest request with this seqnum that has no answer. */
static struct wire_request *find_pending(struct wire *wire, uint32_t seqnum)
{
    while (wire->first_pending < wire->request_count &&
           wire->requests[wire->first_pending].answered)
        wire->first_pending++;
    for (size_t i = wire->first_pending; i < wire->request_count; i++) {
        if (!wire->requests[i].answered && wire->requests[i].seqnum == seqnum)
            return &wire->requests[i];
    }
    return NULL;
}

static void log_reply(struct wire *wire, const struct wire_pdu *pdu)
{
    char text[WIRE_LOG_HEX_SIZE];
    const struct usbip_header *header = &pdu->header;
    if (header->command == USBIP_RET_UNLINK)
        wire_log_add(wire->log, "%c < RET_UNLINK seqnum %" PRIu32 " status %" PRId32 "%s",
                     wire->tag, header->seqnum, header->ret_unlink.status,
                     pdu->known ? "" : " (answers nothing)");
    else
        wire_log_add(wire->log,
                     "%c < RET_SUBMIT seqnum %" PRIu32 " status %" PRId32 " actual_length %" PRIu32
                     "%s %s",
                     wire->tag, header->seqnum, header->ret_submit.status,
                     header->ret_submit.actual_length, pdu->known ? "" : " (answers nothing)",
                     wire_log_hex(pdu->payload, pdu->payload_size, text));
}

static struct wire_pdu *add_pdu(struct wire *wire)
{
    if (wire->pdu_count == wire->pdu_capacity) {
        size_t capacity = wire->pdu_capacity ? 2 * wire->pdu_capacity : 64;
        struct wire_pdu **pdus = realloc(wire->pdus, capacity * sizeof *pdus);
        if (!pdus)
            abort();
        wire->pdus = pdus;
        wire->pdu_capacity = capacity;
    }
    struct wire_pdu *pdu = calloc(1, sizeof *pdu);
    if (!pdu)
        abort();
    wire->pdus[wire->pdu_count++] = pdu;
    return pdu;
}

/* Replies that answer nothing do not make the wait for one that does any longer. */
static enum wire_event await_header(struct wire *wire)
{
    long long now = now_ms(), until = now + wire->timeout_ms;
    if (wire->unasked > WIRE_MAX_UNASKED) {
        wire_log_add(wire->log, "%c < ... too many replies that answer nothing", wire->tag);
        return WIRE_DESYNC;
    }
    if (wire->unasked_until_ms > 0 && wire->unasked_until_ms < until)
        until = wire->unasked_until_ms;
    return until < now ? WIRE_SILENT : fill_until(wire, USBIP_HEADER_SIZE, until);
}

static void note_answer(struct wire *wire, struct wire_pdu *pdu, struct wire_request *request)
{
    if (!request) {
        wire->unasked++;
        if (wire->unasked_until_ms == 0)
            wire->unasked_until_ms = now_ms() + wire->timeout_ms;
        return;
    }
    wire->unasked_until_ms = 0;
    request->answered = true;
    pdu->known = request->unlink == (pdu->header.command == USBIP_RET_UNLINK);
    pdu->answers_unlink = request->unlink;
    pdu->in = request->in;
    pdu->requested = request->length;
}

enum wire_event wire_next(struct wire *wire, struct wire_pdu **result)
{
    *result = NULL;
    enum wire_event event = await_header(wire);
    if (event != WIRE_OK) {
        if (unread(wire) > 0 && unread(wire) < USBIP_HEADER_SIZE)
            log_bytes(wire, "< part of a header,", wire->in.data + wire->start, unread(wire));
        return event;
    }
    const uint8_t *bytes = wire->in.data + wire->start;
    struct usbip_header header;
    if (usbip_decode_header(bytes, &header) < 0 ||
        (header.command != USBIP_RET_SUBMIT && header.command != USBIP_RET_UNLINK)) {
        log_bytes(wire, "< not a reply:", bytes, unread(wire));
        return WIRE_DESYNC;
    }
    struct wire_request *request = find_pending(wire, header.seqnum);
    size_t size = 0;
    uint32_t packets = 0;
    if (header.command == USBIP_RET_SUBMIT && request && request->in)
        size = header.ret_submit.actual_length;
    if (header.command == USBIP_RET_SUBMIT && request && request->isochronous)
        packets = (uint32_t)header.ret_submit.number_of_packets;
    if (size > WIRE_MAX_PAYLOAD || packets > USBIP_MAX_ISO_PACKETS) {
        log_bytes(wire, "< too long a reply:", bytes, USBIP_HEADER_SIZE);
        return WIRE_DESYNC;
    }
    size_t all = size + packets * (size_t)USBIP_ISO_PACKET_DESCRIPTOR_SIZE;
    event = fill(wire, USBIP_HEADER_SIZE + all);
    if (event != WIRE_OK) {
        log_bytes(wire, "< a cut off reply:", wire->in.data + wire->start, unread(wire));
        return event;
    }
    struct wire_pdu *pdu = add_pdu(wire);
    pdu->header = header;
    memcpy(pdu->bytes, wire->in.data + wire->start, USBIP_HEADER_SIZE);
    if (all > 0) {
        pdu->payload = malloc(all);
        if (!pdu->payload)
            abort();
        memcpy(pdu->payload, wire->in.data + wire->start + USBIP_HEADER_SIZE, all);
        pdu->payload_size = size;
        pdu->packets = pdu->payload + size;
        pdu->packet_count = packets;
    }
    take(wire, USBIP_HEADER_SIZE + all);
    note_answer(wire, pdu, request);
    log_reply(wire, pdu);
    *result = pdu;
    return WIRE_OK;
}

long wire_position(const struct wire *wire, uint32_t seqnum)
{
    for (size_t i = wire->pdu_count; i > 0; i--) {
        if (wire->pdus[i - 1]->header.seqnum == seqnum)
            return (long)i - 1;
    }
    return -1;
}

enum wire_event wire_wait(struct wire *wire, uint32_t seqnum, struct wire_pdu **pdu)
{
    long position = wire_position(wire, seqnum);
    if (position >= 0) {
        *pdu = wire->pdus[position];
        return WIRE_OK;
    }
    enum wire_event event;
    do {
        event = wire_next(wire, pdu);
    } while (event == WIRE_OK && (*pdu)->header.seqnum != seqnum);
    return event;
}
