/* The command line that the tools for captures share: usbip-emulator inspect and replay-check. */
#ifndef EMULATOR_CAPTURE_COMMAND_LINE_H
#define EMULATOR_CAPTURE_COMMAND_LINE_H

#include <getopt.h>

enum { USBIP_CAPTURE_EXIT_USAGE = 2 };

struct usbip_capture_command {
    const char *name; /* "inspect" */
    const char *help;
    /* Options of its own, each with a `val` from 1 on, ended by one without a name. */
    const struct option *own;
    /* Takes one of those. Returns NULL, or how its value is wrong: a format for that value. */
    const char *(*take)(void *context, int val, const char *value);
    void *context;
    /* What --device and --descriptors say; NULL: not given. */
    const char *device, *descriptors;
};

/*
 * Returns -1 to go on, with optind at the first of at least one FILE; else the exit status, after
 * the help or a line on standard error.
 */
int usbip_capture_parse_command(struct usbip_capture_command *command, int argc, char **argv);

/* Says on standard error what is wrong, and how to get help. Returns USBIP_CAPTURE_EXIT_USAGE. */
__attribute__((format(printf, 2, 0))) int
usbip_capture_usage_error(const struct usbip_capture_command *command, const char *format,
                          const char *value);

#endif
