#include "tests/conformance/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/runfiles.h"

enum { MAX_TIMEOUT_MS = 3600000, MAX_ROUNDS = 1000000 };

static const char usage[] =
    "usage: usbip-conformance [OPTION]... [HOST[:PORT]] [CASE|NAME|SECTION]...\n"
    "       usbip-conformance client --help\n"
    "\n"
    "Runs the conformance cases against a USB/IP server (default 127.0.0.1:3240) and reports what\n"
    "each of them found.\n"
    "\n"
    "  --busid B           the device under test (default: the first that is listed)\n"
    "  --device VID:PID    the same, by ids in hex\n"
    "  --emulate SCRIPT    start our emulator with this device; may be given several times, the\n"
    "                      first one is under test\n"
    "  --emulator PROGRAM  the emulator for that (default: the one that was built with the suite)\n"
    "  --emulator-option OPTION   give it this too, such as --personality=linux; may be repeated\n"
    "  --stimulus KIND     what is at the far end of the device's serial line: unix:PATH (a\n"
    "                      socket), tty:PATH (a terminal device), loopback (a plug that connects\n"
    "                      TxD with RxD); without one, cases that need it are not applicable\n"
    "  --unshared BUSID    a device that is present but not exported, for S028 and S035\n"
    "  --skip CASE         leave this one out, whatever is expected; may be given several times\n"
    "  --profile LIST      core, strict (contains core), hostile, soak (default core); hostile\n"
    "                      cases can close, reset or wedge a real server and run last\n"
    "  --expect TABLE      compare with a server's table, by file or by name (expect/NAME.txt);\n"
    "                      may be given several times, later ones replace lines of earlier ones\n"
    "  --timeout-ms N      how long a reply may take (default 2000)\n"
    "  --seed N            of the randomised cases (default 1)\n"
    "  --rounds N          run the cases N times, up to the first round that is not as expected;\n"
    "                      the emulator's memory and open files have to be level meanwhile\n"
    "  --jobs N            with --emulate: N cases at a time, each with an emulator of its own\n"
    "                      (default 1)\n"
    "  --list              say which cases there are, and run none\n"
    "  --tap               write TAP to standard output instead of text\n"
    "  --junit FILE, --json FILE   write these too\n"
    "  --verbose           show the exchange of every case, not only of those that deviate\n"
    "  --help\n"
    "\n"
    "Exit status: 0 when all is as expected, 1 when something differs, 2 when the run failed.\n";

static bool parse_number(const char *text, unsigned long long max, unsigned long long *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 0);
    return errno == 0 && end != text && *end == '\0' && *text != '-' && *value <= max;
}

static bool parse_profiles(const char *text, unsigned *profiles)
{
    static const struct {
        const char *name;
        unsigned profiles;
    } names[] = {{"core", CORE}, {"strict", CORE | STRICT}, {"hostile", HOSTILE}, {"soak", SOAK}};
    *profiles = 0;
    while (*text != '\0') {
        size_t size = strcspn(text, ",");
        unsigned found = 0;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            if (strlen(names[i].name) == size && strncmp(names[i].name, text, size) == 0)
                found = names[i].profiles;
        }
        if (!found)
            return false;
        *profiles |= found;
        text += size + (text[size] == ',');
    }
    return *profiles != 0;
}

static bool parse_ids(const char *text, struct target_choice *choice)
{
    unsigned vendor, product;
    char rest;
    choice->by_ids = true;
    if (strspn(text, "0123456789abcdefABCDEF:") != strlen(text) ||
        sscanf(text, "%4x:%4x%c", &vendor, &product, &rest) != 2)
        return false;
    choice->idVendor = (uint16_t)vendor;
    choice->idProduct = (uint16_t)product;
    return true;
}

bool parse_address(const char *text, struct target *target)
{
    const char *host = text, *end = text + strlen(text), *port = strrchr(text, ':');
    if (*text == '[') {
        host++;
        end = strchr(text, ']');
        if (!end || (end[1] != '\0' && end[1] != ':'))
            return false;
        port = end[1] == ':' ? end + 1 : NULL;
    } else if (port && strchr(text, ':') != port) {
        port = NULL; /* an IPv6 address as it is */
    } else if (port) {
        end = port;
    }
    if (end == host || (size_t)(end - host) >= sizeof target->host ||
        (port && (port[1] == '\0' || strlen(port + 1) >= sizeof target->port)))
        return false;
    snprintf(target->host, sizeof target->host, "%.*s", (int)(end - host), host);
    snprintf(target->port, sizeof target->port, "%s", port ? port + 1 : "3240");
    return true;
}

static bool names_a_case(const char *text)
{
    return case_is_named(&(struct case_list){sections, section_count}, text);
}

enum option_value {
    OPTION_BUSID = 256,
    OPTION_DEVICE,
    OPTION_EMULATE,
    OPTION_EMULATOR,
    OPTION_EMULATOR_OPTION,
    OPTION_STIMULUS,
    OPTION_UNSHARED,
    OPTION_SKIP,
    OPTION_PROFILE,
    OPTION_EXPECT,
    OPTION_TIMEOUT,
    OPTION_SEED,
    OPTION_ROUNDS,
    OPTION_JOBS,
    OPTION_LIST,
    OPTION_TAP,
    OPTION_JUNIT,
    OPTION_JSON,
    OPTION_VERBOSE,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"busid", required_argument, NULL, OPTION_BUSID},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"emulate", required_argument, NULL, OPTION_EMULATE},
    {"emulator", required_argument, NULL, OPTION_EMULATOR},
    {"emulator-option", required_argument, NULL, OPTION_EMULATOR_OPTION},
    {"stimulus", required_argument, NULL, OPTION_STIMULUS},
    {"unshared", required_argument, NULL, OPTION_UNSHARED},
    {"skip", required_argument, NULL, OPTION_SKIP},
    {"profile", required_argument, NULL, OPTION_PROFILE},
    {"expect", required_argument, NULL, OPTION_EXPECT},
    {"timeout-ms", required_argument, NULL, OPTION_TIMEOUT},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"rounds", required_argument, NULL, OPTION_ROUNDS},
    {"jobs", required_argument, NULL, OPTION_JOBS},
    {"list", no_argument, NULL, OPTION_LIST},
    {"tap", no_argument, NULL, OPTION_TAP},
    {"junit", required_argument, NULL, OPTION_JUNIT},
    {"json", required_argument, NULL, OPTION_JSON},
    {"verbose", no_argument, NULL, OPTION_VERBOSE},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* Returns NULL, or what is wrong with the argument of an option. */
static const char *take_option(struct options *options, int option)
{
    struct target *target = &options->target;
    unsigned long long number;
    switch (option) {
    case OPTION_BUSID:
        options->choice.busid = optarg;
        return strlen(optarg) < USBIP_BUSID_SIZE ? NULL : "is no busid";
    case OPTION_DEVICE:
        return parse_ids(optarg, &options->choice) ? NULL : "is not VID:PID in hex";
    case OPTION_EMULATE:
    case OPTION_EMULATOR_OPTION:
        if (options->emulator_argument_count == MAX_EMULATOR_ARGUMENTS)
            return "is one device or option too many";
        options->emulator_arguments[options->emulator_argument_count++] = optarg;
        if (option == OPTION_EMULATE && !options->script)
            options->script = optarg;
        return NULL;
    case OPTION_EMULATOR:
        options->emulator = optarg;
        return NULL;
    case OPTION_STIMULUS:
        options->stimulus = optarg;
        return NULL;
    case OPTION_UNSHARED:
        snprintf(target->unshared, sizeof target->unshared, "%s", optarg);
        return strlen(optarg) < USBIP_BUSID_SIZE ? NULL : "is no busid";
    case OPTION_SKIP:
        if (options->skipped_count == MAX_SKIPPED)
            return "is one case too many";
        options->skipped[options->skipped_count++] = optarg;
        return names_a_case(optarg) ? NULL : "is no case, name of a case, or section";
    case OPTION_PROFILE:
        return parse_profiles(optarg, &options->profiles)
                   ? NULL
                   : "is not a list of core, strict, hostile, soak";
    case OPTION_EXPECT:
        if (options->expect_count == MAX_TABLES)
            return "is one table too many";
        options->expects[options->expect_count++] = optarg;
        return NULL;
    case OPTION_TIMEOUT:
        if (!parse_number(optarg, MAX_TIMEOUT_MS, &number) || number == 0)
            return "is not a number of milliseconds";
        target->timeout_ms = (int)number;
        return NULL;
    case OPTION_SEED:
        if (!parse_number(optarg, UINT64_MAX, &number))
            return "is not a number";
        target->seed = number;
        return NULL;
    case OPTION_ROUNDS:
        if (!parse_number(optarg, MAX_ROUNDS, &number) || number == 0)
            return "is not a number of rounds";
        options->rounds = (unsigned)number;
        return NULL;
    case OPTION_JOBS:
        if (!parse_number(optarg, MAX_JOBS, &number) || number == 0)
            return "is not a number of jobs from 1 to 64";
        options->jobs = (unsigned)number;
        return NULL;
    case OPTION_JUNIT:
        options->outputs.junit = optarg;
        return NULL;
    case OPTION_JSON:
        options->outputs.json = optarg;
        return NULL;
    case OPTION_LIST:
        options->list = true;
        return NULL;
    case OPTION_TAP:
        options->outputs.tap = true;
        return NULL;
    default:
        options->outputs.verbose = true;
        return NULL;
    }
}

int wrong_usage(const char *argument, const char *why)
{
    fprintf(stderr, "usbip-conformance: %s %s; try --help\n", argument, why);
    return EXIT_NO_RUN;
}

int parse_options(struct options *options, int argc, char **argv)
{
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == OPTION_HELP) {
            fputs(usage, stdout);
            return EXIT_AS_EXPECTED;
        }
        if (option == '?')
            return EXIT_NO_RUN;
        const char *wrong = take_option(options, option);
        if (wrong)
            return wrong_usage(optarg, wrong);
    }
    parse_address("127.0.0.1", &options->target);
    if (optind < argc && !names_a_case(argv[optind])) {
        if (options->script)
            return wrong_usage(argv[optind], "is no case, and the server is the emulator");
        if (!parse_address(argv[optind], &options->target))
            return wrong_usage(argv[optind], "is no case and no HOST[:PORT]");
        optind++;
    }
    options->wanted = (const char *const *)&argv[optind];
    options->wanted_count = (size_t)(argc - optind);
    for (int i = optind; i < argc; i++) {
        if (!names_a_case(argv[i]))
            return wrong_usage(argv[i], "is no case, name of a case, or section");
    }
    static char found[RUNFILE_PATH_SIZE];
    if (!options->emulator)
        options->emulator = runfile_find("emulator/usbip-emulator", found);
    if (options->emulator_argument_count > 0 && !options->script)
        return wrong_usage("--emulator-option", "needs --emulate");
    if (options->jobs > 1 && !options->script)
        return wrong_usage("--jobs", "needs --emulate: a device has one client at a time");
    if (options->jobs > 1 && options->stimulus)
        return wrong_usage("--jobs", "goes without --stimulus: there is one far end");
    if (options->jobs > 1 && options->rounds > 1)
        return wrong_usage("--jobs", "goes without --rounds, which look at one emulator");
    return -1;
}
