/* What the host sends, compared with what it sent when the recording was made. */
#include <string.h>

#include "emulator/replay/replay_internal.h"
#include "protocol/ftdi.h"

enum { MAX_SEARCH = 1024 }; /* requests to a port that a host may leave out, at once */

/* ---- What has come ---- */

void replay_forget_host(struct usbip_replay *replay)
{
    const struct replay_plan *plan = &replay->plan;
    for (uint32_t i = 0; i < plan->ask_count; i++)
        replay->done[i] = plan->asks[i].optional || (plan->asks[i].kind == REPLAY_READ &&
                                                     replay->options.mode != USBIP_REPLAY_STRICT);
    for (uint32_t i = 0; i < plan->read_count; i++)
        plan->reads[i].answered = 0;
    replay->prefix = 0;
}

static void finish_ask(struct usbip_replay *replay, uint32_t ask)
{
    replay->done[ask] = true;
    while (replay->prefix < replay->plan.ask_count && replay->done[replay->prefix])
        replay->prefix++;
}

static bool are_same(const struct usbip_capture_transfer *one,
                     const struct usbip_capture_transfer *other)
{
    return memcmp(one->setup, other->setup, USBIP_SETUP_SIZE) == 0 && one->size == other->size &&
           (one->size == 0 || memcmp(one->data, other->data, one->size) == 0);
}

/* Whether the transfer of the recording ended with an error that happens again. */
static bool fails_again(const struct usbip_replay *replay,
                        const struct usbip_capture_transfer *transfer)
{
    return replay->plan.has_errors && replay_is_error(transfer->status);
}

/* The host took back what has come now, or it failed then, and it sent the same again: where it
 * succeeds at once, nobody need wait for that. It may come all the same. `next` is behind it in the
 * asks of its endpoint. */
static void finish_repetition(struct usbip_replay *replay, const struct replay_endpoint *endpoint,
                              const struct replay_ask *ask, uint32_t next)
{
    const struct usbip_capture_transfer *transfer = replay_transfer(replay, ask->transfer);
    if (!ask->optional || fails_again(replay, transfer))
        return;
    for (uint32_t i = next; i < endpoint->count && i - next < MAX_SEARCH; i++) {
        const struct replay_ask *other = &replay->plan.asks[endpoint->asks[i]];
        const struct usbip_capture_transfer *again = replay_transfer(replay, other->transfer);
        if (other->port != ask->port)
            continue;
        if (!are_same(transfer, again) || again->status == -USBIP_EPIPE)
            return;
        finish_ask(replay, endpoint->asks[i]);
        if (!other->optional)
            return;
    }
}

/* In strict mode: whether all that was before this transfer in the recording has happened. *first
 * is what has not. */
static bool is_in_order(struct usbip_replay *replay, uint32_t ask, uint32_t *first)
{
    if (replay->options.mode != USBIP_REPLAY_STRICT)
        return true;
    while (replay->prefix < replay->plan.ask_count && replay->done[replay->prefix])
        replay->prefix++;
    *first = REPLAY_NO_TRANSFER;
    if (replay->prefix < ask)
        *first = replay->plan.asks[replay->prefix].transfer;
    const struct usbip_capture_transfer *transfer =
        replay_transfer(replay, replay->plan.asks[ask].transfer);
    for (unsigned i = 1; i < replay->plan.endpoint_count && *first == REPLAY_NO_TRANSFER; i++) {
        const struct replay_cursor *cursor = &replay->cursors[i];
        if (!cursor->endpoint->answers || cursor->next == cursor->endpoint->count)
            continue;
        uint32_t answer = cursor->endpoint->answers[cursor->next].transfer;
        if (replay_transfer(replay, answer)->complete_order < transfer->submit_order)
            *first = answer;
    }
    return *first == REPLAY_NO_TRANSFER;
}

static void check_order(struct usbip_replay *replay, struct replay_cursor *cursor, uint32_t ask,
                        const uint8_t *setup)
{
    uint32_t first;
    if (is_in_order(replay, ask, &first))
        return;
    const struct usbip_capture_transfer *expected = replay_transfer(replay, first);
    replay_diverged(
        replay,
        &(struct usbip_divergence){
            .kind = USBIP_DIVERGENCE_ORDER,
            .endpoint = cursor->endpoint->address,
            .record = replay_record(expected),
            .setup = setup,
            .expected_setup = expected->flags & USBIP_TRANSFER_HAS_SETUP ? expected->setup : NULL,
            .expected = expected->data,
            .expected_size = expected->size,
        },
        NULL);
}

void replay_count_missing(struct usbip_replay *replay)
{
    for (unsigned i = 0; i < replay->plan.endpoint_count; i++) {
        struct replay_cursor *cursor = &replay->cursors[i];
        const struct replay_endpoint *endpoint = cursor->endpoint;
        bool told = false;
        for (uint32_t j = cursor->next; endpoint->asks && j < endpoint->count; j++) {
            uint32_t ask = endpoint->asks[j];
            if (replay->done[ask])
                continue;
            cursor->counters.missing++;
            if (told || endpoint->address == 0)
                continue;
            const struct usbip_capture_transfer *transfer =
                replay_transfer(replay, replay->plan.asks[ask].transfer);
            uint32_t offset = j == cursor->next ? cursor->offset : 0;
            told = true;
            replay_diverged(replay,
                            &(struct usbip_divergence){
                                .kind = USBIP_DIVERGENCE_MISSING,
                                .endpoint = endpoint->address,
                                .record = replay_record(transfer),
                                .expected = transfer->data + offset,
                                .expected_size = transfer->size - offset,
                            },
                            NULL);
        }
    }
}

/* ---- Data ---- */

static struct replay_cursor *cursor_of(struct usbip_replay *replay, uint8_t address)
{
    struct replay_endpoint *endpoint = replay_plan_endpoint(&replay->plan, address);
    return endpoint ? &replay->cursors[endpoint - replay->plan.endpoints] : NULL;
}

static bool data_differ(const struct usbip_replay *replay, const uint8_t *expected,
                        const uint8_t *got, size_t size)
{
    return replay->options.match != USBIP_REPLAY_ANY && memcmp(expected, got, size) != 0;
}

/* The next ask that these bytes may belong to. What need not come counts when it does. */
static bool find_data(struct usbip_replay *replay, struct replay_cursor *cursor,
                      const uint8_t *data, size_t size)
{
    const struct replay_endpoint *endpoint = cursor->endpoint;
    for (; cursor->next < endpoint->count; cursor->next++, cursor->offset = 0) {
        uint32_t ask = endpoint->asks[cursor->next];
        const struct usbip_capture_transfer *transfer =
            replay_transfer(replay, replay->plan.asks[ask].transfer);
        if (!replay->done[ask] || cursor->offset > 0)
            return true;
        size_t common = size < transfer->size ? size : transfer->size;
        if (common > 0 && memcmp(transfer->data, data, common) == 0)
            return true;
    }
    return false;
}

/* Returns false when a hook says that it is none. */
static bool diverge_data(struct usbip_replay *replay, const struct replay_cursor *cursor,
                         const struct usbip_capture_transfer *transfer, const uint8_t *got,
                         size_t size)
{
    struct usbip_divergence divergence = {
        .kind = USBIP_DIVERGENCE_MORE_DATA,
        .endpoint = cursor->endpoint->address,
        .got = got,
        .got_size = size,
    };
    if (transfer) {
        divergence.kind = USBIP_DIVERGENCE_DATA;
        divergence.record = replay_record(transfer);
        divergence.expected = transfer->data + cursor->offset;
        divergence.expected_size = size;
    }
    return replay_diverged(replay, &divergence, NULL);
}

/* The bytes of one transfer of the recording have all come. Returns false when it stalled or
 * failed; that of the host has ended so then. */
static bool finish_data(struct usbip_replay *replay, struct replay_cursor *cursor)
{
    uint32_t ask = cursor->endpoint->asks[cursor->next++];
    uint32_t transfer = replay->plan.asks[ask].transfer;
    cursor->offset = 0;
    finish_ask(replay, ask);
    finish_repetition(replay, cursor->endpoint, &replay->plan.asks[ask], cursor->next);
    replay_matched(replay, cursor, transfer);
    const struct usbip_capture_transfer *recorded = replay_transfer(replay, transfer);
    uint8_t address = cursor->endpoint->address;
    if (recorded->status == -USBIP_EPIPE) {
        usbip_device_halt(replay->device, address);
        return false;
    }
    struct usbip_urb *urb = usbip_device_next_urb(replay->device, address);
    if (!fails_again(replay, recorded) || !urb)
        return true;
    usbip_urb_complete(urb, recorded->status, 0);
    return false;
}

bool replay_on_out(void *context, uint8_t address, const uint8_t *data, size_t size)
{
    struct usbip_replay *replay = context;
    struct replay_cursor *cursor = cursor_of(replay, address);
    bool well = true;
    if (!cursor)
        return true;
    replay->touched = true;
    for (size_t at = 0; at < size && well;) {
        if (!find_data(replay, cursor, data + at, size - at)) {
            cursor->counters.unexpected += diverge_data(replay, cursor, NULL, data + at, size - at);
            break;
        }
        uint32_t ask = cursor->endpoint->asks[cursor->next];
        const struct usbip_capture_transfer *transfer =
            replay_transfer(replay, replay->plan.asks[ask].transfer);
        uint32_t rest = transfer->size - cursor->offset;
        uint32_t piece = size - at < rest ? (uint32_t)(size - at) : rest;
        if (cursor->offset == 0)
            check_order(replay, cursor, ask, NULL);
        if (data_differ(replay, transfer->data + cursor->offset, data + at, piece))
            diverge_data(replay, cursor, transfer, data + at, piece);
        cursor->offset += piece;
        at += piece;
        if (cursor->offset == transfer->size)
            well = finish_data(replay, cursor);
    }
    replay_pump(replay);
    return well;
}

/* ---- Requests ---- */

/* The recorded answer to a read, or what a hook makes of it. */
static void give_answer(const struct usbip_replay *replay, struct usbip_urb *urb,
                        const struct usbip_capture_transfer *transfer)
{
    const struct usbip_replay_hooks *hooks = &replay->options.hooks;
    struct usbip_replay_bytes bytes = {transfer->data, transfer->size};
    if (hooks->edit)
        hooks->edit(hooks->context, 0, transfer->complete_record, &bytes);
    usbip_urb_complete_with(urb, bytes.data, bytes.size);
}

static void complete_like(const struct usbip_replay *replay, struct usbip_urb *urb,
                          const struct usbip_capture_transfer *transfer)
{
    if (transfer->status == -USBIP_EPIPE)
        usbip_urb_stall(urb);
    else if (fails_again(replay, transfer))
        usbip_urb_complete(urb, transfer->status, 0);
    else if (urb->direction == USBIP_DIR_IN && urb->setup.wLength > 0)
        give_answer(replay, urb, transfer);
    else
        usbip_urb_complete(urb, 0, urb->length);
}

/* What stays when all have been given: the last one that was no error, if there is one. */
static const struct replay_read *last_answer(const struct usbip_replay *replay,
                                             const struct replay_read *reads, uint32_t count)
{
    for (uint32_t i = count; i > 0; i--) {
        if (!replay_is_error(replay_transfer(replay, reads[i - 1].transfer)->status))
            return &reads[i - 1];
    }
    return &reads[count - 1];
}

/* Returns false for a standard request that the recording lacks: nothing is amiss then. */
static bool answer_read(struct usbip_replay *replay, struct usbip_urb *urb,
                        const uint8_t setup[USBIP_SETUP_SIZE])
{
    struct replay_cursor *cursor = &replay->cursors[0];
    uint32_t count;
    struct replay_read *reads = replay_plan_find_read(&replay->plan, setup, &count);
    if (!reads) {
        struct usbip_replay_bytes answer = {NULL, 0};
        if (replay_is_standard(setup))
            return false;
        if (replay_plan_was_silent(&replay->plan, setup))
            return true; /* and is so again, until the host takes it back */
        bool diverged = replay_diverged(replay,
                                        &(struct usbip_divergence){
                                            .kind = USBIP_DIVERGENCE_NO_ANSWER,
                                            .setup = setup,
                                        },
                                        &answer);
        cursor->counters.unexpected += diverged;
        if (answer.data)
            usbip_urb_complete_with(urb, answer.data, answer.size);
        else
            usbip_urb_stall(urb);
        return true;
    }
    bool again = reads->answered == count;
    const struct replay_read *read =
        again ? last_answer(replay, reads, count) : &reads[reads->answered];
    uint32_t transfer = read->transfer;
    if (!again) {
        reads->answered++;
        if (read->ask != UINT32_MAX) {
            check_order(replay, cursor, read->ask, setup);
            finish_ask(replay, read->ask);
        }
        replay_matched(replay, cursor, transfer);
    }
    complete_like(replay, urb, replay_transfer(replay, transfer));
    return true;
}

static bool is_same_request(const struct usbip_replay *replay,
                            const struct usbip_capture_transfer *transfer,
                            const struct usbip_urb *urb, const uint8_t setup[USBIP_SETUP_SIZE])
{
    switch (replay->options.match) {
    case USBIP_REPLAY_ANY:
        return memcmp(transfer->setup, setup, 2) == 0; /* bmRequestType and bRequest */
    case USBIP_REPLAY_SETUP:
        return memcmp(transfer->setup, setup, USBIP_SETUP_SIZE) == 0;
    case USBIP_REPLAY_EXACT:
        break;
    }
    return memcmp(transfer->setup, setup, USBIP_SETUP_SIZE) == 0 && transfer->size == urb->length &&
           (urb->length == 0 || memcmp(transfer->data, urb->data, urb->length) == 0);
}

/* FTDI's latency timer runs here, not in the recording. */
static void note_latency(struct usbip_replay *replay, const struct usbip_setup *setup,
                         unsigned port)
{
    if (!replay->plan.is_ftdi || setup->bmRequestType != (USB_TYPE_VENDOR | USB_RECIP_DEVICE) ||
        setup->bRequest != FTDI_SIO_SET_LATENCY_TIMER || (setup->wValue & 0xff) == 0)
        return;
    replay->latency_ms[port] = setup->wValue & 0xff;
}

/* The index in the asks of endpoint 0, or count. Those that have come and the optional ones are
 * passed. */
static uint32_t find_request(const struct usbip_replay *replay, unsigned port,
                             const struct usbip_urb *urb, const uint8_t setup[USBIP_SETUP_SIZE])
{
    const struct replay_endpoint *endpoint = &replay->plan.endpoints[0];
    unsigned searched = 0;
    for (uint32_t i = replay->next_request[port]; i < endpoint->count && searched < MAX_SEARCH;
         i++) {
        const struct replay_ask *ask = &replay->plan.asks[endpoint->asks[i]];
        if (ask->port != port)
            continue;
        if (is_same_request(replay, replay_transfer(replay, ask->transfer), urb, setup))
            return i;
        searched++;
    }
    return endpoint->count;
}

/* The first request to a port that the host has yet to send. */
static uint32_t next_request(const struct usbip_replay *replay, unsigned port)
{
    const struct replay_endpoint *endpoint = &replay->plan.endpoints[0];
    uint32_t i = replay->next_request[port];
    while (i < endpoint->count &&
           (replay->done[endpoint->asks[i]] || replay->plan.asks[endpoint->asks[i]].port != port))
        i++;
    return i;
}

static bool knows_request(const struct usbip_replay *replay, const struct replay_endpoint *endpoint,
                          const uint8_t setup[USBIP_SETUP_SIZE])
{
    for (uint32_t i = 0; i < endpoint->count; i++) {
        uint32_t transfer = replay->plan.asks[endpoint->asks[i]].transfer;
        if (memcmp(replay_transfer(replay, transfer)->setup, setup, 2) == 0)
            return true;
    }
    return false;
}

/* Returns false when a hook says that it is none. */
static bool diverge_request(struct usbip_replay *replay, const struct usbip_urb *urb,
                            const uint8_t setup[USBIP_SETUP_SIZE], uint32_t expected)
{
    const struct replay_endpoint *endpoint = &replay->plan.endpoints[0];
    struct usbip_divergence divergence = {
        .kind = USBIP_DIVERGENCE_NO_REQUEST,
        .setup = setup,
        .got = urb->data,
        .got_size = urb->length,
    };
    if (expected < endpoint->count) {
        const struct usbip_capture_transfer *transfer =
            replay_transfer(replay, replay->plan.asks[endpoint->asks[expected]].transfer);
        divergence.kind = USBIP_DIVERGENCE_REQUEST;
        divergence.record = replay_record(transfer);
        divergence.expected_setup = transfer->setup;
        divergence.expected = transfer->data;
        divergence.expected_size = transfer->size;
    }
    return replay_diverged(replay, &divergence, NULL);
}

/* The same request with other parameters, in the place of the recorded one: what the device said
 * then, it says now. */
static bool replaces_request(const struct usbip_replay *replay,
                             const struct replay_endpoint *endpoint, uint32_t expected,
                             const uint8_t setup[USBIP_SETUP_SIZE])
{
    if (expected == endpoint->count)
        return false;
    uint32_t transfer = replay->plan.asks[endpoint->asks[expected]].transfer;
    return memcmp(replay_transfer(replay, transfer)->setup, setup, 2) == 0;
}

static void pass_request(struct usbip_replay *replay, unsigned port, uint32_t index)
{
    replay->next_request[port] = index + 1;
    finish_ask(replay, replay->plan.endpoints[0].asks[index]);
}

static void answer_write(struct usbip_replay *replay, struct usbip_urb *urb,
                         const uint8_t setup[USBIP_SETUP_SIZE])
{
    struct replay_cursor *cursor = &replay->cursors[0];
    const struct replay_endpoint *endpoint = cursor->endpoint;
    bool any = replay->options.match == USBIP_REPLAY_ANY;
    unsigned port = replay_plan_port(&replay->plan, setup);
    uint32_t found = find_request(replay, port, urb, setup);
    uint32_t expected = next_request(replay, port);
    replay->touched = true;
    note_latency(replay, &urb->setup, port);
    if (found == endpoint->count) {
        bool accepted = knows_request(replay, endpoint, setup);
        if (!accepted || !any) {
            bool diverged = diverge_request(replay, urb, setup, expected);
            cursor->counters.unexpected += diverged;
            accepted |= !diverged;
        }
        if (replaces_request(replay, endpoint, expected, setup))
            pass_request(replay, port, expected);
        if (accepted)
            usbip_urb_complete(urb, 0, urb->length);
        else
            usbip_urb_stall(urb);
        return;
    }
    if (expected < found && !any)
        diverge_request(replay, urb, setup, expected);
    for (uint32_t i = replay->next_request[port]; i < found; i++) {
        if (replay->plan.asks[endpoint->asks[i]].port != port)
            continue;
        cursor->counters.skipped += !replay->done[endpoint->asks[i]];
        finish_ask(replay, endpoint->asks[i]);
    }
    uint32_t ask = endpoint->asks[found], transfer = replay->plan.asks[ask].transfer;
    check_order(replay, cursor, ask, setup);
    pass_request(replay, port, found);
    finish_repetition(replay, endpoint, &replay->plan.asks[ask], found + 1);
    replay_matched(replay, cursor, transfer);
    complete_like(replay, urb, replay_transfer(replay, transfer));
}

bool replay_on_control(void *context, struct usbip_urb *urb)
{
    struct usbip_replay *replay = context;
    uint8_t setup[USBIP_SETUP_SIZE];
    usbip_encode_setup(setup, &urb->setup);
    if (replay_is_read(setup)) {
        if (!answer_read(replay, urb, setup))
            return false;
    } else if (replay_is_standard(setup)) {
        return false;
    } else {
        answer_write(replay, urb, setup);
    }
    replay_pump(replay);
    return true;
}
