/* Descriptors that pass by while a capture is read. */
#include <stdlib.h>

#include "emulator/capture/capture_internal.h"
#include "protocol/bytes.h"

enum {
    FIRST_DESCRIPTOR_CAPACITY = 8,
    /* A device descriptor up to bcdDevice; hosts first ask for 8 bytes or 64. */
    IDS_END = 14,
};

const struct usbip_capture_descriptor *
usbip_capture_find_descriptor(const struct usbip_capture_device *device, uint8_t type,
                              uint8_t index, uint16_t language)
{
    for (unsigned i = 0; i < device->descriptor_count; i++) {
        const struct usbip_capture_descriptor *descriptor = &device->descriptors[i];
        if (descriptor->type == type && descriptor->index == index &&
            (language == 0 || descriptor->language == language))
            return descriptor;
    }
    return NULL;
}

static struct usbip_capture_descriptor *add_descriptor(struct capture_builder *builder,
                                                       struct usbip_capture_device *device)
{
    unsigned count = device->descriptor_count;
    /* The capacity is a power of two: it is used up whenever the count is one. */
    if (count == 0 || (count >= FIRST_DESCRIPTOR_CAPACITY && (count & (count - 1)) == 0)) {
        unsigned capacity = count == 0 ? FIRST_DESCRIPTOR_CAPACITY : 2 * count;
        struct usbip_capture_descriptor *descriptors =
            realloc(device->descriptors, capacity * sizeof *descriptors);
        if (!descriptors) {
            capture_out_of_memory(builder);
            return NULL;
        }
        device->descriptors = descriptors;
    }
    return &device->descriptors[device->descriptor_count++];
}

/* Whether an answer is to replace the one that is kept: hosts ask for the beginning first. */
static bool is_better(const struct usbip_capture_descriptor *kept,
                      const struct usbip_capture_transfer *transfer)
{
    bool injected = transfer->flags & USBIP_TRANSFER_INJECTED;
    return transfer->size > kept->size ||
           (transfer->size == kept->size && kept->injected && !injected);
}

static int keep_descriptor(struct capture_builder *builder,
                           const struct usbip_capture_transfer *transfer,
                           const struct usbip_setup *setup)
{
    struct usbip_capture_device *device = &builder->capture->devices[transfer->device];
    uint8_t type = (uint8_t)(setup->wValue >> 8), index = (uint8_t)setup->wValue;
    struct usbip_capture_descriptor *kept = NULL;
    for (unsigned i = 0; i < device->descriptor_count; i++) {
        struct usbip_capture_descriptor *other = &device->descriptors[i];
        if (other->type == type && other->index == index && other->language == setup->wIndex)
            kept = other;
    }
    if (kept && !is_better(kept, transfer))
        return 0;
    if (!kept && device->descriptor_count == USBIP_CAPTURE_MAX_DESCRIPTORS)
        return 0;
    if (!kept && !(kept = add_descriptor(builder, device)))
        return -1;
    *kept = (struct usbip_capture_descriptor){
        .type = type,
        .index = index,
        .language = setup->wIndex,
        .injected = (transfer->flags & USBIP_TRANSFER_INJECTED) != 0,
        .record = transfer->complete_record,
        .data = transfer->data,
        .size = transfer->size,
    };
    return 0;
}

/* The device descriptor tells whose the address is, and whether it has changed hands. */
static int note_ids(struct capture_builder *builder, struct usbip_capture_transfer *transfer)
{
    const uint8_t *bytes = transfer->data;
    struct usbip_capture_device *device = &builder->capture->devices[transfer->device];
    uint16_t idVendor = usbip_load_le16(bytes + 8), idProduct = usbip_load_le16(bytes + 10);
    if (device->has_ids && (device->idVendor != idVendor || device->idProduct != idProduct)) {
        uint32_t other = capture_add_device(builder, device->bus, device->address);
        if (other == CAPTURE_NONE)
            return -1;
        transfer->device = (uint16_t)other;
        device = &builder->capture->devices[other];
    }
    device->has_ids = true;
    device->idVendor = idVendor;
    device->idProduct = idProduct;
    device->bcdDevice = usbip_load_le16(bytes + 12);
    device->bDeviceClass = bytes[4];
    device->bDeviceSubClass = bytes[5];
    device->bDeviceProtocol = bytes[6];
    return 0;
}

int capture_note_descriptor(struct capture_builder *builder, uint32_t index)
{
    struct usbip_capture_transfer *transfer = &builder->capture->transfers[index];
    struct usbip_capture_device *device = &builder->capture->devices[transfer->device];
    struct usbip_setup setup;
    usbip_decode_setup(transfer->setup, &setup);
    if ((setup.bmRequestType & ~USB_DIR_IN) != (USB_TYPE_STANDARD | USB_RECIP_DEVICE))
        return 0;
    switch (setup.bRequest) {
    case USB_REQ_SET_ADDRESS:
        /* What happened at address 0 belongs to the device that has left it. */
        if (device->address == 0)
            device->address = setup.wValue & 0x7f;
        return 0;
    case USB_REQ_SET_CONFIGURATION:
        device->configuration_value = (uint8_t)setup.wValue;
        return 0;
    case USB_REQ_GET_DESCRIPTOR:
        break;
    default:
        return 0;
    }
    if (!usbip_transfer_is_in(transfer) || transfer->size < 2 ||
        transfer->data[1] != setup.wValue >> 8)
        return 0;
    if (transfer->data[1] == USB_DT_DEVICE && transfer->size >= IDS_END &&
        note_ids(builder, transfer) < 0)
        return -1;
    return keep_descriptor(builder, transfer, &setup);
}
