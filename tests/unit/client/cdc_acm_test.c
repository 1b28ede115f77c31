/* The CDC-ACM driver: which devices it accepts, and the bytes of its requests. */
#include <string.h>

#include "client/driver.h"
#include "protocol/cdc.h"
#include "tests/support/testing.h"

/* Configurations are built from these pieces; each of them has descriptors as devices send them. */
#define INTERFACE(number, endpoints, class, subclass, protocol)                                    \
    9, 4, number, 0, endpoints, class, subclass, protocol, 0
#define CONTROL(number, endpoints) INTERFACE(number, endpoints, 2, 2, 1)
#define DATA(number) INTERFACE(number, 2, 10, 0, 0)
#define HEADER 5, 0x24, 0, 0x10, 0x01
#define CALL_MANAGEMENT(data) 5, 0x24, 1, 3, data
#define ACM(capabilities) 4, 0x24, 2, capabilities
#define UNION(master, slave) 5, 0x24, 6, master, slave
#define ENDPOINT(address, type, size, interval) 7, 5, address, type, size, 0, interval
#define NOTIFY ENDPOINT(0x83, 3, 10, 32)
#define BULK ENDPOINT(0x82, 2, 64, 0), ENDPOINT(0x01, 2, 64, 0)

static const struct usbip_device_descriptor device = {.idVendor = 0x1209, .bcdDevice = 0x0100};
static struct usbip_configuration configuration;
static struct usbip_chip chip;

static bool probe_bytes(const uint8_t *body, size_t size)
{
    static uint8_t bytes[512];
    const struct usbip_config_descriptor header = {
        .wTotalLength = (uint16_t)(USB_DT_CONFIG_SIZE + size),
        .bNumInterfaces = 2,
        .bConfigurationValue = 1,
    };

    usbip_encode_config_descriptor(bytes, &header);
    memcpy(bytes + USB_DT_CONFIG_SIZE, body, size);
    CU_ASSERT_EQUAL_FATAL(
        usbip_parse_configuration(bytes, USB_DT_CONFIG_SIZE + size, &configuration), 0);
    return usbip_probe_chip(&device, &configuration, 1, &chip) == 0 &&
           chip.driver == &usbip_driver_cdc_acm;
}

#define PROBE(...)                                                                                 \
    probe_bytes((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* What most devices here have in common. */
static void assert_found(uint8_t control_interface)
{
    CU_ASSERT_STRING_EQUAL(chip.name, "CDC-ACM");
    CU_ASSERT_EQUAL(chip.control_interface, control_interface);
    CU_ASSERT_EQUAL(chip.bulk_in, 0x82);
    CU_ASSERT_EQUAL(chip.bulk_out, 0x01);
    CU_ASSERT_EQUAL(chip.bulk_in_packet_size, 64);
    CU_ASSERT_EQUAL(chip.bulk_out_packet_size, 64);
    CU_ASSERT_EQUAL(chip.data_type, USB_ENDPOINT_XFER_BULK);
    CU_ASSERT_EQUAL(chip.interrupt_in, 0x83);
    CU_ASSERT_EQUAL(chip.interrupt_packet_size, 10);
    CU_ASSERT_EQUAL(chip.interrupt_interval, 32);
}

static void test_union(void)
{
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 1), HEADER, CALL_MANAGEMENT(1), ACM(6), UNION(0, 1), NOTIFY,
                          DATA(1), BULK));
    assert_found(0);
    CU_ASSERT_EQUAL(chip.capabilities, 6);
    CU_ASSERT_EQUAL(chip.bcdDevice, 0x0100);
}

static void test_union_of_composite_device(void)
{
    CU_ASSERT_FATAL(PROBE(INTERFACE(0, 0, 0xfe, 1, 2), INTERFACE(1, 2, 8, 6, 80),
                          ENDPOINT(0x81, 2, 64, 0), ENDPOINT(0x05, 2, 64, 0), 8, 11, 2, 2, 2, 2, 1,
                          6, CONTROL(2, 1), HEADER, ACM(0), UNION(2, 3), NOTIFY, DATA(3), BULK));
    assert_found(2);
    CU_ASSERT_EQUAL(chip.capabilities, 0);
}

static void test_call_management_without_union(void)
{
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 1), CALL_MANAGEMENT(2), NOTIFY, DATA(1),
                          ENDPOINT(0x84, 2, 64, 0), ENDPOINT(0x04, 2, 64, 0), DATA(2), BULK));
    assert_found(0);
}

static void test_no_functional_descriptors(void)
{
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 1), NOTIFY, DATA(1), BULK));
    assert_found(0);
}

static void test_combined_interface(void)
{
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 3), HEADER, ACM(2), NOTIFY, BULK));
    assert_found(0);
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 3), HEADER, UNION(0, 0), NOTIFY, BULK));
    assert_found(0);
}

static void test_broken_union_means_combined(void)
{
    CU_ASSERT_FATAL(PROBE(INTERFACE(1, 0, 3, 0, 0), CONTROL(0, 3), UNION(1, 0), NOTIFY, BULK));
    assert_found(0);
}

static void test_swapped_union(void)
{
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 1), UNION(1, 0), NOTIFY, DATA(1), BULK));
    assert_found(0);
}

static void test_union_with_missing_interface(void)
{
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 1), UNION(0, 7), NOTIFY, DATA(1), BULK));
    assert_found(0);
}

static void test_guess_prefers_interface_behind(void)
{
    CU_ASSERT_FATAL(PROBE(DATA(0), ENDPOINT(0x84, 2, 64, 0), ENDPOINT(0x04, 2, 64, 0),
                          CONTROL(1, 1), NOTIFY, DATA(2), BULK));
    assert_found(1);
    CU_ASSERT_FATAL(PROBE(DATA(0), BULK, CONTROL(1, 1), NOTIFY));
    assert_found(1);
}

static void test_functional_descriptors_after_endpoint(void)
{
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 1), NOTIFY, ACM(2), UNION(0, 2), DATA(1),
                          ENDPOINT(0x84, 2, 64, 0), ENDPOINT(0x04, 2, 64, 0), DATA(2), BULK));
    assert_found(0);
    CU_ASSERT_EQUAL(chip.capabilities, 2);
}

static void test_out_endpoint_first(void)
{
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 1), UNION(0, 1), NOTIFY, DATA(1), ENDPOINT(0x01, 2, 64, 0),
                          ENDPOINT(0x82, 2, 64, 0)));
    assert_found(0);
}

static void test_interrupt_data_endpoints(void)
{
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 1), UNION(0, 1), NOTIFY, DATA(1), ENDPOINT(0x82, 3, 16, 5),
                          ENDPOINT(0x01, 3, 8, 5)));
    CU_ASSERT_EQUAL(chip.data_type, USB_ENDPOINT_XFER_INT);
    CU_ASSERT_EQUAL(chip.data_interval, 5);
    CU_ASSERT_EQUAL(chip.bulk_in_packet_size, 16);
    CU_ASSERT_EQUAL(chip.bulk_out_packet_size, 8);
    CU_ASSERT_EQUAL(chip.interrupt_in, 0x83);
}

static void test_notification_endpoint(void)
{
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 1), UNION(0, 1), ENDPOINT(0x83, 3, 8, 0), DATA(1), BULK));
    CU_ASSERT_EQUAL(chip.interrupt_interval, 16);
    CU_ASSERT_FATAL(PROBE(CONTROL(0, 0), UNION(0, 1), DATA(1), BULK));
    CU_ASSERT_EQUAL(chip.interrupt_in, 0);
}

static void test_serial_port_before_network_adapter(void)
{
    CU_ASSERT_FATAL(PROBE(INTERFACE(0, 1, 2, 2, 0xff), UNION(0, 1), ENDPOINT(0x84, 3, 8, 1),
                          DATA(1), ENDPOINT(0x85, 2, 64, 0), ENDPOINT(0x05, 2, 64, 0),
                          CONTROL(2, 1), UNION(2, 3), NOTIFY, DATA(3), BULK));
    assert_found(2);
}

static void test_refused(void)
{
    CU_ASSERT_FALSE(PROBE(INTERFACE(0, 2, 8, 6, 80), BULK));
    CU_ASSERT_FALSE(PROBE(CONTROL(0, 1), UNION(0, 1), NOTIFY, INTERFACE(1, 1, 10, 0, 0),
                          ENDPOINT(0x82, 2, 64, 0)));
    CU_ASSERT_FALSE(PROBE(CONTROL(0, 1), UNION(0, 1), NOTIFY, DATA(1), ENDPOINT(0x82, 2, 0, 0),
                          ENDPOINT(0x01, 2, 64, 0)));
    CU_ASSERT_PTR_NULL(chip.driver);
}

static void assert_request(const struct usbip_request_list *list, unsigned index, const char *setup,
                           const uint8_t *data)
{
    uint8_t bytes[USBIP_SETUP_SIZE];

    CU_ASSERT_FATAL(list->count > index);
    usbip_encode_setup(bytes, &list->requests[index].setup);
    CU_ASSERT_EQUAL(memcmp(bytes, setup, sizeof(bytes)), 0);
    if (data)
        CU_ASSERT_EQUAL(
            memcmp(list->requests[index].data, data, list->requests[index].setup.wLength), 0);
}

static const struct usbip_chip composite = {.control_interface = 2, .capabilities = 6};
static const struct usbip_serial_settings settings = {
    .line_coding = {921600, USBIP_STOP_2, USBIP_PARITY_EVEN, 7},
    .control_lines = USBIP_LINE_DTR | USBIP_LINE_RTS,
};
static const uint8_t settings_bytes[] = {0x00, 0x10, 0x0e, 0x00, 2, 2, 7};

static void test_open(void)
{
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_EQUAL(usbip_driver_cdc_acm.open(&composite, &settings, &list), 0);
    CU_ASSERT_EQUAL(list.count, 1);
    assert_request(&list, 0, "\x21\x20\x00\x00\x02\x00\x07\x00", settings_bytes);
    CU_ASSERT_TRUE(list.requests[0].may_stall);
}

static void test_line_coding(void)
{
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_EQUAL(usbip_driver_cdc_acm.line_coding(&composite, &settings.line_coding, &list), 0);
    CU_ASSERT_EQUAL(list.count, 1);
    assert_request(&list, 0, "\x21\x20\x00\x00\x02\x00\x07\x00", settings_bytes);
    CU_ASSERT_FALSE(list.requests[0].may_stall);
}

static void test_control_lines(void)
{
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_EQUAL(usbip_driver_cdc_acm.control_lines(&composite, 3, &list), 0);
    CU_ASSERT_EQUAL(usbip_driver_cdc_acm.control_lines(&composite, USBIP_LINE_RTS, &list), 0);
    CU_ASSERT_EQUAL(usbip_driver_cdc_acm.close(&composite, &list), 0);
    CU_ASSERT_EQUAL(list.count, 3);
    assert_request(&list, 0, "\x21\x22\x03\x00\x02\x00\x00\x00", NULL);
    assert_request(&list, 1, "\x21\x22\x02\x00\x02\x00\x00\x00", NULL);
    assert_request(&list, 2, "\x21\x22\x00\x00\x02\x00\x00\x00", NULL);
    CU_ASSERT_FALSE(list.requests[0].may_stall);
}

static void test_lines_may_stall_without_the_capability(void)
{
    const struct usbip_chip plain = {.capabilities = 0};
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_EQUAL(usbip_driver_cdc_acm.control_lines(&plain, 3, &list), 0);
    CU_ASSERT_TRUE(list.requests[0].may_stall);
}

static void test_break(void)
{
    const struct usbip_chip plain = {.capabilities = CDC_CAP_LINE};
    struct usbip_request_list list = {.count = 0};

    CU_ASSERT_EQUAL(usbip_driver_cdc_acm.set_break(&composite, NULL, true, &list), 0);
    CU_ASSERT_EQUAL(usbip_driver_cdc_acm.set_break(&composite, NULL, false, &list), 0);
    CU_ASSERT_EQUAL(list.count, 2);
    assert_request(&list, 0, "\x21\x23\xff\xff\x02\x00\x00\x00", NULL);
    assert_request(&list, 1, "\x21\x23\x00\x00\x02\x00\x00\x00", NULL);
    CU_ASSERT_EQUAL(usbip_driver_cdc_acm.set_break(&plain, NULL, true, &list), -1);
    CU_ASSERT_EQUAL(list.count, 2);
}

static void test_notification(void)
{
    const uint8_t bytes[] = {0xa1, 0x20, 0, 0, 0, 0, 2, 0, 0x03, 0};
    unsigned modem = 0;

    usbip_driver_cdc_acm.notified(&composite, bytes, sizeof(bytes), &modem);
    CU_ASSERT_EQUAL(modem, USBIP_MODEM_DCD | USBIP_MODEM_DSR);
    modem = USBIP_MODEM_RI;
    usbip_driver_cdc_acm.notified(&composite, bytes, sizeof(bytes) - 1, &modem);
    CU_ASSERT_EQUAL(modem, USBIP_MODEM_RI);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"union", test_union},
        {"union of a composite device", test_union_of_composite_device},
        {"call management without union", test_call_management_without_union},
        {"no functional descriptors", test_no_functional_descriptors},
        {"combined interface", test_combined_interface},
        {"broken union means combined", test_broken_union_means_combined},
        {"swapped union", test_swapped_union},
        {"union with a missing interface", test_union_with_missing_interface},
        {"a guess prefers the interface behind", test_guess_prefers_interface_behind},
        {"functional descriptors after the endpoint", test_functional_descriptors_after_endpoint},
        {"OUT endpoint first", test_out_endpoint_first},
        {"interrupt data endpoints", test_interrupt_data_endpoints},
        {"notification endpoint", test_notification_endpoint},
        {"serial port before network adapter", test_serial_port_before_network_adapter},
        {"refused", test_refused},
        {"open", test_open},
        {"line coding", test_line_coding},
        {"control lines", test_control_lines},
        {"lines may stall without the capability", test_lines_may_stall_without_the_capability},
        {"break", test_break},
        {"notification", test_notification},
        CU_TEST_INFO_NULL,
    };
    return run_tests("cdc_acm", tests);
}
