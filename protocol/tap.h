/*
 * A tap: who listens to the bytes that pass on USB/IP connections. It changes nothing and must not
 * call back whom it listens to.
 */
#ifndef PROTOCOL_TAP_H
#define PROTOCOL_TAP_H

#include <stddef.h>
#include <stdint.h>

enum usbip_way {
    USBIP_TO_SERVER = 0,
    USBIP_TO_CLIENT = 1,
};

struct usbip_tap {
    void *context;
    /* A connection begins. Returns what stands for it in the other calls, or NULL: there are none.
     */
    void *(*opened)(void *context);
    /* These bytes pass, in the order in which the connection's owner meets them, cut anyhow. */
    void (*passed)(void *connection, enum usbip_way way, const uint8_t *data, size_t size);
    /* The connection has ended; nothing more is said of it. */
    void (*closed)(void *connection);
};

#endif
