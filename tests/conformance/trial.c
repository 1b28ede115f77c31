#include "tests/conformance/trial.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "protocol/bytes.h"
#include "protocol/ftdi.h"

enum { PROBES = 2, MAX_NOTIFICATIONS = 16, MAX_LISTED_DEVICES = 4096 };

struct trial_block {
    struct trial_block *next;
    max_align_t data[];
};

/* ---- Results ---- */

void trial_record(struct trial *trial, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(trial->outcome, sizeof trial->outcome, format, arguments);
    va_end(arguments);
}

void trial_record_more(struct trial *trial, const char *format, ...)
{
    size_t used = strlen(trial->outcome);
    if (used > 0 && used + 2 < sizeof trial->outcome) {
        strcpy(trial->outcome + used, ", ");
        used += 2;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(trial->outcome + used, sizeof trial->outcome - used, format, arguments);
    va_end(arguments);
}

noreturn void trial_fail(struct trial *trial, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(trial->reason, sizeof trial->reason, format, arguments);
    va_end(arguments);
    trial->verdict = FAIL;
    longjmp(trial->end, 1);
}

noreturn void trial_not_applicable(struct trial *trial, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(trial->reason, sizeof trial->reason, format, arguments);
    va_end(arguments);
    trial->verdict = NOT_APPLICABLE;
    longjmp(trial->end, 1);
}

void *trial_alloc(struct trial *trial, size_t size)
{
    struct trial_block *block = calloc(1, sizeof *block + size + 1);
    if (!block)
        abort();
    block->next = trial->blocks;
    trial->blocks = block;
    return block->data;
}

/* splitmix64 */
uint32_t trial_random(struct trial *trial)
{
    uint64_t z = trial->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 16);
}

uint8_t *trial_random_bytes(struct trial *trial, size_t size)
{
    uint8_t *bytes = trial_alloc(trial, size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)trial_random(trial);
    return bytes;
}

void trial_pause(int ms)
{
    struct timespec pause = {ms / 1000, (ms % 1000) * 1000000L};
    nanosleep(&pause, NULL);
}

/* ---- Running ---- */

static const struct {
    unsigned need;
    const char *why;
} lacks[] = {
    {NEED_DEVICE, "the server exports no device"},
    {NEED_BULK, "the device has no bulk IN and bulk OUT endpoint"},
    {NEED_INTERRUPT, "the device has no interrupt IN endpoint"},
    {NEED_ACM, "the device is not CDC-ACM"},
    {NEED_STIMULUS, "nobody is at the device's other end: it needs a stimulus"},
    {NEED_SECOND_DEVICE, "the server exports only one device"},
    {NEED_OWN_SERVER, "the server's devices are not all at our disposal"},
    {NEED_UNSHARED, "no device is known that is present but not exported (--unshared BUSID)"},
    {NEED_ISO, "the device has no isochronous endpoints"},
};

static unsigned present(const struct target *target)
{
    return (target->has_device ? NEED_DEVICE : 0u) |
           (target->bulk_in && target->bulk_out ? NEED_BULK : 0u) |
           (target->interrupt_in ? NEED_INTERRUPT : 0u) |
           (target->acm_interface >= 0 ? NEED_ACM : 0u) | (target->stimulus ? NEED_STIMULUS : 0u) |
           (target->other.busid[0] ? NEED_SECOND_DEVICE : 0u) |
           (target->own_server ? NEED_OWN_SERVER : 0u) |
           (target->unshared[0] ? NEED_UNSHARED : 0u) |
           (target->iso_in.endpoint || target->iso_out.endpoint ? NEED_ISO : 0u);
}

enum { FROM_DESCRIPTORS = NEED_BULK | NEED_INTERRUPT | NEED_ACM | NEED_ISO };

static void check_needs(struct trial *trial, const struct conformance_case *conformance_case)
{
    const struct target *target = trial->target;
    unsigned missing = conformance_case->needs & ~present(target);
    if (target->has_device && target->configuration_size == 0 && (missing & FROM_DESCRIPTORS))
        trial_not_applicable(trial, "the device's descriptors cannot be read");
    for (size_t i = 0; i < sizeof lacks / sizeof lacks[0]; i++) {
        if (missing & lacks[i].need)
            trial_not_applicable(trial, "%s", lacks[i].why);
    }
    if (!conformance_case->run)
        trial_not_applicable(trial, "%s", conformance_case->not_applicable);
}

void trial_clean_up(struct trial *trial)
{
    for (unsigned i = 0; i < trial->wire_count; i++) {
        wire_close(trial->wires[i]);
        free(trial->wires[i]);
    }
    trial->wire_count = 0;
    while (trial->blocks) {
        struct trial_block *block = trial->blocks;
        trial->blocks = block->next;
        free(block);
    }
}

/* After a hostile case another client has to find everything as it was. */
static void check_recovery(struct trial *trial)
{
    if (setjmp(trial->end) == 0) {
        struct devlist list;
        if (trial_devlist_with_device(trial, &list) < 0 && trial->target->own_server)
            trial_fail(trial, "the device is not listed any more");
        trial_expect_alive(trial, trial_import(trial));
        return;
    }
    trial_record(trial, "DESTRUCTIVE");
    char reason[TRIAL_REASON_SIZE];
    memcpy(reason, trial->reason, sizeof reason);
    snprintf(trial->reason, sizeof trial->reason, "afterwards: %.480s", reason);
    trial->verdict = FAIL;
}

void trial_run(struct trial *trial, const struct target *target,
               const struct conformance_case *conformance_case)
{
    memset(trial, 0, sizeof *trial);
    trial->target = target;
    trial->random = target->seed;
    trial->verdict = PASS;
    trial->needs_stimulus = conformance_case->needs & NEED_STIMULUS;
    if (setjmp(trial->end) == 0) {
        check_needs(trial, conformance_case);
        conformance_case->run(trial);
    }
    trial_clean_up(trial);
    if ((conformance_case->profiles & HOSTILE) && trial->verdict != NOT_APPLICABLE &&
        target->has_device) {
        wire_log_add(&trial->log, "- afterwards:");
        check_recovery(trial);
        trial_clean_up(trial);
    }
    if (trial->verdict == NOT_APPLICABLE)
        trial_record(trial, "not-applicable");
    else if (trial->outcome[0] == '\0')
        trial_record(trial, "%s", trial->verdict == PASS ? "ok" : "wrong");
}

int trial_prepare(struct trial *trial, struct target *target,
                  void (*look)(struct trial *, struct target *, const struct target_choice *),
                  const struct target_choice *choice)
{
    memset(trial, 0, sizeof *trial);
    trial->target = target;
    if (setjmp(trial->end) == 0)
        look(trial, target, choice);
    trial_clean_up(trial);
    return trial->verdict == PASS ? 0 : -1;
}

/* ---- OP phase ---- */

struct wire *trial_try_connect(struct trial *trial, const char *host)
{
    const struct target *target = trial->target;
    if (trial->wire_count == TRIAL_MAX_WIRES) {
        /* Long loops: the oldest is over long since. */
        wire_close(trial->wires[0]);
        free(trial->wires[0]);
        trial->wire_count--;
        memmove(trial->wires, trial->wires + 1, trial->wire_count * sizeof trial->wires[0]);
    }
    struct wire *wire = calloc(1, sizeof *wire);
    if (!wire)
        abort();
    char tag = (char)('A' + trial->wire_count % 26);
    trial->wires[trial->wire_count++] = wire;
    return wire_open(wire, host, target->port, target->timeout_ms, tag, &trial->log) == 0 ? wire
                                                                                          : NULL;
}

struct wire *trial_connect(struct trial *trial)
{
    struct wire *wire = trial_try_connect(trial, trial->target->host);
    if (!wire)
        trial_fail(trial, "the server does not accept a connection");
    return wire;
}

void trial_send_op(struct wire *wire, uint16_t version, uint16_t code, uint32_t status)
{
    uint8_t bytes[USBIP_OP_COMMON_SIZE];
    usbip_encode_op_common(bytes, &(struct usbip_op_common){version, code, status});
    wire_send(wire, bytes, sizeof bytes);
}

static const char *event_text(enum wire_event event)
{
    return event == WIRE_CLOSED   ? "the server has closed the connection"
           : event == WIRE_SILENT ? "no answer within the time-out"
                                  : "what came is not a reply";
}

static const char *event_name(enum wire_event event)
{
    return event == WIRE_CLOSED ? "CLOSE" : event == WIRE_SILENT ? "SILENT" : "DESYNC";
}

static void read_or_fail(struct trial *trial, struct wire *wire, void *bytes, size_t size,
                         const char *what)
{
    enum wire_event event = wire_read(wire, bytes, size);
    if (event == WIRE_OK)
        return;
    trial_record_more(trial, "%s", event_name(event));
    trial_fail(trial, "%s: %s", what, event_text(event));
}

uint32_t trial_read_op(struct trial *trial, struct wire *wire, uint16_t code)
{
    uint8_t bytes[USBIP_OP_COMMON_SIZE];
    read_or_fail(trial, wire, bytes, sizeof bytes, "the header of the reply");
    struct usbip_op_common common;
    usbip_decode_op_common(bytes, &common);
    if (common.version != USBIP_VERSION || common.code != code)
        trial_fail(trial, "the reply has version 0x%04x and code 0x%04x, not 0x%04x and 0x%04x",
                   common.version, common.code, USBIP_VERSION, code);
    return common.status;
}

void trial_read_devlist(struct trial *trial, struct wire *wire, struct devlist *list)
{
    uint32_t status = trial_read_op(trial, wire, OP_REP_DEVLIST);
    if (status != USBIP_ST_OK)
        trial_fail(trial, "the list has status %" PRIu32, status);
    uint8_t count[4];
    read_or_fail(trial, wire, count, sizeof count, "the number of devices");
    list->count = usbip_load_be32(count);
    if (list->count > MAX_LISTED_DEVICES)
        trial_fail(trial, "%" PRIu32 " devices are announced", list->count);
    list->devices = trial_alloc(trial, list->count * sizeof *list->devices);
    for (uint32_t i = 0; i < list->count; i++) {
        read_or_fail(trial, wire, list->devices[i].bytes, USBIP_DEVICE_RECORD_SIZE,
                     "the record of a device that was announced");
        usbip_decode_device_record(list->devices[i].bytes, &list->devices[i].record);
        size_t size = (size_t)list->devices[i].record.bNumInterfaces * USBIP_INTERFACE_RECORD_SIZE;
        uint8_t *interfaces = trial_alloc(trial, size);
        if (size > 0)
            read_or_fail(trial, wire, interfaces, size, "the interfaces that were announced");
        list->devices[i].interfaces = interfaces;
    }
}

void trial_devlist(struct trial *trial, struct devlist *list)
{
    struct wire *wire = trial_connect(trial);
    trial_send_op(wire, USBIP_VERSION, OP_REQ_DEVLIST, 0);
    trial_read_devlist(trial, wire, list);
    wire_close(wire);
}

int trial_devlist_with_device(struct trial *trial, struct devlist *list)
{
    for (int waited = 0; waited <= trial->target->retry_ms; waited += TRIAL_RETRY_PAUSE_MS) {
        trial_devlist(trial, list);
        for (uint32_t i = 0; i < list->count; i++) {
            if (strcmp(list->devices[i].record.busid, trial->target->record.busid) == 0)
                return (int)i;
        }
        trial_pause(TRIAL_RETRY_PAUSE_MS);
    }
    trial->gave_up = true;
    return -1;
}

uint32_t trial_try_import(struct trial *trial, struct wire *wire, const char *busid,
                          struct usbip_device_record *record)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE], body[USBIP_DEVICE_RECORD_SIZE];
    if (usbip_encode_import_request(request, busid) < 0)
        trial_fail(trial, "the busid \"%s\" has more than 31 bytes", busid);
    wire->timeout_ms = trial->target->import_timeout_ms;
    wire_send(wire, request, sizeof request);
    uint32_t status = trial_read_op(trial, wire, OP_REP_IMPORT);
    if (status == USBIP_ST_OK) {
        read_or_fail(trial, wire, body, sizeof body, "the record of the imported device");
        usbip_decode_device_record(body, record);
        wire->devid = usbip_devid(record);
    }
    wire->timeout_ms = trial->target->timeout_ms;
    return status;
}

struct wire *trial_import_record(struct trial *trial, const char *busid,
                                 struct usbip_device_record *record)
{
    uint32_t status = USBIP_ST_OK;
    for (int waited = 0; waited <= trial->target->retry_ms; waited += TRIAL_RETRY_PAUSE_MS) {
        struct wire *wire = trial_connect(trial);
        status = trial_try_import(trial, wire, busid, record);
        if (status == USBIP_ST_OK)
            return wire;
        wire_close(wire);
        trial_pause(TRIAL_RETRY_PAUSE_MS);
    }
    trial->gave_up = true;
    trial_fail(trial, "%s cannot be imported: status %" PRIu32 " (%s) for %d ms", busid, status,
               usbip_op_status_name(status), trial->target->retry_ms);
}

struct wire *trial_import_busid(struct trial *trial, const char *busid)
{
    struct usbip_device_record record;
    return trial_import_record(trial, busid, &record);
}

struct wire *trial_import(struct trial *trial)
{
    return trial_import_busid(trial, trial->target->record.busid);
}

void trial_set_configuration(struct trial *trial, struct wire *wire, uint8_t value)
{
    struct wire_pdu *pdu =
        trial_control(trial, wire, 0, USB_REQ_SET_CONFIGURATION, value, 0, 0, NULL);
    if (pdu->header.ret_submit.status != 0)
        trial_fail(trial, "SET_CONFIGURATION(%u) ends with status %" PRId32, value,
                   pdu->header.ret_submit.status);
}

struct wire *trial_configure(struct trial *trial)
{
    struct wire *wire = trial_import(trial);
    trial_set_configuration(trial, wire,
                            trial->target->configuration.descriptor.bConfigurationValue);
    if (trial->needs_stimulus)
        stimulate_open(trial, wire);
    return wire;
}

/* ---- URB phase ---- */

struct wire_pdu *trial_reply(struct trial *trial, struct wire *wire, uint32_t seqnum)
{
    struct wire_pdu *pdu;
    enum wire_event event = wire_wait(wire, seqnum, &pdu);
    if (event != WIRE_OK) {
        trial_record_more(trial, "%s", event_name(event));
        trial_fail(trial, "request %" PRIu32 ": %s", seqnum, event_text(event));
    }
    if (!pdu->known)
        trial_fail(trial, "request %" PRIu32 " is answered with a %s", seqnum,
                   usbip_command_name(pdu->header.command));
    return pdu;
}

struct wire_pdu *trial_expect(struct trial *trial, struct wire *wire, uint32_t seqnum,
                              int32_t status, uint32_t actual_length)
{
    struct wire_pdu *pdu = trial_reply(trial, wire, seqnum);
    int32_t got = pdu->header.ret_submit.status;
    uint32_t length = pdu->header.ret_submit.actual_length;
    if (got != status || length != actual_length) {
        trial_record_more(trial, "REPLY(%" PRId32 ",%" PRIu32 ")", got, length);
        trial_fail(trial,
                   "request %" PRIu32 " ends with status %" PRId32 " and %" PRIu32
                   " bytes, not %" PRId32 " and %" PRIu32,
                   seqnum, got, length, status, actual_length);
    }
    return pdu;
}

struct wire_pdu *trial_expect_unlinked(struct trial *trial, struct wire *wire, uint32_t seqnum,
                                       int32_t status)
{
    struct wire_pdu *pdu;
    /* Linux may keep a RET_UNLINK(0) until something else completes: nudge it. */
    uint32_t nudge = trial_get_status(wire);
    trial_reply(trial, wire, nudge);
    enum wire_event event = wire_wait(wire, seqnum, &pdu);
    if (event != WIRE_OK) {
        trial_record_more(trial, "%s", event_name(event));
        trial_fail(trial, "CMD_UNLINK %" PRIu32 ": %s", seqnum, event_text(event));
    }
    if (!pdu->known)
        trial_fail(trial, "CMD_UNLINK %" PRIu32 " is answered with a RET_SUBMIT", seqnum);
    if (pdu->header.ret_unlink.status != status) {
        trial_record_more(trial, "UNLINK(%" PRId32 ")", pdu->header.ret_unlink.status);
        trial_fail(trial, "RET_UNLINK %" PRIu32 " has status %" PRId32 ", not %" PRId32, seqnum,
                   pdu->header.ret_unlink.status, status);
    }
    return pdu;
}

/* An FTDI has its own time after which it sends its status bytes without any data. */
static bool is_status_only(const struct trial *trial, const struct wire_pdu *pdu)
{
    return trial->target->status_bytes > 0 && pdu->header.ret_submit.status == 0 &&
           pdu->header.ret_submit.actual_length == trial->target->status_bytes;
}

void trial_expect_pending(struct trial *trial, struct wire *wire, uint32_t seqnum)
{
    trial_expect_alive(trial, wire);
    long position = wire_position(wire, seqnum);
    if (position < 0)
        return;
    const struct wire_pdu *pdu = wire->pdus[position];
    if (is_status_only(trial, pdu))
        trial_not_applicable(trial, "the device sends status bytes when it has no data");
    trial_record_more(trial, "REPLY(%" PRId32 ",%" PRIu32 ")", pdu->header.ret_submit.status,
                      pdu->header.ret_submit.actual_length);
    trial_fail(trial, "request %" PRIu32 " is answered although there is nothing to answer",
               seqnum);
}

uint32_t trial_data_length(const struct trial *trial, size_t size)
{
    const struct target *target = trial->target;
    if (target->status_bytes == 0 || size == 0)
        return (uint32_t)size;
    size_t room = target->bulk_in_packet - target->status_bytes;
    return (uint32_t)(size + (size + room - 1) / room * target->status_bytes);
}

const uint8_t *trial_data(struct trial *trial, const struct wire_pdu *pdu, size_t *size)
{
    *size = pdu->payload_size;
    if (trial->target->status_bytes == 0)
        return pdu->payload;
    uint8_t *data = trial_alloc(trial, pdu->payload_size);
    *size = usbip_ftdi_strip_status(data, pdu->payload, pdu->payload_size,
                                    trial->target->bulk_in_packet, &(unsigned){0});
    return data;
}

const uint8_t *trial_expect_data(struct trial *trial, struct wire *wire, uint32_t seqnum,
                                 int32_t status, size_t size)
{
    const struct wire_pdu *pdu = trial_reply(trial, wire, seqnum);
    for (int i = 0; size > 0 && is_status_only(trial, pdu) && i < TRIAL_MAX_EMPTY; i++) {
        seqnum = trial_in(trial, wire, pdu->requested);
        pdu = trial_reply(trial, wire, seqnum);
    }
    pdu = trial_expect(trial, wire, seqnum, status, trial_data_length(trial, size));
    return trial_data(trial, pdu, &size);
}

void trial_expect_stream(struct trial *trial, struct wire *wire, const uint32_t *seqnums,
                         unsigned count, uint32_t length, const uint8_t *data, size_t size)
{
    unsigned used = 0, empty = 0;
    for (size_t at = 0; at < size; used++) {
        uint32_t seqnum = used < count ? seqnums[used] : trial_in(trial, wire, length);
        const struct wire_pdu *pdu = trial_reply(trial, wire, seqnum);
        size_t got;
        const uint8_t *bytes = trial_data(trial, pdu, &got);
        if (pdu->header.ret_submit.status != 0)
            trial_fail(trial, "an IN transfer ends with status %" PRId32,
                       pdu->header.ret_submit.status);
        if (got > size - at || (got > 0 && memcmp(bytes, data + at, got) != 0))
            trial_fail(trial, "byte %zu and those that follow are not what was sent", at);
        at += got;
        empty = got > 0 ? 0 : empty + 1;
        if (empty == TRIAL_MAX_EMPTY)
            trial_fail(trial, "only %zu of %zu bytes come back", at, size);
    }
    if (trial->target->stimulus->exact_packets && used != count)
        trial_fail(trial, "%u transfers have the data of %u packets", used, count);
}

uint32_t trial_in(struct trial *trial, struct wire *wire, uint32_t length)
{
    return wire_submit(wire, &(struct wire_submit){.direction = USBIP_DIR_IN,
                                                   .ep = trial->target->bulk_in,
                                                   .flags = USBIP_URB_DIR_IN,
                                                   .length = length});
}

uint32_t trial_out(struct trial *trial, struct wire *wire, const void *data, uint32_t length)
{
    return wire_submit(wire, &(struct wire_submit){.direction = USBIP_DIR_OUT,
                                                   .ep = trial->target->bulk_out,
                                                   .length = length,
                                                   .payload = data});
}

uint32_t trial_pending_interrupt(struct trial *trial, struct wire *wire)
{
    for (int i = 0; i < MAX_NOTIFICATIONS; i++) {
        uint32_t seqnum =
            wire_submit(wire, &(struct wire_submit){.direction = USBIP_DIR_IN,
                                                    .ep = trial->target->interrupt_in,
                                                    .flags = USBIP_URB_DIR_IN,
                                                    .length = trial->target->interrupt_packet,
                                                    .interval = trial->target->interval});
        trial_expect_alive(trial, wire);
        long position = wire_position(wire, seqnum);
        if (position < 0)
            return seqnum;
        const struct wire_pdu *pdu = wire->pdus[position];
        if (pdu->header.ret_submit.status != 0)
            trial_fail(trial, "an interrupt transfer ends with status %" PRId32,
                       pdu->header.ret_submit.status);
    }
    trial_fail(trial, "the device sends %d notifications and more without a reason",
               MAX_NOTIFICATIONS);
}

uint32_t trial_get_descriptor(struct wire *wire, uint8_t type, uint8_t index, uint16_t wIndex,
                              uint16_t length)
{
    struct usbip_setup setup = {USB_DIR_IN, USB_REQ_GET_DESCRIPTOR,
                                (uint16_t)((unsigned)type << 8 | index), wIndex, length};
    return wire_control(wire, &setup, NULL);
}

uint32_t trial_get_status(struct wire *wire)
{
    return wire_control(wire, &(struct usbip_setup){USB_DIR_IN, USB_REQ_GET_STATUS, 0, 0, 2}, NULL);
}

struct wire_pdu *trial_control(struct trial *trial, struct wire *wire, uint8_t bmRequestType,
                               uint8_t bRequest, uint16_t wValue, uint16_t wIndex, uint16_t wLength,
                               const void *data)
{
    struct usbip_setup setup = {bmRequestType, bRequest, wValue, wIndex, wLength};
    return trial_reply(trial, wire, wire_control(wire, &setup, data));
}

void trial_expect_alive(struct trial *trial, struct wire *wire)
{
    trial_expect(trial, wire, trial_get_status(wire), 0, 2);
}

enum outcome trial_observe(struct trial *trial, struct wire *wire, uint32_t seqnum,
                           struct wire_pdu **result)
{
    enum wire_event event = WIRE_OK;
    *result = NULL;
    for (int i = 0; i < PROBES && event == WIRE_OK && !*result; i++) {
        uint32_t probe = trial_get_status(wire);
        bool answered = false;
        while (event == WIRE_OK && !answered && !*result) {
            struct wire_pdu *pdu;
            event = wire_next(wire, &pdu);
            if (event == WIRE_OK && pdu->header.seqnum == seqnum)
                *result = pdu;
            else if (event == WIRE_OK && pdu->header.seqnum == probe)
                answered = true;
        }
    }
    if (*result && (*result)->header.command == USBIP_RET_SUBMIT) {
        trial_record_more(trial, "REPLY(%" PRId32 ",%" PRIu32 ")",
                          (*result)->header.ret_submit.status,
                          (*result)->header.ret_submit.actual_length);
        return OUTCOME_REPLY;
    }
    if (*result) {
        trial_record_more(trial, "UNLINK(%" PRId32 ")", (*result)->header.ret_unlink.status);
        return OUTCOME_REPLY;
    }
    if (event == WIRE_CLOSED) {
        trial_record_more(trial, "CLOSE");
        return OUTCOME_CLOSE;
    }
    if (event == WIRE_OK) {
        trial_record_more(trial, "SILENT");
        return OUTCOME_SILENT;
    }
    /* Not even the probe is answered: the server takes it for something else. */
    trial_record_more(trial, "DESYNC");
    return OUTCOME_DESYNC;
}

enum outcome trial_observe_op(struct trial *trial, struct wire *wire)
{
    size_t left;
    enum wire_event event = wire_read_end(wire, &left);
    trial_record_more(trial, "%s", event == WIRE_CLOSED ? "CLOSE" : "SILENT");
    if (left > 0) {
        trial_record_more(trial, "%zu bytes", left);
        trial_fail(trial, "%zu bytes came, none was expected", left);
    }
    return event == WIRE_CLOSED ? OUTCOME_CLOSE : OUTCOME_SILENT;
}
