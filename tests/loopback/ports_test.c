/*
 * The two ports of an emulated FT2232H, over TCP:
 *     ports_test EMULATOR USBIP_SERIAL TWO_PORTS_SCRIPT ECHO_FTDI_SCRIPT CAPTURE
 * The last is what Linux's ftdi_sio did with both ports of one.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/port.h"
#include "protocol/ftdi.h"
#include "tests/support/emulator_process.h"
#include "tests/support/testing.h"

enum { TIMEOUT_MS = 20000, SCRIPTS = 2, BLOCK_SIZE = 100000, PACKET_SIZE = 512 };

static const char *program, *tool;
static char *capture;
static char *const *scripts;
static struct emulator_process emulator;

/* ---- Helpers ---- */

static struct usbip_port *new_port(const char *device, unsigned number)
{
    struct usbip_port *port = usbip_port_new(emulator.address, device);
    REQUIRE(port != NULL);
    REQUIRE(usbip_port_set_chip_port(port, number) == 0);
    return port;
}

static struct usbip_port *open_port(unsigned number)
{
    struct usbip_port *port = new_port("1-1", number);
    int result = usbip_port_open(port, TIMEOUT_MS);
    if (result < 0)
        fprintf(stderr, "open: %s\n", usbip_port_error_text(port));
    REQUIRE(result == 0);
    return port;
}

static void close_port(struct usbip_port *port)
{
    usbip_port_close(port);
    usbip_port_free(port);
}

static bool answers(struct usbip_port *port, const char *text, const char *answer)
{
    char back[128];
    int size = (int)strlen(text);
    if (usbip_port_write_all(port, text, (size_t)size, TIMEOUT_MS) != size ||
        usbip_port_read_all(port, back, (size_t)size, TIMEOUT_MS) != size) {
        fprintf(stderr, "%s: %s\n", text, usbip_port_error_text(port));
        return false;
    }
    return memcmp(answer, back, (size_t)size) == 0;
}

/* ---- One port at a time ---- */

static void test_each_port(void)
{
    struct usbip_port *port = open_port(1);
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->chip, "FT2232H");
    CU_ASSERT_EQUAL(usbip_port_identity(port)->speed, USBIP_SPEED_HIGH);
    CU_ASSERT(emulator_saw(&emulator, "1-1: port 1: line coding 115200 8N1"));
    CU_ASSERT(emulator_saw(&emulator, "1-1: port 1: DTR 1 RTS 1"));
    CU_ASSERT(answers(port, "Hello", "HELLO"));
    close_port(port);
    CU_ASSERT(emulator_saw(&emulator, "1-1: port 1: DTR 0 RTS 0"));

    port = open_port(2);
    CU_ASSERT(emulator_saw(&emulator, "1-1: port 2: DTR 1 RTS 1"));
    CU_ASSERT(answers(port, "Hello", "hello"));
    close_port(port);
    CU_ASSERT(emulator_saw(&emulator, "1-1: port 2: DTR 0 RTS 0"));
}

static void test_settings_of_the_second_port(void)
{
    static const char *const codings[] = {"300 7E2", "9600 8O1", "250000 8N1", "12000000 8N1"};
    struct usbip_port *port = open_port(2);
    for (size_t i = 0; i < sizeof codings / sizeof codings[0]; i++) {
        struct usbip_line_coding coding;
        char line[64];
        usbip_parse_line_coding(codings[i], &coding);
        CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, TIMEOUT_MS), 0);
        snprintf(line, sizeof line, "1-1: port 2: line coding %s", codings[i]);
        CU_ASSERT(emulator_saw(&emulator, line));
    }
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_RTS, TIMEOUT_MS), 0);
    CU_ASSERT(emulator_saw(&emulator, "1-1: port 2: DTR 0 RTS 1"));
    CU_ASSERT_EQUAL(usbip_port_set_break(port, true, TIMEOUT_MS), 0);
    CU_ASSERT(emulator_saw(&emulator, "1-1: port 2: break on"));
    CU_ASSERT_EQUAL(usbip_port_set_break(port, false, TIMEOUT_MS), 0);
    CU_ASSERT(emulator_saw(&emulator, "1-1: port 2: break off"));
    close_port(port);
}

/* More than a packet, and than a transfer, has: status bytes are where they have to be. */
static void test_much_data(void)
{
    char *sent = malloc(BLOCK_SIZE), *back = malloc(BLOCK_SIZE);
    REQUIRE(sent && back);
    for (int i = 0; i < BLOCK_SIZE; i++)
        sent[i] = (char)('A' + (i * 7 + i / 512) % 26);
    struct usbip_port *port = open_port(2);
    CU_ASSERT_EQUAL(usbip_port_write_all(port, sent, BLOCK_SIZE, TIMEOUT_MS), BLOCK_SIZE);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, back, BLOCK_SIZE, TIMEOUT_MS), BLOCK_SIZE);
    for (int i = 0; i < BLOCK_SIZE; i++)
        sent[i] = (char)tolower(sent[i]);
    CU_ASSERT_EQUAL(memcmp(sent, back, BLOCK_SIZE), 0);
    close_port(port);
    free(sent);
    free(back);
}

/* The port that was open is found again, and not the other one. */
static void test_restore(void)
{
    struct usbip_port *port = open_port(2);
    CU_ASSERT(answers(port, "Before", "before"));
    CU_ASSERT_EQUAL(usbip_port_set_chip_port(port, 1), 0); /* for the next open, not for this */
    CU_ASSERT_EQUAL(usbip_port_write(port, "unplug", 6, TIMEOUT_MS), 6);
    usbip_port_drain(port, TIMEOUT_MS);
    CU_ASSERT(emulator_saw(&emulator, "1-1: plugged in"));
    while (usbip_port_restore_count(port) == 0) {
        char byte;
        REQUIRE(usbip_port_read(port, &byte, 1, 100) >= 0);
    }
    CU_ASSERT(emulator_saw(&emulator, "1-1: port 2: DTR 1 RTS 1"));
    usbip_port_discard_input(port);
    CU_ASSERT(answers(port, "After", "after"));
    usbip_port_close(port);
    CU_ASSERT_EQUAL(usbip_port_open(port, TIMEOUT_MS), 0);
    CU_ASSERT(answers(port, "Opened", "OPENED"));
    close_port(port);
}

/* ---- Both at once ---- */

/* A transfer to or from the second port beside the serial port that has the first. */
struct beside {
    struct usbip_transfer transfer;
    uint8_t buffer[PACKET_SIZE];
    bool over;
};

static void beside_done(struct usbip_transfer *transfer)
{
    struct beside *beside = transfer->user;
    beside->over = true;
}

static void submit_beside(struct usbip_port *port, struct beside *beside, uint8_t endpoint,
                          const struct usbip_setup *setup, uint32_t length)
{
    beside->transfer = (struct usbip_transfer){
        .endpoint = endpoint,
        .type = setup ? USB_ENDPOINT_XFER_CONTROL : USB_ENDPOINT_XFER_BULK,
        .buffer = beside->buffer,
        .length = length,
        .done = beside_done,
        .user = beside,
    };
    if (setup)
        beside->transfer.setup = *setup;
    beside->over = false;
    CU_ASSERT_EQUAL(
        usbip_host_session_submit(usbip_port_session(port), &beside->transfer, usbip_now_ms()), 0);
}

static void await_beside(struct usbip_port *port, struct beside *beside)
{
    while (!beside->over)
        REQUIRE(usbip_port_drain(port, 1) != USBIP_ERROR_DISCONNECTED &&
                usbip_port_process(port) == 0);
}

static void test_both_ports_at_once(void)
{
    const struct usbip_setup set_rate = {
        .bmRequestType = USB_TYPE_VENDOR | USB_RECIP_DEVICE,
        .bRequest = FTDI_SIO_SET_BAUD_RATE,
        .wValue = 0x04e2,
        .wIndex = 0x0202,
    };
    static struct beside in, out, request;
    char received[64] = "";
    struct usbip_port *port = open_port(1);
    submit_beside(port, &request, 0, &set_rate, 0);
    await_beside(port, &request);
    CU_ASSERT_EQUAL(request.transfer.status, 0);
    CU_ASSERT(emulator_saw(&emulator, "1-1: port 2: line coding 9600 8N1"));
    CU_ASSERT_EQUAL(usbip_port_write(port, "First", 5, TIMEOUT_MS), 5);
    memcpy(out.buffer, "Second", 6);
    submit_beside(port, &out, 0x04, NULL, 6);
    while (strlen(received) < 6) {
        submit_beside(port, &in, 0x83, NULL, PACKET_SIZE);
        await_beside(port, &in);
        REQUIRE(in.transfer.status == 0 && in.transfer.actual_length >= FTDI_STATUS_SIZE &&
                in.transfer.actual_length <= 16);
        strncat(received, (char *)in.buffer + FTDI_STATUS_SIZE,
                in.transfer.actual_length - FTDI_STATUS_SIZE);
    }
    CU_ASSERT_STRING_EQUAL(received, "second");
    CU_ASSERT_EQUAL(out.transfer.status, 0);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, received, 5, TIMEOUT_MS), 5);
    CU_ASSERT_EQUAL(memcmp(received, "FIRST", 5), 0);
    CU_ASSERT_EQUAL(usbip_port_bytes_available(port), 0);
    close_port(port);
}

/* ---- Ports that there are not ---- */

static void test_no_such_port(void)
{
    struct usbip_port *port = new_port("1-1", 3);
    CU_ASSERT_EQUAL(usbip_port_open(port, TIMEOUT_MS), USBIP_ERROR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(usbip_port_error_text(port), "there is no port 3: the FT2232H has 2"));
    CU_ASSERT_EQUAL(usbip_port_set_chip_port(port, 0), USBIP_ERROR_ARGUMENT);
    CU_ASSERT_EQUAL(usbip_port_set_chip_port(port, 256), USBIP_ERROR_ARGUMENT);
    /* It is still number 3. */
    CU_ASSERT_EQUAL(usbip_port_open(port, TIMEOUT_MS), USBIP_ERROR_UNSUPPORTED);
    usbip_port_free(port);
    port = new_port("1-2", 2);
    CU_ASSERT_EQUAL(usbip_port_open(port, TIMEOUT_MS), USBIP_ERROR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(usbip_port_error_text(port), "there is no port 2: the FT232R has 1"));
    usbip_port_free(port);
}

/* ---- usbip-serial ---- */

/* Runs `usbip-serial ARGUMENTS`; returns its standard output and error. */
static const char *run_tool(const char *arguments, int *status)
{
    static char output[512];
    char command[1024];
    snprintf(command, sizeof command, "%s --host %s %s 2>&1", tool, emulator.address, arguments);
    FILE *pipe = popen(command, "r");
    REQUIRE(pipe != NULL);
    output[fread(output, 1, sizeof output - 1, pipe)] = '\0';
    *status = pclose(pipe) / 256;
    return output;
}

static void test_tool(void)
{
    int status;
    CU_ASSERT_STRING_EQUAL(run_tool("send --read 1-1 'Hello\\n'", &status), "HELLO\n");
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_STRING_EQUAL(run_tool("send --read --chip-port 2 1-1 'Hello\\n'", &status),
                           "hello\n");
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(run_tool("send --chip-port 3 1-1 x", &status),
                                  "there is no port 3: the FT2232H has 2\n"));
    CU_ASSERT_EQUAL(status, 1);
    CU_ASSERT_STRING_EQUAL(
        run_tool("send --chip-port 0 1-1 x", &status),
        "usbip-serial: --chip-port wants a number from 1, not \"0\"; see usbip-serial --help\n");
    CU_ASSERT_EQUAL(status, 2);
}

/* ---- What Linux's session left ---- */

/* guest_tool's echo: so many bytes that begin anew each time. */
static bool is_pattern(const uint8_t *data, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        if (data[i] != (uint8_t)(i + (i >> 8) * 7))
            return false;
    }
    return true;
}

static void check_recorded(unsigned number, unsigned first, unsigned second)
{
    static uint8_t data[8192];
    struct usbip_port *port = open_port(number);
    int size = (int)(first + second);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, data, (size_t)size, TIMEOUT_MS), size);
    CU_ASSERT(is_pattern(data, first) && is_pattern(data + first, second));
    close_port(port);
}

static void test_recorded_session(void)
{
    char replay[] = "--replay", free_mode[] = "free", match[] = "--match", any[] = "any";
    char *arguments[] = {replay, free_mode, match, any, capture};
    REQUIRE(emulator_start(&emulator, program, "127.0.0.1:0", arguments, 5));
    check_recorded(1, 2000, 2000);
    check_recorded(2, 2000, 3000);
    emulator_stop(&emulator);
}

static void test_start(void)
{
    REQUIRE(emulator_start(&emulator, program, "127.0.0.1:0", scripts, SCRIPTS));
}

static void test_stop(void)
{
    CU_ASSERT_EQUAL(emulator_stop(&emulator), 0);
}

int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"the emulator starts", test_start},
        {"each port", test_each_port},
        {"settings of the second port", test_settings_of_the_second_port},
        {"much data", test_much_data},
        {"restore", test_restore},
        {"both ports at once", test_both_ports_at_once},
        {"no such port", test_no_such_port},
        {"usbip-serial", test_tool},
        {"the emulator ends", test_stop},
        {"what Linux's session left", test_recorded_session},
        CU_TEST_INFO_NULL,
    };
    if (argc != 4 + SCRIPTS) {
        fprintf(stderr, "usage: ports_test EMULATOR USBIP_SERIAL TWO_PORTS ECHO_FTDI CAPTURE\n");
        return 2;
    }
    program = argv[1];
    tool = argv[2];
    scripts = argv + 3;
    capture = argv[3 + SCRIPTS];
    return run_tests("ports", tests);
}
