#include "protocol/configuration.h"

static int add_altsetting(struct usbip_configuration *table, const uint8_t *descriptor, size_t size)
{
    struct usbip_altsetting *setting = &table->altsettings[table->altsetting_count];

    if (table->altsetting_count == USB_MAX_ALTSETTINGS)
        return -1;
    if (usbip_decode_interface_descriptor(descriptor, size, &setting->descriptor) < 0)
        return -1;
    setting->extra = descriptor + size;
    setting->extra_size = 0;
    setting->first_endpoint = table->endpoint_count;
    setting->endpoint_count = 0;
    table->altsetting_count++;
    return 0;
}

static int add_endpoint(struct usbip_configuration *table, struct usbip_altsetting *setting,
                        const uint8_t *descriptor, size_t size)
{
    if (setting == NULL || table->endpoint_count == USB_MAX_ENDPOINTS)
        return -1;
    if (usbip_decode_endpoint_descriptor(descriptor, size,
                                         &table->endpoints[table->endpoint_count]) < 0)
        return -1;
    table->endpoint_count++;
    setting->endpoint_count++;
    return 0;
}

int usbip_parse_configuration(const uint8_t *bytes, size_t size, struct usbip_configuration *table)
{
    struct usbip_altsetting *setting = NULL; /* the one that following descriptors belong to */
    size_t offset = 0;
    const uint8_t *descriptor;
    int length;

    table->altsetting_count = 0;
    table->endpoint_count = 0;
    if (usbip_decode_config_descriptor(bytes, size, &table->descriptor) < 0)
        return -1;
    if (size > table->descriptor.wTotalLength)
        size = table->descriptor.wTotalLength;
    /* The first step is over the configuration descriptor itself. */
    if (usbip_next_descriptor(bytes, size, &offset, &descriptor) <= 0)
        return -1;

    while ((length = usbip_next_descriptor(bytes, size, &offset, &descriptor)) > 0) {
        switch (descriptor[1]) {
        case USB_DT_INTERFACE:
            if (add_altsetting(table, descriptor, (size_t)length) < 0)
                return -1;
            setting = &table->altsettings[table->altsetting_count - 1];
            break;
        case USB_DT_INTERFACE_ASSOCIATION:
            setting = NULL;
            break;
        case USB_DT_ENDPOINT:
            if (add_endpoint(table, setting, descriptor, (size_t)length) < 0)
                return -1;
            break;
        }
        if (setting)
            setting->extra_size = (size_t)(bytes + offset - setting->extra);
    }
    return length;
}

const struct usbip_altsetting *usbip_find_altsetting(const struct usbip_configuration *table,
                                                     uint8_t bInterfaceNumber,
                                                     uint8_t bAlternateSetting)
{
    for (unsigned i = 0; i < table->altsetting_count; i++) {
        const struct usbip_altsetting *setting = &table->altsettings[i];

        if (setting->descriptor.bInterfaceNumber == bInterfaceNumber &&
            setting->descriptor.bAlternateSetting == bAlternateSetting)
            return setting;
    }
    return NULL;
}

const struct usbip_endpoint_descriptor *usbip_find_endpoint(const struct usbip_configuration *table,
                                                            const struct usbip_altsetting *setting,
                                                            uint8_t transfer_type,
                                                            uint8_t direction)
{
    for (unsigned i = 0; i < setting->endpoint_count; i++) {
        const struct usbip_endpoint_descriptor *endpoint =
            &table->endpoints[setting->first_endpoint + i];

        if ((endpoint->bmAttributes & USB_ENDPOINT_XFERTYPE_MASK) == transfer_type &&
            (endpoint->bEndpointAddress & USB_DIR_IN) == direction)
            return endpoint;
    }
    return NULL;
}
