#include "protocol/usbip.h"

#include "tests/support/hex.h"
#include "tests/support/testing.h"

#define ZEROS_24 "000000000000000000000000000000000000000000000000"

static const char get_descriptor[] =
    "00000001 00000001 00010002 00000001 00000000"
    "00000200 00000012 00000000 00000000 00000000 80060001 00001200";
static const char get_descriptor_reply[] =
    "00000003 00000001 00000000 00000000 00000000"
    "00000000 00000012 00000000 00000000 00000000 00000000 00000000";
static const char set_line_coding[] =
    "00000001 00000009 00010002 00000000 00000000"
    "00000000 00000007 00000000 00000000 00000000 21200000 00000700";
static const char unlink[] = "00000002 0000000c 00010002 00000000 00000000 0000000b" ZEROS_24;
static const char unlinked[] = "00000004 0000000c 00000000 00000000 00000000 ffffff98" ZEROS_24;

static void test_devlist_messages(void)
{
    const struct usbip_op_common request = {.version = USBIP_VERSION, .code = OP_REQ_DEVLIST};
    struct usbip_op_common common;
    uint8_t bytes[USBIP_OP_COMMON_SIZE];

    usbip_encode_op_common(bytes, &request);
    ASSERT_BYTES(bytes, "0111 8005 00000000");

    usbip_decode_op_common(hex("0111 0005 00000000 00000000").data, &common);
    CU_ASSERT_EQUAL(common.version, 0x0111);
    CU_ASSERT_EQUAL(common.code, OP_REP_DEVLIST);
    CU_ASSERT_EQUAL(common.status, USBIP_ST_OK);
    usbip_encode_op_common(bytes, &common);
    ASSERT_BYTES(bytes, "0111 0005 00000000");
    CU_ASSERT_EQUAL(USBIP_DEVLIST_REPLY_HEADER_SIZE, 12);
}

static void test_import_error(void)
{
    struct usbip_op_common common;
    uint8_t bytes[USBIP_OP_COMMON_SIZE];

    usbip_decode_op_common(hex("0111 0003 00000004").data, &common);
    CU_ASSERT_EQUAL(common.code, OP_REP_IMPORT);
    CU_ASSERT_EQUAL(common.status, USBIP_ST_NODEV);
    usbip_encode_op_common(bytes, &common);
    ASSERT_BYTES(bytes, "0111 0003 00000004");
}

static void test_status_uses_all_bits(void)
{
    struct usbip_op_common common;

    usbip_decode_op_common(hex("fffe 8003 deadbeef").data, &common);
    CU_ASSERT_EQUAL(common.version, 0xfffe);
    CU_ASSERT_EQUAL(common.code, OP_REQ_IMPORT);
    CU_ASSERT_EQUAL(common.status, 0xdeadbeef);
}

static void test_import_request(void)
{
    uint8_t bytes[USBIP_IMPORT_REQUEST_SIZE];
    char busid[USBIP_BUSID_SIZE + 1];

    memset(bytes, 0xaa, sizeof(bytes));
    CU_ASSERT_EQUAL(usbip_encode_import_request(bytes, "1-1"), 0);
    ASSERT_BYTES(bytes, "0111 8003 00000000 312d31" ZEROS_24 "0000000000");

    usbip_decode_busid(bytes + USBIP_OP_COMMON_SIZE, busid);
    CU_ASSERT_STRING_EQUAL(busid, "1-1");
}

static void test_import_request_of_longest_busid(void)
{
    uint8_t bytes[USBIP_IMPORT_REQUEST_SIZE], untouched[USBIP_IMPORT_REQUEST_SIZE];
    char busid[USBIP_BUSID_SIZE + 1];

    CU_ASSERT_EQUAL(usbip_encode_import_request(bytes, "1234567890123456789012345678901"), 0);
    CU_ASSERT_EQUAL(bytes[sizeof(bytes) - 1], 0);
    usbip_decode_busid(bytes + USBIP_OP_COMMON_SIZE, busid);
    CU_ASSERT_STRING_EQUAL(busid, "1234567890123456789012345678901");

    memset(bytes, 0xaa, sizeof(bytes));
    memset(untouched, 0xaa, sizeof(untouched));
    CU_ASSERT_EQUAL(usbip_encode_import_request(bytes, "12345678901234567890123456789012"), -1);
    CU_ASSERT_EQUAL(memcmp(bytes, untouched, sizeof(bytes)), 0);
}

static void test_busid_without_nul(void)
{
    uint8_t *field = exact_copy((const uint8_t *)"12345678901234567890123456789012", 32);
    char busid[USBIP_BUSID_SIZE + 1];

    usbip_decode_busid(field, busid);
    CU_ASSERT_STRING_EQUAL(busid, "12345678901234567890123456789012");
    free(field);
}

static void test_nothing_behind_the_nul_of_a_busid(void)
{
    char busid[USBIP_BUSID_SIZE + 1], expected[USBIP_BUSID_SIZE + 1] = "1-1";

    usbip_decode_busid((const uint8_t *)"1-1\0secret-secret-secret-secret-", busid);
    CU_ASSERT_EQUAL(memcmp(busid, expected, sizeof(busid)), 0);
}

static const struct usbip_device_record record = {
    .path = "/sys/devices/usb1/1-1",
    .busid = "1-1",
    .busnum = 0x01020304,
    .devnum = 0x05060708,
    .speed = USBIP_SPEED_HIGH,
    .idVendor = 0x0403,
    .idProduct = 0x6001,
    .bcdDevice = 0x0600,
    .bDeviceClass = 0x11,
    .bDeviceSubClass = 0x22,
    .bDeviceProtocol = 0x33,
    .bConfigurationValue = 0x44,
    .bNumConfigurations = 0x55,
    .bNumInterfaces = 0x66,
};

/* The layout of OP_REP_DEVLIST, written a second time, as a table of offsets. */
static void test_record_layout(void)
{
    static const struct {
        size_t offset;
        const char *bytes;
    } fields[] = {
        {0x000, "2f7379732f646576696365732f757362312f312d31 00"}, /* path */
        {0x100, "312d31 00"},                                     /* busid */
        {0x120, "01020304"},                                      /* busnum */
        {0x124, "05060708"},                                      /* devnum */
        {0x128, "00000003"},                                      /* speed */
        {0x12c, "0403"},                                          /* idVendor */
        {0x12e, "6001"},                                          /* idProduct */
        {0x130, "0600"},                                          /* bcdDevice */
        {0x132, "11"},                                            /* bDeviceClass */
        {0x133, "22"},                                            /* bDeviceSubClass */
        {0x134, "33"},                                            /* bDeviceProtocol */
        {0x135, "44"},                                            /* bConfigurationValue */
        {0x136, "55"},                                            /* bNumConfigurations */
        {0x137, "66"},                                            /* bNumInterfaces */
    };
    uint8_t expected[0x138] = {0}, bytes[USBIP_DEVICE_RECORD_SIZE];
    struct usbip_device_record decoded;

    CU_ASSERT_EQUAL(USBIP_DEVICE_RECORD_SIZE, 312);
    CU_ASSERT_EQUAL(USBIP_IMPORT_REPLY_SIZE, 320);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        struct bytes field = hex(fields[i].bytes);

        memcpy(expected + fields[i].offset, field.data, field.size);
    }
    memset(bytes, 0xaa, sizeof(bytes)); /* whatever is not written would stay */
    usbip_encode_device_record(bytes, &record);
    CU_ASSERT_EQUAL(memcmp(bytes, expected, sizeof(expected)), 0);

    memset(&decoded, 0xaa, sizeof(decoded));
    usbip_decode_device_record(expected, &decoded);
    CU_ASSERT_EQUAL(memcmp(decoded.path, record.path, sizeof(record.path)), 0);
    CU_ASSERT_EQUAL(memcmp(decoded.busid, record.busid, sizeof(record.busid)), 0);
    CU_ASSERT_EQUAL(decoded.busnum, 0x01020304);
    CU_ASSERT_EQUAL(decoded.devnum, 0x05060708);
    CU_ASSERT_EQUAL(decoded.speed, USBIP_SPEED_HIGH);
    CU_ASSERT_EQUAL(decoded.idVendor, 0x0403);
    CU_ASSERT_EQUAL(decoded.idProduct, 0x6001);
    CU_ASSERT_EQUAL(decoded.bcdDevice, 0x0600);
    CU_ASSERT_EQUAL(decoded.bDeviceClass, 0x11);
    CU_ASSERT_EQUAL(decoded.bDeviceSubClass, 0x22);
    CU_ASSERT_EQUAL(decoded.bDeviceProtocol, 0x33);
    CU_ASSERT_EQUAL(decoded.bConfigurationValue, 0x44);
    CU_ASSERT_EQUAL(decoded.bNumConfigurations, 0x55);
    CU_ASSERT_EQUAL(decoded.bNumInterfaces, 0x66);
}

static void test_record_without_nul(void)
{
    uint8_t bytes[USBIP_DEVICE_RECORD_SIZE];
    struct usbip_device_record decoded;

    memset(bytes, 'x', sizeof(bytes));
    usbip_decode_device_record(bytes, &decoded);
    CU_ASSERT_EQUAL(decoded.path[USBIP_PATH_SIZE - 1], '\0');
    CU_ASSERT_EQUAL(strlen(decoded.path), USBIP_PATH_SIZE - 1);
    CU_ASSERT_EQUAL(decoded.busid[USBIP_BUSID_SIZE - 1], '\0');
    CU_ASSERT_EQUAL(strlen(decoded.busid), USBIP_BUSID_SIZE - 1);
    CU_ASSERT_EQUAL(decoded.speed, 0x78787878); /* passed on, though unknown */
}

static void test_record_sends_nothing_behind_its_strings(void)
{
    struct usbip_device_record sent = record;
    uint8_t bytes[USBIP_DEVICE_RECORD_SIZE], clean[USBIP_DEVICE_RECORD_SIZE];

    usbip_encode_device_record(clean, &sent);
    memset(sent.path + strlen(sent.path) + 1, 'x', sizeof(sent.path) - strlen(sent.path) - 1);
    memset(sent.busid + strlen(sent.busid) + 1, 'x', sizeof(sent.busid) - strlen(sent.busid) - 1);
    usbip_encode_device_record(bytes, &sent);
    CU_ASSERT_EQUAL(memcmp(bytes, clean, sizeof(bytes)), 0);

    memset(sent.path, 'x', sizeof(sent.path));
    usbip_encode_device_record(bytes, &sent);
    CU_ASSERT_EQUAL(bytes[USBIP_PATH_SIZE - 1], 0);
}

static void test_interface_record(void)
{
    const struct usbip_interface_record sent = {
        .bInterfaceClass = 0x0a, .bInterfaceSubClass = 0x0b, .bInterfaceProtocol = 0x0c};
    struct usbip_interface_record decoded;
    uint8_t bytes[USBIP_INTERFACE_RECORD_SIZE];

    memset(bytes, 0xaa, sizeof(bytes));
    usbip_encode_interface_record(bytes, &sent);
    ASSERT_BYTES(bytes, "0a0b0c 00");
    usbip_decode_interface_record(hex("0a0b0c ff").data, &decoded);
    CU_ASSERT_EQUAL(decoded.bInterfaceClass, 0x0a);
    CU_ASSERT_EQUAL(decoded.bInterfaceSubClass, 0x0b);
    CU_ASSERT_EQUAL(decoded.bInterfaceProtocol, 0x0c);
}

static void test_devid(void)
{
    struct usbip_device_record device = {.busnum = 1, .devnum = 2};

    CU_ASSERT_EQUAL(usbip_devid(&device), 0x00010002);
    device.devnum = 0x00ff0002;
    CU_ASSERT_EQUAL(usbip_devid(&device), 0x00010002);
}

/* Decodes the vector, and checks that encoding leads back to it. */
static struct usbip_header decode_vector(const char *vector)
{
    struct usbip_header header;
    uint8_t bytes[USBIP_HEADER_SIZE];
    struct bytes wire = hex(vector);

    CU_ASSERT_EQUAL(wire.size, USBIP_HEADER_SIZE);
    memset(&header, 0xaa, sizeof(header));
    CU_ASSERT_EQUAL(usbip_decode_header(wire.data, &header), 0);
    memset(bytes, 0xaa, sizeof(bytes));
    usbip_encode_header(bytes, &header);
    CU_ASSERT_EQUAL(memcmp(bytes, wire.data, sizeof(bytes)), 0);
    return header;
}

static void test_submit_in(void)
{
    struct usbip_header header = decode_vector(get_descriptor);

    CU_ASSERT_EQUAL(header.command, USBIP_CMD_SUBMIT);
    CU_ASSERT_EQUAL(header.seqnum, 1);
    CU_ASSERT_EQUAL(header.devid, 0x00010002);
    CU_ASSERT_EQUAL(header.direction, USBIP_DIR_IN);
    CU_ASSERT_EQUAL(header.ep, 0);
    CU_ASSERT_EQUAL(header.cmd_submit.transfer_flags, USBIP_URB_DIR_IN);
    CU_ASSERT_EQUAL(header.cmd_submit.transfer_buffer_length, 18);
    CU_ASSERT_EQUAL(header.cmd_submit.start_frame, 0);
    CU_ASSERT_EQUAL(header.cmd_submit.number_of_packets, 0);
    CU_ASSERT_EQUAL(header.cmd_submit.interval, 0);
    ASSERT_BYTES(header.cmd_submit.setup, "80 06 0001 0000 1200");
}

static void test_submit_out(void)
{
    struct usbip_header header = decode_vector(set_line_coding);

    CU_ASSERT_EQUAL(header.seqnum, 9);
    CU_ASSERT_EQUAL(header.direction, USBIP_DIR_OUT);
    CU_ASSERT_EQUAL(header.cmd_submit.transfer_flags, 0);
    CU_ASSERT_EQUAL(header.cmd_submit.transfer_buffer_length, 7);
    ASSERT_BYTES(header.cmd_submit.setup, "21 20 0000 0000 0700");
}

static void test_submit_fields_are_apart(void)
{
    struct usbip_header header =
        decode_vector("00000001 81000001 82000002 83000003 84000004"
                      "85000005 86000006 87000007 ffffffff 89000009 1112131415161718");

    CU_ASSERT_EQUAL(header.seqnum, 0x81000001);
    CU_ASSERT_EQUAL(header.devid, 0x82000002);
    CU_ASSERT_EQUAL(header.direction, 0x83000003);
    CU_ASSERT_EQUAL(header.ep, 0x84000004);
    CU_ASSERT_EQUAL(header.cmd_submit.transfer_flags, 0x85000005);
    CU_ASSERT_EQUAL(header.cmd_submit.transfer_buffer_length, 0x86000006);
    CU_ASSERT_EQUAL(header.cmd_submit.start_frame, (int32_t)0x87000007);
    CU_ASSERT_EQUAL(header.cmd_submit.number_of_packets, -1);
    CU_ASSERT_EQUAL(header.cmd_submit.interval, (int32_t)0x89000009);
    ASSERT_BYTES(header.cmd_submit.setup, "1112131415161718");
}

static void test_return(void)
{
    struct usbip_header header = decode_vector(get_descriptor_reply);

    CU_ASSERT_EQUAL(header.command, USBIP_RET_SUBMIT);
    CU_ASSERT_EQUAL(header.seqnum, 1);
    CU_ASSERT_EQUAL(header.ret_submit.status, 0);
    CU_ASSERT_EQUAL(header.ret_submit.actual_length, 18);
}

static void test_return_fields_are_apart(void)
{
    struct usbip_header header =
        decode_vector("00000003 81000001 00000000 00000000 00000000"
                      "ffffffe0 86000006 87000007 ffffffff 89000009 00000000 00000000");

    CU_ASSERT_EQUAL(header.ret_submit.status, -USBIP_EPIPE);
    CU_ASSERT_EQUAL(header.ret_submit.actual_length, 0x86000006);
    CU_ASSERT_EQUAL(header.ret_submit.start_frame, (int32_t)0x87000007);
    CU_ASSERT_EQUAL(header.ret_submit.number_of_packets, -1);
    CU_ASSERT_EQUAL(header.ret_submit.error_count, (int32_t)0x89000009);
}

static void test_unlink(void)
{
    struct usbip_header header = decode_vector(unlink);

    CU_ASSERT_EQUAL(header.command, USBIP_CMD_UNLINK);
    CU_ASSERT_EQUAL(header.seqnum, 12);
    CU_ASSERT_EQUAL(header.devid, 0x00010002);
    CU_ASSERT_EQUAL(header.cmd_unlink.unlink_seqnum, 11);
}

static void test_unlinked(void)
{
    struct usbip_header header = decode_vector(unlinked);

    CU_ASSERT_EQUAL(header.command, USBIP_RET_UNLINK);
    CU_ASSERT_EQUAL(header.seqnum, 12);
    CU_ASSERT_EQUAL(header.ret_unlink.status, -USBIP_ECONNRESET);
}

static void test_reserved_bytes_become_zero(void)
{
    struct usbip_header header;
    struct bytes wire = hex(unlink);
    uint8_t bytes[USBIP_HEADER_SIZE];

    memset(wire.data + 0x18, 0xee, 24);
    CU_ASSERT_EQUAL(usbip_decode_header(wire.data, &header), 0);
    usbip_encode_header(bytes, &header);
    ASSERT_BYTES(bytes, unlink);
}

/* In short, or field by field, RET_SUBMIT is the same. */
static void test_ret_submit_in_short(void)
{
    const struct usbip_header header = {
        .command = USBIP_RET_SUBMIT,
        .seqnum = 0x81000001,
        .devid = 0x82000002,
        .direction = USBIP_DIR_IN,
        .ep = 0x84000004,
        .ret_submit = {.status = -USBIP_EPIPE,
                       .actual_length = 0x86000006,
                       .number_of_packets = -7},
    };
    uint8_t bytes[USBIP_HEADER_SIZE], expected[USBIP_HEADER_SIZE];

    memset(bytes, 0xaa, sizeof(bytes));
    usbip_encode_header(expected, &header);
    usbip_encode_ret_submit(bytes, 0x81000001, -USBIP_EPIPE, 0x86000006, -7);
    CU_ASSERT_NOT_EQUAL(memcmp(bytes, expected, sizeof(bytes)), 0);
    usbip_encode_target(bytes, 0x82000002, USBIP_DIR_IN, 0x84000004);
    CU_ASSERT_EQUAL(memcmp(bytes, expected, sizeof(bytes)), 0);
}

static void test_unknown_commands(void)
{
    static const uint32_t commands[] = {0, 5, 0x0111, 0x01000000, 0x80000001, 0xffffffff};

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        struct usbip_header header, untouched;
        struct bytes wire = hex(get_descriptor);

        memset(&header, 0xaa, sizeof(header));
        memset(&untouched, 0xaa, sizeof(untouched));
        for (int shift = 0; shift < 4; shift++)
            wire.data[shift] = (uint8_t)(commands[i] >> (24 - 8 * shift));
        CU_ASSERT_EQUAL(usbip_decode_header(wire.data, &header), -1);
        CU_ASSERT_EQUAL(header.command, commands[i]);
        CU_ASSERT_EQUAL(header.seqnum, 1);
        CU_ASSERT_EQUAL(header.devid, 0x00010002);
        CU_ASSERT_EQUAL(header.direction, USBIP_DIR_IN);
        CU_ASSERT_EQUAL(header.ep, 0);
        CU_ASSERT_EQUAL(
            memcmp(&header.cmd_submit, &untouched.cmd_submit, sizeof(header.cmd_submit)), 0);
    }
}

static void test_iso_packet_descriptor(void)
{
    struct usbip_iso_packet_descriptor descriptor;
    uint8_t bytes[USBIP_ISO_PACKET_DESCRIPTOR_SIZE];

    usbip_decode_iso_packet_descriptor(hex("81000001 82000002 83000003 ffffffee").data,
                                       &descriptor);
    CU_ASSERT_EQUAL(descriptor.offset, 0x81000001);
    CU_ASSERT_EQUAL(descriptor.length, 0x82000002);
    CU_ASSERT_EQUAL(descriptor.actual_length, 0x83000003);
    CU_ASSERT_EQUAL(descriptor.status, 0xffffffee);
    usbip_encode_iso_packet_descriptor(bytes, &descriptor);
    ASSERT_BYTES(bytes, "81000001 82000002 83000003 ffffffee");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"OP_REQ_DEVLIST and OP_REP_DEVLIST", test_devlist_messages},
        {"OP_REP_IMPORT of an error", test_import_error},
        {"operation status uses all bits", test_status_uses_all_bits},
        {"OP_REQ_IMPORT", test_import_request},
        {"OP_REQ_IMPORT of the longest busid", test_import_request_of_longest_busid},
        {"busid without NUL", test_busid_without_nul},
        {"nothing behind the NUL of a busid", test_nothing_behind_the_nul_of_a_busid},
        {"device record layout", test_record_layout},
        {"device record without NUL", test_record_without_nul},
        {"device record sends nothing behind its strings",
         test_record_sends_nothing_behind_its_strings},
        {"interface record", test_interface_record},
        {"devid", test_devid},
        {"CMD_SUBMIT of IN", test_submit_in},
        {"CMD_SUBMIT of OUT", test_submit_out},
        {"CMD_SUBMIT: every field", test_submit_fields_are_apart},
        {"RET_SUBMIT", test_return},
        {"RET_SUBMIT: every field", test_return_fields_are_apart},
        {"CMD_UNLINK", test_unlink},
        {"RET_UNLINK", test_unlinked},
        {"reserved bytes become zero", test_reserved_bytes_become_zero},
        {"RET_SUBMIT in short", test_ret_submit_in_short},
        {"unknown commands", test_unknown_commands},
        {"isochronous packet descriptor", test_iso_packet_descriptor},
        CU_TEST_INFO_NULL,
    };

    return run_tests("usbip", tests);
}
