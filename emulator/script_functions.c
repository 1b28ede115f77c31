/* What a script can call, but for what only a dialogue can. */
#include <stdio.h>
#include <string.h>

#include "emulator/script_internal.h"
#include "protocol/usb.h"

#define TIMER_TYPE "usbip timer"
#define PORT_TYPE "usbip port"
#define MAX_US 9007199254740992.0 /* 2^53: doubles hold every integer up to there */

struct usbip_device *script_need_device(lua_State *L, const char *function)
{
    struct usbip_script *script = script_of(L);
    if (!script->device)
        luaL_error(L, "%s(): the device does not exist yet; call it from a hook", function);
    return script->device;
}

uint64_t script_check_ms(lua_State *L, int index, const char *function)
{
    double us = luaL_checknumber(L, index) * 1000;
    if (!(us >= 0 && us <= MAX_US))
        luaL_error(L, "%s(): %s is not a number of milliseconds", function,
                   luaL_tolstring(L, index, NULL));
    return us < 1 ? 1 : (uint64_t)(us + 0.5);
}

/* ---- log, now ---- */

/* One line that is safe to print: the host's bytes must not reach a terminal. */
static void add_printable(luaL_Buffer *line, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != 0x7f) {
            luaL_addchar(line, text[i]);
        } else {
            char escaped[8];
            snprintf(escaped, sizeof escaped, "\\x%02x", c);
            luaL_addstring(line, escaped);
        }
    }
}

static int script_log(lua_State *L)
{
    const struct usbip_script *script = script_of(L);
    int count = lua_gettop(L);
    luaL_checkstack(L, count, "too many arguments");
    for (int i = 1; i <= count; i++)
        luaL_tolstring(L, i, NULL);
    luaL_Buffer line;
    luaL_buffinit(L, &line);
    for (int i = 1; i <= count; i++) {
        size_t size;
        const char *text = lua_tolstring(L, count + i, &size);
        if (i > 1)
            luaL_addchar(&line, ' ');
        add_printable(&line, text, size);
    }
    luaL_pushresult(&line);
    usbip_log(script->log, USBIP_LOG_INFO, "%s: %s",
              script->device ? usbip_device_name(script->device) : script->path,
              lua_tostring(L, -1));
    return 0;
}

static int script_now(lua_State *L)
{
    lua_pushnumber(L, (double)script_of(L)->scheduler->now_us / 1000);
    return 1;
}

/* ---- write, set_modem ---- */

/* For functions that are not called on a port: that of the dialogue, or the only one. */
static unsigned default_port(lua_State *L, struct usbip_device *device, const char *function)
{
    const struct script_dialogue *dialogue = script_dialogue_of(L);
    if (!dialogue && usbip_device_port_count(device) > 1)
        luaL_error(L, "%s(): the chip has %d ports; say which one, as in ports[1]:%s()", function,
                   (int)usbip_device_port_count(device), function);
    return dialogue ? dialogue->port : 1;
}

/* The bytes are at index 1. port is 0 for the default. */
static int write_to(lua_State *L, unsigned port)
{
    struct usbip_script *script = script_of(L);
    size_t size;
    const char *data = luaL_checklstring(L, 1, &size);
    struct usbip_device *device = script_need_device(L, "write");
    if (port == 0)
        port = default_port(L, device, "write");
    if (!script->attached) {
        lua_pushboolean(L, false);
        return 1;
    }
    if (script_dialogue_of(L))
        return script_dialogue_write(L, port);
    size_t room = usbip_device_write_room(device, port);
    if (size > room)
        return luaL_error(L, "write(): %I bytes, but there is room for %I: the host does not read",
                          (lua_Integer)size, (lua_Integer)room);
    usbip_device_write(device, port, (const uint8_t *)data, size);
    lua_pushboolean(L, true);
    return 1;
}

static int set_modem_of(lua_State *L, unsigned port)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {
        {"dcd", USBIP_MODEM_DCD},       {"dsr", USBIP_MODEM_DSR},
        {"cts", USBIP_MODEM_CTS},       {"ri", USBIP_MODEM_RI},
        {"break", USBIP_MODEM_BREAK},   {"framing", USBIP_MODEM_FRAMING},
        {"parity", USBIP_MODEM_PARITY}, {"overrun", USBIP_MODEM_OVERRUN},
    };
    struct usbip_device *device = script_need_device(L, "set_modem");
    if (port == 0)
        port = default_port(L, device, "set_modem");
    unsigned modem = usbip_device_modem_state(device, port);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    for (lua_pushnil(L); lua_next(L, 1) != 0; lua_pop(L, 1)) {
        unsigned bit = 0;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            if (lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), names[i].name) == 0)
                bit = names[i].bit;
        }
        if (!bit)
            return luaL_error(L, "set_modem(): there is no line or event %s",
                              luaL_tolstring(L, -2, NULL));
        if (lua_toboolean(L, -1))
            modem |= bit;
        else
            modem &= ~bit;
    }
    usbip_device_set_modem_state(device, port, modem);
    return 0;
}

static int script_write(lua_State *L)
{
    return write_to(L, 0);
}

static int script_set_modem(lua_State *L)
{
    return set_modem_of(L, 0);
}

/* ---- ports ---- */

/* A userdata, which is the number. Leaves the arguments that follow it on the stack. */
static unsigned take_port(lua_State *L)
{
    unsigned port = *(unsigned *)luaL_checkudata(L, 1, PORT_TYPE);
    lua_remove(L, 1);
    return port;
}

static int port_write(lua_State *L)
{
    unsigned port = take_port(L);
    return write_to(L, port);
}

static int port_set_modem(lua_State *L)
{
    unsigned port = take_port(L);
    return set_modem_of(L, port);
}

static int port_text(lua_State *L)
{
    lua_pushfstring(L, "port %d", (int)take_port(L));
    return 1;
}

static int port_index(lua_State *L)
{
    const unsigned *port = luaL_checkudata(L, 1, PORT_TYPE);
    const char *name = luaL_checkstring(L, 2);
    if (strcmp(name, "number") == 0)
        lua_pushinteger(L, *port);
    else if (strcmp(name, "write") == 0)
        lua_pushcfunction(L, port_write);
    else if (strcmp(name, "set_modem") == 0)
        lua_pushcfunction(L, port_set_modem);
    else
        return luaL_error(L, "a port has no %s; it has number, write() and set_modem()", name);
    return 1;
}

void script_make_ports(lua_State *L, unsigned count)
{
    static const luaL_Reg operations[] = {
        {"__index", port_index}, {"__tostring", port_text}, {NULL, NULL}};
    luaL_newmetatable(L, PORT_TYPE);
    luaL_setfuncs(L, operations, 0);
    lua_pushboolean(L, false); /* hides the metatable from scripts */
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_createtable(L, (int)count, 0);
    for (unsigned port = 1; port <= count; port++) {
        *(unsigned *)lua_newuserdatauv(L, sizeof port, 0) = port;
        luaL_setmetatable(L, PORT_TYPE);
        lua_rawseti(L, -2, port);
    }
    lua_pushvalue(L, -1);
    lua_setglobal(L, "ports");
    script_of(L)->ports = luaL_ref(L, LUA_REGISTRYINDEX);
}

int script_push_port(lua_State *L, unsigned port)
{
    if (script_of(L)->ports == LUA_NOREF)
        return 0;
    lua_rawgeti(L, LUA_REGISTRYINDEX, script_of(L)->ports);
    lua_rawgeti(L, -1, port);
    lua_remove(L, -2);
    return 1;
}

/* ---- send, halt ---- */

static uint8_t check_endpoint(lua_State *L, struct usbip_device *device, const char *function)
{
    const struct usbip_configuration *table = usbip_device_configuration(device);
    lua_Integer endpoint = luaL_checkinteger(L, 1);
    for (unsigned i = 0; i < table->endpoint_count; i++) {
        if (table->endpoints[i].bEndpointAddress == endpoint)
            return table->endpoints[i].bEndpointAddress;
    }
    return (uint8_t)luaL_error(L, "%s(): the device has no endpoint %I", function, endpoint);
}

/* What is said and halted on a device that is replayed, the recording decides. */
static void refuse_replayed(lua_State *L, const char *function)
{
    if (script_of(L)->replay_options.path)
        luaL_error(L, "%s(): not on a device that is replayed", function);
}

static int script_send(lua_State *L)
{
    struct usbip_script *script = script_of(L);
    struct usbip_device *device = script_need_device(L, "send");
    refuse_replayed(L, "send");
    if (!script->is_raw)
        return luaL_error(L, "send(): only for devices of type \"raw\"; this one has write()");
    uint8_t endpoint = check_endpoint(L, device, "send");
    if (!(endpoint & USB_DIR_IN))
        return luaL_error(L, "send(): endpoint %d is not an IN endpoint", endpoint);
    size_t size;
    const char *data = luaL_checklstring(L, 2, &size);
    bool sent =
        script->attached && usbip_device_send(device, endpoint, (const uint8_t *)data, size);
    if (script->attached && !sent)
        return luaL_error(L, "send(): %I bytes do not fit: the host does not read",
                          (lua_Integer)size);
    lua_pushboolean(L, sent);
    return 1;
}

static int script_halt(lua_State *L)
{
    struct usbip_device *device = script_need_device(L, "halt");
    refuse_replayed(L, "halt");
    uint8_t endpoint = check_endpoint(L, device, "halt");
    script_dialogue_forget_arriving(script_of(L));
    usbip_device_halt(device, endpoint);
    return 0;
}

/* ---- unplug, plug ---- */

static int script_unplug(lua_State *L)
{
    struct usbip_device *device = script_need_device(L, "unplug");
    bool returns = !lua_isnoneornil(L, 1);
    uint64_t delay_us = returns ? script_check_ms(L, 1, "unplug") : 0;
    usbip_device_unplug(device);
    if (returns && usbip_device_plug_after(device, delay_us) < 0)
        return luaL_error(L, "unplug(): out of memory");
    return 0;
}

static int script_plug(lua_State *L)
{
    usbip_device_plug(script_need_device(L, "plug"));
    return 0;
}

/* ---- after, every ---- */

/* A userdata, with the function as its user value. The registry holds it while it is armed. */
struct script_timer {
    struct usbip_timer timer;
    struct usbip_script *script;
    uint64_t interval_us; /* 0: once */
};

static void release_timer(lua_State *L, struct script_timer *timer)
{
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, timer);
}

static int call_timer(lua_State *L)
{
    struct script_timer *timer = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, timer);
    lua_getiuservalue(L, -1, 1);
    /* First, so that the function may cancel it. */
    if (timer->interval_us == 0)
        release_timer(L, timer);
    else if (usbip_timer_arm(timer->script->scheduler, &timer->timer,
                             timer->script->scheduler->now_us + timer->interval_us) < 0)
        return luaL_error(L, "every(): out of memory");
    lua_call(L, 0, 0);
    return 0;
}

static void timer_fired(struct usbip_timer *fired)
{
    struct script_timer *timer = fired->user;
    script_run(timer->script, "timer", call_timer, timer, 0);
}

static int start_timer(lua_State *L, uint64_t delay_us, uint64_t interval_us)
{
    struct usbip_script *script = script_of(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    struct script_timer *timer = lua_newuserdatauv(L, sizeof *timer, 1);
    *timer = (struct script_timer){
        .timer = {.fired = timer_fired, .user = timer},
        .script = script,
        .interval_us = interval_us,
    };
    luaL_setmetatable(L, TIMER_TYPE);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, timer);
    if (usbip_timer_arm(script->scheduler, &timer->timer, script->scheduler->now_us + delay_us) <
        0) {
        release_timer(L, timer);
        return luaL_error(L, "timer: out of memory");
    }
    return 1;
}

static int script_after(lua_State *L)
{
    return start_timer(L, script_check_ms(L, 1, "after"), 0);
}

static int script_every(lua_State *L)
{
    uint64_t interval_us = script_check_ms(L, 1, "every");
    if (interval_us < USBIP_SCRIPT_MIN_INTERVAL_US)
        return luaL_error(L, "every(): an interval is at least %f ms",
                          USBIP_SCRIPT_MIN_INTERVAL_US / 1000.0);
    return start_timer(L, interval_us, interval_us);
}

static int timer_cancel(lua_State *L)
{
    struct script_timer *timer = luaL_checkudata(L, 1, TIMER_TYPE);
    lua_pushboolean(L, usbip_timer_is_armed(&timer->timer));
    usbip_timer_cancel(timer->script->scheduler, &timer->timer);
    release_timer(L, timer);
    return 1;
}

/* The state is closed: the scheduler must not know the timer any more. */
static int timer_collect(lua_State *L)
{
    struct script_timer *timer = luaL_checkudata(L, 1, TIMER_TYPE);
    usbip_timer_cancel(timer->script->scheduler, &timer->timer);
    return 0;
}

static void open_timers(lua_State *L)
{
    luaL_newmetatable(L, TIMER_TYPE);
    lua_newtable(L);
    lua_pushcfunction(L, timer_cancel);
    lua_setfield(L, -2, "cancel");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, timer_collect);
    lua_setfield(L, -2, "__gc");
    lua_pushboolean(L, false); /* hides the metatable from scripts */
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void script_open_functions(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"after", script_after},   {"every", script_every}, {"halt", script_halt},
        {"log", script_log},       {"now", script_now},     {"plug", script_plug},
        {"print", script_log},     {"send", script_send},   {"set_modem", script_set_modem},
        {"unplug", script_unplug}, {"write", script_write}, {NULL, NULL},
    };
    open_timers(L);
    lua_pushglobaltable(L);
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
