/* The store that tests run with. */
#ifndef MQFLEET_TEST_REDIS_PROGRAM_H
#define MQFLEET_TEST_REDIS_PROGRAM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* $MQFLEET_TEST_REDIS: valkey-server. */
static inline const char *redis_program(void) {
    const char *program = getenv("MQFLEET_TEST_REDIS");
    return program ? program : "redis-server";
}

/* The command line tool beside it. */
static inline void redis_program_cli(char *out, size_t size) {
    const char *program = redis_program();
    snprintf(out, size, "%.*s-cli", (int)(strlen(program) - strlen("-server")), program);
}

#endif
