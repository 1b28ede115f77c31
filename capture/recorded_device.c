#include "capture/recorded_device.h"

#include <stdlib.h>
#include <string.h>

/* ---- Addresses ---- */

static bool is_taken(const struct usbip_recorded_devices *devices, uint32_t busnum, uint32_t devnum)
{
    for (const struct usbip_recorded_device *device = devices->first; device; device = device->next)
        if (device->busnum == busnum && device->devnum == devnum)
            return true;
    return false;
}

/* The server's own address, if the format has room for it and no other device has it. */
static void choose_address(struct usbip_recorded_devices *devices,
                           struct usbip_recorded_device *device)
{
    uint32_t busnum = device->record.busnum, devnum = device->record.devnum;
    while (busnum > UINT16_MAX || devnum == 0 || devnum > USBIP_RECORDER_LAST_DEVNUM ||
           is_taken(devices, busnum, devnum)) {
        unsigned spare = devices->spare_addresses++;
        busnum = USBIP_RECORDER_SPARE_BUS + spare / USBIP_RECORDER_LAST_DEVNUM;
        devnum = 1 + spare % USBIP_RECORDER_LAST_DEVNUM;
    }
    device->busnum = (uint16_t)busnum;
    device->devnum = (uint8_t)devnum;
}

static bool is_same(const struct usbip_device_record *a, const struct usbip_device_record *b)
{
    return a->busnum == b->busnum && a->devnum == b->devnum && a->idVendor == b->idVendor &&
           a->idProduct == b->idProduct && strcmp(a->busid, b->busid) == 0;
}

struct usbip_recorded_device *usbip_recorded_device_get(struct usbip_recorded_devices *devices,
                                                        const struct usbip_device_record *record)
{
    struct usbip_recorded_device *device = devices->first;
    while (device && !is_same(&device->record, record))
        device = device->next;
    if (device || devices->count == USBIP_RECORDER_MAX_DEVICES)
        return device;
    device = calloc(1, sizeof *device);
    if (!device)
        return NULL;
    device->record = *record;
    choose_address(devices, device);
    device->next = devices->first;
    devices->first = device;
    devices->count++;
    return device;
}

void usbip_recorded_devices_free(struct usbip_recorded_devices *devices)
{
    struct usbip_recorded_device *device = devices->first, *next;
    for (; device; device = next) {
        next = device->next;
        for (unsigned i = 0; i < device->configuration_count; i++)
            free(device->configurations[i].bytes);
        free(device);
    }
    *devices = (struct usbip_recorded_devices){0};
}

/* ---- Descriptors ---- */

static bool learn_configuration(struct usbip_recorded_device *device, uint8_t index,
                                const uint8_t *bytes, size_t size)
{
    struct usbip_config_descriptor descriptor;
    if (usbip_decode_config_descriptor(bytes, size, &descriptor) < 0 ||
        descriptor.wTotalLength > size || descriptor.wTotalLength < USB_DT_CONFIG_SIZE)
        return false;
    unsigned place = 0;
    while (place < device->configuration_count && device->configurations[place].index != index)
        place++;
    if (place == USBIP_RECORDER_MAX_CONFIGURATIONS)
        return false;
    uint8_t *copy = malloc(descriptor.wTotalLength);
    if (!copy)
        return false;
    memcpy(copy, bytes, descriptor.wTotalLength);
    if (place == device->configuration_count)
        device->configuration_count++;
    free(device->configurations[place].bytes);
    device->configurations[place] = (struct usbip_recorded_configuration){
        .index = index,
        .bConfigurationValue = descriptor.bConfigurationValue,
        .bytes = copy,
        .size = descriptor.wTotalLength,
    };
    return true;
}

bool usbip_recorded_device_learn(struct usbip_recorded_device *device, uint8_t type, uint8_t index,
                                 const uint8_t *bytes, size_t size)
{
    struct usbip_device_descriptor descriptor;
    if (type == USB_DT_CONFIG)
        return learn_configuration(device, index, bytes, size);
    if (type != USB_DT_DEVICE || usbip_decode_device_descriptor(bytes, size, &descriptor) < 0)
        return false;
    memcpy(device->descriptor, bytes, USB_DT_DEVICE_SIZE);
    device->has_descriptor = true;
    return true;
}

const struct usbip_recorded_configuration *
usbip_recorded_device_configuration(const struct usbip_recorded_device *device,
                                    uint8_t bConfigurationValue)
{
    for (unsigned i = 0; i < device->configuration_count; i++) {
        const struct usbip_recorded_configuration *found = &device->configurations[i];
        if (bConfigurationValue == 0 || found->bConfigurationValue == bConfigurationValue)
            return found;
    }
    return NULL;
}

static uint8_t packet_size_0(uint32_t speed)
{
    switch (speed) {
    case USBIP_SPEED_LOW:
        return 8;
    case USBIP_SPEED_SUPER:
    case USBIP_SPEED_SUPER_PLUS:
        return 9; /* as a power of two */
    default:
        return 64;
    }
}

void usbip_recorded_device_descriptor(const struct usbip_recorded_device *device,
                                      uint8_t out[USB_DT_DEVICE_SIZE])
{
    const struct usbip_device_record *record = &device->record;
    if (device->has_descriptor) {
        memcpy(out, device->descriptor, USB_DT_DEVICE_SIZE);
        return;
    }
    const struct usbip_device_descriptor made = {
        .bcdUSB = record->speed >= USBIP_SPEED_SUPER ? 0x0300 : 0x0200,
        .bDeviceClass = record->bDeviceClass,
        .bDeviceSubClass = record->bDeviceSubClass,
        .bDeviceProtocol = record->bDeviceProtocol,
        .bMaxPacketSize0 = packet_size_0(record->speed),
        .idVendor = record->idVendor,
        .idProduct = record->idProduct,
        .bcdDevice = record->bcdDevice,
        .bNumConfigurations = record->bNumConfigurations,
    };
    usbip_encode_device_descriptor(out, &made);
}
