/* Where the emulator's parts report what happens. */
#ifndef EMULATOR_LOG_H
#define EMULATOR_LOG_H

enum usbip_log_level {
    USBIP_LOG_ERROR,   /* something is wrong: a script failed, a peer broke the protocol */
    USBIP_LOG_INFO,    /* a client came or went */
    USBIP_LOG_VERBOSE, /* what a device was told: line coding, control lines, requests */
};

enum { USBIP_LOG_LINE_SIZE = 512 };

/* `write` may be NULL: nothing is logged. A line has no newline; it is valid during the call. */
struct usbip_log {
    void (*write)(void *context, enum usbip_log_level level, const char *line);
    void *context;
    enum usbip_log_level level; /* lines above it are not made */
};

/*
 * Replaces each by '?'. For text of peers and scripts, which must not start lines of its own or
 * talk to a terminal.
 */
void usbip_blank_control_characters(char *text);

/* Formats and writes one line of at most USBIP_LOG_LINE_SIZE - 1 bytes; longer ones are cut. Its
 * control characters are blanked. */
__attribute__((format(printf, 3, 4))) void
usbip_log(const struct usbip_log *log, enum usbip_log_level level, const char *format, ...);

#endif
