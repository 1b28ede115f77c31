#include "emulator/serial.h"

#include "emulator/fault_device.h"

/* What an OUT transfer may answer at most while room is left for it: see behaviour.h. */
enum { PIECE_SIZE = USBIP_FIFO_SIZE / 2 };

static const struct usbip_line_coding default_coding = {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 8};

void usbip_serial_reset(struct usbip_serial *serial)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    bool was_open = serial->lines & USBIP_LINE_DTR;
    serial->lines = 0;
    serial->coding = default_coding;
    if (was_open && behaviour->ops->close)
        behaviour->ops->close(behaviour->context);
    usbip_fifo_clear(&serial->fifo);
    serial->holds_output = false;
}

bool usbip_serial_set_coding(struct usbip_serial *serial, const struct usbip_line_coding *coding)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    char text[USBIP_LINE_CODING_TEXT_SIZE];
    serial->coding = *coding;
    usbip_log(usbip_device_log(serial->device), USBIP_LOG_VERBOSE, "%s: line coding %s",
              usbip_device_name(serial->device), usbip_format_line_coding(coding, text));
    return !behaviour->ops->line_coding || behaviour->ops->line_coding(behaviour->context, coding);
}

bool usbip_serial_set_lines(struct usbip_serial *serial, unsigned lines)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    unsigned before = serial->lines;
    bool was_open = before & USBIP_LINE_DTR, is_open = lines & USBIP_LINE_DTR;
    serial->lines = lines;
    usbip_log(usbip_device_log(serial->device), USBIP_LOG_VERBOSE, "%s: DTR %d RTS %d",
              usbip_device_name(serial->device), is_open, (lines & USBIP_LINE_RTS) != 0);
    bool well = true;
    if (behaviour->ops->control_lines)
        well = behaviour->ops->control_lines(behaviour->context, lines);
    if (is_open && !was_open && behaviour->ops->open)
        well &= behaviour->ops->open(behaviour->context);
    if (!is_open && was_open && behaviour->ops->close)
        behaviour->ops->close(behaviour->context);
    usbip_device_faults_lines(serial->device, before, lines, serial->coding.dwDTERate);
    return well;
}

bool usbip_serial_send_break(struct usbip_serial *serial, unsigned duration_ms)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    if (duration_ms == USBIP_BREAK_START || duration_ms == USBIP_BREAK_STOP)
        usbip_log(usbip_device_log(serial->device), USBIP_LOG_VERBOSE, "%s: break %s",
                  usbip_device_name(serial->device),
                  duration_ms == USBIP_BREAK_START ? "on" : "off");
    else
        usbip_log(usbip_device_log(serial->device), USBIP_LOG_VERBOSE, "%s: break for %u ms",
                  usbip_device_name(serial->device), duration_ms);
    return !behaviour->ops->send_break ||
           behaviour->ops->send_break(behaviour->context, duration_ms);
}

/* The next piece of a transfer, and its end after the last one. */
static void take_piece(struct usbip_serial *serial, struct usbip_urb *urb)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    const uint8_t *data = urb->data + urb->consumed;
    uint32_t seqnum = urb->seqnum, piece = urb->length - urb->consumed;
    if (piece > PIECE_SIZE)
        piece = PIECE_SIZE;
    uint32_t before = urb->consumed;
    urb->consumed += piece;
    bool last = urb->consumed == urb->length;
    bool well = piece == 0 || !behaviour->ops->data ||
                behaviour->ops->data(behaviour->context, data, piece);
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
    serial->holds_output = false;
    while ((urb = usbip_device_next_urb(serial->device, serial->out_endpoint)) != NULL) {
        if (usbip_fifo_room(&serial->fifo) < PIECE_SIZE) {
            serial->holds_output = true;
            return;
        }
        take_piece(serial, urb);
    }
}

void usbip_serial_drained(struct usbip_serial *serial)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(serial->device);
    if (serial->holds_output)
        usbip_serial_take_output(serial);
    if (serial->fifo.size == 0 && behaviour->ops->drained)
        behaviour->ops->drained(behaviour->context);
}

void usbip_serial_purge(struct usbip_serial *serial)
{
    if (serial->fifo.size == 0)
        return;
    usbip_fifo_clear(&serial->fifo);
    usbip_serial_drained(serial);
}
