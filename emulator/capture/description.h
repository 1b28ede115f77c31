/*
 * What a device shows in enumeration, as a capture knows it. Descriptors come from the first of
 * these that has them: answers to GET_DESCRIPTOR in the file, descriptors that the recorder wrote
 * at its start, a side file, the ids of OP_REP_IMPORT, the traffic and the layout of the chip.
 */
#ifndef EMULATOR_CAPTURE_DESCRIPTION_H
#define EMULATOR_CAPTURE_DESCRIPTION_H

#include "emulator/capture/capture.h"

enum usbip_description_origin {
    USBIP_ORIGIN_ANSWER, /* to GET_DESCRIPTOR */
    USBIP_ORIGIN_INJECTED,
    USBIP_ORIGIN_SIDE_FILE,
    USBIP_ORIGIN_IDS,         /* of OP_REP_IMPORT; the rest of the device descriptor is made up */
    USBIP_ORIGIN_SYNTHESISED, /* from traffic and chip */
};

/* Names for people: "GET_DESCRIPTOR". */
const char *usbip_description_origin_name(enum usbip_description_origin origin);

enum { USBIP_DESCRIPTION_STRINGS = 256 };

struct usbip_description {
    struct usbip_device_descriptor device;
    enum usbip_description_origin device_origin;
    uint32_t device_record; /* that it is from; 0: none */
    uint8_t *configuration; /* wTotalLength bytes */
    size_t configuration_size;
    enum usbip_description_origin configuration_origin;
    uint32_t configuration_record;
    enum usbip_speed speed;
    bool speed_is_known;           /* else it is guessed */
    const struct usbip_chip *chip; /* NULL: none that we know */
    /* UTF-8, by index; NULL: the file does not have it. */
    char *strings[USBIP_DESCRIPTION_STRINGS];
};

/*
 * Describes a device of a capture. side_file (NULL: none) is what `lsusb -v` prints, or the binary
 * file `descriptors` of sysfs. Returns 0, or -1 and error_text: the side file cannot be read or
 * describes another device. *description is to be freed after 0.
 */
int usbip_describe(const struct usbip_capture *capture, unsigned device, const char *side_file,
                   struct usbip_description *description,
                   char error_text[USBIP_CAPTURE_ERROR_SIZE]);
void usbip_description_free(struct usbip_description *description);

#endif
