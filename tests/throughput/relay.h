/*
 * A relay that makes a link long: what comes from either side is passed on half of the round trip
 * later, with no limit on how much is on its way. A process of its own.
 */
#ifndef TESTS_THROUGHPUT_RELAY_H
#define TESTS_THROUGHPUT_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/throughput/attachment.h"

struct relay {
    int pid;
    char address[ADDRESS_SIZE]; /* where clients connect to */
    char target[ADDRESS_SIZE];  /* where it connects to for them */
    uint64_t one_way_ns;
};

/* Starts it. It ends with this process. False with the reason. */
bool relay_start(struct relay *relay, const char *target, double round_trip_ms,
                 char error_text[ERROR_TEXT_SIZE]);
void relay_stop(struct relay *relay);

#endif
