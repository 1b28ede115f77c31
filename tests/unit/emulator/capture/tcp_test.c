#include <string.h>

#include "protocol/bytes.h"
#include "tests/unit/emulator/capture/capture_fixture.h"

static const uint8_t set_baud[8] = {0x40, 3, 0x1a, 0, 0, 0, 0, 0};

/* Both streams of a session: import, a control request, an IN and an OUT transfer, an unlink. */
struct session {
    struct usbip_buffer client, server;
    size_t client_import, server_import; /* where the URBs begin */
};

static void make_session(struct session *session)
{
    *session = (struct session){0};
    add_import(&session->client);
    session->client_import = session->client.size;
    add_submit(&session->client, 1, 0, false, 0, set_baud, NULL);
    add_submit(&session->client, 2, 1, true, 64, NULL, NULL);
    add_submit(&session->client, 3, 2, false, 4, NULL, "ping");
    add_submit(&session->client, 4, 1, true, 64, NULL, NULL);
    add_unlink(&session->client, 5, 4);
    add_unlink(&session->client, 6, 2);
    add_imported(&session->server);
    session->server_import = session->server.size;
    add_return(&session->server, 1, 0, 0, NULL);
    add_return(&session->server, 3, 0, 4, NULL);
    add_return(&session->server, 2, 0, 6, "\1\140pong");
    add_unlinked(&session->server, 5, -USBIP_ECONNRESET);
    add_unlinked(&session->server, 6, 0);
}

static void free_session(struct session *session)
{
    usbip_buffer_free(&session->client);
    usbip_buffer_free(&session->server);
}

static void check_session(const struct usbip_capture *capture)
{
    REQUIRE(capture->device_count == 1);
    REQUIRE(capture->transfer_count == 4);
    const struct usbip_capture_device *device = &capture->devices[0];
    CU_ASSERT(device->bus == 3 && device->address == 2);
    CU_ASSERT_STRING_EQUAL(device->busid, "3-2");
    CU_ASSERT(device->has_ids && device->idVendor == 0x0403 && device->bcdDevice == 0x0600);
    CU_ASSERT_EQUAL(device->speed, USBIP_SPEED_FULL);
    CU_ASSERT_EQUAL(device->lost_bytes, 0);
    CU_ASSERT_EQUAL(device->without_completion, 0);
    const struct usbip_capture_transfer *t = capture->transfers;
    CU_ASSERT(t[0].type == USB_ENDPOINT_XFER_CONTROL && memcmp(t[0].setup, set_baud, 8) == 0);
    CU_ASSERT(t[1].endpoint == 0x81 && t[1].requested_length == 64 && t[1].actual_length == 6);
    REQUIRE(t[1].size == 6);
    CU_ASSERT_EQUAL(memcmp(t[1].data, "\1\140pong", 6), 0);
    CU_ASSERT_FALSE(t[1].flags & USBIP_TRANSFER_UNLINKED);
    CU_ASSERT(t[2].endpoint == 0x02 && t[2].size == 4 && memcmp(t[2].data, "ping", 4) == 0);
    CU_ASSERT(t[3].flags & USBIP_TRANSFER_UNLINKED);
    CU_ASSERT_EQUAL(t[3].status, -USBIP_ECONNRESET);
    for (unsigned i = 0; i < 4; i++)
        CU_ASSERT(t[i].submit_order > 0 && t[i].complete_order > t[i].submit_order);
}

enum { CLIENT_ISN = 1000, SERVER_ISN = 70000 };

static void put_part(struct capture_file *file, bool from_server, uint32_t isn,
                     const struct usbip_buffer *stream, size_t from, size_t to)
{
    put_segment(file, &(struct segment){.from_server = from_server,
                                        .sequence = isn + (uint32_t)from,
                                        .data = stream->data + from,
                                        .size = to - from});
}

/* All that the client says, then all that the server says. */
static void put_session(struct capture_file *file, const struct session *s)
{
    put_segment(file, &(struct segment){.sequence = CLIENT_ISN - 1, .flags = TCP_SYN});
    put_segment(file, &(struct segment){.from_server = true,
                                        .sequence = SERVER_ISN - 1,
                                        .flags = TCP_SYN | TCP_ACK});
    put_part(file, false, CLIENT_ISN, &s->client, 0, s->client_import);
    put_part(file, true, SERVER_ISN, &s->server, 0, s->server_import);
    put_part(file, false, CLIENT_ISN, &s->client, s->client_import, s->client.size);
    put_segment(file, &(struct segment){.from_server = true,
                                        .sequence = SERVER_ISN + (uint32_t)s->server_import});
    put_part(file, true, SERVER_ISN, &s->server, s->server_import, s->server.size);
    put_segment(file, &(struct segment){.sequence = CLIENT_ISN + (uint32_t)s->client.size,
                                        .flags = TCP_FIN | TCP_ACK});
}

static void test_link_types(void)
{
    static const struct {
        unsigned link_type;
        bool ipv6, big_endian;
    } kinds[] = {
        {LINK_ETHERNET, false, false}, {LINK_ETHERNET, true, false}, {LINK_SLL, false, false},
        {LINK_SLL, true, false},       {LINK_SLL2, false, false},    {LINK_SLL2, true, false},
        {LINK_RAW, false, false},      {LINK_RAW, true, false},      {LINK_IPV4, false, false},
        {LINK_IPV6, true, false},      {LINK_NULL, false, false},    {LINK_NULL, true, true},
        {LINK_LOOP, false, false},     {LINK_LOOP, true, false},
    };
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct session session;
        struct capture_file file = {.ipv6 = kinds[i].ipv6, .big_endian = kinds[i].big_endian};
        char name[32];
        make_session(&session);
        snprintf(name, sizeof name, "tcp_link_type_%u%s.pcap", kinds[i].link_type,
                 kinds[i].ipv6 ? "_ipv6" : "");
        pcap_begin(&file, name, kinds[i].link_type);
        put_session(&file, &session);
        struct usbip_capture *capture = load(&file);
        check_session(capture);
        CU_ASSERT_EQUAL(capture->transfers[0].submit_record, 5);
        CU_ASSERT_EQUAL(capture->transfers[0].complete_record, 7);
        usbip_capture_free(capture);
        free_session(&session);
    }
}

static void test_vlan(void)
{
    struct session session;
    struct capture_file file = {0};
    make_session(&session);
    pcap_begin(&file, "tcp_vlan.pcap", LINK_RAW);
    put_session(&file, &session);
    /* The same packets, within a VLAN within another. */
    struct capture_file tagged = {0};
    pcap_begin(&tagged, "tcp_vlan.pcap", LINK_ETHERNET);
    for (size_t at = 24; at < file.bytes.size;) {
        static const uint8_t header[22] = {[12] = 0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x08, 0};
        size_t size = usbip_load_le32(file.bytes.data + at + 8);
        uint8_t packet[2048];
        memcpy(packet, header, sizeof header);
        memcpy(packet + sizeof header, file.bytes.data + at + 16, size);
        put_record(&tagged, packet, sizeof header + size);
        at += 16 + size;
    }
    usbip_buffer_free(&file.bytes);
    struct usbip_capture *capture = load(&tagged);
    check_session(capture);
    usbip_capture_free(capture);
    free_session(&session);
}

/* One byte in each segment, and the sequence numbers pass their end. */
static void test_small_segments(void)
{
    struct session session;
    struct capture_file file = {0};
    make_session(&session);
    /* Ethernet pads such frames. */
    pcap_begin(&file, "tcp_small.pcap", LINK_ETHERNET);
    const uint32_t client_isn = UINT32_MAX - 99, server_isn = UINT32_MAX - 399;
    for (size_t i = 0; i < session.client.size; i++)
        put_part(&file, false, client_isn, &session.client, i, i + 1);
    for (size_t i = 0; i < session.server.size; i++)
        put_part(&file, true, server_isn, &session.server, i, i + 1);
    struct usbip_capture *capture = load(&file);
    check_session(capture);
    CU_ASSERT_EQUAL(capture->transfers[0].submit_record, USBIP_IMPORT_REQUEST_SIZE + 48);
    usbip_capture_free(capture);
    free_session(&session);
}

/* Segments of 100 bytes, swapped in pairs, each sent again with its neighbours' bytes. */
static void test_disorder(void)
{
    struct session session;
    struct capture_file file = {0};
    make_session(&session);
    pcap_begin(&file, "tcp_disorder.pcap", LINK_ETHERNET);
    put_segment(&file, &(struct segment){.sequence = CLIENT_ISN - 1, .flags = TCP_SYN});
    put_segment(&file, &(struct segment){.from_server = true,
                                         .sequence = SERVER_ISN - 1,
                                         .flags = TCP_SYN | TCP_ACK});
    for (unsigned from_server = 0; from_server < 2; from_server++) {
        const struct usbip_buffer *stream = from_server ? &session.server : &session.client;
        uint32_t isn = from_server ? SERVER_ISN : CLIENT_ISN;
        for (size_t i = 0; i < stream->size; i += 200) {
            size_t middle = i + 100 < stream->size ? i + 100 : stream->size;
            size_t end = i + 200 < stream->size ? i + 200 : stream->size;
            if (middle < end)
                put_part(&file, from_server, isn, stream, middle, end);
            put_part(&file, from_server, isn, stream, i, middle);
            put_part(&file, from_server, isn, stream, i, middle);
            /* Overlaps what came before it and what comes behind. */
            put_part(&file, from_server, isn, stream, i < 50 ? 0 : i - 50,
                     end + 30 < stream->size ? end + 30 : stream->size);
        }
    }
    struct usbip_capture *capture = load(&file);
    check_session(capture);
    usbip_capture_free(capture);
    free_session(&session);
}

/* Segments of 40 bytes, the first one last, on another port, while the numbers wrap. */
static void test_shuffled(void)
{
    struct session session;
    struct capture_file file = {0};
    make_session(&session);
    pcap_begin(&file, "tcp_shuffled.pcap", LINK_RAW);
    const uint32_t isn = UINT32_MAX - 150;
    for (unsigned from_server = 0; from_server < 2; from_server++) {
        const struct usbip_buffer *stream = from_server ? &session.server : &session.client;
        struct segment segment = {.from_server = from_server,
                                  .server_port = 40000,
                                  .sequence = isn - 1,
                                  .flags = from_server ? TCP_SYN | TCP_ACK : TCP_SYN};
        put_segment(&file, &segment);
        segment.flags = TCP_ACK;
        size_t count = (stream->size + 39) / 40;
        REQUIRE(count % 7 != 0); /* else 7, 14, … would not be all of them */
        for (size_t k = 1; k <= count; k++) {
            size_t from = k * 7 % count * 40;
            size_t to = from + 40 < stream->size ? from + 40 : stream->size;
            segment.sequence = isn + (uint32_t)from;
            segment.data = stream->data + from;
            segment.size = to - from;
            put_segment(&file, &segment);
        }
    }
    struct usbip_capture *capture = load(&file);
    check_session(capture);
    usbip_capture_free(capture);
    free_session(&session);
}

/* The file begins in the middle of a PDU: what is whole is found. */
static void test_mid_stream(void)
{
    struct session session;
    struct capture_file file = {0};
    make_session(&session);
    pcap_begin(&file, "tcp_mid_stream.pcap", LINK_SLL);
    /* 20 bytes into the first CMD_SUBMIT; the reply to it is there. */
    put_part(&file, false, CLIENT_ISN, &session.client, session.client_import + 20,
             session.client.size);
    put_part(&file, true, SERVER_ISN, &session.server, session.server_import, session.server.size);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->device_count == 1);
    CU_ASSERT(capture->devices[0].bus == 3 && capture->devices[0].address == 2);
    CU_ASSERT_EQUAL(capture->devices[0].without_submit, 1);
    REQUIRE(capture->transfer_count == 4);
    CU_ASSERT_EQUAL(capture->transfers[0].endpoint, 0x81);
    CU_ASSERT(capture->transfers[0].size == 6);
    CU_ASSERT_EQUAL(capture->transfers[3].submit_record, 0);
    usbip_capture_free(capture);
    free_session(&session);
}

/* Replies to requests from before the file: whether they bring data is for what follows to tell. */
static void test_orphan_replies(void)
{
    struct usbip_buffer server = {0};
    struct capture_file file = {0};
    add_return(&server, 70, 0, 5, "hello");
    add_return(&server, 71, 0, 512, NULL); /* of an OUT transfer */
    add_return(&server, 72, 0, 0, NULL);
    add_return(&server, 73, -USBIP_EPIPE, 0, NULL);
    add_return(&server, 74, 0, 3, "end"); /* nothing follows, but the segment ends with it */
    pcap_begin(&file, "tcp_orphan_replies.pcap", LINK_RAW);
    put_part(&file, true, SERVER_ISN, &server, 0, server.size);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 5);
    const struct usbip_capture_transfer *t = capture->transfers;
    CU_ASSERT(usbip_transfer_is_in(&t[0]) && t[0].size == 5);
    CU_ASSERT(!usbip_transfer_is_in(&t[1]) && t[1].actual_length == 512);
    CU_ASSERT_EQUAL(t[3].status, -USBIP_EPIPE);
    CU_ASSERT(t[4].size == 3 && memcmp(t[4].data, "end", 3) == 0);
    usbip_capture_free(capture);
    usbip_buffer_free(&server);
}

/* A segment that the recorder missed: the stream goes on behind it. */
static void test_gap(void)
{
    struct session session;
    struct capture_file file = {0};
    make_session(&session);
    pcap_begin(&file, "tcp_gap.pcap", LINK_RAW);
    size_t ping = session.client_import + 96; /* behind two of CMD_SUBMIT */
    put_part(&file, false, CLIENT_ISN, &session.client, 0, session.client_import);
    put_part(&file, true, SERVER_ISN, &session.server, 0, session.server_import);
    put_part(&file, false, CLIENT_ISN, &session.client, session.client_import, ping);
    /* CMD_SUBMIT 3 is lost, and half of the next. */
    put_part(&file, false, CLIENT_ISN, &session.client, ping + 76, session.client.size);
    /* Acknowledged again and again: it will not come any more. */
    for (unsigned i = 0; i < 40; i++)
        put_segment(&file, &(struct segment){
                               .from_server = true,
                               .sequence = SERVER_ISN + (uint32_t)session.server_import,
                               .acknowledgement = CLIENT_ISN + (uint32_t)session.client.size});
    size_t end = session.client.size;
    add_submit(&session.client, 7, 1, true, 64, NULL, NULL);
    add_return(&session.server, 7, 0, 2, "\1\140");
    put_part(&file, false, CLIENT_ISN, &session.client, end, session.client.size);
    put_part(&file, true, SERVER_ISN, &session.server, session.server_import, session.server.size);
    struct usbip_capture *capture = load(&file);
    /* 1, 2, 7, and a reply to 3. */
    REQUIRE(capture->transfer_count == 4);
    CU_ASSERT(capture->transfers[2].submit_record > 0 && capture->transfers[2].size == 2);
    CU_ASSERT_EQUAL(capture->devices[0].lost_bytes, 52 + 48);
    CU_ASSERT_EQUAL(capture->devices[0].without_submit, 1);
    CU_ASSERT_EQUAL(capture->transfers[1].size, 6);
    usbip_capture_free(capture);
    free_session(&session);
}

/* Requests with their replies: 8 of them from 10 on, each in a segment that acknowledges all that
 * was before it. The recorder has lost request `lost`, and swapped each pair if `swapped`. */
static struct usbip_capture *load_pairs(const char *name, uint32_t lost, bool swapped)
{
    struct capture_file file = {0};
    struct session session;
    make_session(&session);
    pcap_begin(&file, name, LINK_RAW);
    put_part(&file, false, CLIENT_ISN, &session.client, 0, session.client_import);
    put_part(&file, true, SERVER_ISN, &session.server, 0, session.server_import);
    session.client.size = session.client_import;
    session.server.size = session.server_import;
    for (uint32_t seqnum = 10; seqnum < 18; seqnum++) {
        struct segment request = {.sequence = CLIENT_ISN + (uint32_t)session.client.size,
                                  .acknowledgement = SERVER_ISN + (uint32_t)session.server.size,
                                  .flags = TCP_ACK};
        size_t at = session.client.size, reply_at = session.server.size;
        add_submit(&session.client, seqnum, 1, true, 64, NULL, NULL);
        request.data = session.client.data + at;
        request.size = session.client.size - at;
        struct segment reply = {.from_server = true,
                                .sequence = request.acknowledgement,
                                .acknowledgement = CLIENT_ISN + (uint32_t)session.client.size,
                                .flags = TCP_ACK};
        add_return(&session.server, seqnum, 0, 3, "abc");
        reply.data = session.server.data + reply_at;
        reply.size = session.server.size - reply_at;
        if (swapped)
            put_segment(&file, &reply);
        if (seqnum != lost)
            put_segment(&file, &request);
        if (!swapped)
            put_segment(&file, &reply);
    }
    free_session(&session);
    return load(&file);
}

/* A recorder with several queues may write a reply before its request. */
static void test_replies_first(void)
{
    struct usbip_capture *capture = load_pairs("tcp_replies_first.pcap", 0, true);
    REQUIRE(capture->transfer_count == 8);
    CU_ASSERT_EQUAL(capture->devices[0].without_submit, 0);
    CU_ASSERT_EQUAL(capture->devices[0].without_completion, 0);
    for (unsigned i = 0; i < 8; i++)
        CU_ASSERT(capture->transfers[i].endpoint == 0x81 && capture->transfers[i].size == 3);
    usbip_capture_free(capture);
}

/* A request that the recorder has lost costs its own transfer, not those behind it. */
static void test_lost_request(void)
{
    struct usbip_capture *capture = load_pairs("tcp_lost_request.pcap", 12, false);
    REQUIRE(capture->transfer_count == 8);
    CU_ASSERT_EQUAL(capture->devices[0].without_submit, 1);
    CU_ASSERT_EQUAL(capture->devices[0].without_completion, 0);
    CU_ASSERT_EQUAL(capture->devices[0].lost_bytes, 48);
    usbip_capture_free(capture);
    /* The last one: nothing comes behind the gap. */
    capture = load_pairs("tcp_lost_request.pcap", 17, false);
    REQUIRE(capture->transfer_count == 8);
    CU_ASSERT_EQUAL(capture->devices[0].without_submit, 1);
    CU_ASSERT_EQUAL(capture->devices[0].without_completion, 0);
    usbip_capture_free(capture);
}

/* Several connections at once, one after the other on the same ports, on another port, and one
 * that is not USB/IP. */
static void test_connections(void)
{
    struct session session;
    struct capture_file file = {0};
    make_session(&session);
    pcap_begin(&file, "tcp_connections.pcap", LINK_ETHERNET);
    for (unsigned i = 0; i < 3; i++) {
        /* The sequence numbers of the second one begin elsewhere. */
        uint32_t shift = i * 5000;
        uint16_t client = i < 2 ? 50001 : 50002, server = i < 2 ? 3240 : 40000;
        const struct segment segments[] = {
            {.sequence = CLIENT_ISN + shift - 1, .flags = TCP_SYN},
            {.from_server = true, .sequence = SERVER_ISN + shift - 1, .flags = TCP_SYN | TCP_ACK},
            {.sequence = CLIENT_ISN + shift,
             .data = session.client.data,
             /* The first one breaks off within a PDU. */
             .size = session.client.size - (i == 0 ? 20 : 0)},
            {.from_server = true,
             .sequence = SERVER_ISN + shift,
             .data = session.server.data,
             .size = session.server.size},
        };
        for (unsigned j = 0; j < 4; j++) {
            struct segment segment = segments[j];
            segment.client_port = client;
            segment.server_port = server;
            put_segment(&file, &segment);
            /* In between, somebody reads a page. */
            const char request[] = "GET / HTTP/1.1\r\nHost: nobody\r\n\r\n";
            put_segment(&file, &(struct segment){.client_port = 4,
                                                 .server_port = 80,
                                                 .sequence = 100 * i + 33 * j,
                                                 .data = request,
                                                 .size = sizeof request - 1,
                                                 .cut = 4});
        }
    }
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 12);
    REQUIRE(capture->device_count == 1);
    CU_ASSERT_EQUAL(capture->devices[0].lost_bytes, 0);
    CU_ASSERT_EQUAL(capture->devices[0].unlinked, 3);
    CU_ASSERT_EQUAL(capture->devices[0].without_submit, 0);
    CU_ASSERT_EQUAL(capture->devices[0].without_completion, 0);
    usbip_capture_free(capture);
    free_session(&session);
}

/* -EREMOTEIO and a number_of_packets of -1 do not end a stream. */
static void test_short_reads(void)
{
    struct session session = {0};
    struct capture_file file = {0};
    add_import(&session.client);
    add_imported(&session.server);
    for (uint32_t i = 1; i <= 3; i++) {
        add_submit(&session.client, i, 1, true, 64, NULL, NULL);
        add_return(&session.server, i, -USBIP_EREMOTEIO, 3, "abc");
        /* number_of_packets */
        memset(session.server.data + session.server.size - 3 - 48 + 32, 0xff, 4);
    }
    pcap_begin(&file, "tcp_short_reads.pcap", LINK_RAW);
    put_part(&file, false, CLIENT_ISN, &session.client, 0, session.client.size);
    put_part(&file, true, SERVER_ISN, &session.server, 0, session.server.size);
    struct usbip_capture *capture = load(&file);
    REQUIRE(capture->transfer_count == 3);
    CU_ASSERT_EQUAL(capture->devices[0].lost_bytes, 0);
    for (unsigned i = 0; i < 3; i++)
        CU_ASSERT(capture->transfers[i].size == 3 &&
                  capture->transfers[i].status == -USBIP_EREMOTEIO);
    usbip_capture_free(capture);
    free_session(&session);
}

static void test_truncated(void)
{
    struct session session;
    struct capture_file file = {0};
    make_session(&session);
    pcap_begin(&file, "tcp_truncated.pcap", LINK_ETHERNET);
    put_part(&file, false, CLIENT_ISN, &session.client, 0, session.client_import);
    put_segment(&file, &(struct segment){.sequence = CLIENT_ISN + (uint32_t)session.client_import,
                                         .data = session.client.data + session.client_import,
                                         .size = session.client.size - session.client_import,
                                         .cut = 10});
    expect_error(&file, "record 2: the recorder kept 282 of the 292 bytes of its TCP segment");
    free_session(&session);
}

static void test_foreign(void)
{
    struct capture_file file = {0};
    pcap_begin(&file, "tcp_foreign.pcap", LINK_ETHERNET);
    for (unsigned i = 0; i < 20; i++)
        put_segment(&file, &(struct segment){.client_port = 4,
                                             .server_port = 80,
                                             .sequence = 10 * i,
                                             .data = "0123456789",
                                             .size = 10});
    uint8_t arp[42] = {[12] = 8, [13] = 6};
    put_record(&file, arp, sizeof arp);
    expect_error(&file, "no USB/IP is in it");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"link types, IPv4 and IPv6", test_link_types},
        {"VLANs", test_vlan},
        {"a byte in each segment, sequence numbers that wrap", test_small_segments},
        {"segments out of order, sent again, overlapping", test_disorder},
        {"segments in any order", test_shuffled},
        {"a start in mid-stream", test_mid_stream},
        {"replies without requests", test_orphan_replies},
        {"a segment that is missing", test_gap},
        {"replies before their requests", test_replies_first},
        {"a lost request", test_lost_request},
        {"several connections", test_connections},
        {"short reads that are errors", test_short_reads},
        {"segments that were cut off", test_truncated},
        {"a network without USB/IP", test_foreign},
        CU_TEST_INFO_NULL,
    };
    return run_tests("TCP", tests);
}
