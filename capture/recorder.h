/*
 * A recorder: is fed the bytes that pass on USB/IP connections and writes what they mean as usbmon
 * records, as if they had been captured on the bus of the client's host.
 *
 *   CMD_SUBMIT  an 'S' record
 *   RET_SUBMIT  its 'C' record
 *   RET_UNLINK  the 'C' record of the URB that it took back, with its status (-ECONNRESET); for an
 *               URB that had ended nothing, and nothing for CMD_UNLINK, as in usbmon
 *   the end of a connection  a 'C' record with -ESHUTDOWN for each URB under way
 *
 * URB ids count up and are never used twice in a recording. A device keeps its address over all its
 * connections, and no other has it; it is the server's, if that fits into the format.
 *
 * Before the first request of a connection that is not GET_DESCRIPTOR, the device descriptor and
 * the configuration descriptor are in the file: when the client has not read them by then, what the
 * recorder knows of them (usbip_recorder_describe(), an earlier connection, the import) is written
 * as two control transfers that never passed.
 *
 * Of a transfer that is larger than a record of libpcap the beginning is recorded.
 *
 * The peers are not trusted: what cannot be a USB/IP stream ends the recording of its connection,
 * and memory grows with what has arrived, not with what a header promises. Nobody waits for a
 * recorder but for its write to the file, once for all that it is fed at a time. One thread.
 */
#ifndef CAPTURE_RECORDER_H
#define CAPTURE_RECORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/tap.h"
#include "protocol/usb.h"

enum {
    USBIP_RECORDER_MAX_URBS = 65536,       /* under way on one connection */
    USBIP_RECORDER_MAX_FILES = 256,        /* with file_per_device */
    USBIP_RECORDER_RECENTLY_UNLINKED = 64, /* that a late RET_SUBMIT may still come for */
    USBIP_RECORDER_ERROR_SIZE = 512,
};

struct usbip_recorder;

struct usbip_recorder_options {
    const char *path;
    /* Each device has a file of its own: of "a/b.pcap", 1-2 has "a/b-1-2.pcap". */
    bool file_per_device;
    /* Microseconds since 1970. NULL: the system's clock. */
    uint64_t (*now_us)(void *context);
    /* Something is not recorded any more: one line without a newline, once for each cause. */
    void (*report)(void *context, const char *line);
    void *context;
};

/* Opens the file, unless each device has one. Returns NULL and, in error_text, why not. */
struct usbip_recorder *usbip_recorder_new(const struct usbip_recorder_options *options,
                                          char error_text[USBIP_RECORDER_ERROR_SIZE]);

/*
 * Closes the files. All connections must have been closed. Returns 0, or -1 when something was not
 * recorded, which has been reported. NULL is allowed.
 */
int usbip_recorder_free(struct usbip_recorder *recorder);

/* What to hang into a server, a client or a relay. Valid as long as the recorder. */
const struct usbip_tap *usbip_recorder_tap(struct usbip_recorder *recorder);

/*
 * Tells the descriptors of a device that may be imported later, as OP_REP_IMPORT will show it.
 * Malformed ones are ignored.
 */
void usbip_recorder_describe(struct usbip_recorder *recorder,
                             const struct usbip_device_record *record,
                             const uint8_t descriptor[USB_DT_DEVICE_SIZE],
                             const uint8_t *configuration, size_t configuration_size);

#endif
