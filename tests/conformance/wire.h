/*
 * One raw TCP connection to the server under test. It sends what it is told to, right or wrong, and
 * cuts what comes back into PDUs without hiding anything.
 */
#ifndef TESTS_CONFORMANCE_WIRE_H
#define TESTS_CONFORMANCE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/buffer.h"
#include "protocol/usb.h"
#include "protocol/usbip.h"

enum {
    WIRE_LOG_LINES = 48, /* of an exchange are kept: the first half and the last */
    WIRE_LOG_LINE_SIZE = 320,
    WIRE_LOG_SHOWN = 64, /* bytes of a payload that a line shows, in hex */
    WIRE_LOG_HEX_SIZE = 3 * WIRE_LOG_SHOWN + 4,
    WIRE_MAX_PAYLOAD = 16 << 20, /* bytes in one reply; more is a stream that is out of step */
    WIRE_MAX_UNREAD = 64 << 20,  /* bytes from the server that no case has looked at */
    WIRE_MAX_UNASKED = 10000,    /* replies that answer nothing */
};

/* What went over the connections of one case, decoded, for the report of a failure. */
struct wire_log {
    char first[WIRE_LOG_LINES / 2][WIRE_LOG_LINE_SIZE];
    char last[WIRE_LOG_LINES / 2][WIRE_LOG_LINE_SIZE]; /* a ring */
    size_t count;                                      /* lines that were added in all */
};

/* Text from the other side must neither talk to the terminal nor break a line or an encoding: all
 * but printable ASCII becomes '?'. */
void wire_make_plain(char *text);

/* One line, as printf, made plain. */
void wire_log_add(struct wire_log *log, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes in hex, as far as a line shows them; returns text. */
const char *wire_log_hex(const void *data, size_t size, char text[WIRE_LOG_HEX_SIZE]);
/* One line with bytes of the connection `tag`. */
void wire_log_bytes(struct wire_log *log, char tag, const char *what, const void *bytes,
                    size_t size);

enum wire_event {
    WIRE_OK,     /* bytes, or a PDU */
    WIRE_CLOSED, /* FIN or RST */
    WIRE_SILENT, /* nothing (more) within the time */
    WIRE_DESYNC, /* what came is not a RET_SUBMIT or RET_UNLINK */
};

struct wire_pdu {
    struct usbip_header header;
    uint8_t bytes[USBIP_HEADER_SIZE];
    uint8_t *payload; /* owned by the wire until it is closed */
    size_t payload_size;
    uint32_t packet_count;  /* isochronous: descriptors behind the payload, */
    const uint8_t *packets; /* USBIP_ISO_PACKET_DESCRIPTOR_SIZE bytes each */
    bool known;             /* it answers a request that was pending */
    bool answers_unlink;    /* the request was a CMD_UNLINK */
    bool in;                /* the request was a CMD_SUBMIT for IN */
    uint32_t requested;     /* its transfer_buffer_length */
};

/* A request that was sent. */
struct wire_request {
    uint32_t seqnum;
    uint32_t length;
    bool unlink, in, isochronous, answered;
};

struct wire {
    int fd; /* -1: closed */
    char tag;
    struct wire_log *log;
    struct usbip_buffer in;
    size_t start; /* of what is unread in `in` */
    bool ended;   /* the server has closed its side, or reset */
    bool reset;
    bool deaf; /* do not read while sending */
    uint32_t devid, next_seqnum;
    struct wire_request *requests;
    size_t request_count, request_capacity, first_pending;
    struct wire_pdu **pdus; /* all that have come, in order */
    size_t pdu_count, pdu_capacity;
    unsigned unasked;           /* replies that answer nothing */
    long long unasked_until_ms; /* how long they are put up with; 0: all that came was asked for */
    int timeout_ms;
};

/*
 * Connects to "HOST:PORT" within timeout_ms, which is also how long every wait of this wire lasts.
 * Returns 0, or -1 with the reason in the log. Anyhow wire_close() has to follow.
 */
int wire_open(struct wire *wire, const char *host, const char *port, int timeout_ms, char tag,
              struct wire_log *log);
void wire_close(struct wire *wire);
/* The same, with RST in place of FIN. */
void wire_abort(struct wire *wire);
/* From now on it is as if the client had lost its power: nothing is read, acknowledged or closed.
 * Returns false where the system cannot do that. */
bool wire_vanish(struct wire *wire);
/* Closes the direction to the server only. */
void wire_end_sending(struct wire *wire);

/*
 * Sends bytes, and reads meanwhile what comes. Returns false when the server has closed the
 * connection, or does not read for as long as the time-out.
 */
bool wire_send(struct wire *wire, const void *bytes, size_t size);
/* The same in segments of `piece` bytes, one every pause_ms. */
bool wire_send_pieces(struct wire *wire, const void *bytes, size_t size, size_t piece,
                      int pause_ms);

/* Waits until `size` bytes are there and takes them; none is taken otherwise. */
enum wire_event wire_read(struct wire *wire, void *bytes, size_t size);
/* The same, but they are not taken. */
bool wire_peek(struct wire *wire, void *bytes, size_t size);
/* Waits for the end of the stream, however much comes; *left is how many bytes came before it. */
enum wire_event wire_read_end(struct wire *wire, size_t *left);

/* ---- URB phase ---- */

/*
 * Encodes a CMD_SUBMIT with this wire's devid; a seqnum of 0 in the header takes the next one. The
 * payload (OUT) is transfer_buffer_length bytes, or what payload_size says.
 */
struct wire_submit {
    uint32_t seqnum; /* when with_seqnum; otherwise the next */
    bool with_seqnum;
    uint32_t devid_xor; /* 0: the right one */
    uint32_t direction, ep, flags, length;
    int32_t start_frame, number_of_packets, interval;
    uint8_t setup[USBIP_SETUP_SIZE];
    const void *payload; /* for OUT: length bytes */
    /* Isochronous: number_of_packets of them; NULL: not isochronous. */
    const struct usbip_iso_packet_descriptor *packets;
};

/* Appends the PDU to a buffer, and notes it as pending. Returns its seqnum. */
uint32_t wire_append_submit(struct wire *wire, struct usbip_buffer *buffer,
                            const struct wire_submit *submit);
uint32_t wire_append_unlink(struct wire *wire, struct usbip_buffer *buffer, uint32_t victim);
uint32_t wire_append_control(struct wire *wire, struct usbip_buffer *buffer,
                             const struct usbip_setup *setup, const void *payload);

/* Sends one PDU. Each returns its seqnum; that the server is gone shows when the reply is read. */
uint32_t wire_submit(struct wire *wire, const struct wire_submit *submit);
uint32_t wire_unlink(struct wire *wire, uint32_t victim);
uint32_t wire_control(struct wire *wire, const struct usbip_setup *setup, const void *payload);

/* The next PDU that comes; *pdu is valid until the wire is closed. */
enum wire_event wire_next(struct wire *wire, struct wire_pdu **pdu);
/* The PDU with this seqnum, among those that have come already and those that come. */
enum wire_event wire_wait(struct wire *wire, uint32_t seqnum, struct wire_pdu **pdu);
/* The position of that PDU in order of arrival, from 0; -1 when it has not come. */
long wire_position(const struct wire *wire, uint32_t seqnum);

#endif
