#include <string.h>

#include "tests/unit/emulator/capture/capture_fixture.h"

static const uint8_t clear_halt[8] = {2, 1, 0, 0, 0x81, 0, 0, 0};
static const uint8_t get_line_coding[8] = {0xa1, 0x21, 0, 0, 0, 0, 7, 0};

static void put_enumeration(struct capture_file *file)
{
    static const uint8_t set_address[8] = {0, 5, 9, 0, 0, 0, 0, 0};
    put_bus_control(file, 0, get_device_descriptor, acm_device, 18);
    put_bus_control(file, 0, set_address, NULL, 0);
    put_bus_control(file, 9, get_configuration_descriptor, acm_configuration, 67);
    put_bus_control(file, 9, set_configuration, NULL, 0);
}

static const struct usbip_capture_transfer *last(const struct usbip_capture *capture)
{
    return &capture->transfers[capture->transfer_count - 1];
}

static void expect_data(const struct usbip_capture_transfer *transfer, uint8_t endpoint,
                        const char *data)
{
    CU_ASSERT_EQUAL(transfer->endpoint, endpoint);
    CU_ASSERT_EQUAL(transfer->size, strlen(data));
    CU_ASSERT_EQUAL(transfer->actual_length, strlen(data));
    CU_ASSERT(transfer->size == strlen(data) && memcmp(transfer->data, data, transfer->size) == 0);
}

static void test_control(void)
{
    static const struct {
        unsigned link_type;
        enum usbip_speed speed;
    } kinds[] = {
        {LINK_USB_2_0, USBIP_SPEED_UNKNOWN},
        {LINK_USB_2_0_LOW_SPEED, USBIP_SPEED_LOW},
        {LINK_USB_2_0_FULL_SPEED, USBIP_SPEED_FULL},
        {LINK_USB_2_0_HIGH_SPEED, USBIP_SPEED_HIGH},
    };
    for (unsigned i = 0; i < 4; i++) {
        struct capture_file file = {.nanoseconds = true};
        pcap_begin(&file, "packets_control.pcap", kinds[i].link_type);
        put_token(&file, PID_SOF, 1, 2);
        put_enumeration(&file);
        struct usbip_capture *capture = load(&file);
        REQUIRE(capture->transfer_count == 4);
        REQUIRE(capture->device_count == 1);
        CU_ASSERT_EQUAL(capture->devices[0].address, 9);
        CU_ASSERT_EQUAL(capture->devices[0].idVendor, 0x1209);
        CU_ASSERT_EQUAL(capture->devices[0].speed, kinds[i].speed);
        CU_ASSERT_EQUAL(capture->devices[0].without_completion, 0);
        const struct usbip_capture_transfer *configuration = &capture->transfers[2];
        REQUIRE(configuration->size == 67);
        CU_ASSERT_EQUAL(memcmp(configuration->data, acm_configuration, 67), 0);
        CU_ASSERT_EQUAL(configuration->requested_length, 67);
        CU_ASSERT_EQUAL(capture->transfers[0].submit_record, 2);
        /* SOF, SETUP stage, three IN packets, the status stage. */
        CU_ASSERT_EQUAL(capture->transfers[0].complete_record, 1 + 3 + 3 * 3 + 3);
        CU_ASSERT_EQUAL(capture->transfers[0].submit_ns, START_NS + STEP_NS);
        usbip_capture_free(capture);
    }
}

static void test_control_stall(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "packets_control_stall.pcap", LINK_USB_2_0_FULL_SPEED);
    put_transaction(&file, PID_SETUP, 9, 0, PID_DATA0, get_line_coding, 8);
    put_token(&file, PID_IN, 9, 0);
    put_handshake(&file, PID_NAK);
    put_token(&file, PID_IN, 9, 0);
    put_handshake(&file, PID_STALL);
    /* A host that gives up: the next SETUP takes the place of this one. */
    put_transaction(&file, PID_SETUP, 9, 0, PID_DATA0, get_line_coding, 8);
    put_bus_control(&file, 9, get_line_coding, "\0\302\1\0\0\0\10", 7);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 3);
    CU_ASSERT_EQUAL(capture->transfers[0].status, -USBIP_EPIPE);
    CU_ASSERT_EQUAL(capture->transfers[0].complete_record, 7);
    CU_ASSERT_EQUAL(capture->transfers[1].complete_record, 0);
    CU_ASSERT_EQUAL(capture->transfers[2].size, 7);
    CU_ASSERT_EQUAL(capture->transfers[2].status, 0);
    usbip_capture_free(capture);
}

/* Short packets end transfers; NAKs, lost handshakes, repeated and damaged packets do not count. */
static void test_bulk(void)
{
    char full[65] = "";
    memset(full, 'f', 64);
    struct capture_file file = {0};
    /* The configuration says 64 bytes; without it, a packet at high speed would have 512. */
    pcap_begin(&file, "packets_bulk.pcap", LINK_USB_2_0_HIGH_SPEED);
    put_enumeration(&file);
    unsigned before = file.records;
    put_token(&file, PID_IN, 9, 1);
    put_handshake(&file, PID_NAK);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, full, 64);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, full, 64); /* the ACK was lost */
    put_token(&file, PID_IN, 9, 1);
    put_data(&file, PID_DATA1, "lost", 4); /* no handshake: it did not arrive */
    put_token(&file, PID_IN, 9, 1);
    put_data(&file, PID_DATA1, "end", 3);
    file.bytes.data[file.bytes.size - 2] ^= 1; /* its checksum is wrong */
    put_handshake(&file, PID_ACK);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA1, "end", 3);
    put_transaction(&file, PID_OUT, 9, 2, PID_DATA0, "out", 3);
    put_token(&file, PID_PING, 9, 2);
    put_handshake(&file, PID_ACK);
    put_token(&file, PID_OUT, 9, 2);
    put_data(&file, PID_DATA1, "nyet", 4);
    put_handshake(&file, PID_NYET);
    put_token(&file, PID_OUT, 9, 2);
    put_data(&file, PID_DATA0, "refused", 7);
    put_handshake(&file, PID_NAK);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 4 + 3);
    char joined[68];
    snprintf(joined, sizeof joined, "%send", full);
    const struct usbip_capture_transfer *t = capture->transfers + 4;
    expect_data(&t[0], 0x81, joined);
    CU_ASSERT_EQUAL(t[0].submit_record, before + 3);
    CU_ASSERT_EQUAL(t[0].complete_record, before + 2 + 3 + 3 + 2 + 3 + 3);
    expect_data(&t[1], 0x02, "out");
    expect_data(&t[2], 0x02, "nyet");
    CU_ASSERT_EQUAL(t[0].type, USB_ENDPOINT_XFER_BULK);
    CU_ASSERT_FALSE(t[0].flags & USBIP_TRANSFER_REQUESTED_KNOWN);
    CU_ASSERT_EQUAL(capture->skipped_records, 1);
    usbip_capture_free(capture);
}

/* Equal data again are new ones when the toggle has changed, or begins anew. */
static void test_toggles(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "packets_toggles.pcap", LINK_USB_2_0_FULL_SPEED);
    put_enumeration(&file);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, "same", 4);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA1, "same", 4);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, "same", 4);
    put_bus_control(&file, 9, clear_halt, NULL, 0);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, "same", 4);
    struct usbip_capture *capture = load(&file);
    CU_ASSERT_EQUAL(capture->transfer_count, 4 + 3 + 1 + 1);
    usbip_capture_free(capture);
}

static void test_halt(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "packets_halt.pcap", LINK_USB_2_0_FULL_SPEED);
    put_enumeration(&file);
    put_token(&file, PID_IN, 9, 1);
    put_handshake(&file, PID_STALL);
    put_token(&file, PID_IN, 9, 3);
    put_handshake(&file, PID_STALL);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 6);
    CU_ASSERT_EQUAL(capture->transfers[4].status, -USBIP_EPIPE);
    CU_ASSERT_EQUAL(capture->transfers[4].endpoint, 0x81);
    CU_ASSERT_EQUAL(capture->transfers[5].endpoint, 0x83);
    CU_ASSERT_EQUAL(capture->transfers[5].type, USB_ENDPOINT_XFER_INT);
    CU_ASSERT_EQUAL(capture->devices[0].stalls, 2);
    usbip_capture_free(capture);
}

/* A full packet leaves the transfer open; an answer in the other direction and the end of the file
 * close it. */
static void test_open_ends(void)
{
    char full[65] = "";
    memset(full, 'x', 64);
    struct capture_file file = {0};
    pcap_begin(&file, "packets_open_ends.pcap", LINK_USB_2_0_FULL_SPEED);
    put_enumeration(&file);
    unsigned before = file.records;
    put_transaction(&file, PID_OUT, 9, 2, PID_DATA0, full, 64);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, full, 64);
    put_transaction(&file, PID_OUT, 9, 2, PID_DATA1, full, 64);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 4 + 3);
    const struct usbip_capture_transfer *t = capture->transfers + 4;
    expect_data(&t[0], 0x02, full);
    expect_data(&t[1], 0x81, full);
    expect_data(&t[2], 0x02, full);
    CU_ASSERT_EQUAL(t[0].complete_record, before + 3);
    CU_ASSERT_EQUAL(t[1].complete_record, before + 6);
    CU_ASSERT_EQUAL(t[2].complete_record, before + 9);
    CU_ASSERT(t[0].complete_order < t[1].complete_order);
    usbip_capture_free(capture);
}

/* Hubs' split transactions show the same data twice on a high-speed bus. */
static void test_split(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "packets_split.pcap", LINK_USB_2_0_HIGH_SPEED);
    const uint8_t split[4] = {PID_SPLIT, 1, 0, 0};
    put_record(&file, split, sizeof split);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, "split", 5);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, "whole", 5);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 1);
    expect_data(last(capture), 0x81, "whole");
    usbip_capture_free(capture);
}

/* Without descriptors the size of packets is what the speed and the traffic say. */
static void test_unknown_packet_size(void)
{
    char full[513] = "";
    memset(full, 'h', 512);
    struct capture_file file = {0};
    pcap_begin(&file, "packets_unknown_size.pcap", LINK_USB_2_0);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, full, 512);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA1, "end", 3);
    put_transaction(&file, PID_IN, 9, 4, PID_DATA0, full, 64);
    put_transaction(&file, PID_IN, 9, 4, PID_DATA1, NULL, 0);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, full, 100);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA1, full, 100);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 4);
    CU_ASSERT_EQUAL(capture->transfers[0].size, 515);
    CU_ASSERT_EQUAL(capture->transfers[1].size, 64);
    usbip_capture_free(capture);
}

static void test_damaged(void)
{
    const uint8_t packet[8] = {PID_DATA0};
    struct capture_file file = {0};
    pcap_begin(&file, "packets_cut.pcap", LINK_USB_2_0);
    put_cut_record(&file, packet, 8, 9);
    expect_error(&file, "record 1: the recorder kept 8 of its 9 bytes");

    /* Noise is skipped, and counted. */
    file = (struct capture_file){0};
    pcap_begin(&file, "packets_noise.pcap", LINK_USB_2_0_FULL_SPEED);
    const uint8_t wrong_pid[1] = {0x12}, wrong_token[3] = {PID_IN, 0, 0}, short_token[2] = {PID_IN};
    put_record(&file, wrong_pid, 1);
    put_record(&file, wrong_token, 3);
    put_record(&file, short_token, 2);
    put_record(&file, wrong_token, 0);
    put_transaction(&file, PID_IN, 9, 1, PID_DATA0, "data", 4);
    struct usbip_capture *capture = load(&file);
    CU_ASSERT_EQUAL(capture->skipped_records, 4);
    REQUIRE(capture->transfer_count == 1);
    expect_data(last(capture), 0x81, "data");
    usbip_capture_free(capture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"control transfers, all speeds", test_control},
        {"control transfers that stall or are given up", test_control_stall},
        {"bulk transfers with NAKs and repeated packets", test_bulk},
        {"data toggles", test_toggles},
        {"halted endpoints", test_halt},
        {"transfers without a short packet", test_open_ends},
        {"split transactions", test_split},
        {"packet sizes that nothing tells", test_unknown_packet_size},
        {"damaged packets", test_damaged},
        CU_TEST_INFO_NULL,
    };
    return run_tests("packets", tests);
}
