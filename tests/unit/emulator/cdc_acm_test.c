/* The CDC-ACM function: its requests, data in both directions, notifications. */
#include "tests/unit/emulator/session_fixture.h"

enum { OUT = 0x01, IN = 0x81, INTERRUPT = 0x82 };

static struct fixture fixture;
static struct client client;
static struct recorder *acm;

static void begin_with(const struct usbip_device_options *options)
{
    fixture_init(&fixture);
    acm = add_device(&fixture, &usbip_function_cdc_acm, options);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(called(acm, "attach"));
}

static void begin(void)
{
    struct usbip_device_options options = usual_options();
    begin_with(&options);
}

static void end(void)
{
    client_close(&client);
    fixture_free(&fixture);
}

static size_t write_text(const char *text)
{
    return usbip_device_write(acm->device, 1, (const uint8_t *)text, strlen(text));
}

/* What Linux's cdc-acm does from probe to close, with data in between. */
static void test_linux_session(void)
{
    begin();
    /* probe */
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0700", "80250000000008", 0));
    CU_ASSERT_TRUE(called(acm, "coding=9600/8N1"));
    /* open */
    submit_in(&client, 100, INTERRUPT, 16, NULL);
    for (uint32_t i = 0; i < 16; i++)
        submit_in(&client, 200 + i, IN, 128, NULL);
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0000 0000", "", 0));
    CU_ASSERT_TRUE(called(acm, "lines=3 open"));
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0700", "00c20100000008", 0));
    CU_ASSERT_TRUE(called(acm, "coding=115200/8N1"));
    /* data */
    submit_out(&client, 300, OUT, "41 54 0d", NULL);
    CU_ASSERT_TRUE(got_out(&client, 300, 0, 3));
    CU_ASSERT_TRUE(called(acm, "data=41540d"));
    CU_ASSERT_EQUAL(write_text("OK"), 2);
    CU_ASSERT_TRUE(got_in(&client, 200, 0, "4f4b"));
    /* break */
    CU_ASSERT_TRUE(control_out(&client, "21 23 ffff 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_out(&client, "21 23 0000 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_out(&client, "21 23 fa00 0000 0000", "", 0));
    CU_ASSERT_TRUE(called(acm, "break=65535 break=0 break=250"));
    /* close */
    CU_ASSERT_TRUE(control_out(&client, "21 22 0000 0000 0000", "", 0));
    CU_ASSERT_TRUE(called(acm, "lines=0 close"));
    submit_unlink(&client, 400, 100);
    CU_ASSERT_TRUE(got_unlinked(&client, 400, -104));
    for (uint32_t i = 1; i < 16; i++) {
        submit_unlink(&client, 400 + i, 200 + i);
        CU_ASSERT_TRUE(got_unlinked(&client, 400 + i, -104));
    }
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
    CU_ASSERT_TRUE(called(acm, "detach")); /* it was closed already */
}

/* As usbser.sys reads back what it sets. */
static void test_line_coding(void)
{
    begin();
    CU_ASSERT_TRUE(control_in(&client, "a1 21 0000 0000 0700", 0, "80250000 00 00 08"));
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0700", "00100e00 02 02 07", 0));
    CU_ASSERT_TRUE(control_in(&client, "a1 21 0000 0000 0700", 0, "00100e00 02 02 07"));
    CU_ASSERT_TRUE(control_in(&client, "a1 21 0000 0000 0400", 0, "00100e00"));
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0700", "ffffffff ff ff ff", 0));
    CU_ASSERT_TRUE(control_in(&client, "a1 21 0000 0000 0700", 0, "ffffffff ff ff ff"));
    /* Too short to be one. */
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0600", "00c201000000", -32));
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0800", "00c2010000000800", -32));
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0000", "", -32));
    end();
}

/* Open and close are edges of DTR; the lines are told every time. */
static void test_lines(void)
{
    begin();
    CU_ASSERT_TRUE(control_out(&client, "21 22 0200 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_out(&client, "21 22 0100 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_out(&client, "21 22 fcff 0000 0000", "", 0)); /* reserved bits */
    CU_ASSERT_TRUE(called(acm, "lines=2 lines=1 open lines=3 lines=0 close"));
    end();
}

static void test_refused_requests(void)
{
    begin();
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0100 0000", "", -32)); /* the data interface */
    CU_ASSERT_TRUE(control_in(&client, "a1 21 0000 0100 0700", -32, ""));
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0001 0000", "", -32)); /* interface 256 */
    CU_ASSERT_TRUE(control_out(&client, "20 22 0300 0000 0000", "", -32)); /* to the device */
    CU_ASSERT_TRUE(control_out(&client, "21 00 0000 0000 0100", "41", -32));
    CU_ASSERT_TRUE(control_in(&client, "a1 01 0000 0000 0800", -32, ""));
    CU_ASSERT_TRUE(control_in(&client, "a1 20 0000 0000 0700", -32, ""));
    CU_ASSERT_TRUE(called(acm, ""));
    end();
}

/* What the behaviour cannot do stalls, each time anew; nothing is halted. */
static void test_failures_stall(void)
{
    begin();
    acm->fails = true;
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0700", "00c20100000008", -32));
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "21 23 ffff 0000 0000", "", -32));
    submit_out(&client, 1, OUT, "616263", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, -32, 0));
    acm->fails = false;
    submit_out(&client, 2, OUT, "64", NULL);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1));
    CU_ASSERT_TRUE(control_out(&client, "21 22 0000 0000 0000", "", 0));
    CU_ASSERT_TRUE(called(acm, "coding=115200/8N1 lines=3 open break=65535 data=616263 data=64 "
                               "lines=0 close"));
    end();
}

/* The control interface of a composite device may have any number. */
static void test_control_interface_2(void)
{
    static const uint8_t configuration[] = {
        9, 2,    69,   0,    3,  1,    0,    0x80, 50,                    /* configuration */
        9, 4,    0,    0,    0,  0xff, 0,    0,    0,                     /* something else */
        9, 4,    2,    0,    1,  2,    2,    1,    0,                     /* control */
        5, 0x24, 0,    0x10, 1,  5,    0x24, 6,    2,  3,                 /* header, union */
        4, 0x24, 2,    0,                                                 /* no capabilities */
        7, 5,    0x85, 3,    16, 0,    255,                               /* interrupt IN */
        9, 4,    3,    0,    2,  0x0a, 0,    0,    0,                     /* data */
        7, 5,    0x03, 2,    64, 0,    1,    7,    5,  0x84, 2, 64, 0, 1, /* bulk OUT, bulk IN */
    };
    CU_ASSERT_EQUAL_FATAL(sizeof configuration, 71);
    uint8_t bytes[sizeof configuration];
    memcpy(bytes, configuration, sizeof bytes);
    bytes[2] = sizeof bytes;
    struct usbip_device_options options = usual_options();
    options.configuration = bytes;
    options.configuration_size = sizeof bytes;
    begin_with(&options);
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0200 0000", "", 0));
    submit_in(&client, 1, 0x85, 16, NULL);
    submit_in(&client, 2, 0x84, 64, NULL);
    submit_out(&client, 3, 0x03, "68", NULL);
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DCD);
    write_text("i");
    CU_ASSERT_TRUE(got_out(&client, 3, 0, 1));
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "a1 20 0000 0200 0200 0100"));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "69"));
    CU_ASSERT_TRUE(called(acm, "lines=3 open data=68"));
    end();
}

/* ---- Data ---- */

/* S105, S113, S117, S145 */
static void test_out_sizes(void)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 65536, 1 << 20, (4 << 20) - 4096};
    uint8_t *bytes = malloc(4 << 20);
    uint64_t sum = 0, total = 0;
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    for (size_t i = 0; i < 4 << 20; i++)
        bytes[i] = (uint8_t)(i * 5 + i / 257);
    begin();
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        submit_out_bytes(&client, i, OUT, bytes, sizes[i]);
        CU_ASSERT_TRUE(got_out(&client, i, 0, (uint32_t)sizes[i]));
        sum += data_sum(total, bytes, sizes[i]);
        total += sizes[i];
    }
    CU_ASSERT_EQUAL(acm->received, total);
    CU_ASSERT_EQUAL(acm->received_sum, sum);
    CU_ASSERT_EQUAL(usbip_device_counters(acm->device)->bytes_out, total);
    end();
    free(bytes);
}

static void test_zero_length_out_is_not_data(void)
{
    begin();
    submit_out(&client, 1, OUT, "", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 0));
    CU_ASSERT_TRUE(called(acm, ""));
    end();
}

/* S106, S107, S108, S111: a transfer ends with what is there, and never early. */
static void test_in(void)
{
    begin();
    submit_in(&client, 1, IN, 512, NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    write_text("12345");
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "3132333435"));
    write_text("abcd"); /* kept until there is a transfer */
    write_text("efgh");
    submit_in(&client, 2, IN, 8, NULL); /* exactly full: nothing more to wait for */
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "6162636465666768"));
    CU_ASSERT_TRUE(called(acm, "drained"));
    char text[131];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (uint32_t i = 3; i <= 6; i++)
        submit_in(&client, i, IN, 64, NULL);
    write_text(text); /* over several transfers */
    CU_ASSERT_TRUE(got_in_bytes(&client, 3, 0, (uint8_t *)text, 64));
    CU_ASSERT_TRUE(got_in_bytes(&client, 4, 0, (uint8_t *)text, 64));
    CU_ASSERT_TRUE(got_in(&client, 5, 0, "7878"));
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(called(acm, "")); /* nothing had to wait */
    end();
}

/* S112: a packet longer than what is left of a transfer is babble, and lost. */
static void test_babble(void)
{
    char text[101];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    begin();
    submit_in(&client, 1, IN, 10, NULL);
    write_text("0123456789ab"); /* straight into the transfer */
    CU_ASSERT_TRUE(got_in(&client, 1, -USBIP_EOVERFLOW, ""));
    write_text(text); /* kept */
    submit_in(&client, 2, IN, 70, NULL);
    CU_ASSERT_TRUE(got_in_bytes(&client, 2, -USBIP_EOVERFLOW, (uint8_t *)text, 64));
    write_text("next");
    submit_in(&client, 3, IN, 10, NULL);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "6e657874"));
    end();
}

/* S121: a megabyte there and back, in pieces of all sizes. */
static void test_echo_integrity(void)
{
    enum { TOTAL = 1 << 20 };
    uint8_t *bytes = malloc(TOTAL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    for (size_t i = 0; i < TOTAL; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 253);
    begin();
    acm->echoes = true;
    size_t sent = 0, back = 0;
    for (uint32_t seqnum = 0; back < TOTAL; seqnum += 2) {
        size_t out = (seqnum * 977) % 5000, in = 64 + (seqnum * 353) % 9000 / 64 * 64;
        if (out > TOTAL - sent)
            out = TOTAL - sent;
        submit_out_bytes(&client, seqnum, OUT, bytes + sent, out);
        sent += out;
        CU_ASSERT_TRUE_FATAL(got_out(&client, seqnum, 0, (uint32_t)out));
        acm->calls[0] = '\0';
        if (sent == back)
            continue;
        size_t expected = in < sent - back ? in : sent - back;
        submit_in(&client, seqnum + 1, IN, (uint32_t)in, NULL);
        CU_ASSERT_TRUE_FATAL(got_in_bytes(&client, seqnum + 1, 0, bytes + back, expected));
        back += expected;
    }
    end();
    free(bytes);
}

/* The behaviour that needs no script. */
static void test_echo_behaviour(void)
{
    struct usbip_echo echo;
    const struct usbip_behaviour behaviour = {&usbip_echo_ops, &echo};
    const struct usbip_device_options options = usual_options();
    char error_text[256];
    fixture_init(&fixture);
    struct usbip_device *device =
        usbip_device_new(&options, &usbip_function_cdc_acm, &behaviour, &fixture.scheduler,
                         &fixture.bus.log, error_text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(device);
    CU_ASSERT_EQUAL(usbip_bus_add(&fixture.bus, device), 0);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0000 0000", "", 0));
    submit_out(&client, 1, OUT, "68656c6c6f", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 5));
    submit_in(&client, 2, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "68656c6c6f"));
    end();
}

/* The host waits while the FIFO is more than half full, so that an echo always has room. */
static void test_out_is_held_back(void)
{
    enum { HALF = USBIP_FIFO_SIZE / 2 };
    uint8_t *bytes = calloc(1, 4 * HALF);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    for (size_t i = 0; i < 4 * HALF; i++)
        bytes[i] = (uint8_t)(i / 1000);
    begin();
    acm->echoes = true;
    submit_out_bytes(&client, 1, OUT, bytes, HALF);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, HALF));
    submit_out_bytes(&client, 2, OUT, bytes + HALF, 64); /* half is not more than half */
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 64));
    submit_out_bytes(&client, 3, OUT, bytes + HALF + 64, HALF + 64); /* in two pieces */
    submit_out_bytes(&client, 4, OUT, bytes + 2 * HALF + 128, 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_EQUAL(acm->received, HALF + 64);
    submit_in(&client, 5, IN, 64, NULL); /* room for half again */
    CU_ASSERT_TRUE(got_in_bytes(&client, 5, 0, bytes, 64));
    CU_ASSERT_EQUAL(acm->received, 2 * HALF + 64);
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_unlink(&client, 6, 3); /* S133: a part of it has arrived */
    CU_ASSERT_TRUE(got_unlinked(&client, 6, -104));
    submit_in(&client, 7, IN, 2 * HALF, NULL);
    CU_ASSERT_TRUE(got_in_bytes(&client, 7, 0, bytes + 64, 2 * HALF));
    CU_ASSERT_TRUE(got_out(&client, 4, 0, 1));
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_in(&client, 8, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in_bytes(&client, 8, 0, bytes + 2 * HALF + 128, 1));
    end();
    free(bytes);
}

/* Without anybody who reads, `write` takes what fits and says how much that was. */
static void test_write_limit(void)
{
    uint8_t *bytes = calloc(1, USBIP_FIFO_SIZE + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    begin();
    CU_ASSERT_EQUAL(usbip_device_write_room(acm->device, 1), USBIP_FIFO_SIZE);
    CU_ASSERT_EQUAL(usbip_device_write(acm->device, 1, bytes, 100), 100);
    CU_ASSERT_EQUAL(usbip_device_write_room(acm->device, 1), USBIP_FIFO_SIZE - 100);
    CU_ASSERT_EQUAL(usbip_device_write(acm->device, 1, bytes, USBIP_FIFO_SIZE),
                    USBIP_FIFO_SIZE - 100);
    CU_ASSERT_EQUAL(usbip_device_write(acm->device, 1, bytes, 1), 0);
    submit_in(&client, 1, IN, USBIP_FIFO_SIZE, NULL);
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, bytes, USBIP_FIFO_SIZE));
    CU_ASSERT_TRUE(called(acm, "drained"));
    end();
    free(bytes);
}

/* S110: -EPIPE until the host clears the halt; what waits for it is kept. */
static void test_halt(void)
{
    begin();
    submit_in(&client, 1, IN, 64, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    usbip_device_halt(acm->device, IN);
    CU_ASSERT_TRUE(got_in(&client, 1, -32, ""));
    CU_ASSERT_TRUE(got_in(&client, 2, -32, ""));
    submit_in(&client, 3, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 3, -32, ""));
    write_text("later");
    CU_ASSERT_TRUE(control_out(&client, "02 01 0000 8100 0000", "", 0));
    submit_in(&client, 4, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 4, 0, "6c61746572"));
    usbip_device_halt(acm->device, OUT);
    submit_out(&client, 5, OUT, "61", NULL);
    CU_ASSERT_TRUE(got_out(&client, 5, -32, 0));
    usbip_device_halt(acm->device, 0x8f); /* no such endpoint */
    usbip_device_halt(acm->device, 0);
    CU_ASSERT_TRUE(control_in(&client, "80 08 0000 0000 0100", 0, "01"));
    end();
}

static void halt_on_data(struct recorder *recorder, const char *word)
{
    if (strncmp(word, "data", 4) == 0)
        usbip_device_halt(recorder->device, OUT);
}

/* From within the call that brings the data. */
static void test_halt_from_within(void)
{
    begin();
    acm->then = halt_on_data;
    submit_out(&client, 1, OUT, "616263", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, -32, 3)); /* it was taken before */
    acm->then = NULL;
    CU_ASSERT_TRUE(control_out(&client, "02 01 0000 0100 0000", "", 0));
    submit_out(&client, 2, OUT, "64", NULL);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1));
    CU_ASSERT_TRUE(called(acm, "data=616263 data=64"));
    end();
}

/* A halt from within while the URB waited already, with data of its own. */
static void test_halt_of_kept_data_from_within(void)
{
    uint8_t *bytes = calloc(1, USBIP_FIFO_SIZE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    begin();
    usbip_device_write(acm->device, 1, bytes, USBIP_FIFO_SIZE);
    submit_out(&client, 1, OUT, "616263", NULL);
    submit_out(&client, 2, OUT, "646566", NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    acm->then = halt_on_data;
    submit_in(&client, 3, IN, USBIP_FIFO_SIZE, NULL);
    CU_ASSERT_TRUE(got_in_bytes(&client, 3, 0, bytes, USBIP_FIFO_SIZE));
    /* Full output held it back until it was taken. */
    CU_ASSERT_TRUE(got_out(&client, 1, -32, 3));
    CU_ASSERT_TRUE(got_out(&client, 2, -32, 0));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
    free(bytes);
}

static void talk_back(struct recorder *recorder, const char *word)
{
    if (strcmp(word, "open") == 0 || strcmp(word, "drained") == 0)
        usbip_device_write(recorder->device, 1, (const uint8_t *)"hello", 5);
    if (strncmp(word, "lines", 5) == 0)
        usbip_device_set_modem_state(recorder->device, 1, USBIP_MODEM_DCD | USBIP_MODEM_DSR);
}

static void test_calls_from_within(void)
{
    begin();
    acm->then = talk_back;
    submit_in(&client, 1, INTERRUPT, 16, NULL);
    submit_out(&client, 2, 0, "", "21 22 0300 0000 0000");
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "a1 20 0000 0000 0200 0300")); /* before its request */
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 0));
    submit_in(&client, 2, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "68656c6c6f"));
    submit_in(&client, 3, IN, 64, NULL); /* what drained() wrote */
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "68656c6c6f"));
    end();
}

/* ---- Notifications: S118 ---- */

static void test_notifications(void)
{
    begin();
    submit_in(&client, 1, INTERRUPT, 16, NULL);
    CU_ASSERT_TRUE(got_nothing(&client)); /* nothing has changed */
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DCD);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "a1 20 0000 0000 0200 0100"));
    submit_in(&client, 2, INTERRUPT, 16, NULL);
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DCD);
    usbip_device_set_modem_state(acm->device, 1,
                                 USBIP_MODEM_DCD | USBIP_MODEM_CTS); /* no CTS here */
    CU_ASSERT_TRUE(got_nothing(&client));
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DCD | USBIP_MODEM_BREAK);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "a1 20 0000 0000 0200 0500"));
    submit_in(&client, 3, INTERRUPT, 16, NULL);
    CU_ASSERT_TRUE(got_nothing(&client)); /* an event is told once */
    usbip_device_set_modem_state(acm->device, 1, 0);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "a1 20 0000 0000 0200 0000"));
    CU_ASSERT_EQUAL(usbip_device_modem_state(acm->device, 1), 0);
    /* While nobody asks, the last state counts and events add up. */
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DSR | USBIP_MODEM_OVERRUN);
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DCD | USBIP_MODEM_PARITY);
    submit_in(&client, 4, INTERRUPT, 16, NULL);
    submit_in(&client, 5, INTERRUPT, 16, NULL);
    CU_ASSERT_TRUE(got_in(&client, 4, 0, "a1 20 0000 0000 0200 6100"));
    CU_ASSERT_TRUE(got_nothing(&client));
    /* The ring is irregular: told each time. */
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DCD | USBIP_MODEM_RI);
    CU_ASSERT_TRUE(got_in(&client, 5, 0, "a1 20 0000 0000 0200 0900"));
    submit_in(&client, 6, INTERRUPT, 16, NULL);
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DCD | USBIP_MODEM_RI);
    CU_ASSERT_TRUE(got_in(&client, 6, 0, "a1 20 0000 0000 0200 0900"));
    end();
}

static void test_notification_in_two_pieces(void)
{
    begin();
    submit_in(&client, 1, INTERRUPT, 8, NULL);
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DSR);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "a1 20 0000 0000 0200"));
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DCD); /* not into the middle of it */
    submit_in(&client, 2, INTERRUPT, 8, NULL);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "0200"));
    submit_in(&client, 3, INTERRUPT, 8, NULL);
    submit_in(&client, 4, INTERRUPT, 8, NULL);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "a1 20 0000 0000 0200"));
    CU_ASSERT_TRUE(got_in(&client, 4, 0, "0100"));
    end();
}

/* A host that comes later learns of the lines, too, and hears no halves of old notifications. */
static void test_lines_are_told_to_the_next_host(void)
{
    begin();
    submit_in(&client, 1, INTERRUPT, 8, NULL);
    usbip_device_set_modem_state(acm->device, 1, USBIP_MODEM_DCD);
    client_close(&client);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    submit_in(&client, 2, INTERRUPT, 16, NULL);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "a1 20 0000 0000 0200 0100"));
    end();
}

/* ---- Descriptors ---- */

static void test_layout(void)
{
    struct usbip_device_options options = usual_options();
    options.function = (struct usbip_function_options){
        .out_endpoint = 0x04, .in_endpoint = 0x83, .interrupt_endpoint = 0x85, .no_iad = true};
    begin_with(&options);
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 1200", 0,
                              "12 01 0002 020000 40 0912 0100 0001 01 02 03 01"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0002 0000 ff00", 0,
                              "09 02 4300 02 01 00 80 32 | 09 04 00 00 01 02 02 00 00 |"
                              "05 24 00 1001 | 04 24 02 06 | 05 24 01 00 01 | 05 24 06 00 01 |"
                              "07 05 85 03 1000 10 | 09 04 01 00 02 0a 00 00 00 |"
                              "07 05 83 02 4000 00 | 07 05 04 02 4000 00"));
    submit_in(&client, 1, 0x83, 64, NULL);
    write_text("x");
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "78"));
    end();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a session of Linux's cdc-acm", test_linux_session},
        {"line coding", test_line_coding},
        {"control lines", test_lines},
        {"requests that are refused", test_refused_requests},
        {"failures stall", test_failures_stall},
        {"control interface 2", test_control_interface_2},
        {"S105 S113 S117 S145 sizes of OUT", test_out_sizes},
        {"S117 zero-length OUT is not data", test_zero_length_out_is_not_data},
        {"S106-S108 S111 IN", test_in},
        {"S112 babble", test_babble},
        {"S121 echo of a megabyte", test_echo_integrity},
        {"the echo behaviour", test_echo_behaviour},
        {"S133 OUT is held back", test_out_is_held_back},
        {"limit of write", test_write_limit},
        {"S110 halt", test_halt},
        {"halt from within data", test_halt_from_within},
        {"halt of kept data from within", test_halt_of_kept_data_from_within},
        {"calls from within", test_calls_from_within},
        {"S118 notifications", test_notifications},
        {"a notification in two pieces", test_notification_in_two_pieces},
        {"lines are told to the next host", test_lines_are_told_to_the_next_host},
        {"layout", test_layout},
        CU_TEST_INFO_NULL,
    };
    return run_tests("cdc_acm", tests);
}
