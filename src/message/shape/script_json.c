/* Owns JSON in scripts. Objects and arrays are tables; null is json.null. An error of Lua leaves C
 * code at once, so a JSON value is always in a box that Lua frees. */
#include <jansson.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdlib.h>
#include "base/system/json_memory.h"
#include "message/shape/message_view.h"
#include "message/shape/script.h"
#include "script_library.h"
#include "script_state.h"

#define DEPTH_MAX   64
#define SLOTS       4  /* of the stack, for one level */
#define VALUE_BYTES 64 /* that each value counts for, besides its text */

static const char box_key = 0; /* in the registry: the metatable of boxes */

struct script_box {
    json_t *json;
    char *text;
};

static void script_json_empty(struct script_box *box) {
    json_decref(box->json);
    free(box->text);
    *box = (struct script_box){0};
}

static int script_json_free_box(lua_State *lua) {
    script_json_empty(lua_touserdata(lua, 1));
    return 0;
}

void script_json_open(lua_State *lua) {
    lua_newtable(lua);
    lua_pushcfunction(lua, script_json_free_box);
    lua_setfield(lua, -2, "__gc");
    lua_rawsetp(lua, LUA_REGISTRYINDEX, &box_key);
}

static struct script_box *script_json_push_box(lua_State *lua) {
    struct script_box *box = lua_newuserdatauv(lua, sizeof *box, 0);
    *box = (struct script_box){0};
    lua_rawgetp(lua, LUA_REGISTRYINDEX, &box_key);
    lua_setmetatable(lua, -2);
    return box;
}

/* ---- decode ---------------------------------------------------------------------------------- */

static void script_json_push(lua_State *lua, const json_t *value, int depth);

static void script_json_push_array(lua_State *lua, const json_t *array, int depth) {
    lua_newtable(lua);
    for (size_t i = 0; i < json_array_size(array); i++) {
        script_json_push(lua, json_array_get(array, i), depth + 1);
        lua_rawseti(lua, -2, (lua_Integer)i + 1);
    }
}

static void script_json_push_object(lua_State *lua, const json_t *object, int depth) {
    const char *name;
    size_t len;
    json_t *value;
    lua_newtable(lua);
    json_object_keylen_foreach((json_t *)object, name, len, value) {
        lua_pushlstring(lua, name, len);
        script_json_push(lua, value, depth + 1);
        lua_rawset(lua, -3);
    }
}

static void script_json_push(lua_State *lua, const json_t *value, int depth) {
    if (depth > DEPTH_MAX) {
        luaL_error(lua, "JSON is nested deeper than %d", DEPTH_MAX);
    }
    luaL_checkstack(lua, SLOTS, "JSON");
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        script_json_push_object(lua, value, depth);
        break;
    case JSON_ARRAY:
        script_json_push_array(lua, value, depth);
        break;
    case JSON_STRING:
        lua_pushlstring(lua, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        lua_pushinteger(lua, json_integer_value(value));
        break;
    case JSON_REAL:
        lua_pushnumber(lua, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(lua, json_is_true(value));
        break;
    case JSON_NULL:
        lua_pushlightuserdata(lua, NULL);
        break;
    }
}

int script_json_decode(lua_State *lua) {
    size_t len;
    script_state_check_time(lua);
    const char *text = luaL_checklstring(lua, 1, &len);
    if (len > MESSAGE_JSON_BYTES_MAX) {
        return luaL_error(lua, "json.decode: more than %d bytes", MESSAGE_JSON_BYTES_MAX);
    }
    struct script_box *box = script_json_push_box(lua);
    json_error_t error;
    enum err err = json_parse(&box->json, text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (err != ERR_OK) {
        return luaL_error(lua, "json.decode: %s", err == ERR_MEMORY ? "out of memory" : error.text);
    }
    script_json_push(lua, box->json, 0);
    script_json_empty(box); /* its memory is not counted, so it does not wait for Lua */
    return 1;
}

/* ---- encode ---------------------------------------------------------------------------------- */

/* A table may contain another many times, so size and depth are bounded. */
struct script_writer {
    lua_State *lua;
    size_t bytes_left;
};

static json_t *script_json_read(struct script_writer *writer, int depth);

/* The table at the top has values from 1 on. */
static json_t *script_json_read_array(struct script_writer *writer, int depth) {
    lua_Integer count = (lua_Integer)lua_rawlen(writer->lua, -1);
    json_t *array = json_array();
    for (lua_Integer i = 1; array && i <= count; i++) {
        lua_rawgeti(writer->lua, -1, i);
        json_t *value = script_json_read(writer, depth + 1);
        lua_pop(writer->lua, 1);
        if (json_array_append_new(array, value) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *script_json_read_object(struct script_writer *writer, int depth) {
    lua_State *lua = writer->lua;
    json_t *object = json_object();
    lua_pushnil(lua);
    while (object && lua_next(lua, -2)) {
        size_t len = 0;
        const char *name = lua_type(lua, -2) == LUA_TSTRING ? lua_tolstring(lua, -2, &len) : NULL;
        json_t *value = name ? script_json_read(writer, depth + 1) : NULL;
        lua_pop(lua, 1);
        if (!value || json_object_setn_new(object, name, len, value) != 0) {
            lua_pop(lua, 1);
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static bool script_json_spend(struct script_writer *writer, size_t bytes) {
    bool enough = writer->bytes_left >= bytes;
    writer->bytes_left -= enough ? bytes : 0;
    return enough;
}

static json_t *script_json_read_text(struct script_writer *writer) {
    size_t len;
    const char *text = lua_tolstring(writer->lua, -1, &len);
    return script_json_spend(writer, len) ? json_stringn(text, len) : NULL;
}

/* The value at the top. NULL: it cannot be written as JSON. No error of Lua leaves it. */
static json_t *script_json_read(struct script_writer *writer, int depth) {
    lua_State *lua = writer->lua;
    if (depth > DEPTH_MAX || !lua_checkstack(lua, SLOTS) ||
        !script_json_spend(writer, VALUE_BYTES)) {
        return NULL;
    }
    switch (lua_type(lua, -1)) {
    case LUA_TLIGHTUSERDATA:
        return lua_touserdata(lua, -1) ? NULL : json_null();
    case LUA_TBOOLEAN:
        return json_boolean(lua_toboolean(lua, -1));
    case LUA_TNUMBER:
        return lua_isinteger(lua, -1) ? json_integer(lua_tointeger(lua, -1))
                                      : json_real(lua_tonumber(lua, -1));
    case LUA_TSTRING:
        return script_json_read_text(writer);
    case LUA_TTABLE:
        return lua_rawlen(lua, -1) > 0 ? script_json_read_array(writer, depth)
                                       : script_json_read_object(writer, depth);
    default:
        return NULL;
    }
}

int script_json_encode(lua_State *lua) {
    script_state_check_time(lua);
    luaL_checkany(lua, 1);
    lua_settop(lua, 1);
    struct script_box *box = script_json_push_box(lua);
    struct script_writer writer = {lua, SCRIPT_MEMORY_MAX};
    lua_pushvalue(lua, 1);
    box->json = script_json_read(&writer, 0);
    if (!box->json) {
        return luaL_error(lua,
                          "json.encode: must be tables, texts in UTF-8, finite numbers and "
                          "booleans, at most %d deep and %d bytes",
                          DEPTH_MAX, SCRIPT_MEMORY_MAX);
    }
    box->text = json_to_text(box->json, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!box->text) {
        return luaL_error(lua, "out of memory");
    }
    lua_pushstring(lua, box->text);
    script_json_empty(box);
    return 1;
}
