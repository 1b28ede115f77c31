/*
 * The inside of a host session.
 *
 *   session.c      life, PDUs, URBs
 *   session_op.c   the request that starts it, and its reply
 */
#ifndef CLIENT_SESSION_INTERNAL_H
#define CLIENT_SESSION_INTERNAL_H

#include "client/session.h"
#include "protocol/buffer.h"

enum { GET_STATUS_LENGTH = 2 }; /* what the nudge asks for */

enum phase {
    PHASE_NEW,            /* nothing requested yet */
    PHASE_DEVLIST_HEADER, /* OP_REP_DEVLIST up to ndev */
    PHASE_DEVLIST_RECORD,
    PHASE_DEVLIST_END, /* all is said; nothing can fail any more */
    PHASE_IMPORT,      /* OP_REP_IMPORT */
    PHASE_URB,
    PHASE_FAILED,
};

/*
 * What a seqnum in flight stands for, at index seqnum & mask. Seqnums are given out in turn and
 * pass over taken slots, so two of them never meet in one slot and a look-up needs no search.
 */
struct slot {
    uint32_t seqnum; /* 0: free */
    bool is_unlink;  /* of the CMD_UNLINK for the transfer; else of its CMD_SUBMIT */
    struct usbip_transfer *transfer;
};

/* A transfer that a RET_UNLINK ended: enough to swallow a RET_SUBMIT that comes too late. */
struct unlinked {
    uint32_t seqnum; /* 0: empty, or already swallowed */
    bool is_in;
    uint32_t length;
};

struct usbip_host_session {
    struct usbip_host_session_events events;
    void *context;

    enum phase phase;
    int error;
    char error_text[USBIP_ERROR_TEXT_SIZE];

    char busid[USBIP_BUSID_SIZE];
    uint32_t devid;
    uint32_t devices_left;

    struct usbip_buffer partial;
    struct usbip_layout layout; /* of readings in PHASE_URB */
    struct usbip_output outputs[2];
    struct usbip_output *output; /* of these: being filled */
    struct usbip_output *taken;  /* and handed out */

    struct slot *slots;
    uint32_t slot_capacity;
    uint32_t slots_used;
    uint32_t next_seqnum;

    /* In flight, in the order of submission; the nudge is among them. */
    struct usbip_transfer *first;
    struct usbip_transfer *last;
    unsigned in_flight; /* without the nudge */

    struct unlinked unlinked[USBIP_RECENTLY_UNLINKED];
    unsigned next_unlinked;

    /*
     * No transfer wants attention before. It may be too early, for the end of a transfer leaves it
     * alone; then advance() looks at all transfers and finds the right one.
     */
    uint64_t deadline_ms;

    struct usbip_transfer nudge;
    uint8_t nudge_data[GET_STATUS_LENGTH];
    bool nudge_in_flight;
};

/* Ends the session and all its transfers. Returns what it ended with: the first failure wins. */
__attribute__((format(printf, 3, 4))) int
usbip_host_session_give_up(struct usbip_host_session *session, int error, const char *format, ...);

/* ---- session_op.c: the reply to OP_REQ_DEVLIST or OP_REQ_IMPORT, as struct usbip_framing ---- */

int64_t usbip_host_session_op_size(struct usbip_host_session *session, const uint8_t *bytes,
                                   size_t have);
/* Negative when the session is over, well or not. */
int usbip_host_session_op(struct usbip_host_session *session, const uint8_t *bytes);

#endif
