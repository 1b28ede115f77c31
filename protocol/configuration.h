/*
 * A configuration descriptor as a table: which interfaces, alternate settings and endpoints there
 * are. The emulator learns from it which endpoints exist, a client's driver where the chip is.
 */
#ifndef PROTOCOL_CONFIGURATION_H
#define PROTOCOL_CONFIGURATION_H

#include "protocol/usb.h"

enum {
    USB_MAX_ALTSETTINGS = 64, /* over all interfaces of a configuration */
    USB_MAX_ENDPOINTS = 128,  /* over all alternate settings */
};

struct usbip_altsetting {
    struct usbip_interface_descriptor descriptor;
    /* All descriptors from behind the interface to the next interface or association: those of the
     * class, wherever they stand, and between them the endpoints. Points into the parsed bytes. */
    const uint8_t *extra;
    size_t extra_size;
    unsigned first_endpoint; /* index into endpoints[] */
    unsigned endpoint_count; /* as counted, which may differ from bNumEndpoints */
};

struct usbip_configuration {
    struct usbip_config_descriptor descriptor;
    struct usbip_altsetting altsettings[USB_MAX_ALTSETTINGS];
    unsigned altsetting_count;
    struct usbip_endpoint_descriptor endpoints[USB_MAX_ENDPOINTS];
    unsigned endpoint_count;
};

/*
 * Reads a whole configuration descriptor (GET_DESCRIPTOR(CONFIGURATION) with wTotalLength bytes);
 * bytes behind wTotalLength are ignored.
 * The table points into bytes, which must outlive it. Returns 0, or -1 when the bytes are not a
 * configuration descriptor, a bLength is wrong, an endpoint comes before any interface, or a limit
 * above is exceeded.
 */
int usbip_parse_configuration(const uint8_t *bytes, size_t size, struct usbip_configuration *table);

/* The alternate setting of an interface, or NULL. */
const struct usbip_altsetting *usbip_find_altsetting(const struct usbip_configuration *table,
                                                     uint8_t bInterfaceNumber,
                                                     uint8_t bAlternateSetting);

/* First endpoint of the setting with this transfer type and direction bit (0 or USB_DIR_IN). */
const struct usbip_endpoint_descriptor *usbip_find_endpoint(const struct usbip_configuration *table,
                                                            const struct usbip_altsetting *setting,
                                                            uint8_t transfer_type,
                                                            uint8_t direction);

#endif
