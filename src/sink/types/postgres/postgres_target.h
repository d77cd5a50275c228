/* The settings of a sink of the type postgres, and the parameters of its connections. One thread.
 */
#ifndef MQFLEET_SINK_POSTGRES_TARGET_H
#define MQFLEET_SINK_POSTGRES_TARGET_H

#include <stdint.h>
#include <jansson.h>
#include <libpq-fe.h>
#include "base/buffer.h"
#include "base/err.h"
#include "sink/sink_lookup.h"
#include "sink/sink_type.h"

#define POSTGRES_PARAMETERS_MAX 32

extern const struct sink_field postgres_fields[];

struct postgres_target {
    PQconninfoOption *options; /* of the url */
    int ca_fd;                 /* tls_ca, in memory; -1: none */
    char ca_path[32];
    char application_name[64];
    char tcp_timeout[16];
    const char *keywords[POSTGRES_PARAMETERS_MAX + 1]; /* both end with NULL */
    const char *values[POSTGRES_PARAMETERS_MAX + 1];
    size_t count;
    const struct sink_environment *environment;
    const char *hosts, *ports;  /* lists of the url */
    struct sink_lookup *lookup; /* still running; NULL: none */
    size_t server_index;        /* position of host, hostaddr and port among the parameters */
    struct buffer server[3];    /* lists of the same length: an element for each address */
    size_t turn;                /* the address that is tried first */
    int64_t connect_timeout_ms; /* at most timeout_ms */
    int64_t timeout_ms;         /* of one step */
};

/* Borrows all. The settings are complete. ERR_ARGUMENT: fault (SINK_FAULT_LEN) names the field,
 * and contains nothing of the url but names of its parameters. ERR_MEMORY. */
enum err postgres_target_init(struct postgres_target *target, const json_t *settings,
                              const struct sink_environment *environment, char *fault) MUST_CHECK;
void postgres_target_fini(struct postgres_target *target);
/* Resolves the hosts, and makes parameters of the addresses that are allowed. batch NULL: none.
 * Otherwise than with ERR_OK, fault (SINK_FAULT_LEN) says why. */
enum err postgres_target_resolve(struct postgres_target *target, int64_t deadline_ms,
                                 const struct sink_batch *batch, char *fault) MUST_CHECK;

#endif
