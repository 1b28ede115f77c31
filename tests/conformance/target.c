#include "tests/conformance/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/cdc.h"
#include "protocol/ftdi.h"
#include "tests/conformance/trial.h"

static void choose(struct trial *trial, struct target *target, const struct target_choice *choice)
{
    struct devlist list;
    trial_devlist(trial, &list);
    for (uint32_t i = 0; i < list.count && i < TARGET_MAX_DEVICES; i++)
        target->devices[target->device_count++] = list.devices[i].record;
    unsigned chosen = target->device_count;
    for (unsigned i = target->device_count; i > 0; i--) {
        const struct usbip_device_record *record = &target->devices[i - 1];
        if (choice->busid ? strcmp(record->busid, choice->busid) == 0
            : choice->by_ids
                ? record->idVendor == choice->idVendor && record->idProduct == choice->idProduct
                : true)
            chosen = i - 1;
    }
    if (chosen == target->device_count) {
        if (choice->busid || choice->by_ids)
            trial_fail(trial, "none of the %u devices that the server lists is the one asked for",
                       target->device_count);
        return;
    }
    target->has_device = true;
    target->record = target->devices[chosen];
    for (unsigned i = target->device_count; i > 0; i--) {
        if (i - 1 != chosen)
            target->other = target->devices[i - 1];
    }
}

static void look_at_endpoints(struct target *target, const struct usbip_altsetting *setting)
{
    const struct usbip_configuration *table = &target->configuration;
    for (unsigned i = 0; i < setting->endpoint_count; i++) {
        const struct usbip_endpoint_descriptor *d = &table->endpoints[setting->first_endpoint + i];
        uint8_t number = d->bEndpointAddress & 0x0f, type = d->bmAttributes & 3;
        bool in = d->bEndpointAddress & USB_DIR_IN;
        uint16_t packet = d->wMaxPacketSize & 0x07ff;
        if (type == USB_ENDPOINT_XFER_BULK && in && !target->bulk_in) {
            target->bulk_in = number;
            target->bulk_in_packet = packet;
        } else if (type == USB_ENDPOINT_XFER_BULK && !in && !target->bulk_out) {
            target->bulk_out = number;
            target->bulk_out_packet = packet;
        } else if (type == USB_ENDPOINT_XFER_INT && in && !target->interrupt_in) {
            target->interrupt_in = number;
            target->interrupt_packet = packet;
            target->interval = d->bInterval > 0 ? d->bInterval : 1;
        }
    }
}

/* Isochronous endpoints are in settings other than the first, which takes no bandwidth. */
static void look_for_isochronous(struct target *target, const struct usbip_altsetting *setting)
{
    for (unsigned i = 0; i < setting->endpoint_count; i++) {
        const struct usbip_endpoint_descriptor *d =
            &target->configuration.endpoints[setting->first_endpoint + i];
        struct target_iso *iso =
            d->bEndpointAddress & USB_DIR_IN ? &target->iso_in : &target->iso_out;
        if ((d->bmAttributes & USB_ENDPOINT_XFERTYPE_MASK) == USB_ENDPOINT_XFER_ISOC &&
            !iso->endpoint)
            *iso = (struct target_iso){.endpoint = d->bEndpointAddress & 0x0f,
                                       .interface = setting->descriptor.bInterfaceNumber,
                                       .alternate = setting->descriptor.bAlternateSetting,
                                       .packet = d->wMaxPacketSize & USB_ENDPOINT_MAXP_MASK};
    }
}

static void look_at_configuration(struct target *target)
{
    const struct usbip_configuration *table = &target->configuration;
    for (unsigned i = 0; i < table->altsetting_count; i++) {
        const struct usbip_altsetting *setting = &table->altsettings[i];
        const struct usbip_interface_descriptor *d = &setting->descriptor;
        look_for_isochronous(target, setting);
        if (d->bAlternateSetting != 0)
            continue;
        look_at_endpoints(target, setting);
        if (d->bInterfaceClass == USB_CLASS_COMM && d->bInterfaceSubClass == CDC_SUBCLASS_ACM &&
            target->acm_interface < 0)
            target->acm_interface = d->bInterfaceNumber;
    }
    if (target->record.idVendor == FTDI_VENDOR_ID && target->bulk_in_packet > FTDI_STATUS_SIZE)
        target->status_bytes = FTDI_STATUS_SIZE;
}

static void read_descriptors(struct trial *trial, struct target *target,
                             const struct target_choice *choice)
{
    (void)choice;
    struct wire *wire = trial_import(trial);
    struct wire_pdu *pdu =
        trial_expect(trial, wire, trial_get_descriptor(wire, USB_DT_DEVICE, 0, 0, 18), 0, 18);
    memcpy(target->device_descriptor, pdu->payload, USB_DT_DEVICE_SIZE);
    pdu = trial_expect(trial, wire, trial_get_descriptor(wire, USB_DT_CONFIG, 0, 0, 9), 0, 9);
    struct usbip_config_descriptor d;
    if (usbip_decode_config_descriptor(pdu->payload, 9, &d) < 0 || d.wTotalLength < 9 ||
        d.wTotalLength > TARGET_MAX_CONFIGURATION)
        trial_fail(trial, "the configuration descriptor is malformed");
    pdu = trial_expect(trial, wire, trial_get_descriptor(wire, USB_DT_CONFIG, 0, 0, d.wTotalLength),
                       0, d.wTotalLength);
    memcpy(target->configuration_bytes, pdu->payload, d.wTotalLength);
    if (usbip_parse_configuration(target->configuration_bytes, d.wTotalLength,
                                  &target->configuration) < 0)
        trial_fail(trial, "the configuration descriptor is malformed");
    target->configuration_size = d.wTotalLength;
    look_at_configuration(target);
}

static void find_stimulus(struct target *target)
{
    if (!target->stimulus && target->record.idVendor == STIMULUS_DEVICE_VENDOR &&
        target->record.idProduct == STIMULUS_DEVICE_PRODUCT)
        target->stimulus = &stimulus_vendor_requests;
}

/* What went wrong, and the last that went over the wire. */
static void explain(const struct trial *trial, char error_text[TARGET_TEXT_SIZE])
{
    const struct wire_log *log = &trial->log;
    const size_t half = WIRE_LOG_LINES / 2;
    const char *line = log->count == 0      ? ""
                       : log->count <= half ? log->first[log->count - 1]
                                            : log->last[(log->count - 1) % half];
    snprintf(error_text, TARGET_TEXT_SIZE, "%.150s (%.100s)", trial->reason, line);
}

int target_find(struct target *target, const struct target_choice *choice,
                char error_text[TARGET_TEXT_SIZE])
{
    target->acm_interface = -1;
    struct trial *trial = calloc(1, sizeof *trial);
    if (!trial)
        abort();
    int result = trial_prepare(trial, target, choose, choice);
    if (result == 0 && target->has_device) {
        find_stimulus(target);
        /* A server that gets even this wrong is worth a report all the same. */
        result = trial_prepare(trial, target, read_descriptors, choice) < 0;
    }
    if (result != 0)
        explain(trial, error_text);
    free(trial);
    return result;
}
