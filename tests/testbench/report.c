#include "tests/testbench/report.h"

#include <stdarg.h>
#include <stdio.h>

enum { WHAT_WIDTH = 52, DETAIL_SIZE = 512 };

void report_section(struct report *report, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf(report->color ? "\n\033[1m" : "\n");
    vprintf(format, arguments);
    printf(report->color ? "\033[0m\n" : "\n");
    va_end(arguments);
}

bool report_check(struct report *report, bool passed, const char *what, const char *detail, ...)
{
    const char *word = passed ? "ok    " : "FAILED";
    if (report->color)
        printf("  \033[%dm%s\033[0m  ", passed ? 32 : 31, word);
    else
        printf("  %s  ", word);
    char text[DETAIL_SIZE];
    va_list arguments;
    va_start(arguments, detail);
    vsnprintf(text, sizeof text, detail, arguments);
    va_end(arguments);
    if (text[0])
        printf("%-*s  %s\n", WHAT_WIDTH, what, text);
    else
        puts(what);
    fflush(stdout);
    if (passed)
        report->passed++;
    else
        report->failed++;
    return passed;
}

int report_end(const struct report *report)
{
    printf("\n%u checks passed, %u failed\n", report->passed, report->failed);
    return report->failed == 0 && report->passed > 0 ? 0 : 1;
}
