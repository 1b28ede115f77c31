/* The FTDI function: requests, the packets with their status bytes, the latency timer, EEPROM. */
#include "tests/unit/emulator/session_fixture.h"

enum { OUT = 0x02, IN = 0x81, MS = 1000, PACKET_DATA = 62, EEPROM_WORDS = 64 };

/* CTS, DSR and DCD are up; the transmitter is empty. */
#define STATUS "b1 60"

static struct fixture fixture;
static struct client client;
static struct recorder *ftdi;

static void begin(void)
{
    struct usbip_device_options options = usual_options();
    options.descriptor.bMaxPacketSize0 = 8;
    options.descriptor.idVendor = 0x0403;
    options.descriptor.idProduct = 0x6001;
    options.descriptor.bcdDevice = 0x0600;
    fixture_init(&fixture);
    ftdi = add_device(&fixture, &usbip_function_ftdi, &options);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(called(ftdi, "attach"));
}

static void end(void)
{
    client_close(&client);
    fixture_free(&fixture);
}

static void write_text(const char *text)
{
    usbip_device_write(ftdi->device, 1, (const uint8_t *)text, strlen(text));
}

/* Writes `count` bytes that count up from `first`. */
static void write_counting(uint8_t first, size_t count)
{
    uint8_t bytes[4096];
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(first + i);
    CU_ASSERT_EQUAL(usbip_device_write(ftdi->device, 1, bytes, count), count);
}

/* A transfer with `count` bytes that count up from `first`, cut into packets; the last is short
 * unless the transfer is full. */
static bool got_counting(uint32_t seqnum, uint8_t first, size_t count, size_t size)
{
    uint8_t bytes[8192];
    size_t at = 0, done = 0;
    while (at < size) {
        bytes[at++] = 0xb1;
        bytes[at++] = 0x60;
        for (size_t i = 0; i < PACKET_DATA && done < count; i++, done++)
            bytes[at++] = (uint8_t)(first + done);
    }
    return at == size && done == count && got_in_bytes(&client, seqnum, 0, bytes, size);
}

static bool out_request(const char *setup)
{
    return control_out(&client, setup, "", 0);
}

/* ---- Requests ---- */

/* What Linux's ftdi_sio does from probe to close. */
static void test_linux_session(void)
{
    begin();
    /* probe */
    CU_ASSERT_TRUE(control_in(&client, "c0 0a 0000 0000 0100", 0, "10"));
    CU_ASSERT_TRUE(out_request("40 09 1000 0000 0000"));
    CU_ASSERT_TRUE(control_in(&client, "c0 90 0000 0a00 0200", 0, "2310")); /* CBUS */
    CU_ASSERT_TRUE(called(ftdi, ""));
    /* open */
    CU_ASSERT_TRUE(out_request("40 00 0000 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 04 0800 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 03 3841 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 02 0000 0000 0000"));
    submit_in(&client, 100, IN, 512, NULL);
    submit_in(&client, 101, IN, 512, NULL);
    CU_ASSERT_TRUE(out_request("40 01 0303 0000 0000"));
    CU_ASSERT_TRUE(called(ftdi, "coding=9600/8N1 coding=9600/8N1 lines=3 open"));
    /* termios: 115200 7E2, then RTS/CTS, then XON/XOFF */
    CU_ASSERT_TRUE(out_request("40 04 0712 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 03 1a00 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 02 0000 0001 0000"));
    CU_ASSERT_TRUE(out_request("40 02 1113 0004 0000"));
    CU_ASSERT_TRUE(called(ftdi, "coding=9600/7E2 coding=115200/7E2"));
    /* data */
    submit_out(&client, 200, OUT, "6869", NULL);
    CU_ASSERT_TRUE(got_out(&client, 200, 0, 2));
    CU_ASSERT_TRUE(called(ftdi, "data=6869"));
    /* TIOCMGET, and whether the transmitter is empty */
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0000 0200", 0, STATUS));
    /* close */
    CU_ASSERT_TRUE(out_request("40 02 0000 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 01 0003 0000 0000"));
    CU_ASSERT_TRUE(called(ftdi, "lines=0 close"));
    submit_unlink(&client, 300, 100);
    CU_ASSERT_TRUE(got_unlinked(&client, 300, -104));
    submit_unlink(&client, 301, 101);
    CU_ASSERT_TRUE(got_unlinked(&client, 301, -104));
    fixture_pass_us(&fixture, 1000 * MS);
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static void test_lines(void)
{
    begin();
    CU_ASSERT_TRUE(out_request("40 01 0101 0000 0000")); /* DTR on */
    CU_ASSERT_TRUE(out_request("40 01 0202 0100 0000")); /* RTS on; port as libftdi says it */
    CU_ASSERT_TRUE(out_request("40 01 0001 0000 0000")); /* DTR off */
    CU_ASSERT_TRUE(out_request("40 01 0300 0000 0000")); /* nothing to change */
    CU_ASSERT_TRUE(out_request("40 01 0002 0000 0000")); /* RTS off */
    CU_ASSERT_TRUE(called(ftdi, "lines=1 open lines=3 lines=2 close lines=2 lines=0"));
    end();
}

/* Rates that hosts mean, from the divisors that they send. */
static void test_baud_rates(void)
{
    static const struct {
        const char *setup, *calls;
    } cases[] = {
        {"40 03 1027 0000 0000", "coding=300/8N1"},
        {"40 03 d000 0100 0000", "coding=14400/8N1"},
        {"40 03 34c0 0000 0000", "coding=57600/8N1"},
        {"40 03 28c0 0000 0000", "coding=74880/8N1"},
        {"40 03 1a00 0000 0000", "coding=115200/8N1"},
        {"40 03 0d00 0000 0000", "coding=230400/8N1"},
        {"40 03 0640 0000 0000", "coding=460800/8N1"},
        {"40 03 0380 0000 0000", "coding=921600/8N1"},
        {"40 03 0100 0000 0000", "coding=2000000/8N1"},
        {"40 03 0000 0000 0000", "coding=3000000/8N1"},
        {"40 03 6000 0000 0000", "coding=31250/8N1"},
        {"40 03 02c0 0100 0000", "coding=1043478/8N1"}, /* nobody's: what the chip runs at */
    };
    begin();
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CU_ASSERT_TRUE(out_request(cases[i].setup));
        CU_ASSERT_TRUE(called(ftdi, cases[i].calls));
    }
    CU_ASSERT_TRUE(control_out(&client, "40 03 0140 0000 0000", "", -32)); /* divisor 1.125 */
    CU_ASSERT_TRUE(called(ftdi, ""));
    end();
}

static void test_format_and_break(void)
{
    begin();
    CU_ASSERT_TRUE(out_request("40 04 0801 0000 0000")); /* 8O1 */
    CU_ASSERT_TRUE(out_request("40 04 0841 0000 0000")); /* and break */
    CU_ASSERT_TRUE(out_request("40 04 0801 0000 0000")); /* and no break */
    CU_ASSERT_TRUE(called(ftdi, "coding=9600/8O1 break=65535 break=0"));
    CU_ASSERT_TRUE(out_request("40 04 0742 0000 0000")); /* both change */
    CU_ASSERT_TRUE(called(ftdi, "coding=9600/7E1 break=65535"));
    CU_ASSERT_TRUE(out_request("40 04 0040 0000 0000")); /* CS5 as Linux sends it, break goes on */
    CU_ASSERT_TRUE(called(ftdi, "coding=9600/5N1"));
    CU_ASSERT_TRUE(control_out(&client, "40 04 0900 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "40 04 0805 0000 0000", "", -32));
    CU_ASSERT_TRUE(called(ftdi, ""));
    end();
}

static void test_refused_requests(void)
{
    begin();
    CU_ASSERT_TRUE(control_out(&client, "40 08 0000 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_in(&client, "c0 08 0000 0000 0200", -32, ""));
    CU_ASSERT_TRUE(control_out(&client, "40 00 0300 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "40 09 0000 0000 0000", "", -32)); /* latency 0 */
    CU_ASSERT_TRUE(control_out(&client, "41 01 0303 0000 0000", "", -32)); /* to an interface */
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0000 0000", "", -32)); /* CDC */
    CU_ASSERT_TRUE(control_in(&client, "c0 0c 0000 0000 0100", 0, "00"));
    CU_ASSERT_TRUE(out_request("40 0b 0000 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 07 0000 0000 0000"));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0000 0100", 0, "b1")); /* wLength 1 */
    CU_ASSERT_TRUE(called(ftdi, ""));
    end();
}

static void test_failures_stall(void)
{
    begin();
    ftdi->fails = true;
    CU_ASSERT_TRUE(control_out(&client, "40 03 1a00 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "40 04 0812 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "40 01 0303 0000 0000", "", -32));
    CU_ASSERT_TRUE(control_out(&client, "40 04 0852 0000 0000", "", -32)); /* break */
    ftdi->fails = false;
    CU_ASSERT_TRUE(out_request("40 04 0812 0000 0000"));
    end();
}

/* RESET takes DTR, RTS and the event character back; rate, format and latency stay. */
static void test_reset(void)
{
    begin();
    CU_ASSERT_TRUE(out_request("40 01 0303 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 03 1a00 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 09 0200 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 06 0a01 0000 0000"));
    CU_ASSERT_TRUE(called(ftdi, "lines=3 open coding=115200/8N1"));
    write_text("stale");
    CU_ASSERT_TRUE(out_request("40 00 0000 0000 0000"));
    CU_ASSERT_TRUE(called(ftdi, "lines=0 close drained"));
    CU_ASSERT_TRUE(control_in(&client, "c0 0a 0000 0000 0100", 0, "02"));
    submit_in(&client, 1, IN, 64, NULL);
    write_text("\n");
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 2 * MS);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, STATUS "0a"));
    CU_ASSERT_TRUE(called(ftdi, "drained"));
    CU_ASSERT_TRUE(out_request("40 00 0000 0000 0000"));
    CU_ASSERT_TRUE(called(ftdi, "")); /* nothing had to go */
    end();
}

static void test_purge(void)
{
    begin();
    write_text("abc");
    CU_ASSERT_TRUE(out_request("40 00 0100 0000 0000")); /* towards the line: nothing is kept */
    submit_in(&client, 1, IN, 64, NULL);
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, STATUS "616263"));
    CU_ASSERT_TRUE(called(ftdi, "drained"));
    write_text("def");
    CU_ASSERT_TRUE(out_request("40 00 0200 0000 0000")); /* towards the host */
    CU_ASSERT_TRUE(called(ftdi, "drained"));
    submit_in(&client, 2, IN, 64, NULL);
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, STATUS));
    end();
}

/* A purge makes room: what the host had to wait with goes on. */
static void test_purge_lets_output_go_on(void)
{
    uint8_t *bytes = calloc(1, USBIP_FIFO_SIZE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    begin();
    usbip_device_write(ftdi->device, 1, bytes, USBIP_FIFO_SIZE);
    submit_out(&client, 1, OUT, "6869", NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_out(&client, 2, 0, "", "40 00 0200 0000 0000");
    CU_ASSERT_TRUE(got_out(&client, 1, 0, 2));
    CU_ASSERT_TRUE(got_out(&client, 2, 0, 0));
    CU_ASSERT_TRUE(called(ftdi, "data=6869 drained"));
    end();
    free(bytes);
}

/* ---- The latency timer ---- */

/* With nothing to say, two bytes per period, as long as somebody asks. */
static void test_idle(void)
{
    begin();
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), USBIP_NEVER);
    submit_in(&client, 1, IN, 512, NULL);
    submit_in(&client, 2, IN, 512, NULL);
    fixture_pass_us(&fixture, 16 * MS - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 1);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, STATUS));
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 16 * MS - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 1);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, STATUS));
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), USBIP_NEVER);
    fixture_pass_us(&fixture, 5 * MS);
    submit_in(&client, 3, IN, 512, NULL);
    fixture_pass_us(&fixture, 11 * MS - 1); /* the period goes on, whoever asks */
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 1);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, STATUS));
    CU_ASSERT_TRUE(called(ftdi, "")); /* nothing was drained */
    fixture_pass_us(&fixture, 1000 * MS);
    submit_in(&client, 4, IN, 512, NULL); /* overdue, but no timer lies in the past */
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), fixture.scheduler.now_us);
    fixture_pass_us(&fixture, 0);
    CU_ASSERT_TRUE(got_in(&client, 4, 0, STATUS));
    end();
}

static void test_idle_stops_with_unlink(void)
{
    begin();
    submit_in(&client, 1, IN, 512, NULL);
    submit_unlink(&client, 2, 1);
    CU_ASSERT_TRUE(got_unlinked(&client, 2, -104));
    fixture_pass_us(&fixture, 100 * MS);
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), USBIP_NEVER);
    end();
}

static void test_short_data_waits(void)
{
    begin();
    submit_in(&client, 1, IN, 64, NULL);
    write_counting(0, 1);
    fixture_pass_us(&fixture, 10 * MS);
    write_counting(1, 60);
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 6 * MS - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 1);
    CU_ASSERT_TRUE(got_counting(1, 0, 61, 63));
    CU_ASSERT_TRUE(called(ftdi, "drained"));
    end();
}

/* A full transfer goes at once, whatever its size. */
static void test_full_transfers(void)
{
    begin();
    submit_in(&client, 1, IN, 64, NULL);
    write_counting(0, 61);
    CU_ASSERT_TRUE(got_nothing(&client));
    write_counting(61, 1);
    CU_ASSERT_TRUE(got_counting(1, 0, 62, 64));
    submit_in(&client, 2, IN, 512, NULL);
    write_counting(5, 8 * 62);
    CU_ASSERT_TRUE(got_counting(2, 5, 496, 512));
    submit_in(&client, 3, IN, 100, NULL); /* no multiple of the packet size */
    write_counting(9, 62 + 34);
    CU_ASSERT_TRUE(got_counting(3, 9, 96, 100));
    /* Several at once, and the rest later. */
    submit_in(&client, 4, IN, 64, NULL);
    submit_in(&client, 5, IN, 128, NULL);
    submit_in(&client, 6, IN, 512, NULL);
    write_counting(0, 62 + 124 + 3);
    CU_ASSERT_TRUE(got_counting(4, 0, 62, 64));
    CU_ASSERT_TRUE(got_counting(5, 62, 124, 128));
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_counting(6, 186, 3, 5));
    end();
}

/* The period begins anew with each transfer. */
static void test_period_begins_with_transfer(void)
{
    begin();
    submit_in(&client, 1, IN, 64, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    fixture_pass_us(&fixture, 10 * MS);
    write_counting(0, 62 + 3);
    CU_ASSERT_TRUE(got_counting(1, 0, 62, 64));
    fixture_pass_us(&fixture, 16 * MS - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 1);
    CU_ASSERT_TRUE(got_counting(2, 62, 3, 5));
    end();
}

/* n times 62 bytes fill packets, which do not end a longer transfer: the next period does. */
static void test_full_packets_in_a_longer_transfer(void)
{
    begin();
    submit_in(&client, 1, IN, 512, NULL);
    write_counting(0, 124);
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_counting(1, 0, 124, 64 + 64 + 2));
    submit_in(&client, 2, IN, 512, NULL);
    write_counting(0, 63);
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_counting(2, 0, 63, 64 + 3));
    end();
}

/* Data that came while nobody asked. */
static void test_data_before_urb(void)
{
    begin();
    fixture_pass_us(&fixture, 100 * MS);
    write_counting(0, 100);
    submit_in(&client, 1, IN, 64, NULL);
    CU_ASSERT_TRUE(got_counting(1, 0, 62, 64));
    submit_in(&client, 2, IN, 64, NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_counting(2, 62, 38, 40));
    end();
}

/* Transfers too small for a status, or for any data. */
static void test_tiny_transfers(void)
{
    begin();
    write_counting(7, 2);
    submit_in(&client, 1, IN, 0, NULL);
    submit_in(&client, 2, IN, 1, NULL);
    submit_in(&client, 3, IN, 2, NULL);
    submit_in(&client, 4, IN, 3, NULL);
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, ""));
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, ""));
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, STATUS));
    CU_ASSERT_TRUE(got_in(&client, 4, 0, STATUS "07")); /* full: one byte fits */
    CU_ASSERT_TRUE(got_nothing(&client));
    submit_in(&client, 5, IN, 65, NULL); /* a packet, and a byte that nothing fits into */
    write_counting(9, 61);
    CU_ASSERT_TRUE(got_counting(5, 8, 62, 64));
    submit_in(&client, 6, IN, 66, NULL); /* a packet, and an empty one */
    write_counting(0, 62);
    CU_ASSERT_TRUE(got_counting(6, 0, 62, 66));
    end();
}

static void test_event_char(void)
{
    begin();
    submit_in(&client, 1, IN, 64, NULL);
    CU_ASSERT_TRUE(out_request("40 06 0d01 0000 0000")); /* CR, enabled */
    write_text("ab");
    CU_ASSERT_TRUE(got_nothing(&client));
    write_text("c\rd");
    CU_ASSERT_TRUE(got_in(&client, 1, 0, STATUS "6162630d64"));
    submit_in(&client, 2, IN, 64, NULL);
    write_text("e");
    CU_ASSERT_TRUE(got_nothing(&client));                /* flushed once */
    CU_ASSERT_TRUE(out_request("40 06 0d00 0000 0000")); /* disabled */
    write_text("\r");
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, STATUS "650d"));
    end();
}

/* A new latency counts from now on, for the period that runs as well. */
static void test_set_latency(void)
{
    begin();
    CU_ASSERT_TRUE(out_request("40 09 ff00 0000 0000"));
    submit_in(&client, 1, IN, 64, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    fixture_pass_us(&fixture, 100 * MS);
    CU_ASSERT_TRUE(got_nothing(&client));
    CU_ASSERT_TRUE(out_request("40 09 0100 0000 0000"));
    CU_ASSERT_TRUE(control_in(&client, "c0 0a 0000 0000 0100", 0, "01"));
    fixture_pass_us(&fixture, 0);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, STATUS));
    fixture_pass_us(&fixture, 1 * MS - 1);
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 1);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, STATUS));
    end();
}

/* ---- Modem lines and events ---- */

static void test_modem(void)
{
    begin();
    submit_in(&client, 1, IN, 64, NULL);
    usbip_device_set_modem_state(ftdi->device, 1, USBIP_MODEM_CTS);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, "11 60")); /* at once */
    CU_ASSERT_EQUAL(usbip_device_modem_state(ftdi->device, 1), USBIP_MODEM_CTS);
    submit_in(&client, 2, IN, 64, NULL);
    usbip_device_set_modem_state(ftdi->device, 1, USBIP_MODEM_CTS);
    CU_ASSERT_TRUE(got_nothing(&client)); /* no change */
    write_text("x");
    usbip_device_set_modem_state(ftdi->device, 1, USBIP_MODEM_CTS | USBIP_MODEM_PARITY);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "11 64 78")); /* the byte with its error */
    submit_in(&client, 3, IN, 64, NULL);
    usbip_device_set_modem_state(ftdi->device, 1, USBIP_MODEM_CTS | USBIP_MODEM_BREAK);
    CU_ASSERT_TRUE(got_in(&client, 3, 0, "11 70 00")); /* a break is received as NUL */
    submit_in(&client, 4, IN, 64, NULL);
    CU_ASSERT_TRUE(got_nothing(&client)); /* events are told once */
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 4, 0, "11 60"));
    usbip_device_set_modem_state(ftdi->device, 1, USBIP_MODEM_RI); /* nobody asks: not lost */
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0000 0200", 0, "41 60"));
    submit_in(&client, 5, IN, 64, NULL);
    CU_ASSERT_TRUE(got_in(&client, 5, 0, "41 60"));
    end();
}

/* Events belong to the end of what has been received: the last packet tells of them. */
static void test_events_come_last(void)
{
    begin();
    write_counting(1, 64);
    usbip_device_set_modem_state(ftdi->device, 1, USBIP_MODEM_CTS | USBIP_MODEM_FRAMING);
    submit_in(&client, 1, IN, 64, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    uint8_t expected[64] = {0x11, 0x60};
    for (uint8_t i = 0; i < 62; i++)
        expected[2 + i] = (uint8_t)(1 + i);
    CU_ASSERT_TRUE(got_in_bytes(&client, 1, 0, expected, 64));
    CU_ASSERT_TRUE(got_in(&client, 2, 0, "11 68 3f40"));
    end();
}

/* ---- EEPROM ---- */

static void read_eeprom(uint16_t words[EEPROM_WORDS])
{
    for (uint16_t i = 0; i < EEPROM_WORDS; i++) {
        char setup[32];
        snprintf(setup, sizeof setup, "c0 90 0000 %02x00 0200", i);
        submit_in(&client, 0x1000u + i, 0, 2, setup);
        const uint8_t *reply;
        CU_ASSERT_EQUAL_FATAL(usbip_device_session_take_output(client.session, &reply), 50);
        words[i] = (uint16_t)(reply[48] | reply[49] << 8);
    }
}

static uint16_t checksum(const uint16_t words[EEPROM_WORDS])
{
    unsigned sum = 0xaaaa;
    for (unsigned i = 0; i < EEPROM_WORDS - 1; i++) {
        sum ^= words[i];
        sum = (sum << 1 | sum >> 15) & 0xffff;
    }
    return (uint16_t)sum;
}

static void test_eeprom(void)
{
    uint16_t words[EEPROM_WORDS];
    begin();
    read_eeprom(words);
    CU_ASSERT_EQUAL(words[1], 0x0403);
    CU_ASSERT_EQUAL(words[2], 0x6001);
    CU_ASSERT_EQUAL(words[3], 0x0600);
    CU_ASSERT_EQUAL(words[4], 45 << 8 | 0xa0); /* as in the configuration descriptor */
    CU_ASSERT_EQUAL(words[5] & 0xff, 0x08);    /* uses its serial number */
    /* Offset and length of "Maker", "Thing" and "S1", which stand there as descriptors. */
    static const char *const strings[] = {"Maker", "Thing", "S1"};
    for (unsigned i = 0; i < 3; i++) {
        unsigned at = words[7 + i] & 0x7f, size = words[7 + i] >> 8;
        CU_ASSERT_EQUAL_FATAL(size, 2 + 2 * strlen(strings[i]));
        CU_ASSERT_EQUAL(at % 2, 0);
        CU_ASSERT_TRUE_FATAL(at + size <= 2 * EEPROM_WORDS - 2);
        CU_ASSERT_EQUAL(words[at / 2], 0x0300 | size);
        for (unsigned j = 0; strings[i][j]; j++)
            CU_ASSERT_EQUAL(words[at / 2 + 1 + j], strings[i][j]);
    }
    CU_ASSERT_EQUAL(words[EEPROM_WORDS - 1], checksum(words));
    CU_ASSERT_TRUE(control_in(&client, "c0 90 0000 4100 0200", 0, "0304")); /* mirrored */
    CU_ASSERT_TRUE(out_request("40 91 3412 2000 0000"));
    CU_ASSERT_TRUE(control_in(&client, "c0 90 0000 2000 0200", 0, "3412"));
    /* What is written lasts longer than a connection. */
    client_close(&client);
    client_open(&fixture, &client);
    client_import(&client);
    CU_ASSERT_TRUE(control_in(&client, "c0 90 0000 2000 0200", 0, "3412"));
    CU_ASSERT_TRUE(out_request("40 92 0000 0000 0000"));
    CU_ASSERT_TRUE(control_in(&client, "c0 90 0000 2000 0200", 0, "ffff"));
    CU_ASSERT_TRUE(control_in(&client, "c0 90 0000 0100 0200", 0, "ffff"));
    end();
}

/* Strings that no EEPROM could hold are served all the same. */
static void test_eeprom_with_long_strings(void)
{
    char text[101];
    memset(text, 'x', 100);
    text[100] = '\0';
    struct usbip_device_options options = usual_options();
    options.descriptor.bMaxPacketSize0 = 8;
    options.strings[2] = text;
    options.descriptor.iSerialNumber = 0;
    fixture_init(&fixture);
    ftdi = add_device(&fixture, &usbip_function_ftdi, &options);
    client_open(&fixture, &client);
    client_import(&client);
    uint16_t words[EEPROM_WORDS];
    read_eeprom(words);
    CU_ASSERT_EQUAL(words[5] & 0xff, 0);
    CU_ASSERT_EQUAL(words[8], 0);
    CU_ASSERT_EQUAL(words[9], 0);
    CU_ASSERT_EQUAL(words[EEPROM_WORDS - 1], checksum(words));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0203 0904 0400", 0, "ca03 7800"));
    end();
}

/* ---- The rest ---- */

static void test_descriptors(void)
{
    begin();
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 1200", 0,
                              "12 01 0002 00 00 00 08 0304 0160 0006 01 02 03 01"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0002 0000 ff00", 0,
                              "09 02 2000 01 01 00 a0 2d | 09 04 00 00 02 ff ff ff 02 |"
                              "07 05 81 02 4000 00 | 07 05 02 02 4000 00"));
    end();
}

/* All the host has set is gone with it; the timer does not outlive it. */
static void test_release(void)
{
    begin();
    CU_ASSERT_TRUE(out_request("40 09 0200 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 01 0101 0000 0000"));
    CU_ASSERT_TRUE(out_request("40 04 0842 0000 0000"));
    CU_ASSERT_TRUE(called(ftdi, "lines=1 open coding=9600/8E1 break=65535"));
    write_text("stale");
    submit_in(&client, 1, IN, 512, NULL);
    CU_ASSERT_TRUE(usbip_scheduler_due_us(&fixture.scheduler) != USBIP_NEVER);
    client_close(&client);
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&fixture.scheduler), USBIP_NEVER);
    CU_ASSERT_TRUE(called(ftdi, "close detach"));
    fixture_pass_us(&fixture, 100 * MS);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(control_in(&client, "c0 0a 0000 0000 0100", 0, "10"));
    submit_in(&client, 1, IN, 512, NULL);
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 1, 0, STATUS));
    CU_ASSERT_TRUE(out_request("40 04 0840 0000 0000"));
    CU_ASSERT_TRUE(called(ftdi, "attach break=65535"));
    end();
}

/* A full output stops the idle packets; taking it starts them again. */
static void test_full_output(void)
{
    uint8_t *bytes = calloc(1, USBIP_FIFO_SIZE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    begin();
    submit_in(&client, 1, IN, 2 << 20, NULL);
    submit_in(&client, 2, IN, 64, NULL);
    usbip_device_write(ftdi->device, 1, bytes, USBIP_FIFO_SIZE);
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_FALSE(usbip_device_session_wants_input(client.session));
    fixture_pass_us(&fixture, 1000 * MS);
    const uint8_t *output;
    /* 16912 full packets and one with 32 bytes */
    CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &output),
                    48 + 16912 * 64 + 34);
    CU_ASSERT_TRUE(got_nothing(&client));
    fixture_pass_us(&fixture, 16 * MS);
    CU_ASSERT_TRUE(got_in(&client, 2, 0, STATUS));
    end();
    free(bytes);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a session of Linux's ftdi_sio", test_linux_session},
        {"control lines", test_lines},
        {"baud rates", test_baud_rates},
        {"format and break", test_format_and_break},
        {"requests that are refused", test_refused_requests},
        {"failures stall", test_failures_stall},
        {"reset", test_reset},
        {"purge", test_purge},
        {"a purge lets output go on", test_purge_lets_output_go_on},
        {"idle packets", test_idle},
        {"idle packets stop with unlink", test_idle_stops_with_unlink},
        {"short data waits", test_short_data_waits},
        {"full transfers", test_full_transfers},
        {"the period begins with each transfer", test_period_begins_with_transfer},
        {"full packets in a longer transfer", test_full_packets_in_a_longer_transfer},
        {"data before the URB", test_data_before_urb},
        {"tiny transfers", test_tiny_transfers},
        {"event character", test_event_char},
        {"latency is set", test_set_latency},
        {"modem lines and events", test_modem},
        {"events come last", test_events_come_last},
        {"EEPROM", test_eeprom},
        {"EEPROM with long strings", test_eeprom_with_long_strings},
        {"descriptors", test_descriptors},
        {"release", test_release},
        {"full output", test_full_output},
        CU_TEST_INFO_NULL,
    };
    return run_tests("ftdi", tests);
}
