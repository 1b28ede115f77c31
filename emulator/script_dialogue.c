/*
 * dialogue(): a coroutine for each port of the chip that lives from the opening of the port to its
 * closing, and waits for what the host sends. Each function that waits is tried again whenever
 * something has happened, and yields until it has what it wants or its time is up.
 */
#include <stdio.h>
#include <string.h>

#include "emulator/script_internal.h"

struct script_dialogue *script_dialogue_of(lua_State *L)
{
    struct usbip_script *script = script_of(L);
    for (unsigned i = 0; i < USBIP_MAX_PORTS; i++) {
        if (script->dialogues[i].thread == L)
            return &script->dialogues[i];
    }
    return NULL;
}

static struct script_dialogue *need_dialogue(lua_State *L, const char *function)
{
    struct script_dialogue *dialogue = script_dialogue_of(L);
    if (!dialogue)
        luaL_error(L, "%s(): only dialogue() itself can wait, while the port is open", function);
    return dialogue;
}

static size_t unread_size(const struct script_dialogue *dialogue)
{
    return dialogue->input.size - dialogue->start;
}

static const char *unread(const struct script_dialogue *dialogue)
{
    return dialogue->input.data ? (const char *)dialogue->input.data + dialogue->start : "";
}

static void consume(struct script_dialogue *dialogue, size_t size)
{
    dialogue->start += size;
    dialogue->scanned = 0;
    dialogue->overflowed = false;
    if (dialogue->start == dialogue->input.size)
        dialogue->start = dialogue->input.size = 0;
}

/* ---- Waiting ---- */

/*
 * The argument at `index` is a time-out in ms, or none. The timer of a wait that has ended is left
 * alone until here: when it fires, the dialogue looks at what it waits for, and goes on waiting.
 */
static void start_waiting(lua_State *L, struct script_dialogue *dialogue, int index,
                          const char *function)
{
    struct usbip_script *script = dialogue->script;
    usbip_timer_cancel(script->scheduler, &dialogue->timer);
    dialogue->timed_out = false;
    if (lua_isnoneornil(L, index))
        return;
    uint64_t due_us = script->scheduler->now_us + script_check_ms(L, index, function);
    if (usbip_timer_arm(script->scheduler, &dialogue->timer, due_us) < 0)
        luaL_error(L, "%s(): out of memory", function);
}

static int wait_for(lua_State *L, struct script_dialogue *dialogue, enum script_wait wait,
                    lua_KFunction again)
{
    if (dialogue->timed_out) {
        lua_pushnil(L);
        return 1;
    }
    if (!lua_isyieldable(L))
        return luaL_error(L,
                          "a dialogue cannot wait inside of a function that Lua's library calls");
    dialogue->wait = wait;
    return lua_yieldk(L, 0, (lua_KContext)dialogue, again);
}

static int check_overflow(lua_State *L, const struct script_dialogue *dialogue,
                          const char *function, const char *missing)
{
    if (unread_size(dialogue) < USBIP_SCRIPT_MAX_INPUT)
        return 0;
    return luaL_error(L, "%s(): %s in %d bytes", function, missing, USBIP_SCRIPT_MAX_INPUT);
}

/* ---- read_line, read, expect ---- */

/* Finds a line end in the unread bytes, and its size. Returns where, or -1. */
static ptrdiff_t find_line_end(const struct script_dialogue *dialogue, size_t *end_size)
{
    const struct usbip_script *script = dialogue->script;
    const char *text = unread(dialogue);
    size_t size = unread_size(dialogue);
    if (!script->line_end) {
        *end_size = 1;
        for (size_t i = dialogue->scanned; i < size; i++) {
            if (text[i] == '\n' || text[i] == '\r')
                return (ptrdiff_t)i;
        }
        return -1;
    }
    *end_size = script->line_end_size;
    for (size_t i = dialogue->scanned; i + *end_size <= size; i++) {
        if (memcmp(text + i, script->line_end, *end_size) == 0)
            return (ptrdiff_t)i;
    }
    return -1;
}

/* The LF of a CR LF belongs to the line that is read already. */
static void skip_newline(struct script_dialogue *dialogue)
{
    if (!dialogue->skip_newline || unread_size(dialogue) == 0)
        return;
    dialogue->skip_newline = false;
    if (*unread(dialogue) == '\n')
        consume(dialogue, 1);
}

static int read_line_again(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    struct script_dialogue *dialogue = (struct script_dialogue *)context;
    size_t end_size;
    ptrdiff_t end = find_line_end(dialogue, &end_size);
    if (end >= 0) {
        lua_pushlstring(L, unread(dialogue), (size_t)end);
        dialogue->skip_newline = !dialogue->script->line_end && unread(dialogue)[end] == '\r';
        consume(dialogue, (size_t)end + end_size);
        skip_newline(dialogue);
        return 1;
    }
    size_t size = unread_size(dialogue);
    dialogue->scanned = size < end_size ? 0 : size - end_size + 1;
    check_overflow(L, dialogue, "read_line", "no line end");
    return wait_for(L, dialogue, WAIT_INPUT, read_line_again);
}

static int read_line(lua_State *L)
{
    struct script_dialogue *dialogue = need_dialogue(L, "read_line");
    start_waiting(L, dialogue, 1, "read_line");
    return read_line_again(L, LUA_OK, (lua_KContext)dialogue);
}

static int read_again(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    struct script_dialogue *dialogue = (struct script_dialogue *)context;
    size_t size = (size_t)lua_tointeger(L, 1);
    if (unread_size(dialogue) < size)
        return wait_for(L, dialogue, WAIT_INPUT, read_again);
    lua_pushlstring(L, unread(dialogue), size);
    consume(dialogue, size);
    return 1;
}

static int read_bytes(lua_State *L)
{
    struct script_dialogue *dialogue = need_dialogue(L, "read");
    lua_Integer size = luaL_checkinteger(L, 1);
    if (size < 1 || size > USBIP_SCRIPT_MAX_INPUT)
        return luaL_error(L, "read(): %I bytes; from 1 to %d are possible", size,
                          USBIP_SCRIPT_MAX_INPUT);
    start_waiting(L, dialogue, 2, "read");
    return read_again(L, LUA_OK, (lua_KContext)dialogue);
}

static int expect_again(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    struct script_dialogue *dialogue = (struct script_dialogue *)context;
    lua_settop(L, 2);
    const char *text = unread(dialogue);
    int found = script_find(L, text, unread_size(dialogue), 1, 0);
    if (found > 0) {
        lua_Integer first = lua_tointeger(L, 3), last = lua_tointeger(L, 4);
        if (found == 2)
            lua_pushlstring(L, text + first - 1, (size_t)(last - first + 1));
        consume(dialogue, (size_t)last);
        return lua_gettop(L) - 4;
    }
    check_overflow(L, dialogue, "expect", "nothing that matches");
    return wait_for(L, dialogue, WAIT_INPUT, expect_again);
}

static int expect(lua_State *L)
{
    struct script_dialogue *dialogue = need_dialogue(L, "expect");
    luaL_checkstring(L, 1);
    lua_settop(L, 2);
    start_waiting(L, dialogue, 2, "expect");
    return expect_again(L, LUA_OK, (lua_KContext)dialogue);
}

/* ---- sleep, write ---- */

static int sleep_again(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    struct script_dialogue *dialogue = (struct script_dialogue *)context;
    if (!dialogue->timed_out)
        return wait_for(L, dialogue, WAIT_TIME, sleep_again);
    return 0;
}

static int script_sleep(lua_State *L)
{
    struct script_dialogue *dialogue = need_dialogue(L, "sleep");
    luaL_checknumber(L, 1);
    start_waiting(L, dialogue, 1, "sleep");
    return sleep_again(L, LUA_OK, (lua_KContext)dialogue);
}

/* At index 2 is the port, at 3 how many bytes are written already. */
static int write_again(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    struct script_dialogue *dialogue = (struct script_dialogue *)context;
    struct usbip_device *device = dialogue->script->device;
    unsigned port = (unsigned)lua_tointeger(L, 2);
    size_t size, done = (size_t)lua_tointeger(L, 3);
    const char *data = lua_tolstring(L, 1, &size);
    /* Again while some of it is taken: the host may have made room meanwhile. */
    for (size_t taken = 1; done < size && taken > 0; done += taken)
        taken = usbip_device_write(device, port, (const uint8_t *)data + done, size - done);
    if (done == size) {
        lua_pushboolean(L, true);
        return 1;
    }
    if (!lua_isyieldable(L))
        return luaL_error(L,
                          "a dialogue cannot wait inside of a function that Lua's library calls");
    lua_pushinteger(L, (lua_Integer)done);
    lua_replace(L, 3);
    dialogue->wait = WAIT_ROOM;
    dialogue->wait_port = port;
    return lua_yieldk(L, 0, context, write_again);
}

int script_dialogue_write(lua_State *L, unsigned port)
{
    struct script_dialogue *dialogue = need_dialogue(L, "write");
    luaL_checkstring(L, 1); /* a number becomes a string once and for all */
    lua_settop(L, 1);
    lua_pushinteger(L, port);
    lua_pushinteger(L, 0);
    return write_again(L, LUA_OK, (lua_KContext)dialogue);
}

/* ---- Running ---- */

static int report_dialogue(lua_State *L)
{
    lua_State *thread = lua_touserdata(L, 1);
    struct usbip_script *script = script_of(L);
    lua_xmove(thread, L, 1);
    script_push_message(L, -1, thread, 0);
    script_report(script, "dialogue", lua_tostring(L, -1));
    return 0;
}

static void report_end(struct usbip_script *script, lua_State *thread, int status)
{
    if (status == LUA_OK) {
        usbip_log(script->log, USBIP_LOG_VERBOSE, "%s: dialogue() has returned",
                  usbip_device_name(script->device));
    } else if (status == LUA_ERRMEM) {
        char text[USBIP_SCRIPT_ERROR_SIZE];
        script_error_text(script, thread, status, text);
        script_report(script, "dialogue", text);
    } else {
        script_run(script, "dialogue", report_dialogue, thread, 0);
    }
}

/* With its port, where the chip has several, when it begins. */
static int push_arguments(const struct script_dialogue *dialogue)
{
    if (lua_status(dialogue->thread) == LUA_YIELD)
        return 0;
    return script_push_port(dialogue->thread, dialogue->port);
}

static void resume(struct script_dialogue *dialogue)
{
    struct usbip_script *script = dialogue->script;
    lua_State *L = script->L, *thread = dialogue->thread, *previous = script->running;
    int results;
    if (dialogue->running)
        return; /* it finds what is new when it waits next */
    if (!lua_checkstack(L, LUA_MINSTACK)) {
        script_report(script, "dialogue", "hooks call each other without end");
        return;
    }
    dialogue->running = true;
    dialogue->wait = WAIT_NONE;
    /* It may be stopped while it runs, and must not be collected then. */
    lua_rawgeti(L, LUA_REGISTRYINDEX, dialogue->reference);
    script_enter(script);
    script->running = thread;
    int status = lua_resume(thread, L, push_arguments(dialogue), &results);
    script->running = previous;
    script_leave(script);
    bool stopped = dialogue->thread != thread;
    if (!stopped)
        dialogue->running = false;
    if (status == LUA_YIELD) {
        lua_pop(thread, results);
        if (!stopped && dialogue->wait == WAIT_NONE) {
            script_report(script, "dialogue",
                          "coroutine.yield() in dialogue(), which only waits with read_line(), "
                          "read(), expect(), write() and sleep()");
            script_dialogue_stop(dialogue);
        }
    } else if (!stopped) {
        report_end(script, thread, status);
        script_dialogue_stop(dialogue);
    }
    lua_pop(L, 1);
    if (status == LUA_ERRMEM)
        lua_gc(L, LUA_GCCOLLECT);
}

static void timer_fired(struct usbip_timer *timer)
{
    struct script_dialogue *dialogue = timer->user;
    dialogue->timed_out = true;
    resume(dialogue);
}

static int create_thread(lua_State *L)
{
    struct script_dialogue *dialogue = lua_touserdata(L, 1);
    lua_State *thread = lua_newthread(L);
    lua_rawgeti(thread, LUA_REGISTRYINDEX, dialogue->script->hooks[HOOK_DIALOGUE]);
    dialogue->reference = luaL_ref(L, LUA_REGISTRYINDEX);
    dialogue->thread = thread;
    return 0;
}

void script_dialogue_start(struct script_dialogue *dialogue)
{
    script_dialogue_stop(dialogue);
    if (!script_run(dialogue->script, "dialogue", create_thread, dialogue, 0))
        return;
    dialogue->timer.fired = timer_fired;
    dialogue->timer.user = dialogue;
    resume(dialogue);
}

/* The thread is left to the garbage collector: it may be running just now. */
void script_dialogue_stop(struct script_dialogue *dialogue)
{
    struct usbip_script *script = dialogue->script;
    usbip_timer_cancel(script->scheduler, &dialogue->timer);
    if (!dialogue->thread)
        return;
    luaL_unref(script->L, LUA_REGISTRYINDEX, dialogue->reference);
    dialogue->reference = LUA_NOREF;
    dialogue->thread = NULL;
    dialogue->running = false;
    dialogue->skip_newline = false;
    dialogue->overflowed = false;
    consume(dialogue, unread_size(dialogue));
}

static void append_input(struct script_dialogue *dialogue, const uint8_t *data, size_t size)
{
    if (dialogue->start > 0) {
        memmove(dialogue->input.data, unread(dialogue), unread_size(dialogue));
        dialogue->input.size -= dialogue->start;
        dialogue->start = 0;
    }
    /* When memory is out the bytes are lost, as when they do not fit. */
    if (usbip_buffer_append(&dialogue->input, data, size) == 0)
        skip_newline(dialogue);
}

/* In pieces that fit, because the dialogue may read each before the next. */
void script_dialogue_input(struct script_dialogue *dialogue, const uint8_t *data, size_t size)
{
    dialogue->arriving = size;
    while (dialogue->thread && dialogue->arriving > 0) {
        size_t piece = USBIP_SCRIPT_MAX_INPUT - unread_size(dialogue);
        if (piece > dialogue->arriving)
            piece = dialogue->arriving;
        if (piece == 0)
            break;
        append_input(dialogue, data + (size - dialogue->arriving), piece);
        dialogue->arriving -= piece;
        if (dialogue->wait == WAIT_INPUT)
            resume(dialogue);
    }
    if (dialogue->thread && dialogue->arriving > 0 && !dialogue->overflowed) {
        char message[128];
        snprintf(message, sizeof message, "%d bytes have not been read; what comes now is lost",
                 USBIP_SCRIPT_MAX_INPUT);
        script_report(dialogue->script, "dialogue", message);
        dialogue->overflowed = true;
    }
    dialogue->arriving = 0;
}

void script_dialogue_forget_arriving(struct usbip_script *script)
{
    for (unsigned i = 0; i < USBIP_MAX_PORTS; i++)
        script->dialogues[i].arriving = 0;
}

void script_dialogue_room(struct usbip_script *script, unsigned port)
{
    for (unsigned i = 0; i < USBIP_MAX_PORTS; i++) {
        struct script_dialogue *dialogue = &script->dialogues[i];
        if (dialogue->thread && dialogue->wait == WAIT_ROOM && dialogue->wait_port == port)
            resume(dialogue);
    }
}

void script_open_dialogue(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"expect", expect},      {"read", read_bytes}, {"read_line", read_line},
        {"sleep", script_sleep}, {NULL, NULL},
    };
    lua_pushglobaltable(L);
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
