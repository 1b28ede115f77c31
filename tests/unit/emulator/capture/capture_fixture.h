/* Writes captures record by record, and loads them. */
#ifndef TESTS_UNIT_EMULATOR_CAPTURE_CAPTURE_FIXTURE_H
#define TESTS_UNIT_EMULATOR_CAPTURE_CAPTURE_FIXTURE_H

#include "emulator/capture/capture.h"
#include "emulator/capture/description.h"
#include "protocol/buffer.h"
#include "tests/support/testing.h"

/* Link types as they stand in files. */
enum {
    LINK_NULL = 0,
    LINK_ETHERNET = 1,
    LINK_RAW = 101,
    LINK_LOOP = 108,
    LINK_SLL = 113,
    LINK_USBMON = 189,
    LINK_USBMON_MMAPPED = 220,
    LINK_IPV4 = 228,
    LINK_IPV6 = 229,
    LINK_USBPCAP = 249,
    LINK_UPPER_PDU = 252,
    LINK_SLL2 = 276,
    LINK_USB_2_0 = 288,
    LINK_USB_2_0_LOW_SPEED = 293,
    LINK_USB_2_0_FULL_SPEED = 294,
    LINK_USB_2_0_HIGH_SPEED = 295,
};

/* A file in the making. Records get times 1 ms apart, the first at START_NS. */
struct capture_file {
    const char *name;
    struct usbip_buffer bytes;
    unsigned link_type;
    bool big_endian, nanoseconds, pcapng;
    unsigned interface; /* pcapng: of the next record */
    unsigned records;
    bool ipv6; /* TCP */
};

#define STEP_NS UINT64_C(1000000)
#define START_NS (1700000000u * UINT64_C(1000000000))

void pcap_begin(struct capture_file *file, const char *name, unsigned link_type);
void pcapng_begin(struct capture_file *file, const char *name);
void pcapng_interface(struct capture_file *file, unsigned link_type, uint32_t snap_length);

void put_record(struct capture_file *file, const void *bytes, size_t size);
/* One of which the recorder kept only `size` bytes. */
void put_cut_record(struct capture_file *file, const void *bytes, size_t size,
                    size_t original_size);

/* Writes the file below TEST_TMPDIR, loads it and frees the bytes. */
struct usbip_capture *try_load(struct capture_file *file,
                               char error_text[USBIP_CAPTURE_ERROR_SIZE]);
/* The same for one that must load. */
struct usbip_capture *load(struct capture_file *file);
/* For one that must not: the error must contain this. */
void expect_error(struct capture_file *file, const char *part);
/* Where a file of this name is, or goes; valid until the next call. */
const char *file_path(const char *name);
void write_file(const char *name, const void *bytes, size_t size);

/* The index of the device that this wish chooses; there must be one. */
int choose(const struct usbip_capture *capture, const char *wish);

/* ---- usbmon ---- */

struct usbmon {
    uint64_t id;
    char event;   /* 'S', 'C', 'E' */
    uint8_t type; /* usbmon's: 0 isochronous, 1 interrupt, 2 control, 3 bulk */
    uint8_t endpoint, address;
    uint16_t bus; /* 0: 1 */
    int32_t status;
    const uint8_t *setup;
    const void *data;
    uint32_t size;   /* of data */
    uint32_t length; /* of the URB; 0: size */
    uint32_t iso_packets;
    char data_flag; /* 0: by direction and size */
};
void put_usbmon(struct capture_file *file, const struct usbmon *event);
/* Submission and completion of a control request; what goes with one of them is data. */
void put_usbmon_control(struct capture_file *file, uint8_t address, const uint8_t setup[8],
                        const void *data, uint32_t size, int32_t status);

/* ---- USBPcap ---- */

enum { USBPCAP_SETUP = 0, USBPCAP_DATA = 1, USBPCAP_STATUS = 2, USBPCAP_COMPLETE = 3 };

struct usbpcap {
    uint64_t irp;
    bool completion;
    uint8_t transfer; /* 0 isochronous, 1 interrupt, 2 control, 3 bulk */
    uint8_t endpoint, stage;
    uint16_t device;
    uint32_t status;
    const void *data;
    uint32_t size;
};
void put_usbpcap(struct capture_file *file, const struct usbpcap *record);

/* ---- Packets of a USB 2.0 bus ---- */

enum {
    PID_OUT = 0xe1,
    PID_IN = 0x69,
    PID_SOF = 0xa5,
    PID_SETUP = 0x2d,
    PID_DATA0 = 0xc3,
    PID_DATA1 = 0x4b,
    PID_ACK = 0xd2,
    PID_NAK = 0x5a,
    PID_STALL = 0x1e,
    PID_NYET = 0x96,
    PID_SPLIT = 0x78,
    PID_PING = 0xb4,
};
void put_token(struct capture_file *file, uint8_t pid, uint8_t address, uint8_t endpoint);
void put_data(struct capture_file *file, uint8_t pid, const void *bytes, size_t size);
void put_handshake(struct capture_file *file, uint8_t pid);
/* Token, data, handshake. */
void put_transaction(struct capture_file *file, uint8_t token, uint8_t address, uint8_t endpoint,
                     uint8_t data_pid, const void *bytes, size_t size);
/* A control request that succeeds, its data stage in packets of 8 bytes. */
void put_bus_control(struct capture_file *file, uint8_t address, const uint8_t setup[8],
                     const void *data, size_t size);

/* ---- TCP ---- */

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_ACK = 0x10 };

struct segment {
    bool from_server;
    uint16_t client_port, server_port; /* 0: 50000, 3240 */
    uint32_t sequence, acknowledgement;
    uint8_t flags;
    const void *data;
    size_t size;
    size_t cut; /* bytes at the end that the recorder did not keep */
};
void put_segment(struct capture_file *file, const struct segment *segment);

/* PDUs, appended to a stream. */
void add_import(struct usbip_buffer *stream);
void add_imported(struct usbip_buffer *stream); /* device 3-2, 0403:6001 */
enum { IMPORTED_DEVID = 3 << 16 | 2 };
void add_submit(struct usbip_buffer *stream, uint32_t seqnum, uint8_t endpoint, bool in,
                uint32_t length, const uint8_t *setup, const void *data);
void add_return(struct usbip_buffer *stream, uint32_t seqnum, int32_t status, uint32_t length,
                const void *data);
void add_unlink(struct usbip_buffer *stream, uint32_t seqnum, uint32_t unlink_seqnum);
void add_unlinked(struct usbip_buffer *stream, uint32_t seqnum, int32_t status);

/* ---- Descriptors of a CDC-ACM device, 1209:0001 ---- */

extern const uint8_t get_device_descriptor[8], get_configuration_descriptor[8],
    set_configuration[8];
extern const uint8_t acm_device[18], acm_configuration[67];

#endif
