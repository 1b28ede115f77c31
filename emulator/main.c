/* usbip-emulator: serves devices that Lua scripts describe. See --help. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "emulator/capture/inspect.h"
#include "emulator/script.h"
#include "emulator/server.h"

#define VERSION "0.1.0"

enum { EXIT_USAGE = 2 };

/* A string descriptor has at most 126 units of UTF-16: not more than three bytes of UTF-8 each. */
enum { MAX_PRODUCT_SIZE = 3 * 126 + 1 };

static const char help[] =
    "usage: usbip-emulator [OPTION]... DEVICE...\n"
    "       usbip-emulator inspect [OPTION]... FILE   (what is in a capture of USB traffic)\n"
    "\n"
    "Serves emulated USB serial devices to USB/IP clients. Each DEVICE is a Lua script;\n"
    "docs/scripting.md says what is in it, scripts/ has examples.\n"
    "\n"
    "  --listen HOST:PORT  where to accept clients (default 127.0.0.1:3240);\n"
    "                      port 0 takes a free one, [::1]:3240 is IPv6\n"
    "  --port-file FILE    write the port's number to FILE once clients are accepted\n"
    "  --seed N            where the scripts' random numbers start (default: differs each time)\n"
    "  --virtual-time      do not wait for the devices' timers: time jumps to the next one\n"
    "                      whenever there is nothing else to do\n"
    "  --unsafe-scripts    let scripts use files, programs and C modules\n"
    "  -v, --verbose       show what the devices are told\n"
    "  --help, --version\n"
    "\n"
    "SIGINT or SIGTERM ends it. Exit status: 0, 2 for wrong usage, 1 for everything else.\n";

struct options {
    const char *listen;
    const char *port_file;
    uint64_t seed;
    bool has_seed, virtual_time, unsafe_scripts, verbose;
};

struct emulator {
    struct options options;
    uv_loop_t loop;
    uv_signal_t interrupted, terminated;
    struct usbip_scheduler scheduler;
    struct usbip_bus bus;
    unsigned long dropped_lines;   /* of the log */
    struct usbip_script **scripts; /* of bus.devices */
    struct usbip_server *server;
};

/* ---- Command line ---- */

/* A reader that has stopped reading must not stop the devices: what a full pipe does not take is
 * counted instead. */
static void write_log(void *context, enum usbip_log_level level, const char *line)
{
    unsigned long *dropped = context;
    struct pollfd output = {.fd = STDERR_FILENO, .events = POLLOUT};
    (void)level;
    if (poll(&output, 1, 0) == 0) {
        ++*dropped;
        return;
    }
    if (*dropped > 0)
        fprintf(stderr, "%lu lines of the log were dropped, because nobody read them\n%s\n",
                *dropped, line);
    else
        fprintf(stderr, "%s\n", line);
    *dropped = 0;
}

static int usage_error(const char *format, const char *value)
{
    fputs("usbip-emulator: ", stderr);
    fprintf(stderr, format, value);
    fputs("; usbip-emulator --help shows the options\n", stderr);
    return EXIT_USAGE;
}

static bool parse_seed(const char *text, uint64_t *seed)
{
    char *end;
    errno = 0;
    *seed = strtoull(text, &end, 0);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0';
}

/* Returns -1 to go on, or the exit status. */
static int parse_options(int argc, char **argv, struct options *options)
{
    enum { LISTEN = 256, PORT_FILE, SEED, VIRTUAL_TIME, UNSAFE_SCRIPTS, HELP, SHOW_VERSION };
    static const struct option names[] = {
        {"listen", required_argument, NULL, LISTEN},
        {"port-file", required_argument, NULL, PORT_FILE},
        {"seed", required_argument, NULL, SEED},
        {"virtual-time", no_argument, NULL, VIRTUAL_TIME},
        {"unsafe-scripts", no_argument, NULL, UNSAFE_SCRIPTS},
        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, HELP},
        {"version", no_argument, NULL, SHOW_VERSION},
        {NULL, 0, NULL, 0},
    };
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":v", names, NULL)) != -1) {
        switch (option) {
        case LISTEN:
            if (!usbip_server_is_address(optarg))
                return usage_error("--listen %s: not HOST:PORT or [IPv6]:PORT", optarg);
            options->listen = optarg;
            break;
        case PORT_FILE:
            options->port_file = optarg;
            break;
        case SEED:
            options->has_seed = true;
            if (!parse_seed(optarg, &options->seed))
                return usage_error("--seed %s: not a number from 0 to 2^64 - 1", optarg);
            break;
        case VIRTUAL_TIME:
            options->virtual_time = true;
            break;
        case UNSAFE_SCRIPTS:
            options->unsafe_scripts = true;
            break;
        case 'v':
            options->verbose = true;
            break;
        case HELP:
            fputs(help, stdout);
            return EXIT_SUCCESS;
        case SHOW_VERSION:
            puts("usbip-emulator " VERSION);
            return EXIT_SUCCESS;
        case ':':
            return usage_error("%s needs a value", argv[optind - 1]);
        default:
            return usage_error("%s is not an option, or takes no value", argv[optind - 1]);
        }
    }
    if (optind == argc)
        return usage_error("%s", "no DEVICE given");
    return -1;
}

/* ---- Devices ---- */

static bool add_device(struct emulator *emulator, const char *path)
{
    const struct usbip_script_options options = {
        .path = path,
        .seed = emulator->options.seed,
        .index = emulator->bus.count,
        .unsafe = emulator->options.unsafe_scripts,
    };
    char error_text[USBIP_SCRIPT_ERROR_SIZE];
    struct usbip_device *device;
    struct usbip_script *script =
        usbip_script_new(&options, &emulator->scheduler, &emulator->bus.log, &device, error_text);
    if (!script) {
        fprintf(stderr, "usbip-emulator: %s\n", error_text);
        return false;
    }
    unsigned index = emulator->bus.count;
    if (usbip_bus_add(&emulator->bus, device) < 0) {
        fprintf(stderr, "usbip-emulator: %s: no room for it; at most %d devices are possible\n",
                path, USBIP_MAX_DEVICES);
        usbip_device_free(device);
        usbip_script_free(script);
        return false;
    }
    emulator->scripts[index] = script;
    return true;
}

static bool add_devices(struct emulator *emulator, char **paths, int count)
{
    emulator->scripts = calloc((size_t)count, sizeof(struct usbip_script *));
    if (!emulator->scripts) {
        fputs("usbip-emulator: out of memory\n", stderr);
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (!add_device(emulator, paths[i]))
            return false;
    }
    return true;
}

static void free_devices(struct emulator *emulator)
{
    unsigned count = emulator->bus.count;
    usbip_bus_free(&emulator->bus);
    for (unsigned i = 0; i < count; i++)
        usbip_script_free(emulator->scripts[i]);
    free(emulator->scripts);
    usbip_scheduler_free(&emulator->scheduler);
}

static void print_devices(const struct emulator *emulator, char **paths)
{
    for (unsigned i = 0; i < emulator->bus.count; i++) {
        const struct usbip_device *device = emulator->bus.devices[i];
        struct usbip_device_record record;
        char product[MAX_PRODUCT_SIZE];
        usbip_bus_describe(device, &record);
        snprintf(product, sizeof product, "%s", usbip_script_product(emulator->scripts[i]));
        usbip_blank_control_characters(product);
        printf("%s  %04x:%04x  \"%s\"  %s  %s\n", record.busid, record.idVendor, record.idProduct,
               product, usbip_device_function(device)->type->name, paths[i]);
    }
}

/* ---- Server ---- */

/* Whoever waits for the file sees it only when it is complete. */
static bool write_port_file(const char *path, int port)
{
    size_t size = strlen(path) + 32;
    char *temporary = malloc(size);
    bool written = false;
    if (temporary) {
        snprintf(temporary, size, "%s.%ld.tmp", path, (long)getpid());
        FILE *file = fopen(temporary, "w");
        if (file) {
            written = fprintf(file, "%d\n", port) > 0;
            written &= fclose(file) == 0;
            written = written && rename(temporary, path) == 0;
        }
    }
    if (!written) {
        fprintf(stderr, "usbip-emulator: cannot write the port file %s: %s\n", path,
                strerror(errno));
        if (temporary)
            remove(temporary);
    }
    free(temporary);
    return written;
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct emulator *emulator = handle->data;
    (void)number;
    usbip_server_close(emulator->server);
    uv_close((uv_handle_t *)&emulator->interrupted, NULL);
    uv_close((uv_handle_t *)&emulator->terminated, NULL);
}

static bool start(struct emulator *emulator, char **paths)
{
    const struct options *options = &emulator->options;
    char bound[USBIP_SERVER_ADDRESS_SIZE], error_text[USBIP_SERVER_ERROR_SIZE];
    int port = usbip_server_listen(emulator->server, options->listen, bound, error_text);
    if (port < 0) {
        fprintf(stderr, "usbip-emulator: %s\n", error_text);
        return false;
    }
    if (options->port_file && !write_port_file(options->port_file, port))
        return false;
    print_devices(emulator, paths);
    printf("seed %" PRIu64 "\n", options->seed);
    printf("listening on %s\n", bound);
    return true;
}

static void report_script_errors(const struct usbip_bus *bus)
{
    for (unsigned i = 0; i < bus->count; i++) {
        uint64_t errors = usbip_device_counters(bus->devices[i])->script_errors;
        if (errors > 0)
            usbip_log(&bus->log, USBIP_LOG_ERROR, "%s: its script failed %" PRIu64 " times",
                      usbip_device_name(bus->devices[i]), errors);
    }
}

static int serve(struct emulator *emulator, char **paths)
{
    const struct usbip_server_options server_options = {
        .bus = &emulator->bus,
        .scheduler = &emulator->scheduler,
        .virtual_time = emulator->options.virtual_time,
    };
    if (uv_loop_init(&emulator->loop) < 0 ||
        !(emulator->server = usbip_server_new(&emulator->loop, &server_options))) {
        fputs("usbip-emulator: out of memory\n", stderr);
        return EXIT_FAILURE;
    }
    uv_signal_init(&emulator->loop, &emulator->interrupted);
    uv_signal_init(&emulator->loop, &emulator->terminated);
    emulator->interrupted.data = emulator->terminated.data = emulator;
    uv_signal_start(&emulator->interrupted, on_signal, SIGINT);
    uv_signal_start(&emulator->terminated, on_signal, SIGTERM);
    int status = EXIT_SUCCESS;
    if (!start(emulator, paths)) {
        on_signal(&emulator->terminated, 0);
        status = EXIT_FAILURE;
    }
    uv_run(&emulator->loop, UV_RUN_DEFAULT);
    uv_loop_close(&emulator->loop);
    report_script_errors(&emulator->bus);
    return status;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "inspect") == 0)
        return usbip_inspect_main(argc - 1, argv + 1);
    struct emulator emulator = {.options.listen = "127.0.0.1:3240"};
    int status = parse_options(argc, argv, &emulator.options);
    if (status >= 0)
        return status;
    /* A client that is gone is an error of write(), not a signal. */
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!emulator.options.has_seed &&
        uv_random(NULL, NULL, &emulator.options.seed, sizeof emulator.options.seed, 0, NULL) < 0)
        emulator.options.seed = uv_hrtime();
    emulator.bus.log = (struct usbip_log){
        .write = write_log,
        .context = &emulator.dropped_lines,
        .level = emulator.options.verbose ? USBIP_LOG_VERBOSE : USBIP_LOG_INFO,
    };
    /* One that an earlier run has left would be taken for ours. */
    if (emulator.options.port_file)
        remove(emulator.options.port_file);
    status = EXIT_FAILURE;
    if (add_devices(&emulator, argv + optind, argc - optind))
        status = serve(&emulator, argv + optind);
    free_devices(&emulator);
    return status;
}
