#include "tests/conformance/line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "protocol/buffer.h"

enum { READ_SIZE = 64 << 10 };

struct line {
    int fd, wake; /* wake: an eventfd that ends the thread's poll() */
    pthread_t thread;
    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t come;   /* more bytes */
    struct usbip_buffer in, out;
    size_t sent; /* of out */
    bool echo, ended, stopped;
};

/* ---- The thread ---- */

static void keep(struct usbip_buffer *buffer, const void *data, size_t size)
{
    if (size > 0 && usbip_buffer_append(buffer, data, size) < 0)
        abort();
}

static short wanted_events(const struct line *line)
{
    short events = line->sent < line->out.size ? POLLOUT : 0;
    size_t waiting = line->echo ? line->out.size - line->sent : line->in.size;
    if (!line->ended && waiting < (line->echo ? LINE_MAX_ECHO : LINE_MAX_RECEIVED))
        events |= POLLIN;
    return events;
}

static bool try_again(ssize_t result)
{
    return result < 0 && (errno == EAGAIN || errno == EINTR);
}

static void read_some(struct line *line)
{
    static uint8_t bytes[READ_SIZE];
    ssize_t size = read(line->fd, bytes, sizeof bytes);
    if (size > 0)
        keep(line->echo ? &line->out : &line->in, bytes, (size_t)size);
    else if (!try_again(size))
        line->ended = true;
    pthread_cond_broadcast(&line->come);
}

static void write_some(struct line *line)
{
    ssize_t size = write(line->fd, line->out.data + line->sent, line->out.size - line->sent);
    if (size > 0)
        line->sent += (size_t)size;
    else if (!try_again(size))
        line->sent = line->out.size; /* nobody takes it: the cases will miss it */
    if (line->sent == line->out.size)
        line->sent = line->out.size = 0;
}

static void *run(void *argument)
{
    struct line *line = argument;
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    pthread_mutex_lock(&line->mutex);
    while (!line->stopped) {
        short events = wanted_events(line);
        struct pollfd fds[] = {{.fd = line->wake, .events = POLLIN},
                               {.fd = events ? line->fd : -1, .events = events}};
        pthread_mutex_unlock(&line->mutex);
        poll(fds, 2, -1);
        pthread_mutex_lock(&line->mutex);
        uint64_t count;
        if ((fds[0].revents & POLLIN) && read(line->wake, &count, sizeof count) < 0)
            abort();
        if ((events & POLLIN) && (fds[1].revents & (POLLIN | POLLHUP | POLLERR)))
            read_some(line);
        if ((events & POLLOUT) && (fds[1].revents & (POLLOUT | POLLERR | POLLHUP)) &&
            line->sent < line->out.size)
            write_some(line);
    }
    pthread_mutex_unlock(&line->mutex);
    return NULL;
}

/* ---- Opening and closing ---- */

struct line *line_open(int fd)
{
    struct line *line = calloc(1, sizeof *line);
    if (!line)
        abort();
    line->fd = fd;
    line->wake = eventfd(0, EFD_CLOEXEC);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&line->come, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&line->mutex, NULL);
    if (line->wake < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        pthread_create(&line->thread, NULL, run, line) != 0)
        abort();
    return line;
}

struct line *line_open_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return line_open(fd);
    int error = errno;
    close(fd);
    errno = error;
    return NULL;
}

struct line *line_open_tty(const char *path)
{
    int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    struct termios termios;
    if (fd >= 0 && tcgetattr(fd, &termios) == 0) {
        cfmakeraw(&termios);
        cfsetspeed(&termios, B115200);
        termios.c_cflag |= CLOCAL | CREAD;
        termios.c_cflag &= ~(tcflag_t)(CSTOPB | CRTSCTS);
        if (tcsetattr(fd, TCSANOW, &termios) == 0)
            return line_open(fd);
    }
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return NULL;
}

static void wake_thread(struct line *line)
{
    uint64_t one = 1;
    if (write(line->wake, &one, sizeof one) < 0)
        abort();
}

void line_close(struct line *line)
{
    pthread_mutex_lock(&line->mutex);
    line->stopped = true;
    wake_thread(line);
    pthread_mutex_unlock(&line->mutex);
    pthread_join(line->thread, NULL);
    pthread_mutex_destroy(&line->mutex);
    pthread_cond_destroy(&line->come);
    close(line->wake);
    close(line->fd);
    usbip_buffer_free(&line->in);
    usbip_buffer_free(&line->out);
    free(line);
}

/* ---- Bytes ---- */

void line_send(struct line *line, const void *data, size_t size)
{
    pthread_mutex_lock(&line->mutex);
    keep(&line->out, data, size);
    wake_thread(line);
    pthread_mutex_unlock(&line->mutex);
}

void line_set_echo(struct line *line, bool echo)
{
    pthread_mutex_lock(&line->mutex);
    line->echo = echo;
    wake_thread(line);
    pthread_mutex_unlock(&line->mutex);
}

void line_clear(struct line *line)
{
    pthread_mutex_lock(&line->mutex);
    line->in.size = line->out.size = line->sent = 0;
    wake_thread(line);
    pthread_mutex_unlock(&line->mutex);
}

bool line_await(struct line *line, const void *pattern, size_t pattern_size, int timeout_ms,
                uint8_t **before, size_t *size)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&line->mutex);
    uint8_t *at;
    int result = 0;
    while (!(at = line->in.size > 0 ? memmem(line->in.data, line->in.size, pattern, pattern_size)
                                    : NULL) &&
           result == 0 && !line->ended)
        result = pthread_cond_timedwait(&line->come, &line->mutex, &until);
    if (at) {
        *size = (size_t)(at - line->in.data);
        *before = malloc(*size + 1);
        if (!*before)
            abort();
        memcpy(*before, line->in.data, *size);
        size_t taken = *size + pattern_size;
        memmove(line->in.data, line->in.data + taken, line->in.size - taken);
        line->in.size -= taken;
        wake_thread(line);
    }
    pthread_mutex_unlock(&line->mutex);
    return at != NULL;
}
