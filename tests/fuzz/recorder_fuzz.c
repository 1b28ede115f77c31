/*
 * Two connections of one recorder that carry whatever the input says. The recorder must neither
 * crash nor hang; the file goes to /dev/null.
 *
 * The input is a sequence of pieces, each behind a byte that says what becomes of it:
 *   bit 7     it is of the second connection
 *   bit 6     it goes to the client
 *   bits 5-0  its size; 63: as many bytes as the next byte says, times 16
 * With a size of 0, an import that succeeds passes instead (bit 6 clear), or the connection ends
 * and begins anew (bit 6 set).
 */
#include <stdlib.h>
#include <string.h>

#include "capture/recorder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SECOND = 0x80,
    TO_CLIENT = 0x40,
    SIZE_MASK = 0x3f,
};

static void report(void *context, const char *line)
{
    (void)context;
    if (strlen(line) >= USBIP_RECORDER_ERROR_SIZE || strchr(line, '\n'))
        abort();
}

static uint64_t now_us(void *context)
{
    (void)context;
    return 0;
}

static void pass_import(const struct usbip_tap *tap, void *connection, uint32_t devnum)
{
    const struct usbip_device_record record = {
        .busid = "1-1", .busnum = 1, .devnum = devnum, .speed = USBIP_SPEED_HIGH};
    uint8_t reply[USBIP_IMPORT_REPLY_SIZE];
    usbip_encode_op_common(reply, &(struct usbip_op_common){USBIP_VERSION, OP_REP_IMPORT, 0});
    usbip_encode_device_record(reply + USBIP_OP_COMMON_SIZE, &record);
    tap->passed(connection, USBIP_TO_CLIENT, reply, sizeof reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct usbip_recorder_options options = {
        .path = "/dev/null", .now_us = now_us, .report = report};
    char error_text[USBIP_RECORDER_ERROR_SIZE];
    struct usbip_recorder *recorder = usbip_recorder_new(&options, error_text);
    if (!recorder)
        abort();
    const struct usbip_tap *tap = usbip_recorder_tap(recorder);
    void *connections[] = {tap->opened(tap->context), tap->opened(tap->context)};
    while (size > 0) {
        uint8_t head = *data++;
        size--;
        void **connection = &connections[head & SECOND ? 1 : 0];
        size_t piece = head & SIZE_MASK;
        if (piece == 0 && head & TO_CLIENT) {
            tap->closed(*connection);
            *connection = tap->opened(tap->context);
        } else if (piece == 0) {
            pass_import(tap, *connection, head & SECOND ? 2 : 1);
        }
        if (piece == SIZE_MASK && size > 0) {
            piece = *data++ * 16u;
            size--;
        }
        if (piece > size)
            piece = size;
        /* Of its own size, where a sanitizer sees any step over its end. */
        uint8_t *copy = malloc(piece > 0 ? piece : 1);
        if (!copy)
            abort();
        memcpy(copy, data, piece);
        if (piece > 0)
            tap->passed(*connection, head & TO_CLIENT ? USBIP_TO_CLIENT : USBIP_TO_SERVER, copy,
                        piece);
        free(copy);
        data += piece;
        size -= piece;
    }
    tap->closed(connections[0]);
    tap->closed(connections[1]);
    usbip_recorder_free(recorder);
    return 0;
}
