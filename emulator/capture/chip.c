#include "emulator/capture/chip.h"

#include <stddef.h>

#include "protocol/cdc.h"
#include "protocol/configuration.h"
#include "protocol/ftdi.h"

enum {
    SILABS_VENDOR_ID = 0x10c4,
    QINHENG_VENDOR_ID = 0x1a86,
    PROLIFIC_VENDOR_ID = 0x067b,
};

/* Requests that tell the other families; those of FTDI and CDC are in protocol/. */
enum {
    CP210X_IFC_ENABLE = 0x00,
    CP210X_SET_LINE_CTL = 0x03,
    CP210X_SET_MHS = 0x07,
    CP210X_SET_BAUDRATE = 0x1e,
    CH34X_READ_VERSION = 0x5f,
    CH34X_READ_REGISTER = 0x95,
    CH34X_WRITE_REGISTER = 0x9a,
    CH34X_SERIAL_INIT = 0xa1,
    CH34X_MODEM_CTRL = 0xa4,
    PL2303_VENDOR_READ = 0x01,
    PL2303_PROBE = 0x8484, /* its wValue */
};

static const struct usbip_chip cdc_acm = {USBIP_CHIP_CDC_ACM, "CDC-ACM", 0, 0, 0, false, 64, 1, 64};

/* In the order in which traffic alone is matched: the usual ones first. */
static const struct usbip_chip ftdi_chips[] = {
    {USBIP_CHIP_FTDI, "FT232R", FTDI_VENDOR_ID, 0x6001, 0x0600, false, 8, 1, 64},
    {USBIP_CHIP_FTDI, "FT232H", FTDI_VENDOR_ID, 0x6014, 0x0900, true, 64, 1, 512},
    {USBIP_CHIP_FTDI, "FT2232C/D", FTDI_VENDOR_ID, 0x6010, 0x0500, false, 8, 2, 64},
    {USBIP_CHIP_FTDI, "FT2232H", FTDI_VENDOR_ID, 0x6010, 0x0700, true, 64, 2, 512},
    {USBIP_CHIP_FTDI, "FT4232H", FTDI_VENDOR_ID, 0x6011, 0x0800, true, 64, 4, 512},
    {USBIP_CHIP_FTDI, "FT-X", FTDI_VENDOR_ID, 0x6015, 0x1000, false, 8, 1, 64},
    {USBIP_CHIP_FTDI, "FT232BM", FTDI_VENDOR_ID, 0x6001, 0x0400, false, 8, 1, 64},
    {USBIP_CHIP_FTDI, "FT8U232AM", FTDI_VENDOR_ID, 0x6001, 0x0200, false, 8, 1, 64},
    {USBIP_CHIP_FTDI, "FT2233HP", FTDI_VENDOR_ID, 0x6040, 0x2800, true, 64, 2, 512},
    {USBIP_CHIP_FTDI, "FT4233HP", FTDI_VENDOR_ID, 0x6041, 0x2900, true, 64, 4, 512},
    {USBIP_CHIP_FTDI, "FT2232HP", FTDI_VENDOR_ID, 0x6042, 0x3000, true, 64, 2, 512},
    {USBIP_CHIP_FTDI, "FT4232HP", FTDI_VENDOR_ID, 0x6043, 0x3100, true, 64, 4, 512},
    {USBIP_CHIP_FTDI, "FT233HP", FTDI_VENDOR_ID, 0x6044, 0x3200, true, 64, 1, 512},
    {USBIP_CHIP_FTDI, "FT232HP", FTDI_VENDOR_ID, 0x6045, 0x3300, true, 64, 1, 512},
    {USBIP_CHIP_FTDI, "FT4232HA", FTDI_VENDOR_ID, 0x6048, 0x3600, true, 64, 4, 512},
    {USBIP_CHIP_FTDI, "FT8U100AX", FTDI_VENDOR_ID, 0x8372, 0x0100, false, 8, 1, 64},
};

static const struct usbip_chip other_chips[] = {
    {USBIP_CHIP_CP210X, "CP210x", SILABS_VENDOR_ID, 0xea60, 0, false, 64, 1, 64},
    {USBIP_CHIP_CP210X, "CP2105", SILABS_VENDOR_ID, 0xea70, 0, false, 64, 2, 64},
    {USBIP_CHIP_CP210X, "CP2108", SILABS_VENDOR_ID, 0xea71, 0, false, 64, 4, 64},
    {USBIP_CHIP_CH34X, "CH340", QINHENG_VENDOR_ID, 0x7523, 0, false, 8, 1, 32},
    {USBIP_CHIP_CH34X, "CH341", QINHENG_VENDOR_ID, 0x5523, 0, false, 8, 1, 32},
    {USBIP_CHIP_CH34X, "CH340K", QINHENG_VENDOR_ID, 0x7522, 0, false, 8, 1, 32},
    {USBIP_CHIP_CH34X, "CH341", 0x4348, 0x5523, 0, false, 8, 1, 32},
    {USBIP_CHIP_CH34X, "CH340", 0x2184, 0x0057, 0, false, 8, 1, 32},
    {USBIP_CHIP_CH34X, "CH340", 0x9986, 0x7523, 0, false, 8, 1, 32},
    {USBIP_CHIP_PL2303, "PL2303", PROLIFIC_VENDOR_ID, 0x2303, 0, false, 64, 1, 64},
    {USBIP_CHIP_PL2303, "PL2303TB", PROLIFIC_VENDOR_ID, 0x2304, 0, false, 64, 1, 64},
    {USBIP_CHIP_PL2303, "PL2303GC", PROLIFIC_VENDOR_ID, 0x23a3, 0, false, 64, 1, 64},
    {USBIP_CHIP_PL2303, "PL2303GB", PROLIFIC_VENDOR_ID, 0x23b3, 0, false, 64, 1, 64},
    {USBIP_CHIP_PL2303, "PL2303GT", PROLIFIC_VENDOR_ID, 0x23c3, 0, false, 64, 1, 64},
    {USBIP_CHIP_PL2303, "PL2303GL", PROLIFIC_VENDOR_ID, 0x23d3, 0, false, 64, 1, 64},
    {USBIP_CHIP_PL2303, "PL2303GE", PROLIFIC_VENDOR_ID, 0x23e3, 0, false, 64, 1, 64},
    {USBIP_CHIP_PL2303, "PL2303GS", PROLIFIC_VENDOR_ID, 0x23f3, 0, false, 64, 1, 64},
};

enum {
    FTDI_CHIP_COUNT = sizeof ftdi_chips / sizeof ftdi_chips[0],
    OTHER_CHIP_COUNT = sizeof other_chips / sizeof other_chips[0],
};

static bool has_acm_interface(const uint8_t *configuration, size_t size)
{
    size_t offset = 0;
    const uint8_t *descriptor;
    int length;
    while ((length = usbip_next_descriptor(configuration, size, &offset, &descriptor)) > 0) {
        struct usbip_interface_descriptor interface;
        if (usbip_decode_interface_descriptor(descriptor, (size_t)length, &interface) == 0 &&
            interface.bInterfaceClass == USB_CLASS_COMM &&
            interface.bInterfaceSubClass == CDC_SUBCLASS_ACM)
            return true;
    }
    return false;
}

/* Product ids are for sale at FTDI, so bcdDevice alone tells which chip is behind them. */
static const struct usbip_chip *find_ftdi_chip(uint16_t bcdDevice)
{
    for (unsigned i = 0; i < FTDI_CHIP_COUNT; i++) {
        if (ftdi_chips[i].bcdDevice == bcdDevice)
            return &ftdi_chips[i];
    }
    return NULL;
}

const struct usbip_chip *usbip_chip_of_descriptors(uint16_t idVendor, uint16_t idProduct,
                                                   uint16_t bcdDevice, const uint8_t *configuration,
                                                   size_t size)
{
    if (configuration && has_acm_interface(configuration, size))
        return &cdc_acm;
    for (unsigned i = 0; i < OTHER_CHIP_COUNT; i++) {
        if (other_chips[i].idVendor == idVendor && other_chips[i].idProduct == idProduct)
            return &other_chips[i];
    }
    return idVendor == FTDI_VENDOR_ID ? find_ftdi_chip(bcdDevice) : NULL;
}

int usbip_chip_family_of_request(const struct usbip_setup *setup)
{
    enum {
        CLASS_INTERFACE = USB_TYPE_CLASS | USB_RECIP_INTERFACE,
        VENDOR_INTERFACE = USB_TYPE_VENDOR | USB_RECIP_INTERFACE,
    };
    switch (setup->bmRequestType & ~USB_DIR_IN) {
    case CLASS_INTERFACE:
        /* Classes share numbers: mass storage and HID have none of these with this length. */
        if (setup->bRequest == CDC_SET_LINE_CODING || setup->bRequest == CDC_GET_LINE_CODING)
            return setup->wLength == CDC_LINE_CODING_SIZE ? USBIP_CHIP_CDC_ACM : -1;
        if (setup->bRequest == CDC_SET_CONTROL_LINE_STATE)
            return setup->wLength == 0 ? USBIP_CHIP_CDC_ACM : -1;
        return -1;
    case VENDOR_INTERFACE:
        if (setup->bmRequestType & USB_DIR_IN)
            return -1;
        if (setup->bRequest == CP210X_SET_BAUDRATE)
            return setup->wLength == 4 ? USBIP_CHIP_CP210X : -1;
        if (setup->bRequest == CP210X_IFC_ENABLE || setup->bRequest == CP210X_SET_LINE_CTL ||
            setup->bRequest == CP210X_SET_MHS)
            return setup->wLength == 0 ? USBIP_CHIP_CP210X : -1;
        return -1;
    case USB_TYPE_VENDOR | USB_RECIP_DEVICE:
        break;
    default:
        return -1;
    }
    if (setup->bmRequestType & USB_DIR_IN) {
        if (setup->bRequest == CH34X_READ_VERSION || setup->bRequest == CH34X_READ_REGISTER)
            return USBIP_CHIP_CH34X;
        if (setup->bRequest == PL2303_VENDOR_READ && setup->wValue == PL2303_PROBE)
            return USBIP_CHIP_PL2303;
        if (setup->bRequest == FTDI_SIO_GET_MODEM_STATUS)
            return setup->wLength <= 2 ? USBIP_CHIP_FTDI : -1;
        if (setup->bRequest == FTDI_SIO_GET_LATENCY_TIMER)
            return setup->wLength == 1 ? USBIP_CHIP_FTDI : -1;
        return setup->bRequest == FTDI_SIO_READ_EEPROM ? USBIP_CHIP_FTDI : -1;
    }
    if (setup->bRequest == CH34X_WRITE_REGISTER || setup->bRequest == CH34X_SERIAL_INIT ||
        setup->bRequest == CH34X_MODEM_CTRL)
        return USBIP_CHIP_CH34X;
    /* PL2303's register writes (40 01) look like FTDI's MODEM_CTRL, so that one tells nothing. */
    if (setup->bRequest == FTDI_SIO_SET_BAUD_RATE || setup->bRequest == FTDI_SIO_SET_DATA ||
        setup->bRequest == FTDI_SIO_SET_LATENCY_TIMER || setup->bRequest == FTDI_SIO_SET_BITMODE)
        return setup->wLength == 0 ? USBIP_CHIP_FTDI : -1;
    return -1;
}

const struct usbip_chip *usbip_chip_of_family(enum usbip_chip_family family, uint16_t bcdDevice,
                                              unsigned ports, bool high_speed)
{
    if (family == USBIP_CHIP_CDC_ACM)
        return &cdc_acm;
    if (family != USBIP_CHIP_FTDI) {
        for (unsigned i = 0; i < OTHER_CHIP_COUNT; i++) {
            if (other_chips[i].family == family)
                return &other_chips[i];
        }
    }
    const struct usbip_chip *ftdi = find_ftdi_chip(bcdDevice);
    if (ftdi)
        return ftdi;
    for (unsigned i = 0; i < FTDI_CHIP_COUNT; i++) {
        if (ftdi_chips[i].ports >= ports && ftdi_chips[i].high_speed == high_speed)
            return &ftdi_chips[i];
    }
    return &ftdi_chips[0];
}
