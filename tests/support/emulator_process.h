/* The emulator as its users run it: a process of its own on a free loopback port. */
#ifndef TESTS_SUPPORT_EMULATOR_PROCESS_H
#define TESTS_SUPPORT_EMULATOR_PROCESS_H

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
 * Starts `program -v --listen LISTEN ARGUMENT...` and waits until it accepts connections; listen is
 * "127.0.0.1:0", say, and the arguments are scripts and more options. Returns false with the reason
 * on standard error.
 */
bool emulator_start(struct emulator_process *emulator, const char *program, const char *listen,
                    char *const *arguments, int argument_count);

/*
 * Whether the emulator has printed a line that contains text since the last line that this function
 * found; waits for it for at most two seconds.
 */
bool emulator_saw(struct emulator_process *emulator, const char *text);

struct emulator_usage {
    long resident_kib; /* memory */
    int open_files;
};

/* What it uses just now. Returns false when the system does not tell. */
bool emulator_usage(const struct emulator_process *emulator, struct emulator_usage *usage);

/* Ends it at once, as a crash would; emulator_stop() still has to be called. */
void emulator_kill(struct emulator_process *emulator);

/* Asks it to end (SIGTERM) and waits. Returns its exit status, or -1 when a signal ended it. */
int emulator_stop(struct emulator_process *emulator);

#endif
