#include <stdio.h>
#include <string.h>

#include "client/port_internal.h"

/*
 * Opens a listed device if the text means it. Returns 0 with *port NULL if it does not, which may
 * be known only after the serial number was read, and when the device is not to be had.
 */
static int open_listed(const char *server, const char *text,
                       const struct usbip_device_record *record, uint32_t timeout_ms,
                       struct usbip_port **port, char error_text[USBIP_ERROR_TEXT_SIZE])
{
    struct usbip_device_match match;
    int error;

    *port = NULL;
    if (usbip_device_match_parse(text, &match) < 0 || !usbip_device_match_record(&match, record))
        return 0;
    *port = usbip_port_new(server, record->busid);
    if (*port == NULL) {
        snprintf(error_text, USBIP_ERROR_TEXT_SIZE, "out of memory");
        return USBIP_ERROR_MEMORY;
    }
    /* Its place, its ids and its serial number: no other device may take its part. */
    memcpy(match.busid, record->busid, sizeof(match.busid));
    match.has_id = true;
    match.idVendor = record->idVendor;
    match.idProduct = record->idProduct;
    (*port)->match = match;
    (*port)->device_valid = true;
    error = usbip_port_open(*port, timeout_ms);
    if (error == 0)
        return 0;
    snprintf(error_text, USBIP_ERROR_TEXT_SIZE, "%s", usbip_port_error_text(*port));
    usbip_port_free(*port);
    *port = NULL;
    return error == USBIP_ERROR_BUSY || error == USBIP_ERROR_NOT_FOUND ? 0 : error;
}

static void free_ports(struct usbip_port **ports, int count)
{
    for (int i = 0; i < count; i++) {
        usbip_port_close(ports[i]);
        usbip_port_free(ports[i]);
        ports[i] = NULL;
    }
}

static uint32_t left_ms(uint64_t deadline_ms)
{
    uint64_t now_ms = usbip_now_ms();

    if (deadline_ms == UINT64_MAX)
        return USBIP_FOREVER;
    return deadline_ms > now_ms ? (uint32_t)(deadline_ms - now_ms) : 1;
}

int usbip_port_open_all(const char *server, const char *const *devices, unsigned count,
                        struct usbip_port **ports, unsigned max_ports, uint32_t timeout_ms,
                        char error_text[USBIP_ERROR_TEXT_SIZE])
{
    uint64_t deadline_ms = usbip_port_deadline(timeout_ms);
    struct usbip_device_list list;
    int opened = 0, error;

    for (unsigned i = 0; i < count; i++) {
        struct usbip_device_match match;

        if (usbip_device_match_parse(devices[i], &match) < 0) {
            snprintf(error_text, USBIP_ERROR_TEXT_SIZE,
                     "\"%.60s\" names no device; write a busid (1-1), ids (0403:6001) or ids and "
                     "serial number (0403:6001:A50285BI)",
                     devices[i]);
            return USBIP_ERROR_ARGUMENT;
        }
    }
    error = usbip_list_devices(server, timeout_ms, &list, error_text);
    for (unsigned i = 0; error >= 0 && i < list.count && (unsigned)opened < max_ports; i++) {
        struct usbip_port *port = NULL;

        for (unsigned j = 0; error >= 0 && j < count && port == NULL; j++)
            error = open_listed(server, devices[j], &list.devices[i].record, left_ms(deadline_ms),
                                &port, error_text);
        if (port)
            ports[opened++] = port;
    }
    usbip_device_list_free(&list);
    if (error < 0) {
        free_ports(ports, opened);
        return error;
    }
    return opened;
}
