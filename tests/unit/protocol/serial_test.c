#include "protocol/serial.h"

#include "tests/support/testing.h"

static void assert_coding(const char *text, uint32_t dwDTERate, uint8_t bDataBits,
                          uint8_t bParityType, uint8_t bCharFormat)
{
    struct usbip_line_coding coding = {0};

    CU_ASSERT_EQUAL(usbip_parse_line_coding(text, &coding), 0);
    CU_ASSERT_EQUAL(coding.dwDTERate, dwDTERate);
    CU_ASSERT_EQUAL(coding.bDataBits, bDataBits);
    CU_ASSERT_EQUAL(coding.bParityType, bParityType);
    CU_ASSERT_EQUAL(coding.bCharFormat, bCharFormat);
}

static void test_parse(void)
{
    assert_coding("115200 8N1", 115200, 8, USBIP_PARITY_NONE, USBIP_STOP_1);
    assert_coding("9600 7E1.5", 9600, 7, USBIP_PARITY_EVEN, USBIP_STOP_1_5);
    assert_coding("1200 8S2", 1200, 8, USBIP_PARITY_SPACE, USBIP_STOP_2);
    assert_coding("50 5O2", 50, 5, USBIP_PARITY_ODD, USBIP_STOP_2);
    assert_coding("1 6M1", 1, 6, USBIP_PARITY_MARK, USBIP_STOP_1);
    assert_coding("4294967295 16N1.5", UINT32_MAX, 16, USBIP_PARITY_NONE, USBIP_STOP_1_5);
}

static void test_parse_rate_only(void)
{
    assert_coding("9600", 9600, 8, USBIP_PARITY_NONE, USBIP_STOP_1);
}

static void test_parse_refuses(void)
{
    static const char *const texts[] = {
        "",          " ",           "8N1",       " 9600 8N1",  "-1 8N1",
        "+9600",     "0 8N1",       "0",         "4294967296", "99999999999999999999999999",
        "9600 ",     "9600  8N1",   "9600\t8N1", "9600,8N1",   "9600 4N1",
        "9600 9N1",  "9600 1N1",    "9600 17N1", "9600 16",    "9600 8",
        "9600 8N",   "9600 8X1",    "9600 8n1",  "9600 8N3",   "9600 8N0",
        "9600 8N1.", "9600 8N1.50", "9600 8N1 ", "9600 8N11",  "9600 8N2x",
        "9600x",     "9600 8NN1",   "0x100 8N1", "9600.5 8N1", "9600 8N1,5",
    };
    const struct usbip_line_coding before = {0x11111111, 0x22, 0x33, 0x44};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct usbip_line_coding coding = before;
        int result = usbip_parse_line_coding(texts[i], &coding);

        if (result != -1)
            fprintf(stderr, "accepted: \"%s\"\n", texts[i]);
        CU_ASSERT_EQUAL(result, -1);
        CU_ASSERT_EQUAL(coding.dwDTERate, before.dwDTERate);
        CU_ASSERT_EQUAL(coding.bCharFormat, before.bCharFormat);
        CU_ASSERT_EQUAL(coding.bParityType, before.bParityType);
        CU_ASSERT_EQUAL(coding.bDataBits, before.bDataBits);
    }
}

static void test_all_formats_there_and_back(void)
{
    static const uint8_t data_bits[] = {5, 6, 7, 8, 16};

    for (size_t i = 0; i < sizeof(data_bits); i++) {
        for (unsigned parity = USBIP_PARITY_NONE; parity <= USBIP_PARITY_SPACE; parity++) {
            for (unsigned stop = USBIP_STOP_1; stop <= USBIP_STOP_2; stop++) {
                const struct usbip_line_coding coding = {38400, (uint8_t)stop, (uint8_t)parity,
                                                         data_bits[i]};
                char text[USBIP_LINE_CODING_TEXT_SIZE];

                CU_ASSERT_PTR_EQUAL(usbip_format_line_coding(&coding, text), text);
                assert_coding(text, 38400, data_bits[i], (uint8_t)parity, (uint8_t)stop);
            }
        }
    }
}

static void test_format(void)
{
    char text[USBIP_LINE_CODING_TEXT_SIZE];

    CU_ASSERT_STRING_EQUAL(
        usbip_format_line_coding(&(struct usbip_line_coding){115200, 0, 0, 8}, text), "115200 8N1");
    CU_ASSERT_STRING_EQUAL(
        usbip_format_line_coding(&(struct usbip_line_coding){9600, 1, 2, 7}, text), "9600 7E1.5");
    CU_ASSERT_STRING_EQUAL(
        usbip_format_line_coding(&(struct usbip_line_coding){UINT32_MAX, 1, 4, 16}, text),
        "4294967295 16S1.5");
}

static void test_format_of_unknown_values(void)
{
    char text[USBIP_LINE_CODING_TEXT_SIZE];

    CU_ASSERT_STRING_EQUAL(usbip_format_line_coding(&(struct usbip_line_coding){0, 3, 5, 9}, text),
                           "0 ???");
    CU_ASSERT_STRING_EQUAL(
        usbip_format_line_coding(&(struct usbip_line_coding){UINT32_MAX, 255, 255, 255}, text),
        "4294967295 ???");
    CU_ASSERT_STRING_EQUAL(
        usbip_format_line_coding(&(struct usbip_line_coding){300, 0, 200, 8}, text), "300 8?1");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"parse", test_parse},
        {"parse a rate only", test_parse_rate_only},
        {"parse refuses what is malformed", test_parse_refuses},
        {"all formats there and back", test_all_formats_there_and_back},
        {"format", test_format},
        {"format of unknown values", test_format_of_unknown_values},
        CU_TEST_INFO_NULL,
    };

    return run_tests("serial", tests);
}
