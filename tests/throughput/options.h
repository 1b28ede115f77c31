/* The command line. */
#ifndef TESTS_THROUGHPUT_OPTIONS_H
#define TESTS_THROUGHPUT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/throughput/measurement.h"

enum {
    EXIT_MEASURED = 0,
    EXIT_LOSS = 1, /* or wrong bytes */
    EXIT_NO_RUN = 2,
    MAX_SCRIPTS = 16,
    MAX_SIZES = 16,
    MAX_DEPTHS = 16,
    MAX_RUNS = 99,
    NO_CPU = -1,
};

struct options {
    const char *server; /* HOST[:PORT] */
    const char *busid;  /* NULL: the first device that the server lists */
    const char *scripts[MAX_SCRIPTS];
    unsigned script_count;
    const char *emulator;
    bool chose_emulator; /* by --emulator */
    bool tests[TEST_COUNT];
    bool chose_tests; /* by --test */
    uint32_t sizes[MAX_SIZES];
    unsigned size_count;
    unsigned depths[MAX_DEPTHS];
    unsigned depth_count;
    unsigned connections, runs;
    double seconds, delay_ms;
    int server_cpu, client_cpu; /* NO_CPU: any */
    bool ceiling;
    const char *baseline, *json, *html;
};

/* Returns -1 to go on, or the exit status; then all has been said. */
int options_parse(struct options *options, int argc, char **argv);

#endif
