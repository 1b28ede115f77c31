/*
 * The main job: serves scripted devices, drives them with the client over TCP and checks what comes
 * back.
 *
 *     testbench EMULATOR ECHO_ACM_SCRIPT ECHO_FTDI_SCRIPT MODEM_SCRIPT
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/port.h"
#include "tests/support/emulator_process.h"
#include "tests/testbench/pipeline.h"
#include "tests/testbench/report.h"

enum {
    DEVICES = 3,
    TIMEOUT_MS = 5000,
    PING_SIZE = 32,
    PING_MS = 500,
    ACM_STREAM_SIZE = 16 << 20,
    FTDI_STREAM_SIZE = 16 << 20,
    STREAM_PIECE = 64 << 10,
    PIPELINE_MS = 500,
    PIPELINE_DEPTH = 64,
};

struct bench {
    struct report report;
    struct emulator_process emulator;
};

static double seconds_since(uint64_t begin_ms)
{
    uint64_t passed = usbip_now_ms() - begin_ms;
    return (double)(passed > 0 ? passed : 1) / 1000;
}

static void fill(uint8_t *data, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (uint8_t)(seed >> 24);
    }
}

/* ---- Single checks ---- */

static bool check_result(struct bench *bench, struct usbip_port *port, int result, const char *what)
{
    return report_check(&bench->report, result >= 0, what, "%s",
                        result < 0 ? usbip_port_error_text(port) : "");
}

static bool check_seen(struct bench *bench, const char *text)
{
    char what[96];
    snprintf(what, sizeof what, "device was told: %s", text);
    return report_check(&bench->report, emulator_saw(&bench->emulator, text), what, "%s", "");
}

/* Round trips of a small message, one at a time. */
static void check_pings(struct bench *bench, struct usbip_port *port)
{
    uint8_t sent[PING_SIZE], received[PING_SIZE];
    uint64_t begin = usbip_now_ms(), trips = 0;
    int result = 0;
    bool same = true;
    while (usbip_now_ms() - begin < PING_MS && result >= 0 && same) {
        fill(sent, sizeof sent, (uint32_t)trips);
        result = usbip_port_write_all(port, sent, sizeof sent, TIMEOUT_MS);
        if (result >= 0)
            result = usbip_port_read_all(port, received, sizeof received, TIMEOUT_MS);
        same = result < 0 || memcmp(sent, received, sizeof sent) == 0;
        trips++;
    }
    if (result < 0 || !same)
        report_check(&bench->report, false, "round trips of 32 bytes", "%s",
                     same ? usbip_port_error_text(port) : "other bytes came back");
    else
        report_check(&bench->report, true, "round trips of 32 bytes", "%.0f round trips/s",
                     (double)trips / seconds_since(begin));
}

/* Returns the number of bytes that came back as they were sent, or a negative error. */
static long stream_echo(struct usbip_port *port, const uint8_t *data, size_t size)
{
    static uint8_t back[STREAM_PIECE];
    size_t sent = 0, received = 0;
    while (received < size) {
        size_t piece = size - sent < STREAM_PIECE ? size - sent : STREAM_PIECE;
        int wrote = piece > 0 ? usbip_port_write(port, data + sent, piece, 0) : 0;
        if (wrote < 0)
            return wrote;
        sent += (size_t)wrote;
        int got = usbip_port_read(port, back, sizeof back, wrote > 0 ? 0 : TIMEOUT_MS);
        if (got < 0)
            return got;
        if (got == 0 && wrote == 0)
            return USBIP_ERROR_TIMEOUT;
        if ((size_t)got > size - received || memcmp(back, data + received, (size_t)got) != 0)
            return (long)received;
        received += (size_t)got;
    }
    return (long)received;
}

static void check_stream(struct bench *bench, struct usbip_port *port, size_t size)
{
    char what[64];
    snprintf(what, sizeof what, "echo of %zu MiB, every byte compared", size >> 20);
    uint8_t *data = malloc(size);
    if (!data) {
        report_check(&bench->report, false, what, "out of memory");
        return;
    }
    fill(data, size, (uint32_t)size);
    uint64_t begin = usbip_now_ms();
    long result = stream_echo(port, data, size);
    if (result < 0)
        report_check(&bench->report, false, what, "%s", usbip_port_error_text(port));
    else
        report_check(&bench->report, (size_t)result == size, what,
                     (size_t)result == size ? "%.1f MB/s each way" : "differs after %.0f bytes",
                     (size_t)result == size ? (double)size / 1e6 / seconds_since(begin)
                                            : (double)result);
    free(data);
}

static void check_settings(struct bench *bench, struct usbip_port *port, const char *name,
                           const char *format)
{
    char text[96];
    struct usbip_line_coding coding;
    usbip_parse_line_coding(format, &coding);
    snprintf(text, sizeof text, "%s: line coding %s", name, format);
    if (check_result(bench, port, usbip_port_set_line_coding(port, &coding, TIMEOUT_MS),
                     "line coding accepted"))
        check_seen(bench, text);
    snprintf(text, sizeof text, "%s: DTR 1 RTS 0", name);
    if (check_result(bench, port, usbip_port_set_control_lines(port, USBIP_LINE_DTR, TIMEOUT_MS),
                     "RTS lowered, DTR kept, in one request"))
        check_seen(bench, text);
}

/* Opens a device; the emulator must see its control lines rise together. */
static struct usbip_port *open_port(struct bench *bench, const char *device, const char *name)
{
    struct usbip_port *port = usbip_port_new(bench->emulator.address, device);
    int result = port ? usbip_port_open(port, TIMEOUT_MS) : USBIP_ERROR_MEMORY;
    char what[64], lines[64];
    snprintf(what, sizeof what, "open %s", device);
    snprintf(lines, sizeof lines, "%s: DTR 1 RTS 1", name);
    if (result < 0) {
        report_check(&bench->report, false, what, "%s",
                     port ? usbip_port_error_text(port) : "out of memory");
        usbip_port_free(port);
        return NULL;
    }
    const struct usbip_port_identity *identity = usbip_port_identity(port);
    report_check(&bench->report, true, what, "%s \"%s\" serial %s", identity->chip,
                 identity->product, identity->serial_number);
    check_seen(bench, lines);
    return port;
}

static void close_port(struct bench *bench, struct usbip_port *port, const char *name)
{
    char lines[64];
    snprintf(lines, sizeof lines, "%s: DTR 0 RTS 0", name);
    usbip_port_close(port);
    check_seen(bench, lines);
    usbip_port_free(port);
}

/* ---- Devices ---- */

static void bench_list(struct bench *bench)
{
    struct usbip_device_list list;
    char error_text[USBIP_ERROR_TEXT_SIZE] = "";
    int count = usbip_list_devices(bench->emulator.address, 0, &list, error_text);
    report_check(&bench->report, count == DEVICES, "list of exported devices", "%s%d devices",
                 error_text, count);
    for (unsigned i = 0; i < list.count; i++) {
        const struct usbip_device_record *record = &list.devices[i].record;
        printf("          %s  %04x:%04x  %s speed, %u interfaces\n", record->busid,
               record->idVendor, record->idProduct, usbip_speed_name(record->speed),
               record->bNumInterfaces);
    }
    usbip_device_list_free(&list);
}

static void check_refused(struct bench *bench, const char *device, int expected, const char *what)
{
    struct usbip_port *port = usbip_port_new(bench->emulator.address, device);
    int result = port ? usbip_port_open(port, TIMEOUT_MS) : USBIP_ERROR_MEMORY;
    report_check(&bench->report, result == expected, what, "%s",
                 result < 0 ? usbip_error_name(result) : "it was opened");
    usbip_port_free(port);
}

static void bench_echo_acm(struct bench *bench)
{
    report_section(&bench->report, "1-1: CDC-ACM, echo in Lua");
    struct usbip_port *port = open_port(bench, "1-1", "1-1");
    if (!port)
        return;
    check_refused(bench, "1-1", USBIP_ERROR_BUSY, "a second client is refused");
    check_pings(bench, port);
    check_stream(bench, port, ACM_STREAM_SIZE);
    check_settings(bench, port, "1-1", "9600 7E2");
    close_port(bench, port, "1-1");
    port = open_port(bench, "1-1", "1-1");
    if (port)
        close_port(bench, port, "1-1");
}

static void bench_echo_ftdi(struct bench *bench)
{
    report_section(&bench->report, "1-2: FT232R, echo in Lua");
    struct usbip_port *port = open_port(bench, "0403:6001", "1-2");
    if (!port)
        return;
    /* Short answers wait for the chip's latency timer, so this is a figure of the timer. */
    check_pings(bench, port);
    check_stream(bench, port, FTDI_STREAM_SIZE);
    check_settings(bench, port, "1-2", "57600 8O1");
    close_port(bench, port, "1-2");
}

static void check_answer(struct bench *bench, struct usbip_port *port, const char *command,
                         const char *expected)
{
    char what[64], line[128], answer[128] = "";
    int result = usbip_port_write_all(port, command, strlen(command), TIMEOUT_MS);
    snprintf(what, sizeof what, "\"%.*s\" is answered \"%s\"", (int)strcspn(command, "\r"), command,
             expected);
    /* Echoes and empty lines come before the answer. */
    while (result >= 0 && strcmp(answer, expected) != 0) {
        result = usbip_port_read_line(port, line, sizeof line, TIMEOUT_MS);
        if (result > 0)
            snprintf(answer, sizeof answer, "%s", line);
    }
    check_result(bench, port, result, what);
}

static void bench_modem(struct bench *bench)
{
    report_section(&bench->report, "1-3: a modem, a dialogue in Lua");
    struct usbip_port *port = open_port(bench, "1-3", "1-3");
    if (!port)
        return;
    usbip_port_set_delimiter(port, "\r\n", 2);
    check_answer(bench, port, "AT\r", "OK");
    check_answer(bench, port, "AT+NONSENSE\r", "ERROR");
    close_port(bench, port, "1-3");
}

/* Both on the first core that this process may use, so that the figures are those of one core. */
static bool share_one_core(const struct bench *bench)
{
    cpu_set_t allowed, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return false;
    unsigned core = 0;
    while (core < CPU_SETSIZE - 1 && !CPU_ISSET(core, &allowed))
        core++;
    CPU_SET(core, &one);
    return sched_setaffinity(bench->emulator.pid, sizeof one, &one) == 0 &&
           sched_setaffinity(0, sizeof one, &one) == 0;
}

/* The last section: nothing behind it would have the other cores. */
static void bench_engine(struct bench *bench)
{
    static const struct {
        unsigned depth;
        const char *what, *unit;
    } runs[] = {
        {1, "GET_DESCRIPTOR, one at a time, each compared", "round trips/s"},
        {PIPELINE_DEPTH, "GET_DESCRIPTOR, 64 in flight, each compared", "URB/s"},
    };
    report_section(&bench->report, "engine, %s",
                   share_one_core(bench) ? "client and emulator on one core"
                                         : "client and emulator on all cores");
    check_refused(bench, "9-9", USBIP_ERROR_NOT_FOUND, "an unknown busid is refused");
    for (unsigned i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        char error_text[USBIP_ERROR_TEXT_SIZE];
        double rate =
            pipeline_run(bench->emulator.address, "1-1", runs[i].depth, PIPELINE_MS, error_text);
        if (rate < 0)
            report_check(&bench->report, false, runs[i].what, "%s", error_text);
        else
            report_check(&bench->report, rate > 0, runs[i].what, "%.0f %s", rate, runs[i].unit);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2 + DEVICES) {
        fprintf(stderr,
                "usage: testbench EMULATOR ECHO_ACM_SCRIPT ECHO_FTDI_SCRIPT MODEM_SCRIPT\n");
        return 2;
    }
    struct bench bench = {.report = {.color = isatty(STDOUT_FILENO)}};
    if (!emulator_start(&bench.emulator, argv[1], "127.0.0.1:0", argv + 2, DEVICES))
        return 1;
    report_section(&bench.report, "usbip-testbench: %d scripted devices on %s", DEVICES,
                   bench.emulator.address);
    bench_list(&bench);
    bench_echo_acm(&bench);
    bench_echo_ftdi(&bench);
    bench_modem(&bench);
    bench_engine(&bench);
    int status = emulator_stop(&bench.emulator);
    report_check(&bench.report, status == 0, "the emulator shuts down cleanly", "status %d",
                 status);
    return report_end(&bench.report);
}
