/* Streams in, capture files out, read back with libpcap. */
#include <pcap/pcap.h>
#include <pcap/usb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture/recorder.h"
#include "protocol/buffer.h"
#include "protocol/bytes.h"
#include "tests/support/testing.h"

enum {
    BUSNUM = 3,
    DEVNUM = 7,
    MAX_RECORDS = 400,
    NOW_S = 1700000000,
    NOW_US = 250000,
    HEADER = sizeof(pcap_usb_header_mmapped),
};

/* ---- A recording, and the streams of its connections ---- */

struct record {
    struct pcap_pkthdr packet;
    pcap_usb_header_mmapped header;
    uint8_t *data;
};

static char path[512];
static struct usbip_recorder *recorder;
static const struct usbip_tap *tap;
static unsigned reports;
static char last_report[USBIP_RECORDER_ERROR_SIZE];
static struct record records[MAX_RECORDS];
static unsigned record_count;

static const uint8_t configuration[] = {
    9, 2, 46,   0, 1,  1,    0,  0x80, 50, /* one interface, value 1 */
    9, 4, 0,    0, 4,  0xff, 0,  0,    0,  /* interface 0 */
    7, 5, 0x81, 2, 64, 0,    0,            /* bulk IN 1 */
    7, 5, 0x02, 3, 8,  0,    10,           /* interrupt OUT 2 */
    7, 5, 0x83, 1, 0,  4,    1,            /* isochronous IN 3 */
    7, 5, 0x04, 1, 0,  4,    1,            /* isochronous OUT 4 */
};

static const uint8_t device_descriptor[USB_DT_DEVICE_SIZE] = {
    18, 1, 0x00, 0x02, 0xff, 0, 0, 64, 0x34, 0x12, 0x78, 0x56, 0x00, 0x01, 1, 2, 3, 1};

static void on_report(void *context, const char *line)
{
    (void)context;
    reports++;
    snprintf(last_report, sizeof last_report, "%s", line);
}

static uint64_t fixed_now_us(void *context)
{
    (void)context;
    return NOW_S * UINT64_C(1000000) + NOW_US;
}

static void path_in_tmpdir(char out[512], const char *name)
{
    const char *folder = getenv("TEST_TMPDIR");
    snprintf(out, 512, "%s/%s", folder ? folder : "/tmp", name);
}

static void start_recording(bool file_per_device)
{
    char error_text[USBIP_RECORDER_ERROR_SIZE];
    path_in_tmpdir(path, "recording.pcap");
    const struct usbip_recorder_options options = {
        .path = path,
        .file_per_device = file_per_device,
        .now_us = fixed_now_us,
        .report = on_report,
    };
    reports = 0;
    recorder = usbip_recorder_new(&options, error_text);
    REQUIRE(recorder != NULL);
    tap = usbip_recorder_tap(recorder);
}

static void forget_records(void)
{
    for (unsigned i = 0; i < record_count; i++)
        free(records[i].data);
    record_count = 0;
}

static void read_records(const char *file)
{
    char error_text[PCAP_ERRBUF_SIZE];
    struct pcap_pkthdr *packet;
    const u_char *bytes;
    int result;
    forget_records();
    pcap_t *pcap = pcap_open_offline(file, error_text);
    REQUIRE(pcap != NULL);
    CU_ASSERT_EQUAL(pcap_datalink(pcap), DLT_USB_LINUX_MMAPPED);
    while ((result = pcap_next_ex(pcap, &packet, &bytes)) == 1) {
        REQUIRE(record_count < MAX_RECORDS && packet->caplen >= HEADER);
        struct record *record = &records[record_count++];
        record->packet = *packet;
        memcpy(&record->header, bytes, HEADER);
        CU_ASSERT_EQUAL(packet->caplen, HEADER + record->header.data_len);
        CU_ASSERT_EQUAL(packet->ts.tv_sec, NOW_S);
        CU_ASSERT_EQUAL(packet->ts.tv_usec, NOW_US);
        CU_ASSERT_EQUAL(record->header.ts_sec, NOW_S);
        CU_ASSERT_EQUAL(record->header.ts_usec, NOW_US);
        record->data = malloc(record->header.data_len + 1);
        REQUIRE(record->data != NULL);
        memcpy(record->data, bytes + HEADER, record->header.data_len);
    }
    CU_ASSERT_EQUAL(result, PCAP_ERROR_BREAK); /* the end, and nothing cut */
    if (result != PCAP_ERROR_BREAK)
        fprintf(stderr, "%s: %s\n", file, pcap_geterr(pcap));
    pcap_close(pcap);
}

/* Ends the recording and reads it. */
static void end_recording(int result)
{
    CU_ASSERT_EQUAL(usbip_recorder_free(recorder), result);
    read_records(path);
}

static void pass(void *connection, enum usbip_way way, const void *data, size_t size)
{
    tap->passed(connection, way, data, size);
}

static void pass_zeros(void *connection, enum usbip_way way, size_t size)
{
    static const uint8_t zeros[1 << 16];
    for (; size > sizeof zeros; size -= sizeof zeros)
        pass(connection, way, zeros, sizeof zeros);
    pass(connection, way, zeros, size);
}

static struct usbip_device_record device_record(const char *busid, uint32_t devnum)
{
    struct usbip_device_record record = {
        .busnum = BUSNUM,
        .devnum = devnum,
        .speed = USBIP_SPEED_HIGH,
        .idVendor = 0x1234,
        .idProduct = 0x5678,
        .bcdDevice = 0x0100,
        .bDeviceClass = 0xff,
        .bNumConfigurations = 1,
        .bNumInterfaces = 1,
    };
    snprintf(record.busid, sizeof record.busid, "%s", busid);
    return record;
}

static void pass_import(void *connection, const struct usbip_device_record *record)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE], reply[USBIP_IMPORT_REPLY_SIZE];
    usbip_encode_import_request(request, record->busid);
    usbip_encode_op_common(reply, &(struct usbip_op_common){USBIP_VERSION, OP_REP_IMPORT, 0});
    usbip_encode_device_record(reply + USBIP_OP_COMMON_SIZE, record);
    pass(connection, USBIP_TO_SERVER, request, sizeof request);
    pass(connection, USBIP_TO_CLIENT, reply, sizeof reply);
}

static void *import_as(const char *busid, uint32_t devnum)
{
    const struct usbip_device_record record = device_record(busid, devnum);
    void *connection = tap->opened(tap->context);
    REQUIRE(connection != NULL);
    pass_import(connection, &record);
    return connection;
}

static void *import(void)
{
    return import_as("3-1", DEVNUM);
}

static void describe(void)
{
    const struct usbip_device_record record = device_record("3-1", DEVNUM);
    usbip_recorder_describe(recorder, &record, device_descriptor, configuration,
                            sizeof configuration);
}

static struct usbip_header submit_of(uint32_t seqnum, uint8_t endpoint, uint32_t length)
{
    return (struct usbip_header){
        .command = USBIP_CMD_SUBMIT,
        .seqnum = seqnum,
        .devid = BUSNUM << 16 | DEVNUM,
        .direction = endpoint & USB_DIR_IN ? USBIP_DIR_IN : USBIP_DIR_OUT,
        .ep = endpoint & 0x0fu,
        .cmd_submit = {.transfer_buffer_length = length},
    };
}

static struct usbip_header return_of(uint32_t seqnum, int32_t status, uint32_t actual_length)
{
    return (struct usbip_header){
        .command = USBIP_RET_SUBMIT,
        .seqnum = seqnum,
        .ret_submit = {.status = status, .actual_length = actual_length},
    };
}

static void pass_pdu(void *connection, const struct usbip_header *header, const void *data,
                     size_t size)
{
    uint8_t bytes[USBIP_HEADER_SIZE];
    enum usbip_way way = header->command == USBIP_CMD_SUBMIT || header->command == USBIP_CMD_UNLINK
                             ? USBIP_TO_SERVER
                             : USBIP_TO_CLIENT;
    usbip_encode_header(bytes, header);
    pass(connection, way, bytes, sizeof bytes);
    if (size > 0)
        pass(connection, way, data, size);
}

static void submit(void *connection, uint32_t seqnum, uint8_t endpoint, uint32_t length)
{
    const struct usbip_header header = submit_of(seqnum, endpoint, length);
    pass_pdu(connection, &header, NULL, 0);
}

static void complete(void *connection, uint32_t seqnum, int32_t status, const void *data,
                     size_t size)
{
    const struct usbip_header header = return_of(seqnum, status, (uint32_t)size);
    pass_pdu(connection, &header, data, size);
}

static void submit_control(void *connection, uint32_t seqnum, struct usbip_setup setup)
{
    struct usbip_header header = submit_of(seqnum, setup.bmRequestType & USB_DIR_IN, setup.wLength);
    usbip_encode_setup(header.cmd_submit.setup, &setup);
    pass_pdu(connection, &header, NULL, 0);
}

static void get_descriptor(void *connection, uint32_t seqnum, uint8_t type, const uint8_t *bytes,
                           uint16_t size)
{
    submit_control(
        connection, seqnum,
        (struct usbip_setup){USB_DIR_IN, USB_REQ_GET_DESCRIPTOR, (uint16_t)(type << 8), 0, size});
    complete(connection, seqnum, 0, bytes, size);
}

static void read_descriptors(void *connection)
{
    get_descriptor(connection, 1000, USB_DT_DEVICE, device_descriptor, sizeof device_descriptor);
    get_descriptor(connection, 1001, USB_DT_CONFIG, configuration, sizeof configuration);
    forget_records();
}

static void unlink_urb(void *connection, uint32_t seqnum, uint32_t unlink_seqnum)
{
    const struct usbip_header header = {
        .command = USBIP_CMD_UNLINK,
        .seqnum = seqnum,
        .cmd_unlink.unlink_seqnum = unlink_seqnum,
    };
    pass_pdu(connection, &header, NULL, 0);
}

static void return_unlink(void *connection, uint32_t seqnum, int32_t status)
{
    const struct usbip_header header = {
        .command = USBIP_RET_UNLINK,
        .seqnum = seqnum,
        .ret_unlink.status = status,
    };
    pass_pdu(connection, &header, NULL, 0);
}

/* Type, endpoint and status of record i, and its lengths. */
static void assert_record(unsigned i, char event, uint8_t endpoint, int32_t status,
                          uint32_t urb_len, uint32_t data_len)
{
    REQUIRE(i < record_count);
    const pcap_usb_header_mmapped *header = &records[i].header;
    bool good = header->event_type == event && header->endpoint_number == endpoint &&
                header->status == status && header->urb_len == urb_len &&
                header->data_len == data_len;
    CU_ASSERT_TRUE(good);
    if (!good)
        fprintf(stderr, "record %u: %c endpoint 0x%02x status %d, %u bytes, %u there\n", i,
                header->event_type, header->endpoint_number, header->status, header->urb_len,
                header->data_len);
}

/* ---- Tests ---- */

static void test_control(void)
{
    start_recording(false);
    void *connection = import();
    read_descriptors(connection);
    struct usbip_header header = submit_of(5, 0, 3);
    const struct usbip_setup setup = {0x21, 0x20, 0x0102, 0x0304, 3};
    usbip_encode_setup(header.cmd_submit.setup, &setup);
    header.cmd_submit.transfer_flags = USBIP_URB_ZERO_PACKET;
    header.cmd_submit.interval = 9; /* means nothing for control */
    pass_pdu(connection, &header, "abc", 3);
    header = return_of(5, 0, 3);
    pass_pdu(connection, &header, NULL, 0);
    submit_control(connection, 6, (struct usbip_setup){0xa1, 0x21, 0, 0, 7});
    complete(connection, 6, -USBIP_EPIPE, NULL, 0);
    submit_control(connection, 7, (struct usbip_setup){0xa1, 0x21, 0, 0, 7});
    complete(connection, 7, -USBIP_EREMOTEIO, "wxyz", 4);
    tap->closed(connection);
    end_recording(0);

    CU_ASSERT_EQUAL(record_count, 10);
    assert_record(4, 'S', 0x00, -USBIP_EINPROGRESS, 3, 3);
    const pcap_usb_header_mmapped *s = &records[4].header, *c = &records[5].header;
    CU_ASSERT_EQUAL(s->transfer_type, 2);
    CU_ASSERT_EQUAL(s->device_address, DEVNUM);
    CU_ASSERT_EQUAL(s->bus_id, BUSNUM);
    CU_ASSERT_EQUAL(s->setup_flag, 0);
    CU_ASSERT_EQUAL(s->data_flag, 0);
    CU_ASSERT_EQUAL(s->xfer_flags, USBIP_URB_ZERO_PACKET);
    CU_ASSERT_EQUAL(s->interval, 0);
    CU_ASSERT_EQUAL(memcmp(&s->s.setup, "\x21\x20\x02\x01\x04\x03\x03\x00", 8), 0);
    CU_ASSERT_EQUAL(memcmp(records[4].data, "abc", 3), 0);
    assert_record(5, 'C', 0x00, 0, 3, 0);
    CU_ASSERT_EQUAL(c->id, s->id);
    CU_ASSERT_EQUAL(c->setup_flag, '-');
    CU_ASSERT_EQUAL(c->data_flag, '>');
    assert_record(6, 'S', 0x80, -USBIP_EINPROGRESS, 7, 0);
    CU_ASSERT_EQUAL(records[6].header.data_flag, '<');
    assert_record(7, 'C', 0x80, -USBIP_EPIPE, 0, 0);
    CU_ASSERT_EQUAL(records[7].header.data_flag, 0);
    /* Data comes with any status. */
    assert_record(9, 'C', 0x80, -USBIP_EREMOTEIO, 4, 4);
    CU_ASSERT_EQUAL(memcmp(records[9].data, "wxyz", 4), 0);
    for (unsigned i = 0; i < record_count; i += 2)
        for (unsigned j = 0; j < i; j += 2)
            CU_ASSERT_NOT_EQUAL(records[i].header.id, records[j].header.id);
}

static void test_seqnum_used_again(void)
{
    start_recording(false);
    void *connection = import();
    read_descriptors(connection);
    for (unsigned i = 0; i < 3; i++) {
        submit(connection, 1, 0x81, 64);
        complete(connection, 1, 0, "x", 1);
    }
    /* Twice at a time: the younger one gets the answer. */
    submit(connection, 1, 0x81, 64);
    submit(connection, 1, 0x81, 64);
    complete(connection, 1, 0, "y", 1);
    tap->closed(connection);
    end_recording(0);
    CU_ASSERT_EQUAL(record_count, 4 + 9);
    CU_ASSERT_NOT_EQUAL(records[4].header.id, records[6].header.id);
    CU_ASSERT_EQUAL(records[11].header.id, records[12].header.id);
}

static void test_types(void)
{
    start_recording(false);
    void *connection = import();
    read_descriptors(connection);
    struct usbip_header header = submit_of(1, 0x02, 1);
    header.cmd_submit.number_of_packets = 3; /* garbage: the endpoint has no packets */
    header.cmd_submit.interval = 5;
    pass_pdu(connection, &header, "a", 1);
    submit(connection, 2, 0x81, 64);
    /* Not in the descriptors: guessed. */
    submit(connection, 3, 0x8a, 64);
    header = submit_of(4, 0x8b, 64);
    header.cmd_submit.interval = 4;
    pass_pdu(connection, &header, NULL, 0);
    header = submit_of(5, 0x8c, 64);
    header.cmd_submit.number_of_packets = -1;
    pass_pdu(connection, &header, NULL, 0);
    header = submit_of(6, 0x80, 64);
    header.ep = 99; /* is none */
    pass_pdu(connection, &header, NULL, 0);
    read_records(path); /* all is there before the end */
    tap->closed(connection);
    CU_ASSERT_EQUAL(usbip_recorder_free(recorder), 0);
    CU_ASSERT_EQUAL(record_count, 4 + 6);
    assert_record(4, 'S', 0x02, -USBIP_EINPROGRESS, 1, 1);
    static const uint8_t types[] = {1, 3, 3, 1, 3, 3};
    for (unsigned i = 0; i < 6; i++)
        CU_ASSERT_EQUAL(records[4 + i].header.transfer_type, types[i]);
    CU_ASSERT_EQUAL(records[4].header.interval, 5);
    CU_ASSERT_EQUAL(records[4].header.setup_flag, '-');
    CU_ASSERT_EQUAL(records[9].header.endpoint_number, 0x80 | 99);
}

static void test_isochronous(void)
{
    static const struct usbip_iso_packet_descriptor sent[] = {{0, 4, 0, 0}, {4, 4, 0, 0}};
    static const struct usbip_iso_packet_descriptor got[] = {{0, 4, 1, 0}, {4, 4, 2, 0xffffffb5}};
    uint8_t bytes[2 * USBIP_ISO_PACKET_DESCRIPTOR_SIZE + 8];
    start_recording(false);
    void *connection = import();
    read_descriptors(connection);
    /* OUT: the packets' descriptors come behind the data, and in the file before it. */
    struct usbip_header header = submit_of(1, 0x04, 8);
    header.cmd_submit.number_of_packets = 2;
    header.cmd_submit.interval = 1;
    header.cmd_submit.start_frame = 77;
    memcpy(bytes, "abcdefgh", 8);
    for (unsigned i = 0; i < 2; i++)
        usbip_encode_iso_packet_descriptor(bytes + 8 + 16 * i, &sent[i]);
    pass_pdu(connection, &header, bytes, sizeof bytes);
    /* IN: the gaps come back. */
    header = submit_of(2, 0x83, 8);
    header.cmd_submit.number_of_packets = 2;
    pass_pdu(connection, &header, bytes + 8, 32);
    header = return_of(2, 0, 3);
    header.ret_submit.number_of_packets = 2;
    header.ret_submit.error_count = 1;
    memcpy(bytes, "xyz", 3);
    for (unsigned i = 0; i < 2; i++)
        usbip_encode_iso_packet_descriptor(bytes + 3 + 16 * i, &got[i]);
    pass_pdu(connection, &header, bytes, 3 + 32);
    /* Offsets that lead out of the buffer: the bytes stay as they came. */
    header = submit_of(3, 0x83, 8);
    header.cmd_submit.number_of_packets = 1;
    pass_pdu(connection, &header, bytes + 8, 16);
    header = return_of(3, 0, 3);
    header.ret_submit.number_of_packets = 1;
    usbip_encode_iso_packet_descriptor(bytes + 3,
                                       &(struct usbip_iso_packet_descriptor){0xfffffffe, 8, 3, 0});
    pass_pdu(connection, &header, bytes, 3 + 16);
    read_records(path);
    tap->closed(connection);
    CU_ASSERT_EQUAL(usbip_recorder_free(recorder), 0);

    CU_ASSERT_EQUAL(record_count, 4 + 5);
    assert_record(4, 'S', 0x04, -USBIP_EINPROGRESS, 8, 32 + 8);
    const pcap_usb_header_mmapped *s = &records[4].header;
    usb_isodesc packet;
    CU_ASSERT_EQUAL(s->transfer_type, 0);
    CU_ASSERT_EQUAL(s->ndesc, 2);
    CU_ASSERT_EQUAL(s->s.iso.numdesc, 2);
    CU_ASSERT_EQUAL(s->start_frame, 77);
    CU_ASSERT_EQUAL(s->interval, 1);
    memcpy(&packet, records[4].data + 16, sizeof packet);
    CU_ASSERT_EQUAL(packet.offset, 4);
    CU_ASSERT_EQUAL(packet.len, 4);
    CU_ASSERT_EQUAL(memcmp(records[4].data + 32, "abcdefgh", 8), 0);
    assert_record(5, 'S', 0x83, -USBIP_EINPROGRESS, 8, 32);
    CU_ASSERT_EQUAL(records[5].header.data_flag, '<');
    assert_record(6, 'C', 0x83, 0, 3, 32 + 6);
    CU_ASSERT_EQUAL(records[6].header.s.iso.error_count, 1);
    memcpy(&packet, records[6].data + 16, sizeof packet);
    CU_ASSERT_EQUAL(packet.status, -75);
    CU_ASSERT_EQUAL(packet.len, 2);
    CU_ASSERT_EQUAL(memcmp(records[6].data + 32, "x\0\0\0yz", 6), 0);
    assert_record(8, 'C', 0x83, 0, 3, 16 + 3);
    CU_ASSERT_EQUAL(memcmp(records[8].data + 16, "xyz", 3), 0);
}

static void test_unlink(void)
{
    start_recording(false);
    void *connection = import();
    read_descriptors(connection);
    submit(connection, 1, 0x81, 64);
    submit(connection, 2, 0x81, 64);
    submit(connection, 3, 0x81, 64);
    submit(connection, 4, 0x81, 64);
    unlink_urb(connection, 11, 1);
    return_unlink(connection, 11, -USBIP_ECONNRESET);
    /* The answer was faster. */
    unlink_urb(connection, 12, 2);
    complete(connection, 2, 0, "b", 1);
    return_unlink(connection, 12, 0);
    /* The answer comes too late, with data: nothing is recorded of it, and the stream goes on. */
    unlink_urb(connection, 13, 3);
    return_unlink(connection, 13, 0);
    complete(connection, 3, 0, "late", 4);
    /* Of something that never was, and a RET_UNLINK that nobody has asked for. */
    unlink_urb(connection, 14, 99);
    return_unlink(connection, 14, 0);
    return_unlink(connection, 98, -USBIP_ENOENT);
    /* The server says itself that an URB was killed. */
    complete(connection, 4, -USBIP_ENOENT, NULL, 0);
    tap->closed(connection);
    end_recording(0);
    CU_ASSERT_EQUAL(record_count, 4 + 8);
    assert_record(8, 'C', 0x81, -USBIP_ECONNRESET, 0, 0);
    CU_ASSERT_EQUAL(records[8].header.id, records[4].header.id);
    assert_record(9, 'C', 0x81, 0, 1, 1);
    CU_ASSERT_EQUAL(records[9].header.id, records[5].header.id);
    assert_record(10, 'C', 0x81, -USBIP_ECONNRESET, 0, 0);
    CU_ASSERT_EQUAL(records[10].header.id, records[6].header.id);
    assert_record(11, 'C', 0x81, -USBIP_ENOENT, 0, 0);
    CU_ASSERT_EQUAL(records[11].header.id, records[7].header.id);
}

static void test_end_of_connection(void)
{
    start_recording(false);
    void *connection = import();
    read_descriptors(connection);
    submit(connection, 9, 0x81, 64);
    submit(connection, 3, 0x81, 65);
    tap->closed(connection);
    end_recording(0);
    CU_ASSERT_EQUAL(record_count, 4 + 4);
    assert_record(6, 'C', 0x81, -USBIP_ESHUTDOWN, 0, 0);
    assert_record(7, 'C', 0x81, -USBIP_ESHUTDOWN, 0, 0);
    CU_ASSERT_EQUAL(records[6].header.id, records[4].header.id);
    CU_ASSERT_EQUAL(records[7].header.id, records[5].header.id);
}

/* ---- Descriptors ---- */

static void assert_descriptors(unsigned first)
{
    REQUIRE(first + 4 <= record_count);
    assert_record(first, 'S', 0x80, -USBIP_EINPROGRESS, 18, 0);
    CU_ASSERT_EQUAL(memcmp(&records[first].header.s.setup, "\x80\x06\0\x01\0\0\x12\0", 8), 0);
    assert_record(first + 1, 'C', 0x80, 0, 18, 18);
    CU_ASSERT_EQUAL(memcmp(records[first + 1].data, device_descriptor, 18), 0);
    assert_record(first + 2, 'S', 0x80, -USBIP_EINPROGRESS, 46, 0);
    CU_ASSERT_EQUAL(memcmp(&records[first + 2].header.s.setup, "\x80\x06\0\x02\0\0\x2e\0", 8), 0);
    assert_record(first + 3, 'C', 0x80, 0, 46, 46);
    CU_ASSERT_EQUAL(memcmp(records[first + 3].data, configuration, 46), 0);
}

static void test_descriptors_unread(void)
{
    start_recording(false);
    describe();
    void *connection = import();
    struct usbip_header header = submit_of(1, 0x02, 1);
    pass_pdu(connection, &header, "a", 1);
    tap->closed(connection);
    /* The next connection is one of its own, with the same device. */
    connection = import();
    submit(connection, 1, 0x81, 64);
    tap->closed(connection);
    end_recording(0);
    CU_ASSERT_EQUAL(record_count, 2 * (4 + 2));
    assert_descriptors(0);
    assert_record(4, 'S', 0x02, -USBIP_EINPROGRESS, 1, 1);
    CU_ASSERT_EQUAL(records[4].header.transfer_type, 1); /* known at once */
    assert_descriptors(6);
    assert_record(10, 'S', 0x81, -USBIP_EINPROGRESS, 64, 0);
    CU_ASSERT_EQUAL(records[10].header.device_address, records[4].header.device_address);
}

static void test_descriptors_of_an_earlier_connection(void)
{
    start_recording(false);
    void *connection = import();
    read_descriptors(connection);
    tap->closed(connection);
    connection = import();
    submit(connection, 1, 0x81, 64);
    tap->closed(connection);
    end_recording(0);
    CU_ASSERT_EQUAL(record_count, 4 + 4 + 2);
    assert_descriptors(4);
}

static void test_descriptors_read(void)
{
    start_recording(false);
    describe();
    void *connection = import();
    read_descriptors(connection);
    submit_control(connection, 1, (struct usbip_setup){0, USB_REQ_SET_CONFIGURATION, 1, 0, 0});
    complete(connection, 1, 0, NULL, 0);
    tap->closed(connection);
    end_recording(0);
    CU_ASSERT_EQUAL(record_count, 4 + 2);
    assert_descriptors(0);
}

/* Nobody tells them: the ids at least are those of the import. */
static void test_descriptors_unknown(void)
{
    start_recording(false);
    void *connection = import();
    get_descriptor(connection, 1, USB_DT_DEVICE, device_descriptor, 8); /* not all of it */
    submit_control(connection, 2, (struct usbip_setup){0, USB_REQ_SET_CONFIGURATION, 1, 0, 0});
    tap->closed(connection);
    end_recording(0);
    CU_ASSERT_EQUAL(record_count, 2 + 2 + 2);
    assert_record(3, 'C', 0x80, 0, 18, 18);
    struct usbip_device_descriptor made;
    CU_ASSERT_EQUAL(usbip_decode_device_descriptor(records[3].data, 18, &made), 0);
    CU_ASSERT_EQUAL(made.idVendor, 0x1234);
    CU_ASSERT_EQUAL(made.idProduct, 0x5678);
    CU_ASSERT_EQUAL(made.bcdDevice, 0x0100);
    CU_ASSERT_EQUAL(made.bDeviceClass, 0xff);
    CU_ASSERT_EQUAL(made.bMaxPacketSize0, 64);
    CU_ASSERT_EQUAL(made.bNumConfigurations, 1);
}

/* ---- Several devices ---- */

static void test_addresses(void)
{
    start_recording(false);
    describe();
    void *connections[] = {import_as("3-1", DEVNUM), import_as("3-2", DEVNUM),
                           import_as("3-3", 300), import_as("3-4", 0), import_as("3-1", DEVNUM)};
    for (unsigned i = 0; i < 5; i++)
        submit(connections[i], 1, 0x81, 64);
    for (unsigned i = 0; i < 5; i++)
        tap->closed(connections[i]);
    end_recording(0);
    unsigned seen = 0;
    uint32_t addresses[5] = {0};
    for (unsigned i = 0; i < record_count && seen < 5; i++)
        if (records[i].header.event_type == 'S' && records[i].header.endpoint_number == 0x81)
            addresses[seen++] =
                (uint32_t)records[i].header.bus_id << 8 | records[i].header.device_address;
    CU_ASSERT_EQUAL(seen, 5);
    CU_ASSERT_EQUAL(addresses[0], BUSNUM << 8 | DEVNUM);
    CU_ASSERT_EQUAL(addresses[4], addresses[0]);
    for (unsigned i = 0; i < 4; i++) {
        CU_ASSERT_TRUE((addresses[i] & 0xff) >= 1 && (addresses[i] & 0xff) <= 127);
        for (unsigned j = 0; j < i; j++)
            CU_ASSERT_NOT_EQUAL(addresses[i], addresses[j]);
    }
}

static void test_file_per_device(void)
{
    static const char *const busids[] = {"3-1", "../../\x1b", "3-1"};
    start_recording(true);
    for (unsigned i = 0; i < 3; i++) {
        void *connection = import_as(busids[i], DEVNUM);
        submit(connection, 1, 0x81, 64);
        tap->closed(connection);
    }
    CU_ASSERT_EQUAL(usbip_recorder_free(recorder), 0);
    char file[512];
    path_in_tmpdir(file, "recording-3-1.pcap");
    read_records(file);
    CU_ASSERT_EQUAL(record_count, 2 * (2 + 2));
    path_in_tmpdir(file, "recording-.._.._" /* and a control character */ "_.pcap");
    read_records(file);
    CU_ASSERT_EQUAL(record_count, 2 + 2);
}

/* ---- Pieces ---- */

struct passed {
    enum usbip_way way;
    uint8_t *data;
    size_t size;
};

static struct passed session[64];
static unsigned session_size;

static void *note_opened(void *context)
{
    return context;
}

static void note_passed(void *connection, enum usbip_way way, const uint8_t *data, size_t size)
{
    (void)connection;
    struct passed *last = session_size > 0 ? &session[session_size - 1] : NULL;
    if (!last || last->way != way) {
        REQUIRE(session_size < sizeof session / sizeof session[0]);
        last = &session[session_size++];
        *last = (struct passed){.way = way};
    }
    last->data = realloc(last->data, last->size + size);
    REQUIRE(last->data != NULL);
    memcpy(last->data + last->size, data, size);
    last->size += size;
}

static void note_closed(void *connection)
{
    (void)connection;
}

/* What a client and a server say to each other, in long runs of one side. */
static void note_session(void)
{
    static int context;
    static const struct usbip_tap notes = {&context, note_opened, note_passed, note_closed};
    uint8_t bytes[USBIP_DEVLIST_REPLY_HEADER_SIZE];
    struct usbip_device_record record = device_record("3-1", DEVNUM);
    uint8_t encoded[USBIP_DEVICE_RECORD_SIZE + USBIP_INTERFACE_RECORD_SIZE] = {0};
    tap = &notes;
    void *connection = &context;
    /* A list first, then an import that is refused, then one that is not. */
    usbip_encode_op_common(bytes, &(struct usbip_op_common){USBIP_VERSION, OP_REQ_DEVLIST, 0});
    pass(connection, USBIP_TO_SERVER, bytes, USBIP_OP_COMMON_SIZE);
    usbip_encode_op_common(bytes, &(struct usbip_op_common){USBIP_VERSION, OP_REP_DEVLIST, 0});
    usbip_store_be32(bytes + USBIP_OP_COMMON_SIZE, 2);
    pass(connection, USBIP_TO_CLIENT, bytes, sizeof bytes);
    usbip_encode_device_record(encoded, &record);
    pass(connection, USBIP_TO_CLIENT, encoded, sizeof encoded);
    pass(connection, USBIP_TO_CLIENT, encoded, sizeof encoded);
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    usbip_encode_import_request(request, "3-9");
    pass(connection, USBIP_TO_SERVER, request, sizeof request);
    usbip_encode_op_common(bytes, &(struct usbip_op_common){USBIP_VERSION, OP_REP_IMPORT, 4});
    pass(connection, USBIP_TO_CLIENT, bytes, USBIP_OP_COMMON_SIZE);
    pass_import(connection, &record);
    read_descriptors(connection);
    for (uint32_t i = 0; i < 10; i++)
        submit(connection, 10 + i, 0x81, 512);
    for (uint32_t i = 0; i < 10; i++) {
        const struct usbip_header header = submit_of(20 + i, 0x02, 100 + i);
        pass_pdu(connection, &header, configuration, 46);
        pass_zeros(connection, USBIP_TO_SERVER, 54 + i);
    }
    unlink_urb(connection, 30, 19);
    for (uint32_t i = 0; i < 9; i++)
        complete(connection, 10 + i, 0, configuration, 4 * i);
    for (uint32_t i = 0; i < 10; i++) {
        const struct usbip_header header = return_of(20 + i, 0, 100 + i);
        pass_pdu(connection, &header, NULL, 0);
    }
    return_unlink(connection, 30, -USBIP_ECONNRESET);
}

static struct usbip_buffer file_content(const char *file)
{
    struct usbip_buffer content = {0};
    FILE *stream = fopen(file, "rb");
    REQUIRE(stream != NULL);
    uint8_t bytes[4096];
    size_t size;
    while ((size = fread(bytes, 1, sizeof bytes, stream)) > 0)
        REQUIRE(usbip_buffer_append(&content, bytes, size) == 0);
    fclose(stream);
    return content;
}

static void test_pieces(void)
{
    static const size_t pieces[] = {1 << 20, 1, 7, 47, 48, 49, 1000};
    struct usbip_buffer whole = {0};
    note_session();
    for (unsigned i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        start_recording(false);
        void *connection = tap->opened(tap->context);
        for (unsigned j = 0; j < session_size; j++)
            for (size_t at = 0; at < session[j].size; at += pieces[i]) {
                size_t left = session[j].size - at;
                pass(connection, session[j].way, session[j].data + at,
                     left < pieces[i] ? left : pieces[i]);
            }
        tap->closed(connection);
        end_recording(0);
        CU_ASSERT_EQUAL(reports, 0);
        CU_ASSERT_EQUAL(record_count, 4 + 2 * 20);
        struct usbip_buffer content = file_content(path);
        if (i == 0) {
            whole = content;
            continue;
        }
        CU_ASSERT_EQUAL(content.size, whole.size);
        CU_ASSERT_TRUE(content.size == whole.size &&
                       memcmp(content.data, whole.data, whole.size) == 0);
        usbip_buffer_free(&content);
    }
    usbip_buffer_free(&whole);
    for (unsigned i = 0; i < session_size; i++)
        free(session[i].data);
    session_size = 0;
}

/* ---- Hostile peers, hostile disks ---- */

/* More than a record holds: it is cut, says so, and the stream goes on behind it. */
static void test_large_transfer(void)
{
    enum { SIZE = 1 << 20, MAX = 262144 - HEADER };
    start_recording(false);
    void *connection = import();
    read_descriptors(connection);
    const struct usbip_header header = submit_of(1, 0x02, SIZE);
    pass_pdu(connection, &header, NULL, 0);
    pass_zeros(connection, USBIP_TO_SERVER, SIZE);
    const struct usbip_header answer = return_of(1, 0, SIZE);
    pass_pdu(connection, &answer, NULL, 0);
    pass_pdu(connection, &header, NULL, 0);
    pass_zeros(connection, USBIP_TO_SERVER, SIZE);
    submit(connection, 2, 0x81, 64);
    tap->closed(connection);
    CU_ASSERT_EQUAL(reports, 1);
    CU_ASSERT_STRING_EQUAL(
        last_report, "3-1: a transfer of 1048576 bytes was cut: captures hold 262080 of them");
    end_recording(-1);
    CU_ASSERT_EQUAL(record_count, 4 + 6);
    assert_record(4, 'S', 0x02, -USBIP_EINPROGRESS, SIZE, MAX);
    CU_ASSERT_EQUAL(records[4].packet.len, HEADER + SIZE);
    assert_record(5, 'C', 0x02, 0, SIZE, 0);
    assert_record(7, 'S', 0x81, -USBIP_EINPROGRESS, 64, 0);
}

/* Something that ends the recording of its connection, told once; others go on. */
static void assert_stops(const struct usbip_header *header, const char *word)
{
    start_recording(false);
    void *good = import_as("3-2", 2), *bad = import();
    read_descriptors(bad);
    submit(bad, 1, 0x83, 64);
    pass_pdu(bad, header, NULL, 0);
    CU_ASSERT_EQUAL(reports, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(last_report, word));
    CU_ASSERT_PTR_NOT_NULL(strstr(last_report, "3-1: "));
    if (!strstr(last_report, word))
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", word, last_report);
    pass_zeros(bad, USBIP_TO_SERVER, 1000);
    pass_zeros(bad, USBIP_TO_CLIENT, 1000);
    submit(good, 1, 0x81, 64);
    tap->closed(bad);
    tap->closed(good);
    CU_ASSERT_EQUAL(reports, 1);
    end_recording(-1);
    CU_ASSERT_EQUAL(record_count, 5 + 2 + 2);
}

static void test_hostile_headers(void)
{
    struct usbip_header header = submit_of(2, 0x81, UINT32_MAX);
    assert_stops(&header, "transfer_buffer_length 4294967295");
    header = submit_of(2, 0x02, 0x80000000);
    assert_stops(&header, "transfer_buffer_length 2147483648");
    header = submit_of(2, 0x81, 64);
    header.direction = 2;
    assert_stops(&header, "direction 2");
    header = submit_of(2, 0x83, 64);
    header.cmd_submit.number_of_packets = 1025;
    assert_stops(&header, "number_of_packets 1025");
    header.cmd_submit.number_of_packets = -2;
    assert_stops(&header, "number_of_packets -2");
    header = return_of(1, 0, 0x80000000);
    assert_stops(&header, "actual_length 2147483648");
    header = return_of(1, 0, 0);
    header.ret_submit.number_of_packets = INT32_MIN;
    assert_stops(&header, "number_of_packets -2147483648");
    header = return_of(77, 0, 5);
    assert_stops(&header, "RET_SUBMIT 77 is for no URB");
}

static void test_hostile_streams(void)
{
    static const struct {
        enum usbip_way way;
        uint8_t bytes[8];
    } streams[] = {
        {USBIP_TO_SERVER, {0x01, 0x11, 0x80, 0x04, 0, 0, 0, 0}},
        {USBIP_TO_SERVER, {0, 0, 0, 1, 0, 0, 0, 1}}, /* an URB without a device */
        {USBIP_TO_CLIENT, {0x01, 0x11, 0x80, 0x05, 0, 0, 0, 0}},
        {USBIP_TO_CLIENT, {'H', 'T', 'T', 'P', '/', '1', '.', '1'}},
    };
    for (unsigned i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        start_recording(false);
        void *connection = tap->opened(tap->context);
        pass(connection, streams[i].way, streams[i].bytes, 8);
        CU_ASSERT_EQUAL(reports, 1);
        tap->closed(connection);
        end_recording(-1);
        CU_ASSERT_EQUAL(record_count, 0);
    }
}

static void test_too_many_urbs(void)
{
    start_recording(false);
    void *connection = import();
    for (uint32_t i = 0; i < USBIP_RECORDER_MAX_URBS; i++)
        unlink_urb(connection, i, 0);
    CU_ASSERT_EQUAL(reports, 0);
    submit(connection, UINT32_MAX, 0x81, 64);
    CU_ASSERT_EQUAL(reports, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(last_report, "more than 65536 URBs"));
    tap->closed(connection);
    end_recording(-1);
}

static void test_malformed_descriptors(void)
{
    uint8_t bytes[sizeof configuration];
    start_recording(false);
    void *connection = import();
    get_descriptor(connection, 1, USB_DT_DEVICE, configuration, 18);
    memcpy(bytes, configuration, sizeof bytes);
    bytes[9] = 200; /* bLength of the interface */
    get_descriptor(connection, 2, USB_DT_CONFIG, bytes, sizeof bytes);
    bytes[2] = 0; /* wTotalLength */
    get_descriptor(connection, 3, USB_DT_CONFIG, bytes, sizeof bytes);
    submit(connection, 4, 0x83, 64);
    tap->closed(connection);
    end_recording(0);
    CU_ASSERT_EQUAL(record_count, 6 + 2 + 2);
}

static void test_unwritable(void)
{
    static const struct {
        const char *path, *error_text;
    } files[] = {
        {"/nowhere/file", "cannot write /nowhere/file: No such file or directory"},
        {"/dev/full", "cannot write /dev/full: No space left on device"},
    };
    for (unsigned i = 0; i < 2; i++) {
        char error_text[USBIP_RECORDER_ERROR_SIZE] = "";
        struct usbip_recorder_options options = {.path = files[i].path, .report = on_report};
        CU_ASSERT_PTR_NULL(usbip_recorder_new(&options, error_text));
        CU_ASSERT_STRING_EQUAL(error_text, files[i].error_text);
    }
    /* Files that only the import opens. */
    struct usbip_recorder_options options = {
        .path = "/nowhere/file", .file_per_device = true, .report = on_report};
    char error_text[USBIP_RECORDER_ERROR_SIZE] = "";
    reports = 0;
    recorder = usbip_recorder_new(&options, error_text);
    REQUIRE(recorder != NULL);
    tap = usbip_recorder_tap(recorder);
    void *connection = import();
    submit(connection, 1, 0x81, 64);
    tap->closed(connection);
    CU_ASSERT_EQUAL(reports, 1);
    CU_ASSERT_STRING_EQUAL(last_report,
                           "3-1: cannot write /nowhere/file-3-1: No such file or directory; the "
                           "rest of this connection is not recorded");
    CU_ASSERT_EQUAL(usbip_recorder_free(recorder), -1);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"control transfers", test_control},
        {"seqnums that are used again", test_seqnum_used_again},
        {"transfer types", test_types},
        {"isochronous transfers", test_isochronous},
        {"unlink", test_unlink},
        {"end of a connection", test_end_of_connection},
        {"descriptors that the client does not read", test_descriptors_unread},
        {"descriptors of an earlier connection", test_descriptors_of_an_earlier_connection},
        {"descriptors that the client reads", test_descriptors_read},
        {"descriptors that nobody knows", test_descriptors_unknown},
        {"addresses", test_addresses},
        {"a file for each device", test_file_per_device},
        {"streams in pieces", test_pieces},
        {"a transfer too large", test_large_transfer},
        {"hostile headers", test_hostile_headers},
        {"hostile streams", test_hostile_streams},
        {"too many URBs", test_too_many_urbs},
        {"malformed descriptors", test_malformed_descriptors},
        {"files that cannot be written", test_unwritable},
        CU_TEST_INFO_NULL,
    };
    int status = run_tests("recorder", tests);
    forget_records();
    return status;
}
