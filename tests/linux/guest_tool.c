/*
 * What a scenario in the guest needs of Linux and busybox does not offer: exact control over a
 * serial port, its opposite, and an eye on the bus. Static, because the guest has only usbip's
 * libraries.
 *
 * guest_tool tty DEVICE STEP...
 *     opens a serial port, raw, and takes the steps in turn; status 0 when all of them succeed:
 *     set SPEED FORMAT     any speed in bit/s, and a format as in 8N1, 7E2 (parity N O E M S)
 *     flow none|rtscts
 *     dtr on|off, rts on|off
 *     await cts|dsr|dcd|ri on|off   until the line is so
 *     break                starts a break and ends it
 *     break-on, break-off
 *     send TEXT
 *     expect TEXT          the next bytes to come are these
 *     echo COUNT           sends COUNT bytes of a fixed pattern, and all come back
 *
 * guest_tool echo DEVICE
 *     sends back what comes, until it is killed. Stays when the port is hung up, as a gadget's is
 *     when its host goes away.
 *
 * guest_tool relay DEVICE ADDRESS PORT
 *     connects such a port with a TCP connection, until that ends.
 *
 * guest_tool usbmon BUS
 *     prints each control request on this bus, until SIGTERM: bmRequestType bRequest wValue wIndex
 *     wLength DATA, in hexadecimal. Status 1 when it missed something.
 *
 * guest_tool usbmon-pcap BUS
 *     writes what happens on this bus, 0 being all, to standard output as a pcap file. Otherwise as
 * usbmon.
 *
 * guest_tool serve
 *     does tasks of the conformance suite, see guest_serve.c
 */

#include <arpa/inet.h>
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/linux/guest_serve.h"

/* How long nothing may happen. No expectation about speed: the test on the host has a time limit
 * too, and this one is there to say first what was being waited for. */
enum { PATIENCE_MS = 60000 };

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("guest_tool: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void wait_for(int fd, short events, const char *what)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int ready = poll(&poll_fd, 1, PATIENCE_MS);
    if (ready < 0)
        fail("%s: poll: %s", what, strerror(errno));
    if (ready == 0)
        fail("%s: nothing happened for %d ms", what, PATIENCE_MS);
    if (!(poll_fd.revents & events))
        fail("%s: the port was hung up", what);
}

static void get_termios(int fd, struct termios2 *termios)
{
    if (ioctl(fd, TCGETS2, termios) < 0)
        fail("TCGETS2: %s", strerror(errno));
}

static void set_termios(int fd, const struct termios2 *termios)
{
    /* TCSETSW2: what was sent before leaves with the old settings. */
    if (ioctl(fd, TCSETSW2, termios) < 0)
        fail("TCSETSW2: %s", strerror(errno));
}

static void make_raw(struct termios2 *termios)
{
    termios->c_iflag = IGNBRK;
    termios->c_oflag = 0;
    termios->c_lflag = 0;
    termios->c_cflag = (termios->c_cflag & ~(tcflag_t)(CSIZE | PARENB | CSTOPB | CRTSCTS)) | CS8 |
                       CREAD | CLOCAL | HUPCL;
    termios->c_cc[VMIN] = 1;
    termios->c_cc[VTIME] = 0;
}

static unsigned number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || end == text || *end || value > UINT32_MAX)
        fail("%s is no number", text);
    return (unsigned)value;
}

static bool on_off(const char *text)
{
    if (!strcmp(text, "on"))
        return true;
    if (!strcmp(text, "off"))
        return false;
    fail("%s is neither on nor off", text);
}

static void step_set(int fd, const char *speed, const char *format)
{
    struct termios2 termios;
    get_termios(fd, &termios);
    tcflag_t flags =
        termios.c_cflag & ~(tcflag_t)(CBAUD | CSIZE | PARENB | PARODD | CMSPAR | CSTOPB);
    /* BOTHER: the speed is the number in c_ospeed, not one of a list. */
    flags |= BOTHER;
    termios.c_ispeed = termios.c_ospeed = number(speed);
    if (strlen(format) != 3)
        fail("%s is no format", format);
    switch (format[0]) {
    case '5':
        flags |= CS5;
        break;
    case '6':
        flags |= CS6;
        break;
    case '7':
        flags |= CS7;
        break;
    case '8':
        flags |= CS8;
        break;
    default:
        fail("%s is no format", format);
    }
    switch (format[1]) {
    case 'N':
        break;
    case 'O':
        flags |= PARENB | PARODD;
        break;
    case 'E':
        flags |= PARENB;
        break;
    case 'M':
        flags |= PARENB | PARODD | CMSPAR;
        break;
    case 'S':
        flags |= PARENB | CMSPAR;
        break;
    default:
        fail("%s is no format", format);
    }
    switch (format[2]) {
    case '1':
        break;
    case '2':
        flags |= CSTOPB;
        break;
    default:
        fail("%s is no format", format);
    }
    termios.c_cflag = flags;
    set_termios(fd, &termios);
    /* Linux drops what a driver does not support without an error. */
    get_termios(fd, &termios);
    if (termios.c_ospeed != number(speed))
        fail("the driver made %u bit/s of %s", termios.c_ospeed, speed);
    if ((termios.c_cflag ^ flags) & (CSIZE | PARENB | PARODD | CMSPAR | CSTOPB))
        fail("the driver did not accept %s", format);
}

static void step_flow(int fd, const char *how)
{
    struct termios2 termios;
    get_termios(fd, &termios);
    if (!strcmp(how, "rtscts"))
        termios.c_cflag |= CRTSCTS;
    else if (!strcmp(how, "none"))
        termios.c_cflag &= ~(tcflag_t)CRTSCTS;
    else
        fail("%s is no flow control", how);
    set_termios(fd, &termios);
}

static void step_line(int fd, int line, bool on)
{
    if (ioctl(fd, on ? TIOCMBIS : TIOCMBIC, &line) < 0)
        fail("TIOCMBI%c: %s", on ? 'S' : 'C', strerror(errno));
}

static void step_await(int fd, const char *name, bool on)
{
    static const struct {
        const char *name;
        int line;
    } lines[] = {{"cts", TIOCM_CTS}, {"dsr", TIOCM_DSR}, {"dcd", TIOCM_CAR}, {"ri", TIOCM_RNG}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (strcmp(lines[i].name, name) != 0)
            continue;
        /* Not every driver wakes TIOCMIWAIT, so ask. */
        for (int waited_ms = 0; waited_ms < PATIENCE_MS; waited_ms += 10) {
            int state;
            if (ioctl(fd, TIOCMGET, &state) < 0)
                fail("TIOCMGET: %s", strerror(errno));
            if (!!(state & lines[i].line) == on)
                return;
            usleep(10000);
        }
        fail("%s never became %s", name, on ? "on" : "off");
    }
    fail("%s is no line that can be awaited", name);
}

static void step_break(int fd, bool on)
{
    if (ioctl(fd, on ? TIOCSBRK : TIOCCBRK) < 0)
        fail("TIOC%cBRK: %s", on ? 'S' : 'C', strerror(errno));
}

static void write_all(int fd, const unsigned char *data, size_t size, const char *what)
{
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written > 0) {
            data += written;
            size -= (size_t)written;
        } else if (errno == EAGAIN) {
            wait_for(fd, POLLOUT, what);
        } else {
            fail("%s: write: %s", what, strerror(errno));
        }
    }
}

static void step_expect(int fd, const char *text)
{
    for (size_t i = 0; text[i]; i++) {
        unsigned char byte;
        wait_for(fd, POLLIN, text);
        ssize_t count = read(fd, &byte, 1);
        if (count != 1)
            fail("expect %s: read: %s", text, count ? strerror(errno) : "hung up");
        if (byte != (unsigned char)text[i])
            fail("expect %s: byte %zu is 0x%02x", text, i, byte);
    }
}

/* All values occur, and no two stretches of 256 bytes are alike: nothing lost, doubled or exchanged
 * goes unseen. */
static unsigned char pattern(size_t i)
{
    return (unsigned char)(i + (i >> 8) * 7);
}

static void step_echo(int fd, size_t count)
{
    size_t sent = 0, received = 0;
    unsigned char buffer[4096];
    while (received < count) {
        wait_for(fd, sent < count ? POLLIN | POLLOUT : POLLIN, "echo");
        if (sent < count) {
            size_t size = count - sent < sizeof buffer ? count - sent : sizeof buffer;
            for (size_t i = 0; i < size; i++)
                buffer[i] = pattern(sent + i);
            ssize_t written = write(fd, buffer, size);
            if (written > 0)
                sent += (size_t)written;
            else if (errno != EAGAIN)
                fail("echo: write: %s", strerror(errno));
        }
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (got < 0 && errno != EAGAIN)
            fail("echo: read: %s", strerror(errno));
        for (ssize_t i = 0; i < got; i++, received++) {
            if (received >= sent)
                fail("echo: more came back than the %zu bytes that were sent", sent);
            if (buffer[i] != pattern(received))
                fail("echo: byte %zu of %zu is 0x%02x instead of 0x%02x", received, count,
                     buffer[i], pattern(received));
        }
    }
}

static int run_tty(const char *device, char **steps)
{
    int fd = open(device, O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        fail("%s: %s", device, strerror(errno));
    struct termios2 termios;
    get_termios(fd, &termios);
    make_raw(&termios);
    set_termios(fd, &termios);

    while (*steps) {
        const char *step = *steps++;
        /* What a step takes as arguments, missing ones being empty. */
        const char *first = *steps ? steps[0] : "";
        const char *second = *steps && steps[1] ? steps[1] : "";
        int taken = 1;
        if (!strcmp(step, "set")) {
            step_set(fd, first, second);
            taken = 2;
        } else if (!strcmp(step, "flow")) {
            step_flow(fd, first);
        } else if (!strcmp(step, "dtr")) {
            step_line(fd, TIOCM_DTR, on_off(first));
        } else if (!strcmp(step, "rts")) {
            step_line(fd, TIOCM_RTS, on_off(first));
        } else if (!strcmp(step, "await")) {
            step_await(fd, first, on_off(second));
            taken = 2;
        } else if (!strcmp(step, "break")) {
            step_break(fd, true);
            step_break(fd, false);
            taken = 0;
        } else if (!strcmp(step, "break-on")) {
            step_break(fd, true);
            taken = 0;
        } else if (!strcmp(step, "break-off")) {
            step_break(fd, false);
            taken = 0;
        } else if (!strcmp(step, "send")) {
            write_all(fd, (const unsigned char *)first, strlen(first), first);
        } else if (!strcmp(step, "expect")) {
            step_expect(fd, first);
        } else if (!strcmp(step, "echo")) {
            step_echo(fd, number(first));
        } else {
            fail("%s is no step", step);
        }
        for (; taken > 0 && *steps; taken--)
            steps++;
        if (taken > 0)
            fail("%s: there is an argument missing", step);
    }
    return 0;
}

/* Opens a port that may be hung up at any time, and says so the first time. -1: it is hung up now.
 */
static int open_far_end(const char *device)
{
    static bool told;
    int fd = open(device, O_RDWR | O_NOCTTY);
    if (fd < 0)
        fail("%s: %s", device, strerror(errno));
    struct termios2 termios;
    if (ioctl(fd, TCGETS2, &termios) < 0) {
        close(fd);
        return -1;
    }
    make_raw(&termios);
    ioctl(fd, TCSETS2, &termios);
    if (!told) {
        puts("open");
        fflush(stdout);
        told = true;
    }
    return fd;
}

static void __attribute__((noreturn)) run_echo(const char *device)
{
    for (;;) {
        int fd = open_far_end(device);
        unsigned char buffer[4096];
        ssize_t count;
        while (fd >= 0 && (count = read(fd, buffer, sizeof buffer)) > 0) {
            ssize_t done = 0;
            while (done < count) {
                ssize_t written = write(fd, buffer + done, (size_t)(count - done));
                if (written <= 0)
                    break;
                done += written;
            }
        }
        if (fd >= 0)
            close(fd);
        usleep(10000);
    }
}

/* One direction of a relay. */
struct flow {
    unsigned char bytes[4096];
    size_t size, done;
};

/* Returns false when the source has ended, or is hung up. */
static bool take(struct flow *flow, int from)
{
    ssize_t size = read(from, flow->bytes, sizeof flow->bytes);
    flow->done = 0;
    flow->size = size > 0 ? (size_t)size : 0;
    return size > 0 || (size < 0 && errno == EAGAIN);
}

static bool give(struct flow *flow, int to)
{
    ssize_t size = write(to, flow->bytes + flow->done, flow->size - flow->done);
    if (size > 0)
        flow->done += (size_t)size;
    return size > 0 || errno == EAGAIN;
}

/* Until either end closes. What the port did not take is kept for when it is open again. */
static bool relay(int port, int connection, struct flow *to_port, struct flow *to_connection)
{
    for (;;) {
        bool port_waits = to_port->done < to_port->size;
        bool connection_waits = to_connection->done < to_connection->size;
        struct pollfd fds[] = {
            {port, (short)((port_waits ? POLLOUT : 0) | (connection_waits ? 0 : POLLIN)), 0},
            {connection, (short)((connection_waits ? POLLOUT : 0) | (port_waits ? 0 : POLLIN)), 0},
        };
        poll(fds, 2, -1);
        if (fds[0].revents & (POLLHUP | POLLERR))
            return true;
        if ((fds[0].revents & POLLIN) && !take(to_connection, port))
            return true;
        if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR)) && !port_waits &&
            !take(to_port, connection))
            return false;
        if ((fds[1].revents & POLLOUT) && !give(to_connection, connection))
            return false;
        if ((fds[0].revents & POLLOUT) && !give(to_port, port))
            return true;
    }
}

static int run_relay(const char *device, const char *address, const char *port)
{
    static struct flow to_port, to_connection;
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number(port))};
    int one = 1, connection = socket(AF_INET, SOCK_STREAM, 0);
    if (inet_pton(AF_INET, address, &peer.sin_addr) != 1)
        fail("%s is no address", address);
    if (connection < 0 || connect(connection, (struct sockaddr *)&peer, sizeof peer) < 0)
        fail("%s port %s: %s", address, port, strerror(errno));
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(connection, F_SETFL, O_NONBLOCK);
    for (;;) {
        int fd = open_far_end(device);
        if (fd >= 0) {
            fcntl(fd, F_SETFL, O_NONBLOCK);
            if (!relay(fd, connection, &to_port, &to_connection))
                return 0;
            close(fd);
        }
        usleep(1000);
    }
}

/* Linux, Documentation/usb/usbmon.rst: the binary interface. No header of the kernel's declares it.
 * LINKTYPE_USB_LINUX_MMAPPED has this before each packet's data. */
struct usbmon_packet {
    uint64_t id;
    unsigned char type;          /* 'S' submission, 'C' completion, 'E' submission error */
    unsigned char transfer_type; /* 2: control */
    unsigned char endpoint;
    unsigned char device;
    uint16_t bus;
    char flag_setup; /* 0: setup is valid */
    char flag_data;  /* 0: data follow */
    int64_t seconds;
    int32_t microseconds;
    int32_t status;
    uint32_t length;
    uint32_t captured;
    unsigned char setup[8];
    int32_t interval;
    int32_t start_frame;
    uint32_t transfer_flags;
    uint32_t descriptors;
};

struct usbmon_get {
    struct usbmon_packet *packet;
    void *data;
    size_t size;
};

struct usbmon_statistics {
    uint32_t queued;
    uint32_t dropped;
};

#define USBMON_STATISTICS _IOR(0x92, 3, struct usbmon_statistics)
#define USBMON_RING_SIZE _IO(0x92, 4)
#define USBMON_GET _IOW(0x92, 10, struct usbmon_get)

static volatile sig_atomic_t terminated;

static void terminate(int signal_number)
{
    (void)signal_number;
    terminated = 1;
}

/* Prints the submission of a control request, passes over all other events. */
static void print_request(const struct usbmon_packet *packet, const unsigned char *data)
{
    if (packet->type != 'S' || packet->transfer_type != 2 || packet->flag_setup != 0)
        return;
    const unsigned char *setup = packet->setup;
    printf("%02x %02x %02x%02x %02x%02x %02x%02x ", setup[0], setup[1], setup[3], setup[2],
           setup[5], setup[4], setup[7], setup[6]);
    for (size_t i = 0; packet->flag_data == 0 && i < packet->captured; i++)
        printf("%02x", data[i]);
    putchar('\n');
    fflush(stdout);
}

enum {
    PCAP_MAGIC = 0xa1b2c3d4, /* time stamps in microseconds */
    PCAP_SNAPLEN = 262144,
    LINKTYPE_USB_LINUX_MMAPPED = 220,
};

static void write_pcap_header(void)
{
    struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, accuracy, snaplen, linktype;
    } header = {PCAP_MAGIC, 2, 4, 0, 0, PCAP_SNAPLEN, LINKTYPE_USB_LINUX_MMAPPED};
    fwrite(&header, sizeof header, 1, stdout);
    fflush(stdout);
}

static void write_pcap_packet(const struct usbmon_packet *packet, const unsigned char *data)
{
    struct {
        uint32_t seconds, microseconds, captured, size;
    } header = {
        .seconds = (uint32_t)packet->seconds,
        .microseconds = (uint32_t)packet->microseconds,
        .captured = (uint32_t)sizeof *packet + packet->captured,
        .size = (uint32_t)sizeof *packet + packet->length,
    };
    fwrite(&header, sizeof header, 1, stdout);
    fwrite(packet, sizeof *packet, 1, stdout);
    fwrite(data, packet->captured, 1, stdout);
}

/* With pcap, writes all events to a file instead of the control requests in text. */
static int run_usbmon(const char *bus, bool pcap)
{
    char path[64];
    snprintf(path, sizeof path, "/dev/usbmon%u", number(bus));
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
        fail("%s: %s", path, strerror(errno));
    /* The largest ring that Linux grants: data transfers pass through it as well. */
    if (ioctl(fd, USBMON_RING_SIZE, 1200 * 1024) < 0)
        fail("%s: ring size: %s", path, strerror(errno));

    /* Blocked outside of ppoll(), so that no signal comes between the look and the wait. */
    sigset_t blocked, open_mask;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    struct sigaction action = {.sa_handler = terminate};
    sigaction(SIGTERM, &action, NULL);

    if (pcap) {
        write_pcap_header();
    } else {
        puts("watching");
        fflush(stdout);
    }
    for (;;) {
        struct usbmon_packet packet;
        static unsigned char data[PCAP_SNAPLEN - sizeof packet];
        struct usbmon_get get = {.packet = &packet, .data = data, .size = sizeof data};
        if (ioctl(fd, USBMON_GET, &get) < 0) {
            if (errno != EAGAIN)
                fail("%s: %s", path, strerror(errno));
            /* All that was there is printed. */
            if (terminated)
                break;
            struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
            ppoll(&poll_fd, 1, NULL, &open_mask);
            continue;
        }
        if (pcap)
            write_pcap_packet(&packet, data);
        else
            print_request(&packet, data);
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        fail("%s: output: %s", path, strerror(errno));
    struct usbmon_statistics statistics;
    if (ioctl(fd, USBMON_STATISTICS, &statistics) < 0)
        fail("%s: statistics: %s", path, strerror(errno));
    if (statistics.dropped > 0)
        fail("%s: %u events were lost", path, statistics.dropped);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 3 && !strcmp(argv[1], "tty"))
        return run_tty(argv[2], argv + 3);
    if (argc == 3 && !strcmp(argv[1], "echo"))
        run_echo(argv[2]);
    if (argc == 5 && !strcmp(argv[1], "relay"))
        return run_relay(argv[2], argv[3], argv[4]);
    if (argc == 3 && !strcmp(argv[1], "usbmon"))
        return run_usbmon(argv[2], false);
    if (argc == 3 && !strcmp(argv[1], "usbmon-pcap"))
        return run_usbmon(argv[2], true);
    if (argc == 2 && !strcmp(argv[1], "serve"))
        return guest_serve();
    fail("usage: guest_tool tty DEVICE STEP... | echo DEVICE | relay DEVICE ADDRESS PORT |"
         " usbmon BUS | usbmon-pcap BUS | serve");
}
