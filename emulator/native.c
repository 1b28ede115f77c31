/* Behaviours in C. */
#include <string.h>

#include "emulator/device.h"

/* ---- Echo ---- */

static void echo_start(void *context, struct usbip_device *device)
{
    struct usbip_echo *echo = context;
    echo->device = device;
}

static bool echo_data(void *context, unsigned port, const uint8_t *data, size_t size)
{
    struct usbip_echo *echo = context;
    return usbip_device_write(echo->device, port, data, size) == size;
}

static bool echo_out(void *context, uint8_t endpoint, const uint8_t *data, size_t size)
{
    struct usbip_echo *echo = context;
    return usbip_device_send(echo->device, endpoint | USB_DIR_IN, data, size);
}

const struct usbip_behaviour_ops usbip_echo_ops = {
    .start = echo_start,
    .data = echo_data,
    .out = echo_out,
};

/* ---- Sink ---- */

/* What no operation asks for is accepted and dropped; the device's counters have the bytes. */
const struct usbip_behaviour_ops usbip_sink_ops = {0};

/* ---- Source ---- */

enum { SOURCE_PIECE = 64 << 10 }; /* bytes that are made ready at once */

/* So long that a piece can begin at any place of the period. The same for all sources. */
static uint8_t pattern[SOURCE_PIECE + USBIP_SOURCE_PERIOD];

static void source_start(void *context, struct usbip_device *device)
{
    struct usbip_source *source = context;
    *source = (struct usbip_source){.device = device};
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)(i % USBIP_SOURCE_PERIOD);
    usbip_device_set_lasting(device, pattern, sizeof pattern);
}

static void source_attach(void *context)
{
    struct usbip_source *source = context;
    memset(source->at, 0, sizeof source->at);
}

static const uint8_t *next_piece(const struct usbip_source *source, unsigned stream)
{
    return pattern + source->at[stream];
}

static void advance(struct usbip_source *source, unsigned stream, size_t size)
{
    source->at[stream] = (uint8_t)((source->at[stream] + size) % USBIP_SOURCE_PERIOD);
}

/* Until the host has enough: then some of it waits. */
static void source_fill(void *context, unsigned port)
{
    struct usbip_source *source = context;
    size_t written = SOURCE_PIECE;
    while (source->open[port] && written == SOURCE_PIECE &&
           usbip_device_write_room(source->device, port) == USBIP_FIFO_SIZE) {
        written = usbip_device_write(source->device, port, next_piece(source, port), SOURCE_PIECE);
        advance(source, port, written);
    }
}

static void source_wanted(void *context, unsigned port, size_t size)
{
    struct usbip_source *source = context;
    if (!source->open[port])
        return;
    size = usbip_device_write(source->device, port, next_piece(source, port),
                              size < SOURCE_PIECE ? size : SOURCE_PIECE);
    advance(source, port, size);
}

static bool source_opened(void *context, unsigned port)
{
    struct usbip_source *source = context;
    source->open[port] = true;
    source_fill(source, port);
    return true;
}

static void source_closed(void *context, unsigned port)
{
    struct usbip_source *source = context;
    source->open[port] = false;
}

static void source_in(void *context, uint8_t endpoint, size_t size)
{
    struct usbip_source *source = context;
    unsigned stream = endpoint & 0x0f;
    if (size > SOURCE_PIECE)
        size = SOURCE_PIECE;
    if (usbip_device_send(source->device, endpoint, next_piece(source, stream), size))
        advance(source, stream, size);
}

const struct usbip_behaviour_ops usbip_source_ops = {
    .start = source_start,
    .attach = source_attach,
    .open = source_opened,
    .close = source_closed,
    .drained = source_fill,
    .wanted = source_wanted,
    .in = source_in,
};

/* ---- By name ---- */

const struct usbip_behaviour_ops *usbip_find_native_behaviour(const char *name)
{
    static const struct {
        const char *name;
        const struct usbip_behaviour_ops *ops;
    } natives[] = {
        {"echo", &usbip_echo_ops},
        {"sink", &usbip_sink_ops},
        {"source", &usbip_source_ops},
    };
    for (size_t i = 0; i < sizeof natives / sizeof natives[0]; i++) {
        if (strcmp(natives[i].name, name) == 0)
            return natives[i].ops;
    }
    return NULL;
}
