#include "emulator/fault_device.h"

#include <string.h>

#include "emulator/device_internal.h"

enum { TOUCH_RATE = 1200 };

static void leave(struct usbip_timer *timer)
{
    struct usbip_device *device = timer->user;
    const struct usbip_device_faults *state = &device->faults;
    if (!device->plugged)
        return;
    usbip_device_unplug(device);
    if (state->identity >= 0)
        usbip_device_set_identity(device, (uint16_t)(state->identity >> 16),
                                  (uint16_t)(state->identity & UINT16_MAX));
    if (state->back_ms >= 0 && usbip_device_plug_after(device, (uint64_t)state->back_ms * 1000) < 0)
        usbip_log(device->log, USBIP_LOG_ERROR, "%s: out of memory, it stays unplugged",
                  device->name);
}

/* Not at once: the reply to the request that was the reason goes first. */
static void disconnect(struct usbip_device *device, const struct usbip_fault *fault, bool as_other)
{
    struct usbip_device_faults *state = &device->faults;
    usbip_log(device->log, USBIP_LOG_INFO, "%s: fault %u: the device disconnects", device->name,
              fault->id);
    state->back_ms = usbip_fault_value(fault, USBIP_DISCONNECT_BACK);
    state->identity = as_other ? usbip_fault_value(fault, USBIP_DISCONNECT_AS) : -1;
    state->leave_timer.fired = leave;
    state->leave_timer.user = device;
    if (usbip_timer_arm(device->scheduler, &state->leave_timer, device->scheduler->now_us) < 0)
        usbip_log(device->log, USBIP_LOG_ERROR, "%s: out of memory, it stays plugged in",
                  device->name);
}

static bool is_disconnect(const struct usbip_fault *fault, const struct usbip_device *device)
{
    return fault->options.kind == USBIP_FAULT_DISCONNECT && !usbip_fault_is_spent(fault) &&
           usbip_fault_concerns(fault, device) &&
           !usbip_timer_is_armed(&device->faults.leave_timer);
}

void usbip_device_faults_attach(struct usbip_device *device)
{
    device->faults.in_reset = false;
    memset(&device->faults.progress, 0, sizeof device->faults.progress);
}

void usbip_device_faults_lines(struct usbip_device *device, unsigned before, unsigned lines,
                               uint32_t rate)
{
    struct usbip_device_faults *state = &device->faults;
    bool dtr = lines & USBIP_LINE_DTR, rts = lines & USBIP_LINE_RTS;
    bool dtr_falls = (before & USBIP_LINE_DTR) && !dtr;
    bool reset_ends = state->in_reset && !rts;
    /* With both set, as while they change one by one, the reset lasts. */
    state->in_reset = rts && (!dtr || state->in_reset);
    if (!state->faults)
        return;
    for (unsigned i = 0; i < state->faults->count; i++) {
        struct usbip_fault *fault = state->faults->list[i];
        if (!is_disconnect(fault, device))
            continue;
        int64_t on = usbip_fault_value(fault, USBIP_DISCONNECT_ON);
        bool happens = on == USBIP_ON_RESET   ? reset_ends
                       : on == USBIP_ON_TOUCH ? dtr_falls && rate == TOUCH_RATE
                                              : on == USBIP_ON_DTR && dtr_falls;
        if (happens && usbip_fault_hits(fault, &state->progress))
            disconnect(device, fault, on != USBIP_ON_RESET || dtr);
    }
}

void usbip_device_faults_bytes(struct usbip_device *device, uint32_t size)
{
    struct usbip_device_faults *state = &device->faults;
    for (unsigned i = 0; state->faults && i < state->faults->count; i++) {
        struct usbip_fault *fault = state->faults->list[i];
        if (!is_disconnect(fault, device) ||
            usbip_fault_value(fault, USBIP_DISCONNECT_ON) != USBIP_ON_BYTES)
            continue;
        uint64_t *passed = usbip_fault_passed(&state->progress, fault);
        if (*passed == UINT64_MAX || size == 0)
            continue;
        *passed += size;
        if (*passed < (uint64_t)usbip_fault_value(fault, USBIP_FAULT_AFTER))
            continue;
        *passed = UINT64_MAX;
        if (usbip_fault_fires(fault))
            disconnect(device, fault, true);
    }
}
