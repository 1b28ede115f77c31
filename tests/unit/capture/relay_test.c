/* A relay in a thread of its own, and plain sockets on both sides of it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "capture/relay.h"
#include "tests/support/testing.h"

enum {
    TIMEOUT_MS = 20000,
    BULK_SIZE = 8 << 20,
    ENDLESS_SIZE = 128 << 20, /* more than all buffers on the way */
    QUIET_MS = 500,
    LINKS = 20,
};

/* What the tap has seen of one connection. */
struct seen {
    size_t size[2];
    uint64_t sum[2];
    bool closed;
};

static int listener = -1; /* of the server; -1: closed */
static uv_loop_t loop;
static uv_async_t wake;
static pthread_t thread;
static struct usbip_relay *relay;
static uint16_t port;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct seen seen[64];
static unsigned seen_count;
static unsigned reports;
static char last_report[USBIP_RELAY_ERROR_SIZE];

/* ---- The relay ---- */

static uint64_t sum_of(uint64_t sum, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + data[i];
    return sum;
}

static void *on_opened(void *context)
{
    (void)context;
    REQUIRE(seen_count < sizeof seen / sizeof seen[0]);
    seen[seen_count] = (struct seen){0};
    return &seen[seen_count++];
}

static void on_passed(void *connection, enum usbip_way way, const uint8_t *data, size_t size)
{
    struct seen *one = connection;
    one->size[way] += size;
    one->sum[way] = sum_of(one->sum[way], data, size);
}

static void on_closed(void *connection)
{
    struct seen *one = connection;
    one->closed = true;
}

static const struct usbip_tap tap = {NULL, on_opened, on_passed, on_closed};

static void on_report(void *context, const char *line)
{
    (void)context;
    pthread_mutex_lock(&lock);
    reports++;
    snprintf(last_report, sizeof last_report, "%s", line);
    pthread_mutex_unlock(&lock);
}

static void on_wake(uv_async_t *async)
{
    usbip_relay_close(relay);
    uv_close((uv_handle_t *)async, NULL);
}

static void *run(void *context)
{
    (void)context;
    uv_run(&loop, UV_RUN_DEFAULT);
    return NULL;
}

static uint16_t listen_anywhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(listener >= 0);
    REQUIRE(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(listener, LINKS) == 0);
    REQUIRE(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    return ntohs(address.sin_port);
}

static void start_relay(void)
{
    char upstream[32], bound[USBIP_RELAY_ADDRESS_SIZE], error_text[USBIP_RELAY_ERROR_SIZE];
    snprintf(upstream, sizeof upstream, "127.0.0.1:%u", listen_anywhere());
    const struct usbip_relay_options options = {
        .listen = "127.0.0.1:0",
        .upstream = upstream,
        .tap = &tap,
        .report = on_report,
    };
    seen_count = 0;
    reports = 0;
    REQUIRE(uv_loop_init(&loop) == 0 && uv_async_init(&loop, &wake, on_wake) == 0);
    relay = usbip_relay_new(&loop, &options, bound, error_text);
    REQUIRE(relay != NULL);
    CU_ASSERT_EQUAL(strncmp(bound, "127.0.0.1:", 10), 0);
    port = (uint16_t)atoi(strrchr(bound, ':') + 1);
    REQUIRE(pthread_create(&thread, NULL, run, NULL) == 0);
}

static void stop_relay(void)
{
    uv_async_send(&wake);
    pthread_join(thread, NULL);
    CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
    if (listener >= 0)
        close(listener);
    for (unsigned i = 0; i < seen_count; i++)
        CU_ASSERT_TRUE(seen[i].closed);
}

/* ---- Sockets ---- */

static int connect_client(void)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(fd >= 0);
    REQUIRE(connect(fd, (const struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static bool is_ready(int fd, short events, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    return poll(&poll_fd, 1, timeout_ms) == 1;
}

static int accept_server(void)
{
    REQUIRE(is_ready(listener, POLLIN, TIMEOUT_MS));
    int fd = accept(listener, NULL, NULL);
    REQUIRE(fd >= 0);
    return fd;
}

static void reset(int fd)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    close(fd);
}

static void send_text(int fd, const char *text)
{
    REQUIRE(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

static void expect_text(int fd, const char *text)
{
    char got[64] = "";
    size_t size = 0;
    while (size < strlen(text)) {
        REQUIRE(is_ready(fd, POLLIN, TIMEOUT_MS));
        ssize_t more = recv(fd, got + size, strlen(text) - size, 0);
        REQUIRE(more > 0);
        size += (size_t)more;
    }
    CU_ASSERT_EQUAL(memcmp(got, text, size), 0);
}

/* What the next recv() returns, or -errno. */
static int receive_status(int fd)
{
    char byte;
    REQUIRE(is_ready(fd, POLLIN, TIMEOUT_MS));
    ssize_t result = recv(fd, &byte, 1, 0);
    return result < 0 ? -errno : (int)result;
}

/* Byte i of the stream of one way: with a period that no buffer has. */
static uint8_t stream_byte(size_t i, enum usbip_way way)
{
    return (uint8_t)(i % 251 + (i / 251) % 13 + way);
}

/* ---- Tests ---- */

static bool send_more(int fd, enum usbip_way way, size_t *at, size_t end)
{
    static uint8_t bytes[100000];
    size_t size = end - *at < sizeof bytes ? end - *at : sizeof bytes;
    for (size_t i = 0; i < size; i++)
        bytes[i] = stream_byte(*at + i, way);
    ssize_t sent = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0)
        *at += (size_t)sent;
    return sent > 0;
}

static bool receive_more(int fd, enum usbip_way way, size_t *at)
{
    static uint8_t bytes[100000];
    ssize_t size = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    for (ssize_t i = 0; i < size; i++) {
        if (bytes[i] != stream_byte((*at)++, way)) {
            CU_FAIL("a byte has changed");
            return false;
        }
    }
    return size > 0;
}

static void test_bytes(void)
{
    start_relay();
    int client = connect_client(), server = accept_server();
    size_t up = 0, up_read = 0, down = 0, down_read = 0;
    while (up_read < BULK_SIZE || down_read < BULK_SIZE) {
        struct pollfd fds[] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
        if (up < BULK_SIZE)
            fds[0].events |= POLLOUT;
        if (down < BULK_SIZE)
            fds[1].events |= POLLOUT;
        REQUIRE(poll(fds, 2, TIMEOUT_MS) > 0);
        if (fds[0].revents & POLLOUT)
            send_more(client, USBIP_TO_SERVER, &up, BULK_SIZE);
        if (fds[1].revents & POLLOUT)
            send_more(server, USBIP_TO_CLIENT, &down, BULK_SIZE);
        if (fds[0].revents & POLLIN)
            REQUIRE(receive_more(client, USBIP_TO_CLIENT, &down_read));
        if (fds[1].revents & POLLIN)
            REQUIRE(receive_more(server, USBIP_TO_SERVER, &up_read));
    }
    CU_ASSERT_EQUAL(up_read, BULK_SIZE);
    CU_ASSERT_EQUAL(down_read, BULK_SIZE);
    close(client);
    CU_ASSERT_EQUAL(receive_status(server), 0);
    close(server);
    stop_relay();
    uint64_t sums[2] = {0};
    for (size_t i = 0; i < BULK_SIZE; i++)
        for (unsigned way = 0; way < 2; way++) {
            uint8_t byte = stream_byte(i, way);
            sums[way] = sum_of(sums[way], &byte, 1);
        }
    for (unsigned way = 0; way < 2; way++) {
        CU_ASSERT_EQUAL(seen[0].size[way], BULK_SIZE);
        CU_ASSERT_EQUAL(seen[0].sum[way], sums[way]);
    }
}

/* Who does not read is not read for. */
static void check_back_pressure(int writer, int reader, enum usbip_way way)
{
    size_t sent = 0, received = 0;
    while (sent < ENDLESS_SIZE && is_ready(writer, POLLOUT, QUIET_MS))
        send_more(writer, way, &sent, ENDLESS_SIZE);
    CU_ASSERT_TRUE(sent < ENDLESS_SIZE);
    /* Nothing is lost by that, and it goes on. */
    size_t end = sent + BULK_SIZE;
    while (received < end) {
        if (sent < end)
            send_more(writer, way, &sent, end);
        REQUIRE(is_ready(reader, POLLIN, TIMEOUT_MS));
        REQUIRE(receive_more(reader, way, &received));
    }
}

static void test_back_pressure(void)
{
    start_relay();
    int client = connect_client(), server = accept_server();
    check_back_pressure(client, server, USBIP_TO_SERVER);
    check_back_pressure(server, client, USBIP_TO_CLIENT);
    close(client);
    close(server);
    stop_relay();
}

static void test_half_close(void)
{
    start_relay();
    int client = connect_client(), server = accept_server();
    send_text(client, "the last words");
    shutdown(client, SHUT_WR);
    expect_text(server, "the last words");
    CU_ASSERT_EQUAL(receive_status(server), 0);
    send_text(server, "still heard");
    expect_text(client, "still heard");
    close(server);
    CU_ASSERT_EQUAL(receive_status(client), 0);
    close(client);
    client = connect_client();
    server = accept_server();
    shutdown(server, SHUT_WR);
    CU_ASSERT_EQUAL(receive_status(client), 0);
    send_text(client, "still heard");
    expect_text(server, "still heard");
    close(client);
    CU_ASSERT_EQUAL(receive_status(server), 0);
    close(server);
    stop_relay();
    CU_ASSERT_EQUAL(reports, 0);
}

static void test_reset(void)
{
    start_relay();
    int client = connect_client(), server = accept_server();
    send_text(client, "hello");
    expect_text(server, "hello");
    reset(client);
    CU_ASSERT_EQUAL(receive_status(server), -ECONNRESET);
    close(server);
    client = connect_client();
    server = accept_server();
    reset(server);
    CU_ASSERT_EQUAL(receive_status(client), -ECONNRESET);
    close(client);
    stop_relay();
}

static void test_many(void)
{
    int clients[LINKS], servers[LINKS];
    char text[32];
    start_relay();
    for (int i = 0; i < LINKS; i++) {
        clients[i] = connect_client();
        servers[i] = accept_server();
    }
    for (int i = 0; i < LINKS; i++) {
        snprintf(text, sizeof text, "client %d", i);
        send_text(clients[i], text);
    }
    for (int i = LINKS - 1; i >= 0; i--) {
        snprintf(text, sizeof text, "client %d", i);
        expect_text(servers[i], text);
        close(servers[i]);
        CU_ASSERT_EQUAL(receive_status(clients[i]), 0);
        close(clients[i]);
    }
    /* One is open at the end. */
    clients[0] = connect_client();
    servers[0] = accept_server();
    stop_relay();
    CU_ASSERT_EQUAL(seen_count, LINKS + 1);
    CU_ASSERT_EQUAL(receive_status(clients[0]), 0);
    CU_ASSERT_EQUAL(receive_status(servers[0]), 0);
    close(clients[0]);
    close(servers[0]);
}

static void test_no_server(void)
{
    start_relay();
    close(listener);
    int client = connect_client();
    CU_ASSERT_EQUAL(receive_status(client), -ECONNRESET);
    close(client);
    pthread_mutex_lock(&lock);
    CU_ASSERT_EQUAL(reports, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(last_report, "connection refused; is a USB/IP server running"));
    pthread_mutex_unlock(&lock);
    listener = -1;
    stop_relay();
}

static void test_bad_addresses(void)
{
    static const struct {
        const char *listen, *upstream, *error_text;
    } addresses[] = {
        {"203.0.113.1:0", "127.0.0.1:1", "cannot listen on 203.0.113.1:0: address not available; "},
        {"127.0.0.1:0", "host.invalid:1", "cannot find the server host.invalid:1: "},
    };
    for (unsigned i = 0; i < 2; i++) {
        char bound[USBIP_RELAY_ADDRESS_SIZE], error_text[USBIP_RELAY_ERROR_SIZE] = "";
        const struct usbip_relay_options options = {
            .listen = addresses[i].listen,
            .upstream = addresses[i].upstream,
            .tap = &tap,
            .report = on_report,
        };
        REQUIRE(uv_loop_init(&loop) == 0);
        CU_ASSERT_PTR_NULL(usbip_relay_new(&loop, &options, bound, error_text));
        CU_ASSERT_EQUAL(
            strncmp(error_text, addresses[i].error_text, strlen(addresses[i].error_text)), 0);
        uv_run(&loop, UV_RUN_DEFAULT);
        CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"bytes of both directions", test_bytes},
        {"back pressure", test_back_pressure},
        {"half-closes", test_half_close},
        {"resets", test_reset},
        {"many connections", test_many},
        {"no server", test_no_server},
        {"addresses that are not good", test_bad_addresses},
        CU_TEST_INFO_NULL,
    };
    return run_tests("relay", tests);
}
