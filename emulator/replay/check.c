#include "emulator/replay/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/bus.h"
#include "emulator/capture/chip.h"
#include "emulator/capture/command_line.h"
#include "emulator/replay/replay_internal.h"
#include "emulator/session.h"
#include "protocol/ftdi.h"

enum {
    EXIT_DIVERGED = 3,
    UNKNOWN_LENGTH = 4096, /* of IN transfers, where the file does not tell what was asked for */
    LAST_LENGTH = 16384,
    MAX_PENDING = 1024, /* IN transfers under way */
    MAX_IDLE_ROUNDS = 4,
};

#define DIGEST_START UINT64_C(14695981039346656037)
#define DIGEST_PRIME UINT64_C(1099511628211)

struct stream {
    uint64_t size, digest;
};

enum state { NOT_SENT, PENDING, ENDED };

struct checking {
    struct usbip_replay *replay;
    struct usbip_bus bus;
    struct usbip_scheduler scheduler;
    struct usbip_device_session *session;
    const struct usbip_capture *capture;
    uint8_t *states; /* enum state, by transfer */
    uint32_t pending;
    uint32_t seqnum; /* of what is sent beyond the recording */
    uint32_t devid;
    struct stream streams[USBIP_CAPTURE_ENDPOINTS]; /* of the plan's endpoints */
    struct usbip_replay_check *check;
};

struct event {
    uint32_t order, transfer;
    bool submission;
};

static void add_bytes(struct stream *stream, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        stream->digest = (stream->digest ^ data[i]) * DIGEST_PRIME;
    stream->size += size;
}

/* What an IN transfer has for the host's software: of FTDI without the status bytes. */
static void add_transfer(const struct checking *checking, const struct replay_endpoint *endpoint,
                         struct stream *stream, const uint8_t *data, size_t size)
{
    if (!checking->replay->plan.is_ftdi || !endpoint->merges) {
        add_bytes(stream, data, size);
        return;
    }
    for (size_t at = 0; at + FTDI_STATUS_SIZE < size; at += endpoint->packet_size) {
        size_t packet = size - at < endpoint->packet_size ? size - at : endpoint->packet_size;
        add_bytes(stream, data + at + FTDI_STATUS_SIZE, packet - FTDI_STATUS_SIZE);
    }
}

/* ---- Replies ---- */

/* seqnum is 1 + the transfer's index, or that of an endpoint behind all transfers. */
static const struct replay_endpoint *endpoint_of(const struct checking *checking, uint32_t seqnum,
                                                 const struct usbip_capture_transfer **transfer)
{
    struct replay_plan *plan = &checking->replay->plan;
    *transfer = NULL;
    if (seqnum > checking->capture->transfer_count)
        return &plan->endpoints[(seqnum - checking->capture->transfer_count - 1) %
                                USBIP_CAPTURE_ENDPOINTS];
    *transfer = &checking->capture->transfers[seqnum - 1];
    return (*transfer)->type == USB_ENDPOINT_XFER_CONTROL
               ? &plan->endpoints[0]
               : replay_plan_endpoint(plan, (*transfer)->endpoint);
}

static void compare_read(struct checking *checking, const struct usbip_capture_transfer *transfer,
                         int32_t status, const uint8_t *data, size_t size)
{
    if (!transfer || !replay_is_read(transfer->setup) || replay_is_standard(transfer->setup) ||
        transfer->complete_record == 0 || transfer->flags & USBIP_TRANSFER_UNLINKED ||
        (checking->replay->options.skip_errors && replay_is_error(transfer->status)))
        return;
    checking->check->wrong_reads += status != transfer->status || size != transfer->size ||
                                    (size > 0 && memcmp(data, transfer->data, size) != 0);
}

/* Returns the bytes of the reply. */
static size_t take_reply(struct checking *checking, const uint8_t *data)
{
    struct usbip_header header;
    const struct usbip_capture_transfer *transfer;
    usbip_decode_header(data, &header);
    if (header.seqnum == 0 || header.command != USBIP_RET_SUBMIT)
        return USBIP_HEADER_SIZE;
    const struct replay_endpoint *endpoint = endpoint_of(checking, header.seqnum, &transfer);
    bool in = transfer ? usbip_transfer_is_in(transfer) : endpoint->address != 0;
    size_t size = in ? header.ret_submit.actual_length : 0;
    const uint8_t *payload = data + USBIP_HEADER_SIZE;
    if (transfer && checking->states[header.seqnum - 1] == PENDING) {
        checking->states[header.seqnum - 1] = ENDED;
        checking->pending--;
    }
    if (endpoint->address == 0)
        compare_read(checking, transfer, header.ret_submit.status, payload, size);
    else if (in)
        add_transfer(checking, endpoint,
                     &checking->streams[endpoint - checking->replay->plan.endpoints], payload,
                     size);
    return USBIP_HEADER_SIZE + size;
}

static void take_replies(struct checking *checking)
{
    const uint8_t *data;
    size_t size;
    while ((size = usbip_device_session_take_output(checking->session, &data)) > 0) {
        for (size_t at = 0; at < size;)
            at += take_reply(checking, data + at);
    }
}

/* ---- Commands ---- */

static void send_command(struct checking *checking, struct usbip_header *header,
                         const uint8_t *data, size_t size)
{
    uint8_t bytes[USBIP_HEADER_SIZE];
    header->devid = checking->devid;
    usbip_encode_header(bytes, header);
    usbip_device_session_receive(checking->session, bytes, sizeof bytes);
    if (size > 0)
        usbip_device_session_receive(checking->session, data, size);
    take_replies(checking);
}

static void send_submit(struct checking *checking, uint32_t seqnum, uint8_t address,
                        const uint8_t *setup, const uint8_t *data, uint32_t length)
{
    bool in = address & USB_DIR_IN;
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = seqnum,
        .direction = in ? USBIP_DIR_IN : USBIP_DIR_OUT,
        .ep = address & 0x0f,
        .cmd_submit.transfer_buffer_length = length,
        .cmd_submit.interval = 1,
    };
    if (setup)
        memcpy(header.cmd_submit.setup, setup, USBIP_SETUP_SIZE);
    send_command(checking, &header, data, in ? 0 : length);
}

static void send_unlink(struct checking *checking, uint32_t index)
{
    struct usbip_header header = {
        .command = USBIP_CMD_UNLINK,
        .seqnum = 0x80000000u | (index + 1),
        .cmd_unlink.unlink_seqnum = index + 1,
    };
    send_command(checking, &header, NULL, 0);
    if (checking->states[index] == PENDING) {
        checking->states[index] = ENDED;
        checking->pending--;
    }
}

static bool sends(const struct checking *checking, const struct usbip_capture_transfer *transfer)
{
    struct replay_plan *plan = &checking->replay->plan;
    if (transfer->device != checking->replay->index || transfer->type == USB_ENDPOINT_XFER_ISOC ||
        transfer->flags & (USBIP_TRANSFER_REFUSED | USBIP_TRANSFER_INJECTED))
        return false;
    if (transfer->type != USB_ENDPOINT_XFER_CONTROL)
        return replay_plan_endpoint(plan, transfer->endpoint) != NULL;
    /* How a request that is the device's to answer ended, the file may not tell. */
    if (transfer->complete_record == 0 && replay_is_read(transfer->setup))
        return false;
    /* The address is the server's. */
    return transfer->flags & USBIP_TRANSFER_HAS_SETUP &&
           !(transfer->setup[0] == 0 && transfer->setup[1] == USB_REQ_SET_ADDRESS);
}

static void send_request(struct checking *checking, uint32_t index)
{
    const struct usbip_capture_transfer *transfer = &checking->capture->transfers[index];
    uint32_t length = transfer->setup[6] | (uint32_t)transfer->setup[7] << 8;
    bool read = replay_is_read(transfer->setup);
    if (read || transfer->size == length) {
        send_submit(checking, index + 1, read ? USB_DIR_IN : 0, transfer->setup, transfer->data,
                    length);
    } else {
        checking->states[index] = ENDED; /* its data are not in the file */
        checking->pending--;
    }
}

static void send_transfer(struct checking *checking, uint32_t index)
{
    const struct usbip_capture_transfer *transfer = &checking->capture->transfers[index];
    uint32_t length = transfer->size;
    checking->states[index] = PENDING;
    checking->pending++;
    checking->check->transfers++;
    if (transfer->type == USB_ENDPOINT_XFER_CONTROL) {
        send_request(checking, index);
        return;
    }
    if (!usbip_transfer_is_in(transfer))
        checking->check->bytes_out += length;
    else if (transfer->flags & USBIP_TRANSFER_REQUESTED_KNOWN && transfer->requested_length > 0)
        length = transfer->requested_length;
    else
        length = (length + UNKNOWN_LENGTH) / UNKNOWN_LENGTH * UNKNOWN_LENGTH;
    send_submit(checking, index + 1, transfer->endpoint, NULL, transfer->data, length);
}

/* Whatever is due next happens. */
static void let_time_pass(struct checking *checking)
{
    uint64_t due_us = usbip_scheduler_due_us(&checking->scheduler);
    if (due_us == USBIP_NEVER)
        return;
    usbip_scheduler_advance(&checking->scheduler, due_us);
    take_replies(checking);
}

/* In the recording the transfer ended here: at the latest now, it has to in the replay. */
static void end_transfer(struct checking *checking, uint32_t index)
{
    const struct usbip_capture_transfer *transfer = &checking->capture->transfers[index];
    if (transfer->submit_record == 0 && usbip_transfer_is_in(transfer) && transfer->size > 0 &&
        transfer->type != USB_ENDPOINT_XFER_CONTROL)
        send_transfer(checking, index);
    if (checking->states[index] == PENDING && !(transfer->flags & USBIP_TRANSFER_UNLINKED))
        let_time_pass(checking);
    if (checking->states[index] == PENDING &&
        (transfer->flags & USBIP_TRANSFER_UNLINKED || transfer->size == 0 ||
         checking->pending > MAX_PENDING))
        send_unlink(checking, index);
}

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

static int play(struct checking *checking)
{
    uint32_t count = 0, total = checking->capture->transfer_count;
    struct event *events = calloc(2 * (size_t)total + 1, sizeof *events);
    if (!events)
        return -1;
    for (uint32_t i = 0; i < total; i++) {
        const struct usbip_capture_transfer *transfer = &checking->capture->transfers[i];
        if (!sends(checking, transfer))
            continue;
        if (transfer->submit_record != 0)
            events[count++] = (struct event){transfer->submit_order, i, true};
        if (transfer->complete_record != 0)
            events[count++] = (struct event){transfer->complete_order, i, false};
    }
    qsort(events, count, sizeof *events, compare_events);
    for (uint32_t i = 0; i < count && !usbip_device_session_is_over(checking->session); i++) {
        if (events[i].submission)
            send_transfer(checking, events[i].transfer);
        else
            end_transfer(checking, events[i].transfer);
    }
    free(events);
    return 0;
}

static uint64_t total_in(const struct checking *checking)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < USBIP_CAPTURE_ENDPOINTS; i++)
        total += checking->streams[i].size;
    return total;
}

/* What the device has left to say. */
static void read_rest(struct checking *checking)
{
    const struct replay_plan *plan = &checking->replay->plan;
    if (checking->replay->options.end == USBIP_REPLAY_LOOP)
        return; /* it has always something left */
    for (unsigned idle = 0; idle < MAX_IDLE_ROUNDS;) {
        uint64_t before = total_in(checking);
        for (unsigned i = 1; i < plan->endpoint_count; i++) {
            checking->seqnum = checking->capture->transfer_count + 1 + i;
            if (plan->endpoints[i].address & USB_DIR_IN)
                send_submit(checking, checking->seqnum, plan->endpoints[i].address, NULL, NULL,
                            LAST_LENGTH);
        }
        let_time_pass(checking);
        idle = total_in(checking) == before ? idle + 1 : 0;
    }
}

static void import(struct checking *checking, uint8_t configuration)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    const uint8_t setup[USBIP_SETUP_SIZE] = {0, USB_REQ_SET_CONFIGURATION, configuration};
    struct usbip_device_record record = {0};
    const uint8_t *data;
    usbip_bus_describe(checking->bus.devices[0], &record);
    checking->devid = usbip_devid(&record);
    usbip_encode_import_request(request, record.busid);
    usbip_device_session_receive(checking->session, request, sizeof request);
    usbip_device_session_take_output(checking->session, &data);
    send_submit(checking, checking->capture->transfer_count + 1, 0, setup, NULL, 0);
}

static void compare_streams(struct checking *checking)
{
    const struct replay_plan *plan = &checking->replay->plan;
    for (unsigned i = 1; i < plan->endpoint_count; i++) {
        const struct replay_endpoint *endpoint = &plan->endpoints[i];
        struct stream expected = {0, DIGEST_START};
        for (uint32_t j = 0; endpoint->answers && j < endpoint->count; j++)
            add_transfer(checking, endpoint, &expected, endpoint->answers[j].data,
                         endpoint->answers[j].size);
        checking->check->bytes_in += expected.size;
        checking->check->wrong_endpoints += expected.size != checking->streams[i].size ||
                                            expected.digest != checking->streams[i].digest;
    }
}

static void wake(void *context)
{
    (void)context;
}

static int check_device(struct checking *checking, struct usbip_device *device)
{
    static const struct usbip_device_session_events events = {wake};
    struct usbip_replay *replay = checking->replay;
    const struct usbip_capture_device *d = &replay->capture->devices[replay->index];
    snprintf(checking->check->device, sizeof checking->check->device, "%u.%u %04x:%04x %s", d->bus,
             d->address, replay->description.device.idVendor, replay->description.device.idProduct,
             replay->description.chip ? replay->description.chip->name : "");
    checking->capture = replay->capture;
    checking->states = calloc(replay->capture->transfer_count + 1u, 1);
    for (unsigned i = 0; i < USBIP_CAPTURE_ENDPOINTS; i++)
        checking->streams[i].digest = DIGEST_START;
    if (usbip_bus_add(&checking->bus, device) < 0) {
        usbip_device_free(device);
        return -1;
    }
    checking->session = usbip_device_session_new(&checking->bus, "check", &events, NULL);
    int status = checking->session && checking->states ? 0 : -1;
    if (status == 0) {
        import(checking, replay->description.configuration[5]); /* bConfigurationValue */
        status = play(checking);
        read_rest(checking);
        compare_streams(checking);
    }
    usbip_device_session_free(checking->session);
    checking->check->divergences = usbip_replay_divergences(replay);
    free(checking->states);
    return status;
}

int usbip_replay_check(const struct usbip_replay_options *options, const struct usbip_log *log,
                       struct usbip_replay_check *check, char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    struct checking checking = {.check = check, .bus.log = *log};
    struct usbip_device *device;
    *check = (struct usbip_replay_check){0};
    usbip_faults_init(&checking.bus.faults, &checking.scheduler, 0);
    checking.replay =
        usbip_replay_new(options, &checking.scheduler, &checking.bus.log, &device, error_text);
    int status = checking.replay ? check_device(&checking, device) : -1;
    if (checking.replay && status < 0)
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, "%s: out of memory", options->path);
    usbip_bus_free(&checking.bus);
    usbip_replay_free(checking.replay);
    usbip_scheduler_free(&checking.scheduler);
    return status;
}

/* ---- The tool ---- */

static const char help[] =
    "usage: usbip-emulator replay-check [OPTION]... FILE...\n"
    "\n"
    "Replays captures of USB traffic to a client that does what the host in them did, and says\n"
    "whether both get along.\n"
    "\n"
    "  --device BUS.DEV|VID:PID  the device to replay (default: the only one, or the busiest\n"
    "                            serial one)\n"
    "  --descriptors FILE        descriptors that the capture lacks\n"
    "  --replay MODE             gated (default), strict, timed or free\n"
    "  --errors WHAT             recorded errors of the device: replay (default) or skip\n"
    "  --help\n"
    "\n"
    "Exit status: 0, 3 for a divergence, 2 for wrong usage, 1 for a file that cannot be "
    "replayed.\n";

enum { OPTION_REPLAY = 1, OPTION_ERRORS };

static const char *take_option(void *context, int val, const char *value)
{
    struct usbip_replay_options *options = context;
    if (val == OPTION_ERRORS)
        return usbip_replay_parse_errors(value, &options->skip_errors)
                   ? NULL
                   : "--errors %s: not replay or skip";
    return usbip_replay_parse_mode(value, &options->mode) && options->mode != USBIP_REPLAY_STEP
               ? NULL
               : "--replay %s: not gated, strict, timed or free";
}

/* Returns -1 to go on, or the exit status. */
static int parse_options(int argc, char **argv, struct usbip_replay_options *options)
{
    static const struct option own[] = {
        {"replay", required_argument, NULL, OPTION_REPLAY},
        {"errors", required_argument, NULL, OPTION_ERRORS},
        {0},
    };
    struct usbip_capture_command command = {
        .name = "replay-check",
        .help = help,
        .own = own,
        .take = take_option,
        .context = options,
    };
    int status = usbip_capture_parse_command(&command, argc, argv);
    options->device = command.device;
    options->descriptors = command.descriptors;
    return status;
}

static void write_log(void *context, enum usbip_log_level level, const char *line)
{
    (void)context;
    (void)level;
    fprintf(stderr, "%s\n", line);
}

int usbip_replay_check_main(int argc, char **argv)
{
    const struct usbip_log log = {.write = write_log, .level = USBIP_LOG_ERROR};
    struct usbip_replay_options options = {0};
    int status = parse_options(argc, argv, &options);
    if (status >= 0)
        return status;
    status = EXIT_SUCCESS;
    for (int i = optind; i < argc; i++) {
        struct usbip_replay_check check;
        char error_text[USBIP_CAPTURE_ERROR_SIZE];
        options.path = argv[i];
        if (usbip_replay_check(&options, &log, &check, error_text) < 0) {
            fprintf(stderr, "usbip-emulator replay-check: %s\n", error_text);
            status = EXIT_FAILURE;
            continue;
        }
        printf("%s: device %s: %" PRIu64 " transfers, %" PRIu64 " bytes in, %" PRIu64
               " bytes out, %" PRIu64 " divergences, %" PRIu64
               " endpoints with other data, %" PRIu64 " other answers\n",
               argv[i], check.device, check.transfers, check.bytes_in, check.bytes_out,
               check.divergences, check.wrong_endpoints, check.wrong_reads);
        if (status == EXIT_SUCCESS &&
            check.divergences + check.wrong_endpoints + check.wrong_reads > 0)
            status = EXIT_DIVERGED;
    }
    return status;
}
