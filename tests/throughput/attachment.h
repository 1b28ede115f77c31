/* A connection to a server by which a device is imported and configured, ready for transfers. */
#ifndef TESTS_THROUGHPUT_ATTACHMENT_H
#define TESTS_THROUGHPUT_ATTACHMENT_H

#include <stdint.h>

#include "protocol/usb.h"
#include "protocol/usbip.h"

enum {
    ERROR_TEXT_SIZE = 512,
    ADDRESS_SIZE = 280,
    REPLY_TIMEOUT_MS = 10000,  /* how long a server may be silent while it owes a reply */
    IMPORT_RETRY_MS = 10000,   /* how long a device may still be taken by the client before */
    DEFAULT_BULK_PACKET = 512, /* of a device that does not tell */
};

struct attachment {
    int socket; /* blocking, with REPLY_TIMEOUT_MS; -1: none */
    uint32_t devid;
    uint32_t seqnum;             /* the last one that was used */
    uint8_t bConfigurationValue; /* at the import; 0: not configured */
    uint8_t device_descriptor[USB_DT_DEVICE_SIZE];
    uint8_t bulk_in, bulk_out; /* endpoint numbers; 0: there is none */
    uint16_t bulk_in_packet;   /* wMaxPacketSize */
};

/* "HOST", "HOST:PORT" or "[IPv6]:PORT". Returns a socket as above, or -1 and why. */
int connect_to(const char *address, char error_text[ERROR_TEXT_SIZE]);

/*
 * Imports the device, reads its descriptors, sets its configuration if it has none and, when it is
 * a serial device of class CDC, raises DTR and RTS. Returns 0, or -1 and why; then there is nothing
 * to detach.
 */
int attach(struct attachment *attachment, const char *address, const char *busid,
           char error_text[ERROR_TEXT_SIZE]);
void detach(struct attachment *attachment);

/* Why a read or a write on the socket failed, from errno; received: what read() returned. */
const char *socket_error(long received);

#endif
