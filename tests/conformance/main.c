/* usbip-conformance: how a USB/IP server, or a client, behaves, case by case. */
#include <stdio.h>
#include <string.h>

#include "tests/conformance/client/main.h"
#include "tests/conformance/options.h"
#include "tests/conformance/run.h"
#include "tests/conformance/stimulus.h"

enum {
    DEFAULT_TIMEOUT_MS = 2000,
    DEFAULT_IMPORT_TIMEOUT_MS = 20000,
    RETRY_MS = 10000, /* for a server that resets the device when a client goes */
};

int main(int argc, char **argv)
{
    static struct options options = {
        .profiles = CORE,
        .rounds = 1,
        .jobs = 1,
        .target = {.timeout_ms = DEFAULT_TIMEOUT_MS,
                   .import_timeout_ms = DEFAULT_IMPORT_TIMEOUT_MS,
                   .retry_ms = RETRY_MS,
                   .seed = 1},
    };
    static struct expect_table table;
    char why[256];
    if (argc > 1 && strcmp(argv[1], "client") == 0)
        return client_main(argc - 1, argv + 1);
    int status = parse_options(&options, argc, argv);
    if (status >= 0)
        return status;
    const struct case_list cases = {sections, section_count};
    if (options.list) {
        report_list(stdout, &cases, options.wanted, options.wanted_count);
        return EXIT_AS_EXPECTED;
    }
    for (int i = 0; i < options.expect_count; i++) {
        if (expect_load_named(&table, options.expects[i], why) < 0)
            return wrong_usage(options.expects[i], why);
    }
    const struct expectation *foreign = expect_find_foreign(&table, &cases);
    if (foreign)
        return wrong_usage(foreign->id, "has a line in the table, and is no case for a server");
    if (options.stimulus && stimulus_connect(&options.target, options.stimulus, why) < 0)
        return wrong_usage(options.stimulus, why);
    options.target.soak = options.profiles & SOAK;
    status = run_server_cases(&options, &table);
    stimulus_disconnect(&options.target);
    return status;
}
