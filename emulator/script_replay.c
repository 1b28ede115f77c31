/* replay { … }: instead of device { … }, a device that a capture holds. */
#include <string.h>

#include "emulator/script_internal.h"

static const char answer_key; /* its address: where the registry keeps what a hook has returned */

static const char *const fields[] = {"file",   "device",        "descriptors", "mode",
                                     "speed",  "at_end",        "match",       "at_import",
                                     "errors", "on_divergence", "on_data",     "personality"};

static void check_names(lua_State *L)
{
    for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
        bool known = false;
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
            known |= lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), fields[i]) == 0;
        if (!known)
            luaL_error(L, "replay: there is no field %s; see docs/captures.md",
                       luaL_tolstring(L, -2, NULL));
    }
}

/* A field that is a string, kept for as long as the script lives; NULL: it is not there. */
static const char *text_field(lua_State *L, const char *name)
{
    int type = lua_getfield(L, 1, name);
    const char *text = lua_tostring(L, -1);
    if (type == LUA_TNIL) {
        lua_pop(L, 1);
        return NULL;
    }
    if (type != LUA_TSTRING || strlen(text) != lua_rawlen(L, -1))
        luaL_error(L, "replay: %s must be a string", name);
    luaL_ref(L, LUA_REGISTRYINDEX);
    return text;
}

/* A file beside the script, or below; the sandbox lets no script look elsewhere. */
static const char *path_field(lua_State *L, const char *name)
{
    const struct usbip_script *script = script_of(L);
    const char *text = text_field(L, name);
    if (!text || (script->unsafe && text[0] == '/'))
        return text;
    if (!script->unsafe && (text[0] == '/' || strstr(text, "..")))
        luaL_error(L,
                   "replay: %s \"%s\" is not beside the script or below it; --unsafe-scripts "
                   "allows that",
                   name, text);
    text = lua_pushfstring(L, "%s%s", script->folder, text);
    luaL_ref(L, LUA_REGISTRYINDEX);
    return text;
}

static int function_field(lua_State *L, const char *name)
{
    int type = lua_getfield(L, 1, name);
    if (type != LUA_TNIL && type != LUA_TFUNCTION)
        luaL_error(L, "replay: %s must be a function", name);
    if (type == LUA_TFUNCTION)
        return luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
    return LUA_NOREF;
}

static void read_words(lua_State *L, struct usbip_replay_options *options)
{
    const char *mode = text_field(L, "mode"), *end = text_field(L, "at_end");
    const char *match = text_field(L, "match"), *errors = text_field(L, "errors");
    const char *import = text_field(L, "at_import"), *personality = text_field(L, "personality");
    options->device = text_field(L, "device");
    if (options->device && !usbip_capture_is_wish(options->device))
        luaL_error(L, "replay: device must be BUS.DEV in decimal or VID:PID in hexadecimal");
    if (mode && !usbip_replay_parse_mode(mode, &options->mode))
        luaL_error(L, "replay: mode must be gated, strict, timed, free or step");
    if (end && !usbip_replay_parse_end(end, &options->end))
        luaL_error(L, "replay: at_end must be hold, loop, stall or disconnect");
    if (import && !usbip_replay_parse_import(import, &options->import))
        luaL_error(L, "replay: at_import must be restart or continue");
    if (match && !usbip_replay_parse_match(match, &options->match))
        luaL_error(L, "replay: match must be exact, setup or any");
    if (errors && !usbip_replay_parse_errors(errors, &options->skip_errors))
        luaL_error(L, "replay: errors must be replay or skip");
    if (personality && !(options->personality = usbip_find_personality(personality)))
        luaL_error(L, "replay: personality \"%s\" is unknown; there are: %s", personality,
                   usbip_personality_names());
}

static int describe_replay(lua_State *L)
{
    struct usbip_script *script = script_of(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (script->described)
        return luaL_error(L, "replay: a script is one device, and this one has another already");
    check_names(L);
    struct usbip_replay_options *options = &script->replay_options;
    options->personality = script->options.personality;
    options->path = path_field(L, "file");
    options->descriptors = path_field(L, "descriptors");
    if (!options->path)
        return luaL_error(L, "replay: no file");
    read_words(L, options);
    if (lua_getfield(L, 1, "speed") != LUA_TNIL) {
        options->speed = lua_tonumber(L, -1);
        if (!(options->speed >= USBIP_REPLAY_MIN_SPEED && options->speed <= USBIP_REPLAY_MAX_SPEED))
            return luaL_error(L, "replay: speed must be a number from 0.001 to 1000000");
    }
    script->on_divergence = function_field(L, "on_divergence");
    script->on_replay_data = function_field(L, "on_data");
    script->described = true;
    script->is_raw = true;
    script->type = &usbip_function_raw;
    return 0;
}

/* ---- Hooks ---- */

struct divergence_call {
    struct usbip_script *script;
    const struct usbip_divergence *divergence;
    struct usbip_replay_bytes *answer;
    bool none;
};

static void set_bytes(lua_State *L, const char *key, const uint8_t *data, size_t size)
{
    if (!data)
        return;
    lua_pushlstring(L, (const char *)data, size);
    lua_setfield(L, -2, key);
}

static int call_on_divergence(lua_State *L)
{
    struct divergence_call *call = lua_touserdata(L, 1);
    const struct usbip_divergence *d = call->divergence;
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->script->on_divergence);
    lua_createtable(L, 0, 7);
    lua_pushstring(L, usbip_divergence_name(d->kind));
    lua_setfield(L, -2, "kind");
    lua_pushinteger(L, d->endpoint);
    lua_setfield(L, -2, "endpoint");
    if (d->record) {
        lua_pushinteger(L, d->record);
        lua_setfield(L, -2, "record");
    }
    set_bytes(L, "setup", d->setup, USBIP_SETUP_SIZE);
    set_bytes(L, "expected_setup", d->expected_setup, USBIP_SETUP_SIZE);
    set_bytes(L, "expected", d->expected, d->expected_size);
    set_bytes(L, "got", d->got, d->got_size);
    lua_call(L, 1, 1);
    if (lua_type(L, -1) == LUA_TSTRING) {
        call->none = true;
        call->answer->data = (const uint8_t *)lua_tolstring(L, -1, &call->answer->size);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &answer_key);
    } else {
        call->none = lua_toboolean(L, -1);
    }
    return 0;
}

static bool diverged(void *context, const struct usbip_divergence *divergence,
                     struct usbip_replay_bytes *answer)
{
    struct divergence_call call = {context, divergence, answer, false};
    return script_run(context, "on_divergence", call_on_divergence, &call, 0) && call.none;
}

struct data_call {
    struct usbip_script *script;
    uint8_t endpoint;
    uint32_t record;
    struct usbip_replay_bytes *bytes;
};

static int call_on_data(lua_State *L)
{
    const struct data_call *call = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->script->on_replay_data);
    lua_pushinteger(L, call->endpoint);
    lua_pushlstring(L, call->bytes->data ? (const char *)call->bytes->data : "", call->bytes->size);
    lua_pushinteger(L, call->record);
    lua_call(L, 3, 1);
    if (lua_type(L, -1) == LUA_TSTRING) {
        call->bytes->data = (const uint8_t *)lua_tolstring(L, -1, &call->bytes->size);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &answer_key);
    } else if (!lua_isnil(L, -1)) {
        return luaL_error(L, "on_data must return a string or nil");
    }
    return 0;
}

static void edit(void *context, uint8_t endpoint, uint32_t record, struct usbip_replay_bytes *bytes)
{
    struct data_call call = {context, endpoint, record, bytes};
    script_run(context, "on_data", call_on_data, &call, 0);
}

struct usbip_device *script_make_replay(struct usbip_script *script,
                                        char error_text[USBIP_SCRIPT_ERROR_SIZE])
{
    struct usbip_replay_options options = script->replay_options;
    options.hooks = (struct usbip_replay_hooks){
        .diverged = script->on_divergence == LUA_NOREF ? NULL : diverged,
        .edit = script->on_replay_data == LUA_NOREF ? NULL : edit,
        .context = script,
    };
    script->replay =
        usbip_replay_new(&options, script->scheduler, script->log, &script->device, error_text);
    return script->device;
}

void script_open_replay(lua_State *L)
{
    lua_pushcfunction(L, describe_replay);
    lua_setglobal(L, "replay");
}
