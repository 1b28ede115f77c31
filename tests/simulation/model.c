#include "tests/simulation/model.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "protocol/cdc.h"
#include "protocol/ftdi.h"

enum {
    CDC_OUT = 0x01,
    CDC_IN = 0x81,
    FTDI_OUT = 0x02,
    FTDI_IN = 0x81,
    FTDI_PACKET_SIZE = 64,
    UNKNOWN_REQUEST = 0x77,
};

static const char *const kind_names[] = {
    "free",
    "SET_CONFIGURATION",
    "GET_DESCRIPTOR",
    "unknown request",
    "write setting",
    "read setting",
    "OUT",
    "IN",
};

__attribute__((format(printf, 2, 3))) static void fail(struct model *model, const char *format, ...)
{
    if (model->failure[0])
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(model->failure, sizeof model->failure, format, arguments);
    va_end(arguments);
}

__attribute__((format(printf, 2, 3))) static void trace(const struct model *model,
                                                        const char *format, ...)
{
    if (!model->trace)
        return;
    va_list arguments;
    va_start(arguments, format);
    printf("  %s: ", model->busid);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

/* ---- How transfers end ---- */

static bool status_is_allowed(const struct model *model, const struct model_transfer *t)
{
    int32_t status = t->transfer.status;
    if (model->broken)
        return status == -USBIP_ESHUTDOWN;
    if (t->unlinked && status == -USBIP_ECONNRESET)
        return true;
    if (t->transfer.timeout_ms > 0 && status == -USBIP_ETIMEDOUT)
        return true;
    return status == (t->kind == KIND_UNKNOWN_REQUEST ? -USBIP_EPIPE : 0);
}

static void take_received(struct model *model, struct model_transfer *t)
{
    size_t size = t->transfer.actual_length;
    unsigned modem = 0;
    if (model->is_ftdi)
        size = usbip_ftdi_strip_status(t->buffer, t->buffer, size, FTDI_PACKET_SIZE, &modem);
    usbip_buffer_append(&model->received, t->buffer, size);
}

static void transfer_done(struct usbip_transfer *transfer)
{
    struct model_transfer *t = transfer->user;
    struct model *model = t->model;
    trace(model, "seqnum %" PRIu32 " %s ends with %s, %" PRIu32 " bytes", transfer->seqnum,
          kind_names[t->kind], usbip_status_name(transfer->status), transfer->actual_length);
    model->endings++;
    if (!t->in_flight) {
        fail(model, "a transfer (%s) ended that was not in flight", kind_names[t->kind]);
        return;
    }
    if (!status_is_allowed(model, t))
        fail(model, "%s of seqnum %" PRIu32 " ended with %s", kind_names[t->kind], transfer->seqnum,
             usbip_status_name(transfer->status));
    if (transfer->status == 0) {
        if (t->kind == KIND_OUT) {
            usbip_buffer_append(&model->sent, t->buffer, transfer->length);
            if (transfer->actual_length != transfer->length)
                fail(model, "OUT of %" PRIu32 " bytes: %" PRIu32 " were taken", transfer->length,
                     transfer->actual_length);
        } else if (t->kind == KIND_IN) {
            take_received(model, t);
        } else if (t->kind == KIND_READ_SETTING && t->buffer[0] != t->setting) {
            fail(model, "the setting reads %u, %u was written last", t->buffer[0], t->setting);
        }
    }
    t->in_flight = false;
    t->kind = KIND_FREE;
}

/* ---- What the client does ---- */

static struct model_transfer *begin(struct model *model, enum kind kind)
{
    for (unsigned i = 0; i < MODEL_MAX_TRANSFERS; i++) {
        struct model_transfer *t = &model->transfers[i];
        if (t->in_flight)
            continue;
        memset(&t->transfer, 0, sizeof t->transfer);
        t->model = model;
        t->kind = kind;
        t->unlinked = false;
        t->transfer.done = transfer_done;
        t->transfer.user = t;
        t->transfer.buffer = t->buffer;
        return t;
    }
    return NULL;
}

static void submit(struct model *model, struct model_transfer *t, uint64_t now_ms)
{
    t->in_flight = true;
    int result = usbip_host_session_submit(model->link.host, &t->transfer, now_ms);
    if (result < 0) {
        t->in_flight = false;
        if (!usbip_host_session_error(model->link.host))
            fail(model, "submit of %s: %s", kind_names[t->kind], usbip_error_name(result));
        return;
    }
    trace(model, "seqnum %" PRIu32 " %s, %" PRIu32 " bytes", t->transfer.seqnum,
          kind_names[t->kind], t->transfer.length);
}

static struct model_transfer *begin_request(struct model *model, enum kind kind,
                                            struct usbip_setup setup)
{
    struct model_transfer *t = begin(model, kind);
    if (t) {
        t->transfer.type = USB_ENDPOINT_XFER_CONTROL;
        t->transfer.setup = setup;
        t->transfer.length = setup.wLength;
    }
    return t;
}

static void request(struct model *model, enum kind kind, struct usbip_setup setup, uint64_t now_ms)
{
    struct model_transfer *t = begin_request(model, kind, setup);
    if (t)
        submit(model, t, now_ms);
}

/* The latency timer of FTDI, the line coding's rate of CDC-ACM: one byte of memory. */
static void write_setting(struct model *model, struct random *random, uint64_t now_ms)
{
    uint8_t value = (uint8_t)(1 + random_below(random, 255));
    struct usbip_setup setup =
        model->is_ftdi
            ? (struct usbip_setup){USB_TYPE_VENDOR, FTDI_SIO_SET_LATENCY_TIMER, value, 0, 0}
            : (struct usbip_setup){USB_TYPE_CLASS | USB_RECIP_INTERFACE, CDC_SET_LINE_CODING, 0, 0,
                                   CDC_LINE_CODING_SIZE};
    struct model_transfer *t = begin_request(model, KIND_WRITE_SETTING, setup);
    if (!t)
        return;
    model->setting = value;
    if (!model->is_ftdi)
        usbip_cdc_encode_line_coding(
            t->buffer, &(struct usbip_line_coding){value, USBIP_STOP_1, USBIP_PARITY_NONE, 8});
    submit(model, t, now_ms);
}

static void read_setting(struct model *model, uint64_t now_ms)
{
    struct usbip_setup setup =
        model->is_ftdi ? (struct usbip_setup){USB_DIR_IN | USB_TYPE_VENDOR,
                                              FTDI_SIO_GET_LATENCY_TIMER, 0, 0, 1}
                       : (struct usbip_setup){USB_DIR_IN | USB_TYPE_CLASS | USB_RECIP_INTERFACE,
                                              CDC_GET_LINE_CODING, 0, 0, CDC_LINE_CODING_SIZE};
    struct model_transfer *t = begin_request(model, KIND_READ_SETTING, setup);
    if (!t)
        return;
    t->setting = model->setting;
    submit(model, t, now_ms);
}

static void ask_for_data(struct model *model, uint32_t packets, uint32_t timeout_ms,
                         uint64_t now_ms)
{
    struct model_transfer *t = begin(model, KIND_IN);
    if (!t)
        return;
    t->transfer.type = USB_ENDPOINT_XFER_BULK;
    t->transfer.endpoint = model->is_ftdi ? FTDI_IN : CDC_IN;
    t->transfer.length = packets * FTDI_PACKET_SIZE;
    t->transfer.timeout_ms = timeout_ms;
    submit(model, t, now_ms);
}

static void send_data(struct model *model, struct random *random, uint64_t now_ms)
{
    struct model_transfer *t = begin(model, KIND_OUT);
    if (!t)
        return;
    t->transfer.type = USB_ENDPOINT_XFER_BULK;
    t->transfer.endpoint = model->is_ftdi ? FTDI_OUT : CDC_OUT;
    t->transfer.length = random_below(random, random_one_in(random, 4) ? MODEL_BUFFER_SIZE : 70);
    t->transfer.in_place = random_one_in(random, 2);
    for (uint32_t i = 0; i < t->transfer.length; i++)
        t->buffer[i] = (uint8_t)random_next(random);
    submit(model, t, now_ms);
}

/*
 * Any but requests that change something: whether a SET that is unlinked was carried out before,
 * its caller cannot know.
 */
static void unlink_one(struct model *model, struct random *random, uint64_t now_ms)
{
    struct model_transfer *t = &model->transfers[random_below(random, MODEL_MAX_TRANSFERS)];
    if (!t->in_flight || t->kind == KIND_WRITE_SETTING || t->kind == KIND_SET_CONFIGURATION)
        return;
    trace(model, "unlink of seqnum %" PRIu32, t->transfer.seqnum);
    t->unlinked = true;
    usbip_host_session_unlink(model->link.host, &t->transfer, now_ms);
}

void model_act(struct model *model, struct random *random, uint64_t now_ms)
{
    static const struct usbip_setup get_descriptor = {USB_DIR_IN, USB_REQ_GET_DESCRIPTOR,
                                                      USB_DT_DEVICE << 8, 0, USB_DT_DEVICE_SIZE};
    static const struct usbip_setup unknown = {USB_DIR_IN | USB_TYPE_VENDOR, UNKNOWN_REQUEST, 0, 0,
                                               8};
    switch (random_below(random, 12)) {
    case 0:
        request(model, KIND_GET_DESCRIPTOR, get_descriptor, now_ms);
        break;
    case 1:
        request(model, KIND_UNKNOWN_REQUEST, unknown, now_ms);
        break;
    case 2:
        write_setting(model, random, now_ms);
        break;
    case 3:
        read_setting(model, now_ms);
        break;
    case 4:
    case 5:
    case 6:
        send_data(model, random, now_ms);
        break;
    case 7:
    case 8:
    case 9:
        ask_for_data(model,
                     1 + random_below(random, random_one_in(random, 2)
                                                  ? MODEL_BUFFER_SIZE / FTDI_PACKET_SIZE
                                                  : 16),
                     random_one_in(random, 4) ? 1 + random_below(random, 20) : 0, now_ms);
        break;
    default:
        unlink_one(model, random, now_ms);
        break;
    }
}

/* ---- Connection ---- */

static void imported(void *context, const struct usbip_device_record *record)
{
    static const struct usbip_setup set_configuration = {0, USB_REQ_SET_CONFIGURATION, 1, 0, 0};
    struct model *model = context;
    if (strcmp(record->busid, model->busid) != 0)
        fail(model, "imported %s instead of %s", record->busid, model->busid);
    trace(model, "imported");
    model->attached = true;
    model->setting = model->is_ftdi ? FTDI_DEFAULT_LATENCY_MS : 9600 & 0xff;
    request(model, KIND_SET_CONFIGURATION, set_configuration, 0);
}

static void refused(void *context, uint32_t status)
{
    struct model *model = context;
    trace(model, "refused: %s", usbip_op_status_name(status));
    model->refused = true;
    if (status != USBIP_ST_DEV_BUSY)
        fail(model, "import refused with %s", usbip_op_status_name(status));
}

bool model_connect(struct model *model, struct usbip_bus *bus, const char *name, const char *busid,
                   bool is_ftdi)
{
    static const struct usbip_host_session_events events = {
        .imported = imported,
        .refused = refused,
    };
    model->busid = busid;
    model->is_ftdi = is_ftdi;
    model->attached = model->refused = model->contested = model->broken = false;
    model->linked = true;
    return link_open(&model->link, bus, name, &events, model) &&
           usbip_host_session_request_import(model->link.host, busid) == 0;
}

void model_disconnect(struct model *model)
{
    if (!model->linked)
        return;
    trace(model, "the link breaks");
    model->broken = true;
    link_break(&model->link);
    for (unsigned i = 0; i < MODEL_MAX_TRANSFERS; i++) {
        if (model->transfers[i].in_flight)
            fail(model, "a transfer (%s) has no ending after the link broke",
                 kind_names[model->transfers[i].kind]);
    }
    model->lent += model->link.lent;
    model->host_lent += model->link.host_lent;
    link_close(&model->link);
    model->linked = model->attached = false;
    model->sent.size = model->received.size = model->compared = 0;
}

void model_free(struct model *model)
{
    model_disconnect(model);
    usbip_buffer_free(&model->sent);
    usbip_buffer_free(&model->received);
}

void model_compare(struct model *model)
{
    size_t known =
        model->sent.size < model->received.size ? model->sent.size : model->received.size;
    for (; model->compared < known; model->compared++) {
        if (model->sent.data[model->compared] != model->received.data[model->compared]) {
            fail(model, "byte %zu came back as 0x%02x, sent was 0x%02x", model->compared,
                 model->received.data[model->compared], model->sent.data[model->compared]);
            return;
        }
    }
    if (model->linked && usbip_host_session_error(model->link.host) && !model->refused &&
        !model->broken)
        fail(model, "the host session failed: %s", usbip_host_session_error_text(model->link.host));
}

bool model_settle(struct model *model, uint64_t now_ms)
{
    if (!model->attached)
        return true;
    unsigned in_flight = 0, reads = 0, writes = 0;
    for (unsigned i = 0; i < MODEL_MAX_TRANSFERS; i++) {
        in_flight += model->transfers[i].in_flight;
        reads += model->transfers[i].kind == KIND_IN;
        writes += model->transfers[i].kind == KIND_OUT;
    }
    bool complete = writes == 0 && model->received.size == model->sent.size;
    if (writes == 0 && model->received.size > model->sent.size)
        fail(model, "%zu bytes came back, %zu were sent", model->received.size, model->sent.size);
    if (complete && in_flight == 0)
        return true;
    if (!complete && reads == 0)
        ask_for_data(model, 8, 0, now_ms);
    for (unsigned i = 0; complete && i < MODEL_MAX_TRANSFERS; i++) {
        struct model_transfer *t = &model->transfers[i];
        if (t->kind != KIND_IN || t->unlinked)
            continue;
        t->unlinked = true;
        usbip_host_session_unlink(model->link.host, &t->transfer, now_ms);
    }
    return false;
}
