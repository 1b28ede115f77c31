/* Addresses of servers as people write them: "HOST:PORT", "[IPv6]:PORT". */
#ifndef PROTOCOL_ADDRESS_H
#define PROTOCOL_ADDRESS_H

#include <stdbool.h>

enum { USBIP_HOST_SIZE = 80 };

/*
 * Splits an address; *port points to its 1 to 5 digits within `address`, a number up to 65535.
 * Returns false when it has another form; an IPv6 address needs its brackets.
 */
bool usbip_split_address(const char *address, char host[USBIP_HOST_SIZE], const char **port);

#endif
