/* A connection to a server that sends what nobody has asked for: no wait lasts for ever. */
#include "tests/conformance/wire.h"

#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/testing.h"

enum {
    TIMEOUT_MS = 100,
    GIVES_UP_MS = 5000, /* the server, when its client waits and waits */
    TRICKLE_MS = 5,
    ASKED = 7, /* seqnums */
    UNASKED = 8,
};

static const struct usbip_header unasked = {.command = USBIP_RET_SUBMIT, .seqnum = UNASKED};

/* Sends the same bytes again and again, until its client goes. */
struct server {
    int fd, pause_ms;
    size_t size;
    uint8_t bytes[USBIP_HEADER_SIZE];
    pthread_t thread;
};

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void *serve(void *context)
{
    const struct server *server = context;
    const struct timespec pause = {0, server->pause_ms * 1000000L};
    const long long until_ms = now_ms() + GIVES_UP_MS;
    while (now_ms() < until_ms &&
           send(server->fd, server->bytes, server->size, MSG_NOSIGNAL) == (ssize_t)server->size)
        nanosleep(&pause, NULL);
    close(server->fd);
    return NULL;
}

static void start(struct server *server, struct wire *wire, struct wire_log *log)
{
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    *wire = (struct wire){.fd = fds[0], .tag = 'A', .log = log, .timeout_ms = TIMEOUT_MS};
    server->fd = fds[1];
    REQUIRE(pthread_create(&server->thread, NULL, serve, server) == 0);
}

static void stop(struct server *server, struct wire *wire)
{
    wire_close(wire);
    pthread_join(server->thread, NULL);
}

static void test_trickle_of_replies(void)
{
    static struct wire_log log;
    struct server server = {.pause_ms = TRICKLE_MS, .size = USBIP_HEADER_SIZE};
    struct wire wire;
    struct wire_pdu *pdu;
    usbip_encode_header(server.bytes, &unasked);
    start(&server, &wire, &log);
    CU_ASSERT_EQUAL(wire_wait(&wire, ASKED, &pdu), WIRE_SILENT);
    stop(&server, &wire);
}

/* Here it is their number that ends the wait. */
static void test_flood_of_replies(void)
{
    static struct wire_log log;
    struct wire wire = {.fd = -1, .tag = 'A', .log = &log, .timeout_ms = 10 * GIVES_UP_MS};
    struct wire_pdu *pdu;
    for (int i = 0; i <= WIRE_MAX_UNASKED; i++) {
        uint8_t bytes[USBIP_HEADER_SIZE];
        usbip_encode_header(bytes, &unasked);
        REQUIRE(usbip_buffer_append(&wire.in, bytes, sizeof bytes) == 0);
    }
    CU_ASSERT_EQUAL(wire_wait(&wire, ASKED, &pdu), WIRE_DESYNC);
    CU_ASSERT_EQUAL(wire.pdu_count, WIRE_MAX_UNASKED + 1);
    wire_close(&wire);
}

static void test_end_that_does_not_come(void)
{
    static struct wire_log log;
    struct server server = {.pause_ms = TRICKLE_MS, .size = 1};
    struct wire wire;
    size_t left;
    start(&server, &wire, &log);
    CU_ASSERT_EQUAL(wire_read_end(&wire, &left), WIRE_SILENT);
    CU_ASSERT_TRUE(left > 0);
    stop(&server, &wire);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a trickle of replies", test_trickle_of_replies},
        {"a flood of replies", test_flood_of_replies},
        {"an end that does not come", test_end_that_does_not_come},
        CU_TEST_INFO_NULL,
    };
    return run_tests("wire", tests);
}
