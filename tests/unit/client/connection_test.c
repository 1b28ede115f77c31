/*
 * The connection and the device list, against a server of a few lines that runs a script of steps
 * in a thread of its own, on a free port of the loopback.
 */
#define _POSIX_C_SOURCE 200809L /* sockets and threads */

#include "client/connection.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/bytes.h"
#include "tests/support/testing.h"

enum {
    PATIENCE_MS = 20000, /* only a broken test waits for so long */
    MAX_STEPS = 64,
    SCRIPT_SIZE = 16384,
    BULK_SIZE = 16384,
};

/* ---- The scripted server ---- */

enum step_kind {
    STEP_END,
    STEP_RECEIVE,       /* so many bytes */
    STEP_SEND,          /* so many of the script's bytes */
    STEP_SEND_TRICKLED, /* the same, one segment per byte */
    STEP_RESET,         /* RST instead of FIN */
    STEP_WAIT_FOR_TEST, /* until the test posts `go_on` */
    STEP_WAIT_FOR_END,  /* until the client closes */
};

struct step {
    enum step_kind kind;
    size_t size;
};

static struct {
    int listener;
    char address[64]; /* as usbip_connection_start() takes it */
    struct step steps[MAX_STEPS];
    unsigned step_count;
    uint8_t bytes[SCRIPT_SIZE]; /* all that the steps send */
    size_t size;
    pthread_t thread;
    bool running;
    sem_t go_on;

    /* Of the last STEP_RECEIVE; to be read after the thread has ended. */
    uint8_t received[SCRIPT_SIZE];
    uint64_t received_size; /* of all together */
} server;

static void receive_step(int fd, size_t size)
{
    for (size_t have = 0; have < size;) {
        uint8_t piece[SCRIPT_SIZE];
        size_t wanted = size - have < sizeof piece ? size - have : sizeof piece;
        ssize_t count = recv(fd, piece, wanted, 0);
        if (count <= 0)
            return;
        memcpy(server.received, piece, (size_t)count);
        have += (size_t)count;
        server.received_size += (size_t)count;
    }
}

static void *run_script(void *unused)
{
    (void)unused;
    int fd = accept(server.listener, NULL, NULL);
    if (fd == -1)
        return NULL;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const uint8_t *bytes = server.bytes;
    for (unsigned i = 0; i < server.step_count; i++) {
        const struct step *step = &server.steps[i];
        switch (step->kind) {
        case STEP_RECEIVE:
            receive_step(fd, step->size);
            break;
        case STEP_SEND:
            send(fd, bytes, step->size, MSG_NOSIGNAL);
            bytes += step->size;
            break;
        case STEP_SEND_TRICKLED:
            for (size_t j = 0; j < step->size; j++)
                send(fd, bytes++, 1, MSG_NOSIGNAL);
            break;
        case STEP_RESET: {
            struct linger at_once = {.l_onoff = 1};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            break;
        }
        case STEP_WAIT_FOR_TEST:
            sem_wait(&server.go_on);
            break;
        case STEP_WAIT_FOR_END: {
            uint8_t byte;
            while (recv(fd, &byte, 1, 0) > 0) {
            }
            break;
        }
        case STEP_END:
            break;
        }
    }
    close(fd);
    return NULL;
}

/* Binds to a free port of 127.0.0.1 or ::1 and forgets the former script. */
static bool bind_server(bool ipv6)
{
    memset(&server, 0, sizeof server);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr *address = ipv6 ? (struct sockaddr *)&six : (struct sockaddr *)&four;
    socklen_t size = ipv6 ? sizeof six : sizeof four;
    server.listener = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
    if (server.listener == -1 || bind(server.listener, address, size) == -1 ||
        getsockname(server.listener, address, &size) == -1)
        return false;
    if (ipv6) {
        snprintf(server.address, sizeof server.address, "[::1]:%u", (unsigned)ntohs(six.sin6_port));
    } else {
        snprintf(server.address, sizeof server.address, "127.0.0.1:%u",
                 (unsigned)ntohs(four.sin_port));
    }
    return true;
}

static void add_step(enum step_kind kind, size_t size)
{
    CU_ASSERT_FATAL(server.step_count < MAX_STEPS);
    server.steps[server.step_count++] = (struct step){.kind = kind, .size = size};
}

static void add_send(enum step_kind kind, const void *bytes, size_t size)
{
    CU_ASSERT_FATAL(server.size + size <= sizeof server.bytes);
    memcpy(server.bytes + server.size, bytes, size);
    server.size += size;
    add_step(kind, size);
}

static void run_server(void)
{
    CU_ASSERT_FATAL(sem_init(&server.go_on, 0, 0) == 0);
    CU_ASSERT_FATAL(listen(server.listener, 1) == 0);
    CU_ASSERT_FATAL(pthread_create(&server.thread, NULL, run_script, NULL) == 0);
    server.running = true;
}

static void join_server(void)
{
    if (server.running) {
        pthread_join(server.thread, NULL);
        sem_destroy(&server.go_on);
        server.running = false;
    }
}

static void stop_server(void)
{
    join_server();
    close(server.listener);
}

/* ---- What it says ---- */

static struct usbip_device_record a_record(const char *busid)
{
    struct usbip_device_record record = {
        .busnum = 1, .devnum = 2, .speed = USBIP_SPEED_FULL, .idVendor = 0x0403};
    snprintf(record.busid, sizeof record.busid, "%s", busid);
    return record;
}

static void add_import_reply(size_t size)
{
    uint8_t reply[USBIP_IMPORT_REPLY_SIZE];
    struct usbip_device_record record = a_record("1-1");
    usbip_encode_op_common(
        reply, &(struct usbip_op_common){.version = USBIP_VERSION, .code = OP_REP_IMPORT});
    usbip_encode_device_record(reply + USBIP_OP_COMMON_SIZE, &record);
    add_step(STEP_RECEIVE, USBIP_IMPORT_REQUEST_SIZE);
    add_send(STEP_SEND, reply, size);
}

static void add_reply(uint32_t command, uint32_t seqnum, int32_t status, uint32_t actual_length)
{
    uint8_t pdu[USBIP_HEADER_SIZE];
    struct usbip_header header = {.command = command, .seqnum = seqnum};
    if (command == USBIP_RET_SUBMIT) {
        header.ret_submit.status = status;
        header.ret_submit.actual_length = actual_length;
    } else {
        header.ret_unlink.status = status;
    }
    usbip_encode_header(pdu, &header);
    add_send(STEP_SEND, pdu, sizeof pdu);
}

static size_t devlist_of_three(uint8_t *bytes)
{
    size_t size = USBIP_DEVLIST_REPLY_HEADER_SIZE;
    usbip_encode_op_common(
        bytes, &(struct usbip_op_common){.version = USBIP_VERSION, .code = OP_REP_DEVLIST});
    usbip_store_be32(bytes + USBIP_OP_COMMON_SIZE, 3);
    static const char *const busids[] = {"1-1", "1-2", "3-1.4"};
    for (unsigned i = 0; i < 3; i++) {
        struct usbip_device_record record = a_record(busids[i]);
        record.bNumInterfaces = (uint8_t)i;
        usbip_encode_device_record(bytes + size, &record);
        size += USBIP_DEVICE_RECORD_SIZE;
        for (unsigned j = 0; j < i; j++) {
            usbip_encode_interface_record(bytes + size, &(struct usbip_interface_record){
                                                            .bInterfaceClass = (uint8_t)(j + 10)});
            size += USBIP_INTERFACE_RECORD_SIZE;
        }
    }
    return size;
}

/* ---- The client ---- */

static struct {
    struct usbip_connection *connection;
    struct usbip_host_session *session;
    char error_text[USBIP_ERROR_TEXT_SIZE];
    unsigned imports;
    unsigned refusals;
    unsigned done;
} client;

static void on_imported(void *context, const struct usbip_device_record *record)
{
    (void)context;
    CU_ASSERT_STRING_EQUAL(record->busid, "1-1");
    client.imports++;
}

static void on_refused(void *context, uint32_t status)
{
    (void)context;
    CU_ASSERT_EQUAL(status, USBIP_ST_DEV_BUSY);
    client.refusals++;
}

static void on_done(struct usbip_transfer *transfer)
{
    (void)transfer;
    client.done++;
}

static int connect_within(const char *address, uint32_t timeout_ms)
{
    static const struct usbip_host_session_events events = {.imported = on_imported,
                                                            .refused = on_refused};
    memset(&client, 0, sizeof client);
    client.session = usbip_host_session_new(&events, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(client.session);
    CU_ASSERT_EQUAL(usbip_host_session_request_import(client.session, "1-1"), 0);
    return usbip_connection_start(&client.connection, address, client.session, timeout_ms,
                                  client.error_text);
}

static int connect_to(const char *address)
{
    return connect_within(address, PATIENCE_MS);
}

/* Runs the connection until the counter is that high, or it ends. Returns 0 or its error. */
static int run_until(const unsigned *counter, unsigned value)
{
    uint64_t give_up_ms = usbip_now_ms() + PATIENCE_MS;
    int error = 0;
    while (error == 0 && *counter < value) {
        CU_ASSERT_FATAL(usbip_now_ms() < give_up_ms);
        error = usbip_connection_wait(client.connection, give_up_ms);
    }
    return error;
}

static int run_to_the_end(void)
{
    static const unsigned never = 0;
    return run_until(&never, 1);
}

static void import_device(void)
{
    CU_ASSERT_EQUAL_FATAL(connect_to(server.address), 0);
    CU_ASSERT_EQUAL_FATAL(run_until(&client.imports, 1), 0);
    CU_ASSERT_STRING_EQUAL(usbip_connection_error_text(client.connection), "");
}

static void disconnect(void)
{
    usbip_connection_free(client.connection);
    stop_server();
}

static bool says(const char *text, const char *words)
{
    bool as_expected = strstr(text, words) != NULL;
    if (!as_expected)
        fprintf(stderr, "expected \"%s\" in: %s\n", words, text);
    return as_expected;
}

static bool connection_says(const char *words)
{
    return says(usbip_connection_error_text(client.connection), words);
}

static struct usbip_transfer a_transfer(uint8_t endpoint, uint8_t *buffer, uint32_t length)
{
    return (struct usbip_transfer){.endpoint = endpoint,
                                   .type = USB_ENDPOINT_XFER_BULK,
                                   .buffer = buffer,
                                   .length = length,
                                   .done = on_done};
}

static void submit(struct usbip_transfer *transfer)
{
    CU_ASSERT_EQUAL_FATAL(usbip_host_session_submit(client.session, transfer, usbip_now_ms()), 0);
}

/* ---- Names ---- */

static void test_malformed_addresses(void)
{
    const char *const addresses[] = {"",       ":3240", "host:",  "host:0", "host:65536", "host:-1",
                                     "[::1]x", "[::1",  "[::1]:", "[]:1",   "host:12a"};
    for (unsigned i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        CU_ASSERT_EQUAL(connect_to(addresses[i]), USBIP_ERROR_ARGUMENT);
        CU_ASSERT_PTR_NULL(client.connection);
        CU_ASSERT(says(client.error_text, "names no server"));
        CU_ASSERT_EQUAL(usbip_connection_check_host(addresses[i]), USBIP_ERROR_ARGUMENT);
    }
    CU_ASSERT_EQUAL(usbip_connection_check_host("name.invalid"), 0);
    CU_ASSERT_EQUAL(usbip_connection_check_host("[::1]:65535"), 0);
    usbip_connection_free(NULL);
}

static void test_unknown_host(void)
{
    /* No label of a name may have more than 63 characters: nobody needs to be asked about it. */
    char address[80];
    memset(address, 'x', 64);
    strcpy(address + 64, ":1234");
    CU_ASSERT_EQUAL(connect_to(address), USBIP_ERROR_RESOLVE);
    CU_ASSERT_PTR_NULL(client.connection);
    CU_ASSERT(says(client.error_text, address));
    CU_ASSERT(says(client.error_text, "cannot find the host"));
}

/* ---- Connecting ---- */

static void test_C017_refused(void)
{
    CU_ASSERT_FATAL(bind_server(false)); /* and nobody listens */
    int error = connect_to(server.address);
    if (error == 0) {
        error = run_to_the_end();
        CU_ASSERT(connection_says(server.address));
        CU_ASSERT(connection_says("is a USB/IP server running there?"));
        CU_ASSERT(!connection_says("not complete")); /* nothing was asked for yet */
        CU_ASSERT_EQUAL(usbip_connection_fd(client.connection), -1);
        CU_ASSERT_EQUAL(usbip_connection_events(client.connection), 0);
        CU_ASSERT_EQUAL(usbip_connection_process(client.connection), USBIP_ERROR_CONNECT);
    }
    CU_ASSERT_EQUAL(error, USBIP_ERROR_CONNECT);
    disconnect();
}

static void test_C017_ipv6(void)
{
    if (!bind_server(true)) {
        puts("no ::1 on this system: not tested");
        return;
    }
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_step(STEP_WAIT_FOR_END, 0);
    run_server();
    import_device();
    disconnect();
}

/*
 * The linker puts this in place of getaddrinfo(), for a host with two addresses: nobody listens on
 * the first. Other names are looked up as ever.
 */
int __real_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **result);
int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **result);

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **result)
{
    if (strcmp(host, "two-addresses") != 0)
        return __real_getaddrinfo(host, service, hints, result);
    int error = __real_getaddrinfo("127.0.0.2", service, hints, result);
    return error != 0 ? error
                      : __real_getaddrinfo("127.0.0.1", service, hints, &(*result)->ai_next);
}

static void test_C017_all_addresses_are_tried(void)
{
    CU_ASSERT_FATAL(bind_server(false));
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_step(STEP_WAIT_FOR_END, 0);
    run_server();
    char address[64];
    snprintf(address, sizeof address, "two-addresses%s", strrchr(server.address, ':'));
    CU_ASSERT_EQUAL_FATAL(connect_to(address), 0);
    CU_ASSERT_EQUAL(run_until(&client.imports, 1), 0);
    disconnect();
}

enum { FILLERS = 8 };

/* Connections that nobody accepts fill the listener's queue: the next one gets no answer. */
static void fill_queue(int fillers[FILLERS])
{
    CU_ASSERT_FATAL(bind_server(false));
    CU_ASSERT_FATAL(listen(server.listener, 0) == 0);
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    CU_ASSERT_FATAL(getsockname(server.listener, (struct sockaddr *)&address, &size) == 0);
    for (unsigned i = 0; i < FILLERS; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM, 0);
        CU_ASSERT_FATAL(fillers[i] != -1 && fcntl(fillers[i], F_SETFL, O_NONBLOCK) == 0);
        connect(fillers[i], (struct sockaddr *)&address, size);
    }
}

static void close_fillers(const int fillers[FILLERS])
{
    for (unsigned i = 0; i < FILLERS; i++)
        close(fillers[i]);
}

static void test_C017_no_answer(void)
{
    int fillers[FILLERS];
    fill_queue(fillers);
    uint64_t before_ms = usbip_now_ms();
    CU_ASSERT_EQUAL_FATAL(connect_within(server.address, 50), 0);
    CU_ASSERT_EQUAL(usbip_connection_events(client.connection), USBIP_EVENT_WRITE);
    CU_ASSERT(usbip_connection_deadline_ms(client.connection) >= before_ms + 50);
    CU_ASSERT_EQUAL(run_to_the_end(), USBIP_ERROR_CONNECT);
    CU_ASSERT(usbip_now_ms() >= before_ms + 50);
    CU_ASSERT(connection_says("no answer within 50 ms"));
    close_fillers(fillers);
    disconnect();
}

static void test_owner_gives_up_connecting(void)
{
    int fillers[FILLERS];
    fill_queue(fillers);
    CU_ASSERT_EQUAL_FATAL(connect_to(server.address), 0);
    CU_ASSERT_EQUAL(usbip_connection_process(client.connection), 0);
    CU_ASSERT_EQUAL(usbip_connection_events(client.connection), USBIP_EVENT_WRITE);
    usbip_host_session_fail(client.session, USBIP_ERROR_TIMEOUT, "no more time");
    CU_ASSERT_EQUAL(usbip_connection_process(client.connection), USBIP_ERROR_TIMEOUT);
    CU_ASSERT_EQUAL(usbip_connection_fd(client.connection), -1);
    close_fillers(fillers);
    disconnect();
}

static int option_of(int level, int option)
{
    int value = -1;
    socklen_t size = sizeof value;
    getsockopt(usbip_connection_fd(client.connection), level, option, &value, &size);
    return value;
}

static void test_C059_dead_peers_are_noticed(void)
{
    CU_ASSERT_FATAL(bind_server(false));
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_step(STEP_WAIT_FOR_END, 0);
    run_server();
    import_device();
    CU_ASSERT_EQUAL(option_of(IPPROTO_TCP, TCP_NODELAY), 1);
    CU_ASSERT_EQUAL(option_of(SOL_SOCKET, SO_KEEPALIVE), 1);
    CU_ASSERT_EQUAL(option_of(IPPROTO_TCP, TCP_KEEPIDLE), 10);
    CU_ASSERT_EQUAL(option_of(IPPROTO_TCP, TCP_KEEPINTVL), 1);
    CU_ASSERT_EQUAL(option_of(IPPROTO_TCP, TCP_KEEPCNT), 5);
    CU_ASSERT_EQUAL(option_of(IPPROTO_TCP, TCP_USER_TIMEOUT), 20000);
    disconnect();
}

#ifdef TCP_CONGESTION
static bool system_has_reno(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool has = setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno")) == 0;
    close(fd);
    return has;
}

/* Of a connection to that host, on whose loopback a server is bound. */
static void expect_reno(const char *host)
{
    char address[64], name[16] = "";
    socklen_t size = sizeof name - 1;
    snprintf(address, sizeof address, "%s%s", host, strrchr(server.address, ':'));
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_step(STEP_WAIT_FOR_END, 0);
    run_server();
    CU_ASSERT_EQUAL_FATAL(connect_to(address), 0);
    CU_ASSERT_EQUAL_FATAL(run_until(&client.imports, 1), 0);
    CU_ASSERT_EQUAL(getsockopt(usbip_connection_fd(client.connection), IPPROTO_TCP, TCP_CONGESTION,
                               name, &size),
                    0);
    CU_ASSERT_STRING_EQUAL(name, "reno");
    disconnect();
}

static void test_loopback_is_not_paced(void)
{
    if (!system_has_reno()) {
        puts("no reno on this system, or not for us: not tested");
        return;
    }
    CU_ASSERT_FATAL(bind_server(false));
    expect_reno("127.0.0.1");
    if (!bind_server(true)) {
        puts("no ::1 on this system: not tested");
        return;
    }
    expect_reno("[::1]");
    CU_ASSERT_FATAL(bind_server(false));
    expect_reno("[::ffff:127.0.0.1]");
}
#endif

/* ---- Waiting ---- */

enum { CALLS = 100, AT_ONCE_MS = 2000 }; /* a hundredth of a second for each is no waiting */

static void expect_no_waiting(void)
{
    uint64_t before_ms = usbip_now_ms();
    for (unsigned i = 0; i < CALLS; i++)
        CU_ASSERT_EQUAL(usbip_connection_process(client.connection), 0);
    CU_ASSERT(usbip_now_ms() - before_ms < AT_ONCE_MS);
    before_ms = usbip_now_ms();
    for (unsigned i = 0; i < CALLS; i++)
        CU_ASSERT_EQUAL(usbip_connection_wait(client.connection, i % 2 ? before_ms : 0), 0);
    CU_ASSERT(usbip_now_ms() - before_ms < AT_ONCE_MS);
}

static void test_processing_does_not_wait(void)
{
    int fillers[FILLERS];
    fill_queue(fillers);
    CU_ASSERT_EQUAL_FATAL(connect_to(server.address), 0);
    expect_no_waiting();
    CU_ASSERT_EQUAL(usbip_connection_events(client.connection), USBIP_EVENT_WRITE);
    close_fillers(fillers);
    disconnect();

    CU_ASSERT_FATAL(bind_server(false));
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_step(STEP_WAIT_FOR_END, 0);
    run_server();
    import_device();
    expect_no_waiting();
    uint8_t buffer[64];
    struct usbip_transfer transfer = a_transfer(0x81, buffer, sizeof buffer);
    submit(&transfer);
    expect_no_waiting();
    CU_ASSERT_EQUAL(client.done, 0);
    disconnect();
}

/* Of an imported device; its server answers only that it is unlinked. */
static struct usbip_transfer a_transfer_without_answer(uint8_t *buffer, uint32_t size,
                                                       uint32_t timeout_ms)
{
    CU_ASSERT_FATAL(bind_server(false));
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_step(STEP_RECEIVE, 2 * USBIP_HEADER_SIZE); /* CMD_SUBMIT and, unanswered, CMD_UNLINK */
    add_reply(USBIP_RET_UNLINK, 3, -USBIP_ECONNRESET, 0);
    add_step(STEP_WAIT_FOR_END, 0);
    run_server();
    import_device();
    struct usbip_transfer transfer = a_transfer(0x81, buffer, size);
    transfer.timeout_ms = timeout_ms;
    return transfer;
}

/* The end of a transfer's time ends the wait, too, whatever the caller would wait for. */
static void test_deadline_of_a_transfer(void)
{
    uint8_t buffer[64];
    struct usbip_transfer transfer = a_transfer_without_answer(buffer, sizeof buffer, 350);
    uint64_t before_ms = usbip_now_ms();
    submit(&transfer);
    while (client.done == 0)
        CU_ASSERT_EQUAL_FATAL(usbip_connection_wait(client.connection, UINT64_MAX), 0);
    CU_ASSERT_EQUAL(transfer.status, -USBIP_ETIMEDOUT);
    CU_ASSERT(usbip_now_ms() - before_ms >= 350);
    CU_ASSERT(usbip_now_ms() - before_ms < 350 + AT_ONCE_MS);
    /* Ends of transfers see the time of after the wait. */
    CU_ASSERT(usbip_connection_now_ms(client.connection) - before_ms >= 350);
    disconnect();
}

/* ---- Importing ---- */

static void test_import_request_is_sent(void)
{
    CU_ASSERT_FATAL(bind_server(false));
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_step(STEP_WAIT_FOR_END, 0);
    run_server();
    import_device();
    CU_ASSERT_PTR_EQUAL(usbip_connection_session(client.connection), client.session);
    CU_ASSERT_EQUAL(usbip_connection_events(client.connection), USBIP_EVENT_READ);
    CU_ASSERT_EQUAL(usbip_connection_deadline_ms(client.connection), UINT64_MAX);
    disconnect();
    const uint8_t request[USBIP_IMPORT_REQUEST_SIZE] = {1, 0x11, 0x80, 3,   0,  0,
                                                        0, 0,    '1',  '-', '1'};
    CU_ASSERT_EQUAL(server.received_size, sizeof request);
    CU_ASSERT_EQUAL(memcmp(server.received, request, sizeof request), 0);
}

static void test_import_refused(void)
{
    CU_ASSERT_FATAL(bind_server(false));
    uint8_t reply[USBIP_OP_COMMON_SIZE];
    usbip_encode_op_common(reply, &(struct usbip_op_common){.version = USBIP_VERSION,
                                                            .code = OP_REP_IMPORT,
                                                            .status = USBIP_ST_DEV_BUSY});
    add_step(STEP_RECEIVE, USBIP_IMPORT_REQUEST_SIZE);
    add_send(STEP_SEND, reply, sizeof reply);
    add_step(STEP_WAIT_FOR_END, 0); /* the client must close */
    run_server();
    CU_ASSERT_EQUAL_FATAL(connect_to(server.address), 0);
    CU_ASSERT_EQUAL(run_to_the_end(), USBIP_ERROR_BUSY);
    CU_ASSERT_EQUAL(client.refusals, 1);
    CU_ASSERT(connection_says(server.address));
    CU_ASSERT(connection_says("ST_DEV_BUSY"));
    join_server(); /* the socket is closed before anything is freed */
    disconnect();
}

static void test_C009_truncated_import(void)
{
    CU_ASSERT_FATAL(bind_server(false));
    add_import_reply(108);
    run_server();
    CU_ASSERT_EQUAL_FATAL(connect_to(server.address), 0);
    CU_ASSERT_EQUAL(run_to_the_end(), USBIP_ERROR_DISCONNECTED);
    CU_ASSERT_EQUAL(client.imports, 0);
    CU_ASSERT(connection_says(server.address));
    CU_ASSERT(connection_says("OP_REP_IMPORT of busid 1-1 was not complete"));
    disconnect();
}

/* ---- Transfers ---- */

static void test_transfer(void)
{
    CU_ASSERT_FATAL(bind_server(false));
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_step(STEP_RECEIVE, USBIP_HEADER_SIZE);
    add_reply(USBIP_RET_SUBMIT, 2, 0, 5);
    add_send(STEP_SEND_TRICKLED, "hello", 5);
    add_step(STEP_WAIT_FOR_END, 0);
    run_server();
    import_device();
    uint8_t buffer[64] = {0};
    struct usbip_transfer transfer = a_transfer(0x81, buffer, sizeof buffer);
    submit(&transfer);
    CU_ASSERT_EQUAL(usbip_connection_events(client.connection),
                    USBIP_EVENT_READ | USBIP_EVENT_WRITE);
    CU_ASSERT_EQUAL(run_until(&client.done, 1), 0);
    CU_ASSERT_EQUAL(transfer.status, 0);
    CU_ASSERT_EQUAL(transfer.actual_length, 5);
    CU_ASSERT_STRING_EQUAL((const char *)buffer, "hello");
    disconnect();
}

static void test_transfer_that_times_out(void)
{
    uint8_t buffer[64];
    struct usbip_transfer transfer = a_transfer_without_answer(buffer, sizeof buffer, 20);
    submit(&transfer);
    CU_ASSERT_EQUAL(run_until(&client.done, 1), 0);
    CU_ASSERT_EQUAL(transfer.status, -USBIP_ETIMEDOUT);
    disconnect();
}

static void test_C057_server_gone_in_mid_transfer(void)
{
    for (unsigned reset = 0; reset < 2; reset++) {
        CU_ASSERT_FATAL(bind_server(false));
        add_import_reply(USBIP_IMPORT_REPLY_SIZE);
        add_step(STEP_RECEIVE, USBIP_HEADER_SIZE);
        add_reply(USBIP_RET_SUBMIT, 2, 0, 5);
        add_send(STEP_SEND, "hell", 4);
        if (reset)
            add_step(STEP_RESET, 0);
        run_server();
        import_device();
        uint8_t buffer[64] = {0};
        struct usbip_transfer transfer = a_transfer(0x81, buffer, sizeof buffer);
        submit(&transfer);
        CU_ASSERT_EQUAL(run_until(&client.done, 1), USBIP_ERROR_DISCONNECTED);
        CU_ASSERT_EQUAL(client.done, 1);
        CU_ASSERT_EQUAL(transfer.status, -USBIP_ESHUTDOWN);
        CU_ASSERT_EQUAL(buffer[0], 0);
        CU_ASSERT(connection_says(server.address));
        CU_ASSERT(connection_says(reset ? "connection lost" : "the server closed the connection"));
        CU_ASSERT_EQUAL(usbip_connection_wait(client.connection, UINT64_MAX),
                        USBIP_ERROR_DISCONNECTED);
        disconnect();
    }
}

static void test_garbage_closes_the_connection(void)
{
    CU_ASSERT_FATAL(bind_server(false));
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_reply(USBIP_CMD_UNLINK, 2, 0, 0);
    add_step(STEP_WAIT_FOR_END, 0);
    run_server();
    CU_ASSERT_EQUAL_FATAL(connect_to(server.address), 0);
    CU_ASSERT_EQUAL(run_to_the_end(), USBIP_ERROR_PROTOCOL);
    join_server();
    disconnect();
}

static void test_owner_ends_the_session(void)
{
    CU_ASSERT_FATAL(bind_server(false));
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_step(STEP_WAIT_FOR_END, 0);
    run_server();
    import_device();
    usbip_host_session_fail(client.session, USBIP_ERROR_TIMEOUT, "too slow for me");
    CU_ASSERT_EQUAL(usbip_connection_process(client.connection), USBIP_ERROR_TIMEOUT);
    CU_ASSERT(connection_says("too slow for me"));
    join_server();
    disconnect();
}

/*
 * The server reads nothing while 16 MiB are written to it, far above what the system buffers; its
 * reply must come through all the same, and then all is read.
 */
static void test_C056_server_that_does_not_read(void)
{
    enum { COUNT = 1024 };
    const uint64_t pdu_size = USBIP_HEADER_SIZE + BULK_SIZE;
    CU_ASSERT_FATAL(bind_server(false));
    add_import_reply(USBIP_IMPORT_REPLY_SIZE);
    add_step(STEP_RECEIVE, USBIP_HEADER_SIZE);
    add_reply(USBIP_RET_SUBMIT, 2, 0, 3); /* the first of all, and nothing is read meanwhile */
    add_send(STEP_SEND_TRICKLED, "yes", 3);
    add_step(STEP_WAIT_FOR_TEST, 0);
    add_step(STEP_RECEIVE, COUNT * (size_t)pdu_size);
    add_reply(USBIP_RET_SUBMIT, COUNT + 2, 0, BULK_SIZE);
    add_step(STEP_WAIT_FOR_END, 0);

    struct usbip_transfer *transfers = calloc(COUNT + 1, sizeof *transfers);
    uint8_t *bulk = malloc(BULK_SIZE);
    uint8_t in_buffer[64];
    CU_ASSERT_FATAL(transfers != NULL && bulk != NULL);
    memset(bulk, 0x5a, BULK_SIZE);
    run_server();
    import_device();
    transfers[0] = a_transfer(0x81, in_buffer, sizeof in_buffer);
    submit(&transfers[0]);
    for (unsigned i = 1; i <= COUNT; i++) {
        transfers[i] = a_transfer(0x02, bulk, BULK_SIZE);
        submit(&transfers[i]);
    }
    CU_ASSERT_EQUAL(run_until(&client.done, 1), 0);
    CU_ASSERT_EQUAL(transfers[0].actual_length, 3);
    CU_ASSERT_EQUAL(usbip_connection_events(client.connection),
                    USBIP_EVENT_READ | USBIP_EVENT_WRITE); /* much is left to be written */
    sem_post(&server.go_on);
    CU_ASSERT_EQUAL(run_until(&client.done, 2), 0);
    CU_ASSERT_EQUAL(transfers[COUNT].actual_length, BULK_SIZE);
    disconnect();
    CU_ASSERT_EQUAL(server.received_size,
                    USBIP_IMPORT_REQUEST_SIZE + USBIP_HEADER_SIZE + COUNT * pdu_size);
    CU_ASSERT_EQUAL(server.received[0], 0x5a); /* a piece of the last payload */
    free(bulk);
    free(transfers);
}

/* ---- Device lists ---- */

static void test_device_list(void)
{
    const enum step_kind kinds[] = {STEP_SEND, STEP_SEND_TRICKLED};
    for (unsigned i = 0; i < 2; i++) {
        uint8_t bytes[2048];
        CU_ASSERT_FATAL(bind_server(false));
        add_step(STEP_RECEIVE, USBIP_OP_COMMON_SIZE);
        size_t size = devlist_of_three(bytes);
        add_send(kinds[i], bytes, size);
        if (i == 0)
            add_step(STEP_WAIT_FOR_END, 0); /* C016: the client closes by itself */
        run_server();
        struct usbip_device_list list;
        char error_text[USBIP_ERROR_TEXT_SIZE];
        int count = usbip_list_devices(server.address, PATIENCE_MS, &list, error_text);
        CU_ASSERT_EQUAL_FATAL(count, 3);
        CU_ASSERT_EQUAL(list.count, 3);
        CU_ASSERT_STRING_EQUAL(list.devices[0].record.busid, "1-1");
        CU_ASSERT_STRING_EQUAL(list.devices[2].record.busid, "3-1.4");
        CU_ASSERT_EQUAL(list.devices[2].record.bNumInterfaces, 2);
        CU_ASSERT_EQUAL(list.devices[2].interfaces[1].bInterfaceClass, 11);
        usbip_device_list_free(&list);
        CU_ASSERT_PTR_NULL(list.devices);
        stop_server();
    }
}

static void test_long_device_list(void)
{
    enum { COUNT = 40 };
    uint8_t header[USBIP_DEVLIST_REPLY_HEADER_SIZE];
    CU_ASSERT_FATAL(bind_server(false));
    add_step(STEP_RECEIVE, USBIP_OP_COMMON_SIZE);
    usbip_encode_op_common(
        header, &(struct usbip_op_common){.version = USBIP_VERSION, .code = OP_REP_DEVLIST});
    usbip_store_be32(header + USBIP_OP_COMMON_SIZE, COUNT);
    add_send(STEP_SEND, header, sizeof header);
    for (unsigned i = 0; i < COUNT; i++) {
        uint8_t record[USBIP_DEVICE_RECORD_SIZE];
        struct usbip_device_record device = a_record("1-1");
        device.idProduct = (uint16_t)i;
        usbip_encode_device_record(record, &device);
        add_send(STEP_SEND, record, sizeof record);
    }
    run_server();
    struct usbip_device_list list;
    char error_text[USBIP_ERROR_TEXT_SIZE];
    CU_ASSERT_EQUAL_FATAL(usbip_list_devices(server.address, PATIENCE_MS, &list, error_text),
                          COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        CU_ASSERT_EQUAL(list.devices[i].record.idProduct, i);
    usbip_device_list_free(&list);
    stop_server();
}

static int list_error(struct usbip_device_list *list, char *error_text, uint32_t timeout_ms)
{
    run_server();
    int result = usbip_list_devices(server.address, timeout_ms, list, error_text);
    CU_ASSERT_PTR_NULL(list->devices);
    CU_ASSERT_EQUAL(list->count, 0);
    usbip_device_list_free(list);
    CU_ASSERT(says(error_text, server.address));
    stop_server();
    return result;
}

static void test_C013_device_lists_that_lie(void)
{
    struct usbip_device_list list;
    char error_text[USBIP_ERROR_TEXT_SIZE];
    uint8_t bytes[2048];
    size_t size = devlist_of_three(bytes);

    CU_ASSERT_FATAL(bind_server(false));
    usbip_store_be32(bytes + USBIP_OP_COMMON_SIZE, 4); /* one more than there is, then FIN */
    add_step(STEP_RECEIVE, USBIP_OP_COMMON_SIZE);
    add_send(STEP_SEND, bytes, size);
    CU_ASSERT_EQUAL(list_error(&list, error_text, PATIENCE_MS), USBIP_ERROR_DISCONNECTED);
    CU_ASSERT(says(error_text, "OP_REP_DEVLIST was not complete"));

    CU_ASSERT_FATAL(bind_server(false));
    usbip_store_be32(bytes + USBIP_OP_COMMON_SIZE, UINT32_MAX);
    add_step(STEP_RECEIVE, USBIP_OP_COMMON_SIZE);
    add_send(STEP_SEND, bytes, size);
    add_step(STEP_WAIT_FOR_END, 0);
    CU_ASSERT_EQUAL(list_error(&list, error_text, PATIENCE_MS), USBIP_ERROR_LIMIT);
}

static void test_C013_device_list_cut_off(void)
{
    uint8_t bytes[2048];
    size_t size = devlist_of_three(bytes);
    const size_t cuts[] = {0, 4, 8, 11, 12, 323, 324, size - 1};
    for (unsigned i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        struct usbip_device_list list;
        char error_text[USBIP_ERROR_TEXT_SIZE];
        CU_ASSERT_FATAL(bind_server(false));
        add_step(STEP_RECEIVE, USBIP_OP_COMMON_SIZE);
        add_send(STEP_SEND, bytes, cuts[i]);
        CU_ASSERT_EQUAL(list_error(&list, error_text, PATIENCE_MS), USBIP_ERROR_DISCONNECTED);
    }
}

static void test_device_list_of_a_silent_server(void)
{
    struct usbip_device_list list;
    char error_text[USBIP_ERROR_TEXT_SIZE];
    CU_ASSERT_FATAL(bind_server(false));
    add_step(STEP_WAIT_FOR_END, 0);
    uint64_t before_ms = usbip_now_ms();
    CU_ASSERT_EQUAL(list_error(&list, error_text, 50), USBIP_ERROR_TIMEOUT);
    CU_ASSERT(usbip_now_ms() - before_ms >= 50);
    CU_ASSERT(says(error_text, "no answer within 50 ms"));
}

static void test_device_list_refused(void)
{
    struct usbip_device_list list;
    char error_text[USBIP_ERROR_TEXT_SIZE];
    CU_ASSERT_FATAL(bind_server(false));
    CU_ASSERT_EQUAL(usbip_list_devices(server.address, PATIENCE_MS, &list, error_text),
                    USBIP_ERROR_CONNECT);
    CU_ASSERT(says(error_text, server.address));
    usbip_device_list_free(&list);
    stop_server();
}

#define TEST(function)                                                                             \
    {                                                                                              \
#function, function                                                                        \
    }

int main(void)
{
    CU_TestInfo tests[] = {
        TEST(test_malformed_addresses),
        TEST(test_unknown_host),
        TEST(test_C017_refused),
        TEST(test_C017_ipv6),
        TEST(test_C017_all_addresses_are_tried),
        TEST(test_C017_no_answer),
        TEST(test_owner_gives_up_connecting),
        TEST(test_C059_dead_peers_are_noticed),
#ifdef TCP_CONGESTION
        TEST(test_loopback_is_not_paced),
#endif
        TEST(test_processing_does_not_wait),
        TEST(test_deadline_of_a_transfer),
        TEST(test_import_request_is_sent),
        TEST(test_import_refused),
        TEST(test_C009_truncated_import),
        TEST(test_transfer),
        TEST(test_transfer_that_times_out),
        TEST(test_C057_server_gone_in_mid_transfer),
        TEST(test_garbage_closes_the_connection),
        TEST(test_owner_ends_the_session),
        TEST(test_C056_server_that_does_not_read),
        TEST(test_device_list),
        TEST(test_long_device_list),
        TEST(test_C013_device_lists_that_lie),
        TEST(test_C013_device_list_cut_off),
        TEST(test_device_list_of_a_silent_server),
        TEST(test_device_list_refused),
        CU_TEST_INFO_NULL,
    };
    return run_tests("connection", tests);
}
