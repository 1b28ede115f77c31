/* Containers: what a file may look like, and how it may be damaged. */
#include <string.h>
#include <zlib.h>

#include "protocol/bytes.h"
#include "tests/unit/emulator/capture/capture_fixture.h"

static void put_two(struct capture_file *file)
{
    put_usbmon_control(file, 5, get_device_descriptor, acm_device, 18, 0);
    put_usbmon_control(file, 5, set_configuration, NULL, 0, 0);
}

static void test_containers(void)
{
    for (unsigned i = 0; i < 8; i++) {
        struct capture_file file = {.big_endian = i & 1, .nanoseconds = i & 2};
        if (i & 4) {
            pcapng_begin(&file, "file_containers.pcapng");
            pcapng_interface(&file, LINK_USBMON_MMAPPED, 0);
            file.link_type = LINK_USBMON_MMAPPED;
        } else {
            pcap_begin(&file, "file_containers.pcap", LINK_USBMON_MMAPPED);
        }
        put_two(&file);
        struct usbip_capture *capture = load(&file);
        CU_ASSERT_EQUAL(capture->transfer_count, 2);
        CU_ASSERT_EQUAL(capture->record_count, 4);
        CU_ASSERT_EQUAL(capture->first_ns, START_NS);
        CU_ASSERT_EQUAL(capture->last_ns, START_NS + 3 * STEP_NS);
        CU_ASSERT_STRING_EQUAL(capture->format, i & 4 ? "pcapng" : "pcap");
        CU_ASSERT_FALSE(capture->compressed);
        usbip_capture_free(capture);
    }
}

static void compress_file(const char *name, const struct usbip_buffer *bytes)
{
    gzFile gzip = gzopen(file_path(name), "wb");
    REQUIRE(gzip != NULL);
    REQUIRE(gzwrite(gzip, bytes->data, (unsigned)bytes->size) == (int)bytes->size);
    REQUIRE(gzclose(gzip) == Z_OK);
}

static void read_compressed(const char *name, struct usbip_buffer *bytes)
{
    FILE *file = fopen(file_path(name), "rb");
    REQUIRE(file != NULL);
    uint8_t *room = usbip_buffer_reserve(bytes, 4096);
    REQUIRE(room != NULL);
    bytes->size = fread(room, 1, 4096, file);
    fclose(file);
}

static void test_gzip(void)
{
    static const char name[] = "file_gzip.pcapng";
    struct capture_file file = {0};
    pcap_begin(&file, name, LINK_USBMON_MMAPPED);
    put_two(&file);
    compress_file(name, &file.bytes);
    usbip_buffer_free(&file.bytes);
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    struct usbip_capture *capture = usbip_capture_load(file_path(name), error_text);
    REQUIRE(capture != NULL);
    CU_ASSERT(capture->compressed);
    CU_ASSERT_EQUAL(capture->transfer_count, 2);
    usbip_capture_free(capture);

    read_compressed(name, &file.bytes);
    struct capture_file cut = {.name = "file_gzip_cut.pcapng"};
    usbip_buffer_append(&cut.bytes, file.bytes.data, file.bytes.size - 12);
    expect_error(&cut, "gzip data end too early");
    struct capture_file damaged = {.name = "file_gzip_damaged.pcapng"};
    usbip_buffer_append(&damaged.bytes, file.bytes.data, file.bytes.size);
    damaged.bytes.data[file.bytes.size - 6] ^= 1; /* the checksum */
    expect_error(&damaged, "gzip data are damaged");
    usbip_buffer_free(&file.bytes);
}

/* As usbipd-win and analysers write them: libpcap would refuse the file. */
static void test_several_link_types(void)
{
    static const struct {
        unsigned first, second;
        bool big_endian;
    } kinds[] = {
        {LINK_USBMON_MMAPPED, LINK_RAW, false},
        {LINK_RAW, LINK_USBMON_MMAPPED, true},
        {LINK_UPPER_PDU, LINK_USBMON_MMAPPED, false},
        {LINK_USBMON_MMAPPED, LINK_USBMON_MMAPPED, true}, /* other snap lengths */
    };
    for (unsigned i = 0; i < 4; i++) {
        struct capture_file file = {.big_endian = kinds[i].big_endian,
                                    .link_type = LINK_USBMON_MMAPPED};
        pcapng_begin(&file, "file_several.pcapng");
        pcapng_interface(&file, kinds[i].first, 100);
        pcapng_interface(&file, kinds[i].second, 65535);
        unsigned usb = kinds[i].first != LINK_USBMON_MMAPPED;
        for (unsigned j = 0; j < 3; j++) {
            file.interface = !usb;
            for (unsigned k = 0; k < 5 && i < 3; k++)
                put_record(&file, "text that is no packet", 22);
            file.interface = i < 3 ? usb : j % 2;
            put_usbmon_control(&file, 5, set_configuration, NULL, 0, 0);
        }
        struct usbip_capture *capture = load(&file);
        REQUIRE(capture->transfer_count == 3);
        CU_ASSERT_EQUAL(capture->record_count, 6);
        CU_ASSERT_EQUAL(capture->other_records, i < 3 ? 15 : 0);
        /* Numbers are those of the file. */
        CU_ASSERT_EQUAL(capture->transfers[0].submit_record, i < 3 ? 6 : 1);
        CU_ASSERT_EQUAL(capture->transfers[2].complete_record, i < 3 ? 21 : 6);
        usbip_capture_free(capture);
    }
}

/* USB/IP on an interface without link layer, beside others or beside one that is like it. libpcap
 * has another number for this link type than the file. */
static void test_several_networks(void)
{
    static const uint8_t bytes[1];
    for (unsigned i = 0; i < 2; i++) {
        struct capture_file file = {.link_type = LINK_RAW, .big_endian = i};
        struct usbip_buffer client = {0};
        add_import(&client);
        add_submit(&client, 1, 0x02, false, 1, NULL, bytes);
        pcapng_begin(&file, "file_networks.pcapng");
        pcapng_interface(&file, i == 0 ? LINK_ETHERNET : LINK_RAW, 65535);
        pcapng_interface(&file, LINK_RAW, 65535);
        file.interface = 1;
        put_segment(&file, &(struct segment){.data = client.data, .size = client.size});
        struct usbip_capture *capture = load(&file);
        CU_ASSERT_EQUAL(capture->transfer_count, 1);
        usbip_capture_free(capture);
        usbip_buffer_free(&client);
    }
}

/* Sections begin anew with their interfaces. */
static void test_sections(void)
{
    struct capture_file file = {.link_type = LINK_USBMON_MMAPPED};
    for (unsigned i = 0; i < 2; i++) {
        pcapng_begin(&file, "file_sections.pcapng");
        pcapng_interface(&file, i == 0 ? LINK_USBMON_MMAPPED : LINK_UPPER_PDU, 0);
        pcapng_interface(&file, i == 0 ? LINK_UPPER_PDU : LINK_USBMON_MMAPPED, 0);
        file.interface = i;
        put_two(&file);
        file.interface = !i;
        put_record(&file, "x", 1);
    }
    struct usbip_capture *capture = load(&file);
    CU_ASSERT_EQUAL(capture->transfer_count, 4);
    CU_ASSERT_EQUAL(capture->other_records, 2);
    CU_ASSERT_EQUAL(capture->transfers[3].complete_record, 9);
    usbip_capture_free(capture);
}

static void test_damaged(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "file_in_record.pcap", LINK_USBMON_MMAPPED);
    put_two(&file);
    file.bytes.size -= 10;
    expect_error(&file, "record 4: the file ends in the middle of it");

    file = (struct capture_file){0};
    pcap_begin(&file, "file_in_header.pcap", LINK_USBMON_MMAPPED);
    put_two(&file);
    file.bytes.size -= 64 + 10;
    expect_error(&file, "record 4: the file ends in the middle of it");

    file = (struct capture_file){.link_type = LINK_USBMON_MMAPPED};
    pcapng_begin(&file, "file_several_cut.pcapng");
    pcapng_interface(&file, LINK_UPPER_PDU, 0);
    pcapng_interface(&file, LINK_USBMON_MMAPPED, 0);
    put_record(&file, "text", 4);
    file.interface = 1;
    put_two(&file);
    file.bytes.size -= 30;
    expect_error(&file, "record 5: the file ends in the middle of it");

    file = (struct capture_file){.link_type = LINK_USBMON_MMAPPED};
    pcapng_begin(&file, "file_block_size.pcapng");
    pcapng_interface(&file, LINK_USBMON_MMAPPED, 0);
    size_t block = file.bytes.size;
    put_two(&file);
    usbip_store_le32(file.bytes.data + block + 4, 5);
    expect_error(&file, "record 1: cannot be read: ");

    file = (struct capture_file){0};
    pcap_begin(&file, "file_record_size.pcap", LINK_USBMON_MMAPPED);
    put_two(&file);
    usbip_store_le32(file.bytes.data + 24 + 8, UINT32_MAX);
    expect_error(&file, "record 1: cannot be read: ");
}

static void test_no_capture(void)
{
    struct capture_file file = {.name = "file_empty.pcap"};
    expect_error(&file, "is empty: nothing was recorded");

    file = (struct capture_file){.name = "file_three_bytes.pcap"};
    usbip_buffer_append(&file.bytes, "abc", 3);
    expect_error(&file, "has only 3 bytes and is no capture");

    file = (struct capture_file){.name = "file_text.pcap"};
    usbip_buffer_append(&file.bytes, "This is a letter to somebody.", 29);
    expect_error(&file, "is no capture that can be read");

    file = (struct capture_file){0};
    pcap_begin(&file, "file_no_record.pcap", LINK_USBMON_MMAPPED);
    expect_error(&file, "holds no record");

    file = (struct capture_file){0};
    pcap_begin(&file, "file_wifi.pcap", 105);
    put_record(&file, "x", 1);
    expect_error(&file, "its link type IEEE802_11 (105) is none that is read here");

    file = (struct capture_file){.link_type = LINK_USBMON_MMAPPED};
    pcapng_begin(&file, "file_no_interface.pcapng");
    put_two(&file);
    expect_error(&file, "is no capture that can be read");
}

static void test_no_file(void)
{
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    CU_ASSERT_PTR_NULL(usbip_capture_load("/no/such/file", error_text));
    CU_ASSERT_STRING_EQUAL(error_text, "/no/such/file: cannot be read: No such file or directory");
    CU_ASSERT_PTR_NULL(usbip_capture_load("/", error_text));
    CU_ASSERT_STRING_EQUAL(error_text, "/: cannot be read: Is a directory");
    CU_ASSERT_PTR_NULL(usbip_capture_load("/dev/zero", error_text));
    CU_ASSERT_STRING_EQUAL(error_text,
                           "/dev/zero: is a pipe or a device: copy what it has to a file");
    /* The reason stays readable behind a long name. */
    char long_name[2000];
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    CU_ASSERT_PTR_NULL(usbip_capture_load(long_name, error_text));
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, ": cannot be read: File name too long"));
}

static void put_device(struct capture_file *file, uint8_t address, uint16_t idProduct,
                       uint8_t class, bool serial, unsigned transfers)
{
    static const uint8_t get_line_coding[8] = {0xa1, 0x21, 0, 0, 0, 0, 7, 0};
    uint8_t descriptor[18];
    memcpy(descriptor, acm_device, sizeof descriptor);
    descriptor[4] = class;
    usbip_store_le16(descriptor + 10, idProduct);
    put_usbmon_control(file, address, get_device_descriptor, descriptor, 18, 0);
    for (unsigned i = 1; i < transfers; i++)
        put_usbmon_control(file, address, serial ? get_line_coding : set_configuration,
                           serial ? "1234567" : NULL, serial ? 7 : 0, 0);
}

static void test_selection(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "file_selection.pcap", LINK_USBMON_MMAPPED);
    put_device(&file, 1, 0x0001, 9, false, 50);
    put_device(&file, 2, 0x0002, 0, false, 20);
    put_device(&file, 3, 0x0003, 2, true, 5);
    put_device(&file, 4, 0x0003, 2, true, 6);
    struct usbip_capture *capture = load(&file);
    char reason[USBIP_CAPTURE_REASON_SIZE], error_text[USBIP_CAPTURE_ERROR_SIZE];
    static const struct {
        const char *wish;
        int device;
        const char *reason;
    } wishes[] = {
        {NULL, 3, "the busiest of 2 serial devices"},
        {"1209:0003", 3, "the busiest of 2 serial devices"},
        {"1209:0001", 0, "as asked for"},
        {"1.2", 1, "as asked for"},
        {"1.3", 2, "as asked for"},
        {"01.03", 2, "as asked for"},
    };
    for (unsigned i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        CU_ASSERT_EQUAL(usbip_capture_select(capture, wishes[i].wish, reason, error_text),
                        wishes[i].device);
        CU_ASSERT_STRING_EQUAL(reason, wishes[i].reason);
    }
    CU_ASSERT_EQUAL(usbip_capture_select(capture, "2.3", reason, error_text), -1);
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "no device 2.3 is in it"));
    usbip_capture_free(capture);

    static const char *const wrong[] = {
        "",     "1",       "1.",    ".1",      ":",   "1:",   "1.2x", "x1.2",
        "1.-2", "70000.1", "1.2.3", "12345:1", "a.1", "1 .2", " 1.2", "+1.2"};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CU_ASSERT_FALSE(usbip_capture_is_wish(wrong[i]));
}

/* Many URBs under way at once, so that the table of them grows and shrinks; ends in another order.
 */
static void test_many_pending(void)
{
    enum { COUNT = 5000, STEP = 1237 };
    struct capture_file file = {0};
    pcap_begin(&file, "file_many_pending.pcap", LINK_USBMON_MMAPPED);
    for (uint32_t i = 0; i < COUNT; i++)
        put_usbmon(&file, &(struct usbmon){.id = 0xffff888000000000u + UINT64_C(64) * (i + 1),
                                           .event = 'S',
                                           .type = 3,
                                           .endpoint = (uint8_t)(0x81 + i % 3),
                                           .address = 5,
                                           .length = 64 + i});
    for (uint32_t k = 0; k < COUNT; k++) {
        uint32_t i = k * STEP % COUNT;
        put_usbmon(&file, &(struct usbmon){.id = 0xffff888000000000u + UINT64_C(64) * (i + 1),
                                           .event = 'C',
                                           .type = 3,
                                           .endpoint = (uint8_t)(0x81 + i % 3),
                                           .address = 5,
                                           .data = &i,
                                           .size = 4});
    }
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        const struct usbip_capture_transfer *transfer = &capture->transfers[i];
        uint32_t value = COUNT;
        if (transfer->size == 4)
            memcpy(&value, transfer->data, 4);
        if (value != i || transfer->requested_length != 64 + i)
            CU_FAIL("a completion went to another transfer");
    }
    usbip_capture_free(capture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"pcap and pcapng, byte orders, resolutions", test_containers},
        {"gzip", test_gzip},
        {"pcapng with several link types", test_several_link_types},
        {"pcapng with several networks", test_several_networks},
        {"pcapng with several sections", test_sections},
        {"damaged files", test_damaged},
        {"files that are no capture", test_no_capture},
        {"no file", test_no_file},
        {"choosing a device", test_selection},
        {"thousands of URBs under way", test_many_pending},
        CU_TEST_INFO_NULL,
    };
    return run_tests("files", tests);
}
