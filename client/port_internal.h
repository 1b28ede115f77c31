/*
 * The inside of a port: one state machine, driven by usbip_port_turn().
 *
 *   port.c          life, settings, waiting, the event loop's questions
 *   port_find.c     from "open" to an imported device: lists, candidates, loss and restore
 *   port_setup.c    from an imported device to an open port: descriptors, probe, first requests
 *   port_control.c  control requests, one after the other
 *   port_in.c       IN transfers and notifications
 *   port_read.c     the receive buffer, reading
 *   port_out.c      OUT transfers, writing
 *   port_open_all.c many ports at once
 *
 * Ends of transfers arrive in the middle of usbip_connection_process(), so nothing there may free
 * the connection: usbip_port_trouble() leaves a note, and usbip_port_turn() acts on it.
 */
#ifndef CLIENT_PORT_INTERNAL_H
#define CLIENT_PORT_INTERNAL_H

#include "client/driver.h"
#include "client/port.h"

enum {
    USBIP_MIN_IN_TRANSFERS = 16, /* under way; a stream makes them more */
    USBIP_MAX_IN_TRANSFERS = 2048,
    USBIP_IN_WINDOW = 1 << 20, /* bytes that all of them may bring */
    USBIP_MIN_OUT_TRANSFERS = 8,
    USBIP_MAX_OUT_TRANSFERS = 64,
    /* Bytes under way that are enough for short round trips. With their headers, and answers, they
     * fit into the 256 KiB that both sides usually read at once. */
    USBIP_NEAR_WINDOW = 240 << 10,
    USBIP_LONG_TRIP_MS = 2,           /* a round trip that it takes many transfers to fill */
    USBIP_DATA_TRANSFER_SIZE = 16384, /* what every server and host controller takes */
    /* Where so much gets through in a millisecond: by no device on a bus of USB 2.0. */
    USBIP_FAST_TRANSFER_SIZE = USBIP_NEAR_WINDOW / 4,
    USBIP_MAX_PENDING_REQUESTS = 32,
    USBIP_MAX_CANDIDATES = 64, /* devices tried for one open */
    USBIP_MAX_RETRIES = 3,     /* of one transfer, in a row */
    USBIP_NOTIFICATION_SIZE = 2048,

    /*
     * IN transfers that are under way when the buffer becomes full still have room. Twice of that
     * lets data be kept in one piece: before it has to be moved, as much was read as is moved.
     */
    USBIP_RECEIVE_CAPACITY = 2 * (USBIP_RECEIVE_BUFFER_SIZE + USBIP_IN_WINDOW),
};

/* What the port is busy with; usbip_port_state tells what that means for the user. */
enum usbip_port_step {
    USBIP_STEP_NONE,
    USBIP_STEP_LIST,   /* waiting for the list of devices */
    USBIP_STEP_IMPORT, /* waiting for the import of candidates[candidate] */
    USBIP_STEP_SETUP,  /* imported; control requests are under way */
    USBIP_STEP_READY,
    USBIP_STEP_PAUSE, /* waiting before the next attempt to restore */
};

/* result: 0 or a negative enum usbip_error; data and size: what an IN request brought. */
typedef void usbip_request_done(struct usbip_port *port, int result, const uint8_t *data,
                                uint32_t size);

struct usbip_pending_request {
    struct usbip_control_request request;
    usbip_request_done *done; /* NULL: of interest to who waits for the ticket only */
    uint64_t ticket;
    uint64_t last_ticket; /* of its list */
};

enum usbip_in_state { USBIP_IN_IDLE, USBIP_IN_FLIGHT, USBIP_IN_DONE };

struct usbip_in_transfer {
    struct usbip_transfer transfer;
    enum usbip_in_state state;
    unsigned generation; /* in_generation at its submit */
    uint64_t submitted_ms;
    uint8_t *kept; /* what it brought before its turn; NULL: nothing */
};

/*
 * What is known of a device whose data fills its last packet: whether it ends the transfer, with an
 * empty packet, or leaves the host waiting for more.
 */
enum usbip_in_ending { USBIP_IN_UNKNOWN, USBIP_IN_ENDS, USBIP_IN_FORGETS };

enum usbip_out_state { USBIP_OUT_FLIGHT, USBIP_OUT_DONE, USBIP_OUT_INCOMPLETE };

struct usbip_out_transfer {
    struct usbip_transfer transfer;
    enum usbip_out_state state;
    uint64_t submitted_ms;
    uint64_t end;       /* so many bytes are sent on the connection when all of it has been */
    uint32_t size;      /* when it was submitted first */
    uint32_t under_way; /* then, in bytes, with this one */
    uint8_t buffer[USBIP_FAST_TRANSFER_SIZE]; /* sent from here, after a stall once more */
};

/* Holds transfers back that end without any data, for a server that answers at once. */
struct usbip_back_off {
    unsigned empties; /* in a row */
    uint32_t delay_ms;
    uint64_t resume_ms; /* 0: not held back */
};

struct usbip_port {
    char *server;
    char *device;      /* as given, for people */
    bool device_valid; /* it could be parsed */
    struct usbip_device_match match;

    uint8_t chip_port; /* from 1 */
    struct usbip_serial_settings settings;
    bool settings_changed; /* since the device was last told, while it could not be told */
    uint8_t *delimiter;
    size_t delimiter_size;
    bool restore;
    uint32_t restore_timeout_ms;
    const struct usbip_tap *tap; /* NULL: nobody listens */

    enum usbip_port_state state;
    enum usbip_port_step step;
    int error; /* what closed the port; 0: its user */
    char error_text[USBIP_ERROR_TEXT_SIZE];

    struct usbip_connection *connection;
    struct usbip_host_session *session;
    bool dropping; /* the connection is being freed */
    int trouble;   /* noted by the end of a transfer */
    bool trouble_is_loss;
    char trouble_text[USBIP_ERROR_TEXT_SIZE];

    /* Finding the device. */
    uint64_t step_deadline_ms;
    bool list_complete;
    unsigned listed_count;
    char candidates[USBIP_MAX_CANDIDATES][USBIP_BUSID_SIZE];
    unsigned candidate_count, candidate;
    unsigned candidates_left_out;
    int attempt_error; /* of the first candidate that failed */
    char attempt_text[USBIP_ERROR_TEXT_SIZE];
    uint64_t lost_ms;
    char loss_text[USBIP_ERROR_TEXT_SIZE]; /* why, kept while restoring */
    uint32_t pause_ms;
    unsigned restore_count;

    /* Setting it up. */
    struct usbip_device_record record;
    struct usbip_device_descriptor descriptor;
    struct usbip_configuration configuration;
    uint8_t configuration_data[UINT16_MAX];
    struct usbip_port_identity found; /* of the candidate */
    struct usbip_port_identity identity;
    uint16_t language;
    struct usbip_chip chip;

    /* Control requests. */
    struct usbip_transfer control;
    bool control_in_flight;
    unsigned control_attempts;
    struct usbip_pending_request requests[USBIP_MAX_PENDING_REQUESTS];
    unsigned request_head, request_count;
    uint64_t next_ticket;
    uint64_t completed_ticket;
    uint64_t first_failed_ticket, last_failed_ticket; /* of the last list without `done` */
    int failed_result;
    char request_text[USBIP_ERROR_TEXT_SIZE]; /* of the last request that failed */
    uint8_t control_data[UINT16_MAX];

    /* IN. */
    bool in_running;
    bool in_halted; /* CLEAR_FEATURE is under way */
    unsigned in_generation;
    unsigned in_failures; /* in a row */
    struct usbip_back_off in_back_off;
    enum usbip_in_ending in_ending;
    bool in_last_full;          /* the last transfer with data brought all it asked for */
    uint64_t in_last_ms;        /* and came then */
    unsigned in_full_run;       /* transfers in a row that were full */
    uint64_t in_run_ms;         /* when the first of them was submitted */
    uint32_t in_run_bytes;      /* of all of them */
    unsigned in_stream_packets; /* of a stream without a pause */
    unsigned in_probes;         /* transfers of two packets under way while the ending is unknown */
    unsigned in_depth;          /* how many may be under way */
    bool in_fast;               /* USBIP_FAST_TRANSFER_SIZE each */
    uint32_t in_bytes;          /* that those under way ask for */
    unsigned in_head, in_count; /* in the order of submission */
    unsigned in_kept;           /* of these: have come before their turn */
    struct usbip_in_transfer in[USBIP_MAX_IN_TRANSFERS];
    size_t received_start, received_end; /* of received[] */
    /* What a reader has room for that found nothing there; used as long as received[] is empty. */
    uint8_t *reader;
    size_t reader_room; /* 0: nobody waits */

    struct usbip_transfer notification;
    bool notification_in_flight;
    unsigned notification_failures;
    struct usbip_back_off notification_back_off;
    unsigned modem_lines, modem_events;

    /* OUT. */
    uint32_t out_size, out_fast_size; /* of one transfer at most: whole packets */
    unsigned out_head, out_count, out_in_flight;
    uint32_t out_bytes;    /* under way */
    unsigned out_depth;    /* how many of out_size may be under way */
    bool out_fast;         /* transfers have up to out_fast_size */
    bool out_limited;      /* more was to be written than that allowed */
    unsigned out_failures; /* in a row */
    bool out_recovering;
    uint64_t out_ended; /* the largest `end` of those that have ended on this connection */
    int write_error;    /* to be told once */
    char write_error_text[USBIP_ERROR_TEXT_SIZE];
    struct usbip_out_transfer *out_order[USBIP_MAX_OUT_TRANSFERS]; /* a ring from out_head on */
    struct usbip_out_transfer *out_free[USBIP_MAX_OUT_TRANSFERS];  /* the last is used next */
    unsigned out_free_count;
    struct usbip_out_transfer out[USBIP_MAX_OUT_TRANSFERS];

    uint8_t notification_data[USBIP_NOTIFICATION_SIZE];
    uint8_t received[USBIP_RECEIVE_CAPACITY];
};

/* ---- port.c ---- */

/*
 * Sets the error text and returns the error. The device and the server are put in front, so other
 * texts do not name them.
 */
__attribute__((format(printf, 3, 4))) int usbip_port_fail(struct usbip_port *port, int error,
                                                          const char *format, ...);
/* The same, as a note for usbip_port_turn(). The first note wins. */
__attribute__((format(printf, 4, 5))) void
usbip_port_trouble(struct usbip_port *port, int error, bool is_loss, const char *format, ...);
/* now + timeout_ms, or UINT64_MAX for USBIP_FOREVER. */
uint64_t usbip_port_deadline(uint32_t timeout_ms);
/* Waits for news, a timer of the port or until_ms, and acts on it. */
void usbip_port_wait(struct usbip_port *port, uint64_t until_ms);
/* The error of a call on a port that is closed. */
int usbip_port_closed_error(struct usbip_port *port);
/* Frees the connection; all transfers have ended then. */
void usbip_port_drop_connection(struct usbip_port *port);
/* Closes for good. */
void usbip_port_shut(struct usbip_port *port, int error);

/* ---- port_find.c ---- */

void usbip_port_find_start(struct usbip_port *port);
/* Acts on what has happened; result is that of usbip_connection_process(). */
void usbip_port_turn(struct usbip_port *port, int result);
/* Whether the candidate is the device that is meant, once its strings are known. */
bool usbip_port_accepts(struct usbip_port *port);

/* ---- port_setup.c ---- */

void usbip_port_setup_start(struct usbip_port *port);

/* ---- port_control.c ---- */

/* Queues a request. Returns its ticket, or 0 when too many wait already. */
uint64_t usbip_port_request(struct usbip_port *port, const struct usbip_control_request *request,
                            usbip_request_done *done);
/*
 * Queues all requests of a list. When one fails, those after it are not sent. `done` is called
 * once, with the result of the last that was. Returns the last ticket, or 0 as above.
 */
uint64_t usbip_port_request_all(struct usbip_port *port, const struct usbip_request_list *list,
                                usbip_request_done *done);
void usbip_port_clear_halt(struct usbip_port *port, uint8_t endpoint, usbip_request_done *done);
/* Drops the requests that were not sent yet; nobody is told. */
void usbip_port_drop_requests(struct usbip_port *port);
void usbip_port_control_reset(struct usbip_port *port);
/* Whether a transfer ended because the device is not there any more. */
bool usbip_status_is_gone(int32_t status);

/* ---- port_in.c ---- */

void usbip_port_in_start(struct usbip_port *port);
void usbip_port_in_reset(struct usbip_port *port);
void usbip_port_in_unlink(struct usbip_port *port, uint64_t now_ms);
/* Submits what was held back, when its time has come. */
void usbip_port_in_advance(struct usbip_port *port);
uint64_t usbip_port_in_deadline_ms(const struct usbip_port *port);

/* ---- port_read.c ---- */

/*
 * Where what comes next goes: to the reader who waits for it, or to the receive buffer, which has
 * room for all transfers in flight beyond its size. usbip_port_received() tells how many bytes have
 * been put there.
 */
uint8_t *usbip_port_receive_room(struct usbip_port *port, size_t size);
void usbip_port_received(struct usbip_port *port, const uint8_t *room, size_t size);
/*
 * How much of the reader's memory may be received into straight away. What else goes to a reader
 * must not reach over what has come there and is still to be looked at, so nothing may be kept.
 */
size_t usbip_port_direct_room(const struct usbip_port *port);

/* ---- port_out.c ---- */

void usbip_port_out_start(struct usbip_port *port);
void usbip_port_out_reset(struct usbip_port *port);
void usbip_port_out_unlink(struct usbip_port *port, uint64_t now_ms);

#endif
