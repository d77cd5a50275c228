/* Private to the event bus: one change of a client, a notice about it, or an incident of a broker.
 * Any thread. */
#ifndef MQFLEET_EVENTS_QUEUED_EVENT_H
#define MQFLEET_EVENTS_QUEUED_EVENT_H

#include <jansson.h>
#include "cluster/events/event_bus.h"

struct queued_event {
    int64_t at_ms; /* wall clock */
    enum client_state from, to;
    int64_t version;
    struct message_origin *origin; /* with the labels of the client; NULL: none */
    char *notice_text;             /* of a notice; NULL: a change of state or version */
    json_t *incident;              /* the event about an incident; NULL: it is about a client */
    enum incident_phase phase;     /* of the incident */
    bool kept;                     /* in the stream of events */
    char reason[96];               /* the code, for a notice */
    char id[];
};

/* NULL: out of memory. origin: gets one more reference. */
struct queued_event *queued_event_create(const char *id, const char *reason,
                                         struct message_origin *origin);
/* NULL: out of memory. */
struct queued_event *queued_event_create_incident(const struct incident_report *report,
                                                  const char *node);
void queued_event_free(struct queued_event *event); /* NULL is legal */

/* NULL: out of memory. */
json_t *queued_event_to_json(const struct queued_event *event, const char *node);

/* A member of an object; "": it is missing or no string. */
const char *queued_event_member(const json_t *object, const char *name);
/* Reads an event that any node has published, or a script has kept; `text` is its JSON text, `id`
 * its id in the stream, or "". All strings are borrowed. */
struct event_bus_event queued_event_from_json(const json_t *json, const char *text, const char *id);

#endif
