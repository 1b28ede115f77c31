/*
 * Everything of protocol/ that reads foreign bytes. The first byte of the input picks what reads
 * the rest. Where a decoder has an encoder, the way back and forth must lead to the same value.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/buffer.h"
#include "protocol/bytes.h"
#include "protocol/cdc.h"
#include "protocol/configuration.h"
#include "protocol/ftdi.h"
#include "protocol/serial.h"
#include "protocol/usb.h"
#include "protocol/usbip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() would vanish where NDEBUG is defined. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void check_header(const uint8_t *data, size_t size)
{
    struct usbip_header header, again;
    uint8_t once[USBIP_HEADER_SIZE], twice[USBIP_HEADER_SIZE];

    if (size < USBIP_HEADER_SIZE)
        return;
    CHECK(usbip_command_name(usbip_load_be32(data)) != NULL);
    if (usbip_decode_header(data, &header) < 0) {
        CHECK(header.command < USBIP_CMD_SUBMIT || header.command > USBIP_RET_UNLINK);
        return;
    }
    usbip_encode_header(once, &header);
    CHECK(memcmp(once, data, 24) == 0); /* the fields that every command has, and its first */
    CHECK(usbip_decode_header(once, &again) == 0);
    usbip_encode_header(twice, &again);
    CHECK(memcmp(once, twice, sizeof(once)) == 0);
    if (header.command == USBIP_CMD_SUBMIT) {
        CHECK(memcmp(once, data, USBIP_HEADER_SIZE) == 0);
    } else if (header.command == USBIP_RET_SUBMIT) {
        CHECK(strlen(usbip_status_name(header.ret_submit.status)) > 0);
        CHECK(strlen(usbip_status_text(header.ret_submit.status)) > 0);
    }
}

static void check_operation(const uint8_t *data, size_t size)
{
    struct usbip_op_common common;
    uint8_t common_bytes[USBIP_OP_COMMON_SIZE];
    struct usbip_iso_packet_descriptor iso;
    uint8_t iso_bytes[USBIP_ISO_PACKET_DESCRIPTOR_SIZE];
    char busid[USBIP_BUSID_SIZE + 1];
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];

    if (size < USBIP_IMPORT_REQUEST_SIZE)
        return;
    usbip_decode_op_common(data, &common);
    usbip_encode_op_common(common_bytes, &common);
    CHECK(memcmp(common_bytes, data, sizeof(common_bytes)) == 0);
    CHECK(strlen(usbip_op_status_name(common.status)) > 0);
    CHECK(strlen(usbip_op_status_text(common.status)) > 0);
    CHECK(strlen(usbip_speed_name(common.status)) > 0);

    usbip_decode_iso_packet_descriptor(data, &iso);
    usbip_encode_iso_packet_descriptor(iso_bytes, &iso);
    CHECK(memcmp(iso_bytes, data, sizeof(iso_bytes)) == 0);

    usbip_decode_busid(data + USBIP_OP_COMMON_SIZE, busid);
    if (usbip_encode_import_request(request, busid) < 0) {
        CHECK(strlen(busid) == USBIP_BUSID_SIZE);
    } else {
        char again[USBIP_BUSID_SIZE + 1];

        usbip_decode_busid(request + USBIP_OP_COMMON_SIZE, again);
        CHECK(strcmp(busid, again) == 0);
    }
}

static void check_device_record(const uint8_t *data, size_t size)
{
    struct usbip_device_record record, again;
    uint8_t bytes[USBIP_DEVICE_RECORD_SIZE];
    struct usbip_interface_record interface;
    uint8_t interface_bytes[USBIP_INTERFACE_RECORD_SIZE];

    if (size < USBIP_DEVICE_RECORD_SIZE)
        return;
    memset(&record, 0, sizeof(record));
    memset(&again, 0, sizeof(again));
    usbip_decode_device_record(data, &record);
    CHECK(record.path[USBIP_PATH_SIZE - 1] == '\0');
    CHECK(record.busid[USBIP_BUSID_SIZE - 1] == '\0');
    usbip_encode_device_record(bytes, &record);
    CHECK(memcmp(bytes + 0x120, data + 0x120, USBIP_DEVICE_RECORD_SIZE - 0x120) == 0);
    usbip_decode_device_record(bytes, &again);
    CHECK(memcmp(&record, &again, sizeof(record)) == 0);

    if (size < USBIP_DEVICE_RECORD_SIZE + USBIP_INTERFACE_RECORD_SIZE)
        return;
    usbip_decode_interface_record(data + USBIP_DEVICE_RECORD_SIZE, &interface);
    usbip_encode_interface_record(interface_bytes, &interface);
    CHECK(memcmp(interface_bytes, data + USBIP_DEVICE_RECORD_SIZE, 3) == 0);
    CHECK(interface_bytes[3] == 0);
}

static bool is_same(const struct usbip_cdc_functional_descriptors *a,
                    const struct usbip_cdc_functional_descriptors *b)
{
    return a->has_header == b->has_header && a->has_call_management == b->has_call_management &&
           a->has_acm == b->has_acm && a->has_union == b->has_union && a->bcdCDC == b->bcdCDC &&
           a->call_management_bmCapabilities == b->call_management_bmCapabilities &&
           a->bDataInterface == b->bDataInterface &&
           a->acm_bmCapabilities == b->acm_bmCapabilities &&
           a->bControlInterface == b->bControlInterface &&
           a->bSubordinateInterface0 == b->bSubordinateInterface0;
}

static void check_functional_descriptors(const uint8_t *data, size_t size)
{
    struct usbip_cdc_functional_descriptors found, again;
    uint8_t bytes[CDC_HEADER_SIZE + CDC_CALL_MANAGEMENT_SIZE + CDC_ACM_SIZE + CDC_UNION_SIZE];
    uint8_t *end = bytes;

    usbip_cdc_parse_functional_descriptors(data, size, &found);
    if (found.has_header) {
        usbip_cdc_encode_header(end, found.bcdCDC);
        end += CDC_HEADER_SIZE;
    }
    if (found.has_call_management) {
        usbip_cdc_encode_call_management(end, found.call_management_bmCapabilities,
                                         found.bDataInterface);
        end += CDC_CALL_MANAGEMENT_SIZE;
    }
    if (found.has_acm) {
        usbip_cdc_encode_acm(end, found.acm_bmCapabilities);
        end += CDC_ACM_SIZE;
    }
    if (found.has_union) {
        usbip_cdc_encode_union(end, found.bControlInterface, found.bSubordinateInterface0);
        end += CDC_UNION_SIZE;
    }
    CHECK(usbip_cdc_parse_functional_descriptors(bytes, (size_t)(end - bytes), &again) == 0);
    CHECK(is_same(&found, &again));
}

static void check_configuration(const uint8_t *data, size_t size)
{
    static struct usbip_configuration table;
    unsigned endpoints = 0;

    check_functional_descriptors(data, size);
    if (usbip_parse_configuration(data, size, &table) < 0)
        return;
    CHECK(table.altsetting_count <= USB_MAX_ALTSETTINGS);
    CHECK(table.endpoint_count <= USB_MAX_ENDPOINTS);
    for (unsigned i = 0; i < table.altsetting_count; i++) {
        const struct usbip_altsetting *setting = &table.altsettings[i];
        const struct usbip_altsetting *first;

        CHECK(setting->extra >= data && setting->extra + setting->extra_size <= data + size);
        CHECK(setting->first_endpoint == endpoints);
        endpoints += setting->endpoint_count;
        check_functional_descriptors(setting->extra, setting->extra_size);

        first = usbip_find_altsetting(&table, setting->descriptor.bInterfaceNumber,
                                      setting->descriptor.bAlternateSetting);
        CHECK(first != NULL && first <= setting);
        for (unsigned j = 0; j < setting->endpoint_count; j++) {
            const struct usbip_endpoint_descriptor *endpoint =
                &table.endpoints[setting->first_endpoint + j];
            const struct usbip_endpoint_descriptor *found = usbip_find_endpoint(
                &table, setting, endpoint->bmAttributes & USB_ENDPOINT_XFERTYPE_MASK,
                endpoint->bEndpointAddress & USB_DIR_IN);

            CHECK(found != NULL && found <= endpoint);
        }
    }
    CHECK(endpoints == table.endpoint_count);
}

static void check_descriptor(const uint8_t *data, size_t size)
{
    struct usbip_device_descriptor device;
    struct usbip_qualifier_descriptor qualifier;
    struct usbip_config_descriptor config;
    struct usbip_interface_descriptor interface;
    struct usbip_interface_association_descriptor association;
    struct usbip_endpoint_descriptor endpoint;
    struct usbip_setup setup;
    uint8_t bytes[USB_DT_DEVICE_SIZE];

    if (size >= USBIP_SETUP_SIZE) {
        usbip_decode_setup(data, &setup);
        usbip_encode_setup(bytes, &setup);
        CHECK(memcmp(bytes, data, USBIP_SETUP_SIZE) == 0);
        CHECK(strlen(usbip_standard_request_name(setup.bRequest)) > 0);
    }
    /* bLength may be larger than what is encoded: compared from the type on. */
    if (usbip_decode_device_descriptor(data, size, &device) == 0) {
        usbip_encode_device_descriptor(bytes, &device);
        CHECK(memcmp(bytes + 1, data + 1, USB_DT_DEVICE_SIZE - 1) == 0);
    }
    if (usbip_decode_qualifier_descriptor(data, size, &qualifier) == 0) {
        usbip_encode_qualifier_descriptor(bytes, &qualifier);
        CHECK(memcmp(bytes + 1, data + 1, USB_DT_DEVICE_QUALIFIER_SIZE - 2) == 0);
    }
    if (usbip_decode_config_descriptor(data, size, &config) == 0) {
        usbip_encode_config_descriptor(bytes, &config);
        CHECK(memcmp(bytes + 1, data + 1, USB_DT_CONFIG_SIZE - 1) == 0);
    }
    if (usbip_decode_interface_descriptor(data, size, &interface) == 0) {
        usbip_encode_interface_descriptor(bytes, &interface);
        CHECK(memcmp(bytes + 1, data + 1, USB_DT_INTERFACE_SIZE - 1) == 0);
    }
    if (usbip_decode_interface_association_descriptor(data, size, &association) == 0) {
        usbip_encode_interface_association_descriptor(bytes, &association);
        CHECK(memcmp(bytes + 1, data + 1, USB_DT_INTERFACE_ASSOCIATION_SIZE - 1) == 0);
    }
    if (usbip_decode_endpoint_descriptor(data, size, &endpoint) == 0) {
        usbip_encode_endpoint_descriptor(bytes, &endpoint);
        CHECK(memcmp(bytes + 1, data + 1, USB_DT_ENDPOINT_SIZE - 1) == 0);
    }
}

/* The longest text of a string descriptor: 126 units of at most 3 bytes each, and the NUL. */
enum { TEXT_SIZE = 126 * 3 + 1 };

static void check_string(const uint8_t *data, size_t size)
{
    char text[TEXT_SIZE], again[TEXT_SIZE];
    uint8_t descriptor[USB_DT_STRING_MAX_SIZE];
    char *foreign = malloc(size + 1);
    int length = usbip_decode_string_descriptor(data, size, text, sizeof(text));
    int written;

    CHECK(foreign != NULL);
    memcpy(foreign, data, size);
    foreign[size] = '\0';

    if (length >= 0) {
        char *tight = malloc((size_t)length + 1);

        CHECK(tight != NULL);
        CHECK(strlen(text) == (size_t)length);
        CHECK(usbip_decode_string_descriptor(data, size, tight, (size_t)length + 1) == length);
        CHECK(usbip_decode_string_descriptor(data, size, tight, (size_t)length) == -1);
        free(tight);
        written = usbip_encode_string_descriptor(descriptor, text);
        CHECK(written >= 2 && written <= data[0]);
        CHECK(usbip_decode_string_descriptor(descriptor, (size_t)written, again, sizeof(again)) ==
              length);
        CHECK(strcmp(text, again) == 0);
    }

    written = usbip_encode_string_descriptor(descriptor, foreign);
    if (written >= 0) {
        length = usbip_decode_string_descriptor(descriptor, (size_t)written, text, sizeof(text));
        CHECK(length == (int)strlen(foreign));
        CHECK(strcmp(text, foreign) == 0);
    }
    free(foreign);
}

static void check_line_coding(const uint8_t *data, size_t size)
{
    struct usbip_line_coding coding, again;
    uint8_t bytes[CDC_LINE_CODING_SIZE];
    uint8_t notification[CDC_SERIAL_STATE_SIZE];
    char text[USBIP_LINE_CODING_TEXT_SIZE];
    char *foreign = malloc(size + 1);
    int state;

    CHECK(foreign != NULL);
    memcpy(foreign, data, size);
    foreign[size] = '\0';
    if (usbip_parse_line_coding(foreign, &coding) == 0) {
        CHECK(usbip_parse_line_coding(usbip_format_line_coding(&coding, text), &again) == 0);
        usbip_cdc_encode_line_coding(bytes, &coding);
        usbip_cdc_decode_line_coding(bytes, &coding);
        CHECK(coding.dwDTERate == again.dwDTERate && coding.bCharFormat == again.bCharFormat &&
              coding.bParityType == again.bParityType && coding.bDataBits == again.bDataBits);
    }
    free(foreign);

    if (size >= CDC_LINE_CODING_SIZE) {
        usbip_cdc_decode_line_coding(data, &coding);
        usbip_cdc_encode_line_coding(bytes, &coding);
        CHECK(memcmp(bytes, data, sizeof(bytes)) == 0);
        usbip_format_line_coding(&coding, text);
        if (strchr(text, '?') == NULL && coding.dwDTERate > 0)
            CHECK(usbip_parse_line_coding(text, &again) == 0);
    }
    state = usbip_cdc_decode_serial_state(data, size);
    if (state >= 0) {
        usbip_cdc_encode_serial_state(notification, data[4], (unsigned)state);
        CHECK(usbip_cdc_decode_serial_state(notification, sizeof(notification)) == state);
    }
}

static void check_ftdi(const uint8_t *data, size_t size)
{
    uint16_t wValue, wIndex;
    uint32_t rate;
    struct usbip_line_coding coding;
    size_t packet_size, length, expected = 0;
    unsigned modem = 0, again = 0;
    uint8_t *apart, *in_place;

    if (size < 4)
        return;
    rate = usbip_ftdi_decode_baud_rate(usbip_load_le16(data), usbip_load_le16(data + 2));
    if (usbip_ftdi_encode_baud_rate(rate, &wValue, &wIndex) > 0)
        CHECK(usbip_ftdi_decode_baud_rate(wValue, wIndex) == rate);
    else
        CHECK(rate == 0 || rate == 183);
    rate = usbip_load_le32(data);
    rate = usbip_ftdi_encode_baud_rate(rate, &wValue, &wIndex);
    if (rate > 0)
        CHECK(usbip_ftdi_decode_baud_rate(wValue, wIndex) == rate);

    rate = usbip_ftdi_decode_hi_speed_baud_rate(usbip_load_le16(data), usbip_load_le16(data + 2));
    CHECK(rate <= 12000000);
    rate = usbip_load_le32(data);
    rate = usbip_ftdi_encode_hi_speed_baud_rate(rate, &wValue, &wIndex);
    if (rate > 0)
        CHECK(usbip_ftdi_decode_hi_speed_baud_rate(wValue, wIndex) == rate);

    if (usbip_ftdi_decode_line_format(usbip_load_le16(data), &coding) == 0 &&
        coding.bDataBits >= 7) {
        CHECK(usbip_ftdi_encode_line_format(&coding, &wValue) == 0);
        CHECK(wValue == (usbip_load_le16(data) & 0x3fff));
    }

    packet_size = usbip_load_le16(data + 2);
    data += 4;
    size -= 4;
    apart = malloc(size + 1);
    in_place = malloc(size + 1);
    CHECK(apart != NULL && in_place != NULL);
    memcpy(in_place, data, size);
    length = usbip_ftdi_strip_status(apart, data, size, packet_size, &modem);
    CHECK(usbip_ftdi_strip_status(in_place, in_place, size, packet_size, &again) == length);
    CHECK(memcmp(apart, in_place, length) == 0 && modem == again);
    for (size_t i = 0; packet_size >= 2 && i < size; i++) {
        if (i % packet_size >= 2) {
            CHECK(expected < length && apart[expected] == data[i]);
            expected++;
        }
    }
    CHECK(expected == length);
    free(apart);
    free(in_place);
}

/* What came out of usbip_assemble: the PDUs, each behind its size. */
struct collected {
    struct usbip_buffer pdus;
    unsigned refused; /* sizes that the framing refused */
};

enum { MAX_TRANSFER = 4096, REFUSED = -7 };

/* As a server cuts its URB phase, with submits that carry data for OUT only. */
static int64_t urb_size(void *context, const uint8_t *bytes, size_t have)
{
    struct collected *collected = context;
    struct usbip_header header;

    if (have < USBIP_HEADER_SIZE)
        return USBIP_HEADER_SIZE;
    if (usbip_decode_header(bytes, &header) < 0 ||
        (header.command == USBIP_CMD_SUBMIT &&
         header.cmd_submit.transfer_buffer_length > MAX_TRANSFER)) {
        collected->refused++;
        return REFUSED;
    }
    if (header.command != USBIP_CMD_SUBMIT || header.direction == USBIP_DIR_IN)
        return USBIP_HEADER_SIZE;
    return USBIP_HEADER_SIZE + (int64_t)header.cmd_submit.transfer_buffer_length;
}

static int collect_urb(void *context, const uint8_t *bytes, size_t size)
{
    struct collected *collected = context;
    uint8_t size_bytes[4];

    usbip_store_be32(size_bytes, (uint32_t)size);
    CHECK(usbip_buffer_append(&collected->pdus, size_bytes, sizeof(size_bytes)) == 0);
    CHECK(usbip_buffer_append(&collected->pdus, bytes, size) == 0);
    return 0;
}

static void check_assemble(const uint8_t *data, size_t size)
{
    static const struct usbip_framing framing = {.pdu_size = urb_size, .pdu = collect_urb};
    struct collected whole = {0}, split = {0};
    struct usbip_buffer kept_of_whole = {0}, kept_of_split = {0};
    size_t step, given = 0;
    int result = 0, expected;

    if (size < 1)
        return;
    step = (size_t)data[0] + 1;
    data++;
    size--;
    expected = usbip_assemble(&framing, &whole, &kept_of_whole, data, size);
    CHECK(expected == 0 || expected == REFUSED);
    while (given < size && result == 0) {
        size_t part = size - given < step ? size - given : step;
        uint8_t *exact = malloc(part);

        CHECK(exact != NULL);
        memcpy(exact, data + given, part);
        result = usbip_assemble(&framing, &split, &kept_of_split, exact, part);
        free(exact);
        given += part;
    }
    CHECK(result == expected && split.refused == whole.refused);
    CHECK(split.pdus.size == whole.pdus.size);
    CHECK(split.pdus.size == 0 || memcmp(split.pdus.data, whole.pdus.data, whole.pdus.size) == 0);
    if (result == 0) {
        CHECK(kept_of_split.size == kept_of_whole.size);
        CHECK(kept_of_split.size == 0 ||
              memcmp(kept_of_split.data, kept_of_whole.data, kept_of_whole.size) == 0);
    }
    usbip_buffer_free(&whole.pdus);
    usbip_buffer_free(&split.pdus);
    usbip_buffer_free(&kept_of_whole);
    usbip_buffer_free(&kept_of_split);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const checks[])(const uint8_t *data, size_t size) = {
        check_header, check_operation,   check_device_record, check_configuration, check_descriptor,
        check_string, check_line_coding, check_ftdi,          check_assemble,
    };

    if (size < 1)
        return 0;
    checks[data[0] % (sizeof(checks) / sizeof(checks[0]))](data + 1, size - 1);
    return 0;
}
