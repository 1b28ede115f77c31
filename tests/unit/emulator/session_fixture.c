#include "tests/unit/emulator/session_fixture.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>

#include "protocol/bytes.h"

enum { CONFIGURE_SEQNUM = 0xc0, CONTROL_SEQNUM = 0xc1, DEVID = 0x00010001 };

static void fail(const char *what)
{
    fprintf(stderr, "%s: correct the test\n", what);
    abort();
}

struct bytes {
    uint8_t *data;
    size_t size;
};

/* The caller frees data. */
static struct bytes from_hex(const char *hex)
{
    struct bytes bytes = {malloc(strlen(hex) / 2 + 1), 0};
    if (!bytes.data)
        fail("out of memory");
    for (; *hex; hex++) {
        if (*hex == ' ' || *hex == '|')
            continue;
        if (!isxdigit((unsigned char)hex[0]) || !isxdigit((unsigned char)hex[1]))
            fail(hex);
        const char digits[] = {hex[0], hex[1], 0};
        bytes.data[bytes.size++] = (uint8_t)strtoul(digits, NULL, 16);
        hex++;
    }
    return bytes;
}

/* ---- The behaviour ---- */

__attribute__((format(printf, 2, 3))) static void note(struct recorder *recorder,
                                                       const char *format, ...)
{
    size_t used = strlen(recorder->calls);
    if (used > 0)
        recorder->calls[used++] = ' ';
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(recorder->calls + used, CALLS_SIZE - used, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= CALLS_SIZE - used)
        fail("too many calls were written down");
    if (recorder->then) {
        char word[256];
        snprintf(word, sizeof word, "%s", recorder->calls + used);
        recorder->then(recorder, word);
    }
}

static const char *show(const uint8_t *data, size_t size, char text[2 * SHOWN_DATA_SIZE + 24])
{
    if (size > SHOWN_DATA_SIZE) {
        sprintf(text, ":%zu", size);
        return text;
    }
    char *at = text + sprintf(text, "=");
    for (size_t i = 0; i < size; i++)
        at += sprintf(at, "%02x", data[i]);
    return text;
}

/* The first port, which most chips have only, goes without saying. */
__attribute__((format(printf, 3, 4))) static void note_port(struct recorder *recorder,
                                                            unsigned port, const char *format, ...)
{
    char word[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(word, sizeof word, format, arguments);
    va_end(arguments);
    if (port == 1)
        note(recorder, "%s", word);
    else
        note(recorder, "%u.%s", port, word);
}

static void start(void *context, struct usbip_device *device)
{
    struct recorder *recorder = context;
    recorder->device = device;
}

static void attach(void *context)
{
    note(context, "attach");
}

static void detach(void *context)
{
    note(context, "detach");
}

static bool is_well(void *context)
{
    return !((struct recorder *)context)->fails;
}

static bool opened(void *context, unsigned port)
{
    note_port(context, port, "open");
    return is_well(context);
}

static void closed(void *context, unsigned port)
{
    note_port(context, port, "close");
}

static bool line_coding(void *context, unsigned port, const struct usbip_line_coding *coding)
{
    char text[USBIP_LINE_CODING_TEXT_SIZE];
    usbip_format_line_coding(coding, text);
    *strchr(text, ' ') = '/';
    note_port(context, port, "coding=%s", text);
    return is_well(context);
}

static bool control_lines(void *context, unsigned port, unsigned lines)
{
    note_port(context, port, "lines=%u", lines);
    return is_well(context);
}

static bool send_break(void *context, unsigned port, unsigned duration_ms)
{
    note_port(context, port, "break=%u", duration_ms);
    return is_well(context);
}

uint64_t data_sum(uint64_t offset, const uint8_t *data, size_t size)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += (offset + i + 1) * data[i];
    return sum;
}

static bool data(void *context, unsigned port, const uint8_t *data, size_t size)
{
    struct recorder *recorder = context;
    char text[2 * SHOWN_DATA_SIZE + 24];
    recorder->received_sum += data_sum(recorder->received, data, size);
    recorder->received += size;
    if (recorder->echoes && usbip_device_write(recorder->device, port, data, size) != size)
        fail("an echo was refused");
    note_port(recorder, port, "data%s", show(data, size, text));
    return is_well(context);
}

static void drained(void *context, unsigned port)
{
    note_port(context, port, "drained");
}

static bool control(void *context, struct usbip_urb *urb)
{
    struct recorder *recorder = context;
    uint8_t setup[USBIP_SETUP_SIZE];
    char text[2 * SHOWN_DATA_SIZE + 24];
    usbip_encode_setup(setup, &urb->setup);
    if (!recorder->takes_control && !recorder->hears_control)
        return false;
    recorder->urb = urb;
    note(recorder, "control%s", show(setup, sizeof setup, text));
    recorder->urb = NULL;
    return recorder->takes_control;
}

static bool out(void *context, uint8_t endpoint, const uint8_t *data, size_t size)
{
    char text[2 * SHOWN_DATA_SIZE + 24];
    note(context, "out%02x%s", endpoint, show(data, size, text));
    return is_well(context);
}

static void in(void *context, uint8_t endpoint, size_t size)
{
    (void)size;
    note(context, "in%02x", endpoint);
}

static const struct usbip_behaviour_ops recorder_ops = {
    .start = start,
    .attach = attach,
    .detach = detach,
    .open = opened,
    .close = closed,
    .line_coding = line_coding,
    .control_lines = control_lines,
    .send_break = send_break,
    .data = data,
    .drained = drained,
    .control = control,
    .out = out,
    .in = in,
};

bool called(struct recorder *recorder, const char *calls)
{
    bool same = strcmp(recorder->calls, calls) == 0;
    if (!same)
        fprintf(stderr, "calls: \"%s\"\ninstead of \"%s\"\n", recorder->calls, calls);
    recorder->calls[0] = '\0';
    return same;
}

/* ---- The bus ---- */

static void keep_log(void *context, enum usbip_log_level level, const char *line)
{
    struct fixture *fixture = context;
    size_t used = strlen(fixture->log), size = strlen(line) + 1;
    (void)level;
    if (used + size >= sizeof fixture->log)
        used = 0;
    snprintf(fixture->log + used, sizeof fixture->log - used, "%s\n", line);
}

void fixture_init(struct fixture *fixture)
{
    memset(fixture, 0, sizeof *fixture);
    fixture->bus.log = (struct usbip_log){keep_log, fixture, USBIP_LOG_VERBOSE};
    usbip_faults_init(&fixture->bus.faults, &fixture->scheduler, 1);
}

void fixture_free(struct fixture *fixture)
{
    usbip_bus_free(&fixture->bus);
    usbip_scheduler_free(&fixture->scheduler);
}

void fixture_pass_us(struct fixture *fixture, uint64_t us)
{
    usbip_scheduler_advance(&fixture->scheduler, fixture->scheduler.now_us + us);
}

struct usbip_device_options usual_options(void)
{
    return (struct usbip_device_options){
        .descriptor = {.bcdUSB = 0x0200,
                       .bMaxPacketSize0 = 64,
                       .idVendor = 0x1209,
                       .idProduct = 0x0001,
                       .bcdDevice = 0x0100,
                       .iManufacturer = 1,
                       .iProduct = 2,
                       .iSerialNumber = 3,
                       .bNumConfigurations = 1},
        .speed = USBIP_SPEED_FULL,
        .strings = {NULL, "Maker", "Thing", "S1"},
    };
}

struct usbip_device *new_device(struct fixture *fixture, struct recorder *recorder,
                                const struct usbip_function_type *type,
                                const struct usbip_device_options *options, char error_text[256])
{
    const struct usbip_behaviour behaviour = {&recorder_ops, recorder};
    return usbip_device_new(options, type, &behaviour, &fixture->scheduler, &fixture->bus.log,
                            error_text);
}

struct recorder *add_device(struct fixture *fixture, const struct usbip_function_type *type,
                            const struct usbip_device_options *options)
{
    char error_text[256];
    if (fixture->bus.count == DEVICES_MAX)
        fail("too many devices");
    struct recorder *recorder = &fixture->recorders[fixture->bus.count];
    struct usbip_device *device = new_device(fixture, recorder, type, options, error_text);
    if (!device)
        fail(error_text);
    if (usbip_bus_add(&fixture->bus, device) < 0)
        fail("usbip_bus_add");
    return recorder;
}

/* ---- Clients ---- */

static void woken(void *context)
{
    struct client *client = context;
    client->wakes++;
}

void client_open(struct fixture *fixture, struct client *client)
{
    static const struct usbip_device_session_events events = {woken};
    memset(client, 0, sizeof *client);
    client->session = usbip_device_session_new(&fixture->bus, "client", &events, client);
    if (!client->session)
        fail("usbip_device_session_new");
}

void client_close(struct client *client)
{
    usbip_device_session_free(client->session);
    free(client->output);
    memset(client, 0, sizeof *client);
}

int client_send_bytes(struct client *client, const void *data, size_t size)
{
    /* Of exactly this size, so that a sanitizer sees a step over its end. */
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        fail("out of memory");
    if (size > 0)
        memcpy(copy, data, size);
    int result = usbip_device_session_receive(client->session, copy, size);
    free(copy);
    return result;
}

int client_send(struct client *client, const char *hex)
{
    struct bytes bytes = from_hex(hex);
    int result = client_send_bytes(client, bytes.data, bytes.size);
    free(bytes.data);
    return result;
}

int submit(struct client *client, const struct usbip_header *header, const void *data, size_t size)
{
    uint8_t *pdu = malloc(USBIP_HEADER_SIZE + size);
    if (!pdu)
        fail("out of memory");
    usbip_encode_header(pdu, header);
    if (size > 0)
        memcpy(pdu + USBIP_HEADER_SIZE, data, size);
    int result = client_send_bytes(client, pdu, USBIP_HEADER_SIZE + size);
    free(pdu);
    return result;
}

static struct usbip_header submit_header(uint32_t seqnum, uint8_t address, uint32_t length,
                                         enum usbip_direction direction, const char *setup)
{
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = seqnum,
        .devid = DEVID,
        .direction = direction,
        .ep = address & 0x0f,
        .cmd_submit.transfer_buffer_length = length,
    };
    if (setup) {
        struct bytes bytes = from_hex(setup);
        if (bytes.size != USBIP_SETUP_SIZE)
            fail(setup);
        memcpy(header.cmd_submit.setup, bytes.data, USBIP_SETUP_SIZE);
        free(bytes.data);
    }
    return header;
}

int submit_in(struct client *client, uint32_t seqnum, uint8_t address, uint32_t length,
              const char *setup)
{
    struct usbip_header header = submit_header(seqnum, address, length, USBIP_DIR_IN, setup);
    return submit(client, &header, NULL, 0);
}

int submit_out_bytes(struct client *client, uint32_t seqnum, uint8_t address, const uint8_t *data,
                     size_t size)
{
    struct usbip_header header =
        submit_header(seqnum, address, (uint32_t)size, USBIP_DIR_OUT, NULL);
    return submit(client, &header, data, size);
}

int submit_out(struct client *client, uint32_t seqnum, uint8_t address, const char *data,
               const char *setup)
{
    struct bytes bytes = from_hex(data);
    struct usbip_header header =
        submit_header(seqnum, address, (uint32_t)bytes.size, USBIP_DIR_OUT, setup);
    int result = submit(client, &header, bytes.data, bytes.size);
    free(bytes.data);
    return result;
}

int submit_unlink(struct client *client, uint32_t seqnum, uint32_t unlink_seqnum)
{
    const struct usbip_header header = {
        .command = USBIP_CMD_UNLINK,
        .seqnum = seqnum,
        .devid = DEVID,
        .cmd_unlink.unlink_seqnum = unlink_seqnum,
    };
    return submit(client, &header, NULL, 0);
}

void client_import(struct client *client)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    usbip_encode_import_request(request, "1-1");
    const uint8_t *reply;
    if (client_send_bytes(client, request, sizeof request) < 0 ||
        usbip_device_session_take_output(client->session, &reply) != USBIP_IMPORT_REPLY_SIZE)
        fail("import of 1-1");
}

void client_configure(struct client *client)
{
    submit_out(client, CONFIGURE_SEQNUM, 0, "", "00 09 0100 0000 0000");
    if (!got_out(client, CONFIGURE_SEQNUM, 0, 0))
        fail("SET_CONFIGURATION(1)");
}

/* ---- What the session has sent ---- */

static void collect(struct client *client)
{
    const uint8_t *data;
    size_t size;
    while ((size = usbip_device_session_take_output(client->session, &data)) > 0) {
        client->output = realloc(client->output, client->output_size + size);
        if (!client->output)
            fail("out of memory");
        memcpy(client->output + client->output_size, data, size);
        client->output_size += size;
    }
}

static void print_bytes(const char *what, const uint8_t *data, size_t size)
{
    const size_t shown = size < 160 ? size : 160;
    fprintf(stderr, "%s %zu bytes:", what, size);
    for (size_t i = 0; i < shown; i++)
        fprintf(stderr, "%s%02x", i % 4 ? "" : " ", data[i]);
    fprintf(stderr, "%s\n", shown < size ? " ..." : "");
}

bool got_bytes(struct client *client, const void *expected, size_t size)
{
    collect(client);
    if (client->output_size < size || (size > 0 && memcmp(client->output, expected, size) != 0)) {
        print_bytes("sent    ", client->output, client->output_size);
        print_bytes("expected", expected, size);
        return false;
    }
    client->output_size -= size;
    if (client->output_size > 0)
        memmove(client->output, client->output + size, client->output_size);
    return true;
}

bool got(struct client *client, const char *hex)
{
    struct bytes bytes = from_hex(hex);
    bool same = got_bytes(client, bytes.data, bytes.size);
    free(bytes.data);
    return same;
}

/* A RET_SUBMIT as the document has it: three zeros, status, length, and nothing but zeros. */
static bool got_return(struct client *client, uint32_t seqnum, int32_t status, uint32_t length,
                       const void *payload, size_t payload_size)
{
    uint8_t *pdu = calloc(1, USBIP_HEADER_SIZE + payload_size);
    if (!pdu)
        fail("out of memory");
    usbip_store_be32(pdu, 3);
    usbip_store_be32(pdu + 4, seqnum);
    usbip_store_be32(pdu + 20, (uint32_t)status);
    usbip_store_be32(pdu + 24, length);
    if (payload_size > 0)
        memcpy(pdu + USBIP_HEADER_SIZE, payload, payload_size);
    bool same = got_bytes(client, pdu, USBIP_HEADER_SIZE + payload_size);
    free(pdu);
    return same;
}

bool got_in_bytes(struct client *client, uint32_t seqnum, int32_t status, const void *data,
                  size_t size)
{
    return got_return(client, seqnum, status, (uint32_t)size, data, size);
}

bool got_in(struct client *client, uint32_t seqnum, int32_t status, const char *data)
{
    struct bytes bytes = from_hex(data);
    bool same = got_in_bytes(client, seqnum, status, bytes.data, bytes.size);
    free(bytes.data);
    return same;
}

bool got_out(struct client *client, uint32_t seqnum, int32_t status, uint32_t actual_length)
{
    return got_return(client, seqnum, status, actual_length, NULL, 0);
}

bool got_unlinked(struct client *client, uint32_t seqnum, int32_t status)
{
    uint8_t pdu[USBIP_HEADER_SIZE] = {0};
    usbip_store_be32(pdu, 4);
    usbip_store_be32(pdu + 4, seqnum);
    usbip_store_be32(pdu + 20, (uint32_t)status);
    return got_bytes(client, pdu, sizeof pdu);
}

bool got_nothing(struct client *client)
{
    collect(client);
    if (client->output_size > 0)
        print_bytes("not expected", client->output, client->output_size);
    return client->output_size == 0;
}

bool client_is_over(const struct client *client)
{
    return usbip_device_session_is_over(client->session);
}

bool control_in(struct client *client, const char *setup, int32_t status, const char *data)
{
    struct bytes bytes = from_hex(setup);
    uint32_t length = usbip_load_le16(bytes.data + 6);
    free(bytes.data);
    submit_in(client, CONTROL_SEQNUM, 0, length, setup);
    return got_in(client, CONTROL_SEQNUM, status, data) && got_nothing(client);
}

bool control_out(struct client *client, const char *setup, const char *data, int32_t status)
{
    struct bytes bytes = from_hex(data);
    uint32_t length = (uint32_t)bytes.size;
    free(bytes.data);
    submit_out(client, CONTROL_SEQNUM, 0, data, setup);
    return got_out(client, CONTROL_SEQNUM, status, status ? 0 : length) && got_nothing(client);
}
