/*
 * Where the payloads of the next answers go, if the server answers as it did: its PDUs are cut from
 * the stream by the system while it is received, headers here, payloads one behind the other in a
 * reader's memory. So they need not be copied there.
 */
#ifndef CLIENT_LAYOUT_H
#define CLIENT_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "protocol/output.h"
#include "protocol/usbip.h"

enum {
    USBIP_LAYOUT_MAX_PDUS = 64,
    USBIP_LAYOUT_MIN_PAYLOAD = USBIP_OUTPUT_MIN_LOAN, /* bytes; for the same reason */
    USBIP_LAYOUT_MAX_PIECES = 2 * USBIP_LAYOUT_MAX_PDUS + 1,
};

/* A run of memory to receive into. */
struct usbip_input_piece {
    uint8_t *data;
    size_t size;
};

/* All zero: nothing is known. */
struct usbip_layout {
    /* Of the PDUs of this reading, and behind them of the reading before. */
    uint32_t payload_sizes[USBIP_LAYOUT_MAX_PDUS];
    unsigned before; /* PDUs of the reading before */
    unsigned count;  /* of this one */
    unsigned agreed; /* the first so many of both are alike */

    unsigned expected; /* PDUs that are laid out */
    uint8_t *memory;   /* their payloads */
    uint8_t *input;    /* what comes behind them, and all that comes otherwise */
    uint8_t headers[USBIP_LAYOUT_MAX_PDUS][USBIP_HEADER_SIZE];
};

/* A new reading begins. */
void usbip_layout_begin(struct usbip_layout *layout);
/* One more PDU of this reading, with a payload of so many bytes. */
void usbip_layout_note(struct usbip_layout *layout, size_t payload_size);
/*
 * Lays out what both of the last readings began with: payloads in `memory`, `size` bytes. What
 * comes behind it goes to `input`, not to its start, but to where it were if all had been received
 * there; so not more is laid out than input_size. Writes the pieces, to be filled in their order,
 * to pieces[USBIP_LAYOUT_MAX_PIECES] and returns their number, at least 1 unless input_size is 0.
 */
size_t usbip_layout_expect(struct usbip_layout *layout, uint8_t *memory, size_t size,
                           uint8_t *input, size_t input_size, struct usbip_input_piece *pieces);

/*
 * Of `received` bytes, the PDU at index `first` and those behind it came otherwise: copies what was
 * laid out of them to layout->input + at, as it came, where the rest of the reading is.
 */
void usbip_layout_gather(const struct usbip_layout *layout, unsigned first, size_t at,
                         size_t received);

#endif
