#include "emulator/line.h"

enum { HALF_BIT_US = 500000 }; /* at 1 bit per second */

static uint32_t half_bits(const struct usbip_line_coding *coding)
{
    uint32_t stop = coding->bCharFormat == USBIP_STOP_2     ? 4
                    : coding->bCharFormat == USBIP_STOP_1_5 ? 3
                                                            : 2;
    uint32_t parity = coding->bParityType == USBIP_PARITY_NONE ? 0 : 2;
    return 2 + 2 * (uint32_t)coding->bDataBits + parity + stop;
}

void usbip_line_set_coding(struct usbip_line *line, const struct usbip_line_coding *coding,
                           uint64_t now_us)
{
    uint32_t rate = coding->dwDTERate > 0 ? coding->dwDTERate : 1;
    uint32_t bits = coding->dwDTERate > 0 ? half_bits(coding) : 0;
    if (line->rate == rate && line->half_bits == bits)
        return;
    *line = (struct usbip_line){rate, bits, now_us, 0};
}

/*
 * No overflow: a byte has at most 2 + 2 * 255 + 2 + 4 half bits, and count is a number of bytes in
 * memory, so that the product stays below 2^63.
 */
uint64_t usbip_line_due_us(const struct usbip_line *line, size_t count)
{
    uint64_t us = (line->passed + count) * line->half_bits * HALF_BIT_US;
    return line->origin_us + us / line->rate + (us % line->rate != 0);
}

void usbip_line_start(struct usbip_line *line, uint64_t now_us)
{
    if (now_us <= usbip_line_due_us(line, 0))
        return; /* the last byte is, or was this moment, still under way */
    line->origin_us = now_us;
    line->passed = 0;
}

size_t usbip_line_count(const struct usbip_line *line, size_t waiting, uint64_t now_us)
{
    if (usbip_line_due_us(line, waiting) <= now_us)
        return waiting;
    if (now_us < line->origin_us)
        return 0;
    /* Less time than all of them take: what kept that from an overflow does so here. */
    uint64_t bytes =
        (now_us - line->origin_us) * line->rate / ((uint64_t)line->half_bits * HALF_BIT_US);
    return bytes > line->passed ? (size_t)(bytes - line->passed) : 0;
}

void usbip_line_pass(struct usbip_line *line, size_t count)
{
    line->passed += count;
    /* As many bytes as the rate says take a whole number of microseconds. */
    line->origin_us += line->passed / line->rate * line->half_bits * HALF_BIT_US;
    line->passed %= line->rate;
}
