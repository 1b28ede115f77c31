/* B. What OP_REP_DEVLIST says about the devices. */
#include <inttypes.h>
#include <string.h>

#include "tests/conformance/trial.h"

enum {
    BUSID_OFFSET = USBIP_PATH_SIZE,
    CHURN_ROUNDS = 10,
    CHURN_LISTS = 10,
    CHURN_MS = 5,
    CHURN_LEFT_MS = 10
};

static void record_layout(struct trial *trial)
{
    struct wire *wire = trial_connect(trial);
    struct devlist list;
    size_t left;
    trial_send_op(wire, USBIP_VERSION, OP_REQ_DEVLIST, 0);
    trial_read_devlist(trial, wire, &list);
    wire_read_end(wire, &left);
    if (left > 0)
        trial_fail(trial, "%zu bytes follow the last device", left);
}

static void check_string(struct trial *trial, const uint8_t *bytes, size_t size, const char *name)
{
    size_t length = 0;
    while (length < size && bytes[length] != 0)
        length++;
    if (length == size)
        trial_fail(trial, "the %s has no NUL in its %zu bytes", name, size);
    if (length == 0)
        trial_fail(trial, "the %s is empty", name);
    for (size_t i = length; i < size; i++) {
        if (bytes[i] != 0)
            trial_fail(trial, "byte %zu of the %s, behind its NUL, is 0x%02x", i, name, bytes[i]);
    }
}

static void strings(struct trial *trial)
{
    struct devlist list;
    trial_devlist_with_device(trial, &list);
    for (uint32_t i = 0; i < list.count; i++) {
        check_string(trial, list.devices[i].bytes, USBIP_PATH_SIZE, "path");
        check_string(trial, list.devices[i].bytes + BUSID_OFFSET, USBIP_BUSID_SIZE, "busid");
    }
}

static void busid_unique_and_importable(struct trial *trial)
{
    struct devlist list;
    trial_devlist_with_device(trial, &list);
    for (uint32_t i = 0; i < list.count; i++) {
        for (uint32_t j = i + 1; j < list.count; j++) {
            if (strcmp(list.devices[i].record.busid, list.devices[j].record.busid) == 0)
                trial_fail(trial, "two devices have the busid %s", list.devices[i].record.busid);
        }
    }
    trial_import(trial);
}

/* The device under test as it is listed; the case fails when it is not. */
static struct usbip_device_record listed(struct trial *trial)
{
    struct devlist list;
    int index = trial_devlist_with_device(trial, &list);
    if (index < 0)
        trial_fail(trial, "%s is not listed any more", trial->target->record.busid);
    return list.devices[index].record;
}

static struct usbip_device_record imported(struct trial *trial)
{
    struct usbip_device_record record;
    trial_import_record(trial, trial->target->record.busid, &record);
    return record;
}

static void devid_fields(struct trial *trial)
{
    struct usbip_device_record before = listed(trial), after = imported(trial);
    if (before.busnum == 0 || before.devnum == 0)
        trial_fail(trial, "busnum is %" PRIu32 " and devnum %" PRIu32, before.busnum,
                   before.devnum);
    if (before.busnum != after.busnum || before.devnum != after.devnum)
        trial_fail(trial,
                   "%" PRIu32 "-%" PRIu32 " in the list is %" PRIu32 "-%" PRIu32
                   " in the reply to the import",
                   before.busnum, before.devnum, after.busnum, after.devnum);
}

static void speed_valid(struct trial *trial)
{
    uint32_t speed = listed(trial).speed;
    if (speed < USBIP_SPEED_LOW || speed > USBIP_SPEED_SUPER_PLUS)
        trial_fail(trial, "the speed is %" PRIu32, speed);
    /* Packets of 512 bytes are high speed's, and the other way round. */
    uint16_t packet = trial->target->bulk_in_packet;
    if ((speed == USBIP_SPEED_HIGH && packet > 0 && packet != 512) ||
        (speed < USBIP_SPEED_HIGH && packet > 64))
        trial_fail(trial, "the speed is %s, and wMaxPacketSize of a bulk endpoint %u",
                   usbip_speed_name(speed), packet);
}

static void ids_match_descriptor(struct trial *trial)
{
    struct usbip_device_record record = listed(trial);
    struct usbip_device_descriptor d;
    if (usbip_decode_device_descriptor(trial->target->device_descriptor, USB_DT_DEVICE_SIZE, &d) <
        0)
        trial_fail(trial, "the device descriptor is malformed");
    if (record.idVendor != d.idVendor || record.idProduct != d.idProduct ||
        record.bcdDevice != d.bcdDevice)
        trial_fail(trial,
                   "%04x:%04x version %04x are listed, the descriptor has %04x:%04x and %04x",
                   record.idVendor, record.idProduct, record.bcdDevice, d.idVendor, d.idProduct,
                   d.bcdDevice);
    if (record.bDeviceClass != d.bDeviceClass || record.bDeviceSubClass != d.bDeviceSubClass ||
        record.bDeviceProtocol != d.bDeviceProtocol ||
        record.bNumConfigurations != d.bNumConfigurations)
        trial_fail(trial, "class, subclass, protocol or bNumConfigurations differ from the "
                          "descriptor's");
}

static unsigned interface_count(const struct usbip_configuration *table)
{
    unsigned count = 0;
    for (unsigned i = 0; i < table->altsetting_count; i++)
        count += table->altsettings[i].descriptor.bAlternateSetting == 0;
    return count;
}

static void interfaces_listed(struct trial *trial)
{
    struct usbip_device_record record = listed(trial);
    trial_record(trial, "%u interfaces", record.bNumInterfaces);
    if (record.bNumInterfaces == 0)
        trial_fail(trial, "the list has no interfaces, the configuration descriptor has %u",
                   interface_count(&trial->target->configuration));
}

static void interface_count_alt0(struct trial *trial)
{
    struct devlist list;
    int index = trial_devlist_with_device(trial, &list);
    const struct usbip_configuration *table = &trial->target->configuration;
    if (index < 0)
        trial_fail(trial, "%s is not listed any more", trial->target->record.busid);
    if (trial->target->configuration_size == 0)
        trial_fail(trial, "the configuration descriptor could not be read before the first case");
    if (list.devices[index].record.bNumInterfaces == 0) {
        /* Linux lists them when somebody has configured the device. */
        wire_close(trial_configure(trial));
        index = trial_devlist_with_device(trial, &list);
    }
    if (index < 0 || list.devices[index].record.bNumInterfaces == 0)
        trial_not_applicable(trial, "the server lists no interfaces");
    unsigned count = list.devices[index].record.bNumInterfaces, at = 0;
    if (count != interface_count(table))
        trial_fail(trial, "%u interfaces are listed, the configuration has %u", count,
                   interface_count(table));
    for (unsigned i = 0; i < table->altsetting_count; i++) {
        const struct usbip_interface_descriptor *d = &table->altsettings[i].descriptor;
        if (d->bAlternateSetting != 0)
            continue;
        struct usbip_interface_record record;
        usbip_decode_interface_record(
            list.devices[index].interfaces + (size_t)USBIP_INTERFACE_RECORD_SIZE * at++, &record);
        if (record.bInterfaceClass != d->bInterfaceClass ||
            record.bInterfaceSubClass != d->bInterfaceSubClass ||
            record.bInterfaceProtocol != d->bInterfaceProtocol)
            trial_fail(trial,
                       "interface %u is %02x/%02x/%02x in the list and %02x/%02x/%02x in its "
                       "descriptor",
                       d->bInterfaceNumber, record.bInterfaceClass, record.bInterfaceSubClass,
                       record.bInterfaceProtocol, d->bInterfaceClass, d->bInterfaceSubClass,
                       d->bInterfaceProtocol);
    }
}

static void pad_zero(struct trial *trial)
{
    struct devlist list;
    trial_devlist_with_device(trial, &list);
    for (uint32_t i = 0; i < list.count; i++) {
        for (unsigned j = 0; j < list.devices[i].record.bNumInterfaces; j++) {
            uint8_t pad = list.devices[i].interfaces[USBIP_INTERFACE_RECORD_SIZE * j + 3];
            if (pad != 0)
                trial_fail(trial, "%s, interface %u: the fourth byte is 0x%02x",
                           list.devices[i].record.busid, j, pad);
        }
    }
}

static void busy_listed(struct trial *trial)
{
    struct devlist list;
    struct usbip_device_record record;
    const char *busid = trial->target->record.busid;
    trial_import(trial);
    trial_devlist(trial, &list);
    bool found = false;
    for (uint32_t i = 0; i < list.count; i++)
        found |= strcmp(list.devices[i].record.busid, busid) == 0;
    trial_record(trial, found ? "listed" : "hidden");
    if (trial_try_import(trial, trial_connect(trial), busid, &record) == USBIP_ST_OK)
        trial_fail(trial, "%s is attached, and was imported once more", busid);
}

static void unshared_hidden(struct trial *trial)
{
    struct devlist list;
    trial_devlist(trial, &list);
    for (uint32_t i = 0; i < list.count; i++) {
        if (strcmp(list.devices[i].record.busid, trial->target->unshared) == 0)
            trial_fail(trial, "%s is not exported, and is listed", trial->target->unshared);
    }
}

static void multi_device_walk(struct trial *trial)
{
    struct devlist list;
    trial_devlist_with_device(trial, &list);
    for (uint32_t i = 0; i < list.count; i++) {
        if (strcmp(list.devices[i].record.busid, trial->target->other.busid) != 0)
            continue;
        const struct usbip_device_record *record = &list.devices[i].record;
        if (record->idVendor != trial->target->other.idVendor ||
            record->idProduct != trial->target->other.idProduct)
            trial_fail(trial, "%s is another device than before", record->busid);
        trial_record(trial, "%" PRIu32 " devices", list.count);
        return;
    }
    trial_fail(trial, "%s is not listed any more", trial->target->other.busid);
}

static void list_churn(struct trial *trial)
{
    for (int round = 0; round < CHURN_ROUNDS; round++) {
        stimulate_unplug(trial, trial_import(trial), CHURN_MS);
        for (int i = 0; i < CHURN_LISTS; i++) {
            struct wire *wire = trial_connect(trial);
            struct devlist list;
            size_t left;
            trial_send_op(wire, USBIP_VERSION, OP_REQ_DEVLIST, 0);
            trial_read_devlist(trial, wire, &list);
            wire->timeout_ms = CHURN_LEFT_MS; /* some servers do not close it */
            wire_read_end(wire, &left);
            if (left > 0)
                trial_fail(trial, "%zu bytes follow the last device", left);
        }
    }
}

static const struct conformance_case cases[] = {
    {"S017", "record-layout", MUST, CORE, 0,
     "Each device takes 312 bytes and 4 for each interface, and nothing follows the last one.",
     "usbip_protocol.rst, OP_REP_DEVLIST", record_layout, NULL},
    {"S018", "strings", MUST, CORE, NEED_DEVICE,
     "path and busid are strings that end within their fields, filled up with zeros.",
     "usbip_protocol.rst, OP_REP_DEVLIST", strings, NULL},
    {"S019", "busid-unique-and-importable", SHOULD, CORE, NEED_DEVICE,
     "Every device has a busid of its own, by which it can be imported.",
     "usbip_protocol.rst, OP_REQ_IMPORT", busid_unique_and_importable, NULL},
    {"S020", "devid-fields", SHOULD, CORE, NEED_DEVICE,
     "busnum and devnum are not 0, and the same in the list and after the import.",
     "usbip_protocol.rst, devid", devid_fields, NULL},
    {"S021", "speed-valid", MUST, CORE, NEED_DEVICE,
     "The speed is one of 1 to 6 and fits the descriptors: clients refuse 0.",
     "vhci_sysfs.c of the Linux client", speed_valid, NULL},
    {"S022", "ids-match-descriptor", MUST, CORE, NEED_DEVICE,
     "Ids, version and class of the list are those of the device descriptor.",
     "usbip_protocol.rst, OP_REP_DEVLIST", ids_match_descriptor, NULL},
    {"S023", "interfaces-listed", SHOULD, CORE, NEED_DEVICE,
     "The interfaces are listed, also before a client has configured the device.",
     "usbip_protocol.rst, OP_REP_DEVLIST", interfaces_listed, NULL},
    {"S024", "interface-count-alt0", SHOULD, STRICT, NEED_DEVICE,
     "Listed are the interfaces of the configuration, each once, as its first alternate setting.",
     "usbip_protocol.rst, OP_REP_DEVLIST", interface_count_alt0, NULL},
    {"S025", "pad-zero", MUST, STRICT, NEED_DEVICE, "The fourth byte of an interface is 0.",
     "usbip_protocol.rst, OP_REP_DEVLIST", pad_zero, NULL},
    {"S026", "busy-listed", MAY, STRICT, NEED_DEVICE,
     "An attached device may be listed or not, but cannot be imported.", "usbipd.c", busy_listed,
     NULL},
    {"S027", "error-listed", MAY, STRICT, NEED_DEVICE, "A device in error may be listed or not.",
     "usbipd.c", NULL, "no device can be brought into the error state without harm"},
    {"S028", "unshared-hidden", MUST, STRICT, NEED_UNSHARED,
     "A device that is not exported is not listed.", "usbip_protocol.rst, OP_REP_DEVLIST",
     unshared_hidden, NULL},
    {"S029", "multi-device-walk", MUST, STRICT, NEED_DEVICE | NEED_SECOND_DEVICE,
     "A list of several devices with different numbers of interfaces can be walked through.",
     "usbip_protocol.rst, OP_REP_DEVLIST", multi_device_walk, NULL},
    {"S030", "list-churn", MUST, STRICT, NEED_DEVICE | NEED_STIMULUS,
     "While devices come and go, a list always has as many as it announces.",
     "usbip_protocol.rst, OP_REP_DEVLIST", list_churn, NULL},
};

const struct section devlist_content = {"B", "Content of the device list", cases,
                                        sizeof cases / sizeof cases[0]};
