#include "protocol/ftdi.h"

#include "tests/support/hex.h"
#include "tests/support/testing.h"

enum { MIN_RATE = 184, MAX_RATE = 3000000, EIGHTHS_PER_SECOND = 24000000 };

static void test_baud_rate_vectors(void)
{
    static const struct {
        uint32_t rate;
        uint16_t wValue, wIndex;
        uint32_t actual;
    } vectors[] = {
        {184, 0x3fb0, 1, 184}, /* divisor 16304, code 4 */
        {300, 0x2710, 0, 300},         {1200, 0x09c4, 0, 1200},       {2400, 0x04e2, 0, 2400},
        {4800, 0x0271, 0, 4800},       {9600, 0x4138, 0, 9600},       {14400, 0x00d0, 1, 14397},
        {19200, 0x809c, 0, 19200},     {31250, 0x0060, 0, 31250},     {38400, 0xc04e, 0, 38400},
        {57600, 0xc034, 0, 57554},     {74880, 0xc028, 0, 74766},     {115200, 0x001a, 0, 115385},
        {128000, 0x4017, 0, 127660},   {230400, 0x000d, 0, 230769},   {250000, 0x000c, 0, 250000},
        {460800, 0x4006, 0, 461538},   {500000, 0x0006, 0, 500000},   {921600, 0x8003, 0, 923077},
        {1000000, 0x0003, 0, 1000000}, {1050000, 0xc002, 1, 1043478}, {1400000, 0xc002, 0, 1411765},
        {1500000, 0x0002, 0, 1500000}, {2000000, 0x0001, 0, 2000000}, {3000000, 0x0000, 0, 3000000},
    };

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint16_t wValue = 0xaaaa, wIndex = 0xaaaa;

        CU_ASSERT_EQUAL(usbip_ftdi_encode_baud_rate(vectors[i].rate, &wValue, &wIndex),
                        vectors[i].actual);
        CU_ASSERT_EQUAL(wValue, vectors[i].wValue);
        CU_ASSERT_EQUAL(wIndex, vectors[i].wIndex);
        CU_ASSERT_EQUAL(usbip_ftdi_decode_baud_rate(wValue, wIndex), vectors[i].actual);
    }
}

/* Of the rates that libftdi's test has for these chips, and of the clock below 1200 bit/s. */
static void test_hi_speed_baud_rate_vectors(void)
{
    static const struct {
        uint32_t rate;
        uint16_t wValue, wIndex;
        uint32_t actual;
    } vectors[] = {
        {184, 0x3fb0, 0x0100, 184},         {300, 0x2710, 0x0000, 300},
        {1199, 0xc9c6, 0x0000, 1199},       {1200, 0x2710, 0x0200, 1200},
        {9600, 0x04e2, 0x0200, 9600},       {19200, 0x0271, 0x0200, 19200},
        {38400, 0x4138, 0x0200, 38400},     {57600, 0x00d0, 0x0300, 57588},
        {115200, 0xc068, 0x0200, 115246},   {230400, 0xc034, 0x0200, 230216},
        {460800, 0x001a, 0x0200, 461538},   {921600, 0x000d, 0x0200, 923077},
        {1000000, 0x000c, 0x0200, 1000000}, {3000000, 0x0004, 0x0200, 3000000},
        {4173913, 0xc002, 0x0300, 4173913}, {6000000, 0x0002, 0x0200, 6000000},
        {8000000, 0x0001, 0x0200, 8000000}, {12000000, 0x0000, 0x0200, 12000000},
    };
    uint16_t wValue = 0xaaaa, wIndex = 0xaaaa;

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        CU_ASSERT_EQUAL(usbip_ftdi_encode_hi_speed_baud_rate(vectors[i].rate, &wValue, &wIndex),
                        vectors[i].actual);
        CU_ASSERT_EQUAL(wValue, vectors[i].wValue);
        CU_ASSERT_EQUAL(wIndex, vectors[i].wIndex);
        /* The low byte is the port's. */
        CU_ASSERT_EQUAL(usbip_ftdi_decode_hi_speed_baud_rate(wValue, wIndex | 0x00ff),
                        vectors[i].actual);
    }
    wValue = wIndex = 0xaaaa;
    CU_ASSERT_EQUAL(usbip_ftdi_encode_hi_speed_baud_rate(0, &wValue, &wIndex), 0);
    CU_ASSERT_EQUAL(usbip_ftdi_encode_hi_speed_baud_rate(183, &wValue, &wIndex), 0);
    CU_ASSERT_EQUAL(usbip_ftdi_encode_hi_speed_baud_rate(7000000, &wValue, &wIndex), 0);
    CU_ASSERT_EQUAL(usbip_ftdi_encode_hi_speed_baud_rate(12000001, &wValue, &wIndex), 0);
    CU_ASSERT_EQUAL(usbip_ftdi_encode_hi_speed_baud_rate(UINT32_MAX, &wValue, &wIndex), 0);
    CU_ASSERT_EQUAL(wValue, 0xaaaa);
    CU_ASSERT_EQUAL(wIndex, 0xaaaa);
    CU_ASSERT_EQUAL(usbip_ftdi_decode_hi_speed_baud_rate(0x4001, 0x0200), 0);
    CU_ASSERT_EQUAL(usbip_ftdi_decode_hi_speed_baud_rate(0x0000, 0x0100), 0);
}

static void test_chips(void)
{
    const struct usbip_ftdi_chip *chip = usbip_ftdi_find_chip(0x0700);

    CU_ASSERT_FATAL(chip != NULL);
    CU_ASSERT_STRING_EQUAL(chip->name, "FT2232H");
    CU_ASSERT_EQUAL(chip->idProduct, 0x6010);
    CU_ASSERT_EQUAL(chip->ports, 2);
    CU_ASSERT_TRUE(chip->is_hi_speed);
    CU_ASSERT_PTR_EQUAL(usbip_ftdi_find_chip_named("ft2232h"), chip);
    CU_ASSERT_PTR_EQUAL(usbip_ftdi_find_chip_named("FT2232H"), chip);
    CU_ASSERT_PTR_NULL(usbip_ftdi_find_chip_named("ft2232"));
    CU_ASSERT_PTR_NULL(usbip_ftdi_find_chip_named("ft2232hl"));
    CU_ASSERT_PTR_NULL(usbip_ftdi_find_chip_named(""));
    CU_ASSERT_PTR_NULL(usbip_ftdi_find_chip(0x0500));
}

/* Between two neighbouring divisors near 2 to 3: up to the middle of the divisors it is the
 * larger one, one bit per second more is the smaller. */
static void test_where_divisors_change(void)
{
    for (uint32_t k = 1; k <= 15; k += 2) {
        uint32_t middle = 3000000u * 16 / (32 + k); /* divisor 2 + k / 16 */
        uint32_t below = 24000000u / (16 + (k + 1) / 2), above = 24000000u / (16 + (k - 1) / 2);
        uint16_t wValue, wIndex;
        uint32_t actual = usbip_ftdi_encode_baud_rate(middle, &wValue, &wIndex);

        CU_ASSERT_TRUE(actual == below || actual == below + 1);
        actual = usbip_ftdi_encode_baud_rate(middle + 1, &wValue, &wIndex);
        CU_ASSERT_TRUE(actual == above || actual == above + 1);
    }
}

static void test_rates_that_the_chip_does_not_have(void)
{
    static const uint32_t refused[] = {
        0,       1,       110,     183,     1548388, 1750000,    1939393,
        2064517, 2500000, 2909090, 3000001, 3100000, 0x80000000, UINT32_MAX,
    };
    static const struct {
        uint32_t rate, actual;
    } nearest[] = {
        /* The far ends of the 1/32 that a rate may be off. */
        {1548387, 1500000},
        {1939394, 2000000},
        {2064516, 2000000},
        {2909091, 3000000},
        /* Divisor 2 is nearest from here on. */
        {1454546, 1500000},
        {1454545, 1411765},
    };
    uint16_t wValue = 0xaaaa, wIndex = 0x5555;

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        CU_ASSERT_EQUAL(usbip_ftdi_encode_baud_rate(refused[i], &wValue, &wIndex), 0);
        CU_ASSERT_EQUAL(wValue, 0xaaaa);
        CU_ASSERT_EQUAL(wIndex, 0x5555);
    }
    for (size_t i = 0; i < sizeof(nearest) / sizeof(nearest[0]); i++)
        CU_ASSERT_EQUAL(usbip_ftdi_encode_baud_rate(nearest[i].rate, &wValue, &wIndex),
                        nearest[i].actual);
}

/*
 * The divisor, in eighths, that wValue and wIndex stand for; 0 for one that the chip does not
 * have. Written from the chip's description, without a look at the decoder under test.
 */
static uint32_t divisor_in_eighths(uint16_t wValue, uint16_t wIndex)
{
    uint32_t whole = wValue & 0x3fff;
    uint32_t code = (uint32_t)wValue >> 14 | (wIndex & 1u) << 2;

    if (code == 0 && whole == 0)
        return 8;
    if (code == 0 && whole == 1)
        return 12;
    if (whole < 2)
        return 0;
    switch (code) {
    case 0:
        return whole * 8;
    case 1:
        return whole * 8 + 4;
    case 2:
        return whole * 8 + 2;
    case 3:
        return whole * 8 + 1;
    case 4:
        return whole * 8 + 3;
    default:
        return whole * 8 + code;
    }
}

/* How far a divisor is from the ideal one of a rate, in eighths and times the rate. */
static uint64_t distance(uint32_t rate, uint32_t eighths)
{
    uint64_t product = (uint64_t)rate * eighths;

    return product > EIGHTHS_PER_SECOND ? product - EIGHTHS_PER_SECOND
                                        : EIGHTHS_PER_SECOND - product;
}

static bool is_legal(uint32_t eighths)
{
    return eighths == 8 || eighths == 12 || (eighths >= 16 && eighths < 8 * 0x4000);
}

static uint64_t least_distance_by_brute_force(uint32_t rate)
{
    uint64_t least = UINT64_MAX;

    for (uint32_t eighths = 8; eighths < 8 * 0x4000; eighths++) {
        if (is_legal(eighths) && distance(rate, eighths) < least)
            least = distance(rate, eighths);
    }
    return least;
}

/* Checks one rate; against all divisors there are when told to, otherwise against neighbours. */
static bool is_nearest(uint32_t rate, bool against_all)
{
    uint16_t wValue, wIndex;
    uint32_t actual = usbip_ftdi_encode_baud_rate(rate, &wValue, &wIndex);
    uint32_t eighths;
    uint64_t off;

    if (actual == 0)
        return rate > 1500000; /* only the gaps are above */
    if (wIndex > 1 || actual != usbip_ftdi_decode_baud_rate(wValue, wIndex))
        return false;
    eighths = divisor_in_eighths(wValue, wIndex);
    if (!is_legal(eighths))
        return false;
    /* The rate that was told is the one of this divisor, rounded. */
    if (2 * distance(actual, eighths) > eighths)
        return false;
    off = distance(rate, eighths);
    if (off * 32 > (uint64_t)rate * eighths)
        return false;
    if (against_all)
        return off == least_distance_by_brute_force(rate);
    for (uint32_t other = eighths - 8; other <= eighths + 8; other++) {
        if (is_legal(other) && distance(rate, other) < off)
            return false;
    }
    return true;
}

static void test_baud_rates_are_nearest(void)
{
    unsigned wrong = 0;

    for (uint32_t rate = MIN_RATE; rate <= MAX_RATE; rate += rate < 20000 ? 1 : 97) {
        if (!is_nearest(rate, false) && wrong++ < 10)
            fprintf(stderr, "%lu is not the nearest\n", (unsigned long)rate);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void test_sampled_baud_rates_against_all_divisors(void)
{
    unsigned wrong = 0;

    for (uint32_t rate = MIN_RATE; rate <= MAX_RATE; rate += rate / 16) {
        if (!is_nearest(rate, true) && wrong++ < 10)
            fprintf(stderr, "%lu is not the nearest\n", (unsigned long)rate);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void test_every_divisor_is_decoded(void)
{
    unsigned wrong = 0;

    for (uint32_t encoded = 0; encoded < 1u << 17; encoded++) {
        uint16_t wValue = (uint16_t)encoded, wIndex = (uint16_t)(encoded >> 16);
        uint32_t eighths = divisor_in_eighths(wValue, wIndex);
        uint32_t expected = eighths ? (EIGHTHS_PER_SECOND + eighths / 2) / eighths : 0;

        wrong += usbip_ftdi_decode_baud_rate(wValue, wIndex) != expected;
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void test_divisors_that_the_chip_does_not_have(void)
{
    CU_ASSERT_EQUAL(usbip_ftdi_decode_baud_rate(0x4000, 0), 0);
    CU_ASSERT_EQUAL(usbip_ftdi_decode_baud_rate(0xc001, 1), 0);
    CU_ASSERT_EQUAL(usbip_ftdi_decode_baud_rate(0x0000, 1), 0);
}

static void test_other_bits_of_the_index_do_not_count(void)
{
    CU_ASSERT_EQUAL(usbip_ftdi_decode_baud_rate(0x4138, 0xfffe), 9600);
    CU_ASSERT_EQUAL(usbip_ftdi_decode_baud_rate(0x00d0, 0xffff), 14397);
}

static void test_line_format_vectors(void)
{
    static const struct {
        struct usbip_line_coding coding;
        uint16_t wValue;
    } vectors[] = {
        {{9600, USBIP_STOP_1, USBIP_PARITY_NONE, 8}, 0x0008},
        {{9600, USBIP_STOP_2, USBIP_PARITY_EVEN, 7}, 0x1207},
        {{9600, USBIP_STOP_1, USBIP_PARITY_ODD, 8}, 0x0108},
        {{9600, USBIP_STOP_1_5, USBIP_PARITY_MARK, 8}, 0x0b08},
        {{9600, USBIP_STOP_1, USBIP_PARITY_SPACE, 7}, 0x0407},
    };

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct usbip_line_coding coding = {.dwDTERate = 4321};
        uint16_t wValue = 0;

        CU_ASSERT_EQUAL(usbip_ftdi_encode_line_format(&vectors[i].coding, &wValue), 0);
        CU_ASSERT_EQUAL(wValue, vectors[i].wValue);
        CU_ASSERT_EQUAL(usbip_ftdi_decode_line_format(wValue | FTDI_SET_DATA_BREAK, &coding), 0);
        CU_ASSERT_EQUAL(coding.dwDTERate, 4321);
        CU_ASSERT_EQUAL(coding.bCharFormat, vectors[i].coding.bCharFormat);
        CU_ASSERT_EQUAL(coding.bParityType, vectors[i].coding.bParityType);
        CU_ASSERT_EQUAL(coding.bDataBits, vectors[i].coding.bDataBits);
    }
}

static void test_line_format_refused(void)
{
    static const struct usbip_line_coding codings[] = {
        {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 5},
        {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 6},
        {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 9},
        {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 16},
        {9600, USBIP_STOP_1, USBIP_PARITY_NONE, 0},
        {9600, 3, USBIP_PARITY_NONE, 8},
        {9600, USBIP_STOP_1, 5, 8},
        {9600, USBIP_STOP_1, 255, 8},
    };
    static const uint16_t wValues[] = {
        0x0508, 0x0608, 0x0708, /* parity */
        0x1808, 0x2008, 0x3808, /* stop bits */
        0x0004, 0x0009, 0x0010, 0x00ff,
    };

    for (size_t i = 0; i < sizeof(codings) / sizeof(codings[0]); i++) {
        uint16_t wValue;

        CU_ASSERT_EQUAL(usbip_ftdi_encode_line_format(&codings[i], &wValue), -1);
    }
    for (size_t i = 0; i < sizeof(wValues) / sizeof(wValues[0]); i++) {
        struct usbip_line_coding coding = {1, 2, 3, 4};

        CU_ASSERT_EQUAL(usbip_ftdi_decode_line_format(wValues[i], &coding), -1);
        CU_ASSERT_TRUE(coding.bCharFormat == 2 && coding.bParityType == 3 && coding.bDataBits == 4);
    }
}

static void test_few_data_bits_are_decoded(void)
{
    struct usbip_line_coding coding = {0};

    CU_ASSERT_EQUAL(usbip_ftdi_decode_line_format(0x0000, &coding), 0);
    CU_ASSERT_EQUAL(coding.bDataBits, 5);
    CU_ASSERT_EQUAL(usbip_ftdi_decode_line_format(0x0005, &coding), 0);
    CU_ASSERT_EQUAL(coding.bDataBits, 5);
    CU_ASSERT_EQUAL(usbip_ftdi_decode_line_format(0x0006, &coding), 0);
    CU_ASSERT_EQUAL(coding.bDataBits, 6);
}

static void test_status_bits(void)
{
    static const struct {
        unsigned modem;
        const char *bytes;
    } bits[] = {
        {0, "01 00"},
        {USBIP_MODEM_CTS, "11 00"},
        {USBIP_MODEM_DSR, "21 00"},
        {USBIP_MODEM_RI, "41 00"},
        {USBIP_MODEM_DCD, "81 00"},
        {USBIP_MODEM_OVERRUN, "01 02"},
        {USBIP_MODEM_PARITY, "01 04"},
        {USBIP_MODEM_FRAMING, "01 08"},
        {USBIP_MODEM_BREAK, "01 10"},
        {0xff, "f1 1e"},
    };
    uint8_t bytes[FTDI_STATUS_SIZE];

    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        usbip_ftdi_encode_status(bytes, bits[i].modem, false, false);
        ASSERT_BYTES(bytes, bits[i].bytes);
        CU_ASSERT_EQUAL(usbip_ftdi_decode_status(bytes), bits[i].modem);
    }
    usbip_ftdi_encode_status(bytes, USBIP_MODEM_CTS | USBIP_MODEM_DSR, true, true);
    CU_ASSERT_EQUAL(memcmp(bytes, "\x32\x60", 2), 0);
    usbip_ftdi_encode_status(bytes, USBIP_MODEM_CTS | USBIP_MODEM_DSR, true, false);
    ASSERT_BYTES(bytes, "31 60");
    CU_ASSERT_EQUAL(usbip_ftdi_decode_status(bytes), USBIP_MODEM_CTS | USBIP_MODEM_DSR);
    /* High-speed chips set another bit of the low half, and it tells nothing. */
    CU_ASSERT_EQUAL(usbip_ftdi_decode_status(hex("32 60").data), USBIP_MODEM_CTS | USBIP_MODEM_DSR);
}

/* Strips a transfer, into other memory and in place. Returns what is left, to be freed. */
static uint8_t *strip(const uint8_t *in, size_t size, size_t packet_size, size_t *length,
                      unsigned *modem)
{
    uint8_t *exact = exact_copy(in, size), *data = exact_copy(in, size);
    unsigned again = *modem;

    *length = usbip_ftdi_strip_status(data, exact, size, packet_size, modem);
    CU_ASSERT_TRUE(*length <= size);
    CU_ASSERT_EQUAL(usbip_ftdi_strip_status(exact, exact, size, packet_size, &again), *length);
    CU_ASSERT_EQUAL(memcmp(exact, data, *length), 0);
    CU_ASSERT_EQUAL(again, *modem);
    free(exact);
    return data;
}

static void test_strip_one_packet(void)
{
    struct bytes in = hex("31 60 | 414243");
    unsigned modem = 0;
    size_t length;
    uint8_t *data = strip(in.data, in.size, 64, &length, &modem);

    CU_ASSERT_EQUAL(length, 3);
    CU_ASSERT_EQUAL(memcmp(data, "ABC", 3), 0);
    CU_ASSERT_EQUAL(modem, USBIP_MODEM_CTS | USBIP_MODEM_DSR);
    free(data);
}

static void test_strip_idle_packet(void)
{
    unsigned modem = USBIP_MODEM_RI | USBIP_MODEM_BREAK;
    size_t length;
    uint8_t *data = strip(hex("81 60").data, 2, 64, &length, &modem);

    CU_ASSERT_EQUAL(length, 0);
    CU_ASSERT_EQUAL(modem, USBIP_MODEM_DCD);
    free(data);
}

/* Every transfer size up to four packets: the last packet may have any size, also 2 and 1. */
static void test_strip_every_size(void)
{
    static const size_t packet_sizes[] = {2, 3, 8, 64};

    for (size_t i = 0; i < sizeof(packet_sizes) / sizeof(packet_sizes[0]); i++) {
        size_t packet_size = packet_sizes[i];

        for (size_t size = 0; size <= 4 * packet_size; size++) {
            uint8_t in[4 * 64], expected[4 * 64];
            size_t expected_length = 0, length;
            unsigned modem = USBIP_MODEM_RI;
            uint8_t *data;

            for (size_t j = 0; j < size; j++) {
                in[j] = (uint8_t)(j * 7 + 1);
                if (j % packet_size == 0)
                    in[j] = 0x11;
                else if (j % packet_size == 1)
                    in[j] = 0x60;
                else
                    expected[expected_length++] = in[j];
            }
            data = strip(in, size, packet_size, &length, &modem);
            CU_ASSERT_EQUAL(length, expected_length);
            CU_ASSERT_EQUAL(memcmp(data, expected, expected_length), 0);
            CU_ASSERT_EQUAL(modem, size >= 2 ? USBIP_MODEM_CTS : USBIP_MODEM_RI);
            free(data);
        }
    }
}

static void test_strip_high_speed_packets(void)
{
    uint8_t in[512 + 5];
    unsigned modem = 0;
    size_t length;
    uint8_t *data;

    memset(in, 'x', sizeof(in));
    memcpy(in, hex("32 60").data, 2);
    memcpy(in + 512, hex("02 60 7a7978").data, 5);
    data = strip(in, sizeof(in), 512, &length, &modem);
    CU_ASSERT_EQUAL(length, 513);
    CU_ASSERT_EQUAL(memcmp(data + 509, "xzyx", 4), 0);
    CU_ASSERT_EQUAL(modem, 0);
    free(data);
}

static void test_strip_merges_events_of_packets_with_data(void)
{
    /* Overrun with data; parity with data; break without data. Lines are those of the last. */
    struct bytes in = hex("1102 41 | 2104 42 | 8170");
    unsigned modem = USBIP_MODEM_FRAMING;
    size_t length;
    uint8_t *data = strip(in.data, in.size, 3, &length, &modem);

    CU_ASSERT_EQUAL(length, 2);
    CU_ASSERT_EQUAL(memcmp(data, "AB", 2), 0);
    CU_ASSERT_EQUAL(modem, USBIP_MODEM_DCD | USBIP_MODEM_OVERRUN | USBIP_MODEM_PARITY);
    free(data);
}

static void test_strip_with_impossible_packet_sizes(void)
{
    struct bytes in = hex("31 60 414243");

    for (size_t packet_size = 0; packet_size < 2; packet_size++) {
        unsigned modem = USBIP_MODEM_RI;
        size_t length;

        free(strip(in.data, in.size, packet_size, &length, &modem));
        CU_ASSERT_EQUAL(length, 0);
        CU_ASSERT_EQUAL(modem, USBIP_MODEM_RI);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"baud rates: vectors", test_baud_rate_vectors},
        {"baud rates: vectors of Hi-Speed chips", test_hi_speed_baud_rate_vectors},
        {"chips", test_chips},
        {"baud rates: where divisors change", test_where_divisors_change},
        {"baud rates that the chip does not have", test_rates_that_the_chip_does_not_have},
        {"baud rates are nearest", test_baud_rates_are_nearest},
        {"baud rates against all divisors", test_sampled_baud_rates_against_all_divisors},
        {"every divisor is decoded", test_every_divisor_is_decoded},
        {"divisors that the chip does not have", test_divisors_that_the_chip_does_not_have},
        {"other bits of wIndex do not count", test_other_bits_of_the_index_do_not_count},
        {"line format: vectors", test_line_format_vectors},
        {"line format: refused", test_line_format_refused},
        {"line format: few data bits", test_few_data_bits_are_decoded},
        {"status: every bit", test_status_bits},
        {"strip one packet", test_strip_one_packet},
        {"strip an idle packet", test_strip_idle_packet},
        {"strip: every size", test_strip_every_size},
        {"strip high-speed packets", test_strip_high_speed_packets},
        {"strip merges events of packets with data", test_strip_merges_events_of_packets_with_data},
        {"strip with impossible packet sizes", test_strip_with_impossible_packet_sizes},
        CU_TEST_INFO_NULL,
    };

    return run_tests("ftdi", tests);
}
