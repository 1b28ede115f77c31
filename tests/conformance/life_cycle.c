/* J. The life of connections and devices. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/conformance/trial.h"

enum {
    PENDING = 8,
    HALF = 512,
    UNPLUG_MS = 20,
    UNPLUG_TIMEOUT_MS = 5000,
    ATTACH_ROUNDS = 20,
    ATTACH_SOAK_ROUNDS = 100,
    DEAD_PEER_S = 180,         /* until the server has to notice */
    DEAD_PEER_PAUSE_MS = 5000, /* few enough tries for all connections to stay with the trial */
};

/* The device can be imported again, and answers. */
static void expect_released(struct trial *trial)
{
    trial_expect_alive(trial, trial_import(trial));
}

static void fin_idle(struct trial *trial)
{
    wire_close(trial_import(trial));
    expect_released(trial);
}

static void fin_pending(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    for (int i = 0; i < PENDING; i++)
        trial_in(trial, wire, 64);
    wire_close(wire);
    expect_released(trial);
}

static void rst_mid_payload(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    struct usbip_buffer buffer = {0};
    const uint8_t *data = trial_random_bytes(trial, 2 * HALF);
    wire_append_submit(
        wire, &buffer,
        &(struct wire_submit){.ep = trial->target->bulk_out, .length = 2 * HALF, .payload = data});
    wire_send(wire, buffer.data, buffer.size - HALF);
    usbip_buffer_free(&buffer);
    wire_abort(wire);
    expect_released(trial);
}

static void fin_mid_header(struct trial *trial)
{
    static const uint8_t part[10] = {0, 0, 0, 1, 0, 0, 0, 1, 0, 1};
    struct wire *wire = trial_import(trial);
    wire_send(wire, part, sizeof part);
    wire_close(wire);
    expect_released(trial);
}

static void half_close(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    uint32_t seqnum = trial_in(trial, wire, 64);
    wire_end_sending(wire);
    struct wire_pdu *pdu;
    enum wire_event event = wire_wait(wire, seqnum, &pdu);
    trial_record(trial, "%s",
                 event == WIRE_CLOSED ? "CLOSE"
                 : event == WIRE_OK   ? "answered"
                                      : "SILENT");
    wire_close(wire);
    expect_released(trial);
}

/* The emulator unplugs the device, which comes back. */
static void detach(struct trial *trial, struct wire *wire, unsigned ms)
{
    const struct target *target = trial->target;
    char request[128], reply[512];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)wire;
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", target->control);
    int size = snprintf(request, sizeof request,
                        "{\"do\": \"unplug\", \"device\": \"%s\", \"back\": %u}\n",
                        target->record.busid, ms);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool well = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                write(fd, request, (size_t)size) == size;
    ssize_t got = well ? read(fd, reply, sizeof reply - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (got <= 0)
        trial_fail(trial, "the emulator cannot be told on %s", target->control);
    reply[got] = '\0';
    if (!strstr(reply, "\"ok\": true"))
        trial_fail(trial, "the emulator answers %.400s", reply);
}

static void expect_unplugged(struct trial *trial,
                             void (*unplug)(struct trial *, struct wire *, unsigned ms))
{
    struct wire *wire = trial_configure(trial);
    struct wire_pdu *pdu;
    enum wire_event event;
    uint32_t seqnum = trial_in(trial, wire, 64);
    unplug(trial, wire, UNPLUG_MS);
    wire->timeout_ms = UNPLUG_TIMEOUT_MS;
    while ((event = wire_next(wire, &pdu)) == WIRE_OK) {
        if (pdu->header.seqnum == seqnum && pdu->header.ret_submit.status >= 0)
            trial_fail(trial, "a transfer of a device that is gone ends with status %" PRId32,
                       pdu->header.ret_submit.status);
    }
    trial_record(trial, event == WIRE_CLOSED ? "CLOSE" : "SILENT");
    if (event != WIRE_CLOSED)
        trial_fail(trial, "the connection stays open");
}

static void unplug_attached(struct trial *trial)
{
    expect_unplugged(trial, stimulate_unplug);
    expect_released(trial);
}

static void server_detach(struct trial *trial)
{
    expect_unplugged(trial, detach);
    expect_released(trial);
}

static void dead_peer(struct trial *trial)
{
    struct wire *wire = trial_configure(trial);
    struct usbip_device_record record;
    if (!wire_vanish(wire))
        trial_not_applicable(trial, "packets cannot be dropped on this system");
    for (int waited = 0; waited < DEAD_PEER_S * 1000; waited += DEAD_PEER_PAUSE_MS) {
        trial_pause(DEAD_PEER_PAUSE_MS);
        struct wire *other = trial_connect(trial);
        uint32_t status = trial_try_import(trial, other, trial->target->record.busid, &record);
        if (status == USBIP_ST_OK) {
            trial_record(trial, "released");
            return;
        }
        wire_close(other);
    }
    trial_record(trial, "kept");
    trial_fail(trial, "after %d s the device is still refused to others", DEAD_PEER_S);
}

static void state_after_reimport(struct trial *trial)
{
    static const uint8_t coding[7] = {0x00, 0xe1, 0x00, 0x00, 0, 0, 7};
    uint16_t interface = (uint16_t)trial->target->acm_interface;
    struct wire *wire = trial_configure(trial);
    trial_control(trial, wire, 0x21, 0x20, 0, interface, sizeof coding, coding);
    wire_close(wire);
    wire = trial_configure(trial);
    struct wire_pdu *pdu =
        trial_control(trial, wire, 0xa1, 0x21, 0, interface, sizeof coding, NULL);
    bool kept =
        pdu->payload_size == sizeof coding && memcmp(pdu->payload, coding, sizeof coding) == 0;
    trial_record(trial, kept ? "kept" : "reset");
}

static void reenumerate_same_port(struct trial *trial)
{
    expect_unplugged(trial, stimulate_unplug);
    trial_configure(trial);
    trial_record(trial, "ok");
}

static void attach_loop(struct trial *trial)
{
    int rounds = trial->target->soak ? ATTACH_SOAK_ROUNDS : ATTACH_ROUNDS;
    for (int i = 0; i < rounds; i++) {
        struct wire *wire = trial_import(trial);
        struct wire_pdu *pdu = trial_expect(
            trial, wire, trial_get_descriptor(wire, USB_DT_DEVICE, 0, 0, USB_DT_DEVICE_SIZE), 0,
            USB_DT_DEVICE_SIZE);
        if (memcmp(pdu->payload, trial->target->device_descriptor, USB_DT_DEVICE_SIZE) != 0)
            trial_fail(trial, "the descriptor is not what it was");
        wire_close(wire);
    }
    trial_record(trial, "%d rounds", rounds);
}

static void multi_client(struct trial *trial)
{
    struct wire *owner = trial_configure(trial);
    uint32_t pending = trial_in(trial, owner, 64);
    struct devlist list;
    struct usbip_device_record record;
    trial_devlist(trial, &list);
    uint32_t status =
        trial_try_import(trial, trial_connect(trial), trial->target->record.busid, &record);
    if (status == USBIP_ST_OK)
        trial_fail(trial, "a second client has imported the device");
    trial_expect_pending(trial, owner, pending);
    trial_expect_unlinked(trial, owner, wire_unlink(owner, pending), -USBIP_ECONNRESET);
}

#define WITH_BULK (NEED_DEVICE | NEED_BULK)

static const struct conformance_case cases[] = {
    {"S146", "fin-idle", MUST, CORE, NEED_DEVICE,
     "A client that closes its connection gives the device back.",
     "usbip_protocol.rst, Architecture", fin_idle, NULL},
    {"S147", "fin-pending", MUST, CORE, WITH_BULK, "It does so with transfers pending, too.",
     "usbip_protocol.rst, Architecture", fin_pending, NULL},
    {"S148", "rst-mid-payload", MUST, CORE, WITH_BULK,
     "A connection that is reset within the data of a request gives the device back.",
     "usbip_protocol.rst, Architecture", rst_mid_payload, NULL},
    {"S149", "fin-mid-header", MUST, CORE, NEED_DEVICE,
     "A connection that ends within a header gives the device back.",
     "usbip_protocol.rst, Architecture", fin_mid_header, NULL},
    {"S150", "half-close", MAY, STRICT, WITH_BULK,
     "A client that closes only its sending side may lose what is pending.",
     "no rule; for information", half_close, NULL},
    {"S151", "unplug-attached", MUST, STRICT, WITH_BULK | NEED_STIMULUS,
     "When the device is unplugged its connection is closed within 5 s.",
     "stub_dev.c of the Linux server", unplug_attached, NULL},
    {"S152", "server-detach", MUST, STRICT, WITH_BULK | NEED_OWN_SERVER,
     "When the server takes the device away the connection is closed.",
     "stub_dev.c of the Linux server", server_detach, NULL},
    {"S153", "server-stop", MAY, STRICT, NEED_DEVICE,
     "When the server stops, connections may go on (Linux) or are closed.", "usbipd.c", NULL,
     "it would be the end of the server for the cases behind it"},
    {"S154", "dead-peer", SHOULD, SOAK, NEED_DEVICE,
     "A client that vanishes without a FIN loses the device within minutes.",
     "usbipd-win, Server.cs", dead_peer, NULL},
    {"S155", "state-after-reimport", MAY, STRICT, NEED_DEVICE | NEED_ACM,
     "What a client has set may be kept for the next one, or reset.", "no rule; for information",
     state_after_reimport, NULL},
    {"S156", "reenumerate-same-port", SHOULD, STRICT, WITH_BULK | NEED_STIMULUS,
     "A device that comes back can be imported by the same busid.",
     "stub_dev.c of the Linux server", reenumerate_same_port, NULL},
    {"S157", "reenumerate-time", MAY, STRICT, WITH_BULK | NEED_STIMULUS,
     "How long that takes is in the time of this case.", "for information", reenumerate_same_port,
     NULL},
    {"S158", "attach-loop", MUST, STRICT | SOAK, NEED_DEVICE,
     "A device can be imported, used and given back many times.",
     "usbip_protocol.rst, Architecture", attach_loop, NULL},
    {"S159", "multi-client", MUST, STRICT, WITH_BULK,
     "Clients that list, and that are refused, do not disturb the owner.",
     "usbip_protocol.rst, Architecture", multi_client, NULL},
};

const struct section life_cycle = {"J", "Life of connections and devices", cases,
                                   sizeof cases / sizeof cases[0]};
