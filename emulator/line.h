/*
 * One direction of a serial line, in time: bytes that wait pass one after the other, each in the
 * time that its start, data, parity and stop bits take at the line's rate.
 *
 * Only the number of bytes is counted, so that times do not drift: the n-th byte since the line was
 * idle has passed n byte times later, rounded up to whole microseconds.
 */
#ifndef EMULATOR_LINE_H
#define EMULATOR_LINE_H

#include <stddef.h>
#include <stdint.h>

#include "protocol/serial.h"

struct usbip_line {
    uint32_t rate;      /* bits per second, above 0 */
    uint32_t half_bits; /* of one byte: there are one and a half stop bits; 0: it takes no time */
    uint64_t origin_us; /* bytes have followed each other without a gap since then */
    uint64_t passed;    /* how many, fewer than rate */
};

/*
 * What waits passes at this rate and format from now on; a byte that was under way starts anew. A
 * rate of 0 lets bytes pass at once. The line is as it was when the coding takes the same time.
 */
void usbip_line_set_coding(struct usbip_line *line, const struct usbip_line_coding *coding,
                           uint64_t now_us);

/* Bytes begin to wait now, where none did. */
void usbip_line_start(struct usbip_line *line, uint64_t now_us);

/* When the count-th of the bytes that wait has passed. */
uint64_t usbip_line_due_us(const struct usbip_line *line, size_t count);

/* How many of `waiting` bytes have passed by now. */
size_t usbip_line_count(const struct usbip_line *line, size_t waiting, uint64_t now_us);

/* So many bytes do not wait any more, because they have passed. */
void usbip_line_pass(struct usbip_line *line, size_t count);

#endif
