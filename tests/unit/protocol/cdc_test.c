#include "protocol/cdc.h"

#include "tests/support/hex.h"
#include "tests/support/testing.h"

static void test_functional_descriptors_there(void)
{
    uint8_t header[CDC_HEADER_SIZE], call_management[CDC_CALL_MANAGEMENT_SIZE];
    uint8_t acm[CDC_ACM_SIZE], union_descriptor[CDC_UNION_SIZE];

    usbip_cdc_encode_header(header, 0x0110);
    ASSERT_BYTES(header, "05 24 00 10 01");
    usbip_cdc_encode_acm(acm, CDC_CAP_LINE | CDC_CAP_BREAK);
    ASSERT_BYTES(acm, "04 24 02 06");
    usbip_cdc_encode_call_management(call_management, 2, 1);
    ASSERT_BYTES(call_management, "05 24 01 02 01");
    usbip_cdc_encode_union(union_descriptor, 2, 3);
    ASSERT_BYTES(union_descriptor, "05 24 06 02 03");
}

static void test_functional_descriptors_back(void)
{
    struct bytes extra = hex("0524001001 | 04240206 | 0524010203 | 0524060405");
    struct usbip_cdc_functional_descriptors found;

    CU_ASSERT_EQUAL(usbip_cdc_parse_functional_descriptors(extra.data, extra.size, &found), 0);
    CU_ASSERT_TRUE(found.has_header && found.has_acm);
    CU_ASSERT_TRUE(found.has_call_management && found.has_union);
    CU_ASSERT_EQUAL(found.bcdCDC, 0x0110);
    CU_ASSERT_EQUAL(found.acm_bmCapabilities, 6);
    CU_ASSERT_EQUAL(found.call_management_bmCapabilities, 2);
    CU_ASSERT_EQUAL(found.bDataInterface, 3);
    CU_ASSERT_EQUAL(found.bControlInterface, 4);
    CU_ASSERT_EQUAL(found.bSubordinateInterface0, 5);
}

static void test_other_descriptors_are_skipped(void)
{
    /* HID, an endpoint, an unknown functional descriptor, a union with two subordinates. */
    struct bytes extra = hex("092111010001224000 | 07058103400001 | 04240f00 | 062406000102");
    struct usbip_cdc_functional_descriptors found;

    CU_ASSERT_EQUAL(usbip_cdc_parse_functional_descriptors(extra.data, extra.size, &found), 0);
    CU_ASSERT_TRUE(found.has_union);
    CU_ASSERT_EQUAL(found.bControlInterface, 0);
    CU_ASSERT_EQUAL(found.bSubordinateInterface0, 1);
    CU_ASSERT_FALSE(found.has_header || found.has_acm || found.has_call_management);
}

static void test_no_functional_descriptors(void)
{
    struct usbip_cdc_functional_descriptors found;

    memset(&found, 0xff, sizeof(found));
    CU_ASSERT_EQUAL(usbip_cdc_parse_functional_descriptors((const uint8_t *)"", 0, &found), 0);
    CU_ASSERT_FALSE(found.has_header || found.has_acm);
    CU_ASSERT_FALSE(found.has_call_management || found.has_union);
}

static void test_wrong_lengths_keep_what_came_before(void)
{
    static const char *const ends[] = {
        "00",         /* bLength 0 */
        "01",         /* bLength 1 */
        "0524",       /* over the end */
        "0224",       /* no subtype */
        "04240010",   /* header too short */
        "04240102",   /* call management too short */
        "032402",     /* abstract control management too short */
        "04240600",   /* union without a subordinate */
        "ff24060001", /* far over the end */
    };

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct bytes start = hex("04240206"), end = hex(ends[i]);
        struct usbip_cdc_functional_descriptors found;
        uint8_t *extra;

        memcpy(start.data + start.size, end.data, end.size);
        extra = exact_copy(start.data, start.size + end.size);
        CU_ASSERT_EQUAL(
            usbip_cdc_parse_functional_descriptors(extra, start.size + end.size, &found), -1);
        CU_ASSERT_TRUE(found.has_acm);
        CU_ASSERT_EQUAL(found.acm_bmCapabilities, 6);
        CU_ASSERT_FALSE(found.has_header || found.has_call_management || found.has_union);
        free(extra);
    }
}

static void test_line_coding(void)
{
    static const struct {
        const char *bytes;
        struct usbip_line_coding coding;
    } vectors[] = {
        {"80250000 00 00 08", {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 8}},
        {"00E10000 00 00 08", {57600, USBIP_STOP_1, USBIP_PARITY_NONE, 8}},
        {"00C20100 00 00 08", {115200, USBIP_STOP_1, USBIP_PARITY_NONE, 8}},
        {"00100E00 00 00 08", {921600, USBIP_STOP_1, USBIP_PARITY_NONE, 8}},
        {"B0040000 02 01 07", {1200, USBIP_STOP_2, USBIP_PARITY_ODD, 7}},
        {"04030201 05 06 07", {0x01020304, 5, 6, 7}},
    };

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint8_t bytes[CDC_LINE_CODING_SIZE];
        struct usbip_line_coding coding;

        usbip_cdc_encode_line_coding(bytes, &vectors[i].coding);
        ASSERT_BYTES(bytes, vectors[i].bytes);
        usbip_cdc_decode_line_coding(hex(vectors[i].bytes).data, &coding);
        CU_ASSERT_EQUAL(coding.dwDTERate, vectors[i].coding.dwDTERate);
        CU_ASSERT_EQUAL(coding.bCharFormat, vectors[i].coding.bCharFormat);
        CU_ASSERT_EQUAL(coding.bParityType, vectors[i].coding.bParityType);
        CU_ASSERT_EQUAL(coding.bDataBits, vectors[i].coding.bDataBits);
    }
}

static void test_serial_state_bits(void)
{
    static const struct {
        unsigned modem;
        const char *bytes;
    } bits[] = {
        {0, "A1 20 0000 0200 0200 0000"},
        {USBIP_MODEM_DCD, "A1 20 0000 0200 0200 0100"},
        {USBIP_MODEM_DSR, "A1 20 0000 0200 0200 0200"},
        {USBIP_MODEM_BREAK, "A1 20 0000 0200 0200 0400"},
        {USBIP_MODEM_RI, "A1 20 0000 0200 0200 0800"},
        {USBIP_MODEM_FRAMING, "A1 20 0000 0200 0200 1000"},
        {USBIP_MODEM_PARITY, "A1 20 0000 0200 0200 2000"},
        {USBIP_MODEM_OVERRUN, "A1 20 0000 0200 0200 4000"},
    };
    uint8_t bytes[CDC_SERIAL_STATE_SIZE];

    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        usbip_cdc_encode_serial_state(bytes, 2, bits[i].modem);
        ASSERT_BYTES(bytes, bits[i].bytes);
        CU_ASSERT_EQUAL(usbip_cdc_decode_serial_state(bytes, sizeof(bytes)), (int)bits[i].modem);
    }
}

static void test_serial_state_has_no_cts(void)
{
    uint8_t bytes[CDC_SERIAL_STATE_SIZE];

    usbip_cdc_encode_serial_state(bytes, 0, USBIP_MODEM_CTS | USBIP_MODEM_DCD);
    ASSERT_BYTES(bytes, "A1 20 0000 0000 0200 0100");
    CU_ASSERT_EQUAL(
        usbip_cdc_decode_serial_state(hex("A1 20 0000 0000 0200 FFFF").data, sizeof(bytes)), 0x7f);
}

static void test_what_is_no_serial_state(void)
{
    static const char *const notifications[] = {
        "21 20 0000 0000 0200 0300", /* another direction */
        "A1 00 0000 0000 0000 0000", /* NETWORK_CONNECTION */
        "A1 01 0000 0000 0000 0000", /* RESPONSE_AVAILABLE */
        "A1 20 0000 0000 0000 0300", /* no data promised */
        "A1 20 0000 0000 0300 0300", /* more data promised */
        "A1 20 0000 0000 0200",      /* the first packet of 8 bytes */
        "A1 20 0000 0000 0200 03",   /* a byte too few */
        "",
    };

    for (size_t i = 0; i < sizeof(notifications) / sizeof(notifications[0]); i++) {
        struct bytes wire = hex(notifications[i]);
        uint8_t *exact = exact_copy(wire.data, wire.size);

        CU_ASSERT_EQUAL(usbip_cdc_decode_serial_state(exact, wire.size), -1);
        free(exact);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"functional descriptors, encoded", test_functional_descriptors_there},
        {"functional descriptors, decoded", test_functional_descriptors_back},
        {"other descriptors are skipped", test_other_descriptors_are_skipped},
        {"no functional descriptors", test_no_functional_descriptors},
        {"wrong lengths keep what came before", test_wrong_lengths_keep_what_came_before},
        {"line coding", test_line_coding},
        {"SERIAL_STATE: every bit", test_serial_state_bits},
        {"SERIAL_STATE has no CTS", test_serial_state_has_no_cts},
        {"what is no SERIAL_STATE", test_what_is_no_serial_state},
        CU_TEST_INFO_NULL,
    };

    return run_tests("cdc", tests);
}
