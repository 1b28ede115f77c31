/*
 * Tables of what a known server answers, one line a case: "S057 CLOSE" when it meets the
 * requirement with that outcome, "S112 fail REPLY(0,10)  # why" when it is known not to meet it.
 * Where time decides there are several: "S005 ok | fail CLOSE  # why".
 */
#ifndef TESTS_CONFORMANCE_EXPECT_H
#define TESTS_CONFORMANCE_EXPECT_H

#include <stdbool.h>
#include <stddef.h>

#include "tests/conformance/case.h"

enum {
    EXPECT_MAX_LINES = 512,
    EXPECT_ID_SIZE = 8,
    EXPECT_OUTCOME_SIZE = 128,
    EXPECT_REASON_SIZE = 256
};

struct expectation {
    char id[EXPECT_ID_SIZE];
    char outcomes[EXPECT_OUTCOME_SIZE]; /* as the report shows them, with "fail" and "|" */
    char reason[EXPECT_REASON_SIZE];    /* "" only when there is one outcome, and no failure */
    unsigned text;                      /* which of those that were read has it, from 1 */
};

struct expect_table {
    struct expectation lines[EXPECT_MAX_LINES];
    size_t count;
    unsigned texts; /* that were read */
};

/*
 * Adds a text to a table, which is all zero at first; blank lines and those that begin with # are
 * skipped. A line replaces the one that an earlier text has for its case. Returns 0, or -1 with the
 * line and what is wrong with it in error_text.
 */
int expect_parse(struct expect_table *table, const char *text, char error_text[256]);
/* The same from a file. */
int expect_load(struct expect_table *table, const char *path, char error_text[256]);
/* The same by name: "strict" is expect/strict.txt where the suite is built; a path is a path. */
int expect_load_named(struct expect_table *table, const char *name, char error_text[256]);

/* The first line that is about none of these cases, or NULL. */
const struct expectation *expect_find_foreign(const struct expect_table *table,
                                              const struct case_list *cases);

/*
 * The line of a case, or NULL: then the case has to pass, or be not applicable. One that has a line
 * is not applicable only where that says so ("S052 not-applicable").
 */
const struct expectation *expect_find(const struct expect_table *table, const char *id);

/* Whether a result is as expected; `line` is expect_find()'s and may be NULL. */
bool expect_met(const struct expectation *line, const char *outcome, bool failed);

#endif
