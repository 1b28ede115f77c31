#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "tests/throughput/report.h"
#include "tests/throughput/serial.h"

/* ---- Figures as words ---- */

const char *format_figure(double value, char word[WORD_SIZE])
{
    static const char *const prefixes[] = {"", " k", " M", " G", " T"};
    unsigned prefix = 0;
    if (isnan(value)) {
        snprintf(word, WORD_SIZE, "-");
        return word;
    }
    while (value >= 999.5 && prefix < 4) {
        value /= 1000;
        prefix++;
    }
    snprintf(word, WORD_SIZE, "%.*f%s",
             value < 9.995   ? 2
             : value < 99.95 ? 1
                             : 0,
             value, prefixes[prefix]);
    return word;
}

const char *format_bytes(double bytes, char word[WORD_SIZE])
{
    format_figure(bytes, word);
    strcat(word, strchr(word, ' ') ? "B" : " B");
    return word;
}

const char *format_in_flight(const struct series *series, char word[WORD_SIZE])
{
    double amount = series_in_flight(series, TARGET);
    if (test_has_size(series->load.test))
        return format_bytes(amount, word);
    format_figure(amount, word);
    strcat(word, " URBs");
    return word;
}

const char *format_microseconds(double time_ns, char word[WORD_SIZE])
{
    double us = time_ns / 1000;
    snprintf(word, WORD_SIZE, "%.*f", us < 99.95 ? 1 : 0, us);
    return word;
}

const char *format_size(uint32_t size, char word[WORD_SIZE])
{
    if (size >= 1 << 20 && size % (1 << 20) == 0)
        snprintf(word, WORD_SIZE, "%u MiB", size >> 20);
    else if (size >= 1 << 10 && size % (1 << 10) == 0)
        snprintf(word, WORD_SIZE, "%u KiB", size >> 10);
    else
        snprintf(word, WORD_SIZE, "%u B", size);
    return word;
}

const char *format_depth(const struct load *load, char word[WORD_SIZE])
{
    if (load->test == TEST_SERIAL && load->depth == SERIAL_STREAM)
        snprintf(word, WORD_SIZE, "stream");
    else
        snprintf(word, WORD_SIZE, "%u", load->depth);
    return word;
}

const char *format_percent(double part, char word[WORD_SIZE])
{
    if (isnan(part))
        snprintf(word, WORD_SIZE, "-");
    else
        snprintf(word, WORD_SIZE, "%.*f %%", part < 0.0995 ? 1 : 0, part * 100);
    return word;
}

const char *format_cores(const struct options *options, char text[CORES_SIZE])
{
    char server[WORD_SIZE / 2] = "any core", client[WORD_SIZE / 2] = "any core";
    bool started = options->script_count > 0; /* by us */
    if (options->server_cpu != NO_CPU)
        snprintf(server, sizeof server, "core %d", options->server_cpu);
    if (options->client_cpu != NO_CPU)
        snprintf(client, sizeof client, "core %d", options->client_cpu);
    if (started)
        snprintf(text, CORES_SIZE, "server on %s, client on %s", server, client);
    else if (options->ceiling)
        snprintf(text, CORES_SIZE, "server where it is, reference server on %s, client on %s",
                 server, client);
    else
        snprintf(text, CORES_SIZE, "server where it is, client on %s", client);
    return text;
}

/* ---- What is noted ---- */

static bool needs_quotes(const char *argument)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_./:,=@%+";
    return argument[strspn(argument, plain)] != '\0' || *argument == '\0';
}

void report_command(struct report *report, int argc, char **argv)
{
    FILE *file = fmemopen(report->command, sizeof report->command, "w");
    for (int i = 0; file && i < argc; i++) {
        bool quotes = needs_quotes(argv[i]);
        fputs(i == 0 ? "" : " ", file);
        fputs(quotes ? "'" : "", file);
        for (const char *at = argv[i]; *at != '\0'; at++) {
            if (*at == '\'')
                fputs("'\\'", file);
            fputc(*at, file);
        }
        fputs(quotes ? "'" : "", file);
    }
    if (file)
        fclose(file);
}

void report_note(struct report *report, const char *format, ...)
{
    va_list arguments;
    if (report->note_count == MAX_NOTES)
        return;
    va_start(arguments, format);
    vsnprintf(report->notes[report->note_count++], NOTE_SIZE, format, arguments);
    va_end(arguments);
}

const char *format_factor(double factor, char word[WORD_SIZE])
{
    if (isnan(factor))
        snprintf(word, WORD_SIZE, "-");
    else
        snprintf(word, WORD_SIZE, "%.*fx", factor < 9.995 ? 2 : factor < 99.95 ? 1 : 0, factor);
    return word;
}

/* ---- The table ---- */

void report_text_begin(const struct report *report)
{
    const struct machine *machine = &report->machine;
    bool ceiling = report->options->ceiling;
    char memory[WORD_SIZE], cores[CORES_SIZE];
    printf("%s\n%s; %s, %d cores, %s memory, load average %.1f; %s\n", report->server,
           machine->system, machine->cpu, machine->cores, format_bytes(machine->memory, memory),
           machine->load_average, format_cores(report->options, cores));
    printf(
        "medians of %u run%s of %g s%s; the rate is that of payload in one direction, of URBs for "
        "ping and pipeline\n\n",
        report->options->runs, report->options->runs == 1 ? "" : "s", report->options->seconds,
        report->options->delay_ms > 0 ? ", over a link with delay" : "");
    printf("%-10s %-8s %8s %6s | %23s %7s | %44s | %12s %8s%s\n", "", "", "", "", "rate", "URB",
           "latency, us", "CPU ns/URB", "server", ceiling ? " | of the ceiling" : "");
    printf("%-10s %-8s %8s %6s | %7s %15s %7s | %6s %6s %6s %6s %8s %7s | %6s %5s %8s", "device",
           "test", "size", "depth", "median", "min-max", "/s", "p50", "p90", "p99", "p99.9", "max",
           "p99/p50", "client", "serv.", "RSS");
    if (ceiling)
        printf(" | %6s %9s %6s %6s %6s", "rate", "min-max", "by CPU", "p50", "p99");
    printf("\n");
    fflush(stdout);
}

static void print_latency(const struct series *series, enum side side)
{
    const struct histogram *latency = &series->sides[side].latency;
    static const double parts[] = {0.5, 0.9, 0.99, 0.999};
    char word[WORD_SIZE];
    for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++)
        printf(" %6s", latency->count > 0 ? format_microseconds(
                                                (double)histogram_quantile(latency, parts[i]), word)
                                          : "-");
    printf(" %8s", latency->count > 0 ? format_microseconds((double)latency->max_ns, word) : "-");
    printf(" %7s", format_factor(series_tail(series, side), word));
}

/* What server and ceiling both have. */
static void print_figures(const struct series *series, enum side side)
{
    const struct side_result *result = &series->sides[side];
    const struct statistics *rate = series_rate(series, side);
    char median[WORD_SIZE], min[WORD_SIZE], max[WORD_SIZE], range[2 * WORD_SIZE], urbs[WORD_SIZE];
    char client[WORD_SIZE], server[WORD_SIZE], rss[WORD_SIZE];
    snprintf(range, sizeof range, "%s-%s", format_figure(rate->min, min),
             format_figure(rate->max, max));
    printf(" | %7s %15s %7s |", format_figure(rate->median, median), range,
           format_figure(result->urbs_per_s.median, urbs));
    print_latency(series, side);
    printf(" | %6s %5s %8s", format_figure(result->client_ns.median, client),
           format_figure(result->server_ns.median, server), format_figure(result->server_rss, rss));
}

void report_text_series(const struct report *report, const struct series *series)
{
    char size[WORD_SIZE], depth[WORD_SIZE], ratio[WORD_SIZE], range[2 * WORD_SIZE], cpu[WORD_SIZE];
    char p50[WORD_SIZE], p99[WORD_SIZE];
    printf("%-10.10s %-8s %8s %6s", series->device, test_name(series->load.test),
           format_size(series->load.size, size), format_depth(&series->load, depth));
    print_figures(series, TARGET);
    if (report->options->ceiling) {
        int decimals = series->ratio.max < 0.0995 ? 1 : 0;
        snprintf(range, sizeof range, "%.*f-%.*f", decimals, series->ratio.min * 100, decimals,
                 series->ratio.max * 100);
        printf(" | %6s %9s %6s %6s %6s\n", format_percent(series->ratio.median, ratio), range,
               format_percent(series->cpu_ratio.median, cpu),
               format_factor(series_latency_ratio(series, 0.5), p50),
               format_factor(series_latency_ratio(series, 0.99), p99));
        printf("%35s", "the ceiling");
        print_figures(series, CEILING);
        printf(" |");
    }
    printf("\n");
    fflush(stdout);
}

/* ---- After the table ---- */

static void print_client(const struct report *report, const struct series *series)
{
    char size[WORD_SIZE], depth[WORD_SIZE];
    printf("%-10.10s %8s %6s |", series->device, format_size(series->load.size, size),
           format_depth(&series->load, depth));
    for (unsigned i = 0; i < report->options->depth_count; i++) {
        const struct client_ratio *ratio =
            series_find_client_ratio(series, report->options->depths[i]);
        char rate[WORD_SIZE], cpu[WORD_SIZE], cell[3 * WORD_SIZE] = "-";
        if (ratio)
            snprintf(cell, sizeof cell, "%s (%s)", format_percent(ratio->rate.median, rate),
                     format_percent(ratio->cpu.median, cpu));
        printf(" %15s", cell);
    }
    printf("\n");
}

static void print_clients(const struct report *report)
{
    bool any = false;
    for (unsigned i = 0; i < report->count; i++) {
        if (report->series[i].client_ratio_count == 0)
            continue;
        if (!any) {
            printf("\nThe client library's serial port, in parts of the raw client with so many in "
                   "flight, both against the reference server (by CPU time):\n%-10s %8s %6s |",
                   "device", "size", "serial");
            for (unsigned j = 0; j < report->options->depth_count; j++)
                printf(" %15u", report->options->depths[j]);
            printf("\n");
        }
        any = true;
        print_client(report, &report->series[i]);
    }
    if (any)
        printf("\n");
}

static void print_in_flight(const struct report *report)
{
    for (unsigned i = 0; i < report->count; i++) {
        const struct series *series = &report->series[i];
        char size[WORD_SIZE], depth[WORD_SIZE], amount[WORD_SIZE], part[WORD_SIZE];
        if (series->delay_ms <= 0)
            continue;
        printf("%g ms round trip, %s %s %s, depth %s: rate x round trip = %s in flight",
               series->delay_ms, series->device, test_name(series->load.test),
               format_size(series->load.size, size), format_depth(&series->load, depth),
               format_in_flight(series, amount));
        if (!isnan(series_filled(series, TARGET)))
            printf(", %s of what the depth allows",
                   format_percent(series_filled(series, TARGET), part));
        printf("\n");
    }
}

void report_text_end(const struct report *report)
{
    print_clients(report);
    print_in_flight(report);
    for (unsigned i = 0; i < report->note_count; i++)
        printf("%s\n", report->notes[i]);
}
