/* device { … }: the table that says what the device is. */
#include <stddef.h>
#include <string.h>

#include "emulator/script_internal.h"
#include "protocol/ftdi.h"
#include "protocol/usb.h"

enum field_kind {
    FIELD_TYPE,
    FIELD_BEHAVIOUR,
    FIELD_CHIP,
    FIELD_SPEED,
    FIELD_U8,
    FIELD_U16,
    FIELD_BOOLEAN,
    FIELD_STRING,     /* of the device's strings */
    FIELD_STRINGS,    /* a table of them */
    FIELD_DESCRIPTOR, /* 18 bytes */
    FIELD_CONFIGURATION,
    FIELD_LINE_END,
    FIELD_PERSONALITY,
};

enum { IMANUFACTURER = 1, IPRODUCT = 2, ISERIAL = 3 };

#define DESCRIPTOR_FIELD(kind_, field)                                                             \
    {                                                                                              \
        .name = #field, .place = offsetof(struct usbip_device_options, descriptor.field),          \
        .kind = (kind_), .in_descriptor = true                                                     \
    }
#define ENDPOINT_FIELD(field)                                                                      \
    {                                                                                              \
        .name = #field, .place = offsetof(struct usbip_device_options, function.field),            \
        .kind = FIELD_U8                                                                           \
    }

/* In the order in which they are read. */
static const struct field {
    const char *name;
    size_t place; /* in usbip_device_options, or the index of a string */
    enum field_kind kind;
    bool in_descriptor; /* device_descriptor says it too */
} fields[] = {
    {"type", 0, FIELD_TYPE, false},
    {"behaviour", 0, FIELD_BEHAVIOUR, false},
    {"chip", 0, FIELD_CHIP, false},
    {"speed", 0, FIELD_SPEED, false},
    DESCRIPTOR_FIELD(FIELD_U16, bcdUSB),
    DESCRIPTOR_FIELD(FIELD_U8, bDeviceClass),
    DESCRIPTOR_FIELD(FIELD_U8, bDeviceSubClass),
    DESCRIPTOR_FIELD(FIELD_U8, bDeviceProtocol),
    DESCRIPTOR_FIELD(FIELD_U8, bMaxPacketSize0),
    DESCRIPTOR_FIELD(FIELD_U16, idVendor),
    DESCRIPTOR_FIELD(FIELD_U16, idProduct),
    DESCRIPTOR_FIELD(FIELD_U16, bcdDevice),
    {"manufacturer", IMANUFACTURER, FIELD_STRING, true},
    {"product", IPRODUCT, FIELD_STRING, true},
    {"serial", ISERIAL, FIELD_STRING, true},
    {"strings", 0, FIELD_STRINGS, false},
    {"device_descriptor", 0, FIELD_DESCRIPTOR, false},
    {"configuration", 0, FIELD_CONFIGURATION, false},
    ENDPOINT_FIELD(out_endpoint),
    ENDPOINT_FIELD(in_endpoint),
    ENDPOINT_FIELD(interrupt_endpoint),
    {"no_iad", offsetof(struct usbip_device_options, function.no_iad), FIELD_BOOLEAN, false},
    {"paced", offsetof(struct usbip_device_options, function.paced), FIELD_BOOLEAN, false},
    {"line_end", 0, FIELD_LINE_END, false},
    {"personality", 0, FIELD_PERSONALITY, false},
};
enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

static int bad_field(lua_State *L, const struct field *field, const char *wanted)
{
    return luaL_error(L, "device: %s must be %s, not %s", field->name, wanted,
                      luaL_tolstring(L, -1, NULL));
}

/* The string on top, kept for as long as the script lives; popped. */
static const char *keep_string(lua_State *L, const struct field *field, size_t *size)
{
    if (lua_type(L, -1) != LUA_TSTRING)
        bad_field(L, field, "a string");
    const char *string = lua_tolstring(L, -1, size);
    luaL_ref(L, LUA_REGISTRYINDEX);
    return string;
}

static lua_Integer check_integer(lua_State *L, const struct field *field, lua_Integer max,
                                 const char *wanted)
{
    int is_integer;
    lua_Integer value = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || lua_type(L, -1) != LUA_TNUMBER || value < 0 || value > max)
        bad_field(L, field, wanted);
    return value;
}

static void read_type(lua_State *L, struct usbip_script *script, const struct field *field)
{
    if (lua_type(L, -1) != LUA_TSTRING)
        bad_field(L, field, "a string");
    script->type = usbip_find_function(lua_tostring(L, -1));
    if (!script->type)
        luaL_error(L, "device: type \"%s\" is unknown; there are: %s", lua_tostring(L, -1),
                   usbip_function_names());
    script->is_raw = script->type == &usbip_function_raw;
}

static void read_behaviour(lua_State *L, struct usbip_script *script, const struct field *field)
{
    if (lua_type(L, -1) == LUA_TSTRING)
        script->native = usbip_find_native_behaviour(lua_tostring(L, -1));
    if (!script->native)
        bad_field(L, field, "\"echo\", \"sink\" or \"source\"");
}

/* Its speed is the default of what follows. */
static void read_chip(lua_State *L, struct usbip_script *script, const struct field *field)
{
    const struct usbip_ftdi_chip *chip = NULL;
    if (script->type != &usbip_function_ftdi)
        luaL_error(L, "device: chip: only for type \"ftdi\"");
    if (lua_type(L, -1) == LUA_TSTRING)
        chip = usbip_ftdi_find_chip_named(lua_tostring(L, -1));
    if (!chip) {
        bad_field(L, field, "\"ft232bm\", \"ft232r\", \"ft2232h\" or \"ft4232h\"");
        return;
    }
    script->options.function.ftdi_chip = chip;
    if (chip->is_hi_speed)
        script->options.speed = USBIP_SPEED_HIGH;
}

static void read_speed(lua_State *L, struct usbip_script *script, const struct field *field)
{
    static const char *const names[] = {
        [USBIP_SPEED_LOW] = "low",
        [USBIP_SPEED_FULL] = "full",
        [USBIP_SPEED_HIGH] = "high",
    };
    if (lua_type(L, -1) == LUA_TSTRING) {
        for (int i = USBIP_SPEED_LOW; i <= USBIP_SPEED_HIGH; i++) {
            if (strcmp(lua_tostring(L, -1), names[i]) == 0) {
                script->options.speed = (enum usbip_speed)i;
                return;
            }
        }
    }
    bad_field(L, field, "\"low\", \"full\" or \"high\"");
}

/* The string on top becomes string `index` of the device; popped. */
static void set_string(lua_State *L, struct usbip_script *script, const struct field *field,
                       size_t index)
{
    if (script->options.strings[index])
        luaL_error(L,
                   "device: string %d is given twice; manufacturer, product and serial are "
                   "1, 2 and 3",
                   (int)index);
    size_t size;
    const char *string = keep_string(L, field, &size);
    if (strlen(string) != size)
        luaL_error(L, "device: %s has a zero byte in it", field->name);
    script->options.strings[index] = string;
}

static void read_string(lua_State *L, struct usbip_script *script, const struct field *field)
{
    lua_pushvalue(L, -1);
    set_string(L, script, field, field->place);
    struct usbip_device_descriptor *descriptor = &script->options.descriptor;
    switch (field->place) {
    case IMANUFACTURER:
        descriptor->iManufacturer = IMANUFACTURER;
        break;
    case IPRODUCT:
        descriptor->iProduct = IPRODUCT;
        break;
    default:
        descriptor->iSerialNumber = ISERIAL;
        break;
    }
}

static void read_strings(lua_State *L, struct usbip_script *script, const struct field *field)
{
    if (!lua_istable(L, -1))
        bad_field(L, field, "a table of strings");
    for (lua_pushnil(L); lua_next(L, -2) != 0;) {
        int is_integer;
        lua_Integer index = lua_tointegerx(L, -2, &is_integer);
        if (!is_integer || lua_type(L, -2) != LUA_TNUMBER || index < 1 ||
            index >= USBIP_MAX_STRINGS)
            luaL_error(L, "device: indices of strings go from 1 to %d", USBIP_MAX_STRINGS - 1);
        set_string(L, script, field, (size_t)index);
    }
}

static void read_descriptor(lua_State *L, struct usbip_script *script, const struct field *field)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (!fields[i].in_descriptor)
            continue;
        if (lua_getfield(L, 1, fields[i].name) != LUA_TNIL)
            luaL_error(L, "device: device_descriptor and %s both say the same; keep one",
                       fields[i].name);
        lua_pop(L, 1);
    }
    size_t size = 0;
    const char *bytes = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &size) : NULL;
    if (!bytes || size != USB_DT_DEVICE_SIZE ||
        usbip_decode_device_descriptor((const uint8_t *)bytes, size, &script->options.descriptor) <
            0)
        luaL_error(L, "device: %s must be a string with the 18 bytes of a device descriptor",
                   field->name);
}

static void read_configuration(lua_State *L, struct usbip_script *script, const struct field *field)
{
    lua_pushvalue(L, -1);
    script->options.configuration =
        (const uint8_t *)keep_string(L, field, &script->options.configuration_size);
}

static void read_line_end(lua_State *L, struct usbip_script *script, const struct field *field)
{
    lua_pushvalue(L, -1);
    script->line_end = keep_string(L, field, &script->line_end_size);
    if (script->line_end_size == 0)
        bad_field(L, field, "a string with at least one byte");
}

static void read_personality(lua_State *L, struct usbip_script *script, const struct field *field)
{
    if (lua_type(L, -1) != LUA_TSTRING)
        bad_field(L, field, "a string");
    script->options.personality = usbip_find_personality(lua_tostring(L, -1));
    if (!script->options.personality)
        luaL_error(L, "device: personality \"%s\" is unknown; there are: %s", lua_tostring(L, -1),
                   usbip_personality_names());
}

/* The value is on top of the stack, and stays there. */
static void read_field(lua_State *L, struct usbip_script *script, const struct field *field)
{
    void *place = (char *)&script->options + field->place;
    switch (field->kind) {
    case FIELD_TYPE:
        read_type(L, script, field);
        break;
    case FIELD_BEHAVIOUR:
        read_behaviour(L, script, field);
        break;
    case FIELD_CHIP:
        read_chip(L, script, field);
        break;
    case FIELD_SPEED:
        read_speed(L, script, field);
        break;
    case FIELD_U8:
        *(uint8_t *)place = (uint8_t)check_integer(L, field, UINT8_MAX, "0 to 0xff");
        break;
    case FIELD_U16:
        *(uint16_t *)place = (uint16_t)check_integer(L, field, UINT16_MAX, "0 to 0xffff");
        break;
    case FIELD_BOOLEAN:
        if (!lua_isboolean(L, -1))
            bad_field(L, field, "true or false");
        *(bool *)place = lua_toboolean(L, -1);
        break;
    case FIELD_STRING:
        read_string(L, script, field);
        break;
    case FIELD_STRINGS:
        read_strings(L, script, field);
        break;
    case FIELD_DESCRIPTOR:
        read_descriptor(L, script, field);
        break;
    case FIELD_CONFIGURATION:
        read_configuration(L, script, field);
        break;
    case FIELD_LINE_END:
        read_line_end(L, script, field);
        break;
    case FIELD_PERSONALITY:
        read_personality(L, script, field);
        break;
    }
}

/* A misspelt field would silently be left at its default. */
static void check_names(lua_State *L)
{
    for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
        bool known = false;
        for (size_t i = 0; i < FIELD_COUNT && lua_type(L, -2) == LUA_TSTRING; i++)
            known |= strcmp(lua_tostring(L, -2), fields[i].name) == 0;
        if (!known)
            luaL_error(L, "device: there is no field %s; see docs/scripting.md",
                       luaL_tolstring(L, -2, NULL));
    }
}

/* What the fields leave open. 1209:0001 is there for tests, and no product has it. */
static void set_defaults(struct usbip_device_options *options,
                         const struct usbip_function_type *type)
{
    const struct usbip_ftdi_chip *chip = NULL;
    if (type == &usbip_function_ftdi && !options->function.ftdi_chip)
        options->function.ftdi_chip = usbip_ftdi_find_chip(FTDI_BCD_FT232R);
    chip = options->function.ftdi_chip;
    options->descriptor = (struct usbip_device_descriptor){
        .bcdUSB = 0x0200,
        .bMaxPacketSize0 = options->speed == USBIP_SPEED_LOW ? 8 : 64,
        .idVendor = chip ? FTDI_VENDOR_ID : 0x1209,
        .idProduct = chip ? chip->idProduct : 0x0001,
        .bcdDevice = chip ? chip->bcdDevice : 0x0100,
        .bNumConfigurations = 1,
    };
}

static int describe_device(lua_State *L)
{
    struct usbip_script *script = script_of(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (script->described)
        return luaL_error(L, "device: called twice; a script is one device");
    check_names(L);
    script->options.speed = USBIP_SPEED_FULL;
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (lua_getfield(L, 1, fields[i].name) != LUA_TNIL)
            read_field(L, script, &fields[i]);
        else if (fields[i].kind == FIELD_TYPE)
            return luaL_error(L, "device: no type; there are: %s", usbip_function_names());
        lua_pop(L, 1);
        /* The defaults of what follows depend on type and speed. */
        if (fields[i].kind == FIELD_SPEED)
            set_defaults(&script->options, script->type);
    }
    if (script->is_raw && script->options.function.paced)
        return luaL_error(L, "device: paced: a raw device has no serial line");
    const struct usbip_function_options *function = &script->options.function;
    unsigned ports = function->ftdi_chip ? function->ftdi_chip->ports : 1;
    if (ports > 1 && (function->out_endpoint || function->in_endpoint))
        return luaL_error(L,
                          "device: an %s has its own endpoints; leave out in_endpoint and "
                          "out_endpoint",
                          function->ftdi_chip->name);
    if (ports > 1)
        script_make_ports(L, ports);
    script->described = true;
    return 0;
}

void script_open_device(lua_State *L)
{
    lua_pushcfunction(L, describe_device);
    lua_setglobal(L, "device");
}
