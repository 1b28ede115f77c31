#include "emulator/log.h"

#include <stdarg.h>
#include <stdio.h>

void usbip_log(const struct usbip_log *log, enum usbip_log_level level, const char *format, ...)
{
    if (!log->write || level > log->level)
        return;
    char line[USBIP_LOG_LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    log->write(log->context, level, line);
}
