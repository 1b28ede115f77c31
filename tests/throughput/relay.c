#include "tests/throughput/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/throughput/child.h"
#include "tests/throughput/measurement.h"
#include "tests/throughput/resources.h"

enum {
    READ_SIZE = 256 << 10,
    MAX_ON_THE_WAY = 256 << 20, /* bytes of one direction; more are left in the socket */
    MAX_LINKS = MAX_CONNECTIONS + 1,
};

/* What came with one read. */
struct chunk {
    struct chunk *next;
    uint64_t due_ns;
    size_t size, sent;
    uint8_t data[];
};

struct direction {
    struct chunk *first, *last;
    size_t on_the_way;
    bool ended;     /* nothing more will come */
    bool shut_down; /* and the other side knows */
};

/* A client and its connection to the target; directions[i] goes from sockets[i] to the other. */
struct link {
    int sockets[2];
    struct direction directions[2];
};

struct state {
    const struct relay *relay;
    struct link links[MAX_LINKS];
    unsigned count;
    struct pollfd polls[1 + 2 * MAX_LINKS];
    uint8_t buffer[READ_SIZE];
};

static void close_link(struct state *state, unsigned index)
{
    struct link *link = &state->links[index];
    for (int i = 0; i < 2; i++) {
        struct chunk *next;
        for (struct chunk *chunk = link->directions[i].first; chunk; chunk = next) {
            next = chunk->next;
            free(chunk);
        }
        close(link->sockets[i]);
    }
    *link = state->links[--state->count];
}

static void accept_client(struct state *state, int listener)
{
    char error_text[ERROR_TEXT_SIZE];
    const int on = 1;
    int client = accept(listener, NULL, NULL);
    int target = client >= 0 ? connect_to(state->relay->target, error_text) : -1;
    if (target < 0 || state->count == MAX_LINKS) {
        if (client >= 0)
            close(client);
        if (target >= 0)
            close(target);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(client, F_SETFL, O_NONBLOCK);
    fcntl(target, F_SETFL, O_NONBLOCK);
    state->links[state->count++] = (struct link){.sockets = {client, target}};
}

/* False when the connection is lost. */
static bool take(struct state *state, int from, struct direction *direction)
{
    ssize_t size = recv(from, state->buffer, READ_SIZE, 0);
    if (size < 0)
        return errno == EAGAIN || errno == EINTR;
    if (size == 0) {
        direction->ended = true;
        return true;
    }
    struct chunk *chunk = malloc(sizeof *chunk + (size_t)size);
    if (!chunk)
        return false;
    *chunk = (struct chunk){
        .due_ns = now_ns() + state->relay->one_way_ns,
        .size = (size_t)size,
    };
    memcpy(chunk->data, state->buffer, (size_t)size);
    if (direction->last)
        direction->last->next = chunk;
    else
        direction->first = chunk;
    direction->last = chunk;
    direction->on_the_way += chunk->size;
    return true;
}

/* Passes on what is due, as far as the socket takes it. False when the connection is lost. */
static bool give(int to, struct direction *direction, uint64_t now)
{
    struct chunk *chunk;
    while ((chunk = direction->first) != NULL && chunk->due_ns <= now) {
        ssize_t sent = send(to, chunk->data + chunk->sent, chunk->size - chunk->sent, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        chunk->sent += (size_t)sent;
        if (chunk->sent < chunk->size)
            continue;
        direction->on_the_way -= chunk->size;
        direction->first = chunk->next;
        if (!direction->first)
            direction->last = NULL;
        free(chunk);
    }
    if (!chunk && direction->ended && !direction->shut_down) {
        direction->shut_down = true;
        shutdown(to, SHUT_WR);
    }
    return true;
}

/* What to wait for, and until when. */
static uint64_t prepare_polls(struct state *state, int listener, uint64_t now)
{
    uint64_t due_ns = UINT64_MAX;
    state->polls[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    for (unsigned i = 0; i < state->count; i++) {
        for (int from = 0; from < 2; from++) {
            const struct direction *in = &state->links[i].directions[from];
            const struct chunk *out = state->links[i].directions[!from].first;
            bool takes = !in->ended && in->on_the_way < MAX_ON_THE_WAY;
            bool gives = out && out->due_ns <= now;
            if (out && !gives && out->due_ns < due_ns)
                due_ns = out->due_ns;
            state->polls[1 + 2 * i + (unsigned)from] = (struct pollfd){
                .fd = takes || gives ? state->links[i].sockets[from] : -1,
                .events = (short)((takes ? POLLIN : 0) | (gives ? POLLOUT : 0)),
            };
        }
    }
    return due_ns;
}

static bool turn_link(struct state *state, unsigned index, uint64_t now)
{
    struct link *link = &state->links[index];
    for (int from = 0; from < 2; from++) {
        short ready = state->polls[1 + 2 * index + (unsigned)from].revents;
        if ((ready & (POLLIN | POLLHUP | POLLERR)) && !link->directions[from].ended &&
            !take(state, link->sockets[from], &link->directions[from]))
            return false;
        if (!give(link->sockets[!from], &link->directions[from], now))
            return false;
    }
    return !link->directions[0].shut_down || !link->directions[1].shut_down;
}

static void serve(int listener, void *context)
{
    struct state *state = calloc(1, sizeof *state);
    if (!state)
        return;
    state->relay = context;
    for (;;) {
        uint64_t now = now_ns(), due_ns = prepare_polls(state, listener, now);
        uint64_t wait_ns = due_ns - now;
        struct timespec wait = {
            .tv_sec = (time_t)(wait_ns / 1000000000u),
            .tv_nsec = (long)(wait_ns % 1000000000u),
        };
        unsigned count = state->count; /* those that the poll knows */
        ppoll(state->polls, 1 + 2 * count, due_ns == UINT64_MAX ? NULL : &wait, NULL);
        now = now_ns();
        /* From the last one on, because the last one takes the place of one that is closed. */
        for (unsigned i = count; i > 0; i--) {
            if (!turn_link(state, i - 1, now))
                close_link(state, i - 1);
        }
        if (state->polls[0].revents & POLLIN)
            accept_client(state, listener);
    }
}

bool relay_start(struct relay *relay, const char *target, double round_trip_ms,
                 char error_text[ERROR_TEXT_SIZE])
{
    snprintf(relay->target, sizeof relay->target, "%s", target);
    relay->one_way_ns = (uint64_t)(round_trip_ms * 1e6 / 2);
    relay->pid = child_start(serve, relay, relay->address, error_text);
    return relay->pid > 0;
}

void relay_stop(struct relay *relay)
{
    child_stop(relay->pid);
}
