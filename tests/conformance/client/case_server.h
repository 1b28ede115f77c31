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

#include "emulator/session.h"
#include "protocol/buffer.h"
#include "protocol/usb.h"
#include "tests/conformance/client/rules.h"

enum {
    CASE_SERVER_MAX_LINKS = 128,
    CASE_SERVER_ADDRESS_SIZE = 300,
    CASE_SERVER_MAX_PAYLOAD = 4 << 20,     /* bytes of one OUT transfer */
    CASE_SERVER_RECEIVE_BUFFER = 64 << 10, /* SO_RCVBUF: what a deaf server takes all the same */
};

struct trial;
struct link;

/* A CMD_SUBMIT or CMD_UNLINK that has no answer yet. */
struct request {
    uint32_t seqnum;
    bool unlink, in;
    uint8_t endpoint; /* bEndpointAddress; 0 for control */
    uint32_t length;  /* transfer_buffer_length */
    uint32_t victim;  /* CMD_UNLINK */
    struct usbip_setup setup;
    uint32_t given; /* OUT: so many of its bytes go to the device; a hook may lower it */
};

/* A RET_SUBMIT or RET_UNLINK of the engine, on its way to the client. */
struct reply {
    struct usbip_header header;
    uint8_t *payload;
    size_t payload_size;
    struct request request; /* that it answers */
    bool drop;              /* it is not sent; the request stays unanswered */
};

/* What a case does to the traffic. Each may be NULL. They run while the case waits. */
struct hooks {
    /* The engine's answer to an operation, to be changed before it is sent; may be emptied. */
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

/* One connection of the client. */
struct link {
    int fd;
    char tag; /* in the log */
    struct trial *trial;
    struct usbip_device_session *session; /* NULL: over */
    struct usbip_buffer in, replies, out; /* parts of PDUs, and what is to be sent */
    bool imported;                        /* the URB phase */
    bool has_configuration, has_device_descriptor, has_configuration_descriptor; /* C026 */
    uint32_t devid;        /* as announced in OP_REP_IMPORT */
    uint32_t engine_devid; /* as the engine has it */
    struct request *pending;
    size_t pending_count, pending_capacity;
    uint32_t highest_seqnum; /* of a request */
    uint64_t requests;       /* of the URB phase that have come */
    uint64_t bulk_in_count;  /* CMD_SUBMITs for bulk IN among them */

    bool ended;   /* FIN or RST of the client */
    bool reset;   /* it was RST */
    bool cut_off; /* in the middle of a PDU */
    bool no_more; /* we have sent FIN; what comes is not looked at */

    /* Set by cases. */
    bool deaf;      /* nothing is read */
    bool held;      /* nothing is sent */
    bool keep_open; /* no FIN although the engine is done with it */
    bool mute;      /* requests are not looked at any more */
    size_t piece;   /* bytes in a segment; 0: as many as there are */
    int pause_ms;   /* between segments */
    uint64_t next_us;
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

/* ---- For cases ---- */

/* Sends bytes as they are. */
void link_send(struct link *link, const void *bytes, size_t size);
/* Sends a PDU with this header, behind all that waits. */
void link_send_pdu(struct link *link, const struct usbip_header *header, const void *payload,
                   size_t size);
void link_send_ret_submit(struct link *link, uint32_t seqnum, int32_t status,
                          uint32_t actual_length, const void *payload, size_t size);
void link_send_ret_unlink(struct link *link, uint32_t seqnum, int32_t status);
/* FIN behind all that waits; RST at once; and: not one packet of the client arrives any more. */
void link_end(struct link *link);
void link_reset(struct link *link);
bool link_vanish(struct link *link);
/* Whether the client has acknowledged all that was sent: after it vanished, nothing is sent again.
 */
bool link_is_acknowledged(const struct link *link);

/* The index-th request that waits on this endpoint, or NULL. */
struct request *link_pending(struct link *link, uint8_t endpoint, unsigned index);
unsigned link_pending_count(const struct link *link, uint8_t endpoint);
/* Takes a transfer away from the engine and answers it in its place. */
void link_complete(struct link *link, const struct request *request, int32_t status,
                   uint32_t actual_length, const void *payload, size_t size);
/* The request is answered: its seqnum may be used again. */
void link_retire(struct link *link, uint32_t seqnum);

#endif
