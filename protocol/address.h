/* Addresses of servers as people write them, "HOST:PORT", "[IPv6]:PORT", and as the network does.
 */
#ifndef PROTOCOL_ADDRESS_H
#define PROTOCOL_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

enum { USBIP_HOST_SIZE = 80 };

/*
 * Splits an address; *port points to its 1 to 5 digits within `address`, a number up to 65535.
 * Returns false when it has another form; an IPv6 address needs its brackets.
 */
bool usbip_split_address(const char *address, char host[USBIP_HOST_SIZE], const char **port);

/* Whether an address, in the order of the network, is this machine's own: 127.0.0.0/8, ::1, and the
 * former within IPv6, ::ffff:127.0.0.0/104. */
bool usbip_is_loopback_ip4(const uint8_t address[4]);
bool usbip_is_loopback_ip6(const uint8_t address[16]);

#endif
