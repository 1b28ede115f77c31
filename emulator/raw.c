/*
 * Raw function: no chip. The behaviour answers class and vendor requests and every transfer; what
 * it sends waits, message by message, for the host to ask.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/device_internal.h"

enum { ERROR_TEXT_SIZE = 256 };

/* One message ends one transfer; a longer one fills several. */
struct message {
    struct message *next;
    size_t size, sent;
    uint8_t data[];
};

struct message_queue {
    struct message *first, *last;
};

struct raw {
    struct usbip_function function;
    struct message_queue queues[ENDPOINT_COUNT];
    size_t kept; /* bytes in all queues, with what keeping them costs */
};

static struct raw *raw_of(struct usbip_function *function)
{
    return (struct raw *)function;
}

static void drop_first(struct raw *raw, struct message_queue *queue)
{
    struct message *message = queue->first;
    raw->kept -= sizeof *message + message->size;
    queue->first = message->next;
    if (!queue->first)
        queue->last = NULL;
    free(message);
}

static void reset(struct usbip_function *function)
{
    struct raw *raw = raw_of(function);
    for (unsigned i = 0; i < ENDPOINT_COUNT; i++) {
        while (raw->queues[i].first)
            drop_first(raw, &raw->queues[i]);
    }
}

static struct usbip_function *create(struct usbip_device *device,
                                     const struct usbip_function_options *options,
                                     char error_text[ERROR_TEXT_SIZE])
{
    (void)options;
    struct raw *raw = calloc(1, sizeof *raw);
    if (!raw) {
        snprintf(error_text, ERROR_TEXT_SIZE, "out of memory");
        return NULL;
    }
    raw->function = (struct usbip_function){&usbip_function_raw, device, 0};
    return &raw->function;
}

static void destroy(struct usbip_function *function)
{
    reset(function);
    free(function);
}

static void control(struct usbip_function *function, struct usbip_urb *urb)
{
    (void)function;
    usbip_urb_stall(urb);
}

static void send_messages(struct raw *raw, uint8_t endpoint)
{
    struct message_queue *queue = &raw->queues[usbip_endpoint_index(endpoint)];
    struct usbip_urb *urb;
    while (queue->first && (urb = usbip_device_next_urb(raw->function.device, endpoint)) != NULL) {
        struct message *message = queue->first;
        struct usbip_in_fit fit = usbip_urb_fit(urb, message->size - message->sent);
        usbip_urb_complete_fit(urb, message->data + message->sent, &fit);
        message->sent += fit.taken;
        if (message->sent == message->size)
            drop_first(raw, queue);
    }
}

static void in(struct usbip_function *function, uint8_t endpoint)
{
    struct raw *raw = raw_of(function);
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(function->device);
    const struct endpoint *queue = &function->device->endpoints[usbip_endpoint_index(endpoint)];
    send_messages(raw, endpoint);
    struct usbip_urb *urb;
    while (behaviour->ops->in &&
           (urb = usbip_device_next_urb(function->device, endpoint)) != NULL) {
        behaviour->ops->in(behaviour->context, endpoint, urb->length);
        if (queue->first == urb)
            return; /* it has nothing yet */
    }
}

static void out(struct usbip_function *function, uint8_t endpoint)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(function->device);
    bool drops_empty = usbip_device_personality(function->device)->drops_empty_out;
    struct usbip_urb *urb;
    while ((urb = usbip_device_next_urb(function->device, endpoint)) != NULL) {
        uint32_t seqnum = urb->seqnum, length = urb->length;
        bool well = !behaviour->ops->out || (drops_empty && length == 0) ||
                    behaviour->ops->out(behaviour->context, endpoint, urb->data, length);
        usbip_device_complete_first(function->device, endpoint, seqnum, well ? 0 : -USBIP_EPIPE,
                                    well ? length : 0);
    }
}

static bool is_in_endpoint(const struct usbip_device *device, uint8_t endpoint)
{
    if ((endpoint & ~0x0f) != USB_DIR_IN)
        return false;
    if (device->endpoints[usbip_endpoint_index(endpoint)].exists)
        return true;
    const struct usbip_configuration *configuration = usbip_device_configuration(device);
    for (unsigned i = 0; i < configuration->endpoint_count; i++) {
        if (configuration->endpoints[i].bEndpointAddress == endpoint)
            return true;
    }
    return false;
}

static bool keep(struct raw *raw, struct message_queue *queue, const uint8_t *data, size_t size)
{
    struct message *message = malloc(sizeof *message + size);
    if (!message)
        return false;
    *message = (struct message){.size = size};
    if (size > 0)
        memcpy(message->data, data, size);
    if (queue->last)
        queue->last->next = message;
    else
        queue->first = message;
    queue->last = message;
    raw->kept += sizeof *message + size;
    return true;
}

/* Straight into the URBs that wait. What is left is kept, behind what is kept already. */
static bool send(struct usbip_function *function, uint8_t endpoint, const uint8_t *data,
                 size_t size)
{
    struct raw *raw = raw_of(function);
    if (!is_in_endpoint(function->device, endpoint) ||
        sizeof(struct message) + size > USBIP_FIFO_SIZE - raw->kept)
        return false;
    struct message_queue *queue = &raw->queues[usbip_endpoint_index(endpoint)];
    struct usbip_urb *urb;
    while (!queue->first && (urb = usbip_device_next_urb(function->device, endpoint)) != NULL) {
        struct usbip_in_fit fit = usbip_urb_fit(urb, size);
        usbip_urb_complete_fit(urb, data, &fit);
        data += fit.taken;
        size -= fit.taken;
        if (size == 0)
            return true;
    }
    if (!keep(raw, queue, data, size))
        return false;
    send_messages(raw, endpoint);
    return true;
}

const struct usbip_function_type usbip_function_raw = {
    .name = "raw",
    .create = create,
    .destroy = destroy,
    .control = control,
    .in = in,
    .out = out,
    .purge = reset,
    .reset = reset,
    .send = send,
};
