/* usbip-throughput: how fast a USB/IP server is, beside the fastest that is possible. See --help.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/emulator_process.h"
#include "tests/throughput/baseline.h"
#include "tests/throughput/ceiling.h"
#include "tests/throughput/client.h"
#include "tests/throughput/device.h"
#include "tests/throughput/pattern.h"
#include "tests/throughput/relay.h"
#include "tests/throughput/report.h"
#include "tests/throughput/resources.h"
#include "tests/throughput/serial.h"

enum { SERIES_STEP = 64 }; /* for so many more memory is asked for */

struct bench {
    const struct options *options;
    struct report report;

    struct emulator_process emulator;
    struct ceiling ceiling;
    struct relay relays[SIDE_COUNT];
    char addresses[SIDE_COUNT][ADDRESS_SIZE]; /* where the client connects to */
    int pids[SIDE_COUNT];                     /* 0: unknown */

    struct device devices[MAX_SCRIPTS];
    int device_count;

    const struct device **planned; /* of report.series */
    bool out_of_memory;
    struct sample *samples[SIDE_COUNT];
    /* Of the raw client, in the series that is measured just now. */
    struct sample raw;
    double raw_rates[MAX_DEPTHS][MAX_RUNS], raw_cpus[MAX_DEPTHS][MAX_RUNS];
};

static int say(const char *what, const char *why)
{
    fprintf(stderr, "usbip-throughput: %s%s%s\n", what, *why ? ": " : "", why);
    return EXIT_NO_RUN;
}

/* ---- Which series there are ---- */

/* Room for one more. */
static bool grow_plan(struct bench *bench)
{
    struct report *report = &bench->report;
    size_t capacity = report->count + SERIES_STEP;
    if (report->count % SERIES_STEP != 0)
        return true;
    struct series *series = realloc(report->series, capacity * sizeof *series);
    if (series)
        report->series = series;
    const struct device **planned = realloc(bench->planned, capacity * sizeof *planned);
    if (planned)
        bench->planned = planned;
    bench->out_of_memory |= !series || !planned;
    return series && planned;
}

static void plan_series(struct bench *bench, int index, enum test test, uint32_t size,
                        unsigned depth)
{
    struct report *report = &bench->report;
    const struct device *device = &bench->devices[index];
    const struct load load = {
        .test = test,
        .size = size,
        .depth = depth,
        .connections = test == TEST_SERIAL ? 1 : bench->options->connections,
        .seconds = bench->options->seconds,
    };
    const char *objection = device_objects(device, &load);
    char word[WORD_SIZE];
    if (objection) {
        report_note(report, "left out: %s, %s of %s, depth %u: %s", device->label, test_name(test),
                    format_size(size, word), depth, objection);
        return;
    }
    if (!grow_plan(bench))
        return;
    struct series *series = &report->series[report->count];
    *series = (struct series){
        .load = load,
        .delay_ms = bench->options->delay_ms,
        .ratio = {NAN, NAN, NAN},
        .cpu_ratio = {NAN, NAN, NAN},
    };
    snprintf(series->device, sizeof series->device, "%s", device->label);
    for (unsigned i = 0; i < bench->options->depth_count && test == TEST_SERIAL; i++) {
        if (bench->options->ceiling && (uint64_t)size * bench->options->depths[i] <= MAX_IN_FLIGHT)
            series->client_ratios[series->client_ratio_count++].depth = bench->options->depths[i];
    }
    bench->planned[report->count++] = device;
}

static void plan_serial(struct bench *bench, int index, uint32_t size)
{
    bool stream = false;
    for (unsigned i = 0; i < bench->options->depth_count; i++) {
        if (bench->options->depths[i] == 1)
            plan_series(bench, index, TEST_SERIAL, size, 1);
        else if (!stream)
            plan_series(bench, index, TEST_SERIAL, size, SERIAL_STREAM);
        stream |= bench->options->depths[i] != 1;
    }
}

static void plan_test(struct bench *bench, int index, enum test test)
{
    const struct options *options = bench->options;
    if (test == TEST_PING) {
        plan_series(bench, index, test, USB_DT_DEVICE_SIZE, 1);
    } else if (test == TEST_PIPELINE) {
        for (unsigned i = 0; i < options->depth_count; i++)
            plan_series(bench, index, test, USB_DT_DEVICE_SIZE, options->depths[i]);
    } else {
        for (unsigned i = 0; i < options->size_count; i++) {
            for (unsigned j = 0; j < options->depth_count && test != TEST_SERIAL; j++)
                plan_series(bench, index, test, options->sizes[i], options->depths[j]);
            if (test == TEST_SERIAL)
                plan_serial(bench, index, options->sizes[i]);
        }
    }
}

static bool plan(struct bench *bench)
{
    for (enum side side = TARGET; side < SIDE_COUNT; side++) {
        bench->samples[side] = calloc(bench->options->runs, sizeof *bench->samples[side]);
        bench->out_of_memory |= !bench->samples[side];
    }
    for (int i = 0; i < bench->device_count; i++) {
        for (enum test test = TEST_PING; test < TEST_COUNT; test++) {
            if (device_suits(&bench->devices[i], i, bench->options, test))
                plan_test(bench, i, test);
        }
    }
    if (bench->out_of_memory)
        say("out of memory", "");
    else if (bench->report.count == 0)
        say("nothing to measure: no device is made for a test that was asked for, see --help",
            bench->report.note_count > 0 ? bench->report.notes[0] : "");
    return !bench->out_of_memory && bench->report.count > 0;
}

/* ---- Measuring ---- */

static const char *ceiling_busid(enum test test)
{
    return test == TEST_OUT ? CEILING_SINK : test == TEST_IN ? CEILING_SOURCE : CEILING_ECHO;
}

static void show_progress(const struct bench *bench, const struct series *series, unsigned run,
                          enum side side, const char *against)
{
    char size[WORD_SIZE], depth[WORD_SIZE], rate[WORD_SIZE];
    const struct sample *last = &bench->samples[side][run > 0 ? run - 1 : 0];
    double amount = (double)(test_has_size(series->load.test) ? last->bytes : last->urbs);
    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[K%u/%u  %s %s %s, depth %s: run %u of %u, %s",
            (unsigned)(series - bench->report.series) + 1, bench->report.count, series->device,
            test_name(series->load.test), format_size(series->load.size, size),
            format_depth(&series->load, depth), run + 1, bench->options->runs, against);
    if (run > 0)
        fprintf(stderr, " (last %s/s)", format_figure(amount / last->seconds, rate));
}

static void clear_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

static enum outcome run_once(struct bench *bench, unsigned index, unsigned run, enum side side,
                             char error_text[ERROR_TEXT_SIZE])
{
    const struct series *series = &bench->report.series[index];
    const struct load *load = &series->load;
    static const char *busids[MAX_CONNECTIONS];
    struct peer peer = {
        .address = "",
        .busids = bench->planned[index]->busids,
        .server_pid = bench->pids[side],
    };
    memcpy(peer.address, bench->addresses[side], sizeof peer.address);
    if (side == CEILING) {
        for (unsigned i = 0; i < load->connections; i++)
            busids[i] = ceiling_busid(load->test);
        peer.busids = busids;
    }
    show_progress(bench, series, run, side, side == TARGET ? "server" : "reference");
    return (load->test == TEST_SERIAL ? serial_run : client_run)(
        load, &peer, &bench->samples[side][run], error_text);
}

/* The raw client, beside the run of the library against the reference that has just ended. */
static enum outcome run_raw(struct bench *bench, const struct series *series, unsigned run,
                            char error_text[ERROR_TEXT_SIZE])
{
    static const char *const busid = CEILING_ECHO;
    struct peer peer = {.busids = &busid, .server_pid = bench->pids[CEILING]};
    enum outcome outcome = MEASURED;
    memcpy(peer.address, bench->addresses[CEILING], sizeof peer.address);
    for (unsigned i = 0; i < series->client_ratio_count && outcome == MEASURED; i++) {
        struct load load = series->load;
        load.test = TEST_ECHO;
        load.depth = series->client_ratios[i].depth;
        show_progress(bench, series, run, CEILING, "reference with the raw client");
        outcome = client_run(&load, &peer, &bench->raw, error_text);
        series_compare_clients(&bench->samples[CEILING][run], &bench->raw,
                               &bench->raw_rates[i][run], &bench->raw_cpus[i][run]);
    }
    return outcome;
}

static void summarize(const struct bench *bench, struct series *series, enum side sides)
{
    unsigned runs = bench->options->runs;
    for (enum side side = TARGET; side < sides; side++)
        series_summarize(&series->sides[side], bench->samples[side], runs);
    if (bench->options->ceiling)
        series_compare(series, (const struct sample *[]){bench->samples[0], bench->samples[1]},
                       runs);
    for (unsigned i = 0; i < series->client_ratio_count; i++) {
        series->client_ratios[i].rate = statistics_of(bench->raw_rates[i], runs);
        series->client_ratios[i].cpu = statistics_of(bench->raw_cpus[i], runs);
    }
}

/* Server and reference in turn, so that what else the machine does touches both. */
static int run_series(struct bench *bench, unsigned index)
{
    struct series *series = &bench->report.series[index];
    enum side sides = bench->options->ceiling ? SIDE_COUNT : CEILING;
    for (unsigned run = 0; run < bench->options->runs; run++) {
        for (enum side side = TARGET; side < sides; side++) {
            char error_text[ERROR_TEXT_SIZE] = "", size[WORD_SIZE], depth[WORD_SIZE];
            enum outcome outcome = run_once(bench, index, run, side, error_text);
            if (outcome == MEASURED && side == CEILING)
                outcome = run_raw(bench, series, run, error_text);
            if (outcome == MEASURED)
                continue;
            clear_progress();
            fprintf(stderr, "usbip-throughput: %s, %s of %s, depth %s: %s\n",
                    side == TARGET ? series->device : "the reference server",
                    test_name(series->load.test), format_size(series->load.size, size),
                    format_depth(&series->load, depth), error_text);
            return outcome == WRONG_BYTES && side == TARGET ? EXIT_LOSS : EXIT_NO_RUN;
        }
    }
    clear_progress();
    summarize(bench, series, sides);
    report_text_series(&bench->report, series);
    return EXIT_MEASURED;
}

/* Returns an exit status. */
static int compare_with_baseline(const struct bench *bench, const struct baseline *baseline)
{
    unsigned compared;
    printf("\ncompared with %s:\n", bench->options->baseline);
    unsigned losses =
        baseline_compare(baseline, bench->report.series, bench->report.count, stdout, &compared);
    printf("%u of %u figures compared, %u losses\n", compared, bench->report.count, losses);
    if (compared == 0)
        return say("the baseline has none of these figures", "");
    return losses > 0 ? EXIT_LOSS : EXIT_MEASURED;
}

static int measure_all(struct bench *bench, const struct baseline *baseline)
{
    const struct options *options = bench->options;
    if (!plan(bench))
        return EXIT_NO_RUN;
    report_text_begin(&bench->report);
    for (unsigned i = 0; i < bench->report.count; i++) {
        int status = run_series(bench, i);
        if (status != EXIT_MEASURED)
            return status;
    }
    report_text_end(&bench->report);
    if ((options->json && !report_json(&bench->report, options->json)) ||
        (options->html && !report_html(&bench->report, options->html)))
        return EXIT_NO_RUN;
    int status = baseline ? compare_with_baseline(bench, baseline) : EXIT_MEASURED;
    bool printed = fflush(stdout) == 0 && !ferror(stdout);
    return printed ? status : say("what was measured could not be printed", "");
}

/* ---- Servers ---- */

static bool start_emulator(struct bench *bench)
{
    const struct options *options = bench->options;
    unsigned count = options->script_count * options->connections;
    char **scripts = calloc(count, sizeof *scripts);
    bool started = false;
    for (unsigned i = 0; scripts && i < count; i++)
        scripts[i] = (char *)options->scripts[i / options->connections]; /* execv() wants it so */
    if (scripts)
        started =
            emulator_start(&bench->emulator, options->emulator, "127.0.0.1:0", scripts, (int)count);
    free(scripts);
    if (!started)
        return false; /* which has been said */
    memcpy(bench->addresses[TARGET], bench->emulator.address, sizeof bench->emulator.address);
    snprintf(bench->report.server, sizeof bench->report.server, "the emulator%s%s",
             options->chose_emulator ? ", " : "", options->chose_emulator ? options->emulator : "");
    bench->pids[TARGET] = (int)bench->emulator.pid;
    return true;
}

static bool start_ceiling(struct bench *bench, char error_text[ERROR_TEXT_SIZE])
{
    if (!ceiling_start(&bench->ceiling, error_text))
        return false;
    memcpy(bench->addresses[CEILING], bench->ceiling.address, ADDRESS_SIZE);
    bench->pids[CEILING] = bench->ceiling.pid;
    return true;
}

static bool start_relays(struct bench *bench, char error_text[ERROR_TEXT_SIZE])
{
    for (enum side side = TARGET; side < SIDE_COUNT; side++) {
        char *address = bench->addresses[side];
        if (*address == '\0')
            continue;
        if (!relay_start(&bench->relays[side], address, bench->options->delay_ms, error_text))
            return false;
        memcpy(address, bench->relays[side].address, ADDRESS_SIZE);
    }
    return true;
}

static bool pin(const struct bench *bench, char error_text[ERROR_TEXT_SIZE])
{
    const struct options *options = bench->options;
    bool well = options->client_cpu == NO_CPU || pin_to_core(0, options->client_cpu);
    for (enum side side = TARGET; side < SIDE_COUNT && options->server_cpu != NO_CPU; side++)
        well =
            well && (bench->pids[side] == 0 || pin_to_core(bench->pids[side], options->server_cpu));
    if (!well)
        snprintf(error_text, ERROR_TEXT_SIZE, "--cpu: cannot run on that core: %s",
                 strerror(errno));
    return well;
}

/* Relays come before pinning, which they are not to have, and devices are found without a delay. */
static bool start_servers(struct bench *bench)
{
    char error_text[ERROR_TEXT_SIZE] = "";
    const struct options *options = bench->options;
    if (options->script_count > 0 && !start_emulator(bench))
        return false;
    bench->device_count =
        devices_find(bench->devices, options, bench->addresses[TARGET], error_text);
    if (bench->device_count < 0 || (options->ceiling && !start_ceiling(bench, error_text)) ||
        (options->delay_ms > 0 && !start_relays(bench, error_text)) || !pin(bench, error_text)) {
        say(error_text, "");
        return false;
    }
    return true;
}

/* Returns the exit status, given the one so far. */
static int stop_servers(struct bench *bench, int status)
{
    for (enum side side = TARGET; side < SIDE_COUNT; side++)
        relay_stop(&bench->relays[side]);
    ceiling_stop(&bench->ceiling);
    if (bench->emulator.pid <= 0)
        return status;
    /* One that owes replies may not listen to a request to end, either. */
    if (status == EXIT_NO_RUN || status == EXIT_LOSS)
        emulator_kill(&bench->emulator);
    if (emulator_stop(&bench->emulator) != 0 && status == EXIT_MEASURED)
        return say("the emulator did not end well", "");
    return status;
}

/* `bazel run` starts the bench in another folder than the one that the user's paths are meant from.
 */
static bool go_to_users_folder(void)
{
    const char *folder = getenv("BUILD_WORKING_DIRECTORY");
    if (!folder || chdir(folder) == 0)
        return true;
    say(folder, strerror(errno));
    return false;
}

static void free_all(struct bench *bench)
{
    devices_free(bench->devices, bench->device_count);
    free(bench->report.series);
    free(bench->planned);
    for (enum side side = TARGET; side < SIDE_COUNT; side++)
        free(bench->samples[side]);
}

int main(int argc, char **argv)
{
    static struct options options;
    static struct bench bench = {.options = &options};
    char error_text[BASELINE_ERROR_SIZE];
    struct baseline *baseline = NULL;
    int status = go_to_users_folder() ? options_parse(&options, argc, argv) : EXIT_NO_RUN;
    if (status >= 0)
        return status;
    /* Where the system puts each server would count more than what it does. */
    if (options.ceiling && options.server_cpu == NO_CPU && options.client_cpu == NO_CPU)
        options.server_cpu = options.client_cpu = first_core();
    if (options.baseline && !(baseline = baseline_load(&options, error_text)))
        return say(error_text, "");
    signal(SIGPIPE, SIG_IGN);
    pattern_prepare();
    machine_look(&bench.report.machine); /* before the client is pinned */
    bench.report.options = &options;
    report_command(&bench.report, argc, argv);
    snprintf(bench.report.server, sizeof bench.report.server, "%s", options.server);
    snprintf(bench.addresses[TARGET], ADDRESS_SIZE, "%s", options.server);
    status = start_servers(&bench) ? measure_all(&bench, baseline) : EXIT_NO_RUN;
    status = stop_servers(&bench, status);
    free_all(&bench);
    baseline_free(baseline);
    return status;
}
