#include "tests/throughput/client.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "protocol/bytes.h"
#include "tests/throughput/outbox.h"
#include "tests/throughput/pattern.h"
#include "tests/throughput/resources.h"

enum { READ_SIZE = 256 << 10 };

/* Offsets in a header. */
enum { COMMAND_AT = 0, SEQNUM_AT = 4, STATUS_AT = 20, ACTUAL_LENGTH_AT = 24 };

/* A place for a URB: the remainder of its seqnum by the number of slots says which one. */
struct slot {
    uint32_t seqnum;
    bool in_flight, in;
    uint64_t sent_ns;
};

struct connection {
    struct attachment attachment;
    struct outbox outbox;
    uint8_t in_header[USBIP_HEADER_SIZE], out_header[USBIP_HEADER_SIZE]; /* all but the seqnum */

    struct slot *slots;
    uint32_t slot_count; /* a power of two */
    unsigned in_flight;

    uint64_t sent, received; /* bytes of the streams */

    /* Echo: which slots are free for OUT URBs, and when each piece of load->size bytes left. */
    uint32_t *free_slots;
    unsigned free_count;
    uint64_t *piece_sent_ns; /* by the number of the piece, modulo the depth */
    uint64_t pieces_sent, pieces_back;

    /* The PDU that is arriving. */
    uint8_t header[USBIP_HEADER_SIZE]; /* its beginning, when it came in parts */
    size_t header_size;
    struct slot *arriving; /* whose payload it is */
    uint32_t payload_size, payload_left;
};

enum phase { WARMING_UP, MEASURING, STOPPING };

struct run {
    const struct load *load;
    const struct peer *peer;
    struct sample *sample;
    char *error_text;
    enum outcome outcome;

    struct connection *connections;
    struct pollfd *polls;
    uint8_t *buffer;

    enum phase phase;
    uint64_t now_ns, begin_ns, end_ns;
    uint64_t urbs, bytes; /* since the phase began */
    double client_cpu_ns, server_cpu_ns;
};

static void fail(struct run *run, enum outcome outcome, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (run->outcome == MEASURED)
        vsnprintf(run->error_text, ERROR_TEXT_SIZE, format, arguments);
    va_end(arguments);
    if (run->outcome == MEASURED)
        run->outcome = outcome;
}

/* ---- Submitting ---- */

static void submit(struct run *run, struct connection *connection, struct slot *slot)
{
    const uint8_t *kind = slot->in ? connection->in_header : connection->out_header;
    uint8_t *header = outbox_header(&connection->outbox, USBIP_HEADER_SIZE);
    slot->seqnum += connection->slot_count;
    slot->in_flight = true;
    slot->sent_ns = run->now_ns;
    connection->in_flight++;
    memcpy(header, kind, USBIP_HEADER_SIZE);
    usbip_store_be32(header + SEQNUM_AT, slot->seqnum);
    if (!slot->in) {
        outbox_payload(&connection->outbox, pattern_at(connection->sent), run->load->size);
        connection->sent += run->load->size;
    }
}

/* Echo: as many pieces as may be on their way. */
static void submit_pieces(struct run *run, struct connection *connection)
{
    unsigned depth = run->load->depth;
    while (run->phase != STOPPING && connection->free_count > 0 &&
           connection->pieces_sent - connection->pieces_back < depth) {
        uint32_t index = connection->free_slots[--connection->free_count];
        connection->piece_sent_ns[connection->pieces_sent++ % depth] = run->now_ns;
        submit(run, connection, &connection->slots[index]);
    }
}

static bool is_done(const struct run *run, const struct connection *connection)
{
    if (run->phase != STOPPING)
        return false;
    if (run->load->test != TEST_ECHO)
        return connection->in_flight == 0;
    /* The IN URBs that wait for more end with the connection. */
    return connection->pieces_back == connection->pieces_sent &&
           connection->free_count == run->load->depth;
}

/* ---- Receiving ---- */

/* Pieces of an echo that have come back wholly. */
static void note_pieces(struct run *run, struct connection *connection)
{
    while (connection->received >= (connection->pieces_back + 1) * run->load->size) {
        uint64_t number = connection->pieces_back++;
        uint64_t sent_ns = connection->piece_sent_ns[number % run->load->depth];
        histogram_record(&run->sample->latency, run->now_ns - sent_ns);
    }
}

static void complete_echo(struct run *run, struct connection *connection, struct slot *slot)
{
    if (slot->in) {
        note_pieces(run, connection);
        if (run->phase != STOPPING || connection->pieces_back < connection->pieces_sent)
            submit(run, connection, slot);
    } else {
        connection->free_slots[connection->free_count++] = (uint32_t)(slot - connection->slots);
    }
    submit_pieces(run, connection);
}

static void complete(struct run *run, struct connection *connection, struct slot *slot)
{
    slot->in_flight = false;
    connection->in_flight--;
    run->urbs++;
    if (run->load->test == TEST_ECHO) {
        complete_echo(run, connection, slot);
        return;
    }
    histogram_record(&run->sample->latency, run->now_ns - slot->sent_ns);
    if (run->phase != STOPPING)
        submit(run, connection, slot);
}

static void check_payload(struct run *run, struct connection *connection, const uint8_t *data,
                          size_t size)
{
    bool control = !test_has_size(run->load->test);
    const uint8_t *expected = pattern_at(connection->received);
    uint64_t at = connection->received;
    if (control) {
        at = connection->payload_size - connection->payload_left;
        expected = connection->attachment.device_descriptor + at;
    } else {
        connection->received += size;
        run->bytes += size;
    }
    if (memcmp(data, expected, size) == 0)
        return;
    size_t i = 0;
    while (data[i] == expected[i])
        i++;
    fail(run, WRONG_BYTES, "byte %llu of the %s is 0x%02x instead of 0x%02x",
         (unsigned long long)(at + i), control ? "descriptor" : "stream", data[i], expected[i]);
}

/* The length that an IN URB asks for, and may get. */
static uint32_t in_length(const struct run *run, const struct connection *connection)
{
    uint32_t packet = connection->attachment.bulk_in_packet, size = run->load->size;
    if (!test_has_size(run->load->test))
        return USB_DT_DEVICE_SIZE;
    return (size + packet - 1) / packet * packet;
}

static void begin_reply(struct run *run, struct connection *connection, const uint8_t *header)
{
    uint32_t command = usbip_load_be32(header + COMMAND_AT);
    uint32_t seqnum = usbip_load_be32(header + SEQNUM_AT);
    int32_t status = (int32_t)usbip_load_be32(header + STATUS_AT);
    uint32_t size = usbip_load_be32(header + ACTUAL_LENGTH_AT);
    struct slot *slot = &connection->slots[seqnum & (connection->slot_count - 1)];
    if (command != USBIP_RET_SUBMIT || !slot->in_flight || slot->seqnum != seqnum) {
        fail(run, WRONG_BYTES, "a PDU with command %u and seqnum %u answers none of the URBs",
             command, seqnum);
        return;
    }
    uint32_t asked = slot->in ? in_length(run, connection) : run->load->size;
    bool may_be_short = run->load->test == TEST_IN || run->load->test == TEST_ECHO;
    if (status != 0) {
        fail(run, WRONG_BYTES, "URB %u (%s of %u bytes) ended with %s (%s)", seqnum,
             slot->in ? "IN" : "OUT", asked, usbip_status_name(status), usbip_status_text(status));
    } else if (size > asked || (size < asked && !(slot->in && may_be_short))) {
        fail(run, WRONG_BYTES, "URB %u moved %u bytes instead of %u", seqnum, size, asked);
    } else if (slot->in && size > 0) {
        connection->arriving = slot;
        connection->payload_size = connection->payload_left = size;
    } else {
        if (!slot->in && run->load->test == TEST_OUT)
            run->bytes += size;
        complete(run, connection, slot);
    }
}

/* Returns how much of the data was taken. */
static size_t take_some(struct run *run, struct connection *connection, const uint8_t *data,
                        size_t size)
{
    if (connection->payload_left > 0) {
        if (size > connection->payload_left)
            size = connection->payload_left;
        check_payload(run, connection, data, size);
        connection->payload_left -= (uint32_t)size;
        if (connection->payload_left == 0)
            complete(run, connection, connection->arriving);
        return size;
    }
    if (connection->header_size == 0 && size >= USBIP_HEADER_SIZE) {
        begin_reply(run, connection, data);
        return USBIP_HEADER_SIZE;
    }
    if (size > USBIP_HEADER_SIZE - connection->header_size)
        size = USBIP_HEADER_SIZE - connection->header_size;
    memcpy(connection->header + connection->header_size, data, size);
    connection->header_size += size;
    if (connection->header_size == USBIP_HEADER_SIZE) {
        connection->header_size = 0;
        begin_reply(run, connection, connection->header);
    }
    return size;
}

/* ---- Phases ---- */

static double server_cpu_ns(const struct run *run)
{
    return run->peer->server_pid != 0 ? cpu_time_ns(run->peer->server_pid) : NAN;
}

static void begin_measuring(struct run *run)
{
    run->phase = MEASURING;
    run->urbs = run->bytes = 0;
    memset(&run->sample->latency, 0, sizeof run->sample->latency);
    run->client_cpu_ns = cpu_time_ns(0);
    run->server_cpu_ns = server_cpu_ns(run);
    run->begin_ns = run->now_ns;
    run->end_ns = run->now_ns + (uint64_t)(run->load->seconds * 1e9);
}

static void end_measuring(struct run *run)
{
    int pid = run->peer->server_pid;
    struct sample *sample = run->sample;
    run->phase = STOPPING;
    sample->seconds = (double)(run->now_ns - run->begin_ns) / 1e9;
    sample->urbs = run->urbs;
    sample->bytes = run->bytes;
    sample->client_cpu_ns = cpu_time_ns(0) - run->client_cpu_ns;
    sample->server_cpu_ns = server_cpu_ns(run) - run->server_cpu_ns;
    sample->client_rss = resident_bytes(0);
    sample->server_rss = pid != 0 ? resident_bytes(pid) : NAN;
}

static void look_at_clock(struct run *run)
{
    run->now_ns = now_ns();
    if (run->now_ns < run->end_ns)
        return;
    if (run->phase == WARMING_UP)
        begin_measuring(run);
    else if (run->phase == MEASURING)
        end_measuring(run);
}

/* ---- The loop ---- */

static void receive(struct run *run, struct connection *connection, int flags)
{
    ssize_t size = recv(connection->attachment.socket, run->buffer, READ_SIZE, flags);
    if (size < 0 && (errno == EINTR || (errno == EAGAIN && flags != 0)))
        return;
    if (size <= 0) {
        fail(run, WRONG_BYTES, "%s, with %u URBs in flight", socket_error(size),
             connection->in_flight);
        return;
    }
    look_at_clock(run);
    const uint8_t *data = run->buffer;
    while (size > 0 && run->outcome == MEASURED) {
        size_t taken = take_some(run, connection, data, (size_t)size);
        data += taken;
        size -= (ssize_t)taken;
    }
}

static void send_output(struct run *run, struct connection *connection)
{
    if (outbox_send(&connection->outbox, connection->attachment.socket, MSG_DONTWAIT) < 0)
        fail(run, WRONG_BYTES, "%s", socket_error(-1));
}

static void wait_for_any(struct run *run)
{
    unsigned count = run->load->connections;
    for (unsigned i = 0; i < count; i++) {
        const struct connection *connection = &run->connections[i];
        run->polls[i] = (struct pollfd){
            .fd = is_done(run, connection) ? -1 : connection->attachment.socket,
            .events = (short)(outbox_is_empty(&connection->outbox) ? POLLIN : POLLIN | POLLOUT),
        };
    }
    int ready = poll(run->polls, count, REPLY_TIMEOUT_MS);
    if (ready == 0)
        fail(run, WRONG_BYTES, "the server owes replies and is silent");
    for (unsigned i = 0; i < count && ready > 0 && run->outcome == MEASURED; i++) {
        if (run->polls[i].revents & ~POLLOUT)
            receive(run, &run->connections[i], MSG_DONTWAIT);
        if (run->polls[i].revents)
            send_output(run, &run->connections[i]);
    }
}

static bool all_done(const struct run *run)
{
    for (unsigned i = 0; i < run->load->connections; i++) {
        if (!is_done(run, &run->connections[i]))
            return false;
    }
    return true;
}

static void drive(struct run *run)
{
    struct connection *first = &run->connections[0];
    while (run->outcome == MEASURED && (run->phase != STOPPING || !all_done(run))) {
        /* One connection needs no call to know what is ready. */
        if (run->load->connections == 1 && outbox_is_empty(&first->outbox)) {
            receive(run, first, 0);
            send_output(run, first);
        } else {
            wait_for_any(run);
        }
    }
}

/* ---- Set-up ---- */

static void prepare_headers(struct run *run, struct connection *connection)
{
    const struct attachment *attachment = &connection->attachment;
    bool control = !test_has_size(run->load->test);
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .devid = attachment->devid,
        .direction = USBIP_DIR_IN,
        .ep = control ? 0 : attachment->bulk_in,
        .cmd_submit.transfer_buffer_length = in_length(run, connection),
    };
    if (control)
        usbip_encode_setup(header.cmd_submit.setup,
                           &(struct usbip_setup){USB_DIR_IN, USB_REQ_GET_DESCRIPTOR,
                                                 USB_DT_DEVICE << 8, 0, USB_DT_DEVICE_SIZE});
    usbip_encode_header(connection->in_header, &header);
    header.direction = USBIP_DIR_OUT;
    header.ep = attachment->bulk_out;
    header.cmd_submit.transfer_buffer_length = run->load->size;
    usbip_encode_header(connection->out_header, &header);
}

static bool allocate(const struct load *load, struct connection *connection)
{
    unsigned urbs = load->test == TEST_ECHO ? 2 * load->depth : load->depth;
    connection->slot_count = 1;
    while (connection->slot_count < urbs)
        connection->slot_count *= 2;
    connection->slots = calloc(connection->slot_count, sizeof *connection->slots);
    connection->free_slots = calloc(load->depth, sizeof *connection->free_slots);
    connection->piece_sent_ns = calloc(load->depth, sizeof *connection->piece_sent_ns);
    bool has_room = outbox_init(&connection->outbox, urbs, load->size);
    return connection->slots && connection->free_slots && connection->piece_sent_ns && has_room;
}

static bool open_connection(struct run *run, struct connection *connection, const char *busid)
{
    const struct load *load = run->load;
    struct attachment *attachment = &connection->attachment;
    if (!allocate(load, connection)) {
        fail(run, NO_RUN, "out of memory");
        return false;
    }
    if (attach(attachment, run->peer->address, busid, run->error_text) < 0) {
        run->outcome = NO_RUN;
        return false;
    }
    if ((load->test == TEST_OUT || load->test == TEST_ECHO) && !attachment->bulk_out)
        fail(run, NO_RUN, "device %s has no bulk OUT endpoint", busid);
    if ((load->test == TEST_IN || load->test == TEST_ECHO) && !attachment->bulk_in)
        fail(run, NO_RUN, "device %s has no bulk IN endpoint", busid);
    prepare_headers(run, connection);
    for (uint32_t i = 0; i < connection->slot_count; i++)
        connection->slots[i].seqnum =
            attachment->seqnum / connection->slot_count * connection->slot_count + i;
    return run->outcome == MEASURED;
}

static void start(struct run *run, struct connection *connection)
{
    const struct load *load = run->load;
    for (unsigned i = 0; i < load->depth; i++) {
        struct slot *slot = &connection->slots[i];
        slot->in = load->test != TEST_OUT;
        submit(run, connection, slot);
        if (load->test == TEST_ECHO)
            connection->free_slots[connection->free_count++] = load->depth + i;
    }
    if (load->test == TEST_ECHO)
        submit_pieces(run, connection);
    send_output(run, connection);
}

static void close_connection(struct connection *connection)
{
    detach(&connection->attachment);
    outbox_free(&connection->outbox);
    free(connection->slots);
    free(connection->free_slots);
    free(connection->piece_sent_ns);
}

double warm_up_seconds(const struct load *load)
{
    const double longest = 0.2;
    return load->seconds / 10 < longest ? load->seconds / 10 : longest;
}

enum outcome client_run(const struct load *load, const struct peer *peer, struct sample *sample,
                        char error_text[ERROR_TEXT_SIZE])
{
    struct run run = {.load = load, .peer = peer, .sample = sample, .error_text = error_text};
    unsigned opened = 0;
    memset(sample, 0, sizeof *sample);
    run.connections = calloc(load->connections, sizeof *run.connections);
    run.polls = calloc(load->connections, sizeof *run.polls);
    run.buffer = malloc(READ_SIZE);
    if (!run.connections || !run.polls || !run.buffer)
        fail(&run, NO_RUN, "out of memory");
    for (unsigned i = 0; i < load->connections && run.outcome == MEASURED; i++) {
        run.connections[i].attachment.socket = -1;
        open_connection(&run, &run.connections[i], peer->busids[i]);
        opened++;
    }
    run.now_ns = now_ns();
    run.end_ns = run.now_ns + (uint64_t)(warm_up_seconds(load) * 1e9);
    for (unsigned i = 0; i < opened && run.outcome == MEASURED; i++)
        start(&run, &run.connections[i]);
    drive(&run);
    for (unsigned i = 0; i < opened; i++)
        close_connection(&run.connections[i]);
    free(run.connections);
    free(run.polls);
    free(run.buffer);
    return run.outcome;
}
