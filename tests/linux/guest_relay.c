/*
 * A COMMAND for the conformance suite's client cases: has a Linux guest do the task, see
 * guest_serve.c, whose protocol this speaks.
 *
 *   guest_relay PORT      of 127.0.0.1, where the guest's "guest_tool serve" is reached
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FRAME_HEADER_SIZE = 3, FRAME_MAX = 16384 };

__attribute__((noreturn)) static void fail(const char *text)
{
    fprintf(stderr, "guest_relay: %s\n", text);
    exit(EXIT_FAILURE);
}

static const char *from_environment(const char *name)
{
    const char *text = getenv(name);
    if (!text)
        fail("the conformance suite runs this, with a task in the environment");
    return text;
}

static void send_all(int fd, const void *data, size_t size)
{
    const char *bytes = data;
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            fail("the guest has gone");
        bytes += sent;
        size -= (size_t)sent;
    }
}

static int connect_guest(const char *port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        fail("no guest listens there");
    return fd;
}

static void request_task(int fd)
{
    static const char reachable[] = "127.0.0.1:";
    const char *address = from_environment("USBIP_ADDRESS");
    char line[128];
    if (strncmp(address, reachable, strlen(reachable)) != 0)
        fail("the guest reaches this machine's 127.0.0.1 only");
    int size = snprintf(line, sizeof line, "%s %s %s\n", from_environment("USBIP_TASK"),
                        address + strlen(reachable), from_environment("USBIP_BUSID"));
    send_all(fd, line, (size_t)size);
}

static void read_exactly(int fd, uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t got = recv(fd, data, size, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            fail("the guest has gone");
        data += got;
        size -= (size_t)got;
    }
}

/* Takes one frame. Returns the exit status, or -1 to go on. */
static int take_frame(int fd)
{
    uint8_t header[FRAME_HEADER_SIZE], data[UINT16_MAX];
    read_exactly(fd, header, sizeof header);
    const size_t size = (size_t)header[1] << 8 | header[2];
    read_exactly(fd, data, size);
    if (header[0] == 'x')
        return size > 0 ? data[0] : EXIT_FAILURE;
    FILE *stream = header[0] == 'e' ? stderr : stdout;
    fwrite(data, 1, size, stream);
    fflush(stream);
    return -1;
}

static bool give_input(int fd)
{
    uint8_t frame[FRAME_HEADER_SIZE + FRAME_MAX];
    ssize_t size = read(STDIN_FILENO, frame + FRAME_HEADER_SIZE, FRAME_MAX);
    if (size < 0)
        size = 0;
    frame[0] = 'i';
    frame[1] = (uint8_t)(size >> 8);
    frame[2] = (uint8_t)size;
    send_all(fd, frame, FRAME_HEADER_SIZE + (size_t)size);
    return size > 0;
}

/*
 * Waits until the guest says something or takes a whole frame, and returns whether it is the
 * latter. A socket is writable when a third of its buffer is free, which is more than a frame:
 * sending never blocks, and while the guest takes no input its output is printed all the same.
 */
static bool has_room(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN | POLLOUT};
    return poll(&poll_fd, 1, -1) > 0 && poll_fd.revents == POLLOUT;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        fail("usage: guest_relay PORT");
    const int buffer_size = 4 * FRAME_MAX;
    int fd = connect_guest(argv[1]), status = -1;
    bool has_input = true;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_size, sizeof buffer_size);
    request_task(fd);
    while (status < 0) {
        struct pollfd fds[] = {{.fd = fd, .events = POLLIN},
                               {.fd = has_input ? STDIN_FILENO : -1, .events = POLLIN}};
        poll(fds, 2, -1);
        if (fds[0].revents)
            status = take_frame(fd);
        else if (fds[1].revents && has_room(fd))
            has_input = give_input(fd);
    }
    return status;
}
