#include "tests/simulation/link.h"

#include <string.h>

/* Nobody waits for anything here: the sessions are asked all the time. */
static void ignore_wake(void *context)
{
    (void)context;
}

bool link_open(struct link *link, struct usbip_bus *bus, const char *peer,
               const struct usbip_host_session_events *events, void *context)
{
    static const struct usbip_device_session_events device_events = {ignore_wake};
    memset(link, 0, sizeof *link);
    link->host = usbip_host_session_new(events, context);
    link->device = usbip_device_session_new(bus, peer, &device_events, NULL);
    return link->host && link->device;
}

void link_close(struct link *link)
{
    usbip_host_session_free(link->host);
    usbip_device_session_free(link->device);
    usbip_buffer_free(&link->to_device.bytes);
    usbip_buffer_free(&link->to_host.bytes);
    memset(link, 0, sizeof *link);
}

static void put(struct stream *stream, const uint8_t *data, size_t size)
{
    if (stream->delivered == stream->bytes.size) {
        stream->bytes.size = 0;
        stream->delivered = 0;
    }
    usbip_buffer_append(&stream->bytes, data, size);
}

/* Sends so many bytes of what the host session has. */
static void take_host_output(struct link *link, size_t limit)
{
    while (limit > 0) {
        if (link->piece_count == 0) {
            usbip_host_session_take_pieces(link->host, &link->pieces, &link->piece_count);
            link->sent = 0;
            if (link->piece_count == 0)
                return;
        }
        const struct usbip_output_piece *piece = link->pieces;
        size_t left = piece->size - link->sent, part = left < limit ? left : limit;
        put(&link->to_device, piece->data + link->sent, part);
        limit -= part;
        link->sent += part;
        if (part == left) {
            link->host_lent += piece->origin == USBIP_OUTPUT_LASTING;
            link->pieces++;
            link->piece_count--;
            link->sent = 0;
        }
    }
}

static void take_outputs(struct link *link, size_t host_limit)
{
    const uint8_t *data;
    take_host_output(link, host_limit);
    size_t size = usbip_device_session_take_output(link->device, &data);
    put(&link->to_host, data, size);
}

/* How the device session gets what arrives. */
enum receiving {
    COPIES,
    IN_PLACE_SENDS, /* what it says to that is taken from where it lies */
    IN_PLACE_WAITS, /* its socket is full: it has to copy what it has lent */
    RECEIVINGS,
};

static void take_device_pieces(struct link *link)
{
    const struct usbip_output_piece *pieces;
    size_t count;
    usbip_device_session_take_pieces(link->device, &pieces, &count);
    for (size_t i = 0; i < count; i++) {
        put(&link->to_host, pieces[i].data, pieces[i].size);
        link->lent += pieces[i].origin == USBIP_OUTPUT_PASSING;
    }
}

static void feed_device(struct link *link, const uint8_t *data, size_t size, enum receiving how)
{
    if (how == COPIES) {
        usbip_device_session_receive(link->device, data, size);
        return;
    }
    usbip_device_session_receive_in_place(link->device, data, size);
    if (how == IN_PLACE_SENDS)
        take_device_pieces(link);
    usbip_device_session_settle(link->device);
}

static size_t on_its_way(const struct stream *stream)
{
    return stream->bytes.size - stream->delivered;
}

/*
 * A copy of the fragment is delivered, so that a sanitizer sees who reads beyond it, or when it is
 * gone; without one, the bytes are wrong.
 */
static void deliver(struct link *link, struct stream *stream, size_t size, enum receiving how)
{
    struct usbip_buffer fragment = {0};
    usbip_buffer_append(&fragment, stream->bytes.data + stream->delivered, size);
    stream->delivered += size;
    if (stream == &link->to_device)
        feed_device(link, fragment.data, size, how);
    else
        usbip_host_session_receive(link->host, fragment.data, size);
    memset(fragment.data, 0, size);
    usbip_buffer_free(&fragment);
}

static size_t random_fragment(struct random *random, size_t size)
{
    static const uint32_t limits[] = {2, 64, 1024, UINT32_MAX};
    uint32_t which = random_below(random, 5);
    if (which == 4)
        return size;
    uint32_t limit = limits[which];
    if (size < limit)
        limit = (uint32_t)size;
    return 1 + random_below(random, limit);
}

void link_deliver_some(struct link *link, struct random *random)
{
    take_outputs(link, random_one_in(random, 4) ? random_below(random, 4096) : SIZE_MAX);
    struct stream *streams[] = {&link->to_device, &link->to_host};
    struct stream *stream = streams[random_below(random, 2)];
    size_t size = on_its_way(stream);
    if (size > 0)
        deliver(link, stream, random_fragment(random, size),
                (enum receiving)random_below(random, RECEIVINGS));
}

void link_deliver_all(struct link *link)
{
    for (;;) {
        take_outputs(link, SIZE_MAX);
        size_t out = on_its_way(&link->to_device), in = on_its_way(&link->to_host);
        if (out == 0 && in == 0)
            return;
        if (out > 0)
            deliver(link, &link->to_device, out, IN_PLACE_SENDS);
        if (in > 0)
            deliver(link, &link->to_host, in, COPIES);
    }
}

void link_break(struct link *link)
{
    link->piece_count = 0;
    usbip_device_session_end_of_input(link->device);
    usbip_host_session_fail(link->host, USBIP_ERROR_DISCONNECTED, "the link broke");
}
