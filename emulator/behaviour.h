/*
 * Behaviour: what is at the far end of an emulated chip. A Lua script, a replayed capture and C
 * code all stand behind this one table, so that everything else works without knowing which one it
 * is.
 *
 * Every operation may be NULL. Operations may call what device.h offers to behaviours.
 */
#ifndef EMULATOR_BEHAVIOUR_H
#define EMULATOR_BEHAVIOUR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/serial.h"

struct usbip_device;
struct usbip_urb;

enum { USBIP_BREAK_STOP = 0, USBIP_BREAK_START = 0xffff };
enum { USBIP_MAX_PORTS = 4 }; /* of a serial chip */

/* What returns a bool returns whether it went well; if not, the request or transfer behind it ends
 * with a stall. */
struct usbip_behaviour_ops {
    /* The device exists; called once, before everything else. */
    void (*start)(void *context, struct usbip_device *device);

    /* A host has imported the device, or is gone. */
    void (*attach)(void *context);
    void (*detach)(void *context);

    /*
     * Of a serial chip, up to `wanted`: `port` says which of its ports, from 1 to
     * usbip_device_port_count().
     *
     * The host has opened the port (DTR rises), or closed it (DTR falls, or the host is gone).
     */
    bool (*open)(void *context, unsigned port);
    void (*close)(void *context, unsigned port);

    /* The host has set these; called for every request, also when nothing changes. */
    bool (*line_coding)(void *context, unsigned port, const struct usbip_line_coding *coding);
    bool (*control_lines)(void *context, unsigned port, unsigned lines); /* USBIP_LINE_… */
    /* USBIP_BREAK_STOP, USBIP_BREAK_START, or a duration in ms. */
    bool (*send_break)(void *context, unsigned port, unsigned duration_ms);

    /* Bytes that the host has sent, valid until this returns or halts the endpoint. Not called
     * while less than half of the room to write is left, so that what answers every byte with a
     * byte or less is never refused; the host then waits. */
    bool (*data)(void *context, unsigned port, const uint8_t *data, size_t size);

    /* The host has taken, or purged, all that had to wait for it. Not called for what
     * usbip_device_write() got rid of at once. */
    void (*drained)(void *context, unsigned port);
    /*
     * The host asks for up to `size` bytes and none wait for it. NULL: `drained` is enough. Only
     * functions that pass bytes on as they are call it, and then instead of `drained`.
     */
    void (*wanted)(void *context, unsigned port, size_t size);

    /*
     * A class or vendor request on endpoint 0, before the chip sees it, or a standard request that
     * is not the device's own (a HID report descriptor, say). Returns true when it was taken: it is
     * completed, or will be, as function.h tells of functions.
     */
    bool (*control)(void *context, struct usbip_urb *urb);

    /* Raw function: a transfer on an OUT endpoint; its bytes are valid as for `data`. */
    bool (*out)(void *context, uint8_t endpoint, const uint8_t *data, size_t size);
    /* Raw function: the host asks for up to `size` bytes on this IN endpoint and none are kept for
     * it. */
    void (*in)(void *context, uint8_t endpoint, size_t size);
};

struct usbip_behaviour {
    const struct usbip_behaviour_ops *ops;
    void *context;
};

/* ---- Behaviours in C, for every function. Each has a context of its own. ---- */

/* Sends every byte back, on the same port; raw: on the IN endpoint with the number of the OUT
 * endpoint. */
struct usbip_echo {
    struct usbip_device *device;
};
extern const struct usbip_behaviour_ops usbip_echo_ops;

/* Takes every byte and sends none. Its context is unused. */
extern const struct usbip_behaviour_ops usbip_sink_ops;

/*
 * Sends as much as the host asks for, and drops what comes. Byte i since the import (raw: on each
 * endpoint) is i modulo USBIP_SOURCE_PERIOD. Serial functions begin when the port is opened.
 */
enum { USBIP_SOURCE_PERIOD = 251 };
struct usbip_source {
    struct usbip_device *device;
    bool open[USBIP_MAX_PORTS + 1]; /* by port */
    uint8_t at[16];                 /* in the period; by port, raw: by endpoint number */
};
extern const struct usbip_behaviour_ops usbip_source_ops;

/* The context of any of them. */
union usbip_native_context {
    struct usbip_echo echo;
    struct usbip_source source;
};

/* "echo", "sink" or "source"; NULL for other names. */
const struct usbip_behaviour_ops *usbip_find_native_behaviour(const char *name);

#endif
