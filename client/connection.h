/*
 * A TCP connection to a USB/IP server that runs a host session.
 *
 * Non-blocking at heart: start, then wait for the descriptor's events and call
 * usbip_connection_process(). usbip_connection_wait() does both for callers that block.
 * One thread at a time uses a connection.
 */
#ifndef CLIENT_CONNECTION_H
#define CLIENT_CONNECTION_H

#include "client/session.h"
#include "protocol/tap.h"

enum {
    USBIP_CONNECT_TIMEOUT_MS = 5000,
    USBIP_DEVLIST_TIMEOUT_MS = 5000,
    USBIP_IMPORT_TIMEOUT_MS = 20000, /* Windows may take 10 s to claim a device */
    USBIP_CONTROL_TIMEOUT_MS = 5000,
    USBIP_KEEPALIVE_IDLE_S = 10,
    USBIP_KEEPALIVE_INTERVAL_S = 1,
    USBIP_KEEPALIVE_PROBES = 5,
    USBIP_SEND_BUFFER_LIMIT = 1 << 20, /* bytes waiting to be sent before writers are held back */
};

/* Events to wait for and events that came, as a set. */
enum {
    USBIP_EVENT_READ = 1,
    USBIP_EVENT_WRITE = 2,
};

struct usbip_connection;

/*
 * Monotonic time in milliseconds, the `now` of all functions here. A call into the system.
 */
uint64_t usbip_now_ms(void);

/*
 * Whether usbip_connection_start() understands `host`; nothing is looked up. Returns 0 or
 * USBIP_ERROR_ARGUMENT.
 */
int usbip_connection_check_host(const char *host);

/*
 * Resolves host ("name", "name:port", "1.2.3.4:port", "[::1]:port"; port 3240 when left out) and
 * starts to connect; all addresses are tried in turn, each for its share of connect_timeout_ms.
 * Name resolution may block. The session must be new; its request may be made at once. The
 * connection owns the session from now on, also on error: *connection is NULL then and the session
 * freed.
 * Returns 0 or a negative error, with its words in error_text.
 */
int usbip_connection_start(struct usbip_connection **connection, const char *host,
                           struct usbip_host_session *session, uint32_t connect_timeout_ms,
                           char error_text[USBIP_ERROR_TEXT_SIZE]);

/* Has `tap`, which must outlive the connection, listen to it. At most once, right after the start.
 */
void usbip_connection_set_tap(struct usbip_connection *connection, const struct usbip_tap *tap);

/*
 * usbip_connection_wait() may leave so many bytes, made while it received, for the next call, so
 * that they go out with others. 0 at first.
 */
void usbip_connection_set_unhurried(struct usbip_connection *connection, size_t size);

/* Closes the socket and frees the session with all its transfers. NULL is allowed. */
void usbip_connection_free(struct usbip_connection *connection);

/*
 * Tells the server that nothing more will come, when all output has been sent. The server then
 * gives the device free and closes, which usbip_connection_process() returns as
 * USBIP_ERROR_DISCONNECTED.
 */
void usbip_connection_shut_down(struct usbip_connection *connection);

/* Sends what waits to be sent, as usbip_connection_process() does, and nothing else. */
int usbip_connection_flush(struct usbip_connection *connection);

/*
 * The time at which the connection was last looked after, for what happens within: ends of
 * transfers come many at a time.
 */
uint64_t usbip_connection_now_ms(const struct usbip_connection *connection);

/* How many bytes have been sent since the start; and how many that will be with all that waits. */
uint64_t usbip_connection_sent(const struct usbip_connection *connection);
uint64_t usbip_connection_sent_later(const struct usbip_connection *connection);

/* The descriptor to wait on. It changes while several addresses are tried. */
int usbip_connection_fd(const struct usbip_connection *connection);
/* Which USBIP_EVENT_… to wait for. */
int usbip_connection_events(const struct usbip_connection *connection);
/* When to call usbip_connection_process() although nothing came; UINT64_MAX: never. */
uint64_t usbip_connection_deadline_ms(const struct usbip_connection *connection);

/*
 * Does all that can be done without blocking: connects, reads, runs the session, writes. Safe to
 * call at any time. Returns 0, or the negative error that ended the connection; its words are those
 * of usbip_connection_error_text(). A server that closes after a complete device list is no error;
 * the descriptor is -1 then.
 */
int usbip_connection_process(struct usbip_connection *connection);

/*
 * Sends what waits, waits until the descriptor is ready, a deadline of the connection or `until_ms`
 * has come, and processes.
 * Returns as usbip_connection_process() does; time passing is no error.
 */
int usbip_connection_wait(struct usbip_connection *connection, uint64_t until_ms);
/*
 * The same for who waits for the payloads of IN transfers: they may come to lie in `memory`, as
 * usbip_host_session_expect() says, and are there until the end of their transfer. All of it is
 * undefined afterwards but for what its owner has put there.
 */
int usbip_connection_wait_for(struct usbip_connection *connection, uint64_t until_ms,
                              uint8_t *memory, size_t size);

struct usbip_host_session *usbip_connection_session(const struct usbip_connection *connection);
/* Names the peer and what happened. "" while all is well. */
const char *usbip_connection_error_text(const struct usbip_connection *connection);

/* ---- Lists of exported devices ---- */

struct usbip_listed_device {
    struct usbip_device_record record;
    struct usbip_interface_record interfaces[255];
};

struct usbip_device_list {
    struct usbip_listed_device *devices;
    unsigned count;
};

/*
 * Asks a server what it exports; blocks for at most timeout_ms (0: the defaults above). The caller
 * frees the list, also after an error (it is then empty). Returns the number of devices or a
 * negative error with its words in error_text.
 */
int usbip_list_devices(const char *host, uint32_t timeout_ms, struct usbip_device_list *list,
                       char error_text[USBIP_ERROR_TEXT_SIZE]);
void usbip_device_list_free(struct usbip_device_list *list);

/* ---- Which device is meant ---- */

enum { USBIP_SERIAL_NUMBER_SIZE = 3 * 126 + 1 }; /* UTF-8 of the longest string descriptor */

/* Identity of a device; what is not given matches any. */
struct usbip_device_match {
    char busid[USBIP_BUSID_SIZE]; /* "" = any */
    bool has_id;                  /* idVendor and idProduct are given */
    uint16_t idVendor;
    uint16_t idProduct;
    char serial_number[USBIP_SERIAL_NUMBER_SIZE]; /* "" = any; needs an import to be read */
};

/*
 * "1-1", "0403:6001" or "0403:6001:A50285BI" (four hexadecimal digits each, then iSerialNumber's
 * text, which may have colons). A busid has letters, digits and "-._". Returns 0, or
 * USBIP_ERROR_ARGUMENT with a match that is all zero.
 */
int usbip_device_match_parse(const char *text, struct usbip_device_match *match);
/* Whether a listed device fits, as far as the list tells (the serial number is not in it). */
bool usbip_device_match_record(const struct usbip_device_match *match,
                               const struct usbip_device_record *record);

#endif
