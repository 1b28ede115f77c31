/*
 * What bad clients cost their neighbours:
 *     neighbours EMULATOR SCRIPT [RUNS [LEAST]]
 *
 * Measures the echo rate of a well-behaved client on a device of its own, beside each kind of bad
 * client: by turns while that is stopped (SIGSTOP) and while it goes on, so that both see the same
 * machine. Prints medians of RUNS ratios. The emulator has a CPU to itself; the clients share
 * another, the bad one at the lowest priority, so that what is measured is the server. SCRIPT is an
 * echo of type cdc_acm. With LEAST it fails when a median stays below so many percent.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/usb.h"
#include "tests/scale/raw_client.h"
#include "tests/support/emulator_process.h"

enum {
    GOOD_DEVICE = 1,
    BAD_DEVICE = 2,
    BLOCK_SIZE = 256 << 10,
    TRANSFER_SIZE = 16 << 10,
    DESCRIPTOR_SIZE = 18,
    SLOW_BYTES = 4096, /* every SLOW_MS */
    SLOW_MS = 10,
    MAX_RUNS = 101,
    PAIRS = 10, /* in a run, of a turn without and a turn with the bad client */
    TURN_US = 20000,
    ATTEMPTS = 3, /* to reach LEAST */
    BETWEEN_US = 5000,
    MAX_PAYLOAD = 16 << 10,
};

enum bad { IDLE, SLOW_READER, NO_READER, CONTROL_FLOOD, OUT_FLOOD, ECHO_FLOOD, BAD_COUNT };

static const char *const bad_names[BAD_COUNT] = {
    [IDLE] = "does nothing",
    [SLOW_READER] = "reads slowly",
    [NO_READER] = "never reads",
    [CONTROL_FLOOD] = "floods with GET_DESCRIPTOR",
    [OUT_FLOOD] = "floods with OUT transfers",
    [ECHO_FLOOD] = "floods with echoes",
};

static const struct workload {
    const char *name;
    uint32_t payload;
    unsigned depth;
} workloads[] = {
    {"echo of 64 bytes, 1 at a time", 64, 1},
    {"echo of 512 bytes, 8 at a time", 512, 8},
    {"echo of 4 KiB, 4 at a time", 4096, 4},
};
enum { WORKLOAD_COUNT = sizeof workloads / sizeof workloads[0] };

static struct emulator_process emulator;

static void use_cpu(pid_t pid, unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(pid, sizeof set, &set) < 0)
        fprintf(stderr, "no CPU %u for process %ld: %s\n", cpu, (long)pid, strerror(errno));
}

static int attach(unsigned devnum)
{
    int fd = raw_attach(emulator.address, devnum);
    if (fd < 0)
        exit(EXIT_FAILURE);
    return fd;
}

/* ---- The bad client, a process of its own ---- */

/* A block of requests, as many as fit; seqnums do not matter to whoever reads no reply. */
static size_t fill_block(uint8_t *block, enum bad bad)
{
    static const uint8_t get_device[USBIP_SETUP_SIZE] = {
        USB_DIR_IN, USB_REQ_GET_DESCRIPTOR, 0, USB_DT_DEVICE, 0, 0, DESCRIPTOR_SIZE, 0};
    const size_t largest = 2 * USBIP_HEADER_SIZE + TRANSFER_SIZE;
    size_t size = 0;
    for (uint32_t seqnum = 2; size + largest <= BLOCK_SIZE; seqnum += 2) {
        if (bad == ECHO_FLOOD || bad == SLOW_READER)
            size += raw_submit(block + size, BAD_DEVICE, seqnum, RAW_IN_ENDPOINT, USBIP_DIR_IN,
                               TRANSFER_SIZE, NULL);
        if (bad == CONTROL_FLOOD || bad == NO_READER) {
            size += raw_submit(block + size, BAD_DEVICE, seqnum, 0, USBIP_DIR_IN, DESCRIPTOR_SIZE,
                               get_device);
        } else {
            size += raw_submit(block + size, BAD_DEVICE, seqnum + 1, RAW_OUT_ENDPOINT,
                               USBIP_DIR_OUT, TRANSFER_SIZE, NULL);
            memset(block + size, 'x', TRANSFER_SIZE);
            size += TRANSFER_SIZE;
        }
    }
    return size;
}

/* Sends without end, reads as it likes. */
static void be_bad(enum bad bad)
{
    static uint8_t block[BLOCK_SIZE], replies[BLOCK_SIZE];
    size_t size = fill_block(block, bad), sent = 0;
    int fd = attach(BAD_DEVICE);
    uint64_t next_read_us = now_us();
    for (;;) {
        bool slow = bad == SLOW_READER, reads = bad != NO_READER && !slow;
        struct pollfd poll_fd = {.fd = fd, .events = (short)(POLLOUT | (reads ? POLLIN : 0))};
        if (bad == IDLE)
            poll_fd.events = 0;
        if (poll(&poll_fd, 1, slow ? SLOW_MS : -1) < 0)
            _exit(EXIT_FAILURE);
        if (poll_fd.revents & (POLLHUP | POLLERR))
            _exit(EXIT_SUCCESS);
        if (slow && now_us() >= next_read_us) {
            recv(fd, replies, SLOW_BYTES, MSG_DONTWAIT);
            next_read_us += SLOW_MS * 1000;
        }
        if (poll_fd.revents & POLLIN)
            recv(fd, replies, sizeof replies, MSG_DONTWAIT);
        if (poll_fd.revents & POLLOUT) {
            ssize_t count = send(fd, block + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (count > 0)
                sent = (sent + (size_t)count) % size;
        }
    }
}

static pid_t start_bad(enum bad bad, unsigned cpu)
{
    pid_t pid = fork();
    if (pid == 0) {
        use_cpu(0, cpu);
        if (nice(19) < 0)
            fputs("no low priority\n", stderr);
        be_bad(bad);
    }
    return pid;
}

/* ---- The good client ---- */

static size_t encode_echo(uint8_t *at, const struct workload *workload, uint32_t seqnum)
{
    size_t size =
        raw_submit(at, GOOD_DEVICE, seqnum, RAW_IN_ENDPOINT, USBIP_DIR_IN, workload->payload, NULL);
    size += raw_submit(at + size, GOOD_DEVICE, seqnum + 1, RAW_OUT_ENDPOINT, USBIP_DIR_OUT,
                       workload->payload, NULL);
    memset(at + size, (int)seqnum, workload->payload);
    return size + workload->payload;
}

struct good {
    int fd;
    const struct workload *workload;
    uint32_t asked, answered;
};

/* Goes on for so long. Returns the number of echoes in a second. */
static double echo_for(struct good *good, uint64_t us)
{
    static uint8_t request[2 * USBIP_HEADER_SIZE + MAX_PAYLOAD];
    static uint8_t reply[2 * USBIP_HEADER_SIZE + MAX_PAYLOAD];
    uint32_t answered_before = good->answered;
    uint64_t began_us = now_us(), ended_us = began_us;
    for (; ended_us < began_us + us; ended_us = now_us()) {
        for (; good->asked - good->answered < good->workload->depth; good->asked++) {
            if (!raw_send(good->fd, request,
                          encode_echo(request, good->workload, 2 * good->asked + 2)))
                exit(EXIT_FAILURE);
        }
        if (!raw_receive(good->fd, reply, 2 * USBIP_HEADER_SIZE + good->workload->payload))
            exit(EXIT_FAILURE);
        if (reply[USBIP_HEADER_SIZE] != (uint8_t)(2 * good->answered + 2)) {
            fputs("a wrong echo\n", stderr);
            exit(EXIT_FAILURE);
        }
        good->answered++;
    }
    return (good->answered - answered_before) * 1e6 / (double)(ended_us - began_us);
}

/* ---- The measurement ---- */

static int compare_doubles(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return values[count / 2];
}

struct rates {
    double without, with; /* echoes in a second */
};

/* Without, with, with, without, and so on: a machine that gets slower or faster changes both. */
static struct rates measure(struct good *good, pid_t bad)
{
    struct rates rates = {0, 0};
    for (int turn = 0; turn < 2 * PAIRS; turn++) {
        bool with = (turn + 1) / 2 % 2;
        kill(bad, with ? SIGCONT : SIGSTOP);
        echo_for(good, BETWEEN_US);
        double rate = echo_for(good, TURN_US) / PAIRS;
        if (with)
            rates.with += rate;
        else
            rates.without += rate;
    }
    return rates;
}

/* Returns the median of the ratios in percent. */
static double measure_beside(const struct workload *workload, enum bad bad, unsigned runs)
{
    static double without[MAX_RUNS], percents[MAX_RUNS];
    struct emulator_usage usage = {0};
    pid_t pid = start_bad(bad, 1);
    struct good good = {.fd = attach(GOOD_DEVICE), .workload = workload};
    for (unsigned run = 0; run < runs; run++) {
        struct rates rates = measure(&good, pid);
        without[run] = rates.without;
        percents[run] = 100 * rates.with / rates.without;
    }
    emulator_usage(&emulator, &usage);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(good.fd);
    close(attach(BAD_DEVICE)); /* when it is free again, all has been cleaned up */
    double percent = median(percents, runs);
    printf("  one that %-26s %6.1f %% (%.1f to %.1f) of %.0f/s; emulator %ld KiB\n", bad_names[bad],
           percent, percents[0], percents[runs - 1], median(without, runs), usage.resident_kib);
    return percent;
}

/* A busy machine may spoil one attempt, an unfair server spoils all. */
static bool is_at_least(const struct workload *workload, enum bad bad, unsigned runs, double least)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (measure_beside(workload, bad, runs) >= least)
            return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    unsigned long runs = argc > 3 ? strtoul(argv[3], NULL, 10) : 5;
    unsigned long least = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
    if (argc < 3 || argc > 5 || runs < 1 || runs > MAX_RUNS || least > 100) {
        fprintf(stderr, "usage: neighbours EMULATOR SCRIPT [RUNS [LEAST]], RUNS up to %d\n",
                MAX_RUNS);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    char option[] = "--copies", copies[] = "2";
    char *arguments[] = {option, copies, argv[2]};
    if (!emulator_start(&emulator, argv[1], "127.0.0.1:0", arguments, 3))
        return EXIT_FAILURE;
    use_cpu(emulator.pid, 0);
    use_cpu(0, 1);
    bool well = true;
    for (int i = 0; i < WORKLOAD_COUNT; i++) {
        printf("%s, beside\n", workloads[i].name);
        for (int bad = 0; bad < BAD_COUNT; bad++)
            well &= is_at_least(&workloads[i], (enum bad)bad, (unsigned)runs, (double)least);
    }
    if (!well)
        printf("less than %lu %%\n", least);
    return emulator_stop(&emulator) == 0 && well ? EXIT_SUCCESS : EXIT_FAILURE;
}
