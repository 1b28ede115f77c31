/* What is under test: the server's address, and the device as it was before the first case. */
#ifndef TESTS_CONFORMANCE_TARGET_H
#define TESTS_CONFORMANCE_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/configuration.h"
#include "protocol/usbip.h"

enum {
    TARGET_MAX_DEVICES = 64, /* of a list are looked at */
    TARGET_TEXT_SIZE = 256,
    TARGET_MAX_CONFIGURATION = 4096,
};

struct line;
struct stimulus;

struct target {
    char host[TARGET_TEXT_SIZE], port[16];
    int timeout_ms, import_timeout_ms;
    int retry_ms; /* how long a device may be refused after it was given back */
    uint64_t seed;
    bool soak;
    char control[TARGET_TEXT_SIZE];  /* socket of our emulator's control; "": none */
    bool own_server;                 /* started for this run: all its devices are at our disposal */
    char unshared[USBIP_BUSID_SIZE]; /* a device that is present but not exported; "": unknown */

    struct usbip_device_record devices[TARGET_MAX_DEVICES]; /* as listed before the first case */
    unsigned device_count;

    bool has_device;
    struct usbip_device_record record; /* of the device under test */
    struct usbip_device_record other;  /* of another one, when busid is not "" */
    uint8_t device_descriptor[USB_DT_DEVICE_SIZE];
    uint8_t configuration_bytes[TARGET_MAX_CONFIGURATION];
    uint32_t configuration_size; /* 0: the descriptors could not be read */
    struct usbip_configuration configuration;
    uint8_t bulk_in, bulk_out, interrupt_in; /* endpoint numbers, 0: none */
    uint16_t bulk_in_packet, bulk_out_packet, interrupt_packet;
    uint8_t interval;
    unsigned status_bytes; /* an FTDI's, at the head of each bulk IN packet; 0: there are none */
    int acm_interface;     /* the communications interface, or -1 */
    struct target_iso {
        uint8_t endpoint; /* number, 0: none */
        uint8_t interface, alternate;
        uint16_t packet;
    } iso_in, iso_out;
    const struct stimulus *stimulus; /* NULL: nobody is at the device's other end */
    struct line *line;               /* the far end of its serial line, for stimulus_line */
};

/* Which device of the list is meant: by busid, by ids, or (neither) the first. */
struct target_choice {
    const char *busid;
    bool by_ids;
    uint16_t idVendor, idProduct;
};

/*
 * Lists the devices, takes the one that was chosen and reads its descriptors. Host, port and
 * time-outs of the target have to be there already. Returns 0, also when nothing is exported and
 * nothing was chosen; 1 when the descriptors cannot be read, so that many cases are not applicable;
 * or -1. Unless it is 0 the reason is in error_text.
 */
int target_find(struct target *target, const struct target_choice *choice,
                char error_text[TARGET_TEXT_SIZE]);

#endif
