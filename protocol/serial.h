/*
 * What every serial chip has in common: line coding, control lines, modem state. The field names
 * and values are those of CDC PSTN 1.2; other chips translate from and to them.
 */
#ifndef PROTOCOL_SERIAL_H
#define PROTOCOL_SERIAL_H

#include <stddef.h>
#include <stdint.h>

enum { USBIP_STOP_1 = 0, USBIP_STOP_1_5 = 1, USBIP_STOP_2 = 2 };

enum {
    USBIP_PARITY_NONE = 0,
    USBIP_PARITY_ODD = 1,
    USBIP_PARITY_EVEN = 2,
    USBIP_PARITY_MARK = 3,
    USBIP_PARITY_SPACE = 4,
};

/* Line Coding Structure, CDC PSTN 1.2 table 17. */
struct usbip_line_coding {
    uint32_t dwDTERate;  /* bits per second */
    uint8_t bCharFormat; /* stop bits, USBIP_STOP_… */
    uint8_t bParityType; /* USBIP_PARITY_… */
    uint8_t bDataBits;   /* 5, 6, 7, 8 or 16 */
};

/* Control lines, host to device: wValue of SET_CONTROL_LINE_STATE. */
enum {
    USBIP_LINE_DTR = 0x01,
    USBIP_LINE_RTS = 0x02,
};

/* Modem lines and line events, device to host. CDC-ACM has no CTS. */
enum {
    USBIP_MODEM_DCD = 0x01,
    USBIP_MODEM_DSR = 0x02,
    USBIP_MODEM_BREAK = 0x04,
    USBIP_MODEM_RI = 0x08,
    USBIP_MODEM_FRAMING = 0x10,
    USBIP_MODEM_PARITY = 0x20,
    USBIP_MODEM_OVERRUN = 0x40,
    USBIP_MODEM_CTS = 0x80,
    /* Lines hold their level; the other bits are events that are reported once. */
    USBIP_MODEM_LINES = USBIP_MODEM_DCD | USBIP_MODEM_DSR | USBIP_MODEM_RI | USBIP_MODEM_CTS,
};

enum { USBIP_LINE_CODING_TEXT_SIZE = 24 };

/*
 * "115200 8N1", "9600 7E1.5", "1200 8S2": rate above 0, data bits, parity letter N O E M S, stop
 * bits. The format may be left out ("9600" is 8N1). Returns 0, or -1 when text is malformed or a
 * value is not one of the above; then *coding is unchanged.
 */
int usbip_parse_line_coding(const char *text, struct usbip_line_coding *coding);

/* The same text for a line coding; unknown values show as '?'. Returns text. */
const char *usbip_format_line_coding(const struct usbip_line_coding *coding,
                                     char text[USBIP_LINE_CODING_TEXT_SIZE]);

#endif
