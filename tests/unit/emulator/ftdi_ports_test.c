/* The FTDI function with several ports: which is meant, and that none has to do with another. */
#include "protocol/ftdi.h"
#include "tests/unit/emulator/session_fixture.h"

enum { OUT_A = 0x02, IN_A = 0x81, OUT_B = 0x04, IN_B = 0x83, MS = 1000, EEPROM_WORDS = 64 };

/* CTS, DSR and DCD are up, in packets of 512 bytes; the transmitter is empty. */
#define STATUS "b2 60"

static struct fixture fixture;
static struct client client;
static struct recorder *ftdi;

static struct usbip_device_options options_of(const char *chip_name)
{
    struct usbip_device_options options = usual_options();
    const struct usbip_ftdi_chip *chip = usbip_ftdi_find_chip_named(chip_name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(chip);
    options.descriptor.idVendor = FTDI_VENDOR_ID;
    options.descriptor.idProduct = chip->idProduct;
    options.descriptor.bcdDevice = chip->bcdDevice;
    options.speed = USBIP_SPEED_HIGH;
    options.function.ftdi_chip = chip;
    return options;
}

static void begin_with(const struct usbip_device_options *options)
{
    fixture_init(&fixture);
    ftdi = add_device(&fixture, &usbip_function_ftdi, options);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(called(ftdi, "attach"));
}

static void begin(void)
{
    const struct usbip_device_options options = options_of("ft2232h");
    begin_with(&options);
}

static void end(void)
{
    client_close(&client);
    fixture_free(&fixture);
}

static void write_text(unsigned port, const char *text)
{
    CU_ASSERT_EQUAL(usbip_device_write(ftdi->device, port, (const uint8_t *)text, strlen(text)),
                    strlen(text));
}

static bool out_request(const char *setup)
{
    return control_out(&client, setup, "", 0);
}

static bool out_request_stalls(const char *setup)
{
    return control_out(&client, setup, "", -32);
}

/* ---- What the host sees ---- */

static void test_ft2232h_descriptors(void)
{
    begin();
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 1200", 0,
                              "12 01 0002 00 00 00 40 0304 1060 0007 01 02 03 01"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0002 0000 ff00", 0,
                              "09 02 3700 02 01 00 80 32 |"
                              "09 04 00 00 02 ff ff ff 02 |"
                              "07 05 81 02 0002 00 | 07 05 02 02 0002 00 |"
                              "09 04 01 00 02 ff ff ff 02 |"
                              "07 05 83 02 0002 00 | 07 05 04 02 0002 00"));
    CU_ASSERT_EQUAL(usbip_device_port_count(ftdi->device), 2);
    end();
}

static void test_ft4232h_descriptors(void)
{
    const struct usbip_device_options options = options_of("ft4232h");
    begin_with(&options);
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 1200", 0,
                              "12 01 0002 00 00 00 40 0304 1160 0008 01 02 03 01"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0002 0000 ff00", 0,
                              "09 02 6500 04 01 00 80 32 |"
                              "09 04 00 00 02 ff ff ff 02 |"
                              "07 05 81 02 0002 00 | 07 05 02 02 0002 00 |"
                              "09 04 01 00 02 ff ff ff 02 |"
                              "07 05 83 02 0002 00 | 07 05 04 02 0002 00 |"
                              "09 04 02 00 02 ff ff ff 02 |"
                              "07 05 85 02 0002 00 | 07 05 06 02 0002 00 |"
                              "09 04 03 00 02 ff ff ff 02 |"
                              "07 05 87 02 0002 00 | 07 05 08 02 0002 00"));
    CU_ASSERT_TRUE(out_request("40 01 0303 0400 0000"));
    submit_out(&client, 1, 0x08, "78", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1));
    CU_ASSERT_TRUE(called(ftdi, "4.lines=3 4.open 4.data=78"));
    CU_ASSERT_TRUE(out_request_stalls("40 01 0303 0500 0000"));
    end();
}

/* At full speed the chip has small packets, and says so. */
static void test_full_speed(void)
{
    struct usbip_device_options options = options_of("ft2232h");
    options.speed = USBIP_SPEED_FULL;
    begin_with(&options);
    CU_ASSERT_TRUE(control_in(&client, "80 06 0002 0000 ff00", 0,
                              "09 02 3700 02 01 00 80 32 |"
                              "09 04 00 00 02 ff ff ff 02 |"
                              "07 05 81 02 4000 00 | 07 05 02 02 4000 00 |"
                              "09 04 01 00 02 ff ff ff 02 |"
                              "07 05 83 02 4000 00 | 07 05 04 02 4000 00"));
    submit_in(&client, 1, IN_B, 512, NULL);
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "b1 60"));
    end();
}

static void test_eeprom(void)
{
    uint16_t words[EEPROM_WORDS];
    unsigned sum = 0xaaaa;
    begin();
    for (uint16_t i = 0; i < EEPROM_WORDS; i++) {
        char setup[32];
        snprintf(setup, sizeof setup, "c0 90 0000 %02x00 0200", i);
        submit_in(&client, 0x1000u + i, 0, 2, setup);
        const uint8_t *reply;
        CU_ASSERT_EQUAL_FATAL(usbip_device_session_take_output(client.session, &reply), 50);
        words[i] = (uint16_t)(reply[48] | reply[49] << 8);
    }
    CU_ASSERT_EQUAL(words[0], 0x0808); /* both are serial ports */
    CU_ASSERT_EQUAL(words[1], 0x0403);
    CU_ASSERT_EQUAL(words[2], 0x6010);
    CU_ASSERT_EQUAL(words[3], 0x0700);
    CU_ASSERT_EQUAL(words[4], 50 << 8 | 0x80);
    CU_ASSERT_EQUAL(words[7], 12 << 8 | 0x9a); /* "Maker" */
    CU_ASSERT_EQUAL(words[12], 0x46);
    CU_ASSERT_EQUAL(words[13], 0x0300 | 12);
    CU_ASSERT_EQUAL(words[14], 'M');
    for (unsigned i = 0; i < EEPROM_WORDS - 1; i++) {
        sum ^= words[i];
        sum = (sum << 1 | sum >> 15) & 0xffff;
    }
    CU_ASSERT_EQUAL(words[EEPROM_WORDS - 1], sum);
    /* Its address is no port. */
    CU_ASSERT_TRUE(out_request("40 91 3412 0300 0000"));
    CU_ASSERT_TRUE(control_in(&client, "c0 90 0000 0300 0200", 0, "3412"));
    end();
}

/* ---- Requests ---- */

/* What Linux's ftdi_sio does with the second port, from probe to close. */
static void test_linux_session(void)
{
    begin();
    CU_ASSERT_TRUE(control_in(&client, "c0 0a 0000 0200 0100", 0, "10"));
    CU_ASSERT_TRUE(out_request("40 09 1000 0200 0000"));
    CU_ASSERT_TRUE(out_request("40 00 0000 0200 0000"));
    CU_ASSERT_TRUE(out_request("40 04 0800 0200 0000"));
    CU_ASSERT_TRUE(out_request("40 03 e204 0202 0000"));
    CU_ASSERT_TRUE(out_request("40 02 0000 0200 0000"));
    submit_in(&client, 100, IN_B, 512, NULL);
    submit_in(&client, 101, IN_B, 512, NULL);
    CU_ASSERT_TRUE(out_request("40 01 0303 0200 0000"));
    CU_ASSERT_TRUE(called(ftdi, "2.coding=9600/8N1 2.coding=9600/8N1 2.lines=3 2.open"));
    CU_ASSERT_TRUE(out_request("40 04 0712 0200 0000"));
    CU_ASSERT_TRUE(out_request("40 03 68c0 0202 0000"));
    CU_ASSERT_TRUE(out_request("40 04 0752 0200 0000"));
    CU_ASSERT_TRUE(out_request("40 04 0712 0200 0000"));
    CU_ASSERT_TRUE(called(ftdi, "2.coding=9600/7E2 2.coding=115200/7E2 2.break=65535 2.break=0"));
    submit_out(&client, 200, OUT_B, "6869", NULL);
    CU_ASSERT_TRUE(got_out(&client, 200, 0, 2));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0200 0200", 0, STATUS));
    CU_ASSERT_TRUE(out_request("40 02 0000 0200 0000"));
    CU_ASSERT_TRUE(out_request("40 01 0003 0200 0000"));
    CU_ASSERT_TRUE(called(ftdi, "2.data=6869 2.lines=0 2.close"));
    end();
}

/* As Linux and libftdi encode them: the high byte of wIndex has the divisor's upper bits. */
static void test_baud_rates(void)
{
    static const struct {
        const char *setup, *calls;
    } cases[] = {
        {"40 03 1027 0100 0000", "coding=300/8N1"},
        {"40 03 1027 0102 0000", "coding=1200/8N1"},
        {"40 03 d000 0203 0000", "2.coding=57600/8N1"},
        {"40 03 68c0 0102 0000", "coding=115200/8N1"},
        {"40 03 0d00 0202 0000", "2.coding=921600/8N1"},
        {"40 03 0000 0202 0000", "2.coding=12000000/8N1"},
        {"40 03 0000 0100 0000", "coding=3000000/8N1"},
        {"40 03 1a00 0200 0000", "2.coding=115385/8N1"},
        {"40 03 02c0 0003 0000", "coding=4173913/8N1"}, /* port 0 is the first one */
    };
    begin();
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CU_ASSERT_TRUE(out_request(cases[i].setup));
        CU_ASSERT_TRUE(called(ftdi, cases[i].calls));
    }
    CU_ASSERT_TRUE(out_request_stalls("40 03 0140 0202 0000")); /* divisor 1.125 */
    CU_ASSERT_TRUE(called(ftdi, ""));
    end();
}

/* No request to a port that there is not is taken for one to another. */
static void test_ports_that_there_are_not(void)
{
    begin();
    CU_ASSERT_TRUE(out_request_stalls("40 00 0000 0300 0000"));
    CU_ASSERT_TRUE(out_request_stalls("40 01 0303 0300 0000"));
    CU_ASSERT_TRUE(out_request_stalls("40 03 68c0 0302 0000"));
    CU_ASSERT_TRUE(out_request_stalls("40 04 0800 ff00 0000"));
    CU_ASSERT_TRUE(out_request_stalls("40 09 0500 0300 0000"));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0300 0200", -32, ""));
    CU_ASSERT_TRUE(control_in(&client, "c0 0a 0000 0400 0100", -32, ""));
    CU_ASSERT_TRUE(control_in(&client, "c0 0a 0000 0100 0100", 0, "10"));
    CU_ASSERT_TRUE(control_in(&client, "c0 0a 0000 0200 0100", 0, "10"));
    CU_ASSERT_TRUE(called(ftdi, ""));
    /* The same from the other side. */
    CU_ASSERT_EQUAL(usbip_device_write(ftdi->device, 0, (const uint8_t *)"x", 1), 0);
    CU_ASSERT_EQUAL(usbip_device_write(ftdi->device, 3, (const uint8_t *)"x", 1), 0);
    CU_ASSERT_EQUAL(usbip_device_write_room(ftdi->device, 3), 0);
    usbip_device_set_modem_state(ftdi->device, 3, 0);
    CU_ASSERT_EQUAL(usbip_device_modem_state(ftdi->device, 3), 0);
    /* Port 0 is the first one. */
    CU_ASSERT_TRUE(out_request("40 01 0101 0000 0000"));
    CU_ASSERT_TRUE(called(ftdi, "lines=1 open"));
    end();
}

static void test_settings_are_apart(void)
{
    begin();
    CU_ASSERT_TRUE(out_request("40 01 0303 0100 0000"));
    CU_ASSERT_TRUE(out_request("40 01 0101 0200 0000"));
    CU_ASSERT_TRUE(out_request("40 04 0842 0100 0000")); /* 8E1 and break */
    CU_ASSERT_TRUE(out_request("40 04 0801 0200 0000")); /* 8O1 and none */
    CU_ASSERT_TRUE(out_request("40 03 68c0 0202 0000"));
    CU_ASSERT_TRUE(called(ftdi, "lines=3 open 2.lines=1 2.open coding=9600/8E1 break=65535 "
                                "2.coding=9600/8O1 2.coding=115200/8O1"));
    CU_ASSERT_TRUE(out_request("40 09 0500 0200 0000"));
    CU_ASSERT_TRUE(control_in(&client, "c0 0a 0000 0100 0100", 0, "10"));
    CU_ASSERT_TRUE(control_in(&client, "c0 0a 0000 0200 0100", 0, "05"));
    usbip_device_set_modem_state(ftdi->device, 2, USBIP_MODEM_CTS);
    CU_ASSERT_EQUAL(usbip_device_modem_state(ftdi->device, 1),
                    USBIP_MODEM_CTS | USBIP_MODEM_DSR | USBIP_MODEM_DCD);
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0100 0200", 0, STATUS));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0200 0200", 0, "12 60"));
    /* A reset, and a purge, of one. */
    write_text(1, "one");
    write_text(2, "two");
    CU_ASSERT_TRUE(out_request("40 00 0000 0200 0000"));
    CU_ASSERT_TRUE(called(ftdi, "2.lines=0 2.close 2.drained"));
    CU_ASSERT_TRUE(out_request("40 00 0200 0100 0000"));
    CU_ASSERT_TRUE(called(ftdi, "drained"));
    /* The host is gone. */
    CU_ASSERT_TRUE(out_request("40 01 0101 0200 0000"));
    client_close(&client);
    CU_ASSERT_TRUE(called(ftdi, "2.lines=1 2.open close 2.close detach"));
    end();
}

/* ---- Data ---- */

static void test_data_are_apart(void)
{
    begin();
    submit_out(&client, 1, OUT_A, "61", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1));
    submit_out(&client, 2, OUT_B, "62", NULL);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1));
    CU_ASSERT_TRUE(called(ftdi, "data=61 2.data=62"));
    submit_in(&client, 3, IN_A, 512, NULL);
    submit_in(&client, 4, IN_B, 512, NULL);
    write_text(2, "B");
    write_text(1, "A");
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, STATUS "41"));
    CU_ASSERT_TRUE(got_in(&client, 4, 0, STATUS "42"));
    CU_ASSERT_TRUE(called(ftdi, "drained 2.drained"));
    CU_ASSERT_TRUE(got_nothing(&client));
    /* One has what it needs to go at once, the other has not. */
    submit_in(&client, 5, IN_A, 512, NULL);
    submit_in(&client, 6, IN_B, 512, NULL);
    CU_ASSERT_TRUE(out_request("40 06 0a01 0200 0000")); /* event character */
    write_text(1, "\n");
    CU_ASSERT_TRUE(got_nothing(&client));
    write_text(2, "\n");
    CU_ASSERT_TRUE(got_in(&client, 6, 0, STATUS "0a"));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* Packets of 512 bytes, of which two are status. */
static void test_large_packets(void)
{
    uint8_t bytes[1100], expected[1024 + 2 + 80];
    size_t at = 0;
    begin();
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    for (size_t from = 0, rest = sizeof bytes; rest > 0;) {
        size_t piece = rest < 510 ? rest : 510;
        expected[at++] = 0xb2;
        expected[at++] = 0x60;
        memcpy(expected + at, bytes + from, piece);
        at += piece, from += piece, rest -= piece;
    }
    CU_ASSERT_EQUAL(at, sizeof expected);
    submit_in(&client, 1, IN_B, 512, NULL);
    submit_in(&client, 2, IN_B, 1024, NULL);
    usbip_device_write(ftdi->device, 2, bytes, sizeof bytes);
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, expected, 512));
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in_bytes(&client, 2, 0, expected + 512, sizeof expected - 512));
    end();
}

/* Each port has idle packets, in its own time. */
static void test_idle_packets(void)
{
    begin();
    CU_ASSERT_TRUE(out_request("40 09 0500 0200 0000"));
    submit_in(&client, 1, IN_A, 512, NULL);
    submit_in(&client, 2, IN_B, 512, NULL);
    submit_in(&client, 3, IN_B, 512, NULL);
    fixture_pass_us(&fixture, 5 * MS);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, STATUS));
    fixture_pass_us(&fixture, 5 * MS);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, STATUS));
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 6 * MS);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, STATUS));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* A port whose bytes the host does not take holds up its own output only. */
static void test_flow_control_is_apart(void)
{
    uint8_t *bytes = calloc(1, USBIP_FIFO_SIZE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    begin();
    CU_ASSERT_EQUAL(usbip_device_write(ftdi->device, 1, bytes, USBIP_FIFO_SIZE), USBIP_FIFO_SIZE);
    CU_ASSERT_EQUAL(usbip_device_write_room(ftdi->device, 1), 0);
    CU_ASSERT_EQUAL(usbip_device_write_room(ftdi->device, 2), USBIP_FIFO_SIZE);
    submit_out(&client, 1, OUT_A, "61", NULL);
    submit_out(&client, 2, OUT_B, "62", NULL);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(called(ftdi, "2.data=62"));
    CU_ASSERT_TRUE(out_request("40 00 0200 0200 0000")); /* purges the other one */
    CU_ASSERT_TRUE(called(ftdi, ""));
    submit_out(&client, 0xc1, 0, "", "40 00 0200 0100 0000");
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1));
    CU_ASSERT_TRUE(got_out(&client, 0xc1, 0, 0));
    CU_ASSERT_TRUE(called(ftdi, "data=61 drained"));
    end();
    free(bytes);
}

/* Each line has its own rate. */
static void test_paced(void)
{
    struct usbip_device_options options = options_of("ft2232h");
    options.function.paced = true;
    begin_with(&options);
    CU_ASSERT_TRUE(out_request("40 03 1027 0102 0000")); /* 1200: a byte takes 8333.3 us */
    CU_ASSERT_TRUE(out_request("40 03 e204 0202 0000")); /* 9600: 1041.7 us */
    CU_ASSERT_TRUE(called(ftdi, "coding=1200/8N1 2.coding=9600/8N1"));
    submit_out(&client, 1, OUT_A, "61", NULL);
    submit_out(&client, 2, OUT_B, "62", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1));
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0100 0200", 0, "b2 00"));
    fixture_pass_us(&fixture, 1042);
    CU_ASSERT_TRUE(called(ftdi, "2.data=62"));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0100 0200", 0, "b2 00"));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0200 0200", 0, STATUS));
    fixture_pass_us(&fixture, 8334 - 1042);
    CU_ASSERT_TRUE(called(ftdi, "data=61"));
    end();
}

/* ---- Behaviours in C ---- */

static void begin_native(const struct usbip_behaviour_ops *ops, void *context)
{
    const struct usbip_device_options options = options_of("ft2232h");
    const struct usbip_behaviour behaviour = {ops, context};
    char error_text[256];
    fixture_init(&fixture);
    struct usbip_device *device =
        usbip_device_new(&options, &usbip_function_ftdi, &behaviour, &fixture.scheduler,
                         &fixture.bus.log, error_text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(device);
    CU_ASSERT_EQUAL_FATAL(usbip_bus_add(&fixture.bus, device), 0);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
}

static void test_echo(void)
{
    struct usbip_echo echo;
    begin_native(&usbip_echo_ops, &echo);
    submit_out(&client, 1, OUT_B, "62", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1));
    submit_in(&client, 2, IN_A, 512, NULL);
    submit_in(&client, 3, IN_B, 512, NULL);
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, STATUS));
    CU_ASSERT_TRUE(got_in(&client, 3, 0, STATUS "62"));
    end();
}

/* Each port has a count of its own, and begins when it is opened. */
static void test_source(void)
{
    struct usbip_source source;
    begin_native(&usbip_source_ops, &source);
    submit_in(&client, 1, IN_A, 8, NULL);
    submit_in(&client, 2, IN_B, 8, NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_out(&client, 0xc1, 0, "", "40 01 0101 0200 0000");
    CU_ASSERT_TRUE(got_in(&client, 2, 0, STATUS "00 01 02 03 04 05"));
    CU_ASSERT_TRUE(got_out(&client, 0xc1, 0, 0));
    submit_in(&client, 3, IN_B, 8, NULL);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, STATUS "06 07 08 09 0a 0b"));
    submit_out(&client, 0xc1, 0, "", "40 01 0101 0100 0000");
    CU_ASSERT_TRUE(got_in(&client, 1, 0, STATUS "00 01 02 03 04 05"));
    CU_ASSERT_TRUE(got_out(&client, 0xc1, 0, 0));
    end();
}

/* ---- What is wrong ---- */

static void test_configuration_without_second_port(void)
{
    static const uint8_t configuration[] = {
        9,    2, 32, 0, 1,    1, 0, 0x80, 50, 9, 4, 0,    0, 2, 0xff, 0xff,
        0xff, 2, 7,  5, 0x81, 2, 0, 2,    0,  7, 5, 0x02, 2, 0, 2,    0,
    };
    struct usbip_device_options options = options_of("ft2232h");
    char error_text[256];
    options.configuration = configuration;
    options.configuration_size = sizeof configuration;
    fixture_init(&fixture);
    CU_ASSERT_PTR_NULL(
        new_device(&fixture, &fixture.recorders[0], &usbip_function_ftdi, &options, error_text));
    CU_ASSERT_STRING_EQUAL(error_text, "an ftdi device needs a bulk IN endpoint of 512 bytes and a "
                                       "bulk OUT endpoint on interface 1");
    fixture_free(&fixture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"descriptors of an FT2232H", test_ft2232h_descriptors},
        {"descriptors of an FT4232H", test_ft4232h_descriptors},
        {"an FT2232H at full speed", test_full_speed},
        {"EEPROM", test_eeprom},
        {"a session of Linux's ftdi_sio", test_linux_session},
        {"baud rates", test_baud_rates},
        {"ports that there are not", test_ports_that_there_are_not},
        {"settings are apart", test_settings_are_apart},
        {"data are apart", test_data_are_apart},
        {"large packets", test_large_packets},
        {"idle packets", test_idle_packets},
        {"flow control is apart", test_flow_control_is_apart},
        {"paced", test_paced},
        {"echo", test_echo},
        {"source", test_source},
        {"a configuration without the second port", test_configuration_without_second_port},
        CU_TEST_INFO_NULL,
    };
    return run_tests("ftdi_ports", tests);
}
