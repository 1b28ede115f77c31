#include "tests/unit/emulator/capture/capture_fixture.h"

#include <string.h>

#include "protocol/bytes.h"

enum {
    MAGIC_MICROSECONDS = 0xa1b2c3d4,
    MAGIC_NANOSECONDS = 0xa1b23c4d,
    SNAP_LENGTH = 262144,
};

const uint8_t get_device_descriptor[8] = {0x80, 6, 0, 1, 0, 0, 18, 0};
const uint8_t get_configuration_descriptor[8] = {0x80, 6, 0, 2, 0, 0, 67, 0};
const uint8_t set_configuration[8] = {0, 9, 1, 0, 0, 0, 0, 0};
const uint8_t acm_device[18] = {18,   1,    0x00, 0x02, 2, 0, 0, 64, 0x09,
                                0x12, 0x01, 0x00, 0x00, 1, 1, 2, 3,  1};
const uint8_t acm_configuration[67] = {
    9, 2,    67,   0,    2,  1,    0,  0x80, 50,                    /* configuration */
    9, 4,    0,    0,    1,  2,    2,  1,    0,                     /* control interface */
    5, 0x24, 0,    0x10, 1,                                         /* CDC header */
    5, 0x24, 1,    0,    1,                                         /* call management */
    4, 0x24, 2,    6,                                               /* ACM */
    5, 0x24, 6,    0,    1,                                         /* union */
    7, 5,    0x83, 3,    16, 0,    10,                              /* notifications */
    9, 4,    1,    0,    2,  0x0a, 0,  0,    0,                     /* data interface */
    7, 5,    0x81, 2,    64, 0,    0,  7,    5,  0x02, 2, 64, 0, 0, /* bulk */
};

/* ---- Bytes ---- */

static uint8_t *add(struct usbip_buffer *buffer, const void *bytes, size_t size)
{
    uint8_t *room = usbip_buffer_reserve(buffer, size + 1);
    REQUIRE(room != NULL);
    if (bytes && size > 0)
        memcpy(room, bytes, size);
    else
        memset(room, 0, size);
    buffer->size += size;
    return room;
}

static void add_be(struct usbip_buffer *buffer, unsigned size, uint64_t value)
{
    while (size-- > 0) {
        uint8_t byte = (uint8_t)(value >> 8 * size);
        add(buffer, &byte, 1);
    }
}

static void add_le(struct usbip_buffer *buffer, unsigned size, uint64_t value)
{
    for (; size > 0; size--, value >>= 8) {
        uint8_t byte = (uint8_t)value;
        add(buffer, &byte, 1);
    }
}

/* In the byte order of the file. */
static void add_number(const struct capture_file *file, struct usbip_buffer *buffer, unsigned size,
                       uint64_t value)
{
    if (file->big_endian)
        add_be(buffer, size, value);
    else
        add_le(buffer, size, value);
}

/* ---- Files ---- */

void pcap_begin(struct capture_file *file, const char *name, unsigned link_type)
{
    file->name = name;
    file->link_type = link_type;
    add_number(file, &file->bytes, 4, file->nanoseconds ? MAGIC_NANOSECONDS : MAGIC_MICROSECONDS);
    add_number(file, &file->bytes, 2, 2);
    add_number(file, &file->bytes, 2, 4);
    add_number(file, &file->bytes, 8, 0);
    add_number(file, &file->bytes, 4, SNAP_LENGTH);
    add_number(file, &file->bytes, 4, link_type);
}

void pcapng_begin(struct capture_file *file, const char *name)
{
    file->name = name;
    file->pcapng = true;
    add_number(file, &file->bytes, 4, 0x0a0d0d0a);
    add_number(file, &file->bytes, 4, 28);
    add_number(file, &file->bytes, 4, 0x1a2b3c4d);
    add_number(file, &file->bytes, 2, 1);
    add_number(file, &file->bytes, 2, 0);
    add_number(file, &file->bytes, 8, UINT64_MAX);
    add_number(file, &file->bytes, 4, 28);
}

void pcapng_interface(struct capture_file *file, unsigned link_type, uint32_t snap_length)
{
    add_number(file, &file->bytes, 4, 1);
    add_number(file, &file->bytes, 4, 32);
    add_number(file, &file->bytes, 2, link_type);
    add_number(file, &file->bytes, 2, 0);
    add_number(file, &file->bytes, 4, snap_length);
    /* if_tsresol: nanoseconds */
    add_number(file, &file->bytes, 2, 9);
    add_number(file, &file->bytes, 2, 1);
    add_le(&file->bytes, 4, 9);
    add_number(file, &file->bytes, 4, 0);
    add_number(file, &file->bytes, 4, 32);
}

void put_cut_record(struct capture_file *file, const void *bytes, size_t size, size_t original_size)
{
    uint64_t time = START_NS + file->records++ * STEP_NS;
    size_t padding = -size % 4;
    if (file->pcapng) {
        add_number(file, &file->bytes, 4, 6);
        add_number(file, &file->bytes, 4, 32 + size + padding);
        add_number(file, &file->bytes, 4, file->interface);
        add_number(file, &file->bytes, 4, time >> 32);
        add_number(file, &file->bytes, 4, (uint32_t)time);
    } else {
        uint64_t fraction = time % 1000000000;
        add_number(file, &file->bytes, 4, time / 1000000000);
        add_number(file, &file->bytes, 4, file->nanoseconds ? fraction : fraction / 1000);
    }
    add_number(file, &file->bytes, 4, size);
    add_number(file, &file->bytes, 4, original_size);
    add(&file->bytes, bytes, size);
    if (file->pcapng) {
        add(&file->bytes, NULL, padding);
        add_number(file, &file->bytes, 4, 32 + size + padding);
    }
}

void put_record(struct capture_file *file, const void *bytes, size_t size)
{
    put_cut_record(file, bytes, size, size);
}

static void put_buffer(struct capture_file *file, struct usbip_buffer *buffer)
{
    put_record(file, buffer->data, buffer->size);
    usbip_buffer_free(buffer);
}

const char *file_path(const char *name)
{
    static char path[4096];
    const char *folder = getenv("TEST_TMPDIR");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "/tmp", name);
    return path;
}

void write_file(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(file_path(name), "wb");
    REQUIRE(file != NULL);
    REQUIRE(size == 0 || fwrite(bytes, 1, size, file) == size);
    REQUIRE(fclose(file) == 0);
}

struct usbip_capture *try_load(struct capture_file *file, char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    write_file(file->name, file->bytes.data, file->bytes.size);
    usbip_buffer_free(&file->bytes);
    error_text[0] = '\0';
    return usbip_capture_load(file_path(file->name), error_text);
}

struct usbip_capture *load(struct capture_file *file)
{
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    struct usbip_capture *capture = try_load(file, error_text);
    if (!capture)
        fprintf(stderr, "%s\n", error_text);
    REQUIRE(capture != NULL);
    return capture;
}

void expect_error(struct capture_file *file, const char *part)
{
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    struct usbip_capture *capture = try_load(file, error_text);
    CU_ASSERT_PTR_NULL(capture);
    usbip_capture_free(capture);
    bool starts_with_name =
        strncmp(error_text, file_path(file->name), strlen(file_path(file->name))) == 0;
    if (!strstr(error_text, part) || strchr(error_text, '\n') || !starts_with_name)
        fprintf(stderr, "\n\"%s\" instead of \"%s\"\n", error_text, part);
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, part));
    CU_ASSERT_PTR_NULL(strchr(error_text, '\n'));
    CU_ASSERT(starts_with_name);
}

int choose(const struct usbip_capture *capture, const char *wish)
{
    char reason[USBIP_CAPTURE_REASON_SIZE], error_text[USBIP_CAPTURE_ERROR_SIZE];
    int device = usbip_capture_select(capture, wish, reason, error_text);
    if (device < 0)
        fprintf(stderr, "%s\n", error_text);
    REQUIRE(device >= 0);
    return device;
}

/* ---- usbmon ---- */

void put_usbmon(struct capture_file *file, const struct usbmon *event)
{
    bool is_submission = event->event == 'S', in = event->endpoint & 0x80;
    char data_flag = event->data_flag;
    if (!data_flag && !event->data)
        data_flag = is_submission ? '<' : '>';
    uint32_t descriptors = 16 * event->iso_packets;
    uint32_t data_length = descriptors + (event->data ? event->size : 0);
    struct usbip_buffer b = {0};
    add_number(file, &b, 8, event->id);
    add_number(file, &b, 1, (uint8_t)event->event);
    add_number(file, &b, 1, event->type);
    add_number(file, &b, 1, event->endpoint);
    add_number(file, &b, 1, event->address);
    add_number(file, &b, 2, event->bus ? event->bus : 1);
    add_number(file, &b, 1, event->setup ? 0 : '-');
    add_number(file, &b, 1, (uint8_t)data_flag);
    add_number(file, &b, 8, START_NS / 1000000000);
    add_number(file, &b, 4, 0);
    add_number(file, &b, 4, (uint32_t)(is_submission ? -115 : event->status));
    add_number(file, &b, 4, event->length ? event->length : event->size);
    add_number(file, &b, 4, data_length);
    if (event->setup)
        add(&b, event->setup, 8);
    else
        add_number(file, &b, 8, 0);
    if (file->link_type == LINK_USBMON_MMAPPED) {
        add_number(file, &b, 4, 0);
        add_number(file, &b, 4, 0);
        add_number(file, &b, 4, in ? 0x200 : 0);
        add_number(file, &b, 4, event->iso_packets);
    }
    for (uint32_t i = 0; i < event->iso_packets; i++) {
        add_number(file, &b, 4, 0);
        add_number(file, &b, 4, UINT64_C(8) * i);
        add_number(file, &b, 4, 8);
        add_number(file, &b, 4, 0);
    }
    if (event->data)
        add(&b, event->data, event->size);
    put_buffer(file, &b);
}

void put_usbmon_control(struct capture_file *file, uint8_t address, const uint8_t setup[8],
                        const void *data, uint32_t size, int32_t status)
{
    bool in = setup[0] & 0x80;
    uint32_t length = usbip_load_le16(setup + 6);
    uint64_t id = 0xffff880000000000u + 0x100 * (uint64_t)file->records;
    struct usbmon event = {
        .id = id,
        .event = 'S',
        .type = 2,
        .endpoint = in ? 0x80 : 0,
        .address = address,
        .setup = setup,
        .data = in ? NULL : data,
        .size = in ? 0 : size,
        .length = length,
    };
    put_usbmon(file, &event);
    event = (struct usbmon){
        .id = id,
        .event = 'C',
        .type = 2,
        .endpoint = in ? 0x80 : 0,
        .address = address,
        .status = status,
        .data = in ? data : NULL,
        .size = size,
    };
    put_usbmon(file, &event);
}

/* ---- USBPcap ---- */

void put_usbpcap(struct capture_file *file, const struct usbpcap *record)
{
    bool control = record->transfer == 2;
    struct usbip_buffer b = {0};
    add_le(&b, 2, control ? 28 : 27);
    add_le(&b, 8, record->irp);
    add_le(&b, 4, record->completion ? record->status : 0xffff808d);
    add_le(&b, 2, control ? 0x08 : 0x09);
    add_le(&b, 1, record->completion);
    add_le(&b, 2, 1);
    add_le(&b, 2, record->device);
    add_le(&b, 1, record->endpoint);
    add_le(&b, 1, record->transfer);
    add_le(&b, 4, record->size);
    if (control)
        add_le(&b, 1, record->stage);
    add(&b, record->data, record->size);
    put_buffer(file, &b);
}

/* ---- Packets ---- */

/* Bit by bit as section 8.3.5 of USB 2.0 has it, unlike the reader does it. */
static unsigned crc(unsigned width, unsigned polynomial, const uint8_t *bytes, unsigned bits)
{
    unsigned mask = (1u << width) - 1, remainder = mask;
    for (unsigned i = 0; i < bits; i++) {
        unsigned bit = (unsigned)bytes[i / 8] >> i % 8 & 1;
        unsigned top = remainder >> (width - 1) & 1u;
        remainder = remainder << 1 & mask;
        if (bit ^ top)
            remainder ^= polynomial;
    }
    remainder ^= mask;
    /* It goes over the bus with its highest bit first. */
    unsigned reversed = 0;
    for (unsigned i = 0; i < width; i++)
        reversed |= (remainder >> i & 1u) << (width - 1 - i);
    return reversed;
}

void put_token(struct capture_file *file, uint8_t pid, uint8_t address, uint8_t endpoint)
{
    uint8_t packet[3] = {pid};
    usbip_store_le16(packet + 1, (uint16_t)(address | endpoint << 7));
    unsigned check = crc(5, 0x05, packet + 1, 11);
    packet[2] = (uint8_t)(packet[2] | check << 3);
    put_record(file, packet, sizeof packet);
}

void put_data(struct capture_file *file, uint8_t pid, const void *bytes, size_t size)
{
    struct usbip_buffer b = {0};
    add_le(&b, 1, pid);
    add(&b, bytes, size);
    add_le(&b, 2, crc(16, 0x8005, b.data + 1, (unsigned)size * 8));
    put_buffer(file, &b);
}

void put_handshake(struct capture_file *file, uint8_t pid)
{
    put_record(file, &pid, 1);
}

void put_transaction(struct capture_file *file, uint8_t token, uint8_t address, uint8_t endpoint,
                     uint8_t data_pid, const void *bytes, size_t size)
{
    put_token(file, token, address, endpoint);
    put_data(file, data_pid, bytes, size);
    put_handshake(file, PID_ACK);
}

void put_bus_control(struct capture_file *file, uint8_t address, const uint8_t setup[8],
                     const void *data, size_t size)
{
    uint8_t token = setup[0] & 0x80 ? PID_IN : PID_OUT, pid = PID_DATA1;
    put_transaction(file, PID_SETUP, address, 0, PID_DATA0, setup, 8);
    for (size_t at = 0; at < size; at += 8) {
        put_transaction(file, token, address, 0, pid, (const uint8_t *)data + at,
                        size - at < 8 ? size - at : 8);
        pid = pid == PID_DATA1 ? PID_DATA0 : PID_DATA1;
    }
    put_transaction(file, token == PID_IN ? PID_OUT : PID_IN, address, 0, PID_DATA1, NULL, 0);
}

/* ---- TCP ---- */

static void add_link_header(struct capture_file *file, struct usbip_buffer *b, unsigned link_type)
{
    uint16_t type = file->ipv6 ? 0x86dd : 0x0800;
    switch (link_type) {
    case LINK_ETHERNET:
        add(b, NULL, 12);
        add_be(b, 2, type);
        break;
    case LINK_SLL:
        add(b, NULL, 14);
        add_be(b, 2, type);
        break;
    case LINK_SLL2:
        add_be(b, 2, type);
        add(b, NULL, 18);
        break;
    case LINK_NULL:
        add_number(file, b, 4, file->ipv6 ? 10 : 2);
        break;
    case LINK_LOOP:
        add_be(b, 4, file->ipv6 ? 24 : 2);
        break;
    default:
        break;
    }
}

static void add_ip_header(struct capture_file *file, struct usbip_buffer *b,
                          const struct segment *segment, size_t size)
{
    uint8_t from = segment->from_server ? 2 : 1, to = segment->from_server ? 1 : 2;
    if (file->ipv6) {
        add_be(b, 4, 0x60000000);
        add_be(b, 2, size);
        add_be(b, 1, 6);
        add_be(b, 1, 64);
        add_be(b, 8, 0xfd00000000000000);
        add_be(b, 8, from);
        add_be(b, 8, 0xfd00000000000000);
        add_be(b, 8, to);
        return;
    }
    add_be(b, 2, 0x4500);
    add_be(b, 2, size + 20);
    add_be(b, 4, 0);
    add_be(b, 2, 0x4006);
    add_be(b, 2, 0);
    add_be(b, 4, 0x0a000000u + from);
    add_be(b, 4, 0x0a000000u + to);
}

void put_segment(struct capture_file *file, const struct segment *segment)
{
    uint16_t client = segment->client_port ? segment->client_port : 50000;
    uint16_t server = segment->server_port ? segment->server_port : 3240;
    struct usbip_buffer b = {0};
    add_link_header(file, &b, file->link_type);
    add_ip_header(file, &b, segment, 20 + segment->size);
    add_be(&b, 2, segment->from_server ? server : client);
    add_be(&b, 2, segment->from_server ? client : server);
    add_be(&b, 4, segment->sequence);
    add_be(&b, 4, segment->acknowledgement);
    add_be(&b, 1, 0x50);
    add_be(&b, 1, segment->flags ? segment->flags : TCP_ACK);
    add_be(&b, 2, 65535);
    add_be(&b, 4, 0);
    add(&b, segment->data, segment->size);
    /* The smallest Ethernet frame has 60 bytes. */
    if (file->link_type == LINK_ETHERNET && b.size < 60)
        add(&b, NULL, 60 - b.size);
    put_cut_record(file, b.data, b.size - segment->cut, b.size);
    usbip_buffer_free(&b);
}

void add_import(struct usbip_buffer *stream)
{
    uint8_t *room = add(stream, NULL, USBIP_IMPORT_REQUEST_SIZE);
    REQUIRE(usbip_encode_import_request(room, "3-2") == 0);
}

void add_imported(struct usbip_buffer *stream)
{
    const struct usbip_op_common common = {USBIP_VERSION, OP_REP_IMPORT, USBIP_ST_OK};
    const struct usbip_device_record record = {
        .busid = "3-2",
        .busnum = 3,
        .devnum = 2,
        .speed = USBIP_SPEED_FULL,
        .idVendor = 0x0403,
        .idProduct = 0x6001,
        .bcdDevice = 0x0600,
        .bNumConfigurations = 1,
    };
    usbip_encode_op_common(add(stream, NULL, USBIP_OP_COMMON_SIZE), &common);
    usbip_encode_device_record(add(stream, NULL, USBIP_DEVICE_RECORD_SIZE), &record);
}

void add_submit(struct usbip_buffer *stream, uint32_t seqnum, uint8_t endpoint, bool in,
                uint32_t length, const uint8_t *setup, const void *data)
{
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = seqnum,
        .devid = IMPORTED_DEVID,
        .direction = in,
        .ep = endpoint,
        .cmd_submit.transfer_buffer_length = length,
    };
    if (setup)
        memcpy(header.cmd_submit.setup, setup, sizeof header.cmd_submit.setup);
    usbip_encode_header(add(stream, NULL, USBIP_HEADER_SIZE), &header);
    if (!in && length > 0)
        add(stream, data, length);
}

void add_return(struct usbip_buffer *stream, uint32_t seqnum, int32_t status, uint32_t length,
                const void *data)
{
    const struct usbip_header header = {
        .command = USBIP_RET_SUBMIT,
        .seqnum = seqnum,
        .ret_submit = {.status = status, .actual_length = length},
    };
    usbip_encode_header(add(stream, NULL, USBIP_HEADER_SIZE), &header);
    if (data)
        add(stream, data, length);
}

void add_unlink(struct usbip_buffer *stream, uint32_t seqnum, uint32_t unlink_seqnum)
{
    const struct usbip_header header = {
        .command = USBIP_CMD_UNLINK,
        .seqnum = seqnum,
        .devid = IMPORTED_DEVID,
        .cmd_unlink.unlink_seqnum = unlink_seqnum,
    };
    usbip_encode_header(add(stream, NULL, USBIP_HEADER_SIZE), &header);
}

void add_unlinked(struct usbip_buffer *stream, uint32_t seqnum, int32_t status)
{
    const struct usbip_header header = {
        .command = USBIP_RET_UNLINK, .seqnum = seqnum, .ret_unlink.status = status};
    usbip_encode_header(add(stream, NULL, USBIP_HEADER_SIZE), &header);
}
