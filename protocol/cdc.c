#include "protocol/cdc.h"

#include <string.h>

#include "protocol/bytes.h"

enum {
    FUNCTIONAL_MIN_SIZE = 3, /* bLength, bDescriptorType, bDescriptorSubtype */
    SERIAL_STATE_DATA_SIZE = CDC_SERIAL_STATE_SIZE - CDC_NOTIFICATION_SIZE,
    /* The bits of UART state bitmap are those of USBIP_MODEM_…, but for CTS. */
    SERIAL_STATE_MASK = USBIP_MODEM_DCD | USBIP_MODEM_DSR | USBIP_MODEM_BREAK | USBIP_MODEM_RI |
                        USBIP_MODEM_FRAMING | USBIP_MODEM_PARITY | USBIP_MODEM_OVERRUN,
};

static void store_functional(uint8_t *out, uint8_t bLength, uint8_t bDescriptorSubtype)
{
    out[0] = bLength;
    out[1] = USB_DT_CS_INTERFACE;
    out[2] = bDescriptorSubtype;
}

void usbip_cdc_encode_header(uint8_t out[CDC_HEADER_SIZE], uint16_t bcdCDC)
{
    store_functional(out, CDC_HEADER_SIZE, CDC_HEADER_TYPE);
    usbip_store_le16(out + 3, bcdCDC);
}

void usbip_cdc_encode_call_management(uint8_t out[CDC_CALL_MANAGEMENT_SIZE], uint8_t bmCapabilities,
                                      uint8_t bDataInterface)
{
    store_functional(out, CDC_CALL_MANAGEMENT_SIZE, CDC_CALL_MANAGEMENT_TYPE);
    out[3] = bmCapabilities;
    out[4] = bDataInterface;
}

void usbip_cdc_encode_acm(uint8_t out[CDC_ACM_SIZE], uint8_t bmCapabilities)
{
    store_functional(out, CDC_ACM_SIZE, CDC_ACM_TYPE);
    out[3] = bmCapabilities;
}

void usbip_cdc_encode_union(uint8_t out[CDC_UNION_SIZE], uint8_t bControlInterface,
                            uint8_t bSubordinateInterface0)
{
    store_functional(out, CDC_UNION_SIZE, CDC_UNION_TYPE);
    out[3] = bControlInterface;
    out[4] = bSubordinateInterface0;
}

/* Returns 0, or -1 when bLength is too small for the fields. */
static int collect(const uint8_t *descriptor, int bLength,
                   struct usbip_cdc_functional_descriptors *found)
{
    if (bLength < FUNCTIONAL_MIN_SIZE)
        return -1;
    switch (descriptor[2]) {
    case CDC_HEADER_TYPE:
        if (bLength < CDC_HEADER_SIZE)
            return -1;
        found->has_header = true;
        found->bcdCDC = usbip_load_le16(descriptor + 3);
        break;
    case CDC_CALL_MANAGEMENT_TYPE:
        if (bLength < CDC_CALL_MANAGEMENT_SIZE)
            return -1;
        found->has_call_management = true;
        found->call_management_bmCapabilities = descriptor[3];
        found->bDataInterface = descriptor[4];
        break;
    case CDC_ACM_TYPE:
        if (bLength < CDC_ACM_SIZE)
            return -1;
        found->has_acm = true;
        found->acm_bmCapabilities = descriptor[3];
        break;
    case CDC_UNION_TYPE:
        if (bLength < CDC_UNION_SIZE)
            return -1;
        found->has_union = true;
        found->bControlInterface = descriptor[3];
        found->bSubordinateInterface0 = descriptor[4];
        break;
    }
    return 0;
}

int usbip_cdc_parse_functional_descriptors(const uint8_t *extra, size_t size,
                                           struct usbip_cdc_functional_descriptors *found)
{
    size_t offset = 0;
    const uint8_t *descriptor;
    int bLength;

    memset(found, 0, sizeof(*found));
    while ((bLength = usbip_next_descriptor(extra, size, &offset, &descriptor)) > 0) {
        if (descriptor[1] == USB_DT_CS_INTERFACE && collect(descriptor, bLength, found) < 0)
            return -1;
    }
    return bLength;
}

void usbip_cdc_encode_line_coding(uint8_t out[CDC_LINE_CODING_SIZE],
                                  const struct usbip_line_coding *coding)
{
    usbip_store_le32(out, coding->dwDTERate);
    out[4] = coding->bCharFormat;
    out[5] = coding->bParityType;
    out[6] = coding->bDataBits;
}

void usbip_cdc_decode_line_coding(const uint8_t in[CDC_LINE_CODING_SIZE],
                                  struct usbip_line_coding *coding)
{
    coding->dwDTERate = usbip_load_le32(in);
    coding->bCharFormat = in[4];
    coding->bParityType = in[5];
    coding->bDataBits = in[6];
}

void usbip_cdc_encode_serial_state(uint8_t out[CDC_SERIAL_STATE_SIZE], uint8_t bInterfaceNumber,
                                   unsigned state)
{
    /* A notification is laid out as a setup packet, followed by its data. */
    const struct usbip_setup notification = {
        .bmRequestType = USB_DIR_IN | USB_TYPE_CLASS | USB_RECIP_INTERFACE,
        .bRequest = CDC_SERIAL_STATE,
        .wIndex = bInterfaceNumber,
        .wLength = SERIAL_STATE_DATA_SIZE,
    };

    usbip_encode_setup(out, &notification);
    usbip_store_le16(out + CDC_NOTIFICATION_SIZE, (uint16_t)(state & SERIAL_STATE_MASK));
}

int usbip_cdc_decode_serial_state(const uint8_t *in, size_t size)
{
    struct usbip_setup notification;

    if (size < CDC_SERIAL_STATE_SIZE)
        return -1;
    usbip_decode_setup(in, &notification);
    if (notification.bmRequestType != (USB_DIR_IN | USB_TYPE_CLASS | USB_RECIP_INTERFACE) ||
        notification.bRequest != CDC_SERIAL_STATE || notification.wLength != SERIAL_STATE_DATA_SIZE)
        return -1;
    return usbip_load_le16(in + CDC_NOTIFICATION_SIZE) & SERIAL_STATE_MASK;
}
