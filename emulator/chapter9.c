/* Endpoint 0: the standard requests of USB 2.0, section 9.4. */
#include <string.h>

#include "emulator/device_internal.h"
#include "emulator/session.h"

/* Port reset as hosts send it to a hub; Linux's server carries it out on the device. */
enum { PORT_RESET_REQUEST_TYPE = 0x23, PORT_FEATURE_RESET = 4 };

enum { FULL_SPEED_BULK_PACKET_SIZE = 64 };
enum { CONFIG_ATTRIBUTES = 7 }; /* offset of bmAttributes, table 9-10 */

static void accept(struct usbip_urb *urb)
{
    usbip_urb_complete(urb, 0, urb->length);
}

/* To a request that cannot be carried out. */
static void react(struct usbip_urb *urb, enum usbip_reaction reaction, const char *why)
{
    if (reaction == USBIP_CLOSE)
        usbip_device_session_disconnect(urb->device->session, why);
    else if (reaction == USBIP_ACCEPT)
        accept(urb);
    else
        usbip_urb_stall(urb);
}

static bool interface_exists(const struct usbip_device *device, uint16_t wIndex)
{
    return device->bConfigurationValue && wIndex < INTERFACE_COUNT &&
           usbip_find_altsetting(device->configuration, (uint8_t)wIndex, 0);
}

/* Endpoint 0 always does, in both spellings. */
static bool endpoint_exists(const struct usbip_device *device, uint16_t wIndex)
{
    return (wIndex & ~(USB_DIR_IN | 0x0f)) == 0 &&
           usbip_device_endpoint_type(device, (uint8_t)wIndex) >= 0;
}

/* ---- Descriptors ---- */

static void get_string(struct usbip_device *device, struct usbip_urb *urb, uint8_t index)
{
    uint8_t bytes[USB_DT_STRING_MAX_SIZE];
    if (index == 0) {
        const uint8_t languages[] = {4, USB_DT_STRING, USB_LANGID_ENGLISH_US & 0xff,
                                     USB_LANGID_ENGLISH_US >> 8};
        usbip_urb_complete_with(urb, languages, sizeof languages);
        return;
    }
    if (index >= USBIP_MAX_STRINGS || !device->strings[index]) {
        usbip_urb_stall(urb);
        return;
    }
    int size = usbip_encode_string_descriptor(bytes, device->strings[index]);
    usbip_urb_complete_with(urb, bytes, (size_t)size);
}

static void get_qualifier(const struct usbip_device *device, struct usbip_urb *urb)
{
    const struct usbip_device_descriptor *d = &device->descriptor;
    struct usbip_qualifier_descriptor qualifier = {
        .bcdUSB = d->bcdUSB,
        .bDeviceClass = d->bDeviceClass,
        .bDeviceSubClass = d->bDeviceSubClass,
        .bDeviceProtocol = d->bDeviceProtocol,
        .bMaxPacketSize0 = d->bMaxPacketSize0,
        .bNumConfigurations = d->bNumConfigurations,
    };
    uint8_t bytes[USB_DT_DEVICE_QUALIFIER_SIZE];
    usbip_encode_qualifier_descriptor(bytes, &qualifier);
    usbip_urb_complete_with(urb, bytes, sizeof bytes);
}

/* The same configuration as it would be at full speed: packets of at most 64 bytes. */
static void get_other_speed(const struct usbip_device *device, struct usbip_urb *urb)
{
    uint8_t bytes[USBIP_MAX_CONFIGURATION_SIZE];
    size_t size = device->configuration_size, offset = 0;
    memcpy(bytes, device->configuration_bytes, size);
    const uint8_t *at;
    while (usbip_next_descriptor(bytes, size, &offset, &at) > 0) {
        struct usbip_endpoint_descriptor endpoint;
        uint8_t *descriptor = bytes + (at - bytes);
        if (usbip_decode_endpoint_descriptor(at, (size_t)(bytes + size - at), &endpoint) == 0 &&
            endpoint.wMaxPacketSize > FULL_SPEED_BULK_PACKET_SIZE) {
            endpoint.wMaxPacketSize = FULL_SPEED_BULK_PACKET_SIZE;
            usbip_encode_endpoint_descriptor(descriptor, &endpoint);
        }
    }
    bytes[1] = USB_DT_OTHER_SPEED_CONFIG;
    usbip_urb_complete_with(urb, bytes, size);
}

static void get_configuration_descriptor(const struct usbip_device *device, struct usbip_urb *urb)
{
    uint8_t bytes[USBIP_MAX_CONFIGURATION_SIZE];
    memcpy(bytes, device->configuration_bytes, device->configuration_size);
    if (device->personality->hides_remote_wakeup)
        bytes[CONFIG_ATTRIBUTES] &= (uint8_t)~USB_CONFIG_ATT_WAKEUP;
    usbip_urb_complete_with(urb, bytes, device->configuration_size);
}

/* Returns false for a descriptor that is not the device's own. */
static bool get_descriptor(struct usbip_device *device, struct usbip_urb *urb)
{
    uint8_t type = (uint8_t)(urb->setup.wValue >> 8);
    uint8_t index = (uint8_t)urb->setup.wValue;
    bool high_speed = device->speed == USBIP_SPEED_HIGH;
    if (type == USB_DT_STRING) {
        get_string(device, urb, index);
    } else if (type == USB_DT_DEVICE && index == 0) {
        uint8_t bytes[USB_DT_DEVICE_SIZE];
        usbip_encode_device_descriptor(bytes, &device->descriptor);
        usbip_urb_complete_with(urb, bytes, sizeof bytes);
    } else if (type == USB_DT_CONFIG &&
               (index == 0 || device->personality->ignores_configuration_index)) {
        get_configuration_descriptor(device, urb);
    } else if (type == USB_DT_DEVICE_QUALIFIER && high_speed) {
        get_qualifier(device, urb);
    } else if (type == USB_DT_OTHER_SPEED_CONFIG && high_speed && index == 0) {
        get_other_speed(device, urb);
    } else {
        return false;
    }
    return true;
}

/* ---- Configuration and interfaces ---- */

static void collect_endpoints(const struct usbip_configuration *configuration,
                              const struct usbip_altsetting *setting,
                              uint8_t endpoints[USB_MAX_ENDPOINTS], size_t *count)
{
    for (unsigned i = 0; i < setting->endpoint_count; i++)
        endpoints[(*count)++] =
            configuration->endpoints[setting->first_endpoint + i].bEndpointAddress;
}

static void enable_endpoints(struct usbip_device *device, const struct usbip_altsetting *setting)
{
    for (unsigned i = 0; i < setting->endpoint_count; i++) {
        const struct usbip_endpoint_descriptor *d =
            &device->configuration->endpoints[setting->first_endpoint + i];
        struct endpoint *endpoint = &device->endpoints[usbip_endpoint_index(d->bEndpointAddress)];
        endpoint->exists = true;
        endpoint->type = d->bmAttributes & USB_ENDPOINT_XFERTYPE_MASK;
        endpoint->packet_size = d->wMaxPacketSize & USB_ENDPOINT_MAXP_MASK;
    }
}

static void shut_down_settings(struct usbip_device *device, int bInterfaceNumber)
{
    const struct usbip_configuration *configuration = device->configuration;
    uint8_t endpoints[USB_MAX_ENDPOINTS];
    size_t count = 0;
    for (unsigned i = 0; i < configuration->altsetting_count; i++) {
        const struct usbip_altsetting *setting = &configuration->altsettings[i];
        if (bInterfaceNumber < 0 || setting->descriptor.bInterfaceNumber == bInterfaceNumber)
            collect_endpoints(configuration, setting, endpoints, &count);
    }
    usbip_device_shut_down_endpoints(device, endpoints, count);
}

static void apply_configuration(struct usbip_device *device, uint8_t value)
{
    shut_down_settings(device, -1);
    memset(device->alternate, 0, sizeof device->alternate);
    device->bConfigurationValue = value;
    for (unsigned i = 0; value && i < device->configuration->altsetting_count; i++) {
        const struct usbip_altsetting *setting = &device->configuration->altsettings[i];
        if (setting->descriptor.bAlternateSetting == 0)
            enable_endpoints(device, setting);
    }
}

static void set_configuration(struct usbip_device *device, struct usbip_urb *urb)
{
    uint16_t value = urb->setup.wValue;
    if (value != 0 && value != device->configuration->descriptor.bConfigurationValue) {
        react(urb, device->personality->unknown_configuration, "no such configuration");
        return;
    }
    apply_configuration(device, (uint8_t)value);
    accept(urb);
}

static void set_interface(struct usbip_device *device, struct usbip_urb *urb)
{
    uint16_t number = urb->setup.wIndex, alternate = urb->setup.wValue;
    const struct usbip_altsetting *setting = NULL;
    if (interface_exists(device, number) && alternate <= UINT8_MAX)
        setting = usbip_find_altsetting(device->configuration, (uint8_t)number, (uint8_t)alternate);
    if (!setting) {
        react(urb, device->personality->unknown_altsetting, "no such alternate setting");
        return;
    }
    shut_down_settings(device, number);
    device->alternate[number] = (uint8_t)alternate;
    enable_endpoints(device, setting);
    accept(urb);
}

void usbip_device_reset(struct usbip_device *device)
{
    device->remote_wakeup = false;
    apply_configuration(device, device->bConfigurationValue);
    device->function->type->reset(device->function);
}

/* ---- Status and features ---- */

static void get_status(struct usbip_device *device, struct usbip_urb *urb)
{
    const struct usbip_setup *setup = &urb->setup;
    uint8_t status[2] = {0, 0};
    bool known = false;
    switch (setup->bmRequestType & USB_RECIP_MASK) {
    case USB_RECIP_DEVICE: {
        bool self_powered =
            device->configuration->descriptor.bmAttributes & USB_CONFIG_ATT_SELFPOWER;
        status[0] = (uint8_t)((self_powered ? 1 : 0) | (device->remote_wakeup ? 2 : 0));
        known = setup->wIndex == 0;
        break;
    }
    case USB_RECIP_INTERFACE:
        known = interface_exists(device, setup->wIndex);
        break;
    case USB_RECIP_ENDPOINT:
        known = endpoint_exists(device, setup->wIndex);
        if (known)
            status[0] = device->endpoints[usbip_endpoint_index((uint8_t)setup->wIndex)].halted;
        break;
    default:
        break;
    }
    if (known)
        usbip_urb_complete_with(urb, status, sizeof status);
    else
        usbip_urb_stall(urb);
}

static void change_feature(struct usbip_device *device, struct usbip_urb *urb, bool set)
{
    const struct usbip_setup *setup = &urb->setup;
    uint8_t recipient = setup->bmRequestType & USB_RECIP_MASK;
    bool halt = recipient == USB_RECIP_ENDPOINT && setup->wValue == USB_ENDPOINT_HALT;
    if (halt && endpoint_exists(device, setup->wIndex)) {
        uint8_t endpoint = (uint8_t)setup->wIndex;
        if (set)
            usbip_device_halt(device, endpoint);
        else
            usbip_device_clear_halt(device, endpoint);
        accept(urb);
    } else if (halt && !set && device->personality->clears_halt_of_any_endpoint) {
        accept(urb);
    } else if (recipient == USB_RECIP_DEVICE && setup->wValue == USB_DEVICE_REMOTE_WAKEUP &&
               (device->configuration->descriptor.bmAttributes & USB_CONFIG_ATT_WAKEUP)) {
        device->remote_wakeup = set;
        accept(urb);
    } else {
        usbip_urb_stall(urb);
    }
}

/* Returns false for a request that is not the device's own. */
static bool standard_request(struct usbip_device *device, struct usbip_urb *urb)
{
    const struct usbip_setup *setup = &urb->setup;
    uint8_t recipient = setup->bmRequestType & USB_RECIP_MASK;
    bool in = setup->bmRequestType & USB_DIR_IN;
    uint8_t byte;

    if (in && setup->bRequest == USB_REQ_GET_STATUS) {
        get_status(device, urb);
    } else if (!in && setup->bRequest == USB_REQ_CLEAR_FEATURE) {
        change_feature(device, urb, false);
    } else if (!in && setup->bRequest == USB_REQ_SET_FEATURE) {
        change_feature(device, urb, true);
    } else if (in && setup->bRequest == USB_REQ_GET_DESCRIPTOR && recipient == USB_RECIP_DEVICE) {
        return get_descriptor(device, urb);
    } else if (in && setup->bRequest == USB_REQ_GET_CONFIGURATION &&
               recipient == USB_RECIP_DEVICE) {
        byte = device->bConfigurationValue;
        usbip_urb_complete_with(urb, &byte, 1);
    } else if (!in && setup->bRequest == USB_REQ_SET_CONFIGURATION &&
               recipient == USB_RECIP_DEVICE) {
        set_configuration(device, urb);
    } else if (in && setup->bRequest == USB_REQ_GET_INTERFACE && recipient == USB_RECIP_INTERFACE &&
               interface_exists(device, setup->wIndex)) {
        byte = device->alternate[setup->wIndex];
        usbip_urb_complete_with(urb, &byte, 1);
    } else if (!in && setup->bRequest == USB_REQ_SET_INTERFACE &&
               recipient == USB_RECIP_INTERFACE) {
        set_interface(device, urb);
    } else if (!in && setup->bRequest == USB_REQ_SET_ADDRESS) {
        usbip_log(device->log, USBIP_LOG_ERROR,
                  "%s: SET_ADDRESS(%u) from the client; the address is the server's, ignored",
                  device->name, setup->wValue);
        accept(urb);
    } else {
        return false;
    }
    return true;
}

/* What a strict host controller would not even send. Returns the status for it, or 0. */
static int32_t check_control(const struct usbip_urb *urb)
{
    const struct usbip_personality *personality = urb->device->personality;
    const struct usbip_setup *setup = &urb->setup;
    bool in = urb->direction == USBIP_DIR_IN;
    if (urb->length != setup->wLength && personality->length_mismatch != USBIP_ACCEPT)
        return -USBIP_EINVAL;
    if (setup->wLength != 0 && in != ((setup->bmRequestType & USB_DIR_IN) != 0))
        return personality->direction_mismatch_status;
    return 0;
}

static bool answers_with_nothing(const struct usbip_device *device, const struct usbip_setup *setup)
{
    return device->personality->answers_unknown_descriptor && setup->bmRequestType == USB_DIR_IN &&
           setup->bRequest == USB_REQ_GET_DESCRIPTOR;
}

void usbip_device_control(struct usbip_device *device, struct usbip_urb *urb)
{
    const struct usbip_setup *setup = &urb->setup;
    int32_t status = check_control(urb);
    if (status != 0) {
        usbip_log(
            device->log, USBIP_LOG_ERROR,
            "%s: control URB %u has direction %s and length %u, its setup packet bmRequestType "
            "0x%02x and wLength %u; they must agree",
            device->name, urb->seqnum, urb->direction == USBIP_DIR_IN ? "IN" : "OUT", urb->length,
            setup->bmRequestType, setup->wLength);
        usbip_urb_complete(urb, status, 0);
        return;
    }
    if (setup->bmRequestType == PORT_RESET_REQUEST_TYPE && setup->bRequest == USB_REQ_SET_FEATURE &&
        setup->wValue == PORT_FEATURE_RESET && device->personality->executes_port_reset) {
        usbip_log(device->log, USBIP_LOG_VERBOSE, "%s: reset", device->name);
        usbip_device_reset(device);
        accept(urb);
        return;
    }
    bool standard = (setup->bmRequestType & USB_TYPE_MASK) == USB_TYPE_STANDARD;
    if (standard && standard_request(device, urb))
        return;
    const struct usbip_behaviour *behaviour = &device->behaviour;
    if (behaviour->ops->control && behaviour->ops->control(behaviour->context, urb))
        return;
    if (standard && answers_with_nothing(device, setup))
        usbip_urb_complete(urb, 0, 0);
    else if (standard)
        usbip_urb_stall(urb);
    else
        device->function->type->control(device->function, urb);
}
