#include "tests/scale/raw_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "protocol/bytes.h"
#include "protocol/usb.h"

enum { TIMEOUT_MS = 20000, DEVICES_OF_A_BUS = 255 };

uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int raw_connect(const char *address)
{
    const int yes = 1;
    const char *colon = strrchr(address, ':');
    struct sockaddr_in server = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(colon ? colon + 1 : "")),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        (connect(fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)) {
        fprintf(stderr, "cannot connect to %s: %s\n", address, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

static bool wait_for(int fd, short events)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    if (poll(&poll_fd, 1, TIMEOUT_MS) > 0)
        return true;
    fputs("the server does not answer\n", stderr);
    return false;
}

bool raw_send(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t sent = send(fd, (const char *)data + done, size - done, MSG_NOSIGNAL);
        if (sent > 0) {
            done += (size_t)sent;
        } else if (errno != EAGAIN) {
            fprintf(stderr, "cannot send: %s\n", strerror(errno));
            return false;
        } else if (!wait_for(fd, POLLOUT)) {
            return false;
        }
    }
    return true;
}

bool raw_receive(int fd, void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = recv(fd, (char *)data + done, size - done, 0);
        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0 || errno != EAGAIN) {
            fprintf(stderr, "the connection ended: %s\n", got == 0 ? "closed" : strerror(errno));
            return false;
        } else if (!wait_for(fd, POLLIN)) {
            return false;
        }
    }
    return true;
}

static unsigned busnum_of(unsigned device)
{
    return 1 + (device - 1) / DEVICES_OF_A_BUS;
}

static unsigned devnum_of(unsigned device)
{
    return 1 + (device - 1) % DEVICES_OF_A_BUS;
}

void raw_import_request(uint8_t at[USBIP_IMPORT_REQUEST_SIZE], unsigned device)
{
    char busid[USBIP_BUSID_SIZE];
    snprintf(busid, sizeof busid, "%u-%u", busnum_of(device), devnum_of(device));
    usbip_encode_import_request(at, busid);
}

size_t raw_submit(uint8_t *at, unsigned device, uint32_t seqnum, uint32_t ep,
                  enum usbip_direction direction, uint32_t length, const uint8_t *setup)
{
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = seqnum,
        .devid = busnum_of(device) << 16 | devnum_of(device),
        .direction = direction,
        .ep = ep,
        .cmd_submit.transfer_buffer_length = length,
    };
    if (setup)
        memcpy(header.cmd_submit.setup, setup, USBIP_SETUP_SIZE);
    usbip_encode_header(at, &header);
    return USBIP_HEADER_SIZE;
}

size_t raw_set_configuration(uint8_t *at, unsigned device, uint32_t seqnum)
{
    static const uint8_t setup[USBIP_SETUP_SIZE] = {0, USB_REQ_SET_CONFIGURATION, 1};
    return raw_submit(at, device, seqnum, 0, USBIP_DIR_OUT, 0, setup);
}

/* The socket, -1 after an error, or -2 when the device is refused. */
static int try_to_import(const char *address, unsigned device)
{
    uint8_t request[USBIP_IMPORT_REQUEST_SIZE], reply[USBIP_IMPORT_REPLY_SIZE];
    int fd = raw_connect(address);
    if (fd < 0)
        return -1;
    raw_import_request(request, device);
    bool well = wait_for(fd, POLLOUT) && raw_send(fd, request, sizeof request) &&
                raw_receive(fd, reply, USBIP_OP_COMMON_SIZE);
    bool refused = well && usbip_load_be32(reply + 4) != 0;
    if (well && !refused)
        well = raw_receive(fd, reply + USBIP_OP_COMMON_SIZE, sizeof reply - USBIP_OP_COMMON_SIZE);
    if (well && !refused)
        return fd;
    close(fd);
    return refused ? -2 : -1;
}

int raw_attach(const char *address, unsigned device)
{
    uint8_t header[USBIP_HEADER_SIZE];
    uint64_t until_us = now_us() + TIMEOUT_MS * UINT64_C(1000);
    int fd = try_to_import(address, device);
    for (; fd == -2 && now_us() < until_us; fd = try_to_import(address, device))
        poll(NULL, 0, 1);
    if (fd < 0) {
        fprintf(stderr, "device %u cannot be imported\n", device);
        return -1;
    }
    raw_set_configuration(header, device, 1);
    if (raw_send(fd, header, sizeof header) && raw_receive(fd, header, sizeof header) &&
        usbip_load_be32(header + 20) == 0)
        return fd;
    fprintf(stderr, "device %u cannot be configured\n", device);
    close(fd);
    return -1;
}
