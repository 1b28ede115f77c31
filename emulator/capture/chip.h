/* Which USB serial chip a device is: by its descriptors, else by what the host asked of it. */
#ifndef EMULATOR_CAPTURE_CHIP_H
#define EMULATOR_CAPTURE_CHIP_H

#include "protocol/usb.h"

enum usbip_chip_family {
    USBIP_CHIP_CDC_ACM,
    USBIP_CHIP_FTDI,
    USBIP_CHIP_CP210X,
    USBIP_CHIP_CH34X,
    USBIP_CHIP_PL2303,
};

struct usbip_chip {
    enum usbip_chip_family family;
    const char *name;
    uint16_t idVendor, idProduct; /* the maker's default; 0 for CDC-ACM */
    uint16_t bcdDevice;           /* FTDI: which type it is */
    bool high_speed;
    uint8_t bMaxPacketSize0;
    uint8_t ports;
    uint16_t packet_size; /* of its bulk endpoints */
};

/*
 * By identity and configuration (may be NULL, 0: unknown). Other vendors' devices with an FTDI chip
 * are recognised by what the host asks of them, below. Returns NULL for none that we know.
 */
const struct usbip_chip *usbip_chip_of_descriptors(uint16_t idVendor, uint16_t idProduct,
                                                   uint16_t bcdDevice, const uint8_t *configuration,
                                                   size_t size);

/* The family that a class or vendor request belongs to, or -1. */
int usbip_chip_family_of_request(const struct usbip_setup *setup);

/*
 * The chip of a family that traffic has told. FTDI's types differ by bcdDevice, and where that is
 * unknown (0) by their number of ports and their speed.
 */
const struct usbip_chip *usbip_chip_of_family(enum usbip_chip_family family, uint16_t bcdDevice,
                                              unsigned ports, bool high_speed);

#endif
