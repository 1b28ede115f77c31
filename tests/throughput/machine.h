/* What a figure was measured on. */
#ifndef TESTS_THROUGHPUT_MACHINE_H
#define TESTS_THROUGHPUT_MACHINE_H

struct machine {
    char date[32];    /* ISO 8601, UTC */
    char system[160]; /* "Linux 6.1.0-18-amd64 x86_64" */
    char cpu[128];
    int cores;           /* that this process may use */
    double memory;       /* bytes */
    double load_average; /* of the last minute, before the run; NAN: unknown */
};

void machine_look(struct machine *machine);

#endif
