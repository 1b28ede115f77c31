/* URBs: from submit to completion, on the queues of the endpoints. */
#include "emulator/device.h"

#include <stdlib.h>
#include <string.h>

#include "emulator/device_internal.h"
#include "emulator/session.h"

static struct usbip_urb *take_urb(struct usbip_device *device)
{
    struct usbip_urb *urb = device->free_urbs;
    if (!urb)
        return malloc(sizeof *urb);
    device->free_urbs = urb->next;
    return urb;
}

static void enqueue(struct usbip_device *device, struct usbip_urb *urb)
{
    struct endpoint *endpoint = &device->endpoints[usbip_endpoint_index(urb->endpoint)];
    urb->next = NULL;
    urb->previous = endpoint->last;
    if (endpoint->last)
        endpoint->last->next = urb;
    else
        endpoint->first = urb;
    endpoint->last = urb;
    device->waiting++;
}

/* Off its endpoint and onto the list of free ones. */
static void retire(struct usbip_device *device, struct usbip_urb *urb)
{
    struct endpoint *endpoint = &device->endpoints[usbip_endpoint_index(urb->endpoint)];
    if (urb->previous)
        urb->previous->next = urb->next;
    else
        endpoint->first = urb->next;
    if (urb->next)
        urb->next->previous = urb->previous;
    else
        endpoint->last = urb->previous;
    device->waiting--;
    if (device->arriving == urb)
        device->arriving = NULL;
    if (device->control == urb)
        device->control = NULL;
    if (urb->owned) {
        device->owned_bytes -= urb->length;
        free(urb->owned);
    }
    if (device->told_full && device->waiting < USBIP_SESSION_MAX_URBS / 2 &&
        device->owned_bytes < USBIP_SESSION_MAX_PENDING_OUT / 2)
        device->told_full = false;
    urb->next = device->free_urbs;
    device->free_urbs = urb;
}

/* The URB that waits with this seqnum and has not been unlinked, or NULL. */
static struct usbip_urb *find_urb(const struct usbip_device *device, uint32_t seqnum)
{
    for (unsigned i = 0; i < ENDPOINT_COUNT; i++) {
        for (struct usbip_urb *urb = device->endpoints[i].first; urb; urb = urb->next) {
            if (urb->seqnum == seqnum && !urb->unlinked)
                return urb;
        }
    }
    return NULL;
}

static void run_control(struct usbip_device *device)
{
    if (device->running_control)
        return;
    device->running_control = true;
    const struct endpoint *queue = &device->endpoints[0];
    while (!device->control && queue->first && usbip_device_session_has_room(device->session)) {
        device->control = queue->first;
        usbip_device_control(device, queue->first);
    }
    device->running_control = false;
}

static void poke_in(struct usbip_device *device, uint8_t endpoint)
{
    struct usbip_urb *urb;
    device->function->type->in(device->function, endpoint);
    while (device->personality->ends_idle_in &&
           (urb = usbip_device_next_urb(device, endpoint)) != NULL)
        usbip_urb_complete(urb, 0, 0);
}

/* Lets the function work on an endpoint where URBs wait. */
static void poke(struct usbip_device *device, uint8_t endpoint)
{
    if (usbip_endpoint_index(endpoint) == 0)
        run_control(device);
    else if (endpoint & USB_DIR_IN)
        poke_in(device, endpoint);
    else
        device->function->type->out(device->function, endpoint);
}

/* An OUT URB outlives the call that brought its data: keep a copy. */
static void keep_data(struct usbip_device *device, struct usbip_urb *urb)
{
    uint8_t *copy = NULL;
    if (device->owned_bytes + urb->length <= USBIP_SESSION_MAX_PENDING_OUT)
        copy = malloc(urb->length);
    if (!copy) {
        if (!device->told_full)
            usbip_log(device->log, USBIP_LOG_ERROR,
                      "%s: %zu bytes of OUT transfers wait already (limit %d): URB %u, and others "
                      "until there is room, end with ENOMEM",
                      device->name, device->owned_bytes, USBIP_SESSION_MAX_PENDING_OUT,
                      urb->seqnum);
        device->told_full = true;
        usbip_urb_complete(urb, -USBIP_ENOMEM, urb->consumed);
        return;
    }
    memcpy(copy, urb->data, urb->length);
    urb->owned = copy;
    urb->data = copy;
    device->owned_bytes += urb->length;
}

static void refuse(struct usbip_device *device, const struct usbip_header *header, int32_t status)
{
    bool in = header->direction == USBIP_DIR_IN;
    struct usbip_urb urb = {
        .device = device,
        .seqnum = header->seqnum,
        .endpoint = (uint8_t)((header->ep & 0x0f) | (in && header->ep ? USB_DIR_IN : 0)),
        .devid = header->devid,
        .ep = header->ep,
        .direction = (enum usbip_direction)header->direction,
        .number_of_packets = header->cmd_submit.number_of_packets,
    };
    usbip_device_session_complete(device->session, &urb, status, 0, NULL, 0);
}

static void miss_endpoint(struct usbip_device *device, const struct usbip_header *header)
{
    const struct usbip_personality *personality = device->personality;
    usbip_log(device->log, USBIP_LOG_ERROR, "%s: URB %u for endpoint %u %s, which does not exist%s",
              device->name, header->seqnum, header->ep,
              header->direction == USBIP_DIR_IN ? "IN" : "OUT",
              device->bConfigurationValue ? "" : " before SET_CONFIGURATION");
    if (personality->missing_endpoint == USBIP_CLOSE)
        usbip_device_session_disconnect(device->session, "no such endpoint");
    else if (personality->missing_endpoint != USBIP_IGNORE)
        refuse(device, header, personality->missing_endpoint_status);
}

/* Whether usbcore would take it for an interrupt endpoint. */
static bool is_interval(const struct usbip_device *device, int32_t interval)
{
    return interval > 0 && (device->speed == USBIP_SPEED_HIGH || interval <= UINT8_MAX);
}

static uint16_t wLength_of(const struct usbip_header *header)
{
    struct usbip_setup setup;
    usbip_decode_setup(header->cmd_submit.setup, &setup);
    return setup.wLength;
}

/* Some servers end the connection at such URBs. Returns false then. */
static bool check_submit(struct usbip_device *device, const struct usbip_header *header,
                         const struct endpoint *endpoint)
{
    const struct usbip_personality *personality = device->personality;
    const char *why = NULL;
    if (endpoint->type == USB_ENDPOINT_XFER_INT && personality->closes_on_bad_interval &&
        !is_interval(device, header->cmd_submit.interval))
        why = "interrupt transfer with an impossible interval";
    else if (header->ep == 0 && personality->length_mismatch == USBIP_CLOSE &&
             header->cmd_submit.transfer_buffer_length != wLength_of(header))
        why = "control transfer whose transfer_buffer_length is not wLength";
    else if (personality->closes_on_duplicate_seqnum && find_urb(device, header->seqnum))
        why = "seqnum of a URB that waits";
    if (why)
        usbip_device_session_disconnect(device->session, why);
    return !why;
}

void usbip_device_submit(struct usbip_device *device, const struct usbip_header *header,
                         const uint8_t *data)
{
    bool in = header->direction == USBIP_DIR_IN;
    uint8_t address = (uint8_t)(header->ep | (in && header->ep ? USB_DIR_IN : 0));
    device->counters.urbs++;

    const struct endpoint *endpoint = NULL;
    if (header->ep < ENDPOINT_COUNT / 2)
        endpoint = &device->endpoints[usbip_endpoint_index(address)];
    if (!endpoint || (header->ep != 0 && !endpoint->exists)) {
        miss_endpoint(device, header);
        return;
    }
    if (!check_submit(device, header, endpoint))
        return;
    if (endpoint->type == USB_ENDPOINT_XFER_ISOC) {
        /* The reply to one with packets would have to describe each of them. */
        struct usbip_header without_packets = *header;
        without_packets.cmd_submit.number_of_packets = 0;
        usbip_log(device->log, USBIP_LOG_ERROR,
                  "%s: URB %u for endpoint %u %s: isochronous transfers are not supported",
                  device->name, header->seqnum, header->ep, in ? "IN" : "OUT");
        refuse(device, &without_packets, -USBIP_EINVAL);
        return;
    }
    if (endpoint->halted) {
        refuse(device, header, -USBIP_EPIPE);
        return;
    }
    struct usbip_urb *urb = NULL;
    if (device->waiting < USBIP_SESSION_MAX_URBS)
        urb = take_urb(device);
    if (!urb) {
        if (!device->told_full)
            usbip_log(device->log, USBIP_LOG_ERROR,
                      "%s: %u URBs wait already (limit %d): URB %u, and others until there is "
                      "room, end with ENOMEM",
                      device->name, device->waiting, USBIP_SESSION_MAX_URBS, header->seqnum);
        device->told_full = true;
        refuse(device, header, -USBIP_ENOMEM);
        return;
    }
    urb->device = device;
    urb->seqnum = header->seqnum;
    urb->devid = header->devid;
    urb->ep = header->ep;
    urb->endpoint = address;
    urb->direction = in ? USBIP_DIR_IN : USBIP_DIR_OUT;
    urb->length = header->cmd_submit.transfer_buffer_length;
    urb->transfer_flags = header->cmd_submit.transfer_flags;
    urb->number_of_packets = header->cmd_submit.number_of_packets;
    urb->unlinked = false;
    urb->owned = NULL;
    urb->consumed = 0;
    urb->data = in ? NULL : data;
    if (header->ep == 0) {
        usbip_decode_setup(header->cmd_submit.setup, &urb->setup);
        if (device->personality->length_mismatch == USBIP_ACCEPT &&
            urb->length > urb->setup.wLength)
            urb->length = urb->setup.wLength;
    }
    enqueue(device, urb);
    if (!in && urb->length > 0)
        device->arriving = urb;
    poke(device, address);
    if (device->arriving) {
        keep_data(device, device->arriving);
        device->arriving = NULL;
    }
}

/* What waits on an endpoint ends with this status. */
static void end_urbs(struct endpoint *queue, int32_t status)
{
    while (queue->first)
        usbip_urb_complete(queue->first, status, queue->first->consumed);
}

/* The URB stays, until there have been as many unlinks as URBs wait on its endpoint. */
static void unlink_lazily(struct usbip_device *device, struct usbip_urb *victim)
{
    struct endpoint *queue = &device->endpoints[usbip_endpoint_index(victim->endpoint)];
    unsigned waiting = 0;
    victim->unlinked = true;
    /* Endpoint 0 cannot be aborted. */
    if (usbip_endpoint_index(victim->endpoint) == 0)
        return;
    for (const struct usbip_urb *urb = queue->first; urb; urb = urb->next)
        waiting++;
    if (++queue->unlinks < waiting)
        return;
    queue->unlinks = 0;
    end_urbs(queue, device->personality->abort_status);
}

int usbip_device_find_urb(const struct usbip_device *device, uint32_t seqnum,
                          enum usbip_direction *direction)
{
    const struct usbip_urb *urb = find_urb(device, seqnum);
    if (!urb)
        return -1;
    *direction = urb->direction;
    return urb->endpoint;
}

bool usbip_device_unlink(struct usbip_device *device, uint32_t seqnum)
{
    struct usbip_urb *urb = find_urb(device, seqnum);
    if (!urb)
        return false;
    device->counters.unlinks++;
    if (device->personality->unlinks_lazily) {
        unlink_lazily(device, urb);
        return true;
    }
    bool was_control = urb == device->control;
    retire(device, urb);
    if (was_control)
        run_control(device);
    return true;
}

void usbip_device_resume(struct usbip_device *device)
{
    for (unsigned i = 0; i < ENDPOINT_COUNT; i++) {
        if (device->endpoints[i].first)
            poke(device, device->endpoints[i].first->endpoint);
    }
}

struct usbip_urb *usbip_device_next_urb(struct usbip_device *device, uint8_t endpoint)
{
    unsigned index = usbip_endpoint_index(endpoint);
    const struct endpoint *queue = &device->endpoints[index];
    /* A request under way: who answers it would not be asked again when there is room. */
    if (index == 0 && device->control)
        return device->control;
    if (!queue->first || queue->halted || !usbip_device_session_has_room(device->session))
        return NULL;
    return queue->first;
}

uint8_t *usbip_urb_reserve(struct usbip_urb *urb, uint32_t size)
{
    return usbip_device_session_reserve(urb->device->session, size);
}

struct usbip_in_fit usbip_urb_fit_more(const struct usbip_urb *urb, size_t available)
{
    uint32_t packet_size = urb->device->endpoints[usbip_endpoint_index(urb->endpoint)].packet_size;
    const struct usbip_personality *personality = urb->device->personality;
    uint32_t rest = packet_size > 0 ? urb->length % packet_size : 0;
    if (rest == 0 || personality->babble_status == 0)
        return (struct usbip_in_fit){urb->length, urb->length, 0};
    uint32_t whole = urb->length - rest;
    uint32_t lost = available - whole < packet_size ? (uint32_t)(available - whole) : packet_size;
    uint32_t delivered = personality->babble_fills_transfer ? urb->length : whole;
    return (struct usbip_in_fit){delivered, whole + lost, personality->babble_status};
}

static bool may_not_be_short(const struct usbip_urb *urb)
{
    enum usbip_short_not_ok where = urb->device->personality->short_not_ok;
    return where == USBIP_SHORT_NOT_OK_EVERYWHERE ||
           (where == USBIP_SHORT_NOT_OK_IN_DATA && urb->endpoint != 0);
}

/* data: of an IN transfer; NULL: it is in the reserved room. */
static void complete(struct usbip_urb *urb, int32_t status, uint32_t actual_length,
                     const uint8_t *data)
{
    struct usbip_device *device = urb->device;
    bool in = urb->direction == USBIP_DIR_IN;
    if (in && status == 0 && actual_length < urb->length &&
        (urb->transfer_flags & USBIP_URB_SHORT_NOT_OK) && may_not_be_short(urb))
        status = -USBIP_EREMOTEIO;
    if (status == -USBIP_EPIPE)
        device->counters.stalls++;
    if (in)
        device->counters.bytes_in += actual_length;
    else
        device->counters.bytes_out += actual_length;
    if (!urb->unlinked)
        usbip_device_session_complete(device->session, urb, status, actual_length, data,
                                      in ? actual_length : 0);
    bool was_control = urb == device->control;
    retire(device, urb);
    if (was_control)
        run_control(device);
}

void usbip_urb_complete(struct usbip_urb *urb, int32_t status, uint32_t actual_length)
{
    complete(urb, status, actual_length, NULL);
}

void usbip_urb_complete_fit(struct usbip_urb *urb, const uint8_t *data,
                            const struct usbip_in_fit *fit)
{
    complete(urb, fit->status, fit->delivered, data);
}

void usbip_urb_complete_with(struct usbip_urb *urb, const void *data, size_t size)
{
    uint32_t length = size < urb->length ? (uint32_t)size : urb->length;
    usbip_urb_complete_fit(urb, data, &(struct usbip_in_fit){length, length, 0});
}

void usbip_urb_stall(struct usbip_urb *urb)
{
    usbip_urb_complete(urb, -USBIP_EPIPE, 0);
}

void usbip_device_complete_first(struct usbip_device *device, uint8_t endpoint, uint32_t seqnum,
                                 int32_t status, uint32_t actual_length)
{
    struct usbip_urb *first = device->endpoints[usbip_endpoint_index(endpoint)].first;
    if (first && first->seqnum == seqnum)
        usbip_urb_complete(first, status, actual_length);
}

void usbip_device_halt(struct usbip_device *device, uint8_t endpoint)
{
    struct endpoint *queue = &device->endpoints[usbip_endpoint_index(endpoint)];
    if (!queue->exists)
        return;
    queue->halted = true;
    end_urbs(queue, -USBIP_EPIPE);
}

void usbip_device_clear_halt(struct usbip_device *device, uint8_t endpoint)
{
    device->endpoints[usbip_endpoint_index(endpoint)].halted = false;
}

void usbip_device_shut_down_endpoints(struct usbip_device *device, const uint8_t *endpoints,
                                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct endpoint *queue = &device->endpoints[usbip_endpoint_index(endpoints[i])];
        queue->halted = false;
        queue->exists = false;
        end_urbs(queue, device->personality->abort_status);
    }
}

void usbip_device_drop_urbs(struct usbip_device *device)
{
    for (unsigned i = 0; i < ENDPOINT_COUNT; i++) {
        while (device->endpoints[i].first)
            retire(device, device->endpoints[i].first);
        device->endpoints[i].unlinks = 0;
    }
}
