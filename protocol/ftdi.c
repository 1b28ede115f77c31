#include "protocol/ftdi.h"

#include <ctype.h>
#include <string.h>

static const struct usbip_ftdi_chip chips[] = {
    {"FT232BM", FTDI_PRODUCT_ID_232, FTDI_BCD_FT232BM, 1, false},
    {"FT232R", FTDI_PRODUCT_ID_232, FTDI_BCD_FT232R, 1, false},
    {"FT2232H", FTDI_PRODUCT_ID_2232H, FTDI_BCD_FT2232H, 2, true},
    {"FT4232H", FTDI_PRODUCT_ID_4232H, FTDI_BCD_FT4232H, 4, true},
};

enum { CHIP_COUNT = sizeof(chips) / sizeof(chips[0]) };

/*
 * Divisors are counted in eighths here, the chip's finest step: rate = clock / eighths. Sent are 14
 * bits of whole divisor and, above them, 3 bits of code for the eighths.
 */
enum {
    CLOCK_EIGHTHS = 8 * 3000000,
    MIN_RATE = 184, /* the next lower one has a divisor of more than 14 bits */
    MAX_RATE = 3000000,
    HI_SPEED_CLOCK_EIGHTHS = 8 * 12000000,
    HI_SPEED_MIN_RATE = 1200,
    HI_SPEED_MAX_RATE = 12000000,
    HI_SPEED_CLOCK_BIT = 1 << 17,
    WHOLE_BITS = 14,
    WHOLE_MASK = (1 << WHOLE_BITS) - 1,
    CODE_MASK = 0x7,
    /* Below divisor 2 there are only these; they have codes of their own. */
    EIGHTHS_OF_1 = 8,
    EIGHTHS_OF_1_5 = 12,
    EIGHTHS_OF_2 = 16,
    CODE_OF_1 = 0,
    CODE_OF_1_5 = 1,
    /* A rate may be off by 1 / 32, which is the worst that rounding does at divisor 2. */
    TOLERANCE_PART = 32,
};

static const uint8_t code_of_eighths[8] = {0, 3, 2, 4, 1, 5, 6, 7};
static const uint8_t eighths_of_code[8] = {0, 4, 2, 1, 3, 5, 6, 7};

/* FTDI_SIO_SET_DATA: data bits in the low byte, then parity and stop bits, then break. */
enum {
    PARITY_SHIFT = 8,
    PARITY_MASK = 0x7,
    STOP_SHIFT = 11,
    STOP_MASK = 0x7,
    DATA_BITS_MASK = 0xff,
};

const struct usbip_ftdi_chip *usbip_ftdi_find_chip(uint16_t bcdDevice)
{
    for (size_t i = 0; i < CHIP_COUNT; i++) {
        if (chips[i].bcdDevice == bcdDevice)
            return &chips[i];
    }
    return NULL;
}

const struct usbip_ftdi_chip *usbip_ftdi_find_chip_named(const char *name)
{
    for (size_t i = 0; i < CHIP_COUNT; i++) {
        const char *a = chips[i].name, *b = name;

        while (*a != '\0' && *a == toupper((unsigned char)*b))
            a++, b++;
        if (*a == '\0' && *b == '\0')
            return &chips[i];
    }
    return NULL;
}

static uint32_t divide_rounded(uint32_t dividend, uint32_t divisor)
{
    return (dividend + divisor / 2) / divisor;
}

static bool is_divisor(uint32_t eighths)
{
    return eighths == EIGHTHS_OF_1 || eighths == EIGHTHS_OF_1_5 || eighths >= EIGHTHS_OF_2;
}

/* The nearest divisor of a clock, in *encoded. Returns the rate that it makes, or 0. */
static uint32_t encode_divisor(uint32_t clock_eighths, uint32_t rate, uint32_t *encoded)
{
    uint32_t eighths = divide_rounded(clock_eighths, rate), product, error;

    /* A rate nearest to a divisor that does not exist is too far from those that do. */
    if (!is_divisor(eighths))
        return 0;
    product = rate * eighths; /* about clock_eighths, so it fits */
    error = product > clock_eighths ? product - clock_eighths : clock_eighths - product;
    if (error > product / TOLERANCE_PART)
        return 0;

    if (eighths == EIGHTHS_OF_1)
        *encoded = CODE_OF_1;
    else if (eighths == EIGHTHS_OF_1_5)
        *encoded = CODE_OF_1_5;
    else
        *encoded = eighths / 8 | (uint32_t)code_of_eighths[eighths % 8] << WHOLE_BITS;
    return divide_rounded(clock_eighths, eighths);
}

static uint32_t decode_divisor(uint32_t clock_eighths, uint32_t encoded)
{
    uint32_t whole = encoded & WHOLE_MASK;
    uint32_t eighths = eighths_of_code[encoded >> WHOLE_BITS & CODE_MASK];

    if (encoded == CODE_OF_1)
        return divide_rounded(clock_eighths, EIGHTHS_OF_1);
    if (encoded == CODE_OF_1_5)
        return divide_rounded(clock_eighths, EIGHTHS_OF_1_5);
    if (whole < 2)
        return 0;
    return divide_rounded(clock_eighths, whole * 8 + eighths);
}

uint32_t usbip_ftdi_encode_baud_rate(uint32_t rate, uint16_t *wValue, uint16_t *wIndex)
{
    uint32_t encoded, actual;

    if (rate < MIN_RATE || rate > MAX_RATE)
        return 0;
    actual = encode_divisor(CLOCK_EIGHTHS, rate, &encoded);
    if (actual == 0)
        return 0;
    *wValue = (uint16_t)encoded;
    *wIndex = (uint16_t)(encoded >> 16);
    return actual;
}

uint32_t usbip_ftdi_decode_baud_rate(uint16_t wValue, uint16_t wIndex)
{
    return decode_divisor(CLOCK_EIGHTHS, (wIndex & 1u) << 16 | wValue);
}

uint32_t usbip_ftdi_encode_hi_speed_baud_rate(uint32_t rate, uint16_t *wValue, uint16_t *wIndex)
{
    uint32_t encoded, actual;

    if (rate < HI_SPEED_MIN_RATE) {
        actual = usbip_ftdi_encode_baud_rate(rate, wValue, wIndex);
        if (actual > 0)
            *wIndex = (uint16_t)(*wIndex << 8);
        return actual;
    }
    if (rate > HI_SPEED_MAX_RATE)
        return 0;
    actual = encode_divisor(HI_SPEED_CLOCK_EIGHTHS, rate, &encoded);
    if (actual == 0)
        return 0;
    encoded |= HI_SPEED_CLOCK_BIT;
    *wValue = (uint16_t)encoded;
    *wIndex = (uint16_t)(encoded >> 16 << 8);
    return actual;
}

uint32_t usbip_ftdi_decode_hi_speed_baud_rate(uint16_t wValue, uint16_t wIndex)
{
    uint32_t encoded = (uint32_t)(wIndex >> 8) << 16 | wValue;
    bool is_hi_speed = encoded & HI_SPEED_CLOCK_BIT;

    return decode_divisor(is_hi_speed ? HI_SPEED_CLOCK_EIGHTHS : CLOCK_EIGHTHS,
                          encoded & (HI_SPEED_CLOCK_BIT - 1));
}

int usbip_ftdi_encode_line_format(const struct usbip_line_coding *coding, uint16_t *wValue)
{
    if (coding->bDataBits != 7 && coding->bDataBits != 8)
        return -1;
    if (coding->bParityType > USBIP_PARITY_SPACE || coding->bCharFormat > USBIP_STOP_2)
        return -1;
    *wValue = (uint16_t)(coding->bDataBits | coding->bParityType << PARITY_SHIFT |
                         coding->bCharFormat << STOP_SHIFT);
    return 0;
}

int usbip_ftdi_decode_line_format(uint16_t wValue, struct usbip_line_coding *coding)
{
    unsigned data_bits = wValue & DATA_BITS_MASK;
    unsigned parity = wValue >> PARITY_SHIFT & PARITY_MASK;
    unsigned stop = wValue >> STOP_SHIFT & STOP_MASK;

    if (data_bits == 0)
        data_bits = 5;
    if (data_bits < 5 || data_bits > 8 || parity > USBIP_PARITY_SPACE || stop > USBIP_STOP_2)
        return -1;
    coding->bDataBits = (uint8_t)data_bits;
    coding->bParityType = (uint8_t)parity;
    coding->bCharFormat = (uint8_t)stop;
    return 0;
}

/* Which bit of which status byte stands for which modem bit. */
static const struct {
    unsigned modem;
    uint8_t byte;
    uint8_t bit;
} status_bits[] = {
    {USBIP_MODEM_CTS, 0, FTDI_MODEM_STATUS_CTS},   {USBIP_MODEM_DSR, 0, FTDI_MODEM_STATUS_DSR},
    {USBIP_MODEM_RI, 0, FTDI_MODEM_STATUS_RI},     {USBIP_MODEM_DCD, 0, FTDI_MODEM_STATUS_RLSD},
    {USBIP_MODEM_OVERRUN, 1, FTDI_LINE_STATUS_OE}, {USBIP_MODEM_PARITY, 1, FTDI_LINE_STATUS_PE},
    {USBIP_MODEM_FRAMING, 1, FTDI_LINE_STATUS_FE}, {USBIP_MODEM_BREAK, 1, FTDI_LINE_STATUS_BI},
};

enum { STATUS_BITS_COUNT = sizeof(status_bits) / sizeof(status_bits[0]) };

void usbip_ftdi_encode_status(uint8_t out[FTDI_STATUS_SIZE], unsigned modem, bool transmitter_empty,
                              bool high_speed)
{
    out[0] = high_speed ? FTDI_MODEM_STATUS_HIGH_SPEED : FTDI_MODEM_STATUS_FULL_SPEED;
    out[1] = transmitter_empty ? FTDI_LINE_STATUS_THRE | FTDI_LINE_STATUS_TEMT : 0;
    for (unsigned i = 0; i < STATUS_BITS_COUNT; i++) {
        if (modem & status_bits[i].modem)
            out[status_bits[i].byte] |= status_bits[i].bit;
    }
}

unsigned usbip_ftdi_decode_status(const uint8_t in[FTDI_STATUS_SIZE])
{
    unsigned modem = 0;

    for (unsigned i = 0; i < STATUS_BITS_COUNT; i++) {
        if (in[status_bits[i].byte] & status_bits[i].bit)
            modem |= status_bits[i].modem;
    }
    return modem;
}

size_t usbip_ftdi_strip_status(uint8_t *data, const uint8_t *in, size_t size, size_t packet_size,
                               unsigned *modem)
{
    size_t length = 0;
    unsigned events = 0;

    if (packet_size < FTDI_STATUS_SIZE)
        return 0;
    while (size >= FTDI_STATUS_SIZE) {
        size_t packet = size < packet_size ? size : packet_size;
        size_t payload = packet - FTDI_STATUS_SIZE;
        unsigned status = usbip_ftdi_decode_status(in);

        if (payload > 0) {
            events |= status & ~(unsigned)USBIP_MODEM_LINES;
            memmove(data + length, in + FTDI_STATUS_SIZE, payload);
            length += payload;
        }
        *modem = (status & USBIP_MODEM_LINES) | events;
        in += packet;
        size -= packet;
    }
    return length;
}
