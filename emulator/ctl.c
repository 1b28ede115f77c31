#include "emulator/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "emulator/log.h"
#include "emulator/options.h"
#include "protocol/buffer.h"

enum {
    TIMEOUT_S = 10,       /* for an answer */
    MAX_REPLY = 16 << 20, /* bytes */
    MAX_ARGUMENTS = 2,
};

static const char help[] =
    "usage: usbip-emulator ctl [--json] FILE.sock REQUEST [ARGUMENT]...\n"
    "\n"
    "Sends a request to an emulator that was started with --control FILE.sock.\n"
    "\n"
    "  list                  its devices\n"
    "  plug DEVICE           plug in a device, such as 1-1\n"
    "  unplug DEVICE [MS]    unplug it; it comes back after MS\n"
    "  fault-add FAULT       such as delay:ms=20; usbip-emulator --help-faults shows them\n"
    "  fault-remove NUMBER   of a fault, as fault-add and fault-list print it\n"
    "  fault-list            the faults, and how often each has fired\n"
    "  counters [DEVICE]     what has happened\n"
    "  step DEVICE [COUNT]   let a device that is replayed step by step say so much more\n"
    "  quit                  end the emulator\n"
    "\n"
    "  --json                print the reply as it came\n"
    "\n"
    "Exit status: 0, 1 when the request failed, 2 for wrong usage.\n";

static int usage_error(const char *format, const char *value)
{
    fputs("usbip-emulator ctl: ", stderr);
    fprintf(stderr, format, value);
    fputs("; usbip-emulator ctl --help shows the requests\n", stderr);
    return USBIP_EXIT_USAGE;
}

static int fail(const char *path, const char *what, const char *why)
{
    fprintf(stderr, "usbip-emulator ctl: %s: %s%s%s\n", path, what, *why ? ": " : "", why);
    return EXIT_FAILURE;
}

/* ---- Printing ---- */

/* Text from the other side must not talk to the terminal. */
static const char *text_of(const json_t *object, const char *key, char text[512])
{
    const char *value = json_string_value(json_object_get(object, key));
    snprintf(text, 512, "%s", value ? value : "");
    usbip_blank_control_characters(text);
    return text;
}

static json_int_t number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_devices(const json_t *reply)
{
    size_t i;
    const json_t *device;
    json_array_foreach(json_object_get(reply, "devices"), i, device)
    {
        char busid[512], vendor[512], id[512], product[512], type[512];
        bool plugged = json_is_true(json_object_get(device, "plugged"));
        bool attached = json_is_true(json_object_get(device, "attached"));
        printf("%s  %s:%s  \"%s\"  %s  %s\n", text_of(device, "device", busid),
               text_of(device, "idVendor", vendor), text_of(device, "idProduct", id),
               text_of(device, "product", product), text_of(device, "type", type),
               !plugged   ? "unplugged"
               : attached ? "attached"
                          : "free");
    }
}

static void print_faults(const json_t *reply)
{
    size_t i;
    const json_t *fault;
    json_array_foreach(json_object_get(reply, "faults"), i, fault)
    {
        char text[512], device[512];
        text_of(fault, "text", text);
        text_of(fault, "device", device);
        /* That of a script is for its own device without saying so. */
        if (strstr(text, "device="))
            *device = '\0';
        printf("fault %" JSON_INTEGER_FORMAT "  %s  %s%sfired %" JSON_INTEGER_FORMAT "%s\n",
               number_of(fault, "fault"), text, device, *device ? "  " : "",
               number_of(fault, "fired"),
               json_is_true(json_object_get(fault, "spent")) ? ", spent" : "");
    }
}

static void print_counters(const json_t *reply)
{
    static const char *const names[] = {"urbs",   "bytes_in", "bytes_out",
                                        "stalls", "unlinks",  "script_errors"};
    size_t i;
    const json_t *device;
    json_array_foreach(json_object_get(reply, "devices"), i, device)
    {
        char busid[512];
        printf("%s", text_of(device, "device", busid));
        for (size_t j = 0; j < sizeof names / sizeof names[0]; j++)
            printf("  %s %" JSON_INTEGER_FORMAT, names[j], number_of(device, names[j]));
        printf("\n");
    }
    print_faults(reply);
}

static void print_fault_number(const json_t *reply)
{
    printf("%" JSON_INTEGER_FORMAT "\n", number_of(reply, "fault"));
}

/* ---- Requests ---- */

static const struct request {
    const char *name;
    const char *fields[MAX_ARGUMENTS]; /* of the arguments; those that are numbers begin with '#' */
    int required;
    void (*print)(const json_t *reply); /* NULL: nothing */
} requests[] = {
    {"list", {NULL}, 0, print_devices},
    {"plug", {"device"}, 1, NULL},
    {"unplug", {"device", "#back"}, 1, NULL},
    {"fault-add", {"fault"}, 1, print_fault_number},
    {"fault-remove", {"#fault"}, 1, NULL},
    {"fault-list", {NULL}, 0, print_faults},
    {"counters", {"device"}, 0, print_counters},
    {"step", {"device", "#count"}, 1, NULL},
    {"quit", {NULL}, 0, NULL},
};

/* Returns the request in JSON with its newline, or NULL after a word about what is wrong. */
static char *make_request(const struct request *request, int count, char **arguments)
{
    json_t *object = json_pack("{s:s}", "do", request->name);
    for (int i = 0; i < count; i++) {
        const char *field = i < MAX_ARGUMENTS ? request->fields[i] : NULL;
        char *end;
        if (!field) {
            usage_error("%s is an argument too many", arguments[i]);
        } else if (*field == '#') {
            errno = 0;
            json_int_t number = strtoll(arguments[i], &end, 10);
            if (errno == 0 && *arguments[i] && !*end) {
                json_object_set_new(object, field + 1, json_integer(number));
                continue;
            }
            usage_error("%s is not a number", arguments[i]);
        } else if (json_object_set_new(object, field, json_string(arguments[i])) == 0) {
            continue;
        } else {
            usage_error("%s is not UTF-8", arguments[i]);
        }
        json_decref(object);
        return NULL;
    }
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Sends one line and reads one. Returns false and errno, 0 for a connection that was closed. */
static bool exchange(int fd, const char *line, struct usbip_buffer *reply)
{
    const char newline = '\n';
    size_t size = strlen(line);
    errno = 0;
    /* An emulator that closes at once has said why. */
    if ((send(fd, line, size, MSG_NOSIGNAL) != (ssize_t)size ||
         send(fd, &newline, 1, MSG_NOSIGNAL) != 1) &&
        errno != EPIPE)
        return false;
    while (reply->size == 0 || reply->data[reply->size - 1] != '\n') {
        uint8_t *room = usbip_buffer_reserve(reply, 65536);
        if (!room || reply->size > MAX_REPLY) {
            errno = ENOMEM;
            return false;
        }
        ssize_t got = recv(fd, room, 65536, 0);
        if (got <= 0) {
            if (got == 0)
                errno = 0;
            return false;
        }
        reply->size += (size_t)got;
    }
    return true;
}

static int show_reply(const char *path, const struct request *request,
                      const struct usbip_buffer *line, bool as_json)
{
    json_t *reply = json_loadb((const char *)line->data, line->size, 0, NULL);
    const json_t *ok = json_object_get(reply, "ok");
    bool well = json_is_true(ok);
    int status = well ? EXIT_SUCCESS : EXIT_FAILURE;
    char text[512];
    if (!json_is_boolean(ok))
        status = fail(path, "this is not the control socket of an emulator", "");
    else if (as_json)
        fwrite(line->data, 1, line->size, stdout);
    else if (!well)
        fprintf(stderr, "usbip-emulator ctl: %s\n", text_of(reply, "error", text));
    else if (request->print)
        request->print(reply);
    json_decref(reply);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_SUCCESS)
        status = fail("standard output", "cannot be written", strerror(errno));
    return status;
}

static int run(const char *path, const struct request *request, const char *line, bool as_json)
{
    struct usbip_buffer reply = {0};
    int fd = connect_to(path), status;
    if (fd < 0)
        return fail(path, "no emulator can be reached there", strerror(errno));
    if (exchange(fd, line, &reply))
        status = show_reply(path, request, &reply, as_json);
    else if (errno == EAGAIN || errno == EWOULDBLOCK)
        status = fail(path, "the emulator does not answer", "");
    else
        status = fail(path, "the connection was lost", errno ? strerror(errno) : "");
    usbip_buffer_free(&reply);
    close(fd);
    return status;
}

int usbip_ctl(int argc, char **argv)
{
    static const struct option names[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    bool as_json = false;
    int option;
    opterr = 0;
    /* '+': a fault may begin with anything. */
    while ((option = getopt_long(argc, argv, "+", names, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return EXIT_SUCCESS;
        }
        if (option != 'j')
            return usage_error("%s is not an option", argv[optind - 1]);
        as_json = true;
    }
    argc -= optind;
    argv += optind;
    if (argc < 2)
        return usage_error("%s", "FILE.sock and REQUEST are needed");
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        if (strcmp(requests[i].name, argv[1]) != 0)
            continue;
        if (argc - 2 < requests[i].required)
            return usage_error("%s needs an argument", argv[1]);
        char *line = make_request(&requests[i], argc - 2, argv + 2);
        if (!line)
            return USBIP_EXIT_USAGE;
        int status = run(argv[0], &requests[i], line, as_json);
        free(line);
        return status;
    }
    return usage_error("there is no request \"%s\"", argv[1]);
}
