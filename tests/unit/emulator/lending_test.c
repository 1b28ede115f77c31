/* Payloads that the session lends to its output instead of copying them. */
#include "protocol/bytes.h"
#include "tests/unit/emulator/session_fixture.h"

enum { OUT = 0x01, IN = 0x81, LARGE = 4096, DEVID = 0x00010001, OUTPUT_SEQNUM = 0x10000 };

static struct fixture fixture;
static struct client client;
static struct recorder *acm; /* the behaviour, where begin() has made none other */
static struct usbip_echo echo;
static struct usbip_source source;
static struct usbip_buffer requests; /* that are to be sent next */
static uint8_t *received;            /* what they were received in */
static size_t received_size;

/* ---- Memory that runs out ---- */

static bool out_of_memory;

/* Declared for the linker, which leads the calls here (--wrap). */
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_realloc(void *memory, size_t size)
{
    return out_of_memory ? NULL : __real_realloc(memory, size);
}

/* ---- The device ---- */

static void begin_with(const struct usbip_function_type *type,
                       const struct usbip_device_options *options,
                       const struct usbip_behaviour *behaviour)
{
    char error_text[256];
    fixture_init(&fixture);
    if (behaviour) {
        struct usbip_device *device = usbip_device_new(options, type, behaviour, &fixture.scheduler,
                                                       &fixture.bus.log, error_text);
        REQUIRE(device != NULL && usbip_bus_add(&fixture.bus, device) == 0);
    } else {
        acm = add_device(&fixture, type, options);
        acm->echoes = true;
    }
    client_open(&fixture, &client);
    client_import(&client);
    client_configure(&client);
}

/* A CDC-ACM device that echoes and writes down its calls. */
static void begin(void)
{
    struct usbip_device_options options = usual_options();
    begin_with(&usbip_function_cdc_acm, &options, NULL);
}

static void end(void)
{
    client_close(&client);
    fixture_free(&fixture);
    usbip_buffer_free(&requests);
}

static void add_fault(const char *text)
{
    struct usbip_fault_options options;
    char error_text[USBIP_FAULT_ERROR_SIZE];
    REQUIRE(usbip_fault_options_parse(&options, text, error_text));
    REQUIRE(usbip_fault_add(&fixture.bus.faults, &options, NULL, NULL, error_text) != NULL);
}

/* ---- Requests ---- */

/* Payloads differ from one another, and their bytes from their neighbours. */
static uint8_t payload_byte(uint32_t seqnum, size_t at)
{
    return (uint8_t)(seqnum * 31 + at + (at >> 8) * 7);
}

static void add_header(const struct usbip_header *header)
{
    uint8_t bytes[USBIP_HEADER_SIZE];
    usbip_encode_header(bytes, header);
    REQUIRE(usbip_buffer_append(&requests, bytes, sizeof bytes) == 0);
}

static void add_in(uint32_t seqnum, uint32_t length)
{
    add_header(&(struct usbip_header){.command = USBIP_CMD_SUBMIT,
                                      .seqnum = seqnum,
                                      .devid = DEVID,
                                      .direction = USBIP_DIR_IN,
                                      .ep = IN & 0x0f,
                                      .cmd_submit.transfer_buffer_length = length});
}

static void add_out(uint32_t seqnum, uint32_t length)
{
    add_header(&(struct usbip_header){.command = USBIP_CMD_SUBMIT,
                                      .seqnum = seqnum,
                                      .devid = DEVID,
                                      .ep = OUT,
                                      .cmd_submit.transfer_buffer_length = length});
    uint8_t *data = usbip_buffer_reserve(&requests, length);
    REQUIRE(data != NULL);
    for (uint32_t i = 0; i < length; i++)
        data[i] = payload_byte(seqnum, i);
    requests.size += length;
}

/* An IN transfer and what is to come back in it. */
static void add_pair(uint32_t seqnum, uint32_t size)
{
    add_in(seqnum, size);
    add_out(seqnum + OUTPUT_SEQNUM, size);
}

static void add_unlink(uint32_t seqnum, uint32_t unlink_seqnum)
{
    add_header(&(struct usbip_header){.command = USBIP_CMD_UNLINK,
                                      .seqnum = seqnum,
                                      .devid = DEVID,
                                      .cmd_unlink.unlink_seqnum = unlink_seqnum});
}

static void add_get_status(uint32_t seqnum)
{
    add_header(&(struct usbip_header){
        .command = USBIP_CMD_SUBMIT,
        .seqnum = seqnum,
        .devid = DEVID,
        .direction = USBIP_DIR_IN,
        .cmd_submit = {.transfer_buffer_length = 2, .setup = {0x80, 0, 0, 0, 0, 0, 2, 0}}});
}

/* ---- Receiving and taking ---- */

/* The first bytes of the requests arrive, and stay where they are until let_go(). */
static int receive_part(size_t size)
{
    REQUIRE(!received && size <= requests.size);
    received = malloc(size ? size : 1);
    REQUIRE(received != NULL);
    memcpy(received, requests.data, size);
    received_size = size;
    requests.size -= size;
    memmove(requests.data, requests.data + size, requests.size);
    return usbip_device_session_receive_in_place(client.session, received, size);
}

static int receive_all(void)
{
    return receive_part(requests.size);
}

/* Afterwards nothing may look at it any more. */
static void let_go(void)
{
    usbip_device_session_settle(client.session);
    CU_ASSERT_FALSE(usbip_device_session_borrows(client.session));
    memset(received, 0xee, received_size);
    free(received);
    received = NULL;
}

/* What leaves at once, as the server sends it. The client looks at it with got_in() and so on. */
static size_t take(const struct usbip_output_piece **pieces)
{
    size_t count, sum = 0;
    size_t size = usbip_device_session_take_pieces(client.session, pieces, &count);
    CU_ASSERT_TRUE(count <= USBIP_OUTPUT_MAX_PIECES);
    client.output = realloc(client.output, client.output_size + size + 1);
    REQUIRE(client.output != NULL);
    for (size_t i = 0; i < count; i++) {
        CU_ASSERT_TRUE((*pieces)[i].size > 0);
        sum += (*pieces)[i].size;
        REQUIRE(sum <= size);
        memcpy(client.output + client.output_size, (*pieces)[i].data, (*pieces)[i].size);
        client.output_size += (*pieces)[i].size;
    }
    CU_ASSERT_EQUAL(sum, size);
    return count;
}

static void take_all(void)
{
    const struct usbip_output_piece *pieces;
    while (take(&pieces) > 0)
        ;
}

static bool is_received(const struct usbip_output_piece *piece)
{
    const struct usbip_range range = {received, received_size};
    return usbip_range_contains(&range, piece->data, piece->size);
}

static bool got_payload(uint32_t seqnum, uint32_t of, uint32_t size)
{
    uint8_t *data = malloc(size ? size : 1);
    REQUIRE(data != NULL);
    for (uint32_t i = 0; i < size; i++)
        data[i] = payload_byte(of, i);
    bool same = got_in_bytes(&client, seqnum, 0, data, size);
    free(data);
    return same;
}

/* What add_pair() brings. */
static bool got_pair(uint32_t seqnum, uint32_t size)
{
    return got_payload(seqnum, seqnum + OUTPUT_SEQNUM, size) &&
           got_out(&client, seqnum + OUTPUT_SEQNUM, 0, size);
}

/* ---- What is lent ---- */

/* Two pairs in one go: headers are copied, payloads stay where they were received. */
static void assert_lent_in_place(void)
{
    const struct usbip_output_piece *pieces;
    add_pair(1, LARGE);
    add_pair(2, LARGE);
    CU_ASSERT_EQUAL(receive_all(), 0);
    CU_ASSERT_TRUE(usbip_device_session_borrows(client.session));
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session),
                    2 * (2 * USBIP_HEADER_SIZE + LARGE));
    CU_ASSERT_EQUAL_FATAL(take(&pieces), 5);
    for (unsigned i = 0; i < 2; i++) {
        const struct usbip_output_piece *lent = &pieces[2 * i + 1];
        size_t pair = 2 * USBIP_HEADER_SIZE + LARGE;
        CU_ASSERT_EQUAL(lent->origin, USBIP_OUTPUT_PASSING);
        CU_ASSERT_EQUAL(lent->size, LARGE);
        CU_ASSERT_PTR_EQUAL(lent->data, received + i * pair + (2 * (size_t)USBIP_HEADER_SIZE));
        CU_ASSERT_EQUAL(pieces[2 * i].origin, USBIP_OUTPUT_COPIED);
    }
    CU_ASSERT_EQUAL(pieces[4].origin, USBIP_OUTPUT_COPIED);
    CU_ASSERT_FALSE(usbip_device_session_borrows(client.session));
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 0);
    let_go();
    CU_ASSERT_TRUE(got_pair(1, LARGE));
    CU_ASSERT_TRUE(got_pair(2, LARGE));
    CU_ASSERT_TRUE(got_nothing(&client));
}

static void test_serial_echo(void)
{
    begin();
    assert_lent_in_place();
    end();
}

static void test_raw_echo(void)
{
    static const uint8_t configuration[] = {
        9, 2, 32,   0, 1,  1,    0, 0x80, 50, /* configuration */
        9, 4, 0,    0, 2,  0xff, 0, 0,    0,  /* interface */
        7, 5, 0x81, 2, 64, 0,    0,           /* bulk IN */
        7, 5, 0x01, 2, 64, 0,    0,           /* bulk OUT */
    };
    struct usbip_device_options options = usual_options();
    options.configuration = configuration;
    options.configuration_size = sizeof configuration;
    begin_with(&usbip_function_raw, &options, &(struct usbip_behaviour){&usbip_echo_ops, &echo});
    assert_lent_in_place();
    end();
}

static void test_small_is_copied(void)
{
    const struct usbip_output_piece *pieces;
    begin();
    add_pair(1, USBIP_OUTPUT_MIN_LOAN - 1);
    receive_all();
    CU_ASSERT_FALSE(usbip_device_session_borrows(client.session));
    CU_ASSERT_EQUAL(take(&pieces), 1);
    let_go();
    add_pair(2, USBIP_OUTPUT_MIN_LOAN);
    receive_all();
    CU_ASSERT_TRUE(usbip_device_session_borrows(client.session));
    CU_ASSERT_EQUAL(take(&pieces), 3);
    let_go();
    CU_ASSERT_TRUE(got_pair(1, USBIP_OUTPUT_MIN_LOAN - 1));
    CU_ASSERT_TRUE(got_pair(2, USBIP_OUTPUT_MIN_LOAN));
    end();
}

/* A client that goes on as it did finds its large PDUs read whole. */
static void test_read_size(void)
{
    enum { PAIR = 2 * USBIP_HEADER_SIZE + LARGE, MOST = 3 * PAIR + 1000 };
    begin();
    CU_ASSERT_EQUAL(usbip_device_session_read_size(client.session, MOST), MOST);
    for (uint32_t i = 1; i <= 3; i++)
        add_pair(i, LARGE);
    receive_part(2 * PAIR);
    let_go();
    CU_ASSERT_EQUAL(usbip_device_session_read_size(client.session, MOST), 3 * PAIR);
    CU_ASSERT_EQUAL(usbip_device_session_read_size(client.session, PAIR), PAIR);
    CU_ASSERT_EQUAL(usbip_device_session_read_size(client.session, PAIR - 1), PAIR - 1);
    receive_part(USBIP_HEADER_SIZE + 100); /* the IN, and some of the OUT */
    let_go();
    CU_ASSERT_EQUAL(usbip_device_session_read_size(client.session, MOST),
                    3 * PAIR - USBIP_HEADER_SIZE - 100);
    receive_all();
    let_go();
    /* Something else for longer than that: nothing is known. */
    for (uint32_t i = 0; i < PAIR / USBIP_HEADER_SIZE + 1; i++)
        add_in(100 + i, 0);
    receive_all();
    let_go();
    CU_ASSERT_EQUAL(usbip_device_session_read_size(client.session, MOST), MOST);
    end();
}

/* A PDU in two parts is put together elsewhere, where it does not stay. */
static void test_in_two_parts(void)
{
    const struct usbip_output_piece *pieces;
    begin();
    add_pair(1, LARGE);
    receive_part(USBIP_HEADER_SIZE + LARGE);
    let_go();
    receive_all();
    CU_ASSERT_FALSE(usbip_device_session_borrows(client.session));
    CU_ASSERT_EQUAL(take(&pieces), 1);
    let_go();
    CU_ASSERT_TRUE(got_pair(1, LARGE));
    end();
}

/* An OUT transfer that had to wait has been copied; what is echoed later is no longer there. */
static void test_out_that_waited(void)
{
    enum { SIZE = USBIP_FIFO_SIZE / 2 };
    begin();
    for (uint32_t i = 1; i <= 3; i++)
        add_out(i, SIZE); /* the third is more than the FIFO takes */
    receive_all();
    let_go();
    for (uint32_t i = 11; i <= 13; i++)
        add_in(i, SIZE);
    receive_all();
    take_all();
    let_go();
    CU_ASSERT_TRUE(got_out(&client, 1, 0, SIZE));
    CU_ASSERT_TRUE(got_out(&client, 2, 0, SIZE));
    CU_ASSERT_TRUE(got_payload(11, 1, SIZE));
    CU_ASSERT_TRUE(got_out(&client, 3, 0, SIZE));
    CU_ASSERT_TRUE(got_payload(12, 2, SIZE));
    CU_ASSERT_TRUE(got_payload(13, 3, SIZE));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* What a behaviour writes at another time may lie in the same memory, and is not lent. */
static void test_written_later(void)
{
    const struct usbip_output_piece *pieces;
    begin();
    add_pair(1, LARGE);
    add_in(2, LARGE);
    receive_all();
    take_all();
    CU_ASSERT_EQUAL(usbip_device_write(acm->device, 1, received, LARGE), LARGE);
    CU_ASSERT_FALSE(usbip_device_session_borrows(client.session));
    CU_ASSERT_EQUAL(take(&pieces), 1);
    let_go();
    end();
}

/* ---- Settling ---- */

/* A client that reads slowly: what was lent is copied before the next data comes. */
static void test_settle(void)
{
    begin();
    for (uint32_t i = 1; i <= 4; i++) {
        add_pair(i, LARGE * i);
        receive_all();
        CU_ASSERT_TRUE(usbip_device_session_borrows(client.session));
        let_go();
    }
    take_all();
    for (uint32_t i = 1; i <= 4; i++)
        CU_ASSERT_TRUE(got_pair(i, LARGE * i));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* These two do it by themselves. */
static void test_plain_receive_and_take(void)
{
    const uint8_t *data;
    begin();
    add_pair(1, LARGE);
    CU_ASSERT_EQUAL(client_send_bytes(&client, requests.data, requests.size), 0); /* frees them */
    requests.size = 0;
    CU_ASSERT_FALSE(usbip_device_session_borrows(client.session));
    CU_ASSERT_TRUE(got_pair(1, LARGE));
    add_pair(2, LARGE);
    receive_all();
    CU_ASSERT_EQUAL(usbip_device_session_take_output(client.session, &data),
                    2 * USBIP_HEADER_SIZE + LARGE);
    CU_ASSERT_FALSE(usbip_device_session_borrows(client.session));
    let_go();
    CU_ASSERT_EQUAL(data[USBIP_HEADER_SIZE + 5], payload_byte(2 + OUTPUT_SEQNUM, 5));
    end();
}

/* ---- Bytes that last ---- */

static bool got_pattern(uint32_t seqnum, size_t *at, uint32_t size)
{
    uint8_t *data = malloc(size);
    REQUIRE(data != NULL);
    for (uint32_t i = 0; i < size; i++)
        data[i] = (uint8_t)((*at + i) % USBIP_SOURCE_PERIOD);
    *at += size;
    bool same = got_in_bytes(&client, seqnum, 0, data, size);
    free(data);
    return same;
}

static void begin_source(void)
{
    struct usbip_device_options options = usual_options();
    begin_with(&usbip_function_cdc_acm, &options,
               &(struct usbip_behaviour){&usbip_source_ops, &source});
    CU_ASSERT_TRUE(control_out(&client, "21 22 0300 0000 0000", "", 0)); /* opens the port */
}

/* Nobody has to wait for it to be sent. */
static void test_source(void)
{
    const struct usbip_output_piece *pieces;
    size_t at = 0;
    uint32_t seqnum = 0;
    begin_source();
    while (at < USBIP_FIFO_SIZE) { /* what was made ready when the port was opened */
        seqnum++;
        submit_in(&client, seqnum, IN, LARGE, NULL);
        CU_ASSERT_TRUE_FATAL(got_pattern(seqnum, &at, LARGE));
    }
    add_in(1, LARGE);
    add_in(2, USBIP_OUTPUT_MIN_LOAN - 1);
    add_in(3, LARGE);
    receive_all();
    CU_ASSERT_FALSE(usbip_device_session_borrows(client.session));
    let_go();
    CU_ASSERT_EQUAL_FATAL(take(&pieces), 4);
    CU_ASSERT_EQUAL(pieces[1].origin, USBIP_OUTPUT_LASTING);
    CU_ASSERT_EQUAL(pieces[1].size, LARGE);
    CU_ASSERT_EQUAL(pieces[2].origin, USBIP_OUTPUT_COPIED);
    CU_ASSERT_EQUAL(pieces[3].origin, USBIP_OUTPUT_LASTING);
    CU_ASSERT_TRUE(got_pattern(1, &at, LARGE));
    CU_ASSERT_TRUE(got_pattern(2, &at, USBIP_OUTPUT_MIN_LOAN - 1));
    CU_ASSERT_TRUE(got_pattern(3, &at, LARGE));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* As many as there may be, and more when they have been taken. */
static void test_full_output(void)
{
    enum { COUNT = 1500 };
    const struct usbip_output_piece *pieces;
    size_t at = 0, size = 0;
    begin_source();
    submit_in(&client, 1, IN, 2 * USBIP_FIFO_SIZE, NULL); /* what is ready */
    take(&pieces);
    at = usbip_load_be32(client.output + 24);
    client.output_size = 0;
    for (uint32_t i = 1; i <= COUNT; i++)
        add_in(i, USBIP_OUTPUT_MIN_LOAN);
    receive_all();
    CU_ASSERT_FALSE(usbip_device_session_wants_input(client.session));
    size = usbip_device_session_output_size(client.session);
    CU_ASSERT_TRUE(size >= USBIP_SESSION_OUTPUT_LIMIT &&
                   size < USBIP_SESSION_OUTPUT_LIMIT + USBIP_HEADER_SIZE + USBIP_OUTPUT_MIN_LOAN);
    let_go();
    CU_ASSERT_EQUAL(take(&pieces),
                    2 * (size / (USBIP_HEADER_SIZE + (size_t)USBIP_OUTPUT_MIN_LOAN)));
    take_all();
    for (uint32_t i = 1; i <= COUNT; i++)
        CU_ASSERT_TRUE_FATAL(got_pattern(i, &at, USBIP_OUTPUT_MIN_LOAN));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* ---- Faults ---- */

static void test_fault_before(void)
{
    const struct usbip_output_piece *pieces;
    begin();
    add_fault("duplicate");
    add_pair(1, LARGE);
    receive_all();
    CU_ASSERT_FALSE(usbip_device_session_borrows(client.session));
    CU_ASSERT_EQUAL(take(&pieces), 1);
    CU_ASSERT_FALSE(is_received(&pieces[0]));
    let_go();
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT_TRUE(got_payload(1, 1 + OUTPUT_SEQNUM, LARGE));
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT_TRUE(got_out(&client, 1 + OUTPUT_SEQNUM, 0, LARGE));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static void duplicate_from_now_on(struct recorder *recorder, const char *word)
{
    (void)word;
    recorder->then = NULL;
    add_fault("duplicate");
}

/* Between two replies, one of them lent: the fault changes only what comes after it. */
static void test_fault_in_between(void)
{
    begin();
    acm->then = duplicate_from_now_on; /* in the middle of the first OUT transfer */
    add_pair(1, LARGE);
    add_pair(2, LARGE);
    receive_all();
    CU_ASSERT_FALSE(usbip_device_session_borrows(client.session));
    let_go();
    take_all();
    CU_ASSERT_TRUE(got_payload(1, 1 + OUTPUT_SEQNUM, LARGE));
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT_TRUE(got_out(&client, 1 + OUTPUT_SEQNUM, 0, LARGE));
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT_TRUE(got_payload(2, 2 + OUTPUT_SEQNUM, LARGE));
    for (unsigned i = 0; i < 2; i++)
        CU_ASSERT_TRUE(got_out(&client, 2 + OUTPUT_SEQNUM, 0, LARGE));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* It lets out a piece at a time: the rest must not be taken from where it was lent. */
static void test_fault_after(void)
{
    const struct usbip_output_piece *pieces;
    begin();
    add_pair(1, LARGE);
    add_pair(2, LARGE);
    receive_all();
    add_fault("fragment:size=1000");
    CU_ASSERT_EQUAL(take(&pieces), 1);
    CU_ASSERT_EQUAL(pieces[0].size, 1000);
    let_go();
    usbip_fault_remove(&fixture.bus.faults, 1);
    take_all();
    CU_ASSERT_TRUE(got_pair(1, LARGE));
    CU_ASSERT_TRUE(got_pair(2, LARGE));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* The connection ends within what was lent. */
static void test_fault_cut(void)
{
    const struct usbip_output_piece *pieces;
    begin();
    add_pair(1, LARGE);
    receive_all();
    add_fault("close:after=100");
    CU_ASSERT_EQUAL(take(&pieces), 1);
    CU_ASSERT_EQUAL(pieces[0].size, 100);
    CU_ASSERT_TRUE(client_is_over(&client));
    let_go();
    CU_ASSERT_EQUAL(pieces[0].data[99], payload_byte(1 + OUTPUT_SEQNUM, 99 - USBIP_HEADER_SIZE));
    CU_ASSERT_EQUAL(usbip_device_session_output_size(client.session), 0);
    CU_ASSERT_EQUAL(take(&pieces), 0);
    end();
}

/* ---- Ends ---- */

static void unplug(struct recorder *recorder, const char *word)
{
    (void)word;
    recorder->then = NULL;
    usbip_device_unplug(recorder->device);
}

/* What was answered before is still sent. */
static void test_unplug(void)
{
    for (unsigned settles_first = 0; settles_first < 2; settles_first++) {
        begin();
        acm->then = unplug;
        add_pair(1, LARGE);
        add_pair(2, LARGE);
        CU_ASSERT_EQUAL(receive_all(), -1);
        if (settles_first)
            let_go();
        take_all();
        if (!settles_first)
            let_go();
        CU_ASSERT_TRUE(got_payload(1, 1 + OUTPUT_SEQNUM, LARGE));
        CU_ASSERT_TRUE(got_nothing(&client));
        end();
    }
}

/* ... also what comes before a request that ends the connection. */
static void test_bad_request(void)
{
    begin();
    add_pair(1, LARGE);
    add_header(&(struct usbip_header){.command = 77});
    CU_ASSERT_EQUAL(receive_all(), -1);
    let_go();
    take_all();
    CU_ASSERT_TRUE(got_pair(1, LARGE));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

static void run_out_of_memory(struct recorder *recorder, const char *word)
{
    duplicate_from_now_on(recorder, word);
    out_of_memory = true;
}

/* What was lent and cannot be copied is not sent. */
static void test_out_of_memory(void)
{
    const struct usbip_output_piece *pieces;
    begin();
    add_pair(1, LARGE);
    receive_all();
    out_of_memory = true;
    let_go();
    out_of_memory = false;
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_EQUAL(take(&pieces), 0);
    end();

    begin();
    add_pair(1, LARGE);
    receive_all();
    add_fault("fragment:size=1000");
    out_of_memory = true;
    CU_ASSERT_EQUAL(usbip_device_session_take_pieces(client.session, &pieces, &(size_t){0}), 0);
    out_of_memory = false;
    let_go();
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_EQUAL(take(&pieces), 0);
    end();

    /* Within a reply: nothing of it is sent either. */
    begin();
    acm->then = run_out_of_memory;
    add_pair(1, LARGE);
    add_pair(2, LARGE);
    CU_ASSERT_EQUAL(receive_all(), -1);
    out_of_memory = false;
    let_go();
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_EQUAL(take(&pieces), 0);
    end();
}

/* A header is not sent without its payload. */
static void test_no_memory_to_lend(void)
{
    begin();
    add_pair(1, 1); /* both outputs have some memory then */
    receive_all();
    take_all();
    let_go();
    add_pair(2, LARGE);
    out_of_memory = true;
    CU_ASSERT_EQUAL(receive_all(), -1);
    out_of_memory = false;
    let_go();
    CU_ASSERT_TRUE(client_is_over(&client));
    CU_ASSERT_TRUE(got_pair(1, 1));
    CU_ASSERT_TRUE(got_nothing(&client));
    end();
}

/* ---- Order ---- */

static uint32_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % limit;
}

static void add_anything(void)
{
    for (uint32_t i = 1; i <= 80; i++) {
        uint32_t size = random_below(2) ? random_below(100) : random_below(9000);
        switch (random_below(6)) {
        case 0:
            add_get_status(i);
            break;
        case 1:
            add_unlink(i, 1 + random_below(i));
            break;
        case 2:
            add_out(i, size);
            break;
        default:
            add_in(i, size);
            break;
        }
    }
}

/* The same requests, received as they come or all of them copied, and all the output. */
static void run(const struct usbip_personality *personality, uint32_t seed, bool in_place,
                struct usbip_buffer *all, unsigned *lent)
{
    const struct usbip_output_piece *pieces;
    struct usbip_device_options options = usual_options();
    options.personality = personality;
    begin_with(&usbip_function_cdc_acm, &options,
               &(struct usbip_behaviour){&usbip_echo_ops, &echo});
    random_state = seed;
    add_anything();
    while (requests.size > 0) {
        uint32_t size = 1 + random_below(30000), when = random_below(3);
        if (size > requests.size)
            size = (uint32_t)requests.size;
        if (!in_place) {
            client_send_bytes(&client, requests.data, size);
            requests.size -= size;
            memmove(requests.data, requests.data + size, requests.size);
            continue;
        }
        receive_part(size);
        *lent += usbip_device_session_borrows(client.session);
        if (when > 0)
            take(&pieces);
        let_go();
        if (when > 1)
            take(&pieces);
    }
    take_all();
    REQUIRE(usbip_buffer_append(all, client.output, client.output_size) == 0);
    end();
}

static void test_order(void)
{
    const struct usbip_personality *const personalities[] = {&usbip_personality_strict,
                                                             usbip_find_personality("linux"),
                                                             usbip_find_personality("usbipd-win")};
    unsigned lent = 0, withheld = 0;
    for (uint32_t seed = 1; seed <= 300; seed++) {
        struct usbip_buffer copied = {0}, in_place = {0};
        const struct usbip_personality *personality = personalities[seed % 3];
        REQUIRE(personality != NULL);
        withheld += personality->withholds_missed_unlinks;
        run(personality, seed, false, &copied, &lent);
        run(personality, seed, true, &in_place, &lent);
        CU_ASSERT_EQUAL_FATAL(copied.size, in_place.size);
        if (memcmp(copied.data, in_place.data, copied.size) != 0) {
            fprintf(stderr, "seed %u\n", seed);
            CU_FAIL_FATAL("another output");
        }
        usbip_buffer_free(&copied);
        usbip_buffer_free(&in_place);
    }
    CU_ASSERT_TRUE(lent > 100); /* or little was tested */
    CU_ASSERT_TRUE(withheld > 0);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a serial echo", test_serial_echo},
        {"a raw echo", test_raw_echo},
        {"small payloads are copied", test_small_is_copied},
        {"how much to read", test_read_size},
        {"a PDU in two parts", test_in_two_parts},
        {"an OUT transfer that waited", test_out_that_waited},
        {"written later", test_written_later},
        {"settling", test_settle},
        {"plain receive and take", test_plain_receive_and_take},
        {"a source", test_source},
        {"full output", test_full_output},
        {"a fault before", test_fault_before},
        {"a fault in between", test_fault_in_between},
        {"a fault after", test_fault_after},
        {"a fault that cuts", test_fault_cut},
        {"unplug", test_unplug},
        {"a bad request", test_bad_request},
        {"out of memory", test_out_of_memory},
        {"no memory to lend", test_no_memory_to_lend},
        {"order", test_order},
        CU_TEST_INFO_NULL,
    };
    return run_tests("lending", tests);
}
