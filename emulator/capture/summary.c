/* What all transfers together say: which devices there are, their counts and chips. */
#include <stdlib.h>
#include <string.h>

#include "emulator/capture/capture_internal.h"
#include "emulator/capture/chip.h"
#include "protocol/configuration.h"
#include "protocol/ftdi.h"

/* What the transfers of one device say of it while they are counted. */
struct traits {
    uint8_t types[USBIP_CAPTURE_ENDPOINTS]; /* of endpoints by the configuration; 0: unknown */
    unsigned families;                      /* a bit for each enum usbip_chip_family */
    /* Bulk IN transfers with data: how many there are, how many of them are what an idle FTDI chip
     * sends, and whether all begin like its status. */
    uint32_t bulk_in, idle;
    bool not_ftdi;
    bool high_speed_ftdi; /* if it is one, by the first of them */
};

/* So many packets that look like an FTDI chip's are no accident. */
enum { ENOUGH_FTDI_STATUS = 4 };

/* There is room: more addresses than USBIP_CAPTURE_ENDPOINTS do not exist. */
static struct usbip_capture_endpoint *count_endpoint(struct usbip_capture_device *device,
                                                     const struct usbip_capture_transfer *transfer)
{
    uint8_t address = transfer->type == USB_ENDPOINT_XFER_CONTROL ? 0 : transfer->endpoint;
    unsigned at = 0;
    while (at < device->endpoint_count && device->endpoints[at].address < address)
        at++;
    struct usbip_capture_endpoint *endpoint = &device->endpoints[at];
    if (at < device->endpoint_count && endpoint->address == address)
        return endpoint;
    memmove(endpoint + 1, endpoint, (device->endpoint_count - at) * sizeof *endpoint);
    device->endpoint_count++;
    *endpoint = (struct usbip_capture_endpoint){.address = address, .type = transfer->type};
    return endpoint;
}

static void count_end(struct usbip_capture_device *device, struct usbip_capture_endpoint *endpoint,
                      const struct usbip_capture_transfer *transfer)
{
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
                           const struct usbip_capture_transfer *transfer)
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
    endpoint->transfers++;
    endpoint->bytes += transfer->size;
    if (transfer->size > endpoint->longest)
        endpoint->longest = transfer->size;
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
static void correct_type(const struct traits *traits, struct usbip_capture_transfer *transfer)
{
    uint8_t type = traits->types[slot_of_endpoint(transfer->endpoint)];
    bool may_be_wrong =
        transfer->type == USB_ENDPOINT_XFER_BULK || transfer->type == USB_ENDPOINT_XFER_INT;
    if (may_be_wrong && (type == USB_ENDPOINT_XFER_BULK || type == USB_ENDPOINT_XFER_INT))
        transfer->type = type;
}

/* The low bits of the modem status are 1 in full-speed chips and 2 in others. */
static void note_bulk_in(struct traits *traits, const struct usbip_capture_transfer *transfer)
{
    const uint8_t sent = FTDI_LINE_STATUS_THRE | FTDI_LINE_STATUS_TEMT;
    uint8_t low_bits = transfer->data[0] & 0x0f;
    bool has_no_data = transfer->size == FTDI_STATUS_SIZE;
    if (traits->bulk_in++ == 0)
        traits->high_speed_ftdi = low_bits == 0x02;
    traits->idle += has_no_data && transfer->data[1] == sent;
    traits->not_ftdi |= transfer->size < FTDI_STATUS_SIZE ||
                        low_bits != (traits->high_speed_ftdi ? 0x02 : 0x01) ||
                        (has_no_data && (transfer->data[1] & ~sent) != 0);
}

static void note_traits(struct traits *traits, const struct usbip_capture_transfer *transfer)
{
    if (transfer->flags & USBIP_TRANSFER_HAS_SETUP) {
        struct usbip_setup setup;
        usbip_decode_setup(transfer->setup, &setup);
        int family = usbip_chip_family_of_request(&setup);
        if (family >= 0)
            traits->families |= 1u << family;
    } else if (transfer->type == USB_ENDPOINT_XFER_BULK && usbip_transfer_is_in(transfer) &&
               transfer->size > 0) {
        note_bulk_in(traits, transfer);
    }
}

/* The families that requests show, of which the packets must say nothing else. */
static unsigned find_families(const struct usbip_capture_device *device,
                              const struct traits *traits, bool has_configuration)
{
    const unsigned ftdi = 1u << USBIP_CHIP_FTDI, cdc_acm = 1u << USBIP_CHIP_CDC_ACM;
    unsigned families = traits->families;
    bool like_ftdi = !traits->not_ftdi && traits->idle > 0;
    /* Vendors give FTDI's chips ids of their own. */
    if (device->has_ids && has_configuration)
        return like_ftdi ? families & ftdi : 0;
    if (families == 0 && like_ftdi && traits->bulk_in >= ENOUGH_FTDI_STATUS)
        return ftdi;
    /* A PL2303 has CDC's requests besides its own. */
    return families & ~cdc_acm ? families & ~cdc_acm : families;
}

static void recognise(struct usbip_capture_device *device, const struct traits *traits)
{
    const struct usbip_capture_descriptor *configuration =
        usbip_capture_find_descriptor(device, USB_DT_CONFIG, 0, 0);
    device->chip = usbip_chip_of_descriptors(device->idVendor, device->idProduct, device->bcdDevice,
                                             configuration ? configuration->data : NULL,
                                             configuration ? configuration->size : 0);
    if (device->chip)
        return;
    unsigned families = find_families(device, traits, configuration != NULL);
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
        if (capture_device_is_at(earlier, device->bus, device->address) &&
            (!device->has_ids || !earlier->has_ids || have_same_ids(device, earlier)))
            return i - 1;
        /* Some host controllers set the address themselves: no SET_ADDRESS tells. */
        if (capture_device_is_at(earlier, device->bus, 0) && have_same_ids(device, earlier))
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
        struct usbip_capture_transfer *transfer = &capture->transfers[i];
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
