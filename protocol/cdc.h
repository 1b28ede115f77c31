/*
 * USB Communications Device Class, Abstract Control Model.
 *
 * Source: CDC 1.2 (functional descriptors, section 5.2.3) and PSTN 1.2 (requests, section 6.3;
 * notifications, section 6.5).
 */
#ifndef PROTOCOL_CDC_H
#define PROTOCOL_CDC_H

#include "protocol/serial.h"
#include "protocol/usb.h"

enum {
    CDC_SUBCLASS_ACM = 0x02,
    CDC_PROTOCOL_NONE = 0x00,
    CDC_PROTOCOL_AT = 0x01,
};

/* bDescriptorSubtype of functional descriptors, CDC 1.2 table 13. */
enum {
    CDC_HEADER_TYPE = 0x00,
    CDC_CALL_MANAGEMENT_TYPE = 0x01,
    CDC_ACM_TYPE = 0x02,
    CDC_UNION_TYPE = 0x06,
};

enum {
    CDC_HEADER_SIZE = 5,
    CDC_CALL_MANAGEMENT_SIZE = 5,
    CDC_ACM_SIZE = 4,
    CDC_UNION_SIZE = 5, /* with one subordinate interface */
};

/* bmCapabilities of the ACM functional descriptor, PSTN 1.2 table 4. */
enum {
    CDC_CAP_COMM_FEATURE = 0x01,
    CDC_CAP_LINE = 0x02,
    CDC_CAP_BREAK = 0x04,
    CDC_CAP_NETWORK_CONNECTION = 0x08,
};

/* bRequest, PSTN 1.2 table 13. */
enum {
    CDC_SEND_ENCAPSULATED_COMMAND = 0x00,
    CDC_GET_ENCAPSULATED_RESPONSE = 0x01,
    CDC_SET_COMM_FEATURE = 0x02,
    CDC_GET_COMM_FEATURE = 0x03,
    CDC_CLEAR_COMM_FEATURE = 0x04,
    CDC_SET_LINE_CODING = 0x20,
    CDC_GET_LINE_CODING = 0x21,
    CDC_SET_CONTROL_LINE_STATE = 0x22,
    CDC_SEND_BREAK = 0x23,
};

enum {
    CDC_LINE_CODING_SIZE = 7,
    CDC_BREAK_UNTIL_STOPPED = 0xffff, /* wValue of SEND_BREAK, PSTN 1.2 section 6.3.13 */
    CDC_SERIAL_STATE = 0x20,          /* bNotification, PSTN 1.2 section 6.5.4 */
    CDC_NOTIFICATION_SIZE = 8,
    CDC_SERIAL_STATE_SIZE = 10,
};

/* Functional descriptors of an ACM interface, as far as they were found. */
struct usbip_cdc_functional_descriptors {
    bool has_header, has_call_management, has_acm, has_union;
    uint16_t bcdCDC;
    uint8_t call_management_bmCapabilities;
    uint8_t bDataInterface;
    uint8_t acm_bmCapabilities;
    uint8_t bControlInterface;
    uint8_t bSubordinateInterface0;
};

void usbip_cdc_encode_header(uint8_t out[CDC_HEADER_SIZE], uint16_t bcdCDC);
void usbip_cdc_encode_call_management(uint8_t out[CDC_CALL_MANAGEMENT_SIZE], uint8_t bmCapabilities,
                                      uint8_t bDataInterface);
void usbip_cdc_encode_acm(uint8_t out[CDC_ACM_SIZE], uint8_t bmCapabilities);
void usbip_cdc_encode_union(uint8_t out[CDC_UNION_SIZE], uint8_t bControlInterface,
                            uint8_t bSubordinateInterface0);

/*
 * Collects functional descriptors from the bytes that follow an interface descriptor (the extra of
 * a usbip_altsetting) into *found, which is cleared first. Other descriptors are skipped. Returns
 * 0, or -1 when a bLength is wrong; what was found before it stays set.
 */
int usbip_cdc_parse_functional_descriptors(const uint8_t *extra, size_t size,
                                           struct usbip_cdc_functional_descriptors *found);

void usbip_cdc_encode_line_coding(uint8_t out[CDC_LINE_CODING_SIZE],
                                  const struct usbip_line_coding *coding);
void usbip_cdc_decode_line_coding(const uint8_t in[CDC_LINE_CODING_SIZE],
                                  struct usbip_line_coding *coding);

/* SERIAL_STATE notification; state is a set of USBIP_MODEM_… (CTS does not exist here). */
void usbip_cdc_encode_serial_state(uint8_t out[CDC_SERIAL_STATE_SIZE], uint8_t bInterfaceNumber,
                                   unsigned state);
/* Returns the state, or -1 when the bytes are not a SERIAL_STATE notification. */
int usbip_cdc_decode_serial_state(const uint8_t *in, size_t size);

#endif
