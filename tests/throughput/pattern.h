/*
 * What the bytes of every stream are: byte i is i modulo PATTERN_PERIOD, so that a byte too many,
 * too few or in another place is seen. The period is a prime: no transfer's size is a multiple of
 * it. Emulated sources send the same (docs/scripting.md).
 */
#ifndef TESTS_THROUGHPUT_PATTERN_H
#define TESTS_THROUGHPUT_PATTERN_H

#include <stdint.h>

enum {
    PATTERN_PERIOD = 251,
    PATTERN_MAX_SIZE = 1 << 20, /* bytes that can be had in one piece */
};

/* Call once, before the others. */
void pattern_prepare(void);

/* The bytes of the stream from here on, PATTERN_MAX_SIZE of them. Constant, so that it can be sent
 * without a copy. */
const uint8_t *pattern_at(uint64_t position);

#endif
