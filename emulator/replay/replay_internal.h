/* The state of a replay, shared by replay.c (life, what the device says), replay_host.c (what the
 * host sends) and report.c. */
#ifndef EMULATOR_REPLAY_REPLAY_INTERNAL_H
#define EMULATOR_REPLAY_REPLAY_INTERNAL_H

#include "emulator/replay/plan.h"
#include "emulator/replay/replay.h"

enum {
    REPLAY_SHOWN_DATA = 64, /* bytes in messages and reports */
    REPLAY_BEFORE = 5,      /* what is told of before a divergence */
    REPLAY_NO_TRANSFER = UINT32_MAX,
};

struct replay_cursor {
    struct usbip_replay *replay;
    struct replay_endpoint *endpoint;
    uint32_t next; /* of its answers, or the first of its asks that has not come; not endpoint 0 */
    uint32_t offset; /* bytes of it that are done */
    bool after_full; /* IN: the last transfer was filled, so an empty one means something */
    bool asked;      /* IN: data and, in timed mode, due_us are of the present answer */
    struct usbip_replay_bytes data;
    uint8_t *edited; /* data, when a hook has changed them */
    uint64_t due_us;
    struct usbip_timer timer; /* timed mode */
    /* FTDI */
    uint8_t status[2];
    uint64_t last_sent_us;
    struct usbip_timer latency_timer;
    struct usbip_replay_counters counters;
};

struct replay_report {
    uint64_t divergences, logged;
    uint32_t before[REPLAY_BEFORE]; /* transfers that matched last, a ring */
    uint64_t before_count;
    /* The first divergence. */
    bool has_first;
    enum usbip_divergence_kind kind;
    uint8_t endpoint;
    uint32_t record, first_before[REPLAY_BEFORE], first_before_count;
    char *text; /* what the log said */
    char expected[2 * REPLAY_SHOWN_DATA + 24], got[2 * REPLAY_SHOWN_DATA + 24];
    char expected_setup[2 * USBIP_SETUP_SIZE + 1], got_setup[2 * USBIP_SETUP_SIZE + 1];
};

struct usbip_replay {
    struct usbip_replay_options options;
    char *path;
    struct usbip_capture *capture;
    unsigned index; /* of the device in the capture */
    struct usbip_description description;
    struct replay_plan plan;
    struct usbip_device *device;
    struct usbip_scheduler *scheduler;
    struct replay_cursor cursors[USBIP_CAPTURE_ENDPOINTS]; /* of plan.endpoints */
    bool *done;                                            /* by ask */
    uint32_t prefix;                                       /* all asks before this one are done */
    /* By port: where to look for the next request in the asks of endpoint 0; FTDI's latency timer.
     */
    uint32_t next_request[REPLAY_MAX_PORTS], latency_ms[REPLAY_MAX_PORTS];
    uint64_t steps; /* that USBIP_REPLAY_STEP has left */
    bool touched;   /* this session, or round, something came or went */
    bool attached;  /* there has been a client */
    bool pumping;
    uint32_t round; /* of USBIP_REPLAY_LOOP */
    struct usbip_timer end_timer;
    struct replay_report report;
};

static inline const struct usbip_capture_transfer *
replay_transfer(const struct usbip_replay *replay, uint32_t index)
{
    return &replay->capture->transfers[index];
}

/* The record to look at: of the submission where there is one. */
static inline uint32_t replay_record(const struct usbip_capture_transfer *transfer)
{
    return transfer->submit_record ? transfer->submit_record : transfer->complete_record;
}

/* Lets all IN endpoints say what they may say now. */
void replay_pump(struct usbip_replay *replay);

/* The behaviour's hooks for what the host sends; replay_host.c. */
bool replay_on_control(void *context, struct usbip_urb *urb);
bool replay_on_out(void *context, uint8_t endpoint, const uint8_t *data, size_t size);
/* What has not come by the end of a session. */
void replay_count_missing(struct usbip_replay *replay);
/* Optional asks and, out of strict mode, reads keep nothing from being said. */
void replay_forget_host(struct usbip_replay *replay);

/* Notes that a transfer of the recording has happened again; report.c. */
void replay_matched(struct usbip_replay *replay, struct replay_cursor *cursor, uint32_t transfer);
/* Returns false when a hook says that it is none. */
bool replay_diverged(struct usbip_replay *replay, const struct usbip_divergence *divergence,
                     struct usbip_replay_bytes *answer);
void replay_report_free(struct replay_report *report);

#endif
