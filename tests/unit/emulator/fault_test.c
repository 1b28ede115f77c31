/*
 * Faults: how they are written, and what each does to the bytes that a client gets. Most use a raw
 * device, whose IN URBs pend until the test lets the device send.
 */
#include "emulator/fault_device.h"

#include <inttypes.h>

#include "protocol/bytes.h"
#include "protocol/cdc.h"
#include "tests/unit/emulator/session_fixture.h"

enum { ALL_OUTPUT = 4096 };

static struct fixture fixture;
static struct client client;
static char error_text[USBIP_FAULT_ERROR_SIZE];

/* Bulk OUT 0x01, bulk IN 0x81 and 0x82. */
static const uint8_t raw_configuration[] = {
    9, 2, 39,   0, 1,  1,    0, 0x80, 50, /* configuration */
    9, 4, 0,    0, 3,  0xff, 0, 0,    0,  /* interface 0 */
    7, 5, 0x01, 2, 64, 0,    0, 7,    5,  0x81, 2, 64, 0, 0, 7, 5, 0x82, 2, 64, 0, 0,
};

static unsigned add_fault(const char *text)
{
    struct usbip_fault_options options;
    error_text[0] = '\0';
    if (!usbip_fault_options_parse(&options, text, error_text))
        return 0;
    struct usbip_fault *fault =
        usbip_fault_add(&fixture.bus.faults, &options, NULL, NULL, error_text);
    return fault ? fault->id : 0;
}

static uint64_t fired(unsigned id)
{
    const struct usbip_fault *fault = usbip_fault_find(&fixture.bus.faults, id);
    return fault ? fault->fired : UINT64_MAX;
}

static struct recorder *device(void)
{
    return &fixture.recorders[0];
}

static void set_up_bus(const struct usbip_function_type *type)
{
    struct usbip_device_options options = usual_options();
    fixture_init(&fixture);
    if (type == &usbip_function_raw) {
        options.configuration = raw_configuration;
        options.configuration_size = sizeof raw_configuration;
    }
    add_device(&fixture, type, &options);
}

/* A bus with a device that a client has attached and configured. */
static void set_up(const struct usbip_function_type *type)
{
    set_up_bus(type);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
}

static void tear_down(void)
{
    client_close(&client);
    fixture_free(&fixture);
}

static void advance_ms(uint64_t ms)
{
    fixture_pass_us(&fixture, ms * 1000);
}

static void send_in(uint8_t endpoint, const char *text)
{
    CU_ASSERT_TRUE(
        usbip_device_send(device()->device, endpoint, (const uint8_t *)text, strlen(text)));
}

static void request_devlist(struct client *to)
{
    client_send(to, "0111 8005 00000000");
}

static void request_import(struct client *to)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    usbip_encode_import_request(request, "1-1");
    client_send_bytes(to, request, sizeof request);
}

/* The import reply without faults. */
static void get_import_reply(uint8_t reply[USBIP_IMPORT_REPLY_SIZE])
{
    struct usbip_device_record record;
    usbip_encode_op_common(reply, &(struct usbip_op_common){USBIP_VERSION, OP_REP_IMPORT, 0});
    usbip_bus_describe(device()->device, &record);
    usbip_encode_device_record(reply + USBIP_OP_COMMON_SIZE, &record);
}

/* ---- How they are written ---- */

static bool parses(const char *text, const char *again)
{
    struct usbip_fault_options options;
    char formatted[USBIP_FAULT_TEXT_SIZE];
    if (!usbip_fault_options_parse(&options, text, error_text)) {
        fprintf(stderr, "%s\n", error_text);
        return false;
    }
    usbip_fault_options_format(&options, formatted);
    if (strcmp(formatted, again) != 0)
        fprintf(stderr, "%s instead of %s\n", formatted, again);
    return strcmp(formatted, again) == 0;
}

static bool is_refused(const char *text, const char *reason)
{
    struct usbip_fault_options options;
    if (usbip_fault_options_parse(&options, text, error_text)) {
        fprintf(stderr, "accepted: %s\n", text);
        return false;
    }
    if (strncmp(error_text, reason, strlen(reason)) != 0)
        fprintf(stderr, "\"%s\" instead of \"%s\"\n", error_text, reason);
    return strncmp(error_text, reason, strlen(reason)) == 0;
}

static void test_text(void)
{
    CU_ASSERT_TRUE(parses("duplicate", "duplicate"));
    CU_ASSERT_TRUE(parses("delay:ms=20,jitter=10", "delay:ms=20,jitter=10"));
    CU_ASSERT_TRUE(
        parses("status:endpoint=0x81,value=-71,count=3", "status:value=-71,endpoint=0x81,count=3"));
    CU_ASSERT_TRUE(parses("status:endpoint=129,data=yes", "status:data=yes,endpoint=0x81"));
    CU_ASSERT_TRUE(parses("op_busid:value=3-7,device=1-1", "op_busid:value=3-7,device=1-1"));
    CU_ASSERT_TRUE(parses("disconnect:on=touch,as=2341:0036,back=-1",
                          "disconnect:on=touch,back=-1,as=2341:0036"));
    CU_ASSERT_TRUE(is_refused("", "there is no fault \"\"; there are: fragment, delay, "));
    CU_ASSERT_TRUE(is_refused("delays:ms=1", "there is no fault \"delays\"; there are: fragment"));
    CU_ASSERT_TRUE(is_refused("delay:", "delay: \"\" is not KEY=VALUE; write "));
    CU_ASSERT_TRUE(is_refused("delay:ms", "delay: \"ms\" is not KEY=VALUE; write "));
    CU_ASSERT_TRUE(is_refused("delay:ms,jitter=1", "delay: \"ms\" is not KEY=VALUE; write "));
    CU_ASSERT_TRUE(is_refused("delay:ms=1,", "delay: \"\" is not KEY=VALUE; write "));
    CU_ASSERT_TRUE(is_refused("delay:size=1",
                              "delay: there is no parameter \"size\"; there are: "
                              "ms, jitter, device, endpoint, after, count, chance"));
    CU_ASSERT_TRUE(is_refused("fragment:chance=5", "fragment: there is no parameter \"chance\""));
    CU_ASSERT_TRUE(is_refused("delay:ms=1,ms=1", "delay: ms is given twice"));
    static const char *const bad[] = {"",   "x",   "-1", "1x",  "3600001",
                                      "0x", "1e3", " 1", "--1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "delay:ms=%s", bad[i]);
        CU_ASSERT_TRUE(is_refused(text, "delay: ms must be a number from 0 to 3600000, not \""));
    }
    CU_ASSERT_TRUE(is_refused("delay:chance=101", "delay: chance must be a number from 0 to 100"));
    CU_ASSERT_TRUE(
        is_refused("delay:endpoint=0x10", "delay: endpoint must be a number from 0x00 to 0x8f"));
    CU_ASSERT_TRUE(is_refused("status:data=1", "status: data must be one of no|yes, not \"1\""));
    CU_ASSERT_TRUE(is_refused("disconnect:as=1:2", "disconnect: as must be VID:PID, four hex"));
    CU_ASSERT_TRUE(is_refused("delay:device=", "delay: device must be a busid of 1 to 31 bytes"));
    CU_ASSERT_TRUE(is_refused("delay:device=12345678901234567890123456789012",
                              "delay: device must be a busid of 1 to 31 bytes"));
    char text[1000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CU_ASSERT_TRUE(is_refused(text, "a fault is written with at most 319 bytes"));
    text[300] = '\0';
    CU_ASSERT_TRUE(is_refused(text, "there is no fault \"aaaaaaaa"));
}

/* Every parameter of every fault: what it prints is what it reads. */
static void test_every_parameter(void)
{
    for (unsigned kind = 0; kind < USBIP_FAULT_KINDS; kind++) {
        const struct usbip_fault_type *type = usbip_fault_type((enum usbip_fault_kind)kind);
        const struct usbip_fault_parameter *parameter;
        for (unsigned i = 0; (parameter = usbip_fault_parameter(type, i)) != NULL; i++) {
            char value[32] = "1-1", text[256];
            if (parameter->kind == USBIP_PARAMETER_WORD)
                usbip_fault_format_value(parameter, 1, value);
            else if (parameter->kind != USBIP_PARAMETER_BUSID)
                usbip_fault_format_value(parameter, parameter->max, value);
            snprintf(text, sizeof text, "%s:%s=%s", type->name, parameter->key, value);
            CU_ASSERT_TRUE(parses(text, text));
        }
    }
}

static void test_limit(void)
{
    set_up_bus(&usbip_function_raw);
    for (unsigned i = 1; i <= USBIP_MAX_FAULTS; i++)
        CU_ASSERT_EQUAL(add_fault("duplicate:count=1"), i);
    CU_ASSERT_EQUAL(add_fault("delay"), 0);
    CU_ASSERT_STRING_EQUAL(error_text,
                           "delay: there are 64 faults already, which is the limit; remove one");
    CU_ASSERT_TRUE(usbip_fault_remove(&fixture.bus.faults, 7));
    CU_ASSERT_FALSE(usbip_fault_remove(&fixture.bus.faults, 7));
    CU_ASSERT_EQUAL(add_fault("zero_data"), USBIP_MAX_FAULTS + 1);
    /* Those that are spent make room, and are no more. */
    client_open(&fixture, &client);
    request_import(&client);
    CU_ASSERT_EQUAL(fired(1), 1);
    CU_ASSERT_EQUAL(add_fault("zero_data"), USBIP_MAX_FAULTS + 2);
    CU_ASSERT_EQUAL(fired(1), UINT64_MAX);
    tear_down();
}

/* ---- The OP phase ---- */

static void test_op_reply(void)
{
    set_up_bus(&usbip_function_raw);
    unsigned version = add_fault("op_version:value=0x0106,reply=devlist");
    unsigned code = add_fault("op_code:value=0x8003,reply=import");
    uint8_t reply[USBIP_IMPORT_REPLY_SIZE];
    const uint8_t *data;
    client_open(&fixture, &client);
    request_devlist(&client);
    CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &data), 12 + 312 + 4);
    CU_ASSERT_EQUAL(usbip_load_be32(data), 0x01060005);
    CU_ASSERT_EQUAL(fired(version), 1);
    CU_ASSERT_EQUAL(fired(code), 0);
    client_close(&client);
    client_open(&fixture, &client);
    get_import_reply(reply);
    usbip_store_be16(reply + 2, 0x8003);
    request_import(&client);
    CU_ASSERT_TRUE(got_bytes(&client, reply, sizeof reply));
    CU_ASSERT_FALSE(client_is_over(&client));
    CU_ASSERT_EQUAL(fired(version), 1);
    CU_ASSERT_EQUAL(fired(code), 1);
    tear_down();
}

static void test_op_status(void)
{
    set_up_bus(&usbip_function_raw);
    unsigned id = add_fault("op_status:value=77");
    uint8_t reply[USBIP_IMPORT_REPLY_SIZE];
    client_open(&fixture, &client);
    request_import(&client);
    CU_ASSERT_TRUE(got(&client, "0111 0003 0000004d") && got_nothing(&client));
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_FALSE(usbip_device_is_claimed(device()->device));
    CU_ASSERT_TRUE(called(device(), "attach detach"));
    client_close(&client);
    usbip_fault_remove(&fixture.bus.faults, id);
    /* With all that follows, the device is attached. */
    add_fault("op_status:value=4,body=yes");
    client_open(&fixture, &client);
    get_import_reply(reply);
    usbip_store_be32(reply + 4, 4);
    request_import(&client);
    CU_ASSERT_TRUE(got_bytes(&client, reply, sizeof reply));
    CU_ASSERT_FALSE(client_is_over(&client));
    CU_ASSERT_TRUE(usbip_device_is_claimed(device()->device));
    tear_down();
}

static void test_op_busid(void)
{
    set_up_bus(&usbip_function_raw);
    uint8_t reply[USBIP_IMPORT_REPLY_SIZE];
    get_import_reply(reply);
    memcpy(reply + 8 + 256, "3-7\0\0\0\0", 8);
    add_fault("op_busid:value=3-7");
    client_open(&fixture, &client);
    request_import(&client);
    CU_ASSERT_TRUE(got_bytes(&client, reply, sizeof reply));
    tear_down();
}

/* ---- RET_SUBMIT ---- */

static void test_status(void)
{
    set_up(&usbip_function_raw);
    unsigned id = add_fault("status:endpoint=0x81,value=-71,after=1,count=2");
    for (uint32_t i = 1; i <= 4; i++)
        submit_in(&client, i, 0x81, 64, NULL);
    submit_in(&client, 5, 0x82, 64, NULL);
    send_in(0x81, "a");
    send_in(0x81, "b");
    send_in(0x82, "x");
    send_in(0x81, "c");
    send_in(0x81, "d");
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "61"));
    CU_ASSERT_TRUE(got_in(&client, 2, -71, ""));
    CU_ASSERT_TRUE(got_in(&client, 5, 0, "78"));
    CU_ASSERT_TRUE(got_in(&client, 3, -71, ""));
    CU_ASSERT_TRUE(got_in(&client, 4, 0, "64"));
    CU_ASSERT_EQUAL(fired(id), 2);
    /* With the data; and control and OUT have endpoints too. */
    add_fault("status:endpoint=0x81,value=-121,data=yes");
    add_fault("status:endpoint=0,value=-32");
    add_fault("status:endpoint=1,value=0x20");
    submit_in(&client, 6, 0x81, 64, NULL);
    send_in(0x81, "e");
    CU_ASSERT_TRUE(got_in(&client, 6, -121, "65"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 1200", -32, ""));
    submit_out(&client, 7, 1, "61", NULL);
    CU_ASSERT_TRUE(got_out(&client, 7, 32, 0) && got_nothing(&client));
    CU_ASSERT_TRUE(called(device(), "attach in81 in81 in81 in81 in82 in81 out01=61"));
    tear_down();
}

static void test_length(void)
{
    set_up(&usbip_function_raw);
    unsigned id = add_fault("length:by=-1,count=2");
    submit_in(&client, 1, 0x81, 64, NULL);
    send_in(0x81, "ab");
    CU_ASSERT_TRUE(got(&client, "00000003 00000001 00000000 00000000 00000000 00000000 00000001"
                                "00000000 00000000 00000000 00000000 00000000 6162"));
    /* Nothing is less than nothing. */
    submit_out(&client, 2, 1, "", NULL);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 0));
    CU_ASSERT_EQUAL(fired(id), 1);
    submit_out(&client, 3, 1, "616263", NULL);
    CU_ASSERT_TRUE(got_out(&client, 3, 0, 2));
    add_fault("length:by=1");
    submit_in(&client, 4, 0x81, 64, NULL);
    send_in(0x81, "c");
    CU_ASSERT_TRUE(got(&client, "00000003 00000004 00000000 00000000 00000000 00000000 00000002"
                                "00000000 00000000 00000000 00000000 00000000 63"));
    tear_down();
}

static void test_zero_data(void)
{
    set_up(&usbip_function_raw);
    unsigned id = add_fault("zero_data:count=1");
    submit_out(&client, 1, 1, "6162", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 2));
    submit_in(&client, 2, 0x81, 64, NULL);
    submit_in(&client, 3, 0x81, 64, NULL);
    send_in(0x81, "abc");
    send_in(0x81, "abc");
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "000000"));
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "616263"));
    CU_ASSERT_EQUAL(fired(id), 1);
    tear_down();
}

static void test_duplicate(void)
{
    set_up(&usbip_function_raw);
    add_fault("duplicate:count=2");
    submit_in(&client, 1, 0x81, 64, NULL);
    send_in(0x81, "ab");
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "6162") && got_in(&client, 1, 0, "6162"));
    submit_unlink(&client, 2, 1);
    CU_ASSERT_TRUE(got_unlinked(&client, 2, 0) && got_unlinked(&client, 2, 0));
    submit_unlink(&client, 3, 1);
    CU_ASSERT_TRUE(got_unlinked(&client, 3, 0) && got_nothing(&client));
    tear_down();
}

static void test_swallow(void)
{
    set_up(&usbip_function_raw);
    add_fault("swallow_ret_submit:endpoint=0x81,count=1");
    unsigned unlinks = add_fault("swallow_ret_unlink:count=1");
    submit_in(&client, 1, 0x81, 64, NULL);
    submit_in(&client, 2, 0x81, 64, NULL);
    send_in(0x81, "a");
    CU_ASSERT_TRUE(got_nothing(&client));
    send_in(0x81, "b");
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "62"));
    submit_in(&client, 3, 0x81, 64, NULL);
    submit_unlink(&client, 4, 3);
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_EQUAL(fired(unlinks), 1);
    /* It was unlinked. */
    submit_unlink(&client, 5, 3);
    CU_ASSERT_TRUE(got_unlinked(&client, 5, 0) && got_nothing(&client));
    tear_down();
}

static void test_late_reply(void)
{
    set_up(&usbip_function_raw);
    unsigned id = add_fault("late_reply:endpoint=0x81,size=2,count=1");
    submit_in(&client, 1, 0x81, 64, NULL);
    submit_in(&client, 2, 0x82, 64, NULL);
    submit_unlink(&client, 3, 2); /* another endpoint */
    CU_ASSERT_TRUE(got_unlinked(&client, 3, -104) && got_nothing(&client));
    submit_unlink(&client, 4, 99); /* never seen */
    CU_ASSERT_TRUE(got_unlinked(&client, 4, 0) && got_nothing(&client));
    submit_unlink(&client, 5, 1);
    CU_ASSERT_TRUE(got_unlinked(&client, 5, -104) && got_in(&client, 1, 0, "0000"));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_EQUAL(fired(id), 1);
    /* Later, when others have been answered. */
    add_fault("late_reply:ms=30,status=-104");
    submit_in(&client, 6, 0x81, 64, NULL);
    submit_unlink(&client, 7, 6);
    submit_in(&client, 8, 0x81, 64, NULL);
    send_in(0x81, "a");
    CU_ASSERT_TRUE(got_unlinked(&client, 7, -104) && got_in(&client, 8, 0, "61"));
    advance_ms(29);
    CU_ASSERT_TRUE(got_nothing(&client));
    client.wakes = 0;
    advance_ms(1);
    CU_ASSERT_EQUAL(client.wakes, 1);
    CU_ASSERT_TRUE(got_in(&client, 6, -104, "") && got_nothing(&client));
    /* Several, in the order in which they are due. */
    for (uint32_t i = 10; i < 13; i++) {
        submit_in(&client, i, 0x81, 64, NULL);
        submit_unlink(&client, 10 + i, i);
        CU_ASSERT_TRUE(got_unlinked(&client, 10 + i, -104));
        advance_ms(1);
    }
    advance_ms(40);
    for (uint32_t i = 10; i < 13; i++)
        CU_ASSERT_TRUE(got_in(&client, i, -104, ""));
    tear_down();
}

/* ---- Order and time ---- */

static void test_delay(void)
{
    set_up(&usbip_function_raw);
    unsigned id = add_fault("delay:ms=20,endpoint=0x81");
    submit_in(&client, 1, 0x81, 64, NULL);
    send_in(0x81, "a");
    advance_ms(15);
    submit_out(&client, 2, 1, "61", NULL); /* stays behind the one before it */
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 0);
    CU_ASSERT_TRUE(usbip_device_session_holds_output(client.session));
    advance_ms(4);
    CU_ASSERT_TRUE(got_nothing(&client));
    client.wakes = 0;
    advance_ms(1);
    CU_ASSERT_EQUAL(client.wakes, 1);
    CU_ASSERT_FALSE(usbip_device_session_holds_output(client.session));
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "61") && got_out(&client, 2, 0, 1));
    CU_ASSERT_EQUAL(fired(id), 1);
    /* What is held back leaves when it is due, also when the fault is gone. */
    submit_in(&client, 3, 0x81, 64, NULL);
    send_in(0x81, "b");
    usbip_fault_remove(&fixture.bus.faults, id);
    submit_out(&client, 4, 1, "61", NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    advance_ms(20);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "62") && got_out(&client, 4, 0, 1));
    submit_out(&client, 5, 1, "61", NULL);
    CU_ASSERT_TRUE(got_out(&client, 5, 0, 1));
    tear_down();
}

/* A session that is over before its reply has left stays for it. */
static void test_delayed_devlist(void)
{
    set_up_bus(&usbip_function_raw);
    add_fault("delay:ms=20");
    client_open(&fixture, &client);
    request_devlist(&client);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(usbip_device_session_holds_output(client.session));
    CU_ASSERT_TRUE(got_nothing(&client));
    advance_ms(20);
    CU_ASSERT_FALSE(usbip_device_session_holds_output(client.session));
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 12 + 312 + 4);
    tear_down();
}

/* A device that is unplugged takes what it has not said with it. */
static void test_delay_and_unplug(void)
{
    set_up(&usbip_function_raw);
    add_fault("delay:ms=20");
    submit_out(&client, 1, 1, "61", NULL);
    CU_ASSERT_TRUE(usbip_device_session_holds_output(client.session));
    usbip_device_unplug(device()->device);
    CU_ASSERT_FALSE(usbip_device_session_holds_output(client.session));
    advance_ms(20);
    CU_ASSERT_TRUE(got_nothing(&client));
    tear_down();
}

/* Back pressure counts what is held back, and ends with it. */
static void test_delay_back_pressure(void)
{
    set_up(&usbip_function_cdc_acm);
    static uint8_t data[64 << 10];
    add_fault("delay:ms=20");
    uint32_t sent = 0, answered = 0;
    while (usbip_device_session_wants_input(client.session) && sent < 1000) {
        submit_in(&client, ++sent, 0x81, sizeof data, NULL);
        usbip_device_write(device()->device, 1, data, sizeof data);
    }
    CU_ASSERT_EQUAL(sent, USBIP_SESSION_OUTPUT_LIMIT / sizeof data);
    for (unsigned i = 0; i < 8; i++) {
        submit_in(&client, ++sent, 0x81, sizeof data, NULL);
        usbip_device_write(device()->device, 1, data, sizeof data);
    }
    CU_ASSERT_TRUE(got_nothing(&client));
    usbip_fault_remove(&fixture.bus.faults, 1);
    for (unsigned i = 0; i < 3; i++) {
        advance_ms(20);
        while (answered < sent &&
               (usbip_device_session_output_size(client.session) > 0 || client.output_size > 0))
            CU_ASSERT_TRUE_FATAL(got_in_bytes(&client, ++answered, 0, data, sizeof data));
    }
    CU_ASSERT_EQUAL(answered, sent);
    CU_ASSERT_TRUE(usbip_device_session_wants_input(client.session));
    tear_down();
}

static void test_reorder_within(void)
{
    set_up(&usbip_function_raw);
    unsigned id = add_fault("reorder:endpoint=0x81,count=1");
    for (uint32_t i = 1; i <= 3; i++)
        submit_in(&client, i, 0x81, 64, NULL);
    submit_in(&client, 4, 0x82, 64, NULL);
    send_in(0x81, "a");
    send_in(0x82, "x"); /* no partner: stays where it is, between them */
    CU_ASSERT_TRUE(got_nothing(&client));
    send_in(0x81, "b");
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "62") && got_in(&client, 4, 0, "78") &&
                   got_in(&client, 1, 0, "61"));
    send_in(0x81, "c");
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "63") && got_nothing(&client));
    CU_ASSERT_EQUAL(fired(id), 1);
    tear_down();
}

static void test_reorder_across(void)
{
    set_up(&usbip_function_raw);
    add_fault("reorder:scope=across,count=1");
    submit_in(&client, 1, 0x81, 64, NULL);
    submit_in(&client, 2, 0x81, 64, NULL);
    submit_in(&client, 3, 0x82, 64, NULL);
    send_in(0x81, "a");
    send_in(0x81, "b"); /* the order of each endpoint stays */
    CU_ASSERT_TRUE(got_nothing(&client));
    send_in(0x82, "x");
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "78") && got_in(&client, 1, 0, "61") &&
                   got_in(&client, 2, 0, "62"));
    tear_down();
}

static void test_reorder_alone(void)
{
    set_up(&usbip_function_raw);
    unsigned id = add_fault("reorder:ms=50,count=1,endpoint=1");
    submit_out(&client, 1, 1, "61", NULL);
    advance_ms(49);
    CU_ASSERT_TRUE(got_nothing(&client));
    advance_ms(1);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1));
    CU_ASSERT_EQUAL(fired(id), 0);
    /* A RET_UNLINK does not overtake either, and ends the wait. */
    submit_out(&client, 2, 1, "61", NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_unlink(&client, 3, 2);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1) && got_unlinked(&client, 3, 0));
    CU_ASSERT_EQUAL(fired(id), 0);
    submit_out(&client, 4, 1, "61", NULL);
    submit_out(&client, 5, 1, "6161", NULL);
    CU_ASSERT_TRUE(got_out(&client, 5, 0, 2) && got_out(&client, 4, 0, 1));
    CU_ASSERT_EQUAL(fired(id), 1);
    tear_down();
}

/* The bytes of a run with chances, and when they came. */
static size_t run_with_seed(uint64_t seed, uint8_t output[ALL_OUTPUT])
{
    size_t size = 0;
    set_up(&usbip_function_raw);
    fixture.bus.faults.seed = seed;
    add_fault("delay:ms=1,jitter=20,chance=50");
    add_fault("duplicate:chance=20");
    add_fault("zero_data:chance=30");
    for (uint32_t i = 1; i <= 20; i++) {
        const uint8_t *data;
        submit_in(&client, i, 0x81, 64, NULL);
        send_in(0x81, "abc");
        size_t taken = usbip_device_session_take_output(client.session, &data);
        output[size++] = (uint8_t)taken; /* in this ms */
        if (taken > 0)
            memcpy(output + size, data, taken);
        size += taken;
        advance_ms(3);
    }
    tear_down();
    return size;
}

static void test_seed(void)
{
    static uint8_t first[ALL_OUTPUT], again[ALL_OUTPUT], other[ALL_OUTPUT];
    size_t size = run_with_seed(1, first);
    CU_ASSERT_EQUAL_FATAL(run_with_seed(1, again), size);
    CU_ASSERT_EQUAL(memcmp(first, again, size), 0);
    CU_ASSERT(run_with_seed(2, other) != size || memcmp(first, other, size) != 0);
}

static void test_chance(void)
{
    set_up(&usbip_function_raw);
    unsigned never = add_fault("status:chance=0"), some = add_fault("zero_data:chance=25"),
             always = add_fault("duplicate:chance=100");
    for (uint32_t i = 1; i <= 1000; i++) {
        const uint8_t *data;
        submit_in(&client, i, 0x81, 64, NULL);
        send_in(0x81, "abc");
        CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &data), 2 * (48 + 3));
    }
    CU_ASSERT_EQUAL(fired(never), 0);
    CU_ASSERT(fired(some) > 200 && fired(some) < 300);
    CU_ASSERT_EQUAL(fired(always), 1000);
    tear_down();
}

/* ---- Input and output ---- */

static void test_fragment(void)
{
    set_up(&usbip_function_raw);
    unsigned id = add_fault("fragment:size=20,after=10,count=2");
    const uint8_t *data;
    submit_out(&client, 1, 1, "61", NULL);
    submit_out(&client, 2, 1, "61", NULL);
    static const size_t pieces[] = {10, 20, 20, 46, 0};
    uint8_t output[96];
    size_t at = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        size_t size = usbip_device_session_take_output(client.session, &data);
        CU_ASSERT_EQUAL_FATAL(size, pieces[i]);
        if (size > 0)
            memcpy(output + at, data, size);
        at += size;
        CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 96 - at);
    }
    CU_ASSERT_EQUAL(usbip_load_be32(output + 4), 1);
    CU_ASSERT_EQUAL(usbip_load_be32(output + 52), 2);
    CU_ASSERT_EQUAL(fired(id), 2);
    /* With a pause in between. */
    add_fault("fragment:size=40,ms=5");
    submit_out(&client, 3, 1, "61", NULL);
    CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &data), 40);
    CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &data), 0);
    CU_ASSERT_TRUE(usbip_device_session_holds_output(client.session));
    client.wakes = 0;
    advance_ms(5);
    CU_ASSERT_EQUAL(client.wakes, 1);
    CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &data), 8);
    tear_down();
}

static void cut_at(const char *fault, size_t at, enum usbip_cut how)
{
    set_up(&usbip_function_raw);
    add_fault(fault);
    submit_in(&client, 1, 0x81, 64, NULL);
    send_in(0x81, "abc");
    const uint8_t *data;
    size_t size = 0, taken;
    uint8_t output[64];
    while ((taken = usbip_device_session_take_output(client.session, &data)) > 0) {
        memcpy(output + size, data, taken);
        size += taken;
    }
    CU_ASSERT_EQUAL(size, at);
    if (at >= 8)
        CU_ASSERT_EQUAL(usbip_load_be32(output + 4), 1);
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 0);
    CU_ASSERT_EQUAL(usbip_device_session_cut(client.session), how);
    CU_ASSERT_EQUAL(client_is_over(&client), how != USBIP_CUT_NONE);
    CU_ASSERT_EQUAL(usbip_device_is_claimed(device()->device), how == USBIP_CUT_NONE);
    tear_down();
}

static void test_cut(void)
{
    cut_at("close", 0, USBIP_CUT_CLOSE);
    cut_at("close:after=1", 1, USBIP_CUT_CLOSE);
    cut_at("close:after=47", 47, USBIP_CUT_CLOSE);
    cut_at("reset:after=50", 50, USBIP_CUT_RESET);
    cut_at("close:after=51", 51, USBIP_CUT_CLOSE);
    cut_at("close:after=52", 51, USBIP_CUT_NONE);
    cut_at("close:chance=0", 51, USBIP_CUT_NONE);
}

/* Each connection has its bytes counted; `count` is over all of them. */
static void test_cut_every_connection(void)
{
    set_up_bus(&usbip_function_raw);
    unsigned id = add_fault("close:after=10,count=2");
    for (unsigned i = 0; i < 3; i++) {
        const uint8_t *data;
        client_open(&fixture, &client);
        request_devlist(&client);
        CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &data),
                        i < 2 ? 10 : 12 + 312 + 4);
        client_close(&client);
    }
    CU_ASSERT_EQUAL(fired(id), 2);
    /* Its own device's only: a list is nobody's. */
    add_fault("reset:after=9,device=1-1");
    const uint8_t *data;
    client_open(&fixture, &client);
    request_devlist(&client);
    CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &data), 12 + 312 + 4);
    client_close(&client);
    client_open(&fixture, &client);
    request_import(&client);
    CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &data), 9);
    CU_ASSERT_EQUAL(usbip_device_session_cut(client.session), USBIP_CUT_RESET);
    tear_down();
}

static void test_stop_reading(void)
{
    set_up(&usbip_function_raw);
    unsigned id = add_fault("stop_reading:after=50,ms=100");
    submit_out(&client, 1, 1, "6162", NULL); /* 50 bytes */
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 2));
    CU_ASSERT_FALSE(usbip_device_session_wants_input(client.session));
    submit_out(&client, 2, 1, "63", NULL);
    submit_out(&client, 3, 1, "64", NULL);
    advance_ms(99);
    CU_ASSERT_TRUE(got_nothing(&client));
    client.wakes = 0;
    advance_ms(1);
    CU_ASSERT_EQUAL(client.wakes, 1);
    CU_ASSERT_TRUE(usbip_device_session_wants_input(client.session));
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1) && got_out(&client, 3, 0, 1));
    /* Once in a connection. */
    submit_out(&client, 4, 1, "63", NULL);
    submit_out(&client, 5, 1, "64", NULL);
    CU_ASSERT_TRUE(got_out(&client, 4, 0, 1) && got_out(&client, 5, 0, 1));
    CU_ASSERT_EQUAL(fired(id), 1);
    CU_ASSERT_TRUE(called(device(), "attach out01=6162 out01=63 out01=64 out01=63 out01=64"));
    tear_down();
}

/* In the middle of a PDU, and for ever; the device goes on sending. */
static void test_stop_reading_for_ever(void)
{
    set_up(&usbip_function_raw);
    submit_in(&client, 1, 0x81, 64, NULL);
    unsigned id = add_fault("stop_reading:after=49");
    submit_out(&client, 2, 1, "6162", NULL);
    advance_ms(10000000);
    CU_ASSERT_TRUE(called(device(), "attach in81"));
    send_in(0x81, "a");
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "61") && got_nothing(&client));
    /* Until the fault is removed. */
    usbip_fault_remove(&fixture.bus.faults, id);
    CU_ASSERT_TRUE(called(device(), ""));
    advance_ms(0);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 2));
    CU_ASSERT_TRUE(called(device(), "out01=6162"));
    tear_down();
}

/* ---- Devices ---- */

static void set_lines(unsigned lines)
{
    char setup[32];
    snprintf(setup, sizeof setup, "21 22 %02x00 0000 0000", lines);
    CU_ASSERT_TRUE(control_out(&client, setup, "", 0));
    advance_ms(0);
}

static void set_baud_rate(uint32_t rate)
{
    char data[32];
    snprintf(data, sizeof data, "%02x%02x%02x%02x 00 00 08", rate & 0xff, rate >> 8 & 0xff,
             rate >> 16 & 0xff, rate >> 24);
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0700", data, 0));
    advance_ms(0);
}

static bool shows(uint16_t idVendor, uint16_t idProduct)
{
    struct usbip_device_record record;
    usbip_bus_describe(device()->device, &record);
    return record.idVendor == idVendor && record.idProduct == idProduct;
}

static bool is_plugged(void)
{
    return usbip_device_is_plugged(device()->device);
}

static void attach_again(void)
{
    client_close(&client);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
}

enum { DTR = 1, RTS = 2 };

static void test_disconnect_reset(void)
{
    set_up(&usbip_function_cdc_acm);
    unsigned id = add_fault("disconnect:on=reset,as=303a:0002,back=500");
    /* A port that is opened and closed is not reset. */
    set_lines(DTR | RTS);
    set_lines(0);
    set_lines(DTR);
    set_lines(0);
    CU_ASSERT_FALSE(client_is_over(&client));
    /* Into the boot loader, one line at a time. The reply to the last request comes before. */
    set_lines(RTS);
    set_lines(RTS | DTR);
    CU_ASSERT_TRUE(is_plugged());
    set_lines(DTR);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_FALSE(is_plugged());
    CU_ASSERT_EQUAL(fired(id), 1);
    client_close(&client);
    advance_ms(499);
    CU_ASSERT_FALSE(is_plugged());
    advance_ms(1);
    CU_ASSERT_TRUE(is_plugged());
    CU_ASSERT_TRUE(shows(0x303a, 0x0002));
    /* Its device descriptor says so too. */
    attach_again();
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 1200", 0,
                              "12 01 0002 ef 02 01 40 3a30 0200 0001 01 02 03 01"));
    /* And out of it. */
    set_lines(RTS);
    set_lines(0);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(shows(0x1209, 0x0001));
    advance_ms(500);
    CU_ASSERT_TRUE(is_plugged());
    CU_ASSERT_EQUAL(fired(id), 2);
    tear_down();
}

static void test_disconnect_touch(void)
{
    set_up(&usbip_function_cdc_acm);
    unsigned id = add_fault("disconnect:on=touch,as=2341:0036,back=0,after=1");
    set_lines(DTR);
    set_lines(0); /* at 9600 */
    set_baud_rate(1200);
    set_lines(DTR);
    set_lines(DTR | RTS);
    set_lines(0); /* lets this one pass */
    CU_ASSERT_FALSE(client_is_over(&client));
    set_lines(DTR);
    set_baud_rate(115200);
    set_baud_rate(1200);
    CU_ASSERT_EQUAL(fired(id), 0);
    set_lines(RTS);
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_EQUAL(fired(id), 1);
    client_close(&client);
    advance_ms(1);
    CU_ASSERT_TRUE(is_plugged());
    CU_ASSERT_TRUE(shows(0x2341, 0x0036));
    /* Whoever unplugs it: it comes back as itself. */
    usbip_device_unplug(device()->device);
    usbip_device_plug(device()->device);
    CU_ASSERT_TRUE(shows(0x1209, 0x0001));
    tear_down();
}

static void test_disconnect_dtr(void)
{
    set_up(&usbip_function_cdc_acm);
    add_fault("disconnect:on=dtr,back=-1,count=1");
    set_lines(DTR);
    CU_ASSERT_FALSE(client_is_over(&client));
    set_lines(0);
    CU_ASSERT_TRUE(client_is_over(&client));
    client_close(&client);
    advance_ms(10000000);
    CU_ASSERT_FALSE(is_plugged());
    usbip_device_plug(device()->device);
    attach_again();
    set_lines(DTR);
    set_lines(0);
    CU_ASSERT_FALSE(client_is_over(&client));
    tear_down();
}

static void test_disconnect_bytes(void)
{
    set_up(&usbip_function_cdc_acm);
    unsigned id = add_fault("disconnect:on=bytes,after=5");
    for (unsigned i = 0; i < 2; i++) {
        set_lines(DTR); /* control requests do not count */
        submit_out(&client, 1, 1, "61626364", NULL);
        advance_ms(0);
        CU_ASSERT_TRUE(got_out(&client, 1, 0, 4));
        submit_in(&client, 2, 0x81, 64, NULL);
        usbip_device_write(device()->device, 1, (const uint8_t *)"xy", 2);
        CU_ASSERT_TRUE(got_in(&client, 2, 0, "7879"));
        CU_ASSERT_FALSE(client_is_over(&client));
        advance_ms(0);
        CU_ASSERT_TRUE(client_is_over(&client));
        CU_ASSERT_EQUAL(fired(id), i + 1);
        client_close(&client);
        advance_ms(500);
        CU_ASSERT_TRUE(is_plugged());
        attach_again();
    }
    tear_down();
}

/* Devices have their own faults; all end with the bus. */
static void test_device(void)
{
    struct usbip_device_options options = usual_options();
    set_up(&usbip_function_cdc_acm);
    add_device(&fixture, &usbip_function_cdc_acm, &options);
    add_fault("disconnect:on=dtr,device=1-2");
    unsigned other = add_fault("duplicate:device=1-2"), mine = add_fault("duplicate:device=1-1");
    submit_out(&client, 1, 1, "61", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1) && got_out(&client, 1, 0, 1));
    CU_ASSERT_EQUAL(fired(other), 0);
    CU_ASSERT_EQUAL(fired(mine), 1);
    CU_ASSERT_TRUE(usbip_fault_remove(&fixture.bus.faults, mine));
    set_lines(DTR);
    set_lines(0);
    CU_ASSERT_FALSE(client_is_over(&client));
    /* An owner's concern its device only, and go with it. */
    struct usbip_fault_options delay;
    CU_ASSERT_TRUE(usbip_fault_options_parse(&delay, "delay", error_text));
    struct usbip_fault *fault =
        usbip_fault_add(&fixture.bus.faults, &delay, &options, NULL, error_text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fault);
    set_lines(0);
    usbip_faults_set_device(&fixture.bus.faults, &options, device()->device);
    submit_out(&client, 2, 1, "61", NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    advance_ms(10);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1));
    usbip_faults_remove_owner(&fixture.bus.faults, &options);
    CU_ASSERT_EQUAL(fixture.bus.faults.count, 2);
    tear_down();
}

/* Timers that are armed when everything ends. */
static void test_end(void)
{
    set_up(&usbip_function_cdc_acm);
    add_fault("delay:ms=1000");
    add_fault("stop_reading");
    add_fault("disconnect:on=dtr");
    usbip_device_faults_lines(device()->device, DTR, 0, 9600);
    submit_out(&client, 1, 1, "61", NULL);
    client_close(&client);
    usbip_device_plug_after(device()->device, 1000);
    usbip_bus_free(&fixture.bus);
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), USBIP_NEVER);
    fixture_free(&fixture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"text", test_text},
        {"every parameter", test_every_parameter},
        {"limit", test_limit},
        {"OP reply", test_op_reply},
        {"OP status", test_op_status},
        {"OP busid", test_op_busid},
        {"status", test_status},
        {"length", test_length},
        {"zero data", test_zero_data},
        {"duplicate", test_duplicate},
        {"swallow", test_swallow},
        {"late reply", test_late_reply},
        {"delay", test_delay},
        {"delayed devlist", test_delayed_devlist},
        {"delay and unplug", test_delay_and_unplug},
        {"delay and back pressure", test_delay_back_pressure},
        {"reorder within an endpoint", test_reorder_within},
        {"reorder across endpoints", test_reorder_across},
        {"reorder with nobody", test_reorder_alone},
        {"seed", test_seed},
        {"chance", test_chance},
        {"fragment", test_fragment},
        {"close and reset", test_cut},
        {"close on every connection", test_cut_every_connection},
        {"stop reading", test_stop_reading},
        {"stop reading for ever", test_stop_reading_for_ever},
        {"disconnect on reset", test_disconnect_reset},
        {"disconnect on touch", test_disconnect_touch},
        {"disconnect on DTR", test_disconnect_dtr},
        {"disconnect after bytes", test_disconnect_bytes},
        {"one device", test_device},
        {"end", test_end},
        CU_TEST_INFO_NULL,
    };
    return run_tests("faults", tests);
}
