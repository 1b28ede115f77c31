/* The devices that one server exports, and the order in which they are listed. */
#ifndef EMULATOR_BUS_H
#define EMULATOR_BUS_H

#include "emulator/device.h"
#include "emulator/fault.h"

enum { USBIP_MAX_DEVICES = 4096 };

struct usbip_bus {
    /* Of 255 on a bus: 1-1 to 1-255, 2-1 and so on. A busid is busnum and devnum. */
    struct usbip_device **devices;
    unsigned count;
    unsigned capacity;
    struct usbip_log log;
    const struct usbip_personality *personality; /* of the server; NULL: strict */
    struct usbip_faults faults;                  /* usbip_faults_init() comes before the first */
};

/* Takes the device over and gives it the next busid. Returns 0, or -1 at the limit or out of
 * memory; then the device stays the caller's. */
int usbip_bus_add(struct usbip_bus *bus, struct usbip_device *device);

/* Frees all devices and faults. No session may be left. */
void usbip_bus_free(struct usbip_bus *bus);

/* The device with this busid, plugged or not, or NULL. */
struct usbip_device *usbip_bus_device(const struct usbip_bus *bus, const char *busid);
/* The same if it is plugged. */
struct usbip_device *usbip_bus_find(const struct usbip_bus *bus, const char *busid);

/* Record of a device with its place on the bus. */
void usbip_bus_describe(const struct usbip_device *device, struct usbip_device_record *record);

#endif
