#include "emulator/capture/description.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/capture/chip.h"
#include "emulator/capture/side_file.h"
#include "protocol/cdc.h"
#include "protocol/configuration.h"

enum {
    MAX_FUNCTIONS = 8, /* that are made up for CDC-ACM: serial ports of one device */
    MAX_STRING_SIZE = 3 * 126 + 1,
    /* As the emulator's own devices have them. */
    DEFAULT_VENDOR_ID = 0x1209,
    DEFAULT_ACM_PRODUCT_ID = 0x0001,
    DEFAULT_RAW_PRODUCT_ID = 0x0002,
    DEFAULT_POWER = 50, /* in 2 mA */
    DEFAULT_INTERVAL = 10,
    NOTIFICATION_PACKET_SIZE = 16,
    CH34X_INTERRUPT_SIZE = 8,
    MAX_SYNTHESISED_SIZE = 1024,
};

const char *usbip_description_origin_name(enum usbip_description_origin origin)
{
    static const char *const names[] = {
        [USBIP_ORIGIN_ANSWER] = "GET_DESCRIPTOR",   [USBIP_ORIGIN_SIDE_FILE] = "the side file",
        [USBIP_ORIGIN_INJECTED] = "the recorder",   [USBIP_ORIGIN_IDS] = "ids of OP_REP_IMPORT",
        [USBIP_ORIGIN_SYNTHESISED] = "synthesised",
    };
    return names[origin];
}

/* ---- From the capture ---- */

static enum usbip_description_origin origin_of(const struct usbip_capture_descriptor *descriptor)
{
    return descriptor->injected ? USBIP_ORIGIN_INJECTED : USBIP_ORIGIN_ANSWER;
}

static bool take_device_descriptor(const struct usbip_capture_device *device,
                                   struct usbip_description *description, bool injected)
{
    const struct usbip_capture_descriptor *found =
        usbip_capture_find_descriptor(device, USB_DT_DEVICE, 0, 0);
    if (!found || found->injected != injected ||
        usbip_decode_device_descriptor(found->data, found->size, &description->device) < 0)
        return false;
    description->device_origin = origin_of(found);
    description->device_record = found->record;
    return true;
}

/* Whole, well-formed, and the one that was set if the host has set one. */
static bool is_usable(const struct usbip_capture_descriptor *descriptor, uint8_t value)
{
    struct usbip_configuration table;
    return descriptor->type == USB_DT_CONFIG &&
           usbip_parse_configuration(descriptor->data, descriptor->size, &table) == 0 &&
           table.descriptor.wTotalLength <= descriptor->size &&
           (value == 0 || table.descriptor.bConfigurationValue == value);
}

/* Returns 1 when it was found, 0 when not, -1 when memory is out. */
static int take_configuration(const struct usbip_capture_device *device,
                              struct usbip_description *description, bool injected)
{
    const struct usbip_capture_descriptor *found = NULL;
    for (unsigned i = 0; i < device->descriptor_count && !found; i++) {
        if (device->descriptors[i].injected == injected &&
            is_usable(&device->descriptors[i], device->configuration_value))
            found = &device->descriptors[i];
    }
    if (!found)
        return 0;
    struct usbip_config_descriptor head;
    usbip_decode_config_descriptor(found->data, found->size, &head);
    description->configuration = malloc(head.wTotalLength);
    if (!description->configuration)
        return -1;
    memcpy(description->configuration, found->data, head.wTotalLength);
    description->configuration_size = head.wTotalLength;
    description->configuration_origin = origin_of(found);
    description->configuration_record = found->record;
    return 1;
}

/* Strings that were read win over those of a side file. */
static int take_strings(const struct usbip_capture_device *device,
                        struct usbip_description *description)
{
    for (unsigned i = 0; i < device->descriptor_count; i++) {
        const struct usbip_capture_descriptor *descriptor = &device->descriptors[i];
        char text[MAX_STRING_SIZE];
        if (descriptor->type != USB_DT_STRING || descriptor->index == 0 ||
            descriptor->size < descriptor->data[0] ||
            usbip_decode_string_descriptor(descriptor->data, descriptor->size, text, sizeof text) <
                0)
            continue;
        char *copy = strdup(text);
        if (!copy)
            return -1;
        free(description->strings[descriptor->index]);
        description->strings[descriptor->index] = copy;
    }
    return 0;
}

/* ---- Synthesis ---- */

struct synthesis {
    const struct usbip_capture *capture;
    const struct usbip_capture_device *device;
    bool high_speed;
    uint8_t bytes[MAX_SYNTHESISED_SIZE];
    size_t size;
    unsigned interfaces;
};

static void add_interface(struct synthesis *synthesis, uint8_t number, uint8_t endpoints,
                          uint8_t class, uint8_t subclass, uint8_t protocol)
{
    usbip_encode_interface_descriptor(synthesis->bytes + synthesis->size,
                                      &(struct usbip_interface_descriptor){
                                          .bInterfaceNumber = number,
                                          .bNumEndpoints = endpoints,
                                          .bInterfaceClass = class,
                                          .bInterfaceSubClass = subclass,
                                          .bInterfaceProtocol = protocol,
                                      });
    synthesis->size += USB_DT_INTERFACE_SIZE;
    synthesis->interfaces++;
}

static void add_endpoint(struct synthesis *synthesis, uint8_t address, uint8_t type,
                         uint16_t packet_size, uint8_t interval)
{
    usbip_encode_endpoint_descriptor(synthesis->bytes + synthesis->size,
                                     &(struct usbip_endpoint_descriptor){
                                         .bEndpointAddress = address,
                                         .bmAttributes = type,
                                         .wMaxPacketSize = packet_size,
                                         .bInterval = interval,
                                     });
    synthesis->size += USB_DT_ENDPOINT_SIZE;
}

/* The address of the n-th endpoint of a kind that the traffic shows, or 0. */
static uint8_t seen_endpoint(const struct usbip_capture_device *device, uint8_t type,
                             uint8_t direction, unsigned n)
{
    for (unsigned i = 0; i < device->endpoint_count; i++) {
        const struct usbip_capture_endpoint *endpoint = &device->endpoints[i];
        if (endpoint->type == type && (endpoint->address & USB_DIR_IN) == direction &&
            (endpoint->address & 0x0f) != 0 && n-- == 0)
            return endpoint->address;
    }
    return 0;
}

/* One that the traffic does not show, for an endpoint that must exist. */
static uint8_t free_endpoint(const struct synthesis *synthesis, uint8_t direction)
{
    for (uint8_t number = 1; number < 16; number++) {
        uint8_t address = number | direction;
        bool used = false;
        for (unsigned i = 0; i < synthesis->device->endpoint_count; i++)
            used |= synthesis->device->endpoints[i].address == address;
        size_t offset = USB_DT_CONFIG_SIZE; /* which is written last */
        const uint8_t *descriptor;
        while (usbip_next_descriptor(synthesis->bytes, synthesis->size, &offset, &descriptor) > 0)
            used |= descriptor[1] == USB_DT_ENDPOINT && descriptor[2] == address;
        if (!used)
            return address;
    }
    return 15 | direction;
}

static uint8_t endpoint_for(const struct synthesis *synthesis, uint8_t type, uint8_t direction,
                            unsigned n)
{
    uint8_t seen = seen_endpoint(synthesis->device, type, direction, n);
    return seen ? seen : free_endpoint(synthesis, direction);
}

static uint16_t bulk_packet_size(const struct synthesis *synthesis)
{
    return synthesis->high_speed ? 512 : 64;
}

static void add_ftdi(struct synthesis *synthesis, const struct usbip_chip *chip)
{
    for (uint8_t port = 0; port < chip->ports; port++) {
        add_interface(synthesis, port, 2, USB_CLASS_VENDOR_SPEC, USB_CLASS_VENDOR_SPEC,
                      USB_CLASS_VENDOR_SPEC);
        add_endpoint(synthesis, (uint8_t)(USB_DIR_IN | (2 * port + 1)), USB_ENDPOINT_XFER_BULK,
                     chip->packet_size, 0);
        add_endpoint(synthesis, (uint8_t)(2 * port + 2), USB_ENDPOINT_XFER_BULK, chip->packet_size,
                     0);
    }
}

/* The control interfaces that class requests went to, ascending. Returns how many. */
static unsigned find_control_interfaces(const struct synthesis *synthesis,
                                        uint8_t interfaces[MAX_FUNCTIONS])
{
    const struct usbip_capture *capture = synthesis->capture;
    bool used[UINT8_MAX + 1] = {false};
    for (uint32_t i = 0; i < capture->transfer_count; i++) {
        const struct usbip_capture_transfer *transfer = &capture->transfers[i];
        struct usbip_setup setup;
        if (&capture->devices[transfer->device] != synthesis->device ||
            !(transfer->flags & USBIP_TRANSFER_HAS_SETUP))
            continue;
        usbip_decode_setup(transfer->setup, &setup);
        if (usbip_chip_family_of_request(&setup) == USBIP_CHIP_CDC_ACM)
            used[setup.wIndex & 0xff] = true;
    }
    unsigned count = 0;
    for (unsigned i = 0; i < UINT8_MAX && count < MAX_FUNCTIONS; i++) {
        if (used[i])
            interfaces[count++] = (uint8_t)i;
    }
    return count;
}

static void add_acm(struct synthesis *synthesis)
{
    uint8_t controls[MAX_FUNCTIONS] = {0};
    unsigned count = find_control_interfaces(synthesis, controls);
    for (unsigned i = 0; i < (count ? count : 1); i++) {
        uint8_t control = controls[i], data = (uint8_t)(control + 1);
        if (count > 1) {
            usbip_encode_interface_association_descriptor(
                synthesis->bytes + synthesis->size,
                &(struct usbip_interface_association_descriptor){
                    .bFirstInterface = control,
                    .bInterfaceCount = 2,
                    .bFunctionClass = USB_CLASS_COMM,
                    .bFunctionSubClass = CDC_SUBCLASS_ACM,
                    .bFunctionProtocol = CDC_PROTOCOL_AT,
                });
            synthesis->size += USB_DT_INTERFACE_ASSOCIATION_SIZE;
        }
        add_interface(synthesis, control, 1, USB_CLASS_COMM, CDC_SUBCLASS_ACM, CDC_PROTOCOL_AT);
        uint8_t *functional = synthesis->bytes + synthesis->size;
        usbip_cdc_encode_header(functional, 0x0110);
        functional += CDC_HEADER_SIZE;
        usbip_cdc_encode_call_management(functional, 0, data);
        functional += CDC_CALL_MANAGEMENT_SIZE;
        usbip_cdc_encode_acm(functional, CDC_CAP_LINE | CDC_CAP_BREAK);
        functional += CDC_ACM_SIZE;
        usbip_cdc_encode_union(functional, control, data);
        synthesis->size = (size_t)(functional + CDC_UNION_SIZE - synthesis->bytes);
        add_endpoint(synthesis, endpoint_for(synthesis, USB_ENDPOINT_XFER_INT, USB_DIR_IN, i),
                     USB_ENDPOINT_XFER_INT, NOTIFICATION_PACKET_SIZE, DEFAULT_INTERVAL);
        add_interface(synthesis, data, 2, USB_CLASS_CDC_DATA, 0, 0);
        add_endpoint(synthesis, endpoint_for(synthesis, USB_ENDPOINT_XFER_BULK, 0, i),
                     USB_ENDPOINT_XFER_BULK, bulk_packet_size(synthesis), 0);
        add_endpoint(synthesis, endpoint_for(synthesis, USB_ENDPOINT_XFER_BULK, USB_DIR_IN, i),
                     USB_ENDPOINT_XFER_BULK, bulk_packet_size(synthesis), 0);
    }
}

/* One vendor-specific interface with the endpoints that the chip has, where the traffic does not
 * show other addresses. */
static void add_vendor_chip(struct synthesis *synthesis, const struct usbip_chip *chip)
{
    bool has_interrupt = chip->family != USBIP_CHIP_CP210X,
         is_ch34x = chip->family == USBIP_CHIP_CH34X;
    add_interface(synthesis, 0, has_interrupt ? 3 : 2, USB_CLASS_VENDOR_SPEC, is_ch34x ? 1 : 0,
                  is_ch34x ? 2 : 0);
    static const struct {
        uint8_t in, out, interrupt;
    } layouts[] = {
        [USBIP_CHIP_CP210X] = {0x81, 0x01, 0},
        [USBIP_CHIP_CH34X] = {0x82, 0x02, 0x81},
        [USBIP_CHIP_PL2303] = {0x83, 0x02, 0x81},
    };
    uint8_t in = seen_endpoint(synthesis->device, USB_ENDPOINT_XFER_BULK, USB_DIR_IN, 0);
    uint8_t out = seen_endpoint(synthesis->device, USB_ENDPOINT_XFER_BULK, 0, 0);
    uint8_t interrupt = seen_endpoint(synthesis->device, USB_ENDPOINT_XFER_INT, USB_DIR_IN, 0);
    add_endpoint(synthesis, in ? in : layouts[chip->family].in, USB_ENDPOINT_XFER_BULK,
                 chip->packet_size, 0);
    add_endpoint(synthesis, out ? out : layouts[chip->family].out, USB_ENDPOINT_XFER_BULK,
                 chip->packet_size, 0);
    if (has_interrupt)
        add_endpoint(synthesis, interrupt ? interrupt : layouts[chip->family].interrupt,
                     USB_ENDPOINT_XFER_INT, is_ch34x ? CH34X_INTERRUPT_SIZE : 10, 1);
}

/* No chip that is known: the endpoints that the traffic shows. */
static void add_unknown(struct synthesis *synthesis)
{
    const struct usbip_capture_device *device = synthesis->device;
    size_t interface = synthesis->size;
    uint8_t count = 0;
    add_interface(synthesis, 0, 0, USB_CLASS_VENDOR_SPEC, 0, 0);
    for (unsigned i = 0; i < device->endpoint_count; i++) {
        const struct usbip_capture_endpoint *endpoint = &device->endpoints[i];
        if ((endpoint->address & 0x0f) == 0)
            continue;
        uint16_t packet_size = bulk_packet_size(synthesis);
        if (endpoint->type != USB_ENDPOINT_XFER_BULK) {
            for (packet_size = 8; packet_size < endpoint->longest && packet_size < 64;)
                packet_size = (uint16_t)(2 * packet_size);
        }
        add_endpoint(synthesis, endpoint->address, endpoint->type, packet_size,
                     endpoint->type == USB_ENDPOINT_XFER_BULK ? 0 : 1);
        count++;
    }
    synthesis->bytes[interface + 4] = count; /* bNumEndpoints */
}

static int synthesise_configuration(const struct usbip_capture *capture,
                                    const struct usbip_capture_device *device,
                                    struct usbip_description *description)
{
    const struct usbip_chip *chip = device->chip;
    struct synthesis synthesis = {
        .capture = capture,
        .device = device,
        .high_speed = device->speed == USBIP_SPEED_HIGH,
        .size = USB_DT_CONFIG_SIZE,
    };
    if (!chip)
        add_unknown(&synthesis);
    else if (chip->family == USBIP_CHIP_CDC_ACM)
        add_acm(&synthesis);
    else if (chip->family == USBIP_CHIP_FTDI)
        add_ftdi(&synthesis, chip);
    else
        add_vendor_chip(&synthesis, chip);
    uint8_t value = device->configuration_value ? device->configuration_value : 1;
    usbip_encode_config_descriptor(synthesis.bytes,
                                   &(struct usbip_config_descriptor){
                                       .wTotalLength = (uint16_t)synthesis.size,
                                       .bNumInterfaces = (uint8_t)synthesis.interfaces,
                                       .bConfigurationValue = value,
                                       .bmAttributes = USB_CONFIG_ATT_ONE,
                                       .bMaxPower = DEFAULT_POWER,
                                   });
    description->configuration = malloc(synthesis.size);
    if (!description->configuration)
        return -1;
    memcpy(description->configuration, synthesis.bytes, synthesis.size);
    description->configuration_size = synthesis.size;
    description->configuration_origin = USBIP_ORIGIN_SYNTHESISED;
    return 0;
}

static void synthesise_device(const struct usbip_capture_device *device,
                              struct usbip_description *description)
{
    const struct usbip_chip *chip = device->chip;
    bool is_acm = chip && chip->family == USBIP_CHIP_CDC_ACM;
    struct usbip_device_descriptor *descriptor = &description->device;
    *descriptor = (struct usbip_device_descriptor){
        .bcdUSB = 0x0200,
        .bDeviceClass = is_acm ? USB_CLASS_COMM : USB_CLASS_PER_INTERFACE,
        .bMaxPacketSize0 = chip ? chip->bMaxPacketSize0 : 64,
        .idVendor = chip && chip->idVendor ? chip->idVendor : DEFAULT_VENDOR_ID,
        .idProduct = chip && chip->idProduct ? chip->idProduct
                     : is_acm                ? DEFAULT_ACM_PRODUCT_ID
                                             : DEFAULT_RAW_PRODUCT_ID,
        .bcdDevice = chip && chip->bcdDevice ? chip->bcdDevice : 0x0100,
        .bNumConfigurations = 1,
    };
    description->device_origin = USBIP_ORIGIN_SYNTHESISED;
    if (!device->has_ids)
        return;
    description->device_origin = USBIP_ORIGIN_IDS;
    descriptor->idVendor = device->idVendor;
    descriptor->idProduct = device->idProduct;
    descriptor->bcdDevice = device->bcdDevice;
    descriptor->bDeviceClass = device->bDeviceClass;
    descriptor->bDeviceSubClass = device->bDeviceSubClass;
    descriptor->bDeviceProtocol = device->bDeviceProtocol;
}

/* By the packet sizes that each speed allows (USB 2.0, sections 5.5.3 to 5.8.3). */
static enum usbip_speed guess_speed(const struct usbip_description *description)
{
    struct usbip_configuration table;
    if (description->device.bcdUSB >= 0x0300 && description->device.bMaxPacketSize0 == 9)
        return USBIP_SPEED_SUPER;
    if (usbip_parse_configuration(description->configuration, description->configuration_size,
                                  &table) < 0)
        return USBIP_SPEED_FULL;
    bool may_be_low = description->device.bMaxPacketSize0 == 8;
    for (unsigned i = 0; i < table.endpoint_count; i++) {
        uint8_t type = table.endpoints[i].bmAttributes & USB_ENDPOINT_XFERTYPE_MASK;
        uint16_t size = table.endpoints[i].wMaxPacketSize & USB_ENDPOINT_MAXP_MASK;
        if (type == USB_ENDPOINT_XFER_BULK && size == 512)
            return USBIP_SPEED_HIGH;
        may_be_low = may_be_low && type == USB_ENDPOINT_XFER_INT && size <= 8;
    }
    return may_be_low && table.endpoint_count > 0 ? USBIP_SPEED_LOW : USBIP_SPEED_FULL;
}

/* ---- All of it ---- */

static int describe(const struct usbip_capture *capture, const struct usbip_capture_device *device,
                    const char *side_file, struct usbip_description *description,
                    char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    struct usbip_description side = {0};
    if (side_file && side_file_read(side_file, device, &side, error_text) < 0) {
        usbip_description_free(&side);
        return -1;
    }
    memcpy(description->strings, side.strings, sizeof side.strings);
    memset(side.strings, 0, sizeof side.strings);

    if (!take_device_descriptor(device, description, false) &&
        !take_device_descriptor(device, description, true)) {
        if (side_file) {
            description->device = side.device;
            description->device_origin = USBIP_ORIGIN_SIDE_FILE;
        } else {
            synthesise_device(device, description);
        }
    }
    int found = take_configuration(device, description, false);
    if (found == 0)
        found = take_configuration(device, description, true);
    if (found == 0 && side_file) {
        description->configuration = side.configuration;
        description->configuration_size = side.configuration_size;
        description->configuration_origin = USBIP_ORIGIN_SIDE_FILE;
        side.configuration = NULL;
        found = 1;
    }
    usbip_description_free(&side);
    if (found == 0)
        found = synthesise_configuration(capture, device, description);
    if (found < 0 || take_strings(device, description) < 0) {
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, "%s: out of memory", capture->path);
        return -1;
    }
    /* A side file may know more than the traffic. */
    description->chip = usbip_chip_of_descriptors(
        description->device.idVendor, description->device.idProduct, description->device.bcdDevice,
        description->configuration, description->configuration_size);
    if (!description->chip)
        description->chip = device->chip;
    description->speed_is_known = device->speed != USBIP_SPEED_UNKNOWN;
    description->speed = description->speed_is_known ? device->speed : guess_speed(description);
    return 0;
}

int usbip_describe(const struct usbip_capture *capture, unsigned device, const char *side_file,
                   struct usbip_description *description, char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    *description = (struct usbip_description){0};
    int result = describe(capture, &capture->devices[device], side_file, description, error_text);
    if (result < 0)
        usbip_description_free(description);
    return result;
}

void usbip_description_free(struct usbip_description *description)
{
    free(description->configuration);
    for (unsigned i = 0; i < USBIP_DESCRIPTION_STRINGS; i++)
        free(description->strings[i]);
    *description = (struct usbip_description){0};
}
