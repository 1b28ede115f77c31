/* The state of a recorder, shared by recorder.c (connections, imports, files) and recorder_urbs.c
 * (what URBs become in the file). */
#ifndef CAPTURE_RECORDER_INTERNAL_H
#define CAPTURE_RECORDER_INTERNAL_H

#include "capture/recorded_device.h"
#include "capture/recorder.h"
#include "capture/usbmon_file.h"
#include "protocol/buffer.h"
#include "protocol/usbip.h"

enum {
    RECORDER_STOP = -2, /* of framing callbacks: not out of memory */
    RECORDER_ENDPOINTS = 32,
    RECORDER_TYPE_UNKNOWN = -1,
};

/* A CMD_SUBMIT or CMD_UNLINK without its answer. */
struct request {
    uint32_t seqnum;
    bool is_unlink;
    uint32_t unlink_seqnum; /* of an unlink; what follows is of a submit */
    struct request *next, *previous;
    uint64_t id;
    bool in;
    uint8_t type; /* USBIP_USBMON_… */
    uint8_t epnum;
    uint32_t length;
    uint32_t transfer_flags;
    int32_t interval;
    uint8_t setup[USBIP_SETUP_SIZE];
};

struct unlinked {
    bool is_set;
    uint32_t seqnum;
    bool in, is_isoc;
};

/* What comes behind the header of the PDU whose size was asked for last. */
struct payload {
    uint32_t data;        /* bytes */
    unsigned descriptors; /* isochronous ones, behind the data */
    uint64_t size;        /* of both */
};

struct stream {
    struct usbip_buffer partial;
    struct payload payload;
    uint64_t skip; /* bytes to come that are the rest of a payload, too much to be recorded */
};

struct output {
    struct output *next;
    char name[USBIP_BUSID_SIZE]; /* of its device, when there are several */
    struct usbip_usbmon_file *file;
};

struct connection {
    struct usbip_recorder *recorder;
    struct usbip_recorded_device *device; /* imported: the URB phase */
    char name[USBIP_BUSID_SIZE];          /* its busid, fit for messages and for files */
    struct output *output;
    bool stopped;
    struct stream streams[2];   /* enum usbip_way */
    uint32_t devices_to_come;   /* of an OP_REP_DEVLIST */
    struct usbip_header header; /* of the PDU whose size was asked for last */

    void *requests; /* a tree by seqnum */
    unsigned request_count;
    struct request *first, *last; /* submits, in their order */
    struct unlinked unlinked[USBIP_RECORDER_RECENTLY_UNLINKED];
    unsigned next_unlinked;

    bool described; /* as far as that is possible */
    bool has_descriptor, has_configuration;
    uint8_t bConfigurationValue;              /* 0: unknown */
    int8_t endpoint_type[RECORDER_ENDPOINTS]; /* USBIP_USBMON_… or RECORDER_TYPE_UNKNOWN */
};

struct usbip_recorder {
    struct usbip_recorder_options options;
    char *path;
    struct usbip_tap tap;
    struct output *outputs;
    unsigned output_count;
    struct usbip_recorded_devices devices;
    uint64_t last_id;
    uint64_t time_us; /* of what is being recorded */
    bool incomplete;
    bool cut_told; /* that transfers are too large */
    /* For one record at a time. */
    usb_isodesc descriptors[USBIP_MAX_ISO_PACKETS];
    struct usbip_buffer unpacked;
};

/* Something is not recorded; one line. */
__attribute__((format(printf, 2, 3))) void recorder_report(struct usbip_recorder *recorder,
                                                           const char *format, ...);
/* The connection is no stream of PDUs any more that could be followed. Returns RECORDER_STOP. */
__attribute__((format(printf, 2, 3))) int recorder_stop(struct connection *connection,
                                                        const char *format, ...);

/* ---- recorder_urbs.c ---- */

/*
 * Learns the endpoints' types from the present configuration, if it is known. Of alternate settings
 * that differ in a type, the first counts.
 */
void recorder_learn_endpoints(struct connection *connection);

/* The size of the PDU whose header connection->header is, as far as it can be recorded, or
 * RECORDER_STOP. */
int64_t recorder_submit_size(struct connection *connection, struct stream *stream);
int64_t recorder_ret_submit_size(struct connection *connection, struct stream *stream);

/* Record such a PDU. Return 0, -1 when memory is out, or RECORDER_STOP. */
int recorder_submit(struct connection *connection, struct stream *stream, const uint8_t *pdu,
                    size_t size);
int recorder_cmd_unlink(struct connection *connection);
void recorder_ret_submit(struct connection *connection, struct stream *stream, const uint8_t *pdu,
                         size_t size);
void recorder_ret_unlink(struct connection *connection);

/* The connection has ended, and with it all its URBs. */
void recorder_end_urbs(struct connection *connection);
void recorder_drop_requests(struct connection *connection);

#endif
