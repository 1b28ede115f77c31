/* The control socket: the emulator's side on a loop in a thread of its own, clients on sockets. */
#include "emulator/control.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "tests/support/testing.h"

enum { DEVICES = 2, TIMEOUT_S = 20 /* for what never takes so long */ };

static char path[108];
static uv_loop_t loop;
static uv_async_t stop_request;
static pthread_t thread;
static struct usbip_scheduler scheduler;
static struct usbip_bus bus;
static struct usbip_echo echoes[DEVICES];
static struct usbip_control *control;
static char error_text[USBIP_CONTROL_ERROR_SIZE];
static unsigned quits;

/* ---- The emulator's side ---- */

static void end_loop(void)
{
    usbip_control_close(control);
    uv_close((uv_handle_t *)&stop_request, NULL);
}

static void on_stop(uv_async_t *unused)
{
    (void)unused;
    end_loop();
}

static void on_quit(void *context)
{
    (void)context;
    quits++;
    end_loop();
}

static void *run_loop(void *unused)
{
    (void)unused;
    uv_run(&loop, UV_RUN_DEFAULT);
    return NULL;
}

static bool make_control(const char *where)
{
    const struct usbip_control_options options = {.bus = &bus, .quit = on_quit};
    error_text[0] = '\0';
    control = usbip_control_new(&loop, where, &options, error_text);
    return control != NULL;
}

static void start(void)
{
    quits = 0;
    scheduler = (struct usbip_scheduler){0};
    usbip_faults_init(&bus.faults, &scheduler, 1);
    const struct usbip_device_options device = {
        .descriptor = {.bcdUSB = 0x0200,
                       .bMaxPacketSize0 = 64,
                       .idVendor = 0x1209,
                       .idProduct = 1,
                       .iProduct = 1,
                       .bNumConfigurations = 1},
        .speed = USBIP_SPEED_FULL,
        .strings = {NULL, "A \"thing\" \xc3\xa9"},
    };
    for (int i = 0; i < DEVICES; i++) {
        char text[256];
        REQUIRE(usbip_bus_add(
                    &bus, usbip_device_new(&device, &usbip_function_cdc_acm,
                                           &(struct usbip_behaviour){&usbip_echo_ops, &echoes[i]},
                                           &scheduler, &bus.log, text)) == 0);
    }
    REQUIRE(uv_loop_init(&loop) == 0);
    REQUIRE(make_control(path));
    uv_async_init(&loop, &stop_request, on_stop);
    REQUIRE(pthread_create(&thread, NULL, run_loop, NULL) == 0);
}

static void join(void)
{
    pthread_join(thread, NULL);
    CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
    CU_ASSERT_EQUAL(access(path, F_OK), -1);
}

static void free_devices(void)
{
    usbip_bus_free(&bus);
    usbip_scheduler_free(&scheduler);
}

static void stop(void)
{
    uv_async_send(&stop_request);
    join();
    free_devices();
}

/* ---- Clients ---- */

static struct sockaddr_un address_of(const char *where)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", where);
    return address;
}

static int connect_client(void)
{
    const struct sockaddr_un address = address_of(path);
    const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    REQUIRE(connect(fd, (const struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void send_text(int fd, const char *text)
{
    REQUIRE(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

/* The next line, without its end; "" when the connection is closed. */
static void receive_line(int fd, char line[4096])
{
    size_t size = 0;
    while (size < 4095 && recv(fd, line + size, 1, 0) == 1 && line[size] != '\n')
        size++;
    line[size] = '\0';
}

/* True when this is the next line; only its beginning, if the expected text ends in "...". */
static bool answers(int fd, const char *expected)
{
    char line[4096];
    size_t size = strlen(expected);
    receive_line(fd, line);
    bool same = size > 3 && strcmp(expected + size - 3, "...") == 0
                    ? strncmp(line, expected, size - 3) == 0
                    : strcmp(line, expected) == 0;
    if (!same)
        fprintf(stderr, "answered %s\ninstead of %s\n", line, expected);
    return same;
}

static bool ask(int fd, const char *request, const char *expected)
{
    send_text(fd, request);
    send_text(fd, "\n");
    return answers(fd, expected);
}

#define ERROR "{\"ok\": false, \"error\": \""

/* ---- Tests ---- */

static void test_devices(void)
{
    start();
    int fd = connect_client();
    CU_ASSERT_TRUE(
        ask(fd, "{\"id\":1,\"do\":\"list\"}",
            "{\"id\": 1, \"ok\": true, \"devices\": ["
            "{\"device\": \"1-1\", \"idVendor\": \"1209\", \"idProduct\": \"0001\", "
            "\"product\": \"A \\\"thing\\\" \xc3\xa9\", \"type\": \"cdc_acm\", \"plugged\": true, "
            "\"attached\": false}, "
            "{\"device\": \"1-2\", \"idVendor\": \"1209\", \"idProduct\": \"0001\", "
            "\"product\": \"A \\\"thing\\\" \xc3\xa9\", \"type\": \"cdc_acm\", \"plugged\": true, "
            "\"attached\": false}]}"));
    CU_ASSERT_TRUE(ask(fd, "{\"id\":{\"a\":[]},\"do\":\"unplug\",\"device\":\"1-2\",\"back\":5}",
                       "{\"id\": {\"a\": []}, \"ok\": true}"));
    CU_ASSERT_TRUE(ask(fd, "{\"do\":\"unplug\",\"device\":\"1-1\"}", "{\"ok\": true}"));
    CU_ASSERT_TRUE(ask(fd, "{\"do\":\"plug\",\"device\":\"1-1\"}", "{\"ok\": true}"));
    CU_ASSERT_TRUE(ask(fd, "{\"do\":\"counters\",\"device\":\"1-2\"}",
                       "{\"ok\": true, \"devices\": [{\"device\": \"1-2\", \"urbs\": 0, "
                       "\"bytes_in\": 0, \"bytes_out\": 0, \"stalls\": 0, \"unlinks\": 0, "
                       "\"script_errors\": 0}], \"faults\": []}"));
    close(fd);
    uv_async_send(&stop_request);
    join();
    CU_ASSERT_TRUE(usbip_device_is_plugged(bus.devices[0]));
    CU_ASSERT_FALSE(usbip_device_is_plugged(bus.devices[1]));
    usbip_scheduler_advance(&scheduler, 4999);
    CU_ASSERT_FALSE(usbip_device_is_plugged(bus.devices[1]));
    usbip_scheduler_advance(&scheduler, 5000);
    CU_ASSERT_TRUE(usbip_device_is_plugged(bus.devices[1]));
    free_devices();
}

static void test_faults(void)
{
    start();
    int fd = connect_client();
    CU_ASSERT_TRUE(ask(fd, "{\"do\":\"fault-add\",\"fault\":\"delay:ms=20\"}",
                       "{\"ok\": true, \"fault\": 1}"));
    CU_ASSERT_TRUE(ask(fd,
                       "{\"id\":null,\"do\":\"fault-add\",\"name\":\"status\",\"value\":-32,"
                       "\"endpoint\":\"0x81\",\"data\":true,\"device\":\"1-2\",\"count\":3}",
                       "{\"id\": null, \"ok\": true, \"fault\": 2}"));
    CU_ASSERT_TRUE(ask(fd, "{\"do\":\"fault-list\"}",
                       "{\"ok\": true, \"faults\": [{\"fault\": 1, \"text\": \"delay:ms=20\", "
                       "\"device\": null, \"fired\": 0, \"spent\": false}, "
                       "{\"fault\": 2, \"text\": \"status:value=-32,data=yes,device=1-2,"
                       "endpoint=0x81,count=3\", \"device\": \"1-2\", \"fired\": 0, "
                       "\"spent\": false}]}"));
    CU_ASSERT_TRUE(ask(fd, "{\"do\":\"fault-remove\",\"fault\":1}", "{\"ok\": true}"));
    CU_ASSERT_TRUE(
        ask(fd, "{\"do\":\"fault-remove\",\"fault\":1}", ERROR "there is no fault 1\"}"));
    CU_ASSERT_TRUE(ask(fd, "{\"do\":\"counters\",\"device\":\"1-1\"}", "{\"ok\": true, ..."));
    stop();
    close(fd);
}

static void test_errors(void)
{
    static const struct {
        const char *request, *error;
    } cases[] = {
        {"{", "this is not JSON: "},
        {"{\"do\":\"list\"} x", "this is not JSON: end of file expected near 'x', at byte 15"},
        {"{\"do\":\"list\",\"do\":\"quit\"}", "this is not JSON: duplicate object key"},
        {"{\"do\":\"\xff\"}", "this is not JSON: "},
        {"[1]", "a request is a JSON object, such as {\\\"do\\\": \\\"list\\\"}\"}"},
        {"{}", "do must name a request; there are: list, plug, unplug, fault-add, "
               "fault-remove, fault-list, counters, step, quit\"}"},
        {"{\"do\":1}", "do must name a request; there are: "},
        {"{\"do\":\"lists\"}", "there is no request \\\"lists\\\"; there are: list, "},
        {"{\"do\":\"list\",\"device\":\"1-1\"}", "list has no field \\\"device\\\"\"}"},
        {"{\"do\":\"plug\"}", "device must be a busid, such as \\\"1-1\\\"\"}"},
        {"{\"do\":\"plug\",\"device\":1}", "device must be a busid, such as "},
        {"{\"do\":\"plug\",\"device\":\"1-3\"}", "there is no device \\\"1-3\\\"\"}"},
        {"{\"do\":\"counters\",\"device\":\"1-3\"}", "there is no device \\\"1-3\\\"\"}"},
        {"{\"do\":\"unplug\",\"device\":\"1-1\",\"back\":-1}", "back must be a number of ms from "},
        {"{\"do\":\"unplug\",\"device\":\"1-1\",\"back\":\"1\"}", "back must be a number of ms "},
        {"{\"do\":\"unplug\",\"device\":\"1-1\",\"back\":1.5}", "back must be a number of ms "},
        {"{\"do\":\"fault-add\"}", "there is no fault \\\"\\\"; there are: "},
        {"{\"do\":\"fault-add\",\"fault\":1}", "give either fault, a string such as "},
        {"{\"do\":\"fault-add\",\"fault\":\"delay\",\"name\":\"x\"}", "give either fault, "},
        {"{\"do\":\"fault-add\",\"fault\":\"delay:ms=x\"}", "delay: ms must be a number from "},
        {"{\"do\":\"fault-add\",\"fault\":\"delay:device=1-3\"}", "there is no device "},
        {"{\"do\":\"fault-add\",\"name\":\"delay\",\"ms\":1.5}", "ms must be an integer, a "},
        {"{\"do\":\"fault-add\",\"name\":\"delay\",\"ms\":[]}", "ms must be an integer, a "},
        {"{\"do\":\"fault-remove\"}", "fault must be the number of a fault\"}"},
        {"{\"do\":\"fault-remove\",\"fault\":0}", "fault must be the number of a fault\"}"},
        {"{\"do\":\"step\",\"device\":\"1-1\"}", "device 1-1 is not replayed step by step"},
        /* Text that was cut in the middle of a letter is still JSON. */
        {"{\"do\":\"1234567890123456789012345678901234567\xe2\x82\xac\xe2\x82\xac\"}",
         "there is no request \\\"1234567890123456789012345678901234567\xe2\x82\xac\\\""},
        {"{\"do\":\"123456789012345678901234567890123456789\xe2\x82\xac\"}",
         "there is no request \\\"123456789012345678901234567890123456789?\\\""},
    };
    start();
    int fd = connect_client();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[512];
        snprintf(expected, sizeof expected, ERROR "%s...", cases[i].error);
        CU_ASSERT_TRUE(ask(fd, cases[i].request, expected));
    }
    CU_ASSERT_TRUE(ask(fd, "{\"do\":\"fault-list\"}", "{\"ok\": true, \"faults\": []}"));
    close(fd);
    stop();
}

/* Replies come in order, however requests are cut; empty lines are none. */
static void test_pieces(void)
{
    start();
    int fd = connect_client();
    const char *text =
        "{\"id\":1,\"do\":\"fault-list\"}\n\n{\"id\":2}\n{\"id\":3,\"do\":\"fault-list\"}";
    for (const char *at = text; *at; at++)
        REQUIRE(send(fd, at, 1, MSG_NOSIGNAL) == 1);
    CU_ASSERT_TRUE(answers(fd, "{\"id\": 1, \"ok\": true, \"faults\": []}"));
    CU_ASSERT_TRUE(answers(fd, "{\"id\": 2, \"ok\": false, ..."));
    /* The last one has no end of its own. */
    shutdown(fd, SHUT_WR);
    CU_ASSERT_TRUE(answers(fd, "{\"id\": 3, \"ok\": true, \"faults\": []}"));
    CU_ASSERT_TRUE(answers(fd, ""));
    close(fd);
    stop();
}

static void test_long_line(void)
{
    static char line[3 * USBIP_CONTROL_MAX_LINE];
    start();
    int fd = connect_client();
    memset(line, ' ', sizeof line);
    for (size_t size = USBIP_CONTROL_MAX_LINE - 1; size <= USBIP_CONTROL_MAX_LINE + 1; size++) {
        memcpy(line, "{\"do\":\"fault-list\"}", 19);
        line[size] = '\n';
        REQUIRE(send(fd, line, size + 1, MSG_NOSIGNAL) == (ssize_t)size + 1);
        line[size] = ' ';
        CU_ASSERT_TRUE(answers(fd, size <= USBIP_CONTROL_MAX_LINE ? "{\"ok\": true, \"faults\": []}"
                                                                  : ERROR
                                       "a request has at most 4096 bytes\"}"));
    }
    /* One error for a line of any length. */
    line[sizeof line - 1] = '\n';
    REQUIRE(send(fd, line, sizeof line, MSG_NOSIGNAL) == sizeof line);
    CU_ASSERT_TRUE(answers(fd, ERROR "a request has at most 4096 bytes\"}"));
    CU_ASSERT_TRUE(ask(fd, "{\"do\":\"fault-list\"}", "{\"ok\": true, \"faults\": []}"));
    close(fd);
    stop();
}

static void test_too_many_clients(void)
{
    int fds[USBIP_CONTROL_MAX_CLIENTS];
    start();
    for (int i = 0; i < USBIP_CONTROL_MAX_CLIENTS; i++) {
        fds[i] = connect_client();
        CU_ASSERT_TRUE(ask(fds[i], "{\"do\":\"fault-list\"}", "{\"ok\": true, \"faults\": []}"));
    }
    int fd = connect_client();
    CU_ASSERT_TRUE(answers(fd, ERROR "there are 16 control connections already\"}"));
    CU_ASSERT_TRUE(answers(fd, ""));
    close(fd);
    for (int i = 0; i < USBIP_CONTROL_MAX_CLIENTS; i++)
        close(fds[i]);
    stop();
}

/* One that asks and never reads is cut off; others do not notice. */
static void test_no_reader(void)
{
    start();
    int fd = connect_client(), other = connect_client();
    const char request[] = "{\"do\":\"list\"}\n";
    ssize_t sent;
    do {
        sent = send(fd, request, sizeof request - 1, MSG_NOSIGNAL);
    } while (sent == sizeof request - 1);
    CU_ASSERT_EQUAL(sent, -1);
    CU_ASSERT(errno == EPIPE || errno == ECONNRESET);
    CU_ASSERT_TRUE(ask(other, "{\"do\":\"fault-list\"}", "{\"ok\": true, \"faults\": []}"));
    close(fd);
    close(other);
    stop();
}

/* The reply to quit comes, and then the end, for all. */
static void test_quit(void)
{
    start();
    int fd = connect_client(), other = connect_client();
    CU_ASSERT_TRUE(ask(other, "{\"do\":\"fault-list\"}", "{\"ok\": true, \"faults\": []}"));
    send_text(fd, "{\"id\":7,\"do\":\"quit\"}\n{\"do\":\"quit\"}\n");
    CU_ASSERT_TRUE(answers(fd, "{\"id\": 7, \"ok\": true}"));
    join();
    CU_ASSERT_EQUAL(quits, 1);
    CU_ASSERT_TRUE(answers(other, ""));
    close(fd);
    close(other);
    free_devices();
}

/* ---- The file ---- */

static bool is_refused(const char *where, const char *reason)
{
    REQUIRE(uv_loop_init(&loop) == 0);
    bool made = make_control(where);
    usbip_control_close(control);
    uv_run(&loop, UV_RUN_DEFAULT);
    CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
    if (made || !strstr(error_text, reason))
        fprintf(stderr, "\"%s\" instead of \"%s\"\n", error_text, reason);
    return !made && strstr(error_text, reason);
}

static void test_file(void)
{
    char long_path[200];
    /* One that nobody listens on is replaced. */
    const struct sockaddr_un address = address_of(path);
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(bind(stale, (const struct sockaddr *)&address, sizeof address) == 0);
    close(stale);
    struct stat status;
    start();
    REQUIRE(stat(path, &status) == 0);
    CU_ASSERT_EQUAL(status.st_mode, S_IFSOCK | 0600);
    int fd = connect_client();
    CU_ASSERT_TRUE(ask(fd, "{\"do\":\"fault-list\"}", "{\"ok\": true, \"faults\": []}"));
    close(fd);
    stop();
    /* One that somebody listens on stays. */
    int used = socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(bind(used, (const struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(used, 1) == 0);
    CU_ASSERT_TRUE(is_refused(path, "is the control socket of another emulator that runs"));
    CU_ASSERT_EQUAL(access(path, F_OK), 0);
    close(used);
    unlink(path);
    /* So does another file. */
    FILE *file = fopen(path, "w");
    REQUIRE(file != NULL);
    fclose(file);
    CU_ASSERT_TRUE(is_refused(path, "exists and is not a socket; choose another path"));
    CU_ASSERT_EQUAL(access(path, F_OK), 0);
    unlink(path);
    CU_ASSERT_TRUE(is_refused("missing/folder.sock", "cannot make the control socket missing/"));
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    CU_ASSERT_TRUE(is_refused(long_path, "has at most 107 bytes, not 199: aaaa"));
}

int main(void)
{
    /* Bazel's folders are too deep for a socket's path. */
    const char *folder = getenv("TEST_TMPDIR");
    if (chdir(folder ? folder : "/tmp") < 0)
        return EXIT_FAILURE;
    snprintf(path, sizeof path, "control_test.%ld.sock", (long)getpid());
    CU_TestInfo tests[] = {
        {"devices", test_devices},
        {"faults", test_faults},
        {"errors", test_errors},
        {"pieces", test_pieces},
        {"long lines", test_long_line},
        {"too many clients", test_too_many_clients},
        {"a client that does not read", test_no_reader},
        {"quit", test_quit},
        {"file", test_file},
        CU_TEST_INFO_NULL,
    };
    return run_tests("control", tests);
}
