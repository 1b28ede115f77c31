/*
 * USB/IP protocol data units: encode and decode.
 *
 * Source: Documentation/usb/usbip_protocol.rst of the Linux kernel, the sections named by message.
 * All integers are big-endian on the wire, but for the 8 bytes of `setup`, which are a raw USB
 * setup packet. Every function works on the caller's buffer, allocates nothing and keeps no state.
 */
#ifndef PROTOCOL_USBIP_H
#define PROTOCOL_USBIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USBIP_PORT 3240
#define USBIP_VERSION 0x0111

enum {
    OP_REQ_DEVLIST = 0x8005,
    OP_REP_DEVLIST = 0x0005,
    OP_REQ_IMPORT = 0x8003,
    OP_REP_IMPORT = 0x0003,
};

/* Status of an OP reply (usbip_common.h of the Linux tools; the document names only 0 and 1). */
enum usbip_op_status {
    USBIP_ST_OK = 0,
    USBIP_ST_NA = 1,
    USBIP_ST_DEV_BUSY = 2,
    USBIP_ST_DEV_ERR = 3,
    USBIP_ST_NODEV = 4,
    USBIP_ST_ERROR = 5,
};

enum usbip_command {
    USBIP_CMD_SUBMIT = 1,
    USBIP_CMD_UNLINK = 2,
    USBIP_RET_SUBMIT = 3,
    USBIP_RET_UNLINK = 4,
};

enum usbip_direction {
    USBIP_DIR_OUT = 0,
    USBIP_DIR_IN = 1,
};

enum usbip_speed {
    USBIP_SPEED_UNKNOWN = 0,
    USBIP_SPEED_LOW = 1,
    USBIP_SPEED_FULL = 2,
    USBIP_SPEED_HIGH = 3,
    USBIP_SPEED_WIRELESS = 4,
    USBIP_SPEED_SUPER = 5,
    USBIP_SPEED_SUPER_PLUS = 6,
};

/* transfer_flags of a CMD_SUBMIT (include/uapi/linux/usbip.h). */
enum {
    USBIP_URB_SHORT_NOT_OK = 0x0001,
    USBIP_URB_ISO_ASAP = 0x0002,
    USBIP_URB_NO_TRANSFER_DMA_MAP = 0x0004,
    USBIP_URB_ZERO_PACKET = 0x0040,
    USBIP_URB_NO_INTERRUPT = 0x0080,
    USBIP_URB_FREE_BUFFER = 0x0100,
    USBIP_URB_DIR_IN = 0x0200,
    USBIP_URB_DMA_MAP_SG = 0x00040000,
};

/*
 * errno values as they travel in `status`, negated there. They are Linux's numbers on every host
 * and must not be compared with the host's errno.h.
 */
enum usbip_errno {
    USBIP_ENOENT = 2,
    USBIP_EIO = 5,
    USBIP_ENOMEM = 12,
    USBIP_EXDEV = 18,
    USBIP_ENODEV = 19,
    USBIP_EINVAL = 22,
    USBIP_EPIPE = 32,
    USBIP_ETIME = 62,
    USBIP_EPROTO = 71,
    USBIP_EOVERFLOW = 75,
    USBIP_EILSEQ = 84,
    USBIP_ECONNRESET = 104,
    USBIP_ESHUTDOWN = 108,
    USBIP_ETIMEDOUT = 110,
    USBIP_EINPROGRESS = 115,
    USBIP_EREMOTEIO = 121,
};

enum {
    USBIP_OP_COMMON_SIZE = 8,
    USBIP_PATH_SIZE = 256,
    USBIP_BUSID_SIZE = 32,
    USBIP_DEVICE_RECORD_SIZE = 312,
    USBIP_INTERFACE_RECORD_SIZE = 4,
    USBIP_IMPORT_REQUEST_SIZE = USBIP_OP_COMMON_SIZE + USBIP_BUSID_SIZE,
    USBIP_IMPORT_REPLY_SIZE = USBIP_OP_COMMON_SIZE + USBIP_DEVICE_RECORD_SIZE,
    USBIP_DEVLIST_REPLY_HEADER_SIZE = USBIP_OP_COMMON_SIZE + 4,
    USBIP_HEADER_SIZE = 48,
    USBIP_SETUP_SIZE = 8,
    USBIP_ISO_PACKET_DESCRIPTOR_SIZE = 16,
    USBIP_MAX_ISO_PACKETS = 1024,
};

/* "OP_* common header": version, code, status. */
struct usbip_op_common {
    uint16_t version;
    uint16_t code;
    uint32_t status;
};

/*
 * One device of OP_REP_DEVLIST and the body of OP_REP_IMPORT. Strings are NUL-terminated here
 * whatever the peer sent: the last byte of each array is always 0.
 */
struct usbip_device_record {
    char path[USBIP_PATH_SIZE];
    char busid[USBIP_BUSID_SIZE];
    uint32_t busnum;
    uint32_t devnum;
    uint32_t speed; /* enum usbip_speed; unknown values are passed on */
    uint16_t idVendor;
    uint16_t idProduct;
    uint16_t bcdDevice;
    uint8_t bDeviceClass;
    uint8_t bDeviceSubClass;
    uint8_t bDeviceProtocol;
    uint8_t bConfigurationValue;
    uint8_t bNumConfigurations;
    uint8_t bNumInterfaces;
};

struct usbip_interface_record {
    uint8_t bInterfaceClass;
    uint8_t bInterfaceSubClass;
    uint8_t bInterfaceProtocol;
};

/* The 48-byte header of the URB phase: `usbip_header_basic` and the fields of each command. */
struct usbip_header {
    uint32_t command; /* enum usbip_command when decoded successfully */
    uint32_t seqnum;
    uint32_t devid;
    uint32_t direction;
    uint32_t ep;
    union {
        struct {
            uint32_t transfer_flags;
            uint32_t transfer_buffer_length; /* s32 in the document; hostile when > INT32_MAX */
            int32_t start_frame;
            int32_t number_of_packets;
            int32_t interval;
            uint8_t setup[USBIP_SETUP_SIZE];
        } cmd_submit;
        struct {
            int32_t status;
            uint32_t actual_length; /* s32 in the document; hostile when > INT32_MAX */
            int32_t start_frame;
            int32_t number_of_packets;
            int32_t error_count;
        } ret_submit;
        struct {
            uint32_t unlink_seqnum;
        } cmd_unlink;
        struct {
            int32_t status;
        } ret_unlink;
    };
};

struct usbip_iso_packet_descriptor {
    uint32_t offset;
    uint32_t length;
    uint32_t actual_length;
    uint32_t status;
};

/* devid of every PDU for an imported device: (busnum << 16) + devnum. */
static inline uint32_t usbip_devid(const struct usbip_device_record *record)
{
    return record->busnum << 16 | (record->devnum & 0xffff);
}

void usbip_encode_op_common(uint8_t out[USBIP_OP_COMMON_SIZE],
                            const struct usbip_op_common *common);
void usbip_decode_op_common(const uint8_t in[USBIP_OP_COMMON_SIZE], struct usbip_op_common *common);

/*
 * OP_REQ_IMPORT, header included. Returns 0, or -1 when busid does not fit its field
 * (at most USBIP_BUSID_SIZE - 1 bytes); then nothing is written.
 */
int usbip_encode_import_request(uint8_t out[USBIP_IMPORT_REQUEST_SIZE], const char *busid);

/* Copies the busid field that follows the header of OP_REQ_IMPORT, up to its first NUL. */
void usbip_decode_busid(const uint8_t in[USBIP_BUSID_SIZE], char busid[USBIP_BUSID_SIZE + 1]);

void usbip_encode_device_record(uint8_t out[USBIP_DEVICE_RECORD_SIZE],
                                const struct usbip_device_record *record);
void usbip_decode_device_record(const uint8_t in[USBIP_DEVICE_RECORD_SIZE],
                                struct usbip_device_record *record);

void usbip_encode_interface_record(uint8_t out[USBIP_INTERFACE_RECORD_SIZE],
                                   const struct usbip_interface_record *record);
void usbip_decode_interface_record(const uint8_t in[USBIP_INTERFACE_RECORD_SIZE],
                                   struct usbip_interface_record *record);

/* Writes the header of any of the four commands; reserved bytes become 0. */
void usbip_encode_header(uint8_t out[USBIP_HEADER_SIZE], const struct usbip_header *header);
/* The same for RET_SUBMIT in short; all other fields become 0. */
void usbip_encode_ret_submit(uint8_t out[USBIP_HEADER_SIZE], uint32_t seqnum, int32_t status,
                             uint32_t actual_length, int32_t number_of_packets);
/* Puts into a reply what servers leave 0, and some do not. */
void usbip_encode_target(uint8_t out[USBIP_HEADER_SIZE], uint32_t devid, uint32_t direction,
                         uint32_t ep);

/*
 * Reads a header. Returns 0, or -1 when the command is none of enum usbip_command; then only the
 * first five fields are set.
 */
int usbip_decode_header(const uint8_t in[USBIP_HEADER_SIZE], struct usbip_header *header);

void usbip_encode_iso_packet_descriptor(uint8_t out[USBIP_ISO_PACKET_DESCRIPTOR_SIZE],
                                        const struct usbip_iso_packet_descriptor *descriptor);
void usbip_decode_iso_packet_descriptor(const uint8_t in[USBIP_ISO_PACKET_DESCRIPTOR_SIZE],
                                        struct usbip_iso_packet_descriptor *descriptor);

/* Names for people. Each returns a constant string; an unknown value gives "unknown". */
const char *usbip_op_status_name(uint32_t status); /* "ST_DEV_BUSY" */
const char *usbip_op_status_text(uint32_t status); /* "device is attached to another client" */
const char *usbip_command_name(uint32_t command);  /* "CMD_SUBMIT" */
const char *usbip_speed_name(uint32_t speed);      /* "full" */

/* Name of a URB status, 0 or a negative wire errno: "OK", "EPIPE", …; the sign is ignored. */
const char *usbip_status_name(int32_t status);
/* What that status means for a USB transfer: "endpoint stalled". */
const char *usbip_status_text(int32_t status);

#endif
