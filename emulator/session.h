/*
 * Device session: the server's side of one USB/IP connection, without any I/O.
 *
 * It is fed the bytes that come from a client and asked for the bytes to send. It owns no socket,
 * clock or thread: the same engine runs behind TCP, in a simulation and under a fuzzer.
 */
#ifndef EMULATOR_SESSION_H
#define EMULATOR_SESSION_H

#include "emulator/bus.h"
#include "emulator/fault_link.h"
#include "protocol/output.h"

enum {
    USBIP_SESSION_MAX_TRANSFER = 4 << 20,     /* transfer_buffer_length of an OUT URB, bytes */
    USBIP_SESSION_MAX_URBS = 4096,            /* waiting on one device */
    USBIP_SESSION_MAX_PENDING_OUT = 16 << 20, /* bytes of OUT URBs that wait on one device */
    USBIP_SESSION_OUTPUT_LIMIT = 1 << 20,  /* bytes waiting to be sent before input is held back */
    USBIP_SESSION_MAX_WITHHELD = 64 << 10, /* bytes of RET_UNLINKs that wait for a completion */
};

struct usbip_device_session;

struct usbip_device_session_events {
    /*
     * There is something new for the owner to do. For output to take it is called once until
     * usbip_device_session_take_output() or _pieces() is called, and once more when the session is
     * over; it may come from within any call, so it must not call the session.
     */
    void (*wake)(void *context);
};

/*
 * peer names the client in messages. The bus must outlive the session. Returns NULL when memory is
 * out.
 */
struct usbip_device_session *
usbip_device_session_new(struct usbip_bus *bus, const char *peer,
                         const struct usbip_device_session_events *events, void *context);

/* Releases the device, if one is imported. NULL is allowed. */
void usbip_device_session_free(struct usbip_device_session *session);

/*
 * Feeds bytes from the client. Returns 0, or -1 when the session is over (also when it was before):
 * send the output that is left, then close. The reason has been logged.
 */
int usbip_device_session_receive(struct usbip_device_session *session, const uint8_t *data,
                                 size_t size);

/*
 * The same, but afterwards output may lie in `data`: as long as the session borrows, `data` must
 * stay as it is. Take the output, then let the rest settle.
 */
int usbip_device_session_receive_in_place(struct usbip_device_session *session, const uint8_t *data,
                                          size_t size);
/*
 * How much to read, of at most so much: so that the last of large PDUs is not cut, if the client
 * goes on as it did. What is cut has to be put together elsewhere.
 */
size_t usbip_device_session_read_size(const struct usbip_device_session *session, size_t most);
bool usbip_device_session_borrows(const struct usbip_device_session *session);
/* Copies what is left to take of borrowed data. Where memory is out the session is over. */
void usbip_device_session_settle(struct usbip_device_session *session);

/* The client has closed its side. A PDU cut short is logged. */
void usbip_device_session_end_of_input(struct usbip_device_session *session);

/*
 * Takes all bytes that wait to be sent, or the first piece of them where a fault wants pieces: send
 * each by itself. *data is valid until the next call of this function. Returns their number.
 */
size_t usbip_device_session_take_output(struct usbip_device_session *session, const uint8_t **data);
/*
 * The same in at most USBIP_OUTPUT_MAX_PIECES pieces, to be sent together in their order. *pieces
 * is valid until the next call that takes output, what it points to too, but that of passing pieces
 * only as long as what was received.
 */
size_t usbip_device_session_take_pieces(struct usbip_device_session *session,
                                        const struct usbip_output_piece **pieces, size_t *count);
size_t usbip_device_session_output_size(const struct usbip_device_session *session);

/* True while a fault holds output back that is not part of the size above: the connection stays
 * open for it, also when the session is over, and wake is called when it may leave. */
bool usbip_device_session_holds_output(const struct usbip_device_session *session);

/* False while so much output waits that no more input should be read. */
bool usbip_device_session_wants_input(const struct usbip_device_session *session);

/* True when the connection is to be closed once the output is sent. */
bool usbip_device_session_is_over(const struct usbip_device_session *session);

/* How a connection that is over ends, if a fault says so: with FIN while the client may still send,
 * or with RST. */
enum usbip_cut usbip_device_session_cut(const struct usbip_device_session *session);

/* Whether a device is imported. It is free again when the session is, so a session that is over and
 * has one is not worth waiting for until a slow client has taken the rest of the output. */
bool usbip_device_session_has_device(const struct usbip_device_session *session);

/* ---- For the device ---- */

/* False while so much output waits that URBs should too; usbip_device_resume() is called then
 * later. */
bool usbip_device_session_has_room(struct usbip_device_session *session);

/* Room for a RET_SUBMIT's payload in the output, behind its header to come. NULL: out of memory. */
uint8_t *usbip_device_session_reserve(struct usbip_device_session *session, uint32_t size);
/* Appends RET_SUBMIT with this payload; NULL: it has been written to the reserved room. */
void usbip_device_session_complete(struct usbip_device_session *session,
                                   const struct usbip_urb *urb, int32_t status,
                                   uint32_t actual_length, const uint8_t *payload,
                                   uint32_t payload_size);

/* Another session has the device now. The connection stays open, but nothing is answered. */
void usbip_device_session_lose_device(struct usbip_device_session *session);

/* Ends the session: the device is unplugged, or a request is none that this server survives. */
void usbip_device_session_disconnect(struct usbip_device_session *session, const char *reason);

#endif
