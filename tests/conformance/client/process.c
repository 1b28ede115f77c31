#include "tests/conformance/client/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 64 << 10, TERM_ROUNDS = 50, ROUND_MS = 10, NO_COMMAND = 127 };

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void run(char *const *command, const char *const *variables, size_t count, int in, int out,
                int error)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* it does not outlive an interrupted run */
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(error, STDERR_FILENO);
    signal(SIGPIPE, SIG_DFL);
    for (size_t i = 0; i < count; i++)
        putenv((char *)variables[i]);
    execvp(command[0], command);
    dprintf(STDERR_FILENO, "cannot start %s: %s\n", command[0], strerror(errno));
    _exit(NO_COMMAND);
}

bool client_process_start(struct client_process *process, char *const *command,
                          const char *const *variables, size_t variable_count)
{
    int in[2], out[2], error[2];
    *process = (struct client_process){.in = -1, .out = -1, .error = -1};
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(error, O_CLOEXEC) < 0)
        return false; /* with some of them open, which ends with the run */
    process->pid = fork();
    if (process->pid == 0)
        run(command, variables, variable_count, in[0], out[1], error[1]);
    close(in[0]);
    close(out[1]);
    close(error[1]);
    process->in = in[1];
    process->out = out[0];
    process->error = error[0];
    if (process->pid < 0) {
        process->pid = 0;
        return false;
    }
    setpgid(process->pid, process->pid); /* whoever comes first */
    fcntl(process->in, F_SETFL, O_NONBLOCK);
    fcntl(process->out, F_SETFL, O_NONBLOCK);
    fcntl(process->error, F_SETFL, O_NONBLOCK);
    process->running = true;
    return true;
}

static void write_input(struct client_process *process)
{
    while (process->in >= 0 && process->input.size > 0) {
        ssize_t size = write(process->in, process->input.data, process->input.size);
        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (size < 0) { /* it reads no more */
            close_end(&process->in);
            return;
        }
        process->input_taken += (size_t)size;
        process->input.size -= (size_t)size;
        memmove(process->input.data, process->input.data + size, process->input.size);
    }
    if (process->input_ends)
        close_end(&process->in);
}

void client_process_write(struct client_process *process, const void *bytes, size_t size)
{
    if (usbip_buffer_append(&process->input, bytes, size) < 0)
        abort();
    write_input(process);
}

void client_process_end_input(struct client_process *process)
{
    process->input_ends = true;
    write_input(process);
}

static void read_output(struct client_process *process)
{
    while (process->out >= 0) {
        uint8_t *room = process->output.size < CLIENT_MAX_OUTPUT
                            ? usbip_buffer_reserve(&process->output, READ_SIZE)
                            : NULL;
        ssize_t size = room ? read(process->out, room, READ_SIZE) : 0;
        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (size <= 0) {
            close_end(&process->out);
            return;
        }
        process->output.size += (size_t)size;
    }
}

static void read_error(struct client_process *process)
{
    char text[READ_SIZE];
    while (process->error >= 0) {
        ssize_t size = read(process->error, text, sizeof text);
        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (size <= 0) {
            close_end(&process->error);
            return;
        }
        size_t room = sizeof process->error_text - 1 - process->error_size;
        size_t kept = (size_t)size < room ? (size_t)size : room;
        memcpy(process->error_text + process->error_size, text, kept);
        process->error_size += kept;
    }
}

static void look(struct client_process *process)
{
    if (process->running &&
        wait4(process->pid, &process->status, WNOHANG, &process->usage) == process->pid) {
        process->running = false;
        /* What it has printed is in the pipes; what it has started may still hold their ends. */
        read_output(process);
        read_error(process);
    }
}

size_t client_process_wants(struct client_process *process, struct pollfd *fds)
{
    size_t count = 0;
    if (process->in >= 0 && process->input.size > 0)
        fds[count++] = (struct pollfd){.fd = process->in, .events = POLLOUT};
    if (process->out >= 0)
        fds[count++] = (struct pollfd){.fd = process->out, .events = POLLIN};
    if (process->error >= 0)
        fds[count++] = (struct pollfd){.fd = process->error, .events = POLLIN};
    return count;
}

void client_process_act(struct client_process *process)
{
    if (process->pid == 0)
        return;
    write_input(process);
    read_output(process);
    read_error(process);
    look(process);
}

void client_process_stop(struct client_process *process)
{
    if (process->pid == 0)
        return;
    for (int round = 0; process->running; round++) {
        const struct timespec pause = {0, ROUND_MS * 1000000L};
        kill(-process->pid, round < TERM_ROUNDS ? SIGTERM : SIGKILL);
        nanosleep(&pause, NULL);
        look(process);
    }
    kill(-process->pid, SIGKILL); /* what it has left behind */
    close_end(&process->in);
    close_end(&process->out);
    close_end(&process->error);
    usbip_buffer_free(&process->input);
    usbip_buffer_free(&process->output);
    process->pid = 0;
}
