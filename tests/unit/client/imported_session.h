#ifndef TESTS_UNIT_CLIENT_IMPORTED_SESSION_H
#define TESTS_UNIT_CLIENT_IMPORTED_SESSION_H

#include "client/session.h"

/* A session whose import of busid 1-1 has succeeded. The caller frees. */
struct usbip_host_session *imported_session(void);

#endif
