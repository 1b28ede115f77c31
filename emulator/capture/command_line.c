#include "emulator/capture/command_line.h"

#include <stdio.h>
#include <stdlib.h>

#include "emulator/capture/capture.h"

enum { DEVICE = 256, DESCRIPTORS, HELP, MAX_OPTIONS = 16 };

int usbip_capture_usage_error(const struct usbip_capture_command *command, const char *format,
                              const char *value)
{
    fprintf(stderr, "usbip-emulator %s: ", command->name);
    fprintf(stderr, format, value);
    fprintf(stderr, "; usbip-emulator %s --help shows the options\n", command->name);
    return USBIP_CAPTURE_EXIT_USAGE;
}

static void list_options(const struct usbip_capture_command *command,
                         struct option options[MAX_OPTIONS])
{
    static const struct option shared[] = {
        {"device", required_argument, NULL, DEVICE},
        {"descriptors", required_argument, NULL, DESCRIPTORS},
        {"help", no_argument, NULL, HELP},
    };
    enum { SHARED = sizeof shared / sizeof shared[0] };
    unsigned count = 0;
    for (; count < SHARED; count++)
        options[count] = shared[count];
    for (const struct option *own = command->own; own->name && count < MAX_OPTIONS - 1; own++)
        options[count++] = *own;
    options[count] = (struct option){0};
}

int usbip_capture_parse_command(struct usbip_capture_command *command, int argc, char **argv)
{
    struct option options[MAX_OPTIONS];
    const char *wrong;
    int option;
    list_options(command, options);
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        switch (option) {
        case DEVICE:
            if (!usbip_capture_is_wish(optarg))
                return usbip_capture_usage_error(command, "--device " USBIP_CAPTURE_NO_WISH,
                                                 optarg);
            command->device = optarg;
            break;
        case DESCRIPTORS:
            command->descriptors = optarg;
            break;
        case HELP:
            fputs(command->help, stdout);
            return EXIT_SUCCESS;
        case ':':
            return usbip_capture_usage_error(command, "%s needs a value", argv[optind - 1]);
        case '?':
            return usbip_capture_usage_error(command, "%s is not an option, or takes no value",
                                             argv[optind - 1]);
        default:
            wrong = command->take(command->context, option, optarg);
            if (wrong)
                return usbip_capture_usage_error(command, wrong, optarg);
        }
    }
    return optind == argc ? usbip_capture_usage_error(command, "%s", "no FILE given") : -1;
}
