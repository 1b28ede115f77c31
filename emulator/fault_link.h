/*
 * What faults do to one connection. The session owns the link, and lets it see each reply that has
 * been written, the input before it is cut into PDUs, and the output before it is taken. While
 * `active` is false there is nothing to do, and none of this is called.
 */
#ifndef EMULATOR_FAULT_LINK_H
#define EMULATOR_FAULT_LINK_H

#include "emulator/fault.h"
#include "protocol/buffer.h"

enum usbip_reply_kind {
    USBIP_REPLY_DEVLIST,
    USBIP_REPLY_IMPORT,
    USBIP_REPLY_SUBMIT,
    USBIP_REPLY_UNLINK
};

/* One PDU that the session sends. */
struct usbip_reply {
    enum usbip_reply_kind kind;
    uint8_t endpoint; /* SUBMIT: bEndpointAddress; UNLINK: that of the URB, if it was waiting */
    bool in;          /* its direction */
    bool unlinked;    /* UNLINK: the URB was waiting, and is gone */
    uint32_t unlinked_seqnum;
};

/* How a connection ends that a fault has cut. */
enum usbip_cut { USBIP_CUT_NONE, USBIP_CUT_CLOSE, USBIP_CUT_RESET };

struct usbip_held_reply;

struct usbip_fault_link {
    struct usbip_faults *faults;
    const struct usbip_device *device; /* what the connection is attached to, or NULL */
    struct usbip_fault_link *next, *previous;
    bool active;
    struct usbip_fault_progress progress;
    struct usbip_timer timer; /* replies are due, reading goes on, or output may leave again */

    struct usbip_held_reply *held, *last_held; /* in the order in which they leave */
    struct usbip_held_reply *swapping;         /* the one of them that waits for another */
    struct usbip_held_reply *late;             /* those that wait for nobody, as they are due */
    size_t held_bytes;                         /* of both */

    uint64_t output_opens_us;  /* no output before */
    uint64_t reading_opens_us; /* while stopped_by is set */
    unsigned stopped_by;       /* id of the fault that has stopped reading; 0: none */
    struct usbip_buffer unread;
    bool refused; /* the reply to an import was made a refusal: the session is to end */
};

/* timer.fired of the link is called when usbip_fault_link_release() and _unread() have news. */
void usbip_fault_link_init(struct usbip_fault_link *link, struct usbip_faults *faults,
                           void (*fired)(struct usbip_timer *timer), void *user);
void usbip_fault_link_free(struct usbip_fault_link *link);

/*
 * A reply has been appended to the output, from `start` to its end: changes it there, or takes it
 * away to hold it back. Returns 0, or -1 when memory is out.
 */
int usbip_fault_link_reply(struct usbip_fault_link *link, struct usbip_buffer *output, size_t start,
                           const struct usbip_reply *reply);

/* Appends the replies that are due to the output. Returns 0, or -1 when memory is out. */
int usbip_fault_link_release(struct usbip_fault_link *link, struct usbip_buffer *output);
/* Forgets the replies that are held back. */
void usbip_fault_link_drop(struct usbip_fault_link *link);

/*
 * Input has come: returns how many bytes of it may be read now; the rest is kept. Negative: out of
 * memory.
 */
int64_t usbip_fault_link_admit(struct usbip_fault_link *link, const uint8_t *data, size_t size);
/* What was kept, when reading goes on; the caller frees it. */
struct usbip_buffer usbip_fault_link_unread(struct usbip_fault_link *link);

/* Of `size` bytes of output, how many leave now in one piece, and whether the connection ends right
 * behind them. */
size_t usbip_fault_link_let_out(struct usbip_fault_link *link, size_t size, enum usbip_cut *cut);
static inline bool usbip_fault_link_is_shut(const struct usbip_fault_link *link)
{
    return link->output_opens_us > 0 && link->output_opens_us > link->faults->scheduler->now_us;
}

/* A fault is about to be removed. */
void usbip_fault_link_removed(struct usbip_fault_link *link, unsigned id);

#endif
