/* Replays of captures that are made here, record by record. */
#include <jansson.h>
#include <string.h>

#include "emulator/replay/check.h"
#include "emulator/script.h"
#include "tests/unit/emulator/replay/replay_fixture.h"

static const uint8_t set_line_coding[8] = {0x21, 0x20, 0, 0, 0, 0, 7, 0};
static const uint8_t get_line_coding[8] = {0xa1, 0x21, 0, 0, 0, 0, 7, 0};
static const uint8_t dtr_on[8] = {0x21, 0x22, 1, 0, 0, 0, 0, 0};
static const uint8_t dtr_off[8] = {0x21, 0x22, 0, 0, 0, 0, 0, 0};
static const uint8_t clear_in[8] = {2, 1, 0, 0, BULK_IN, 0, 0, 0};
#define GET_LINE_CODING "a121 0000 0000 0700"
#define SET_LINE_CODING "2120 0000 0000 0700"
#define DTR_ON "2122 0100 0000 0000"
#define DTR_OFF "2122 0000 0000 0000"
#define CLEAR_IN "0201 0000 8100 0000"

/* ---- Order ---- */

static void test_gated(void)
{
    begin();
    put_in("hello");
    put_out("ping");
    put_in("pong");
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(gets(1, "hello"));
    submit_in(&client, 2, BULK_IN, 512, NULL);
    CU_ASSERT(got_nothing(&client));
    submit_out_bytes(&client, 3, BULK_OUT, (const uint8_t *)"pi", 2);
    CU_ASSERT(got_out(&client, 3, 0, 2));
    CU_ASSERT(got_nothing(&client));
    submit_out_bytes(&client, 4, BULK_OUT, (const uint8_t *)"ng", 2);
    CU_ASSERT(gets(2, "pong"));
    CU_ASSERT(got_out(&client, 4, 0, 2));
    CU_ASSERT(ends_well());
    stop();
}

/* An answer that came between submission and completion of what it answers. */
static void test_answer_before_completion(void)
{
    begin();
    put_event('S', 1, BULK_IN, NULL, 0, 512, 0);
    put_event('S', 2, BULK_OUT, "ping", 4, 4, 0);
    put_event('C', 1, BULK_IN, "pong", 4, 4, 0);
    put_event('C', 2, BULK_OUT, NULL, 0, 4, 0);
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(got_nothing(&client));
    submit_out_bytes(&client, 2, BULK_OUT, (const uint8_t *)"ping", 4);
    CU_ASSERT(gets(1, "pong"));
    CU_ASSERT(got_out(&client, 2, 0, 4));
    CU_ASSERT(ends_well());
    stop();
}

static void test_gated_by_request(void)
{
    begin();
    put_usbmon_control(&file, ADDRESS, dtr_on, NULL, 0, 0);
    put_in("ready");
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(got_nothing(&client));
    submit_out(&client, 2, 0, "", DTR_ON);
    CU_ASSERT(got_out(&client, 2, 0, 0));
    CU_ASSERT(gets(1, "ready"));
    CU_ASSERT(ends_well());
    stop();
}

static void test_free(void)
{
    begin();
    put_out("ping");
    put_in("pong");
    options.mode = USBIP_REPLAY_FREE;
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(gets(1, "pong"));
    CU_ASSERT(sends(2, "ping"));
    CU_ASSERT(ends_well());
    stop();
}

static void put_two_endpoints(void)
{
    static const uint8_t state[10] = {0xa1, 0x20, 0, 0, 0, 0, 2, 0, 3, 0};
    begin();
    put_in_bytes(NOTIFICATIONS, state, sizeof state, 16, 0);
    put_in("data");
    put_out("x");
}

static void test_strict(void)
{
    put_two_endpoints();
    options.mode = USBIP_REPLAY_STRICT;
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(got_nothing(&client));
    submit_in(&client, 2, NOTIFICATIONS, 16, NULL);
    CU_ASSERT(got_in(&client, 2, 0, "a120 0000 0000 0200 0300"));
    CU_ASSERT(gets(1, "data"));
    CU_ASSERT(sends(3, "x"));
    CU_ASSERT(ends_well());
    stop();

    put_two_endpoints();
    options.mode = USBIP_REPLAY_STRICT;
    start();
    CU_ASSERT(sends(3, "x"));
    CU_ASSERT_EQUAL(divergences(), 1);
    stop();

    /* Gated, one endpoint does not wait for another. */
    put_two_endpoints();
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(gets(1, "data"));
    CU_ASSERT(sends(3, "x"));
    CU_ASSERT(ends_well());
    stop();
}

/* Records are 1 ms apart: "ping" is submitted at n, "pong" completed at n + 3. */
static void test_timed(void)
{
    begin();
    put_out("ping");
    put_in("pong");
    put_in("more");
    options.mode = USBIP_REPLAY_TIMED;
    options.speed = 0.5;
    start();
    usbip_scheduler_advance(&fixture.scheduler, 1000000);
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(sends(2, "ping"));
    usbip_scheduler_advance(&fixture.scheduler, 1005999);
    CU_ASSERT(got_nothing(&client));
    usbip_scheduler_advance(&fixture.scheduler, 1006000);
    CU_ASSERT(gets(1, "pong"));
    /* "more" is completed 2 ms after "pong". */
    submit_in(&client, 3, BULK_IN, 512, NULL);
    usbip_scheduler_advance(&fixture.scheduler, 1009999);
    CU_ASSERT(got_nothing(&client));
    usbip_scheduler_advance(&fixture.scheduler, 1010000);
    CU_ASSERT(gets(3, "more"));
    CU_ASSERT(ends_well());
    stop();
}

static void test_step(void)
{
    put_two_endpoints();
    put_in("more");
    options.mode = USBIP_REPLAY_STEP;
    start();
    submit_in(&client, 1, NOTIFICATIONS, 16, NULL);
    submit_in(&client, 2, BULK_IN, 512, NULL);
    submit_in(&client, 3, BULK_IN, 512, NULL);
    CU_ASSERT(got_nothing(&client));
    REQUIRE(usbip_replay_of(fixture.bus.devices[0]) == replay && usbip_replay_steps(replay));
    usbip_replay_step(replay, 1);
    CU_ASSERT(got_in(&client, 1, 0, "a120 0000 0000 0200 0300"));
    CU_ASSERT(got_nothing(&client));
    usbip_replay_step(replay, 2);
    CU_ASSERT(gets(2, "data"));
    CU_ASSERT(got_nothing(&client));
    /* Gated all the same. */
    submit_out_bytes(&client, 4, BULK_OUT, (const uint8_t *)"x", 1);
    CU_ASSERT(gets(3, "more"));
    CU_ASSERT(got_out(&client, 4, 0, 1));
    CU_ASSERT(ends_well());
    stop();
}

/* ---- Lengths ---- */

static void test_cuts_of_out(void)
{
    begin();
    put_out("a");
    put_out("bc");
    put_out("def");
    put_in("ok");
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    submit_out_bytes(&client, 2, BULK_OUT, (const uint8_t *)"abcd", 4);
    CU_ASSERT(got_out(&client, 2, 0, 4));
    submit_out_bytes(&client, 3, BULK_OUT, (const uint8_t *)"ef", 2);
    CU_ASSERT(gets(1, "ok"));
    CU_ASSERT(got_out(&client, 3, 0, 2));
    CU_ASSERT(ends_well());
    stop();
}

static void test_cuts_of_in(void)
{
    char text[201];
    memset(text, 'x', 200);
    text[200] = '\0';
    begin();
    put_in(text);
    put_in("tail");
    start();
    submit_in(&client, 1, BULK_IN, 64, NULL);
    CU_ASSERT(got_in_bytes(&client, 1, 0, text, 64));
    submit_in(&client, 2, BULK_IN, 128, NULL);
    CU_ASSERT(got_in_bytes(&client, 2, 0, text, 128));
    submit_in(&client, 3, BULK_IN, 512, NULL);
    CU_ASSERT(got_in_bytes(&client, 3, 0, text, 8));
    submit_in(&client, 4, BULK_IN, 512, NULL);
    CU_ASSERT(gets(4, "tail"));
    CU_ASSERT(ends_well());
    stop();
}

/* The host asked for 64 bytes at a time, and an empty transfer ended 128 of them. */
static void put_full_transfers(void)
{
    static const char bytes[64] = "0123456789";
    begin();
    put_in_bytes(BULK_IN, bytes, 64, 64, 0);
    put_in_bytes(BULK_IN, bytes, 64, 64, 0);
    put_in_bytes(BULK_IN, NULL, 0, 64, 0);
    put_in_bytes(BULK_IN, "end", 3, 64, 0);
}

static void test_full_transfers(void)
{
    char bytes[128] = "0123456789";
    memcpy(bytes + 64, bytes, 64);
    put_full_transfers();
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(got_in_bytes(&client, 1, 0, bytes, 128));
    submit_in(&client, 2, BULK_IN, 512, NULL);
    CU_ASSERT(gets(2, "end"));
    CU_ASSERT(ends_well());
    stop();

    put_full_transfers();
    start();
    submit_in(&client, 1, BULK_IN, 128, NULL);
    CU_ASSERT(got_in_bytes(&client, 1, 0, bytes, 128));
    submit_in(&client, 2, BULK_IN, 128, NULL);
    CU_ASSERT(gets(2, ""));
    submit_in(&client, 3, BULK_IN, 128, NULL);
    CU_ASSERT(gets(3, "end"));
    CU_ASSERT(ends_well());
    stop();
}

/* ---- Requests ---- */

static void test_reads(void)
{
    static const uint8_t first[7] = {1, 0, 0, 0, 0, 0, 8}, second[7] = {2, 0, 0, 0, 0, 0, 8};
    begin();
    put_usbmon_control(&file, ADDRESS, get_line_coding, first, 7, 0);
    put_usbmon_control(&file, ADDRESS, get_line_coding, second, 7, 0);
    start();
    CU_ASSERT(control_in(&client, GET_LINE_CODING, 0, "01000000000008"));
    CU_ASSERT(control_in(&client, "a121 0000 0000 0200", 0, "0200"));
    CU_ASSERT(control_in(&client, GET_LINE_CODING, 0, "02000000000008"));
    CU_ASSERT_EQUAL(divergences(), 0);
    CU_ASSERT(control_in(&client, "a121 0000 0100 0700", -USBIP_EPIPE, ""));
    CU_ASSERT_EQUAL(divergences(), 1);
    /* Standard requests are the core's, recorded or not. */
    CU_ASSERT(control_in(&client, "8008 0000 0000 0100", 0, "01"));
    CU_ASSERT(control_in(&client, "8006 000f 0000 0500", -USBIP_EPIPE, ""));
    CU_ASSERT_EQUAL(divergences(), 1);
    stop();
}

static void put_requests(void)
{
    static const uint8_t coding[7] = {0, 0xc2, 1, 0, 0, 0, 8};
    begin();
    put_usbmon_control(&file, ADDRESS, set_line_coding, coding, 7, 0);
    put_usbmon_control(&file, ADDRESS, dtr_on, NULL, 0, 0);
    put_usbmon_control(&file, ADDRESS, dtr_off, NULL, 0, -USBIP_EPIPE);
}

static void test_writes(void)
{
    put_requests();
    start();
    CU_ASSERT(control_out(&client, SET_LINE_CODING, "00c20100000008", 0));
    CU_ASSERT(control_out(&client, DTR_ON, "", 0));
    CU_ASSERT(control_out(&client, DTR_OFF, "", -USBIP_EPIPE));
    CU_ASSERT(ends_well());
    stop();
}

/* Sends another line coding than recorded, leaves one request out, and sends one too many. */
static void send_other_requests(void)
{
    CU_ASSERT(control_out(&client, SET_LINE_CODING, "80250000000008", 0));
    CU_ASSERT(control_out(&client, DTR_OFF, "", -USBIP_EPIPE));
    CU_ASSERT(control_out(&client, DTR_ON, "", 0));
    CU_ASSERT(control_out(&client, "2123 0000 0000 0000", "", -USBIP_EPIPE));
}

static void test_other_requests(void)
{
    put_requests();
    start();
    send_other_requests();
    CU_ASSERT_EQUAL(divergences(), 4);
    struct usbip_replay_counters counters = usbip_replay_counters(replay, 0);
    CU_ASSERT_EQUAL(counters.matched, 1);
    CU_ASSERT_EQUAL(counters.skipped, 1);
    CU_ASSERT_EQUAL(counters.unexpected, 3);
    CU_ASSERT(strstr(fixture.log, "request 2120000000000700 80250000000008: record 7 has "
                                  "2120000000000700 00c20100000008 here") != NULL);
    stop();

    put_requests();
    options.match = USBIP_REPLAY_SETUP;
    start();
    send_other_requests();
    CU_ASSERT_EQUAL(divergences(), 3);
    stop();
}

static void test_any_requests(void)
{
    put_requests();
    put_out("ping");
    put_in("pong");
    options.match = USBIP_REPLAY_ANY;
    start();
    CU_ASSERT(control_out(&client, "2122 0000 0000 0000", "", 0));
    CU_ASSERT(control_out(&client, SET_LINE_CODING, "80250000000008", 0));
    CU_ASSERT(control_out(&client, "2122 0300 0000 0000", "", -USBIP_EPIPE));
    submit_in(&client, 1, BULK_IN, 512, NULL);
    submit_out_bytes(&client, 2, BULK_OUT, (const uint8_t *)"PING", 4);
    CU_ASSERT(gets(1, "pong"));
    CU_ASSERT(got_out(&client, 2, 0, 4));
    CU_ASSERT(ends_well());
    stop();
}

/* ---- What is not replayed ---- */

static void test_unlinked(void)
{
    begin();
    put_in_bytes(BULK_IN, "lost", 4, 512, -USBIP_ENOENT);
    put_event('S', 1, BULK_OUT, "killed", 6, 6, 0);
    put_event('C', 1, BULK_OUT, NULL, 0, 0, -USBIP_ECONNRESET);
    put_out("ping");
    put_in("pong");
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(got_nothing(&client));
    submit_out_bytes(&client, 2, BULK_OUT, (const uint8_t *)"ping", 4);
    CU_ASSERT(gets(1, "pong"));
    CU_ASSERT(got_out(&client, 2, 0, 4));
    CU_ASSERT(ends_well());
    stop();
}

/* A transfer under way when the recording began has data at once, one at its end pends. */
static void test_ends(void)
{
    begin();
    put_event('C', 77, BULK_IN, "early", 5, 5, 0);
    put_event('S', 78, BULK_IN, NULL, 0, 512, 0);
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(gets(1, "early"));
    submit_in(&client, 2, BULK_IN, 512, NULL);
    CU_ASSERT(got_nothing(&client));
    CU_ASSERT(ends_well());
    stop();
}

static void test_stall(void)
{
    begin();
    put_in("one");
    put_in_bytes(BULK_IN, NULL, 0, 512, -USBIP_EPIPE);
    put_in_bytes(BULK_IN, NULL, 0, 512, -USBIP_EPIPE); /* of the same halt */
    put_usbmon_control(&file, ADDRESS, clear_in, NULL, 0, 0);
    put_in("two");
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(gets(1, "one"));
    submit_in(&client, 2, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 2, -USBIP_EPIPE, ""));
    submit_in(&client, 3, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 3, -USBIP_EPIPE, ""));
    CU_ASSERT(control_out(&client, CLEAR_IN, "", 0));
    submit_in(&client, 4, BULK_IN, 512, NULL);
    CU_ASSERT(gets(4, "two"));
    CU_ASSERT(ends_well());
    stop();
}

static void test_stalled_out(void)
{
    begin();
    put_out_ending("bad", -USBIP_EPIPE);
    start();
    submit_out_bytes(&client, 1, BULK_OUT, (const uint8_t *)"bad", 3);
    CU_ASSERT(got_out(&client, 1, -USBIP_EPIPE, 0));
    submit_out_bytes(&client, 2, BULK_OUT, (const uint8_t *)"x", 1);
    CU_ASSERT(got_out(&client, 2, -USBIP_EPIPE, 0));
    CU_ASSERT(ends_well());
    stop();
}

/* ---- FTDI ---- */

static const uint8_t ftdi_device[18] = {18, 1,    0,    2, 0, 0, 0, 64, 0x03,
                                        4,  0x01, 0x60, 0, 6, 0, 0, 0,  1};
static const uint8_t ftdi_configuration[32] = {9,  2, 32, 0,    1,    1,    0, 0x80, 45, 9,    4,
                                               0,  0, 2,  0xff, 0xff, 0xff, 0, 7,    5,  0x81, 2,
                                               64, 0, 0,  7,    5,    0x02, 2, 64,   0,  0};
static const uint8_t set_latency[8] = {0x40, 9, 2, 0, 0, 0, 0, 0};

/* Idle packets, 70 bytes of data in two packets, idle, CTS falls, idle, three bytes. */
static void put_ftdi(void)
{
    uint8_t packets[74];
    memset(packets, 'd', sizeof packets);
    memcpy(packets, "\x31\x60", 2);
    memcpy(packets + 64, "\x31\x60", 2);
    begin_as(ftdi_device, ftdi_configuration, sizeof ftdi_configuration);
    put_usbmon_control(&file, ADDRESS, set_latency, NULL, 0, 0);
    for (int i = 0; i < 10; i++)
        put_in_bytes(BULK_IN, "\x31\x60", 2, 512, 0);
    put_in_bytes(BULK_IN, packets, sizeof packets, 512, 0);
    put_in_bytes(BULK_IN, "\x31\x60", 2, 512, 0);
    put_in_bytes(BULK_IN, "\x21\x60", 2, 512, 0);
    put_in_bytes(BULK_IN, "\x21\x60", 2, 512, 0);
    put_in_bytes(BULK_IN, "\x21\x60xyz", 5, 512, 0);
}

static void test_ftdi(void)
{
    uint8_t packets[74];
    memset(packets, 'd', sizeof packets);
    memcpy(packets, "\x31\x60", 2);
    memcpy(packets + 64, "\x31\x60", 2);
    put_ftdi();
    start();
    submit_out(&client, 1, 0, "", "4009 0200 0000 0000");
    CU_ASSERT(got_out(&client, 1, 0, 0));
    submit_in(&client, 2, BULK_IN, 512, NULL);
    CU_ASSERT(got_in_bytes(&client, 2, 0, packets, 74));
    submit_in(&client, 3, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 3, 0, "2160"));
    submit_in(&client, 4, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 4, 0, "2160 78797a"));
    /* Idle packets, by the latency timer that the host has set. */
    submit_in(&client, 5, BULK_IN, 512, NULL);
    CU_ASSERT(got_nothing(&client));
    usbip_scheduler_advance(&fixture.scheduler, 1999);
    CU_ASSERT(got_nothing(&client));
    usbip_scheduler_advance(&fixture.scheduler, 2000);
    CU_ASSERT(got_in(&client, 5, 0, "2160"));
    CU_ASSERT(ends_well());
    stop();
}

/* Transfers of one packet, and of less: each has its status. */
static void test_ftdi_cuts(void)
{
    put_ftdi();
    options.mode = USBIP_REPLAY_FREE;
    start();
    submit_out(&client, 1, 0, "", "4009 0200 0000 0000");
    CU_ASSERT(got_out(&client, 1, 0, 0));
    submit_in(&client, 2, BULK_IN, 64, NULL);
    uint8_t packet[64];
    memset(packet, 'd', sizeof packet);
    memcpy(packet, "\x31\x60", 2);
    CU_ASSERT(got_in_bytes(&client, 2, 0, packet, 64));
    submit_in(&client, 3, BULK_IN, 6, NULL);
    CU_ASSERT(got_in(&client, 3, 0, "3160 64646464"));
    submit_in(&client, 4, BULK_IN, 64, NULL);
    CU_ASSERT(got_in(&client, 4, 0, "3160 64646464"));
    CU_ASSERT(ends_well());
    stop();
}

static void shorten(void *context, uint8_t endpoint, uint32_t record,
                    struct usbip_replay_bytes *bytes)
{
    (void)context;
    (void)endpoint;
    (void)record;
    if (bytes->size == 62)
        *bytes = (struct usbip_replay_bytes){(const uint8_t *)"short", 5};
}

static void test_ftdi_edited(void)
{
    put_ftdi();
    options.hooks.edit = shorten;
    start();
    submit_out(&client, 1, 0, "", "4009 0200 0000 0000");
    CU_ASSERT(got_out(&client, 1, 0, 0));
    submit_in(&client, 2, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 2, 0, "3160 73686f7274"));
    submit_in(&client, 3, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 3, 0, "3160 6464646464646464"));
    CU_ASSERT(ends_well());
    stop();
}

/* The capture alone does not tell the chip. */
static void test_ftdi_of_side_file(void)
{
    uint8_t descriptors[sizeof ftdi_device + sizeof ftdi_configuration];
    char path[4096];
    memcpy(descriptors, ftdi_device, sizeof ftdi_device);
    memcpy(descriptors + sizeof ftdi_device, ftdi_configuration, sizeof ftdi_configuration);
    write_file("replay_side", descriptors, sizeof descriptors);
    snprintf(path, sizeof path, "%s", file_path("replay_side"));
    file = (struct capture_file){0};
    pcap_begin(&file, "replay.pcap", LINK_USBMON_MMAPPED);
    put_in_bytes(BULK_IN, "\x31\x60xyz", 5, 512, 0);
    options.descriptors = path;
    start();
    CU_ASSERT_STRING_EQUAL(usbip_replay_chip_name(replay), "FT232R");
    submit_in(&client, 1, BULK_IN, 4, NULL);
    CU_ASSERT(got_in(&client, 1, 0, "3160 7879"));
    submit_in(&client, 2, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 2, 0, "3160 7a"));
    CU_ASSERT(ends_well());
    stop();
}

/* ---- The end ---- */

static void test_at_end(void)
{
    begin();
    put_in("once");
    options.end = USBIP_REPLAY_STALL;
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(gets(1, "once"));
    submit_in(&client, 2, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 2, -USBIP_EPIPE, ""));
    stop();

    begin();
    put_in("once");
    options.end = USBIP_REPLAY_DISCONNECT;
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(gets(1, "once"));
    CU_ASSERT_FALSE(client_is_over(&client));
    usbip_scheduler_advance(&fixture.scheduler, 0);
    CU_ASSERT(client_is_over(&client));
    stop();
}

static void test_loop(void)
{
    begin();
    put_usbmon_control(&file, ADDRESS, dtr_on, NULL, 0, 0);
    put_out("ping");
    put_in("pong");
    options.end = USBIP_REPLAY_LOOP;
    start();
    CU_ASSERT(control_out(&client, DTR_ON, "", 0));
    for (uint32_t i = 1; i <= 6; i += 2) {
        submit_in(&client, i, BULK_IN, 512, NULL);
        CU_ASSERT(got_nothing(&client));
        submit_out_bytes(&client, i + 1, BULK_OUT, (const uint8_t *)"ping", 4);
        CU_ASSERT(gets(i, "pong"));
        CU_ASSERT(got_out(&client, i + 1, 0, 4));
    }
    CU_ASSERT(ends_well());
    stop();
}

/* ---- Divergence ---- */

static json_t *report(void)
{
    FILE *stream = tmpfile();
    REQUIRE(stream != NULL);
    REQUIRE(usbip_replay_write_report(&replay, 1, stream));
    rewind(stream);
    json_t *json = json_loadf(stream, 0, NULL);
    fclose(stream);
    REQUIRE(json != NULL);
    return json;
}

static bool is_text(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));
    if (!value || strcmp(value, text) != 0)
        fprintf(stderr, "%s: %s\n", key, value ? value : "(none)");
    return value && strcmp(value, text) == 0;
}

static void test_divergence(void)
{
    begin();
    for (int i = 0; i < 3; i++) {
        put_out("ping");
        put_in("pong");
    }
    put_out("last");
    start();
    for (uint32_t i = 0; i < 3; i++) {
        submit_in(&client, 1, BULK_IN, 512, NULL);
        submit_out_bytes(&client, 2, BULK_OUT, (const uint8_t *)"ping", 4);
        CU_ASSERT(gets(1, "pong"));
        CU_ASSERT(got_out(&client, 2, 0, 4));
    }
    CU_ASSERT(sends(3, "lost"));
    CU_ASSERT(sends(4, "more"));
    CU_ASSERT_EQUAL(divergences(), 2);
    CU_ASSERT(strstr(fixture.log, "1-1: divergence: endpoint 0x02: the host sent 6f7374, record 19 "
                                  "has 617374 there (byte 1 of this piece)") != NULL);
    CU_ASSERT(strstr(fixture.log, "the host sent 4 bytes (6d6f7265) more than recorded") != NULL);
    json_t *all = report();
    const json_t *device = json_array_get(json_object_get(all, "devices"), 0);
    const json_t *first = json_object_get(device, "first");
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(device, "divergences")), 2);
    CU_ASSERT(is_text(first, "kind", "data"));
    const json_t *expected = json_object_get(first, "expected");
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(expected, "record")), 19);
    CU_ASSERT(is_text(expected, "data", "6c617374"));
    CU_ASSERT(is_text(json_object_get(first, "got"), "data", "6c6f7374"));
    const json_t *before = json_object_get(first, "before");
    CU_ASSERT_EQUAL(json_array_size(before), 5);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(json_array_get(before, 4), "record")), 17);
    CU_ASSERT(is_text(json_array_get(before, 4), "data", "706f6e67"));
    json_decref(all);
    stop();
}

static void test_missing(void)
{
    begin();
    put_out("ping");
    put_out("never");
    put_out("never");
    start();
    CU_ASSERT(sends(1, "pingne"));
    leave();
    CU_ASSERT_EQUAL(divergences(), 1);
    CU_ASSERT(strstr(fixture.log, "endpoint 0x02: the host never sent 766572 of record 9") != NULL);
    struct usbip_replay_counters counters = usbip_replay_counters(replay, BULK_OUT);
    CU_ASSERT_EQUAL(counters.matched, 1);
    CU_ASSERT_EQUAL(counters.missing, 2);
    stop();
}

struct hook_calls {
    char kinds[128];
};

/* Takes capital letters for small ones and answers what the recording lacks. */
static bool forgive(void *context, const struct usbip_divergence *divergence,
                    struct usbip_replay_bytes *answer)
{
    struct hook_calls *calls = context;
    strcat(strcat(calls->kinds, usbip_divergence_name(divergence->kind)), " ");
    if (divergence->kind == USBIP_DIVERGENCE_NO_ANSWER) {
        *answer = (struct usbip_replay_bytes){(const uint8_t *)"\x07\x08", 2};
        return true;
    }
    if (divergence->kind == USBIP_DIVERGENCE_NO_REQUEST)
        return divergence->setup[1] == 0x77;
    return divergence->got_size == 4 &&
           strncasecmp((const char *)divergence->expected, (const char *)divergence->got, 4) == 0;
}

static void edit(void *context, uint8_t endpoint, uint32_t record, struct usbip_replay_bytes *bytes)
{
    (void)context;
    CU_ASSERT_EQUAL(record, endpoint == BULK_IN ? 10 : 12);
    CU_ASSERT_EQUAL(bytes->size, endpoint == BULK_IN ? 4 : 7);
    *bytes = (struct usbip_replay_bytes){(const uint8_t *)"edited", 6};
}

static void test_hooks(void)
{
    struct hook_calls calls = {""};
    begin();
    put_out("ping");
    put_in("pong");
    put_usbmon_control(&file, ADDRESS, get_line_coding, "coding!", 7, 0);
    options.hooks = (struct usbip_replay_hooks){forgive, edit, &calls};
    start();
    submit_in(&client, 1, BULK_IN, 4, NULL);
    submit_out_bytes(&client, 2, BULK_OUT, (const uint8_t *)"PING", 4);
    CU_ASSERT(got_in(&client, 1, -USBIP_EOVERFLOW, ""));
    CU_ASSERT(got_out(&client, 2, 0, 4));
    CU_ASSERT(control_in(&client, GET_LINE_CODING, 0, "656469746564"));
    CU_ASSERT(control_in(&client, "c001 0000 0000 0200", 0, "0708"));
    CU_ASSERT(control_out(&client, "4077 0000 0000 0000", "", 0));
    CU_ASSERT_EQUAL(divergences(), 0);
    CU_ASSERT_EQUAL(usbip_replay_counters(replay, 0).unexpected, 0);
    CU_ASSERT(control_out(&client, "4078 0000 0000 0000", "", -USBIP_EPIPE));
    CU_ASSERT(sends(3, "x"));
    CU_ASSERT_EQUAL(divergences(), 2);
    CU_ASSERT_EQUAL(usbip_replay_counters(replay, 0).unexpected, 1);
    CU_ASSERT_STRING_EQUAL(calls.kinds, "data no_answer no_request no_request more_data ");
    stop();
}

/* The client that is made of the recording, and one that cannot be. */
static void test_check(void)
{
    struct usbip_replay_check check;
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    const struct usbip_log log = {0};
    static const uint8_t get_latency[8] = {0xc0, 10, 0, 0, 0, 0, 1, 0};
    put_ftdi();
    put_out("ping");
    /* The recording ends before it is answered. */
    put_usbmon(&file, &(struct usbmon){
                          .id = 7,
                          .event = 'S',
                          .type = CONTROL,
                          .endpoint = 0x80,
                          .address = ADDRESS,
                          .setup = get_latency,
                          .length = 1,
                      });
    options.path = finish_recording();
    REQUIRE(usbip_replay_check(&options, &log, &check, error_text) == 0);
    CU_ASSERT_EQUAL(check.divergences, 0);
    CU_ASSERT_EQUAL(check.wrong_endpoints, 0);
    CU_ASSERT_EQUAL(check.bytes_in, 73);
    CU_ASSERT_EQUAL(check.bytes_out, 4);
    options.hooks.edit = edit; /* a device that says something else */
    begin();
    put_out("ping");
    put_in("pong");
    options.path = finish_recording();
    REQUIRE(usbip_replay_check(&options, &log, &check, error_text) == 0);
    CU_ASSERT_EQUAL(check.wrong_endpoints, 1);
    options = (struct usbip_replay_options){.path = "/nowhere"};
    CU_ASSERT(usbip_replay_check(&options, &log, &check, error_text) < 0);
    options = (struct usbip_replay_options){0};
}

/* All that the session has sent. */
static size_t play_once(uint8_t *bytes, size_t capacity)
{
    size_t size = 0;
    put_ftdi();
    put_out("ping");
    put_in_bytes(BULK_IN, "\x21\x60pong", 6, 512, 0);
    start();
    for (uint32_t seqnum = 1; seqnum < 8; seqnum++)
        submit_in(&client, seqnum, BULK_IN, 100, NULL);
    submit_out(&client, 8, 0, "", "4009 0200 0000 0000");
    submit_out_bytes(&client, 9, BULK_OUT, (const uint8_t *)"ping?", 5);
    usbip_scheduler_advance(&fixture.scheduler, 100000);
    const uint8_t *output;
    size_t piece;
    while ((piece = usbip_device_session_take_output(client.session, &output)) > 0) {
        REQUIRE(piece <= capacity - size);
        memcpy(bytes + size, output, piece);
        size += piece;
    }
    stop();
    return size;
}

static void test_determinism(void)
{
    uint8_t first[2048], second[2048];
    size_t size = play_once(first, sizeof first);
    CU_ASSERT(size > 9 * USBIP_HEADER_SIZE);
    REQUIRE(play_once(second, sizeof second) == size);
    CU_ASSERT_EQUAL(memcmp(first, second, size), 0);
}

/* ---- In Lua ---- */

static struct usbip_script *new_script(const char *text, struct usbip_device **device,
                                       char error_text[USBIP_SCRIPT_ERROR_SIZE])
{
    write_file("replay.lua", text, strlen(text));
    const struct usbip_script_options script_options = {.path = file_path("replay.lua")};
    return usbip_script_new(&script_options, &fixture.scheduler, &fixture.bus.log, device,
                            error_text);
}

static void test_script(void)
{
    static const char text[] =
        "replay {\n"
        "    file = 'replay.pcap', mode = 'free', at_end = 'stall',\n"
        "    on_divergence = function(d)\n"
        "        if d.kind == 'no_answer' then return '\\7' .. d.setup:sub(2, 2) end\n"
        "        if d.got == 'x' then halt(2) end\n"
        "        return d.kind == 'data' and d.got:lower() == d.expected\n"
        "    end,\n"
        "    on_data = function(endpoint, bytes, record)\n"
        "        if bytes == 'pong' then return bytes .. endpoint .. '/' .. record end\n"
        "    end,\n"
        "}\n";
    char error_text[USBIP_SCRIPT_ERROR_SIZE];
    struct usbip_device *device;
    begin();
    put_in("as it is");
    put_out("ping");
    put_in("pong");
    finish_recording();
    fixture_init(&fixture);
    struct usbip_script *script = new_script(text, &device, error_text);
    if (!script)
        fprintf(stderr, "%s\n", error_text);
    REQUIRE(script != NULL && usbip_bus_add(&fixture.bus, device) == 0);
    replay = usbip_script_replay(script);
    attach();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(gets(1, "as it is"));
    submit_in(&client, 2, BULK_IN, 512, NULL);
    CU_ASSERT(gets(2, "pong129/12"));
    CU_ASSERT(sends(3, "PING"));
    CU_ASSERT(control_in(&client, "c05f 0000 0000 0200", 0, "075f"));
    CU_ASSERT_EQUAL(divergences(), 0);
    CU_ASSERT(sends(4, "x"));
    CU_ASSERT_EQUAL(divergences(), 1);
    CU_ASSERT(strstr(fixture.log, "halt(): not on a device that is replayed") != NULL);
    submit_in(&client, 5, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 5, -USBIP_EPIPE, ""));
    leave();
    fixture_free(&fixture);
    usbip_script_free(script);
}

static void expect_script_error(const char *text, const char *part)
{
    char error_text[USBIP_SCRIPT_ERROR_SIZE] = "";
    struct usbip_device *device;
    fixture_init(&fixture);
    CU_ASSERT(new_script(text, &device, error_text) == NULL);
    if (!strstr(error_text, part))
        fprintf(stderr, "%s\n", error_text);
    CU_ASSERT(strstr(error_text, part) != NULL);
    fixture_free(&fixture);
}

static void test_script_errors(void)
{
    expect_script_error("replay { }", "replay: no file");
    expect_script_error("replay { file = 'replay.pcap', mod = 1 }", "there is no field mod");
    expect_script_error("replay { file = 'replay.pcap', mode = 'fast' }", "mode must be gated");
    expect_script_error("replay { file = 'replay.pcap', speed = 0 }", "speed must be a number");
    expect_script_error("replay { file = 'replay.pcap', errors = 'no' }", "errors must be replay");
    expect_script_error("replay { file = 'replay.pcap', at_import = 1 }", "must be a string");
    expect_script_error("replay { file = 'replay.pcap', at_import = 'no' }",
                        "at_import must be restart or continue");
    expect_script_error("replay { file = 'none.pcap' }", "none.pcap");
    expect_script_error("replay { file = '/etc/passwd' }", "not beside the script");
    expect_script_error("replay { file = '../x' }", "not beside the script");
    expect_script_error("replay { file = 'replay.pcap' } function on_open() end",
                        "on_open() is never called on a device that is replayed");
    expect_script_error("device { type = 'ftdi' } replay { file = 'replay.pcap' }",
                        "a script is one device");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"IN data wait for the OUT data before them", test_gated},
        {"an answer before the completion of what it answers", test_answer_before_completion},
        {"IN data wait for requests", test_gated_by_request},
        {"free: IN data at once", test_free},
        {"strict: the recorded order", test_strict},
        {"timed: the recorded pauses", test_timed},
        {"step: one after the other", test_step},
        {"OUT data cut otherwise", test_cuts_of_out},
        {"IN data cut otherwise", test_cuts_of_in},
        {"full transfers and the empty one behind", test_full_transfers},
        {"answers to reads, the last one sticks", test_reads},
        {"requests in order", test_writes},
        {"other requests", test_other_requests},
        {"match any", test_any_requests},
        {"unlinked transfers", test_unlinked},
        {"transfers with one end only", test_ends},
        {"a stall until CLEAR_FEATURE", test_stall},
        {"a stalled OUT endpoint", test_stalled_out},
        {"FTDI: status, idle packets", test_ftdi},
        {"FTDI: cut otherwise", test_ftdi_cuts},
        {"FTDI: edited", test_ftdi_edited},
        {"FTDI: known from a side file", test_ftdi_of_side_file},
        {"at the end: stall, disconnect", test_at_end},
        {"at the end: loop", test_loop},
        {"divergence: text, JSON, the five before", test_divergence},
        {"OUT data that never came", test_missing},
        {"hooks", test_hooks},
        {"check", test_check},
        {"the same commands, the same replies", test_determinism},
        {"replay { } in Lua", test_script},
        {"replay { } with mistakes", test_script_errors},
        CU_TEST_INFO_NULL,
    };
    return run_tests("replay", tests);
}
