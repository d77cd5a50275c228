/* Owns the route to the sink of events. The place up to which events were passed on is in Redis, so
 * that the next leader continues there. */
#include "event_sink.h"

#include <stdio.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/telemetry/log.h"
#include "queued_event.h"

#define EVENT_SINK_PAGE_EVENTS 100
#define EVENT_SINK_REFUSED_MS  5000       /* until a node that does not lead asks again */
#define EVENT_SINK_ID          "$mqfleet" /* in place of the id of a client */

void event_sink_init(struct event_sink *sink, const struct conf *conf, struct store *store,
                     struct router *router) {
    *sink = (struct event_sink){.conf = conf, .store = store, .router = router};
}

void event_sink_fini(struct event_sink *sink) {
    if (sink->has_route) {
        route_fini(&sink->route);
    }
}

/* False: out of memory. */
static bool event_sink_update_route(struct event_sink *sink) {
    uint16_t generation = router_generation(sink->router);
    if (sink->has_route && generation == sink->generation) {
        return true;
    }
    if (!route_set(&sink->route, sink->router, sink->conf->events_sink, NULL, NULL)) {
        return false;
    }
    sink->has_route = true;
    sink->generation = generation;
    return true;
}

static struct message *event_sink_make_message(const char *text) {
    char topic[80];
    json_t *json = json_from_text(text, strlen(text), 0);
    const char *kind = queued_event_member(json, "kind");
    snprintf(topic, sizeof topic, "%s%s", EVENT_SINK_TOPIC, kind[0] != '\0' ? kind : "other");
    struct message *message = message_create(&(struct message){.id = EVENT_SINK_ID,
                                                               .client_id = EVENT_SINK_ID,
                                                               .topic = topic,
                                                               .payload = (const uint8_t *)text,
                                                               .payload_len = strlen(text),
                                                               .received_at_ms = clock_wall_ms(),
                                                               .received_us = clock_us(),
                                                               .qos = 1});
    json_decref(json);
    return message;
}

/* False: not taken; it is offered again. */
static bool event_sink_pass_on(struct event_sink *sink, const char *text) {
    struct message *message = event_sink_make_message(text);
    bool taken = message && route_submit(&sink->route, message, NULL) == ERR_OK;
    if (!taken) {
        message_destroy(message);
    }
    if (!taken && !sink->held) {
        log_event(LOG_WARN, "events_held", KS("sink", sink->conf->events_sink),
                  KS("detail", "the sink is missing or full: events wait in Redis"));
    }
    sink->held = !taken;
    return taken;
}

bool event_sink_step(struct event_sink *sink) {
    struct store_event_page page;
    if (!sink->router || sink->conf->events_sink[0] == '\0' || clock_ms() < sink->next_ms ||
        !event_sink_update_route(sink)) {
        return false;
    }
    enum err err = store_forward_events(sink->store, sink->conf->node_name, sink->done,
                                        EVENT_SINK_PAGE_EVENTS, &page);
    size_t n = err == ERR_OK ? page.n : 0, taken = 0;
    sink->next_ms = err == ERR_REFUSED ? clock_ms() + EVENT_SINK_REFUSED_MS : 0;
    if (err == ERR_OK || err == ERR_REFUSED) {
        sink->done[0] = '\0'; /* Redis has it, or another node leads, and has its own place */
    }
    while (taken < n && event_sink_pass_on(sink, store_event_page_text(&page, taken))) {
        snprintf(sink->done, sizeof sink->done, "%s", store_event_page_id(&page, taken));
        taken++;
    }
    if (taken > 0) {
        route_flush(&sink->route);
    }
    store_event_page_fini(&page);
    return taken > 0; /* Redis is to know at once, so that the next leader repeats little */
}
