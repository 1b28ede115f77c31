/* What a run says: while it goes on, and in files. */
#ifndef TESTS_THROUGHPUT_REPORT_H
#define TESTS_THROUGHPUT_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "tests/throughput/machine.h"
#include "tests/throughput/options.h"
#include "tests/throughput/series.h"

enum { MAX_NOTES = 64, NOTE_SIZE = 256, COMMAND_SIZE = 2048 };

struct report {
    const struct options *options;
    struct machine machine;
    char command[COMMAND_SIZE];
    char server[ADDRESS_SIZE + 32];
    struct series *series;
    unsigned count;
    char notes[MAX_NOTES][NOTE_SIZE]; /* such as what was left out, and why */
    unsigned note_count;
};

/* Notes the command as one would type it in a shell; a very long one without its end. */
void report_command(struct report *report, int argc, char **argv);
/* A sentence that belongs to the results; what does not fit is dropped. */
void report_note(struct report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The table on standard output: its head, a line for each series, what comes after the last. */
void report_text_begin(const struct report *report);
void report_text_series(const struct report *report, const struct series *series);
void report_text_end(const struct report *report);

/* Return false when the file cannot be written; that has been said then. */
bool report_json(const struct report *report, const char *path);
bool report_html(const struct report *report, const char *path);

/* ---- Figures as words ---- */

enum { WORD_SIZE = 32, CORES_SIZE = 96 };

/* "1.23 M", with the prefix that leaves one to three digits before the point. NAN: "-". */
const char *format_figure(double value, char word[WORD_SIZE]);
/* "1.23 MB" */
const char *format_bytes(double bytes, char word[WORD_SIZE]);
/* "976 kB", or "12.3 URBs" of a series over a link with delay */
const char *format_in_flight(const struct series *series, char word[WORD_SIZE]);
/* "12.3" µs of a time in ns. */
const char *format_microseconds(double time_ns, char word[WORD_SIZE]);
/* "64 B", "4 KiB" */
const char *format_size(uint32_t size, char word[WORD_SIZE]);
/* "64", or "stream" */
const char *format_depth(const struct load *load, char word[WORD_SIZE]);
/* "server on core 0, client on any core" */
const char *format_cores(const struct options *options, char text[CORES_SIZE]);
/* "80 %" of 0.8. NAN: "-". */
const char *format_percent(double part, char word[WORD_SIZE]);

/* "2.31x". NAN: "-". */
const char *format_factor(double factor, char word[WORD_SIZE]);

#endif
