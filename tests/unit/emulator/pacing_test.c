/* Serial chips whose bytes take their time, in virtual time: exact to the microsecond. */
#include "tests/unit/emulator/session_fixture.h"

#include "emulator/pacing.h"

enum {
    ACM_OUT = 0x01,
    FTDI_OUT = 0x02,
    IN = 0x81,
    MS = 1000,
    SECOND = 1000 * MS,
    BUFFER = USBIP_LINE_BUFFER_SIZE,
    BYTES_PER_SECOND = 11520, /* of 115200 8N1 */
    URB_SIZE = 64,
};

/* CTS, DSR and DCD are up; the transmitter is empty, or not. */
#define EMPTY "b160"
#define BUSY "b100"

#define SET_9600 "21 20 0000 0000 0700", "80250000000008", 0
#define SET_115200 "21 20 0000 0000 0700", "00c20100000008", 0

static struct fixture fixture;
static struct client client;
static struct recorder *device;
static uint8_t counting[1 << 20]; /* 0, 1, 2, … */

static void begin(const struct usbip_function_type *type)
{
    struct usbip_device_options options = usual_options();
    options.function.paced = true;
    for (size_t i = 0; i < sizeof counting; i++)
        counting[i] = (uint8_t)i;
    fixture_init(&fixture);
    device = add_device(&fixture, type, &options);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
}

static void begin_acm(void)
{
    begin(&usbip_function_cdc_acm);
    CU_ASSERT_TRUE(control_out(&client, SET_115200));
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0000 0000", "", 0));
    CU_ASSERT_TRUE(called(device, "attach coding=115200/8N1 lines=3 open"));
}

static void begin_ftdi(void)
{
    begin(&usbip_function_ftdi);
    CU_ASSERT_TRUE(control_out(&client, "40 03 1a00 0000 0000", "", 0)); /* 115200 */
    CU_ASSERT_TRUE(control_out(&client, "40 01 0303 0000 0000", "", 0)); /* DTR, RTS */
    CU_ASSERT_TRUE(called(device, "attach coding=115200/8N1 lines=3 open"));
}

static void end(void)
{
    client_close(&client);
    fixture_free(&fixture);
}

static void to_us(uint64_t us)
{
    CU_ASSERT_TRUE_FATAL(us >= fixture.scheduler.now_us);
    usbip_scheduler_advance(&fixture.scheduler, us);
}

/* When the n-th of bytes that follow each other since time 0 has passed at 115200 8N1. */
static uint64_t passed_us(uint64_t n)
{
    return (n * SECOND + BYTES_PER_SECOND - 1) / BYTES_PER_SECOND;
}

static void write_counting(size_t first, size_t count)
{
    CU_ASSERT_EQUAL(usbip_device_write(device->device, 1, counting + first, count), count);
}

/* The next timer's time: how often the device is woken until then. */
static unsigned wakes_until(uint64_t us)
{
    unsigned wakes = 0;
    for (uint64_t due_us; (due_us = usbip_scheduler_due_us(&fixture.scheduler)) <= us; wakes++)
        to_us(due_us);
    to_us(us);
    return wakes;
}

/* ---- CDC-ACM, to the host ---- */

/* A transfer for each byte: each ends when its byte has arrived, neither before nor after. */
static void test_each_byte_in_its_time(void)
{
    begin_acm();
    for (uint32_t i = 0; i < 1000; i++)
        submit_in(&client, 1 + i, IN, 1, NULL);
    write_counting(0, 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        to_us(passed_us(i + 1) - 1);
        CU_ASSERT_TRUE(got_nothing(&client));
        to_us(passed_us(i + 1));
        CU_ASSERT_TRUE(got_in_bytes(&client, 1 + i, 0, counting + i, 1));
    }
    end();
}

/* A long transfer ends when nothing more is on its way. */
static void test_short_answer(void)
{
    begin_acm();
    submit_in(&client, 1, IN, 512, NULL);
    submit_in(&client, 2, IN, 512, NULL);
    to_us(10 * MS);
    write_counting(0, 4);
    to_us(10 * MS + passed_us(1) - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    to_us(10 * MS + passed_us(1));
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "00"));
    to_us(10 * MS + passed_us(4) - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    to_us(10 * MS + passed_us(4));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "010203"));
    CU_ASSERT_TRUE(called(device, "drained"));
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), USBIP_NEVER);
    end();
}

/* A second of bytes takes a second, and a timer for each frame, not for each byte. */
static void test_a_second_to_the_host(void)
{
    begin_acm();
    for (uint32_t i = 0; i < 2000; i++)
        submit_in(&client, 1 + i, IN, 512, NULL);
    write_counting(0, BYTES_PER_SECOND + 1);
    unsigned wakes = wakes_until(SECOND);
    CU_ASSERT_TRUE(wakes >= 900 && wakes <= 1001);
    const struct usbip_device_counters *counters = usbip_device_counters(device->device);
    CU_ASSERT_TRUE(counters->bytes_in > BYTES_PER_SECOND - 12);
    CU_ASSERT_TRUE(counters->bytes_in <= BYTES_PER_SECOND);
    to_us(passed_us(BYTES_PER_SECOND + 1));
    CU_ASSERT_EQUAL(counters->bytes_in, BYTES_PER_SECOND + 1);
    end();
}

/* What arrived while nobody asked is there at once, what has not is not. */
static void test_asked_later(void)
{
    begin_acm();
    write_counting(0, 1000);
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), USBIP_NEVER);
    to_us(passed_us(700));
    submit_in(&client, 1, IN, 1024, NULL);
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, counting, 700));
    submit_in(&client, 2, IN, 1024, NULL);
    to_us(2 * SECOND);
    submit_in(&client, 3, IN, 1024, NULL);
    submit_in(&client, 4, IN, 1024, NULL);
    CU_ASSERT_TRUE(got_in_bytes(&client, 2, 0, counting + 700, 11)); /* of one frame */
    while (usbip_scheduler_due_us(&fixture.scheduler) != USBIP_NEVER)
        to_us(usbip_scheduler_due_us(&fixture.scheduler));
    CU_ASSERT_TRUE(got_in_bytes(&client, 3, 0, counting + 711, 289));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* The line is busy until the last byte has passed: what is written meanwhile follows it. */
static void test_written_behind(void)
{
    begin_acm();
    write_counting(0, 100);
    to_us(passed_us(50));
    write_counting(100, 100);
    for (uint32_t i = 0; i < 3; i++)
        submit_in(&client, 1 + i, IN, URB_SIZE, NULL);
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, counting, 50));
    const struct usbip_device_counters *counters = usbip_device_counters(device->device);
    to_us(passed_us(200));
    submit_in(&client, 4, IN, 4096, NULL);
    submit_in(&client, 5, IN, 4096, NULL);
    CU_ASSERT_EQUAL(counters->bytes_in, 200);
    uint64_t later_us = passed_us(200) + 5 * MS;
    to_us(later_us);
    write_counting(200, 1);
    to_us(later_us + passed_us(1) - 1);
    CU_ASSERT_EQUAL(counters->bytes_in, 200);
    to_us(later_us + passed_us(1));
    CU_ASSERT_EQUAL(counters->bytes_in, 201);
    end();
}

/* ---- CDC-ACM, from the host ---- */

/* Transfers end as the chip's buffer has room for them; the bytes come when they have passed. */
static void test_out_follows_the_line(void)
{
    begin_acm();
    const uint32_t urbs = BYTES_PER_SECOND / URB_SIZE;
    for (uint32_t i = 0; i < urbs; i++)
        submit_out_bytes(&client, 1 + i, ACM_OUT, counting + (size_t)i * URB_SIZE, URB_SIZE);
    for (uint32_t i = 0; i < urbs; i++) {
        size_t end_of_urb = (i + 1) * URB_SIZE;
        uint64_t due_us = end_of_urb > BUFFER ? passed_us(end_of_urb - BUFFER) : 0;
        if (due_us > 0) {
            to_us(due_us - 1);
            CU_ASSERT_TRUE(got_nothing(&client));
            to_us(due_us);
        }
        CU_ASSERT_TRUE(got_out(&client, 1 + i, 0, URB_SIZE));
        device->calls[0] = '\0';
    }
    to_us(SECOND - 1);
    CU_ASSERT_TRUE(device->received < BYTES_PER_SECOND);
    to_us(SECOND);
    CU_ASSERT_EQUAL(device->received, BYTES_PER_SECOND);
    CU_ASSERT_EQUAL(device->received_sum, data_sum(0, counting, BYTES_PER_SECOND));
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), USBIP_NEVER);
    end();
}

/* The behaviour gets what has come in a frame, and the last byte at its time. */
static void test_pieces_of_a_frame(void)
{
    begin_acm();
    submit_out_bytes(&client, 1, ACM_OUT, counting, 30);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 30));
    to_us(passed_us(1) - 1);
    CU_ASSERT_TRUE(called(device, ""));
    to_us(passed_us(1));
    CU_ASSERT_TRUE(called(device, "data=00"));
    to_us(passed_us(1) + MS);
    CU_ASSERT_TRUE(called(device, "data=0102030405060708090a0b"));
    to_us(passed_us(1) + 2 * MS);
    CU_ASSERT_TRUE(called(device, "data=0c0d0e0f1011121314151617"));
    to_us(passed_us(30) - 1);
    CU_ASSERT_TRUE(called(device, ""));
    to_us(passed_us(30));
    CU_ASSERT_TRUE(called(device, "data=18191a1b1c1d"));
    end();
}

/* One transfer of more than the buffer: it ends with its last byte in there. */
static void test_long_transfer(void)
{
    begin_acm();
    submit_out_bytes(&client, 1, ACM_OUT, counting, 1000);
    submit_out_bytes(&client, 2, ACM_OUT, counting, 0);
    to_us(passed_us(1000 - BUFFER) - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    to_us(passed_us(1000 - BUFFER));
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1000));
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 0));
    to_us(passed_us(1000));
    CU_ASSERT_EQUAL(device->received, 1000);
    CU_ASSERT_EQUAL(device->received_sum, data_sum(0, counting, 1000));
    end();
}

/* What is unlinked has left in the buffer what was in there. */
static void test_unlink(void)
{
    begin_acm();
    submit_out_bytes(&client, 1, ACM_OUT, counting, 1000);
    submit_unlink(&client, 2, 1);
    CU_ASSERT_TRUE(got_unlinked(&client, 2, -104));
    to_us(SECOND);
    CU_ASSERT_EQUAL(device->received, BUFFER);
    submit_out_bytes(&client, 3, ACM_OUT, counting, 10);
    CU_ASSERT_TRUE(got_out(&client, 3, 0, 10));
    end();
}

/* An echo at full rate, both ways at once: a byte is back two byte times after it was sent. */
static void test_echo(void)
{
    begin_acm();
    device->echoes = true;
    submit_out_bytes(&client, 1, ACM_OUT, counting, 1);
    submit_in(&client, 2, IN, 64, NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1));
    to_us(2 * passed_us(1) - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    to_us(2 * passed_us(1));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "00"));
    end();
}

/* The behaviour has no room for an answer: the bytes wait in the buffer, the transfers behind it.
 */
static void test_no_room_for_the_answer(void)
{
    begin_acm();
    write_counting(0, USBIP_FIFO_SIZE / 2 + 1);
    submit_out_bytes(&client, 1, ACM_OUT, counting, BUFFER);
    submit_out_bytes(&client, 2, ACM_OUT, counting, BUFFER);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, BUFFER));
    to_us(SECOND);
    CU_ASSERT_EQUAL(device->received, 0);
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), USBIP_NEVER);
    submit_in(&client, 3, IN, 1, NULL);          /* makes room */
    CU_ASSERT_TRUE(got_in(&client, 3, -75, "")); /* less than a packet */
    CU_ASSERT_TRUE(got_out(&client, 2, 0, BUFFER));
    CU_ASSERT_EQUAL(device->received, BUFFER);
    to_us(SECOND + passed_us(BUFFER));
    CU_ASSERT_EQUAL(device->received, 2 * BUFFER);
    end();
}

/* An error of the behaviour has no transfer left that it could end. */
static void test_behaviour_fails(void)
{
    begin_acm();
    device->fails = true;
    submit_out_bytes(&client, 1, ACM_OUT, counting, 200);
    to_us(SECOND);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 200));
    CU_ASSERT_EQUAL(device->received, 200);
    end();
}

/* ---- What changes the line ---- */

static void test_coding_changes(void)
{
    begin_acm();
    for (uint32_t i = 0; i < 20; i++)
        submit_in(&client, 100 + i, IN, 1, NULL);
    write_counting(0, 20);
    submit_out_bytes(&client, 1, ACM_OUT, counting, 20);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 20));
    to_us(passed_us(10));
    for (uint32_t i = 0; i < 10; i++)
        CU_ASSERT_TRUE(got_in_bytes(&client, 100 + i, 0, counting + i, 1));
    uint64_t changed_us = fixture.scheduler.now_us;
    CU_ASSERT_TRUE(control_out(&client, SET_9600));
    CU_ASSERT_EQUAL(device->received, 10);
    for (uint32_t i = 0; i < 10; i++) {
        uint64_t due_us = changed_us + ((i + 1) * UINT64_C(10000000) + 9599) / 9600;
        to_us(due_us - 1);
        CU_ASSERT_TRUE(got_nothing(&client));
        CU_ASSERT_EQUAL(device->received, 10 + i);
        to_us(due_us);
        CU_ASSERT_TRUE(got_in_bytes(&client, 110 + i, 0, counting + 10 + i, 1));
        CU_ASSERT_EQUAL(device->received, 11 + i);
        /* Hosts set the same again and again. */
        CU_ASSERT_TRUE(control_out(&client, SET_9600));
    }
    end();
}

/* A rate of 0 is none. */
static void test_no_rate(void)
{
    begin_acm();
    CU_ASSERT_TRUE(control_out(&client, "21 20 0000 0000 0700", "00000000000008", 0));
    submit_in(&client, 1, IN, 1024, NULL);
    write_counting(0, 1000);
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, counting, 1000));
    submit_out_bytes(&client, 2, ACM_OUT, counting, 1000);
    CU_ASSERT_TRUE(wakes_until(fixture.scheduler.now_us) < 20);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 1000));
    CU_ASSERT_EQUAL(device->received, 1000);
    end();
}

/* What the chip has taken reaches the behaviour before the port is closed. */
static void test_close(void)
{
    begin_acm();
    submit_out(&client, 1, ACM_OUT, "68 69", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 2));
    CU_ASSERT_TRUE(control_out(&client, "21 22 0000 0000 0000", "", 0));
    CU_ASSERT_TRUE(called(device, "data=6869 lines=0 close"));
    to_us(SECOND);
    CU_ASSERT_TRUE(called(device, ""));
    end();
}

/* The host is gone, and everything on the line with it; the next one begins anew. */
static void test_gone(void)
{
    begin_acm();
    submit_out_bytes(&client, 1, ACM_OUT, counting, 1000);
    submit_in(&client, 2, IN, 512, NULL);
    write_counting(0, 1000);
    to_us(100);
    CU_ASSERT_TRUE(called(device, "data=00"));
    client_close(&client);
    CU_ASSERT_TRUE(called(device, "close detach"));
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), USBIP_NEVER);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    submit_in(&client, 3, IN, 512, NULL);
    uint64_t began_us = fixture.scheduler.now_us;
    write_counting(0, 1);
    to_us(began_us + 1041); /* 9600 8N1 after a reset */
    CU_ASSERT_TRUE(got_nothing(&client));
    to_us(began_us + 1042);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "00"));
    end();
}

/* A break does not wait behind bytes. */
static void test_break(void)
{
    begin_acm();
    submit_out(&client, 1, ACM_OUT, "41", NULL);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 1));
    CU_ASSERT_TRUE(control_out(&client, "21 23 6400 0000 0000", "", 0));
    CU_ASSERT_TRUE(called(device, "break=100"));
    to_us(SECOND);
    CU_ASSERT_TRUE(called(device, "data=41"));
    end();
}

/* ---- FTDI ---- */

/* A second of bytes in a second; each transfer ends with the latency timer. */
static void test_ftdi_to_the_host(void)
{
    begin_ftdi();
    for (uint32_t i = 0; i < 100; i++)
        submit_in(&client, 1 + i, IN, 512, NULL);
    write_counting(0, BYTES_PER_SECOND);
    unsigned wakes = wakes_until(16 * MS);
    CU_ASSERT_EQUAL(wakes, 1);
    uint8_t packets[512];
    size_t at = 0, sent = 0;
    const size_t arrived = 184; /* of 16 ms: 184.32 */
    while (sent < arrived) {
        size_t size = arrived - sent < 62 ? arrived - sent : 62;
        memcpy(packets + at, "\xb1\x60", 2);
        memcpy(packets + at + 2, counting + sent, size);
        at += size + 2;
        sent += size;
    }
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, packets, at));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* A full transfer does not wait for the latency timer: it ends with the byte that fills it. */
static void test_ftdi_full_transfer(void)
{
    begin_ftdi();
    submit_in(&client, 1, IN, 64, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    write_counting(0, 70);
    to_us(passed_us(62) - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    to_us(passed_us(62));
    uint8_t packet[64] = {0xb1, 0x60};
    memcpy(packet + 2, counting, 62);
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, packet, 64));
    to_us(passed_us(62) + 16 * MS - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    to_us(passed_us(62) + 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, EMPTY "3e3f404142434445"));
    end();
}

/* The event character sends what has come when it arrives, each time. */
static void test_ftdi_event_character(void)
{
    begin_ftdi();
    CU_ASSERT_TRUE(control_out(&client, "40 06 0a01 0000 0000", "", 0));
    for (uint32_t i = 0; i < 4; i++)
        submit_in(&client, 1 + i, IN, 512, NULL);
    usbip_device_write(device->device, 1, (const uint8_t *)"ab\ncd\ne", 7);
    to_us(passed_us(3) - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    to_us(passed_us(3));
    CU_ASSERT_TRUE(got_in(&client, 1, 0, EMPTY "61620a"));
    to_us(passed_us(6) - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    to_us(passed_us(6));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, EMPTY "63640a"));
    to_us(passed_us(6) + 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, EMPTY "65"));
    submit_unlink(&client, 5, 4);
    CU_ASSERT_TRUE(got_unlinked(&client, 5, -104));
    /* It arrives while nobody asks, and the far end writes on. */
    uint64_t now_us = fixture.scheduler.now_us;
    usbip_device_write(device->device, 1, (const uint8_t *)"f\n", 2);
    to_us(now_us + passed_us(2));
    usbip_device_write(device->device, 1, (const uint8_t *)"g", 1);
    submit_in(&client, 6, IN, 512, NULL);
    CU_ASSERT_TRUE(got_in(&client, 6, 0, EMPTY "660a"));
    end();
}

/* The status tells whether the transmitter is empty, as drivers ask before they close. */
static void test_ftdi_transmitter(void)
{
    begin_ftdi();
    submit_in(&client, 1, IN, 512, NULL);
    submit_out_bytes(&client, 2, FTDI_OUT, counting, 20);
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 20));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0000 0200", 0, BUSY));
    CU_ASSERT_TRUE(control_out(&client, "40 09 0100 0000 0000", "", 0)); /* latency 1 ms */
    to_us(MS);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, BUSY));
    to_us(passed_us(20));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0000 0200", 0, EMPTY));
    CU_ASSERT_EQUAL(device->received, 20);
    end();
}

/* Purges empty the chip, not the far end; a reset does both. */
static void test_ftdi_purge(void)
{
    begin_ftdi();
    write_counting(0, 20);
    submit_out_bytes(&client, 1, FTDI_OUT, counting, 20);
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 20));
    to_us(passed_us(10));
    device->calls[0] = '\0';
    uint64_t received = device->received;
    CU_ASSERT_TRUE(control_out(&client, "40 00 0100 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_out(&client, "40 00 0200 0000 0000", "", 0));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0000 0200", 0, EMPTY));
    to_us(SECOND);
    CU_ASSERT_EQUAL(device->received, received);
    submit_in(&client, 2, IN, 512, NULL);
    to_us(SECOND + 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, EMPTY "0a0b0c0d0e0f10111213"));
    CU_ASSERT_TRUE(called(device, "drained"));
    write_counting(0, 5);
    submit_out_bytes(&client, 3, FTDI_OUT, counting, 5);
    CU_ASSERT_TRUE(got_out(&client, 3, 0, 5));
    to_us(SECOND + 16 * MS + passed_us(1));
    CU_ASSERT_TRUE(called(device, "data=00"));
    CU_ASSERT_TRUE(control_out(&client, "40 00 0000 0000 0000", "", 0));
    CU_ASSERT_TRUE(called(device, "lines=0 close"));
    to_us(2 * SECOND);
    CU_ASSERT_TRUE(called(device, ""));
    end();
}

/* A break of the far end comes in its place among the bytes, and is told when it is there. */
static void test_ftdi_break_of_the_far_end(void)
{
    begin_ftdi();
    submit_in(&client, 1, IN, 512, NULL);
    submit_in(&client, 2, IN, 512, NULL);
    write_counting(1, 2);
    usbip_device_set_modem_state(device->device, 1,
                                 usbip_device_modem_state(device->device, 1) | USBIP_MODEM_BREAK);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, EMPTY)); /* the lines may have changed */
    to_us(passed_us(3) - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    to_us(passed_us(3));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "b170 010200"));
    end();
}

int main(void)
{
    static CU_TestInfo tests[] = {
        {"each byte in its time", test_each_byte_in_its_time},
        {"a short answer", test_short_answer},
        {"a second to the host", test_a_second_to_the_host},
        {"asked later", test_asked_later},
        {"written behind", test_written_behind},
        {"OUT follows the line", test_out_follows_the_line},
        {"pieces of a frame", test_pieces_of_a_frame},
        {"a long transfer", test_long_transfer},
        {"unlink", test_unlink},
        {"echo", test_echo},
        {"no room for the answer", test_no_room_for_the_answer},
        {"the behaviour fails", test_behaviour_fails},
        {"the coding changes", test_coding_changes},
        {"no rate", test_no_rate},
        {"close", test_close},
        {"the host is gone", test_gone},
        {"break", test_break},
        {"FTDI: to the host", test_ftdi_to_the_host},
        {"FTDI: a full transfer", test_ftdi_full_transfer},
        {"FTDI: event character", test_ftdi_event_character},
        {"FTDI: transmitter", test_ftdi_transmitter},
        {"FTDI: purge", test_ftdi_purge},
        {"FTDI: a break of the far end", test_ftdi_break_of_the_far_end},
        CU_TEST_INFO_NULL,
    };
    return run_tests("pacing", tests);
}
