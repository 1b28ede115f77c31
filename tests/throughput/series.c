#include "tests/throughput/series.h"

#include <math.h>
#include <string.h>

#include "tests/throughput/options.h"
#include "tests/throughput/serial.h"

const struct statistics *series_rate(const struct series *series, enum side side)
{
    const struct side_result *result = &series->sides[side];
    return test_has_size(series->load.test) ? &result->bytes_per_s : &result->urbs_per_s;
}

static double most(double a, double b)
{
    return a > b || isnan(b) ? a : b;
}

void series_summarize(struct side_result *result, const struct sample *samples, unsigned runs)
{
    double urbs[MAX_RUNS], bytes[MAX_RUNS], client[MAX_RUNS], server[MAX_RUNS];
    result->measured = true;
    result->client_rss = result->server_rss = NAN;
    for (unsigned i = 0; i < runs; i++) {
        const struct sample *sample = &samples[i];
        urbs[i] = (double)sample->urbs / sample->seconds;
        bytes[i] = (double)sample->bytes / sample->seconds;
        client[i] = sample->urbs > 0 ? sample->client_cpu_ns / (double)sample->urbs : NAN;
        server[i] = sample->urbs > 0 ? sample->server_cpu_ns / (double)sample->urbs : NAN;
        result->client_rss = most(sample->client_rss, result->client_rss);
        result->server_rss = most(sample->server_rss, result->server_rss);
        histogram_add(&result->latency, &sample->latency);
    }
    result->urbs_per_s = statistics_of(urbs, runs);
    result->bytes_per_s = statistics_of(bytes, runs);
    result->client_ns = statistics_of(client, runs);
    result->server_ns = statistics_of(server, runs);
}

/* Of payload, or URBs where there is none. */
static double amount_of(const struct load *load, const struct sample *sample)
{
    return (double)(test_has_size(load->test) ? sample->bytes : sample->urbs);
}

void series_compare(struct series *series, const struct sample *samples[SIDE_COUNT], unsigned runs)
{
    double ratios[MAX_RUNS], cpu_ratios[MAX_RUNS];
    for (unsigned i = 0; i < runs; i++) {
        const struct sample *target = &samples[TARGET][i], *ceiling = &samples[CEILING][i];
        double amount = amount_of(&series->load, target) / amount_of(&series->load, ceiling);
        double cpu_ns = target->client_cpu_ns + target->server_cpu_ns;
        double ceiling_cpu_ns = ceiling->client_cpu_ns + ceiling->server_cpu_ns;
        ratios[i] = amount * ceiling->seconds / target->seconds;
        cpu_ratios[i] = amount * ceiling_cpu_ns / cpu_ns;
    }
    series->ratio = statistics_of(ratios, runs);
    series->cpu_ratio = statistics_of(cpu_ratios, runs);
}

/* Whether this is the raw client on the reference server, with the same device and size. */
static bool is_raw_of(const struct series *raw, const struct series *serial)
{
    const struct load *load = &raw->load;
    return load->test == TEST_ECHO && load->size == serial->load.size && load->connections == 1 &&
           strcmp(raw->device, serial->device) == 0 && raw->sides[CEILING].measured;
}

static double cpu_ns_of_byte(const struct side_result *result)
{
    return (result->client_ns.median + result->server_ns.median) * result->urbs_per_s.median /
           result->bytes_per_s.median;
}

struct client_ratio series_client_ratio(const struct series *series, unsigned count,
                                        const struct series *serial, unsigned depth)
{
    const struct side_result *library = &serial->sides[CEILING];
    for (unsigned i = 0; i < count; i++) {
        const struct side_result *raw = &series[i].sides[CEILING];
        if (series[i].load.depth == depth && is_raw_of(&series[i], serial) && library->measured)
            return (struct client_ratio){
                .rate = library->bytes_per_s.median / raw->bytes_per_s.median,
                .cpu = cpu_ns_of_byte(raw) / cpu_ns_of_byte(library),
            };
    }
    return (struct client_ratio){NAN, NAN};
}

static double raw_rate(const struct series *series, unsigned count, const struct series *serial)
{
    double best = NAN;
    for (unsigned i = 0; i < count; i++) {
        if (is_raw_of(&series[i], serial) &&
            (series[i].load.depth == 1) == (serial->load.depth == 1))
            best = most(series[i].sides[CEILING].bytes_per_s.median, best);
    }
    return best;
}

void series_compare_clients(struct series *series, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct side_result *ceiling = &series[i].sides[CEILING];
        if (series[i].load.test == TEST_SERIAL && ceiling->measured)
            series[i].client_ratio =
                ceiling->bytes_per_s.median / raw_rate(series, count, &series[i]);
    }
}

double series_tail(const struct series *series, enum side side)
{
    const struct histogram *latency = &series->sides[side].latency;
    double p50 = (double)histogram_quantile(latency, 0.5);
    return p50 > 0 ? (double)histogram_quantile(latency, 0.99) / p50 : NAN;
}

double series_latency_ratio(const struct series *series, double part)
{
    double ceiling = (double)histogram_quantile(&series->sides[CEILING].latency, part);
    double target = (double)histogram_quantile(&series->sides[TARGET].latency, part);
    return ceiling > 0 && target > 0 ? target / ceiling : NAN;
}

double series_in_flight(const struct series *series, enum side side)
{
    return series->delay_ms > 0 ? series_rate(series, side)->median * series->delay_ms / 1000 : NAN;
}

double series_filled(const struct series *series, enum side side)
{
    const struct load *load = &series->load;
    if (load->test == TEST_SERIAL && load->depth == SERIAL_STREAM)
        return NAN;
    double possible = (double)load->depth * load->connections;
    if (test_has_size(load->test))
        possible *= load->size;
    return series_in_flight(series, side) / possible;
}
