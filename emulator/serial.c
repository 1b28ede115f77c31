#include "emulator/serial.h"

#include <stdio.h>

#include "emulator/fault_device.h"

static const struct usbip_line_coding default_coding = {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 8};

enum { PREFIX_SIZE = 48 };

/* Who logs: the device, and its port where it has several. */
static const char *prefix(const struct usbip_serial *serial, char text[PREFIX_SIZE])
{
    if (usbip_device_port_count(serial->device) > 1)
        snprintf(text, PREFIX_SIZE, "%s: port %u", usbip_device_name(serial->device), serial->port);
    else
        snprintf(text, PREFIX_SIZE, "%s", usbip_device_name(serial->device));
    return text;
}

void usbip_serial_reset(struct usbip_serial *serial)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    bool was_open = serial->lines & USBIP_LINE_DTR;
    serial->lines = 0;
    serial->coding = default_coding;
    if (was_open && behaviour->ops->close)
        behaviour->ops->close(behaviour->context, serial->port);
    usbip_fifo_clear(&serial->fifo);
    serial->holds_output = false;
    if (serial->pacing)
        usbip_pacing_reset(serial->pacing);
}

int usbip_serial_pace(struct usbip_serial *serial)
{
    serial->pacing = usbip_pacing_new(serial);
    return serial->pacing ? 0 : -1;
}

void usbip_serial_free(struct usbip_serial *serial)
{
    usbip_fifo_clear(&serial->fifo);
    usbip_pacing_free(serial->pacing);
}

bool usbip_serial_set_coding(struct usbip_serial *serial, const struct usbip_line_coding *coding)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    char text[USBIP_LINE_CODING_TEXT_SIZE], name[PREFIX_SIZE];
    serial->coding = *coding;
    if (serial->pacing)
        usbip_pacing_change_coding(serial->pacing);
    usbip_log(usbip_device_log(serial->device), USBIP_LOG_VERBOSE, "%s: line coding %s",
              prefix(serial, name), usbip_format_line_coding(coding, text));
    return !behaviour->ops->line_coding ||
           behaviour->ops->line_coding(behaviour->context, serial->port, coding);
}

bool usbip_serial_set_lines(struct usbip_serial *serial, unsigned lines)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    char name[PREFIX_SIZE];
    unsigned before = serial->lines;
    bool was_open = before & USBIP_LINE_DTR, is_open = lines & USBIP_LINE_DTR;
    /* A port that is closed gets no more, and what the chip has taken must not be lost. */
    if (serial->pacing && was_open && !is_open)
        usbip_pacing_hurry_output(serial->pacing);
    serial->lines = lines;
    usbip_log(usbip_device_log(serial->device), USBIP_LOG_VERBOSE, "%s: DTR %d RTS %d",
              prefix(serial, name), is_open, (lines & USBIP_LINE_RTS) != 0);
    bool well = true;
    if (behaviour->ops->control_lines)
        well = behaviour->ops->control_lines(behaviour->context, serial->port, lines);
    if (is_open && !was_open && behaviour->ops->open)
        well &= behaviour->ops->open(behaviour->context, serial->port);
    if (!is_open && was_open && behaviour->ops->close)
        behaviour->ops->close(behaviour->context, serial->port);
    usbip_device_faults_lines(serial->device, before, lines, serial->coding.dwDTERate);
    return well;
}

bool usbip_serial_send_break(struct usbip_serial *serial, unsigned duration_ms)
{
    char name[PREFIX_SIZE];
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    if (duration_ms == USBIP_BREAK_START || duration_ms == USBIP_BREAK_STOP)
        usbip_log(usbip_device_log(serial->device), USBIP_LOG_VERBOSE, "%s: break %s",
                  prefix(serial, name), duration_ms == USBIP_BREAK_START ? "on" : "off");
    else
        usbip_log(usbip_device_log(serial->device), USBIP_LOG_VERBOSE, "%s: break for %u ms",
                  prefix(serial, name), duration_ms);
    return !behaviour->ops->send_break ||
           behaviour->ops->send_break(behaviour->context, serial->port, duration_ms);
}

/* The next piece of a transfer, and its end after the last one. */
static void take_piece(struct usbip_serial *serial, struct usbip_urb *urb)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    const uint8_t *data = urb->data + urb->consumed;
    uint32_t seqnum = urb->seqnum, piece = urb->length - urb->consumed;
    if (piece > USBIP_SERIAL_ROOM)
        piece = USBIP_SERIAL_ROOM;
    uint32_t before = urb->consumed;
    urb->consumed += piece;
    bool last = urb->consumed == urb->length;
    bool well = piece == 0 || !behaviour->ops->data ||
                behaviour->ops->data(behaviour->context, serial->port, data, piece);
    if (!well)
        usbip_device_complete_first(serial->device, serial->out_endpoint, seqnum, -USBIP_EPIPE,
                                    before);
    else if (last)
        usbip_device_complete_first(serial->device, serial->out_endpoint, seqnum, 0,
                                    before + piece);
}

void usbip_serial_take_output(struct usbip_serial *serial)
{
    struct usbip_urb *urb;
    if (serial->pacing) {
        usbip_pacing_take_output(serial->pacing);
        return;
    }
    serial->holds_output = false;
    while ((urb = usbip_device_next_urb(serial->device, serial->out_endpoint)) != NULL) {
        if (!usbip_serial_has_room(serial)) {
            serial->holds_output = true;
            return;
        }
        take_piece(serial, urb);
    }
}

bool usbip_serial_has_room(const struct usbip_serial *serial)
{
    return usbip_fifo_room(&serial->fifo) >= USBIP_SERIAL_ROOM;
}

bool usbip_serial_output_is_empty(const struct usbip_serial *serial)
{
    return !serial->pacing || serial->pacing->buffered == 0;
}

void usbip_serial_purge_output(struct usbip_serial *serial)
{
    if (serial->pacing)
        usbip_pacing_purge_output(serial->pacing);
}

size_t usbip_serial_put(struct usbip_serial *serial, const uint8_t *data, size_t size)
{
    if (serial->pacing)
        usbip_pacing_put(serial->pacing);
    return usbip_fifo_put(&serial->fifo, data, size);
}

size_t usbip_serial_receive(struct usbip_serial *serial)
{
    return serial->pacing ? usbip_pacing_receive(serial->pacing) : 0;
}

uint64_t usbip_serial_arrival_us(const struct usbip_serial *serial, size_t count)
{
    size_t arrived = usbip_serial_arrived(serial);
    return count > arrived ? usbip_line_due_us(&serial->pacing->in, count - arrived)
                           : usbip_device_scheduler(serial->device)->now_us;
}

void usbip_serial_get(struct usbip_serial *serial, uint8_t *data, size_t size)
{
    size = usbip_fifo_get(&serial->fifo, data, size);
    if (serial->pacing)
        serial->pacing->arrived -= size;
}

void usbip_serial_drop(struct usbip_serial *serial, size_t size)
{
    usbip_fifo_drop(&serial->fifo, size);
    if (serial->pacing)
        serial->pacing->arrived -= size;
}

void usbip_serial_drained(struct usbip_serial *serial)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    if (serial->holds_output)
        usbip_serial_take_output(serial);
    if (serial->fifo.size == 0 && behaviour->ops->drained)
        behaviour->ops->drained(behaviour->context, serial->port);
}

void usbip_serial_purge(struct usbip_serial *serial)
{
    usbip_serial_receive(serial);
    size_t arrived = usbip_serial_arrived(serial);
    if (arrived == 0)
        return;
    usbip_serial_drop(serial, arrived);
    usbip_serial_drained(serial);
}
