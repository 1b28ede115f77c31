#include "emulator/bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/device_internal.h"

enum { BUSNUM = 1 };

int usbip_bus_add(struct usbip_bus *bus, struct usbip_device *device)
{
    if (bus->count == USBIP_MAX_DEVICES)
        return -1;
    if (bus->count == bus->capacity) {
        unsigned capacity = bus->capacity ? 2 * bus->capacity : 8;
        struct usbip_device **devices = realloc(bus->devices, capacity * sizeof *devices);
        if (!devices)
            return -1;
        bus->devices = devices;
        bus->capacity = capacity;
    }
    bus->devices[bus->count++] = device;
    device->devnum = bus->count;
    device->faults.faults = &bus->faults;
    snprintf(device->name, sizeof device->name, "%d-%u", BUSNUM, device->devnum);
    return 0;
}

void usbip_bus_free(struct usbip_bus *bus)
{
    for (unsigned i = 0; i < bus->count; i++)
        usbip_device_free(bus->devices[i]);
    free(bus->devices);
    usbip_faults_free(&bus->faults);
    *bus = (struct usbip_bus){.log = bus->log, .personality = bus->personality};
}

struct usbip_device *usbip_bus_device(const struct usbip_bus *bus, const char *busid)
{
    for (unsigned i = 0; i < bus->count; i++) {
        if (strcmp(bus->devices[i]->name, busid) == 0)
            return bus->devices[i];
    }
    return NULL;
}

struct usbip_device *usbip_bus_find(const struct usbip_bus *bus, const char *busid)
{
    struct usbip_device *device = usbip_bus_device(bus, busid);
    return device && device->plugged ? device : NULL;
}

void usbip_bus_describe(const struct usbip_device *device, struct usbip_device_record *record)
{
    memset(record, 0, sizeof *record);
    usbip_device_describe(device, record);
    snprintf(record->path, sizeof record->path, "/sys/devices/platform/usbip-testbench/usb%d/%s",
             BUSNUM, device->name);
    snprintf(record->busid, sizeof record->busid, "%s", device->name);
    record->busnum = BUSNUM;
    record->devnum = device->devnum;
}
