#include "emulator/scheduler.h"

#include <stdlib.h>

static bool is_before(const struct usbip_timer *a, const struct usbip_timer *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void place(struct usbip_scheduler *scheduler, size_t position, struct usbip_timer *timer)
{
    scheduler->heap[position - 1] = timer;
    timer->position = position;
}

static void sift_up(struct usbip_scheduler *scheduler, struct usbip_timer *timer)
{
    size_t position = timer->position;
    while (position > 1) {
        struct usbip_timer *parent = scheduler->heap[position / 2 - 1];
        if (!is_before(timer, parent))
            break;
        place(scheduler, position, parent);
        position /= 2;
    }
    place(scheduler, position, timer);
}

static void sift_down(struct usbip_scheduler *scheduler, struct usbip_timer *timer)
{
    size_t position = timer->position;
    while (2 * position <= scheduler->size) {
        size_t child = 2 * position;
        if (child < scheduler->size &&
            is_before(scheduler->heap[child], scheduler->heap[child - 1]))
            child++;
        if (!is_before(scheduler->heap[child - 1], timer))
            break;
        place(scheduler, position, scheduler->heap[child - 1]);
        position = child;
    }
    place(scheduler, position, timer);
}

void usbip_scheduler_free(struct usbip_scheduler *scheduler)
{
    free(scheduler->heap);
    *scheduler = (struct usbip_scheduler){.now_us = scheduler->now_us};
}

int usbip_timer_arm(struct usbip_scheduler *scheduler, struct usbip_timer *timer, uint64_t due_us)
{
    usbip_timer_cancel(scheduler, timer);
    if (scheduler->size == scheduler->capacity) {
        size_t capacity = scheduler->capacity ? 2 * scheduler->capacity : 16;
        struct usbip_timer **heap = realloc(scheduler->heap, capacity * sizeof *heap);
        if (!heap)
            return -1;
        scheduler->heap = heap;
        scheduler->capacity = capacity;
    }
    timer->due_us = due_us;
    timer->order = scheduler->armed_count++;
    place(scheduler, ++scheduler->size, timer);
    sift_up(scheduler, timer);
    return 0;
}

void usbip_timer_cancel(struct usbip_scheduler *scheduler, struct usbip_timer *timer)
{
    size_t position = timer->position;
    if (!position)
        return;
    timer->position = 0;
    struct usbip_timer *last = scheduler->heap[--scheduler->size];
    if (last == timer)
        return;
    place(scheduler, position, last);
    sift_up(scheduler, last);
    sift_down(scheduler, last);
}

uint64_t usbip_scheduler_due_us(const struct usbip_scheduler *scheduler)
{
    return scheduler->size ? scheduler->heap[0]->due_us : USBIP_NEVER;
}

void usbip_scheduler_advance(struct usbip_scheduler *scheduler, uint64_t now_us)
{
    while (scheduler->size && scheduler->heap[0]->due_us <= now_us) {
        struct usbip_timer *timer = scheduler->heap[0];
        if (timer->due_us > scheduler->now_us)
            scheduler->now_us = timer->due_us;
        usbip_timer_cancel(scheduler, timer);
        timer->fired(timer);
    }
    if (now_us > scheduler->now_us)
        scheduler->now_us = now_us;
}
