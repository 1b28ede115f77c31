#include <stdio.h>
#include <string.h>

#include "client/port_internal.h"

enum {
    FIRST_PAUSE_MS = 100,
    LAST_PAUSE_MS = 2000,
};

static void next_candidate(struct usbip_port *port);

static bool is_opened_by_busid(const struct usbip_port *port)
{
    return port->match.busid[0] != '\0';
}

/* ---- Which device ---- */

static bool has_id(const struct usbip_port_identity *identity, uint16_t idVendor,
                   uint16_t idProduct)
{
    return identity->idVendor == idVendor && identity->idProduct == idProduct;
}

static bool is_where_it_was(const struct usbip_port *port, const char *busid)
{
    return strcmp(port->identity.busid, busid) == 0;
}

/* Whether a listed device may be the one, as far as the list tells. */
static bool is_candidate(const struct usbip_port *port, const struct usbip_device_record *record)
{
    if (port->state != USBIP_PORT_RESTORING)
        return usbip_device_match_record(&port->match, record);
    if (!has_id(&port->identity, record->idVendor, record->idProduct))
        return false;
    /* At another busid only its serial number can tell that it is the same device. */
    return is_where_it_was(port, record->busid) || port->identity.serial_number[0] != '\0';
}

/*
 * A device that was opened by its ids may be replaced, at the same busid, by another one of them.
 * At another busid it must be the same, or a reset of one device would make the port turn to its
 * neighbour.
 */
bool usbip_port_accepts(struct usbip_port *port)
{
    const struct usbip_port_identity *found = &port->found;
    bool same_serial_number;

    if (port->match.has_id && !has_id(found, port->match.idVendor, port->match.idProduct))
        return false;
    if (port->match.serial_number[0] != '\0' &&
        strcmp(port->match.serial_number, found->serial_number) != 0)
        return false;
    if (port->state != USBIP_PORT_RESTORING)
        return true;
    if (!has_id(&port->identity, found->idVendor, found->idProduct))
        return false;
    same_serial_number = strcmp(port->identity.serial_number, found->serial_number) == 0;
    if (is_where_it_was(port, found->busid))
        return same_serial_number || !is_opened_by_busid(port);
    return same_serial_number && found->serial_number[0] != '\0';
}

/* ---- Ends of attempts ---- */

static const char *first_attempt_text(const struct usbip_port *port)
{
    return port->attempt_text[0] != '\0' ? port->attempt_text : "the device is not there";
}

static void pause_restore(struct usbip_port *port)
{
    port->step = USBIP_STEP_PAUSE;
    port->step_deadline_ms = usbip_now_ms() + port->pause_ms;
    port->pause_ms = port->pause_ms * 2 < LAST_PAUSE_MS ? port->pause_ms * 2 : LAST_PAUSE_MS;
}

static void attempt_failed(struct usbip_port *port)
{
    if (port->state == USBIP_PORT_RESTORING) {
        usbip_port_fail(port, USBIP_ERROR_DISCONNECTED, "%.80s; not restored yet: %s",
                        port->loss_text, first_attempt_text(port));
        pause_restore(port);
        return;
    }
    usbip_port_fail(port, port->attempt_error, "%s", first_attempt_text(port));
    usbip_port_shut(port, port->attempt_error);
}

/* Of several candidates the first to fail is told, but "another device" only if nothing else is. */
static void note_attempt(struct usbip_port *port, int error, const char *text)
{
    if (port->attempt_error != 0 && port->attempt_error != USBIP_ERROR_NOT_FOUND)
        return;
    port->attempt_error = error;
    snprintf(port->attempt_text, sizeof(port->attempt_text), "%s", text);
}

static void candidate_failed(struct usbip_port *port, int error, const char *text)
{
    note_attempt(port, error, text);
    usbip_port_drop_connection(port);
    /* These concern the server; another device would fail like this one. */
    if (error == USBIP_ERROR_CONNECT || error == USBIP_ERROR_RESOLVE ||
        error == USBIP_ERROR_VERSION || error == USBIP_ERROR_MEMORY ||
        port->step == USBIP_STEP_LIST) {
        attempt_failed(port);
        return;
    }
    port->candidate++;
    next_candidate(port);
}

/* ---- Connections ---- */

/* Starts one, with its request made. Returns false after the attempt has failed. */
static bool start_connection(struct usbip_port *port,
                             const struct usbip_host_session_events *events, const char *busid,
                             uint32_t timeout_ms)
{
    char text[USBIP_ERROR_TEXT_SIZE] = "out of memory";
    struct usbip_host_session *session = usbip_host_session_new(events, port);
    int error = USBIP_ERROR_MEMORY;

    if (session) {
        error = busid ? usbip_host_session_request_import(session, busid)
                      : usbip_host_session_request_devlist(session);
        if (error < 0) {
            snprintf(text, sizeof(text), "cannot ask for busid \"%s\": %s", busid ? busid : "",
                     usbip_error_name(error));
            usbip_host_session_free(session);
        } else {
            error = usbip_connection_start(&port->connection, port->server, session,
                                           USBIP_CONNECT_TIMEOUT_MS, text);
        }
    }
    if (error < 0) {
        port->connection = NULL;
        note_attempt(port, error, text);
        attempt_failed(port);
        return false;
    }
    if (port->tap)
        usbip_connection_set_tap(port->connection, port->tap);
    port->session = session;
    port->step_deadline_ms = usbip_now_ms() + USBIP_CONNECT_TIMEOUT_MS + timeout_ms;
    return true;
}

static void imported(void *context, const struct usbip_device_record *record)
{
    struct usbip_port *port = context;

    port->record = *record;
    usbip_port_setup_start(port);
}

static void next_candidate(struct usbip_port *port)
{
    static const struct usbip_host_session_events events = {.imported = imported};

    if (port->candidate == port->candidate_count) {
        attempt_failed(port);
        return;
    }
    port->step = USBIP_STEP_IMPORT;
    start_connection(port, &events, port->candidates[port->candidate], USBIP_IMPORT_TIMEOUT_MS);
}

static void listed(void *context, const struct usbip_device_record *record,
                   const struct usbip_interface_record *interfaces, unsigned interface_count)
{
    struct usbip_port *port = context;
    /* Most likely it is where it was. */
    bool first = port->state == USBIP_PORT_RESTORING && is_where_it_was(port, record->busid);
    unsigned place;

    (void)interfaces;
    (void)interface_count;
    port->listed_count++;
    /* Without a busid it cannot be asked for. */
    if (!is_candidate(port, record) || record->busid[0] == '\0')
        return;
    if (port->candidate_count == USBIP_MAX_CANDIDATES) {
        port->candidates_left_out++;
        if (!first)
            return;
        port->candidate_count--; /* the last one gives way */
    }
    place = port->candidate_count;
    if (first) {
        memcpy(port->candidates[place], port->candidates[0], USBIP_BUSID_SIZE);
        place = 0;
    }
    memcpy(port->candidates[place], record->busid, USBIP_BUSID_SIZE);
    port->candidate_count++;
}

static void devlist_end(void *context)
{
    struct usbip_port *port = context;

    port->list_complete = true;
}

static void start_list(struct usbip_port *port)
{
    static const struct usbip_host_session_events events = {
        .device = listed,
        .devlist_end = devlist_end,
    };

    port->step = USBIP_STEP_LIST;
    port->list_complete = false;
    port->listed_count = 0;
    port->candidates_left_out = 0;
    start_connection(port, &events, NULL, USBIP_DEVLIST_TIMEOUT_MS);
}

static void start_attempt(struct usbip_port *port)
{
    port->attempt_error = 0;
    port->attempt_text[0] = '\0';
    port->candidate = 0;
    port->candidate_count = 0;
    if (port->state == USBIP_PORT_OPENING && is_opened_by_busid(port)) {
        memcpy(port->candidates[0], port->match.busid, USBIP_BUSID_SIZE);
        port->candidate_count = 1;
        next_candidate(port);
    } else {
        start_list(port);
    }
}

static void list_received(struct usbip_port *port)
{
    char text[USBIP_ERROR_TEXT_SIZE];

    usbip_port_drop_connection(port);
    snprintf(
        text, sizeof(text),
        "none of the %u devices that the server exports fits; is it plugged in, shared (bound) "
        "and not attached elsewhere?",
        port->listed_count);
    if (port->candidates_left_out > 0)
        snprintf(text, sizeof(text),
                 "none of the first %d candidates is it, and %u more were not tried",
                 USBIP_MAX_CANDIDATES, port->candidates_left_out);
    note_attempt(port, USBIP_ERROR_NOT_FOUND, text);
    next_candidate(port);
}

/* ---- Loss ---- */

static void lost(struct usbip_port *port, const char *text)
{
    usbip_port_fail(port, USBIP_ERROR_DISCONNECTED, "%s", text);
    snprintf(port->loss_text, sizeof(port->loss_text), "%s", text);
    usbip_port_drop_connection(port);
    if (!port->restore) {
        usbip_port_shut(port, USBIP_ERROR_DISCONNECTED);
        return;
    }
    port->state = USBIP_PORT_RESTORING;
    port->lost_ms = usbip_now_ms();
    port->pause_ms = FIRST_PAUSE_MS;
    pause_restore(port);
}

static bool is_restore_over(const struct usbip_port *port)
{
    if (!port->restore)
        return true;
    return port->restore_timeout_ms != USBIP_FOREVER &&
           usbip_now_ms() >= port->lost_ms + port->restore_timeout_ms;
}

static void restore_failed(struct usbip_port *port)
{
    usbip_port_fail(port, USBIP_ERROR_DISCONNECTED, "%.80s; given up %llu ms later: %s",
                    port->loss_text, (unsigned long long)(usbip_now_ms() - port->lost_ms),
                    first_attempt_text(port));
    usbip_port_shut(port, USBIP_ERROR_DISCONNECTED);
}

/* ---- The turn ---- */

static void act_on_trouble(struct usbip_port *port)
{
    int error = port->trouble;
    char text[USBIP_ERROR_TEXT_SIZE];

    snprintf(text, sizeof(text), "%s", port->trouble_text);
    if (port->step != USBIP_STEP_READY) {
        candidate_failed(port, error, text);
    } else if (port->trouble_is_loss) {
        lost(port, text);
    } else {
        usbip_port_fail(port, error, "%s", text);
        usbip_port_shut(port, error);
    }
}

void usbip_port_turn(struct usbip_port *port, int result)
{
    bool waits_for_server = port->step == USBIP_STEP_LIST || port->step == USBIP_STEP_IMPORT;

    if (port->state == USBIP_PORT_CLOSED || port->state == USBIP_PORT_CLOSING)
        return;
    if (port->state == USBIP_PORT_RESTORING && is_restore_over(port)) {
        restore_failed(port);
        return;
    }
    if (port->step == USBIP_STEP_PAUSE) {
        if (usbip_now_ms() >= port->step_deadline_ms)
            start_attempt(port);
        return;
    }
    if (port->step == USBIP_STEP_LIST && port->list_complete) {
        list_received(port);
        return;
    }
    if (result < 0) {
        /* The connection knows why; what its end did to the transfers is of no interest. */
        port->trouble = result;
        port->trouble_is_loss = true;
        snprintf(port->trouble_text, sizeof(port->trouble_text), "%s",
                 usbip_host_session_error_text(port->session));
    } else if (waits_for_server && usbip_now_ms() >= port->step_deadline_ms) {
        usbip_port_trouble(
            port, USBIP_ERROR_TIMEOUT, true, "the server did not answer the %s within %d ms",
            port->step == USBIP_STEP_LIST ? "request for its devices" : "import",
            port->step == USBIP_STEP_LIST ? USBIP_DEVLIST_TIMEOUT_MS : USBIP_IMPORT_TIMEOUT_MS);
    }
    if (port->trouble != 0)
        act_on_trouble(port);
}

void usbip_port_find_start(struct usbip_port *port)
{
    port->state = USBIP_PORT_OPENING;
    start_attempt(port);
}
