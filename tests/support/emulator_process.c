#include "tests/support/emulator_process.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { START_TIMEOUT_MS = 10000, SAW_TIMEOUT_MS = 2000, READ_SIZE = 4096 };

static const char listening[] = "listening on ";

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Reads what is there, waiting until `until`. Returns false at the end of the output or the time.
 */
static bool read_more(struct emulator_process *emulator, long long until)
{
    long long left = until - now_ms();
    struct pollfd poll_fd = {.fd = emulator->output, .events = POLLIN};
    if (left < 0 || poll(&poll_fd, 1, (int)left) <= 0)
        return false;
    char *log = realloc(emulator->log, emulator->log_size + READ_SIZE + 1);
    if (!log)
        return false;
    emulator->log = log;
    ssize_t size = read(emulator->output, log + emulator->log_size, READ_SIZE);
    if (size <= 0)
        return false;
    emulator->log_size += (size_t)size;
    log[emulator->log_size] = '\0';
    return true;
}

/* The next whole line behind `from` that contains text; *end is behind it. */
static const char *find_line(const struct emulator_process *emulator, size_t from, const char *text,
                             size_t *end)
{
    const char *found = emulator->log ? strstr(emulator->log + from, text) : NULL;
    const char *newline = found ? strchr(found, '\n') : NULL;
    if (!newline)
        return NULL;
    *end = (size_t)(newline + 1 - emulator->log);
    return found;
}

static bool wait_for_line(struct emulator_process *emulator, const char *text, int timeout_ms,
                          const char **line)
{
    long long until = now_ms() + timeout_ms;
    size_t end = 0;
    while (!(*line = find_line(emulator, emulator->seen, text, &end))) {
        if (!read_more(emulator, until))
            return false;
    }
    emulator->seen = end;
    return true;
}

static void run_emulator(const char *program, const char *listen, char *const *more, int more_count,
                         int output)
{
    char **arguments = calloc((size_t)more_count + 5, sizeof *arguments);
    if (!arguments)
        _exit(127);
    int count = 0;
    arguments[count++] = strdup(program);
    arguments[count++] = strdup("-v");
    arguments[count++] = strdup("--listen");
    arguments[count++] = strdup(listen);
    for (int i = 0; i < more_count; i++)
        arguments[count++] = more[i];
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* it does not outlive who has started it */
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    execv(program, arguments);
    fprintf(stderr, "cannot start %s: %s\n", program, strerror(errno));
    _exit(127);
}

bool emulator_start(struct emulator_process *emulator, const char *program, const char *listen,
                    char *const *arguments, int argument_count)
{
    memset(emulator, 0, sizeof *emulator);
    int ends[2];
    if (pipe(ends) < 0) {
        fprintf(stderr, "no pipe: %s\n", strerror(errno));
        return false;
    }
    emulator->pid = fork();
    if (emulator->pid == 0) {
        close(ends[0]);
        run_emulator(program, listen, arguments, argument_count, ends[1]);
    }
    close(ends[1]);
    emulator->output = ends[0];
    if (emulator->pid < 0) {
        fprintf(stderr, "no process for the emulator: %s\n", strerror(errno));
        return false;
    }
    const char *line;
    if (!wait_for_line(emulator, listening, START_TIMEOUT_MS, &line)) {
        while (emulator->log_size > 0 && emulator->log[emulator->log_size - 1] == '\n')
            emulator->log[--emulator->log_size] = '\0';
        fprintf(stderr, "%s did not start to listen; it printed: %s\n", program,
                emulator->log_size > 0 ? emulator->log : "nothing");
        emulator_stop(emulator);
        return false;
    }
    line += strlen(listening);
    snprintf(emulator->address, sizeof emulator->address, "%.*s", (int)strcspn(line, " \n"), line);
    return true;
}

bool emulator_saw(struct emulator_process *emulator, const char *text)
{
    const char *line;
    return wait_for_line(emulator, text, SAW_TIMEOUT_MS, &line);
}

bool emulator_usage(const struct emulator_process *emulator, struct emulator_usage *usage)
{
    char path[64], line[128];
    *usage = (struct emulator_usage){-1, 0};
    snprintf(path, sizeof path, "/proc/%ld/status", (long)emulator->pid);
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status))
        sscanf(line, "VmRSS: %ld kB", &usage->resident_kib);
    if (status)
        fclose(status);
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)emulator->pid);
    DIR *files = opendir(path);
    for (const struct dirent *file; files && (file = readdir(files)) != NULL;)
        usage->open_files += file->d_name[0] != '.';
    if (files)
        closedir(files);
    return usage->resident_kib >= 0 && usage->open_files > 0;
}

void emulator_kill(struct emulator_process *emulator)
{
    kill(emulator->pid, SIGKILL);
}

int emulator_stop(struct emulator_process *emulator)
{
    int status = -1;
    kill(emulator->pid, SIGTERM);
    while (waitpid(emulator->pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(emulator->output);
    free(emulator->log);
    memset(emulator, 0, sizeof *emulator);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
