/* Scripts of a chip with several ports: hooks, write() and dialogues know which one. */
#include "emulator/script.h"
#include "tests/unit/emulator/session_fixture.h"

enum { OUT_A = 0x02, IN_A = 0x81, OUT_B = 0x04, IN_B = 0x83, MS = 1000 };

#define CHIP "device { type = 'ftdi', chip = 'ft2232h', product = 'Two' }\n"
#define STATUS "b2 60"

static struct fixture fixture;
static struct client client;
static struct usbip_script *script;
static struct usbip_device *device;
static char error_text[USBIP_SCRIPT_ERROR_SIZE];
static const char *path; /* of the script under test */
static const char *example;

static bool load_file(const char *file)
{
    const struct usbip_script_options options = {.path = file, .seed = 1};
    fixture_init(&fixture);
    fixture.bus.log.level = USBIP_LOG_INFO;
    script = usbip_script_new(&options, &fixture.scheduler, &fixture.bus.log, &device, error_text);
    return script != NULL;
}

static bool load(const char *text)
{
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(text, file);
    fclose(file);
    return load_file(path);
}

static void attach(void)
{
    CU_ASSERT_EQUAL_FATAL(usbip_bus_add(&fixture.bus, device), 0);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
}

static void begin(const char *text)
{
    bool loaded = load(text);
    if (!loaded)
        fprintf(stderr, "%s\n", error_text);
    CU_ASSERT_TRUE_FATAL(loaded);
    attach();
}

static void end(void)
{
    client_close(&client);
    fixture_free(&fixture);
    usbip_script_free(script);
}

static void pass_ms(uint64_t ms)
{
    fixture_pass_us(&fixture, ms * MS);
}

static bool request(const char *setup)
{
    return control_out(&client, setup, "", 0);
}

static void send(uint8_t endpoint, const char *data)
{
    submit_out(&client, 0x10, endpoint, data, NULL);
    CU_ASSERT_TRUE(got_out(&client, 0x10, 0, (uint32_t)strlen(data) / 2));
}

/* What the next transfer of a port brings, at the latest by its latency timer. */
static bool receives(uint8_t endpoint, const char *data)
{
    submit_in(&client, 0x20, endpoint, 512, NULL);
    pass_ms(16);
    return got_in(&client, 0x20, 0, data) && got_nothing(&client);
}

/* The log has these lines since it was last asked. */
static bool logged(const char *lines)
{
    bool equal = strcmp(fixture.log, lines) == 0;
    if (!equal)
        fprintf(stderr, "logged \"%s\" instead of \"%s\"\n", fixture.log, lines);
    fixture.log[0] = '\0';
    return equal;
}

static uint64_t errors(void)
{
    return usbip_device_counters(device)->script_errors;
}

/* ---- Hooks ---- */

static void test_hooks(void)
{
    begin(CHIP "function on_open(p) log('open', p.number) end\n"
               "function on_close(p) log('close', p.number) end\n"
               "function on_control_lines(dtr, rts, p) log(dtr, rts, p.number) end\n"
               "function on_line_coding(coding, p) log(coding.text, p.number) end\n"
               "function on_break(duration, p) log(duration, p.number) end\n"
               "function on_data(bytes, p) log(bytes, p, p == ports[2], #ports) end\n");
    fixture.log[0] = '\0';
    CU_ASSERT_TRUE(request("40 01 0101 0200 0000"));
    CU_ASSERT_TRUE(logged("1-1: true false 2\n1-1: open 2\n"));
    CU_ASSERT_TRUE(request("40 03 68c0 0102 0000"));
    CU_ASSERT_TRUE(request("40 03 e204 0202 0000"));
    CU_ASSERT_TRUE(logged("1-1: 115200 8N1 1\n1-1: 9600 8N1 2\n"));
    CU_ASSERT_TRUE(request("40 04 0840 0200 0000"));
    CU_ASSERT_TRUE(request("40 04 0800 0200 0000"));
    CU_ASSERT_TRUE(logged("1-1: start 2\n1-1: stop 2\n"));
    send(OUT_A, "61");
    send(OUT_B, "62");
    CU_ASSERT_TRUE(logged("1-1: a port 1 false 2\n1-1: b port 2 true 2\n"));
    CU_ASSERT_TRUE(request("40 01 0001 0200 0000"));
    CU_ASSERT_TRUE(logged("1-1: false false 2\n1-1: close 2\n"));
    CU_ASSERT_EQUAL(errors(), 0);
    end();
}

/* Told that much, the log says which port. */
static void test_verbose_log(void)
{
    begin(CHIP);
    fixture.log[0] = '\0';
    fixture.bus.log.level = USBIP_LOG_VERBOSE;
    CU_ASSERT_TRUE(request("40 01 0101 0200 0000"));
    CU_ASSERT_TRUE(request("40 03 68c0 0102 0000"));
    CU_ASSERT_TRUE(request("40 04 0840 0200 0000"));
    CU_ASSERT_TRUE(logged("1-1: port 2: DTR 1 RTS 0\n"
                          "1-1: port 1: line coding 115200 8N1\n"
                          "1-1: port 2: break on\n"));
    end();
}

/* A chip with one port has no `ports`, and its hooks get what they always have. */
static void test_one_port(void)
{
    begin("device { type = 'ftdi', chip = 'ft232bm' }\n"
          "function on_open(...) log('open', select('#', ...)) end\n"
          "function on_data(...) log(ports, select('#', ...)) write(('x'):gsub('x', 'y')) end\n");
    fixture.log[0] = '\0';
    CU_ASSERT_TRUE(request("40 01 0101 0000 0000"));
    send(OUT_A, "61");
    CU_ASSERT_TRUE(logged("1-1: open 0\n1-1: nil 1\n"));
    CU_ASSERT_TRUE(receives(IN_A, "b1 60 79"));
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 1200", 0,
                              "12 01 0002 00 00 00 40 0304 0160 0004 00 00 00 01"));
    CU_ASSERT_EQUAL(errors(), 0);
    end();
}

static void test_write(void)
{
    begin(CHIP "local other = { ports[2], ports[1] }\n"
               "function on_data(bytes, p)\n"
               "  other[p.number]:write(bytes)\n"
               "  if bytes == 'm' then other[p.number]:set_modem { cts = false } end\n"
               "end\n");
    send(OUT_A, "61");
    send(OUT_B, "62");
    CU_ASSERT_TRUE(receives(IN_A, STATUS "62"));
    CU_ASSERT_TRUE(receives(IN_B, STATUS "61"));
    send(OUT_A, "6d");
    CU_ASSERT_TRUE(receives(IN_B, "a2 60 6d"));
    CU_ASSERT_TRUE(receives(IN_A, STATUS));
    CU_ASSERT_EQUAL(errors(), 0);
    end();
}

static void test_misuse(void)
{
    static const struct {
        const char *call, *error;
    } cases[] = {
        {"write('x')", "write(): the chip has 2 ports; say which one, as in ports[1]:write()"},
        {"set_modem { cts = true }",
         "set_modem(): the chip has 2 ports; say which one, as in ports[1]:set_modem()"},
        {"ports[1].write('x')", "bad argument #1 to 'write' (usbip port expected, got string)"},
        {"ports[1]:send('x')", "a port has no send; it has number, write() and set_modem()"},
        {"ports[1].number = 2", "attempt to index a usbip port value"},
        {"ports[3]:write('x')", "attempt to index a nil value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 CHIP "function on_data() log(select(2, pcall(function() %s end))) end\n",
                 cases[i].call);
        begin(text);
        fixture.log[0] = '\0';
        send(OUT_A, "61");
        bool told = strstr(fixture.log, cases[i].error) != NULL;
        CU_ASSERT_TRUE(told);
        if (!told)
            fprintf(stderr, "%s: %s\n", cases[i].call, fixture.log);
        end();
    }
}

static void test_before_the_device_exists(void)
{
    CU_ASSERT_FALSE(load(CHIP "ports[2]:write('x')"));
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "write(): the device does not exist yet"));
    fixture_free(&fixture);
}

/* ---- Dialogues ---- */

static void test_dialogues(void)
{
    begin(CHIP "function dialogue(p)\n"
               "  while true do write(p.number .. read_line() .. '\\n') end\n"
               "end\n");
    CU_ASSERT_TRUE(request("40 01 0101 0100 0000"));
    CU_ASSERT_TRUE(request("40 01 0101 0200 0000"));
    send(OUT_A, "61");
    send(OUT_B, "620a");
    CU_ASSERT_TRUE(receives(IN_B, STATUS "32 62 0a"));
    send(OUT_A, "630a");
    CU_ASSERT_TRUE(receives(IN_A, STATUS "31 61 63 0a"));
    /* One ends, the other goes on with what it has. */
    send(OUT_A, "64");
    CU_ASSERT_TRUE(request("40 01 0001 0200 0000"));
    send(OUT_A, "0a");
    CU_ASSERT_TRUE(receives(IN_A, STATUS "31 64 0a"));
    send(OUT_B, "650a");
    CU_ASSERT_TRUE(receives(IN_B, STATUS));
    CU_ASSERT_EQUAL(errors(), 0);
    end();
}

/* Time-outs are of one dialogue; set_modem() is for its own port; ports[2] for the other. */
static void test_dialogue_times_and_lines(void)
{
    begin(CHIP "function dialogue(p)\n"
               "  if p.number == 1 then\n"
               "    sleep(50) set_modem { cts = false } ports[2]:write('!')\n"
               "  end\n"
               "  log(p, read(1, 100))\n"
               "end\n");
    fixture.log[0] = '\0';
    CU_ASSERT_TRUE(request("40 01 0101 0100 0000"));
    CU_ASSERT_TRUE(request("40 01 0101 0200 0000"));
    pass_ms(49);
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0100 0200", 0, STATUS));
    pass_ms(1);
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0100 0200", 0, "a2 60"));
    CU_ASSERT_TRUE(control_in(&client, "c0 05 0000 0200 0200", 0, STATUS));
    CU_ASSERT_TRUE(receives(IN_B, STATUS "21"));
    CU_ASSERT_TRUE(logged(""));
    pass_ms(34);
    CU_ASSERT_TRUE(logged("1-1: port 2 nil\n"));
    pass_ms(50);
    CU_ASSERT_TRUE(logged("1-1: port 1 nil\n"));
    end();
}

/* A dialogue that writes to the other port waits for room there, and for no other. */
static void test_dialogue_waits_for_room(void)
{
    begin(CHIP "function dialogue(p)\n"
               "  if p.number == 2 then return end\n"
               "  ports[2]:write(('x'):rep(1 << 20))\n"
               "  ports[2]:write('last')\n"
               "  log('written')\n"
               "end\n");
    fixture.log[0] = '\0';
    CU_ASSERT_TRUE(request("40 01 0101 0100 0000"));
    CU_ASSERT_TRUE(receives(IN_A, STATUS));
    CU_ASSERT_TRUE(request("40 00 0200 0100 0000")); /* a purge of its own port */
    CU_ASSERT_TRUE(logged(""));
    CU_ASSERT_TRUE(request("40 00 0200 0200 0000"));
    CU_ASSERT_TRUE(logged("1-1: written\n"));
    CU_ASSERT_TRUE(receives(IN_B, STATUS "6c617374"));
    CU_ASSERT_EQUAL(errors(), 0);
    end();
}

/* What the closing of one port writes to another is not kept for the next host. */
static void test_last_words(void)
{
    begin(CHIP "function on_close(p)\n"
               "  ports[3 - p.number]:write('gone')\n"
               "  ports[3 - p.number]:set_modem { parity = true }\n"
               "end\n");
    CU_ASSERT_TRUE(request("40 01 0101 0100 0000"));
    CU_ASSERT_TRUE(request("40 01 0101 0200 0000"));
    client_close(&client);
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
    CU_ASSERT_TRUE(receives(IN_A, STATUS));
    CU_ASSERT_TRUE(receives(IN_B, STATUS));
    CU_ASSERT_EQUAL(errors(), 0);
    end();
}

/* ---- device { … } ---- */

static void test_device_fields(void)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"device { type = 'ftdi', chip = 'ft2232' }",
         "device: chip must be \"ft232bm\", \"ft232r\", \"ft2232h\" or \"ft4232h\", not ft2232"},
        {"device { type = 'ftdi', chip = 2232 }",
         "device: chip must be \"ft232bm\", \"ft232r\", \"ft2232h\" or \"ft4232h\", not 2232"},
        {"device { type = 'cdc_acm', chip = 'ft2232h' }", "device: chip: only for type \"ftdi\""},
        {"device { type = 'ftdi', chip = 'ft2232h', in_endpoint = 0x81 }",
         "device: an FT2232H has its own endpoints; leave out in_endpoint and out_endpoint"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CU_ASSERT_FALSE(load(cases[i].text));
        bool told = strstr(error_text, cases[i].error) != NULL;
        CU_ASSERT_TRUE(told);
        if (!told)
            fprintf(stderr, "%s\n", error_text);
        fixture_free(&fixture);
    }
    begin("device { type = 'ftdi', chip = 'FT2232H', speed = 'full', idProduct = 0x1234 }");
    CU_ASSERT_TRUE(control_in(&client, "80 06 0001 0000 1200", 0,
                              "12 01 0002 00 00 00 40 0304 3412 0007 00 00 00 01"));
    CU_ASSERT_TRUE(receives(IN_B, "b1 60"));
    end();
}

/* ---- What the repository shows ---- */

static void test_example(void)
{
    CU_ASSERT_TRUE_FATAL(load_file(example));
    attach();
    send(OUT_A, "61");
    send(OUT_B, "62");
    CU_ASSERT_TRUE(receives(IN_A, STATUS "61"));
    CU_ASSERT_TRUE(receives(IN_B, STATUS "62"));
    CU_ASSERT_EQUAL(errors(), 0);
    end();
}

/* Argument: scripts/echo_ft2232h.lua. */
int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"hooks", test_hooks},
        {"verbose log", test_verbose_log},
        {"one port", test_one_port},
        {"write, set_modem", test_write},
        {"misuse", test_misuse},
        {"before the device exists", test_before_the_device_exists},
        {"dialogues", test_dialogues},
        {"dialogues: times and lines", test_dialogue_times_and_lines},
        {"dialogues wait for room", test_dialogue_waits_for_room},
        {"last words", test_last_words},
        {"device fields", test_device_fields},
        {"scripts/echo_ft2232h.lua", test_example},
        CU_TEST_INFO_NULL,
    };
    static char name[512];
    const char *temporary = getenv("TEST_TMPDIR");
    snprintf(name, sizeof name, "%s/test.lua", temporary ? temporary : "/tmp");
    path = name;
    if (argc != 2)
        return 2;
    example = argv[1];
    return run_tests("script_ports", tests);
}
