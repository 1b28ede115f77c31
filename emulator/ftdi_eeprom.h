/* The configuration EEPROM in an FT232R, or beside a chip with several ports, as libftdi and
 * ftdi_sio read it word by word. */
#ifndef EMULATOR_FTDI_EEPROM_H
#define EMULATOR_FTDI_EEPROM_H

#include <stdint.h>

#include "protocol/ftdi.h"

struct usbip_device;

/* Ids, power, strings and checksum of the device, as FTDI's tools would have written them. */
void usbip_ftdi_fill_eeprom(uint16_t words[FTDI_EEPROM_WORDS], const struct usbip_ftdi_chip *chip,
                            const struct usbip_device *device);

#endif
