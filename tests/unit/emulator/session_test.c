/*
 * The device session: the OP phase, the headers of the URB phase, unlinking, order, the limit of
 * the output, and how a connection begins and ends. "S001" and so on are the cases of the
 * conformance suite.
 */
#include "protocol/bytes.h"
#include "tests/unit/emulator/session_fixture.h"

enum { OUT = 0x01, IN = 0x81, INTERRUPT = 0x82 }; /* endpoints of cdc_acm */

#define REQ_DEVLIST "0111 8005 00000000"
#define ZEROS_29 "0000000000 00000000 00000000 00000000 00000000 00000000 00000000"
#define REQ_IMPORT_1_1 "0111 8003 00000000 312d31" ZEROS_29
#define REQ_IMPORT_1_2 "0111 8003 00000000 312d32" ZEROS_29

#define GET_STATUS "80 00 0000 0000 0200"
#define DTR_RTS "21 22 0300 0000 0000"

static struct fixture fixture;
static struct client client;
static struct recorder *acm;

/* Three devices, nobody attached. */
static void begin(void)
{
    struct usbip_device_options options = usual_options();
    fixture_init(&fixture);
    acm = add_device(&fixture, &usbip_function_cdc_acm, &options);
    options.descriptor.bMaxPacketSize0 = 8;
    options.descriptor.idVendor = 0x0403;
    options.descriptor.idProduct = 0x6001;
    options.descriptor.bcdDevice = 0x0600;
    add_device(&fixture, &usbip_function_ftdi, &options);
    options = usual_options();
    options.function.no_iad = true;
    add_device(&fixture, &usbip_function_cdc_acm, &options);
    client_open(&fixture, &client);
}

static void begin_attached(void)
{
    begin();
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(called(acm, "attach"));
}

static void end(void)
{
    client_close(&client);
    fixture_free(&fixture);
}

/* A whole connection that sends this, gets this and is then closed by the server. */
static void assert_refused(const char *request, const char *reply)
{
    client_open(&fixture, &client);
    CU_ASSERT_EQUAL(client_send(&client, request), -1);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(got(&client, reply));
    CU_ASSERT_TRUE(got_nothing(&client));
    client_close(&client);
}

/* ---- OP phase ---- */

/* The record of a device in the document's terms, at `record`; returns what is behind it. */
static const uint8_t *assert_record(const uint8_t *record, const char *busid, uint32_t devnum,
                                    const char *rest, bool with_interfaces, const char *interfaces)
{
    size_t path = strlen((const char *)record), length = strlen(busid);
    CU_ASSERT_TRUE_FATAL(path > 0 && path < 256);
    for (size_t i = path; i < 256; i++)
        CU_ASSERT_EQUAL(record[i], 0); /* S018 */
    CU_ASSERT_EQUAL(memcmp(record + 256, busid, length), 0);
    for (size_t i = length; i < 32; i++)
        CU_ASSERT_EQUAL(record[256 + i], 0);
    CU_ASSERT_EQUAL(usbip_load_be32(record + 0x120), 1); /* busnum: S020 */
    CU_ASSERT_EQUAL(usbip_load_be32(record + 0x124), devnum);
    CU_ASSERT_EQUAL(usbip_load_be32(record + 0x128), USBIP_SPEED_FULL); /* S021 */
    struct client compare = {.session = client.session};
    compare.output = malloc(64);
    CU_ASSERT_PTR_NOT_NULL_FATAL(compare.output);
    memcpy(compare.output, record + 0x12c, 12);
    compare.output_size = 12;
    CU_ASSERT_TRUE(got(&compare, rest));
    const uint8_t *at = record + 0x138;
    if (with_interfaces) {
        unsigned count = record[0x137];
        memcpy(compare.output, at, 4 * count);
        compare.output_size = 4 * count;
        CU_ASSERT_TRUE(got(&compare, interfaces) && compare.output_size == 0);
        at += 4 * count;
    }
    free(compare.output);
    return at;
}

static const uint8_t *take_all(size_t *size)
{
    const uint8_t *data;
    *size = usbip_device_session_take_output(client.session, &data);
    return data;
}

static void test_devlist(void)
{
    begin();
    CU_ASSERT_EQUAL(client_send(&client, REQ_DEVLIST), -1); /* S004: answered and over */
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_EQUAL(client.wakes, 2); /* output, and the end */
    size_t size;
    const uint8_t *data = take_all(&size), *at = data;
    CU_ASSERT_EQUAL_FATAL(size, 12 + 3 * 312 + 4 * (2 + 1 + 2)); /* S017 */
    static const uint8_t head[] = {1, 0x11, 0, 5, 0, 0, 0, 0, 0, 0, 0, 3};
    CU_ASSERT_EQUAL(memcmp(at, head, sizeof head), 0);
    at += sizeof head;
    at = assert_record(at, "1-1", 1, "1209 0001 0100 ef0201 00 01 02", true,
                       "02020000 0a000000"); /* S022, S024, S025 */
    at = assert_record(at, "1-2", 2, "0403 6001 0600 000000 00 01 01", true, "ffffff00");
    at = assert_record(at, "1-3", 3, "1209 0001 0100 020000 00 01 02", true,
                       "02020000 0a000000"); /* S019, S029 */
    CU_ASSERT_EQUAL((size_t)(at - data), size);
    end();
}

static void test_devlist_empty(void)
{
    fixture_init(&fixture);
    assert_refused(REQ_DEVLIST, "0111 0005 00000000 00000000");
    fixture_free(&fixture);
}

static void test_devlist_fragmented(void)
{
    static const uint8_t request[] = {1, 0x11, 0x80, 5, 0, 0, 0, 0};
    begin();
    for (size_t i = 0; i < sizeof request - 1; i++) {
        CU_ASSERT_EQUAL(client_send_bytes(&client, request + i, 1), 0);
        CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 0);
    }
    CU_ASSERT_EQUAL(client_send_bytes(&client, request + 7, 1), -1);
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 12 + 3 * 312 + 20);
    end();
}

static void test_devlist_trailing(void)
{
    begin();
    client_send(&client, REQ_DEVLIST "5a5a5a5a 5a5a5a5a 5a5a5a5a 5a5a5a5a");
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 12 + 3 * 312 + 20);
    CU_ASSERT_EQUAL(client_send(&client, REQ_DEVLIST), -1);
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 12 + 3 * 312 + 20);
    end();
}

static void test_two_operations(void)
{
    begin();
    CU_ASSERT_EQUAL(client_send(&client, REQ_DEVLIST REQ_DEVLIST), -1);
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 12 + 3 * 312 + 20);
    end();
}

static void test_op_refused(void)
{
    begin();
    client_close(&client);
    static const char *const versions[] = {"0000", "0106", "0110", "0112", "1101"};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) { /* S006 */
        char request[32];
        snprintf(request, sizeof request, "%s 8005 00000000", versions[i]);
        assert_refused(request, "");
    }
    assert_refused("0111 8001 00000000", ""); /* S007 */
    assert_refused("0111 80ff 00000000", "");
    assert_refused("0111 8002 00000000", ""); /* S008 */
    assert_refused("0111 8004 00000000", "");
    assert_refused("0111 8006 00000000", "");
    assert_refused("0111 8007 00000000", "");
    assert_refused("0111 0005 00000000", ""); /* S009 */
    assert_refused("0111 0003 00000000", "");
    assert_refused("0111 8005 00000001", ""); /* S010 */
    assert_refused("0111 8005 deadbeef", "");
    /* S014: CMD_SUBMIT of GET_DESCRIPTOR */
    assert_refused("00000001 00000001 00010001 00000001 00000000 00000200 00000012 00000000"
                   "00000000 00000000 80060001 00001200",
                   "");
    fixture_free(&fixture);
}

static void test_op_truncated(void)
{
    begin();
    CU_ASSERT_EQUAL(client_send(&client, "01118005"), 0);
    CU_ASSERT_EQUAL(client.wakes, 0); /* S012: nothing is due to who says nothing */
    usbip_device_session_end_of_input(client.session);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_EQUAL(client_send(&client, "00000000"), -1);
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_PTR_NOT_NULL(strstr(fixture.log, "in the middle of a PDU, after 4 bytes"));
    end();
}

static void test_import(void)
{
    begin();
    CU_ASSERT_EQUAL(client_send(&client, REQ_IMPORT_1_1), 0);
    CU_ASSERT_FALSE(client_is_over(&client));
    size_t size;
    const uint8_t *data = take_all(&size);
    CU_ASSERT_EQUAL_FATAL(size, 320); /* S031 */
    static const uint8_t head[] = {1, 0x11, 0, 3, 0, 0, 0, 0};
    CU_ASSERT_EQUAL(memcmp(data, head, sizeof head), 0);
    assert_record(data + 8, "1-1", 1, "1209 0001 0100 ef0201 00 01 02", false, ""); /* S032 */
    CU_ASSERT_TRUE(called(acm, "attach"));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static void test_import_refused(void)
{
    begin();
    client_close(&client);
    const char *const not_there = "0111 0003 00000004"; /* 8 bytes, ST_NODEV: S033, S034 */
    assert_refused("0111 8003 00000000 392d39" ZEROS_29, not_there);
    assert_refused("0111 8003 00000000 000000" ZEROS_29, not_there); /* S036: "" */
    assert_refused("0111 8003 00000000 780000" ZEROS_29, not_there); /* "x" */
    assert_refused("0111 8003 00000000 312d00" ZEROS_29, not_there); /* "1-" */
    assert_refused("0111 8003 00000000 30312d31 00"
                   "00000000 00000000 00000000 00000000 00000000"
                   "00000000 000000",
                   not_there); /* "01-1" */
    assert_refused("0111 8003 00000000 31313131 31313131 31313131 31313131 31313131 31313131"
                   "31313131 31313131",
                   not_there); /* S037: 32 times '1' */
    assert_refused("0111 8003 00000000 312d3131 31313131 31313131 31313131 31313131 31313131"
                   "31313131 31313131",
                   not_there);
    fixture_free(&fixture);
}

static void test_import_junk_after_nul(void)
{
    begin();
    client_send(&client, "0111 8003 00000000 312d3100 aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa aaaaaaaa"
                         "aaaaaaaa aaaaaaaa");
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 320);
    end();
}

static void test_import_truncated(void)
{
    begin();
    CU_ASSERT_EQUAL(client_send(&client, "0111 8003 00000000 312d3100 00000000 0000"), 0);
    usbip_device_session_end_of_input(client.session);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_FALSE(usbip_device_is_claimed(acm->device));
    CU_ASSERT_TRUE(called(acm, ""));
    end();
}

/* S026, S040, S159: hidden and refused while somebody has it, who does not notice. */
static void test_import_busy(void)
{
    struct client second;
    begin_attached();
    client_open(&fixture, &second);
    CU_ASSERT_EQUAL(client_send(&second, REQ_IMPORT_1_1), -1);
    CU_ASSERT_TRUE(got(&second, "0111 0003 00000002"));
    CU_ASSERT_TRUE(got_nothing(&second));
    client_close(&second);
    client_open(&fixture, &second);
    client_send(&second, REQ_DEVLIST);
    CU_ASSERT_EQUAL(usbip_device_session_output_size(second.session), 12 + 2 * 312 + 12);
    client_close(&second);
    CU_ASSERT_TRUE(control_in(&client, GET_STATUS, 0, "0000"));
    CU_ASSERT_TRUE(called(acm, ""));
    end();
}

/* S047: two connections, two devices; the same seqnum in both. */
static void test_import_two_devices(void)
{
    struct client second;
    begin_attached();
    client_open(&fixture, &second);
    client_send(&second, REQ_IMPORT_1_2);
    usbip_device_session_take_output(second.session, &(const uint8_t *){NULL});
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = 5,
        .devid = 0x00010002,
        .direction = USBIP_DIR_IN,
        .cmd_submit = {.transfer_buffer_length = 18, .setup = {0x80, 6, 0, 1, 0, 0, 18, 0}},
    };
    submit(&second, &header, NULL, 0);
    submit_in(&client, 5, 0, 18, "80 06 0001 0000 1200");
    CU_ASSERT_TRUE(got_in(&client, 5, 0, "12 01 0002 ef0201 40 0912 0100 0001 01 02 03 01"));
    CU_ASSERT_TRUE(got_in(&second, 5, 0, "12 01 0002 000000 08 0304 0160 0006 01 02 03 01"));
    client_close(&second);
    end();
}

/* S045: what follows the import in the same segment is answered behind it. */
static void test_import_pipelined_submit(void)
{
    begin();
    client_send(&client, REQ_IMPORT_1_1
                "00000001 00000001 00010001 00000001 00000000 00000200 00000008 00000000"
                "00000000 00000000 80060001 00000800");
    size_t size;
    const uint8_t *data = take_all(&size);
    CU_ASSERT_EQUAL_FATAL(size, 320 + 48 + 8);
    CU_ASSERT_EQUAL(data[3], 3);
    CU_ASSERT_EQUAL(usbip_load_be32(data + 320), 3);
    end();
}

/* S046: it is no URB, and nothing else changes hands. */
static void test_second_import(void)
{
    begin_attached();
    CU_ASSERT_EQUAL(client_send(&client, REQ_IMPORT_1_2), -1);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_FALSE(usbip_device_is_claimed(fixture.bus.devices[1]));
    end();
}

/* What a peer sends must not start lines of the log, or talk to a terminal. */
static void test_log_is_one_line(void)
{
    begin();
    client_send(&client, "0111 8003 00000000 0a1b5b41"
                         "00"
                         "00000000 00000000 00000000 00000000"
                         "00000000 00000000 000000");
    CU_ASSERT_PTR_NULL(strchr(fixture.log, 0x1b));
    CU_ASSERT_PTR_EQUAL(strchr(fixture.log, '\n'), fixture.log + strlen(fixture.log) - 1);
    end();
}

/* ---- Headers of the URB phase ---- */

/* S049, S050, S051, S056: byte for byte. */
static void test_return_header(void)
{
    begin_attached();
    CU_ASSERT_EQUAL(client_send(&client, "00000001 00000001 00010001 00000001 00000000 00000200"
                                         "00000012 00000007 00000000 00000005 80060001 00001200"),
                    0);
    CU_ASSERT_TRUE(got(&client, "00000003 00000001 00000000 00000000 00000000 00000000 00000012"
                                "00000000 00000000 00000000 00000000 00000000"
                                "12 01 0002 ef0201 40 0912 0100 0001 01 02 03 01"));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* S052: an OUT reply is 48 bytes, whatever its status. */
static void test_return_header_out(void)
{
    begin_attached();
    CU_ASSERT_EQUAL(client_send(&client, "00000001 00000009 00010001 00000000 00000000 00000000"
                                         "00000007 00000000 00000000 00000000 21200000 00000700"
                                         "00c20100 000008"),
                    0);
    CU_ASSERT_TRUE(got(&client, "00000003 00000009 00000000 00000000 00000000 00000000 00000007"
                                "00000000 00000000 00000000 00000000 00000000"));
    /* To interface 9: -EPIPE, nothing taken. */
    client_send(&client, "00000001 0000000a 00010001 00000000 00000000 00000000"
                         "00000007 00000000 00000000 00000000 21200000 09000700 00c20100 000008");
    CU_ASSERT_TRUE(got(&client, "00000003 0000000a 00000000 00000000 00000000 ffffffe0 00000000"
                                "00000000 00000000 00000000 00000000 00000000"));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* S053, S054, S055: number_of_packets is echoed and otherwise nobody's business. */
static void test_number_of_packets(void)
{
    begin_attached();
    static const int32_t values[] = {0, -1, 42};
    for (unsigned i = 0; i < 3; i++) {
        struct usbip_header header = {
            .command = USBIP_CMD_SUBMIT,
            .seqnum = 20 + i,
            .devid = 0x00010001,
            .direction = USBIP_DIR_OUT,
            .ep = 1,
            .cmd_submit = {.transfer_buffer_length = 3, .number_of_packets = values[i]},
        };
        submit(&client, &header, "abc", 3);
        uint8_t reply[48] = {0, 0, 0, 3, 0, 0, 0, (uint8_t)(20 + i)};
        reply[27] = 3;
        usbip_store_be32(reply + 32, (uint32_t)values[i]);
        CU_ASSERT_TRUE(got_bytes(&client, reply, sizeof reply));
    }
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(called(acm, "data=616263 data=616263 data=616263"));
    end();
}

static void assert_connection_lost(const char *pdu)
{
    begin_attached();
    CU_ASSERT_EQUAL(client_send(&client, pdu), -1);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(called(acm, ""));
    end();
}

#define REST_OF_GET_STATUS                                                                         \
    "00000001 00000000 00000200 00000002 00000000 00000000 00000000 80000000 00000200"

static void test_headers_that_end_the_connection(void)
{
    /* S057: devid */
    assert_connection_lost("00000001 00000001 00010000" REST_OF_GET_STATUS);
    assert_connection_lost("00000001 00000001 00000000" REST_OF_GET_STATUS);
    assert_connection_lost("00000002 00000001 00010002" REST_OF_GET_STATUS);
    /* S058: unknown commands */
    assert_connection_lost("00000000 00000001 00010001" REST_OF_GET_STATUS);
    assert_connection_lost("00000005 00000001 00010001" REST_OF_GET_STATUS);
    assert_connection_lost("80000001 00000001 00010001" REST_OF_GET_STATUS);
    /* S059: the server's own */
    assert_connection_lost("00000003 00000001 00010001" REST_OF_GET_STATUS);
    assert_connection_lost("00000004 00000001 00010001" REST_OF_GET_STATUS);
    /* A direction that is none tells nothing about the payload. */
    assert_connection_lost("00000001 00000001 00010001 00000002 00000000 00000200 00000002 00000000"
                           "00000000 00000000 80000000 00000200");
    /* S115: an OUT transfer above the limit */
    assert_connection_lost("00000001 00000001 00010001 00000000 00000001 00000000 00400001 00000000"
                           "00000000 00000000 00000000 00000000");
    assert_connection_lost("00000001 00000001 00010001 00000000 00000001 00000000 ffffffff 00000000"
                           "00000000 00000000 00000000 00000000");
}

/* S060 to S063: an error reply, the payload consumed, the connection alive. */
static void test_missing_endpoints(void)
{
    begin();
    client_import(&client);
    submit_in(&client, 1, IN, 64, NULL); /* S063: before SET_CONFIGURATION */
    CU_ASSERT_TRUE(got_in(&client, 1, -2, ""));
    client_configure(&client);
    submit_in(&client, 2, 0x85, 64, NULL); /* S061 */
    CU_ASSERT_TRUE(got_in(&client, 2, -2, ""));
    submit_out(&client, 3, 0x05, "0102030405060708", NULL); /* S062 */
    CU_ASSERT_TRUE(got_out(&client, 3, -2, 0));
    static const uint32_t endpoints[] = {16, 17, 0x81, 0x82, 0xffffffff, 0x80000001}; /* S060 */
    for (unsigned i = 0; i < 6; i++) {
        struct usbip_header header = {
            .command = USBIP_CMD_SUBMIT,
            .seqnum = 10 + i,
            .devid = 0x00010001,
            .direction = i % 2 ? USBIP_DIR_OUT : USBIP_DIR_IN,
            .ep = endpoints[i],
            .cmd_submit.transfer_buffer_length = 4,
        };
        submit(&client, &header, "abcd", i % 2 ? 4 : 0);
        CU_ASSERT_TRUE(got_in(&client, 10 + i, -2, ""));
    }
    CU_ASSERT_TRUE(control_in(&client, GET_STATUS, 0, "0000"));
    CU_ASSERT_TRUE(called(acm, "attach"));
    end();
}

/* S064, S065, S066: numbers are the client's. */
static void test_seqnums(void)
{
    begin_attached();
    static const uint32_t seqnums[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 10, 5, 7, 5};
    for (unsigned i = 0; i < sizeof seqnums / sizeof seqnums[0]; i++) {
        submit_in(&client, seqnums[i], 0, 2, GET_STATUS);
        CU_ASSERT_TRUE(got_in(&client, seqnums[i], 0, "0000"));
    }
    end();
}

/* S067: two answers; an unlink hits the first. */
static void test_seqnum_twice_in_flight(void)
{
    begin_attached();
    submit_in(&client, 7, IN, 64, NULL);
    submit_in(&client, 7, IN, 64, NULL);
    submit_in(&client, 7, IN, 64, NULL);
    submit_unlink(&client, 8, 7);
    CU_ASSERT_TRUE(got_unlinked(&client, 8, -104));
    usbip_device_write(acm->device, 1, (const uint8_t *)"a", 1);
    usbip_device_write(acm->device, 1, (const uint8_t *)"b", 1);
    CU_ASSERT_TRUE(got_in(&client, 7, 0, "61"));
    CU_ASSERT_TRUE(got_in(&client, 7, 0, "62"));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* S068, S069, S070: unknown flags mean nothing, SHORT_NOT_OK does, the direction is `direction`. */
static void test_flags(void)
{
    begin_attached();
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = 1,
        .devid = 0x00010001,
        .direction = USBIP_DIR_IN,
        .ep = 1,
        .cmd_submit = {.transfer_flags = 0xfffbfffe, .transfer_buffer_length = 64},
    };
    submit(&client, &header, NULL, 0);
    usbip_device_write(acm->device, 1, (const uint8_t *)"12345", 5);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "3132333435"));
    header.seqnum = 2;
    header.cmd_submit.transfer_flags = USBIP_URB_SHORT_NOT_OK;
    submit(&client, &header, NULL, 0);
    usbip_device_write(acm->device, 1, (const uint8_t *)"12345", 5);
    CU_ASSERT_TRUE(got_in(&client, 2, -121, "3132333435")); /* S109, S123: with the data */
    header.seqnum = 3;
    header.cmd_submit.transfer_buffer_length = 5;
    submit(&client, &header, NULL, 0);
    usbip_device_write(acm->device, 1, (const uint8_t *)"12345", 5);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "3132333435"));
    header.seqnum = 4;
    header.direction = USBIP_DIR_OUT;
    header.cmd_submit.transfer_flags = USBIP_URB_DIR_IN | USBIP_URB_SHORT_NOT_OK;
    submit(&client, &header, "abcde", 5);
    CU_ASSERT_TRUE(got_out(&client, 4, 0, 5));
    header.seqnum = 5;
    header.cmd_submit.transfer_flags = 0x40000;
    header.cmd_submit.transfer_buffer_length = 0;
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(got_out(&client, 5, 0, 0));
    end();
}

/* S071 */
static void test_setup_on_bulk(void)
{
    begin_attached();
    submit_out(&client, 1, OUT, "68690a", "00 09 0000 0000 0000");
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 3));
    CU_ASSERT_TRUE(called(acm, "data=68690a"));
    CU_ASSERT_TRUE(control_in(&client, "80 08 0000 0000 0100", 0, "01"));
    end();
}

/* ---- Unlink ---- */

static void test_unlink_pending(void)
{
    begin_attached();
    submit_in(&client, 11, IN, 64, NULL);
    CU_ASSERT_TRUE(got_nothing(&client)); /* S111 */
    /* S136: endpoint and direction of the unlink mean nothing. */
    CU_ASSERT_EQUAL(client_send(&client, "00000002 0000000c 00010001 00000001 0000000f 0000000b"
                                         "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff"),
                    0);
    CU_ASSERT_TRUE(got(&client, "00000004 0000000c 00000000 00000000 00000000 ffffff98"
                                "00000000 00000000 00000000 00000000 00000000 00000000"));
    submit_unlink(&client, 13, 11); /* S135 */
    CU_ASSERT_TRUE(got_unlinked(&client, 13, 0));
    usbip_device_write(acm->device, 1, (const uint8_t *)"x", 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_in(&client, 14, IN, 64, NULL); /* S132 */
    CU_ASSERT_TRUE(got_in(&client, 14, 0, "78"));
    end();
}

static void test_unlink_completed_or_unknown(void)
{
    begin_attached();
    submit_in(&client, 1, 0, 2, GET_STATUS);
    submit_unlink(&client, 2, 1);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "0000")); /* S125: and in this order */
    CU_ASSERT_TRUE(got_unlinked(&client, 2, 0));
    submit_unlink(&client, 3, 999); /* S126 */
    CU_ASSERT_TRUE(got_unlinked(&client, 3, 0));
    submit_unlink(&client, 4, 4);
    CU_ASSERT_TRUE(got_unlinked(&client, 4, 0));
    end();
}

/* S129: the data goes to those that are left, in order. */
static void test_unlink_one_of_four(void)
{
    begin_attached();
    for (uint32_t i = 1; i <= 4; i++)
        submit_in(&client, i, IN, 64, NULL);
    submit_unlink(&client, 9, 2);
    CU_ASSERT_TRUE(got_unlinked(&client, 9, -104));
    for (unsigned i = 0; i < 4; i++)
        usbip_device_write(acm->device, 1, (const uint8_t *)"abcd" + i, 1);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "61"));
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "62"));
    CU_ASSERT_TRUE(got_in(&client, 4, 0, "63"));
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_in(&client, 5, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 5, 0, "64"));
    end();
}

/* S130, from every place of the queue. */
static void test_unlink_all(void)
{
    begin_attached();
    for (uint32_t i = 1; i <= 4; i++)
        submit_in(&client, i, IN, 64, NULL);
    static const uint32_t order[] = {4, 1, 3, 2};
    for (unsigned i = 0; i < 4; i++) {
        submit_unlink(&client, 10 + i, order[i]);
        CU_ASSERT_TRUE(got_unlinked(&client, 10 + i, -104));
    }
    submit_in(&client, 20, IN, 64, NULL);
    usbip_device_write(acm->device, 1, (const uint8_t *)"x", 1);
    CU_ASSERT_TRUE(got_in(&client, 20, 0, "78"));
    end();
}

/* S134: the request behind it gets its turn; the late answer goes nowhere. */
static void test_unlink_control(void)
{
    begin_attached();
    acm->takes_control = true;
    submit_in(&client, 1, 0, 4, "c0 01 0000 0000 0400");
    submit_in(&client, 2, 0, 4, "c0 02 0000 0000 0400");
    submit_in(&client, 3, 0, 2, GET_STATUS);
    CU_ASSERT_TRUE(called(acm, "control=c001000000000400")); /* one at a time */
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_unlink(&client, 4, 1);
    CU_ASSERT_TRUE(got_unlinked(&client, 4, -104));
    CU_ASSERT_TRUE(called(acm, "control=c002000000000400"));
    struct usbip_urb *urb = usbip_device_next_urb(acm->device, 0);
    CU_ASSERT_TRUE_FATAL(urb && urb->seqnum == 2);
    usbip_urb_complete_with(urb, "pong", 4);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "706f6e67"));
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "0000"));
    CU_ASSERT_PTR_NULL(usbip_device_next_urb(acm->device, 0));
    end();
}

/* ---- Order and framing ---- */

/* S138 */
static void test_in_order_per_endpoint(void)
{
    begin_attached();
    for (uint32_t i = 0; i < 16; i++)
        submit_in(&client, 100 + i, IN, 64, NULL);
    for (uint8_t i = 0; i < 16; i++)
        usbip_device_write(acm->device, 1, &i, 1);
    for (uint8_t i = 0; i < 16; i++)
        CU_ASSERT_TRUE(got_in_bytes(&client, 100u + i, 0, &i, 1));
    end();
}

/* S088, S139: an endpoint that waits holds up no other. */
static void test_endpoints_do_not_wait_for_each_other(void)
{
    begin_attached();
    acm->echoes = true;
    submit_in(&client, 1, INTERRUPT, 16, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    CU_ASSERT_TRUE(control_in(&client, GET_STATUS, 0, "0000"));
    submit_out(&client, 3, OUT, "6869", NULL);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "6869"));
    CU_ASSERT_TRUE(got_out(&client, 3, 0, 2));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* S141, S142, S143: fifty PDUs in one piece, and byte by byte, after SET_CONFIGURATION. */
static void assert_stream(size_t piece)
{
    uint8_t stream[51 * (48 + 5)];
    size_t size = 0;
    begin();
    acm->echoes = true;
    client_import(&client);
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = 1,
        .devid = 0x00010001,
        .cmd_submit.setup = {0, 9, 1, 0, 0, 0, 0, 0},
    };
    usbip_encode_header(stream, &header);
    size += 48;
    header.ep = 1;
    for (uint8_t i = 0; i < 50; i++) {
        header.seqnum = 100u + i;
        header.cmd_submit.transfer_buffer_length = i % 6;
        usbip_encode_header(stream + size, &header);
        memset(stream + size + 48, i, i % 6);
        size += 48u + i % 6;
    }
    for (size_t at = 0; at < size; at += piece)
        CU_ASSERT_EQUAL(
            client_send_bytes(&client, stream + at, piece < size - at ? piece : size - at), 0);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 0));
    for (uint32_t i = 0; i < 50; i++)
        CU_ASSERT_TRUE(got_out(&client, 100 + i, 0, i % 6));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_EQUAL(acm->received, 50 / 6 * 15 + 1);
    end();
}

static void test_coalesced_and_fragmented(void)
{
    assert_stream(51 * 53);
    assert_stream(1);
    assert_stream(7);
    assert_stream(49);
}

/* ---- The limit of the output ---- */

enum { BIG = 64 * 1024 };

/* S144: nobody reads. What waits, waits; then all comes, in order. */
static void test_slow_reader(void)
{
    uint8_t *bytes = malloc(USBIP_FIFO_SIZE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    for (size_t i = 0; i < USBIP_FIFO_SIZE; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    begin_attached();
    for (uint32_t i = 0; i < 40; i++)
        submit_in(&client, i, IN, BIG, NULL);
    for (unsigned round = 0; round < 2; round++)
        CU_ASSERT_EQUAL(usbip_device_write(acm->device, 1, bytes, USBIP_FIFO_SIZE),
                        USBIP_FIFO_SIZE);
    size_t waiting = usbip_device_session_output_size(client.session);
    CU_ASSERT_TRUE(waiting >= USBIP_SESSION_OUTPUT_LIMIT);
    CU_ASSERT_TRUE(waiting < USBIP_SESSION_OUTPUT_LIMIT + BIG + 48);
    CU_ASSERT_FALSE(usbip_device_session_wants_input(client.session));
    /* What is fed nevertheless is not lost. */
    submit_in(&client, 50, 0, 2, GET_STATUS);
    submit_out(&client, 51, OUT, "6f7574", NULL);
    submit_unlink(&client, 52, 39);
    CU_ASSERT_TRUE(called(acm, ""));

    unsigned wakes = client.wakes;
    for (uint32_t i = 0; i < 16; i++)
        CU_ASSERT_TRUE_FATAL(got_in_bytes(&client, i, 0, bytes + i % 16 * BIG, BIG));
    CU_ASSERT_TRUE_FATAL(got_unlinked(&client, 52, -104));
    CU_ASSERT_TRUE_FATAL(got_in(&client, 50, 0, "0000"));
    for (uint32_t i = 16; i < 32; i++)
        CU_ASSERT_TRUE_FATAL(got_in_bytes(&client, i, 0, bytes + i % 16 * BIG, BIG));
    CU_ASSERT_TRUE_FATAL(got_out(&client, 51, 0, 3)); /* there was no room for its answer */
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(client.wakes > wakes); /* taking made room, which brought new output */
    CU_ASSERT_TRUE(called(acm, "drained data=6f7574"));
    CU_ASSERT_TRUE(usbip_device_session_wants_input(client.session));
    end();
    free(bytes);
}

/* A request that the behaviour answers late can be answered while nobody reads. */
static void test_late_control_answer_to_a_slow_reader(void)
{
    uint8_t *bytes = calloc(1, USBIP_FIFO_SIZE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    begin_attached();
    acm->takes_control = true;
    submit_in(&client, 1, 0, 4, "c0 01 0000 0000 0400");
    submit_in(&client, 2, IN, USBIP_FIFO_SIZE, NULL);
    usbip_device_write(acm->device, 1, bytes, USBIP_FIFO_SIZE);
    CU_ASSERT_FALSE(usbip_device_session_wants_input(client.session));
    struct usbip_urb *urb = usbip_device_next_urb(acm->device, 0);
    CU_ASSERT_TRUE(urb && urb->seqnum == 1);
    if (urb)
        usbip_urb_complete_with(urb, "pong", 4);
    CU_ASSERT_TRUE(got_in_bytes(&client, 2, 0, bytes, USBIP_FIFO_SIZE));
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "706f6e67"));
    end();
    free(bytes);
}

/* One wake-up until the output is taken, however much comes. */
static void test_wake(void)
{
    begin_attached();
    CU_ASSERT_TRUE(got_nothing(&client));
    client.wakes = 0;
    submit_in(&client, 1, 0, 2, GET_STATUS);
    submit_in(&client, 2, 0, 2, GET_STATUS);
    CU_ASSERT_EQUAL(client.wakes, 1);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "0000"));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "0000"));
    submit_in(&client, 3, IN, 8, NULL);
    CU_ASSERT_EQUAL(client.wakes, 1);
    usbip_device_write(acm->device, 1, (const uint8_t *)"x", 1);
    CU_ASSERT_EQUAL(client.wakes, 2);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "78"));
    usbip_device_unplug(acm->device);
    CU_ASSERT_EQUAL(client.wakes, 3);
    end();
}

/* ---- Limits on what waits ---- */

static void test_too_many_urbs(void)
{
    begin_attached();
    for (uint32_t i = 0; i < USBIP_SESSION_MAX_URBS; i++)
        submit_in(&client, i, IN, 64, NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_in(&client, 0x10000, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 0x10000, -12, ""));
    submit_unlink(&client, 0x10001, 17);
    CU_ASSERT_TRUE(got_unlinked(&client, 0x10001, -104));
    submit_in(&client, 0x10002, IN, 64, NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static unsigned complaints(void)
{
    unsigned count = 0;
    for (const char *at = fixture.log; (at = strstr(at, "wait already")) != NULL; at++)
        count++;
    return count;
}

/* A client that goes on and on does not fill the log. */
static void test_told_once(void)
{
    begin_attached();
    for (uint32_t i = 0; i < USBIP_SESSION_MAX_URBS + 10; i++)
        submit_in(&client, i, IN, 64, NULL);
    CU_ASSERT_EQUAL(complaints(), 1);
    submit_unlink(&client, 0x10000, 1);
    submit_in(&client, 0x10001, IN, 64, NULL);
    submit_in(&client, 0x10002, IN, 64, NULL);
    CU_ASSERT_EQUAL(complaints(), 1);
    const uint32_t half = USBIP_SESSION_MAX_URBS / 2 + 3;
    for (uint32_t i = 0; i < half; i++)
        submit_unlink(&client, 0x20000 + i, i);
    for (uint32_t i = 0; i < half; i++)
        submit_in(&client, 0x30000 + i, IN, 64, NULL);
    CU_ASSERT_EQUAL(complaints(), 2);
    end();
}

static void test_too_much_out_data(void)
{
    uint8_t *bytes = calloc(1, USBIP_SESSION_MAX_TRANSFER);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    begin_attached();
    CU_ASSERT_EQUAL(usbip_device_write(acm->device, 1, bytes, USBIP_FIFO_SIZE), USBIP_FIFO_SIZE);
    const uint32_t fit = USBIP_SESSION_MAX_PENDING_OUT / USBIP_SESSION_MAX_TRANSFER;
    for (uint32_t i = 0; i < fit; i++)
        submit_out_bytes(&client, i, OUT, bytes, USBIP_SESSION_MAX_TRANSFER);
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_out(&client, fit, OUT, "00", NULL);
    CU_ASSERT_TRUE(got_out(&client, fit, -12, 0));
    submit_unlink(&client, fit + 1, 0);
    CU_ASSERT_TRUE(got_unlinked(&client, fit + 1, -104));
    submit_out(&client, fit + 2, OUT, "00", NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
    free(bytes);
}

/* ---- Beginning and end ---- */

/* S044, S146, S147, S155, S158: after every end of a connection the device is as after power-on. */
static void test_reimport(void)
{
    begin();
    for (unsigned round = 0; round < 3; round++) {
        client_import(&client);
        CU_ASSERT_TRUE(control_in(&client, "80 08 0000 0000 0100", 0, "00"));
        client_configure(&client);
        CU_ASSERT_TRUE(control_in(&client, "a1 21 0000 0000 0700", 0, "80250000 00 00 08"));
        CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0700", "00c20100000008", 0));
        CU_ASSERT_TRUE(control_out(&client, DTR_RTS, "", 0));
        CU_ASSERT_TRUE(control_out(&client, "02 03 0000 8100 0000", "", 0)); /* halt IN */
        for (uint32_t i = 0; i < 8; i++)
            submit_in(&client, i, INTERRUPT, 16, NULL);
        usbip_device_write(acm->device, 1, (const uint8_t *)"stale", 5);
        CU_ASSERT_TRUE(called(acm, "attach coding=115200/8N1 lines=3 open"));
        if (round == 1)
            CU_ASSERT_EQUAL(client_send(&client, "00000001 0000"), 0); /* S149 */
        usbip_device_session_end_of_input(client.session);
        CU_ASSERT_TRUE(got_nothing(&client));
        CU_ASSERT_TRUE(usbip_device_is_claimed(acm->device));
        client_close(&client);
        CU_ASSERT_FALSE(usbip_device_is_claimed(acm->device));
        CU_ASSERT_TRUE(called(acm, "close detach"));
        client_open(&fixture, &client);
    }
    client_import(&client);
    client_configure(&client);
    submit_in(&client, 1, IN, 64, NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* S148: the rest of a payload never comes. */
static void test_end_within_payload(void)
{
    begin_attached();
    client_send(&client, "00000001 00000001 00010001 00000000 00000001 00000000 00000008 00000000"
                         "00000000 00000000 00000000 00000000 01020304");
    usbip_device_session_end_of_input(client.session);
    CU_ASSERT_PTR_NOT_NULL(strstr(fixture.log, "after 52 bytes"));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(called(acm, ""));
    end();
}

/* S151 */
static void test_unplug(void)
{
    struct client second;
    begin_attached();
    submit_in(&client, 1, IN, 64, NULL);
    usbip_device_write(acm->device, 1, (const uint8_t *)"last", 4);
    usbip_device_unplug(acm->device);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_EQUAL(submit_in(&client, 2, 0, 2, GET_STATUS), -1);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "6c617374")); /* what was sent before still goes out */
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_FALSE(usbip_device_is_plugged(acm->device));

    client_open(&fixture, &second); /* neither listed nor there */
    client_send(&second, REQ_DEVLIST);
    CU_ASSERT_EQUAL(usbip_device_session_output_size(second.session), 12 + 2 * 312 + 12);
    client_close(&second);
    client_open(&fixture, &second);
    client_send(&second, REQ_IMPORT_1_1);
    CU_ASSERT_TRUE(got(&second, "0111 0003 00000004"));
    client_close(&second);

    usbip_device_plug(acm->device);
    client_close(&client);
    client_open(&fixture, &client); /* S156: back under the same busid */
    client_import(&client);
    CU_ASSERT_TRUE(control_in(&client, GET_STATUS, 0, "0000"));
    CU_ASSERT_TRUE(called(acm, "detach attach"));
    end();
}

static void unplug_in(struct recorder *recorder, const char *word)
{
    if (strcmp(word, "attach") == 0 || strcmp(word, "open") == 0 || strncmp(word, "data", 4) == 0)
        usbip_device_unplug(recorder->device);
}

/* Unplugged from within a call: nothing behind it in the stream is carried out. */
static void test_unplug_from_within(void)
{
    begin();
    acm->then = unplug_in;
    client_send(&client, REQ_IMPORT_1_1
                "00000001 00000001 00010001 00000000 00000000 00000000 00000000 00000000"
                "00000000 00000000 00090100 00000000");
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 320);
    client_close(&client);
    usbip_device_plug(acm->device);
    CU_ASSERT_TRUE(called(acm, "attach detach"));

    acm->then = NULL;
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    acm->then = unplug_in;
    submit_out(&client, 1, 0, "", DTR_RTS);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(got_nothing(&client));
    client_close(&client);
    usbip_device_plug(acm->device);
    CU_ASSERT_TRUE(called(acm, "attach lines=3 open close detach"));

    acm->then = NULL;
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    acm->then = unplug_in;
    submit_in(&client, 1, IN, 64, NULL);
    client_send(&client, "00000001 00000002 00010001 00000000 00000001 00000000 00000001 00000000"
                         "00000000 00000000 00000000 00000000 61"
                         "00000001 00000003 00010001 00000000 00000001 00000000 00000001 00000000"
                         "00000000 00000000 00000000 00000000 62"
                         "00000002 00000004 00010001 00000000 00000000 00000001 00000000 00000000"
                         "00000000 00000000 00000000 00000000 ffffffff");
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(called(acm, "attach data=61"));
    CU_ASSERT_PTR_NULL(strstr(fixture.log, "ffffffff")); /* not even read */
    end();
}

static void unplug_in_second_request(struct recorder *recorder, const char *word)
{
    if (strcmp(word, "control=c002000000000400") == 0)
        usbip_device_unplug(recorder->device);
}

/* An unlink lets the next request be carried out, which may be the end of it all. */
static void test_unplug_from_within_unlink(void)
{
    begin_attached();
    acm->takes_control = true;
    acm->then = unplug_in_second_request;
    submit_in(&client, 1, 0, 4, "c0 01 0000 0000 0400");
    submit_in(&client, 2, 0, 4, "c0 02 0000 0000 0400");
    CU_ASSERT_EQUAL(submit_unlink(&client, 3, 1), -1);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"S001 S004 S017-S025 devlist", test_devlist},
        {"S002 devlist, nothing exported", test_devlist_empty},
        {"S003 devlist byte by byte", test_devlist_fragmented},
        {"S005 devlist with junk behind it", test_devlist_trailing},
        {"S013 two operations", test_two_operations},
        {"S006-S010 S014 operations that are refused", test_op_refused},
        {"S011 S012 half an operation", test_op_truncated},
        {"S031 S032 import", test_import},
        {"S033-S037 imports that are refused", test_import_refused},
        {"S038 junk behind the busid", test_import_junk_after_nul},
        {"S039 half an import", test_import_truncated},
        {"S026 S040 S159 busy", test_import_busy},
        {"S047 two devices", test_import_two_devices},
        {"S045 import and submit in one piece", test_import_pipelined_submit},
        {"S046 a second import", test_second_import},
        {"a line of the log is one line", test_log_is_one_line},
        {"S049-S051 S056 RET_SUBMIT for IN", test_return_header},
        {"S052 RET_SUBMIT for OUT", test_return_header_out},
        {"S053-S055 number_of_packets", test_number_of_packets},
        {"S057-S059 S115 headers that end the connection", test_headers_that_end_the_connection},
        {"S060-S063 missing endpoints", test_missing_endpoints},
        {"S064-S066 seqnums", test_seqnums},
        {"S067 one seqnum twice in flight", test_seqnum_twice_in_flight},
        {"S068-S070 S109 S123 transfer_flags", test_flags},
        {"S071 setup on bulk", test_setup_on_bulk},
        {"S111 S124 S127 S132 S135 S136 unlink", test_unlink_pending},
        {"S125 S126 unlink too late", test_unlink_completed_or_unknown},
        {"S129 unlink one of four", test_unlink_one_of_four},
        {"S130 unlink all", test_unlink_all},
        {"S134 unlink a control request", test_unlink_control},
        {"S138 order on an endpoint", test_in_order_per_endpoint},
        {"S088 S139 endpoints are independent", test_endpoints_do_not_wait_for_each_other},
        {"S141-S143 coalesced and fragmented", test_coalesced_and_fragmented},
        {"S144 slow reader", test_slow_reader},
        {"a late control answer to a slow reader", test_late_control_answer_to_a_slow_reader},
        {"wake", test_wake},
        {"too many URBs", test_too_many_urbs},
        {"a flood is told once", test_told_once},
        {"too much OUT data", test_too_much_out_data},
        {"S044 S146 S147 S149 S155 S158 re-import", test_reimport},
        {"S148 end within a payload", test_end_within_payload},
        {"S151 S156 unplug", test_unplug},
        {"unplug from within a call", test_unplug_from_within},
        {"unplug from within an unlink", test_unplug_from_within_unlink},
        CU_TEST_INFO_NULL,
    };
    return run_tests("session", tests);
}
