#include "emulator/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/server.h"

#define VERSION "0.1.0"

static const char help[] =
    "usage: usbip-emulator [OPTION]... DEVICE...\n"
    "       usbip-emulator ctl [--json] FILE.sock REQUEST [ARGUMENT]...\n"
    "       usbip-emulator inspect [OPTION]... FILE   (what is in a capture of USB traffic)\n"
    "       usbip-emulator replay-check [OPTION]... FILE...   (replays it to its own host)\n"
    "\n"
    "Serves emulated USB serial devices to USB/IP clients. Each DEVICE is a Lua script\n"
    "(docs/scripting.md says what is in it, scripts/ has examples) or a capture of USB traffic,\n"
    "of which a device lives again (docs/captures.md).\n"
    "\n"
    "  --listen HOST:PORT  where to accept clients (default 127.0.0.1:3240);\n"
    "                      port 0 takes a free one, [::1]:3240 is IPv6\n"
    "  --port-file FILE    write the port's number to FILE once clients are accepted\n"
    "  --copies N          N devices of each DEVICE (default 1); serial numbers of copies get a\n"
    "                      \"-2\", \"-3\" and so on at their end\n"
    "  --personality NAME  the server that is imitated where servers differ; a script may say\n"
    "                      another for its device. strict (default), linux, usbipd-win, jiegec\n"
    "                      or usbip-python; docs/personalities.md says what each does\n"
    "  --fault NAME[:KEY=VALUE[,KEY=VALUE]...]\n"
    "                      misbehave; may be given more than once\n"
    "  --control FILE.sock take requests on this socket; `usbip-emulator ctl` sends them\n"
    "  --replay MODE       when captured devices say what they said: gated (default: once the "
    "host\n"
    "                      has sent all that it had sent before), strict (all in the recorded\n"
    "                      order), timed (gated, with the recorded pauses), free (when asked) or "
    "step\n"
    "                      (as many as the request step of --control says)\n"
    "  --speed X           timed: so many times as fast (default 1)\n"
    "  --at-end WHAT       when all is said: hold (default), loop, stall or disconnect\n"
    "  --at-import WHAT    the next client finds the recording at its beginning: restart "
    "(default),\n"
    "                      or goes on where the last one left: continue\n"
    "  --errors WHAT       recorded errors of the device are repeated: replay (default), or skip\n"
    "  --match HOW         requests must come exact (default), by their setup packets alone, or "
    "any;\n"
    "                      any also compares no data\n"
    "  --device BUS.DEV|VID:PID\n"
    "                      which device of the captures\n"
    "  --descriptors FILE  descriptors that the capture lacks\n"
    "  --divergence FILE   write what the host did otherwise to FILE as JSON\n"
    "  --seed N            where random numbers of scripts and faults start\n"
    "                      (default: differs each time)\n"
    "  --virtual-time      do not wait for the devices' timers: time jumps to the next one\n"
    "                      whenever there is nothing else to do\n"
    "  --record FILE       write what passes to FILE, a capture that Wireshark opens\n"
    "  --no-io-uring       wait for clients with epoll alone, also where io_uring is faster\n"
    "  --unsafe-scripts    let scripts use files, programs and C modules\n"
    "  -v, --verbose       show what the devices are told\n"
    "  --help, --version\n"
    "  --help-faults       what faults there are; docs/faults.md says more\n"
    "\n"
    "SIGINT or SIGTERM ends it. Exit status: 0, 2 for wrong usage, 3 when a host did otherwise\n"
    "than a capture, 1 for everything else.\n";

__attribute__((format(printf, 1, 2))) static int usage_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("usbip-emulator: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("; usbip-emulator --help shows the options\n", stderr);
    return USBIP_EXIT_USAGE;
}

static bool parse_seed(const char *text, uint64_t *seed)
{
    char *end;
    errno = 0;
    *seed = strtoull(text, &end, 0);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0';
}

_Static_assert(USBIP_MAX_DEVICES == 4096, "as the message about --copies says");

static bool parse_copies(const char *text, unsigned *copies)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    *copies = (unsigned)value;
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && value >= 1 &&
           value <= USBIP_MAX_DEVICES;
}

static bool parse_speed(const char *text, double *speed)
{
    char *end;
    *speed = strtod(text, &end);
    return end != text && *end == '\0' && *speed >= USBIP_REPLAY_MIN_SPEED &&
           *speed <= USBIP_REPLAY_MAX_SPEED;
}

static int add_fault(struct usbip_emulator_options *options, const char *text)
{
    char error_text[USBIP_FAULT_ERROR_SIZE];
    if (options->fault_count == USBIP_MAX_FAULTS)
        return usage_error("--fault %s: that is one too many", text);
    if (usbip_fault_options_parse(&options->faults[options->fault_count], text, error_text)) {
        options->fault_count++;
        return -1;
    }
    fprintf(stderr, "usbip-emulator: --fault %s: %s; usbip-emulator --help-faults shows them\n",
            text, error_text);
    return USBIP_EXIT_USAGE;
}

static void print_parameter(const struct usbip_fault_parameter *parameter)
{
    char standard[32] = "", range[80] = "";
    if (parameter->kind == USBIP_PARAMETER_NUMBER || parameter->kind == USBIP_PARAMETER_WORD ||
        (parameter->kind == USBIP_PARAMETER_HEX && parameter->standard >= 0))
        usbip_fault_format_value(parameter, parameter->standard, standard);
    if (parameter->kind == USBIP_PARAMETER_WORD) {
        snprintf(range, sizeof range, "%s", parameter->words);
    } else if (parameter->kind == USBIP_PARAMETER_NUMBER ||
               parameter->kind == USBIP_PARAMETER_HEX) {
        char min[32], max[32];
        usbip_fault_format_value(parameter, parameter->min, min);
        usbip_fault_format_value(parameter, parameter->max, max);
        snprintf(range, sizeof range, "%s to %s", min, max);
    } else {
        snprintf(range, sizeof range, "%s",
                 parameter->kind == USBIP_PARAMETER_ID ? "VID:PID" : "BUSID");
    }
    printf("    %s=%-*s %s: %s\n", parameter->key, (int)(12 - strlen(parameter->key)), standard,
           range, parameter->help);
}

static bool is_common(const struct usbip_fault_parameter *parameter)
{
    return parameter->place < USBIP_FAULT_OWN;
}

static void print_faults(void)
{
    const struct usbip_fault_parameter *parameter;
    puts("--fault NAME[:KEY=VALUE[,KEY=VALUE]...]; the values shown are those of keys left out.");
    for (unsigned kind = 0; kind < USBIP_FAULT_KINDS; kind++) {
        const struct usbip_fault_type *type = usbip_fault_type((enum usbip_fault_kind)kind);
        printf("\n%s: %s\n", type->name, type->help);
        const char *separator = "    also ";
        for (unsigned i = 0; (parameter = usbip_fault_parameter(type, i)) != NULL; i++) {
            if (!is_common(parameter)) {
                print_parameter(parameter);
                continue;
            }
            printf("%s%s", separator, parameter->key);
            separator = ", ";
        }
        puts("");
    }
    puts("\nWhat several have:");
    for (unsigned i = 0;
         (parameter = usbip_fault_parameter(usbip_fault_type(USBIP_FAULT_DELAY), i)) != NULL; i++) {
        if (is_common(parameter))
            print_parameter(parameter);
    }
}

enum {
    LISTEN = 256,
    PORT_FILE,
    COPIES,
    PERSONALITY,
    FAULT,
    CONTROL,
    SEED,
    VIRTUAL_TIME,
    RECORD,
    REPLAY,
    SPEED,
    AT_END,
    AT_IMPORT,
    MATCH,
    ERRORS,
    DEVICE,
    DESCRIPTORS,
    DIVERGENCE,
    NO_IO_URING,
    UNSAFE_SCRIPTS,
    HELP,
    HELP_FAULTS,
    SHOW_VERSION,
};

static const struct option names[] = {
    {"listen", required_argument, NULL, LISTEN},
    {"port-file", required_argument, NULL, PORT_FILE},
    {"copies", required_argument, NULL, COPIES},
    {"personality", required_argument, NULL, PERSONALITY},
    {"fault", required_argument, NULL, FAULT},
    {"control", required_argument, NULL, CONTROL},
    {"seed", required_argument, NULL, SEED},
    {"virtual-time", no_argument, NULL, VIRTUAL_TIME},
    {"record", required_argument, NULL, RECORD},
    {"replay", required_argument, NULL, REPLAY},
    {"speed", required_argument, NULL, SPEED},
    {"at-end", required_argument, NULL, AT_END},
    {"at-import", required_argument, NULL, AT_IMPORT},
    {"match", required_argument, NULL, MATCH},
    {"errors", required_argument, NULL, ERRORS},
    {"device", required_argument, NULL, DEVICE},
    {"descriptors", required_argument, NULL, DESCRIPTORS},
    {"divergence", required_argument, NULL, DIVERGENCE},
    {"no-io-uring", no_argument, NULL, NO_IO_URING},
    {"unsafe-scripts", no_argument, NULL, UNSAFE_SCRIPTS},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, HELP},
    {"help-faults", no_argument, NULL, HELP_FAULTS},
    {"version", no_argument, NULL, SHOW_VERSION},
    {NULL, 0, NULL, 0},
};

/* What is to become of captures. Returns -1, or an exit status. */
static int take_replay_option(struct usbip_emulator_options *options, int option)
{
    switch (option) {
    case REPLAY:
        if (!usbip_replay_parse_mode(optarg, &options->replay.mode))
            return usage_error("--replay %s: not gated, strict, timed, free or step", optarg);
        break;
    case SPEED:
        if (!parse_speed(optarg, &options->replay.speed))
            return usage_error("--speed %s: not a number from 0.001 to 1000000", optarg);
        break;
    case AT_END:
        if (!usbip_replay_parse_end(optarg, &options->replay.end))
            return usage_error("--at-end %s: not hold, loop, stall or disconnect", optarg);
        break;
    case AT_IMPORT:
        if (!usbip_replay_parse_import(optarg, &options->replay.import))
            return usage_error("--at-import %s: not restart or continue", optarg);
        break;
    case MATCH:
        if (!usbip_replay_parse_match(optarg, &options->replay.match))
            return usage_error("--match %s: not exact, setup or any", optarg);
        break;
    case ERRORS:
        if (!usbip_replay_parse_errors(optarg, &options->replay.skip_errors))
            return usage_error("--errors %s: not replay or skip", optarg);
        break;
    case DEVICE:
        if (!usbip_capture_is_wish(optarg))
            return usage_error("--device " USBIP_CAPTURE_NO_WISH, optarg);
        options->replay.device = optarg;
        break;
    case DESCRIPTORS:
        options->replay.descriptors = optarg;
        break;
    case DIVERGENCE:
        options->divergence = optarg;
        break;
    }
    return -1;
}

/* Returns -1, or an exit status. */
static int take_option(struct usbip_emulator_options *options, int option)
{
    switch (option) {
    case LISTEN:
        if (!usbip_server_is_address(optarg))
            return usage_error("--listen %s: not HOST:PORT or [IPv6]:PORT", optarg);
        options->listen = optarg;
        break;
    case PORT_FILE:
        options->port_file = optarg;
        break;
    case COPIES:
        if (!parse_copies(optarg, &options->copies))
            return usage_error("--copies %s: not a number from 1 to 4096", optarg);
        break;
    case PERSONALITY:
        options->personality = usbip_find_personality(optarg);
        if (!options->personality)
            return usage_error("--personality %s: there is none of that name, but %s", optarg,
                               usbip_personality_names());
        break;
    case FAULT:
        return add_fault(options, optarg);
    case CONTROL:
        options->control = optarg;
        break;
    case SEED:
        options->has_seed = true;
        if (!parse_seed(optarg, &options->seed))
            return usage_error("--seed %s: not a number from 0 to 2^64 - 1", optarg);
        break;
    case VIRTUAL_TIME:
        options->virtual_time = true;
        break;
    case RECORD:
        options->record = optarg;
        break;
    case NO_IO_URING:
        options->without_io_uring = true;
        break;
    case UNSAFE_SCRIPTS:
        options->unsafe_scripts = true;
        break;
    case 'v':
        options->verbose = true;
        break;
    default:
        return take_replay_option(options, option);
    }
    return -1;
}

int usbip_emulator_parse_options(int argc, char **argv, struct usbip_emulator_options *options)
{
    int option, status;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":v", names, NULL)) != -1) {
        switch (option) {
        case HELP:
            fputs(help, stdout);
            return EXIT_SUCCESS;
        case HELP_FAULTS:
            print_faults();
            return EXIT_SUCCESS;
        case SHOW_VERSION:
            puts("usbip-emulator " VERSION);
            return EXIT_SUCCESS;
        case ':':
            return usage_error("%s needs a value", argv[optind - 1]);
        case '?':
            return usage_error("%s is not an option, or takes no value", argv[optind - 1]);
        default:
            status = take_option(options, option);
            if (status >= 0)
                return status;
        }
    }
    if (optind == argc)
        return usage_error("%s", "no DEVICE given");
    return -1;
}
