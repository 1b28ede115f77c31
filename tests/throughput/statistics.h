/* What is said of a figure that was measured several times. */
#ifndef TESTS_THROUGHPUT_STATISTICS_H
#define TESTS_THROUGHPUT_STATISTICS_H

#include <stddef.h>

/* All NAN: unknown. */
struct statistics {
    double median, min, max;
};

/*
 * The median of an even number of values is the mean of the middle two. Unknown when there are no
 * values, or one of them is NAN.
 */
struct statistics statistics_of(const double *values, size_t count);

#endif
