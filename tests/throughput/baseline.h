/* Comparison with the results of an earlier run. */
#ifndef TESTS_THROUGHPUT_BASELINE_H
#define TESTS_THROUGHPUT_BASELINE_H

#include <stdbool.h>
#include <stdio.h>

#include "tests/throughput/options.h"
#include "tests/throughput/series.h"

enum {
    BASELINE_MIN_RUNS = 3, /* with fewer there is no spread to call noise */
    BASELINE_ERROR_SIZE = 512,
};

struct baseline; /* a file of --json, as it was read */

/* Reads options->baseline. Returns NULL and why: it cannot be read, is not such a file, has too few
 * runs, or was measured on other cores. */
struct baseline *baseline_load(const struct options *options, char error_text[BASELINE_ERROR_SIZE]);
void baseline_free(struct baseline *baseline);

/*
 * Whether `now` is lower than `before` by more than the noise: each may be off by its whole spread
 * (max - min), so the medians differ by more than both spreads together.
 */
bool baseline_is_loss(const struct statistics *before, const struct statistics *now);

/*
 * Compares each series that the baseline has too and prints a line for it. Ratios to the ceiling
 * are compared when both have them, for they depend less on the machine and what else it does;
 * otherwise rates. Returns the number of losses; *compared is that of the series that were found.
 */
unsigned baseline_compare(const struct baseline *baseline, const struct series *series,
                          unsigned count, FILE *output, unsigned *compared);

#endif
