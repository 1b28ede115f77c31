/* A client of few manners: a plain socket, and PDUs that are written down by hand. */
#ifndef TESTS_SCALE_RAW_CLIENT_H
#define TESTS_SCALE_RAW_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/usbip.h"

enum {
    RAW_OUT_ENDPOINT = 1, /* of a cdc_acm device */
    RAW_IN_ENDPOINT = 1,
};

/* Begins to connect to "127.0.0.1:PORT", without waiting. Returns the socket, or -1 with the reason
 * on standard error. */
int raw_connect(const char *address);

/* Exchange with the server, waiting. False, with the reason on standard error, when it fails. */
bool raw_send(int fd, const void *data, size_t size);
bool raw_receive(int fd, void *data, size_t size);
/*
 * Devices are counted from 1, as the emulator lists them. Connects, imports one, again as long as
 * somebody else has it, and sets its configuration. Returns the socket, or -1 with the reason on
 * standard error.
 */
int raw_attach(const char *address, unsigned device);

/* Header of a CMD_SUBMIT to the device. setup: NULL, or 8 bytes. Returns its size. */
size_t raw_submit(uint8_t *at, unsigned device, uint32_t seqnum, uint32_t ep,
                  enum usbip_direction direction, uint32_t length, const uint8_t *setup);
/* SET_CONFIGURATION(1). */
size_t raw_set_configuration(uint8_t *at, unsigned device, uint32_t seqnum);
/* OP_REQ_IMPORT of a device. */
void raw_import_request(uint8_t at[USBIP_IMPORT_REQUEST_SIZE], unsigned device);

uint64_t now_us(void);

#endif
