/* usbip-serial: lists the devices of a USB/IP server and talks to their serial ports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture/recorder.h"
#include "client/tool.h"

enum {
    OPEN_TIMEOUT_MS = 20000, /* Windows may take 10 s to claim a device */
    SEND_TIMEOUT_MS = 10000,
    READ_TIMEOUT_MS = 1000,
    SEND_SIZE = 1024,  /* what a slow line still takes within the time-out */
    READ_SIZE = 65536, /* also the longest line */
    HEX_ROW_SIZE = 16,
};

static int fail(const char *text)
{
    fprintf(stderr, "usbip-serial: %s\n", text);
    return EXIT_OPERATION;
}

static int run_list(const struct tool_options *options)
{
    char error_text[USBIP_ERROR_TEXT_SIZE];
    struct usbip_device_list list;
    int result = usbip_list_devices(options->host, options->timeout_ms, &list, error_text);

    if (result < 0)
        return fail(error_text);
    if (options->json)
        tool_print_json(&list);
    else if (list.count > 0)
        tool_print_table(&list);
    else
        fprintf(stderr, "usbip-serial: %s exports no devices\n", options->host);
    usbip_device_list_free(&list);
    return EXIT_SUCCESS;
}

/* Hands bytes on, as fast as the device takes them. Returns 0 or a negative error. */
static int send_bytes(struct usbip_port *port, const char *data, size_t size, uint32_t timeout_ms)
{
    while (size > 0) {
        size_t part = size < SEND_SIZE ? size : SEND_SIZE;
        int result = usbip_port_write(port, data, part, timeout_ms);

        if (result == 0) /* stuck: once more, for an error with words or for room */
            result = usbip_port_drain(port, timeout_ms);
        if (result < 0)
            return result;
        data += result;
        size -= (size_t)result;
    }
    return 0;
}

static int run_send(struct usbip_port *port, const struct tool_options *options)
{
    static char data[READ_SIZE];
    int result = 0;

    if (options->sends_input) {
        size_t size;

        while (result >= 0 && (size = fread(data, 1, sizeof(data), stdin)) > 0)
            result = send_bytes(port, data, size, options->timeout_ms);
    } else {
        result = send_bytes(port, options->data, options->data_size, options->timeout_ms);
    }
    if (result >= 0)
        result = usbip_port_drain(port, options->timeout_ms);
    if (result >= 0 && options->read_answer) {
        result = usbip_port_read_line(port, data, sizeof(data), options->timeout_ms);
        if (result > 0 && data[result - 1] == '\r')
            result--;
        if (result >= 0) {
            fwrite(data, 1, (size_t)result, stdout);
            putchar('\n');
        }
    }
    return result < 0 ? fail(usbip_port_error_text(port)) : EXIT_SUCCESS;
}

/* Prints bytes; a row of hexadecimal ones may go on with the next call. */
static void print_bytes(const struct tool_options *options, const char *data, size_t size,
                        unsigned *column)
{
    if (!options->hex) {
        fwrite(data, 1, size, stdout);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        printf(*column > 0 ? " %02x" : "%02x", (unsigned char)data[i]);
        if (++*column == HEX_ROW_SIZE) {
            putchar('\n');
            *column = 0;
        }
    }
}

static int run_read(struct usbip_port *port, const struct tool_options *options)
{
    static char data[READ_SIZE];
    unsigned long lines = 0, bytes = 0;
    unsigned column = 0;
    int result = 0;

    while ((options->lines == 0 || lines < options->lines) &&
           (options->bytes == 0 || bytes < options->bytes)) {
        size_t size = sizeof(data);

        if (options->bytes > 0 && options->bytes - bytes < size)
            size = options->bytes - bytes;
        result = options->lines > 0 ? usbip_port_read_until(port, data, size, options->timeout_ms)
                                    : usbip_port_read(port, data, size, options->timeout_ms);
        if (result <= 0)
            break;
        print_bytes(options, data, (size_t)result, &column);
        if (options->lines > 0 && column > 0) {
            putchar('\n');
            column = 0;
        }
        fflush(stdout);
        lines++;
        bytes += (unsigned long)result;
    }
    if (column > 0)
        putchar('\n');
    /* Silence is the end of what a device sends, but not when the device has gone. */
    if (result < 0 || (result == 0 && usbip_port_state(port) != USBIP_PORT_OPEN))
        return fail(usbip_port_error_text(port));
    if (usbip_port_restore_count(port) > 0)
        fprintf(stderr, "usbip-serial: %s was lost and is back; bytes may be missing\n",
                options->device);
    if (options->lines == 0 && bytes < options->bytes) {
        fprintf(stderr, "usbip-serial: %s sent %lu of %lu bytes, then nothing for %lu ms\n",
                options->device, bytes, options->bytes, (unsigned long)options->timeout_ms);
        return EXIT_OPERATION;
    }
    return EXIT_SUCCESS;
}

static int run_on_port(const struct tool_options *options, const struct usbip_tap *tap)
{
    struct usbip_port *port = usbip_port_new(options->host, options->device);
    int status;

    if (port == NULL)
        return fail("out of memory");
    usbip_port_set_tap(port, tap);
    if (usbip_port_set_line_coding(port, &options->line_coding, 0) < 0 ||
        usbip_port_set_control_lines(port, options->control_lines, 0) < 0 ||
        usbip_port_set_chip_port(port, options->chip_port) < 0 ||
        usbip_port_open(port, OPEN_TIMEOUT_MS) < 0)
        status = fail(usbip_port_error_text(port));
    else if (options->command == TOOL_SEND)
        status = run_send(port, options);
    else if (options->command == TOOL_READ)
        status = run_read(port, options);
    else
        status =
            tool_run_console(port, options) < 0 ? fail(usbip_port_error_text(port)) : EXIT_SUCCESS;
    usbip_port_close(port);
    usbip_port_free(port);
    return status;
}

static void report_recording(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "usbip-serial: %s\n", line);
}

static int run_recorded(const struct tool_options *options)
{
    const struct usbip_recorder_options recorder_options = {
        .path = options->record,
        .report = report_recording,
    };
    char error_text[USBIP_RECORDER_ERROR_SIZE];
    struct usbip_recorder *recorder = usbip_recorder_new(&recorder_options, error_text);
    int status;

    if (recorder == NULL)
        return fail(error_text);
    status = run_on_port(options, usbip_recorder_tap(recorder));
    return usbip_recorder_free(recorder) < 0 ? EXIT_OPERATION : status;
}

int main(int argc, char **argv)
{
    struct tool_options options = {
        .host = "127.0.0.1:3240",
        .line_coding = {115200, USBIP_STOP_1, USBIP_PARITY_NONE, 8},
        .control_lines = USBIP_LINE_DTR | USBIP_LINE_RTS,
        .chip_port = 1,
    };
    int status;

    tool_parse_command_line(&options, argc, argv);
    if (!options.has_timeout && options.command != TOOL_LIST)
        options.timeout_ms = options.command == TOOL_SEND ? SEND_TIMEOUT_MS : READ_TIMEOUT_MS;
    if (options.command == TOOL_LIST)
        status = run_list(&options);
    else
        status = options.record ? run_recorded(&options) : run_on_port(&options, NULL);
    free(options.data);
    if (fflush(stdout) != 0 || ferror(stdout))
        return fail("cannot write to standard output");
    return status;
}
