/* A. The OP phase: how the answer to an import may look. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "protocol/bytes.h"
#include "tests/conformance/client/client_trial.h"

enum {
    VERSION_OFFSET = 0,
    CODE_OFFSET = 2,
    STATUS_OFFSET = 4,
    BUSID_OFFSET = USBIP_OP_COMMON_SIZE + 0x100, /* in the answer to an import */
    BUSNUM_OFFSET = USBIP_OP_COMMON_SIZE + 0x120,
    DEVNUM_OFFSET = USBIP_OP_COMMON_SIZE + 0x124,
    SPEED_OFFSET = USBIP_OP_COMMON_SIZE + 0x128,
    SLOW_MS = 20,
    LATE_MS = 15000,
    TRUNCATED = 108,
    NEVER_USED = 0xdead, /* a seqnum */
};

/* How an answer to an import differs from what it should be. */
struct change {
    unsigned offset, size; /* of a field; size 0: none */
    uint32_t value;
    size_t cut; /* bytes that are sent; 0: all */
};

static void change_answer(struct trial *trial, struct link *link, uint16_t code,
                          struct usbip_buffer *bytes)
{
    const struct change *change = trial->server->context;
    (void)link;
    if (code != OP_REQ_IMPORT)
        return;
    if (change->size == 2)
        usbip_store_be16(bytes->data + change->offset, (uint16_t)change->value);
    else if (change->size == 4)
        usbip_store_be32(bytes->data + change->offset, change->value);
    if (change->cut > 0)
        bytes->size = change->cut;
}

static const struct hooks changing = {.op_reply = change_answer};

static struct link *start_with(struct trial *trial, struct change *change)
{
    trial->server->hooks = changing;
    trial->server->context = change;
    client_start(trial, TASK_SERIAL);
    return client_link(trial);
}

/* The connection stays open on our side, so a client that waits for more would wait in vain. */
static void expect_refusal(struct trial *trial, struct link *link)
{
    if (client_await_end(trial, link, trial->client->choice->timeout_ms))
        client_outcome(trial, "closes");
    else
        client_fault(trial, "the client does not close the connection");
    if (link->requests > 0)
        client_fault(trial, "the client sends requests all the same");
    client_await_exit(trial, link, CLIENT_FAILS, trial->client->choice->timeout_ms);
}

static void rep_version(struct trial *trial)
{
    static const uint16_t versions[] = {0x0110, 0x0000, 0x1101};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        struct change change = {VERSION_OFFSET, 2, versions[i], 0};
        client_variant(trial, "%04x", versions[i]);
        expect_refusal(trial, start_with(trial, &change));
    }
}

static void rep_code(struct trial *trial)
{
    static const uint16_t codes[] = {OP_REP_DEVLIST, OP_REQ_IMPORT, 0xffff};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        struct change change = {CODE_OFFSET, 2, codes[i], 0};
        client_variant(trial, "%04x", codes[i]);
        expect_refusal(trial, start_with(trial, &change));
    }
}

static void rep_status_each(struct trial *trial)
{
    char texts[USBIP_ST_ERROR + 1][CLIENT_ERROR_SIZE];
    for (uint32_t status = USBIP_ST_NA; status <= USBIP_ST_ERROR; status++) {
        struct change change = {STATUS_OFFSET, 4, status, USBIP_OP_COMMON_SIZE};
        client_variant(trial, "%" PRIu32, status);
        expect_refusal(trial, start_with(trial, &change));
        memcpy(texts[status], trial->client->process.error_text, CLIENT_ERROR_SIZE);
        for (uint32_t other = USBIP_ST_NA; other < status && client_has_command(trial); other++) {
            if (strcmp(texts[other], texts[status]) == 0)
                client_fault(trial, "the words are those of status %" PRIu32 ": %.200s", other,
                             texts[status]);
        }
    }
}

/* A part of an address or of another number is no word. */
static bool has_word(const char *text, const char *word)
{
    static const char part[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-";
    const size_t size = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at++) {
        bool starts = at == text || !strchr(part, at[-1]);
        if (starts && (at[size] == '\0' || !strchr(part, at[size])))
            return true;
    }
    return false;
}

static void rep_status_unknown(struct trial *trial)
{
    static const struct {
        uint32_t status;
        const char *words[2]; /* one of them tells the number */
    } unknown[] = {
        {6, {"6", "0x6"}}, {77, {"77", "0x4d"}}, {0xffffffff, {"4294967295", "0xffffffff"}}};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        struct change change = {STATUS_OFFSET, 4, unknown[i].status, USBIP_OP_COMMON_SIZE};
        const char *text = trial->client->process.error_text;
        bool told = false;
        client_variant(trial, "%" PRIu32, unknown[i].status);
        expect_refusal(trial, start_with(trial, &change));
        for (int j = 0; j < 2; j++)
            told |= has_word(text, unknown[i].words[j]);
        if (client_has_command(trial) && !told) {
            client_outcome(trial, "number not told");
            client_fault(trial, "the client does not tell the status: %.200s", text);
        }
    }
}

static void rep_status_with_body(struct trial *trial)
{
    struct change change = {STATUS_OFFSET, 4, USBIP_ST_NODEV, 0};
    expect_refusal(trial, start_with(trial, &change));
}

static void other_busid(struct trial *trial, struct link *link, uint16_t code,
                        struct usbip_buffer *bytes)
{
    (void)trial;
    (void)link;
    if (code == OP_REQ_IMPORT)
        memcpy(bytes->data + BUSID_OFFSET, "7-7", sizeof "7-7");
}

static void busid_mismatch(struct trial *trial)
{
    trial->server->hooks.op_reply = other_busid;
    client_start(trial, TASK_SERIAL);
    expect_refusal(trial, client_link(trial));
}

struct numbers {
    uint32_t busnum, devnum;
};

static void number_device(struct trial *trial, struct link *link, uint16_t code,
                          struct usbip_buffer *bytes)
{
    const struct numbers *numbers = trial->server->context;
    (void)link;
    if (code != OP_REQ_IMPORT)
        return;
    usbip_store_be32(bytes->data + BUSNUM_OFFSET, numbers->busnum);
    usbip_store_be32(bytes->data + DEVNUM_OFFSET, numbers->devnum);
}

/* That the devid is made of them is C018, which is a rule. */
static void devid_zero(struct trial *trial)
{
    static const struct hooks hooks = {.op_reply = number_device};
    static struct numbers numbers[] = {{0, 0}, {0xffff, 0xffff}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        client_variant(trial, "%" PRIu32 "-%" PRIu32, numbers[i].busnum, numbers[i].devnum);
        trial->server->context = &numbers[i];
        client_must_go_on(trial, client_open(trial, &hooks));
    }
}

static bool has_requested(struct trial *trial, void *context)
{
    const struct link *link = context;
    return link->requests > 0 || link->ended ||
           (client_has_command(trial) && !trial->client->process.running);
}

static void speed_values(struct trial *trial)
{
    char accepted[32] = "accepts", refused[32] = "refuses";
    for (uint32_t speed = USBIP_SPEED_UNKNOWN; speed <= USBIP_SPEED_SUPER_PLUS + 1; speed++) {
        struct change change = {SPEED_OFFSET, 4, speed, 0};
        client_variant(trial, "%" PRIu32, speed);
        struct link *link = start_with(trial, &change);
        client_wait(trial, has_requested, link, trial->client->choice->timeout_ms);
        char *list = link->requests > 0 ? accepted : refused;
        snprintf(list + strlen(list), sizeof accepted - strlen(list), " %" PRIu32, speed);
        if (link->requests == 0 && speed >= USBIP_SPEED_LOW && speed <= USBIP_SPEED_SUPER_PLUS)
            client_fault(trial, "speed %" PRIu32 " (%s) is refused", speed,
                         usbip_speed_name(speed));
        link_end(link); /* what it does with the device is of no interest */
    }
    client_summarize(trial, "%s%s%s", accepted, refused[strlen("refuses")] ? ", " : "",
                     refused[strlen("refuses")] ? refused : "");
}

static void import_truncated(struct trial *trial)
{
    struct change cut = {0, 0, 0, TRUNCATED};
    client_variant(trial, "FIN");
    struct link *link = start_with(trial, &cut);
    link_end(link);
    expect_refusal(trial, link);

    client_variant(trial, "silence");
    trial->client->told_timeout = true;
    cut.cut = USBIP_IMPORT_REPLY_SIZE - 1;
    link = start_with(trial, &cut);
    if (client_await_end(trial, link, trial->client->choice->patience_ms))
        client_outcome(trial, "closes");
    else
        client_fault(trial, "the client waits for the last byte for ever");
    client_await_exit(trial, link, CLIENT_FAILS, trial->client->choice->timeout_ms);
}

static void pace_answer(struct trial *trial, struct link *link, uint16_t code,
                        struct usbip_buffer *bytes)
{
    (void)trial;
    (void)bytes;
    link->piece = code == OP_REQ_IMPORT ? 1 : 0;
    link->pause_ms = code == OP_REQ_IMPORT ? SLOW_MS : 0;
}

static bool is_sent(struct trial *trial, void *context)
{
    const struct link *link = context;
    (void)trial;
    return link->out.size == 0 || link->ended;
}

static void import_slow(struct trial *trial)
{
    trial->server->hooks.op_reply = pace_answer;
    client_start(trial, TASK_SERIAL);
    struct link *link = client_link(trial);
    client_wait(trial, is_sent, link, 2 * SLOW_MS * USBIP_IMPORT_REPLY_SIZE);
    link->piece = 0;
    link->pause_ms = 0;
    if (!client_await_open(trial, link, trial->client->choice->timeout_ms))
        client_fault(trial, "the client does not wait for the answer");
    client_must_go_on(trial, link);
}

static void hold_answer(struct trial *trial, struct link *link, uint16_t code,
                        struct usbip_buffer *bytes)
{
    (void)trial;
    (void)bytes;
    link->held = code == OP_REQ_IMPORT;
}

static void import_late(struct trial *trial)
{
    trial->server->hooks.op_reply = hold_answer;
    client_start(trial, TASK_SERIAL);
    struct link *link = client_link(trial);
    client_await_end(trial, link, LATE_MS);
    link->held = false;
    if (link->ended || !client_await_open(trial, link, trial->client->choice->timeout_ms))
        client_fault(trial, "the client does not wait for the answer");
    client_must_go_on(trial, link);
}

static void add_ret_unlink(struct trial *trial, struct link *link, uint16_t code,
                           struct usbip_buffer *bytes)
{
    const struct usbip_header header = {
        .command = USBIP_RET_UNLINK, .seqnum = NEVER_USED, .ret_unlink.status = 0};
    (void)trial;
    (void)link;
    uint8_t *room = code == OP_REQ_IMPORT ? usbip_buffer_reserve(bytes, USBIP_HEADER_SIZE) : NULL;
    if (!room)
        return;
    usbip_encode_header(room, &header);
    bytes->size += USBIP_HEADER_SIZE;
}

static void import_coalesced(struct trial *trial)
{
    trial->server->hooks.op_reply = add_ret_unlink;
    client_start(trial, TASK_SERIAL);
    struct link *link = client_link(trial);
    client_await_open(trial, link, trial->client->choice->timeout_ms);
    enum reaction reaction = client_react(trial, link);
    if (reaction == REACTION_HANGS)
        client_fault(trial, "the client neither goes on nor closes the connection");
    client_finish(trial, link, reaction == REACTION_GOES_ON ? CLIENT_WELL : CLIENT_FAILS);
}

static const char source[] = "usbip_protocol.rst, OP_REP_IMPORT";

static const struct conformance_case cases[] = {
    {"C001", "rep-version", MUST, CORE, 0,
     "A reply of another protocol version is an error: the client closes and sends no more.",
     "usbip_protocol.rst, version 1.1.1", rep_version, NULL},
    {"C002", "rep-code", MUST, CORE, 0, "So is a reply code that does not fit the request.", source,
     rep_code, NULL},
    {"C003", "rep-status-each", MUST, CORE, 0,
     "A refusal has no body: the client waits for none, closes, and tells each status in words of "
     "its own.",
     source, rep_status_each, NULL},
    {"C004", "rep-status-unknown", SHOULD, CORE, 0,
     "A status that the client does not know is a failure all the same, and told as a number.",
     source, rep_status_unknown, NULL},
    {"C005", "rep-status-with-body", MUST, CORE, 0,
     "A refusal is one also when a server sends a body behind it.", source, rep_status_with_body,
     NULL},
    {"C006", "busid-mismatch", MUST, CORE, 0,
     "A device with another busid than the one asked for is given back.", source, busid_mismatch,
     NULL},
    {"C007", "devid-zero", MUST, CORE, 0,
     "busnum and devnum may have any value, and devid is made of them as they are.",
     "usbip_protocol.rst, devid", devid_zero, NULL},
    {"C008", "speed-values", MUST, CORE, 0,
     "Speeds 1 to 6 are accepted; 0 and those that are unknown may be.", source, speed_values,
     NULL},
    {"C009", "import-truncated", MUST, CORE, NEED_COMMAND,
     "An answer that is cut off is an error at once; one that never ends is one after a time-out.",
     source, import_truncated, NULL},
    {"C010", "import-slow", MUST, CORE | SOAK, 0, "An answer may come byte by byte.",
     "usbip_protocol.rst: sent in one or more pieces", import_slow, NULL},
    {"C011", "import-late", MUST, CORE | SOAK, 0,
     "An answer may take 15 s: Windows servers need 10 s for some devices.",
     "usbipd-win claims a device for up to 10 s", import_late, NULL},
    {"C012", "import-coalesced-with-nothing", MUST, CORE, 0,
     "A RET_UNLINK that nobody asked for, in the same segment, is ignored or a clean error.",
     source, import_coalesced, NULL},
};

const struct section client_op_phase = {"A", "OP phase", cases, sizeof cases / sizeof cases[0]};
