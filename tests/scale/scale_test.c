/*
 * One emulator with many devices and many clients:
 *     scale_test EMULATOR SCRIPT [DEVICES [CLIENTS [CONNECTIONS]]]
 *
 * Asserts how long it may take to start, what a device that nobody uses may keep in memory, that no
 * client waits much longer than the others, and that connections leave nothing behind. All figures
 * are printed.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/bytes.h"
#include "tests/scale/raw_client.h"
#include "tests/support/emulator_process.h"
#include "tests/support/testing.h"

enum {
    MAX_START_MS = 2000,
    MAX_DEVICE_KIB = 50,
    MAX_UNFAIRNESS = 10,   /* longest wait : median wait */
    FAIRNESS_ATTEMPTS = 3, /* a busy machine may spoil one, an unfair server spoils all */
    ROUNDS = 50,
    PAYLOAD = 64,
    ECHO_SIZE = 2 * USBIP_HEADER_SIZE + PAYLOAD, /* RET_SUBMIT of IN and of OUT */
    CONCURRENT = 64,
    MAX_LEFT_BYTES = 256, /* by a connection: less than it takes */
    TIMEOUT_MS = 20000,
    OP_REP_SIZE = 8,
};

static const char *program;
static char *script;
static unsigned device_count = 1000, client_count = 200, connection_count = 10000;
static struct emulator_process emulator;

/* ---- Starting ---- */

static void start(unsigned copies)
{
    char text[16];
    snprintf(text, sizeof text, "%u", copies);
    char option[] = "--copies";
    char *arguments[] = {option, text, script};
    REQUIRE(emulator_start(&emulator, program, "127.0.0.1:0", arguments, 3));
}

static long resident_kib(void)
{
    struct emulator_usage usage;
    REQUIRE(emulator_usage(&emulator, &usage));
    return usage.resident_kib;
}

static void test_start(void)
{
    start(1);
    long one_kib = resident_kib();
    CU_ASSERT_EQUAL(emulator_stop(&emulator), 0);
    uint64_t began_us = now_us();
    start(device_count);
    uint64_t took_ms = (now_us() - began_us) / 1000;
    double each_kib = (double)(resident_kib() - one_kib) / (device_count - 1);
    printf("%u devices: started in %llu ms, %.1f KiB each\n", device_count,
           (unsigned long long)took_ms, each_kib);
    CU_ASSERT(took_ms < MAX_START_MS);
    CU_ASSERT(each_kib < MAX_DEVICE_KIB);
}

/* ---- Fairness ---- */

/* Each has a device of its own; all ask at the same time, and again as soon as they have an answer.
 */
struct client {
    int fd;
    unsigned devnum;
    unsigned round; /* 0: import, 1: SET_CONFIGURATION, then echoes */
    uint64_t asked_us;
    uint8_t reply[USBIP_IMPORT_REPLY_SIZE];
    size_t got, expected;
};

static struct client *clients;
static uint64_t *waits_us; /* of all clients */
static size_t wait_count;

static void ask(struct client *client)
{
    uint8_t request[2 * USBIP_HEADER_SIZE + PAYLOAD];
    size_t size;
    uint32_t seqnum = 2 * client->round;
    if (client->round == 0) {
        raw_import_request(request, client->devnum);
        size = USBIP_IMPORT_REQUEST_SIZE;
        client->expected = USBIP_IMPORT_REPLY_SIZE;
    } else if (client->round == 1) {
        size = raw_set_configuration(request, client->devnum, seqnum);
        client->expected = USBIP_HEADER_SIZE;
    } else {
        size = raw_submit(request, client->devnum, seqnum, RAW_IN_ENDPOINT, USBIP_DIR_IN, PAYLOAD,
                          NULL);
        size += raw_submit(request + size, client->devnum, seqnum + 1, RAW_OUT_ENDPOINT,
                           USBIP_DIR_OUT, PAYLOAD, NULL);
        memset(request + size, (int)(client->devnum + client->round), PAYLOAD);
        size += PAYLOAD;
        client->expected = ECHO_SIZE;
    }
    client->got = 0;
    client->asked_us = now_us();
    REQUIRE(send(client->fd, request, size, MSG_NOSIGNAL) == (ssize_t)size);
}

/* The reply to IN comes first, because the script answers while it is told. */
static bool is_echo(const struct client *client)
{
    const uint8_t *data = client->reply + USBIP_HEADER_SIZE;
    bool same = usbip_load_be32(client->reply + 4) == 2 * client->round;
    for (unsigned i = 0; i < PAYLOAD; i++)
        same &= data[i] == (uint8_t)(client->devnum + client->round);
    return same;
}

/* Returns true when the client has all its answers. */
static bool answered(struct client *client, unsigned rounds)
{
    ssize_t size = recv(client->fd, client->reply + client->got, client->expected - client->got, 0);
    if (size < 0 && errno == EAGAIN)
        return false;
    REQUIRE(size > 0);
    client->got += (size_t)size;
    if (client->got < client->expected)
        return false;
    if (client->round == 0)
        REQUIRE(usbip_load_be32(client->reply + 4) == 0);
    if (client->round > 1)
        CU_ASSERT(is_echo(client));
    waits_us[wait_count++] = now_us() - client->asked_us;
    if (++client->round == rounds)
        return true;
    ask(client);
    return false;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;
    return (first > second) - (first < second);
}

/* All clients at once up to a round. Returns the longest wait in medians. */
static double run_rounds(int epoll_fd, const char *what, unsigned rounds)
{
    struct epoll_event events[64];
    unsigned left = client_count;
    wait_count = 0;
    for (unsigned i = 0; i < client_count; i++)
        ask(&clients[i]);
    while (left > 0) {
        int count = epoll_wait(epoll_fd, events, 64, TIMEOUT_MS);
        REQUIRE(count > 0);
        for (int i = 0; i < count; i++)
            left -= answered(events[i].data.ptr, rounds);
    }
    qsort(waits_us, wait_count, sizeof *waits_us, compare_u64);
    uint64_t median_us = waits_us[wait_count / 2], longest_us = waits_us[wait_count - 1];
    printf("%u clients, %s: median wait %llu us, longest %llu us\n", client_count, what,
           (unsigned long long)median_us, (unsigned long long)longest_us);
    return (double)longest_us / (double)(median_us > 0 ? median_us : 1);
}

static bool wait_until_writable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    return poll(&poll_fd, 1, TIMEOUT_MS) == 1;
}

static void test_fairness(void)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc(client_count, sizeof *clients);
    waits_us = calloc((size_t)client_count * (2 + ROUNDS), sizeof *waits_us);
    REQUIRE(epoll_fd >= 0 && clients && waits_us);
    uint64_t began_us = now_us();
    for (unsigned i = 0; i < client_count; i++) {
        clients[i].fd = raw_connect(emulator.address);
        clients[i].devnum = i + 1;
        REQUIRE(clients[i].fd >= 0);
    }
    for (unsigned i = 0; i < client_count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
        REQUIRE(wait_until_writable(clients[i].fd));
        REQUIRE(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, clients[i].fd, &event) == 0);
    }
    printf("%u clients: connected in %llu us\n", client_count,
           (unsigned long long)(now_us() - began_us));
    run_rounds(epoll_fd, "import and SET_CONFIGURATION", 2);
    double unfairness = MAX_UNFAIRNESS + 1;
    for (unsigned i = 1; i <= FAIRNESS_ATTEMPTS && unfairness > MAX_UNFAIRNESS; i++) {
        for (unsigned j = 0; j < client_count; j++)
            clients[j].round = 2;
        unfairness = run_rounds(epoll_fd, "echo of 64 bytes", 2 + ROUNDS);
    }
    CU_ASSERT(unfairness <= MAX_UNFAIRNESS);
    for (unsigned i = 0; i < client_count; i++)
        close(clients[i].fd);
    close(epoll_fd);
    free(waits_us);
    free(clients);
}

/* ---- Clients that all want much ---- */

enum {
    HEAVY_CLIENTS = 4,
    HEAVY_DEPTH = 16,
    HEAVY_PAYLOAD = 16 << 10,
    HEAVY_REQUEST = 2 * USBIP_HEADER_SIZE + HEAVY_PAYLOAD,
    HEAVY_REPLY = 2 * USBIP_HEADER_SIZE + HEAVY_PAYLOAD,
    HEAVY_ECHOES = 2000, /* of the first one to have so many */
    MAX_HEAVY_RATIO = 4, /* between them */
};

struct heavy_client {
    int fd;
    unsigned devnum;
    uint8_t request[HEAVY_REQUEST]; /* seqnums do not matter to whoever only counts */
    uint64_t sent, got;             /* bytes */
};

static void go_on_with_echoes(struct heavy_client *client)
{
    static uint8_t replies[HEAVY_REPLY];
    ssize_t size;
    while ((size = recv(client->fd, replies, sizeof replies, 0)) > 0)
        client->got += (uint64_t)size;
    REQUIRE(size < 0 && errno == EAGAIN);
    while (client->sent < (client->got / HEAVY_REPLY + HEAVY_DEPTH) * HEAVY_REQUEST) {
        size_t at = client->sent % HEAVY_REQUEST;
        size = send(client->fd, client->request + at, HEAVY_REQUEST - at, MSG_NOSIGNAL);
        if (size < 0)
            break;
        client->sent += (uint64_t)size;
    }
}

/* They get the same, although more of their requests waits than of anybody who asks for little. */
static void test_heavy_clients(void)
{
    static struct heavy_client heavy[HEAVY_CLIENTS];
    struct pollfd poll_fds[HEAVY_CLIENTS];
    uint64_t most = 0, least = UINT64_MAX;
    for (unsigned i = 0; i < HEAVY_CLIENTS; i++) {
        heavy[i].devnum = i + 1;
        heavy[i].fd = raw_attach(emulator.address, i + 1);
        REQUIRE(heavy[i].fd >= 0);
        size_t size = raw_submit(heavy[i].request, i + 1, 1, RAW_IN_ENDPOINT, USBIP_DIR_IN,
                                 HEAVY_PAYLOAD, NULL);
        raw_submit(heavy[i].request + size, i + 1, 2, RAW_OUT_ENDPOINT, USBIP_DIR_OUT,
                   HEAVY_PAYLOAD, NULL);
    }
    while (most < HEAVY_ECHOES) {
        for (unsigned i = 0; i < HEAVY_CLIENTS; i++) {
            go_on_with_echoes(&heavy[i]);
            poll_fds[i] = (struct pollfd){.fd = heavy[i].fd, .events = POLLIN};
            most = heavy[i].got / HEAVY_REPLY > most ? heavy[i].got / HEAVY_REPLY : most;
        }
        REQUIRE(poll(poll_fds, HEAVY_CLIENTS, TIMEOUT_MS) > 0);
    }
    for (unsigned i = 0; i < HEAVY_CLIENTS; i++) {
        least = heavy[i].got / HEAVY_REPLY < least ? heavy[i].got / HEAVY_REPLY : least;
        close(heavy[i].fd);
    }
    printf("%d heavy clients: %llu to %llu echoes of %d KiB\n", HEAVY_CLIENTS,
           (unsigned long long)least, (unsigned long long)most, HEAVY_PAYLOAD >> 10);
    CU_ASSERT(least >= most / MAX_HEAVY_RATIO);
}

/* ---- Connections without end ---- */

/* What the n-th connection does before it is closed. */
enum deed { DEED_NOTHING, DEED_LIST, DEED_IMPORT };

static enum deed deed_of(unsigned n)
{
    return n % 8 == 0 ? DEED_NOTHING : n % 32 == 1 ? DEED_LIST : DEED_IMPORT;
}

struct visit {
    int fd; /* -1: none */
    unsigned number;
    bool asked;
};

static void begin_visit(struct visit *visit, unsigned number)
{
    *visit = (struct visit){raw_connect(emulator.address), number, false};
    REQUIRE(visit->fd >= 0);
}

/* The socket is ready. Returns true when it has been closed. A list is not read to its end. */
static bool go_on_with_visit(struct visit *visit)
{
    uint8_t bytes[USBIP_IMPORT_REPLY_SIZE];
    enum deed deed = deed_of(visit->number);
    if (!visit->asked && deed != DEED_NOTHING) {
        size_t size = deed == DEED_LIST ? USBIP_OP_COMMON_SIZE : USBIP_IMPORT_REQUEST_SIZE;
        if (deed == DEED_LIST)
            usbip_encode_op_common(bytes,
                                   &(struct usbip_op_common){USBIP_VERSION, OP_REQ_DEVLIST, 0});
        else
            raw_import_request(bytes, visit->number % device_count + 1);
        REQUIRE(send(visit->fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
        visit->asked = true;
        return false;
    }
    if (deed != DEED_NOTHING) {
        CU_ASSERT(raw_receive(visit->fd, bytes, OP_REP_SIZE));
        CU_ASSERT_EQUAL(usbip_load_be32(bytes + 4), 0);
    }
    if (deed == DEED_IMPORT)
        CU_ASSERT(raw_receive(visit->fd, bytes, USBIP_IMPORT_REPLY_SIZE - OP_REP_SIZE));
    close(visit->fd);
    visit->fd = -1;
    return true;
}

static void visit_often(unsigned count)
{
    struct visit visits[CONCURRENT];
    struct pollfd poll_fds[CONCURRENT];
    unsigned begun = 0, over = 0;
    for (unsigned i = 0; i < CONCURRENT; i++)
        visits[i].fd = -1;
    while (over < count) {
        for (unsigned i = 0; i < CONCURRENT; i++) {
            if (visits[i].fd < 0 && begun < count)
                begin_visit(&visits[i], begun++);
            poll_fds[i] =
                (struct pollfd){.fd = visits[i].fd, .events = visits[i].asked ? POLLIN : POLLOUT};
        }
        REQUIRE(poll(poll_fds, CONCURRENT, TIMEOUT_MS) > 0);
        for (unsigned i = 0; i < CONCURRENT; i++) {
            if (poll_fds[i].fd >= 0 && poll_fds[i].revents)
                over += go_on_with_visit(&visits[i]);
        }
    }
}

/* What the emulator uses when it has noticed that all connections are closed. */
static struct emulator_usage level(int open_files)
{
    struct emulator_usage usage;
    uint64_t until_us = now_us() + TIMEOUT_MS * UINT64_C(1000);
    do {
        REQUIRE(emulator_usage(&emulator, &usage));
        poll(NULL, 0, 10);
    } while (usage.open_files > open_files && now_us() < until_us);
    return usage;
}

/* Of an emulator without connections; answering one, it has opened all that it opens itself. */
static int idle_open_files(void)
{
    struct emulator_usage usage;
    uint8_t bytes[USBIP_IMPORT_REPLY_SIZE];
    start(1);
    int fd = raw_connect(emulator.address);
    REQUIRE(fd >= 0);
    raw_import_request(bytes, 1);
    REQUIRE(send(fd, bytes, USBIP_IMPORT_REQUEST_SIZE, MSG_NOSIGNAL) == USBIP_IMPORT_REQUEST_SIZE);
    REQUIRE(raw_receive(fd, bytes, USBIP_IMPORT_REPLY_SIZE));
    REQUIRE(emulator_usage(&emulator, &usage));
    close(fd);
    CU_ASSERT_EQUAL(emulator_stop(&emulator), 0);
    return usage.open_files - 1;
}

static void test_connections(void)
{
    struct emulator_usage before, after;
    int idle = idle_open_files();
    start(device_count);
    visit_often(connection_count / 2); /* each device has had a host, all buffers have grown */
    before = level(idle);
    uint64_t began_us = now_us();
    visit_often(connection_count);
    uint64_t took_ms = (now_us() - began_us) / 1000;
    after = level(idle);
    printf("%u connections in %llu ms: memory %ld, then %ld KiB; open files %d, then %d\n",
           connection_count, (unsigned long long)took_ms, before.resident_kib, after.resident_kib,
           before.open_files, after.open_files);
    CU_ASSERT_EQUAL(after.open_files, idle);
    double left_bytes = (double)(after.resident_kib - before.resident_kib) * 1024;
    CU_ASSERT(left_bytes < (double)connection_count * MAX_LEFT_BYTES);
    CU_ASSERT_EQUAL(emulator_stop(&emulator), 0);
}

static void stop(void)
{
    CU_ASSERT_EQUAL(emulator_stop(&emulator), 0);
}

static bool read_count(const char *text, unsigned *count)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    *count = (unsigned)value;
    return *text && *end == '\0' && value >= 2 && value <= 1000000;
}

int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"start", test_start},
        {"fairness", test_fairness},
        {"heavy clients", test_heavy_clients},
        {"stop", stop},
        {"connections", test_connections},
        CU_TEST_INFO_NULL,
    };
    unsigned *counts[] = {&device_count, &client_count, &connection_count};
    bool usable = argc >= 3 && argc <= 6;
    for (int i = 3; i < argc && usable; i++)
        usable = read_count(argv[i], counts[i - 3]);
    if (!usable || client_count > device_count) {
        fputs("usage: scale_test EMULATOR SCRIPT [DEVICES [CLIENTS [CONNECTIONS]]]\n"
              "with CLIENTS up to DEVICES\n",
              stderr);
        return 2;
    }
    program = argv[1];
    script = argv[2];
    return run_tests("scale", tests);
}
