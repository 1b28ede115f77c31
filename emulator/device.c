#include "emulator/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/device_internal.h"
#include "emulator/session.h"

enum { ERROR_TEXT_SIZE = 256 };

/* ---- Life ---- */

/* What the host has set is forgotten too. */
static void forget_host(struct usbip_device *device)
{
    usbip_device_drop_urbs(device);
    while (device->free_urbs) {
        struct usbip_urb *urb = device->free_urbs;
        device->free_urbs = urb->next;
        free(urb);
    }
    memset(device->endpoints, 0, sizeof device->endpoints);
    memset(device->alternate, 0, sizeof device->alternate);
    device->bConfigurationValue = 0;
    device->remote_wakeup = false;
}

/* The phase begins, if there is one. */
static void settle(struct usbip_device *device, const struct usbip_settling *phase)
{
    const struct usbip_settling *end = device->personality->settling + USBIP_MAX_SETTLING;
    device->settling = NULL;
    if (phase == end || phase->ms == 0)
        return;
    uint64_t due_us = device->scheduler->now_us + phase->ms * UINT64_C(1000);
    /* Out of memory: then it is over at once. */
    if (usbip_timer_arm(device->scheduler, &device->settling_timer, due_us) == 0)
        device->settling = phase;
}

static void on_phase_over(struct usbip_timer *timer)
{
    struct usbip_device *device = timer->user;
    settle(device, device->settling + 1);
}

/* How an import ends now. */
static uint32_t import_status(const struct usbip_device *device)
{
    return device->session    ? device->personality->busy_status
           : device->broken   ? USBIP_ST_DEV_ERR
           : device->settling ? device->settling->status
                              : USBIP_ST_OK;
}

uint32_t usbip_device_claim(struct usbip_device *device, struct usbip_device_session *session)
{
    uint32_t status = import_status(device);
    if (status != USBIP_ST_OK)
        return status;
    if (device->session) {
        usbip_device_session_lose_device(device->session);
        usbip_device_release(device);
    }
    device->session = session;
    usbip_device_faults_attach(device);
    if (device->behaviour.ops->attach)
        device->behaviour.ops->attach(device->behaviour.context);
    return USBIP_ST_OK;
}

void usbip_device_release(struct usbip_device *device)
{
    switch (device->personality->after_client) {
    case USBIP_POWER_CYCLE:
        forget_host(device);
        device->function->type->reset(device->function);
        break;
    case USBIP_BUS_RESET:
        usbip_device_drop_urbs(device);
        usbip_device_reset(device);
        break;
    case USBIP_LEAVE_ALONE:
        usbip_device_drop_urbs(device);
        for (unsigned i = 0; i < ENDPOINT_COUNT; i++)
            device->endpoints[i].halted = false;
        device->function->type->purge(device->function);
        break;
    }
    device->session = NULL;
    if (device->behaviour.ops->detach)
        device->behaviour.ops->detach(device->behaviour.context);
    settle(device, device->personality->settling);
}

bool usbip_device_is_listed(const struct usbip_device *device)
{
    uint32_t status = import_status(device);
    bool attached = device->session || status == USBIP_ST_DEV_BUSY;
    return device->plugged && status != USBIP_ST_NODEV &&
           (!attached || device->personality->lists_attached);
}

void usbip_device_break(struct usbip_device *device)
{
    device->broken = true;
}

bool usbip_device_is_claimed(const struct usbip_device *device)
{
    return device->session != NULL;
}

void usbip_device_set_identity(struct usbip_device *device, uint16_t idVendor, uint16_t idProduct)
{
    device->own_idVendor = device->descriptor.idVendor;
    device->own_idProduct = device->descriptor.idProduct;
    device->descriptor.idVendor = idVendor;
    device->descriptor.idProduct = idProduct;
    device->has_other_identity = true;
}

void usbip_device_unplug(struct usbip_device *device)
{
    usbip_timer_cancel(device->scheduler, &device->plug_timer);
    if (!device->plugged)
        return;
    device->plugged = false;
    if (device->has_other_identity) {
        device->descriptor.idVendor = device->own_idVendor;
        device->descriptor.idProduct = device->own_idProduct;
        device->has_other_identity = false;
    }
    if (device->session)
        usbip_device_session_disconnect(device->session, "unplugged");
}

void usbip_device_plug(struct usbip_device *device)
{
    usbip_timer_cancel(device->scheduler, &device->plug_timer);
    if (device->plugged)
        return;
    device->plugged = true;
    device->broken = false;
    usbip_log(device->log, USBIP_LOG_INFO, "%s: plugged in", device->name);
}

static void plug_again(struct usbip_timer *timer)
{
    usbip_device_plug(timer->user);
}

int usbip_device_plug_after(struct usbip_device *device, uint64_t delay_us)
{
    device->plug_timer.fired = plug_again;
    device->plug_timer.user = device;
    return usbip_timer_arm(device->scheduler, &device->plug_timer,
                           device->scheduler->now_us + delay_us);
}

bool usbip_device_is_plugged(const struct usbip_device *device)
{
    return device->plugged;
}

static bool copy_strings(struct usbip_device *device, const char *const strings[],
                         char error_text[ERROR_TEXT_SIZE])
{
    for (unsigned i = 1; i < USBIP_MAX_STRINGS; i++) {
        if (!strings[i])
            continue;
        uint8_t encoded[USB_DT_STRING_MAX_SIZE];
        if (usbip_encode_string_descriptor(encoded, strings[i]) < 0) {
            snprintf(error_text, ERROR_TEXT_SIZE,
                     "string %u is not valid UTF-8 or longer than 126 UTF-16 units: \"%.60s\"", i,
                     strings[i]);
            return false;
        }
        device->strings[i] = malloc(strlen(strings[i]) + 1);
        if (!device->strings[i]) {
            snprintf(error_text, ERROR_TEXT_SIZE, "out of memory");
            return false;
        }
        strcpy(device->strings[i], strings[i]);
    }
    const uint8_t indices[] = {device->descriptor.iManufacturer, device->descriptor.iProduct,
                               device->descriptor.iSerialNumber};
    for (unsigned i = 0; i < sizeof indices; i++) {
        if (indices[i] >= USBIP_MAX_STRINGS || (indices[i] && !device->strings[indices[i]])) {
            snprintf(error_text, ERROR_TEXT_SIZE,
                     "the device descriptor names string %u, which is not given", indices[i]);
            return false;
        }
    }
    return true;
}

static bool check_descriptor(const struct usbip_device *device, char error_text[ERROR_TEXT_SIZE])
{
    const struct usbip_device_descriptor *d = &device->descriptor;
    if (device->speed != USBIP_SPEED_LOW && device->speed != USBIP_SPEED_FULL &&
        device->speed != USBIP_SPEED_HIGH) {
        snprintf(error_text, ERROR_TEXT_SIZE, "speed %d is not low, full or high",
                 (int)device->speed);
        return false;
    }
    uint8_t size = d->bMaxPacketSize0;
    bool fits = device->speed == USBIP_SPEED_HIGH ? size == 64
                : device->speed == USBIP_SPEED_LOW
                    ? size == 8
                    : size == 8 || size == 16 || size == 32 || size == 64;
    if (!fits) {
        snprintf(error_text, ERROR_TEXT_SIZE,
                 "bMaxPacketSize0 is %u, which USB does not allow at this speed", size);
        return false;
    }
    if (d->bNumConfigurations != 1) {
        snprintf(error_text, ERROR_TEXT_SIZE, "bNumConfigurations is %u; one is supported",
                 d->bNumConfigurations);
        return false;
    }
    return true;
}

/* An address stands for one endpoint: alternate settings of one interface may share it. */
static bool check_endpoints(const struct usbip_configuration *table,
                            char error_text[ERROR_TEXT_SIZE])
{
    const struct usbip_altsetting *owners[ENDPOINT_COUNT] = {NULL};
    for (unsigned i = 0; i < table->altsetting_count; i++) {
        const struct usbip_altsetting *setting = &table->altsettings[i];
        for (unsigned j = 0; j < setting->endpoint_count; j++) {
            uint8_t address = table->endpoints[setting->first_endpoint + j].bEndpointAddress;
            if ((address & ~(USB_DIR_IN | 0x0f)) != 0 || (address & 0x0f) == 0) {
                snprintf(error_text, ERROR_TEXT_SIZE,
                         "bEndpointAddress 0x%02x is not a number from 1 to 15 and a direction",
                         address);
                return false;
            }
            const struct usbip_altsetting **owner = &owners[usbip_endpoint_index(address)];
            if (*owner == setting || (*owner && (*owner)->descriptor.bInterfaceNumber !=
                                                    setting->descriptor.bInterfaceNumber)) {
                snprintf(error_text, ERROR_TEXT_SIZE,
                         "endpoint 0x%02x is there twice, in interfaces %u and %u", address,
                         (*owner)->descriptor.bInterfaceNumber,
                         setting->descriptor.bInterfaceNumber);
                return false;
            }
            *owner = setting;
        }
    }
    return true;
}

static bool check_configuration(struct usbip_device *device, char error_text[ERROR_TEXT_SIZE])
{
    device->configuration = malloc(sizeof *device->configuration);
    if (!device->configuration) {
        snprintf(error_text, ERROR_TEXT_SIZE, "out of memory");
        return false;
    }
    if (usbip_parse_configuration(device->configuration_bytes, device->configuration_size,
                                  device->configuration) < 0) {
        snprintf(error_text, ERROR_TEXT_SIZE, "the configuration descriptor is malformed");
        return false;
    }
    const struct usbip_config_descriptor *d = &device->configuration->descriptor;
    if (d->wTotalLength != device->configuration_size || d->bConfigurationValue == 0) {
        snprintf(error_text, ERROR_TEXT_SIZE,
                 "the configuration descriptor has wTotalLength %u and bConfigurationValue %u; "
                 "they must be %zu and not 0",
                 d->wTotalLength, d->bConfigurationValue, device->configuration_size);
        return false;
    }
    return check_endpoints(device->configuration, error_text);
}

/* Descriptors first, then the function, which looks at them. */
static bool build(struct usbip_device *device, const struct usbip_device_options *given,
                  const struct usbip_function_type *type, char error_text[ERROR_TEXT_SIZE])
{
    struct usbip_device_options options = *given;
    uint8_t described[USBIP_MAX_CONFIGURATION_SIZE];
    if (!options.configuration) {
        if (!type->describe) {
            snprintf(error_text, ERROR_TEXT_SIZE, "a %s device needs a configuration descriptor",
                     type->name);
            return false;
        }
        options.configuration_size = type->describe(&options, described, sizeof described);
        options.configuration = described;
    }
    if (options.configuration_size == 0 ||
        options.configuration_size > USBIP_MAX_CONFIGURATION_SIZE) {
        snprintf(error_text, ERROR_TEXT_SIZE,
                 "the configuration descriptor has %zu bytes (limit %d)",
                 options.configuration_size, USBIP_MAX_CONFIGURATION_SIZE);
        return false;
    }
    device->descriptor = options.descriptor;
    device->speed = options.speed;
    device->configuration_size = options.configuration_size;
    device->configuration_bytes = malloc(options.configuration_size);
    if (!device->configuration_bytes) {
        snprintf(error_text, ERROR_TEXT_SIZE, "out of memory");
        return false;
    }
    memcpy(device->configuration_bytes, options.configuration, options.configuration_size);
    if (!check_descriptor(device, error_text) || !check_configuration(device, error_text) ||
        !copy_strings(device, options.strings, error_text))
        return false;
    device->function = type->create(device, &options.function, error_text);
    return device->function != NULL;
}

struct usbip_device *usbip_device_new(const struct usbip_device_options *options,
                                      const struct usbip_function_type *type,
                                      const struct usbip_behaviour *behaviour,
                                      struct usbip_scheduler *scheduler,
                                      const struct usbip_log *log, char error_text[ERROR_TEXT_SIZE])
{
    struct usbip_device *device = calloc(1, sizeof *device);
    if (!device) {
        snprintf(error_text, ERROR_TEXT_SIZE, "out of memory");
        return NULL;
    }
    device->plugged = true;
    device->behaviour = *behaviour;
    device->scheduler = scheduler;
    device->settling_timer = (struct usbip_timer){.fired = on_phase_over, .user = device};
    device->personality = options->personality ? options->personality : &usbip_personality_strict;
    device->log = log;
    if (!build(device, options, type, error_text)) {
        usbip_device_free(device);
        return NULL;
    }
    if (device->personality->starts_configured) {
        device->bConfigurationValue = device->configuration->descriptor.bConfigurationValue;
        usbip_device_reset(device);
    }
    if (behaviour->ops->start)
        behaviour->ops->start(behaviour->context, device);
    return device;
}

void usbip_device_free(struct usbip_device *device)
{
    if (!device)
        return;
    if (device->function)
        device->function->type->destroy(device->function);
    usbip_timer_cancel(device->scheduler, &device->settling_timer);
    forget_host(device);
    usbip_timer_cancel(device->scheduler, &device->plug_timer);
    usbip_timer_cancel(device->scheduler, &device->faults.leave_timer);
    for (unsigned i = 0; i < USBIP_MAX_STRINGS; i++)
        free(device->strings[i]);
    free(device->configuration);
    free(device->configuration_bytes);
    free(device);
}

/* ---- What it looks like ---- */

void usbip_device_describe(const struct usbip_device *device, struct usbip_device_record *record)
{
    const struct usbip_device_descriptor *d = &device->descriptor;
    record->speed = device->speed;
    record->idVendor = d->idVendor;
    record->idProduct = d->idProduct;
    record->bcdDevice = d->bcdDevice;
    record->bDeviceClass = d->bDeviceClass;
    record->bDeviceSubClass = d->bDeviceSubClass;
    record->bDeviceProtocol = d->bDeviceProtocol;
    record->bConfigurationValue = device->bConfigurationValue;
    record->bNumConfigurations = d->bNumConfigurations;
    struct usbip_interface_record interfaces[UINT8_MAX];
    record->bNumInterfaces = (uint8_t)usbip_device_interfaces(device, interfaces, UINT8_MAX);
}

unsigned usbip_device_interfaces(const struct usbip_device *device,
                                 struct usbip_interface_record *interfaces, unsigned max)
{
    unsigned count = 0;
    if (device->personality->hides_interfaces_until_configured && !device->bConfigurationValue)
        return 0;
    for (unsigned i = 0; i < device->configuration->altsetting_count && count < max; i++) {
        const struct usbip_interface_descriptor *d =
            &device->configuration->altsettings[i].descriptor;
        if (d->bAlternateSetting == 0)
            interfaces[count++] = (struct usbip_interface_record){
                d->bInterfaceClass, d->bInterfaceSubClass, d->bInterfaceProtocol};
    }
    return count;
}

int usbip_device_endpoint_type(const struct usbip_device *device, uint8_t endpoint)
{
    unsigned index = usbip_endpoint_index(endpoint);
    return index == 0                        ? USB_ENDPOINT_XFER_CONTROL
           : device->endpoints[index].exists ? device->endpoints[index].type
                                             : -1;
}

int usbip_device_target_type(const struct usbip_device *device, const struct usbip_header *header)
{
    if (header->ep >= ENDPOINT_COUNT / 2)
        return -1;
    bool in = header->direction == USBIP_DIR_IN;
    return usbip_device_endpoint_type(device, (uint8_t)(header->ep | (in ? USB_DIR_IN : 0u)));
}

const struct usbip_configuration *usbip_device_configuration(const struct usbip_device *device)
{
    return device->configuration;
}

const uint8_t *usbip_device_configuration_bytes(const struct usbip_device *device, size_t *size)
{
    *size = device->configuration_size;
    return device->configuration_bytes;
}

const struct usbip_device_descriptor *usbip_device_descriptor(const struct usbip_device *device)
{
    return &device->descriptor;
}

struct usbip_function *usbip_device_function(const struct usbip_device *device)
{
    return device->function;
}

const struct usbip_range *usbip_device_lasting(const struct usbip_device *device)
{
    return &device->lasting;
}

void usbip_device_set_lasting(struct usbip_device *device, const uint8_t *data, size_t size)
{
    device->lasting = (struct usbip_range){data, size};
}

const struct usbip_behaviour *usbip_device_behaviour(const struct usbip_device *device)
{
    return &device->behaviour;
}

const struct usbip_personality *usbip_device_personality(const struct usbip_device *device)
{
    return device->personality;
}

enum usbip_speed usbip_device_speed(const struct usbip_device *device)
{
    return device->speed;
}

struct usbip_scheduler *usbip_device_scheduler(const struct usbip_device *device)
{
    return device->scheduler;
}

const struct usbip_log *usbip_device_log(const struct usbip_device *device)
{
    return device->log;
}

const char *usbip_device_name(const struct usbip_device *device)
{
    return device->name;
}

const char *usbip_device_product(const struct usbip_device *device)
{
    const char *product = device->strings[device->descriptor.iProduct];
    return product ? product : "";
}

struct usbip_device_counters *usbip_device_counters(struct usbip_device *device)
{
    return &device->counters;
}

/* ---- The behaviour's side ---- */

unsigned usbip_device_port_count(const struct usbip_device *device)
{
    return device->function->port_count;
}

static bool has_port(const struct usbip_device *device, unsigned port)
{
    return port >= 1 && port <= device->function->port_count;
}

size_t usbip_device_write(struct usbip_device *device, unsigned port, const uint8_t *data,
                          size_t size)
{
    return has_port(device, port)
               ? device->function->type->write(device->function, port, data, size)
               : 0;
}

size_t usbip_device_write_room(const struct usbip_device *device, unsigned port)
{
    return has_port(device, port) ? device->function->type->write_room(device->function, port) : 0;
}

void usbip_device_set_modem_state(struct usbip_device *device, unsigned port, unsigned modem)
{
    if (has_port(device, port))
        device->function->type->set_modem_state(device->function, port, modem);
}

unsigned usbip_device_modem_state(const struct usbip_device *device, unsigned port)
{
    return has_port(device, port) ? device->function->type->modem_state(device->function, port) : 0;
}

bool usbip_device_send(struct usbip_device *device, uint8_t endpoint, const uint8_t *data,
                       size_t size)
{
    const struct usbip_function_type *type = device->function->type;
    return type->send && type->send(device->function, endpoint, data, size);
}
