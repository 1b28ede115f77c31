/*
 * A session with a device in Lua is recorded, the recording is replayed, and the same session is
 * held with that:
 *     replay_test EMULATOR ECHO_ACM_SCRIPT ECHO_FTDI_SCRIPT ECHO_FT2232H_SCRIPT
 * The replay must find nothing amiss, and its recording must equal the first but for times.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/port.h"
#include "emulator/capture/capture.h"
#include "emulator/capture/chip.h"
#include "emulator/capture/description.h"
#include "protocol/buffer.h"
#include "protocol/ftdi.h"
#include "tests/support/emulator_process.h"
#include "tests/support/testing.h"

enum { TIMEOUT_MS = 20000, BLOCK_SIZE = 5000, PATH_SIZE = 512 };

static const char *program;
static char *const *scripts;

static char *path_of(const char *name)
{
    static char paths[4][PATH_SIZE];
    static unsigned next;
    char *path = paths[next++ % 4];
    const char *folder = getenv("TEST_TMPDIR");
    snprintf(path, PATH_SIZE, "%s/%s", folder ? folder : "/tmp", name);
    return path;
}

/* ---- The session ---- */

static void exchange(struct usbip_port *port, const char *data, int size)
{
    static char back[BLOCK_SIZE];
    CU_ASSERT_EQUAL(usbip_port_write_all(port, data, (size_t)size, TIMEOUT_MS), size);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, back, (size_t)size, TIMEOUT_MS), size);
    CU_ASSERT_EQUAL(memcmp(back, data, (size_t)size), 0);
}

static void hold_session(const char *address, unsigned chip_port, uint32_t rate)
{
    const struct usbip_line_coding coding = {rate, USBIP_STOP_1, USBIP_PARITY_EVEN, 8};
    char block[BLOCK_SIZE];
    for (int i = 0; i < BLOCK_SIZE; i++)
        block[i] = (char)(i * 7 + i / 256);
    struct usbip_port *port = usbip_port_new(address, "1-1");
    REQUIRE(port != NULL && usbip_port_set_chip_port(port, chip_port) == 0);
    int opened = usbip_port_open(port, TIMEOUT_MS);
    if (opened < 0)
        fprintf(stderr, "open: %s\n", usbip_port_error_text(port));
    REQUIRE(opened == 0);
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, TIMEOUT_MS), 0);
    exchange(port, "hello\n", 6);
    exchange(port, block, BLOCK_SIZE);
    CU_ASSERT_EQUAL(usbip_port_set_break(port, true, TIMEOUT_MS), 0);
    CU_ASSERT_EQUAL(usbip_port_set_break(port, false, TIMEOUT_MS), 0);
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_DTR, TIMEOUT_MS), 0);
    exchange(port, "bye\n", 4);
    usbip_port_close(port);
    usbip_port_free(port);
}

/* `count` sessions, one after the other. Returns the emulator's exit status. */
static int serve_sessions(char *device, char *recording, char *report, unsigned count,
                          unsigned chip_port, uint32_t rate)
{
    struct emulator_process emulator;
    char record_option[] = "--record", report_option[] = "--divergence";
    char import_option[] = "--at-import", restart[] = "restart", go_on[] = "continue";
    char *arguments[] = {record_option, recording,     report_option,
                         report,        import_option, count > 1 ? go_on : restart,
                         device};
    REQUIRE(emulator_start(&emulator, program, "127.0.0.1:0", arguments, 7));
    for (unsigned i = 0; i < count; i++)
        hold_session(emulator.address, chip_port, rate);
    return emulator_stop(&emulator);
}

/* ---- Recordings, compared ---- */

/* What passed on one endpoint, without time and without how it was cut. */
struct traffic {
    struct usbip_buffer bytes;
};

static void add(struct traffic *traffic, const void *bytes, size_t size)
{
    uint8_t *room = usbip_buffer_reserve(&traffic->bytes, size + 1);
    REQUIRE(room != NULL);
    if (size > 0)
        memcpy(room, bytes, size);
    traffic->bytes.size += size;
}

static void add_transfer(struct traffic *traffic, const struct usbip_capture_transfer *transfer,
                         const struct usbip_chip *chip)
{
    bool packets = chip->family == USBIP_CHIP_FTDI && transfer->type == USB_ENDPOINT_XFER_BULK &&
                   usbip_transfer_is_in(transfer);
    if (transfer->flags & USBIP_TRANSFER_HAS_SETUP) {
        add(traffic, transfer->setup, sizeof transfer->setup);
        add(traffic, &transfer->status, sizeof transfer->status);
        add(traffic, &transfer->size, sizeof transfer->size);
    }
    for (uint32_t at = 0; packets && at < transfer->size; at += chip->packet_size) {
        uint32_t rest = transfer->size - at;
        uint32_t packet = rest < chip->packet_size ? rest : chip->packet_size;
        add(traffic, transfer->data + at + FTDI_STATUS_SIZE, packet - FTDI_STATUS_SIZE);
    }
    if (!packets)
        add(traffic, transfer->data, transfer->size);
}

static void collect(const char *path, struct traffic traffic[USBIP_CAPTURE_ENDPOINTS],
                    struct usbip_description *description)
{
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    struct usbip_capture *capture = usbip_capture_load(path, error_text);
    if (!capture)
        fprintf(stderr, "%s\n", error_text);
    REQUIRE(capture != NULL && capture->device_count == 1);
    REQUIRE(usbip_describe(capture, 0, NULL, description, error_text) == 0);
    const struct usbip_chip *chip = capture->devices[0].chip;
    REQUIRE(chip != NULL);
    for (uint32_t i = 0; i < capture->transfer_count; i++) {
        const struct usbip_capture_transfer *transfer = &capture->transfers[i];
        bool in = usbip_transfer_is_in(transfer), control = transfer->type == 0;
        unsigned index = control ? 0 : (transfer->endpoint & 0x0fu) + (in ? 16 : 0);
        if (!(transfer->flags & USBIP_TRANSFER_UNLINKED))
            add_transfer(&traffic[index], transfer, chip);
    }
    usbip_capture_free(capture);
}

static void compare(const char *a, const char *b)
{
    struct traffic first[USBIP_CAPTURE_ENDPOINTS] = {0}, second[USBIP_CAPTURE_ENDPOINTS] = {0};
    struct usbip_description described, again;
    size_t total = 0;
    collect(a, first, &described);
    collect(b, second, &again);
    CU_ASSERT_EQUAL(memcmp(&described.device, &again.device, sizeof described.device), 0);
    CU_ASSERT(described.configuration_size == again.configuration_size &&
              memcmp(described.configuration, again.configuration, again.configuration_size) == 0);
    for (unsigned i = 0; i < USBIP_CAPTURE_ENDPOINTS; i++) {
        const struct usbip_buffer *x = &first[i].bytes, *y = &second[i].bytes;
        bool same = x->size == y->size && (x->size == 0 || memcmp(x->data, y->data, x->size) == 0);
        if (!same)
            fprintf(stderr, "endpoint %u: %zu bytes were recorded, and %zu of the replay\n", i,
                    x->size, y->size);
        CU_ASSERT(same);
        total += x->size;
        usbip_buffer_free(&first[i].bytes);
        usbip_buffer_free(&second[i].bytes);
    }
    CU_ASSERT(total > 2 * BLOCK_SIZE); /* there was something to compare */
    usbip_description_free(&described);
    usbip_description_free(&again);
}

static json_int_t divergences_of(const char *report)
{
    json_t *json = json_load_file(report, 0, NULL);
    REQUIRE(json != NULL);
    json_int_t count = json_integer_value(json_object_get(json, "divergences"));
    json_decref(json);
    return count;
}

static void round_trip(char *script, unsigned sessions, unsigned chip_port)
{
    char *recorded = path_of("recorded.pcapng"), *replayed = path_of("replayed.pcapng");
    char *report = path_of("report.json");
    CU_ASSERT_EQUAL(serve_sessions(script, recorded, report, sessions, chip_port, 9600), 0);
    CU_ASSERT_EQUAL(serve_sessions(recorded, replayed, report, sessions, chip_port, 9600), 0);
    CU_ASSERT_EQUAL(divergences_of(report), 0);
    compare(recorded, replayed);
    /* Another line coding than recorded. */
    CU_ASSERT_EQUAL(serve_sessions(recorded, replayed, report, sessions, chip_port, 19200), 3);
    CU_ASSERT(divergences_of(report) > 0);
}

static void test_acm(void)
{
    round_trip(scripts[0], 1, 1);
}

static void test_ftdi(void)
{
    round_trip(scripts[1], 1, 1);
}

static void test_ftdi_with_two_ports(void)
{
    round_trip(scripts[2], 1, 1);
    round_trip(scripts[2], 1, 2);
}

static void test_two_sessions(void)
{
    round_trip(scripts[0], 2, 1);
    round_trip(scripts[1], 2, 1);
    round_trip(scripts[2], 2, 2);
}

int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"CDC-ACM", test_acm},
        {"FTDI", test_ftdi},
        {"FTDI with two ports", test_ftdi_with_two_ports},
        {"two sessions", test_two_sessions},
        CU_TEST_INFO_NULL,
    };
    if (argc != 5) {
        fprintf(stderr, "usage: %s EMULATOR ECHO_ACM_SCRIPT ECHO_FTDI_SCRIPT ECHO_FT2232H_SCRIPT\n",
                argv[0]);
        return EXIT_FAILURE;
    }
    program = argv[1];
    scripts = argv + 2;
    return run_tests("replay", tests);
}
