#include "emulator/replay/plan.h"

#include <stdlib.h>
#include <string.h>

#include "emulator/capture/chip.h"
#include "protocol/configuration.h"
#include "protocol/ftdi.h"

enum {
    FULL_SPEED_PACKET_SIZE = 64,
    KEY_SIZE = 6, /* of a setup packet: all but wLength */
    LINE_STATUS_IDLE = FTDI_LINE_STATUS_THRE | FTDI_LINE_STATUS_TEMT,
    MODEM_STATUS_FULL_SPEED = 0x01,
    MODEM_STATUS_HIGH_SPEED = 0x02,
};

/* What is gathered in passing: where halts were cleared. */
struct clearing {
    uint32_t order;
    uint8_t endpoint; /* 0: all, by SET_CONFIGURATION or SET_INTERFACE */
};

struct making {
    struct replay_plan *plan;
    const struct usbip_capture *capture;
    unsigned device;
    struct clearing *clearings;
    uint32_t clearing_count;
    uint32_t answers[USBIP_CAPTURE_ENDPOINTS]; /* of plan->endpoints: their number */
};

static const struct usbip_capture_transfer *transfer_of(const struct making *making, uint32_t index)
{
    return &making->capture->transfers[index];
}

/* Whether the replay has to do with it at all. */
static bool counts(const struct making *making, const struct usbip_capture_transfer *transfer)
{
    return transfer->device == making->device &&
           !(transfer->flags & (USBIP_TRANSFER_REFUSED | USBIP_TRANSFER_INJECTED)) &&
           transfer->type != USB_ENDPOINT_XFER_ISOC;
}

struct replay_endpoint *replay_plan_endpoint(struct replay_plan *plan, uint8_t address)
{
    for (unsigned i = 0; i < plan->endpoint_count; i++) {
        if (plan->endpoints[i].address == address)
            return &plan->endpoints[i];
    }
    return NULL;
}

unsigned replay_plan_port(const struct replay_plan *plan, const uint8_t setup[USBIP_SETUP_SIZE])
{
    struct usbip_setup request;
    usbip_decode_setup(setup, &request);
    unsigned port = request.wIndex & 0xff; /* from 1; 0 is the first, too */
    bool is_for_port =
        (request.bmRequestType & ~USB_DIR_IN) == (USB_TYPE_VENDOR | USB_RECIP_DEVICE) &&
        request.bRequest < FTDI_SIO_READ_EEPROM;
    return is_for_port && port > 0 && port <= plan->ports ? port - 1 : 0;
}

/* ---- Asks ---- */

static bool clears_halts(const struct usbip_capture_transfer *transfer, struct clearing *clearing)
{
    struct usbip_setup setup;
    usbip_decode_setup(transfer->setup, &setup);
    *clearing = (struct clearing){.order = transfer->submit_order};
    if (setup.bmRequestType == USB_RECIP_ENDPOINT && setup.bRequest == USB_REQ_CLEAR_FEATURE &&
        setup.wValue == USB_ENDPOINT_HALT) {
        clearing->endpoint = (uint8_t)setup.wIndex;
        return true;
    }
    return (setup.bmRequestType & ~USB_RECIP_MASK) == 0 &&
           (setup.bRequest == USB_REQ_SET_CONFIGURATION || setup.bRequest == USB_REQ_SET_INTERFACE);
}

static bool ended_well(const struct usbip_capture_transfer *transfer)
{
    return transfer->complete_record != 0 && !(transfer->flags & USBIP_TRANSFER_UNLINKED) &&
           (transfer->status == 0 || transfer->status == -USBIP_EPIPE ||
            transfer->status == -USBIP_EREMOTEIO);
}

bool replay_is_error(int32_t status)
{
    return status == -USBIP_EPROTO || status == -USBIP_EILSEQ || status == -USBIP_ETIME ||
           status == -USBIP_EOVERFLOW;
}

static bool is_replayed_error(const struct making *making,
                              const struct usbip_capture_transfer *transfer)
{
    return making->plan->has_errors && transfer->complete_record != 0 &&
           replay_is_error(transfer->status);
}

static void add_ask(struct replay_plan *plan, uint32_t index, enum replay_ask_kind kind,
                    bool optional)
{
    const uint8_t *setup = plan->capture->transfers[index].setup;
    plan->asks[plan->ask_count++] =
        (struct replay_ask){index, (uint8_t)kind, optional,
                            (uint8_t)(kind == REPLAY_OUT ? 0 : replay_plan_port(plan, setup))};
}

static void add_request(struct making *making, uint32_t index)
{
    struct replay_plan *plan = making->plan;
    const struct usbip_capture_transfer *transfer = transfer_of(making, index);
    if (!(transfer->flags & USBIP_TRANSFER_HAS_SETUP))
        return;
    bool standard = replay_is_standard(transfer->setup);
    if (replay_is_read(transfer->setup)) {
        if (!ended_well(transfer) && !is_replayed_error(making, transfer))
            return;
        plan->reads[plan->read_count++] =
            (struct replay_read){index, standard ? UINT32_MAX : plan->ask_count, 0};
        if (!standard)
            add_ask(plan, index, REPLAY_READ, false);
    } else if (!standard) {
        add_ask(plan, index, REPLAY_WRITE, !ended_well(transfer));
        plan->endpoints[0].asks[plan->endpoints[0].count++] = plan->ask_count - 1;
    } else if (clears_halts(transfer, &making->clearings[making->clearing_count])) {
        making->clearing_count++;
    }
}

/* Whether a halt that began at `since` was cleared before `until`; *next is where to go on looking.
 */
static bool is_cleared(const struct making *making, uint8_t endpoint, uint32_t since,
                       uint32_t until, uint32_t *next)
{
    for (; *next < making->clearing_count; ++*next) {
        const struct clearing *clearing = &making->clearings[*next];
        if (clearing->order > until)
            return false;
        if (clearing->order > since && (clearing->endpoint == endpoint || clearing->endpoint == 0))
            return true;
    }
    return false;
}

/* What was sent to a halted endpoint never reached the device. */
static void drop_refused_out(struct making *making, struct replay_endpoint *endpoint)
{
    struct replay_plan *plan = making->plan;
    uint32_t halted_since = 0, next = 0;
    for (uint32_t i = 0; i < endpoint->count; i++) {
        struct replay_ask *ask = &plan->asks[endpoint->asks[i]];
        const struct usbip_capture_transfer *transfer = transfer_of(making, ask->transfer);
        if (transfer->status != -USBIP_EPIPE || transfer->complete_record == 0)
            continue;
        if (halted_since &&
            !is_cleared(making, endpoint->address, halted_since, transfer->complete_order, &next))
            ask->optional = true;
        else
            halted_since = transfer->complete_order;
    }
}

/* ---- Answers ---- */

static bool is_answer(const struct making *making, const struct usbip_capture_transfer *transfer)
{
    return ended_well(transfer) || is_replayed_error(making, transfer) ||
           (transfer->status == -USBIP_EOVERFLOW && transfer->size > 0);
}

/* How many asks the host had sent before the device said this. */
static uint32_t gate_of(const struct making *making, const struct usbip_capture_transfer *answer)
{
    const struct replay_plan *plan = making->plan;
    uint32_t low = 0, high = plan->ask_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct usbip_capture_transfer *ask = transfer_of(making, plan->asks[middle].transfer);
        if (ask->submit_order < answer->complete_order)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint32_t answer_count(const struct making *making, const struct replay_endpoint *endpoint,
                             const struct usbip_capture_transfer *transfer)
{
    if (!is_answer(making, transfer))
        return 0;
    if (!making->plan->is_ftdi || !endpoint->merges)
        return 1;
    return transfer->size / endpoint->packet_size + 2; /* the last packet, and an error */
}

static int32_t answer_status(const struct making *making,
                             const struct usbip_capture_transfer *transfer)
{
    bool ends_it = transfer->status == -USBIP_EPIPE || is_replayed_error(making, transfer);
    return ends_it ? transfer->status : 0;
}

static void add_answer(struct making *making, struct replay_endpoint *endpoint, uint32_t index)
{
    const struct usbip_capture_transfer *transfer = transfer_of(making, index);
    if (!is_answer(making, transfer))
        return;
    int32_t status = answer_status(making, transfer);
    struct replay_answer answer = {
        .data = transfer->data,
        .size = transfer->size,
        .transfer = index,
        .status = status,
    };
    if (!making->plan->is_ftdi || !endpoint->merges || status == -USBIP_EPIPE) {
        endpoint->answers[endpoint->count++] = answer;
        return;
    }
    answer.status = 0;
    for (uint32_t at = 0; at + FTDI_STATUS_SIZE <= transfer->size; at += endpoint->packet_size) {
        uint32_t rest = transfer->size - at;
        answer.data = transfer->data + at;
        answer.size = rest < endpoint->packet_size ? rest : endpoint->packet_size;
        endpoint->answers[endpoint->count++] = answer;
    }
    if (status != 0)
        endpoint->answers[endpoint->count++] = (struct replay_answer){
            .data = transfer->size > 0 ? transfer->data + transfer->size : NULL,
            .transfer = index,
            .status = status,
        };
}

static int compare_answers(const void *a, const void *b, void *context)
{
    const struct usbip_capture_transfer *transfers = context;
    const struct replay_answer *x = a, *y = b;
    uint32_t i = transfers[x->transfer].complete_order;
    uint32_t j = transfers[y->transfer].complete_order;
    if (i != j)
        return i < j ? -1 : 1;
    return x->data < y->data ? -1 : x->data > y->data;
}

/* An FTDI packet that says nothing new: the chip sends them by its timer, so does the replay. */
static bool is_idle(const struct replay_answer *answer, const uint8_t status[2])
{
    return answer->status == 0 && answer->size == FTDI_STATUS_SIZE &&
           memcmp(answer->data, status, FTDI_STATUS_SIZE) == 0;
}

/* In order of time, without what a halt or the latency timer repeats, and with their gates. */
static void finish_answers(struct making *making, struct replay_endpoint *endpoint)
{
    bool is_ftdi = making->plan->is_ftdi && endpoint->merges, has_status = false;
    uint32_t kept = 0, halted_since = 0, next = 0;
    const uint8_t *status = endpoint->status;
    qsort_r(endpoint->answers, endpoint->count, sizeof *endpoint->answers, compare_answers,
            making->capture->transfers);
    for (uint32_t i = 0; i < endpoint->count; i++) {
        struct replay_answer answer = endpoint->answers[i];
        const struct usbip_capture_transfer *transfer = transfer_of(making, answer.transfer);
        if (answer.status == -USBIP_EPIPE) {
            if (halted_since && !is_cleared(making, endpoint->address, halted_since,
                                            transfer->complete_order, &next))
                continue;
            halted_since = transfer->complete_order;
        } else if (is_ftdi && answer.status == 0) {
            if (!has_status)
                memcpy(endpoint->status, answer.data, FTDI_STATUS_SIZE);
            has_status = true;
            if (is_idle(&answer, status))
                continue;
            status = answer.data;
        } else if (answer.status == 0 && answer.size == 0 && !endpoint->merges) {
            continue; /* an interrupt endpoint that was asked and had nothing */
        }
        answer.gate = gate_of(making, transfer);
        endpoint->answers[kept++] = answer;
    }
    endpoint->count = kept;
}

/* ---- Reads ---- */

static int compare_reads(const void *a, const void *b, void *context)
{
    const struct usbip_capture_transfer *transfers = context;
    const struct replay_read *x = a, *y = b;
    int order = memcmp(transfers[x->transfer].setup, transfers[y->transfer].setup, KEY_SIZE);
    if (order != 0)
        return order;
    return x->transfer < y->transfer ? -1 : x->transfer > y->transfer;
}

struct replay_read *replay_plan_find_read(struct replay_plan *plan,
                                          const uint8_t setup[USBIP_SETUP_SIZE], uint32_t *count)
{
    const struct usbip_capture_transfer *transfers = plan->capture->transfers;
    uint32_t low = 0, high = plan->read_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (memcmp(transfers[plan->reads[middle].transfer].setup, setup, KEY_SIZE) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *count = 0;
    while (low + *count < plan->read_count &&
           memcmp(transfers[plan->reads[low + *count].transfer].setup, setup, KEY_SIZE) == 0)
        ++*count;
    return *count > 0 ? &plan->reads[low] : NULL;
}

bool replay_plan_was_silent(const struct replay_plan *plan, const uint8_t setup[USBIP_SETUP_SIZE])
{
    for (uint32_t i = 0; i < plan->capture->transfer_count; i++) {
        const struct usbip_capture_transfer *transfer = &plan->capture->transfers[i];
        if (transfer->device == plan->device && transfer->flags & USBIP_TRANSFER_HAS_SETUP &&
            transfer->flags & USBIP_TRANSFER_UNLINKED &&
            memcmp(transfer->setup, setup, KEY_SIZE) == 0)
            return true;
    }
    return false;
}

/* ---- The plan ---- */

static void add_endpoint(struct replay_plan *plan, uint8_t address, uint8_t type,
                         uint16_t packet_size, bool high_speed)
{
    if (type == USB_ENDPOINT_XFER_ISOC || plan->endpoint_count == USBIP_CAPTURE_ENDPOINTS ||
        replay_plan_endpoint(plan, address))
        return;
    plan->endpoints[plan->endpoint_count++] = (struct replay_endpoint){
        .address = address,
        .merges = type == USB_ENDPOINT_XFER_BULK,
        .packet_size = packet_size > FTDI_STATUS_SIZE ? packet_size : FULL_SPEED_PACKET_SIZE,
        .status = {high_speed ? MODEM_STATUS_HIGH_SPEED : MODEM_STATUS_FULL_SPEED,
                   LINE_STATUS_IDLE},
    };
}

static int add_endpoints(struct replay_plan *plan, const struct usbip_description *description)
{
    struct usbip_configuration *configuration = malloc(sizeof *configuration);
    if (!configuration)
        return -1;
    plan->endpoint_count = 1; /* endpoint 0 */
    if (usbip_parse_configuration(description->configuration, description->configuration_size,
                                  configuration) == 0) {
        for (unsigned i = 0; i < configuration->endpoint_count; i++) {
            const struct usbip_endpoint_descriptor *d = &configuration->endpoints[i];
            add_endpoint(plan, d->bEndpointAddress, d->bmAttributes & USB_ENDPOINT_XFERTYPE_MASK,
                         d->wMaxPacketSize & USB_ENDPOINT_MAXP_MASK,
                         description->speed == USBIP_SPEED_HIGH);
        }
    }
    free(configuration);
    return 0;
}

/* Of endpoints that no descriptor has, nothing can be replayed: no host can reach them. */
static struct replay_endpoint *endpoint_of(struct replay_plan *plan,
                                           const struct usbip_capture_transfer *transfer)
{
    return transfer->type == USB_ENDPOINT_XFER_CONTROL
               ? &plan->endpoints[0]
               : replay_plan_endpoint(plan, transfer->endpoint);
}

static int allocate(struct making *making)
{
    struct replay_plan *plan = making->plan;
    uint32_t requests = 0, total = 0;
    for (uint32_t i = 0; i < making->capture->transfer_count; i++) {
        const struct usbip_capture_transfer *transfer = transfer_of(making, i);
        struct replay_endpoint *endpoint =
            counts(making, transfer) ? endpoint_of(plan, transfer) : NULL;
        if (!endpoint)
            continue;
        bool request = endpoint->address == 0;
        requests += request;
        total += request || !usbip_transfer_is_in(transfer);
        making->answers[endpoint - plan->endpoints] +=
            request || !usbip_transfer_is_in(transfer) ? 1
                                                       : answer_count(making, endpoint, transfer);
    }
    /* One more: nothing may be asked of malloc() that has no size. */
    plan->asks = calloc(total + 1u, sizeof *plan->asks);
    plan->reads = calloc(requests + 1u, sizeof *plan->reads);
    making->clearings = calloc(requests + 1u, sizeof *making->clearings);
    bool complete = plan->asks && plan->reads && making->clearings;
    for (unsigned i = 0; i < plan->endpoint_count && complete; i++) {
        struct replay_endpoint *endpoint = &plan->endpoints[i];
        if (endpoint->address & USB_DIR_IN)
            complete = (endpoint->answers =
                            calloc(making->answers[i] + 1u, sizeof *endpoint->answers)) != NULL;
        else
            complete =
                (endpoint->asks = calloc(making->answers[i] + 1u, sizeof *endpoint->asks)) != NULL;
    }
    return complete ? 0 : -1;
}

static void add_transfer(struct making *making, uint32_t index)
{
    struct replay_plan *plan = making->plan;
    const struct usbip_capture_transfer *transfer = transfer_of(making, index);
    struct replay_endpoint *endpoint = endpoint_of(plan, transfer);
    if (!endpoint)
        return;
    if (endpoint->address == 0) {
        if (transfer->submit_record != 0)
            add_request(making, index);
    } else if (usbip_transfer_is_in(transfer)) {
        add_answer(making, endpoint, index);
    } else if (transfer->submit_record != 0) {
        add_ask(plan, index, REPLAY_OUT, !ended_well(transfer) || transfer->size == 0);
        endpoint->asks[endpoint->count++] = plan->ask_count - 1;
    }
}

int replay_plan_make(struct replay_plan *plan, const struct usbip_capture *capture, unsigned device,
                     const struct usbip_description *description, bool has_errors)
{
    struct making making = {.plan = plan, .capture = capture, .device = device};
    const struct usbip_chip *chip = description->chip;
    *plan = (struct replay_plan){
        .capture = capture,
        .device = device,
        .ports = 1,
        .has_errors = has_errors,
    };
    if (chip && chip->family == USBIP_CHIP_FTDI) {
        plan->is_ftdi = true;
        plan->ports = chip->ports < REPLAY_MAX_PORTS ? chip->ports : REPLAY_MAX_PORTS;
    }
    int status = add_endpoints(plan, description);
    if (status == 0)
        status = allocate(&making);
    if (status == 0) {
        for (uint32_t i = 0; i < capture->transfer_count; i++) {
            if (counts(&making, transfer_of(&making, i)))
                add_transfer(&making, i);
        }
        for (unsigned i = 1; i < plan->endpoint_count; i++) {
            if (plan->endpoints[i].address & USB_DIR_IN)
                finish_answers(&making, &plan->endpoints[i]);
            else
                drop_refused_out(&making, &plan->endpoints[i]);
        }
        qsort_r(plan->reads, plan->read_count, sizeof *plan->reads, compare_reads,
                capture->transfers);
    }
    free(making.clearings);
    if (status < 0)
        replay_plan_free(plan);
    return status;
}

void replay_plan_free(struct replay_plan *plan)
{
    for (unsigned i = 0; i < plan->endpoint_count; i++) {
        free(plan->endpoints[i].answers);
        free(plan->endpoints[i].asks);
    }
    free(plan->asks);
    free(plan->reads);
    *plan = (struct replay_plan){0};
}
