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

/* Takes what was typed. Returns false when the key to quit is in it; what is behind that is cut. */
static bool take_input(struct console *console)
{
    size_t size = usbip_console_read(console->input, sizeof(console->input));
    const char *quit = console->is_terminal ? memchr(console->input, QUIT_KEY, size) : NULL;

    console->input_start = 0;
    console->input_end = quit ? (size_t)(quit - console->input) : size;
    console->input_ended = size == 0;
    return quit == NULL;
}

static void tell_state(struct console *console)
{
    bool restoring = usbip_port_state(console->port) == USBIP_PORT_RESTORING;
    const char *start = console->is_terminal ? "\r\n[" : "usbip-serial: ";
    const char *end = console->is_terminal ? "]\r\n" : "\n";

    if (restoring != console->was_restoring)
        fprintf(stderr, "%s%s%s", start,
                restoring ? usbip_port_error_text(console->port) : "the device is back", end);
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
        /*
         * Who types sees what was lost with a connection, and goes on typing; of the bytes of a
         * file none may be missing.
         */
        if (written < 0 &&
            (!console->is_terminal || usbip_port_state(console->port) == USBIP_PORT_CLOSED))
            return written;
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

/* Sends what is left, so that it is not given up with the port. Returns 0 or a negative error. */
static int finish(struct console *console, uint32_t timeout_ms)
{
    int result;

    if (usbip_port_state(console->port) != USBIP_PORT_OPEN) /* who types has been told */
        return console->is_terminal ? 0 : USBIP_ERROR_DISCONNECTED;
    result = usbip_port_write_all(console->port, console->input + console->input_start,
                                  console->input_end - console->input_start, timeout_ms);
    return result < 0 ? result : 0;
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
    if (result < 0 || usbip_console_is_interrupted())
        return result < 0 ? result : 0;
    return finish(&console, options->timeout_ms);
}
