/* Runs the cases for servers and reports them. */
#ifndef TESTS_CONFORMANCE_RUN_H
#define TESTS_CONFORMANCE_RUN_H

#include "tests/conformance/expect.h"
#include "tests/conformance/options.h"

/* Starts the emulator first, if that is the server. Returns the exit status. */
int run_server_cases(struct options *options, const struct expect_table *table);

#endif
