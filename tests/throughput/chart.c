#include "tests/throughput/chart.h"

#include <math.h>
#include <string.h>

/* Of a chart of lines, in pixels. */
enum {
    WIDTH = 440,
    HEIGHT = 280,
    LEFT = 74,
    RIGHT = 14,
    TOP = 12,
    BOTTOM = 50,
    PLOT_WIDTH = WIDTH - LEFT - RIGHT,
    PLOT_HEIGHT = HEIGHT - TOP - BOTTOM,
    LETTER_WIDTH = 8, /* on a small screen, where letters are larger in relation */
    MIN_GAP = 5,      /* between two labels */
};

/* Of bars. */
enum {
    BARS_LEFT = 128,
    BARS_RIGHT = 62,
    BARS_WIDTH = WIDTH - BARS_LEFT - BARS_RIGHT,
    ROW_HEIGHT = 22,
    BAR_HEIGHT = 12,
    BARS_TOP = 22,
};

static const double bars_max_part = 2.0; /* longer bars are cut, and their label tells */

void write_escaped(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '&':
            fputs("&amp;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        default:
            fputc(*text, file);
        }
    }
}

static void begin_figure(FILE *file, const char *title, int height)
{
    fputs("<figure>\n<figcaption>", file);
    write_escaped(file, title);
    fprintf(file, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH,
            height);
    write_escaped(file, title);
    fputs("\">\n", file);
}

/* ---- Scales ---- */

struct scale {
    double x_min, x_max;
    double y_min, y_max; /* decimal logarithms */
};

static double x_of(const struct scale *scale, double x)
{
    double range = scale->x_max - scale->x_min;
    return LEFT + (range > 0 ? (x - scale->x_min) / range : 0.5) * PLOT_WIDTH;
}

static double y_of(const struct scale *scale, double y)
{
    return TOP + (scale->y_max - log10(y)) / (scale->y_max - scale->y_min) * PLOT_HEIGHT;
}

/* The largest of 1, 2 and 5 times a power of ten that is not above the value; `above`: the smallest
 * that is not below. */
static double round_to_tick(double value, bool above)
{
    static const double steps[] = {1, 2, 5, 10};
    double power = pow(10, floor(log10(value) + 1e-9)), result = power;
    for (unsigned i = 0; i < 4; i++) {
        double tick = steps[i] * power;
        if (above && tick >= value * (1 - 1e-9))
            return tick;
        if (!above && tick <= value * (1 + 1e-9))
            result = tick;
    }
    return result;
}

static struct scale find_scale(const struct chart *chart)
{
    struct scale scale = {INFINITY, -INFINITY, 0, 0};
    double low = INFINITY, high = 0;
    for (unsigned i = 0; i < chart->line_count; i++) {
        for (unsigned j = 0; j < chart->lines[i].count; j++) {
            const struct chart_point *point = &chart->lines[i].points[j];
            scale.x_min = fmin(scale.x_min, point->x);
            scale.x_max = fmax(scale.x_max, point->x);
            low = fmin(low, fmin(point->y, point->low)); /* which pass over NAN */
            high = fmax(high, fmax(point->y, point->high));
        }
    }
    for (unsigned i = 0; i < chart->tick_count; i++) {
        scale.x_min = fmin(scale.x_min, chart->ticks[i].x);
        scale.x_max = fmax(scale.x_max, chart->ticks[i].x);
    }
    low = round_to_tick(low, false);
    high = round_to_tick(high, true);
    if (high <= low)
        high = round_to_tick(low * 1.5, true);
    scale.y_min = log10(low);
    scale.y_max = log10(high);
    return scale;
}

/* ---- Lines ---- */

static void write_y_tick(FILE *file, const struct scale *scale, double value)
{
    static const char *const prefixes[] = {"", "k", "M", "G"};
    double y = y_of(scale, value), shown = value;
    unsigned prefix = 0;
    for (; shown >= 999.5 && prefix < 3; prefix++)
        shown /= 1000;
    fprintf(file,
            "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
            "<text class=\"tick end\" x=\"%d\" y=\"%.1f\">%g %s</text>\n",
            LEFT, WIDTH - RIGHT, y, y, LEFT - 8, y + 4, shown, prefixes[prefix]);
}

static void write_y_axis(FILE *file, const struct chart *chart, const struct scale *scale)
{
    static const double rough[] = {1, 2, 5}, fine[] = {1, 1.5, 2, 3, 4, 5, 6, 8};
    double decades = scale->y_max - scale->y_min;
    const double *steps = decades > 0.8 ? rough : fine;
    unsigned count = decades > 3.2 ? 1 : decades > 0.8 ? 3 : 8;
    for (double power = floor(scale->y_min); power <= ceil(scale->y_max); power++) {
        for (unsigned i = 0; i < count; i++) {
            double value = steps[i] * pow(10, power);
            if (log10(value) > scale->y_min - 1e-6 && log10(value) < scale->y_max + 1e-6)
                write_y_tick(file, scale, value);
        }
    }
    fprintf(file, "<text class=\"axis middle\" transform=\"translate(12 %d) rotate(-90)\">",
            TOP + PLOT_HEIGHT / 2);
    write_escaped(file, chart->y_label);
    fputs("</text>\n", file);
}

static void write_x_axis(FILE *file, const struct chart *chart, const struct scale *scale)
{
    double end = -INFINITY; /* of the label before */
    fprintf(file, "<line class=\"base\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", LEFT,
            WIDTH - RIGHT, TOP + PLOT_HEIGHT, TOP + PLOT_HEIGHT);
    for (unsigned i = 0; i < chart->tick_count; i++) {
        double x = x_of(scale, chart->ticks[i].x);
        double width = LETTER_WIDTH * (double)strlen(chart->ticks[i].label);
        fprintf(file, "<line class=\"base\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", x, x,
                TOP + PLOT_HEIGHT, TOP + PLOT_HEIGHT + 4);
        /* One that would reach over the end of the picture ends there. */
        bool at_end = x + width / 2 > WIDTH;
        double begin = at_end ? WIDTH - width : x - width / 2;
        if (begin < end + MIN_GAP)
            continue;
        end = begin + width;
        fprintf(file, "<text class=\"tick %s\" x=\"%.1f\" y=\"%d\">", at_end ? "end" : "middle",
                at_end ? WIDTH : x, TOP + PLOT_HEIGHT + 18);
        write_escaped(file, chart->ticks[i].label);
        fputs("</text>\n", file);
    }
    fprintf(file, "<text class=\"axis middle\" x=\"%d\" y=\"%d\">", LEFT + PLOT_WIDTH / 2,
            HEIGHT - 8);
    write_escaped(file, chart->x_label);
    fputs("</text>\n", file);
}

static void write_line(FILE *file, const struct chart_line *line, const struct scale *scale)
{
    unsigned color = line->color % CHART_COLORS;
    fprintf(file, "<polyline class=\"line%s\" style=\"stroke:var(--c%u)\" points=\"",
            line->dashed ? " dashed" : "", color);
    for (unsigned i = 0; i < line->count; i++)
        fprintf(file, "%.1f,%.1f ", x_of(scale, line->points[i].x), y_of(scale, line->points[i].y));
    fputs("\"/>\n", file);
    for (unsigned i = 0; i < line->count && line->marked; i++) {
        const struct chart_point *point = &line->points[i];
        double x = x_of(scale, point->x);
        if (!isnan(point->low))
            fprintf(file,
                    "<line class=\"spread\" style=\"stroke:var(--c%u)\" x1=\"%.1f\" x2=\"%.1f\" "
                    "y1=\"%.1f\" y2=\"%.1f\"/>\n",
                    color, x, x, y_of(scale, point->low), y_of(scale, point->high));
        fprintf(file,
                "<circle class=\"%s\" style=\"--color:var(--c%u)\" cx=\"%.1f\" cy=\"%.1f\" "
                "r=\"3.5\"/>\n",
                line->dashed ? "hollow" : "dot", color, x, y_of(scale, point->y));
    }
}

static void write_legend(FILE *file, const struct chart *chart)
{
    fputs("<ul class=\"legend\">\n", file);
    for (unsigned i = 0; i < chart->line_count; i++) {
        const struct chart_line *line = &chart->lines[i];
        fprintf(file,
                "<li><svg viewBox=\"0 0 30 10\" aria-hidden=\"true\"><line class=\"line%s\" "
                "style=\"stroke:var(--c%u)\" x1=\"1\" x2=\"29\" y1=\"5\" y2=\"5\"/></svg>",
                line->dashed ? " dashed" : "", line->color % CHART_COLORS);
        write_escaped(file, line->label);
        fputs("</li>\n", file);
    }
    fputs("</ul>\n", file);
}

void chart_write(FILE *file, const struct chart *chart)
{
    struct scale scale = find_scale(chart);
    begin_figure(file, chart->title, HEIGHT);
    write_y_axis(file, chart, &scale);
    write_x_axis(file, chart, &scale);
    for (unsigned i = 0; i < chart->line_count; i++)
        write_line(file, &chart->lines[i], &scale);
    fputs("</svg>\n", file);
    write_legend(file, chart);
    fputs("</figure>\n", file);
}

/* ---- Bars ---- */

static double bar_end(double part, double max)
{
    return BARS_LEFT + fmin(part, max) / max * BARS_WIDTH;
}

static void write_bar(FILE *file, const struct chart_bar *bar, unsigned row, double max)
{
    double y = BARS_TOP + row * ROW_HEIGHT, end = bar_end(bar->part, max);
    double middle = y + ROW_HEIGHT / 2.0;
    fprintf(file, "<text class=\"tick end\" x=\"%d\" y=\"%.1f\">", BARS_LEFT - 8, middle + 4);
    write_escaped(file, bar->label);
    fprintf(file,
            "</text><rect class=\"bar\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" "
            "rx=\"2\"/><line class=\"range\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
            "<text class=\"value\" x=\"%d\" y=\"%.1f\">%.*f %%</text>\n",
            BARS_LEFT, middle - BAR_HEIGHT / 2.0, end - BARS_LEFT, BAR_HEIGHT,
            bar_end(bar->low, max), bar_end(bar->high, max), middle, middle,
            WIDTH - BARS_RIGHT + 10, middle + 4, bar->part < 0.0995 ? 1 : 0, bar->part * 100);
}

void chart_write_bars(FILE *file, const char *title, const struct chart_bar *bars, unsigned count)
{
    double max = 1.1;
    int height = BARS_TOP + (int)count * ROW_HEIGHT + 6;
    for (unsigned i = 0; i < count; i++)
        max = fmin(fmax(max, bars[i].high), bars_max_part);
    begin_figure(file, title, height);
    for (double part = 0; part <= max; part += max > 1.4 ? 0.5 : 0.25) {
        double x = bar_end(part, max);
        fprintf(file,
                "<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>"
                "<text class=\"tick middle\" x=\"%.1f\" y=\"14\">%.0f %%</text>\n",
                part == 1 ? "whole" : "grid", x, x, BARS_TOP, height - 6, x, part * 100);
    }
    for (unsigned i = 0; i < count; i++)
        write_bar(file, &bars[i], i, max);
    fputs("</svg>\n</figure>\n", file);
}
