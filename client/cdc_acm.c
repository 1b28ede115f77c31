/*
 * CDC-ACM: USB Communications Device Class, Abstract Control Model.
 *
 * An ACM function is a communications interface, which requests are addressed to, and a data
 * interface, tied together by functional descriptors. Many devices get these wrong; whatever
 * Linux's driver binds to is accepted, and what it only binds to by a table of quirks is guessed.
 */
#include "client/driver.h"

#include "protocol/cdc.h"

enum {
    PACKET_SIZE_MASK = 0x07ff, /* wMaxPacketSize has other bits above, USB 2.0 table 9-13 */
    /* Above are vendors' protocols: RNDIS network adapters call themselves ACM, too. */
    LAST_SERIAL_PROTOCOL = 0x06,
    /* Interval for devices that give none, as Linux's driver takes it. */
    DEFAULT_INTERRUPT_INTERVAL = 16,
};

static uint16_t packet_size(const struct usbip_endpoint_descriptor *endpoint)
{
    return endpoint->wMaxPacketSize & PACKET_SIZE_MASK;
}

/* Takes the data endpoints of a setting into chip. Returns false when they are not there. */
static bool take_data_endpoints(const struct usbip_configuration *configuration,
                                const struct usbip_altsetting *setting, struct usbip_chip *chip)
{
    static const uint8_t types[] = {USB_ENDPOINT_XFER_BULK, USB_ENDPOINT_XFER_INT};

    for (size_t i = 0; i < sizeof(types); i++) {
        const struct usbip_endpoint_descriptor *in =
            usbip_find_endpoint(configuration, setting, types[i], USB_DIR_IN);
        const struct usbip_endpoint_descriptor *out =
            usbip_find_endpoint(configuration, setting, types[i], 0);

        if (in == NULL || out == NULL || packet_size(in) == 0 || packet_size(out) == 0)
            continue;
        chip->data_type = types[i];
        chip->data_interval = in->bInterval;
        chip->bulk_in = in->bEndpointAddress;
        chip->bulk_in_packet_size = packet_size(in);
        chip->bulk_out = out->bEndpointAddress;
        chip->bulk_out_packet_size = packet_size(out);
        return true;
    }
    return false;
}

static void take_notification_endpoint(const struct usbip_configuration *configuration,
                                       const struct usbip_altsetting *setting,
                                       struct usbip_chip *chip)
{
    const struct usbip_endpoint_descriptor *endpoint =
        usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_INT, USB_DIR_IN);

    if (endpoint == NULL || endpoint->bEndpointAddress == chip->bulk_in ||
        packet_size(endpoint) == 0)
        return;
    chip->interrupt_in = endpoint->bEndpointAddress;
    chip->interrupt_packet_size = packet_size(endpoint);
    chip->interrupt_interval =
        endpoint->bInterval > 0 ? endpoint->bInterval : DEFAULT_INTERRUPT_INTERVAL;
}

static bool is_data(const struct usbip_altsetting *setting)
{
    return setting->descriptor.bInterfaceClass == USB_CLASS_CDC_DATA;
}

/* A data interface that nothing points to: the first behind the control interface, else the first.
 */
static const struct usbip_altsetting *
guess_data_interface(const struct usbip_configuration *configuration,
                     const struct usbip_altsetting *control)
{
    const struct usbip_altsetting *first = NULL;

    for (unsigned i = 0; i < configuration->altsetting_count; i++) {
        const struct usbip_altsetting *setting = &configuration->altsettings[i];

        if (!is_data(setting) || setting->descriptor.bAlternateSetting != 0)
            continue;
        if (setting->descriptor.bInterfaceNumber > control->descriptor.bInterfaceNumber)
            return setting;
        if (first == NULL)
            first = setting;
    }
    return first;
}

/*
 * The data interface that the functional descriptors name; the control interface itself when both
 * are one. NULL when they name none.
 */
static const struct usbip_altsetting *
named_data_interface(const struct usbip_configuration *configuration,
                     const struct usbip_altsetting *control,
                     const struct usbip_cdc_functional_descriptors *functional)
{
    const struct usbip_altsetting *master, *slave;

    if (!functional->has_union) {
        if (control->endpoint_count == 3)
            return control;
        /* Interface 0 stands for "none" in call management descriptors. */
        if (functional->has_call_management && functional->bDataInterface > 0)
            return usbip_find_altsetting(configuration, functional->bDataInterface, 0);
        return NULL;
    }
    master = usbip_find_altsetting(configuration, functional->bControlInterface, 0);
    slave = usbip_find_altsetting(configuration, functional->bSubordinateInterface0, 0);
    if (master == NULL || slave == NULL)
        return NULL;
    if (master == slave)
        return control;
    if (is_data(master)) /* swapped */
        return master;
    if (master->descriptor.bInterfaceClass != USB_CLASS_COMM) /* a broken union */
        return control;
    return slave;
}

static bool probe_interface(const struct usbip_configuration *configuration,
                            const struct usbip_altsetting *control, struct usbip_chip *chip)
{
    struct usbip_cdc_functional_descriptors functional;
    const struct usbip_altsetting *data;

    /* A wrong bLength ends the list early; what stands before it is still of use. */
    usbip_cdc_parse_functional_descriptors(control->extra, control->extra_size, &functional);
    data = named_data_interface(configuration, control, &functional);
    if (data == NULL || !take_data_endpoints(configuration, data, chip)) {
        data = guess_data_interface(configuration, control);
        if (data == NULL || !take_data_endpoints(configuration, data, chip))
            return false;
    }
    take_notification_endpoint(configuration, control, chip);
    chip->name = "CDC-ACM";
    chip->ports = 1;
    chip->control_interface = control->descriptor.bInterfaceNumber;
    chip->capabilities = functional.acm_bmCapabilities;
    return true;
}

static bool probe(const struct usbip_device_descriptor *device,
                  const struct usbip_configuration *configuration, struct usbip_chip *chip)
{
    (void)device;
    /* Vendors' protocols come second, so that a real serial port beside them is found first. */
    for (int vendor = 0; vendor <= 1; vendor++) {
        for (unsigned i = 0; i < configuration->altsetting_count; i++) {
            const struct usbip_altsetting *setting = &configuration->altsettings[i];
            const struct usbip_interface_descriptor *d = &setting->descriptor;

            if (d->bInterfaceClass == USB_CLASS_COMM && d->bInterfaceSubClass == CDC_SUBCLASS_ACM &&
                d->bAlternateSetting == 0 &&
                (d->bInterfaceProtocol > LAST_SERIAL_PROTOCOL) == (vendor == 1) &&
                probe_interface(configuration, setting, chip))
                return true;
        }
    }
    return false;
}

static struct usbip_setup class_request(const struct usbip_chip *chip, uint8_t bRequest,
                                        uint16_t wValue, uint16_t wLength)
{
    return (struct usbip_setup){
        .bmRequestType = USB_TYPE_CLASS | USB_RECIP_INTERFACE,
        .bRequest = bRequest,
        .wValue = wValue,
        .wIndex = chip->control_interface,
        .wLength = wLength,
    };
}

static int line_coding(const struct usbip_chip *chip, const struct usbip_line_coding *coding,
                       struct usbip_request_list *list)
{
    uint8_t data[CDC_LINE_CODING_SIZE];

    usbip_cdc_encode_line_coding(data, coding);
    usbip_request_list_add(list, class_request(chip, CDC_SET_LINE_CODING, 0, CDC_LINE_CODING_SIZE),
                           data);
    return 0;
}

/* Devices without a real line often have no line coding; Linux goes on without it, too. */
static int open_chip(const struct usbip_chip *chip, const struct usbip_serial_settings *settings,
                     struct usbip_request_list *list)
{
    line_coding(chip, &settings->line_coding, list);
    list->requests[list->count - 1].may_stall = true;
    return 0;
}

/* bmCapabilities is often wrong, so the request is sent even when it says that there is none. */
static int control_lines(const struct usbip_chip *chip, unsigned lines,
                         struct usbip_request_list *list)
{
    const uint16_t wValue = (uint16_t)(lines & (USBIP_LINE_DTR | USBIP_LINE_RTS));

    usbip_request_list_add(list, class_request(chip, CDC_SET_CONTROL_LINE_STATE, wValue, 0), NULL);
    list->requests[list->count - 1].may_stall = !(chip->capabilities & CDC_CAP_LINE);
    return 0;
}

static int set_break(const struct usbip_chip *chip, const struct usbip_line_coding *coding, bool on,
                     struct usbip_request_list *list)
{
    (void)coding;
    if (!(chip->capabilities & CDC_CAP_BREAK))
        return -1;
    usbip_request_list_add(
        list, class_request(chip, CDC_SEND_BREAK, on ? CDC_BREAK_UNTIL_STOPPED : 0, 0), NULL);
    return 0;
}

static int close_chip(const struct usbip_chip *chip, struct usbip_request_list *list)
{
    return control_lines(chip, 0, list);
}

static void notified(const struct usbip_chip *chip, const uint8_t *data, size_t size,
                     unsigned *modem)
{
    int state = usbip_cdc_decode_serial_state(data, size);

    (void)chip;
    if (state >= 0)
        *modem = (unsigned)state;
}

const struct usbip_driver usbip_driver_cdc_acm = {
    .name = "CDC-ACM",
    /*
     * A message that fills its last packet must be followed by an empty one, or the host waits for
     * more; many devices forget it.
     */
    .may_forget_to_end = true,
    .probe = probe,
    .open = open_chip,
    .line_coding = line_coding,
    .control_lines = control_lines,
    .set_break = set_break,
    .close = close_chip,
    .notified = notified,
};
