#include "protocol/buffer.h"

#include "protocol/bytes.h"
#include "tests/support/hex.h"
#include "tests/support/testing.h"

static void test_reserve_leaves_the_size(void)
{
    struct usbip_buffer buffer = {0};
    uint8_t *room = usbip_buffer_reserve(&buffer, 3);

    REQUIRE(room != NULL);
    CU_ASSERT_EQUAL(buffer.size, 0);
    CU_ASSERT_TRUE(buffer.capacity >= 3);
    memcpy(room, hex("616263").data, 3);
    buffer.size = 3;

    room = usbip_buffer_reserve(&buffer, 100000);
    REQUIRE(room != NULL);
    CU_ASSERT_PTR_EQUAL(room, buffer.data + 3);
    CU_ASSERT_EQUAL(memcmp(buffer.data, "abc", 3), 0);
    memset(room, 'x', 100000); /* a sanitizer sees when this is not ours */
    usbip_buffer_free(&buffer);
}

static void test_reserve_nothing(void)
{
    struct usbip_buffer buffer = {0};

    CU_ASSERT_PTR_NOT_NULL(usbip_buffer_reserve(&buffer, 0));
    usbip_buffer_free(&buffer);
}

static void test_out_of_memory(void)
{
    struct usbip_buffer buffer = {0};
    uint8_t *data;

    CU_ASSERT_EQUAL(usbip_buffer_append(&buffer, "abc", 3), 0);
    data = buffer.data;
    /* The sum with what is there would not fit a size_t. */
    CU_ASSERT_PTR_NULL(usbip_buffer_reserve(&buffer, SIZE_MAX));
    CU_ASSERT_PTR_NULL(usbip_buffer_reserve(&buffer, SIZE_MAX - 2));
    CU_ASSERT_EQUAL(usbip_buffer_append(&buffer, "abc", SIZE_MAX), -1);
    CU_ASSERT_PTR_EQUAL(buffer.data, data);
    CU_ASSERT_EQUAL(buffer.size, 3);
    usbip_buffer_free(&buffer);
}

static void test_append(void)
{
    struct usbip_buffer buffer = {0};

    CU_ASSERT_EQUAL(usbip_buffer_append(&buffer, NULL, 0), 0);
    CU_ASSERT_EQUAL(usbip_buffer_append(&buffer, "ab", 2), 0);
    CU_ASSERT_EQUAL(usbip_buffer_append(&buffer, "cde", 3), 0);
    CU_ASSERT_EQUAL(buffer.size, 5);
    CU_ASSERT_EQUAL(memcmp(buffer.data, "abcde", 5), 0);
    usbip_buffer_free(&buffer);
    CU_ASSERT_PTR_NULL(buffer.data);
    CU_ASSERT_EQUAL(buffer.size, 0);
    CU_ASSERT_EQUAL(buffer.capacity, 0);
    usbip_buffer_free(&buffer);
}

static void test_growth_is_geometric(void)
{
    struct usbip_buffer buffer = {0};
    size_t capacity = 0;
    unsigned grown = 0;

    for (unsigned i = 0; i < 1 << 20; i++) {
        CU_ASSERT_EQUAL_FATAL(usbip_buffer_append(&buffer, "x", 1), 0);
        grown += buffer.capacity != capacity;
        capacity = buffer.capacity;
    }
    CU_ASSERT_TRUE(grown <= 20);
    CU_ASSERT_TRUE(buffer.capacity <= 2 << 20);
    usbip_buffer_free(&buffer);
}

/*
 * The stream of these tests: a PDU is a byte 'P', its size as 4 bytes, both included, and the
 * rest. 'S' is a PDU of that byte alone. 'X' breaks the stream, 'Z' has a size of 0 bytes.
 */
enum { HEAD_SIZE = 5, BROKEN = -5, STOPPED = -6 };

struct reader {
    struct usbip_buffer taken; /* all PDUs, one behind the other */
    unsigned count;            /* how many */
    size_t sizes[64];          /* of each */
    const uint8_t *places[64]; /* where each was */
    unsigned stop_at;          /* fail for the PDU of this number, from 1 */
};

static int64_t pdu_size(void *context, const uint8_t *bytes, size_t have)
{
    (void)context;
    CU_ASSERT_TRUE_FATAL(have > 0);
    switch (bytes[0]) {
    case 'S':
        return 1;
    case 'Z':
        return 0;
    case 'P':
        if (have < HEAD_SIZE)
            return HEAD_SIZE;
        return usbip_load_be32(bytes + 1);
    default:
        return BROKEN;
    }
}

static int take(void *context, const uint8_t *bytes, size_t size)
{
    struct reader *reader = context;

    if (reader->count < 64) {
        reader->sizes[reader->count] = size;
        reader->places[reader->count] = bytes;
    }
    reader->count++;
    if (reader->count == reader->stop_at)
        return STOPPED;
    CU_ASSERT_EQUAL_FATAL(usbip_buffer_append(&reader->taken, bytes, size), 0);
    return 0;
}

static const struct usbip_framing framing = {.pdu_size = pdu_size, .pdu = take};

static void append_pdu(struct usbip_buffer *stream, uint32_t size)
{
    uint8_t *room = usbip_buffer_reserve(stream, size);

    REQUIRE(room != NULL);
    for (uint32_t i = 0; i < size; i++)
        room[i] = (uint8_t)(i * 31 + size);
    room[0] = 'P';
    usbip_store_be32(room + 1, size);
    stream->size += size;
}

/* PDUs of many sizes, so that splits fall on every kind of place. */
static struct usbip_buffer make_stream(void)
{
    struct usbip_buffer stream = {0};

    append_pdu(&stream, 5);
    append_pdu(&stream, 6);
    usbip_buffer_append(&stream, "SS", 2);
    append_pdu(&stream, 48);
    append_pdu(&stream, 55);
    usbip_buffer_append(&stream, "S", 1);
    append_pdu(&stream, 17);
    return stream;
}

static int give(struct reader *reader, struct usbip_buffer *partial, const uint8_t *data,
                size_t size)
{
    uint8_t *exact = exact_copy(data, size);
    int result = usbip_assemble(&framing, reader, partial, exact, size);

    free(exact); /* who kept a pointer into it is found out */
    return result;
}

static void assert_whole_stream(struct reader *reader, const struct usbip_buffer *stream,
                                struct usbip_buffer *partial)
{
    static const size_t sizes[] = {5, 6, 1, 1, 48, 55, 1, 17};

    CU_ASSERT_EQUAL(reader->count, 8);
    CU_ASSERT_EQUAL(memcmp(reader->sizes, sizes, sizeof(sizes)), 0);
    CU_ASSERT_EQUAL_FATAL(reader->taken.size, stream->size);
    CU_ASSERT_EQUAL(memcmp(reader->taken.data, stream->data, stream->size), 0);
    CU_ASSERT_EQUAL(partial->size, 0);
    usbip_buffer_free(&reader->taken);
    usbip_buffer_free(partial);
}

static void test_whole_pdus_are_handed_on_in_place(void)
{
    struct usbip_buffer stream = make_stream(), partial = {0};
    struct reader reader = {0};
    const uint8_t *place = stream.data;

    CU_ASSERT_EQUAL(usbip_assemble(&framing, &reader, &partial, stream.data, stream.size), 0);
    for (unsigned i = 0; i < reader.count; i++) {
        CU_ASSERT_PTR_EQUAL(reader.places[i], place);
        place += reader.sizes[i];
    }
    CU_ASSERT_EQUAL(partial.capacity, 0); /* nothing was copied */
    assert_whole_stream(&reader, &stream, &partial);
    usbip_buffer_free(&stream);
}

static void test_every_split(void)
{
    struct usbip_buffer stream = make_stream();

    for (size_t split = 0; split <= stream.size; split++) {
        struct usbip_buffer partial = {0};
        struct reader reader = {0};

        CU_ASSERT_EQUAL(give(&reader, &partial, stream.data, split), 0);
        CU_ASSERT_EQUAL(give(&reader, &partial, stream.data + split, stream.size - split), 0);
        assert_whole_stream(&reader, &stream, &partial);
    }
    usbip_buffer_free(&stream);
}

static void test_every_two_splits(void)
{
    struct usbip_buffer stream = make_stream();

    for (size_t first = 0; first <= stream.size; first++) {
        for (size_t second = first; second <= stream.size; second++) {
            struct usbip_buffer partial = {0};
            struct reader reader = {0};

            CU_ASSERT_EQUAL(give(&reader, &partial, stream.data, first), 0);
            CU_ASSERT_EQUAL(give(&reader, &partial, stream.data + first, second - first), 0);
            CU_ASSERT_EQUAL(give(&reader, &partial, stream.data + second, stream.size - second), 0);
            assert_whole_stream(&reader, &stream, &partial);
        }
    }
    usbip_buffer_free(&stream);
}

static void test_every_step(void)
{
    struct usbip_buffer stream = make_stream();

    for (size_t step = 1; step <= stream.size; step++) {
        struct usbip_buffer partial = {0};
        struct reader reader = {0};

        for (size_t given = 0; given < stream.size; given += step) {
            size_t size = stream.size - given < step ? stream.size - given : step;

            CU_ASSERT_EQUAL(give(&reader, &partial, stream.data + given, size), 0);
        }
        assert_whole_stream(&reader, &stream, &partial);
    }
    usbip_buffer_free(&stream);
}

static void test_only_what_is_missing_is_copied(void)
{
    struct usbip_buffer stream = make_stream(), partial = {0};
    struct reader reader = {0};

    CU_ASSERT_EQUAL(usbip_assemble(&framing, &reader, &partial, stream.data, 7), 0);
    CU_ASSERT_EQUAL(reader.count, 1);
    CU_ASSERT_EQUAL(partial.size, 2);
    CU_ASSERT_EQUAL(usbip_assemble(&framing, &reader, &partial, stream.data + 7, stream.size - 7),
                    0);
    /* The second PDU was in two pieces, all others are where they came in. */
    CU_ASSERT_PTR_EQUAL(reader.places[1], partial.data);
    CU_ASSERT_PTR_EQUAL(reader.places[2], stream.data + 11);
    CU_ASSERT_PTR_EQUAL(reader.places[7], stream.data + stream.size - 17);
    assert_whole_stream(&reader, &stream, &partial);
    usbip_buffer_free(&stream);
}

static void test_nothing_given(void)
{
    struct usbip_buffer partial = {0};
    struct reader reader = {0};

    CU_ASSERT_EQUAL(usbip_assemble(&framing, &reader, &partial, NULL, 0), 0);
    CU_ASSERT_EQUAL(give(&reader, &partial, (const uint8_t *)"P", 1), 0);
    CU_ASSERT_EQUAL(usbip_assemble(&framing, &reader, &partial, NULL, 0), 0);
    CU_ASSERT_EQUAL(partial.size, 1);
    CU_ASSERT_EQUAL(reader.count, 0);
    usbip_buffer_free(&partial);
}

static void test_storage_of_partial_is_kept(void)
{
    struct usbip_buffer stream = {0}, partial = {0};
    struct reader reader = {0};
    uint8_t *storage;

    append_pdu(&stream, 1000);
    CU_ASSERT_EQUAL(give(&reader, &partial, stream.data, 999), 0);
    CU_ASSERT_EQUAL(give(&reader, &partial, stream.data + 999, 1), 0);
    storage = partial.data;
    for (unsigned i = 0; i < 5; i++) {
        CU_ASSERT_EQUAL(give(&reader, &partial, stream.data, 999), 0);
        CU_ASSERT_EQUAL(give(&reader, &partial, stream.data + 999, 1), 0);
        CU_ASSERT_PTR_EQUAL(partial.data, storage);
    }
    CU_ASSERT_EQUAL(reader.count, 6);
    usbip_buffer_free(&reader.taken);
    usbip_buffer_free(&partial);
    usbip_buffer_free(&stream);
}

static void test_storage_of_large_partial_is_given_back(void)
{
    struct usbip_buffer stream = {0}, partial = {0};
    struct reader reader = {0};

    append_pdu(&stream, 1 << 20);
    CU_ASSERT_EQUAL(give(&reader, &partial, stream.data, stream.size - 1), 0);
    CU_ASSERT_TRUE(partial.capacity >= stream.size - 1);
    CU_ASSERT_EQUAL(give(&reader, &partial, stream.data + stream.size - 1, 1), 0);
    CU_ASSERT_EQUAL(reader.count, 1);
    CU_ASSERT_EQUAL(partial.capacity, 0);
    CU_ASSERT_PTR_NULL(partial.data);
    usbip_buffer_free(&reader.taken);
    usbip_buffer_free(&stream);
}

/* Memory follows what has come, not what a header says will come. */
static void test_promises_cost_no_memory(void)
{
    struct usbip_buffer partial = {0};
    struct reader reader = {0};

    CU_ASSERT_EQUAL(give(&reader, &partial, (const uint8_t *)"P\xff\xff\xff\xff", 5), 0);
    CU_ASSERT_EQUAL(give(&reader, &partial, (const uint8_t *)"abc", 3), 0);
    CU_ASSERT_EQUAL(partial.size, 8);
    CU_ASSERT_TRUE(partial.capacity < 1024);
    CU_ASSERT_EQUAL(reader.count, 0);
    usbip_buffer_free(&partial);
}

static void test_broken_stream(void)
{
    struct usbip_buffer partial = {0};
    struct reader reader = {0};

    CU_ASSERT_EQUAL(give(&reader, &partial, (const uint8_t *)"SXS", 3), BROKEN);
    CU_ASSERT_EQUAL(reader.count, 1);
    usbip_buffer_free(&reader.taken);
    usbip_buffer_free(&partial);
}

static int64_t always_broken(void *context, const uint8_t *bytes, size_t have)
{
    (void)bytes;
    (void)have;
    return *(const int64_t *)context;
}

static void test_broken_within_a_partial(void)
{
    static const struct usbip_framing broken = {.pdu_size = always_broken, .pdu = take};
    struct usbip_buffer partial = {0};
    int64_t value = BROKEN;

    CU_ASSERT_EQUAL(usbip_buffer_append(&partial, "P", 1), 0);
    CU_ASSERT_EQUAL(usbip_assemble(&broken, &value, &partial, (const uint8_t *)"S", 1), BROKEN);
    /* A value that is no int must not turn into a good one. */
    value = INT64_MIN;
    CU_ASSERT_TRUE(usbip_assemble(&broken, &value, &partial, (const uint8_t *)"S", 1) < 0);
    usbip_buffer_free(&partial);
    CU_ASSERT_TRUE(usbip_assemble(&broken, &value, &partial, (const uint8_t *)"S", 1) < 0);
}

static void test_size_of_zero_ends(void)
{
    struct usbip_buffer partial = {0};
    struct reader reader = {0};

    CU_ASSERT_EQUAL(give(&reader, &partial, (const uint8_t *)"SZ", 2), -1);
    CU_ASSERT_EQUAL(reader.count, 1);
    usbip_buffer_free(&reader.taken);
    usbip_buffer_free(&partial);
}

static void test_receiver_stops(void)
{
    struct usbip_buffer stream = make_stream();

    /* At the second PDU, when it is whole, and when it was completed. */
    for (size_t split = 0; split <= 7; split += 7) {
        struct usbip_buffer partial = {0};
        struct reader reader = {.stop_at = 2};

        CU_ASSERT_EQUAL(give(&reader, &partial, stream.data, split), 0);
        CU_ASSERT_EQUAL(give(&reader, &partial, stream.data + split, stream.size - split), STOPPED);
        CU_ASSERT_EQUAL(reader.count, 2);
        usbip_buffer_free(&reader.taken);
        usbip_buffer_free(&partial);
    }
    usbip_buffer_free(&stream);
}

/* Four bytes are asked for before the last of them tells the size, which may be less. */
static int64_t size_in_fourth_byte(void *context, const uint8_t *bytes, size_t have)
{
    (void)context;
    return have < 4 ? 4 : bytes[3];
}

static void test_final_size_below_what_was_asked_for(void)
{
    static const struct usbip_framing fourth = {.pdu_size = size_in_fourth_byte, .pdu = take};
    /* PDUs of 2, 4 and 3 bytes; the last 3 wait for a fourth. */
    static const uint8_t stream[] = {9, 9, 9, 2, 9, 4, 9, 9, 9, 3, 9, 9};
    static const size_t sizes[] = {2, 4, 3};

    for (size_t split = 0; split <= sizeof(stream); split++) {
        struct usbip_buffer partial = {0};
        struct reader reader = {0};

        CU_ASSERT_EQUAL(usbip_assemble(&fourth, &reader, &partial, stream, split), 0);
        CU_ASSERT_EQUAL(
            usbip_assemble(&fourth, &reader, &partial, stream + split, sizeof(stream) - split), 0);
        CU_ASSERT_EQUAL(reader.count, 3);
        CU_ASSERT_EQUAL(memcmp(reader.sizes, sizes, sizeof(sizes)), 0);
        CU_ASSERT_EQUAL(memcmp(reader.taken.data, stream, 9), 0);
        CU_ASSERT_EQUAL(partial.size, 3);
        CU_ASSERT_EQUAL(memcmp(partial.data, stream + 9, 3), 0);
        usbip_buffer_free(&reader.taken);
        usbip_buffer_free(&partial);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"reserve leaves the size", test_reserve_leaves_the_size},
        {"reserve nothing", test_reserve_nothing},
        {"out of memory", test_out_of_memory},
        {"append", test_append},
        {"growth is geometric", test_growth_is_geometric},
        {"whole PDUs are handed on in place", test_whole_pdus_are_handed_on_in_place},
        {"every split", test_every_split},
        {"every two splits", test_every_two_splits},
        {"every step", test_every_step},
        {"only what is missing is copied", test_only_what_is_missing_is_copied},
        {"nothing given", test_nothing_given},
        {"storage of a partial PDU is kept", test_storage_of_partial_is_kept},
        {"storage of a large partial PDU is given back",
         test_storage_of_large_partial_is_given_back},
        {"promises cost no memory", test_promises_cost_no_memory},
        {"broken stream", test_broken_stream},
        {"broken within a partial PDU", test_broken_within_a_partial},
        {"a size of zero ends", test_size_of_zero_ends},
        {"the receiver stops", test_receiver_stops},
        {"final size below what was asked for", test_final_size_below_what_was_asked_for},
        CU_TEST_INFO_NULL,
    };

    return run_tests("buffer", tests);
}
