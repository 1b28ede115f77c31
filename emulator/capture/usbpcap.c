/*
 * USBPcap of Windows: one record for a request on its way down, one for its completion; a control
 * transfer has two records (since USBPcap 1.5) or a record for each of its stages. Little-endian.
 */
#include <pcap/pcap.h>

#include "emulator/capture/capture_internal.h"
#include "protocol/bytes.h"

/* Byte offsets of the header. */
enum {
    HEADER_LENGTH = 0,
    IRP_ID = 2,
    STATUS = 10,
    INFO = 16,
    BUS = 17,
    DEVICE = 19,
    ENDPOINT = 21,
    TRANSFER = 22,
    DATA_LENGTH = 23,
    HEADER_SIZE = 27,
    STAGE = 27, /* control only */
    CONTROL_HEADER_SIZE = 28,
};

enum { INFO_COMPLETION = 0x01 };

enum { TRANSFER_ISOCHRONOUS = 0, TRANSFER_INTERRUPT, TRANSFER_CONTROL, TRANSFER_BULK };

enum { STAGE_SETUP = 0, STAGE_DATA = 1, STAGE_STATUS = 2, STAGE_COMPLETE = 3 };

/* USBD_STATUS of usb.h. */
static int32_t urb_status(uint32_t status)
{
    switch (status) {
    case 0x00000000:
        return 0;
    case 0xc0000001: /* USBD_STATUS_CRC */
    case 0xc0000003: /* USBD_STATUS_DATA_TOGGLE_MISMATCH */
        return -USBIP_EILSEQ;
    case 0xc0000002: /* USBD_STATUS_BTSTUFF */
    case 0xc0000006: /* USBD_STATUS_PID_CHECK_FAILURE */
    case 0xc0000007: /* USBD_STATUS_UNEXPECTED_PID */
    case 0xc0000011: /* USBD_STATUS_XACT_ERROR */
        return -USBIP_EPROTO;
    case 0xc0000004: /* USBD_STATUS_STALL_PID */
    case 0xc0000030: /* USBD_STATUS_ENDPOINT_HALTED */
        return -USBIP_EPIPE;
    case 0xc0000005: /* USBD_STATUS_DEV_NOT_RESPONDING */
        return -USBIP_ETIME;
    case 0xc0000008: /* USBD_STATUS_DATA_OVERRUN */
    case 0xc000000c: /* USBD_STATUS_BUFFER_OVERRUN */
    case 0xc0000012: /* USBD_STATUS_BABBLE_DETECTED */
        return -USBIP_EOVERFLOW;
    case 0xc0000009: /* USBD_STATUS_DATA_UNDERRUN */
        return -USBIP_EREMOTEIO;
    case 0xc0007000: /* USBD_STATUS_DEVICE_GONE */
        return -USBIP_ESHUTDOWN;
    case 0xc0010000: /* USBD_STATUS_CANCELED */
        return -USBIP_ECONNRESET;
    default:
        /* Mostly the host's own: no bandwidth, a parameter that it does not know. */
        return status & 0x80000000 ? -USBIP_EIO : 0;
    }
}

static int read_control(struct capture_builder *builder, const struct capture_record *record,
                        struct capture_urb *urb)
{
    uint8_t stage = record->bytes[STAGE];
    bool is_completion = record->bytes[INFO] & INFO_COMPLETION;
    if (stage == STAGE_SETUP && !is_completion) {
        if (urb->size < USBIP_SETUP_SIZE)
            return capture_record_too_short(builder, record, "setup packet",
                                            CONTROL_HEADER_SIZE + USBIP_SETUP_SIZE);
        urb->setup = urb->data;
        urb->data += USBIP_SETUP_SIZE;
        urb->size -= USBIP_SETUP_SIZE;
        urb->wanted -= USBIP_SETUP_SIZE;
        return capture_submit(builder, record, urb) == CAPTURE_NONE ? -1 : 0;
    }
    uint32_t transfer = capture_find_pending(builder, urb);
    if (stage == STAGE_DATA) {
        /* Whichever way the data go: the record does not say. */
        return transfer == CAPTURE_NONE ? 0 : capture_set_data(builder, record, transfer, urb);
    }
    if (transfer != CAPTURE_NONE && urb->size == 0)
        urb->length = builder->capture->transfers[transfer].size;
    return capture_complete(builder, record, urb) == CAPTURE_NONE ? -1 : 0;
}

static int read_record(struct capture_builder *builder, void *state,
                       const struct capture_record *record)
{
    static const uint8_t types[] = {USB_ENDPOINT_XFER_ISOC, USB_ENDPOINT_XFER_INT,
                                    USB_ENDPOINT_XFER_CONTROL, USB_ENDPOINT_XFER_BULK};
    const uint8_t *header = record->bytes;
    (void)state;
    if (record->size < HEADER_SIZE)
        return capture_record_too_short(builder, record, "USBPcap header", HEADER_SIZE);
    uint32_t header_size = usbip_load_le16(header + HEADER_LENGTH);
    uint32_t smallest = header[TRANSFER] == TRANSFER_CONTROL ? CONTROL_HEADER_SIZE : HEADER_SIZE;
    if (header_size < smallest)
        return capture_fail(builder, record->number,
                            "its USBPcap header says that it has %u bytes, fewer than the %u that "
                            "it must have: the file is damaged or its link type wrong",
                            header_size, smallest);
    if (record->size < header_size)
        return capture_record_too_short(builder, record, "USBPcap header", header_size);
    if (header[TRANSFER] >= sizeof types) {
        /* Aborted or reset pipes, and what else is no transfer. */
        builder->capture->skipped_records++;
        return 0;
    }
    uint32_t data_length = usbip_load_le32(header + DATA_LENGTH),
             there = record->size - header_size;
    struct capture_urb urb = {
        .id = usbip_load_le32(header + IRP_ID) | (uint64_t)usbip_load_le32(header + IRP_ID + 4)
                                                     << 32,
        .device = capture_device(builder, usbip_load_le16(header + BUS),
                                 usbip_load_le16(header + DEVICE)),
        .endpoint = header[ENDPOINT] & (USB_DIR_IN | 0x0f),
        .type = types[header[TRANSFER]],
        .length = data_length,
        .data = header + header_size,
        .size = there < data_length ? there : data_length,
        .wanted = data_length,
    };
    if (urb.device == CAPTURE_NONE)
        return -1;
    bool is_completion = header[INFO] & INFO_COMPLETION;
    /* USBPcap writes the descriptors of what is there already under the id 0. */
    if (urb.id == 0 && !is_completion)
        urb.flags |= USBIP_TRANSFER_INJECTED;
    if (is_completion)
        urb.status = urb_status(usbip_load_le32(header + STATUS));
    if (urb.type == USB_ENDPOINT_XFER_CONTROL)
        return read_control(builder, record, &urb);
    /* The length that an IN request asks for is not recorded. */
    if (!is_completion && !(urb.endpoint & USB_DIR_IN))
        urb.flags |= USBIP_TRANSFER_REQUESTED_KNOWN;
    uint32_t transfer = CAPTURE_NONE;
    if (is_completion) {
        /* Nor are the bytes that an OUT transfer took. */
        transfer = capture_find_pending(builder, &urb);
        if (transfer != CAPTURE_NONE && !(urb.endpoint & USB_DIR_IN) && urb.status == 0)
            urb.length = builder->capture->transfers[transfer].size;
        transfer = capture_complete(builder, record, &urb);
    } else {
        transfer = capture_submit(builder, record, &urb);
    }
    return transfer == CAPTURE_NONE ? -1 : 0;
}

const struct capture_format capture_format_usbpcap = {
    .link_type = DLT_USBPCAP,
    .name = "USBPCAP",
    .read = read_record,
};
