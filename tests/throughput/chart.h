/* Pictures for a page: SVG that takes its colours from the page's style sheet. */
#ifndef TESTS_THROUGHPUT_CHART_H
#define TESTS_THROUGHPUT_CHART_H

#include <stdbool.h>
#include <stdio.h>

enum {
    CHART_MAX_POINTS = 64,
    CHART_MAX_LINES = 12,
    CHART_MAX_TICKS = 16,
    CHART_MAX_BARS = 256,
    CHART_COLORS = 6, /* --c0 to --c5 of the style sheet */
    CHART_LABEL_SIZE = 48,
};

/* y is drawn on a logarithmic scale and must be positive; x as it is. low and high: the spread, NAN
 * for none. */
struct chart_point {
    double x, y, low, high;
};

struct chart_line {
    char label[CHART_LABEL_SIZE];
    unsigned color;      /* modulo CHART_COLORS */
    bool dashed, marked; /* with a dot at each point */
    struct chart_point points[CHART_MAX_POINTS];
    unsigned count;
};

struct chart_tick {
    double x;
    char label[CHART_LABEL_SIZE];
};

struct chart {
    const char *title, *x_label, *y_label;
    struct chart_tick ticks[CHART_MAX_TICKS]; /* from left to right */
    unsigned tick_count;
    struct chart_line lines[CHART_MAX_LINES];
    unsigned line_count;
};

/* A bar of a part of the whole: 1 is 100 %. */
struct chart_bar {
    char label[CHART_LABEL_SIZE];
    double part, low, high;
};

/* A figure with its caption and, for lines, a legend. Labels are text, not markup. */
void chart_write(FILE *file, const struct chart *chart);
void chart_write_bars(FILE *file, const char *title, const struct chart_bar *bars, unsigned count);

/* Text as it has to be written in a page. */
void write_escaped(FILE *file, const char *text);

#endif
