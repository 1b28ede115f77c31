#include "tests/throughput/histogram.h"

#include <math.h>

enum { HALF = HISTOGRAM_LINEAR / 2 };

static unsigned bucket_of(uint64_t time_ns)
{
    if (time_ns < HISTOGRAM_LINEAR)
        return (unsigned)time_ns;
    unsigned doublings = (unsigned)(64 - __builtin_clzll(time_ns)) - HISTOGRAM_BITS;
    if (doublings > HISTOGRAM_DOUBLINGS)
        return HISTOGRAM_BUCKETS - 1;
    /* The shifted time is HALF to HISTOGRAM_LINEAR - 1. */
    return HISTOGRAM_LINEAR + (doublings - 1) * HALF + (unsigned)(time_ns >> doublings) - HALF;
}

static uint64_t last_of(unsigned bucket)
{
    if (bucket < HISTOGRAM_LINEAR)
        return bucket;
    unsigned doublings = (bucket - HISTOGRAM_LINEAR) / HALF + 1;
    uint64_t shifted = (bucket - HISTOGRAM_LINEAR) % HALF + HALF;
    return ((shifted + 1) << doublings) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t time_ns)
{
    histogram->counts[bucket_of(time_ns)]++;
    histogram->count++;
    if (time_ns > histogram->max_ns)
        histogram->max_ns = time_ns;
}

void histogram_add(struct histogram *sum, const struct histogram *other)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->counts[i] += other->counts[i];
    sum->count += other->count;
    if (other->max_ns > sum->max_ns)
        sum->max_ns = other->max_ns;
}

uint64_t histogram_quantile(const struct histogram *histogram, double part)
{
    uint64_t wanted = (uint64_t)ceil(part * (double)histogram->count), seen = 0;
    if (histogram->count == 0)
        return 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        seen += histogram->counts[i];
        if (seen > 0 && seen >= wanted)
            return last_of(i) < histogram->max_ns ? last_of(i) : histogram->max_ns;
    }
    return histogram->max_ns;
}
