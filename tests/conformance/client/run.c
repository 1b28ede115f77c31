#include "tests/conformance/client/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/conformance/client/sections.h"

/*
 * Each case runs in a process of its own, which has its server, its client and its time to itself;
 * what it has found comes back in shared memory.
 */
struct finding {
    struct trial trial; /* without what it points to */
    struct rules rules;
    double seconds;
    bool done;
};

struct job {
    const struct section *section;
    const struct conformance_case *conformance_case;
    pid_t pid; /* 0: not running */
    bool started;
    bool is_rule;
    struct finding *finding;
};

struct run {
    const struct client_choice *choice;
    struct job *jobs;
    size_t count;
    struct finding *findings;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- Which ---- */

static void add_job(struct run *run, const struct section *section,
                    const struct conformance_case *at)
{
    struct job *job = &run->jobs[run->count];
    *job = (struct job){.section = section,
                        .conformance_case = at,
                        .is_rule = section == &client_requests,
                        .finding = &run->findings[run->count]};
    run->count++;
}

/* One session serves all rules; the others are found out with it. */
static bool is_found_out(const struct run *run, const struct job *job)
{
    for (const struct job *other = run->jobs; other < job; other++) {
        if (other->is_rule && job->is_rule)
            return true;
    }
    return false;
}

/* ---- Running ---- */

static void run_child(const struct run *run, struct job *job)
{
    double start = now_s();
    client_trial_run(&job->finding->trial, run->choice, job->conformance_case,
                     &job->finding->rules);
    job->finding->seconds = now_s() - start;
    job->finding->done = true;
    _exit(EXIT_SUCCESS);
}

static bool start_job(const struct run *run, struct job *job)
{
    job->started = true;
    fflush(NULL);
    job->pid = fork();
    if (job->pid == 0)
        run_child(run, job);
    if (job->pid < 0)
        fprintf(stderr, "usbip-conformance: no process for %s: %s\n", job->conformance_case->id,
                strerror(errno));
    return job->pid > 0;
}

/* The next one to start, long ones first, or NULL. Those only wait, so they need no place when
 * several run at once. */
static struct job *next_job(struct run *run, unsigned running, unsigned places)
{
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < run->count; i++) {
            struct job *job = &run->jobs[i];
            bool is_long = job->conformance_case->profiles & SOAK;
            if (job->started || is_found_out(run, job) || is_long != (pass == 0))
                continue;
            if (running < places || (is_long && places > 1))
                return job;
        }
    }
    return NULL;
}

/* Waits for one to end. Returns false when a case did not come to its own end. */
static bool await_job(struct run *run, unsigned *running)
{
    int status;
    pid_t pid = wait(&status);
    for (size_t i = 0; i < run->count; i++) {
        struct job *job = &run->jobs[i];
        if (pid < 0 || job->pid != pid)
            continue;
        job->pid = 0;
        *running -= !(job->conformance_case->profiles & SOAK);
        if (!job->finding->done)
            fprintf(stderr, "usbip-conformance: %s broke down\n", job->conformance_case->id);
        return job->finding->done;
    }
    return pid > 0;
}

static unsigned count_running(const struct run *run)
{
    unsigned count = 0;
    for (size_t i = 0; i < run->count; i++)
        count += run->jobs[i].pid > 0;
    return count;
}

static void show_progress(const struct run *run)
{
    size_t done = 0;
    if (!isatty(STDERR_FILENO) || !run->choice->command)
        return;
    for (size_t i = 0; i < run->count; i++)
        done += run->jobs[i].finding->done;
    fprintf(stderr, "\r\033[K%zu of %zu", done, run->count);
}

static bool run_jobs(struct run *run, unsigned places)
{
    unsigned running = 0; /* in places */
    bool well = true;
    for (;;) {
        struct job *job =
            well ? next_job(run, places > 1 ? running : count_running(run), places) : NULL;
        if (job) {
            well = start_job(run, job);
            running += well && !(job->conformance_case->profiles & SOAK);
            continue;
        }
        if (count_running(run) == 0)
            break;
        well &= await_job(run, &running);
        show_progress(run);
    }
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    return well;
}

/* ---- Results ---- */

/* A rule that was broken in any case, or was never looked at. */
static void judge_rule(const struct run *run, const struct job *job, struct result *result)
{
    const enum rule rule = (enum rule)(job->conformance_case - client_requests.cases);
    unsigned long checked = 0;
    for (size_t i = 0; i < run->count; i++) {
        const struct job *other = &run->jobs[i];
        checked += other->finding->rules.rules[rule].checked;
        if (other->finding->rules.rules[rule].violation[0] == '\0' || result->verdict == FAIL)
            continue;
        result->verdict = FAIL;
        snprintf(result->outcome, sizeof result->outcome, "broken");
        snprintf(result->reason, sizeof result->reason, "in %s: %s", other->conformance_case->id,
                 other->finding->rules.rules[rule].violation);
        free(result->exchange);
        result->exchange = report_exchange(&other->finding->trial.log);
    }
    if (result->verdict == PASS && checked == 0) {
        result->verdict = NOT_APPLICABLE;
        snprintf(result->outcome, sizeof result->outcome, "not-applicable");
        snprintf(result->reason, sizeof result->reason, "the client sent nothing that it is about");
    }
}

static void fill_result(const struct run *run, const struct job *job, struct result *result)
{
    /* A rule has the verdict of the session that was run for all of them. */
    const struct job *source = job;
    while (job->is_rule && !source->started)
        source--;
    const struct trial *trial = &source->finding->trial;
    *result = (struct result){
        .section = job->section,
        .conformance_case = job->conformance_case,
        .exchange = report_exchange(&trial->log),
        .seconds = job->finding->seconds,
    };
    result_take(result, trial);
    if (job->is_rule)
        judge_rule(run, job, result);
}

int client_run(const struct case_list *cases, const char *const *wanted, size_t wanted_count,
               const struct client_choice *choice, unsigned jobs, struct result *results)
{
    size_t room = 0;
    for (size_t i = 0; i < cases->count; i++)
        room += cases->sections[i]->count;
    struct run run = {.choice = choice, .jobs = calloc(room, sizeof *run.jobs)};
    const size_t size = room * sizeof *run.findings;
    run.findings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!run.jobs || run.findings == MAP_FAILED) {
        fprintf(stderr, "usbip-conformance: out of memory\n");
        free(run.jobs);
        return -1;
    }
    for (size_t i = 0; i < cases->count; i++) {
        const struct section *section = cases->sections[i];
        for (size_t j = 0; j < section->count; j++) {
            if (case_is_wanted(section, &section->cases[j], wanted, wanted_count))
                add_job(&run, section, &section->cases[j]);
        }
    }
    bool well = run_jobs(&run, jobs);
    for (size_t i = 0; well && i < run.count; i++)
        fill_result(&run, &run.jobs[i], &results[i]);
    free(run.jobs);
    munmap(run.findings, size);
    return well ? (int)run.count : -1;
}
