#include "tests/throughput/baseline.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "tests/throughput/report.h"

struct baseline {
    json_t *root;
};

/* Returns NULL, or why the file is of no use. */
static const char *objection_to(json_t *root)
{
    const char *format;
    json_t *series;
    int runs;
    if (json_unpack(root, "{s:s, s:i, s:o}", "format", &format, "runs", &runs, "series", &series) <
            0 ||
        strcmp(format, "usbip-throughput 1") != 0 || !json_is_array(series))
        return "it is no file that --json has written";
    if (runs < BASELINE_MIN_RUNS)
        return "its figures are of less than 3 runs, so that their noise is not known";
    return NULL;
}

/* NO_CPU also where a file does not tell. */
static int core_of(const json_t *root, const char *key)
{
    const json_t *core = json_object_get(root, key);
    return json_is_integer(core) ? (int)json_integer_value(core) : NO_CPU;
}

/* Two processes on one core, or on any: the rates have little to do with each other. */
static bool has_same_cores(const json_t *root, const struct options *options)
{
    return core_of(root, "server_cpu") == options->server_cpu &&
           core_of(root, "client_cpu") == options->client_cpu;
}

struct baseline *baseline_load(const struct options *options, char error_text[BASELINE_ERROR_SIZE])
{
    json_error_t error;
    const char *path = options->baseline;
    FILE *file = fopen(path, "r");
    struct baseline *baseline = file ? calloc(1, sizeof *baseline) : NULL;
    const char *why = strerror(errno);
    if (baseline) {
        baseline->root = json_loadf(file, 0, &error);
        why = baseline->root ? objection_to(baseline->root) : error.text;
        if (!why && !has_same_cores(baseline->root, options))
            why = "it was measured on other cores: give the same --cpu and --ceiling";
    }
    if (file)
        fclose(file);
    if (!why)
        return baseline;
    if (baseline && !baseline->root)
        snprintf(error_text, BASELINE_ERROR_SIZE, "the baseline %.200s: line %d: %.200s", path,
                 error.line, why);
    else
        snprintf(error_text, BASELINE_ERROR_SIZE, "the baseline %.200s: %.200s", path, why);
    baseline_free(baseline);
    return NULL;
}

void baseline_free(struct baseline *baseline)
{
    if (!baseline)
        return;
    json_decref(baseline->root);
    free(baseline);
}

bool baseline_is_loss(const struct statistics *before, const struct statistics *now)
{
    double noise = before->max - before->min + now->max - now->min;
    return before->median - now->median > noise;
}

/* What --json has written; all NAN when it is not there. */
static struct statistics read_statistics(const json_t *object, const char *key)
{
    struct statistics result;
    if (json_unpack(json_object_get(object, key), "{s:F, s:F, s:F}", "median", &result.median,
                    "min", &result.min, "max", &result.max) < 0)
        return (struct statistics){NAN, NAN, NAN};
    return result;
}

static bool is_same(json_t *old, const struct series *series)
{
    const struct load *load = &series->load;
    const char *device, *test;
    int size, depth, connections;
    double delay_ms;
    return json_unpack(old, "{s:s, s:s, s:i, s:i, s:i, s:F}", "device", &device, "test", &test,
                       "size", &size, "depth", &depth, "connections", &connections, "delay_ms",
                       &delay_ms) == 0 &&
           strcmp(device, series->device) == 0 && strcmp(test, test_name(load->test)) == 0 &&
           size == (int)load->size && depth == (int)load->depth &&
           connections == (int)load->connections && delay_ms == series->delay_ms;
}

static const json_t *find(const struct baseline *baseline, const struct series *series)
{
    size_t i;
    json_t *old;
    json_array_foreach(json_object_get(baseline->root, "series"), i, old)
    {
        if (is_same(old, series))
            return old;
    }
    return NULL;
}

/* Returns -1 when there is nothing to compare, or whether it is a loss. */
static int compare(const json_t *old, const struct series *series, FILE *output)
{
    const char *key = test_has_size(series->load.test) ? "bytes_per_s" : "urbs_per_s";
    struct statistics before = read_statistics(old, "ratio"), now = series->ratio;
    char size[WORD_SIZE], depth[WORD_SIZE], old_word[WORD_SIZE], new_word[WORD_SIZE];
    bool ratios = !isnan(before.median) && !isnan(now.median);
    if (!ratios) {
        before = read_statistics(json_object_get(old, "target"), key);
        now = *series_rate(series, TARGET);
    }
    if (isnan(before.median) || isnan(now.median))
        return -1;
    bool loss = baseline_is_loss(&before, &now);
    const char *verdict = loss ? "LOSS" : baseline_is_loss(&now, &before) ? "gain" : "same";
    fprintf(output, "  %s  %-10.10s %-8s %8s %6s  %s %s, was %s\n", verdict, series->device,
            test_name(series->load.test), format_size(series->load.size, size),
            format_depth(&series->load, depth), ratios ? "of the ceiling" : "rate",
            ratios ? format_percent(now.median, new_word) : format_figure(now.median, new_word),
            ratios ? format_percent(before.median, old_word)
                   : format_figure(before.median, old_word));
    return loss;
}

unsigned baseline_compare(const struct baseline *baseline, const struct series *series,
                          unsigned count, FILE *output, unsigned *compared)
{
    unsigned losses = 0;
    *compared = 0;
    for (unsigned i = 0; i < count; i++) {
        const json_t *old = find(baseline, &series[i]);
        int result = old ? compare(old, &series[i], output) : -1;
        *compared += result >= 0;
        losses += result > 0;
    }
    return losses;
}
