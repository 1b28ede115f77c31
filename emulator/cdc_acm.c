/* CDC-ACM: a modem or a microcontroller with native USB. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/serial.h"
#include "protocol/cdc.h"

enum {
    DEFAULT_OUT_ENDPOINT = 0x01,
    DEFAULT_IN_ENDPOINT = 0x81,
    DEFAULT_INTERRUPT_ENDPOINT = 0x82,
    CONTROL_INTERFACE = 0,
    DATA_INTERFACE = 1,
    NOTIFICATION_PACKET_SIZE = 16,
    FULL_SPEED_INTERVAL = 16, /* ms */
    HIGH_SPEED_INTERVAL = 8,  /* 2^(8-1) microframes: 16 ms */
    FULL_SPEED_PACKET_SIZE = 64,
    HIGH_SPEED_PACKET_SIZE = 512,
    MAX_POWER = 50, /* 100 mA */
    BCD_CDC = 0x0110,
    CAPABILITIES = CDC_CAP_LINE | CDC_CAP_BREAK,
};

struct cdc_acm {
    struct usbip_function function;
    struct usbip_serial serial;
    uint8_t in_endpoint, interrupt_endpoint;
    uint8_t control_interface;
    bool notify;     /* the host does not know the present state yet */
    unsigned events; /* of USBIP_MODEM_…, to be told once */
    uint8_t notification[CDC_SERIAL_STATE_SIZE];
    size_t notification_left; /* bytes of it that did not fit the URB before */
    /* With pacing: */
    struct usbip_timer in_timer;
    uint64_t next_short_us; /* when a transfer ends short, although more bytes are on their way */
};

static struct cdc_acm *cdc_acm_of(struct usbip_function *function)
{
    return (struct cdc_acm *)function;
}

/* ---- Descriptors ---- */

static uint8_t *add_endpoint(uint8_t *at, uint8_t address, uint8_t type, uint16_t packet_size,
                             uint8_t interval)
{
    usbip_encode_endpoint_descriptor(
        at, &(struct usbip_endpoint_descriptor){address, type, packet_size, interval});
    return at + USB_DT_ENDPOINT_SIZE;
}

static size_t describe(struct usbip_device_options *options, uint8_t *configuration,
                       size_t capacity)
{
    struct usbip_function_options *layout = &options->function;
    struct usbip_device_descriptor *device = &options->descriptor;
    bool high_speed = options->speed == USBIP_SPEED_HIGH;
    uint16_t packet_size = high_speed ? HIGH_SPEED_PACKET_SIZE : FULL_SPEED_PACKET_SIZE;
    size_t size = USB_DT_CONFIG_SIZE + 2 * USB_DT_INTERFACE_SIZE + 3 * USB_DT_ENDPOINT_SIZE +
                  CDC_HEADER_SIZE + CDC_ACM_SIZE + CDC_CALL_MANAGEMENT_SIZE + CDC_UNION_SIZE +
                  (layout->no_iad ? 0 : USB_DT_INTERFACE_ASSOCIATION_SIZE);
    if (size > capacity)
        return 0;

    if (!layout->out_endpoint)
        layout->out_endpoint = DEFAULT_OUT_ENDPOINT;
    if (!layout->in_endpoint)
        layout->in_endpoint = DEFAULT_IN_ENDPOINT;
    if (!layout->interrupt_endpoint)
        layout->interrupt_endpoint = DEFAULT_INTERRUPT_ENDPOINT;
    device->bDeviceClass = layout->no_iad ? USB_CLASS_COMM : USB_CLASS_MISC;
    device->bDeviceSubClass = layout->no_iad ? 0 : 2;
    device->bDeviceProtocol = layout->no_iad ? 0 : 1;

    uint8_t *at = configuration;
    usbip_encode_config_descriptor(at, &(struct usbip_config_descriptor){
                                           .wTotalLength = (uint16_t)size,
                                           .bNumInterfaces = 2,
                                           .bConfigurationValue = 1,
                                           .bmAttributes = USB_CONFIG_ATT_ONE,
                                           .bMaxPower = MAX_POWER,
                                       });
    at += USB_DT_CONFIG_SIZE;
    if (!layout->no_iad) {
        usbip_encode_interface_association_descriptor(
            at, &(struct usbip_interface_association_descriptor){
                    .bFirstInterface = CONTROL_INTERFACE,
                    .bInterfaceCount = 2,
                    .bFunctionClass = USB_CLASS_COMM,
                    .bFunctionSubClass = CDC_SUBCLASS_ACM,
                    .bFunctionProtocol = CDC_PROTOCOL_NONE,
                });
        at += USB_DT_INTERFACE_ASSOCIATION_SIZE;
    }
    usbip_encode_interface_descriptor(at, &(struct usbip_interface_descriptor){
                                              .bInterfaceNumber = CONTROL_INTERFACE,
                                              .bNumEndpoints = 1,
                                              .bInterfaceClass = USB_CLASS_COMM,
                                              .bInterfaceSubClass = CDC_SUBCLASS_ACM,
                                              .bInterfaceProtocol = CDC_PROTOCOL_NONE,
                                          });
    at += USB_DT_INTERFACE_SIZE;
    usbip_cdc_encode_header(at, BCD_CDC);
    at += CDC_HEADER_SIZE;
    usbip_cdc_encode_acm(at, CAPABILITIES);
    at += CDC_ACM_SIZE;
    usbip_cdc_encode_call_management(at, 0, DATA_INTERFACE);
    at += CDC_CALL_MANAGEMENT_SIZE;
    usbip_cdc_encode_union(at, CONTROL_INTERFACE, DATA_INTERFACE);
    at += CDC_UNION_SIZE;
    at = add_endpoint(at, layout->interrupt_endpoint, USB_ENDPOINT_XFER_INT,
                      NOTIFICATION_PACKET_SIZE,
                      high_speed ? HIGH_SPEED_INTERVAL : FULL_SPEED_INTERVAL);
    usbip_encode_interface_descriptor(at, &(struct usbip_interface_descriptor){
                                              .bInterfaceNumber = DATA_INTERFACE,
                                              .bNumEndpoints = 2,
                                              .bInterfaceClass = USB_CLASS_CDC_DATA,
                                          });
    at += USB_DT_INTERFACE_SIZE;
    at = add_endpoint(at, layout->in_endpoint, USB_ENDPOINT_XFER_BULK, packet_size, 0);
    add_endpoint(at, layout->out_endpoint, USB_ENDPOINT_XFER_BULK, packet_size, 0);
    return size;
}

/* ---- Life ---- */

static void reset(struct usbip_function *function)
{
    struct cdc_acm *acm = cdc_acm_of(function);
    usbip_serial_reset(&acm->serial);
    usbip_timer_cancel(usbip_device_scheduler(function->device), &acm->in_timer);
    acm->next_short_us = 0;
    acm->notification_left = 0;
    acm->events = 0;
    acm->notify = acm->serial.modem != 0;
}

static void purge(struct usbip_function *function)
{
    usbip_serial_purge(&cdc_acm_of(function)->serial);
}

static void send_fifo(struct cdc_acm *acm);
static void bytes_arrived(struct usbip_timer *timer);

static struct usbip_function *create(struct usbip_device *device,
                                     const struct usbip_function_options *options,
                                     char error_text[256])
{
    const struct usbip_configuration *configuration = usbip_device_configuration(device);
    const struct usbip_endpoint_descriptor *in = NULL, *out = NULL, *interrupt = NULL;
    uint8_t control_interface = 0;
    for (unsigned i = 0; i < configuration->altsetting_count; i++) {
        const struct usbip_altsetting *setting = &configuration->altsettings[i];
        if (setting->descriptor.bInterfaceClass == USB_CLASS_COMM && !interrupt) {
            control_interface = setting->descriptor.bInterfaceNumber;
            interrupt =
                usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_INT, USB_DIR_IN);
        }
        if (!in)
            in = usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_BULK, USB_DIR_IN);
        if (!out)
            out = usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_BULK, 0);
    }
    if (!in || !out) {
        snprintf(error_text, 256, "a cdc_acm device needs a bulk IN and a bulk OUT endpoint");
        return NULL;
    }
    struct cdc_acm *acm = calloc(1, sizeof *acm);
    if (!acm) {
        snprintf(error_text, 256, "out of memory");
        return NULL;
    }
    acm->function = (struct usbip_function){&usbip_function_cdc_acm, device, 1};
    acm->serial.device = device;
    acm->serial.port = 1;
    acm->serial.out_endpoint = out->bEndpointAddress;
    acm->in_endpoint = in->bEndpointAddress;
    acm->interrupt_endpoint = interrupt ? interrupt->bEndpointAddress : 0;
    acm->control_interface = control_interface;
    acm->in_timer.fired = bytes_arrived;
    acm->in_timer.user = acm;
    if (options->paced && usbip_serial_pace(&acm->serial) < 0) {
        snprintf(error_text, 256, "out of memory");
        free(acm);
        return NULL;
    }
    usbip_serial_reset(&acm->serial);
    return &acm->function;
}

static void destroy(struct usbip_function *function)
{
    struct cdc_acm *acm = cdc_acm_of(function);
    usbip_timer_cancel(usbip_device_scheduler(function->device), &acm->in_timer);
    usbip_serial_free(&acm->serial);
    free(acm);
}

/* ---- Requests ---- */

static bool set_coding(struct cdc_acm *acm, const struct usbip_line_coding *coding)
{
    bool well = usbip_serial_set_coding(&acm->serial, coding);
    if (acm->serial.pacing)
        send_fifo(acm);
    return well;
}

/* A class request to our interface without data for the host. False: to be stalled. */
static bool set(struct cdc_acm *acm, const struct usbip_urb *urb)
{
    uint16_t wValue = urb->setup.wValue;
    struct usbip_line_coding coding;
    switch (urb->setup.bRequest) {
    case CDC_SET_LINE_CODING:
        if (urb->length != CDC_LINE_CODING_SIZE)
            return false;
        usbip_cdc_decode_line_coding(urb->data, &coding);
        return set_coding(acm, &coding);
    case CDC_SET_CONTROL_LINE_STATE:
        return usbip_serial_set_lines(&acm->serial, wValue & (USBIP_LINE_DTR | USBIP_LINE_RTS));
    case CDC_SEND_BREAK:
        return usbip_serial_send_break(&acm->serial, wValue);
    default:
        return false;
    }
}

static void control(struct usbip_function *function, struct usbip_urb *urb)
{
    struct cdc_acm *acm = cdc_acm_of(function);
    const struct usbip_setup *setup = &urb->setup;
    const uint8_t to_interface = USB_TYPE_CLASS | USB_RECIP_INTERFACE;
    bool for_us = setup->wIndex == acm->control_interface;

    if (for_us && setup->bmRequestType == (to_interface | USB_DIR_IN) &&
        setup->bRequest == CDC_GET_LINE_CODING) {
        uint8_t bytes[CDC_LINE_CODING_SIZE];
        usbip_cdc_encode_line_coding(bytes, &acm->serial.coding);
        usbip_urb_complete_with(urb, bytes, sizeof bytes);
    } else if (for_us && setup->bmRequestType == to_interface && set(acm, urb)) {
        usbip_urb_complete(urb, 0, urb->length);
    } else {
        usbip_urb_stall(urb);
    }
}

/* ---- Data and notifications ---- */

/*
 * With pacing: whether a transfer ends with the bytes that are there. A short one does when nothing
 * is on its way, or a frame after the one before.
 */
static bool is_ready(const struct cdc_acm *acm, const struct usbip_urb *urb)
{
    const struct usbip_serial *serial = &acm->serial;
    size_t arrived = usbip_serial_arrived(serial);
    return arrived >= urb->length || arrived == serial->fifo.size ||
           usbip_device_scheduler(serial->device)->now_us >= acm->next_short_us;
}

/* With pacing: wakes us when the next transfer is ready. */
static void wait_for_bytes(struct cdc_acm *acm)
{
    const struct usbip_serial *serial = &acm->serial;
    struct usbip_scheduler *scheduler = usbip_device_scheduler(serial->device);
    const struct usbip_urb *urb = usbip_device_next_urb(serial->device, acm->in_endpoint);
    if (!urb || serial->fifo.size == 0) {
        usbip_timer_cancel(scheduler, &acm->in_timer);
        return;
    }
    size_t full = urb->length < serial->fifo.size ? urb->length : serial->fifo.size;
    uint64_t full_us = usbip_serial_arrival_us(serial, full > 0 ? full : 1);
    uint64_t short_us = usbip_serial_arrival_us(serial, 1);
    if (short_us < acm->next_short_us)
        short_us = acm->next_short_us;
    usbip_timer_arm(scheduler, &acm->in_timer, short_us < full_us ? short_us : full_us);
}

/* As many IN transfers as there are bytes; a transfer ends with the bytes that are there. */
static void send_fifo(struct cdc_acm *acm)
{
    struct usbip_serial *serial = &acm->serial;
    struct usbip_urb *urb;
    usbip_serial_receive(serial);
    while (usbip_serial_arrived(serial) > 0 &&
           (urb = usbip_device_next_urb(serial->device, acm->in_endpoint)) != NULL) {
        if (serial->pacing && !is_ready(acm, urb))
            break;
        struct usbip_in_fit fit = usbip_urb_fit(urb, usbip_serial_arrived(serial));
        uint8_t *room = usbip_urb_reserve(urb, fit.delivered);
        if (!room) {
            usbip_urb_complete(urb, -USBIP_ENOMEM, 0);
            return;
        }
        usbip_serial_get(serial, room, fit.delivered);
        usbip_serial_drop(serial, fit.taken - fit.delivered);
        acm->next_short_us = usbip_device_scheduler(serial->device)->now_us + USBIP_LINE_FRAME_US;
        usbip_urb_complete(urb, fit.status, fit.delivered);
    }
    if (serial->pacing)
        wait_for_bytes(acm);
}

static void bytes_arrived(struct usbip_timer *timer)
{
    struct cdc_acm *acm = timer->user;
    send_fifo(acm);
    usbip_serial_drained(&acm->serial);
}

static void send_notification(struct cdc_acm *acm)
{
    struct usbip_urb *urb;
    while ((acm->notify || acm->notification_left > 0) &&
           (urb = usbip_device_next_urb(acm->function.device, acm->interrupt_endpoint)) != NULL) {
        if (acm->notification_left == 0) {
            usbip_cdc_encode_serial_state(acm->notification, acm->control_interface,
                                          acm->serial.modem | acm->events);
            acm->notification_left = sizeof acm->notification;
            acm->notify = false;
            acm->events = 0;
        }
        size_t size = acm->notification_left < urb->length ? acm->notification_left : urb->length;
        const uint8_t *from = acm->notification + sizeof acm->notification - acm->notification_left;
        acm->notification_left -= size;
        usbip_urb_complete_with(urb, from, size);
    }
}

/*
 * What a behaviour has without end goes straight into the URBs, one by one. Returns false when it
 * is not to be asked.
 */
static bool ask(struct cdc_acm *acm)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(acm->function.device);
    struct usbip_urb *urb;
    bool answered = true;
    if (!behaviour->ops->wanted || acm->serial.pacing)
        return false;
    while (answered && acm->serial.fifo.size == 0 &&
           (urb = usbip_device_next_urb(acm->function.device, acm->in_endpoint)) != NULL) {
        uint32_t seqnum = urb->seqnum;
        if (urb->length == 0)
            usbip_urb_complete(urb, 0, 0);
        else
            behaviour->ops->wanted(behaviour->context, acm->serial.port, urb->length);
        urb = usbip_device_next_urb(acm->function.device, acm->in_endpoint);
        answered = !urb || urb->seqnum != seqnum;
    }
    if (acm->serial.holds_output)
        usbip_serial_take_output(&acm->serial);
    return true;
}

static void in(struct usbip_function *function, uint8_t endpoint)
{
    struct cdc_acm *acm = cdc_acm_of(function);
    if (endpoint == acm->interrupt_endpoint) {
        send_notification(acm);
    } else if (endpoint == acm->in_endpoint) {
        bool had_bytes = acm->serial.fifo.size > 0;
        if (had_bytes)
            send_fifo(acm);
        if (!ask(acm) && had_bytes)
            usbip_serial_drained(&acm->serial);
    }
}

static void out(struct usbip_function *function, uint8_t endpoint)
{
    struct cdc_acm *acm = cdc_acm_of(function);
    if (endpoint == acm->serial.out_endpoint)
        usbip_serial_take_output(&acm->serial);
}

static size_t write_bytes(struct usbip_function *function, unsigned port, const uint8_t *data,
                          size_t size)
{
    (void)port; /* there is only one */
    struct cdc_acm *acm = cdc_acm_of(function);
    size_t sent = 0;
    struct usbip_urb *urb;
    if (acm->serial.pacing) {
        sent = usbip_serial_put(&acm->serial, data, size);
        send_fifo(acm);
        return sent;
    }
    /* Straight into the URBs that wait: the FIFO is for what is left. */
    while (sent < size && acm->serial.fifo.size == 0 &&
           (urb = usbip_device_next_urb(function->device, acm->in_endpoint)) != NULL) {
        struct usbip_in_fit fit = usbip_urb_fit(urb, size - sent);
        usbip_urb_complete_fit(urb, data + sent, &fit);
        sent += fit.taken;
    }
    return sent + usbip_fifo_put(&acm->serial.fifo, data + sent, size - sent);
}

static size_t write_room(const struct usbip_function *function, unsigned port)
{
    (void)port;
    return usbip_fifo_room(&((const struct cdc_acm *)function)->serial.fifo);
}

static void set_modem_state(struct usbip_function *function, unsigned port, unsigned modem)
{
    (void)port;
    struct cdc_acm *acm = cdc_acm_of(function);
    const unsigned known = USBIP_MODEM_DCD | USBIP_MODEM_DSR | USBIP_MODEM_RI;
    unsigned lines = modem & known;
    unsigned events = modem & ~(unsigned)USBIP_MODEM_LINES;
    /* RI is irregular here: it is told each time it is set. */
    if (lines == acm->serial.modem && events == 0 && !(lines & USBIP_MODEM_RI))
        return;
    acm->serial.modem = lines;
    acm->events |= events;
    acm->notify = true;
    if (acm->interrupt_endpoint)
        send_notification(acm);
}

static unsigned modem_state(const struct usbip_function *function, unsigned port)
{
    (void)port;
    return ((const struct cdc_acm *)function)->serial.modem;
}

const struct usbip_function_type usbip_function_cdc_acm = {
    .name = "cdc_acm",
    .describe = describe,
    .create = create,
    .destroy = destroy,
    .control = control,
    .in = in,
    .out = out,
    .purge = purge,
    .reset = reset,
    .write = write_bytes,
    .write_room = write_room,
    .set_modem_state = set_modem_state,
    .modem_state = modem_state,
};
