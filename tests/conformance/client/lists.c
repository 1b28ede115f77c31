/* B. Device lists, and connecting. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/bytes.h"
#include "tests/conformance/client/client_trial.h"

enum {
    NDEV_OFFSET = USBIP_OP_COMMON_SIZE,
    RECORD_OFFSET = USBIP_DEVLIST_REPLY_HEADER_SIZE,
    BUSID_OFFSET = RECORD_OFFSET + 0x100,
    INTERFACES_OFFSET = RECORD_OFFSET + 0x137,
    MANY_INTERFACES = 255,
    MAX_RESIDENT_KIB = 512 << 10, /* of a client that got a list of one device */
    BLACK_HOLE_BACKLOG = 0,
    BLACK_HOLE_FILL = 4, /* connections that fill a backlog of 0 */
    RESETS = 64,         /* connections of one client that are reset before it is left alone */
};

/* How the list of one device differs from what it should be. */
struct list_change {
    uint32_t ndev;
    int interfaces; /* -1: as it is */
    size_t size;    /* of what is sent; 0: all */
    bool endless_strings;
};

static void change_list(struct trial *trial, struct link *link, uint16_t code,
                        struct usbip_buffer *bytes)
{
    const struct list_change *change = trial->server->context;
    (void)link;
    if (code != OP_REQ_DEVLIST)
        return;
    usbip_store_be32(bytes->data + NDEV_OFFSET, change->ndev);
    if (change->interfaces >= 0)
        bytes->data[INTERFACES_OFFSET] = (uint8_t)change->interfaces;
    if (change->endless_strings) {
        memset(bytes->data + RECORD_OFFSET, 'A', USBIP_PATH_SIZE);
        memset(bytes->data + BUSID_OFFSET, 'B', USBIP_BUSID_SIZE);
    }
    if (change->size > 0)
        bytes->size = change->size;
}

static void list_with(struct trial *trial, struct list_change *change)
{
    trial->server->hooks.op_reply = change_list;
    trial->server->context = change;
    client_start(trial, TASK_LIST);
}

static void devlist_lies(struct trial *trial)
{
    static const struct {
        const char *label;
        struct list_change change;
    } lies[] = {
        {"ndev ffffffff", {0xffffffff, 0, RECORD_OFFSET + USBIP_DEVICE_RECORD_SIZE, false}},
        {"no record", {1, -1, RECORD_OFFSET, false}},
        {"no interfaces", {1, MANY_INTERFACES, RECORD_OFFSET + USBIP_DEVICE_RECORD_SIZE, false}},
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct list_change change = lies[i].change;
        client_variant(trial, "%s", lies[i].label);
        list_with(trial, &change);
        client_await_exit(trial, NULL, CLIENT_FAILS, trial->client->choice->timeout_ms);
        if (trial->client->process.usage.ru_maxrss > MAX_RESIDENT_KIB)
            client_fault(trial, "the client takes memory for what was announced: %ld KiB",
                         trial->client->process.usage.ru_maxrss);
    }
}

static bool prints(const struct trial *trial, const char *text)
{
    const struct usbip_buffer *output = &trial->client->process.output;
    return output->size > 0 && memmem(output->data, output->size, text, strlen(text)) != NULL;
}

static void devlist_empty(struct trial *trial)
{
    struct list_change change = {0, -1, RECORD_OFFSET, false};
    client_variant(trial, "no device");
    list_with(trial, &change);
    client_await_exit(trial, NULL, CLIENT_WELL, trial->client->choice->timeout_ms);
    if (prints(trial, "1-1"))
        client_fault(trial, "the client lists a device that is not there");

    client_variant(trial, "no interfaces");
    change = (struct list_change){1, 0, RECORD_OFFSET + USBIP_DEVICE_RECORD_SIZE, false};
    list_with(trial, &change);
    client_await_exit(trial, NULL, CLIENT_WELL, trial->client->choice->timeout_ms);
    if (!prints(trial, "1-1"))
        client_fault(trial, "the client does not list the device");
}

/* A string that is printed too far runs into the bytes of the field behind it. */
static void devlist_endless_strings(struct trial *trial)
{
    char busid[USBIP_BUSID_SIZE + 2];
    struct list_change change = {1, 0, RECORD_OFFSET + USBIP_DEVICE_RECORD_SIZE, true};
    list_with(trial, &change);
    client_await_exit(trial, NULL, CLIENT_ANYHOW, trial->client->choice->timeout_ms);
    memset(busid, 'B', sizeof busid - 1);
    busid[sizeof busid - 1] = '\0';
    if (prints(trial, "AB") || prints(trial, busid)) {
        client_outcome(trial, "over-read");
        client_fault(trial, "what the client prints goes over the end of a field");
    }
}

static void keep_open(struct trial *trial, struct link *link, uint16_t code,
                      struct usbip_buffer *bytes)
{
    (void)trial;
    (void)code;
    (void)bytes;
    link->keep_open = true;
}

static bool has_connected(struct trial *trial, void *context)
{
    (void)context;
    return trial->server->link_count > 0;
}

static void devlist_then_keep_open(struct trial *trial)
{
    trial->server->hooks.op_reply = keep_open;
    client_start(trial, TASK_LIST);
    if (!client_wait(trial, has_connected, NULL,
                     client_has_command(trial) ? trial->client->choice->timeout_ms
                                               : CLIENT_BY_HAND_MS)) {
        client_outcome(trial, "no connection");
        trial_fail(trial, "the client does not connect");
    }
    struct link *link = trial->server->links[0];
    if (client_await_end(trial, link, trial->client->choice->timeout_ms))
        client_outcome(trial, "closes");
    else
        client_fault(trial, "the client waits for more than the devices that were announced");
    client_await_exit(trial, link, CLIENT_WELL, trial->client->choice->timeout_ms);
}

/* ---- Connecting ---- */

/* A listener whose queue is full: the kernel drops what else comes. Fills fds; false: not so here.
 */
static bool dig_black_hole(struct trial *trial, int fds[BLACK_HOLE_FILL])
{
    struct case_server *server = trial->server;
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (listen(server->listener, BLACK_HOLE_BACKLOG) < 0 ||
        getsockname(server->listener, (struct sockaddr *)&address, &size) < 0)
        return false;
    for (int i = 0; i < BLACK_HOLE_FILL; i++) {
        fds[i] = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(fds[i], (struct sockaddr *)&address, size);
    }
    return true;
}

static void black_hole(struct trial *trial)
{
    int fds[BLACK_HOLE_FILL] = {-1, -1, -1, -1};
    client_variant(trial, "black hole");
    trial->client->told_timeout = true;
    if (!dig_black_hole(trial, fds))
        trial_fail(trial, "no socket that drops connections");
    int listener = trial->server->listener;
    trial->server->listener = -1; /* nobody accepts */
    client_start(trial, TASK_SERIAL);
    client_await_exit(trial, NULL, CLIENT_FAILS, trial->client->choice->patience_ms);
    for (int i = 0; i < BLACK_HOLE_FILL; i++)
        close(fds[i]);
    close(listener);
}

static bool resets_all(struct trial *trial, void *context)
{
    unsigned *done = context;
    struct case_server *server = trial->server;
    for (; *done < server->link_count && *done < RESETS; ++*done)
        link_reset(server->links[*done]);
    return !trial->client->process.running;
}

static bool listen_again(struct trial *trial, const char *host)
{
    case_server_stop_listening(trial->server);
    return case_server_listen(trial->server, host, "0");
}

/* Whether the name has several addresses here, of which only the last is listened at. */
static bool listen_at_last_of(struct trial *trial, const char *name)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *addresses;
    char last[NI_MAXHOST] = "";
    unsigned count = 0;
    if (getaddrinfo(name, NULL, &hints, &addresses) != 0)
        return false;
    for (const struct addrinfo *at = addresses; at; at = at->ai_next, count++)
        getnameinfo(at->ai_addr, at->ai_addrlen, last, sizeof last, NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(addresses);
    if (count < 2 || !listen_again(trial, last))
        return false;
    char port[16];
    snprintf(port, sizeof port, "%s", strrchr(trial->server->address, ':'));
    snprintf(trial->server->address, sizeof trial->server->address, "%s%s", name, port);
    return true;
}

static void refuse_timeout(struct trial *trial)
{
    client_variant(trial, "refused");
    case_server_stop_listening(trial->server);
    client_start(trial, TASK_SERIAL);
    client_await_exit(trial, NULL, CLIENT_FAILS, trial->client->choice->timeout_ms);

    unsigned resets = 0;
    client_variant(trial, "reset");
    if (!listen_again(trial, trial->client->choice->host))
        trial_fail(trial, "cannot listen again");
    client_start(trial, TASK_SERIAL);
    client_wait(trial, resets_all, &resets, trial->client->choice->timeout_ms);
    client_await_exit(trial, NULL, CLIENT_FAILS, trial->client->choice->timeout_ms);

    black_hole(trial);

    client_variant(trial, "IPv6");
    if (listen_again(trial, "::1"))
        client_must_go_on(trial, client_open(trial, NULL));
    else
        client_outcome(trial, "none here");

    /* Not every machine has a name with two addresses; with one there is nothing to see. */
    if (listen_at_last_of(trial, "localhost")) {
        struct client *client = trial->client;
        client_variant(trial, "second address");
        client_must_go_on(trial, client_open(trial, NULL));
        if (trial->verdict == PASS)
            client->variant_count--; /* the outcome is the same where there is one address */
    }
}

static const char list_source[] = "usbip_protocol.rst, OP_REP_DEVLIST";

static const struct conformance_case cases[] = {
    {"C013", "devlist-lies", MUST, CORE, NEED_COMMAND,
     "A list that ends before all that it announced is an error, and takes no memory for what did "
     "not come.",
     list_source, devlist_lies, NULL},
    {"C014", "devlist-empty", MUST, CORE, NEED_COMMAND,
     "A list without devices, and a device without interfaces, are no errors.", list_source,
     devlist_empty, NULL},
    {"C015", "devlist-nonterminated-strings", MUST, CORE, NEED_COMMAND,
     "path and busid end with their fields, also without a NUL.", list_source,
     devlist_endless_strings, NULL},
    {"C016", "devlist-then-keepopen", MUST, CORE, 0,
     "The list ends with its last device, not with the connection, which the client closes.",
     list_source, devlist_then_keep_open, NULL},
    {"C017", "refuse-timeout", MUST, CORE, NEED_COMMAND,
     "Connecting has a time limit; a refusal and RST are errors; IPv6 and every address of a name "
     "are tried.",
     "RFC 6724, section 2", refuse_timeout, NULL},
};

const struct section client_lists = {"B", "Device lists, connecting", cases,
                                     sizeof cases / sizeof cases[0]};
