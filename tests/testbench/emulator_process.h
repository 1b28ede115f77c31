/* The emulator as its users run it: a process of its own on a free loopback port. */
#ifndef TESTS_TESTBENCH_EMULATOR_PROCESS_H
#define TESTS_TESTBENCH_EMULATOR_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct emulator_process {
    pid_t pid;
    int output;       /* its standard output */
    char address[64]; /* "127.0.0.1:40001" */
    char *log;        /* all it has printed so far, NUL-terminated */
    size_t log_size;
    size_t seen; /* emulator_saw() has looked so far */
};

/*
 * Starts `program -v` with these scripts and waits until it accepts connections. Returns false with
 * the reason on standard error.
 */
bool emulator_start(struct emulator_process *emulator, const char *program, char *const *scripts,
                    int script_count);

/*
 * Whether the emulator has printed a line that contains text since the last line that this function
 * found; waits for it for at most two seconds.
 */
bool emulator_saw(struct emulator_process *emulator, const char *text);

/* Asks it to end (SIGTERM) and waits. Returns its exit status, or -1 when a signal ended it. */
int emulator_stop(struct emulator_process *emulator);

#endif
