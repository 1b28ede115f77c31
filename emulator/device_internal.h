/* The device's state, shared by device.c (life cycle), urb.c (URBs), chapter9.c (standard requests)
 * and the bus. Functions and behaviours use device.h. */
#ifndef EMULATOR_DEVICE_INTERNAL_H
#define EMULATOR_DEVICE_INTERNAL_H

#include "emulator/device.h"
#include "emulator/fault_device.h"
#include "protocol/output.h"

enum {
    ENDPOINT_COUNT = 32, /* 16 numbers, two directions */
    INTERFACE_COUNT = 256,
    DEVICE_NAME_SIZE = USBIP_BUSID_SIZE,
};

struct endpoint {
    struct usbip_urb *first, *last;
    bool exists; /* in the present configuration and alternate settings */
    bool halted;
    unsigned unlinks;     /* lazy ones, since the endpoint was aborted last */
    uint8_t type;         /* USB_ENDPOINT_XFER_… */
    uint16_t packet_size; /* wMaxPacketSize without the bits for more transactions */
};

struct usbip_device {
    char name[DEVICE_NAME_SIZE];
    uint32_t busnum, devnum;
    bool plugged;
    bool broken; /* in error until it is plugged again */
    const struct usbip_personality *personality;
    const struct usbip_settling *settling; /* the present phase; NULL: none */
    struct usbip_timer settling_timer;
    struct usbip_timer plug_timer; /* armed: it comes back */
    bool has_other_identity;       /* until it is unplugged */
    uint16_t own_idVendor, own_idProduct;
    struct usbip_device_faults faults;

    struct usbip_device_descriptor descriptor;
    enum usbip_speed speed;
    uint8_t *configuration_bytes;
    size_t configuration_size;
    struct usbip_configuration *configuration;
    char *strings[USBIP_MAX_STRINGS];

    struct usbip_function *function;
    struct usbip_behaviour behaviour;
    struct usbip_range lasting; /* bytes of the behaviour */
    struct usbip_scheduler *scheduler;
    const struct usbip_log *log;
    struct usbip_device_session *session;
    struct usbip_device_counters counters;

    /* Chapter 9. */
    uint8_t bConfigurationValue; /* 0: not configured */
    uint8_t alternate[INTERFACE_COUNT];
    bool remote_wakeup;

    struct endpoint endpoints[ENDPOINT_COUNT];
    struct usbip_urb *free_urbs;
    unsigned waiting;           /* URBs on all endpoints */
    size_t owned_bytes;         /* of OUT URBs that wait */
    bool told_full;             /* that more URBs are refused; once, not for each */
    struct usbip_urb *arriving; /* its data is still the caller's */
    struct usbip_urb *control;  /* the request that endpoint 0 works on */
    bool running_control;
};

/* 0 for endpoint 0 in both directions. */
static inline unsigned usbip_endpoint_index(uint8_t endpoint)
{
    unsigned number = endpoint & 0x0f;
    return number && (endpoint & USB_DIR_IN) ? number + 16 : number;
}

/* Answers a request on endpoint 0, or gives it to the behaviour and the function. */
void usbip_device_control(struct usbip_device *device, struct usbip_urb *urb);

/* Forgets what waits on all endpoints, without a word to the host. */
void usbip_device_drop_urbs(struct usbip_device *device);

/* Ends what waits on these endpoints (0 excepted) with -USBIP_ESHUTDOWN and clears their halts. */
void usbip_device_shut_down_endpoints(struct usbip_device *device, const uint8_t *endpoints,
                                      size_t count);

/* Shows other ids until the device is unplugged the next time. */
void usbip_device_set_identity(struct usbip_device *device, uint16_t idVendor, uint16_t idProduct);

/* Ends a halt. Nothing waits on a halted endpoint, so there is nothing to go on with. */
void usbip_device_clear_halt(struct usbip_device *device, uint8_t endpoint);

/* Back to the default alternate settings, nothing halted; functions are reset. */
void usbip_device_reset(struct usbip_device *device);

#endif
