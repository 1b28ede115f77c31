/* A. The operation phase: DEVLIST, and requests that are none. */
#include <string.h>

#include "tests/conformance/trial.h"

enum { PARALLEL_LISTS = 50, JUNK_SIZE = 16, BYTE_PAUSE_MS = 5, CONNECT_PAUSE_MS = 10 };

static const uint8_t request_bytes[USBIP_OP_COMMON_SIZE] = {0x01, 0x11, 0x80, 0x05, 0, 0, 0, 0};

static void devlist_basic(struct trial *trial)
{
    struct devlist list;
    trial_devlist(trial, &list);
}

/* The server has nothing left to list when every device is attached, if it hides those. */
static void devlist_empty(struct trial *trial)
{
    for (unsigned i = 0; i < trial->target->device_count; i++)
        trial_import_busid(trial, trial->target->devices[i].busid);
    struct wire *wire = trial_connect(trial);
    struct devlist list;
    trial_send_op(wire, USBIP_VERSION, OP_REQ_DEVLIST, 0);
    trial_read_devlist(trial, wire, &list);
    if (list.count > 0)
        trial_not_applicable(trial, "the server lists attached devices too");
    size_t left;
    wire_read_end(wire, &left);
    trial_record(trial, "%zu bytes", USBIP_DEVLIST_REPLY_HEADER_SIZE + left);
    if (left > 0)
        trial_fail(trial, "%zu bytes follow an empty list", left);
}

static void devlist_fragmented(struct trial *trial)
{
    struct wire *wire = trial_connect(trial);
    struct devlist list;
    wire_send_pieces(wire, request_bytes, sizeof request_bytes, 1, BYTE_PAUSE_MS);
    trial_read_devlist(trial, wire, &list);
}

static void devlist_close(struct trial *trial)
{
    struct wire *wire = trial_connect(trial);
    struct devlist list;
    size_t left;
    trial_send_op(wire, USBIP_VERSION, OP_REQ_DEVLIST, 0);
    trial_read_devlist(trial, wire, &list);
    enum wire_event event = wire_read_end(wire, &left);
    trial_record(trial, "%s", event == WIRE_CLOSED ? "CLOSE" : "SILENT");
    if (left > 0)
        trial_fail(trial, "%zu bytes follow the list", left);
    if (event != WIRE_CLOSED)
        trial_fail(trial, "the connection stays open");
}

static void devlist_trailing(struct trial *trial)
{
    uint8_t bytes[USBIP_OP_COMMON_SIZE + JUNK_SIZE];
    struct wire *wire = trial_connect(trial);
    struct devlist list;
    memset(bytes, 0xa5, sizeof bytes);
    memcpy(bytes, request_bytes, sizeof request_bytes);
    wire_send(wire, bytes, sizeof bytes);
    trial_read_devlist(trial, wire, &list);
}

/* Each of these requests has to be met with silence and the end of the connection. */
static void expect_refused(struct trial *trial, uint16_t version, uint16_t code, uint32_t status)
{
    struct wire *wire = trial_connect(trial);
    trial_send_op(wire, version, code, status);
    if (trial_observe_op(trial, wire) != OUTCOME_CLOSE)
        trial_fail(trial, "version 0x%04x, code 0x%04x, status %u: the connection stays open",
                   version, code, status);
}

static void version_mismatch(struct trial *trial)
{
    static const uint16_t versions[] = {0x0000, 0x0106, 0x0110, 0x0112, 0x1101};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++)
        expect_refused(trial, versions[i], OP_REQ_DEVLIST, 0);
}

static void unknown_opcode(struct trial *trial)
{
    expect_refused(trial, USBIP_VERSION, 0x8001, 0);
    expect_refused(trial, USBIP_VERSION, 0x80ff, 0);
}

static void unused_opcodes(struct trial *trial)
{
    static const uint16_t codes[] = {0x8002, 0x8004, 0x8006, 0x8007};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        expect_refused(trial, USBIP_VERSION, codes[i], 0);
}

static void reply_as_request(struct trial *trial)
{
    expect_refused(trial, USBIP_VERSION, OP_REP_DEVLIST, 0);
    expect_refused(trial, USBIP_VERSION, OP_REP_IMPORT, 0);
}

static void request_status_nonzero(struct trial *trial)
{
    static const uint32_t statuses[] = {1, 0xdeadbeef};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        struct wire *wire = trial_connect(trial);
        uint8_t byte;
        trial_send_op(wire, USBIP_VERSION, OP_REQ_DEVLIST, statuses[i]);
        enum wire_event event = wire_read(wire, &byte, 1);
        trial_record_more(trial, "%s",
                          event == WIRE_CLOSED   ? "CLOSE"
                          : event == WIRE_SILENT ? "SILENT"
                                                 : "answered");
        if (event == WIRE_SILENT)
            trial_fail(trial, "status 0x%x is neither ignored nor refused", statuses[i]);
    }
}

static void op_truncated(struct trial *trial)
{
    struct wire *wire = trial_connect(trial);
    wire_send(wire, request_bytes, 4);
    wire_end_sending(wire);
    if (trial_observe_op(trial, wire) != OUTCOME_CLOSE)
        trial_fail(trial, "the connection stays open");
    struct devlist list;
    trial_devlist(trial, &list);
}

static void op_idle(struct trial *trial)
{
    struct wire *idle = trial_connect(trial);
    struct devlist list;
    trial_devlist(trial, &list);
    /* It may have been closed meanwhile, but when it is open it has to be of use. */
    trial_send_op(idle, USBIP_VERSION, OP_REQ_DEVLIST, 0);
    trial_read_devlist(trial, idle, &list);
}

static void two_ops_one_connection(struct trial *trial)
{
    struct wire *wire = trial_connect(trial);
    struct devlist list;
    uint8_t byte;
    uint8_t twice[2 * USBIP_OP_COMMON_SIZE];
    memcpy(twice, request_bytes, sizeof request_bytes);
    memcpy(twice + sizeof request_bytes, request_bytes, sizeof request_bytes);
    wire_send(wire, twice, sizeof twice);
    trial_read_devlist(trial, wire, &list);
    enum wire_event event = wire_read(wire, &byte, 1);
    trial_record(trial, "%s", event == WIRE_OK ? "both answered" : "first answered");
}

static void urb_before_import(struct trial *trial)
{
    struct wire *wire = trial_connect(trial);
    wire->devid = 0x00010001;
    trial_get_descriptor(wire, USB_DT_DEVICE, 0, 0, USB_DT_DEVICE_SIZE);
    if (trial_observe_op(trial, wire) != OUTCOME_CLOSE)
        trial_fail(trial, "the connection stays open");
}

static void dual_stack(struct trial *trial)
{
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    const char *own = trial->target->host;
    if (strcmp(own, "127.0.0.1") != 0 && strcmp(own, "::1") != 0 && strcmp(own, "localhost") != 0)
        trial_not_applicable(trial, "the server is not on this host");
    for (int i = 0; i < 2; i++) {
        struct devlist list;
        struct wire *wire = trial_try_connect(trial, hosts[i]);
        if (!wire && trial->target->own_server)
            trial_not_applicable(trial, "our emulator listens at one address only, as it was told");
        if (!wire)
            trial_fail(trial, "nobody listens at %s", hosts[i]);
        trial_send_op(wire, USBIP_VERSION, OP_REQ_DEVLIST, 0);
        trial_read_devlist(trial, wire, &list);
    }
}

static void parallel_devlists(struct trial *trial)
{
    struct wire *wires[PARALLEL_LISTS];
    for (int i = 0; i < PARALLEL_LISTS; i++) {
        /* A port may be forwarded by something that accepts one connection after the other. */
        trial_pause(CONNECT_PAUSE_MS);
        wires[i] = trial_connect(trial);
    }
    for (int i = 0; i < PARALLEL_LISTS; i++)
        trial_send_op(wires[i], USBIP_VERSION, OP_REQ_DEVLIST, 0);
    for (int i = 0; i < PARALLEL_LISTS; i++) {
        struct devlist list;
        trial_read_devlist(trial, wires[i], &list);
    }
}

static const struct conformance_case cases[] = {
    {"S001", "devlist-basic", MUST, CORE, 0,
     "OP_REQ_DEVLIST is answered with version 0x0111, code 0x0005, status 0 and a well-formed "
     "list.",
     "usbip_protocol.rst, OP_REP_DEVLIST", devlist_basic, NULL},
    {"S002", "devlist-empty", MUST, CORE, NEED_OWN_SERVER,
     "With nothing to list the reply is exactly 12 bytes, with 0 devices.",
     "usbip_protocol.rst, OP_REP_DEVLIST", devlist_empty, NULL},
    {"S003", "devlist-fragmented", MUST, CORE, 0,
     "A request that arrives byte by byte is answered like one that arrives at once.",
     "usbip_protocol.rst, Architecture", devlist_fragmented, NULL},
    {"S004", "devlist-close", SHOULD, CORE, 0, "The connection is closed after the list.",
     "usbip_protocol.rst, Architecture", devlist_close, NULL},
    {"S005", "devlist-trailing", MUST, HOSTILE, 0,
     "Junk behind the request does not keep the list from being delivered whole.",
     "common practice: the Linux tools read one request", devlist_trailing, NULL},
    {"S006", "version-mismatch", MUST, CORE, 0,
     "A request of another protocol version is not answered with success; the connection is "
     "closed.",
     "usbip_protocol.rst, version; usbip_network.c", version_mismatch, NULL},
    {"S007", "unknown-opcode", SHOULD, STRICT, 0,
     "An operation that does not exist ends the connection without a reply.", "usbipd.c",
     unknown_opcode, NULL},
    {"S008", "unused-opcodes", SHOULD, STRICT, 0,
     "Operations that were numbered but never used end the connection without a reply.", "usbipd.c",
     unused_opcodes, NULL},
    {"S009", "reply-as-request", SHOULD, STRICT, 0,
     "The code of a reply, sent as a request, ends the connection without a reply.", "usbipd.c",
     reply_as_request, NULL},
    {"S010", "request-status-nonzero", MAY, STRICT, 0,
     "A status in a request is ignored, or ends the connection.", "usbip_network.c",
     request_status_nonzero, NULL},
    {"S011", "op-truncated", MUST, STRICT, 0,
     "A request that breaks off is not answered, its connection is closed, others are served.",
     "usbip_protocol.rst, OP_REQ_DEVLIST", op_truncated, NULL},
    {"S012", "op-idle", MUST, STRICT, 0,
     "A client that says nothing does not keep others from being served.",
     "common practice: one connection, one client", op_idle, NULL},
    {"S013", "two-ops-one-connection", MAY, STRICT, 0,
     "Of two requests on one connection the first is answered, perhaps both.",
     "usbip_protocol.rst, Architecture", two_ops_one_connection, NULL},
    {"S014", "urb-before-import", MUST, STRICT, 0,
     "A CMD_SUBMIT before any import is not carried out; the connection is closed.",
     "usbip_protocol.rst, Architecture", urb_before_import, NULL},
    {"S015", "dual-stack", SHOULD, STRICT, 0, "The server is there with IPv4 and with IPv6.",
     "usbipd.c listens with both", dual_stack, NULL},
    {"S016", "parallel-devlists", MUST, STRICT, 0,
     "50 clients that list at the same time are all answered.",
     "common practice: one connection, one client", parallel_devlists, NULL},
};

const struct section op_phase = {"A", "Operation phase", cases, sizeof cases / sizeof cases[0]};
