/*
 * Chip drivers: what a serial port must say to a chip and how it reads what comes back.
 *
 * A driver does no I/O. It looks at descriptors, turns wishes into control requests, and turns
 * packets into bytes; the port sends the requests in the order given. A new chip is one file with
 * one table and one line in drivers.c.
 */
#ifndef CLIENT_DRIVER_H
#define CLIENT_DRIVER_H

#include "protocol/configuration.h"
#include "protocol/serial.h"

enum {
    USBIP_MAX_CONTROL_DATA = 64, /* data stage of one request of a driver */
    USBIP_MAX_REQUESTS = 8,      /* that one wish may take */
};

/* One control transfer that a driver wants. */
struct usbip_control_request {
    struct usbip_setup setup;
    uint8_t data[USBIP_MAX_CONTROL_DATA]; /* OUT: setup.wLength bytes */
    bool may_stall;                       /* a stall is no failure: the chip may lack it */
};

struct usbip_request_list {
    struct usbip_control_request requests[USBIP_MAX_REQUESTS];
    unsigned count;
};

/* Appends a request; data may be NULL when wLength is 0 or the request is IN. */
void usbip_request_list_add(struct usbip_request_list *list, struct usbip_setup setup,
                            const uint8_t *data);

/* Where in the device the serial port is, found by probe. */
struct usbip_chip {
    const struct usbip_driver *driver;
    const char *name;             /* "CDC-ACM", "FT232R" */
    uint8_t ports;                /* serial ports that it has */
    uint8_t port;                 /* the one that is meant, from 1 */
    uint8_t control_interface;    /* wIndex of class requests */
    uint8_t bulk_in, bulk_out;    /* bEndpointAddress */
    uint16_t bulk_in_packet_size; /* wMaxPacketSize */
    uint16_t bulk_out_packet_size;
    uint8_t data_type;     /* USB_ENDPOINT_XFER_BULK or _INT of these two */
    uint8_t data_interval; /* bInterval of bulk_in when data_type is _INT */
    uint8_t interrupt_in;  /* 0: none */
    uint16_t interrupt_packet_size;
    uint8_t interrupt_interval; /* bInterval */
    uint8_t capabilities;       /* bmCapabilities of CDC-ACM */
    uint16_t bcdDevice;
    bool is_hi_speed; /* FTDI: its baud rates have a second clock */
};

struct usbip_serial_settings {
    struct usbip_line_coding line_coding;
    unsigned control_lines;    /* USBIP_LINE_… */
    unsigned latency_timer_ms; /* FTDI, 1 to 255; others ignore it */
};

struct usbip_driver {
    const char *name;
    /*
     * Whether data that fills its last packet may come without the end of the transfer, so that a
     * larger transfer would keep it from us until more follows.
     */
    bool may_forget_to_end;

    /*
     * Whether this device is one of ours; fills in *chip. chip->port is set: the endpoints are
     * those of this port, and none when there are fewer ports.
     */
    bool (*probe)(const struct usbip_device_descriptor *device,
                  const struct usbip_configuration *configuration, struct usbip_chip *chip);

    /*
     * Requests for each wish, in order, appended to the list. Return 0, or -1 when the chip cannot
     * do it. `open` leaves the control lines alone; the port sets them after the first IN transfers
     * are queued. `control_lines` sets DTR and RTS in one request.
     */
    int (*open)(const struct usbip_chip *chip, const struct usbip_serial_settings *settings,
                struct usbip_request_list *list);
    int (*line_coding)(const struct usbip_chip *chip, const struct usbip_line_coding *coding,
                       struct usbip_request_list *list);
    int (*control_lines)(const struct usbip_chip *chip, unsigned lines,
                         struct usbip_request_list *list);
    int (*set_break)(const struct usbip_chip *chip, const struct usbip_line_coding *coding, bool on,
                     struct usbip_request_list *list);
    int (*close)(const struct usbip_chip *chip, struct usbip_request_list *list);

    /*
     * Turns what one bulk IN transfer carried into received bytes, in place; returns their number.
     * *modem is the present state, changed when the transfer tells it. NULL: bytes as they are.
     */
    size_t (*received)(const struct usbip_chip *chip, uint8_t *data, size_t size, unsigned *modem);
    /* What an interrupt IN transfer says of the modem lines. NULL: nothing. */
    void (*notified)(const struct usbip_chip *chip, const uint8_t *data, size_t size,
                     unsigned *modem);
};

extern const struct usbip_driver usbip_driver_cdc_acm;
extern const struct usbip_driver usbip_driver_ftdi;

/*
 * Finds the driver of a device, for one of its serial ports, from 1. Returns 0, or -1 when there is
 * none. That chip->ports is not less than port is for the caller to check.
 */
int usbip_probe_chip(const struct usbip_device_descriptor *device,
                     const struct usbip_configuration *configuration, uint8_t port,
                     struct usbip_chip *chip);

#endif
