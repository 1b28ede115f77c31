/*
 * The reference server: what a USB/IP server can do at best on this machine. It reads all there is,
 * decodes headers where they lie, answers, and writes once; no device, no state but what the
 * protocol needs, no copy of a payload that can be sent from where it is. A process of its own,
 * with a thread for each connection.
 *
 * It exports the devices CEILING_ECHO, CEILING_SINK and CEILING_SOURCE, as often as one likes, all
 * of them CDC-ACM at high speed.
 */
#ifndef TESTS_THROUGHPUT_CEILING_H
#define TESTS_THROUGHPUT_CEILING_H

#include <stdbool.h>

#include "tests/throughput/attachment.h"

#define CEILING_ECHO "1-1"
#define CEILING_SINK "1-2"
#define CEILING_SOURCE "1-3"

struct ceiling {
    int pid;
    char address[ADDRESS_SIZE];
};

/* Starts it on a free port of 127.0.0.1. It ends with this process. False with the reason. */
bool ceiling_start(struct ceiling *ceiling, char error_text[ERROR_TEXT_SIZE]);
void ceiling_stop(struct ceiling *ceiling);

#endif
