#include "tests/conformance/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/conformance/trial.h"
#include "tests/support/emulator_process.h"

enum {
    RETRY_AGAIN_MS = 500, /* when refusals lasted for all of retry_ms, and the run shall end */
    STOP_TIMEOUT_MS = 5000,
    STOP_PAUSE_MS = 10,
    /* Of the emulator from the first round to the last; buffers come and go. */
    MAX_GROWTH_KIB = 1024,
    EXCHANGE_SIZE = WIRE_LOG_LINES * WIRE_LOG_LINE_SIZE + 64,
};

struct run {
    struct options *options;
    const struct expect_table *table;
    const struct emulator_process *emulator; /* the server, when it was started for this run */
    struct result *results;                  /* of all cases that were selected, in their order */
    size_t count;
    struct trial trial;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- Which ---- */

/* Named cases run whatever their profile is, but hostile ones only when that is asked for. */
static bool is_selected(const struct options *options, const struct section *section,
                        const struct conformance_case *at)
{
    if ((at->profiles & HOSTILE) && !(options->profiles & HOSTILE))
        return false;
    return (options->wanted_count > 0 || (at->profiles & options->profiles)) &&
           case_is_wanted(section, at, options->wanted, options->wanted_count);
}

static bool is_skipped(const struct options *options, const struct result *result)
{
    return options->skipped_count > 0 &&
           case_is_wanted(result->section, result->conformance_case, options->skipped,
                          (size_t)options->skipped_count);
}

static struct run *select_cases(struct options *options, const struct expect_table *table)
{
    size_t all = 0;
    for (size_t i = 0; i < section_count; i++)
        all += sections[i]->count;
    struct run *run = calloc(1, sizeof *run);
    struct result *results = calloc(all, sizeof *results);
    if (!run || !results)
        abort();
    *run = (struct run){.options = options, .table = table, .results = results};
    for (size_t i = 0; i < section_count; i++) {
        for (size_t j = 0; j < sections[i]->count; j++) {
            const struct conformance_case *at = &sections[i]->cases[j];
            if (is_selected(options, sections[i], at))
                results[run->count++] =
                    (struct result){.section = sections[i], .conformance_case = at};
        }
    }
    return run;
}

static void free_run(struct run *run)
{
    for (size_t i = 0; i < run->count; i++)
        free(run->results[i].exchange);
    free(run->results);
    free(run);
}

/* ---- Cases ---- */

static void run_case(struct run *run, size_t place)
{
    static const struct conformance_case skipped = {.not_applicable = "it is left out (--skip)"};
    bool progress = isatty(STDERR_FILENO);
    struct result *result = &run->results[place];
    const struct conformance_case *at = result->conformance_case;
    struct target *target = &run->options->target;
    bool skips = is_skipped(run->options, result);
    if (progress)
        fprintf(stderr, "\r\033[K%zu of %zu %s %s", place + 1, run->count, at->id, at->name);
    double start = now_s();
    trial_run(&run->trial, target, skips ? &skipped : at);
    result_take(result, &run->trial);
    result->expected = expect_find(run->table, at->id);
    result->seconds = now_s() - start;
    if (run->trial.gave_up)
        target->retry_ms = RETRY_AGAIN_MS;
    /* The same for a server that does not answer at all any more. */
    if (result->verdict == FAIL && result->seconds * 1000 >= target->import_timeout_ms)
        target->import_timeout_ms = target->timeout_ms;
    result->as_expected =
        skips || expect_met(result->expected, result->outcome, result->verdict == FAIL);
    free(result->exchange);
    result->exchange = NULL;
    if (!result->as_expected || run->options->outputs.verbose)
        result->exchange = report_exchange(&run->trial.log);
    if (progress)
        fputs("\r\033[K", stderr);
}

/* Every step-th case from `first` on, hostile ones last. */
static void run_cases(struct run *run, size_t first, size_t step)
{
    for (int hostile = 0; hostile <= 1; hostile++) {
        for (size_t i = first; i < run->count; i += step) {
            if (((run->results[i].conformance_case->profiles & HOSTILE) != 0) == hostile)
                run_case(run, i);
        }
    }
}

/* Returns false when nothing can be run. */
static bool find_target(struct options *options)
{
    const struct target *target = &options->target;
    char why[TARGET_TEXT_SIZE];
    int found = target_find(&options->target, &options->choice, why);
    if (found != 0)
        fprintf(stderr, "usbip-conformance: %s port %s: %s\n", target->host, target->port, why);
    return found >= 0;
}

/* ---- Rounds ---- */

static bool is_level(const struct emulator_usage *first, const struct emulator_usage *last)
{
    return last->open_files <= first->open_files &&
           last->resident_kib <= first->resident_kib + MAX_GROWTH_KIB;
}

/* Returns false when the emulator did not keep its memory and its open files level. */
static bool compare_usage(const struct emulator_process *emulator, unsigned round,
                          const struct emulator_usage *first)
{
    struct emulator_usage last = {0};
    bool known = emulator_usage(emulator, &last);
    /* It may still be closing the last connections. */
    for (int waited = 0; known && last.open_files > first->open_files && waited < STOP_TIMEOUT_MS;
         waited += STOP_PAUSE_MS) {
        trial_pause(STOP_PAUSE_MS);
        known = emulator_usage(emulator, &last);
    }
    bool level = known && is_level(first, &last);
    fprintf(stderr,
            "the emulator after round 1: %ld KiB resident, %d open files; after round %u: %ld KiB, "
            "%d%s\n",
            first->resident_kib, first->open_files, round, last.resident_kib, last.open_files,
            level ? "" : ": it is not level");
    return level;
}

/* Returns as compare_usage() does. */
static bool run_rounds(struct run *run, const struct report *report)
{
    struct emulator_usage first = {0};
    bool known = true;
    unsigned round = 0;
    do {
        run_cases(run, 0, 1);
        if (++round == 1 && run->emulator)
            known = emulator_usage(run->emulator, &first);
    } while (round < run->options->rounds && report_is_as_expected(report));
    if (run->options->rounds == 1 || !run->emulator)
        return true;
    return known && compare_usage(run->emulator, round, &first);
}

/* ---- The emulator ---- */

/* What an interrupted run would leave behind; the emulator goes by itself. */
static char control_socket[TARGET_TEXT_SIZE], control_folder[TARGET_TEXT_SIZE];

static void interrupted(int number)
{
    unlink(control_socket);
    rmdir(control_folder);
    signal(number, SIG_DFL);
    raise(number);
}

/* A socket's path has to be short: not every folder for temporary files will do. */
static bool choose_control(char control[TARGET_TEXT_SIZE])
{
    strcpy(control_folder, "/tmp/usbip-conformance.XXXXXX");
    if (!mkdtemp(control_folder)) {
        fprintf(stderr, "usbip-conformance: no folder %s: %s\n", control_folder, strerror(errno));
        return false;
    }
    snprintf(control_socket, sizeof control_socket, "%.100s/control", control_folder);
    snprintf(control, TARGET_TEXT_SIZE, "%s", control_socket);
    signal(SIGINT, interrupted);
    signal(SIGTERM, interrupted);
    return true;
}

static void remove_control(void)
{
    unlink(control_socket); /* the emulator has done that, if it came to its end */
    rmdir(control_folder);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

static bool start_emulator(struct options *options, struct emulator_process *emulator)
{
    char *arguments[MAX_EMULATOR_ARGUMENTS + 2], *control = options->target.control;
    int count = options->emulator_argument_count;
    memcpy(arguments, options->emulator_arguments, (size_t)count * sizeof *arguments);
    arguments[count++] = "--control";
    arguments[count++] = control;
    if (!choose_control(control))
        return false;
    if (!emulator_start(emulator, options->emulator, "127.0.0.1:0", arguments, count)) {
        remove_control();
        return false;
    }
    parse_address(emulator->address, &options->target);
    options->target.own_server = true;
    return true;
}

/* One that hangs does not listen to SIGTERM: it is ended after a while, and that shows as -1. */
static int end_emulator(struct emulator_process *emulator)
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

/* Returns the exit status so far. */
static int stop_emulator(struct options *options, struct emulator_process *emulator)
{
    int status = end_emulator(emulator);
    remove_control();
    options->target.control[0] = '\0';
    if (status == 0)
        return EXIT_AS_EXPECTED;
    fprintf(stderr, "usbip-conformance: the emulator did not end well\n");
    return EXIT_DIFFERS;
}

/* ---- Jobs ---- */

/* What a process has found out, in memory that all of them share. */
struct finding {
    bool done;
    struct result result; /* without the exchange */
    bool has_exchange;
    char exchange[EXCHANGE_SIZE];
};

/* One process: its emulator, and its share of the cases. Returns its exit status. */
static int run_share(struct run *run, struct finding *findings, size_t first, size_t step)
{
    struct emulator_process emulator;
    if (!start_emulator(run->options, &emulator))
        return EXIT_NO_RUN;
    bool found = find_target(run->options);
    if (found)
        run_cases(run, first, step);
    for (size_t i = first; found && i < run->count; i += step) {
        const char *exchange = run->results[i].exchange;
        findings[i].result = run->results[i];
        findings[i].has_exchange = exchange != NULL;
        snprintf(findings[i].exchange, EXCHANGE_SIZE, "%s", exchange ? exchange : "");
        findings[i].done = true;
    }
    int status = stop_emulator(run->options, &emulator);
    return found ? status : EXIT_NO_RUN;
}

static int worse(int a, int b)
{
    return a > b ? a : b;
}

static int wait_for_jobs(int running)
{
    int worst = EXIT_AS_EXPECTED, status;
    for (; running > 0 && wait(&status) > 0; running--)
        worst = worse(worst, WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_NO_RUN);
    return worst;
}

/* Returns the exit status so far. */
static int collect_findings(struct run *run, const struct finding *findings)
{
    for (size_t i = 0; i < run->count; i++) {
        if (!findings[i].done) {
            fprintf(stderr, "usbip-conformance: %s did not come to its end\n",
                    run->results[i].conformance_case->id);
            return EXIT_NO_RUN;
        }
        /* What a result points to is the same in all processes, but for the exchange. */
        run->results[i] = findings[i].result;
        run->results[i].exchange = findings[i].has_exchange ? strdup(findings[i].exchange) : NULL;
    }
    return EXIT_AS_EXPECTED;
}

static int run_jobs(struct run *run)
{
    size_t jobs = run->options->jobs;
    struct finding *findings = mmap(NULL, (run->count + 1) * sizeof *findings,
                                    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (findings == MAP_FAILED)
        abort();
    int running = 0, status = EXIT_AS_EXPECTED;
    fflush(NULL);
    for (size_t job = 0; job < jobs; job++) {
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM); /* it does not outlive an interrupted run */
            _exit(run_share(run, findings, job, jobs));
        }
        running += pid > 0;
        if (pid < 0) {
            fprintf(stderr, "usbip-conformance: no process for a job: %s\n", strerror(errno));
            status = EXIT_NO_RUN;
        }
    }
    status = worse(status, wait_for_jobs(running));
    if (status != EXIT_NO_RUN)
        status = worse(status, collect_findings(run, findings));
    munmap(findings, (run->count + 1) * sizeof *findings);
    return status;
}

/* ---- All of it ---- */

static int run_here(struct run *run, const struct report *report)
{
    struct emulator_process emulator;
    struct options *options = run->options;
    if (options->script) {
        if (!start_emulator(options, &emulator))
            return EXIT_NO_RUN;
        run->emulator = &emulator;
    }
    int status = EXIT_NO_RUN;
    if (find_target(options))
        status = run_rounds(run, report) ? EXIT_AS_EXPECTED : EXIT_DIFFERS;
    return options->script ? worse(status, stop_emulator(options, &emulator)) : status;
}

static void write_title(const struct options *options, char *title, size_t size)
{
    const struct target *target = &options->target;
    if (options->script)
        snprintf(title, size, "the emulator with %s", options->script);
    else
        snprintf(title, size, "%s port %s, device %s", target->host, target->port,
                 target->has_device ? target->record.busid : "none");
}

int run_server_cases(struct options *options, const struct expect_table *table)
{
    struct run *run = select_cases(options, table);
    char title[TARGET_TEXT_SIZE + 128];
    const struct report report = {title, run->results, run->count};
    int status = options->jobs > 1 ? run_jobs(run) : run_here(run, &report);
    write_title(options, title, sizeof title);
    if (status != EXIT_NO_RUN)
        status = worse(status, report_write_all(&options->outputs, "usbip-conformance", &report));
    free_run(run);
    return status;
}
