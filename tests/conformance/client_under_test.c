/*
 * A client of our library for the conformance suite: what "usbip-conformance client" asks of a
 * COMMAND, and nothing more.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/port.h"

enum {
    OPEN_TIMEOUT_MS = 20000, /* servers may take 10 s to claim a device */
    WRITE_TIMEOUT_MS = 10000,
    BUFFER_SIZE = 65536,
};

struct bridge {
    struct usbip_port *port;
    uint32_t timeout_ms;
    char input[BUFFER_SIZE];
    size_t input_start, input_end;
    bool input_ended;
    uint64_t progress_ms; /* when the device has last taken something, or had all */
};

static uint32_t number_from_environment(const char *name, uint32_t otherwise)
{
    const char *text = getenv(name);
    return text ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

static const char *from_environment(const char *name)
{
    const char *text = getenv(name);
    if (!text) {
        fprintf(stderr, "client_under_test: %s is not set; the conformance suite runs this\n",
                name);
        exit(EXIT_FAILURE);
    }
    return text;
}

static int fail(const char *text)
{
    fprintf(stderr, "client_under_test: %s\n", text);
    return EXIT_FAILURE;
}

static int list(const char *address, uint32_t timeout_ms)
{
    char error_text[USBIP_ERROR_TEXT_SIZE];
    struct usbip_device_list devices;
    if (usbip_list_devices(address, timeout_ms, &devices, error_text) < 0)
        return fail(error_text);
    for (unsigned i = 0; i < devices.count; i++) {
        const struct usbip_device_record *record = &devices.devices[i].record;
        printf("%s %04x:%04x %s\n", record->busid, record->idVendor, record->idProduct,
               record->path);
    }
    usbip_device_list_free(&devices);
    return EXIT_SUCCESS;
}

static void wait_for_news(struct bridge *bridge, bool wants_input, bool unconfirmed)
{
    struct pollfd fds[] = {{.fd = wants_input ? STDIN_FILENO : -1, .events = POLLIN},
                           {.fd = usbip_port_fd(bridge->port)}};
    int events = usbip_port_events(bridge->port);
    uint32_t timeout_ms = usbip_port_timeout_ms(bridge->port);
    if (unconfirmed && bridge->timeout_ms < timeout_ms)
        timeout_ms = bridge->timeout_ms;
    fds[1].events = (short)((events & USBIP_EVENT_READ ? POLLIN : 0) |
                            (events & USBIP_EVENT_WRITE ? POLLOUT : 0));
    poll(fds, 2, timeout_ms > INT_MAX ? -1 : (int)timeout_ms);
    if (!(fds[0].revents & (POLLIN | POLLHUP)))
        return;
    ssize_t size = read(STDIN_FILENO, bridge->input, sizeof bridge->input);
    bridge->input_start = 0;
    bridge->input_end = size > 0 ? (size_t)size : 0;
    bridge->input_ended = size <= 0;
}

/* Returns 0 or a negative error. */
static int move_input(struct bridge *bridge)
{
    const size_t size = bridge->input_end - bridge->input_start;
    int result =
        size > 0 ? usbip_port_write(bridge->port, bridge->input + bridge->input_start, size, 0) : 0;
    if (result < 0)
        return result;
    bridge->input_start += (size_t)result;
    if (result > 0)
        bridge->progress_ms = usbip_now_ms();
    return 0;
}

/* Whether the device has taken all that was written: 1, 0, or a negative error. */
static int is_confirmed(struct bridge *bridge)
{
    if (usbip_port_state(bridge->port) == USBIP_PORT_RESTORING)
        return 1; /* there is nobody to take it, and no hurry */
    int result = usbip_port_drain(bridge->port, 0);
    if (result == 0 && bridge->input_start == bridge->input_end)
        return 1;
    if (result < 0 && result != USBIP_ERROR_TIMEOUT)
        return result;
    return usbip_now_ms() < bridge->progress_ms + bridge->timeout_ms ? 0 : USBIP_ERROR_TIMEOUT;
}

static int move_output(struct bridge *bridge)
{
    static char data[BUFFER_SIZE];
    int size;
    while ((size = usbip_port_read(bridge->port, data, sizeof data, 0)) > 0) {
        if (fwrite(data, 1, (size_t)size, stdout) != (size_t)size || fflush(stdout) != 0)
            exit(EXIT_FAILURE); /* nobody listens any more */
    }
    return size;
}

/* Until standard input ends. Returns 0 or a negative error of the port. */
static int run(struct bridge *bridge)
{
    for (;;) {
        int result = move_input(bridge);
        int confirmed = result < 0 ? result : is_confirmed(bridge);
        if (result == 0)
            result = move_output(bridge);
        if (result < 0 || confirmed < 0)
            return result < 0 ? result : confirmed;
        if (confirmed > 0)
            bridge->progress_ms = usbip_now_ms();
        if (bridge->input_ended && confirmed > 0)
            return 0;
        wait_for_news(bridge, bridge->input_start == bridge->input_end && !bridge->input_ended,
                      confirmed == 0);
    }
}

static int connect_serial(const char *address, const char *busid, uint32_t told_timeout_ms)
{
    static struct bridge bridge;
    const uint32_t reconnect_ms = number_from_environment("USBIP_RECONNECT_MS", 0);
    const uint32_t open_timeout_ms = told_timeout_ms ? told_timeout_ms : OPEN_TIMEOUT_MS;
    int status = EXIT_SUCCESS;
    bridge.port = usbip_port_new(address, busid);
    bridge.timeout_ms = told_timeout_ms ? told_timeout_ms : WRITE_TIMEOUT_MS;
    if (!bridge.port)
        return fail("out of memory");
    usbip_port_set_restore(bridge.port, reconnect_ms > 0, reconnect_ms);
    bridge.progress_ms = usbip_now_ms();
    if (usbip_port_open(bridge.port, open_timeout_ms) < 0 || run(&bridge) < 0)
        status = fail(usbip_port_error_text(bridge.port));
    usbip_port_close(bridge.port);
    usbip_port_free(bridge.port);
    return status;
}

int main(void)
{
    const char *address = from_environment("USBIP_ADDRESS");
    const char *task = from_environment("USBIP_TASK");
    const uint32_t timeout_ms = number_from_environment("USBIP_TIMEOUT_MS", 0);
    if (strcmp(task, "list") == 0)
        return list(address, timeout_ms);
    if (strcmp(task, "serial") == 0)
        return connect_serial(address, from_environment("USBIP_BUSID"), timeout_ms);
    return fail("USBIP_TASK is neither list nor serial");
}
