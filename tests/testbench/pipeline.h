/* GET_DESCRIPTOR as fast as the emulator answers, through the client's session. */
#ifndef TESTS_TESTBENCH_PIPELINE_H
#define TESTS_TESTBENCH_PIPELINE_H

#include "client/error.h"

/*
 * Imports busid and keeps `depth` GET_DESCRIPTOR(device) in flight for `milliseconds`; every answer
 * is compared with the first. Returns URBs per second, or a negative enum usbip_error and its
 * words.
 */
double pipeline_run(const char *server, const char *busid, unsigned depth, unsigned milliseconds,
                    char error_text[USBIP_ERROR_TEXT_SIZE]);

#endif
