/*
 * Linux usbmon: one record for the submission of a URB, one for its completion. libpcap has turned
 * the header into the order of this host.
 *
 * Source: Documentation/usb/usbmon.rst of the Linux kernel.
 */
#include <pcap/pcap.h>
#include <string.h>

#include "emulator/capture/capture_internal.h"

enum {
    SHORT_HEADER_SIZE = 48, /* DLT_USB_LINUX */
    LONG_HEADER_SIZE = 64,  /* DLT_USB_LINUX_MMAPPED */
    ISO_DESCRIPTOR_SIZE = 16,
};

/* Byte offsets of the header. */
enum {
    ID = 0,
    EVENT_TYPE = 8,
    TRANSFER_TYPE = 9,
    ENDPOINT = 10,
    ADDRESS = 11,
    BUS = 12,
    SETUP_FLAG = 14,
    DATA_FLAG = 15,
    STATUS = 28,
    URB_LENGTH = 32,
    DATA_LENGTH = 36,
    SETUP = 40,
    ISO_NUMDESC = 44, /* in the place of setup */
    NDESC = 60,       /* of the long header */
};

enum { LIBPCAP_PROBE_LENGTH = 40 };

static uint16_t load16(const uint8_t *bytes)
{
    uint16_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static uint32_t load32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static uint64_t load64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* QEMU counts the header as data, and gives control transfers the id 0. Elsewhere no URB has more
 * data than its length. */
static bool is_from_qemu(const struct capture_record *record, uint32_t header_size)
{
    uint32_t data_length = load32(record->bytes + DATA_LENGTH);
    return header_size == LONG_HEADER_SIZE && data_length == record->size &&
           data_length - header_size == load32(record->bytes + URB_LENGTH);
}

/* libpcap asks each device for its descriptor when it opens usbmon; recorders that write
 * descriptors themselves use an id that no URB of the kernel has. */
static bool is_injected(const uint8_t *header)
{
    const uint8_t *setup = header + SETUP;
    return load64(header + ID) == 0 ||
           (header[TRANSFER_TYPE] == 2 && header[SETUP_FLAG] == 0 && setup[0] == USB_DIR_IN &&
            setup[1] == USB_REQ_GET_DESCRIPTOR && setup[3] == USB_DT_DEVICE &&
            setup[6] == LIBPCAP_PROBE_LENGTH && setup[7] == 0);
}

/* The data behind the header and the descriptors of isochronous packets. */
static void find_data(const struct capture_record *record, uint32_t header_size,
                      struct capture_urb *urb)
{
    const uint8_t *header = record->bytes;
    uint32_t data_length = load32(header + DATA_LENGTH);
    if (is_from_qemu(record, header_size))
        data_length -= header_size;
    uint32_t there = smaller(record->size - header_size, data_length);
    uint32_t descriptors = 0;
    if (urb->type == USB_ENDPOINT_XFER_ISOC) {
        uint32_t count = load32(header + (header_size == LONG_HEADER_SIZE ? NDESC : ISO_NUMDESC));
        descriptors = smaller(count, data_length / ISO_DESCRIPTOR_SIZE) * ISO_DESCRIPTOR_SIZE;
        urb->wanted = data_length - descriptors;
        /* What the packets hold is less than the URB's length, and lies apart. */
        descriptors = smaller(descriptors, there);
    } else {
        /* Some recorders leave the URB's length 0. */
        urb->wanted = urb->length = urb->length < data_length ? data_length : urb->length;
    }
    urb->data = header + header_size + descriptors;
    urb->size = there - descriptors;
}

static int read_record(struct capture_builder *builder, const struct capture_record *record,
                       uint32_t header_size)
{
    static const uint8_t types[] = {USB_ENDPOINT_XFER_ISOC, USB_ENDPOINT_XFER_INT,
                                    USB_ENDPOINT_XFER_CONTROL, USB_ENDPOINT_XFER_BULK};
    const uint8_t *header = record->bytes;
    if (record->size < header_size)
        return capture_record_too_short(builder, record, "usbmon header", header_size);
    if (header[TRANSFER_TYPE] >= sizeof types || !strchr("SCE", header[EVENT_TYPE]) ||
        header[EVENT_TYPE] == 0)
        return capture_fail(builder, record->number,
                            "is no usbmon record (type 0x%02x, transfer type %u): the file is "
                            "damaged or its link type wrong",
                            header[EVENT_TYPE], header[TRANSFER_TYPE]);
    struct capture_urb urb = {
        .id = load64(header + ID),
        .device = capture_device(builder, load16(header + BUS), header[ADDRESS]),
        .endpoint = header[ENDPOINT] & (USB_DIR_IN | 0x0f),
        .type = types[header[TRANSFER_TYPE]],
        .length = load32(header + URB_LENGTH),
    };
    if (urb.device == CAPTURE_NONE)
        return -1;
    bool is_submission = header[EVENT_TYPE] == 'S';
    find_data(record, header_size, &urb);
    uint32_t transfer;
    if (is_submission) {
        if (urb.type == USB_ENDPOINT_XFER_CONTROL && header[SETUP_FLAG] == 0)
            urb.setup = header + SETUP;
        if (is_injected(header) && !is_from_qemu(record, header_size))
            urb.flags |= USBIP_TRANSFER_INJECTED;
        /* The length that sigrok leaves 0 is unknown. */
        if (urb.length > 0)
            urb.flags |= USBIP_TRANSFER_REQUESTED_KNOWN;
        transfer = capture_submit(builder, record, &urb);
    } else {
        urb.status = (int32_t)load32(header + STATUS);
        if (header[EVENT_TYPE] == 'E') {
            urb.flags |= USBIP_TRANSFER_REFUSED;
            urb.wanted = urb.length = urb.size = 0;
        }
        transfer = capture_complete(builder, record, &urb);
    }
    return transfer == CAPTURE_NONE ? -1 : 0;
}

static int read_short(struct capture_builder *builder, void *state,
                      const struct capture_record *record)
{
    (void)state;
    return read_record(builder, record, SHORT_HEADER_SIZE);
}

static int read_long(struct capture_builder *builder, void *state,
                     const struct capture_record *record)
{
    (void)state;
    return read_record(builder, record, LONG_HEADER_SIZE);
}

const struct capture_format capture_formats_usbmon[2] = {
    {.link_type = DLT_USB_LINUX, .name = "USB_LINUX", .read = read_short},
    {.link_type = DLT_USB_LINUX_MMAPPED, .name = "USB_LINUX_MMAPPED", .read = read_long},
};
