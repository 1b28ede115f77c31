/* Tables of expectations. */
#include "tests/conformance/expect.h"

#include <string.h>

#include "tests/support/testing.h"

static struct expect_table table;
static char error_text[256];

static int parse(const char *text)
{
    memset(&table, 0, sizeof table);
    return expect_parse(&table, text, error_text);
}

static void test_lines(void)
{
    REQUIRE(parse("# a comment\n"
                  "\n"
                  "S057 CLOSE  # why\n"
                  "  S006\tCLOSE, CLOSE \r\n"
                  "S124 UNLINK(-104)") == 0);
    CU_ASSERT_EQUAL(table.count, 3);
    CU_ASSERT_STRING_EQUAL(table.lines[0].id, "S057");
    CU_ASSERT_STRING_EQUAL(table.lines[0].outcomes, "CLOSE");
    CU_ASSERT_STRING_EQUAL(table.lines[0].reason, "why");
    CU_ASSERT_STRING_EQUAL(table.lines[1].id, "S006");
    CU_ASSERT_STRING_EQUAL(table.lines[1].outcomes, "CLOSE, CLOSE");
    CU_ASSERT_STRING_EQUAL(table.lines[2].outcomes, "UNLINK(-104)");
    CU_ASSERT_STRING_EQUAL(table.lines[2].reason, "");
}

static void test_malformed_lines_are_named(void)
{
    CU_ASSERT_EQUAL(parse("S001 ok\nS002\n"), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "line 2"));
    CU_ASSERT_EQUAL(parse("S001 # only a reason\n"), -1);
    CU_ASSERT_EQUAL(parse("S001 fail # no outcome\n"), -1);
    CU_ASSERT_EQUAL(parse("S001 fail CLOSE\n"), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "does not say why"));
    CU_ASSERT_EQUAL(parse("S001-far-too-long ok\n"), -1);
    CU_ASSERT_EQUAL(parse("S001 ok\nS001 CLOSE\n"), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "has one already"));
}

static void test_long_lines(void)
{
    static char text[2048];
    memset(text, 'x', sizeof text - 1);
    CU_ASSERT_EQUAL(parse(text), -1);
    memcpy(text, "S001 ", 5);
    text[400] = '\0';
    CU_ASSERT_EQUAL(parse(text), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "too long an outcome"));
}

static void test_too_many_lines(void)
{
    static char text[8 * (EXPECT_MAX_LINES + 2)];
    char *at = text;
    for (int i = 0; i < EXPECT_MAX_LINES; i++)
        at += sprintf(at, "%04d x\n", i);
    CU_ASSERT_EQUAL(parse(text), 0);
    strcpy(at, "last x\n");
    CU_ASSERT_EQUAL(parse(text), -1);
}

static void test_missing_file(void)
{
    CU_ASSERT_EQUAL(expect_load(&table, "/nowhere/table.txt", error_text), -1);
    CU_ASSERT_NOT_EQUAL(error_text[0], '\0');
}

static void test_later_text_replaces_lines(void)
{
    REQUIRE(parse("S001 ok\nS002 12 bytes\n") == 0);
    REQUIRE(expect_parse(&table, "S003 ok\nS001 fail CLOSE # why\n", error_text) == 0);
    CU_ASSERT_EQUAL(table.count, 3);
    CU_ASSERT_STRING_EQUAL(expect_find(&table, "S001")->outcomes, "fail CLOSE");
    CU_ASSERT_STRING_EQUAL(expect_find(&table, "S002")->outcomes, "12 bytes");
    CU_ASSERT_EQUAL(expect_parse(&table, "S002 ok\nS002 CLOSE\n", error_text), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "has one already"));
}

/* Outcome and verdict have to be those of the line; without one a case must not fail. */
static void test_met(void)
{
    REQUIRE(parse("S112 fail REPLY(0,10) # why\nS124 UNLINK(-104)\n") == 0);
    const struct expectation *line = expect_find(&table, "S112");
    REQUIRE(line != NULL);
    CU_ASSERT_TRUE(expect_met(line, "REPLY(0,10)", true));
    CU_ASSERT_FALSE(expect_met(line, "REPLY(0,10)", false));
    CU_ASSERT_FALSE(expect_met(line, "REPLY(-75,0)", false));
    CU_ASSERT_FALSE(expect_met(line, "not-applicable", false));
    line = expect_find(&table, "S124");
    REQUIRE(line != NULL);
    CU_ASSERT_TRUE(expect_met(line, "UNLINK(-104)", false));
    CU_ASSERT_FALSE(expect_met(line, "UNLINK(-104)", true));
    CU_ASSERT_PTR_NULL(expect_find(&table, "S001"));
    CU_ASSERT_TRUE(expect_met(NULL, "anything", false));
    CU_ASSERT_FALSE(expect_met(NULL, "anything", true));
}

static void test_several_outcomes(void)
{
    REQUIRE(parse("S005 ok | fail CLOSE # why\n") == 0);
    const struct expectation *line = expect_find(&table, "S005");
    CU_ASSERT_TRUE(expect_met(line, "ok", false));
    CU_ASSERT_TRUE(expect_met(line, "CLOSE", true));
    CU_ASSERT_FALSE(expect_met(line, "ok", true));
    CU_ASSERT_FALSE(expect_met(line, "CLOSE", false));
    CU_ASSERT_FALSE(expect_met(line, "ok | fail CLOSE", false));
    CU_ASSERT_EQUAL(parse("S005 ok | CLOSE\n"), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "does not say why"));
    CU_ASSERT_EQUAL(parse("S005 ok | # why\n"), -1);
    CU_ASSERT_EQUAL(parse("S005 ok | fail # why\n"), -1);
}

/* A case that a table knows must not become not applicable without a word. */
static void test_not_applicable(void)
{
    REQUIRE(parse("S052 ok\nS053 not-applicable\n") == 0);
    CU_ASSERT_FALSE(expect_met(expect_find(&table, "S052"), "not-applicable", false));
    CU_ASSERT_TRUE(expect_met(expect_find(&table, "S053"), "not-applicable", false));
    CU_ASSERT_FALSE(expect_met(expect_find(&table, "S053"), "ok", false));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"lines", test_lines},
        {"malformed lines are named", test_malformed_lines_are_named},
        {"long lines", test_long_lines},
        {"too many lines", test_too_many_lines},
        {"a later text replaces lines", test_later_text_replaces_lines},
        {"a missing file", test_missing_file},
        {"several outcomes", test_several_outcomes},
        {"not applicable", test_not_applicable},
        {"what is as expected", test_met},
        CU_TEST_INFO_NULL,
    };
    return run_tests("expect", tests);
}
