/*
 * How a port waits: as long as it was told and not longer, without using the processor, and
 * whatever signals come and whatever an event loop has done to the socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "client/port.h"
#include "tests/support/testing.h"
#include "tests/unit/client/scripted_server.h"

enum {
    PATIENCE_MS = 20000, /* for what must come */
    LATE_MS = 2000,      /* what a loaded machine may add to a time-out */
    TRIES = 5,           /* for what a loaded machine may spoil */
    COARSE_MS = 60,      /* by which recv() is late in a test */
    IDLE_MS = 400,
    IDLE_CPU_MS = IDLE_MS / 4,
    SIGNAL_EVERY_US = 5000,
    SIGNALS = 20,
};

static struct scripted_server *server;
static struct usbip_port *port;

/* ---- The system as it may be ---- */

static bool has_no_receive_timeout;
static bool receives_late;           /* a recv() whose time is over takes longer still */
static unsigned long blocking_calls; /* of recv(), by the client */

/* Declared for the linker, which leads the calls here (--wrap). */
int __real_setsockopt(int fd, int level, int option, const void *value, socklen_t size);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t size);
ssize_t __real_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags);

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
    if (has_no_receive_timeout && level == SOL_SOCKET && option == SO_RCVTIMEO) {
        errno = ENOPROTOOPT;
        return -1;
    }
    return __real_setsockopt(fd, level, option, value, size);
}

/* The server's have MSG_WAITALL. */
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags)
{
    ssize_t count = __real_recv(fd, data, size, flags);
    int error = errno;

    if (flags == 0)
        blocking_calls++;
    if (flags == 0 && receives_late && count == -1 && error == EAGAIN)
        poll(NULL, 0, COARSE_MS);
    errno = error;
    return count;
}

/* ---- Fixture ---- */

static void start(void)
{
    server = scripted_server_new();
    scripted_server_start(server);
    port = usbip_port_new(server->address, "1-1");
    REQUIRE(port != NULL);
    REQUIRE(usbip_port_open(port, PATIENCE_MS) == 0);
}

static void stop(void)
{
    usbip_port_free(port);
    scripted_server_stop(server);
    has_no_receive_timeout = false;
    receives_late = false;
}

/* Reads from a silent device. Returns how much later than asked that ended. */
static uint64_t lateness_ms(uint32_t timeout_ms)
{
    uint64_t start_ms = usbip_now_ms(), took_ms;
    char byte;

    CU_ASSERT_EQUAL(usbip_port_read(port, &byte, 1, timeout_ms), 0);
    took_ms = usbip_now_ms() - start_ms;
    REQUIRE(took_ms >= timeout_ms);
    return took_ms - timeout_ms;
}

static uint64_t cpu_ms(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000 + (uint64_t)used.tv_nsec / 1000000;
}

static void expect_idle(void)
{
    uint64_t before_ms = cpu_ms();

    lateness_ms(IDLE_MS);
    CU_ASSERT_TRUE(cpu_ms() - before_ms < IDLE_CPU_MS);
}

/* ---- Tests ---- */

static void test_time_outs(void)
{
    static const uint32_t timeouts_ms[] = {0, 1, 50, 99, 100, 101, 150, 199, 200, 250, 1000, 2300};

    start();
    for (unsigned i = 0; i < sizeof(timeouts_ms) / sizeof(timeouts_ms[0]); i++)
        CU_ASSERT_TRUE(lateness_ms(timeouts_ms[i]) < LATE_MS);
    stop();
}

/* The system may be coarse about the time-outs of sockets: ours are not. */
static void test_time_outs_are_exact(void)
{
    static const uint32_t timeouts_ms[] = {100, 101, 130, 200, 210};

    start();
    receives_late = true;
    for (unsigned i = 0; i < sizeof(timeouts_ms) / sizeof(timeouts_ms[0]); i++) {
        uint64_t least_ms = UINT64_MAX;

        for (unsigned j = 0; j < TRIES && least_ms > COARSE_MS / 4; j++) {
            uint64_t late_ms = lateness_ms(timeouts_ms[i]);

            least_ms = late_ms < least_ms ? late_ms : least_ms;
        }
        CU_ASSERT_TRUE(least_ms <= COARSE_MS / 4);
    }
    stop();
}

static void test_silence_costs_nothing(void)
{
    start();
    expect_idle();
    stop();
}

/* The time-out of recv() must not wake the caller again and again. */
static void test_silence_is_one_wait(void)
{
    unsigned long before;

    start();
    before = blocking_calls;
    lateness_ms(1000);
    CU_ASSERT_EQUAL(blocking_calls, before + 1);
    stop();
}

/* Event loops do that to the descriptors that they are given. */
static void test_non_blocking_socket(void)
{
    int fd;

    start();
    fd = usbip_port_fd(port);
    CU_ASSERT_EQUAL(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
    expect_idle();
    stop();
}

static void test_system_without_receive_timeout(void)
{
    alarm(PATIENCE_MS / 1000); /* to wait for ever is what would be wrong */
    has_no_receive_timeout = true;
    start();
    CU_ASSERT_TRUE(lateness_ms(250) < LATE_MS);
    expect_idle();
    stop();
    alarm(0);
}

/* ---- Signals ---- */

static sem_t signalled;

static void on_signal(int number)
{
    (void)number;
    sem_post(&signalled);
}

/* Signals come to the thread of the test, and not to the server's. */
static void start_with_signals(void)
{
    const struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART */
    const struct itimerval often = {{0, SIGNAL_EVERY_US}, {0, SIGNAL_EVERY_US}};
    sigset_t alarms;

    sem_init(&signalled, 0, 0);
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarms, NULL);
    start();
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
}

static void let_signals_come(void)
{
    sigset_t alarms;

    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
}

static void stop_signals(void)
{
    const struct itimerval never = {{0, 0}, {0, 0}};

    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_DFL);
    sem_destroy(&signalled);
}

static void test_signals_while_waiting(void)
{
    int count;

    start_with_signals();
    let_signals_come();
    CU_ASSERT_TRUE(lateness_ms(150) < LATE_MS);
    CU_ASSERT_TRUE(lateness_ms(350) < LATE_MS);
    sem_getvalue(&signalled, &count);
    CU_ASSERT_TRUE(count > 0);
    CU_ASSERT_EQUAL(usbip_port_restore_count(port), 0);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_OPEN);
    stop_signals();
    stop();
}

/* Sends a byte for every signal, so all of them come while somebody waits who is interrupted. */
static void *send_by_signals(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < SIGNALS; i++) {
        char letter = (char)('a' + i);

        sem_wait(&signalled);
        scripted_lock(server);
        scripted_send(server, &letter, 1);
        scripted_unlock(server);
    }
    return NULL;
}

static void test_signals_lose_nothing(void)
{
    char data[SIGNALS];
    pthread_t sender;

    start_with_signals();
    REQUIRE(pthread_create(&sender, NULL, send_by_signals, NULL) == 0);
    let_signals_come();
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, SIGNALS, PATIENCE_MS), SIGNALS);
    for (unsigned i = 0; i < SIGNALS; i++)
        CU_ASSERT_EQUAL(data[i], (char)('a' + i));
    pthread_join(sender, NULL);
    stop_signals();
    stop();
}

/* ---- A server that does not read ---- */

static void make_buffers_small(int fd)
{
    const int size = 4096;

    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) == 0);
}

/* With the mutex taken from it the server reads one PDU at most. */
static void test_full_socket(void)
{
    enum { PIECE = 16384 };
    static uint8_t data[PIECE];
    struct pollfd fd = {.events = POLLOUT};
    int given, total = 0;

    alarm(PATIENCE_MS / 1000); /* to block for ever is what would be wrong */
    start();
    fd.fd = usbip_port_fd(port);
    make_buffers_small(fd.fd);
    scripted_lock(server);
    make_buffers_small(server->socket);
    while ((given = usbip_port_write(port, data, PIECE, 0)) > 0)
        total += given;
    CU_ASSERT_EQUAL(given, 0);
    CU_ASSERT_EQUAL(poll(&fd, 1, 0), 0); /* it is full indeed */
    CU_ASSERT_EQUAL(usbip_port_events(port), USBIP_EVENT_READ | USBIP_EVENT_WRITE);
    CU_ASSERT_EQUAL(usbip_port_process(port), 0);
    CU_ASSERT_EQUAL(usbip_port_write(port, data, PIECE, 0), 0);
    CU_ASSERT_TRUE(lateness_ms(150) < LATE_MS); /* a reader does not wait for the writer */
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_drain(port, PATIENCE_MS), 0);
    scripted_lock(server);
    CU_ASSERT_EQUAL(server->written_size, (size_t)total);
    scripted_unlock(server);
    stop();
    alarm(0);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"time-outs", test_time_outs},
        {"time-outs are exact", test_time_outs_are_exact},
        {"silence costs nothing", test_silence_costs_nothing},
        {"silence is one wait", test_silence_is_one_wait},
        {"non-blocking socket", test_non_blocking_socket},
        {"system without receive time-out", test_system_without_receive_timeout},
        {"signals while waiting", test_signals_while_waiting},
        {"signals lose nothing", test_signals_lose_nothing},
        {"full socket", test_full_socket},
        CU_TEST_INFO_NULL,
    };
    return run_tests("waiting", tests);
}
