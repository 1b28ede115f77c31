/* Runs cases of clients, several at a time. */
#ifndef TESTS_CONFORMANCE_CLIENT_RUN_H
#define TESTS_CONFORMANCE_CLIENT_RUN_H

#include "tests/conformance/client/client_trial.h"
#include "tests/conformance/report.h"

/*
 * Runs those that are wanted, `jobs` at a time, and fills in results, which have room for all of
 * `cases`, in the order of `cases`. Returns their number, or -1 when that failed, with the reason
 * on standard error. The caller frees the exchanges.
 */
int client_run(const struct case_list *cases, const char *const *wanted, size_t wanted_count,
               const struct client_choice *choice, unsigned jobs, struct result *results);

#endif
