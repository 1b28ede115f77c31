#include <string.h>

#include "tests/unit/emulator/capture/capture_fixture.h"

static const uint8_t set_line_coding[8] = {0x21, 0x20, 0, 0, 0, 0, 7, 0};
static const uint8_t line_coding[7] = {0x00, 0xc2, 0x01, 0, 0, 0, 8};

static void put_control(struct capture_file *file, uint64_t irp, uint8_t stage, bool completion,
                        bool in, const void *data, uint32_t size)
{
    put_usbpcap(file, &(struct usbpcap){.irp = irp,
                                        .completion = completion,
                                        .transfer = 2,
                                        .endpoint = in ? 0x80 : 0,
                                        .stage = stage,
                                        .device = 4,
                                        .data = data,
                                        .size = size});
}

static void check_control(const struct usbip_capture *capture)
{
    REQUIRE(capture->transfer_count == 3);
    const struct usbip_capture_transfer *in = &capture->transfers[0], *out = &capture->transfers[1];
    CU_ASSERT(in->flags & USBIP_TRANSFER_HAS_SETUP);
    CU_ASSERT(usbip_transfer_is_in(in));
    CU_ASSERT_EQUAL(in->requested_length, 18);
    REQUIRE(in->size == 18);
    CU_ASSERT_EQUAL(memcmp(in->data, acm_device, 18), 0);
    CU_ASSERT_EQUAL(in->actual_length, 18);
    CU_ASSERT_FALSE(usbip_transfer_is_in(out));
    REQUIRE(out->size == 7);
    CU_ASSERT_EQUAL(memcmp(out->data, line_coding, 7), 0);
    CU_ASSERT_EQUAL(out->actual_length, 7);
    CU_ASSERT_EQUAL(out->requested_length, 7);
    CU_ASSERT_EQUAL(capture->transfers[2].size, 0);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(capture->transfers[i].complete_record > 0 &&
                  capture->transfers[i].submit_record > 0);
    CU_ASSERT(capture->devices[0].has_ids);
    CU_ASSERT_EQUAL(capture->devices[0].without_submit, 0);
    CU_ASSERT_EQUAL(capture->devices[0].truncated_record, 0);
}

static void test_two_stages(void)
{
    uint8_t setup_and_data[15];
    memcpy(setup_and_data, set_line_coding, 8);
    memcpy(setup_and_data + 8, line_coding, 7);
    struct capture_file file = {0};
    pcap_begin(&file, "usbpcap_two_stages.pcap", LINK_USBPCAP);
    put_control(&file, 1, USBPCAP_SETUP, false, true, get_device_descriptor, 8);
    put_control(&file, 1, USBPCAP_COMPLETE, true, true, acm_device, 18);
    put_control(&file, 1, USBPCAP_SETUP, false, false, setup_and_data, 15);
    put_control(&file, 1, USBPCAP_COMPLETE, true, false, NULL, 0);
    put_control(&file, 1, USBPCAP_SETUP, false, false, set_configuration, 8);
    put_control(&file, 1, USBPCAP_COMPLETE, true, false, NULL, 0);
    struct usbip_capture *capture = load(&file);
    check_control(capture);
    CU_ASSERT_EQUAL(capture->transfers[1].complete_record, 4);
    usbip_capture_free(capture);
}

static void test_three_stages(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "usbpcap_three_stages.pcap", LINK_USBPCAP);
    put_control(&file, 1, USBPCAP_SETUP, false, true, get_device_descriptor, 8);
    put_control(&file, 1, USBPCAP_DATA, true, true, acm_device, 18);
    put_control(&file, 1, USBPCAP_STATUS, true, true, NULL, 0);
    put_control(&file, 2, USBPCAP_SETUP, false, false, set_line_coding, 8);
    put_control(&file, 2, USBPCAP_DATA, true, false, line_coding, 7);
    put_control(&file, 2, USBPCAP_STATUS, true, false, NULL, 0);
    put_control(&file, 2, USBPCAP_SETUP, false, false, set_configuration, 8);
    put_control(&file, 2, USBPCAP_STATUS, true, false, NULL, 0);
    struct usbip_capture *capture = load(&file);
    check_control(capture);
    CU_ASSERT_EQUAL(capture->transfers[1].complete_record, 6);
    usbip_capture_free(capture);
}

static void test_data(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "usbpcap_data.pcap", LINK_USBPCAP);
    const struct usbpcap records[] = {
        {.irp = 9, .transfer = 3, .endpoint = 0x81, .device = 4},
        {.irp = 8, .transfer = 3, .endpoint = 0x02, .device = 4, .data = "ping", .size = 4},
        {.irp = 8, .completion = true, .transfer = 3, .endpoint = 0x02, .device = 4},
        {.irp = 9,
         .completion = true,
         .transfer = 3,
         .endpoint = 0x81,
         .device = 4,
         .data = "pong!",
         .size = 5},
        {.irp = 3, .transfer = 0xff, .device = 4},
        {.irp = 4, .transfer = 0xfe, .device = 4},
    };
    for (unsigned i = 0; i < sizeof records / sizeof records[0]; i++)
        put_usbpcap(&file, &records[i]);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 2);
    CU_ASSERT_EQUAL(capture->skipped_records, 2);
    const struct usbip_capture_transfer *in = &capture->transfers[0], *out = &capture->transfers[1];
    REQUIRE(in->size == 5);
    CU_ASSERT_EQUAL(memcmp(in->data, "pong!", 5), 0);
    CU_ASSERT_EQUAL(in->type, USB_ENDPOINT_XFER_BULK);
    /* How much was asked for is not recorded. */
    CU_ASSERT_FALSE(in->flags & USBIP_TRANSFER_REQUESTED_KNOWN);
    CU_ASSERT_EQUAL(in->requested_length, 5);
    REQUIRE(out->size == 4);
    CU_ASSERT_EQUAL(out->actual_length, 4);
    CU_ASSERT(out->flags & USBIP_TRANSFER_REQUESTED_KNOWN);
    usbip_capture_free(capture);
}

static void test_statuses(void)
{
    static const struct {
        uint32_t usbd;
        int32_t status;
        bool unlinked;
    } statuses[] = {
        {0, 0, false},
        {0xc0000002, -USBIP_EPROTO, false},
        {0xc0000004, -USBIP_EPIPE, false},
        {0xc0000008, -USBIP_EOVERFLOW, false},
        {0xc0000009, -USBIP_EREMOTEIO, false},
        {0xc0000011, -USBIP_EPROTO, false},
        {0xc0000012, -USBIP_EOVERFLOW, false},
        {0x80000300, -USBIP_EIO, false}, /* USBD_STATUS_INVALID_PARAMETER */
        {0xc0007000, -USBIP_ESHUTDOWN, true},
        {0xc0010000, -USBIP_ECONNRESET, true},
    };
    struct capture_file file = {0};
    pcap_begin(&file, "usbpcap_statuses.pcap", LINK_USBPCAP);
    for (unsigned i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        put_usbpcap(&file,
                    &(struct usbpcap){.irp = 5, .transfer = 1, .endpoint = 0x83, .device = 4});
        put_usbpcap(&file, &(struct usbpcap){.irp = 5,
                                             .completion = true,
                                             .transfer = 1,
                                             .endpoint = 0x83,
                                             .device = 4,
                                             .status = statuses[i].usbd});
    }
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == sizeof statuses / sizeof statuses[0]);
    for (unsigned i = 0; i < capture->transfer_count; i++) {
        CU_ASSERT_EQUAL(capture->transfers[i].status, statuses[i].status);
        CU_ASSERT_EQUAL((capture->transfers[i].flags & USBIP_TRANSFER_UNLINKED) != 0,
                        statuses[i].unlinked);
        CU_ASSERT_EQUAL(capture->transfers[i].type, USB_ENDPOINT_XFER_INT);
    }
    usbip_capture_free(capture);
}

static void test_injected(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "usbpcap_injected.pcap", LINK_USBPCAP);
    put_control(&file, 0, USBPCAP_SETUP, false, true, get_device_descriptor, 8);
    put_control(&file, 0, USBPCAP_COMPLETE, true, true, acm_device, 18);
    put_control(&file, 1, USBPCAP_SETUP, false, false, set_configuration, 8);
    put_control(&file, 1, USBPCAP_COMPLETE, true, false, NULL, 0);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 2);
    CU_ASSERT(capture->transfers[0].flags & USBIP_TRANSFER_INJECTED);
    CU_ASSERT_FALSE(capture->transfers[1].flags & USBIP_TRANSFER_INJECTED);
    usbip_capture_free(capture);
}

static void test_damaged(void)
{
    uint8_t record[28] = {27};
    struct capture_file file = {0};
    pcap_begin(&file, "usbpcap_short.pcap", LINK_USBPCAP);
    put_record(&file, record, 26);
    expect_error(&file, "record 1: has 26 bytes, but a USBPcap header has 27");

    record[0] = 26;
    file = (struct capture_file){0};
    pcap_begin(&file, "usbpcap_small_header.pcap", LINK_USBPCAP);
    put_record(&file, record, sizeof record);
    expect_error(&file, "record 1: its USBPcap header says that it has 26 bytes");

    record[0] = 29;
    file = (struct capture_file){0};
    pcap_begin(&file, "usbpcap_large_header.pcap", LINK_USBPCAP);
    put_record(&file, record, sizeof record);
    expect_error(&file, "record 1: has 28 bytes, but a USBPcap header has 29");

    /* A control request without the stage, and one without the whole setup packet. */
    record[0] = 27;
    record[22] = 2;
    file = (struct capture_file){0};
    pcap_begin(&file, "usbpcap_no_stage.pcap", LINK_USBPCAP);
    put_record(&file, record, 27);
    expect_error(&file,
                 "record 1: its USBPcap header says that it has 27 bytes, fewer than the 28");
    file = (struct capture_file){0};
    pcap_begin(&file, "usbpcap_no_setup.pcap", LINK_USBPCAP);
    put_control(&file, 1, USBPCAP_SETUP, false, true, get_device_descriptor, 7);
    expect_error(&file, "record 1: has 35 bytes, but a setup packet");
}

static void test_truncated(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "usbpcap_truncated.pcap", LINK_USBPCAP);
    put_usbpcap(
        &file,
        &(struct usbpcap){
            .irp = 8, .transfer = 3, .endpoint = 0x02, .device = 4, .data = "ping", .size = 4});
    /* The last byte of the record goes, also in its size. */
    file.bytes.size--;
    uint8_t *header = file.bytes.data + file.bytes.size - 30 - 16;
    REQUIRE(header[8] == 31);
    header[8] = 30;
    struct usbip_capture *capture = load(&file);
    char reason[USBIP_CAPTURE_REASON_SIZE], error_text[USBIP_CAPTURE_ERROR_SIZE];
    CU_ASSERT_EQUAL(usbip_capture_select(capture, NULL, reason, error_text), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "record 1: the recorder kept 3 of the 4 bytes"));
    usbip_capture_free(capture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"control transfers in two records", test_two_stages},
        {"control transfers in a record for each stage", test_three_stages},
        {"bulk transfers, and what is none", test_data},
        {"statuses", test_statuses},
        {"what USBPcap injects", test_injected},
        {"damaged records", test_damaged},
        {"data that were cut off", test_truncated},
        CU_TEST_INFO_NULL,
    };
    return run_tests("USBPcap", tests);
}
