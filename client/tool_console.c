#include <stdio.h>
#include <string.h>

#include "client/console.h"
#include "client/tool.h"

enum {
    INPUT_SIZE = 4096,
    OUTPUT_SIZE = 65536,
    QUIT_KEY = 0x1d, /* Ctrl-] */
};

struct console {
    struct usbip_port *port;
    bool is_terminal;
    bool input_ended;
    char input[INPUT_SIZE];
    size_t input_start, input_end;
    bool was_restoring;
};

/* Takes what was typed. Returns false when that is the key to quit. */
static bool take_input(struct console *console)
{
    size_t size = usbip_console_read(console->input, sizeof(console->input));
    const char *quit = console->is_terminal ? memchr(console->input, QUIT_KEY, size) : NULL;

    console->input_start = 0;
    console->input_end = size;
    console->input_ended = size == 0;
    return quit == NULL;
}

static void tell_state(struct console *console)
{
    bool restoring = usbip_port_state(console->port) == USBIP_PORT_RESTORING;

    if (restoring != console->was_restoring)
        fprintf(stderr, restoring ? "\r\n[%s]\r\n" : "\r\n[the device is back]\r\n",
                usbip_port_error_text(console->port));
    console->was_restoring = restoring;
}

/* Moves all that can be moved. Returns the bytes received, or a negative error. */
static int move(struct console *console)
{
    static char data[OUTPUT_SIZE];
    int received, written;

    if (console->input_start < console->input_end) {
        written = usbip_port_write(console->port, console->input + console->input_start,
                                   console->input_end - console->input_start, 0);
        if (written < 0 && usbip_port_state(console->port) == USBIP_PORT_CLOSED)
            return written;
        /* What was lost with a connection is lost; the keys after that are not. */
        if (written > 0)
            console->input_start += (size_t)written;
    }
    received = usbip_port_read(console->port, data, sizeof(data), 0);
    if (received > 0) {
        fwrite(data, 1, (size_t)received, stdout);
        fflush(stdout);
    }
    return received;
}

/* Standard input may be a file or a pipe: when it has ended, the device gets time to answer. */
int tool_run_console(struct usbip_port *port, const struct tool_options *options)
{
    struct console console = {.port = port, .is_terminal = usbip_console_raw()};
    uint64_t heard_ms = usbip_now_ms();
    int result = 0;

    if (console.is_terminal)
        fprintf(stderr, "[%s on %s, Ctrl-] ends]\r\n", options->device, options->host);
    while (!usbip_console_is_interrupted()) {
        bool has_input = console.input_start < console.input_end;
        uint32_t timeout_ms = usbip_port_timeout_ms(port);

        if (console.input_ended && !has_input) {
            uint64_t silent_ms = usbip_now_ms() - heard_ms;

            if (silent_ms >= options->timeout_ms)
                break;
            if (options->timeout_ms - silent_ms < timeout_ms)
                timeout_ms = (uint32_t)(options->timeout_ms - silent_ms);
        }
        if (usbip_console_wait(usbip_port_fd(port), usbip_port_events(port),
                               !has_input && !console.input_ended, timeout_ms) &&
            !take_input(&console))
            break;
        result = move(&console);
        if (result < 0)
            break;
        if (result > 0 || !console.input_ended)
            heard_ms = usbip_now_ms();
        tell_state(&console);
    }
    usbip_console_restore();
    if (result >= 0 && !console.is_terminal)
        result = usbip_port_drain(port, options->timeout_ms);
    return result < 0 ? result : 0;
}
