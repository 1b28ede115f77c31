#include "emulator/device.h"

static void start(void *context, struct usbip_device *device)
{
    struct usbip_echo *echo = context;
    echo->device = device;
}

static bool data(void *context, const uint8_t *data, size_t size)
{
    struct usbip_echo *echo = context;
    return usbip_device_write(echo->device, data, size) == size;
}

const struct usbip_behaviour_ops usbip_echo_ops = {.start = start, .data = data};
