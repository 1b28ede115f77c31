#include "protocol/address.h"

#include <string.h>

#include "tests/support/testing.h"

static void assert_split(const char *address, const char *host, const char *port)
{
    char got[USBIP_HOST_SIZE];
    const char *got_port = NULL;
    REQUIRE(usbip_split_address(address, got, &got_port));
    CU_ASSERT_STRING_EQUAL(got, host);
    CU_ASSERT_STRING_EQUAL(got_port, port);
}

static void test_good(void)
{
    assert_split("127.0.0.1:3240", "127.0.0.1", "3240");
    assert_split("localhost:0", "localhost", "0");
    assert_split("[::1]:65535", "::1", "65535");
    assert_split("[127.0.0.1]:1", "127.0.0.1", "1");
}

static void test_bad(void)
{
    static const char *const addresses[] = {
        "",       ":",     "host",       "host:",       ":1",      "[]:1",    "[:1",
        "[::1:1", "::1:1", "host:65536", "host:000001", "host:-1", "host:1x", "host: 1",
    };
    char host[USBIP_HOST_SIZE], long_name[USBIP_HOST_SIZE + 3];
    const char *port;
    for (unsigned i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
        CU_ASSERT_FALSE(usbip_split_address(addresses[i], host, &port));
    memset(long_name, 'a', USBIP_HOST_SIZE);
    memcpy(long_name + USBIP_HOST_SIZE, ":1", 3);
    CU_ASSERT_FALSE(usbip_split_address(long_name, host, &port));
    CU_ASSERT_TRUE(usbip_split_address(long_name + 1, host, &port));
}

static void test_loopback(void)
{
    static const uint8_t ip4[][4] = {
        {127, 0, 0, 1}, {127, 255, 1, 0}, {126, 0, 0, 1}, {1, 0, 0, 127}};
    for (unsigned i = 0; i < 4; i++) {
        uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};
        memcpy(mapped + 12, ip4[i], 4);
        CU_ASSERT_EQUAL(usbip_is_loopback_ip4(ip4[i]), i < 2);
        CU_ASSERT_EQUAL(usbip_is_loopback_ip6(mapped), i < 2);
        mapped[9] = 1;
        CU_ASSERT_FALSE(usbip_is_loopback_ip6(mapped));
    }
    CU_ASSERT_TRUE(usbip_is_loopback_ip6((const uint8_t[16]){[15] = 1}));
    CU_ASSERT_FALSE(usbip_is_loopback_ip6((const uint8_t[16]){0}));
    CU_ASSERT_FALSE(usbip_is_loopback_ip6((const uint8_t[16]){[0] = 1, [15] = 1}));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"addresses", test_good},
        {"what is none", test_bad},
        {"the loopback", test_loopback},
        CU_TEST_INFO_NULL,
    };
    return run_tests("address", tests);
}
