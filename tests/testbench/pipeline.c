#include "tests/testbench/pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/connection.h"
#include "protocol/usb.h"

enum { MAX_DEPTH = 256 };

struct request {
    struct usbip_transfer transfer;
    uint8_t descriptor[USB_DT_DEVICE_SIZE];
    struct pipeline *pipeline;
};

struct pipeline {
    struct usbip_connection *connection;
    struct request requests[MAX_DEPTH];
    uint8_t expected[USB_DT_DEVICE_SIZE];
    uint64_t answered;
    uint64_t now_ms, end_ms;
    unsigned in_flight;
    bool imported, wrong;
};

static void submit(struct request *request);

static void answered(struct usbip_transfer *transfer)
{
    struct request *request = transfer->user;
    struct pipeline *pipeline = request->pipeline;
    pipeline->in_flight--;
    if (transfer->status != 0 || transfer->actual_length != USB_DT_DEVICE_SIZE) {
        pipeline->wrong = true;
        return;
    }
    if (pipeline->answered++ == 0)
        memcpy(pipeline->expected, request->descriptor, sizeof pipeline->expected);
    if (memcmp(pipeline->expected, request->descriptor, sizeof pipeline->expected) != 0)
        pipeline->wrong = true;
    memset(request->descriptor, 0, sizeof request->descriptor);
    if (pipeline->now_ms < pipeline->end_ms && !pipeline->wrong)
        submit(request);
}

static void submit(struct request *request)
{
    struct pipeline *pipeline = request->pipeline;
    pipeline->in_flight++;
    if (usbip_host_session_submit(usbip_connection_session(pipeline->connection),
                                  &request->transfer, pipeline->now_ms) < 0) {
        pipeline->in_flight--;
        pipeline->wrong = true;
    }
}

static void imported(void *context, const struct usbip_device_record *record)
{
    struct pipeline *pipeline = context;
    (void)record;
    pipeline->imported = true;
}

static void prepare(struct pipeline *pipeline, unsigned depth)
{
    static const struct usbip_setup get_descriptor = {USB_DIR_IN, USB_REQ_GET_DESCRIPTOR,
                                                      USB_DT_DEVICE << 8, 0, USB_DT_DEVICE_SIZE};
    for (unsigned i = 0; i < depth; i++) {
        struct request *request = &pipeline->requests[i];
        request->pipeline = pipeline;
        request->transfer = (struct usbip_transfer){
            .type = USB_ENDPOINT_XFER_CONTROL,
            .setup = get_descriptor,
            .buffer = request->descriptor,
            .length = USB_DT_DEVICE_SIZE,
            .done = answered,
            .user = request,
        };
    }
}

static int import(struct pipeline *pipeline)
{
    uint64_t until = usbip_now_ms() + USBIP_IMPORT_TIMEOUT_MS;
    while (!pipeline->imported) {
        int result = usbip_connection_wait(pipeline->connection, until);
        if (result < 0)
            return result;
        if (usbip_now_ms() >= until)
            return USBIP_ERROR_TIMEOUT;
    }
    return 0;
}

static int stream(struct pipeline *pipeline, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        submit(&pipeline->requests[i]);
    while (pipeline->in_flight > 0 && !pipeline->wrong) {
        int result = usbip_connection_wait(pipeline->connection,
                                           pipeline->now_ms + USBIP_CONTROL_TIMEOUT_MS);
        if (result < 0)
            return result;
        pipeline->now_ms = usbip_now_ms();
    }
    return pipeline->wrong ? USBIP_ERROR_TRANSFER : 0;
}

double pipeline_run(const char *server, const char *busid, unsigned depth, unsigned milliseconds,
                    char error_text[USBIP_ERROR_TEXT_SIZE])
{
    static const struct usbip_host_session_events events = {.imported = imported};
    struct pipeline *pipeline = calloc(1, sizeof *pipeline);
    struct usbip_host_session *session = usbip_host_session_new(&events, pipeline);
    int result = USBIP_ERROR_MEMORY;
    snprintf(error_text, USBIP_ERROR_TEXT_SIZE, "%s", usbip_error_name(result));
    if (pipeline && session && depth <= MAX_DEPTH) {
        prepare(pipeline, depth);
        usbip_host_session_request_import(session, busid);
        result = usbip_connection_start(&pipeline->connection, server, session,
                                        USBIP_CONNECT_TIMEOUT_MS, error_text);
        session = NULL;
    }
    uint64_t begin = 0;
    if (result == 0 && (result = import(pipeline)) == 0) {
        begin = pipeline->now_ms = usbip_now_ms();
        pipeline->end_ms = begin + milliseconds;
        result = stream(pipeline, depth);
    }
    double rate = result;
    if (result == 0)
        rate = (double)pipeline->answered * 1000 / (double)(usbip_now_ms() - begin);
    else if (pipeline && pipeline->connection)
        snprintf(error_text, USBIP_ERROR_TEXT_SIZE, "%s",
                 pipeline->wrong ? "a descriptor came back wrong"
                                 : usbip_connection_error_text(pipeline->connection));
    if (pipeline)
        usbip_connection_free(pipeline->connection);
    usbip_host_session_free(session);
    free(pipeline);
    return rate;
}
