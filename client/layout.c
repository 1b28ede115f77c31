#include "client/layout.h"

#include <string.h>

void usbip_layout_begin(struct usbip_layout *layout)
{
    layout->before = layout->count;
    layout->count = 0;
    layout->agreed = 0;
}

void usbip_layout_note(struct usbip_layout *layout, size_t payload_size)
{
    unsigned index = layout->count;

    if (index == USBIP_LAYOUT_MAX_PDUS)
        return;
    if (layout->agreed == index && index < layout->before &&
        layout->payload_sizes[index] == payload_size)
        layout->agreed++;
    layout->payload_sizes[index] = (uint32_t)payload_size;
    layout->count++;
}

/* How many PDUs are worth to be laid out: up to the last large payload there is room for. */
static unsigned count_expected(const struct usbip_layout *layout, size_t size, size_t input_size)
{
    unsigned expected = 0;
    size_t payloads = 0, all = 0;

    for (unsigned i = 0; i < layout->agreed; i++) {
        size_t payload = layout->payload_sizes[i];

        all += USBIP_HEADER_SIZE + payload;
        payloads += payload;
        if (payloads > size || all > input_size ||
            (payload > 0 && payload < USBIP_LAYOUT_MIN_PAYLOAD))
            break;
        if (payload > 0)
            expected = i + 1;
    }
    return expected;
}

size_t usbip_layout_expect(struct usbip_layout *layout, uint8_t *memory, size_t size,
                           uint8_t *input, size_t input_size, struct usbip_input_piece *pieces)
{
    size_t count = 0, laid_out = 0;
    uint8_t *payload = memory;

    layout->memory = memory;
    layout->input = input;
    layout->expected = count_expected(layout, size, input_size);
    for (unsigned i = 0; i < layout->expected; i++) {
        size_t payload_size = layout->payload_sizes[i];

        /* Headers without a payload between them are one piece. */
        if (i == 0 || layout->payload_sizes[i - 1] > 0)
            pieces[count++] = (struct usbip_input_piece){.data = layout->headers[i]};
        pieces[count - 1].size += USBIP_HEADER_SIZE;
        if (payload_size > 0)
            pieces[count++] = (struct usbip_input_piece){payload, payload_size};
        payload += payload_size;
        laid_out += USBIP_HEADER_SIZE + payload_size;
    }
    if (laid_out < input_size)
        pieces[count++] = (struct usbip_input_piece){input + laid_out, input_size - laid_out};
    return count;
}

/* Copies what has been received of a piece that lies at `*at` of `received` bytes. */
static void gather_piece(uint8_t *input, size_t *at, size_t received, const uint8_t *data,
                         size_t size)
{
    size_t left = received - *at;

    if (size > left)
        size = left;
    memcpy(input + *at, data, size);
    *at += size;
}

void usbip_layout_gather(const struct usbip_layout *layout, unsigned first, size_t at,
                         size_t received)
{
    const uint8_t *payload = layout->memory;

    for (unsigned i = 0; i < layout->expected; i++) {
        if (i >= first) {
            gather_piece(layout->input, &at, received, layout->headers[i], USBIP_HEADER_SIZE);
            gather_piece(layout->input, &at, received, payload, layout->payload_sizes[i]);
        }
        payload += layout->payload_sizes[i];
    }
}
