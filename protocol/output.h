/*
 * Output of a session: bytes that were copied into it, and large payloads that are sent from where
 * they lie.
 */
#ifndef PROTOCOL_OUTPUT_H
#define PROTOCOL_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/buffer.h"

enum {
    USBIP_OUTPUT_MIN_LOAN = 2048, /* bytes; what is smaller costs less to copy than as a piece */
    USBIP_OUTPUT_MAX_LOANS = 511,
    /* With the bytes before, between and behind them: at most 1024, Linux's IOV_MAX. */
    USBIP_OUTPUT_MAX_PIECES = 2 * USBIP_OUTPUT_MAX_LOANS + 1,
};

enum usbip_output_origin {
    USBIP_OUTPUT_COPIED,
    USBIP_OUTPUT_PASSING, /* lent for as long as what was received stays where it is */
    USBIP_OUTPUT_LASTING, /* lent for ever */
};

/* A run of bytes to be sent. */
struct usbip_output_piece {
    const uint8_t *data;
    size_t size;
    enum usbip_output_origin origin;
};

struct usbip_output_loan {
    size_t at; /* behind so many copied bytes */
    struct usbip_output_piece piece;
};

/* Bytes that may be lent. */
struct usbip_range {
    const uint8_t *data;
    size_t size;
};

static inline bool usbip_range_contains(const struct usbip_range *range, const uint8_t *data,
                                        size_t size)
{
    /* Numbers, for the two may be of different objects; large when data lies before the range. */
    uintptr_t at = (uintptr_t)data - (uintptr_t)range->data;
    return size <= range->size && at <= range->size - size;
}

/* All zero is an empty one. */
struct usbip_output {
    struct usbip_buffer bytes; /* what was copied, without gaps for the loans */
    struct usbip_output_loan *loans;
    size_t loan_count, loan_capacity;
    size_t lent;                       /* bytes */
    size_t passing_count;              /* loans that are */
    struct usbip_output_piece whole;   /* the only piece, without loans */
    struct usbip_output_piece *pieces; /* room for all that the loans make */
};

static inline size_t usbip_output_size(const struct usbip_output *output)
{
    return output->bytes.size + output->lent;
}

/* Appends a payload, without copying it while there are less than USBIP_OUTPUT_MAX_LOANS. Returns
 * 0, or -1 when memory is out. */
int usbip_output_lend(struct usbip_output *output, const struct usbip_output_piece *payload);

/* Copies what is lent: all of it is in `bytes` then. Returns 0, or -1 when memory is out; then
 * nothing has changed. */
int usbip_output_settle(struct usbip_output *output);

/* All of it in order, valid until the next change. */
const struct usbip_output_piece *usbip_output_pieces(struct usbip_output *output, size_t *count);

/* Of two outputs by turns: the one that was filled is taken, and the other one, whose bytes are no
 * longer needed, is filled next. */
void usbip_output_swap(struct usbip_output **filled, struct usbip_output **taken);

/* Nothing waits any more; memory is kept. */
void usbip_output_clear(struct usbip_output *output);
void usbip_output_free(struct usbip_output *output);

#endif
