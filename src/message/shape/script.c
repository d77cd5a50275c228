/* Owns one script: its text, and the way of a message into Lua and back. All of Lua runs inside one
 * protected call. */
#include "message/shape/script.h"

#include <lauxlib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "message/topic.h"
#include "script_state.h"

#define PROPERTIES_MAX 64

struct script {
    uint64_t number;
    char *text;
};

struct script_call {
    const struct script *script;
    const struct message *message;
    struct message **out;
    size_t count;
    size_t bytes;       /* of the messages, which Lua does not count */
    bool out_of_memory; /* of the process */
};

/* ---- into Lua -------------------------------------------------------------------------------- */

static void script_set_text(lua_State *lua, const char *name, const char *text) {
    lua_pushstring(lua, text);
    lua_setfield(lua, -2, name);
}

static void script_set_integer(lua_State *lua, const char *name, int64_t value) {
    lua_pushinteger(lua, value);
    lua_setfield(lua, -2, name);
}

static void script_push_labels(lua_State *lua, const struct message_origin *origin) {
    lua_newtable(lua);
    for (size_t i = 0; origin && i < origin->label_count; i++) {
        script_set_text(lua, origin->labels[i].name, origin->labels[i].value);
    }
}

/* Pairs, because names may repeat and have an order. */
static void script_push_user_properties(lua_State *lua, const struct message *message) {
    lua_Integer count = 0;
    lua_newtable(lua);
    for (size_t i = 0; i < message->property_count; i++) {
        const struct message_property *property = &message->properties[i];
        if (property->key) {
            lua_newtable(lua);
            lua_pushstring(lua, property->key);
            lua_rawseti(lua, -2, 1);
            lua_pushlstring(lua, property->value, property->value_len);
            lua_rawseti(lua, -2, 2);
            lua_rawseti(lua, -2, ++count);
        }
    }
}

static void script_push_message(lua_State *lua, const struct message *message) {
    lua_newtable(lua);
    script_set_text(lua, "id", message->id);
    script_set_text(lua, "client_id", message->client_id);
    script_set_text(lua, "topic", message->topic);
    lua_pushlstring(lua, (const char *)message->payload, message->payload_len);
    lua_setfield(lua, -2, "payload");
    script_set_integer(lua, "qos", message->qos);
    lua_pushboolean(lua, message->retain);
    lua_setfield(lua, -2, "retain");
    script_set_integer(lua, "received_at_ms", message->received_at_ms);
    script_set_text(lua, "broker", message->origin ? message->origin->broker : "");
    script_push_labels(lua, message->origin);
    lua_setfield(lua, -2, "labels");
    script_push_user_properties(lua, message);
    lua_setfield(lua, -2, "user_properties");
}

/* ---- out of Lua ------------------------------------------------------------------------------ */

/* The field of the message at the top; it stays on the stack, which keeps the text. */
static const char *script_get_text(lua_State *lua, const char *name, size_t *len) {
    if (lua_getfield(lua, -1, name) != LUA_TSTRING) {
        luaL_error(lua, "%s must be a string, not a %s", name, luaL_typename(lua, -1));
    }
    const char *text = lua_tolstring(lua, -1, len);
    lua_insert(lua, -2);
    return text;
}

/* Pair i of the list at the top. Its texts stay on the stack, below the list. */
static void script_get_property(lua_State *lua, lua_Integer i, struct message_property *property) {
    size_t key_len;
    luaL_checkstack(lua, 4, "user_properties");
    if (lua_rawgeti(lua, -1, i) != LUA_TTABLE || lua_rawlen(lua, -1) != 2 ||
        lua_rawgeti(lua, -1, 1) != LUA_TSTRING || lua_rawgeti(lua, -2, 2) != LUA_TSTRING) {
        luaL_error(lua, "user_properties must be a list of pairs of strings");
    }
    property->name = "user_property";
    property->key = lua_tolstring(lua, -2, &key_len);
    property->value = lua_tolstring(lua, -1, &property->value_len);
    if (strlen(property->key) != key_len) {
        luaL_error(lua, "the name of a user property must not contain \\0");
    }
    lua_rotate(lua, -4, 3); /* pair key value list */
}

/* Of the message at the top; all properties of the original but the user's, and those of the
 * script. Returns how many. */
static size_t script_get_properties(lua_State *lua, const struct message *from,
                                    struct message_property *out) {
    size_t count = 0;
    for (size_t i = 0; i < from->property_count && count < PROPERTIES_MAX; i++) {
        if (!from->properties[i].key) {
            out[count++] = from->properties[i];
        }
    }
    if (lua_getfield(lua, -1, "user_properties") != LUA_TTABLE) {
        luaL_error(lua, "user_properties must be a list of pairs of strings");
    }
    size_t given = lua_rawlen(lua, -1);
    if (count + given > PROPERTIES_MAX) {
        luaL_error(lua, "at most %d properties", PROPERTIES_MAX);
    }
    for (size_t i = 0; i < given; i++) {
        script_get_property(lua, (lua_Integer)i + 1, &out[count++]);
    }
    return count;
}

/* Takes the message at the top; everything that it pushes is popped. */
static void script_take_message(lua_State *lua, struct script_call *call) {
    struct message_property properties[PROPERTIES_MAX];
    struct message from = *call->message;
    size_t topic_len;
    int top = lua_gettop(lua);
    luaL_checkstack(lua, 8, "message");
    if (!lua_istable(lua, -1)) {
        luaL_error(lua, "must return nil, a message or a list of messages, not a %s",
                   luaL_typename(lua, -1));
    }
    from.topic = script_get_text(lua, "topic", &topic_len);
    const char *fault = topic_name_fault(from.topic, topic_len);
    if (fault) {
        luaL_error(lua, "topic %s", fault);
    }
    from.payload = (const uint8_t *)script_get_text(lua, "payload", &from.payload_len);
    from.property_count = script_get_properties(lua, call->message, properties);
    from.properties = properties;
    from.number = 0; /* another message */
    struct message *message = message_create(&from);
    if (!message) {
        call->out_of_memory = true;
        luaL_error(lua, "out of memory");
    }
    call->out[call->count++] = message;
    call->bytes += message->size;
    if (call->bytes > SCRIPT_MEMORY_MAX + SCRIPT_PAYLOAD_COPIES * call->message->payload_len) {
        luaL_error(lua, "the messages have more than %d bytes", SCRIPT_MEMORY_MAX);
    }
    lua_settop(lua, top);
}

static void script_take_result(lua_State *lua, struct script_call *call) {
    if (lua_isnil(lua, -1)) {
        return;
    }
    size_t count = lua_istable(lua, -1) ? lua_rawlen(lua, -1) : 0;
    if (count > SCRIPT_MESSAGES_MAX) {
        luaL_error(lua, "at most %d messages from one", SCRIPT_MESSAGES_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(lua, -1, (lua_Integer)i + 1);
        script_take_message(lua, call);
        lua_pop(lua, 1);
    }
    bool empty_list = false;
    if (count == 0 && lua_istable(lua, -1)) {
        lua_pushnil(lua);
        empty_list = lua_next(lua, -2) == 0;
        lua_pop(lua, empty_list ? 0 : 2);
    }
    if (count == 0 && !empty_list) {
        script_take_message(lua, call);
    }
}

/* ---- a call ---------------------------------------------------------------------------------- */

static int script_protected_run(lua_State *lua) {
    struct script_call *call = lua_touserdata(lua, 1);
    script_state_push_function(lua, call->script->number, call->script->text);
    if (call->message) {
        script_push_message(lua, call->message);
        lua_call(lua, 1, 1);
        script_take_result(lua, call);
    }
    return 0;
}

static void script_explain(lua_State *lua, char *fault) {
    const char *text = lua_type(lua, -1) == LUA_TSTRING ? lua_tostring(lua, -1) : NULL;
    snprintf(fault, SCRIPT_FAULT_LEN, "%s", text ? text : "error without a text");
    for (char *at = fault; *at; at++) {
        *at = (unsigned char)*at < ' ' ? ' ' : *at;
    }
}

/* Returns the status of Lua. */
static int script_call_once(struct script_call *call, struct script_state *state, char *fault) {
    lua_State *lua = script_state_lua(state);
    int status = LUA_ERRMEM;
    script_state_begin(state, call->message ? call->message->payload_len : 0);
    if (lua_checkstack(lua, 2)) {
        lua_pushcfunction(lua, script_protected_run);
        lua_pushlightuserdata(lua, call);
        status = lua_pcall(lua, 1, 0, 0);
    }
    if (status == LUA_ERRMEM) {
        snprintf(fault, SCRIPT_FAULT_LEN, "more than %d bytes", SCRIPT_MEMORY_MAX);
        script_state_discard();
    } else if (status != LUA_OK) {
        script_explain(lua, fault);
        lua_settop(lua, 0);
    }
    if (status != LUA_OK) {
        while (call->count > 0) {
            message_destroy(call->out[--call->count]);
        }
        call->bytes = 0;
    }
    return status;
}

/* Other scripts may have used up the memory of the thread's state: a second attempt has a new one.
 */
static enum err script_call_protected(struct script_call *call, char *fault) {
    int status = LUA_ERRMEM;
    for (int attempt = 0; attempt < 2 && status == LUA_ERRMEM; attempt++) {
        struct script_state *state = script_state_current();
        if (!state) {
            return ERR_MEMORY;
        }
        call->out_of_memory = false;
        status = script_call_once(call, state, fault);
    }
    return status == LUA_OK ? ERR_OK : call->out_of_memory ? ERR_MEMORY : ERR_ARGUMENT;
}

enum err script_run(const struct script *script, const struct message *message,
                    struct message **out, size_t *count, char *fault) {
    struct script_call call = {.script = script, .message = message, .out = out};
    enum err err = script_call_protected(&call, fault);
    *count = call.count;
    return err;
}

/* ---- life ------------------------------------------------------------------------------------ */

enum err script_create(struct script **out, const char *text, char *fault) {
    static _Atomic uint64_t next_number = 1;
    if (strlen(text) > SCRIPT_TEXT_MAX) {
        snprintf(fault, SCRIPT_FAULT_LEN, "must have at most %d bytes", SCRIPT_TEXT_MAX);
        return ERR_ARGUMENT;
    }
    struct script *script = calloc(1, sizeof *script);
    if (!script) {
        return ERR_MEMORY;
    }
    script->number = atomic_fetch_add(&next_number, 1);
    script->text = text_dup(text);
    struct script_call call = {.script = script};
    enum err err = script->text ? script_call_protected(&call, fault) : ERR_MEMORY;
    if (err != ERR_OK) {
        script_destroy(script);
        return err;
    }
    *out = script;
    return ERR_OK;
}

void script_destroy(struct script *script) {
    if (!script) {
        return;
    }
    script_state_expire_all();
    free(script->text);
    free(script);
}
