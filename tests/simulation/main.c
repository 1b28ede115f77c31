/*
 * Client and emulator joined in memory, under a virtual clock, from a seed:
 *
 *     simulation [--seeds N] [--first SEED] [--seed SEED] [--trace]
 *
 * --seed runs one seed and --trace shows what happens. A failing seed is printed; it replays
 * exactly.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/bus.h"
#include "protocol/ftdi.h"
#include "tests/simulation/model.h"

enum {
    CLIENTS = 2,
    STEPS = 1000,
    REST_ROUNDS = 2000,
    MAX_STEP_US = 3000,
    US_PER_MS = 1000,
    SEEDS_THAT_LEND = 100,
};

struct world {
    struct random random;
    struct usbip_scheduler scheduler;
    struct usbip_bus bus;
    struct usbip_echo echoes[CLIENTS];
    struct model clients[CLIENTS];
};

static const char *const busids[CLIENTS] = {"1-1", "1-2"};
static const char *const names[CLIENTS] = {"client A", "client B"};

static bool add_device(struct world *world, unsigned index, bool is_ftdi)
{
    struct usbip_device_options options = {
        .descriptor = {.bcdUSB = 0x0200,
                       .bMaxPacketSize0 = 64,
                       .idVendor = is_ftdi ? FTDI_VENDOR_ID : 0x1209,
                       .idProduct = is_ftdi ? FTDI_PRODUCT_ID_232 : 0x0001,
                       .bcdDevice = FTDI_BCD_FT232R,
                       .bNumConfigurations = 1},
        .speed = USBIP_SPEED_FULL,
    };
    struct usbip_behaviour behaviour = {&usbip_echo_ops, &world->echoes[index]};
    char error_text[256];
    struct usbip_device *device =
        usbip_device_new(&options, is_ftdi ? &usbip_function_ftdi : &usbip_function_cdc_acm,
                         &behaviour, &world->scheduler, &world->bus.log, error_text);
    if (!device) {
        fprintf(stderr, "simulation: %s\n", error_text);
        return false;
    }
    return usbip_bus_add(&world->bus, device) == 0;
}

static uint64_t now_ms(const struct world *world)
{
    return world->scheduler.now_us / US_PER_MS;
}

static void let_time_pass(struct world *world, uint64_t us)
{
    usbip_scheduler_advance(&world->scheduler, world->scheduler.now_us + us);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (world->clients[i].linked)
            usbip_host_session_advance(world->clients[i].link.host, now_ms(world));
    }
}

static bool connect_client(struct world *world, unsigned index)
{
    /* Mostly its own device, now and then the other one's. */
    unsigned device = random_one_in(&world->random, 8) ? CLIENTS - 1 - index : index;
    return model_connect(&world->clients[index], &world->bus, names[index], busids[device],
                         device == 1);
}

/* A refusal is only right when the other client had, or was getting, the same device meanwhile. */
static const char *check_refusals(struct world *world)
{
    struct model *a = &world->clients[0], *b = &world->clients[1];
    if (a->linked && b->linked && a->busid == b->busid)
        a->contested = b->contested = true;
    if ((a->refused && !a->contested) || (b->refused && !b->contested))
        return "import refused as busy, but nobody else has the device";
    return "";
}

static bool step(struct world *world, unsigned index)
{
    struct model *client = &world->clients[index];
    if (!client->linked)
        return connect_client(world, index);
    link_deliver_some(&client->link, &world->random);
    if (client->refused || random_one_in(&world->random, 150))
        model_disconnect(client);
    else if (client->attached && random_one_in(&world->random, 2))
        model_act(client, &world->random, now_ms(world));
    return true;
}

static const char *failure_of(struct world *world)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        model_compare(&world->clients[i]);
        if (world->clients[i].failure[0])
            return world->clients[i].failure;
    }
    return "";
}

static const char *come_to_rest(struct world *world)
{
    for (unsigned round = 0; round < REST_ROUNDS; round++) {
        bool rest = true;
        for (unsigned i = 0; i < CLIENTS; i++) {
            struct model *client = &world->clients[i];
            if (!client->linked)
                continue;
            link_deliver_all(&client->link);
            rest &= model_settle(client, now_ms(world));
        }
        const char *failure = failure_of(world);
        if (failure[0] || rest)
            return failure;
        let_time_pass(world, MAX_STEP_US);
    }
    return "bytes that were sent never came back, or a transfer has no ending";
}

static const char *run_steps(struct world *world)
{
    for (unsigned i = 0; i < STEPS; i++) {
        unsigned index = random_below(&world->random, CLIENTS);
        const char *failure = check_refusals(world);
        if (failure[0])
            return failure;
        if (!step(world, index))
            return "out of memory";
        failure = failure_of(world);
        if (failure[0])
            return failure;
        if (random_one_in(&world->random, 4))
            let_time_pass(world, random_below(&world->random, MAX_STEP_US));
    }
    return come_to_rest(world);
}

struct counts {
    uint64_t transfers, lent, host_lent;
};

/* Returns whether all went as it must. */
static bool run_seed(uint64_t seed, bool trace, struct counts *counts)
{
    struct world *world = calloc(1, sizeof *world);
    if (!world || !add_device(world, 0, false) || !add_device(world, 1, true)) {
        fprintf(stderr, "simulation: cannot build the devices\n");
        free(world);
        return false;
    }
    world->random.state = seed;
    for (unsigned i = 0; i < CLIENTS; i++)
        world->clients[i].trace = trace;
    char failure[MODEL_FAILURE_SIZE];
    snprintf(failure, sizeof failure, "%s", run_steps(world));
    for (unsigned i = 0; i < CLIENTS; i++) {
        model_free(&world->clients[i]);
        counts->transfers += world->clients[i].endings;
        counts->lent += world->clients[i].lent;
        counts->host_lent += world->clients[i].host_lent;
    }
    usbip_bus_free(&world->bus);
    usbip_scheduler_free(&world->scheduler);
    free(world);
    if (failure[0])
        printf("seed %" PRIu64 " failed: %s\n", seed, failure);
    return !failure[0];
}

static bool parse_number(const char *text, uint64_t *number)
{
    char *end;
    *number = strtoull(text, &end, 10);
    return *text && !*end;
}

int main(int argc, char **argv)
{
    uint64_t first = 1, seeds = 10000;
    bool trace = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--seeds") == 0 && parse_number(value, &seeds)) {
            i++;
        } else if (strcmp(argv[i], "--first") == 0 && parse_number(value, &first)) {
            i++;
        } else if (strcmp(argv[i], "--seed") == 0 && parse_number(value, &first)) {
            seeds = 1;
            i++;
        } else {
            fprintf(stderr,
                    "usage: simulation [--seeds N] [--first SEED] [--seed SEED] [--trace]\n");
            return 2;
        }
    }
    struct counts counts = {0};
    uint64_t failed = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++)
        failed += !run_seed(seed, trace, &counts);
    printf("%" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " transfers, %" PRIu64
           " payloads lent by devices, %" PRIu64 " by hosts, %" PRIu64 " seeds failed\n",
           seeds, first, counts.transfers, counts.lent, counts.host_lent, failed);
    if (failed)
        printf("replay one with: bazel run //tests/simulation -- --trace --seed N\n");
    if (seeds >= SEEDS_THAT_LEND && (counts.lent == 0 || counts.host_lent == 0)) {
        printf("one side lent no payload, so its lending was not tested\n");
        return 1;
    }
    return failed ? 1 : 0;
}
