#include "emulator/capture/inspect.h"

#include <stdio.h>
#include <stdlib.h>

#include "emulator/capture/command_line.h"
#include "protocol/configuration.h"

static const char help[] =
    "usage: usbip-emulator inspect [OPTION]... FILE\n"
    "\n"
    "Says what is in a capture of USB traffic: devices, descriptors, transfers, and what is "
    "missing\n"
    "to play one of the devices again. docs/captures.md says which files can be read.\n"
    "\n"
    "  --device BUS.DEV|VID:PID  the device to look at (default: the only one, or the busiest\n"
    "                            serial one)\n"
    "  --descriptors FILE        descriptors that the capture lacks: what lsusb -v prints, or the\n"
    "                            file descriptors of a device in sysfs\n"
    "  --json                    print it as JSON\n"
    "  --help\n"
    "\n"
    "Exit status: 0, 2 for wrong usage, 1 for a file that cannot be read.\n";

struct options {
    const char *file, *device, *descriptors;
    bool json;
};

static const char *take_json(void *context, int val, const char *value)
{
    struct options *options = context;
    (void)val;
    (void)value;
    options->json = true;
    return NULL;
}

/* Returns -1 to go on, or the exit status. */
static int parse_options(int argc, char **argv, struct options *options)
{
    static const struct option own[] = {{"json", no_argument, NULL, 1}, {0}};
    struct usbip_capture_command command = {
        .name = "inspect",
        .help = help,
        .own = own,
        .take = take_json,
        .context = options,
    };
    int status = usbip_capture_parse_command(&command, argc, argv);
    if (status >= 0)
        return status;
    if (optind + 1 < argc)
        return usbip_capture_usage_error(&command, "%s: only one FILE at a time", argv[optind + 1]);
    options->file = argv[optind];
    options->device = command.device;
    options->descriptors = command.descriptors;
    return -1;
}

const char *inspect_transfer_type(uint8_t type)
{
    static const char *const names[] = {"control", "isochronous", "bulk", "interrupt"};
    return names[type & USB_ENDPOINT_XFERTYPE_MASK];
}

static unsigned count_missing_strings(const struct usbip_description *description)
{
    const uint8_t indices[] = {description->device.iManufacturer, description->device.iProduct,
                               description->device.iSerialNumber};
    unsigned count = 0;
    for (unsigned i = 0; i < sizeof indices; i++)
        count += indices[i] != 0 && !description->strings[indices[i]];
    return count;
}

static uint64_t count_unknown_lengths(const struct inspection *inspection, uint32_t *first)
{
    const struct usbip_capture *capture = inspection->capture;
    uint64_t count = 0;
    for (uint32_t i = 0; i < capture->transfer_count; i++) {
        const struct usbip_capture_transfer *transfer = &capture->transfers[i];
        if (&capture->devices[transfer->device] != inspection->device ||
            transfer->submit_record == 0 || !usbip_transfer_is_in(transfer) ||
            transfer->flags & USBIP_TRANSFER_REQUESTED_KNOWN)
            continue;
        if (count++ == 0)
            *first = transfer->submit_record;
    }
    return count;
}

/* Transfers that no host can ask for again. */
static uint64_t count_unreachable(const struct inspection *inspection)
{
    const struct usbip_capture_device *device = inspection->device;
    const struct usbip_description *description = inspection->description;
    struct usbip_configuration table;
    uint64_t count = 0;
    if (usbip_parse_configuration(description->configuration, description->configuration_size,
                                  &table) < 0)
        return 0;
    for (unsigned i = 0; i < device->endpoint_count; i++) {
        uint8_t address = device->endpoints[i].address;
        bool described = (address & 0x0f) == 0;
        for (unsigned j = 0; j < table.endpoint_count; j++)
            described |= table.endpoints[j].bEndpointAddress == address;
        if (!described)
            count += device->endpoints[i].transfers;
    }
    return count;
}

/* Which a replay leaves out. */
static uint64_t count_isochronous(const struct usbip_capture_device *device)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < device->endpoint_count; i++) {
        if (device->endpoints[i].type == USB_ENDPOINT_XFER_ISOC)
            count += device->endpoints[i].transfers;
    }
    return count;
}

void inspect_find_gaps(const struct inspection *inspection, struct inspect_gap gaps[INSPECT_GAPS])
{
    const struct usbip_capture_device *device = inspection->device;
    const struct usbip_description *description = inspection->description;
    uint32_t unknown_length_record = 0;
    uint64_t unknown_lengths = count_unknown_lengths(inspection, &unknown_length_record);
    const struct inspect_gap found[INSPECT_GAPS] = {
        {"completions_without_submission", "completions without a submission",
         device->without_submit, device->first_without_submit},
        {"submissions_without_completion", "submissions without a completion",
         device->without_completion, device->first_without_completion},
        {"unknown_requested_lengths", "IN transfers of which only the answer's length is known",
         unknown_lengths, unknown_length_record},
        {"lost_bytes", "bytes of the TCP streams", device->lost_bytes, 0},
        {"device_descriptor", "device descriptor", description->device_origin >= USBIP_ORIGIN_IDS,
         0},
        {"configuration_descriptor", "configuration descriptor",
         description->configuration_origin == USBIP_ORIGIN_SYNTHESISED, 0},
        {"endpoints", "transfers on endpoints that the configuration lacks",
         count_unreachable(inspection), 0},
        {"isochronous", "isochronous transfers, which cannot be replayed",
         count_isochronous(device), 0},
        {"strings", "strings that the device descriptor names", count_missing_strings(description),
         0},
    };
    for (unsigned i = 0; i < INSPECT_GAPS; i++)
        gaps[i] = found[i];
}

static int fail(const char *error_text)
{
    fprintf(stderr, "usbip-emulator inspect: %s\n", error_text);
    return EXIT_FAILURE;
}

static int inspect(const struct usbip_capture *capture, const struct options *options)
{
    char error_text[USBIP_CAPTURE_ERROR_SIZE], reason[USBIP_CAPTURE_REASON_SIZE];
    int device = usbip_capture_select(capture, options->device, reason, error_text);
    if (device < 0)
        return fail(error_text);
    struct usbip_description description;
    if (usbip_describe(capture, (unsigned)device, options->descriptors, &description, error_text) <
        0)
        return fail(error_text);
    const struct inspection inspection = {
        .capture = capture,
        .device = &capture->devices[device],
        .reason = reason,
        .description = &description,
    };
    bool written = true;
    if (options->json)
        written = inspect_print_json(&inspection);
    else
        inspect_print(&inspection);
    written = fflush(stdout) == 0 && !ferror(stdout) && written;
    usbip_description_free(&description);
    return written ? EXIT_SUCCESS : fail("standard output cannot be written");
}

int usbip_inspect_main(int argc, char **argv)
{
    struct options options = {0};
    int status = parse_options(argc, argv, &options);
    if (status >= 0)
        return status;
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    struct usbip_capture *capture = usbip_capture_load(options.file, error_text);
    if (!capture)
        return fail(error_text);
    status = inspect(capture, &options);
    usbip_capture_free(capture);
    return status;
}
