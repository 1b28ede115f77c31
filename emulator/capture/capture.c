#include "emulator/capture/capture.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/capture/capture_internal.h"
#include "emulator/capture/chip.h"
#include "protocol/configuration.h"

enum {
    FIRST_TRANSFER_CAPACITY = 64,
    FIRST_DEVICE_CAPACITY = 4,
    FIRST_PENDING_CAPACITY = 64,
    USB_CLASS_HUB = 0x09,
};

/* ---- Errors ---- */

int capture_fail(struct capture_builder *builder, uint32_t record, const char *format, ...)
{
    char place[32] = "";
    if (record > 0)
        snprintf(place, sizeof place, "record %u: ", record);
    /* A long name must not push out what is wrong. */
    int size = snprintf(builder->error_text, USBIP_CAPTURE_ERROR_SIZE, "%.*s: %s",
                        USBIP_CAPTURE_ERROR_SIZE / 2, builder->capture->path, place);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(builder->error_text + size, (size_t)(USBIP_CAPTURE_ERROR_SIZE - size), format,
              arguments);
    va_end(arguments);
    return -1;
}

int capture_out_of_memory(struct capture_builder *builder)
{
    return capture_fail(builder, 0, "out of memory");
}

int capture_record_too_short(struct capture_builder *builder, const struct capture_record *record,
                             const char *what, uint32_t header_size)
{
    if (record->size < record->original_size)
        return capture_fail(builder, record->number,
                            "the recorder kept %u of its %u bytes, which is less than its %s; "
                            "record again with a larger snap length",
                            record->size, record->original_size, what);
    return capture_fail(builder, record->number,
                        "has %u bytes, but a %s has %u: the file is damaged or its link type wrong",
                        record->size, what, header_size);
}

/* ---- Devices ---- */

static bool is_at(const struct usbip_capture_device *device, uint16_t bus, uint16_t address)
{
    return device->address == address && device->bus == bus;
}

uint32_t capture_add_device(struct capture_builder *builder, uint16_t bus, uint16_t address)
{
    struct usbip_capture *capture = builder->capture;
    if (capture->device_count == USBIP_CAPTURE_MAX_DEVICES) {
        capture_fail(builder, 0, "more than %d devices: it is damaged, or must be split",
                     USBIP_CAPTURE_MAX_DEVICES);
        return CAPTURE_NONE;
    }
    if (capture->device_count == builder->device_capacity) {
        unsigned capacity =
            builder->device_capacity ? 2 * builder->device_capacity : FIRST_DEVICE_CAPACITY;
        struct usbip_capture_device *devices =
            realloc(capture->devices, capacity * sizeof *devices);
        if (!devices) {
            capture_out_of_memory(builder);
            return CAPTURE_NONE;
        }
        capture->devices = devices;
        builder->device_capacity = capacity;
    }
    capture->devices[capture->device_count] =
        (struct usbip_capture_device){.bus = bus, .address = address};
    return capture->device_count++;
}

uint32_t capture_device(struct capture_builder *builder, uint16_t bus, uint16_t address)
{
    const struct usbip_capture *capture = builder->capture;
    /* The latest one: the address may have belonged to another before. */
    for (unsigned i = capture->device_count; i > 0; i--) {
        if (is_at(&capture->devices[i - 1], bus, address))
            return i - 1;
    }
    return capture_add_device(builder, bus, address);
}

/* ---- Transfers whose completion is awaited ---- */

/* Also of the pipe, for a format may use one id everywhere. */
static uint32_t hash_of(const struct capture_builder *builder, const struct capture_urb *urb)
{
    uint64_t pipe = 0;
    if (!urb->unique) {
        const struct usbip_capture_device *device = &builder->capture->devices[urb->device];
        pipe =
            (uint64_t)device->bus << 32 | (uint64_t)device->address << 8 | (urb->endpoint & 0x0f);
    }
    uint64_t hash = (urb->id ^ pipe * 0xff51afd7ed558ccdu) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32);
}

static bool is_same_pipe(const struct capture_builder *builder,
                         const struct usbip_transfer *transfer, const struct capture_urb *urb)
{
    const struct usbip_capture_device *one = &builder->capture->devices[transfer->device];
    const struct usbip_capture_device *other = &builder->capture->devices[urb->device];
    uint8_t difference = transfer->endpoint ^ urb->endpoint;
    if (transfer->type == USB_ENDPOINT_XFER_CONTROL)
        difference &= (uint8_t)~USB_DIR_IN;
    return difference == 0 && is_at(one, other->bus, other->address);
}

/* Where the URB's transfer is in the table, or CAPTURE_NONE. */
static uint32_t find_slot(const struct capture_builder *builder, const struct capture_urb *urb)
{
    if (builder->pending_count == 0)
        return CAPTURE_NONE;
    uint32_t mask = builder->pending_capacity - 1;
    for (uint32_t i = hash_of(builder, urb) & mask;; i = (i + 1) & mask) {
        const struct capture_pending *pending = &builder->pending[i];
        if (pending->transfer == CAPTURE_NONE)
            return CAPTURE_NONE;
        if (pending->id == urb->id &&
            (urb->unique ||
             is_same_pipe(builder, &builder->capture->transfers[pending->transfer], urb)))
            return i;
    }
}

static void place_pending(struct capture_builder *builder, const struct capture_pending *pending)
{
    uint32_t mask = builder->pending_capacity - 1, i = pending->hash & mask;
    while (builder->pending[i].transfer != CAPTURE_NONE)
        i = (i + 1) & mask;
    builder->pending[i] = *pending;
}

static int grow_pending(struct capture_builder *builder)
{
    uint32_t old_capacity = builder->pending_capacity;
    struct capture_pending *old = builder->pending;
    uint32_t capacity = old_capacity ? 2 * old_capacity : FIRST_PENDING_CAPACITY;
    struct capture_pending *table = calloc(capacity, sizeof *table);
    if (!table)
        return capture_out_of_memory(builder);
    for (uint32_t i = 0; i < capacity; i++)
        table[i].transfer = CAPTURE_NONE;
    builder->pending = table;
    builder->pending_capacity = capacity;
    for (uint32_t i = 0; i < old_capacity; i++) {
        if (old[i].transfer != CAPTURE_NONE)
            place_pending(builder, &old[i]);
    }
    free(old);
    return 0;
}

int capture_add_pending(struct capture_builder *builder, const struct capture_urb *urb,
                        uint32_t transfer)
{
    /* An id that is used anew: the completion of the URB that had it before is not in the file. */
    uint32_t slot = find_slot(builder, urb);
    if (slot != CAPTURE_NONE) {
        builder->pending[slot].transfer = transfer;
        return 0;
    }
    if (2 * (builder->pending_count + 1) > builder->pending_capacity && grow_pending(builder) < 0)
        return -1;
    place_pending(builder, &(struct capture_pending){urb->id, transfer, hash_of(builder, urb)});
    builder->pending_count++;
    return 0;
}

static void remove_pending(struct capture_builder *builder, uint32_t slot)
{
    uint32_t mask = builder->pending_capacity - 1;
    struct capture_pending *table = builder->pending;
    builder->pending_count--;
    /* Those behind it move up, as far as their own slot allows. */
    for (uint32_t next = (slot + 1) & mask; table[next].transfer != CAPTURE_NONE;
         next = (next + 1) & mask) {
        if (((next - table[next].hash) & mask) >= ((next - slot) & mask)) {
            table[slot] = table[next];
            slot = next;
        }
    }
    table[slot].transfer = CAPTURE_NONE;
}

uint32_t capture_find_pending(const struct capture_builder *builder, const struct capture_urb *urb)
{
    uint32_t slot = find_slot(builder, urb);
    return slot == CAPTURE_NONE ? CAPTURE_NONE : builder->pending[slot].transfer;
}

uint32_t capture_take_pending(struct capture_builder *builder, const struct capture_urb *urb)
{
    uint32_t slot = find_slot(builder, urb);
    if (slot == CAPTURE_NONE)
        return CAPTURE_NONE;
    uint32_t transfer = builder->pending[slot].transfer;
    remove_pending(builder, slot);
    return transfer;
}

/* ---- Transfers ---- */

static uint32_t add_transfer(struct capture_builder *builder, const struct capture_urb *urb)
{
    struct usbip_capture *capture = builder->capture;
    if (capture->transfer_count == builder->transfer_capacity) {
        size_t capacity = builder->transfer_capacity ? builder->transfer_capacity / 2u * 3u
                                                     : FIRST_TRANSFER_CAPACITY;
        struct usbip_transfer *transfers = NULL;
        if (capacity < CAPTURE_NONE)
            transfers = realloc(capture->transfers, capacity * sizeof *transfers);
        if (!transfers) {
            capture_out_of_memory(builder);
            return CAPTURE_NONE;
        }
        capture->transfers = transfers;
        builder->transfer_capacity = (uint32_t)capacity;
    }
    struct usbip_transfer *transfer = &capture->transfers[capture->transfer_count];
    *transfer = (struct usbip_transfer){
        .device = (uint16_t)urb->device,
        .endpoint = urb->endpoint,
        .type = urb->type,
    };
    return capture->transfer_count++;
}

int capture_set_data(struct capture_builder *builder, const struct capture_record *record,
                     uint32_t index, const struct capture_urb *urb)
{
    struct usbip_transfer *transfer = &builder->capture->transfers[index];
    if (urb->size > 0 && transfer->size == 0) {
        transfer->data = capture_arena_copy(&builder->capture->arena, urb->data, urb->size);
        if (!transfer->data)
            return capture_out_of_memory(builder);
        transfer->size = urb->size;
    }
    if (urb->size < urb->wanted) {
        struct usbip_capture_device *device = &builder->capture->devices[transfer->device];
        transfer->flags |= USBIP_TRANSFER_TRUNCATED;
        if (device->truncated_record == 0 && transfer->type != USB_ENDPOINT_XFER_ISOC) {
            device->truncated_record = record->number;
            device->truncated_size = urb->size;
            device->truncated_wanted = urb->wanted;
        }
    }
    return 0;
}

uint32_t capture_submit(struct capture_builder *builder, const struct capture_record *record,
                        const struct capture_urb *urb)
{
    uint32_t index = add_transfer(builder, urb);
    if (index == CAPTURE_NONE || capture_add_pending(builder, urb, index) < 0)
        return CAPTURE_NONE;
    struct usbip_transfer *transfer = &builder->capture->transfers[index];
    transfer->submit_ns = record->time_ns;
    transfer->submit_record = record->number;
    transfer->submit_order = ++builder->order;
    transfer->requested_length = urb->length;
    transfer->flags = urb->flags;
    if (urb->setup) {
        memcpy(transfer->setup, urb->setup, sizeof transfer->setup);
        transfer->flags |= USBIP_TRANSFER_HAS_SETUP;
        struct usbip_setup setup;
        usbip_decode_setup(urb->setup, &setup);
        transfer->endpoint = usbip_setup_direction(&setup) == USBIP_DIR_IN ? USB_DIR_IN : 0;
        transfer->requested_length = setup.wLength;
        transfer->flags |= USBIP_TRANSFER_REQUESTED_KNOWN;
    }
    if (!usbip_transfer_is_in(transfer) && capture_set_data(builder, record, index, urb) < 0)
        return CAPTURE_NONE;
    return index;
}

uint32_t capture_complete(struct capture_builder *builder, const struct capture_record *record,
                          const struct capture_urb *urb)
{
    uint32_t index = capture_take_pending(builder, urb);
    /* One that is over already was unlinked under another id. */
    if (index == CAPTURE_NONE || builder->capture->transfers[index].complete_order > 0)
        index = add_transfer(builder, urb);
    if (index == CAPTURE_NONE)
        return CAPTURE_NONE;
    return capture_complete_transfer(builder, record, index, urb);
}

uint32_t capture_complete_transfer(struct capture_builder *builder,
                                   const struct capture_record *record, uint32_t index,
                                   const struct capture_urb *urb)
{
    struct usbip_transfer *transfer = &builder->capture->transfers[index];
    transfer->complete_ns = record->time_ns;
    transfer->complete_record = record->number;
    transfer->complete_order = ++builder->order;
    transfer->actual_length = urb->length;
    transfer->status = urb->status;
    transfer->flags |= urb->flags;
    if (urb->status == -USBIP_ENOENT || urb->status == -USBIP_ECONNRESET ||
        urb->status == -USBIP_ESHUTDOWN)
        transfer->flags |= USBIP_TRANSFER_UNLINKED;
    if (usbip_transfer_is_in(transfer) && capture_set_data(builder, record, index, urb) < 0)
        return CAPTURE_NONE;
    if (!(transfer->flags & USBIP_TRANSFER_REQUESTED_KNOWN) &&
        transfer->requested_length < transfer->actual_length)
        transfer->requested_length = transfer->actual_length;
    if (transfer->flags & USBIP_TRANSFER_HAS_SETUP && transfer->status == 0 &&
        capture_note_descriptor(builder, index) < 0)
        return CAPTURE_NONE;
    return index;
}

/* ---- The end ---- */

/* What the transfers of one device say of it while they are counted. */
struct traits {
    uint8_t types[USBIP_CAPTURE_ENDPOINTS]; /* of endpoints by the configuration; 0: unknown */
    unsigned families;                      /* a bit for each enum usbip_chip_family */
    bool high_speed_ftdi;                   /* if it is one */
    bool has_ftdi_status;                   /* the first IN packet has been looked at */
};

static struct usbip_capture_endpoint *count_endpoint(struct usbip_capture_device *device,
                                                     const struct usbip_transfer *transfer)
{
    uint8_t address = transfer->type == USB_ENDPOINT_XFER_CONTROL ? 0 : transfer->endpoint;
    unsigned at = 0;
    while (at < device->endpoint_count && device->endpoints[at].address < address)
        at++;
    struct usbip_capture_endpoint *endpoint = &device->endpoints[at];
    if (at < device->endpoint_count && endpoint->address == address)
        return endpoint;
    if (device->endpoint_count == USBIP_CAPTURE_ENDPOINTS)
        return NULL;
    memmove(endpoint + 1, endpoint, (device->endpoint_count - at) * sizeof *endpoint);
    device->endpoint_count++;
    *endpoint = (struct usbip_capture_endpoint){.address = address, .type = transfer->type};
    return endpoint;
}

static void count_end(struct usbip_capture_device *device, struct usbip_capture_endpoint *endpoint,
                      const struct usbip_transfer *transfer)
{
    struct usbip_capture_endpoint none = {0};
    if (!endpoint)
        endpoint = &none;
    if (transfer->flags & USBIP_TRANSFER_REFUSED) {
        device->refused++;
    } else if (transfer->flags & USBIP_TRANSFER_UNLINKED) {
        device->unlinked++;
        endpoint->unlinked++;
    } else if (transfer->status == -USBIP_EPIPE) {
        device->stalls++;
        endpoint->stalls++;
    } else if (transfer->status != 0 && transfer->status != -USBIP_EREMOTEIO) {
        device->failed++;
        endpoint->failed++;
    }
}

static void count_transfer(struct usbip_capture_device *device,
                           const struct usbip_transfer *transfer)
{
    uint64_t first = transfer->submit_record ? transfer->submit_ns : transfer->complete_ns;
    uint64_t last = transfer->complete_record ? transfer->complete_ns : transfer->submit_ns;
    if (device->transfer_count++ == 0 || first < device->first_ns)
        device->first_ns = first;
    if (last > device->last_ns)
        device->last_ns = last;
    device->injected += (transfer->flags & USBIP_TRANSFER_INJECTED) != 0;
    if (transfer->submit_record == 0 && device->without_submit++ == 0)
        device->first_without_submit = transfer->complete_record;
    if (transfer->complete_record == 0 && device->without_completion++ == 0)
        device->first_without_completion = transfer->submit_record;

    struct usbip_capture_endpoint *endpoint = count_endpoint(device, transfer);
    count_end(device, endpoint, transfer);
    if (endpoint) {
        endpoint->transfers++;
        endpoint->bytes += transfer->size;
        if (transfer->size > endpoint->longest)
            endpoint->longest = transfer->size;
    }
}

static unsigned slot_of_endpoint(uint8_t address)
{
    return (address & 0x0fu) * 2 + (address >> 7);
}

static void note_endpoint_types(struct traits *traits, const struct usbip_capture_device *device)
{
    const struct usbip_capture_descriptor *found =
        usbip_capture_find_descriptor(device, USB_DT_CONFIG, 0, 0);
    struct usbip_configuration table;
    if (!found || usbip_parse_configuration(found->data, found->size, &table) < 0)
        return;
    for (unsigned i = 0; i < table.endpoint_count; i++)
        traits->types[slot_of_endpoint(table.endpoints[i].bEndpointAddress)] =
            table.endpoints[i].bmAttributes & USB_ENDPOINT_XFERTYPE_MASK;
}

/* Some formats do not tell interrupt from bulk transfers; the configuration does. */
static void correct_type(const struct traits *traits, struct usbip_transfer *transfer)
{
    uint8_t type = traits->types[slot_of_endpoint(transfer->endpoint)];
    bool may_be_wrong =
        transfer->type == USB_ENDPOINT_XFER_BULK || transfer->type == USB_ENDPOINT_XFER_INT;
    if (may_be_wrong && (type == USB_ENDPOINT_XFER_BULK || type == USB_ENDPOINT_XFER_INT))
        transfer->type = type;
}

static void note_traits(struct traits *traits, const struct usbip_transfer *transfer)
{
    if (transfer->flags & USBIP_TRANSFER_HAS_SETUP) {
        struct usbip_setup setup;
        usbip_decode_setup(transfer->setup, &setup);
        int family = usbip_chip_family_of_request(&setup);
        if (family >= 0)
            traits->families |= 1u << family;
    } else if (!traits->has_ftdi_status && transfer->type == USB_ENDPOINT_XFER_BULK &&
               usbip_transfer_is_in(transfer) && transfer->size >= 2) {
        /* The low bits of the modem status are 1 in full-speed chips and 2 in others. */
        traits->has_ftdi_status = true;
        traits->high_speed_ftdi = (transfer->data[0] & 0x0f) == 0x02;
    }
}

static void recognise(struct usbip_capture_device *device, const struct traits *traits)
{
    const struct usbip_capture_descriptor *configuration =
        usbip_capture_find_descriptor(device, USB_DT_CONFIG, 0, 0);
    device->chip = usbip_chip_of_descriptors(device->idVendor, device->idProduct, device->bcdDevice,
                                             configuration ? configuration->data : NULL,
                                             configuration ? configuration->size : 0);
    if (device->chip || (device->has_ids && configuration))
        return;
    unsigned families = traits->families;
    /* A PL2303 has CDC's requests besides its own. */
    if (families & ~(1u << USBIP_CHIP_CDC_ACM))
        families &= ~(1u << USBIP_CHIP_CDC_ACM);
    unsigned ports = 0;
    for (unsigned i = 0; i < device->endpoint_count; i++)
        ports += device->endpoints[i].type == USB_ENDPOINT_XFER_BULK &&
                 device->endpoints[i].address & USB_DIR_IN;
    for (int family = 0; families >> family; family++) {
        if (families >> family & 1) {
            device->chip = usbip_chip_of_family((enum usbip_chip_family)family, device->bcdDevice,
                                                ports, traits->high_speed_ftdi);
            return;
        }
    }
}

static bool have_same_ids(const struct usbip_capture_device *one,
                          const struct usbip_capture_device *other)
{
    return one->has_ids && other->has_ids && one->idVendor == other->idVendor &&
           one->idProduct == other->idProduct;
}

/* The device that the one at `index` is: an earlier one with its address and ids, or itself. */
static unsigned find_same_device(const struct usbip_capture *capture, unsigned index)
{
    const struct usbip_capture_device *device = &capture->devices[index];
    for (unsigned i = index; i > 0; i--) {
        const struct usbip_capture_device *earlier = &capture->devices[i - 1];
        if (is_at(earlier, device->bus, device->address) &&
            (!device->has_ids || !earlier->has_ids || have_same_ids(device, earlier)))
            return i - 1;
        /* Some host controllers set the address themselves: no SET_ADDRESS tells. */
        if (is_at(earlier, device->bus, 0) && have_same_ids(device, earlier))
            return i - 1;
    }
    return index;
}

/* A device that was reset or attached again is still the same one. */
static void merge_devices(struct usbip_capture *capture, uint16_t *places)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < capture->device_count; i++) {
        struct usbip_capture_device *device = &capture->devices[i];
        /* Those before i are at their places already. */
        struct usbip_capture_device moved = *device;
        capture->devices[kept] = moved;
        unsigned same = find_same_device(capture, kept);
        places[i] = (uint16_t)same;
        if (same == kept) {
            kept++;
            continue;
        }
        struct usbip_capture_device *first = &capture->devices[same];
        first->address = moved.address;
        if (moved.descriptor_count >= first->descriptor_count) {
            struct usbip_capture_descriptor *descriptors = first->descriptors;
            first->descriptors = moved.descriptors;
            first->descriptor_count = moved.descriptor_count;
            moved.descriptors = descriptors;
        }
        free(moved.descriptors);
        if (!first->has_ids) {
            first->has_ids = moved.has_ids;
            first->idVendor = moved.idVendor;
            first->idProduct = moved.idProduct;
            first->bcdDevice = moved.bcdDevice;
            first->bDeviceClass = moved.bDeviceClass;
            first->bDeviceSubClass = moved.bDeviceSubClass;
            first->bDeviceProtocol = moved.bDeviceProtocol;
        }
        if (first->busid[0] == '\0')
            memcpy(first->busid, moved.busid, sizeof first->busid);
        if (moved.configuration_value)
            first->configuration_value = moved.configuration_value;
        if (first->speed == USBIP_SPEED_UNKNOWN)
            first->speed = moved.speed;
        if (first->truncated_record == 0) {
            first->truncated_record = moved.truncated_record;
            first->truncated_size = moved.truncated_size;
            first->truncated_wanted = moved.truncated_wanted;
        }
        first->lost_bytes += moved.lost_bytes;
    }
    capture->device_count = kept;
}

int capture_finish(struct capture_builder *builder)
{
    struct usbip_capture *capture = builder->capture;
    uint16_t places[USBIP_CAPTURE_MAX_DEVICES];
    merge_devices(capture, places);
    struct traits *traits = calloc(capture->device_count + 1, sizeof *traits);
    if (!traits)
        return capture_out_of_memory(builder);
    for (unsigned i = 0; i < capture->device_count; i++)
        note_endpoint_types(&traits[i], &capture->devices[i]);
    for (uint32_t i = 0; i < capture->transfer_count; i++) {
        struct usbip_transfer *transfer = &capture->transfers[i];
        transfer->device = places[transfer->device];
        correct_type(&traits[transfer->device], transfer);
        count_transfer(&capture->devices[transfer->device], transfer);
        note_traits(&traits[transfer->device], transfer);
    }
    for (unsigned i = 0; i < capture->device_count; i++)
        recognise(&capture->devices[i], &traits[i]);
    free(traits);
    return 0;
}

void capture_builder_free(struct capture_builder *builder)
{
    free(builder->pending);
}

void usbip_capture_free(struct usbip_capture *capture)
{
    if (!capture)
        return;
    for (unsigned i = 0; i < capture->device_count; i++)
        free(capture->devices[i].descriptors);
    free(capture->devices);
    free(capture->transfers);
    capture_arena_free(capture->arena);
    free(capture->path);
    free(capture);
}

/* ---- Choosing a device ---- */

/* What the user wants: one of both. */
struct wish {
    bool by_address;
    uint16_t first, second; /* bus and address, or vendor and product */
};

static bool parse_wish(const char *text, struct wish *wish)
{
    size_t digits = strspn(text, "0123456789abcdefABCDEF");
    wish->by_address = text[digits] == '.';
    if (!wish->by_address && text[digits] != ':')
        return false;
    int base = wish->by_address ? 10 : 16;
    char *end;
    unsigned long first = strtoul(text, &end, base);
    if (digits == 0 || end != text + digits)
        return false;
    const char *rest = end + 1;
    unsigned long second = strtoul(rest, &end, base);
    if (end == rest || *end || strspn(rest, "0123456789abcdefABCDEF") != (size_t)(end - rest))
        return false;
    wish->first = (uint16_t)first;
    wish->second = (uint16_t)second;
    return first <= UINT16_MAX && second <= UINT16_MAX;
}

bool usbip_capture_is_wish(const char *text)
{
    struct wish wish;
    return parse_wish(text, &wish);
}

static bool fits(const struct usbip_capture_device *device, const struct wish *wish)
{
    if (!wish)
        return true;
    if (wish->by_address)
        return is_at(device, wish->first, wish->second);
    return device->has_ids && device->idVendor == wish->first && device->idProduct == wish->second;
}

/* Serial devices before others, hubs last. */
static unsigned rank(const struct usbip_capture_device *device)
{
    if (device->chip)
        return 2;
    return !(device->has_ids && device->bDeviceClass == USB_CLASS_HUB);
}

int usbip_capture_select(const struct usbip_capture *capture, const char *wish_text,
                         char reason[USBIP_CAPTURE_REASON_SIZE],
                         char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    struct wish wish;
    if (wish_text && !parse_wish(wish_text, &wish)) {
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE,
                 "%s: neither BUS.DEV in decimal nor VID:PID in hexadecimal", wish_text);
        return -1;
    }
    int best = -1;
    unsigned count = 0, equals = 0; /* that fit, and those of them with the best one's rank */
    for (unsigned i = 0; i < capture->device_count; i++) {
        const struct usbip_capture_device *device = &capture->devices[i];
        if (!fits(device, wish_text ? &wish : NULL))
            continue;
        count++;
        unsigned best_rank = best < 0 ? 0 : rank(&capture->devices[best]);
        if (best < 0 || rank(device) > best_rank) {
            best = (int)i;
            equals = 1;
        } else if (rank(device) == best_rank) {
            equals++;
            if (device->transfer_count > capture->devices[best].transfer_count)
                best = (int)i;
        }
    }
    if (best < 0) {
        if (wish_text)
            snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE,
                     "%s: no device %s is in it; inspect without --device lists those that are",
                     capture->path, wish_text);
        else
            snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, "%s: no USB transfer is in it",
                     capture->path);
        return -1;
    }
    const struct usbip_capture_device *device = &capture->devices[best];
    if (count == 1)
        snprintf(reason, USBIP_CAPTURE_REASON_SIZE, wish_text ? "as asked for" : "the only device");
    else if (equals == 1 && device->chip)
        snprintf(reason, USBIP_CAPTURE_REASON_SIZE, "the only serial device of %u", count);
    else if (equals == 1)
        snprintf(reason, USBIP_CAPTURE_REASON_SIZE, "the only one of %u that is no hub", count);
    else
        snprintf(reason, USBIP_CAPTURE_REASON_SIZE, "the busiest of %u %s", equals,
                 device->chip ? "serial devices" : "devices, none of which is serial");
    if (device->truncated_record > 0) {
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE,
                 "%s: record %u: the recorder kept %u of the %u bytes that device %u.%u "
                 "transferred; record again with a larger snap length or buffer",
                 capture->path, device->truncated_record, device->truncated_size,
                 device->truncated_wanted, device->bus, device->address);
        return -1;
    }
    return best;
}
