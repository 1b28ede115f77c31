/*
 * libpcap refuses pcapng files whose interfaces differ in link type or snap length, and those with
 * several of LINKTYPE_RAW. The filter here hands on the interfaces of one kind, those with USB and
 * most packets, and makes libpcap believe that they are all alike.
 *
 * Source: the pcapng specification (draft-ietf-opsawg-pcapng).
 */
#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/capture/capture_internal.h"
#include "protocol/buffer.h"
#include "protocol/bytes.h"

enum {
    BLOCK_INTERFACE = 1,
    BLOCK_PACKET = 2, /* obsolete */
    BLOCK_SIMPLE_PACKET = 3,
    BLOCK_ENHANCED_PACKET = 6,
    BLOCK_SECTION = 0x0a0d0d0a,
    BYTE_ORDER_MAGIC = 0x1a2b3c4d,
};

enum { LINKTYPE_RAW = 101 };

enum {
    MIN_BLOCK_SIZE = 12,
    MAX_BLOCK_SIZE = 16 << 20, /* libpcap's own limit */
    MIN_INTERFACE_SIZE = 20,
    /* Byte offsets. */
    SECTION_MAGIC = 8,
    INTERFACE_LINK_TYPE = 8,
    INTERFACE_SNAP_LENGTH = 12,
    PACKET_INTERFACE = 8,
    MAX_INTERFACES = 1024, /* that are looked at */
    MAX_SNAP_LENGTH = 128 << 20,
};

struct interface {
    uint16_t link_type;
    uint32_t snap_length, packets;
};

/* From record `from` on, as libpcap counts, `left_out` records of the file were left out. */
struct shift {
    uint32_t from, left_out;
};

struct capture_pcapng_filter {
    void *file;
    long (*read)(void *file, void *bytes, size_t size);
    uint16_t link_type; /* of the interfaces that are handed on */
    struct usbip_buffer block;
    size_t taken; /* of the block */
    bool big_endian;
    struct interface interfaces[MAX_INTERFACES]; /* of the present section */
    unsigned interface_count;
    uint32_t handed_on, left_out; /* records */
    struct shift *shifts;
    size_t shift_count, shift_capacity;
};

static uint32_t load32(const struct capture_pcapng_filter *filter, size_t offset)
{
    const uint8_t *bytes = filter->block.data + offset;
    return filter->big_endian ? usbip_load_be32(bytes) : usbip_load_le32(bytes);
}

static uint16_t load16(const struct capture_pcapng_filter *filter, size_t offset)
{
    const uint8_t *bytes = filter->block.data + offset;
    return filter->big_endian ? usbip_load_be16(bytes) : usbip_load_le16(bytes);
}

/* ---- Blocks ---- */

/* Reads more of the block. Returns false at the end of the file or an error. */
static bool read_more(struct capture_pcapng_filter *filter, size_t size)
{
    while (size > 0) {
        uint8_t *room = usbip_buffer_reserve(&filter->block, size);
        if (!room)
            return false;
        long count = filter->read(filter->file, room, size);
        if (count <= 0)
            return false;
        filter->block.size += (size_t)count;
        size -= (size_t)count;
    }
    return true;
}

/* The next block of the file. Returns false when there is no whole and sensible one; what there is
 * of it is then in filter->block, for libpcap to complain about. */
static bool read_block(struct capture_pcapng_filter *filter)
{
    filter->block.size = 0;
    filter->taken = 0;
    if (!read_more(filter, MIN_BLOCK_SIZE))
        return false;
    /* The type of a section header reads the same in both orders. */
    if (load32(filter, 0) == BLOCK_SECTION)
        filter->big_endian =
            usbip_load_be32(filter->block.data + SECTION_MAGIC) == BYTE_ORDER_MAGIC;
    uint32_t size = load32(filter, 4);
    return size >= MIN_BLOCK_SIZE && size <= MAX_BLOCK_SIZE && size % 4 == 0 &&
           read_more(filter, size - MIN_BLOCK_SIZE);
}

/* The interface of a block with a packet; NULL: it holds none, or of no interface. */
static struct interface *interface_of(struct capture_pcapng_filter *filter)
{
    uint32_t index;
    switch (load32(filter, 0)) {
    case BLOCK_ENHANCED_PACKET:
        index = load32(filter, PACKET_INTERFACE);
        break;
    case BLOCK_PACKET:
        index = load16(filter, PACKET_INTERFACE);
        break;
    case BLOCK_SIMPLE_PACKET:
        index = 0;
        break;
    default:
        return NULL;
    }
    return index < filter->interface_count ? &filter->interfaces[index] : NULL;
}

static void note_interface(struct capture_pcapng_filter *filter)
{
    uint32_t type = load32(filter, 0);
    if (type == BLOCK_SECTION)
        filter->interface_count = 0;
    if (type != BLOCK_INTERFACE || filter->block.size < MIN_INTERFACE_SIZE ||
        filter->interface_count == MAX_INTERFACES)
        return;
    filter->interfaces[filter->interface_count++] = (struct interface){
        .link_type = load16(filter, INTERFACE_LINK_TYPE),
        .snap_length = load32(filter, INTERFACE_SNAP_LENGTH),
    };
}

/* ---- Looking through ---- */

/* Packets of each link type, over all sections. */
struct census {
    struct interface kinds[MAX_INTERFACES];
    unsigned count;
    bool differ; /* interfaces, in link type or snap length */
};

static void count_block(struct census *census, struct capture_pcapng_filter *filter)
{
    unsigned interfaces = filter->interface_count;
    note_interface(filter);
    const struct interface *of_packet = interface_of(filter);
    const struct interface *interface = of_packet;
    if (filter->interface_count > interfaces)
        interface = &filter->interfaces[interfaces];
    if (!interface)
        return;
    unsigned i = 0;
    while (i < census->count && census->kinds[i].link_type != interface->link_type)
        i++;
    if (i == MAX_INTERFACES)
        return;
    if (i == census->count)
        census->kinds[census->count++] = *interface;
    census->differ |= i > 0 || census->kinds[i].snap_length != interface->snap_length ||
                      interface->link_type == LINKTYPE_RAW;
    census->kinds[i].packets += of_packet != NULL;
}

/* The number that libpcap gives a link type: another one only to this one of those here. */
static uint16_t libpcap_link_type(uint16_t link_type)
{
    return link_type == LINKTYPE_RAW ? DLT_RAW : link_type;
}

/* The kind with most packets of those that can be read; USB before a network. */
static uint16_t choose(const struct census *census)
{
    const struct interface *best = &census->kinds[0];
    int best_rank = -1;
    for (unsigned i = 0; i < census->count; i++) {
        const struct interface *kind = &census->kinds[i];
        const struct capture_format *format =
            capture_find_format(libpcap_link_type(kind->link_type));
        int rank = 0;
        if (format && kind->packets > 0)
            rank = format->is_network ? 1 : 2;
        if (rank > best_rank || (rank == best_rank && kind->packets > best->packets)) {
            best = kind;
            best_rank = rank;
        }
    }
    return best->link_type;
}

struct capture_pcapng_filter *
capture_pcapng_filter_new(void *file, long (*read)(void *file, void *bytes, size_t size),
                          bool *failed)
{
    struct capture_pcapng_filter *filter = calloc(1, sizeof *filter);
    struct census *census = calloc(1, sizeof *census);
    *failed = !filter || !census;
    bool needed = false;
    if (!*failed) {
        filter->file = file;
        filter->read = read;
        while (read_block(filter))
            count_block(census, filter);
        needed = census->differ;
        filter->link_type = needed ? choose(census) : 0;
        filter->block.size = filter->taken = 0;
        filter->interface_count = 0;
    }
    free(census);
    if (needed)
        return filter;
    capture_pcapng_filter_free(filter);
    return NULL;
}

/* ---- Handing on ---- */

static bool add_shift(struct capture_pcapng_filter *filter)
{
    if (filter->shift_count == filter->shift_capacity) {
        size_t capacity = filter->shift_capacity ? 2 * filter->shift_capacity : 16;
        struct shift *shifts = realloc(filter->shifts, capacity * sizeof *shifts);
        if (!shifts)
            return false;
        filter->shifts = shifts;
        filter->shift_capacity = capacity;
    }
    filter->shifts[filter->shift_count++] = (struct shift){filter->handed_on + 1, filter->left_out};
    return true;
}

static void store32(const struct capture_pcapng_filter *filter, size_t offset, uint32_t value)
{
    if (filter->big_endian)
        usbip_store_be32(filter->block.data + offset, value);
    else
        usbip_store_le32(filter->block.data + offset, value);
}

/* Makes the block one that libpcap takes. Returns false when it is to be left out. */
static bool adapt_block(struct capture_pcapng_filter *filter)
{
    unsigned interfaces = filter->interface_count;
    note_interface(filter);
    if (filter->interface_count > interfaces) {
        /* libpcap compares its own number with the one in the file. */
        uint8_t *link_type = filter->block.data + INTERFACE_LINK_TYPE;
        if (filter->big_endian)
            usbip_store_be16(link_type, libpcap_link_type(filter->link_type));
        else
            usbip_store_le16(link_type, libpcap_link_type(filter->link_type));
        store32(filter, INTERFACE_SNAP_LENGTH, MAX_SNAP_LENGTH);
        return true;
    }
    const struct interface *interface = interface_of(filter);
    if (!interface)
        return true;
    if (interface->link_type == filter->link_type) {
        filter->handed_on++;
        return true;
    }
    filter->left_out++;
    /* Several in a row are one shift. */
    if (filter->shift_count > 0 &&
        filter->shifts[filter->shift_count - 1].from == filter->handed_on + 1)
        filter->shifts[filter->shift_count - 1].left_out = filter->left_out;
    else if (!add_shift(filter))
        filter->shift_count = 0; /* numbers are only for people */
    return false;
}

long capture_pcapng_filter_read(struct capture_pcapng_filter *filter, void *bytes, size_t size)
{
    while (filter->taken == filter->block.size) {
        if (read_block(filter)) {
            if (!adapt_block(filter))
                filter->taken = filter->block.size;
        } else if (filter->block.size == 0) {
            return 0;
        } else {
            break; /* damaged: libpcap says how, when it gets there */
        }
    }
    size_t count = filter->block.size - filter->taken;
    if (count > size)
        count = size;
    memcpy(bytes, filter->block.data + filter->taken, count);
    filter->taken += count;
    return (long)count;
}

uint32_t capture_pcapng_filter_record(const struct capture_pcapng_filter *filter, uint32_t record)
{
    size_t low = 0, high = filter->shift_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (filter->shifts[middle].from <= record)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? record : record + filter->shifts[low - 1].left_out;
}

uint32_t capture_pcapng_filter_left_out(const struct capture_pcapng_filter *filter)
{
    return filter->left_out;
}

void capture_pcapng_filter_free(struct capture_pcapng_filter *filter)
{
    if (!filter)
        return;
    usbip_buffer_free(&filter->block);
    free(filter->shifts);
    free(filter);
}
