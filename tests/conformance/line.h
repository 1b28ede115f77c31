/*
 * The far end of a serial line: a socket or a terminal device of this machine. A thread reads all
 * that comes, so that the device never has to wait for us, and writes what is to be sent.
 */
#ifndef TESTS_CONFORMANCE_LINE_H
#define TESTS_CONFORMANCE_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LINE_MAX_RECEIVED = 64 << 20, /* bytes that nobody has asked for; then no more are read */
    LINE_MAX_ECHO = 1 << 20,      /* bytes that wait to be sent back; then no more are read */
};

struct line;

/* Connects to a Unix stream socket. NULL when that fails; the reason is in errno. */
struct line *line_open_unix(const char *path);
/* Opens a terminal device: raw, 115200 8N1. */
struct line *line_open_tty(const char *path);
/* Takes over an open descriptor, also when it fails. */
struct line *line_open(int fd);
void line_close(struct line *line);

/* Sends bytes, in the background. What they are is copied. Memory is the only limit. */
void line_send(struct line *line, const void *data, size_t size);
/* From now on what comes is sent back instead of being kept; or not any more. */
void line_set_echo(struct line *line, bool echo);
/* Forgets what has come, and what is still to be sent. */
void line_clear(struct line *line);

/*
 * Waits until these bytes have come, at most so long. Returns true and, in *before, the bytes that
 * came before them, of which *size says how many and which belong to the caller (free()); these and
 * the pattern are taken. Otherwise false: all is left as it is.
 */
bool line_await(struct line *line, const void *pattern, size_t pattern_size, int timeout_ms,
                uint8_t **before, size_t *size);

#endif
