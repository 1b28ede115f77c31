/* Servers that are part of this program, each in a process of its own. */
#ifndef TESTS_THROUGHPUT_CHILD_H
#define TESTS_THROUGHPUT_CHILD_H

#include "tests/throughput/attachment.h"

/*
 * Runs serve(listener, context) in a child process, with a socket that listens on a free port of
 * 127.0.0.1; address receives where. The child ends with this process. Returns its process id, or
 * -1 with the reason.
 */
int child_start(void (*serve)(int listener, void *context), void *context,
                char address[ADDRESS_SIZE], char error_text[ERROR_TEXT_SIZE]);
/* Ends it at once. 0 or less: there is none. */
void child_stop(int pid);

#endif
