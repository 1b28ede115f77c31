/*
 * What scripts get of Lua's standard library: everything that computes, nothing that reaches out of
 * the script, and nothing that can run for long without executing instructions that are counted.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "emulator/script_internal.h"

enum { MAX_MODULE_NAME = 64 };

/* ---- Functions of Lua with some of their arguments refused ---- */

/* Its error is on top. It does not tell the script's line, because we are its caller. */
static int raise_for_caller(lua_State *L, int status)
{
    if (status == LUA_ERRMEM)
        return luaL_error(L, "out of memory: a script may use %d MiB",
                          USBIP_SCRIPT_MAX_MEMORY >> 20);
    if (lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

/* Calls the function of Lua that a closure of ours stands before. */
static int call_original(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    return status == LUA_OK ? lua_gettop(L) : raise_for_caller(L, status);
}

/*
 * The same for functions that make a string in a buffer, and change nothing. When an allocation of
 * its own is refused Lua collects garbage and repeats it, but not so for a buffer.
 */
static int call_with_room(lua_State *L)
{
    int count = lua_gettop(L), status = LUA_ERRMEM;
    luaL_checkstack(L, count + 1, "too many arguments");
    for (int attempt = 0; attempt < 2 && status == LUA_ERRMEM; attempt++) {
        if (attempt > 0)
            lua_gc(L, LUA_GCCOLLECT);
        lua_settop(L, count);
        lua_pushvalue(L, lua_upvalueindex(1));
        for (int i = 1; i <= count; i++)
            lua_pushvalue(L, i);
        status = lua_pcall(L, count, LUA_MULTRET, 0);
    }
    return status == LUA_OK ? lua_gettop(L) - count : raise_for_caller(L, status);
}

/* A finalizer runs where no limit reaches. */
static int limited_setmetatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "setmetatable(): __gc is not available to scripts");
        lua_pop(L, 1);
    }
    return call_original(L);
}

/* Repeating nothing takes as long as repeating something, and needs no memory. */
static int limited_rep(lua_State *L)
{
    size_t size, separator_size;
    luaL_checklstring(L, 1, &size);
    luaL_checkinteger(L, 2);
    luaL_optlstring(L, 3, "", &separator_size);
    if (size == 0 && separator_size == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    return call_with_room(L);
}

static void check_range(lua_State *L, lua_Integer first, lua_Integer last)
{
    if (first <= last && (lua_Unsigned)last - (lua_Unsigned)first >= USBIP_SCRIPT_MAX_TABLE_RANGE)
        luaL_error(L, "more than %d elements at once", USBIP_SCRIPT_MAX_TABLE_RANGE);
}

static int limited_move(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    check_range(L, luaL_checkinteger(L, 2), luaL_checkinteger(L, 3));
    return call_original(L);
}

static int limited_concat(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer first = luaL_optinteger(L, 3, 1);
    lua_Integer last = lua_isnoneornil(L, 4) ? luaL_len(L, 1) : luaL_checkinteger(L, 4);
    check_range(L, first, last);
    return call_with_room(L);
}

/* insert, remove */
static int limited_by_length(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    check_range(L, 1, luaL_len(L, 1));
    return call_original(L);
}

/* Its errors come from the comparison, and say where that is. */
static int limited_sort(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    check_range(L, 1, luaL_len(L, 1));
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 0);
    return 0;
}

/*
 * What a message handler does at a limit would run inside of the hook that looks at the limits, and
 * so without any.
 */
static int handle_unless_exceeded(lua_State *L)
{
    if (script_of(L)->exceeded)
        return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* Below the results of the call are the handler and true. */
static int finish_xpcall(lua_State *L, int status, lua_KContext context)
{
    (void)context;
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - 1;
    lua_pushboolean(L, false);
    lua_insert(L, -2);
    return 2;
}

static int limited_xpcall(lua_State *L)
{
    int count = lua_gettop(L) - 2;
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, handle_unless_exceeded, 1);
    lua_replace(L, 2);
    lua_pushvalue(L, 1);
    lua_copy(L, 2, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, true);
    lua_insert(L, 2); /* handler, true, function, arguments */
    return finish_xpcall(L, lua_pcallk(L, count, LUA_MULTRET, 1, 0, finish_xpcall), 0);
}

/* So that it is known which thread has asked for memory. Does not raise the thread's errors. */
static int limited_resume(lua_State *L)
{
    struct usbip_script *script = script_of(L);
    lua_State *thread = lua_tothread(L, 1), *previous = script->running;
    luaL_argexpected(L, thread, 1, "coroutine");
    script->running = thread;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    script->running = previous;
    return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* coroutine.wrap(), but a coroutine that fails is not closed: at a limit that would have no limit.
 */
static int resume_wrapped(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1)); /* coroutine.resume */
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_rotate(L, 1, 2);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    if (lua_toboolean(L, 1))
        return lua_gettop(L) - 1;
    return lua_error(L);
}

static int limited_wrap(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_getglobal(L, LUA_COLIBNAME);
    lua_getfield(L, -1, "resume");
    lua_State *thread = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, thread, 1);
    lua_pushcclosure(L, resume_wrapped, 2);
    return 1;
}

static const struct {
    const char *library, *name;
    lua_CFunction limited; /* NULL: taken away */
} limits[] = {
    {"_G", "collectgarbage", NULL},
    {"_G", "dofile", NULL},
    {"_G", "loadfile", NULL},
    {"_G", "setmetatable", limited_setmetatable},
    {"_G", "warn", NULL},
    {"_G", "xpcall", limited_xpcall},
    {"coroutine", "close", NULL},
    {"coroutine", "resume", limited_resume},
    {"coroutine", "wrap", limited_wrap},
    {"string", "dump", NULL},
    {"table", "concat", limited_concat},
    {"table", "insert", limited_by_length},
    {"table", "move", limited_move},
    {"table", "remove", limited_by_length},
    {"table", "sort", limited_sort},
};

/* Unsafe scripts have these too. */
static const struct {
    const char *library, *name;
    lua_CFunction function;
} with_room[] = {
    {"string", "char", call_with_room},  {"string", "format", call_with_room},
    {"string", "lower", call_with_room}, {"string", "pack", call_with_room},
    {"string", "rep", limited_rep},      {"string", "reverse", call_with_room},
    {"string", "upper", call_with_room}, {"utf8", "char", call_with_room},
};

/* NULL takes the function away. */
static void replace_function(lua_State *L, const char *library, const char *name,
                             lua_CFunction function)
{
    lua_getglobal(L, library);
    if (function) {
        lua_getfield(L, -1, name);
        lua_pushcclosure(L, function, 1);
    } else {
        lua_pushnil(L);
    }
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

static void replace_with_room(lua_State *L)
{
    for (size_t i = 0; i < sizeof with_room / sizeof with_room[0]; i++)
        replace_function(L, with_room[i].library, with_room[i].name, with_room[i].function);
}

/* ---- Functions of our own ---- */

/* load(text [, name [, mode [, environment]]]): text only, never bytecode. */
static int load_text(lua_State *L)
{
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    const char *name = luaL_optstring(L, 2, text);
    lua_settop(L, 4);
    if (luaL_loadbufferx(L, text, size, name, "t") != LUA_OK) {
        luaL_pushfail(L);
        lua_insert(L, -2);
        return 2;
    }
    if (!lua_isnil(L, 4)) {
        lua_pushvalue(L, 4);
        lua_setupvalue(L, -2, 1);
    }
    return 1;
}

/* Modules are named by letters, digits, '_' and '-', with dots for folders. */
static bool is_module_name(const char *name, size_t size)
{
    if (size == 0 || size > MAX_MODULE_NAME)
        return false;
    for (size_t i = 0; i < size; i++) {
        bool dot = name[i] == '.';
        if (!dot && !isalnum((unsigned char)name[i]) && name[i] != '_' && name[i] != '-')
            return false;
        if (dot && (i == 0 || i == size - 1 || name[i - 1] == '.'))
            return false;
    }
    return true;
}

/* require(name): a module beside the script, run once. The upvalue holds what has been loaded. */
static int require_module(lua_State *L)
{
    size_t size;
    const char *name = luaL_checklstring(L, 1, &size);
    if (!is_module_name(name, size))
        return luaL_error(L, "require(): \"%s\" is not the name of a module beside the script",
                          name);
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
        return 1;
    char file[MAX_MODULE_NAME + sizeof ".lua"];
    snprintf(file, sizeof file, "%s.lua", name);
    for (size_t i = 0; i < size; i++) {
        if (file[i] == '.')
            file[i] = '/';
    }
    const char *path = lua_pushfstring(L, "%s%s", script_of(L)->folder, file);
    script_load_file(L, path, "t");
    /* A module that requires itself gets this instead of running for ever. */
    lua_pushvalue(L, 1);
    lua_pushboolean(L, 1);
    lua_rawset(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -2);
    lua_rawset(L, lua_upvalueindex(1));
    return 1;
}

void script_open_sandbox(lua_State *L)
{
    static const luaL_Reg libraries[] = {
        {LUA_GNAME, luaopen_base},        {LUA_TABLIBNAME, luaopen_table},
        {LUA_STRLIBNAME, luaopen_string}, {LUA_MATHLIBNAME, luaopen_math},
        {LUA_UTF8LIBNAME, luaopen_utf8},  {LUA_COLIBNAME, luaopen_coroutine},
    };
    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++) {
        luaL_requiref(L, libraries[i].name, libraries[i].func, 1);
        lua_pop(L, 1);
    }
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        replace_function(L, limits[i].library, limits[i].name, limits[i].limited);
    replace_with_room(L);
    lua_pushcfunction(L, load_text);
    lua_setglobal(L, "load");
    lua_newtable(L);
    lua_pushcclosure(L, require_module, 1);
    lua_setglobal(L, "require");
}

void script_open_unsafe(lua_State *L)
{
    luaL_openlibs(L);
    replace_with_room(L);
    lua_getglobal(L, "package");
    lua_pushfstring(L, "%s?.lua;", script_of(L)->folder);
    lua_getfield(L, -2, "path");
    lua_concat(L, 2);
    lua_setfield(L, -2, "path");
    lua_pop(L, 1);
}
