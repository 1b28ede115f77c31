#include "tests/throughput/resources.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

double cpu_time_ns(int pid)
{
    clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
    struct timespec used;
    if ((pid != 0 && clock_getcpuclockid(pid, &clock) != 0) || clock_gettime(clock, &used) < 0)
        return NAN;
    return (double)used.tv_sec * 1e9 + (double)used.tv_nsec;
}

double resident_bytes(int pid)
{
    char path[64];
    unsigned long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", pid != 0 ? pid : (int)getpid());
    FILE *file = fopen(path, "r");
    bool found = file && fscanf(file, "%*u %lu", &pages) == 1;
    if (file)
        fclose(file);
    return found ? (double)pages * (double)sysconf(_SC_PAGESIZE) : NAN;
}

int first_core(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return -1;
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET((size_t)core, &allowed))
            return core;
    }
    return -1;
}

bool pin_to_core(int pid, int core)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    if (core < 0 || core >= CPU_SETSIZE) {
        errno = EINVAL;
        return false;
    }
    CPU_SET((size_t)core, &one);
    return sched_setaffinity(pid, sizeof one, &one) == 0;
}
