/* Owns which functions scripts have. A row is a function of Lua's own libraries, or one of ours in
 * its place: pattern matching can take exponential time inside one call, where no hook runs, so its
 * cost is bounded before it begins. */
#include "script_library.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <string.h>
#include "script_state.h"

#define MATCH_STEPS_MAX 16777216.0

static const char library_key = 0; /* in the registry: the harmless globals */

/* ---- patterns -------------------------------------------------------------------------------- */

/* Behind the item of a pattern at `at`: a character, a class, or a set. */
static const char *script_library_skip_item(const char *at, const char *end) {
    if (*at == '%') {
        return at + 1 < end ? at + 2 : end;
    }
    if (*at != '[') {
        return at + 1;
    }
    at += at + 1 < end && at[1] == '^' ? 2 : 1;
    do { /* a ] at once is a character of the set */
        at += at < end && *at == '%' ? 2 : 1;
    } while (at < end && *at != ']');
    return at < end ? at + 1 : end;
}

/* How often the item at `at` multiplies the steps: a repetition, %b and %1 by the length of the
 * text. */
static double script_library_item_cost(const char *at, const char *next, const char *end,
                                       double len) {
    bool long_item = *at == '%' && at + 1 < end && (at[1] == 'b' || (at[1] >= '0' && at[1] <= '9'));
    double cost = long_item ? len : 1;
    if (next < end && *next == '?') {
        return cost * 2;
    }
    return next < end && (*next == '*' || *next == '+' || *next == '-') ? cost * len : cost;
}

/* A pattern with k repetitions may need about n^(k + 1) steps for n bytes, and each compares up to
 * the length of the pattern. */
static void script_library_check_cost(lua_State *lua, bool plain) {
    size_t subject_len, pattern_len;
    luaL_checklstring(lua, 1, &subject_len);
    const char *at = luaL_checklstring(lua, 2, &pattern_len);
    const char *end = at + pattern_len;
    double len = (double)subject_len + 1;
    double steps = len * (1 + (double)pattern_len / 8);
    while (!plain && at < end && steps <= MATCH_STEPS_MAX) {
        const char *next = script_library_skip_item(at, end);
        steps *= script_library_item_cost(at, next, end, len);
        at = next;
    }
    if (steps > MATCH_STEPS_MAX) {
        luaL_error(lua, "the pattern has too many repetitions for a text of %d bytes",
                   (int)subject_len);
    }
}

/* The upvalue is Lua's own function. */
static int script_library_match(lua_State *lua) {
    script_state_check_time(lua);
    bool plain = lua_toboolean(lua, lua_upvalueindex(2)) && lua_toboolean(lua, 4);
    script_library_check_cost(lua, plain);
    lua_pushvalue(lua, lua_upvalueindex(1));
    lua_insert(lua, 1);
    lua_call(lua, lua_gettop(lua) - 1, LUA_MULTRET);
    return lua_gettop(lua);
}

/* Lua's own loops over copies of an empty text as well, with the hook waiting. */
static int script_library_repeat(lua_State *lua) {
    script_state_check_time(lua);
    size_t len = 0, separator_len = 0;
    luaL_checklstring(lua, 1, &len);
    luaL_optlstring(lua, 3, "", &separator_len);
    if (len + separator_len == 0) {
        lua_pushliteral(lua, "");
        return 1;
    }
    lua_pushvalue(lua, lua_upvalueindex(1));
    lua_insert(lua, 1);
    lua_call(lua, lua_gettop(lua) - 1, 1);
    return 1;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static const struct {
    const char *library; /* "_G": a global */
    const char *names;   /* separated by spaces */
} harmless[] = {
    {LUA_GNAME, "assert error ipairs next pairs select tonumber tostring type"},
    {LUA_STRLIBNAME, "byte char find format gmatch gsub len lower match pack packsize rep reverse "
                     "sub unpack upper"},
    {LUA_TABLIBNAME, "concat unpack"},
    {LUA_MATHLIBNAME, "abs ceil floor fmod huge max maxinteger min mininteger modf pi sqrt "
                      "tointeger type ult exp log sin cos tan"},
    {LUA_UTF8LIBNAME, "char charpattern codepoint codes len offset"},
};

/* Stack: the library at `from`, the table of ours at the top. Copies the names. */
static void script_library_copy_names(lua_State *lua, int from, const char *names) {
    const char *at = names;
    while (*at) {
        size_t len = strcspn(at, " ");
        lua_pushlstring(lua, at, len);
        lua_pushvalue(lua, -1);
        lua_gettable(lua, from);
        lua_settable(lua, -3);
        at += len;
        at += strspn(at, " ");
    }
}

/* Stack: the table of string functions at the top. */
static void script_library_bound_texts(lua_State *lua) {
    static const char *const names[] = {"find", "match", "gmatch", "gsub"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        lua_getfield(lua, -1, names[i]);
        lua_pushboolean(lua, strcmp(names[i], "find") == 0);
        lua_pushcclosure(lua, script_library_match, 2);
        lua_setfield(lua, -2, names[i]);
    }
    lua_getfield(lua, -1, "rep");
    lua_pushcclosure(lua, script_library_repeat, 1);
    lua_setfield(lua, -2, "rep");
}

static void script_library_add_json(lua_State *lua) {
    lua_newtable(lua);
    lua_pushcfunction(lua, script_json_decode);
    lua_setfield(lua, -2, "decode");
    lua_pushcfunction(lua, script_json_encode);
    lua_setfield(lua, -2, "encode");
    lua_pushlightuserdata(lua, NULL);
    lua_setfield(lua, -2, "null");
    lua_setfield(lua, -2, "json");
}

/* Methods of strings, s:upper(), are ours as well. Stack: our globals at the top. */
static void script_library_set_methods(lua_State *lua) {
    lua_pushliteral(lua, "");
    lua_getmetatable(lua, -1);
    lua_newtable(lua);
    lua_getfield(lua, -4, LUA_STRLIBNAME);
    lua_pushnil(lua);
    while (lua_next(lua, -2)) {
        lua_pushvalue(lua, -2);
        lua_insert(lua, -2);
        lua_settable(lua, -5);
    }
    lua_pop(lua, 1);
    lua_setfield(lua, -2, "__index");
    lua_pop(lua, 2);
}

void script_library_open(lua_State *lua) {
    luaL_openlibs(lua);
    script_json_open(lua);
    lua_newtable(lua);
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        bool global = strcmp(harmless[i].library, LUA_GNAME) == 0;
        lua_getglobal(lua, harmless[i].library);
        if (!global) {
            lua_newtable(lua);
        } else {
            lua_pushvalue(lua, -2);
        }
        script_library_copy_names(lua, lua_gettop(lua) - 1, harmless[i].names);
        if (strcmp(harmless[i].library, LUA_STRLIBNAME) == 0) {
            script_library_bound_texts(lua);
        }
        if (!global) {
            lua_setfield(lua, -3, harmless[i].library);
        } else {
            lua_pop(lua, 1);
        }
        lua_pop(lua, 1);
    }
    script_library_add_json(lua);
    script_library_set_methods(lua);
    lua_rawsetp(lua, LUA_REGISTRYINDEX, &library_key);
}

/* Copies the table at the top, and the tables in it (depth: 1). */
static void script_library_push_copy(lua_State *lua, int depth) {
    int from = lua_gettop(lua);
    lua_newtable(lua);
    lua_pushnil(lua);
    while (lua_next(lua, from)) {
        lua_pushvalue(lua, -2);
        lua_insert(lua, -2); /* table key key value */
        if (depth > 0 && lua_istable(lua, -1)) {
            script_library_push_copy(lua, depth - 1);
            lua_remove(lua, -2);
        }
        lua_settable(lua, from + 1);
    }
}

void script_library_push_environment(lua_State *lua) {
    lua_rawgetp(lua, LUA_REGISTRYINDEX, &library_key);
    script_library_push_copy(lua, 1);
    lua_remove(lua, -2);
}
