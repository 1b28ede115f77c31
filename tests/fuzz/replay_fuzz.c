/*
 * Replays of any capture: the first byte chooses how, the rest is the file. A client that does what
 * the host in it did meets the device, which must be the same each time.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "emulator/replay/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void give_up(const char *what)
{
    fprintf(stderr, "replay_fuzz: %s\n", what);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64], error_text[USBIP_CAPTURE_ERROR_SIZE] = "";
    const struct usbip_log log = {0};
    struct usbip_replay_check first = {0}, second = {0};
    if (size == 0)
        return 0;
    int file = memfd_create("capture", 0);
    if (file < 0 || write(file, data + 1, size - 1) != (ssize_t)(size - 1))
        give_up("no file");
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    const struct usbip_replay_options options = {
        .path = path,
        .mode = (enum usbip_replay_mode)(data[0] & 3),
        .end = (enum usbip_replay_end)(data[0] >> 2 & 3),
        .match = (enum usbip_replay_match)((data[0] >> 4 & 3) % 3),
        .skip_errors = data[0] & 0x40,
    };
    int status = usbip_replay_check(&options, &log, &first, error_text);
    if (status < 0 && (error_text[0] == '\0' || strchr(error_text, '\n')))
        give_up("no reason, or more than a line");
    if (usbip_replay_check(&options, &log, &second, error_text) != status ||
        memcmp(&first, &second, sizeof first) != 0)
        give_up("not the same again");
    close(file);
    return 0;
}
