/* usbip-serial, the program itself, against a scripted server. Its path is the only argument. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/testing.h"
#include "tests/unit/client/scripted_server.h"

static const char *program;
static struct scripted_server *server;
static char output[65536]; /* standard output and error of the last run */

/* Runs the program and returns its exit status. */
static int run(const char *arguments)
{
    char command[1024];
    size_t size;
    FILE *pipe;
    int status;

    snprintf(command, sizeof(command), "%s --host %s %s 2>&1", program,
             server ? server->address : "127.0.0.1:1", arguments);
    /* NOLINTNEXTLINE(cert-env33-c): a shell is how people start it, and the words are ours */
    pipe = popen(command, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(pipe);
    size = fread(output, 1, sizeof(output) - 1, pipe);
    output[size] = '\0';
    status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void assert_run(const char *arguments, int status, const char *expected)
{
    CU_ASSERT_EQUAL(run(arguments), status);
    CU_ASSERT_STRING_EQUAL(output, expected);
    if (strcmp(output, expected) != 0)
        fprintf(stderr, "%s: \"%s\", expected \"%s\"\n", arguments, output, expected);
}

static void stop(void)
{
    scripted_server_stop(server);
    server = NULL;
}

static void test_list(void)
{
    server = scripted_server_new();
    server->devices[1] = (struct scripted_device){"1-2\x1b", 0x0403, 0x6001, "", 0, false};
    server->device_count = 2;
    scripted_server_start(server);
    assert_run("list", 0,
               "BUSID        ID         SPEED    CLASS     INTERFACES\n"
               "1-1          1209:0001  full     00/00/00 \n"
               "1-2?         0403:6001  full     00/00/00 \n");
    stop();
}

static void test_list_json(void)
{
    server = scripted_server_new();
    server->devices[0].busid = "1\"\\\n\xff";
    scripted_server_start(server);
    assert_run("list --json", 0,
               "[\n"
               "  {\"busid\": \"1\\\"\\\\\\u000a\\ufffd\", \"path\": \"\",\n"
               "   \"idVendor\": \"1209\", \"idProduct\": \"0001\", \"bcdDevice\": \"0100\",\n"
               "   \"busnum\": 1, \"devnum\": 2, \"speed\": \"full\",\n"
               "   \"bDeviceClass\": 0, \"bDeviceSubClass\": 0, \"bDeviceProtocol\": 0,\n"
               "   \"bConfigurationValue\": 0, \"bNumConfigurations\": 1,\n"
               "   \"interfaces\": []}\n"
               "]\n");
    scripted_lock(server);
    server->device_count = 0;
    scripted_unlock(server);
    assert_run("list --json", 0, "[]\n");
    CU_ASSERT_EQUAL(run("list"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "exports no devices"));
    stop();
}

static void answer(struct scripted_server *scripted, const char *line)
{
    if (strncmp(line, "out", 3) == 0)
        scripted_send(scripted, "42\r\n", 4);
}

static void test_send(void)
{
    server = scripted_server_new();
    server->hook = answer;
    scripted_server_start(server);
    assert_run("send --read --baud '9600 7E2' --no-dtr 1-1 'a\\x00\\x7Fb\\\\' 'c\\r\\n\\t'", 0,
               "42\n");
    scripted_lock(server);
    CU_ASSERT_EQUAL(server->written_size, 10);
    CU_ASSERT_EQUAL(memcmp(server->written,
                           "a\0\x7f"
                           "b\\ c\r\n\t",
                           10),
                    0);
    CU_ASSERT_EQUAL(
        scripted_count(server, "control 21 20 00 00 00 00 07 00 | 80 25 00 00 02 02 07"), 1);
    CU_ASSERT_EQUAL(scripted_count(server, "control 21 22 02 00"), 1);
    server->written_size = 0;
    scripted_unlock(server);
    assert_run("send 1209:0001 - < /dev/null", 0, "");
    assert_run("send 1-1 -- -5", 0, "");
    scripted_lock(server);
    CU_ASSERT_EQUAL(server->written_size, 2);
    CU_ASSERT_EQUAL(memcmp(server->written, "-5", 2), 0);
    server->hook = NULL;
    scripted_unlock(server);
    CU_ASSERT_EQUAL(run("send --read --timeout-ms 20 1-1 x"), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "no delimiter within 20 ms"));
    stop();
}

static void talk(struct scripted_server *scripted, const char *line)
{
    if (strncmp(line, "control 21 22 03 00", 19) == 0)
        scripted_send(scripted, "one\ntwo\nthree four five", 23);
}

static void test_read(void)
{
    server = scripted_server_new();
    server->hook = talk;
    scripted_server_start(server);
    assert_run("read 1-1 --timeout-ms=50", 0, "one\ntwo\nthree four five");
    assert_run("read 1-1 --lines 2", 0, "one\ntwo\n");
    assert_run("read 1-1 --bytes 5", 0, "one\nt");
    assert_run("read 1-1 --bytes 18 --hex", 0,
               "6f 6e 65 0a 74 77 6f 0a 74 68 72 65 65 20 66 6f\n75 72\n");
    assert_run("read 1-1 --lines 2 --hex", 0, "6f 6e 65 0a\n74 77 6f 0a\n");
    CU_ASSERT_EQUAL(run("read 1-1 --lines 3 --timeout-ms 50"), 1);
    CU_ASSERT_EQUAL(run("read 1-1 --bytes 99 --timeout-ms 50"), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "23 of 99 bytes"));
    stop();
}

static void talk_and_die(struct scripted_server *scripted, const char *line)
{
    if (strncmp(line, "control 21 22 03 00", 19) != 0)
        return;
    scripted_send(scripted, "one\ntwo", 7);
    scripted_die(scripted);
}

static void test_read_from_a_server_that_dies(void)
{
    static const struct {
        const char *arguments, *data;
    } cases[] = {
        {"read 1-1 --timeout-ms 50", "one\ntwo"},
        {"read 1-1 --timeout-ms 50 --bytes 9", "one\ntwo"},
        {"read 1-1 --timeout-ms 50 --lines 9", "one\n"},
        {"console 1-1 --timeout-ms 50 < /dev/null", "one\ntwo"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t size = strlen(cases[i].data);

        server = scripted_server_new();
        server->hook = talk_and_die;
        scripted_server_start(server);
        CU_ASSERT_EQUAL(run(cases[i].arguments), 1);
        CU_ASSERT_EQUAL(strncmp(output, cases[i].data, size), 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(output + size, server->address));
        CU_ASSERT_PTR_NOT_NULL(strstr(output + size, "the server closed the connection"));
        stop();
    }
}

static void lose_once(struct scripted_server *scripted, const char *line)
{
    if (strncmp(line, "control 21 22 03 00", 19) != 0)
        return;
    if (scripted_count(scripted, "connection") == 1)
        scripted_disconnect(scripted);
    else
        scripted_send(scripted, "back", 4);
}

static void test_read_tells_of_a_loss(void)
{
    server = scripted_server_new();
    server->hook = lose_once;
    scripted_server_start(server);
    CU_ASSERT_EQUAL(run("read 1-1 --bytes 4 --timeout-ms 10000"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "back"));
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "1-1 was lost and is back; bytes may be missing"));
    stop();
}

static void test_console_with_a_pipe(void)
{
    server = scripted_server_new();
    server->hook = answer;
    scripted_server_start(server);
    assert_run("console 1-1 --timeout-ms 100 < /dev/null", 0, "");
    CU_ASSERT_EQUAL(run("console 1-1 --timeout-ms 100 <<end\nping\nend"), 0);
    CU_ASSERT_STRING_EQUAL(output, "42\r\n");
    scripted_lock(server);
    CU_ASSERT_EQUAL(memcmp(server->written, "ping\n", 5), 0);
    scripted_unlock(server);
    stop();
}

/* Runs the console on a terminal, where `keys` are typed at once, and returns its exit status. */
static int run_on_terminal(const char *device, const char *keys)
{
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    size_t size = 0;
    bool typed = false;
    int status = -1;
    ssize_t count;
    pid_t child;

    CU_ASSERT_FATAL(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    child = fork();
    CU_ASSERT_FATAL(child >= 0);
    if (child == 0) {
        int end = open(ptsname(terminal), O_RDWR | O_NOCTTY);

        dup2(end, STDIN_FILENO);
        dup2(end, STDOUT_FILENO);
        dup2(end, STDERR_FILENO);
        close(end);
        close(terminal);
        execl(program, program, "--host", server->address, "console", device, (char *)NULL);
        _exit(127);
    }
    /* Reading fails as soon as the program has closed its end. */
    while (size < sizeof(output) - 1 &&
           (count = read(terminal, output + size, sizeof(output) - 1 - size)) > 0) {
        size += (size_t)count;
        output[size] = '\0';
        /* Now every key is handed on as it is. */
        if (!typed && strstr(output, "Ctrl-] ends")) {
            typed = true;
            CU_ASSERT_EQUAL(write(terminal, keys, strlen(keys)), (ssize_t)strlen(keys));
        }
    }
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    close(terminal);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_console_sends_what_was_typed_before_the_end(void)
{
    server = scripted_server_new();
    scripted_server_start(server);
    CU_ASSERT_EQUAL(run_on_terminal("1-1", "exit\r\x1dmore"), 0);
    scripted_lock(server);
    CU_ASSERT_EQUAL(server->written_size, 5);
    CU_ASSERT_EQUAL(memcmp(server->written, "exit\r", 5), 0);
    scripted_unlock(server);
    stop();
}

static void test_failure(void)
{
    server = scripted_server_new();
    server->devices[0].import_status = USBIP_ST_DEV_BUSY;
    scripted_server_start(server);
    CU_ASSERT_EQUAL(run("send 1-1 x"), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "ST_DEV_BUSY"));
    stop();
    CU_ASSERT_EQUAL(run("send --record /nowhere/file 1-1 x"), 1);
    CU_ASSERT_STRING_EQUAL(output,
                           "usbip-serial: cannot write /nowhere/file: No such file or directory\n");
    /* Nobody listens on port 1. */
    CU_ASSERT_EQUAL(run("list"), 1);
    CU_ASSERT_EQUAL(run("read 1-1"), 1);
}

static void test_usage(void)
{
    static const char *const wrong[] = {
        "",
        "frob",
        "list 1-1",
        "send",
        "send 1-1",
        "send 1: x",
        "send 1-1 '\\q'",
        "send 1-1 '\\'",
        "send 1-1 '\\x0'",
        "read 1-1 2-2",
        "read 1-1 --lines",
        "read 1-1 --lines -1",
        "read 1-1 --lines 1x",
        "read 1-1 --bytes 99999999999999999999",
        "read 1-1 --baud fast",
        "read 1-1 --timeout-ms 4294967295",
        "read 1-1 --json",
        "list --hex",
        "list --json=yes",
        "list --unknown",
        "list --record file",
        "send --record",
        "list --host :3240",
        "list --host=",
        "read 1-1 --host [::1",
        "send 1-1 x --host 127.0.0.1:0",
        "-x",
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CU_ASSERT_EQUAL(run(wrong[i]), 2);
        /* One line. */
        CU_ASSERT_EQUAL(strncmp(output, "usbip-serial: ", 14), 0);
        CU_ASSERT_PTR_EQUAL(strchr(output, '\n'), output + strlen(output) - 1);
    }
    CU_ASSERT_EQUAL(run("--help"), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(output, "--timeout-ms"));
}

int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"list", test_list},
        {"list --json", test_list_json},
        {"send", test_send},
        {"read", test_read},
        {"read from a server that dies", test_read_from_a_server_that_dies},
        {"read tells of a loss", test_read_tells_of_a_loss},
        {"console with a pipe", test_console_with_a_pipe},
        {"console sends what was typed before the end",
         test_console_sends_what_was_typed_before_the_end},
        {"failure", test_failure},
        {"usage", test_usage},
        CU_TEST_INFO_NULL,
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s PATH-OF-USBIP-SERIAL\n", argv[0]);
        return 2;
    }
    program = argv[1];
    return run_tests("usbip-serial", tests);
}
