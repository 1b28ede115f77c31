#include "tests/conformance/expect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    const char *outcome = text + id_size + strspn(text + id_size, blanks);
    size_t word = strcspn(outcome, blanks);
    bool fails = word == strlen(fail_word) && strncmp(outcome, fail_word, word) == 0;
    if (fails)
        outcome += word + strspn(outcome + word, blanks);
    if (id_size >= EXPECT_ID_SIZE || *outcome == '\0')
        return "does not say which outcome a case has (\"S057 CLOSE  # why\")";
    if (strlen(outcome) >= EXPECT_OUTCOME_SIZE)
        return "has too long an outcome";
    struct expectation entry = {.fails = fails, .text = table->texts};
    snprintf(entry.id, sizeof entry.id, "%.*s", (int)id_size, text);
    snprintf(entry.outcome, sizeof entry.outcome, "%s", outcome);
    if (hash)
        copy_trimmed(entry.reason, sizeof entry.reason, hash + 1, size - body - 1);
    if (fails && entry.reason[0] == '\0')
        return "does not say why the case fails (\"# why\")";
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
    bool whole = text && !ferror(file) && feof(file);
    fclose(file);
    int result = -1;
    if (whole) {
        text[size] = '\0';
        result = expect_parse(table, text, error_text);
    } else {
        snprintf(error_text, 256, "cannot be read, or is larger than %d bytes", MAX_FILE_SIZE);
    }
    free(text);
    return result;
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
    return line ? line->fails == failed && strcmp(line->outcome, outcome) == 0 : !failed;
}
