/*
 * Lua's patterns, as the Lua 5.4 manual describes them in 6.4.1, matched with a bound on time and
 * on the C stack: Lua's own matcher backtracks inside of C, where nothing can interrupt it.
 */
#ifndef EMULATOR_SCRIPT_PATTERN_H
#define EMULATOR_SCRIPT_PATTERN_H

#include <stddef.h>

enum {
    SCRIPT_PATTERN_MAX_CAPTURES = 32,
    SCRIPT_PATTERN_MAX_DEPTH = 200, /* of captures and quantifiers that wait for what follows */
    SCRIPT_PATTERN_STEPS = 1000,    /* between two calls of spend() */
    SCRIPT_PATTERN_ERROR_SIZE = 64,
};

/* Sizes of captures that are none. */
enum { SCRIPT_CAPTURE_POSITION = -1, SCRIPT_CAPTURE_OPEN = -2 };

struct script_pattern {
    /* Set by the caller, and the caller's: any bytes, which must not change during a match. */
    const char *subject, *subject_end;
    const char *pattern, *pattern_end; /* without the '^' of an anchor */
    /* Is told how much has been done; it need not return. */
    void (*spend)(void *context, size_t steps);
    void *context;

    /* The match, when there is one. */
    const char *end;
    unsigned count;
    struct script_capture {
        const char *start;
        ptrdiff_t size; /* in bytes, or as above; open: the pattern ends before its ')' */
    } captures[SCRIPT_PATTERN_MAX_CAPTURES];
    char error_text[SCRIPT_PATTERN_ERROR_SIZE];

    size_t steps; /* that spend() has not been told */
    unsigned depth;
};

/*
 * Matches the whole pattern at `start`, in the subject or at its end. Zero-initialize the struct
 * and set its first part; it may be used again.
 *
 * Returns 1, 0 when it does not match there, or -1 with the reason in error_text: the pattern is
 * malformed (found out only where the matching comes to) or too deep.
 */
int script_pattern_match(struct script_pattern *match, const char *start);

#endif
