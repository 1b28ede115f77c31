/* Descriptors in a file of their own: the text of `lsusb -v`, or the bytes of sysfs. */
#ifndef EMULATOR_CAPTURE_SIDE_FILE_H
#define EMULATOR_CAPTURE_SIDE_FILE_H

#include "emulator/capture/description.h"

/*
 * Fills in what the file has: device descriptor, the first configuration, strings. Of several
 * devices in the text it takes the one that the capture's can be: with its ids, or, when the
 * capture does not tell them, with the endpoints that it uses. That there is none is an error.
 * Returns 0, or -1 and error_text.
 */
int side_file_read(const char *path, const struct usbip_capture_device *device,
                   struct usbip_description *description,
                   char error_text[USBIP_CAPTURE_ERROR_SIZE]);

#endif
