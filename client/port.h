/*
 * A serial port on a USB device behind a USB/IP server.
 *
 *     struct usbip_port *port = usbip_port_new("testhost", "0403:6001");
 *     usbip_port_open(port, 5000);
 *     usbip_port_write_all(port, "*IDN?\n", 6, 1000);
 *     usbip_port_read_line(port, line, sizeof line, 1000);
 *
 * Errors. Functions return 0 or a positive count on success and a negative enum usbip_error
 * otherwise; usbip_port_error_text() then says in words what happened, naming the server and the
 * device. Time-outs are in milliseconds: 0 does what is possible at once, USBIP_FOREVER waits.
 *
 * Threads. One thread at a time uses a port. Different ports are independent.
 *
 * Data is received while a call of this library runs on the port, into a buffer of
 * USBIP_RECEIVE_BUFFER_SIZE bytes; when it is full the device is left waiting and nothing is lost.
 *
 * In somebody's event loop: wait for usbip_port_events() on usbip_port_fd(), or for
 * usbip_port_timeout_ms() to pass, then call usbip_port_process(); read and write with a time-out
 * of 0. A descriptor may change with every call, so ask for it each time.
 *
 * Restore. When the device resets, is re-plugged or the connection is lost, a port that was open
 * looks for its device again and sets it up as it was: line coding, control lines, latency timer.
 * Opened by busid, it must have the same VID:PID and serial number, and with a serial number it is
 * found at other busids, too. Opened by VID:PID, any such device will do at the same busid, but at
 * another one only one with the same serial number. Until then reads and writes wait, up to their
 * time-outs. Bytes in flight at that moment may be lost; a write that was not confirmed returns
 * USBIP_ERROR_DISCONNECTED, once. usbip_port_set_restore() turns it off.
 */
#ifndef CLIENT_PORT_H
#define CLIENT_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/connection.h"
#include "client/error.h"
#include "protocol/serial.h"

#define USBIP_FOREVER UINT32_MAX

enum {
    USBIP_RECEIVE_BUFFER_SIZE = 1 << 20,
    USBIP_DEFAULT_LATENCY_TIMER_MS = 2,
    USBIP_RESTORE_TIMEOUT_MS = 30000,
    USBIP_CLOSE_TIMEOUT_MS = 1000,
};

struct usbip_port;

enum usbip_port_state {
    USBIP_PORT_CLOSED, /* not opened, closed, or given up with an error */
    USBIP_PORT_OPENING,
    USBIP_PORT_OPEN,
    USBIP_PORT_RESTORING, /* was open; looking for the device */
    USBIP_PORT_CLOSING,
};

/*
 * A closed port. server is as for usbip_connection_start(); device is as for
 * usbip_device_match_parse(). Both are copied. Settings: 115200 8N1, DTR and RTS asserted on open,
 * the chip's first port, latency timer 2 ms, delimiter "\n", restore on. Returns NULL when memory
 * is out; a malformed device is told by usbip_port_open().
 */
struct usbip_port *usbip_port_new(const char *server, const char *device);

/* Closes (without waiting for the device) and frees. NULL is allowed. */
void usbip_port_free(struct usbip_port *port);

/*
 * Opens every device of the server that fits one of the given `count` texts, each as for
 * usbip_device_match_parse(): all instances of several hardware ids at once. Busy devices are left
 * out. ports[] receives at most max_ports open ports, which the caller frees. Returns their number
 * or a negative error with its words in error_text.
 */
int usbip_port_open_all(const char *server, const char *const *devices, unsigned count,
                        struct usbip_port **ports, unsigned max_ports, uint32_t timeout_ms,
                        char error_text[USBIP_ERROR_TEXT_SIZE]);

/*
 * Connects, imports the device, configures it, applies the settings and asserts the control lines.
 * With timeout_ms 0 it only starts; usbip_port_state() tells how far usbip_port_process() has come.
 * A time-out of at least 20 s lets slow servers answer. USBIP_ERROR_TIMEOUT closes the port.
 */
int usbip_port_open(struct usbip_port *port, uint32_t timeout_ms);

/*
 * Lowers DTR and RTS, unlinks all transfers, ends the connection and waits until the server has let
 * the device go; all that for at most a second. Settings stay for the next open. Bytes that were
 * written but not drained are given up.
 */
void usbip_port_close(struct usbip_port *port);

enum usbip_port_state usbip_port_state(const struct usbip_port *port);

/* What the last failed call says, or why the port is restoring. "" if nothing failed yet. */
const char *usbip_port_error_text(const struct usbip_port *port);

/* ---- Settings: kept by the port, sent at once when it is open ---- */

/*
 * The request has been confirmed by the device when this returns 0. What the device refuses
 * (USBIP_ERROR_STALL, USBIP_ERROR_TRANSFER) is taken back; after USBIP_ERROR_TIMEOUT the new
 * setting is kept, and it is unknown whether the device has it yet.
 */
int usbip_port_set_line_coding(struct usbip_port *port, const struct usbip_line_coding *coding,
                               uint32_t timeout_ms);
void usbip_port_get_line_coding(const struct usbip_port *port, struct usbip_line_coding *coding);

/* Sets DTR and RTS (a set of USBIP_LINE_…) together, in one request. Errors as above. */
int usbip_port_set_control_lines(struct usbip_port *port, unsigned lines, uint32_t timeout_ms);
unsigned usbip_port_get_control_lines(const struct usbip_port *port);

/* Starts or ends a break condition. USBIP_ERROR_UNSUPPORTED when the chip has none. */
int usbip_port_set_break(struct usbip_port *port, bool on, uint32_t timeout_ms);

/* FTDI: milliseconds after which a short packet is sent, 1 to 255. Used at the next open, or
 * restore. */
int usbip_port_set_latency_timer(struct usbip_port *port, unsigned latency_ms);

/*
 * Which of the serial ports of a chip that has several, from 1 (the default) to 255. Used at the
 * next open, which fails with USBIP_ERROR_UNSUPPORTED when the chip has fewer; a restore is for the
 * port that was open.
 */
int usbip_port_set_chip_port(struct usbip_port *port, unsigned number);

/* What ends a line for read_until and read_line; 1 to USBIP_RECEIVE_BUFFER_SIZE bytes. */
int usbip_port_set_delimiter(struct usbip_port *port, const void *delimiter, size_t size);

/* Whether to look for the device after a loss, and for how long (USBIP_FOREVER allowed). */
void usbip_port_set_restore(struct usbip_port *port, bool restore, uint32_t timeout_ms);

/* Has `tap`, which must outlive the port, listen to the connections that are made from now on. */
void usbip_port_set_tap(struct usbip_port *port, const struct usbip_tap *tap);

/* ---- Data ---- */

/*
 * Reads what is there, 1 to size bytes, waiting for the first byte only. Returns the number of
 * bytes; 0 when timeout_ms passed without any. What is behind them in data may have changed, too.
 */
int usbip_port_read(struct usbip_port *port, void *data, size_t size, uint32_t timeout_ms);

/*
 * Reads size bytes. Returns size, or USBIP_ERROR_TIMEOUT when they are not all there in time; then
 * none is taken and usbip_port_read() has them, but data may have changed. size is at most
 * USBIP_RECEIVE_BUFFER_SIZE.
 */
int usbip_port_read_all(struct usbip_port *port, void *data, size_t size, uint32_t timeout_ms);

/*
 * Reads up to and with the delimiter. Returns the number of bytes, USBIP_ERROR_TIMEOUT when no
 * delimiter comes in time, or USBIP_ERROR_LIMIT when size bytes are there without one; nothing is
 * taken in both cases.
 */
int usbip_port_read_until(struct usbip_port *port, void *data, size_t size, uint32_t timeout_ms);

/*
 * As usbip_port_read_until(), without the delimiter and NUL-terminated; size counts the NUL.
 * Returns the length of the line, which may be 0.
 */
int usbip_port_read_line(struct usbip_port *port, char *line, size_t size, uint32_t timeout_ms);

/*
 * Hands bytes over for sending, without waiting for the device when there is room. Returns how many
 * were taken, 0 to size; waits up to timeout_ms for room for the first.
 */
int usbip_port_write(struct usbip_port *port, const void *data, size_t size, uint32_t timeout_ms);

/*
 * Writes all and waits until the device has accepted every byte. Returns size or a negative error;
 * after one the number of bytes that the device accepted is unknown.
 */
int usbip_port_write_all(struct usbip_port *port, const void *data, size_t size,
                         uint32_t timeout_ms);

/* Waits until the device has accepted all that was written. */
int usbip_port_drain(struct usbip_port *port, uint32_t timeout_ms);

/* Bytes that a read would return at once. */
size_t usbip_port_bytes_available(const struct usbip_port *port);
/* Drops received bytes that were not read. */
void usbip_port_discard_input(struct usbip_port *port);

/* Modem lines as last told by the device, and events since the last call (USBIP_MODEM_…). */
unsigned usbip_port_modem_state(struct usbip_port *port);

/* ---- Event loops ---- */

/* -1 while there is nothing to wait on but time. */
int usbip_port_fd(const struct usbip_port *port);
int usbip_port_events(const struct usbip_port *port); /* USBIP_EVENT_… */
/* Milliseconds until usbip_port_process() wants to run although nothing came; USBIP_FOREVER. */
uint32_t usbip_port_timeout_ms(const struct usbip_port *port);
/*
 * Does all that can be done at once. Returns 0, or the error that closed the port. Name resolution
 * at open and restore may block.
 */
int usbip_port_process(struct usbip_port *port);

/* ---- What it is connected to; valid while open or restoring ---- */

struct usbip_port_identity {
    char busid[USBIP_BUSID_SIZE];
    uint16_t idVendor, idProduct, bcdDevice;
    enum usbip_speed speed;
    char manufacturer[USBIP_SERIAL_NUMBER_SIZE];
    char product[USBIP_SERIAL_NUMBER_SIZE];
    char serial_number[USBIP_SERIAL_NUMBER_SIZE];
    const char *chip; /* "CDC-ACM", "FT232R" */
};
const struct usbip_port_identity *usbip_port_identity(const struct usbip_port *port);

/* Times the port was restored since it was opened. */
unsigned usbip_port_restore_count(const struct usbip_port *port);

/*
 * The session underneath, for transfers of your own; NULL while not open. Their `done`s are called
 * from within calls on this port, and must not read, write, set or process anything on it.
 */
struct usbip_host_session *usbip_port_session(const struct usbip_port *port);

#endif
