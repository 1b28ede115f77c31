/*
 * Timers in order of their time, without a clock: whoever owns the scheduler says what time it is.
 * The server lets real time pass, or under --virtual-time jumps to the next timer as soon as
 * nothing else can happen; a simulation does as it likes.
 *
 * Times are microseconds from any origin.
 */
#ifndef EMULATOR_SCHEDULER_H
#define EMULATOR_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USBIP_NEVER UINT64_MAX

/* Owned by whoever uses it; set fired and user once, zero the rest. It must not move while armed.
 */
struct usbip_timer {
    void (*fired)(struct usbip_timer *timer);
    void *user;
    uint64_t due_us;
    uint64_t order;  /* timers due at the same time fire in the order in which they were armed */
    size_t position; /* in the heap, counted from 1; 0: not armed */
};

struct usbip_scheduler {
    uint64_t now_us;
    uint64_t armed_count;
    struct usbip_timer **heap;
    size_t size;
    size_t capacity;
};

/* Frees the heap; timers still armed never fire. */
void usbip_scheduler_free(struct usbip_scheduler *scheduler);

/*
 * Arms the timer, or moves it when it is armed already. Returns 0, or -1 when memory is out; then
 * it is not armed.
 */
int usbip_timer_arm(struct usbip_scheduler *scheduler, struct usbip_timer *timer, uint64_t due_us);
void usbip_timer_cancel(struct usbip_scheduler *scheduler, struct usbip_timer *timer);
static inline bool usbip_timer_is_armed(const struct usbip_timer *timer)
{
    return timer->position != 0;
}

/* When the next timer is due; USBIP_NEVER without one. */
uint64_t usbip_scheduler_due_us(const struct usbip_scheduler *scheduler);

/*
 * Moves the time on to now_us and fires, in order, the timers that are due. A timer armed from
 * within fires in the same call only when it is due by then; the time that each sees is its own due
 * time or later. Time never goes back.
 */
void usbip_scheduler_advance(struct usbip_scheduler *scheduler, uint64_t now_us);

#endif
