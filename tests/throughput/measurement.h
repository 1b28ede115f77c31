/* What is measured, and what one run of it gives. */
#ifndef TESTS_THROUGHPUT_MEASUREMENT_H
#define TESTS_THROUGHPUT_MEASUREMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/throughput/attachment.h"
#include "tests/throughput/histogram.h"

enum test { TEST_PING, TEST_PIPELINE, TEST_OUT, TEST_IN, TEST_ECHO, TEST_SERIAL, TEST_COUNT };

enum {
    MAX_DEPTH = 1024,
    MAX_CONNECTIONS = 1024,
    MAX_IN_FLIGHT = 64 << 20, /* bytes of all connections together */
};

/* What is done in a run. */
struct load {
    enum test test;
    uint32_t size;  /* bytes of a transfer */
    unsigned depth; /* transfers in flight on each connection */
    unsigned connections;
    double seconds; /* that are measured, after a tenth of it (at most 0.2 s) to warm up */
};

/* Where it is done. */
struct peer {
    char address[ADDRESS_SIZE];
    const char *const *busids; /* one for each connection */
    int server_pid;            /* 0: not on this machine, or unknown */
};

/* What came out; all of it belongs to the seconds that were measured. */
struct sample {
    double seconds;
    uint64_t urbs;  /* that have ended (serial: pieces of load->size bytes that came back) */
    uint64_t bytes; /* of payload; of an echo those that came back */
    double client_cpu_ns, server_cpu_ns; /* NAN: unknown */
    double client_rss, server_rss;       /* bytes at the end; NAN: unknown */
    /* From the write that sent a URB to the read that brought its end. Of an echo: to the read that
     * brought its last byte back; serial at depth 1: of a write and the read after it. */
    struct histogram latency;
};

enum outcome {
    MEASURED,
    WRONG_BYTES = -1, /* the server or the device has answered something else than it had to */
    NO_RUN = -2,      /* no connection, no such device, no memory */
};

/* Names as options and reports have them. */
const char *test_name(enum test test);
/* Whether the test moves payload of load->size bytes. */
static inline bool test_has_size(enum test test)
{
    return test >= TEST_OUT;
}

#endif
