/*
 * What the serial functions have in common: the state that the host sets and its way to the
 * behaviour, the bytes that wait for the host, and flow control between the two directions.
 */
#ifndef EMULATOR_SERIAL_H
#define EMULATOR_SERIAL_H

#include "emulator/device.h"
#include "emulator/fifo.h"
#include "emulator/pacing.h"

/* Room in the FIFO without which the behaviour gets no bytes: see behaviour.h. */
enum { USBIP_SERIAL_ROOM = USBIP_FIFO_SIZE / 2 };

/* A member of each serial function, for each of its ports. */
struct usbip_serial {
    struct usbip_device *device;
    unsigned port; /* of the chip, from 1 */
    uint8_t out_endpoint;
    struct usbip_line_coding coding;
    unsigned lines; /* USBIP_LINE_… */
    unsigned modem; /* lines of USBIP_MODEM_LINES */
    struct usbip_fifo fifo;
    bool holds_output;           /* OUT URBs wait for room in the FIFO */
    struct usbip_pacing *pacing; /* NULL: bytes take no time on the line */
};

/* Makes bytes take the time that the line needs. Returns -1 when memory is out. */
int usbip_serial_pace(struct usbip_serial *serial);
void usbip_serial_free(struct usbip_serial *serial);

/* Line coding 9600 8N1, no lines; the FIFO is emptied, an open port closed. */
void usbip_serial_reset(struct usbip_serial *serial);

/* The host's wishes, passed on to the behaviour. False: to be stalled. */
bool usbip_serial_set_coding(struct usbip_serial *serial, const struct usbip_line_coding *coding);
bool usbip_serial_set_lines(struct usbip_serial *serial, unsigned lines);
bool usbip_serial_send_break(struct usbip_serial *serial, unsigned duration_ms);

/* Gives the OUT URBs that wait to the behaviour, as far as there is room for what it may answer. */
void usbip_serial_take_output(struct usbip_serial *serial);
bool usbip_serial_has_room(const struct usbip_serial *serial);
/* Nothing that the host has sent is on its way to the behaviour. */
bool usbip_serial_output_is_empty(const struct usbip_serial *serial);
/* Drops what the chip has taken of the host's bytes and the behaviour has not got yet. */
void usbip_serial_purge_output(struct usbip_serial *serial);

/*
 * Bytes for the host, through the FIFO. All of them can be sent at once; with pacing only those
 * that have arrived at the chip, as usbip_serial_receive() has noticed: it returns how many did
 * since it was called last.
 */
size_t usbip_serial_put(struct usbip_serial *serial, const uint8_t *data, size_t size);
size_t usbip_serial_receive(struct usbip_serial *serial);
static inline size_t usbip_serial_arrived(const struct usbip_serial *serial)
{
    return serial->pacing ? serial->pacing->arrived : serial->fifo.size;
}
/* When the count-th byte of the FIFO arrives; now, if it is there. */
uint64_t usbip_serial_arrival_us(const struct usbip_serial *serial, size_t count);
/* Of those that have arrived. */
void usbip_serial_get(struct usbip_serial *serial, uint8_t *data, size_t size);
void usbip_serial_drop(struct usbip_serial *serial, size_t size);

/* Call when bytes have left the FIFO: OUT URBs may go on, the behaviour learns that it is empty. */
void usbip_serial_drained(struct usbip_serial *serial);

/* The host has no use for the bytes that the chip has for it. */
void usbip_serial_purge(struct usbip_serial *serial);

#endif
