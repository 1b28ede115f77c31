#include "emulator/ftdi_eeprom.h"

#include <string.h>

#include "emulator/device_internal.h"
#include "protocol/bytes.h"

/* Byte offsets. Strings are USB string descriptors; each is pointed to by offset and length. */
enum {
    EEPROM_SIZE = 2 * FTDI_EEPROM_WORDS_FT232R,
    VENDOR_ID = 0x02,
    PRODUCT_ID = 0x04,
    BCD_DEVICE = 0x06,
    CONFIG_ATTRIBUTES = 0x08,
    MAX_POWER = 0x09,
    CHIP_FLAGS = 0x0a,
    STRING_POINTERS = 0x0e, /* manufacturer, product, serial number */
    CBUS_FUNCTIONS = 0x14,
    STRINGS = 0x18,
    CHECKSUM = EEPROM_SIZE - 2,

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

void usbip_ftdi_fill_eeprom(uint16_t words[FTDI_EEPROM_WORDS_FT232R],
                            const struct usbip_device *device)
{
    static const uint8_t default_cbus[] = {0x23, 0x10, 0x05};
    const struct usbip_device_descriptor *d = &device->descriptor;
    const uint8_t strings[] = {d->iManufacturer, d->iProduct, d->iSerialNumber};
    uint8_t image[EEPROM_SIZE] = {0};

    image[1] = 0x40; /* high-drive off, external oscillator off; as delivered */
    usbip_store_le16(image + VENDOR_ID, d->idVendor);
    usbip_store_le16(image + PRODUCT_ID, d->idProduct);
    usbip_store_le16(image + BCD_DEVICE, d->bcdDevice);
    image[CONFIG_ATTRIBUTES] = device->configuration->descriptor.bmAttributes;
    image[MAX_POWER] = device->configuration->descriptor.bMaxPower;
    image[CHIP_FLAGS] = d->iSerialNumber ? USE_SERIAL_NUMBER : 0;
    memcpy(image + CBUS_FUNCTIONS, default_cbus, sizeof default_cbus);

    size_t at = STRINGS;
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
    for (unsigned i = 0; i < FTDI_EEPROM_WORDS_FT232R; i++)
        words[i] = usbip_load_le16(image + 2 * i);
}
