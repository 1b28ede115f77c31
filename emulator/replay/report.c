/* What was otherwise than in the recording: the first divergence, counters, JSON. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/replay/replay_internal.h"

enum { MAX_LOGGED = 20, TEXT_SIZE = 640 };

const char *usbip_divergence_name(enum usbip_divergence_kind kind)
{
    static const char *const names[] = {
        [USBIP_DIVERGENCE_DATA] = "data",           [USBIP_DIVERGENCE_MORE_DATA] = "more_data",
        [USBIP_DIVERGENCE_REQUEST] = "request",     [USBIP_DIVERGENCE_NO_REQUEST] = "no_request",
        [USBIP_DIVERGENCE_NO_ANSWER] = "no_answer", [USBIP_DIVERGENCE_ORDER] = "order",
        [USBIP_DIVERGENCE_MISSING] = "missing",
    };
    return names[kind];
}

/* Hexadecimal, and "… (N bytes)" when it is more than can be shown; "" for none. */
static void format_bytes(char *text, size_t text_size, const uint8_t *data, size_t size)
{
    size_t shown = size < REPLAY_SHOWN_DATA ? size : REPLAY_SHOWN_DATA;
    text[0] = '\0';
    for (size_t i = 0; data && i < shown; i++)
        snprintf(text + 2 * i, text_size - 2 * i, "%02x", data[i]);
    if (data && size > shown)
        snprintf(text + 2 * shown, text_size - 2 * shown, "... (%zu bytes)", size);
}

void replay_matched(struct usbip_replay *replay, struct replay_cursor *cursor, uint32_t transfer)
{
    struct replay_report *report = &replay->report;
    cursor->counters.matched++;
    report->before[report->before_count++ % REPLAY_BEFORE] = transfer;
}

/* ---- A divergence ---- */

/* In the part of the data that differs, so that a long transfer shows where. */
static size_t first_difference(const struct usbip_divergence *d)
{
    size_t common = d->expected_size < d->got_size ? d->expected_size : d->got_size;
    size_t at = 0;
    if (d->kind != USBIP_DIVERGENCE_DATA)
        return 0;
    while (at < common && d->expected[at] == d->got[at])
        at++;
    return at < common ? at : 0;
}

static void describe(const struct usbip_divergence *d, char text[TEXT_SIZE])
{
    enum { BYTES = 16 };
    char expected[2 * REPLAY_SHOWN_DATA + 24], got[2 * REPLAY_SHOWN_DATA + 24];
    char setup[2 * USBIP_SETUP_SIZE + 1], expected_setup[2 * USBIP_SETUP_SIZE + 1], record[32] = "";
    size_t at = first_difference(d);
    size_t expected_size = d->expected_size - (d->expected ? at : 0), got_size = d->got_size - at;
    format_bytes(expected, sizeof expected, d->expected ? d->expected + at : NULL,
                 expected_size < BYTES ? expected_size : BYTES);
    format_bytes(got, sizeof got, d->got ? d->got + at : NULL, got_size < BYTES ? got_size : BYTES);
    format_bytes(setup, sizeof setup, d->setup, USBIP_SETUP_SIZE);
    format_bytes(expected_setup, sizeof expected_setup, d->expected_setup, USBIP_SETUP_SIZE);
    if (d->record)
        snprintf(record, sizeof record, "record %u", d->record);
    switch (d->kind) {
    case USBIP_DIVERGENCE_DATA:
        snprintf(text, TEXT_SIZE,
                 "endpoint 0x%02x: the host sent %s, %s has %s there (byte %zu of this piece)",
                 d->endpoint, got, record, expected, at);
        break;
    case USBIP_DIVERGENCE_MORE_DATA:
        snprintf(text, TEXT_SIZE,
                 "endpoint 0x%02x: the host sent %zu bytes (%s) more than recorded", d->endpoint,
                 d->got_size, got);
        break;
    case USBIP_DIVERGENCE_REQUEST:
        snprintf(text, TEXT_SIZE, "request %s%s%s: %s has %s%s%s here", setup, *got ? " " : "", got,
                 record, expected_setup, *expected ? " " : "", expected);
        break;
    case USBIP_DIVERGENCE_NO_REQUEST:
        snprintf(text, TEXT_SIZE, "request %s%s%s: no more requests were recorded", setup,
                 *got ? " " : "", got);
        break;
    case USBIP_DIVERGENCE_NO_ANSWER:
        snprintf(text, TEXT_SIZE, "request %s: no answer to it was recorded", setup);
        break;
    case USBIP_DIVERGENCE_ORDER:
        snprintf(text, TEXT_SIZE, "endpoint 0x%02x%s%s: came before %s", d->endpoint,
                 d->setup ? ", request " : "", setup, record);
        break;
    case USBIP_DIVERGENCE_MISSING:
        snprintf(text, TEXT_SIZE, "endpoint 0x%02x: the host never sent %s of %s", d->endpoint,
                 expected, record);
        break;
    }
}

static void keep_first(struct usbip_replay *replay, const struct usbip_divergence *d,
                       const char *text)
{
    struct replay_report *report = &replay->report;
    report->has_first = true;
    report->kind = d->kind;
    report->endpoint = d->endpoint;
    report->record = d->record;
    report->text = strdup(text);
    format_bytes(report->expected, sizeof report->expected, d->expected, d->expected_size);
    format_bytes(report->got, sizeof report->got, d->got, d->got_size);
    format_bytes(report->expected_setup, sizeof report->expected_setup, d->expected_setup,
                 USBIP_SETUP_SIZE);
    format_bytes(report->got_setup, sizeof report->got_setup, d->setup, USBIP_SETUP_SIZE);
    uint64_t count = report->before_count < REPLAY_BEFORE ? report->before_count : REPLAY_BEFORE;
    report->first_before_count = (uint32_t)count;
    for (uint64_t i = 0; i < count; i++)
        report->first_before[i] =
            report->before[(report->before_count - count + i) % REPLAY_BEFORE];
}

bool replay_diverged(struct usbip_replay *replay, const struct usbip_divergence *divergence,
                     struct usbip_replay_bytes *answer)
{
    const struct usbip_replay_hooks *hooks = &replay->options.hooks;
    struct replay_report *report = &replay->report;
    struct usbip_replay_bytes ignored = {NULL, 0};
    if (hooks->diverged && hooks->diverged(hooks->context, divergence, answer ? answer : &ignored))
        return false;
    char text[TEXT_SIZE];
    describe(divergence, text);
    report->divergences++;
    if (!report->has_first)
        keep_first(replay, divergence, text);
    if (report->logged < MAX_LOGGED) {
        report->logged++;
        usbip_log(usbip_device_log(replay->device), USBIP_LOG_ERROR, "%s: divergence: %s%s",
                  usbip_device_name(replay->device), text,
                  report->logged == MAX_LOGGED ? " (further ones are only counted)" : "");
    }
    return true;
}

uint64_t usbip_replay_divergences(const struct usbip_replay *replay)
{
    return replay->report.divergences;
}

struct usbip_replay_counters usbip_replay_counters(const struct usbip_replay *replay,
                                                   uint8_t endpoint)
{
    for (unsigned i = 0; i < replay->plan.endpoint_count; i++) {
        if (replay->plan.endpoints[i].address == endpoint)
            return replay->cursors[i].counters;
    }
    return (struct usbip_replay_counters){0};
}

void replay_report_free(struct replay_report *report)
{
    free(report->text);
}

/* ---- JSON ---- */

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text[0])
        json_object_set_new(object, key, json_string(text));
}

static json_t *transfer_json(const struct usbip_capture_transfer *transfer)
{
    char data[2 * REPLAY_SHOWN_DATA + 24], setup[2 * USBIP_SETUP_SIZE + 1] = "";
    format_bytes(data, sizeof data, transfer->data, transfer->size);
    if (transfer->flags & USBIP_TRANSFER_HAS_SETUP)
        format_bytes(setup, sizeof setup, transfer->setup, USBIP_SETUP_SIZE);
    json_t *object = json_pack("{s:i, s:i, s:i}", "record", (int)replay_record(transfer),
                               "endpoint", (int)transfer->endpoint, "status", transfer->status);
    set_text(object, "setup", setup);
    set_text(object, "data", data);
    return object;
}

static json_t *first_json(const struct usbip_replay *replay)
{
    const struct replay_report *report = &replay->report;
    json_t *before = json_array();
    for (uint32_t i = 0; i < report->first_before_count; i++)
        json_array_append_new(before,
                              transfer_json(replay_transfer(replay, report->first_before[i])));
    json_t *object = json_object(), *expected = json_object(), *got = json_object();
    json_object_set_new(object, "kind", json_string(usbip_divergence_name(report->kind)));
    json_object_set_new(object, "endpoint", json_integer(report->endpoint));
    json_object_set_new(object, "text", json_string(report->text ? report->text : ""));
    if (report->record)
        json_object_set_new(expected, "record", json_integer(report->record));
    set_text(expected, "setup", report->expected_setup);
    set_text(expected, "data", report->expected);
    set_text(got, "setup", report->got_setup);
    set_text(got, "data", report->got);
    json_object_set_new(object, "expected", expected);
    json_object_set_new(object, "got", got);
    json_object_set_new(object, "before", before);
    return object;
}

static json_t *replay_json(const struct usbip_replay *replay)
{
    json_t *endpoints = json_array();
    for (unsigned i = 0; i < replay->plan.endpoint_count; i++) {
        const struct usbip_replay_counters *counters = &replay->cursors[i].counters;
        json_array_append_new(endpoints, json_pack("{s:i, s:I, s:I, s:I, s:I}", "address",
                                                   (int)replay->plan.endpoints[i].address,
                                                   "matched", (json_int_t)counters->matched,
                                                   "skipped", (json_int_t)counters->skipped,
                                                   "unexpected", (json_int_t)counters->unexpected,
                                                   "missing", (json_int_t)counters->missing));
    }
    json_t *object = json_object();
    json_object_set_new(object, "file", json_string(replay->path));
    json_object_set_new(object, "divergences",
                        json_integer((json_int_t)replay->report.divergences));
    json_object_set_new(object, "endpoints", endpoints);
    json_object_set_new(object, "first",
                        replay->report.has_first ? first_json(replay) : json_null());
    return object;
}

bool usbip_replay_write_report(struct usbip_replay *const *replays, unsigned count, FILE *file)
{
    json_t *list = json_array(), *object = json_object();
    uint64_t divergences = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!replays[i])
            continue;
        json_array_append_new(list, replay_json(replays[i]));
        divergences += usbip_replay_divergences(replays[i]);
    }
    json_object_set_new(object, "divergences", json_integer((json_int_t)divergences));
    json_object_set_new(object, "devices", list);
    bool written = json_dumpf(object, file, JSON_INDENT(2)) == 0 && fputc('\n', file) != EOF;
    json_decref(object);
    return written;
}
