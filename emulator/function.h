/*
 * Functions: the chip of an emulated device, behind one table of operations. A new chip is one file
 * with one table and one line in functions.c.
 */
#ifndef EMULATOR_FUNCTION_H
#define EMULATOR_FUNCTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/usbip.h"

struct usbip_device;
struct usbip_device_options;
struct usbip_ftdi_chip;
struct usbip_urb;

enum { USBIP_FIFO_SIZE = 1 << 20 }; /* bytes that wait for the host, per port or endpoint */

/* Layout that a device may choose; 0 takes the function's default. */
struct usbip_function_options {
    uint8_t out_endpoint, in_endpoint, interrupt_endpoint; /* bEndpointAddress */
    bool no_iad; /* CDC-ACM: a class-2 device without interface association */
    bool paced;  /* serial chips: bytes take the time that the line coding says */
    const struct usbip_ftdi_chip *ftdi_chip; /* FTDI: NULL is an FT232R */
};

/* The state of a function; each kind extends it by making it its first member. */
struct usbip_function {
    const struct usbip_function_type *type;
    struct usbip_device *device;
    unsigned port_count; /* serial ports, at most USBIP_MAX_PORTS; 0: not a serial chip */
};

struct usbip_function_type {
    const char *name; /* as a script names it: "cdc_acm" */

    /*
     * Fills in what the options leave open: class codes, ids, strings' indices, packet size. Writes
     * the configuration descriptor and returns its size, or 0 when it does not fit. NULL: the
     * options must bring one.
     */
    size_t (*describe)(struct usbip_device_options *options, uint8_t *configuration,
                       size_t capacity);

    /* NULL and error_text when the configuration lacks what the function needs, or memory is out.
     */
    struct usbip_function *(*create)(struct usbip_device *device,
                                     const struct usbip_function_options *options,
                                     char error_text[256]);
    void (*destroy)(struct usbip_function *function);

    /*
     * A class or vendor request that the behaviour did not take. It is completed here, or later as
     * what usbip_device_next_urb(device, 0) then gives; its seqnum tells whether the host has
     * unlinked it meanwhile. Until then the control requests behind it wait.
     */
    void (*control)(struct usbip_function *function, struct usbip_urb *urb);

    /* URBs wait on this endpoint: take them with usbip_device_next_urb() as far as there is data.
     */
    void (*in)(struct usbip_function *function, uint8_t endpoint);
    void (*out)(struct usbip_function *function, uint8_t endpoint);

    /* The bytes that wait for the host are dropped; no URB waits. */
    void (*purge)(struct usbip_function *function);

    /* Bus reset, or the host is gone: back to the state after power-on. */
    void (*reset)(struct usbip_function *function);

    /* The behaviour's side, as in device.h, for ports that there are. */
    size_t (*write)(struct usbip_function *function, unsigned port, const uint8_t *data,
                    size_t size);
    size_t (*write_room)(const struct usbip_function *function, unsigned port);
    void (*set_modem_state)(struct usbip_function *function, unsigned port, unsigned modem);
    unsigned (*modem_state)(const struct usbip_function *function, unsigned port);
    /* NULL: not the raw function. */
    bool (*send)(struct usbip_function *function, uint8_t endpoint, const uint8_t *data,
                 size_t size);
};

extern const struct usbip_function_type usbip_function_cdc_acm;
extern const struct usbip_function_type usbip_function_ftdi;
extern const struct usbip_function_type usbip_function_raw;

/* The function of that name, or NULL. */
const struct usbip_function_type *usbip_find_function(const char *name);
/* All names, separated by ", ", for messages. */
const char *usbip_function_names(void);

#endif
