#include "tests/throughput/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/connection.h"

/* The devices beside this file say by their ids what they do. */
enum { BENCH_VENDOR = 0x1209, ECHO = 0x000a, SINK = 0x000b, SOURCE = 0x000c, FTDI = 0x0403 };

static bool is(const struct device *device, uint16_t product)
{
    return device->idVendor == BENCH_VENDOR && device->idProduct == product;
}

bool device_suits(const struct device *device, int index, const struct options *options,
                  enum test test)
{
    bool known = is(device, ECHO) || is(device, SINK) || is(device, SOURCE);
    bool control = test == TEST_PING || test == TEST_PIPELINE;
    if (options->chose_tests && !options->tests[test])
        return false;
    if (control)
        return index == 0; /* where it is answered does not depend on the device */
    if (!known)
        return options->chose_tests;
    return is(device, test == TEST_OUT ? SINK : test == TEST_IN ? SOURCE : ECHO);
}

const char *device_objects(const struct device *device, const struct load *load)
{
    bool reads = load->test == TEST_IN || load->test == TEST_ECHO;
    if (reads && device->idVendor == FTDI)
        return "FTDI puts two bytes of status into each packet; use the test serial";
    if (load->test == TEST_IN && load->size % device->bulk_in_packet != 0)
        return "a source fills whole packets, and this is no multiple of them";
    if ((uint64_t)load->size * load->depth * load->connections > MAX_IN_FLIGHT)
        return "more than 64 MiB would be in flight";
    return NULL;
}

/* ---- Finding ---- */

static bool keep_busid(struct device *device, unsigned index,
                       const struct usbip_listed_device *listed)
{
    device->busids[index] = strdup(listed->record.busid);
    device->idVendor = listed->record.idVendor;
    device->idProduct = listed->record.idProduct;
    return device->busids[index] != NULL;
}

/* The file's name without folder and ending; a later one of the same name gets its number. */
static void name_after(struct device *devices, unsigned index, const char *script)
{
    const char *slash = strrchr(script, '/'), *name = slash ? slash + 1 : script;
    const char *dot = strrchr(name, '.');
    char *label = devices[index].label;
    int size =
        snprintf(label, LABEL_SIZE, "%.*s", (int)(dot && dot - name < 56 ? dot - name : 56), name);
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(devices[i].label, label) == 0)
            snprintf(label + size, LABEL_SIZE - (size_t)size, "-%u", index + 1);
    }
}

static bool take_scripts(struct device *devices, const struct options *options,
                         const struct usbip_device_list *list, char error_text[ERROR_TEXT_SIZE])
{
    unsigned wanted = options->script_count * options->connections;
    if (list->count != wanted) {
        snprintf(error_text, ERROR_TEXT_SIZE, "the emulator lists %u devices instead of %u",
                 list->count, wanted);
        return false;
    }
    for (unsigned i = 0; i < options->script_count; i++) {
        name_after(devices, i, options->scripts[i]);
        for (unsigned j = 0; j < options->connections; j++) {
            if (!keep_busid(&devices[i], j, &list->devices[i * options->connections + j]))
                return false;
        }
    }
    return true;
}

static bool take_listed(struct device *device, const struct options *options,
                        const struct usbip_device_list *list, char error_text[ERROR_TEXT_SIZE])
{
    unsigned first = 0, found = 0;
    while (options->busid && first < list->count &&
           strcmp(list->devices[first].record.busid, options->busid) != 0)
        first++;
    if (first >= list->count) {
        if (list->count == 0)
            snprintf(error_text, ERROR_TEXT_SIZE, "the server has no device to export");
        else
            snprintf(error_text, ERROR_TEXT_SIZE,
                     "the server lists no device %s; there are %u, the first is %s", options->busid,
                     list->count, list->devices[0].record.busid);
        return false;
    }
    const struct usbip_device_record *wanted = &list->devices[first].record;
    snprintf(device->label, sizeof device->label, "%s", wanted->busid);
    for (unsigned i = 0; i < list->count && found < options->connections; i++) {
        const struct usbip_listed_device *at = &list->devices[(first + i) % list->count];
        if (at->record.idVendor == wanted->idVendor && at->record.idProduct == wanted->idProduct &&
            !keep_busid(device, found++, at))
            return false;
    }
    if (found < options->connections)
        snprintf(error_text, ERROR_TEXT_SIZE,
                 "%u connections need as many devices with the ids %04x:%04x, and there are %u",
                 options->connections, wanted->idVendor, wanted->idProduct, found);
    return found == options->connections;
}

static bool look_at(struct device *device, const char *address, char error_text[ERROR_TEXT_SIZE])
{
    struct attachment attachment;
    if (attach(&attachment, address, device->busids[0], error_text) < 0)
        return false;
    device->bulk_in_packet = attachment.bulk_in_packet;
    detach(&attachment);
    return true;
}

int devices_find(struct device devices[MAX_SCRIPTS], const struct options *options,
                 const char *address, char error_text[ERROR_TEXT_SIZE])
{
    unsigned count = options->script_count > 0 ? options->script_count : 1;
    struct usbip_device_list list;
    memset(devices, 0, MAX_SCRIPTS * sizeof *devices);
    if (usbip_list_devices(address, 0, &list, error_text) < 0)
        return -1;
    bool well = true;
    snprintf(error_text, ERROR_TEXT_SIZE, "out of memory");
    for (unsigned i = 0; i < count && well; i++) {
        devices[i].busids = calloc(options->connections + 1, sizeof *devices[i].busids);
        well = devices[i].busids != NULL;
    }
    well =
        well && (options->script_count > 0 ? take_scripts(devices, options, &list, error_text)
                                           : take_listed(&devices[0], options, &list, error_text));
    usbip_device_list_free(&list);
    for (unsigned i = 0; i < count && well; i++)
        well = look_at(&devices[i], address, error_text);
    if (well)
        return (int)count;
    devices_free(devices, (int)count);
    return -1;
}

void devices_free(struct device devices[MAX_SCRIPTS], int count)
{
    for (int i = 0; i < count; i++) {
        for (unsigned j = 0; devices[i].busids && devices[i].busids[j]; j++)
            free((void *)devices[i].busids[j]);
        free(devices[i].busids);
        devices[i].busids = NULL;
    }
}
