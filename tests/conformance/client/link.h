/*
 * One connection of the client under test: its requests on their way to the engine, and the
 * engine's replies on their way back, each of them looked at, logged, and changed as the case
 * wants.
 */
#ifndef TESTS_CONFORMANCE_CLIENT_LINK_H
#define TESTS_CONFORMANCE_CLIENT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emulator/session.h"
#include "protocol/buffer.h"
#include "protocol/usb.h"

enum { LINK_MAX_PAYLOAD = 4 << 20 }; /* bytes of one OUT transfer */

struct trial;

/* A CMD_SUBMIT or CMD_UNLINK that has no answer yet. */
struct request {
    uint32_t seqnum;
    bool unlink, in;
    uint8_t endpoint; /* bEndpointAddress; 0 for control */
    uint32_t length;  /* transfer_buffer_length */
    uint32_t victim;  /* CMD_UNLINK */
    struct usbip_setup setup;
    uint32_t given; /* OUT: so many of its bytes go to the device; a hook may lower it */
};

/* A RET_SUBMIT or RET_UNLINK of the engine, on its way to the client. */
struct reply {
    struct usbip_header header;
    uint8_t *payload;
    size_t payload_size;
    struct request request; /* that it answers */
    bool drop;              /* it is not sent; the request stays unanswered */
};

/* One connection of the client. */
struct link {
    int fd;
    char tag; /* in the log */
    struct trial *trial;
    struct usbip_device_session *session; /* NULL: over */
    struct usbip_buffer in, replies, out; /* parts of PDUs, and what is to be sent */
    bool imported;                        /* the URB phase */
    bool has_configuration, has_device_descriptor, has_configuration_descriptor; /* C026 */
    uint32_t devid;        /* as announced in OP_REP_IMPORT */
    uint32_t engine_devid; /* as the engine has it */
    struct request *pending;
    size_t pending_count, pending_capacity;
    uint32_t highest_seqnum; /* of a request */
    uint64_t requests;       /* of the URB phase that have come */

    bool ended;   /* FIN or RST of the client */
    bool reset;   /* it was RST */
    bool cut_off; /* in the middle of a PDU */
    bool no_more; /* we have sent FIN; what comes is not looked at */

    /* Set by cases. */
    bool deaf;      /* nothing is read */
    bool held;      /* nothing is sent */
    bool keep_open; /* no FIN although the engine is done with it */
    bool mute;      /* requests are not looked at any more */
    size_t piece;   /* bytes in a segment; 0: as many as there are */
    int pause_ms;   /* between segments */
    uint64_t next_us;
};

/* ---- For the server ---- */

/* A link on an accepted socket, which it closes. */
struct link *link_new(struct trial *trial, int fd, char tag);
void link_free(struct link *link);
/* Takes what has come, and sends what may be sent. The socket is non-blocking. */
void link_act(struct link *link);
/* What to wait for with poll(). */
short link_wanted_events(const struct link *link);
/* Whether there is something that may be sent, now or at next_us. */
bool link_has_output(const struct link *link);

/* ---- For cases ---- */

/* Sends bytes as they are. */
void link_send(struct link *link, const void *bytes, size_t size);
/* Sends a PDU with this header, behind all that waits. */
void link_send_pdu(struct link *link, const struct usbip_header *header, const void *payload,
                   size_t size);
void link_send_ret_submit(struct link *link, uint32_t seqnum, int32_t status,
                          uint32_t actual_length, const void *payload, size_t size);
void link_send_ret_unlink(struct link *link, uint32_t seqnum, int32_t status);
/* FIN, behind all that waits. */
void link_end(struct link *link);
/* RST, at once. */
void link_reset(struct link *link);
/* From now on no packet of the client arrives, as if the server had vanished. What the client has
 * not acknowledged yet would be sent again. Returns false when the system cannot do that. */
bool link_vanish(struct link *link);
/* Whether the client has acknowledged all that was sent. */
bool link_is_acknowledged(const struct link *link);

/* The index-th request that waits on this endpoint, or NULL. */
struct request *link_pending(struct link *link, uint8_t endpoint, unsigned index);
unsigned link_pending_count(const struct link *link, uint8_t endpoint);
/* Takes a transfer away from the engine and answers it in its place. */
void link_complete(struct link *link, const struct request *request, int32_t status,
                   uint32_t actual_length, const void *payload, size_t size);
/* The request is answered: its seqnum may be used again. */
void link_retire(struct link *link, uint32_t seqnum);

#endif
