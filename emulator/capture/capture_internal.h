/* How the readers of the formats fill a capture: one reader for each kind of record. */
#ifndef EMULATOR_CAPTURE_CAPTURE_INTERNAL_H
#define EMULATOR_CAPTURE_CAPTURE_INTERNAL_H

#include <stdio.h>

#include "emulator/capture/capture.h"

/* An index of devices[] or transfers[] that is none. */
#define CAPTURE_NONE UINT32_MAX

struct capture_record {
    uint32_t number;
    uint64_t time_ns;
    const uint8_t *bytes;
    uint32_t size;          /* bytes that are there */
    uint32_t original_size; /* before the recorder cut it */
};

/* A URB under way, by the id that its format gives it. */
struct capture_pending {
    uint64_t id;
    uint32_t transfer; /* CAPTURE_NONE: a free slot */
    uint32_t hash;
};

struct capture_builder {
    struct usbip_capture *capture;
    char *error_text;
    uint32_t transfer_capacity;
    unsigned device_capacity;
    uint32_t order; /* of the last event */
    /* Open addressing, a power of two slots, at most half of them in use. */
    struct capture_pending *pending;
    uint32_t pending_capacity, pending_count;
};

/* What an event says of its URB. */
struct capture_urb {
    uint64_t id;
    bool unique; /* the id alone tells the transfer, whatever its device and endpoint */
    uint32_t device;
    uint8_t endpoint; /* without the bits that bEndpointAddress reserves */
    uint8_t type;
    uint8_t flags;         /* USBIP_TRANSFER_… */
    const uint8_t *setup;  /* NULL: none */
    uint32_t length;       /* submission: asked for; completion: done */
    int32_t status;        /* completion */
    const uint8_t *data;   /* what the record holds of the data, of the event's own direction */
    uint32_t size, wanted; /* how much that is, and how much there was */
};

/*
 * A kind of records. All return 0, or -1 after capture_fail(). State is state_size zero bytes at
 * the beginning; `end` comes after the last record, `free` always.
 */
struct capture_format {
    int link_type;
    const char *name;
    bool is_network; /* USB/IP on TCP, else USB itself */
    size_t state_size;
    int (*read)(struct capture_builder *builder, void *state, const struct capture_record *record);
    int (*end)(struct capture_builder *builder, void *state);
    void (*free)(void *state);
};

/* NULL when there is none for this link type (a DLT_… of libpcap). */
const struct capture_format *capture_find_format(int link_type);
extern const struct capture_format capture_formats_usbmon[2];
extern const struct capture_format capture_format_usbpcap;
extern const struct capture_format capture_formats_packets[4];
extern const struct capture_format capture_formats_network[8];

/* ---- Errors ---- */

/* Says what is wrong, in which record (0: of the whole file). Returns -1. */
__attribute__((format(printf, 3, 4))) int capture_fail(struct capture_builder *builder,
                                                       uint32_t record, const char *format, ...);
int capture_out_of_memory(struct capture_builder *builder);
/* A record that ends before its header of `header_size` bytes does. */
int capture_record_too_short(struct capture_builder *builder, const struct capture_record *record,
                             const char *what, uint32_t header_size);

/* ---- Building (builder.c) ---- */

static inline bool capture_device_is_at(const struct usbip_capture_device *device, uint16_t bus,
                                        uint16_t address)
{
    return device->address == address && device->bus == bus;
}

/* The device with this address, made if need be. CAPTURE_NONE: out of memory or too many. */
uint32_t capture_device(struct capture_builder *builder, uint16_t bus, uint16_t address);
/* A new device, whether there is one with this address or not. */
uint32_t capture_add_device(struct capture_builder *builder, uint16_t bus, uint16_t address);

/* Each returns the transfer's index, or CAPTURE_NONE when memory is out. */
uint32_t capture_submit(struct capture_builder *builder, const struct capture_record *record,
                        const struct capture_urb *urb);
/* Finds the transfer by id, device and endpoint; without one, it is an orphan. */
uint32_t capture_complete(struct capture_builder *builder, const struct capture_record *record,
                          const struct capture_urb *urb);
/* The same for a transfer that is known. */
uint32_t capture_complete_transfer(struct capture_builder *builder,
                                   const struct capture_record *record, uint32_t index,
                                   const struct capture_urb *urb);
/* Copies data to a transfer that has none yet. */
int capture_set_data(struct capture_builder *builder, const struct capture_record *record,
                     uint32_t index, const struct capture_urb *urb);

void capture_builder_free(struct capture_builder *builder);

/* ---- Transfers whose completion is awaited (pending.c) ---- */

/* The transfer that a completion with this urb would end, or CAPTURE_NONE. It stays pending. */
uint32_t capture_find_pending(const struct capture_builder *builder, const struct capture_urb *urb);
/* The same, and no completion will find it under this id any more. */
uint32_t capture_take_pending(struct capture_builder *builder, const struct capture_urb *urb);
/* From now on a completion with this urb ends the transfer. */
int capture_add_pending(struct capture_builder *builder, const struct capture_urb *urb,
                        uint32_t transfer);

/* ---- After the last record (summary.c) ---- */

/* Puts together what is one device, counts, recognises chips. */
int capture_finish(struct capture_builder *builder);

/* ---- Memory for data, which never moves ---- */

struct capture_arena;
/* A copy of the bytes, or NULL when memory is out. */
uint8_t *capture_arena_copy(struct capture_arena **arena, const uint8_t *bytes, size_t size);
void capture_arena_free(struct capture_arena *arena);

/* ---- Descriptors (descriptors.c) ---- */

/* A control transfer has ended: keeps an answer to GET_DESCRIPTOR and what else it tells. */
int capture_note_descriptor(struct capture_builder *builder, uint32_t index);

/* ---- pcapng with interfaces that libpcap would refuse (pcapng.c) ---- */

struct capture_pcapng_filter;

/*
 * Looks through a pcapng file from its beginning. Returns NULL when libpcap reads it as it is, or
 * memory is out (*failed); else what hands on one kind of interfaces of it.
 */
struct capture_pcapng_filter *
capture_pcapng_filter_new(void *file, long (*read)(void *file, void *bytes, size_t size),
                          bool *failed);
/* As read() does, from the beginning once the file has been rewound. */
long capture_pcapng_filter_read(struct capture_pcapng_filter *filter, void *bytes, size_t size);
/* The number that the record has in the file, of one that libpcap has counted from 1. */
uint32_t capture_pcapng_filter_record(const struct capture_pcapng_filter *filter, uint32_t record);
uint32_t capture_pcapng_filter_left_out(const struct capture_pcapng_filter *filter);
void capture_pcapng_filter_free(struct capture_pcapng_filter *filter);

#endif
