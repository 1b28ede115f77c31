/* What faults do to a device: it unplugs itself, and comes back. */
#ifndef EMULATOR_FAULT_DEVICE_H
#define EMULATOR_FAULT_DEVICE_H

#include <stdint.h>

#include "emulator/fault.h"

struct usbip_device;

/* The part of a device's state. All zero is a device to which nothing has happened. */
struct usbip_device_faults {
    struct usbip_faults *faults; /* of its bus; NULL before it is on one */
    struct usbip_fault_progress progress;
    bool in_reset; /* RTS was raised while DTR was low */
    struct usbip_timer leave_timer;
    int64_t back_ms; /* as in the fault that makes it leave */
    int64_t identity;
};

/* A host has attached the device: the faults start anew. */
void usbip_device_faults_attach(struct usbip_device *device);
/* The host has set the control lines (USBIP_LINE_…), at this baud rate. */
void usbip_device_faults_lines(struct usbip_device *device, unsigned before, unsigned lines,
                               uint32_t rate);
/* So many bytes of data have passed, on endpoints other than 0. */
void usbip_device_faults_bytes(struct usbip_device *device, uint32_t size);

#endif
