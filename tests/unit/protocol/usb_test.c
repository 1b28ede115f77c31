#include "protocol/usb.h"

#include "tests/support/hex.h"
#include "tests/support/testing.h"

static void test_setup(void)
{
    struct usbip_setup setup;
    uint8_t bytes[USBIP_SETUP_SIZE];

    usbip_decode_setup(hex("80 06 0103 0904 FF00").data, &setup);
    CU_ASSERT_EQUAL(setup.bmRequestType, USB_DIR_IN);
    CU_ASSERT_EQUAL(setup.bRequest, USB_REQ_GET_DESCRIPTOR);
    CU_ASSERT_EQUAL(setup.wValue, 0x0301);
    CU_ASSERT_EQUAL(setup.wIndex, USB_LANGID_ENGLISH_US);
    CU_ASSERT_EQUAL(setup.wLength, 255);
    usbip_encode_setup(bytes, &setup);
    ASSERT_BYTES(bytes, "80 06 0103 0904 FF00");
}

static void test_setup_direction(void)
{
    const struct usbip_setup in = {.bmRequestType = 0x80, .wLength = 1};
    const struct usbip_setup out = {.bmRequestType = 0x21, .wLength = 7};
    const struct usbip_setup without_data = {.bmRequestType = 0x80, .wLength = 0};

    CU_ASSERT_EQUAL(usbip_setup_direction(&in), USBIP_DIR_IN);
    CU_ASSERT_EQUAL(usbip_setup_direction(&out), USBIP_DIR_OUT);
    CU_ASSERT_EQUAL(usbip_setup_direction(&without_data), USBIP_DIR_OUT);
}

static void test_standard_requests(void)
{
    static const char *const names[] = {
        "GET_STATUS",        "CLEAR_FEATURE",     "unknown",        "SET_FEATURE",
        "unknown",           "SET_ADDRESS",       "GET_DESCRIPTOR", "SET_DESCRIPTOR",
        "GET_CONFIGURATION", "SET_CONFIGURATION", "GET_INTERFACE",  "SET_INTERFACE",
        "SYNCH_FRAME",
    };

    for (unsigned request = 0; request <= UINT8_MAX; request++) {
        const char *expected =
            request < sizeof(names) / sizeof(names[0]) ? names[request] : "unknown";

        CU_ASSERT_STRING_EQUAL(usbip_standard_request_name((uint8_t)request), expected);
    }
}

static void test_device_descriptor(void)
{
    static const char wire[] = "12 01 0002 EF 02 01 40 0304 0160 0006 01 02 03 04";
    struct usbip_device_descriptor d;
    uint8_t bytes[USB_DT_DEVICE_SIZE];

    CU_ASSERT_EQUAL(usbip_decode_device_descriptor(hex(wire).data, 18, &d), 0);
    CU_ASSERT_EQUAL(d.bcdUSB, 0x0200);
    CU_ASSERT_EQUAL(d.bDeviceClass, 0xef);
    CU_ASSERT_EQUAL(d.bDeviceSubClass, 2);
    CU_ASSERT_EQUAL(d.bDeviceProtocol, 1);
    CU_ASSERT_EQUAL(d.bMaxPacketSize0, 64);
    CU_ASSERT_EQUAL(d.idVendor, 0x0403);
    CU_ASSERT_EQUAL(d.idProduct, 0x6001);
    CU_ASSERT_EQUAL(d.bcdDevice, 0x0600);
    CU_ASSERT_EQUAL(d.iManufacturer, 1);
    CU_ASSERT_EQUAL(d.iProduct, 2);
    CU_ASSERT_EQUAL(d.iSerialNumber, 3);
    CU_ASSERT_EQUAL(d.bNumConfigurations, 4);
    usbip_encode_device_descriptor(bytes, &d);
    ASSERT_BYTES(bytes, wire);
}

/* Those of real devices: each must come out as it went in. */
static void test_device_descriptors_of_devices(void)
{
    static const char *const wires[] = {
        "12 01 00 02 EF 02 01 40 66 66 00 88 00 01 01 02 03 01", /* CDC-ACM with association */
        "12 01 00 02 00 00 00 40 03 04 10 60 00 07 01 02 03 01", /* FT2232H */
        "12 01 00 02 00 00 00 40 03 04 14 60 00 09 01 02 03 01", /* FT232H */
        "12 01 00 02 00 00 00 08 03 04 01 60 00 06 01 02 03 01", /* FT232R */
    };

    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        struct usbip_device_descriptor d;
        uint8_t bytes[USB_DT_DEVICE_SIZE];

        CU_ASSERT_EQUAL(usbip_decode_device_descriptor(hex(wires[i]).data, 18, &d), 0);
        usbip_encode_device_descriptor(bytes, &d);
        ASSERT_BYTES(bytes, wires[i]);
    }
}

static void test_qualifier_descriptor(void)
{
    static const char wire[] = "0A 06 0002 01 02 03 40 05 00";
    struct usbip_qualifier_descriptor d;
    uint8_t bytes[USB_DT_DEVICE_QUALIFIER_SIZE];

    CU_ASSERT_EQUAL(usbip_decode_qualifier_descriptor(hex(wire).data, 10, &d), 0);
    CU_ASSERT_EQUAL(d.bcdUSB, 0x0200);
    CU_ASSERT_EQUAL(d.bDeviceClass, 1);
    CU_ASSERT_EQUAL(d.bDeviceSubClass, 2);
    CU_ASSERT_EQUAL(d.bDeviceProtocol, 3);
    CU_ASSERT_EQUAL(d.bMaxPacketSize0, 64);
    CU_ASSERT_EQUAL(d.bNumConfigurations, 5);
    memset(bytes, 0xaa, sizeof(bytes));
    usbip_encode_qualifier_descriptor(bytes, &d);
    ASSERT_BYTES(bytes, wire);
}

static void test_config_descriptor(void)
{
    static const char wire[] = "09 02 4B01 02 03 04 A0 FA";
    struct usbip_config_descriptor d;
    uint8_t bytes[USB_DT_CONFIG_SIZE];

    CU_ASSERT_EQUAL(usbip_decode_config_descriptor(hex(wire).data, 9, &d), 0);
    CU_ASSERT_EQUAL(d.wTotalLength, 0x014b);
    CU_ASSERT_EQUAL(d.bNumInterfaces, 2);
    CU_ASSERT_EQUAL(d.bConfigurationValue, 3);
    CU_ASSERT_EQUAL(d.iConfiguration, 4);
    CU_ASSERT_EQUAL(d.bmAttributes, USB_CONFIG_ATT_ONE | USB_CONFIG_ATT_WAKEUP);
    CU_ASSERT_EQUAL(d.bMaxPower, 250);
    usbip_encode_config_descriptor(bytes, &d);
    ASSERT_BYTES(bytes, wire);
}

static void test_interface_descriptor(void)
{
    static const char wire[] = "09 04 01 02 03 0A 05 06 07";
    struct usbip_interface_descriptor d;
    uint8_t bytes[USB_DT_INTERFACE_SIZE];

    CU_ASSERT_EQUAL(usbip_decode_interface_descriptor(hex(wire).data, 9, &d), 0);
    CU_ASSERT_EQUAL(d.bInterfaceNumber, 1);
    CU_ASSERT_EQUAL(d.bAlternateSetting, 2);
    CU_ASSERT_EQUAL(d.bNumEndpoints, 3);
    CU_ASSERT_EQUAL(d.bInterfaceClass, USB_CLASS_CDC_DATA);
    CU_ASSERT_EQUAL(d.bInterfaceSubClass, 5);
    CU_ASSERT_EQUAL(d.bInterfaceProtocol, 6);
    CU_ASSERT_EQUAL(d.iInterface, 7);
    usbip_encode_interface_descriptor(bytes, &d);
    ASSERT_BYTES(bytes, wire);
}

static void test_interface_association_descriptor(void)
{
    static const char wire[] = "08 0B 02 03 04 05 06 07";
    struct usbip_interface_association_descriptor d;
    uint8_t bytes[USB_DT_INTERFACE_ASSOCIATION_SIZE];

    CU_ASSERT_EQUAL(usbip_decode_interface_association_descriptor(hex(wire).data, 8, &d), 0);
    CU_ASSERT_EQUAL(d.bFirstInterface, 2);
    CU_ASSERT_EQUAL(d.bInterfaceCount, 3);
    CU_ASSERT_EQUAL(d.bFunctionClass, 4);
    CU_ASSERT_EQUAL(d.bFunctionSubClass, 5);
    CU_ASSERT_EQUAL(d.bFunctionProtocol, 6);
    CU_ASSERT_EQUAL(d.iFunction, 7);
    usbip_encode_interface_association_descriptor(bytes, &d);
    ASSERT_BYTES(bytes, wire);
}

static void test_endpoint_descriptor(void)
{
    static const char wire[] = "07 05 81 03 0802 FF";
    struct usbip_endpoint_descriptor d;
    uint8_t bytes[USB_DT_ENDPOINT_SIZE];

    CU_ASSERT_EQUAL(usbip_decode_endpoint_descriptor(hex(wire).data, 7, &d), 0);
    CU_ASSERT_EQUAL(d.bEndpointAddress, 0x81);
    CU_ASSERT_EQUAL(d.bmAttributes, USB_ENDPOINT_XFER_INT);
    CU_ASSERT_EQUAL(d.wMaxPacketSize, 0x0208);
    CU_ASSERT_EQUAL(d.bInterval, 255);
    usbip_encode_endpoint_descriptor(bytes, &d);
    ASSERT_BYTES(bytes, wire);
}

/* One descriptor through the decoder of its type, from memory that ends right behind it. */
static int decode(uint8_t type, const uint8_t *in, size_t size)
{
    union {
        struct usbip_device_descriptor device;
        struct usbip_qualifier_descriptor qualifier;
        struct usbip_config_descriptor config;
        struct usbip_interface_descriptor interface;
        struct usbip_interface_association_descriptor association;
        struct usbip_endpoint_descriptor endpoint;
    } d;
    uint8_t *exact = exact_copy(in, size);
    int result = -2;

    switch (type) {
    case USB_DT_DEVICE:
        result = usbip_decode_device_descriptor(exact, size, &d.device);
        break;
    case USB_DT_DEVICE_QUALIFIER:
        result = usbip_decode_qualifier_descriptor(exact, size, &d.qualifier);
        break;
    case USB_DT_CONFIG:
        result = usbip_decode_config_descriptor(exact, size, &d.config);
        break;
    case USB_DT_INTERFACE:
        result = usbip_decode_interface_descriptor(exact, size, &d.interface);
        break;
    case USB_DT_INTERFACE_ASSOCIATION:
        result = usbip_decode_interface_association_descriptor(exact, size, &d.association);
        break;
    case USB_DT_ENDPOINT:
        result = usbip_decode_endpoint_descriptor(exact, size, &d.endpoint);
        break;
    }
    free(exact);
    return result;
}

static void test_descriptors_of_wrong_size_or_type(void)
{
    static const struct {
        uint8_t type;
        uint8_t size;
    } types[] = {
        {USB_DT_DEVICE, USB_DT_DEVICE_SIZE},
        {USB_DT_DEVICE_QUALIFIER, USB_DT_DEVICE_QUALIFIER_SIZE},
        {USB_DT_CONFIG, USB_DT_CONFIG_SIZE},
        {USB_DT_INTERFACE, USB_DT_INTERFACE_SIZE},
        {USB_DT_INTERFACE_ASSOCIATION, USB_DT_INTERFACE_ASSOCIATION_SIZE},
        {USB_DT_ENDPOINT, USB_DT_ENDPOINT_SIZE},
    };

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        uint8_t bytes[32] = {types[i].size, types[i].type};

        CU_ASSERT_EQUAL(decode(types[i].type, bytes, types[i].size), 0);
        for (size_t size = 0; size < types[i].size; size++)
            CU_ASSERT_EQUAL(decode(types[i].type, bytes, size), -1);
        for (uint8_t bLength = 0; bLength < types[i].size; bLength++) {
            bytes[0] = bLength;
            CU_ASSERT_EQUAL(decode(types[i].type, bytes, sizeof(bytes)), -1);
        }
        bytes[0] = (uint8_t)(types[i].size + 2); /* as endpoints of audio devices are */
        CU_ASSERT_EQUAL(decode(types[i].type, bytes, sizeof(bytes)), 0);
        bytes[1] = USB_DT_STRING;
        CU_ASSERT_EQUAL(decode(types[i].type, bytes, sizeof(bytes)), -1);
    }
}

/* Text to descriptor and back. */
static void assert_string(const char *text, const char *wire)
{
    struct bytes expected = hex(wire);
    uint8_t bytes[USB_DT_STRING_MAX_SIZE];
    uint8_t *exact = exact_copy(expected.data, expected.size);
    char decoded[USB_DT_STRING_MAX_SIZE];
    int size = usbip_encode_string_descriptor(bytes, text);

    CU_ASSERT_EQUAL(size, (int)expected.size);
    CU_ASSERT_EQUAL(memcmp(bytes, expected.data, expected.size), 0);
    CU_ASSERT_EQUAL(usbip_decode_string_descriptor(exact, expected.size, decoded, sizeof(decoded)),
                    (int)strlen(text));
    CU_ASSERT_STRING_EQUAL(decoded, text);
    free(exact);
}

static void test_strings(void)
{
    assert_string("", "02 03");
    assert_string("A7", "06 03 4100 3700");
    assert_string("Ger\xc3\xa4t \xc3\x9f", "10 03 4700 6500 7200 e400 7400 2000 df00");
    assert_string("\xe2\x82\xac", "04 03 ac20");                  /* U+20AC */
    assert_string("\xf0\x9f\x98\x80", "06 03 3dd8 00de");         /* U+1F600 */
    assert_string("\xf0\x90\x80\x80", "06 03 00d8 00dc");         /* U+10000, the first pair */
    assert_string("\xf4\x8f\xbf\xbf", "06 03 ffdb ffdf");         /* U+10FFFF, the last pair */
    assert_string("\xed\x9f\xbf\xee\x80\x80", "06 03 ffd7 00e0"); /* around the surrogates */
    assert_string("\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", "0a 03 8000 ff07 0008 ffff");
}

static void test_longest_string(void)
{
    uint8_t bytes[USB_DT_STRING_MAX_SIZE];
    char text[127 * 3 + 1], decoded[126 * 3 + 1];

    memset(text, 'x', 126);
    text[126] = '\0';
    CU_ASSERT_EQUAL(usbip_encode_string_descriptor(bytes, text), 254);
    CU_ASSERT_EQUAL(bytes[0], 254);
    CU_ASSERT_EQUAL(usbip_decode_string_descriptor(bytes, 254, decoded, 127), 126);
    CU_ASSERT_STRING_EQUAL(decoded, text);
    CU_ASSERT_EQUAL(usbip_decode_string_descriptor(bytes, 254, decoded, 126), -1);

    text[126] = 'x';
    text[127] = '\0';
    CU_ASSERT_EQUAL(usbip_encode_string_descriptor(bytes, text), -1);

    /* 125 units leave no room for a pair. */
    memcpy(text + 125, "\xf0\x9f\x98\x80", 5);
    CU_ASSERT_EQUAL(usbip_encode_string_descriptor(bytes, text), -1);
    memcpy(text + 124, "\xf0\x9f\x98\x80", 5);
    CU_ASSERT_EQUAL(usbip_encode_string_descriptor(bytes, text), 254);

    /* 126 units of three bytes each. */
    for (size_t i = 0; i < 126; i++)
        memcpy(text + 3 * i, "\xe2\x82\xac", 4);
    CU_ASSERT_EQUAL(usbip_encode_string_descriptor(bytes, text), 254);
    CU_ASSERT_EQUAL(usbip_decode_string_descriptor(bytes, 254, decoded, sizeof(decoded)), 378);
    CU_ASSERT_STRING_EQUAL(decoded, text);
}

static void test_invalid_utf8(void)
{
    static const char *const texts[] = {
        "\x80",             /* continuation without a start */
        "a\xc3",            /* cut after one of two */
        "\xe2\x82",         /* cut after two of three */
        "\xf0\x9f\x98",     /* cut after three of four */
        "\xc3(",            /* no continuation */
        "\xe2(\xac",        /* nor here */
        "\xc0\x80",         /* overlong U+0000 */
        "\xc1\xbf",         /* overlong U+007F */
        "\xe0\x9f\xbf",     /* overlong U+07FF */
        "\xf0\x8f\xbf\xbf", /* overlong U+FFFF */
        "\xed\xa0\x80",     /* high surrogate */
        "\xed\xbf\xbf",     /* low surrogate */
        "\xf4\x90\x80\x80", /* U+110000 */
        "\xf8\x88\x80\x80\x80",
        "\xff",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        uint8_t bytes[USB_DT_STRING_MAX_SIZE];
        char *exact = (char *)exact_copy((const uint8_t *)texts[i], strlen(texts[i]) + 1);

        CU_ASSERT_EQUAL(usbip_encode_string_descriptor(bytes, exact), -1);
        free(exact);
    }
}

static void assert_decoded(const char *wire, const char *text)
{
    struct bytes bytes = hex(wire);
    uint8_t *exact = exact_copy(bytes.data, bytes.size);
    char decoded[64];

    CU_ASSERT_EQUAL(usbip_decode_string_descriptor(exact, bytes.size, decoded, sizeof(decoded)),
                    (int)strlen(text));
    CU_ASSERT_STRING_EQUAL(decoded, text);
    free(exact);
}

static void test_unpaired_surrogates(void)
{
    assert_decoded("04 03 3dd8", "\xef\xbf\xbd"); /* high at the end */
    assert_decoded("06 03 3dd8 4100", "\xef\xbf\xbd"
                                      "A"); /* high before a letter */
    assert_decoded("06 03 00de 4100", "\xef\xbf\xbd"
                                      "A");                        /* low alone */
    assert_decoded("06 03 00de 3dd8", "\xef\xbf\xbd\xef\xbf\xbd"); /* the wrong way round */
    assert_decoded("08 03 3dd8 3dd8 00de", "\xef\xbf\xbd\xf0\x9f\x98\x80");
}

static void test_string_ends_at_nul_and_at_its_length(void)
{
    assert_decoded("0a 03 4100 4200 0000 4300", "AB");
    assert_decoded("04 03 4100 4200 4300", "A");
}

static void test_malformed_strings(void)
{
    static const char *const wires[] = {
        "",           "02", "00 03", "01 03", "05 03 4100 42", /* half a unit */
        "06 03 4100",                                          /* over the end */
        "04 02 4100",                                          /* no string */
        "ff 03 4100",
    };

    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        struct bytes bytes = hex(wires[i]);
        uint8_t *exact = exact_copy(bytes.data, bytes.size);
        char decoded[64];

        CU_ASSERT_EQUAL(usbip_decode_string_descriptor(exact, bytes.size, decoded, sizeof(decoded)),
                        -1);
        free(exact);
    }
}

static void test_string_into_small_text(void)
{
    struct bytes bytes = hex("06 03 4100 e400"); /* three bytes and the NUL */

    for (size_t size = 0; size < 4; size++) {
        char *text = (char *)exact_copy((const uint8_t *)"xxxx", size);

        CU_ASSERT_EQUAL(usbip_decode_string_descriptor(bytes.data, bytes.size, text, size), -1);
        free(text);
    }
    assert_decoded("06 03 4100 e400", "A\xc3\xa4");
    CU_ASSERT_EQUAL(usbip_decode_string_descriptor(hex("02 03").data, 2, NULL, 0), -1);
}

static void test_walk(void)
{
    struct bytes bytes = hex("02 ff | 04 24 02 06 | 03 aa bb");
    size_t offset = 0;
    const uint8_t *descriptor = NULL;

    CU_ASSERT_EQUAL(usbip_next_descriptor(bytes.data, bytes.size, &offset, &descriptor), 2);
    CU_ASSERT_PTR_EQUAL(descriptor, bytes.data);
    CU_ASSERT_EQUAL(usbip_next_descriptor(bytes.data, bytes.size, &offset, &descriptor), 4);
    CU_ASSERT_PTR_EQUAL(descriptor, bytes.data + 2);
    CU_ASSERT_EQUAL(usbip_next_descriptor(bytes.data, bytes.size, &offset, &descriptor), 3);
    CU_ASSERT_PTR_EQUAL(descriptor, bytes.data + 6);
    CU_ASSERT_EQUAL(usbip_next_descriptor(bytes.data, bytes.size, &offset, &descriptor), 0);
    CU_ASSERT_EQUAL(usbip_next_descriptor(bytes.data, bytes.size, &offset, &descriptor), 0);
}

static void test_walk_over_wrong_lengths(void)
{
    static const char *const wires[] = {"00", "01", "02", "00 04", "01 04", "03 04", "ff 04 00"};

    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        struct bytes bytes = hex(wires[i]);
        uint8_t *exact = exact_copy(bytes.data, bytes.size);
        size_t offset = 0;
        const uint8_t *descriptor = NULL;

        CU_ASSERT_EQUAL(usbip_next_descriptor(exact, bytes.size, &offset, &descriptor), -1);
        CU_ASSERT_EQUAL(offset, 0);
        free(exact);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"setup packet", test_setup},
        {"direction of the data stage", test_setup_direction},
        {"standard requests", test_standard_requests},
        {"device descriptor", test_device_descriptor},
        {"device descriptors of devices", test_device_descriptors_of_devices},
        {"qualifier descriptor", test_qualifier_descriptor},
        {"configuration descriptor", test_config_descriptor},
        {"interface descriptor", test_interface_descriptor},
        {"interface association descriptor", test_interface_association_descriptor},
        {"endpoint descriptor", test_endpoint_descriptor},
        {"descriptors of wrong size or type", test_descriptors_of_wrong_size_or_type},
        {"strings", test_strings},
        {"longest string", test_longest_string},
        {"invalid UTF-8", test_invalid_utf8},
        {"unpaired surrogates", test_unpaired_surrogates},
        {"string ends at NUL and at its length", test_string_ends_at_nul_and_at_its_length},
        {"malformed strings", test_malformed_strings},
        {"string into small text", test_string_into_small_text},
        {"walk over descriptors", test_walk},
        {"walk over wrong lengths", test_walk_over_wrong_lengths},
        CU_TEST_INFO_NULL,
    };

    return run_tests("usb", tests);
}
