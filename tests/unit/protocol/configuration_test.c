#include "protocol/configuration.h"

#include "protocol/cdc.h"
#include "tests/support/hex.h"
#include "tests/support/testing.h"

/* A full-speed CDC-ACM device with an interface association. */
static const char acm_with_association[] =
    "09 02 4B00 02 01 00 80 FA | 08 0B 00 02 02 02 00 00"
    "| 09 04 00 00 01 02 02 00 00 | 05 24 00 1001 | 04 24 02 06 | 05 24 01 02 01 | 05 24 06 00 01"
    "| 07 05 81 03 4000 01"
    "| 09 04 01 00 02 0A 00 00 00 | 07 05 82 02 4000 00 | 07 05 03 02 4000 00";

/* DFU, mass storage and CDC-ACM in one device, with an association for the last. */
static const char composite_with_association[] =
    "0902740004010080FA | 0904000000FE010204 09210BFF0000011001"
    "| 090401000208065005 07050102400000 07058202400000 | 080B020202020106"
    "| 090402000102020107 0524001001 0524010003 04240200 0524060203 070585031000FF"
    "| 09040300020A000008 07050302400001 07058402400001";

/* The same without. */
static const char composite[] =
    "09026C000401008032 | 0904000000FE010204 09210BFF0000011001"
    "| 090401000208065005 07050202400000 07058202400000"
    "| 090402000102020106 0524001001 0524010003 04240200 0524060203 070583031000FF"
    "| 09040300020A000007 07050102400001 07058402400001";

/* A device of one function, without an association. */
static const char acm[] =
    "09 02 4300 02 01 00 C0 32"
    "| 09 04 00 00 01 02 02 01 00 | 05 24 00 1001 | 05 24 01 00 01 | 04 24 02 02 | 05 24 06 00 01"
    "| 07 05 81 03 0A00 20"
    "| 09 04 01 00 02 0A 00 00 00 | 07 05 82 02 4000 00 | 07 05 02 02 4000 00";

/* All three endpoints in one interface. */
static const char acm_combined[] =
    "09 02 3000 01 01 00 80 32 | 09 04 00 00 03 02 02 01 00 | 05 24 00 1001 | 04 24 02 02"
    "| 07 05 81 03 0800 10 | 07 05 82 02 4000 00 | 07 05 03 02 4000 00";

static const char ft232r[] = "09 02 2000 01 01 00 A0 2D | 09 04 00 00 02 FF FF FF 02"
                             "| 07 05 81 02 4000 00 | 07 05 02 02 4000 00";

static const char ft2232h[] =
    "09 02 3700 02 01 00 80 32"
    "| 09 04 00 00 02 FF FF FF 02 | 07 05 81 02 0002 00 | 07 05 02 02 0002 00"
    "| 09 04 01 00 02 FF FF FF 02 | 07 05 83 02 0002 00 | 07 05 04 02 0002 00";

static struct usbip_configuration table;

/* Parses bytes that end where their memory ends; the caller frees what is returned. */
static uint8_t *parse(const char *wire, int expected)
{
    struct bytes bytes = hex(wire);
    uint8_t *exact = exact_copy(bytes.data, bytes.size);

    memset(&table, 0xaa, sizeof(table));
    CU_ASSERT_EQUAL(usbip_parse_configuration(exact, bytes.size, &table), expected);
    return exact;
}

/* An endpoint of the wanted kind must be there, with this address and packet size. */
static void assert_endpoint(const struct usbip_altsetting *setting, uint8_t type, uint8_t address,
                            uint16_t wMaxPacketSize, uint8_t bInterval)
{
    const struct usbip_endpoint_descriptor *endpoint =
        usbip_find_endpoint(&table, setting, type, address & USB_DIR_IN);

    REQUIRE(endpoint != NULL);
    CU_ASSERT_EQUAL(endpoint->bEndpointAddress, address);
    CU_ASSERT_EQUAL(endpoint->wMaxPacketSize, wMaxPacketSize);
    CU_ASSERT_EQUAL(endpoint->bInterval, bInterval);
}

static const struct usbip_altsetting *interface(uint8_t bInterfaceNumber)
{
    const struct usbip_altsetting *setting = usbip_find_altsetting(&table, bInterfaceNumber, 0);

    REQUIRE(setting != NULL);
    CU_ASSERT_EQUAL(setting->descriptor.bInterfaceNumber, bInterfaceNumber);
    CU_ASSERT_EQUAL(setting->descriptor.bNumEndpoints, setting->endpoint_count);
    return setting;
}

static void assert_union(const struct usbip_altsetting *setting, uint8_t bmCapabilities,
                         uint8_t bControlInterface, uint8_t bSubordinateInterface0)
{
    struct usbip_cdc_functional_descriptors found;

    CU_ASSERT_EQUAL(
        usbip_cdc_parse_functional_descriptors(setting->extra, setting->extra_size, &found), 0);
    CU_ASSERT_TRUE(found.has_header && found.has_acm && found.has_union);
    CU_ASSERT_EQUAL(found.bcdCDC, 0x0110);
    CU_ASSERT_EQUAL(found.acm_bmCapabilities, bmCapabilities);
    CU_ASSERT_EQUAL(found.bControlInterface, bControlInterface);
    CU_ASSERT_EQUAL(found.bSubordinateInterface0, bSubordinateInterface0);
}

static void test_acm_with_association(void)
{
    uint8_t *bytes = parse(acm_with_association, 0);
    const struct usbip_altsetting *control = interface(0), *data = interface(1);

    CU_ASSERT_EQUAL(table.descriptor.wTotalLength, 75);
    CU_ASSERT_EQUAL(table.descriptor.bNumInterfaces, 2);
    CU_ASSERT_EQUAL(table.descriptor.bConfigurationValue, 1);
    CU_ASSERT_EQUAL(table.descriptor.bmAttributes, USB_CONFIG_ATT_ONE);
    CU_ASSERT_EQUAL(table.descriptor.bMaxPower, 250);
    CU_ASSERT_EQUAL(table.altsetting_count, 2);
    CU_ASSERT_EQUAL(table.endpoint_count, 3);
    CU_ASSERT_EQUAL(control->descriptor.bInterfaceClass, USB_CLASS_COMM);
    CU_ASSERT_EQUAL(data->descriptor.bInterfaceClass, USB_CLASS_CDC_DATA);
    assert_union(control, 6, 0, 1);
    assert_endpoint(control, USB_ENDPOINT_XFER_INT, 0x81, 64, 1);
    assert_endpoint(data, USB_ENDPOINT_XFER_BULK, 0x82, 64, 0);
    assert_endpoint(data, USB_ENDPOINT_XFER_BULK, 0x03, 64, 0);
    free(bytes);
}

/* The association is not in the table: whoever wants it walks over the descriptors. */
static void test_association_by_walking(void)
{
    struct bytes bytes = hex(composite_with_association);
    size_t offset = 0;
    const uint8_t *descriptor;
    int length;
    unsigned associations = 0;

    while ((length = usbip_next_descriptor(bytes.data, bytes.size, &offset, &descriptor)) > 0) {
        struct usbip_interface_association_descriptor association;

        if (usbip_decode_interface_association_descriptor(descriptor, (size_t)length,
                                                          &association) < 0)
            continue;
        associations++;
        CU_ASSERT_EQUAL(association.bFirstInterface, 2);
        CU_ASSERT_EQUAL(association.bInterfaceCount, 2);
        CU_ASSERT_EQUAL(association.bFunctionClass, USB_CLASS_COMM);
        CU_ASSERT_EQUAL(association.iFunction, 6);
    }
    CU_ASSERT_EQUAL(length, 0);
    CU_ASSERT_EQUAL(associations, 1);
}

static void test_composite(void)
{
    static const struct {
        const char *wire;
        uint16_t size;
        uint8_t out, in, notify, storage_out;
    } devices[] = {
        {composite_with_association, 116, 0x03, 0x84, 0x85, 0x01},
        {composite, 108, 0x01, 0x84, 0x83, 0x02},
    };

    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        uint8_t *bytes = parse(devices[i].wire, 0);
        const struct usbip_altsetting *control = interface(2), *data = interface(3);

        CU_ASSERT_EQUAL(table.descriptor.wTotalLength, devices[i].size);
        CU_ASSERT_EQUAL(table.altsetting_count, 4);
        CU_ASSERT_EQUAL(table.endpoint_count, 5);
        CU_ASSERT_EQUAL(interface(0)->descriptor.bInterfaceClass, 0xfe);
        CU_ASSERT_EQUAL(interface(0)->extra_size, 9); /* of the firmware upgrade class */
        assert_union(control, 0, 2, 3);
        assert_endpoint(interface(1), USB_ENDPOINT_XFER_BULK, devices[i].storage_out, 64, 0);
        assert_endpoint(control, USB_ENDPOINT_XFER_INT, devices[i].notify, 16, 255);
        assert_endpoint(data, USB_ENDPOINT_XFER_BULK, devices[i].out, 64, 1);
        assert_endpoint(data, USB_ENDPOINT_XFER_BULK, devices[i].in, 64, 1);
        free(bytes);
    }
}

static void test_acm(void)
{
    uint8_t *bytes = parse(acm, 0);

    CU_ASSERT_EQUAL(table.descriptor.bmAttributes, USB_CONFIG_ATT_ONE | USB_CONFIG_ATT_SELFPOWER);
    assert_union(interface(0), 2, 0, 1);
    CU_ASSERT_EQUAL(interface(0)->descriptor.bInterfaceProtocol, CDC_PROTOCOL_AT);
    assert_endpoint(interface(0), USB_ENDPOINT_XFER_INT, 0x81, 10, 32);
    assert_endpoint(interface(1), USB_ENDPOINT_XFER_BULK, 0x82, 64, 0);
    assert_endpoint(interface(1), USB_ENDPOINT_XFER_BULK, 0x02, 64, 0);
    free(bytes);
}

static void test_acm_combined(void)
{
    uint8_t *bytes = parse(acm_combined, 0);
    struct usbip_cdc_functional_descriptors found;

    CU_ASSERT_EQUAL(table.altsetting_count, 1);
    CU_ASSERT_EQUAL(interface(0)->endpoint_count, 3);
    CU_ASSERT_EQUAL(usbip_cdc_parse_functional_descriptors(interface(0)->extra,
                                                           interface(0)->extra_size, &found),
                    0);
    CU_ASSERT_TRUE(found.has_header && found.has_acm && !found.has_union);
    assert_endpoint(interface(0), USB_ENDPOINT_XFER_INT, 0x81, 8, 16);
    assert_endpoint(interface(0), USB_ENDPOINT_XFER_BULK, 0x82, 64, 0);
    assert_endpoint(interface(0), USB_ENDPOINT_XFER_BULK, 0x03, 64, 0);
    free(bytes);
}

static void test_ftdi(void)
{
    uint8_t *bytes = parse(ft232r, 0);

    CU_ASSERT_EQUAL(table.descriptor.bmAttributes, USB_CONFIG_ATT_ONE | USB_CONFIG_ATT_WAKEUP);
    CU_ASSERT_EQUAL(interface(0)->descriptor.bInterfaceClass, USB_CLASS_VENDOR_SPEC);
    CU_ASSERT_EQUAL(interface(0)->descriptor.iInterface, 2);
    assert_endpoint(interface(0), USB_ENDPOINT_XFER_BULK, 0x81, 64, 0);
    assert_endpoint(interface(0), USB_ENDPOINT_XFER_BULK, 0x02, 64, 0);
    free(bytes);

    bytes = parse(ft2232h, 0);
    CU_ASSERT_EQUAL(table.altsetting_count, 2);
    assert_endpoint(interface(0), USB_ENDPOINT_XFER_BULK, 0x81, 512, 0);
    assert_endpoint(interface(0), USB_ENDPOINT_XFER_BULK, 0x02, 512, 0);
    assert_endpoint(interface(1), USB_ENDPOINT_XFER_BULK, 0x83, 512, 0);
    assert_endpoint(interface(1), USB_ENDPOINT_XFER_BULK, 0x04, 512, 0);
    free(bytes);
}

static void test_extra_reaches_to_the_next_interface_or_association(void)
{
    uint8_t *bytes = parse(composite_with_association, 0);

    /* Two endpoints; the association that follows is of the next interface. */
    CU_ASSERT_EQUAL(interface(1)->extra_size, 14);
    /* 5 + 5 + 4 + 5 of the class, and the endpoint. */
    CU_ASSERT_EQUAL(interface(2)->extra_size, 26);
    CU_ASSERT_PTR_EQUAL(interface(3)->extra + interface(3)->extra_size, bytes + 116);
    free(bytes);
}

static void test_class_descriptors_behind_the_endpoint(void)
{
    uint8_t *bytes = parse("09022B000101008032 | 090400000102020000 | 07058103080010"
                           "| 0524001001 04240202 0524060001 0424f000",
                           0);

    assert_union(interface(0), 2, 0, 1);
    free(bytes);
}

static void test_alternate_settings(void)
{
    uint8_t *bytes =
        parse("09022900 01 01 00 80 32 | 09 04 00 00 00 FF 00 00 00"
              "| 09 04 00 01 02 FF 00 00 00 | 07 05 81 02 4000 00 | 07 05 02 02 4000 00",
              0);
    const struct usbip_altsetting *idle = usbip_find_altsetting(&table, 0, 0);
    const struct usbip_altsetting *active = usbip_find_altsetting(&table, 0, 1);

    REQUIRE(idle != NULL);
    REQUIRE(active != NULL);
    CU_ASSERT_EQUAL(idle->endpoint_count, 0);
    CU_ASSERT_EQUAL(active->endpoint_count, 2);
    CU_ASSERT_PTR_NULL(usbip_find_endpoint(&table, idle, USB_ENDPOINT_XFER_BULK, USB_DIR_IN));
    assert_endpoint(active, USB_ENDPOINT_XFER_BULK, 0x81, 64, 0);
    CU_ASSERT_PTR_NULL(usbip_find_altsetting(&table, 0, 2));
    CU_ASSERT_PTR_NULL(usbip_find_altsetting(&table, 1, 0));
    CU_ASSERT_PTR_NULL(usbip_find_endpoint(&table, active, USB_ENDPOINT_XFER_INT, USB_DIR_IN));
    free(bytes);
}

static void test_endpoints_are_counted(void)
{
    /* bNumEndpoints says 5. */
    uint8_t *bytes = parse("09021900 01 01 00 80 32 | 09 04 00 00 05 FF 00 00 00"
                           "| 07 05 81 02 4000 00",
                           0);

    CU_ASSERT_EQUAL(table.altsettings[0].endpoint_count, 1);
    CU_ASSERT_EQUAL(table.altsettings[0].descriptor.bNumEndpoints, 5);
    free(bytes);
}

static void test_no_interfaces(void)
{
    uint8_t *bytes = parse("09020900 00 01 00 80 32", 0);

    CU_ASSERT_EQUAL(table.altsetting_count, 0);
    CU_ASSERT_EQUAL(table.endpoint_count, 0);
    CU_ASSERT_PTR_NULL(usbip_find_altsetting(&table, 0, 0));
    free(bytes);
}

static void test_bytes_behind_the_total_length(void)
{
    uint8_t *bytes = parse("09021200 01 01 00 80 32 | 09 04 00 00 00 FF 00 00 00 | 00 00 00", 0);

    CU_ASSERT_EQUAL(table.altsetting_count, 1);
    free(bytes);
}

static void test_hostile(void)
{
    static const char *const wires[] = {
        "",
        "09",
        "09020900 00 01 00 80",                                 /* cut */
        "08020900 00 01 00 80 32",                              /* bLength too small */
        "09070900 00 01 00 80 32",                              /* another type */
        "09020000 00 01 00 80 32",                              /* wTotalLength 0 */
        "09020800 00 01 00 80 32",                              /* wTotalLength below the header */
        "FF020900 00 01 00 80 32",                              /* bLength over the end */
        "09020a00 01 01 00 80 32 | 00",                         /* bLength 0 */
        "0902ff00 01 01 00 80 32 | 00 04",                      /* bLength 0 */
        "0902ff00 01 01 00 80 32 | 01 04",                      /* bLength 1 */
        "0902ff00 01 01 00 80 32 | 09 04 00 00 00 FF 00 00",    /* over the end by one */
        "0902ff00 01 01 00 80 32 | 08 04 00 00 00 FF 00 00",    /* interface too short */
        "09021100 01 01 00 80 32 | 09 04 00 00 00 FF 00 00 00", /* cut by wTotalLength */
        "0902ff00 01 01 00 80 32 | 07 05 81 02 4000 00",        /* endpoint before interface */
        "0902ff00 01 01 00 80 32 | 09 04 00 00 01 FF 00 00 00 | 06 05 81 02 4000",
        "0902ff00 01 01 00 80 32 | 09 04 00 00 01 FF 00 00 00 | 07 05 81 02 4000",
        /* An endpoint between an association and its interface. */
        "0902ff00 01 01 00 80 32 | 09 04 00 00 00 FF 00 00 00 | 080B000202020000 | 07058102400000",
    };

    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++)
        free(parse(wires[i], -1));
}

/* A configuration of so many interfaces, each with so many endpoints. */
static int parse_many(unsigned interfaces, unsigned endpoints)
{
    size_t size =
        USB_DT_CONFIG_SIZE +
        (size_t)interfaces * (USB_DT_INTERFACE_SIZE + (size_t)endpoints * USB_DT_ENDPOINT_SIZE);
    uint8_t *bytes = malloc(size);
    uint8_t *end = bytes;
    const struct usbip_config_descriptor config = {.wTotalLength = (uint16_t)size};
    const struct usbip_endpoint_descriptor endpoint = {.bEndpointAddress = 0x81};
    int result;

    if (bytes == NULL)
        abort();
    usbip_encode_config_descriptor(end, &config);
    end += USB_DT_CONFIG_SIZE;
    for (unsigned i = 0; i < interfaces; i++) {
        const struct usbip_interface_descriptor d = {.bInterfaceNumber = (uint8_t)i};

        usbip_encode_interface_descriptor(end, &d);
        end += USB_DT_INTERFACE_SIZE;
        for (unsigned j = 0; j < endpoints; j++) {
            usbip_encode_endpoint_descriptor(end, &endpoint);
            end += USB_DT_ENDPOINT_SIZE;
        }
    }
    result = usbip_parse_configuration(bytes, size, &table);
    free(bytes);
    return result;
}

static void test_limits(void)
{
    CU_ASSERT_EQUAL(parse_many(USB_MAX_ALTSETTINGS, 0), 0);
    CU_ASSERT_EQUAL(table.altsetting_count, USB_MAX_ALTSETTINGS);
    CU_ASSERT_EQUAL(parse_many(USB_MAX_ALTSETTINGS + 1, 0), -1);
    CU_ASSERT_EQUAL(parse_many(1, USB_MAX_ENDPOINTS), 0);
    CU_ASSERT_EQUAL(table.endpoint_count, USB_MAX_ENDPOINTS);
    CU_ASSERT_EQUAL(parse_many(1, USB_MAX_ENDPOINTS + 1), -1);
    CU_ASSERT_EQUAL(parse_many(43, 3), -1); /* 129 endpoints in all */
}

/* Cut anywhere, a descriptor is either refused or read up to the cut. */
static void test_every_cut(void)
{
    struct bytes bytes = hex(composite_with_association);

    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *exact = exact_copy(bytes.data, size);

        if (usbip_parse_configuration(exact, size, &table) == 0) {
            for (unsigned i = 0; i < table.altsetting_count; i++)
                CU_ASSERT_TRUE(table.altsettings[i].extra + table.altsettings[i].extra_size <=
                               exact + size);
        }
        free(exact);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"CDC-ACM with association", test_acm_with_association},
        {"association by walking", test_association_by_walking},
        {"composite devices", test_composite},
        {"CDC-ACM without association", test_acm},
        {"CDC-ACM in one interface", test_acm_combined},
        {"FT232R and FT2232H", test_ftdi},
        {"extra reaches to the next interface or association",
         test_extra_reaches_to_the_next_interface_or_association},
        {"class descriptors behind the endpoint", test_class_descriptors_behind_the_endpoint},
        {"alternate settings", test_alternate_settings},
        {"endpoints are counted", test_endpoints_are_counted},
        {"no interfaces", test_no_interfaces},
        {"bytes behind wTotalLength", test_bytes_behind_the_total_length},
        {"hostile descriptors", test_hostile},
        {"limits", test_limits},
        {"every cut", test_every_cut},
        CU_TEST_INFO_NULL,
    };

    return run_tests("configuration", tests);
}
