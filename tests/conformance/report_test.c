/* The reports, over made-up results. */
#include "tests/conformance/report.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/testing.h"

static const struct conformance_case first_cases[] = {
    {"S001", "one", MUST, CORE, 0, "It is <one> & \"only\".", "a rule", NULL, "never"},
    {"S002", "two", MAY, STRICT | SOAK, 0, "It is two.", "a rule", NULL, "never"},
};
static const struct conformance_case second_cases[] = {
    {"S003", "three", SHOULD, HOSTILE, 0, "It is three.", "a rule", NULL, "never"},
};
static const struct section first = {"A", "First", first_cases, 2};
static const struct section second = {"B", "Second", second_cases, 1};

static const struct section *const both[] = {&first, &second};
static const struct case_list cases = {both, 2};

static char exchange[] = "A > 01\nA < 02\n";

static struct result results[3];
static const struct report report = {"a server", results, 3};

static void make_results(void)
{
    const struct result made[] = {
        {&first, &first_cases[0], FAIL, "REPLY(1,0)", "the <status> is 1", NULL, false, exchange,
         0.5},
        {&first, &first_cases[1], PASS, "CLOSE", "", NULL, true, NULL, 0.25},
        {&second, &second_cases[0], NOT_APPLICABLE, "not-applicable", "there is none", NULL, true,
         NULL, 0},
    };
    memcpy(results, made, sizeof made);
}

static char *text_of(void (*write)(FILE *, const struct report *))
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    REQUIRE(stream != NULL);
    make_results();
    write(stream, &report);
    fclose(stream);
    return text;
}

static void write_text(FILE *stream, const struct report *of)
{
    report_text(stream, of, false);
}

static void test_text(void)
{
    char *text = text_of(write_text);
    const char *deviation = strstr(text, "S001 one (MUST): REPLY(1,0)\n  required: It is <one>");
    const char *section = strstr(text, "\nA. First\n  FAIL S001 one: REPLY(1,0)   <-- see above\n"
                                       "  ok   S002 two: CLOSE\n");
    REQUIRE(deviation && section);
    CU_ASSERT_TRUE(deviation < section);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "    A > 01\n    A < 02\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "  -    S003 three: there is none\n"));
    const char *totals =
        "\n3 cases: 1 passed, 1 failed, 1 not applicable; 1 not as expected; 0.8 s\n";
    REQUIRE(strlen(text) > strlen(totals));
    CU_ASSERT_STRING_EQUAL(text + strlen(text) - strlen(totals), totals);
    free(text);
}

static void test_tap(void)
{
    char *text = text_of(report_tap);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "TAP version 13\n1..3\nnot ok 1 - S001 one: REPLY(1,0)\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "#   A > 01\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\nok 2 - S002 two: CLOSE\n"));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(text, "ok 3 - S003 three: not-applicable # SKIP there is none\n"));
    free(text);
}

static void test_junit(void)
{
    char *text = text_of(report_junit);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(text, "<testsuite name=\"A. First\" tests=\"2\" failures=\"1\" skipped=\"0\">"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text,
                                  "<failure message=\"the &lt;status&gt; is 1\" type=\"MUST\">"
                                  "It is &lt;one&gt; &amp; &quot;only&quot;."));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "<skipped message=\"there is none\"/>"));
    free(text);
}

static void test_json(void)
{
    char *text = text_of(report_json);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"requirement\": \"It is <one> & \\\"only\\\".\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"exchange\": \"A > 01\\u000aA < 02\\u000a\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"verdict\": \"not applicable\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"as_expected\": false"));
    free(text);
}

static void test_wanted(void)
{
    const char *by_id[] = {"s001"}, *by_name[] = {"one"}, *by_section[] = {"a"},
               *other[] = {"S003"};
    CU_ASSERT_TRUE(case_is_wanted(&first, &first_cases[0], NULL, 0));
    CU_ASSERT_TRUE(case_is_wanted(&first, &first_cases[0], by_id, 1));
    CU_ASSERT_TRUE(case_is_wanted(&first, &first_cases[0], by_name, 1));
    CU_ASSERT_TRUE(case_is_wanted(&first, &first_cases[0], by_section, 1));
    CU_ASSERT_FALSE(case_is_wanted(&first, &first_cases[0], other, 1));
}

static void test_list(void)
{
    const char *wanted[] = {"S002"};
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    REQUIRE(stream != NULL);
    report_list(stream, &cases, wanted, 1);
    fclose(stream);
    CU_ASSERT_STRING_EQUAL(text, "A. First\n"
                                 "  S002 two  MAY (strict, soak)\n"
                                 "       It is two. [a rule]\n"
                                 "       not applicable: never\n");
    free(text);
}

/* The first lines and the last are kept, and how many are missing is said. */
static void test_long_exchange(void)
{
    static struct wire_log log;
    for (int i = 0; i < 100; i++)
        wire_log_add(&log, "line %d", i);
    char *text = report_exchange(&log);
    REQUIRE(text != NULL);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "line 0\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "line 23\n... 52 lines\nline 76\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "line 99\n"));
    free(text);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"text", test_text},
        {"TAP", test_tap},
        {"JUnit", test_junit},
        {"JSON", test_json},
        {"which cases are wanted", test_wanted},
        {"list", test_list},
        {"a long exchange", test_long_exchange},
        CU_TEST_INFO_NULL,
    };
    return run_tests("report", tests);
}
