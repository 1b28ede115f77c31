#include "protocol/serial.h"

#include <stdio.h>
#include <string.h>

/* At the index of USBIP_PARITY_… and USBIP_STOP_…. */
static const char parity_letters[] = "NOEMS";
static const char *const stop_bits[] = {"1", "1.5", "2"};

enum { STOP_BITS_COUNT = sizeof(stop_bits) / sizeof(stop_bits[0]) };

/* Reads a decimal number above 0. Returns the text behind it, or NULL. */
static const char *parse_rate(const char *text, uint32_t *rate)
{
    uint64_t value = 0;

    while (*text >= '0' && *text <= '9') {
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > UINT32_MAX)
            return NULL;
        text++;
    }
    *rate = (uint32_t)value;
    return value > 0 ? text : NULL;
}

static const char *parse_data_bits(const char *text, uint8_t *bDataBits)
{
    if (*text >= '5' && *text <= '8') {
        *bDataBits = (uint8_t)(*text - '0');
        return text + 1;
    }
    if (strncmp(text, "16", 2) == 0) {
        *bDataBits = 16;
        return text + 2;
    }
    return NULL;
}

static const char *parse_parity(const char *text, uint8_t *bParityType)
{
    const char *letter = *text ? strchr(parity_letters, *text) : NULL;

    if (letter == NULL)
        return NULL;
    *bParityType = (uint8_t)(letter - parity_letters);
    return text + 1;
}

/* These are the last of the text. */
static int parse_stop_bits(const char *text, uint8_t *bCharFormat)
{
    for (unsigned i = 0; i < STOP_BITS_COUNT; i++) {
        if (strcmp(text, stop_bits[i]) == 0) {
            *bCharFormat = (uint8_t)i;
            return 0;
        }
    }
    return -1;
}

int usbip_parse_line_coding(const char *text, struct usbip_line_coding *coding)
{
    struct usbip_line_coding parsed = {
        .bCharFormat = USBIP_STOP_1,
        .bParityType = USBIP_PARITY_NONE,
        .bDataBits = 8,
    };

    text = parse_rate(text, &parsed.dwDTERate);
    if (text == NULL)
        return -1;
    if (*text != '\0') {
        if (*text != ' ')
            return -1;
        text = parse_data_bits(text + 1, &parsed.bDataBits);
        if (text == NULL)
            return -1;
        text = parse_parity(text, &parsed.bParityType);
        if (text == NULL || parse_stop_bits(text, &parsed.bCharFormat) < 0)
            return -1;
    }
    *coding = parsed;
    return 0;
}

const char *usbip_format_line_coding(const struct usbip_line_coding *coding,
                                     char text[USBIP_LINE_CODING_TEXT_SIZE])
{
    const char *data_bits = "?";
    char parity = '?';
    const char *stop = "?";

    switch (coding->bDataBits) {
    case 5:
        data_bits = "5";
        break;
    case 6:
        data_bits = "6";
        break;
    case 7:
        data_bits = "7";
        break;
    case 8:
        data_bits = "8";
        break;
    case 16:
        data_bits = "16";
        break;
    }
    if (coding->bParityType < sizeof(parity_letters) - 1)
        parity = parity_letters[coding->bParityType];
    if (coding->bCharFormat < STOP_BITS_COUNT)
        stop = stop_bits[coding->bCharFormat];
    snprintf(text, USBIP_LINE_CODING_TEXT_SIZE, "%lu %s%c%s", (unsigned long)coding->dwDTERate,
             data_bits, parity, stop);
    return text;
}
