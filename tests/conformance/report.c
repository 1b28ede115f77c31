#include "tests/conformance/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *level_name(enum case_level level)
{
    static const char *const names[] = {"MUST", "SHOULD", "MAY"};
    return names[level];
}

const char *verdict_name(enum verdict verdict)
{
    static const char *const names[] = {"pass", "fail", "not applicable"};
    return names[verdict];
}

void result_take(struct result *result, const struct trial *trial)
{
    result->verdict = trial->verdict;
    memcpy(result->outcome, trial->outcome, sizeof result->outcome);
    memcpy(result->reason, trial->reason, sizeof result->reason);
    wire_make_plain(result->outcome);
    wire_make_plain(result->reason);
}

char *report_exchange(const struct wire_log *log)
{
    const size_t half = WIRE_LOG_LINES / 2;
    size_t size;
    char *text = NULL;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return NULL;
    for (size_t i = 0; i < log->count && i < half; i++)
        fprintf(stream, "%s\n", log->first[i]);
    size_t from = log->count > 2 * half ? log->count - half : half;
    if (from > half)
        fprintf(stream, "... %zu lines\n", from - half);
    for (size_t i = from; i < log->count; i++)
        fprintf(stream, "%s\n", log->last[i % half]);
    fclose(stream);
    return text;
}

bool case_is_wanted(const struct section *section, const struct conformance_case *conformance_case,
                    const char *const *wanted, size_t wanted_count)
{
    bool is = wanted_count == 0;
    for (size_t i = 0; i < wanted_count; i++)
        is |= strcasecmp(wanted[i], conformance_case->id) == 0 ||
              strcmp(wanted[i], conformance_case->name) == 0 ||
              strcasecmp(wanted[i], section->letter) == 0;
    return is;
}

bool case_is_named(const struct case_list *cases, const char *name)
{
    for (size_t i = 0; i < cases->count; i++) {
        const struct section *section = cases->sections[i];
        for (size_t j = 0; j < section->count; j++) {
            if (case_is_wanted(section, &section->cases[j], &name, 1))
                return true;
        }
    }
    return false;
}

/* Whether the section of a result has none before it. */
static bool starts_section(const struct report *report, size_t i)
{
    return i == 0 || report->results[i].section != report->results[i - 1].section;
}

/* ---- List ---- */

static void print_profiles(FILE *stream, unsigned profiles)
{
    static const char *const names[] = {"core", "strict", "hostile", "soak"};
    const char *between = "";
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (profiles & 1u << i) {
            fprintf(stream, "%s%s", between, names[i]);
            between = ", ";
        }
    }
}

void report_list(FILE *stream, const struct case_list *cases, const char *const *wanted,
                 size_t wanted_count)
{
    for (size_t i = 0; i < cases->count; i++) {
        const struct section *section = cases->sections[i];
        bool titled = false;
        for (size_t j = 0; j < section->count; j++) {
            const struct conformance_case *at = &section->cases[j];
            if (!case_is_wanted(section, at, wanted, wanted_count))
                continue;
            if (!titled)
                fprintf(stream, "%s. %s\n", section->letter, section->title);
            titled = true;
            fprintf(stream, "  %s %s  %s (", at->id, at->name, level_name(at->level));
            print_profiles(stream, at->profiles);
            fprintf(stream, ")\n       %s [%s]\n", at->requirement, at->source);
            if (!at->run)
                fprintf(stream, "       not applicable: %s\n", at->not_applicable);
        }
    }
}

/* ---- Text ---- */

static void print_indented(FILE *stream, const char *text, const char *indent)
{
    while (*text != '\0') {
        size_t size = strcspn(text, "\n");
        fprintf(stream, "%s%.*s\n", indent, (int)size, text);
        text += size + (text[size] == '\n');
    }
}

static void print_deviation(FILE *stream, const struct result *result)
{
    const struct conformance_case *at = result->conformance_case;
    fprintf(stream, "%s %s (%s): %s", at->id, at->name, level_name(at->level), result->outcome);
    if (result->expected)
        fprintf(stream, ", expected: %s", result->expected->outcomes);
    fprintf(stream, "\n  required: %s [%s]\n", at->requirement, at->source);
    if (result->reason[0])
        fprintf(stream, "  found: %s\n", result->reason);
    if (result->exchange)
        print_indented(stream, result->exchange, "    ");
}

static void print_section(FILE *stream, const struct report *report, const struct section *section,
                          bool verbose)
{
    fprintf(stream, "\n%s. %s\n", section->letter, section->title);
    for (size_t i = 0; i < report->count; i++) {
        const struct result *result = &report->results[i];
        const struct conformance_case *at = result->conformance_case;
        if (result->section != section)
            continue;
        fprintf(stream, "  %-4s %s %s: %s",
                result->verdict == PASS   ? "ok"
                : result->verdict == FAIL ? "FAIL"
                                          : "-",
                at->id, at->name,
                result->verdict == NOT_APPLICABLE ? result->reason : result->outcome);
        if (result->as_expected && result->verdict == FAIL)
            fprintf(stream, " (as expected: %s)", result->expected->reason);
        fprintf(stream, result->as_expected ? "\n" : "   <-- see above\n");
        if (verbose && result->as_expected && result->exchange)
            print_indented(stream, result->exchange, "        ");
    }
}

void report_text(FILE *stream, const struct report *report, bool verbose)
{
    size_t counts[3] = {0}, unexpected = 0;
    double seconds = 0;
    fprintf(stream, "USB/IP conformance of %s\n", report->title);
    for (size_t i = 0; i < report->count; i++) {
        const struct result *result = &report->results[i];
        counts[result->verdict]++;
        seconds += result->seconds;
        if (result->as_expected)
            continue;
        fprintf(stream, "%s\n", unexpected++ == 0 ? "\nDeviations\n" : "");
        print_deviation(stream, result);
    }
    for (size_t i = 0; i < report->count; i++) {
        if (starts_section(report, i))
            print_section(stream, report, report->results[i].section, verbose);
    }
    fprintf(
        stream,
        "\n%zu cases: %zu passed, %zu failed, %zu not applicable; %zu not as expected; %.1f s\n",
        report->count, counts[PASS], counts[FAIL], counts[NOT_APPLICABLE], unexpected, seconds);
}

/* ---- TAP ---- */

void report_tap(FILE *stream, const struct report *report)
{
    fprintf(stream, "TAP version 13\n1..%zu\n", report->count);
    for (size_t i = 0; i < report->count; i++) {
        const struct result *result = &report->results[i];
        const struct conformance_case *at = result->conformance_case;
        fprintf(stream, "%s %zu - %s %s: %s", result->as_expected ? "ok" : "not ok", i + 1, at->id,
                at->name, result->outcome);
        if (result->verdict == NOT_APPLICABLE)
            fprintf(stream, " # SKIP %s", result->reason);
        fputc('\n', stream);
        if (!result->as_expected) {
            fprintf(stream, "# %s: %s\n# %s\n", level_name(at->level), at->requirement,
                    result->reason);
            if (result->exchange)
                print_indented(stream, result->exchange, "#   ");
        }
    }
}

/* ---- JUnit ---- */

static void print_xml(FILE *stream, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '<')
            fputs("&lt;", stream);
        else if (c == '>')
            fputs("&gt;", stream);
        else if (c == '&')
            fputs("&amp;", stream);
        else if (c == '"')
            fputs("&quot;", stream);
        else if (c >= 0x20 || c == '\n' || c == '\t')
            fputc(c, stream);
        else
            fputc('?', stream);
    }
}

static void print_xml_case(FILE *stream, const struct result *result)
{
    const struct conformance_case *at = result->conformance_case;
    fprintf(stream, "    <testcase classname=\"%s. ", result->section->letter);
    print_xml(stream, result->section->title);
    fprintf(stream, "\" name=\"%s %s\" time=\"%.3f\">\n", at->id, at->name, result->seconds);
    if (!result->as_expected) {
        fputs("      <failure message=\"", stream);
        print_xml(stream, result->reason[0] ? result->reason : result->outcome);
        fprintf(stream, "\" type=\"%s\">", level_name(at->level));
        print_xml(stream, at->requirement);
        fputc('\n', stream);
        if (result->exchange)
            print_xml(stream, result->exchange);
        fputs("</failure>\n", stream);
    } else if (result->verdict == NOT_APPLICABLE) {
        fputs("      <skipped message=\"", stream);
        print_xml(stream, result->reason);
        fputs("\"/>\n", stream);
    }
    fputs("      <system-out>", stream);
    print_xml(stream, result->outcome);
    fputs("</system-out>\n    </testcase>\n", stream);
}

void report_junit(FILE *stream, const struct report *report)
{
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n", stream);
    for (size_t i = 0; i < report->count; i++) {
        const struct section *section = report->results[i].section;
        size_t tests = 0, failures = 0, skipped = 0;
        if (!starts_section(report, i))
            continue;
        for (size_t j = i; j < report->count; j++) {
            const struct result *result = &report->results[j];
            if (result->section != section)
                continue;
            tests++;
            failures += !result->as_expected;
            skipped += result->as_expected && result->verdict == NOT_APPLICABLE;
        }
        fprintf(stream, "  <testsuite name=\"%s. ", section->letter);
        print_xml(stream, section->title);
        fprintf(stream, "\" tests=\"%zu\" failures=\"%zu\" skipped=\"%zu\">\n", tests, failures,
                skipped);
        for (size_t j = i; j < report->count; j++) {
            if (report->results[j].section == section)
                print_xml_case(stream, &report->results[j]);
        }
        fputs("  </testsuite>\n", stream);
    }
    fputs("</testsuites>\n", stream);
}

/* ---- JSON ---- */

static void print_json(FILE *stream, const char *text)
{
    fputc('"', stream);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(stream, "\\%c", c);
        else if (c < 0x20)
            fprintf(stream, "\\u%04x", c);
        else
            fputc(c, stream);
    }
    fputc('"', stream);
}

static void print_json_field(FILE *stream, const char *name, const char *text)
{
    fprintf(stream, ", \"%s\": ", name);
    print_json(stream, text);
}

void report_json(FILE *stream, const struct report *report)
{
    fputs("{\"target\": ", stream);
    print_json(stream, report->title);
    fputs(", \"cases\": [", stream);
    for (size_t i = 0; i < report->count; i++) {
        const struct result *result = &report->results[i];
        const struct conformance_case *at = result->conformance_case;
        fprintf(stream, "%s\n  {\"id\": \"%s\"", i > 0 ? "," : "", at->id);
        print_json_field(stream, "name", at->name);
        print_json_field(stream, "section", result->section->letter);
        print_json_field(stream, "level", level_name(at->level));
        print_json_field(stream, "requirement", at->requirement);
        print_json_field(stream, "verdict", verdict_name(result->verdict));
        print_json_field(stream, "outcome", result->outcome);
        print_json_field(stream, "reason", result->reason);
        if (result->expected)
            print_json_field(stream, "expected", result->expected->outcomes);
        if (result->exchange)
            print_json_field(stream, "exchange", result->exchange);
        fprintf(stream, ", \"as_expected\": %s, \"seconds\": %.3f}",
                result->as_expected ? "true" : "false", result->seconds);
    }
    fputs("\n]}\n", stream);
}

bool report_is_as_expected(const struct report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        if (!report->results[i].as_expected)
            return false;
    }
    return true;
}

/* Returns false with the reason in errno; NULL is no file. */
static bool write_file(const char *path, void (*write)(FILE *, const struct report *),
                       const struct report *report)
{
    if (!path)
        return true;
    FILE *file = fopen(path, "w");
    if (!file)
        return false;
    write(file, report);
    bool well = !ferror(file);
    well &= fclose(file) == 0;
    return well;
}

int report_write_all(const struct report_outputs *outputs, const char *program,
                     const struct report *report)
{
    const struct {
        const char *path;
        void (*write)(FILE *, const struct report *);
    } files[] = {{outputs->junit, report_junit}, {outputs->json, report_json}};
    if (outputs->tap)
        report_tap(stdout, report);
    else
        report_text(stdout, report, outputs->verbose);
    bool written = fflush(stdout) == 0 && !ferror(stdout);
    if (!written)
        fprintf(stderr, "%s: cannot write the report: %s\n", program, strerror(errno));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (!write_file(files[i].path, files[i].write, report)) {
            fprintf(stderr, "%s: cannot write %s: %s\n", program, files[i].path, strerror(errno));
            written = false;
        }
    }
    if (!written)
        return EXIT_NO_RUN;
    return report_is_as_expected(report) ? EXIT_AS_EXPECTED : EXIT_DIFFERS;
}
