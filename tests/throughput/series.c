#include "tests/throughput/series.h"

#include <math.h>

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

void series_compare_clients(const struct sample *library, const struct sample *raw, double *rate,
                            double *cpu)
{
    double amount = (double)library->bytes / (double)raw->bytes;
    *rate = amount * raw->seconds / library->seconds;
    *cpu = amount * (raw->client_cpu_ns + raw->server_cpu_ns) /
           (library->client_cpu_ns + library->server_cpu_ns);
}

const struct client_ratio *series_find_client_ratio(const struct series *series, unsigned depth)
{
    for (unsigned i = 0; i < series->client_ratio_count; i++) {
        if (series->client_ratios[i].depth == depth)
            return &series->client_ratios[i];
    }
    return NULL;
}

double series_client_ratio(const struct series *series)
{
    double least = NAN;
    for (unsigned i = 0; i < series->client_ratio_count; i++) {
        const struct client_ratio *ratio = &series->client_ratios[i];
        if (series->load.depth == SERIAL_STREAM || ratio->depth == 1)
            least = fmin(least, ratio->rate.median); /* which passes over NAN */
    }
    return least;
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
