/* The serial port, against a scripted server on the loopback interface. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "client/port.h"
#include "protocol/usbip.h"
#include "tests/support/testing.h"
#include "tests/unit/client/scripted_server.h"

enum {
    PATIENCE_MS = 10000, /* for what must come */
    IN_TRANSFERS = 16,
    MAX_IN_TRANSFERS = 2048,
    SILENCE_MS = 600, /* longer than what the port takes for the end of what a device says */
};

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

/* ---- Fixture ---- */

static struct scripted_server *server;
static struct usbip_port *port;

static void start(struct scripted_server *new_server, const char *device)
{
    server = new_server;
    scripted_server_start(server);
    port = usbip_port_new(server->address, device);
    CU_ASSERT_PTR_NOT_NULL_FATAL(port);
}

static void start_and_open(struct scripted_server *new_server, const char *device)
{
    start(new_server, device);
    CU_ASSERT_EQUAL_FATAL(usbip_port_open(port, PATIENCE_MS), 0);
}

static void stop(void)
{
    usbip_port_free(port);
    scripted_server_stop(server);
}

static void send_text(const char *text)
{
    scripted_lock(server);
    scripted_send(server, text, strlen(text));
    scripted_unlock(server);
}

static unsigned count(const char *prefix)
{
    unsigned result;

    scripted_lock(server);
    result = scripted_count(server, prefix);
    scripted_unlock(server);
    return result;
}

/* Runs the port until the server has got so many lines. */
static bool run_until(const char *prefix, unsigned number)
{
    uint64_t end_ms = usbip_now_ms() + PATIENCE_MS;

    while (count(prefix) < number && usbip_now_ms() < end_ms) {
        struct pollfd fd = {.fd = usbip_port_fd(port)};
        int events = usbip_port_events(port);

        fd.events = (short)((events & USBIP_EVENT_READ ? POLLIN : 0) |
                            (events & USBIP_EVENT_WRITE ? POLLOUT : 0));
        /* The journal may grow without news for the port, so it is looked at every now and then. */
        poll(&fd, 1, 5);
        usbip_port_process(port);
    }
    return count(prefix) >= number;
}

static void assert_journal(const char *const *lines, unsigned number)
{
    scripted_lock(server);
    CU_ASSERT_EQUAL(server->line_count, number);
    for (unsigned i = 0; i < number && i < server->line_count; i++) {
        CU_ASSERT_STRING_EQUAL(server->journal[i], lines[i]);
        if (strcmp(server->journal[i], lines[i]) != 0)
            fprintf(stderr, "line %u: \"%s\", expected \"%s\"\n", i, server->journal[i], lines[i]);
    }
    scripted_unlock(server);
}

/* ---- Opening ---- */

#define ENUMERATION(get_configuration)                                                             \
    "connection", "import 1-1", "control 80 06 00 01 00 00 12 00",                                 \
        "control 80 06 00 02 00 00 09 00", get_configuration, "control 80 06 00 03 00 00 ff 00",   \
        "control 80 06 01 03 09 04 ff 00", "control 80 06 02 03 09 04 ff 00",                      \
        "control 80 06 03 03 09 04 ff 00", "control 00 09 01 00 00 00 00 00"
#define FOUR_TIMES(line) line, line, line, line
#define SIXTEEN_TIMES(line) FOUR_TIMES(line), FOUR_TIMES(line), FOUR_TIMES(line), FOUR_TIMES(line)

static void test_open_cdc_acm(void)
{
    static const char *const expected[] = {
        ENUMERATION("control 80 06 00 02 00 00 43 00"),
        "control 21 20 00 00 00 00 07 00 | 00 c2 01 00 00 00 08",
        "in 83 16", /* two packets: a notification has 10 bytes, wMaxPacketSize is 8 */
        SIXTEEN_TIMES("in 82 64"),
        "control 21 22 03 00 00 00 00 00",
    };
    const struct usbip_port_identity *identity;

    start_and_open(scripted_server_new(), "1-1");
    assert_journal(expected, sizeof(expected) / sizeof(expected[0]));
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_OPEN);
    identity = usbip_port_identity(port);
    CU_ASSERT_STRING_EQUAL(identity->busid, "1-1");
    CU_ASSERT_EQUAL(identity->idVendor, 0x1209);
    CU_ASSERT_EQUAL(identity->idProduct, 0x0001);
    CU_ASSERT_EQUAL(identity->bcdDevice, 0x0100);
    CU_ASSERT_EQUAL(identity->speed, USBIP_SPEED_FULL);
    CU_ASSERT_STRING_EQUAL(identity->manufacturer, "Example");
    CU_ASSERT_STRING_EQUAL(identity->product, "Scripted device");
    CU_ASSERT_STRING_EQUAL(identity->serial_number, "A1");
    CU_ASSERT_STRING_EQUAL(identity->chip, "CDC-ACM");
    stop();
}

static void test_open_ftdi(void)
{
    static const char *const expected[] = {
        ENUMERATION("control 80 06 00 02 00 00 20 00"),
        "control 40 00 00 00 00 00 00 00",
        "control 40 09 02 00 00 00 00 00",
        "control 40 04 08 00 00 00 00 00",
        "control 40 03 1a 00 00 00 00 00",
        "control 40 02 00 00 00 00 00 00",
        SIXTEEN_TIMES("in 81 4096"),
        "control 40 01 03 03 00 00 00 00",
    };

    start_and_open(scripted_server_new_ftdi(), "1-1");
    assert_journal(expected, sizeof(expected) / sizeof(expected[0]));
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->chip, "FT232R");
    stop();
}

static void test_open_with_other_settings(void)
{
    const struct usbip_line_coding coding = {9600, USBIP_STOP_2, USBIP_PARITY_EVEN, 7};

    start(scripted_server_new_ftdi(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, 0), 0);
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_RTS, 0), 0);
    CU_ASSERT_EQUAL(usbip_port_set_latency_timer(port, 16), 0);
    CU_ASSERT_EQUAL(usbip_port_set_latency_timer(port, 256), USBIP_ERROR_ARGUMENT);
    CU_ASSERT_EQUAL_FATAL(usbip_port_open(port, PATIENCE_MS), 0);
    CU_ASSERT_EQUAL(count("control 40 09 10 00 00 00 00 00"), 1);
    CU_ASSERT_EQUAL(count("control 40 04 07 12 00 00 00 00"), 1);
    CU_ASSERT_EQUAL(count("control 40 03 38 41 00 00 00 00"), 1);
    CU_ASSERT_EQUAL(count("control 40 01 02 03 00 00 00 00"), 1);
    CU_ASSERT_EQUAL(count("control 40 01"), 1);
    stop();
}

static void test_open_unsupported_line_coding(void)
{
    const struct usbip_line_coding five_bits = {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 5};

    start(scripted_server_new_ftdi(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &five_bits, 0), 0);
    CU_ASSERT_EQUAL(usbip_port_open(port, PATIENCE_MS), USBIP_ERROR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "9600 5N1"));
    CU_ASSERT_EQUAL(count("in "), 0);
    stop();
}

static void test_open_without_strings_and_line_coding(void)
{
    server = scripted_server_new();
    server->stall_strings = true;
    server->stall_request = 0x20;
    start_and_open(server, "1-1");
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->serial_number, "");
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_OPEN);
    stop();
}

static void test_open_in_event_loop(void)
{
    start(scripted_server_new(), "1209:0001");
    CU_ASSERT_EQUAL(usbip_port_open(port, 0), 0);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_OPENING);
    CU_ASSERT_EQUAL(usbip_port_open(port, 0), USBIP_ERROR_ARGUMENT);
    while (usbip_port_state(port) == USBIP_PORT_OPENING) {
        struct pollfd fd = {.fd = usbip_port_fd(port)};
        uint32_t timeout_ms = usbip_port_timeout_ms(port);
        int events = usbip_port_events(port);

        CU_ASSERT_NOT_EQUAL_FATAL(timeout_ms, USBIP_FOREVER); /* each step has its time-out */
        fd.events = (short)((events & USBIP_EVENT_READ ? POLLIN : 0) |
                            (events & USBIP_EVENT_WRITE ? POLLOUT : 0));
        CU_ASSERT_FATAL(poll(&fd, 1, (int)timeout_ms) > 0);
        CU_ASSERT_EQUAL_FATAL(usbip_port_process(port), 0);
    }
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_OPEN);
    CU_ASSERT_PTR_NOT_NULL(usbip_port_session(port));
    stop();
}

static void test_open_chooses(void)
{
    server = scripted_server_new();
    server->devices[0].import_status = USBIP_ST_DEV_BUSY;
    server->devices[1] = (struct scripted_device){"1-2", 0x1209, 2, "B1", 0, false};
    server->devices[2] = (struct scripted_device){"1-3", 0x1209, 1, "A2", 0, false};
    server->devices[3] = (struct scripted_device){"1-4", 0x1209, 1, "A3", 0, false};
    server->device_count = 4;
    start_and_open(server, "1209:0001");
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->busid, "1-3");
    usbip_port_free(port);

    port = usbip_port_new(server->address, "1209:0001:A3");
    CU_ASSERT_EQUAL(usbip_port_open(port, PATIENCE_MS), 0);
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->busid, "1-4");
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->serial_number, "A3");
    /* A device with another serial number was not even configured. */
    CU_ASSERT_EQUAL(count("control 00 09"), 2);
    stop();
}

static void test_open_refused(void)
{
    static const struct {
        const char *device;
        uint32_t status;
        int error;
    } cases[] = {
        {"1-1", USBIP_ST_DEV_BUSY, USBIP_ERROR_BUSY},
        {"1209:0001", USBIP_ST_DEV_BUSY, USBIP_ERROR_BUSY},
        {"1-1", USBIP_ST_DEV_ERR, USBIP_ERROR_REFUSED},
        {"1-2", 0, USBIP_ERROR_NOT_FOUND},
        {"1209:0002", 0, USBIP_ERROR_NOT_FOUND},
        {"1209:0001:B1", 0, USBIP_ERROR_NOT_FOUND},
        {"1209:", 0, USBIP_ERROR_ARGUMENT},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        server = scripted_server_new();
        server->devices[0].import_status = cases[i].status;
        start(server, cases[i].device);
        CU_ASSERT_EQUAL(usbip_port_open(port, PATIENCE_MS), cases[i].error);
        CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_CLOSED);
        /* Who and where are named. */
        CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), cases[i].device));
        CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), server->address));
        stop();
    }
}

static void test_open_times_out(void)
{
    server = scripted_server_new();
    server->answers_nothing = true;
    start(server, "1-1");
    CU_ASSERT_EQUAL(usbip_port_open(port, 50), USBIP_ERROR_TIMEOUT);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_CLOSED);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "setting up"));
    CU_ASSERT_TRUE(scripted_wait(server, "end", 1));
    stop();
}

static void test_open_all(void)
{
    static const char *const devices[] = {"1209:0001:A9", "1209:0001:A2", "1209:0002"};
    char error_text[USBIP_ERROR_TEXT_SIZE];
    struct usbip_port *ports[8];

    server = scripted_server_new();
    server->devices[1] = (struct scripted_device){"1-2", 0x1209, 2, "B1", USBIP_ST_DEV_BUSY, false};
    server->devices[2] = (struct scripted_device){"1-3", 0x1209, 1, "A2", 0, false};
    server->devices[3] = (struct scripted_device){"1-4", 0x1209, 3, "C1", 0, false};
    server->device_count = 4;
    scripted_server_start(server);
    /* The server serves one connection at a time, which is enough for the one that fits. */
    CU_ASSERT_EQUAL_FATAL(
        usbip_port_open_all(server->address, devices, 3, ports, 8, PATIENCE_MS, error_text), 1);
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(ports[0])->serial_number, "A2");
    CU_ASSERT_EQUAL(count("list"), 1);
    CU_ASSERT_EQUAL(count("import 1-4"), 0);
    port = ports[0];
    stop();
}

/* ---- Data ---- */

static void test_write_and_read(void)
{
    char data[16];

    start_and_open(scripted_server_new(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_write_all(port, "*IDN?\n", 6, PATIENCE_MS), 6);
    CU_ASSERT_EQUAL(count("out 01 6"), 1);
    scripted_lock(server);
    CU_ASSERT_EQUAL(memcmp(server->written, "*IDN?\n", 6), 0);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_write(port, "x", 1, 0), 1);
    CU_ASSERT_EQUAL(usbip_port_drain(port, PATIENCE_MS), 0);
    CU_ASSERT_EQUAL(count("out 01 1"), 1);

    send_text("hello");
    CU_ASSERT_EQUAL(usbip_port_read(port, data, 3, PATIENCE_MS), 3);
    CU_ASSERT_EQUAL(memcmp(data, "hel", 3), 0);
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 2);
    CU_ASSERT_EQUAL(usbip_port_read(port, data, sizeof(data), PATIENCE_MS), 2);
    CU_ASSERT_EQUAL(memcmp(data, "lo", 2), 0);
    CU_ASSERT_EQUAL(usbip_port_read(port, data, sizeof(data), 10), 0);
    stop();
}

/* What a waiting reader has no room for waits for the next one, and nothing overtakes it. */
static void test_reader_with_little_room(void)
{
    char data[16] = "";

    start_and_open(scripted_server_new(), "1-1");
    scripted_lock(server);
    scripted_send(server, "hello", 5);
    scripted_send(server, ", worl", 6);
    scripted_send(server, "d", 1);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read(port, data, 8, PATIENCE_MS), 5);
    CU_ASSERT_STRING_EQUAL(data, "hello");
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 7, PATIENCE_MS), 7);
    CU_ASSERT_EQUAL(memcmp(data, ", world", 7), 0);

    /* Its memory is not written to any more once it has returned. */
    send_text("again");
    CU_ASSERT_EQUAL(usbip_port_read(port, data, 8, PATIENCE_MS), 5);
    memset(data, 0, sizeof(data));
    send_text("more");
    while (usbip_port_bytes_available(port) < 4 && data[0] == '\0')
        CU_ASSERT_EQUAL_FATAL(usbip_port_process(port), 0);
    CU_ASSERT_STRING_EQUAL(data, "");
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_STRING_EQUAL(data, "more");
    stop();
}

static void test_every_in_transfer_is_queued_again(void)
{
    char data[2];

    start_and_open(scripted_server_new(), "1-1");
    for (int i = 0; i < 3 * IN_TRANSFERS; i++) {
        send_text("ab");
        CU_ASSERT_EQUAL_FATAL(usbip_port_read_all(port, data, 2, PATIENCE_MS), 2);
    }
    CU_ASSERT_TRUE(run_until("in 82 64", 4 * IN_TRANSFERS));
    CU_ASSERT_EQUAL(count("in 82 64"), 4 * IN_TRANSFERS);
    CU_ASSERT_EQUAL(count("unlink"), 0);
    stop();
}

static void test_read_all(void)
{
    char data[16];

    start_and_open(scripted_server_new(), "1-1");
    send_text("abc");
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, 20), USBIP_ERROR_TIMEOUT);
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 3); /* none is taken */
    send_text("de");
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_EQUAL(memcmp(data, "abcd", 4), 0);
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 1);
    usbip_port_discard_input(port);
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 0);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, USBIP_RECEIVE_BUFFER_SIZE + 1, 0),
                    USBIP_ERROR_LIMIT);
    stop();
}

/* What has come is received into the reader's memory, and nevertheless nothing is taken. */
static void test_read_all_gives_up(void)
{
    char data[16] = "";

    start_and_open(scripted_server_new(), "1-1");
    send_text("abc");
    send_text("de");
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 6, 50), USBIP_ERROR_TIMEOUT);
    CU_ASSERT_STRING_EQUAL(data, "abcde"); /* not promised, but the point of it */
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "5 bytes received"));
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 5);
    memset(data, 0, sizeof(data));
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 7, 0), USBIP_ERROR_TIMEOUT);
    CU_ASSERT_STRING_EQUAL(data, "");
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 5);
    send_text("f");
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 7, 50), USBIP_ERROR_TIMEOUT);
    CU_ASSERT_STRING_EQUAL(data, "abcdef"); /* behind what was there already */
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 6);
    memset(data, 0, sizeof(data));
    send_text("gh");
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 6, PATIENCE_MS), 6);
    CU_ASSERT_STRING_EQUAL(data, "abcdef");
    CU_ASSERT_EQUAL(usbip_port_read(port, data, sizeof(data), 0), 2);
    CU_ASSERT_EQUAL(memcmp(data, "gh", 2), 0);
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 0);
    stop();
}

/* Until so many bytes can be received at once. */
static void wait_for_input(int size)
{
    uint64_t end_ms = usbip_now_ms() + PATIENCE_MS;

    for (int have = 0; have < size;) {
        CU_ASSERT_FATAL(usbip_now_ms() < end_ms);
        CU_ASSERT_EQUAL_FATAL(ioctl(usbip_port_fd(port), FIONREAD, &have), 0);
    }
}

/* With its status a packet may have no room where its data would: it goes to the buffer. */
static void test_read_all_in_two_places(void)
{
    char data[16] = "";

    start_and_open(scripted_server_new_ftdi(), "1-1");
    scripted_lock(server);
    scripted_send(server,
                  "\x01\x60"
                  "abcdef",
                  8);
    scripted_send(server,
                  "\x01\x60"
                  "g",
                  3);
    scripted_unlock(server);
    wait_for_input(2 * USBIP_HEADER_SIZE + 8 + 3);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 8, 0), USBIP_ERROR_TIMEOUT);
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 7);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 8, 50), USBIP_ERROR_TIMEOUT);
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 7);
    CU_ASSERT_EQUAL(usbip_port_read(port, data, 2, 0), 2);
    CU_ASSERT_EQUAL(memcmp(data, "ab", 2), 0);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 5, 0), 5);
    CU_ASSERT_EQUAL(memcmp(data, "cdefg", 5), 0);

    scripted_lock(server);
    scripted_send(server,
                  "\x01\x60"
                  "hijklm",
                  8);
    scripted_send(server,
                  "\x01\x60"
                  "n",
                  3);
    scripted_send(server,
                  "\x01\x60"
                  "opq",
                  5);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 8, PATIENCE_MS), 8);
    CU_ASSERT_EQUAL(memcmp(data, "hijklmno", 8), 0);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 2, PATIENCE_MS), 2);
    CU_ASSERT_EQUAL(memcmp(data, "pq", 2), 0);
    stop();
}

/* Readers of all sizes, of whom most give up. */
static void test_read_all_keeps_the_order(void)
{
    enum { TOTAL = 2000000, LARGEST = 60000 };
    static uint8_t data[LARGEST];
    size_t taken = 0, size = 1;
    unsigned given_up = 0, filled = 0;
    bool intact = true;

    server = scripted_server_new();
    server->pattern_left = TOTAL;
    start_and_open(server, "1-1");
    while (taken < TOTAL) {
        int got;

        size = (size * 7919 + 13) % LARGEST + 1;
        if (size > TOTAL - taken)
            size = TOTAL - taken;
        got = usbip_port_read_all(port, data, size, size % 2);
        if (got == USBIP_ERROR_TIMEOUT) {
            given_up++;
            got = usbip_port_read(port, data, size / 8 + 1, PATIENCE_MS);
        } else {
            filled++;
        }
        CU_ASSERT_FATAL(got > 0 && (size_t)got <= size);
        for (size_t i = 0; i < (size_t)got; i++)
            intact = intact && data[i] == (uint8_t)(taken + i);
        taken += (size_t)got;
    }
    CU_ASSERT_TRUE(intact);
    CU_ASSERT_TRUE(given_up > 0 && filled > 0);
    CU_ASSERT_EQUAL(usbip_port_read(port, data, 1, 0), 0);
    stop();
}

static void test_read_until(void)
{
    char data[32];

    start_and_open(scripted_server_new(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_set_delimiter(port, "\r\n>", 3), 0);
    send_text("one\r\n\r");
    CU_ASSERT_EQUAL(usbip_port_read_until(port, data, sizeof(data), 20), USBIP_ERROR_TIMEOUT);
    send_text("\n");
    send_text(">two");
    CU_ASSERT_EQUAL(usbip_port_read_until(port, data, sizeof(data), PATIENCE_MS), 8);
    CU_ASSERT_EQUAL(memcmp(data, "one\r\n\r\n>", 8), 0);
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 3);
    send_text("\r\n>");
    CU_ASSERT_EQUAL(usbip_port_read_until(port, data, 5, PATIENCE_MS), USBIP_ERROR_LIMIT);
    CU_ASSERT_EQUAL(usbip_port_read_until(port, data, 6, PATIENCE_MS), 6);
    CU_ASSERT_EQUAL(usbip_port_set_delimiter(port, "", 0), USBIP_ERROR_ARGUMENT);
    stop();
}

static void test_long_delimiter(void)
{
    static char end[300], data[400];

    memset(end, '=', sizeof(end));
    start_and_open(scripted_server_new(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_set_delimiter(port, end, sizeof(end)), 0);
    send_text("head=");
    scripted_lock(server);
    for (unsigned at = 1; at < sizeof(end); at += 23)
        scripted_send(server, end, 23);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_line(port, data, sizeof(data), PATIENCE_MS), 4);
    CU_ASSERT_STRING_EQUAL(data, "head");
    stop();
}

static void send_line_end(struct scripted_server *scripted, const char *line)
{
    if (strncmp(line, "in 82", 5) == 0) {
        scripted->hook = NULL;
        scripted_send(scripted, "\n", 1);
    }
}

static void test_delimiter_comes_in_two_transfers(void)
{
    char data[32];

    start_and_open(scripted_server_new(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_set_delimiter(port, "\r\n", 2), 0);
    scripted_lock(server);
    scripted_send(server, "abcdef\r", 7);
    server->hook = send_line_end; /* when the first part has been received */
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_line(port, data, sizeof(data), PATIENCE_MS), 6);
    CU_ASSERT_STRING_EQUAL(data, "abcdef");
    stop();
}

static void test_read_line(void)
{
    char line[8];

    start_and_open(scripted_server_new(), "1-1");
    send_text("first\n\nsecond!\nthirdline");
    CU_ASSERT_EQUAL(usbip_port_read_line(port, line, sizeof(line), PATIENCE_MS), 5);
    CU_ASSERT_STRING_EQUAL(line, "first");
    CU_ASSERT_EQUAL(usbip_port_read_line(port, line, sizeof(line), PATIENCE_MS), 0);
    CU_ASSERT_STRING_EQUAL(line, "");
    CU_ASSERT_EQUAL(usbip_port_read_line(port, line, 7, PATIENCE_MS), USBIP_ERROR_LIMIT);
    CU_ASSERT_EQUAL(usbip_port_read_line(port, line, 8, PATIENCE_MS), 7); /* just fits */
    CU_ASSERT_STRING_EQUAL(line, "second!");
    CU_ASSERT_EQUAL(usbip_port_read_line(port, line, 8, PATIENCE_MS), USBIP_ERROR_LIMIT);
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 9);
    stop();
}

static void test_ftdi_status_is_stripped(void)
{
    char data[8];

    start_and_open(scripted_server_new_ftdi(), "1-1");
    scripted_lock(server);
    scripted_send(server, "\x11\x60", 2);
    scripted_send(server, "\x31\x64hi", 4);
    scripted_send(server, "\x21\x60", 2);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 2, PATIENCE_MS), 2);
    CU_ASSERT_EQUAL(memcmp(data, "hi", 2), 0);
    CU_ASSERT_EQUAL(usbip_port_read(port, data, sizeof(data), 10), 0);
    CU_ASSERT_EQUAL(usbip_port_modem_state(port), USBIP_MODEM_DSR | USBIP_MODEM_PARITY);
    CU_ASSERT_EQUAL(usbip_port_modem_state(port), USBIP_MODEM_DSR); /* events are told once */
    stop();
}

static void test_notification(void)
{
    const uint8_t serial_state[] = {0xa1, 0x20, 0, 0, 0, 0, 2, 0, 0x41, 0};

    start_and_open(scripted_server_new(), "1-1");
    scripted_lock(server);
    scripted_notify(server, serial_state, sizeof(serial_state));
    scripted_unlock(server);
    CU_ASSERT_TRUE(run_until("in 83", 2));
    CU_ASSERT_EQUAL(usbip_port_modem_state(port), USBIP_MODEM_DCD | USBIP_MODEM_OVERRUN);
    stop();
}

static void test_in_data_has_the_order_of_submits(void)
{
    char data[4];

    start_and_open(scripted_server_new(), "1-1");
    scripted_lock(server);
    scripted_end_in(server, (struct scripted_end[]){{1, "cd", 2}, {0, "ab", 2}}, 2);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_EQUAL(memcmp(data, "abcd", 4), 0);
    stop();
}

/* ---- Data that is received straight into a reader's memory ---- */

enum { CHIP_PACKETS = 64, CHIP_SIZE = CHIP_PACKETS * 64, CHIP_BYTES = CHIP_PACKETS * 62 };

/* Transfers of the FT232R; `index` counts from 0, and so does what they bring, plus 1. */
static uint8_t chip_data[4][CHIP_SIZE];
static struct scripted_end chip_ends[4];

static void make_chip_data(void)
{
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned j = 0; j < CHIP_SIZE; j++)
            chip_data[i][j] = (uint8_t)(j % 64 == 0 ? 0x01 : j % 64 == 1 ? 0x60 : i + 1);
        chip_ends[i] = (struct scripted_end){i, chip_data[i], CHIP_SIZE};
    }
}

/* Ends two transfers in one go, a number of times: after two it is expected to come like that. */
static void read_by_two(unsigned times)
{
    static uint8_t data[2 * CHIP_BYTES];

    for (unsigned i = 0; i < times; i++) {
        scripted_lock(server);
        scripted_end_in(server, chip_ends, 2);
        scripted_unlock(server);
        CU_ASSERT_EQUAL_FATAL(usbip_port_read_all(port, data, sizeof(data), PATIENCE_MS),
                              (int)sizeof(data));
        CU_ASSERT_TRUE_FATAL(run_until("in 81", IN_TRANSFERS + 2 * (i + 1)));
    }
}

/*
 * What has come before its turn goes to a reader together with what it waited for, and not over
 * data behind that, which may have been received straight into his memory.
 */
static void test_early_data_spoils_nothing(void)
{
    static uint8_t data[4 * CHIP_BYTES];
    unsigned in_flight;
    bool intact = true;

    make_chip_data();
    start_and_open(scripted_server_new_ftdi(), "1-1");
    read_by_two(2);
    in_flight = usbip_host_session_in_flight(usbip_port_session(port));
    scripted_lock(server);
    scripted_end_in(server, (struct scripted_end[]){chip_ends[1], chip_ends[3]}, 2);
    scripted_unlock(server);
    while (usbip_host_session_in_flight(usbip_port_session(port)) > in_flight - 2)
        usbip_port_process(port);
    chip_ends[2].index = 1; /* the second has ended */
    scripted_lock(server);
    scripted_end_in(server, (struct scripted_end[]){chip_ends[0], chip_ends[2]}, 2);
    scripted_unlock(server);
    CU_ASSERT_EQUAL_FATAL(usbip_port_read_all(port, data, sizeof(data), PATIENCE_MS),
                          (int)sizeof(data));
    for (size_t i = 0; i < sizeof(data); i++)
        intact = intact && data[i] == 1 + i / CHIP_BYTES;
    CU_ASSERT_TRUE(intact);
    stop();
}

static struct {
    uint8_t bytes[1 << 18];
    size_t size;
} tapped; /* what the client says that it received */

static void *tap_opened(void *context)
{
    return context;
}

static void tap_passed(void *connection, enum usbip_way way, const uint8_t *data, size_t size)
{
    (void)connection;
    if (way == USBIP_TO_SERVER)
        return;
    REQUIRE(size <= sizeof(tapped.bytes) - tapped.size);
    memcpy(tapped.bytes + tapped.size, data, size);
    tapped.size += size;
}

static void tap_closed(void *connection)
{
    (void)connection;
}

/* The tap hears the stream as it came, wherever its parts were put. */
static void test_tap_hears_what_came(void)
{
    static const struct usbip_tap tap = {&tapped, tap_opened, tap_passed, tap_closed};
    const uint8_t *end;

    tapped.size = 0;
    make_chip_data();
    start(scripted_server_new_ftdi(), "1-1");
    usbip_port_set_tap(port, &tap);
    CU_ASSERT_EQUAL_FATAL(usbip_port_open(port, PATIENCE_MS), 0);
    read_by_two(2);
    chip_data[0][CHIP_SIZE / 2 + 5] = 0xaa; /* or what came before would pass for it */
    chip_data[1][CHIP_SIZE / 2 + 5] = 0xbb;
    read_by_two(1);
    CU_ASSERT_FATAL(tapped.size > 2 * (USBIP_HEADER_SIZE + CHIP_SIZE));
    end = tapped.bytes + tapped.size;
    CU_ASSERT_EQUAL(memcmp(end - CHIP_SIZE, chip_data[1], CHIP_SIZE), 0);
    CU_ASSERT_EQUAL(memcmp(end - 2 * CHIP_SIZE - USBIP_HEADER_SIZE, chip_data[0], CHIP_SIZE), 0);
    stop();
}

static void test_receive_buffer_is_bounded(void)
{
    static uint8_t data[USBIP_RECEIVE_BUFFER_SIZE];
    const size_t total = 3 * (size_t)USBIP_RECEIVE_BUFFER_SIZE;
    unsigned transfers;
    uint8_t next = 0;
    bool intact = true;

    server = scripted_server_new();
    server->pattern_left = total;
    start_and_open(server, "1-1");
    /* Until it is full; nothing is asked for any more then, however often the port runs. */
    while (usbip_port_bytes_available(port) < USBIP_RECEIVE_BUFFER_SIZE)
        usbip_port_process(port);
    for (int i = 0; i < 100; i++)
        usbip_port_process(port);
    transfers = count("in 82");
    CU_ASSERT_TRUE(transfers <= USBIP_RECEIVE_BUFFER_SIZE / 64 + MAX_IN_TRANSFERS);
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL_FATAL(
            usbip_port_read_all(port, data, USBIP_RECEIVE_BUFFER_SIZE, PATIENCE_MS),
            USBIP_RECEIVE_BUFFER_SIZE);
        for (size_t j = 0; j < sizeof(data); j++)
            intact = intact && data[j] == next++;
        /* The room that a read makes is used at once: an event loop gets no other chance. */
        CU_ASSERT_TRUE(i > 0 || scripted_wait(server, "in 82", transfers + IN_TRANSFERS));
    }
    CU_ASSERT_TRUE(intact);
    stop();
}

/* A stream of full packets, until the port reads ahead. */
static void stream_packets(unsigned number)
{
    static const uint8_t packet[SCRIPTED_PACKET_SIZE];
    uint8_t data[SCRIPTED_PACKET_SIZE];

    for (unsigned i = 0; i < number; i++) {
        scripted_lock(server);
        scripted_send(server, packet, sizeof(packet));
        scripted_unlock(server);
        CU_ASSERT_EQUAL_FATAL(usbip_port_read_all(port, data, sizeof(data), PATIENCE_MS),
                              (int)sizeof(data));
    }
    usbip_port_process(port);
}

static void test_transfers_grow_after_an_end(void)
{
    uint8_t data[SCRIPTED_PACKET_SIZE] = {0};

    start_and_open(scripted_server_new(), "1-1");
    scripted_lock(server);
    scripted_send(server, data, sizeof(data));
    scripted_send(server, data, 0); /* as the specification has it */
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, sizeof(data), PATIENCE_MS), (int)sizeof(data));
    CU_ASSERT_TRUE(run_until("in 82 4096", 1));
    stop();
}

static void test_transfers_grow_in_a_stream(void)
{
    start_and_open(scripted_server_new(), "1-1");
    stream_packets(100);
    CU_ASSERT_EQUAL(count("in 82 128"), 0);
    stream_packets(200);
    CU_ASSERT_TRUE(run_until("in 82 128", 1));
    /* The first of those ends with its first packet, which shows that the device ends its data. */
    CU_ASSERT_TRUE(run_until("in 82 4096", 1));
    stop();
}

static void test_transfers_stay_small_when_ends_are_forgotten(void)
{
    uint8_t data[SCRIPTED_PACKET_SIZE];

    start_and_open(scripted_server_new(), "1-1");
    stream_packets(1);
    CU_ASSERT_EQUAL(usbip_port_read(port, data, sizeof(data), SILENCE_MS), 0);
    stream_packets(300);
    CU_ASSERT_EQUAL(count("in 82 128"), 0);
    CU_ASSERT_EQUAL(count("in 82 4096"), 0);
    stop();
}

static void test_large_write(void)
{
    static uint8_t data[1000000];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    start_and_open(scripted_server_new(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_write_all(port, data, sizeof(data), PATIENCE_MS), (int)sizeof(data));
    scripted_lock(server);
    CU_ASSERT_EQUAL(server->written_size, sizeof(data));
    CU_ASSERT_EQUAL(memcmp(server->written, data, sizeof(data)), 0);
    CU_ASSERT(scripted_count(server, "out 01 16384") >= 8);
    scripted_unlock(server);
    stop();
}

/* The device with bulk packets of high speed, 512 bytes. */
static struct scripted_server *new_high_speed_server(void)
{
    static uint8_t configuration[256];
    struct scripted_server *result = scripted_server_new();
    uint8_t *bulk;

    REQUIRE(result->configuration_size <= sizeof(configuration));
    memcpy(configuration, result->configuration, result->configuration_size);
    bulk = configuration + result->configuration_size - 2 * USB_DT_ENDPOINT_SIZE;
    for (unsigned i = 0; i < 2; i++, bulk += USB_DT_ENDPOINT_SIZE) {
        REQUIRE(bulk[1] == USB_DT_ENDPOINT && bulk[4] == 64 && bulk[5] == 0);
        bulk[4] = 0;
        bulk[5] = 512 >> 8;
    }
    result->configuration = configuration;
    return result;
}

enum { PIECE_SIZE = 256 << 10, PIECES = 20, LONG_TRIP_MS = 50 };

/* Where a stream gets through in no time, a URB for each 16 KiB is a waste. */
static void test_fast_out_transfers(void)
{
    static const uint8_t data[PIECE_SIZE];

    start_and_open(new_high_speed_server(), "1-1");
    stopped_ms = usbip_now_ms();
    for (unsigned i = 0; i < PIECES && count("out 01 61440") == 0; i++) {
        scripted_lock(server);
        server->written_size = 0;
        scripted_unlock(server);
        CU_ASSERT_EQUAL_FATAL(usbip_port_write_all(port, data, PIECE_SIZE, PATIENCE_MS),
                              PIECE_SIZE);
    }
    CU_ASSERT(count("out 01 61440") > 0);
    stopped_ms = 0;
    stop();
}

static void test_fast_in_transfers(void)
{
    static uint8_t data[PIECE_SIZE], expected[PIECE_SIZE];
    bool ended = false; /* the device is seen to end its data, with an empty packet */

    for (size_t i = 0; i < PIECE_SIZE; i++)
        expected[i] = (uint8_t)i;
    server = new_high_speed_server();
    server->pattern_left = UINT64_MAX;
    start_and_open(server, "1-1");
    stopped_ms = usbip_now_ms();
    for (unsigned i = 0; i < PIECES && count("in 82 61440") == 0; i++) {
        scripted_lock(server);
        if (!ended)
            server->in_answers[server->in_answer_count++] = (struct scripted_answer){0, 0};
        server->line_count = 0;
        scripted_unlock(server);
        ended = true;
        CU_ASSERT_EQUAL_FATAL(usbip_port_read_all(port, data, PIECE_SIZE, PATIENCE_MS), PIECE_SIZE);
        CU_ASSERT_EQUAL_FATAL(memcmp(data, expected, PIECE_SIZE), 0);
    }
    CU_ASSERT(count("in 82 61440") > 0);
    stopped_ms = 0;
    stop();
}

/* A high-speed port whose device was seen to end its data, so transfers have 16 KiB from now on. */
static void start_and_end_data(void)
{
    static uint8_t data[512];

    start_and_open(new_high_speed_server(), "1-1");
    scripted_lock(server);
    scripted_end_in(server, (struct scripted_end[]){{0, data, sizeof(data)}, {1, data, 0}}, 2);
    scripted_unlock(server);
    CU_ASSERT_EQUAL_FATAL(usbip_port_read_all(port, data, sizeof(data), PATIENCE_MS),
                          (int)sizeof(data));
    CU_ASSERT_TRUE_FATAL(run_until("in 82 16384", 1));
}

static void fill_when_written(struct scripted_server *its_server, const char *line)
{
    if (strcmp(line, "out 01 1") == 0)
        scripted_fill_in(its_server);
}

/* All IN transfers that wait are filled at once, trip_ms after they came. Returns their bytes. */
static size_t read_burst(uint64_t trip_ms)
{
    static uint8_t data[PIECE_SIZE];
    uint64_t end_ms = usbip_now_ms() + trip_ms;
    size_t size = 0, got = 0;
    unsigned waiting = 0;

    while (waiting + 1 < usbip_host_session_in_flight(usbip_port_session(port)) ||
           usbip_now_ms() < end_ms) {
        usbip_port_process(port);
        scripted_lock(server);
        waiting = 0;
        size = 0;
        for (unsigned i = 0; i < server->pending_count; i++) {
            if (server->pending[i].endpoint == 0x82) {
                waiting++;
                size += server->pending[i].length;
            }
        }
        server->hook = fill_when_written;
        scripted_unlock(server);
    }
    CU_ASSERT_EQUAL_FATAL(usbip_port_write(port, "!", 1, PATIENCE_MS), 1);
    while (got < size) {
        int result = usbip_port_read(port, data, sizeof(data), PATIENCE_MS);

        CU_ASSERT_FATAL(result > 0);
        got += (size_t)result;
    }
    CU_ASSERT_EQUAL(usbip_port_drain(port, PATIENCE_MS), 0);
    return size;
}

/* Many transfers in no time are not many bytes: most of them were small. */
static void test_small_transfers_are_not_fast(void)
{
    start_and_end_data();
    stopped_ms = usbip_now_ms();
    CU_ASSERT(read_burst(0) < 64 << 10);
    stopped_ms = 0;
    read_burst(LONG_TRIP_MS); /* of those that were under way already */
    read_burst(LONG_TRIP_MS);
    CU_ASSERT_EQUAL(count("in 82 61440"), 0);
    stop();
}

/* The other end of a long way, or a reader who comes late: it comes at once, but came slowly. */
static void test_burst_is_not_fast(void)
{
    enum { ALL = 1 << 20 };
    size_t size = 0;

    start_and_end_data();
    for (unsigned i = 0; i < 10 && size < ALL; i++)
        size = read_burst(LONG_TRIP_MS);
    CU_ASSERT_EQUAL(size, ALL);
    CU_ASSERT_EQUAL(count("in 82 61440"), 0);
    stop();
}

static void test_write_window(void)
{
    static const uint8_t data[20 * 16384];

    server = scripted_server_new();
    server->holds_out = true;
    start_and_open(server, "1-1");
    CU_ASSERT_EQUAL(usbip_port_write(port, data, sizeof(data), 0), 8 * 16384);
    CU_ASSERT_EQUAL(usbip_port_write(port, data, sizeof(data), 10), 0);
    CU_ASSERT_EQUAL(usbip_port_drain(port, 10), USBIP_ERROR_TIMEOUT);
    CU_ASSERT_TRUE(run_until("out", 8));
    stop();
}

/* ---- Errors of the device ---- */

static void test_in_stall_is_cleared(void)
{
    char data[4];

    server = scripted_server_new();
    for (int i = 0; i < IN_TRANSFERS; i++)
        server->in_answers[i] = (struct scripted_answer){-USBIP_EPIPE, 0};
    server->in_answer_count = IN_TRANSFERS;
    start_and_open(server, "1-1");
    send_text("back");
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_EQUAL(count("control 02 01 00 00 82 00 00 00"), 1);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_OPEN);
    stop();
}

static void test_in_stall_without_end(void)
{
    char data[4];

    server = scripted_server_new();
    for (int i = 0; i < SCRIPTED_MAX_ANSWERS; i++)
        server->in_answers[i] = (struct scripted_answer){-USBIP_EPIPE, 0};
    server->in_answer_count = SCRIPTED_MAX_ANSWERS;
    start_and_open(server, "1-1");
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), USBIP_ERROR_STALL);
    CU_ASSERT_EQUAL(count("control 02 01 00 00 82 00 00 00"), 3);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_CLOSED);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "0x82"));
    stop();
}

static void test_in_errors_are_retried(void)
{
    char data[4];

    server = scripted_server_new();
    for (int i = 0; i < 2 * IN_TRANSFERS; i++)
        server->in_answers[i] = (struct scripted_answer){-USBIP_EPROTO, 0};
    server->in_answer_count = 2 * IN_TRANSFERS;
    start_and_open(server, "1-1");
    send_text("back");
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_EQUAL(count("control 02 01"), 0);
    CU_ASSERT_EQUAL(usbip_port_restore_count(port), 0);
    stop();
}

static void test_out_stall_is_cleared_and_sent_again(void)
{
    static uint8_t data[3 * 16384];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 3 + i / 16384);
    server = scripted_server_new();
    /* The device takes some packets, stalls, and stays stalled. */
    server->out_answers[0] = (struct scripted_answer){-USBIP_EPIPE, 128};
    server->out_answers[1] = (struct scripted_answer){-USBIP_EPIPE, 0};
    server->out_answers[2] = (struct scripted_answer){-USBIP_EPIPE, 0};
    server->out_answer_count = 3;
    start_and_open(server, "1-1");
    CU_ASSERT_EQUAL(usbip_port_write_all(port, data, sizeof(data), PATIENCE_MS), (int)sizeof(data));
    CU_ASSERT_EQUAL(count("control 02 01 00 00 01 00 00 00"), 1);
    CU_ASSERT_EQUAL(count("out 01 16256"), 1);
    scripted_lock(server);
    CU_ASSERT_EQUAL(server->written_size, sizeof(data));
    CU_ASSERT_EQUAL(memcmp(server->written, data, sizeof(data)), 0);
    scripted_unlock(server);
    stop();
}

static void test_out_stall_without_end(void)
{
    server = scripted_server_new();
    for (int i = 0; i < 4; i++)
        server->out_answers[i] = (struct scripted_answer){-USBIP_EPIPE, 0};
    server->out_answer_count = 4;
    start_and_open(server, "1-1");
    CU_ASSERT_EQUAL(usbip_port_write_all(port, "abc", 3, PATIENCE_MS), USBIP_ERROR_STALL);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_OPEN);
    /* The error has been told, and the endpoint works again. */
    CU_ASSERT_EQUAL(usbip_port_write_all(port, "def", 3, PATIENCE_MS), 3);
    stop();
}

static void test_out_short(void)
{
    static const uint8_t data[2 * 16384];

    server = scripted_server_new();
    server->out_answers[0] = (struct scripted_answer){0, 3};
    server->out_answer_count = 1;
    start_and_open(server, "1-1");
    CU_ASSERT_EQUAL(usbip_port_write_all(port, "abcde", 5, PATIENCE_MS), 5);
    CU_ASSERT_EQUAL(count("out 01 2"), 1);
    scripted_lock(server);
    CU_ASSERT_EQUAL(memcmp(server->written, "abcde", 5), 0);
    /* The second transfer is accepted behind the gap: sending the rest would garble the data. */
    server->out_answers[0] = (struct scripted_answer){0, 16383};
    server->out_answer_count = 1;
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_write_all(port, data, sizeof(data), PATIENCE_MS),
                    USBIP_ERROR_TRANSFER);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "16383 of 16384"));
    stop();
}

static void test_empty_transfers_are_held_back(void)
{
    const unsigned duration_ms = 200;
    char data[4];

    server = scripted_server_new();
    server->empty_in = true;
    start_and_open(server, "1-1");
    CU_ASSERT_EQUAL(usbip_port_read(port, data, sizeof(data), duration_ms), 0);
    /* One round of the queue in a millisecond, at most. */
    CU_ASSERT_TRUE(count("in 82") <= IN_TRANSFERS * duration_ms);
    CU_ASSERT_TRUE(count("in 82") > 2 * IN_TRANSFERS);
    scripted_lock(server);
    server->empty_in = false;
    scripted_send(server, "data", 4);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    stop();
}

/* ---- Settings ---- */

static void test_settings_of_an_open_port(void)
{
    const struct usbip_line_coding coding = {9600, USBIP_STOP_1, USBIP_PARITY_ODD, 8};
    const struct usbip_line_coding nonsense = {9600, 3, USBIP_PARITY_ODD, 8};
    struct usbip_line_coding now;

    start_and_open(scripted_server_new(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, PATIENCE_MS), 0);
    CU_ASSERT_EQUAL(count("control 21 20 00 00 00 00 07 00 | 80 25 00 00 00 01 08"), 1);
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &nonsense, PATIENCE_MS), USBIP_ERROR_ARGUMENT);
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_RTS, PATIENCE_MS), 0);
    CU_ASSERT_EQUAL(count("control 21 22 02 00 00 00 00 00"), 1);
    CU_ASSERT_EQUAL(usbip_port_get_control_lines(port), USBIP_LINE_RTS);
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, 4, PATIENCE_MS), USBIP_ERROR_ARGUMENT);
    CU_ASSERT_EQUAL(usbip_port_set_break(port, true, PATIENCE_MS), 0);
    CU_ASSERT_EQUAL(usbip_port_set_break(port, false, PATIENCE_MS), 0);
    CU_ASSERT_EQUAL(count("control 21 23 ff ff"), 1);
    CU_ASSERT_EQUAL(count("control 21 23 00 00"), 1);

    scripted_lock(server);
    server->stall_request = 0x20;
    scripted_unlock(server);
    now = coding;
    now.dwDTERate = 1200;
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &now, PATIENCE_MS), USBIP_ERROR_STALL);
    usbip_port_get_line_coding(port, &now);
    CU_ASSERT_EQUAL(now.dwDTERate, 9600); /* what the device refused is not kept */
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_OPEN);
    stop();
}

static void stall(uint8_t bRequest)
{
    scripted_lock(server);
    server->stall_request = bRequest;
    scripted_unlock(server);
}

static void test_half_of_a_line_coding(void)
{
    const struct usbip_line_coding coding = {9600, USBIP_STOP_1, USBIP_PARITY_EVEN, 7};
    struct usbip_line_coding now;

    start_and_open(scripted_server_new_ftdi(), "1-1");
    stall(4); /* the format */
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, PATIENCE_MS), USBIP_ERROR_STALL);
    CU_ASSERT_EQUAL(count("control 40 04 07 02"), 1);
    CU_ASSERT_EQUAL(count("control 40 03"), 1); /* at open: the rate is not sent after that */
    usbip_port_get_line_coding(port, &now);
    CU_ASSERT_EQUAL(now.dwDTERate, 115200);

    stall(3); /* the rate: the format has been taken already, and is taken back */
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, PATIENCE_MS), USBIP_ERROR_STALL);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(usbip_port_error_text(port), "control request 40 03 wValue 4138"));
    scripted_lock(server);
    int rate = scripted_find(server, "control 40 03 38 41", 0);
    CU_ASSERT_TRUE(rate > 0);
    CU_ASSERT_TRUE(scripted_find(server, "control 40 04 08 00", rate) > rate);
    scripted_unlock(server);
    usbip_port_get_line_coding(port, &now);
    CU_ASSERT_EQUAL(now.dwDTERate, 115200);

    stall(0);
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, PATIENCE_MS), 0);
    usbip_port_get_line_coding(port, &now);
    CU_ASSERT_EQUAL(now.dwDTERate, 9600);
    stop();
}

static void test_refused_control_lines(void)
{
    start_and_open(scripted_server_new(), "1-1");
    stall(0x22);
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, 0, PATIENCE_MS), USBIP_ERROR_STALL);
    CU_ASSERT_EQUAL(usbip_port_get_control_lines(port), USBIP_LINE_DTR | USBIP_LINE_RTS);
    stop();
}

static void test_open_of_a_chip_that_refuses(void)
{
    server = scripted_server_new_ftdi();
    server->stall_request = 4; /* not the last request of the list */
    start(server, "1-1");
    CU_ASSERT_EQUAL(usbip_port_open(port, PATIENCE_MS), USBIP_ERROR_STALL);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "control request 40 04"));
    CU_ASSERT_EQUAL(count("control 40 03"), 0);
    stop();
}

static void test_control_requests_are_retried(void)
{
    server = scripted_server_new();
    server->broken_requests = 3;
    start_and_open(server, "1-1");
    CU_ASSERT_EQUAL(count("control 21 20"), 4);
    scripted_lock(server);
    server->broken_requests = 5;
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_set_break(port, true, PATIENCE_MS), USBIP_ERROR_TRANSFER);
    CU_ASSERT_EQUAL(count("control 21 23"), 4);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "EPROTO"));
    stop();
}

static void test_unconfirmed_setting(void)
{
    start_and_open(scripted_server_new(), "1-1");
    scripted_lock(server);
    server->answers_nothing = true;
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, 0, 20), USBIP_ERROR_TIMEOUT);
    CU_ASSERT_TRUE(scripted_wait(server, "unanswered", 1));
    stop();
}

/* ---- Closing ---- */

static void test_close(void)
{
    int lines_off, first_unlink;

    start_and_open(scripted_server_new(), "1-1");
    usbip_port_close(port);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_CLOSED);
    CU_ASSERT_TRUE(scripted_wait(server, "end", 1));
    scripted_lock(server);
    lines_off = scripted_find(server, "control 21 22 00 00 00 00 00 00", 0);
    first_unlink = scripted_find(server, "unlink", 0);
    CU_ASSERT_TRUE(lines_off >= 0);
    CU_ASSERT_TRUE(first_unlink > lines_off);
    CU_ASSERT_EQUAL(scripted_count(server, "unlink 82"), IN_TRANSFERS);
    CU_ASSERT_EQUAL(scripted_count(server, "unlink 83"), 1);
    CU_ASSERT_EQUAL(server->pending_count, 0);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_write_all(port, "x", 1, 0), USBIP_ERROR_ARGUMENT);

    /* The settings stay for the next time. */
    CU_ASSERT_EQUAL(usbip_port_open(port, PATIENCE_MS), 0);
    CU_ASSERT_EQUAL(count("control 21 22 03 00"), 2);
    stop();
}

static void test_close_with_requests_waiting(void)
{
    int result = USBIP_ERROR_TIMEOUT;
    unsigned requests = 0;

    start_and_open(scripted_server_new_ftdi(), "1-1");
    scripted_lock(server); /* nothing is answered */
    while (result == USBIP_ERROR_TIMEOUT && requests <= 100) {
        result = usbip_port_set_control_lines(port, USBIP_LINE_RTS, 0);
        requests += result == USBIP_ERROR_TIMEOUT;
    }
    scripted_unlock(server);
    CU_ASSERT_EQUAL(result, USBIP_ERROR_LIMIT);
    CU_ASSERT_EQUAL(requests, 32);
    usbip_port_close(port);
    CU_ASSERT_TRUE(scripted_wait(server, "end", 1));
    CU_ASSERT_EQUAL(count("control 40 01 00 03"), 1);
    CU_ASSERT_EQUAL(count("control 40 01 02 03"), 1); /* only the one that had been sent */
    stop();
}

static void test_close_of_a_chip_without_flow_control(void)
{
    start_and_open(scripted_server_new_ftdi(), "1-1");
    stall(2);
    usbip_port_close(port);
    CU_ASSERT_TRUE(scripted_wait(server, "end", 1));
    CU_ASSERT_EQUAL(count("control 40 01 00 03"), 1);
    stop();
}

static void test_close_of_a_silent_device(void)
{
    uint64_t start_ms;

    start_and_open(scripted_server_new(), "1-1");
    scripted_lock(server);
    server->answers_nothing = true;
    scripted_unlock(server);
    start_ms = usbip_now_ms();
    usbip_port_close(port);
    CU_ASSERT_TRUE(usbip_now_ms() - start_ms < USBIP_CLOSE_TIMEOUT_MS + 2000);
    CU_ASSERT_TRUE(scripted_wait(server, "end", 1));
    stop();
}

/* ---- Loss and restore ---- */

static void greet(struct scripted_server *scripted, const char *line)
{
    if (strcmp(line, "control 21 22 02 00 00 00 00 00") == 0)
        scripted_send(scripted, "back", 4);
}

static void disconnect(void)
{
    scripted_lock(server);
    scripted_disconnect(server);
    scripted_unlock(server);
}

static void test_restore(void)
{
    const struct usbip_line_coding coding = {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 8};
    char data[4];
    int list, in, lines;

    start_and_open(scripted_server_new(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, PATIENCE_MS), 0);
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_RTS, PATIENCE_MS), 0);
    scripted_lock(server);
    server->hook = greet;
    scripted_disconnect(server);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_EQUAL(memcmp(data, "back", 4), 0);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_OPEN);
    CU_ASSERT_EQUAL(usbip_port_restore_count(port), 1);

    scripted_lock(server);
    list = scripted_find(server, "list", 0);
    in = scripted_find(server, "in 82", list);
    lines = scripted_find(server, "control 21 22 02 00", list);
    CU_ASSERT_TRUE(scripted_find(server, "import 1-1", list) > list);
    CU_ASSERT_TRUE(scripted_find(server, "control 00 09 01 00", list) > list);
    CU_ASSERT_TRUE(scripted_find(server, "control 21 20 00 00 00 00 07 00 | 80 25 00 00 00 00 08",
                                 list) > list);
    CU_ASSERT_TRUE(list > 0 && in > list && lines > in);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_write_all(port, "again", 5, PATIENCE_MS), 5);
    stop();
}

/* An open port that has "last" to read, and is restored to one that has "back". */
static void start_and_lose(void)
{
    start(scripted_server_new(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_RTS, 0), 0);
    CU_ASSERT_EQUAL_FATAL(usbip_port_open(port, PATIENCE_MS), 0);
    scripted_lock(server);
    scripted_send(server, "last", 4);
    server->hook = greet;
    scripted_disconnect(server);
    scripted_unlock(server);
}

/* What comes after a restore is for the reader who has waited since before it, and in order. */
static void test_reader_waits_for_restore(void)
{
    char data[16] = "";

    start_and_lose();
    CU_ASSERT_EQUAL(usbip_port_read(port, data, sizeof(data), PATIENCE_MS), 4);
    CU_ASSERT_STRING_EQUAL(data, "last");
    CU_ASSERT_EQUAL(usbip_port_read(port, data, sizeof(data), PATIENCE_MS), 4);
    CU_ASSERT_STRING_EQUAL(data, "back");
    CU_ASSERT_EQUAL(usbip_port_restore_count(port), 1);
    stop();
}

/* So is what a reader gets who wants more than came before the loss. */
static void test_read_all_waits_for_restore(void)
{
    char data[16] = "";

    start_and_lose();
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 8, PATIENCE_MS), 8);
    CU_ASSERT_STRING_EQUAL(data, "lastback");
    CU_ASSERT_EQUAL(usbip_port_restore_count(port), 1);
    stop();
}

static void test_read_all_of_a_lost_port(void)
{
    char data[16] = "";

    start_and_open(scripted_server_new(), "1-1");
    usbip_port_set_restore(port, false, 0);
    scripted_lock(server);
    scripted_send(server, "last", 4);
    scripted_disconnect(server);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 8, PATIENCE_MS), USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_CLOSED);
    memset(data, 0, sizeof(data));
    CU_ASSERT_EQUAL(usbip_port_read(port, data, sizeof(data), 0), 4);
    CU_ASSERT_STRING_EQUAL(data, "last");
    CU_ASSERT_EQUAL(usbip_port_read(port, data, sizeof(data), 0), USBIP_ERROR_DISCONNECTED);
    stop();
}

/* Busy twice, then gone, then there. */
static void come_back_slowly(struct scripted_server *scripted, const char *line)
{
    unsigned tries = scripted_count(scripted, "list");

    if (strcmp(line, "list") == 0) {
        scripted->devices[0].import_status = tries <= 2 ? USBIP_ST_DEV_BUSY : 0;
        scripted->devices[0].hidden = tries == 2;
    }
    greet(scripted, line);
}

static void test_restore_of_a_busy_device(void)
{
    char data[4];

    start(scripted_server_new(), "1209:0001");
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_RTS, 0), 0);
    CU_ASSERT_EQUAL_FATAL(usbip_port_open(port, PATIENCE_MS), 0);
    scripted_lock(server);
    server->line_count = 0;
    server->hook = come_back_slowly;
    scripted_disconnect(server);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_EQUAL(count("list"), 4);
    CU_ASSERT_EQUAL(count("import 1-1"), 3);
    CU_ASSERT_EQUAL(usbip_port_restore_count(port), 1);
    stop();
}

static void test_restore_at_another_busid(void)
{
    char data[4];

    server = scripted_server_new();
    server->devices[1] = (struct scripted_device){"1-5", 0x1209, 1, "A2", 0, false};
    server->devices[2] = (struct scripted_device){"1-6", 0x1209, 1, "A1", 0, true};
    server->device_count = 3;
    start(server, "1-1");
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_RTS, 0), 0);
    CU_ASSERT_EQUAL_FATAL(usbip_port_open(port, PATIENCE_MS), 0);
    scripted_lock(server);
    server->devices[0].hidden = true;
    server->devices[2].hidden = false;
    server->hook = greet;
    scripted_disconnect(server);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->busid, "1-6");
    stop();
}

static void test_restore_prefers_the_same_busid(void)
{
    char data[4];

    server = scripted_server_new();
    server->devices[0].import_status = USBIP_ST_DEV_BUSY;
    server->devices[1] = (struct scripted_device){"1-2", 0x1209, 1, "", 0, false};
    server->device_count = 2;
    start(server, "1209:0001");
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_RTS, 0), 0);
    CU_ASSERT_EQUAL_FATAL(usbip_port_open(port, PATIENCE_MS), 0);
    scripted_lock(server);
    server->devices[0].import_status = 0;
    server->line_count = 0;
    server->hook = greet;
    scripted_disconnect(server);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->busid, "1-2");
    CU_ASSERT_EQUAL(count("import 1-1"), 0);
    stop();
}

/* Without a serial number nothing tells a neighbour from the device that was there. */
static void test_restore_leaves_a_neighbour_alone(void)
{
    static const char *const devices[] = {"1-1", "1209:0001"};
    char data[4];

    for (int i = 0; i < 2; i++) {
        server = scripted_server_new();
        server->stall_strings = true;
        server->devices[1] = (struct scripted_device){"1-2", 0x1209, 1, "", 0, false};
        server->device_count = 2;
        start_and_open(server, devices[i]);
        usbip_port_set_restore(port, true, 400);
        scripted_lock(server);
        server->devices[0].hidden = true;
        server->line_count = 0;
        scripted_disconnect(server);
        scripted_unlock(server);
        CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), USBIP_ERROR_DISCONNECTED);
        CU_ASSERT_TRUE(count("list") >= 1);
        CU_ASSERT_EQUAL(count("import"), 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "the server closed"));
        stop();
    }
}

static void test_restore_among_many(void)
{
    enum { NEIGHBOURS = SCRIPTED_MAX_DEVICES - 1 };
    static char busids[NEIGHBOURS][16];
    char data[4];

    start(scripted_server_new(), "1-1");
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_RTS, 0), 0);
    CU_ASSERT_EQUAL_FATAL(usbip_port_open(port, PATIENCE_MS), 0);
    scripted_lock(server);
    server->devices[NEIGHBOURS] = server->devices[0];
    for (int i = 0; i < NEIGHBOURS; i++) {
        snprintf(busids[i], sizeof(busids[i]), "2-%d", i);
        server->devices[i] = (struct scripted_device){busids[i], 0x1209, 1, "N", 0, false};
    }
    server->device_count = SCRIPTED_MAX_DEVICES;
    server->line_count = 0;
    server->hook = greet;
    scripted_disconnect(server);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->busid, "1-1");
    CU_ASSERT_EQUAL(count("import"), 1);
    stop();
}

static void test_restore_after_a_restart_of_the_server(void)
{
    char data[4];

    start(scripted_server_new(), "1209:0001");
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_RTS, 0), 0);
    CU_ASSERT_EQUAL_FATAL(usbip_port_open(port, PATIENCE_MS), 0);
    scripted_lock(server);
    server->hook = greet;
    scripted_die(server);
    scripted_unlock(server);
    /* Time enough to be refused. */
    CU_ASSERT_EQUAL(usbip_port_read(port, data, 4, 250), 0);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_RESTORING);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "the server closed the connection"));
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "not restored yet: cannot connect"));
    scripted_server_restart(server);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), 4);
    CU_ASSERT_EQUAL(usbip_port_restore_count(port), 1);
    stop();
}

static void test_restore_refuses_another_device(void)
{
    static const struct scripted_device others[] = {
        {"1-1", 0x1209, 1, "A9", 0, false},     /* another serial number */
        {"1-1", 0x1209, 0x0b00, "A1", 0, false} /* the boot loader */
    };
    char data[4];

    for (int i = 0; i < 2; i++) {
        start_and_open(scripted_server_new(), "1-1");
        usbip_port_set_restore(port, true, 400);
        scripted_lock(server);
        server->line_count = 0;
        server->devices[0] = others[i];
        scripted_disconnect(server);
        scripted_unlock(server);
        CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), USBIP_ERROR_DISCONNECTED);
        CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_CLOSED);
        CU_ASSERT_TRUE(count("list") >= 1);
        CU_ASSERT_EQUAL(count("control 00 09"), 0);
        /* The list tells the boot loader's ids, so it is left alone. */
        CU_ASSERT_EQUAL(count("import") > 0, others[i].idProduct == 1);
        CU_ASSERT_EQUAL(usbip_port_restore_count(port), 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "given up"));
        stop();
    }
}

static void test_no_restore(void)
{
    char data[4];

    start_and_open(scripted_server_new(), "1-1");
    usbip_port_set_restore(port, false, 0);
    send_text("abc");
    CU_ASSERT_TRUE(run_until("in 82", IN_TRANSFERS + 1));
    disconnect();
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, 4, PATIENCE_MS), USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_EQUAL(usbip_port_process(port), USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_CLOSED);
    /* What came before is still there. */
    CU_ASSERT_EQUAL(usbip_port_read(port, data, 4, 0), 3);
    CU_ASSERT_EQUAL(usbip_port_read(port, data, 4, 0), USBIP_ERROR_DISCONNECTED);
    stop();
}

static void test_unconfirmed_write_is_told_once(void)
{
    server = scripted_server_new();
    server->holds_out = true;
    start_and_open(server, "1-1");
    CU_ASSERT_EQUAL(usbip_port_write(port, "abc", 3, 0), 3);
    CU_ASSERT_TRUE(run_until("out", 1));
    scripted_lock(server);
    server->holds_out = false;
    scripted_disconnect(server);
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_drain(port, PATIENCE_MS), USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_EQUAL(usbip_port_write_all(port, "abc", 3, PATIENCE_MS), 3);
    CU_ASSERT_EQUAL(usbip_port_restore_count(port), 1);
    stop();
}

static void test_setting_while_restoring(void)
{
    start_and_open(scripted_server_new(), "1-1");
    disconnect();
    CU_ASSERT_TRUE(run_until("end", 1));
    while (usbip_port_state(port) == USBIP_PORT_OPEN)
        usbip_port_process(port);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_RESTORING);
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, 0, PATIENCE_MS), 0);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_OPEN);
    CU_ASSERT_EQUAL(count("control 21 22 00 00"), 1);
    stop();
}

static void vanish(struct scripted_server *scripted, const char *line)
{
    if (strcmp(line, "unanswered") == 0) {
        scripted_disconnect(scripted);
    } else if (strcmp(line, "connection") == 0) {
        scripted->hook = NULL;
        scripted->answers_nothing = false;
    }
}

static void test_loss_while_setting(void)
{
    const struct usbip_line_coding coding = {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 8};

    start_and_open(scripted_server_new(), "1-1");
    scripted_lock(server);
    server->answers_nothing = true;
    server->hook = vanish;
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, PATIENCE_MS), 0);
    CU_ASSERT_EQUAL(usbip_port_restore_count(port), 1);
    CU_ASSERT_EQUAL(count("control 21 20 00 00 00 00 07 00 | 80 25"), 1);
    stop();

    /* A port that is not to be restored tells the loss. */
    start_and_open(scripted_server_new(), "1-1");
    usbip_port_set_restore(port, false, 0);
    scripted_lock(server);
    server->answers_nothing = true;
    server->hook = vanish;
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, PATIENCE_MS),
                    USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_CLOSED);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "the server closed"));
    stop();
}

static void test_loss_while_writing(void)
{
    static const uint8_t data[100 * 1000];

    start_and_open(scripted_server_new(), "1-1");
    scripted_lock(server);
    server->answers_nothing = true;
    server->hook = vanish;
    scripted_unlock(server);
    CU_ASSERT_EQUAL(usbip_port_write_all(port, data, sizeof(data), PATIENCE_MS),
                    USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "before the device confirmed"));
    /* Nothing of it is sent to the device that comes back. */
    CU_ASSERT_EQUAL(usbip_port_write_all(port, "abc", 3, PATIENCE_MS), 3);
    CU_ASSERT_EQUAL(count("out 01"), 1);
    stop();
}

/* For the sanitizers: whatever is under way, it ends with the port. */
static void test_free_at_any_time(void)
{
    static const char *const moments[] = {
        "connection",    "list",          "import", "control 80 06 00 01",
        "control 00 09", "control 21 20", "in 82",  "control 21 22",
        "out 01",
    };
    enum { MOMENTS = sizeof(moments) / sizeof(moments[0]) };

    for (size_t i = 0; i < MOMENTS - 1; i++) { /* while it is opened */
        start(scripted_server_new(), "1209:0001");
        CU_ASSERT_EQUAL(usbip_port_open(port, 0), 0);
        CU_ASSERT_TRUE(run_until(moments[i], 1));
        stop();
    }
    for (size_t i = 0; i < MOMENTS; i++) { /* while it is restored, and then written */
        start_and_open(scripted_server_new(), "1209:0001");
        scripted_lock(server);
        server->holds_out = true;
        server->line_count = 0;
        scripted_disconnect(server);
        scripted_unlock(server);
        while (usbip_port_state(port) == USBIP_PORT_OPEN)
            usbip_port_process(port);
        if (i == MOMENTS - 1)
            CU_ASSERT_EQUAL(usbip_port_write(port, "abc", 3, PATIENCE_MS), 3);
        CU_ASSERT_TRUE(run_until(moments[i], 1));
        stop();
    }
    start(scripted_server_new(), "1-1"); /* closed; and closed while restoring */
    usbip_port_close(port);
    CU_ASSERT_EQUAL_FATAL(usbip_port_open(port, PATIENCE_MS), 0);
    disconnect();
    while (usbip_port_state(port) == USBIP_PORT_OPEN)
        usbip_port_process(port);
    usbip_port_close(port);
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_CLOSED);
    CU_ASSERT_EQUAL(usbip_port_process(port), 0);
    stop();
}

static void test_impossible_setting_while_restoring(void)
{
    const struct usbip_line_coding five_bits = {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 5};
    struct usbip_line_coding now;

    start_and_open(scripted_server_new_ftdi(), "1-1");
    disconnect();
    while (usbip_port_state(port) == USBIP_PORT_OPEN)
        usbip_port_process(port);
    /* Kept, it would make every attempt fail. */
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &five_bits, PATIENCE_MS),
                    USBIP_ERROR_UNSUPPORTED);
    usbip_port_get_line_coding(port, &now);
    CU_ASSERT_EQUAL(now.bDataBits, 8);
    CU_ASSERT_EQUAL(usbip_port_write_all(port, "abc", 3, PATIENCE_MS), 3);
    stop();
}

int main(void)
{
    CU_TestInfo opening[] = {
        {"CDC-ACM", test_open_cdc_acm},
        {"FTDI", test_open_ftdi},
        {"other settings", test_open_with_other_settings},
        {"unsupported line coding", test_open_unsupported_line_coding},
        {"no strings, no line coding", test_open_without_strings_and_line_coding},
        {"event loop", test_open_in_event_loop},
        {"which device", test_open_chooses},
        {"refused", test_open_refused},
        {"time-out", test_open_times_out},
        {"all", test_open_all},
        CU_TEST_INFO_NULL,
    };
    CU_TestInfo data[] = {
        {"write and read", test_write_and_read},
        {"every IN transfer is queued again", test_every_in_transfer_is_queued_again},
        {"IN transfers grow after an end", test_transfers_grow_after_an_end},
        {"IN transfers grow in a stream", test_transfers_grow_in_a_stream},
        {"IN transfers stay small when ends are forgotten",
         test_transfers_stay_small_when_ends_are_forgotten},
        {"reader with little room", test_reader_with_little_room},
        {"read_all", test_read_all},
        {"read_all gives up", test_read_all_gives_up},
        {"read_all in two places", test_read_all_in_two_places},
        {"read_all keeps the order", test_read_all_keeps_the_order},
        {"read_until", test_read_until},
        {"long delimiter", test_long_delimiter},
        {"delimiter comes in two transfers", test_delimiter_comes_in_two_transfers},
        {"read_line", test_read_line},
        {"FTDI status is stripped", test_ftdi_status_is_stripped},
        {"notification", test_notification},
        {"IN data has the order of submits", test_in_data_has_the_order_of_submits},
        {"early data spoils nothing", test_early_data_spoils_nothing},
        {"tap hears what came", test_tap_hears_what_came},
        {"receive buffer is bounded", test_receive_buffer_is_bounded},
        {"large write", test_large_write},
        {"fast OUT transfers", test_fast_out_transfers},
        {"fast IN transfers", test_fast_in_transfers},
        {"small transfers are not fast", test_small_transfers_are_not_fast},
        {"burst is not fast", test_burst_is_not_fast},
        {"write window", test_write_window},
        CU_TEST_INFO_NULL,
    };
    CU_TestInfo errors[] = {
        {"IN stall is cleared", test_in_stall_is_cleared},
        {"IN stall without end", test_in_stall_without_end},
        {"IN errors are retried", test_in_errors_are_retried},
        {"OUT stall is cleared", test_out_stall_is_cleared_and_sent_again},
        {"OUT stall without end", test_out_stall_without_end},
        {"OUT short", test_out_short},
        {"empty transfers are held back", test_empty_transfers_are_held_back},
        {"settings", test_settings_of_an_open_port},
        {"half of a line coding", test_half_of_a_line_coding},
        {"refused control lines", test_refused_control_lines},
        {"open of a chip that refuses", test_open_of_a_chip_that_refuses},
        {"control requests are retried", test_control_requests_are_retried},
        {"unconfirmed setting", test_unconfirmed_setting},
        {"close", test_close},
        {"close with requests waiting", test_close_with_requests_waiting},
        {"close of a chip without flow control", test_close_of_a_chip_without_flow_control},
        {"close of a silent device", test_close_of_a_silent_device},
        CU_TEST_INFO_NULL,
    };
    CU_TestInfo restore[] = {
        {"restore", test_restore},
        {"reader waits for restore", test_reader_waits_for_restore},
        {"read_all waits for restore", test_read_all_waits_for_restore},
        {"read_all of a lost port", test_read_all_of_a_lost_port},
        {"busy device", test_restore_of_a_busy_device},
        {"another busid", test_restore_at_another_busid},
        {"same busid first", test_restore_prefers_the_same_busid},
        {"another device", test_restore_refuses_another_device},
        {"a neighbour", test_restore_leaves_a_neighbour_alone},
        {"among many", test_restore_among_many},
        {"restart of the server", test_restore_after_a_restart_of_the_server},
        {"off", test_no_restore},
        {"unconfirmed write is told once", test_unconfirmed_write_is_told_once},
        {"setting while restoring", test_setting_while_restoring},
        {"impossible setting while restoring", test_impossible_setting_while_restoring},
        {"loss while setting", test_loss_while_setting},
        {"loss while writing", test_loss_while_writing},
        {"free at any time", test_free_at_any_time},
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {
        {"port: opening", NULL, NULL, NULL, NULL, opening},
        {"port: data", NULL, NULL, NULL, NULL, data},
        {"port: errors, settings, closing", NULL, NULL, NULL, NULL, errors},
        {"port: restore", NULL, NULL, NULL, NULL, restore},
        CU_SUITE_INFO_NULL,
    };
    return run_suites(suites);
}
