/* Endpoint 0: control transfers and the standard requests that the device answers itself. */
#include "tests/unit/emulator/session_fixture.h"

/* Interface 0 has its endpoints in setting 1 only, interface 1 in its only one. */
static const uint8_t settings_configuration[] = {
    9, 2, 64,   0, 2,  3,    0, 0xe0, 50, /* value 3, self-powered, wakes up */
    9, 4, 0,    0, 0,  0xff, 0, 0,    0,  /* 0.0 */
    9, 4, 0,    1, 3,  0xff, 0, 0,    0,  /* 0.1 */
    7, 5, 0x81, 2, 64, 0,    0,           /* bulk IN */
    7, 5, 0x02, 2, 64, 0,    0,           /* bulk OUT */
    7, 5, 0x84, 1, 64, 0,    1,           /* isochronous IN */
    9, 4, 1,    0, 1,  0xff, 0, 0,    0,  /* 1.0 */
    7, 5, 0x83, 3, 8,  0,    1,           /* interrupt IN */
};

static struct fixture fixture;
static struct client client;
static struct recorder *device;

static void begin(const struct usbip_function_type *type,
                  const struct usbip_device_options *options)
{
    fixture_init(&fixture);
    device = add_device(&fixture, type, options);
    client_open(&fixture, &client);
    client_import(&client);
}

static void begin_acm(enum usbip_speed speed)
{
    struct usbip_device_options options = usual_options();
    options.speed = speed;
    options.strings[4] = "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"; /* grüß and an emoji */
    begin(&usbip_function_cdc_acm, &options);
}

/* With interface 0 in setting 1. */
static void begin_settings(void)
{
    struct usbip_device_options options = usual_options();
    options.configuration = settings_configuration;
    options.configuration_size = sizeof settings_configuration;
    begin(&usbip_function_raw, &options);
    CU_ASSERT_TRUE(control_out(&client, "00 09 0300 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_out(&client, "01 0b 0100 0000 0000", "", 0));
}

static void end(void)
{
    client_close(&client);
    fixture_free(&fixture);
}

#define DEVICE "12 01 0002 ef0201 40 0912 0100 0001 01 02 03 01"
#define CONFIGURATION_HEAD "09 02 4b00 02 01 00 80 32"
#define CONFIGURATION_REST                                                                         \
    "08 0b 00 02 02 02 00 00 | 09 04 00 00 01 02 02 00 00 | 05 24 00 1001 | 04 24 02 06 |"         \
    "05 24 01 00 01 | 05 24 06 00 01 | 07 05 82 03 1000 10 | 09 04 01 00 02 0a 00 00 00 |"         \
    "07 05 81 02 4000 00 | 07 05 01 02 4000 00"

/* S072 to S075, S084: as much as was asked for, and never more than there is. */
static void test_descriptors(void)
{
    begin_acm(USBIP_SPEED_FULL);
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 1200", 0, DEVICE));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 4000", 0, DEVICE));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 0800", 0, "12 01 0002 ef0201 40"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 0000", 0, ""));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0002 0000 0900", 0, CONFIGURATION_HEAD));
    CU_ASSERT_TRUE(
        control_in(&client, "80 06 0002 0000 4b00", 0, CONFIGURATION_HEAD CONFIGURATION_REST));
    CU_ASSERT_TRUE(
        control_in(&client, "80 06 0002 0000 0010", 0, CONFIGURATION_HEAD CONFIGURATION_REST));
    CU_ASSERT_TRUE(
        control_in(&client, "80 06 0002 0000 ffff", 0, CONFIGURATION_HEAD CONFIGURATION_REST));
    end();
}

/* S086: -EREMOTEIO for a short one that must not be short. */
static void test_short_not_ok(void)
{
    begin_acm(USBIP_SPEED_FULL);
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = 1,
        .devid = 0x00010001,
        .direction = USBIP_DIR_IN,
        .cmd_submit = {.transfer_flags = USBIP_URB_SHORT_NOT_OK,
                       .transfer_buffer_length = 64,
                       .setup = {0x80, 6, 0, 1, 0, 0, 64, 0}},
    };
    submit(&client, &header, NULL, 0);
    CU_ASSERT_TRUE(got_in(&client, 1, -121, DEVICE));
    end();
}

/* S076 */
static void test_strings(void)
{
    begin_acm(USBIP_SPEED_FULL);
    CU_ASSERT_TRUE(control_in(&client, "80 06 0003 0000 ff00", 0, "04 03 0904"));
    CU_ASSERT_TRUE(
        control_in(&client, "80 06 0103 0904 ff00", 0, "0c 03 4d00 6100 6b00 6500 7200"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0303 0904 ff00", 0, "06 03 5300 3100"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0103 0904 0200", 0, "0c 03"));
    CU_ASSERT_TRUE(
        control_in(&client, "80 06 0403 0904 ff00", 0, "10 03 6700 7200 fc00 df00 2000 3dd8 00de"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0503 0904 ff00", -32, ""));
    CU_ASSERT_TRUE(control_in(&client, "80 06 1f03 0904 ff00", -32, ""));
    CU_ASSERT_TRUE(control_in(&client, "80 06 2003 0904 ff00", -32, ""));
    CU_ASSERT_TRUE(control_in(&client, "80 06 ff03 0904 ff00", -32, ""));
    end();
}

/* S077, S083: a stall is no more than that. */
static void test_stalls(void)
{
    begin_acm(USBIP_SPEED_FULL);
    CU_ASSERT_TRUE(control_in(&client, "80 06 0902 0000 ff00", -32, "")); /* configuration 9 */
    CU_ASSERT_TRUE(control_in(&client, "80 06 000f 0000 0500", -32, "")); /* BOS */
    CU_ASSERT_TRUE(control_in(&client, "c0 77 0000 0000 0400", -32, ""));
    CU_ASSERT_TRUE(control_out(&client, "40 77 0000 0000 0400", "01020304", -32));
    CU_ASSERT_TRUE(control_out(&client, "00 07 0001 0000 0000", "", -32)); /* SET_DESCRIPTOR */
    CU_ASSERT_TRUE(control_in(&client, "82 0c 0000 8100 0200", -32, ""));  /* SYNCH_FRAME */
    CU_ASSERT_TRUE(control_in(&client, "80 00 0000 0000 0200", 0, "0000"));
    CU_ASSERT_EQUAL(usbip_device_counters(device->device)->stalls, 6);
    end();
}

static void test_qualifier(void)
{
    begin_acm(USBIP_SPEED_FULL);
    CU_ASSERT_TRUE(control_in(&client, "80 06 0006 0000 0a00", -32, ""));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0007 0000 ff00", -32, ""));
    end();
    begin_acm(USBIP_SPEED_HIGH);
    CU_ASSERT_TRUE(control_in(&client, "80 06 0006 0000 0a00", 0, "0a 06 0002 ef0201 40 01 00"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0002 0000 ff00", 0,
                              CONFIGURATION_HEAD
                              "08 0b 00 02 02 02 00 00 | 09 04 00 00 01 02 02 00 00 |"
                              "05 24 00 1001 | 04 24 02 06 | 05 24 01 00 01 | 05 24 06 00 01 |"
                              "07 05 82 03 1000 08 | 09 04 01 00 02 0a 00 00 00 |"
                              "07 05 81 02 0002 00 | 07 05 01 02 0002 00"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0007 0000 ff00", 0,
                              "09 07 4b00 02 01 00 80 32"
                              "08 0b 00 02 02 02 00 00 | 09 04 00 00 01 02 02 00 00 |"
                              "05 24 00 1001 | 04 24 02 06 | 05 24 01 00 01 | 05 24 06 00 01 |"
                              "07 05 82 03 1000 08 | 09 04 01 00 02 0a 00 00 00 |"
                              "07 05 81 02 4000 00 | 07 05 01 02 4000 00"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0107 0000 ff00", -32, ""));
    end();
}

/* S080, S081, S082: what does not agree with itself is not carried out. */
static void test_inconsistent(void)
{
    begin_acm(USBIP_SPEED_FULL);
    submit_in(&client, 1, 0, 64, "80 06 0001 0000 1200");
    CU_ASSERT_TRUE(got_in(&client, 1, -22, ""));
    submit_in(&client, 2, 0, 18, "80 06 0001 0000 4000");
    CU_ASSERT_TRUE(got_in(&client, 2, -22, ""));
    submit_out(&client, 3, 0, "00000000000000", "a1 21 0000 0000 0700");
    CU_ASSERT_TRUE(got_out(&client, 3, -22, 0));
    submit_in(&client, 4, 0, 7, "21 20 0000 0000 0700");
    CU_ASSERT_TRUE(got_in(&client, 4, -22, ""));
    submit_out(&client, 5, 0, "00", "21 22 0300 0000 0000");
    CU_ASSERT_TRUE(got_out(&client, 5, -22, 0));
    CU_ASSERT_TRUE(called(device, "attach"));
    /* S085: without a data stage there is no direction to disagree on. */
    submit_out(&client, 6, 0, "", "80 06 0001 0000 0000");
    CU_ASSERT_TRUE(got_out(&client, 6, 0, 0));
    submit_in(&client, 7, 0, 0, "21 22 0300 0000 0000");
    CU_ASSERT_TRUE(got_in(&client, 7, 0, ""));
    CU_ASSERT_TRUE(called(device, "lines=3 open"));
    end();
}

/* S089 */
static void test_pipelined(void)
{
    begin_acm(USBIP_SPEED_FULL);
    for (uint32_t i = 1; i <= 8; i++)
        submit_in(&client, i, 0, i, "80 06 0001 0000 0800");
    for (uint32_t i = 1; i < 8; i++) /* only the last one asks for what its setup says */
        CU_ASSERT_TRUE(got_in(&client, i, -22, ""));
    CU_ASSERT_TRUE(got_in(&client, 8, 0, "12 01 0002 ef0201 40"));
    for (uint32_t i = 1; i <= 8; i++)
        submit_in(&client, i, 0, 8, "80 06 0001 0000 0800");
    for (uint32_t i = 1; i <= 8; i++)
        CU_ASSERT_TRUE(got_in(&client, i, 0, "12 01 0002 ef0201 40"));
    end();
}

/* S090, S092, S093, S094 */
static void test_configuration(void)
{
    begin_acm(USBIP_SPEED_FULL);
    CU_ASSERT_TRUE(control_in(&client, "80 08 0000 0000 0100", 0, "00"));
    CU_ASSERT_TRUE(control_out(&client, "00 09 6300 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "00 09 0101 0000 0000", "", -32)); /* 0x101 is not 1 */
    CU_ASSERT_TRUE(control_in(&client, "80 08 0000 0000 0100", 0, "00"));
    CU_ASSERT_TRUE(control_out(&client, "00 09 0100 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_in(&client, "80 08 0000 0000 0100", 0, "01"));
    submit_out(&client, 1, 0x01, "61", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1));
    CU_ASSERT_TRUE(control_out(&client, "00 09 0000 0000 0000", "", 0));
    submit_out(&client, 2, 0x01, "61", NULL);
    CU_ASSERT_TRUE(got_out(&client, 2, -2, 0));
    CU_ASSERT_TRUE(control_out(&client, "00 09 0100 0000 0000", "", 0));
    submit_out(&client, 3, 0x01, "61", NULL);
    CU_ASSERT_TRUE(got_out(&client, 3, 0, 1));
    end();
}

/* S091: what waits ends with -ESHUTDOWN before the request does; halts are gone. */
static void test_configuration_ends_urbs(void)
{
    begin_acm(USBIP_SPEED_FULL);
    client_configure(&client);
    usbip_device_halt(device->device, 0x01);
    submit_in(&client, 1, 0x81, 64, NULL);
    submit_in(&client, 2, 0x82, 16, NULL);
    submit_in(&client, 3, 0x81, 64, NULL);
    submit_out(&client, 4, 0, "", "00 09 0100 0000 0000");
    CU_ASSERT_TRUE(got_in(&client, 2, -108, ""));
    CU_ASSERT_TRUE(got_in(&client, 1, -108, ""));
    CU_ASSERT_TRUE(got_in(&client, 3, -108, ""));
    CU_ASSERT_TRUE(got_out(&client, 4, 0, 0));
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_out(&client, 5, 0x01, "61", NULL);
    CU_ASSERT_TRUE(got_out(&client, 5, 0, 1));
    submit_unlink(&client, 6, 1);
    CU_ASSERT_TRUE(got_unlinked(&client, 6, 0));
    end();
}

/* S095, S096, S097 */
static void test_interface(void)
{
    begin_settings();
    CU_ASSERT_TRUE(control_in(&client, "81 0a 0000 0000 0100", 0, "01"));
    CU_ASSERT_TRUE(control_in(&client, "81 0a 0000 0100 0100", 0, "00"));
    CU_ASSERT_TRUE(control_in(&client, "81 0a 0000 0900 0100", -32, ""));
    CU_ASSERT_TRUE(control_out(&client, "01 0b 0700 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "01 0b 0000 0900 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "01 0b 0101 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "01 0b 0000 0001 0000", "", -32));
    CU_ASSERT_TRUE(control_in(&client, "81 0a 0000 0000 0100", 0, "01"));
    CU_ASSERT_TRUE(control_out(&client, "01 0b 0000 0100 0000", "", 0));
    end();
}

/* Only the interface's own endpoints come and go. */
static void test_interface_ends_urbs(void)
{
    begin_settings();
    submit_in(&client, 1, 0x81, 64, NULL);
    submit_in(&client, 2, 0x83, 8, NULL);
    submit_out(&client, 3, 0, "", "01 0b 0000 0000 0000");
    CU_ASSERT_TRUE(got_in(&client, 1, -108, ""));
    CU_ASSERT_TRUE(got_out(&client, 3, 0, 0));
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_in(&client, 4, 0x81, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 4, -2, ""));
    CU_ASSERT_TRUE(control_out(&client, "01 0b 0100 0000 0000", "", 0));
    submit_in(&client, 5, 0x81, 64, NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_unlink(&client, 6, 2);
    CU_ASSERT_TRUE(got_unlinked(&client, 6, -104));
    end();
}

/* SET_CONFIGURATION takes interfaces back to setting 0. */
static void test_configuration_resets_interfaces(void)
{
    begin_settings();
    CU_ASSERT_TRUE(control_out(&client, "00 09 0300 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_in(&client, "81 0a 0000 0000 0100", 0, "00"));
    submit_in(&client, 1, 0x81, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 1, -2, ""));
    end();
}

/* S098, S099, S100, S103 */
static void test_halt(void)
{
    begin_settings();
    submit_in(&client, 1, 0x81, 64, NULL);
    submit_out(&client, 2, 0, "", "02 03 0000 8100 0000");
    CU_ASSERT_TRUE(got_in(&client, 1, -32, ""));
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 0));
    CU_ASSERT_TRUE(control_in(&client, "82 00 0000 8100 0200", 0, "0100"));
    CU_ASSERT_TRUE(control_in(&client, "82 00 0000 0200 0200", 0, "0000"));
    submit_in(&client, 3, 0x81, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 3, -32, ""));
    CU_ASSERT_TRUE(control_out(&client, "02 01 0000 8100 0000", "", 0));
    CU_ASSERT_TRUE(control_in(&client, "82 00 0000 8100 0200", 0, "0000"));
    submit_in(&client, 4, 0x81, 64, NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(usbip_device_send(device->device, 0x81, (const uint8_t *)"x", 1));
    CU_ASSERT_TRUE(got_in(&client, 4, 0, "78"));
    CU_ASSERT_TRUE(control_out(&client, "02 01 0000 8100 0000", "", 0)); /* S099 */
    CU_ASSERT_TRUE(control_out(&client, "02 01 0000 8f00 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "02 01 0000 8101 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "02 03 0000 0f00 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "02 03 0100 8100 0000", "", -32)); /* no such feature */
    /* Endpoint 0 takes it and goes on. */
    CU_ASSERT_TRUE(control_out(&client, "02 03 0000 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_in(&client, "82 00 0000 0000 0200", 0, "0000"));
    CU_ASSERT_TRUE(control_in(&client, "82 00 0000 8000 0200", 0, "0000"));
    end();
}

/* S104, and remote wake-up */
static void test_status(void)
{
    begin_settings();
    CU_ASSERT_TRUE(control_in(&client, "80 00 0000 0000 0200", 0, "0100"));
    CU_ASSERT_TRUE(control_in(&client, "81 00 0000 0000 0200", 0, "0000"));
    CU_ASSERT_TRUE(control_in(&client, "81 00 0000 0100 0200", 0, "0000"));
    CU_ASSERT_TRUE(control_in(&client, "81 00 0000 0200 0200", -32, ""));
    CU_ASSERT_TRUE(control_in(&client, "82 00 0000 8200 0200", -32, ""));
    CU_ASSERT_TRUE(control_in(&client, "83 00 0000 0000 0200", -32, ""));
    CU_ASSERT_TRUE(control_out(&client, "00 03 0100 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_in(&client, "80 00 0000 0000 0200", 0, "0300"));
    CU_ASSERT_TRUE(control_out(&client, "00 01 0100 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_in(&client, "80 00 0000 0000 0200", 0, "0100"));
    CU_ASSERT_TRUE(control_out(&client, "00 03 0200 0001 0000", "", -32)); /* TEST_MODE */
    end();
    begin_acm(USBIP_SPEED_FULL); /* which cannot wake anybody up */
    CU_ASSERT_TRUE(control_out(&client, "00 03 0100 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_in(&client, "81 00 0000 0000 0200", -32, "")); /* not configured */
    end();
}

/* S101: configured as before, all else as after power-on; what waited has ended. */
static void test_port_reset(void)
{
    begin_acm(USBIP_SPEED_FULL);
    client_configure(&client);
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0700", "00c20100000008", 0));
    CU_ASSERT_TRUE(control_out(&client, "21 22 0100 0000 0000", "", 0));
    usbip_device_halt(device->device, 0x01);
    submit_in(&client, 1, 0x82, 16, NULL);
    submit_out(&client, 2, 0, "", "23 03 0400 0000 0000");
    CU_ASSERT_TRUE(got_in(&client, 1, -108, ""));
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 0));
    CU_ASSERT_TRUE(called(device, "attach coding=115200/8N1 lines=1 open close"));
    CU_ASSERT_TRUE(control_in(&client, "80 08 0000 0000 0100", 0, "01"));
    CU_ASSERT_TRUE(control_in(&client, "a1 21 0000 0000 0700", 0, "80250000000008"));
    submit_out(&client, 3, 0x01, "61", NULL);
    CU_ASSERT_TRUE(got_out(&client, 3, 0, 1));
    end();
}

/* S102: acknowledged, said aloud, and nothing else. */
static void test_set_address(void)
{
    begin_acm(USBIP_SPEED_FULL);
    CU_ASSERT_TRUE(control_out(&client, "00 05 0500 0000 0000", "", 0));
    CU_ASSERT_PTR_NOT_NULL(strstr(fixture.log, "SET_ADDRESS(5)"));
    CU_ASSERT_TRUE(control_in(&client, "80 00 0000 0000 0200", 0, "0000"));
    end();
}

static void answer_report_descriptor(struct recorder *recorder, const char *word)
{
    if (strcmp(word, "control=8106002200000300") == 0)
        usbip_urb_complete_with(recorder->urb, "\x05\x01\x09\x06", 4);
}

/* S087: the behaviour gets what is not the device's own, unmodified. */
static void test_behaviour_is_asked(void)
{
    begin_settings();
    device->takes_control = true;
    device->then = answer_report_descriptor;
    CU_ASSERT_TRUE(control_in(&client, "81 06 0022 0000 0300", 0, "050109")); /* cut to wLength */
    submit_in(&client, 1, 0, 3, "c1 ff 0b37 0000 0300");
    submit_in(&client, 2, 0, 2, "80 00 0000 0000 0200");
    CU_ASSERT_TRUE(got_nothing(&client)); /* one request at a time */
    CU_ASSERT_TRUE(called(device, "attach control=8106002200000300 control=c1ff0b3700000300"));
    usbip_urb_stall(usbip_device_next_urb(device->device, 0));
    CU_ASSERT_TRUE(got_in(&client, 1, -32, ""));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "0100"));
    end();
}

/* OUT data of a request that is answered later outlives the call that brought it. */
static void test_late_answer_keeps_data(void)
{
    begin_settings();
    device->takes_control = true;
    submit_out(&client, 1, 0, "0102030405", "41 99 0000 0000 0500");
    struct usbip_urb *urb = usbip_device_next_urb(device->device, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(urb);
    CU_ASSERT_EQUAL(memcmp(urb->data, "\1\2\3\4\5", 5), 0);
    usbip_urb_complete(urb, 0, urb->length);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 5));
    end();
}

/* A reply with packets would have to describe them; the descriptors behind the URB are skipped. */
static void test_isochronous(void)
{
    begin_settings();
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = 1,
        .devid = 0x00010001,
        .direction = USBIP_DIR_IN,
        .ep = 4,
        .cmd_submit = {.transfer_buffer_length = 128, .number_of_packets = 2},
    };
    const uint8_t packets[32] = {0};
    submit(&client, &header, packets, sizeof packets);
    CU_ASSERT_TRUE(got_in(&client, 1, -22, ""));
    CU_ASSERT_TRUE(control_in(&client, "80 00 0000 0000 0200", 0, "0100"));
    header.cmd_submit.number_of_packets = USBIP_MAX_ISO_PACKETS + 1;
    CU_ASSERT_EQUAL(submit(&client, &header, NULL, 0), -1);
    CU_ASSERT_TRUE(client_is_over(&client));
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"S072-S075 S084 descriptors", test_descriptors},
        {"S086 SHORT_NOT_OK", test_short_not_ok},
        {"S076 strings", test_strings},
        {"S077 S083 stalls", test_stalls},
        {"qualifier and other speed", test_qualifier},
        {"S080-S082 S085 setup and URB disagree", test_inconsistent},
        {"S089 pipelined", test_pipelined},
        {"S090 S092-S094 SET_CONFIGURATION", test_configuration},
        {"S091 SET_CONFIGURATION ends what waits", test_configuration_ends_urbs},
        {"S095-S097 SET_INTERFACE", test_interface},
        {"SET_INTERFACE ends what waits", test_interface_ends_urbs},
        {"SET_CONFIGURATION resets interfaces", test_configuration_resets_interfaces},
        {"S098-S100 S103 halt", test_halt},
        {"S104 status and remote wake-up", test_status},
        {"S101 port reset", test_port_reset},
        {"S102 SET_ADDRESS", test_set_address},
        {"S087 the behaviour is asked", test_behaviour_is_asked},
        {"a late answer keeps its data", test_late_answer_keeps_data},
        {"S161 isochronous", test_isochronous},
        CU_TEST_INFO_NULL,
    };
    return run_tests("chapter9", tests);
}
