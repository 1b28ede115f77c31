/*
 * guest_tool serve: does tasks of the conformance suite's client cases with the guest's kernel and
 * usbip, for guest_relay on the host. One connection is one task, one after the other:
 *
 *   "list PORT BUSID\n", "serial PORT BUSID\n"   the task, and the server's port on the host
 *   frames                                       type (one byte), size (two, big-endian), data
 *
 * Frames to the guest are 'i', standard input, which ends with one of size 0; to the host 'o' and
 * 'e', what is printed, and 'x', the exit status.
 */
#include "tests/linux/guest_serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum {
    GUEST_PORT = 3240,
    LINE_SIZE = 128,
    FRAME_HEADER_SIZE = 3,
    FRAME_MAX = 16384,
    ROUND_MS = 20,
    TTY_MS = 20000,   /* from an import to the device node, at most */
    CLEAN_MS = 20000, /* until a lost device is gone, at most */
    PORT_USED = 5,    /* from here on a port of vhci_hcd has a device (VDEV_ST_NOTASSIGNED) */
    MAX_PORTS = 16,
};

static const char host[] = "10.0.2.2";
static const char *const ttys[] = {"/dev/ttyACM0", "/dev/ttyUSB0"};

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void rest(void)
{
    const struct timespec pause = {0, ROUND_MS * 1000000L};
    nanosleep(&pause, NULL);
}

/* ---- Frames ---- */

/* False: the host has gone. */
static bool send_all(int fd, const void *data, size_t size)
{
    const char *bytes = data;
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        bytes += sent;
        size -= (size_t)sent;
    }
    return true;
}

static bool send_frame(int fd, char type, const void *data, size_t size)
{
    const uint8_t header[] = {(uint8_t)type, (uint8_t)(size >> 8), (uint8_t)size};
    return send_all(fd, header, sizeof header) && send_all(fd, data, size);
}

static void send_text(int fd, const char *text)
{
    send_frame(fd, 'e', text, strlen(text));
}

/* usbip says on its standard error also what is no error. */
static void send_errors(int fd, const char *data, size_t size)
{
    static const char info[] = "usbip: info:";
    while (size > 0) {
        const char *newline = memchr(data, '\n', size);
        const size_t line = newline ? (size_t)(newline + 1 - data) : size;
        if (line < sizeof info || strncmp(data, info, sizeof info - 1) != 0)
            send_frame(fd, 'e', data, line);
        data += line;
        size -= line;
    }
}

static bool has_gone(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};
    return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* ---- Programs ---- */

/*
 * Runs a program whose output goes to the host. Returns its exit status, or -1 when the host has
 * gone; it is killed then.
 */
static int run(int fd, char *const *command)
{
    int pipes[2][2];
    if (pipe2(pipes[0], O_CLOEXEC) < 0 || pipe2(pipes[1], O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipes[0][1], STDOUT_FILENO);
        dup2(pipes[1][1], STDERR_FILENO);
        execvp(command[0], command);
        perror(command[0]);
        _exit(127);
    }
    close(pipes[0][1]);
    close(pipes[1][1]);
    bool gone = false;
    for (int open_ends = 2; open_ends > 0;) {
        struct pollfd fds[] = {{.fd = pipes[0][0], .events = POLLIN},
                               {.fd = pipes[1][0], .events = POLLIN},
                               {.fd = gone ? -1 : fd, .events = POLLRDHUP}};
        poll(fds, 3, -1);
        if (fds[2].revents && has_gone(fd)) {
            gone = true;
            kill(pid, SIGKILL);
        }
        for (int i = 0; i < 2; i++) {
            char data[FRAME_MAX];
            if (pipes[i][0] < 0 || !fds[i].revents)
                continue;
            ssize_t size = read(pipes[i][0], data, sizeof data);
            if (size > 0 && i == 0)
                send_frame(fd, 'o', data, (size_t)size);
            else if (size > 0)
                send_errors(fd, data, (size_t)size);
            if (size > 0)
                continue;
            close(pipes[i][0]);
            pipes[i][0] = -1;
            open_ends--;
        }
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return gone ? -1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- The kernel's state ---- */

/* Ports of vhci_hcd that have a device. */
static int used_ports(int ports[MAX_PORTS])
{
    FILE *file = fopen("/sys/devices/platform/vhci_hcd.0/status", "r");
    char line[LINE_SIZE];
    int count = 0, port, state;
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%*s %d %d", &port, &state) == 2 && state >= PORT_USED &&
            count < MAX_PORTS)
            ports[count++] = port;
    }
    if (file)
        fclose(file);
    return count;
}

static const char *find_tty(void)
{
    for (size_t i = 0; i < sizeof ttys / sizeof ttys[0]; i++) {
        if (access(ttys[i], F_OK) == 0)
            return ttys[i];
    }
    return NULL;
}

/* Detaches all devices and waits until nothing is left of them. False: that takes too long. */
static bool clean_up(void)
{
    int ports[MAX_PORTS];
    const long long until = now_ms() + CLEAN_MS;
    for (int i = used_ports(ports); i > 0; i--) {
        char command[64];
        snprintf(command, sizeof command, "usbip detach -p %d >/dev/null 2>&1", ports[i - 1]);
        if (system(command) != 0)
            printf("guest_tool serve: cannot detach port %d\n", ports[i - 1]);
    }
    while (used_ports(ports) > 0 || find_tty()) {
        if (now_ms() >= until)
            return false;
        rest();
    }
    return true;
}

/* ---- The serial port ---- */

static int open_tty(const char *path)
{
    struct termios termios;
    int tty = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (tty < 0 || tcgetattr(tty, &termios) < 0)
        return -1;
    cfmakeraw(&termios);
    cfsetspeed(&termios, B115200);
    termios.c_cflag |= CLOCAL | HUPCL;
    return tcsetattr(tty, TCSANOW, &termios) < 0 ? -1 : tty;
}

struct bridge {
    int fd, tty;
    uint8_t in[FRAME_HEADER_SIZE + FRAME_MAX]; /* a frame of the host, as far as it has come */
    size_t in_size, written;                   /* bytes of its data that the port has taken */
    bool ended;
};

static size_t frame_size(const struct bridge *bridge)
{
    return FRAME_HEADER_SIZE + ((size_t)bridge->in[1] << 8 | bridge->in[2]);
}

static bool has_frame(const struct bridge *bridge)
{
    return bridge->in_size >= FRAME_HEADER_SIZE && bridge->in_size >= frame_size(bridge);
}

/* One frame at a time, so that the host is held back while the port takes nothing. */
static bool read_frame(struct bridge *bridge)
{
    size_t wanted = bridge->in_size < FRAME_HEADER_SIZE ? FRAME_HEADER_SIZE : frame_size(bridge);
    if (wanted > sizeof bridge->in)
        return false;
    ssize_t size = recv(bridge->fd, bridge->in + bridge->in_size, wanted - bridge->in_size, 0);
    if (size <= 0)
        return false;
    bridge->in_size += (size_t)size;
    if (has_frame(bridge) && frame_size(bridge) == FRAME_HEADER_SIZE)
        bridge->ended = true;
    return true;
}

static bool write_frame(struct bridge *bridge)
{
    const size_t left = frame_size(bridge) - FRAME_HEADER_SIZE - bridge->written;
    ssize_t size = write(bridge->tty, bridge->in + FRAME_HEADER_SIZE + bridge->written, left);
    if (size < 0)
        return errno == EAGAIN;
    bridge->written += (size_t)size;
    if ((size_t)size == left)
        bridge->in_size = bridge->written = 0;
    return true;
}

/* Returns NULL when the host has ended its input, or what went wrong. */
static const char *move(struct bridge *bridge)
{
    while (!bridge->ended) {
        bool writes = has_frame(bridge);
        struct pollfd fds[] = {
            {.fd = bridge->fd, .events = (short)(writes ? POLLRDHUP : POLLIN)},
            {.fd = bridge->tty, .events = (short)(POLLIN | (writes ? POLLOUT : 0))}};
        char data[FRAME_MAX];
        poll(fds, 2, -1);
        if (fds[1].revents & POLLIN) {
            ssize_t size = read(bridge->tty, data, sizeof data);
            if (size > 0)
                send_frame(bridge->fd, 'o', data, (size_t)size);
            else if (size == 0 || errno != EAGAIN)
                return "the port was hung up\n";
        }
        if (fds[1].revents & (POLLHUP | POLLERR))
            return "the port was hung up\n";
        if (writes && (fds[1].revents & POLLOUT) && !write_frame(bridge))
            return "the port takes nothing\n";
        if (writes && (fds[0].revents & (POLLRDHUP | POLLHUP)))
            return "the host has gone\n";
        if (!writes && fds[0].revents && !read_frame(bridge))
            return "the host has gone\n";
    }
    return NULL;
}

/* In a process of its own: closing a port can take for ever. */
static int bridge_tty(int fd, const char *path)
{
    static struct bridge bridge;
    bridge.fd = fd;
    bridge.tty = open_tty(path);
    const char *wrong = bridge.tty < 0 ? "the port cannot be opened\n" : move(&bridge);
    if (wrong)
        send_text(fd, wrong);
    close(bridge.tty);
    return wrong ? 1 : 0;
}

static int await_child(pid_t pid, int fd)
{
    int status;
    bool killed = false;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        /* What hangs in the kernel ends when the server has closed the connection. */
        if (!killed && has_gone(fd)) {
            kill(pid, SIGKILL);
            killed = true;
        }
        rest();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* ---- Tasks ---- */

static int do_serial(int fd, char *port, char *busid)
{
    char *const attach[] = {"usbip",      "--tcp-port", port,  "attach", "-r",
                            (char *)host, "-b",         busid, NULL};
    int ports[MAX_PORTS];
    const char *tty;
    int status = run(fd, attach);
    if (status != 0)
        return status;
    const long long until = now_ms() + TTY_MS;
    while (!(tty = find_tty())) {
        if (has_gone(fd))
            return -1;
        if (used_ports(ports) == 0 || now_ms() >= until) {
            send_text(fd, "no serial port appears\n");
            return 1;
        }
        rest();
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(bridge_tty(fd, tty));
    }
    return await_child(pid, fd);
}

static int do_list(int fd, char *port)
{
    char *const list[] = {"usbip", "--tcp-port", port, "list", "-r", (char *)host, NULL};
    return run(fd, list);
}

static bool read_request(int fd, char line[LINE_SIZE])
{
    size_t size = 0;
    while (size < LINE_SIZE - 1 && recv(fd, line + size, 1, 0) == 1) {
        if (line[size] == '\n') {
            line[size] = '\0';
            return true;
        }
        size++;
    }
    return false;
}

static void serve_one(int fd)
{
    char line[LINE_SIZE], task[16], port[16], busid[40];
    if (!read_request(fd, line) || sscanf(line, "%15s %15s %39s", task, port, busid) != 3)
        return;
    printf("guest_tool serve: %s\n", line);
    fflush(stdout);
    if (!clean_up()) {
        send_text(fd, "the guest still has the device of the task before\n");
        send_frame(fd, 'x', "\x7e", 1);
        return;
    }
    int status = strcmp(task, "list") == 0 ? do_list(fd, port) : do_serial(fd, port, busid);
    clean_up();
    const char byte = (char)status;
    send_frame(fd, 'x', &byte, 1);
}

int guest_serve(void)
{
    const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(GUEST_PORT)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (const struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 4) < 0) {
        perror("guest_tool serve");
        return 1;
    }
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        serve_one(fd);
        close(fd);
    }
}
