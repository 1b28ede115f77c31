#include "tests/throughput/histogram.h"

#include <string.h>

#include "tests/support/testing.h"

static struct histogram histogram, other;

static void clear(void)
{
    memset(&histogram, 0, sizeof histogram);
    memset(&other, 0, sizeof other);
}

static void test_empty(void)
{
    clear();
    CU_ASSERT_EQUAL(histogram_quantile(&histogram, 0.5), 0);
    CU_ASSERT_EQUAL(histogram_quantile(&histogram, 1), 0);
}

/* Small times are exact. */
static void test_exact(void)
{
    clear();
    for (uint64_t i = 1; i <= 100; i++)
        histogram_record(&histogram, i);
    CU_ASSERT_EQUAL(histogram_quantile(&histogram, 0), 1);
    CU_ASSERT_EQUAL(histogram_quantile(&histogram, 0.5), 50);
    CU_ASSERT_EQUAL(histogram_quantile(&histogram, 0.501), 51);
    CU_ASSERT_EQUAL(histogram_quantile(&histogram, 0.99), 99);
    CU_ASSERT_EQUAL(histogram_quantile(&histogram, 1), 100);
    CU_ASSERT_EQUAL(histogram.max_ns, 100);
}

/* Of one time and a longer one, the first is told within the bound, never too low. */
static void test_error_bound(void)
{
    for (uint64_t time = 1; time < UINT64_C(1) << 41; time += time / 37 + 1) {
        clear();
        histogram_record(&histogram, time);
        histogram_record(&histogram, UINT64_C(1) << 41);
        uint64_t told = histogram_quantile(&histogram, 0.5);
        CU_ASSERT_TRUE(told >= time && told - time <= time / (HISTOGRAM_LINEAR / 2));
    }
}

/* The ends of buckets, where a shift too many would show. */
static void test_powers_of_two(void)
{
    for (unsigned bit = 0; bit < 41; bit++) {
        for (int offset = -1; offset <= 1; offset++) {
            uint64_t time = (UINT64_C(1) << bit) + (uint64_t)offset;
            clear();
            histogram_record(&histogram, time);
            histogram_record(&histogram, UINT64_MAX);
            uint64_t told = histogram_quantile(&histogram, 0.5);
            CU_ASSERT_TRUE(told >= time && told - time <= time / (HISTOGRAM_LINEAR / 2));
        }
    }
}

static void test_too_long(void)
{
    clear();
    histogram_record(&histogram, UINT64_MAX);
    histogram_record(&histogram, UINT64_MAX - 1);
    CU_ASSERT_EQUAL(histogram_quantile(&histogram, 0.5), UINT64_MAX);
    CU_ASSERT_EQUAL(histogram.max_ns, UINT64_MAX);
}

static void test_add(void)
{
    clear();
    histogram_record(&histogram, 10);
    histogram_record(&other, 20);
    histogram_record(&other, 100);
    histogram_add(&histogram, &other);
    CU_ASSERT_EQUAL(histogram.count, 3);
    CU_ASSERT_EQUAL(histogram.max_ns, 100);
    CU_ASSERT_EQUAL(histogram_quantile(&histogram, 0.5), 20);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"empty", test_empty},
        {"exact", test_exact},
        {"error bound", test_error_bound},
        {"powers of two", test_powers_of_two},
        {"longer than all buckets", test_too_long},
        {"add", test_add},
        CU_TEST_INFO_NULL,
    };
    return run_tests("histogram", tests);
}
