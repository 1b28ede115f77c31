/*
 * FTDI USB UARTs: vendor requests, baud-rate divisors and the status bytes of bulk IN packets.
 *
 * Source: FTDI AN232B-05 (baud rates), the requests that Linux's ftdi_sio and libftdi send. Of the
 * chips, those of usbip_ftdi_find_chip().
 */
#ifndef PROTOCOL_FTDI_H
#define PROTOCOL_FTDI_H

#include "protocol/serial.h"
#include "protocol/usb.h"

enum {
    FTDI_VENDOR_ID = 0x0403,
    FTDI_PRODUCT_ID_232 = 0x6001,
    FTDI_PRODUCT_ID_2232H = 0x6010,
    FTDI_PRODUCT_ID_4232H = 0x6011,
};

/* bcdDevice tells the chips apart. */
enum {
    FTDI_BCD_FT232BM = 0x0400,
    FTDI_BCD_FT232R = 0x0600,
    FTDI_BCD_FT2232H = 0x0700,
    FTDI_BCD_FT4232H = 0x0800,
};

struct usbip_ftdi_chip {
    const char *name;   /* "FT2232H" */
    uint16_t idProduct; /* as delivered */
    uint16_t bcdDevice;
    uint8_t ports;    /* each has an interface; several are numbered from 1 in wIndex */
    bool is_hi_speed; /* 480 Mbit/s and a second clock, of 12 MHz */
};

/* NULL: none that is known here. */
const struct usbip_ftdi_chip *usbip_ftdi_find_chip(uint16_t bcdDevice);
/* By name, in upper or lower case. */
const struct usbip_ftdi_chip *usbip_ftdi_find_chip_named(const char *name);

/*
 * bRequest with bmRequestType 0x40 (OUT, wLength 0) or 0xC0 (IN). The low byte of wIndex is the
 * port of a chip with several, but for the EEPROM.
 */
enum {
    FTDI_SIO_RESET = 0x00,
    FTDI_SIO_MODEM_CTRL = 0x01,
    FTDI_SIO_SET_FLOW_CTRL = 0x02,
    FTDI_SIO_SET_BAUD_RATE = 0x03,
    FTDI_SIO_SET_DATA = 0x04,
    FTDI_SIO_GET_MODEM_STATUS = 0x05,
    FTDI_SIO_SET_EVENT_CHAR = 0x06,
    FTDI_SIO_SET_ERROR_CHAR = 0x07,
    FTDI_SIO_SET_LATENCY_TIMER = 0x09,
    FTDI_SIO_GET_LATENCY_TIMER = 0x0a,
    FTDI_SIO_SET_BITMODE = 0x0b,
    FTDI_SIO_READ_PINS = 0x0c,
    FTDI_SIO_READ_EEPROM = 0x90,
    FTDI_SIO_WRITE_EEPROM = 0x91,
    FTDI_SIO_ERASE_EEPROM = 0x92,
};

/* wValue of FTDI_SIO_RESET. Which FIFO 1 and 2 purge is told differently by different sources;
 * here as in libftdi 1.5, from the chip's view. */
enum {
    FTDI_SIO_RESET_SIO = 0,
    FTDI_SIO_RESET_PURGE_HOST_TO_UART = 1,
    FTDI_SIO_RESET_PURGE_UART_TO_HOST = 2,
};

/* wValue of FTDI_SIO_MODEM_CTRL: the level in the low byte, which lines to change in the high. */
enum {
    FTDI_MODEM_CTRL_DTR = 0x0001,
    FTDI_MODEM_CTRL_RTS = 0x0002,
    FTDI_MODEM_CTRL_SET_DTR = 0x0100,
    FTDI_MODEM_CTRL_SET_RTS = 0x0200,
};

/* High byte of wIndex of FTDI_SIO_SET_FLOW_CTRL. */
enum {
    FTDI_FLOW_NONE = 0x00,
    FTDI_FLOW_RTS_CTS = 0x01,
    FTDI_FLOW_DTR_DSR = 0x02,
    FTDI_FLOW_XON_XOFF = 0x04,
};

enum { FTDI_SET_DATA_BREAK = 0x4000 };

enum {
    FTDI_STATUS_SIZE = 2, /* at the start of every bulk IN packet */
    FTDI_DEFAULT_LATENCY_MS = 16,
    FTDI_EEPROM_WORDS = 64, /* in an FT232R; beside an FT2232H, in the smallest */
};

/* First status byte: modem lines, and one of two bits that goes with the size of the packets. */
enum {
    FTDI_MODEM_STATUS_FULL_SPEED = 0x01, /* 64 bytes */
    FTDI_MODEM_STATUS_HIGH_SPEED = 0x02, /* 512 bytes */
    FTDI_MODEM_STATUS_CTS = 0x10,
    FTDI_MODEM_STATUS_DSR = 0x20,
    FTDI_MODEM_STATUS_RI = 0x40,
    FTDI_MODEM_STATUS_RLSD = 0x80,
};

/* Second status byte: line status. */
enum {
    FTDI_LINE_STATUS_DR = 0x01,
    FTDI_LINE_STATUS_OE = 0x02,
    FTDI_LINE_STATUS_PE = 0x04,
    FTDI_LINE_STATUS_FE = 0x08,
    FTDI_LINE_STATUS_BI = 0x10,
    FTDI_LINE_STATUS_THRE = 0x20,
    FTDI_LINE_STATUS_TEMT = 0x40,
    FTDI_LINE_STATUS_FIFO_ERROR = 0x80,
};

/*
 * Divisor of a 3 MHz chip for a rate in bits per second: the nearest that the chip has. Writes
 * wValue and wIndex of FTDI_SIO_SET_BAUD_RATE and returns the rate that the chip then runs at,
 * rounded, or 0, nothing written, when the chip cannot come within 1/32 (about 3 %) of it (below
 * 184, above 3 000 000, or in a gap between 1.5, 2 and 3 Mbit/s).
 */
uint32_t usbip_ftdi_encode_baud_rate(uint32_t rate, uint16_t *wValue, uint16_t *wIndex);

/*
 * The rate that wValue and wIndex select, rounded to bits per second, or 0 for divisors that the
 * chip does not have: those below 2, but for 1 and 1.5. Of wIndex only bit 0 counts.
 */
uint32_t usbip_ftdi_decode_baud_rate(uint16_t wValue, uint16_t wIndex);

/*
 * The same of a chip with is_hi_speed, whose divisors of 12 MHz have bit 17 set: from 1200 bit/s on
 * they are taken, as Linux does, up to 12 000 000. The bits above wValue are in the high byte of
 * wIndex here. Its low byte is left 0 and not looked at: the port goes there.
 */
uint32_t usbip_ftdi_encode_hi_speed_baud_rate(uint32_t rate, uint16_t *wValue, uint16_t *wIndex);
uint32_t usbip_ftdi_decode_hi_speed_baud_rate(uint16_t wValue, uint16_t wIndex);

/*
 * wValue of FTDI_SIO_SET_DATA without the break bit. Returns 0, or -1 for data bits other than 7
 * and 8, and for a parity or stop code that is none of USBIP_PARITY_… and USBIP_STOP_….
 */
int usbip_ftdi_encode_line_format(const struct usbip_line_coding *coding, uint16_t *wValue);

/*
 * Reads the format from wValue into *coding; the rate stays, the break bit is ignored. Linux sends
 * 0 data bits for 5 and the number as it is otherwise. Returns 0, or -1, *coding unchanged, for
 * data bits other than 5 to 8 and for reserved parity or stop codes.
 */
int usbip_ftdi_decode_line_format(uint16_t wValue, struct usbip_line_coding *coding);

/* USBIP_MODEM_… (lines and events) to the two status bytes and back. */
void usbip_ftdi_encode_status(uint8_t out[FTDI_STATUS_SIZE], unsigned modem, bool transmitter_empty,
                              bool high_speed);
unsigned usbip_ftdi_decode_status(const uint8_t in[FTDI_STATUS_SIZE]);

/*
 * Copies what a bulk IN transfer carries without the status bytes that start every packet.
 * packet_size is wMaxPacketSize. data must have room for size bytes and may be the same memory as
 * in. Returns the number of data bytes; *modem receives the lines of the last packet and the events
 * of all packets that carried data, or stays when there is no whole status.
 */
size_t usbip_ftdi_strip_status(uint8_t *data, const uint8_t *in, size_t size, size_t packet_size,
                               unsigned *modem);

#endif
