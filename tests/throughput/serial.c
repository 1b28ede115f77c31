#include "tests/throughput/serial.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/port.h"
#include "tests/throughput/client.h"
#include "tests/throughput/pattern.h"
#include "tests/throughput/resources.h"

enum {
    OPEN_TIMEOUT_MS = 20000,
    RETRY_PAUSE_NS = 1000000,
    READ_SIZE = 256 << 10,
    PROBE_PAUSE_MS = 200, /* so that all probes have different values */
};

struct run {
    const struct load *load;
    const struct peer *peer;
    struct sample *sample;
    char *error_text;
    struct usbip_port *port;
    uint64_t sent, received; /* bytes */
};

static uint8_t buffer[PATTERN_MAX_SIZE];

/* Why a call of the library has failed. */
static enum outcome failed(const struct run *run, enum outcome outcome)
{
    snprintf(run->error_text, ERROR_TEXT_SIZE, "%s", usbip_port_error_text(run->port));
    return outcome;
}

static enum outcome check(struct run *run, size_t size)
{
    const uint8_t *expected = pattern_at(run->received);
    size_t i = 0;
    if (memcmp(buffer, expected, size) == 0) {
        run->received += size;
        return MEASURED;
    }
    while (buffer[i] == expected[i])
        i++;
    snprintf(run->error_text, ERROR_TEXT_SIZE,
             "byte %llu of the stream is 0x%02x instead of 0x%02x",
             (unsigned long long)(run->received + i), buffer[i], expected[i]);
    return WRONG_BYTES;
}

static enum outcome exchange(struct run *run)
{
    uint32_t size = run->load->size;
    uint64_t begin_ns = now_ns();
    if (usbip_port_write_all(run->port, pattern_at(run->sent), size, REPLY_TIMEOUT_MS) < 0)
        return failed(run, WRONG_BYTES);
    run->sent += size;
    if (usbip_port_read_all(run->port, buffer, size, REPLY_TIMEOUT_MS) < 0)
        return failed(run, WRONG_BYTES);
    histogram_record(&run->sample->latency, now_ns() - begin_ns);
    return check(run, size);
}

/* Writes what is taken at once and reads what there is, waiting only when nothing was taken. */
static enum outcome stream_some(struct run *run, bool more)
{
    int wrote = 0;
    if (more)
        wrote = usbip_port_write(run->port, pattern_at(run->sent), run->load->size, 0);
    if (wrote < 0)
        return failed(run, WRONG_BYTES);
    run->sent += (uint64_t)wrote;
    if (run->sent == run->received)
        return MEASURED;
    int got = usbip_port_read(run->port, buffer, READ_SIZE, wrote > 0 ? 0 : REPLY_TIMEOUT_MS);
    if (got < 0)
        return failed(run, WRONG_BYTES);
    if (got == 0 && wrote == 0) {
        snprintf(run->error_text, ERROR_TEXT_SIZE, "%llu bytes did not come back",
                 (unsigned long long)(run->sent - run->received));
        return WRONG_BYTES;
    }
    return check(run, (size_t)got);
}

/* For so long; then, in a stream, until all is back. */
static enum outcome run_for(struct run *run, double seconds, bool drain)
{
    uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    enum outcome outcome = MEASURED;
    while (outcome == MEASURED) {
        bool more = now_ns() < end_ns;
        if (!more && (!drain || run->sent == run->received))
            break;
        outcome = run->load->depth == 1 ? exchange(run) : stream_some(run, more);
    }
    return outcome;
}

static double server_cpu_ns(const struct peer *peer)
{
    return peer->server_pid != 0 ? cpu_time_ns(peer->server_pid) : NAN;
}

/*
 * To be opened is news to some devices, and what comes before they are ready again is lost: Linux's
 * gadget hangs up its far end. So single bytes go there, each with the next value, until one comes
 * back; and when the last one is back, nothing of them is left on the way.
 */
static enum outcome find_far_end(struct run *run)
{
    uint64_t end_ns = now_ns() + REPLY_TIMEOUT_MS * UINT64_C(1000000);
    uint8_t sent = 0, back = 0, byte;
    while (back == 0 || back < sent) {
        bool more = back == 0;
        if (more && usbip_port_write_all(run->port, &sent, 1, REPLY_TIMEOUT_MS) < 0)
            return failed(run, WRONG_BYTES);
        if (more)
            sent++;
        int got = usbip_port_read(run->port, &byte, 1, more ? PROBE_PAUSE_MS : REPLY_TIMEOUT_MS);
        if (got < 0)
            return failed(run, WRONG_BYTES);
        if (got == 0 && (!more || now_ns() >= end_ns)) {
            snprintf(run->error_text, ERROR_TEXT_SIZE,
                     "bytes do not come back; serial needs a device that sends back what it gets");
            return WRONG_BYTES;
        }
        if (got > 0 && (byte < back || byte >= sent)) {
            snprintf(run->error_text, ERROR_TEXT_SIZE,
                     "0x%02x came back, and 0x%02x to 0x%02x had been sent", byte, back, sent - 1);
            return WRONG_BYTES;
        }
        if (got > 0)
            back = (uint8_t)(byte + 1);
    }
    return MEASURED;
}

static enum outcome measure(struct run *run)
{
    struct sample *sample = run->sample;
    enum outcome outcome = find_far_end(run);
    if (outcome == MEASURED)
        outcome = run_for(run, warm_up_seconds(run->load), false);
    if (outcome != MEASURED)
        return outcome;
    memset(&sample->latency, 0, sizeof sample->latency);
    uint64_t received = run->received, begin_ns = now_ns();
    double client_ns = cpu_time_ns(0), server_ns = server_cpu_ns(run->peer);
    outcome = run_for(run, run->load->seconds, false);
    if (outcome != MEASURED)
        return outcome;
    sample->seconds = (double)(now_ns() - begin_ns) / 1e9;
    sample->bytes = run->received - received;
    sample->urbs = sample->bytes / run->load->size;
    sample->client_cpu_ns = cpu_time_ns(0) - client_ns;
    sample->server_cpu_ns = server_cpu_ns(run->peer) - server_ns;
    sample->client_rss = resident_bytes(0);
    sample->server_rss = run->peer->server_pid ? resident_bytes(run->peer->server_pid) : NAN;
    return run_for(run, 0, true);
}

/* A server gives a device free some time after the connection before was closed. */
static int open_when_free(struct usbip_port *port)
{
    const struct timespec pause = {.tv_nsec = RETRY_PAUSE_NS};
    uint64_t until_ns = now_ns() + IMPORT_RETRY_MS * UINT64_C(1000000);
    int result;
    while ((result = usbip_port_open(port, OPEN_TIMEOUT_MS)) == USBIP_ERROR_BUSY &&
           now_ns() < until_ns)
        nanosleep(&pause, NULL);
    return result;
}

enum outcome serial_run(const struct load *load, const struct peer *peer, struct sample *sample,
                        char error_text[ERROR_TEXT_SIZE])
{
    struct run run = {.load = load, .peer = peer, .sample = sample, .error_text = error_text};
    enum outcome outcome = NO_RUN;
    memset(sample, 0, sizeof *sample);
    run.port = usbip_port_new(peer->address, peer->busids[0]);
    if (!run.port) {
        snprintf(error_text, ERROR_TEXT_SIZE, "out of memory");
        return NO_RUN;
    }
    usbip_port_set_restore(run.port, false, 0); /* a lost connection is an error here */
    if (open_when_free(run.port) < 0)
        failed(&run, NO_RUN);
    else
        outcome = measure(&run);
    usbip_port_close(run.port);
    usbip_port_free(run.port);
    return outcome;
}
