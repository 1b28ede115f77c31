#include "tests/conformance/client/main.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/conformance/client/case_server.h"
#include "tests/conformance/client/run.h"
#include "tests/conformance/client/sections.h"

enum {
    DEFAULT_TIMEOUT_MS = 2000,
    DEFAULT_PATIENCE_MS = 25000, /* 20 s is what clients wait for slow servers */
    MAX_TIMEOUT_MS = 3600000,
    MAX_JOBS = 64,
    HOST_SIZE = 256,
    PORT_SIZE = 16,
};

static const char usage[] =
    "usage: usbip-conformance client [OPTION]... [CASE|NAME|SECTION]... [-- COMMAND...]\n"
    "\n"
    "Runs the conformance cases for a USB/IP client: for each case a server is started and "
    "COMMAND\n"
    "run, which finds in its environment USBIP_ADDRESS (HOST:PORT), USBIP_BUSID, USBIP_CASE and\n"
    "USBIP_TASK. Task \"list\": print the server's devices, one a line, and exit with 0. Task\n"
    "\"serial\": connect standard input and output with the device's serial port until standard\n"
    "input ends, close the port and exit with 0. What goes wrong is told in a line on standard\n"
    "error, with another exit status. It may heed USBIP_TIMEOUT_MS (how long to wait for a server\n"
    "or a device) and USBIP_RECONNECT_MS (how long to look for a device that was lost; 0: not at\n"
    "all). Without a COMMAND the client is started by hand, as each case says.\n"
    "\n"
    "  --listen HOST:PORT  where the server is (default 127.0.0.1:0, a port for each case)\n"
    "  --expect TABLE      compare with a client's table, by file or by name (expect/NAME.txt)\n"
    "  --timeout-ms N      how long a step of the client may take (default 2000)\n"
    "  --patience-ms N     how long a time-out of its own may be (default 25000)\n"
    "  --jobs N            how many cases at a time (default: the number of processors)\n"
    "  --list              say which cases there are, and run none\n"
    "  --tap               write TAP to standard output instead of text\n"
    "  --junit FILE, --json FILE   write these too\n"
    "  --verbose           show the exchange of every case, not only of those that deviate\n"
    "  --help\n"
    "\n"
    "Exit status: 0 when all is as expected, 1 when something differs, 2 when the run failed.\n";

struct options {
    struct client_choice choice;
    char host[HOST_SIZE], port[PORT_SIZE];
    const char *expect;
    struct report_outputs outputs;
    unsigned jobs; /* 0: not given */
    bool list;
    const char *const *wanted;
    size_t wanted_count;
};

static int wrong_usage(const char *argument, const char *why)
{
    fprintf(stderr, "usbip-conformance client: %s %s; try --help\n", argument, why);
    return EXIT_NO_RUN;
}

static bool parse_number(const char *text, int max, int *value)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    *value = (int)number;
    return errno == 0 && end != text && *end == '\0' && number > 0 && number <= max;
}

/* "HOST:PORT", "[V6]:PORT" */
static bool parse_address(const char *text, struct options *options)
{
    const char *colon = strrchr(text, ':'), *host = text, *end = colon;
    if (!colon || colon == text || strlen(colon + 1) >= PORT_SIZE || colon[1] == '\0' ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strtoul(colon + 1, NULL, 10) > 65535)
        return false;
    if (*text == '[') {
        host++;
        end--;
        if (*end != ']')
            return false;
    }
    if (end <= host || end - host >= HOST_SIZE)
        return false;
    snprintf(options->host, sizeof options->host, "%.*s", (int)(end - host), host);
    snprintf(options->port, sizeof options->port, "%s", colon + 1);
    return true;
}

enum option_value {
    OPTION_LISTEN = 256,
    OPTION_EXPECT,
    OPTION_TIMEOUT,
    OPTION_PATIENCE,
    OPTION_JOBS,
    OPTION_LIST,
    OPTION_TAP,
    OPTION_JUNIT,
    OPTION_JSON,
    OPTION_VERBOSE,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"expect", required_argument, NULL, OPTION_EXPECT},
    {"timeout-ms", required_argument, NULL, OPTION_TIMEOUT},
    {"patience-ms", required_argument, NULL, OPTION_PATIENCE},
    {"jobs", required_argument, NULL, OPTION_JOBS},
    {"list", no_argument, NULL, OPTION_LIST},
    {"tap", no_argument, NULL, OPTION_TAP},
    {"junit", required_argument, NULL, OPTION_JUNIT},
    {"json", required_argument, NULL, OPTION_JSON},
    {"verbose", no_argument, NULL, OPTION_VERBOSE},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* Returns NULL, or what is wrong with the argument of an option. */
static const char *take_option(struct options *options, int option)
{
    int number;
    switch (option) {
    case OPTION_LISTEN:
        return parse_address(optarg, options) ? NULL : "is not HOST:PORT";
    case OPTION_EXPECT:
        options->expect = optarg;
        return NULL;
    case OPTION_TIMEOUT:
        return parse_number(optarg, MAX_TIMEOUT_MS, &options->choice.timeout_ms)
                   ? NULL
                   : "is not a number of milliseconds";
    case OPTION_PATIENCE:
        return parse_number(optarg, MAX_TIMEOUT_MS, &options->choice.patience_ms)
                   ? NULL
                   : "is not a number of milliseconds";
    case OPTION_JOBS:
        if (!parse_number(optarg, MAX_JOBS, &number))
            return "is not a number of jobs from 1 to 64";
        options->jobs = (unsigned)number;
        return NULL;
    case OPTION_JUNIT:
        options->outputs.junit = optarg;
        return NULL;
    case OPTION_JSON:
        options->outputs.json = optarg;
        return NULL;
    case OPTION_LIST:
        options->list = true;
        return NULL;
    case OPTION_TAP:
        options->outputs.tap = true;
        return NULL;
    default:
        options->outputs.verbose = true;
        return NULL;
    }
}

/* Returns -1 to go on, or the exit status. */
static int parse_options(struct options *options, int argc, char **argv)
{
    int option, end = 1;
    while (end < argc && strcmp(argv[end], "--") != 0)
        end++;
    if (end < argc) {
        if (end + 1 == argc)
            return wrong_usage("--", "wants a COMMAND behind it");
        options->choice.command = &argv[end + 1];
        argv[end] = NULL;
    }
    argv[0] = "usbip-conformance client"; /* for getopt's own words */
    optind = 1;
    while ((option = getopt_long(end, argv, "", long_options, NULL)) != -1) {
        if (option == OPTION_HELP) {
            fputs(usage, stdout);
            return EXIT_AS_EXPECTED;
        }
        if (option == '?')
            return EXIT_NO_RUN;
        const char *wrong = take_option(options, option);
        if (wrong)
            return wrong_usage(optarg, wrong);
    }
    options->wanted = (const char *const *)&argv[optind];
    options->wanted_count = (size_t)(end - optind);
    for (int i = optind; i < end; i++) {
        if (!case_is_named(&client_cases, argv[i]))
            return wrong_usage(argv[i], "is no case, name of a case, or section (a command stands "
                                        "behind --)");
    }
    bool one_port = strcmp(options->port, "0") != 0;
    if (options->jobs > 1 && (one_port || !options->choice.command))
        return wrong_usage("--jobs", one_port
                                         ? "above 1 needs a port for each case, --listen HOST:0"
                                         : "above 1 needs a COMMAND");
    if (options->jobs == 0) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        options->jobs = one_port || !options->choice.command || processors < 1 ? 1
                        : processors < MAX_JOBS ? (unsigned)processors
                                                : MAX_JOBS;
    }
    return -1;
}

/* Whether execvp() finds it. */
static bool is_program(const char *name)
{
    const char *path = getenv("PATH");
    char file[4096];
    if (strchr(name, '/'))
        return access(name, X_OK) == 0;
    for (const char *at = path ? path : "/bin:/usr/bin"; at; at = strchr(at, ':')) {
        at += *at == ':';
        int size = (int)strcspn(at, ":");
        snprintf(file, sizeof file, "%.*s/%s", size, size > 0 ? at : ".", name);
        if (access(file, X_OK) == 0)
            return true;
    }
    return false;
}

/* Without a server or a client there is nothing to report. Returns -1 to go on, or the exit status.
 */
static int check_surroundings(const struct options *options)
{
    struct case_server server = {.listener = -1};
    if (options->choice.command && !is_program(options->choice.command[0]))
        return wrong_usage(options->choice.command[0], "is no program that can be started");
    if (!case_server_listen(&server, options->host, options->port)) {
        fprintf(stderr, "usbip-conformance client: cannot listen on %s port %s: %s\n",
                options->host, options->port, strerror(errno));
        return EXIT_NO_RUN;
    }
    case_server_stop_listening(&server);
    return -1;
}

static void compare(const struct options *options, const struct expect_table *table,
                    struct result *result)
{
    result->expected = expect_find(table, result->conformance_case->id);
    result->as_expected = expect_met(result->expected, result->outcome, result->verdict == FAIL);
    if (result->as_expected && !options->outputs.verbose) {
        free(result->exchange);
        result->exchange = NULL;
    }
}

int client_main(int argc, char **argv)
{
    static struct options options = {
        .choice = {.timeout_ms = DEFAULT_TIMEOUT_MS, .patience_ms = DEFAULT_PATIENCE_MS},
        .host = "127.0.0.1",
        .port = "0",
    };
    static struct expect_table table;
    static struct result results[EXPECT_MAX_LINES];
    char why[256];
    int status = parse_options(&options, argc, argv);
    if (status >= 0)
        return status;
    if (options.list) {
        report_list(stdout, &client_cases, options.wanted, options.wanted_count);
        return EXIT_AS_EXPECTED;
    }
    if (options.expect && expect_load_named(&table, options.expect, why) < 0)
        return wrong_usage(options.expect, why);
    const struct expectation *foreign = expect_find_foreign(&table, &client_cases);
    if (foreign)
        return wrong_usage(foreign->id, "has a line in the table, and is no case for a client");
    status = check_surroundings(&options);
    if (status >= 0)
        return status;
    signal(SIGPIPE, SIG_IGN);     /* a client that is gone */
    unsetenv("USBIP_TIMEOUT_MS"); /* only some cases set it */
    options.choice.host = options.host;
    options.choice.port = options.port;
    int count = client_run(&client_cases, options.wanted, options.wanted_count, &options.choice,
                           options.jobs, results);
    if (count < 0)
        return EXIT_NO_RUN;
    for (int i = 0; i < count; i++)
        compare(&options, &table, &results[i]);
    const char *title = options.choice.command ? options.choice.command[0] : "a client by hand";
    status = report_write_all(&options.outputs, "usbip-conformance client",
                              &(struct report){title, results, (size_t)count});
    for (int i = 0; i < count; i++)
        free(results[i].exchange);
    return status;
}
