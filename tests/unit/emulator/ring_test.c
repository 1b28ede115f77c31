/* Turns with one end of a TCP connection; the other end is ours, or a thread's. */
#include "emulator/ring.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/testing.h"

enum {
    NEVER_US = 60000000, /* a limit that no turn reaches */
    ROUND_TRIPS = 1000,
    SHORT_TURNS = 3000,
    MUCH = 16 << 20, /* more bytes than the buffers of a connection hold */
    SMALL_BUFFER = 16 << 10,
};

static struct usbip_ring *ring;
static int near, far; /* the ends of the connection */
static int other;     /* what else may end a turn */

static int set_up(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    far = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (const struct sockaddr *)&address, size) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0 ||
        connect(far, (const struct sockaddr *)&address, size) < 0)
        return -1;
    /* As libuv's are. */
    near = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    close(listener);
    other = eventfd(0, EFD_NONBLOCK);
    ring = usbip_ring_new();
    return near >= 0 && other >= 0 && ring ? 0 : -1;
}

/* CUnit calls these around each test. */
static void begin_test(void)
{
    REQUIRE(set_up() == 0);
}

static void end_test(void)
{
    usbip_ring_free(ring);
    close(near);
    close(far);
    close(other);
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void make_readable(int event)
{
    const uint64_t one = 1;
    CU_ASSERT_EQUAL(write(event, &one, sizeof one), sizeof one);
}

static pthread_t start(void *(*run)(void *))
{
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, run, NULL) == 0);
    return thread;
}

/* The socket has exactly these bytes. */
static bool has(int fd, const char *text)
{
    char bytes[64];
    ssize_t size = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    return size == (ssize_t)strlen(text) && memcmp(bytes, text, strlen(text)) == 0;
}

/* ---- Exchanges ---- */

/* Answers each byte with the next one. */
static void *answer(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUND_TRIPS; i++) {
        uint8_t byte;
        if (recv(far, &byte, 1, 0) != 1)
            break;
        byte++;
        send(far, &byte, 1, MSG_NOSIGNAL);
    }
    return NULL;
}

static void test_round_trips(void)
{
    uint8_t byte = 0;
    pthread_t thread = start(answer);
    usbip_ring_begin(ring, near, other, NEVER_US);
    for (int i = 0; i < ROUND_TRIPS; i++) {
        usbip_ring_send(ring, &byte, 1);
        struct usbip_ring_result result = usbip_ring_exchange(ring, &byte, 1);
        CU_ASSERT_EQUAL_FATAL(result.sent, 1);
        CU_ASSERT_EQUAL_FATAL(result.received, 1);
        CU_ASSERT_EQUAL_FATAL(byte, (uint8_t)(i + 1));
        CU_ASSERT_FALSE_FATAL(usbip_ring_is_over(ring));
    }
    usbip_ring_end(ring);
    CU_ASSERT_TRUE(usbip_ring_is_over(ring));
    pthread_join(thread, NULL);
}

static void test_only_receiving(void)
{
    char bytes[8];
    CU_ASSERT_EQUAL(send(far, "abc", 3, 0), 3);
    usbip_ring_begin(ring, near, other, NEVER_US);
    struct usbip_ring_result result = usbip_ring_exchange(ring, bytes, sizeof bytes);
    CU_ASSERT_EQUAL(result.received, 3);
    CU_ASSERT_EQUAL(result.sent, 0);
    CU_ASSERT_EQUAL(memcmp(bytes, "abc", 3), 0);
    usbip_ring_end(ring);
}

/* What is there to be read stays. */
static void test_only_sending(void)
{
    CU_ASSERT_EQUAL(send(far, "abc", 3, 0), 3);
    usbip_ring_begin(ring, near, other, NEVER_US);
    usbip_ring_send(ring, "xy", 2);
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, NULL, 0).sent, 2);
    CU_ASSERT_FALSE(usbip_ring_is_over(ring));
    /* It was sent once. */
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, NULL, 0).sent, 0);
    usbip_ring_end(ring);
    CU_ASSERT_TRUE(has(far, "xy"));
    CU_ASSERT_TRUE(has(near, "abc"));
}

/* Nothing waits for room in the socket, or, as long as there is more to send, for what comes. What
 * has been sent, and no more, arrives. */
static void test_partial_send(void)
{
    char byte;
    const int buffer_size = SMALL_BUFFER;
    uint8_t *bytes = malloc(MUCH), *got = malloc(MUCH);
    REQUIRE(bytes && got);
    for (size_t i = 0; i < MUCH; i++)
        bytes[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
    setsockopt(near, SOL_SOCKET, SO_SNDBUF, &buffer_size, sizeof buffer_size);
    usbip_ring_begin(ring, near, other, NEVER_US);
    size_t sent = 0;
    for (;;) {
        usbip_ring_send(ring, bytes + sent, MUCH - sent);
        struct usbip_ring_result result = usbip_ring_exchange(ring, &byte, 1);
        CU_ASSERT_EQUAL(result.received, -EAGAIN);
        CU_ASSERT_FALSE_FATAL(usbip_ring_is_over(ring));
        if (result.sent < 0) {
            CU_ASSERT_EQUAL(result.sent, -EAGAIN);
            break;
        }
        CU_ASSERT_FATAL(result.sent > 0);
        sent += (size_t)result.sent;
        CU_ASSERT_FATAL(sent < MUCH);
    }
    CU_ASSERT(sent > 0);
    usbip_ring_send(ring, bytes, 1);
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, NULL, 0).sent, -EAGAIN);
    usbip_ring_end(ring);
    shutdown(near, SHUT_WR);
    CU_ASSERT_EQUAL(recv(far, got, MUCH, MSG_WAITALL), (ssize_t)sent);
    CU_ASSERT_EQUAL(memcmp(got, bytes, sent), 0);
    free(bytes);
    free(got);
}

/* ---- Ends of the connection ---- */

static void test_end_of_stream(void)
{
    char bytes[8];
    CU_ASSERT_EQUAL(send(far, "abc", 3, 0), 3);
    shutdown(far, SHUT_WR);
    usbip_ring_begin(ring, near, other, NEVER_US);
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, bytes, sizeof bytes).received, 3);
    usbip_ring_send(ring, "xy", 2);
    struct usbip_ring_result result = usbip_ring_exchange(ring, bytes, sizeof bytes);
    CU_ASSERT_EQUAL(result.received, 0);
    CU_ASSERT_EQUAL(result.sent, 2);
    usbip_ring_end(ring);
    CU_ASSERT_TRUE(has(far, "xy"));
}

static void test_reset(void)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};
    char byte;
    setsockopt(far, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(far);
    usbip_ring_begin(ring, near, other, NEVER_US);
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, &byte, 1).received, -ECONNRESET);
    /* And no SIGPIPE. */
    usbip_ring_send(ring, "x", 1);
    struct usbip_ring_result result = usbip_ring_exchange(ring, &byte, 1);
    CU_ASSERT_EQUAL(result.sent, -EPIPE);
    CU_ASSERT_EQUAL(result.received, -EAGAIN);
    usbip_ring_end(ring);
    far = dup(near);
}

/* ---- Ends of a turn ---- */

static void test_limit(void)
{
    const uint64_t limit_us = 20000;
    char byte;
    uint64_t began_us = now_us();
    usbip_ring_begin(ring, near, other, limit_us);
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, &byte, 1).received, -EAGAIN);
    uint64_t took_us = now_us() - began_us;
    CU_ASSERT_TRUE(usbip_ring_is_over(ring));
    CU_ASSERT(took_us >= limit_us);
    CU_ASSERT(took_us < NEVER_US / 2);
    usbip_ring_end(ring);
    /* The next turn has a limit of its own. */
    CU_ASSERT_EQUAL(send(far, "a", 1, 0), 1);
    usbip_ring_begin(ring, near, other, NEVER_US);
    CU_ASSERT_FALSE(usbip_ring_is_over(ring));
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, &byte, 1).received, 1);
    CU_ASSERT_FALSE(usbip_ring_is_over(ring));
    usbip_ring_end(ring);
}

/* When the exchange has begun: it has sent something. */
static void *make_other_readable(void *unused)
{
    char byte;
    (void)unused;
    if (recv(far, &byte, 1, 0) == 1)
        make_readable(other);
    return NULL;
}

static void test_other(void)
{
    char byte;
    pthread_t thread = start(make_other_readable);
    usbip_ring_begin(ring, near, other, NEVER_US);
    usbip_ring_send(ring, "x", 1);
    struct usbip_ring_result result = usbip_ring_exchange(ring, &byte, 1);
    CU_ASSERT_EQUAL(result.received, -EAGAIN);
    CU_ASSERT_EQUAL(result.sent, 1);
    CU_ASSERT_TRUE(usbip_ring_is_over(ring));
    usbip_ring_end(ring);
    pthread_join(thread, NULL);
    /* It was readable before; what is sent is sent. */
    usbip_ring_begin(ring, near, other, NEVER_US);
    usbip_ring_send(ring, "y", 1);
    result = usbip_ring_exchange(ring, &byte, 1);
    CU_ASSERT_EQUAL(result.received, -EAGAIN);
    CU_ASSERT_EQUAL(result.sent, 1);
    CU_ASSERT_TRUE(usbip_ring_is_over(ring));
    usbip_ring_end(ring);
    CU_ASSERT_TRUE(has(far, "y"));
    /* And so was the socket. */
    CU_ASSERT_EQUAL(send(far, "z", 1, 0), 1);
    usbip_ring_begin(ring, near, other, NEVER_US);
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, &byte, 1).received, 1);
    CU_ASSERT_EQUAL(byte, 'z');
    CU_ASSERT_TRUE(usbip_ring_is_over(ring));
    usbip_ring_end(ring);
}

/* Nothing receives into a buffer that has been given back. */
static void test_no_receiving_behind_the_end(void)
{
    char bytes[4] = "...";
    usbip_ring_begin(ring, near, other, 1000);
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, bytes, sizeof bytes).received, -EAGAIN);
    CU_ASSERT_EQUAL(send(far, "abc", 3, 0), 3);
    usbip_ring_end(ring);
    CU_ASSERT_STRING_EQUAL(bytes, "...");
    CU_ASSERT_TRUE(has(near, "abc"));
    /* The same when the turn does not end by itself, and when it had no exchange. */
    CU_ASSERT_EQUAL(send(far, "abc", 3, 0), 3);
    usbip_ring_begin(ring, near, other, NEVER_US);
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, bytes, 1).received, 1);
    usbip_ring_end(ring);
    CU_ASSERT_STRING_EQUAL(bytes, "a..");
    CU_ASSERT_TRUE(has(near, "bc"));
    usbip_ring_begin(ring, near, other, NEVER_US);
    usbip_ring_end(ring);
    CU_ASSERT_TRUE(usbip_ring_is_over(ring));
}

/* Ends the turn and sends a byte; now this is first, now that, and soon or later. */
static void *count_up(void *unused)
{
    uint8_t byte;
    (void)unused;
    for (int i = 0; i < SHORT_TURNS; i++) {
        if (recv(far, &byte, 1, 0) != 1)
            break;
        bool first = i % 2 == 0;
        if (first)
            make_readable(other);
        for (uint64_t until_us = now_us() + (unsigned)i % 128; now_us() < until_us;)
            continue;
        byte = (uint8_t)i;
        send(far, &byte, 1, MSG_NOSIGNAL);
        if (!first)
            make_readable(other);
    }
    return NULL;
}

/* What arrives while the turn ends comes with its last exchange or stays in the socket. */
static void test_arrival_at_the_end(void)
{
    unsigned at_the_end = 0, later = 0;
    pthread_t thread = start(count_up);
    for (int i = 0; i < SHORT_TURNS; i++) {
        uint8_t byte = 0;
        uint64_t count;
        usbip_ring_begin(ring, near, other, NEVER_US);
        usbip_ring_send(ring, "x", 1);
        struct usbip_ring_result result = usbip_ring_exchange(ring, &byte, 1);
        usbip_ring_end(ring);
        CU_ASSERT_FATAL(result.received == 1 || result.received == -EAGAIN);
        if (result.received == 1) {
            at_the_end++;
        } else {
            ssize_t size;
            do
                size = recv(near, &byte, 1, 0);
            while (size < 0 && errno == EAGAIN);
            CU_ASSERT_EQUAL_FATAL(size, 1);
            later++;
        }
        CU_ASSERT_EQUAL_FATAL(byte, (uint8_t)i);
        while (read(other, &count, sizeof count) != sizeof count)
            CU_ASSERT_EQUAL_FATAL(errno, EAGAIN);
    }
    pthread_join(thread, NULL);
    printf("%u times with the exchange, %u times later ... ", at_the_end, later);
}

/* ---- What interrupts ---- */

static pthread_t receiver;

static void on_signal(int number)
{
    (void)number;
}

static void *interrupt(void *unused)
{
    char byte;
    (void)unused;
    if (recv(far, &byte, 1, 0) != 1)
        return NULL;
    for (int i = 0; i < 100; i++)
        pthread_kill(receiver, SIGUSR1);
    send(far, "a", 1, MSG_NOSIGNAL);
    return NULL;
}

static void test_signals(void)
{
    const struct sigaction action = {.sa_handler = on_signal};
    char byte = 0;
    sigaction(SIGUSR1, &action, NULL);
    receiver = pthread_self();
    pthread_t thread = start(interrupt);
    usbip_ring_begin(ring, near, other, NEVER_US);
    usbip_ring_send(ring, "x", 1);
    struct usbip_ring_result result = usbip_ring_exchange(ring, &byte, 1);
    CU_ASSERT_EQUAL(result.sent, 1);
    CU_ASSERT_EQUAL(result.received, 1);
    CU_ASSERT_EQUAL(byte, 'a');
    CU_ASSERT_FALSE(usbip_ring_is_over(ring));
    usbip_ring_end(ring);
    pthread_join(thread, NULL);
}

/* A ring belongs to the thread that made it. In another one it does nothing, and says so. */
static void *use_in_another_thread(void *unused)
{
    char bytes[4] = "...";
    (void)unused;
    usbip_ring_begin(ring, near, other, 1000);
    usbip_ring_send(ring, "x", 1);
    struct usbip_ring_result result = usbip_ring_exchange(ring, bytes, sizeof bytes);
    CU_ASSERT_EQUAL(result.sent, 0);
    CU_ASSERT_EQUAL(result.received, -EAGAIN);
    CU_ASSERT_STRING_EQUAL(bytes, "...");
    CU_ASSERT_TRUE(usbip_ring_is_over(ring));
    usbip_ring_end(ring);
    return NULL;
}

static void test_another_thread(void)
{
    CU_ASSERT_EQUAL(send(far, "abc", 3, 0), 3);
    usbip_ring_begin(ring, near, other, NEVER_US);
    usbip_ring_end(ring);
    CU_ASSERT_FALSE(usbip_ring_is_broken(ring));
    pthread_join(start(use_in_another_thread), NULL);
    CU_ASSERT_TRUE(usbip_ring_is_broken(ring));
    CU_ASSERT_TRUE(has(near, "abc"));
    CU_ASSERT_EQUAL(recv(far, &(char){0}, 1, MSG_DONTWAIT), -1);
}

static void test_freed_in_a_turn(void)
{
    char byte;
    CU_ASSERT_EQUAL(send(far, "abc", 3, 0), 3);
    usbip_ring_begin(ring, near, other, NEVER_US);
    CU_ASSERT_EQUAL(usbip_ring_exchange(ring, &byte, 1).received, 1);
    usbip_ring_free(ring);
    ring = NULL;
    CU_ASSERT_TRUE(has(near, "bc"));
    usbip_ring_free(NULL);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"round trips", test_round_trips},
        {"only receiving", test_only_receiving},
        {"only sending", test_only_sending},
        {"partial send", test_partial_send},
        {"end of stream", test_end_of_stream},
        {"reset", test_reset},
        {"limit", test_limit},
        {"the other descriptor", test_other},
        {"no receiving behind the end", test_no_receiving_behind_the_end},
        {"arrival at the end", test_arrival_at_the_end},
        {"signals", test_signals},
        {"another thread", test_another_thread},
        {"freed in a turn", test_freed_in_a_turn},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {{"ring", NULL, NULL, begin_test, end_test, tests}, CU_SUITE_INFO_NULL};
    struct usbip_ring *probe = usbip_ring_new();
    if (!probe) {
        puts("THIS SYSTEM HAS NO IO_URING FOR US: NOTHING OF IT IS TESTED");
        return EXIT_SUCCESS;
    }
    usbip_ring_free(probe);
    return run_suites(suites);
}
