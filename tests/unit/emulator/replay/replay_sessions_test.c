/* Replays to one client after the other. */
#include "tests/unit/emulator/replay/replay_fixture.h"

/* The next client finds the recording at its beginning. */
static void test_restart(void)
{
    begin();
    put_out("ping");
    put_in("pong");
    start();
    for (int i = 0; i < 2; i++) {
        submit_in(&client, 1, BULK_IN, 512, NULL);
        submit_out_bytes(&client, 2, BULK_OUT, (const uint8_t *)"ping", 4);
        CU_ASSERT(gets(1, "pong"));
        CU_ASSERT(got_out(&client, 2, 0, 4));
        CU_ASSERT(ends_well());
        attach();
    }
    stop();
}

/* Two sessions in one recording, and two clients. */
static void put_sessions(void)
{
    begin();
    put_out("ping");
    put_in("pong");
    put_usbmon_control(&file, ADDRESS, set_configuration, NULL, 0, 0);
    put_out("again");
    put_in("gong");
}

static void exchange(const char *out, const char *in)
{
    CU_ASSERT(sends(1, out));
    submit_in(&client, 2, BULK_IN, 512, NULL);
    CU_ASSERT(gets(2, in));
}

static void test_continue(void)
{
    put_sessions();
    options.import = USBIP_REPLAY_CONTINUE;
    start();
    exchange("ping", "pong");
    leave();
    CU_ASSERT_EQUAL(divergences(), 0);
    attach();
    exchange("again", "gong");
    leave();
    usbip_replay_finish(replay);
    CU_ASSERT_EQUAL(divergences(), 0);
    stop();
}

/* What is missing is known when nobody comes any more. */
static void test_missing_at_the_end(void)
{
    put_sessions();
    options.import = USBIP_REPLAY_CONTINUE;
    start();
    exchange("ping", "pong");
    leave();
    CU_ASSERT_EQUAL(divergences(), 0);
    usbip_replay_finish(replay);
    CU_ASSERT_EQUAL(divergences(), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(fixture.log, "the host never sent 616761696e of record 13"));
    stop();
}

/* A client that comes for the first time finds all of it, and one that never came misses nothing.
 */
static void test_nobody(void)
{
    put_sessions();
    options.import = USBIP_REPLAY_CONTINUE;
    start_bus();
    usbip_replay_finish(replay);
    CU_ASSERT_EQUAL(divergences(), 0);
    stop();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"each client finds the beginning", test_restart},
        {"each client goes on where the last one left", test_continue},
        {"missing at the end", test_missing_at_the_end},
        {"nobody came", test_nobody},
        CU_TEST_INFO_NULL,
    };
    return run_tests("replays to several clients", tests);
}
