/*
 * What bad clients cost their neighbours:
 *     neighbours EMULATOR SCRIPT [RUNS [MS]]
 *
 * Measures the echo rate of a well-behaved client on a device of its own, alone and beside each
 * kind of bad client in turn, RUNS times for MS each, and prints the medians and their ratios. The
 * emulator has a CPU to itself; the clients share another, the bad one at the lowest priority, so
 * that what is measured is the server. SCRIPT is an echo of type cdc_acm.
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
    MAX_PAYLOAD = 16 << 10,
};

enum bad { ALONE, IDLE, SLOW_READER, NO_READER, CONTROL_FLOOD, OUT_FLOOD, ECHO_FLOOD, BAD_COUNT };

static const char *const bad_names[BAD_COUNT] = {
    [ALONE] = "alone",
    [IDLE] = "beside one that does nothing",
    [SLOW_READER] = "beside a slow reader",
    [NO_READER] = "beside one that never reads",
    [CONTROL_FLOOD] = "beside a flood of GET_DESCRIPTOR",
    [OUT_FLOOD] = "beside a flood of OUT transfers",
    [ECHO_FLOOD] = "beside a flood of echoes",
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

/* Echoes in a second. */
static double echo_for(const struct workload *workload, unsigned ms)
{
    static uint8_t request[2 * USBIP_HEADER_SIZE + MAX_PAYLOAD];
    static uint8_t reply[2 * USBIP_HEADER_SIZE + MAX_PAYLOAD];
    int fd = attach(GOOD_DEVICE);
    uint32_t asked = 0, answered = 0;
    uint64_t began_us = now_us(), until_us = began_us + ms * UINT64_C(1000);
    while (asked < workload->depth || now_us() < until_us) {
        for (; asked - answered < workload->depth; asked++) {
            if (!raw_send(fd, request, encode_echo(request, workload, 2 * asked + 2)))
                exit(EXIT_FAILURE);
        }
        if (!raw_receive(fd, reply, 2 * USBIP_HEADER_SIZE + workload->payload))
            exit(EXIT_FAILURE);
        if (reply[USBIP_HEADER_SIZE] != (uint8_t)(2 * answered + 2)) {
            fputs("a wrong echo\n", stderr);
            exit(EXIT_FAILURE);
        }
        answered++;
    }
    double seconds = (double)(now_us() - began_us) / 1e6;
    close(fd);
    return answered / seconds;
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

static double measure(const struct workload *workload, enum bad bad, unsigned ms, long *peak_kib)
{
    pid_t pid = bad == ALONE ? 0 : start_bad(bad, 1);
    struct emulator_usage usage;
    echo_for(workload, ms / 2); /* until all buffers of the bad one are full */
    double rate = echo_for(workload, ms);
    if (emulator_usage(&emulator, &usage) && usage.resident_kib > *peak_kib)
        *peak_kib = usage.resident_kib;
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(attach(BAD_DEVICE)); /* when it is free again, all has been cleaned up */
    }
    return rate;
}

static void measure_all(const struct workload *workload, unsigned runs, unsigned ms)
{
    static double rates[BAD_COUNT][MAX_RUNS], ratios[MAX_RUNS];
    long peak_kib[BAD_COUNT] = {0};
    for (unsigned run = 0; run < runs; run++) {
        for (int bad = 0; bad < BAD_COUNT; bad++)
            rates[bad][run] = measure(workload, (enum bad)bad, ms, &peak_kib[bad]);
    }
    printf("%s\n", workload->name);
    for (int bad = 0; bad < BAD_COUNT; bad++) {
        for (unsigned run = 0; run < runs; run++)
            ratios[run] = rates[bad][run] / rates[ALONE][run];
        printf("  %-34s %5.0f %% of alone, emulator up to %ld KiB\n", bad_names[bad],
               100 * median(ratios, runs), peak_kib[bad]);
    }
    printf("  alone: %.0f echoes a second\n", median(rates[ALONE], runs));
}

int main(int argc, char **argv)
{
    unsigned long runs = argc > 3 ? strtoul(argv[3], NULL, 10) : 5;
    unsigned long ms = argc > 4 ? strtoul(argv[4], NULL, 10) : 1000;
    if (argc < 3 || argc > 5 || runs < 1 || runs > MAX_RUNS || ms < 10 || ms > 100000) {
        fprintf(stderr, "usage: neighbours EMULATOR SCRIPT [RUNS [MS]], RUNS up to %d\n", MAX_RUNS);
        return 2;
    }
    char option[] = "--copies", copies[] = "2";
    char *arguments[] = {option, copies, argv[2]};
    if (!emulator_start(&emulator, argv[1], "127.0.0.1:0", arguments, 3))
        return EXIT_FAILURE;
    use_cpu(emulator.pid, 0);
    use_cpu(0, 1);
    for (int i = 0; i < WORKLOAD_COUNT; i++)
        measure_all(&workloads[i], (unsigned)runs, (unsigned)ms);
    return emulator_stop(&emulator) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
