/* Devices: which descriptions are refused and why, what they show, what they count. */
#include "tests/unit/emulator/session_fixture.h"

static struct fixture fixture;
static struct usbip_device_options options;
static uint8_t bytes[USBIP_MAX_CONFIGURATION_SIZE + 64];
static char error_text[256];

/* A raw device with one interface; what a test spoils comes next. */
static void describe(void)
{
    static const uint8_t configuration[] = {
        9, 2, 32,   0, 1,  1, 0, 0x80, 50, 9,    4, 0,  0, 2, 0xff, 0, 0, 0, /* interface at 9 */
        7, 5, 0x81, 2, 64, 0, 0, 7,    5,  0x02, 2, 64, 0, 0, /* endpoints at 18, 25 */
    };
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, configuration, sizeof configuration);
    options = usual_options();
    options.configuration = bytes;
    options.configuration_size = sizeof configuration;
}

static void set_size(size_t size)
{
    options.configuration_size = size;
    bytes[2] = (uint8_t)size;
    bytes[3] = (uint8_t)(size >> 8);
}

static bool refused_as(const struct usbip_function_type *type, const char *why)
{
    struct recorder recorder = {0};
    error_text[0] = '\0';
    struct usbip_device *device = new_device(&fixture, &recorder, type, &options, error_text);
    usbip_device_free(device);
    bool same = !device && strstr(error_text, why);
    if (!same)
        fprintf(stderr, "%s: \"%s\" instead of \"%s\"\n", device ? "accepted" : "refused",
                error_text, why);
    CU_ASSERT_PTR_NULL(recorder.device); /* never started */
    return same;
}

static bool refused(const char *why)
{
    return refused_as(&usbip_function_raw, why);
}

static bool accepted_as(const struct usbip_function_type *type)
{
    struct recorder recorder = {0};
    struct usbip_device *device = new_device(&fixture, &recorder, type, &options, error_text);
    if (!device)
        fprintf(stderr, "refused: \"%s\"\n", error_text);
    usbip_device_free(device);
    return device != NULL;
}

static void test_device_descriptor(void)
{
    fixture_init(&fixture);
    describe();
    CU_ASSERT_TRUE(accepted_as(&usbip_function_raw));
    options.speed = USBIP_SPEED_SUPER;
    CU_ASSERT_TRUE(refused("speed 5 is not low, full or high"));
    options.speed = USBIP_SPEED_HIGH;
    options.descriptor.bMaxPacketSize0 = 32;
    CU_ASSERT_TRUE(refused("bMaxPacketSize0 is 32"));
    options.speed = USBIP_SPEED_FULL;
    CU_ASSERT_TRUE(accepted_as(&usbip_function_raw));
    options.descriptor.bMaxPacketSize0 = 0;
    CU_ASSERT_TRUE(refused("bMaxPacketSize0 is 0"));
    describe();
    options.descriptor.bNumConfigurations = 2;
    CU_ASSERT_TRUE(refused("bNumConfigurations is 2"));
    fixture_free(&fixture);
}

static void test_strings(void)
{
    fixture_init(&fixture);
    describe();
    options.strings[1] = "\xff";
    CU_ASSERT_TRUE(refused("string 1 is not valid UTF-8"));
    char text[128];
    memset(text, 'a', sizeof text - 1);
    text[127] = '\0';
    options.strings[1] = text;
    CU_ASSERT_TRUE(refused("longer than 126 UTF-16 units"));
    text[126] = '\0';
    CU_ASSERT_TRUE(accepted_as(&usbip_function_raw));
    options.strings[1] = NULL;
    CU_ASSERT_TRUE(refused("names string 1, which is not given"));
    options.descriptor.iManufacturer = 0;
    CU_ASSERT_TRUE(accepted_as(&usbip_function_raw));
    options.descriptor.iProduct = USBIP_MAX_STRINGS;
    CU_ASSERT_TRUE(refused("names string 32, which is not given"));
    fixture_free(&fixture);
}

static void test_configuration(void)
{
    fixture_init(&fixture);
    describe();
    bytes[2]++;
    CU_ASSERT_TRUE(refused("wTotalLength 33"));
    describe();
    bytes[5] = 0;
    CU_ASSERT_TRUE(refused("bConfigurationValue 0"));
    describe();
    bytes[9] = 1; /* bLength */
    CU_ASSERT_TRUE(refused("malformed"));
    describe();
    bytes[25] = 8; /* over the end */
    CU_ASSERT_TRUE(refused("malformed"));
    describe();
    options.configuration_size = 0;
    CU_ASSERT_TRUE(refused("0 bytes"));
    options.configuration_size = USBIP_MAX_CONFIGURATION_SIZE + 1;
    CU_ASSERT_TRUE(refused("4097 bytes (limit 4096)"));
    options.configuration = NULL;
    CU_ASSERT_TRUE(refused("a raw device needs a configuration descriptor"));
    fixture_free(&fixture);
}

/* A descriptor that fills all that is allowed, with class descriptors that mean nothing here. */
static void test_largest_configuration(void)
{
    struct client client;
    fixture_init(&fixture);
    describe();
    for (size_t at = 32; at < USBIP_MAX_CONFIGURATION_SIZE; at += 8) {
        bytes[at] = 8;
        bytes[at + 1] = 0x24;
    }
    set_size(USBIP_MAX_CONFIGURATION_SIZE);
    options.speed = USBIP_SPEED_HIGH;
    add_device(&fixture, &usbip_function_raw, &options);
    client_open(&fixture, &client);
    client_import(&client);
    submit_in(&client, 1, 0, 0xffff, "80 06 0002 0000 ffff");
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, bytes, USBIP_MAX_CONFIGURATION_SIZE));
    submit_in(&client, 2, 0, 0xffff, "80 06 0007 0000 ffff");
    bytes[1] = 7;
    CU_ASSERT_TRUE(got_in_bytes(&client, 2, 0, bytes, USBIP_MAX_CONFIGURATION_SIZE));
    client_close(&client);
    fixture_free(&fixture);
}

/* Endpoint 0 is nobody's, and every other address stands for one endpoint. */
static void test_endpoints(void)
{
    fixture_init(&fixture);
    describe();
    bytes[20] = 0x80;
    CU_ASSERT_TRUE(refused("bEndpointAddress 0x80"));
    bytes[20] = 0x00;
    CU_ASSERT_TRUE(refused("bEndpointAddress 0x00"));
    bytes[20] = 0x91;
    CU_ASSERT_TRUE(refused("bEndpointAddress 0x91"));
    bytes[20] = 0x02;
    CU_ASSERT_TRUE(refused("endpoint 0x02 is there twice, in interfaces 0 and 0"));
    bytes[20] = 0x82; /* the other direction is another endpoint */
    CU_ASSERT_TRUE(accepted_as(&usbip_function_raw));
    /* A second interface, or the same one in another setting. */
    static const uint8_t more[] = {9, 4, 1, 0, 1, 0xff, 0, 0, 0, 7, 5, 0x82, 2, 64, 0, 0};
    memcpy(bytes + 32, more, sizeof more);
    set_size(32 + sizeof more);
    CU_ASSERT_TRUE(refused("endpoint 0x82 is there twice, in interfaces 0 and 1"));
    bytes[34] = 0;
    bytes[35] = 1;
    CU_ASSERT_TRUE(accepted_as(&usbip_function_raw));
    fixture_free(&fixture);
}

/* What a chip needs. */
static void test_functions(void)
{
    fixture_init(&fixture);
    describe();
    CU_ASSERT_TRUE(accepted_as(&usbip_function_ftdi));
    CU_ASSERT_TRUE(accepted_as(&usbip_function_cdc_acm)); /* without notifications */
    bytes[22] = 32;
    CU_ASSERT_TRUE(refused_as(&usbip_function_ftdi, "a bulk IN endpoint of 64 bytes"));
    bytes[22] = 64;
    bytes[21] = 3; /* interrupt */
    CU_ASSERT_TRUE(refused_as(&usbip_function_ftdi, "bulk IN"));
    CU_ASSERT_TRUE(refused_as(&usbip_function_cdc_acm, "bulk IN"));
    describe();
    bytes[27] = 0x82;
    CU_ASSERT_TRUE(refused_as(&usbip_function_cdc_acm, "bulk OUT"));
    options = usual_options();
    options.function.in_endpoint = 0x03; /* which is an OUT endpoint */
    CU_ASSERT_TRUE(refused_as(&usbip_function_cdc_acm, "bulk IN"));
    CU_ASSERT_TRUE(refused_as(&usbip_function_ftdi, "bulk IN"));
    options.function.in_endpoint = 0x82; /* which is the interrupt endpoint's already */
    CU_ASSERT_TRUE(refused_as(&usbip_function_cdc_acm, "endpoint 0x82 is there twice"));

    CU_ASSERT_PTR_EQUAL(usbip_find_function("cdc_acm"), &usbip_function_cdc_acm);
    CU_ASSERT_PTR_EQUAL(usbip_find_function("ftdi"), &usbip_function_ftdi);
    CU_ASSERT_PTR_EQUAL(usbip_find_function("raw"), &usbip_function_raw);
    CU_ASSERT_PTR_NULL(usbip_find_function("cdc"));
    CU_ASSERT_PTR_NULL(usbip_find_function(""));
    CU_ASSERT_STRING_EQUAL(usbip_function_names(), "cdc_acm, ftdi, raw");
    fixture_free(&fixture);
}

/* CDC without an interrupt endpoint has nowhere to tell of its lines. */
static void test_cdc_acm_without_notifications(void)
{
    struct client client;
    fixture_init(&fixture);
    describe();
    struct recorder *recorder = add_device(&fixture, &usbip_function_cdc_acm, &options);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    usbip_device_set_modem_state(recorder->device, 1, USBIP_MODEM_DCD);
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(control_in(&client, "80 00 0000 0000 0200", 0, "0000"));
    client_close(&client);
    fixture_free(&fixture);
}

/* All options are copied. */
static void test_copies(void)
{
    char manufacturer[] = "Maker";
    struct client client;
    fixture_init(&fixture);
    describe();
    options.strings[1] = manufacturer;
    add_device(&fixture, &usbip_function_raw, &options);
    memset(manufacturer, 'x', 5);
    uint8_t expected[32];
    memcpy(expected, bytes, 32);
    memset(bytes, 0xff, sizeof bytes);
    client_open(&fixture, &client);
    client_import(&client);
    CU_ASSERT_TRUE(control_in(&client, "80 06 0103 0904 0800", 0, "0c 03 4d00 6100 6b00"));
    submit_in(&client, 1, 0, 255, "80 06 0002 0000 ff00");
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, expected, 32));
    client_close(&client);
    fixture_free(&fixture);
}

static void test_counters(void)
{
    struct client client;
    fixture_init(&fixture);
    options = usual_options();
    struct recorder *acm = add_device(&fixture, &usbip_function_cdc_acm, &options);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    const struct usbip_device_counters *counters = usbip_device_counters(acm->device);
    CU_ASSERT_EQUAL(counters->urbs, 1);
    submit_out(&client, 1, 0x01, "0102030405", NULL);
    submit_in(&client, 2, 0x81, 64, NULL);
    usbip_device_write(acm->device, 1, (const uint8_t *)"abc", 3);
    submit_in(&client, 3, 0x81, 64, NULL);
    submit_unlink(&client, 4, 3);
    submit_unlink(&client, 5, 3); /* too late to count */
    submit_in(&client, 6, 0, 4, "c0 01 0000 0000 0400");
    CU_ASSERT_EQUAL(counters->urbs, 5);
    CU_ASSERT_EQUAL(counters->bytes_out, 5);
    CU_ASSERT_EQUAL(counters->bytes_in, 3);
    CU_ASSERT_EQUAL(counters->unlinks, 1);
    CU_ASSERT_EQUAL(counters->stalls, 1);
    client_close(&client);
    fixture_free(&fixture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"device descriptor", test_device_descriptor},
        {"strings", test_strings},
        {"configuration", test_configuration},
        {"largest configuration", test_largest_configuration},
        {"endpoints", test_endpoints},
        {"functions", test_functions},
        {"cdc_acm without notifications", test_cdc_acm_without_notifications},
        {"options are copied", test_copies},
        {"counters", test_counters},
        CU_TEST_INFO_NULL,
    };
    return run_tests("device", tests);
}
