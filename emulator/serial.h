/*
 * What the serial functions have in common: the state that the host sets and its way to the
 * behaviour, the bytes that wait for the host, and flow control between the two directions.
 */
#ifndef EMULATOR_SERIAL_H
#define EMULATOR_SERIAL_H

#include "emulator/device.h"
#include "emulator/fifo.h"

/* A member of each serial function. */
struct usbip_serial {
    struct usbip_device *device;
    uint8_t out_endpoint;
    struct usbip_line_coding coding;
    unsigned lines; /* USBIP_LINE_… */
    unsigned modem; /* lines of USBIP_MODEM_LINES */
    struct usbip_fifo fifo;
    bool holds_output; /* OUT URBs wait for room in the FIFO */
};

/* Line coding 9600 8N1, no lines; the FIFO is emptied, an open port closed. */
void usbip_serial_reset(struct usbip_serial *serial);

/* The host's wishes, passed on to the behaviour. False: to be stalled. */
bool usbip_serial_set_coding(struct usbip_serial *serial, const struct usbip_line_coding *coding);
bool usbip_serial_set_lines(struct usbip_serial *serial, unsigned lines);
bool usbip_serial_send_break(struct usbip_serial *serial, unsigned duration_ms);

/* Gives the OUT URBs that wait to the behaviour, as far as there is room for what it may answer. */
void usbip_serial_take_output(struct usbip_serial *serial);

/* Call when bytes have left the FIFO: OUT URBs may go on, the behaviour learns that it is empty. */
void usbip_serial_drained(struct usbip_serial *serial);

/* The host has no use for the bytes that wait for it. */
void usbip_serial_purge(struct usbip_serial *serial);

#endif
