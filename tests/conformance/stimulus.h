/* Who is at the other end of the device and makes it send, halt or go away when a case asks. */
#ifndef TESTS_CONFORMANCE_STIMULUS_H
#define TESTS_CONFORMANCE_STIMULUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct target;
struct trial;
struct wire;

/* What the device has received on its bulk OUT endpoint since this was asked last. */
struct stimulus_received {
    uint32_t bytes, transfers, checksum;
};

/*
 * The kinds of stimulus. An operation that is NULL is one that this kind cannot do: cases that need
 * it are "not applicable". All run on the connection that has the device imported.
 */
struct stimulus {
    const char *name;
    /* What is sent at once is one transfer. Otherwise it is part of a stream of bytes, which the
     * device cuts as it likes: a case that needs the next ones apart waits for the first. */
    bool exact_packets;
    /* Opens the serial line of the device, which was just configured: nothing that an earlier case
     * has left behind comes any more. NULL: there is nothing to do. */
    void (*open)(struct trial *trial, struct wire *wire);
    /* The device sends these bytes as one transfer on that IN endpoint; 0 bytes: a packet of none.
     */
    void (*send)(struct trial *trial, struct wire *wire, uint8_t endpoint, const void *data,
                 size_t size);
    /* `count` transfers of `size` bytes on bulk IN; each starts with its number, from 1, as LE32.
     * NULL: they can be sent one by one. */
    void (*send_numbered)(struct trial *trial, struct wire *wire, unsigned count, unsigned size);
    void (*halt)(struct trial *trial, struct wire *wire, uint8_t endpoint);
    /* Takes the device away, and brings it back after so many ms. */
    void (*unplug)(struct trial *trial, struct wire *wire, unsigned ms);
    /* From now on what comes on bulk OUT is sent back on bulk IN (or not any more). */
    void (*echo)(struct trial *trial, struct wire *wire, int on);
    void (*received)(struct trial *trial, struct wire *wire, struct stimulus_received *received);
};

/* device.lua: vendor requests on endpoint 0 of the device itself. */
extern const struct stimulus stimulus_vendor_requests;
enum {
    STIMULUS_DEVICE_VENDOR = 0x1209,
    STIMULUS_DEVICE_PRODUCT = 0x00c0,
    STIMULUS_ECHO_PRODUCT = 0x00c1, /* second.lua */
};

/* Bytes are written to the far end of the device's serial line, and read there. */
extern const struct stimulus stimulus_line;
/* A plug connects TxD with RxD: what comes on bulk OUT goes back on bulk IN. */
extern const struct stimulus stimulus_loopback;

/*
 * Connects the target with the stimulus of --stimulus: "unix:PATH", "tty:PATH" or "loopback".
 * Returns 0, or -1 with what is wrong with it in error_text. stimulus_disconnect() undoes it.
 */
int stimulus_connect(struct target *target, const char *text, char error_text[256]);
void stimulus_disconnect(struct target *target);

/* The checksum of one transfer in struct stimulus_received, to be added up over transfers. */
uint32_t stimulus_checksum(const uint8_t *data, size_t size);

/* The operations; each ends the case as "not applicable" when this stimulus cannot do it. */
void stimulate_open(struct trial *trial, struct wire *wire);
void stimulate_send(struct trial *trial, struct wire *wire, uint8_t endpoint, const void *data,
                    size_t size);
void stimulate_send_numbered(struct trial *trial, struct wire *wire, unsigned count, unsigned size);
/* The transfer has to have that one of them. They have to be expected in order. */
void stimulate_expect_number(struct trial *trial, struct wire *wire, uint32_t seqnum,
                             uint32_t number);
void stimulate_halt(struct trial *trial, struct wire *wire, uint8_t endpoint);
void stimulate_unplug(struct trial *trial, struct wire *wire, unsigned ms);
void stimulate_echo(struct trial *trial, struct wire *wire, int on);
struct stimulus_received stimulate_received(struct trial *trial, struct wire *wire);

#endif
