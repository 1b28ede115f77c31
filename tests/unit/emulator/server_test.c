/* The server and its clients, whatever way it waits for them: `--no-io-uring` is an argument. */
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/cdc.h"
#include "tests/support/testing.h"
#include "tests/unit/emulator/server_fixture.h"

enum {
    SLOW_PAIRS = 8192, /* 32 MiB each way, more than all buffers together */
    SMALL_BUFFER = 16 << 10,
    BURSTS = 20,
    LENT_PAIRS = BURSTS * 100,
};

static struct usbip_source source;

/* ---- Tests ---- */

static void test_devlist(void)
{
    start_server();
    CU_ASSERT_EQUAL(listed_devices(), 2);
    int fd = import(2);
    CU_ASSERT_EQUAL(listed_devices(), 1);
    close(fd);
    stop_server();
}

static void test_two_clients(void)
{
    start_server();
    int first = import(1), second = import(2);
    CU_ASSERT_EQUAL(try_import(1), -1);
    for (int i = 0; i < 100; i++) {
        exchange(first, 1, "first");
        exchange(second, 2, "second one");
    }
    close(first);
    exchange(second, 2, "still there");
    close(second);
    stop_server();
}

/* A request that comes byte by byte. */
static void test_fragments(void)
{
    start_server();
    int fd = connect_client();
    uint8_t request[USBIP_OP_COMMON_SIZE];
    usbip_encode_op_common(request, &(struct usbip_op_common){USBIP_VERSION, OP_REQ_DEVLIST, 0});
    for (size_t i = 0; i < sizeof request; i++)
        send_all(fd, request + i, 1);
    CU_ASSERT_EQUAL(receive_devlist(fd), 2);
    close(fd);
    stop_server();
}

static void test_half_close(void)
{
    start_server();
    int fd = connect_client();
    request_devlist(fd);
    shutdown(fd, SHUT_WR);
    CU_ASSERT_EQUAL(receive_devlist(fd), 2);
    CU_ASSERT_TRUE(is_closed(fd));
    close(fd);
    /* An attached client that closes its side gives the device back. */
    fd = import(1);
    shutdown(fd, SHUT_WR);
    CU_ASSERT_TRUE(is_closed(fd));
    close(import_when_free(1));
    close(fd);
    stop_server();
}

static void test_reset_in_payload(void)
{
    start_server();
    int other = import(2);
    for (int i = 0; i < 20; i++) {
        uint8_t bytes[USBIP_HEADER_SIZE + 100];
        int fd = import_when_free(1);
        memset(bytes, 0, sizeof bytes);
        make_submit(bytes, 1, 2, 1, false, 1 << 20);
        send_all(fd, bytes, sizeof bytes);
        reset_client(fd);
        exchange(other, 2, "undisturbed");
    }
    int fd = import_when_free(1);
    exchange(fd, 1, "as new");
    close(fd);
    close(other);
    stop_server();
}

static void test_protocol_error(void)
{
    start_server();
    int other = import(2), fd = import(1);
    uint8_t bytes[USBIP_HEADER_SIZE] = {0xff};
    send_all(fd, bytes, sizeof bytes);
    CU_ASSERT_TRUE(is_closed(fd));
    exchange(other, 2, "undisturbed");
    close(fd);
    close(import_when_free(1));
    close(other);
    stop_server();
}

static void test_slow_reader(void)
{
    start_server();
    struct slow_client client = {.fd = import(1)};
    int other = import(2);
    make_pairs(&client, SLOW_PAIRS, false);
    send_until_blocked(&client);
    /* The server has stopped reading, instead of keeping everything. */
    CU_ASSERT_FATAL(client.sent < client.output_size);
    for (int i = 0; i < 10; i++)
        exchange(other, 2, "undisturbed");
    finish(&client);
    CU_ASSERT_TRUE(is_echo(&client));
    /* Once more, and gone without reading. */
    client.sent = 0;
    send_until_blocked(&client);
    reset_client(client.fd);
    close(import_when_free(1));
    exchange(other, 2, "undisturbed");
    close(other);
    free(client.output);
    free(client.input);
    stop_server();
}

/*
 * What is lent to the server's output does not fit into the socket as a whole: the rest, from the
 * middle of a payload on, is sent when the client reads, and the next requests have been received
 * where it lay. Each burst of requests is more than the server reads at once.
 */
static void test_lent_to_a_slow_reader(void)
{
    buffer_size = SMALL_BUFFER;
    start_server();
    struct slow_client client = {.fd = import(1)};
    make_pairs(&client, LENT_PAIRS, true);
    for (size_t at = 0; at < client.output_size; at += client.output_size / BURSTS) {
        send_all(client.fd, client.output + at, client.output_size / BURSTS);
        receive_all(client.fd, client.input + at, client.output_size / BURSTS);
    }
    CU_ASSERT_TRUE(is_echo(&client));
    /* Once more, and gone while some of it is on its way. */
    send_until_blocked(&client);
    CU_ASSERT(client.sent < client.output_size);
    reset_client(client.fd);
    close(import_when_free(1));
    free(client.output);
    free(client.input);
    stop_server();
    buffer_size = 0;
}

/* Asks for much at once and reads it later. Returns how many bytes of the source have come. */
static size_t read_source(int fd, uint32_t count, uint32_t size, size_t at)
{
    uint8_t *bytes = malloc(USBIP_HEADER_SIZE + (size_t)size);
    struct usbip_header header;
    REQUIRE(bytes != NULL);
    for (uint32_t i = 0; i < count; i++) {
        make_submit(bytes, 2, 10 + i, 1, true, size);
        send_all(fd, bytes, USBIP_HEADER_SIZE);
    }
    for (uint32_t i = 0; i < count; i++) {
        receive_all(fd, bytes, USBIP_HEADER_SIZE);
        REQUIRE(usbip_decode_header(bytes, &header) == 0);
        CU_ASSERT_EQUAL_FATAL(header.seqnum, 10 + i);
        CU_ASSERT_EQUAL_FATAL(header.ret_submit.status, 0);
        CU_ASSERT_FATAL(header.ret_submit.actual_length <= size);
        receive_all(fd, bytes, header.ret_submit.actual_length);
        size_t wrong = 0;
        for (uint32_t j = 0; j < header.ret_submit.actual_length; j++, at++)
            wrong += bytes[j] != at % USBIP_SOURCE_PERIOD;
        CU_ASSERT_EQUAL_FATAL(wrong, 0);
    }
    free(bytes);
    return at;
}

static void test_slow_reader_of_a_source(void)
{
    others[1] = (struct usbip_behaviour){&usbip_source_ops, &source};
    buffer_size = SMALL_BUFFER;
    start_server();
    int fd = import(2);
    uint8_t bytes[URB_REPLY];
    make_submit(bytes, 2, 2, 0, false, 0);
    usbip_encode_setup(
        bytes + 40, &(struct usbip_setup){0x21, CDC_SET_CONTROL_LINE_STATE, USBIP_LINE_DTR, 0, 0});
    send_all(fd, bytes, sizeof bytes);
    receive_all(fd, bytes, URB_REPLY);
    size_t at = 0;
    for (int i = 0; i < 4; i++) {
        at = read_source(fd, 1000, PIECE, at);
        at = read_source(fd, 100, 100000, at); /* more than the source has at once */
    }
    CU_ASSERT(at > (size_t)8 * USBIP_SESSION_OUTPUT_LIMIT);
    close(fd);
    stop_server();
    others[1] = (struct usbip_behaviour){0};
    buffer_size = 0;
}

/* The echo is the last that is said. */
static bool echo_and_cut(void *context, unsigned chip_port, const uint8_t *data, size_t size)
{
    const struct usbip_echo *echo = context;
    struct usbip_fault_options options;
    char text[USBIP_FAULT_ERROR_SIZE];
    bool well = usbip_echo_ops.data(context, chip_port, data, size) &&
                usbip_fault_options_parse(&options, "close:after=100", text) &&
                usbip_fault_add(&bus.faults, &options, NULL, NULL, text);
    usbip_device_unplug(echo->device);
    return well;
}

/* Our side is closed within a reading; what the client says then is still read, and dropped. */
static void test_lent_and_cut(void)
{
    static const uint8_t more[8 << 20]; /* more than all buffers hold */
    const struct usbip_behaviour_ops ops = {.start = usbip_echo_ops.start, .data = echo_and_cut};
    uint8_t bytes[2 * USBIP_HEADER_SIZE + PIECE] = {0};
    others[0] = (struct usbip_behaviour){&ops, &echoes[0]};
    start_server();
    int fd = import(1);
    make_submit(bytes, 1, 2, 1, true, PIECE);
    make_submit(bytes + USBIP_HEADER_SIZE, 1, 3, 1, false, PIECE);
    memset(bytes + (sizeof bytes - PIECE), 'a', PIECE);
    send_all(fd, bytes, sizeof bytes);
    receive_all(fd, bytes, 100);
    CU_ASSERT_EQUAL(bytes[99], 'a');
    CU_ASSERT_TRUE(is_closed(fd));
    send_all(fd, more, sizeof more);
    close(fd);
    stop_server();
    others[0] = (struct usbip_behaviour){0};
}

/* All at once, each with a device or a list. */
static void test_many_clients(void)
{
    enum { CLIENTS = 200 };
    int fds[CLIENTS];
    start_server();
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = connect_client();
    for (int i = 0; i < CLIENTS; i++)
        request_devlist(fds[i]);
    for (int i = 0; i < CLIENTS; i++) {
        CU_ASSERT_EQUAL(receive_devlist(fds[i]), 2);
        close(fds[i]);
    }
    stop_server();
}

/* Without descriptors left the server refuses clients, and goes on when there are some again. */
static void test_out_of_descriptors(void)
{
    start_server();
    int attached = import(1), refused = socket(AF_INET, SOCK_STREAM, 0);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    int lowest = dup(0);
    close(lowest);
    const struct rlimit low = {.rlim_cur = (rlim_t)lowest, .rlim_max = limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &low);
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    setsockopt(refused, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    CU_ASSERT_EQUAL(connect(refused, (const struct sockaddr *)&address, sizeof address), 0);
    CU_ASSERT_TRUE(is_closed(refused));
    exchange(attached, 1, "undisturbed");
    setrlimit(RLIMIT_NOFILE, &limit);
    CU_ASSERT_EQUAL(listed_devices(), 1);
    close(refused);
    close(attached);
    stop_server();
}

static void test_close_with_clients(void)
{
    start_server();
    int attached = import(1), idle = connect_client();
    struct slow_client client = {.fd = import(2)};
    stop_server();
    CU_ASSERT_TRUE(is_closed(attached));
    CU_ASSERT(recv(idle, &(char){0}, 1, 0) <= 0);
    CU_ASSERT_TRUE(is_closed(client.fd));
    close(attached);
    close(idle);
    close(client.fd);
}

static void test_addresses(void)
{
    static const char *const bad[] = {
        "",
        "localhost",
        "127.0.0.1",
        ":3240",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:123456",
        "::1:3240",
        "[::1:3240",
        "[]:3240",
        "[::1]3240",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        make_server(false);
        CU_ASSERT_EQUAL(usbip_server_listen(server, bad[i], bound, error_text), -1);
        CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "write HOST:PORT or [IPv6]:PORT"));
        usbip_server_close(server);
        uv_run(&loop, UV_RUN_DEFAULT);
        free_server();
    }
    start_server_on("localhost:0");
    CU_ASSERT_EQUAL(listed_devices(), 2);
    stop_server();
}

static void test_ip6(void)
{
    make_server(false);
    port = usbip_server_listen(server, "[::1]:0", bound, error_text);
    /* A machine may have no IPv6; then the error says so. */
    if (port > 0) {
        char expected[64];
        snprintf(expected, sizeof expected, "[::1]:%d", port);
        CU_ASSERT_STRING_EQUAL(bound, expected);
    } else {
        CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "cannot listen on [::1]:0: address"));
    }
    usbip_server_close(server);
    uv_run(&loop, UV_RUN_DEFAULT);
    free_server();
}

static void test_port_in_use(void)
{
    char address[64], expected[128];
    const struct sockaddr_in any = {.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in name = {0};
    socklen_t size = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (const struct sockaddr *)&any, sizeof any), 0);
    CU_ASSERT_EQUAL_FATAL(listen(fd, 1), 0);
    getsockname(fd, (struct sockaddr *)&name, &size);
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(name.sin_port));
    make_server(false);
    CU_ASSERT_EQUAL(usbip_server_listen(server, address, bound, error_text), -1);
    snprintf(expected, sizeof expected, "cannot listen on %s: address already in use", address);
    CU_ASSERT_EQUAL(strncmp(error_text, expected, strlen(expected)), 0);
    usbip_server_close(server);
    uv_run(&loop, UV_RUN_DEFAULT);
    free_server();
    close(fd);
}

/* ---- Faults ---- */

/* Sends a request for a list, with more behind it that the server has not read when it is done. */
static void request_devlist_and_more(int fd)
{
    uint8_t more[1000] = {0};
    request_devlist(fd);
    send_all(fd, more, sizeof more);
}

/* FIN at a byte, and no RST because of what the client has still sent. */
static void test_fault_close(void)
{
    start_server_with(false, (const char *const[]){"close:after=100", NULL});
    for (int i = 0; i < 20; i++) {
        uint8_t bytes[100];
        int fd = connect_client();
        request_devlist_and_more(fd);
        receive_all(fd, bytes, sizeof bytes);
        CU_ASSERT_TRUE(is_closed(fd));
        send_all(fd, bytes, sizeof bytes);
        CU_ASSERT_TRUE(is_closed(fd));
        close(fd);
    }
    stop_server();
    /* With connections that nobody closes. */
    start_server_with(false, (const char *const[]){"close:after=100", NULL});
    int fd = connect_client();
    uint8_t bytes[100];
    request_devlist(fd);
    receive_all(fd, bytes, sizeof bytes);
    CU_ASSERT_TRUE(is_closed(fd));
    stop_server();
    close(fd);
}

static void test_fault_reset(void)
{
    /* Import and configuration pass; then a RET_SUBMIT is cut in its header. */
    start_server_with(false, (const char *const[]){"reset:after=378,device=1-1", NULL});
    int other = import(2);
    for (int i = 0; i < 20; i++) {
        uint8_t bytes[USBIP_HEADER_SIZE];
        int fd = import_when_free(1);
        make_submit(bytes, 1, 2, 1, false, 0);
        send_all(fd, bytes, sizeof bytes);
        receive_all(fd, bytes, 378 - USBIP_IMPORT_REPLY_SIZE - URB_REPLY);
        CU_ASSERT_EQUAL(recv(fd, bytes, 1, 0), -1);
        CU_ASSERT_EQUAL(errno, ECONNRESET);
        close(fd);
        exchange(other, 2, "undisturbed");
    }
    close(other);
    stop_server();
}

static void test_fault_fragment(void)
{
    start_server_with(false, (const char *const[]){"fragment:size=1", NULL});
    int fd = import(1);
    for (int i = 0; i < 20; i++)
        exchange(fd, 1, "in many pieces");
    close(fd);
    stop_server();
    /* A pause after each: what comes first is one piece. */
    start_server_with(true, (const char *const[]){"fragment:size=7,ms=100", NULL});
    fd = connect_client();
    request_devlist(fd);
    CU_ASSERT_EQUAL(receive_devlist(fd), DEVICES);
    CU_ASSERT_TRUE(is_closed(fd));
    close(fd);
    stop_server();
    const uint64_t pieces = (12 + DEVICES * (USBIP_DEVICE_RECORD_SIZE + 8) + 6) / 7;
    CU_ASSERT(scheduler.now_us >= (pieces - 1) * 100000);
}

/* A reply that is due in an hour, in virtual time; the list's connection waits for its own. */
static void test_fault_delay(void)
{
    start_server_with(true, (const char *const[]){"delay:ms=3600000", NULL});
    int fd = import(1);
    exchange(fd, 1, "late");
    CU_ASSERT_EQUAL(listed_devices(), DEVICES - 1);
    close(fd);
    stop_server();
    /* Import, configuration, the two of the exchange at once, the list. */
    CU_ASSERT(scheduler.now_us >= UINT64_C(4) * 3600000000);
}

/* What a client gets that sends the same requests, each when the one before is answered. */
static void receive_with_seed(uint64_t with, uint8_t bytes[], unsigned rounds)
{
    const uint32_t round_size = 2 * URB_REPLY + 16;
    seed = with;
    start_server_with(true, (const char *const[]){"zero_data:chance=50,device=1-1",
                                                  "delay:ms=1,jitter=1000,chance=50",
                                                  "fragment:size=5", NULL});
    int fd = import(1);
    for (uint32_t i = 0; i < rounds; i++) {
        uint8_t request[2 * USBIP_HEADER_SIZE + 16];
        memset(request, 'a', sizeof request);
        make_submit(request, 1, 2 * i + 2, 1, true, 64);
        make_submit(request + USBIP_HEADER_SIZE, 1, 2 * i + 3, 1, false, 16);
        send_all(fd, request, sizeof request);
        receive_all(fd, bytes + i * round_size, round_size);
    }
    close(fd);
    stop_server();
    seed = 1;
}

static void test_fault_seed(void)
{
    enum { ROUNDS = 40, SIZE = ROUNDS * (2 * URB_REPLY + 16) };
    static uint8_t first[SIZE], again[SIZE], other[SIZE];
    receive_with_seed(7, first, ROUNDS);
    receive_with_seed(7, again, ROUNDS);
    receive_with_seed(8, other, ROUNDS);
    CU_ASSERT_EQUAL(memcmp(first, again, SIZE), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(first, other, SIZE), 0);
}

static void test_fault_stop_reading(void)
{
    start_server_with(false,
                      (const char *const[]){"stop_reading:after=400,ms=50,device=1-1", NULL});
    struct slow_client client = {.fd = import(1)};
    int other = import(2);
    make_pairs(&client, SLOW_PAIRS, false);
    exchange(other, 2, "undisturbed");
    finish(&client);
    CU_ASSERT_TRUE(is_echo(&client));
    close(client.fd);
    close(other);
    free(client.output);
    free(client.input);
    stop_server();
    /* For ever: then all buffers fill, and closing works all the same. */
    start_server_with(false, (const char *const[]){"stop_reading:device=1-1", NULL});
    client = (struct slow_client){.fd = connect_client()};
    uint8_t bytes[USBIP_IMPORT_REPLY_SIZE];
    usbip_encode_import_request(bytes, "1-1");
    send_all(client.fd, bytes, USBIP_IMPORT_REQUEST_SIZE);
    receive_all(client.fd, bytes, sizeof bytes);
    make_pairs(&client, SLOW_PAIRS, false);
    send_until_blocked(&client);
    CU_ASSERT(client.sent < client.output_size);
    CU_ASSERT_EQUAL(listed_devices(), 1);
    free(client.output);
    free(client.input);
    stop_server();
    close(client.fd);
}

/* ---- Time ---- */

static struct usbip_timer timer;
static unsigned fired;

static void close_server(struct usbip_timer *unused)
{
    (void)unused;
    fired++;
    usbip_server_close(server);
}

static void test_real_time(void)
{
    const uint64_t delay_us = 20000;
    uint64_t begin = uv_hrtime();
    make_server(false);
    timer = (struct usbip_timer){.fired = close_server};
    fired = 0;
    usbip_timer_arm(&scheduler, &timer, delay_us);
    uv_run(&loop, UV_RUN_DEFAULT);
    CU_ASSERT_EQUAL(fired, 1);
    CU_ASSERT((uv_hrtime() - begin) / 1000 >= delay_us);
    CU_ASSERT(scheduler.now_us >= delay_us);
    free_server();
}

static void fire_ten_times(struct usbip_timer *unused)
{
    (void)unused;
    if (++fired == 10)
        usbip_server_close(server);
    else
        usbip_timer_arm(&scheduler, &timer, scheduler.now_us + UINT64_C(3600000000));
}

static void test_virtual_time(void)
{
    make_server(true);
    timer = (struct usbip_timer){.fired = fire_ten_times};
    fired = 0;
    usbip_timer_arm(&scheduler, &timer, UINT64_C(3600000000));
    uint64_t begin = uv_hrtime();
    uv_run(&loop, UV_RUN_DEFAULT);
    CU_ASSERT_EQUAL(fired, 10);
    CU_ASSERT_EQUAL(scheduler.now_us, UINT64_C(36000000000));
    CU_ASSERT((uv_hrtime() - begin) / 1000000000 < TIMEOUT_S);
    free_server();
}

static void be_late(struct usbip_timer *unused)
{
    (void)unused;
    uint64_t begin = uv_hrtime();
    while (uv_hrtime() - begin < 300000)
        ;
    usbip_timer_arm(&scheduler, &timer, scheduler.now_us + 100);
}

/* Timers that cannot keep up must not keep the clients from being served. */
static atomic_uint ticks;

static void tick(struct usbip_timer *unused)
{
    (void)unused;
    ticks++;
    usbip_timer_arm(&scheduler, &timer, scheduler.now_us + 1000000);
}

/* What a client does not take is nothing that time has to wait for. */
static void test_virtual_time_with_a_client_that_does_not_read(void)
{
    make_server(true);
    timer = (struct usbip_timer){.fired = tick};
    usbip_timer_arm(&scheduler, &timer, 1000000);
    listen_on("127.0.0.1:0");
    struct slow_client client = {.fd = import(1)};
    make_pairs(&client, SLOW_PAIRS, false);
    send_until_blocked(&client);
    unsigned before = ticks;
    uint64_t begin = uv_hrtime();
    while (ticks < before + 10 && (uv_hrtime() - begin) / 1000000000 < TIMEOUT_S)
        sched_yield();
    CU_ASSERT(ticks >= before + 10);
    reset_client(client.fd);
    free(client.output);
    free(client.input);
    stop_server();
}

static void test_late_timers(void)
{
    timer = (struct usbip_timer){.fired = be_late};
    make_server(false);
    usbip_timer_arm(&scheduler, &timer, 0);
    listen_on("127.0.0.1:0");
    /* Often enough for a delay that grows with every turn of the loop to be seen. */
    for (int i = 0; i < 10; i++)
        CU_ASSERT_EQUAL(listed_devices(), 2);
    stop_server();
}

int main(int argc, char **argv)
{
    take_server_arguments(argc, argv);
    CU_TestInfo tests[] = {
        {"devlist", test_devlist},
        {"two clients", test_two_clients},
        {"fragments", test_fragments},
        {"half-close", test_half_close},
        {"reset in the middle of a payload", test_reset_in_payload},
        {"protocol error", test_protocol_error},
        {"slow reader", test_slow_reader},
        {"lent to a slow reader", test_lent_to_a_slow_reader},
        {"slow reader of a source", test_slow_reader_of_a_source},
        {"lent and cut", test_lent_and_cut},
        {"many clients", test_many_clients},
        {"out of descriptors", test_out_of_descriptors},
        {"close with clients", test_close_with_clients},
        {"addresses", test_addresses},
        {"IPv6", test_ip6},
        {"port in use", test_port_in_use},
        {"fault: close", test_fault_close},
        {"fault: reset", test_fault_reset},
        {"fault: fragment", test_fault_fragment},
        {"fault: delay", test_fault_delay},
        {"fault: stop reading", test_fault_stop_reading},
        {"fault: seed", test_fault_seed},
        {"real time", test_real_time},
        {"virtual time", test_virtual_time},
        {"virtual time with a client that does not read",
         test_virtual_time_with_a_client_that_does_not_read},
        {"late timers", test_late_timers},
        CU_TEST_INFO_NULL,
    };
    return run_tests("server", tests);
}
