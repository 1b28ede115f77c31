/*
 * What a recording makes of a device: what it expects of the host, in order, and what it has to
 * say, endpoint by endpoint, with how much of the former must have come before each.
 */
#ifndef EMULATOR_REPLAY_PLAN_H
#define EMULATOR_REPLAY_PLAN_H

#include "emulator/capture/capture.h"
#include "emulator/capture/description.h"

enum { REPLAY_MAX_PORTS = 4 }; /* of an FTDI chip */

enum replay_ask_kind {
    REPLAY_OUT,   /* data on an OUT endpoint */
    REPLAY_WRITE, /* a class or vendor request with data to the device, or without any */
    REPLAY_READ,  /* a request with data to the host; expected in strict mode only */
};

/* Something that the host did. */
struct replay_ask {
    uint32_t transfer; /* index into the capture's transfers */
    uint8_t kind;      /* enum replay_ask_kind */
    bool optional;     /* the host took it back, it failed, or it carries nothing */
    uint8_t port;      /* of a request: see replay_plan_port() */
};

/* One answer on an IN endpoint: a transfer, or of an FTDI chip a packet with its two status bytes,
 * or the error that ended them. */
struct replay_answer {
    const uint8_t *data;
    uint32_t size;
    uint32_t gate; /* so many of the asks come before it */
    uint32_t transfer;
    int32_t status; /* 0; -USBIP_EPIPE: a stall; replay_is_error(): that error */
};

/* Requests with data to the host, sorted by what is asked for, then by time. */
struct replay_read {
    uint32_t transfer, ask; /* ask: UINT32_MAX for standard requests, which nobody waits for */
    uint32_t answered;      /* of all that ask for the same; in the first of them */
};

struct replay_endpoint {
    uint8_t address;
    bool merges; /* bulk: what filled its transfer goes on in the next one */
    uint16_t packet_size;
    struct replay_answer *answers; /* IN */
    uint32_t *asks;                /* OUT, and requests of endpoint 0: indices */
    uint32_t count;                /* of either */
    uint8_t status[2];             /* FTDI: before the first answer */
};

struct replay_plan {
    const struct usbip_capture *capture;
    unsigned device; /* of the capture */
    bool is_ftdi, has_errors;
    unsigned ports; /* of an FTDI chip, otherwise 1 */
    struct replay_ask *asks;
    uint32_t ask_count;
    struct replay_read *reads;
    uint32_t read_count;
    struct replay_endpoint endpoints[USBIP_CAPTURE_ENDPOINTS]; /* [0] is endpoint 0 */
    unsigned endpoint_count;
};

/* Whether this status is the device's doing, or its cable's: it did not answer, or not as USB
 * wants it. */
bool replay_is_error(int32_t status);

/* Without has_errors, what ended with such a status is left out. Returns 0, or -1 when memory is
 * out. The capture must outlive the plan. */
int replay_plan_make(struct replay_plan *plan, const struct usbip_capture *capture, unsigned device,
                     const struct usbip_description *description, bool has_errors);
void replay_plan_free(struct replay_plan *plan);

/*
 * The port, from 0, that a request is for. Hosts use the ports of a chip at the same time, and how
 * the requests to one mix with those to another is chance: each port has an order of its own.
 */
unsigned replay_plan_port(const struct replay_plan *plan, const uint8_t setup[USBIP_SETUP_SIZE]);

/* The endpoint of that address, or NULL. */
struct replay_endpoint *replay_plan_endpoint(struct replay_plan *plan, uint8_t address);

/* The first read that asks for what these 8 bytes do, whatever their wLength; NULL: none. *count
 * is the number of those that follow it, itself included. */
struct replay_read *replay_plan_find_read(struct replay_plan *plan,
                                          const uint8_t setup[USBIP_SETUP_SIZE], uint32_t *count);

/* Whether the host asked for this, got no answer and took it back. */
bool replay_plan_was_silent(const struct replay_plan *plan, const uint8_t setup[USBIP_SETUP_SIZE]);

static inline bool replay_is_standard(const uint8_t setup[USBIP_SETUP_SIZE])
{
    return (setup[0] & USB_TYPE_MASK) == USB_TYPE_STANDARD;
}

/* Whether the request has data for the host. */
static inline bool replay_is_read(const uint8_t setup[USBIP_SETUP_SIZE])
{
    return (setup[0] & USB_DIR_IN) && (setup[6] || setup[7]);
}

#endif
