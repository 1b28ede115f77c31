/* The far end of a serial line. */
#include "tests/conformance/line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/conformance/trial.h"
#include "tests/support/testing.h"

enum { TIMEOUT_MS = 10000, LARGE = 1 << 20 };

/* Reads all of these bytes, or fails. */
static void expect_read(int fd, const char *data, size_t size)
{
    char *got = malloc(size);
    size_t have = 0;
    while (have < size) {
        ssize_t count = read(fd, got + have, size - have);
        if (count <= 0)
            break;
        have += (size_t)count;
    }
    CU_ASSERT_EQUAL(have, size);
    CU_ASSERT_TRUE(have == size && memcmp(got, data, size) == 0);
    free(got);
}

static void test_send_and_await(void)
{
    int fds[2];
    uint8_t *before;
    size_t size;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    struct line *line = line_open(fds[0]);
    line_send(line, "to device", 9);
    expect_read(fds[1], "to device", 9);
    REQUIRE(write(fds[1], "some bytes, MA", 14) == 14);
    CU_ASSERT_FALSE(line_await(line, "MARK", 4, 1, &before, &size));
    REQUIRE(write(fds[1], "RK, more", 8) == 8);
    REQUIRE(line_await(line, "MARK", 4, TIMEOUT_MS, &before, &size));
    CU_ASSERT_EQUAL(size, 12);
    CU_ASSERT_EQUAL(memcmp(before, "some bytes, ", 12), 0);
    free(before);
    REQUIRE(line_await(line, "more", 4, TIMEOUT_MS, &before, &size));
    CU_ASSERT_EQUAL(size, 2);
    free(before);
    line_close(line);
    close(fds[1]);
}

/* It takes what comes although nobody asks, and sends what nobody reads yet. */
static void test_both_directions_at_once(void)
{
    int fds[2];
    uint8_t *before;
    size_t size;
    char *data = malloc(LARGE);
    REQUIRE(data && socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    struct line *line = line_open(fds[0]);
    memset(data, 'x', LARGE);
    line_send(line, data, LARGE);
    size_t sent = 0;
    while (sent < LARGE) {
        ssize_t count = write(fds[1], data + sent, LARGE - sent);
        REQUIRE(count > 0);
        sent += (size_t)count;
    }
    REQUIRE(write(fds[1], "MARK", 4) == 4);
    REQUIRE(line_await(line, "MARK", 4, TIMEOUT_MS, &before, &size));
    CU_ASSERT_EQUAL(size, LARGE);
    free(before);
    expect_read(fds[1], data, LARGE);
    free(data);
    line_close(line);
    close(fds[1]);
}

static void test_echo(void)
{
    int fds[2];
    uint8_t *before;
    size_t size;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    struct line *line = line_open(fds[0]);
    line_set_echo(line, true);
    REQUIRE(write(fds[1], "there and back", 14) == 14);
    expect_read(fds[1], "there and back", 14);
    line_set_echo(line, false);
    REQUIRE(write(fds[1], "MARK", 4) == 4);
    REQUIRE(line_await(line, "MARK", 4, TIMEOUT_MS, &before, &size));
    CU_ASSERT_EQUAL(size, 0);
    free(before);
    line_close(line);
    close(fds[1]);
}

/* A peer that goes ends every wait, and does no harm. */
static void test_peer_goes(void)
{
    int fds[2];
    uint8_t *before;
    size_t size;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    struct line *line = line_open(fds[0]);
    close(fds[1]);
    CU_ASSERT_FALSE(line_await(line, "MARK", 4, TIMEOUT_MS, &before, &size));
    line_send(line, "nobody", 6);
    line_close(line);
}

/* As --stimulus names them. */
static void test_unix_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct target target = {0};
    char text[sizeof address.sun_path + 8], error_text[256];
    snprintf(address.sun_path, sizeof address.sun_path, "line_test.%d", (int)getpid());
    snprintf(text, sizeof text, "unix:%s", address.sun_path);
    CU_ASSERT_EQUAL(stimulus_connect(&target, text, error_text), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, strerror(ENOENT)));
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(bind(server, (struct sockaddr *)&address, sizeof address) == 0 &&
            listen(server, 1) == 0);
    REQUIRE(stimulus_connect(&target, text, error_text) == 0);
    CU_ASSERT_PTR_EQUAL(target.stimulus, &stimulus_line);
    int peer = accept(server, NULL, NULL);
    line_send(target.line, "hello", 5);
    expect_read(peer, "hello", 5);
    stimulus_disconnect(&target);
    CU_ASSERT_PTR_NULL(target.line);
    close(peer);
    close(server);
    unlink(address.sun_path);
}

static void test_tty(void)
{
    struct target target = {0};
    char text[128], error_text[256];
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    REQUIRE(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    snprintf(text, sizeof text, "tty:%s", ptsname(master));
    REQUIRE(stimulus_connect(&target, text, error_text) == 0);
    /* Raw: no line feed becomes two bytes, no byte is a signal, and nothing comes back. */
    line_send(target.line, "\n\003\021", 3);
    expect_read(master, "\n\003\021", 3);
    uint8_t *before;
    size_t size;
    REQUIRE(write(master, "\r\004MARK", 6) == 6);
    REQUIRE(line_await(target.line, "MARK", 4, TIMEOUT_MS, &before, &size));
    CU_ASSERT_TRUE(size == 2 && memcmp(before, "\r\004", 2) == 0);
    free(before);
    stimulus_disconnect(&target);
    close(master);
}

static void test_wrong_kinds(void)
{
    static const char *const wrong[] = {"", "unix", "tcp:1.2.3.4:5", "loopback:", "tty:/dev/null"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct target target = {0};
        char error_text[256] = "";
        CU_ASSERT_EQUAL(stimulus_connect(&target, wrong[i], error_text), -1);
        CU_ASSERT_NOT_EQUAL(error_text[0], '\0');
        CU_ASSERT_PTR_NULL(strchr(error_text, '\n'));
        CU_ASSERT_PTR_NULL(target.stimulus);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"send and await", test_send_and_await},
        {"both directions at once", test_both_directions_at_once},
        {"echo", test_echo},
        {"a peer goes", test_peer_goes},
        {"a Unix socket", test_unix_socket},
        {"a terminal device", test_tty},
        {"wrong kinds", test_wrong_kinds},
        CU_TEST_INFO_NULL,
    };
    return run_tests("line", tests);
}
