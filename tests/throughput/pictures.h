/* What a page shows of the series of one device and test. */
#ifndef TESTS_THROUGHPUT_PICTURES_H
#define TESTS_THROUGHPUT_PICTURES_H

#include "tests/throughput/chart.h"
#include "tests/throughput/report.h"

/* Series of one device and test, which stand together in the report. */
struct group {
    const struct series *series;
    unsigned count;
};

/* Different values, from the lowest to the highest; what does not fit is dropped. */
struct values {
    uint32_t values[CHART_MAX_TICKS];
    unsigned count;
};

/* The one that begins with the series of this number. */
struct group next_group(const struct report *report, unsigned first);
/* NULL: there is none. */
const struct series *find_series(const struct group *group, uint32_t size, unsigned depth);
struct values sizes_of(const struct group *group);
struct values depths_of(const struct group *group);

/* Figures for: throughput against size and depth, latency, ratio to the ceiling; those that the
 * group has enough for. */
void write_pictures(FILE *file, const struct group *group);

#endif
