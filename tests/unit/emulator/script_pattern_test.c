/* The functions for patterns that scripts get, against those of Lua. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <string.h>

#include "emulator/script_internal.h"
#include "emulator/script_pattern.h"
#include "tests/support/testing.h"

static struct usbip_script script;

/* Every comparison has all of the limits. */
static int start_anew(lua_State *L)
{
    (void)L;
    script.instructions = 0;
    script.started_ns = 0;
    return 0;
}

/* In `lua` are Lua's own functions. same(name, …) calls both, and compares all that they do. */
static const char comparison[] =
    "-- An error names the function as it finds it in package.loaded.\n"
    "local function results(f, ...)\n"
    "  local t = table.pack(pcall(f, ...))\n"
    "  if not t[1] then t[2] = lua.gsub(t[2], \"to '[^']*'\", '') end\n"
    "  return t\n"
    "end\n"
    "local function show(t)\n"
    "  local texts = {}\n"
    "  for i = 1, t.n do\n"
    "    texts[i] = type(t[i]) == 'string' and lua.format('%q', t[i]) or tostring(t[i])\n"
    "  end\n"
    "  return table.concat(texts, ', ')\n"
    "end\n"
    "local function all(gmatch)\n"
    "  return function(...)\n"
    "    local found, next_match = {}, gmatch(...)\n"
    "    for i = 1, 100 do\n"
    "      local one = table.pack(next_match())\n"
    "      found[i] = show(one)\n"
    "      if one[1] == nil then break end\n"
    "    end\n"
    "    return table.concat(found, ';')\n"
    "  end\n"
    "end\n"
    "matched, failed = 0, 0\n"
    "function same(name, ...)\n"
    "  local his, mine = lua[name], string[name]\n"
    "  assert(his ~= mine)\n"
    "  if name == 'gmatch' then his, mine = all(his), all(mine) end\n"
    "  start_anew()\n"
    "  local expected, got = results(his, ...), results(mine, ...)\n"
    "  if expected[1] and expected[2] then matched = matched + 1 end\n"
    "  if not expected[1] then failed = failed + 1 end\n"
    "  if show(expected) ~= show(got) then\n"
    "    error(name .. '(' .. show(table.pack(...)) .. '): ' .. show(got) .. '; Lua: ' ..\n"
    "          show(expected), 0)\n"
    "  end\n"
    "end\n";

static void run(const char *text)
{
    lua_State *L = luaL_newstate();
    REQUIRE(L != NULL);
    script = (struct usbip_script){.L = L, .path = (char[]){"test.lua"}};
    *(struct usbip_script **)lua_getextraspace(L) = &script;
    luaL_openlibs(L);
    lua_newtable(L);
    lua_getglobal(L, "string");
    for (lua_pushnil(L); lua_next(L, -2) != 0;) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_settable(L, -5);
    }
    lua_pop(L, 1);
    lua_setglobal(L, "lua");
    lua_register(L, "start_anew", start_anew);
    script_open_string(L);
    int status = luaL_dostring(L, comparison) || luaL_dostring(L, text);
    if (status)
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
    CU_ASSERT_EQUAL(status, 0);
    lua_close(L);
}

static void test_generated(void)
{
    run("math.randomseed(20, 54)\n"
        "local random, rep = math.random, string.rep\n"
        "local items = { 'a', 'b', 'x', '1', ' ', '.', '.', '%a', '%d', '%s', '%w', '%W', '%p',\n"
        "  '%A', '[ab]', '[^a]', '[a-c]', '[^%w_]', '[]]', '[^]]', '[a-]', '[]-a]', '[%]x-z1]',\n"
        "  '[a-%%]', '[%a-z]', '[^', '[', ']', '%', '%%', '%.', '%-', '(', '(', '(', ')', ')',\n"
        "  ')', '()', '(.)', '(a*)', '(.-)', '%1', '%2', '%0', '%9', '%b()', '%bab', '%baa', "
        "'%b',\n"
        "  '%f[%w]', '%f[^a]', '%f', '%f[', '^', '$', '*', '*', '+', '+', '-', '-', '?', '?', "
        "'-',\n"
        "  '\\0', '%z', '%q', '\\xe9', '[\\x80-\\xff]', '[\\0-\\x1f]', '%g', '%C', '%x', '%U' }\n"
        "local letters = { 'a', 'a', 'a', 'b', 'b', 'c', 'x', '1', '2', ' ', '.', '(', ')', ']',\n"
        "  '-', '%', '_', '\\0', '\\n', '\\xe9', 'A' }\n"
        "local replacements = { '', '<%0>', '%1', '%2%1', '%%', '%', '%x', '[%9]', 'x', 5,\n"
        "  { a = 'A', b = 1, x = false, ['1'] = {}, ab = '' },\n"
        "  setmetatable({}, { __index = function(t, key) return #tostring(key) end }),\n"
        "  function(...) return select('#', ...) .. tostring((...)) end,\n"
        "  function(one) if one == 'a' then return end return one ~= 'b' and one end,\n"
        "  function() error('no', 0) end }\n"
        "local function any(list, most)\n"
        "  local text = {}\n"
        "  for i = 1, random(0, most) do text[i] = list[random(#list)] end\n"
        "  return table.concat(text)\n"
        "end\n"
        "for i = 1, 8000 do\n"
        "  local subject, pattern = any(letters, 12), any(items, 7)\n"
        "  local init = random(3) == 1 and random(-14, 14) or nil\n"
        "  same('find', subject, pattern, init, random(6) == 1)\n"
        "  same('match', subject, pattern, init)\n"
        "  same('gmatch', subject, pattern, init)\n"
        "  same('gsub', subject, pattern, replacements[random(#replacements)],\n"
        "       random(4) == 1 and random(-1, 4) or nil)\n"
        "end\n"
        "assert(matched > 12000 and failed > 4000, matched .. ' ' .. failed)\n");
}

/* Every class and every character. */
static void test_classes(void)
{
    run("local all = {}\n"
        "for i = 0, 255 do all[i + 1] = string.char(i) end\n"
        "all = table.concat(all)\n"
        "for i = 0, 255 do\n"
        "  local c = string.char(i)\n"
        "  same('gsub', all, '%' .. c, '<%0>')\n"
        "  same('gsub', all, '[%' .. c .. ']', '')\n"
        "  same('gsub', all, '[^x%' .. c .. ']', '')\n"
        "  same('gsub', all, c, 'replaced')\n"
        "  same('gsub', all, '[' .. c .. '-z]', '')\n"
        "end\n");
}

static void test_special_cases(void)
{
    run("local cases = {\n"
        "  { 'find', 'a.b', '.', 2, true }, { 'find', 'a.b', '', 10 }, { 'find', 'a.b', '', 4 },\n"
        "  { 'find', 'abc', '', -10 }, { 'find', 'abc', 'b', -2 }, { 'find', 'abc', 'b', -1 },\n"
        "  { 'find', 'abc', 'b', 0 }, { 'find', 'abc', '^b', 2 }, { 'find', '', '' },\n"
        "  { 'find', '', '', 2 }, { 'find', 'abc', 'abcd', 1, true }, { 'find', '', '$' },\n"
        "  { 'find', 'abc', 'c', math.mininteger }, { 'find', 'abc', 'c', math.maxinteger },\n"
        "  { 'find', 'a\\0b', '\\0' }, { 'find', 'a\\0b', 'b' }, { 'find', 'a\\0b', '%z' },\n"
        "  { 'find', 'aaa', '()a*()' }, { 'find', 'x^y', '^y' }, { 'find', 'x^y', 'x^' },\n"
        "  { 'find', 'a$b', 'a$b' }, { 'find', 'a$', '%$$' }, { 'find', 123, 2 },\n"
        "  { 'find', 'a', nil }, { 'find', nil, 'a' }, { 'find', 'a', 'a', 'x' }, { 'find', {} },\n"
        "  { 'match', 'key = value', '^(%w+)%s*=%s*(%w+)$' }, { 'match', '  x  ', '^%s*(.-)%s*$' "
        "},\n"
        "  { 'match', '2024-01-02', '(%d+)-(%d+)-(%d+)' }, { 'match', 'x', '(((x)))' },\n"
        "  { 'match', 'abab', '(ab)%1' }, { 'match', 'abab', '()ab%1' }, { 'match', 'a', '(a%1)' "
        "},\n"
        "  { 'match', '\"it\\'s\"', '([\"\\'])(.-)%1' }, { 'match', 'f(a(b)c)d', '%b()' },\n"
        "  { 'match', 'THE (quick) fox', '%f[%a]%a+%f[%A]', 5 }, { 'match', 'ab', '%f[%z]' },\n"
        "  { 'match', 'abc', '(b', 1 }, { 'match', 'abc', 'b)', 1 }, { 'match', 'a', '(' },\n"
        "  { 'match', 'a', ')' }, { 'match', 'a', '[a' }, { 'match', 'a', '[]' },\n"
        "  { 'match', 'a', '[^]' }, { 'match', 'a', '[%' }, { 'match', 'a', '[%]' },\n"
        "  { 'match', 'a', '%' }, { 'match', 'a', 'a%' }, { 'match', 'a', '%b' },\n"
        "  { 'match', 'a', '%ba' }, { 'match', 'a', '%f' }, { 'match', 'a', '%fa' },\n"
        "  { 'match', 'a', '%1' }, { 'match', 'a', 'b[' }, { 'match', 'a', '*' },\n"
        "  { 'match', 'a*', 'a**' }, { 'match', 'ab', '(a)*b' }, { 'match', 'a', '-' },\n"
        "  { 'match', ('a'):rep(250), ('a?'):rep(190) }, { 'match', 'a', ('a?'):rep(300) },\n"
        "  { 'match', ('a'):rep(300), ('a?'):rep(300) }, { 'match', ('a'):rep(300), "
        "('.-'):rep(199) },\n"
        "  { 'match', ('a'):rep(300), ('.-'):rep(200) }, { 'match', 'x', ('a*'):rep(199) },\n"
        "  { 'match', 'x', ('a*'):rep(200) }, { 'match', ('a'):rep(300000), '^.-b' },\n"
        "  { 'match', ('a'):rep(300000), '^.*$' }, { 'match', ('a'):rep(400), ('a'):rep(400) },\n"
        "  { 'match', ('a'):rep(40), ('(a)'):rep(32) }, { 'match', ('a'):rep(40), ('(a)'):rep(33) "
        "},\n"
        "  { 'match', 'a', ('()'):rep(32) }, { 'match', 'a', ('()'):rep(33) },\n"
        "  { 'gmatch', 'one two  three', '%a+' }, { 'gmatch', 'abc', '' }, { 'gmatch', 'abc', 'x*' "
        "},\n"
        "  { 'gmatch', 'k=v, a=b', '(%w+)=(%w+)' }, { 'gmatch', '^a^a', '^a' },\n"
        "  { 'gmatch', 'abc', '()', -2 }, { 'gmatch', 'abc', '.', 3 }, { 'gmatch', 'abc', '', 4 "
        "},\n"
        "  { 'gmatch', 'abc', '', 5 }, { 'gmatch', 'abc', '[' }, { 'gmatch', nil, 'a' },\n"
        "  { 'gsub', 'abc', '', '-' }, { 'gsub', 'abc', '%w', '%0%0' }, { 'gsub', 'abc', '%w', "
        "'%1' },\n"
        "  { 'gsub', 'abc', '^%w', 'x' }, { 'gsub', 'hello world', 'o', 'x', 1 },\n"
        "  { 'gsub', 'abc', '.', 'x', 0 }, { 'gsub', 'abc', '.', 'x', -5 },\n"
        "  { 'gsub', 'abc', '(a)(b)(c)', '%3%2%1%0%%' }, { 'gsub', 'abc', 'b', '%2' },\n"
        "  { 'gsub', 'abc', '()b', '<%1>' }, { 'gsub', 'abc', 'b', '%' }, { 'gsub', 'abc', 'b', "
        "'%z' },\n"
        "  { 'gsub', 'abc', 'b', 'a\\0%0\\0' }, { 'gsub', 'abc', 'x', '%z' }, { 'gsub', 'abc', "
        "'b', 1.5 },\n"
        "  { 'gsub', 'abc', '(b', 'x' }, { 'gsub', 'abc', '(b', {} }, { 'gsub', 'abc', 'b', nil "
        "},\n"
        "  { 'gsub', 'abc', 'b', true }, { 'gsub', 'abc', 'b', {} }, { 'gsub', 'abc', 'b', 'x', "
        "'y' },\n"
        "  { 'gsub', 'abc', 'b', { b = print } }, { 'gsub', 'abc', 'b', { b = true } },\n"
        "  { 'gsub', 'abc', '()', { 'x', false, 'y' } }, { 'gsub', 'a,b,,c', ',*', ';' },\n"
        "  { 'gsub', ('ab'):rep(5000), 'a', ('c'):rep(100) }, { 'gsub', 'x', '.', 'ab', "
        "math.maxinteger },\n"
        "  { 'gsub', ('ab'):rep(5000), '(a)(b)', '%2%1' }, { 'gsub' },\n"
        "}\n"
        "for _, case in ipairs(cases) do same(table.unpack(case, 1, 5)) end\n"
        /* What a capture of a number or a string method gives. */
        "assert(('x1'):match('%d') == '1' and ('abc'):gsub('b', string.upper) == 'aBc')\n"
        "local text = 'same'\n"
        "assert(text:gsub('x', 'y') == text)\n");
}

/* A search in pieces must find what lies across them. */
static void test_plain(void)
{
    run("for _, size in ipairs { 1, 2, 63, 64, 1000, 65536, 70000 } do\n"
        "  local wanted = ('w'):rep(size - 1) .. 'x'\n"
        "  local other = size > 1000 and 'v' or 'w'\n" /* 'w' takes square time */
        "  for _, before in ipairs { 0, 1, 65535 - size, 65536 - size, 65537 - size, 65535, "
        "65536,\n"
        "                            65537, 131071, 131072, 200000 } do\n"
        "    if before >= 0 then\n"
        "      local subject = other:rep(before) .. wanted\n"
        "      same('find', subject, wanted, 1, true)\n"
        "      same('find', subject .. 'end', wanted)\n"
        "      same('find', subject:sub(1, -2), wanted, 1, true)\n"
        "      same('find', subject .. subject, wanted, size + 1, true)\n"
        "    end\n"
        "  end\n"
        "end\n");
}

/* ---- The matcher ---- */

static size_t spent, most_at_once;

static void spend(void *context, size_t steps)
{
    (void)context;
    spent += steps;
    if (steps > most_at_once)
        most_at_once = steps;
}

static int match_bytes(struct script_pattern *match, const char *subject, size_t size,
                       const char *pattern)
{
    spent = most_at_once = 0;
    *match = (struct script_pattern){
        .subject = subject,
        .subject_end = subject + size,
        .pattern = pattern,
        .pattern_end = pattern + strlen(pattern),
        .spend = spend,
    };
    int result = script_pattern_match(match, subject);
    spent += match->steps;
    return result;
}

static void test_matcher(void)
{
    struct script_pattern match;
    const char *text = "key=value";
    CU_ASSERT_EQUAL(match_bytes(&match, text, 9, "(%w+)=()"), 1);
    CU_ASSERT_EQUAL(match.count, 2);
    CU_ASSERT_PTR_EQUAL(match.end, text + 4);
    CU_ASSERT_EQUAL(match.captures[0].size, 3);
    CU_ASSERT_EQUAL(match.captures[1].size, SCRIPT_CAPTURE_POSITION);
    CU_ASSERT_EQUAL(match_bytes(&match, text, 3, "%w+="), 0);
    CU_ASSERT_EQUAL(match_bytes(&match, text, 9, "[a"), -1);
    CU_ASSERT_STRING_EQUAL(match.error_text, "malformed pattern (missing ']')");
}

/* Subject and pattern are bytes without a zero behind them. */
static void test_ends(void)
{
    static const char *const patterns[] = {
        "a-b", ".",  "[^a]", "%b()", "%f[%z]", "(",    "[",  "[^",      "[%",
        "%",   "%b", "%bx",  "%f",   "%f[",    "x?",   "x*", "x-$",     "()",
        "%1",  ")",  "a-",   "[a-",  "[]",     "%f[%", "a%", "(x)%1%1",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        size_t size = strlen(patterns[i]);
        for (size_t subject_size = 1; subject_size <= 3; subject_size++) {
            char *pattern = malloc(size), *subject = malloc(subject_size);
            REQUIRE(pattern != NULL && subject != NULL);
            memcpy(pattern, patterns[i], size);
            memset(subject, i % 2 ? 'x' : '(', subject_size);
            struct script_pattern match = {
                .subject = subject,
                .subject_end = subject + subject_size,
                .pattern = pattern,
                .pattern_end = pattern + size,
                .spend = spend,
            };
            for (size_t at = 0; at <= subject_size; at++) {
                int result = script_pattern_match(&match, subject + at);
                CU_ASSERT_TRUE(result >= -1 && result <= 1);
                CU_ASSERT_TRUE(result < 1 || match.end <= match.subject_end);
            }
            free(pattern);
            free(subject);
        }
    }
}

/* What takes long is told, little by little. */
static void test_steps(void)
{
    static const char *const patterns[] = {"%b()", ".*x", ".-x", "[^x]+x", ".-.-.-x"};
    char subject[200], set[3000];
    struct script_pattern match;
    memset(subject, '(', sizeof subject);
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        CU_ASSERT_EQUAL(match_bytes(&match, subject, sizeof subject, patterns[i]), 0);
        CU_ASSERT_TRUE(spent >= sizeof subject - 1);
        CU_ASSERT_TRUE(most_at_once <= SCRIPT_PATTERN_STEPS + 5);
    }
    CU_ASSERT_TRUE(spent > 1000000);
    memset(set, 'a', sizeof set);
    set[0] = '[';
    memcpy(set + sizeof set - 3, "]x", 3);
    CU_ASSERT_EQUAL(match_bytes(&match, subject, sizeof subject, set), 0);
    CU_ASSERT_TRUE(spent >= 2 * (sizeof set - 4));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"as Lua: generated", test_generated},
        {"as Lua: classes", test_classes},
        {"as Lua: special cases", test_special_cases},
        {"as Lua: plain find", test_plain},
        {"the matcher alone", test_matcher},
        {"nothing is read behind the end", test_ends},
        {"steps", test_steps},
        CU_TEST_INFO_NULL,
    };
    return run_tests("script_pattern", tests);
}
