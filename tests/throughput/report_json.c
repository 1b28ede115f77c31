#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "tests/throughput/report.h"

/* JSON has neither NAN nor infinity: what is unknown is null. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *summary(const struct statistics *statistics)
{
    if (!isfinite(statistics->median))
        return json_null();
    return json_pack("{s:o, s:o, s:o}", "median", number(statistics->median), "min",
                     number(statistics->min), "max", number(statistics->max));
}

static json_t *latency_of(const struct series *series, enum side side)
{
    const struct histogram *histogram = &series->sides[side].latency;
    if (histogram->count == 0)
        return json_null();
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "p50",
                     (json_int_t)histogram_quantile(histogram, 0.5), "p90",
                     (json_int_t)histogram_quantile(histogram, 0.9), "p99",
                     (json_int_t)histogram_quantile(histogram, 0.99), "p99.9",
                     (json_int_t)histogram_quantile(histogram, 0.999), "max",
                     (json_int_t)histogram->max_ns, "count", (json_int_t)histogram->count,
                     "p99_by_p50", number(series_tail(series, side)));
}

static json_t *side_of(const struct series *series, enum side which)
{
    const struct side_result *side = &series->sides[which];
    if (!side->measured)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "urbs_per_s",
                     summary(&side->urbs_per_s), "bytes_per_s", summary(&side->bytes_per_s),
                     "latency_ns", latency_of(series, which), "client_cpu_ns_per_urb",
                     summary(&side->client_ns), "server_cpu_ns_per_urb", summary(&side->server_ns),
                     "client_rss_bytes", number(side->client_rss), "server_rss_bytes",
                     number(side->server_rss));
}

static json_t *client_ratios(const struct series *series)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < series->client_ratio_count; i++) {
        const struct client_ratio *ratio = &series->client_ratios[i];
        json_array_append_new(all,
                              json_pack("{s:i, s:o, s:o}", "depth", (int)ratio->depth, "ratio",
                                        summary(&ratio->rate), "cpu_ratio", summary(&ratio->cpu)));
    }
    return all;
}

static json_t *one_series(const struct series *series)
{
    const struct load *load = &series->load;
    return json_pack(
        "{s:s, s:s, s:i, s:i, s:i, s:f, s:o, s:o, s:o, s:o, s:{s:o, s:o}, s:o, s:o, s:o}", "device",
        series->device, "test", test_name(load->test), "size", (int)load->size, "depth",
        (int)load->depth, "connections", (int)load->connections, "delay_ms", series->delay_ms,
        "target", side_of(series, TARGET), "ceiling", side_of(series, CEILING), "ratio",
        summary(&series->ratio), "cpu_ratio", summary(&series->cpu_ratio), "latency_ratio", "p50",
        number(series_latency_ratio(series, 0.5)), "p99",
        number(series_latency_ratio(series, 0.99)), "client_ratio",
        number(series_client_ratio(series)), "client_ratios", client_ratios(series),
        "in_flight_of_possible", number(series_filled(series, TARGET)));
}

static json_t *machine_of(const struct machine *machine)
{
    return json_pack("{s:s, s:s, s:i, s:o, s:o}", "system", machine->system, "cpu", machine->cpu,
                     "cores", machine->cores, "memory_bytes", number(machine->memory),
                     "load_average", number(machine->load_average));
}

static json_t *core(int cpu)
{
    return cpu == NO_CPU ? json_null() : json_integer(cpu);
}

static json_t *whole(const struct report *report)
{
    json_t *series = json_array(), *notes = json_array();
    for (unsigned i = 0; i < report->count; i++)
        json_array_append_new(series, one_series(&report->series[i]));
    for (unsigned i = 0; i < report->note_count; i++)
        json_array_append_new(notes, json_string(report->notes[i]));
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:i, s:f, s:o, s:o}", "format",
                     "usbip-throughput 1", "date", report->machine.date, "command", report->command,
                     "server", report->server, "machine", machine_of(&report->machine),
                     "server_cpu", core(report->options->server_cpu), "client_cpu",
                     core(report->options->client_cpu), "runs", (int)report->options->runs,
                     "seconds", report->options->seconds, "series", series, "notes", notes);
}

bool report_json(const struct report *report, const char *path)
{
    json_t *root = whole(report);
    bool written = root && json_dump_file(root, path, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) == 0;
    if (!written)
        fprintf(stderr, "usbip-throughput: cannot write %s: %s\n", path,
                root ? strerror(errno) : "a name in it is not UTF-8");
    json_decref(root);
    return written;
}
