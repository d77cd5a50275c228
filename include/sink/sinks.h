/* The sinks of a node, by name: creation, threads, status, stop. Safe on any thread while sinks
 * come and go, unless stated otherwise. */
#ifndef MQFLEET_SINK_SINKS_H
#define MQFLEET_SINK_SINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include "base/err.h"
#include "message/router.h"
#include "sink/sink.h"

#define SINKS_MAX    64 /* on one node */
#define SINK_DEFAULT "default"

struct sinks;

/* environment: copied; its pointers are borrowed, like the router. NULL: out of memory. */
struct sinks *sinks_create(const struct sink_environment *environment, struct router *router);
void sinks_destroy(struct sinks *sinks); /* after sinks_join; NULL is legal */

/* Adds a sink, and makes the router send messages to it. The first is the default. Errors as of
 * sink_create; ERR_FULL: there are SINKS_MAX. Before sinks_start. */
enum err sinks_add(struct sinks *sinks, const struct sink_config *config, char *fault) MUST_CHECK;

/* Connects each sink with that of its dead letters. ERR_ARGUMENT: there is no such sink. After
 * sinks_add, before sinks_start. */
enum err sinks_connect_dead_letters(struct sinks *sinks, char *fault) MUST_CHECK;

/* Starts the thread of each sink. On an error `fault` (SINK_FAULT_LEN) is one line. */
enum err sinks_start(struct sinks *sinks, char *fault) MUST_CHECK;
/* sink_stop of each; those that take dead letters after the others have ended. */
void sinks_stop(struct sinks *sinks, int64_t timeout_ms);
/* Waits until all threads have ended. */
void sinks_join(struct sinks *sinks);

/* Whether a client may name it: the name of a sink, or the label of the default. sinks NULL: no. */
bool sinks_has(struct sinks *sinks, const char *name);
/* The status of the next sink; the default comes first. cursor: 0 at first. False: there are no
 * more. sinks NULL: there are none. */
bool sinks_next(struct sinks *sinks, size_t *cursor, struct sink_status *out);

#endif
