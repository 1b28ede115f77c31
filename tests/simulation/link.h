/*
 * A connection without sockets: a host session and a device session, and between them two streams
 * of bytes that arrive in fragments of any size, at any time, or are cut off.
 */
#ifndef TESTS_SIMULATION_LINK_H
#define TESTS_SIMULATION_LINK_H

#include "client/session.h"
#include "emulator/session.h"
#include "protocol/buffer.h"
#include "tests/simulation/random.h"

struct stream {
    struct usbip_buffer bytes;
    size_t delivered;
};

struct link {
    struct usbip_host_session *host;
    struct usbip_device_session *device;
    struct stream to_device, to_host;
    uint64_t lent; /* payloads that the device session sent from where they were received */

    /* Taken from the host session, and not in to_device yet: its socket is slow. */
    const struct usbip_output_piece *pieces;
    size_t piece_count;
    size_t sent;        /* of the first piece */
    uint64_t host_lent; /* payloads that it sent from where its client has them */
};

/* Both sessions are new and owned by the link. Returns false when memory is out. */
bool link_open(struct link *link, struct usbip_bus *bus, const char *peer,
               const struct usbip_host_session_events *events, void *context);
void link_close(struct link *link);

/* Takes what the sessions want to send and delivers a random part of what is on its way. */
void link_deliver_some(struct link *link, struct random *random);
/* Delivers everything, also what is said in reply. */
void link_deliver_all(struct link *link);

/* The connection breaks: what is on its way is lost, both ends learn it. */
void link_break(struct link *link);

#endif
