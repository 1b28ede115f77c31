/*
 * A capture of USB traffic as a model: the devices in it and their transfers in order, whatever
 * format the file has (docs/captures.md lists them). `inspect` prints it, a replay plays it.
 *
 * The model is made for playing devices again:
 *   - transfers[] is sorted by the first event of each transfer. submit_order and complete_order
 *     number the events of the whole capture, so that `in->complete_order > out->submit_order` says
 *     that the host had submitted `out` before the device completed `in`.
 *   - What the host did alone (unlinked, refused or injected transfers) has flags of its own.
 *   - Devices are kept apart: each transfer names its device, usbip_capture_select() chooses one.
 */
#ifndef EMULATOR_CAPTURE_CAPTURE_H
#define EMULATOR_CAPTURE_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/usb.h"

enum {
    USBIP_CAPTURE_ERROR_SIZE = 512,
    USBIP_CAPTURE_MAX_DEVICES = 1024,
    USBIP_CAPTURE_MAX_RECORDS = 500 * 1000 * 1000,
    USBIP_CAPTURE_MAX_DESCRIPTORS = 256, /* of a device: strings and all */
    USBIP_CAPTURE_ENDPOINTS = 32,        /* of a device: 16 numbers, two directions */
};

/* transfer->flags */
enum {
    USBIP_TRANSFER_HAS_SETUP = 0x01,
    /* requested_length is what the host asked for; without, it is only what it got. */
    USBIP_TRANSFER_REQUESTED_KNOWN = 0x02,
    /* The host took it back (killed, unlinked, device gone): its end says nothing of the device. */
    USBIP_TRANSFER_UNLINKED = 0x04,
    /* The host's own stack refused it: it never reached the device. */
    USBIP_TRANSFER_REFUSED = 0x08,
    /* Written by the recorder at its start, not by the software that was recorded. */
    USBIP_TRANSFER_INJECTED = 0x10,
    /* Data are missing: the recorder kept only the first bytes. Then usbip_capture_select() fails
     * for the device, unless the transfer is isochronous. */
    USBIP_TRANSFER_TRUNCATED = 0x20,
};

/* One transfer. 0 in a record number: that end of the transfer is not in the file (an orphan). */
struct usbip_capture_transfer {
    uint64_t submit_ns, complete_ns; /* since 1970 */
    /* What the host sent or the device answered; which, usbip_transfer_is_in() says. NULL when
     * size is 0. Without the packets' table when isochronous. */
    const uint8_t *data;
    uint32_t size;
    uint32_t submit_record, complete_record; /* as Wireshark counts, from 1 */
    uint32_t submit_order, complete_order;   /* from 1, over all devices; 0 for what is missing */
    uint32_t requested_length;               /* transfer_buffer_length */
    uint32_t actual_length;                  /* as the completion says */
    int32_t status;                          /* of the completion: 0 or -USBIP_E… */
    uint8_t setup[USBIP_SETUP_SIZE];         /* with USBIP_TRANSFER_HAS_SETUP */
    uint16_t device;                         /* index into devices[] */
    uint8_t endpoint; /* bEndpointAddress; of a control transfer bit 7 is the data stage's */
    uint8_t type;     /* USB_ENDPOINT_XFER_… */
    uint8_t flags;
};

/* The longest answer to GET_DESCRIPTOR that the file has; of equal ones, not an injected one. */
struct usbip_capture_descriptor {
    uint8_t type, index;
    uint16_t language;
    bool injected;
    uint32_t record;
    const uint8_t *data;
    uint32_t size;
};

/* Counts of one endpoint; control transfers are all under address 0. */
struct usbip_capture_endpoint {
    uint8_t address, type;
    uint32_t transfers, stalls, failed, unlinked; /* failed: other errors of the device's */
    uint32_t longest;                             /* bytes of one transfer */
    uint64_t bytes;
};

struct usbip_capture_device {
    uint16_t bus, address;        /* BUS.DEV; in USB/IP the halves of devid */
    char busid[USBIP_BUSID_SIZE]; /* from OP_REP_IMPORT, or "" */
    enum usbip_speed speed;       /* USBIP_SPEED_UNKNOWN: the file does not say */

    /* From the device descriptor, else from OP_REP_IMPORT. */
    bool has_ids;
    uint16_t idVendor, idProduct, bcdDevice;
    uint8_t bDeviceClass, bDeviceSubClass, bDeviceProtocol;
    uint8_t configuration_value; /* of the last SET_CONFIGURATION; 0: none was seen */

    struct usbip_capture_descriptor *descriptors;
    unsigned descriptor_count;
    struct usbip_capture_endpoint endpoints[USBIP_CAPTURE_ENDPOINTS]; /* sorted by address */
    unsigned endpoint_count;

    uint32_t transfer_count, stalls, failed, unlinked, refused, injected;
    uint32_t without_submit, without_completion;
    uint32_t first_without_submit, first_without_completion; /* record numbers; 0: none */
    uint32_t truncated_record;                               /* the first; 0: none */
    uint32_t truncated_size, truncated_wanted;               /* bytes that it has and should have */
    uint64_t lost_bytes;           /* of TCP streams: never captured, or not understood */
    uint64_t first_ns, last_ns;    /* of its events */
    const struct usbip_chip *chip; /* chip.h; NULL when it is none that we know */
};

struct usbip_capture {
    char *path;
    const char *format;    /* "pcap", "pcapng" */
    const char *link_type; /* "USB_LINUX_MMAPPED", … */
    bool compressed;
    uint32_t record_count;    /* that were read */
    uint32_t skipped_records; /* of them: belong to no transfer, also damaged packets of a bus */
    uint32_t other_records;   /* of interfaces with other link types, left out */
    uint64_t first_ns, last_ns;
    struct usbip_capture_transfer *transfers;
    uint32_t transfer_count;
    struct usbip_capture_device *devices;
    unsigned device_count;
    struct capture_arena *arena; /* where data lie */
};

/*
 * Reads a whole file. Returns NULL and, in error_text, one line with the file's name, the number of
 * the record where there is one, what is wrong and what to do about it. Data that a recorder cut
 * off are no error here, but in usbip_capture_select().
 */
struct usbip_capture *usbip_capture_load(const char *path,
                                         char error_text[USBIP_CAPTURE_ERROR_SIZE]);
/* NULL is allowed. */
void usbip_capture_free(struct usbip_capture *capture);

/* Why usbip_capture_select() took a device: "the only device", "the busiest of 3 serial devices".
 */
enum { USBIP_CAPTURE_REASON_SIZE = 64 };

/*
 * The device to look at: what `wish` says, BUS.DEV in decimal ("1.9") or VID:PID in hexadecimal
 * ("0403:6001"). Of several that fit, or all without a wish (NULL), it is the busiest serial one,
 * else the busiest that is no hub. Returns its index and why in reason, or -1 and error_text: no
 * such device, or data of it are missing.
 */
int usbip_capture_select(const struct usbip_capture *capture, const char *wish,
                         char reason[USBIP_CAPTURE_REASON_SIZE],
                         char error_text[USBIP_CAPTURE_ERROR_SIZE]);
/* Whether text has the form of a wish, and what to say of one that has not. */
bool usbip_capture_is_wish(const char *text);
#define USBIP_CAPTURE_NO_WISH "%s: neither BUS.DEV in decimal nor VID:PID in hexadecimal"

/* Direction of the data; for control that of the data stage, OUT when there is none. */
static inline bool usbip_transfer_is_in(const struct usbip_capture_transfer *transfer)
{
    return transfer->endpoint & USB_DIR_IN;
}

/* The answer to GET_DESCRIPTOR in the file, or NULL. Any language fits when it is 0. */
const struct usbip_capture_descriptor *
usbip_capture_find_descriptor(const struct usbip_capture_device *device, uint8_t type,
                              uint8_t index, uint16_t language);

#endif
