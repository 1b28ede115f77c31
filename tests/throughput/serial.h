/*
 * The serial port API end to end, as its users use it (client/port.h). At depth 1 it writes
 * load->size bytes and reads them back, again and again; at any other depth it streams, in writes
 * of load->size bytes, while it reads what comes back. Every byte is compared.
 */
#ifndef TESTS_THROUGHPUT_SERIAL_H
#define TESTS_THROUGHPUT_SERIAL_H

#include "tests/throughput/measurement.h"

enum { SERIAL_STREAM = 0 }; /* a depth: as deep as the library goes */

/* One run, on the first of the peer's devices. */
enum outcome serial_run(const struct load *load, const struct peer *peer, struct sample *sample,
                        char error_text[ERROR_TEXT_SIZE]);

#endif
