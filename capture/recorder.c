#include "capture/recorder.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "capture/recorder_internal.h"
#include "protocol/bytes.h"

/* ---- Words ---- */

void recorder_report(struct usbip_recorder *recorder, const char *format, ...)
{
    char line[USBIP_RECORDER_ERROR_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    recorder->incomplete = true;
    recorder->options.report(recorder->options.context, line);
}

int recorder_stop(struct connection *connection, const char *format, ...)
{
    char why[USBIP_RECORDER_ERROR_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    connection->stopped = true;
    recorder_report(connection->recorder, "%s: %.400s; the rest of this connection is not recorded",
                    connection->device ? connection->name : "no device imported", why);
    return RECORDER_STOP;
}

static uint64_t now_us(const struct usbip_recorder *recorder)
{
    struct timespec now;
    if (recorder->options.now_us)
        return recorder->options.now_us(recorder->options.context);
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- The OP phase ---- */

static int64_t request_size(struct connection *connection, const uint8_t *bytes, size_t have)
{
    struct usbip_op_common common;
    if (have < USBIP_OP_COMMON_SIZE)
        return USBIP_OP_COMMON_SIZE;
    usbip_decode_op_common(bytes, &common);
    if (common.code == OP_REQ_DEVLIST)
        return USBIP_OP_COMMON_SIZE;
    if (common.code == OP_REQ_IMPORT)
        return USBIP_IMPORT_REQUEST_SIZE;
    return recorder_stop(connection, "request 0x%04x is unknown", common.code);
}

static int64_t reply_size(struct connection *connection, const uint8_t *bytes, size_t have)
{
    struct usbip_op_common common;
    if (connection->devices_to_come > 0) {
        if (have < USBIP_DEVICE_RECORD_SIZE)
            return USBIP_DEVICE_RECORD_SIZE;
        struct usbip_device_record record;
        usbip_decode_device_record(bytes, &record);
        return USBIP_DEVICE_RECORD_SIZE + record.bNumInterfaces * USBIP_INTERFACE_RECORD_SIZE;
    }
    if (have < USBIP_OP_COMMON_SIZE)
        return USBIP_OP_COMMON_SIZE;
    usbip_decode_op_common(bytes, &common);
    bool is_good = common.status == USBIP_ST_OK;
    if (common.code == OP_REP_DEVLIST)
        return is_good ? USBIP_DEVLIST_REPLY_HEADER_SIZE : USBIP_OP_COMMON_SIZE;
    if (common.code == OP_REP_IMPORT)
        return is_good ? USBIP_IMPORT_REPLY_SIZE : USBIP_OP_COMMON_SIZE;
    return recorder_stop(connection, "reply 0x%04x is unknown", common.code);
}

/* "a/b.pcap" and 1-2 give "a/b-1-2.pcap". Returns NULL when memory is out. */
static char *path_of_device(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    size_t stem = dot && dot > base ? (size_t)(dot - path) : strlen(path);
    size_t size = strlen(path) + strlen(name) + 2;
    char *result = malloc(size);
    if (result)
        snprintf(result, size, "%.*s-%s%s", (int)stem, path, name, path + stem);
    return result;
}

static struct output *add_output(struct usbip_recorder *recorder, const char *name,
                                 const char *path, char error_text[USBIP_USBMON_ERROR_SIZE])
{
    struct output *output = calloc(1, sizeof *output);
    snprintf(error_text, USBIP_USBMON_ERROR_SIZE, "out of memory");
    if (output && path)
        output->file = usbip_usbmon_file_open(path, error_text);
    if (!output || !output->file) {
        free(output);
        return NULL;
    }
    snprintf(output->name, sizeof output->name, "%s", name);
    output->next = recorder->outputs;
    recorder->outputs = output;
    recorder->output_count++;
    return output;
}

static struct output *choose_output(struct usbip_recorder *recorder, const char *name,
                                    char error_text[USBIP_USBMON_ERROR_SIZE])
{
    if (!recorder->options.file_per_device)
        return recorder->outputs;
    for (struct output *output = recorder->outputs; output; output = output->next)
        if (strcmp(output->name, name) == 0)
            return output;
    if (recorder->output_count == USBIP_RECORDER_MAX_FILES) {
        snprintf(error_text, USBIP_USBMON_ERROR_SIZE, "there are %d files already",
                 USBIP_RECORDER_MAX_FILES);
        return NULL;
    }
    char *path = path_of_device(recorder->path, name);
    struct output *output = add_output(recorder, name, path, error_text);
    free(path);
    return output;
}

/* What a server calls a device may be anything. */
static void make_name(char name[USBIP_BUSID_SIZE], const char *busid)
{
    static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    snprintf(name, USBIP_BUSID_SIZE, "%s", *busid ? busid : "_");
    for (char *c = name; *c; c++)
        if (!strchr(good, *c))
            *c = '_';
}

static int import(struct connection *connection, const uint8_t *pdu)
{
    struct usbip_recorder *recorder = connection->recorder;
    struct usbip_device_record record;
    char error_text[USBIP_USBMON_ERROR_SIZE];
    usbip_decode_device_record(pdu + USBIP_OP_COMMON_SIZE, &record);
    make_name(connection->name, record.busid);
    connection->device = usbip_recorded_device_get(&recorder->devices, &record);
    if (!connection->device)
        return recorder_stop(connection, "more than %d devices, or out of memory",
                             USBIP_RECORDER_MAX_DEVICES);
    connection->output = choose_output(recorder, connection->name, error_text);
    if (!connection->output)
        return recorder_stop(connection, "%s", error_text);
    connection->bConfigurationValue = record.bConfigurationValue;
    recorder_learn_endpoints(connection);
    return 0;
}

/* ---- PDUs ---- */

static int64_t skip_size(const struct stream *stream, size_t have)
{
    return stream->skip < have ? (int64_t)stream->skip : (int64_t)have;
}

static int64_t to_server_size(void *context, const uint8_t *bytes, size_t have)
{
    struct connection *connection = context;
    struct stream *stream = &connection->streams[USBIP_TO_SERVER];
    if (stream->skip > 0)
        return skip_size(stream, have);
    if (!connection->device)
        return request_size(connection, bytes, have);
    if (have < USBIP_HEADER_SIZE)
        return USBIP_HEADER_SIZE;
    usbip_decode_header(bytes, &connection->header);
    if (connection->header.command == USBIP_CMD_SUBMIT)
        return recorder_submit_size(connection, stream);
    if (connection->header.command == USBIP_CMD_UNLINK)
        return USBIP_HEADER_SIZE;
    return recorder_stop(connection, "the client's command 0x%08" PRIx32 " is unknown",
                         connection->header.command);
}

static int to_server_pdu(void *context, const uint8_t *bytes, size_t size)
{
    struct connection *connection = context;
    struct stream *stream = &connection->streams[USBIP_TO_SERVER];
    if (stream->skip > 0) {
        stream->skip -= size;
        return 0;
    }
    if (!connection->device)
        return 0; /* what a client asks for is told by the reply */
    if (connection->header.command == USBIP_CMD_SUBMIT)
        return recorder_submit(connection, stream, bytes, size);
    return recorder_cmd_unlink(connection);
}

static int64_t to_client_size(void *context, const uint8_t *bytes, size_t have)
{
    struct connection *connection = context;
    struct stream *stream = &connection->streams[USBIP_TO_CLIENT];
    if (stream->skip > 0)
        return skip_size(stream, have);
    if (!connection->device)
        return reply_size(connection, bytes, have);
    if (have < USBIP_HEADER_SIZE)
        return USBIP_HEADER_SIZE;
    usbip_decode_header(bytes, &connection->header);
    if (connection->header.command == USBIP_RET_SUBMIT)
        return recorder_ret_submit_size(connection, stream);
    if (connection->header.command == USBIP_RET_UNLINK)
        return USBIP_HEADER_SIZE;
    return recorder_stop(connection, "the server's command 0x%08" PRIx32 " is unknown",
                         connection->header.command);
}

static int to_client_pdu(void *context, const uint8_t *bytes, size_t size)
{
    struct connection *connection = context;
    struct stream *stream = &connection->streams[USBIP_TO_CLIENT];
    if (stream->skip > 0) {
        stream->skip -= size;
    } else if (connection->device) {
        if (connection->header.command == USBIP_RET_SUBMIT)
            recorder_ret_submit(connection, stream, bytes, size);
        else
            recorder_ret_unlink(connection);
    } else if (connection->devices_to_come > 0) {
        connection->devices_to_come--;
    } else if (size == USBIP_DEVLIST_REPLY_HEADER_SIZE) {
        connection->devices_to_come = usbip_load_be32(bytes + USBIP_OP_COMMON_SIZE);
    } else if (size == USBIP_IMPORT_REPLY_SIZE) {
        return import(connection, bytes);
    }
    return 0;
}

/* ---- The tap ---- */

static void flush(struct connection *connection)
{
    char error_text[USBIP_USBMON_ERROR_SIZE];
    if (connection->output && usbip_usbmon_file_flush(connection->output->file, error_text) < 0)
        recorder_report(connection->recorder, "%s; the recording ends there", error_text);
}

static void drop_streams(struct connection *connection)
{
    usbip_buffer_free(&connection->streams[USBIP_TO_SERVER].partial);
    usbip_buffer_free(&connection->streams[USBIP_TO_CLIENT].partial);
    recorder_drop_requests(connection);
}

static void *on_opened(void *context)
{
    struct usbip_recorder *recorder = context;
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        recorder_report(recorder, "out of memory; a connection is not recorded");
        return NULL;
    }
    connection->recorder = recorder;
    memset(connection->endpoint_type, RECORDER_TYPE_UNKNOWN, sizeof connection->endpoint_type);
    return connection;
}

static void on_passed(void *context, enum usbip_way way, const uint8_t *data, size_t size)
{
    static const struct usbip_framing framings[] = {
        [USBIP_TO_SERVER] = {to_server_size, to_server_pdu},
        [USBIP_TO_CLIENT] = {to_client_size, to_client_pdu},
    };
    struct connection *connection = context;
    if (connection->stopped)
        return;
    connection->recorder->time_us = now_us(connection->recorder);
    int result =
        usbip_assemble(&framings[way], connection, &connection->streams[way].partial, data, size);
    if (result < 0 && !connection->stopped)
        recorder_stop(connection, "out of memory");
    if (connection->stopped)
        drop_streams(connection);
    flush(connection);
}

static void on_closed(void *context)
{
    struct connection *connection = context;
    if (connection->device && !connection->stopped) {
        connection->recorder->time_us = now_us(connection->recorder);
        recorder_end_urbs(connection);
        flush(connection);
    }
    drop_streams(connection);
    free(connection);
}

/* ---- Life ---- */

struct usbip_recorder *usbip_recorder_new(const struct usbip_recorder_options *options,
                                          char error_text[USBIP_RECORDER_ERROR_SIZE])
{
    struct usbip_recorder *recorder = calloc(1, sizeof *recorder);
    char *path = strdup(options->path);
    if (!recorder || !path) {
        snprintf(error_text, USBIP_RECORDER_ERROR_SIZE, "out of memory");
        free(recorder);
        free(path);
        return NULL;
    }
    recorder->options = *options;
    recorder->path = path;
    recorder->tap = (struct usbip_tap){recorder, on_opened, on_passed, on_closed};
    if (!options->file_per_device && !add_output(recorder, "", path, error_text)) {
        usbip_recorder_free(recorder);
        return NULL;
    }
    return recorder;
}

int usbip_recorder_free(struct usbip_recorder *recorder)
{
    if (!recorder)
        return 0;
    int result = recorder->incomplete ? -1 : 0;
    struct output *output = recorder->outputs, *next;
    for (; output; output = next) {
        next = output->next;
        usbip_usbmon_file_close(output->file);
        free(output);
    }
    usbip_recorded_devices_free(&recorder->devices);
    usbip_buffer_free(&recorder->unpacked);
    free(recorder->path);
    free(recorder);
    return result;
}

const struct usbip_tap *usbip_recorder_tap(struct usbip_recorder *recorder)
{
    return &recorder->tap;
}

void usbip_recorder_describe(struct usbip_recorder *recorder,
                             const struct usbip_device_record *record,
                             const uint8_t descriptor[USB_DT_DEVICE_SIZE],
                             const uint8_t *configuration, size_t configuration_size)
{
    struct usbip_recorded_device *device = usbip_recorded_device_get(&recorder->devices, record);
    if (!device)
        return; /* its import will tell that there is no room */
    usbip_recorded_device_learn(device, USB_DT_DEVICE, 0, descriptor, USB_DT_DEVICE_SIZE);
    usbip_recorded_device_learn(device, USB_DT_CONFIG, 0, configuration, configuration_size);
}
