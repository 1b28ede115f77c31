/*
 * Our client against a server that we did not write:
 *
 *     usbipd_client PORT list               prints "BUSID VVVV:PPPP" for each exported device
 *     usbipd_client PORT refused BUSID N    the import must fail with OP status N
 *     usbipd_client PORT hold BUSID         imports, prints "holding", waits to be killed
 *     usbipd_client PORT session BUSID      changes settings and lines, echoes 64 KiB
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/port.h"

enum { TIMEOUT_MS = 60000, ECHO_SIZE = 65536, PIECE_SIZE = 4096 };

static int failed(const char *what, const char *why)
{
    fprintf(stderr, "usbipd_client: %s: %s\n", what, why);
    return 1;
}

static int list(const char *server)
{
    struct usbip_device_list devices;
    char error_text[USBIP_ERROR_TEXT_SIZE];
    int count = usbip_list_devices(server, TIMEOUT_MS, &devices, error_text);
    if (count < 0)
        return failed("list", error_text);
    for (int i = 0; i < count; i++) {
        const struct usbip_device_record *record = &devices.devices[i].record;
        printf("%s %04x:%04x\n", record->busid, record->idVendor, record->idProduct);
    }
    usbip_device_list_free(&devices);
    return 0;
}

static int error_of_status(unsigned long status)
{
    switch (status) {
    case USBIP_ST_DEV_BUSY:
        return USBIP_ERROR_BUSY;
    case USBIP_ST_NODEV:
        return USBIP_ERROR_NOT_FOUND;
    default:
        return USBIP_ERROR_REFUSED;
    }
}

static int refused(struct usbip_port *port, const char *status)
{
    int result = usbip_port_open(port, TIMEOUT_MS);
    printf("open: %s: %s\n", usbip_error_name(result), usbip_port_error_text(port));
    return result == error_of_status(strtoul(status, NULL, 10)) ? 0 : 1;
}

static int hold(struct usbip_port *port)
{
    if (usbip_port_open(port, TIMEOUT_MS) < 0)
        return failed("open", usbip_port_error_text(port));
    puts("holding");
    fflush(stdout);
    for (;;)
        pause();
}

static int change_settings(struct usbip_port *port)
{
    static const char *const codings[] = {"9600 7E2", "115200 8N1"};
    static const unsigned lines[] = {USBIP_LINE_DTR, 0, USBIP_LINE_DTR,
                                     USBIP_LINE_DTR | USBIP_LINE_RTS};
    for (unsigned i = 0; i < sizeof codings / sizeof codings[0]; i++) {
        struct usbip_line_coding coding;
        usbip_parse_line_coding(codings[i], &coding);
        if (usbip_port_set_line_coding(port, &coding, TIMEOUT_MS) < 0)
            return failed(codings[i], usbip_port_error_text(port));
    }
    for (unsigned i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (usbip_port_set_control_lines(port, lines[i], TIMEOUT_MS) < 0)
            return failed("control lines", usbip_port_error_text(port));
    }
    return 0;
}

static int echo(struct usbip_port *port)
{
    static uint8_t sent[ECHO_SIZE], received[ECHO_SIZE];
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i * 7 + (i >> 8) * 13);
    for (size_t at = 0; at < sizeof sent; at += PIECE_SIZE) {
        if (usbip_port_write_all(port, sent + at, PIECE_SIZE, TIMEOUT_MS) < 0 ||
            usbip_port_read_all(port, received + at, PIECE_SIZE, TIMEOUT_MS) < 0)
            return failed("echo", usbip_port_error_text(port));
    }
    if (memcmp(sent, received, sizeof sent) != 0)
        return failed("echo", "other bytes came back");
    printf("%d bytes came back as they were sent\n", ECHO_SIZE);
    return 0;
}

static int session(struct usbip_port *port)
{
    if (usbip_port_open(port, TIMEOUT_MS) < 0)
        return failed("open", usbip_port_error_text(port));
    int status = change_settings(port);
    if (status == 0)
        status = echo(port);
    usbip_port_close(port);
    return status;
}

int main(int argc, char **argv)
{
    char server[64];
    if (argc < 3)
        return failed("usage", "PORT list | refused BUSID STATUS | hold BUSID | session BUSID");
    snprintf(server, sizeof server, "127.0.0.1:%s", argv[1]);
    if (strcmp(argv[2], "list") == 0)
        return list(server);
    struct usbip_port *port = argc > 3 ? usbip_port_new(server, argv[3]) : NULL;
    if (!port)
        return failed("usage", "a BUSID is missing");
    int status = 2;
    if (strcmp(argv[2], "refused") == 0 && argc > 4)
        status = refused(port, argv[4]);
    else if (strcmp(argv[2], "hold") == 0)
        status = hold(port);
    else if (strcmp(argv[2], "session") == 0)
        status = session(port);
    usbip_port_free(port);
    return status;
}
