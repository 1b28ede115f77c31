/* fault { … }: the faults that a script adds to its own device. */
#include <string.h>

#include "emulator/script_internal.h"

#define FAULT_TYPE "usbip fault"

/* The value on top of the stack as it is written on the command line. */
static const char *value_text(lua_State *L, const char *key)
{
    int is_integer;
    lua_Integer integer = lua_tointegerx(L, -1, &is_integer);
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        return lua_toboolean(L, -1) ? "yes" : "no";
    case LUA_TNUMBER:
        if (is_integer)
            return lua_pushfstring(L, "%I", integer);
        break;
    case LUA_TSTRING:
        if (strlen(lua_tostring(L, -1)) == lua_rawlen(L, -1))
            return lua_tostring(L, -1);
        break;
    default:
        break;
    }
    luaL_error(L, "fault: %s must be an integer, a string, true or false, not %s", key,
               luaL_tolstring(L, -1, NULL));
    return NULL;
}

static void read_options(lua_State *L, struct usbip_fault_options *options)
{
    char error_text[USBIP_FAULT_ERROR_SIZE];
    if (lua_getfield(L, 1, "name") != LUA_TSTRING)
        luaL_error(L, "fault: name must be a string, such as \"delay\"");
    if (!usbip_fault_options_init(options, lua_tostring(L, -1), error_text))
        luaL_error(L, "fault: %s", error_text);
    lua_pop(L, 1);
    for (lua_pushnil(L); lua_next(L, 1) != 0; lua_settop(L, 2)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "fault: there is no parameter %s", luaL_tolstring(L, -2, NULL));
        const char *key = lua_tostring(L, -2);
        if (strcmp(key, "name") == 0)
            continue;
        if (strcmp(key, "device") == 0)
            luaL_error(L, "fault: device is always the script's own");
        if (!usbip_fault_options_set(options, key, value_text(L, key), error_text))
            luaL_error(L, "fault: %s", error_text);
    }
}

static int script_fault(lua_State *L)
{
    struct usbip_script *script = script_of(L);
    struct usbip_fault_options options;
    char error_text[USBIP_FAULT_ERROR_SIZE];
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (!script->faults)
        return luaL_error(L, "fault: there are no faults here");
    read_options(L, &options);
    /* First what can fail in Lua: then there is always somebody who can remove it. */
    unsigned *id = lua_newuserdatauv(L, sizeof *id, 0);
    *id = 0;
    luaL_setmetatable(L, FAULT_TYPE);
    const struct usbip_fault *fault =
        usbip_fault_add(script->faults, &options, script, script->device, error_text);
    if (!fault)
        return luaL_error(L, "fault: %s", error_text);
    *id = fault->id;
    return 1;
}

static int fault_remove(lua_State *L)
{
    const unsigned *id = luaL_checkudata(L, 1, FAULT_TYPE);
    lua_pushboolean(L, usbip_fault_remove(script_of(L)->faults, *id));
    return 1;
}

static int fault_fired(lua_State *L)
{
    const unsigned *id = luaL_checkudata(L, 1, FAULT_TYPE);
    const struct usbip_fault *fault = usbip_fault_find(script_of(L)->faults, *id);
    if (fault)
        lua_pushinteger(L, (lua_Integer)fault->fired);
    else
        lua_pushnil(L);
    return 1;
}

void script_open_fault(lua_State *L)
{
    luaL_newmetatable(L, FAULT_TYPE);
    lua_newtable(L);
    lua_pushcfunction(L, fault_remove);
    lua_setfield(L, -2, "remove");
    lua_pushcfunction(L, fault_fired);
    lua_setfield(L, -2, "fired");
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, false); /* hides the metatable from scripts */
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_pushcfunction(L, script_fault);
    lua_setglobal(L, "fault");
}
