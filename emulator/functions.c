#include "emulator/function.h"

#include <string.h>

static const struct usbip_function_type *const types[] = {
    &usbip_function_cdc_acm,
    &usbip_function_ftdi,
    &usbip_function_raw,
};

const struct usbip_function_type *usbip_find_function(const char *name)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i]->name, name) == 0)
            return types[i];
    }
    return NULL;
}

const char *usbip_function_names(void)
{
    return "cdc_acm, ftdi, raw";
}
