/* Transfers that failed in the recording. */
#include "emulator/replay/check.h"
#include "tests/unit/emulator/replay/replay_fixture.h"

static const uint8_t get_line_coding[8] = {0xa1, 0x21, 0, 0, 0, 0, 7, 0};
static const uint8_t dtr_on[8] = {0x21, 0x22, 1, 0, 0, 0, 0, 0};

/* Data, an error with part of a packet, one without anything, data. */
static void put_in_errors(void)
{
    begin();
    put_out("a");
    put_in("one");
    put_in_bytes(BULK_IN, "par", 3, 512, -USBIP_EPROTO);
    put_in_bytes(BULK_IN, NULL, 0, 512, -USBIP_EILSEQ);
    put_out("b");
    put_in("two");
}

static void test_in(void)
{
    put_in_errors();
    start();
    for (uint32_t seqnum = 1; seqnum <= 4; seqnum++)
        submit_in(&client, seqnum, BULK_IN, seqnum == 2 ? 2 : 512, NULL);
    CU_ASSERT(got_nothing(&client));
    submit_out_bytes(&client, 9, BULK_OUT, (const uint8_t *)"a", 1);
    CU_ASSERT(gets(1, "one"));
    CU_ASSERT(got_in(&client, 2, -USBIP_EPROTO, "7061")); /* as much as there is room for */
    CU_ASSERT(got_in(&client, 3, -USBIP_EILSEQ, ""));
    CU_ASSERT(got_out(&client, 9, 0, 1));
    CU_ASSERT(got_nothing(&client));
    submit_out_bytes(&client, 10, BULK_OUT, (const uint8_t *)"b", 1);
    CU_ASSERT(gets(4, "two")); /* the endpoint was not halted */
    CU_ASSERT(got_out(&client, 10, 0, 1));
    CU_ASSERT(ends_well());
    stop();
}

static void test_skip(void)
{
    put_in_errors();
    options.skip_errors = true;
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    submit_in(&client, 2, BULK_IN, 512, NULL);
    submit_out_bytes(&client, 9, BULK_OUT, (const uint8_t *)"ab", 2);
    CU_ASSERT(gets(1, "one"));
    CU_ASSERT(gets(2, "two"));
    CU_ASSERT(got_out(&client, 9, 0, 2));
    CU_ASSERT(ends_well());
    stop();
}

/* What failed, or was taken back, and was sent again: where it succeeds at once, the host need not
 * repeat it, but may. */
static void test_repetitions(void)
{
    for (unsigned i = 0; i < 4; i++) {
        bool taken_back = i & 1, repeats = i & 2;
        int32_t status = taken_back ? -USBIP_ENOENT : -USBIP_EPROTO;
        begin();
        put_usbmon_control(&file, ADDRESS, dtr_on, NULL, 0, status);
        put_usbmon_control(&file, ADDRESS, dtr_on, NULL, 0, 0);
        put_in("ready");
        put_out_ending("ping", status);
        put_out_ending("ping", status);
        put_out("ping");
        put_in("pong");
        put_out("bye");
        options.skip_errors = !taken_back;
        start();
        submit_in(&client, 1, BULK_IN, 512, NULL);
        for (unsigned j = 0; j < (repeats ? 2 : 1); j++) {
            submit_out(&client, 2, 0, "", "2122 0100 0000 0000");
            CU_ASSERT(got_out(&client, 2, 0, 0));
            CU_ASSERT(j == 1 || gets(1, "ready"));
        }
        submit_in(&client, 1, BULK_IN, 512, NULL);
        for (unsigned j = 0; j < (repeats ? 3 : 1); j++) {
            submit_out_bytes(&client, 2, BULK_OUT, (const uint8_t *)"ping", 4);
            CU_ASSERT(j > 0 || gets(1, "pong"));
            CU_ASSERT(got_out(&client, 2, 0, 4));
        }
        CU_ASSERT(sends(3, "bye"));
        CU_ASSERT(ends_well());
        stop();
    }
}

/* What the host took back, or its own stack did not like, says nothing of the device. */
static void test_other_ends(void)
{
    static const int32_t statuses[] = {-USBIP_ENOENT, -USBIP_ECONNRESET, -USBIP_ESHUTDOWN,
                                       -USBIP_EIO};
    begin();
    for (unsigned i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        put_in_bytes(BULK_IN, NULL, 0, 512, statuses[i]);
    put_in("data");
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    CU_ASSERT(gets(1, "data"));
    CU_ASSERT(ends_well());
    stop();
}

/* Data that failed and were sent again. */
static void test_out(void)
{
    begin();
    put_out_ending("ping", -USBIP_EPROTO);
    put_out("ping");
    put_in("pong");
    start();
    submit_in(&client, 1, BULK_IN, 512, NULL);
    submit_out_bytes(&client, 2, BULK_OUT, (const uint8_t *)"pi", 2);
    CU_ASSERT(got_out(&client, 2, 0, 2));
    submit_out_bytes(&client, 3, BULK_OUT, (const uint8_t *)"ng", 2);
    CU_ASSERT(got_out(&client, 3, -USBIP_EPROTO, 0));
    CU_ASSERT(got_nothing(&client));
    submit_out_bytes(&client, 4, BULK_OUT, (const uint8_t *)"ping", 4);
    CU_ASSERT(gets(1, "pong"));
    CU_ASSERT(got_out(&client, 4, 0, 4));
    CU_ASSERT(ends_well());
    stop();
}

static void test_requests(void)
{
    static const uint8_t coding[7] = {0, 0xc2, 1, 0, 0, 0, 8};
    begin();
    put_usbmon_control(&file, ADDRESS, get_line_coding, coding, 7, 0);
    put_usbmon_control(&file, ADDRESS, get_line_coding, NULL, 0, -USBIP_EPROTO);
    put_usbmon_control(&file, ADDRESS, dtr_on, NULL, 0, -USBIP_ETIME);
    put_usbmon_control(&file, ADDRESS, dtr_on, NULL, 0, 0);
    start();
    CU_ASSERT(control_in(&client, "a121 0000 0000 0700", 0, "00c20100000008"));
    CU_ASSERT(control_in(&client, "a121 0000 0000 0700", -USBIP_EPROTO, ""));
    /* What stays is the last good answer. */
    CU_ASSERT(control_in(&client, "a121 0000 0000 0700", 0, "00c20100000008"));
    CU_ASSERT(control_out(&client, "2122 0100 0000 0000", "", -USBIP_ETIME));
    CU_ASSERT(control_out(&client, "2122 0100 0000 0000", "", 0));
    CU_ASSERT(ends_well());
    stop();
}

/* A request that the device left unanswered until the host took it back: so it is again, and no
 * divergence. Where it has answered once, it does so again. */
static void test_silence(void)
{
    static const uint8_t coding[7] = {0, 0xc2, 1, 0, 0, 0, 8};
    static const uint8_t get_state[8] = {0xa1, 0x23, 0, 0, 0, 0, 2, 0};
    begin();
    put_usbmon_control(&file, ADDRESS, get_state, NULL, 0, -USBIP_ECONNRESET);
    put_usbmon_control(&file, ADDRESS, get_line_coding, NULL, 0, -USBIP_ENOENT);
    put_usbmon_control(&file, ADDRESS, get_line_coding, coding, 7, 0);
    start();
    submit_in(&client, 1, 0x80, 2, "a123 0000 0000 0200");
    CU_ASSERT(got_nothing(&client));
    submit_unlink(&client, 2, 1);
    CU_ASSERT(got_unlinked(&client, 2, -USBIP_ECONNRESET));
    CU_ASSERT(control_in(&client, "a121 0000 0000 0700", 0, "00c20100000008"));
    CU_ASSERT(ends_well());
    stop();
}

/* In FTDI's packets, with data that came before the error and idle packets around it. */
static void test_ftdi(void)
{
    static const uint8_t device[18] = {18, 1,    0,    2, 0, 0, 0, 64, 0x03,
                                       4,  0x01, 0x60, 0, 6, 0, 0, 0,  1};
    static const uint8_t configuration[32] = {9,  2, 32, 0,    1,    1,    0, 0x80, 45, 9,    4,
                                              0,  0, 2,  0xff, 0xff, 0xff, 0, 7,    5,  0x81, 2,
                                              64, 0, 0,  7,    5,    0x02, 2, 64,   0,  0};
    begin_as(device, configuration, sizeof configuration);
    put_in_bytes(BULK_IN, NULL, 0, 512, -USBIP_EPROTO);
    put_in_bytes(BULK_IN, "\x31\x60", 2, 512, 0);
    put_in_bytes(BULK_IN, "\x31\x60xyz", 5, 512, -USBIP_EILSEQ);
    put_in_bytes(BULK_IN, "\x31\x60more", 6, 512, 0);
    start();
    for (uint32_t seqnum = 1; seqnum <= 4; seqnum++)
        submit_in(&client, seqnum, BULK_IN, 512, NULL);
    CU_ASSERT(got_in(&client, 1, -USBIP_EPROTO, ""));
    CU_ASSERT(got_in(&client, 2, 0, "3160 78797a"));
    CU_ASSERT(got_in(&client, 3, -USBIP_EILSEQ, ""));
    CU_ASSERT(got_in(&client, 4, 0, "3160 6d6f7265"));
    submit_in(&client, 5, BULK_IN, 512, NULL);
    CU_ASSERT(got_nothing(&client));
    usbip_scheduler_advance(&fixture.scheduler, 16000);
    CU_ASSERT(got_in(&client, 5, 0, "3160"));
    CU_ASSERT(ends_well());
    stop();
}

/* In every mode the client that is made of the recording meets the same errors. */
static void test_check(void)
{
    static const enum usbip_replay_mode modes[] = {USBIP_REPLAY_GATED, USBIP_REPLAY_STRICT,
                                                   USBIP_REPLAY_TIMED, USBIP_REPLAY_FREE};
    const struct usbip_log log = {0};
    char error_text[USBIP_CAPTURE_ERROR_SIZE];
    for (unsigned i = 0; i < 2 * sizeof modes / sizeof modes[0]; i++) {
        struct usbip_replay_check check;
        put_in_errors();
        if (i % 2 == 0)
            put_usbmon_control(&file, ADDRESS, get_line_coding, NULL, 0, -USBIP_EPROTO);
        put_out_ending("ping", -USBIP_EPROTO);
        put_out("pong");
        options.path = finish_recording();
        options.mode = modes[i / 2];
        options.skip_errors = i % 2;
        REQUIRE(usbip_replay_check(&options, &log, &check, error_text) == 0);
        CU_ASSERT_EQUAL(check.divergences, 0);
        CU_ASSERT_EQUAL(check.wrong_endpoints, 0);
        CU_ASSERT_EQUAL(check.wrong_reads, 0);
        CU_ASSERT_EQUAL(check.bytes_in, options.skip_errors ? 6 : 9);
        options = (struct usbip_replay_options){0};
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"IN", test_in},
        {"skipped", test_skip},
        {"repetitions", test_repetitions},
        {"what is not the device's doing", test_other_ends},
        {"OUT", test_out},
        {"requests", test_requests},
        {"requests without an answer", test_silence},
        {"FTDI", test_ftdi},
        {"check", test_check},
        CU_TEST_INFO_NULL,
    };
    return run_tests("replayed errors", tests);
}
