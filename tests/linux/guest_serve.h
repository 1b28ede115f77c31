#ifndef TESTS_LINUX_GUEST_SERVE_H
#define TESTS_LINUX_GUEST_SERVE_H

/* Serves until it is killed. Returns 1 when it cannot listen. */
int guest_serve(void);

#endif
