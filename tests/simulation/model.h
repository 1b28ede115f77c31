/*
 * A client that does what it likes with one serial device, and the simple model that says what must
 * come of it:
 *   every transfer ends exactly once;
 *   it ends with success, unless it was unlinked, timed out, is a request that the device does not
 *   know, or the connection broke;
 *   the bytes of the OUT transfers that succeeded come back, all and in order;
 *   a setting reads back as it was written last.
 */
#ifndef TESTS_SIMULATION_MODEL_H
#define TESTS_SIMULATION_MODEL_H

#include "protocol/buffer.h"
#include "protocol/serial.h"
#include "tests/simulation/link.h"

enum {
    MODEL_MAX_TRANSFERS = 24,
    MODEL_BUFFER_SIZE = 3 * USBIP_OUTPUT_MIN_LOAN,
    MODEL_FAILURE_SIZE = 256,
};

enum kind {
    KIND_FREE,
    KIND_SET_CONFIGURATION,
    KIND_GET_DESCRIPTOR,
    KIND_UNKNOWN_REQUEST,
    KIND_WRITE_SETTING,
    KIND_READ_SETTING,
    KIND_OUT,
    KIND_IN,
};

struct model;

struct model_transfer {
    struct usbip_transfer transfer; /* its user is this */
    struct model *model;
    enum kind kind;
    bool in_flight, unlinked;
    uint8_t setting; /* READ_SETTING: what must come */
    uint8_t buffer[MODEL_BUFFER_SIZE];
};

struct model {
    struct link link;
    bool linked;   /* the link exists */
    bool attached; /* the device is imported */
    bool refused;
    bool contested; /* another client wanted the same device meanwhile */
    bool broken;    /* from now on transfers end with ESHUTDOWN */
    bool is_ftdi;
    const char *busid;

    struct model_transfer transfers[MODEL_MAX_TRANSFERS];
    struct usbip_buffer sent, received;
    size_t compared;
    uint8_t setting; /* the last one written */

    uint64_t endings, lent, host_lent; /* of all links */
    char failure[MODEL_FAILURE_SIZE];  /* "" while all is as it must be */
    bool trace;
};

/* Starts to import the device. */
bool model_connect(struct model *model, struct usbip_bus *bus, const char *name, const char *busid,
                   bool is_ftdi);
/* Breaks the link, checks that nothing is left in flight, and forgets what was sent. */
void model_disconnect(struct model *model);
void model_free(struct model *model);

/* One random action of the client; only while attached. */
void model_act(struct model *model, struct random *random, uint64_t now_ms);

/* Compares what came back with what was sent as far as both are known. */
void model_compare(struct model *model);

/* One round towards rest: asks for the bytes that are still to come back, or ends what is in
 * flight. Returns true at rest. */
bool model_settle(struct model *model, uint64_t now_ms);

#endif
