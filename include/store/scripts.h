/* The Lua scripts, compiled in from src/store/lua. */
#ifndef MQFLEET_STORE_SCRIPTS_H
#define MQFLEET_STORE_SCRIPTS_H

struct store_script_source {
    const char *name; /* the file's, without .lua; NULL ends the table */
    const char *text;
};

extern const struct store_script_source store_script_sources[];

/* The names of those that are prepended to each script, in this order. NULL ends the table. */
extern const char *const store_common_sources[];

#endif
