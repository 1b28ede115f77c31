/* OUT transfers of the host session that are sent from where they are. */
#include <stdlib.h>
#include <string.h>

#include "client/session.h"
#include "protocol/buffer.h"
#include "tests/support/testing.h"
#include "tests/unit/client/imported_session.h"

enum { NOW = 1000, LARGE = USBIP_OUTPUT_MIN_LOAN, SMALL = LARGE - 1, URBS = 8 };

/* ---- Memory that runs out ---- */

static bool out_of_memory;

/* Declared for the linker, which leads the calls here (--wrap). */
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_realloc(void *memory, size_t size)
{
    return out_of_memory ? NULL : __real_realloc(memory, size);
}

/* ---- A session with an imported device ---- */

static struct usbip_host_session *session;
static struct usbip_transfer transfers[URBS];
static uint8_t buffers[URBS][2 * LARGE];
static unsigned done;

static void on_done(struct usbip_transfer *transfer)
{
    (void)transfer;
    done++;
}

static void start(void)
{
    done = 0;
    memset(transfers, 0, sizeof transfers);
    for (unsigned i = 0; i < URBS; i++) {
        for (unsigned j = 0; j < sizeof buffers[i]; j++)
            buffers[i][j] = (uint8_t)(i * 31 + j * 7 + j / 256);
    }
    session = imported_session();
}

static void finish(void)
{
    usbip_host_session_free(session);
    session = NULL;
}

static int submit(unsigned index, uint8_t endpoint, uint32_t length, bool in_place)
{
    transfers[index] = (struct usbip_transfer){
        .endpoint = endpoint,
        .type = USB_ENDPOINT_XFER_BULK,
        .buffer = buffers[index],
        .length = length,
        .in_place = in_place,
        .done = on_done,
    };
    return usbip_host_session_submit(session, &transfers[index], NOW);
}

static size_t take_pieces(const struct usbip_output_piece **pieces)
{
    size_t count;

    usbip_host_session_take_pieces(session, pieces, &count);
    return count;
}

/* ---- Tests ---- */

static void test_what_is_lent(void)
{
    const struct usbip_output_piece *pieces;

    start();
    CU_ASSERT_EQUAL(submit(0, 0x02, LARGE, true), 0);
    CU_ASSERT_EQUAL(usbip_host_session_output_size(session), USBIP_HEADER_SIZE + LARGE);
    CU_ASSERT_EQUAL_FATAL(take_pieces(&pieces), 2);
    CU_ASSERT_EQUAL(pieces[0].size, USBIP_HEADER_SIZE);
    CU_ASSERT_PTR_EQUAL(pieces[1].data, buffers[0]);
    CU_ASSERT_EQUAL(pieces[1].size, LARGE);
    CU_ASSERT_EQUAL(usbip_host_session_output_size(session), 0);
    CU_ASSERT_EQUAL(take_pieces(&pieces), 0);

    CU_ASSERT_EQUAL(submit(1, 0x02, SMALL, true), 0);  /* copied: too small */
    CU_ASSERT_EQUAL(submit(2, 0x02, LARGE, false), 0); /* nobody lends it */
    CU_ASSERT_EQUAL(submit(3, 0x81, LARGE, true), 0);  /* has no payload */
    CU_ASSERT_EQUAL_FATAL(take_pieces(&pieces), 1);
    CU_ASSERT_EQUAL(pieces[0].size, 3 * USBIP_HEADER_SIZE + SMALL + LARGE);
    finish();
}

/* What a session sends that lends, copied together, when its sending is cut in pieces or not. */
static void run(bool in_place, bool in_pieces, struct usbip_buffer *sent)
{
    const struct usbip_output_piece *pieces;
    const uint8_t *data;
    size_t size;

    start();
    CU_ASSERT_EQUAL(submit(0, 0x02, LARGE, in_place), 0);
    CU_ASSERT_EQUAL(submit(1, 0x02, 5, in_place), 0);
    usbip_host_session_unlink(session, &transfers[0], NOW);
    CU_ASSERT_EQUAL(submit(2, 0x81, 64, in_place), 0);
    CU_ASSERT_EQUAL(submit(3, 0x02, 2 * LARGE, in_place), 0);
    CU_ASSERT_EQUAL(submit(4, 0x02, LARGE + 1, in_place), 0);
    size = usbip_host_session_output_size(session);
    if (in_pieces) {
        size_t count = take_pieces(&pieces);

        for (size_t i = 0; i < count; i++)
            CU_ASSERT_EQUAL(usbip_buffer_append(sent, pieces[i].data, pieces[i].size), 0);
    } else {
        size_t taken = usbip_host_session_take_output(session, &data);

        memset(buffers, 0, sizeof buffers); /* of no interest any more */
        CU_ASSERT_EQUAL(usbip_buffer_append(sent, data, taken), 0);
    }
    CU_ASSERT_EQUAL(sent->size, size);
    finish();
    CU_ASSERT_EQUAL(done, 5);
}

static void test_lending_changes_no_byte(void)
{
    struct usbip_buffer copied = {0};

    run(false, false, &copied);
    for (unsigned in_pieces = 0; in_pieces < 2; in_pieces++) {
        struct usbip_buffer lent = {0};

        run(true, in_pieces, &lent);
        CU_ASSERT_EQUAL_FATAL(lent.size, copied.size);
        CU_ASSERT_EQUAL(memcmp(lent.data, copied.data, copied.size), 0);
        usbip_buffer_free(&lent);
    }
    usbip_buffer_free(&copied);
}

static void test_failure_drops_what_is_lent(void)
{
    const struct usbip_output_piece *pieces;

    start();
    CU_ASSERT_EQUAL(submit(0, 0x02, LARGE, true), 0);
    usbip_host_session_fail(session, USBIP_ERROR_DISCONNECTED, NULL);
    CU_ASSERT_EQUAL(done, 1);
    CU_ASSERT_EQUAL(usbip_host_session_output_size(session), 0);
    CU_ASSERT_EQUAL(take_pieces(&pieces), 0);
    finish();
}

/* As if it had not been tried: neither a header nor a seqnum stays behind. */
static void test_no_memory_to_submit(void)
{
    const struct usbip_output_piece *pieces;
    uint8_t reply[USBIP_HEADER_SIZE];

    start();
    CU_ASSERT_EQUAL(submit(0, 0x81, 64, false), 0);
    out_of_memory = true;
    CU_ASSERT_EQUAL(submit(1, 0x02, LARGE, true), USBIP_ERROR_MEMORY);
    out_of_memory = false;
    CU_ASSERT_EQUAL(usbip_host_session_output_size(session), USBIP_HEADER_SIZE);
    CU_ASSERT_EQUAL(usbip_host_session_in_flight(session), 1);
    CU_ASSERT_EQUAL(done, 0);
    CU_ASSERT_EQUAL(submit(1, 0x02, LARGE, true), 0);
    CU_ASSERT_EQUAL_FATAL(take_pieces(&pieces), 2);
    CU_ASSERT_EQUAL(pieces[0].size, 2 * USBIP_HEADER_SIZE);
    CU_ASSERT_PTR_EQUAL(pieces[1].data, buffers[1]);
    /* The seqnum of what was not submitted is nobody's. */
    usbip_encode_header(reply, &(struct usbip_header){.command = USBIP_RET_SUBMIT,
                                                      .seqnum = transfers[0].seqnum + 1});
    CU_ASSERT_EQUAL(usbip_host_session_receive(session, reply, sizeof reply), USBIP_ERROR_PROTOCOL);
    finish();
    CU_ASSERT_EQUAL(done, 2);
}

static void test_no_memory_to_copy(void)
{
    const uint8_t *data;

    start();
    CU_ASSERT_EQUAL(submit(0, 0x02, LARGE, true), 0);
    out_of_memory = true;
    CU_ASSERT_EQUAL(usbip_host_session_take_output(session, &data), 0);
    out_of_memory = false;
    CU_ASSERT_EQUAL(usbip_host_session_error(session), USBIP_ERROR_MEMORY);
    CU_ASSERT_EQUAL(done, 1);
    CU_ASSERT_EQUAL(transfers[0].status, -USBIP_ESHUTDOWN);
    CU_ASSERT_EQUAL(usbip_host_session_take_output(session, &data), 0);
    finish();
    CU_ASSERT_EQUAL(done, 1);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"what is lent", test_what_is_lent},
        {"lending changes no byte", test_lending_changes_no_byte},
        {"failure drops what is lent", test_failure_drops_what_is_lent},
        {"no memory to submit", test_no_memory_to_submit},
        {"no memory to copy", test_no_memory_to_copy},
        CU_TEST_INFO_NULL,
    };
    return run_tests("lending", tests);
}
