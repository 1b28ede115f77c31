#include <string.h>

#include "client/connection.h"

enum { ID_DIGITS = 4 };

/* The value of exactly four hexadecimal digits, or -1. */
static int32_t parse_id(const char *text)
{
    int32_t value = 0;
    for (int i = 0; i < ID_DIGITS; i++) {
        char c = text[i];
        int32_t digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10;
        else
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* Reads "VVVV:PPPP" or "VVVV:PPPP:serial". Returns 0 or -1. */
static int parse_identity(const char *text, struct usbip_device_match *match)
{
    int32_t vendor = parse_id(text);
    if (vendor < 0 || text[ID_DIGITS] != ':')
        return -1;
    text += ID_DIGITS + 1;
    int32_t product = parse_id(text);
    if (product < 0)
        return -1;
    text += ID_DIGITS;
    if (*text == ':') {
        size_t size = strlen(++text);
        if (size == 0 || size >= sizeof match->serial_number)
            return -1;
        memcpy(match->serial_number, text, size + 1);
    } else if (*text != '\0') {
        return -1;
    }
    match->has_id = true;
    match->idVendor = (uint16_t)vendor;
    match->idProduct = (uint16_t)product;
    return 0;
}

/* "1-1", "3-1.4" and "usbip-vudc.0" are what servers use. Returns 0 or -1. */
static int parse_busid(const char *text, struct usbip_device_match *match)
{
    static const char allowed[] = "0123456789-._"
                                  "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t size = strlen(text);
    if (size == 0 || size >= sizeof match->busid || strspn(text, allowed) != size)
        return -1;
    memcpy(match->busid, text, size + 1);
    return 0;
}

int usbip_device_match_parse(const char *text, struct usbip_device_match *match)
{
    memset(match, 0, sizeof *match);
    int result = strchr(text, ':') != NULL ? parse_identity(text, match) : parse_busid(text, match);
    if (result != 0) {
        memset(match, 0, sizeof *match);
        return USBIP_ERROR_ARGUMENT;
    }
    return 0;
}

bool usbip_device_match_record(const struct usbip_device_match *match,
                               const struct usbip_device_record *record)
{
    if (match->busid[0] != '\0' && strcmp(match->busid, record->busid) != 0)
        return false;
    return !match->has_id ||
           (match->idVendor == record->idVendor && match->idProduct == record->idProduct);
}
