/*
 * A recorded device that lives again: a behaviour (behaviour.h) on the raw function, made of a
 * capture. What it expects of the host and what it says to it is the plan (plan.h); what the host
 * did otherwise is the report. docs/captures.md says how it works for its users.
 *
 * The same commands give the same replies; only timed mode and FTDI's idle packets use the
 * scheduler.
 */
#ifndef EMULATOR_REPLAY_REPLAY_H
#define EMULATOR_REPLAY_REPLAY_H

#include <stdbool.h>
#include <stdio.h>

#include "emulator/capture/capture.h"
#include "emulator/device.h"

#define USBIP_REPLAY_MIN_SPEED 0.001
#define USBIP_REPLAY_MAX_SPEED 1e6

enum usbip_replay_mode {
    USBIP_REPLAY_GATED,  /* data once all that the host sent before them in the recording came */
    USBIP_REPLAY_STRICT, /* everything in the order of the recording */
    USBIP_REPLAY_TIMED,  /* gated, and with the recorded pauses */
    USBIP_REPLAY_FREE,   /* data as soon as the host asks */
    USBIP_REPLAY_STEP,   /* gated, and no more than usbip_replay_step() allows */
};

enum usbip_replay_end {
    USBIP_REPLAY_HOLD, /* IN transfers pend */
    USBIP_REPLAY_LOOP,
    USBIP_REPLAY_STALL,
    USBIP_REPLAY_DISCONNECT,
};

/* What the next client finds that imports the device. */
enum usbip_replay_import {
    USBIP_REPLAY_RESTART,  /* the recording at its beginning */
    USBIP_REPLAY_CONTINUE, /* what the one before has left of it */
};

enum usbip_replay_match {
    USBIP_REPLAY_EXACT, /* requests and data as recorded */
    USBIP_REPLAY_SETUP, /* requests without their data */
    USBIP_REPLAY_ANY,   /* only how much was sent */
};

/* The words of the command line and of scripts; false: none of them. */
bool usbip_replay_parse_mode(const char *word, enum usbip_replay_mode *mode);
bool usbip_replay_parse_end(const char *word, enum usbip_replay_end *end);
bool usbip_replay_parse_import(const char *word, enum usbip_replay_import *import);
bool usbip_replay_parse_match(const char *word, enum usbip_replay_match *match);
bool usbip_replay_parse_errors(const char *word, bool *skip);

enum usbip_divergence_kind {
    USBIP_DIVERGENCE_DATA,       /* other bytes on an OUT endpoint */
    USBIP_DIVERGENCE_MORE_DATA,  /* the recording has no more there */
    USBIP_DIVERGENCE_REQUEST,    /* the recording has another request here */
    USBIP_DIVERGENCE_NO_REQUEST, /* the recording has no such request, or not any more */
    USBIP_DIVERGENCE_NO_ANSWER,  /* the recording has no answer to this read */
    USBIP_DIVERGENCE_ORDER,      /* strict: before what came before it in the recording */
    USBIP_DIVERGENCE_MISSING,    /* recorded OUT data that never came */
};
const char *usbip_divergence_name(enum usbip_divergence_kind kind);

struct usbip_divergence {
    enum usbip_divergence_kind kind;
    uint8_t endpoint;
    uint32_t record;      /* of what was expected, as Wireshark counts; 0: nothing */
    const uint8_t *setup; /* endpoint 0: what came, else NULL */
    const uint8_t *expected_setup;
    const uint8_t *expected, *got; /* data */
    size_t expected_size, got_size;
};

/* Bytes that a hook gives, owned by the hook until its next call. */
struct usbip_replay_bytes {
    const uint8_t *data;
    size_t size;
};

struct usbip_replay_hooks {
    /* Returns true when it is none after all. For NO_ANSWER *answer may be given. NULL: none. */
    bool (*diverged)(void *context, const struct usbip_divergence *divergence,
                     struct usbip_replay_bytes *answer);
    /* What to say instead of what was recorded (*bytes), without FTDI's status. Endpoint 0: the
     * answer to a request. NULL: the same. */
    void (*edit)(void *context, uint8_t endpoint, uint32_t record,
                 struct usbip_replay_bytes *bytes);
    void *context;
};

struct usbip_replay_options {
    const char *path;
    const char *device;      /* BUS.DEV or VID:PID; NULL: usbip_capture_select() chooses */
    const char *descriptors; /* a side file; NULL: none */
    enum usbip_replay_mode mode;
    double speed; /* timed: pauses are divided by it; 0: as 1 */
    enum usbip_replay_end end;
    enum usbip_replay_import import;
    enum usbip_replay_match match;
    bool skip_errors; /* transfers that failed, but for stalls, are not replayed */
    const struct usbip_personality *personality; /* may be NULL */
    struct usbip_replay_hooks hooks;
};

struct usbip_replay;

/* Whether the file begins as captures do (gzip'd ones too). */
bool usbip_replay_is_capture(const char *path);

/*
 * Loads a capture and makes the device. The device is the caller's and must be freed before the
 * replay; scheduler and log must outlive both. Returns NULL and, in error_text, one line.
 */
struct usbip_replay *usbip_replay_new(const struct usbip_replay_options *options,
                                      struct usbip_scheduler *scheduler,
                                      const struct usbip_log *log, struct usbip_device **device,
                                      char error_text[USBIP_CAPTURE_ERROR_SIZE]);
/* NULL is allowed. */
void usbip_replay_free(struct usbip_replay *replay);

/* The replay that a device is, or NULL. */
struct usbip_replay *usbip_replay_of(const struct usbip_device *device);

/* "FT232R", or "an unknown chip". */
const char *usbip_replay_chip_name(const struct usbip_replay *replay);

/* Lets the device say so many more things (transfers; FTDI: packets) in step mode, in the order of
 * the recording. */
void usbip_replay_step(struct usbip_replay *replay, uint32_t count);
bool usbip_replay_steps(const struct usbip_replay *replay); /* whether it is in that mode */

/* No client will come any more: with USBIP_REPLAY_CONTINUE, what has not come until now is
 * missing. */
void usbip_replay_finish(struct usbip_replay *replay);

/* How often the host did otherwise, up to now. */
uint64_t usbip_replay_divergences(const struct usbip_replay *replay);

struct usbip_replay_counters {
    uint64_t matched;    /* what came as recorded, and what was said */
    uint64_t skipped;    /* recorded, but the host left it out */
    uint64_t unexpected; /* not recorded */
    uint64_t missing;    /* recorded, and not come by the end of the session */
};
/* Of an endpoint; zeros for one that there is not. */
struct usbip_replay_counters usbip_replay_counters(const struct usbip_replay *replay,
                                                   uint8_t endpoint);

/* Writes the reports of all these replays, NULLs left out, as one JSON object. Returns whether that
 * went well. */
bool usbip_replay_write_report(struct usbip_replay *const *replays, unsigned count, FILE *file);

#endif
