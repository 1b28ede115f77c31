/*
 * USB chapter 9: setup packets, standard requests and descriptors.
 *
 * Source: Universal Serial Bus Specification 2.0, chapter 9; Interface Association Descriptor ECN.
 * Integers are little-endian on the wire. Functions work on the caller's buffers only.
 */
#ifndef PROTOCOL_USB_H
#define PROTOCOL_USB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/usbip.h"

/* bmRequestType, table 9-2. */
enum {
    USB_DIR_IN = 0x80,
    USB_TYPE_MASK = 0x60,
    USB_TYPE_STANDARD = 0x00,
    USB_TYPE_CLASS = 0x20,
    USB_TYPE_VENDOR = 0x40,
    USB_RECIP_MASK = 0x1f,
    USB_RECIP_DEVICE = 0x00,
    USB_RECIP_INTERFACE = 0x01,
    USB_RECIP_ENDPOINT = 0x02,
    USB_RECIP_OTHER = 0x03,
};

/* bRequest, table 9-4. */
enum {
    USB_REQ_GET_STATUS = 0,
    USB_REQ_CLEAR_FEATURE = 1,
    USB_REQ_SET_FEATURE = 3,
    USB_REQ_SET_ADDRESS = 5,
    USB_REQ_GET_DESCRIPTOR = 6,
    USB_REQ_SET_DESCRIPTOR = 7,
    USB_REQ_GET_CONFIGURATION = 8,
    USB_REQ_SET_CONFIGURATION = 9,
    USB_REQ_GET_INTERFACE = 10,
    USB_REQ_SET_INTERFACE = 11,
    USB_REQ_SYNCH_FRAME = 12,
};

/* Feature selectors, table 9-6. */
enum {
    USB_ENDPOINT_HALT = 0,
    USB_DEVICE_REMOTE_WAKEUP = 1,
    USB_TEST_MODE = 2,
};

/* bDescriptorType, table 9-5, the IAD ECN, USB 3 (BOS) and class-specific types. */
enum {
    USB_DT_DEVICE = 0x01,
    USB_DT_CONFIG = 0x02,
    USB_DT_STRING = 0x03,
    USB_DT_INTERFACE = 0x04,
    USB_DT_ENDPOINT = 0x05,
    USB_DT_DEVICE_QUALIFIER = 0x06,
    USB_DT_OTHER_SPEED_CONFIG = 0x07,
    USB_DT_INTERFACE_ASSOCIATION = 0x0b,
    USB_DT_BOS = 0x0f,
    USB_DT_CS_INTERFACE = 0x24,
};

enum {
    USB_DT_DEVICE_SIZE = 18,
    USB_DT_CONFIG_SIZE = 9,
    USB_DT_INTERFACE_SIZE = 9,
    USB_DT_ENDPOINT_SIZE = 7,
    USB_DT_DEVICE_QUALIFIER_SIZE = 10,
    USB_DT_INTERFACE_ASSOCIATION_SIZE = 8,
    USB_DT_STRING_MAX_SIZE = 255,
};

/* bmAttributes of an endpoint, table 9-13. */
enum {
    USB_ENDPOINT_XFERTYPE_MASK = 0x03,
    USB_ENDPOINT_XFER_CONTROL = 0,
    USB_ENDPOINT_XFER_ISOC = 1,
    USB_ENDPOINT_XFER_BULK = 2,
    USB_ENDPOINT_XFER_INT = 3,
};

enum { USB_ENDPOINT_MAXP_MASK = 0x07ff }; /* the size in wMaxPacketSize, table 9-13 */

/* bmAttributes of a configuration, table 9-10. */
enum {
    USB_CONFIG_ATT_ONE = 0x80,
    USB_CONFIG_ATT_SELFPOWER = 0x40,
    USB_CONFIG_ATT_WAKEUP = 0x20,
};

enum {
    USB_CLASS_PER_INTERFACE = 0x00,
    USB_CLASS_COMM = 0x02,
    USB_CLASS_CDC_DATA = 0x0a,
    USB_CLASS_MISC = 0xef,
    USB_CLASS_VENDOR_SPEC = 0xff,
};

enum { USB_LANGID_ENGLISH_US = 0x0409 };

struct usbip_setup {
    uint8_t bmRequestType;
    uint8_t bRequest;
    uint16_t wValue;
    uint16_t wIndex;
    uint16_t wLength;
};

struct usbip_device_descriptor {
    uint16_t bcdUSB;
    uint8_t bDeviceClass;
    uint8_t bDeviceSubClass;
    uint8_t bDeviceProtocol;
    uint8_t bMaxPacketSize0;
    uint16_t idVendor;
    uint16_t idProduct;
    uint16_t bcdDevice;
    uint8_t iManufacturer;
    uint8_t iProduct;
    uint8_t iSerialNumber;
    uint8_t bNumConfigurations;
};

struct usbip_qualifier_descriptor {
    uint16_t bcdUSB;
    uint8_t bDeviceClass;
    uint8_t bDeviceSubClass;
    uint8_t bDeviceProtocol;
    uint8_t bMaxPacketSize0;
    uint8_t bNumConfigurations;
};

struct usbip_config_descriptor {
    uint16_t wTotalLength;
    uint8_t bNumInterfaces;
    uint8_t bConfigurationValue;
    uint8_t iConfiguration;
    uint8_t bmAttributes;
    uint8_t bMaxPower; /* in 2 mA */
};

struct usbip_interface_descriptor {
    uint8_t bInterfaceNumber;
    uint8_t bAlternateSetting;
    uint8_t bNumEndpoints;
    uint8_t bInterfaceClass;
    uint8_t bInterfaceSubClass;
    uint8_t bInterfaceProtocol;
    uint8_t iInterface;
};

struct usbip_interface_association_descriptor {
    uint8_t bFirstInterface;
    uint8_t bInterfaceCount;
    uint8_t bFunctionClass;
    uint8_t bFunctionSubClass;
    uint8_t bFunctionProtocol;
    uint8_t iFunction;
};

struct usbip_endpoint_descriptor {
    uint8_t bEndpointAddress;
    uint8_t bmAttributes;
    uint16_t wMaxPacketSize;
    uint8_t bInterval;
};

/* Setup packets, section 9.3. */
void usbip_encode_setup(uint8_t out[USBIP_SETUP_SIZE], const struct usbip_setup *setup);
void usbip_decode_setup(const uint8_t in[USBIP_SETUP_SIZE], struct usbip_setup *setup);

/*
 * Direction of the data stage: bit 7 of bmRequestType, and OUT for every request without a data
 * stage (section 9.3.1).
 */
static inline enum usbip_direction usbip_setup_direction(const struct usbip_setup *setup)
{
    return (setup->bmRequestType & USB_DIR_IN) && setup->wLength > 0 ? USBIP_DIR_IN : USBIP_DIR_OUT;
}

/* Name of a standard request: "GET_DESCRIPTOR"; "unknown" for others. */
const char *usbip_standard_request_name(uint8_t bRequest);

/*
 * Descriptor encoders: write exactly the named number of bytes, bLength and bDescriptorType
 * included.
 */
void usbip_encode_device_descriptor(uint8_t out[USB_DT_DEVICE_SIZE],
                                    const struct usbip_device_descriptor *d);
void usbip_encode_qualifier_descriptor(uint8_t out[USB_DT_DEVICE_QUALIFIER_SIZE],
                                       const struct usbip_qualifier_descriptor *d);
void usbip_encode_config_descriptor(uint8_t out[USB_DT_CONFIG_SIZE],
                                    const struct usbip_config_descriptor *d);
void usbip_encode_interface_descriptor(uint8_t out[USB_DT_INTERFACE_SIZE],
                                       const struct usbip_interface_descriptor *d);
void usbip_encode_interface_association_descriptor(
    uint8_t out[USB_DT_INTERFACE_ASSOCIATION_SIZE],
    const struct usbip_interface_association_descriptor *d);
void usbip_encode_endpoint_descriptor(uint8_t out[USB_DT_ENDPOINT_SIZE],
                                      const struct usbip_endpoint_descriptor *d);

/*
 * Descriptor decoders. Each returns 0, or -1 when size or bLength is too small for the fields or
 * bDescriptorType is another. Bytes beyond the fields are ignored (endpoints of audio devices have
 * nine bytes).
 */
int usbip_decode_device_descriptor(const uint8_t *in, size_t size,
                                   struct usbip_device_descriptor *d);
int usbip_decode_qualifier_descriptor(const uint8_t *in, size_t size,
                                      struct usbip_qualifier_descriptor *d);
int usbip_decode_config_descriptor(const uint8_t *in, size_t size,
                                   struct usbip_config_descriptor *d);
int usbip_decode_interface_descriptor(const uint8_t *in, size_t size,
                                      struct usbip_interface_descriptor *d);
int usbip_decode_interface_association_descriptor(const uint8_t *in, size_t size,
                                                  struct usbip_interface_association_descriptor *d);
int usbip_decode_endpoint_descriptor(const uint8_t *in, size_t size,
                                     struct usbip_endpoint_descriptor *d);

/*
 * String descriptors, section 9.6.7: UTF-16LE on the wire, UTF-8 here.
 *
 * Encoding returns the number of bytes written (at most USB_DT_STRING_MAX_SIZE - 1: 126 UTF-16
 * units), or -1 when text is not valid UTF-8 or too long.
 * Decoding writes a NUL-terminated string and returns its length without the NUL, or -1 when the
 * descriptor is malformed or text_size too small. Unpaired surrogates become U+FFFD; the text ends
 * at a U+0000, which some devices pad with.
 */
int usbip_encode_string_descriptor(uint8_t out[USB_DT_STRING_MAX_SIZE], const char *text);
int usbip_decode_string_descriptor(const uint8_t *in, size_t size, char *text, size_t text_size);

/*
 * Walks over the descriptors of a configuration. *offset starts at 0 and is advanced. Returns the
 * bLength of the descriptor that *descriptor then points to, 0 at the end, or -1 when a bLength is
 * below 2 or reaches over the end.
 */
int usbip_next_descriptor(const uint8_t *bytes, size_t size, size_t *offset,
                          const uint8_t **descriptor);

#endif
