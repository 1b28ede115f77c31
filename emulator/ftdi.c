/*
 * FTDI FT232R and FT232BM. What Linux's ftdi_sio and libftdi rely on: two status bytes in every
 * packet, the latency timer with its idle packets, and the EEPROM.
 */
#include "protocol/ftdi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/ftdi_eeprom.h"
#include "emulator/serial.h"

enum {
    DEFAULT_OUT_ENDPOINT = 0x02,
    DEFAULT_IN_ENDPOINT = 0x81,
    PACKET_SIZE = 64,
    PACKET_DATA_SIZE = PACKET_SIZE - FTDI_STATUS_SIZE,
    MAX_POWER = 45, /* 90 mA */
    EVENT_CHAR_ENABLED = 0x100,
    DEFAULT_EVENT_CHAR = 0x0d,
    US_PER_MS = 1000,
};

struct ftdi {
    struct usbip_function function;
    struct usbip_serial serial;
    uint8_t in_endpoint;
    unsigned latency_ms;
    unsigned event_char; /* wValue of SET_EVENT_CHAR */
    bool breaking;       /* the host holds the line in break */
    bool flush;          /* send what there is without waiting for the latency timer */
    unsigned events;     /* of USBIP_MODEM_…, to be told in the next transfer */
    uint64_t last_sent_us;
    struct usbip_timer latency_timer;
    uint16_t eeprom[FTDI_EEPROM_WORDS_FT232R];
};

static struct ftdi *ftdi_of(struct usbip_function *function)
{
    return (struct ftdi *)function;
}

static size_t describe(struct usbip_device_options *options, uint8_t *configuration,
                       size_t capacity)
{
    struct usbip_function_options *layout = &options->function;
    struct usbip_device_descriptor *device = &options->descriptor;
    const size_t size = USB_DT_CONFIG_SIZE + USB_DT_INTERFACE_SIZE + 2 * USB_DT_ENDPOINT_SIZE;
    if (size > capacity)
        return 0;
    if (!layout->out_endpoint)
        layout->out_endpoint = DEFAULT_OUT_ENDPOINT;
    if (!layout->in_endpoint)
        layout->in_endpoint = DEFAULT_IN_ENDPOINT;
    uint8_t *at = configuration;
    usbip_encode_config_descriptor(at,
                                   &(struct usbip_config_descriptor){
                                       .wTotalLength = (uint16_t)size,
                                       .bNumInterfaces = 1,
                                       .bConfigurationValue = 1,
                                       .bmAttributes = USB_CONFIG_ATT_ONE | USB_CONFIG_ATT_WAKEUP,
                                       .bMaxPower = MAX_POWER,
                                   });
    at += USB_DT_CONFIG_SIZE;
    usbip_encode_interface_descriptor(at, &(struct usbip_interface_descriptor){
                                              .bNumEndpoints = 2,
                                              .bInterfaceClass = USB_CLASS_VENDOR_SPEC,
                                              .bInterfaceSubClass = USB_CLASS_VENDOR_SPEC,
                                              .bInterfaceProtocol = USB_CLASS_VENDOR_SPEC,
                                              .iInterface = device->iProduct,
                                          });
    at += USB_DT_INTERFACE_SIZE;
    usbip_encode_endpoint_descriptor(at, &(struct usbip_endpoint_descriptor){layout->in_endpoint,
                                                                             USB_ENDPOINT_XFER_BULK,
                                                                             PACKET_SIZE, 0});
    at += USB_DT_ENDPOINT_SIZE;
    usbip_encode_endpoint_descriptor(at, &(struct usbip_endpoint_descriptor){layout->out_endpoint,
                                                                             USB_ENDPOINT_XFER_BULK,
                                                                             PACKET_SIZE, 0});
    return size;
}

/* ---- Bulk IN: packets with status bytes, paced by the latency timer ---- */

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Bytes of data that fit a transfer of this length, each packet led by its status. */
static size_t data_capacity(uint32_t length)
{
    size_t rest = length % PACKET_SIZE;
    return length / PACKET_SIZE * (size_t)PACKET_DATA_SIZE +
           (rest > FTDI_STATUS_SIZE ? rest - FTDI_STATUS_SIZE : 0);
}

static void send_transfer(struct ftdi *ftdi, struct usbip_urb *urb)
{
    size_t arrived = usbip_serial_arrived(&ftdi->serial);
    size_t data = min_size(arrived, data_capacity(urb->length));
    bool empty = usbip_serial_output_is_empty(&ftdi->serial);
    size_t full_packets = data / PACKET_DATA_SIZE;
    /* The packet that ends the transfer is short: the rest of the data, maybe none. */
    size_t size = full_packets * PACKET_SIZE;
    if (urb->length - size >= FTDI_STATUS_SIZE)
        size += FTDI_STATUS_SIZE + data % PACKET_DATA_SIZE;
    uint8_t *room = usbip_urb_reserve(urb, (uint32_t)size);
    if (!room) {
        usbip_urb_complete(urb, -USBIP_ENOMEM, 0);
        return;
    }
    bool all = data == ftdi->serial.fifo.size;
    for (size_t at = 0; at < size; at += PACKET_SIZE) {
        bool last = at + PACKET_SIZE >= size;
        unsigned modem = ftdi->serial.modem | (last && all ? ftdi->events : 0);
        size_t packet = min_size(size - at, PACKET_SIZE);
        usbip_ftdi_encode_status(room + at, modem, empty);
        usbip_serial_get(&ftdi->serial, room + at + FTDI_STATUS_SIZE, packet - FTDI_STATUS_SIZE);
    }
    if (all)
        ftdi->events = 0;
    if (data == arrived)
        ftdi->flush = false;
    ftdi->last_sent_us = usbip_device_scheduler(ftdi->function.device)->now_us;
    usbip_urb_complete(urb, 0, (uint32_t)size);
}

static bool is_event_char_enabled(const struct ftdi *ftdi)
{
    return ftdi->event_char & EVENT_CHAR_ENABLED;
}

/*
 * With pacing: what has arrived may have to be sent at once. Without it that is known when it is
 * written.
 */
static void receive(struct ftdi *ftdi)
{
    const struct usbip_fifo *fifo = &ftdi->serial.fifo;
    size_t count = usbip_serial_receive(&ftdi->serial);
    size_t arrived = usbip_serial_arrived(&ftdi->serial);
    if (count == 0)
        return;
    bool event_char =
        is_event_char_enabled(ftdi) &&
        usbip_fifo_find(fifo, arrived - count, count, (uint8_t)ftdi->event_char) < arrived;
    if (event_char || (ftdi->events && arrived == fifo->size))
        ftdi->flush = true;
}

/*
 * With pacing: when a byte arrives with which a transfer of this capacity does not wait for the
 * latency timer.
 */
static uint64_t next_arrival_us(const struct ftdi *ftdi, size_t capacity)
{
    const struct usbip_fifo *fifo = &ftdi->serial.fifo;
    size_t arrived = usbip_serial_arrived(&ftdi->serial), end = min_size(fifo->size, capacity);
    if (end <= arrived)
        return USBIP_NEVER;
    size_t at = end;
    if (is_event_char_enabled(ftdi))
        at = usbip_fifo_find(fifo, arrived, end - arrived, (uint8_t)ftdi->event_char);
    if (at < end)
        return usbip_serial_arrival_us(&ftdi->serial, at + 1);
    return end == capacity || ftdi->events ? usbip_serial_arrival_us(&ftdi->serial, end)
                                           : USBIP_NEVER;
}

/* The period begins anew with each transfer, and may have got another length. */
static uint64_t latency_due_us(const struct ftdi *ftdi)
{
    return ftdi->last_sent_us + (uint64_t)ftdi->latency_ms * US_PER_MS;
}

/* Sends what the chip would send now, and arms the latency timer for the rest. */
static void pump(struct ftdi *ftdi)
{
    struct usbip_scheduler *scheduler = usbip_device_scheduler(ftdi->function.device);
    struct usbip_urb *urb;
    receive(ftdi);
    while ((urb = usbip_device_next_urb(ftdi->function.device, ftdi->in_endpoint)) != NULL) {
        size_t capacity = data_capacity(urb->length);
        bool fills = capacity > 0 && usbip_serial_arrived(&ftdi->serial) >= capacity;
        if (!fills && !ftdi->flush)
            break;
        send_transfer(ftdi, urb);
    }
    uint64_t due_us = latency_due_us(ftdi);
    if (urb && ftdi->serial.pacing) {
        uint64_t arrival_us = next_arrival_us(ftdi, data_capacity(urb->length));
        if (arrival_us < due_us)
            due_us = arrival_us;
    }
    if (due_us < scheduler->now_us)
        due_us = scheduler->now_us; /* nobody has asked for longer than that */
    if (!urb)
        usbip_timer_cancel(scheduler, &ftdi->latency_timer);
    else if (!usbip_timer_is_armed(&ftdi->latency_timer) || ftdi->latency_timer.due_us != due_us)
        usbip_timer_arm(scheduler, &ftdi->latency_timer, due_us);
}

static void latency_passed(struct usbip_timer *timer)
{
    struct ftdi *ftdi = timer->user;
    struct usbip_urb *urb = usbip_device_next_urb(ftdi->function.device, ftdi->in_endpoint);
    bool had_data = ftdi->serial.fifo.size > 0;
    receive(ftdi);
    if (urb && usbip_device_scheduler(ftdi->function.device)->now_us >= latency_due_us(ftdi))
        send_transfer(ftdi, urb);
    pump(ftdi);
    if (had_data)
        usbip_serial_drained(&ftdi->serial);
}

static void in(struct usbip_function *function, uint8_t endpoint)
{
    struct ftdi *ftdi = ftdi_of(function);
    if (endpoint != ftdi->in_endpoint)
        return;
    bool had_data = ftdi->serial.fifo.size > 0;
    pump(ftdi);
    if (had_data)
        usbip_serial_drained(&ftdi->serial);
}

static void out(struct usbip_function *function, uint8_t endpoint)
{
    struct ftdi *ftdi = ftdi_of(function);
    if (endpoint == ftdi->serial.out_endpoint)
        usbip_serial_take_output(&ftdi->serial);
}

static size_t write_bytes(struct usbip_function *function, const uint8_t *data, size_t size)
{
    struct ftdi *ftdi = ftdi_of(function);
    size_t taken = usbip_serial_put(&ftdi->serial, data, size);
    if (taken > 0 && !ftdi->serial.pacing && is_event_char_enabled(ftdi) &&
        memchr(data, (int)(ftdi->event_char & 0xff), taken))
        ftdi->flush = true;
    pump(ftdi);
    return taken;
}

static size_t write_room(const struct usbip_function *function)
{
    return usbip_fifo_room(&((const struct ftdi *)function)->serial.fifo);
}

static void set_modem_state(struct usbip_function *function, unsigned modem)
{
    struct ftdi *ftdi = ftdi_of(function);
    unsigned lines = modem & USBIP_MODEM_LINES;
    unsigned events = modem & ~(unsigned)USBIP_MODEM_LINES;
    if (lines == ftdi->serial.modem && events == 0)
        return;
    ftdi->serial.modem = lines;
    ftdi->events |= events;
    ftdi->flush = true;
    if (events & USBIP_MODEM_BREAK) {
        /* The chip receives a break as a NUL with the break bit. */
        const uint8_t nul = 0;
        usbip_serial_put(&ftdi->serial, &nul, 1);
    }
    pump(ftdi);
}

/* ---- Requests ---- */

static void reset_sio(struct ftdi *ftdi)
{
    ftdi->event_char = DEFAULT_EVENT_CHAR;
    usbip_serial_purge_output(&ftdi->serial);
    if (ftdi->serial.lines)
        usbip_serial_set_lines(&ftdi->serial, 0);
    usbip_serial_purge(&ftdi->serial);
}

static bool sio_reset(struct ftdi *ftdi, uint16_t wValue)
{
    switch (wValue) {
    case FTDI_SIO_RESET_SIO:
        reset_sio(ftdi);
        return true;
    case FTDI_SIO_RESET_PURGE_UART_TO_HOST:
        usbip_serial_purge(&ftdi->serial);
        return true;
    case FTDI_SIO_RESET_PURGE_HOST_TO_UART:
        usbip_serial_purge_output(&ftdi->serial);
        return true;
    default:
        return false;
    }
}

static bool modem_ctrl(struct ftdi *ftdi, uint16_t wValue)
{
    unsigned lines = ftdi->serial.lines;
    if (wValue & FTDI_MODEM_CTRL_SET_DTR)
        lines = wValue & FTDI_MODEM_CTRL_DTR ? lines | USBIP_LINE_DTR
                                             : lines & ~(unsigned)USBIP_LINE_DTR;
    if (wValue & FTDI_MODEM_CTRL_SET_RTS)
        lines = wValue & FTDI_MODEM_CTRL_RTS ? lines | USBIP_LINE_RTS
                                             : lines & ~(unsigned)USBIP_LINE_RTS;
    return usbip_serial_set_lines(&ftdi->serial, lines);
}

static bool set_coding(struct ftdi *ftdi, const struct usbip_line_coding *coding)
{
    bool well = usbip_serial_set_coding(&ftdi->serial, coding);
    if (ftdi->serial.pacing)
        pump(ftdi);
    return well;
}

static bool same_format(const struct usbip_line_coding *a, const struct usbip_line_coding *b)
{
    return a->bDataBits == b->bDataBits && a->bParityType == b->bParityType &&
           a->bCharFormat == b->bCharFormat;
}

/* Format and break share a request: hosts send it for either. */
static bool set_data(struct ftdi *ftdi, uint16_t wValue)
{
    struct usbip_line_coding coding = ftdi->serial.coding;
    if (usbip_ftdi_decode_line_format(wValue, &coding) < 0)
        return false;
    bool well = true, breaking = wValue & FTDI_SET_DATA_BREAK;
    bool break_changes = breaking != ftdi->breaking;
    ftdi->breaking = breaking;
    if (!break_changes || !same_format(&coding, &ftdi->serial.coding))
        well = set_coding(ftdi, &coding);
    if (break_changes)
        well &=
            usbip_serial_send_break(&ftdi->serial, breaking ? USBIP_BREAK_START : USBIP_BREAK_STOP);
    return well;
}

/*
 * The rate that the host has most likely asked for: a usual one that has this very divisor, else
 * the one that the chip runs at.
 */
static uint32_t asked_rate(uint16_t wValue, uint16_t wIndex)
{
    static const uint32_t usual[] = {
        300,   600,    1200,   2400,   4800,   9600,   14400,  19200,  28800,  38400,   57600,
        74880, 115200, 128000, 230400, 250000, 256000, 460800, 500000, 921600, 1000000, 2000000};
    for (unsigned i = 0; i < sizeof usual / sizeof usual[0]; i++) {
        uint16_t value, index;
        if (usbip_ftdi_encode_baud_rate(usual[i], &value, &index) && value == wValue &&
            index == wIndex)
            return usual[i];
    }
    return usbip_ftdi_decode_baud_rate(wValue, wIndex);
}

static bool set_baud_rate(struct ftdi *ftdi, uint16_t wValue, uint16_t wIndex)
{
    struct usbip_line_coding coding = ftdi->serial.coding;
    coding.dwDTERate = asked_rate(wValue, wIndex & 1);
    return coding.dwDTERate > 0 && set_coding(ftdi, &coding);
}

static bool set_latency_timer(struct ftdi *ftdi, uint16_t wValue)
{
    if ((wValue & 0xff) == 0)
        return false;
    ftdi->latency_ms = wValue & 0xff;
    pump(ftdi);
    return true;
}

/* A vendor request without data for the host. False: to be stalled. */
static bool vendor_out(struct ftdi *ftdi, const struct usbip_setup *setup)
{
    switch (setup->bRequest) {
    case FTDI_SIO_RESET:
        return sio_reset(ftdi, setup->wValue);
    case FTDI_SIO_MODEM_CTRL:
        return modem_ctrl(ftdi, setup->wValue);
    case FTDI_SIO_SET_BAUD_RATE:
        return set_baud_rate(ftdi, setup->wValue, setup->wIndex);
    case FTDI_SIO_SET_DATA:
        return set_data(ftdi, setup->wValue);
    case FTDI_SIO_SET_LATENCY_TIMER:
        return set_latency_timer(ftdi, setup->wValue);
    case FTDI_SIO_SET_EVENT_CHAR:
        ftdi->event_char = setup->wValue;
        return true;
    case FTDI_SIO_WRITE_EEPROM:
        ftdi->eeprom[setup->wIndex % FTDI_EEPROM_WORDS_FT232R] = setup->wValue;
        return true;
    case FTDI_SIO_ERASE_EEPROM:
        memset(ftdi->eeprom, 0xff, sizeof ftdi->eeprom);
        return true;
    case FTDI_SIO_SET_FLOW_CTRL: /* nothing at the far end ever has to wait */
    case FTDI_SIO_SET_ERROR_CHAR:
    case FTDI_SIO_SET_BITMODE:
        return true;
    default:
        return false;
    }
}

static void vendor_in(struct ftdi *ftdi, struct usbip_urb *urb)
{
    uint8_t bytes[2];
    switch (urb->setup.bRequest) {
    case FTDI_SIO_GET_MODEM_STATUS:
        usbip_ftdi_encode_status(bytes, ftdi->serial.modem,
                                 usbip_serial_output_is_empty(&ftdi->serial));
        usbip_urb_complete_with(urb, bytes, 2);
        break;
    case FTDI_SIO_GET_LATENCY_TIMER:
        bytes[0] = (uint8_t)ftdi->latency_ms;
        usbip_urb_complete_with(urb, bytes, 1);
        break;
    case FTDI_SIO_READ_PINS:
        bytes[0] = 0;
        usbip_urb_complete_with(urb, bytes, 1);
        break;
    case FTDI_SIO_READ_EEPROM: {
        uint16_t word = ftdi->eeprom[urb->setup.wIndex % FTDI_EEPROM_WORDS_FT232R];
        bytes[0] = (uint8_t)word;
        bytes[1] = (uint8_t)(word >> 8);
        usbip_urb_complete_with(urb, bytes, 2);
        break;
    }
    default:
        usbip_urb_stall(urb);
        break;
    }
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
    struct ftdi *ftdi = ftdi_of(function);
    usbip_serial_reset(&ftdi->serial);
    usbip_timer_cancel(usbip_device_scheduler(function->device), &ftdi->latency_timer);
    ftdi->latency_ms = FTDI_DEFAULT_LATENCY_MS;
    ftdi->event_char = DEFAULT_EVENT_CHAR;
    ftdi->breaking = false;
    ftdi->flush = false;
    ftdi->events = 0;
}

static void purge(struct usbip_function *function)
{
    usbip_serial_purge(&ftdi_of(function)->serial);
}

static struct usbip_function *create(struct usbip_device *device,
                                     const struct usbip_function_options *options,
                                     char error_text[256])
{
    const struct usbip_configuration *configuration = usbip_device_configuration(device);
    const struct usbip_altsetting *setting = usbip_find_altsetting(configuration, 0, 0);
    const struct usbip_endpoint_descriptor *in = NULL, *out = NULL;
    if (setting) {
        in = usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_BULK, USB_DIR_IN);
        out = usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_BULK, 0);
    }
    if (!in || !out || in->wMaxPacketSize != PACKET_SIZE) {
        snprintf(error_text, 256,
                 "an ftdi device needs a bulk IN endpoint of %d bytes and a bulk OUT endpoint on "
                 "interface 0",
                 PACKET_SIZE);
        return NULL;
    }
    struct ftdi *ftdi = calloc(1, sizeof *ftdi);
    if (!ftdi) {
        snprintf(error_text, 256, "out of memory");
        return NULL;
    }
    ftdi->function = (struct usbip_function){&usbip_function_ftdi, device};
    ftdi->serial.device = device;
    ftdi->serial.out_endpoint = out->bEndpointAddress;
    ftdi->serial.modem = USBIP_MODEM_CTS | USBIP_MODEM_DSR | USBIP_MODEM_DCD;
    ftdi->in_endpoint = in->bEndpointAddress;
    ftdi->latency_timer.fired = latency_passed;
    ftdi->latency_timer.user = ftdi;
    if (options->paced && usbip_serial_pace(&ftdi->serial) < 0) {
        snprintf(error_text, 256, "out of memory");
        free(ftdi);
        return NULL;
    }
    usbip_ftdi_fill_eeprom(ftdi->eeprom, device);
    reset(&ftdi->function);
    return &ftdi->function;
}

static void destroy(struct usbip_function *function)
{
    struct ftdi *ftdi = ftdi_of(function);
    usbip_timer_cancel(usbip_device_scheduler(function->device), &ftdi->latency_timer);
    usbip_serial_free(&ftdi->serial);
    free(ftdi);
}

static unsigned modem_state(const struct usbip_function *function)
{
    return ((const struct ftdi *)function)->serial.modem;
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
