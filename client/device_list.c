#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/connection.h"

enum { FIRST_CAPACITY = 8 };

struct collector {
    struct usbip_device_list *list;
    unsigned capacity;
    bool out_of_memory;
    bool complete;
};

static void add_device(void *context, const struct usbip_device_record *record,
                       const struct usbip_interface_record *interfaces, unsigned interface_count)
{
    struct collector *collector = context;
    struct usbip_device_list *list = collector->list;
    if (collector->out_of_memory)
        return;
    if (list->count == collector->capacity) {
        /* Memory grows with the devices that came, not with those that were announced. */
        unsigned capacity = collector->capacity == 0 ? FIRST_CAPACITY : collector->capacity * 2;
        struct usbip_listed_device *devices =
            realloc(list->devices, capacity * sizeof *list->devices);
        if (devices == NULL) {
            collector->out_of_memory = true;
            return;
        }
        list->devices = devices;
        collector->capacity = capacity;
    }
    struct usbip_listed_device *device = &list->devices[list->count++];
    memset(device, 0, sizeof *device);
    device->record = *record;
    memcpy(device->interfaces, interfaces, interface_count * sizeof *interfaces);
}

static void end_list(void *context)
{
    struct collector *collector = context;
    collector->complete = true;
}

static int collect(struct usbip_connection *connection, const struct collector *collector,
                   uint64_t started_ms, uint32_t timeout_ms, char *error_text)
{
    while (!collector->complete) {
        int error = usbip_connection_wait(connection, started_ms + timeout_ms);
        if (collector->out_of_memory) {
            snprintf(error_text, USBIP_ERROR_TEXT_SIZE, "out of memory after %u devices",
                     collector->list->count);
            return USBIP_ERROR_MEMORY;
        }
        if (error != 0) {
            snprintf(error_text, USBIP_ERROR_TEXT_SIZE, "%s",
                     usbip_connection_error_text(connection));
            return error;
        }
        if (!collector->complete && usbip_now_ms() >= started_ms + timeout_ms) {
            char text[USBIP_ERROR_TEXT_SIZE];
            snprintf(text, sizeof text, "no answer within %u ms: is that a USB/IP server?",
                     (unsigned)timeout_ms);
            usbip_host_session_fail(usbip_connection_session(connection), USBIP_ERROR_TIMEOUT,
                                    text);
        }
    }
    return 0;
}

int usbip_list_devices(const char *host, uint32_t timeout_ms, struct usbip_device_list *list,
                       char error_text[USBIP_ERROR_TEXT_SIZE])
{
    *list = (struct usbip_device_list){0};
    uint32_t connect_timeout_ms = timeout_ms;
    if (timeout_ms == 0) {
        connect_timeout_ms = USBIP_CONNECT_TIMEOUT_MS;
        timeout_ms = USBIP_CONNECT_TIMEOUT_MS + USBIP_DEVLIST_TIMEOUT_MS;
    }
    struct collector collector = {.list = list};
    static const struct usbip_host_session_events events = {.device = add_device,
                                                            .devlist_end = end_list};
    struct usbip_host_session *session = usbip_host_session_new(&events, &collector);
    if (session == NULL || usbip_host_session_request_devlist(session) != 0) {
        snprintf(error_text, USBIP_ERROR_TEXT_SIZE, "out of memory");
        usbip_host_session_free(session);
        return USBIP_ERROR_MEMORY;
    }
    struct usbip_connection *connection;
    uint64_t started_ms = usbip_now_ms();
    int error = usbip_connection_start(&connection, host, session, connect_timeout_ms, error_text);
    if (error == 0) {
        error = collect(connection, &collector, started_ms, timeout_ms, error_text);
        usbip_connection_free(connection);
    }
    if (error != 0) {
        usbip_device_list_free(list);
        return error;
    }
    return (int)list->count;
}

void usbip_device_list_free(struct usbip_device_list *list)
{
    free(list->devices);
    *list = (struct usbip_device_list){0};
}
