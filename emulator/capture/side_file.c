#include "emulator/capture/side_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/buffer.h"
#include "protocol/bytes.h"
#include "protocol/cdc.h"
#include "protocol/configuration.h"

enum {
    MAX_FILE_SIZE = 4 << 20,
    MAX_LINE = 1024,
    CS_INTERFACE_PREFIX = 3, /* bLength, bDescriptorType, bDescriptorSubtype */
};

/* ---- What lsusb prints ---- */

/* How the value of a field is written. */
enum notation {
    NUMBER, /* decimal or 0x… */
    BCD,    /* 2.00 */
    MILLIAMPERE,
    STRING, /* an index, then the string itself */
};

struct field {
    const char *name;
    uint8_t offset, size;
    enum notation notation;
};

/* A heading, and the descriptor below it. */
struct section {
    const char *heading;
    uint8_t type, size, subtype; /* subtype: of CS_INTERFACE */
    const struct field *fields;
};

static const struct field device_fields[] = {
    {"bcdUSB", 2, 2, BCD},
    {"bDeviceClass", 4, 1, NUMBER},
    {"bDeviceSubClass", 5, 1, NUMBER},
    {"bDeviceProtocol", 6, 1, NUMBER},
    {"bMaxPacketSize0", 7, 1, NUMBER},
    {"idVendor", 8, 2, NUMBER},
    {"idProduct", 10, 2, NUMBER},
    {"bcdDevice", 12, 2, BCD},
    {"iManufacturer", 14, 1, STRING},
    {"iProduct", 15, 1, STRING},
    {"iSerial", 16, 1, STRING},
    {"bNumConfigurations", 17, 1, NUMBER},
    {0},
};

static const struct field configuration_fields[] = {
    {"bNumInterfaces", 4, 1, NUMBER}, {"bConfigurationValue", 5, 1, NUMBER},
    {"iConfiguration", 6, 1, STRING}, {"bmAttributes", 7, 1, NUMBER},
    {"MaxPower", 8, 1, MILLIAMPERE},  {0},
};

static const struct field association_fields[] = {
    {"bFirstInterface", 2, 1, NUMBER},
    {"bInterfaceCount", 3, 1, NUMBER},
    {"bFunctionClass", 4, 1, NUMBER},
    {"bFunctionSubClass", 5, 1, NUMBER},
    {"bFunctionProtocol", 6, 1, NUMBER},
    {"iFunction", 7, 1, STRING},
    {0},
};

static const struct field interface_fields[] = {
    {"bInterfaceNumber", 2, 1, NUMBER},   {"bAlternateSetting", 3, 1, NUMBER},
    {"bNumEndpoints", 4, 1, NUMBER},      {"bInterfaceClass", 5, 1, NUMBER},
    {"bInterfaceSubClass", 6, 1, NUMBER}, {"bInterfaceProtocol", 7, 1, NUMBER},
    {"iInterface", 8, 1, STRING},         {0},
};

static const struct field endpoint_fields[] = {
    {"bEndpointAddress", 2, 1, NUMBER},
    {"bmAttributes", 3, 1, NUMBER},
    {"wMaxPacketSize", 4, 2, NUMBER},
    {"bInterval", 6, 1, NUMBER},
    {0},
};

static const struct field header_fields[] = {{"bcdCDC", 3, 2, BCD}, {0}};
static const struct field call_management_fields[] = {
    {"bmCapabilities", 3, 1, NUMBER}, {"bDataInterface", 4, 1, NUMBER}, {0}};
static const struct field acm_fields[] = {{"bmCapabilities", 3, 1, NUMBER}, {0}};
static const struct field union_fields[] = {
    {"bMasterInterface", 3, 1, NUMBER}, {"bSlaveInterface", 4, 1, NUMBER}, {0}};

static const struct section sections[] = {
    {"Device Descriptor:", USB_DT_DEVICE, USB_DT_DEVICE_SIZE, 0, device_fields},
    {"Configuration Descriptor:", USB_DT_CONFIG, USB_DT_CONFIG_SIZE, 0, configuration_fields},
    {"Interface Association:", USB_DT_INTERFACE_ASSOCIATION, USB_DT_INTERFACE_ASSOCIATION_SIZE, 0,
     association_fields},
    {"Interface Descriptor:", USB_DT_INTERFACE, USB_DT_INTERFACE_SIZE, 0, interface_fields},
    {"Endpoint Descriptor:", USB_DT_ENDPOINT, USB_DT_ENDPOINT_SIZE, 0, endpoint_fields},
    {"CDC Header:", USB_DT_CS_INTERFACE, CDC_HEADER_SIZE, CDC_HEADER_TYPE, header_fields},
    {"CDC Call Management:", USB_DT_CS_INTERFACE, CDC_CALL_MANAGEMENT_SIZE,
     CDC_CALL_MANAGEMENT_TYPE, call_management_fields},
    {"CDC ACM:", USB_DT_CS_INTERFACE, CDC_ACM_SIZE, CDC_ACM_TYPE, acm_fields},
    {"CDC Union:", USB_DT_CS_INTERFACE, CDC_UNION_SIZE, CDC_UNION_TYPE, union_fields},
};

/* ---- Reading it ---- */

struct reader {
    struct usbip_description *description;
    uint8_t device[USB_DT_DEVICE_SIZE];
    bool has_device;
    struct usbip_buffer configuration;
    bool in_configuration, has_second;
    const struct section *section; /* NULL: one that is not read */
    uint8_t *descriptor;           /* that the section fills */
    bool failed;                   /* memory */
};

static void set_string(struct usbip_description *description, uint8_t index, const char *text)
{
    if (index == 0 || *text == '\0' || description->strings[index])
        return;
    description->strings[index] = strdup(text);
}

/* The room for a new descriptor of the configuration, or NULL: out of memory. */
static uint8_t *add_bytes(struct reader *reader, size_t size)
{
    uint8_t *room = usbip_buffer_reserve(&reader->configuration, size);
    if (!room) {
        reader->failed = true;
        return NULL;
    }
    memset(room, 0, size);
    reader->configuration.size += size;
    return room;
}

static void begin_section(struct reader *reader, const char *line)
{
    reader->section = NULL;
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (strcmp(line, sections[i].heading) == 0)
            reader->section = &sections[i];
    }
    const struct section *section = reader->section;
    if (!section) {
        /* The qualifier, the BOS and the hub descriptor stand behind the last configuration. */
        if (strstr(line, "Qualifier") || strstr(line, "Binary Object") || strstr(line, "Hub Desc"))
            reader->in_configuration = false;
        return;
    }
    if (section->type == USB_DT_DEVICE) {
        reader->descriptor = reader->device;
        reader->has_device = true;
    } else {
        if (section->type == USB_DT_CONFIG) {
            reader->in_configuration = reader->configuration.size == 0;
        }
        if (!reader->in_configuration) {
            reader->section = NULL;
            return;
        }
        reader->descriptor = add_bytes(reader, section->size);
        if (!reader->descriptor) {
            reader->section = NULL;
            return;
        }
    }
    reader->descriptor[0] = section->size;
    reader->descriptor[1] = section->type;
    if (section->type == USB_DT_CS_INTERFACE)
        reader->descriptor[2] = section->subtype;
}

static void set_field(struct reader *reader, const struct field *field, const char *value)
{
    char *end;
    unsigned long number = strtoul(value, &end, 0);
    switch (field->notation) {
    case BCD:
        /* 1.10 is 0x0110: two digits before the point, two behind it. */
        number = strtoul(value, &end, 16) << 8;
        if (*end == '.')
            number |= strtoul(end + 1, NULL, 16) & 0xff;
        break;
    case MILLIAMPERE:
        number /= 2;
        break;
    case STRING:
        while (*end == ' ')
            end++;
        set_string(reader->description, (uint8_t)number, end);
        break;
    case NUMBER:
        break;
    }
    if (field->size == 2)
        usbip_store_le16(reader->descriptor + field->offset, (uint16_t)number);
    else
        reader->descriptor[field->offset] = (uint8_t)number;
}

/* "** UNRECOGNIZED:  05 24 00 10 01" */
static void take_bytes(struct reader *reader, const char *text)
{
    reader->section = NULL;
    while (reader->in_configuration) {
        char *end;
        unsigned long byte = strtoul(text, &end, 16);
        if (end == text || byte > UINT8_MAX)
            return;
        uint8_t *room = add_bytes(reader, 1);
        if (!room)
            return;
        *room = (uint8_t)byte;
        text = end;
    }
}

static void take_line(struct reader *reader, char *line)
{
    static const char unrecognized[] = "** UNRECOGNIZED:";
    line += strspn(line, " \t");
    line[strcspn(line, "\r\n")] = '\0';
    size_t length = strlen(line);
    if (strncmp(line, unrecognized, sizeof unrecognized - 1) == 0) {
        take_bytes(reader, line + sizeof unrecognized - 1);
    } else if (length > 0 && line[length - 1] == ':') {
        begin_section(reader, line);
    } else if (reader->section) {
        size_t name = strcspn(line, " ");
        for (const struct field *f = reader->section->fields; f->name; f++) {
            if (strlen(f->name) == name && strncmp(f->name, line, name) == 0)
                set_field(reader, f, line + name);
        }
    }
}

static void clear(struct reader *reader)
{
    for (unsigned i = 0; i < USBIP_DESCRIPTION_STRINGS; i++) {
        free(reader->description->strings[i]);
        reader->description->strings[i] = NULL;
    }
    usbip_buffer_free(&reader->configuration);
    *reader = (struct reader){.description = reader->description};
}

/* "Bus 001 Device 004: ID 0403:6001 …": another device begins. */
static bool is_device_line(const char *line)
{
    return strncmp(line, "Bus ", 4) == 0 && strstr(line, " Device ") && strstr(line, ": ID ");
}

static bool has_ids_of(const struct reader *reader, const struct usbip_capture_device *device)
{
    return usbip_load_le16(reader->device + 8) == device->idVendor &&
           usbip_load_le16(reader->device + 10) == device->idProduct;
}

static bool has_endpoint(const struct reader *reader, uint8_t address)
{
    const struct usbip_buffer *bytes = &reader->configuration;
    size_t offset = 0;
    const uint8_t *descriptor;
    int size;
    while ((size = usbip_next_descriptor(bytes->data, bytes->size, &offset, &descriptor)) > 0) {
        if (size >= USB_DT_ENDPOINT_SIZE && descriptor[1] == USB_DT_ENDPOINT &&
            descriptor[2] == address)
            return true;
    }
    return false;
}

/* The address of an endpoint that the capture uses and the configuration lacks, or 0. */
static uint8_t missing_endpoint(const struct reader *reader,
                                const struct usbip_capture_device *device)
{
    for (unsigned i = 0; i < device->endpoint_count; i++) {
        uint8_t address = device->endpoints[i].address;
        if ((address & 0x0f) != 0 && !has_endpoint(reader, address))
            return address;
    }
    return 0;
}

static bool may_be(const struct reader *reader, const struct usbip_capture_device *device)
{
    return device->has_ids ? has_ids_of(reader, device) : missing_endpoint(reader, device) == 0;
}

static void read_text(struct reader *reader, char *text, const struct usbip_capture_device *device)
{
    while (*text && !reader->failed) {
        char *end = text + strcspn(text, "\n"), *next = *end ? end + 1 : end;
        *end = '\0';
        if (is_device_line(text) && reader->has_device) {
            if (may_be(reader, device))
                return;
            clear(reader);
        }
        take_line(reader, text);
        text = next;
    }
}

static void read_binary(struct reader *reader, const uint8_t *bytes, size_t size)
{
    memcpy(reader->device, bytes, USB_DT_DEVICE_SIZE);
    reader->has_device = true;
    bytes += USB_DT_DEVICE_SIZE;
    size -= USB_DT_DEVICE_SIZE;
    struct usbip_config_descriptor configuration;
    if (usbip_decode_config_descriptor(bytes, size, &configuration) < 0 ||
        configuration.wTotalLength > size)
        return;
    uint8_t *room = add_bytes(reader, configuration.wTotalLength);
    if (room)
        memcpy(room, bytes, configuration.wTotalLength);
}

static char *read_file(const char *path, size_t *size, char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    FILE *file = fopen(path, "rb");
    char *bytes = malloc(MAX_FILE_SIZE + 1);
    *size = file && bytes ? fread(bytes, 1, MAX_FILE_SIZE + 1, file) : 0;
    bool failed = !file || !bytes || ferror(file);
    if (failed)
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, "%s: cannot be read: %s", path,
                 bytes ? strerror(errno) : "out of memory");
    else if (*size > MAX_FILE_SIZE)
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE,
                 "%s: more than %d bytes: no file with descriptors is so large", path,
                 MAX_FILE_SIZE);
    if (file)
        fclose(file);
    if (failed || *size > MAX_FILE_SIZE) {
        free(bytes);
        return NULL;
    }
    bytes[*size] = '\0';
    return bytes;
}

/* Moves what was read to the description. */
static int finish(struct reader *reader, const char *path,
                  char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    struct usbip_description *description = reader->description;
    struct usbip_buffer *bytes = &reader->configuration;
    if (!reader->has_device || bytes->size < USB_DT_CONFIG_SIZE || bytes->size > UINT16_MAX) {
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE,
                 "%s: no device with a configuration is in it; it must be the text of lsusb -v (as "
                 "root, without -t) or the file descriptors of a device in sysfs",
                 path);
        return -1;
    }
    usbip_store_le16(bytes->data + 2, (uint16_t)bytes->size);
    struct usbip_configuration table;
    if (usbip_decode_device_descriptor(reader->device, sizeof reader->device,
                                       &description->device) < 0 ||
        usbip_parse_configuration(bytes->data, bytes->size, &table) < 0) {
        snprintf(
            error_text, USBIP_CAPTURE_ERROR_SIZE,
            "%s: its descriptors are malformed: a bLength is wrong, or an endpoint comes before "
            "any interface",
            path);
        return -1;
    }
    description->device_origin = description->configuration_origin = USBIP_ORIGIN_SIDE_FILE;
    description->configuration = bytes->data;
    description->configuration_size = bytes->size;
    *bytes = (struct usbip_buffer){0};
    return 0;
}

/* Whether what was read is of another device than the capture; then error_text says so. */
static bool is_another(const struct reader *reader, const char *path,
                       const struct usbip_capture_device *device,
                       char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    bool is_whole = reader->configuration.size >= USB_DT_CONFIG_SIZE;
    uint8_t missing = device->has_ids || !is_whole ? 0 : missing_endpoint(reader, device);
    if (device->has_ids && !has_ids_of(reader, device))
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE,
                 "%s: describes %04x:%04x, but the device of the capture is %04x:%04x", path,
                 usbip_load_le16(reader->device + 8), usbip_load_le16(reader->device + 10),
                 device->idVendor, device->idProduct);
    else if (missing != 0)
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE,
                 "%s: describes %04x:%04x, which has no endpoint 0x%02x, but the device of the "
                 "capture uses it",
                 path, usbip_load_le16(reader->device + 8), usbip_load_le16(reader->device + 10),
                 missing);
    else
        return false;
    return true;
}

int side_file_read(const char *path, const struct usbip_capture_device *device,
                   struct usbip_description *description, char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    size_t size;
    char *bytes = read_file(path, &size, error_text);
    if (!bytes)
        return -1;
    struct reader reader = {.description = description};
    if (size >= USB_DT_DEVICE_SIZE && bytes[0] == USB_DT_DEVICE_SIZE && bytes[1] == USB_DT_DEVICE)
        read_binary(&reader, (const uint8_t *)bytes, size);
    else
        read_text(&reader, bytes, device);
    free(bytes);
    int result = -1;
    if (reader.failed)
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, "%s: out of memory", path);
    else if (!reader.has_device || !is_another(&reader, path, device, error_text))
        result = finish(&reader, path, error_text);
    usbip_buffer_free(&reader.configuration);
    return result;
}
