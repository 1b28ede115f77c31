/* C. OP_REQ_IMPORT. */
#include <inttypes.h>
#include <string.h>

#include "protocol/bytes.h"
#include "tests/conformance/trial.h"

static const char unknown_busid[] = "9-9";

/* Fails unless a request for this busid is refused with 8 bytes and the end. Returns the status. */
static uint32_t expect_refused(struct trial *trial, const uint8_t busid[USBIP_BUSID_SIZE])
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    struct wire *wire = trial_connect(trial);
    size_t left;
    usbip_encode_op_common(request, &(struct usbip_op_common){USBIP_VERSION, OP_REQ_IMPORT, 0});
    memcpy(request + USBIP_OP_COMMON_SIZE, busid, USBIP_BUSID_SIZE);
    wire->timeout_ms = trial->target->import_timeout_ms;
    wire_send(wire, request, sizeof request);
    uint32_t status = trial_read_op(trial, wire, OP_REP_IMPORT);
    trial_record(trial, "status %" PRIu32, status);
    if (status == USBIP_ST_OK)
        trial_fail(trial, "the import of \"%.32s\" succeeds", (const char *)busid);
    wire->timeout_ms = trial->target->timeout_ms;
    wire_read_end(wire, &left);
    if (left > 0)
        trial_fail(trial, "%zu bytes follow status %" PRIu32, left, status);
    return status;
}

/* Returns the status of the reply. */
static uint32_t request_import(struct trial *trial, struct wire *wire, const uint8_t *request,
                               size_t size)
{
    wire->timeout_ms = trial->target->import_timeout_ms;
    wire_send(wire, request, size);
    uint32_t status = trial_read_op(trial, wire, OP_REP_IMPORT);
    wire->timeout_ms = trial->target->timeout_ms;
    return status;
}

static uint32_t expect_text_refused(struct trial *trial, const char *busid)
{
    uint8_t bytes[USBIP_BUSID_SIZE] = {0};
    memcpy(bytes, busid, strlen(busid));
    return expect_refused(trial, bytes);
}

static void import_ok(struct trial *trial)
{
    struct usbip_device_record record = {0};
    const char *busid = trial->target->record.busid;
    struct wire *wire = trial_import_record(trial, busid, &record);
    if (strcmp(record.busid, busid) != 0)
        trial_fail(trial, "%s was asked for, %s came", busid, record.busid);
    /* Interface records would be taken for the beginning of this answer. */
    trial_expect_alive(trial, wire);
    trial_record(trial, "%d bytes", USBIP_IMPORT_REPLY_SIZE);
}

static void import_record_equals_list(struct trial *trial)
{
    struct devlist list;
    int index = trial_devlist_with_device(trial, &list);
    if (index < 0)
        trial_fail(trial, "%s is not listed any more", trial->target->record.busid);
    struct usbip_device_record before = list.devices[index].record, after;
    /* Some servers list a device that is still being given back. */
    trial_import_record(trial, before.busid, &after);
    if (strcmp(before.path, after.path) != 0 || before.busnum != after.busnum ||
        before.devnum != after.devnum || before.speed != after.speed ||
        before.idVendor != after.idVendor || before.idProduct != after.idProduct ||
        before.bcdDevice != after.bcdDevice || before.bDeviceClass != after.bDeviceClass ||
        before.bDeviceSubClass != after.bDeviceSubClass ||
        before.bDeviceProtocol != after.bDeviceProtocol ||
        before.bNumConfigurations != after.bNumConfigurations)
        trial_fail(trial, "the record of the import is not that of the list");
}

static void import_unknown(struct trial *trial)
{
    uint32_t status = expect_text_refused(trial, unknown_busid);
    if (status != USBIP_ST_NODEV)
        trial_fail(trial, "the status is %" PRIu32 ", not ST_NODEV", status);
}

static void import_error_body(struct trial *trial)
{
    expect_text_refused(trial, unknown_busid);
    trial_record(trial, "8 bytes");
}

static void import_not_shared(struct trial *trial)
{
    uint32_t status = expect_text_refused(trial, trial->target->unshared);
    if (status != USBIP_ST_NODEV)
        trial_fail(trial, "the status is %" PRIu32 ", not ST_NODEV", status);
}

static void import_malformed_busid(struct trial *trial)
{
    static const char *const busids[] = {
        "", "x", "1-", "01-1", "1-1.4.999.999.999.999.999.999", "IncompatibleHub", "-1", "1-1-1",
    };
    for (size_t i = 0; i < sizeof busids / sizeof busids[0]; i++)
        expect_text_refused(trial, busids[i]);
}

static void import_no_nul(struct trial *trial)
{
    uint8_t busid[USBIP_BUSID_SIZE];
    memset(busid, '1', sizeof busid);
    expect_refused(trial, busid);
}

static void import_junk_after_nul(struct trial *trial)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    const char *busid = trial->target->record.busid;
    size_t used = USBIP_OP_COMMON_SIZE + strlen(busid) + 1;
    usbip_encode_import_request(request, busid);
    memset(request + used, 0xaa, sizeof request - used);
    uint32_t status = request_import(trial, trial_connect(trial), request, sizeof request);
    for (int waited = 0; status != USBIP_ST_OK && waited <= trial->target->retry_ms;
         waited += TRIAL_RETRY_PAUSE_MS) {
        trial_pause(TRIAL_RETRY_PAUSE_MS);
        status = request_import(trial, trial_connect(trial), request, sizeof request);
    }
    trial_record(trial, "status %" PRIu32, status);
    if (status != USBIP_ST_OK)
        trial_fail(trial, "bytes behind the NUL of the busid make the import fail");
}

static void import_truncated(struct trial *trial)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    struct wire *wire = trial_connect(trial);
    usbip_encode_import_request(request, trial->target->record.busid);
    wire_send(wire, request, USBIP_OP_COMMON_SIZE + 10);
    wire_end_sending(wire);
    if (trial_observe_op(trial, wire) != OUTCOME_CLOSE)
        trial_fail(trial, "the connection stays open");
    trial_import(trial);
}

static void import_busy(struct trial *trial)
{
    struct usbip_device_record record;
    struct wire *owner = trial_import(trial);
    /* usbipd-win notes the owner only after its reply: what it answers after that has been noted.
     */
    trial_expect_alive(trial, owner);
    struct wire *wire = trial_connect(trial);
    uint32_t status = trial_try_import(trial, wire, trial->target->record.busid, &record);
    trial_record(trial, "status %" PRIu32, status);
    if (status != USBIP_ST_DEV_BUSY)
        trial_fail(trial, "a second import ends with status %" PRIu32 " (%s), not ST_DEV_BUSY",
                   status, usbip_op_status_name(status));
    trial_expect_alive(trial, owner);
}

static void race_for_import(struct trial *trial, uint32_t statuses[2])
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    usbip_encode_import_request(request, trial->target->record.busid);
    struct wire *wires[2] = {trial_connect(trial), trial_connect(trial)};
    for (int i = 0; i < 2; i++)
        wire_send(wires[i], request, sizeof request);
    for (int i = 0; i < 2; i++) {
        wires[i]->timeout_ms = trial->target->import_timeout_ms;
        statuses[i] = trial_read_op(trial, wires[i], OP_REP_IMPORT);
    }
}

static void import_race(struct trial *trial)
{
    uint32_t statuses[2];
    race_for_import(trial, statuses);
    /* Nobody wins while the device is being given back. */
    for (int waited = 0; statuses[0] != USBIP_ST_OK && statuses[1] != USBIP_ST_OK &&
                         waited <= trial->target->retry_ms;
         waited += TRIAL_RETRY_PAUSE_MS) {
        trial_pause(TRIAL_RETRY_PAUSE_MS);
        race_for_import(trial, statuses);
    }
    if ((statuses[0] == USBIP_ST_OK) == (statuses[1] == USBIP_ST_OK))
        trial_fail(trial, "the two imports end with status %" PRIu32 " and %" PRIu32, statuses[0],
                   statuses[1]);
    uint32_t loser = statuses[0] + statuses[1];
    trial_record(trial, "the loser has status %" PRIu32, loser);
    if (loser > USBIP_ST_DEV_ERR)
        trial_fail(trial, "the loser has status %" PRIu32 ", not 1, 2 or 3", loser);
}

static void reimport_after_close(struct trial *trial)
{
    trial_expect_alive(trial, trial_import(trial));
    wire_close(trial->wires[trial->wire_count - 1]);
    trial_expect_alive(trial, trial_import(trial));
}

/* Whether the first that comes is a RET_SUBMIT: Linux starts the device before it answers the
 * import. */
static bool is_early_reply(struct wire *wire, uint32_t seqnum)
{
    uint8_t begin[8];
    if (!wire_peek(wire, begin, sizeof begin))
        return false;
    return usbip_load_be32(begin) == USBIP_RET_SUBMIT && usbip_load_be32(begin + 4) == seqnum;
}

/* Sends the import with GET_DESCRIPTOR right behind it, whose seqnum it returns. */
static uint32_t import_and_submit(struct trial *trial, struct wire *wire)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    struct usbip_buffer buffer = {0};
    struct usbip_device_record record = trial->target->record;
    usbip_encode_import_request(request, record.busid);
    wire->devid = usbip_devid(&record);
    if (usbip_buffer_append(&buffer, request, sizeof request) < 0)
        trial_fail(trial, "out of memory");
    uint32_t seqnum =
        wire_append_control(wire, &buffer,
                            &(struct usbip_setup){USB_DIR_IN, USB_REQ_GET_DESCRIPTOR,
                                                  USB_DT_DEVICE << 8, 0, USB_DT_DEVICE_SIZE},
                            NULL);
    wire->timeout_ms = trial->target->import_timeout_ms;
    wire_send(wire, buffer.data, buffer.size);
    usbip_buffer_free(&buffer);
    return seqnum;
}

static void import_pipelined_submit(struct trial *trial)
{
    uint8_t body[USBIP_DEVICE_RECORD_SIZE];
    struct wire *wire = NULL;
    uint32_t seqnum = 0, status = USBIP_ST_NA;
    for (int waited = 0; waited <= trial->target->retry_ms; waited += TRIAL_RETRY_PAUSE_MS) {
        wire = trial_connect(trial);
        seqnum = import_and_submit(trial, wire);
        if (is_early_reply(wire, seqnum)) {
            trial_record(trial, "answered before the import");
            return;
        }
        status = trial_read_op(trial, wire, OP_REP_IMPORT);
        if (status == USBIP_ST_OK)
            break;
        trial_pause(TRIAL_RETRY_PAUSE_MS);
    }
    if (status != USBIP_ST_OK || wire_read(wire, body, sizeof body) != WIRE_OK) {
        trial_record(trial, "status %" PRIu32, status);
        return;
    }
    struct wire_pdu *pdu;
    trial_record(trial, wire_wait(wire, seqnum, &pdu) == WIRE_OK ? "answered" : "not answered");
}

static void second_import_same_connection(struct trial *trial)
{
    /* Filled up to a whole header, for a server that decides nothing before it has one. */
    uint8_t request[USBIP_HEADER_SIZE] = {0};
    struct wire *wire = trial_import(trial);
    const struct target *target = trial->target;
    usbip_encode_import_request(request, target->other.busid[0] ? target->other.busid
                                                                : target->record.busid);
    wire_send(wire, request, sizeof request);
    if (trial_observe_op(trial, wire) != OUTCOME_CLOSE)
        trial_fail(trial, "the connection stays open");
}

static void import_two_devices(struct trial *trial)
{
    const struct usbip_device_record *records[] = {&trial->target->record, &trial->target->other};
    struct wire *wires[2];
    uint32_t seqnums[2];
    for (int i = 0; i < 2; i++)
        wires[i] = trial_import_busid(trial, records[i]->busid);
    for (int i = 0; i < 2; i++)
        seqnums[i] = trial_get_descriptor(wires[i], USB_DT_DEVICE, 0, 0, USB_DT_DEVICE_SIZE);
    for (int i = 0; i < 2; i++) {
        struct wire_pdu *pdu = trial_expect(trial, wires[i], seqnums[i], 0, USB_DT_DEVICE_SIZE);
        struct usbip_device_descriptor d;
        usbip_decode_device_descriptor(pdu->payload, USB_DT_DEVICE_SIZE, &d);
        if (d.idVendor != records[i]->idVendor || d.idProduct != records[i]->idProduct)
            trial_fail(trial, "%s answers as %04x:%04x", records[i]->busid, d.idVendor,
                       d.idProduct);
    }
}

static void status_values(struct trial *trial)
{
    uint32_t unknown = expect_text_refused(trial, unknown_busid);
    struct usbip_device_record record;
    trial_expect_alive(trial, trial_import(trial));
    uint32_t busy =
        trial_try_import(trial, trial_connect(trial), trial->target->record.busid, &record);
    trial_record(trial, "status %" PRIu32 " and %" PRIu32, unknown, busy);
    if (unknown > USBIP_ST_ERROR || busy > USBIP_ST_ERROR)
        trial_fail(trial, "there is no such status");
}

static const struct conformance_case cases[] = {
    {"S031", "import-ok", MUST, CORE, NEED_DEVICE,
     "A successful import is answered with 320 bytes: the record of that busid, no interfaces.",
     "usbip_protocol.rst, OP_REP_IMPORT", import_ok, NULL},
    {"S032", "import-record-equals-list", SHOULD, CORE, NEED_DEVICE,
     "The record of the import is that of the list, but perhaps for the configuration.",
     "usbip_protocol.rst, OP_REP_IMPORT", import_record_equals_list, NULL},
    {"S033", "import-unknown", SHOULD, CORE, 0,
     "An unknown busid is refused with ST_NODEV; any status but 0 is a MUST.",
     "usbip_common.h of the Linux tools", import_unknown, NULL},
    {"S034", "import-error-body", MUST, CORE, 0, "Nothing follows the 8 bytes of a refusal.",
     "usbip_protocol.rst, OP_REP_IMPORT", import_error_body, NULL},
    {"S035", "import-not-shared", SHOULD, STRICT, NEED_UNSHARED,
     "A device that is not exported is refused with ST_NODEV.", "usbip_common.h of the Linux tools",
     import_not_shared, NULL},
    {"S036", "import-malformed-busid", MUST, STRICT, 0,
     "Busids that cannot exist are refused like unknown ones.", "usbip_protocol.rst, OP_REQ_IMPORT",
     import_malformed_busid, NULL},
    {"S037", "import-no-nul", MUST, STRICT, 0,
     "A busid that fills its field without a NUL is refused; nothing is read beyond it.",
     "usbip_protocol.rst, OP_REQ_IMPORT", import_no_nul, NULL},
    {"S038", "import-junk-after-nul", SHOULD, STRICT, NEED_DEVICE,
     "The busid ends at its NUL, whatever follows.", "usbip_protocol.rst, OP_REQ_IMPORT",
     import_junk_after_nul, NULL},
    {"S039", "import-truncated", MUST, STRICT, NEED_DEVICE,
     "A request that breaks off does not claim the device.", "usbip_protocol.rst, OP_REQ_IMPORT",
     import_truncated, NULL},
    {"S040", "import-busy", SHOULD, CORE, NEED_DEVICE,
     "An attached device is refused with ST_DEV_BUSY (any failure is a MUST), its owner unharmed.",
     "usbip_common.h of the Linux tools", import_busy, NULL},
    {"S041", "import-race", MUST, STRICT, NEED_DEVICE,
     "Of two imports at the same time exactly one succeeds.", "usbip_protocol.rst, OP_REP_IMPORT",
     import_race, NULL},
    {"S042", "import-in-use-by-host", MAY, STRICT, NEED_DEVICE,
     "An import may be refused while a program of the server's host uses the device.", "usbipd-win",
     NULL, "it needs such a program, and its server"},
    {"S043", "import-error-state", SHOULD, STRICT, NEED_DEVICE,
     "A device in error is refused with ST_DEV_ERR.", "usbip_common.h of the Linux tools", NULL,
     "no device can be brought into the error state without harm"},
    {"S044", "reimport-after-close", MUST, CORE, NEED_DEVICE,
     "When its client is gone a device can be imported again, if not at once then soon.",
     "usbip_protocol.rst, Architecture", reimport_after_close, NULL},
    {"S045", "import-pipelined-submit", MAY, STRICT, NEED_DEVICE,
     "A CMD_SUBMIT right behind OP_REQ_IMPORT may be answered, or not.",
     "no rule; clients wait for the reply", import_pipelined_submit, NULL},
    {"S046", "second-import-same-connection", SHOULD, STRICT, NEED_DEVICE,
     "Another OP_REQ_IMPORT on an imported connection ends it; the device does not change.",
     "usbip_protocol.rst, Architecture", second_import_same_connection, NULL},
    {"S047", "import-two-devices", MUST, STRICT, NEED_DEVICE | NEED_SECOND_DEVICE,
     "Two devices can be imported, each on its connection, and do not mix.",
     "usbip_protocol.rst, Architecture", import_two_devices, NULL},
    {"S048", "status-values", MUST, STRICT, NEED_DEVICE,
     "The status of a failure is one of 1 to 5.", "usbip_common.h of the Linux tools",
     status_values, NULL},
};

const struct section import_phase = {"C", "Import", cases, sizeof cases / sizeof cases[0]};
