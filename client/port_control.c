#include <stdio.h>

#include "client/port_internal.h"

bool usbip_status_is_gone(int32_t status)
{
    return status == -USBIP_ESHUTDOWN || status == -USBIP_ENODEV;
}

static bool is_worth_a_retry(int32_t status)
{
    return status == -USBIP_EPROTO || status == -USBIP_EILSEQ || status == -USBIP_ETIME;
}

static int result_of(const struct usbip_transfer *transfer, bool may_stall)
{
    switch (transfer->status) {
    case 0:
        return 0;
    case -USBIP_EPIPE:
        return may_stall ? 0 : USBIP_ERROR_STALL;
    case -USBIP_ETIMEDOUT:
        return USBIP_ERROR_TIMEOUT;
    default:
        return usbip_status_is_gone(transfer->status) ? USBIP_ERROR_DISCONNECTED
                                                      : USBIP_ERROR_TRANSFER;
    }
}

static void submit_head(struct usbip_port *port);

static void take_head(struct usbip_port *port)
{
    port->request_head = (port->request_head + 1) % USBIP_MAX_PENDING_REQUESTS;
    port->request_count--;
    port->control_attempts = 0;
}

/* What the rest of its list would do to the device makes no sense without this one. */
static void request_failed(struct usbip_port *port, const struct usbip_pending_request *request,
                           int result)
{
    const struct usbip_transfer *transfer = &port->control;

    while (port->request_count > 0 &&
           port->requests[port->request_head].ticket <= request->last_ticket)
        take_head(port);
    port->completed_ticket = request->last_ticket;
    /* A `done` tells it to whom it concerns; it must not hide what somebody waits for. */
    if (request->done == NULL) {
        port->first_failed_ticket = request->ticket;
        port->last_failed_ticket = request->last_ticket;
        port->failed_result = result;
    }
    snprintf(port->request_text, sizeof(port->request_text),
             "control request %02x %02x wValue %04x wIndex %04x failed: %s (%s)",
             transfer->setup.bmRequestType, transfer->setup.bRequest, transfer->setup.wValue,
             transfer->setup.wIndex, usbip_status_name(transfer->status),
             usbip_status_text(transfer->status));
}

static void control_done(struct usbip_transfer *transfer)
{
    struct usbip_port *port = transfer->user;
    struct usbip_pending_request head = port->requests[port->request_head];
    int result;

    port->control_in_flight = false;
    if (port->dropping)
        return;
    if (is_worth_a_retry(transfer->status) && port->control_attempts <= USBIP_MAX_RETRIES) {
        submit_head(port);
        return;
    }

    take_head(port);
    port->completed_ticket = head.ticket;
    result = result_of(transfer, head.request.may_stall);
    if (result < 0)
        request_failed(port, &head, result);
    if (usbip_status_is_gone(transfer->status))
        usbip_port_trouble(port, USBIP_ERROR_DISCONNECTED, true, "the device is gone");
    else if (head.done && (result < 0 || head.ticket == head.last_ticket))
        head.done(port, result, port->control_data, transfer->actual_length);
    if (!port->control_in_flight && port->request_count > 0)
        submit_head(port);
}

static void submit_head(struct usbip_port *port)
{
    struct usbip_control_request *request = &port->requests[port->request_head].request;
    bool is_in = usbip_setup_direction(&request->setup) == USBIP_DIR_IN;
    int error;

    if (port->trouble != 0 || port->session == NULL)
        return;
    port->control = (struct usbip_transfer){
        .type = USB_ENDPOINT_XFER_CONTROL,
        .setup = request->setup,
        .buffer = is_in ? port->control_data : request->data,
        .length = request->setup.wLength,
        .timeout_ms = USBIP_CONTROL_TIMEOUT_MS,
        .done = control_done,
        .user = port,
    };
    port->control_attempts++;
    error = usbip_host_session_submit(port->session, &port->control, usbip_now_ms());
    if (error < 0)
        usbip_port_trouble(port, error, true, "cannot submit a control request: %s",
                           usbip_error_name(error));
    else
        port->control_in_flight = true;
}

/* There must be room. */
static void queue(struct usbip_port *port, const struct usbip_control_request *request,
                  usbip_request_done *done, uint64_t last_ticket)
{
    unsigned tail = (port->request_head + port->request_count) % USBIP_MAX_PENDING_REQUESTS;

    port->requests[tail] = (struct usbip_pending_request){
        .request = *request,
        .done = done,
        .ticket = ++port->next_ticket,
        .last_ticket = last_ticket,
    };
    port->request_count++;
    if (!port->control_in_flight)
        submit_head(port);
}

uint64_t usbip_port_request(struct usbip_port *port, const struct usbip_control_request *request,
                            usbip_request_done *done)
{
    if (port->request_count == USBIP_MAX_PENDING_REQUESTS)
        return 0;
    queue(port, request, done, port->next_ticket + 1);
    return port->next_ticket;
}

uint64_t usbip_port_request_all(struct usbip_port *port, const struct usbip_request_list *list,
                                usbip_request_done *done)
{
    const uint64_t last_ticket = port->next_ticket + list->count;

    if (port->request_count + list->count > USBIP_MAX_PENDING_REQUESTS)
        return 0;
    for (unsigned i = 0; i < list->count; i++)
        queue(port, &list->requests[i], done, last_ticket);
    return last_ticket;
}

void usbip_port_clear_halt(struct usbip_port *port, uint8_t endpoint, usbip_request_done *done)
{
    const struct usbip_control_request request = {
        .setup =
            {
                .bmRequestType = USB_TYPE_STANDARD | USB_RECIP_ENDPOINT,
                .bRequest = USB_REQ_CLEAR_FEATURE,
                .wValue = USB_ENDPOINT_HALT,
                .wIndex = endpoint,
            },
    };

    if (usbip_port_request(port, &request, done) == 0)
        usbip_port_trouble(port, USBIP_ERROR_LIMIT, false,
                           "endpoint 0x%02x stalled while %d control requests were waiting",
                           endpoint, USBIP_MAX_PENDING_REQUESTS);
}

void usbip_port_drop_requests(struct usbip_port *port)
{
    port->request_count = port->control_in_flight ? 1 : 0;
}

void usbip_port_control_reset(struct usbip_port *port)
{
    /* Nobody answers these any more. */
    if (port->request_count > 0) {
        port->first_failed_ticket = port->requests[port->request_head].ticket;
        port->last_failed_ticket = port->next_ticket;
        port->failed_result = USBIP_ERROR_DISCONNECTED;
    }
    port->completed_ticket = port->next_ticket;
    port->request_count = 0;
    port->control_in_flight = false;
    port->control_attempts = 0;
}
