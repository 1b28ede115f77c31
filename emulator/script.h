/*
 * Devices written in Lua: one script is one device, with a Lua state of its own. What scripts can
 * do is in docs/scripting.md.
 *
 * Scripts are hostile until proven otherwise: they cannot reach files, other scripts or the
 * program, memory and time of every call are limited, and an error ends the call, not the server.
 */
#ifndef EMULATOR_SCRIPT_H
#define EMULATOR_SCRIPT_H

#include <stdbool.h>
#include <stdint.h>

#include "emulator/device.h"
#include "emulator/fault.h"
#include "emulator/replay/replay.h"

enum {
    USBIP_SCRIPT_MAX_MEMORY = 64 << 20,       /* bytes, per script */
    USBIP_SCRIPT_MAX_INSTRUCTIONS = 10000000, /* of Lua's virtual machine, per call */
    USBIP_SCRIPT_MAX_SECONDS = 10,            /* of real time, per call */
    USBIP_SCRIPT_MAX_INPUT = 64 << 10,        /* bytes that a dialogue has not read yet */
    USBIP_SCRIPT_MAX_TABLE_RANGE = 1 << 22,   /* elements that one call of table.… may touch */
    USBIP_SCRIPT_MIN_INTERVAL_US = 100,       /* of every() */
    USBIP_SCRIPT_ERROR_SIZE = 512,
};

struct usbip_script;

struct usbip_script_options {
    const char *path;
    const struct usbip_personality *personality; /* unless the script says another; may be NULL */
    uint64_t seed;  /* with the index: where the script's random numbers start */
    unsigned index; /* tells the devices of one run apart */
    unsigned copy;  /* from 2 on, "-<copy>" is added to the serial number, if there is one */
    bool unsafe;    /* the whole standard library: files, programs, C modules */
    struct usbip_faults *faults; /* where fault { … } adds them; must outlive the script */
};

/*
 * Runs a script and makes the device that it describes. The device is the caller's, and must be
 * freed before the script; the scheduler and the log must outlive both.
 *
 * Returns NULL and, in error_text, the place and the reason: the file cannot be read, a syntax
 * error, an error while it ran, no device { … } in it, or one that usbip_device_new() refuses.
 */
struct usbip_script *usbip_script_new(const struct usbip_script_options *options,
                                      struct usbip_scheduler *scheduler,
                                      const struct usbip_log *log, struct usbip_device **device,
                                      char error_text[USBIP_SCRIPT_ERROR_SIZE]);

/* What the script replays, owned by it; NULL: nothing. */
struct usbip_replay *usbip_script_replay(const struct usbip_script *script);

/* Cancels the script's timers and removes its faults too. NULL is allowed. */
void usbip_script_free(struct usbip_script *script);

#endif
