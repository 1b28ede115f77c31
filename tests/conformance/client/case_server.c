#include "tests/conformance/client/case_server.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "protocol/usb.h"

enum { BACKLOG = 16 };

uint64_t case_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- The far end ---- */

static void far_end_start(void *context, struct usbip_device *device)
{
    struct far_end *far_end = context;
    far_end->device = device;
}

static bool far_end_opened(void *context, unsigned port)
{
    (void)port;
    struct far_end *far_end = context;
    far_end->open = true;
    far_end->opened++;
    return true;
}

static void far_end_closed(void *context, unsigned port)
{
    (void)port;
    struct far_end *far_end = context;
    far_end->open = false;
}

static bool far_end_line_coding(void *context, unsigned port,
                                const struct usbip_line_coding *coding)
{
    (void)port;
    struct far_end *far_end = context;
    (void)coding;
    far_end->line_codings++;
    return true;
}

static bool far_end_data(void *context, unsigned port, const uint8_t *data, size_t size)
{
    struct far_end *far_end = context;
    if (usbip_buffer_append(&far_end->received, data, size) < 0)
        abort();
    return !far_end->echoes || usbip_device_write(far_end->device, port, data, size) == size;
}

static const struct usbip_behaviour_ops far_end_ops = {
    .start = far_end_start,
    .open = far_end_opened,
    .close = far_end_closed,
    .line_coding = far_end_line_coding,
    .data = far_end_data,
};

static void find_endpoints(struct case_server *server, const struct usbip_configuration *found)
{
    server->comm_interface = -1;
    server->interrupt_in = 0;
    for (unsigned i = 0; i < found->altsetting_count; i++) {
        if (found->altsettings[i].descriptor.bInterfaceClass == USB_CLASS_COMM)
            server->comm_interface = found->altsettings[i].descriptor.bInterfaceNumber;
    }
    for (unsigned i = 0; i < found->endpoint_count; i++) {
        const struct usbip_endpoint_descriptor *endpoint = &found->endpoints[i];
        bool in = endpoint->bEndpointAddress & USB_DIR_IN;
        if ((endpoint->bmAttributes & USB_ENDPOINT_XFERTYPE_MASK) == USB_ENDPOINT_XFER_INT) {
            server->interrupt_in = endpoint->bEndpointAddress;
        } else if (in) {
            server->bulk_in = endpoint->bEndpointAddress;
            server->bulk_in_packet = endpoint->wMaxPacketSize & USB_ENDPOINT_MAXP_MASK;
        } else {
            server->bulk_out = endpoint->bEndpointAddress;
        }
    }
}

void case_server_plug(struct case_server *server, const struct device_choice *choice)
{
    const struct usbip_device_options options = {
        .descriptor = {.bcdUSB = 0x0200,
                       .bMaxPacketSize0 = 64,
                       .idVendor = choice->idVendor,
                       .idProduct = choice->idProduct,
                       .bcdDevice = 0x0600,
                       .iManufacturer = 1,
                       .iProduct = 2,
                       .iSerialNumber = 3,
                       .bNumConfigurations = 1},
        .speed = choice->speed,
        .strings = {NULL, "usbip-testbench", "Conformance", choice->serial_number},
    };
    const struct usbip_behaviour behaviour = {&far_end_ops, &server->far_end};
    char why[256];
    case_server_drop_links(server);
    usbip_bus_free(&server->bus);
    usbip_buffer_free(&server->far_end.received);
    server->far_end = (struct far_end){.echoes = true};
    struct usbip_device *device =
        usbip_device_new(&options, usbip_find_function(choice->function), &behaviour,
                         &server->scheduler, &server->bus.log, why);
    if (!device || usbip_bus_add(&server->bus, device) < 0) {
        fprintf(stderr, "usbip-conformance: no device for the case: %s\n",
                device ? "out of memory" : why);
        abort();
    }
    find_endpoints(server, usbip_device_configuration(device));
}

/* ---- Listening ---- */

bool case_server_listen(struct case_server *server, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *address;
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    char number[16];
    const int one = 1, room = CASE_SERVER_RECEIVE_BUFFER;
    if (getaddrinfo(host, port, &hints, &address) != 0) {
        errno = EADDRNOTAVAIL;
        return false;
    }
    server->listener = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(server->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(server->listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    bool well = server->listener >= 0 &&
                bind(server->listener, address->ai_addr, address->ai_addrlen) == 0 &&
                listen(server->listener, BACKLOG) == 0 &&
                getsockname(server->listener, (struct sockaddr *)&bound, &size) == 0 &&
                getnameinfo((struct sockaddr *)&bound, size, NULL, 0, number, sizeof number,
                            NI_NUMERICSERV) == 0;
    int error = errno;
    freeaddrinfo(address);
    if (well)
        snprintf(server->address, sizeof server->address,
                 strchr(host, ':') ? "[%.255s]:%s" : "%.255s:%s", host, number);
    else
        case_server_stop_listening(server);
    errno = error;
    return well;
}

void case_server_stop_listening(struct case_server *server)
{
    if (server->listener >= 0)
        close(server->listener);
    server->listener = -1;
}

static void accept_link(struct case_server *server)
{
    int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (server->link_count == CASE_SERVER_MAX_LINKS) {
        close(fd);
        return;
    }
    const char tag = (char)('A' + server->link_count % 26);
    server->links[server->link_count++] = link_new(server->trial, fd, tag);
}

void case_server_drop_links(struct case_server *server)
{
    for (unsigned i = 0; i < server->link_count; i++)
        link_free(server->links[i]);
    server->link_count = server->links_seen = 0;
}

void case_server_free(struct case_server *server)
{
    case_server_stop_listening(server);
    case_server_drop_links(server);
    usbip_bus_free(&server->bus);
    usbip_scheduler_free(&server->scheduler);
    usbip_buffer_free(&server->far_end.received);
}

/* ---- Waiting ---- */

size_t case_server_wants(struct case_server *server, struct pollfd *fds)
{
    size_t count = 0;
    if (server->listener >= 0)
        fds[count++] = (struct pollfd){.fd = server->listener, .events = POLLIN};
    for (unsigned i = 0; i < server->link_count; i++) {
        const struct link *link = server->links[i];
        if (link->fd >= 0)
            fds[count++] = (struct pollfd){.fd = link->fd, .events = link_wanted_events(link)};
    }
    return count;
}

uint64_t case_server_due_us(const struct case_server *server)
{
    uint64_t due_us = usbip_scheduler_due_us(&server->scheduler);
    for (unsigned i = 0; i < server->link_count; i++) {
        const struct link *link = server->links[i];
        if (link_has_output(link) && link->next_us < due_us)
            due_us = link->next_us;
    }
    return due_us;
}

/* Every socket is non-blocking, so which of them are ready need not be looked up. */
void case_server_act(struct case_server *server)
{
    usbip_scheduler_advance(&server->scheduler, case_now_us());
    if (server->listener >= 0)
        accept_link(server);
    for (unsigned i = 0; i < server->link_count; i++)
        link_act(server->links[i]);
}
