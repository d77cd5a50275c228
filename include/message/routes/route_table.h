/* The ordered list of routes: which sinks a message goes to. Compiled from JSON once per change,
 * then read by any thread.
 *
 *   [ { "name": "alarms",
 *       "match": { "topic": ["+/alarm/#"], "labels": {"site": ["oslo", "bergen"]},
 *                  "broker": "*.example.com:8883", "qos": [1, 2], "retain": false,
 *                  "size": {"min": 1, "max": 1024}, "when": [{"pointer": "/level", "gt": 3}] },
 *       "lua": "return function(m) ... end",
 *       "to": ["kafka"], "also": ["audit"], "stop": true } ]
 *
 * All routes that match add their sinks, in order, up to the first that says stop. A route
 * matches if all its conditions hold. A condition holds if one of its values matches. A message
 * to which no route adds a sink in `to` goes to the default. */
#ifndef MQFLEET_ROUTES_ROUTE_TABLE_H
#define MQFLEET_ROUTES_ROUTE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include "base/err.h"
#include "message/shape/message_view.h"

#define ROUTES_MAX      10000
#define ROUTE_SINKS_MAX 64 /* different ones, in one table */
#define ROUTES_SCRIPTED_MAX                                                                        \
    16 /* that count for one message; others are as if they did not match                          \
        */

struct route_table;

/* pointer: RFC 6901 in the list; detail: the error and the expected value. */
typedef void route_fault_report(void *context, const char *pointer, const char *detail);

/* Reference counted; the caller has one reference. NULL: out of memory (reported with pointer ""),
 * or at least one fault. The list is not kept. */
struct route_table *route_table_create(const json_t *list, route_fault_report *report,
                                       void *context);
/* As route_table_create, but the same table for equal lists, for the routes of clients.
 * ERR_ARGUMENT: at least one fault. ERR_MEMORY. */
enum err route_table_share(const json_t *list, struct route_table **out, route_fault_report *report,
                           void *context) MUST_CHECK;
struct route_table *route_table_retain(struct route_table *table); /* NULL is legal in both */
void route_table_release(struct route_table *table);

size_t route_table_count(const struct route_table *table);
/* The sinks that routes name; borrowed. Their places are the bits of a decision. */
size_t route_table_sink_count(const struct route_table *table);
const char *route_table_sink(const struct route_table *table, size_t index);
/* Of `sinks` (bits), those in `to` of a route that a message may match which a client of that
 * origin (NULL: not known) gets by that filter. Looks at all routes. */
uint64_t route_table_reachable(const struct route_table *table, uint64_t sinks,
                               const struct message_origin *origin, const char *filter);
/* Whether a route may use the labels or the broker of a client. */
bool route_table_needs_origin(const struct route_table *table);
/* Whether a route has a script. */
bool route_table_has_script(const struct route_table *table);
/* Route index's name; NULL: it has none. */
const char *route_table_name(const struct route_table *table, size_t index);

/* A route whose script makes the messages that its sinks get. */
struct route_scripted {
    const struct script *script;
    size_t route;
    uint64_t to, also;
};

struct route_decision {
    uint64_t to;   /* sinks that must all accept the message */
    uint64_t also; /* sinks that get it with best effort; none of them is in `to` */
    struct route_scripted scripted[ROUTES_SCRIPTED_MAX];
    size_t scripted_count;
    bool to_default; /* no route names a sink in `to` */
    bool stopped;    /* the last route has `stop` */
};

/* Called for each route that applies to the message, in order. */
typedef void route_taken(void *context, const struct route_table *table, size_t route);

/* Writes to *out what the routes decide about the message. The cost grows with the number of routes
 * that match. taken: may be NULL. */
void route_table_match(const struct route_table *table, struct message_view *view,
                       struct route_decision *out, route_taken *taken, void *context);

#endif
