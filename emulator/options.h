/* The command line of usbip-emulator. */
#ifndef EMULATOR_OPTIONS_H
#define EMULATOR_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "emulator/fault.h"
#include "emulator/personality.h"
#include "emulator/replay/replay.h"

enum { USBIP_EXIT_USAGE = 2, USBIP_EXIT_DIVERGED = 3 };

struct usbip_emulator_options {
    const char *listen;
    const char *port_file;                       /* NULL: none */
    const char *control;                         /* NULL: none */
    const struct usbip_personality *personality; /* NULL: strict */
    const char *record;                          /* NULL: nothing is recorded */
    const char *divergence;                      /* NULL: no report is written */
    struct usbip_replay_options replay;          /* of DEVICEs that are captures */
    uint64_t seed;
    unsigned copies; /* of each DEVICE */
    bool has_seed, virtual_time, without_io_uring, unsafe_scripts, verbose;
    struct usbip_fault_options faults[USBIP_MAX_FAULTS];
    unsigned fault_count;
};

/*
 * Reads the options; argv[optind] is then the first DEVICE. Returns -1 to go on, or the exit
 * status: help was printed, or what is wrong.
 */
int usbip_emulator_parse_options(int argc, char **argv, struct usbip_emulator_options *options);

#endif
