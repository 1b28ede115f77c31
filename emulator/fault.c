#include "emulator/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/device.h"
#include "emulator/fault_link.h"

enum { WORD_SIZE = 64 };

/* ---- The table ---- */

#define MAX_BYTES INT64_C(1000000000000)

static const struct usbip_fault_parameter common[] = {
    {"device", USBIP_PARAMETER_BUSID, 0, 0, 0, 0, NULL, "only this busid (default: all)"},
    {"endpoint", USBIP_PARAMETER_HEX, USBIP_FAULT_ENDPOINT, 0, 0x8f, -1, NULL,
     "only this bEndpointAddress; 0 is control (default: any)"},
    {"after", USBIP_PARAMETER_NUMBER, USBIP_FAULT_AFTER, 0, MAX_BYTES, 0, NULL,
     "lets so many pass first, on each connection"},
    {"count", USBIP_PARAMETER_NUMBER, USBIP_FAULT_COUNT, 0, MAX_BYTES, 0, NULL,
     "happens so often; 0: no end"},
    {"chance", USBIP_PARAMETER_NUMBER, USBIP_FAULT_CHANCE, 0, 100, 100, NULL,
     "per cent, from --seed"},
};

#define NUMBER(key, place, min, max, standard, help)                                               \
    {                                                                                              \
        key, USBIP_PARAMETER_NUMBER, place, min, max, standard, NULL, help                         \
    }
#define HEX(key, place, max, standard, help)                                                       \
    {                                                                                              \
        key, USBIP_PARAMETER_HEX, place, 0, max, standard, NULL, help                              \
    }
#define WORD(key, place, words, standard, help)                                                    \
    {                                                                                              \
        key, USBIP_PARAMETER_WORD, place, 0, 0, standard, words, help                              \
    }
#define END                                                                                        \
    {                                                                                              \
        .key = NULL                                                                                \
    }
#define WHICH_REPLY WORD("reply", USBIP_OP_REPLY, "any|devlist|import", 0, "only in this one")

enum {
    LIMITS = 1 << USBIP_FAULT_AFTER | 1 << USBIP_FAULT_COUNT,
    CHANCES = LIMITS | 1 << USBIP_FAULT_CHANCE,
    REPLIES = CHANCES | 1 << USBIP_FAULT_ENDPOINT,
};

static const struct usbip_fault_parameter none[] = {END};

static const struct usbip_fault_type types[USBIP_FAULT_KINDS] = {
    [USBIP_FAULT_FRAGMENT] =
        {"fragment", "output leaves in pieces, each a write of its own; after counts bytes",
         (const struct usbip_fault_parameter[]){
             NUMBER("size", USBIP_FRAGMENT_SIZE, 1, 1 << 20, 1, "bytes of a piece"),
             NUMBER("ms", USBIP_FRAGMENT_MS, 0, USBIP_FAULT_MAX_MS, 0, "pause after each"), END},
         LIMITS},
    [USBIP_FAULT_DELAY] = {"delay", "replies are held back; their order stays",
                           (const struct usbip_fault_parameter[]){
                               NUMBER("ms", USBIP_DELAY_MS, 0, USBIP_FAULT_MAX_MS, 10, "how long"),
                               NUMBER("jitter", USBIP_DELAY_JITTER, 0, USBIP_FAULT_MAX_MS, 0,
                                      "up to so many ms more, at random"),
                               END},
                           REPLIES},
    [USBIP_FAULT_STOP_READING] = {"stop_reading",
                                  "nothing more is read from the client; after counts bytes",
                                  (const struct usbip_fault_parameter[]){
                                      NUMBER("ms", USBIP_STOP_READING_MS, 0, USBIP_FAULT_MAX_MS, 0,
                                             "for how long; 0: for ever"),
                                      END},
                                  CHANCES},
    [USBIP_FAULT_CLOSE] = {"close", "the connection is closed (FIN) at byte `after` of the output",
                           none, CHANCES},
    [USBIP_FAULT_RESET] = {"reset", "the connection is reset (RST) at byte `after` of the output",
                           none, CHANCES},
    [USBIP_FAULT_OP_VERSION] = {"op_version", "another version in the OP reply",
                                (const struct usbip_fault_parameter[]){
                                    HEX("value", USBIP_OP_VALUE, UINT16_MAX, 0x0110, "the version"),
                                    WHICH_REPLY, END},
                                CHANCES},
    [USBIP_FAULT_OP_CODE] = {"op_code", "another code in the OP reply",
                             (const struct usbip_fault_parameter[]){
                                 HEX("value", USBIP_OP_VALUE, UINT16_MAX, 0xffff, "the code"),
                                 WHICH_REPLY, END},
                             CHANCES},
    [USBIP_FAULT_OP_STATUS] =
        {"op_status", "another status in the OP reply",
         (const struct usbip_fault_parameter[]){
             NUMBER("value", USBIP_OP_VALUE, 0, UINT32_MAX, USBIP_ST_ERROR, "the status"),
             WHICH_REPLY,
             WORD("body", USBIP_OP_STATUS_BODY, "no|yes", 0,
                  "whether the rest of the reply follows, and the connection goes on"),
             END},
         CHANCES},
    [USBIP_FAULT_OP_BUSID] = {"op_busid", "another busid in OP_REP_IMPORT",
                              (const struct usbip_fault_parameter[]){
                                  {"value", USBIP_PARAMETER_BUSID, USBIP_OP_VALUE, 0, 0, 0, NULL,
                                   "the busid (default: 9-9)"},
                                  END},
                              CHANCES},
    [USBIP_FAULT_STATUS] = {"status", "another status in RET_SUBMIT",
                            (const struct usbip_fault_parameter[]){
                                NUMBER("value", USBIP_STATUS_VALUE, INT32_MIN, INT32_MAX,
                                       -USBIP_EPROTO, "the status, such as -71"),
                                WORD("data", USBIP_STATUS_DATA, "no|yes", 0,
                                     "whether the data stays; else it is lost and actual_length 0"),
                                END},
                            REPLIES},
    [USBIP_FAULT_LENGTH] = {"length", "actual_length in RET_SUBMIT is wrong, the data is not",
                            (const struct usbip_fault_parameter[]){NUMBER("by", USBIP_LENGTH_BY,
                                                                          -(1 << 20), 1 << 20, 1,
                                                                          "bytes more, or less"),
                                                                   END},
                            REPLIES},
    [USBIP_FAULT_ZERO_DATA] = {"zero_data", "the data in RET_SUBMIT is all zero", none, REPLIES},
    [USBIP_FAULT_DUPLICATE] = {"duplicate", "a reply is sent twice", none, REPLIES},
    [USBIP_FAULT_REORDER] = {"reorder", "a RET_SUBMIT waits for the next one, which goes first",
                             (const struct usbip_fault_parameter[]){
                                 WORD("scope", USBIP_REORDER_SCOPE, "within|across", 0,
                                      "the next one of the same endpoint, or of another"),
                                 NUMBER("ms", USBIP_REORDER_MS, 1, USBIP_FAULT_MAX_MS, 100,
                                        "how long it waits, at most"),
                                 END},
                             REPLIES},
    [USBIP_FAULT_SWALLOW_RET_SUBMIT] = {"swallow_ret_submit", "RET_SUBMIT is not sent", none,
                                        REPLIES},
    [USBIP_FAULT_SWALLOW_RET_UNLINK] = {"swallow_ret_unlink", "RET_UNLINK is not sent", none,
                                        REPLIES},
    [USBIP_FAULT_LATE_REPLY] =
        {"late_reply", "after its RET_UNLINK an unlinked URB has a RET_SUBMIT too",
         (const struct usbip_fault_parameter[]){
             NUMBER("ms", USBIP_LATE_REPLY_MS, 0, USBIP_FAULT_MAX_MS, 0, "how much later"),
             NUMBER("status", USBIP_LATE_REPLY_STATUS, INT32_MIN, INT32_MAX, 0, "its status"),
             NUMBER("size", USBIP_LATE_REPLY_SIZE, 0, USBIP_FAULT_MAX_LATE_SIZE, 0,
                    "its actual_length; an IN URB brings as many zeros"),
             END},
         REPLIES},
    [USBIP_FAULT_DISCONNECT] =
        {"disconnect", "the device unplugs itself and comes back",
         (const struct usbip_fault_parameter[]){
             WORD("on", USBIP_DISCONNECT_ON, "reset|touch|dtr|bytes", 0,
                  "RTS pulse while DTR is low; DTR falls at 1200 bit/s; DTR falls; "
                  "`after` bytes of data"),
             NUMBER("back", USBIP_DISCONNECT_BACK, -1, USBIP_FAULT_MAX_MS, 500,
                    "comes back after so many ms; -1: does not"),
             {"as", USBIP_PARAMETER_ID, USBIP_DISCONNECT_AS, 0, UINT32_MAX, -1, NULL,
              "comes back as VID:PID, until it is unplugged again; on=reset: if DTR is set when "
              "RTS falls"},
             END},
         CHANCES},
};

const struct usbip_fault_type *usbip_fault_type(enum usbip_fault_kind kind)
{
    return &types[kind];
}

const struct usbip_fault_parameter *usbip_fault_parameter(const struct usbip_fault_type *type,
                                                          unsigned i)
{
    const struct usbip_fault_parameter *own = type->own;
    for (; own->key; own++, i--) {
        if (i == 0)
            return own;
    }
    for (unsigned j = 0; j < sizeof common / sizeof common[0]; j++) {
        const struct usbip_fault_parameter *parameter = &common[j];
        bool has =
            parameter->kind == USBIP_PARAMETER_BUSID || (type->common >> parameter->place & 1);
        if (has && i-- == 0)
            return parameter;
    }
    return NULL;
}

/* ---- Parameters as text ---- */

/* Word number `value` of "a|b|c"; false when there is none. */
static bool word_at(const char *words, int64_t value, char word[WORD_SIZE])
{
    for (; value > 0 && words; value--) {
        words = strchr(words, '|');
        words += words != NULL;
    }
    if (words)
        snprintf(word, WORD_SIZE, "%.*s", (int)strcspn(words, "|"), words);
    return words != NULL;
}

void usbip_fault_format_value(const struct usbip_fault_parameter *parameter, int64_t value,
                              char text[32])
{
    char word[WORD_SIZE];
    switch (parameter->kind) {
    case USBIP_PARAMETER_WORD:
        if (word_at(parameter->words, value, word))
            snprintf(text, 32, "%.31s", word);
        break;
    case USBIP_PARAMETER_HEX:
        snprintf(text, 32, "0x%02" PRIx64, (uint64_t)value);
        break;
    case USBIP_PARAMETER_ID:
        snprintf(text, 32, "%04x:%04x", (unsigned)(value >> 16), (unsigned)(value & UINT16_MAX));
        break;
    default:
        snprintf(text, 32, "%" PRId64, value);
        break;
    }
}

static bool parse_number(const char *text, int64_t *value)
{
    char *end;
    const char *digits = text + (*text == '-');
    int base = strncmp(digits, "0x", 2) == 0 ? 16 : 10;
    errno = 0;
    *value = strtoll(text, &end, base);
    return errno == 0 && *digits >= '0' && *digits <= '9' && *end == '\0';
}

static bool parse_word(const char *words, const char *text, int64_t *value)
{
    char word[WORD_SIZE];
    for (*value = 0; word_at(words, *value, word); ++*value) {
        if (strcmp(word, text) == 0)
            return true;
    }
    return false;
}

static bool parse_id(const char *text, int64_t *value)
{
    static const char hex[] = "0123456789abcdefABCDEF";
    if (strspn(text, hex) != 4 || text[4] != ':' || strspn(text + 5, hex) != 4 || text[9])
        return false;
    *value = (int64_t)(strtoul(text, NULL, 16) << 16 | strtoul(text + 5, NULL, 16));
    return true;
}

/* What a parameter wants, for messages. */
static void describe_range(const struct usbip_fault_parameter *parameter, char text[128])
{
    char min[32], max[32];
    switch (parameter->kind) {
    case USBIP_PARAMETER_WORD:
        snprintf(text, 128, "one of %s", parameter->words);
        break;
    case USBIP_PARAMETER_ID:
        snprintf(text, 128, "VID:PID, four hex digits each");
        break;
    case USBIP_PARAMETER_BUSID:
        snprintf(text, 128, "a busid of 1 to %d bytes", USBIP_BUSID_SIZE - 1);
        break;
    default:
        usbip_fault_format_value(parameter, parameter->min, min);
        usbip_fault_format_value(parameter, parameter->max, max);
        snprintf(text, 128, "a number from %s to %s", min, max);
        break;
    }
}

static bool parse_value(struct usbip_fault_options *options,
                        const struct usbip_fault_parameter *parameter, const char *text)
{
    int64_t value = 0;
    bool is_endpoint = parameter->place == USBIP_FAULT_ENDPOINT;
    bool well = true;
    switch (parameter->kind) {
    case USBIP_PARAMETER_WORD:
        well = parse_word(parameter->words, text, &value);
        break;
    case USBIP_PARAMETER_ID:
        well = parse_id(text, &value);
        break;
    case USBIP_PARAMETER_BUSID: {
        char *busid = parameter->place ? options->busid : options->device;
        well = *text && strlen(text) < USBIP_BUSID_SIZE && !strpbrk(text, ",=");
        if (well)
            strcpy(busid, text);
        return well;
    }
    default:
        well = parse_number(text, &value) && value >= parameter->min && value <= parameter->max &&
               (!is_endpoint || (value & 0x7f) < 16);
        break;
    }
    if (well)
        options->values[parameter->place] = value;
    return well;
}

/* Whatever comes from outside, in a length that leaves room for the rest of the message. */
#define SHOWN "%.40s"

bool usbip_fault_options_init(struct usbip_fault_options *options, const char *name,
                              char error_text[USBIP_FAULT_ERROR_SIZE])
{
    unsigned kind = 0;
    while (kind < USBIP_FAULT_KINDS && strcmp(types[kind].name, name) != 0)
        kind++;
    if (kind == USBIP_FAULT_KINDS) {
        int size =
            snprintf(error_text, USBIP_FAULT_ERROR_SIZE, "there is no fault \"" SHOWN "\"", name);
        for (unsigned i = 0; i < USBIP_FAULT_KINDS; i++)
            size += snprintf(error_text + size, (size_t)(USBIP_FAULT_ERROR_SIZE - size), "%s%s",
                             i ? ", " : "; there are: ", types[i].name);
        return false;
    }
    *options = (struct usbip_fault_options){.kind = (enum usbip_fault_kind)kind, .busid = "9-9"};
    const struct usbip_fault_parameter *parameter;
    options->values[USBIP_FAULT_ENDPOINT] = -1;
    options->values[USBIP_FAULT_CHANCE] = 100;
    for (unsigned i = 0; (parameter = usbip_fault_parameter(&types[kind], i)) != NULL; i++) {
        if (parameter->kind != USBIP_PARAMETER_BUSID)
            options->values[parameter->place] = parameter->standard;
    }
    return true;
}

bool usbip_fault_options_set(struct usbip_fault_options *options, const char *key,
                             const char *value, char error_text[USBIP_FAULT_ERROR_SIZE])
{
    const struct usbip_fault_type *type = &types[options->kind];
    const struct usbip_fault_parameter *parameter;
    unsigned i = 0;
    while ((parameter = usbip_fault_parameter(type, i)) != NULL && strcmp(parameter->key, key) != 0)
        i++;
    if (!parameter) {
        int size = snprintf(error_text, USBIP_FAULT_ERROR_SIZE,
                            "%s: there is no parameter \"" SHOWN "\"", type->name, key);
        for (i = 0; (parameter = usbip_fault_parameter(type, i)) != NULL; i++)
            size += snprintf(error_text + size, (size_t)(USBIP_FAULT_ERROR_SIZE - size), "%s%s",
                             i ? ", " : "; there are: ", parameter->key);
        return false;
    }
    if (options->given >> i & 1) {
        snprintf(error_text, USBIP_FAULT_ERROR_SIZE, "%s: %s is given twice", type->name, key);
        return false;
    }
    options->given |= 1u << i;
    if (!parse_value(options, parameter, value)) {
        char range[128];
        describe_range(parameter, range);
        snprintf(error_text, USBIP_FAULT_ERROR_SIZE, "%s: %s must be %s, not \"" SHOWN "\"",
                 type->name, key, range, value);
        return false;
    }
    return true;
}

bool usbip_fault_options_parse(struct usbip_fault_options *options, const char *text,
                               char error_text[USBIP_FAULT_ERROR_SIZE])
{
    char copy[USBIP_FAULT_TEXT_SIZE];
    if (strlen(text) >= sizeof copy) {
        snprintf(error_text, USBIP_FAULT_ERROR_SIZE, "a fault is written with at most %zu bytes",
                 sizeof copy - 1);
        return false;
    }
    strcpy(copy, text);
    char *at = strchr(copy, ':');
    if (at)
        *at++ = '\0';
    if (!usbip_fault_options_init(options, copy, error_text))
        return false;
    while (at) {
        char *key = at, *value = strchr(key, '=');
        at = strchr(key, ',');
        if (at)
            *at++ = '\0';
        if (!value || (at && value > at)) {
            snprintf(error_text, USBIP_FAULT_ERROR_SIZE,
                     "%s: \"" SHOWN "\" is not KEY=VALUE; write NAME:KEY=VALUE,KEY=VALUE", copy,
                     key);
            return false;
        }
        *value++ = '\0';
        if (!usbip_fault_options_set(options, key, value, error_text))
            return false;
    }
    return true;
}

void usbip_fault_options_format(const struct usbip_fault_options *options,
                                char text[USBIP_FAULT_TEXT_SIZE])
{
    const struct usbip_fault_type *type = &types[options->kind];
    const struct usbip_fault_parameter *parameter;
    int size = snprintf(text, USBIP_FAULT_TEXT_SIZE, "%s", type->name);
    char separator = ':';
    for (unsigned i = 0; (parameter = usbip_fault_parameter(type, i)) != NULL; i++) {
        char value[32];
        if (!(options->given >> i & 1))
            continue;
        if (parameter->kind == USBIP_PARAMETER_BUSID)
            snprintf(value, sizeof value, "%s",
                     parameter->place ? options->busid : options->device);
        else
            usbip_fault_format_value(parameter, options->values[parameter->place], value);
        size += snprintf(text + size, (size_t)(USBIP_FAULT_TEXT_SIZE - size), "%c%s=%s", separator,
                         parameter->key, value);
        separator = ',';
    }
}

/* ---- The faults of a bus ---- */

void usbip_faults_init(struct usbip_faults *faults, struct usbip_scheduler *scheduler,
                       uint64_t seed)
{
    *faults = (struct usbip_faults){.scheduler = scheduler, .seed = seed};
}

void usbip_faults_free(struct usbip_faults *faults)
{
    for (unsigned i = 0; i < faults->count; i++)
        free(faults->list[i]);
    faults->count = 0;
    faults->slots = 0;
}

static void remove_at(struct usbip_faults *faults, unsigned at)
{
    struct usbip_fault *fault = faults->list[at];
    for (struct usbip_fault_link *link = faults->links; link; link = link->next)
        usbip_fault_link_removed(link, fault->id);
    faults->slots &= ~(UINT64_C(1) << fault->slot);
    faults->count--;
    memmove(&faults->list[at], &faults->list[at + 1],
            (faults->count - at) * sizeof(struct usbip_fault *));
    free(fault);
}

static void make_room(struct usbip_faults *faults)
{
    for (unsigned i = 0; i < faults->count; i++) {
        if (usbip_fault_is_spent(faults->list[i])) {
            remove_at(faults, i);
            return;
        }
    }
}

struct usbip_fault *usbip_fault_add(struct usbip_faults *faults,
                                    const struct usbip_fault_options *options, const void *owner,
                                    const struct usbip_device *device,
                                    char error_text[USBIP_FAULT_ERROR_SIZE])
{
    if (faults->count == USBIP_MAX_FAULTS)
        make_room(faults);
    if (faults->count == USBIP_MAX_FAULTS) {
        snprintf(error_text, USBIP_FAULT_ERROR_SIZE,
                 "%s: there are %d faults already, which is the limit; remove one",
                 types[options->kind].name, USBIP_MAX_FAULTS);
        return NULL;
    }
    struct usbip_fault *fault = calloc(1, sizeof *fault);
    if (!fault) {
        snprintf(error_text, USBIP_FAULT_ERROR_SIZE, "out of memory");
        return NULL;
    }
    fault->options = *options;
    fault->id = ++faults->last_id;
    fault->owner = owner;
    fault->device = device;
    fault->random = faults->seed ^ fault->id;
    while (faults->slots >> fault->slot & 1)
        fault->slot++;
    faults->slots |= UINT64_C(1) << fault->slot;
    faults->list[faults->count++] = fault;
    for (struct usbip_fault_link *link = faults->links; link; link = link->next)
        link->active = true;
    return fault;
}

struct usbip_fault *usbip_fault_find(const struct usbip_faults *faults, unsigned id)
{
    for (unsigned i = 0; i < faults->count; i++) {
        if (faults->list[i]->id == id)
            return faults->list[i];
    }
    return NULL;
}

bool usbip_fault_remove(struct usbip_faults *faults, unsigned id)
{
    for (unsigned i = 0; i < faults->count; i++) {
        if (faults->list[i]->id == id) {
            remove_at(faults, i);
            return true;
        }
    }
    return false;
}

void usbip_faults_set_device(struct usbip_faults *faults, const void *owner,
                             const struct usbip_device *device)
{
    for (unsigned i = 0; i < faults->count; i++) {
        if (faults->list[i]->owner == owner)
            faults->list[i]->device = device;
    }
}

void usbip_faults_remove_owner(struct usbip_faults *faults, const void *owner)
{
    for (unsigned i = faults->count; i > 0; i--) {
        if (faults->list[i - 1]->owner == owner)
            remove_at(faults, i - 1);
    }
}

/* ---- For the effects ---- */

bool usbip_fault_concerns(const struct usbip_fault *fault, const struct usbip_device *device)
{
    if (fault->owner)
        return device && fault->device == device;
    return !fault->options.device[0] ||
           (device && strcmp(usbip_device_name(device), fault->options.device) == 0);
}

bool usbip_fault_is_spent(const struct usbip_fault *fault)
{
    int64_t count = usbip_fault_value(fault, USBIP_FAULT_COUNT);
    return count > 0 && fault->fired >= (uint64_t)count;
}

/* splitmix64: any state is a good one. */
uint64_t usbip_fault_random(struct usbip_fault *fault, uint64_t max)
{
    uint64_t z = fault->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return max == UINT64_MAX ? z : z % (max + 1);
}

bool usbip_fault_fires(struct usbip_fault *fault)
{
    int64_t chance = usbip_fault_value(fault, USBIP_FAULT_CHANCE);
    if (usbip_fault_is_spent(fault) ||
        (chance < 100 && (int64_t)usbip_fault_random(fault, 99) >= chance))
        return false;
    fault->fired++;
    return true;
}

uint64_t *usbip_fault_passed(struct usbip_fault_progress *progress, const struct usbip_fault *fault)
{
    if (progress->slots[fault->slot].id != fault->id) {
        progress->slots[fault->slot].id = fault->id;
        progress->slots[fault->slot].passed = 0;
    }
    return &progress->slots[fault->slot].passed;
}

bool usbip_fault_hits(struct usbip_fault *fault, struct usbip_fault_progress *progress)
{
    uint64_t *passed = usbip_fault_passed(progress, fault);
    if (*passed < (uint64_t)usbip_fault_value(fault, USBIP_FAULT_AFTER)) {
        ++*passed;
        return false;
    }
    return usbip_fault_fires(fault);
}
