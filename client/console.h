/* The terminal of usbip-serial; one source file per system implements it. */
#ifndef CLIENT_CONSOLE_H
#define CLIENT_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Hands every key on at once, without echo, until usbip_console_restore() or the end of the
 * program. Returns false, and changes nothing, when standard input is no terminal.
 */
bool usbip_console_raw(void);
void usbip_console_restore(void);

/* Whether a signal has asked the program to end since usbip_console_raw(). */
bool usbip_console_is_interrupted(void);

/*
 * Waits for one of the USBIP_EVENT_… on fd (-1: none), for standard input if that is wanted, or for
 * timeout_ms (USBIP_FOREVER allowed). Returns whether standard input can be read.
 */
bool usbip_console_wait(int fd, int events, bool wants_input, uint32_t timeout_ms);

/* Reads from standard input without waiting for more than is there. 0 at its end or on an error. */
size_t usbip_console_read(void *data, size_t size);

#endif
