#include "tests/throughput/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/runfiles.h"
#include "tests/throughput/baseline.h"
#include "tests/throughput/pattern.h"

static const char usage[] =
    "usage: usbip-throughput [OPTION]... [HOST[:PORT]]\n"
    "\n"
    "Measures throughput and latency of a USB/IP server (default 127.0.0.1:3240) with one of its\n"
    "devices, and checks every byte.\n"
    "\n"
    "  --busid B              the device (default: the first that is listed)\n"
    "  --emulate SCRIPT       start our emulator with this device instead; may be given several\n"
    "                         times, and each test runs on the devices that are made for it\n"
    "  --emulator PROGRAM     the emulator for that (default: the one that was built with the\n"
    "                         bench)\n"
    "  --test LIST            ping, pipeline, out, in, echo, serial (default: what the device is\n"
    "                         made for; ping and pipeline with a device that is not known)\n"
    "  --size LIST            bytes of a transfer; K and M are allowed (default\n"
    "                         64,512,4K,16K,64K)\n"
    "  --depth LIST           transfers in flight on each connection (default 1,8,64)\n"
    "  --connections N        as many connections, with a device each (default 1)\n"
    "  --seconds S            of each run (default 0.5)\n"
    "  --runs N               of each figure (default 3)\n"
    "  --ceiling              measure a minimal reference server, too, run by run in turn, and\n"
    "                         report every figure as a ratio to it\n"
    "  --cpu server=N,client=N  pin them to cores; either may be left out (default: any core; "
    "with\n"
    "                         --ceiling both to the first). A server that runs already stays\n"
    "                         where it is\n"
    "  --delay-ms D           lengthen the round trip by a relay\n"
    "  --baseline FILE        compare with an earlier --json FILE\n"
    "  --json FILE, --html FILE   write these too\n"
    "  --help\n"
    "\n"
    "out sends to a device that takes all, in reads from one that sends all the time, echo and\n"
    "serial need one that sends back what it gets, such as a loop-back plug.\n"
    "\n"
    "Exit status: 0; 1 when a figure is below the baseline by more than the noise of both, or a\n"
    "byte is wrong; 2 when it could not run.\n";

const char *test_name(enum test test)
{
    static const char *const names[] = {"ping", "pipeline", "out", "in", "echo", "serial"};
    return names[test];
}

/* ---- Values ---- */

/* The next item of a list, without its comma; false at the end. */
static bool next_item(const char **list, char item[32])
{
    size_t size = strcspn(*list, ",");
    if (**list == '\0')
        return false;
    snprintf(item, 32, "%.*s", (int)(size < 31 ? size : 31), *list);
    *list += size;
    if (**list == ',')
        ++*list;
    return true;
}

/* A whole number from 1 to max, with K or M where that is allowed. */
static bool parse_count(const char *text, unsigned long max, bool units, unsigned long *value)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9')
        return false;
    *value = strtoul(text, &end, 10);
    if (units && errno == 0 && (*end == 'K' || *end == 'M') && *value <= max) {
        *value <<= *end == 'K' ? 10 : 20;
        end++;
    }
    return errno == 0 && *end == '\0' && *value >= 1 && *value <= max;
}

static bool parse_real(const char *text, double min, double max, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && *value >= min && *value <= max;
}

static const char *parse_tests(struct options *options, const char *list)
{
    char item[32];
    memset(options->tests, 0, sizeof options->tests);
    options->chose_tests = false;
    while (next_item(&list, item)) {
        enum test test = TEST_PING;
        while (test < TEST_COUNT && strcmp(test_name(test), item) != 0)
            test++;
        if (test == TEST_COUNT)
            return "is not a list of ping, pipeline, out, in, echo, serial";
        options->tests[test] = options->chose_tests = true;
    }
    return options->chose_tests ? NULL : "is an empty list";
}

static const char *parse_sizes(struct options *options, const char *list)
{
    char item[32];
    unsigned long size;
    options->size_count = 0;
    while (next_item(&list, item)) {
        if (!parse_count(item, PATTERN_MAX_SIZE, true, &size))
            return "is not a list of sizes from 1 to 1M";
        for (unsigned i = 0; i < options->size_count; i++) {
            if (options->sizes[i] == size)
                return "has a size twice";
        }
        if (options->size_count == MAX_SIZES)
            return "has more than 16 sizes";
        options->sizes[options->size_count++] = (uint32_t)size;
    }
    return options->size_count > 0 ? NULL : "is an empty list";
}

static const char *parse_depths(struct options *options, const char *list)
{
    char item[32];
    unsigned long depth;
    options->depth_count = 0;
    while (next_item(&list, item)) {
        if (!parse_count(item, MAX_DEPTH, false, &depth))
            return "is not a list of depths from 1 to 1024";
        for (unsigned i = 0; i < options->depth_count; i++) {
            if (options->depths[i] == depth)
                return "has a depth twice";
        }
        if (options->depth_count == MAX_DEPTHS)
            return "has more than 16 depths";
        options->depths[options->depth_count++] = (unsigned)depth;
    }
    return options->depth_count > 0 ? NULL : "is an empty list";
}

static const char *parse_cpus(struct options *options, const char *list)
{
    char item[32];
    double core;
    options->server_cpu = options->client_cpu = NO_CPU;
    while (next_item(&list, item)) {
        char *value = strchr(item, '=');
        bool server = strncmp(item, "server=", 7) == 0, client = strncmp(item, "client=", 7) == 0;
        int *cpu = server ? &options->server_cpu : &options->client_cpu;
        if ((!server && !client) || *cpu != NO_CPU ||
            !parse_real(value + 1, 0, CPU_SETSIZE - 1, &core) || core != floor(core))
            return "is not server=N,client=N";
        *cpu = (int)core;
    }
    return options->server_cpu == NO_CPU && options->client_cpu == NO_CPU ? "is an empty list"
                                                                          : NULL;
}

/* ---- Options ---- */

enum option_value {
    OPTION_BUSID = 256,
    OPTION_EMULATE,
    OPTION_EMULATOR,
    OPTION_TEST,
    OPTION_SIZE,
    OPTION_DEPTH,
    OPTION_CONNECTIONS,
    OPTION_SECONDS,
    OPTION_RUNS,
    OPTION_CEILING,
    OPTION_CPU,
    OPTION_DELAY,
    OPTION_BASELINE,
    OPTION_JSON,
    OPTION_HTML,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"busid", required_argument, NULL, OPTION_BUSID},
    {"emulate", required_argument, NULL, OPTION_EMULATE},
    {"emulator", required_argument, NULL, OPTION_EMULATOR},
    {"test", required_argument, NULL, OPTION_TEST},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"depth", required_argument, NULL, OPTION_DEPTH},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"runs", required_argument, NULL, OPTION_RUNS},
    {"ceiling", no_argument, NULL, OPTION_CEILING},
    {"cpu", required_argument, NULL, OPTION_CPU},
    {"delay-ms", required_argument, NULL, OPTION_DELAY},
    {"baseline", required_argument, NULL, OPTION_BASELINE},
    {"json", required_argument, NULL, OPTION_JSON},
    {"html", required_argument, NULL, OPTION_HTML},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* Returns NULL, or what is wrong with the argument of an option. */
static const char *take_option(struct options *options, int option)
{
    unsigned long count;
    switch (option) {
    case OPTION_BUSID:
        options->busid = optarg;
        return *optarg != '\0' && strlen(optarg) < USBIP_BUSID_SIZE ? NULL : "is no busid";
    case OPTION_EMULATE:
        if (options->script_count == MAX_SCRIPTS)
            return "is one device too many";
        options->scripts[options->script_count++] = optarg;
        return NULL;
    case OPTION_EMULATOR:
        options->emulator = optarg;
        options->chose_emulator = true;
        return NULL;
    case OPTION_TEST:
        return parse_tests(options, optarg);
    case OPTION_SIZE:
        return parse_sizes(options, optarg);
    case OPTION_DEPTH:
        return parse_depths(options, optarg);
    case OPTION_CONNECTIONS:
        if (!parse_count(optarg, MAX_CONNECTIONS, false, &count))
            return "is not a number of connections from 1 to 1024";
        options->connections = (unsigned)count;
        return NULL;
    case OPTION_RUNS:
        if (!parse_count(optarg, MAX_RUNS, false, &count))
            return "is not a number of runs from 1 to 99";
        options->runs = (unsigned)count;
        return NULL;
    case OPTION_SECONDS:
        return parse_real(optarg, 0.01, 3600, &options->seconds) ? NULL
                                                                 : "is not 0.01 to 3600 seconds";
    case OPTION_CPU:
        return parse_cpus(options, optarg);
    case OPTION_DELAY:
        return parse_real(optarg, 0, 10000, &options->delay_ms) ? NULL : "is not 0 to 10000 ms";
    case OPTION_BASELINE:
        options->baseline = optarg;
        return NULL;
    case OPTION_JSON:
        options->json = optarg;
        return NULL;
    case OPTION_HTML:
        options->html = optarg;
        return NULL;
    default:
        options->ceiling = true;
        return NULL;
    }
}

static int wrong_usage(const char *argument, const char *why)
{
    fprintf(stderr, "usbip-throughput: %s %s; try --help\n", argument, why);
    return EXIT_NO_RUN;
}

static int wrong_value(const char *option, const char *why)
{
    fprintf(stderr, "usbip-throughput: --%s %s %s; try --help\n", option,
            *optarg != '\0' ? optarg : "\"\"", why);
    return EXIT_NO_RUN;
}

/* Returns NULL, or why no file can be written there. Asked first, for a run may take long. */
static const char *objection_to_file(const char *path)
{
    bool existed = access(path, F_OK) == 0;
    FILE *file = fopen(path, "a");
    const char *why = strerror(errno);
    if (!file)
        return why;
    fclose(file);
    if (!existed)
        remove(path);
    return NULL;
}

static int check_files(const struct options *options)
{
    const char *const paths[] = {options->json, options->html};
    for (unsigned i = 0; i < 2; i++) {
        const char *why = paths[i] ? objection_to_file(paths[i]) : NULL;
        if (!why)
            continue;
        fprintf(stderr, "usbip-throughput: cannot write %s: %s\n",
                *paths[i] != '\0' ? paths[i] : "\"\"", why);
        return EXIT_NO_RUN;
    }
    return -1;
}

/* The emulator and the scripts, where they are: in the current folder, or beside the bench. */
static bool find_files(struct options *options)
{
    static char scripts[MAX_SCRIPTS][RUNFILE_PATH_SIZE], emulator[RUNFILE_PATH_SIZE];
    for (unsigned i = 0; i < options->script_count; i++)
        options->scripts[i] = runfile_find(options->scripts[i], scripts[i]);
    options->emulator = runfile_find(
        options->chose_emulator ? options->emulator : "emulator/usbip-emulator", emulator);
    return options->chose_emulator || access(options->emulator, X_OK) == 0;
}

/* What each option alone does not tell. */
static int check_together(struct options *options)
{
    if (strlen(options->server) >= ADDRESS_SIZE || *options->server == '\0')
        return wrong_usage("the server's address", "is empty or too long");
    if (options->busid && options->script_count > 0)
        return wrong_usage("--busid", "and --emulate exclude each other");
    if (options->chose_emulator && options->script_count == 0)
        return wrong_usage("--emulator", "needs --emulate SCRIPT");
    if (options->server_cpu != NO_CPU && options->script_count == 0 && !options->ceiling)
        return wrong_usage("--cpu server=", "is for servers that are started here");
    if (options->baseline && options->runs < BASELINE_MIN_RUNS)
        return wrong_usage("--baseline", "needs --runs 3 or more, or there is no noise to know");
    if (options->script_count > 0 && !find_files(options))
        return wrong_usage("--emulate", "finds no emulator beside the bench: give --emulator");
    return check_files(options);
}

int options_parse(struct options *options, int argc, char **argv)
{
    static const struct options defaults = {
        .server = "127.0.0.1:3240",
        .connections = 1,
        .runs = 3,
        .seconds = 0.5,
        .server_cpu = NO_CPU,
        .client_cpu = NO_CPU,
    };
    int option, index;
    *options = defaults;
    parse_sizes(options, "64,512,4K,16K,64K");
    parse_depths(options, "1,8,64");
    while ((option = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        if (option == OPTION_HELP) {
            fputs(usage, stdout);
            return EXIT_MEASURED;
        }
        if (option == '?')
            return EXIT_NO_RUN;
        const char *wrong = take_option(options, option);
        if (wrong)
            return wrong_value(long_options[index].name, wrong);
    }
    if (optind < argc && options->script_count > 0)
        return wrong_usage(argv[optind], "is not needed: the server is the emulator");
    if (optind + 1 < argc)
        return wrong_usage(argv[optind + 1], "is one server too many");
    if (optind < argc)
        options->server = argv[optind];
    return check_together(options);
}
