#include "emulator/log.h"

#include <stdarg.h>
#include <stdio.h>

void usbip_blank_control_characters(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == '\x7f')
            *text = '?';
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
    usbip_blank_control_characters(line);
    log->write(log->context, level, line);
}
