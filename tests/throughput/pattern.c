#include "tests/throughput/pattern.h"

#include <stddef.h>

static uint8_t bytes[PATTERN_MAX_SIZE + PATTERN_PERIOD];

void pattern_prepare(void)
{
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i % PATTERN_PERIOD);
}

const uint8_t *pattern_at(uint64_t position)
{
    return bytes + position % PATTERN_PERIOD;
}
