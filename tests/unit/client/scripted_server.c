#include "tests/unit/client/scripted_server.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const uint8_t cdc_configuration[] = {
    9, 2, 67,   0, 2,    1,    0,  0xc0, 50, 9,  4, 0,    0,    1,  2, 2,  1,
    0, 5, 0x24, 0, 0x10, 0x01, 5,  0x24, 1,  0,  1, 4,    0x24, 2,  6, 5,  0x24,
    6, 0, 1,    7, 5,    0x83, 3,  8,    0,  16, 9, 4,    1,    0,  2, 10, 0,
    0, 0, 7,    5, 0x82, 2,    64, 0,    0,  7,  5, 0x01, 2,    64, 0, 0,
};
static const uint8_t ftdi_configuration[] = {
    9,    2, 32, 0, 1,    1, 0,  0xa0, 45, 9, 4, 0,    0, 2,  0xff, 0xff,
    0xff, 2, 7,  5, 0x81, 2, 64, 0,    0,  7, 5, 0x02, 2, 64, 0,    0,
};

/* ---- The journal ---- */

static void note(struct scripted_server *server, const char *line)
{
    if (server->line_count < SCRIPTED_MAX_LINES)
        snprintf(server->journal[server->line_count++], SCRIPTED_LINE_SIZE, "%s", line);
    if (server->hook)
        server->hook(server, line);
    pthread_cond_broadcast(&server->changed);
}

unsigned scripted_count(const struct scripted_server *server, const char *prefix)
{
    unsigned count = 0;

    for (unsigned i = 0; i < server->line_count; i++)
        count += strncmp(server->journal[i], prefix, strlen(prefix)) == 0;
    return count;
}

int scripted_find(const struct scripted_server *server, const char *prefix, int from)
{
    for (unsigned i = (unsigned)from; i < server->line_count; i++) {
        if (strncmp(server->journal[i], prefix, strlen(prefix)) == 0)
            return (int)i;
    }
    return -1;
}

bool scripted_wait(struct scripted_server *server, const char *prefix, unsigned count)
{
    struct timespec end;
    bool found;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 10;
    scripted_lock(server);
    while (!(found = scripted_count(server, prefix) >= count) &&
           pthread_cond_timedwait(&server->changed, &server->mutex, &end) == 0)
        ;
    scripted_unlock(server);
    return found;
}

void scripted_lock(struct scripted_server *server)
{
    pthread_mutex_lock(&server->mutex);
}

void scripted_unlock(struct scripted_server *server)
{
    pthread_mutex_unlock(&server->mutex);
}

/* ---- Sending ---- */

static void send_bytes(struct scripted_server *server, const void *data, size_t size)
{
    const uint8_t *bytes = data;

    while (size > 0) {
        ssize_t sent = send(server->socket, bytes, size, MSG_NOSIGNAL);

        if (sent <= 0)
            return; /* the client has gone, which the reader notices */
        bytes += sent;
        size -= (size_t)sent;
    }
}

static void send_ret(struct scripted_server *server, uint32_t seqnum, int32_t status,
                     uint32_t actual_length, const void *data, size_t size)
{
    uint8_t bytes[USBIP_HEADER_SIZE + 65536];
    const struct usbip_header header = {
        .command = USBIP_RET_SUBMIT,
        .seqnum = seqnum,
        .ret_submit = {.status = status, .actual_length = actual_length},
    };

    usbip_encode_header(bytes, &header);
    if (size > 0)
        memcpy(bytes + USBIP_HEADER_SIZE, data, size);
    send_bytes(server, bytes, USBIP_HEADER_SIZE + size);
}

static int find_pending(const struct scripted_server *server, bool (*fits)(uint8_t endpoint))
{
    for (unsigned i = 0; i < server->pending_count; i++) {
        if (fits(server->pending[i].endpoint))
            return (int)i;
    }
    return -1;
}

static struct scripted_pending take_pending(struct scripted_server *server, int index)
{
    struct scripted_pending pending = server->pending[index];

    server->pending_count--;
    memmove(&server->pending[index], &server->pending[index + 1],
            (server->pending_count - (unsigned)index) * sizeof(pending));
    return pending;
}

static bool is_bulk_in(uint8_t endpoint)
{
    return endpoint == 0x81 || endpoint == 0x82;
}

static bool is_out(uint8_t endpoint)
{
    return (endpoint & USB_DIR_IN) == 0;
}

static bool is_interrupt_in(uint8_t endpoint)
{
    return endpoint == 0x83;
}

static void deliver(struct scripted_server *server)
{
    int index;

    while (server->packet_count > 0 && (index = find_pending(server, is_bulk_in)) >= 0) {
        struct scripted_pending in = take_pending(server, index);
        size_t size = server->packets[0].size;

        send_ret(server, in.seqnum, 0, (uint32_t)size, server->packets[0].bytes, size);
        server->packet_count--;
        memmove(&server->packets[0], &server->packets[1],
                server->packet_count * sizeof(server->packets[0]));
    }
}

void scripted_send(struct scripted_server *server, const void *data, size_t size)
{
    struct scripted_packet *packet = &server->packets[server->packet_count++];

    memcpy(packet->bytes, data, size);
    packet->size = size;
    deliver(server);
}

void scripted_notify(struct scripted_server *server, const void *data, size_t size)
{
    int index = find_pending(server, is_interrupt_in);

    if (index >= 0)
        send_ret(server, take_pending(server, index).seqnum, 0, (uint32_t)size, data, size);
}

void scripted_end_out(struct scripted_server *server)
{
    int index;

    while ((index = find_pending(server, is_out)) >= 0) {
        struct scripted_pending out = take_pending(server, index);

        send_ret(server, out.seqnum, 0, out.length, NULL, 0);
    }
}

static struct scripted_pending take_bulk_in(struct scripted_server *server, unsigned index)
{
    int found = -1;

    for (unsigned i = 0; i < server->pending_count && found < 0; i++) {
        if (is_bulk_in(server->pending[i].endpoint) && index-- == 0)
            found = (int)i;
    }
    return take_pending(server, found);
}

void scripted_end_in(struct scripted_server *server, const struct scripted_end *ends,
                     unsigned count)
{
    static uint8_t bytes[1 << 16];
    size_t size = 0;

    for (unsigned i = 0; i < count; i++) {
        unsigned index = ends[i].index;
        struct usbip_header header = {.command = USBIP_RET_SUBMIT};

        for (unsigned j = 0; j < i; j++)
            index -= ends[j].index < ends[i].index; /* it is not pending any more */
        header.seqnum = take_bulk_in(server, index).seqnum;
        header.ret_submit.actual_length = (uint32_t)ends[i].size;
        if (size + USBIP_HEADER_SIZE + ends[i].size > sizeof(bytes))
            abort();
        usbip_encode_header(bytes + size, &header);
        memcpy(bytes + size + USBIP_HEADER_SIZE, ends[i].data, ends[i].size);
        size += USBIP_HEADER_SIZE + ends[i].size;
    }
    send_bytes(server, bytes, size);
}

void scripted_fill_in(struct scripted_server *server)
{
    static const uint8_t bytes[1 << 16];
    int index;

    while ((index = find_pending(server, is_bulk_in)) >= 0) {
        struct scripted_pending in = take_pending(server, index);

        send_ret(server, in.seqnum, 0, in.length, bytes, in.length);
    }
}

void scripted_disconnect(struct scripted_server *server)
{
    if (server->socket >= 0)
        shutdown(server->socket, SHUT_RDWR);
}

void scripted_die(struct scripted_server *server)
{
    shutdown(server->listener, SHUT_RDWR); /* before the client knows that it has to try again */
    scripted_disconnect(server);
}

/* ---- The OP phase ---- */

static void make_record(const struct scripted_server *server, const struct scripted_device *device,
                        uint8_t out[USBIP_DEVICE_RECORD_SIZE])
{
    struct usbip_device_record record = {
        .busnum = 1,
        .devnum = 2,
        .speed = USBIP_SPEED_FULL,
        .idVendor = device->idVendor,
        .idProduct = device->idProduct,
        .bcdDevice = server->bcdDevice,
        .bNumConfigurations = 1,
    };

    snprintf(record.busid, sizeof(record.busid), "%s", device->busid);
    usbip_encode_device_record(out, &record);
}

static void send_op(struct scripted_server *server, uint16_t code, uint32_t status)
{
    const struct usbip_op_common common = {USBIP_VERSION, code, status};
    uint8_t bytes[USBIP_OP_COMMON_SIZE];

    usbip_encode_op_common(bytes, &common);
    send_bytes(server, bytes, sizeof(bytes));
}

static void answer_list(struct scripted_server *server)
{
    uint8_t count[4] = {0};
    uint8_t record[USBIP_DEVICE_RECORD_SIZE];

    for (unsigned i = 0; i < server->device_count; i++)
        count[3] = (uint8_t)(count[3] + !server->devices[i].hidden);
    send_op(server, OP_REP_DEVLIST, USBIP_ST_OK);
    send_bytes(server, count, sizeof(count));
    for (unsigned i = 0; i < server->device_count; i++) {
        if (server->devices[i].hidden)
            continue;
        make_record(server, &server->devices[i], record);
        send_bytes(server, record, sizeof(record));
    }
    note(server, "list");
}

static void answer_import(struct scripted_server *server, const char *busid)
{
    char line[SCRIPTED_LINE_SIZE];
    uint32_t status = USBIP_ST_NODEV;

    for (unsigned i = 0; i < server->device_count; i++) {
        const struct scripted_device *device = &server->devices[i];
        uint8_t record[USBIP_DEVICE_RECORD_SIZE];

        if (strcmp(device->busid, busid) != 0)
            continue;
        status = device->import_status;
        if (status != USBIP_ST_OK)
            break;
        server->imported = device;
        send_op(server, OP_REP_IMPORT, status);
        make_record(server, device, record);
        send_bytes(server, record, sizeof(record));
    }
    if (status != USBIP_ST_OK)
        send_op(server, OP_REP_IMPORT, status);
    snprintf(line, sizeof(line), "import %s", busid);
    note(server, line);
}

/* ---- The URB phase ---- */

static size_t make_descriptor(const struct scripted_server *server, uint8_t type, uint8_t index,
                              uint8_t out[USB_DT_STRING_MAX_SIZE])
{
    static const char *const strings[] = {"", "Example", "Scripted device"};
    const struct usbip_device_descriptor device = {
        .bcdUSB = 0x0200,
        .bMaxPacketSize0 = 64,
        .idVendor = server->imported->idVendor,
        .idProduct = server->imported->idProduct,
        .bcdDevice = server->bcdDevice,
        .iManufacturer = 1,
        .iProduct = 2,
        .iSerialNumber = 3,
        .bNumConfigurations = 1,
    };

    switch (type) {
    case USB_DT_DEVICE:
        usbip_encode_device_descriptor(out, &device);
        return USB_DT_DEVICE_SIZE;
    case USB_DT_CONFIG:
        memcpy(out, server->configuration, server->configuration_size);
        return server->configuration_size;
    case USB_DT_STRING:
        if (server->stall_strings || index > 3)
            return 0;
        if (index == 0) {
            memcpy(out, (const uint8_t[]){4, 3, 0x09, 0x04}, 4);
            return 4;
        }
        return (size_t)usbip_encode_string_descriptor(
            out, index == 3 ? server->imported->serial_number : strings[index]);
    }
    return 0;
}

static void answer_control(struct scripted_server *server, const struct usbip_header *header,
                           const uint8_t *data, size_t size)
{
    uint8_t reply[USB_DT_STRING_MAX_SIZE] = {0};
    const uint8_t *raw = header->cmd_submit.setup;
    char line[SCRIPTED_LINE_SIZE];
    struct usbip_setup setup;
    int length = 0;

    usbip_decode_setup(raw, &setup);
    for (int i = 0; i < USBIP_SETUP_SIZE; i++)
        length += snprintf(line + length, sizeof(line) - (size_t)length,
                           i ? " %02x" : "control %02x", raw[i]);
    for (size_t i = 0; i < size; i++)
        length += snprintf(line + length, sizeof(line) - (size_t)length, i ? " %02x" : " | %02x",
                           data[i]);

    if ((setup.bmRequestType & USB_TYPE_MASK) != USB_TYPE_STANDARD) {
        bool stalls = server->stall_request != 0 && server->stall_request == setup.bRequest;
        int32_t status = stalls ? -USBIP_EPIPE : 0;

        if (server->broken_requests > 0) {
            server->broken_requests--;
            status = -USBIP_EPROTO;
        }
        send_ret(server, header->seqnum, status, status == 0 ? (uint32_t)size : 0, NULL, 0);
    } else if (setup.bRequest == USB_REQ_GET_DESCRIPTOR) {
        size_t found =
            make_descriptor(server, (uint8_t)(setup.wValue >> 8), (uint8_t)setup.wValue, reply);

        if (found > setup.wLength)
            found = setup.wLength;
        send_ret(server, header->seqnum, found > 0 ? 0 : -USBIP_EPIPE, (uint32_t)found, reply,
                 found);
    } else {
        size_t found = setup.bmRequestType & USB_DIR_IN ? setup.wLength : 0;

        if (setup.bRequest == USB_REQ_CLEAR_FEATURE && is_out((uint8_t)setup.wIndex))
            server->out_halted = false;
        send_ret(server, header->seqnum, 0, (uint32_t)found, reply, found);
    }
    note(server, line);
}

static struct scripted_answer take_answer(struct scripted_answer *answers, unsigned *count)
{
    struct scripted_answer answer = answers[0];

    --*count;
    memmove(&answers[0], &answers[1], *count * sizeof(answers[0]));
    return answer;
}

static void add_pending(struct scripted_server *server, const struct usbip_header *header,
                        uint8_t endpoint)
{
    server->pending[server->pending_count++] = (struct scripted_pending){
        .seqnum = header->seqnum,
        .endpoint = endpoint,
        .length = header->cmd_submit.transfer_buffer_length,
    };
}

static void answer_in(struct scripted_server *server, const struct usbip_header *header)
{
    uint32_t length = header->cmd_submit.transfer_buffer_length;
    uint8_t endpoint = (uint8_t)(header->ep | USB_DIR_IN);
    char line[SCRIPTED_LINE_SIZE];

    if (is_bulk_in(endpoint) && server->in_answer_count > 0) {
        struct scripted_answer answer = take_answer(server->in_answers, &server->in_answer_count);

        send_ret(server, header->seqnum, answer.status, 0, NULL, 0);
    } else if (is_bulk_in(endpoint) && server->empty_in) {
        send_ret(server, header->seqnum, 0, 0, NULL, 0);
    } else if (is_bulk_in(endpoint) && server->pattern_left > 0) {
        static uint8_t bytes[1 << 16];
        size_t size = server->pattern_left < length ? server->pattern_left : length;

        if (size > sizeof(bytes))
            size = sizeof(bytes);

        for (size_t i = 0; i < size; i++)
            bytes[i] = server->pattern_next++;
        server->pattern_left -= size;
        send_ret(server, header->seqnum, 0, (uint32_t)size, bytes, size);
    } else {
        add_pending(server, header, endpoint);
        deliver(server);
    }
    snprintf(line, sizeof(line), "in %02x %u", endpoint, (unsigned)length);
    note(server, line);
}

static void keep_written(struct scripted_server *server, const uint8_t *data, size_t size)
{
    if (server->written_size + size <= SCRIPTED_MAX_WRITTEN) {
        memcpy(server->written + server->written_size, data, size);
        server->written_size += size;
    }
}

/* Nothing while the endpoint is halted, and what it takes of the transfer that halts it. */
static struct scripted_answer halt_or_take(struct scripted_server *server, size_t size)
{
    if (server->out_halted)
        return (struct scripted_answer){-USBIP_EPIPE, 0};
    if (server->halt_every == 0 || ++server->out_taken < server->halt_every)
        return (struct scripted_answer){0, (uint32_t)size};
    server->out_taken = 0;
    server->out_halted = true;
    return (struct scripted_answer){-USBIP_EPIPE, (uint32_t)size / 128 * 64};
}

static void answer_out(struct scripted_server *server, const struct usbip_header *header,
                       const uint8_t *data, size_t size)
{
    struct scripted_answer answer = halt_or_take(server, size);
    char line[SCRIPTED_LINE_SIZE];

    if (server->out_answer_count > 0)
        answer = take_answer(server->out_answers, &server->out_answer_count);
    if (answer.actual_length > size)
        answer.actual_length = (uint32_t)size;
    keep_written(server, data, answer.actual_length);
    if (server->holds_out) {
        add_pending(server, header, (uint8_t)header->ep);
    } else if (!server->answers_early) {
        send_ret(server, header->seqnum, answer.status, answer.actual_length, NULL, 0);
    }
    snprintf(line, sizeof(line), "out %02x %zu", (unsigned)header->ep, size);
    note(server, line);
}

static void answer_unlink(struct scripted_server *server, const struct usbip_header *request)
{
    uint8_t bytes[USBIP_HEADER_SIZE];
    char line[SCRIPTED_LINE_SIZE] = "unlink too late";
    struct usbip_header header = {.command = USBIP_RET_UNLINK, .seqnum = request->seqnum};

    for (unsigned i = 0; i < server->pending_count; i++) {
        if (server->pending[i].seqnum != request->cmd_unlink.unlink_seqnum)
            continue;
        snprintf(line, sizeof(line), "unlink %02x", server->pending[i].endpoint);
        take_pending(server, (int)i);
        header.ret_unlink.status = -USBIP_ECONNRESET;
        break;
    }
    usbip_encode_header(bytes, &header);
    send_bytes(server, bytes, sizeof(bytes));
    note(server, line);
}

/* ---- The thread ---- */

static bool receive(const struct scripted_server *server, void *data, size_t size)
{
    return size == 0 || recv(server->socket, data, size, MSG_WAITALL) == (ssize_t)size;
}

static void serve_urbs(struct scripted_server *server)
{
    static uint8_t data[1 << 16];
    uint8_t bytes[USBIP_HEADER_SIZE];
    struct usbip_header header;

    while (receive(server, bytes, sizeof(bytes))) {
        size_t size = 0;

        if (usbip_decode_header(bytes, &header) < 0)
            break;
        if (header.command == USBIP_CMD_SUBMIT && header.direction == USBIP_DIR_OUT)
            size = header.cmd_submit.transfer_buffer_length;
        scripted_lock(server);
        if (size > 0 && header.ep != 0 && server->answers_early)
            send_ret(server, header.seqnum, 0, (uint32_t)size, NULL, 0);
        scripted_unlock(server);
        if (size > sizeof(data) || !receive(server, data, size))
            break;
        scripted_lock(server);
        if (server->answers_nothing)
            note(server, "unanswered");
        else if (header.command == USBIP_CMD_UNLINK)
            answer_unlink(server, &header);
        else if (header.ep == 0)
            answer_control(server, &header, data, size);
        else if (header.direction == USBIP_DIR_IN)
            answer_in(server, &header);
        else
            answer_out(server, &header, data, size);
        scripted_unlock(server);
    }
}

static void serve(struct scripted_server *server)
{
    uint8_t bytes[USBIP_OP_COMMON_SIZE + USBIP_BUSID_SIZE];
    struct usbip_op_common common;
    char busid[USBIP_BUSID_SIZE + 1];

    if (!receive(server, bytes, USBIP_OP_COMMON_SIZE))
        return;
    usbip_decode_op_common(bytes, &common);
    if (common.code == OP_REQ_DEVLIST) {
        scripted_lock(server);
        answer_list(server);
        scripted_unlock(server);
    } else if (common.code == OP_REQ_IMPORT && receive(server, bytes, USBIP_BUSID_SIZE)) {
        usbip_decode_busid(bytes, busid);
        scripted_lock(server);
        server->imported = NULL;
        answer_import(server, busid);
        scripted_unlock(server);
        if (server->imported)
            serve_urbs(server);
    }
}

static void *run(void *context)
{
    struct scripted_server *server = context;

    for (;;) {
        int fd = accept(server->listener, NULL, NULL);

        scripted_lock(server);
        if (fd < 0 || server->stopping) {
            scripted_unlock(server);
            if (fd >= 0)
                close(fd);
            return NULL;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        server->socket = fd;
        server->connections++;
        server->pending_count = 0;
        note(server, "connection");
        scripted_unlock(server);
        serve(server);
        scripted_lock(server);
        server->socket = -1;
        note(server, "end");
        scripted_unlock(server);
        close(fd);
    }
}

/* ---- Life ---- */

static void require(bool condition, const char *what)
{
    if (!condition) {
        perror(what);
        exit(2);
    }
}

static struct scripted_server *new_server(const uint8_t *configuration, size_t size,
                                          uint16_t bcdDevice, uint16_t idVendor, uint16_t idProduct)
{
    struct scripted_server *server = calloc(1, sizeof(*server));

    require(server != NULL, "calloc");
    server->configuration = configuration;
    server->configuration_size = size;
    server->bcdDevice = bcdDevice;
    server->devices[0] = (struct scripted_device){
        .busid = "1-1", .idVendor = idVendor, .idProduct = idProduct, .serial_number = "A1"};
    server->device_count = 1;
    server->socket = -1;
    return server;
}

struct scripted_server *scripted_server_new(void)
{
    return new_server(cdc_configuration, sizeof(cdc_configuration), 0x0100, 0x1209, 0x0001);
}

struct scripted_server *scripted_server_new_ftdi(void)
{
    return new_server(ftdi_configuration, sizeof(ftdi_configuration), 0x0600, 0x0403, 0x6001);
}

/* port 0: any that is free */
static void listen_at(struct scripted_server *server, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof(address);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    require(server->listener >= 0, "socket");
    setsockopt(server->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    require(bind(server->listener, (struct sockaddr *)&address, size) == 0, "bind");
    require(listen(server->listener, 16) == 0, "listen");
    require(getsockname(server->listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
    server->port = ntohs(address.sin_port);
    require(pthread_create(&server->thread, NULL, run, server) == 0, "pthread_create");
}

void scripted_server_start(struct scripted_server *server)
{
    pthread_mutex_init(&server->mutex, NULL);
    pthread_cond_init(&server->changed, NULL);
    listen_at(server, 0);
    snprintf(server->address, sizeof(server->address), "127.0.0.1:%u", (unsigned)server->port);
}

void scripted_server_restart(struct scripted_server *server)
{
    pthread_join(server->thread, NULL);
    close(server->listener);
    listen_at(server, server->port);
}

void scripted_server_stop(struct scripted_server *server)
{
    scripted_lock(server);
    server->stopping = true;
    scripted_disconnect(server);
    shutdown(server->listener, SHUT_RDWR); /* wakes accept() */
    scripted_unlock(server);
    pthread_join(server->thread, NULL);
    close(server->listener);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mutex);
    free(server);
}
