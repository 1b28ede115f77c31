#include "tests/conformance/expect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/runfiles.h"

enum { MAX_FILE_SIZE = 1 << 20, MAX_LINE_SIZE = 1024 };

static const char blanks[] = " \t\r";
static const char fail_word[] = "fail";

static void copy_trimmed(char *to, size_t to_size, const char *from, size_t size)
{
    while (size > 0 && strchr(blanks, *from)) {
        from++;
        size--;
    }
    while (size > 0 && strchr(blanks, from[size - 1]))
        size--;
    snprintf(to, to_size, "%.*s", (int)size, from);
}

/* One of the outcomes of a line, and where the next one begins; NULL when it was the last. */
static const char *take_outcome(const char *text, bool *fails, char outcome[EXPECT_OUTCOME_SIZE])
{
    size_t size = strcspn(text, "|");
    copy_trimmed(outcome, EXPECT_OUTCOME_SIZE, text, size);
    size_t word = strcspn(outcome, blanks);
    *fails = word == strlen(fail_word) && strncmp(outcome, fail_word, word) == 0;
    if (*fails) {
        size_t begin = word + strspn(outcome + word, blanks);
        memmove(outcome, outcome + begin, strlen(outcome + begin) + 1);
    }
    return text[size] == '|' ? text + size + 1 : NULL;
}

/* Returns what is wrong with the outcomes and their reason, or NULL. */
static const char *check_outcomes(const char *outcomes, const char *reason)
{
    bool needs_reason = strchr(outcomes, '|');
    for (const char *at = outcomes; at;) {
        bool fails;
        char outcome[EXPECT_OUTCOME_SIZE];
        at = take_outcome(at, &fails, outcome);
        if (outcome[0] == '\0')
            return "does not say which outcome a case has (\"S057 CLOSE  # why\")";
        needs_reason |= fails;
    }
    return needs_reason && *reason == '\0'
               ? "does not say why the case fails, or has several outcomes (\"# why\")"
               : NULL;
}

/* Returns what is wrong with the line, or NULL. */
static const char *parse_line(struct expect_table *table, const char *line, size_t size)
{
    const char *hash = memchr(line, '#', size);
    size_t body = hash ? (size_t)(hash - line) : size;
    char text[MAX_LINE_SIZE];
    if (body >= sizeof text)
        return "is too long";
    copy_trimmed(text, sizeof text, line, body);
    if (text[0] == '\0')
        return NULL;
    size_t id_size = strcspn(text, blanks);
    const char *outcomes = text + id_size + strspn(text + id_size, blanks);
    if (id_size >= EXPECT_ID_SIZE)
        return "does not begin with the id of a case (\"S057 CLOSE  # why\")";
    if (strlen(outcomes) >= EXPECT_OUTCOME_SIZE)
        return "has too long an outcome";
    struct expectation entry = {.text = table->texts};
    snprintf(entry.id, sizeof entry.id, "%.*s", (int)id_size, text);
    snprintf(entry.outcomes, sizeof entry.outcomes, "%s", outcomes);
    if (hash)
        copy_trimmed(entry.reason, sizeof entry.reason, hash + 1, size - body - 1);
    const char *wrong = check_outcomes(entry.outcomes, entry.reason);
    if (wrong)
        return wrong;
    const struct expectation *present = expect_find(table, entry.id);
    if (present && present->text == table->texts)
        return "is about a case that has one already";
    if (!present && table->count == EXPECT_MAX_LINES)
        return "is one too many";
    table->lines[present ? (size_t)(present - table->lines) : table->count++] = entry;
    return NULL;
}

int expect_parse(struct expect_table *table, const char *text, char error_text[256])
{
    table->texts++;
    for (int number = 1; *text != '\0'; number++) {
        size_t size = strcspn(text, "\n");
        const char *wrong = parse_line(table, text, size);
        if (wrong) {
            snprintf(error_text, 256, "line %d %s: \"%.*s\"", number, wrong,
                     size < 60 ? (int)size : 60, text);
            return -1;
        }
        text += size + (text[size] == '\n');
    }
    return 0;
}

int expect_load(struct expect_table *table, const char *path, char error_text[256])
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        snprintf(error_text, 256, "%s", strerror(errno));
        return -1;
    }
    char *text = malloc(MAX_FILE_SIZE + 1);
    size_t size = text ? fread(text, 1, MAX_FILE_SIZE, file) : 0;
    bool whole = text && !ferror(file) && feof(file) && !memchr(text, '\0', size);
    fclose(file);
    int result = -1;
    if (whole) {
        text[size] = '\0';
        result = expect_parse(table, text, error_text);
    } else {
        snprintf(error_text, 256, "cannot be read, is no text, or is larger than %d bytes",
                 MAX_FILE_SIZE);
    }
    free(text);
    return result;
}

int expect_load_named(struct expect_table *table, const char *name, char error_text[256])
{
    char path[512], found[RUNFILE_PATH_SIZE], why[256];
    bool is_path = strchr(name, '/') || strchr(name, '.');
    snprintf(path, sizeof path, is_path ? "%s" : "tests/conformance/expect/%s.txt", name);
    if (expect_load(table, is_path ? path : runfile_find(path, found), why) == 0)
        return 0;
    snprintf(error_text, 256, "is no table: %.120s: %.100s", path, why);
    return -1;
}

static bool has_case(const struct case_list *cases, const char *id)
{
    for (size_t i = 0; i < cases->count; i++) {
        for (size_t j = 0; j < cases->sections[i]->count; j++) {
            if (strcmp(cases->sections[i]->cases[j].id, id) == 0)
                return true;
        }
    }
    return false;
}

const struct expectation *expect_find_foreign(const struct expect_table *table,
                                              const struct case_list *cases)
{
    for (size_t i = 0; i < table->count; i++) {
        if (!has_case(cases, table->lines[i].id))
            return &table->lines[i];
    }
    return NULL;
}

const struct expectation *expect_find(const struct expect_table *table, const char *id)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->lines[i].id, id) == 0)
            return &table->lines[i];
    }
    return NULL;
}

bool expect_met(const struct expectation *line, const char *outcome, bool failed)
{
    if (!line)
        return !failed;
    for (const char *at = line->outcomes; at;) {
        bool fails;
        char expected[EXPECT_OUTCOME_SIZE];
        at = take_outcome(at, &fails, expected);
        if (fails == failed && strcmp(expected, outcome) == 0)
            return true;
    }
    return false;
}
