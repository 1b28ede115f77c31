/* The report that a person reads: sections, checks, figures, totals. */
#ifndef TESTS_TESTBENCH_REPORT_H
#define TESTS_TESTBENCH_REPORT_H

#include <stdbool.h>

struct report {
    unsigned passed, failed;
    bool color;
};

__attribute__((format(printf, 2, 3))) void report_section(struct report *report, const char *format,
                                                          ...);

/*
 * One check. what says what was checked; the formatted detail is a figure when it passed, the
 * reason when it failed. Returns passed.
 */
__attribute__((format(printf, 4, 5))) bool report_check(struct report *report, bool passed,
                                                        const char *what, const char *detail, ...);

/* The last line. Returns the exit status. */
int report_end(const struct report *report);

#endif
