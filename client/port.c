#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/port_internal.h"
#include "client/socket.h"

enum { MAX_LATENCY_TIMER_MS = 255 };

/* ---- Errors ---- */

int usbip_port_fail(struct usbip_port *port, int error, const char *format, ...)
{
    /* Long names leave room for what happened. */
    int size = snprintf(port->error_text, sizeof(port->error_text),
                        "%.40s on %.60s: ", port->device, port->server);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(port->error_text + size, sizeof(port->error_text) - (size_t)size, format, arguments);
    va_end(arguments);
    return error;
}

void usbip_port_trouble(struct usbip_port *port, int error, bool is_loss, const char *format, ...)
{
    va_list arguments;

    if (port->trouble != 0)
        return;
    port->trouble = error;
    port->trouble_is_loss = is_loss;
    va_start(arguments, format);
    vsnprintf(port->trouble_text, sizeof(port->trouble_text), format, arguments);
    va_end(arguments);
}

int usbip_port_closed_error(struct usbip_port *port)
{
    if (port->error != 0)
        return port->error;
    return usbip_port_fail(port, USBIP_ERROR_ARGUMENT, "the port is not open");
}

const char *usbip_port_error_text(const struct usbip_port *port)
{
    return port->error_text;
}

/* ---- Life ---- */

static char *copy(const char *text)
{
    size_t size = strlen(text) + 1;
    char *result = malloc(size);

    if (result)
        memcpy(result, text, size);
    return result;
}

struct usbip_port *usbip_port_new(const char *server, const char *device)
{
    /* The buffers are large; what calloc() gives is not there before it is used. */
    struct usbip_port *port = calloc(1, sizeof(*port));

    if (port == NULL)
        return NULL;
    port->server = copy(server);
    port->device = copy(device);
    if (port->server == NULL || port->device == NULL ||
        usbip_port_set_delimiter(port, "\n", 1) != 0) {
        usbip_port_free(port);
        return NULL;
    }
    port->device_valid = usbip_device_match_parse(device, &port->match) == 0;
    port->settings = (struct usbip_serial_settings){
        .line_coding = {115200, USBIP_STOP_1, USBIP_PARITY_NONE, 8},
        .control_lines = USBIP_LINE_DTR | USBIP_LINE_RTS,
        .latency_timer_ms = USBIP_DEFAULT_LATENCY_TIMER_MS,
    };
    port->chip_port = 1;
    port->restore = true;
    port->restore_timeout_ms = USBIP_RESTORE_TIMEOUT_MS;
    return port;
}

void usbip_port_drop_connection(struct usbip_port *port)
{
    port->dropping = true;
    usbip_connection_free(port->connection);
    port->dropping = false;
    port->connection = NULL;
    port->session = NULL;
    port->trouble = 0;
    usbip_port_control_reset(port);
    usbip_port_in_reset(port);
    usbip_port_out_reset(port);
}

void usbip_port_shut(struct usbip_port *port, int error)
{
    usbip_port_drop_connection(port);
    port->state = USBIP_PORT_CLOSED;
    port->step = USBIP_STEP_NONE;
    port->error = error;
}

void usbip_port_free(struct usbip_port *port)
{
    if (port == NULL)
        return;
    usbip_port_drop_connection(port);
    free(port->server);
    free(port->device);
    free(port->delimiter);
    free(port);
}

/* ---- Waiting ---- */

uint64_t usbip_port_deadline(uint32_t timeout_ms)
{
    return timeout_ms == USBIP_FOREVER ? UINT64_MAX : usbip_now_ms() + timeout_ms;
}

/* When the port wants to be called although nothing came for its connection. */
static uint64_t own_deadline_ms(const struct usbip_port *port)
{
    uint64_t deadline_ms = UINT64_MAX;

    if (port->step == USBIP_STEP_LIST || port->step == USBIP_STEP_IMPORT ||
        port->step == USBIP_STEP_PAUSE)
        deadline_ms = port->step_deadline_ms;
    else if (port->in_running)
        deadline_ms = usbip_port_in_deadline_ms(port);
    if (port->state == USBIP_PORT_RESTORING && port->restore_timeout_ms != USBIP_FOREVER &&
        port->lost_ms + port->restore_timeout_ms < deadline_ms)
        deadline_ms = port->lost_ms + port->restore_timeout_ms;
    return port->trouble != 0 ? 0 : deadline_ms;
}

void usbip_port_wait(struct usbip_port *port, uint64_t until_ms)
{
    uint64_t own_ms;
    int result = 0;

    usbip_port_in_advance(port);
    own_ms = own_deadline_ms(port);
    if (own_ms < until_ms)
        until_ms = own_ms;
    if (port->connection)
        result = usbip_connection_wait_for(port->connection, until_ms, port->reader,
                                           usbip_port_direct_room(port));
    else
        usbip_socket_wait(-1, 0, until_ms);
    usbip_port_turn(port, result);
}

int usbip_port_process(struct usbip_port *port)
{
    int result = 0;

    if (port->state == USBIP_PORT_CLOSED)
        return port->error;
    usbip_port_in_advance(port);
    if (port->connection)
        result = usbip_connection_process(port->connection);
    usbip_port_turn(port, result);
    return port->state == USBIP_PORT_CLOSED ? port->error : 0;
}

/* ---- Open and close ---- */

int usbip_port_open(struct usbip_port *port, uint32_t timeout_ms)
{
    uint64_t deadline_ms = usbip_port_deadline(timeout_ms);

    if (port->state != USBIP_PORT_CLOSED)
        return usbip_port_fail(port, USBIP_ERROR_ARGUMENT, "the port is open already");
    if (!port->device_valid)
        return usbip_port_fail(port, USBIP_ERROR_ARGUMENT,
                               "this names no device; write a busid (1-1), ids (0403:6001) or ids "
                               "and serial number (0403:6001:A50285BI)");
    port->error = 0;
    port->error_text[0] = '\0';
    port->write_error = 0;
    port->received_start = 0;
    port->received_end = 0;
    port->modem_lines = 0;
    port->modem_events = 0;
    port->restore_count = 0;
    usbip_port_find_start(port);
    if (timeout_ms == 0)
        return port->error;

    while (port->state == USBIP_PORT_OPENING) {
        if (usbip_now_ms() >= deadline_ms) {
            static const char *const doing[] = {
                [USBIP_STEP_LIST] = "waiting for the list of devices",
                [USBIP_STEP_IMPORT] = "waiting for the import",
                [USBIP_STEP_SETUP] = "setting up the device",
            };

            usbip_port_fail(port, USBIP_ERROR_TIMEOUT,
                            "not open within %u ms, while %s; give slow servers 20000 ms",
                            (unsigned)timeout_ms, doing[port->step]);
            usbip_port_shut(port, USBIP_ERROR_TIMEOUT);
            break;
        }
        usbip_port_wait(port, deadline_ms);
    }
    return port->error;
}

/* Waits for the connection while closing. Returns false when it is lost or time is over. */
static bool wait_closing(struct usbip_port *port, uint64_t deadline_ms)
{
    return usbip_now_ms() < deadline_ms &&
           usbip_connection_wait(port->connection, deadline_ms) == 0 && port->trouble == 0;
}

/* The device is told first, while its data is still waited for, as Linux does. */
static void say_goodbye(struct usbip_port *port)
{
    uint64_t deadline_ms = usbip_now_ms() + USBIP_CLOSE_TIMEOUT_MS;
    struct usbip_request_list list = {.count = 0};
    bool well = true;
    uint64_t ticket = 0, now_ms;

    port->state = USBIP_PORT_CLOSING;
    usbip_port_drop_requests(port);
    port->chip.driver->close(&port->chip, &list);
    /* One by one: the control lines do not depend on the flow control that may come before. */
    for (unsigned i = 0; i < list.count; i++)
        ticket = usbip_port_request(port, &list.requests[i], NULL);
    while (well && port->completed_ticket < ticket)
        well = wait_closing(port, deadline_ms);

    now_ms = usbip_now_ms();
    usbip_port_in_unlink(port, now_ms);
    usbip_port_out_unlink(port, now_ms);
    if (port->control_in_flight)
        usbip_host_session_unlink(port->session, &port->control, now_ms);
    while (well && usbip_host_session_in_flight(port->session) > 0)
        well = wait_closing(port, deadline_ms);
    if (!well)
        return;
    /* Who opens the device again at once shall not find it busy. */
    usbip_connection_shut_down(port->connection);
    while (wait_closing(port, deadline_ms))
        ;
}

void usbip_port_close(struct usbip_port *port)
{
    if (port->state == USBIP_PORT_OPEN && port->trouble == 0)
        say_goodbye(port);
    usbip_port_shut(port, 0);
}

enum usbip_port_state usbip_port_state(const struct usbip_port *port)
{
    return port->state;
}

/* ---- Settings ---- */

static bool is_being_opened(const struct usbip_port *port)
{
    return port->state == USBIP_PORT_OPENING || port->state == USBIP_PORT_RESTORING;
}

/* Waits until a request has been answered. Returns 0 or the error of `first` to `last`. */
static int wait_for_ticket(struct usbip_port *port, uint64_t first, uint64_t last,
                           uint64_t deadline_ms)
{
    for (bool waited = false; port->completed_ticket < last; waited = true) {
        if (waited && usbip_now_ms() >= deadline_ms)
            return usbip_port_fail(port, USBIP_ERROR_TIMEOUT,
                                   "sent to the device, which did not confirm it in time");
        usbip_port_wait(port, deadline_ms);
    }
    if (port->last_failed_ticket < first || port->first_failed_ticket > last)
        return 0;
    if (port->state == USBIP_PORT_CLOSED)
        return usbip_port_closed_error(port);
    if (port->failed_result == USBIP_ERROR_DISCONNECTED)
        return port->failed_result; /* the words of the loss are there */
    return usbip_port_fail(port, port->failed_result, "%s", port->request_text);
}

/* Sends requests to an open port. */
static int send_list(struct usbip_port *port, const struct usbip_request_list *list,
                     uint64_t deadline_ms)
{
    uint64_t last = usbip_port_request_all(port, list, NULL);

    if (last == 0)
        return usbip_port_fail(port, USBIP_ERROR_LIMIT,
                               "%u control requests wait already, the limit is %d",
                               port->request_count, USBIP_MAX_PENDING_REQUESTS);
    return wait_for_ticket(port, last - list->count + 1, last, deadline_ms);
}

/* The port is to be opened with a changed setting, or restored with it: waits for that. */
static int wait_until_set(struct usbip_port *port, uint64_t deadline_ms)
{
    port->settings_changed = true;
    for (bool waited = false; is_being_opened(port); waited = true) {
        if (waited && usbip_now_ms() >= deadline_ms)
            return usbip_port_fail(port, USBIP_ERROR_TIMEOUT,
                                   "kept, to be set as soon as the device is there");
        usbip_port_wait(port, deadline_ms);
    }
    if (port->state != USBIP_PORT_OPEN)
        return usbip_port_closed_error(port);
    return wait_for_ticket(port, port->completed_ticket + 1, port->next_ticket, deadline_ms);
}

/* As send_list(); a connection that is lost meanwhile is restored with the new setting. */
static int send_setting(struct usbip_port *port, const struct usbip_request_list *list,
                        uint64_t deadline_ms)
{
    int result = send_list(port, list, deadline_ms);

    if (result == USBIP_ERROR_DISCONNECTED && is_being_opened(port))
        return wait_until_set(port, deadline_ms);
    return result;
}

/* Whether a setting was not taken, so that the port goes back to the one before. */
static bool is_refusal(int result)
{
    return result == USBIP_ERROR_STALL || result == USBIP_ERROR_TRANSFER ||
           result == USBIP_ERROR_LIMIT;
}

/* The device may have taken a part of a line coding that failed: it gets the former one again. */
static void take_back_line_coding(struct usbip_port *port, uint64_t deadline_ms)
{
    struct usbip_request_list list = {.count = 0};
    char text[USBIP_ERROR_TEXT_SIZE];

    port->chip.driver->line_coding(&port->chip, &port->settings.line_coding, &list);
    snprintf(text, sizeof(text), "%s", port->error_text);
    send_list(port, &list, deadline_ms); /* when this fails as well, that is no news */
    snprintf(port->error_text, sizeof(port->error_text), "%s", text);
}

int usbip_port_set_line_coding(struct usbip_port *port, const struct usbip_line_coding *coding,
                               uint32_t timeout_ms)
{
    uint64_t deadline_ms = usbip_port_deadline(timeout_ms);
    const struct usbip_line_coding before = port->settings.line_coding;
    struct usbip_request_list list = {.count = 0};
    char text[USBIP_LINE_CODING_TEXT_SIZE];
    int result;

    if (coding->dwDTERate == 0 || coding->bCharFormat > USBIP_STOP_2 ||
        coding->bParityType > USBIP_PARITY_SPACE || coding->bDataBits < 5 ||
        (coding->bDataBits > 8 && coding->bDataBits != 16))
        return usbip_port_fail(port, USBIP_ERROR_ARGUMENT, "\"%s\" is no line coding",
                               usbip_format_line_coding(coding, text));
    /* While restoring, the chip is the one that was lost, or a candidate with the same ids. */
    if ((port->state == USBIP_PORT_OPEN || port->state == USBIP_PORT_RESTORING) &&
        port->chip.driver && port->chip.driver->line_coding(&port->chip, coding, &list) < 0)
        return usbip_port_fail(port, USBIP_ERROR_UNSUPPORTED, "a %s cannot do \"%s\"",
                               port->chip.name, usbip_format_line_coding(coding, text));
    port->settings.line_coding = *coding;
    if (port->state == USBIP_PORT_CLOSED)
        return 0;
    if (is_being_opened(port))
        return wait_until_set(port, deadline_ms);
    result = send_setting(port, &list, deadline_ms);
    if (is_refusal(result))
        port->settings.line_coding = before;
    if (is_refusal(result) && result != USBIP_ERROR_LIMIT && port->state == USBIP_PORT_OPEN &&
        list.count > 1)
        take_back_line_coding(port, deadline_ms);
    return result;
}

void usbip_port_get_line_coding(const struct usbip_port *port, struct usbip_line_coding *coding)
{
    *coding = port->settings.line_coding;
}

int usbip_port_set_control_lines(struct usbip_port *port, unsigned lines, uint32_t timeout_ms)
{
    uint64_t deadline_ms = usbip_port_deadline(timeout_ms);
    const unsigned before = port->settings.control_lines;
    struct usbip_request_list list = {.count = 0};
    int result;

    if (lines & ~(unsigned)(USBIP_LINE_DTR | USBIP_LINE_RTS))
        return usbip_port_fail(port, USBIP_ERROR_ARGUMENT,
                               "control lines 0x%x are more than DTR (1) and RTS (2)", lines);
    port->settings.control_lines = lines;
    if (port->state == USBIP_PORT_CLOSED)
        return 0;
    if (is_being_opened(port))
        return wait_until_set(port, deadline_ms);
    port->chip.driver->control_lines(&port->chip, lines, &list);
    result = send_setting(port, &list, deadline_ms);
    if (is_refusal(result))
        port->settings.control_lines = before;
    return result;
}

unsigned usbip_port_get_control_lines(const struct usbip_port *port)
{
    return port->settings.control_lines;
}

int usbip_port_set_break(struct usbip_port *port, bool on, uint32_t timeout_ms)
{
    uint64_t deadline_ms = usbip_port_deadline(timeout_ms);
    struct usbip_request_list list = {.count = 0};

    for (bool waited = false; is_being_opened(port); waited = true) {
        if (waited && usbip_now_ms() >= deadline_ms)
            return usbip_port_fail(port, USBIP_ERROR_TIMEOUT, "the device is not there yet");
        usbip_port_wait(port, deadline_ms);
    }
    if (port->state != USBIP_PORT_OPEN)
        return usbip_port_closed_error(port);
    if (port->chip.driver->set_break(&port->chip, &port->settings.line_coding, on, &list) < 0)
        return usbip_port_fail(port, USBIP_ERROR_UNSUPPORTED, "this %s cannot send a break",
                               port->chip.name);
    return send_list(port, &list, deadline_ms);
}

int usbip_port_set_chip_port(struct usbip_port *port, unsigned number)
{
    if (number < 1 || number > UINT8_MAX)
        return usbip_port_fail(port, USBIP_ERROR_ARGUMENT,
                               "the ports of a chip are numbered from 1 to %d, not %u", UINT8_MAX,
                               number);
    port->chip_port = (uint8_t)number;
    return 0;
}

int usbip_port_set_latency_timer(struct usbip_port *port, unsigned latency_ms)
{
    if (latency_ms < 1 || latency_ms > MAX_LATENCY_TIMER_MS)
        return usbip_port_fail(port, USBIP_ERROR_ARGUMENT,
                               "a latency timer of %u ms is not within 1 to %d ms", latency_ms,
                               MAX_LATENCY_TIMER_MS);
    port->settings.latency_timer_ms = latency_ms;
    return 0;
}

int usbip_port_set_delimiter(struct usbip_port *port, const void *delimiter, size_t size)
{
    if (size < 1 || size > USBIP_RECEIVE_BUFFER_SIZE)
        return usbip_port_fail(port, USBIP_ERROR_ARGUMENT,
                               "a delimiter of %zu bytes is not within 1 to %d bytes", size,
                               USBIP_RECEIVE_BUFFER_SIZE);
    uint8_t *bytes = malloc(size);
    if (bytes == NULL)
        return usbip_port_fail(port, USBIP_ERROR_MEMORY, "out of memory");
    memcpy(bytes, delimiter, size);
    free(port->delimiter);
    port->delimiter = bytes;
    port->delimiter_size = size;
    return 0;
}

void usbip_port_set_restore(struct usbip_port *port, bool restore, uint32_t timeout_ms)
{
    port->restore = restore;
    port->restore_timeout_ms = timeout_ms;
}

void usbip_port_set_tap(struct usbip_port *port, const struct usbip_tap *tap)
{
    port->tap = tap;
}

/* ---- Event loops ---- */

int usbip_port_fd(const struct usbip_port *port)
{
    return port->connection ? usbip_connection_fd(port->connection) : -1;
}

int usbip_port_events(const struct usbip_port *port)
{
    return port->connection ? usbip_connection_events(port->connection) : 0;
}

uint32_t usbip_port_timeout_ms(const struct usbip_port *port)
{
    uint64_t deadline_ms = own_deadline_ms(port);
    uint64_t now_ms;

    if (port->state == USBIP_PORT_CLOSED)
        return USBIP_FOREVER;
    if (port->connection && usbip_connection_deadline_ms(port->connection) < deadline_ms)
        deadline_ms = usbip_connection_deadline_ms(port->connection);
    if (deadline_ms == UINT64_MAX)
        return USBIP_FOREVER;
    now_ms = usbip_now_ms();
    if (deadline_ms <= now_ms)
        return 0;
    return deadline_ms - now_ms < USBIP_FOREVER ? (uint32_t)(deadline_ms - now_ms)
                                                : USBIP_FOREVER - 1;
}

/* ---- Questions ---- */

const struct usbip_port_identity *usbip_port_identity(const struct usbip_port *port)
{
    return &port->identity;
}

unsigned usbip_port_restore_count(const struct usbip_port *port)
{
    return port->restore_count;
}

struct usbip_host_session *usbip_port_session(const struct usbip_port *port)
{
    return port->state == USBIP_PORT_OPEN ? port->session : NULL;
}
