/* The sinks of a node, by name: those of its settings, which stay, and those of the fleet, which
 * come, change and go while the node runs. Safe on any thread, unless stated otherwise. */
#ifndef MQFLEET_SINK_SINKS_H
#define MQFLEET_SINK_SINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include "base/err.h"
#include "message/router.h"
#include "sink/sink.h"

#define SINKS_MAX       64   /* on one node */
#define SINKS_NAMES_MAX 1024 /* during the life of a process */

struct sinks;

/* environment: copied; its pointers are borrowed, like the router. Its address_allowed is called
 * only for sinks of the fleet. NULL: out of memory. */
struct sinks *sinks_create(const struct sink_environment *environment, struct router *router);
/* Copies what the sinks of the node share. sinks NULL: zeros. */
void sinks_environment(const struct sinks *sinks, struct sink_environment *out);
void sinks_destroy(struct sinks *sinks); /* after sinks_stop; NULL is legal */

/* Adds a sink of the settings. The first is the default. Errors as of sink_create; ERR_FULL: there
 * are SINKS_MAX. Before sinks_start. */
enum err sinks_add(struct sinks *sinks, const struct sink_config *config, char *fault) MUST_CHECK;

/* Connects each sink with that of its dead letters. ERR_ARGUMENT: there is no such sink. After
 * sinks_add, before sinks_start. */
enum err sinks_connect_dead_letters(struct sinks *sinks, char *fault) MUST_CHECK;

/* Starts the thread of each sink. On an error `fault` (SINK_FAULT_LEN) is one line. */
enum err sinks_start(struct sinks *sinks, char *fault) MUST_CHECK;
/* The node stops: sink_stop of each, and waits until all threads have ended. */
void sinks_stop(struct sinks *sinks, int64_t timeout_ms);

/* Puts a message into the queue of that sink, counted for no client. Takes over the message in any
 * case. ERR_OK: the receipt is answered. ERR_NOT_FOUND: no client may name such a sink; ERR_FULL;
 * ERR_WRONG_STATE: the sink stops. */
enum err sinks_submit(struct sinks *sinks, const char *name, struct message *message,
                      struct receipt *receipt) MUST_CHECK;

/* A sink of the fleet. Everything is borrowed. */
struct sinks_document {
    const char *name, *type;
    int64_t version;
    const json_t *settings; /* of the type; NULL: not usable on this node, see fault */
    const char *fault;
};
/* The node has these sinks of the fleet from now on, and no others: new ones start, changed ones
 * change (sink_change), removed ones write what is queued and end. What cannot be done yet is tried
 * again by sinks_maintain. A sink of the settings with the same name stays in effect. */
void sinks_apply(struct sinks *sinks, const struct sinks_document *documents, size_t count);
/* Call about once a second. */
void sinks_maintain(struct sinks *sinks);

/* Whether this node can run a client that names it: the name of a sink, or the label of the
 * default. sinks NULL: no. */
bool sinks_has(struct sinks *sinks, const char *name);
/* Also if it is one of the fleet that this node cannot use. */
bool sinks_knows(struct sinks *sinks, const char *name);
/* Whether the settings of this node describe it. */
bool sinks_owns(struct sinks *sinks, const char *name);
/* See router_set_routes and router_routes. */
bool sinks_set_routes(struct sinks *sinks, struct route_table *table);
struct route_table *sinks_routes(struct sinks *sinks);
/* See router_quotas and router_quotas_changed. */
struct rate_quotas *sinks_quotas(const struct sinks *sinks);
void sinks_quotas_changed(struct sinks *sinks);
/* The status of the next sink; the default comes first. cursor: 0 at first. False: there are no
 * more. sinks NULL: there are none. */
bool sinks_get_status(struct sinks *sinks, const char *name, struct sink_status *out);
bool sinks_next(struct sinks *sinks, size_t *cursor, struct sink_status *out);

#endif
