/* USB/IP on one TCP connection of a capture: bytes of both directions to transfers. */
#ifndef EMULATOR_CAPTURE_USBIP_STREAM_H
#define EMULATOR_CAPTURE_USBIP_STREAM_H

#include "emulator/capture/capture_internal.h"

struct capture_usbip_stream;

/*
 * number tells connections apart. With expected, the port says that it is USB/IP; else the first
 * bytes must look like it, or the connection is left out. NULL: out of memory.
 */
struct capture_usbip_stream *capture_usbip_stream_new(uint32_t number, bool expected);
void capture_usbip_stream_free(struct capture_usbip_stream *stream);

/* The next bytes of one direction (0 or 1), in the order of the stream. Returns 0 or -1. */
int capture_usbip_stream_feed(struct capture_builder *builder, struct capture_usbip_stream *stream,
                              unsigned direction, const struct capture_record *record,
                              const uint8_t *bytes, size_t size);
/* So many bytes of one direction are not in the capture. */
void capture_usbip_stream_skip(struct capture_builder *builder, struct capture_usbip_stream *stream,
                               unsigned direction, uint32_t size);

/* Whether it has turned out to be USB/IP, or to be something else. */
bool capture_usbip_stream_is_known(const struct capture_usbip_stream *stream);
bool capture_usbip_stream_is_foreign(const struct capture_usbip_stream *stream);

#endif
