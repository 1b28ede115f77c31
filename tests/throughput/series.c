#include "tests/throughput/series.h"

#include <math.h>

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

static double raw_rate(const struct series *series, unsigned count, const struct load *serial)
{
    double best = NAN;
    for (unsigned i = 0; i < count; i++) {
        const struct load *load = &series[i].load;
        if (load->test == TEST_ECHO && load->size == serial->size && load->connections == 1 &&
            (load->depth == 1) == (serial->depth == 1) && series[i].sides[CEILING].measured)
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
                ceiling->bytes_per_s.median / raw_rate(series, count, &series[i].load);
    }
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
