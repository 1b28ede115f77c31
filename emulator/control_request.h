/* The requests of the control socket, without the socket. */
#ifndef EMULATOR_CONTROL_REQUEST_H
#define EMULATOR_CONTROL_REQUEST_H

#include "emulator/bus.h"

/*
 * Answers one line. Returns the reply, with its newline, for free(); NULL when memory is out. Sets
 * *quits when the emulator is to end. line may hold anything.
 */
char *usbip_control_answer(struct usbip_bus *bus, const char *line, size_t size, bool *quits);
/* The reply that tells of an error; the same. */
char *usbip_control_error(const char *text);

#endif
