#include "tests/throughput/statistics.h"

#include <math.h>
#include <string.h>

#include "tests/support/testing.h"
#include "tests/throughput/options.h"
#include "tests/throughput/serial.h"
#include "tests/throughput/series.h"

#define STATISTICS(...)                                                                            \
    statistics_of((const double[]){__VA_ARGS__}, sizeof(double[]){__VA_ARGS__} / sizeof(double))

static bool is(struct statistics statistics, double median, double min, double max)
{
    return statistics.median == median && statistics.min == min && statistics.max == max;
}

static void test_median(void)
{
    CU_ASSERT_TRUE(is(STATISTICS(7), 7, 7, 7));
    CU_ASSERT_TRUE(is(STATISTICS(3, 1, 2), 2, 1, 3));
    CU_ASSERT_TRUE(is(STATISTICS(4, 1, 3, 2), 2.5, 1, 4));
    CU_ASSERT_TRUE(is(STATISTICS(5, 5, 1, 5, 9), 5, 1, 9));
}

static void test_unknown(void)
{
    CU_ASSERT_TRUE(isnan(STATISTICS(1, NAN, 3).median));
    CU_ASSERT_TRUE(isnan(STATISTICS(1, NAN, 3).max));
    CU_ASSERT_TRUE(isnan(statistics_of(NULL, 0).median));
}

/* ---- Series ---- */

static struct sample samples[SIDE_COUNT][3];

/* The ratio is that of each run to its own reference, not of medians; CPU time is that of both. */
static void test_ratio(void)
{
    const double target[] = {100, 10, 60}, ceiling[] = {200, 10, 100};
    static struct series series = {.load = {.test = TEST_OUT, .size = 1}};
    memset(samples, 0, sizeof samples);
    for (int i = 0; i < 3; i++) {
        samples[TARGET][i] = (struct sample){
            .seconds = 2, .bytes = (uint64_t)target[i], .client_cpu_ns = 300, .server_cpu_ns = 700};
        samples[CEILING][i] = (struct sample){.seconds = 2,
                                              .bytes = (uint64_t)ceiling[i],
                                              .client_cpu_ns = 250,
                                              .server_cpu_ns = 250};
    }
    series_compare(&series, (const struct sample *[]){samples[TARGET], samples[CEILING]}, 3);
    CU_ASSERT_TRUE(is(series.ratio, 0.6, 0.5, 1));
    CU_ASSERT_TRUE(is(series.cpu_ratio, 0.3, 0.25, 0.5));
    samples[TARGET][0].server_cpu_ns = NAN; /* not on this machine */
    series_compare(&series, (const struct sample *[]){samples[TARGET], samples[CEILING]}, 3);
    CU_ASSERT_FALSE(isnan(series.ratio.median));
    CU_ASSERT_TRUE(isnan(series.cpu_ratio.median));
}

static void test_summary(void)
{
    static struct side_result result;
    memset(samples, 0, sizeof samples);
    for (unsigned i = 0; i < 3; i++) {
        samples[TARGET][i] = (struct sample){
            .seconds = 0.5,
            .urbs = 10 * (i + 1),
            .bytes = 1000,
            .client_cpu_ns = 3000,
            .server_cpu_ns = NAN,
            .client_rss = 100 - i,
            .server_rss = NAN,
        };
        histogram_record(&samples[TARGET][i].latency, i);
    }
    series_summarize(&result, samples[TARGET], 3);
    CU_ASSERT_TRUE(result.measured);
    CU_ASSERT_TRUE(is(result.urbs_per_s, 40, 20, 60));
    CU_ASSERT_TRUE(is(result.bytes_per_s, 2000, 2000, 2000));
    CU_ASSERT_TRUE(is(result.client_ns, 150, 100, 300));
    CU_ASSERT_TRUE(isnan(result.server_ns.median) && isnan(result.server_rss));
    CU_ASSERT_EQUAL(result.client_rss, 100);
    CU_ASSERT_EQUAL(result.latency.count, 3);
}

/* Run by run: what it reaches in the same time, and with the same CPU time. */
static void test_client_run(void)
{
    static struct sample library = {
        .seconds = 2, .bytes = 600, .client_cpu_ns = 300, .server_cpu_ns = 300};
    static struct sample raw = {
        .seconds = 1, .bytes = 400, .client_cpu_ns = 100, .server_cpu_ns = 200};
    double rate, cpu;
    series_compare_clients(&library, &raw, &rate, &cpu);
    CU_ASSERT_EQUAL(rate, 0.75);
    CU_ASSERT_EQUAL(cpu, 0.75);
    library.seconds = 3; /* others ran meanwhile */
    series_compare_clients(&library, &raw, &rate, &cpu);
    CU_ASSERT_EQUAL(rate, 0.5);
    CU_ASSERT_EQUAL(cpu, 0.75);
}

/* The library is compared with the raw client that does the same. */
static void test_client_ratio(void)
{
    static struct series series = {
        .load = {TEST_SERIAL, 64, SERIAL_STREAM, 1, 1},
        .client_ratios = {{.depth = 8, .rate = {0.25, 0.2, 0.3}},
                          {.depth = 1, .rate = {2, 1, 3}},
                          {.depth = 64, .rate = {NAN, NAN, NAN}}},
        .client_ratio_count = 3,
    };
    CU_ASSERT_EQUAL(series_client_ratio(&series), 0.25);
    series.load.depth = 1;
    CU_ASSERT_EQUAL(series_client_ratio(&series), 2);
    CU_ASSERT_PTR_EQUAL(series_find_client_ratio(&series, 1), &series.client_ratios[1]);
    CU_ASSERT_PTR_NULL(series_find_client_ratio(&series, 16));
    series.client_ratio_count = 1;
    CU_ASSERT_TRUE(isnan(series_client_ratio(&series)));
}

static void test_latencies(void)
{
    static struct series series;
    CU_ASSERT_TRUE(isnan(series_tail(&series, TARGET)));
    CU_ASSERT_TRUE(isnan(series_latency_ratio(&series, 0.5)));
    for (int i = 0; i < 100; i++) {
        histogram_record(&series.sides[TARGET].latency, i < 98 ? 20 : 60);
        histogram_record(&series.sides[CEILING].latency, i < 98 ? 10 : 20);
    }
    CU_ASSERT_EQUAL(series_tail(&series, TARGET), 3);
    CU_ASSERT_EQUAL(series_tail(&series, CEILING), 2);
    CU_ASSERT_EQUAL(series_latency_ratio(&series, 0.5), 2);
    CU_ASSERT_EQUAL(series_latency_ratio(&series, 0.99), 3);
}

static void test_in_flight(void)
{
    static struct series series = {.load = {TEST_OUT, 1000, 10, 2, 1}};
    series.sides[TARGET].bytes_per_s.median = 300000;
    CU_ASSERT_TRUE(isnan(series_filled(&series, TARGET)));
    series.delay_ms = 50;
    CU_ASSERT_EQUAL(series_in_flight(&series, TARGET), 15000);
    CU_ASSERT_EQUAL(series_filled(&series, TARGET), 0.75);
    series.load.test = TEST_SERIAL;
    series.load.depth = SERIAL_STREAM;
    CU_ASSERT_TRUE(isnan(series_filled(&series, TARGET)));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"median, minimum, maximum", test_median},
        {"unknown values", test_unknown},
        {"ratio, run by run", test_ratio},
        {"summary of the runs", test_summary},
        {"client, run by run", test_client_run},
        {"client ratio", test_client_ratio},
        {"latencies", test_latencies},
        {"in flight", test_in_flight},
        CU_TEST_INFO_NULL,
    };
    return run_tests("statistics", tests);
}
