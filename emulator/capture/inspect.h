/* usbip-emulator inspect: says what is in a capture. */
#ifndef EMULATOR_CAPTURE_INSPECT_H
#define EMULATOR_CAPTURE_INSPECT_H

#include "emulator/capture/description.h"

/* The tool; argv[0] is "inspect". Returns the exit status. */
int usbip_inspect_main(int argc, char **argv);

/* What it has found out. */
struct inspection {
    const struct usbip_capture *capture;
    const struct usbip_capture_device *device; /* that was chosen */
    const char *reason;                        /* why */
    const struct usbip_description *description;
};

void inspect_print(const struct inspection *inspection);
/* Returns false when memory is out or standard output cannot be written. */
bool inspect_print_json(const struct inspection *inspection);

/* ---- What both say ---- */

/* Incomplete things, each with a count of 0 when there is none of it. */
struct inspect_gap {
    const char *name; /* of JSON */
    const char *text; /* for people */
    uint64_t count;
    uint32_t record; /* the first; 0: none to name */
};

enum { INSPECT_GAPS = 9 };

void inspect_find_gaps(const struct inspection *inspection, struct inspect_gap gaps[INSPECT_GAPS]);

/* "interrupt" */
const char *inspect_transfer_type(uint8_t type);

#endif
