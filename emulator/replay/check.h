/* Plays a capture to a client that is made of the same capture. */
#ifndef EMULATOR_REPLAY_CHECK_H
#define EMULATOR_REPLAY_CHECK_H

#include <stdint.h>

#include "emulator/replay/replay.h"

struct usbip_replay_check {
    char device[64]; /* "1.9 0403:6001 FT232R" */
    uint64_t transfers, bytes_in, bytes_out;
    uint64_t divergences;
    uint64_t wrong_endpoints; /* IN endpoints of which the client got other bytes than recorded */
    uint64_t wrong_reads;     /* requests that were answered otherwise than recorded */
};

/* Returns 0, or -1 and error_text when the file cannot be played at all. */
int usbip_replay_check(const struct usbip_replay_options *options, const struct usbip_log *log,
                       struct usbip_replay_check *check, char error_text[USBIP_CAPTURE_ERROR_SIZE]);

/* The tool `usbip-emulator replay-check`; argv[0] is its name. Returns the exit status. */
int usbip_replay_check_main(int argc, char **argv);

#endif
