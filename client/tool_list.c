#include <stdio.h>
#include <string.h>

#include "client/tool.h"

/* Text of the server, which must not be able to play with a terminal or break out of a string. */
static void print_json_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < ' ' || c == 0x7f)
            printf("\\u%04x", c);
        else if (c > 0x7f)
            fputs("\\ufffd", stdout); /* the protocol names no encoding */
        else
            putchar(c);
    }
    putchar('"');
}

void tool_print_json(const struct usbip_device_list *list)
{
    putchar('[');
    for (unsigned i = 0; i < list->count; i++) {
        const struct usbip_listed_device *device = &list->devices[i];
        const struct usbip_device_record *record = &device->record;

        printf("%s\n  {\"busid\": ", i > 0 ? "," : "");
        print_json_string(record->busid);
        fputs(", \"path\": ", stdout);
        print_json_string(record->path);
        printf(",\n   \"idVendor\": \"%04x\", \"idProduct\": \"%04x\", \"bcdDevice\": \"%04x\",\n",
               record->idVendor, record->idProduct, record->bcdDevice);
        printf("   \"busnum\": %lu, \"devnum\": %lu, \"speed\": \"%s\",\n",
               (unsigned long)record->busnum, (unsigned long)record->devnum,
               usbip_speed_name(record->speed));
        printf("   \"bDeviceClass\": %u, \"bDeviceSubClass\": %u, \"bDeviceProtocol\": %u,\n",
               record->bDeviceClass, record->bDeviceSubClass, record->bDeviceProtocol);
        printf("   \"bConfigurationValue\": %u, \"bNumConfigurations\": %u,\n   \"interfaces\": [",
               record->bConfigurationValue, record->bNumConfigurations);
        for (unsigned j = 0; j < record->bNumInterfaces; j++) {
            const struct usbip_interface_record *interface = &device->interfaces[j];

            printf("%s{\"bInterfaceClass\": %u, \"bInterfaceSubClass\": %u, "
                   "\"bInterfaceProtocol\": %u}",
                   j > 0 ? ", " : "", interface->bInterfaceClass, interface->bInterfaceSubClass,
                   interface->bInterfaceProtocol);
        }
        fputs("]}", stdout);
    }
    puts(list->count > 0 ? "\n]" : "]");
}

void tool_print_table(const struct usbip_device_list *list)
{
    printf("%-12s %-10s %-8s %-9s %s\n", "BUSID", "ID", "SPEED", "CLASS", "INTERFACES");
    for (unsigned i = 0; i < list->count; i++) {
        const struct usbip_listed_device *device = &list->devices[i];
        const struct usbip_device_record *record = &device->record;
        char busid[USBIP_BUSID_SIZE];

        memcpy(busid, record->busid, sizeof(busid));
        for (char *c = busid; *c != '\0'; c++) {
            if (*c < ' ' || *c > '~')
                *c = '?';
        }
        printf("%-12s %04x:%04x  %-8s %02x/%02x/%02x ", busid, record->idVendor, record->idProduct,
               usbip_speed_name(record->speed), record->bDeviceClass, record->bDeviceSubClass,
               record->bDeviceProtocol);
        for (unsigned j = 0; j < record->bNumInterfaces; j++)
            printf(" %02x/%02x/%02x", device->interfaces[j].bInterfaceClass,
                   device->interfaces[j].bInterfaceSubClass,
                   device->interfaces[j].bInterfaceProtocol);
        putchar('\n');
    }
}
