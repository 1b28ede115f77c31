#include "protocol/usbip.h"

#include "tests/support/testing.h"

static void test_op_statuses(void)
{
    static const char *const names[] = {"ST_OK",      "ST_NA",    "ST_DEV_BUSY",
                                        "ST_DEV_ERR", "ST_NODEV", "ST_ERROR"};

    for (uint32_t status = 0; status < 6; status++) {
        CU_ASSERT_STRING_EQUAL(usbip_op_status_name(status), names[status]);
        CU_ASSERT_STRING_NOT_EQUAL(usbip_op_status_text(status), "unknown");
    }
    CU_ASSERT_STRING_EQUAL(usbip_op_status_text(USBIP_ST_DEV_BUSY),
                           "device is attached to another client");
    CU_ASSERT_STRING_EQUAL(usbip_op_status_name(6), "unknown");
    CU_ASSERT_STRING_EQUAL(usbip_op_status_text(6), "unknown");
    CU_ASSERT_STRING_EQUAL(usbip_op_status_name(UINT32_MAX), "unknown");
}

static void test_commands(void)
{
    CU_ASSERT_STRING_EQUAL(usbip_command_name(0), "unknown");
    CU_ASSERT_STRING_EQUAL(usbip_command_name(1), "CMD_SUBMIT");
    CU_ASSERT_STRING_EQUAL(usbip_command_name(2), "CMD_UNLINK");
    CU_ASSERT_STRING_EQUAL(usbip_command_name(3), "RET_SUBMIT");
    CU_ASSERT_STRING_EQUAL(usbip_command_name(4), "RET_UNLINK");
    CU_ASSERT_STRING_EQUAL(usbip_command_name(5), "unknown");
    CU_ASSERT_STRING_EQUAL(usbip_command_name(UINT32_MAX), "unknown");
}

static void test_speeds(void)
{
    static const char *const names[] = {"unknown",  "low",   "full",   "high",
                                        "wireless", "super", "super+", "unknown"};

    for (uint32_t speed = 0; speed < 8; speed++)
        CU_ASSERT_STRING_EQUAL(usbip_speed_name(speed), names[speed]);
    CU_ASSERT_STRING_EQUAL(usbip_speed_name(UINT32_MAX), "unknown");
}

/* The numbers are Linux's, whatever the host's errno.h says: written out here a second time. */
static void test_urb_statuses(void)
{
    static const struct {
        int32_t status;
        const char *name;
    } expected[] = {
        {0, "OK"},
        {-2, "ENOENT"},
        {-5, "EIO"},
        {-12, "ENOMEM"},
        {-18, "EXDEV"},
        {-19, "ENODEV"},
        {-22, "EINVAL"},
        {-32, "EPIPE"},
        {-62, "ETIME"},
        {-71, "EPROTO"},
        {-75, "EOVERFLOW"},
        {-84, "EILSEQ"},
        {-104, "ECONNRESET"},
        {-108, "ESHUTDOWN"},
        {-110, "ETIMEDOUT"},
        {-115, "EINPROGRESS"},
        {-121, "EREMOTEIO"},
    };
    size_t known = 0;

    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        CU_ASSERT_STRING_EQUAL(usbip_status_name(expected[i].status), expected[i].name);
        CU_ASSERT_STRING_EQUAL(usbip_status_name(-expected[i].status), expected[i].name);
        CU_ASSERT_STRING_NOT_EQUAL(usbip_status_text(expected[i].status), "unknown");
    }
    for (int32_t status = -200; status <= 0; status++)
        known += strcmp(usbip_status_name(status), "unknown") != 0;
    CU_ASSERT_EQUAL(known, sizeof(expected) / sizeof(expected[0]));
    CU_ASSERT_STRING_EQUAL(usbip_status_text(-32), "endpoint stalled");
}

static void test_odd_urb_statuses(void)
{
    static const int32_t statuses[] = {-1, 1, -3, -133, INT32_MAX, -INT32_MAX, INT32_MIN};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        CU_ASSERT_STRING_EQUAL(usbip_status_name(statuses[i]), "unknown");
        CU_ASSERT_STRING_EQUAL(usbip_status_text(statuses[i]), "unknown");
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"statuses of operations", test_op_statuses},
        {"commands", test_commands},
        {"speeds", test_speeds},
        {"statuses of URBs", test_urb_statuses},
        {"odd statuses of URBs", test_odd_urb_statuses},
        CU_TEST_INFO_NULL,
    };

    return run_tests("status", tests);
}
