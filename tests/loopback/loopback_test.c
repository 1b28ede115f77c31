/*
 * The emulator as a process, the client over TCP:
 *     loopback_test EMULATOR REPLUG_SCRIPT ECHO_ACM_SCRIPT ECHO_FTDI_SCRIPT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/port.h"
#include "protocol/usb.h"
#include "tests/support/emulator_process.h"
#include "tests/support/testing.h"

enum { TIMEOUT_MS = 20000, SCRIPTS = 3 };

static const char *program;
static char *const *scripts;
static struct emulator_process emulator;

/* ---- Helpers ---- */

static struct usbip_port *new_port(const char *device)
{
    struct usbip_port *port = usbip_port_new(emulator.address, device);
    REQUIRE(port != NULL);
    return port;
}

static struct usbip_port *open_port(const char *device)
{
    struct usbip_port *port = new_port(device);
    int result = usbip_port_open(port, TIMEOUT_MS);
    if (result < 0)
        fprintf(stderr, "open %s: %s\n", device, usbip_port_error_text(port));
    REQUIRE(result == 0);
    return port;
}

static void close_port(struct usbip_port *port)
{
    usbip_port_close(port);
    usbip_port_free(port);
}

static bool echoes(struct usbip_port *port, const char *text)
{
    char back[128];
    int size = (int)strlen(text);
    if (usbip_port_write_all(port, text, (size_t)size, TIMEOUT_MS) != size ||
        usbip_port_read_all(port, back, (size_t)size, TIMEOUT_MS) != size) {
        fprintf(stderr, "echo: %s\n", usbip_port_error_text(port));
        return false;
    }
    return memcmp(text, back, (size_t)size) == 0;
}

/* A client of no manners: a plain socket. */
static int connect_raw(void)
{
    const char *colon = strrchr(emulator.address, ':');
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(colon + 1)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(fd >= 0);
    REQUIRE(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void send_raw(int fd, const void *data, size_t size)
{
    REQUIRE(send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size);
}

/* Reads until the server closes. Returns the number of bytes, or -1 after a time-out. */
static ssize_t read_to_end(int fd, uint8_t *data, size_t capacity)
{
    size_t size = 0;
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (poll(&poll_fd, 1, TIMEOUT_MS) <= 0)
            return -1;
        ssize_t got = recv(fd, data + size, capacity - size, 0);
        if (got <= 0)
            return (ssize_t)size;
        size += (size_t)got;
    }
}

static void import_raw(int fd, const char *busid)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE], reply[USBIP_IMPORT_REPLY_SIZE];
    REQUIRE(usbip_encode_import_request(request, busid) == 0);
    send_raw(fd, request, sizeof request);
    REQUIRE(recv(fd, reply, sizeof reply, MSG_WAITALL) == (ssize_t)sizeof reply);
}

/* For the device with busid "1-<devnum>". */
static struct usbip_header submit_header(uint32_t devnum, uint32_t ep, uint32_t direction,
                                         uint32_t length)
{
    return (struct usbip_header){
        .command = USBIP_CMD_SUBMIT,
        .seqnum = 5,
        .devid = 1 << 16 | devnum,
        .direction = direction,
        .ep = ep,
        .cmd_submit.transfer_buffer_length = length,
    };
}

/* ---- Restore ---- */

static void test_port_survives_a_replug(void)
{
    struct usbip_port *port = open_port("1-1");
    struct usbip_line_coding coding;
    usbip_parse_line_coding("19200 7O1", &coding);
    CU_ASSERT_EQUAL(usbip_port_set_line_coding(port, &coding, TIMEOUT_MS), 0);
    CU_ASSERT_EQUAL(usbip_port_set_control_lines(port, USBIP_LINE_DTR, TIMEOUT_MS), 0);
    CU_ASSERT(emulator_saw(&emulator, "1-1: DTR 1 RTS 0"));
    CU_ASSERT(echoes(port, "before"));

    CU_ASSERT(usbip_port_write(port, "unplug", 6, TIMEOUT_MS) == 6);
    CU_ASSERT(emulator_saw(&emulator, "unplugged"));
    /* The device never confirmed these six bytes, which is told once. */
    CU_ASSERT_EQUAL(usbip_port_drain(port, TIMEOUT_MS), USBIP_ERROR_DISCONNECTED);
    while (usbip_port_process(port) == 0 && usbip_port_restore_count(port) == 0) {
        struct pollfd poll_fd = {.fd = usbip_port_fd(port), .events = POLLIN};
        if (usbip_port_events(port) & USBIP_EVENT_WRITE)
            poll_fd.events |= POLLOUT;
        poll(&poll_fd, 1, (int)usbip_port_timeout_ms(port));
    }
    CU_ASSERT_EQUAL(usbip_port_restore_count(port), 1);
    CU_ASSERT(emulator_saw(&emulator, "1-1: line coding 19200 7O1"));
    CU_ASSERT(emulator_saw(&emulator, "1-1: DTR 1 RTS 0"));
    CU_ASSERT(echoes(port, "after"));
    usbip_port_close(port);
    CU_ASSERT_EQUAL(usbip_port_open(port, TIMEOUT_MS), 0); /* closed is free, at once */
    close_port(port);
}

static void test_without_restore_the_loss_is_told(void)
{
    struct usbip_port *port = open_port("1-1");
    char byte;
    usbip_port_set_restore(port, false, 0);
    CU_ASSERT(usbip_port_write(port, "unplug", 6, TIMEOUT_MS) == 6);
    CU_ASSERT_EQUAL(usbip_port_read(port, &byte, 1, TIMEOUT_MS), USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "1-1"));
    CU_ASSERT_EQUAL(usbip_port_state(port), USBIP_PORT_CLOSED);
    usbip_port_free(port);
    CU_ASSERT(emulator_saw(&emulator, "1-1: plugged in"));
}

/* ---- Selection ---- */

static void test_open_by_serial_number(void)
{
    struct usbip_port *port = open_port("1209:0003:R-1");
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->busid, "1-1");
    CU_ASSERT_STRING_EQUAL(usbip_port_identity(port)->serial_number, "R-1");
    close_port(port);
    port = new_port("1209:0003:R-2");
    CU_ASSERT_EQUAL(usbip_port_open(port, TIMEOUT_MS), USBIP_ERROR_NOT_FOUND);
    close_port(port);
}

static void test_open_all_of_several_ids(void)
{
    static const char *const ids[] = {"1209:0001", "0403:6001", "ffff:ffff"};
    struct usbip_port *ports[4];
    char error_text[USBIP_ERROR_TEXT_SIZE];
    int count = usbip_port_open_all(emulator.address, ids, 3, ports, 4, TIMEOUT_MS, error_text);
    CU_ASSERT_EQUAL(count, 2);
    for (int i = 0; i < count; i++) {
        CU_ASSERT(echoes(ports[i], "each on its own"));
        close_port(ports[i]);
    }
}

static void test_unknown_and_busy(void)
{
    struct usbip_port *port = new_port("9-9");
    CU_ASSERT_EQUAL(usbip_port_open(port, TIMEOUT_MS), USBIP_ERROR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), "9-9"));
    close_port(port);
    struct usbip_port *first = open_port("1-2");
    struct usbip_port *second = new_port("1-2");
    CU_ASSERT_EQUAL(usbip_port_open(second, TIMEOUT_MS), USBIP_ERROR_BUSY);
    CU_ASSERT(echoes(first, "undisturbed"));
    close_port(second);
    close_port(first);
}

/* ---- Clients that do wrong, and others that must not feel it ---- */

struct wrong {
    const char *name;
    const void *bytes;
    size_t size;
    bool imported;   /* sent on an imported connection */
    bool half_open;  /* then the client closes its side */
    const char *log; /* what the emulator says */
};

static void run_wrong(const struct wrong *wrong, struct usbip_port *other)
{
    uint8_t reply[1024];
    int fd = connect_raw();
    if (wrong->imported)
        import_raw(fd, "1-2");
    send_raw(fd, wrong->bytes, wrong->size);
    if (wrong->half_open)
        shutdown(fd, SHUT_WR);
    ssize_t size = read_to_end(fd, reply, sizeof reply);
    close(fd);
    if (size != 0)
        fprintf(stderr, "%s: the server sent %zd bytes\n", wrong->name, size);
    CU_ASSERT_EQUAL(size, 0);
    if (!emulator_saw(&emulator, wrong->log)) {
        fprintf(stderr, "%s: the emulator did not say \"%s\"\n", wrong->name, wrong->log);
        CU_FAIL("the emulator says what was wrong");
    }
    CU_ASSERT(echoes(other, wrong->name));
    if (wrong->imported)
        CU_ASSERT(emulator_saw(&emulator, "1-2: detached"));
}

static void test_wrong_clients_disturb_nobody(void)
{
    static const uint8_t wrong_version[] = {0x01, 0x06, 0x80, 0x05, 0, 0, 0, 0};
    static const uint8_t unknown_code[] = {0x01, 0x11, 0x80, 0x07, 0, 0, 0, 0};
    static const uint8_t truncated[] = {0x01, 0x11, 0x80, 0x03};
    uint8_t huge[USBIP_HEADER_SIZE], cut[USBIP_HEADER_SIZE], other_device[USBIP_HEADER_SIZE];
    struct usbip_header header = submit_header(2, 1, USBIP_DIR_OUT, UINT32_MAX);
    usbip_encode_header(huge, &header);
    header = submit_header(2, 1, USBIP_DIR_OUT, 8);
    usbip_encode_header(cut, &header);
    header.devid ^= 1;
    usbip_encode_header(other_device, &header);
    const struct wrong wrongs[] = {
        {"version", wrong_version, 8, false, false, "protocol version 0x0106"},
        {"code", unknown_code, 8, false, false, "request 0x8007"},
        {"truncated request", truncated, 4, false, true, "in the middle of a PDU, after 4 bytes"},
        {"length", huge, sizeof huge, true, false, "transfer_buffer_length 4294967295 is above"},
        {"truncated URB", cut, sizeof cut, true, true, "in the middle of a PDU, after 48 bytes"},
        {"devid", other_device, sizeof other_device, true, false, "devid is not that of"},
    };
    struct usbip_port *other = open_port("1-3");
    for (unsigned i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++)
        run_wrong(&wrongs[i], other);
    close_port(other);
}

static void test_a_client_that_resets_in_mid_payload(void)
{
    struct usbip_port *other = open_port("1-3");
    struct usbip_header header = submit_header(2, 1, USBIP_DIR_OUT, 1000);
    uint8_t bytes[USBIP_HEADER_SIZE + 100] = {0};
    usbip_encode_header(bytes, &header);
    int fd = connect_raw();
    import_raw(fd, "1-2");
    send_raw(fd, bytes, sizeof bytes);
    struct linger reset = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    CU_ASSERT(emulator_saw(&emulator, "1-2: detached"));
    CU_ASSERT(echoes(other, "still here"));
    close_port(other);
    close_port(open_port("1-2"));
}

static void test_a_log_that_nobody_reads(void)
{
    enum { REFUSALS = 3000 }; /* each logs a line; a pipe takes 64 KiB */
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE], reply[USBIP_OP_COMMON_SIZE];
    REQUIRE(usbip_encode_import_request(request, "9-9") == 0);
    for (int i = 0; i < REFUSALS; i++) {
        int fd = connect_raw();
        send_raw(fd, request, sizeof request);
        REQUIRE(recv(fd, reply, sizeof reply, MSG_WAITALL) == (ssize_t)sizeof reply);
        close(fd);
    }
    struct usbip_port *port = open_port("1-2");
    CU_ASSERT(echoes(port, "serves all the same"));
    CU_ASSERT(emulator_saw(&emulator, "\"9-9\" refused")); /* makes room in the pipe */
    close_port(port);
    CU_ASSERT(emulator_saw(&emulator, "lines of the log were dropped"));
    CU_ASSERT(emulator_saw(&emulator, "1-2: detached"));
}

/* Asks for descriptors until neither side takes any more. */
static void flood(int fd)
{
    struct usbip_header header = submit_header(1, 0, USBIP_DIR_IN, USB_DT_DEVICE_SIZE);
    const struct usbip_setup setup = {USB_DIR_IN, USB_REQ_GET_DESCRIPTOR, USB_DT_DEVICE << 8, 0,
                                      USB_DT_DEVICE_SIZE};
    uint8_t bytes[USBIP_HEADER_SIZE];
    usbip_encode_setup(header.cmd_submit.setup, &setup);
    usbip_encode_header(bytes, &header);
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    size_t at = 0; /* of the header that is being sent */
    while (poll(&writable, 1, 100) > 0) {
        ssize_t sent = send(fd, bytes + at, sizeof bytes - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            return;
        if (sent > 0)
            at = (at + (size_t)sent) % sizeof bytes;
    }
}

static void submit_control(int fd, uint8_t bmRequestType, uint8_t bRequest, uint16_t wValue)
{
    struct usbip_header header = submit_header(1, 0, USBIP_DIR_OUT, 0);
    const struct usbip_setup setup = {bmRequestType, bRequest, wValue, 0, 0};
    uint8_t bytes[USBIP_HEADER_SIZE];
    usbip_encode_setup(header.cmd_submit.setup, &setup);
    usbip_encode_header(bytes, &header);
    send_raw(fd, bytes, sizeof bytes);
}

static void test_unplugged_from_a_client_that_does_not_read(void)
{
    static const char order[] = "unplug later";
    struct usbip_header header = submit_header(1, 1, USBIP_DIR_OUT, sizeof order - 1);
    uint8_t bytes[USBIP_HEADER_SIZE];
    int fd = connect_raw();
    import_raw(fd, "1-1");
    submit_control(fd, 0, USB_REQ_SET_CONFIGURATION, 1);
    usbip_encode_header(bytes, &header);
    send_raw(fd, bytes, sizeof bytes);
    send_raw(fd, order, sizeof order - 1);
    flood(fd);
    CU_ASSERT(emulator_saw(&emulator, "1-1: detached"));
    CU_ASSERT(emulator_saw(&emulator, "1-1: plugged in"));
    close(fd);
}

/* ---- A server that goes ---- */

static void test_server_gone_in_mid_transfer(void)
{
    struct usbip_port *port = open_port("1-2");
    char byte;
    usbip_port_set_restore(port, false, 0);
    CU_ASSERT(echoes(port, "alive"));
    emulator_kill(&emulator);
    CU_ASSERT_EQUAL(usbip_port_read(port, &byte, 1, TIMEOUT_MS), USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(usbip_port_error_text(port), emulator.address));
    close_port(port);
    CU_ASSERT_EQUAL(emulator_stop(&emulator), -1);
}

static void test_ipv6(void)
{
    REQUIRE(emulator_start(&emulator, program, "[::1]:0", scripts, SCRIPTS));
    struct usbip_port *port = open_port("1-2");
    CU_ASSERT(echoes(port, "over IPv6"));
    close_port(port);
    CU_ASSERT_EQUAL(emulator_stop(&emulator), 0);
}

static void test_start(void)
{
    REQUIRE(emulator_start(&emulator, program, "127.0.0.1:0", scripts, SCRIPTS));
}

int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"the emulator starts", test_start},
        {"a port survives a re-plug", test_port_survives_a_replug},
        {"without restore the loss is told", test_without_restore_the_loss_is_told},
        {"open by serial number", test_open_by_serial_number},
        {"open all of several ids", test_open_all_of_several_ids},
        {"unknown and busy devices are refused", test_unknown_and_busy},
        {"wrong clients disturb nobody", test_wrong_clients_disturb_nobody},
        {"a client that resets in mid-payload", test_a_client_that_resets_in_mid_payload},
        {"unplugged from a client that does not read",
         test_unplugged_from_a_client_that_does_not_read},
        {"a log that nobody reads", test_a_log_that_nobody_reads},
        {"the server is gone in mid-transfer", test_server_gone_in_mid_transfer},
        {"IPv6", test_ipv6},
        CU_TEST_INFO_NULL,
    };
    if (argc != 2 + SCRIPTS) {
        fprintf(stderr, "usage: loopback_test EMULATOR REPLUG ECHO_ACM ECHO_FTDI\n");
        return 2;
    }
    program = argv[1];
    scripts = argv + 2;
    return run_tests("loopback", tests);
}
