/* A figure as it is reported: one load, run several times against the server and the reference. */
#ifndef TESTS_THROUGHPUT_SERIES_H
#define TESTS_THROUGHPUT_SERIES_H

#include "tests/throughput/options.h"
#include "tests/throughput/statistics.h"

enum side { TARGET, CEILING, SIDE_COUNT };

enum { LABEL_SIZE = 64 };

struct side_result {
    bool measured;
    struct statistics urbs_per_s, bytes_per_s;
    struct statistics client_ns, server_ns; /* CPU time per URB */
    double client_rss, server_rss;          /* bytes, the most of all runs; NAN: unknown */
    struct histogram latency;               /* of all runs */
};

/* The serial port of the client library by the bench's own client with echo, run by run. */
struct client_ratio {
    unsigned depth;              /* of the latter */
    struct statistics rate, cpu; /* cpu: of the CPU time for as many bytes, as cpu_ratio below */
};

struct series {
    char device[LABEL_SIZE]; /* a script's name, or a busid */
    struct load load;
    double delay_ms;
    struct side_result sides[SIDE_COUNT];
    struct statistics ratio; /* of the rates, run by run; NAN without a ceiling */
    /* The same of the CPU time that client and server together need for as much: what the ratio
     * would be on one core that does nothing else. */
    struct statistics cpu_ratio;
    /* Serial, with a ceiling: the library by the raw client at some depths, both against the
     * reference server. */
    struct client_ratio client_ratios[MAX_DEPTHS];
    unsigned client_ratio_count;
};

/* The rate that counts: payload where there is one, otherwise URBs; per second. */
const struct statistics *series_rate(const struct series *series, enum side side);

/* One side's samples, in a result. */
void series_summarize(struct side_result *result, const struct sample *samples, unsigned runs);
/* Fills in ratio and cpu_ratio. */
void series_compare(struct series *series, const struct sample *samples[SIDE_COUNT], unsigned runs);
/* One run of the library by one of the raw client that was made beside it. */
void series_compare_clients(const struct sample *library, const struct sample *raw, double *rate,
                            double *cpu);
/* NULL: not measured at this depth. */
const struct client_ratio *series_find_client_ratio(const struct series *series, unsigned depth);
/* Of the medians, the ratio to the fastest raw client that is comparable: for a stream any, for one
 * write at a time that with one URB in flight. NAN: not measured. */
double series_client_ratio(const struct series *series);
/* p99 by p50: how far apart the slow ones and the usual ones are. NAN without latencies. */
double series_tail(const struct series *series, enum side side);
/* The server's quantile by the ceiling's: 1 is as fast, 2 takes twice as long. NAN: not measured.
 */
double series_latency_ratio(const struct series *series, double part);

/*
 * How much of what may be in flight was so, when there is a delay: rate * delay, by depth * size.
 * NAN without a delay, and for a stream of the serial port, whose depth is not known here.
 */
double series_filled(const struct series *series, enum side side);
/* Bytes (URBs, without payload) in flight: rate * delay. */
double series_in_flight(const struct series *series, enum side side);

#endif
