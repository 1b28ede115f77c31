#include "protocol/address.h"

#include <stdlib.h>
#include <string.h>

bool usbip_split_address(const char *address, char host[USBIP_HOST_SIZE], const char **port)
{
    const char *colon = strrchr(address, ':');
    if (!colon)
        return false;
    const char *begin = address, *end = colon;
    if (*begin == '[') {
        begin++;
        if (end == begin || end[-1] != ']')
            return false;
        end--;
    } else if (memchr(begin, ':', (size_t)(end - begin))) {
        return false; /* an IPv6 address without brackets */
    }
    size_t size = (size_t)(end - begin);
    if (size == 0 || size >= USBIP_HOST_SIZE)
        return false;
    memcpy(host, begin, size);
    host[size] = '\0';
    *port = colon + 1;
    size_t digits = strspn(*port, "0123456789");
    return digits > 0 && digits <= 5 && (*port)[digits] == '\0' &&
           strtoul(*port, NULL, 10) <= UINT16_MAX;
}

bool usbip_is_loopback_ip4(const uint8_t address[4])
{
    return address[0] == 127;
}

bool usbip_is_loopback_ip6(const uint8_t address[16])
{
    static const uint8_t loopback[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, loopback, sizeof loopback) == 0 ||
           (memcmp(address, mapped, sizeof mapped) == 0 && usbip_is_loopback_ip4(address + 12));
}
