/* The results of a run, as people and as programs want them. */
#ifndef TESTS_CONFORMANCE_REPORT_H
#define TESTS_CONFORMANCE_REPORT_H

#include <stdio.h>

#include "tests/conformance/expect.h"
#include "tests/conformance/trial.h"

struct result {
    const struct section *section;
    const struct conformance_case *conformance_case;
    enum verdict verdict;
    char outcome[TRIAL_OUTCOME_SIZE];
    char reason[TRIAL_REASON_SIZE];
    const struct expectation *expected; /* of the table; NULL: it has to pass */
    bool as_expected;
    char *exchange; /* the lines of the wire log, for what was not as expected; may be NULL */
    double seconds;
};

struct report {
    const char *title; /* "127.0.0.1:3240, device 1-1" */
    const struct result *results;
    size_t count;
};

/* Takes verdict, outcome and reason of a trial, the texts made plain. */
void result_take(struct result *result, const struct trial *trial);

const char *level_name(enum case_level level);
const char *verdict_name(enum verdict verdict);

/* The lines of a wire log as one text. Allocated; NULL when memory is out. */
char *report_exchange(const struct wire_log *log);

/* Each writes to the stream; its owner looks for errors there. The results of a section stand
 * together. */
void report_list(FILE *stream, const struct case_list *cases, const char *const *wanted,
                 size_t wanted_count);
void report_text(FILE *stream, const struct report *report, bool verbose);
void report_tap(FILE *stream, const struct report *report);
void report_junit(FILE *stream, const struct report *report);
void report_json(FILE *stream, const struct report *report);

bool report_is_as_expected(const struct report *report);

/* Exit statuses, the worst last. */
enum { EXIT_AS_EXPECTED = 0, EXIT_DIFFERS = 1, EXIT_NO_RUN = 2 };

/* What a run shall write. */
struct report_outputs {
    bool tap, verbose;        /* on standard output: TAP in place of text; all exchanges */
    const char *junit, *json; /* files; NULL: none */
};

/* Writes all that; what cannot be written is told under the name of the program. Returns the exit
 * status. */
int report_write_all(const struct report_outputs *outputs, const char *program,
                     const struct report *report);

/* Whether a case is meant by these names (ids, names, letters of sections); none means all. */
bool case_is_wanted(const struct section *section, const struct conformance_case *conformance_case,
                    const char *const *wanted, size_t wanted_count);
/* Whether a name means any of these cases. */
bool case_is_named(const struct case_list *cases, const char *name);

#endif
