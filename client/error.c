#include "client/error.h"

const char *usbip_error_name(int error)
{
    switch ((enum usbip_error)error) {
    case USBIP_ERROR_MEMORY:
        return "MEMORY";
    case USBIP_ERROR_ARGUMENT:
        return "ARGUMENT";
    case USBIP_ERROR_RESOLVE:
        return "RESOLVE";
    case USBIP_ERROR_CONNECT:
        return "CONNECT";
    case USBIP_ERROR_TIMEOUT:
        return "TIMEOUT";
    case USBIP_ERROR_DISCONNECTED:
        return "DISCONNECTED";
    case USBIP_ERROR_PROTOCOL:
        return "PROTOCOL";
    case USBIP_ERROR_VERSION:
        return "VERSION";
    case USBIP_ERROR_NOT_FOUND:
        return "NOT_FOUND";
    case USBIP_ERROR_BUSY:
        return "BUSY";
    case USBIP_ERROR_REFUSED:
        return "REFUSED";
    case USBIP_ERROR_STALL:
        return "STALL";
    case USBIP_ERROR_TRANSFER:
        return "TRANSFER";
    case USBIP_ERROR_UNSUPPORTED:
        return "UNSUPPORTED";
    case USBIP_ERROR_LIMIT:
        return "LIMIT";
    }
    return "unknown";
}
