#include "tests/conformance/client/client_trial.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum {
    MAX_FDS = CASE_SERVER_MAX_LINKS + 4,
    SETTLING_BYTES = 8,
    LOOK_MS = 10,    /* how often is looked whether the client has ended */
    NO_DTR_MS = 500, /* a client that queues IN transfers for so long without DTR raises none */
};

static const char busid[] = "1-1";

const struct device_choice client_usual_device = {"cdc_acm", USBIP_SPEED_FULL, 0x1209, 0x00c2,
                                                  "C-1"};

/* ---- Results ---- */

void client_outcome(struct trial *trial, const char *format, ...)
{
    char *outcome = trial->client->variants[trial->client->variant_count - 1].outcome;
    size_t used = strlen(outcome);
    if (used > 0 && used + 2 < TRIAL_OUTCOME_SIZE) {
        strcpy(outcome + used, ", ");
        used += 2;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(outcome + used, TRIAL_OUTCOME_SIZE - used, format, arguments);
    va_end(arguments);
}

void client_summarize(struct trial *trial, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(trial->client->summary, sizeof trial->client->summary, format, arguments);
    va_end(arguments);
}

void client_fault(struct trial *trial, const char *format, ...)
{
    const struct client *client = trial->client;
    const char *label = client->variants[client->variant_count - 1].label;
    if (trial->verdict == FAIL)
        return;
    trial->verdict = FAIL;
    int used = label[0] != '\0' ? snprintf(trial->reason, TRIAL_REASON_SIZE, "%s: ", label) : 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(trial->reason + used, TRIAL_REASON_SIZE - (size_t)used, format, arguments);
    va_end(arguments);
}

/* "closes, exit 1" when all variants came out like that, else each with its label. */
static void join_outcomes(struct trial *trial)
{
    const struct client *client = trial->client;
    bool same = true;
    for (unsigned i = 1; i < client->variant_count; i++)
        same &= strcmp(client->variants[i].outcome, client->variants[0].outcome) == 0;
    if (same || client->summary[0] != '\0') {
        trial_record(trial, "%s",
                     client->summary[0] != '\0' ? client->summary : client->variants[0].outcome);
        return;
    }
    trial->outcome[0] = '\0';
    for (unsigned i = 0; i < client->variant_count; i++) {
        size_t used = strlen(trial->outcome);
        snprintf(trial->outcome + used, TRIAL_OUTCOME_SIZE - used, "%s%s: %s", i > 0 ? "; " : "",
                 client->variants[i].label, client->variants[i].outcome);
    }
}

/* ---- Waiting ---- */

static void turn(struct trial *trial, uint64_t until_us)
{
    struct pollfd fds[MAX_FDS];
    struct client_process *process = &trial->client->process;
    uint64_t due_us = case_server_due_us(trial->server), now_us = case_now_us();
    if (due_us < until_us)
        until_us = due_us;
    if (process->running && now_us + LOOK_MS * 1000 < until_us)
        until_us = now_us + LOOK_MS * 1000;
    size_t count = case_server_wants(trial->server, fds);
    count += client_process_wants(process, fds + count);
    uint64_t wait_us = until_us > now_us ? until_us - now_us : 0;
    struct timespec timeout = {(time_t)(wait_us / 1000000), (long)(wait_us % 1000000) * 1000};
    ppoll(fds, count, &timeout, NULL);
    client_process_act(process);
    case_server_act(trial->server);
}

bool client_wait(struct trial *trial, bool (*done)(struct trial *, void *), void *context,
                 int timeout_ms)
{
    const uint64_t until_us = case_now_us() + (uint64_t)timeout_ms * 1000;
    /* What a hook or the case itself has caused is on its way before anything is waited for. */
    case_server_act(trial->server);
    for (;;) {
        bool is = done(trial, context);
        if (is || case_now_us() >= until_us)
            return is;
        turn(trial, until_us);
    }
}

/* ---- Running ---- */

static void log_error_text(struct trial *trial)
{
    struct client_process *process = &trial->client->process;
    if (process->pid == 0)
        return;
    process->error_text[process->error_size] = '\0';
    for (char *line = strtok(process->error_text, "\n"); line; line = strtok(NULL, "\n"))
        wire_log_add(&trial->log, "- the client says: %s", line);
}

static void end_client(struct trial *trial)
{
    log_error_text(trial);
    client_process_stop(&trial->client->process);
}

static void reset_variant(struct trial *trial)
{
    struct client *client = trial->client;
    end_client(trial);
    client->heard = 0;
    client->told_timeout = false;
    client->reconnect_ms = 0;
    trial->server->hooks = (struct hooks){0};
    trial->server->context = NULL;
    case_server_plug(trial->server, &client_usual_device);
}

void client_variant(struct trial *trial, const char *format, ...)
{
    struct client *client = trial->client;
    /* The first one is there from the start, without a label. */
    if (client->variants[0].label[0] != '\0' || client->variants[0].outcome[0] != '\0') {
        if (client->variant_count == CLIENT_MAX_VARIANTS)
            abort();
        client->variant_count++;
        reset_variant(trial);
    }
    char *label = client->variants[client->variant_count - 1].label;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(label, CLIENT_LABEL_SIZE, format, arguments);
    va_end(arguments);
    wire_log_add(&trial->log, "- %s", label);
}

static void prepare(struct trial *trial)
{
    const struct client_choice *choice = trial->client->choice;
    trial->client->variant_count = 1;
    case_server_plug(trial->server, &client_usual_device);
    if (!case_server_listen(trial->server, choice->host, choice->port))
        trial_fail(trial, "cannot listen on %s port %s: %s", choice->host, choice->port,
                   strerror(errno));
}

void client_trial_run(struct trial *trial, const struct client_choice *choice,
                      const struct conformance_case *conformance_case, struct rules *rules)
{
    static struct case_server server;
    static struct client client;
    memset(trial, 0, sizeof *trial);
    memset(&client, 0, sizeof client);
    server = (struct case_server){.trial = trial, .listener = -1, .rules = rules};
    client.choice = choice;
    trial->server = &server;
    trial->client = &client;
    client.conformance_case = conformance_case;
    trial->verdict = PASS;
    if (setjmp(trial->end) == 0) {
        if ((conformance_case->needs & NEED_COMMAND) && !choice->command)
            trial_not_applicable(trial, "it needs the client's standard input and output: run it "
                                        "with a COMMAND");
        prepare(trial);
        conformance_case->run(trial);
    }
    end_client(trial);
    case_server_free(&server);
    trial_clean_up(trial);
    if (trial->verdict == NOT_APPLICABLE)
        trial_record(trial, "not-applicable");
    else if (client.variant_count > 0)
        join_outcomes(trial);
    if (trial->outcome[0] == '\0')
        trial_record(trial, "%s", trial->verdict == PASS ? "ok" : "wrong");
}

/* ---- The client ---- */

bool client_has_command(const struct trial *trial)
{
    return trial->client->choice->command != NULL;
}

void client_start(struct trial *trial, enum client_task task)
{
    struct client *client = trial->client;
    const char *const name = task == TASK_LIST ? "list" : "serial";
    char address[CASE_SERVER_ADDRESS_SIZE + 16], task_variable[32], device[32], id[32],
        reconnect[40], timeout[40];
    if (!client->choice->command) {
        fprintf(stderr, "%s %s: with the client, %s (server %s, busid %s)\n",
                client->conformance_case->id, client->conformance_case->name,
                task == TASK_LIST ? "list the devices" : "open the device, and close it again",
                trial->server->address, busid);
        return;
    }
    snprintf(address, sizeof address, "USBIP_ADDRESS=%s", trial->server->address);
    snprintf(task_variable, sizeof task_variable, "USBIP_TASK=%s", name);
    snprintf(device, sizeof device, "USBIP_BUSID=%s", busid);
    snprintf(id, sizeof id, "USBIP_CASE=%s", client->conformance_case->id);
    snprintf(reconnect, sizeof reconnect, "USBIP_RECONNECT_MS=%d", client->reconnect_ms);
    snprintf(timeout, sizeof timeout, "USBIP_TIMEOUT_MS=%d", CLIENT_TOLD_TIMEOUT_MS);
    const char *const variables[] = {address, task_variable, device, id, reconnect, timeout};
    size_t count = sizeof variables / sizeof variables[0] - !client->told_timeout;
    if (!client_process_start(&client->process, client->choice->command, variables, count))
        trial_fail(trial, "no process for the client: %s", strerror(errno));
    wire_log_add(&trial->log, "- the client starts with task %s", name);
}

/* A connection that has asked for the device; those that only list go unseen. Also true when no
 * more will come. */
static bool has_link(struct trial *trial, void *context)
{
    struct link **found = context;
    struct case_server *server = trial->server;
    for (; !*found && server->links_seen < server->link_count; server->links_seen++) {
        struct link *link = server->links[server->links_seen];
        if (!link->imported && !link->ended)
            break; /* it has asked for nothing yet */
        if (link->imported)
            *found = link;
    }
    return *found || (client_has_command(trial) && !trial->client->process.running);
}

struct link *client_try_link(struct trial *trial, int timeout_ms)
{
    struct link *link = NULL;
    client_wait(trial, has_link, &link, timeout_ms);
    return link;
}

static int start_timeout_ms(const struct trial *trial)
{
    return client_has_command(trial) ? trial->client->choice->timeout_ms : CLIENT_BY_HAND_MS;
}

struct link *client_link(struct trial *trial)
{
    struct link *link = client_try_link(trial, start_timeout_ms(trial));
    if (!link) {
        client_outcome(trial, "no import");
        trial_fail(trial, "the client does not ask for the device");
    }
    return link;
}

struct opening {
    struct link *link;
    uint64_t queued_us; /* since when IN transfers have been seen */
};

static bool is_open(struct trial *trial, void *context)
{
    struct opening *opening = context;
    if (opening->link->ended || (client_has_command(trial) && !trial->client->process.running))
        return true;
    if (link_pending_count(opening->link, trial->server->bulk_in) == 0)
        return false;
    if (opening->queued_us == 0)
        opening->queued_us = case_now_us();
    return trial->server->far_end.open || case_now_us() >= opening->queued_us + NO_DTR_MS * 1000;
}

bool client_await_open(struct trial *trial, struct link *link, int timeout_ms)
{
    struct opening opening = {.link = link};
    return client_wait(trial, is_open, &opening, timeout_ms) && !link->ended &&
           link_pending_count(link, trial->server->bulk_in) > 0;
}

struct link *client_open(struct trial *trial, const struct hooks *hooks)
{
    if (hooks)
        trial->server->hooks = *hooks;
    client_start(trial, TASK_SERIAL);
    struct link *link = client_link(trial);
    if (!client_await_open(trial, link, start_timeout_ms(trial))) {
        client_outcome(trial, "does not open");
        trial_fail(trial, "the client does not open the port: %s",
                   link->ended ? "it closes the connection"
                               : "it queues no bulk IN transfer in time");
    }
    return link;
}

struct queue {
    struct link *link;
    unsigned count;
};

static bool is_queued(struct trial *trial, void *context)
{
    const struct queue *queue = context;
    return link_pending_count(queue->link, trial->server->bulk_in) >= queue->count;
}

bool client_await_in(struct trial *trial, struct link *link, unsigned count)
{
    struct queue queue = {link, count};
    return client_wait(trial, is_queued, &queue, trial->client->choice->timeout_ms);
}

void client_say(struct trial *trial, const void *bytes, size_t size)
{
    client_process_write(&trial->client->process, bytes, size);
}

struct text {
    const char *bytes;
    size_t size;
};

static bool is_heard(struct trial *trial, void *context)
{
    const struct text *text = context;
    const struct client *client = trial->client;
    return client->process.output.size >= client->heard + text->size || !client->process.running;
}

bool client_hears(struct trial *trial, const void *bytes, size_t size)
{
    struct client *client = trial->client;
    struct text text = {bytes, size};
    client_wait(trial, is_heard, &text, client->choice->timeout_ms);
    bool same = client->process.output.size >= client->heard + size &&
                memcmp(client->process.output.data + client->heard, bytes, size) == 0;
    client->heard = client->process.output.size;
    return same;
}

static bool is_among(struct trial *trial, void *context)
{
    const struct text *text = context;
    const struct client *client = trial->client;
    if (client->process.output.size <= client->heard)
        return false;
    return memmem(client->process.output.data + client->heard,
                  client->process.output.size - client->heard, text->bytes, text->size) != NULL;
}

bool client_hears_among(struct trial *trial, const char *words)
{
    struct client *client = trial->client;
    struct text text = {words, strlen(words)};
    bool is = client_wait(trial, is_among, &text, client->choice->timeout_ms);
    client->heard = client->process.output.size;
    return is;
}

/* All byte values, and no two stretches of 256 bytes alike. */
static uint8_t pattern(size_t i)
{
    return (uint8_t)(i + (i >> 8) * 7 + 1);
}

void client_expect_echo(struct trial *trial, size_t size)
{
    if (!client_has_command(trial))
        return;
    uint8_t *bytes = trial_alloc(trial, size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = pattern(i);
    client_say(trial, bytes, size);
    if (!client_hears(trial, bytes, size)) {
        client_outcome(trial, "bytes lost");
        client_fault(trial, "%zu bytes were sent to the device, and did not come back", size);
    }
}

void client_settle(struct trial *trial)
{
    client_expect_echo(trial, SETTLING_BYTES);
}

void client_device_sends(struct trial *trial, const void *bytes, size_t size)
{
    usbip_device_write(trial->server->far_end.device, 1, bytes, size);
}

static bool is_received(struct trial *trial, void *context)
{
    return trial->server->far_end.received.size >= *(size_t *)context;
}

bool client_await_received(struct trial *trial, size_t size, int timeout_ms)
{
    return client_wait(trial, is_received, &size, timeout_ms);
}

/* ---- Reactions ---- */

static bool has_ended(struct trial *trial, void *context)
{
    (void)trial;
    return ((struct link *)context)->ended;
}

bool client_await_end(struct trial *trial, struct link *link, int timeout_ms)
{
    return client_wait(trial, has_ended, link, timeout_ms);
}

struct poke {
    struct link *link;
    struct text text;
};

static bool has_reacted(struct trial *trial, void *context)
{
    struct poke *poke = context;
    return poke->link->ended || is_among(trial, &poke->text);
}

enum reaction client_react(struct trial *trial, struct link *link)
{
    struct client *client = trial->client;
    char words[32];
    snprintf(words, sizeof words, "poke %u\n", ++client->pokes);
    struct poke poke = {link, {words, strlen(words)}};
    if (client_has_command(trial))
        client_say(trial, words, strlen(words));
    client_wait(trial, has_reacted, &poke, client->choice->timeout_ms);
    if (link->ended) {
        client_outcome(trial, "closes");
        return REACTION_CLOSES;
    }
    if (!client_has_command(trial)) {
        client_outcome(trial, "stays");
        return REACTION_GOES_ON;
    }
    bool goes_on = is_among(trial, &poke.text);
    client->heard = client->process.output.size;
    client_outcome(trial, goes_on ? "goes on" : "hangs");
    return goes_on ? REACTION_GOES_ON : REACTION_HANGS;
}

static bool has_exited(struct trial *trial, void *context)
{
    (void)context;
    return !trial->client->process.running;
}

static void check_exit(struct trial *trial, enum client_end how)
{
    const struct client_process *process = &trial->client->process;
    if (WIFSIGNALED(process->status)) {
        client_outcome(trial, "signal %d", WTERMSIG(process->status));
        client_fault(trial, "the client was ended by signal %d", WTERMSIG(process->status));
        return;
    }
    const int status = WEXITSTATUS(process->status);
    client_outcome(trial, "exit %d", status);
    if (how == CLIENT_WELL && status != 0)
        client_fault(trial, "the client ends with status %d: %.200s", status, process->error_text);
    else if (how == CLIENT_FAILS && status == 0)
        client_fault(trial, "the client ends as if all was well");
    else if (how == CLIENT_FAILS && process->error_size == 0)
        client_fault(trial, "the client says nothing on standard error");
}

void client_await_exit(struct trial *trial, struct link *link, enum client_end how, int timeout_ms)
{
    if (!client_has_command(trial)) {
        if (link && !client_await_end(trial, link, CLIENT_BY_HAND_MS))
            client_outcome(trial, "stays");
        return;
    }
    if (client_wait(trial, has_exited, NULL, timeout_ms)) {
        check_exit(trial, how);
        return;
    }
    client_outcome(trial, "does not end");
    client_fault(trial, "the client does not end within %d ms", timeout_ms);
}

void client_finish(struct trial *trial, struct link *link, enum client_end how)
{
    if (client_has_command(trial))
        client_process_end_input(&trial->client->process);
    client_await_exit(trial, link, how, trial->client->choice->timeout_ms);
}

void client_must_close(struct trial *trial, struct link *link)
{
    if (client_react(trial, link) == REACTION_CLOSES) {
        client_after_close(trial, link);
        return;
    }
    client_fault(trial, "the client does not close the connection");
    client_finish(trial, link, CLIENT_ANYHOW);
}

void client_after_close(struct trial *trial, struct link *link)
{
    if (!client_has_command(trial))
        return;
    bool reconnects = client_try_link(trial, trial->client->choice->timeout_ms) != NULL;
    if (reconnects)
        client_outcome(trial, "reconnects");
    client_finish(trial, link, reconnects ? CLIENT_ANYHOW : CLIENT_FAILS);
}

void client_must_go_on(struct trial *trial, struct link *link)
{
    enum reaction reaction = client_react(trial, link);
    if (reaction != REACTION_GOES_ON)
        client_fault(trial, reaction == REACTION_CLOSES ? "the client closes the connection"
                                                        : "nothing gets through any more");
    client_finish(trial, link, CLIENT_WELL);
}
