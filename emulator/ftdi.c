/*
 * FTDI FT232R and those like it, and FT2232H and FT4232H with several ports. What Linux's ftdi_sio
 * and libftdi rely on: two status bytes in every packet, the latency timer with its idle packets,
 * and the EEPROM. Ports share nothing but that.
 */
#include "protocol/ftdi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/ftdi_eeprom.h"
#include "emulator/serial.h"
#include "protocol/bytes.h"

enum {
    DEFAULT_OUT_ENDPOINT = 0x02, /* of the first port; each has the next two numbers */
    DEFAULT_IN_ENDPOINT = 0x81,
    PACKET_SIZE = 64,
    HIGH_SPEED_PACKET_SIZE = 512,
    MAX_POWER = 45,          /* 90 mA */
    HI_SPEED_MAX_POWER = 50, /* 100 mA */
    PORT_MASK = 0xff,        /* of wIndex */
    EVENT_CHAR_ENABLED = 0x100,
    DEFAULT_EVENT_CHAR = 0x0d,
    US_PER_MS = 1000,
};

struct ftdi_port {
    struct ftdi *ftdi;
    struct usbip_serial serial;
    uint8_t in_endpoint;
    unsigned latency_ms;
    unsigned event_char; /* wValue of SET_EVENT_CHAR */
    bool breaking;       /* the host holds the line in break */
    bool flush;          /* send what there is without waiting for the latency timer */
    unsigned events;     /* of USBIP_MODEM_…, to be told in the next transfer */
    uint64_t last_sent_us;
    struct usbip_timer latency_timer;
};

struct ftdi {
    struct usbip_function function;
    const struct usbip_ftdi_chip *chip;
    uint16_t packet_size;
    struct ftdi_port ports[USBIP_MAX_PORTS]; /* function.port_count of them */
    uint16_t eeprom[FTDI_EEPROM_WORDS];
};

static struct ftdi *ftdi_of(struct usbip_function *function)
{
    return (struct ftdi *)function;
}

/* number is one that there is, from 1. */
static struct ftdi_port *port_of(struct usbip_function *function, unsigned number)
{
    return &ftdi_of(function)->ports[number - 1];
}

static const struct usbip_ftdi_chip *chip_of(const struct usbip_function_options *options)
{
    return options->ftdi_chip ? options->ftdi_chip : usbip_ftdi_find_chip(FTDI_BCD_FT232R);
}

static uint16_t packet_size_of(const struct usbip_ftdi_chip *chip, enum usbip_speed speed)
{
    return chip->is_hi_speed && speed == USBIP_SPEED_HIGH ? HIGH_SPEED_PACKET_SIZE : PACKET_SIZE;
}

static uint8_t *add_endpoint(uint8_t *at, uint8_t address, uint16_t packet_size)
{
    usbip_encode_endpoint_descriptor(
        at, &(struct usbip_endpoint_descriptor){address, USB_ENDPOINT_XFER_BULK, packet_size, 0});
    return at + USB_DT_ENDPOINT_SIZE;
}

static size_t describe(struct usbip_device_options *options, uint8_t *configuration,
                       size_t capacity)
{
    struct usbip_function_options *layout = &options->function;
    const struct usbip_ftdi_chip *chip = chip_of(layout);
    const uint16_t packet_size = packet_size_of(chip, options->speed);
    const size_t size = USB_DT_CONFIG_SIZE +
                        chip->ports * (USB_DT_INTERFACE_SIZE + 2 * (size_t)USB_DT_ENDPOINT_SIZE);
    if (size > capacity)
        return 0;
    /* A chip with several ports has the endpoints that it has. */
    if (!layout->out_endpoint || chip->ports > 1)
        layout->out_endpoint = DEFAULT_OUT_ENDPOINT;
    if (!layout->in_endpoint || chip->ports > 1)
        layout->in_endpoint = DEFAULT_IN_ENDPOINT;
    uint8_t *at = configuration;
    usbip_encode_config_descriptor(
        at, &(struct usbip_config_descriptor){
                .wTotalLength = (uint16_t)size,
                .bNumInterfaces = chip->ports,
                .bConfigurationValue = 1,
                .bmAttributes = chip->is_hi_speed ? USB_CONFIG_ATT_ONE
                                                  : USB_CONFIG_ATT_ONE | USB_CONFIG_ATT_WAKEUP,
                .bMaxPower = chip->is_hi_speed ? HI_SPEED_MAX_POWER : MAX_POWER,
            });
    at += USB_DT_CONFIG_SIZE;
    for (uint8_t i = 0; i < chip->ports; i++) {
        usbip_encode_interface_descriptor(at, &(struct usbip_interface_descriptor){
                                                  .bInterfaceNumber = i,
                                                  .bNumEndpoints = 2,
                                                  .bInterfaceClass = USB_CLASS_VENDOR_SPEC,
                                                  .bInterfaceSubClass = USB_CLASS_VENDOR_SPEC,
                                                  .bInterfaceProtocol = USB_CLASS_VENDOR_SPEC,
                                                  .iInterface = options->descriptor.iProduct,
                                              });
        at += USB_DT_INTERFACE_SIZE;
        at = add_endpoint(at, (uint8_t)(layout->in_endpoint + 2 * i), packet_size);
        at = add_endpoint(at, (uint8_t)(layout->out_endpoint + 2 * i), packet_size);
    }
    return size;
}

/* ---- Bulk IN: packets with status bytes, paced by the latency timer ---- */

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Bytes of data that fit a transfer of this length, each packet led by its status. */
static size_t data_capacity(const struct ftdi_port *port, uint32_t length)
{
    size_t packet_size = port->ftdi->packet_size, rest = length % packet_size;
    return length / packet_size * (packet_size - FTDI_STATUS_SIZE) +
           (rest > FTDI_STATUS_SIZE ? rest - FTDI_STATUS_SIZE : 0);
}

static void encode_status(const struct ftdi_port *port, uint8_t out[FTDI_STATUS_SIZE],
                          unsigned modem)
{
    usbip_ftdi_encode_status(out, modem, usbip_serial_output_is_empty(&port->serial),
                             port->ftdi->packet_size == HIGH_SPEED_PACKET_SIZE);
}

static void send_transfer(struct ftdi_port *port, struct usbip_urb *urb)
{
    size_t arrived = usbip_serial_arrived(&port->serial);
    size_t data = min_size(arrived, data_capacity(port, urb->length));
    size_t packet_size = port->ftdi->packet_size, packet_data = packet_size - FTDI_STATUS_SIZE;
    /* The packet that ends the transfer is short: the rest of the data, maybe none. */
    size_t size = data / packet_data * packet_size;
    if (urb->length - size >= FTDI_STATUS_SIZE)
        size += FTDI_STATUS_SIZE + data % packet_data;
    uint8_t *room = usbip_urb_reserve(urb, (uint32_t)size);
    if (!room) {
        usbip_urb_complete(urb, -USBIP_ENOMEM, 0);
        return;
    }
    bool all = data == port->serial.fifo.size;
    for (size_t at = 0; at < size; at += packet_size) {
        bool last = at + packet_size >= size;
        unsigned modem = port->serial.modem | (last && all ? port->events : 0);
        size_t packet = min_size(size - at, packet_size);
        encode_status(port, room + at, modem);
        usbip_serial_get(&port->serial, room + at + FTDI_STATUS_SIZE, packet - FTDI_STATUS_SIZE);
    }
    if (all)
        port->events = 0;
    if (data == arrived)
        port->flush = false;
    port->last_sent_us = usbip_device_scheduler(port->serial.device)->now_us;
    usbip_urb_complete(urb, 0, (uint32_t)size);
}

static bool is_event_char_enabled(const struct ftdi_port *port)
{
    return port->event_char & EVENT_CHAR_ENABLED;
}

/*
 * With pacing: what has arrived may have to be sent at once. Without it that is known when it is
 * written.
 */
static void receive(struct ftdi_port *port)
{
    const struct usbip_fifo *fifo = &port->serial.fifo;
    size_t count = usbip_serial_receive(&port->serial);
    size_t arrived = usbip_serial_arrived(&port->serial);
    if (count == 0)
        return;
    bool event_char =
        is_event_char_enabled(port) &&
        usbip_fifo_find(fifo, arrived - count, count, (uint8_t)port->event_char) < arrived;
    if (event_char || (port->events && arrived == fifo->size))
        port->flush = true;
}

/*
 * With pacing: when a byte arrives with which a transfer of this capacity does not wait for the
 * latency timer.
 */
static uint64_t next_arrival_us(const struct ftdi_port *port, size_t capacity)
{
    const struct usbip_fifo *fifo = &port->serial.fifo;
    size_t arrived = usbip_serial_arrived(&port->serial), end = min_size(fifo->size, capacity);
    if (end <= arrived)
        return USBIP_NEVER;
    size_t at = end;
    if (is_event_char_enabled(port))
        at = usbip_fifo_find(fifo, arrived, end - arrived, (uint8_t)port->event_char);
    if (at < end)
        return usbip_serial_arrival_us(&port->serial, at + 1);
    return end == capacity || port->events ? usbip_serial_arrival_us(&port->serial, end)
                                           : USBIP_NEVER;
}

/* The period begins anew with each transfer, and may have got another length. */
static uint64_t latency_due_us(const struct ftdi_port *port)
{
    return port->last_sent_us + (uint64_t)port->latency_ms * US_PER_MS;
}

/* Sends what the chip would send now, and arms the latency timer for the rest. */
static void pump(struct ftdi_port *port)
{
    struct usbip_scheduler *scheduler = usbip_device_scheduler(port->serial.device);
    struct usbip_urb *urb;
    receive(port);
    while ((urb = usbip_device_next_urb(port->serial.device, port->in_endpoint)) != NULL) {
        size_t capacity = data_capacity(port, urb->length);
        bool fills = capacity > 0 && usbip_serial_arrived(&port->serial) >= capacity;
        if (!fills && !port->flush)
            break;
        send_transfer(port, urb);
    }
    uint64_t due_us = latency_due_us(port);
    if (urb && port->serial.pacing) {
        uint64_t arrival_us = next_arrival_us(port, data_capacity(port, urb->length));
        if (arrival_us < due_us)
            due_us = arrival_us;
    }
    if (due_us < scheduler->now_us)
        due_us = scheduler->now_us; /* nobody has asked for longer than that */
    if (!urb)
        usbip_timer_cancel(scheduler, &port->latency_timer);
    else if (!usbip_timer_is_armed(&port->latency_timer) || port->latency_timer.due_us != due_us)
        usbip_timer_arm(scheduler, &port->latency_timer, due_us);
}

static void latency_passed(struct usbip_timer *timer)
{
    struct ftdi_port *port = timer->user;
    struct usbip_urb *urb = usbip_device_next_urb(port->serial.device, port->in_endpoint);
    bool had_data = port->serial.fifo.size > 0;
    receive(port);
    if (urb && usbip_device_scheduler(port->serial.device)->now_us >= latency_due_us(port))
        send_transfer(port, urb);
    pump(port);
    if (had_data)
        usbip_serial_drained(&port->serial);
}

static void in(struct usbip_function *function, uint8_t endpoint)
{
    for (unsigned number = 1; number <= function->port_count; number++) {
        struct ftdi_port *port = port_of(function, number);
        if (endpoint != port->in_endpoint)
            continue;
        bool had_data = port->serial.fifo.size > 0;
        pump(port);
        if (had_data)
            usbip_serial_drained(&port->serial);
    }
}

static void out(struct usbip_function *function, uint8_t endpoint)
{
    for (unsigned number = 1; number <= function->port_count; number++) {
        struct ftdi_port *port = port_of(function, number);
        if (endpoint == port->serial.out_endpoint)
            usbip_serial_take_output(&port->serial);
    }
}

static size_t write_bytes(struct usbip_function *function, unsigned number, const uint8_t *data,
                          size_t size)
{
    struct ftdi_port *port = port_of(function, number);
    size_t taken = usbip_serial_put(&port->serial, data, size);
    if (taken > 0 && !port->serial.pacing && is_event_char_enabled(port) &&
        memchr(data, (int)(port->event_char & 0xff), taken))
        port->flush = true;
    pump(port);
    return taken;
}

static size_t write_room(const struct usbip_function *function, unsigned number)
{
    return usbip_fifo_room(&((const struct ftdi *)function)->ports[number - 1].serial.fifo);
}

static void set_modem_state(struct usbip_function *function, unsigned number, unsigned modem)
{
    struct ftdi_port *port = port_of(function, number);
    unsigned lines = modem & USBIP_MODEM_LINES;
    unsigned events = modem & ~(unsigned)USBIP_MODEM_LINES;
    if (lines == port->serial.modem && events == 0)
        return;
    port->serial.modem = lines;
    port->events |= events;
    port->flush = true;
    if (events & USBIP_MODEM_BREAK) {
        /* The chip receives a break as a NUL with the break bit. */
        const uint8_t nul = 0;
        usbip_serial_put(&port->serial, &nul, 1);
    }
    pump(port);
}

/* ---- Requests ---- */

static void reset_sio(struct ftdi_port *port)
{
    port->event_char = DEFAULT_EVENT_CHAR;
    usbip_serial_purge_output(&port->serial);
    if (port->serial.lines)
        usbip_serial_set_lines(&port->serial, 0);
    usbip_serial_purge(&port->serial);
}

static bool sio_reset(struct ftdi_port *port, uint16_t wValue)
{
    switch (wValue) {
    case FTDI_SIO_RESET_SIO:
        reset_sio(port);
        return true;
    case FTDI_SIO_RESET_PURGE_UART_TO_HOST:
        usbip_serial_purge(&port->serial);
        return true;
    case FTDI_SIO_RESET_PURGE_HOST_TO_UART:
        usbip_serial_purge_output(&port->serial);
        return true;
    default:
        return false;
    }
}

static bool modem_ctrl(struct ftdi_port *port, uint16_t wValue)
{
    unsigned lines = port->serial.lines;
    if (wValue & FTDI_MODEM_CTRL_SET_DTR)
        lines = wValue & FTDI_MODEM_CTRL_DTR ? lines | USBIP_LINE_DTR
                                             : lines & ~(unsigned)USBIP_LINE_DTR;
    if (wValue & FTDI_MODEM_CTRL_SET_RTS)
        lines = wValue & FTDI_MODEM_CTRL_RTS ? lines | USBIP_LINE_RTS
                                             : lines & ~(unsigned)USBIP_LINE_RTS;
    return usbip_serial_set_lines(&port->serial, lines);
}

static bool set_coding(struct ftdi_port *port, const struct usbip_line_coding *coding)
{
    bool well = usbip_serial_set_coding(&port->serial, coding);
    if (port->serial.pacing)
        pump(port);
    return well;
}

static bool same_format(const struct usbip_line_coding *a, const struct usbip_line_coding *b)
{
    return a->bDataBits == b->bDataBits && a->bParityType == b->bParityType &&
           a->bCharFormat == b->bCharFormat;
}

/* Format and break share a request: hosts send it for either. */
static bool set_data(struct ftdi_port *port, uint16_t wValue)
{
    struct usbip_line_coding coding = port->serial.coding;
    if (usbip_ftdi_decode_line_format(wValue, &coding) < 0)
        return false;
    bool well = true, breaking = wValue & FTDI_SET_DATA_BREAK;
    bool break_changes = breaking != port->breaking;
    port->breaking = breaking;
    if (!break_changes || !same_format(&coding, &port->serial.coding))
        well = set_coding(port, &coding);
    if (break_changes)
        well &=
            usbip_serial_send_break(&port->serial, breaking ? USBIP_BREAK_START : USBIP_BREAK_STOP);
    return well;
}

/*
 * The rate that the host has most likely asked for: a usual one that has this very divisor, else
 * the one that the chip runs at.
 */
static uint32_t asked_rate(const struct usbip_ftdi_chip *chip, uint16_t wValue, uint16_t wIndex)
{
    static const uint32_t usual[] = {
        300,   600,    1200,   2400,   4800,   9600,   14400,  19200,  28800,  38400,   57600,
        74880, 115200, 128000, 230400, 250000, 256000, 460800, 500000, 921600, 1000000, 2000000};
    for (unsigned i = 0; i < sizeof usual / sizeof usual[0]; i++) {
        uint16_t value, index;
        uint32_t actual = chip->is_hi_speed
                              ? usbip_ftdi_encode_hi_speed_baud_rate(usual[i], &value, &index)
                              : usbip_ftdi_encode_baud_rate(usual[i], &value, &index);
        if (actual > 0 && value == wValue && index == wIndex)
            return usual[i];
    }
    return chip->is_hi_speed ? usbip_ftdi_decode_hi_speed_baud_rate(wValue, wIndex)
                             : usbip_ftdi_decode_baud_rate(wValue, wIndex);
}

static bool set_baud_rate(struct ftdi_port *port, uint16_t wValue, uint16_t wIndex)
{
    const struct usbip_ftdi_chip *chip = port->ftdi->chip;
    const uint16_t mask = chip->is_hi_speed ? (uint16_t)~PORT_MASK : 1; /* of the divisor's bits */
    struct usbip_line_coding coding = port->serial.coding;
    coding.dwDTERate = asked_rate(chip, wValue, wIndex & mask);
    return coding.dwDTERate > 0 && set_coding(port, &coding);
}

static bool set_latency_timer(struct ftdi_port *port, uint16_t wValue)
{
    if ((wValue & 0xff) == 0)
        return false;
    port->latency_ms = wValue & 0xff;
    pump(port);
    return true;
}

/* Hosts send 0, 1 and more to a chip with one port, and in wIndex it has bits of the rate. NULL:
 * there is no such port. */
static struct ftdi_port *addressed_port(struct ftdi *ftdi, uint16_t wIndex)
{
    unsigned number = ftdi->function.port_count > 1 ? wIndex & PORT_MASK : 1;
    if (number == 0)
        number = 1;
    return number <= ftdi->function.port_count ? &ftdi->ports[number - 1] : NULL;
}

/* A vendor request to a port without data for the host. False: to be stalled. */
static bool port_out(struct ftdi_port *port, const struct usbip_setup *setup)
{
    switch (setup->bRequest) {
    case FTDI_SIO_RESET:
        return sio_reset(port, setup->wValue);
    case FTDI_SIO_MODEM_CTRL:
        return modem_ctrl(port, setup->wValue);
    case FTDI_SIO_SET_BAUD_RATE:
        return set_baud_rate(port, setup->wValue, setup->wIndex);
    case FTDI_SIO_SET_DATA:
        return set_data(port, setup->wValue);
    case FTDI_SIO_SET_LATENCY_TIMER:
        return set_latency_timer(port, setup->wValue);
    case FTDI_SIO_SET_EVENT_CHAR:
        port->event_char = setup->wValue;
        return true;
    case FTDI_SIO_SET_FLOW_CTRL: /* nothing at the far end ever has to wait */
    case FTDI_SIO_SET_ERROR_CHAR:
    case FTDI_SIO_SET_BITMODE:
        return true;
    default:
        return false;
    }
}

static bool vendor_out(struct ftdi *ftdi, const struct usbip_setup *setup)
{
    struct ftdi_port *port;
    switch (setup->bRequest) {
    case FTDI_SIO_WRITE_EEPROM:
        ftdi->eeprom[setup->wIndex % FTDI_EEPROM_WORDS] = setup->wValue;
        return true;
    case FTDI_SIO_ERASE_EEPROM:
        memset(ftdi->eeprom, 0xff, sizeof ftdi->eeprom);
        return true;
    default:
        port = addressed_port(ftdi, setup->wIndex);
        return port && port_out(port, setup);
    }
}

/* What a port says of itself: returns its size, or 0 to stall. */
static size_t port_in(const struct ftdi_port *port, uint8_t bRequest, uint8_t bytes[2])
{
    switch (bRequest) {
    case FTDI_SIO_GET_MODEM_STATUS:
        encode_status(port, bytes, port->serial.modem);
        return 2;
    case FTDI_SIO_GET_LATENCY_TIMER:
        bytes[0] = (uint8_t)port->latency_ms;
        return 1;
    case FTDI_SIO_READ_PINS:
        bytes[0] = 0;
        return 1;
    default:
        return 0;
    }
}

static void vendor_in(struct ftdi *ftdi, struct usbip_urb *urb)
{
    const struct usbip_setup *setup = &urb->setup;
    const struct ftdi_port *port = addressed_port(ftdi, setup->wIndex);
    uint8_t bytes[2];
    size_t size = 0;
    if (setup->bRequest == FTDI_SIO_READ_EEPROM) {
        usbip_store_le16(bytes, ftdi->eeprom[setup->wIndex % FTDI_EEPROM_WORDS]);
        size = 2;
    } else if (port) {
        size = port_in(port, setup->bRequest, bytes);
    }
    if (size > 0)
        usbip_urb_complete_with(urb, bytes, size);
    else
        usbip_urb_stall(urb);
}

static void control(struct usbip_function *function, struct usbip_urb *urb)
{
    uint8_t type = urb->setup.bmRequestType;
    if (type == (USB_DIR_IN | USB_TYPE_VENDOR | USB_RECIP_DEVICE))
        vendor_in(ftdi_of(function), urb);
    else if (type == (USB_TYPE_VENDOR | USB_RECIP_DEVICE) &&
             vendor_out(ftdi_of(function), &urb->setup))
        usbip_urb_complete(urb, 0, urb->length);
    else
        usbip_urb_stall(urb);
}

/* ---- Life ---- */

static void reset(struct usbip_function *function)
{
    for (unsigned number = 1; number <= function->port_count; number++)
        usbip_serial_reset(&port_of(function, number)->serial);
    for (unsigned number = 1; number <= function->port_count; number++) {
        struct ftdi_port *port = port_of(function, number);
        usbip_serial_reset(&port->serial); /* the closing of another one may have written to it */
        usbip_timer_cancel(usbip_device_scheduler(function->device), &port->latency_timer);
        port->latency_ms = FTDI_DEFAULT_LATENCY_MS;
        port->event_char = DEFAULT_EVENT_CHAR;
        port->breaking = false;
        port->flush = false;
        port->events = 0;
    }
}

static void purge(struct usbip_function *function)
{
    for (unsigned number = 1; number <= function->port_count; number++)
        usbip_serial_purge(&port_of(function, number)->serial);
}

static void destroy(struct usbip_function *function)
{
    for (unsigned number = 1; number <= function->port_count; number++) {
        struct ftdi_port *port = port_of(function, number);
        usbip_timer_cancel(usbip_device_scheduler(function->device), &port->latency_timer);
        usbip_serial_free(&port->serial);
    }
    free(function);
}

/* The next port, on the interface of its number. */
static int add_port(struct ftdi *ftdi, bool paced, char error_text[256])
{
    struct usbip_device *device = ftdi->function.device;
    const struct usbip_configuration *configuration = usbip_device_configuration(device);
    unsigned interface = ftdi->function.port_count;
    const struct usbip_altsetting *setting =
        usbip_find_altsetting(configuration, (uint8_t)interface, 0);
    const struct usbip_endpoint_descriptor *in = NULL, *out = NULL;
    if (setting) {
        in = usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_BULK, USB_DIR_IN);
        out = usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_BULK, 0);
    }
    if (!in || !out || in->wMaxPacketSize != ftdi->packet_size) {
        snprintf(error_text, 256,
                 "an ftdi device needs a bulk IN endpoint of %u bytes and a bulk OUT endpoint on "
                 "interface %u",
                 ftdi->packet_size, interface);
        return -1;
    }
    struct ftdi_port *port = &ftdi->ports[interface];
    port->ftdi = ftdi;
    port->serial.device = device;
    port->serial.port = interface + 1;
    port->serial.out_endpoint = out->bEndpointAddress;
    port->serial.modem = USBIP_MODEM_CTS | USBIP_MODEM_DSR | USBIP_MODEM_DCD;
    port->in_endpoint = in->bEndpointAddress;
    port->latency_timer.fired = latency_passed;
    port->latency_timer.user = port;
    if (paced && usbip_serial_pace(&port->serial) < 0) {
        snprintf(error_text, 256, "out of memory");
        return -1;
    }
    ftdi->function.port_count++;
    return 0;
}

static struct usbip_function *create(struct usbip_device *device,
                                     const struct usbip_function_options *options,
                                     char error_text[256])
{
    const struct usbip_ftdi_chip *chip = chip_of(options);
    struct ftdi *ftdi = calloc(1, sizeof *ftdi);
    if (!ftdi) {
        snprintf(error_text, 256, "out of memory");
        return NULL;
    }
    ftdi->function = (struct usbip_function){&usbip_function_ftdi, device, 0};
    ftdi->chip = chip;
    ftdi->packet_size = packet_size_of(chip, usbip_device_speed(device));
    while (ftdi->function.port_count < chip->ports) {
        if (add_port(ftdi, options->paced, error_text) < 0) {
            destroy(&ftdi->function);
            return NULL;
        }
    }
    usbip_ftdi_fill_eeprom(ftdi->eeprom, chip, device);
    reset(&ftdi->function);
    return &ftdi->function;
}

static unsigned modem_state(const struct usbip_function *function, unsigned number)
{
    return ((const struct ftdi *)function)->ports[number - 1].serial.modem;
}

const struct usbip_function_type usbip_function_ftdi = {
    .name = "ftdi",
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
