/* The FTDI driver: which devices it accepts, and the bytes of its requests. */
#include <string.h>

#include "client/driver.h"
#include "protocol/ftdi.h"
#include "tests/support/testing.h"

static struct usbip_configuration configuration;
static struct usbip_chip chip;

static bool probe(uint16_t idVendor, uint16_t bcdDevice, uint8_t bInterfaceClass, uint8_t size_in)
{
    const uint8_t bytes[] = {
        9,    2,    32,   0,    1,       1,
        0,    0xa0, 45, /* configuration */
        9,    4,    0,    0,    2,       bInterfaceClass,
        0xff, 0xff, 2, /* interface */
        7,    5,    0x81, 2,    size_in, 0,
        0,    7,    5,    0x02, 2,       64,
        0,    0 /* endpoints */
    };
    const struct usbip_device_descriptor device = {
        .idVendor = idVendor,
        .idProduct = 0x6001,
        .bcdDevice = bcdDevice,
    };

    CU_ASSERT_EQUAL_FATAL(usbip_parse_configuration(bytes, sizeof(bytes), &configuration), 0);
    return usbip_probe_chip(&device, &configuration, 1, &chip) == 0 &&
           chip.driver == &usbip_driver_ftdi;
}

/* Two interfaces of an FT2232H, of which the second is as it is told. */
static bool probe_ft2232h(uint8_t port, uint8_t second_class)
{
    const uint8_t bytes[] = {
        9,    2,    55,   0,    2, 1,
        0,    0x80, 50, /* configuration */
        9,    4,    0,    0,    2, 0xff,
        0xff, 0xff, 2, /* port A */
        7,    5,    0x81, 2,    0, 2,
        0,    7,    5,    0x02, 2, 0,
        2,    0, /* its endpoints */
        9,    4,    1,    0,    2, second_class,
        0xff, 0xff, 2, /* port B */
        7,    5,    0x83, 2,    0, 2,
        0,    7,    5,    0x04, 2, 0,
        2,    0,
    };
    const struct usbip_device_descriptor device = {
        .idVendor = 0x0403,
        .idProduct = 0x6010,
        .bcdDevice = 0x0700,
    };

    CU_ASSERT_EQUAL_FATAL(usbip_parse_configuration(bytes, sizeof(bytes), &configuration), 0);
    return usbip_probe_chip(&device, &configuration, port, &chip) == 0 &&
           chip.driver == &usbip_driver_ftdi;
}

static void test_probe(void)
{
    CU_ASSERT_FATAL(probe(0x0403, 0x0600, 0xff, 64));
    CU_ASSERT_STRING_EQUAL(chip.name, "FT232R");
    CU_ASSERT_EQUAL(chip.bulk_in, 0x81);
    CU_ASSERT_EQUAL(chip.bulk_out, 0x02);
    CU_ASSERT_EQUAL(chip.bulk_in_packet_size, 64);
    CU_ASSERT_EQUAL(chip.bulk_out_packet_size, 64);
    CU_ASSERT_EQUAL(chip.data_type, USB_ENDPOINT_XFER_BULK);
    CU_ASSERT_EQUAL(chip.interrupt_in, 0);
    CU_ASSERT_EQUAL(chip.bcdDevice, 0x0600);
    CU_ASSERT_FATAL(probe(0x0403, 0x0400, 0xff, 64));
    CU_ASSERT_STRING_EQUAL(chip.name, "FT232BM");
}

static void test_packet_size_zero_means_64(void)
{
    CU_ASSERT_FATAL(probe(0x0403, 0x0600, 0xff, 0));
    CU_ASSERT_EQUAL(chip.bulk_in_packet_size, 64);
}

static void test_refused(void)
{
    CU_ASSERT_FALSE(probe(0x0404, 0x0600, 0xff, 64));
    CU_ASSERT_FALSE(probe(0x0403, 0x0500, 0xff, 64)); /* FT2232D: the divisor is elsewhere */
    CU_ASSERT_FALSE(probe(0x0403, 0x0600, 0x03, 64));
}

static void assert_requests(const struct usbip_request_list *list, const char *setups,
                            unsigned count)
{
    CU_ASSERT_EQUAL_FATAL(list->count, count);
    for (unsigned i = 0; i < count; i++) {
        uint8_t bytes[USBIP_SETUP_SIZE];

        usbip_encode_setup(bytes, &list->requests[i].setup);
        CU_ASSERT_EQUAL(memcmp(bytes, setups + i * sizeof(bytes), sizeof(bytes)), 0);
    }
}

static void test_open(void)
{
    struct usbip_serial_settings settings = {
        .line_coding = {14400, USBIP_STOP_1, USBIP_PARITY_NONE, 8},
        .control_lines = USBIP_LINE_DTR | USBIP_LINE_RTS,
        .latency_timer_ms = 2,
    };
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_EQUAL(usbip_driver_ftdi.open(&chip, &settings, &list), 0);
    assert_requests(&list,
                    "\x40\x00\x00\x00\x00\x00\x00\x00"  /* reset */
                    "\x40\x09\x02\x00\x00\x00\x00\x00"  /* latency timer */
                    "\x40\x04\x08\x00\x00\x00\x00\x00"  /* 8N1 */
                    "\x40\x03\xd0\x00\x01\x00\x00\x00"  /* 14400: a bit of the divisor in wIndex */
                    "\x40\x02\x00\x00\x00\x00\x00\x00", /* no flow control */
                    5);
}

static void test_line_coding(void)
{
    const struct usbip_line_coding fits = {9600, USBIP_STOP_2, USBIP_PARITY_EVEN, 7};
    const struct usbip_line_coding five_bits = {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 5};
    const struct usbip_line_coding too_slow = {183, USBIP_STOP_1, USBIP_PARITY_NONE, 8};
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_EQUAL(usbip_driver_ftdi.line_coding(&chip, &fits, &list), 0);
    assert_requests(&list, "\x40\x04\x07\x12\x00\x00\x00\x00\x40\x03\x38\x41\x00\x00\x00\x00", 2);
    CU_ASSERT_EQUAL(usbip_driver_ftdi.line_coding(&chip, &five_bits, &list), -1);
    CU_ASSERT_EQUAL(usbip_driver_ftdi.line_coding(&chip, &too_slow, &list), -1);
    CU_ASSERT_EQUAL(list.count, 2);
}

static void test_control_lines(void)
{
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_EQUAL(usbip_driver_ftdi.control_lines(&chip, 3, &list), 0);
    CU_ASSERT_EQUAL(usbip_driver_ftdi.control_lines(&chip, USBIP_LINE_DTR, &list), 0);
    CU_ASSERT_EQUAL(usbip_driver_ftdi.control_lines(&chip, USBIP_LINE_RTS, &list), 0);
    assert_requests(&list,
                    "\x40\x01\x03\x03\x00\x00\x00\x00"
                    "\x40\x01\x01\x03\x00\x00\x00\x00"
                    "\x40\x01\x02\x03\x00\x00\x00\x00",
                    3);
}

static void test_close(void)
{
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_EQUAL(usbip_driver_ftdi.close(&chip, &list), 0);
    assert_requests(&list, "\x40\x02\x00\x00\x00\x00\x00\x00\x40\x01\x00\x03\x00\x00\x00\x00", 2);
}

static void test_break(void)
{
    const struct usbip_line_coding coding = {9600, USBIP_STOP_1, USBIP_PARITY_ODD, 8};
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_EQUAL(usbip_driver_ftdi.set_break(&chip, &coding, true, &list), 0);
    CU_ASSERT_EQUAL(usbip_driver_ftdi.set_break(&chip, &coding, false, &list), 0);
    assert_requests(&list, "\x40\x04\x08\x41\x00\x00\x00\x00\x40\x04\x08\x01\x00\x00\x00\x00", 2);
}

static void test_ports(void)
{
    CU_ASSERT_FATAL(probe_ft2232h(1, 0xff));
    CU_ASSERT_STRING_EQUAL(chip.name, "FT2232H");
    CU_ASSERT_EQUAL(chip.ports, 2);
    CU_ASSERT_EQUAL(chip.bulk_in, 0x81);
    CU_ASSERT_EQUAL(chip.bulk_out, 0x02);
    CU_ASSERT_EQUAL(chip.bulk_in_packet_size, 512);
    CU_ASSERT_FATAL(probe_ft2232h(2, 0xff));
    CU_ASSERT_EQUAL(chip.bulk_in, 0x83);
    CU_ASSERT_EQUAL(chip.bulk_out, 0x04);
    CU_ASSERT_TRUE(probe_ft2232h(1, 0x03));
    CU_ASSERT_FALSE(probe_ft2232h(2, 0x03));
    /* The caller sees that there is no such port. */
    CU_ASSERT_TRUE(probe_ft2232h(3, 0xff));
    CU_ASSERT_EQUAL(chip.ports, 2);
}

/* Of port B: its number is in the low byte of wIndex, the divisor's bits are in the high one. */
static void test_requests_of_a_port(void)
{
    const struct usbip_serial_settings settings = {
        .line_coding = {115200, USBIP_STOP_1, USBIP_PARITY_NONE, 8},
        .latency_timer_ms = 2,
    };
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_FATAL(probe_ft2232h(2, 0xff));
    CU_ASSERT_EQUAL(usbip_driver_ftdi.open(&chip, &settings, &list), 0);
    CU_ASSERT_EQUAL(usbip_driver_ftdi.control_lines(&chip, USBIP_LINE_RTS, &list), 0);
    CU_ASSERT_EQUAL(usbip_driver_ftdi.set_break(&chip, &settings.line_coding, true, &list), 0);
    assert_requests(&list,
                    "\x40\x00\x00\x00\x02\x00\x00\x00"
                    "\x40\x09\x02\x00\x02\x00\x00\x00"
                    "\x40\x04\x08\x00\x02\x00\x00\x00"
                    "\x40\x03\x68\xc0\x02\x02\x00\x00"
                    "\x40\x02\x00\x00\x02\x00\x00\x00"
                    "\x40\x01\x02\x03\x02\x00\x00\x00"
                    "\x40\x04\x08\x40\x02\x00\x00\x00",
                    7);
    list.count = 0;
    CU_ASSERT_EQUAL(usbip_driver_ftdi.close(&chip, &list), 0);
    assert_requests(&list, "\x40\x02\x00\x00\x02\x00\x00\x00\x40\x01\x00\x03\x02\x00\x00\x00", 2);
}

static void test_received(void)
{
    struct usbip_chip small = {.bulk_in_packet_size = 4};
    uint8_t data[] = {0x01, 0x60, 'a', 'b', 0x31, 0x64, 'c', 'd', 0x11, 0x60};
    unsigned modem = 0;

    CU_ASSERT_EQUAL(usbip_driver_ftdi.received(&small, data, sizeof(data), &modem), 4);
    CU_ASSERT_EQUAL(memcmp(data, "abcd", 4), 0);
    CU_ASSERT_EQUAL(modem, USBIP_MODEM_CTS | USBIP_MODEM_PARITY);
    CU_ASSERT_EQUAL(usbip_driver_ftdi.received(&small, data, 0, &modem), 0);
    CU_ASSERT_EQUAL(modem, USBIP_MODEM_CTS | USBIP_MODEM_PARITY);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"probe", test_probe},
        {"packet size 0 means 64", test_packet_size_zero_means_64},
        {"refused", test_refused},
        {"open", test_open},
        {"line coding", test_line_coding},
        {"control lines", test_control_lines},
        {"close", test_close},
        {"break", test_break},
        {"received", test_received},
        {"ports", test_ports},
        {"requests of a port", test_requests_of_a_port},
        CU_TEST_INFO_NULL,
    };
    return run_tests("ftdi", tests);
}
