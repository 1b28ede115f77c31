/* Descriptors in a file of their own: the text of `lsusb -v`, or the bytes of sysfs. */
#ifndef EMULATOR_CAPTURE_SIDE_FILE_H
#define EMULATOR_CAPTURE_SIDE_FILE_H

#include "emulator/capture/description.h"

/*
 * Fills in what the file has: device descriptor, the first configuration, strings. Of several
 * devices in the text it takes the one with these ids; with has_ids, another device is an error.
 * Returns 0, or -1 and error_text.
 */
int side_file_read(const char *path, bool has_ids, uint16_t idVendor, uint16_t idProduct,
                   struct usbip_description *description,
                   char error_text[USBIP_CAPTURE_ERROR_SIZE]);

#endif
