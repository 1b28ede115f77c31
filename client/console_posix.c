#include "client/console.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "client/port.h"

static struct termios original;
static bool is_raw;
static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

bool usbip_console_raw(void)
{
    const struct sigaction action = {.sa_handler = interrupt};
    struct termios raw;

    if (tcgetattr(STDIN_FILENO, &original) < 0)
        return false;
    raw = original;
    cfmakeraw(&raw);
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
        return false;
    is_raw = true;
    atexit(usbip_console_restore);
    /* Without these the terminal would stay raw. */
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    return true;
}

void usbip_console_restore(void)
{
    if (is_raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &original);
    is_raw = false;
}

bool usbip_console_is_interrupted(void)
{
    return interrupted != 0;
}

bool usbip_console_wait(int fd, int events, bool wants_input, uint32_t timeout_ms)
{
    struct pollfd fds[] = {
        {.fd = wants_input ? STDIN_FILENO : -1, .events = POLLIN},
        {.fd = fd},
    };

    fds[1].events = (short)((events & USBIP_EVENT_READ ? POLLIN : 0) |
                            (events & USBIP_EVENT_WRITE ? POLLOUT : 0));
    if (poll(fds, 2, timeout_ms > INT_MAX ? -1 : (int)timeout_ms) <= 0)
        return false;
    return fds[0].revents != 0;
}

size_t usbip_console_read(void *data, size_t size)
{
    ssize_t count = read(STDIN_FILENO, data, size);

    return count > 0 ? (size_t)count : 0;
}
