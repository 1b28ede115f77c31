#include "emulator/bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/device_internal.h"

/* Linux's usbip makes the devid of the low 8 bits of busnum and devnum. */
enum { FIRST_BUSNUM = 1, DEVICES_OF_A_BUS = 255 };
_Static_assert((USBIP_MAX_DEVICES - 1) / DEVICES_OF_A_BUS + FIRST_BUSNUM <= UINT8_MAX,
               "busnum has 8 bits");

static uint32_t busnum_of(unsigned index)
{
    return FIRST_BUSNUM + index / DEVICES_OF_A_BUS;
}

static uint32_t devnum_of(unsigned index)
{
    return 1 + index % DEVICES_OF_A_BUS;
}

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
    device->busnum = busnum_of(bus->count);
    device->devnum = devnum_of(bus->count);
    device->faults.faults = &bus->faults;
    snprintf(device->name, sizeof device->name, "%u-%u", device->busnum, device->devnum);
    bus->devices[bus->count++] = device;
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
    /* Where it is if it is one of ours; its name tells whether it is. */
    char *end;
    unsigned long busnum = strtoul(busid, &end, 10);
    unsigned long devnum = *end == '-' ? strtoul(end + 1, NULL, 10) : 0;
    if (busnum < FIRST_BUSNUM || busnum > UINT8_MAX || devnum < 1 || devnum > DEVICES_OF_A_BUS)
        return NULL;
    unsigned long index = (busnum - FIRST_BUSNUM) * DEVICES_OF_A_BUS + devnum - 1;
    return index < bus->count && strcmp(bus->devices[index]->name, busid) == 0 ? bus->devices[index]
                                                                               : NULL;
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
    snprintf(record->path, sizeof record->path, "/sys/devices/platform/usbip-testbench/usb%u/%s",
             device->busnum, device->name);
    snprintf(record->busid, sizeof record->busid, "%s", device->name);
    record->busnum = device->busnum;
    record->devnum = device->devnum;
}
