#include "protocol/output.h"

#include <stdlib.h>
#include <string.h>

enum { MIN_LOANS = 16 };

/* Bytes lie before, between and behind the loans. */
static size_t max_pieces(size_t loans)
{
    return 2 * loans + 1;
}

static int grow(struct usbip_output *output)
{
    size_t capacity = output->loan_capacity ? 2 * output->loan_capacity : MIN_LOANS;
    struct usbip_output_loan *loans = realloc(output->loans, capacity * sizeof *loans);
    if (!loans)
        return -1;
    output->loans = loans;
    struct usbip_output_piece *pieces =
        realloc(output->pieces, max_pieces(capacity) * sizeof *pieces);
    if (!pieces)
        return -1;
    output->pieces = pieces;
    output->loan_capacity = capacity;
    return 0;
}

int usbip_output_lend(struct usbip_output *output, const struct usbip_output_piece *payload)
{
    if (output->loan_count == USBIP_OUTPUT_MAX_LOANS)
        return usbip_buffer_append(&output->bytes, payload->data, payload->size);
    if (output->loan_count == output->loan_capacity && grow(output) < 0)
        return -1;
    output->loans[output->loan_count++] = (struct usbip_output_loan){output->bytes.size, *payload};
    output->lent += payload->size;
    output->passing_count += payload->origin == USBIP_OUTPUT_PASSING;
    return 0;
}

static void add_copied(struct usbip_output *output, size_t *count, size_t from, size_t to)
{
    output->pieces[(*count)++] =
        (struct usbip_output_piece){output->bytes.data + from, to - from, USBIP_OUTPUT_COPIED};
}

const struct usbip_output_piece *usbip_output_pieces(struct usbip_output *output, size_t *count)
{
    size_t at = 0;
    *count = 0;
    if (output->loan_count == 0) {
        output->whole = (struct usbip_output_piece){output->bytes.data, output->bytes.size,
                                                    USBIP_OUTPUT_COPIED};
        *count = output->bytes.size > 0;
        return &output->whole;
    }
    for (size_t i = 0; i < output->loan_count; i++) {
        const struct usbip_output_loan *loan = &output->loans[i];
        if (loan->at > at)
            add_copied(output, count, at, loan->at);
        output->pieces[(*count)++] = loan->piece;
        at = loan->at;
    }
    if (output->bytes.size > at)
        add_copied(output, count, at, output->bytes.size);
    return output->pieces;
}

static void forget_loans(struct usbip_output *output)
{
    output->loan_count = 0;
    output->passing_count = 0;
    output->lent = 0;
}

/* In place and from the end, so that what lies before the first loan costs nothing. */
int usbip_output_settle(struct usbip_output *output)
{
    if (output->loan_count == 0)
        return 0;
    if (!usbip_buffer_reserve(&output->bytes, output->lent))
        return -1;
    uint8_t *data = output->bytes.data;
    size_t end = output->bytes.size, shift = output->lent;
    for (size_t i = output->loan_count; i-- > 0;) {
        const struct usbip_output_loan *loan = &output->loans[i];
        memmove(data + loan->at + shift, data + loan->at, end - loan->at);
        shift -= loan->piece.size;
        memcpy(data + loan->at + shift, loan->piece.data, loan->piece.size);
        end = loan->at;
    }
    output->bytes.size += output->lent;
    forget_loans(output);
    return 0;
}

void usbip_output_clear(struct usbip_output *output)
{
    output->bytes.size = 0;
    forget_loans(output);
}

void usbip_output_swap(struct usbip_output **filled, struct usbip_output **taken)
{
    struct usbip_output *full = *filled;
    *filled = *taken;
    *taken = full;
    usbip_output_clear(*filled);
}

void usbip_output_free(struct usbip_output *output)
{
    usbip_buffer_free(&output->bytes);
    free(output->loans);
    free(output->pieces);
    *output = (struct usbip_output){0};
}
