/* What the CUnit tests share. */
#ifndef TESTS_SUPPORT_TESTING_H
#define TESTS_SUPPORT_TESTING_H

#include <CUnit/Basic.h>

#include <ctype.h>
#include <stdbool.h>
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

/* Ends the test. CUnit does that by a jump that static analysis does not see; abort() it knows. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        bool holds_ = (condition);                                                                 \
        CU_assertImplementation(holds_, __LINE__, #condition, __FILE__, "", CU_TRUE);              \
        if (!holds_)                                                                               \
            abort();                                                                               \
    } while (0)

#define ASSERT_BYTES(actual, expected)                                                             \
    do {                                                                                           \
        struct bytes wanted_ = hex(expected);                                                      \
        CU_ASSERT_EQUAL(sizeof(actual), wanted_.size);                                             \
        CU_ASSERT_EQUAL(memcmp(actual, wanted_.data, sizeof(actual)), 0);                          \
    } while (0)

/* Runs the tests, which end with CU_TEST_INFO_NULL. Returns the exit status of the program. */
static inline int run_tests(const char *name, CU_TestInfo *tests)
{
    CU_SuiteInfo suites[] = {{name, NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    unsigned failures;

    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        fprintf(stderr, "%s: %s\n", name, CU_get_error_msg());
        return EXIT_FAILURE;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    failures = CU_get_number_of_failure_records();
    CU_cleanup_registry();
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
