/* Names and meanings of the numbers in USB/IP messages. */
#include "protocol/usbip.h"

static const char unknown[] = "unknown";

struct meaning {
    uint32_t value;
    const char *name;
    const char *text;
};

static const struct meaning op_statuses[] = {
    {USBIP_ST_OK, "ST_OK", "success"},
    {USBIP_ST_NA, "ST_NA", "device is not available"},
    {USBIP_ST_DEV_BUSY, "ST_DEV_BUSY", "device is attached to another client"},
    {USBIP_ST_DEV_ERR, "ST_DEV_ERR", "device is in an error state"},
    {USBIP_ST_NODEV, "ST_NODEV", "no such device, or it is not shared"},
    {USBIP_ST_ERROR, "ST_ERROR", "server failed"},
};

static const struct meaning urb_statuses[] = {
    {0, "OK", "success"},
    {USBIP_ENOENT, "ENOENT", "transfer was cancelled or its endpoint does not exist"},
    {USBIP_EIO, "EIO", "input or output failed"},
    {USBIP_ENOMEM, "ENOMEM", "out of memory"},
    {USBIP_EXDEV, "EXDEV", "isochronous transfer was only partly done"},
    {USBIP_ENODEV, "ENODEV", "device is gone"},
    {USBIP_EINVAL, "EINVAL", "transfer was not valid"},
    {USBIP_EPIPE, "EPIPE", "endpoint stalled"},
    {USBIP_ETIME, "ETIME", "device did not respond"},
    {USBIP_EPROTO, "EPROTO", "bus protocol error"},
    {USBIP_EOVERFLOW, "EOVERFLOW", "device sent more than was asked for"},
    {USBIP_EILSEQ, "EILSEQ", "checksum error on the bus"},
    {USBIP_ECONNRESET, "ECONNRESET", "transfer was unlinked"},
    {USBIP_ESHUTDOWN, "ESHUTDOWN", "endpoint was shut down"},
    {USBIP_ETIMEDOUT, "ETIMEDOUT", "transfer timed out"},
    {USBIP_EINPROGRESS, "EINPROGRESS", "transfer is still in progress"},
    {USBIP_EREMOTEIO, "EREMOTEIO", "device sent less than was asked for"},
};

static const struct meaning not_found = {0, unknown, unknown};

static const struct meaning *find(const struct meaning *meanings, size_t count, uint32_t value)
{
    for (size_t i = 0; i < count; i++) {
        if (meanings[i].value == value)
            return &meanings[i];
    }
    return &not_found;
}

static const struct meaning *find_op_status(uint32_t status)
{
    return find(op_statuses, sizeof(op_statuses) / sizeof(op_statuses[0]), status);
}

static const struct meaning *find_urb_status(int32_t status)
{
    /* Negated as unsigned, because -INT32_MIN does not exist. */
    uint32_t magnitude = status < 0 ? 0u - (uint32_t)status : (uint32_t)status;

    return find(urb_statuses, sizeof(urb_statuses) / sizeof(urb_statuses[0]), magnitude);
}

const char *usbip_op_status_name(uint32_t status)
{
    return find_op_status(status)->name;
}

const char *usbip_op_status_text(uint32_t status)
{
    return find_op_status(status)->text;
}

const char *usbip_command_name(uint32_t command)
{
    switch (command) {
    case USBIP_CMD_SUBMIT:
        return "CMD_SUBMIT";
    case USBIP_CMD_UNLINK:
        return "CMD_UNLINK";
    case USBIP_RET_SUBMIT:
        return "RET_SUBMIT";
    case USBIP_RET_UNLINK:
        return "RET_UNLINK";
    default:
        return unknown;
    }
}

const char *usbip_speed_name(uint32_t speed)
{
    switch (speed) {
    case USBIP_SPEED_LOW:
        return "low";
    case USBIP_SPEED_FULL:
        return "full";
    case USBIP_SPEED_HIGH:
        return "high";
    case USBIP_SPEED_WIRELESS:
        return "wireless";
    case USBIP_SPEED_SUPER:
        return "super";
    case USBIP_SPEED_SUPER_PLUS:
        return "super+";
    default:
        return unknown;
    }
}

const char *usbip_status_name(int32_t status)
{
    return find_urb_status(status)->name;
}

const char *usbip_status_text(int32_t status)
{
    return find_urb_status(status)->text;
}
