/* A figure as it is reported: one load, run several times against the server and the reference. */
#ifndef TESTS_THROUGHPUT_SERIES_H
#define TESTS_THROUGHPUT_SERIES_H

#include "tests/throughput/measurement.h"
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

struct series {
    char device[LABEL_SIZE]; /* a script's name, or a busid */
    struct load load;
    double delay_ms;
    struct side_result sides[SIDE_COUNT];
    struct statistics ratio; /* of the rates, run by run; NAN without a ceiling */
    /* The same of the CPU time that client and server together need for as much: what the ratio
     * would be on one core that does nothing else. */
    struct statistics cpu_ratio;
    /* Serial: the rate of the library against the reference server, by that of the raw client
     * against it (the fastest echo with this device and size; at depth 1 that at depth 1). NAN: not
     * measured. */
    double client_ratio;
};

/* One client by another. NAN: not known. */
struct client_ratio {
    double rate, cpu; /* cpu: of the time that client and server need for as many bytes */
};

/* The rate that counts: payload where there is one, otherwise URBs; per second. */
const struct statistics *series_rate(const struct series *series, enum side side);

/* One side's samples, in a result. */
void series_summarize(struct side_result *result, const struct sample *samples, unsigned runs);
/* Fills in ratio and cpu_ratio. */
void series_compare(struct series *series, const struct sample *samples[SIDE_COUNT], unsigned runs);
/* What the library reaches against the reference server, of the raw client with this depth. */
struct client_ratio series_client_ratio(const struct series *series, unsigned count,
                                        const struct series *serial, unsigned depth);
/* Fills in client_ratio of all serial series. */
void series_compare_clients(struct series *series, unsigned count);

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
