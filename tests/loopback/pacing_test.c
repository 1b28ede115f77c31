/*
 * Paced lines in real time: half a second of bytes at 115200 8N1, each way.
 *     pacing_test EMULATOR PACED_ACM_SCRIPT PACED_FTDI_SCRIPT
 *
 * The time is never too short by more than a hundredth. How much longer it takes depends on who
 * else runs; a line whose rate hangs on the timers' milliseconds would need at least twice the
 * time.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/port.h"
#include "tests/support/emulator_process.h"
#include "tests/support/testing.h"

enum {
    SCRIPTS = 2,
    TIMEOUT_MS = 20000,
    BYTES = 5760, /* as in paced_far_end.lua */
    EXPECTED_MS = 500,
    LEAST_MS = 495,
    MOST_MS = 900,
};

static const char *program;
static char *const *scripts;
static struct emulator_process emulator;

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static struct usbip_port *open_port(const char *device)
{
    const struct usbip_line_coding coding = {115200, USBIP_STOP_1, USBIP_PARITY_NONE, 8};
    struct usbip_port *port = usbip_port_new(emulator.address, device);
    REQUIRE(port != NULL);
    int result = usbip_port_open(port, TIMEOUT_MS);
    if (result == 0)
        result = usbip_port_set_line_coding(port, &coding, TIMEOUT_MS);
    if (result < 0)
        fprintf(stderr, "open %s: %s\n", device, usbip_port_error_text(port));
    REQUIRE(result == 0);
    return port;
}

static bool took_its_time(const char *what, const char *device, long long ms)
{
    printf("%s %s: %lld ms for %d\n", device, what, ms, EXPECTED_MS);
    return ms >= LEAST_MS && ms <= MOST_MS;
}

static void exchange(const char *device)
{
    static char bytes[BYTES];
    char answer;
    struct usbip_port *port = open_port(device);
    long long began_ms = now_ms();
    CU_ASSERT_EQUAL(usbip_port_write_all(port, "g", 1, TIMEOUT_MS), 1);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, bytes, BYTES, TIMEOUT_MS), BYTES);
    CU_ASSERT(took_its_time("to the host", device, now_ms() - began_ms));
    memset(bytes, 'y', sizeof bytes);
    began_ms = now_ms();
    CU_ASSERT_EQUAL(usbip_port_write_all(port, bytes, BYTES, TIMEOUT_MS), BYTES);
    CU_ASSERT_EQUAL(usbip_port_read_all(port, &answer, 1, TIMEOUT_MS), 1);
    CU_ASSERT(took_its_time("from the host", device, now_ms() - began_ms));
    usbip_port_close(port);
    usbip_port_free(port);
}

static void test_cdc_acm(void)
{
    exchange("1-1");
}

static void test_ftdi(void)
{
    exchange("1-2");
}

int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"CDC-ACM", test_cdc_acm},
        {"FTDI", test_ftdi},
        CU_TEST_INFO_NULL,
    };
    if (argc != 2 + SCRIPTS) {
        fprintf(stderr, "usage: pacing_test EMULATOR PACED_ACM PACED_FTDI\n");
        return 2;
    }
    program = argv[1];
    scripts = argv + 2;
    if (!emulator_start(&emulator, program, "127.0.0.1:0", scripts, SCRIPTS))
        return EXIT_FAILURE;
    int status = run_tests("pacing", tests);
    return emulator_stop(&emulator) == 0 ? status : EXIT_FAILURE;
}
