#include <stdio.h>
#include <string.h>

#include "client/port_internal.h"

/*
 * Every step asks for one thing, and its answer starts the next. Endpoints exist only after
 * SET_CONFIGURATION, on this connection, whatever the device's state was before.
 */

/* A request failed that is not optional: the attempt ends. */
static void give_up(struct usbip_port *port, int error)
{
    usbip_port_trouble(port, error, false, "%s", port->request_text);
}

static void ask(struct usbip_port *port, struct usbip_setup setup, usbip_request_done *done)
{
    /* The queue is empty before the port is open, so there is room. */
    usbip_port_request(port, &(struct usbip_control_request){.setup = setup}, done);
}

static void ask_descriptor(struct usbip_port *port, uint8_t type, uint8_t index, uint16_t wIndex,
                           uint16_t wLength, usbip_request_done *done)
{
    const struct usbip_setup setup = {
        .bmRequestType = USB_DIR_IN | USB_TYPE_STANDARD | USB_RECIP_DEVICE,
        .bRequest = USB_REQ_GET_DESCRIPTOR,
        .wValue = (uint16_t)(type << 8 | index),
        .wIndex = wIndex,
        .wLength = wLength,
    };

    ask(port, setup, done);
}

/* ---- Open ---- */

static void opened(struct usbip_port *port, int result, const uint8_t *data, uint32_t size)
{
    struct usbip_request_list coding = {.count = 0}, lines = {.count = 0};

    (void)data;
    (void)size;
    if (result < 0) {
        give_up(port, result);
        return;
    }
    port->identity = port->found;
    if (port->state == USBIP_PORT_RESTORING)
        port->restore_count++;
    port->state = USBIP_PORT_OPEN;
    port->step = USBIP_STEP_READY;
    if (!port->settings_changed)
        return;
    /* Wishes that came in the meantime. One that the chip refuses stays unfulfilled. */
    port->settings_changed = false;
    if (port->chip.driver->line_coding(&port->chip, &port->settings.line_coding, &coding) == 0)
        usbip_port_request_all(port, &coding, NULL);
    if (port->chip.driver->control_lines(&port->chip, port->settings.control_lines, &lines) == 0)
        usbip_port_request_all(port, &lines, NULL);
}

/* A device may send as soon as it sees DTR, so transfers wait for its data before that. */
static void chip_opened(struct usbip_port *port, int result, const uint8_t *data, uint32_t size)
{
    struct usbip_request_list list = {.count = 0};

    (void)data;
    (void)size;
    if (result < 0) {
        give_up(port, result);
        return;
    }
    usbip_port_in_start(port);
    usbip_port_out_start(port);
    port->chip.driver->control_lines(&port->chip, port->settings.control_lines, &list);
    usbip_port_request_all(port, &list, opened);
}

static void configured(struct usbip_port *port, int result, const uint8_t *data, uint32_t size)
{
    struct usbip_request_list list = {.count = 0};
    char text[USBIP_LINE_CODING_TEXT_SIZE];

    (void)data;
    (void)size;
    if (result < 0) {
        give_up(port, result);
        return;
    }
    port->settings_changed = false;
    if (port->chip.driver->open(&port->chip, &port->settings, &list) < 0) {
        usbip_port_trouble(port, USBIP_ERROR_UNSUPPORTED, false,
                           "a %s cannot do \"%s\"; set another line coding", port->chip.name,
                           usbip_format_line_coding(&port->settings.line_coding, text));
        return;
    }
    usbip_port_request_all(port, &list, chip_opened);
}

/* ---- Who is it ---- */

static void identified(struct usbip_port *port)
{
    const struct usbip_setup setup = {
        .bRequest = USB_REQ_SET_CONFIGURATION,
        .wValue = port->configuration.descriptor.bConfigurationValue,
    };
    /* The port that was lost is restored, whichever is wanted at the next open. */
    uint8_t number = port->state == USBIP_PORT_RESTORING ? port->chip.port : port->chip_port;

    if (!usbip_port_accepts(port)) {
        usbip_port_trouble(port, USBIP_ERROR_NOT_FOUND, false,
                           "at busid %s there is %04x:%04x with serial number \"%s\", which is "
                           "another device",
                           port->found.busid, port->found.idVendor, port->found.idProduct,
                           port->found.serial_number);
        return;
    }
    if (usbip_probe_chip(&port->descriptor, &port->configuration, number, &port->chip) < 0) {
        usbip_port_trouble(port, USBIP_ERROR_UNSUPPORTED, false,
                           "%04x:%04x (bcdDevice %04x) is no serial chip that is known here: it is "
                           "neither CDC-ACM nor FT232BM, FT232R, FT2232H or FT4232H",
                           port->found.idVendor, port->found.idProduct, port->found.bcdDevice);
        return;
    }
    if (number > port->chip.ports) {
        usbip_port_trouble(port, USBIP_ERROR_UNSUPPORTED, false,
                           "there is no port %u: the %s has %u", number, port->chip.name,
                           port->chip.ports);
        return;
    }
    port->found.chip = port->chip.name;
    ask(port, setup, configured);
}

/* Strings are for people: a device that has none, or stalls, works as well. */
static void take_string(char text[USBIP_SERIAL_NUMBER_SIZE], int result, const uint8_t *data,
                        uint32_t size)
{
    if (result < 0 ||
        usbip_decode_string_descriptor(data, size, text, USBIP_SERIAL_NUMBER_SIZE) < 0)
        text[0] = '\0';
}

/* Asks for a string, or goes on as if it were empty. */
static void ask_string(struct usbip_port *port, uint8_t index, usbip_request_done *done)
{
    if (index > 0)
        ask_descriptor(port, USB_DT_STRING, index, port->language, USB_DT_STRING_MAX_SIZE, done);
    else
        done(port, USBIP_ERROR_NOT_FOUND, NULL, 0);
}

static void got_serial_number(struct usbip_port *port, int result, const uint8_t *data,
                              uint32_t size)
{
    take_string(port->found.serial_number, result, data, size);
    identified(port);
}

static void got_product(struct usbip_port *port, int result, const uint8_t *data, uint32_t size)
{
    take_string(port->found.product, result, data, size);
    ask_string(port, port->descriptor.iSerialNumber, got_serial_number);
}

static void got_manufacturer(struct usbip_port *port, int result, const uint8_t *data,
                             uint32_t size)
{
    take_string(port->found.manufacturer, result, data, size);
    ask_string(port, port->descriptor.iProduct, got_product);
}

static void got_languages(struct usbip_port *port, int result, const uint8_t *data, uint32_t size)
{
    enum { ONE_LANGUAGE_SIZE = 4 };

    if (result < 0 || size < ONE_LANGUAGE_SIZE || data[0] < ONE_LANGUAGE_SIZE ||
        data[1] != USB_DT_STRING) {
        identified(port); /* without a language there are no strings */
        return;
    }
    port->language = (uint16_t)(data[2] | data[3] << 8);
    ask_string(port, port->descriptor.iManufacturer, got_manufacturer);
}

/* ---- What is it ---- */

static void got_configuration(struct usbip_port *port, int result, const uint8_t *data,
                              uint32_t size)
{
    const struct usbip_device_descriptor *device = &port->descriptor;

    if (result < 0) {
        give_up(port, result);
        return;
    }
    /* The table points into these bytes, which are overwritten by the next answer. */
    memcpy(port->configuration_data, data, size);
    if (usbip_parse_configuration(port->configuration_data, size, &port->configuration) < 0) {
        usbip_port_trouble(port, USBIP_ERROR_PROTOCOL, false,
                           "the configuration descriptor (%u bytes) is malformed", (unsigned)size);
        return;
    }
    if (device->iManufacturer > 0 || device->iProduct > 0 || device->iSerialNumber > 0)
        ask_descriptor(port, USB_DT_STRING, 0, 0, USB_DT_STRING_MAX_SIZE, got_languages);
    else
        identified(port);
}

static void got_configuration_header(struct usbip_port *port, int result, const uint8_t *data,
                                     uint32_t size)
{
    struct usbip_config_descriptor header;

    if (result < 0) {
        give_up(port, result);
        return;
    }
    if (usbip_decode_config_descriptor(data, size, &header) < 0 ||
        header.wTotalLength < USB_DT_CONFIG_SIZE) {
        usbip_port_trouble(port, USBIP_ERROR_PROTOCOL, false,
                           "the configuration descriptor is malformed in its first %u bytes",
                           (unsigned)size);
        return;
    }
    ask_descriptor(port, USB_DT_CONFIG, 0, 0, header.wTotalLength, got_configuration);
}

static void got_device(struct usbip_port *port, int result, const uint8_t *data, uint32_t size)
{
    struct usbip_device_descriptor *device = &port->descriptor;

    if (result < 0) {
        give_up(port, result);
        return;
    }
    if (usbip_decode_device_descriptor(data, size, device) < 0) {
        usbip_port_trouble(port, USBIP_ERROR_PROTOCOL, false,
                           "the device descriptor (%u bytes) is malformed", (unsigned)size);
        return;
    }
    port->found.idVendor = device->idVendor;
    port->found.idProduct = device->idProduct;
    port->found.bcdDevice = device->bcdDevice;
    ask_descriptor(port, USB_DT_CONFIG, 0, 0, USB_DT_CONFIG_SIZE, got_configuration_header);
}

void usbip_port_setup_start(struct usbip_port *port)
{
    port->step = USBIP_STEP_SETUP;
    port->found = (struct usbip_port_identity){.speed = (enum usbip_speed)port->record.speed};
    memcpy(port->found.busid, port->record.busid, sizeof(port->found.busid));
    ask_descriptor(port, USB_DT_DEVICE, 0, 0, USB_DT_DEVICE_SIZE, got_device);
}
