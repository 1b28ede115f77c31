/*
 * A single client that asks and waits for the answer, again and again: with it the server talks
 * over io_uring. What may come in between, and what ends it. `--no-io-uring` is an argument: then
 * all is to be the same, but for the turns of the loop that it takes.
 */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "emulator/ring.h"
#include "tests/support/testing.h"
#include "tests/unit/emulator/server_fixture.h"

enum {
    ROUNDS = 1000,
    FEW = 20,
    ANSWER_SIZE = URB_REPLY + USB_DT_DEVICE_SIZE,
    BURST = 4000, /* requests, no more than may wait */
    SMALL_BURST = 50,
    SLOW_PAIRS = 8192, /* 32 MiB each way, more than all buffers together */
    SMALL_BUFFER = 16 << 10,
    SILENCE_MS = 200,
};

static bool with_ring;

/* ---- A conversation ---- */

static void make_question(uint8_t bytes[USBIP_HEADER_SIZE], uint32_t seqnum)
{
    make_submit(bytes, 1, seqnum, 0, true, USB_DT_DEVICE_SIZE);
    usbip_encode_setup(bytes + 40,
                       &(struct usbip_setup){0x80, USB_REQ_GET_DESCRIPTOR, USB_DT_DEVICE << 8, 0,
                                             USB_DT_DEVICE_SIZE});
}

static bool is_answer(const uint8_t bytes[ANSWER_SIZE], uint32_t seqnum)
{
    static const uint8_t descriptor[USB_DT_DEVICE_SIZE] = {
        18, USB_DT_DEVICE, 0, 2, 0xef, 2, 1, 64, 0x09, 0x12, 1, 0, 0, 0, 0, 0, 0, 1};
    struct usbip_header header;
    return usbip_decode_header(bytes, &header) == 0 && header.command == USBIP_RET_SUBMIT &&
           header.seqnum == seqnum && header.ret_submit.status == 0 &&
           header.ret_submit.actual_length == USB_DT_DEVICE_SIZE &&
           memcmp(bytes + URB_REPLY, descriptor, sizeof descriptor) == 0;
}

static void ask(int fd, uint32_t seqnum)
{
    uint8_t bytes[USBIP_HEADER_SIZE];
    make_question(bytes, seqnum);
    send_all(fd, bytes, sizeof bytes);
}

static void hear(int fd, uint32_t seqnum)
{
    uint8_t bytes[ANSWER_SIZE];
    receive_all(fd, bytes, sizeof bytes);
    CU_ASSERT_TRUE_FATAL(is_answer(bytes, seqnum));
}

static void talk(int fd, uint32_t rounds)
{
    for (uint32_t i = 0; i < rounds; i++) {
        ask(fd, i + 2);
        hear(fd, i + 2);
    }
}

/* A client that talks in a thread of its own, as long as it may and is answered. */
struct talker {
    int fd;
    pthread_t thread;
    atomic_uint rounds;
    atomic_bool stops;
};

static void *run_talker(void *context)
{
    struct talker *talker = context;
    uint8_t bytes[ANSWER_SIZE];
    while (!talker->stops) {
        make_question(bytes, 2);
        if (send(talker->fd, bytes, USBIP_HEADER_SIZE, MSG_NOSIGNAL) != USBIP_HEADER_SIZE ||
            recv(talker->fd, bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes ||
            !is_answer(bytes, 2))
            break;
        talker->rounds++;
    }
    return NULL;
}

static void start_talker(struct talker *talker, int fd)
{
    *talker = (struct talker){.fd = fd};
    CU_ASSERT_EQUAL_FATAL(pthread_create(&talker->thread, NULL, run_talker, talker), 0);
}

static void await_rounds(struct talker *talker, unsigned more)
{
    const struct timespec pause = {.tv_nsec = 100000};
    const uint64_t began = uv_hrtime();
    unsigned before = talker->rounds;
    while (talker->rounds - before < more) {
        CU_ASSERT_FATAL((uv_hrtime() - began) / 1000000000 < TIMEOUT_S);
        nanosleep(&pause, NULL);
    }
}

static void stop_talker(struct talker *talker)
{
    await_rounds(talker, FEW);
    talker->stops = true;
    pthread_join(talker->thread, NULL);
}

static uint64_t hrtime_us(void)
{
    return uv_hrtime() / 1000;
}

/* ---- What is said ---- */

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void test_round_trips(void)
{
    /* What libuv opens with its first loop stays. */
    start_server();
    stop_server();
    unsigned before = open_descriptors();
    start_server();
    int fd = import(1);
    unsigned turns = loop_turns;
    talk(fd, ROUNDS);
    turns = loop_turns - turns;
    printf("%u turns of the loop ... ", turns);
    if (with_ring)
        CU_ASSERT(turns < ROUNDS / 2);
    /* What is echoed passes, and leaves before more is read. */
    for (int i = 0; i < ROUNDS; i++)
        exchange(fd, 1, "back and forth");
    close(fd);
    stop_server();
    CU_ASSERT_EQUAL(open_descriptors(), before);
}

/* Requests that come byte by byte, and several at once. */
static void test_pieces(void)
{
    start_server();
    int fd = import(1);
    uint8_t bytes[FEW * USBIP_HEADER_SIZE];
    for (uint32_t i = 0; i < FEW; i++)
        make_question(bytes + (size_t)i * USBIP_HEADER_SIZE, i);
    for (size_t at = 0, size = 1; at < sizeof bytes; at += size, size = 2 * size + 1) {
        if (size > sizeof bytes - at)
            size = sizeof bytes - at;
        send_all(fd, bytes + at, size);
    }
    for (uint32_t i = 0; i < FEW; i++)
        hear(fd, i);
    talk(fd, FEW);
    close(fd);
    stop_server();
}

/* The rest of what does not fit into the socket does not wait for the turn's end. */
static void test_much_at_once(void)
{
    /* So little in each that it is copied, and not lent. */
    enum { PAIRS = 40, SIZE = 1900, PAIR = 2 * USBIP_HEADER_SIZE + SIZE };
    static uint8_t bytes[PAIRS * PAIR];
    unsigned soon = 0;
    buffer_size = SMALL_BUFFER;
    start_server();
    int fd = import(1);
    for (int round = 0; round < FEW; round++) {
        memset(bytes, round, sizeof bytes);
        for (uint32_t i = 0; i < PAIRS; i++) {
            uint8_t *pair = bytes + (size_t)i * PAIR;
            make_submit(pair, 1, 2 * i + 2, 1, true, SIZE);
            make_submit(pair + USBIP_HEADER_SIZE, 1, 2 * i + 3, 1, false, SIZE);
        }
        talk(fd, FEW);
        uint64_t began_us = hrtime_us();
        send_all(fd, bytes, sizeof bytes);
        receive_all(fd, bytes, sizeof bytes);
        soon += hrtime_us() - began_us < USBIP_SERVER_CONVERSATION_US - 500;
    }
    printf("%u of %d soon ... ", soon, FEW);
    CU_ASSERT(soon > FEW / 2);
    talk(fd, FEW);
    close(fd);
    stop_server();
    buffer_size = 0;
}

/* Answers that do not fit into the socket as a whole. */
static void test_bursts(void)
{
    uint8_t *questions = malloc((size_t)BURST * USBIP_HEADER_SIZE);
    REQUIRE(questions != NULL);
    for (uint32_t i = 0; i < BURST; i++)
        make_question(questions + (size_t)i * USBIP_HEADER_SIZE, i);
    buffer_size = SMALL_BUFFER;
    start_server();
    int fd = import(1);
    for (int round = 0; round < FEW; round++) {
        talk(fd, FEW);
        send_all(fd, questions, (size_t)BURST * USBIP_HEADER_SIZE);
        for (uint32_t i = 0; i < BURST; i++)
            hear(fd, i);
    }
    /* And gone without reading. */
    for (int round = 0; round < FEW; round++) {
        for (int i = 0; i < round; i++)
            send_all(fd, questions, (size_t)SMALL_BURST * USBIP_HEADER_SIZE);
        reset_client(fd);
        fd = import_when_free(1);
        talk(fd, FEW);
    }
    send_all(fd, questions, (size_t)BURST * USBIP_HEADER_SIZE);
    reset_client(fd);
    close(import_when_free(1));
    stop_server();
    buffer_size = 0;
    free(questions);
}

/* Nobody reads what is echoed for a while: it waits in the server, which reads no more. */
static void test_slow_reader(void)
{
    start_server();
    struct slow_client client = {.fd = import(1)};
    talk(client.fd, FEW);
    make_pairs(&client, SLOW_PAIRS, false);
    send_until_blocked(&client);
    CU_ASSERT(client.sent < client.output_size);
    finish(&client);
    CU_ASSERT_TRUE(is_echo(&client));
    talk(client.fd, FEW);
    /* Once more, and gone without reading. */
    client.sent = 0;
    send_until_blocked(&client);
    reset_client(client.fd);
    close(import_when_free(1));
    free(client.output);
    free(client.input);
    stop_server();
}

/* ---- Who comes and goes ---- */

static void test_second_client(void)
{
    struct talker talker;
    start_server();
    int fd = import(1);
    start_talker(&talker, fd);
    for (int i = 0; i < FEW; i++) {
        await_rounds(&talker, FEW);
        CU_ASSERT_EQUAL(listed_devices(), 1);
        int second = import_when_free(2);
        exchange(second, 2, "second");
        await_rounds(&talker, FEW);
        exchange(second, 2, "still there");
        close(second);
    }
    stop_talker(&talker);
    close(fd);
    stop_server();
}

/* One who is there and mostly silent takes nothing from the other. */
static void test_silent_neighbour(void)
{
    start_server();
    int fd = import(1), silent = import(2);
    for (int i = 0; i < FEW; i++) {
        unsigned turns = loop_turns;
        talk(fd, ROUNDS);
        if (with_ring)
            CU_ASSERT(loop_turns - turns < ROUNDS / 2);
        exchange(silent, 2, "now and then");
    }
    close(fd);
    close(silent);
    stop_server();
}

static void test_half_close(void)
{
    start_server();
    for (int i = 0; i < FEW; i++) {
        int fd = import_when_free(1);
        talk(fd, FEW);
        ask(fd, 1);
        hear(fd, 1);
        shutdown(fd, SHUT_WR);
        CU_ASSERT_TRUE(is_closed(fd));
        close(fd);
    }
    close(import_when_free(1));
    stop_server();
}

/* Clients that go, every other one without having heard the last answer. */
static void end_conversations(void (*leave)(int fd))
{
    start_server();
    for (int i = 0; i < FEW; i++) {
        int fd = import_when_free(1);
        talk(fd, FEW);
        if (i % 2)
            ask(fd, 1);
        leave(fd);
    }
    close(import_when_free(1));
    stop_server();
}

static void close_client(int fd)
{
    close(fd);
}

static void test_close(void)
{
    end_conversations(close_client);
}

static void test_reset(void)
{
    end_conversations(reset_client);
}

/* Who closes and comes back at once finds the device free, as a rule. */
static void test_coming_back(void)
{
    enum { TIMES = 1000 };
    unsigned busy = 0;
    start_server();
    for (int i = 0; i < TIMES; i++) {
        int fd = try_import(1);
        busy += fd < 0;
        if (fd < 0)
            fd = import_when_free(1);
        talk(fd, 2);
        close(fd);
    }
    printf("%u of %d times busy ... ", busy, TIMES);
    CU_ASSERT(busy <= 2);
    stop_server();
}

/* ---- Faults ---- */

/* How many answers come whole before the connection ends. `size` is what comes in all. */
static unsigned talk_to_the_end(int fd, size_t *size)
{
    uint8_t bytes[ANSWER_SIZE];
    for (unsigned round = 0;; round++) {
        make_question(bytes, round);
        if (send(fd, bytes, USBIP_HEADER_SIZE, MSG_NOSIGNAL) < 0)
            return round;
        ssize_t got = recv(fd, bytes, sizeof bytes, MSG_WAITALL);
        *size += got > 0 ? (size_t)got : 0;
        if (got != sizeof bytes)
            return round;
        CU_ASSERT_TRUE_FATAL(is_answer(bytes, round));
    }
}

/* Import and configuration, FEW answers, and ten bytes of the next. */
static void test_cuts(void)
{
    const size_t before = USBIP_IMPORT_REPLY_SIZE + URB_REPLY;
    static const char *const faults[] = {"close", "reset"};
    for (int i = 0; i < 2; i++) {
        char fault[64];
        snprintf(fault, sizeof fault, "%s:after=%zu,device=1-1", faults[i],
                 before + (size_t)FEW * ANSWER_SIZE + 10);
        start_server_with(false, (const char *const[]){fault, NULL});
        for (int round = 0; round < FEW; round++) {
            size_t size = 0;
            int fd = import_when_free(1);
            CU_ASSERT_EQUAL(talk_to_the_end(fd, &size), FEW);
            CU_ASSERT_EQUAL(size, (size_t)FEW * ANSWER_SIZE + 10);
            if (i == 0)
                CU_ASSERT_TRUE(is_closed(fd));
            close(fd);
        }
        stop_server();
    }
}

static void test_faults(void)
{
    static const char *const faults[] = {
        "fragment:size=5",
        "fragment:size=40,ms=1",
        "stop_reading:after=1000,ms=20",
        "delay:ms=1,chance=50",
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        start_server_with(false, (const char *const[]){faults[i], NULL});
        int fd = import(1);
        talk(fd, 100);
        close(fd);
        stop_server();
    }
}

/* ---- Time ---- */

/* A timer that is due earlier than the turn's end does not wait for it, while nothing else comes.
 */
static void test_timer_while_silent(void)
{
    enum { TIMES = 40 };
    unsigned early = 0;
    start_server_with(false, (const char *const[]){"delay:ms=1,device=1-1", NULL});
    int fd = import(1);
    for (int i = 0; i < TIMES; i++) {
        uint64_t began_us = hrtime_us();
        talk(fd, 1);
        early += hrtime_us() - began_us < USBIP_SERVER_CONVERSATION_US - 1000;
    }
    printf("%u of %d early ... ", early, TIMES);
    CU_ASSERT(early > TIMES / 4);
    close(fd);
    stop_server();
}

static struct usbip_timer timer;
static atomic_uint fired;
static uint64_t due_us;

static void fire(struct usbip_timer *unused)
{
    (void)unused;
    CU_ASSERT(scheduler.now_us >= due_us);
    fired++;
}

static void arm_soon(void)
{
    timer = (struct usbip_timer){.fired = fire};
    due_us = scheduler.now_us + 10000;
    usbip_timer_arm(&scheduler, &timer, due_us);
}

/* Somebody who always talks keeps no timer from firing. */
static void test_timer_while_talking(void)
{
    struct talker talker;
    start_server();
    int fd = import(1);
    start_talker(&talker, fd);
    for (unsigned i = 0; i < FEW; i++) {
        call_in_loop(arm_soon);
        for (uint64_t began = uv_hrtime(); fired == i; await_rounds(&talker, 1))
            CU_ASSERT_FATAL((uv_hrtime() - began) / 1000000000 < TIMEOUT_S);
    }
    stop_talker(&talker);
    close(fd);
    stop_server();
    fired = 0;
}

static void arm_in_an_hour(void)
{
    timer = (struct usbip_timer){.fired = fire};
    due_us = scheduler.now_us + UINT64_C(3600000000);
    usbip_timer_arm(&scheduler, &timer, due_us);
}

static void cancel_timer(void)
{
    usbip_timer_cancel(&scheduler, &timer);
}

/* A timer that is due much later is no reason not to talk. */
static void test_distant_timer(void)
{
    start_server();
    call_in_loop(arm_in_an_hour);
    int fd = import(1);
    unsigned turns = loop_turns;
    talk(fd, ROUNDS);
    turns = loop_turns - turns;
    if (with_ring)
        CU_ASSERT(turns < ROUNDS / 2);
    call_in_loop(cancel_timer);
    close(fd);
    stop_server();
}

/* ---- The loop ---- */

/* It sleeps when nobody says anything, also when somebody did just before. */
static void test_silence(void)
{
    const struct timespec silence = {.tv_nsec = SILENCE_MS * 1000000L};
    start_server();
    int fd = import(1);
    for (int i = 0; i < 3; i++) {
        talk(fd, FEW);
        clock_t cpu = clock();
        unsigned turns = loop_turns;
        nanosleep(&silence, NULL);
        CU_ASSERT(loop_turns - turns < 10);
        CU_ASSERT((clock() - cpu) * 1000 / CLOCKS_PER_SEC < SILENCE_MS / 2);
    }
    close(fd);
    stop_server();
}

static atomic_uint calls;

static void count_call(void)
{
    calls++;
}

/* What else the loop has to do does not wait for the turn's end. */
static void test_requests_to_the_loop(void)
{
    enum { TIMES = 100 };
    struct talker talker;
    unsigned soon = 0;
    start_server();
    int fd = import(1);
    for (int i = 0; i < TIMES; i++) {
        talk(fd, 2);
        uint64_t began_us = hrtime_us();
        call_in_loop(count_call);
        soon += hrtime_us() - began_us < USBIP_SERVER_CONVERSATION_US / 2;
    }
    printf("%u of %d soon ... ", soon, TIMES);
    CU_ASSERT(soon > TIMES / 2);
    start_talker(&talker, fd);
    for (int i = 0; i < TIMES; i++)
        call_in_loop(count_call);
    CU_ASSERT_EQUAL(calls, 2 * TIMES);
    stop_talker(&talker);
    close(fd);
    stop_server();
    calls = 0;
}

/* A loop that is run by one thread after the other. */
static void test_another_thread(void)
{
    start_server();
    int fd = import(1);
    for (int i = 0; i < 3; i++) {
        talk(fd, ROUNDS);
        move_loop();
    }
    talk(fd, ROUNDS);
    close(fd);
    close(import_when_free(1));
    stop_server();
}

static void test_server_is_closed(void)
{
    for (int i = 0; i < FEW; i++) {
        struct talker talker;
        start_server();
        int fd = import(1);
        start_talker(&talker, fd);
        await_rounds(&talker, FEW);
        stop_server();
        pthread_join(talker.thread, NULL);
        close(fd);
    }
}

static void close_server(struct usbip_timer *unused)
{
    (void)unused;
    usbip_server_close(server);
    server = NULL;
}

static void arm_close(void)
{
    timer = (struct usbip_timer){.fired = close_server};
    usbip_timer_arm(&scheduler, &timer, scheduler.now_us + 10000);
}

/* By a timer, whenever it fires. */
static void test_timer_closes_server(void)
{
    for (int i = 0; i < FEW; i++) {
        struct talker talker;
        start_server();
        int fd = import(1);
        start_talker(&talker, fd);
        await_rounds(&talker, FEW);
        call_in_loop(arm_close);
        pthread_join(talker.thread, NULL);
        CU_ASSERT_FALSE(talker.stops);
        close(fd);
        stop_server();
    }
}

static void *look_for_ring(void *unused)
{
    struct usbip_ring *ring = usbip_ring_new();
    with_ring = ring && !without_io_uring;
    usbip_ring_free(ring);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    CU_TestInfo tests[] = {
        {"round trips", test_round_trips},
        {"pieces", test_pieces},
        {"much at once", test_much_at_once},
        {"bursts", test_bursts},
        {"slow reader", test_slow_reader},
        {"second client", test_second_client},
        {"silent neighbour", test_silent_neighbour},
        {"half-close", test_half_close},
        {"close", test_close},
        {"coming back", test_coming_back},
        {"reset", test_reset},
        {"faults that cut", test_cuts},
        {"faults", test_faults},
        {"timer while silent", test_timer_while_silent},
        {"timer while talking", test_timer_while_talking},
        {"distant timer", test_distant_timer},
        {"silence", test_silence},
        {"requests to the loop", test_requests_to_the_loop},
        {"another thread", test_another_thread},
        {"the server is closed", test_server_is_closed},
        {"a timer closes the server", test_timer_closes_server},
        CU_TEST_INFO_NULL,
    };
    take_server_arguments(argc, argv);
    /* Its end may interrupt what its thread does next. */
    if (pthread_create(&thread, NULL, look_for_ring, NULL) != 0)
        return EXIT_FAILURE;
    pthread_join(thread, NULL);
    puts(with_ring ? "with io_uring" : "WITHOUT IO_URING");
    return run_tests("conversation", tests);
}
