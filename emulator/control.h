/*
 * The control socket: lets others look at the devices and change what is wrong with them while the
 * emulator runs. docs/faults.md describes the requests; `usbip-emulator ctl` is a client.
 *
 * Requests and replies are JSON objects, one per line, replies in the order of the requests.
 */
#ifndef EMULATOR_CONTROL_H
#define EMULATOR_CONTROL_H

#include "emulator/bus.h"

struct uv_loop_s;

enum {
    USBIP_CONTROL_MAX_LINE = 4096,      /* bytes of a request */
    USBIP_CONTROL_MAX_CLIENTS = 16,     /* at a time */
    USBIP_CONTROL_MAX_UNSENT = 4 << 20, /* bytes of replies that a client has not read */
    USBIP_CONTROL_ERROR_SIZE = 512,
};

struct usbip_control;

struct usbip_control_options {
    struct usbip_bus *bus;
    /* A client wants the emulator to end. */
    void (*quit)(void *context);
    void *context;
};

/*
 * Listens on a unix socket that only this user can use. A socket that nobody listens on any more is
 * replaced. Bus and loop must outlive the control. Returns NULL and, in error_text, why: another
 * emulator listens there, the file is something else, the path is too long, memory.
 */
struct usbip_control *usbip_control_new(struct uv_loop_s *loop, const char *path,
                                        const struct usbip_control_options *options,
                                        char error_text[USBIP_CONTROL_ERROR_SIZE]);

/* Removes the socket and ends all connections. It frees itself in the loop's next turns. NULL is
 * allowed. */
void usbip_control_close(struct usbip_control *control);

#endif
