#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/session_internal.h"

enum {
    FIRST_SEQNUM = 2,         /* 0 and 1 are special to some peers */
    LAST_SEQNUM = INT32_MAX,  /* some peers take seqnums for signed */
    FIRST_SLOT_CAPACITY = 64, /* a power of two, as all capacities are */
};

/* ---- Failure ---- */

static void list_remove(struct usbip_host_session *session, struct usbip_transfer *transfer)
{
    if (transfer->previous != NULL)
        transfer->previous->next = transfer->next;
    else
        session->first = transfer->next;
    if (transfer->next != NULL)
        transfer->next->previous = transfer->previous;
    else
        session->last = transfer->previous;
    transfer->next = NULL;
    transfer->previous = NULL;
}

static void free_slot(struct usbip_host_session *session, uint32_t seqnum)
{
    struct slot *slot = &session->slots[seqnum & (session->slot_capacity - 1)];
    assert(slot->seqnum == seqnum);
    memset(slot, 0, sizeof *slot);
    session->slots_used--;
}

/*
 * The caller may reuse the transfer from within `done`, so nothing of it may be left here. A
 * RET_UNLINK that is still to come finds nothing then and is ignored, as it is for any unknown
 * seqnum: servers may hold it back for as long as they like.
 */
static void end_transfer(struct usbip_host_session *session, struct usbip_transfer *transfer,
                         int32_t status, uint32_t actual_length)
{
    free_slot(session, transfer->seqnum);
    if (transfer->unlink_seqnum != 0)
        free_slot(session, transfer->unlink_seqnum);
    list_remove(session, transfer);
    if (transfer == &session->nudge) {
        session->nudge_in_flight = false;
        return; /* it has served its purpose whatever the device says */
    }
    session->in_flight--;
    transfer->status = status;
    transfer->actual_length = actual_length;
    if (transfer->done != NULL)
        transfer->done(transfer);
}

int usbip_host_session_give_up(struct usbip_host_session *session, int error, const char *format,
                               ...)
{
    assert(error < 0);
    if (session->phase == PHASE_FAILED || session->phase == PHASE_DEVLIST_END)
        return session->error;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(session->error_text, sizeof session->error_text, format, arguments);
    va_end(arguments);
    session->error = error;
    session->phase = PHASE_FAILED;
    session->deadline_ms = UINT64_MAX;
    usbip_output_clear(session->output);
    /* A `done` may call almost anything; but nothing adds to the list any more. */
    while (session->first != NULL)
        end_transfer(session, session->first, -USBIP_ESHUTDOWN, 0);
    return error;
}

void usbip_host_session_fail(struct usbip_host_session *session, int error, const char *text)
{
    const char *reason = text != NULL ? text : usbip_error_name(error);
    if (usbip_output_size(session->output) > 0 && session->phase != PHASE_URB) {
        usbip_host_session_give_up(session, error, "%s",
                                   reason); /* the request was not even taken to be sent */
        return;
    }
    switch (session->phase) {
    case PHASE_DEVLIST_HEADER:
    case PHASE_DEVLIST_RECORD:
        usbip_host_session_give_up(session, error, "%s (OP_REP_DEVLIST was not complete)", reason);
        break;
    case PHASE_IMPORT:
        usbip_host_session_give_up(session, error,
                                   "%s (OP_REP_IMPORT of busid %s was not complete)", reason,
                                   session->busid);
        break;
    case PHASE_NEW:
    case PHASE_URB:
    case PHASE_DEVLIST_END:
    case PHASE_FAILED:
        usbip_host_session_give_up(session, error, "%s", reason);
        break;
    }
}

static int fail_memory(struct usbip_host_session *session)
{
    return usbip_host_session_give_up(session, USBIP_ERROR_MEMORY,
                                      "out of memory with %u transfers in flight",
                                      session->in_flight);
}

/* ---- Seqnums ---- */

static int grow_slots(struct usbip_host_session *session)
{
    uint32_t capacity =
        session->slot_capacity == 0 ? FIRST_SLOT_CAPACITY : session->slot_capacity * 2;
    struct slot *slots = calloc(capacity, sizeof *slots);
    if (slots == NULL)
        return USBIP_ERROR_MEMORY;
    for (uint32_t i = 0; i < session->slot_capacity; i++) {
        /* What did not meet under the smaller mask cannot meet under the larger one. */
        if (session->slots[i].seqnum != 0)
            slots[session->slots[i].seqnum & (capacity - 1)] = session->slots[i];
    }
    free(session->slots);
    session->slots = slots;
    session->slot_capacity = capacity;
    return 0;
}

/* Takes a slot under a new seqnum, which it returns; 0 when memory is out. */
static uint32_t take_slot(struct usbip_host_session *session, struct usbip_transfer *transfer,
                          bool is_unlink)
{
    /* Half of the slots stay free: the walk over taken ones is short on average. */
    if (session->slots_used * 2 >= session->slot_capacity && grow_slots(session) != 0)
        return 0;
    for (;;) {
        uint32_t seqnum = session->next_seqnum;
        session->next_seqnum = seqnum == LAST_SEQNUM ? FIRST_SEQNUM : seqnum + 1;
        struct slot *slot = &session->slots[seqnum & (session->slot_capacity - 1)];
        if (slot->seqnum == 0) {
            *slot = (struct slot){.seqnum = seqnum, .is_unlink = is_unlink, .transfer = transfer};
            session->slots_used++;
            return seqnum;
        }
    }
}

static struct usbip_transfer *find_transfer(const struct usbip_host_session *session,
                                            uint32_t seqnum, bool is_unlink)
{
    if (seqnum == 0 || session->slot_capacity == 0)
        return NULL;
    const struct slot *slot = &session->slots[seqnum & (session->slot_capacity - 1)];
    return slot->seqnum == seqnum && slot->is_unlink == is_unlink ? slot->transfer : NULL;
}

static void remember_unlinked(struct usbip_host_session *session, uint32_t seqnum, bool is_in,
                              uint32_t length)
{
    session->unlinked[session->next_unlinked] =
        (struct unlinked){.seqnum = seqnum, .is_in = is_in, .length = length};
    session->next_unlinked = (session->next_unlinked + 1) % USBIP_RECENTLY_UNLINKED;
}

static struct unlinked *find_unlinked(struct usbip_host_session *session, uint32_t seqnum)
{
    if (seqnum == 0)
        return NULL;
    for (unsigned i = 0; i < USBIP_RECENTLY_UNLINKED; i++)
        if (session->unlinked[i].seqnum == seqnum)
            return &session->unlinked[i];
    return NULL;
}

/* ---- Life ---- */

struct usbip_host_session *usbip_host_session_new(const struct usbip_host_session_events *events,
                                                  void *context)
{
    struct usbip_host_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    session->events = *events;
    session->context = context;
    session->output = &session->outputs[0];
    session->taken = &session->outputs[1];
    session->next_seqnum = FIRST_SEQNUM;
    session->deadline_ms = UINT64_MAX;
    return session;
}

void usbip_host_session_free(struct usbip_host_session *session)
{
    if (session == NULL)
        return;
    usbip_host_session_fail(session, USBIP_ERROR_DISCONNECTED, "the session was closed");
    usbip_buffer_free(&session->partial);
    usbip_output_free(&session->outputs[0]);
    usbip_output_free(&session->outputs[1]);
    free(session->slots);
    free(session);
}

int usbip_host_session_error(const struct usbip_host_session *session)
{
    return session->error;
}

const char *usbip_host_session_error_text(const struct usbip_host_session *session)
{
    return session->error_text;
}

unsigned usbip_host_session_in_flight(const struct usbip_host_session *session)
{
    return session->in_flight;
}

/* ---- Output ---- */

size_t usbip_host_session_take_pieces(struct usbip_host_session *session,
                                      const struct usbip_output_piece **pieces, size_t *count)
{
    usbip_output_swap(&session->output, &session->taken);
    *pieces = usbip_output_pieces(session->taken, count);
    return usbip_output_size(session->taken);
}

size_t usbip_host_session_take_output(struct usbip_host_session *session, const uint8_t **data)
{
    const struct usbip_output_piece *pieces;
    size_t count;
    if (usbip_output_size(session->output) == 0)
        return 0;
    if (usbip_output_settle(session->output) < 0) {
        fail_memory(session);
        return 0;
    }
    size_t size = usbip_host_session_take_pieces(session, &pieces, &count);
    *data = pieces->data;
    return size;
}

size_t usbip_host_session_output_size(const struct usbip_host_session *session)
{
    return usbip_output_size(session->output);
}

/* ---- URB phase, from the server ---- */

static bool is_in(const struct usbip_transfer *transfer)
{
    return transfer->type == USB_ENDPOINT_XFER_CONTROL
               ? usbip_setup_direction(&transfer->setup) == USBIP_DIR_IN
               : (transfer->endpoint & USB_DIR_IN) != 0;
}

/*
 * The reply does not tell whether a payload follows: some servers zero its direction, some do not.
 * The transfer with its seqnum does.
 */
static int64_t ret_submit_size(struct usbip_host_session *session,
                               const struct usbip_header *header)
{
    bool in;
    uint32_t length;
    const struct usbip_transfer *transfer = find_transfer(session, header->seqnum, false);
    if (transfer != NULL) {
        in = is_in(transfer);
        length = transfer->length;
    } else {
        const struct unlinked *unlinked = find_unlinked(session, header->seqnum);
        if (unlinked == NULL) {
            return usbip_host_session_give_up(
                session, USBIP_ERROR_PROTOCOL,
                "RET_SUBMIT for seqnum %" PRIu32
                ", which was never submitted or has been answered before",
                header->seqnum);
        }
        in = unlinked->is_in;
        length = unlinked->length;
    }
    uint32_t actual_length = header->ret_submit.actual_length;
    if (actual_length > length) {
        return usbip_host_session_give_up(session, USBIP_ERROR_PROTOCOL,
                                          "RET_SUBMIT for seqnum %" PRIu32
                                          " has actual_length %" PRId32 " where %" PRIu32
                                          " bytes were asked for",
                                          header->seqnum, (int32_t)actual_length, length);
    }
    return in ? USBIP_HEADER_SIZE + (int64_t)actual_length : USBIP_HEADER_SIZE;
}

static int64_t urb_size(struct usbip_host_session *session, const uint8_t *bytes, size_t have)
{
    if (have < USBIP_HEADER_SIZE)
        return USBIP_HEADER_SIZE;
    struct usbip_header header;
    if (usbip_decode_header(bytes, &header) != 0 ||
        (header.command != USBIP_RET_SUBMIT && header.command != USBIP_RET_UNLINK)) {
        return usbip_host_session_give_up(
            session, USBIP_ERROR_PROTOCOL,
            "command %" PRIu32 " where RET_SUBMIT (3) or RET_UNLINK (4) is expected: the "
            "server sent more or less bytes than it announced, or speaks out of turn",
            header.command);
    }
    return header.command == USBIP_RET_UNLINK ? USBIP_HEADER_SIZE
                                              : ret_submit_size(session, &header);
}

static void receive_ret_submit(struct usbip_host_session *session,
                               const struct usbip_header *header, const uint8_t *payload)
{
    struct usbip_transfer *transfer = find_transfer(session, header->seqnum, false);
    if (transfer == NULL) {
        /* Too late for an unlinked transfer: swallowed, and not expected again. */
        find_unlinked(session, header->seqnum)->seqnum = 0;
        return;
    }
    uint32_t actual_length = header->ret_submit.actual_length;
    if (is_in(transfer) && actual_length > 0) {
        transfer->payload = payload;
        if (!transfer->in_place)
            memcpy(transfer->buffer, payload, actual_length);
    }
    int32_t status = header->ret_submit.status;
    if (status > 0)
        status = -status; /* some servers forget the sign */
    if (status == -USBIP_ECONNRESET && transfer->timed_out)
        status = -USBIP_ETIMEDOUT;
    end_transfer(session, transfer, status, actual_length);
}

static void receive_ret_unlink(struct usbip_host_session *session,
                               const struct usbip_header *header)
{
    struct usbip_transfer *transfer = find_transfer(session, header->seqnum, true);
    if (transfer == NULL)
        return; /* RET_SUBMIT came first, or the server invents answers: harmless */
    remember_unlinked(session, transfer->seqnum, is_in(transfer), transfer->length);
    /* Its status is that of the URB on some servers, and 0 may mean lost data: cancelled it is. */
    end_transfer(session, transfer, transfer->timed_out ? -USBIP_ETIMEDOUT : -USBIP_ECONNRESET, 0);
}

static int receive_urb(struct usbip_host_session *session, const uint8_t *bytes,
                       const uint8_t *payload, size_t payload_size)
{
    struct usbip_header header;
    usbip_decode_header(bytes, &header);
    usbip_layout_note(&session->layout, payload_size);
    if (header.command == USBIP_RET_SUBMIT)
        receive_ret_submit(session, &header, payload);
    else
        receive_ret_unlink(session, &header);
    return session->error;
}

static int64_t pdu_size(void *context, const uint8_t *bytes, size_t have)
{
    struct usbip_host_session *session = context;
    switch (session->phase) {
    case PHASE_DEVLIST_HEADER:
    case PHASE_DEVLIST_RECORD:
    case PHASE_IMPORT:
        return usbip_host_session_op_size(session, bytes, have);
    case PHASE_URB:
        return urb_size(session, bytes, have);
    case PHASE_NEW:
        return usbip_host_session_give_up(session, USBIP_ERROR_PROTOCOL,
                                          "the server speaks first: is that a USB/IP server?");
    case PHASE_DEVLIST_END:
    case PHASE_FAILED:
        break;
    }
    return -1;
}

static int pdu(void *context, const uint8_t *bytes, size_t size)
{
    struct usbip_host_session *session = context;
    switch (session->phase) {
    case PHASE_DEVLIST_HEADER:
    case PHASE_DEVLIST_RECORD:
    case PHASE_IMPORT:
        return usbip_host_session_op(session, bytes);
    case PHASE_URB:
        return receive_urb(session, bytes, bytes + USBIP_HEADER_SIZE, size - USBIP_HEADER_SIZE);
    case PHASE_NEW:
    case PHASE_DEVLIST_END:
    case PHASE_FAILED:
        break;
    }
    return -1;
}

static bool is_over(const struct usbip_host_session *session)
{
    return session->phase == PHASE_FAILED || session->phase == PHASE_DEVLIST_END;
}

static int assemble(struct usbip_host_session *session, const uint8_t *data, size_t size)
{
    static const struct usbip_framing framing = {.pdu_size = pdu_size, .pdu = pdu};
    int result = usbip_assemble(&framing, session, &session->partial, data, size);
    if (result < 0) {
        /* No effect when a callback said why, or the device list is complete. */
        fail_memory(session);
    }
    return session->error;
}

int usbip_host_session_receive(struct usbip_host_session *session, const uint8_t *data, size_t size)
{
    if (is_over(session))
        return session->error;
    usbip_layout_begin(&session->layout);
    return assemble(session, data, size);
}

size_t usbip_host_session_expect(struct usbip_host_session *session, uint8_t *memory, size_t size,
                                 uint8_t *input, size_t input_size,
                                 struct usbip_input_piece *pieces)
{
    bool aligned = session->phase == PHASE_URB && session->partial.size == 0;
    return usbip_layout_expect(&session->layout, memory, aligned ? size : 0, input, input_size,
                               pieces);
}

/*
 * Takes PDUs from where they were expected until one came otherwise or not wholly. Returns their
 * number; *taken is that of their bytes.
 */
static unsigned take_expected(struct usbip_host_session *session, size_t size, size_t *taken)
{
    const struct usbip_layout *layout = &session->layout;
    const uint8_t *payload = layout->memory;
    unsigned count = 0;
    for (*taken = 0; count < layout->expected && size - *taken >= USBIP_HEADER_SIZE; count++) {
        const uint8_t *header = layout->headers[count];
        uint32_t payload_size = layout->payload_sizes[count];
        int64_t wanted = urb_size(session, header, USBIP_HEADER_SIZE);
        if (wanted != (int64_t)USBIP_HEADER_SIZE + payload_size || (size_t)wanted > size - *taken ||
            receive_urb(session, header, payload, payload_size) != 0)
            break;
        *taken += (size_t)wanted;
        payload += payload_size;
    }
    return count;
}

int usbip_host_session_received(struct usbip_host_session *session, size_t size)
{
    size_t taken;
    if (is_over(session))
        return session->error;
    usbip_layout_begin(&session->layout);
    unsigned count = take_expected(session, size, &taken);
    if (session->error != 0)
        return session->error;
    usbip_layout_gather(&session->layout, count, taken, size);
    return assemble(session, session->layout.input + taken, size - taken);
}

/* ---- URB phase, to the server ---- */

static uint64_t add_ms(uint64_t now_ms, uint64_t delay_ms)
{
    return now_ms > UINT64_MAX - delay_ms ? UINT64_MAX : now_ms + delay_ms;
}

/* When advance() has something to do for this transfer. */
static uint64_t attention_ms(const struct usbip_transfer *transfer)
{
    if (transfer->unlink_seqnum == 0)
        return transfer->deadline_ms;
    return add_ms(transfer->unlink_sent_ms,
                  transfer->nudged ? USBIP_UNLINK_TIMEOUT_MS : USBIP_UNLINK_NUDGE_MS);
}

static void watch(struct usbip_host_session *session, const struct usbip_transfer *transfer)
{
    uint64_t at_ms = attention_ms(transfer);
    if (at_ms < session->deadline_ms)
        session->deadline_ms = at_ms;
}

static bool is_valid(const struct usbip_transfer *transfer)
{
    if (transfer->length > USBIP_MAX_TRANSFER_LENGTH || transfer->interval > INT32_MAX ||
        (transfer->length > 0 && transfer->buffer == NULL &&
         !(transfer->in_place && is_in(transfer))) ||
        (transfer->transfer_flags & ~(uint32_t)(USBIP_URB_SHORT_NOT_OK | USBIP_URB_ZERO_PACKET)) !=
            0)
        return false;
    switch (transfer->type) {
    case USB_ENDPOINT_XFER_CONTROL:
        return transfer->endpoint == 0 && transfer->length == transfer->setup.wLength;
    case USB_ENDPOINT_XFER_BULK:
    case USB_ENDPOINT_XFER_INT:
        return (transfer->endpoint & 0x0f) != 0 && (transfer->endpoint & 0x70) == 0;
    default:
        return false;
    }
}

static int queue_submit(struct usbip_host_session *session, struct usbip_transfer *transfer,
                        uint64_t now_ms)
{
    bool in = is_in(transfer);
    uint32_t payload_size = in ? 0 : transfer->length;
    bool lent = transfer->in_place && payload_size >= USBIP_OUTPUT_MIN_LOAN;
    size_t size = USBIP_HEADER_SIZE + (lent ? 0 : payload_size);
    uint8_t *out = usbip_buffer_reserve(&session->output->bytes, size);
    uint32_t seqnum = out != NULL ? take_slot(session, transfer, false) : 0;
    if (seqnum == 0)
        return USBIP_ERROR_MEMORY;
    struct usbip_header header = {
        .command = USBIP_CMD_SUBMIT,
        .seqnum = seqnum,
        .devid = session->devid,
        .direction = in ? USBIP_DIR_IN : USBIP_DIR_OUT,
        .ep = transfer->endpoint & 0x0f,
        .cmd_submit = {.transfer_flags = transfer->transfer_flags,
                       .transfer_buffer_length = transfer->length},
    };
    if (transfer->type == USB_ENDPOINT_XFER_CONTROL) {
        usbip_encode_setup(header.cmd_submit.setup, &transfer->setup);
    } else if (transfer->type == USB_ENDPOINT_XFER_INT) {
        /* With 0 a Linux server closes the connection. */
        header.cmd_submit.interval = transfer->interval > 0 ? (int32_t)transfer->interval : 1;
    }
    usbip_encode_header(out, &header);
    if (!lent && payload_size > 0)
        memcpy(out + USBIP_HEADER_SIZE, transfer->buffer, payload_size);
    session->output->bytes.size += size;
    if (lent && usbip_output_lend(session->output,
                                  &(struct usbip_output_piece){transfer->buffer, payload_size,
                                                               USBIP_OUTPUT_LASTING}) < 0) {
        session->output->bytes.size -= size;
        free_slot(session, seqnum);
        return USBIP_ERROR_MEMORY;
    }

    transfer->status = 0;
    transfer->actual_length = 0;
    transfer->payload = NULL;
    transfer->seqnum = seqnum;
    transfer->unlink_seqnum = 0;
    transfer->deadline_ms =
        transfer->timeout_ms > 0 ? add_ms(now_ms, transfer->timeout_ms) : UINT64_MAX;
    transfer->unlink_sent_ms = 0;
    transfer->timed_out = false;
    transfer->nudged = false;
    transfer->next = NULL;
    transfer->previous = session->last;
    if (session->last != NULL)
        session->last->next = transfer;
    else
        session->first = transfer;
    session->last = transfer;
    watch(session, transfer);
    return 0;
}

int usbip_host_session_submit(struct usbip_host_session *session, struct usbip_transfer *transfer,
                              uint64_t now_ms)
{
    if (session->phase == PHASE_FAILED)
        return USBIP_ERROR_DISCONNECTED;
    if (session->phase != PHASE_URB || !is_valid(transfer) ||
        find_transfer(session, transfer->seqnum, false) == transfer)
        return USBIP_ERROR_ARGUMENT;
    if (session->in_flight >= USBIP_MAX_TRANSFERS)
        return USBIP_ERROR_LIMIT;
    int error = queue_submit(session, transfer, now_ms);
    if (error == 0)
        session->in_flight++;
    return error;
}

void usbip_host_session_unlink(struct usbip_host_session *session, struct usbip_transfer *transfer,
                               uint64_t now_ms)
{
    if (session->phase != PHASE_URB ||
        find_transfer(session, transfer->seqnum, false) != transfer || transfer->unlink_seqnum != 0)
        return;
    uint8_t *out = usbip_buffer_reserve(&session->output->bytes, USBIP_HEADER_SIZE);
    uint32_t seqnum = out != NULL ? take_slot(session, transfer, true) : 0;
    if (seqnum == 0) {
        fail_memory(session);
        return;
    }
    usbip_encode_header(out, &(struct usbip_header){
                                 .command = USBIP_CMD_UNLINK,
                                 .seqnum = seqnum,
                                 .devid = session->devid,
                                 .cmd_unlink = {.unlink_seqnum = transfer->seqnum},
                             });
    session->output->bytes.size += USBIP_HEADER_SIZE;
    transfer->unlink_seqnum = seqnum;
    transfer->unlink_sent_ms = now_ms;
    watch(session, transfer);
}

/*
 * A Linux server sends some RET_UNLINK only with the completion of another URB, and GET_STATUS
 * completes on any device, be it with a stall.
 */
static int send_nudge(struct usbip_host_session *session, uint64_t now_ms)
{
    if (session->nudge_in_flight)
        return 0;
    session->nudge = (struct usbip_transfer){
        .type = USB_ENDPOINT_XFER_CONTROL,
        .setup = {.bmRequestType = USB_DIR_IN | USB_TYPE_STANDARD | USB_RECIP_DEVICE,
                  .bRequest = USB_REQ_GET_STATUS,
                  .wLength = GET_STATUS_LENGTH},
        .buffer = session->nudge_data,
        .length = GET_STATUS_LENGTH,
    };
    if (queue_submit(session, &session->nudge, now_ms) != 0)
        return fail_memory(session);
    session->nudge_in_flight = true;
    return 0;
}

/* Returns 0 or a negative error; all transfers have ended then. */
static int attend(struct usbip_host_session *session, struct usbip_transfer *transfer,
                  uint64_t now_ms)
{
    if (transfer->unlink_seqnum == 0) {
        transfer->timed_out = true;
        usbip_host_session_unlink(session, transfer, now_ms);
        return session->error;
    }
    if (!transfer->nudged) {
        transfer->nudged = true;
        /* However late this call is, the nudge gets its time to work. */
        transfer->unlink_sent_ms = now_ms - USBIP_UNLINK_NUDGE_MS;
        return send_nudge(session, now_ms);
    }
    return usbip_host_session_give_up(
        session, USBIP_ERROR_TIMEOUT,
        "no RET_UNLINK for seqnum %" PRIu32 " (endpoint 0x%02x) within %d ms: the server "
        "has lost it; reconnect",
        transfer->seqnum, transfer->endpoint, USBIP_UNLINK_TIMEOUT_MS);
}

int usbip_host_session_advance(struct usbip_host_session *session, uint64_t now_ms)
{
    if (now_ms < session->deadline_ms)
        return session->error;
    session->deadline_ms = UINT64_MAX;
    for (struct usbip_transfer *transfer = session->first; transfer != NULL;
         transfer = transfer->next) {
        if (attention_ms(transfer) <= now_ms && attend(session, transfer, now_ms) != 0)
            break;
        watch(session, transfer);
    }
    return session->error;
}

uint64_t usbip_host_session_deadline_ms(const struct usbip_host_session *session)
{
    return session->deadline_ms;
}
