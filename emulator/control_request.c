#include "emulator/control_request.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/replay/replay.h"

enum { ERROR_SIZE = USBIP_FAULT_ERROR_SIZE + 64, MAX_STEPS = 1000000 };

struct request {
    struct usbip_bus *bus;
    const json_t *fields;
    char error_text[ERROR_SIZE]; /* "": all is well */
    bool quits;
};

/* Any text as JSON: what is not UTF-8, maybe because it was cut, loses all that is not ASCII. */
static json_t *text_json(const char *text)
{
    json_t *string = json_string(text);
    char ascii[ERROR_SIZE];
    if (string)
        return string;
    snprintf(ascii, sizeof ascii, "%s", text);
    for (char *at = ascii; *at; at++) {
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    }
    return json_string(ascii);
}

/* ---- What requests need ---- */

/* The device that the request names, or NULL and an error. */
static struct usbip_device *find_device(struct request *request)
{
    const char *busid = json_string_value(json_object_get(request->fields, "device"));
    struct usbip_device *device = busid ? usbip_bus_device(request->bus, busid) : NULL;
    if (!busid)
        snprintf(request->error_text, ERROR_SIZE, "device must be a busid, such as \"1-1\"");
    else if (!device)
        snprintf(request->error_text, ERROR_SIZE, "there is no device \"%.40s\"", busid);
    return device;
}

static json_t *fault_json(const struct usbip_fault *fault)
{
    char text[USBIP_FAULT_TEXT_SIZE];
    const char *device = fault->options.device;
    usbip_fault_options_format(&fault->options, text);
    if (fault->device)
        device = usbip_device_name(fault->device);
    return json_pack("{s:i, s:o, s:o, s:I, s:b}", "fault", (int)fault->id, "text", text_json(text),
                     "device", *device ? text_json(device) : json_null(), "fired",
                     (json_int_t)fault->fired, "spent", usbip_fault_is_spent(fault));
}

/* All faults, or those that concern a device. */
static json_t *faults_json(const struct usbip_faults *faults, const struct usbip_device *device)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < faults->count; i++) {
        if (!device || usbip_fault_concerns(faults->list[i], device))
            json_array_append_new(array, fault_json(faults->list[i]));
    }
    return array;
}

/* ---- Requests: each returns the fields of its reply, or NULL and an error ---- */

static json_t *run_list(struct request *request)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < request->bus->count; i++) {
        const struct usbip_device *device = request->bus->devices[i];
        struct usbip_device_record record;
        char idVendor[8], idProduct[8];
        usbip_bus_describe(device, &record);
        snprintf(idVendor, sizeof idVendor, "%04x", record.idVendor);
        snprintf(idProduct, sizeof idProduct, "%04x", record.idProduct);
        json_array_append_new(array, json_pack("{s:o, s:s, s:s, s:o, s:s, s:b, s:b}", "device",
                                               text_json(record.busid), "idVendor", idVendor,
                                               "idProduct", idProduct, "product",
                                               text_json(usbip_device_product(device)), "type",
                                               usbip_device_function(device)->type->name, "plugged",
                                               usbip_device_is_plugged(device), "attached",
                                               usbip_device_is_claimed(device)));
    }
    return json_pack("{s:o}", "devices", array);
}

static json_t *run_plug(struct request *request)
{
    struct usbip_device *device = find_device(request);
    if (!device)
        return NULL;
    usbip_device_plug(device);
    return json_object();
}

static json_t *run_unplug(struct request *request)
{
    const json_t *back = json_object_get(request->fields, "back");
    json_int_t ms = json_integer_value(back);
    if (back && (!json_is_integer(back) || ms < 0 || ms > USBIP_FAULT_MAX_MS)) {
        snprintf(request->error_text, ERROR_SIZE, "back must be a number of ms from 0 to %d",
                 USBIP_FAULT_MAX_MS);
        return NULL;
    }
    struct usbip_device *device = find_device(request);
    if (!device)
        return NULL;
    usbip_device_unplug(device);
    return back && usbip_device_plug_after(device, (uint64_t)ms * 1000) < 0 ? NULL : json_object();
}

/* {"fault": "delay:ms=20"} */
static bool parse_fault_text(struct request *request, struct usbip_fault_options *options)
{
    const json_t *text = json_object_get(request->fields, "fault");
    if (!json_is_string(text) || json_object_get(request->fields, "name")) {
        snprintf(request->error_text, ERROR_SIZE,
                 "give either fault, a string such as \"delay:ms=20\", or name and parameters");
        return false;
    }
    return usbip_fault_options_parse(options, json_string_value(text), request->error_text);
}

/* {"name": "delay", "ms": 20} */
static bool parse_fault_fields(struct request *request, struct usbip_fault_options *options)
{
    const char *name = json_string_value(json_object_get(request->fields, "name"));
    if (!usbip_fault_options_init(options, name ? name : "", request->error_text))
        return false;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)request->fields, key, value)
    {
        char number[32];
        const char *text = json_string_value(value);
        if (strcmp(key, "id") == 0 || strcmp(key, "do") == 0 || strcmp(key, "name") == 0)
            continue;
        if (json_is_integer(value)) {
            snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
            text = number;
        } else if (json_is_boolean(value)) {
            text = json_is_true(value) ? "yes" : "no";
        } else if (!text) {
            snprintf(request->error_text, ERROR_SIZE,
                     "%.40s must be an integer, a string, true or false", key);
            return false;
        }
        if (!usbip_fault_options_set(options, key, text, request->error_text))
            return false;
    }
    return true;
}

static json_t *run_fault_add(struct request *request)
{
    struct usbip_fault_options options;
    bool is_text = json_object_get(request->fields, "fault") != NULL;
    if (is_text ? !parse_fault_text(request, &options) : !parse_fault_fields(request, &options))
        return NULL;
    if (options.device[0] && !usbip_bus_device(request->bus, options.device)) {
        snprintf(request->error_text, ERROR_SIZE, "there is no device \"%s\"", options.device);
        return NULL;
    }
    const struct usbip_fault *fault =
        usbip_fault_add(&request->bus->faults, &options, NULL, NULL, request->error_text);
    return fault ? json_pack("{s:i}", "fault", (int)fault->id) : NULL;
}

static json_t *run_fault_remove(struct request *request)
{
    const json_t *id = json_object_get(request->fields, "fault");
    json_int_t value = json_integer_value(id);
    if (!json_is_integer(id) || value < 1 || value > INT32_MAX) {
        snprintf(request->error_text, ERROR_SIZE, "fault must be the number of a fault");
        return NULL;
    }
    if (usbip_fault_remove(&request->bus->faults, (unsigned)value))
        return json_object();
    snprintf(request->error_text, ERROR_SIZE, "there is no fault %d", (int)value);
    return NULL;
}

static json_t *run_fault_list(struct request *request)
{
    return json_pack("{s:o}", "faults", faults_json(&request->bus->faults, NULL));
}

static json_t *run_counters(struct request *request)
{
    const struct usbip_bus *bus = request->bus;
    struct usbip_device *only = NULL;
    if (json_object_get(request->fields, "device") && !(only = find_device(request)))
        return NULL;
    json_t *array = json_array();
    for (unsigned i = 0; i < bus->count; i++) {
        if (only && only != bus->devices[i])
            continue;
        const struct usbip_device_counters *counters = usbip_device_counters(bus->devices[i]);
        json_array_append_new(
            array, json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "device",
                             text_json(usbip_device_name(bus->devices[i])), "urbs",
                             (json_int_t)counters->urbs, "bytes_in", (json_int_t)counters->bytes_in,
                             "bytes_out", (json_int_t)counters->bytes_out, "stalls",
                             (json_int_t)counters->stalls, "unlinks", (json_int_t)counters->unlinks,
                             "script_errors", (json_int_t)counters->script_errors));
    }
    return json_pack("{s:o, s:o}", "devices", array, "faults", faults_json(&bus->faults, only));
}

static json_t *run_step(struct request *request)
{
    const json_t *count = json_object_get(request->fields, "count");
    json_int_t steps = count ? json_integer_value(count) : 1;
    struct usbip_device *device = find_device(request);
    struct usbip_replay *replay = device ? usbip_replay_of(device) : NULL;
    if (!device)
        return NULL;
    if (!replay || !usbip_replay_steps(replay)) {
        snprintf(request->error_text, ERROR_SIZE, "device %s is not replayed step by step",
                 usbip_device_name(device));
        return NULL;
    }
    if ((count && !json_is_integer(count)) || steps < 1 || steps > MAX_STEPS) {
        snprintf(request->error_text, ERROR_SIZE, "count must be a number from 1 to %d", MAX_STEPS);
        return NULL;
    }
    usbip_replay_step(replay, (uint32_t)steps);
    return json_object();
}

static json_t *run_quit(struct request *request)
{
    request->quits = true;
    return json_object();
}

static const struct {
    const char *name;
    json_t *(*run)(struct request *request);
    const char *fields[2]; /* besides id and do */
    bool any_field;
} requests[] = {
    {"list", run_list, {NULL}, false},
    {"plug", run_plug, {"device"}, false},
    {"unplug", run_unplug, {"device", "back"}, false},
    {"fault-add", run_fault_add, {NULL}, true},
    {"fault-remove", run_fault_remove, {"fault"}, false},
    {"fault-list", run_fault_list, {NULL}, false},
    {"counters", run_counters, {"device"}, false},
    {"step", run_step, {"device", "count"}, false},
    {"quit", run_quit, {NULL}, false},
};
enum { REQUEST_COUNT = sizeof requests / sizeof requests[0] };

/* ---- One line ---- */

/* A misspelt field would silently do nothing. */
static bool check_fields(struct request *request, size_t index)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)request->fields, key, value)
    {
        bool known = strcmp(key, "id") == 0 || strcmp(key, "do") == 0;
        for (size_t i = 0; i < 2 && requests[index].fields[i]; i++)
            known |= strcmp(key, requests[index].fields[i]) == 0;
        if (!known) {
            snprintf(request->error_text, ERROR_SIZE, "%s has no field \"%.40s\"",
                     requests[index].name, key);
            return false;
        }
    }
    return true;
}

static json_t *run(struct request *request)
{
    const char *name = json_string_value(json_object_get(request->fields, "do"));
    for (size_t i = 0; name && i < REQUEST_COUNT; i++) {
        if (strcmp(requests[i].name, name) == 0)
            return requests[i].any_field || check_fields(request, i) ? requests[i].run(request)
                                                                     : NULL;
    }
    int size =
        name ? snprintf(request->error_text, ERROR_SIZE, "there is no request \"%.40s\"", name)
             : snprintf(request->error_text, ERROR_SIZE, "do must name a request");
    for (size_t i = 0; i < REQUEST_COUNT; i++)
        size += snprintf(request->error_text + size, (size_t)(ERROR_SIZE - size), "%s%s",
                         i ? ", " : "; there are: ", requests[i].name);
    return NULL;
}

/* Takes `fields`, which may be NULL. */
static char *make_line(json_t *id, json_t *fields, const char *error_text)
{
    json_t *reply = json_object();
    char *line = NULL;
    if (id)
        json_object_set(reply, "id", id);
    json_object_set_new(reply, "ok", json_boolean(fields != NULL));
    if (fields)
        json_object_update(reply, fields);
    else
        json_object_set_new(reply, "error", text_json(error_text));
    json_decref(fields);
    char *text = json_dumps(reply, JSON_ENCODE_ANY);
    if (text && (line = malloc(strlen(text) + 2)) != NULL)
        sprintf(line, "%s\n", text);
    free(text);
    json_decref(reply);
    return line;
}

char *usbip_control_error(const char *text)
{
    return make_line(NULL, NULL, text);
}

char *usbip_control_answer(struct usbip_bus *bus, const char *line, size_t size, bool *quits)
{
    json_error_t error;
    struct request request = {.bus = bus};
    json_t *fields = json_loadb(line, size, JSON_REJECT_DUPLICATES, &error), *result = NULL;
    request.fields = fields;
    if (!fields)
        snprintf(request.error_text, ERROR_SIZE, "this is not JSON: %s, at byte %d", error.text,
                 error.position);
    else if (!json_is_object(fields))
        snprintf(request.error_text, ERROR_SIZE,
                 "a request is a JSON object, such as {\"do\": \"list\"}");
    else
        result = run(&request);
    if (!result && !request.error_text[0])
        snprintf(request.error_text, ERROR_SIZE, "out of memory");
    char *reply = make_line(json_object_get(fields, "id"), result, request.error_text);
    json_decref(fields);
    *quits = request.quits;
    return reply;
}
