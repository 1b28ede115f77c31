#include "emulator/log.h"

#include <stdarg.h>
#include <stdio.h>

/* Some of what is logged comes from peers and scripts: it must not start lines of its own or talk
 * to a terminal. */
static void blank_control_characters(char *line)
{
    for (; *line; line++) {
        if ((unsigned char)*line < ' ' || *line == '\x7f')
            *line = '?';
    }
}

void usbip_log(const struct usbip_log *log, enum usbip_log_level level, const char *format, ...)
{
    if (!log->write || level > log->level)
        return;
    char line[USBIP_LOG_LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    blank_control_characters(line);
    log->write(log->context, level, line);
}
