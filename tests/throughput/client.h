/*
 * The client that measures: it keeps a fixed number of URBs in flight, decodes what comes where it
 * lies, checks every byte, and answers each read with one write. The same client drives a server
 * under test and the reference server.
 */
#ifndef TESTS_THROUGHPUT_CLIENT_H
#define TESTS_THROUGHPUT_CLIENT_H

#include "tests/throughput/measurement.h"

/* One run of every test but TEST_SERIAL. Unless it is MEASURED, why is in error_text. */
enum outcome client_run(const struct load *load, const struct peer *peer, struct sample *sample,
                        char error_text[ERROR_TEXT_SIZE]);

/* The part of a run that comes before the seconds that are measured. */
double warm_up_seconds(const struct load *load);

#endif
