/*
 * A client that sends whatever it likes to a device session, on a bus with a CDC-ACM device, an
 * FTDI device and a raw one. All that the session sends is read back and must be well-formed: each
 * reply belongs to a request that has arrived, and no request is answered twice. Faults may be
 * active; then the session only has to survive.
 *
 * The first byte of the input tells how to read the rest:
 *   bits 0-1  what has happened before: nothing, or the import of 1-1, 1-2 or 1-3 and
 *             SET_CONFIGURATION(1)
 *   bit 2     there are faults, made of the FAULTS_SIZE bytes behind the head
 *   bit 3     the FTDI device has two ports
 *   bit 4     input is received in place, output that lies in it is taken at once every other time,
 *             and output is taken in pieces
 *   bit 5     serial lines are paced
 *   bit 6     the behaviours do something, as told by the bytes 1 to 8, whenever they are called;
 *             else they echo
 *   bit 7     the rest are steps of STEP_SIZE bytes: a request each, time that passes, something
 *             that the device does. Else the rest is the client's byte stream, in pieces whose size
 *             is byte 9, with as many milliseconds in between as byte 10 says.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/session.h"
#include "protocol/bytes.h"
#include "protocol/ftdi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() would vanish where NDEBUG is defined. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum {
    DEVICE_COUNT = 3,
    WILD_SIZE = 8,
    HEAD_SIZE = 1 + WILD_SIZE + 2,
    FAULT_SIZE = 4,
    FAULTS_SIZE = 4 * FAULT_SIZE,
    STEP_SIZE = 4,
    MAX_STEPS = 400,
    MAX_REQUESTS = 4096,
    MAX_OUT_LENGTH = 1 << 20,
    FIRST_STEP_SEQNUM = 1000,
    CONFIGURE_SEQNUM = 7,
};

/* A request that the session has got, or will when the stream is fed up to `end`. */
struct request {
    bool is_unlink;
    bool in;
    bool over; /* answered or unlinked */
    uint32_t seqnum;
    uint32_t length;        /* of a submit */
    uint32_t unlink_seqnum; /* of an unlink */
    uint64_t end;
};

struct run {
    struct usbip_scheduler scheduler;
    struct usbip_bus bus;
    struct usbip_device *devices[DEVICE_COUNT];
    struct usbip_device_session *session;
    uint8_t wild[WILD_SIZE];
    unsigned wild_at;
    unsigned depth; /* of calls of the behaviours */

    bool imported;
    uint32_t devid;
    uint64_t fed;
    bool in_place;
    unsigned reads;             /* in place */
    struct usbip_buffer output; /* that was taken, and nobody has looked at yet */
    struct request requests[MAX_REQUESTS];
    unsigned request_count;
    bool has_faults;
    bool lost; /* more requests than are kept, or two different ones under one seqnum */
};

static uint8_t payload[MAX_OUT_LENGTH];
static struct run run;

/* ---- Faults ---- */

/* Byte 0 is the kind, the others are values of its parameters in turn. */
static void add_fault(const uint8_t *bytes)
{
    enum usbip_fault_kind kind = (enum usbip_fault_kind)(bytes[0] % USBIP_FAULT_KINDS);
    const struct usbip_fault_type *type = usbip_fault_type(kind);
    const struct usbip_fault_parameter *parameter;
    struct usbip_fault_options options;
    char error_text[USBIP_FAULT_ERROR_SIZE];
    CHECK(usbip_fault_options_init(&options, type->name, error_text));
    for (unsigned i = 0; (parameter = usbip_fault_parameter(type, i)) != NULL; i++) {
        uint8_t byte = bytes[1 + i % (FAULT_SIZE - 1)];
        bool is_common = parameter->place < USBIP_FAULT_OWN;
        if (parameter->kind == USBIP_PARAMETER_BUSID || (is_common && byte < 0x80))
            continue;
        int64_t value = is_common ? byte & 0x0f : (int8_t)byte;
        int64_t max = parameter->kind == USBIP_PARAMETER_WORD ? 1 : parameter->max;
        options.values[parameter->place] = value < parameter->min ? parameter->min
                                           : value > max          ? max
                                                                  : value;
    }
    run.lost = true;
    usbip_fault_add(&run.bus.faults, &options, NULL, NULL, error_text);
}

/* ---- The devices ---- */

static const uint8_t raw_configuration[] = {
    9,  2, 64,   0, 2,  1,    0, 0xe0, 50, /* configuration */
    9,  4, 0,    0, 3,  0xff, 0, 0,    0,  /* interface 0.0 */
    7,  5, 0x81, 2, 64, 0,    0, 7,    5,  0x02, 2,
    64, 0, 0,    7, 5,  0x83, 3, 8,    0,  1, /* its endpoints */
    9,  4, 1,    0, 0,  0xff, 0, 0,    0,     /* interface 1.0 */
    9,  4, 1,    1, 1,  0xff, 0, 0,    0,     /* interface 1.1 */
    7,  5, 0x84, 1, 64, 0,    1,              /* isochronous */
};

static void do_something(struct usbip_device *device, unsigned what)
{
    unsigned value = what >> 4, ports = usbip_device_port_count(device);
    unsigned port = ports > 1 ? 1 + value % ports : 1;
    switch (what & 0x0f) {
    case 1:
        usbip_device_write(device, port, payload, value * value * 5);
        break;
    case 2:
        usbip_device_set_modem_state(device, port, value * 17);
        break;
    case 3:
        usbip_device_halt(device, 0x81);
        break;
    case 4:
        usbip_device_halt(device, (uint8_t)(value & 3));
        break;
    case 5:
        if (value > 12)
            usbip_device_unplug(device);
        break;
    case 6:
        usbip_device_send(device, value & 1 ? 0x81 : 0x83, payload, value * 9);
        break;
    case 7: {
        struct usbip_urb *urb = usbip_device_next_urb(device, 0);
        /* Only the raw device's behaviour keeps control requests. */
        if (urb && usbip_device_function(device)->type == &usbip_function_raw && run.depth == 0)
            usbip_urb_complete_with(urb, payload, value * 40);
        break;
    }
    case 8:
        usbip_device_plug(device);
        break;
    case 9:
        usbip_device_write(device, port, payload, USBIP_FIFO_SIZE / 16 * value);
        break;
    case 10:
        if (run.has_faults)
            add_fault(run.wild + (run.wild_at + value) % (WILD_SIZE - FAULT_SIZE + 1));
        break;
    case 11:
        usbip_fault_remove(&run.bus.faults, value + 1);
        break;
    default:
        break;
    }
}

struct wild {
    struct usbip_device *device;
};

static void act(void *context)
{
    struct wild *wild = context;
    /* A call from within a call is as far as it goes, or they would never end. */
    if (!wild->device || run.depth > 1)
        return;
    run.depth++;
    do_something(wild->device, run.wild[run.wild_at++ % WILD_SIZE]);
    run.depth--;
}

static void start(void *context, struct usbip_device *device)
{
    struct wild *wild = context;
    wild->device = device;
}

/* Now and then it does not go well. */
static bool act_and_tell(void *context)
{
    act(context);
    return run.wild[run.wild_at % WILD_SIZE] < 0xc0;
}

static bool opened(void *context, unsigned port)
{
    (void)port;
    return act_and_tell(context);
}

static void act_on_port(void *context, unsigned port)
{
    (void)port;
    act(context);
}

static bool line_coding(void *context, unsigned port, const struct usbip_line_coding *coding)
{
    (void)port;
    (void)coding;
    return act_and_tell(context);
}

static bool lines(void *context, unsigned port, unsigned value)
{
    (void)port;
    (void)value;
    return act_and_tell(context);
}

static bool take_data(void *context, unsigned port, const uint8_t *bytes, size_t size)
{
    struct wild *wild = context;
    usbip_device_write(wild->device, port, bytes, size);
    return act_and_tell(context);
}

static bool control(void *context, struct usbip_urb *urb)
{
    struct wild *wild = context;
    act(context);
    if (usbip_device_function(wild->device)->type != &usbip_function_raw)
        return false;
    if (urb->setup.bRequest & 1)
        return true; /* kept: see do_something() */
    usbip_urb_complete_with(urb, payload, urb->setup.wValue);
    return true;
}

static bool out(void *context, uint8_t endpoint, const uint8_t *bytes, size_t size)
{
    struct wild *wild = context;
    (void)endpoint;
    usbip_device_send(wild->device, 0x81, bytes, size);
    return act_and_tell(context);
}

static void in(void *context, uint8_t endpoint, size_t size)
{
    (void)endpoint;
    (void)size;
    act(context);
}

static const struct usbip_behaviour_ops wild_ops = {
    .start = start,
    .attach = act,
    .detach = act,
    .open = opened,
    .close = act_on_port,
    .line_coding = line_coding,
    .control_lines = lines,
    .send_break = lines,
    .data = take_data,
    .drained = act_on_port,
    .control = control,
    .out = out,
    .in = in,
};

static struct wild wilds[DEVICE_COUNT];
static struct usbip_echo echoes[DEVICE_COUNT];

static void add_devices(bool is_wild, bool is_paced, bool has_ports)
{
    static const struct usbip_function_type *const types[DEVICE_COUNT] = {
        &usbip_function_cdc_acm, &usbip_function_ftdi, &usbip_function_raw};
    struct usbip_device_options options = {
        .descriptor = {.bcdUSB = 0x0200,
                       .bMaxPacketSize0 = 64,
                       .idVendor = 0x1209,
                       .idProduct = 1,
                       .iProduct = 1,
                       .bNumConfigurations = 1},
        .speed = USBIP_SPEED_HIGH,
        .strings = {NULL, "Thing"},
        .function.paced = is_paced,
        .function.ftdi_chip = has_ports ? usbip_ftdi_find_chip(FTDI_BCD_FT2232H) : NULL,
    };
    for (unsigned i = 0; i < DEVICE_COUNT; i++) {
        char error_text[256];
        wilds[i].device = NULL;
        const struct usbip_behaviour behaviour = {is_wild ? &wild_ops : &usbip_echo_ops,
                                                  is_wild ? (void *)&wilds[i] : &echoes[i]};
        if (types[i] == &usbip_function_raw) {
            options.configuration = raw_configuration;
            options.configuration_size = sizeof raw_configuration;
        }
        run.devices[i] = usbip_device_new(&options, types[i], &behaviour, &run.scheduler,
                                          &run.bus.log, error_text);
        CHECK(run.devices[i] != NULL);
        CHECK(usbip_bus_add(&run.bus, run.devices[i]) == 0);
    }
}

/* ---- What the session has got ---- */

static void expect(struct request request)
{
    for (unsigned i = 0; i < run.request_count; i++) {
        const struct request *other = &run.requests[i];
        if (!other->is_unlink && !request.is_unlink && other->seqnum == request.seqnum &&
            (other->in != request.in || other->length != request.length))
            run.lost = true;
    }
    if (run.request_count == MAX_REQUESTS)
        run.lost = true;
    else
        run.requests[run.request_count++] = request;
}

/* Reads a client's stream of PDUs as the document has them, up to what ends the connection. */
static void expect_stream(const uint8_t *bytes, size_t size, uint64_t offset)
{
    size_t at = 0;
    while (size - at >= USBIP_HEADER_SIZE) {
        struct usbip_header header;
        if (usbip_decode_header(bytes + at, &header) < 0 || header.devid != run.devid)
            return;
        at += USBIP_HEADER_SIZE;
        struct request request = {.seqnum = header.seqnum};
        if (header.command == USBIP_CMD_UNLINK) {
            request.is_unlink = true;
            request.unlink_seqnum = header.cmd_unlink.unlink_seqnum;
        } else if (header.command == USBIP_CMD_SUBMIT && header.direction <= 1) {
            request.in = header.direction == USBIP_DIR_IN;
            request.length = header.cmd_submit.transfer_buffer_length;
            /* The isochronous endpoint, which may exist or not: descriptors or none behind it. */
            if (header.ep == 4 && header.cmd_submit.number_of_packets != 0)
                run.lost = true;
            if (!request.in) {
                if (request.length > USBIP_SESSION_MAX_TRANSFER || request.length > size - at)
                    return;
                at += request.length;
            }
        } else {
            return;
        }
        request.end = offset + at;
        expect(request);
    }
}

/* The first open request with this seqnum that has arrived. */
static struct request *find_open(bool is_unlink, uint32_t seqnum)
{
    for (unsigned i = 0; i < run.request_count; i++) {
        struct request *request = &run.requests[i];
        if (!request->over && request->is_unlink == is_unlink && request->seqnum == seqnum &&
            request->end <= run.fed)
            return request;
    }
    return NULL;
}

/* ---- What the session has sent ---- */

static bool is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

/* Each returns the size of the PDU at the start of the output, 0 when there is no whole one. */
static size_t check_op_reply(const uint8_t *bytes, size_t size)
{
    struct usbip_op_common common;
    if (size < USBIP_OP_COMMON_SIZE)
        return 0;
    usbip_decode_op_common(bytes, &common);
    CHECK(common.version == USBIP_VERSION);
    if (common.code == OP_REP_DEVLIST) {
        CHECK(common.status == 0 && size >= 12 && usbip_load_be32(bytes + 8) == DEVICE_COUNT);
        size_t at = 12;
        for (unsigned i = 0; i < DEVICE_COUNT; i++) {
            CHECK(size - at >= 312 && size - at - 312 >= 4u * bytes[at + 311]);
            at += 312 + 4u * bytes[at + 311];
        }
        CHECK(at == size && usbip_device_session_is_over(run.session));
        return at;
    }
    CHECK(common.code == OP_REP_IMPORT);
    if (common.status != 0) {
        CHECK(size == USBIP_OP_COMMON_SIZE && usbip_device_session_is_over(run.session));
        return size;
    }
    CHECK(size >= USBIP_IMPORT_REPLY_SIZE);
    run.imported = true;
    return USBIP_IMPORT_REPLY_SIZE;
}

static size_t check_return(const uint8_t *bytes, size_t size)
{
    struct usbip_header header;
    if (size < USBIP_HEADER_SIZE)
        return 0;
    CHECK(usbip_decode_header(bytes, &header) == 0);
    CHECK(is_zero(bytes + 8, 12));
    bool is_unlink = header.command == USBIP_RET_UNLINK;
    CHECK(is_unlink || header.command == USBIP_RET_SUBMIT);
    struct request *request = find_open(is_unlink, header.seqnum);
    CHECK(request != NULL);
    request->over = true;
    if (is_unlink) {
        struct request *unlinked = find_open(false, request->unlink_seqnum);
        CHECK(is_zero(bytes + 24, 24));
        if (header.ret_unlink.status == 0) {
            /* None was open when the unlink came, or only ones that came later. */
            CHECK(!unlinked || unlinked->end > request->end);
        } else {
            CHECK(header.ret_unlink.status == -USBIP_ECONNRESET);
            CHECK(unlinked != NULL && unlinked->end < request->end);
            unlinked->over = true;
        }
        return USBIP_HEADER_SIZE;
    }
    uint32_t length = header.ret_submit.actual_length;
    CHECK(header.ret_submit.status <= 0);
    CHECK(strcmp(usbip_status_name(header.ret_submit.status), "unknown") != 0);
    CHECK(length <= request->length);
    CHECK(header.ret_submit.start_frame == 0 && header.ret_submit.error_count == 0);
    CHECK(is_zero(bytes + 40, 8));
    if (!request->in)
        return USBIP_HEADER_SIZE;
    CHECK(size - USBIP_HEADER_SIZE >= length);
    return USBIP_HEADER_SIZE + length;
}

static void take_pieces(void)
{
    const struct usbip_output_piece *pieces;
    size_t count, size = usbip_device_session_take_pieces(run.session, &pieces, &count);
    CHECK(count <= USBIP_OUTPUT_MAX_PIECES);
    for (size_t i = 0; i < count; i++) {
        CHECK(pieces[i].size > 0 && pieces[i].size <= size);
        CHECK(usbip_buffer_append(&run.output, pieces[i].data, pieces[i].size) == 0);
        size -= pieces[i].size;
    }
    CHECK(size == 0);
}

static void take_output(void)
{
    const uint8_t *bytes;
    size_t size = usbip_device_session_take_output(run.session, &bytes);
    CHECK(usbip_buffer_append(&run.output, bytes, size) == 0);
}

static void read_output(void)
{
    if (run.in_place)
        take_pieces();
    else
        take_output();
    const uint8_t *bytes = run.output.data;
    size_t size = run.output.size, at = 0;
    while (at < size && !run.lost) {
        size_t pdu = run.imported ? check_return(bytes + at, size - at)
                                  : check_op_reply(bytes + at, size - at);
        CHECK(pdu > 0); /* PDUs are appended whole */
        at += pdu;
    }
    run.output.size = 0;
}

/* Into memory that is gone afterwards: a sanitizer sees whatever still lies in it. */
static int receive_in_place(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    CHECK(copy != NULL);
    if (size > 0)
        memcpy(copy, bytes, size);
    int result = usbip_device_session_receive_in_place(run.session, copy, size);
    if (usbip_device_session_borrows(run.session) && run.reads++ % 2)
        take_pieces();
    usbip_device_session_settle(run.session);
    CHECK(!usbip_device_session_borrows(run.session));
    free(copy);
    return result;
}

static void feed(const uint8_t *bytes, size_t size)
{
    run.fed += size;
    bool over = usbip_device_session_is_over(run.session);
    int result = run.in_place ? receive_in_place(bytes, size)
                              : usbip_device_session_receive(run.session, bytes, size);
    CHECK((result < 0) == usbip_device_session_is_over(run.session));
    CHECK(!over || result < 0);
}

static void advance_ms(uint64_t ms)
{
    usbip_scheduler_advance(&run.scheduler, run.scheduler.now_us + ms * 1000);
}

/* ---- The two kinds of client ---- */

static void send_header(const struct usbip_header *header, uint32_t out_size)
{
    static uint8_t pdu[USBIP_HEADER_SIZE + MAX_OUT_LENGTH];
    usbip_encode_header(pdu, header);
    memcpy(pdu + USBIP_HEADER_SIZE, payload, out_size);
    expect_stream(pdu, USBIP_HEADER_SIZE + out_size, run.fed);
    feed(pdu, USBIP_HEADER_SIZE + out_size);
}

static void control_step(struct usbip_header *header, const uint8_t *step)
{
    static const uint8_t setups[][8] = {
        {0x80, 6, 0, 1, 0, 0, 18, 0},         {0x80, 6, 0, 2, 0, 0, 255, 0},
        {0x80, 6, 1, 3, 9, 4, 255, 0},        {0x80, 6, 0, 7, 0, 0, 255, 255},
        {0x80, 0, 0, 0, 0, 0, 2, 0},          {0x80, 8, 0, 0, 0, 0, 1, 0},
        {0x00, 9, 1, 0, 0, 0, 0, 0},          {0x00, 9, 0, 0, 0, 0, 0, 0},
        {0x01, 11, 1, 0, 1, 0, 0, 0},         {0x01, 11, 0, 0, 0, 0, 0, 0},
        {0x02, 1, 0, 0, 0x81, 0, 0, 0},       {0x02, 1, 0, 0, 2, 0, 0, 0},
        {0x02, 3, 0, 0, 0x81, 0, 0, 0},       {0x02, 3, 0, 0, 2, 0, 0, 0},
        {0x23, 3, 4, 0, 0, 0, 0, 0},          {0x02, 1, 0, 0, 1, 0, 0, 0},
        {0x21, 0x20, 0, 0, 0, 0, 7, 0},       {0xa1, 0x21, 0, 0, 0, 0, 7, 0},
        {0x21, 0x22, 3, 0, 0, 0, 0, 0},       {0x21, 0x22, 0, 0, 0, 0, 0, 0},
        {0x21, 0x23, 0xff, 0xff, 0, 0, 0, 0}, {0x40, 0, 0, 0, 0, 0, 0, 0},
        {0x40, 0, 2, 0, 0, 0, 0, 0},          {0x40, 1, 3, 3, 0, 0, 0, 0},
        {0x40, 3, 0x38, 0x41, 0, 0, 0, 0},    {0x40, 4, 8, 0x40, 0, 0, 0, 0},
        {0xc0, 5, 0, 0, 0, 0, 2, 0},          {0x40, 6, 0, 1, 0, 0, 0, 0},
        {0x40, 9, 1, 0, 0, 0, 0, 0},          {0xc0, 10, 0, 0, 0, 0, 1, 0},
        {0xc0, 0x90, 0, 0, 10, 0, 2, 0},      {0x40, 0x91, 1, 2, 200, 0, 0, 0},
    };
    memcpy(header->cmd_submit.setup, setups[step[2] % 32], 8);
    if (step[3] & 0x80) /* as it comes */
        header->cmd_submit.setup[step[3] & 7] = step[1];
    uint8_t *setup = header->cmd_submit.setup;
    header->direction = setup[0] & 0x80 ? USBIP_DIR_IN : USBIP_DIR_OUT;
    header->cmd_submit.transfer_buffer_length = usbip_load_le16(setup + 6);
}

static void take_step(const uint8_t *step, uint32_t index)
{
    static const uint32_t lengths[] = {0,  1,  2,  7,   8,   10,   62,    63,
                                       64, 65, 66, 128, 512, 4096, 70000, 1 << 20};
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = FIRST_STEP_SEQNUM + index,
        .devid = run.devid,
        .cmd_submit.transfer_flags = step[3] & 1 ? USBIP_URB_SHORT_NOT_OK : 0,
    };
    switch (step[0] % 8) {
    case 0:
        control_step(&header, step);
        break;
    case 1:
    case 2:
    case 3:
        header.direction = step[1] & 0x80 ? USBIP_DIR_IN : USBIP_DIR_OUT;
        header.ep = 1u + (step[1] & 0x3f) % 4;
        header.cmd_submit.transfer_buffer_length = lengths[step[2] % 16];
        break;
    case 4:
        header.command = USBIP_CMD_UNLINK;
        memset(&header.cmd_submit, 0, sizeof header.cmd_submit);
        header.cmd_unlink.unlink_seqnum = FIRST_STEP_SEQNUM + index - 1 - step[1] % 16;
        break;
    case 5:
        advance_ms(step[1] % 40);
        return;
    case 6:
        read_output();
        return;
    default:
        do_something(run.devices[step[2] % DEVICE_COUNT], step[1]);
        return;
    }
    bool has_payload = header.command == USBIP_CMD_SUBMIT && header.direction == USBIP_DIR_OUT;
    send_header(&header, has_payload ? header.cmd_submit.transfer_buffer_length : 0);
}

static void attach(unsigned device)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    char busid[8];
    snprintf(busid, sizeof busid, "1-%u", device);
    CHECK(usbip_encode_import_request(request, busid) == 0);
    run.devid = 0x00010000 + device;
    feed(request, sizeof request);
    read_output();
    CHECK(run.imported || run.lost);
    const struct usbip_header configure = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = CONFIGURE_SEQNUM,
        .devid = run.devid,
        .cmd_submit.setup = {0, USB_REQ_SET_CONFIGURATION, 1, 0, 0, 0, 0, 0},
    };
    send_header(&configure, 0);
}

static void play_stream(const uint8_t *bytes, size_t size, size_t piece, unsigned pause_ms)
{
    if (!run.imported && size >= USBIP_IMPORT_REQUEST_SIZE) {
        /* Should it be an import, it is that of the device that the busid names. */
        run.devid = 0x00010000u + (uint32_t)(bytes[10] - '0');
        expect_stream(bytes + USBIP_IMPORT_REQUEST_SIZE, size - USBIP_IMPORT_REQUEST_SIZE,
                      USBIP_IMPORT_REQUEST_SIZE);
    } else if (run.imported) {
        expect_stream(bytes, size, run.fed);
    }
    if (piece == 0)
        piece = size;
    for (size_t at = 0; at < size; at += piece) {
        feed(bytes + at, piece < size - at ? piece : size - at);
        advance_ms(pause_ms);
        if (at / piece % 3 == 0)
            read_output();
    }
}

static void check_log(void *context, enum usbip_log_level level, const char *line)
{
    (void)context;
    (void)level;
    CHECK(strlen(line) < USBIP_LOG_LINE_SIZE);
    for (; *line; line++)
        CHECK((unsigned char)*line >= ' ');
}

static void wake(void *context)
{
    (void)context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct usbip_device_session_events events = {wake};
    if (size < HEAD_SIZE)
        return 0;
    for (size_t i = sizeof payload; i > 0 && payload[0] == 0; i--)
        payload[i - 1] = (uint8_t)(i * 13);

    run.scheduler = (struct usbip_scheduler){0};
    run.bus = (struct usbip_bus){.log = {check_log, NULL, USBIP_LOG_VERBOSE}};
    usbip_faults_init(&run.bus.faults, &run.scheduler, 1);
    run.wild_at = run.depth = run.request_count = 0;
    run.imported = run.lost = false;
    run.fed = run.devid = 0;
    run.in_place = data[0] & 0x10;
    run.reads = 0;
    memcpy(run.wild, data + 1, WILD_SIZE);
    bool is_wild = data[0] & 0x40;
    unsigned device = data[0] & 3;
    add_devices(is_wild, data[0] & 0x20, data[0] & 0x08);
    run.session = usbip_device_session_new(&run.bus, "fuzzer", &events, NULL);
    CHECK(run.session != NULL);
    const uint8_t *rest = data + HEAD_SIZE;
    size -= HEAD_SIZE;
    run.has_faults = (data[0] & 0x04) && size >= FAULTS_SIZE;
    if (run.has_faults) {
        for (unsigned i = 0; i < FAULTS_SIZE; i += FAULT_SIZE)
            add_fault(rest + i);
        rest += FAULTS_SIZE;
        size -= FAULTS_SIZE;
    }
    if (device > 0)
        attach(device);

    if ((data[0] & 0x80) && device > 0) {
        for (uint32_t i = 0; i < MAX_STEPS && size >= STEP_SIZE; i++) {
            take_step(rest, i);
            rest += STEP_SIZE;
            size -= STEP_SIZE;
        }
    } else if (size > 0) {
        play_stream(rest, size, data[1 + WILD_SIZE], data[2 + WILD_SIZE]);
    }
    for (unsigned i = 0; i < 3; i++) {
        read_output();
        advance_ms(300);
    }
    usbip_device_session_end_of_input(run.session);
    read_output();
    CHECK(run.lost || !usbip_device_session_holds_output(run.session));
    usbip_device_session_free(run.session);
    for (unsigned i = 0; i < DEVICE_COUNT; i++)
        CHECK(!usbip_device_is_claimed(run.devices[i]));
    usbip_bus_free(&run.bus);
    usbip_scheduler_free(&run.scheduler);
    usbip_buffer_free(&run.output);
    return 0;
}
