#include "tests/throughput/pictures.h"

#include <math.h>
#include <string.h>

#include "tests/throughput/serial.h"

enum {
    MAX_PICKED = CHART_MAX_LINES / 2
}; /* each has a line for the server and one for the ceiling */

/* ---- Groups ---- */

struct group next_group(const struct report *report, unsigned first)
{
    const struct series *series = &report->series[first];
    struct group group = {series, 1};
    while (first + group.count < report->count &&
           series[group.count].load.test == series->load.test &&
           strcmp(series[group.count].device, series->device) == 0)
        group.count++;
    return group;
}

const struct series *find_series(const struct group *group, uint32_t size, unsigned depth)
{
    for (unsigned i = 0; i < group->count; i++) {
        if (group->series[i].load.size == size && group->series[i].load.depth == depth)
            return &group->series[i];
    }
    return NULL;
}

static void add_value(struct values *values, uint32_t value)
{
    unsigned at = values->count;
    for (unsigned i = 0; i < values->count; i++) {
        if (values->values[i] == value)
            return;
    }
    if (at == CHART_MAX_TICKS)
        return;
    for (; at > 0 && values->values[at - 1] > value; at--)
        values->values[at] = values->values[at - 1];
    values->values[at] = value;
    values->count++;
}

struct values sizes_of(const struct group *group)
{
    struct values sizes = {.count = 0};
    for (unsigned i = 0; i < group->count; i++)
        add_value(&sizes, group->series[i].load.size);
    return sizes;
}

struct values depths_of(const struct group *group)
{
    struct values depths = {.count = 0};
    for (unsigned i = 0; i < group->count; i++)
        add_value(&depths, group->series[i].load.depth);
    return depths;
}

/* At most so many, spread evenly, with the first and the last. */
static struct values pick(const struct values *all, unsigned most)
{
    struct values picked = {.count = all->count < most ? all->count : most};
    for (unsigned i = 0; i < picked.count; i++)
        picked.values[i] =
            all->values[picked.count > 1 ? i * (all->count - 1) / (picked.count - 1) : 0];
    return picked;
}

static const char *depth_label(enum test test, unsigned depth, char word[WORD_SIZE])
{
    if (test == TEST_SERIAL)
        return depth == SERIAL_STREAM ? "stream" : "write, read back";
    snprintf(word, WORD_SIZE, "depth %u", depth);
    return word;
}

/* ---- Pictures ---- */

static struct chart_line *add_line(struct chart *chart, enum side side, unsigned color,
                                   const char *label)
{
    struct chart_line *line = &chart->lines[chart->line_count++];
    *line = (struct chart_line){.color = color, .dashed = side == CEILING};
    snprintf(line->label, sizeof line->label, "%s%s", label, side == CEILING ? ", ceiling" : "");
    return line;
}

static void add_rate(struct chart_line *line, const struct series *series, enum side side, double x)
{
    const struct statistics *rate = series_rate(series, side);
    line->marked = true;
    if (rate->median > 0)
        line->points[line->count++] = (struct chart_point){
            x, rate->median, rate->min > 0 ? rate->min : rate->median, rate->max};
}

/* Throughput against size, a colour for each depth; or the other way round. */
static void write_throughput(FILE *file, const struct group *group, bool by_size)
{
    struct values sizes = sizes_of(group), depths = depths_of(group);
    const struct values *across = by_size ? &sizes : &depths;
    struct values lines = pick(by_size ? &depths : &sizes, MAX_PICKED);
    enum test test = group->series->load.test;
    struct chart chart = {
        .title = by_size ? "Throughput against size" : "Throughput against depth",
        .x_label = by_size ? "bytes of a transfer" : "transfers in flight",
        .y_label = test_has_size(test) ? "bytes/s" : "URB/s",
    };
    if (across->count < 2 || (!by_size && test == TEST_SERIAL))
        return;
    for (unsigned i = 0; i < across->count; i++) {
        struct chart_tick *tick = &chart.ticks[chart.tick_count++];
        char word[WORD_SIZE];
        tick->x = log2(across->values[i]);
        if (by_size)
            snprintf(tick->label, sizeof tick->label, "%s", format_size(across->values[i], word));
        else
            snprintf(tick->label, sizeof tick->label, "%u", across->values[i]);
    }
    for (unsigned i = 0; i < lines.count; i++) {
        for (enum side side = TARGET; side < SIDE_COUNT; side++) {
            char word[WORD_SIZE];
            struct chart_line *line = add_line(&chart, side, i,
                                               by_size ? depth_label(test, lines.values[i], word)
                                                       : format_size(lines.values[i], word));
            for (unsigned j = 0; j < across->count; j++) {
                const struct series *series =
                    by_size ? find_series(group, across->values[j], lines.values[i])
                            : find_series(group, lines.values[i], across->values[j]);
                if (series && series->sides[side].measured)
                    add_rate(line, series, side, log2(across->values[j]));
            }
            if (line->count == 0)
                chart.line_count--;
        }
    }
    chart_write(file, &chart);
}

/* The axis of quantiles: each nine takes as much room as the one before. */
static void add_quantile_ticks(struct chart *chart, double last)
{
    static const struct chart_tick ticks[] = {{0.30103, "p50"}, {1, "p90"},    {2, "p99"},
                                              {3, "p99.9"},     {4, "p99.99"}, {5, "p99.999"}};
    for (unsigned i = 0; i < sizeof ticks / sizeof ticks[0] && ticks[i].x <= last; i++)
        chart->ticks[chart->tick_count++] = ticks[i];
}

static double last_quantile(const struct histogram *latency)
{
    return latency->count > 1 ? fmin(5, log10((double)latency->count)) : 0;
}

static void add_quantiles(struct chart_line *line, const struct histogram *latency)
{
    const double step = 0.1;
    double last = last_quantile(latency);
    for (unsigned i = 0; i * step < last && line->count < CHART_MAX_POINTS - 1; i++) {
        double time_ns = (double)histogram_quantile(latency, 1 - pow(10, -(i * step)));
        if (time_ns > 0)
            line->points[line->count++] = (struct chart_point){i * step, time_ns / 1000, NAN, NAN};
    }
    line->points[line->count++] =
        (struct chart_point){last, (double)latency->max_ns / 1000, NAN, NAN};
}

/* At the smallest depth, where a URB waits for no other; of pipeline at several depths. */
static void write_latency(FILE *file, const struct group *group)
{
    enum test test = group->series->load.test;
    struct values sizes = sizes_of(group), depths = depths_of(group);
    bool by_depth = sizes.count == 1;
    struct values lines = pick(by_depth ? &depths : &sizes, 3);
    unsigned depth = test == TEST_SERIAL ? 1 : depths.values[0];
    char title[CHART_LABEL_SIZE + 32], word[WORD_SIZE];
    struct chart chart = {
        .title = title, .x_label = "part of all transfers", .y_label = "microseconds"};
    double last = 0;
    snprintf(title, sizeof title, "Latency%s%s", by_depth ? "" : ", ",
             by_depth ? "" : depth_label(test, depth, word));
    for (unsigned i = 0; i < lines.count; i++) {
        const struct series *series = by_depth
                                          ? find_series(group, sizes.values[0], lines.values[i])
                                          : find_series(group, lines.values[i], depth);
        for (enum side side = TARGET; series && side < SIDE_COUNT; side++) {
            const struct histogram *latency = &series->sides[side].latency;
            if (latency->count == 0)
                continue;
            add_quantiles(add_line(&chart, side, i,
                                   by_depth ? depth_label(test, lines.values[i], word)
                                            : format_size(lines.values[i], word)),
                          latency);
            last = fmax(last, last_quantile(latency));
        }
    }
    if (chart.line_count == 0)
        return;
    add_quantile_ticks(&chart, last);
    chart_write(file, &chart);
}

static void write_ratios(FILE *file, const struct group *group)
{
    static struct chart_bar bars[CHART_MAX_BARS];
    unsigned count = 0;
    for (unsigned i = 0; i < group->count && count < CHART_MAX_BARS; i++) {
        const struct series *series = &group->series[i];
        char size[WORD_SIZE], depth[WORD_SIZE];
        if (isnan(series->ratio.median))
            continue;
        bars[count] = (struct chart_bar){
            .part = series->ratio.median,
            .low = series->ratio.min,
            .high = series->ratio.max,
        };
        if (series->load.test == TEST_SERIAL)
            snprintf(depth, sizeof depth, "%s",
                     series->load.depth == SERIAL_STREAM ? "stream" : "and back");
        else
            depth_label(series->load.test, series->load.depth, depth);
        snprintf(bars[count++].label, CHART_LABEL_SIZE, "%s, %s",
                 format_size(series->load.size, size), depth);
    }
    if (count > 0)
        chart_write_bars(file, "Ratio to the ceiling, with minimum and maximum", bars, count);
}

void write_pictures(FILE *file, const struct group *group)
{
    write_throughput(file, group, true);
    write_throughput(file, group, false);
    write_latency(file, group);
    write_ratios(file, group);
}
