/* What URBs become in the file, and what of their data tells about the device. */
#include <inttypes.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "capture/recorder_internal.h"
#include "protocol/configuration.h"

enum { EPNUM_MASK = 0x7f }; /* as much of an endpoint number as the format has room for */

/* ---- Requests under way ---- */

static int compare_seqnums(const void *left, const void *right)
{
    const struct request *a = left, *b = right;
    return a->seqnum < b->seqnum ? -1 : a->seqnum > b->seqnum;
}

static struct request *find_request(const struct connection *connection, uint32_t seqnum)
{
    const struct request key = {.seqnum = seqnum};
    struct request *const *node = tfind(&key, &connection->requests, compare_seqnums);
    return node ? *node : NULL;
}

static void remove_request(struct connection *connection, struct request *request)
{
    tdelete(request, &connection->requests, compare_seqnums);
    connection->request_count--;
    if (!request->is_unlink) {
        if (request->previous)
            request->previous->next = request->next;
        else
            connection->first = request->next;
        if (request->next)
            request->next->previous = request->previous;
        else
            connection->last = request->previous;
    }
    free(request);
}

/* A seqnum that is under way already is the new request's from now on. */
static struct request *add_request(struct connection *connection, uint32_t seqnum, bool is_unlink)
{
    struct request *request = find_request(connection, seqnum);
    if (request)
        remove_request(connection, request);
    request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    request->seqnum = seqnum;
    request->is_unlink = is_unlink;
    if (!tsearch(request, &connection->requests, compare_seqnums)) {
        free(request);
        return NULL;
    }
    connection->request_count++;
    if (is_unlink)
        return request;
    request->previous = connection->last;
    if (connection->last)
        connection->last->next = request;
    else
        connection->first = request;
    connection->last = request;
    return request;
}

void recorder_drop_requests(struct connection *connection)
{
    /* The list has no unlinks, the tree has all. */
    tdestroy(connection->requests, free);
    connection->requests = NULL;
    connection->first = connection->last = NULL;
    connection->request_count = 0;
}

static struct unlinked *find_unlinked(struct connection *connection, uint32_t seqnum)
{
    for (unsigned i = 0; i < USBIP_RECORDER_RECENTLY_UNLINKED; i++)
        if (connection->unlinked[i].is_set && connection->unlinked[i].seqnum == seqnum)
            return &connection->unlinked[i];
    return NULL;
}

static void remember_unlinked(struct connection *connection, const struct request *request)
{
    connection->unlinked[connection->next_unlinked++ % USBIP_RECORDER_RECENTLY_UNLINKED] =
        (struct unlinked){
            .is_set = true,
            .seqnum = request->seqnum,
            .in = request->in,
            .is_isoc = request->type == USBIP_USBMON_ISOC,
        };
}

/* ---- Endpoints ---- */

static unsigned endpoint_index(uint8_t address)
{
    return (address & 0x0fu) | (address & USB_DIR_IN ? 0x10u : 0u);
}

static int8_t usbmon_type(uint8_t bmAttributes)
{
    switch (bmAttributes & USB_ENDPOINT_XFERTYPE_MASK) {
    case USB_ENDPOINT_XFER_ISOC:
        return USBIP_USBMON_ISOC;
    case USB_ENDPOINT_XFER_BULK:
        return USBIP_USBMON_BULK;
    case USB_ENDPOINT_XFER_INT:
        return USBIP_USBMON_INT;
    default:
        return USBIP_USBMON_CONTROL;
    }
}

void recorder_learn_endpoints(struct connection *connection)
{
    const struct usbip_recorded_configuration *configuration =
        usbip_recorded_device_configuration(connection->device, connection->bConfigurationValue);
    struct usbip_configuration table;
    if (!configuration ||
        usbip_parse_configuration(configuration->bytes, configuration->size, &table) < 0)
        return;
    memset(connection->endpoint_type, RECORDER_TYPE_UNKNOWN, sizeof connection->endpoint_type);
    for (unsigned i = 0; i < table.endpoint_count; i++) {
        int8_t *type =
            &connection->endpoint_type[endpoint_index(table.endpoints[i].bEndpointAddress)];
        if (*type == RECORDER_TYPE_UNKNOWN)
            *type = usbmon_type(table.endpoints[i].bmAttributes);
    }
}

/* Unknown ones are guessed: only some types have packets, or an interval. */
static uint8_t transfer_type(const struct connection *connection, const struct usbip_header *header)
{
    if (header->ep == 0)
        return USBIP_USBMON_CONTROL;
    if (header->ep < RECORDER_ENDPOINTS / 2) {
        int type = connection->endpoint_type[header->ep + (header->direction ? 0x10u : 0u)];
        if (type != RECORDER_TYPE_UNKNOWN)
            return (uint8_t)type;
    }
    if (header->cmd_submit.number_of_packets > 0 &&
        header->cmd_submit.number_of_packets <= USBIP_MAX_ISO_PACKETS)
        return USBIP_USBMON_ISOC;
    return header->cmd_submit.interval != 0 ? USBIP_USBMON_INT : USBIP_USBMON_BULK;
}

/* ---- Records ---- */

static pcap_usb_header_mmapped usbmon_header(const struct connection *connection,
                                             const struct request *request, uint8_t event)
{
    pcap_usb_header_mmapped header = {
        .id = request->id,
        .event_type = event,
        .transfer_type = request->type,
        .endpoint_number = request->epnum,
        .device_address = connection->device->devnum,
        .bus_id = connection->device->busnum,
        .setup_flag = USBIP_USBMON_NO_SETUP,
        .xfer_flags = request->transfer_flags,
    };
    if (request->type == USBIP_USBMON_INT || request->type == USBIP_USBMON_ISOC)
        header.interval = request->interval;
    return header;
}

/* Data that belongs to a record: as much as there is of it, and how many bytes are missing. */
struct record_data {
    const uint8_t *bytes;
    size_t size, missing;
};

static void write_record(struct connection *connection, const pcap_usb_header_mmapped *header,
                         struct record_data data)
{
    struct usbip_recorder *recorder = connection->recorder;
    usbip_usbmon_file_write(connection->output->file, header, recorder->time_us,
                            recorder->descriptors, data.bytes, data.size, data.missing);
    if (data.missing > 0 && !recorder->cut_told) {
        recorder->cut_told = true;
        recorder_report(recorder,
                        "%s: a transfer of %" PRIu32 " bytes was cut: captures hold %zu of them",
                        connection->name, header->urb_len, data.size);
    }
}

static pcap_usb_header_mmapped submit_header(const struct connection *connection,
                                             const struct request *request)
{
    pcap_usb_header_mmapped header = usbmon_header(connection, request, USBIP_USBMON_SUBMIT);
    header.status = -USBIP_EINPROGRESS;
    header.urb_len = request->length;
    if (request->in)
        header.data_flag = USBIP_USBMON_IN_SUBMIT;
    if (request->type == USBIP_USBMON_CONTROL) {
        header.setup_flag = 0;
        memcpy(&header.s.setup, request->setup, USBIP_SETUP_SIZE);
    }
    return header;
}

static pcap_usb_header_mmapped complete_header(const struct connection *connection,
                                               const struct request *request, int32_t status,
                                               uint32_t actual_length)
{
    pcap_usb_header_mmapped header = usbmon_header(connection, request, USBIP_USBMON_COMPLETE);
    header.status = status;
    header.urb_len = actual_length;
    if (!request->in)
        header.data_flag = USBIP_USBMON_OUT_COMPLETE;
    return header;
}

/* An URB ends without an answer of the device. */
static void write_end(struct connection *connection, const struct request *request, int32_t status)
{
    const pcap_usb_header_mmapped header = complete_header(connection, request, status, 0);
    write_record(connection, &header, (struct record_data){0});
}

/* ---- Descriptors ---- */

/* A GET_DESCRIPTOR that never passed. */
static void write_descriptor(struct connection *connection, uint8_t type, uint8_t index,
                             const uint8_t *bytes, size_t size)
{
    const struct usbip_setup setup = {
        .bmRequestType = USB_DIR_IN,
        .bRequest = USB_REQ_GET_DESCRIPTOR,
        .wValue = (uint16_t)(type << 8 | index),
        .wLength = (uint16_t)size,
    };
    struct request request = {
        .id = ++connection->recorder->last_id,
        .in = true,
        .type = USBIP_USBMON_CONTROL,
        .epnum = USB_DIR_IN,
        .length = (uint32_t)size,
        .transfer_flags = USBIP_URB_DIR_IN,
    };
    usbip_encode_setup(request.setup, &setup);
    pcap_usb_header_mmapped header = submit_header(connection, &request);
    write_record(connection, &header, (struct record_data){0});
    header = complete_header(connection, &request, 0, (uint32_t)size);
    write_record(connection, &header, (struct record_data){.bytes = bytes, .size = size});
}

static void write_unread_descriptors(struct connection *connection)
{
    if (connection->described)
        return;
    connection->described = true;
    if (!connection->has_descriptor) {
        uint8_t bytes[USB_DT_DEVICE_SIZE];
        usbip_recorded_device_descriptor(connection->device, bytes);
        write_descriptor(connection, USB_DT_DEVICE, 0, bytes, sizeof bytes);
    }
    const struct usbip_recorded_configuration *configuration =
        usbip_recorded_device_configuration(connection->device, connection->bConfigurationValue);
    if (!connection->has_configuration && configuration)
        write_descriptor(connection, USB_DT_CONFIG, configuration->index, configuration->bytes,
                         configuration->size);
}

/* What a control request that has succeeded tells about the device. */
static void learn(struct connection *connection, const struct request *request,
                  struct record_data data)
{
    struct usbip_setup setup;
    usbip_decode_setup(request->setup, &setup);
    uint8_t type = (uint8_t)(setup.wValue >> 8), index = (uint8_t)setup.wValue;
    if (setup.bmRequestType == 0 && setup.bRequest == USB_REQ_SET_CONFIGURATION) {
        connection->bConfigurationValue = index;
        recorder_learn_endpoints(connection);
    }
    if (setup.bmRequestType != USB_DIR_IN || setup.bRequest != USB_REQ_GET_DESCRIPTOR ||
        !usbip_recorded_device_learn(connection->device, type, index, data.bytes, data.size))
        return;
    connection->has_descriptor |= type == USB_DT_DEVICE;
    if (type == USB_DT_CONFIG) {
        connection->has_configuration = true;
        recorder_learn_endpoints(connection);
    }
}

/* ---- The URB phase ---- */

static struct payload payload_of(uint32_t data, unsigned descriptors)
{
    return (struct payload){
        .data = data,
        .descriptors = descriptors,
        .size = data + (uint64_t)descriptors * USBIP_ISO_PACKET_DESCRIPTOR_SIZE,
    };
}

/* Of a PDU with this payload only so much is waited for as can be recorded. */
static int64_t urb_pdu_size(struct stream *stream, struct payload payload)
{
    stream->payload = payload;
    return USBIP_HEADER_SIZE +
           (int64_t)(payload.size < USBIP_USBMON_MAX_DATA ? payload.size : USBIP_USBMON_MAX_DATA);
}

/* Cuts a PDU's data from it; what does not fit into a record comes later and is skipped. */
static struct record_data take_data(struct stream *stream, const uint8_t *pdu, size_t size)
{
    size_t have = size - USBIP_HEADER_SIZE;
    stream->skip = stream->payload.size - have;
    size_t data = have < stream->payload.data ? have : stream->payload.data;
    return (struct record_data){
        .bytes = pdu + USBIP_HEADER_SIZE,
        .size = data,
        .missing = stream->payload.data - data,
    };
}

/* Decodes the isochronous descriptors behind the data. Returns how many there are. */
static unsigned take_descriptors(struct connection *connection, const struct stream *stream,
                                 struct record_data data, bool is_complete)
{
    const uint8_t *bytes = data.bytes + data.size;
    if (stream->skip > 0)
        return 0;
    for (unsigned i = 0; i < stream->payload.descriptors; i++) {
        struct usbip_iso_packet_descriptor descriptor;
        usbip_decode_iso_packet_descriptor(bytes, &descriptor);
        bytes += USBIP_ISO_PACKET_DESCRIPTOR_SIZE;
        connection->recorder->descriptors[i] = (usb_isodesc){
            .status = (int32_t)descriptor.status,
            .offset = descriptor.offset,
            .len = is_complete ? descriptor.actual_length : descriptor.length,
        };
    }
    return stream->payload.descriptors;
}

/*
 * The data of an isochronous IN transfer travels without the gaps between its packets, which usbmon
 * shows. What does not fit together stays as it came.
 */
static struct record_data put_gaps(struct usbip_recorder *recorder, const struct request *request,
                                   unsigned count, struct record_data data)
{
    uint64_t packed = 0, end = 0;
    for (unsigned i = 0; i < count; i++) {
        const usb_isodesc *packet = &recorder->descriptors[i];
        uint64_t packet_end = (uint64_t)packet->offset + packet->len;
        packed += packet->len;
        if (packet->len > 0 && packet_end > end)
            end = packet_end;
    }
    if (data.missing > 0 || packed != data.size || end > request->length ||
        end + count * sizeof *recorder->descriptors > USBIP_USBMON_MAX_DATA)
        return data;
    recorder->unpacked.size = 0;
    uint8_t *buffer = usbip_buffer_reserve(&recorder->unpacked, (size_t)end);
    if (!buffer)
        return data;
    memset(buffer, 0, (size_t)end);
    const uint8_t *bytes = data.bytes;
    for (unsigned i = 0; i < count; i++) {
        const usb_isodesc *packet = &recorder->descriptors[i];
        if (packet->len > 0)
            memcpy(buffer + packet->offset, bytes, packet->len);
        bytes += packet->len;
    }
    return (struct record_data){.bytes = buffer, .size = (size_t)end};
}

/* The number of isochronous descriptors that a header announces, or -1 when it cannot be one. */
static int descriptor_count(bool is_isoc, int32_t number_of_packets)
{
    if (!is_isoc || number_of_packets == -1) /* some peers say "none" like that */
        return 0;
    return number_of_packets < 0 || number_of_packets > USBIP_MAX_ISO_PACKETS ? -1
                                                                              : number_of_packets;
}

int64_t recorder_submit_size(struct connection *connection, struct stream *stream)
{
    const struct usbip_header *header = &connection->header;
    bool is_isoc = transfer_type(connection, header) == USBIP_USBMON_ISOC;
    int count = descriptor_count(is_isoc, header->cmd_submit.number_of_packets);
    uint32_t length = header->cmd_submit.transfer_buffer_length;
    if (header->direction != USBIP_DIR_OUT && header->direction != USBIP_DIR_IN)
        return recorder_stop(connection, "CMD_SUBMIT %" PRIu32 " has direction %" PRIu32,
                             header->seqnum, header->direction);
    if (length > INT32_MAX || count < 0)
        return recorder_stop(connection,
                             "CMD_SUBMIT %" PRIu32 " has transfer_buffer_length %" PRIu32
                             " and number_of_packets %" PRId32,
                             header->seqnum, length, header->cmd_submit.number_of_packets);
    return urb_pdu_size(
        stream, payload_of(header->direction == USBIP_DIR_IN ? 0 : length, (unsigned)count));
}

int recorder_submit(struct connection *connection, struct stream *stream, const uint8_t *pdu,
                    size_t size)
{
    const struct usbip_header *header = &connection->header;
    if (connection->request_count == USBIP_RECORDER_MAX_URBS)
        return recorder_stop(connection, "more than %d URBs are under way",
                             USBIP_RECORDER_MAX_URBS);
    struct request *request = add_request(connection, header->seqnum, false);
    if (!request)
        return -1;
    request->id = ++connection->recorder->last_id;
    request->in = header->direction == USBIP_DIR_IN;
    request->type = transfer_type(connection, header);
    request->epnum = (uint8_t)((header->ep & EPNUM_MASK) | (request->in ? USB_DIR_IN : 0u));
    request->length = header->cmd_submit.transfer_buffer_length;
    request->transfer_flags = header->cmd_submit.transfer_flags;
    request->interval = header->cmd_submit.interval;
    memcpy(request->setup, header->cmd_submit.setup, USBIP_SETUP_SIZE);
    if (request->type != USBIP_USBMON_CONTROL || request->setup[0] != USB_DIR_IN ||
        request->setup[1] != USB_REQ_GET_DESCRIPTOR)
        write_unread_descriptors(connection);

    struct record_data data = take_data(stream, pdu, size);
    pcap_usb_header_mmapped record = submit_header(connection, request);
    if (request->type == USBIP_USBMON_ISOC) {
        record.ndesc = take_descriptors(connection, stream, data, false);
        record.s.iso.numdesc = (int32_t)stream->payload.descriptors;
        record.start_frame = header->cmd_submit.start_frame;
    }
    write_record(connection, &record, data);
    return 0;
}

int recorder_cmd_unlink(struct connection *connection)
{
    if (connection->request_count == USBIP_RECORDER_MAX_URBS)
        return recorder_stop(connection, "more than %d URBs are under way",
                             USBIP_RECORDER_MAX_URBS);
    struct request *request = add_request(connection, connection->header.seqnum, true);
    if (!request)
        return -1;
    request->unlink_seqnum = connection->header.cmd_unlink.unlink_seqnum;
    return 0;
}

int64_t recorder_ret_submit_size(struct connection *connection, struct stream *stream)
{
    const struct usbip_header *header = &connection->header;
    const struct request *request = find_request(connection, header->seqnum);
    const struct unlinked *unlinked = find_unlinked(connection, header->seqnum);
    uint32_t length = header->ret_submit.actual_length;
    bool is_submit = request && !request->is_unlink;
    if (!is_submit && !unlinked && length > 0)
        return recorder_stop(connection, "RET_SUBMIT %" PRIu32 " is for no URB that is under way",
                             header->seqnum);
    bool in = is_submit ? request->in : unlinked && unlinked->in;
    bool is_isoc = is_submit ? request->type == USBIP_USBMON_ISOC : unlinked && unlinked->is_isoc;
    int count = descriptor_count(is_isoc, header->ret_submit.number_of_packets);
    if (length > INT32_MAX || count < 0)
        return recorder_stop(connection,
                             "RET_SUBMIT %" PRIu32 " has actual_length %" PRIu32
                             " and number_of_packets %" PRId32,
                             header->seqnum, length, header->ret_submit.number_of_packets);
    return urb_pdu_size(stream, payload_of(in ? length : 0, (unsigned)count));
}

void recorder_ret_submit(struct connection *connection, struct stream *stream, const uint8_t *pdu,
                         size_t size)
{
    const struct usbip_header *header = &connection->header;
    struct request *request = find_request(connection, header->seqnum);
    struct record_data data = take_data(stream, pdu, size);
    if (!request || request->is_unlink)
        return; /* too late: it was unlinked */
    pcap_usb_header_mmapped record = complete_header(connection, request, header->ret_submit.status,
                                                     header->ret_submit.actual_length);
    if (request->type == USBIP_USBMON_ISOC) {
        record.ndesc = take_descriptors(connection, stream, data, true);
        record.s.iso.numdesc = (int32_t)stream->payload.descriptors;
        record.s.iso.error_count = header->ret_submit.error_count;
        record.start_frame = header->ret_submit.start_frame;
        if (request->in)
            data = put_gaps(connection->recorder, request, record.ndesc, data);
    }
    write_record(connection, &record, data);
    if (request->type == USBIP_USBMON_CONTROL && header->ret_submit.status == 0)
        learn(connection, request, data);
    remove_request(connection, request);
}

void recorder_ret_unlink(struct connection *connection)
{
    int32_t status = connection->header.ret_unlink.status;
    struct request *unlink = find_request(connection, connection->header.seqnum);
    if (!unlink || !unlink->is_unlink)
        return;
    struct request *request = find_request(connection, unlink->unlink_seqnum);
    remove_request(connection, unlink);
    if (!request || request->is_unlink)
        return; /* its RET_SUBMIT came before */
    write_end(connection, request, status != 0 ? status : -USBIP_ECONNRESET);
    remember_unlinked(connection, request);
    remove_request(connection, request);
}

void recorder_end_urbs(struct connection *connection)
{
    write_unread_descriptors(connection);
    for (const struct request *request = connection->first; request; request = request->next)
        write_end(connection, request, -USBIP_ESHUTDOWN);
}
