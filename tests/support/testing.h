/* What the CUnit tests share. */
#ifndef TESTS_SUPPORT_TESTING_H
#define TESTS_SUPPORT_TESTING_H

#include <CUnit/Basic.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the test. CUnit does that by a jump that static analysis does not see; abort() it knows. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        bool holds_ = (condition);                                                                 \
        CU_assertImplementation(holds_, __LINE__, #condition, __FILE__, "", CU_TRUE);              \
        if (!holds_)                                                                               \
            abort();                                                                               \
    } while (0)

/* Runs the suites, which end with CU_SUITE_INFO_NULL. Returns the exit status of the program. */
static inline int run_suites(CU_SuiteInfo *suites)
{
    if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
        fprintf(stderr, "%s: %s\n", suites[0].pName, CU_get_error_msg());
        return EXIT_FAILURE;
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failures = CU_get_number_of_failure_records();
    CU_cleanup_registry();
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The same for the tests of one suite, which end with CU_TEST_INFO_NULL. */
static inline int run_tests(const char *name, CU_TestInfo *tests)
{
    CU_SuiteInfo suites[] = {{name, NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    return run_suites(suites);
}

#endif
