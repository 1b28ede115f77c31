#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/tool.h"

static const char usage[] =
    "usbip-serial [OPTION]... COMMAND\n"
    "\n"
    "  list                  devices that the server exports\n"
    "  send DEVICE DATA...   write DATA, with blanks between several; \"-\" is standard input\n"
    "  read DEVICE           print what the device sends, until nothing comes for the time-out\n"
    "  console DEVICE        connect the terminal; Ctrl-] ends it\n"
    "\n"
    "DEVICE is a busid (1-1), ids (0403:6001), or ids and serial number (0403:6001:A50285BI).\n"
    "DATA may have the escapes \\n \\r \\t \\\\ and \\xHH.\n"
    "\n"
    "  --host HOST[:PORT]    the server (127.0.0.1:3240)\n"
    "  --baud \"RATE FORMAT\"  line coding (\"115200 8N1\")\n"
    "  --timeout-ms N        how long to wait, or \"forever\": list 5000, send 10000, read\n"
    "                        and console 1000 ms of silence\n"
    "  --chip-port N         which serial port of a chip that has several (1)\n"
    "  --no-dtr, --no-rts    leave the control line off\n"
    "  --record FILE         write what passes to FILE, a capture that Wireshark opens\n"
    "  --json                list: as an array of objects\n"
    "  --read                send: then print the line that the device answers\n"
    "  --lines N             read: end after N lines\n"
    "  --bytes N             read: end after N bytes\n"
    "  --hex                 read: print hexadecimal bytes\n"
    "  --help                this text\n"
    "\n"
    "Exit status: 0 done, 1 it failed, 2 the command line is wrong.\n";

/* ---- Options ---- */

__attribute__((format(printf, 1, 2), noreturn)) static void refuse(const char *format, ...)
{
    va_list arguments;

    fputs("usbip-serial: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("; see usbip-serial --help\n", stderr);
    exit(EXIT_USAGE);
}

static unsigned long parse_number(const char *option, const char *text, unsigned long limit)
{
    char *end;
    unsigned long number;

    errno = 0;
    number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || number > limit)
        refuse("%s wants a number up to %lu, not \"%s\"", option, limit, text);
    return number;
}

static void set_baud(struct tool_options *options, const char *option, const char *value)
{
    if (usbip_parse_line_coding(value, &options->line_coding) < 0)
        refuse("%s wants a line coding like \"9600\" or \"115200 8N1\", not \"%s\"", option, value);
}

static void set_timeout(struct tool_options *options, const char *option, const char *value)
{
    options->has_timeout = true;
    if (strcmp(value, "forever") == 0)
        options->timeout_ms = USBIP_FOREVER;
    else
        options->timeout_ms = (uint32_t)parse_number(option, value, USBIP_FOREVER - 1);
}

static void set_host(struct tool_options *options, const char *option, const char *value)
{
    if (usbip_connection_check_host(value) < 0)
        refuse("%s wants name, name:port or [IPv6 address]:port, not \"%s\"", option, value);
    options->host = value;
}

static void set_lines(struct tool_options *options, const char *option, const char *value)
{
    options->lines = parse_number(option, value, INT32_MAX);
}

static void set_bytes(struct tool_options *options, const char *option, const char *value)
{
    options->bytes = parse_number(option, value, INT32_MAX);
}

static void set_record(struct tool_options *options, const char *option, const char *value)
{
    (void)option;
    options->record = value;
}

static void set_chip_port(struct tool_options *options, const char *option, const char *value)
{
    options->chip_port = (unsigned)parse_number(option, value, UINT8_MAX);
    if (options->chip_port == 0)
        refuse("%s wants a number from 1, not \"%s\"", option, value);
}

static void set_no_dtr(struct tool_options *options, const char *option, const char *value)
{
    (void)option;
    (void)value;
    options->control_lines &= ~(unsigned)USBIP_LINE_DTR;
}

static void set_no_rts(struct tool_options *options, const char *option, const char *value)
{
    (void)option;
    (void)value;
    options->control_lines &= ~(unsigned)USBIP_LINE_RTS;
}

static void set_json(struct tool_options *options, const char *option, const char *value)
{
    (void)option;
    (void)value;
    options->json = true;
}

static void set_read(struct tool_options *options, const char *option, const char *value)
{
    (void)option;
    (void)value;
    options->read_answer = true;
}

static void set_hex(struct tool_options *options, const char *option, const char *value)
{
    (void)option;
    (void)value;
    options->hex = true;
}

static const struct option {
    const char *name;
    bool has_value;
    unsigned commands; /* that know it */
    void (*set)(struct tool_options *options, const char *option, const char *value);
} known_options[] = {
    {"--host", true, TOOL_LIST | TOOL_SEND | TOOL_READ | TOOL_CONSOLE, set_host},
    {"--baud", true, TOOL_SEND | TOOL_READ | TOOL_CONSOLE, set_baud},
    {"--timeout-ms", true, TOOL_LIST | TOOL_SEND | TOOL_READ | TOOL_CONSOLE, set_timeout},
    {"--chip-port", true, TOOL_SEND | TOOL_READ | TOOL_CONSOLE, set_chip_port},
    {"--no-dtr", false, TOOL_SEND | TOOL_READ | TOOL_CONSOLE, set_no_dtr},
    {"--no-rts", false, TOOL_SEND | TOOL_READ | TOOL_CONSOLE, set_no_rts},
    {"--record", true, TOOL_SEND | TOOL_READ | TOOL_CONSOLE, set_record},
    {"--json", false, TOOL_LIST, set_json},
    {"--read", false, TOOL_SEND, set_read},
    {"--lines", true, TOOL_READ, set_lines},
    {"--bytes", true, TOOL_READ, set_bytes},
    {"--hex", false, TOOL_READ, set_hex},
};

enum { OPTION_COUNT = sizeof(known_options) / sizeof(known_options[0]) };

/* The option that a word is, with what follows its '='. Exits when there is none. */
static const struct option *find_option(const char *word, const char **value)
{
    size_t length = strcspn(word, "=");

    *value = word[length] == '=' ? word + length + 1 : NULL;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strlen(known_options[i].name) == length &&
            strncmp(known_options[i].name, word, length) == 0)
            return &known_options[i];
    }
    refuse("unknown option %s (write -- before data that begins with -)", word);
}

/* ---- The data of send ---- */

static int hex_value(char c)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *digit = c != '\0' ? strchr(digits, c) : NULL;

    if (digit == NULL)
        return -1;
    return (int)(digit - digits) < 16 ? (int)(digit - digits) : (int)(digit - digits) - 6;
}

/* Replaces the escapes of a word in place. Returns the number of bytes; exits on a wrong escape. */
static size_t unescape(char *text)
{
    char *out = text;
    int high, low;

    for (const char *in = text; *in != '\0'; in++) {
        if (*in != '\\') {
            *out++ = *in;
            continue;
        }
        switch (*++in) {
        case 'n':
            *out++ = '\n';
            break;
        case 'r':
            *out++ = '\r';
            break;
        case 't':
            *out++ = '\t';
            break;
        case '\\':
            *out++ = '\\';
            break;
        case 'x':
            high = hex_value(in[1]);
            low = high < 0 ? -1 : hex_value(in[2]);
            if (low < 0)
                refuse("\\x wants two hexadecimal digits");
            *out++ = (char)(high * 16 + low);
            in += 2;
            break;
        case '\0':
            refuse("a \\ at the end of data means nothing; write \\\\");
        default:
            refuse("unknown escape \\%c; there are \\n \\r \\t \\\\ and \\xHH", *in);
        }
    }
    return (size_t)(out - text);
}

/* Joins the words with blanks. */
static void take_data(struct tool_options *options, char **words, int count)
{
    size_t room = 1;

    if (count == 0)
        refuse("send wants data, or - for standard input");
    if (count == 1 && strcmp(words[0], "-") == 0) {
        options->sends_input = true;
        return;
    }
    for (int i = 0; i < count; i++)
        room += strlen(words[i]) + 1;
    options->data = malloc(room);
    if (options->data == NULL)
        refuse("not enough memory for %zu bytes of data", room);
    for (int i = 0; i < count; i++) {
        size_t size = unescape(words[i]);

        if (i > 0)
            options->data[options->data_size++] = ' ';
        memcpy(options->data + options->data_size, words[i], size);
        options->data_size += size;
    }
}

/* ---- The words ---- */

static enum tool_command parse_command(const char *word)
{
    static const struct {
        const char *name;
        enum tool_command command;
    } commands[] = {
        {"list", TOOL_LIST}, {"send", TOOL_SEND}, {"read", TOOL_READ}, {"console", TOOL_CONSOLE}};

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, word) == 0)
            return commands[i].command;
    }
    refuse("unknown command \"%s\"", word);
}

/* Sets the options and moves the other words to the front. Returns their number. */
static int parse_options(struct tool_options *options, int argc, char **argv,
                         const struct option **used)
{
    int words = 0;

    for (int i = 1; i < argc; i++) {
        const struct option *option;
        const char *value;

        if (strcmp(argv[i], "--") == 0) {
            while (++i < argc)
                argv[words++] = argv[i];
            break;
        }
        if (argv[i][0] != '-' || argv[i][1] == '\0') {
            argv[words++] = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        }
        option = find_option(argv[i], &value);
        if (!option->has_value && value != NULL)
            refuse("%s takes no value", option->name);
        if (option->has_value && value == NULL) {
            if (++i == argc)
                refuse("%s wants a value", option->name);
            value = argv[i];
        }
        option->set(options, option->name, value);
        used[option - known_options] = option;
    }
    return words;
}

void tool_parse_command_line(struct tool_options *options, int argc, char **argv)
{
    const struct option *used[OPTION_COUNT] = {NULL};
    int words = parse_options(options, argc, argv, used);
    struct usbip_device_match match;

    if (words == 0)
        refuse("a command is missing: list, send, read or console");
    options->command = parse_command(argv[0]);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (used[i] && !(used[i]->commands & options->command))
            refuse("%s is no option of %s", used[i]->name, argv[0]);
    }
    if (options->command == TOOL_LIST) {
        if (words > 1)
            refuse("list wants nothing more than options, \"%s\" is one too many", argv[1]);
        return;
    }
    if (words < 2)
        refuse("%s wants a device", argv[0]);
    options->device = argv[1];
    if (usbip_device_match_parse(options->device, &match) < 0)
        refuse("\"%s\" is no device: write a busid (1-1), ids (0403:6001) or ids and serial number "
               "(0403:6001:A50285BI)",
               options->device);
    if (options->command == TOOL_SEND)
        take_data(options, argv + 2, words - 2);
    else if (words > 2)
        refuse("%s wants a device only, \"%s\" is one too many", argv[0], argv[2]);
}
