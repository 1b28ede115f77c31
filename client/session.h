/*
 * Host session: the client's side of one USB/IP connection, without any I/O.
 *
 * The session is fed the bytes that come from the server and asked for the bytes to send; time is
 * an argument. It owns no socket, clock or thread, so the same engine runs over TCP, in a
 * simulation and under a fuzzer. It is used by one thread at a time.
 *
 * Life: start with one request (devlist or import); after an import has succeeded transfers may be
 * submitted. Every submitted transfer ends exactly once, by a call of its `done`.
 */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/error.h"
#include "client/layout.h"
#include "protocol/output.h"
#include "protocol/usb.h"
#include "protocol/usbip.h"

enum {
    USBIP_MAX_TRANSFERS = 4096,          /* in flight on one session */
    USBIP_MAX_TRANSFER_LENGTH = 4 << 20, /* bytes of one transfer */
    USBIP_MAX_LISTED_DEVICES = 4096,     /* in one OP_REP_DEVLIST */
    USBIP_RECENTLY_UNLINKED = 256,       /* transfers remembered after RET_UNLINK */
    USBIP_UNLINK_NUDGE_MS = 500,         /* no RET_UNLINK for so long: send a GET_STATUS */
    USBIP_UNLINK_TIMEOUT_MS = 2000,      /* no RET_UNLINK for so long: give the connection up */
};

struct usbip_host_session;

/*
 * One USB transfer, owned by the caller and untouched by it from submit until `done`. Fill in the
 * first part; zero the rest.
 */
struct usbip_transfer {
    uint8_t endpoint;         /* bEndpointAddress; 0 for control, whatever the direction */
    uint8_t type;             /* USB_ENDPOINT_XFER_CONTROL, _BULK or _INT */
    struct usbip_setup setup; /* control only; wLength is the length of the data stage */
    uint8_t *buffer;          /* OUT: copied by submit, as a rule. IN: at least length bytes */
    uint32_t length;          /* bytes to move; for control it must equal setup.wLength */
    uint32_t transfer_flags;  /* USBIP_URB_SHORT_NOT_OK, USBIP_URB_ZERO_PACKET or 0 */
    /*
     * Nothing is copied. IN: `payload` is enough; buffer may be NULL. OUT: buffer is sent from
     * where it is. It must be there as long as the session, and stay as it is until it has been
     * sent: a server can end a transfer before that, and if buffer changes then, so does what it
     * gets.
     */
    bool in_place;
    uint32_t interval;   /* interrupt only: polling interval, at least 1 is sent */
    uint32_t timeout_ms; /* 0: none; else unlinked then, and ends with -USBIP_ETIMEDOUT */
    void (*done)(struct usbip_transfer *transfer);
    void *user;

    /* Results, valid from `done` on. */
    int32_t status;         /* 0 or a negative wire errno; never positive */
    uint32_t actual_length; /* bytes moved; may be > 0 although status is not 0 */
    const uint8_t *payload; /* IN, during `done` only: these bytes where they were received */

    /* The session's own. */
    uint32_t seqnum;
    uint32_t unlink_seqnum; /* of the CMD_UNLINK; 0: none sent */
    uint64_t deadline_ms;
    uint64_t unlink_sent_ms;
    bool timed_out, nudged;
    struct usbip_transfer *next, *previous;
};

/* What the server answers to the request that starts the session. Each may be NULL. */
struct usbip_host_session_events {
    /* One device of OP_REP_DEVLIST; the interfaces are valid during the call. */
    void (*device)(void *context, const struct usbip_device_record *record,
                   const struct usbip_interface_record *interfaces, unsigned interface_count);
    /* The whole list has been handed on. The server closes the connection. */
    void (*devlist_end)(void *context);
    /* The device is ours; transfers may be submitted, also from within. */
    void (*imported)(void *context, const struct usbip_device_record *record);
    /* The request failed with this enum usbip_op_status. The session is over. */
    void (*refused)(void *context, uint32_t status);
};

/* Returns NULL when memory is out. The events are copied. */
struct usbip_host_session *usbip_host_session_new(const struct usbip_host_session_events *events,
                                                  void *context);
/*
 * Ends all transfers as usbip_host_session_fail() does, then frees. NULL is allowed. This, receive,
 * expect, received and advance must not be called from within an event or a `done`; all other
 * functions may be.
 */
void usbip_host_session_free(struct usbip_host_session *session);

/* Exactly one of these two starts a session. Return 0 or a negative enum usbip_error. */
int usbip_host_session_request_devlist(struct usbip_host_session *session);
int usbip_host_session_request_import(struct usbip_host_session *session, const char *busid);

/*
 * Feeds bytes from the server. Calls events and `done`s from within. Returns 0, or a negative
 * error after which the connection must be closed; all transfers have then ended. What follows a
 * complete device list is ignored.
 */
int usbip_host_session_receive(struct usbip_host_session *session, const uint8_t *data,
                               size_t size);

/*
 * Receiving in pieces, the other way to feed a session. expect() says where the next bytes go: if
 * the server answers as it did, payloads come to lie in `memory`, one behind the other, and what
 * follows in `input`. Writes the pieces to pieces[USBIP_LAYOUT_MAX_PIECES] and returns their
 * number. received() takes `size` bytes, with which they were filled in their order, wherever they
 * came to lie, and returns as usbip_host_session_receive() does. Between the two calls nothing else
 * may be received; `memory` and `input` are used no more after the second, what they hold is
 * undefined.
 *
 * While a transfer ends, all payloads that are still to come lie behind its own: its memory before
 * that may be written to.
 */
size_t usbip_host_session_expect(struct usbip_host_session *session, uint8_t *memory, size_t size,
                                 uint8_t *input, size_t input_size,
                                 struct usbip_input_piece *pieces);
int usbip_host_session_received(struct usbip_host_session *session, size_t size);

/*
 * Takes all bytes that wait to be sent: *data is valid until the next call of this function, so
 * more may be queued while it is being sent. Returns their number, 0 for none. What is lent is
 * copied for that; when there is no memory for it the session fails, from within.
 */
size_t usbip_host_session_take_output(struct usbip_host_session *session, const uint8_t **data);
/* The same in pieces, to be sent in their order, with what is lent where it is. *pieces is valid
 * until the next call of either. */
size_t usbip_host_session_take_pieces(struct usbip_host_session *session,
                                      const struct usbip_output_piece **pieces, size_t *count);
/* How many bytes wait to be taken. */
size_t usbip_host_session_output_size(const struct usbip_host_session *session);

/*
 * Queues a transfer. Returns 0, or a negative error, in which case `done` is not called:
 * USBIP_ERROR_ARGUMENT (not imported, still in flight, length above the limit or not wLength, a
 * type, endpoint or flag other than said above), USBIP_ERROR_LIMIT (too many in flight),
 * USBIP_ERROR_MEMORY, USBIP_ERROR_DISCONNECTED (the session has failed).
 * A transfer may be submitted again from within its own `done`.
 */
int usbip_host_session_submit(struct usbip_host_session *session, struct usbip_transfer *transfer,
                              uint64_t now_ms);

/*
 * Asks for the end of a transfer in flight. It ends with -USBIP_ECONNRESET (or -USBIP_ETIMEDOUT
 * after its time-out), or as usual when it was complete before: whatever the server says first of
 * RET_SUBMIT and RET_UNLINK ends it. Asking twice is harmless.
 * On some servers data of an unlinked IN transfer is lost: never use this as a read time-out.
 */
void usbip_host_session_unlink(struct usbip_host_session *session, struct usbip_transfer *transfer,
                               uint64_t now_ms);

/*
 * Lets time pass: transfers over their time-out are unlinked, a RET_UNLINK that does not come is
 * nudged and then given up. Returns 0 or a negative error as usbip_host_session_receive() does.
 */
int usbip_host_session_advance(struct usbip_host_session *session, uint64_t now_ms);
/* When usbip_host_session_advance() wants to be called next; UINT64_MAX: never. */
uint64_t usbip_host_session_deadline_ms(const struct usbip_host_session *session);

/*
 * Ends the session from outside (connection lost, peer closed): every transfer in flight ends with
 * -USBIP_ESHUTDOWN, and what waits to be sent is dropped. error is negative; the first failure
 * wins; a session whose device list is complete can fail no more. text may be NULL.
 */
void usbip_host_session_fail(struct usbip_host_session *session, int error, const char *text);

/* 0 while the session is well, else the error that ended it. */
int usbip_host_session_error(const struct usbip_host_session *session);
/* That error in words, naming the offending PDU; "" while the session is well. */
const char *usbip_host_session_error_text(const struct usbip_host_session *session);

unsigned usbip_host_session_in_flight(const struct usbip_host_session *session);

#endif
