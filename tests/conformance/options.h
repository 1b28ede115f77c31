/* The command line of usbip-conformance, for servers. */
#ifndef TESTS_CONFORMANCE_OPTIONS_H
#define TESTS_CONFORMANCE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/conformance/report.h"
#include "tests/conformance/target.h"

enum { MAX_EMULATOR_ARGUMENTS = 32, MAX_TABLES = 8, MAX_SKIPPED = 64, MAX_JOBS = 64 };

struct options {
    struct target target;
    struct target_choice choice;
    char *emulator_arguments[MAX_EMULATOR_ARGUMENTS]; /* scripts, and options for it */
    int emulator_argument_count;
    const char *script; /* of the device under test; NULL: the server is not the emulator */
    const char *expects[MAX_TABLES], *skipped[MAX_SKIPPED];
    int expect_count, skipped_count;
    const char *emulator, *stimulus;
    unsigned profiles, rounds, jobs;
    bool list;
    struct report_outputs outputs;
    const char *const *wanted;
    size_t wanted_count;
};

/* Returns -1 to go on, or the exit status. */
int parse_options(struct options *options, int argc, char **argv);

/* "HOST", "HOST:PORT", "[V6]:PORT" */
bool parse_address(const char *text, struct target *target);

/* Tells what is wrong with an argument; returns the exit status. */
int wrong_usage(const char *argument, const char *why);

#endif
