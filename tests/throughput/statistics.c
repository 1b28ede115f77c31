#include "tests/throughput/statistics.h"

#include <math.h>

/* How many values are smaller, or equal and earlier: each value has a rank of its own. */
static size_t rank_of(const double *values, size_t count, size_t index)
{
    size_t rank = 0;
    for (size_t i = 0; i < count; i++)
        rank += values[i] < values[index] || (values[i] == values[index] && i < index);
    return rank;
}

struct statistics statistics_of(const double *values, size_t count)
{
    struct statistics result = {NAN, NAN, NAN};
    double lower = NAN, upper = NAN;
    for (size_t i = 0; i < count; i++) {
        if (isnan(values[i]))
            return (struct statistics){NAN, NAN, NAN};
        size_t rank = rank_of(values, count, i);
        if (rank == 0)
            result.min = values[i];
        if (rank == count - 1)
            result.max = values[i];
        if (rank == (count - 1) / 2)
            lower = values[i];
        if (rank == count / 2)
            upper = values[i];
    }
    result.median = (lower + upper) / 2;
    return result;
}
