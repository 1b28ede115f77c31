#include <string.h>

#include "emulator/capture/chip.h"
#include "protocol/bytes.h"
#include "protocol/configuration.h"
#include "tests/unit/emulator/capture/capture_fixture.h"

static struct usbip_description describe(const struct usbip_capture *capture, const char *side_file)
{
    struct usbip_description description;
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    int result = usbip_describe(capture, (unsigned)choose(capture, NULL), side_file, &description,
                                error_text);
    if (result < 0)
        fprintf(stderr, "%s\n", error_text);
    REQUIRE(result == 0);
    return description;
}

static void put_bulk(struct capture_file *file, uint8_t endpoint, const void *data, uint32_t size)
{
    bool in = endpoint & 0x80;
    struct usbmon event = {.id = 99,
                           .event = 'S',
                           .type = 3,
                           .endpoint = endpoint,
                           .address = 5,
                           .data = in ? NULL : data,
                           .size = in ? 0 : size,
                           .length = 512};
    if (!in)
        event.length = size;
    put_usbmon(file, &event);
    event = (struct usbmon){.id = 99,
                            .event = 'C',
                            .type = 3,
                            .endpoint = endpoint,
                            .address = 5,
                            .data = in ? data : NULL,
                            .size = size};
    put_usbmon(file, &event);
}

static void put_requests(struct capture_file *file, const uint8_t (*setups)[8], size_t count)
{
    static const uint8_t zeroes[64];
    for (size_t i = 0; i < count; i++)
        put_usbmon_control(file, 5, setups[i], zeroes, usbip_load_le16(setups[i] + 6), 0);
}

/* The endpoints of a configuration as "i0 81 02 i1 83", which must be well-formed. */
static const char *layout(const struct usbip_description *description)
{
    static char text[256];
    size_t offset = 0, size = 0;
    const uint8_t *descriptor;
    struct usbip_configuration table;
    REQUIRE(usbip_parse_configuration(description->configuration, description->configuration_size,
                                      &table) == 0);
    CU_ASSERT_EQUAL(table.descriptor.wTotalLength, description->configuration_size);
    for (unsigned i = 0; i < table.altsetting_count; i++)
        CU_ASSERT_EQUAL(table.altsettings[i].descriptor.bNumEndpoints,
                        table.altsettings[i].endpoint_count);
    text[0] = '\0';
    while (usbip_next_descriptor(description->configuration, description->configuration_size,
                                 &offset, &descriptor) > 0) {
        if (descriptor[1] == USB_DT_INTERFACE)
            size += (size_t)snprintf(text + size, sizeof text - size, "i%u ", descriptor[2]);
        else if (descriptor[1] == USB_DT_ENDPOINT)
            size += (size_t)snprintf(text + size, sizeof text - size, "%02x ", descriptor[2]);
    }
    return text;
}

static void test_answers(void)
{
    static const uint8_t get_head[8] = {0x80, 6, 0, 2, 0, 0, 9, 0};
    static const uint8_t get_first_bytes[8] = {0x80, 6, 0, 1, 0, 0, 8, 0};
    static const uint8_t get_product[8] = {0x80, 6, 2, 3, 9, 4, 255, 0};
    static const uint8_t product[10] = {10, 3, 'T', 0, 'e', 0, 's', 0, 't', 0};
    struct capture_file file = {0};
    pcap_begin(&file, "description_answers.pcap", LINK_USBMON_MMAPPED);
    put_usbmon_control(&file, 5, get_first_bytes, acm_device, 8, 0);
    put_usbmon_control(&file, 5, get_device_descriptor, acm_device, 18, 0);
    put_usbmon_control(&file, 5, get_head, acm_configuration, 9, 0);
    put_usbmon_control(&file, 5, get_configuration_descriptor, acm_configuration, 67, 0);
    put_usbmon_control(&file, 5, get_product, product, 10, 0);
    struct usbip_capture *capture = load(&file);
    struct usbip_description d = describe(capture, NULL);
    CU_ASSERT_EQUAL(d.device_origin, USBIP_ORIGIN_ANSWER);
    CU_ASSERT_EQUAL(d.device_record, 4);
    CU_ASSERT_EQUAL(d.device.iSerialNumber, 3);
    CU_ASSERT_EQUAL(d.configuration_origin, USBIP_ORIGIN_ANSWER);
    CU_ASSERT_EQUAL(d.configuration_record, 8);
    REQUIRE(d.configuration_size == 67);
    CU_ASSERT_EQUAL(memcmp(d.configuration, acm_configuration, 67), 0);
    REQUIRE(d.strings[2] != NULL);
    CU_ASSERT_STRING_EQUAL(d.strings[2], "Test");
    CU_ASSERT_PTR_NULL(d.strings[1]);
    CU_ASSERT(d.speed == USBIP_SPEED_FULL && !d.speed_is_known);
    CU_ASSERT_EQUAL(capture->devices[0].chip->family, USBIP_CHIP_CDC_ACM);
    usbip_description_free(&d);
    usbip_capture_free(capture);
}

/* What the recorder wrote wins over a side file, an answer over both. */
static void test_precedence(void)
{
    static const uint8_t probe[8] = {0x80, 6, 0, 1, 0, 0, 40, 0};
    uint8_t side[18 + 67];
    memcpy(side, acm_device, 18);
    side[7] = 32; /* bMaxPacketSize0 */
    memcpy(side + 18, acm_configuration, 67);
    side[18 + 8] = 1; /* bMaxPower */
    write_file("description_side", side, sizeof side);
    char path[4096];
    snprintf(path, sizeof path, "%s", file_path("description_side"));
    static const enum usbip_description_origin origins[] = {
        USBIP_ORIGIN_SYNTHESISED, USBIP_ORIGIN_INJECTED, USBIP_ORIGIN_ANSWER};
    for (unsigned i = 0; i < 3; i++) {
        struct capture_file file = {0};
        pcap_begin(&file, "description_precedence.pcap", LINK_USBMON_MMAPPED);
        put_usbmon_control(&file, 5, set_configuration, NULL, 0, 0);
        if (i > 0)
            put_usbmon_control(&file, 5, probe, acm_device, 18, 0);
        if (i > 1)
            put_usbmon_control(&file, 5, get_device_descriptor, acm_device, 18, 0);
        struct usbip_capture *capture = load(&file);
        struct usbip_description d = describe(capture, NULL);
        CU_ASSERT_EQUAL(d.device_origin, origins[i]);
        CU_ASSERT_EQUAL(d.configuration_origin, USBIP_ORIGIN_SYNTHESISED);
        usbip_description_free(&d);
        d = describe(capture, path);
        CU_ASSERT_EQUAL(d.device_origin, i == 0 ? USBIP_ORIGIN_SIDE_FILE : origins[i]);
        CU_ASSERT_EQUAL(d.device.bMaxPacketSize0, i == 0 ? 32 : 64);
        CU_ASSERT_EQUAL(d.configuration_origin, USBIP_ORIGIN_SIDE_FILE);
        REQUIRE(d.configuration_size == 67);
        CU_ASSERT_EQUAL(d.configuration[8], 1);
        usbip_description_free(&d);
        usbip_capture_free(capture);
    }
}

/* A whole descriptor that the recorder wrote is not lost to the beginning of a real answer. */
static void test_injected_and_partial(void)
{
    static const uint8_t get_head[8] = {0x80, 6, 0, 2, 0, 0, 9, 0};
    struct capture_file file = {0};
    pcap_begin(&file, "description_partial.pcap", LINK_USBMON_MMAPPED);
    put_usbmon(&file, &(struct usbmon){.event = 'S',
                                       .type = 2,
                                       .endpoint = 0x80,
                                       .address = 5,
                                       .setup = get_configuration_descriptor,
                                       .length = 67});
    put_usbmon(&file, &(struct usbmon){.event = 'C',
                                       .type = 2,
                                       .endpoint = 0x80,
                                       .address = 5,
                                       .data = acm_configuration,
                                       .size = 67});
    put_usbmon_control(&file, 5, get_head, acm_configuration, 9, 0);
    struct usbip_capture *capture = load(&file);
    struct usbip_description d = describe(capture, NULL);
    CU_ASSERT_EQUAL(d.configuration_origin, USBIP_ORIGIN_INJECTED);
    CU_ASSERT_EQUAL(d.configuration_size, 67);
    usbip_description_free(&d);
    usbip_capture_free(capture);
}

static const char lsusb[] = "\n"
                            "Bus 002 Device 001: ID 1d6b:0003 Linux Foundation 3.0 root hub\n"
                            "Device Descriptor:\n"
                            "  bLength                18\n"
                            "  bDescriptorType         1\n"
                            "  bcdUSB               3.00\n"
                            "  idVendor           0x1d6b Linux Foundation\n"
                            "  idProduct          0x0003 3.0 root hub\n"
                            "  iProduct                2 xHCI Host Controller\n"
                            "  Configuration Descriptor:\n"
                            "    bLength                 9\n"
                            "    bConfigurationValue     1\n"
                            "\n"
                            "Bus 001 Device 004: ID 1209:0001 pid.codes Test PID\n"
                            "Device Descriptor:\n"
                            "  bLength                18\n"
                            "  bDescriptorType         1\n"
                            "  bcdUSB               2.00\n"
                            "  bDeviceClass            2 Communications\n"
                            "  bDeviceSubClass         0 \n"
                            "  bDeviceProtocol         0 \n"
                            "  bMaxPacketSize0        64\n"
                            "  idVendor           0x1209 InterBiometrics\n"
                            "  idProduct          0x0001 \n"
                            "  bcdDevice            1.00\n"
                            "  iManufacturer           1 ACME\n"
                            "  iProduct                2 A  B: C\n"
                            "  iSerial                 3 \n"
                            "  bNumConfigurations      1\n"
                            "  Configuration Descriptor:\n"
                            "    bLength                 9\n"
                            "    bDescriptorType         2\n"
                            "    wTotalLength       0x0043\n"
                            "    bNumInterfaces          2\n"
                            "    bConfigurationValue     1\n"
                            "    iConfiguration          0 \n"
                            "    bmAttributes         0x80\n"
                            "      (Bus Powered)\n"
                            "    MaxPower              100mA\n"
                            "    Interface Descriptor:\n"
                            "      bLength                 9\n"
                            "      bDescriptorType         4\n"
                            "      bInterfaceNumber        0\n"
                            "      bAlternateSetting       0\n"
                            "      bNumEndpoints           1\n"
                            "      bInterfaceClass         2 Communications\n"
                            "      bInterfaceSubClass      2 Abstract (modem)\n"
                            "      bInterfaceProtocol      1 AT-commands (v.25ter)\n"
                            "      iInterface              0 \n"
                            "      CDC Header:\n"
                            "        bcdCDC               1.10\n"
                            "      CDC Call Management:\n"
                            "        bmCapabilities       0x00\n"
                            "        bDataInterface          1\n"
                            "      CDC ACM:\n"
                            "        bmCapabilities       0x06\n"
                            "          sends break\n"
                            "          line coding and serial state\n"
                            "      ** UNRECOGNIZED:  05 24 06 00 01\n"
                            "      Endpoint Descriptor:\n"
                            "        bLength                 7\n"
                            "        bDescriptorType         5\n"
                            "        bEndpointAddress     0x83  EP 3 IN\n"
                            "        bmAttributes            3\n"
                            "          Transfer Type            Interrupt\n"
                            "          Synch Type               None\n"
                            "          Usage Type               Data\n"
                            "        wMaxPacketSize     0x0010  1x 16 bytes\n"
                            "        bInterval              10\n"
                            "    Interface Descriptor:\n"
                            "      bInterfaceNumber        1\n"
                            "      bNumEndpoints           2\n"
                            "      bInterfaceClass        10 CDC Data\n"
                            "      Endpoint Descriptor:\n"
                            "        bEndpointAddress     0x81  EP 1 IN\n"
                            "        bmAttributes            2\n"
                            "        wMaxPacketSize     0x0040  1x 64 bytes\n"
                            "      Endpoint Descriptor:\n"
                            "        bEndpointAddress     0x02  EP 2 OUT\n"
                            "        bmAttributes            2\n"
                            "        wMaxPacketSize     0x0040  1x 64 bytes\n"
                            "Device Qualifier (for other device speed):\n"
                            "  bLength                10\n"
                            "  Endpoint Descriptor:\n"
                            "    bEndpointAddress     0x05  EP 5 OUT\n"
                            "Device Status:     0x0000\n"
                            "  (Bus Powered)\n";

static void test_lsusb(void)
{
    static const uint8_t probe[8] = {0x80, 6, 0, 1, 0, 0, 40, 0};
    struct capture_file file = {0};
    char path[4096];
    write_file("description_lsusb", lsusb, sizeof lsusb - 1);
    snprintf(path, sizeof path, "%s", file_path("description_lsusb"));
    pcap_begin(&file, "description_lsusb.pcap", LINK_USBMON_MMAPPED);
    put_usbmon_control(&file, 5, probe, acm_device, 18, 0);
    struct usbip_capture *capture = load(&file);
    struct usbip_description d = describe(capture, path);
    CU_ASSERT_EQUAL(d.device.idProduct, 0x0001);
    CU_ASSERT_EQUAL(d.device.bcdUSB, 0x0200);
    CU_ASSERT_EQUAL(d.device.bcdDevice, 0x0100);
    CU_ASSERT_EQUAL(d.device.bMaxPacketSize0, 64);
    REQUIRE(d.configuration_size == 67);
    CU_ASSERT_EQUAL(memcmp(d.configuration, acm_configuration, 67), 0);
    REQUIRE(d.strings[1] && d.strings[2]);
    CU_ASSERT_STRING_EQUAL(d.strings[1], "ACME");
    CU_ASSERT_STRING_EQUAL(d.strings[2], "A  B: C");
    CU_ASSERT_PTR_NULL(d.strings[3]);
    usbip_description_free(&d);
    usbip_capture_free(capture);
}

/* A capture that does not tell its device's ids: the endpoints choose. */
static void test_lsusb_without_ids(void)
{
    static const struct {
        uint8_t endpoint;
        const char *error;
    } cases[] = {
        {0x81, NULL},
        {0x84, "describes 1209:0001, which has no endpoint 0x84, but the device of the capture "
               "uses it"},
    };
    write_file("description_lsusb", lsusb, sizeof lsusb - 1);
    char path[4096], error_text[USBIP_CAPTURE_ERROR_SIZE];
    snprintf(path, sizeof path, "%s", file_path("description_lsusb"));
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct capture_file file = {0};
        pcap_begin(&file, "description_lsusb.pcap", LINK_USBMON_MMAPPED);
        put_bulk(&file, cases[i].endpoint, "hello", 5);
        put_bulk(&file, 0x02, "hello", 5);
        struct usbip_capture *capture = load(&file);
        struct usbip_description d;
        int result = usbip_describe(capture, 0, path, &d, error_text);
        CU_ASSERT_EQUAL(result, cases[i].error ? -1 : 0);
        if (cases[i].error)
            CU_ASSERT_PTR_NOT_NULL(strstr(error_text, cases[i].error));
        if (result == 0) {
            CU_ASSERT_EQUAL(d.device.idProduct, 0x0001);
            REQUIRE(d.chip != NULL);
            CU_ASSERT_EQUAL(d.chip->family, USBIP_CHIP_CDC_ACM);
            usbip_description_free(&d);
        }
        usbip_capture_free(capture);
    }
}

static void test_wrong_side_files(void)
{
    static const uint8_t other[18 + 9] = {18, 1, [8] = 0x34, 0x12, 0x78, 0x56};
    static const uint8_t no_configuration[18] = {18, 1, [8] = 0x09, 0x12, 0x01, 0x00};
    static const char broken[] = "Device Descriptor:\n idVendor 0x1209\n idProduct 0x0001\n"
                                 "Configuration Descriptor:\n ** UNRECOGNIZED: 01 02 03\n";
    static const struct {
        const void *bytes;
        size_t size;
        const char *error;
    } cases[] = {
        {other, sizeof other, "describes 1234:5678, but the device of the capture is 1209:0001"},
        {no_configuration, 18, "no device with a configuration is in it"},
        {"", 0, "no device with a configuration is in it"},
        {"hello", 5, "no device with a configuration is in it"},
        {broken, sizeof broken - 1, "its descriptors are malformed"},
    };
    struct capture_file file = {0};
    pcap_begin(&file, "description_wrong.pcap", LINK_USBMON_MMAPPED);
    put_usbmon_control(&file, 5, get_device_descriptor, acm_device, 18, 0);
    struct usbip_capture *capture = load(&file);
    struct usbip_description d;
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file("description_wrong", cases[i].bytes, cases[i].size);
        CU_ASSERT_EQUAL(usbip_describe(capture, 0, file_path("description_wrong"), &d, error_text),
                        -1);
        CU_ASSERT_PTR_NOT_NULL(strstr(error_text, cases[i].error));
    }
    CU_ASSERT_EQUAL(usbip_describe(capture, 0, "/no/such/file", &d, error_text), -1);
    CU_ASSERT_STRING_EQUAL(error_text, "/no/such/file: cannot be read: No such file or directory");
    usbip_capture_free(capture);
}

/* No descriptor at all: the traffic tells the chip, the chip its layout. */
static void test_synthesis(void)
{
    static const uint8_t acm[][8] = {{0x21, 0x22, 3, 0, 2, 0, 0, 0}};
    static const uint8_t two_acm[][8] = {{0x21, 0x22, 3, 0, 0, 0, 0, 0},
                                         {0x21, 0x22, 3, 0, 2, 0, 0, 0}};
    static const uint8_t ftdi[][8] = {{0x40, 3, 0x1a, 0, 0, 0, 0, 0}, {0x40, 9, 2, 0, 0, 0, 0, 0}};
    static const uint8_t cp210x[][8] = {{0x41, 0x1e, 0, 0, 0, 0, 4, 0}};
    static const uint8_t ch34x[][8] = {{0x40, 0x9a, 0x12, 0x13, 0x83, 0xcc, 0, 0}};
    static const uint8_t pl2303[][8] = {{0xc0, 1, 0x84, 0x84, 0, 0, 1, 0},
                                        {0x40, 1, 4, 4, 0, 0, 0, 0},
                                        {0x21, 0x20, 0, 0, 0, 0, 7, 0}};
    static const struct {
        const char *name;
        const uint8_t (*requests)[8];
        size_t request_count;
        const char *in; /* what comes from the IN endpoint */
        uint8_t endpoints[8];
        const char *chip, *layout;
        uint32_t ids;
        uint16_t bcdDevice, packet_size;
    } cases[] = {
        {"CDC-ACM",
         acm,
         1,
         "hello",
         {0x81, 0x02},
         "CDC-ACM",
         "i2 82 i3 02 81 ",
         0x12090001,
         0x0100,
         64},
        {"two CDC-ACM functions",
         two_acm,
         2,
         "hello",
         {0x81, 0x01, 0x83, 0x03},
         "CDC-ACM",
         "i0 82 i1 01 81 i2 84 i3 03 83 ",
         0x12090001,
         0x0100,
         64},
        {"FTDI", ftdi, 2, "\x01\x60", {0x81, 0x02}, "FT232R", "i0 81 02 ", 0x04036001, 0x0600, 64},
        {"FTDI, high speed",
         ftdi,
         2,
         "\x32\x60",
         {0x81, 0x02},
         "FT232H",
         "i0 81 02 ",
         0x04036014,
         0x0900,
         512},
        {"FTDI, two ports",
         ftdi,
         2,
         "\x02\x60",
         {0x81, 0x02, 0x83, 0x04},
         "FT2232H",
         "i0 81 02 i1 83 04 ",
         0x04036010,
         0x0700,
         512},
        {"CP210x", cp210x, 1, "hello", {0x82, 0x01}, "CP210x", "i0 82 01 ", 0x10c4ea60, 0x0100, 64},
        {"CH34x", ch34x, 1, "hello", {0x82}, "CH340", "i0 82 02 81 ", 0x1a867523, 0x0100, 32},
        {"PL2303",
         pl2303,
         3,
         "hello",
         {0x83, 0x02},
         "PL2303",
         "i0 83 02 81 ",
         0x067b2303,
         0x0100,
         64},
        {"nothing known",
         NULL,
         0,
         "hello",
         {0x81, 0x05},
         NULL,
         "i0 05 81 ",
         0x12090002,
         0x0100,
         64},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct capture_file file = {0};
        pcap_begin(&file, "description_synthesis.pcap", LINK_USBMON_MMAPPED);
        put_requests(&file, cases[i].requests, cases[i].request_count);
        for (unsigned j = 0; cases[i].endpoints[j]; j++)
            put_bulk(&file, cases[i].endpoints[j], cases[i].in, (uint32_t)strlen(cases[i].in));
        struct usbip_capture *capture = load(&file);
        struct usbip_description d = describe(capture, NULL);
        const struct usbip_chip *chip = capture->devices[0].chip;
        CU_ASSERT_STRING_EQUAL(chip ? chip->name : "none", cases[i].chip ? cases[i].chip : "none");
        CU_ASSERT_EQUAL(d.device_origin, USBIP_ORIGIN_SYNTHESISED);
        CU_ASSERT_EQUAL(d.configuration_origin, USBIP_ORIGIN_SYNTHESISED);
        if (strcmp(layout(&d), cases[i].layout) != 0)
            fprintf(stderr, "%s: %s\n", cases[i].name, layout(&d));
        CU_ASSERT_STRING_EQUAL(layout(&d), cases[i].layout);
        CU_ASSERT_EQUAL((uint32_t)d.device.idVendor << 16 | d.device.idProduct, cases[i].ids);
        CU_ASSERT_EQUAL(d.device.bcdDevice, cases[i].bcdDevice);
        struct usbip_configuration table;
        usbip_parse_configuration(d.configuration, d.configuration_size, &table);
        const struct usbip_endpoint_descriptor *bulk =
            usbip_find_endpoint(&table, &table.altsettings[table.altsetting_count - 1],
                                USB_ENDPOINT_XFER_BULK, USB_DIR_IN);
        REQUIRE(bulk != NULL);
        CU_ASSERT_EQUAL(bulk->wMaxPacketSize, cases[i].packet_size);
        CU_ASSERT_EQUAL(d.speed, cases[i].packet_size == 512 ? USBIP_SPEED_HIGH : USBIP_SPEED_FULL);
        usbip_description_free(&d);
        usbip_capture_free(capture);
    }
}

/* FTDI's chips under the ids of others, and without any: by their status bytes. */
static void test_ftdi_by_status(void)
{
    static const uint8_t set_rate[][8] = {{0x40, 3, 0x1a, 0, 0, 0, 0, 0}};
    static const uint8_t vendor_configuration[32] = {9,  2, 32, 0,    1,    1, 0, 0x80, 45, 9,    4,
                                                     0,  0, 2,  0xff, 0xff, 0, 0, 7,    5,  0x81, 2,
                                                     64, 0, 0,  7,    5,    2, 2, 64,   0,  0};
    static const uint8_t vendor_device[18] = {18,   1, 0, 2, 0, 0, 0, 64, 0x09,
                                              0x12, 2, 0, 0, 6, 0, 0, 0,  1};
    static const struct {
        const char *packets[4];
        bool described, requests;
        const char *chip;
    } cases[] = {
        {{"\x01\x60", "\x01\x60hello", "\x11\x60", "\x01\x60"}, false, false, "FT232R"},
        {{"\x02\x60", "\x02\x60hello", "\x12\x60", "\x02\x60"}, false, false, "FT232H"},
        {{"\x01\x60", "\x01\x60hello", "\x11\x60", "\x71\x60"}, true, true, "FT232R"},
        /* Too little to tell, or not like it. */
        {{"\x01\x60", "\x01\x60hello", "\x11\x60"}, false, false, NULL},
        {{"\x01\x60", "\x01\x60hello", "hello", "\x01\x60"}, false, false, NULL},
        {{"\x01\x60hello", "\x01\x60hello", "ahello", "qhello"}, false, false, NULL},
        {{"\x01\x60", "\x01\x60hello", "\x11\x61", "\x01\x60"}, false, false, NULL},
        {{"\x01\x40", "\x01\x60hello", "\x11\x40", "\x01\x40"}, false, false, NULL},
        {{"\x01\x60", "\x01\x60hello", "\x11\x60", "\x01\x60"}, true, false, NULL},
        {{"hello", "hello"}, true, true, NULL},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct capture_file file = {0};
        pcap_begin(&file, "description_status.pcap", LINK_USBMON_MMAPPED);
        if (cases[i].described) {
            put_usbmon_control(&file, 5, get_device_descriptor, vendor_device, 18, 0);
            put_usbmon_control(&file, 5, get_configuration_descriptor, vendor_configuration, 32, 0);
        }
        put_requests(&file, set_rate, cases[i].requests);
        for (unsigned j = 0; j < 4 && cases[i].packets[j]; j++)
            put_bulk(&file, 0x81, cases[i].packets[j], (uint32_t)strlen(cases[i].packets[j]));
        struct usbip_capture *capture = load(&file);
        const struct usbip_chip *chip = capture->devices[0].chip;
        CU_ASSERT_STRING_EQUAL(chip ? chip->name : "none", cases[i].chip ? cases[i].chip : "none");
        usbip_capture_free(capture);
    }
}

static void test_chips(void)
{
    static const struct {
        uint16_t idVendor, idProduct, bcdDevice;
        const char *name;
    } chips[] = {
        {0x0403, 0x6001, 0x0600, "FT232R"},  {0x0403, 0x6001, 0x0400, "FT232BM"},
        {0x0403, 0x6010, 0x0700, "FT2232H"}, {0x0403, 0x6010, 0x0500, "FT2232C/D"},
        {0x0403, 0x6011, 0x0800, "FT4232H"}, {0x0403, 0x6014, 0x0900, "FT232H"},
        {0x0403, 0x6015, 0x1000, "FT-X"},    {0x0403, 0x1234, 0x0600, "FT232R"},
        {0x0403, 0x6001, 0x7777, NULL},      {0x10c4, 0xea60, 0x0100, "CP210x"},
        {0x10c4, 0xea71, 0x0100, "CP2108"},  {0x1a86, 0x7523, 0x0264, "CH340"},
        {0x067b, 0x2303, 0x0300, "PL2303"},  {0x067b, 0x23a3, 0x0105, "PL2303GC"},
        {0x1209, 0x0001, 0x0600, NULL},
    };
    for (unsigned i = 0; i < sizeof chips / sizeof chips[0]; i++) {
        const struct usbip_chip *chip = usbip_chip_of_descriptors(
            chips[i].idVendor, chips[i].idProduct, chips[i].bcdDevice, NULL, 0);
        CU_ASSERT_STRING_EQUAL(chip ? chip->name : "none", chips[i].name ? chips[i].name : "none");
    }
    CU_ASSERT_STRING_EQUAL(
        usbip_chip_of_descriptors(0x1209, 1, 0, acm_configuration, sizeof acm_configuration)->name,
        "CDC-ACM");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"answers to GET_DESCRIPTOR", test_answers},
        {"which source wins", test_precedence},
        {"an injected descriptor and a part of it", test_injected_and_partial},
        {"the text of lsusb", test_lsusb},
        {"the text of lsusb, without ids", test_lsusb_without_ids},
        {"wrong side files", test_wrong_side_files},
        {"synthesis from traffic", test_synthesis},
        {"FTDI by its status bytes", test_ftdi_by_status},
        {"chips", test_chips},
        CU_TEST_INFO_NULL,
    };
    return run_tests("descriptions", tests);
}
