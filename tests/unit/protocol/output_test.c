/* Output that is copied, lent, cut into pieces and settled. */
#include "protocol/output.h"

#include <string.h>

#include "tests/support/testing.h"

enum { LOAN_SIZE = 5, COPY_SIZE = 3 };

/* ---- Memory that runs out ---- */

static bool out_of_memory;

/* Declared for the linker, which leads the calls here (--wrap). */
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_realloc(void *memory, size_t size)
{
    return out_of_memory ? NULL : __real_realloc(memory, size);
}

/* ---- An output, and all that must come of it ---- */

static struct usbip_output output;
static struct usbip_buffer expected;
static uint8_t next_byte;

static void begin(void)
{
    output = (struct usbip_output){0};
    expected = (struct usbip_buffer){0};
    next_byte = 1;
}

static void end(void)
{
    usbip_output_free(&output);
    usbip_buffer_free(&expected);
}

static void make(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = next_byte++;
    REQUIRE(usbip_buffer_append(&expected, bytes, size) == 0);
}

static void copy(void)
{
    uint8_t bytes[COPY_SIZE];
    make(bytes, sizeof bytes);
    REQUIRE(usbip_buffer_append(&output.bytes, bytes, sizeof bytes) == 0);
}

static int lend(uint8_t bytes[LOAN_SIZE], enum usbip_output_origin origin)
{
    make(bytes, LOAN_SIZE);
    return usbip_output_lend(&output, &(struct usbip_output_piece){bytes, LOAN_SIZE, origin});
}

static size_t piece_count(void)
{
    size_t count;
    usbip_output_pieces(&output, &count);
    return count;
}

/* The pieces are what is expected, none of them is empty, and as many bytes are counted. */
static bool is_as_expected(void)
{
    size_t count, at = 0;
    const struct usbip_output_piece *pieces = usbip_output_pieces(&output, &count);
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].size == 0 || pieces[i].size > expected.size - at ||
            memcmp(pieces[i].data, expected.data + at, pieces[i].size) != 0)
            return false;
        at += pieces[i].size;
    }
    return at == expected.size && usbip_output_size(&output) == expected.size;
}

/* ---- Tests ---- */

static void test_empty(void)
{
    begin();
    CU_ASSERT_EQUAL(piece_count(), 0);
    CU_ASSERT_EQUAL(usbip_output_size(&output), 0);
    CU_ASSERT_EQUAL(usbip_output_settle(&output), 0);
    CU_ASSERT_EQUAL(piece_count(), 0);
    end();
}

static void test_copied_only(void)
{
    begin();
    copy();
    copy();
    CU_ASSERT_EQUAL(piece_count(), 1);
    CU_ASSERT_TRUE(is_as_expected());
    end();
}

/* In front, behind each other, between copied bytes, at the end; with their addresses. */
static void test_lent(void)
{
    uint8_t lent[4][LOAN_SIZE];
    size_t count;
    begin();
    CU_ASSERT_EQUAL(lend(lent[0], USBIP_OUTPUT_PASSING), 0);
    CU_ASSERT_EQUAL(piece_count(), 1);
    copy();
    CU_ASSERT_EQUAL(lend(lent[1], USBIP_OUTPUT_LASTING), 0);
    CU_ASSERT_EQUAL(lend(lent[2], USBIP_OUTPUT_PASSING), 0);
    copy();
    copy();
    CU_ASSERT_EQUAL(lend(lent[3], USBIP_OUTPUT_LASTING), 0);
    CU_ASSERT_TRUE(is_as_expected());
    CU_ASSERT_EQUAL(output.passing_count, 2);
    static const enum usbip_output_origin origins[] = {
        USBIP_OUTPUT_PASSING, USBIP_OUTPUT_COPIED, USBIP_OUTPUT_LASTING,
        USBIP_OUTPUT_PASSING, USBIP_OUTPUT_COPIED, USBIP_OUTPUT_LASTING,
    };
    const struct usbip_output_piece *pieces = usbip_output_pieces(&output, &count);
    CU_ASSERT_EQUAL_FATAL(count, 6);
    for (size_t i = 0; i < count; i++)
        CU_ASSERT_EQUAL(pieces[i].origin, origins[i]);
    CU_ASSERT_PTR_EQUAL(pieces[0].data, lent[0]);
    CU_ASSERT_PTR_EQUAL(pieces[2].data, lent[1]);
    CU_ASSERT_PTR_EQUAL(pieces[3].data, lent[2]);
    CU_ASSERT_PTR_EQUAL(pieces[5].data, lent[3]);
    end();
}

/* Afterwards the lenders may do what they like, and more may be copied and lent behind it. */
static void test_settle(void)
{
    uint8_t lent[4][LOAN_SIZE], again[LOAN_SIZE];
    for (unsigned first_is_copied = 0; first_is_copied < 2; first_is_copied++) {
        begin();
        if (first_is_copied)
            copy();
        lend(lent[0], USBIP_OUTPUT_PASSING);
        copy();
        lend(lent[1], USBIP_OUTPUT_LASTING);
        lend(lent[2], USBIP_OUTPUT_PASSING);
        copy();
        lend(lent[3], USBIP_OUTPUT_PASSING);
        CU_ASSERT_EQUAL(usbip_output_settle(&output), 0);
        memset(lent, 0, sizeof lent);
        CU_ASSERT_EQUAL(piece_count(), 1);
        CU_ASSERT_EQUAL(output.passing_count, 0);
        CU_ASSERT_TRUE(is_as_expected());
        copy();
        lend(again, USBIP_OUTPUT_PASSING);
        copy();
        CU_ASSERT_EQUAL(piece_count(), 3);
        CU_ASSERT_TRUE(is_as_expected());
        end();
    }
}

static void test_clear(void)
{
    uint8_t lent[LOAN_SIZE];
    begin();
    copy();
    lend(lent, USBIP_OUTPUT_PASSING);
    usbip_output_clear(&output);
    expected.size = 0;
    CU_ASSERT_EQUAL(output.passing_count, 0);
    CU_ASSERT_EQUAL(piece_count(), 0);
    CU_ASSERT_TRUE(is_as_expected());
    copy();
    lend(lent, USBIP_OUTPUT_LASTING);
    CU_ASSERT_EQUAL(output.passing_count, 0);
    CU_ASSERT_TRUE(is_as_expected());
    end();
}

/* Beyond the limit payloads are copied: order and size stay right. */
static void test_limit(void)
{
    enum { COUNT = USBIP_OUTPUT_MAX_LOANS + 10 };
    static uint8_t lent[COUNT][LOAN_SIZE];
    begin();
    for (unsigned i = 0; i < COUNT; i++) {
        copy();
        CU_ASSERT_EQUAL(lend(lent[i], USBIP_OUTPUT_PASSING), 0);
        if (i + 1 == USBIP_OUTPUT_MAX_LOANS)
            CU_ASSERT_EQUAL(piece_count(), 2 * USBIP_OUTPUT_MAX_LOANS);
    }
    CU_ASSERT_EQUAL(output.passing_count, USBIP_OUTPUT_MAX_LOANS);
    CU_ASSERT_EQUAL(piece_count(), USBIP_OUTPUT_MAX_PIECES);
    CU_ASSERT_TRUE(is_as_expected());
    CU_ASSERT_EQUAL(usbip_output_settle(&output), 0);
    memset(lent, 0, sizeof lent);
    CU_ASSERT_TRUE(is_as_expected());
    end();
}

/* Nothing has changed then. */
static void test_out_of_memory(void)
{
    static uint8_t large[USBIP_OUTPUT_MIN_LOAN];
    uint8_t lent[LOAN_SIZE];
    begin();
    copy();
    out_of_memory = true;
    CU_ASSERT_EQUAL(usbip_output_lend(&output, &(struct usbip_output_piece){large, sizeof large,
                                                                            USBIP_OUTPUT_PASSING}),
                    -1);
    out_of_memory = false;
    CU_ASSERT_EQUAL(output.passing_count, 0);
    CU_ASSERT_TRUE(is_as_expected());
    lend(lent, USBIP_OUTPUT_PASSING);
    make(large, sizeof large);
    CU_ASSERT_EQUAL(usbip_output_lend(&output, &(struct usbip_output_piece){large, sizeof large,
                                                                            USBIP_OUTPUT_PASSING}),
                    0);
    out_of_memory = true;
    CU_ASSERT_EQUAL(usbip_output_settle(&output), -1);
    out_of_memory = false;
    CU_ASSERT_EQUAL(output.passing_count, 2);
    CU_ASSERT_TRUE(is_as_expected());
    end();
}

static void test_range(void)
{
    static const uint8_t bytes[10];
    const struct usbip_range range = {bytes + 2, 6}, none = {0};
    CU_ASSERT_TRUE(usbip_range_contains(&range, bytes + 2, 6));
    CU_ASSERT_TRUE(usbip_range_contains(&range, bytes + 7, 1));
    CU_ASSERT_FALSE(usbip_range_contains(&range, bytes + 1, 6));
    CU_ASSERT_FALSE(usbip_range_contains(&range, bytes + 3, 6));
    CU_ASSERT_FALSE(usbip_range_contains(&range, bytes + 2, 7));
    CU_ASSERT_FALSE(usbip_range_contains(&range, bytes + 2, SIZE_MAX));
    CU_ASSERT_FALSE(usbip_range_contains(&range, NULL, 1));
    CU_ASSERT_FALSE(usbip_range_contains(&none, NULL, 1));
    CU_ASSERT_FALSE(usbip_range_contains(&none, bytes, 1));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"empty", test_empty},
        {"copied only", test_copied_only},
        {"lent", test_lent},
        {"settle", test_settle},
        {"clear", test_clear},
        {"the limit of loans", test_limit},
        {"out of memory", test_out_of_memory},
        {"ranges", test_range},
        CU_TEST_INFO_NULL,
    };
    return run_tests("output", tests);
}
