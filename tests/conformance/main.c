/* usbip-conformance: how a USB/IP server behaves, case by case. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/conformance/client/main.h"
#include "tests/conformance/expect.h"
#include "tests/conformance/report.h"
#include "tests/conformance/trial.h"
#include "tests/support/emulator_process.h"

enum {
    EXIT_AS_EXPECTED = 0,
    EXIT_DIFFERS = 1,
    EXIT_NO_RUN = 2,
    DEFAULT_TIMEOUT_MS = 2000,
    DEFAULT_IMPORT_TIMEOUT_MS = 20000,
    RETRY_MS = 10000,     /* for a server that resets the device when a client goes */
    RETRY_AGAIN_MS = 500, /* when that was in vain once, and the run shall come to its end */
    STOP_TIMEOUT_MS = 5000,
    STOP_PAUSE_MS = 10,
    MAX_EMULATOR_ARGUMENTS = 32,
    MAX_TABLES = 8,
    MAX_SKIPPED = 64,
    MAX_TIMEOUT_MS = 3600000,
    MAX_ROUNDS = 1000000,
    MAX_GROWTH_KIB =
        1024, /* of the emulator from the first round to the last; buffers come and go */
};

static const char usage[] =
    "usage: usbip-conformance [OPTION]... [HOST[:PORT]] [CASE|NAME|SECTION]...\n"
    "       usbip-conformance client --help\n"
    "\n"
    "Runs the conformance cases against a USB/IP server (default 127.0.0.1:3240) and reports what\n"
    "each of them found.\n"
    "\n"
    "  --busid B           the device under test (default: the first that is listed)\n"
    "  --device VID:PID    the same, by ids in hex\n"
    "  --emulate SCRIPT    start our emulator with this device; may be given several times, the\n"
    "                      first one is under test\n"
    "  --emulator PROGRAM  the emulator for that\n"
    "  --emulator-option OPTION   give it this too, such as --personality=linux; may be repeated\n"
    "  --stimulus KIND     what is at the far end of the device's serial line: unix:PATH (a\n"
    "                      socket), tty:PATH (a terminal device), loopback (a plug that connects\n"
    "                      TxD with RxD); without one, cases that need it are not applicable\n"
    "  --unshared BUSID    a device that is present but not exported, for S028 and S035\n"
    "  --skip CASE         leave this one out, whatever is expected; may be given several times\n"
    "  --profile LIST      core, strict (contains core), hostile, soak (default core); hostile\n"
    "                      cases can close, reset or wedge a real server and run last\n"
    "  --expect TABLE      compare with a server's table, by file or by name (expect/NAME.txt);\n"
    "                      may be given several times, later ones replace lines of earlier ones\n"
    "  --timeout-ms N      how long a reply may take (default 2000)\n"
    "  --seed N            of the randomised cases (default 1)\n"
    "  --rounds N          run the cases N times, up to the first round that is not as expected;\n"
    "                      the emulator's memory and open files have to be level meanwhile\n"
    "  --list              say which cases there are, and run none\n"
    "  --tap               write TAP to standard output instead of text\n"
    "  --junit FILE, --json FILE   write these too\n"
    "  --verbose           show the exchange of every case, not only of those that deviate\n"
    "  --help\n"
    "\n"
    "Exit status: 0 when all is as expected, 1 when something differs, 2 when the run failed.\n";

struct options {
    struct target target;
    struct target_choice choice;
    char *emulator_arguments[MAX_EMULATOR_ARGUMENTS]; /* scripts, and options for it */
    int emulator_argument_count;
    const char *script; /* of the device under test; NULL: the server is not the emulator */
    const char *expects[MAX_TABLES], *skipped[MAX_SKIPPED];
    int expect_count, skipped_count;
    const char *emulator, *stimulus, *junit, *json;
    const struct emulator_process *own_emulator; /* started for this run, or NULL */
    unsigned profiles, rounds;
    bool list, tap, verbose;
    const char *const *wanted;
    size_t wanted_count;
};

static bool parse_number(const char *text, unsigned long long max, unsigned long long *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 0);
    return errno == 0 && end != text && *end == '\0' && *text != '-' && *value <= max;
}

static bool parse_profiles(const char *text, unsigned *profiles)
{
    static const struct {
        const char *name;
        unsigned profiles;
    } names[] = {{"core", CORE}, {"strict", CORE | STRICT}, {"hostile", HOSTILE}, {"soak", SOAK}};
    *profiles = 0;
    while (*text != '\0') {
        size_t size = strcspn(text, ",");
        unsigned found = 0;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            if (strlen(names[i].name) == size && strncmp(names[i].name, text, size) == 0)
                found = names[i].profiles;
        }
        if (!found)
            return false;
        *profiles |= found;
        text += size + (text[size] == ',');
    }
    return *profiles != 0;
}

static bool parse_ids(const char *text, struct target_choice *choice)
{
    unsigned vendor, product;
    char rest;
    choice->by_ids = true;
    if (sscanf(text, "%4x:%4x%c", &vendor, &product, &rest) != 2)
        return false;
    choice->idVendor = (uint16_t)vendor;
    choice->idProduct = (uint16_t)product;
    return true;
}

/* "HOST", "HOST:PORT", "[V6]:PORT" */
static bool parse_address(const char *text, struct target *target)
{
    const char *host = text, *end = text + strlen(text), *port = strrchr(text, ':');
    if (*text == '[') {
        host++;
        end = strchr(text, ']');
        if (!end || (end[1] != '\0' && end[1] != ':'))
            return false;
        port = end[1] == ':' ? end + 1 : NULL;
    } else if (port && strchr(text, ':') != port) {
        port = NULL; /* an IPv6 address as it is */
    } else if (port) {
        end = port;
    }
    snprintf(target->host, sizeof target->host, "%.*s", (int)(end - host), host);
    snprintf(target->port, sizeof target->port, "%s", port ? port + 1 : "3240");
    return end > host;
}

static bool names_a_case(const char *text)
{
    for (size_t i = 0; i < section_count; i++) {
        for (size_t j = 0; j < sections[i]->count; j++) {
            if (case_is_wanted(sections[i], &sections[i]->cases[j], &text, 1))
                return true;
        }
    }
    return false;
}

enum option_value {
    OPTION_BUSID = 256,
    OPTION_DEVICE,
    OPTION_EMULATE,
    OPTION_EMULATOR,
    OPTION_EMULATOR_OPTION,
    OPTION_STIMULUS,
    OPTION_UNSHARED,
    OPTION_SKIP,
    OPTION_PROFILE,
    OPTION_EXPECT,
    OPTION_TIMEOUT,
    OPTION_SEED,
    OPTION_ROUNDS,
    OPTION_LIST,
    OPTION_TAP,
    OPTION_JUNIT,
    OPTION_JSON,
    OPTION_VERBOSE,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"busid", required_argument, NULL, OPTION_BUSID},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"emulate", required_argument, NULL, OPTION_EMULATE},
    {"emulator", required_argument, NULL, OPTION_EMULATOR},
    {"emulator-option", required_argument, NULL, OPTION_EMULATOR_OPTION},
    {"stimulus", required_argument, NULL, OPTION_STIMULUS},
    {"unshared", required_argument, NULL, OPTION_UNSHARED},
    {"skip", required_argument, NULL, OPTION_SKIP},
    {"profile", required_argument, NULL, OPTION_PROFILE},
    {"expect", required_argument, NULL, OPTION_EXPECT},
    {"timeout-ms", required_argument, NULL, OPTION_TIMEOUT},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"rounds", required_argument, NULL, OPTION_ROUNDS},
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
    struct target *target = &options->target;
    unsigned long long number;
    switch (option) {
    case OPTION_BUSID:
        options->choice.busid = optarg;
        return strlen(optarg) < USBIP_BUSID_SIZE ? NULL : "is no busid";
    case OPTION_DEVICE:
        return parse_ids(optarg, &options->choice) ? NULL : "is not VID:PID in hex";
    case OPTION_EMULATE:
    case OPTION_EMULATOR_OPTION:
        if (options->emulator_argument_count == MAX_EMULATOR_ARGUMENTS)
            return "is one device or option too many";
        options->emulator_arguments[options->emulator_argument_count++] = optarg;
        if (option == OPTION_EMULATE && !options->script)
            options->script = optarg;
        return NULL;
    case OPTION_EMULATOR:
        options->emulator = optarg;
        return NULL;
    case OPTION_STIMULUS:
        options->stimulus = optarg;
        return NULL;
    case OPTION_UNSHARED:
        snprintf(target->unshared, sizeof target->unshared, "%s", optarg);
        return strlen(optarg) < USBIP_BUSID_SIZE ? NULL : "is no busid";
    case OPTION_SKIP:
        if (options->skipped_count == MAX_SKIPPED)
            return "is one case too many";
        options->skipped[options->skipped_count++] = optarg;
        return names_a_case(optarg) ? NULL : "is no case, name of a case, or section";
    case OPTION_PROFILE:
        return parse_profiles(optarg, &options->profiles)
                   ? NULL
                   : "is not a list of core, strict, hostile, soak";
    case OPTION_EXPECT:
        if (options->expect_count == MAX_TABLES)
            return "is one table too many";
        options->expects[options->expect_count++] = optarg;
        return NULL;
    case OPTION_TIMEOUT:
        if (!parse_number(optarg, MAX_TIMEOUT_MS, &number) || number == 0)
            return "is not a number of milliseconds";
        target->timeout_ms = (int)number;
        return NULL;
    case OPTION_SEED:
        if (!parse_number(optarg, UINT64_MAX, &number))
            return "is not a number";
        target->seed = number;
        return NULL;
    case OPTION_ROUNDS:
        if (!parse_number(optarg, MAX_ROUNDS, &number) || number == 0)
            return "is not a number of rounds";
        options->rounds = (unsigned)number;
        return NULL;
    case OPTION_JUNIT:
        options->junit = optarg;
        return NULL;
    case OPTION_JSON:
        options->json = optarg;
        return NULL;
    case OPTION_LIST:
        options->list = true;
        return NULL;
    case OPTION_TAP:
        options->tap = true;
        return NULL;
    default:
        options->verbose = true;
        return NULL;
    }
}

static int wrong_usage(const char *argument, const char *why)
{
    fprintf(stderr, "usbip-conformance: %s %s; try --help\n", argument, why);
    return EXIT_NO_RUN;
}

/* Returns -1 to go on, or the exit status. */
static int parse_options(struct options *options, int argc, char **argv)
{
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
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
    parse_address("127.0.0.1", &options->target);
    if (optind < argc && !names_a_case(argv[optind])) {
        if (options->script)
            return wrong_usage(argv[optind], "is no case, and the server is the emulator");
        if (!parse_address(argv[optind], &options->target))
            return wrong_usage(argv[optind], "is no case and no HOST[:PORT]");
        optind++;
    }
    options->wanted = (const char *const *)&argv[optind];
    options->wanted_count = (size_t)(argc - optind);
    for (int i = optind; i < argc; i++) {
        if (!names_a_case(argv[i]))
            return wrong_usage(argv[i], "is no case, name of a case, or section");
    }
    if (options->script && !options->emulator)
        return wrong_usage("--emulate", "needs --emulator PROGRAM");
    return -1;
}

/* "strict" is expect/strict.txt where the suite is built; a path is a path. */
static int load_expectations(const struct options *options, struct expect_table *table)
{
    for (int i = 0; i < options->expect_count; i++) {
        char path[512], why[256];
        const char *name = options->expects[i];
        bool is_path = strchr(name, '/') || strchr(name, '.');
        snprintf(path, sizeof path, is_path ? "%s" : "tests/conformance/expect/%s.txt", name);
        if (expect_load(table, path, why) < 0) {
            fprintf(stderr, "usbip-conformance: the table %s: %s\n", path, why);
            return -1;
        }
    }
    return 0;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- Running ---- */

struct run {
    struct options *options;
    const struct expect_table *table;
    struct result *results;
    size_t count;
    struct trial trial;
};

static void run_case(struct run *run, const struct section *section,
                     const struct conformance_case *at)
{
    bool progress = isatty(STDERR_FILENO);
    struct result *result = &run->results[run->count++];
    if (progress)
        fprintf(stderr, "\r\033[K%zu %s %s", run->count, at->id, at->name);
    double start = now_s();
    static const struct conformance_case skipped = {.not_applicable = "it is left out (--skip)"};
    bool is_skipped =
        run->options->skipped_count > 0 &&
        case_is_wanted(section, at, run->options->skipped, (size_t)run->options->skipped_count);
    trial_run(&run->trial, &run->options->target, is_skipped ? &skipped : at);
    *result = (struct result){
        .section = section,
        .conformance_case = at,
        .verdict = run->trial.verdict,
        .expected = expect_find(run->table, at->id),
        .seconds = now_s() - start,
    };
    if (run->trial.gave_up)
        run->options->target.retry_ms = RETRY_AGAIN_MS;
    /* The same for a server that does not answer at all any more. */
    if (result->verdict == FAIL && result->seconds * 1000 >= run->options->target.import_timeout_ms)
        run->options->target.import_timeout_ms = run->options->target.timeout_ms;
    memcpy(result->outcome, run->trial.outcome, sizeof result->outcome);
    memcpy(result->reason, run->trial.reason, sizeof result->reason);
    result->as_expected =
        is_skipped || expect_met(result->expected, result->outcome, result->verdict == FAIL);
    if (!result->as_expected || run->options->verbose)
        result->exchange = report_exchange(&run->trial.log);
    if (progress)
        fputs("\r\033[K", stderr);
}

/* Named cases run whatever their profile is, but hostile ones only when that is asked for. */
static bool is_selected(const struct options *options, const struct conformance_case *at)
{
    if ((at->profiles & HOSTILE) && !(options->profiles & HOSTILE))
        return false;
    return options->wanted_count > 0 || (at->profiles & options->profiles);
}

static void run_cases(struct run *run, bool hostile)
{
    for (size_t i = 0; i < section_count; i++) {
        for (size_t j = 0; j < sections[i]->count; j++) {
            const struct conformance_case *at = &sections[i]->cases[j];
            if (((at->profiles & HOSTILE) != 0) == hostile && is_selected(run->options, at) &&
                case_is_wanted(sections[i], at, run->options->wanted, run->options->wanted_count))
                run_case(run, sections[i], at);
        }
    }
}

static bool write_file(const char *path, void (*write)(FILE *, const struct report *),
                       const struct report *report)
{
    if (!path)
        return true;
    FILE *file = fopen(path, "w");
    bool well = file != NULL;
    if (file) {
        write(file, report);
        well = !ferror(file);
        well &= fclose(file) == 0;
    }
    if (!well)
        fprintf(stderr, "usbip-conformance: cannot write %s: %s\n", path, strerror(errno));
    return well;
}

static bool all_as_expected(const struct report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        if (!report->results[i].as_expected)
            return false;
    }
    return true;
}

static int write_reports(const struct options *options, const struct report *report)
{
    if (options->tap)
        report_tap(stdout, report);
    else
        report_text(stdout, report, options->verbose);
    bool written = fflush(stdout) == 0;
    written &= write_file(options->junit, report_junit, report);
    written &= write_file(options->json, report_json, report);
    if (!written)
        return EXIT_NO_RUN;
    return all_as_expected(report) ? EXIT_AS_EXPECTED : EXIT_DIFFERS;
}

/* Hostile cases ran last, but stand with the others of their section. */
static int compare_ids(const void *a, const void *b)
{
    const struct result *left = a, *right = b;
    return strcmp(left->conformance_case->id, right->conformance_case->id);
}

static void run_round(struct run *run)
{
    for (size_t i = 0; i < run->count; i++)
        free(run->results[i].exchange);
    run->count = 0;
    run_cases(run, false);
    run_cases(run, true);
    qsort(run->results, run->count, sizeof *run->results, compare_ids);
}

/* Returns false when the emulator did not keep its memory and its open files level. */
static bool run_rounds(struct run *run, struct report *report)
{
    const struct emulator_process *emulator = run->options->own_emulator;
    struct emulator_usage first = {0}, last = {0};
    bool level = true;
    unsigned round = 0;
    do {
        run_round(run);
        report->count = run->count;
        if (++round == 1 && emulator)
            level = emulator_usage(emulator, &first); /* warm, and its last connection closing */
    } while (round < run->options->rounds && all_as_expected(report));
    if (run->options->rounds == 1)
        return true;
    if (emulator) {
        /* It may still be closing the last connections. */
        for (int waited = 0; level && waited < STOP_TIMEOUT_MS; waited += STOP_PAUSE_MS) {
            level = emulator_usage(emulator, &last);
            if (last.open_files <= first.open_files)
                break;
            trial_pause(STOP_PAUSE_MS);
        }
        level = level && last.open_files <= first.open_files &&
                last.resident_kib <= first.resident_kib + MAX_GROWTH_KIB;
        fprintf(stderr,
                "the emulator after round 1: %ld KiB resident, %d open files; after round %u: "
                "%ld KiB, %d%s\n",
                first.resident_kib, first.open_files, round, last.resident_kib, last.open_files,
                level ? "" : ": it is not level");
    } else {
        fprintf(stderr, "%u rounds\n", round);
    }
    return level;
}

static size_t count_cases(void)
{
    size_t count = 0;
    for (size_t i = 0; i < section_count; i++)
        count += sections[i]->count;
    return count;
}

static int run_all(struct options *options, const struct expect_table *table)
{
    struct target *target = &options->target;
    char why[TARGET_TEXT_SIZE], title[TARGET_TEXT_SIZE + 128];
    int found = target_find(target, &options->choice, why);
    if (found != 0)
        fprintf(stderr, "usbip-conformance: %s port %s: %s\n", target->host, target->port, why);
    if (found < 0)
        return EXIT_NO_RUN;
    struct run *run = calloc(1, sizeof *run);
    struct result *results = calloc(count_cases(), sizeof *results);
    int status = EXIT_NO_RUN;
    if (run && results) {
        *run = (struct run){.options = options, .table = table, .results = results};
        if (target->own_server)
            snprintf(title, sizeof title, "the emulator with %s", options->script);
        else
            snprintf(title, sizeof title, "%s port %s, device %s", target->host, target->port,
                     target->has_device ? target->record.busid : "none");
        struct report report = {title, results, 0};
        bool level = run_rounds(run, &report);
        status = write_reports(options, &report);
        if (!level && status == EXIT_AS_EXPECTED)
            status = EXIT_DIFFERS;
        for (size_t i = 0; i < run->count; i++)
            free(results[i].exchange);
    }
    free(results);
    free(run);
    return status;
}

/* One that hangs does not listen to SIGTERM: it is ended after a while, and that shows as -1. */
static int stop_emulator(struct emulator_process *emulator)
{
    kill(emulator->pid, SIGTERM);
    for (int waited = 0; waited < STOP_TIMEOUT_MS; waited += STOP_PAUSE_MS) {
        siginfo_t state = {.si_pid = 0};
        if (waitid(P_PID, (id_t)emulator->pid, &state, WEXITED | WNOHANG | WNOWAIT) < 0 ||
            state.si_pid != 0)
            return emulator_stop(emulator);
        trial_pause(STOP_PAUSE_MS);
    }
    emulator_kill(emulator);
    return emulator_stop(emulator);
}

static int run_emulator(struct options *options, const struct expect_table *table)
{
    struct emulator_process emulator;
    if (!emulator_start(&emulator, options->emulator, "127.0.0.1:0", options->emulator_arguments,
                        options->emulator_argument_count))
        return EXIT_NO_RUN;
    parse_address(emulator.address, &options->target);
    options->target.own_server = true;
    options->own_emulator = &emulator;
    int status = run_all(options, table);
    if (stop_emulator(&emulator) != 0) {
        fprintf(stderr, "usbip-conformance: the emulator did not end well\n");
        return EXIT_DIFFERS;
    }
    return status;
}

int main(int argc, char **argv)
{
    static struct options options = {
        .profiles = CORE,
        .rounds = 1,
        .target = {.timeout_ms = DEFAULT_TIMEOUT_MS,
                   .import_timeout_ms = DEFAULT_IMPORT_TIMEOUT_MS,
                   .retry_ms = RETRY_MS,
                   .seed = 1},
    };
    static struct expect_table table;
    if (argc > 1 && strcmp(argv[1], "client") == 0)
        return client_main(argc - 1, argv + 1);
    int status = parse_options(&options, argc, argv);
    if (status >= 0)
        return status;
    if (options.list) {
        report_list(stdout, &(struct case_list){sections, section_count}, options.wanted,
                    options.wanted_count);
        return EXIT_AS_EXPECTED;
    }
    if (load_expectations(&options, &table) < 0)
        return EXIT_NO_RUN;
    char why[256];
    if (options.stimulus && stimulus_connect(&options.target, options.stimulus, why) < 0)
        return wrong_usage(options.stimulus, why);
    options.target.soak = options.profiles & SOAK;
    status = options.script ? run_emulator(&options, &table) : run_all(&options, &table);
    stimulus_disconnect(&options.target);
    return status;
}
