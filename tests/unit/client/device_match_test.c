/* Which device is meant by "1-1", "0403:6001" and "0403:6001:A50285BI". */
#include <string.h>

#include "client/connection.h"
#include "tests/support/testing.h"

static struct usbip_device_match match;

static bool parses(const char *text)
{
    memset(&match, 0xee, sizeof match);
    return usbip_device_match_parse(text, &match) == 0;
}

static bool is_refused(const char *text)
{
    return usbip_device_match_parse(text, &match) == USBIP_ERROR_ARGUMENT;
}

static void test_busid(void)
{
    const char *const busids[] = {"1-1",          "3-1.4", "1-1.2.3.4.5",
                                  "usbip-vudc.0", "99-99", "1234567890123456789012345678901"};
    for (unsigned i = 0; i < sizeof busids / sizeof busids[0]; i++) {
        CU_ASSERT(parses(busids[i]));
        CU_ASSERT_STRING_EQUAL(match.busid, busids[i]);
        CU_ASSERT(!match.has_id);
        CU_ASSERT_STRING_EQUAL(match.serial_number, "");
    }
}

static void test_identity(void)
{
    CU_ASSERT(parses("0403:6001"));
    CU_ASSERT(match.has_id);
    CU_ASSERT_EQUAL(match.idVendor, 0x0403);
    CU_ASSERT_EQUAL(match.idProduct, 0x6001);
    CU_ASSERT_STRING_EQUAL(match.busid, "");
    CU_ASSERT_STRING_EQUAL(match.serial_number, "");

    CU_ASSERT(parses("FFff:AbCd"));
    CU_ASSERT_EQUAL(match.idVendor, 0xffff);
    CU_ASSERT_EQUAL(match.idProduct, 0xabcd);
}

static void test_serial_number(void)
{
    CU_ASSERT(parses("0403:6001:A50285BI"));
    CU_ASSERT(match.has_id);
    CU_ASSERT_STRING_EQUAL(match.serial_number, "A50285BI");
    CU_ASSERT(parses("0403:6001:00:1A:2B"));
    CU_ASSERT_STRING_EQUAL(match.serial_number, "00:1A:2B");

    char text[10 + USBIP_SERIAL_NUMBER_SIZE + 1] = "0403:6001:";
    memset(text + 10, 's', USBIP_SERIAL_NUMBER_SIZE - 1);
    CU_ASSERT(parses(text));
    CU_ASSERT_EQUAL(strlen(match.serial_number), USBIP_SERIAL_NUMBER_SIZE - 1);
    text[10 + USBIP_SERIAL_NUMBER_SIZE - 1] = 's';
    CU_ASSERT(is_refused(text));
}

static void test_malformed(void)
{
    const char *const texts[] = {
        "",           "403:6001",   "0403:601",
        "00403:6001", "0403:06001", "0x0403:1",
        "0403:",      ":6001",      ":",
        "0403:600g",  "0403:6001:", "04 3:6001",
        "+403:6001",  "1-1:1.0",    "1 1",
        "1-1/",       "../1-1",     "1-1\n",
        "0403:-001",  "b\xc3\xbcs", "12345678901234567890123456789012",
    };
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        CU_ASSERT(is_refused(texts[i]));
        CU_ASSERT(match.busid[0] == '\0' && !match.has_id && match.serial_number[0] == '\0');
    }
}

static void test_record(void)
{
    const struct usbip_device_record record = {
        .busid = "1-1", .idVendor = 0x0403, .idProduct = 0x6001};
    const struct {
        const char *text;
        bool fits;
    } cases[] =
        {
            {"1-1", true},           {"1-11", false},      {"1-", false},
            {"0403:6001", true},     {"0403:6010", false}, {"0404:6001", false},
            {"0403:6001:any", true}, /* the list does not tell */
        };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CU_ASSERT(parses(cases[i].text));
        CU_ASSERT_EQUAL(usbip_device_match_record(&match, &record), cases[i].fits);
    }
    match = (struct usbip_device_match){.has_id = false};
    CU_ASSERT(usbip_device_match_record(&match, &record));
    match = (struct usbip_device_match){
        .busid = "1-1", .has_id = true, .idVendor = 0x0403, .idProduct = 0x6002};
    CU_ASSERT(!usbip_device_match_record(&match, &record));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"busid", test_busid},
        {"identity", test_identity},
        {"serial number", test_serial_number},
        {"malformed", test_malformed},
        {"record", test_record},
        CU_TEST_INFO_NULL,
    };
    return run_tests("device match", tests);
}
