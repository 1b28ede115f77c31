#include "emulator/capture/tcp_packet.h"

#include <string.h>

#include "protocol/bytes.h"

enum {
    MAX_EXTENSION_HEADERS = 8,
    MAX_VLAN_TAGS = 4,
};

enum {
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86dd,
    ETHERTYPE_VLAN = 0x8100,
    ETHERTYPE_QINQ = 0x88a8,
};

enum {
    PROTOCOL_HOP_BY_HOP = 0,
    PROTOCOL_TCP = 6,
    PROTOCOL_ROUTING = 43,
    PROTOCOL_DESTINATION_OPTIONS = 60,
};

enum {
    VLAN_TAG_SIZE = 4,
    IPV4_HEADER_SIZE = 20,
    IPV6_HEADER_SIZE = 40,
    TCP_HEADER_SIZE = 20,
};

/* Returns false for all that is no TCP segment, or no whole header of one. `left` is how much of
 * the packet there was, `size` how much the recorder kept. */
static bool parse_tcp(struct packet *packet, const uint8_t *bytes, size_t size, size_t left)
{
    if (size < TCP_HEADER_SIZE || left < TCP_HEADER_SIZE)
        return false;
    size_t header_size = (size_t)(bytes[12] >> 4) * 4;
    if (header_size < TCP_HEADER_SIZE || header_size > left)
        return false;
    packet->source.port = usbip_load_be16(bytes);
    packet->destination.port = usbip_load_be16(bytes + 2);
    packet->sequence = usbip_load_be32(bytes + 4);
    packet->acknowledgement = usbip_load_be32(bytes + 8);
    packet->flags = bytes[13];
    if (size > left)
        size = left; /* the padding of a small Ethernet frame */
    size_t there = size > header_size ? size - header_size : 0;
    packet->payload = bytes + (there > 0 ? header_size : 0);
    packet->size = (uint32_t)there;
    packet->missing = (uint32_t)(left - header_size - there);
    return true;
}

static bool parse_ipv4(struct packet *packet, const uint8_t *bytes, size_t size, size_t left)
{
    if (size < IPV4_HEADER_SIZE)
        return false;
    size_t header_size = (size_t)(bytes[0] & 0x0f) * 4;
    size_t total = usbip_load_be16(bytes + 2);
    /* The kernel leaves it to the network card to fill in. */
    if (total == 0 || total > left)
        total = left;
    bool is_fragment = usbip_load_be16(bytes + 6) & 0x3fff;
    if (header_size < IPV4_HEADER_SIZE || header_size > size || header_size > total ||
        bytes[9] != PROTOCOL_TCP || is_fragment)
        return false;
    memcpy(packet->source.address, bytes + 12, 4);
    memcpy(packet->destination.address, bytes + 16, 4);
    return parse_tcp(packet, bytes + header_size, size - header_size, total - header_size);
}

static bool parse_ipv6(struct packet *packet, const uint8_t *bytes, size_t size, size_t left)
{
    if (size < IPV6_HEADER_SIZE)
        return false;
    size_t total = usbip_load_be16(bytes + 4) + (size_t)IPV6_HEADER_SIZE;
    if (total == IPV6_HEADER_SIZE || total > left)
        total = left;
    uint8_t protocol = bytes[6];
    memcpy(packet->source.address, bytes + 8, IP_ADDRESS_SIZE);
    memcpy(packet->destination.address, bytes + 24, IP_ADDRESS_SIZE);
    size_t at = IPV6_HEADER_SIZE;
    for (unsigned i = 0; i < MAX_EXTENSION_HEADERS; i++) {
        if (protocol != PROTOCOL_HOP_BY_HOP && protocol != PROTOCOL_ROUTING &&
            protocol != PROTOCOL_DESTINATION_OPTIONS)
            break;
        if (size < at + 2)
            return false;
        protocol = bytes[at];
        at += ((size_t)bytes[at + 1] + 1) * 8;
    }
    if (protocol != PROTOCOL_TCP || at > size || at > total)
        return false;
    return parse_tcp(packet, bytes + at, size - at, total - at);
}

bool tcp_parse_ip(struct packet *packet, const struct capture_record *record, size_t offset)
{
    if (record->size <= offset)
        return false;
    const uint8_t *bytes = record->bytes + offset;
    size_t size = record->size - offset, left = record->original_size - offset;
    switch (bytes[0] >> 4) {
    case 4:
        return parse_ipv4(packet, bytes, size, left);
    case 6:
        return parse_ipv6(packet, bytes, size, left);
    default:
        return false;
    }
}

bool tcp_parse_ethertype(struct packet *packet, const struct capture_record *record,
                         size_t type_offset, size_t offset)
{
    if (record->size < offset)
        return false;
    uint16_t type = usbip_load_be16(record->bytes + type_offset);
    for (unsigned i = 0; i < MAX_VLAN_TAGS && (type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ);
         i++) {
        if (record->size < offset + VLAN_TAG_SIZE)
            return false;
        type = usbip_load_be16(record->bytes + offset + 2);
        offset += VLAN_TAG_SIZE;
    }
    return (type == ETHERTYPE_IPV4 || type == ETHERTYPE_IPV6) &&
           tcp_parse_ip(packet, record, offset);
}
