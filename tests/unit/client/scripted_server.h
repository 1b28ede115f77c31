/*
 * A USB/IP server in a thread, with one scripted device, that writes down every PDU it gets.
 *
 * The journal has one line per PDU: "connection", "list", "import 1-1", "control 21 22 03 00 00 00
 * 00 00" (with " | " and the data, if any), "in 82 64", "out 01 5", "unlink in 82" and "end".
 */
#ifndef TESTS_UNIT_CLIENT_SCRIPTED_SERVER_H
#define TESTS_UNIT_CLIENT_SCRIPTED_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/usb.h"

enum {
    SCRIPTED_MAX_LINES = 65536,
    SCRIPTED_LINE_SIZE = 96,
    SCRIPTED_MAX_DEVICES = 80,
    SCRIPTED_MAX_PENDING = 4096,
    SCRIPTED_MAX_PACKETS = 256,
    SCRIPTED_PACKET_SIZE = 64,
    SCRIPTED_MAX_ANSWERS = 64,
    SCRIPTED_MAX_WRITTEN = 4 << 20,
};

/* How one transfer is to end: with this status and at most so many bytes. */
struct scripted_answer {
    int32_t status;
    uint32_t actual_length;
};

struct scripted_device {
    const char *busid;
    uint16_t idVendor, idProduct;
    const char *serial_number;
    uint32_t import_status;
    bool hidden; /* not in the list */
};

struct scripted_packet {
    uint8_t bytes[SCRIPTED_PACKET_SIZE];
    size_t size;
};

struct scripted_end {
    unsigned index;
    const void *data;
    size_t size;
};

struct scripted_pending {
    uint32_t seqnum;
    uint8_t endpoint; /* with the direction bit */
    uint32_t length;
};

struct scripted_server {
    /* Set up before the start; afterwards only with the mutex locked. */
    const uint8_t *configuration;
    size_t configuration_size;
    uint16_t bcdDevice;
    struct scripted_device devices[SCRIPTED_MAX_DEVICES];
    unsigned device_count;
    uint8_t stall_request;    /* bRequest of a class or vendor request that stalls; 0: none */
    unsigned broken_requests; /* so many class or vendor requests fail with EPROTO */
    bool stall_strings;
    bool answers_nothing; /* after the import */
    bool holds_out;       /* OUT transfers are not answered */
    bool answers_early;   /* OUT transfers, before their data are read */
    unsigned halt_every; /* so many OUT transfers: one is taken by half, then all stall; 0: never */
    uint64_t pattern_left; /* bytes 0, 1, 2 … that IN transfers are filled with */
    uint8_t pattern_next;
    struct scripted_answer in_answers[SCRIPTED_MAX_ANSWERS], out_answers[SCRIPTED_MAX_ANSWERS];
    unsigned in_answer_count, out_answer_count; /* for the next transfers; then all is well */
    bool empty_in;                              /* every IN transfer ends at once, without data */
    /* Called in the server's thread after each PDU was answered, with the mutex locked. */
    void (*hook)(struct scripted_server *server, const char *line);

    /* The rest is the server's own. */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    int listener, socket;
    bool stopping;
    unsigned connections;
    const struct scripted_device *imported;
    struct scripted_pending pending[SCRIPTED_MAX_PENDING];
    unsigned pending_count;
    bool out_halted;
    unsigned out_taken; /* since the last halt */
    struct scripted_packet packets[SCRIPTED_MAX_PACKETS];
    unsigned packet_count;
    uint8_t written[SCRIPTED_MAX_WRITTEN];
    size_t written_size;
    char journal[SCRIPTED_MAX_LINES][SCRIPTED_LINE_SIZE];
    unsigned line_count;
    uint16_t port;
    char address[32]; /* for usbip_port_new() */
};

/* Allocates a server with one CDC-ACM device 1209:0001, serial number "A1", at busid 1-1. */
struct scripted_server *scripted_server_new(void);
/* The same with an FT232R, 0403:6001. */
struct scripted_server *scripted_server_new_ftdi(void);
void scripted_server_start(struct scripted_server *server);
void scripted_server_stop(struct scripted_server *server); /* frees, too */
/* After scripted_die(): the server is back at its old address. */
void scripted_server_restart(struct scripted_server *server);

void scripted_lock(struct scripted_server *server);
void scripted_unlock(struct scripted_server *server);

/* With the mutex locked: */

/* Queues one packet, which ends one bulk IN transfer. */
void scripted_send(struct scripted_server *server, const void *data, size_t size);
/* Ends the interrupt IN transfer, which must be pending. */
void scripted_notify(struct scripted_server *server, const void *data, size_t size);
/* Ends all OUT transfers that are held. */
void scripted_end_out(struct scripted_server *server);
/*
 * Ends `count` bulk IN transfers, in this order and in one go: each is the one that was pending at
 * `index` before the call, and brings its data.
 */
void scripted_end_in(struct scripted_server *server, const struct scripted_end *ends,
                     unsigned count);
/* Fills all bulk IN transfers that are pending. */
void scripted_fill_in(struct scripted_server *server);
/* Closes the present connection. */
void scripted_disconnect(struct scripted_server *server);
/* The same, and no connection is accepted any more: the server has died. */
void scripted_die(struct scripted_server *server);
unsigned scripted_count(const struct scripted_server *server, const char *prefix);
/* Index of the first line with this prefix from `from` on, or -1. */
int scripted_find(const struct scripted_server *server, const char *prefix, int from);

/* Without it: waits, at most ten seconds, until there are so many lines with this prefix. */
bool scripted_wait(struct scripted_server *server, const char *prefix, unsigned count);

#endif
