#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/throughput/chart.h"
#include "tests/throughput/pictures.h"
#include "tests/throughput/report.h"
#include "tests/throughput/serial.h"

static const char style[] =
    ":root{color-scheme:light dark;--ground:#fff;--panel:#f6f7f9;--ink:#1c2129;--soft:#57606c;"
    "--rule:#dde1e7;--bar:#4d86c9;--whole:#1c2129;--cell:37,110,190;"
    "--c0:#1f6fc4;--c1:#c4510c;--c2:#177a3a;--c3:#7b3fc9;--c4:#b8226e;--c5:#0b7285}\n"
    "@media(prefers-color-scheme:dark){:root{--ground:#14171c;--panel:#1c2027;--ink:#e6e9ee;"
    "--soft:#a2abb8;--rule:#343b46;--bar:#4f8fd6;--whole:#e6e9ee;--cell:80,150,230;"
    "--c0:#6fb1f7;--c1:#f99a4d;--c2:#5fd083;--c3:#bd9bf7;--c4:#f47fb3;--c5:#55c7d8}}\n"
    "body{margin:0 auto;max-width:1180px;padding:24px 20px 60px;background:var(--ground);"
    "color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\n"
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:20px;margin:44px 0 4px;padding-top:16px;"
    "border-top:1px solid var(--rule)}p{max-width:75ch;margin:6px 0 12px}.soft{color:var(--soft)}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:16px 0}"
    "dt{color:var(--soft)}dd{margin:0}"
    "code{font:13px/1.5 ui-monospace,'DejaVu Sans Mono',monospace;overflow-wrap:anywhere}\n"
    ".pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));"
    "gap:16px;margin:16px 0;align-items:start}"
    "figure{margin:0;padding:12px 14px;background:var(--panel);border-radius:8px;"
    "border:1px solid var(--rule)}figcaption{font-weight:600;margin-bottom:8px}"
    "figure>svg{width:100%;height:auto;display:block}\n"
    "text{font-size:11px;fill:var(--ink)}.tick{fill:var(--soft)}.axis{fill:var(--soft)}"
    ".end{text-anchor:end}.middle{text-anchor:middle}"
    ".grid{stroke:var(--rule)}.base{stroke:var(--soft)}.whole{stroke:var(--whole);stroke-width:1.5}"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}.dashed{stroke-dasharray:5 4}"
    ".spread{stroke-width:1.5;opacity:.55}.dot{fill:var(--color)}"
    ".hollow{fill:var(--panel);stroke:var(--color);stroke-width:1.5}"
    ".bar{fill:var(--bar)}.range{stroke:var(--ink);stroke-width:1.5}.value{font-weight:600}\n"
    ".legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 16px;margin:8px 0 0;padding:0;"
    "font-size:13px;color:var(--soft)}.legend svg{width:30px;height:10px;margin-right:6px}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;"
    "font-variant-numeric:tabular-nums;margin:8px 0}caption{text-align:left;font-weight:600;"
    "padding:4px 0}th,td{padding:3px 7px;text-align:right;white-space:nowrap;"
    "border-bottom:1px solid var(--rule)}th{color:var(--soft);font-weight:600}"
    "th[scope=row],.left{text-align:left}tbody th{color:var(--ink);font-weight:400}"
    "thead th{white-space:normal;vertical-align:bottom}\n"
    ".glance td{min-width:64px}.word{display:inline-block;max-width:100%}\n"
    "@media(max-width:600px){body{padding:16px 12px 40px}h2{margin-top:32px}"
    "dl{grid-template-columns:1fr}dd{margin-bottom:6px}figure{padding:10px 8px}"
    "text{font-size:14px}.glance{font-size:12px}.glance th,.glance td{padding:3px 4px}"
    ".glance td{min-width:0}}";

/* ---- Tables ---- */

static void write_cell(FILE *file, const char *text)
{
    fprintf(file, "<td>%s</td>", text);
}

static void write_row(FILE *file, const struct series *series, enum side side)
{
    static const double parts[] = {0.5, 0.9, 0.99, 0.999};
    const struct side_result *result = &series->sides[side];
    const struct statistics *rate = series_rate(series, side);
    char word[WORD_SIZE], low[WORD_SIZE], high[WORD_SIZE];
    fprintf(file, "<tr><th scope=\"row\">%s</th><td class=\"left\">%s</td>",
            format_size(series->load.size, word), side == TARGET ? "server" : "ceiling");
    write_cell(file, format_depth(&series->load, low));
    write_cell(file, format_figure(rate->median, word));
    fprintf(file, "<td>%s – %s</td>", format_figure(rate->min, low),
            format_figure(rate->max, high));
    if (test_has_size(series->load.test))
        write_cell(file, format_figure(result->urbs_per_s.median, word));
    for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++)
        write_cell(file, result->latency.count > 0
                             ? format_microseconds(
                                   (double)histogram_quantile(&result->latency, parts[i]), word)
                             : "-");
    write_cell(file, result->latency.count > 0
                         ? format_microseconds((double)result->latency.max_ns, word)
                         : "-");
    write_cell(file, format_factor(series_tail(series, side), word));
    write_cell(file, format_figure(result->client_ns.median, word));
    write_cell(file, format_figure(result->server_ns.median, word));
    write_cell(file, format_figure(result->server_rss, word));
    if (side == TARGET && series->sides[CEILING].measured) {
        write_cell(file, format_percent(series->ratio.median, word));
        write_cell(file, format_percent(series->cpu_ratio.median, word));
        write_cell(file, format_factor(series_latency_ratio(series, 0.5), word));
        write_cell(file, format_factor(series_latency_ratio(series, 0.99), word));
    } else if (side == CEILING) {
        fputs("<td colspan=\"4\"></td>", file);
    }
    fputs("</tr>\n", file);
}

static void write_table(FILE *file, const struct group *group)
{
    bool has_size = test_has_size(group->series->load.test);
    fprintf(file,
            "<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\" class=\"left\">size</th>"
            "<th scope=\"col\" class=\"left\">of</th><th scope=\"col\">depth</th>"
            "<th scope=\"col\">%s</th><th scope=\"col\">min – max</th>"
            "%s<th scope=\"col\">p50 µs</th><th scope=\"col\">p90</th>"
            "<th scope=\"col\">p99</th><th scope=\"col\">p99.9</th><th scope=\"col\">max</th>"
            "<th scope=\"col\">p99/p50</th><th scope=\"col\">CPU ns, client</th>"
            "<th scope=\"col\">server</th><th scope=\"col\">RSS, B</th>%s"
            "</tr></thead>\n<tbody>\n",
            has_size ? "B/s" : "URB/s", has_size ? "<th scope=\"col\">URB/s</th>" : "",
            group->series->sides[CEILING].measured
                ? "<th scope=\"col\">of the ceiling</th><th scope=\"col\">by CPU</th>"
                  "<th scope=\"col\">of its p50</th><th scope=\"col\">of its p99</th>"
                : "");
    for (unsigned i = 0; i < group->count; i++) {
        for (enum side side = TARGET; side < SIDE_COUNT; side++) {
            if (group->series[i].sides[side].measured)
                write_row(file, &group->series[i], side);
        }
    }
    fputs("</tbody></table></div>\n", file);
}

/* ---- All ratios at a glance ---- */

/* The depths in their order, and the stream, which has none, behind them. */
static struct values glance_columns(const struct report *report)
{
    struct group all = {report->series, report->count};
    struct values depths = depths_of(&all), columns = {.count = 0};
    for (unsigned i = 0; i < depths.count; i++) {
        if (depths.values[i] != SERIAL_STREAM)
            columns.values[columns.count++] = depths.values[i];
    }
    if (columns.count < depths.count)
        columns.values[columns.count++] = SERIAL_STREAM;
    return columns;
}

static void write_glance_row(FILE *file, const struct group *group, uint32_t size,
                             const struct values *depths)
{
    char word[WORD_SIZE];
    fputs("<tr><th scope=\"row\">", file);
    write_escaped(file, group->series->device);
    fprintf(file, "</th><th scope=\"row\">%s</th><th scope=\"row\">%s</th>",
            test_name(group->series->load.test), format_size(size, word));
    for (unsigned i = 0; i < depths->count; i++) {
        const struct series *series = find_series(group, size, depths->values[i]);
        if (series && !isnan(series->ratio.median))
            fprintf(file, "<td style=\"background:rgba(var(--cell),%.2f)\">%s</td>",
                    fmin(series->ratio.median, 1) * 0.45,
                    format_percent(series->ratio.median, word));
        else
            fputs("<td></td>", file);
    }
    fputs("</tr>\n", file);
}

static void write_glance(FILE *file, const struct report *report)
{
    struct values depths = glance_columns(report);
    if (!report->options->ceiling)
        return;
    fputs(
        "<h2>At a glance</h2>\n<p>Medians of the ratio to the ceiling: a minimal reference server "
        "that decodes, answers and writes once per wake-up, measured in turn with the server, by "
        "the same client.</p>\n<div class=\"wide\"><table class=\"glance\"><thead><tr>"
        "<th class=\"left\" scope=\"col\">device</th><th class=\"left\" scope=\"col\">test</th>"
        "<th class=\"left\" scope=\"col\">size</th>",
        file);
    for (unsigned i = 0; i < depths.count; i++) {
        if (depths.values[i] == SERIAL_STREAM)
            fputs("<th scope=\"col\">stream</th>", file);
        else
            fprintf(file, "<th scope=\"col\">depth %u</th>", depths.values[i]);
    }
    fputs("</tr></thead><tbody>\n", file);
    for (unsigned first = 0; first < report->count;) {
        struct group group = next_group(report, first);
        struct values sizes = sizes_of(&group);
        for (unsigned i = 0; i < sizes.count; i++)
            write_glance_row(file, &group, sizes.values[i], &depths);
        first += group.count;
    }
    fputs("</tbody></table></div>\n", file);
}

/* ---- The page ---- */

static const char *explanation(enum test test)
{
    static const char *const texts[TEST_COUNT] = {
        "Round trips of GET_DESCRIPTOR, one at a time.",
        "GET_DESCRIPTOR with several in flight.",
        "Bulk OUT transfers to a device that takes all.",
        "Bulk IN transfers from a device that always has more.",
        "Bulk OUT transfers whose bytes come back by bulk IN; a latency is that of a whole "
        "transfer "
        "there and back.",
        "The serial port API of the client library, end to end: writes, and reads what comes back.",
    };
    return texts[test];
}

static void write_item(FILE *file, const char *name, const char *text)
{
    fprintf(file, "<dt>%s</dt><dd>", name);
    write_escaped(file, text);
    fputs("</dd>\n", file);
}

/* Lines break between words, and not behind each hyphen. */
static void write_words(FILE *file, const char *text)
{
    fputs("<span class=\"word\">", file);
    for (; *text != '\0'; text++) {
        const char letter[] = {*text, '\0'};
        if (*text == ' ')
            fputs("</span> <span class=\"word\">", file);
        else
            write_escaped(file, letter);
    }
    fputs("</span>", file);
}

static void write_head(FILE *file, const struct report *report)
{
    const struct machine *machine = &report->machine;
    char text[512], memory[WORD_SIZE], load[WORD_SIZE] = "unknown";
    fprintf(
        file,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
        "<title>USB/IP throughput</title>\n<style>\n%s\n</style></head><body>\n"
        "<h1>USB/IP throughput</h1>\n<p class=\"soft\">Medians of %u run%s of %g s. Every byte "
        "was checked. CPU times are per URB; the ratio by CPU is that of the time that client and "
        "server need together, which other load on the machine does not change.</p>\n<dl>\n",
        style, report->options->runs, report->options->runs == 1 ? "" : "s",
        report->options->seconds);
    write_item(file, "Server", report->server);
    if (!isnan(machine->load_average))
        snprintf(load, sizeof load, "%.1f", machine->load_average);
    snprintf(text, sizeof text, "%s; %s, %d cores, %s memory, load average %s", machine->system,
             machine->cpu, machine->cores, format_bytes(machine->memory, memory), load);
    write_item(file, "Machine", text);
    write_item(file, "Cores", format_cores(report->options, text));
    if (report->options->delay_ms > 0) {
        snprintf(text, sizeof text, "a relay adds %g ms to the round trip",
                 report->options->delay_ms);
        write_item(file, "Link", text);
    }
    write_item(file, "Date", machine->date);
    fputs("<dt>Command</dt><dd><code>", file);
    write_words(file, report->command);
    fputs("</code></dd>\n</dl>\n", file);
}

static void write_group(FILE *file, const struct group *group)
{
    fprintf(file, "<h2>%s, device ", test_name(group->series->load.test));
    write_escaped(file, group->series->device);
    fprintf(file, "</h2>\n<p class=\"soft\">%s</p>\n<div class=\"pictures\">\n",
            explanation(group->series->load.test));
    write_pictures(file, group);
    fputs("</div>\n", file);
    write_table(file, group);
}

static void write_client_row(FILE *file, const struct report *report, const struct series *series)
{
    char size[WORD_SIZE], depth[WORD_SIZE], rate[WORD_SIZE], cpu[WORD_SIZE];
    fputs("<tr><th scope=\"row\">", file);
    write_escaped(file, series->device);
    fprintf(file, "</th><td>%s</td><td>%s</td>", format_size(series->load.size, size),
            format_depth(&series->load, depth));
    for (unsigned i = 0; i < report->options->depth_count; i++) {
        const struct client_ratio *ratio =
            series_find_client_ratio(series, report->options->depths[i]);
        fprintf(file, "<td>%s</td><td class=\"soft\">%s</td>",
                format_percent(ratio ? ratio->rate.median : NAN, rate),
                format_percent(ratio ? ratio->cpu.median : NAN, cpu));
    }
    fprintf(file, "<td>%s</td></tr>\n", format_percent(series_client_ratio(series), rate));
}

static void write_client_head(FILE *file, const struct report *report)
{
    fputs("<h2>The client library</h2>\n<p class=\"soft\">Its serial port against the reference "
          "server, as a ratio to the raw client of this bench against it, with so many transfers "
          "in flight; and to the fastest that is comparable, which for one write at a time is that "
          "with one in flight.</p>\n<div class=\"wide\"><table><thead><tr>"
          "<th class=\"left\" scope=\"col\">device</th><th scope=\"col\">size</th>"
          "<th scope=\"col\">serial</th>",
          file);
    for (unsigned i = 0; i < report->options->depth_count; i++)
        fprintf(file, "<th scope=\"col\">depth %u</th><th scope=\"col\">by CPU</th>",
                report->options->depths[i]);
    fputs("<th scope=\"col\">fastest</th></tr></thead><tbody>\n", file);
}

static void write_client_ratios(FILE *file, const struct report *report)
{
    bool any = false;
    for (unsigned i = 0; i < report->count; i++) {
        if (report->series[i].client_ratio_count == 0)
            continue;
        if (!any)
            write_client_head(file, report);
        any = true;
        write_client_row(file, report, &report->series[i]);
    }
    if (any)
        fputs("</tbody></table></div>\n", file);
}

static void write_in_flight(FILE *file, const struct report *report)
{
    if (report->options->delay_ms <= 0)
        return;
    fputs(
        "<h2>In flight</h2>\n<p class=\"soft\">Rate times round trip, and how much that is of what "
        "the depth allows.</p>\n<table><thead><tr><th class=\"left\" scope=\"col\">device</th>"
        "<th class=\"left\" scope=\"col\">test</th><th scope=\"col\">size</th>"
        "<th scope=\"col\">depth</th><th scope=\"col\">in flight</th>"
        "<th scope=\"col\">of the depth</th></tr></thead><tbody>\n",
        file);
    for (unsigned i = 0; i < report->count; i++) {
        const struct series *series = &report->series[i];
        char size[WORD_SIZE], depth[WORD_SIZE], amount[WORD_SIZE], part[WORD_SIZE];
        fputs("<tr><th scope=\"row\">", file);
        write_escaped(file, series->device);
        fprintf(file,
                "</th><td class=\"left\">%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td>"
                "</tr>\n",
                test_name(series->load.test), format_size(series->load.size, size),
                format_depth(&series->load, depth), format_in_flight(series, amount),
                format_percent(series_filled(series, TARGET), part));
    }
    fputs("</tbody></table>\n", file);
}

static void write_page(FILE *file, const struct report *report)
{
    write_head(file, report);
    write_glance(file, report);
    for (unsigned first = 0; first < report->count;) {
        struct group group = next_group(report, first);
        write_group(file, &group);
        first += group.count;
    }
    write_client_ratios(file, report);
    write_in_flight(file, report);
    if (report->note_count > 0)
        fputs("<h2>Notes</h2>\n<ul>\n", file);
    for (unsigned i = 0; i < report->note_count; i++) {
        fputs("<li>", file);
        write_escaped(file, report->notes[i]);
        fputs("</li>\n", file);
    }
    fputs(report->note_count > 0 ? "</ul>\n</body></html>\n" : "</body></html>\n", file);
}

bool report_html(const struct report *report, const char *path)
{
    FILE *file = fopen(path, "w");
    bool written = file != NULL;
    if (file) {
        write_page(file, report);
        written = !ferror(file);
        written &= fclose(file) == 0;
    }
    if (!written)
        fprintf(stderr, "usbip-throughput: cannot write %s: %s\n", path, strerror(errno));
    return written;
}
