/*
 * What the run function of a client case works with, beside trial.h. A case sets its hooks, starts
 * the client, waits for what it does and says what that was, in words that are the same in every
 * run. All waiting is done here, and each wait has a limit.
 */
#ifndef TESTS_CONFORMANCE_CLIENT_CLIENT_TRIAL_H
#define TESTS_CONFORMANCE_CLIENT_CLIENT_TRIAL_H

#include "tests/conformance/client/case_server.h"
#include "tests/conformance/client/process.h"
#include "tests/conformance/trial.h"

enum {
    CLIENT_MAX_VARIANTS = 16,
    CLIENT_LABEL_SIZE = 24,
    CLIENT_BY_HAND_MS = 600000,    /* how long somebody has to start a client by hand */
    CLIENT_TOLD_TIMEOUT_MS = 1000, /* USBIP_TIMEOUT_MS, where a case is about time-outs */
};

/* Bits of conformance_case.needs; those of server cases mean nothing here. */
enum { NEED_COMMAND = 1 << 16 }; /* the client's standard input, output or exit status */

/* How to reach the client, the same for all cases of a run. */
struct client_choice {
    char **command; /* NULL: it is started by hand */
    const char *host, *port;
    int timeout_ms;  /* for a step of the client */
    int patience_ms; /* for a time-out of its own */
};

/* What a case of a client has beyond the server. */
struct client {
    const struct client_choice *choice;
    const struct conformance_case *conformance_case;
    struct client_process process;
    unsigned pokes; /* of client_react() */
    size_t heard;   /* bytes of its output that a case has looked at */
    bool told_timeout;
    int reconnect_ms; /* USBIP_RECONNECT_MS; 0: it shall not */

    /* Outcomes of the variants of a case. */
    struct {
        char label[CLIENT_LABEL_SIZE], outcome[TRIAL_OUTCOME_SIZE];
    } variants[CLIENT_MAX_VARIANTS];
    unsigned variant_count;
    char summary[TRIAL_OUTCOME_SIZE]; /* in place of them, unless "" */
};

enum client_task { TASK_LIST, TASK_SERIAL };

/* Runs one case. rules has what was found about the rules of section C then. */
void client_trial_run(struct trial *trial, const struct client_choice *choice,
                      const struct conformance_case *conformance_case, struct rules *rules);

/* ---- Variants: a case that does the same several times, each time with a new client ---- */

/* Ends the present variant and starts another one. Hooks and device are the usual ones again. */
void client_variant(struct trial *trial, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The device of a case that plugs in no other. */
extern const struct device_choice client_usual_device;

/* ---- Results ---- */

/* Adds to the outcome of this variant, behind a comma. */
void client_outcome(struct trial *trial, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* One outcome for all variants. */
void client_summarize(struct trial *trial, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The requirement is not met, for this reason; the first one is kept. The case goes on. */
void client_fault(struct trial *trial, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- The client ---- */

void client_start(struct trial *trial, enum client_task task);
/* The next connection; fails when none comes. */
struct link *client_link(struct trial *trial);
/* The same within so many ms, or NULL. */
struct link *client_try_link(struct trial *trial, int timeout_ms);
/* Starts it with its serial task and waits until the port is open; fails when that does not come.
 */
struct link *client_open(struct trial *trial, const struct hooks *hooks);
/* Waits for the port of a link to be open. */
bool client_await_open(struct trial *trial, struct link *link, int timeout_ms);
/* Waits until so many bulk IN transfers are queued. */
bool client_await_in(struct trial *trial, struct link *link, unsigned count);

bool client_has_command(const struct trial *trial);
/* Writes to its standard input. */
void client_say(struct trial *trial, const void *bytes, size_t size);
/* Waits for the next bytes of its standard output. Returns false when others come, or none. */
bool client_hears(struct trial *trial, const void *bytes, size_t size);
/* Waits until these bytes are in what it prints from now on, whatever stands before them. */
bool client_hears_among(struct trial *trial, const char *text);
/* `size` bytes go to the far end and come back. By hand, nothing happens. */
void client_expect_echo(struct trial *trial, size_t size);
/* A short echo: from now on the client passes on what the device sends. */
void client_settle(struct trial *trial);
/* The far end sends these bytes. */
void client_device_sends(struct trial *trial, const void *bytes, size_t size);
/* Waits until the far end has got so many bytes in all. */
bool client_await_received(struct trial *trial, size_t size, int timeout_ms);

/* Waits until `done` or the time-out; returns the last answer of done. */
bool client_wait(struct trial *trial, bool (*done)(struct trial *trial, void *context),
                 void *context, int timeout_ms);

/* ---- Reactions ---- */

enum client_end {
    CLIENT_WELL,   /* it has to exit with 0 */
    CLIENT_FAILS,  /* with another status, and a line on standard error */
    CLIENT_ANYHOW, /* it has to end by itself */
};

enum reaction { REACTION_CLOSES, REACTION_GOES_ON, REACTION_HANGS };

/* Waits until the client has ended the connection. */
bool client_await_end(struct trial *trial, struct link *link, int timeout_ms);
/*
 * What the client does after something that a case did to it: it closes the connection, its port
 * still works, or neither. Adds the outcome.
 */
enum reaction client_react(struct trial *trial, struct link *link);
/* After the connection has ended, a client ends with an error, or looks for its device again. */
void client_after_close(struct trial *trial, struct link *link);
/* The same as client_react(), when it has to close. */
void client_must_close(struct trial *trial, struct link *link);
/* The same, when it has to go on, and to end well then. */
void client_must_go_on(struct trial *trial, struct link *link);
/* Ends its standard input, waits for the end of the client, and adds how it ended. */
void client_finish(struct trial *trial, struct link *link, enum client_end how);
/* The same without ending its standard input first. */
void client_await_exit(struct trial *trial, struct link *link, enum client_end how, int timeout_ms);

#endif
