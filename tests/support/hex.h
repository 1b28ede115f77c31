/* Bytes as they stand in a specification: in hex. */
#ifndef TESTS_SUPPORT_HEX_H
#define TESTS_SUPPORT_HEX_H

#include <CUnit/Basic.h>

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes that are written out as hex digits; blanks and '|' between them are for the reader. */
struct bytes {
    size_t size;
    uint8_t data[512];
};

static inline int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *digit = strchr(digits, tolower((unsigned char)c));

    if (c == '\0' || digit == NULL) {
        fprintf(stderr, "'%c' is no hex digit: correct the test\n", c);
        abort();
    }
    return (int)(digit - digits);
}

static inline struct bytes hex(const char *text)
{
    struct bytes bytes = {0};

    while (*text != '\0') {
        if (*text == ' ' || *text == '|') {
            text++;
            continue;
        }
        if (bytes.size == sizeof(bytes.data)) {
            fprintf(stderr, "more than %zu bytes: correct the test\n", sizeof(bytes.data));
            abort();
        }
        bytes.data[bytes.size++] = (uint8_t)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
        text += 2;
    }
    return bytes;
}

/* A copy of exactly this size on the heap, where a sanitizer sees any step over its end. */
static inline uint8_t *exact_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);

    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    return copy;
}

#define ASSERT_BYTES(actual, expected)                                                             \
    do {                                                                                           \
        struct bytes wanted_ = hex(expected);                                                      \
        CU_ASSERT_EQUAL(sizeof(actual), wanted_.size);                                             \
        CU_ASSERT_EQUAL(memcmp(actual, wanted_.data, sizeof(actual)), 0);                          \
    } while (0)

#endif
