#include "client/driver.h"

#include <assert.h>
#include <string.h>

/* Asked in this order; a chip with a vendor's own protocol is recognized more surely than a class.
 */
static const struct usbip_driver *const drivers[] = {
    &usbip_driver_ftdi,
    &usbip_driver_cdc_acm,
};

void usbip_request_list_add(struct usbip_request_list *list, struct usbip_setup setup,
                            const uint8_t *data)
{
    struct usbip_control_request *request = &list->requests[list->count];

    assert(list->count < USBIP_MAX_REQUESTS && setup.wLength <= USBIP_MAX_CONTROL_DATA);
    *request = (struct usbip_control_request){.setup = setup};
    if (usbip_setup_direction(&setup) == USBIP_DIR_OUT && setup.wLength > 0)
        memcpy(request->data, data, setup.wLength);
    list->count++;
}

int usbip_probe_chip(const struct usbip_device_descriptor *device,
                     const struct usbip_configuration *configuration, uint8_t port,
                     struct usbip_chip *chip)
{
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        memset(chip, 0, sizeof(*chip));
        chip->port = port;
        if (drivers[i]->probe(device, configuration, chip)) {
            chip->driver = drivers[i];
            chip->bcdDevice = device->bcdDevice;
            return 0;
        }
    }
    memset(chip, 0, sizeof(*chip));
    return -1;
}
