/* TCP segments in packets of a network, whatever the link layer. */
#ifndef EMULATOR_CAPTURE_TCP_PACKET_H
#define EMULATOR_CAPTURE_TCP_PACKET_H

#include "emulator/capture/capture_internal.h"

enum { TCP_SYN = 0x02, TCP_ACK = 0x10 };

enum {
    /* Where link layers end, and the type of what follows. */
    ETHERNET_TYPE = 12,
    ETHERNET_HEADER_SIZE = 14,
    SLL_TYPE = 14,
    SLL_HEADER_SIZE = 16,
    SLL2_TYPE = 0,
    SLL2_HEADER_SIZE = 20,
    LOOPBACK_HEADER_SIZE = 4,
    IP_ADDRESS_SIZE = 16,
};

/* One end of a connection. IPv4 addresses fill four bytes. */
struct end_point {
    uint8_t address[IP_ADDRESS_SIZE];
    uint16_t port;
};

/* What a packet says. */
struct packet {
    struct end_point source, destination;
    uint32_t sequence, acknowledgement;
    uint8_t flags;
    const uint8_t *payload;
    uint32_t size, missing; /* missing: cut off by the recorder */
};

/* Both return false for all that is no TCP segment, or no whole header of one. The packet is all
 * zero before. */
bool tcp_parse_ip(struct packet *packet, const struct capture_record *record, size_t offset);
/* What follows at `offset` is told by an EtherType. */
bool tcp_parse_ethertype(struct packet *packet, const struct capture_record *record,
                         size_t type_offset, size_t offset);

#endif
