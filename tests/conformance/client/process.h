/* The program of a client under test, in a process group of its own, with pipes at its ends. */
#ifndef TESTS_CONFORMANCE_CLIENT_PROCESS_H
#define TESTS_CONFORMANCE_CLIENT_PROCESS_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "protocol/buffer.h"

enum {
    CLIENT_MAX_OUTPUT = 64 << 20, /* bytes of its standard output that are kept */
    CLIENT_ERROR_SIZE = 512,
    CLIENT_MAX_VARIABLES = 8,
};

struct client_process {
    pid_t pid; /* 0: none was started */
    bool running;
    int status; /* of wait(), once it has ended */
    struct rusage usage;
    int in, out, error;                 /* our ends; -1: closed */
    struct usbip_buffer input;          /* to be given to it */
    bool input_ends;                    /* behind that */
    size_t input_taken;                 /* bytes that it (or its pipe) has taken */
    struct usbip_buffer output;         /* all that it has printed */
    char error_text[CLIENT_ERROR_SIZE]; /* the beginning of its standard error */
    size_t error_size;
};

/*
 * Starts it with these variables ("NAME=VALUE") added to the environment. Returns false with the
 * reason in errno. Whether the command exists shows in its exit status, 127.
 */
bool client_process_start(struct client_process *process, char *const *command,
                          const char *const *variables, size_t variable_count);
void client_process_write(struct client_process *process, const void *bytes, size_t size);
/* Its standard input ends, when all is written. */
void client_process_end_input(struct client_process *process);
/* Ends it and all that it has started, and frees. */
void client_process_stop(struct client_process *process);

/* For poll(), as for the server of a case. */
size_t client_process_wants(struct client_process *process, struct pollfd *fds);
void client_process_act(struct client_process *process);

#endif
