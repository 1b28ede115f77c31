/* usbip-record: sits between USB/IP clients and a server and records what passes. See --help. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "capture/recorder.h"
#include "capture/relay.h"

#define VERSION "0.1.0"

enum { EXIT_USAGE = 2 };

static const char help[] =
    "usage: usbip-record [OPTION]... --upstream HOST:PORT FILE\n"
    "\n"
    "Passes USB/IP connections on to a server, unchanged, and writes what its devices are told "
    "and\n"
    "answer to FILE, a capture that Wireshark opens.\n"
    "\n"
    "  --listen HOST:PORT    where to accept clients (default 127.0.0.1:3240);\n"
    "                        port 0 takes a free one, [::1]:3240 is IPv6\n"
    "  --upstream HOST:PORT  the server\n"
    "  --per-device          a file for each device: of a/b.pcap, 1-2 has a/b-1-2.pcap\n"
    "  --help, --version\n"
    "\n"
    "SIGINT or SIGTERM ends it. Exit status: 0, 2 for wrong usage, 1 for everything else, also "
    "when\n"
    "something could not be recorded; the connections go on then.\n";

struct tool {
    uv_loop_t loop;
    uv_signal_t interrupted, terminated;
    struct usbip_relay *relay;
    struct usbip_recorder *recorder;
    struct usbip_tap tap; /* the recorder's */
};

static int usage_error(const char *format, const char *value)
{
    fputs("usbip-record: ", stderr);
    fprintf(stderr, format, value);
    fputs("; usbip-record --help shows the options\n", stderr);
    return EXIT_USAGE;
}

static bool is_address(const char *text)
{
    char host[USBIP_HOST_SIZE];
    const char *port;
    return usbip_split_address(text, host, &port);
}

/* Returns -1 to go on, or the exit status. */
static int parse_options(int argc, char **argv, struct usbip_relay_options *relay,
                         struct usbip_recorder_options *recorder)
{
    enum { LISTEN = 256, UPSTREAM, PER_DEVICE, HELP, SHOW_VERSION };
    static const struct option names[] = {
        {"listen", required_argument, NULL, LISTEN},
        {"upstream", required_argument, NULL, UPSTREAM},
        {"per-device", no_argument, NULL, PER_DEVICE},
        {"help", no_argument, NULL, HELP},
        {"version", no_argument, NULL, SHOW_VERSION},
        {NULL, 0, NULL, 0},
    };
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", names, NULL)) != -1) {
        switch (option) {
        case LISTEN:
            if (!is_address(optarg))
                return usage_error("--listen %s: not HOST:PORT or [IPv6]:PORT", optarg);
            relay->listen = optarg;
            break;
        case UPSTREAM:
            if (!is_address(optarg))
                return usage_error("--upstream %s: not HOST:PORT or [IPv6]:PORT", optarg);
            relay->upstream = optarg;
            break;
        case PER_DEVICE:
            recorder->file_per_device = true;
            break;
        case HELP:
            fputs(help, stdout);
            return EXIT_SUCCESS;
        case SHOW_VERSION:
            puts("usbip-record " VERSION);
            return EXIT_SUCCESS;
        case ':':
            return usage_error("%s needs a value", argv[optind - 1]);
        default:
            return usage_error("%s is not an option, or takes no value", argv[optind - 1]);
        }
    }
    if (!relay->upstream)
        return usage_error("%s", "no --upstream HOST:PORT given");
    if (optind == argc)
        return usage_error("%s", "no FILE given");
    if (optind + 1 < argc)
        return usage_error("one FILE is enough, %s is too many", argv[optind + 1]);
    recorder->path = argv[optind];
    return -1;
}

static void report(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "usbip-record: %s\n", line);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct tool *tool = handle->data;
    (void)number;
    if (tool->relay)
        usbip_relay_close(tool->relay);
    uv_close((uv_handle_t *)&tool->interrupted, NULL);
    uv_close((uv_handle_t *)&tool->terminated, NULL);
}

/* The file is opened last: a second recorder at this address must not empty that of the first. */
static bool start(struct tool *tool, const struct usbip_relay_options *relay_options,
                  const struct usbip_recorder_options *recorder_options)
{
    char bound[USBIP_RELAY_ADDRESS_SIZE], relay_error[USBIP_RELAY_ERROR_SIZE];
    char recorder_error[USBIP_RECORDER_ERROR_SIZE];
    tool->relay = usbip_relay_new(&tool->loop, relay_options, bound, relay_error);
    if (!tool->relay) {
        report(NULL, relay_error);
        return false;
    }
    tool->recorder = usbip_recorder_new(recorder_options, recorder_error);
    if (!tool->recorder) {
        report(NULL, recorder_error);
        return false;
    }
    tool->tap = *usbip_recorder_tap(tool->recorder);
    printf("listening on %s\n", bound);
    return true;
}

static int run(struct tool *tool, const struct usbip_relay_options *relay_options,
               const struct usbip_recorder_options *recorder_options)
{
    if (uv_loop_init(&tool->loop) < 0) {
        report(NULL, "out of memory");
        return EXIT_FAILURE;
    }
    uv_signal_init(&tool->loop, &tool->interrupted);
    uv_signal_init(&tool->loop, &tool->terminated);
    tool->interrupted.data = tool->terminated.data = tool;
    uv_signal_start(&tool->interrupted, on_signal, SIGINT);
    uv_signal_start(&tool->terminated, on_signal, SIGTERM);
    int status = EXIT_SUCCESS;
    if (!start(tool, relay_options, recorder_options)) {
        on_signal(&tool->terminated, 0);
        status = EXIT_FAILURE;
    }
    uv_run(&tool->loop, UV_RUN_DEFAULT);
    uv_loop_close(&tool->loop);
    return usbip_recorder_free(tool->recorder) < 0 ? EXIT_FAILURE : status;
}

int main(int argc, char **argv)
{
    struct tool tool = {.relay = NULL};
    struct usbip_relay_options relay_options = {
        .listen = "127.0.0.1:3240", .tap = &tool.tap, .report = report};
    struct usbip_recorder_options recorder_options = {.report = report};
    int status = parse_options(argc, argv, &relay_options, &recorder_options);
    if (status >= 0)
        return status;
    /* A peer that is gone is an error of write(), not a signal. */
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    return run(&tool, &relay_options, &recorder_options);
}
