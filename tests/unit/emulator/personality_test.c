/*
 * Personalities: each switch by itself, on top of "strict". Which server has which is the table's
 * business, and the conformance suite's.
 */
#include "protocol/bytes.h"
#include "tests/unit/emulator/session_fixture.h"

enum { IN = 0x81, OUT = 0x02, INTERRUPT = 0x83, MISSING_IN = 0x8f, MISSING_OUT = 0x0f };

#define ZEROS_29 "0000000000 00000000 00000000 00000000 00000000 00000000 00000000"
#define REQ_DEVLIST "0111 8005 00000000"
#define REQ_IMPORT_1_1 "0111 8003 00000000 312d31" ZEROS_29
#define REQ_IMPORT_9_9 "0111 8003 00000000 392d39" ZEROS_29
#define NO_DEVICES "0111 0005 00000000 00000000"
#define GET_STATUS "80 00 0000 0000 0200"

static const uint8_t configuration[] = {
    9, 2, 39,   0, 1,  1,    0, 0xa0, 50, /* configuration, with remote wakeup */
    9, 4, 0,    0, 3,  0xff, 0, 0,    0,  /* interface */
    7, 5, 0x81, 2, 64, 0,    0,           /* bulk IN */
    7, 5, 0x02, 2, 64, 0,    0,           /* bulk OUT */
    7, 5, 0x83, 3, 8,  0,    1,           /* interrupt IN */
};

static struct usbip_personality personality;
static struct fixture fixture;
static struct client client, other;
static struct recorder *device;

/* A raw device, strict until the test has set a switch. */
static void begin(void)
{
    struct usbip_device_options options = usual_options();
    personality = usbip_personality_strict;
    options.configuration = configuration;
    options.configuration_size = sizeof configuration;
    options.personality = &personality;
    fixture_init(&fixture);
    fixture.bus.personality = &personality;
    device = add_device(&fixture, &usbip_function_raw, &options);
    client_open(&fixture, &client);
}

static void begin_attached(void)
{
    begin();
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(called(device, "attach"));
}

static void end(void)
{
    client_close(&client);
    fixture_free(&fixture);
}

static bool send_text(const char *text)
{
    return usbip_device_send(device->device, IN, (const uint8_t *)text, strlen(text));
}

static size_t take_output(struct client *from, const uint8_t **data)
{
    return usbip_device_session_take_output(from->session, data);
}

/* How many devices a new connection is told, and the interfaces of the first. */
static uint32_t listed(unsigned *interfaces)
{
    const uint8_t *data;
    client_open(&fixture, &other);
    client_send(&other, REQ_DEVLIST);
    size_t size = take_output(&other, &data);
    CU_ASSERT_TRUE_FATAL(size >= 12);
    uint32_t count = usbip_load_be32(data + 8);
    unsigned first = count > 0 ? data[12 + 0x137] : 0;
    CU_ASSERT_EQUAL(size, 12 + count * USBIP_DEVICE_RECORD_SIZE + 4 * first);
    if (interfaces)
        *interfaces = first;
    client_close(&other);
    return count;
}

/* The status that an import on a new connection ends with; that connection is `other`. */
static uint32_t import_status(void)
{
    const uint8_t *data;
    client_open(&fixture, &other);
    client_send(&other, REQ_IMPORT_1_1);
    size_t size = take_output(&other, &data);
    CU_ASSERT_TRUE_FATAL(size >= 8);
    uint32_t status = usbip_load_be32(data + 4);
    CU_ASSERT_EQUAL(size, status ? 8 : USBIP_IMPORT_REPLY_SIZE);
    return status;
}

static uint32_t import_and_close(void)
{
    uint32_t status = import_status();
    client_close(&other);
    return status;
}

static void pass_ms(uint64_t ms)
{
    fixture_pass_us(&fixture, 1000 * ms);
}

/* ---- The table ---- */

static void test_names(void)
{
    char names[128], joined[128] = "";
    snprintf(names, sizeof names, "%s", usbip_personality_names());
    for (char *name = strtok(names, ", "); name; name = strtok(NULL, ", ")) {
        const struct usbip_personality *found = usbip_find_personality(name);
        REQUIRE(found != NULL);
        CU_ASSERT_STRING_EQUAL(found->name, name);
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s",
                 joined[0] ? ", " : "", name);
    }
    CU_ASSERT_STRING_EQUAL(joined, "strict, linux, usbipd-win, jiegec, usbip-python");
    CU_ASSERT_PTR_EQUAL(usbip_find_personality("strict"), &usbip_personality_strict);
    CU_ASSERT_PTR_NULL(usbip_find_personality("Linux"));
    CU_ASSERT_PTR_NULL(usbip_find_personality(""));
}

/* A device has its own, whatever the server has. */
static void test_device_overrides_server(void)
{
    static struct usbip_personality own;
    struct usbip_device_options options = usual_options();
    begin();
    own = usbip_personality_strict;
    own.lists_attached = true;
    own.unknown_busid_status = USBIP_ST_NA; /* no matter: that is the server's */
    options.personality = &own;
    add_device(&fixture, &usbip_function_cdc_acm, &options);
    client_import(&client);
    CU_ASSERT_EQUAL(listed(NULL), 1);
    struct client second;
    client_open(&fixture, &second);
    client_send(&second, "0111 8003 00000000 312d32" ZEROS_29);
    CU_ASSERT_EQUAL(listed(NULL), 1); /* the second one, attached or not */
    client_close(&second);
    client_open(&fixture, &other);
    client_send(&other, REQ_IMPORT_9_9);
    CU_ASSERT_TRUE(got(&other, "0111 0003 00000004"));
    client_close(&other);
    end();
}

/* ---- OP phase ---- */

static void test_version(void)
{
    begin();
    client_import(&client); /* nothing is left to list */
    static const struct {
        enum usbip_version_check check;
        const char *request;
        bool answered;
    } cases[] = {
        {USBIP_VERSION_EXACT, "0000 8005 00000000", false},
        {USBIP_VERSION_OR_ZERO, "0000 8005 00000000", true},
        {USBIP_VERSION_OR_ZERO, "0110 8005 00000000", false},
        {USBIP_VERSION_OR_ZERO, REQ_DEVLIST, true},
        {USBIP_VERSION_ANY, "1101 8005 00000000", true},
        {USBIP_VERSION_ANY, "1101 8001 00000000", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        personality.version_check = cases[i].check;
        client_open(&fixture, &other);
        CU_ASSERT_EQUAL(client_send(&other, cases[i].request), -1);
        CU_ASSERT_TRUE(got(&other, cases[i].answered ? NO_DEVICES : ""));
        CU_ASSERT_TRUE(got_nothing(&other));
        client_close(&other);
    }
    end();
}

static void test_keeps_op_connection(void)
{
    begin();
    personality.keeps_op_connection = true;
    client_import(&client);
    client_open(&fixture, &other);
    CU_ASSERT_EQUAL(client_send(&other, REQ_DEVLIST REQ_DEVLIST), 0);
    CU_ASSERT_TRUE(got(&other, NO_DEVICES NO_DEVICES));
    CU_ASSERT_EQUAL(client_send(&other, REQ_IMPORT_9_9), 0);
    CU_ASSERT_TRUE(got(&other, "0111 0003 00000004"));
    CU_ASSERT_EQUAL(client_send(&other, REQ_IMPORT_1_1), 0);
    CU_ASSERT_TRUE(got(&other, "0111 0003 00000002"));
    client_close(&client);
    CU_ASSERT_EQUAL(client_send(&other, REQ_IMPORT_1_1), 0);
    const uint8_t *data;
    CU_ASSERT_EQUAL(take_output(&other, &data), USBIP_IMPORT_REPLY_SIZE);
    client_close(&other);
    client_open(&fixture, &client);
    end();
}

static void test_statuses_of_imports(void)
{
    begin();
    personality.unknown_busid_status = personality.busy_status = USBIP_ST_NA;
    client_import(&client);
    client_open(&fixture, &other);
    client_send(&other, REQ_IMPORT_9_9);
    CU_ASSERT_TRUE(got(&other, "0111 0003 00000001"));
    client_close(&other);
    CU_ASSERT_EQUAL(import_and_close(), USBIP_ST_NA);
    end();
}

static void test_lists_attached(void)
{
    begin();
    client_import(&client);
    CU_ASSERT_EQUAL(listed(NULL), 0);
    personality.lists_attached = true;
    CU_ASSERT_EQUAL(listed(NULL), 1);
    end();
}

static void test_hides_interfaces(void)
{
    unsigned interfaces;
    begin();
    CU_ASSERT_TRUE(listed(&interfaces) == 1 && interfaces == 1);
    personality.hides_interfaces_until_configured = true;
    personality.after_client = USBIP_BUS_RESET;
    CU_ASSERT_TRUE(listed(&interfaces) == 1 && interfaces == 0);
    client_import(&client);
    client_configure(&client);
    client_close(&client);
    CU_ASSERT_TRUE(listed(&interfaces) == 1 && interfaces == 1);
    client_open(&fixture, &client);
    end();
}

/* S040: the new owner is served, the old one is not, and does no harm any more. */
static void test_second_owner(void)
{
    begin_attached();
    personality.busy_status = USBIP_ST_OK;
    submit_in(&client, 1, IN, 64, NULL);
    CU_ASSERT_TRUE(called(device, "in81"));
    CU_ASSERT_EQUAL(import_status(), USBIP_ST_OK);
    CU_ASSERT_TRUE(called(device, "detach attach"));
    CU_ASSERT_FALSE(client_is_over(&client));
    client_configure(&other);
    submit_in(&other, 7, IN, 64, NULL);
    CU_ASSERT_TRUE(send_text("x"));
    CU_ASSERT_TRUE(got_in(&other, 7, 0, "78"));
    CU_ASSERT_EQUAL(submit_in(&client, 2, 0, 2, GET_STATUS), 0);
    CU_ASSERT_EQUAL(client_send(&client, "ffff"), 0);
    CU_ASSERT_TRUE(got_nothing(&client));
    client_close(&client);
    CU_ASSERT_TRUE(control_in(&other, GET_STATUS, 0, "0000"));
    client = other;
    memset(&other, 0, sizeof other);
    end();
}

/* ---- When the client is gone ---- */

static void test_settling(void)
{
    static const struct usbip_settling phases[USBIP_MAX_SETTLING] = {
        {500, USBIP_ST_NODEV}, {300, USBIP_ST_DEV_BUSY}, {200, USBIP_ST_DEV_ERR}};
    begin_attached();
    memcpy(personality.settling, phases, sizeof phases);
    client_close(&client);
    CU_ASSERT_EQUAL(listed(NULL), 0);
    CU_ASSERT_EQUAL(import_and_close(), USBIP_ST_NODEV);
    pass_ms(499);
    CU_ASSERT_EQUAL(import_and_close(), USBIP_ST_NODEV);
    pass_ms(1);
    CU_ASSERT_EQUAL(listed(NULL), 0);
    CU_ASSERT_EQUAL(import_and_close(), USBIP_ST_DEV_BUSY);
    personality.lists_attached = true;
    CU_ASSERT_EQUAL(listed(NULL), 1);
    personality.lists_attached = false;
    pass_ms(300);
    CU_ASSERT_EQUAL(listed(NULL), 1);
    CU_ASSERT_EQUAL(import_and_close(), USBIP_ST_DEV_ERR);
    pass_ms(200);
    CU_ASSERT_EQUAL(import_status(), USBIP_ST_OK);
    client = other;
    end(); /* it is freed while it settles */
}

/* What the next client finds: the configuration, halts, bytes that waited. */
static void assert_found(enum usbip_after_client after_client, const char *value, bool serves)
{
    begin_attached();
    personality.after_client = after_client;
    usbip_device_halt(device->device, IN);
    CU_ASSERT_TRUE(send_text("stale"));
    client_close(&client);
    client_open(&fixture, &client);
    client_import(&client);
    CU_ASSERT_TRUE(control_in(&client, "80 08 0000 0000 0100", 0, value));
    submit_in(&client, 1, IN, 64, NULL);
    CU_ASSERT_TRUE(serves ? send_text("x") && got_in(&client, 1, 0, "78")
                          : got_in(&client, 1, -USBIP_ENOENT, ""));
    end();
}

static void test_after_client(void)
{
    assert_found(USBIP_POWER_CYCLE, "00", false);
    assert_found(USBIP_BUS_RESET, "01", true);
    assert_found(USBIP_LEAVE_ALONE, "01", true);
}

/* The line coding of a serial device, and who is told that the port is closed. */
static void assert_line_coding(enum usbip_after_client after_client, const char *coding,
                               const char *calls)
{
    struct usbip_device_options options = usual_options();
    personality = usbip_personality_strict;
    personality.after_client = after_client;
    options.personality = &personality;
    fixture_init(&fixture);
    device = add_device(&fixture, &usbip_function_cdc_acm, &options);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0700", "00c20100000008", 0));
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0000 0000", "", 0));
    CU_ASSERT_EQUAL(usbip_device_write(device->device, 1, (const uint8_t *)"stale", 5), 5);
    CU_ASSERT_TRUE(called(device, "attach coding=115200/8N1 lines=3 open"));
    client_close(&client);
    CU_ASSERT_TRUE(called(device, calls));
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(control_in(&client, "a1 21 0000 0000 0700", 0, coding));
    submit_in(&client, 1, IN, 64, NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static void test_settings_after_client(void)
{
    assert_line_coding(USBIP_POWER_CYCLE, "80250000000008", "close detach");
    assert_line_coding(USBIP_BUS_RESET, "80250000000008", "close detach");
    assert_line_coding(USBIP_LEAVE_ALONE, "00c20100000008", "drained detach");
}

static void test_starts_configured(void)
{
    struct usbip_device_options options = usual_options();
    begin();
    personality.starts_configured = true;
    options.personality = &personality;
    struct recorder *acm = add_device(&fixture, &usbip_function_cdc_acm, &options);
    CU_ASSERT_EQUAL(usbip_device_endpoint_type(acm->device, IN), USB_ENDPOINT_XFER_BULK);
    CU_ASSERT_EQUAL(usbip_device_endpoint_type(device->device, IN), -1);
    end();
}

/* ---- URBs ---- */

static struct usbip_header in_header(uint32_t seqnum, uint8_t address, uint32_t length)
{
    return (struct usbip_header){
        .command = USBIP_CMD_SUBMIT,
        .seqnum = seqnum,
        .devid = 0x00010001,
        .direction = USBIP_DIR_IN,
        .ep = address & 0x0f,
        .cmd_submit.transfer_buffer_length = length,
    };
}

static void test_ignores_devid(void)
{
    begin_attached();
    personality.ignores_devid = true;
    struct usbip_header header = in_header(1, IN, 64);
    header.devid = 0x00020003;
    CU_ASSERT_EQUAL(submit(&client, &header, NULL, 0), 0);
    CU_ASSERT_TRUE(send_text("x"));
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "78"));
    personality.ignores_devid = false;
    CU_ASSERT_EQUAL(submit(&client, &header, NULL, 0), -1);
    end();
}

#define ZEROS_24 "00000000 00000000 00000000 00000000 00000000 00000000"

static void test_echoes_header(void)
{
    begin_attached();
    personality.echoes_header = personality.ignores_devid = true;
    struct usbip_header header = in_header(0x11, IN, 64);
    header.devid = 0x00020003;
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(send_text("x"));
    CU_ASSERT_TRUE(got(&client, "00000003 00000011 00020003 00000001 00000001 00000000 00000001"
                                "00000000 00000000 00000000 00000000 00000000 78"));
    header.ep = 16;
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(got(&client, "00000003 00000011 00020003 00000001 00000010 fffffffe 00000000"
                                "00000000 00000000 00000000 00000000 00000000"));
    submit_out(&client, 0x12, OUT, "aa", NULL);
    CU_ASSERT_TRUE(got(&client, "00000003 00000012 00010001 00000000 00000002 00000000 00000001"
                                "00000000 00000000 00000000 00000000 00000000"));
    submit_unlink(&client, 0x13, 0x99);
    CU_ASSERT_TRUE(got(&client, "00000004 00000013 00010001 00000000 00000000 00000000" ZEROS_24));
    end();
}

static void test_failure_status(void)
{
    begin_attached();
    personality.failure_status = 1;
    CU_ASSERT_TRUE(control_in(&client, "c0 7f 0000 0000 0800", 1, ""));
    struct usbip_header header = in_header(1, IN, 64);
    header.cmd_submit.transfer_flags = USBIP_URB_SHORT_NOT_OK;
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(send_text("short"));
    CU_ASSERT_TRUE(got_in(&client, 1, 1, "")); /* without its bytes */
    CU_ASSERT_TRUE(control_in(&client, GET_STATUS, 0, "0000"));
    end();
}

static void test_missing_endpoint(void)
{
    begin_attached();
    personality.missing_endpoint_status = -USBIP_ENODEV;
    submit_in(&client, 1, MISSING_IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 1, -USBIP_ENODEV, ""));
    personality.missing_endpoint = USBIP_IGNORE;
    submit_in(&client, 2, MISSING_IN, 64, NULL);
    struct usbip_header header = in_header(3, IN, 64);
    header.ep = 16;
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(control_in(&client, GET_STATUS, 0, "0000"));
    submit_unlink(&client, 4, 2);
    CU_ASSERT_TRUE(got_unlinked(&client, 4, 0));
    /* The payload is not read: it is the next header. */
    CU_ASSERT_EQUAL(submit_out(&client, 5, MISSING_OUT, "0000000500000000", NULL), -1);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();

    begin_attached();
    personality.missing_endpoint = USBIP_CLOSE;
    CU_ASSERT_EQUAL(submit_in(&client, 1, MISSING_IN, 64, NULL), -1);
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static void test_duplicate_seqnum(void)
{
    begin_attached();
    personality.closes_on_duplicate_seqnum = true;
    submit_in(&client, 1, IN, 64, NULL);
    CU_ASSERT_TRUE(send_text("x"));
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "78"));
    CU_ASSERT_EQUAL(submit_in(&client, 1, IN, 64, NULL), 0);
    CU_ASSERT_EQUAL(submit_in(&client, 1, INTERRUPT, 8, NULL), -1);
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static void test_long_transfers(void)
{
    begin_attached();
    CU_ASSERT_EQUAL(submit_in(&client, 1, IN, 0x10000000, NULL), 0);
    personality.limits_in_transfers = true;
    CU_ASSERT_EQUAL(submit_in(&client, 2, IN, USBIP_SESSION_MAX_TRANSFER, NULL), 0);
    CU_ASSERT_EQUAL(submit_in(&client, 3, IN, USBIP_SESSION_MAX_TRANSFER + 1, NULL), -1);
    client_close(&client);
    CU_ASSERT_EQUAL(import_status(), USBIP_ST_OK);
    client = other;
    personality.failed_allocation_breaks_device = true;
    client_configure(&client);
    CU_ASSERT_EQUAL(submit_in(&client, 1, IN, UINT32_MAX, NULL), -1);
    client_close(&client);
    CU_ASSERT_EQUAL(listed(NULL), 1);
    CU_ASSERT_EQUAL(import_and_close(), USBIP_ST_DEV_ERR);
    usbip_device_unplug(device->device);
    usbip_device_plug(device->device);
    CU_ASSERT_EQUAL(import_status(), USBIP_ST_OK);
    client = other;
    client_configure(&client);
    struct usbip_header header = in_header(1, IN, 0);
    header.cmd_submit.transfer_flags = USBIP_URB_DMA_MAP_SG;
    CU_ASSERT_EQUAL(submit(&client, &header, NULL, 0), -1);
    client_close(&client);
    CU_ASSERT_EQUAL(import_and_close(), USBIP_ST_DEV_ERR);
    usbip_device_unplug(device->device);
    usbip_device_plug(device->device);
    CU_ASSERT_EQUAL(import_status(), USBIP_ST_OK);
    client = other;
    end();
}

static void test_packets_make_isochronous(void)
{
    begin_attached();
    personality.packets_make_isochronous = true;
    struct usbip_header header = in_header(1, IN, 64);
    header.cmd_submit.number_of_packets = -1;
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(send_text("x"));
    CU_ASSERT_TRUE(called(device, "in81"));
    header.seqnum = 2;
    header.cmd_submit.number_of_packets = 2;
    static const uint8_t descriptors[2 * USBIP_ISO_PACKET_DESCRIPTOR_SIZE];
    submit(&client, &header, descriptors, sizeof descriptors - 1);
    CU_ASSERT_TRUE(called(device, ""));
    client_send_bytes(&client, descriptors, 1);
    CU_ASSERT_TRUE(called(device, "in81"));
    header.cmd_submit.number_of_packets = USBIP_MAX_ISO_PACKETS + 1;
    CU_ASSERT_EQUAL(submit(&client, &header, NULL, 0), -1);
    end();
}

static void test_babble(void)
{
    begin_attached();
    personality.babble_status = -USBIP_ETIME;
    submit_in(&client, 1, IN, 10, NULL);
    CU_ASSERT_TRUE(send_text("more than ten"));
    CU_ASSERT_TRUE(got_in(&client, 1, -USBIP_ETIME, ""));
    personality.babble_fills_transfer = true;
    submit_in(&client, 4, IN, 10, NULL);
    CU_ASSERT_TRUE(send_text("more than ten"));
    CU_ASSERT_TRUE(got_in_bytes(&client, 4, -USBIP_ETIME, "more than ", 10));
    personality.babble_status = 0;
    submit_in(&client, 2, IN, 10, NULL);
    submit_in(&client, 3, IN, 10, NULL);
    CU_ASSERT_TRUE(send_text("more than ten"));
    CU_ASSERT_TRUE(got_in_bytes(&client, 2, 0, "more than ", 10));
    CU_ASSERT_TRUE(got_in_bytes(&client, 3, 0, "ten", 3));
    end();
}

static void test_abort_status(void)
{
    begin_attached();
    personality.abort_status = -USBIP_EPIPE;
    submit_in(&client, 1, IN, 64, NULL);
    submit_out(&client, 2, 0, "", "00 09 0100 0000 0000");
    CU_ASSERT_TRUE(got_in(&client, 1, -USBIP_EPIPE, ""));
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 0));
    end();
}

static void assert_interval(uint8_t address, int32_t interval, int result)
{
    begin_attached();
    personality.closes_on_bad_interval = true;
    struct usbip_header header = in_header(1, address, 8);
    header.cmd_submit.interval = interval;
    CU_ASSERT_EQUAL(submit(&client, &header, NULL, 0), result);
    end();
}

static void test_interval(void)
{
    assert_interval(INTERRUPT, 1, 0);
    assert_interval(INTERRUPT, 255, 0);
    assert_interval(INTERRUPT, 256, -1);
    assert_interval(INTERRUPT, 0, -1);
    assert_interval(INTERRUPT, -1, -1);
    assert_interval(IN, 0, 0);
}

static void test_drops_empty_out(void)
{
    begin_attached();
    personality.drops_empty_out = true;
    submit_out(&client, 1, OUT, "", NULL);
    submit_out(&client, 2, OUT, "aa", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 0));
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1));
    CU_ASSERT_TRUE(called(device, "out02=aa"));
    end();
}

static void test_ends_idle_in(void)
{
    begin_attached();
    personality.ends_idle_in = true;
    submit_in(&client, 1, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, ""));
    CU_ASSERT_TRUE(send_text("x"));
    submit_in(&client, 2, IN, 64, NULL);
    submit_in(&client, 3, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "78"));
    CU_ASSERT_TRUE(got_in(&client, 3, 0, ""));
    end();
}

/* ---- Control transfers ---- */

static struct usbip_header control_header(uint32_t seqnum, enum usbip_direction direction,
                                          uint32_t length, const struct usbip_setup *setup)
{
    struct usbip_header header = in_header(seqnum, 0, length);
    header.direction = direction;
    usbip_encode_setup(header.cmd_submit.setup, setup);
    return header;
}

static void test_length_mismatch(void)
{
    const struct usbip_setup get_status = {USB_DIR_IN, USB_REQ_GET_STATUS, 0, 0, 2};
    const struct usbip_setup get_device = {USB_DIR_IN, USB_REQ_GET_DESCRIPTOR, 0x0100, 0, 4};
    const struct usbip_setup vendor = {USB_TYPE_VENDOR, 1, 0, 0, 2};
    begin_attached();
    personality.length_mismatch = USBIP_ACCEPT;
    struct usbip_header header = control_header(1, USBIP_DIR_IN, 64, &get_device);
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "12010002"));
    header = control_header(2, USBIP_DIR_IN, 1, &get_status);
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "00"));
    /* All of a payload is read; the device has no more of it than wLength. */
    header = control_header(3, USBIP_DIR_OUT, 4, &vendor);
    submit(&client, &header, "\1\2\3\4", 4);
    CU_ASSERT_TRUE(got_out(&client, 3, -USBIP_EPIPE, 0));
    CU_ASSERT_TRUE(control_in(&client, GET_STATUS, 0, "0000"));
    personality.length_mismatch = USBIP_CLOSE;
    CU_ASSERT_TRUE(control_in(&client, GET_STATUS, 0, "0000"));
    header = control_header(4, USBIP_DIR_IN, 64, &get_status);
    CU_ASSERT_EQUAL(submit(&client, &header, NULL, 0), -1);
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* A request that waits its turn has its own copy of the data, all of which is given back. */
static void test_length_mismatch_behind_another(void)
{
    const struct usbip_setup vendor = {USB_TYPE_VENDOR, 1, 0, 0, 2};
    begin_attached();
    personality.length_mismatch = USBIP_ACCEPT;
    device->takes_control = true;
    for (uint32_t seqnum = 1; seqnum <= 2; seqnum++) {
        struct usbip_header header = control_header(seqnum, USBIP_DIR_OUT, 4, &vendor);
        submit(&client, &header, "\1\2\3\4", 4);
    }
    usbip_device_complete_first(device->device, 0, 1, 0, 2);
    usbip_device_complete_first(device->device, 0, 2, 0, 2);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 2));
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 2));
    end();
}

static void test_direction_mismatch(void)
{
    const struct usbip_setup get_status = {USB_DIR_IN, USB_REQ_GET_STATUS, 0, 0, 2};
    begin_attached();
    personality.direction_mismatch_status = -USBIP_EPIPE;
    struct usbip_header header = control_header(1, USBIP_DIR_OUT, 2, &get_status);
    submit(&client, &header, "\1\2", 2);
    CU_ASSERT_TRUE(got_out(&client, 1, -USBIP_EPIPE, 0));
    end();
}

static void assert_short_not_ok(enum usbip_short_not_ok where, int32_t control, int32_t bulk)
{
    const struct usbip_setup get_status = {USB_DIR_IN, USB_REQ_GET_STATUS, 0, 0, 4};
    begin_attached();
    personality.short_not_ok = where;
    struct usbip_header header = control_header(1, USBIP_DIR_IN, 4, &get_status);
    header.cmd_submit.transfer_flags = USBIP_URB_SHORT_NOT_OK;
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(got_in(&client, 1, control, "0000"));
    header = in_header(2, IN, 64);
    header.cmd_submit.transfer_flags = USBIP_URB_SHORT_NOT_OK;
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(send_text("x"));
    CU_ASSERT_TRUE(got_in(&client, 2, bulk, "78"));
    end();
}

static void test_short_not_ok(void)
{
    assert_short_not_ok(USBIP_SHORT_NOT_OK_EVERYWHERE, -USBIP_EREMOTEIO, -USBIP_EREMOTEIO);
    assert_short_not_ok(USBIP_SHORT_NOT_OK_IN_DATA, 0, -USBIP_EREMOTEIO);
    assert_short_not_ok(USBIP_SHORT_NOT_OK_NOWHERE, 0, 0);
}

static void assert_closes(const char *setup)
{
    begin_attached();
    personality.unknown_configuration = personality.unknown_altsetting = USBIP_CLOSE;
    CU_ASSERT_EQUAL(submit_out(&client, 1, 0, "", setup), -1);
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static void test_unknown_settings(void)
{
    static const char *const setups[] = {
        "00 09 6300 0000 0000", /* SET_CONFIGURATION(99) */
        "01 0b 0700 0000 0000", /* SET_INTERFACE(0, 7) */
        "01 0b 0000 0900 0000", /* SET_INTERFACE(9, 0) */
    };
    for (size_t i = 0; i < sizeof setups / sizeof setups[0]; i++)
        assert_closes(setups[i]);
    begin_attached();
    personality.unknown_configuration = personality.unknown_altsetting = USBIP_ACCEPT;
    for (size_t i = 0; i < sizeof setups / sizeof setups[0]; i++)
        CU_ASSERT_TRUE(control_out(&client, setups[i], "", 0));
    CU_ASSERT_TRUE(control_in(&client, "80 08 0000 0000 0100", 0, "01"));
    end();
}

static void test_control_requests(void)
{
    begin_attached();
    personality.clears_halt_of_any_endpoint = true;
    CU_ASSERT_TRUE(control_out(&client, "02 01 0000 8f00 0000", "", 0));
    CU_ASSERT_TRUE(control_out(&client, "02 03 0000 8f00 0000", "", -USBIP_EPIPE));
    CU_ASSERT_TRUE(control_out(&client, "23 03 0400 0000 0000", "", 0));
    personality.executes_port_reset = false;
    CU_ASSERT_TRUE(control_out(&client, "23 03 0400 0000 0000", "", -USBIP_EPIPE));
    end();
}

static void test_descriptors(void)
{
    begin_attached();
    CU_ASSERT_TRUE(control_in(&client, "80 06 0002 0000 0900", 0, "09022700 01 01 00 a0 32"));
    personality.hides_remote_wakeup = true;
    CU_ASSERT_TRUE(control_in(&client, "80 06 0002 0000 0900", 0, "09022700 01 01 00 80 32"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0902 0000 0400", -USBIP_EPIPE, ""));
    personality.ignores_configuration_index = true;
    CU_ASSERT_TRUE(control_in(&client, "80 06 0902 0000 0400", 0, "09022700"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 000f 0000 0500", -USBIP_EPIPE, ""));
    personality.answers_unknown_descriptor = true;
    CU_ASSERT_TRUE(control_in(&client, "80 06 000f 0000 0500", 0, ""));
    CU_ASSERT_TRUE(control_in(&client, "80 0c 0000 0000 0500", -USBIP_EPIPE, ""));
    end();
}

/* ---- Unlinking ---- */

static void test_unlinked_status(void)
{
    begin_attached();
    personality.unlinked_status = 0;
    submit_in(&client, 1, IN, 64, NULL);
    submit_unlink(&client, 2, 1);
    CU_ASSERT_TRUE(got_unlinked(&client, 2, 0));
    CU_ASSERT_TRUE(send_text("x"));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static void test_withholds_missed_unlinks(void)
{
    begin_attached();
    personality.withholds_missed_unlinks = true;
    submit_unlink(&client, 1, 99);
    submit_unlink(&client, 2, 98);
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_in(&client, 3, 0, 2, GET_STATUS);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "0000"));
    CU_ASSERT_TRUE(got_unlinked(&client, 1, 0));
    CU_ASSERT_TRUE(got_unlinked(&client, 2, 0));
    CU_ASSERT_TRUE(got_nothing(&client));
    /* One that finds its URB is a completion too. */
    submit_in(&client, 4, IN, 64, NULL);
    submit_unlink(&client, 5, 97);
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_unlink(&client, 6, 4);
    CU_ASSERT_TRUE(got_unlinked(&client, 5, 0));
    CU_ASSERT_TRUE(got_unlinked(&client, 6, -USBIP_ECONNRESET));
    /* What is withheld has a limit. */
    unsigned count = 0;
    while (usbip_device_session_output_size(client.session) == 0 && count < 100000)
        submit_unlink(&client, 1000 + count++, 96);
    CU_ASSERT_EQUAL(count,
                    (USBIP_SESSION_MAX_WITHHELD + USBIP_HEADER_SIZE - 1) / USBIP_HEADER_SIZE);
    end();
}

/* S129: while others wait the URB stays, and what it gets is lost. */
static void test_unlinks_lazily(void)
{
    begin_attached();
    personality.unlinks_lazily = true;
    for (uint32_t seqnum = 1; seqnum <= 3; seqnum++)
        submit_in(&client, seqnum, IN, 64, NULL);
    submit_unlink(&client, 11, 2);
    CU_ASSERT_TRUE(got_unlinked(&client, 11, -USBIP_ECONNRESET));
    submit_unlink(&client, 12, 2); /* S135 */
    CU_ASSERT_TRUE(got_unlinked(&client, 12, 0));
    CU_ASSERT_TRUE(send_text("a") && send_text("b") && send_text("c"));
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "61"));
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "63"));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* S130: all of them, and nothing is lost afterwards. */
static void test_unlinks_all_lazily(void)
{
    begin_attached();
    personality.unlinks_lazily = true;
    submit_in(&client, 1, IN, 64, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    submit_unlink(&client, 11, 1);
    submit_unlink(&client, 12, 2);
    CU_ASSERT_TRUE(got_unlinked(&client, 11, -USBIP_ECONNRESET));
    CU_ASSERT_TRUE(got_unlinked(&client, 12, -USBIP_ECONNRESET));
    CU_ASSERT_TRUE(send_text("a"));
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_in(&client, 3, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "61"));
    end();
}

/* S131: the count is not taken back when an unlinked URB ends, so an innocent one is aborted. */
static void test_lazy_unlinks_abort_others(void)
{
    begin_attached();
    personality.unlinks_lazily = true;
    personality.abort_status = -USBIP_EPIPE;
    submit_in(&client, 1, IN, 64, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    submit_unlink(&client, 11, 1);
    CU_ASSERT_TRUE(got_unlinked(&client, 11, -USBIP_ECONNRESET));
    CU_ASSERT_TRUE(send_text("a") && send_text("b"));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "62"));
    submit_in(&client, 3, IN, 64, NULL);
    submit_in(&client, 4, IN, 64, NULL);
    submit_unlink(&client, 12, 3);
    CU_ASSERT_TRUE(got_in(&client, 4, -USBIP_EPIPE, ""));
    CU_ASSERT_TRUE(got_unlinked(&client, 12, -USBIP_ECONNRESET));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* S134: endpoint 0 cannot be aborted; the request goes on without an answer. */
static void test_unlinks_control_lazily(void)
{
    begin_attached();
    personality.unlinks_lazily = true;
    device->takes_control = true;
    submit_in(&client, 1, 0, 4, "c0 01 0000 0000 0400");
    submit_unlink(&client, 2, 1);
    CU_ASSERT_TRUE(got_unlinked(&client, 2, -USBIP_ECONNRESET));
    submit_in(&client, 3, 0, 2, GET_STATUS);
    CU_ASSERT_TRUE(got_nothing(&client)); /* it waits for the first */
    usbip_device_complete_first(device->device, 0, 1, 0, 0);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "0000"));
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"names", test_names},
        {"a device's own personality", test_device_overrides_server},
        {"S006 version", test_version},
        {"S004 S013 S034 connection after an operation", test_keeps_op_connection},
        {"S033 S040 statuses of imports", test_statuses_of_imports},
        {"S026 attached devices in the list", test_lists_attached},
        {"S023 interfaces in the list", test_hides_interfaces},
        {"S040 a second owner", test_second_owner},
        {"S044 settling", test_settling},
        {"S146 what the next client finds", test_after_client},
        {"S155 settings that the next client finds", test_settings_after_client},
        {"S063 configured from the start", test_starts_configured},
        {"S057 devid", test_ignores_devid},
        {"S049 header of replies", test_echoes_header},
        {"S122 status of failures", test_failure_status},
        {"S060-S063 missing endpoints", test_missing_endpoint},
        {"S067 one seqnum twice", test_duplicate_seqnum},
        {"S115 long transfers", test_long_transfers},
        {"S055 number_of_packets", test_packets_make_isochronous},
        {"S112 babble", test_babble},
        {"S091 aborted URBs", test_abort_status},
        {"S119 S120 interval", test_interval},
        {"S117 empty OUT transfers", test_drops_empty_out},
        {"S111 idle IN transfers", test_ends_idle_in},
        {"S080 S081 wLength and transfer_buffer_length", test_length_mismatch},
        {"the same for a request that waits", test_length_mismatch_behind_another},
        {"S082 direction", test_direction_mismatch},
        {"S086 S109 SHORT_NOT_OK", test_short_not_ok},
        {"S092 S096 unknown settings", test_unknown_settings},
        {"S100 S101 requests", test_control_requests},
        {"S075 S077 descriptors", test_descriptors},
        {"S124 status of an unlink", test_unlinked_status},
        {"S125 S126 withheld RET_UNLINKs", test_withholds_missed_unlinks},
        {"S129 unlink one of three", test_unlinks_lazily},
        {"S130 unlink all", test_unlinks_all_lazily},
        {"S131 unlinks that abort others", test_lazy_unlinks_abort_others},
        {"S134 unlink a control request", test_unlinks_control_lazily},
        CU_TEST_INFO_NULL,
    };
    return run_tests("personality", tests);
}
