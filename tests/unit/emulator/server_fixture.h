/*
 * What the tests of the server share: a server with two CDC-ACM devices, on a loop in a thread of
 * its own, and clients on plain sockets.
 */
#ifndef TESTS_UNIT_EMULATOR_SERVER_FIXTURE_H
#define TESTS_UNIT_EMULATOR_SERVER_FIXTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "emulator/server.h"
#include "emulator/session.h"

enum {
    DEVICES = 2,
    TIMEOUT_S = 20, /* for what never takes so long */
    PIECE = 4096,   /* bytes of a transfer of a slow client */
    URB_REPLY = USBIP_HEADER_SIZE,
};

/* ---- The server's side ---- */

extern uv_loop_t loop;
extern struct usbip_scheduler scheduler;
extern struct usbip_bus bus;
extern struct usbip_echo echoes[DEVICES];
extern struct usbip_behaviour others[DEVICES]; /* instead of echoing, where there is one */
extern struct usbip_server *server;            /* NULL: it has been closed */
extern char bound[USBIP_SERVER_ADDRESS_SIZE], error_text[USBIP_SERVER_ERROR_SIZE];
extern int port;
extern uint64_t seed;         /* of the faults */
extern int buffer_size;       /* for what the server sends; 0: the usual one */
extern bool without_io_uring; /* what the server's options say */
extern atomic_uint loop_turns;

/* "--no-io-uring" is one. */
void take_server_arguments(int argc, char **argv);

void make_server(bool virtual_time);
/* Afterwards the loop belongs to its thread, until stop_server(). */
void listen_on(const char *address);
void start_server_on(const char *address);
void start_server(void);
void start_server_with(bool virtual_time, const char *const faults[]);
/* Returns when the loop has called it. */
void call_in_loop(void (*function)(void));
/* The loop goes on in a new thread. */
void move_loop(void);
/* Asks the loop's thread to close the server, waits for its end and frees all. */
void stop_server(void);
/* For a server that has been closed on a loop that has ended. */
void free_server(void);

/* ---- A client ---- */

int connect_client(void);
void send_all(int fd, const void *data, size_t size);
void receive_all(int fd, void *data, size_t size);
/* True when the server has closed the connection, and nothing came before. */
bool is_closed(int fd);
/* Closes with a reset. */
void reset_client(int fd);

void request_devlist(int fd);
unsigned receive_devlist(int fd);
unsigned listed_devices(void);

void make_submit(uint8_t bytes[USBIP_HEADER_SIZE], unsigned device, uint32_t seqnum, uint32_t ep,
                 bool in, uint32_t length);
/* Attaches to device 1 or 2 and configures it. Returns -1 when the device is busy. */
int try_import(unsigned device);
int import(unsigned device);
/* Until the server has seen that the one before is gone. Each attempt is a round trip. */
int import_when_free(unsigned device);
/* Sends text to the echoing device and compares what comes back. */
void exchange(int fd, unsigned device, const char *text);

/* ---- A slow client ---- */

/* What has been sent to and received from a client that writes ahead of its reading. */
struct slow_client {
    int fd;
    uint8_t *output, *input;
    size_t output_size, sent, input_size, received;
};

/* An OUT transfer and an IN transfer each. Where the latter comes first, the echo goes straight
 * into it. */
void make_pairs(struct slow_client *client, uint32_t count, bool in_first);
/* Sends as long as the socket takes something within a tenth of a second. */
void send_until_blocked(struct slow_client *client);
/* Sends and receives the rest. */
void finish(struct slow_client *client);
/* Every byte has come back, in order. */
bool is_echo(const struct slow_client *client);

#endif
