/* usbip-emulator: serves devices that Lua scripts describe or captures hold. See --help. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "capture/recorder.h"
#include "emulator/capture/inspect.h"
#include "emulator/control.h"
#include "emulator/ctl.h"
#include "emulator/options.h"
#include "emulator/replay/check.h"
#include "emulator/script.h"
#include "emulator/server.h"

/* A string descriptor has at most 126 units of UTF-16: not more than three bytes of UTF-8 each. */
enum { MAX_PRODUCT_SIZE = 3 * 126 + 1 };

struct emulator {
    struct usbip_emulator_options options;
    uv_loop_t loop;
    uv_signal_t interrupted, terminated;
    struct usbip_scheduler scheduler;
    struct usbip_bus bus;
    unsigned long dropped_lines;   /* of the log */
    struct usbip_script **scripts; /* of bus.devices; NULL for a capture */
    struct usbip_replay **replays; /* of bus.devices; NULL for no replay */
    struct usbip_server *server;
    struct usbip_control *control;
    struct usbip_recorder *recorder; /* NULL: nothing is recorded */
    struct usbip_tap tap;            /* the recorder's */
    uint64_t started_us;             /* since 1970 */
};

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

/* ---- Devices ---- */

/* Either makes a device, or returns NULL after a message. */
static struct usbip_device *load_script(struct emulator *emulator, const char *path, unsigned copy,
                                        struct usbip_script **script)
{
    const struct usbip_script_options options = {
        .path = path,
        .seed = emulator->options.seed,
        .index = emulator->bus.count,
        .personality = emulator->options.personality,
        .copy = copy,
        .unsafe = emulator->options.unsafe_scripts,
        .faults = &emulator->bus.faults,
    };
    char error_text[USBIP_SCRIPT_ERROR_SIZE];
    struct usbip_device *device;
    *script =
        usbip_script_new(&options, &emulator->scheduler, &emulator->bus.log, &device, error_text);
    if (*script)
        return device;
    fprintf(stderr, "usbip-emulator: %s\n", error_text);
    return NULL;
}

static struct usbip_device *load_capture(struct emulator *emulator, const char *path,
                                         struct usbip_replay **replay)
{
    struct usbip_replay_options options = emulator->options.replay;
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    struct usbip_device *device;
    options.path = path;
    options.personality = emulator->options.personality;
    *replay =
        usbip_replay_new(&options, &emulator->scheduler, &emulator->bus.log, &device, error_text);
    if (*replay)
        return device;
    fprintf(stderr, "usbip-emulator: %s\n", error_text);
    return NULL;
}

static bool add_device(struct emulator *emulator, const char *path, unsigned copy)
{
    unsigned index = emulator->bus.count;
    struct usbip_script *script = NULL;
    struct usbip_replay *replay = NULL;
    struct usbip_device *device = usbip_replay_is_capture(path)
                                      ? load_capture(emulator, path, &replay)
                                      : load_script(emulator, path, copy, &script);
    if (!device)
        return false;
    if (usbip_bus_add(&emulator->bus, device) < 0) {
        fprintf(stderr, "usbip-emulator: %s: no room for it; at most %d devices are possible\n",
                path, USBIP_MAX_DEVICES);
        usbip_device_free(device);
        usbip_script_free(script);
        usbip_replay_free(replay);
        return false;
    }
    emulator->scripts[index] = script;
    emulator->replays[index] = script ? usbip_script_replay(script) : replay;
    return true;
}

static bool add_devices(struct emulator *emulator, char **paths, int count)
{
    unsigned copies = emulator->options.copies;
    size_t all = (size_t)count * copies;
    emulator->scripts = calloc(all, sizeof(struct usbip_script *));
    emulator->replays = calloc(all, sizeof(struct usbip_replay *));
    if (!emulator->scripts || !emulator->replays) {
        fputs("usbip-emulator: out of memory\n", stderr);
        return false;
    }
    for (int i = 0; i < count; i++) {
        for (unsigned copy = 1; copy <= copies; copy++) {
            if (!add_device(emulator, paths[i], copy))
                return false;
        }
    }
    return true;
}

/* Before the devices, whose scripts may add more. */
static bool add_faults(struct emulator *emulator)
{
    struct usbip_faults *faults = &emulator->bus.faults;
    usbip_faults_init(faults, &emulator->scheduler, emulator->options.seed);
    for (unsigned i = 0; i < emulator->options.fault_count; i++) {
        char error_text[USBIP_FAULT_ERROR_SIZE];
        if (!usbip_fault_add(faults, &emulator->options.faults[i], NULL, NULL, error_text)) {
            fprintf(stderr, "usbip-emulator: --fault: %s\n", error_text);
            return false;
        }
    }
    return true;
}

static bool check_faults(const struct emulator *emulator)
{
    for (unsigned i = 0; i < emulator->options.fault_count; i++) {
        const char *busid = emulator->options.faults[i].device;
        if (busid[0] && !usbip_bus_device(&emulator->bus, busid)) {
            fprintf(stderr,
                    "usbip-emulator: --fault: there is no device \"%s\"; the busids are 1-1 to "
                    "%s\n",
                    busid, usbip_device_name(emulator->bus.devices[emulator->bus.count - 1]));
            return false;
        }
    }
    return true;
}

static void free_devices(struct emulator *emulator)
{
    unsigned count = emulator->bus.count;
    usbip_bus_free(&emulator->bus);
    for (unsigned i = 0; i < count; i++) {
        if (emulator->scripts[i])
            usbip_script_free(emulator->scripts[i]);
        else
            usbip_replay_free(emulator->replays[i]);
    }
    free(emulator->scripts);
    free(emulator->replays);
    usbip_scheduler_free(&emulator->scheduler);
}

static void print_devices(const struct emulator *emulator, char **paths)
{
    for (unsigned i = 0; i < emulator->bus.count; i++) {
        const struct usbip_device *device = emulator->bus.devices[i];
        const struct usbip_replay *replay = emulator->replays[i];
        struct usbip_device_record record;
        char product[MAX_PRODUCT_SIZE];
        usbip_bus_describe(device, &record);
        snprintf(product, sizeof product, "%s", usbip_device_product(device));
        usbip_blank_control_characters(product);
        printf("%s  %04x:%04x  \"%s\"  %s%s  %s\n", record.busid, record.idVendor, record.idProduct,
               product, replay ? "replay of " : "",
               replay ? usbip_replay_chip_name(replay) : usbip_device_function(device)->type->name,
               paths[i / emulator->options.copies]);
    }
}

/* ---- Recording ---- */

static void report_recording(void *context, const char *line)
{
    const struct emulator *emulator = context;
    usbip_log(&emulator->bus.log, USBIP_LOG_ERROR, "%s", line);
}

/* Virtual time is what the devices live in, and it begins now. */
static uint64_t virtual_now_us(void *context)
{
    const struct emulator *emulator = context;
    return emulator->started_us + emulator->scheduler.now_us;
}

static bool start_recording(struct emulator *emulator)
{
    const struct usbip_recorder_options options = {
        .path = emulator->options.record,
        .now_us = emulator->options.virtual_time ? virtual_now_us : NULL,
        .report = report_recording,
        .context = emulator,
    };
    char error_text[USBIP_RECORDER_ERROR_SIZE];
    emulator->started_us = (uint64_t)time(NULL) * 1000000;
    emulator->recorder = usbip_recorder_new(&options, error_text);
    if (!emulator->recorder) {
        fprintf(stderr, "usbip-emulator: %s\n", error_text);
        return false;
    }
    emulator->tap = *usbip_recorder_tap(emulator->recorder);
    for (unsigned i = 0; i < emulator->bus.count; i++) {
        const struct usbip_device *device = emulator->bus.devices[i];
        struct usbip_device_record record;
        uint8_t descriptor[USB_DT_DEVICE_SIZE];
        size_t size;
        const uint8_t *configuration = usbip_device_configuration_bytes(device, &size);
        usbip_bus_describe(device, &record);
        usbip_encode_device_descriptor(descriptor, usbip_device_descriptor(device));
        usbip_recorder_describe(emulator->recorder, &record, descriptor, configuration, size);
    }
    return true;
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

/* Called once: there are no signals afterwards, and no requests. */
static void quit(void *context)
{
    struct emulator *emulator = context;
    usbip_server_close(emulator->server);
    usbip_control_close(emulator->control);
    uv_close((uv_handle_t *)&emulator->interrupted, NULL);
    uv_close((uv_handle_t *)&emulator->terminated, NULL);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    quit(handle->data);
}

static bool start_control(struct emulator *emulator)
{
    char error_text[USBIP_CONTROL_ERROR_SIZE];
    const struct usbip_control_options options = {
        .bus = &emulator->bus,
        .quit = quit,
        .context = emulator,
    };
    if (!emulator->options.control)
        return true;
    emulator->control =
        usbip_control_new(&emulator->loop, emulator->options.control, &options, error_text);
    if (!emulator->control)
        fprintf(stderr, "usbip-emulator: %s\n", error_text);
    return emulator->control != NULL;
}

static bool start(struct emulator *emulator, char **paths)
{
    const struct usbip_emulator_options *options = &emulator->options;
    char bound[USBIP_SERVER_ADDRESS_SIZE], error_text[USBIP_SERVER_ERROR_SIZE];
    if (!start_control(emulator))
        return false;
    int port = usbip_server_listen(emulator->server, options->listen, bound, error_text);
    if (port < 0) {
        fprintf(stderr, "usbip-emulator: %s\n", error_text);
        return false;
    }
    /* Not before: a second emulator at this address must not empty the file of the first. */
    if (options->record && !start_recording(emulator))
        return false;
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

/* Returns the exit status. */
static int report_divergences(const struct emulator *emulator)
{
    const char *path = emulator->options.divergence;
    uint64_t divergences = 0;
    for (unsigned i = 0; i < emulator->bus.count; i++) {
        if (!emulator->replays[i])
            continue;
        usbip_replay_finish(emulator->replays[i]);
        divergences += usbip_replay_divergences(emulator->replays[i]);
    }
    int status = divergences > 0 ? USBIP_EXIT_DIVERGED : EXIT_SUCCESS;
    if (!path)
        return status;
    FILE *file = fopen(path, "w");
    bool written = file && usbip_replay_write_report(emulator->replays, emulator->bus.count, file);
    if (file && fclose(file) != 0)
        written = false;
    if (written)
        return status;
    fprintf(stderr, "usbip-emulator: --divergence %s: cannot be written: %s\n", path,
            strerror(errno));
    return EXIT_FAILURE;
}

static int serve(struct emulator *emulator, char **paths)
{
    const struct usbip_server_options server_options = {
        .bus = &emulator->bus,
        .scheduler = &emulator->scheduler,
        .virtual_time = emulator->options.virtual_time,
        .tap = emulator->options.record ? &emulator->tap : NULL,
        .without_io_uring = emulator->options.without_io_uring,
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
        quit(emulator);
        status = EXIT_FAILURE;
    }
    uv_run(&emulator->loop, UV_RUN_DEFAULT);
    uv_loop_close(&emulator->loop);
    report_script_errors(&emulator->bus);
    return status == EXIT_SUCCESS ? report_divergences(emulator) : status;
}

int main(int argc, char **argv)
{
    /* Not on the stack: its options have room for many faults. */
    static struct emulator emulator = {.options = {.listen = "127.0.0.1:3240", .copies = 1}};
    if (argc > 1 && strcmp(argv[1], "ctl") == 0)
        return usbip_ctl(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "inspect") == 0)
        return usbip_inspect_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "replay-check") == 0)
        return usbip_replay_check_main(argc - 1, argv + 1);
    int status = usbip_emulator_parse_options(argc, argv, &emulator.options);
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
    emulator.bus.personality = emulator.options.personality;
    /* One that an earlier run has left would be taken for ours. */
    if (emulator.options.port_file)
        remove(emulator.options.port_file);
    status = EXIT_FAILURE;
    if (add_faults(&emulator) && add_devices(&emulator, argv + optind, argc - optind) &&
        check_faults(&emulator))
        status = serve(&emulator, argv + optind);
    if (usbip_recorder_free(emulator.recorder) < 0)
        status = EXIT_FAILURE;
    free_devices(&emulator);
    return status;
}
