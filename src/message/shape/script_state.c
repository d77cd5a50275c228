/* Owns the Lua state of each thread. Its memory is counted by the allocator; instructions and CPU
 * time are checked by a hook. Scripts cannot catch errors, so a limit always ends them. */
#include "script_state.h"

#include <lauxlib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "message/shape/script.h"
#include "script_library.h"

#define HOOK_INSTRUCTIONS 100

static const char script_functions_key = 0; /* in the registry: functions by number of the script */

struct script_state {
    lua_State *lua;
    uint64_t generation;
    size_t bytes, bytes_max;
    int64_t instructions;
    int64_t cpu_end_us;
};

static pthread_key_t state_key;
static pthread_once_t state_key_once = PTHREAD_ONCE_INIT;
static _Atomic uint64_t state_generation;

/* ---- limits ---------------------------------------------------------------------------------- */

static void *script_state_allocate(void *context, void *block, size_t old_size, size_t size) {
    struct script_state *state = context;
    size_t before = block ? old_size : 0; /* without a block, old_size is a kind of object */
    if (size == 0) {
        state->bytes -= before;
        free(block);
        return NULL;
    }
    if (size > before && state->bytes + (size - before) > state->bytes_max) {
        return NULL;
    }
    void *moved = realloc(block, size);
    if (moved) {
        state->bytes = state->bytes - before + size;
    }
    return moved;
}

static int64_t script_state_cpu_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void script_state_fail(lua_State *lua, const char *unit, int limit) {
    luaL_where(lua, 0); /* in a hook, that is what runs */
    lua_pushfstring(lua, "more than %d %s for one message", limit, unit);
    lua_concat(lua, 2);
    lua_error(lua);
}

void script_state_check_time(lua_State *lua) {
    struct script_state *state;
    (void)lua_getallocf(lua, (void **)&state);
    if (script_state_cpu_us() > state->cpu_end_us) {
        script_state_fail(lua, "ms", SCRIPT_CPU_MS_MAX);
    }
}

static void script_state_check(lua_State *lua, lua_Debug *event) {
    struct script_state *state;
    (void)event;
    (void)lua_getallocf(lua, (void **)&state);
    state->instructions += HOOK_INSTRUCTIONS;
    if (state->instructions > SCRIPT_INSTRUCTIONS_MAX) {
        script_state_fail(lua, "instructions", SCRIPT_INSTRUCTIONS_MAX);
    }
    script_state_check_time(lua);
}

void script_state_begin(struct script_state *state, size_t payload_len) {
    state->bytes_max = SCRIPT_MEMORY_MAX + SCRIPT_PAYLOAD_COPIES * payload_len;
    state->instructions = 0;
    state->cpu_end_us = script_state_cpu_us() + SCRIPT_CPU_MS_MAX * 1000;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void script_state_destroy(void *context) {
    struct script_state *state = context;
    if (state->lua) {
        lua_close(state->lua);
    }
    free(state);
}

static void script_state_create_key(void) {
    pthread_key_create(&state_key, script_state_destroy);
}

static int script_state_open(lua_State *lua) {
    script_library_open(lua);
    lua_newtable(lua);
    lua_rawsetp(lua, LUA_REGISTRYINDEX, &script_functions_key);
    return 0;
}

static struct script_state *script_state_create(void) {
    struct script_state *state = calloc(1, sizeof *state);
    if (!state) {
        return NULL;
    }
    state->generation = state_generation;
    script_state_begin(state, 0);
    state->lua = lua_newstate(script_state_allocate, state);
    if (!state->lua) {
        free(state);
        return NULL;
    }
    lua_pushcfunction(state->lua, script_state_open);
    if (lua_pcall(state->lua, 0, 0, 0) != LUA_OK || pthread_setspecific(state_key, state) != 0) {
        script_state_destroy(state);
        return NULL;
    }
    lua_sethook(state->lua, script_state_check, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    return state;
}

struct script_state *script_state_current(void) {
    pthread_once(&state_key_once, script_state_create_key);
    struct script_state *state = pthread_getspecific(state_key);
    if (state && state->generation != state_generation) {
        script_state_discard();
        state = NULL;
    }
    return state ? state : script_state_create();
}

lua_State *script_state_lua(struct script_state *state) {
    return state->lua;
}

void script_state_expire_all(void) {
    atomic_fetch_add(&state_generation, 1);
}

void script_state_discard(void) {
    struct script_state *state = pthread_getspecific(state_key);
    pthread_setspecific(state_key, NULL);
    if (state) {
        script_state_destroy(state);
    }
}

/* ---- scripts --------------------------------------------------------------------------------- */

static void script_state_compile(lua_State *lua, const char *text) {
    if (luaL_loadbufferx(lua, text, strlen(text), "=lua", "t") != LUA_OK) {
        lua_error(lua);
    }
    script_library_push_environment(lua);
    lua_setupvalue(lua, -2, 1); /* _ENV */
    lua_call(lua, 0, 1);
    if (!lua_isfunction(lua, -1)) {
        luaL_error(lua, "must return a function: return function(m) ... end");
    }
}

void script_state_push_function(lua_State *lua, uint64_t number, const char *text) {
    lua_rawgetp(lua, LUA_REGISTRYINDEX, &script_functions_key);
    if (lua_rawgeti(lua, -1, (lua_Integer)number) == LUA_TNIL) {
        lua_pop(lua, 1);
        script_state_compile(lua, text);
        lua_pushvalue(lua, -1);
        lua_rawseti(lua, -3, (lua_Integer)number);
    }
    lua_remove(lua, -2);
}
