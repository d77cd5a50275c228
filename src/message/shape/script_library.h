/* The functions that scripts may call. */
#ifndef MQFLEET_SHAPE_SCRIPT_LIBRARY_H
#define MQFLEET_SHAPE_SCRIPT_LIBRARY_H

#include <lua.h>

/* Opens the libraries in a new state, hides unsafe functions, and bounds the others. */
void script_library_open(lua_State *lua);
/* Pushes a new table of globals: copies, so that no script changes another's. */
void script_library_push_environment(lua_State *lua);
/* json.decode and json.encode. */
int script_json_decode(lua_State *lua);
int script_json_encode(lua_State *lua);
/* The metatable that frees JSON values when an error leaves them behind. */
void script_json_open(lua_State *lua);

#endif
