#include "protocol/bytes.h"

#include "tests/support/hex.h"
#include "tests/support/testing.h"

static void test_loads_in_wire_order(void)
{
    static const uint8_t bytes[] = {0xff, 0xfe, 0x80, 0x01, 0x02};

    CU_ASSERT_EQUAL(usbip_load_be16(bytes), 0xfffe);
    CU_ASSERT_EQUAL(usbip_load_le16(bytes), 0xfeff);
    CU_ASSERT_EQUAL(usbip_load_be32(bytes), 0xfffe8001);
    CU_ASSERT_EQUAL(usbip_load_le32(bytes), 0x0180feff);
    CU_ASSERT_EQUAL(usbip_load_be32(bytes + 1), 0xfe800102); /* at an odd address */
    CU_ASSERT_EQUAL(usbip_load_le32(bytes + 1), 0x020180fe);
}

static void test_stores_in_wire_order(void)
{
    uint8_t bytes[5] = {0};

    usbip_store_be16(bytes + 1, 0x8102);
    ASSERT_BYTES(bytes, "00 8102 0000");
    usbip_store_le16(bytes + 1, 0x8102);
    ASSERT_BYTES(bytes, "00 0281 0000");
    usbip_store_be32(bytes + 1, 0x81020304);
    ASSERT_BYTES(bytes, "00 81020304");
    usbip_store_le32(bytes + 1, 0x81020304);
    ASSERT_BYTES(bytes, "00 04030281");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"loads in wire order", test_loads_in_wire_order},
        {"stores in wire order", test_stores_in_wire_order},
        CU_TEST_INFO_NULL,
    };

    return run_tests("bytes", tests);
}
