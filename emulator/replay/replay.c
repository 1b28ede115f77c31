#include "emulator/replay/replay.h"

#include <stdlib.h>
#include <string.h>

#include "emulator/capture/chip.h"
#include "emulator/replay/replay_internal.h"
#include "protocol/ftdi.h"

enum {
    US_PER_MS = 1000,
    NS_PER_US = 1000,
    MAX_FILL = 1 << 20, /* bytes of one IN transfer */
};

/* ---- When an answer may be given ---- */

static const struct replay_answer *answer_of(const struct replay_cursor *cursor)
{
    return cursor->endpoint->answers && cursor->next < cursor->endpoint->count
               ? &cursor->endpoint->answers[cursor->next]
               : NULL;
}

static uint64_t completed_ns(const struct usbip_replay *replay, const struct replay_answer *answer)
{
    return replay_transfer(replay, answer->transfer)->complete_ns;
}

/* How long the device took: since the host had sent what comes before, and since what it said
 * before on this endpoint. */
static uint64_t pause_us(const struct usbip_replay *replay, const struct replay_cursor *cursor,
                         const struct replay_answer *answer)
{
    uint64_t since = 0, until = completed_ns(replay, answer);
    if (answer->gate > 0)
        since = replay_transfer(replay, replay->plan.asks[answer->gate - 1].transfer)->submit_ns;
    if (cursor->next > 0 && completed_ns(replay, answer - 1) > since)
        since = completed_ns(replay, answer - 1);
    if (since == 0 || since >= until)
        return 0;
    double pause = (double)(until - since) / NS_PER_US / replay->options.speed;
    return pause < (double)INT64_MAX ? (uint64_t)pause : INT64_MAX;
}

/* Whether another endpoint has to say something first; step by step, what it may say counts as
 * said. */
static bool is_overtaking(const struct usbip_replay *replay, const struct replay_answer *answer)
{
    uint32_t order = replay_transfer(replay, answer->transfer)->complete_order;
    for (unsigned i = 1; i < replay->plan.endpoint_count; i++) {
        const struct replay_answer *other = answer_of(&replay->cursors[i]);
        bool may_be_said = replay->options.mode == USBIP_REPLAY_STEP && replay->cursors[i].asked;
        if (other && !may_be_said &&
            replay_transfer(replay, other->transfer)->complete_order < order)
            return true;
    }
    return false;
}

static void ask_hook(struct usbip_replay *replay, struct replay_cursor *cursor,
                     const struct replay_answer *answer)
{
    const struct usbip_replay_hooks *hooks = &replay->options.hooks;
    const uint8_t *recorded = cursor->data.data;
    if (!hooks->edit || answer->status != 0)
        return;
    hooks->edit(hooks->context, cursor->endpoint->address,
                replay_transfer(replay, answer->transfer)->complete_record, &cursor->data);
    if (cursor->data.data == recorded)
        return;
    uint8_t *copy = malloc(cursor->data.size + 1);
    if (copy) {
        memcpy(copy, cursor->data.data, cursor->data.size);
    } else {
        cursor->data.size = 0;
        usbip_log(usbip_device_log(replay->device), USBIP_LOG_ERROR, "%s: out of memory",
                  usbip_device_name(replay->device));
    }
    cursor->edited = copy;
    cursor->data.data = copy;
}

static bool is_ftdi_data(const struct usbip_replay *replay, const struct replay_cursor *cursor)
{
    return replay->plan.is_ftdi && cursor->endpoint->merges;
}

/* Whether the answer at the cursor may be given now. In timed mode, a timer asks again. */
static bool is_released(struct usbip_replay *replay, struct replay_cursor *cursor)
{
    const struct replay_answer *answer = answer_of(cursor);
    enum usbip_replay_mode mode = replay->options.mode;
    if (!answer || (mode != USBIP_REPLAY_FREE && replay->prefix < answer->gate) ||
        (mode == USBIP_REPLAY_STRICT && is_overtaking(replay, answer)))
        return false;
    struct usbip_scheduler *scheduler = replay->scheduler;
    if (mode == USBIP_REPLAY_STEP && !cursor->asked) {
        if (replay->steps == 0 || is_overtaking(replay, answer))
            return false;
        replay->steps--;
    }
    if (!cursor->asked) {
        uint32_t header =
            is_ftdi_data(replay, cursor) && answer->status == 0 ? FTDI_STATUS_SIZE : 0;
        cursor->asked = true;
        cursor->data = (struct usbip_replay_bytes){answer->data ? answer->data + header : NULL,
                                                   answer->size - header};
        cursor->due_us = scheduler->now_us;
        if (mode == USBIP_REPLAY_TIMED)
            cursor->due_us += pause_us(replay, cursor, answer);
        ask_hook(replay, cursor, answer);
    }
    if (cursor->due_us <= scheduler->now_us)
        return true;
    /* Out of memory: then without the pause. */
    return !usbip_timer_is_armed(&cursor->timer) &&
           usbip_timer_arm(scheduler, &cursor->timer, cursor->due_us) < 0;
}

/* The same with a transfer in hand: nobody else may be asked then, who could do anything to it. */
static bool is_released_at_once(struct usbip_replay *replay, struct replay_cursor *cursor)
{
    return (cursor->asked || !replay->options.hooks.edit) && is_released(replay, cursor);
}

static void forget_data(struct replay_cursor *cursor)
{
    free(cursor->edited);
    cursor->edited = NULL;
    cursor->asked = false;
    cursor->offset = 0;
}

static void finish_answer(struct usbip_replay *replay, struct replay_cursor *cursor)
{
    uint32_t transfer = answer_of(cursor)->transfer;
    forget_data(cursor);
    cursor->next++;
    replay_matched(replay, cursor, transfer);
}

/* ---- IN transfers ---- */

/* A stall, or the transfer ends with the recorded error and with what had come of it. */
static void fail(struct usbip_replay *replay, struct replay_cursor *cursor, struct usbip_urb *urb)
{
    int32_t status = answer_of(cursor)->status;
    size_t size = cursor->data.size < urb->length ? cursor->data.size : urb->length;
    if (status == -USBIP_EPIPE) {
        finish_answer(replay, cursor);
        usbip_device_halt(replay->device, cursor->endpoint->address);
        return;
    }
    uint8_t *room = usbip_urb_reserve(urb, (uint32_t)size);
    if (room && size > 0)
        memcpy(room, cursor->data.data, size);
    finish_answer(replay, cursor);
    cursor->after_full = false;
    usbip_urb_complete(urb, status, room ? (uint32_t)size : 0);
}

/* Whether the device went on in the next transfer because this one was full. */
static bool was_full(const struct usbip_replay *replay, const struct replay_cursor *cursor,
                     const struct replay_answer *answer)
{
    const struct usbip_capture_transfer *transfer = replay_transfer(replay, answer->transfer);
    return cursor->endpoint->merges && answer->size > 0 &&
           answer->size % cursor->endpoint->packet_size == 0 &&
           (!(transfer->flags & USBIP_TRANSFER_REQUESTED_KNOWN) ||
            transfer->requested_length == answer->size);
}

/* An empty transfer ends one that was full; after a short one it says nothing. */
static bool says_nothing(const struct usbip_replay *replay, const struct replay_cursor *cursor,
                         const struct replay_answer *answer)
{
    return answer->status == 0 && cursor->data.size == 0 && cursor->endpoint->merges &&
           !cursor->after_full && replay->options.mode != USBIP_REPLAY_STRICT;
}

/* Takes up to `size` bytes from the answers that follow each other, into room when there is some.
 * Returns how many. */
static size_t take_data(struct usbip_replay *replay, struct replay_cursor *cursor, uint8_t *room,
                        size_t size)
{
    size_t taken = 0;
    while (taken < size) {
        const struct replay_answer *answer = answer_of(cursor);
        size_t piece = cursor->data.size - cursor->offset;
        if (piece > size - taken)
            piece = size - taken;
        if (room && piece > 0)
            memcpy(room + taken, cursor->data.data + cursor->offset, piece);
        taken += piece;
        cursor->offset += (uint32_t)piece;
        if (cursor->offset < cursor->data.size)
            break;
        bool goes_on =
            was_full(replay, cursor, answer) && replay->options.mode != USBIP_REPLAY_STRICT;
        finish_answer(replay, cursor);
        answer = answer_of(cursor);
        if (!goes_on || !answer || !is_released_at_once(replay, cursor) || answer->status != 0 ||
            cursor->data.size == 0)
            break;
    }
    return taken;
}

static void send_data(struct usbip_replay *replay, struct replay_cursor *cursor,
                      struct usbip_urb *urb)
{
    size_t waiting = cursor->data.size - cursor->offset;
    uint32_t length = urb->length;
    if (waiting > length) {
        /* One answer for several transfers. */
        struct usbip_in_fit fit = usbip_urb_fit(urb, waiting);
        const uint8_t *data = cursor->data.data + cursor->offset;
        uint8_t *room = usbip_urb_reserve(urb, fit.delivered);
        if (room && fit.delivered > 0)
            memcpy(room, data, fit.delivered);
        cursor->offset += fit.taken;
        cursor->after_full = true;
        if (cursor->offset >= cursor->data.size)
            finish_answer(replay, cursor);
        usbip_urb_complete(urb, room ? fit.status : -USBIP_ENOMEM, room ? fit.delivered : 0);
        return;
    }
    uint32_t size = length < MAX_FILL ? length : MAX_FILL;
    if (size < waiting)
        size = (uint32_t)waiting;
    uint8_t *room = usbip_urb_reserve(urb, size);
    uint32_t taken = 0;
    if (waiting > 0)
        taken = (uint32_t)take_data(replay, cursor, room, size);
    else
        finish_answer(replay, cursor);
    cursor->after_full = taken > 0 && taken == length;
    usbip_urb_complete(urb, room ? 0 : -USBIP_ENOMEM, room ? taken : 0);
}

static void pump_data(struct usbip_replay *replay, struct replay_cursor *cursor)
{
    struct usbip_urb *urb;
    uint8_t address = cursor->endpoint->address;
    while (is_released(replay, cursor)) {
        if (says_nothing(replay, cursor, answer_of(cursor))) {
            finish_answer(replay, cursor);
            continue;
        }
        urb = usbip_device_next_urb(replay->device, address);
        if (!urb)
            return;
        replay->touched = true;
        if (answer_of(cursor)->status != 0)
            fail(replay, cursor, urb);
        else
            send_data(replay, cursor, urb);
    }
}

/* ---- FTDI: packets with status bytes, paced by the latency timer ---- */

static uint32_t latency_us(const struct usbip_replay *replay, const struct replay_cursor *cursor)
{
    unsigned port = ((cursor->endpoint->address & 0x0fu) - 1) / 2;
    if (port >= REPLAY_MAX_PORTS)
        port = 0;
    return replay->latency_ms[port] * US_PER_MS;
}

/* One packet at the end of the room. Returns its size; 0: it does not fit. */
static uint32_t put_packet(struct usbip_replay *replay, struct replay_cursor *cursor, uint8_t *room,
                           uint32_t size)
{
    const struct replay_answer *answer = answer_of(cursor);
    size_t rest = cursor->data.size - cursor->offset;
    uint32_t most = cursor->endpoint->packet_size < size ? cursor->endpoint->packet_size : size;
    if (most < FTDI_STATUS_SIZE || (rest > 0 && most == FTDI_STATUS_SIZE))
        return 0;
    most -= FTDI_STATUS_SIZE;
    uint32_t piece = rest < most ? (uint32_t)rest : most;
    memcpy(cursor->status, answer->data, FTDI_STATUS_SIZE);
    memcpy(room, cursor->status, FTDI_STATUS_SIZE);
    if (piece > 0)
        memcpy(room + FTDI_STATUS_SIZE, cursor->data.data + cursor->offset, piece);
    cursor->offset += piece;
    if (cursor->offset == cursor->data.size)
        finish_answer(replay, cursor);
    return FTDI_STATUS_SIZE + piece;
}

/* Packets, as far as they may be sent and fit, or the one that says that there are none. */
static void send_packets(struct usbip_replay *replay, struct replay_cursor *cursor,
                         struct usbip_urb *urb)
{
    uint32_t length = urb->length < MAX_FILL ? urb->length : MAX_FILL;
    uint32_t size = 0, packet;
    uint8_t *room = usbip_urb_reserve(urb, length);
    if (!room) {
        usbip_urb_complete(urb, -USBIP_ENOMEM, 0);
        return;
    }
    do {
        packet = 0;
        if (is_released_at_once(replay, cursor) && answer_of(cursor)->status == 0)
            packet = put_packet(replay, cursor, room + size, length - size);
        if (packet == 0 && length - size >= FTDI_STATUS_SIZE) {
            memcpy(room + size, cursor->status, FTDI_STATUS_SIZE);
            packet = FTDI_STATUS_SIZE;
        }
        size += packet;
    } while (packet == cursor->endpoint->packet_size && size < length);
    cursor->last_sent_us = replay->scheduler->now_us;
    usbip_urb_complete(urb, 0, size);
}

static void pump_packets(struct usbip_replay *replay, struct replay_cursor *cursor)
{
    struct usbip_scheduler *scheduler = replay->scheduler;
    struct usbip_urb *urb = NULL;
    while (is_released(replay, cursor) &&
           (urb = usbip_device_next_urb(replay->device, cursor->endpoint->address)) != NULL) {
        replay->touched = true;
        if (answer_of(cursor)->status != 0)
            fail(replay, cursor, urb);
        else
            send_packets(replay, cursor, urb);
    }
    urb = usbip_device_next_urb(replay->device, cursor->endpoint->address);
    uint64_t due_us = cursor->last_sent_us + latency_us(replay, cursor);
    if (due_us < scheduler->now_us)
        due_us = scheduler->now_us;
    if (!urb)
        usbip_timer_cancel(scheduler, &cursor->latency_timer);
    else if (!usbip_timer_is_armed(&cursor->latency_timer) ||
             cursor->latency_timer.due_us != due_us)
        usbip_timer_arm(scheduler, &cursor->latency_timer, due_us);
}

static void latency_passed(struct usbip_timer *timer)
{
    struct replay_cursor *cursor = timer->user;
    struct usbip_replay *replay = cursor->replay;
    struct usbip_urb *urb = usbip_device_next_urb(replay->device, cursor->endpoint->address);
    if (urb)
        send_packets(replay, cursor, urb);
    replay_pump(replay);
}

/* ---- The end, and beginning again ---- */

static bool is_exhausted(const struct usbip_replay *replay)
{
    for (unsigned i = 1; i < replay->plan.endpoint_count; i++) {
        const struct replay_cursor *cursor = &replay->cursors[i];
        const struct replay_endpoint *endpoint = cursor->endpoint;
        if (endpoint->answers && cursor->next < endpoint->count)
            return false;
        for (uint32_t j = cursor->next; endpoint->asks && j < endpoint->count; j++) {
            if (!replay->done[endpoint->asks[j]])
                return false;
        }
    }
    return replay->touched;
}

static void rewind_replay(struct usbip_replay *replay)
{
    replay_forget_host(replay);
    memset(replay->next_request, 0, sizeof replay->next_request);
    replay->touched = false;
    for (unsigned i = 0; i < replay->plan.endpoint_count; i++) {
        struct replay_cursor *cursor = &replay->cursors[i];
        forget_data(cursor);
        usbip_timer_cancel(replay->scheduler, &cursor->timer);
        cursor->next = 0;
        cursor->after_full = false;
        memcpy(cursor->status, cursor->endpoint->status, sizeof cursor->status);
    }
}

/* The data once more; the port stays as the host has set it up. */
static void play_again(struct usbip_replay *replay)
{
    rewind_replay(replay);
    replay->round++;
    for (uint32_t i = 0; i < replay->plan.ask_count; i++)
        replay->done[i] |= replay->plan.asks[i].kind != REPLAY_OUT;
    while (replay->prefix < replay->plan.ask_count && replay->done[replay->prefix])
        replay->prefix++;
}

static void on_end(struct usbip_timer *timer)
{
    struct usbip_replay *replay = timer->user;
    if (replay->options.end == USBIP_REPLAY_DISCONNECT)
        usbip_device_unplug(replay->device);
}

static void stall_all(struct usbip_replay *replay)
{
    for (unsigned i = 1; i < replay->plan.endpoint_count; i++) {
        uint8_t address = replay->plan.endpoints[i].address;
        if ((address & USB_DIR_IN) && usbip_device_next_urb(replay->device, address))
            usbip_device_halt(replay->device, address);
    }
}

/* Returns whether there may be more to say now. */
static bool reach_end(struct usbip_replay *replay)
{
    if (!is_exhausted(replay))
        return false;
    switch (replay->options.end) {
    case USBIP_REPLAY_HOLD:
        break;
    case USBIP_REPLAY_LOOP:
        play_again(replay);
        return true;
    case USBIP_REPLAY_STALL:
        stall_all(replay);
        break;
    case USBIP_REPLAY_DISCONNECT:
        /* Not from within a call of the session. */
        if (!usbip_timer_is_armed(&replay->end_timer) && usbip_device_is_plugged(replay->device))
            usbip_timer_arm(replay->scheduler, &replay->end_timer, replay->scheduler->now_us);
        break;
    }
    return false;
}

static uint64_t progress(const struct usbip_replay *replay)
{
    uint64_t sum = replay->round;
    for (unsigned i = 1; i < replay->plan.endpoint_count; i++)
        sum += replay->cursors[i].counters.matched;
    return sum;
}

void replay_pump(struct usbip_replay *replay)
{
    uint64_t before;
    if (replay->pumping)
        return;
    replay->pumping = true;
    do {
        before = progress(replay);
        for (unsigned i = 1; i < replay->plan.endpoint_count; i++) {
            struct replay_cursor *cursor = &replay->cursors[i];
            if (!(cursor->endpoint->address & USB_DIR_IN))
                continue;
            if (is_ftdi_data(replay, cursor))
                pump_packets(replay, cursor);
            else
                pump_data(replay, cursor);
        }
        /* In strict mode, and step by step, what one endpoint has said releases what another has to
         * say. */
    } while (reach_end(replay) ||
             ((replay->options.mode == USBIP_REPLAY_STRICT || replay->steps > 0) &&
              progress(replay) != before));
    replay->pumping = false;
}

static void pause_passed(struct usbip_timer *timer)
{
    struct replay_cursor *cursor = timer->user;
    replay_pump(cursor->replay);
}

/* ---- The behaviour ---- */

static void on_start(void *context, struct usbip_device *device)
{
    struct usbip_replay *replay = context;
    replay->device = device;
    rewind_replay(replay);
}

static void on_attach(void *context)
{
    struct usbip_replay *replay = context;
    if (!replay->attached || replay->options.import == USBIP_REPLAY_RESTART) {
        replay->round = 0;
        replay->steps = 0;
        rewind_replay(replay);
    }
    replay->attached = true;
    for (unsigned i = 0; i < REPLAY_MAX_PORTS; i++)
        replay->latency_ms[i] = FTDI_DEFAULT_LATENCY_MS;
}

static void on_detach(void *context)
{
    struct usbip_replay *replay = context;
    if (replay->options.import == USBIP_REPLAY_RESTART && replay->touched && replay->round == 0)
        replay_count_missing(replay);
    for (unsigned i = 0; i < replay->plan.endpoint_count; i++) {
        usbip_timer_cancel(replay->scheduler, &replay->cursors[i].timer);
        usbip_timer_cancel(replay->scheduler, &replay->cursors[i].latency_timer);
    }
}

static void on_in(void *context, uint8_t endpoint, size_t size)
{
    (void)endpoint;
    (void)size;
    replay_pump(context);
}

static const struct usbip_behaviour_ops replay_ops = {
    .start = on_start,
    .attach = on_attach,
    .detach = on_detach,
    .control = replay_on_control,
    .out = replay_on_out,
    .in = on_in,
};

struct usbip_replay *usbip_replay_of(const struct usbip_device *device)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(device);
    return behaviour->ops == &replay_ops ? behaviour->context : NULL;
}

const char *usbip_replay_chip_name(const struct usbip_replay *replay)
{
    const struct usbip_chip *chip = replay->description.chip;
    return chip ? chip->name : "an unknown chip";
}

bool usbip_replay_steps(const struct usbip_replay *replay)
{
    return replay->options.mode == USBIP_REPLAY_STEP;
}

void usbip_replay_finish(struct usbip_replay *replay)
{
    if (replay->options.import == USBIP_REPLAY_CONTINUE && replay->touched && replay->round == 0)
        replay_count_missing(replay);
    replay->touched = false;
}

void usbip_replay_step(struct usbip_replay *replay, uint32_t count)
{
    replay->steps += count;
    if (usbip_device_is_claimed(replay->device))
        replay_pump(replay);
}

/* ---- Life ---- */

static void describe_device(const struct usbip_replay *replay, struct usbip_device_options *options)
{
    const struct usbip_description *description = &replay->description;
    *options = (struct usbip_device_options){
        .descriptor = description->device,
        .speed = description->speed > USBIP_SPEED_HIGH ? USBIP_SPEED_HIGH : description->speed,
        .configuration = description->configuration,
        .configuration_size = description->configuration_size,
        .personality = replay->options.personality,
    };
    options->descriptor.bNumConfigurations = 1;
    if (options->speed == USBIP_SPEED_HIGH)
        options->descriptor.bMaxPacketSize0 = 64;
    for (unsigned i = 1; i < USBIP_MAX_STRINGS; i++)
        options->strings[i] = description->strings[i];
    /* A string that nobody read cannot be told. */
    uint8_t *const indices[] = {&options->descriptor.iManufacturer, &options->descriptor.iProduct,
                                &options->descriptor.iSerialNumber};
    for (unsigned i = 0; i < sizeof indices / sizeof indices[0]; i++) {
        if (*indices[i] >= USBIP_MAX_STRINGS || !options->strings[*indices[i]])
            *indices[i] = 0;
    }
}

static int load(struct usbip_replay *replay, const struct usbip_log *log,
                char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    const struct usbip_replay_options *options = &replay->options;
    char reason[USBIP_CAPTURE_REASON_SIZE];
    replay->capture = usbip_capture_load(options->path, error_text);
    if (!replay->capture)
        return -1;
    int device = usbip_capture_select(replay->capture, options->device, reason, error_text);
    if (device < 0)
        return -1;
    replay->index = (unsigned)device;
    if (usbip_describe(replay->capture, replay->index, options->descriptors, &replay->description,
                       error_text) < 0)
        return -1;
    const struct usbip_capture_device *d = &replay->capture->devices[device];
    if (replay->capture->device_count > 1)
        usbip_log(log, USBIP_LOG_INFO, "%s: device %u.%u %04x:%04x, %s", options->path, d->bus,
                  d->address, replay->description.device.idVendor,
                  replay->description.device.idProduct, reason);
    if (replay_plan_make(&replay->plan, replay->capture, replay->index, &replay->description,
                         !options->skip_errors) == 0) {
        replay->done = calloc(replay->plan.ask_count + 1u, sizeof *replay->done);
        replay->path = strdup(options->path);
    }
    if (replay->done && replay->path)
        return 0;
    snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, "%s: out of memory", options->path);
    return -1;
}

struct usbip_replay *usbip_replay_new(const struct usbip_replay_options *options,
                                      struct usbip_scheduler *scheduler,
                                      const struct usbip_log *log, struct usbip_device **device,
                                      char error_text[USBIP_CAPTURE_ERROR_SIZE])
{
    struct usbip_replay *replay = calloc(1, sizeof *replay);
    if (!replay) {
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, "%s: out of memory", options->path);
        return NULL;
    }
    replay->options = *options;
    replay->scheduler = scheduler;
    if (!(replay->options.speed > 0))
        replay->options.speed = 1;
    if (load(replay, log, error_text) < 0) {
        usbip_replay_free(replay);
        return NULL;
    }
    replay->end_timer = (struct usbip_timer){.fired = on_end, .user = replay};
    for (unsigned i = 0; i < replay->plan.endpoint_count; i++) {
        struct replay_cursor *cursor = &replay->cursors[i];
        cursor->replay = replay;
        cursor->endpoint = &replay->plan.endpoints[i];
        cursor->timer = (struct usbip_timer){.fired = pause_passed, .user = cursor};
        cursor->latency_timer = (struct usbip_timer){.fired = latency_passed, .user = cursor};
    }
    struct usbip_device_options device_options;
    const struct usbip_behaviour behaviour = {&replay_ops, replay};
    char reason[256];
    describe_device(replay, &device_options);
    *device =
        usbip_device_new(&device_options, &usbip_function_raw, &behaviour, scheduler, log, reason);
    if (!*device) {
        snprintf(error_text, USBIP_CAPTURE_ERROR_SIZE, "%s: its device cannot be played: %s",
                 options->path, reason);
        usbip_replay_free(replay);
        return NULL;
    }
    return replay;
}

void usbip_replay_free(struct usbip_replay *replay)
{
    if (!replay)
        return;
    usbip_timer_cancel(replay->scheduler, &replay->end_timer);
    for (unsigned i = 0; i < replay->plan.endpoint_count; i++) {
        usbip_timer_cancel(replay->scheduler, &replay->cursors[i].timer);
        usbip_timer_cancel(replay->scheduler, &replay->cursors[i].latency_timer);
        free(replay->cursors[i].edited);
    }
    replay_report_free(&replay->report);
    replay_plan_free(&replay->plan);
    usbip_description_free(&replay->description);
    usbip_capture_free(replay->capture);
    free(replay->done);
    free(replay->path);
    free(replay);
}
