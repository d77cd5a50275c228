/* The Lua state of a thread: limits, and one function for each script. The thread that calls. */
#ifndef MQFLEET_SHAPE_SCRIPT_STATE_H
#define MQFLEET_SHAPE_SCRIPT_STATE_H

#include <stddef.h>
#include <stdint.h>
#include <lua.h>
#include "base/err.h"

struct script_state;

/* Of this thread; created on first use, and again after scripts were destroyed. NULL: out of
 * memory. */
struct script_state *script_state_current(void);
lua_State *script_state_lua(struct script_state *state);
/* The states of all threads are recreated before their next use. Any thread. */
void script_state_expire_all(void);
/* This thread's state is closed: after an error of memory. */
void script_state_discard(void);

/* From now on, for one call: limits count from zero. payload_len: of its message. */
void script_state_begin(struct script_state *state, size_t payload_len);

/* Raises an error of Lua when the time is over. C functions that may take long call it first: a
 * hook does not run inside them, nor soon after them. */
void script_state_check_time(lua_State *lua);

/* Pushes the function that `text` returns, compiled once for each state in an environment of its
 * own. Raises Lua errors. number: of the script, unique. */
void script_state_push_function(lua_State *lua, uint64_t number, const char *text);

#endif
