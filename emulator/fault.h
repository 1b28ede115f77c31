/*
 * Faults: ways in which the server and its devices misbehave on purpose. Each is a named thing with
 * parameters that can be added and removed while everything runs; docs/faults.md tells what each
 * does.
 *
 * A new fault is a constant and a row of the table here, and its effect: in fault_link.c for what
 * happens to a connection, in fault_device.c for what happens to a device.
 */
#ifndef EMULATOR_FAULT_H
#define EMULATOR_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emulator/scheduler.h"
#include "protocol/usbip.h"

struct usbip_device;
struct usbip_fault_link;

enum {
    USBIP_MAX_FAULTS = 64,            /* at a time */
    USBIP_FAULT_MAX_MS = 3600000,     /* of any delay */
    USBIP_FAULT_MAX_LATE_SIZE = 4096, /* bytes of data in a reply that nobody waits for */
    USBIP_FAULT_TEXT_SIZE = 320,
    USBIP_FAULT_ERROR_SIZE = 512,
};

enum usbip_fault_kind {
    USBIP_FAULT_FRAGMENT,
    USBIP_FAULT_DELAY,
    USBIP_FAULT_STOP_READING,
    USBIP_FAULT_CLOSE,
    USBIP_FAULT_RESET,
    USBIP_FAULT_OP_VERSION,
    USBIP_FAULT_OP_CODE,
    USBIP_FAULT_OP_STATUS,
    USBIP_FAULT_OP_BUSID,
    USBIP_FAULT_STATUS,
    USBIP_FAULT_LENGTH,
    USBIP_FAULT_ZERO_DATA,
    USBIP_FAULT_DUPLICATE,
    USBIP_FAULT_REORDER,
    USBIP_FAULT_SWALLOW_RET_SUBMIT,
    USBIP_FAULT_SWALLOW_RET_UNLINK,
    USBIP_FAULT_LATE_REPLY,
    USBIP_FAULT_DISCONNECT,
    USBIP_FAULT_KINDS,
};

/* Places of values[]: those that several faults have, then a fault's own. */
enum {
    USBIP_FAULT_ENDPOINT, /* bEndpointAddress, -1: any */
    USBIP_FAULT_AFTER,
    USBIP_FAULT_COUNT,  /* 0: no end */
    USBIP_FAULT_CHANCE, /* per cent */
    USBIP_FAULT_OWN,
    USBIP_FAULT_VALUES = USBIP_FAULT_OWN + 3,

    USBIP_FRAGMENT_SIZE = USBIP_FAULT_OWN,
    USBIP_FRAGMENT_MS,
    USBIP_DELAY_MS = USBIP_FAULT_OWN,
    USBIP_DELAY_JITTER,
    USBIP_STOP_READING_MS = USBIP_FAULT_OWN, /* 0: for ever */
    USBIP_OP_VALUE = USBIP_FAULT_OWN,
    USBIP_OP_REPLY,       /* enum usbip_fault_op */
    USBIP_OP_STATUS_BODY, /* 1: what follows the header stays */
    USBIP_STATUS_VALUE = USBIP_FAULT_OWN,
    USBIP_STATUS_DATA, /* 1: it stays */
    USBIP_LENGTH_BY = USBIP_FAULT_OWN,
    USBIP_REORDER_SCOPE = USBIP_FAULT_OWN, /* enum usbip_reorder_scope */
    USBIP_REORDER_MS,
    USBIP_LATE_REPLY_MS = USBIP_FAULT_OWN,
    USBIP_LATE_REPLY_STATUS,
    USBIP_LATE_REPLY_SIZE,
    USBIP_DISCONNECT_ON = USBIP_FAULT_OWN, /* enum usbip_disconnect_on */
    USBIP_DISCONNECT_BACK,                 /* ms, -1: never */
    USBIP_DISCONNECT_AS,                   /* idVendor << 16 | idProduct, -1: as itself */
};

enum usbip_fault_op { USBIP_OP_ANY, USBIP_OP_DEVLIST, USBIP_OP_IMPORT };
enum usbip_reorder_scope { USBIP_REORDER_WITHIN, USBIP_REORDER_ACROSS };
enum usbip_disconnect_on {
    USBIP_ON_RESET, /* RTS was raised while DTR was low, and falls */
    USBIP_ON_TOUCH, /* DTR falls at 1200 bit/s */
    USBIP_ON_DTR,   /* DTR falls */
    USBIP_ON_BYTES, /* so many bytes of data have passed */
};

enum usbip_fault_parameter_kind {
    USBIP_PARAMETER_NUMBER,
    USBIP_PARAMETER_HEX,  /* a number that is written 0x… */
    USBIP_PARAMETER_WORD, /* one of `words` */
    USBIP_PARAMETER_ID,   /* VID:PID in hex */
    USBIP_PARAMETER_BUSID,
};

struct usbip_fault_parameter {
    const char *key;
    enum usbip_fault_parameter_kind kind;
    unsigned place; /* in values[], below USBIP_FAULT_OWN for what several have; a busid is none */
    int64_t min, max, standard;
    const char *words; /* "no|yes": values 0 and 1 */
    const char *help;
};

struct usbip_fault_type {
    const char *name;
    const char *help;
    const struct usbip_fault_parameter *own; /* ends with one without a key */
    unsigned common;                         /* 1 << USBIP_FAULT_ENDPOINT and so on */
};

/* The row of a kind. */
const struct usbip_fault_type *usbip_fault_type(enum usbip_fault_kind kind);
/* Parameter i of a fault, its own first; NULL after the last. */
const struct usbip_fault_parameter *usbip_fault_parameter(const struct usbip_fault_type *type,
                                                          unsigned i);
/* A value as it is written: "20", "0x81", "yes", "303a:1001"; at most 32 bytes. */
void usbip_fault_format_value(const struct usbip_fault_parameter *parameter, int64_t value,
                              char text[32]);

/* What somebody wants: a kind and its parameters. */
struct usbip_fault_options {
    enum usbip_fault_kind kind;
    int64_t values[USBIP_FAULT_VALUES];
    char device[USBIP_BUSID_SIZE]; /* "": all */
    char busid[USBIP_BUSID_SIZE];  /* of op_busid */
    unsigned given;                /* parameters, by their number */
};

/*
 * Each returns false and, in error_text, the fault and the parameter that are wrong and what is
 * right. name, key and value may hold anything.
 */
bool usbip_fault_options_init(struct usbip_fault_options *options, const char *name,
                              char error_text[USBIP_FAULT_ERROR_SIZE]);
bool usbip_fault_options_set(struct usbip_fault_options *options, const char *key,
                             const char *value, char error_text[USBIP_FAULT_ERROR_SIZE]);
/* All of it: "NAME[:KEY=VALUE[,KEY=VALUE]...]". */
bool usbip_fault_options_parse(struct usbip_fault_options *options, const char *text,
                               char error_text[USBIP_FAULT_ERROR_SIZE]);
/* The other way round, with the parameters that were given. */
void usbip_fault_options_format(const struct usbip_fault_options *options,
                                char text[USBIP_FAULT_TEXT_SIZE]);

struct usbip_fault {
    struct usbip_fault_options options;
    unsigned id;                       /* from 1 on, never used again */
    unsigned slot;                     /* below USBIP_MAX_FAULTS, its own while it exists */
    const void *owner;                 /* who may be gone before it: a script; or NULL */
    const struct usbip_device *device; /* the owner's, once it has one */
    uint64_t fired;
    uint64_t random;
};

/* The faults of a bus. */
struct usbip_faults {
    struct usbip_scheduler *scheduler;
    uint64_t seed;
    struct usbip_fault *list[USBIP_MAX_FAULTS]; /* in the order in which they were added */
    unsigned count;
    uint64_t slots; /* in use, a bit each */
    unsigned last_id;
    struct usbip_fault_link *links; /* of all sessions */
};

/* The scheduler must outlive the faults. The seed and a fault's id are where its chances start. */
void usbip_faults_init(struct usbip_faults *faults, struct usbip_scheduler *scheduler,
                       uint64_t seed);
void usbip_faults_free(struct usbip_faults *faults);

/*
 * Adds a fault; it is in force at once, also for connections that exist. With an owner it concerns
 * only the owner's device. When USBIP_MAX_FAULTS are there, the oldest spent one makes room.
 * Returns NULL and, in error_text, why.
 */
struct usbip_fault *usbip_fault_add(struct usbip_faults *faults,
                                    const struct usbip_fault_options *options, const void *owner,
                                    const struct usbip_device *device,
                                    char error_text[USBIP_FAULT_ERROR_SIZE]);
struct usbip_fault *usbip_fault_find(const struct usbip_faults *faults, unsigned id);
/* Returns false when there is none with this id. Replies that it holds back still leave when they
 * are due; reading that it has stopped goes on. */
bool usbip_fault_remove(struct usbip_faults *faults, unsigned id);

/* The owner has a device now; the owner goes, and its faults with it. */
void usbip_faults_set_device(struct usbip_faults *faults, const void *owner,
                             const struct usbip_device *device);
void usbip_faults_remove_owner(struct usbip_faults *faults, const void *owner);

/* ---- For the effects ---- */

static inline int64_t usbip_fault_value(const struct usbip_fault *fault, unsigned place)
{
    return fault->options.values[place];
}

/* Whether the fault is for this device. NULL: the connection has none yet. */
bool usbip_fault_concerns(const struct usbip_fault *fault, const struct usbip_device *device);

/* Whether it has fired as often as it should. */
bool usbip_fault_is_spent(const struct usbip_fault *fault);
/* Its chance: true, and counted, when it happens now. */
bool usbip_fault_fires(struct usbip_fault *fault);
/* A number from 0 to max. */
uint64_t usbip_fault_random(struct usbip_fault *fault, uint64_t max);

/* How far each fault has come on one connection, or with one device while it is attached. */
struct usbip_fault_progress {
    struct {
        unsigned id;
        uint64_t passed; /* replies, bytes or events; UINT64_MAX: it has happened here */
    } slots[USBIP_MAX_FAULTS];
};
uint64_t *usbip_fault_passed(struct usbip_fault_progress *progress,
                             const struct usbip_fault *fault);
/* One more of what the fault looks for: lets the first ones pass, then asks usbip_fault_fires(). */
bool usbip_fault_hits(struct usbip_fault *fault, struct usbip_fault_progress *progress);

#endif
