#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/session_internal.h"

#include "protocol/bytes.h"

enum { MAX_INTERFACES = UINT8_MAX }; /* bNumInterfaces is one byte */

static int check_new(const struct usbip_host_session *session)
{
    if (session->phase == PHASE_FAILED)
        return USBIP_ERROR_DISCONNECTED;
    return session->phase == PHASE_NEW ? 0 : USBIP_ERROR_ARGUMENT;
}

int usbip_host_session_request_devlist(struct usbip_host_session *session)
{
    int error = check_new(session);
    if (error != 0)
        return error;
    uint8_t request[USBIP_OP_COMMON_SIZE];
    usbip_encode_op_common(
        request, &(struct usbip_op_common){.version = USBIP_VERSION, .code = OP_REQ_DEVLIST});
    if (usbip_buffer_append(&session->output->bytes, request, sizeof request) != 0)
        return USBIP_ERROR_MEMORY;
    session->phase = PHASE_DEVLIST_HEADER;
    return 0;
}

int usbip_host_session_request_import(struct usbip_host_session *session, const char *busid)
{
    int error = check_new(session);
    if (error != 0)
        return error;
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    if (busid[0] == '\0' || usbip_encode_import_request(request, busid) != 0)
        return USBIP_ERROR_ARGUMENT;
    if (usbip_buffer_append(&session->output->bytes, request, sizeof request) != 0)
        return USBIP_ERROR_MEMORY;
    snprintf(session->busid, sizeof session->busid, "%s", busid);
    session->phase = PHASE_IMPORT;
    return 0;
}

/* Checks what all OP replies begin with. */
static int check_op_common(struct usbip_host_session *session, const struct usbip_op_common *common,
                           uint16_t code)
{
    const char *name = code == OP_REP_IMPORT ? "OP_REP_IMPORT" : "OP_REP_DEVLIST";
    if (common->version != USBIP_VERSION) {
        return usbip_host_session_give_up(
            session, USBIP_ERROR_VERSION,
            "%s has version 0x%04x where 0x%04x is expected: is that a USB/IP server of "
            "version 1.1.1?",
            name, common->version, USBIP_VERSION);
    }
    if (common->code != code) {
        return usbip_host_session_give_up(session, USBIP_ERROR_PROTOCOL,
                                          "reply code 0x%04x where %s (0x%04x) is expected",
                                          common->code, name, code);
    }
    return 0;
}

static const char *import_remedy(uint32_t status)
{
    switch (status) {
    case USBIP_ST_NODEV:
        return "is it plugged in and bound on the server?";
    case USBIP_ST_DEV_BUSY:
        return "detach it there or try again later";
    case USBIP_ST_DEV_ERR:
        return "plug it in again; on Windows a filter driver such as USBPcap may hold it";
    default:
        /* Some servers say ST_NA whatever is the matter. */
        return "is it there, bound and not attached elsewhere? see the server's log";
    }
}

static int import_error(uint32_t status)
{
    switch (status) {
    case USBIP_ST_NODEV:
        return USBIP_ERROR_NOT_FOUND;
    case USBIP_ST_DEV_BUSY:
        return USBIP_ERROR_BUSY;
    default:
        return USBIP_ERROR_REFUSED;
    }
}

static int refuse(struct usbip_host_session *session, uint32_t status)
{
    const char *name = usbip_op_status_name(status);
    const char *text = usbip_op_status_text(status);
    if (session->phase == PHASE_IMPORT) {
        usbip_host_session_give_up(session, import_error(status),
                                   "import of busid %s refused with status %" PRIu32
                                   " (%s: %s); %s",
                                   session->busid, status, name, text, import_remedy(status));
    } else {
        usbip_host_session_give_up(session, USBIP_ERROR_REFUSED,
                                   "device list refused with status %" PRIu32
                                   " (%s: %s); see the server's log",
                                   status, name, text);
    }
    if (session->events.refused != NULL)
        session->events.refused(session->context, status);
    return session->error;
}

/* The two OP replies begin alike: a refused request has no body, and must not be waited for. */
static int64_t op_reply_size(struct usbip_host_session *session, const uint8_t *bytes, size_t have,
                             uint16_t code, size_t whole_size)
{
    if (have < USBIP_OP_COMMON_SIZE)
        return USBIP_OP_COMMON_SIZE;
    struct usbip_op_common common;
    usbip_decode_op_common(bytes, &common);
    int error = check_op_common(session, &common, code);
    if (error != 0)
        return error;
    return common.status == USBIP_ST_OK ? (int64_t)whole_size : USBIP_OP_COMMON_SIZE;
}

/* Negative when the session is over, well or not. */
static int devlist_goes_on(struct usbip_host_session *session)
{
    if (session->phase == PHASE_FAILED)
        return session->error;
    if (session->devices_left > 0) {
        session->phase = PHASE_DEVLIST_RECORD;
        return 0;
    }
    session->phase = PHASE_DEVLIST_END;
    if (session->events.devlist_end != NULL)
        session->events.devlist_end(session->context);
    return -1;
}

static int receive_devlist_header(struct usbip_host_session *session, const uint8_t *bytes)
{
    struct usbip_op_common common;
    usbip_decode_op_common(bytes, &common);
    if (common.status != USBIP_ST_OK)
        return refuse(session, common.status);
    uint32_t count = usbip_load_be32(bytes + USBIP_OP_COMMON_SIZE);
    if (count > USBIP_MAX_LISTED_DEVICES) {
        return usbip_host_session_give_up(session, USBIP_ERROR_LIMIT,
                                          "OP_REP_DEVLIST announces %" PRIu32
                                          " devices; the limit is %d",
                                          count, USBIP_MAX_LISTED_DEVICES);
    }
    session->devices_left = count;
    return devlist_goes_on(session);
}

static int64_t devlist_record_size(const uint8_t *bytes, size_t have)
{
    if (have < USBIP_DEVICE_RECORD_SIZE)
        return USBIP_DEVICE_RECORD_SIZE;
    struct usbip_device_record record;
    usbip_decode_device_record(bytes, &record);
    return USBIP_DEVICE_RECORD_SIZE + record.bNumInterfaces * USBIP_INTERFACE_RECORD_SIZE;
}

static int receive_devlist_record(struct usbip_host_session *session, const uint8_t *bytes)
{
    struct usbip_device_record record;
    usbip_decode_device_record(bytes, &record);
    struct usbip_interface_record interfaces[MAX_INTERFACES];
    for (unsigned i = 0; i < record.bNumInterfaces; i++) {
        usbip_decode_interface_record(
            bytes + USBIP_DEVICE_RECORD_SIZE + i * USBIP_INTERFACE_RECORD_SIZE, &interfaces[i]);
    }
    session->devices_left--;
    if (session->events.device != NULL)
        session->events.device(session->context, &record, interfaces, record.bNumInterfaces);
    return devlist_goes_on(session);
}

static int receive_import(struct usbip_host_session *session, const uint8_t *bytes)
{
    struct usbip_op_common common;
    usbip_decode_op_common(bytes, &common);
    if (common.status != USBIP_ST_OK)
        return refuse(session, common.status);
    struct usbip_device_record record;
    usbip_decode_device_record(bytes + USBIP_OP_COMMON_SIZE, &record);
    if (strcmp(record.busid, session->busid) != 0) {
        return usbip_host_session_give_up(session, USBIP_ERROR_PROTOCOL,
                                          "OP_REP_IMPORT has busid \"%s\" where %s was asked for",
                                          record.busid, session->busid);
    }
    session->devid = usbip_devid(&record);
    session->phase = PHASE_URB;
    if (session->events.imported != NULL)
        session->events.imported(session->context, &record);
    return session->error;
}

int64_t usbip_host_session_op_size(struct usbip_host_session *session, const uint8_t *bytes,
                                   size_t have)
{
    switch (session->phase) {
    case PHASE_DEVLIST_HEADER:
        return op_reply_size(session, bytes, have, OP_REP_DEVLIST, USBIP_DEVLIST_REPLY_HEADER_SIZE);
    case PHASE_DEVLIST_RECORD:
        return devlist_record_size(bytes, have);
    default:
        return op_reply_size(session, bytes, have, OP_REP_IMPORT, USBIP_IMPORT_REPLY_SIZE);
    }
}

int usbip_host_session_op(struct usbip_host_session *session, const uint8_t *bytes)
{
    switch (session->phase) {
    case PHASE_DEVLIST_HEADER:
        return receive_devlist_header(session, bytes);
    case PHASE_DEVLIST_RECORD:
        return receive_devlist_record(session, bytes);
    default:
        return receive_import(session, bytes);
    }
}
