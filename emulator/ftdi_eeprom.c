#include "emulator/ftdi_eeprom.h"

#include <string.h>

#include "emulator/device_internal.h"
#include "protocol/bytes.h"

/* Byte offsets. Strings are USB string descriptors; each is pointed to by offset and length. */
enum {
    CHANNELS = 0x00,
    EEPROM_SIZE = 2 * FTDI_EEPROM_WORDS,
    VENDOR_ID = 0x02,
    PRODUCT_ID = 0x04,
    BCD_DEVICE = 0x06,
    CONFIG_ATTRIBUTES = 0x08,
    MAX_POWER = 0x09,
    CHIP_FLAGS = 0x0a,
    STRING_POINTERS = 0x0e, /* manufacturer, product, serial number */
    CBUS_FUNCTIONS = 0x14,  /* FT232R */
    STRINGS = 0x18,
    EEPROM_TYPE = 0x18, /* FT2232H, FT4232H */
    HI_SPEED_STRINGS = 0x1a,
    CHECKSUM = EEPROM_SIZE - 2,

    EEPROM_93C46 = 0x46,
    USE_SERIAL_NUMBER = 0x08,
    POINTER_FLAG = 0x80,
    CHECKSUM_SEED = 0xaaaa,
};

static uint16_t checksum(const uint8_t image[EEPROM_SIZE])
{
    unsigned sum = CHECKSUM_SEED;
    for (unsigned at = 0; at < CHECKSUM; at += 2) {
        sum ^= usbip_load_le16(image + at);
        sum = (sum << 1 | sum >> 15) & 0xffff;
    }
    return (uint16_t)sum;
}

/* What differs from chip to chip, as delivered. */
static void fill_chip(uint8_t image[EEPROM_SIZE], const struct usbip_ftdi_chip *chip)
{
    static const uint8_t default_cbus[] = {0x23, 0x10, 0x05};
    if (chip->is_hi_speed) {
        /* UARTs with the driver of serial ports: two in a byte when there are four. */
        image[CHANNELS] = image[CHANNELS + 1] = chip->ports > 2 ? 0x88 : 0x08;
        image[EEPROM_TYPE] = EEPROM_93C46;
        return;
    }
    image[CHANNELS + 1] = 0x40; /* high-drive off, external oscillator off */
    memcpy(image + CBUS_FUNCTIONS, default_cbus, sizeof default_cbus);
}

void usbip_ftdi_fill_eeprom(uint16_t words[FTDI_EEPROM_WORDS], const struct usbip_ftdi_chip *chip,
                            const struct usbip_device *device)
{
    const struct usbip_device_descriptor *d = &device->descriptor;
    const uint8_t strings[] = {d->iManufacturer, d->iProduct, d->iSerialNumber};
    uint8_t image[EEPROM_SIZE] = {0};

    fill_chip(image, chip);
    usbip_store_le16(image + VENDOR_ID, d->idVendor);
    usbip_store_le16(image + PRODUCT_ID, d->idProduct);
    usbip_store_le16(image + BCD_DEVICE, d->bcdDevice);
    image[CONFIG_ATTRIBUTES] = device->configuration->descriptor.bmAttributes;
    image[MAX_POWER] = device->configuration->descriptor.bMaxPower;
    image[CHIP_FLAGS] = d->iSerialNumber ? USE_SERIAL_NUMBER : 0;

    size_t at = chip->is_hi_speed ? HI_SPEED_STRINGS : STRINGS;
    for (unsigned i = 0; i < sizeof strings; i++) {
        uint8_t descriptor[USB_DT_STRING_MAX_SIZE];
        int size = strings[i]
                       ? usbip_encode_string_descriptor(descriptor, device->strings[strings[i]])
                       : 0;
        if (size <= 0 || at + (size_t)size > CHECKSUM)
            continue; /* longer than a chip could hold: served, but not in the image */
        memcpy(image + at, descriptor, (size_t)size);
        image[STRING_POINTERS + 2 * i] = (uint8_t)(at | POINTER_FLAG);
        image[STRING_POINTERS + 2 * i + 1] = (uint8_t)size;
        at += (size_t)size;
    }
    usbip_store_le16(image + CHECKSUM, checksum(image));
    for (unsigned i = 0; i < FTDI_EEPROM_WORDS; i++)
        words[i] = usbip_load_le16(image + 2 * i);
}
