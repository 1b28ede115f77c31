#include "protocol/usb.h"

#include <string.h>

#include "protocol/bytes.h"

enum {
    STRING_HEADER_SIZE = 2,
    STRING_MAX_UNITS = (USB_DT_STRING_MAX_SIZE - STRING_HEADER_SIZE) / 2,
    HIGH_SURROGATE_FIRST = 0xd800,
    LOW_SURROGATE_FIRST = 0xdc00,
    SURROGATE_LAST = 0xdfff,
    SURROGATE_BITS = 10,
    SURROGATE_MASK = (1 << SURROGATE_BITS) - 1,
    SUPPLEMENTARY_FIRST = 0x10000,
    REPLACEMENT_CHARACTER = 0xfffd,
    CODE_POINT_LAST = 0x10ffff,
    UTF8_MAX_SIZE = 4,
};

void usbip_encode_setup(uint8_t out[USBIP_SETUP_SIZE], const struct usbip_setup *setup)
{
    out[0] = setup->bmRequestType;
    out[1] = setup->bRequest;
    usbip_store_le16(out + 2, setup->wValue);
    usbip_store_le16(out + 4, setup->wIndex);
    usbip_store_le16(out + 6, setup->wLength);
}

void usbip_decode_setup(const uint8_t in[USBIP_SETUP_SIZE], struct usbip_setup *setup)
{
    setup->bmRequestType = in[0];
    setup->bRequest = in[1];
    setup->wValue = usbip_load_le16(in + 2);
    setup->wIndex = usbip_load_le16(in + 4);
    setup->wLength = usbip_load_le16(in + 6);
}

const char *usbip_standard_request_name(uint8_t bRequest)
{
    switch (bRequest) {
    case USB_REQ_GET_STATUS:
        return "GET_STATUS";
    case USB_REQ_CLEAR_FEATURE:
        return "CLEAR_FEATURE";
    case USB_REQ_SET_FEATURE:
        return "SET_FEATURE";
    case USB_REQ_SET_ADDRESS:
        return "SET_ADDRESS";
    case USB_REQ_GET_DESCRIPTOR:
        return "GET_DESCRIPTOR";
    case USB_REQ_SET_DESCRIPTOR:
        return "SET_DESCRIPTOR";
    case USB_REQ_GET_CONFIGURATION:
        return "GET_CONFIGURATION";
    case USB_REQ_SET_CONFIGURATION:
        return "SET_CONFIGURATION";
    case USB_REQ_GET_INTERFACE:
        return "GET_INTERFACE";
    case USB_REQ_SET_INTERFACE:
        return "SET_INTERFACE";
    case USB_REQ_SYNCH_FRAME:
        return "SYNCH_FRAME";
    default:
        return "unknown";
    }
}

void usbip_encode_device_descriptor(uint8_t out[USB_DT_DEVICE_SIZE],
                                    const struct usbip_device_descriptor *d)
{
    out[0] = USB_DT_DEVICE_SIZE;
    out[1] = USB_DT_DEVICE;
    usbip_store_le16(out + 2, d->bcdUSB);
    out[4] = d->bDeviceClass;
    out[5] = d->bDeviceSubClass;
    out[6] = d->bDeviceProtocol;
    out[7] = d->bMaxPacketSize0;
    usbip_store_le16(out + 8, d->idVendor);
    usbip_store_le16(out + 10, d->idProduct);
    usbip_store_le16(out + 12, d->bcdDevice);
    out[14] = d->iManufacturer;
    out[15] = d->iProduct;
    out[16] = d->iSerialNumber;
    out[17] = d->bNumConfigurations;
}

void usbip_encode_qualifier_descriptor(uint8_t out[USB_DT_DEVICE_QUALIFIER_SIZE],
                                       const struct usbip_qualifier_descriptor *d)
{
    out[0] = USB_DT_DEVICE_QUALIFIER_SIZE;
    out[1] = USB_DT_DEVICE_QUALIFIER;
    usbip_store_le16(out + 2, d->bcdUSB);
    out[4] = d->bDeviceClass;
    out[5] = d->bDeviceSubClass;
    out[6] = d->bDeviceProtocol;
    out[7] = d->bMaxPacketSize0;
    out[8] = d->bNumConfigurations;
    out[9] = 0; /* bReserved */
}

void usbip_encode_config_descriptor(uint8_t out[USB_DT_CONFIG_SIZE],
                                    const struct usbip_config_descriptor *d)
{
    out[0] = USB_DT_CONFIG_SIZE;
    out[1] = USB_DT_CONFIG;
    usbip_store_le16(out + 2, d->wTotalLength);
    out[4] = d->bNumInterfaces;
    out[5] = d->bConfigurationValue;
    out[6] = d->iConfiguration;
    out[7] = d->bmAttributes;
    out[8] = d->bMaxPower;
}

void usbip_encode_interface_descriptor(uint8_t out[USB_DT_INTERFACE_SIZE],
                                       const struct usbip_interface_descriptor *d)
{
    out[0] = USB_DT_INTERFACE_SIZE;
    out[1] = USB_DT_INTERFACE;
    out[2] = d->bInterfaceNumber;
    out[3] = d->bAlternateSetting;
    out[4] = d->bNumEndpoints;
    out[5] = d->bInterfaceClass;
    out[6] = d->bInterfaceSubClass;
    out[7] = d->bInterfaceProtocol;
    out[8] = d->iInterface;
}

void usbip_encode_interface_association_descriptor(
    uint8_t out[USB_DT_INTERFACE_ASSOCIATION_SIZE],
    const struct usbip_interface_association_descriptor *d)
{
    out[0] = USB_DT_INTERFACE_ASSOCIATION_SIZE;
    out[1] = USB_DT_INTERFACE_ASSOCIATION;
    out[2] = d->bFirstInterface;
    out[3] = d->bInterfaceCount;
    out[4] = d->bFunctionClass;
    out[5] = d->bFunctionSubClass;
    out[6] = d->bFunctionProtocol;
    out[7] = d->iFunction;
}

void usbip_encode_endpoint_descriptor(uint8_t out[USB_DT_ENDPOINT_SIZE],
                                      const struct usbip_endpoint_descriptor *d)
{
    out[0] = USB_DT_ENDPOINT_SIZE;
    out[1] = USB_DT_ENDPOINT;
    out[2] = d->bEndpointAddress;
    out[3] = d->bmAttributes;
    usbip_store_le16(out + 4, d->wMaxPacketSize);
    out[6] = d->bInterval;
}

static bool is_descriptor(const uint8_t *in, size_t size, uint8_t type, size_t least_size)
{
    return size >= least_size && in[0] >= least_size && in[1] == type;
}

int usbip_decode_device_descriptor(const uint8_t *in, size_t size,
                                   struct usbip_device_descriptor *d)
{
    if (!is_descriptor(in, size, USB_DT_DEVICE, USB_DT_DEVICE_SIZE))
        return -1;
    d->bcdUSB = usbip_load_le16(in + 2);
    d->bDeviceClass = in[4];
    d->bDeviceSubClass = in[5];
    d->bDeviceProtocol = in[6];
    d->bMaxPacketSize0 = in[7];
    d->idVendor = usbip_load_le16(in + 8);
    d->idProduct = usbip_load_le16(in + 10);
    d->bcdDevice = usbip_load_le16(in + 12);
    d->iManufacturer = in[14];
    d->iProduct = in[15];
    d->iSerialNumber = in[16];
    d->bNumConfigurations = in[17];
    return 0;
}

int usbip_decode_qualifier_descriptor(const uint8_t *in, size_t size,
                                      struct usbip_qualifier_descriptor *d)
{
    if (!is_descriptor(in, size, USB_DT_DEVICE_QUALIFIER, USB_DT_DEVICE_QUALIFIER_SIZE))
        return -1;
    d->bcdUSB = usbip_load_le16(in + 2);
    d->bDeviceClass = in[4];
    d->bDeviceSubClass = in[5];
    d->bDeviceProtocol = in[6];
    d->bMaxPacketSize0 = in[7];
    d->bNumConfigurations = in[8];
    return 0;
}

int usbip_decode_config_descriptor(const uint8_t *in, size_t size,
                                   struct usbip_config_descriptor *d)
{
    if (!is_descriptor(in, size, USB_DT_CONFIG, USB_DT_CONFIG_SIZE))
        return -1;
    d->wTotalLength = usbip_load_le16(in + 2);
    d->bNumInterfaces = in[4];
    d->bConfigurationValue = in[5];
    d->iConfiguration = in[6];
    d->bmAttributes = in[7];
    d->bMaxPower = in[8];
    return 0;
}

int usbip_decode_interface_descriptor(const uint8_t *in, size_t size,
                                      struct usbip_interface_descriptor *d)
{
    if (!is_descriptor(in, size, USB_DT_INTERFACE, USB_DT_INTERFACE_SIZE))
        return -1;
    d->bInterfaceNumber = in[2];
    d->bAlternateSetting = in[3];
    d->bNumEndpoints = in[4];
    d->bInterfaceClass = in[5];
    d->bInterfaceSubClass = in[6];
    d->bInterfaceProtocol = in[7];
    d->iInterface = in[8];
    return 0;
}

int usbip_decode_interface_association_descriptor(const uint8_t *in, size_t size,
                                                  struct usbip_interface_association_descriptor *d)
{
    if (!is_descriptor(in, size, USB_DT_INTERFACE_ASSOCIATION, USB_DT_INTERFACE_ASSOCIATION_SIZE))
        return -1;
    d->bFirstInterface = in[2];
    d->bInterfaceCount = in[3];
    d->bFunctionClass = in[4];
    d->bFunctionSubClass = in[5];
    d->bFunctionProtocol = in[6];
    d->iFunction = in[7];
    return 0;
}

int usbip_decode_endpoint_descriptor(const uint8_t *in, size_t size,
                                     struct usbip_endpoint_descriptor *d)
{
    if (!is_descriptor(in, size, USB_DT_ENDPOINT, USB_DT_ENDPOINT_SIZE))
        return -1;
    d->bEndpointAddress = in[2];
    d->bmAttributes = in[3];
    d->wMaxPacketSize = usbip_load_le16(in + 4);
    d->bInterval = in[6];
    return 0;
}

static bool is_surrogate(uint32_t code)
{
    return code >= HIGH_SURROGATE_FIRST && code <= SURROGATE_LAST;
}

/* Reads one code point of a NUL-terminated text. Returns its size in bytes, or -1. */
static int load_utf8(const char *text, uint32_t *code)
{
    /* The smallest code point for each size: anything below is an overlong form. */
    static const uint32_t least[UTF8_MAX_SIZE + 1] = {0, 0, 0x80, 0x800, SUPPLEMENTARY_FIRST};
    uint8_t first = (uint8_t)text[0];
    int size;

    if (first < 0x80) {
        *code = first;
        return 1;
    }
    if ((first & 0xe0) == 0xc0) {
        size = 2;
        *code = first & 0x1f;
    } else if ((first & 0xf0) == 0xe0) {
        size = 3;
        *code = first & 0x0f;
    } else if ((first & 0xf8) == 0xf0) {
        size = 4;
        *code = first & 0x07;
    } else {
        return -1;
    }
    /* The NUL at the end is no continuation byte, so this never reads behind it. */
    for (int i = 1; i < size; i++) {
        uint8_t next = (uint8_t)text[i];

        if ((next & 0xc0) != 0x80)
            return -1;
        *code = *code << 6 | (next & 0x3f);
    }
    if (*code < least[size] || *code > CODE_POINT_LAST || is_surrogate(*code))
        return -1;
    return size;
}

/* Returns the number of bytes written. */
static size_t store_utf8(char out[UTF8_MAX_SIZE], uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < SUPPLEMENTARY_FIRST) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Returns the number of units, 1 or 2. */
static size_t split_utf16(uint32_t code, uint16_t units[2])
{
    if (code < SUPPLEMENTARY_FIRST) {
        units[0] = (uint16_t)code;
        return 1;
    }
    code -= SUPPLEMENTARY_FIRST;
    units[0] = (uint16_t)(HIGH_SURROGATE_FIRST | code >> SURROGATE_BITS);
    units[1] = (uint16_t)(LOW_SURROGATE_FIRST | (code & SURROGATE_MASK));
    return 2;
}

/* Reads one code point from `count` units, at least 1. Returns the number of units read. */
static size_t load_utf16(const uint8_t *units, size_t count, uint32_t *code)
{
    uint32_t low;

    *code = usbip_load_le16(units);
    if (!is_surrogate(*code))
        return 1;
    if (*code < LOW_SURROGATE_FIRST && count > 1) {
        low = usbip_load_le16(units + 2);
        if (low >= LOW_SURROGATE_FIRST && low <= SURROGATE_LAST) {
            *code = SUPPLEMENTARY_FIRST +
                    ((*code & SURROGATE_MASK) << SURROGATE_BITS | (low & SURROGATE_MASK));
            return 2;
        }
    }
    *code = REPLACEMENT_CHARACTER;
    return 1;
}

int usbip_encode_string_descriptor(uint8_t out[USB_DT_STRING_MAX_SIZE], const char *text)
{
    size_t total = 0;

    while (*text != '\0') {
        uint32_t code;
        uint16_t units[2];
        size_t count;
        int read = load_utf8(text, &code);

        if (read < 0)
            return -1;
        text += read;
        count = split_utf16(code, units);
        if (total + count > STRING_MAX_UNITS)
            return -1;
        for (size_t i = 0; i < count; i++)
            usbip_store_le16(out + STRING_HEADER_SIZE + 2 * total++, units[i]);
    }
    out[0] = (uint8_t)(STRING_HEADER_SIZE + 2 * total);
    out[1] = USB_DT_STRING;
    return out[0];
}

int usbip_decode_string_descriptor(const uint8_t *in, size_t size, char *text, size_t text_size)
{
    size_t units;
    size_t length = 0;

    if (!is_descriptor(in, size, USB_DT_STRING, STRING_HEADER_SIZE))
        return -1;
    if (in[0] > size || in[0] % 2 != 0)
        return -1;
    units = (in[0] - (size_t)STRING_HEADER_SIZE) / 2;
    in += STRING_HEADER_SIZE;

    while (units > 0) {
        uint32_t code;
        char utf8[UTF8_MAX_SIZE];
        size_t used = load_utf16(in, units, &code);
        size_t written;

        if (code == 0)
            break;
        written = store_utf8(utf8, code);
        if (written >= text_size - length)
            return -1;
        memcpy(text + length, utf8, written);
        length += written;
        in += 2 * used;
        units -= used;
    }
    if (length >= text_size)
        return -1;
    text[length] = '\0';
    return (int)length;
}

int usbip_next_descriptor(const uint8_t *bytes, size_t size, size_t *offset,
                          const uint8_t **descriptor)
{
    size_t left = size - *offset;
    uint8_t bLength;

    if (left == 0)
        return 0;
    bLength = bytes[*offset];
    if (bLength < 2 || bLength > left)
        return -1;
    *descriptor = bytes + *offset;
    *offset += bLength;
    return bLength;
}
