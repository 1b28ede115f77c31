/* Time, CPU time, memory and cores of processes. */
#ifndef TESTS_THROUGHPUT_RESOURCES_H
#define TESTS_THROUGHPUT_RESOURCES_H

#include <stdbool.h>
#include <stdint.h>

/* Monotonic. */
uint64_t now_ns(void);

/* CPU time that a process has used, all of its threads, in ns; pid 0: this one. NAN: unknown. */
double cpu_time_ns(int pid);
/* Resident memory in bytes. NAN: unknown. */
double resident_bytes(int pid);

/* The first core that this process may use; -1: unknown. */
int first_core(void);
/* Lets a process (0: this one) run on one core only. False with errno. */
bool pin_to_core(int pid, int core);

#endif
