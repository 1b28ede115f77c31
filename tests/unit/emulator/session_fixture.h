/*
 * What the tests of sessions, devices and functions share: a bus with devices whose behaviour
 * writes down how it was called, and clients that talk to it in bytes.
 *
 * A word on the notation of bytes: hex digits; blanks and '|' between them are for the reader.
 */
#ifndef TESTS_UNIT_EMULATOR_SESSION_FIXTURE_H
#define TESTS_UNIT_EMULATOR_SESSION_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/bus.h"
#include "emulator/session.h"
#include "tests/support/testing.h"

enum { CALLS_SIZE = 8192, SHOWN_DATA_SIZE = 64, DEVICES_MAX = 4 };

/*
 * The behaviour of a device. Every call is written down as a word of `calls`: "attach", "open",
 * "data=616263", or "data:1000" when there is more than SHOWN_DATA_SIZE; of the second port of a
 * chip it is "2.open" and so on. After that `then`, if
 * any, may do what a test wants to be done from within; `word` is what was just written down.
 */
struct recorder {
    struct usbip_device *device;
    char calls[CALLS_SIZE];
    void (*then)(struct recorder *recorder, const char *word);
    bool echoes;           /* data is written back */
    bool fails;            /* says of everything that it went wrong */
    bool hears_control;    /* writes control requests down and leaves them to the chip */
    bool takes_control;    /* keeps them */
    struct usbip_urb *urb; /* of the control() that is being told */
    uint64_t received;     /* bytes of data */
    uint64_t received_sum; /* see data_sum() */
};

struct client {
    struct usbip_device_session *session;
    unsigned wakes;  /* calls of wake() */
    uint8_t *output; /* what the session has sent and nobody has looked at yet */
    size_t output_size;
};

struct fixture {
    struct usbip_scheduler scheduler;
    struct usbip_bus bus;
    struct recorder recorders[DEVICES_MAX];
    char log[4096]; /* the end of it */
};

/* An empty bus; fixture_free() frees all. */
void fixture_init(struct fixture *fixture);
void fixture_free(struct fixture *fixture);
/* Time passes; timers fire. */
void fixture_pass_us(struct fixture *fixture, uint64_t us);

/* A full-speed device 1209:0001, bcdDevice 1.00, strings "Maker", "Thing", "S1". */
struct usbip_device_options usual_options(void);

/* Puts a device on the bus and returns its recorder. */
struct recorder *add_device(struct fixture *fixture, const struct usbip_function_type *type,
                            const struct usbip_device_options *options);

/* The device as the bus does not take it: NULL and why. */
struct usbip_device *new_device(struct fixture *fixture, struct recorder *recorder,
                                const struct usbip_function_type *type,
                                const struct usbip_device_options *options, char error_text[256]);

/* True when these were the calls since the last question; they are forgotten. */
bool called(struct recorder *recorder, const char *calls);

/* A sum that tells where in a stream a byte was. */
uint64_t data_sum(uint64_t offset, const uint8_t *data, size_t size);

/* A connection; client_close() frees it. */
void client_open(struct fixture *fixture, struct client *client);
void client_close(struct client *client);

/* Return what usbip_device_session_receive() returns. */
int client_send(struct client *client, const char *hex);
int client_send_bytes(struct client *client, const void *data, size_t size);
/* CMD_SUBMIT for the first device. address is a bEndpointAddress; setup 8 bytes in hex, or NULL. */
int submit_in(struct client *client, uint32_t seqnum, uint8_t address, uint32_t length,
              const char *setup);
int submit_out(struct client *client, uint32_t seqnum, uint8_t address, const char *data,
               const char *setup);
int submit_out_bytes(struct client *client, uint32_t seqnum, uint8_t address, const uint8_t *data,
                     size_t size);
int submit_unlink(struct client *client, uint32_t seqnum, uint32_t unlink_seqnum);
/* CMD_SUBMIT with everything in it. */
int submit(struct client *client, const struct usbip_header *header, const void *data, size_t size);

/* Import of "1-1" and SET_CONFIGURATION(1), with seqnum 0xc0; aborts when one is refused. */
void client_import(struct client *client);
void client_configure(struct client *client);

/*
 * True when the session has sent exactly this next, byte by byte; it is taken. If not, what came
 * instead is printed and stays.
 */
bool got(struct client *client, const char *hex);
bool got_bytes(struct client *client, const void *expected, size_t size);
bool got_in(struct client *client, uint32_t seqnum, int32_t status, const char *data);
bool got_in_bytes(struct client *client, uint32_t seqnum, int32_t status, const void *data,
                  size_t size);
bool got_out(struct client *client, uint32_t seqnum, int32_t status, uint32_t actual_length);
bool got_unlinked(struct client *client, uint32_t seqnum, int32_t status);
/* True when there is nothing more. */
bool got_nothing(struct client *client);
bool client_is_over(const struct client *client);

/* A control transfer from setup to status: true when it ended like this. */
bool control_in(struct client *client, const char *setup, int32_t status, const char *data);
bool control_out(struct client *client, const char *setup, const char *data, int32_t status);

#endif
