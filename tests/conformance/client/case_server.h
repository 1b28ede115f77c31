/*
 * The server of one client case: the emulator's engine on a loopback socket, and between the two
 * a layer that looks at every PDU in both directions and changes what the case wants changed.
 *
 * It runs in the thread of the case, whenever that waits (trial.h).
 */
#ifndef TESTS_CONFORMANCE_CLIENT_CASE_SERVER_H
#define TESTS_CONFORMANCE_CLIENT_CASE_SERVER_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emulator/bus.h"
#include "tests/conformance/client/link.h"
#include "tests/conformance/client/rules.h"

enum {
    CASE_SERVER_MAX_LINKS = 128,
    CASE_SERVER_ADDRESS_SIZE = 300,
    CASE_SERVER_RECEIVE_BUFFER = 64 << 10, /* SO_RCVBUF: what a deaf server takes all the same */
};

/* What a case does to the traffic. Each may be NULL. They run while the case waits. */
struct hooks {
    /* The engine's answer to an operation, to be changed before it is sent; may be emptied. Called
     * when the record of a device is in it. */
    void (*op_reply)(struct trial *trial, struct link *link, uint16_t request_code,
                     struct usbip_buffer *bytes);
    /* A request, before the engine sees it. True: it shall not see it. */
    bool (*request)(struct trial *trial, struct link *link, struct request *request);
    void (*reply)(struct trial *trial, struct link *link, struct reply *reply);
};

/* What is at the other end of the serial line. */
struct far_end {
    struct usbip_device *device;
    bool echoes;
    bool open;                     /* DTR is on */
    unsigned opened, line_codings; /* how often */
    struct usbip_buffer received;  /* all that the client has sent */
};

struct case_server {
    struct trial *trial;
    int listener;
    char address[CASE_SERVER_ADDRESS_SIZE]; /* HOST:PORT, as a client is told */
    struct hooks hooks;
    void *context; /* of the hooks */
    struct usbip_scheduler scheduler;
    struct usbip_bus bus; /* with one device */
    struct far_end far_end;
    struct link *links[CASE_SERVER_MAX_LINKS];
    unsigned link_count;
    unsigned links_seen; /* by the case */
    uint8_t bulk_in, bulk_out, interrupt_in;
    uint16_t bulk_in_packet;
    int comm_interface; /* -1: not CDC-ACM */
    struct rules *rules;
};

/* Listens. Returns false with the reason in errno. */
bool case_server_listen(struct case_server *server, const char *host, const char *port);
void case_server_stop_listening(struct case_server *server);

/* The kinds of device that a client may find. */
struct device_choice {
    const char *function; /* "cdc_acm", "ftdi" */
    enum usbip_speed speed;
    uint16_t idVendor, idProduct;
    const char *serial_number;
};
/* The device at busid 1-1 from now on; links to the one before must be over. */
void case_server_plug(struct case_server *server, const struct device_choice *choice);
/* Closes all connections and forgets them. */
void case_server_drop_links(struct case_server *server);
void case_server_free(struct case_server *server);

/* For poll(): adds what to wait for, and returns how many; then acts on what came. Time passes. */
size_t case_server_wants(struct case_server *server, struct pollfd *fds);
void case_server_act(struct case_server *server);
/* When it wants to act although nothing comes, in us; USBIP_NEVER. */
uint64_t case_server_due_us(const struct case_server *server);
uint64_t case_now_us(void);

#endif
