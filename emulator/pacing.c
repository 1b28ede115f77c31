#include "emulator/pacing.h"

#include <stdlib.h>
#include <string.h>

#include "emulator/serial.h"

static struct usbip_scheduler *scheduler_of(const struct usbip_pacing *pacing)
{
    return usbip_device_scheduler(pacing->serial->device);
}

static uint64_t now_us(const struct usbip_pacing *pacing)
{
    return scheduler_of(pacing)->now_us;
}

/* ---- To the host ---- */

static void notice_arrivals(struct usbip_pacing *pacing)
{
    size_t waiting = pacing->serial->fifo.size - pacing->arrived;
    size_t count = usbip_line_count(&pacing->in, waiting, now_us(pacing));
    usbip_line_pass(&pacing->in, count);
    pacing->arrived += count;
    pacing->fresh += count;
}

void usbip_pacing_put(struct usbip_pacing *pacing)
{
    notice_arrivals(pacing);
    if (pacing->arrived == pacing->serial->fifo.size)
        usbip_line_start(&pacing->in, now_us(pacing));
}

size_t usbip_pacing_receive(struct usbip_pacing *pacing)
{
    notice_arrivals(pacing);
    size_t fresh = pacing->fresh;
    pacing->fresh = 0;
    return fresh;
}

/* ---- From the host ---- */

/* The first bytes of the buffer. Their transfer may have ended: there is nothing to be stalled. */
static void deliver(struct usbip_pacing *pacing, size_t count)
{
    const struct usbip_behaviour *behaviour = usbip_device_behaviour(pacing->serial->device);
    uint8_t piece[USBIP_LINE_BUFFER_SIZE];
    memcpy(piece, pacing->buffer, count);
    pacing->buffered -= count;
    memmove(pacing->buffer, pacing->buffer + count, pacing->buffered);
    usbip_line_pass(&pacing->out, count);
    pacing->next_piece_us = now_us(pacing) + USBIP_LINE_FRAME_US;
    if (behaviour->ops->data)
        behaviour->ops->data(behaviour->context, pacing->serial->port, piece, count);
}

static void fill_buffer(struct usbip_pacing *pacing)
{
    struct usbip_serial *serial = pacing->serial;
    struct usbip_urb *urb;
    while ((urb = usbip_device_next_urb(serial->device, serial->out_endpoint)) != NULL) {
        size_t size = urb->length - urb->consumed, room = USBIP_LINE_BUFFER_SIZE - pacing->buffered;
        if (size > room)
            size = room;
        if (pacing->buffered == 0)
            usbip_line_start(&pacing->out, now_us(pacing));
        if (size > 0)
            memcpy(pacing->buffer + pacing->buffered, urb->data + urb->consumed, size);
        pacing->buffered += size;
        urb->consumed += (uint32_t)size;
        if (urb->consumed < urb->length)
            return;
        usbip_urb_complete(urb, 0, urb->length);
    }
}

/*
 * The next moment with something to do: all has passed, or what has passed in a frame, or as much
 * as the end of the transfer that waits needs room. Without room for an answer others wake us.
 */
static void set_timer(struct usbip_pacing *pacing)
{
    struct usbip_serial *serial = pacing->serial;
    if (pacing->buffered == 0 || serial->holds_output) {
        usbip_timer_cancel(scheduler_of(pacing), &pacing->out_timer);
        return;
    }
    uint64_t due_us = usbip_line_due_us(&pacing->out, pacing->buffered);
    uint64_t piece_us = usbip_line_due_us(&pacing->out, 1);
    if (piece_us < pacing->next_piece_us)
        piece_us = pacing->next_piece_us;
    if (piece_us < due_us)
        due_us = piece_us;
    const struct usbip_urb *urb = usbip_device_next_urb(serial->device, serial->out_endpoint);
    size_t needed = urb ? urb->length - urb->consumed : 0;
    if (urb && needed < pacing->buffered) {
        uint64_t room_us = usbip_line_due_us(&pacing->out, needed);
        if (room_us < due_us)
            due_us = room_us;
    }
    usbip_timer_arm(scheduler_of(pacing), &pacing->out_timer, due_us);
}

void usbip_pacing_take_output(struct usbip_pacing *pacing)
{
    struct usbip_serial *serial = pacing->serial;
    size_t passed = usbip_line_count(&pacing->out, pacing->buffered, now_us(pacing));
    serial->holds_output = passed > 0 && !usbip_serial_has_room(serial);
    if (passed > 0 && !serial->holds_output)
        deliver(pacing, passed);
    fill_buffer(pacing);
    set_timer(pacing);
}

static void output_passed(struct usbip_timer *timer)
{
    usbip_pacing_take_output(timer->user);
}

void usbip_pacing_hurry_output(struct usbip_pacing *pacing)
{
    if (pacing->buffered > 0 && usbip_serial_has_room(pacing->serial))
        deliver(pacing, pacing->buffered);
    usbip_pacing_take_output(pacing);
}

void usbip_pacing_purge_output(struct usbip_pacing *pacing)
{
    pacing->buffered = 0;
    usbip_pacing_take_output(pacing);
}

/* ---- Life ---- */

static void set_coding(struct usbip_pacing *pacing)
{
    usbip_line_set_coding(&pacing->in, &pacing->serial->coding, now_us(pacing));
    usbip_line_set_coding(&pacing->out, &pacing->serial->coding, now_us(pacing));
}

struct usbip_pacing *usbip_pacing_new(struct usbip_serial *serial)
{
    struct usbip_pacing *pacing = calloc(1, sizeof *pacing);
    if (!pacing)
        return NULL;
    pacing->serial = serial;
    pacing->out_timer.fired = output_passed;
    pacing->out_timer.user = pacing;
    set_coding(pacing);
    return pacing;
}

void usbip_pacing_free(struct usbip_pacing *pacing)
{
    if (pacing)
        usbip_timer_cancel(scheduler_of(pacing), &pacing->out_timer);
    free(pacing);
}

void usbip_pacing_reset(struct usbip_pacing *pacing)
{
    usbip_timer_cancel(scheduler_of(pacing), &pacing->out_timer);
    pacing->arrived = pacing->fresh = 0;
    pacing->buffered = 0;
    pacing->next_piece_us = 0;
    pacing->in.rate = pacing->out.rate = 0; /* idle lines */
    set_coding(pacing);
}

void usbip_pacing_change_coding(struct usbip_pacing *pacing)
{
    /* What has passed did so at the old rate. */
    notice_arrivals(pacing);
    usbip_pacing_take_output(pacing);
    set_coding(pacing);
    usbip_pacing_take_output(pacing);
}
