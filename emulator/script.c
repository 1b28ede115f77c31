#include "emulator/script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emulator/script_internal.h"
#include "protocol/usb.h"

/* Instructions between two looks at the limits. */
enum {
    INSTRUCTIONS_PER_LOOK = 1000,
    COLLECT_AT_PERCENT = 400, /* of the memory that the last collection has left */
};

static const char *const hook_names[HOOK_COUNT] = {
    [HOOK_ATTACH] = "on_attach",
    [HOOK_DETACH] = "on_detach",
    [HOOK_OPEN] = "on_open",
    [HOOK_CLOSE] = "on_close",
    [HOOK_LINE_CODING] = "on_line_coding",
    [HOOK_CONTROL_LINES] = "on_control_lines",
    [HOOK_BREAK] = "on_break",
    [HOOK_DATA] = "on_data",
    [HOOK_CONTROL] = "on_control",
    [HOOK_TRANSFER_OUT] = "on_transfer_out",
    [HOOK_TRANSFER_IN] = "on_transfer_in",
    [HOOK_DIALOGUE] = "dialogue",
};

/* ---- Places ---- */

/* The innermost function that has lines, from a level on; only looks at the thread. */
static bool find_line(lua_State *thread, int level, lua_Debug *debug)
{
    for (; lua_getstack(thread, level, debug); level++) {
        lua_getinfo(thread, "Sl", debug);
        if (debug->currentline > 0)
            return true;
    }
    return false;
}

void script_push_where(lua_State *L, lua_State *thread, int level)
{
    lua_Debug debug;
    if (find_line(thread, level, &debug))
        lua_pushfstring(L, "%s:%d: ", debug.short_src, debug.currentline);
    else
        lua_pushfstring(L, "%s: ", script_of(L)->path);
}

/* Whether a message begins as Lua's do: with a script, a module or a text that was loaded. */
static bool names_line(const struct usbip_script *script, const char *message)
{
    static const char suffix[] = ".lua", loaded[] = "[string \"";
    size_t source_size = strlen(script->source), line_size = strcspn(message, "\n");
    if (strncmp(message, loaded, strlen(loaded)) == 0)
        return true;
    for (size_t i = strlen(suffix); i + 1 < line_size; i++) {
        if (message[i] == ':' && message[i + 1] >= '0' && message[i + 1] <= '9' &&
            (memcmp(message + i - strlen(suffix), suffix, strlen(suffix)) == 0 ||
             (i == source_size && memcmp(message, script->source, i) == 0)))
            return true;
    }
    return false;
}

/* ---- Limits ---- */

/* An error of Lua's allocations comes without a place, and when it comes the place is lost. */
static void *refuse(struct usbip_script *script)
{
    lua_Debug debug;
    if (script->running && find_line(script->running, 0, &debug))
        snprintf(script->refused, sizeof script->refused, "%s:%d", debug.short_src,
                 debug.currentline);
    return NULL;
}

static void *allocate(void *context, void *block, size_t old_size, size_t new_size)
{
    struct usbip_script *script = context;
    if (!block)
        old_size = 0; /* Lua tells the kind of object there */
    if (new_size == 0) {
        free(block);
        script->memory -= old_size;
        return NULL;
    }
    if (new_size > old_size && new_size - old_size > USBIP_SCRIPT_MAX_MEMORY - script->memory)
        return refuse(script);
    void *moved = realloc(block, new_size);
    if (moved)
        script->memory += new_size - old_size;
    return moved;
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/*
 * Once a limit is exceeded, every further instruction fails, so that pcall() in a loop cannot make
 * the call go on.
 */
static void look_at_limits(lua_State *L, lua_Debug *debug)
{
    struct usbip_script *script = script_of(L);
    /* This thread had exceeded a limit in an earlier call. */
    if (!script->exceeded && lua_gethookcount(L) != INSTRUCTIONS_PER_LOOK)
        lua_sethook(L, look_at_limits, LUA_MASKCOUNT, INSTRUCTIONS_PER_LOOK);
    script_spend(L, INSTRUCTIONS_PER_LOOK);
    (void)debug;
}

void script_spend(lua_State *L, size_t instructions)
{
    struct usbip_script *script = script_of(L);
    if (!script->exceeded) {
        uint64_t looks = script->instructions / INSTRUCTIONS_PER_LOOK;
        script->instructions += instructions;
        if (script->instructions / INSTRUCTIONS_PER_LOOK == looks)
            return;
        uint64_t now = monotonic_ns();
        if (script->started_ns == 0)
            script->started_ns = now;
        if (script->instructions <= USBIP_SCRIPT_MAX_INSTRUCTIONS &&
            now - script->started_ns <= USBIP_SCRIPT_MAX_SECONDS * UINT64_C(1000000000))
            return;
        script->exceeded = true;
    }
    lua_sethook(L, look_at_limits, LUA_MASKCOUNT, 1);
    script_push_where(L, L, 0);
    if (script->instructions > USBIP_SCRIPT_MAX_INSTRUCTIONS)
        lua_pushfstring(L, "the call ran for more than %d instructions: an endless loop?",
                        USBIP_SCRIPT_MAX_INSTRUCTIONS);
    else
        lua_pushfstring(L, "the call took more than %d s", USBIP_SCRIPT_MAX_SECONDS);
    lua_concat(L, 2);
    lua_error(L);
}

void script_make_room(lua_State *L, size_t size)
{
    if (size > USBIP_SCRIPT_MAX_MEMORY - script_of(L)->memory)
        lua_gc(L, LUA_GCCOLLECT);
}

void script_enter(struct usbip_script *script)
{
    if (script->depth++ > 0)
        return;
    script->instructions = 0;
    script->started_ns = 0;
    script->refused[0] = '\0';
}

void script_leave(struct usbip_script *script)
{
    if (--script->depth == 0)
        script->exceeded = false;
}

/* ---- Errors ---- */

void script_report(struct usbip_script *script, const char *what, const char *message)
{
    const char *name = script->device ? usbip_device_name(script->device) : script->path;
    enum usbip_log_level level = USBIP_LOG_ERROR;
    while (*message) {
        message += strspn(message, "\t"); /* of a traceback */
        size_t length = strcspn(message, "\n");
        usbip_log(script->log, level, "%s: %s: %.*s", name, what, (int)length, message);
        level = USBIP_LOG_VERBOSE;
        message += length;
        message += *message == '\n';
    }
    if (script->device)
        usbip_device_counters(script->device)->script_errors++;
}

void script_push_message(lua_State *L, int index, lua_State *thread, int level)
{
    const struct usbip_script *script = script_of(L);
    lua_Debug debug;
    luaL_tolstring(L, index, NULL);
    const char *message = lua_tostring(L, -1);
    /* What is wrong with the whole script has no line, and names the script. */
    bool placed = names_line(script, message) ||
                  (!find_line(thread, level, &debug) && strstr(message, script->path));
    if (!placed) {
        script_push_where(L, thread, level);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    if (script->log->level >= USBIP_LOG_VERBOSE)
        luaL_traceback(L, thread, lua_tostring(L, -1), level);
}

static int message_handler(lua_State *L)
{
    script_push_message(L, 1, L, 1);
    return 1;
}

void script_error_text(const struct usbip_script *script, lua_State *L, int status,
                       char text[USBIP_SCRIPT_ERROR_SIZE])
{
    if (status == LUA_ERRMEM)
        snprintf(text, USBIP_SCRIPT_ERROR_SIZE, "%s: out of memory: a script may use %d MiB",
                 script->refused[0] ? script->refused : script->path,
                 USBIP_SCRIPT_MAX_MEMORY >> 20);
    else if (lua_type(L, -1) == LUA_TSTRING)
        snprintf(text, USBIP_SCRIPT_ERROR_SIZE, "%s", lua_tostring(L, -1));
    else
        snprintf(text, USBIP_SCRIPT_ERROR_SIZE, "%s: error in an error's text", script->path);
}

static int protected_call(struct usbip_script *script, lua_CFunction function, void *argument,
                          int results)
{
    lua_State *L = script->L, *previous = script->running;
    int base = lua_gettop(L) + 1;
    lua_pushcfunction(L, message_handler);
    lua_pushcfunction(L, function);
    lua_pushlightuserdata(L, argument);
    script_enter(script);
    script->running = L;
    int status = lua_pcall(L, 1, results, base);
    script->running = previous;
    script_leave(script);
    lua_remove(L, base);
    if (status == LUA_ERRMEM)
        lua_gc(L, LUA_GCCOLLECT);
    return status;
}

bool script_run(struct usbip_script *script, const char *what, lua_CFunction function,
                void *argument, int results)
{
    lua_State *L = script->L;
    char text[USBIP_SCRIPT_ERROR_SIZE];
    /* Calls nest when a hook makes something happen that has a hook. */
    if (!lua_checkstack(L, LUA_MINSTACK)) {
        script_report(script, what, "hooks call each other without end");
        return false;
    }
    int status = protected_call(script, function, argument, results);
    if (status == LUA_OK)
        return true;
    if (status == LUA_ERRRUN && lua_type(L, -1) == LUA_TSTRING) {
        script_report(script, what, lua_tostring(L, -1)); /* with a traceback, of any length */
    } else {
        script_error_text(script, L, status, text);
        script_report(script, what, text);
    }
    lua_pop(L, 1);
    return false;
}

/* ---- Hooks ---- */

/* What a hook is called with; the fields that it needs are set. */
struct call {
    struct usbip_script *script;
    enum script_hook hook;
    unsigned port; /* of hooks that are about one */
    const uint8_t *data;
    size_t size;
    unsigned value;
    const struct usbip_line_coding *coding;
    struct usbip_urb *urb;
};

static void push_hook(lua_State *L, const struct call *call)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->script->hooks[call->hook]);
}

static void push_bytes(lua_State *L, const uint8_t *data, size_t size)
{
    lua_pushlstring(L, size ? (const char *)data : "", size);
}

/* False when the hook has failed. */
static bool run_hook(struct call *call, lua_CFunction function)
{
    return !script_has(call->script, call->hook) ||
           script_run(call->script, hook_names[call->hook], function, call, 0);
}

/* Calls the hook with the arguments that have been pushed, and its port where there are several. */
static void call_hook(lua_State *L, const struct call *call, int arguments)
{
    if (call->port > 0)
        arguments += script_push_port(L, call->port);
    lua_call(L, arguments, 0);
}

static int call_without_arguments(lua_State *L)
{
    const struct call *call = lua_touserdata(L, 1);
    push_hook(L, call);
    call_hook(L, call, 0);
    return 0;
}

static void set_integer(lua_State *L, const char *key, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, key);
}

static int call_line_coding(lua_State *L)
{
    const struct call *call = lua_touserdata(L, 1);
    const struct usbip_line_coding *coding = call->coding;
    char text[USBIP_LINE_CODING_TEXT_SIZE];
    push_hook(L, call);
    lua_createtable(L, 0, 5);
    set_integer(L, "rate", coding->dwDTERate);
    set_integer(L, "data_bits", coding->bDataBits);
    lua_pushlstring(
        L, &"NOEMS?"[coding->bParityType <= USBIP_PARITY_SPACE ? coding->bParityType : 5], 1);
    lua_setfield(L, -2, "parity");
    if (coding->bCharFormat == USBIP_STOP_1_5) {
        lua_pushnumber(L, 1.5);
        lua_setfield(L, -2, "stop_bits");
    } else {
        set_integer(L, "stop_bits", coding->bCharFormat == USBIP_STOP_2 ? 2 : 1);
    }
    lua_pushstring(L, usbip_format_line_coding(coding, text));
    lua_setfield(L, -2, "text");
    call_hook(L, call, 1);
    return 0;
}

static int call_control_lines(lua_State *L)
{
    const struct call *call = lua_touserdata(L, 1);
    push_hook(L, call);
    lua_pushboolean(L, (call->value & USBIP_LINE_DTR) != 0);
    lua_pushboolean(L, (call->value & USBIP_LINE_RTS) != 0);
    call_hook(L, call, 2);
    return 0;
}

static int call_break(lua_State *L)
{
    const struct call *call = lua_touserdata(L, 1);
    push_hook(L, call);
    if (call->value == USBIP_BREAK_START)
        lua_pushliteral(L, "start");
    else if (call->value == USBIP_BREAK_STOP)
        lua_pushliteral(L, "stop");
    else
        lua_pushinteger(L, call->value);
    call_hook(L, call, 1);
    return 0;
}

static int call_data(lua_State *L)
{
    const struct call *call = lua_touserdata(L, 1);
    push_hook(L, call);
    push_bytes(L, call->data, call->size);
    call_hook(L, call, 1);
    return 0;
}

static int call_control(lua_State *L)
{
    const struct call *call = lua_touserdata(L, 1);
    const struct usbip_setup *setup = &call->urb->setup;
    push_hook(L, call);
    lua_createtable(L, 0, 6);
    set_integer(L, "bmRequestType", setup->bmRequestType);
    set_integer(L, "bRequest", setup->bRequest);
    set_integer(L, "wValue", setup->wValue);
    set_integer(L, "wIndex", setup->wIndex);
    set_integer(L, "wLength", setup->wLength);
    if (call->urb->direction == USBIP_DIR_OUT) {
        push_bytes(L, call->urb->data, call->urb->length);
        lua_setfield(L, -2, "data");
    }
    lua_call(L, 1, 1);
    bool in = setup->bmRequestType & USB_DIR_IN;
    int type = lua_type(L, -1);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN && !(type == LUA_TSTRING && in))
        luaL_error(L,
                   "on_control returned a %s for an %s request; it may return %strue, false or nil",
                   luaL_typename(L, -1), in ? "IN" : "OUT", in ? "a string, " : "");
    return 1;
}

static int call_transfer_out(lua_State *L)
{
    const struct call *call = lua_touserdata(L, 1);
    push_hook(L, call);
    lua_pushinteger(L, call->value);
    push_bytes(L, call->data, call->size);
    lua_call(L, 2, 0);
    return 0;
}

static int call_transfer_in(lua_State *L)
{
    const struct call *call = lua_touserdata(L, 1);
    push_hook(L, call);
    lua_pushinteger(L, call->value);
    lua_call(L, 1, 0);
    return 0;
}

/* ---- The behaviour ---- */

static void script_attach(void *context)
{
    struct usbip_script *script = context;
    script->attached = true;
    run_hook(&(struct call){.script = script, .hook = HOOK_ATTACH}, call_without_arguments);
}

static void script_detach(void *context)
{
    struct usbip_script *script = context;
    script->attached = false;
    run_hook(&(struct call){.script = script, .hook = HOOK_DETACH}, call_without_arguments);
}

static bool script_opened(void *context, unsigned port)
{
    struct usbip_script *script = context;
    bool well = run_hook(&(struct call){.script = script, .hook = HOOK_OPEN, .port = port},
                         call_without_arguments);
    if (script_has(script, HOOK_DIALOGUE))
        script_dialogue_start(script_dialogue_at(script, port));
    return well;
}

static void script_closed(void *context, unsigned port)
{
    struct usbip_script *script = context;
    script_dialogue_stop(script_dialogue_at(script, port));
    run_hook(&(struct call){.script = script, .hook = HOOK_CLOSE, .port = port},
             call_without_arguments);
}

static bool script_line_coding(void *context, unsigned port, const struct usbip_line_coding *coding)
{
    struct call call = {
        .script = context, .hook = HOOK_LINE_CODING, .port = port, .coding = coding};
    return run_hook(&call, call_line_coding);
}

static bool script_control_lines(void *context, unsigned port, unsigned lines)
{
    struct call call = {
        .script = context, .hook = HOOK_CONTROL_LINES, .port = port, .value = lines};
    return run_hook(&call, call_control_lines);
}

static bool script_send_break(void *context, unsigned port, unsigned duration_ms)
{
    struct call call = {.script = context, .hook = HOOK_BREAK, .port = port, .value = duration_ms};
    return run_hook(&call, call_break);
}

static bool script_data(void *context, unsigned port, const uint8_t *data, size_t size)
{
    struct call call = {
        .script = context, .hook = HOOK_DATA, .port = port, .data = data, .size = size};
    bool well = run_hook(&call, call_data);
    struct script_dialogue *dialogue = script_dialogue_at(context, port);
    if (dialogue->thread)
        script_dialogue_input(dialogue, data, size);
    return well;
}

static void script_drained(void *context, unsigned port)
{
    script_dialogue_room(context, port);
}

static bool script_control(void *context, struct usbip_urb *urb)
{
    struct usbip_script *script = context;
    if (!script_has(script, HOOK_CONTROL))
        return false;
    struct call call = {.script = script, .hook = HOOK_CONTROL, .urb = urb};
    if (!script_run(script, hook_names[HOOK_CONTROL], call_control, &call, 1)) {
        usbip_urb_stall(urb);
        return true;
    }
    /* The URB is there even if the hook has unplugged the device: URBs go when the session does. */
    bool taken = true;
    size_t size;
    const char *answer;
    if (lua_isnil(script->L, -1))
        taken = false;
    else if ((answer = lua_tolstring(script->L, -1, &size)) != NULL)
        usbip_urb_complete_with(urb, answer, size);
    else if (!lua_toboolean(script->L, -1))
        usbip_urb_stall(urb);
    else
        usbip_urb_complete(urb, 0, urb->direction == USBIP_DIR_OUT ? urb->length : 0);
    lua_pop(script->L, 1);
    return taken;
}

static bool script_transfer_out(void *context, uint8_t endpoint, const uint8_t *data, size_t size)
{
    struct call call = {.script = context,
                        .hook = HOOK_TRANSFER_OUT,
                        .value = endpoint,
                        .data = data,
                        .size = size};
    return run_hook(&call, call_transfer_out);
}

static void script_transfer_in(void *context, uint8_t endpoint, size_t size)
{
    (void)size;
    struct call call = {.script = context, .hook = HOOK_TRANSFER_IN, .value = endpoint};
    run_hook(&call, call_transfer_in);
}

static const struct usbip_behaviour_ops ops = {
    .attach = script_attach,
    .detach = script_detach,
    .open = script_opened,
    .close = script_closed,
    .line_coding = script_line_coding,
    .control_lines = script_control_lines,
    .send_break = script_send_break,
    .data = script_data,
    .drained = script_drained,
    .control = script_control,
    .out = script_transfer_out,
    .in = script_transfer_in,
};

/* ---- Loading ---- */

/* A misspelt hook would silently never be called. */
static void check_globals(lua_State *L)
{
    lua_pushglobaltable(L);
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TFUNCTION)
            continue;
        const char *name = lua_tostring(L, -2);
        bool known = strncmp(name, "on_", 3) != 0;
        for (int i = 0; i < HOOK_COUNT; i++)
            known |= strcmp(name, hook_names[i]) == 0;
        if (!known)
            luaL_error(L, "%s: there is no hook %s(); see docs/scripting.md", script_of(L)->path,
                       name);
    }
    lua_pop(L, 1);
}

static void find_hooks(lua_State *L, struct usbip_script *script)
{
    for (int i = 0; i < HOOK_COUNT; i++) {
        int type = lua_getglobal(L, hook_names[i]);
        if (type != LUA_TFUNCTION && type != LUA_TNIL)
            luaL_error(L, "%s: %s must be a function, not a %s", script->path, hook_names[i],
                       lua_typename(L, type));
        if (type == LUA_TFUNCTION)
            script->hooks[i] = luaL_ref(L, LUA_REGISTRYINDEX);
        else
            lua_pop(L, 1);
    }
    if (script_has(script, HOOK_DATA) && script_has(script, HOOK_DIALOGUE))
        luaL_error(L, "%s: on_data() and dialogue() both want what the host sends; keep one",
                   script->path);
    for (int i = 0; i < HOOK_COUNT && script->native; i++) {
        if (script_has(script, (enum script_hook)i))
            luaL_error(L, "%s: %s() is never called on a device with a behaviour", script->path,
                       hook_names[i]);
    }
    for (int i = 0; i < HOOK_COUNT; i++) {
        if (script_has(script, (enum script_hook)i) && script->replay_options.path)
            luaL_error(L, "%s: %s() is never called on a device that is replayed", script->path,
                       hook_names[i]);
        bool for_raw = i == HOOK_TRANSFER_OUT || i == HOOK_TRANSFER_IN;
        bool for_all = i == HOOK_ATTACH || i == HOOK_DETACH || i == HOOK_CONTROL;
        if (script_has(script, (enum script_hook)i) && !for_all && for_raw != script->is_raw)
            luaL_error(L, "%s: %s() is never called on a device of type \"%s\"", script->path,
                       hook_names[i], script->type->name);
    }
}

static void seed_random(lua_State *L, const struct usbip_script_options *options)
{
    lua_getglobal(L, "math");
    lua_getfield(L, -1, "randomseed");
    lua_pushinteger(L, (lua_Integer)options->seed);
    lua_pushinteger(L, (lua_Integer)options->index);
    lua_call(L, 2, 0);
    lua_getfield(L, -1, "random");
    lua_setglobal(L, "random");
    if (!options->unsafe) {
        lua_pushnil(L);
        lua_setfield(L, -2, "randomseed");
    }
    lua_pop(L, 1);
}

void script_load_file(lua_State *L, const char *path, const char *mode)
{
    if (luaL_loadfilex(L, path, mode) == LUA_OK)
        return;
    const char *message = lua_tostring(L, -1);
    if (!strstr(message, path))
        lua_pushfstring(L, "%s: %s", path, message);
    lua_error(L);
}

/* Hosts tell devices that are alike apart by their serial numbers. */
static void name_copy(lua_State *L, struct usbip_script *script, unsigned copy)
{
    unsigned index = script->options.descriptor.iSerialNumber;
    if (copy < 2 || index >= USBIP_MAX_STRINGS || !script->options.strings[index])
        return;
    const char **serial = &script->options.strings[index];
    *serial = lua_pushfstring(L, "%s-%d", *serial, (int)copy);
    luaL_ref(L, LUA_REGISTRYINDEX);
}

static int load(lua_State *L)
{
    const struct usbip_script_options *options = lua_touserdata(L, 1);
    struct usbip_script *script = script_of(L);
    lua_Debug debug;
    if (options->unsafe)
        script_open_unsafe(L);
    else
        script_open_sandbox(L);
    script_open_string(L);
    seed_random(L, options);
    script_open_device(L);
    script_open_functions(L);
    script_open_fault(L);
    script_open_replay(L);
    script_open_dialogue(L);
    script_load_file(L, script->path, options->unsafe ? NULL : "t");
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &debug);
    memcpy(script->source, debug.short_src, sizeof script->source);
    lua_call(L, 0, 0);
    if (!script->described)
        return luaL_error(L, "%s: no device { ... } in it, which says what the device is",
                          script->path);
    check_globals(L);
    find_hooks(L, script);
    name_copy(L, script, options->copy);
    return 0;
}

static bool set_paths(struct usbip_script *script, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t size = strlen(path) + 1, folder_size = slash ? (size_t)(slash - path) + 1 : 0;
    script->path = malloc(size);
    script->folder = malloc(folder_size + 1);
    if (!script->path || !script->folder)
        return false;
    memcpy(script->path, path, size);
    memcpy(script->folder, path, folder_size);
    script->folder[folder_size] = '\0';
    return true;
}

static int panic(lua_State *L)
{
    (void)L;
    fputs("a Lua error outside of a protected call\n", stderr);
    abort();
}

static struct usbip_device *make_device(struct usbip_script *script,
                                        char error_text[USBIP_SCRIPT_ERROR_SIZE])
{
    char reason[256];
    struct usbip_behaviour behaviour = {&ops, script};
    if (script->native)
        behaviour = (struct usbip_behaviour){script->native, &script->native_context};
    if (script->replay_options.path)
        return script_make_replay(script, error_text);
    struct usbip_device *device = usbip_device_new(&script->options, script->type, &behaviour,
                                                   script->scheduler, script->log, reason);
    if (!device)
        snprintf(error_text, USBIP_SCRIPT_ERROR_SIZE, "%s: %s", script->path, reason);
    script->device = device;
    if (device && script->faults)
        usbip_faults_set_device(script->faults, script, device);
    return device;
}

struct usbip_script *usbip_script_new(const struct usbip_script_options *options,
                                      struct usbip_scheduler *scheduler,
                                      const struct usbip_log *log, struct usbip_device **device,
                                      char error_text[USBIP_SCRIPT_ERROR_SIZE])
{
    struct usbip_script *script = calloc(1, sizeof *script);
    if (script) {
        script->scheduler = scheduler;
        script->log = log;
        script->options.personality = options->personality;
        script->faults = options->faults;
        script->unsafe = options->unsafe;
        script->ports = LUA_NOREF;
        for (unsigned i = 0; i < USBIP_MAX_PORTS; i++)
            script->dialogues[i] =
                (struct script_dialogue){.script = script, .port = i + 1, .reference = LUA_NOREF};
        script->L = lua_newstate(allocate, script);
    }
    if (!script || !script->L || !set_paths(script, options->path)) {
        snprintf(error_text, USBIP_SCRIPT_ERROR_SIZE, "%s: out of memory", options->path);
        usbip_script_free(script);
        return NULL;
    }
    lua_State *L = script->L;
    *(struct usbip_script **)lua_getextraspace(L) = script;
    lua_atpanic(L, panic);
    lua_sethook(L, look_at_limits, LUA_MASKCOUNT, INSTRUCTIONS_PER_LOOK);
    for (int i = 0; i < HOOK_COUNT; i++)
        script->hooks[i] = LUA_NOREF;

    /* lua_pcall() takes no pointer to const. */
    struct usbip_script_options mine = *options;
    int status = protected_call(script, load, &mine, 0);
    /* Most devices of many are idle: what the loading has left shall not stay until they are used.
     */
    lua_gc(L, LUA_GCCOLLECT);
    /* A small script is gone through in no time, but not after every 26 KiB of bytes received. */
    lua_gc(L, LUA_GCSETPAUSE, COLLECT_AT_PERCENT);
    if (status != LUA_OK) {
        script_error_text(script, L, status, error_text);
        error_text[strcspn(error_text, "\n")] = '\0';
        usbip_blank_control_characters(error_text);
        usbip_script_free(script);
        return NULL;
    }
    *device = make_device(script, error_text);
    if (!*device) {
        usbip_blank_control_characters(error_text);
        usbip_script_free(script);
        return NULL;
    }
    return script;
}

struct usbip_replay *usbip_script_replay(const struct usbip_script *script)
{
    return script->replay;
}

void usbip_script_free(struct usbip_script *script)
{
    if (!script)
        return;
    if (script->L) {
        for (unsigned i = 0; i < USBIP_MAX_PORTS; i++)
            script_dialogue_stop(&script->dialogues[i]);
        lua_close(script->L);
    }
    usbip_replay_free(script->replay);
    if (script->faults)
        usbip_faults_remove_owner(script->faults, script);
    for (unsigned i = 0; i < USBIP_MAX_PORTS; i++)
        usbip_buffer_free(&script->dialogues[i].input);
    free(script->path);
    free(script->folder);
    free(script);
}
