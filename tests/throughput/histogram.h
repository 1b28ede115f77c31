/*
 * A histogram of times with a bounded error: buckets of equal width up to HISTOGRAM_LINEAR ns, and
 * above that HISTOGRAM_LINEAR / 2 buckets for each doubling. What is read from it is at most one
 * part in HISTOGRAM_LINEAR / 2 (1.6 %) above what was recorded.
 */
#ifndef TESTS_THROUGHPUT_HISTOGRAM_H
#define TESTS_THROUGHPUT_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_BITS = 7,
    HISTOGRAM_LINEAR = 1 << HISTOGRAM_BITS,
    HISTOGRAM_DOUBLINGS = 34, /* above the linear part: 2^41 ns are 36 minutes */
    HISTOGRAM_BUCKETS = HISTOGRAM_LINEAR + HISTOGRAM_DOUBLINGS * HISTOGRAM_LINEAR / 2,
};

/* All zero is empty. */
struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t max_ns; /* as recorded */
};

/* Times that are longer than all buckets go into the last one. */
void histogram_record(struct histogram *histogram, uint64_t time_ns);
void histogram_add(struct histogram *sum, const struct histogram *other);

/*
 * The time in ns that at least this part (0 to 1) of all recorded times do not exceed: the upper
 * end of a bucket, but never above the maximum. 0 when nothing was recorded.
 */
uint64_t histogram_quantile(const struct histogram *histogram, double part);

#endif
