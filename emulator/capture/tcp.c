/*
 * USB/IP in captures of a network: connections and the reassembly of their streams. What packets
 * say is tcp_packet.c's, what the streams say usbip_stream.c's.
 */
#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/capture/tcp_packet.h"
#include "emulator/capture/usbip_stream.h"

enum {
    CONNECTION_BUCKETS = 4096,
    MAX_CONNECTIONS = 65536,
    MAX_WAITING_SIZE = 1 << 20, /* of segments that came before their turn */
    MAX_WAITING_SEGMENTS = 1024,
    /* Packets of the peer that acknowledge a segment which is not in the file. A recorder may swap
     * packets, but not by more. */
    MAX_AHEAD = 32,
    MAX_GAP = 64 << 20, /* bytes; a larger one is another connection's number */
};

/* Bytes that came before those that belong in front of them. */
struct segment {
    struct segment *next;
    uint32_t sequence, size, missing; /* missing: cut off by the recorder, behind size */
    bool has_acknowledgement;
    uint32_t acknowledgement;
    struct capture_record record; /* without its bytes */
    uint8_t bytes[];
};

struct half {
    bool started;
    uint32_t next;           /* sequence number of the byte that is due */
    struct segment *waiting; /* in order of their sequence numbers */
    size_t waiting_size;
    unsigned waiting_count;
    unsigned ahead; /* packets of the peer that acknowledge more than was delivered */
};

struct connection {
    struct connection *next;
    struct end_point ends[2]; /* the smaller one first; halves[0] is what it sends */
    struct half halves[2];
    struct capture_usbip_stream *stream;
};

struct state {
    struct connection *buckets[CONNECTION_BUCKETS];
    uint32_t connection_count, stream_count;
};

/* ---- Streams ---- */

static int deliver(struct capture_builder *builder, struct connection *connection,
                   unsigned direction, const struct capture_record *record, const uint8_t *bytes,
                   uint32_t size, uint32_t missing)
{
    struct capture_usbip_stream *stream = connection->stream;
    struct half *half = &connection->halves[direction];
    half->next += size + missing;
    half->ahead = 0;
    if (capture_usbip_stream_is_foreign(stream))
        return 0;
    if (size > 0 && capture_usbip_stream_feed(builder, stream, direction, record, bytes, size) < 0)
        return -1;
    if (missing == 0)
        return 0;
    if (capture_usbip_stream_is_known(stream))
        return capture_fail(builder, record->number,
                            "the recorder kept %u of the %u bytes of its TCP segment; record again "
                            "with a larger snap length",
                            size, size + missing);
    capture_usbip_stream_skip(builder, stream, direction, missing);
    return 0;
}

static int take_first_waiting(struct capture_builder *builder, struct connection *connection,
                              unsigned direction)
{
    struct half *half = &connection->halves[direction];
    struct segment *segment = half->waiting;
    uint32_t overlap = half->next - segment->sequence, end = segment->size + segment->missing;
    int result = 0;
    half->waiting = segment->next;
    half->waiting_size -= segment->size;
    half->waiting_count--;
    if (overlap < segment->size)
        result = deliver(builder, connection, direction, &segment->record, segment->bytes + overlap,
                         segment->size - overlap, segment->missing);
    else if (overlap < end)
        result = deliver(builder, connection, direction, &segment->record, NULL, 0, end - overlap);
    free(segment);
    return result;
}

/* Whether the sender of this had received more from its peer than was delivered: then that comes
 * first, so that no reply is before its request. */
static bool is_ahead(const struct connection *connection, unsigned direction,
                     bool has_acknowledgement, uint32_t acknowledgement)
{
    const struct half *peer = &connection->halves[!direction];
    uint32_t gap = acknowledgement - peer->next;
    return has_acknowledgement && peer->started && gap > 0 && gap <= MAX_GAP;
}

static bool is_in_turn(const struct half *half)
{
    return half->waiting && (int32_t)(half->waiting->sequence - half->next) <= 0;
}

static bool is_due(const struct connection *connection, unsigned direction)
{
    const struct segment *segment = connection->halves[direction].waiting;
    return is_in_turn(&connection->halves[direction]) &&
           !is_ahead(connection, direction, segment->has_acknowledgement, segment->acknowledgement);
}

/* Delivers the segments whose turn has come, of both directions. */
static int drain(struct capture_builder *builder, struct connection *connection)
{
    for (;;) {
        unsigned direction = is_due(connection, 0) ? 0 : 1;
        if (!is_due(connection, direction))
            return 0;
        if (take_first_waiting(builder, connection, direction) < 0)
            return -1;
    }
}

/* What is missing before `sequence` will not come any more. */
static void skip_to(struct capture_builder *builder, struct connection *connection,
                    unsigned direction, uint32_t sequence)
{
    struct half *half = &connection->halves[direction];
    if (!capture_usbip_stream_is_foreign(connection->stream))
        capture_usbip_stream_skip(builder, connection->stream, direction, sequence - half->next);
    half->next = sequence;
    half->ahead = 0;
}

/* Nor does what is missing here and was acknowledged up to this number. */
static int skip_acknowledged(struct capture_builder *builder, struct connection *connection,
                             unsigned direction, uint32_t acknowledgement)
{
    const struct half *half = &connection->halves[direction];
    if (is_in_turn(half)) {
        /* Both wait for each other, which no real connection does. */
        if (take_first_waiting(builder, connection, direction) < 0)
            return -1;
    } else if (half->waiting && (int32_t)(half->waiting->sequence - acknowledgement) < 0) {
        skip_to(builder, connection, direction, half->waiting->sequence);
    } else {
        skip_to(builder, connection, direction, acknowledgement);
    }
    return drain(builder, connection);
}

/* The first segment that waits in this direction does so no longer for what is before it. */
static int stop_waiting(struct capture_builder *builder, struct connection *connection,
                        unsigned direction)
{
    const struct half *half = &connection->halves[direction];
    if (is_in_turn(half))
        return skip_acknowledged(builder, connection, !direction, half->waiting->acknowledgement);
    skip_to(builder, connection, direction, half->waiting->sequence);
    return drain(builder, connection);
}

static int flush(struct capture_builder *builder, struct connection *connection)
{
    for (unsigned direction = 0; direction < 2; direction++) {
        while (connection->halves[direction].waiting) {
            if (stop_waiting(builder, connection, direction) < 0)
                return -1;
        }
    }
    return 0;
}

static int keep(struct capture_builder *builder, struct connection *connection, unsigned direction,
                const struct capture_record *record, const struct packet *packet)
{
    struct half *half = &connection->halves[direction];
    struct segment *segment = malloc(sizeof *segment + packet->size);
    if (!segment)
        return capture_out_of_memory(builder);
    *segment = (struct segment){
        .sequence = packet->sequence,
        .size = packet->size,
        .missing = packet->missing,
        .has_acknowledgement = packet->flags & TCP_ACK,
        .acknowledgement = packet->acknowledgement,
        .record = *record,
    };
    if (packet->size > 0)
        memcpy(segment->bytes, packet->payload, packet->size);
    struct segment **link = &half->waiting;
    while (*link && (int32_t)((*link)->sequence - segment->sequence) <= 0)
        link = &(*link)->next;
    segment->next = *link;
    *link = segment;
    half->waiting_size += segment->size;
    half->waiting_count++;
    if (half->waiting_size > MAX_WAITING_SIZE || half->waiting_count > MAX_WAITING_SEGMENTS)
        return stop_waiting(builder, connection, direction);
    return 0;
}

static int take_payload(struct capture_builder *builder, struct connection *connection,
                        unsigned direction, const struct capture_record *record,
                        const struct packet *packet)
{
    struct half *half = &connection->halves[direction];
    if (!half->started) {
        half->started = true;
        half->next = packet->sequence;
    }
    uint32_t overlap = half->next - packet->sequence, end = packet->size + packet->missing;
    if ((int32_t)overlap < 0 ||
        is_ahead(connection, direction, packet->flags & TCP_ACK, packet->acknowledgement))
        return keep(builder, connection, direction, record, packet);
    int result = 0;
    if (overlap < packet->size)
        result = deliver(builder, connection, direction, record, packet->payload + overlap,
                         packet->size - overlap, packet->missing);
    else if (overlap < end)
        result = deliver(builder, connection, direction, record, NULL, 0, end - overlap);
    return result < 0 ? -1 : drain(builder, connection);
}

/* ---- Connections ---- */

static int compare_ends(const struct end_point *a, const struct end_point *b)
{
    int order = memcmp(a->address, b->address, IP_ADDRESS_SIZE);
    return order != 0 ? order : (int)a->port - (int)b->port;
}

static uint32_t hash_ends(const struct end_point *a, const struct end_point *b)
{
    /* FNV-1a over both. */
    uint32_t hash = 2166136261u;
    for (unsigned i = 0; i < IP_ADDRESS_SIZE; i++) {
        hash = (hash ^ a->address[i]) * 16777619u;
        hash = (hash ^ b->address[i]) * 16777619u;
    }
    hash = (hash ^ a->port) * 16777619u;
    return (hash ^ b->port) * 16777619u;
}

static int open_stream(struct capture_builder *builder, struct state *state,
                       struct connection *connection)
{
    bool expected =
        connection->ends[0].port == USBIP_PORT || connection->ends[1].port == USBIP_PORT;
    capture_usbip_stream_free(connection->stream);
    connection->stream = capture_usbip_stream_new(++state->stream_count, expected);
    return connection->stream ? 0 : capture_out_of_memory(builder);
}

static struct connection *find_connection(struct capture_builder *builder, struct state *state,
                                          const struct end_point *first,
                                          const struct end_point *second)
{
    struct connection **bucket = &state->buckets[hash_ends(first, second) % CONNECTION_BUCKETS];
    for (struct connection *c = *bucket; c; c = c->next) {
        if (compare_ends(&c->ends[0], first) == 0 && compare_ends(&c->ends[1], second) == 0)
            return c;
    }
    if (state->connection_count == MAX_CONNECTIONS) {
        capture_fail(builder, 0,
                     "more than %d TCP connections; take out the others, for example "
                     "with: tcpdump -r FILE -w NEW port 3240",
                     MAX_CONNECTIONS);
        return NULL;
    }
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        capture_out_of_memory(builder);
        return NULL;
    }
    connection->ends[0] = *first;
    connection->ends[1] = *second;
    connection->next = *bucket;
    *bucket = connection;
    state->connection_count++;
    return open_stream(builder, state, connection) < 0 ? NULL : connection;
}

/* A SYN with another number than this direction has had: the ports are used for a new connection.
 */
static int take_syn(struct capture_builder *builder, struct state *state,
                    struct connection *connection, unsigned direction, const struct packet *packet)
{
    struct half *half = &connection->halves[direction];
    if (half->started && half->next == packet->sequence + 1)
        return 0;
    if (half->started && !(packet->flags & TCP_ACK)) {
        if (flush(builder, connection) < 0 || open_stream(builder, state, connection) < 0)
            return -1;
        connection->halves[!direction] = (struct half){0};
    }
    *half = (struct half){.started = true,
                          .next = packet->sequence + 1,
                          .waiting = half->waiting,
                          .waiting_size = half->waiting_size,
                          .waiting_count = half->waiting_count};
    return 0;
}

static int take_packet(struct capture_builder *builder, struct state *state,
                       const struct capture_record *record, struct packet *packet)
{
    unsigned direction = compare_ends(&packet->source, &packet->destination) > 0;
    const struct end_point *first = direction == 0 ? &packet->source : &packet->destination;
    const struct end_point *second = direction == 0 ? &packet->destination : &packet->source;
    if (packet->size + packet->missing == 0 && !(packet->flags & (TCP_SYN | TCP_ACK)))
        return 0;
    struct connection *connection = find_connection(builder, state, first, second);
    if (!connection)
        return -1;
    if (packet->flags & TCP_SYN) {
        if (take_syn(builder, state, connection, direction, packet) < 0)
            return -1;
        packet->sequence++;
    }
    if (is_ahead(connection, direction, packet->flags & TCP_ACK, packet->acknowledgement) &&
        ++connection->halves[!direction].ahead > MAX_AHEAD &&
        skip_acknowledged(builder, connection, !direction, packet->acknowledgement) < 0)
        return -1;
    if (packet->size + packet->missing == 0)
        return 0;
    return take_payload(builder, connection, direction, record, packet);
}

/* ---- Link layers ---- */

static int finish_record(struct capture_builder *builder, void *state,
                         const struct capture_record *record, bool is_tcp, struct packet *packet)
{
    if (is_tcp)
        return take_packet(builder, state, record, packet);
    builder->capture->skipped_records++;
    return 0;
}

static int read_ethernet(struct capture_builder *builder, void *state,
                         const struct capture_record *record)
{
    struct packet packet = {0};
    return finish_record(builder, state, record,
                         tcp_parse_ethertype(&packet, record, ETHERNET_TYPE, ETHERNET_HEADER_SIZE),
                         &packet);
}

static int read_cooked(struct capture_builder *builder, void *state,
                       const struct capture_record *record)
{
    struct packet packet = {0};
    return finish_record(builder, state, record,
                         tcp_parse_ethertype(&packet, record, SLL_TYPE, SLL_HEADER_SIZE), &packet);
}

static int read_cooked_2(struct capture_builder *builder, void *state,
                         const struct capture_record *record)
{
    struct packet packet = {0};
    return finish_record(builder, state, record,
                         tcp_parse_ethertype(&packet, record, SLL2_TYPE, SLL2_HEADER_SIZE),
                         &packet);
}

static int read_raw(struct capture_builder *builder, void *state,
                    const struct capture_record *record)
{
    struct packet packet = {0};
    return finish_record(builder, state, record, tcp_parse_ip(&packet, record, 0), &packet);
}

/* The address family in front is in the recording host's order, and its numbers differ by system:
 * the version in the IP header says the same. */
static int read_loopback(struct capture_builder *builder, void *state,
                         const struct capture_record *record)
{
    struct packet packet = {0};
    return finish_record(builder, state, record,
                         tcp_parse_ip(&packet, record, LOOPBACK_HEADER_SIZE), &packet);
}

static int end(struct capture_builder *builder, void *context)
{
    struct state *state = context;
    for (unsigned i = 0; i < CONNECTION_BUCKETS; i++) {
        for (struct connection *c = state->buckets[i]; c; c = c->next) {
            if (flush(builder, c) < 0)
                return -1;
        }
    }
    return 0;
}

static void free_waiting(struct segment *segment)
{
    while (segment) {
        struct segment *next = segment->next;
        free(segment);
        segment = next;
    }
}

static void free_state(void *context)
{
    struct state *state = context;
    for (unsigned i = 0; i < CONNECTION_BUCKETS; i++) {
        for (struct connection *c = state->buckets[i], *next; c; c = next) {
            next = c->next;
            free_waiting(c->halves[0].waiting);
            free_waiting(c->halves[1].waiting);
            capture_usbip_stream_free(c->stream);
            free(c);
        }
    }
}

#define NETWORK_FORMAT(type, function)                                                             \
    {                                                                                              \
        .link_type = DLT_##type, .name = #type, .is_network = true,                                \
        .state_size = sizeof(struct state), .read = (function), .end = end, .free = free_state,    \
    }

const struct capture_format capture_formats_network[8] = {
    NETWORK_FORMAT(EN10MB, read_ethernet),
    NETWORK_FORMAT(LINUX_SLL, read_cooked),
    NETWORK_FORMAT(LINUX_SLL2, read_cooked_2),
    NETWORK_FORMAT(RAW, read_raw),
    NETWORK_FORMAT(IPV4, read_raw),
    NETWORK_FORMAT(IPV6, read_raw),
    NETWORK_FORMAT(NULL, read_loopback),
    NETWORK_FORMAT(LOOP, read_loopback),
};
