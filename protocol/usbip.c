#include "protocol/usbip.h"

#include <string.h>

#include "protocol/bytes.h"

/* Offsets in the device record, OP_REP_DEVLIST. */
enum {
    RECORD_PATH = 0x000,
    RECORD_BUSID = 0x100,
    RECORD_BUSNUM = 0x120,
    RECORD_DEVNUM = 0x124,
    RECORD_SPEED = 0x128,
    RECORD_ID_VENDOR = 0x12c,
    RECORD_ID_PRODUCT = 0x12e,
    RECORD_BCD_DEVICE = 0x130,
    RECORD_DEVICE_CLASS = 0x132,
    RECORD_DEVICE_SUBCLASS = 0x133,
    RECORD_DEVICE_PROTOCOL = 0x134,
    RECORD_CONFIGURATION_VALUE = 0x135,
    RECORD_NUM_CONFIGURATIONS = 0x136,
    RECORD_NUM_INTERFACES = 0x137,
};

/* Offsets in the header of the URB phase; behind HEADER_BODY every command has its own fields. */
enum {
    HEADER_COMMAND = 0x00,
    HEADER_SEQNUM = 0x04,
    HEADER_DEVID = 0x08,
    HEADER_DIRECTION = 0x0c,
    HEADER_EP = 0x10,
    HEADER_BODY = 0x14,
    SUBMIT_TRANSFER_FLAGS = 0x14,
    SUBMIT_TRANSFER_BUFFER_LENGTH = 0x18,
    SUBMIT_START_FRAME = 0x1c,
    SUBMIT_NUMBER_OF_PACKETS = 0x20,
    SUBMIT_INTERVAL = 0x24,
    SUBMIT_SETUP = 0x28,
    RETURN_STATUS = 0x14,
    RETURN_ACTUAL_LENGTH = 0x18,
    RETURN_START_FRAME = 0x1c,
    RETURN_NUMBER_OF_PACKETS = 0x20,
    RETURN_ERROR_COUNT = 0x24,
    UNLINK_SEQNUM = 0x14,
};

/*
 * Copies at most size - 1 characters and fills the rest with zeros, so that nothing behind the
 * first NUL of either side gets to the other.
 */
static void copy_text(char *to, const char *from, size_t size)
{
    const char *end = memchr(from, '\0', size - 1);
    size_t length = end ? (size_t)(end - from) : size - 1;

    memcpy(to, from, length);
    memset(to + length, 0, size - length);
}

static int32_t load_be_signed(const uint8_t *bytes)
{
    return (int32_t)usbip_load_be32(bytes);
}

static void store_be_signed(uint8_t *bytes, int32_t value)
{
    usbip_store_be32(bytes, (uint32_t)value);
}

void usbip_encode_op_common(uint8_t out[USBIP_OP_COMMON_SIZE], const struct usbip_op_common *common)
{
    usbip_store_be16(out, common->version);
    usbip_store_be16(out + 2, common->code);
    usbip_store_be32(out + 4, common->status);
}

void usbip_decode_op_common(const uint8_t in[USBIP_OP_COMMON_SIZE], struct usbip_op_common *common)
{
    common->version = usbip_load_be16(in);
    common->code = usbip_load_be16(in + 2);
    common->status = usbip_load_be32(in + 4);
}

int usbip_encode_import_request(uint8_t out[USBIP_IMPORT_REQUEST_SIZE], const char *busid)
{
    const struct usbip_op_common common = {.version = USBIP_VERSION, .code = OP_REQ_IMPORT};

    if (strlen(busid) >= USBIP_BUSID_SIZE)
        return -1;
    usbip_encode_op_common(out, &common);
    copy_text((char *)out + USBIP_OP_COMMON_SIZE, busid, USBIP_BUSID_SIZE);
    return 0;
}

void usbip_decode_busid(const uint8_t in[USBIP_BUSID_SIZE], char busid[USBIP_BUSID_SIZE + 1])
{
    copy_text(busid, (const char *)in, USBIP_BUSID_SIZE + 1);
}

void usbip_encode_device_record(uint8_t out[USBIP_DEVICE_RECORD_SIZE],
                                const struct usbip_device_record *record)
{
    copy_text((char *)out + RECORD_PATH, record->path, USBIP_PATH_SIZE);
    copy_text((char *)out + RECORD_BUSID, record->busid, USBIP_BUSID_SIZE);
    usbip_store_be32(out + RECORD_BUSNUM, record->busnum);
    usbip_store_be32(out + RECORD_DEVNUM, record->devnum);
    usbip_store_be32(out + RECORD_SPEED, record->speed);
    usbip_store_be16(out + RECORD_ID_VENDOR, record->idVendor);
    usbip_store_be16(out + RECORD_ID_PRODUCT, record->idProduct);
    usbip_store_be16(out + RECORD_BCD_DEVICE, record->bcdDevice);
    out[RECORD_DEVICE_CLASS] = record->bDeviceClass;
    out[RECORD_DEVICE_SUBCLASS] = record->bDeviceSubClass;
    out[RECORD_DEVICE_PROTOCOL] = record->bDeviceProtocol;
    out[RECORD_CONFIGURATION_VALUE] = record->bConfigurationValue;
    out[RECORD_NUM_CONFIGURATIONS] = record->bNumConfigurations;
    out[RECORD_NUM_INTERFACES] = record->bNumInterfaces;
}

void usbip_decode_device_record(const uint8_t in[USBIP_DEVICE_RECORD_SIZE],
                                struct usbip_device_record *record)
{
    copy_text(record->path, (const char *)in + RECORD_PATH, USBIP_PATH_SIZE);
    copy_text(record->busid, (const char *)in + RECORD_BUSID, USBIP_BUSID_SIZE);
    record->busnum = usbip_load_be32(in + RECORD_BUSNUM);
    record->devnum = usbip_load_be32(in + RECORD_DEVNUM);
    record->speed = usbip_load_be32(in + RECORD_SPEED);
    record->idVendor = usbip_load_be16(in + RECORD_ID_VENDOR);
    record->idProduct = usbip_load_be16(in + RECORD_ID_PRODUCT);
    record->bcdDevice = usbip_load_be16(in + RECORD_BCD_DEVICE);
    record->bDeviceClass = in[RECORD_DEVICE_CLASS];
    record->bDeviceSubClass = in[RECORD_DEVICE_SUBCLASS];
    record->bDeviceProtocol = in[RECORD_DEVICE_PROTOCOL];
    record->bConfigurationValue = in[RECORD_CONFIGURATION_VALUE];
    record->bNumConfigurations = in[RECORD_NUM_CONFIGURATIONS];
    record->bNumInterfaces = in[RECORD_NUM_INTERFACES];
}

void usbip_encode_interface_record(uint8_t out[USBIP_INTERFACE_RECORD_SIZE],
                                   const struct usbip_interface_record *record)
{
    out[0] = record->bInterfaceClass;
    out[1] = record->bInterfaceSubClass;
    out[2] = record->bInterfaceProtocol;
    out[3] = 0;
}

void usbip_decode_interface_record(const uint8_t in[USBIP_INTERFACE_RECORD_SIZE],
                                   struct usbip_interface_record *record)
{
    record->bInterfaceClass = in[0];
    record->bInterfaceSubClass = in[1];
    record->bInterfaceProtocol = in[2];
}

void usbip_encode_header(uint8_t out[USBIP_HEADER_SIZE], const struct usbip_header *header)
{
    usbip_store_be32(out + HEADER_COMMAND, header->command);
    usbip_store_be32(out + HEADER_SEQNUM, header->seqnum);
    usbip_store_be32(out + HEADER_DEVID, header->devid);
    usbip_store_be32(out + HEADER_DIRECTION, header->direction);
    usbip_store_be32(out + HEADER_EP, header->ep);
    memset(out + HEADER_BODY, 0, USBIP_HEADER_SIZE - HEADER_BODY);

    switch (header->command) {
    case USBIP_CMD_SUBMIT:
        usbip_store_be32(out + SUBMIT_TRANSFER_FLAGS, header->cmd_submit.transfer_flags);
        usbip_store_be32(out + SUBMIT_TRANSFER_BUFFER_LENGTH,
                         header->cmd_submit.transfer_buffer_length);
        store_be_signed(out + SUBMIT_START_FRAME, header->cmd_submit.start_frame);
        store_be_signed(out + SUBMIT_NUMBER_OF_PACKETS, header->cmd_submit.number_of_packets);
        store_be_signed(out + SUBMIT_INTERVAL, header->cmd_submit.interval);
        memcpy(out + SUBMIT_SETUP, header->cmd_submit.setup, USBIP_SETUP_SIZE);
        break;
    case USBIP_CMD_UNLINK:
        usbip_store_be32(out + UNLINK_SEQNUM, header->cmd_unlink.unlink_seqnum);
        break;
    case USBIP_RET_SUBMIT:
        store_be_signed(out + RETURN_STATUS, header->ret_submit.status);
        usbip_store_be32(out + RETURN_ACTUAL_LENGTH, header->ret_submit.actual_length);
        store_be_signed(out + RETURN_START_FRAME, header->ret_submit.start_frame);
        store_be_signed(out + RETURN_NUMBER_OF_PACKETS, header->ret_submit.number_of_packets);
        store_be_signed(out + RETURN_ERROR_COUNT, header->ret_submit.error_count);
        break;
    case USBIP_RET_UNLINK:
        store_be_signed(out + RETURN_STATUS, header->ret_unlink.status);
        break;
    }
}

void usbip_encode_ret_submit(uint8_t out[USBIP_HEADER_SIZE], uint32_t seqnum, int32_t status,
                             uint32_t actual_length, int32_t number_of_packets)
{
    memset(out, 0, USBIP_HEADER_SIZE);
    usbip_store_be32(out + HEADER_COMMAND, USBIP_RET_SUBMIT);
    usbip_store_be32(out + HEADER_SEQNUM, seqnum);
    store_be_signed(out + RETURN_STATUS, status);
    usbip_store_be32(out + RETURN_ACTUAL_LENGTH, actual_length);
    store_be_signed(out + RETURN_NUMBER_OF_PACKETS, number_of_packets);
}

void usbip_encode_target(uint8_t out[USBIP_HEADER_SIZE], uint32_t devid, uint32_t direction,
                         uint32_t ep)
{
    usbip_store_be32(out + HEADER_DEVID, devid);
    usbip_store_be32(out + HEADER_DIRECTION, direction);
    usbip_store_be32(out + HEADER_EP, ep);
}

int usbip_decode_header(const uint8_t in[USBIP_HEADER_SIZE], struct usbip_header *header)
{
    header->command = usbip_load_be32(in + HEADER_COMMAND);
    header->seqnum = usbip_load_be32(in + HEADER_SEQNUM);
    header->devid = usbip_load_be32(in + HEADER_DEVID);
    header->direction = usbip_load_be32(in + HEADER_DIRECTION);
    header->ep = usbip_load_be32(in + HEADER_EP);

    switch (header->command) {
    case USBIP_CMD_SUBMIT:
        header->cmd_submit.transfer_flags = usbip_load_be32(in + SUBMIT_TRANSFER_FLAGS);
        header->cmd_submit.transfer_buffer_length =
            usbip_load_be32(in + SUBMIT_TRANSFER_BUFFER_LENGTH);
        header->cmd_submit.start_frame = load_be_signed(in + SUBMIT_START_FRAME);
        header->cmd_submit.number_of_packets = load_be_signed(in + SUBMIT_NUMBER_OF_PACKETS);
        header->cmd_submit.interval = load_be_signed(in + SUBMIT_INTERVAL);
        memcpy(header->cmd_submit.setup, in + SUBMIT_SETUP, USBIP_SETUP_SIZE);
        return 0;
    case USBIP_CMD_UNLINK:
        header->cmd_unlink.unlink_seqnum = usbip_load_be32(in + UNLINK_SEQNUM);
        return 0;
    case USBIP_RET_SUBMIT:
        header->ret_submit.status = load_be_signed(in + RETURN_STATUS);
        header->ret_submit.actual_length = usbip_load_be32(in + RETURN_ACTUAL_LENGTH);
        header->ret_submit.start_frame = load_be_signed(in + RETURN_START_FRAME);
        header->ret_submit.number_of_packets = load_be_signed(in + RETURN_NUMBER_OF_PACKETS);
        header->ret_submit.error_count = load_be_signed(in + RETURN_ERROR_COUNT);
        return 0;
    case USBIP_RET_UNLINK:
        header->ret_unlink.status = load_be_signed(in + RETURN_STATUS);
        return 0;
    default:
        return -1;
    }
}

void usbip_encode_iso_packet_descriptor(uint8_t out[USBIP_ISO_PACKET_DESCRIPTOR_SIZE],
                                        const struct usbip_iso_packet_descriptor *descriptor)
{
    usbip_store_be32(out, descriptor->offset);
    usbip_store_be32(out + 4, descriptor->length);
    usbip_store_be32(out + 8, descriptor->actual_length);
    usbip_store_be32(out + 12, descriptor->status);
}

void usbip_decode_iso_packet_descriptor(const uint8_t in[USBIP_ISO_PACKET_DESCRIPTOR_SIZE],
                                        struct usbip_iso_packet_descriptor *descriptor)
{
    descriptor->offset = usbip_load_be32(in);
    descriptor->length = usbip_load_be32(in + 4);
    descriptor->actual_length = usbip_load_be32(in + 8);
    descriptor->status = usbip_load_be32(in + 12);
}
