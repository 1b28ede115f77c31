#include "emulator/fault_link.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/bytes.h"

/* Places in replies. */
enum {
    VERSION_AT = 0,
    CODE_AT = 2,
    OP_STATUS_AT = 4,
    BUSID_AT = USBIP_OP_COMMON_SIZE + USBIP_PATH_SIZE,
    STATUS_AT = 20,
    ACTUAL_LENGTH_AT = 24,
};

/* passed, where a fault can happen once in a connection and has. */
#define DONE UINT64_MAX

struct usbip_held_reply {
    struct usbip_held_reply *next;
    uint64_t due_us;     /* those behind it wait too */
    unsigned swapped_by; /* id of the fault for which it waits for another to go first; 0: none */
    enum usbip_reorder_scope scope;
    uint64_t unswapped_due_us; /* when it was due without that */
    uint8_t endpoint;
    size_t size;
    uint8_t *data;
};

static uint64_t now_us(const struct usbip_fault_link *link)
{
    return link->faults->scheduler->now_us;
}

static uint64_t later_us(const struct usbip_fault_link *link, int64_t ms)
{
    return now_us(link) + (uint64_t)ms * 1000;
}

/* The state of the timer follows from what waits. Returns 0, or -1 when memory is out. */
static int set_timer(struct usbip_fault_link *link)
{
    uint64_t due_us = link->held ? link->held->due_us : USBIP_NEVER;
    if (link->late && link->late->due_us < due_us)
        due_us = link->late->due_us;
    if (link->stopped_by && link->reading_opens_us < due_us)
        due_us = link->reading_opens_us;
    if (usbip_fault_link_is_shut(link) && link->output_opens_us < due_us)
        due_us = link->output_opens_us;
    if (due_us != USBIP_NEVER)
        return usbip_timer_arm(link->faults->scheduler, &link->timer, due_us);
    usbip_timer_cancel(link->faults->scheduler, &link->timer);
    return 0;
}

void usbip_fault_link_init(struct usbip_fault_link *link, struct usbip_faults *faults,
                           void (*fired)(struct usbip_timer *timer), void *user)
{
    *link = (struct usbip_fault_link){
        .faults = faults,
        .next = faults->links,
        .active = faults->count > 0,
        .timer = {.fired = fired, .user = user},
    };
    if (link->next)
        link->next->previous = link;
    faults->links = link;
}

void usbip_fault_link_free(struct usbip_fault_link *link)
{
    if (link->previous)
        link->previous->next = link->next;
    else
        link->faults->links = link->next;
    if (link->next)
        link->next->previous = link->previous;
    usbip_fault_link_drop(link);
    if (usbip_timer_is_armed(&link->timer))
        usbip_timer_cancel(link->faults->scheduler, &link->timer);
    usbip_buffer_free(&link->unread);
}

void usbip_fault_link_removed(struct usbip_fault_link *link, unsigned id)
{
    if (link->stopped_by != id)
        return;
    /* Not at once: whoever removes it may be a script that this very input has called. */
    link->reading_opens_us = now_us(link);
    set_timer(link);
}

/* ---- Replies that are held back ---- */

static void free_held(struct usbip_fault_link *link, struct usbip_held_reply *held)
{
    link->held_bytes -= held->size;
    free(held->data);
    free(held);
}

static void drop(struct usbip_fault_link *link, struct usbip_held_reply *list)
{
    for (struct usbip_held_reply *next; list; list = next) {
        next = list->next;
        free_held(link, list);
    }
}

void usbip_fault_link_drop(struct usbip_fault_link *link)
{
    drop(link, link->held);
    drop(link, link->late);
    link->held = link->last_held = link->late = link->swapping = NULL;
}

/* Returns a copy that is on no list yet, or NULL. */
static struct usbip_held_reply *make_held(struct usbip_fault_link *link, const uint8_t *data,
                                          size_t size, const struct usbip_reply *reply,
                                          uint64_t due_us)
{
    struct usbip_held_reply *held = calloc(1, sizeof *held);
    uint8_t *copy = malloc(size);
    if (!held || !copy) {
        free(held);
        free(copy);
        return NULL;
    }
    memcpy(copy, data, size);
    *held = (struct usbip_held_reply){
        .due_us = due_us, .endpoint = reply->endpoint, .size = size, .data = copy};
    link->held_bytes += size;
    return held;
}

static void put_last(struct usbip_fault_link *link, struct usbip_held_reply *held)
{
    if (link->last_held)
        link->last_held->next = held;
    else
        link->held = held;
    link->last_held = held;
}

/* The one that waits for this reply to go first, or NULL. */
static struct usbip_held_reply *find_swapped(const struct usbip_fault_link *link,
                                             const struct usbip_reply *reply)
{
    struct usbip_held_reply *waits = link->swapping;
    if (!waits || reply->kind != USBIP_REPLY_SUBMIT)
        return NULL;
    bool same = waits->endpoint == reply->endpoint;
    return same == (waits->scope == USBIP_REORDER_WITHIN) ? waits : NULL;
}

/* What is sent changes places; where in the list and when stays. */
static void exchange(struct usbip_held_reply *a, struct usbip_held_reply *b)
{
    struct usbip_held_reply copy = *a;
    a->endpoint = b->endpoint;
    a->size = b->size;
    a->data = b->data;
    b->endpoint = copy.endpoint;
    b->size = copy.size;
    b->data = copy.data;
}

/* Lets the reply go before the one that waits: in its place, or right before it. */
static void swap(struct usbip_fault_link *link, struct usbip_held_reply *waits,
                 struct usbip_held_reply *held)
{
    link->swapping = NULL;
    waits->swapped_by = 0;
    waits->due_us = held->due_us;
    exchange(waits, held);
    if (waits->scope == USBIP_REORDER_WITHIN || link->last_held == waits) {
        put_last(link, held);
    } else {
        held->next = waits->next;
        waits->next = held;
    }
}

/* Nobody came to go first: then nothing has happened. */
static void give_up_swap(struct usbip_fault_link *link)
{
    struct usbip_held_reply *held = link->swapping;
    if (!held)
        return;
    struct usbip_fault *fault = usbip_fault_find(link->faults, held->swapped_by);
    link->swapping = NULL;
    held->swapped_by = 0;
    held->due_us = held->unswapped_due_us;
    if (fault)
        fault->fired--;
}

static int send_due(struct usbip_fault_link *link, struct usbip_held_reply *held,
                    struct usbip_buffer *output)
{
    if (usbip_buffer_append(output, held->data, held->size) < 0)
        return -1;
    free_held(link, held);
    return 0;
}

int usbip_fault_link_release(struct usbip_fault_link *link, struct usbip_buffer *output)
{
    for (struct usbip_held_reply *held; (held = link->held) && held->due_us <= now_us(link);) {
        if (held == link->swapping)
            give_up_swap(link);
        struct usbip_held_reply *next = held->next;
        if (send_due(link, held, output) < 0)
            return -1;
        link->held = next;
        if (!next)
            link->last_held = NULL;
    }
    for (struct usbip_held_reply *late; (late = link->late) && late->due_us <= now_us(link);) {
        struct usbip_held_reply *next = late->next;
        if (send_due(link, late, output) < 0)
            return -1;
        link->late = next;
    }
    return set_timer(link);
}

/* ---- One reply ---- */

/* What the faults make of a reply besides changing its bytes. */
struct verdict {
    bool swallowed;
    unsigned copies;
    uint64_t delay_us;
    struct usbip_fault *reordered; /* by this one */
    struct usbip_fault *late;      /* another reply is to follow */
};

/* Whether this is a reply that the fault looks for. */
static bool looks_for(const struct usbip_fault *fault, const struct usbip_fault_link *link,
                      const struct usbip_reply *reply, const uint8_t *pdu, size_t size)
{
    int64_t endpoint = usbip_fault_value(fault, USBIP_FAULT_ENDPOINT);
    bool is_op = reply->kind == USBIP_REPLY_DEVLIST || reply->kind == USBIP_REPLY_IMPORT;
    bool is_submit = reply->kind == USBIP_REPLY_SUBMIT;
    bool has_endpoint = is_submit || reply->unlinked;
    if (!usbip_fault_concerns(fault, link->device) ||
        (endpoint >= 0 && (!has_endpoint || endpoint != reply->endpoint)))
        return false;
    switch (fault->options.kind) {
    case USBIP_FAULT_DELAY:
    case USBIP_FAULT_DUPLICATE:
        return true;
    case USBIP_FAULT_OP_VERSION:
    case USBIP_FAULT_OP_CODE:
    case USBIP_FAULT_OP_STATUS: {
        int64_t wanted = usbip_fault_value(fault, USBIP_OP_REPLY);
        return is_op && (wanted == USBIP_OP_ANY ||
                         (wanted == USBIP_OP_DEVLIST) == (reply->kind == USBIP_REPLY_DEVLIST));
    }
    case USBIP_FAULT_OP_BUSID:
        return reply->kind == USBIP_REPLY_IMPORT && size == USBIP_IMPORT_REPLY_SIZE;
    case USBIP_FAULT_STATUS:
    case USBIP_FAULT_SWALLOW_RET_SUBMIT:
        return is_submit;
    case USBIP_FAULT_REORDER:
        return is_submit && !link->swapping;
    case USBIP_FAULT_LENGTH:
        return is_submit && (usbip_fault_value(fault, USBIP_LENGTH_BY) > 0 ||
                             usbip_load_be32(pdu + ACTUAL_LENGTH_AT) > 0);
    case USBIP_FAULT_ZERO_DATA:
        return is_submit && size > USBIP_HEADER_SIZE;
    case USBIP_FAULT_SWALLOW_RET_UNLINK:
        return reply->kind == USBIP_REPLY_UNLINK;
    case USBIP_FAULT_LATE_REPLY:
        return reply->unlinked;
    default:
        return false;
    }
}

static void change_status(const struct usbip_fault *fault, struct usbip_buffer *output,
                          size_t start)
{
    uint8_t *pdu = output->data + start;
    usbip_store_be32(pdu + STATUS_AT, (uint32_t)usbip_fault_value(fault, USBIP_STATUS_VALUE));
    if (usbip_fault_value(fault, USBIP_STATUS_DATA))
        return;
    usbip_store_be32(pdu + ACTUAL_LENGTH_AT, 0);
    output->size = start + USBIP_HEADER_SIZE;
}

static void change_length(const struct usbip_fault *fault, uint8_t *pdu)
{
    int64_t length = (int64_t)usbip_load_be32(pdu + ACTUAL_LENGTH_AT) +
                     usbip_fault_value(fault, USBIP_LENGTH_BY);
    usbip_store_be32(pdu + ACTUAL_LENGTH_AT, length < 0 ? 0 : (uint32_t)length);
}

static void apply(struct usbip_fault *fault, struct usbip_fault_link *link,
                  struct usbip_buffer *output, size_t start, struct verdict *verdict)
{
    uint8_t *pdu = output->data + start;
    uint32_t value = (uint32_t)usbip_fault_value(fault, USBIP_OP_VALUE);
    switch (fault->options.kind) {
    case USBIP_FAULT_DELAY:
        verdict->delay_us += (uint64_t)usbip_fault_value(fault, USBIP_DELAY_MS) * 1000;
        verdict->delay_us += usbip_fault_random(
            fault, (uint64_t)usbip_fault_value(fault, USBIP_DELAY_JITTER) * 1000);
        break;
    case USBIP_FAULT_DUPLICATE:
        verdict->copies++;
        break;
    case USBIP_FAULT_OP_VERSION:
        usbip_store_be16(pdu + VERSION_AT, (uint16_t)value);
        break;
    case USBIP_FAULT_OP_CODE:
        usbip_store_be16(pdu + CODE_AT, (uint16_t)value);
        break;
    case USBIP_FAULT_OP_STATUS:
        usbip_store_be32(pdu + OP_STATUS_AT, value);
        if (!usbip_fault_value(fault, USBIP_OP_STATUS_BODY)) {
            output->size = start + USBIP_OP_COMMON_SIZE;
            link->refused = true;
        }
        break;
    case USBIP_FAULT_OP_BUSID:
        memcpy(pdu + BUSID_AT, fault->options.busid, USBIP_BUSID_SIZE);
        break;
    case USBIP_FAULT_STATUS:
        change_status(fault, output, start);
        break;
    case USBIP_FAULT_LENGTH:
        change_length(fault, pdu);
        break;
    case USBIP_FAULT_ZERO_DATA:
        memset(pdu + USBIP_HEADER_SIZE, 0, output->size - start - USBIP_HEADER_SIZE);
        break;
    case USBIP_FAULT_REORDER:
        verdict->reordered = fault;
        break;
    case USBIP_FAULT_SWALLOW_RET_SUBMIT:
    case USBIP_FAULT_SWALLOW_RET_UNLINK:
        verdict->swallowed = true;
        break;
    case USBIP_FAULT_LATE_REPLY:
        verdict->late = fault;
        break;
    default:
        break;
    }
}

/* The RET_SUBMIT of an unlinked URB. */
static int add_late_reply(struct usbip_fault_link *link, const struct usbip_reply *unlink,
                          const struct usbip_fault *fault, uint64_t due_us)
{
    uint32_t size = (uint32_t)usbip_fault_value(fault, USBIP_LATE_REPLY_SIZE);
    int64_t ms = usbip_fault_value(fault, USBIP_LATE_REPLY_MS);
    uint8_t pdu[USBIP_HEADER_SIZE + USBIP_FAULT_MAX_LATE_SIZE] = {0};
    const struct usbip_header header = {
        .command = USBIP_RET_SUBMIT,
        .seqnum = unlink->unlinked_seqnum,
        .ret_submit = {.status = (int32_t)usbip_fault_value(fault, USBIP_LATE_REPLY_STATUS),
                       .actual_length = size},
    };
    const struct usbip_reply reply = {.kind = USBIP_REPLY_SUBMIT, .endpoint = unlink->endpoint};
    usbip_encode_header(pdu, &header);
    if (link->last_held && link->last_held->due_us > due_us)
        due_us = link->last_held->due_us;
    struct usbip_held_reply *late =
        make_held(link, pdu, USBIP_HEADER_SIZE + (unlink->in ? size : 0), &reply,
                  due_us + (uint64_t)ms * 1000);
    if (!late)
        return -1;
    if (ms == 0) {
        put_last(link, late);
        return 0;
    }
    struct usbip_held_reply **at = &link->late;
    while (*at && (*at)->due_us <= late->due_us)
        at = &(*at)->next;
    late->next = *at;
    *at = late;
    return 0;
}

static void wait_for_other(struct usbip_fault_link *link, struct usbip_held_reply *held,
                           const struct usbip_fault *fault)
{
    uint64_t deadline_us = later_us(link, usbip_fault_value(fault, USBIP_REORDER_MS));
    link->swapping = held;
    held->swapped_by = fault->id;
    held->scope = (enum usbip_reorder_scope)usbip_fault_value(fault, USBIP_REORDER_SCOPE);
    held->unswapped_due_us = held->due_us;
    if (held->due_us < deadline_us)
        held->due_us = deadline_us;
}

/* Takes the reply off the output and onto the list. */
static int hold(struct usbip_fault_link *link, struct usbip_buffer *output, size_t start,
                const struct usbip_reply *reply, const struct verdict *verdict)
{
    struct usbip_held_reply *swapped = find_swapped(link, reply);
    for (unsigned i = 0; i < verdict->copies; i++) {
        struct usbip_held_reply *held = make_held(link, output->data + start, output->size - start,
                                                  reply, now_us(link) + verdict->delay_us);
        if (!held)
            return -1;
        if (i == 0 && verdict->reordered)
            wait_for_other(link, held, verdict->reordered);
        if (i == 0 && swapped)
            swap(link, swapped, held);
        else
            put_last(link, held);
    }
    output->size = start;
    return 0;
}

int usbip_fault_link_reply(struct usbip_fault_link *link, struct usbip_buffer *output, size_t start,
                           const struct usbip_reply *reply)
{
    struct usbip_faults *faults = link->faults;
    struct verdict verdict = {.copies = 1};
    for (unsigned i = 0; i < faults->count && !verdict.swallowed; i++) {
        if (looks_for(faults->list[i], link, reply, output->data + start, output->size - start) &&
            usbip_fault_hits(faults->list[i], &link->progress))
            apply(faults->list[i], link, output, start, &verdict);
    }
    if (verdict.swallowed)
        output->size = start;
    /* A RET_UNLINK never overtakes the RET_SUBMIT before it. */
    if (reply->kind == USBIP_REPLY_UNLINK && !verdict.swallowed)
        give_up_swap(link);
    bool holds = link->held || verdict.delay_us > 0 || verdict.copies > 1 || verdict.reordered;
    if (holds && !verdict.swallowed && hold(link, output, start, reply, &verdict) < 0)
        return -1;
    if (verdict.late &&
        add_late_reply(link, reply, verdict.late, now_us(link) + verdict.delay_us) < 0)
        return -1;
    if (link->held || link->late)
        return usbip_fault_link_release(link, output);
    link->active = faults->count > 0 || link->stopped_by || usbip_fault_link_is_shut(link);
    return 0;
}

/* ---- Input and output ---- */

static bool is_gate(const struct usbip_fault_link *link, const struct usbip_fault *fault,
                    enum usbip_fault_kind kind)
{
    return fault->options.kind == kind && usbip_fault_concerns(fault, link->device) &&
           !usbip_fault_is_spent(fault);
}

/* Bytes until `after`; 0 when they have passed. */
static size_t bytes_left(const struct usbip_fault *fault, uint64_t passed)
{
    uint64_t after = (uint64_t)usbip_fault_value(fault, USBIP_FAULT_AFTER);
    return passed < after ? (size_t)(after - passed) : 0;
}

int64_t usbip_fault_link_admit(struct usbip_fault_link *link, const uint8_t *data, size_t size)
{
    struct usbip_faults *faults = link->faults;
    size_t admitted = link->stopped_by ? 0 : size;
    for (unsigned i = 0; i < faults->count && admitted > 0; i++) {
        if (!is_gate(link, faults->list[i], USBIP_FAULT_STOP_READING))
            continue;
        uint64_t passed = *usbip_fault_passed(&link->progress, faults->list[i]);
        if (passed != DONE && bytes_left(faults->list[i], passed) < admitted)
            admitted = bytes_left(faults->list[i], passed);
    }
    for (unsigned i = 0; i < faults->count && !link->stopped_by; i++) {
        struct usbip_fault *fault = faults->list[i];
        if (!is_gate(link, fault, USBIP_FAULT_STOP_READING))
            continue;
        uint64_t *passed = usbip_fault_passed(&link->progress, fault);
        if (*passed == DONE)
            continue;
        *passed += admitted;
        if (bytes_left(fault, *passed) > 0)
            continue;
        *passed = DONE;
        if (!usbip_fault_fires(fault))
            continue;
        int64_t ms = usbip_fault_value(fault, USBIP_STOP_READING_MS);
        link->stopped_by = fault->id;
        link->reading_opens_us = ms > 0 ? later_us(link, ms) : USBIP_NEVER;
        if (set_timer(link) < 0)
            return -1;
    }
    if (usbip_buffer_append(&link->unread, data + admitted, size - admitted) < 0)
        return -1;
    return (int64_t)admitted;
}

struct usbip_buffer usbip_fault_link_unread(struct usbip_fault_link *link)
{
    struct usbip_buffer unread = {0};
    if (!link->stopped_by || link->reading_opens_us > now_us(link))
        return unread;
    link->stopped_by = 0;
    unread = link->unread;
    link->unread = (struct usbip_buffer){0};
    return unread;
}

static bool is_cut(const struct usbip_fault_link *link, const struct usbip_fault *fault)
{
    return is_gate(link, fault, USBIP_FAULT_CLOSE) || is_gate(link, fault, USBIP_FAULT_RESET);
}

/* Whether the connection ends here. */
static enum usbip_cut find_cut(struct usbip_fault_link *link)
{
    struct usbip_faults *faults = link->faults;
    for (unsigned i = 0; i < faults->count; i++) {
        struct usbip_fault *fault = faults->list[i];
        uint64_t *passed = usbip_fault_passed(&link->progress, fault);
        if (!is_cut(link, fault) || *passed == DONE || bytes_left(fault, *passed) > 0)
            continue;
        *passed = DONE;
        if (usbip_fault_fires(fault))
            return fault->options.kind == USBIP_FAULT_CLOSE ? USBIP_CUT_CLOSE : USBIP_CUT_RESET;
    }
    return USBIP_CUT_NONE;
}

/* The largest piece that may leave now. */
static size_t piece_size(struct usbip_fault_link *link, size_t size)
{
    struct usbip_faults *faults = link->faults;
    for (unsigned i = 0; i < faults->count; i++) {
        const struct usbip_fault *fault = faults->list[i];
        uint64_t passed = *usbip_fault_passed(&link->progress, fault);
        bool is_fragment = is_gate(link, fault, USBIP_FAULT_FRAGMENT);
        if ((!is_fragment && !is_cut(link, fault)) || passed == DONE)
            continue;
        size_t limit = bytes_left(fault, passed);
        if (is_fragment && limit == 0)
            limit = (size_t)usbip_fault_value(fault, USBIP_FRAGMENT_SIZE);
        if (limit < size)
            size = limit;
    }
    return size;
}

size_t usbip_fault_link_let_out(struct usbip_fault_link *link, size_t size, enum usbip_cut *cut)
{
    struct usbip_faults *faults = link->faults;
    *cut = USBIP_CUT_NONE;
    if (size == 0 || usbip_fault_link_is_shut(link))
        return 0;
    *cut = find_cut(link);
    if (*cut != USBIP_CUT_NONE)
        return 0;
    size = piece_size(link, size);
    for (unsigned i = 0; i < faults->count; i++) {
        struct usbip_fault *fault = faults->list[i];
        uint64_t *passed = usbip_fault_passed(&link->progress, fault);
        bool is_fragment = is_gate(link, fault, USBIP_FAULT_FRAGMENT);
        if ((!is_fragment && !is_cut(link, fault)) || *passed == DONE)
            continue;
        if (is_fragment && bytes_left(fault, *passed) == 0 && usbip_fault_fires(fault))
            link->output_opens_us = later_us(link, usbip_fault_value(fault, USBIP_FRAGMENT_MS));
        *passed += size;
    }
    *cut = find_cut(link);
    /* Without a timer the output would wait for ever. */
    if (usbip_fault_link_is_shut(link) && set_timer(link) < 0)
        link->output_opens_us = 0;
    return size;
}
