/* What the sources of the tool usbip-serial share. */
#ifndef CLIENT_TOOL_H
#define CLIENT_TOOL_H

#include "client/port.h"

enum { EXIT_OPERATION = 1, EXIT_USAGE = 2 };

enum tool_command { TOOL_LIST = 1, TOOL_SEND = 2, TOOL_READ = 4, TOOL_CONSOLE = 8 };

struct tool_options {
    enum tool_command command;
    const char *host;
    const char *device;
    bool sends_input; /* send: standard input, and not data */
    char *data;       /* of send, escapes replaced; main() frees it */
    size_t data_size;
    struct usbip_line_coding line_coding;
    unsigned control_lines;
    unsigned chip_port;
    bool has_timeout;
    uint32_t timeout_ms;
    bool json, read_answer, hex;
    unsigned long lines, bytes; /* 0: no limit */
    const char *record;         /* the file; NULL: nothing is recorded */
};

/* Reads the command line. Ends the program when it is wrong, or asks for help. */
void tool_parse_command_line(struct tool_options *options, int argc, char **argv);

/* Print devices for programs and for people. */
void tool_print_json(const struct usbip_device_list *list);
void tool_print_table(const struct usbip_device_list *list);

/* Connects standard input and output to an open port. Returns 0 or a negative error of the port. */
int tool_run_console(struct usbip_port *port, const struct tool_options *options);

#endif
