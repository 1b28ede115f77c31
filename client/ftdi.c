/*
 * FTDI's chips as usbip_ftdi_find_chip() has them, with one port and with several.
 *
 * Requests: FTDI's, as Linux's ftdi_sio sends them. The low byte of wIndex names the port of a chip
 * with several, and is 0 on the others.
 */
#include "client/driver.h"

#include "protocol/ftdi.h"

enum {
    PACKET_SIZE_MASK = 0x07ff, /* wMaxPacketSize has other bits above, USB 2.0 table 9-13 */
    FALLBACK_PACKET_SIZE = 64, /* EEPROMs with wMaxPacketSize 0 were sold */
    FLOW_SHIFT = 8,            /* the kind of flow control is the high byte of wIndex */
    BOTH_LINES = FTDI_MODEM_CTRL_SET_DTR | FTDI_MODEM_CTRL_SET_RTS,
};

static uint16_t packet_size(const struct usbip_endpoint_descriptor *endpoint)
{
    unsigned size = endpoint->wMaxPacketSize & PACKET_SIZE_MASK;

    return (uint16_t)(size > 0 ? size : FALLBACK_PACKET_SIZE);
}

/* FTDI's customers have ids of theirs below FTDI's vendor id, so idProduct says nothing. */
static bool probe(const struct usbip_device_descriptor *device,
                  const struct usbip_configuration *configuration, struct usbip_chip *chip)
{
    const struct usbip_ftdi_chip *type = usbip_ftdi_find_chip(device->bcdDevice);
    const struct usbip_altsetting *setting;
    const struct usbip_endpoint_descriptor *in, *out;

    if (device->idVendor != FTDI_VENDOR_ID || type == NULL)
        return false;
    chip->name = type->name;
    chip->ports = type->ports;
    chip->is_hi_speed = type->is_hi_speed;
    if (chip->port > type->ports)
        return true;
    setting = usbip_find_altsetting(configuration, (uint8_t)(chip->port - 1), 0);
    if (setting == NULL || setting->descriptor.bInterfaceClass != USB_CLASS_VENDOR_SPEC)
        return false;
    in = usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_BULK, USB_DIR_IN);
    out = usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_BULK, 0);
    if (in == NULL || out == NULL)
        return false;

    chip->data_type = USB_ENDPOINT_XFER_BULK;
    chip->bulk_in = in->bEndpointAddress;
    chip->bulk_in_packet_size = packet_size(in);
    chip->bulk_out = out->bEndpointAddress;
    chip->bulk_out_packet_size = packet_size(out);
    return true;
}

/* wIndex without the port. */
static void add(const struct usbip_chip *chip, struct usbip_request_list *list, uint8_t bRequest,
                uint16_t wValue, uint16_t wIndex)
{
    const uint16_t port = chip->ports > 1 ? chip->port : 0;
    const struct usbip_setup setup = {
        .bmRequestType = USB_TYPE_VENDOR | USB_RECIP_DEVICE,
        .bRequest = bRequest,
        .wValue = wValue,
        .wIndex = wIndex | port,
    };

    usbip_request_list_add(list, setup, NULL);
}

static uint32_t encode_baud_rate(const struct usbip_chip *chip, uint32_t rate, uint16_t *wValue,
                                 uint16_t *wIndex)
{
    return chip->is_hi_speed ? usbip_ftdi_encode_hi_speed_baud_rate(rate, wValue, wIndex)
                             : usbip_ftdi_encode_baud_rate(rate, wValue, wIndex);
}

static int line_coding(const struct usbip_chip *chip, const struct usbip_line_coding *coding,
                       struct usbip_request_list *list)
{
    uint16_t format, divisor, divisor_high;

    if (usbip_ftdi_encode_line_format(coding, &format) < 0 ||
        encode_baud_rate(chip, coding->dwDTERate, &divisor, &divisor_high) == 0)
        return -1;
    add(chip, list, FTDI_SIO_SET_DATA, format, 0);
    add(chip, list, FTDI_SIO_SET_BAUD_RATE, divisor, divisor_high);
    return 0;
}

static int open_chip(const struct usbip_chip *chip, const struct usbip_serial_settings *settings,
                     struct usbip_request_list *list)
{
    add(chip, list, FTDI_SIO_RESET, FTDI_SIO_RESET_SIO, 0);
    add(chip, list, FTDI_SIO_SET_LATENCY_TIMER, (uint16_t)(settings->latency_timer_ms & 0xff), 0);
    if (line_coding(chip, &settings->line_coding, list) < 0)
        return -1;
    add(chip, list, FTDI_SIO_SET_FLOW_CTRL, 0, FTDI_FLOW_NONE << FLOW_SHIFT);
    return 0;
}

static int control_lines(const struct usbip_chip *chip, unsigned lines,
                         struct usbip_request_list *list)
{
    unsigned wValue = BOTH_LINES;

    if (lines & USBIP_LINE_DTR)
        wValue |= FTDI_MODEM_CTRL_DTR;
    if (lines & USBIP_LINE_RTS)
        wValue |= FTDI_MODEM_CTRL_RTS;
    add(chip, list, FTDI_SIO_MODEM_CTRL, (uint16_t)wValue, 0);
    return 0;
}

/* Break is a bit of the line format, which has to be repeated with it. */
static int set_break(const struct usbip_chip *chip, const struct usbip_line_coding *coding, bool on,
                     struct usbip_request_list *list)
{
    uint16_t format;

    if (usbip_ftdi_encode_line_format(coding, &format) < 0)
        return -1;
    add(chip, list, FTDI_SIO_SET_DATA, on ? format | FTDI_SET_DATA_BREAK : format, 0);
    return 0;
}

static int close_chip(const struct usbip_chip *chip, struct usbip_request_list *list)
{
    add(chip, list, FTDI_SIO_SET_FLOW_CTRL, 0, FTDI_FLOW_NONE << FLOW_SHIFT);
    return control_lines(chip, 0, list);
}

static size_t received(const struct usbip_chip *chip, uint8_t *data, size_t size, unsigned *modem)
{
    return usbip_ftdi_strip_status(data, data, size, chip->bulk_in_packet_size, modem);
}

const struct usbip_driver usbip_driver_ftdi = {
    .name = "FTDI",
    /* The chip ends every transfer by a short packet, at the latest after its latency timer. */
    .may_forget_to_end = false,
    .probe = probe,
    .open = open_chip,
    .line_coding = line_coding,
    .control_lines = control_lines,
    .set_break = set_break,
    .close = close_chip,
    .received = received,
};
