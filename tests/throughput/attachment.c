#include "tests/throughput/attachment.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "protocol/address.h"
#include "protocol/cdc.h"
#include "protocol/configuration.h"

enum { MAX_CONFIGURATION = 4096, MAX_REPLY = 4096, RETRY_PAUSE_NS = 1000000 };

const char *socket_error(long received)
{
    if (received == 0)
        return "the server has closed the connection";
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return "the server owes a reply and is silent";
    return strerror(errno);
}

/* ---- Connecting ---- */

static void split_address(const char *address, char host[ADDRESS_SIZE], char port[16])
{
    const char *begin = address, *end = address + strlen(address), *colon = strrchr(address, ':');
    if (*address == '[' && strchr(address, ']')) {
        begin++;
        end = strchr(address, ']');
        colon = end[1] == ':' ? end + 1 : NULL;
    } else if (colon && strchr(address, ':') != colon) {
        colon = NULL; /* an IPv6 address as it is */
    } else if (colon) {
        end = colon;
    }
    snprintf(host, ADDRESS_SIZE, "%.*s", (int)(end - begin), begin);
    if (colon)
        snprintf(port, 16, "%.15s", colon + 1);
    else
        snprintf(port, 16, "%d", USBIP_PORT);
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return usbip_is_loopback_ip6(((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr);
    return address->sa_family == AF_INET &&
           usbip_is_loopback_ip4((const uint8_t *)&((const struct sockaddr_in *)address)->sin_addr);
}

static int open_socket(const struct addrinfo *found)
{
    const struct timeval timeout = {.tv_sec = REPLY_TIMEOUT_MS / 1000};
    const int on = 1;
    int fd = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout); /* of connect(), too */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (is_loopback(found->ai_addr)) /* where BBR's pacing would be all that is measured */
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", sizeof "reno" - 1);
    if (connect(fd, found->ai_addr, found->ai_addrlen) == 0)
        return fd;
    int why = errno == EINPROGRESS ? ETIMEDOUT : errno;
    close(fd);
    errno = why;
    return -1;
}

int connect_to(const char *address, char error_text[ERROR_TEXT_SIZE])
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char host[ADDRESS_SIZE], port[16];
    split_address(address, host, port);
    int status = getaddrinfo(host, port, &hints, &list);
    if (status != 0) {
        snprintf(error_text, ERROR_TEXT_SIZE, "%s: %s", address, gai_strerror(status));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *at = list; at && fd < 0; at = at->ai_next)
        fd = open_socket(at);
    if (fd < 0)
        snprintf(error_text, ERROR_TEXT_SIZE, "%s: %s", address, strerror(errno));
    freeaddrinfo(list);
    return fd;
}

static int send_all(int fd, const void *data, size_t size)
{
    return send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -1;
}

static int receive_all(int fd, void *data, size_t size, char error_text[ERROR_TEXT_SIZE])
{
    ssize_t received = size > 0 ? recv(fd, data, size, MSG_WAITALL) : 0;
    if (received == (ssize_t)size)
        return 0;
    snprintf(error_text, ERROR_TEXT_SIZE, "%s", socket_error(received < 0 ? -1 : 0));
    return -1;
}

/* ---- Import ---- */

/* Returns the status of the reply, or -1. */
static int64_t import(struct attachment *attachment, const char *busid,
                      char error_text[ERROR_TEXT_SIZE])
{
    uint8_t bytes[USBIP_DEVICE_RECORD_SIZE];
    struct usbip_op_common common;
    struct usbip_device_record record;
    if (usbip_encode_import_request(bytes, busid) < 0 ||
        send_all(attachment->socket, bytes, USBIP_IMPORT_REQUEST_SIZE) < 0 ||
        receive_all(attachment->socket, bytes, USBIP_OP_COMMON_SIZE, error_text) < 0)
        return -1;
    usbip_decode_op_common(bytes, &common);
    if (common.version != USBIP_VERSION || common.code != OP_REP_IMPORT) {
        snprintf(error_text, ERROR_TEXT_SIZE, "the server does not speak USB/IP 1.1.1");
        return -1;
    }
    if (common.status != USBIP_ST_OK)
        return common.status;
    if (receive_all(attachment->socket, bytes, USBIP_DEVICE_RECORD_SIZE, error_text) < 0)
        return -1;
    usbip_decode_device_record(bytes, &record);
    if (strncmp(record.busid, busid, sizeof record.busid) != 0) {
        snprintf(error_text, ERROR_TEXT_SIZE, "the server has imported %.31s instead",
                 record.busid);
        return -1;
    }
    attachment->devid = usbip_devid(&record);
    attachment->bConfigurationValue = record.bConfigurationValue;
    return USBIP_ST_OK;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A server gives a device free some time after the connection before was closed. */
static int import_when_free(struct attachment *attachment, const char *address, const char *busid,
                            char error_text[ERROR_TEXT_SIZE])
{
    const struct timespec pause = {.tv_nsec = RETRY_PAUSE_NS};
    uint64_t until = now_ms() + IMPORT_RETRY_MS;
    for (;;) {
        attachment->socket = connect_to(address, error_text);
        if (attachment->socket < 0)
            return -1;
        int64_t status = import(attachment, busid, error_text);
        if (status == USBIP_ST_OK)
            return 0;
        detach(attachment);
        if (status < 0)
            return -1;
        if (status == USBIP_ST_NODEV || status == USBIP_ST_ERROR || now_ms() >= until) {
            snprintf(error_text, ERROR_TEXT_SIZE, "import refused: %s (%s)",
                     usbip_op_status_text((uint32_t)status),
                     usbip_op_status_name((uint32_t)status));
            return -1;
        }
        nanosleep(&pause, NULL);
    }
}

/* ---- Control transfers ---- */

/* Returns the number of bytes moved, or -1. data: at most MAX_REPLY bytes of an IN request. */
static int control(struct attachment *attachment, const struct usbip_setup *setup, uint8_t *data,
                   char error_text[ERROR_TEXT_SIZE])
{
    uint8_t bytes[USBIP_HEADER_SIZE];
    bool in = usbip_setup_direction(setup) == USBIP_DIR_IN;
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = ++attachment->seqnum,
        .devid = attachment->devid,
        .direction = usbip_setup_direction(setup),
        .cmd_submit.transfer_buffer_length = setup->wLength,
    };
    usbip_encode_setup(header.cmd_submit.setup, setup);
    usbip_encode_header(bytes, &header);
    if (send_all(attachment->socket, bytes, sizeof bytes) < 0) {
        snprintf(error_text, ERROR_TEXT_SIZE, "%s", socket_error(-1));
        return -1;
    }
    if (receive_all(attachment->socket, bytes, sizeof bytes, error_text) < 0)
        return -1;
    if (usbip_decode_header(bytes, &header) < 0 || header.command != USBIP_RET_SUBMIT ||
        header.seqnum != attachment->seqnum ||
        (in && header.ret_submit.actual_length > setup->wLength)) {
        snprintf(error_text, ERROR_TEXT_SIZE, "the server's reply to a request makes no sense");
        return -1;
    }
    uint32_t size = header.ret_submit.actual_length;
    if (in && receive_all(attachment->socket, data, size, error_text) < 0)
        return -1;
    if (header.ret_submit.status != 0) {
        snprintf(error_text, ERROR_TEXT_SIZE, "request 0x%02x/0x%02x of the set-up: %s",
                 setup->bmRequestType, setup->bRequest,
                 usbip_status_name(header.ret_submit.status));
        return -1;
    }
    return (int)size;
}

/* Exactly `size` bytes of a descriptor. */
static int get_descriptor(struct attachment *attachment, uint8_t type, uint8_t *data, uint16_t size,
                          char error_text[ERROR_TEXT_SIZE])
{
    const struct usbip_setup setup = {USB_DIR_IN, USB_REQ_GET_DESCRIPTOR, (uint16_t)(type << 8), 0,
                                      size};
    int received = control(attachment, &setup, data, error_text);
    if (received >= 0 && received < size)
        snprintf(error_text, ERROR_TEXT_SIZE, "descriptor %u has %d bytes instead of %u", type,
                 received, size);
    return received == size ? 0 : -1;
}

static void look_at_endpoints(struct attachment *attachment,
                              const struct usbip_configuration *configuration)
{
    for (unsigned i = 0; i < configuration->altsetting_count; i++) {
        const struct usbip_altsetting *setting = &configuration->altsettings[i];
        const struct usbip_endpoint_descriptor *in, *out;
        if (setting->descriptor.bAlternateSetting != 0)
            continue;
        in = usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_BULK, USB_DIR_IN);
        out = usbip_find_endpoint(configuration, setting, USB_ENDPOINT_XFER_BULK, 0);
        if (in && !attachment->bulk_in) {
            attachment->bulk_in = in->bEndpointAddress & 0x0f;
            attachment->bulk_in_packet = in->wMaxPacketSize & USB_ENDPOINT_MAXP_MASK;
        }
        if (out && !attachment->bulk_out)
            attachment->bulk_out = out->bEndpointAddress & 0x0f;
    }
    if (attachment->bulk_in_packet == 0)
        attachment->bulk_in_packet = DEFAULT_BULK_PACKET;
}

static int raise_lines(struct attachment *attachment,
                       const struct usbip_configuration *configuration,
                       char error_text[ERROR_TEXT_SIZE])
{
    for (unsigned i = 0; i < configuration->altsetting_count; i++) {
        const struct usbip_interface_descriptor *d = &configuration->altsettings[i].descriptor;
        const struct usbip_setup setup = {USB_TYPE_CLASS | USB_RECIP_INTERFACE,
                                          CDC_SET_CONTROL_LINE_STATE, 3, d->bInterfaceNumber, 0};
        if (d->bInterfaceClass == USB_CLASS_COMM && d->bInterfaceSubClass == CDC_SUBCLASS_ACM)
            return control(attachment, &setup, NULL, error_text) < 0 ? -1 : 0;
    }
    return 0;
}

static int set_up(struct attachment *attachment, char error_text[ERROR_TEXT_SIZE])
{
    static struct usbip_configuration configuration;
    uint8_t bytes[MAX_REPLY];
    struct usbip_config_descriptor d;
    if (get_descriptor(attachment, USB_DT_DEVICE, attachment->device_descriptor, USB_DT_DEVICE_SIZE,
                       error_text) < 0 ||
        get_descriptor(attachment, USB_DT_CONFIG, bytes, USB_DT_CONFIG_SIZE, error_text) < 0)
        return -1;
    snprintf(error_text, ERROR_TEXT_SIZE, "the configuration descriptor is malformed");
    if (usbip_decode_config_descriptor(bytes, USB_DT_CONFIG_SIZE, &d) < 0 ||
        d.wTotalLength < USB_DT_CONFIG_SIZE || d.wTotalLength > MAX_CONFIGURATION ||
        get_descriptor(attachment, USB_DT_CONFIG, bytes, d.wTotalLength, error_text) < 0 ||
        usbip_parse_configuration(bytes, d.wTotalLength, &configuration) < 0)
        return -1;
    const struct usbip_setup set = {0, USB_REQ_SET_CONFIGURATION, d.bConfigurationValue, 0, 0};
    look_at_endpoints(attachment, &configuration);
    /* To some devices the same configuration once more is a reason to forget what they were doing.
     */
    if (attachment->bConfigurationValue != d.bConfigurationValue &&
        control(attachment, &set, NULL, error_text) < 0)
        return -1;
    return raise_lines(attachment, &configuration, error_text);
}

int attach(struct attachment *attachment, const char *address, const char *busid,
           char error_text[ERROR_TEXT_SIZE])
{
    char why[ERROR_TEXT_SIZE - 80] = "";
    char text[ERROR_TEXT_SIZE] = "";
    *attachment = (struct attachment){.socket = -1};
    if (import_when_free(attachment, address, busid, text) == 0) {
        if (set_up(attachment, text) == 0)
            return 0;
        detach(attachment);
    }
    snprintf(why, sizeof why, "%.400s", text);
    snprintf(error_text, ERROR_TEXT_SIZE, "device %.32s: %s", busid, why);
    return -1;
}

void detach(struct attachment *attachment)
{
    if (attachment->socket >= 0)
        close(attachment->socket);
    attachment->socket = -1;
}
