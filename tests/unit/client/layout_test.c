/*
 * Receiving in pieces: payloads come to lie where they are wanted when the server answers as it did
 * before, and whatever it answers, transfers end as if all had been received in one place.
 */
#include <stdlib.h>
#include <string.h>

#include "client/session.h"
#include "tests/support/testing.h"
#include "tests/unit/client/imported_session.h"

enum {
    NOW = 1000,
    LARGE = 16384,
    URBS = 64,
    MEMORY_SIZE = 16 * LARGE,
    INPUT_SIZE = 256 << 10,
    STREAM_SIZE = URBS * (USBIP_HEADER_SIZE + LARGE),
    ROUNDS = 3000,
    MAX_COUNT = 20,
};

/* ---- A session with an imported device, and what its server answers ---- */

struct urb {
    struct usbip_transfer transfer;
    uint8_t first; /* byte of the payload; the others count on from there */
    uint32_t actual_length;
};

static struct usbip_host_session *session;
static struct urb urbs[URBS];
static unsigned done, wrong;
static struct urb *order[URBS]; /* in which they are answered */
static unsigned answered;
static const uint8_t *payloads[URBS]; /* where the last of each URB lay */
static bool scribble;
static uint8_t memory[MEMORY_SIZE], input[INPUT_SIZE];
static uint8_t stream[STREAM_SIZE];
static size_t stream_size;
static uint32_t seed;

static unsigned any(unsigned below)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % below;
}

static bool is_in(const struct urb *urb)
{
    return urb->transfer.endpoint & USB_DIR_IN;
}

static bool is_intact(const struct urb *urb)
{
    const struct usbip_transfer *transfer = &urb->transfer;
    bool intact = transfer->status == 0 && transfer->actual_length == urb->actual_length;

    for (uint32_t i = 0; is_in(urb) && i < urb->actual_length; i++)
        intact = intact && transfer->payload[i] == (uint8_t)(urb->first + i);
    return intact;
}

static void on_done(struct usbip_transfer *transfer)
{
    struct urb *urb = (struct urb *)transfer;
    uintptr_t at = (uintptr_t)transfer->payload - (uintptr_t)memory;

    wrong += done >= answered || order[done] != urb || !is_intact(urb);
    payloads[urb - urbs] = transfer->payload;
    done++;
    /* The reader's memory is his up to the end of this payload. */
    if (scribble && is_in(urb) && at < MEMORY_SIZE)
        memset(memory, 0xee, at + urb->actual_length);
}

static void start(void)
{
    done = wrong = answered = 0;
    stream_size = 0;
    scribble = false;
    session = imported_session();
}

static void finish(void)
{
    CU_ASSERT_EQUAL(wrong, 0);
    answered = URBS; /* those that are left end here */
    usbip_host_session_free(session);
    session = NULL;
}

static void submit(unsigned index, uint8_t endpoint, uint32_t length)
{
    static uint8_t written[LARGE];

    urbs[index] = (struct urb){
        .transfer = {.endpoint = endpoint,
                     .type = USB_ENDPOINT_XFER_BULK,
                     .buffer = written,
                     .length = length,
                     .in_place = true,
                     .done = on_done},
        .first = (uint8_t)any(256),
    };
    REQUIRE(usbip_host_session_submit(session, &urbs[index].transfer, NOW) == 0);
}

/* The server's answer, behind those before. */
static void answer(unsigned index, uint32_t actual_length)
{
    struct urb *urb = &urbs[index];

    urb->actual_length = actual_length;
    order[answered++] = urb;
    usbip_encode_header(stream + stream_size,
                        &(struct usbip_header){.command = USBIP_RET_SUBMIT,
                                               .seqnum = urb->transfer.seqnum,
                                               .ret_submit = {.actual_length = actual_length}});
    stream_size += USBIP_HEADER_SIZE;
    for (uint32_t i = 0; is_in(urb) && i < actual_length; i++)
        stream[stream_size++] = (uint8_t)(urb->first + i);
}

/* Receives up to `most` bytes of the stream as a system does that has so many. */
static int receive_pieces(size_t at, size_t most, size_t memory_size, size_t input_size,
                          size_t *received)
{
    struct usbip_input_piece pieces[USBIP_LAYOUT_MAX_PIECES];
    size_t count =
        usbip_host_session_expect(session, memory, memory_size, input, input_size, pieces);

    *received = 0;
    for (size_t i = 0; i < count && *received < most; i++) {
        size_t left = most - *received;
        size_t part = left < pieces[i].size ? left : pieces[i].size;

        memcpy(pieces[i].data, stream + at + *received, part);
        *received += part;
    }
    return usbip_host_session_received(session, *received);
}

static int receive_all(void)
{
    size_t received = 0;
    int result = 0;

    for (size_t at = 0; result == 0 && at < stream_size; at += received)
        result = receive_pieces(at, stream_size - at, MEMORY_SIZE, INPUT_SIZE, &received);
    stream_size = 0;
    answered = done = 0;
    return result;
}

/* OUT and IN by turns, as of an echo. */
static void exchange(void)
{
    enum { ECHOES = 3 };

    for (unsigned i = 0; i < ECHOES; i++) {
        submit(2 * i, 0x01, LARGE);
        submit(2 * i + 1, 0x82, LARGE);
    }
    for (unsigned i = 0; i < 2 * ECHOES; i++)
        answer(i, LARGE);
    CU_ASSERT_EQUAL(receive_all(), 0);
}

/* ---- Tests ---- */

static void test_payloads_lie_where_they_are_wanted(void)
{
    start();
    for (unsigned i = 0; i < 2; i++) {
        exchange();
        CU_ASSERT_PTR_NOT_EQUAL(payloads[1], memory); /* nothing is known yet */
    }
    exchange();
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT_PTR_EQUAL(payloads[2 * i + 1], memory + i * LARGE);
    finish();
}

static void test_what_is_laid_out(void)
{
    struct usbip_input_piece pieces[USBIP_LAYOUT_MAX_PIECES];
    const size_t pair = 2 * USBIP_HEADER_SIZE + LARGE;

    start();
    exchange();
    exchange();
    CU_ASSERT_EQUAL_FATAL(
        usbip_host_session_expect(session, memory, MEMORY_SIZE, input, INPUT_SIZE, pieces), 7);
    for (unsigned i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(pieces[2 * i].size, 2 * USBIP_HEADER_SIZE); /* that of the OUT, too */
        CU_ASSERT_PTR_EQUAL(pieces[2 * i + 1].data, memory + i * LARGE);
        CU_ASSERT_EQUAL(pieces[2 * i + 1].size, LARGE);
    }
    CU_ASSERT_PTR_EQUAL(pieces[6].data, input + 3 * pair);
    CU_ASSERT_EQUAL(pieces[6].size, INPUT_SIZE - 3 * pair);

    /* No more than there is room for, of either. */
    CU_ASSERT_EQUAL(
        usbip_host_session_expect(session, memory, 2 * LARGE - 1, input, INPUT_SIZE, pieces), 3);
    CU_ASSERT_EQUAL(pieces[2].size, INPUT_SIZE - pair);
    CU_ASSERT_EQUAL(
        usbip_host_session_expect(session, memory, MEMORY_SIZE, input, 2 * pair, pieces), 4);
    CU_ASSERT_EQUAL(
        usbip_host_session_expect(session, memory, MEMORY_SIZE, input, 2 * pair - 1, pieces), 3);
    CU_ASSERT_EQUAL(usbip_host_session_expect(session, NULL, 0, input, INPUT_SIZE, pieces), 1);
    CU_ASSERT_PTR_EQUAL(pieces[0].data, input);
    finish();
}

/* One reading of so many answers, of IN transfers where `ins` has a bit. */
static void read_once(unsigned count, unsigned ins)
{
    for (unsigned i = 0; i < count; i++)
        submit(i, ins >> i & 1 ? 0x82 : 0x01, LARGE);
    for (unsigned i = 0; i < count; i++)
        answer(i, LARGE);
    CU_ASSERT_EQUAL(receive_all(), 0);
}

static size_t count_pieces(void)
{
    struct usbip_input_piece pieces[USBIP_LAYOUT_MAX_PIECES];

    return usbip_host_session_expect(session, memory, MEMORY_SIZE, input, INPUT_SIZE, pieces);
}

/* Only what both of the last readings began with. */
static void test_what_is_foreseen(void)
{
    start();
    read_once(2, 3);
    CU_ASSERT_EQUAL(count_pieces(), 1);
    read_once(2, 3);
    CU_ASSERT_EQUAL(count_pieces(), 5);
    read_once(1, 1);
    CU_ASSERT_EQUAL(count_pieces(), 3);
    read_once(2, 3); /* with that of before the last the second would agree */
    CU_ASSERT_EQUAL(count_pieces(), 3);
    read_once(2, 2);
    CU_ASSERT_EQUAL(count_pieces(), 1);
    read_once(2, 3); /* begins otherwise, and goes on alike */
    CU_ASSERT_EQUAL(count_pieces(), 1);
    finish();
}

/* In the middle of a PDU nothing can be foreseen. */
static void test_rest_of_a_pdu(void)
{
    size_t received;

    start();
    exchange();
    exchange();
    submit(0, 0x82, LARGE);
    answer(0, LARGE);
    CU_ASSERT_EQUAL(receive_pieces(0, 100, 0, INPUT_SIZE, &received), 0);
    CU_ASSERT_EQUAL(count_pieces(), 1);
    CU_ASSERT_EQUAL(done, 0);
    finish();
}

static void test_broken_stream(void)
{
    size_t received;

    start();
    exchange();
    exchange();
    submit(0, 0x01, LARGE);
    submit(1, 0x82, LARGE);
    answer(0, LARGE);
    answer(1, LARGE);
    stream[USBIP_HEADER_SIZE + 7] ^= 0x40; /* the second seqnum is nobody's */
    CU_ASSERT_EQUAL(usbip_host_session_in_flight(session), 2);
    CU_ASSERT_EQUAL(receive_pieces(0, stream_size, MEMORY_SIZE, INPUT_SIZE, &received),
                    USBIP_ERROR_PROTOCOL);
    CU_ASSERT_EQUAL(done, 2);
    CU_ASSERT_EQUAL(urbs[0].transfer.status, 0);
    CU_ASSERT_EQUAL(urbs[1].transfer.status, -USBIP_ESHUTDOWN);
    wrong = 0; /* it noticed the last one */
    finish();
}

static uint32_t any_length(void)
{
    switch (any(8)) {
    case 0:
        return 1 + any(64);
    case 1:
        return USBIP_LAYOUT_MIN_PAYLOAD - 1 + any(3);
    default:
        return LARGE;
    }
}

/*
 * Streams that repeat themselves more or less, cut anywhere, into memory of any size, where each
 * reader overwrites what is his.
 */
static void test_any_stream(void)
{
    struct {
        uint8_t endpoint;
        uint32_t length, actual_length;
    } script[URBS];
    unsigned count = 0, direct = 0;

    seed = 1;
    start();
    scribble = true;
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t received;
        bool whole = any(3) > 0;

        if (round % 8 == 0)
            count = 1 + any(MAX_COUNT);
        for (unsigned i = 0; i < count; i++) {
            if (round % 8 == 0 || any(100) == 0) {
                script[i].endpoint = any(2) ? 0x82 : 0x01;
                script[i].length = any_length();
                script[i].actual_length = any(8) ? script[i].length : any(script[i].length + 1);
            }
            submit(i, script[i].endpoint, script[i].length);
        }
        stream_size = 0;
        answered = done = 0;
        for (unsigned i = 0; i < count; i++)
            answer(i, script[i].actual_length);
        for (size_t at = 0; at < stream_size; at += received) {
            size_t left = stream_size - at;

            CU_ASSERT_EQUAL_FATAL(receive_pieces(at, whole ? left : 1 + any((unsigned)left),
                                                 any(4) ? MEMORY_SIZE : any(MEMORY_SIZE),
                                                 1 + (any(4) ? INPUT_SIZE - 1 : any(INPUT_SIZE)),
                                                 &received),
                                  0);
        }
        CU_ASSERT_EQUAL_FATAL(done, count);
        for (unsigned i = 0; i < count; i++)
            direct += (uintptr_t)payloads[i] - (uintptr_t)memory < MEMORY_SIZE;
    }
    CU_ASSERT(direct > ROUNDS / 4); /* or nothing was tested */
    finish();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"payloads lie where they are wanted", test_payloads_lie_where_they_are_wanted},
        {"what is laid out", test_what_is_laid_out},
        {"what is foreseen", test_what_is_foreseen},
        {"rest of a PDU", test_rest_of_a_pdu},
        {"broken stream", test_broken_stream},
        {"any stream", test_any_stream},
        CU_TEST_INFO_NULL,
    };
    return run_tests("layout", tests);
}
