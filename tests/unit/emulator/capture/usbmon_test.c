#include <string.h>

#include "tests/unit/emulator/capture/capture_fixture.h"

static const uint8_t set_line_coding[8] = {0x21, 0x20, 0, 0, 0, 0, 7, 0};
static const uint8_t line_coding[7] = {0x00, 0xc2, 0x01, 0, 0, 0, 8};

static void put_session(struct capture_file *file)
{
    put_usbmon_control(file, 5, get_device_descriptor, acm_device, 18, 0);
    put_usbmon_control(file, 5, get_configuration_descriptor, acm_configuration, 67, 0);
    put_usbmon_control(file, 5, set_configuration, NULL, 0, 0);
    put_usbmon_control(file, 5, set_line_coding, line_coding, 7, 0);
    put_usbmon(
        file, &(struct usbmon){
                  .id = 1, .event = 'S', .type = 3, .endpoint = 0x81, .address = 5, .length = 512});
    put_usbmon(file, &(struct usbmon){.id = 2,
                                      .event = 'S',
                                      .type = 3,
                                      .endpoint = 0x02,
                                      .address = 5,
                                      .data = "ping",
                                      .size = 4});
    put_usbmon(file,
               &(struct usbmon){
                   .id = 2, .event = 'C', .type = 3, .endpoint = 0x02, .address = 5, .length = 4});
    put_usbmon(file, &(struct usbmon){.id = 1,
                                      .event = 'C',
                                      .type = 3,
                                      .endpoint = 0x81,
                                      .address = 5,
                                      .data = "pong!",
                                      .size = 5});
}

static void check_session(const struct usbip_capture *capture)
{
    REQUIRE(capture->transfer_count == 6);
    REQUIRE(capture->device_count == 1);
    const struct usbip_capture_device *device = &capture->devices[0];
    CU_ASSERT_EQUAL(device->bus, 1);
    CU_ASSERT_EQUAL(device->address, 5);
    CU_ASSERT(device->has_ids && device->idVendor == 0x1209 && device->idProduct == 0x0001);
    CU_ASSERT_EQUAL(device->configuration_value, 1);
    CU_ASSERT_EQUAL(device->endpoint_count, 3);

    const struct usbip_capture_transfer *coding = &capture->transfers[3];
    CU_ASSERT(coding->flags & USBIP_TRANSFER_HAS_SETUP);
    CU_ASSERT_EQUAL(memcmp(coding->setup, set_line_coding, 8), 0);
    REQUIRE(coding->size == 7);
    CU_ASSERT_EQUAL(memcmp(coding->data, line_coding, 7), 0);

    const struct usbip_capture_transfer *in = &capture->transfers[4], *out = &capture->transfers[5];
    CU_ASSERT_EQUAL(in->endpoint, 0x81);
    CU_ASSERT_EQUAL(in->type, USB_ENDPOINT_XFER_BULK);
    CU_ASSERT_EQUAL(in->requested_length, 512);
    CU_ASSERT_EQUAL(in->actual_length, 5);
    REQUIRE(in->size == 5);
    CU_ASSERT_EQUAL(memcmp(in->data, "pong!", 5), 0);
    CU_ASSERT_EQUAL(in->submit_record, 9);
    CU_ASSERT_EQUAL(in->complete_record, 12);
    CU_ASSERT_EQUAL(in->submit_ns, START_NS + 8 * STEP_NS);
    CU_ASSERT_EQUAL(in->complete_ns, START_NS + 11 * STEP_NS);
    REQUIRE(out->size == 4);
    CU_ASSERT_EQUAL(memcmp(out->data, "ping", 4), 0);
    CU_ASSERT_EQUAL(out->actual_length, 4);
    /* The order of events is there to be compared across endpoints. */
    CU_ASSERT(in->submit_order < out->submit_order);
    CU_ASSERT(in->complete_order > out->complete_order);
    CU_ASSERT(in->flags & USBIP_TRANSFER_REQUESTED_KNOWN);
}

static void test_session(void)
{
    const unsigned link_types[] = {LINK_USBMON, LINK_USBMON_MMAPPED};
    for (unsigned i = 0; i < 4; i++) {
        struct capture_file file = {.big_endian = i / 2};
        pcap_begin(&file, "usbmon_session.pcap", link_types[i % 2]);
        put_session(&file);
        struct usbip_capture *capture = load(&file);
        check_session(capture);
        CU_ASSERT_STRING_EQUAL(capture->link_type, i % 2 ? "USB_LINUX_MMAPPED" : "USB_LINUX");
        usbip_capture_free(capture);
    }
}

static void test_orphans(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "usbmon_orphans.pcap", LINK_USBMON_MMAPPED);
    put_usbmon(&file, &(struct usbmon){.id = 7,
                                       .event = 'C',
                                       .type = 3,
                                       .endpoint = 0x81,
                                       .address = 5,
                                       .data = "early",
                                       .size = 5});
    /* The id is used anew while the first URB has not ended in the file. */
    put_usbmon(&file,
               &(struct usbmon){
                   .id = 8, .event = 'S', .type = 3, .endpoint = 0x81, .address = 5, .length = 64});
    put_usbmon(
        &file,
        &(struct usbmon){
            .id = 8, .event = 'S', .type = 3, .endpoint = 0x81, .address = 5, .length = 128});
    put_usbmon(&file, &(struct usbmon){.id = 8,
                                       .event = 'C',
                                       .type = 3,
                                       .endpoint = 0x81,
                                       .address = 5,
                                       .data = "x",
                                       .size = 1});
    /* The same id on another endpoint is another URB. */
    put_usbmon(&file, &(struct usbmon){.id = 8,
                                       .event = 'C',
                                       .type = 3,
                                       .endpoint = 0x83,
                                       .address = 5,
                                       .data = "yy",
                                       .size = 2});
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 4);
    const struct usbip_capture_transfer *t = capture->transfers;
    CU_ASSERT(t[0].submit_record == 0 && t[0].submit_order == 0 && t[0].complete_record == 1);
    CU_ASSERT(t[0].size == 5 && memcmp(t[0].data, "early", 5) == 0);
    CU_ASSERT(t[1].submit_record == 2 && t[1].complete_record == 0 && t[1].complete_order == 0);
    CU_ASSERT(t[2].submit_record == 3 && t[2].complete_record == 4);
    CU_ASSERT_EQUAL(t[2].requested_length, 128);
    CU_ASSERT(t[3].submit_record == 0 && t[3].complete_record == 5 && t[3].endpoint == 0x83);
    const struct usbip_capture_device *device = &capture->devices[0];
    CU_ASSERT(device->without_submit == 2 && device->first_without_submit == 1);
    CU_ASSERT(device->without_completion == 1 && device->first_without_completion == 2);
    usbip_capture_free(capture);
}

static void test_ends(void)
{
    static const struct {
        char event;
        int32_t status;
        uint8_t flags;
    } ends[] = {
        {'C', -2, USBIP_TRANSFER_UNLINKED},
        {'C', -104, USBIP_TRANSFER_UNLINKED},
        {'C', -108, USBIP_TRANSFER_UNLINKED},
        {'C', -32, 0},
        {'C', -71, 0},
        {'E', -19, USBIP_TRANSFER_REFUSED},
    };
    struct capture_file file = {0};
    pcap_begin(&file, "usbmon_ends.pcap", LINK_USBMON_MMAPPED);
    for (unsigned i = 0; i < 6; i++) {
        put_usbmon(&file, &(struct usbmon){.id = i + 1,
                                           .event = 'S',
                                           .type = 3,
                                           .endpoint = 0x81,
                                           .address = 5,
                                           .length = 64});
        put_usbmon(&file, &(struct usbmon){.id = i + 1,
                                           .event = ends[i].event,
                                           .type = 3,
                                           .endpoint = 0x81,
                                           .address = 5,
                                           .status = ends[i].status});
    }
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 6);
    for (unsigned i = 0; i < 6; i++) {
        const struct usbip_capture_transfer *transfer = &capture->transfers[i];
        CU_ASSERT_EQUAL(transfer->status, ends[i].status);
        CU_ASSERT_EQUAL(transfer->flags & ~USBIP_TRANSFER_REQUESTED_KNOWN, ends[i].flags);
    }
    const struct usbip_capture_device *device = &capture->devices[0];
    CU_ASSERT_EQUAL(device->unlinked, 3);
    CU_ASSERT_EQUAL(device->stalls, 1);
    CU_ASSERT_EQUAL(device->failed, 1);
    CU_ASSERT_EQUAL(device->refused, 1);
    usbip_capture_free(capture);
}

/* What libpcap and recorders write at their start is not the software's. */
static void test_injected(void)
{
    static const uint8_t probe[8] = {0x80, 6, 0, 1, 0, 0, 40, 0};
    struct capture_file file = {0};
    pcap_begin(&file, "usbmon_injected.pcap", LINK_USBMON_MMAPPED);
    put_usbmon_control(&file, 5, probe, acm_device, 18, 0);
    put_usbmon(&file, &(struct usbmon){.event = 'S',
                                       .type = 2,
                                       .endpoint = 0x80,
                                       .address = 5,
                                       .setup = get_configuration_descriptor,
                                       .length = 67});
    put_usbmon(&file, &(struct usbmon){.event = 'C',
                                       .type = 2,
                                       .endpoint = 0x80,
                                       .address = 5,
                                       .data = acm_configuration,
                                       .size = 67});
    put_usbmon_control(&file, 5, set_configuration, NULL, 0, 0);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 3);
    CU_ASSERT(capture->transfers[0].flags & USBIP_TRANSFER_INJECTED);
    CU_ASSERT(capture->transfers[1].flags & USBIP_TRANSFER_INJECTED);
    CU_ASSERT_FALSE(capture->transfers[2].flags & USBIP_TRANSFER_INJECTED);
    CU_ASSERT_EQUAL(capture->devices[0].injected, 2);
    CU_ASSERT_STRING_EQUAL(capture->devices[0].busid, "");
    usbip_capture_free(capture);
}

/* sigrok leaves lengths 0, names endpoint 0 for IN requests and repeats OUT data. */
static void test_sigrok(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "usbmon_sigrok.pcap", LINK_USBMON_MMAPPED);
    put_usbmon(&file,
               &(struct usbmon){
                   .id = 1, .event = 'S', .type = 2, .address = 5, .setup = get_device_descriptor});
    struct usbmon answer = {
        .id = 1, .event = 'C', .type = 2, .address = 5, .data = acm_device, .size = 18};
    put_usbmon(&file, &answer);
    memset(file.bytes.data + file.bytes.size - 18 - 64 + 32, 0, 4); /* urb_len */
    put_usbmon(&file, &(struct usbmon){.id = 2,
                                       .event = 'S',
                                       .type = 3,
                                       .endpoint = 2,
                                       .address = 5,
                                       .data = "out",
                                       .size = 3});
    put_usbmon(&file, &(struct usbmon){.id = 2,
                                       .event = 'C',
                                       .type = 3,
                                       .endpoint = 2,
                                       .address = 5,
                                       .data = "out",
                                       .size = 3});
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 2);
    CU_ASSERT(usbip_transfer_is_in(&capture->transfers[0]));
    CU_ASSERT_EQUAL(capture->transfers[0].size, 18);
    CU_ASSERT_EQUAL(capture->transfers[0].actual_length, 18);
    CU_ASSERT(capture->devices[0].has_ids);
    CU_ASSERT_EQUAL(capture->transfers[1].size, 3);
    CU_ASSERT_EQUAL(capture->transfers[1].actual_length, 3);
    usbip_capture_free(capture);
}

static void test_isochronous(void)
{
    const unsigned link_types[] = {LINK_USBMON, LINK_USBMON_MMAPPED};
    for (unsigned i = 0; i < 2; i++) {
        struct capture_file file = {0};
        pcap_begin(&file, "usbmon_isochronous.pcap", link_types[i]);
        put_usbmon(
            &file,
            &(struct usbmon){
                .id = 1, .event = 'S', .type = 0, .endpoint = 0x84, .address = 5, .length = 16});
        struct usbmon answer = {.id = 1,
                                .event = 'C',
                                .type = 0,
                                .endpoint = 0x84,
                                .address = 5,
                                .data = "0123456789abcdef",
                                .size = 16,
                                .iso_packets = 2};
        /* The short header has the count in the place of the setup packet. */
        const uint8_t counts[8] = {0, 0, 0, 0, 2, 0, 0, 0};
        answer.setup = counts;
        put_usbmon(&file, &answer);
        struct usbip_capture *capture = load(&file);
        REQUIRE(capture->transfer_count == 1);
        CU_ASSERT_EQUAL(capture->transfers[0].type, USB_ENDPOINT_XFER_ISOC);
        REQUIRE(capture->transfers[0].size == 16);
        CU_ASSERT_EQUAL(memcmp(capture->transfers[0].data, "0123456789abcdef", 16), 0);
        usbip_capture_free(capture);
    }
}

/* A device that is reset gets its address anew; another one may get it, too. */
static void test_addresses(void)
{
    static const uint8_t set_address[8] = {0, 5, 5, 0, 0, 0, 0, 0};
    uint8_t other_device[18];
    memcpy(other_device, acm_device, 18);
    other_device[10] = 0x77;
    struct capture_file file = {0};
    pcap_begin(&file, "usbmon_addresses.pcap", LINK_USBMON_MMAPPED);
    for (unsigned i = 0; i < 3; i++) {
        put_usbmon_control(&file, 0, get_device_descriptor, i < 2 ? acm_device : other_device, 18,
                           0);
        put_usbmon_control(&file, 0, set_address, NULL, 0, 0);
        put_usbmon_control(&file, 5, set_configuration, NULL, 0, 0);
    }
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->device_count == 2);
    for (unsigned i = 0; i < 9; i++)
        CU_ASSERT_EQUAL(capture->transfers[i].device, i / 6);
    CU_ASSERT(capture->devices[0].address == 5 && capture->devices[1].address == 5);
    CU_ASSERT_EQUAL(capture->devices[1].idProduct, 0x0077);
    CU_ASSERT_EQUAL(choose(capture, "1209:0077"), 1);
    usbip_capture_free(capture);
}

static void test_truncated_data(void)
{
    static const uint8_t full[262144 - 64];
    static const struct {
        const char *name;
        struct usbmon event;
        const char *error;
    } cases[] = {
        {"OUT data are shorter than the URB",
         {.id = 1,
          .event = 'S',
          .type = 3,
          .endpoint = 2,
          .address = 5,
          .data = "abc",
          .size = 3,
          .length = 100},
         "record 3: the recorder kept 3 of the 100 bytes that device 1.5"},
        {"no OUT data were kept",
         {.id = 1,
          .event = 'S',
          .type = 3,
          .endpoint = 2,
          .address = 5,
          .length = 8,
          .data_flag = 'D'},
         "record 3: the recorder kept 0 of the 8 bytes"},
        {"IN data",
         {.id = 1,
          .event = 'C',
          .type = 3,
          .endpoint = 0x81,
          .address = 5,
          .data = "abc",
          .size = 3,
          .length = 4},
         "record 3: the recorder kept 3 of the 4 bytes that device 1.5 transferred; record again "
         "with a larger snap length or buffer"},
        {"as much as there is room for",
         {.id = 1,
          .event = 'C',
          .type = 3,
          .endpoint = 0x81,
          .address = 5,
          .data = full,
          .size = sizeof full,
          .length = 300000},
         "record 3: the recorder kept 262080 of the 300000 bytes that device 1.5 transferred; "
         "usbmon records hold no more; capture the USB/IP connection instead, with tcpdump"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct capture_file file = {0};
        pcap_begin(&file, "usbmon_truncated.pcap", LINK_USBMON_MMAPPED);
        put_usbmon_control(&file, 5, get_device_descriptor, acm_device, 18, 0);
        put_usbmon(&file, &cases[i].event);
        put_usbmon_control(&file, 6, set_line_coding, line_coding, 7, 0);
        struct usbip_capture *capture = load(&file);
        char reason[USBIP_CAPTURE_REASON_SIZE], error_text[USBIP_CAPTURE_ERROR_SIZE];
        CU_ASSERT_EQUAL(usbip_capture_select(capture, "1.5", reason, error_text), -1);
        CU_ASSERT_PTR_NOT_NULL(strstr(error_text, cases[i].error));
        CU_ASSERT(capture->transfers[1].flags & USBIP_TRANSFER_TRUNCATED);
        /* Another device does not suffer from it. */
        CU_ASSERT_EQUAL(usbip_capture_select(capture, "1.6", reason, error_text), 1);
        CU_ASSERT_EQUAL(usbip_capture_select(capture, NULL, reason, error_text), 1);
        CU_ASSERT_STRING_EQUAL(reason, "the only serial device of 2");
        usbip_capture_free(capture);
    }
}

static void test_damaged(void)
{
    uint8_t header[64] = {[8] = 'S', [9] = 3};
    struct capture_file file = {0};
    pcap_begin(&file, "usbmon_short.pcap", LINK_USBMON_MMAPPED);
    put_record(&file, header, 63);
    expect_error(&file, "record 1: has 63 bytes, but a usbmon header has 64");

    file = (struct capture_file){0};
    pcap_begin(&file, "usbmon_cut.pcap", LINK_USBMON);
    put_usbmon_control(&file, 5, set_configuration, NULL, 0, 0);
    put_cut_record(&file, header, 40, 48);
    expect_error(&file, "record 3: the recorder kept 40 of its 48 bytes");

    for (unsigned i = 0; i < 2; i++) {
        uint8_t wrong[64];
        memcpy(wrong, header, sizeof wrong);
        wrong[8 + i] = 'X';
        file = (struct capture_file){0};
        pcap_begin(&file, "usbmon_wrong.pcap", LINK_USBMON_MMAPPED);
        put_record(&file, wrong, sizeof wrong);
        expect_error(&file, "record 1: is no usbmon record");
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a session, both link types, both byte orders", test_session},
        {"orphans and ids used anew", test_orphans},
        {"how URBs end", test_ends},
        {"what recorders inject", test_injected},
        {"sigrok's files", test_sigrok},
        {"isochronous transfers", test_isochronous},
        {"addresses that are given anew", test_addresses},
        {"data that were cut off", test_truncated_data},
        {"damaged records", test_damaged},
        CU_TEST_INFO_NULL,
    };
    return run_tests("usbmon", tests);
}
