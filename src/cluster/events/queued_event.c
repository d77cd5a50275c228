/* Events about clients and their JSON form. No state of its own; any thread. */
#include "queued_event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"

struct queued_event *queued_event_create(const char *id, const char *reason,
                                         struct message_origin *origin) {
    size_t id_len = strlen(id);
    struct queued_event *event = calloc(1, sizeof *event + id_len + 1);
    if (event) {
        event->at_ms = clock_wall_ms();
        event->origin = message_origin_retain(origin);
        snprintf(event->reason, sizeof event->reason, "%s", reason);
        memcpy(event->id, id, id_len + 1);
    }
    return event;
}

static json_t *queued_event_incident_json(const struct incident_report *report, const char *node) {
    char at[CLOCK_RFC3339_LEN];
    const struct incident_view *view = &report->view;
    bool open = report->phase == INCIDENT_BEGAN || report->phase == INCIDENT_LASTS;
    enum client_error error = open ? view->first_error : view->error;
    json_t *cause = json_string(view->cause);
    return json_pack("{s:s, s:s, s:s, s:s, s:[s], s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I}", "at",
                     clock_rfc3339(clock_wall_ms(), at), "kind",
                     event_bus_kind_name(EVENT_BUS_INCIDENT), "broker", view->broker, "node", node,
                     "nodes", node, "state", open ? "began" : "ended", "reason",
                     report->phase == INCIDENT_ABANDONED ? "no_clients"
                     : report->phase == INCIDENT_ENDED   ? "broker_back"
                                                         : "broker_away",
                     "code", client_error_code(error), "message", cause ? cause : json_null(),
                     "clients", (json_int_t)view->clients, "waiting", (json_int_t)view->waiting,
                     "failures", (json_int_t)view->failures, "lasted_ms",
                     (json_int_t)report->lasted_ms);
}

struct queued_event *queued_event_create_incident(const struct incident_report *report,
                                                  const char *node) {
    struct queued_event *event = queued_event_create("", "", NULL);
    if (event) {
        event->kept = true;
        event->incident = queued_event_incident_json(report, node);
        event->phase = report->phase;
    }
    if (event && !event->incident) {
        queued_event_free(event);
        event = NULL;
    }
    return event;
}

void queued_event_free(struct queued_event *event) {
    if (event) {
        json_decref(event->incident);
        free(event->notice_text);
        message_origin_release(event->origin);
        free(event);
    }
}

/* A closed client waits for another node, unless it is deleted. */
static const char *queued_event_shown_state(const struct queued_event *event) {
    bool deleted = event->to == CLIENT_CLOSED && strcmp(event->reason, "deleted") == 0;
    return deleted ? "deleted" : client_state_shown(event->to);
}

static json_t *queued_event_notice_json(const struct queued_event *event, const char *node) {
    char at[CLOCK_RFC3339_LEN];
    json_t *id = json_string(event->id);
    json_t *message = json_string(event->notice_text);
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:o}", "at", clock_rfc3339(event->at_ms, at),
                     "kind", "notice", "id", id ? id : json_null(), "node", node, "code",
                     event->reason, "message", message ? message : json_null());
}

static json_t *queued_event_change_json(const struct queued_event *event, const char *node) {
    char at[CLOCK_RFC3339_LEN];
    json_t *id = json_string(event->id);
    json_t *reason = json_string(event->reason);
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:s, s:o, s:I}", "at",
                     clock_rfc3339(event->at_ms, at), "kind", "client", "id", id ? id : json_null(),
                     "node", node, "from", client_state_shown(event->from), "state",
                     queued_event_shown_state(event), "reason", reason ? reason : json_null(),
                     "version", (json_int_t)event->version);
}

/* Only if there are any. False: out of memory. */
static bool queued_event_add_labels(json_t *json, const struct message_origin *origin) {
    size_t count = origin ? origin->label_count : 0;
    json_t *labels = count > 0 ? json_object() : NULL;
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        failed |= json_object_set_new(labels, origin->labels[i].name,
                                      json_string(origin->labels[i].value));
    }
    return count == 0 || (json_object_set_new(json, "labels", labels) == 0 && failed == 0);
}

json_t *queued_event_to_json(const struct queued_event *event, const char *node) {
    if (event->incident) {
        return json_incref(event->incident);
    }
    json_t *json = event->notice_text ? queued_event_notice_json(event, node)
                                      : queued_event_change_json(event, node);
    if (json && !queued_event_add_labels(json, event->origin)) {
        json_decref(json);
        json = NULL;
    }
    return json;
}

const char *queued_event_member(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

/* Another kind, of a later version, is as harmless as a notice. */
static enum event_bus_kind queued_event_kind(const json_t *json) {
    static const enum event_bus_kind kinds[] = {EVENT_BUS_CLIENT, EVENT_BUS_NODE, EVENT_BUS_LEADER,
                                                EVENT_BUS_INCIDENT, EVENT_BUS_DROPPED};
    const char *name = queued_event_member(json, "kind");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(name, event_bus_kind_name(kinds[i])) == 0) {
            return kinds[i];
        }
    }
    return EVENT_BUS_NOTICE;
}

static const char *queued_event_subject(enum event_bus_kind kind) {
    switch (kind) {
    case EVENT_BUS_CLIENT:
    case EVENT_BUS_NOTICE:
        return "id";
    case EVENT_BUS_INCIDENT:
        return "broker";
    default:
        return "name";
    }
}

struct event_bus_event queued_event_from_json(const json_t *json, const char *text,
                                              const char *id) {
    enum event_bus_kind kind = queued_event_kind(json);
    const char *state = kind == EVENT_BUS_NOTICE ? "" : queued_event_member(json, "state");
    const json_t *version = json_object_get(json, "version"); /* older nodes do not send it */
    return (struct event_bus_event){
        .kind = kind,
        .subject = queued_event_member(json, queued_event_subject(kind)),
        .state = state,
        .labels = json_object_get(json, "labels"),
        .text = text,
        .id = id,
        .count = json_integer_value(json_object_get(json, "count")),
        .version = version ? json_integer_value(version) : INT64_MAX,
        .same_state =
            kind == EVENT_BUS_CLIENT && strcmp(queued_event_member(json, "from"), state) == 0};
}
