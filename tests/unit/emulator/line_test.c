/* The line in time: when each byte has passed, to the microsecond. */
#include "emulator/line.h"

#include "tests/support/testing.h"

static struct usbip_line line_with(uint32_t rate, uint8_t data_bits, uint8_t parity, uint8_t stop)
{
    struct usbip_line line = {0};
    usbip_line_set_coding(&line, &(struct usbip_line_coding){rate, stop, parity, data_bits}, 0);
    return line;
}

static void test_bits_of_a_byte(void)
{
    static const struct {
        uint8_t data_bits, parity, stop;
        uint32_t half_bits;
    } cases[] = {
        {8, USBIP_PARITY_NONE, USBIP_STOP_1, 20},   {7, USBIP_PARITY_EVEN, USBIP_STOP_1, 20},
        {7, USBIP_PARITY_MARK, USBIP_STOP_2, 22},   {5, USBIP_PARITY_NONE, USBIP_STOP_1_5, 15},
        {16, USBIP_PARITY_SPACE, USBIP_STOP_2, 40}, {255, 255, USBIP_STOP_2, 518},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct usbip_line line =
            line_with(500000, cases[i].data_bits, cases[i].parity, cases[i].stop);
        CU_ASSERT_EQUAL(usbip_line_due_us(&line, 1), cases[i].half_bits);
    }
}

/* 115200 8N1: 11520 bytes a second, each when 86.8 us more have passed, for ten minutes. */
static void test_no_drift(void)
{
    struct usbip_line line = line_with(115200, 8, USBIP_PARITY_NONE, USBIP_STOP_1);
    const uint64_t bytes = 600 * UINT64_C(11520);
    for (uint64_t n = 0; n < bytes; n++) {
        uint64_t due_us = ((n + 1) * 10000000 + 115199) / 115200;
        CU_ASSERT_EQUAL_FATAL(usbip_line_due_us(&line, 1), due_us);
        CU_ASSERT_EQUAL_FATAL(usbip_line_count(&line, 3, due_us - 1), 0);
        CU_ASSERT_EQUAL_FATAL(usbip_line_count(&line, 3, due_us), 1);
        usbip_line_pass(&line, 1);
    }
    CU_ASSERT_EQUAL(usbip_line_due_us(&line, 0), 600 * UINT64_C(1000000));
}

/* The same when they pass in pieces of any size. */
static void test_pieces(void)
{
    struct usbip_line line = line_with(2400, 7, USBIP_PARITY_ODD, USBIP_STOP_2);
    uint64_t passed = 0, now_us = 0;
    for (uint64_t step = 1; step <= 1000; step++) {
        now_us += step * 7919 % 400000;
        size_t count = usbip_line_count(&line, 1 << 20, now_us);
        usbip_line_pass(&line, count);
        passed += count;
        CU_ASSERT_EQUAL_FATAL(passed, now_us * 2400 / (11 * 1000000));
    }
}

static void test_idle_and_busy(void)
{
    struct usbip_line line = line_with(1000, 8, USBIP_PARITY_NONE, USBIP_STOP_1); /* 10 ms a byte */
    usbip_line_start(&line, 5000);
    CU_ASSERT_EQUAL(usbip_line_due_us(&line, 1), 15000);
    CU_ASSERT_EQUAL(usbip_line_count(&line, 4, 44999), 3);
    CU_ASSERT_EQUAL(usbip_line_count(&line, 4, 1000000), 4);
    usbip_line_pass(&line, 4);
    usbip_line_start(&line, 45000); /* the last one passes now: no gap */
    CU_ASSERT_EQUAL(usbip_line_due_us(&line, 1), 55000);
    usbip_line_start(&line, 45001);
    CU_ASSERT_EQUAL(usbip_line_due_us(&line, 1), 55001);
}

static void test_coding_changes(void)
{
    struct usbip_line line = line_with(1000, 8, USBIP_PARITY_NONE, USBIP_STOP_1);
    const struct usbip_line_coding same = {1000, USBIP_STOP_1, USBIP_PARITY_EVEN, 7};
    const struct usbip_line_coding faster = {2000, USBIP_STOP_1, USBIP_PARITY_NONE, 8};
    const struct usbip_line_coding none = {0, USBIP_STOP_1, USBIP_PARITY_NONE, 8};
    usbip_line_set_coding(&line, &same, 3000);
    CU_ASSERT_EQUAL(usbip_line_due_us(&line, 1), 10000);
    usbip_line_set_coding(&line, &faster, 4000);
    CU_ASSERT_EQUAL(usbip_line_due_us(&line, 1), 9000);
    usbip_line_set_coding(&line, &none, 5000);
    CU_ASSERT_EQUAL(usbip_line_due_us(&line, 1000), 5000);
    CU_ASSERT_EQUAL(usbip_line_count(&line, 1000, 5000), 1000);
}

/* Whatever a host may ask for, and a million bytes at once. */
static void test_extremes(void)
{
    struct usbip_line fast = line_with(UINT32_MAX, 255, USBIP_PARITY_ODD, USBIP_STOP_2);
    usbip_line_pass(&fast, UINT32_MAX - 1);
    CU_ASSERT_EQUAL(usbip_line_due_us(&fast, 1), 259 * UINT64_C(1000000));
    CU_ASSERT_EQUAL(usbip_line_count(&fast, 1 << 20, UINT64_MAX / 2), 1 << 20);
    usbip_line_pass(&fast, 1);
    CU_ASSERT_EQUAL(usbip_line_due_us(&fast, 0), 259 * UINT64_C(1000000));
    struct usbip_line slow = line_with(1, 8, USBIP_PARITY_NONE, USBIP_STOP_1);
    CU_ASSERT_EQUAL(usbip_line_due_us(&slow, 1 << 20), (UINT64_C(10) << 20) * 1000000);
    usbip_line_pass(&slow, 1 << 20);
    CU_ASSERT_EQUAL(usbip_line_due_us(&slow, 1), ((UINT64_C(10) << 20) + 10) * 1000000);
    CU_ASSERT_EQUAL(usbip_line_count(&slow, 1, 0), 0);
}

int main(void)
{
    static CU_TestInfo tests[] = {
        {"bits of a byte", test_bits_of_a_byte},
        {"no drift", test_no_drift},
        {"pieces", test_pieces},
        {"idle and busy", test_idle_and_busy},
        {"coding changes", test_coding_changes},
        {"extremes", test_extremes},
        CU_TEST_INFO_NULL,
    };
    return run_tests("line", tests);
}
