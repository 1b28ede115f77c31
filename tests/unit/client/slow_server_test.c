/*
 * What is written to a server that reads slowly, halts the endpoint, or answers too early. Large
 * payloads are sent from where the port has them, in as many goes as the socket wants: every byte
 * must come as it was written.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client/port.h"
#include "protocol/output.h"
#include "protocol/usbip.h"
#include "tests/support/testing.h"
#include "tests/unit/client/scripted_server.h"

enum {
    PATIENCE_MS = 20000,   /* for what must come */
    SHORT_MS = 200,        /* for what cannot */
    PROMPT_MS = 2000,      /* for what needs no waiting */
    MAX_PARTS = 128,       /* that go out at once */
    STEP = 30000,          /* bytes that a slow socket takes, at most */
    TRANSFER_SIZE = 16384, /* of a port */
    MAX_TRANSFERS = 64,
    IN_TRANSFERS = 17, /* that wait for data and a notification */
    LONG_TRIP_MS = 5,  /* after which a port has more under way */
    WRITTEN_SIZE = 2000000,
};

static struct scripted_server *server;
static struct usbip_port *port;
static uint8_t written[WRITTEN_SIZE];

/* ---- A socket that is full ---- */

static size_t may_send; /* so many bytes, then it is full */
static size_t max_step; /* not 0: at most so many at once, and now and then none */
static uint32_t step;

/* Declared for the linker, which leads the calls here (--wrap). */
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

static size_t room_of_socket(void)
{
    if (max_step == 0)
        return may_send;
    step = step * 1103515245 + 12345;
    return step >> 29 == 0 ? 0 : (step >> 14) % max_step;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct iovec parts[MAX_PARTS];
    struct msghdr some = {.msg_iov = parts};
    size_t room = room_of_socket();
    ssize_t sent;

    REQUIRE(message->msg_iovlen <= MAX_PARTS);
    for (size_t i = 0; i < message->msg_iovlen && room > 0; i++) {
        parts[i] = message->msg_iov[i];
        if (parts[i].iov_len > room)
            parts[i].iov_len = room;
        room -= parts[i].iov_len;
        some.msg_iovlen++;
    }
    errno = EAGAIN;
    sent = some.msg_iovlen > 0 ? __real_sendmsg(fd, &some, flags) : -1;
    if (sent > 0 && may_send != SIZE_MAX)
        may_send -= (size_t)sent;
    return sent;
}

/* ---- The clock ---- */

/*
 * Declared for the linker, which leads the calls here (--wrap). While it stands still, whatever the
 * machine is busy with, everything is fast.
 */
uint64_t __real_usbip_now_ms(void);
uint64_t __wrap_usbip_now_ms(void);

static uint64_t stopped_ms; /* 0: it runs */

uint64_t __wrap_usbip_now_ms(void)
{
    return stopped_ms > 0 ? stopped_ms : __real_usbip_now_ms();
}

/* ---- The tap: what the client says it sent ---- */

static struct {
    uint8_t bytes[2 * WRITTEN_SIZE];
    size_t size;
    size_t parsed;                      /* up to the end of a PDU */
    bool lent;                          /* the payload of the present one has a piece of its own */
    unsigned resumed;                   /* goes that began within such a payload */
    uint8_t payloads[2 * WRITTEN_SIZE]; /* of the OUT transfers of endpoint 1 */
    size_t payloads_size;
} tap;

static size_t payload_size(const struct usbip_header *header)
{
    bool out = header->command == USBIP_CMD_SUBMIT && header->direction == USBIP_DIR_OUT;

    return out ? header->cmd_submit.transfer_buffer_length : 0;
}

static void parse_tapped(void)
{
    struct usbip_header header;

    if (tap.parsed == 0) {
        if (tap.size < USBIP_IMPORT_REQUEST_SIZE)
            return;
        tap.parsed = USBIP_IMPORT_REQUEST_SIZE;
    }
    while (tap.size - tap.parsed >= USBIP_HEADER_SIZE) {
        const uint8_t *pdu = tap.bytes + tap.parsed;
        size_t size;

        REQUIRE(usbip_decode_header(pdu, &header) == 0);
        size = payload_size(&header);
        if (tap.size - tap.parsed < USBIP_HEADER_SIZE + size)
            return;
        if (header.ep == 1) {
            memcpy(tap.payloads + tap.payloads_size, pdu + USBIP_HEADER_SIZE, size);
            tap.payloads_size += size;
        }
        tap.parsed += USBIP_HEADER_SIZE + size;
    }
}

/* Before more bytes are taken. */
static void note_resumed(void)
{
    size_t have = tap.size - tap.parsed;

    if (have <= USBIP_HEADER_SIZE)
        tap.lent = have == USBIP_HEADER_SIZE;
    else
        tap.resumed += tap.lent;
}

static void *tap_opened(void *context)
{
    return context;
}

static void tap_passed(void *connection, enum usbip_way way, const uint8_t *data, size_t size)
{
    (void)connection;
    if (way != USBIP_TO_SERVER)
        return;
    REQUIRE(size <= sizeof(tap.bytes) - tap.size);
    note_resumed();
    memcpy(tap.bytes + tap.size, data, size);
    tap.size += size;
    parse_tapped();
}

static void tap_closed(void *connection)
{
    (void)connection;
}

static const struct usbip_tap the_tap = {&tap, tap_opened, tap_passed, tap_closed};

/* ---- Fixture ---- */

static void start(const struct usbip_tap *listener)
{
    memset(&tap, 0, sizeof(tap));
    may_send = SIZE_MAX;
    max_step = 0;
    for (size_t i = 0; i < WRITTEN_SIZE; i++)
        written[i] = (uint8_t)(i * 7 + i / 251 + i / TRANSFER_SIZE);
    server = scripted_server_new();
    scripted_server_start(server);
    port = usbip_port_new(server->address, "1-1");
    REQUIRE(port != NULL);
    usbip_port_set_tap(port, listener);
    REQUIRE(usbip_port_open(port, PATIENCE_MS) == 0);
}

static void stop(void)
{
    usbip_port_free(port);
    scripted_server_stop(server);
}

/* What the device took is what was written, with nothing left out and nothing twice. */
static bool has_come(size_t size)
{
    bool same;

    scripted_lock(server);
    same = server->written_size == size && memcmp(server->written, written, size) == 0;
    for (size_t i = 0; !same && i <= size; i++) {
        if (i < size && i < server->written_size && server->written[i] == written[i])
            continue;
        fprintf(stderr, "%zu bytes came of %zu, the first wrong one is %zu\n", server->written_size,
                size, i);
        break;
    }
    scripted_unlock(server);
    return same;
}

static unsigned in_flight(void)
{
    return usbip_host_session_in_flight(usbip_port_session(port));
}

static void process_once(void)
{
    struct pollfd fd = {.fd = usbip_port_fd(port)};
    int events = usbip_port_events(port);

    fd.events = (short)((events & USBIP_EVENT_READ ? POLLIN : 0) |
                        (events & USBIP_EVENT_WRITE ? POLLOUT : 0));
    poll(&fd, 1, 1);
    REQUIRE(usbip_port_process(port) == 0);
}

/* Runs the port until the server has noted so many lines that begin so. */
static void run_until(const char *prefix, unsigned number)
{
    uint64_t end_ms = usbip_now_ms() + PATIENCE_MS;

    for (unsigned have = 0; have < number;) {
        REQUIRE(usbip_now_ms() < end_ms);
        process_once();
        scripted_lock(server);
        have = scripted_count(server, prefix);
        scripted_unlock(server);
    }
}

/* Writes in parts of many sizes. */
static void write_in_parts(size_t size)
{
    size_t part = 1, at = 0;

    while (at < size) {
        int given;

        part = part * 13 % 39989;
        given =
            usbip_port_write(port, written + at, part < size - at ? part : size - at, PATIENCE_MS);
        REQUIRE(given > 0);
        at += (size_t)given;
    }
    CU_ASSERT_EQUAL(usbip_port_drain(port, PATIENCE_MS), 0);
}

/* ---- Tests ---- */

static void test_slow_server(void)
{
    start(&the_tap);
    max_step = STEP;
    write_in_parts(WRITTEN_SIZE);
    CU_ASSERT_TRUE(has_come(WRITTEN_SIZE));
    CU_ASSERT_TRUE(tap.resumed > 20);
    CU_ASSERT_EQUAL(tap.payloads_size, WRITTEN_SIZE);
    CU_ASSERT_EQUAL(memcmp(tap.payloads, written, WRITTEN_SIZE), 0);
    stop();
}

/* What is left of a transfer is sent again from the middle of its buffer. */
static void test_server_that_halts(void)
{
    start(&the_tap);
    max_step = STEP;
    scripted_lock(server);
    server->halt_every = 10;
    scripted_unlock(server);
    write_in_parts(WRITTEN_SIZE / 4);
    CU_ASSERT_TRUE(has_come(WRITTEN_SIZE / 4));
    CU_ASSERT_TRUE(tap.resumed > 20);
    scripted_lock(server);
    CU_ASSERT_TRUE(scripted_count(server, "control 02 01 00 00 01 00 00 00") >= 3);
    scripted_unlock(server);
    stop();
}

static void count_done(struct usbip_transfer *transfer)
{
    unsigned *done = transfer->user;

    CU_ASSERT_EQUAL(transfer->actual_length, transfer->length);
    ++*done;
}

/* More pieces than are sent at once, and more payloads than are lent at once. */
static void test_many_transfers_at_once(void)
{
    enum { COUNT = 2 * USBIP_OUTPUT_MAX_LOANS, SMALL = 10, LARGE = USBIP_OUTPUT_MIN_LOAN + 1 };
    static struct usbip_transfer transfers[COUNT];
    unsigned done = 0;
    size_t at = 0;

    start(&the_tap);
    max_step = STEP;
    for (unsigned i = 0; i < COUNT; i++) {
        transfers[i] = (struct usbip_transfer){
            .endpoint = 1,
            .type = USB_ENDPOINT_XFER_BULK,
            .buffer = written + at,
            .length = i % 3 == 0 ? SMALL : LARGE,
            .in_place = true,
            .done = count_done,
            .user = &done,
        };
        at += transfers[i].length;
        REQUIRE(usbip_host_session_submit(usbip_port_session(port), &transfers[i],
                                          usbip_now_ms()) == 0);
    }
    run_until("out", COUNT);
    while (done < COUNT)
        process_once();
    CU_ASSERT_TRUE(has_come(at));
    CU_ASSERT_EQUAL(memcmp(tap.payloads, written, at), 0);
    stop();
}

/* Lets a port that writes see long round trips, until it has as much under way as it ever will. */
static void write_until_deep(void)
{
    uint64_t end_ms = usbip_now_ms() + PATIENCE_MS;
    int given = 0;

    scripted_lock(server);
    server->holds_out = true;
    while (given < MAX_TRANSFERS * TRANSFER_SIZE) {
        uint64_t start_ms = usbip_now_ms();

        REQUIRE(start_ms < end_ms);
        server->line_count = 0;
        server->written_size = 0;
        scripted_unlock(server);
        given = usbip_port_write(port, written, WRITTEN_SIZE, 0);
        run_until("out", (unsigned)given / TRANSFER_SIZE);
        while (usbip_now_ms() < start_ms + LONG_TRIP_MS)
            process_once();
        scripted_lock(server);
        scripted_end_out(server);
        scripted_unlock(server);
        while (in_flight() > IN_TRANSFERS)
            process_once();
        scripted_lock(server);
    }
    server->holds_out = false;
    server->line_count = 0;
    server->written_size = 0;
    scripted_unlock(server);
}

/*
 * An answer frees the transfer, but its bytes are not sent yet, and must not be written over. With
 * that many under way the next write would get the same buffer.
 */
static void test_server_that_answers_early(void)
{
    enum { DEEP = MAX_TRANSFERS * TRANSFER_SIZE, ALL = DEEP + 2 * TRANSFER_SIZE };
    int given;

    start(NULL);
    write_until_deep();
    may_send = USBIP_HEADER_SIZE + TRANSFER_SIZE / 2; /* of the first transfer */
    scripted_lock(server);
    server->answers_early = true;
    scripted_unlock(server);
    CU_ASSERT_EQUAL_FATAL(usbip_port_write(port, written, ALL, 0), DEEP);
    while (in_flight() == IN_TRANSFERS + MAX_TRANSFERS)
        process_once();
    given = usbip_port_write(port, written + DEEP, TRANSFER_SIZE, 0);
    CU_ASSERT_EQUAL(given, 0);
    may_send = SIZE_MAX;
    for (size_t at = DEEP; at < ALL; at += TRANSFER_SIZE)
        CU_ASSERT_EQUAL(usbip_port_write_all(port, written + at, TRANSFER_SIZE, PATIENCE_MS),
                        TRANSFER_SIZE);
    CU_ASSERT_TRUE(scripted_wait(server, "out", ALL / TRANSFER_SIZE));
    CU_ASSERT_TRUE(has_come(ALL));
    stop();
}

/* One long round trip must not keep a near server's data out of the processor's cache for good. */
static void test_depth_shrinks_again(void)
{
    enum { NEAR = 240 << 10 };
    int given = WRITTEN_SIZE;

    start(NULL);
    write_until_deep();
    stopped_ms = usbip_now_ms();
    for (unsigned i = 0; i < MAX_TRANSFERS && given > NEAR; i++) {
        scripted_lock(server);
        server->written_size = 0;
        scripted_unlock(server);
        given = usbip_port_write(port, written, WRITTEN_SIZE, 0);
        while (in_flight() > IN_TRANSFERS)
            process_once();
    }
    CU_ASSERT_EQUAL(given, NEAR);
    stopped_ms = 0;
    stop();
}

/* A device that takes a little within no time may be slow, and gets no larger transfers. */
static void test_little_at_once_is_not_fast(void)
{
    int given;

    start(NULL);
    write_until_deep();
    stopped_ms = usbip_now_ms();
    for (unsigned i = 0; i < 10; i++)
        CU_ASSERT_EQUAL(usbip_port_write_all(port, written, TRANSFER_SIZE, PATIENCE_MS),
                        TRANSFER_SIZE);
    given = usbip_port_write(port, written, WRITTEN_SIZE, 0);
    CU_ASSERT(given > MAX_TRANSFERS * TRANSFER_SIZE / 2);
    CU_ASSERT_EQUAL(usbip_port_drain(port, PATIENCE_MS), 0);
    scripted_lock(server);
    CU_ASSERT_EQUAL(scripted_count(server, "out"), scripted_count(server, "out 01 16384"));
    scripted_unlock(server);
    stopped_ms = 0;
    stop();
}

/* What the server has answered is not written before it has been sent: then at once. */
static void test_answered_is_not_sent(void)
{
    uint64_t start_ms;

    start(NULL);
    scripted_lock(server);
    server->answers_early = true;
    scripted_unlock(server);
    may_send = USBIP_HEADER_SIZE + TRANSFER_SIZE / 2;
    CU_ASSERT_EQUAL(usbip_port_write_all(port, written, TRANSFER_SIZE, SHORT_MS),
                    USBIP_ERROR_TIMEOUT);
    CU_ASSERT_EQUAL(in_flight(), IN_TRANSFERS);
    may_send = SIZE_MAX;
    start_ms = usbip_now_ms();
    CU_ASSERT_EQUAL(usbip_port_drain(port, PATIENCE_MS), 0);
    CU_ASSERT_TRUE(usbip_now_ms() - start_ms < PROMPT_MS);
    CU_ASSERT_TRUE(scripted_wait(server, "out", 1));
    CU_ASSERT_TRUE(has_come(TRANSFER_SIZE));
    stop();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"slow server", test_slow_server},
        {"server that halts", test_server_that_halts},
        {"many transfers at once", test_many_transfers_at_once},
        {"server that answers early", test_server_that_answers_early},
        {"depth shrinks again", test_depth_shrinks_again},
        {"little at once is not fast", test_little_at_once_is_not_fast},
        {"answered is not sent", test_answered_is_not_sent},
        CU_TEST_INFO_NULL,
    };
    return run_tests("slow server", tests);
}
