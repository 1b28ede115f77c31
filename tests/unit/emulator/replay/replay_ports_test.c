/* Replays of FTDI chips with two ports. */
#include <string.h>

#include "tests/unit/emulator/replay/replay_fixture.h"

static const uint8_t ft2232h_device[18] = {18, 1,    0,    2, 0, 0, 0, 64, 0x03,
                                           4,  0x10, 0x60, 0, 7, 0, 0, 0,  1};
static const uint8_t ft2232h_configuration[55] = {
    9, 2, 55,   0, 2, 1,    0,    0x80, 50,                   /* configuration */
    9, 4, 0,    0, 2, 0xff, 0xff, 0xff, 0,                    /* port 1 */
    7, 5, 0x81, 2, 0, 2,    0,    7,    5,  0x02, 2, 0, 2, 0, /* its endpoints */
    9, 4, 1,    0, 2, 0xff, 0xff, 0xff, 0,                    /* port 2 */
    7, 5, 0x83, 2, 0, 2,    0,    7,    5,  0x04, 2, 0, 2, 0,
};
enum { SECOND_IN = 0x83 };

static void put_second_in(const void *data, uint32_t size)
{
    struct usbmon record = {
        .id = 0x1000 + file.records,
        .event = 'S',
        .type = BULK,
        .endpoint = SECOND_IN,
        .address = ADDRESS,
        .length = 1024,
    };
    put_usbmon(&file, &record);
    record.event = 'C';
    record.data = data;
    record.size = record.length = size;
    put_usbmon(&file, &record);
}

static void put_port_request(uint8_t bRequest, uint8_t wValue, uint8_t port)
{
    const uint8_t setup[8] = {0x40, bRequest, wValue, 0, port, 0, 0, 0};
    put_usbmon_control(&file, ADDRESS, setup, NULL, 0, 0);
}

/* Latency timers of 5 and 2 ms, resets; then data of both, those of the second in two packets. */
static void put_two_ports(void)
{
    uint8_t packets[600];
    memset(packets, 'b', sizeof packets);
    memcpy(packets, "\x02\x60", 2);
    memcpy(packets + 512, "\x12\x60", 2);
    begin_as(ft2232h_device, ft2232h_configuration, sizeof ft2232h_configuration);
    put_port_request(9, 5, 1);
    put_port_request(9, 2, 2);
    put_port_request(0, 0, 1);
    put_port_request(0, 0, 2);
    put_in_bytes(BULK_IN, "\x32\x60", 2, 512, 0);
    put_second_in("\x02\x60", 2);
    put_in_bytes(BULK_IN, "\x32\x60one", 5, 512, 0);
    put_second_in(packets, sizeof packets);
}

static bool requests(const char *setup)
{
    return control_out(&client, setup, "", 0);
}

/* The host may mix the requests to the ports otherwise. Each has its own idle packets. */
static void test_two_ports(void)
{
    uint8_t packet[512];
    memset(packet, 'b', sizeof packet);
    memcpy(packet, "\x02\x60", 2);
    put_two_ports();
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(requests("4009 0200 0200 0000"));
    CU_ASSERT(requests("4000 0000 0200 0000"));
    CU_ASSERT(requests("4009 0500 0100 0000"));
    CU_ASSERT_EQUAL(divergences(), 0);
    submit_out(&client, 2, 0, "", "4000 0000 0100 0000");
    CU_ASSERT(got_out(&client, 2, 0, 0));
    CU_ASSERT(got_in(&client, 1, 0, "3260 6f6e65"));
    submit_in(&client, 3, SECOND_IN, 512, NULL);
    CU_ASSERT(got_in_bytes(&client, 3, 0, packet, 512));
    submit_in(&client, 4, SECOND_IN, 512, NULL);
    memcpy(packet, "\x12\x60", 2);
    CU_ASSERT(got_in_bytes(&client, 4, 0, packet, 88));
    submit_in(&client, 5, BULK_IN, 512, NULL);
    submit_in(&client, 6, SECOND_IN, 512, NULL);
    fixture_pass_us(&fixture, 2000);
    CU_ASSERT(got_in(&client, 6, 0, "1260"));
    CU_ASSERT(got_nothing(&client));
    fixture_pass_us(&fixture, 3000);
    CU_ASSERT(got_in(&client, 5, 0, "3260"));
    CU_ASSERT(ends_well());
    stop();
}

/* Those to one port have an order, and strictly all have. */
static void test_order_of_a_port(void)
{
    put_two_ports();
    start();
    CU_ASSERT(requests("4009 0500 0100 0000"));
    CU_ASSERT(requests("4000 0000 0200 0000"));
    CU_ASSERT_EQUAL(divergences(), 1);
    CU_ASSERT_EQUAL(usbip_replay_counters(replay, 0).skipped, 1);
    CU_ASSERT(requests("4000 0000 0100 0000"));
    CU_ASSERT_EQUAL(divergences(), 1);
    stop();
    put_two_ports();
    options.mode = USBIP_REPLAY_STRICT;
    start();
    CU_ASSERT(requests("4009 0200 0200 0000"));
    CU_ASSERT_EQUAL(divergences(), 1);
    stop();
}

/* What never came counts for each port. */
static void test_missing_requests_of_ports(void)
{
    put_two_ports();
    start();
    CU_ASSERT(requests("4009 0200 0200 0000"));
    client_close(&client);
    client.session = NULL;
    CU_ASSERT_EQUAL(usbip_replay_counters(replay, 0).matched, 1);
    CU_ASSERT_EQUAL(usbip_replay_counters(replay, 0).missing, 3);
    /* The next session begins at the beginning. */
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    CU_ASSERT(requests("4009 0200 0200 0000"));
    CU_ASSERT(requests("4000 0000 0200 0000"));
    CU_ASSERT_EQUAL(divergences(), 0);
    stop();
}

/* The address of an EEPROM's word is no port: these stay in the order of the first. */
static void test_eeprom_is_of_no_port(void)
{
    begin_as(ft2232h_device, ft2232h_configuration, sizeof ft2232h_configuration);
    put_port_request(0x91, 1, 1);
    put_port_request(0x91, 2, 2);
    start();
    CU_ASSERT(requests("4091 0200 0200 0000"));
    CU_ASSERT_EQUAL(divergences(), 1);
    stop();
}

/* A port that is opened late in the recording may be opened first. */
static void test_far_request(void)
{
    begin_as(ft2232h_device, ft2232h_configuration, sizeof ft2232h_configuration);
    for (unsigned i = 0; i < 1500; i++)
        put_port_request(1, i % 2, 1);
    put_port_request(0, 0, 2);
    start();
    CU_ASSERT(requests("4000 0000 0200 0000"));
    CU_ASSERT(requests("4001 0000 0100 0000"));
    CU_ASSERT_EQUAL(divergences(), 0);
    stop();
}

/* One recording of two sessions: the second client meets the requests of the second, port by port.
 */
static void test_sessions(void)
{
    begin_as(ft2232h_device, ft2232h_configuration, sizeof ft2232h_configuration);
    put_port_request(9, 5, 1);
    put_in_bytes(BULK_IN, "\x32\x60one", 5, 512, 0);
    put_usbmon_control(&file, ADDRESS, set_configuration, NULL, 0, 0);
    put_port_request(9, 5, 1);
    put_port_request(9, 2, 2);
    put_in_bytes(BULK_IN, "\x32\x60two", 5, 512, 0);
    options.import = USBIP_REPLAY_CONTINUE;
    start();
    CU_ASSERT(requests("4009 0500 0100 0000"));
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 1, 0, "3260 6f6e65"));
    leave();
    attach();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(requests("4009 0200 0200 0000"));
    CU_ASSERT(got_nothing(&client));
    submit_out(&client, 2, 0, "", "4009 0500 0100 0000");
    CU_ASSERT(got_out(&client, 2, 0, 0));
    CU_ASSERT(got_in(&client, 1, 0, "3260 74776f"));
    leave();
    usbip_replay_finish(replay);
    CU_ASSERT_EQUAL(divergences(), 0);
    CU_ASSERT_EQUAL(usbip_replay_counters(replay, 0).missing, 0);
    stop();
}

/* A request that failed does so at its port alone, even if parameters do not matter. */
static void test_error_of_a_port(void)
{
    static const uint8_t set_data[2][8] = {{0x40, 4, 8, 0, 1, 0, 0, 0},
                                           {0x40, 4, 8, 0, 2, 0, 0, 0}};
    begin_as(ft2232h_device, ft2232h_configuration, sizeof ft2232h_configuration);
    put_usbmon_control(&file, ADDRESS, set_data[0], NULL, 0, -USBIP_EPROTO);
    put_usbmon_control(&file, ADDRESS, set_data[1], NULL, 0, 0);
    options.match = USBIP_REPLAY_ANY;
    start();
    CU_ASSERT(requests("4004 0700 0200 0000"));
    CU_ASSERT(control_out(&client, "4004 0700 0100 0000", "", -USBIP_EPROTO));
    CU_ASSERT(ends_well());
    stop();
}

static bool accept(void *context, const struct usbip_divergence *divergence,
                   struct usbip_replay_bytes *answer)
{
    (void)answer;
    unsigned *calls = context;
    ++*calls;
    CU_ASSERT_EQUAL(divergence->kind, USBIP_DIVERGENCE_REQUEST);
    CU_ASSERT_EQUAL(divergence->expected_setup[4], 2);
    return true;
}

/* What a hook accepts takes the place of the request to the same port. */
static void test_accepted_request(void)
{
    unsigned calls = 0;
    put_two_ports();
    options.hooks = (struct usbip_replay_hooks){.diverged = accept, .context = &calls};
    start();
    CU_ASSERT(requests("4009 0700 0200 0000"));
    CU_ASSERT(requests("4000 0000 0200 0000"));
    CU_ASSERT(requests("4009 0500 0100 0000"));
    CU_ASSERT(requests("4000 0000 0100 0000"));
    CU_ASSERT_EQUAL(calls, 1);
    CU_ASSERT_EQUAL(usbip_replay_counters(replay, 0).unexpected, 0);
    CU_ASSERT_EQUAL(usbip_replay_counters(replay, 0).skipped, 0);
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 1, 0, "3260 6f6e65"));
    CU_ASSERT(ends_well());
    stop();
}

/* Neither descriptors nor requests: what both endpoints say tells the chip. */
static void test_known_by_status(void)
{
    file = (struct capture_file){0};
    pcap_begin(&file, "replay.pcap", LINK_USBMON_MMAPPED);
    put_in_bytes(BULK_IN, "\x32\x60", 2, 512, 0);
    put_second_in("\x02\x60", 2);
    put_second_in("\x02\x60two", 5);
    put_in_bytes(BULK_IN, "\x32\x60one", 5, 512, 0);
    start();
    CU_ASSERT_STRING_EQUAL(usbip_replay_chip_name(replay), "FT2232H");
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 1, 0, "3260 6f6e65"));
    submit_in(&client, 2, SECOND_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 2, 0, "0260 74776f"));
    CU_ASSERT(ends_well());
    stop();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"requests and data of both", test_two_ports},
        {"order", test_order_of_a_port},
        {"missing requests", test_missing_requests_of_ports},
        {"EEPROM", test_eeprom_is_of_no_port},
        {"a request that is far away", test_far_request},
        {"several sessions", test_sessions},
        {"errors", test_error_of_a_port},
        {"requests that a hook accepts", test_accepted_request},
        {"known by their status bytes", test_known_by_status},
        CU_TEST_INFO_NULL,
    };
    return run_tests("replays of chips with two ports", tests);
}
