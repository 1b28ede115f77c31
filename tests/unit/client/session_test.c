/*
 * The host session: what it sends, and how it takes what a server says, well-behaved or not. Each
 * test runs twice: the server's bytes in one piece, and byte by byte. Names with C and a number are
 * the cases of the list of client cases.
 */
#include "client/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/bytes.h"
#include "tests/support/testing.h"

enum {
    NOW = 1000,
    BUFFER_SIZE = 64,
    DEVID = 0x00010002,
};

static bool fragmented;

static struct {
    struct usbip_host_session *session;
    unsigned devices;
    struct usbip_device_record device;
    struct usbip_interface_record interfaces[255];
    unsigned interface_count;
    unsigned list_ends;
    unsigned imports;
    struct usbip_device_record imported;
    unsigned refusals;
    uint32_t refused_status;
} server;

struct urb {
    struct usbip_transfer transfer;
    unsigned done;
    uint8_t buffer[BUFFER_SIZE + 8]; /* the rest must stay as it is */
};

/* ---- Fixture ---- */

static void on_device(void *context, const struct usbip_device_record *record,
                      const struct usbip_interface_record *interfaces, unsigned interface_count)
{
    CU_ASSERT_PTR_EQUAL(context, &server);
    server.devices++;
    server.device = *record;
    memcpy(server.interfaces, interfaces, interface_count * sizeof *interfaces);
    server.interface_count = interface_count;
}

static void on_devlist_end(void *context)
{
    CU_ASSERT_PTR_EQUAL(context, &server);
    server.list_ends++;
}

static void on_imported(void *context, const struct usbip_device_record *record)
{
    CU_ASSERT_PTR_EQUAL(context, &server);
    server.imports++;
    server.imported = *record;
}

static void on_refused(void *context, uint32_t status)
{
    CU_ASSERT_PTR_EQUAL(context, &server);
    server.refusals++;
    server.refused_status = status;
    /* The owner may want to know at once. */
    CU_ASSERT(usbip_host_session_error(server.session) < 0);
}

static const struct usbip_host_session_events events = {
    .device = on_device,
    .devlist_end = on_devlist_end,
    .imported = on_imported,
    .refused = on_refused,
};

static void start(void)
{
    memset(&server, 0, sizeof server);
    server.session = usbip_host_session_new(&events, &server);
    CU_ASSERT_PTR_NOT_NULL_FATAL(server.session);
}

static void finish(void)
{
    usbip_host_session_free(server.session);
    server.session = NULL;
}

/* Feeds through blocks of the exact size, so that a sanitizer sees any read beyond. */
static int feed(const uint8_t *bytes, size_t size)
{
    size_t step = fragmented ? 1 : size;
    int result = 0;
    for (size_t offset = 0; offset < size && result == 0; offset += step) {
        uint8_t *piece = malloc(step);
        CU_ASSERT_PTR_NOT_NULL_FATAL(piece);
        memcpy(piece, bytes + offset, step);
        result = usbip_host_session_receive(server.session, piece, step);
        free(piece);
    }
    return result;
}

static bool failed_with(int error, const char *words)
{
    const char *text = usbip_host_session_error_text(server.session);
    bool as_expected =
        usbip_host_session_error(server.session) == error && strstr(text, words) != NULL;
    if (!as_expected) {
        fprintf(stderr, "expected %s with \"%s\", got %s with \"%s\"\n", usbip_error_name(error),
                words, usbip_error_name(usbip_host_session_error(server.session)), text);
    }
    return as_expected;
}

static void drop_output(void)
{
    const uint8_t *data;
    usbip_host_session_take_output(server.session, &data);
}

/* Checks that exactly these bytes wait to be sent, and takes them. */
static bool sends(const uint8_t *expected, size_t size)
{
    const uint8_t *data = NULL;
    CU_ASSERT_EQUAL(usbip_host_session_output_size(server.session), size);
    size_t taken = usbip_host_session_take_output(server.session, &data);
    return taken == size && (size == 0 || memcmp(data, expected, size) == 0);
}

static bool sends_nothing(void)
{
    return sends(NULL, 0);
}

/* ---- PDUs of the server ---- */

static struct usbip_device_record a_record(const char *busid)
{
    struct usbip_device_record record = {
        .path = "/sys/devices/1-1",
        .busnum = 1,
        .devnum = 2,
        .speed = USBIP_SPEED_FULL,
        .idVendor = 0x0403,
        .idProduct = 0x6001,
        .bNumConfigurations = 1,
    };
    snprintf(record.busid, sizeof record.busid, "%s", busid);
    return record;
}

struct bytes {
    uint8_t data[8192];
    size_t size;
};

static void add(struct bytes *bytes, const void *data, size_t size)
{
    CU_ASSERT_FATAL(bytes->size + size <= sizeof bytes->data);
    if (size > 0) {
        memcpy(bytes->data + bytes->size, data, size);
        bytes->size += size;
    }
}

static void add_op_common(struct bytes *bytes, uint16_t version, uint16_t code, uint32_t status)
{
    uint8_t out[USBIP_OP_COMMON_SIZE];
    usbip_encode_op_common(
        out, &(struct usbip_op_common){.version = version, .code = code, .status = status});
    add(bytes, out, sizeof out);
}

static void add_be32(struct bytes *bytes, uint32_t value)
{
    uint8_t out[4];
    usbip_store_be32(out, value);
    add(bytes, out, sizeof out);
}

static void add_record(struct bytes *bytes, const struct usbip_device_record *record)
{
    uint8_t out[USBIP_DEVICE_RECORD_SIZE];
    usbip_encode_device_record(out, record);
    add(bytes, out, sizeof out);
}

static void add_import_reply(struct bytes *bytes, const struct usbip_device_record *record)
{
    add_op_common(bytes, USBIP_VERSION, OP_REP_IMPORT, USBIP_ST_OK);
    add_record(bytes, record);
}

static void add_ret_submit(struct bytes *bytes, uint32_t seqnum, int32_t status,
                           uint32_t actual_length, const void *payload, size_t payload_size)
{
    uint8_t out[USBIP_HEADER_SIZE];
    usbip_encode_header(out, &(struct usbip_header){
                                 .command = USBIP_RET_SUBMIT,
                                 .seqnum = seqnum,
                                 .ret_submit = {.status = status, .actual_length = actual_length},
                             });
    add(bytes, out, sizeof out);
    add(bytes, payload, payload_size);
}

static void add_ret_unlink(struct bytes *bytes, uint32_t seqnum, int32_t status)
{
    uint8_t out[USBIP_HEADER_SIZE];
    usbip_encode_header(out, &(struct usbip_header){
                                 .command = USBIP_RET_UNLINK,
                                 .seqnum = seqnum,
                                 .ret_unlink = {.status = status},
                             });
    add(bytes, out, sizeof out);
}

static int ret_submit(uint32_t seqnum, int32_t status, uint32_t actual_length, const void *payload,
                      size_t payload_size)
{
    struct bytes bytes = {.size = 0};
    add_ret_submit(&bytes, seqnum, status, actual_length, payload, payload_size);
    return feed(bytes.data, bytes.size);
}

static int ret_unlink(uint32_t seqnum, int32_t status)
{
    struct bytes bytes = {.size = 0};
    add_ret_unlink(&bytes, seqnum, status);
    return feed(bytes.data, bytes.size);
}

static int import_reply_with(uint16_t version, uint16_t code, uint32_t status)
{
    start();
    CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, "1-1"), 0);
    drop_output();
    struct bytes bytes = {.size = 0};
    add_op_common(&bytes, version, code, status);
    return feed(bytes.data, bytes.size);
}

static void start_imported(void)
{
    start();
    CU_ASSERT_EQUAL_FATAL(usbip_host_session_request_import(server.session, "1-1"), 0);
    drop_output();
    struct bytes bytes = {.size = 0};
    struct usbip_device_record record = a_record("1-1");
    add_import_reply(&bytes, &record);
    CU_ASSERT_EQUAL_FATAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT_EQUAL_FATAL(server.imports, 1);
}

/* ---- Transfers ---- */

static void on_done(struct usbip_transfer *transfer)
{
    struct urb *urb = transfer->user;
    urb->done++;
}

static void prepare(struct urb *urb, uint8_t endpoint, uint8_t type, uint32_t length)
{
    memset(urb, 0, sizeof *urb);
    memset(urb->buffer, 0xee, sizeof urb->buffer);
    urb->transfer.endpoint = endpoint;
    urb->transfer.type = type;
    urb->transfer.buffer = urb->buffer;
    urb->transfer.length = length;
    urb->transfer.done = on_done;
    urb->transfer.user = urb;
}

static int submit(struct urb *urb)
{
    return usbip_host_session_submit(server.session, &urb->transfer, NOW);
}

/* Submits a bulk IN of BUFFER_SIZE bytes, and drops what is sent. */
static uint32_t submit_in(struct urb *urb)
{
    prepare(urb, 0x81, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
    CU_ASSERT_EQUAL_FATAL(submit(urb), 0);
    drop_output();
    return urb->transfer.seqnum;
}

static uint32_t submit_out(struct urb *urb, uint32_t length)
{
    prepare(urb, 0x02, USB_ENDPOINT_XFER_BULK, length);
    CU_ASSERT_EQUAL_FATAL(submit(urb), 0);
    drop_output();
    return urb->transfer.seqnum;
}

static uint32_t unlink_urb(struct urb *urb, uint64_t now_ms)
{
    usbip_host_session_unlink(server.session, &urb->transfer, now_ms);
    drop_output();
    return urb->transfer.unlink_seqnum;
}

static bool ended(const struct urb *urb, int32_t status, uint32_t actual_length)
{
    bool as_expected = urb->done == 1 && urb->transfer.status == status &&
                       urb->transfer.actual_length == actual_length;
    if (!as_expected) {
        fprintf(stderr, "expected 1 end, %d, %u; got %u, %d, %u\n", (int)status,
                (unsigned)actual_length, urb->done, (int)urb->transfer.status,
                (unsigned)urb->transfer.actual_length);
    }
    return as_expected;
}

/* ---- OP phase ---- */

static void test_import_request_bytes(void)
{
    start();
    uint8_t expected[40] = {0x01, 0x11, 0x80, 0x03, 0, 0, 0, 0, '1', '-', '1'};
    CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, "1-1"), 0);
    CU_ASSERT(sends(expected, sizeof expected));
    CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, "1-1"), USBIP_ERROR_ARGUMENT);
    CU_ASSERT_EQUAL(usbip_host_session_request_devlist(server.session), USBIP_ERROR_ARGUMENT);
    CU_ASSERT(sends_nothing());
    finish();
}

static void test_import_request_checks_busid(void)
{
    start();
    CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, ""), USBIP_ERROR_ARGUMENT);
    CU_ASSERT_EQUAL(
        usbip_host_session_request_import(server.session, "12345678901234567890123456789012"),
        USBIP_ERROR_ARGUMENT);
    CU_ASSERT(sends_nothing());
    finish();
}

static void test_devlist_request_bytes(void)
{
    start();
    const uint8_t expected[8] = {0x01, 0x11, 0x80, 0x05, 0, 0, 0, 0};
    CU_ASSERT_EQUAL(usbip_host_session_request_devlist(server.session), 0);
    CU_ASSERT(sends(expected, sizeof expected));
    finish();
}

static void test_server_that_speaks_first(void)
{
    start();
    CU_ASSERT_EQUAL(feed((const uint8_t *)"SSH-2.0", 7), USBIP_ERROR_PROTOCOL);
    CU_ASSERT(failed_with(USBIP_ERROR_PROTOCOL, "speaks first"));
    finish();
}

static void test_C001_reply_version(void)
{
    const uint16_t versions[] = {0x0110, 0x0000, 0x1101};
    for (unsigned i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(import_reply_with(versions[i], OP_REP_IMPORT, 0), USBIP_ERROR_VERSION);
        char words[16];
        snprintf(words, sizeof words, "0x%04x", (unsigned)versions[i]);
        CU_ASSERT(failed_with(USBIP_ERROR_VERSION, words));
        CU_ASSERT(sends_nothing());
        CU_ASSERT_EQUAL(server.refusals + server.imports, 0);
        finish();
    }
}

static void test_C002_reply_code(void)
{
    const uint16_t codes[] = {OP_REP_DEVLIST, OP_REQ_IMPORT, 0xffff};
    for (unsigned i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(import_reply_with(USBIP_VERSION, codes[i], 0), USBIP_ERROR_PROTOCOL);
        CU_ASSERT(failed_with(USBIP_ERROR_PROTOCOL, "reply code"));
        finish();
    }
}

static void test_C003_C004_import_status(void)
{
    const struct {
        uint32_t status;
        int error;
        const char *words;
    } cases[] = {
        {1, USBIP_ERROR_REFUSED, "ST_NA"},       {2, USBIP_ERROR_BUSY, "ST_DEV_BUSY"},
        {3, USBIP_ERROR_REFUSED, "ST_DEV_ERR"},  {4, USBIP_ERROR_NOT_FOUND, "ST_NODEV"},
        {5, USBIP_ERROR_REFUSED, "ST_ERROR"},    {6, USBIP_ERROR_REFUSED, "status 6 "},
        {77, USBIP_ERROR_REFUSED, "status 77 "}, {UINT32_MAX, USBIP_ERROR_REFUSED, "4294967295"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        /* Eight bytes and no more: it must not wait for a body. */
        CU_ASSERT_EQUAL(import_reply_with(USBIP_VERSION, OP_REP_IMPORT, cases[i].status),
                        cases[i].error);
        CU_ASSERT(failed_with(cases[i].error, cases[i].words));
        CU_ASSERT(failed_with(cases[i].error, "busid 1-1"));
        CU_ASSERT_EQUAL(server.refusals, 1);
        CU_ASSERT_EQUAL(server.refused_status, cases[i].status);
        finish();
    }
}

static void test_C005_refusal_with_a_body(void)
{
    start();
    CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, "1-1"), 0);
    struct bytes bytes = {.size = 0};
    struct usbip_device_record record = a_record("1-1");
    add_op_common(&bytes, USBIP_VERSION, OP_REP_IMPORT, USBIP_ST_NODEV);
    add_record(&bytes, &record);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), USBIP_ERROR_NOT_FOUND);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), USBIP_ERROR_NOT_FOUND);
    CU_ASSERT_EQUAL(server.imports, 0);
    CU_ASSERT_EQUAL(server.refusals, 1);
    finish();
}

static void test_C006_busid_mismatch(void)
{
    start();
    CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, "1-1"), 0);
    struct bytes bytes = {.size = 0};
    struct usbip_device_record record = a_record("1-11");
    add_import_reply(&bytes, &record);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), USBIP_ERROR_PROTOCOL);
    CU_ASSERT(failed_with(USBIP_ERROR_PROTOCOL, "\"1-11\""));
    CU_ASSERT_EQUAL(server.imports, 0);
    finish();
}

static void test_C007_C018_devid(void)
{
    const uint32_t numbers[] = {0, 1, 0xffff};
    for (unsigned i = 0; i < 3; i++) {
        start();
        CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, "1-1"), 0);
        drop_output();
        struct bytes bytes = {.size = 0};
        struct usbip_device_record record = a_record("1-1");
        record.busnum = numbers[i];
        record.devnum = numbers[i];
        add_import_reply(&bytes, &record);
        CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
        struct urb urb;
        prepare(&urb, 0x81, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
        CU_ASSERT_EQUAL_FATAL(submit(&urb), 0);
        usbip_host_session_unlink(server.session, &urb.transfer, NOW);
        const uint8_t *data = NULL;
        CU_ASSERT_EQUAL_FATAL(usbip_host_session_take_output(server.session, &data), 96);
        CU_ASSERT_EQUAL(usbip_load_be32(data + 8), numbers[i] << 16 | numbers[i]);
        CU_ASSERT_EQUAL(usbip_load_be32(data + 48 + 8), numbers[i] << 16 | numbers[i]);
        finish();
    }
}

static void test_C008_speeds_are_passed_on(void)
{
    for (uint32_t speed = 0; speed < 8; speed++) {
        start();
        CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, "1-1"), 0);
        struct bytes bytes = {.size = 0};
        struct usbip_device_record record = a_record("1-1");
        record.speed = speed;
        add_import_reply(&bytes, &record);
        CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
        CU_ASSERT_EQUAL(server.imports, 1);
        CU_ASSERT_EQUAL(server.imported.speed, speed);
        finish();
    }
}

static void test_C009_truncated_import(void)
{
    start();
    CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, "1-1"), 0);
    drop_output();
    struct bytes bytes = {.size = 0};
    struct usbip_device_record record = a_record("1-1");
    add_import_reply(&bytes, &record);
    CU_ASSERT_EQUAL(feed(bytes.data, 319), 0);
    CU_ASSERT_EQUAL(server.imports, 0);
    usbip_host_session_fail(server.session, USBIP_ERROR_DISCONNECTED, "closed");
    CU_ASSERT(failed_with(USBIP_ERROR_DISCONNECTED, "OP_REP_IMPORT of busid 1-1"));
    CU_ASSERT_EQUAL(server.imports, 0);
    finish();
}

static void test_C012_import_and_ret_unlink_in_one_piece(void)
{
    start();
    CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, "1-1"), 0);
    struct bytes bytes = {.size = 0};
    struct usbip_device_record record = a_record("1-1");
    add_import_reply(&bytes, &record);
    add_ret_unlink(&bytes, 0xdead, -USBIP_ECONNRESET);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT_EQUAL(server.imports, 1);
    finish();
}

static void add_devlist_header(struct bytes *bytes, uint32_t count)
{
    add_op_common(bytes, USBIP_VERSION, OP_REP_DEVLIST, USBIP_ST_OK);
    add_be32(bytes, count);
}

static void start_devlist(void)
{
    start();
    CU_ASSERT_EQUAL_FATAL(usbip_host_session_request_devlist(server.session), 0);
    drop_output();
}

static void test_devlist(void)
{
    start_devlist();
    struct bytes bytes = {.size = 0};
    add_devlist_header(&bytes, 2);
    struct usbip_device_record record = a_record("1-1");
    record.bNumInterfaces = 2;
    add_record(&bytes, &record);
    add_be32(&bytes, 0x02020100);
    add_be32(&bytes, 0x0a000000);
    size_t first_size = bytes.size;
    record = a_record("3-1.4");
    record.bNumInterfaces = 1;
    add_record(&bytes, &record);
    add_be32(&bytes, 0xff112200);

    CU_ASSERT_EQUAL(feed(bytes.data, first_size), 0);
    CU_ASSERT_EQUAL(server.devices, 1);
    CU_ASSERT_STRING_EQUAL(server.device.busid, "1-1");
    CU_ASSERT_EQUAL(server.device.idVendor, 0x0403);
    CU_ASSERT_EQUAL(server.interface_count, 2);
    CU_ASSERT_EQUAL(server.interfaces[0].bInterfaceClass, 2);
    CU_ASSERT_EQUAL(server.interfaces[0].bInterfaceProtocol, 1);
    CU_ASSERT_EQUAL(server.interfaces[1].bInterfaceClass, 0x0a);
    CU_ASSERT_EQUAL(server.list_ends, 0);

    CU_ASSERT_EQUAL(feed(bytes.data + first_size, bytes.size - first_size), 0);
    CU_ASSERT_EQUAL(server.devices, 2);
    CU_ASSERT_STRING_EQUAL(server.device.busid, "3-1.4");
    CU_ASSERT_EQUAL(server.interfaces[0].bInterfaceClass, 0xff);
    CU_ASSERT_EQUAL(server.list_ends, 1);
    finish();
}

static void test_C013_devlist_lies(void)
{
    struct bytes bytes = {.size = 0};
    start_devlist();
    add_devlist_header(&bytes, UINT32_MAX);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), USBIP_ERROR_LIMIT);
    CU_ASSERT(failed_with(USBIP_ERROR_LIMIT, "4294967295"));
    CU_ASSERT(failed_with(USBIP_ERROR_LIMIT, "4096"));
    finish();

    bytes.size = 0;
    start_devlist();
    add_devlist_header(&bytes, 1);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    usbip_host_session_fail(server.session, USBIP_ERROR_DISCONNECTED, "closed");
    CU_ASSERT(failed_with(USBIP_ERROR_DISCONNECTED, "OP_REP_DEVLIST was not complete"));
    CU_ASSERT_EQUAL(server.devices + server.list_ends, 0);
    finish();

    start_devlist();
    struct usbip_device_record record = a_record("1-1");
    record.bNumInterfaces = 255;
    add_record(&bytes, &record);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    usbip_host_session_fail(server.session, USBIP_ERROR_DISCONNECTED, NULL);
    CU_ASSERT(failed_with(USBIP_ERROR_DISCONNECTED, "OP_REP_DEVLIST was not complete"));
    CU_ASSERT_EQUAL(server.devices + server.list_ends, 0);
    finish();
}

static void test_devlist_with_255_interfaces(void)
{
    start_devlist();
    struct bytes bytes = {.size = 0};
    add_devlist_header(&bytes, 1);
    struct usbip_device_record record = a_record("1-1");
    record.bNumInterfaces = 255;
    add_record(&bytes, &record);
    for (uint32_t i = 0; i < 255; i++)
        add_be32(&bytes, i << 24);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT_EQUAL(server.list_ends, 1);
    CU_ASSERT_EQUAL(server.interface_count, 255);
    CU_ASSERT_EQUAL(server.interfaces[254].bInterfaceClass, 254);
    finish();
}

static void test_C014_empty_lists(void)
{
    struct bytes bytes = {.size = 0};
    start_devlist();
    add_devlist_header(&bytes, 0);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT_EQUAL(server.devices, 0);
    CU_ASSERT_EQUAL(server.list_ends, 1);
    finish();

    bytes.size = 0;
    start_devlist();
    add_devlist_header(&bytes, 1);
    struct usbip_device_record record = a_record("1-1");
    add_record(&bytes, &record);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT_EQUAL(server.devices, 1);
    CU_ASSERT_EQUAL(server.interface_count, 0);
    CU_ASSERT_EQUAL(server.list_ends, 1);
    finish();
}

static void test_C015_strings_without_end(void)
{
    start_devlist();
    struct bytes bytes = {.size = 0};
    add_devlist_header(&bytes, 1);
    uint8_t record[USBIP_DEVICE_RECORD_SIZE] = {0};
    memset(record, 'A', 256);
    memset(record + 256, 'B', 32);
    add(&bytes, record, sizeof record);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT_EQUAL(server.devices, 1);
    CU_ASSERT_EQUAL(strlen(server.device.path), 255);
    CU_ASSERT_EQUAL(strlen(server.device.busid), 31);
    finish();
}

static void test_C016_devlist_stops_at_ndev(void)
{
    start_devlist();
    struct bytes bytes = {.size = 0};
    struct usbip_device_record record = a_record("1-1");
    add_devlist_header(&bytes, 1);
    add_record(&bytes, &record);
    add_record(&bytes, &record);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT_EQUAL(server.devices, 1);
    CU_ASSERT_EQUAL(server.list_ends, 1);
    /* The server closes, and that is as it should be. */
    usbip_host_session_fail(server.session, USBIP_ERROR_DISCONNECTED, "closed");
    CU_ASSERT_EQUAL(usbip_host_session_error(server.session), 0);
    CU_ASSERT_STRING_EQUAL(usbip_host_session_error_text(server.session), "");
    /* One request per connection. */
    CU_ASSERT_EQUAL(usbip_host_session_request_import(server.session, "1-1"), USBIP_ERROR_ARGUMENT);
    finish();
}

static void test_devlist_refused(void)
{
    start_devlist();
    struct bytes bytes = {.size = 0};
    add_op_common(&bytes, USBIP_VERSION, OP_REP_DEVLIST, USBIP_ST_NA);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), USBIP_ERROR_REFUSED);
    CU_ASSERT(failed_with(USBIP_ERROR_REFUSED, "device list refused"));
    CU_ASSERT_EQUAL(server.refused_status, USBIP_ST_NA);
    CU_ASSERT_EQUAL(server.list_ends, 0);
    finish();

    /* What it would say of a device says nothing here. */
    start_devlist();
    bytes.size = 0;
    add_op_common(&bytes, USBIP_VERSION, OP_REP_DEVLIST, USBIP_ST_NODEV);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), USBIP_ERROR_REFUSED);
    CU_ASSERT_PTR_NULL(strstr(usbip_host_session_error_text(server.session), "plugged in"));
    finish();
}

/* ---- What is sent in the URB phase ---- */

static void test_C020_C021_control_in_bytes(void)
{
    start_imported();
    struct urb urb;
    prepare(&urb, 0, USB_ENDPOINT_XFER_CONTROL, 18);
    urb.transfer.setup =
        (struct usbip_setup){.bmRequestType = 0x80, .bRequest = 6, .wValue = 0x0100, .wLength = 18};
    CU_ASSERT_EQUAL(submit(&urb), 0);
    const uint8_t expected[48] = {
        0, 0, 0, 1,  0, 0, 0, 2, 0, 1, 0, 2, 0, 0, 0, 1, 0,    0, 0, 0, 0, 0, 0,  0,
        0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 6, 0, 1, 0, 0, 18, 0,
    };
    CU_ASSERT(sends(expected, sizeof expected));
    CU_ASSERT_EQUAL(usbip_host_session_in_flight(server.session), 1);
    finish();
}

static void test_C020_C021_control_out_bytes(void)
{
    start_imported();
    struct urb urb;
    prepare(&urb, 0, USB_ENDPOINT_XFER_CONTROL, 7);
    urb.transfer.setup =
        (struct usbip_setup){.bmRequestType = 0x21, .bRequest = 0x20, .wLength = 7};
    const uint8_t line_coding[7] = {0x00, 0xc2, 0x01, 0x00, 0, 0, 8};
    memcpy(urb.buffer, line_coding, sizeof line_coding);
    CU_ASSERT_EQUAL(submit(&urb), 0);
    memset(urb.buffer, 0xff, sizeof urb.buffer); /* the session must have its copy */
    const uint8_t expected[55] = {
        0, 0, 0,    1,    0, 0, 0, 2, 0, 1, 0,    2,    0,    0, 0, 0, 0, 0, 0,
        0, 0, 0,    0,    0, 0, 0, 0, 7, 0, 0,    0,    0,    0, 0, 0, 0, 0, 0,
        0, 0, 0x21, 0x20, 0, 0, 0, 0, 7, 0, 0x00, 0xc2, 0x01, 0, 0, 0, 8,
    };
    CU_ASSERT(sends(expected, sizeof expected));
    CU_ASSERT_EQUAL(ret_submit(urb.transfer.seqnum, 0, 7, NULL, 0), 0);
    CU_ASSERT(ended(&urb, 0, 7));
    finish();
}

static void test_C020_control_without_data_is_out(void)
{
    start_imported();
    struct urb urb;
    prepare(&urb, 0, USB_ENDPOINT_XFER_CONTROL, 0);
    urb.transfer.setup = (struct usbip_setup){.bmRequestType = 0x80, .bRequest = 6};
    CU_ASSERT_EQUAL(submit(&urb), 0);
    const uint8_t *data = NULL;
    CU_ASSERT_EQUAL_FATAL(usbip_host_session_take_output(server.session, &data), 48);
    CU_ASSERT_EQUAL(usbip_load_be32(data + 12), USBIP_DIR_OUT);
    finish();
}

static void test_C022_to_C025_bulk_and_interrupt_bytes(void)
{
    start_imported();
    struct urb in, out, interrupt;
    prepare(&in, 0x8f, USB_ENDPOINT_XFER_BULK, 64);
    in.transfer.interval = 9;           /* of no meaning for bulk */
    in.transfer.setup.wLength = 0x1234; /* nor is this */
    in.transfer.transfer_flags = USBIP_URB_SHORT_NOT_OK;
    prepare(&out, 0x02, USB_ENDPOINT_XFER_BULK, 2);
    out.transfer.transfer_flags = USBIP_URB_ZERO_PACKET;
    prepare(&interrupt, 0x83, USB_ENDPOINT_XFER_INT, 10);
    CU_ASSERT_EQUAL(submit(&in), 0);
    CU_ASSERT_EQUAL(submit(&out), 0);
    CU_ASSERT_EQUAL(submit(&interrupt), 0);
    const uint8_t expected[146] = {
        /* IN: ep 15, direction 1, flags 1, 64 bytes, interval 0, setup 0 */
        0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 15, 0, 0, 0, 1, 0, 0, 0, 64, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        /* OUT: ep 2, direction 0, flags 0x40, 2 bytes */
        0, 0, 0, 1, 0, 0, 0, 3, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0x40, 0, 0, 0, 2, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xee, 0xee,
        /* interrupt: interval 1 */
        0, 0, 0, 1, 0, 0, 0, 4, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0};
    CU_ASSERT(sends(expected, sizeof expected));
    finish();
}

static void test_C024_interval_of_the_caller(void)
{
    start_imported();
    struct urb urb;
    prepare(&urb, 0x83, USB_ENDPOINT_XFER_INT, 10);
    urb.transfer.interval = 16;
    CU_ASSERT_EQUAL(submit(&urb), 0);
    const uint8_t *data = NULL;
    CU_ASSERT_EQUAL_FATAL(usbip_host_session_take_output(server.session, &data), 48);
    CU_ASSERT_EQUAL(usbip_load_be32(data + 0x24), 16);
    finish();
}

static void test_C027_C028_unlink_bytes(void)
{
    start_imported();
    struct urb urb;
    submit_in(&urb);
    usbip_host_session_unlink(server.session, &urb.transfer, NOW);
    const uint8_t expected[48] = {0, 0, 0, 2, 0, 0, 0, 3, 0, 1, 0, 2,
                                  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
    CU_ASSERT(sends(expected, sizeof expected));
    usbip_host_session_unlink(server.session, &urb.transfer, NOW);
    CU_ASSERT(sends_nothing());
    CU_ASSERT_EQUAL(ret_unlink(3, -USBIP_ECONNRESET), 0);
    CU_ASSERT(ended(&urb, -USBIP_ECONNRESET, 0));
    usbip_host_session_unlink(server.session, &urb.transfer, NOW);
    CU_ASSERT(sends_nothing());
    finish();
}

static void test_submit_checks_its_arguments(void)
{
    struct urb urb;
    start();
    prepare(&urb, 0x81, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
    CU_ASSERT_EQUAL(submit(&urb), USBIP_ERROR_ARGUMENT); /* not imported */
    finish();

    start_imported();
    CU_ASSERT_EQUAL(submit(&urb), 0);
    CU_ASSERT_EQUAL(submit(&urb), USBIP_ERROR_ARGUMENT); /* in flight */
    struct urb other;
    prepare(&other, 0x81, USB_ENDPOINT_XFER_BULK, USBIP_MAX_TRANSFER_LENGTH + 1);
    CU_ASSERT_EQUAL(submit(&other), USBIP_ERROR_ARGUMENT);
    prepare(&other, 0x80, USB_ENDPOINT_XFER_BULK, 1); /* endpoint 0 is control */
    CU_ASSERT_EQUAL(submit(&other), USBIP_ERROR_ARGUMENT);
    prepare(&other, 0x81, USB_ENDPOINT_XFER_ISOC, 1);
    CU_ASSERT_EQUAL(submit(&other), USBIP_ERROR_ARGUMENT);
    prepare(&other, 0, USB_ENDPOINT_XFER_CONTROL, 8);
    other.transfer.setup.wLength = 9;
    CU_ASSERT_EQUAL(submit(&other), USBIP_ERROR_ARGUMENT);
    prepare(&other, 0x81, USB_ENDPOINT_XFER_BULK, 1);
    other.transfer.buffer = NULL;
    CU_ASSERT_EQUAL(submit(&other), USBIP_ERROR_ARGUMENT);
    prepare(&other, 0x81, USB_ENDPOINT_XFER_BULK, 1);
    other.transfer.transfer_flags = USBIP_URB_NO_INTERRUPT;
    CU_ASSERT_EQUAL(submit(&other), USBIP_ERROR_ARGUMENT);
    CU_ASSERT_EQUAL(usbip_host_session_in_flight(server.session), 1);
    finish();
    CU_ASSERT_EQUAL(urb.done, 1);
    CU_ASSERT_EQUAL(other.done, 0);
}

static void test_taken_output_stays_while_more_is_queued(void)
{
    start_imported();
    struct urb urbs[20];
    prepare(&urbs[0], 0x02, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
    CU_ASSERT_EQUAL_FATAL(submit(&urbs[0]), 0);
    const uint8_t *data = NULL;
    size_t size = usbip_host_session_take_output(server.session, &data);
    uint8_t copy[48 + BUFFER_SIZE];
    CU_ASSERT_EQUAL_FATAL(size, sizeof copy);
    memcpy(copy, data, size);
    for (unsigned i = 1; i < 20; i++) {
        prepare(&urbs[i], 0x02, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
        memset(urbs[i].buffer, (int)i, BUFFER_SIZE);
        CU_ASSERT_EQUAL_FATAL(submit(&urbs[i]), 0);
    }
    CU_ASSERT_EQUAL(memcmp(data, copy, size), 0);
    CU_ASSERT_EQUAL(usbip_host_session_output_size(server.session), 19 * sizeof copy);
    finish();
}

/* ---- How replies are taken ---- */

static void test_in_transfer(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_in(&urb);
    CU_ASSERT_EQUAL(seqnum, 2);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 5, "hello", 5), 0);
    CU_ASSERT(ended(&urb, 0, 5));
    CU_ASSERT_EQUAL(memcmp(urb.buffer, "hello\xee", 6), 0);
    CU_ASSERT_EQUAL(usbip_host_session_in_flight(server.session), 0);

    seqnum = submit_in(&urb);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 0, NULL, 0), 0);
    CU_ASSERT(ended(&urb, 0, 0));

    uint8_t full[BUFFER_SIZE];
    memset(full, 0x55, sizeof full);
    seqnum = submit_in(&urb);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, sizeof full, full, sizeof full), 0);
    CU_ASSERT(ended(&urb, 0, BUFFER_SIZE));
    CU_ASSERT_EQUAL(memcmp(urb.buffer, full, sizeof full), 0);
    CU_ASSERT_EQUAL(urb.buffer[BUFFER_SIZE], 0xee);
    finish();
}

static void test_C031_ret_submit_for_an_unknown_seqnum(void)
{
    start_imported();
    struct urb urb;
    submit_in(&urb);
    CU_ASSERT_EQUAL(ret_submit(77, 0, 0, NULL, 0), USBIP_ERROR_PROTOCOL);
    CU_ASSERT(failed_with(USBIP_ERROR_PROTOCOL, "RET_SUBMIT for seqnum 77"));
    CU_ASSERT(ended(&urb, -USBIP_ESHUTDOWN, 0));
    CU_ASSERT_EQUAL(submit(&urb), USBIP_ERROR_DISCONNECTED);
    finish();
    CU_ASSERT_EQUAL(urb.done, 1);
}

static void test_ret_submit_for_seqnum_0(void)
{
    start_imported();
    CU_ASSERT_EQUAL(ret_submit(0, 0, 0, NULL, 0), USBIP_ERROR_PROTOCOL);
    finish();
}

static void test_ret_submit_for_the_seqnum_of_an_unlink(void)
{
    start_imported();
    struct urb urb;
    submit_in(&urb);
    uint32_t unlink_seqnum = unlink_urb(&urb, NOW);
    CU_ASSERT_EQUAL(ret_submit(unlink_seqnum, 0, 0, NULL, 0), USBIP_ERROR_PROTOCOL);
    CU_ASSERT(ended(&urb, -USBIP_ESHUTDOWN, 0));
    finish();
}

static void test_ret_unlink_for_the_seqnum_of_a_submit(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_in(&urb);
    unlink_urb(&urb, NOW);
    CU_ASSERT_EQUAL(ret_unlink(seqnum, -USBIP_ECONNRESET), 0);
    CU_ASSERT_EQUAL(urb.done, 0);
    finish();
}

static void test_C032_ret_submit_twice(void)
{
    start_imported();
    struct urb urb, other;
    uint32_t seqnum = submit_in(&urb);
    submit_in(&other);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 2, "ab", 2), 0);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 2, "ab", 2), USBIP_ERROR_PROTOCOL);
    CU_ASSERT(failed_with(USBIP_ERROR_PROTOCOL, "answered before"));
    CU_ASSERT(ended(&urb, 0, 2));
    CU_ASSERT(ended(&other, -USBIP_ESHUTDOWN, 0));
    finish();
}

static void test_C033_late_ret_submit_is_drained(void)
{
    start_imported();
    struct urb urb, other;
    uint32_t seqnum = submit_in(&urb);
    uint32_t other_seqnum = submit_in(&other);
    uint32_t unlink_seqnum = unlink_urb(&urb, NOW);
    struct bytes bytes = {.size = 0};
    add_ret_unlink(&bytes, unlink_seqnum, -USBIP_ECONNRESET);
    add_ret_submit(&bytes, seqnum, 0, 4, "late", 4);
    add_ret_submit(&bytes, other_seqnum, 0, 2, "ok", 2);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT(ended(&urb, -USBIP_ECONNRESET, 0));
    CU_ASSERT_EQUAL(urb.buffer[0], 0xee); /* the buffer is the caller's again */
    CU_ASSERT(ended(&other, 0, 2));
    CU_ASSERT_EQUAL(memcmp(other.buffer, "ok", 2), 0);
    /* Once, and no more. */
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 4, "late", 4), USBIP_ERROR_PROTOCOL);
    finish();
}

static void test_C033_late_ret_submit_of_an_out_transfer(void)
{
    start_imported();
    struct urb urb, other;
    uint32_t seqnum = submit_out(&urb, 4);
    uint32_t other_seqnum = submit_in(&other);
    uint32_t unlink_seqnum = unlink_urb(&urb, NOW);
    struct bytes bytes = {.size = 0};
    add_ret_unlink(&bytes, unlink_seqnum, 0);
    add_ret_submit(&bytes, seqnum, 0, 4, NULL, 0); /* no payload behind it */
    add_ret_submit(&bytes, other_seqnum, 0, 2, "ok", 2);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT(ended(&urb, -USBIP_ECONNRESET, 0));
    CU_ASSERT(ended(&other, 0, 2));
    finish();
}

static void test_C033_late_ret_submit_with_too_much(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_in(&urb);
    CU_ASSERT_EQUAL(ret_unlink(unlink_urb(&urb, NOW), -USBIP_ECONNRESET), 0);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, BUFFER_SIZE + 1, NULL, 0), USBIP_ERROR_PROTOCOL);
    finish();
}

static void test_C033_the_last_256_are_remembered(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnums[USBIP_RECENTLY_UNLINKED + 1];
    for (unsigned i = 0; i <= USBIP_RECENTLY_UNLINKED; i++) {
        seqnums[i] = submit_in(&urb);
        CU_ASSERT_EQUAL_FATAL(ret_unlink(unlink_urb(&urb, NOW), -USBIP_ECONNRESET), 0);
    }
    for (unsigned i = USBIP_RECENTLY_UNLINKED; i >= 1; i--)
        CU_ASSERT_EQUAL_FATAL(ret_submit(seqnums[i], 0, 4, "late", 4), 0);
    CU_ASSERT_EQUAL(ret_submit(seqnums[0], 0, 4, "late", 4), USBIP_ERROR_PROTOCOL);
    finish();
}

static void test_C034_ret_submit_wins_over_unlink(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_in(&urb);
    uint32_t unlink_seqnum = unlink_urb(&urb, NOW);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 4, "data", 4), 0);
    CU_ASSERT(ended(&urb, 0, 4));
    CU_ASSERT_EQUAL(memcmp(urb.buffer, "data", 4), 0);
    CU_ASSERT_EQUAL(ret_unlink(unlink_seqnum, 0), 0);
    CU_ASSERT(ended(&urb, 0, 4));
    finish();
}

static void test_C035_ret_unlink_0_without_ret_submit(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_in(&urb);
    CU_ASSERT_EQUAL(ret_unlink(unlink_urb(&urb, NOW), 0), 0);
    CU_ASSERT(ended(&urb, -USBIP_ECONNRESET, 0));
    CU_ASSERT_EQUAL(usbip_host_session_in_flight(server.session), 0);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 4, "late", 4), 0);
    CU_ASSERT_EQUAL(urb.done, 1);
    finish();
}

static void test_C036_any_status_of_ret_unlink_cancels(void)
{
    const int32_t statuses[] = {-USBIP_EPIPE, -USBIP_ENOENT, USBIP_ECONNRESET};
    for (unsigned i = 0; i < 3; i++) {
        start_imported();
        struct urb urb;
        submit_in(&urb);
        CU_ASSERT_EQUAL(ret_unlink(unlink_urb(&urb, NOW), statuses[i]), 0);
        CU_ASSERT(ended(&urb, -USBIP_ECONNRESET, 0));
        finish();
    }
}

static void test_C037_missing_ret_unlink_is_nudged_then_given_up(void)
{
    start_imported();
    struct urb urb, second;
    submit_in(&urb);
    submit_in(&second);
    unlink_urb(&urb, NOW);
    unlink_urb(&second, NOW + 100);
    CU_ASSERT_EQUAL(usbip_host_session_deadline_ms(server.session), NOW + USBIP_UNLINK_NUDGE_MS);
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + USBIP_UNLINK_NUDGE_MS - 1), 0);
    CU_ASSERT(sends_nothing());
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + USBIP_UNLINK_NUDGE_MS), 0);
    const uint8_t get_status[48] = {
        0, 0, 0, 1, 0, 0, 0, 6, 0, 1, 0, 2, 0, 0, 0, 1, 0,    0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 2, 0,
    };
    CU_ASSERT(sends(get_status, sizeof get_status));
    CU_ASSERT_EQUAL(usbip_host_session_in_flight(server.session), 2);
    /* The other one's turn, but a nudge is on its way. */
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 100 + USBIP_UNLINK_NUDGE_MS),
                    0);
    CU_ASSERT(sends_nothing());
    CU_ASSERT_EQUAL(ret_submit(6, 0, 2, "\1", 2), 0);

    CU_ASSERT_EQUAL(usbip_host_session_deadline_ms(server.session), NOW + USBIP_UNLINK_TIMEOUT_MS);
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + USBIP_UNLINK_TIMEOUT_MS - 1),
                    0);
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + USBIP_UNLINK_TIMEOUT_MS),
                    USBIP_ERROR_TIMEOUT);
    CU_ASSERT(failed_with(USBIP_ERROR_TIMEOUT, "no RET_UNLINK for seqnum 2"));
    CU_ASSERT(ended(&urb, -USBIP_ESHUTDOWN, 0));
    CU_ASSERT(ended(&second, -USBIP_ESHUTDOWN, 0));
    CU_ASSERT_EQUAL(usbip_host_session_deadline_ms(server.session), UINT64_MAX);
    finish();
}

static void test_C037_nudge_helps(void)
{
    const int32_t nudge_statuses[] = {0, -USBIP_EPIPE};
    for (unsigned i = 0; i < 2; i++) {
        start_imported();
        struct urb urb;
        submit_in(&urb);
        uint32_t unlink_seqnum = unlink_urb(&urb, NOW);
        CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 500), 0);
        drop_output();
        uint32_t actual_length = nudge_statuses[i] == 0 ? 2 : 0;
        CU_ASSERT_EQUAL(ret_submit(4, nudge_statuses[i], actual_length, "\0", actual_length), 0);
        CU_ASSERT_EQUAL(ret_unlink(unlink_seqnum, 0), 0);
        CU_ASSERT(ended(&urb, -USBIP_ECONNRESET, 0));
        CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 100000), 0);
        CU_ASSERT_EQUAL(usbip_host_session_deadline_ms(server.session), UINT64_MAX);
        finish();
    }
}

static void test_C037_late_advance_still_gives_the_nudge_time(void)
{
    start_imported();
    struct urb urb;
    submit_in(&urb);
    unlink_urb(&urb, NOW);
    uint64_t late_ms = NOW + 10 * USBIP_UNLINK_TIMEOUT_MS;
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, late_ms), 0);
    CU_ASSERT_EQUAL(usbip_host_session_output_size(server.session), 48);
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, late_ms), 0);
    CU_ASSERT_EQUAL(usbip_host_session_deadline_ms(server.session),
                    late_ms + USBIP_UNLINK_TIMEOUT_MS - USBIP_UNLINK_NUDGE_MS);
    finish();
}

static void test_ret_unlink_of_an_ended_transfer_may_stay_away(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_in(&urb);
    uint32_t unlink_seqnum = unlink_urb(&urb, NOW);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 0, NULL, 0), 0);
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 60000), 0);
    CU_ASSERT(sends_nothing()); /* no nudge either */
    CU_ASSERT_EQUAL(ret_unlink(unlink_seqnum, 0), 0);
    CU_ASSERT_EQUAL(urb.done, 1);
    finish();
}

static void test_C038_unsolicited_ret_unlink_is_ignored(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_in(&urb);
    CU_ASSERT_EQUAL(ret_unlink(0xdead, -USBIP_ECONNRESET), 0);
    CU_ASSERT_EQUAL(ret_unlink(0, 0), 0);
    CU_ASSERT_EQUAL(urb.done, 0);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 1, "x", 1), 0);
    CU_ASSERT(ended(&urb, 0, 1));
    finish();
}

static void test_C039_unknown_commands(void)
{
    const uint32_t commands[] = {0, 1, 2, 5, UINT32_MAX};
    for (unsigned i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        start_imported();
        struct urb urb;
        submit_in(&urb);
        uint8_t bytes[USBIP_HEADER_SIZE] = {0};
        usbip_store_be32(bytes, commands[i]);
        usbip_store_be32(bytes + 4, 2);
        CU_ASSERT_EQUAL(feed(bytes, sizeof bytes), USBIP_ERROR_PROTOCOL);
        char words[32];
        snprintf(words, sizeof words, "command %u", (unsigned)commands[i]);
        CU_ASSERT(failed_with(USBIP_ERROR_PROTOCOL, words));
        CU_ASSERT(ended(&urb, -USBIP_ESHUTDOWN, 0));
        finish();
    }
}

static void test_C040_C041_echoed_fields_are_ignored(void)
{
    const int32_t packets[] = {0, -1, 42};
    for (unsigned i = 0; i < 6; i++) {
        start_imported();
        struct urb in, out;
        struct usbip_header header = {
            .command = USBIP_RET_SUBMIT,
            .seqnum = submit_in(&in),
            .devid = DEVID,
            .direction = i % 2, /* right as well as wrong */
            .ep = 7,
            .ret_submit = {.actual_length = 3,
                           .number_of_packets = packets[i / 2],
                           .start_frame = 5},
        };
        struct bytes bytes = {.size = 0};
        uint8_t pdu[USBIP_HEADER_SIZE];
        usbip_encode_header(pdu, &header);
        add(&bytes, pdu, sizeof pdu);
        add(&bytes, "abc", 3);
        header.seqnum = submit_out(&out, 3);
        usbip_encode_header(pdu, &header);
        add(&bytes, pdu, sizeof pdu);
        CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
        CU_ASSERT(ended(&in, 0, 3));
        CU_ASSERT_EQUAL(memcmp(in.buffer, "abc\xee", 4), 0);
        CU_ASSERT(ended(&out, 0, 3));
        finish();
    }
}

static void test_C042_C043_actual_length_out_of_range(void)
{
    const uint32_t lengths[] = {BUFFER_SIZE + 1, UINT32_MAX, 0x80000000, INT32_MAX};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned out = 0; out < 2; out++) {
            start_imported();
            struct urb urb;
            uint8_t payload[BUFFER_SIZE + 1] = {0};
            uint32_t seqnum = out ? submit_out(&urb, BUFFER_SIZE) : submit_in(&urb);
            CU_ASSERT_EQUAL(ret_submit(seqnum, 0, lengths[i], payload, out ? 0 : sizeof payload),
                            USBIP_ERROR_PROTOCOL);
            CU_ASSERT(failed_with(USBIP_ERROR_PROTOCOL, "actual_length"));
            CU_ASSERT(ended(&urb, -USBIP_ESHUTDOWN, 0));
            CU_ASSERT_EQUAL(urb.buffer[0], 0xee);
            CU_ASSERT_EQUAL(urb.buffer[BUFFER_SIZE], 0xee);
            finish();
        }
    }
}

static void test_C044_short_out_tells_the_true_count(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_out(&urb, 10);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 9, NULL, 0), 0);
    CU_ASSERT(ended(&urb, 0, 9));
    finish();
}

static void test_C045_payload_of_an_out_reply_is_noticed(void)
{
    start_imported();
    struct urb urb, other;
    submit_in(&other);
    uint8_t payload[USBIP_HEADER_SIZE];
    memset(payload, 'p', sizeof payload);
    uint32_t seqnum = submit_out(&urb, sizeof payload);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, sizeof payload, payload, sizeof payload),
                    USBIP_ERROR_PROTOCOL);
    CU_ASSERT(ended(&urb, 0, sizeof payload));
    CU_ASSERT(ended(&other, -USBIP_ESHUTDOWN, 0));
    finish();
}

static void test_C046_error_with_data(void)
{
    start_imported();
    struct urb urb, next;
    uint32_t seqnum = submit_in(&urb);
    uint32_t next_seqnum = submit_in(&next);
    struct bytes bytes = {.size = 0};
    add_ret_submit(&bytes, seqnum, -USBIP_EREMOTEIO, 5, "short", 5);
    add_ret_submit(&bytes, next_seqnum, -USBIP_EOVERFLOW, 1, "x", 1);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    CU_ASSERT(ended(&urb, -USBIP_EREMOTEIO, 5));
    CU_ASSERT_EQUAL(memcmp(urb.buffer, "short\xee", 6), 0);
    CU_ASSERT(ended(&next, -USBIP_EOVERFLOW, 1));
    finish();
}

static void test_C048_positive_status(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_in(&urb);
    CU_ASSERT_EQUAL(ret_submit(seqnum, 32, 0, NULL, 0), 0);
    CU_ASSERT(ended(&urb, -USBIP_EPIPE, 0));
    seqnum = submit_in(&urb);
    CU_ASSERT_EQUAL(ret_submit(seqnum, INT32_MIN, 0, NULL, 0), 0);
    CU_ASSERT(ended(&urb, INT32_MIN, 0));
    finish();
}

static void test_C050_stall_of_one_request(void)
{
    start_imported();
    struct urb urb, other;
    uint32_t other_seqnum = submit_in(&other);
    prepare(&urb, 0, USB_ENDPOINT_XFER_CONTROL, 18);
    urb.transfer.setup = (struct usbip_setup){.bmRequestType = 0x80, .bRequest = 6, .wLength = 18};
    CU_ASSERT_EQUAL(submit(&urb), 0);
    CU_ASSERT_EQUAL(ret_submit(urb.transfer.seqnum, -USBIP_EPIPE, 0, NULL, 0), 0);
    CU_ASSERT(ended(&urb, -USBIP_EPIPE, 0));
    CU_ASSERT_EQUAL(ret_submit(other_seqnum, 0, 1, "x", 1), 0);
    CU_ASSERT(ended(&other, 0, 1));
    finish();
}

static void test_C052_replies_in_any_order(void)
{
    start_imported();
    struct urb urbs[3];
    uint32_t seqnums[3];
    for (unsigned i = 0; i < 3; i++)
        seqnums[i] = submit_in(&urbs[i]);
    struct bytes bytes = {.size = 0};
    add_ret_submit(&bytes, seqnums[2], 0, 1, "c", 1);
    add_ret_submit(&bytes, seqnums[0], 0, 2, "aa", 2);
    add_ret_submit(&bytes, seqnums[1], 0, 3, "bbb", 3);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), 0);
    for (unsigned i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(urbs[i].done, 1);
        CU_ASSERT_EQUAL(urbs[i].buffer[0], 'a' + i);
    }
    CU_ASSERT_EQUAL(urbs[0].transfer.actual_length, 2);
    finish();
}

static void test_C057_lost_in_the_middle_of_a_payload(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_in(&urb);
    struct bytes bytes = {.size = 0};
    add_ret_submit(&bytes, seqnum, 0, 8, "12345678", 8);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size - 1), 0);
    CU_ASSERT_EQUAL(urb.done, 0);
    usbip_host_session_fail(server.session, USBIP_ERROR_DISCONNECTED, "closed");
    CU_ASSERT(failed_with(USBIP_ERROR_DISCONNECTED, "closed"));
    CU_ASSERT(ended(&urb, -USBIP_ESHUTDOWN, 0));
    CU_ASSERT_EQUAL(urb.buffer[0], 0xee);
    finish();
}

/* ---- Failure and re-entrance ---- */

static void test_first_failure_wins(void)
{
    start_imported();
    usbip_host_session_fail(server.session, USBIP_ERROR_DISCONNECTED, "first");
    usbip_host_session_fail(server.session, USBIP_ERROR_TIMEOUT, "second");
    CU_ASSERT(failed_with(USBIP_ERROR_DISCONNECTED, "first"));
    CU_ASSERT_EQUAL(ret_unlink(9, 0), USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 1000),
                    USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_EQUAL(usbip_host_session_request_devlist(server.session), USBIP_ERROR_DISCONNECTED);
    finish();
}

static void test_failure_drops_what_is_not_sent(void)
{
    start_imported();
    struct urb urb;
    prepare(&urb, 0x81, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
    CU_ASSERT_EQUAL(submit(&urb), 0);
    usbip_host_session_fail(server.session, USBIP_ERROR_DISCONNECTED, NULL);
    CU_ASSERT(sends_nothing());
    finish();
}

static struct urb *victim;

static void resubmit_on_done(struct usbip_transfer *transfer)
{
    on_done(transfer);
    usbip_host_session_submit(server.session, transfer, NOW);
}

static void unlink_victim_on_done(struct usbip_transfer *transfer)
{
    on_done(transfer);
    usbip_host_session_unlink(server.session, &victim->transfer, NOW);
}

static void fail_on_done(struct usbip_transfer *transfer)
{
    on_done(transfer);
    usbip_host_session_fail(server.session, USBIP_ERROR_DISCONNECTED, "by the owner");
}

static void test_submit_from_within_done(void)
{
    start_imported();
    struct urb urb;
    uint32_t seqnum = submit_in(&urb);
    urb.transfer.done = resubmit_on_done;
    for (unsigned i = 1; i <= 200; i++) {
        CU_ASSERT_EQUAL_FATAL(ret_submit(seqnum, 0, 1, "x", 1), 0);
        CU_ASSERT_EQUAL_FATAL(urb.done, i);
        CU_ASSERT_EQUAL(urb.transfer.seqnum, seqnum + 1);
        seqnum = urb.transfer.seqnum;
        drop_output();
    }
    CU_ASSERT_EQUAL(usbip_host_session_in_flight(server.session), 1);
    finish(); /* resubmitting into the failing session must come to an end */
    CU_ASSERT_EQUAL(urb.done, 201);
}

static void test_unlink_from_within_done(void)
{
    start_imported();
    struct urb urb, other;
    victim = &other;
    uint32_t seqnum = submit_in(&urb);
    uint32_t other_seqnum = submit_in(&other);
    urb.transfer.done = unlink_victim_on_done;
    CU_ASSERT_EQUAL(ret_submit(seqnum, 0, 1, "x", 1), 0);
    CU_ASSERT_NOT_EQUAL(other.transfer.unlink_seqnum, 0);
    CU_ASSERT_EQUAL(usbip_host_session_output_size(server.session), 48);
    CU_ASSERT_EQUAL(ret_submit(other_seqnum, 0, 1, "x", 1), 0);
    CU_ASSERT(ended(&other, 0, 1));
    finish();
}

static void test_fail_from_within_done(void)
{
    start_imported();
    struct urb urb, other;
    uint32_t seqnum = submit_in(&urb);
    uint32_t other_seqnum = submit_in(&other);
    urb.transfer.done = fail_on_done;
    struct bytes bytes = {.size = 0};
    add_ret_submit(&bytes, seqnum, 0, 1, "x", 1);
    add_ret_submit(&bytes, other_seqnum, 0, 1, "y", 1);
    CU_ASSERT_EQUAL(feed(bytes.data, bytes.size), USBIP_ERROR_DISCONNECTED);
    CU_ASSERT(ended(&urb, 0, 1));
    CU_ASSERT(ended(&other, -USBIP_ESHUTDOWN, 0));
    finish();
    CU_ASSERT_EQUAL(urb.done, 1);
}

static void test_free_ends_transfers(void)
{
    start_imported();
    struct urb urbs[3];
    for (unsigned i = 0; i < 3; i++)
        submit_in(&urbs[i]);
    unlink_urb(&urbs[1], NOW);
    urbs[0].transfer.done = fail_on_done;
    finish();
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(ended(&urbs[i], -USBIP_ESHUTDOWN, 0));
    usbip_host_session_free(NULL);
}

/* ---- Time ---- */

static void test_time_out(void)
{
    start_imported();
    struct urb urb;
    prepare(&urb, 0x81, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
    urb.transfer.timeout_ms = 50;
    CU_ASSERT_EQUAL(usbip_host_session_deadline_ms(server.session), UINT64_MAX);
    CU_ASSERT_EQUAL(submit(&urb), 0);
    drop_output();
    CU_ASSERT_EQUAL(usbip_host_session_deadline_ms(server.session), NOW + 50);
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 49), 0);
    CU_ASSERT(sends_nothing());
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 50), 0);
    CU_ASSERT_EQUAL(usbip_host_session_output_size(server.session), 48);
    CU_ASSERT_EQUAL(urb.done, 0);
    CU_ASSERT_EQUAL(usbip_host_session_deadline_ms(server.session), NOW + 550);
    CU_ASSERT_EQUAL(ret_unlink(urb.transfer.unlink_seqnum, -USBIP_ECONNRESET), 0);
    CU_ASSERT(ended(&urb, -USBIP_ETIMEDOUT, 0));
    finish();
}

static void test_time_out_answered_by_ret_submit(void)
{
    const struct {
        int32_t status, expected;
    } cases[] = {{0, 0}, {-USBIP_ECONNRESET, -USBIP_ETIMEDOUT}, {-USBIP_EPIPE, -USBIP_EPIPE}};
    for (unsigned i = 0; i < 3; i++) {
        start_imported();
        struct urb urb;
        prepare(&urb, 0x81, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
        urb.transfer.timeout_ms = 50;
        CU_ASSERT_EQUAL(submit(&urb), 0);
        CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 50), 0);
        CU_ASSERT_EQUAL(ret_submit(urb.transfer.seqnum, cases[i].status, 1, "x", 1), 0);
        CU_ASSERT(ended(&urb, cases[i].expected, 1));
        finish();
    }
}

static void test_deadline_after_the_first_has_ended(void)
{
    start_imported();
    struct urb urb, later;
    prepare(&urb, 0x81, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
    urb.transfer.timeout_ms = 50;
    prepare(&later, 0x81, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
    later.transfer.timeout_ms = 80;
    CU_ASSERT_EQUAL(submit(&urb), 0);
    CU_ASSERT_EQUAL(submit(&later), 0);
    CU_ASSERT_EQUAL(ret_submit(urb.transfer.seqnum, 0, 0, NULL, 0), 0);
    drop_output();
    /* A deadline that is too early costs one call; one that is too late would be an error. */
    CU_ASSERT(usbip_host_session_deadline_ms(server.session) <= NOW + 80);
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 50), 0);
    CU_ASSERT(sends_nothing());
    CU_ASSERT_EQUAL(usbip_host_session_deadline_ms(server.session), NOW + 80);
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 80), 0);
    CU_ASSERT_EQUAL(usbip_host_session_output_size(server.session), 48);
    finish();
}

static void test_unlinked_by_hand_is_no_time_out(void)
{
    start_imported();
    struct urb urb;
    prepare(&urb, 0x81, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
    urb.transfer.timeout_ms = 50;
    CU_ASSERT_EQUAL(submit(&urb), 0);
    uint32_t unlink_seqnum = unlink_urb(&urb, NOW);
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 60), 0);
    CU_ASSERT_EQUAL(ret_unlink(unlink_seqnum, -USBIP_ECONNRESET), 0);
    CU_ASSERT(ended(&urb, -USBIP_ECONNRESET, 0));
    finish();
}

/* ---- Many ---- */

static void test_limit_of_transfers(void)
{
    start_imported();
    struct urb *urbs = calloc(USBIP_MAX_TRANSFERS + 1, sizeof *urbs);
    CU_ASSERT_PTR_NOT_NULL_FATAL(urbs);
    for (unsigned i = 0; i < USBIP_MAX_TRANSFERS; i++)
        submit_in(&urbs[i]);
    prepare(&urbs[USBIP_MAX_TRANSFERS], 0x81, USB_ENDPOINT_XFER_BULK, BUFFER_SIZE);
    CU_ASSERT_EQUAL(submit(&urbs[USBIP_MAX_TRANSFERS]), USBIP_ERROR_LIMIT);
    for (unsigned i = 0; i < USBIP_MAX_TRANSFERS; i++)
        unlink_urb(&urbs[i], NOW);
    /* Full, and the nudge still has room. */
    CU_ASSERT_EQUAL(usbip_host_session_advance(server.session, NOW + 500), 0);
    CU_ASSERT_EQUAL(usbip_host_session_output_size(server.session), 48);
    for (unsigned i = 0; i < USBIP_MAX_TRANSFERS; i++) {
        uint32_t unlink_seqnum = urbs[i].transfer.unlink_seqnum;
        CU_ASSERT_EQUAL_FATAL(ret_unlink(unlink_seqnum, -USBIP_ECONNRESET), 0);
        CU_ASSERT_EQUAL_FATAL(urbs[i].done, 1);
    }
    CU_ASSERT_EQUAL(usbip_host_session_in_flight(server.session), 0);
    CU_ASSERT_EQUAL(submit(&urbs[USBIP_MAX_TRANSFERS]), 0);
    finish();
    free(urbs);
}

/* Some transfers stay in flight for long while seqnums run past them many times over. */
static void test_seqnums_pass_over_those_in_flight(void)
{
    start_imported();
    struct urb idle[20], urb;
    for (unsigned i = 0; i < 20; i++)
        submit_in(&idle[i]);
    for (unsigned i = 0; i < 1000; i++) {
        uint32_t seqnum = submit_in(&urb);
        CU_ASSERT_FATAL(seqnum >= 2 && seqnum < 0x80000000);
        CU_ASSERT_EQUAL_FATAL(ret_submit(seqnum, 0, 2, "ab", 2), 0);
        CU_ASSERT_EQUAL_FATAL(urb.done, 1);
    }
    for (unsigned i = 0; i < 20; i++) {
        CU_ASSERT_EQUAL_FATAL(idle[i].done, 0);
        CU_ASSERT_EQUAL_FATAL(ret_submit(idle[i].transfer.seqnum, 0, 1, "x", 1), 0);
        CU_ASSERT(ended(&idle[i], 0, 1));
    }
    finish();
}

static uint32_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % limit;
}

/* Random submits, unlinks and answers; the state of each transfer is known here as well. */
static void test_random_traffic(void)
{
    enum { COUNT = 300, STEPS = 40000 };
    static struct urb urbs[COUNT];
    static bool flying[COUNT];
    memset(flying, 0, sizeof flying);
    random_state = 1;
    start_imported();
    unsigned in_flight = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = random_below(COUNT);
        struct urb *urb = &urbs[i];
        if (!flying[i]) {
            if (random_below(2) == 0)
                submit_in(urb);
            else
                submit_out(urb, 1 + random_below(BUFFER_SIZE));
            flying[i] = true;
            in_flight++;
            continue;
        }
        uint32_t seqnum = urb->transfer.seqnum;
        uint32_t length = random_below(urb->transfer.length + 1);
        uint8_t payload[BUFFER_SIZE];
        memset(payload, (int)(step & 0x7f), sizeof payload);
        bool in = urb->transfer.endpoint == 0x81;
        switch (random_below(4)) {
        case 0:
            if (urb->transfer.unlink_seqnum == 0) {
                unlink_urb(urb, NOW);
                CU_ASSERT_NOT_EQUAL_FATAL(urb->transfer.unlink_seqnum, 0);
            }
            continue;
        case 1:
            if (urb->transfer.unlink_seqnum == 0)
                continue;
            CU_ASSERT_EQUAL_FATAL(ret_unlink(urb->transfer.unlink_seqnum, 0), 0);
            CU_ASSERT_EQUAL_FATAL(urb->transfer.status, -USBIP_ECONNRESET);
            if (random_below(2) == 0) /* and the late answer */
                CU_ASSERT_EQUAL_FATAL(ret_submit(seqnum, 0, length, payload, in ? length : 0), 0);
            break;
        default: {
            uint32_t unlink_seqnum = urb->transfer.unlink_seqnum;
            CU_ASSERT_EQUAL_FATAL(ret_submit(seqnum, 0, length, payload, in ? length : 0), 0);
            CU_ASSERT_EQUAL_FATAL(urb->transfer.actual_length, length);
            CU_ASSERT_FATAL(!in || memcmp(urb->buffer, payload, length) == 0);
            if (unlink_seqnum != 0 && random_below(2) == 0)
                CU_ASSERT_EQUAL_FATAL(ret_unlink(unlink_seqnum, 0), 0);
            break;
        }
        }
        CU_ASSERT_EQUAL_FATAL(urb->done, 1);
        flying[i] = false;
        in_flight--;
        CU_ASSERT_EQUAL_FATAL(usbip_host_session_in_flight(server.session), in_flight);
    }
    finish();
    for (unsigned i = 0; i < COUNT; i++)
        CU_ASSERT(!flying[i] || ended(&urbs[i], -USBIP_ESHUTDOWN, 0));
}

static void test_large_transfer(void)
{
    enum { LENGTH = 1 << 18 };
    start_imported();
    struct urb urb;
    prepare(&urb, 0x81, USB_ENDPOINT_XFER_BULK, LENGTH);
    uint8_t *buffer = malloc(LENGTH);
    uint8_t *reply = malloc(USBIP_HEADER_SIZE + LENGTH);
    CU_ASSERT_FATAL(buffer != NULL && reply != NULL);
    urb.transfer.buffer = buffer;
    CU_ASSERT_EQUAL(submit(&urb), 0);
    usbip_encode_header(reply, &(struct usbip_header){.command = USBIP_RET_SUBMIT,
                                                      .seqnum = urb.transfer.seqnum,
                                                      .ret_submit = {.actual_length = LENGTH}});
    for (unsigned i = 0; i < LENGTH; i++)
        reply[USBIP_HEADER_SIZE + i] = (uint8_t)(i * 7 >> 3);
    CU_ASSERT_EQUAL(feed(reply, USBIP_HEADER_SIZE + LENGTH), 0);
    CU_ASSERT(ended(&urb, 0, LENGTH));
    CU_ASSERT_EQUAL(memcmp(buffer, reply + USBIP_HEADER_SIZE, LENGTH), 0);
    finish();
    free(reply);
    free(buffer);
}

static void test_error_names(void)
{
    for (int error = USBIP_ERROR_LIMIT; error < 0; error++)
        CU_ASSERT_STRING_NOT_EQUAL(usbip_error_name(error), "unknown");
    CU_ASSERT_STRING_EQUAL(usbip_error_name(USBIP_ERROR_TIMEOUT), "TIMEOUT");
    CU_ASSERT_STRING_EQUAL(usbip_error_name(0), "unknown");
    CU_ASSERT_STRING_EQUAL(usbip_error_name(USBIP_ERROR_LIMIT - 1), "unknown");
}

static int in_one_piece(void)
{
    fragmented = false;
    return 0;
}

static int byte_by_byte(void)
{
    fragmented = true;
    return 0;
}

#define TEST(function)                                                                             \
    {                                                                                              \
#function, function                                                                        \
    }

int main(void)
{
    CU_TestInfo tests[] = {
        TEST(test_import_request_bytes),
        TEST(test_import_request_checks_busid),
        TEST(test_devlist_request_bytes),
        TEST(test_server_that_speaks_first),
        TEST(test_C001_reply_version),
        TEST(test_C002_reply_code),
        TEST(test_C003_C004_import_status),
        TEST(test_C005_refusal_with_a_body),
        TEST(test_C006_busid_mismatch),
        TEST(test_C007_C018_devid),
        TEST(test_C008_speeds_are_passed_on),
        TEST(test_C009_truncated_import),
        TEST(test_C012_import_and_ret_unlink_in_one_piece),
        TEST(test_devlist),
        TEST(test_C013_devlist_lies),
        TEST(test_devlist_with_255_interfaces),
        TEST(test_C014_empty_lists),
        TEST(test_C015_strings_without_end),
        TEST(test_C016_devlist_stops_at_ndev),
        TEST(test_devlist_refused),
        TEST(test_C020_C021_control_in_bytes),
        TEST(test_C020_C021_control_out_bytes),
        TEST(test_C020_control_without_data_is_out),
        TEST(test_C022_to_C025_bulk_and_interrupt_bytes),
        TEST(test_C024_interval_of_the_caller),
        TEST(test_C027_C028_unlink_bytes),
        TEST(test_submit_checks_its_arguments),
        TEST(test_taken_output_stays_while_more_is_queued),
        TEST(test_in_transfer),
        TEST(test_C031_ret_submit_for_an_unknown_seqnum),
        TEST(test_ret_submit_for_seqnum_0),
        TEST(test_ret_submit_for_the_seqnum_of_an_unlink),
        TEST(test_ret_unlink_for_the_seqnum_of_a_submit),
        TEST(test_C032_ret_submit_twice),
        TEST(test_C033_late_ret_submit_is_drained),
        TEST(test_C033_late_ret_submit_of_an_out_transfer),
        TEST(test_C033_late_ret_submit_with_too_much),
        TEST(test_C033_the_last_256_are_remembered),
        TEST(test_C034_ret_submit_wins_over_unlink),
        TEST(test_C035_ret_unlink_0_without_ret_submit),
        TEST(test_C036_any_status_of_ret_unlink_cancels),
        TEST(test_C037_missing_ret_unlink_is_nudged_then_given_up),
        TEST(test_C037_nudge_helps),
        TEST(test_C037_late_advance_still_gives_the_nudge_time),
        TEST(test_ret_unlink_of_an_ended_transfer_may_stay_away),
        TEST(test_C038_unsolicited_ret_unlink_is_ignored),
        TEST(test_C039_unknown_commands),
        TEST(test_C040_C041_echoed_fields_are_ignored),
        TEST(test_C042_C043_actual_length_out_of_range),
        TEST(test_C044_short_out_tells_the_true_count),
        TEST(test_C045_payload_of_an_out_reply_is_noticed),
        TEST(test_C046_error_with_data),
        TEST(test_C048_positive_status),
        TEST(test_C050_stall_of_one_request),
        TEST(test_C052_replies_in_any_order),
        TEST(test_C057_lost_in_the_middle_of_a_payload),
        TEST(test_first_failure_wins),
        TEST(test_failure_drops_what_is_not_sent),
        TEST(test_submit_from_within_done),
        TEST(test_unlink_from_within_done),
        TEST(test_fail_from_within_done),
        TEST(test_free_ends_transfers),
        TEST(test_time_out),
        TEST(test_time_out_answered_by_ret_submit),
        TEST(test_deadline_after_the_first_has_ended),
        TEST(test_unlinked_by_hand_is_no_time_out),
        TEST(test_limit_of_transfers),
        TEST(test_seqnums_pass_over_those_in_flight),
        TEST(test_random_traffic),
        TEST(test_large_transfer),
        TEST(test_error_names),
        CU_TEST_INFO_NULL,
    };
    CU_SuiteInfo suites[] = {
        {"in one piece", in_one_piece, NULL, NULL, NULL, tests},
        {"byte by byte", byte_by_byte, NULL, NULL, NULL, tests},
        CU_SUITE_INFO_NULL,
    };
    return run_suites(suites);
}
