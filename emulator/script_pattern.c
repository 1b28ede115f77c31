#include "emulator/script_pattern.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { BYTES_PER_STEP = 64 }; /* of what the C library compares */

static int match_rest(struct script_pattern *match, const char *at, const char *item);

static void count_steps(struct script_pattern *match, size_t steps)
{
    match->steps += steps;
    if (match->steps < SCRIPT_PATTERN_STEPS)
        return;
    steps = match->steps;
    match->steps = 0;
    match->spend(match->context, steps);
}

__attribute__((format(printf, 2, 3))) static int fail(struct script_pattern *match,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(match->error_text, sizeof match->error_text, format, arguments);
    va_end(arguments);
    return -1;
}

/* ---- One character ---- */

static bool is_in_class(unsigned char c, unsigned char name)
{
    bool is_in;
    switch (tolower(name)) {
    case 'a':
        is_in = isalpha(c);
        break;
    case 'c':
        is_in = iscntrl(c);
        break;
    case 'd':
        is_in = isdigit(c);
        break;
    case 'g':
        is_in = isgraph(c);
        break;
    case 'l':
        is_in = islower(c);
        break;
    case 'p':
        is_in = ispunct(c);
        break;
    case 's':
        is_in = isspace(c);
        break;
    case 'u':
        is_in = isupper(c);
        break;
    case 'w':
        is_in = isalnum(c);
        break;
    case 'x':
        is_in = isxdigit(c);
        break;
    case 'z': /* not in the manual any more, but in Lua */
        is_in = c == '\0';
        break;
    default:
        return c == name; /* an escaped character */
    }
    return is_in != (isupper(name) != 0);
}

/* The set is from its '[' to its ']', which item_end() has found. */
static bool is_in_set(struct script_pattern *match, unsigned char c, const char *set,
                      const char *close)
{
    bool complement = set[1] == '^';
    bool found = false;
    const char *at = set + 1 + complement;
    while (at < close && !found) {
        if (*at == '%') {
            found = is_in_class(c, (unsigned char)at[1]);
            at += 2;
        } else if (close - at > 2 && at[1] == '-') {
            found = (unsigned char)at[0] <= c && c <= (unsigned char)at[2];
            at += 3;
        } else {
            found = (unsigned char)*at++ == c;
        }
    }
    count_steps(match, (size_t)(at - set));
    return found != complement;
}

/* Whether the character there, if there is one, is what the item up to item_end stands for. */
static bool is_single(struct script_pattern *match, const char *at, const char *item,
                      const char *item_end)
{
    count_steps(match, 1);
    if (at == match->subject_end)
        return false;
    unsigned char c = (unsigned char)*at;
    switch (*item) {
    case '.':
        return true;
    case '%':
        return is_in_class(c, (unsigned char)item[1]);
    case '[':
        return is_in_set(match, c, item, item_end - 1);
    default:
        return (unsigned char)*item == c;
    }
}

/* Where the item that stands for one character ends, or NULL with the error. */
static const char *item_end(struct script_pattern *match, const char *item)
{
    const char *end = match->pattern_end, *at = item + 1;
    if (*item == '%') {
        if (at < end)
            return at + 1;
        fail(match, "malformed pattern (ends with '%%')");
        return NULL;
    }
    if (*item != '[')
        return at;
    if (at < end && *at == '^')
        at++;
    /* A ']' that comes first is one of the set. */
    for (bool first = true; at < end && (first || *at != ']'); first = false)
        at += *at == '%' ? 2 : 1;
    if (at >= end) {
        fail(match, "malformed pattern (missing ']')");
        return NULL;
    }
    count_steps(match, (size_t)(at - item));
    return at + 1;
}

/* ---- Items of more than one character: move *at behind what they match ---- */

/* `arguments` are the x and y of %bxy. */
static int match_balance(struct script_pattern *match, const char **at, const char *arguments)
{
    if (match->pattern_end - arguments < 2)
        return fail(match, "malformed pattern (missing arguments to '%%b')");
    if (*at == match->subject_end || **at != arguments[0])
        return 0;
    size_t open = 1;
    for (const char *next = *at + 1; next < match->subject_end; next++) {
        count_steps(match, 1);
        if (*next == arguments[1]) {
            if (--open == 0) {
                *at = next + 1;
                return 1;
            }
        } else if (*next == arguments[0]) {
            open++;
        }
    }
    return 0;
}

/* Both ends of the subject look like '\0'. *item is the set of %f[set], and moves behind it. */
static int match_frontier(struct script_pattern *match, const char *at, const char **item)
{
    if (*item == match->pattern_end || **item != '[')
        return fail(match, "missing '[' after '%%f' in pattern");
    const char *set = *item, *end = item_end(match, set);
    if (!end)
        return -1;
    unsigned char before = at == match->subject ? '\0' : (unsigned char)at[-1];
    unsigned char after = at == match->subject_end ? '\0' : (unsigned char)*at;
    *item = end;
    return !is_in_set(match, before, set, end - 1) && is_in_set(match, after, set, end - 1);
}

static int match_again(struct script_pattern *match, const char **at, char digit)
{
    unsigned index = (unsigned)(digit - '1'); /* %0 is none */
    if (index >= match->count || match->captures[index].size == SCRIPT_CAPTURE_OPEN)
        return fail(match, "invalid capture index %%%d", digit - '0');
    const struct script_capture *capture = &match->captures[index];
    if (capture->size == SCRIPT_CAPTURE_POSITION || match->subject_end - *at < capture->size)
        return 0;
    count_steps(match, (size_t)capture->size / BYTES_PER_STEP);
    if (memcmp(*at, capture->start, (size_t)capture->size) != 0)
        return 0;
    *at += capture->size;
    return 1;
}

/* ---- What depends on whether the rest matches ---- */

static int open_capture(struct script_pattern *match, const char *at, const char *item)
{
    bool is_position = item < match->pattern_end && *item == ')';
    if (match->count == SCRIPT_PATTERN_MAX_CAPTURES)
        return fail(match, "too many captures");
    match->captures[match->count++] = (struct script_capture){
        .start = at,
        .size = is_position ? SCRIPT_CAPTURE_POSITION : SCRIPT_CAPTURE_OPEN,
    };
    int result = match_rest(match, at, item + is_position);
    if (result == 0)
        match->count--;
    return result;
}

static int close_capture(struct script_pattern *match, const char *at, const char *item)
{
    unsigned index = match->count;
    while (index > 0 && match->captures[index - 1].size != SCRIPT_CAPTURE_OPEN)
        index--;
    if (index == 0)
        return fail(match, "invalid pattern capture");
    struct script_capture *capture = &match->captures[index - 1];
    capture->size = at - capture->start;
    int result = match_rest(match, at, item);
    if (result == 0)
        capture->size = SCRIPT_CAPTURE_OPEN;
    return result;
}

/* From as many as there are, at most `most`, down to `least`. */
static int match_most(struct script_pattern *match, const char *at, const char *item,
                      const char *end, ptrdiff_t least, ptrdiff_t most)
{
    const char *last = at;
    while (last - at < most && is_single(match, last, item, end))
        last++;
    for (; last - at >= least; last--) {
        int result = match_rest(match, last, end + 1);
        if (result != 0)
            return result;
    }
    return 0;
}

static int match_fewest(struct script_pattern *match, const char *at, const char *item,
                        const char *end)
{
    for (;; at++) {
        int result = match_rest(match, at, end + 1);
        if (result != 0)
            return result;
        if (!is_single(match, at, item, end))
            return 0;
    }
}

/* The quantifier is at `end`. */
static int match_repeated(struct script_pattern *match, const char *at, const char *item,
                          const char *end)
{
    if (*end == '-')
        return match_fewest(match, at, item, end);
    return match_most(match, at, item, end, *end == '+', *end == '?' ? 1 : PTRDIFF_MAX);
}

/* The items that need not be tried in more than one way are a loop, the others recursion. */
static int match_items(struct script_pattern *match, const char *at, const char *item)
{
    while (item < match->pattern_end) {
        char next = item + 1 < match->pattern_end ? item[1] : '\0';
        int result = 1;
        if (*item == '(')
            return open_capture(match, at, item + 1);
        if (*item == ')')
            return close_capture(match, at, item + 1);
        if (*item == '$' && item + 1 == match->pattern_end) {
            if (at != match->subject_end)
                return 0;
            item++;
        } else if (*item == '%' && next == 'b') {
            result = match_balance(match, &at, item + 2);
            item += 4;
        } else if (*item == '%' && next == 'f') {
            item += 2;
            result = match_frontier(match, at, &item);
        } else if (*item == '%' && isdigit((unsigned char)next)) {
            result = match_again(match, &at, next);
            item += 2;
        } else {
            const char *end = item_end(match, item);
            if (!end)
                return -1;
            char quantifier = end < match->pattern_end ? *end : '\0';
            bool optional = quantifier == '*' || quantifier == '-' || quantifier == '?';
            bool is_there = is_single(match, at, item, end);
            if (is_there && (optional || quantifier == '+'))
                return match_repeated(match, at, item, end);
            if (!is_there && !optional)
                return 0;
            item = end + optional;
            at += is_there;
        }
        if (result <= 0)
            return result;
    }
    match->end = at;
    return 1;
}

static int match_rest(struct script_pattern *match, const char *at, const char *item)
{
    if (match->depth == SCRIPT_PATTERN_MAX_DEPTH)
        return fail(match, "pattern too complex");
    count_steps(match, 1);
    match->depth++;
    int result = match_items(match, at, item);
    match->depth--;
    return result;
}

int script_pattern_match(struct script_pattern *match, const char *start)
{
    match->count = 0;
    match->depth = 0;
    return match_rest(match, start, match->pattern);
}
