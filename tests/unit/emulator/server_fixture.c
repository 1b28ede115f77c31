#include "tests/unit/emulator/server_fixture.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/testing.h"

uv_loop_t loop;
struct usbip_scheduler scheduler;
struct usbip_bus bus;
struct usbip_echo echoes[DEVICES];
struct usbip_behaviour others[DEVICES];
struct usbip_server *server;
char bound[USBIP_SERVER_ADDRESS_SIZE], error_text[USBIP_SERVER_ERROR_SIZE];
int port;
uint64_t seed = 1;
int buffer_size;
bool without_io_uring;

atomic_uint loop_turns;

static uv_async_t stop_request, call_request;
static uv_prepare_t turn_counter;
static pthread_t thread;
static void (*called)(void);
static sem_t call_returned;

void take_server_arguments(int argc, char **argv)
{
    without_io_uring = argc > 1 && strcmp(argv[1], "--no-io-uring") == 0;
}

/* ---- The server's side ---- */

static void add_devices(void)
{
    const struct usbip_device_options options = {
        .descriptor = {.bcdUSB = 0x0200,
                       .bMaxPacketSize0 = 64,
                       .idVendor = 0x1209,
                       .idProduct = 1,
                       .bNumConfigurations = 1},
        .speed = USBIP_SPEED_FULL,
    };
    for (int i = 0; i < DEVICES; i++) {
        struct usbip_behaviour behaviour = {&usbip_echo_ops, &echoes[i]};
        if (others[i].ops)
            behaviour = others[i];
        char text[256];
        struct usbip_device *device = usbip_device_new(&options, &usbip_function_cdc_acm,
                                                       &behaviour, &scheduler, &bus.log, text);
        CU_ASSERT_PTR_NOT_NULL_FATAL(device);
        CU_ASSERT_EQUAL_FATAL(usbip_bus_add(&bus, device), 0);
    }
}

static void on_stop(uv_async_t *handle)
{
    if (server)
        usbip_server_close(server);
    uv_close((uv_handle_t *)handle, NULL);
    uv_close((uv_handle_t *)&call_request, NULL);
    uv_close((uv_handle_t *)&turn_counter, NULL);
}

static void on_call(uv_async_t *handle)
{
    (void)handle;
    called();
    sem_post(&call_returned);
}

static void on_turn(uv_prepare_t *handle)
{
    (void)handle;
    loop_turns++;
}

void make_server(bool virtual_time)
{
    scheduler = (struct usbip_scheduler){0};
    usbip_faults_init(&bus.faults, &scheduler, seed);
    CU_ASSERT_EQUAL_FATAL(uv_loop_init(&loop), 0);
    add_devices();
    server = usbip_server_new(&loop,
                              &(struct usbip_server_options){.bus = &bus,
                                                             .scheduler = &scheduler,
                                                             .virtual_time = virtual_time,
                                                             .without_io_uring = without_io_uring});
    CU_ASSERT_PTR_NOT_NULL_FATAL(server);
}

void free_server(void)
{
    CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
    usbip_bus_free(&bus);
    usbip_scheduler_free(&scheduler);
}

static void *run_loop(void *unused)
{
    (void)unused;
    uv_run(&loop, UV_RUN_DEFAULT);
    return NULL;
}

/* Connections inherit it from the listener. */
static void set_send_buffer_size(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (uv_handle_get_type(handle) == UV_TCP)
        CU_ASSERT_EQUAL_FATAL(uv_send_buffer_size(handle, &buffer_size), 0);
}

void listen_on(const char *address)
{
    port = usbip_server_listen(server, address, bound, error_text);
    CU_ASSERT_FATAL(port > 0);
    if (buffer_size > 0)
        uv_walk(&loop, set_send_buffer_size, NULL);
    uv_async_init(&loop, &stop_request, on_stop);
    uv_async_init(&loop, &call_request, on_call);
    sem_init(&call_returned, 0, 0);
    uv_prepare_init(&loop, &turn_counter);
    uv_prepare_start(&turn_counter, on_turn);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, run_loop, NULL), 0);
}

void start_server_on(const char *address)
{
    make_server(false);
    listen_on(address);
}

void start_server(void)
{
    start_server_on("127.0.0.1:0");
}

void stop_server(void)
{
    uv_async_send(&stop_request);
    pthread_join(thread, NULL);
    free_server();
}

void start_server_with(bool virtual_time, const char *const faults[])
{
    make_server(virtual_time);
    for (; *faults; faults++) {
        struct usbip_fault_options options;
        char text[USBIP_FAULT_ERROR_SIZE];
        CU_ASSERT_TRUE_FATAL(usbip_fault_options_parse(&options, *faults, text));
        CU_ASSERT_PTR_NOT_NULL_FATAL(usbip_fault_add(&bus.faults, &options, NULL, NULL, text));
    }
    listen_on("127.0.0.1:0");
}

void call_in_loop(void (*function)(void))
{
    called = function;
    uv_async_send(&call_request);
    while (sem_wait(&call_returned) < 0)
        continue;
}

static void stop_loop(void)
{
    uv_stop(&loop);
}

void move_loop(void)
{
    call_in_loop(stop_loop);
    pthread_join(thread, NULL);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, run_loop, NULL), 0);
}

/* ---- A client ---- */

int connect_client(void)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_FATAL(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (buffer_size > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_size, sizeof buffer_size);
    CU_ASSERT_EQUAL_FATAL(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void send_all(int fd, const void *data, size_t size)
{
    CU_ASSERT_EQUAL_FATAL(send(fd, data, size, MSG_NOSIGNAL), (ssize_t)size);
}

void receive_all(int fd, void *data, size_t size)
{
    CU_ASSERT_EQUAL_FATAL(recv(fd, data, size, MSG_WAITALL), (ssize_t)size);
}

bool is_closed(int fd)
{
    char byte;
    return recv(fd, &byte, 1, 0) == 0;
}

void request_devlist(int fd)
{
    uint8_t request[USBIP_OP_COMMON_SIZE];
    usbip_encode_op_common(request, &(struct usbip_op_common){USBIP_VERSION, OP_REQ_DEVLIST, 0});
    send_all(fd, request, sizeof request);
}

unsigned receive_devlist(int fd)
{
    uint8_t header[USBIP_DEVLIST_REPLY_HEADER_SIZE];
    receive_all(fd, header, sizeof header);
    unsigned count = header[11];
    for (unsigned i = 0; i < count; i++) {
        uint8_t record[USBIP_DEVICE_RECORD_SIZE + 2 * USBIP_INTERFACE_RECORD_SIZE];
        receive_all(fd, record, sizeof record);
    }
    return count;
}

unsigned listed_devices(void)
{
    int fd = connect_client();
    request_devlist(fd);
    unsigned count = receive_devlist(fd);
    CU_ASSERT_TRUE(is_closed(fd));
    close(fd);
    return count;
}

void make_submit(uint8_t bytes[USBIP_HEADER_SIZE], unsigned device, uint32_t seqnum, uint32_t ep,
                 bool in, uint32_t length)
{
    const struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = seqnum,
        .devid = 1 << 16 | device,
        .direction = in ? USBIP_DIR_IN : USBIP_DIR_OUT,
        .ep = ep,
        .cmd_submit.transfer_buffer_length = length,
    };
    usbip_encode_header(bytes, &header);
}

int try_import(unsigned device)
{
    char busid[8];
    uint8_t bytes[USBIP_IMPORT_REPLY_SIZE];
    struct usbip_op_common reply;
    int fd = connect_client();
    snprintf(busid, sizeof busid, "1-%u", device);
    usbip_encode_import_request(bytes, busid);
    send_all(fd, bytes, USBIP_IMPORT_REQUEST_SIZE);
    receive_all(fd, bytes, USBIP_OP_COMMON_SIZE);
    usbip_decode_op_common(bytes, &reply);
    if (reply.status != 0) {
        CU_ASSERT_EQUAL(reply.status, USBIP_ST_DEV_BUSY);
        close(fd);
        return -1;
    }
    receive_all(fd, bytes, USBIP_DEVICE_RECORD_SIZE);
    make_submit(bytes, device, 1, 0, false, 0);
    usbip_encode_setup(bytes + 40, &(struct usbip_setup){0, USB_REQ_SET_CONFIGURATION, 1, 0, 0});
    send_all(fd, bytes, USBIP_HEADER_SIZE);
    receive_all(fd, bytes, URB_REPLY);
    return fd;
}

int import(unsigned device)
{
    int fd = try_import(device);
    CU_ASSERT_FATAL(fd >= 0);
    return fd;
}

void exchange(int fd, unsigned device, const char *text)
{
    const size_t headers = 2 * (size_t)USBIP_HEADER_SIZE;
    uint8_t bytes[2 * USBIP_HEADER_SIZE + 256];
    struct usbip_header header;
    size_t size = strlen(text);
    REQUIRE(size <= sizeof bytes - headers);
    make_submit(bytes, device, 2, 1, true, 256);
    make_submit(bytes + USBIP_HEADER_SIZE, device, 3, 1, false, (uint32_t)size);
    memcpy(bytes + headers, text, size); /* NOLINT(bugprone-not-null-terminated-result): bytes */
    send_all(fd, bytes, headers + size);
    for (int i = 0; i < 2; i++) {
        receive_all(fd, bytes, URB_REPLY);
        CU_ASSERT_EQUAL_FATAL(usbip_decode_header(bytes, &header), 0);
        CU_ASSERT_EQUAL(header.ret_submit.status, 0);
        CU_ASSERT_EQUAL_FATAL(header.ret_submit.actual_length, size);
        if (header.seqnum == 2) {
            receive_all(fd, bytes, size);
            CU_ASSERT_EQUAL(memcmp(bytes, text, size), 0);
        }
    }
}

int import_when_free(unsigned device)
{
    for (int i = 0; i < 100000; i++) {
        int fd = try_import(device);
        if (fd >= 0)
            return fd;
    }
    CU_FAIL_FATAL("the device stays busy");
    return -1;
}

void reset_client(int fd)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

/* ---- A slow client ---- */

/* Of all that is echoed. Two places look alike seldom, whatever lies between them. */
static uint8_t echoed_byte(size_t at)
{
    return (uint8_t)(at ^ at >> 7 ^ at >> 15);
}

void make_pairs(struct slow_client *client, uint32_t count, bool in_first)
{
    const size_t pair = 2 * USBIP_HEADER_SIZE + PIECE;
    client->output_size = client->input_size = count * pair;
    client->output = malloc(client->output_size);
    client->input = malloc(client->input_size);
    REQUIRE(client->output && client->input);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *in = client->output + i * pair, *out = in + USBIP_HEADER_SIZE;
        if (!in_first) {
            out = in;
            in += USBIP_HEADER_SIZE + PIECE;
        }
        make_submit(in, 1, 2 * i + 3, 1, true, PIECE);
        make_submit(out, 1, 2 * i + 2, 1, false, PIECE);
        for (size_t j = 0; j < PIECE; j++)
            out[USBIP_HEADER_SIZE + j] = echoed_byte((size_t)i * PIECE + j);
    }
}

void send_until_blocked(struct slow_client *client)
{
    struct pollfd poll_fd = {.fd = client->fd, .events = POLLOUT};
    while (client->sent < client->output_size && poll(&poll_fd, 1, 100) > 0) {
        ssize_t size = send(client->fd, client->output + client->sent,
                            client->output_size - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        CU_ASSERT_FATAL(size > 0);
        client->sent += (size_t)size;
    }
}

void finish(struct slow_client *client)
{
    struct pollfd poll_fd = {.fd = client->fd};
    while (client->received < client->input_size) {
        poll_fd.events = POLLIN;
        if (client->sent < client->output_size)
            poll_fd.events |= POLLOUT;
        CU_ASSERT_FATAL(poll(&poll_fd, 1, TIMEOUT_S * 1000) > 0);
        if (poll_fd.revents & POLLIN) {
            ssize_t size = recv(client->fd, client->input + client->received,
                                client->input_size - client->received, MSG_DONTWAIT);
            CU_ASSERT_FATAL(size > 0);
            client->received += (size_t)size;
        }
        if (poll_fd.revents & POLLOUT) {
            ssize_t size = send(client->fd, client->output + client->sent,
                                client->output_size - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            CU_ASSERT_FATAL(size > 0);
            client->sent += (size_t)size;
        }
    }
}

bool is_echo(const struct slow_client *client)
{
    size_t at = 0, bytes = 0;
    while (at < client->input_size) {
        struct usbip_header header;
        if (usbip_decode_header(client->input + at, &header) < 0 || header.ret_submit.status != 0)
            return false;
        at += USBIP_HEADER_SIZE;
        if (header.seqnum % 2 == 0)
            continue;
        for (size_t i = 0; i < header.ret_submit.actual_length; i++, bytes++) {
            if (client->input[at + i] != echoed_byte(bytes))
                return false;
        }
        at += header.ret_submit.actual_length;
    }
    const size_t pair = 2 * USBIP_HEADER_SIZE + PIECE;
    return bytes == client->output_size / pair * PIECE;
}
