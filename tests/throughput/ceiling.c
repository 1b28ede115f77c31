#include "tests/throughput/ceiling.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/bytes.h"
#include "protocol/cdc.h"
#include "tests/throughput/child.h"
#include "tests/throughput/measurement.h"
#include "tests/throughput/outbox.h"
#include "tests/throughput/pattern.h"

enum {
    READ_SIZE = 256 << 10,
    MAX_PDU = USBIP_HEADER_SIZE + PATTERN_MAX_SIZE,
    BUFFER_SIZE = MAX_PDU + READ_SIZE,
    MAX_WAITING = 4 * MAX_DEPTH, /* IN URBs, and pieces of an echo that nobody has asked for yet */
    KEPT_PIECES =
        MAX_WAITING / 2, /* beyond these, or so many bytes, an OUT URB waits with its piece */
    KEPT_BYTES = 1 << 20,
    MANY_BYTES = 64 << 10,
    LARGE_OUT = 16 << 10,
    LARGE_REPLY = 32 << 10,
    SMALL_SEND_BUFFER = 128 << 10,
    ANSWERS_PER_WRITE = 4096,
    BULK = 1,
    NO_PDU = 0,
    BAD_PDU = -1,
};

/* Offsets in a header. */
enum {
    COMMAND_AT = 0,
    SEQNUM_AT = 4,
    DIRECTION_AT = 12,
    EP_AT = 16,
    STATUS_AT = 20,
    LENGTH_AT = 24, /* transfer_buffer_length, actual_length */
    UNLINK_SEQNUM_AT = 20,
    SETUP_AT = 40,
};

enum role { ECHO = 1, SINK, SOURCE };

/* 1209:000d, USB 2.0, one configuration */
static const uint8_t device_descriptor[USB_DT_DEVICE_SIZE] = {
    18, 1, 0x00, 0x02, 2, 0, 0, 64, 0x09, 0x12, 0x0d, 0x00, 0x00, 0x01, 0, 0, 0, 1,
};

static const uint8_t configuration[] = {
    9, 2,  67,   0,    2,    1,    0,    0x80, 50, /* configuration */
    9, 4,  0,    0,    1,    0x02, 0x02, 0,    0,  /* interface 0: CDC-ACM control */
    5, 36, 0x00, 0x10, 0x01,                       /* CDC 1.10 */
    4, 36, 0x02, 0x02,                             /* line coding and control lines */
    5, 36, 0x01, 0,    1,                          /* call management */
    5, 36, 0x06, 0,    1,                          /* union of 0 and 1 */
    7, 5,  0x82, 3,    16,   0,    8,              /* interrupt IN */
    9, 4,  1,    0,    2,    0x0a, 0,    0,    0,  /* interface 1: CDC data */
    7, 5,  0x81, 2,    0x00, 0x02, 0,              /* bulk IN, 512 bytes */
    7, 5,  0x01, 2,    0x00, 0x02, 0,              /* bulk OUT, 512 bytes */
};

struct waiting_in {
    uint32_t seqnum, length;
};

/* Bytes that came back and wait for an IN URB. */
struct piece {
    const uint8_t *data;
    size_t size;
    uint8_t *owned; /* a copy, once they have outlived the read that brought them */
    uint32_t seqnum, length;
    bool answered; /* the OUT URB that brought them */
};

struct connection {
    int socket;
    enum role role;
    uint8_t *buffer;
    size_t size; /* bytes in it */
    size_t skip; /* bytes of a payload that are dropped as they come */
    uint32_t skip_seqnum, skip_length;
    struct outbox outbox;
    uint64_t sent;     /* bytes of the source's stream */
    bool sends_little; /* its send buffer is small */

    /* Rings, of MAX_WAITING; the numbers only grow. */
    struct waiting_in *ins;
    size_t first_in, end_in;
    struct piece *pieces;
    size_t sent_piece, first_piece, end_piece; /* those before first_piece are being sent */
    size_t kept;                               /* bytes in the pieces */
};

/* ---- Replies ---- */

static void reply(struct connection *connection, uint32_t seqnum, int32_t status,
                  const uint8_t *payload, size_t size)
{
    uint8_t *header = outbox_header(&connection->outbox, USBIP_HEADER_SIZE);
    memset(header, 0, USBIP_HEADER_SIZE);
    usbip_store_be32(header + COMMAND_AT, USBIP_RET_SUBMIT);
    usbip_store_be32(header + SEQNUM_AT, seqnum);
    usbip_store_be32(header + STATUS_AT, (uint32_t)status);
    usbip_store_be32(header + LENGTH_AT, (uint32_t)size);
    if (payload)
        outbox_payload(&connection->outbox, payload, size);
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void answer_control(struct connection *connection, uint32_t seqnum, const uint8_t *setup,
                           uint32_t length, bool in)
{
    uint8_t type = setup[3]; /* of the descriptor that is asked for */
    bool descriptor = setup[0] == USB_DIR_IN && setup[1] == USB_REQ_GET_DESCRIPTOR;
    if (!in)
        reply(connection, seqnum, 0, NULL, length);
    else if (descriptor && type == USB_DT_DEVICE)
        reply(connection, seqnum, 0, device_descriptor, min_size(length, sizeof device_descriptor));
    else if (descriptor && type == USB_DT_CONFIG)
        reply(connection, seqnum, 0, configuration, min_size(length, sizeof configuration));
    else
        reply(connection, seqnum, -USBIP_EPIPE, NULL, 0);
}

/* ---- Echo ---- */

/* Each IN URB takes of one piece only. */
static void answer_ins(struct connection *connection)
{
    while (connection->first_in != connection->end_in &&
           connection->first_piece != connection->end_piece &&
           outbox_has_room(&connection->outbox, 3)) { /* one more, for who has called this */
        struct waiting_in *in = &connection->ins[connection->first_in++ % MAX_WAITING];
        struct piece *piece = &connection->pieces[connection->first_piece % MAX_WAITING];
        size_t size = min_size(in->length, piece->size);
        reply(connection, in->seqnum, 0, piece->data, size);
        piece->data += size;
        piece->size -= size;
        connection->kept -= size;
        if (piece->size > 0)
            continue;
        connection->first_piece++;
        if (!piece->answered)
            reply(connection, piece->seqnum, 0, NULL, piece->length);
    }
}

/* ---- PDUs ---- */

/*
 * Many large replies at once would leave the cache before the client reads them. Found by trying:
 * half of the time at 64 KiB, with 64 in flight on one core; it does not help smaller ones.
 */
static void keep_in_cache(struct connection *connection, uint32_t length)
{
    const int size = SMALL_SEND_BUFFER;
    if (length < LARGE_REPLY || connection->sends_little)
        return;
    connection->sends_little = true;
    setsockopt(connection->socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static bool take_in(struct connection *connection, uint32_t seqnum, uint32_t length)
{
    if (connection->role == SOURCE) {
        keep_in_cache(connection, length);
        reply(connection, seqnum, 0, pattern_at(connection->sent), length);
        connection->sent += length;
        return true;
    }
    if (connection->end_in - connection->first_in == MAX_WAITING)
        return false;
    connection->ins[connection->end_in++ % MAX_WAITING] = (struct waiting_in){seqnum, length};
    answer_ins(connection);
    return true;
}

static bool take_out(struct connection *connection, uint32_t seqnum, const uint8_t *data,
                     uint32_t length)
{
    if (connection->end_piece - connection->sent_piece == MAX_WAITING)
        return false;
    bool answered = connection->kept + length <= KEPT_BYTES &&
                    connection->end_piece - connection->first_piece < KEPT_PIECES;
    if (length > 0)
        connection->pieces[connection->end_piece++ % MAX_WAITING] =
            (struct piece){data, length, NULL, seqnum, length, answered};
    connection->kept += length;
    answer_ins(connection);
    if (answered || length == 0)
        reply(connection, seqnum, 0, NULL, length);
    return true;
}

static void take_unlink(struct connection *connection, const uint8_t *pdu)
{
    uint32_t wanted = usbip_load_be32(pdu + UNLINK_SEQNUM_AT);
    int32_t status = -USBIP_ECONNRESET; /* notifications always wait */
    uint8_t *header = outbox_header(&connection->outbox, USBIP_HEADER_SIZE);
    for (size_t i = connection->first_in; i < connection->end_in; i++) {
        struct waiting_in *at = &connection->ins[i % MAX_WAITING];
        if (at->seqnum != wanted)
            continue;
        for (size_t next = i + 1; next < connection->end_in; next++, i++)
            connection->ins[i % MAX_WAITING] = connection->ins[next % MAX_WAITING];
        connection->end_in--;
        break;
    }
    memset(header, 0, USBIP_HEADER_SIZE);
    usbip_store_be32(header + COMMAND_AT, USBIP_RET_UNLINK);
    usbip_store_be32(header + SEQNUM_AT, usbip_load_be32(pdu + SEQNUM_AT));
    usbip_store_be32(header + STATUS_AT, (uint32_t)status);
}

/* Returns the size of the PDU that was taken, NO_PDU when it is not whole, or BAD_PDU. */
static int64_t take_pdu(struct connection *connection, const uint8_t *pdu, size_t have)
{
    if (have < USBIP_HEADER_SIZE)
        return NO_PDU;
    uint32_t seqnum = usbip_load_be32(pdu + SEQNUM_AT), ep = usbip_load_be32(pdu + EP_AT);
    bool in = usbip_load_be32(pdu + DIRECTION_AT) == USBIP_DIR_IN;
    uint32_t length = usbip_load_be32(pdu + LENGTH_AT);
    if (usbip_load_be32(pdu + COMMAND_AT) == USBIP_CMD_UNLINK) {
        take_unlink(connection, pdu);
        return USBIP_HEADER_SIZE;
    }
    if (usbip_load_be32(pdu + COMMAND_AT) != USBIP_CMD_SUBMIT || length > PATTERN_MAX_SIZE)
        return BAD_PDU;
    if (!in && ep == BULK && connection->role != ECHO) {
        connection->skip = length;
        connection->skip_seqnum = seqnum;
        connection->skip_length = length;
        if (length == 0)
            reply(connection, seqnum, 0, NULL, 0);
        return USBIP_HEADER_SIZE;
    }
    size_t size = USBIP_HEADER_SIZE + (in ? 0 : length);
    if (have < size)
        return NO_PDU;
    bool well = true;
    if (ep == 0)
        answer_control(connection, seqnum, pdu + SETUP_AT, length, in);
    else if (in && ep == BULK && connection->role != SINK)
        well = take_in(connection, seqnum, length);
    else if (!in)
        well = take_out(connection, seqnum, pdu + USBIP_HEADER_SIZE, length);
    return well ? (int64_t)size : BAD_PDU;
}

/* ---- Input ---- */

static int64_t take_skipped(struct connection *connection, size_t have)
{
    size_t size = min_size(connection->skip, have);
    connection->skip -= size;
    if (connection->skip == 0)
        reply(connection, connection->skip_seqnum, 0, NULL, connection->skip_length);
    return (int64_t)size;
}

/* The bytes that pieces point to are about to be overwritten. */
static bool keep_pieces(struct connection *connection)
{
    for (size_t i = connection->first_piece; i < connection->end_piece; i++) {
        struct piece *piece = &connection->pieces[i % MAX_WAITING];
        if (piece->owned)
            continue;
        piece->owned = malloc(piece->size);
        if (!piece->owned)
            return false;
        piece->data = memcpy(piece->owned, piece->data, piece->size);
    }
    return true;
}

static bool send_all(struct connection *connection)
{
    if (outbox_send(&connection->outbox, connection->socket, 0) < 0)
        return false;
    for (; connection->sent_piece < connection->first_piece; connection->sent_piece++) {
        struct piece *piece = &connection->pieces[connection->sent_piece % MAX_WAITING];
        free(piece->owned);
        piece->owned = NULL;
    }
    return true;
}

/* more: the next read comes before the answers are sent. */
static bool take_input(struct connection *connection, bool more)
{
    size_t at = 0;
    int64_t taken = 1;
    while (taken > 0 && at < connection->size) {
        size_t have = connection->size - at;
        if (!outbox_has_room(&connection->outbox, 3) && !send_all(connection))
            return false;
        taken = connection->skip > 0 ? take_skipped(connection, have)
                                     : take_pdu(connection, connection->buffer + at, have);
        if (taken > 0)
            at += (size_t)taken;
    }
    while (!more && !outbox_is_empty(&connection->outbox)) {
        if (!send_all(connection))
            return false;
        answer_ins(connection); /* those for which there was no room */
    }
    if (taken == BAD_PDU || !keep_pieces(connection))
        return false;
    connection->size -= at;
    memmove(connection->buffer, connection->buffer + at, connection->size);
    return true;
}

/*
 * A sink drops what it reads, so it can read again before it answers, and answers more at once.
 * Found by trying: worth it after a full read, and of large transfers after a quarter of one.
 */
static bool more_is_coming(const struct connection *connection, size_t size, size_t room)
{
    return size == room || (size >= MANY_BYTES && connection->skip_length >= LARGE_OUT);
}

static void serve_urbs(struct connection *connection)
{
    bool more = false; /* is there, probably */
    for (;;) {
        size_t room = min_size(READ_SIZE, BUFFER_SIZE - connection->size);
        ssize_t size = recv(connection->socket, connection->buffer + connection->size, room,
                            more ? MSG_DONTWAIT : 0);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && errno == EAGAIN)
            size = 0;
        else if (size <= 0)
            return;
        more = connection->role == SINK && more_is_coming(connection, (size_t)size, room);
        connection->size += (size_t)size;
        if (!take_input(connection, more))
            return;
    }
}

/* ---- Operations ---- */

static void describe(enum role role, struct usbip_device_record *record)
{
    *record = (struct usbip_device_record){
        .busnum = 1,
        .devnum = role,
        .speed = USBIP_SPEED_HIGH,
        .idVendor = 0x1209,
        .idProduct = 0x000d,
        .bDeviceClass = USB_CLASS_COMM,
        .bNumConfigurations = 1,
        .bNumInterfaces = 2,
    };
    snprintf(record->busid, sizeof record->busid, "1-%d", (int)role);
    snprintf(record->path, sizeof record->path, "/reference/1-%d", (int)role);
}

static void send_devlist(int fd)
{
    enum { RECORD_SIZE = USBIP_DEVICE_RECORD_SIZE + 2 * USBIP_INTERFACE_RECORD_SIZE };
    uint8_t bytes[USBIP_DEVLIST_REPLY_HEADER_SIZE + SOURCE * RECORD_SIZE];
    uint8_t *at = bytes + USBIP_DEVLIST_REPLY_HEADER_SIZE;
    usbip_encode_op_common(bytes, &(struct usbip_op_common){USBIP_VERSION, OP_REP_DEVLIST, 0});
    usbip_store_be32(bytes + USBIP_OP_COMMON_SIZE, SOURCE);
    for (enum role role = ECHO; role <= SOURCE; role++) {
        struct usbip_device_record record;
        describe(role, &record);
        usbip_encode_device_record(at, &record);
        at += USBIP_DEVICE_RECORD_SIZE;
        usbip_encode_interface_record(
            at, &(struct usbip_interface_record){USB_CLASS_COMM, CDC_SUBCLASS_ACM, 0});
        at += USBIP_INTERFACE_RECORD_SIZE;
        usbip_encode_interface_record(at,
                                      &(struct usbip_interface_record){USB_CLASS_CDC_DATA, 0, 0});
        at += USBIP_INTERFACE_RECORD_SIZE;
    }
    send(fd, bytes, sizeof bytes, MSG_NOSIGNAL);
}

static bool answer_import(struct connection *connection)
{
    uint8_t busid_bytes[USBIP_BUSID_SIZE], bytes[USBIP_IMPORT_REPLY_SIZE];
    char busid[USBIP_BUSID_SIZE + 1];
    struct usbip_device_record record;
    if (recv(connection->socket, busid_bytes, sizeof busid_bytes, MSG_WAITALL) !=
        sizeof busid_bytes)
        return false;
    usbip_decode_busid(busid_bytes, busid);
    for (enum role role = ECHO; role <= SOURCE; role++) {
        describe(role, &record);
        if (strcmp(record.busid, busid) == 0)
            connection->role = role;
    }
    uint32_t status = connection->role ? USBIP_ST_OK : USBIP_ST_NODEV;
    size_t size = connection->role ? sizeof bytes : USBIP_OP_COMMON_SIZE;
    describe(connection->role, &record);
    usbip_encode_op_common(bytes, &(struct usbip_op_common){USBIP_VERSION, OP_REP_IMPORT, status});
    usbip_encode_device_record(bytes + USBIP_OP_COMMON_SIZE, &record);
    return send(connection->socket, bytes, size, MSG_NOSIGNAL) == (ssize_t)size && connection->role;
}

static void serve_operation(struct connection *connection)
{
    uint8_t bytes[USBIP_OP_COMMON_SIZE];
    struct usbip_op_common common;
    if (recv(connection->socket, bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
        return;
    usbip_decode_op_common(bytes, &common);
    if (common.code == OP_REQ_DEVLIST)
        send_devlist(connection->socket);
    else if (common.code == OP_REQ_IMPORT && answer_import(connection))
        serve_urbs(connection);
}

static void *serve(void *argument)
{
    struct connection *connection = argument;
    connection->buffer = malloc(BUFFER_SIZE);
    connection->ins = calloc(MAX_WAITING, sizeof *connection->ins);
    connection->pieces = calloc(MAX_WAITING, sizeof *connection->pieces);
    if (outbox_init(&connection->outbox, ANSWERS_PER_WRITE, OUTBOX_COPY_LIMIT) &&
        connection->buffer && connection->ins && connection->pieces)
        serve_operation(connection);
    for (size_t i = 0; connection->pieces && i < MAX_WAITING; i++)
        free(connection->pieces[i].owned);
    outbox_free(&connection->outbox);
    free(connection->pieces);
    free(connection->ins);
    free(connection->buffer);
    close(connection->socket);
    free(connection);
    return NULL;
}

/* ---- The process ---- */

static void accept_clients(int listener)
{
    const int on = 1;
    for (;;) {
        pthread_t thread;
        int fd = accept(listener, NULL, NULL);
        struct connection *connection = fd >= 0 ? calloc(1, sizeof *connection) : NULL;
        if (!connection) {
            if (fd >= 0)
                close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection->socket = fd;
        if (pthread_create(&thread, NULL, serve, connection) == 0) {
            pthread_detach(thread);
        } else {
            close(fd);
            free(connection);
        }
    }
}

static void run(int listener, void *context)
{
    (void)context;
    accept_clients(listener);
}

bool ceiling_start(struct ceiling *ceiling, char error_text[ERROR_TEXT_SIZE])
{
    ceiling->pid = child_start(run, NULL, ceiling->address, error_text);
    return ceiling->pid > 0;
}

void ceiling_stop(struct ceiling *ceiling)
{
    child_stop(ceiling->pid);
}
