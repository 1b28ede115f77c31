/*
 * A serial chip whose bytes take the time that the line needs, in both directions.
 *
 *   to the host    What the behaviour writes waits in the FIFO; of it, so many bytes have arrived
 *                  at the chip, and only they can go into IN transfers.
 *   from the host  The chip takes bytes of OUT transfers as far as its buffer has room; a transfer
 *                  ends when its last byte is in there. From the buffer bytes pass to the
 * behaviour.
 *
 * Time is counted in bytes (line.h), not in timers that fired: a timer that is late makes nobody
 * lose time. There is none for each byte at high rates, because a behaviour gets, and a short
 * transfer takes, what has come in a frame.
 */
#ifndef EMULATOR_PACING_H
#define EMULATOR_PACING_H

#include "emulator/line.h"
#include "emulator/scheduler.h"

struct usbip_serial;

enum {
    USBIP_LINE_BUFFER_SIZE = 128, /* bytes on their way from the host, as in an FT232R */
    USBIP_LINE_FRAME_US = 1000,   /* of full-speed USB */
};

struct usbip_pacing {
    struct usbip_serial *serial;

    struct usbip_line in;
    size_t arrived; /* bytes at the front of the FIFO */
    size_t fresh;   /* the last of them, of which usbip_pacing_receive() has not told */

    struct usbip_line out;
    uint8_t buffer[USBIP_LINE_BUFFER_SIZE];
    size_t buffered;
    struct usbip_timer out_timer;
    uint64_t next_piece_us; /* when the behaviour gets what has come, although there is more */
};

/* NULL when memory is out. The line coding is set before any byte. */
struct usbip_pacing *usbip_pacing_new(struct usbip_serial *serial);
void usbip_pacing_free(struct usbip_pacing *pacing);

/* The FIFO is empty, the line is idle and has the serial function's line coding. */
void usbip_pacing_reset(struct usbip_pacing *pacing);
/* The serial function has a new line coding. Whoever waits for bytes to arrive has to ask again. */
void usbip_pacing_change_coding(struct usbip_pacing *pacing);

/* Bytes are put into the FIFO next. */
void usbip_pacing_put(struct usbip_pacing *pacing);
/* Notices what has arrived by now. Returns how many bytes did since it was called last. */
size_t usbip_pacing_receive(struct usbip_pacing *pacing);

/* Gives the behaviour what has come, takes what fits of the OUT transfers that wait. */
void usbip_pacing_take_output(struct usbip_pacing *pacing);
/* Gives the behaviour at once what is in the buffer. */
void usbip_pacing_hurry_output(struct usbip_pacing *pacing);
/* Drops what is in the buffer. */
void usbip_pacing_purge_output(struct usbip_pacing *pacing);

#endif
