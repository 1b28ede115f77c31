#include "tests/throughput/machine.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static void find_cpu(char cpu[128])
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(cpu, 128, "unknown processor");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            snprintf(cpu, 128, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    }
    if (file)
        fclose(file);
}

void machine_look(struct machine *machine)
{
    struct utsname name;
    cpu_set_t allowed;
    time_t now = time(NULL);
    struct tm utc;
    strftime(machine->date, sizeof machine->date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    snprintf(machine->system, sizeof machine->system, "unknown system");
    if (uname(&name) == 0)
        snprintf(machine->system, sizeof machine->system, "%.40s %.60s %.40s", name.sysname,
                 name.release, name.machine);
    find_cpu(machine->cpu);
    machine->cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 0;
    machine->memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (getloadavg(&machine->load_average, 1) != 1)
        machine->load_average = NAN;
}
