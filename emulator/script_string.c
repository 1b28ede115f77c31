/* The functions of Lua's string library that take patterns, on a matcher whose work is limited. */
#include <ctype.h>
#include <string.h>

#include "emulator/script_internal.h"
#include "emulator/script_pattern.h"

enum {
    PLAIN_PIECE = 64 << 10, /* bytes of a subject that are searched between two looks at limits */
    BYTES_PER_STEP = 64,    /* of what the C library copies, compares or searches */
};

static void spend(void *context, size_t steps)
{
    script_spend(context, steps);
}

static struct script_pattern prepare(lua_State *L, const char *subject, size_t size,
                                     const char *pattern, size_t pattern_size)
{
    return (struct script_pattern){
        .subject = subject,
        .subject_end = subject + size,
        .pattern = pattern,
        .pattern_end = pattern + pattern_size,
        .spend = spend,
        .context = L,
    };
}

/* Whether there is a match at `at`. */
static bool match_at(lua_State *L, struct script_pattern *match, const char *at)
{
    int result = script_pattern_match(match, at);
    if (result < 0)
        luaL_error(L, "%s", match->error_text);
    return result > 0;
}

/* So that many short matches count too. */
static void finish(lua_State *L, struct script_pattern *match)
{
    size_t steps = match->steps;
    match->steps = 0;
    script_spend(L, steps);
}

/* Capture 0 of a pattern without captures is the match itself. */
static void push_capture(lua_State *L, const struct script_pattern *match, const char *start,
                         unsigned index)
{
    const struct script_capture *capture = &match->captures[index];
    if (index >= match->count) {
        if (index > 0)
            luaL_error(L, "invalid capture index %%%d", (int)index + 1);
        lua_pushlstring(L, start, (size_t)(match->end - start));
    } else if (capture->size == SCRIPT_CAPTURE_POSITION) {
        lua_pushinteger(L, capture->start - match->subject + 1);
    } else if (capture->size == SCRIPT_CAPTURE_OPEN) {
        luaL_error(L, "unfinished capture");
    } else {
        lua_pushlstring(L, capture->start, (size_t)capture->size);
    }
}

static int push_captures(lua_State *L, const struct script_pattern *match, const char *start,
                         unsigned count)
{
    luaL_checkstack(L, (int)count, "too many captures");
    for (unsigned i = 0; i < count; i++)
        push_capture(L, match, start, i);
    return (int)count;
}

/* All captures, or the match when there are none. */
static int push_match(lua_State *L, const struct script_pattern *match, const char *start)
{
    return push_captures(L, match, start, match->count > 0 ? match->count : 1);
}

/* The argument, a place that counts from 1, or from the end if negative, as an offset. */
static size_t check_offset(lua_State *L, int argument, size_t size)
{
    lua_Integer place = luaL_optinteger(L, argument, 1);
    if (place > 0)
        return (size_t)place - 1;
    if (place == 0 || place < -(lua_Integer)size)
        return 0;
    return size - (size_t)-place;
}

/* ---- find, match ---- */

static bool has_specials(lua_State *L, const char *pattern, size_t size)
{
    script_spend(L, size / BYTES_PER_STEP);
    for (size_t i = 0; i < size; i++) {
        if (pattern[i] != '\0' && strchr("^$*+?.([%-", pattern[i]))
            return true;
    }
    return false;
}

/* Returns where the bytes are found, or NULL. */
static const char *find_plain(lua_State *L, const char *text, size_t size, const char *wanted,
                              size_t wanted_size)
{
    size_t places = wanted_size > PLAIN_PIECE ? wanted_size : PLAIN_PIECE; /* to look at at once */
    while (size >= wanted_size) {
        size_t left = size - wanted_size + 1;
        size_t piece = (left < places ? left : places) + wanted_size - 1;
        const char *found = memmem(text, piece, wanted, wanted_size);
        script_spend(L, 1 + (found ? (size_t)(found - text) : piece) / BYTES_PER_STEP);
        if (found)
            return found;
        if (left <= places)
            return NULL;
        text += places;
        size -= places;
    }
    return NULL;
}

static int push_range(lua_State *L, const char *subject, const char *start, const char *end)
{
    lua_pushinteger(L, start - subject + 1);
    lua_pushinteger(L, end - subject);
    return 2;
}

/* The first match from a place on; NULL when there is none. */
static const char *search(lua_State *L, struct script_pattern *match, const char *from)
{
    bool anchored = match->pattern < match->pattern_end && *match->pattern == '^';
    const char *start = NULL;
    match->pattern += anchored;
    for (; !start; from++) {
        if (match_at(L, match, from))
            start = from;
        if (anchored || from == match->subject_end)
            break;
    }
    finish(L, match);
    return start;
}

int script_find(lua_State *L, const char *subject, size_t size, int pattern, size_t offset)
{
    size_t pattern_size;
    const char *text = lua_tolstring(L, pattern, &pattern_size);
    struct script_pattern match = prepare(L, subject, size, text, pattern_size);
    const char *start;
    if (!has_specials(L, text, pattern_size)) {
        start = find_plain(L, subject + offset, size - offset, text, pattern_size);
        return start ? push_range(L, subject, start, start + pattern_size) : 0;
    }
    start = search(L, &match, subject + offset);
    if (!start)
        return 0;
    push_range(L, subject, start, match.end);
    return 2 + push_captures(L, &match, start, match.count);
}

static int string_find(lua_State *L)
{
    size_t size, wanted_size;
    const char *subject = luaL_checklstring(L, 1, &size);
    const char *wanted = luaL_checklstring(L, 2, &wanted_size);
    size_t offset = check_offset(L, 3, size);
    int found = 0;
    if (offset <= size && lua_toboolean(L, 4)) {
        const char *start = find_plain(L, subject + offset, size - offset, wanted, wanted_size);
        found = start ? push_range(L, subject, start, start + wanted_size) : 0;
    } else if (offset <= size) {
        found = script_find(L, subject, size, 2, offset);
    }
    if (found > 0)
        return found;
    luaL_pushfail(L);
    return 1;
}

static int string_match(lua_State *L)
{
    size_t size, pattern_size;
    const char *subject = luaL_checklstring(L, 1, &size);
    const char *pattern = luaL_checklstring(L, 2, &pattern_size);
    size_t offset = check_offset(L, 3, size);
    if (offset <= size) {
        struct script_pattern match = prepare(L, subject, size, pattern, pattern_size);
        const char *start = search(L, &match, subject + offset);
        if (start)
            return push_match(L, &match, start);
    }
    luaL_pushfail(L);
    return 1;
}

/* ---- gmatch ---- */

/* Upvalues of the iterator. */
enum { SUBJECT = 1, PATTERN, NEXT, LAST_END };

static int next_match(lua_State *L)
{
    size_t size, pattern_size;
    const char *subject = lua_tolstring(L, lua_upvalueindex(SUBJECT), &size);
    const char *pattern = lua_tolstring(L, lua_upvalueindex(PATTERN), &pattern_size);
    lua_Integer last_end = lua_tointeger(L, lua_upvalueindex(LAST_END));
    struct script_pattern match = prepare(L, subject, size, pattern, pattern_size);
    for (size_t at = (size_t)lua_tointeger(L, lua_upvalueindex(NEXT)); at <= size; at++) {
        /* An empty match right behind the last one is none. */
        if (!match_at(L, &match, subject + at) || match.end - subject == last_end)
            continue;
        lua_pushinteger(L, match.end - subject);
        lua_copy(L, -1, lua_upvalueindex(NEXT));
        lua_replace(L, lua_upvalueindex(LAST_END));
        finish(L, &match);
        return push_match(L, &match, subject + at);
    }
    finish(L, &match);
    return 0;
}

static int string_gmatch(lua_State *L)
{
    size_t size;
    luaL_checklstring(L, 1, &size);
    luaL_checkstring(L, 2);
    size_t offset = check_offset(L, 3, size);
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer)(offset <= size ? offset : size + 1));
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, next_match, 4);
    return 1;
}

/* ---- gsub ---- */

/* Lua repeats its own allocations after a collection, but not those of a buffer. */
static void make_room(lua_State *L, const luaL_Buffer *buffer, size_t size)
{
    if (size > buffer->size - buffer->n)
        script_make_room(L, buffer->size / 2 * 3 + size);
}

static void add_bytes(lua_State *L, luaL_Buffer *buffer, const char *bytes, size_t size)
{
    make_room(L, buffer, size);
    luaL_addlstring(buffer, bytes, size);
}

/* The value on top, which becomes a string; popped. */
static void add_value(lua_State *L, luaL_Buffer *buffer)
{
    size_t size;
    lua_tolstring(L, -1, &size);
    make_room(L, buffer, size);
    luaL_addvalue(buffer);
}

/* The replacement is the string at index 3. */
static void add_by_string(lua_State *L, luaL_Buffer *buffer, struct script_pattern *match,
                          const char *start)
{
    size_t size;
    const char *at = lua_tolstring(L, 3, &size), *end = at + size, *escape;
    match->steps += size / BYTES_PER_STEP;
    while ((escape = memchr(at, '%', (size_t)(end - at))) != NULL) {
        add_bytes(L, buffer, at, (size_t)(escape - at));
        char what = escape + 1 < end ? escape[1] : '\0';
        at = escape + 2;
        match->steps++;
        if (what == '%') {
            luaL_addchar(buffer, '%');
        } else if (what == '0') {
            add_bytes(L, buffer, start, (size_t)(match->end - start));
        } else if (isdigit((unsigned char)what)) {
            push_capture(L, match, start, (unsigned)(what - '1'));
            add_value(L, buffer);
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
    }
    add_bytes(L, buffer, at, (size_t)(end - at));
}

/* Pushes what the table or function at index 3 has for the match. */
static void push_replacement(lua_State *L, const struct script_pattern *match, const char *start)
{
    if (lua_istable(L, 3)) {
        push_capture(L, match, start, 0);
        lua_gettable(L, 3);
    } else {
        lua_pushvalue(L, 3);
        lua_call(L, push_match(L, match, start), 1);
    }
}

/* Returns whether the match is replaced by something else. */
static bool replace(lua_State *L, luaL_Buffer *buffer, struct script_pattern *match,
                    const char *start)
{
    if (lua_type(L, 3) == LUA_TSTRING) {
        add_by_string(L, buffer, match, start);
        return true;
    }
    push_replacement(L, match, start);
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        add_bytes(L, buffer, start, (size_t)(match->end - start));
        return false;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    add_value(L, buffer);
    return true;
}

static int string_gsub(lua_State *L)
{
    size_t size, pattern_size;
    const char *at = luaL_checklstring(L, 1, &size);
    const char *pattern = luaL_checklstring(L, 2, &pattern_size), *last_end = NULL;
    int type = lua_type(L, 3);
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)size + 1), count = 0;
    luaL_argexpected(L,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                         type == LUA_TTABLE,
                     3, "string/function/table");
    if (type == LUA_TNUMBER)
        lua_tostring(L, 3);
    bool anchored = pattern_size > 0 && *pattern == '^', changed = false;
    struct script_pattern match = prepare(L, at, size, pattern + anchored, pattern_size - anchored);
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    while (count < most) {
        /* An empty match right behind the last one is none. */
        if (match_at(L, &match, at) && match.end != last_end) {
            count++;
            changed |= replace(L, &buffer, &match, at);
            at = last_end = match.end;
        } else if (at < match.subject_end) {
            add_bytes(L, &buffer, at++, 1);
        } else {
            break;
        }
        if (anchored)
            break;
    }
    if (changed) {
        add_bytes(L, &buffer, at, (size_t)(match.subject_end - at));
        luaL_pushresult(&buffer);
    } else {
        lua_pushvalue(L, 1);
    }
    finish(L, &match);
    lua_pushinteger(L, count);
    return 2;
}

void script_open_string(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"find", string_find}, {"gmatch", string_gmatch},
        {"gsub", string_gsub}, {"match", string_match},
        {NULL, NULL},
    };
    lua_getglobal(L, LUA_STRLIBNAME);
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
