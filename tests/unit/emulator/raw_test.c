/* The raw function: messages for IN endpoints, and a behaviour that answers everything itself. */
#include "tests/unit/emulator/session_fixture.h"

enum { IN = 0x81, OUT = 0x02, INTERRUPT = 0x83 };

static const uint8_t configuration[] = {
    9, 2, 39,   0, 1,  1,    0, 0x80, 50, /* configuration */
    9, 4, 0,    0, 3,  0xff, 0, 0,    0,  /* interface */
    7, 5, 0x81, 2, 64, 0,    0,           /* bulk IN */
    7, 5, 0x02, 2, 64, 0,    0,           /* bulk OUT */
    7, 5, 0x83, 3, 8,  0,    1,           /* interrupt IN */
};

static struct fixture fixture;
static struct client client;
static struct recorder *raw;

static void begin(void)
{
    struct usbip_device_options options = usual_options();
    options.configuration = configuration;
    options.configuration_size = sizeof configuration;
    fixture_init(&fixture);
    raw = add_device(&fixture, &usbip_function_raw, &options);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(called(raw, "attach"));
}

static void end(void)
{
    client_close(&client);
    fixture_free(&fixture);
}

static bool send_text(uint8_t endpoint, const char *text)
{
    return usbip_device_send(raw->device, endpoint, (const uint8_t *)text, strlen(text));
}

/* One message, one transfer. */
static void test_messages(void)
{
    begin();
    CU_ASSERT_TRUE(send_text(IN, "one"));
    CU_ASSERT_TRUE(send_text(IN, "two"));
    CU_ASSERT_TRUE(send_text(INTERRUPT, "i"));
    submit_in(&client, 1, IN, 64, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "6f6e65"));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "74776f"));
    CU_ASSERT_TRUE(called(raw, "")); /* there was something: in() is not asked */
    submit_in(&client, 3, IN, 64, NULL);
    CU_ASSERT_TRUE(called(raw, "in81"));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(send_text(IN, "three"));
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "7468726565"));
    submit_in(&client, 4, INTERRUPT, 8, NULL);
    CU_ASSERT_TRUE(got_in(&client, 4, 0, "69"));
    end();
}

/* A message longer than a transfer fills several; S108: an empty one is an empty transfer. */
static void test_split_and_empty_messages(void)
{
    begin();
    uint8_t bytes[130];
    memset(bytes, 'm', sizeof bytes);
    CU_ASSERT_TRUE(usbip_device_send(raw->device, IN, bytes, sizeof bytes));
    CU_ASSERT_TRUE(send_text(IN, ""));
    CU_ASSERT_TRUE(send_text(IN, "x"));
    for (uint32_t i = 1; i <= 5; i++)
        submit_in(&client, i, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, bytes, 64));
    CU_ASSERT_TRUE(got_in_bytes(&client, 2, 0, bytes, 64));
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "6d6d"));
    CU_ASSERT_TRUE(got_in(&client, 4, 0, ""));
    CU_ASSERT_TRUE(got_in(&client, 5, 0, "78"));
    CU_ASSERT_TRUE(send_text(IN, "y"));
    submit_in(&client, 6, IN, 0, NULL); /* no room at all: the message stays */
    submit_in(&client, 7, IN, 1, NULL);
    CU_ASSERT_TRUE(got_in(&client, 6, 0, ""));
    CU_ASSERT_TRUE(got_in(&client, 7, 0, "79"));
    end();
}

static void test_send_refused(void)
{
    uint8_t *bytes = calloc(1, USBIP_FIFO_SIZE + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    begin();
    CU_ASSERT_FALSE(send_text(OUT, "x"));
    CU_ASSERT_FALSE(send_text(0x84, "x"));
    CU_ASSERT_FALSE(send_text(0x80, "x"));
    CU_ASSERT_FALSE(send_text(0x01, "x"));
    CU_ASSERT_FALSE(send_text(IN | 0x10, "x")); /* no bEndpointAddress has such a bit */
    CU_ASSERT_FALSE(usbip_device_send(raw->device, IN, bytes, USBIP_FIFO_SIZE + 1));
    CU_ASSERT_TRUE(usbip_device_send(raw->device, IN, bytes, USBIP_FIFO_SIZE - 1000));
    CU_ASSERT_FALSE(usbip_device_send(raw->device, INTERRUPT, bytes, 1000));
    submit_in(&client, 1, IN, USBIP_FIFO_SIZE, NULL);
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, bytes, USBIP_FIFO_SIZE - 1000));
    unsigned count = 0;
    while (count < USBIP_FIFO_SIZE && send_text(IN, "")) /* empty ones cost memory, too */
        count++;
    CU_ASSERT_TRUE(count > 1000 && count < USBIP_FIFO_SIZE);
    CU_ASSERT_EQUAL(usbip_device_write(raw->device, 1, bytes, 1), 0); /* no serial chip */
    CU_ASSERT_EQUAL(usbip_device_write_room(raw->device, 1), 0);
    usbip_device_set_modem_state(raw->device, 1, USBIP_MODEM_DCD);
    CU_ASSERT_EQUAL(usbip_device_modem_state(raw->device, 1), 0);
    end();
    free(bytes);
}

/* A message may be kept before the host has configured the device, but not over its departure. */
static void test_release_drops_messages(void)
{
    begin();
    CU_ASSERT_TRUE(send_text(IN, "stale"));
    client_close(&client);
    client_open(&fixture, &client);
    client_import(&client);
    CU_ASSERT_TRUE(send_text(IN, "fresh"));
    client_configure(&client);
    submit_in(&client, 1, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "6672657368"));
    end();
}

static void answer_each(struct recorder *recorder, const char *word)
{
    if (strcmp(word, "in81") == 0)
        usbip_device_send(recorder->device, IN, (const uint8_t *)"now", 3);
}

/* in() answers at once, each transfer that waits. */
static void test_in_answers(void)
{
    begin();
    raw->then = answer_each;
    submit_in(&client, 1, IN, 64, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "6e6f77"));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "6e6f77"));
    CU_ASSERT_TRUE(called(raw, "in81 in81"));
    end();
}

/* Transfers that had to wait for the client to read are each asked for. */
static void test_in_after_full_output(void)
{
    enum { BIG = USBIP_FIFO_SIZE - 1000 };
    uint8_t *bytes = calloc(1, BIG);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    begin();
    submit_in(&client, 1, INTERRUPT, BIG, NULL);
    submit_in(&client, 2, INTERRUPT, BIG, NULL);
    CU_ASSERT_TRUE(usbip_device_send(raw->device, INTERRUPT, bytes, BIG));
    CU_ASSERT_TRUE(usbip_device_send(raw->device, INTERRUPT, bytes, BIG));
    CU_ASSERT_FALSE(usbip_device_session_wants_input(client.session));
    raw->then = answer_each;
    submit_in(&client, 3, IN, 64, NULL);
    submit_in(&client, 4, IN, 64, NULL);
    CU_ASSERT_TRUE(called(raw, "in83 in83"));
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, bytes, BIG));
    CU_ASSERT_TRUE(got_in_bytes(&client, 2, 0, bytes, BIG));
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "6e6f77"));
    CU_ASSERT_TRUE(got_in(&client, 4, 0, "6e6f77"));
    CU_ASSERT_TRUE(called(raw, "in81 in81"));
    end();
    free(bytes);
}

/* A transfer that the behaviour cannot take stalls; the next one has its own chance. */
static void test_out(void)
{
    begin();
    submit_out(&client, 1, OUT, "616263", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 3));
    submit_out(&client, 2, OUT, "", NULL);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 0));
    raw->fails = true;
    submit_out(&client, 3, OUT, "68656c6c6f", NULL);
    CU_ASSERT_TRUE(got_out(&client, 3, -32, 0));
    raw->fails = false;
    submit_out(&client, 4, OUT, "64", NULL);
    CU_ASSERT_TRUE(got_out(&client, 4, 0, 1));
    CU_ASSERT_TRUE(called(raw, "out02=616263 out02= out02=68656c6c6f out02=64"));
    end();
}

static void halt_out(struct recorder *recorder, const char *word)
{
    if (strncmp(word, "out", 3) == 0)
        usbip_device_halt(recorder->device, OUT);
}

/* The transfer has ended with the halt, and does not end again. */
static void test_halt_from_within_out(void)
{
    begin();
    raw->then = halt_out;
    submit_out(&client, 1, OUT, "616263", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, -32, 0));
    CU_ASSERT_TRUE(got_nothing(&client));
    raw->then = NULL;
    CU_ASSERT_TRUE(control_out(&client, "02 01 0000 0200 0000", "", 0));
    submit_out(&client, 2, OUT, "64", NULL);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static void fill_output(struct recorder *recorder, const char *word)
{
    static const uint8_t bytes[USBIP_FIFO_SIZE - 1000];
    if (strncmp(word, "out", 3) == 0)
        usbip_device_send(recorder->device, IN, bytes, sizeof bytes);
}

/* What out() sends may fill the output: the transfer is told once for all that. */
static void test_out_that_fills_the_output(void)
{
    begin();
    submit_in(&client, 1, IN, USBIP_FIFO_SIZE, NULL);
    submit_in(&client, 2, IN, USBIP_FIFO_SIZE, NULL);
    CU_ASSERT_TRUE(called(raw, "in81 in81"));
    raw->then = fill_output;
    submit_out(&client, 3, OUT, "61", NULL);
    submit_out(&client, 4, OUT, "62", NULL);
    CU_ASSERT_FALSE(usbip_device_session_wants_input(client.session));
    CU_ASSERT_TRUE(called(raw, "out02=61 out02=62"));
    raw->then = NULL;
    const uint8_t *output;
    CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &output),
                    2 * (48 + USBIP_FIFO_SIZE - 1000) + 2 * 48);
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(called(raw, ""));
    end();
}

enum { LARGE = 400000 }; /* three fill the output */

static bool sent_all;

static void send_four(struct recorder *recorder, const char *word)
{
    static uint8_t bytes[LARGE];
    if (strncmp(word, "out", 3) != 0)
        return;
    for (unsigned i = 0; i < 4; i++) {
        bytes[0]++;
        sent_all &= usbip_device_send(recorder->device, IN, bytes, sizeof bytes);
    }
}

/* What is sent while there is room goes out behind what was kept when there was none. */
static void test_send_behind_kept_messages(void)
{
    uint8_t *bytes = calloc(1, LARGE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    begin();
    for (uint32_t i = 1; i <= 8; i++)
        submit_in(&client, i, IN, LARGE, NULL);
    sent_all = true;
    raw->then = send_four;
    submit_out(&client, 11, OUT, "61", NULL); /* the fourth message is kept */
    submit_out(&client, 12, OUT, "62", NULL); /* has to wait until there is room again */
    CU_ASSERT_TRUE(called(raw, "in81 in81 in81 in81 in81 in81 in81 in81 out02=61"));
    for (uint32_t i = 1; i <= 8; i++) {
        bytes[0] = (uint8_t)i;
        CU_ASSERT_TRUE(got_in_bytes(&client, i, 0, bytes, LARGE));
        if (i == 3)
            CU_ASSERT_TRUE(got_out(&client, 11, 0, 1));
        if (i == 6)
            CU_ASSERT_TRUE(got_out(&client, 12, 0, 1));
    }
    CU_ASSERT_TRUE(sent_all);
    CU_ASSERT_TRUE(called(raw, "out02=62"));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
    free(bytes);
}

/* Without out(), in() and control() there is a sink that stalls every request. */
static void test_no_behaviour(void)
{
    static const struct usbip_behaviour_ops nothing = {0};
    const struct usbip_behaviour behaviour = {&nothing, NULL};
    struct usbip_device_options options = usual_options();
    char error_text[256];
    options.configuration = configuration;
    options.configuration_size = sizeof configuration;
    fixture_init(&fixture);
    struct usbip_device *device =
        usbip_device_new(&options, &usbip_function_raw, &behaviour, &fixture.scheduler,
                         &fixture.bus.log, error_text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(device);
    CU_ASSERT_EQUAL(usbip_bus_add(&fixture.bus, device), 0);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    submit_out(&client, 1, OUT, "616263", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 3));
    submit_in(&client, 2, IN, 64, NULL);
    CU_ASSERT_TRUE(control_in(&client, "c0 01 0000 0000 0400", -32, ""));
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"messages", test_messages},
        {"S108 split and empty messages", test_split_and_empty_messages},
        {"messages that are refused", test_send_refused},
        {"release drops messages", test_release_drops_messages},
        {"in() answers", test_in_answers},
        {"in() after a full output", test_in_after_full_output},
        {"out()", test_out},
        {"halt from within out()", test_halt_from_within_out},
        {"out() that fills the output", test_out_that_fills_the_output},
        {"sent behind what is kept", test_send_behind_kept_messages},
        {"no behaviour", test_no_behaviour},
        CU_TEST_INFO_NULL,
    };
    return run_tests("raw", tests);
}
