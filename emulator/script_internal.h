/*
 * The state of a script, shared by
 *   script.c           life, limits, hooks
 *   script_device.c    device { … }
 *   script_functions.c what a script can call
 *   script_fault.c     fault { … }
 *   script_replay.c    replay { … }
 *   script_dialogue.c  dialogue() and what it waits with
 *   script_sandbox.c   what is left of Lua's library
 *   script_string.c    its functions for patterns, on
 *   script_pattern.c   a matcher of our own
 */
#ifndef EMULATOR_SCRIPT_INTERNAL_H
#define EMULATOR_SCRIPT_INTERNAL_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "emulator/script.h"
#include "protocol/buffer.h"

enum script_hook {
    HOOK_ATTACH,
    HOOK_DETACH,
    HOOK_OPEN,
    HOOK_CLOSE,
    HOOK_LINE_CODING,
    HOOK_CONTROL_LINES,
    HOOK_BREAK,
    HOOK_DATA,
    HOOK_CONTROL,
    HOOK_TRANSFER_OUT,
    HOOK_TRANSFER_IN,
    HOOK_DIALOGUE,
    HOOK_COUNT,
};

enum { SCRIPT_PLACE_SIZE = LUA_IDSIZE + 16 };

/* What the dialogue waits for. */
enum script_wait { WAIT_NONE, WAIT_INPUT, WAIT_ROOM, WAIT_TIME };

/* Each port of the chip has one. */
struct script_dialogue {
    struct usbip_script *script;
    unsigned port;
    lua_State *thread; /* NULL: none is running */
    int reference;     /* keeps it from being collected */
    bool running;      /* it is on the C stack just now */
    bool skip_newline; /* the last line ended in CR: a LF right behind it belongs to it */
    bool overflowed;
    enum script_wait wait;
    unsigned wait_port; /* WAIT_ROOM: where it writes */
    struct usbip_timer timer;
    bool timed_out;
    struct usbip_buffer input;
    size_t start;    /* of what is unread in the input */
    size_t scanned;  /* bytes from start that hold no line end */
    size_t arriving; /* bytes of a transfer that are not in the input yet */
};

struct usbip_script {
    lua_State *L;
    struct usbip_device *device; /* NULL until the script has been loaded */
    struct usbip_scheduler *scheduler;
    const struct usbip_log *log;
    struct usbip_faults *faults;
    char *path;
    char
        *folder; /* where modules are looked for, with a slash at the end; "" for the current one */

    char source[LUA_IDSIZE]; /* the path as Lua's messages have it */

    size_t memory;
    char refused[SCRIPT_PLACE_SIZE]; /* "file:line" where memory was last refused in this call */
    lua_State *running;              /* the thread that runs; NULL outside of calls */
    uint64_t instructions;           /* of this call */
    uint64_t started_ns;             /* this call; 0: not looked at yet */
    bool exceeded;                   /* this call has gone over a limit */
    unsigned depth;                  /* calls from C into Lua that are under way */

    int hooks[HOOK_COUNT]; /* references; LUA_NOREF */

    /* device { … } */
    bool described;
    bool is_raw;
    const struct usbip_function_type *type;
    const struct usbip_behaviour_ops *native; /* takes the place of the hooks; NULL: none */
    union usbip_native_context native_context;
    struct usbip_device_options options;
    /* replay { … } instead */
    struct usbip_replay_options replay_options; /* path is NULL: none */
    struct usbip_replay *replay;
    int on_divergence, on_replay_data; /* references; LUA_NOREF */

    const char *line_end; /* NULL: CR, LF or both */
    size_t line_end_size;

    bool unsafe;
    bool attached;
    int ports; /* reference to the table `ports`; LUA_NOREF: the chip has one port, or none */
    struct script_dialogue dialogues[USBIP_MAX_PORTS];
};

/* The script of any of its threads. */
static inline struct usbip_script *script_of(lua_State *L)
{
    return *(struct usbip_script **)lua_getextraspace(L);
}

static inline bool script_has(const struct usbip_script *script, enum script_hook hook)
{
    return script->hooks[hook] != LUA_NOREF;
}

/*
 * Calls function(argument) on the script's main thread, protected and limited. When it succeeds,
 * `results` values are left on the stack. An error is logged and counted under the name of `what`.
 */
bool script_run(struct usbip_script *script, const char *what, lua_CFunction function,
                void *argument, int results);

/* Calls from C into Lua begin and end with these; limits are per outermost call. */
void script_enter(struct usbip_script *script);
void script_leave(struct usbip_script *script);

/* Counts work done in C as instructions, and raises an error when the call is over a limit. */
void script_spend(lua_State *L, size_t instructions);
/* Collects garbage if so many more bytes would not fit otherwise. */
void script_make_room(lua_State *L, size_t size);

/*
 * Pushes "file:line: " of the innermost function of `thread` that has lines, from a level on, or
 * "file: " of the script.
 */
void script_push_where(lua_State *L, lua_State *thread, int level);

/* Logs and counts an error: the first line of the message, and the traceback when verbose. */
void script_report(struct usbip_script *script, const char *what, const char *message);
/* The text of a failed call's error, which is on top of the stack. Does not allocate. */
void script_error_text(const struct usbip_script *script, lua_State *L, int status,
                       char text[USBIP_SCRIPT_ERROR_SIZE]);
/*
 * Pushes a message that has a place for the error value at an index: where it does not name one
 * itself, that of the innermost function of `thread` from a level on. With a traceback of the
 * thread where it will be logged.
 */
void script_push_message(lua_State *L, int index, lua_State *thread, int level);

/* Raises an error that names the function unless the device exists. */
struct usbip_device *script_need_device(lua_State *L, const char *function);

/* Pushes the file as a function, or raises an error that names it. mode is that of Lua's load(). */
void script_load_file(lua_State *L, const char *path, const char *mode);

/* Argument in ms, from 0 to 2^53 us; at least 1 us, so that time always goes on. */
uint64_t script_check_ms(lua_State *L, int index, const char *function);

/*
 * string.find() from an offset on, for the pattern at an index of the stack: pushes the first and
 * the last index and the captures. Returns how many values these are; 0 when nothing matches.
 */
int script_find(lua_State *L, const char *subject, size_t size, int pattern, size_t offset);

/* Each adds its functions to the globals. */
void script_open_string(lua_State *L); /* replaces those of Lua */
void script_open_sandbox(lua_State *L);
void script_open_unsafe(lua_State *L);
void script_open_device(lua_State *L);
void script_open_functions(lua_State *L);
void script_open_fault(lua_State *L);
void script_open_replay(lua_State *L);
void script_open_dialogue(lua_State *L);

/* Gives the script its `ports`, for a chip with several. */
void script_make_ports(lua_State *L, unsigned count);
/* Pushes one of them where there are several, for a hook. Returns how many values these are. */
int script_push_port(lua_State *L, unsigned port);

/* NULL and error_text when the capture cannot be played. */
struct usbip_device *script_make_replay(struct usbip_script *script,
                                        char error_text[USBIP_SCRIPT_ERROR_SIZE]);

static inline struct script_dialogue *script_dialogue_at(struct usbip_script *script, unsigned port)
{
    return &script->dialogues[port - 1];
}
/* The dialogue that runs on this thread, or NULL. */
struct script_dialogue *script_dialogue_of(lua_State *L);

void script_dialogue_start(struct script_dialogue *dialogue);
void script_dialogue_stop(struct script_dialogue *dialogue);
void script_dialogue_input(struct script_dialogue *dialogue, const uint8_t *data, size_t size);
/* The transfers that are being given to dialogues end now, and their bytes are gone. */
void script_dialogue_forget_arriving(struct usbip_script *script);
/* There is room on a port: whoever waits for it goes on. */
void script_dialogue_room(struct usbip_script *script, unsigned port);
/* write() in a dialogue itself: waits for room. The string is at index 1. */
int script_dialogue_write(lua_State *L, unsigned port);

#endif
