/* The FIFO: order over the wrap, growth, the limit. */
#include <stdlib.h>
#include <string.h>

#include "emulator/fifo.h"
#include "emulator/function.h"
#include "tests/support/testing.h"

static void test_empty(void)
{
    struct usbip_fifo fifo = {0};
    uint8_t byte = 0x55;
    CU_ASSERT_EQUAL(usbip_fifo_room(&fifo), USBIP_FIFO_SIZE);
    CU_ASSERT_EQUAL(usbip_fifo_get(&fifo, &byte, 1), 0);
    CU_ASSERT_EQUAL(usbip_fifo_put(&fifo, &byte, 0), 0);
    CU_ASSERT_EQUAL(byte, 0x55);
    CU_ASSERT_PTR_NULL(fifo.data); /* memory only while there are bytes */
    usbip_fifo_clear(&fifo);
}

/* Bytes count upwards, in and out, with pieces that wrap at every place of the ring. */
static void test_order_over_the_wrap(void)
{
    struct usbip_fifo fifo = {0};
    uint8_t piece[700], next_in = 0, next_out = 0;
    for (size_t step = 0; step < 4000; step++) {
        size_t in = step * 7 % 701, out = step * 11 % 699;
        for (size_t i = 0; i < in; i++)
            piece[i] = next_in++;
        CU_ASSERT_EQUAL_FATAL(usbip_fifo_put(&fifo, piece, in), in);
        size_t expected = out < fifo.size ? out : fifo.size;
        CU_ASSERT_EQUAL_FATAL(usbip_fifo_get(&fifo, piece, out), expected);
        for (size_t i = 0; i < expected; i++)
            CU_ASSERT_EQUAL_FATAL(piece[i], next_out++);
    }
    usbip_fifo_clear(&fifo);
    CU_ASSERT_EQUAL(fifo.size, 0);
}

/* Grown while its content lies over the end of the ring. */
static void test_grows_while_wrapped(void)
{
    struct usbip_fifo fifo = {0};
    uint8_t bytes[3000], back[3000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8));
    CU_ASSERT_EQUAL(usbip_fifo_put(&fifo, bytes, 1024), 1024);
    CU_ASSERT_EQUAL(usbip_fifo_get(&fifo, back, 1000), 1000);
    CU_ASSERT_EQUAL(usbip_fifo_put(&fifo, bytes + 1024, 900), 900);
    CU_ASSERT_TRUE(fifo.first + fifo.size > fifo.capacity);
    CU_ASSERT_EQUAL(usbip_fifo_put(&fifo, bytes + 1924, 1076), 1076);
    CU_ASSERT_EQUAL(usbip_fifo_get(&fifo, back, sizeof back), 2000);
    CU_ASSERT_EQUAL(memcmp(back, bytes + 1000, 2000), 0);
    usbip_fifo_clear(&fifo);
}

static void test_limit(void)
{
    struct usbip_fifo fifo = {0};
    uint8_t *bytes = calloc(1, USBIP_FIFO_SIZE + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    bytes[USBIP_FIFO_SIZE - 1] = 0xee;
    CU_ASSERT_EQUAL(usbip_fifo_put(&fifo, bytes, USBIP_FIFO_SIZE + 1), USBIP_FIFO_SIZE);
    CU_ASSERT_EQUAL(usbip_fifo_room(&fifo), 0);
    CU_ASSERT_EQUAL(usbip_fifo_put(&fifo, bytes, 1), 0);
    CU_ASSERT_EQUAL(usbip_fifo_get(&fifo, bytes, 1), 1);
    CU_ASSERT_EQUAL(usbip_fifo_room(&fifo), 1);
    CU_ASSERT_EQUAL(usbip_fifo_put(&fifo, bytes, 2), 1);
    CU_ASSERT_EQUAL(usbip_fifo_get(&fifo, bytes, USBIP_FIFO_SIZE + 1), USBIP_FIFO_SIZE);
    CU_ASSERT_EQUAL(bytes[USBIP_FIFO_SIZE - 2], 0xee);
    CU_ASSERT_PTR_NULL(fifo.data); /* a megabyte is not kept for nothing */
    free(bytes);
    usbip_fifo_clear(&fifo);
}

/* Within a piece that lies over the end of the ring, and only there. */
static void test_find(void)
{
    struct usbip_fifo fifo = {0};
    uint8_t bytes[1024] = {0};
    CU_ASSERT_EQUAL(usbip_fifo_find(&fifo, 0, 0, 0), 0);
    CU_ASSERT_EQUAL(usbip_fifo_put(&fifo, bytes, 1000), 1000);
    usbip_fifo_drop(&fifo, 1000);
    bytes[10] = bytes[100] = 7;
    CU_ASSERT_EQUAL(usbip_fifo_put(&fifo, bytes, 200), 200);
    CU_ASSERT_TRUE(fifo.first + fifo.size > fifo.capacity);
    CU_ASSERT_EQUAL(usbip_fifo_find(&fifo, 0, 200, 7), 10);
    CU_ASSERT_EQUAL(usbip_fifo_find(&fifo, 10, 1, 7), 10);
    CU_ASSERT_EQUAL(usbip_fifo_find(&fifo, 11, 189, 7), 100);
    CU_ASSERT_EQUAL(usbip_fifo_find(&fifo, 11, 89, 7), 100);
    CU_ASSERT_EQUAL(usbip_fifo_find(&fifo, 11, 88, 7), 99);
    CU_ASSERT_EQUAL(usbip_fifo_find(&fifo, 101, 99, 7), 200);
    usbip_fifo_clear(&fifo);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"empty", test_empty},
        {"order over the wrap", test_order_over_the_wrap},
        {"grows while wrapped", test_grows_while_wrapped},
        {"limit", test_limit},
        {"find", test_find},
        CU_TEST_INFO_NULL,
    };
    return run_tests("fifo", tests);
}
