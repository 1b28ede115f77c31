/* Errors of the client library. Functions return 0 or a positive count, or one of these. */
#ifndef CLIENT_ERROR_H
#define CLIENT_ERROR_H

enum usbip_error {
    USBIP_ERROR_MEMORY = -1,       /* out of memory */
    USBIP_ERROR_ARGUMENT = -2,     /* a malformed argument or a call in the wrong state */
    USBIP_ERROR_RESOLVE = -3,      /* host name unknown */
    USBIP_ERROR_CONNECT = -4,      /* no address of the host accepts the connection */
    USBIP_ERROR_TIMEOUT = -5,      /* no answer in time */
    USBIP_ERROR_DISCONNECTED = -6, /* the connection ended */
    USBIP_ERROR_PROTOCOL = -7,     /* the peer breaks the protocol */
    USBIP_ERROR_VERSION = -8,      /* the peer speaks another protocol version */
    USBIP_ERROR_NOT_FOUND = -9,    /* no such device (ST_NODEV, or none matches) */
    USBIP_ERROR_BUSY = -10,        /* the device is attached to another client (ST_DEV_BUSY) */
    USBIP_ERROR_REFUSED = -11,     /* the server refuses the device for another reason */
    USBIP_ERROR_STALL = -12,       /* the device stalled a request or an endpoint */
    USBIP_ERROR_TRANSFER = -13,    /* a transfer failed with another USB error */
    USBIP_ERROR_UNSUPPORTED = -14, /* no driver for this device, or the chip cannot do it */
    USBIP_ERROR_LIMIT = -15,       /* a named limit would be exceeded */
};

/* "TIMEOUT" and so on; "unknown" for other numbers. */
const char *usbip_error_name(int error);

enum { USBIP_ERROR_TEXT_SIZE = 256 };

#endif
