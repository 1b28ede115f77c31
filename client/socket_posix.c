/* What POSIX adds to C11, and beside it MSG_DONTWAIT and SO_NOSIGPIPE: with _POSIX_C_SOURCE macOS
 * and the BSDs would hide them. */
#define _DEFAULT_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "client/connection.h"
#include "client/socket.h"
#include "protocol/address.h"

enum {
    MAX_PARTS = 128,               /* sent at once */
    PATIENCE_MS = 100,             /* of recv(): the time-out of the socket */
    MIN_WAIT_MS = 2 * PATIENCE_MS, /* for which recv() is tried: its time-out may come that late */
};

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* such systems have SO_NOSIGPIPE */
#endif

struct usbip_socket_addresses {
    struct addrinfo *first;
};

uint64_t usbip_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void explain(char *reason, int error)
{
    /* strerror() may share its buffer between threads, and each port may have its own thread. */
    if (strerror_r(error, reason, USBIP_SOCKET_REASON_SIZE) != 0)
        snprintf(reason, USBIP_SOCKET_REASON_SIZE, "error %d", error);
}

/* ---- Addresses ---- */

int usbip_socket_resolve(struct usbip_socket_addresses **addresses, const char *host, uint16_t port,
                         char *reason)
{
    *addresses = NULL;
    char service[sizeof "65535"];
    snprintf(service, sizeof service, "%u", (unsigned)port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *first;
    int error = getaddrinfo(host, service, &hints, &first);
    if (error == EAI_SYSTEM) {
        explain(reason, errno);
        return -1;
    }
    if (error != 0) {
        snprintf(reason, USBIP_SOCKET_REASON_SIZE, "%s", gai_strerror(error));
        return -1;
    }
    struct usbip_socket_addresses *result = malloc(sizeof *result);
    if (result == NULL) {
        freeaddrinfo(first);
        snprintf(reason, USBIP_SOCKET_REASON_SIZE, "out of memory");
        return -1;
    }
    result->first = first;
    *addresses = result;
    return 0;
}

unsigned usbip_socket_address_count(const struct usbip_socket_addresses *addresses)
{
    unsigned count = 0;
    for (const struct addrinfo *info = addresses->first; info != NULL; info = info->ai_next)
        count++;
    return count;
}

void usbip_socket_addresses_free(struct usbip_socket_addresses *addresses)
{
    if (addresses != NULL) {
        freeaddrinfo(addresses->first);
        free(addresses);
    }
}

/* ---- Sockets ---- */

static void set_option(int fd, int level, int option, int value)
{
    /* All of these only make the connection better: without them it still works. */
    setsockopt(fd, level, option, &value, sizeof value);
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return usbip_is_loopback_ip6(((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr);
    return address->sa_family == AF_INET &&
           usbip_is_loopback_ip4((const uint8_t *)&((const struct sockaddr_in *)address)->sin_addr);
}

static void set_options(int fd, const struct sockaddr *peer)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, USBIP_KEEPALIVE_IDLE_S);
#endif
#ifdef TCP_KEEPALIVE /* the same under another name */
    set_option(fd, IPPROTO_TCP, TCP_KEEPALIVE, USBIP_KEEPALIVE_IDLE_S);
#endif
#ifdef TCP_KEEPINTVL
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, USBIP_KEEPALIVE_INTERVAL_S);
#endif
#ifdef TCP_KEEPCNT
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, USBIP_KEEPALIVE_PROBES);
#endif
#ifdef TCP_USER_TIMEOUT
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USBIP_SOCKET_USER_TIMEOUT_MS);
#endif
#ifdef SO_NOSIGPIPE
    set_option(fd, SOL_SOCKET, SO_NOSIGPIPE, 1);
#endif
#ifdef TCP_CONGESTION
    /* Nothing is ever lost on the way, and BBR, where it is the rule, paces with timers. */
    if (is_loopback(peer))
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", sizeof "reno" - 1);
#endif
}

static int make_non_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1)
        return -1;
    return fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* Not every system has the time-out, without which it must not block; poll() waits for all. */
static void let_receive_wait(int fd)
{
    const struct timeval patience = {.tv_usec = PATIENCE_MS * 1000};
    int flags = fcntl(fd, F_GETFL);
    if (flags != -1 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0)
        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

int usbip_socket_connect(const struct usbip_socket_addresses *addresses, unsigned index,
                         char *reason)
{
    const struct addrinfo *info = addresses->first;
    while (index-- > 0)
        info = info->ai_next;
    int fd = socket(info->ai_family, info->ai_socktype, info->ai_protocol);
    if (fd == -1) {
        explain(reason, errno);
        return -1;
    }
    if (make_non_blocking(fd) == -1) {
        explain(reason, errno);
        close(fd);
        return -1;
    }
    set_options(fd, info->ai_addr);
    /* Interrupted, it goes on in the background as well. */
    if (connect(fd, info->ai_addr, info->ai_addrlen) == -1 && errno != EINPROGRESS &&
        errno != EINTR) {
        explain(reason, errno);
        close(fd);
        return -1;
    }
    return fd;
}

int usbip_socket_is_connected(int fd, char *reason)
{
    struct pollfd waiting = {.fd = fd, .events = POLLOUT};
    if (poll(&waiting, 1, 0) <= 0)
        return 0;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == -1)
        error = errno;
    if (error != 0) {
        explain(reason, error);
        return -1;
    }
    let_receive_wait(fd);
    return 1;
}

void usbip_socket_shut_down(int fd)
{
    shutdown(fd, SHUT_WR);
}

void usbip_socket_close(int fd)
{
    close(fd);
}

static bool has_nothing(ssize_t count)
{
    return count == -1 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

static ptrdiff_t result_of(ssize_t count, char *reason)
{
    if (count >= 0)
        return count;
    if (has_nothing(count) || errno == EINTR)
        return USBIP_SOCKET_AGAIN;
    explain(reason, errno);
    return USBIP_SOCKET_BROKEN;
}

/* recv() is the faster one. */
static ssize_t receive(int fd, const struct usbip_input_piece *pieces, size_t count, int flags)
{
    struct iovec parts[USBIP_LAYOUT_MAX_PIECES];
    if (count == 1)
        return recv(fd, pieces->data, pieces->size, flags);
    for (size_t i = 0; i < count; i++)
        parts[i] = (struct iovec){.iov_base = pieces[i].data, .iov_len = pieces[i].size};
    return recvmsg(fd, &(struct msghdr){.msg_iov = parts, .msg_iovlen = count}, flags);
}

/*
 * To wait within recv() saves a call where something comes soon. Its time-out is the socket's and
 * not exact, and somebody's event loop may have made the socket non-blocking: what is left of the
 * time is for poll().
 */
ptrdiff_t usbip_socket_receive(int fd, const struct usbip_input_piece *pieces, size_t count,
                               uint64_t until_ms, char *reason)
{
    uint64_t now_ms = until_ms > 0 ? usbip_now_ms() : 0;
    if (until_ms > now_ms) {
        if (until_ms - now_ms >= MIN_WAIT_MS) {
            ssize_t received = receive(fd, pieces, count, 0);
            if (!has_nothing(received))
                return result_of(received, reason);
        }
        usbip_socket_wait(fd, USBIP_EVENT_READ, until_ms);
    }
    return result_of(receive(fd, pieces, count, MSG_DONTWAIT), reason);
}

ptrdiff_t usbip_socket_send(int fd, const struct usbip_output_piece *pieces, size_t count,
                            size_t skipped, char *reason)
{
    struct iovec parts[MAX_PARTS];
    struct msghdr message = {.msg_iov = parts};
    for (size_t i = 0; i < count && message.msg_iovlen < MAX_PARTS; i++) {
        if (skipped >= pieces[i].size) {
            skipped -= pieces[i].size;
            continue;
        }
        parts[message.msg_iovlen++] = (struct iovec){
            .iov_base = (uint8_t *)pieces[i].data + skipped,
            .iov_len = pieces[i].size - skipped,
        };
        skipped = 0;
    }
    return result_of(sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT), reason);
}

void usbip_socket_wait(int fd, int events, uint64_t until_ms)
{
    struct pollfd waiting = {.fd = fd};
    if (events & USBIP_EVENT_READ)
        waiting.events |= POLLIN;
    if (events & USBIP_EVENT_WRITE)
        waiting.events |= POLLOUT;
    int timeout = -1;
    if (until_ms != UINT64_MAX) {
        uint64_t now_ms = usbip_now_ms();
        if (until_ms <= now_ms)
            return;
        timeout = until_ms - now_ms > INT_MAX ? INT_MAX : (int)(until_ms - now_ms);
    }
    poll(&waiting, 1, timeout);
}
