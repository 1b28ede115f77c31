/* A run is written, read as a baseline, and compared with another. */
#include "tests/throughput/baseline.h"

#include <math.h>
#include <string.h>

#include "tests/support/testing.h"
#include "tests/throughput/report.h"

enum { SERIES = 2 };

static char path[512], error_text[BASELINE_ERROR_SIZE], output[4096];
static struct series before[SERIES], now[SERIES];
static struct options options;

static struct statistics around(double median, double spread)
{
    return (struct statistics){median, median - spread / 2, median + spread / 2};
}

/* A ping at 1000 URB/s, and an echo at 80 % of the ceiling; each with a spread of a tenth. */
static void prepare(struct series series[SERIES])
{
    memset(series, 0, SERIES * sizeof *series);
    series[0] = (struct series){
        .device = "echo",
        .load = {TEST_PING, 18, 1, 1, 0.5},
        .sides[TARGET] = {.measured = true, .urbs_per_s = around(1000, 100)},
        .ratio = {NAN, NAN, NAN},
        .cpu_ratio = {NAN, NAN, NAN},
    };
    series[1] = (struct series){
        .device = "echo",
        .load = {TEST_ECHO, 512, 64, 1, 0.5},
        .sides[TARGET] = {.measured = true, .bytes_per_s = around(5e8, 1e6)},
        .sides[CEILING] = {.measured = true, .bytes_per_s = around(6.25e8, 1e6)},
        .ratio = around(0.8, 0.08),
        .cpu_ratio = around(0.8, 0.01),
    };
}

static struct baseline *save_and_load(unsigned runs)
{
    static struct report report;
    options.runs = runs;
    report.options = &options;
    report.series = before;
    report.count = SERIES;
    CU_ASSERT_TRUE_FATAL(report_json(&report, path));
    return baseline_load(&options, error_text);
}

static unsigned compare(const struct baseline *baseline, unsigned *compared)
{
    FILE *file = fmemopen(output, sizeof output, "w");
    unsigned losses = baseline_compare(baseline, now, SERIES, file, compared);
    fclose(file);
    return losses;
}

static void begin(void)
{
    prepare(before);
    prepare(now);
    options = (struct options){.baseline = path, .server_cpu = 0, .client_cpu = NO_CPU};
}

static void test_same(void)
{
    unsigned compared;
    begin();
    struct baseline *baseline = save_and_load(3);
    REQUIRE(baseline != NULL);
    CU_ASSERT_EQUAL(compare(baseline, &compared), 0);
    CU_ASSERT_EQUAL(compared, 2);
    baseline_free(baseline);
}

/* Within the spread of both, and beyond it. */
static void test_noise(void)
{
    unsigned compared;
    begin();
    struct baseline *baseline = save_and_load(3);
    REQUIRE(baseline != NULL);
    now[0].sides[TARGET].urbs_per_s = around(810, 100);
    CU_ASSERT_EQUAL(compare(baseline, &compared), 0);
    now[0].sides[TARGET].urbs_per_s = around(790, 100);
    CU_ASSERT_EQUAL(compare(baseline, &compared), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "LOSS"));
    now[0].sides[TARGET].urbs_per_s = around(1210, 100);
    CU_ASSERT_EQUAL(compare(baseline, &compared), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "gain"));
    baseline_free(baseline);
}

/* A slower machine is no loss when its ceiling is lower, too; a lower ratio is one. */
static void test_ratios_first(void)
{
    unsigned compared;
    begin();
    struct baseline *baseline = save_and_load(3);
    REQUIRE(baseline != NULL);
    now[1].sides[TARGET].bytes_per_s = around(1e8, 1e6);
    CU_ASSERT_EQUAL(compare(baseline, &compared), 0);
    now[1].ratio = around(0.6, 0.08);
    CU_ASSERT_EQUAL(compare(baseline, &compared), 1);
    now[1].ratio = (struct statistics){NAN, NAN, NAN}; /* without --ceiling: rates */
    CU_ASSERT_EQUAL(compare(baseline, &compared), 1);
    CU_ASSERT_EQUAL(compared, 2);
    baseline_free(baseline);
}

static void test_others_are_not_compared(void)
{
    unsigned compared;
    begin();
    struct baseline *baseline = save_and_load(3);
    REQUIRE(baseline != NULL);
    now[0].load.depth = 2;
    strcpy(now[1].device, "echo_lua");
    CU_ASSERT_EQUAL(compare(baseline, &compared), 0);
    CU_ASSERT_EQUAL(compared, 0);
    prepare(now);
    now[0].delay_ms = 50;
    now[1].load.size = 64;
    compare(baseline, &compared);
    CU_ASSERT_EQUAL(compared, 0);
    baseline_free(baseline);
}

/* A figure of one core is no baseline for one of two. */
static void test_other_cores(void)
{
    begin();
    baseline_free(save_and_load(3));
    options.client_cpu = 0;
    CU_ASSERT_PTR_NULL(baseline_load(&options, error_text));
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "other cores"));
    options.client_cpu = options.server_cpu = NO_CPU;
    CU_ASSERT_PTR_NULL(baseline_load(&options, error_text));
    options.server_cpu = 0;
    struct baseline *baseline = baseline_load(&options, error_text);
    CU_ASSERT_PTR_NOT_NULL(baseline);
    baseline_free(baseline);
}

static bool refused(const char *text, const char *why)
{
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    struct baseline *baseline = baseline_load(&options, error_text);
    bool said = !baseline && strstr(error_text, why) && strstr(error_text, path);
    if (!said)
        fprintf(stderr, "said \"%s\" instead of \"%s\"\n", error_text, why);
    baseline_free(baseline);
    return said;
}

static void test_bad_files(void)
{
    begin();
    CU_ASSERT_PTR_NULL(save_and_load(2));
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "less than 3 runs"));
    CU_ASSERT_TRUE(refused("", "line 1"));
    CU_ASSERT_TRUE(refused("{\"format\":\n", "line 2"));
    CU_ASSERT_TRUE(refused("[]", "no file that --json"));
    CU_ASSERT_TRUE(refused("{}", "no file that --json"));
    CU_ASSERT_TRUE(refused("{\"format\": \"usbip-throughput 1\", \"runs\": 3, \"series\": 1}",
                           "no file that --json"));
    remove(path);
    CU_ASSERT_PTR_NULL(baseline_load(&options, error_text));
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "No such file"));
}

/* What is in a file is not trusted. */
static void test_odd_series(void)
{
    static const char text[] =
        "{\"format\": \"usbip-throughput 1\", \"runs\": 3, \"server_cpu\": 0, \"series\": [1, "
        "null, {}, {\"device\": "
        "\"echo\", \"test\": \"ping\", \"size\": 18, \"depth\": 1, \"connections\": 1, "
        "\"delay_ms\": 0, \"target\": {\"urbs_per_s\": {\"median\": \"much\"}}}]}";
    unsigned compared;
    begin();
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    struct baseline *baseline = baseline_load(&options, error_text);
    REQUIRE(baseline != NULL);
    CU_ASSERT_EQUAL(compare(baseline, &compared), 0);
    CU_ASSERT_EQUAL(compared, 0);
    baseline_free(baseline);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"the same", test_same},
        {"noise", test_noise},
        {"ratios first", test_ratios_first},
        {"other figures", test_others_are_not_compared},
        {"other cores", test_other_cores},
        {"bad files", test_bad_files},
        {"odd series", test_odd_series},
        CU_TEST_INFO_NULL,
    };
    const char *folder = getenv("TEST_TMPDIR");
    snprintf(path, sizeof path, "%s/baseline.json", folder ? folder : "/tmp");
    return run_tests("baseline", tests);
}
