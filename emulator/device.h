/*
 * An emulated USB device: its descriptors, the state of USB 2.0 chapter 9 (configuration, alternate
 * settings, halts) and the URBs that wait on its endpoints.
 *
 * Three parties meet here, each behind a table of operations:
 *   session    hands in URBs and takes their completions (session.h)
 *   function   the chip: class and vendor requests, endpoints (function.h)
 *   behaviour  what is at the other end of the chip: a Lua script, a capture, C code (behaviour.h)
 *
 * No I/O, no clock: time comes from the scheduler. One thread.
 */
#ifndef EMULATOR_DEVICE_H
#define EMULATOR_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emulator/behaviour.h"
#include "emulator/function.h"
#include "emulator/log.h"
#include "emulator/personality.h"
#include "emulator/scheduler.h"
#include "protocol/configuration.h"
#include "protocol/usbip.h"

enum {
    USBIP_MAX_STRINGS = 32,              /* string descriptors of a device, index 0 included */
    USBIP_MAX_CONFIGURATION_SIZE = 4096, /* wTotalLength */
};

struct usbip_device_session;
struct usbip_range;

/* What a device shows in enumeration. */
struct usbip_device_options {
    struct usbip_device_descriptor
        descriptor;         /* iManufacturer and so on are indices of strings[] */
    enum usbip_speed speed; /* low, full or high */
    /* UTF-8; [0] is unused: the language is US English. NULL: no such descriptor. */
    const char *strings[USBIP_MAX_STRINGS];
    /* With wTotalLength bytes. NULL: the function describes itself. */
    const uint8_t *configuration;
    size_t configuration_size;
    struct usbip_function_options function;      /* endpoints and such, for functions that ask */
    const struct usbip_personality *personality; /* NULL: strict */
};

/*
 * A CMD_SUBMIT that waits for its completion, in submit order on its endpoint. Owned by the device;
 * gone with its completion.
 */
struct usbip_urb {
    struct usbip_device *device;
    struct usbip_urb *next, *previous; /* on the endpoint */
    uint32_t seqnum;
    uint32_t devid, ep; /* of the CMD_SUBMIT */
    uint8_t endpoint;   /* bEndpointAddress; 0 for control */
    bool unlinked;      /* lazily: it goes on, and its completion is not told */
    enum usbip_direction direction;
    uint32_t length; /* transfer_buffer_length; at most wLength when that may differ */
    uint32_t transfer_flags;
    int32_t number_of_packets;
    struct usbip_setup setup; /* endpoint 0 */
    const uint8_t *data;      /* OUT: length bytes */
    uint8_t *owned;           /* data, once the URB outlives the call that brought it */
    uint32_t consumed;        /* OUT: for functions that take a transfer in pieces */
};

struct usbip_device;

/*
 * Makes a device of this function and behaviour; all options are copied. The scheduler, log and
 * behaviour's context must outlive it. Returns NULL and, in error_text, why: a malformed
 * descriptor, a string too long, endpoints that the function needs and the configuration lacks,
 * memory.
 */
struct usbip_device *usbip_device_new(const struct usbip_device_options *options,
                                      const struct usbip_function_type *type,
                                      const struct usbip_behaviour *behaviour,
                                      struct usbip_scheduler *scheduler,
                                      const struct usbip_log *log, char error_text[256]);
/* The device must not be claimed any more. NULL is allowed. */
void usbip_device_free(struct usbip_device *device);

/* ---- For the session ---- */

/*
 * One importer at a time: returns USBIP_ST_OK, or with what status the import is refused. A
 * personality may take the device from the session that has it.
 */
uint32_t usbip_device_claim(struct usbip_device *device, struct usbip_device_session *session);
/* No URB waits any more; what else becomes of it is the personality's. */
void usbip_device_release(struct usbip_device *device);
bool usbip_device_is_claimed(const struct usbip_device *device);
/* Whether OP_REP_DEVLIST has it. */
bool usbip_device_is_listed(const struct usbip_device *device);
/* Imports are refused with USBIP_ST_DEV_ERR until the device is plugged again. */
void usbip_device_break(struct usbip_device *device);

/*
 * One CMD_SUBMIT. data holds `length` bytes for OUT, valid during the call. The completion comes
 * through usbip_device_session_complete(), maybe before this returns.
 */
void usbip_device_submit(struct usbip_device *device, const struct usbip_header *header,
                         const uint8_t *data);

/* Transfer type (USB_ENDPOINT_XFER_…) of an endpoint that exists now, or -1. */
int usbip_device_endpoint_type(const struct usbip_device *device, uint8_t endpoint);
/* The same for the endpoint that a CMD_SUBMIT names. */
int usbip_device_target_type(const struct usbip_device *device, const struct usbip_header *header);

/* The endpoint on which a URB with this seqnum waits, and in *direction its direction; or -1. */
int usbip_device_find_urb(const struct usbip_device *device, uint32_t seqnum,
                          enum usbip_direction *direction);
/*
 * Takes a waiting URB back without completion. Returns false when none has this seqnum. With lazy
 * unlinks it only loses its completion, and others on its endpoint may be completed instead.
 */
bool usbip_device_unlink(struct usbip_device *device, uint32_t seqnum);

/* The session has room for completions again: lets the function go on with what waits. */
void usbip_device_resume(struct usbip_device *device);

/* The device as OP_REP_DEVLIST shows it; path, busid, busnum and devnum are the bus's. */
void usbip_device_describe(const struct usbip_device *device, struct usbip_device_record *record);
/* Interfaces of the (first) configuration at alternate setting 0, at most max. Returns how many. */
unsigned usbip_device_interfaces(const struct usbip_device *device,
                                 struct usbip_interface_record *interfaces, unsigned max);

/* ---- For functions ---- */

/*
 * The first URB that waits on an endpoint (0 for control), or NULL when there is none, the endpoint
 * is halted, or the session has no room for more completions just now; the function is called again
 * when that changes. A control request under way is given whether there is room or not.
 */
struct usbip_urb *usbip_device_next_urb(struct usbip_device *device, uint8_t endpoint);

/*
 * Room for `size` bytes (at most urb->length) of an IN transfer, to be filled before its
 * completion, which must be the next call for this device. NULL when memory is out.
 */
uint8_t *usbip_urb_reserve(struct usbip_urb *urb, uint32_t size);
/*
 * How an IN transfer takes bytes of which `available` wait. They come in packets: one that is
 * longer than what is left of the transfer ends it with -USBIP_EOVERFLOW and is lost (USB 2.0,
 * section 8.7.4), which a host avoids by asking for whole packets.
 */
struct usbip_in_fit {
    uint32_t delivered; /* put these into the transfer */
    uint32_t taken;     /* these leave the device */
    int32_t status;
};
struct usbip_in_fit usbip_urb_fit_more(const struct usbip_urb *urb, size_t available);
static inline struct usbip_in_fit usbip_urb_fit(const struct usbip_urb *urb, size_t available)
{
    if (available > urb->length)
        return usbip_urb_fit_more(urb, available);
    return (struct usbip_in_fit){(uint32_t)available, (uint32_t)available, 0};
}

/*
 * Completes with a status (0 or a negative wire errno) and the number of bytes that were put into
 * the reserved room, or taken of an OUT transfer. A short IN transfer with USBIP_URB_SHORT_NOT_OK
 * becomes -USBIP_EREMOTEIO, as in usbcore. The URB is gone then.
 */
void usbip_urb_complete(struct usbip_urb *urb, int32_t status, uint32_t actual_length);
/* Completes an IN transfer with the first bytes of data, as far as they fit. */
void usbip_urb_complete_fit(struct usbip_urb *urb, const uint8_t *data,
                            const struct usbip_in_fit *fit);
/* Completes an IN transfer with these bytes, cut to urb->length. */
void usbip_urb_complete_with(struct usbip_urb *urb, const void *data, size_t size);
/* Completes with -USBIP_EPIPE: a protocol stall on endpoint 0, nothing else. */
void usbip_urb_stall(struct usbip_urb *urb);

/*
 * Completes the first URB of an endpoint if it still has this seqnum: the behaviour, called in
 * between, may have ended it.
 */
void usbip_device_complete_first(struct usbip_device *device, uint8_t endpoint, uint32_t seqnum,
                                 int32_t status, uint32_t actual_length);

/*
 * Halts an endpoint: the URBs that wait and those to come end with -USBIP_EPIPE, until the host
 * sends CLEAR_FEATURE(ENDPOINT_HALT).
 */
void usbip_device_halt(struct usbip_device *device, uint8_t endpoint);

const struct usbip_configuration *usbip_device_configuration(const struct usbip_device *device);
/* The configuration descriptor with all that belongs to it; *size receives its wTotalLength. */
const uint8_t *usbip_device_configuration_bytes(const struct usbip_device *device, size_t *size);
enum usbip_speed usbip_device_speed(const struct usbip_device *device);
const struct usbip_device_descriptor *usbip_device_descriptor(const struct usbip_device *device);
struct usbip_function *usbip_device_function(const struct usbip_device *device);
const struct usbip_range *usbip_device_lasting(const struct usbip_device *device);
const struct usbip_behaviour *usbip_device_behaviour(const struct usbip_device *device);
const struct usbip_personality *usbip_device_personality(const struct usbip_device *device);
struct usbip_scheduler *usbip_device_scheduler(const struct usbip_device *device);
const struct usbip_log *usbip_device_log(const struct usbip_device *device);
/* For messages: the busid once the device is on a bus. */
const char *usbip_device_name(const struct usbip_device *device);
/* Its product string, or "". */
const char *usbip_device_product(const struct usbip_device *device);

/* ---- For behaviours ---- */

/* Serial ports of the chip, numbered from 1; 0 for the raw function. */
unsigned usbip_device_port_count(const struct usbip_device *device);

/*
 * These bytes will not change while the program runs: what is written or sent of them may be taken
 * from where they are.
 */
void usbip_device_set_lasting(struct usbip_device *device, const uint8_t *data, size_t size);

/*
 * Sends bytes to the host through a port of the chip. Returns how many were taken: fewer than size
 * only when USBIP_FIFO_SIZE bytes wait there already, none when there is no such port.
 */
size_t usbip_device_write(struct usbip_device *device, unsigned port, const uint8_t *data,
                          size_t size);
/* Room that usbip_device_write() has. */
size_t usbip_device_write_room(const struct usbip_device *device, unsigned port);

/* Tells the host a port's modem lines and events (USBIP_MODEM_…); the lines keep their level. */
void usbip_device_set_modem_state(struct usbip_device *device, unsigned port, unsigned modem);
/* The lines' levels; 0 without such lines. */
unsigned usbip_device_modem_state(const struct usbip_device *device, unsigned port);

/*
 * Raw function: completes the next URB on an IN endpoint with these bytes, or keeps them until
 * there is one. Returns false when the endpoint does not exist or USBIP_FIFO_SIZE bytes wait
 * already; also when memory is out, and the beginning may have been sent then.
 */
bool usbip_device_send(struct usbip_device *device, uint8_t endpoint, const uint8_t *data,
                       size_t size);

/* Unplugs: the client's connection is closed, the device is not listed. Plug brings it back. */
void usbip_device_unplug(struct usbip_device *device);
void usbip_device_plug(struct usbip_device *device);
/* Plugs it in when so much time has passed, unless it is plugged in or unplugged before. Returns 0,
 * or -1 when memory is out. */
int usbip_device_plug_after(struct usbip_device *device, uint64_t delay_us);
bool usbip_device_is_plugged(const struct usbip_device *device);

struct usbip_device_counters {
    uint64_t urbs, bytes_in, bytes_out, stalls, unlinks, script_errors;
};
struct usbip_device_counters *usbip_device_counters(struct usbip_device *device);

#endif
