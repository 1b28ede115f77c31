/* The bus: names, places, the limit. */
#include "tests/unit/emulator/session_fixture.h"

static struct fixture fixture;
static struct recorder nobody;

static struct usbip_device *new_acm(void)
{
    const struct usbip_device_options options = usual_options();
    char error_text[256];
    struct usbip_device *device =
        new_device(&fixture, &nobody, &usbip_function_cdc_acm, &options, error_text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(device);
    return device;
}

static void test_find(void)
{
    struct usbip_device *devices[12];
    fixture_init(&fixture);
    CU_ASSERT_PTR_NULL(usbip_bus_find(&fixture.bus, "1-1"));
    for (unsigned i = 0; i < 12; i++) {
        devices[i] = new_acm();
        CU_ASSERT_STRING_EQUAL(usbip_device_name(devices[i]), "");
        CU_ASSERT_EQUAL(usbip_bus_add(&fixture.bus, devices[i]), 0);
    }
    CU_ASSERT_PTR_EQUAL(usbip_bus_find(&fixture.bus, "1-1"), devices[0]);
    CU_ASSERT_PTR_EQUAL(usbip_bus_find(&fixture.bus, "1-12"), devices[11]);
    CU_ASSERT_STRING_EQUAL(usbip_device_name(devices[11]), "1-12");
    static const char *const none[] = {"1-13", "1-0", "1-01", "1-", "1", "", "2-1", "1-1 "};
    for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++)
        CU_ASSERT_PTR_NULL(usbip_bus_find(&fixture.bus, none[i]));
    usbip_device_unplug(devices[0]);
    CU_ASSERT_PTR_NULL(usbip_bus_find(&fixture.bus, "1-1"));
    usbip_device_plug(devices[0]);
    CU_ASSERT_PTR_EQUAL(usbip_bus_find(&fixture.bus, "1-1"), devices[0]);
    fixture_free(&fixture);
}

static void test_describe(void)
{
    struct usbip_device_record record;
    fixture_init(&fixture);
    usbip_bus_add(&fixture.bus, new_acm());
    usbip_bus_add(&fixture.bus, new_acm());
    memset(&record, 0xff, sizeof record);
    usbip_bus_describe(fixture.bus.devices[1], &record);
    CU_ASSERT_STRING_EQUAL(record.busid, "1-2");
    CU_ASSERT_TRUE(strlen(record.path) > 4);
    CU_ASSERT_STRING_EQUAL(record.path + strlen(record.path) - 4, "/1-2");
    CU_ASSERT_EQUAL(record.busnum, 1);
    CU_ASSERT_EQUAL(record.devnum, 2);
    CU_ASSERT_EQUAL(usbip_devid(&record), 0x00010002);
    CU_ASSERT_EQUAL(record.speed, USBIP_SPEED_FULL);
    CU_ASSERT_EQUAL(record.idVendor, 0x1209);
    CU_ASSERT_EQUAL(record.idProduct, 1);
    CU_ASSERT_EQUAL(record.bcdDevice, 0x0100);
    CU_ASSERT_EQUAL(record.bDeviceClass, 0xef);
    CU_ASSERT_EQUAL(record.bConfigurationValue, 0);
    CU_ASSERT_EQUAL(record.bNumConfigurations, 1);
    CU_ASSERT_EQUAL(record.bNumInterfaces, 2);
    fixture_free(&fixture);
}

static void test_second_bus(void)
{
    struct usbip_device_record record;
    fixture_init(&fixture);
    for (unsigned i = 0; i < 256; i++)
        CU_ASSERT_EQUAL_FATAL(usbip_bus_add(&fixture.bus, new_acm()), 0);
    usbip_bus_describe(fixture.bus.devices[254], &record);
    CU_ASSERT_STRING_EQUAL(record.busid, "1-255");
    CU_ASSERT_EQUAL(usbip_devid(&record), 0x000100ff);
    usbip_bus_describe(fixture.bus.devices[255], &record);
    CU_ASSERT_STRING_EQUAL(record.busid, "2-1");
    CU_ASSERT_STRING_EQUAL(record.path + strlen(record.path) - 9, "/usb2/2-1");
    CU_ASSERT_EQUAL(usbip_devid(&record), 0x00020001);
    fixture_free(&fixture);
}

static void test_limit(void)
{
    fixture_init(&fixture);
    for (unsigned i = 0; i < USBIP_MAX_DEVICES; i++)
        CU_ASSERT_EQUAL_FATAL(usbip_bus_add(&fixture.bus, new_acm()), 0);
    struct usbip_device *device = new_acm();
    CU_ASSERT_EQUAL(usbip_bus_add(&fixture.bus, device), -1);
    usbip_device_free(device); /* still ours */
    CU_ASSERT_STRING_EQUAL(usbip_device_name(usbip_bus_find(&fixture.bus, "17-16")), "17-16");
    for (unsigned i = 0; i < USBIP_MAX_DEVICES; i++) {
        struct usbip_device_record record;
        usbip_bus_describe(fixture.bus.devices[i], &record);
        CU_ASSERT_TRUE(record.busnum >= 1 && record.busnum <= 255);
        CU_ASSERT_TRUE(record.devnum >= 1 && record.devnum <= 255);
        CU_ASSERT_PTR_EQUAL(usbip_bus_find(&fixture.bus, record.busid), fixture.bus.devices[i]);
    }
    static const char *const none[] = {"1-0",  "1-256", "17-17",        "18-1",        "0-1",
                                       "-1-1", "256-1", "4294967297-1", "1-4294967297"};
    for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++)
        CU_ASSERT_PTR_NULL(usbip_bus_find(&fixture.bus, none[i]));
    fixture_free(&fixture);
    CU_ASSERT_EQUAL(fixture.bus.count, 0);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"find", test_find},   {"describe", test_describe}, {"second bus", test_second_bus},
        {"limit", test_limit}, CU_TEST_INFO_NULL,
    };
    return run_tests("bus", tests);
}
