/*
 * The devices of a recording: the address of each in the file, and what is known of its
 * descriptors, from whatever connection.
 */
#ifndef CAPTURE_RECORDED_DEVICE_H
#define CAPTURE_RECORDED_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/usb.h"

enum {
    USBIP_RECORDER_MAX_DEVICES = 4096,
    USBIP_RECORDER_MAX_CONFIGURATIONS = 8, /* of a device, that are remembered */
    USBIP_RECORDER_LAST_DEVNUM = 127,      /* addresses of USB end there */
    /* Devices whose own address cannot be used get one on a bus from here on. */
    USBIP_RECORDER_SPARE_BUS = 1000,
};

struct usbip_recorded_configuration {
    uint8_t index; /* of GET_DESCRIPTOR */
    uint8_t bConfigurationValue;
    uint8_t *bytes;
    size_t size;
};

struct usbip_recorded_device {
    struct usbip_recorded_device *next;
    struct usbip_device_record record; /* as it was first imported */
    uint16_t busnum;                   /* in the file */
    uint8_t devnum;
    bool has_descriptor; /* of the device itself; else it is made from the record */
    uint8_t descriptor[USB_DT_DEVICE_SIZE];
    struct usbip_recorded_configuration configurations[USBIP_RECORDER_MAX_CONFIGURATIONS];
    unsigned configuration_count;
};

/* All zero has none. */
struct usbip_recorded_devices {
    struct usbip_recorded_device *first;
    unsigned count;
    unsigned spare_addresses; /* given out */
};

/*
 * The device of this record, a new one when it has not been met: the same ids at the same place. It
 * belongs to the list. Returns NULL when memory is out or there are too many.
 */
struct usbip_recorded_device *usbip_recorded_device_get(struct usbip_recorded_devices *devices,
                                                        const struct usbip_device_record *record);

void usbip_recorded_devices_free(struct usbip_recorded_devices *devices);

/*
 * Learns from an answer to GET_DESCRIPTOR(type, index), which may be cut short or be nonsense.
 * Returns whether it was a whole descriptor of the device or of a configuration.
 */
bool usbip_recorded_device_learn(struct usbip_recorded_device *device, uint8_t type, uint8_t index,
                                 const uint8_t *bytes, size_t size);

/* The configuration with this value, any for 0, or NULL. */
const struct usbip_recorded_configuration *
usbip_recorded_device_configuration(const struct usbip_recorded_device *device,
                                    uint8_t bConfigurationValue);

/* The device descriptor; what is not known of it is made up from the record. */
void usbip_recorded_device_descriptor(const struct usbip_recorded_device *device,
                                      uint8_t out[USB_DT_DEVICE_SIZE]);

#endif
