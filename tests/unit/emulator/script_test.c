/* Devices in Lua, attached to a host that is simulated over a device session. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "emulator/script.h"
#include "emulator/session.h"
#include "protocol/cdc.h"
#include "tests/support/testing.h"

#define ACM "device { type = 'cdc_acm', product = 'Test' }\n"

enum { SEEN_SIZE = 1 << 21, LOG_SIZE = 1 << 16, IN_LENGTH = 65536 };

static const char *folder; /* of the scripts */
static char **documents;   /* paths of the repository's scripts and documentation */
static struct usbip_scheduler scheduler;
static struct usbip_bus bus;
static struct usbip_script *script;
static struct usbip_device *device;
static struct usbip_device_session *session;
static char error_text[USBIP_SCRIPT_ERROR_SIZE];
static char log_text[LOG_SIZE];
static size_t log_size;

static uint32_t seqnum, in_seqnum, in_endpoint;
static bool reads; /* an IN transfer waits all the time */
static uint8_t seen[SEEN_SIZE];
static size_t seen_size;
static struct {
    bool done;
    int32_t status;
    size_t size;
    uint8_t data[1024];
} reply;

static void write_log(void *context, enum usbip_log_level level, const char *line)
{
    (void)context, (void)level;
    size_t size = strlen(line);
    if (log_size + size + 2 > sizeof log_text)
        return;
    memcpy(log_text + log_size, line, size);
    log_text[log_size + size] = '\n';
    log_size += size + 1;
    log_text[log_size] = '\0';
}

static bool logged(const char *text)
{
    bool found = strstr(log_text, text) != NULL;
    if (!found)
        fprintf(stderr, "not logged: %s\nbut:\n%s\n", text, log_text);
    return found;
}

static void clear_log(void)
{
    log_size = 0;
    log_text[0] = '\0';
}

static void wake(void *context)
{
    (void)context;
}

static void write_file(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(text, file);
    fclose(file);
}

static void detach(void)
{
    usbip_device_session_free(session);
    session = NULL;
}

static void unload(void)
{
    detach();
    usbip_bus_free(&bus);
    usbip_script_free(script);
    usbip_scheduler_free(&scheduler);
    script = NULL;
    scheduler = (struct usbip_scheduler){0};
}

static bool load_with(const char *text, struct usbip_script_options options)
{
    unload();
    clear_log();
    error_text[0] = '\0';
    write_file("test.lua", text);
    bus.log = (struct usbip_log){.write = write_log, .level = USBIP_LOG_VERBOSE};
    options.path = "test.lua";
    options.faults = &bus.faults;
    usbip_faults_init(&bus.faults, &scheduler, 1);
    script = usbip_script_new(&options, &scheduler, &bus.log, &device, error_text);
    return script && usbip_bus_add(&bus, device) == 0;
}

static bool load(const char *text)
{
    return load_with(text, (struct usbip_script_options){.seed = 1});
}

/* ---- The host ---- */

static void submit(uint32_t ep, bool in, const uint8_t *setup, const void *data, uint32_t size);

static void take_output(void)
{
    const uint8_t *data;
    size_t size;
    while (session && (size = usbip_device_session_take_output(session, &data)) > 0) {
        while (size > 0) {
            struct usbip_header header;
            CU_ASSERT_FATAL(size >= USBIP_HEADER_SIZE);
            CU_ASSERT_EQUAL_FATAL(usbip_decode_header(data, &header), 0);
            data += USBIP_HEADER_SIZE;
            size -= USBIP_HEADER_SIZE;
            CU_ASSERT_EQUAL_FATAL(header.command, USBIP_RET_SUBMIT);
            if (header.seqnum == in_seqnum) {
                size_t length = header.ret_submit.actual_length;
                CU_ASSERT_FATAL(length <= size && length <= sizeof seen - seen_size);
                memcpy(seen + seen_size, data, length);
                seen_size += length;
                data += length;
                size -= length;
                in_seqnum = 0;
                reply.status = header.ret_submit.status;
            } else {
                bool in = size >= header.ret_submit.actual_length && reply.size == SIZE_MAX;
                reply.done = true;
                reply.status = header.ret_submit.status;
                reply.size = header.ret_submit.actual_length;
                if (in) {
                    CU_ASSERT_FATAL(reply.size <= sizeof reply.data && reply.size <= size);
                    memcpy(reply.data, data, reply.size);
                    data += reply.size;
                    size -= reply.size;
                }
            }
        }
        if (reads && in_seqnum == 0 && reply.status == 0) {
            in_seqnum = seqnum + 1;
            submit(in_endpoint & 0x0f, true, NULL, NULL, IN_LENGTH);
        }
    }
}

static void submit(uint32_t ep, bool in, const uint8_t *setup, const void *data, uint32_t size)
{
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = ++seqnum,
        .devid = 1 << 16 | 1,
        .direction = in ? USBIP_DIR_IN : USBIP_DIR_OUT,
        .ep = ep,
        .cmd_submit = {.transfer_buffer_length = size},
    };
    uint8_t bytes[USBIP_HEADER_SIZE];
    if (setup)
        memcpy(header.cmd_submit.setup, setup, USBIP_SETUP_SIZE);
    usbip_encode_header(bytes, &header);
    usbip_device_session_receive(session, bytes, sizeof bytes);
    if (!in)
        usbip_device_session_receive(session, data, size);
}

/* Returns the status; the reply's data is in `reply`. */
static int32_t control(uint8_t type, uint8_t request, uint16_t value, const void *data,
                       uint16_t size)
{
    uint8_t setup[USBIP_SETUP_SIZE];
    bool in = type & USB_DIR_IN && size > 0;
    usbip_encode_setup(setup, &(struct usbip_setup){type, request, value, 0, size});
    reply.done = false;
    reply.size = in ? SIZE_MAX : 0;
    submit(0, in, setup, data, size);
    take_output();
    CU_ASSERT_TRUE(reply.done || usbip_device_session_is_over(session));
    return reply.status;
}

static void attach(void)
{
    static const struct usbip_device_session_events events = {.wake = wake};
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE];
    const uint8_t *data;
    session = usbip_device_session_new(&bus, "host", &events, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(session);
    usbip_encode_import_request(request, "1-1");
    usbip_device_session_receive(session, request, sizeof request);
    CU_ASSERT_EQUAL_FATAL(usbip_device_session_take_output(session, &data),
                          USBIP_IMPORT_REPLY_SIZE);
    seen_size = 0;
    seqnum = in_seqnum = 0;
    reads = false;
    in_endpoint = 0x81;
    CU_ASSERT_EQUAL(control(0x00, USB_REQ_SET_CONFIGURATION, 1, NULL, 0), 0);
}

static void start_reading(void)
{
    reads = true;
    in_seqnum = seqnum + 1;
    submit(in_endpoint & 0x0f, true, NULL, NULL, IN_LENGTH);
    take_output();
}

static void set_lines(uint16_t lines)
{
    CU_ASSERT_EQUAL(control(0x21, CDC_SET_CONTROL_LINE_STATE, lines, NULL, 0), 0);
}

/* Attached, open, and reading. */
static void open_port(void)
{
    attach();
    set_lines(USBIP_LINE_DTR | USBIP_LINE_RTS);
    start_reading();
}

static void send_bytes(const void *data, size_t size)
{
    submit(1, false, NULL, data, (uint32_t)size);
    take_output();
}

static void send_text(const char *text)
{
    send_bytes(text, strlen(text));
}

static void advance(unsigned ms)
{
    usbip_scheduler_advance(&scheduler, scheduler.now_us + UINT64_C(1000) * ms);
    take_output();
}

/* What the device has sent since it was last asked. */
static bool received(const char *text)
{
    bool equal = seen_size == strlen(text) && memcmp(seen, text, seen_size) == 0;
    if (!equal)
        fprintf(stderr, "received \"%.*s\" instead of \"%s\"; log:\n%s\n", (int)seen_size,
                (char *)seen, text, log_text);
    seen_size = 0;
    return equal;
}

static uint64_t errors(void)
{
    return usbip_device_counters(device)->script_errors;
}

/* ---- Hooks ---- */

static void test_data(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function on_data(bytes) write('<' .. bytes .. '>') end"));
    open_port();
    send_text("abc");
    CU_ASSERT_TRUE(received("<abc>"));
    send_bytes("\0\xff", 2);
    CU_ASSERT_EQUAL(seen_size, 4);
    CU_ASSERT_EQUAL(memcmp(seen, "<\0\xff>", 4), 0);
}

static void test_life(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM
                              "for _, name in ipairs { 'attach', 'detach', 'open', 'close' } do\n"
                              "  _G['on_' .. name] = function(...) log(name, ...) end\n"
                              "end"));
    attach();
    CU_ASSERT_TRUE(logged("1-1: attach\n"));
    CU_ASSERT_PTR_NULL(strstr(log_text, "1-1: open"));
    set_lines(USBIP_LINE_DTR);
    CU_ASSERT_TRUE(logged("1-1: open\n"));
    CU_ASSERT_PTR_NULL(strstr(log_text, "1-1: close"));
    detach();
    CU_ASSERT_TRUE(logged("1-1: close\n"));
    CU_ASSERT_TRUE(logged("1-1: detach\n"));
}

static void test_line_coding(void)
{
    static const struct {
        struct usbip_line_coding coding;
        const char *logged;
    } cases[] = {
        {{115200, USBIP_STOP_1, USBIP_PARITY_NONE, 8}, "115200 8 N 1 115200 8N1\n"},
        {{9600, USBIP_STOP_1_5, USBIP_PARITY_EVEN, 7}, "9600 7 E 1.5 9600 7E1.5\n"},
        {{1200, USBIP_STOP_2, USBIP_PARITY_SPACE, 5}, "1200 5 S 2 1200 5S2\n"},
    };
    CU_ASSERT_TRUE_FATAL(load(ACM "function on_line_coding(c)\n"
                                  "  log(c.rate, c.data_bits, c.parity, c.stop_bits, c.text)\n"
                                  "end"));
    attach();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t bytes[CDC_LINE_CODING_SIZE];
        usbip_cdc_encode_line_coding(bytes, &cases[i].coding);
        CU_ASSERT_EQUAL(control(0x21, CDC_SET_LINE_CODING, 0, bytes, sizeof bytes), 0);
        CU_ASSERT_TRUE(logged(cases[i].logged));
    }
}

static void test_control_lines(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function on_control_lines(dtr, rts) log('L', dtr, rts) end"));
    attach();
    set_lines(USBIP_LINE_DTR);
    CU_ASSERT_TRUE(logged("L true false\n"));
    set_lines(USBIP_LINE_RTS);
    CU_ASSERT_TRUE(logged("L false true\n"));
}

static void test_break(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function on_break(duration) log('B', duration) end"));
    attach();
    CU_ASSERT_EQUAL(control(0x21, CDC_SEND_BREAK, 250, NULL, 0), 0);
    CU_ASSERT_TRUE(logged("B 250\n"));
    CU_ASSERT_EQUAL(control(0x21, CDC_SEND_BREAK, 0xffff, NULL, 0), 0);
    CU_ASSERT_TRUE(logged("B start\n"));
    CU_ASSERT_EQUAL(control(0x21, CDC_SEND_BREAK, 0, NULL, 0), 0);
    CU_ASSERT_TRUE(logged("B stop\n"));
}

static void test_control(void)
{
    CU_ASSERT_TRUE_FATAL(
        load(ACM "function on_control(r)\n"
                 "  log(r.bmRequestType, r.bRequest, r.wValue, r.wIndex, r.wLength, r.data)\n"
                 "  if r.bRequest == 1 then return 'version 7' end\n"
                 "  if r.bRequest == 2 then return true end\n"
                 "  if r.bRequest == 3 then return false end\n"
                 "  if r.bRequest == 4 then error('no') end\n"
                 "  if r.bRequest == 5 then return {} end\n"
                 "  if r.bRequest == 6 then unplug() return 'gone' end\n"
                 "end"));
    attach();
    CU_ASSERT_EQUAL(control(0xc0, 1, 0x1234, NULL, 64), 0);
    CU_ASSERT_EQUAL(reply.size, 9);
    CU_ASSERT_EQUAL(memcmp(reply.data, "version 7", 9), 0);
    CU_ASSERT_TRUE(logged("192 1 4660 0 64 nil\n"));
    CU_ASSERT_EQUAL(control(0xc0, 1, 0, NULL, 4), 0);
    CU_ASSERT_EQUAL(reply.size, 4);
    CU_ASSERT_EQUAL(control(0x40, 2, 0, "data", 4), 0);
    CU_ASSERT_EQUAL(reply.size, 4);
    CU_ASSERT_TRUE(logged("64 2 0 0 4 data\n"));
    CU_ASSERT_EQUAL(control(0xc0, 2, 0, NULL, 4), 0);
    CU_ASSERT_EQUAL(reply.size, 0);
    CU_ASSERT_EQUAL(control(0x40, 3, 0, NULL, 0), -USBIP_EPIPE);
    CU_ASSERT_EQUAL(errors(), 0);
    CU_ASSERT_EQUAL(control(0x40, 4, 0, NULL, 0), -USBIP_EPIPE);
    CU_ASSERT_TRUE(logged("1-1: on_control: test.lua:7: no\n"));
    CU_ASSERT_EQUAL(errors(), 1);
    CU_ASSERT_EQUAL(control(0x40, 5, 0, NULL, 0), -USBIP_EPIPE);
    CU_ASSERT_TRUE(logged("on_control returned a table for an OUT request"));
    CU_ASSERT_EQUAL(control(0x40, 1, 0, NULL, 0), -USBIP_EPIPE);
    CU_ASSERT_TRUE(logged("on_control returned a string for an OUT request"));
    CU_ASSERT_EQUAL(errors(), 3);
    /* Not handled: the chip answers. */
    uint8_t coding[CDC_LINE_CODING_SIZE];
    CU_ASSERT_EQUAL(control(0xa1, CDC_GET_LINE_CODING, 0, NULL, sizeof coding), 0);
    CU_ASSERT_EQUAL(reply.size, sizeof coding);
    control(0xc0, 6, 0, NULL, 4);
    CU_ASSERT_TRUE(usbip_device_session_is_over(session));
}

#define RAW RAW_WITH("")
#define RAW_WITH(fields)                                                                           \
    "device { type = 'raw', " fields " configuration =\n"                                          \
    "  '\\x09\\x02\\x20\\x00\\x01\\x01\\x00\\x80\\x32' ..\n"                                       \
    "  '\\x09\\x04\\x00\\x00\\x02\\xff\\x00\\x00\\x00' ..\n"                                       \
    "  '\\x07\\x05\\x01\\x02\\x40\\x00\\x00' ..\n"                                                 \
    "  '\\x07\\x05\\x81\\x02\\x40\\x00\\x00' }\n"

static void test_raw(void)
{
    CU_ASSERT_TRUE_FATAL(
        load(RAW "function on_transfer_out(endpoint, bytes)\n"
                 "  log('O', endpoint, bytes)\n"
                 "  if bytes == 'halt' then halt(0x01) else send(0x81, bytes:upper()) end\n"
                 "end\n"
                 "local asked = 0\n"
                 "function on_transfer_in(endpoint)\n"
                 "  asked = asked + 1\n"
                 "  if asked == 1 then send(endpoint, 'first') end\n"
                 "end"));
    attach();
    start_reading();
    CU_ASSERT_TRUE(received("first"));
    send_text("abc");
    CU_ASSERT_TRUE(logged("O 1 abc\n"));
    CU_ASSERT_TRUE(received("ABC"));
    send_text("halt");
    CU_ASSERT_EQUAL(reply.status, -USBIP_EPIPE); /* this one already */
    send_text("more");
    CU_ASSERT_EQUAL(reply.status, -USBIP_EPIPE);
    CU_ASSERT_EQUAL(errors(), 0);
}

static void test_failed_hooks_stall(void)
{
    uint8_t coding[CDC_LINE_CODING_SIZE] = {0, 0xc2, 1, 0, 0, 0, 8};
    CU_ASSERT_TRUE_FATAL(load(ACM
                              "function on_data(bytes) if bytes == 'bad' then error('no') end end\n"
                              "function on_line_coding() error('no') end\n"
                              "function on_control_lines() error('no') end\n"
                              "function on_break() error('no') end\n"));
    attach();
    CU_ASSERT_EQUAL(control(0x21, CDC_SET_LINE_CODING, 0, coding, sizeof coding), -USBIP_EPIPE);
    CU_ASSERT_EQUAL(control(0x21, CDC_SET_CONTROL_LINE_STATE, USBIP_LINE_DTR, NULL, 0),
                    -USBIP_EPIPE);
    CU_ASSERT_EQUAL(control(0x21, CDC_SEND_BREAK, 100, NULL, 0), -USBIP_EPIPE);
    send_text("bad");
    CU_ASSERT_EQUAL(reply.status, -USBIP_EPIPE);
    send_text("good");
    CU_ASSERT_EQUAL(reply.status, 0);
    CU_ASSERT_EQUAL(errors(), 4);
    CU_ASSERT_TRUE(logged("on_data: test.lua:2: no"));
}

/* ---- Functions ---- */

static int modem_state(void)
{
    uint8_t state[CDC_SERIAL_STATE_SIZE];
    CU_ASSERT_EQUAL_FATAL(seen_size, sizeof state);
    memcpy(state, seen, sizeof state);
    seen_size = 0;
    return usbip_cdc_decode_serial_state(state, sizeof state);
}

/* An IN transfer of its own: how many bytes of the source's pattern came from byte `first` on. */
static size_t pattern_received(uint32_t length, size_t first)
{
    reply.done = false;
    reply.size = SIZE_MAX;
    submit(1, true, NULL, NULL, length);
    take_output();
    for (size_t i = 0; reply.done && i < reply.size; i++) {
        if (reply.data[i] != (first + i) % USBIP_SOURCE_PERIOD)
            return i;
    }
    return reply.done ? reply.size : 0;
}

static void test_behaviour(void)
{
    CU_ASSERT_TRUE_FATAL(load("device { type = 'cdc_acm', behaviour = 'echo' }\n"
                              "after(5, function() set_modem { dcd = true } end)"));
    open_port();
    send_text("abc");
    CU_ASSERT_TRUE(received("abc"));
    advance(5);
    CU_ASSERT_EQUAL(usbip_device_modem_state(device, 1), USBIP_MODEM_DCD);

    CU_ASSERT_TRUE_FATAL(load(RAW_WITH("behaviour = 'echo',")));
    attach();
    start_reading();
    send_text("abc");
    CU_ASSERT_TRUE(received("abc"));

    CU_ASSERT_TRUE_FATAL(load("device { type = 'cdc_acm', behaviour = 'sink' }"));
    open_port();
    send_text("abc");
    CU_ASSERT_TRUE(received(""));
    CU_ASSERT_EQUAL(reply.status, 0);
    CU_ASSERT_EQUAL(usbip_device_counters(device)->bytes_out, 3);

    CU_ASSERT_TRUE_FATAL(load("device { type = 'cdc_acm', behaviour = 'source' }"));
    attach();
    CU_ASSERT_EQUAL(usbip_device_write_room(device, 1), USBIP_FIFO_SIZE); /* it is not open yet */
    set_lines(USBIP_LINE_DTR);
    for (size_t at = 0; at < 200000; at += 1024)
        CU_ASSERT_EQUAL(pattern_received(1024, at), 1024);
    set_lines(0);
    set_lines(USBIP_LINE_DTR);
    CU_ASSERT_EQUAL(pattern_received(64, 196 * 1024), 64);

    CU_ASSERT_TRUE_FATAL(load(RAW_WITH("behaviour = 'source',")));
    attach();
    for (size_t at = 0; at < 200000; at += 1024)
        CU_ASSERT_EQUAL(pattern_received(1024, at), 1024);
    detach();
    attach();
    CU_ASSERT_EQUAL(pattern_received(64, 0), 64);
    CU_ASSERT_EQUAL(errors(), 0);
}

static void test_set_modem(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function on_data(bytes) load('set_modem ' .. bytes)() end"));
    attach();
    in_endpoint = 0x82;
    start_reading();
    send_text("{ dcd = true }");
    CU_ASSERT_EQUAL(modem_state(), USBIP_MODEM_DCD);
    send_text("{ dsr = true, ri = true }");
    CU_ASSERT_EQUAL(modem_state(), USBIP_MODEM_DCD | USBIP_MODEM_DSR | USBIP_MODEM_RI);
    send_text("{ dcd = false, ri = false, parity = true }");
    CU_ASSERT_EQUAL(modem_state(), USBIP_MODEM_DSR | USBIP_MODEM_PARITY);
    send_text("{ framing = true }");
    CU_ASSERT_EQUAL(modem_state(), USBIP_MODEM_DSR | USBIP_MODEM_FRAMING);
    send_text("{ dtr = true }");
    CU_ASSERT_TRUE(logged("there is no line or event dtr"));
}

static void test_timers(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM
                              "function on_open()\n"
                              "  after(10, function() write('a') end)\n"
                              "  local n = 0\n"
                              "  local t\n"
                              "  t = every(5, function() n = n + 1 write(tostring(n)) if n == 3 "
                              "then t:cancel() end end)\n"
                              "  after(7, function() write('x') end):cancel()\n"
                              "  after(30, function() write(string.format(' %.1f', now())) end)\n"
                              "end"));
    open_port();
    advance(4);
    CU_ASSERT_TRUE(received(""));
    advance(1);
    CU_ASSERT_TRUE(received("1"));
    advance(5);
    CU_ASSERT_TRUE(received("a2"));
    advance(10);
    CU_ASSERT_TRUE(received("3"));
    advance(100);
    CU_ASSERT_TRUE(received(" 30.0"));
    CU_ASSERT_EQUAL(usbip_scheduler_due_us(&scheduler), USBIP_NEVER);
}

/* The collector must neither lose a timer that is armed nor keep one that is not. */
static void test_timers_and_collector(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function on_open()\n"
                                  "  for i = 1, 1000 do after(i, function() write('.') end) end\n"
                                  "  for i = 1, 200000 do local s = 'x' .. i end\n"
                                  "end"));
    open_port();
    advance(999);
    CU_ASSERT_EQUAL(seen_size, 999);
    /* One is left, armed while the state is closed. */
    unload();
}

/* after(0) again and again must let the time go on. */
static void test_timer_without_delay(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "local n = 0\n"
                                  "local function again() n = n + 1 after(0, again) end\n"
                                  "after(0, again)\n"
                                  "after(1, function() log('n', n) end)"));
    advance(1);
    CU_ASSERT_TRUE(logged("n 999\n"));
}

static void test_unplug(void)
{
    CU_ASSERT_TRUE_FATAL(
        load(ACM "function on_data(bytes)\n"
                 "  if bytes == 'u' then unplug(50) else unplug() after(10, plug) end\n"
                 "end"));
    open_port();
    send_text("u");
    CU_ASSERT_TRUE(usbip_device_session_is_over(session));
    CU_ASSERT_FALSE(usbip_device_is_plugged(device));
    detach();
    advance(49);
    CU_ASSERT_FALSE(usbip_device_is_plugged(device));
    advance(1);
    CU_ASSERT_TRUE(usbip_device_is_plugged(device));
    open_port();
    send_text("p");
    CU_ASSERT_FALSE(usbip_device_is_plugged(device));
    detach();
    advance(10);
    CU_ASSERT_TRUE(usbip_device_is_plugged(device));
}

/* A fault of a script concerns its own device, from before that exists until it is removed. */
static void test_fault(void)
{
    CU_ASSERT_TRUE_FATAL(
        load(ACM "local late = fault { name = 'delay', ms = 20.0, endpoint = 0x81 }\n"
                 "function on_data(bytes)\n"
                 "  write(bytes)\n"
                 "  if bytes == 'x' then log('fired', late:fired(), late:remove(), late:remove(),\n"
                 "                           late:fired()) end\n"
                 "  if bytes == 'z' then fault { name = 'zero_data', endpoint = 0x81, count = 1 }\n"
                 "    log(pcall(fault, { name = 'status', value = 'x', data = true })) end\n"
                 "end"));
    open_port();
    send_text("a");
    CU_ASSERT_TRUE(received(""));
    advance(19);
    CU_ASSERT_TRUE(received(""));
    advance(1);
    CU_ASSERT_TRUE(received("a"));
    send_text("x");
    CU_ASSERT_TRUE(logged("1-1: fired 2 true false nil\n"));
    CU_ASSERT_TRUE(received(""));
    advance(20);
    CU_ASSERT_TRUE(received("x"));
    send_text("b");
    CU_ASSERT_TRUE(received("b"));
    send_text("z");
    CU_ASSERT_TRUE(received("z"));
    CU_ASSERT_TRUE(logged("1-1: false fault: status: value must be a number from -2147483648 to "
                          "2147483647, not \"x\"\n"));
    send_text("c");
    CU_ASSERT_EQUAL(seen_size, 1);
    CU_ASSERT_EQUAL(seen[0], 0);
    seen_size = 0;
    CU_ASSERT_EQUAL(errors(), 0);
    CU_ASSERT_EQUAL(bus.faults.count, 1);
    detach();
    usbip_device_free(bus.devices[0]);
    bus.count = 0;
    usbip_script_free(script);
    script = NULL;
    CU_ASSERT_EQUAL(bus.faults.count, 0);
}

static void test_write_without_room(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function on_data(bytes)\n"
                                  "  write(string.rep('x', 1000000))\n"
                                  "  write(string.rep('x', 100000))\n"
                                  "end\n"
                                  "function on_detach() log('w', write('lost')) end"));
    attach();
    send_text("a");
    CU_ASSERT_TRUE(logged("1-1: on_data: test.lua:4: write(): 100000 bytes, but there is room for "
                          "48576: the host does not read\n"));
    CU_ASSERT_EQUAL(errors(), 1);
    start_reading();
    CU_ASSERT_EQUAL(seen_size, 1000000);
    detach();
    CU_ASSERT_TRUE(logged("w false\n"));
}

static void test_log_is_one_line(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function on_open() print('a\\n\\27[1m', 1, nil, true) end"));
    open_port();
    CU_ASSERT_TRUE(logged("1-1: a\\x0a\\x1b[1m 1 nil true\n"));
}

/* ---- Dialogue ---- */

static void test_read_line(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function dialogue()\n"
                                  "  while true do write('[' .. read_line() .. ']') end\n"
                                  "end"));
    open_port();
    send_text("one\ntwo\r\nthree\rfo");
    CU_ASSERT_TRUE(received("[one][two][three]"));
    send_text("ur\r");
    CU_ASSERT_TRUE(received("[four]"));
    send_text("\nfive\r\n\r\n\n");
    CU_ASSERT_TRUE(received("[five][][]"));
}

static void test_personality(void)
{
    const struct usbip_script_options options = {.seed = 1,
                                                 .personality = usbip_find_personality("jiegec")};
    CU_ASSERT_TRUE_FATAL(load(ACM));
    CU_ASSERT_PTR_EQUAL(usbip_device_personality(device), &usbip_personality_strict);
    CU_ASSERT_TRUE_FATAL(load_with(ACM, options));
    CU_ASSERT_PTR_EQUAL(usbip_device_personality(device), options.personality);
    CU_ASSERT_TRUE_FATAL(load_with("device { type = 'cdc_acm', personality = 'linux' }", options));
    CU_ASSERT_PTR_EQUAL(usbip_device_personality(device), usbip_find_personality("linux"));
}

static void test_line_end(void)
{
    CU_ASSERT_TRUE_FATAL(load("device { type = 'cdc_acm', line_end = '<>' }\n"
                              "function dialogue()\n"
                              "  while true do write('[' .. read_line() .. ']') end\n"
                              "end"));
    open_port();
    send_text("a\r\nb<");
    CU_ASSERT_TRUE(received(""));
    send_text("><<>");
    CU_ASSERT_TRUE(received("[a\r\nb][<]"));
}

static void test_read_line_time_out(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function dialogue()\n"
                                  "  while true do write(tostring(read_line(100))) end\n"
                                  "end"));
    open_port();
    advance(99);
    send_text("par");
    CU_ASSERT_TRUE(received(""));
    advance(1);
    CU_ASSERT_TRUE(received("nil"));
    send_text("tial\n");
    CU_ASSERT_TRUE(received("partial"));
    advance(50);
    send_text("x\n");
    CU_ASSERT_TRUE(received("x"));
    advance(99);
    CU_ASSERT_TRUE(received(""));
    advance(1);
    CU_ASSERT_TRUE(received("nil"));
}

static void test_expect(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM
                              "function dialogue()\n"
                              "  write(expect('login: '))\n"
                              "  local name, number = expect('(%a+)=(%d+);')\n"
                              "  write(name .. number)\n"
                              "  write(tostring(expect('never', 10)))\n"
                              "  write(read(3) .. '|' .. tostring(read(2, 10)) .. '|' .. read(1))\n"
                              "end"));
    open_port();
    send_text("noise log");
    CU_ASSERT_TRUE(received(""));
    send_text("in: ab=1");
    CU_ASSERT_TRUE(received("login: "));
    send_text("2;xyzw");
    CU_ASSERT_TRUE(received("ab12"));
    advance(10);
    CU_ASSERT_TRUE(received("nil"));
    advance(10);
    CU_ASSERT_TRUE(received("xyz|nil|w"));
    CU_ASSERT_TRUE(logged("1-1: dialogue() has returned\n"));
}

static void test_sleep(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function dialogue()\n"
                                  "  for i = 1, 3 do write(tostring(i)) sleep(20) end\n"
                                  "  write(read_line())\n"
                                  "end"));
    open_port();
    CU_ASSERT_TRUE(received("1"));
    send_text("meanwhile\n");
    advance(19);
    CU_ASSERT_TRUE(received(""));
    advance(1);
    CU_ASSERT_TRUE(received("2"));
    advance(40);
    CU_ASSERT_TRUE(received("3meanwhile"));
}

/* write() in a dialogue waits for room, and nothing is lost or doubled. */
static void test_dialogue_write_waits(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function dialogue()\n"
                                  "  write(string.rep('0123456789', 180000))\n"
                                  "  log('written')\n"
                                  "end"));
    attach();
    set_lines(USBIP_LINE_DTR);
    CU_ASSERT_PTR_NULL(strstr(log_text, "written"));
    start_reading();
    CU_ASSERT_EQUAL(seen_size, 1800000);
    bool whole = true;
    for (size_t i = 0; i < seen_size; i++)
        whole &= seen[i] == '0' + i % 10;
    CU_ASSERT_TRUE(whole);
    CU_ASSERT_TRUE(logged("written\n"));
}

static void test_dialogue_ends_at_close(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "local n = 0\n"
                                  "function dialogue()\n"
                                  "  n = n + 1\n"
                                  "  write('start' .. n)\n"
                                  "  write(read_line())\n"
                                  "end"));
    open_port();
    CU_ASSERT_TRUE(received("start1"));
    send_text("un");
    set_lines(0);
    send_text("finished\n");
    CU_ASSERT_TRUE(received(""));
    set_lines(USBIP_LINE_DTR);
    CU_ASSERT_TRUE(received("start2"));
    send_text("again\n");
    CU_ASSERT_TRUE(received("again"));
    CU_ASSERT_EQUAL(errors(), 0);
}

static void test_dialogue_error(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function dialogue()\n"
                                  "  read_line()\n"
                                  "  local x = nil + 1\n"
                                  "end"));
    open_port();
    send_text("a\nb\nc\n");
    CU_ASSERT_TRUE(
        logged("1-1: dialogue: test.lua:4: attempt to perform arithmetic on a nil value"));
    CU_ASSERT_TRUE(logged("stack traceback:"));
    CU_ASSERT_EQUAL(errors(), 1);
    CU_ASSERT_TRUE_FATAL(load(ACM "function dialogue()\n"
                                  "  read_line()\n"
                                  "  error({})\n"
                                  "end"));
    open_port();
    send_text("a\n");
    CU_ASSERT_TRUE(logged("1-1: dialogue: test.lua:4: table: "));
    set_lines(0);
    set_lines(USBIP_LINE_DTR);
    send_text("a\n");
    CU_ASSERT_EQUAL(errors(), 2);
}

static void test_dialogue_misused(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function on_open() sleep(1) end\n"
                                  "function dialogue()\n"
                                  "  log(pcall(coroutine.wrap(function() read(1) end)))\n"
                                  "  log(pcall(string.gsub, 'a', 'a', function() read(1) end))\n"
                                  "  log(pcall(read, 65537))\n"
                                  "  log(pcall(sleep, -1))\n"
                                  "  log(pcall(sleep, 0/0))\n"
                                  "  coroutine.yield()\n"
                                  "end"));
    attach();
    CU_ASSERT_EQUAL(control(0x21, CDC_SET_CONTROL_LINE_STATE, USBIP_LINE_DTR, NULL, 0),
                    -USBIP_EPIPE); /* for on_open has failed */
    CU_ASSERT_TRUE(logged("on_open: test.lua:2: sleep(): only dialogue() itself can wait"));
    CU_ASSERT_TRUE(logged("false test.lua:4: read(): only dialogue() itself can wait"));
    CU_ASSERT_TRUE(logged("a dialogue cannot wait inside of a function that Lua's library calls"));
    CU_ASSERT_TRUE(logged("read(): 65537 bytes; from 1 to 65536 are possible"));
    CU_ASSERT_TRUE(logged("sleep(): -1 is not a number of milliseconds"));
    CU_ASSERT_TRUE(logged("sleep(): -nan is not") || logged("sleep(): nan is not"));
    CU_ASSERT_TRUE(logged("dialogue: coroutine.yield() in dialogue()"));
    CU_ASSERT_EQUAL(errors(), 2);
    send_text("ignored");
}

/* pcall() around what waits, and a wait that is left by an error. */
static void test_dialogue_with_pcall(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function dialogue()\n"
                                  "  local ok, line = pcall(read_line, 100)\n"
                                  "  write(tostring(ok) .. line)\n"
                                  "  write(read_line())\n"
                                  "end"));
    open_port();
    send_text("a\n");
    CU_ASSERT_TRUE(received("truea"));
    advance(200);
    CU_ASSERT_TRUE(received(""));
    send_text("b\n");
    CU_ASSERT_TRUE(received("b"));
}

/* Its own unplug() ends a dialogue while it runs; so does a halt the transfer that it reads. */
static void test_dialogue_pulls_the_plug(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function dialogue()\n"
                                  "  local first = read(1)\n"
                                  "  if first == 'h' then halt(0x01) else unplug(10) end\n"
                                  "  log('rest', #read(65535), read(1, 10))\n"
                                  "end"));
    open_port();
    send_text("u");
    detach();
    CU_ASSERT_EQUAL(errors(), 0);
    advance(10);
    open_port();
    char *big = calloc(1, 300000);
    big[0] = 'h';
    send_bytes(big, 300000);
    free(big);
    CU_ASSERT_EQUAL(reply.status, -USBIP_EPIPE);
    advance(10);
    CU_ASSERT_TRUE(logged("rest 65535 nil\n"));
}

static void test_dialogue_input_limit(void)
{
    CU_ASSERT_TRUE_FATAL(
        load(ACM "function dialogue() sleep(10) log('read', #read(65536)) read_line() end"));
    open_port();
    char *big = malloc(100000);
    memset(big, 'x', 100000);
    send_bytes(big, 100000);
    CU_ASSERT_TRUE(
        logged("1-1: dialogue: 65536 bytes have not been read; what comes now is lost\n"));
    CU_ASSERT_EQUAL(errors(), 1);
    advance(10);
    CU_ASSERT_TRUE(logged("read 65536\n"));
    /* More than fits at once is fine for who reads. */
    send_bytes(big, 65536);
    CU_ASSERT_TRUE(logged("read_line(): no line end in 65536 bytes"));
    free(big);
}

/* ---- Limits ---- */

static void assert_runaway(const char *text, const char *place)
{
    CU_ASSERT_TRUE_FATAL(load(text));
    open_port();
    send_text("a");
    CU_ASSERT_TRUE(logged(place));
    CU_ASSERT_TRUE(
        logged(": the call ran for more than 10000000 instructions: an endless loop?\n"));
    CU_ASSERT_EQUAL(errors(), 1);
    /* The device goes on. */
    clear_log();
    CU_ASSERT_EQUAL(control(0xa1, CDC_GET_LINE_CODING, 0, NULL, 7), 0);
    send_text("b");
    CU_ASSERT_TRUE(received("b"));
}

static void test_endless_loops(void)
{
    static const char *const loops[] = {
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        "xpcall(function() while true do end end, function() while true do end end)\n"
        "while true do end",
        "local function loop() while true do end end\n"
        "local t <close> = setmetatable({}, {__close = loop}) loop()",
        "local function loop() while true do end end\n"
        "coroutine.wrap(function() local t <close> = setmetatable({}, {__close = loop}) loop() "
        "end)()",
        "local function loop() while true do end end\n"
        "coroutine.wrap(function() for _ in loop, 1, 2, setmetatable({}, {__close = loop}) do end "
        "end)()",
        "table.sort({1,2,3}, function() while true do end end)",
        "string.gsub('a', 'a', function() while true do end end)",
        "error(setmetatable({}, {__tostring = function() while true do end end}))",
    };
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 ACM "function on_data(bytes)\n"
                     "if bytes == 'b' then return write(bytes) end\n"
                     "%s\n"
                     "end",
                 loops[i]);
        assert_runaway(text, "on_data: test.lua:");
    }
}

/* What works in C for long counts as instructions. */
static void test_endless_patterns(void)
{
    static const char *const searches[] = {
        "('a'):rep(3000):find('.-.-b')",
        "local s = ('a'):rep(3000) s:match('.*.*.*b')",
        "string.gsub(('a'):rep(3000), '.-.-b', '')",
        "for _ in ('a'):rep(3000):gmatch('.-.-b') do end",
        "while true do pcall(string.find, ('a'):rep(3000), '.-.-b') end",
        "('('):rep(1000000):find('%b()')",
        "('x'):rep(1000000):find('[' .. ('a'):rep(100000) .. ']')",
        "('a'):rep(100000):gsub('(b?)', ('%1'):rep(100000))",
        "local s = ('a'):rep(20000000) while true do s:find('b', 1, true) end",
        "local s = ('a'):rep(20000000) while true do s:find('ab') end",
        "local s = ('a'):rep(100) while true do s:find('[%d%s]$') end",
    };
    for (size_t i = 0; i < sizeof searches / sizeof searches[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 ACM "function on_data(bytes)\n"
                     "if bytes == 'b' then return write(bytes) end\n"
                     "%s\n"
                     "end",
                 searches[i]);
        assert_runaway(text, "on_data: test.lua:4: ");
    }
    CU_ASSERT_TRUE_FATAL(load_with(ACM "function on_data(bytes)\n"
                                       "  if bytes == 'a' then ('a'):rep(3000):find('.-.-b') end\n"
                                       "end",
                                   (struct usbip_script_options){.unsafe = true}));
    open_port();
    send_text("a");
    CU_ASSERT_TRUE(logged("1-1: on_data: test.lua:3: the call ran for more than 10000000"));
    CU_ASSERT_TRUE_FATAL(load(ACM "function dialogue()\n"
                                  "  write(read(1))\n"
                                  "  expect('.-.-b')\n"
                                  "end"));
    open_port();
    char text[3000];
    memset(text, 'a', sizeof text);
    send_bytes(text, sizeof text);
    CU_ASSERT_TRUE(logged("1-1: dialogue: test.lua:4: the call ran for more than 10000000"));
    CU_ASSERT_EQUAL(errors(), 1);
    set_lines(0);
    set_lines(USBIP_LINE_DTR);
    seen_size = 0;
    send_text("x");
    CU_ASSERT_TRUE(received("x"));
}

/* Limits are per call: after one that went over them, the next has all of them. */
static void test_call_after_limit(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM "function on_data(bytes)\n"
                                  "  while bytes == 'a' do end\n"
                                  "  for i = 1, 8000000 do end\n"
                                  "  write(bytes)\n"
                                  "end"));
    open_port();
    send_text("a");
    CU_ASSERT_EQUAL(errors(), 1);
    send_text("b");
    CU_ASSERT_TRUE(received("b"));
    send_text("c");
    CU_ASSERT_TRUE(received("c"));
}

/* xpcall() and coroutine.wrap() are ours: they must be as Lua's. */
static void test_xpcall_and_wrap(void)
{
    CU_ASSERT_TRUE(
        load(ACM "local function handler(e) return 'handled ' .. e end\n"
                 "local t = { xpcall(function(...) return ... end, handler, 1, nil, 3) }\n"
                 "assert(t[1] == true and t[2] == 1 and t[3] == nil and t[4] == 3)\n"
                 "local ok, e = xpcall(error, handler, 'x', 0)\n"
                 "assert(ok == false and e == 'handled x')\n"
                 "local co = coroutine.wrap(function(a)\n"
                 "  local ok, b = xpcall(function() return coroutine.yield(a + 1) end, handler)\n"
                 "  coroutine.yield(b * 2, 'two')\n"
                 "  error({ code = 5 })\n"
                 "end)\n"
                 "assert(co(1) == 2)\n"
                 "assert(select('#', co(10)) == 2)\n"
                 "local ok, e = pcall(co)\n"
                 "assert(not ok and e.code == 5)\n"
                 "assert(not pcall(co))\n"
                 "assert(not pcall(xpcall, 1))\n"
                 "assert(not pcall(coroutine.wrap, 1))"));
    CU_ASSERT_STRING_EQUAL(error_text, "");
}

static void test_endless_dialogue(void)
{
    CU_ASSERT_TRUE_FATAL(load(ACM
                              "function dialogue()\n"
                              "  if read_line() == 'loop' then while true do read_line(0) end end\n"
                              "  while true do pcall(function() while true do end end) end\n"
                              "end"));
    open_port();
    send_text("x\n");
    CU_ASSERT_TRUE(logged("1-1: dialogue: test.lua:4: the call ran for more than 10000000"));
    CU_ASSERT_EQUAL(errors(), 1);
    set_lines(0);
    set_lines(USBIP_LINE_DTR);
    send_text("loop\n");
    /* Each read_line(0) lets time pass, and other things happen. */
    CU_ASSERT_EQUAL(errors(), 1);
    advance(1);
    CU_ASSERT_EQUAL(errors(), 1);
}

static void test_endless_load(void)
{
    CU_ASSERT_FALSE(load("device { type = 'cdc_acm' }\nwhile true do end"));
    CU_ASSERT_STRING_EQUAL(error_text, "test.lua:2: the call ran for more than 10000000 "
                                       "instructions: an endless loop?");
}

static void test_memory(void)
{
    CU_ASSERT_TRUE_FATAL(
        load(ACM "function on_data(bytes)\n"
                 "  if bytes == 'a' then local t = {} while true do t[#t + 1] = ('x'):rep(1000000) "
                 ".. #t end end\n"
                 "  if bytes == 'b' then local t = ('x'):rep(100000000) end\n"
                 "  if bytes == 'c' then local s = 'x' while true do s = s .. s end end\n"
                 "  write(bytes)\n"
                 "end"));
    open_port();
    static const char *const bombs[] = {"a", "b", "c"};
    for (unsigned i = 0; i < 3; i++) {
        clear_log();
        send_text(bombs[i]);
        CU_ASSERT_TRUE(logged("1-1: on_data: test.lua:"));
        CU_ASSERT_TRUE(logged(" out of memory: a script may use 64 MiB\n"));
        CU_ASSERT_EQUAL(errors(), i + 1);
    }
    send_text("fine");
    CU_ASSERT_TRUE(received("fine"));
    CU_ASSERT_FALSE(load("local s = 'x' while true do s = s .. s end"));
    CU_ASSERT_STRING_EQUAL(error_text, "test.lua:1: out of memory: a script may use 64 MiB");
    CU_ASSERT_TRUE_FATAL(
        load(ACM "function dialogue() local s = 'x' while true do s = s .. s end end"));
    open_port();
    CU_ASSERT_TRUE(logged("1-1: dialogue: test.lua:2: out of memory: a script may use 64 MiB\n"));
}

/* What is not used any more does not count. */
static void test_garbage(void)
{
    static const char *const strings[] = {
        "('y'):rep(8 << 20)",       "big:upper()",
        "string.format('%s', big)", "big:reverse()",
        "table.concat({ big })",    "big:lower()",
        "(big:gsub('^Y', 'z'))",    "(big:gsub('^Y', { Y = 1 }))",
    };
    for (size_t i = 0; i < 2 * sizeof strings / sizeof strings[0]; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 ACM "local keep = ('k'):rep(12 << 20)\n"
                     "local big, s = ('Y'):rep(8 << 20)\n"
                     "for i = 1, 5 do s = %s .. i assert(#s > 8 << 20) end",
                 strings[i / 2]);
        CU_ASSERT_TRUE(load_with(text, (struct usbip_script_options){.unsafe = i % 2 != 0}));
        CU_ASSERT_STRING_EQUAL(error_text, "");
    }
    CU_ASSERT_TRUE(load(ACM "local keep = ('k'):rep(20 << 20)\n"
                            "local s\n"
                            "for i = 1, 10 do s = ('y'):rep(8 << 20) .. i end"));
    CU_ASSERT_TRUE_FATAL(load(
        ACM "local function fill() local t = {} while true do t[#t + 1] = ('x'):rep(1e5) end end\n"
            "function on_data(bytes)\n"
            "  if bytes == 'fill' then fill() end\n"
            "  if bytes == 'hold' then pcall(fill) end\n"
            "  write(tostring(#('y'):rep(4000000)))\n"
            "end"));
    open_port();
    for (int i = 0; i < 3; i++) {
        send_text("fill");
        send_text("big");
        CU_ASSERT_TRUE(received("4000000"));
        send_text("hold");
        CU_ASSERT_TRUE(received("4000000"));
    }
    CU_ASSERT_EQUAL(errors(), 3);
    CU_ASSERT_TRUE_FATAL(
        load(ACM "function dialogue()\n"
                 "  if read(1) == 'f' then local t = {} while true do t[#t + 1] = {} end end\n"
                 "  write(tostring(#('y'):rep(4000000)))\n"
                 "end"));
    open_port();
    send_text("f");
    CU_ASSERT_EQUAL(errors(), 1);
    set_lines(0);
    set_lines(USBIP_LINE_DTR);
    send_text("x");
    CU_ASSERT_TRUE(received("4000000"));
}

/* Functions of Lua's library that would run for long inside of C. */
static void test_library_limits(void)
{
    static const char *const calls[] = {
        "string.rep('', 1 << 60)",
        "table.move({}, 1, 1 << 60, 2)",
        "table.concat(setmetatable({}, {__index = table.concat}), '', 1, 1 << 60)",
        "table.insert(setmetatable({}, {__len = function() return 1 << 60 end}), 1, 1)",
        "table.remove(setmetatable({}, {__len = function() return 1 << 60 end}), 1)",
        "table.sort(setmetatable({}, {__len = function() return 1 << 30 end}))",
        "setmetatable({}, {__gc = function() while true do end end})",
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, ACM "log(pcall(function() return %s end))", calls[i]);
        CU_ASSERT_TRUE(load(text));
    }
    CU_ASSERT_TRUE(load(ACM
                        "table.sort({3, 1, 2}) table.insert({}, 1) table.concat({1, 2}, ',')\n"
                        "assert(string.rep('ab', 2, '-') == 'ab-ab' and table.remove({7}) == 7)\n"
                        "assert(table.move({1, 2}, 1, 2, 2)[3] == 2 and ('x'):rep(3) == 'xxx')\n"
                        "assert(getmetatable(setmetatable({}, {a = 1})).a == 1)"));
    CU_ASSERT_FALSE(load(ACM "local x\n\ntable.concat({1, {}, 3})"));
    CU_ASSERT_EQUAL(strncmp(error_text, "test.lua:4: ", 12), 0);
    CU_ASSERT_FALSE(load(ACM "local x\n\ntable.insert(nil, 1)"));
    CU_ASSERT_EQUAL(strncmp(error_text, "test.lua:4: ", 12), 0);
}

/* ---- What the repository shows ---- */

static char *read_document(const char *name)
{
    size_t name_size = strlen(name);
    for (char **path = documents; *path; path++) {
        size_t size = strlen(*path);
        if (size < name_size || strcmp(*path + size - name_size, name) != 0)
            continue;
        FILE *file = fopen(*path, "r");
        char *text = calloc(1, LOG_SIZE);
        CU_ASSERT_PTR_NOT_NULL_FATAL(file);
        CU_ASSERT_PTR_NOT_NULL_FATAL(text);
        CU_ASSERT(fread(text, 1, LOG_SIZE - 1, file) < LOG_SIZE - 1);
        fclose(file);
        return text;
    }
    fprintf(stderr, "%s is not among the arguments\n", name);
    CU_FAIL_FATAL("a missing argument");
    return NULL;
}

static void load_document(const char *name)
{
    char *text = read_document(name);
    CU_ASSERT_TRUE_FATAL(load(text));
    free(text);
}

static void test_echo_acm(void)
{
    load_document("scripts/echo_acm.lua");
    open_port();
    send_text("hello");
    CU_ASSERT_TRUE(received("hello"));
}

static void test_echo_ftdi(void)
{
    load_document("scripts/echo_ftdi.lua");
    attach();
    start_reading();
    submit(2, false, NULL, "hello", 5);
    take_output();
    advance(16);
    /* Two bytes of status are before the data, and alone in transfers without any. */
    CU_ASSERT(seen_size >= 7);
    CU_ASSERT_EQUAL(memcmp(seen + seen_size - 5, "hello", 5), 0);
}

static void test_modem(void)
{
    load_document("scripts/modem.lua");
    open_port();
    send_text("AT\r");
    CU_ASSERT_TRUE(received("AT\r\r\nOK\r\n"));
    send_text("ate0\r\n");
    CU_ASSERT_TRUE(received("ate0\r\r\nOK\r\n"));
    send_text("ATI\r");
    CU_ASSERT_TRUE(received("\r\nusbip-testbench modem\r\n\r\nOK\r\n"));
    send_text("AT+CSQ\r");
    CU_ASSERT_EQUAL(seen_size, strlen("\r\n+CSQ: 20,99\r\n\r\nOK\r\n"));
    seen_size = 0;
    send_text("AT+CREG=2\r");
    CU_ASSERT_TRUE(received("\r\nOK\r\n"));
    send_text("AT+CREG?\r");
    CU_ASSERT_TRUE(received("\r\n+CREG: 2\r\n\r\nOK\r\n"));
    send_text("AT+CMEE?\r");
    CU_ASSERT_TRUE(received("\r\n+CMEE: \r\n\r\nOK\r\n"));
    send_text("AT!\r");
    CU_ASSERT_TRUE(received("\r\nERROR\r\n"));
    send_text("nonsense\r");
    CU_ASSERT_TRUE(received(""));
    send_text("ATDT0123\r");
    CU_ASSERT_TRUE(received(""));
    advance(200);
    CU_ASSERT_TRUE(received("\r\nCONNECT 115200\r\n"));
    CU_ASSERT_EQUAL(usbip_device_modem_state(device, 1), USBIP_MODEM_DCD);
    send_text("AT\r");
    CU_ASSERT_TRUE(received("AT\r"));
    send_text("+++");
    CU_ASSERT_TRUE(received("\r\nOK\r\n"));
    send_text("ATH\r");
    CU_ASSERT_TRUE(received("\r\nOK\r\n"));
    CU_ASSERT_EQUAL(usbip_device_modem_state(device, 1), 0);
    send_text("ATE1\r");
    CU_ASSERT_TRUE(received("\r\nOK\r\n"));
    CU_ASSERT_EQUAL(errors(), 0);
}

/* Every example is loaded, and its hooks run without an error. */
static void test_documentation(void)
{
    char *text = read_document("docs/scripting.md"), *at = text;
    unsigned count = 0;
    while ((at = strstr(at, "```lua\n")) != NULL) {
        char *begin = at + strlen("```lua\n"), *end = strstr(begin, "```");
        REQUIRE(end != NULL);
        *end = '\0';
        CU_ASSERT_TRUE_FATAL(load(begin));
        count++;
        attach();
        control(0x21, CDC_SET_CONTROL_LINE_STATE, USBIP_LINE_DTR, NULL, 0);
        control(0x40, 1, 0x0101, NULL, 0); /* the same for FTDI */
        control(0xc0, 0x20, 0, NULL, 64);
        if (count == 2)
            CU_ASSERT_EQUAL(reply.size, strlen("version 1.0"));
        start_reading();
        submit(count == 2 ? 2 : 1, false, NULL, "VOLT 5\nreset\n", 13);
        take_output();
        advance(2500);
        detach();
        CU_ASSERT_EQUAL(errors(), 0);
        if (errors() > 0)
            fprintf(stderr, "%s\n%s\n", begin, log_text);
        at = end + 1;
    }
    CU_ASSERT_EQUAL(count, 12);
    free(text);
}

/* ---- Loading ---- */

static void test_load_errors(void)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"device {\n\nx x }", "test.lua:3: '}' expected (to close '{' at line 1) near 'x'"},
        {"x = = 1", "test.lua:1: unexpected symbol near '='"},
        {"", "test.lua: no device { ... } in it, which says what the device is"},
        {"device { type = 'modem' }",
         "test.lua:1: device: type \"modem\" is unknown; there are: cdc_acm, ftdi, raw"},
        {"device { product = 'x' }", "test.lua:1: device: no type; there are: cdc_acm, ftdi, raw"},
        {"device { type = 'cdc_acm', idvendor = 1 }",
         "test.lua:1: device: there is no field idvendor; see docs/scripting.md"},
        {"device { type = 'cdc_acm', idVendor = 65536 }",
         "test.lua:1: device: idVendor must be 0 to 0xffff, not 65536"},
        {"device { type = 'cdc_acm', idVendor = '1' }",
         "test.lua:1: device: idVendor must be 0 to 0xffff, not 1"},
        {"device { type = 'cdc_acm', speed = 'fast' }",
         "test.lua:1: device: speed must be \"low\", \"full\" or \"high\", not fast"},
        {"device { type = 'cdc_acm', personality = 'windows' }",
         "test.lua:1: device: personality \"windows\" is unknown; there are: strict, linux, "
         "usbipd-win, jiegec, usbip-python"},
        {"device { type = 'cdc_acm', personality = true }",
         "test.lua:1: device: personality must be a string, not true"},
        {"device { type = 'cdc_acm', behaviour = 'loop' }",
         "test.lua:1: device: behaviour must be \"echo\", \"sink\" or \"source\", not loop"},
        {"device { type = 'cdc_acm', behaviour = 'echo' } function on_data() end",
         "test.lua: on_data() is never called on a device with a behaviour"},
        {"device { type = 'cdc_acm', strings = { [32] = 'x' } }",
         "test.lua:1: device: indices of strings go from 1 to 31"},
        {"device { type = 'cdc_acm', product = 'x', strings = { [2] = 'y' } }",
         "test.lua:1: device: string 2 is given twice; manufacturer, product and serial are 1, 2 "
         "and 3"},
        {"device { type = 'raw', device_descriptor = 'short' }",
         "test.lua:1: device: device_descriptor must be a string with the 18 bytes of a device "
         "descriptor"},
        {"device { type = 'raw', device_descriptor = 'x', idVendor = 1 }",
         "test.lua:1: device: device_descriptor and idVendor both say the same; keep one"},
        {"device { type = 'cdc_acm', paced = 1 }",
         "test.lua:1: device: paced must be true or false, not 1"},
        {"device { type = 'raw', paced = true }",
         "test.lua:1: device: paced: a raw device has no serial line"},
        {"device { type = 'raw' }", "test.lua: a raw device needs a configuration descriptor"},
        {"device 'x'", "test.lua:1: bad argument #1 to 'device' (table expected, got string)"},
        {ACM ACM, "test.lua:2: device: called twice; a script is one device"},
        {ACM "function on_dat() end", "test.lua: there is no hook on_dat(); see docs/scripting.md"},
        {ACM "on_data = 1", "test.lua: on_data must be a function, not a number"},
        {ACM "function on_data() end function dialogue() end",
         "test.lua: on_data() and dialogue() both want what the host sends; keep one"},
        {ACM "function on_transfer_in() end",
         "test.lua: on_transfer_in() is never called on a device of type \"cdc_acm\""},
        {RAW "function dialogue() end",
         "test.lua: dialogue() is never called on a device of type \"raw\""},
        {ACM "write('x')",
         "test.lua:2: write(): the device does not exist yet; call it from a hook"},
        {ACM "\nfault { ms = 1 }", "test.lua:3: fault: name must be a string, such as \"delay\""},
        {ACM "fault { name = 'delays' }",
         "test.lua:2: fault: there is no fault \"delays\"; there are: fragment, delay, "
         "stop_reading, close, reset, op_version, op_code, op_status, op_busid, status, length, "
         "zero_data, duplicate, reorder, swallow_ret_submit, swallow_ret_unlink, late_reply, "
         "disconnect"},
        {ACM "fault { name = 'delay', ms = -1 }",
         "test.lua:2: fault: delay: ms must be a number from 0 to 3600000, not \"-1\""},
        {ACM "fault { name = 'delay', ms = 1.5 }",
         "test.lua:2: fault: ms must be an integer, a string, true or false, not 1.5"},
        {ACM "fault { name = 'delay', size = 1 }",
         "test.lua:2: fault: delay: there is no parameter \"size\"; there are: ms, jitter, device, "
         "endpoint, after, count, chance"},
        {ACM "fault { name = 'delay', device = '1-2' }",
         "test.lua:2: fault: device is always the script's own"},
        {ACM "fault { name = 'delay', 1 }", "test.lua:2: fault: there is no parameter 1"},
        {ACM "for i = 1, 65 do\nfault { name = 'delay' } end",
         "test.lua:3: fault: delay: there are 64 faults already, which is the limit; remove one"},
        {ACM "fault 'delay'",
         "test.lua:2: bad argument #1 to 'fault' (table expected, got string)"},
        {ACM "error(setmetatable({}, { __tostring = function() return 'x' end }))",
         "test.lua:2: x"},
        {ACM "\nerror('x', 0)", "test.lua:3: x"},
        {ACM "\nerror()", "test.lua:3: nil"},
        {ACM "table.sort({3, 1, 2, 5, 4, 9, 8, 7, 6, 5, 4, 3, 2, 1}, function() return true end)",
         "test.lua:2: invalid order function for sorting"},
        {ACM "table.sort({1, 'x'})", "test.lua:2: attempt to compare string with number"},
        {ACM "local function f()\nrequire('nosuch') end f()",
         "test.lua:3: cannot open nosuch.lua: No such file or directory"},
        {ACM "pcall(string.rep, 'x', -1) coroutine.wrap(string.rep)()",
         "test.lua:2: bad argument #1 to 'string.rep' (string expected, got no value)"},
        {ACM "local ok, e = pcall(function()\nlocal x = nil + 1 end)\nerror(e, 0)",
         "test.lua:3: attempt to perform arithmetic on a nil value"},
        {ACM "local t = {}\nwhile true do\nt[#t + 1] = {}\nend",
         "test.lua:4: out of memory: a script may use 64 MiB"},
        {ACM "local s = 'x'\ncoroutine.wrap(function()\nwhile true do\ns = s .. s\nend end)()",
         "test.lua:5: out of memory: a script may use 64 MiB"},
        {"\x1bLua", "test.lua: attempt to load a binary chunk (mode is 't')"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CU_ASSERT_FALSE(load(cases[i].text));
        CU_ASSERT_STRING_EQUAL(error_text, cases[i].error);
        if (strcmp(error_text, cases[i].error) != 0)
            fprintf(stderr, "%s\n", error_text);
    }
}

static void test_missing_script(void)
{
    struct usbip_script_options options = {.path = "missing.lua"};
    unload();
    CU_ASSERT_PTR_NULL(usbip_script_new(&options, &scheduler, &bus.log, &device, error_text));
    CU_ASSERT_STRING_EQUAL(error_text, "cannot open missing.lua: No such file or directory");
}

static void test_device_descriptor(void)
{
    CU_ASSERT_TRUE_FATAL(load("device { type = 'raw', device_descriptor =\n"
                              "'\\x12\\x01\\x00\\x02\\xff\\x01\\x02\\x40\\x34\\x12\\x78\\x56\\x01\\"
                              "x02\\x00\\x05\\x00\\x01',\n"
                              "strings = { [5] = 'Five' }, configuration =\n"
                              "'\\x09\\x02\\x12\\x00\\x01\\x01\\x00\\x80\\x32\\x09\\x04\\x00\\x00\\"
                              "x00\\xff\\x00\\x00\\x00' }"));
    struct usbip_device_record record;
    usbip_bus_describe(device, &record);
    CU_ASSERT_EQUAL(record.idVendor, 0x1234);
    CU_ASSERT_EQUAL(record.idProduct, 0x5678);
    CU_ASSERT_EQUAL(record.bcdDevice, 0x0201);
    CU_ASSERT_EQUAL(record.bDeviceProtocol, 2);
    CU_ASSERT_STRING_EQUAL(usbip_device_product(device), "Five");
}

/* ---- Sandbox ---- */

static void test_sandbox(void)
{
    static const char *const nothing[] = {
        "io",
        "os",
        "debug",
        "package",
        "dofile",
        "loadfile",
        "collectgarbage",
        "string.dump",
        "math.randomseed",
    };
    for (size_t i = 0; i < sizeof nothing / sizeof nothing[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, ACM "assert(%s == nil)", nothing[i]);
        CU_ASSERT_TRUE(load(text));
    }
    CU_ASSERT_TRUE(load(ACM "assert(not load('\\27Lua'))\n"
                            "assert(not load('\\27Lua', 'x', 'b'))\n"
                            "assert(not pcall(load, function() return nil end))\n"
                            "assert(load('return 1 + 1')() == 2)\n"
                            "assert(load('return a', 'x', 't', { a = 3 })() == 3)\n"
                            "assert(select(2, load('x x', '=name')):find('^name:1:'))"));
    CU_ASSERT_TRUE(load_with(ACM "assert(io and os and debug and package and collectgarbage)",
                             (struct usbip_script_options){.unsafe = true}));
}

static void test_require(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/sub", folder);
    mkdir(path, 0700);
    write_file("module.lua", "count = (count or 0) + 1\nreturn { name = ..., n = count }");
    write_file("sub/inner.lua", "return 'inner'");
    write_file("broken.lua", "x x");
    write_file("binary.lua", "\x1bLua");
    write_file("self.lua", "return require('self')");
    CU_ASSERT_TRUE(load(
        ACM
        "local m = require('module')\n"
        "assert(m.name == 'module' and m.n == 1)\n"
        "assert(require('module') == m)\n"
        "assert(require('sub.inner') == 'inner')\n"
        "assert(require('self') == true)\n"
        "local names = { '..', '../x', '/etc/passwd', 'a/b', '', '.module', 'a..b', 'module.',\n"
        "  'a\\0b', ('x'):rep(65) }\n"
        "for _, name in ipairs(names) do\n"
        "  local ok, message = pcall(require, name)\n"
        "  assert(not ok and message:find('is not the name of a module'), message)\n"
        "end\n"
        "log(pcall(require, 'broken'))\n"
        "log(pcall(require, 'binary'))\n"
        "log(pcall(require, 'missing'))\n"));
    CU_ASSERT_TRUE(logged("broken.lua:1: syntax error near 'x'"));
    CU_ASSERT_TRUE(logged("attempt to load a binary chunk"));
    CU_ASSERT_TRUE(logged("cannot open missing.lua"));
    CU_ASSERT_TRUE(load_with(ACM "assert(require('module').name == 'module')",
                             (struct usbip_script_options){.unsafe = true}));
}

static void run_random(char text[256], uint64_t seed, unsigned index)
{
    CU_ASSERT_TRUE_FATAL(load_with(ACM "log(random(1 << 30), math.random(1 << 30), random())",
                                   (struct usbip_script_options){.seed = seed, .index = index}));
    snprintf(text, 256, "%.255s", log_text);
}

static void test_random(void)
{
    char first[256], second[256];
    run_random(first, 42, 0);
    run_random(second, 42, 0);
    CU_ASSERT_STRING_EQUAL(first, second);
    run_random(second, 43, 0);
    CU_ASSERT_STRING_NOT_EQUAL(first, second);
    run_random(second, 42, 1);
    CU_ASSERT_STRING_NOT_EQUAL(first, second);
}

static const char *serial_of_copy(const char *text, unsigned copy)
{
    static char serial[64];
    CU_ASSERT_TRUE_FATAL(load_with(text, (struct usbip_script_options){.copy = copy}));
    attach();
    serial[0] = '\0';
    if (control(USB_DIR_IN, USB_REQ_GET_DESCRIPTOR, USB_DT_STRING << 8 | 3, NULL, 64) == 0) {
        size_t size = reply.size / 2 - 1;
        for (size_t i = 0; i < size; i++)
            serial[i] = (char)reply.data[2 + 2 * i];
        serial[size] = '\0';
    }
    return serial;
}

static void test_copies(void)
{
    static const char with_serial[] = "device { type = 'cdc_acm', serial = 'S7' }";
    CU_ASSERT_STRING_EQUAL(serial_of_copy(with_serial, 1), "S7");
    CU_ASSERT_STRING_EQUAL(serial_of_copy(with_serial, 2), "S7-2");
    CU_ASSERT_STRING_EQUAL(serial_of_copy(with_serial, 1000), "S7-1000");
    CU_ASSERT_STRING_EQUAL(serial_of_copy(ACM, 2), "");
    /* A device descriptor may name any string, or none that exists. */
    CU_ASSERT_FALSE(load_with("device { type = 'cdc_acm', device_descriptor = '\\x12\\x01\\0\\x02'"
                              " .. '\\0\\0\\0\\x40\\x09\\x12\\1\\0\\0\\1\\0\\0\\xff\\1' }",
                              (struct usbip_script_options){.copy = 2}));
    CU_ASSERT_PTR_NOT_NULL(strstr(error_text, "string 255"));
}

static void test_state_per_device(void)
{
    CU_ASSERT_TRUE_FATAL(
        load(ACM "seen = (seen or 0) + 1\n"
                 "string.extra = (string.extra or 0) + 1\n"
                 "function on_data(bytes) seen = seen + 1 write(seen .. string.extra) end"));
    struct usbip_script_options options = {.path = "test.lua", .index = 1};
    struct usbip_device *other;
    struct usbip_script *second =
        usbip_script_new(&options, &scheduler, &bus.log, &other, error_text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(second);
    open_port();
    send_text("a");
    CU_ASSERT_TRUE(received("21"));
    usbip_device_free(other);
    usbip_script_free(second);
}

/* Arguments: the repository's scripts and documentation. */
int main(int argc, char **argv)
{
    CU_TestInfo tests[] = {
        {"on_data", test_data},
        {"on_attach, on_open, on_close, on_detach", test_life},
        {"on_line_coding", test_line_coding},
        {"failed hooks stall", test_failed_hooks_stall},
        {"on_control_lines", test_control_lines},
        {"on_break", test_break},
        {"on_control", test_control},
        {"raw: on_transfer_out, on_transfer_in, send, halt", test_raw},
        {"set_modem", test_set_modem},
        {"after, every, now", test_timers},
        {"timers and the collector", test_timers_and_collector},
        {"timer without delay", test_timer_without_delay},
        {"unplug, plug", test_unplug},
        {"fault", test_fault},
        {"behaviour", test_behaviour},
        {"write without room", test_write_without_room},
        {"log is one line", test_log_is_one_line},
        {"read_line", test_read_line},
        {"personality", test_personality},
        {"line_end", test_line_end},
        {"read_line: time-out", test_read_line_time_out},
        {"expect, read", test_expect},
        {"sleep", test_sleep},
        {"write in a dialogue waits", test_dialogue_write_waits},
        {"dialogue ends at close", test_dialogue_ends_at_close},
        {"error in a dialogue", test_dialogue_error},
        {"dialogue misused", test_dialogue_misused},
        {"dialogue with pcall", test_dialogue_with_pcall},
        {"dialogue pulls the plug", test_dialogue_pulls_the_plug},
        {"limit of a dialogue's input", test_dialogue_input_limit},
        {"endless loops", test_endless_loops},
        {"endless patterns", test_endless_patterns},
        {"call after a limit", test_call_after_limit},
        {"xpcall, coroutine.wrap", test_xpcall_and_wrap},
        {"endless dialogue", test_endless_dialogue},
        {"endless load", test_endless_load},
        {"memory", test_memory},
        {"garbage", test_garbage},
        {"library limits", test_library_limits},
        {"scripts/echo_acm.lua", test_echo_acm},
        {"scripts/echo_ftdi.lua", test_echo_ftdi},
        {"scripts/modem.lua", test_modem},
        {"docs/scripting.md", test_documentation},
        {"errors while loading", test_load_errors},
        {"missing script", test_missing_script},
        {"device_descriptor, strings", test_device_descriptor},
        {"sandbox", test_sandbox},
        {"require", test_require},
        {"random", test_random},
        {"copies", test_copies},
        {"a state per device", test_state_per_device},
        CU_TEST_INFO_NULL,
    };
    char template[512];
    const char *temporary = getenv("TEST_TMPDIR");
    snprintf(template, sizeof template, "%s/script_test_XXXXXX", temporary ? temporary : "/tmp");
    documents = argv + 1;
    for (int i = 1; i < argc; i++)
        argv[i] = realpath(argv[i], NULL);
    if (!mkdtemp(template) || chdir(template) < 0)
        return 2;
    folder = template;
    int status = run_tests("script", tests);
    unload();
    for (int i = 1; i < argc; i++)
        free(argv[i]);
    return status;
}
