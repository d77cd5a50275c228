/* Owns the batch that is being built, and the counts of events that were not kept or published. */
#include "event_writer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"

static const struct {
    const char *reason;
    enum metric metric;
} event_writer_losses[EVENT_LOSS_COUNT] = {
    [EVENT_LOSS_RATE] = {"rate", METRIC_EVENTS_UNKEPT_RATE},
    [EVENT_LOSS_QUEUE] = {"queue_full", METRIC_EVENTS_UNKEPT_QUEUE},
    [EVENT_LOSS_REDIS] = {"redis", METRIC_EVENTS_UNKEPT_REDIS},
};

void event_writer_init(struct event_writer *writer, const struct conf *conf, struct store *store,
                       struct event_listeners *listeners) {
    *writer = (struct event_writer){.conf = conf, .store = store, .listeners = listeners};
    text_random_id(writer->own_id);
}

bool event_writer_is_full(const struct event_writer *writer) {
    return writer->n >= STORE_BATCH_MAX - EVENT_LOSS_COUNT;
}

void event_writer_count_unkept(struct event_writer *writer, enum event_loss loss, int64_t count) {
    writer->unkept_count[loss] += count;
    metric_add(event_writer_losses[loss].metric, count);
}

/* Takes ownership of json. use: without the text. False: out of memory. */
static bool event_writer_put(struct event_writer *writer, json_t *json, struct store_event use) {
    assert(writer->n < STORE_BATCH_MAX);
    char *text = json ? json_to_text(json, JSON_COMPACT) : NULL;
    if (!text) {
        json_decref(json);
        return false;
    }
    writer->jsons[writer->n] = json;
    writer->texts[writer->n] = text;
    use.text = text;
    writer->events[writer->n++] = use;
    return true;
}

void event_writer_add(struct event_writer *writer, const struct queued_event *event) {
    static const char *const phases[] = {[INCIDENT_BEGAN] = "began",
                                         [INCIDENT_LASTS] = "lasts",
                                         [INCIDENT_ENDED] = "ended",
                                         [INCIDENT_ABANDONED] = "ended"};
    json_t *json = queued_event_to_json(event, writer->conf->node_name);
    const char *incident = event->incident ? phases[event->phase] : NULL;
    bool live = !incident || event->phase != INCIDENT_LASTS; /* usually, it is no event */
    if (!event_writer_put(
            writer, json,
            (struct store_event){.kept = event->kept, .live = live, .incident = incident})) {
        event_writer_count_unkept(writer, EVENT_LOSS_QUEUE, 1);
    }
}

/* ---- sending --------------------------------------------------------------------------------- */

/* For readers that come later: what the stream lacks at this place. */
static void event_writer_add_losses(struct event_writer *writer) {
    char at[CLOCK_RFC3339_LEN];
    clock_rfc3339(clock_wall_ms(), at);
    for (size_t i = 0; i < EVENT_LOSS_COUNT; i++) {
        int64_t count = writer->unkept_count[i];
        json_t *json =
            count > 0
                ? json_pack("{s:s, s:s, s:s, s:s, s:I}", "at", at, "kind",
                            event_bus_kind_name(EVENT_BUS_DROPPED), "node", writer->conf->node_name,
                            "reason", event_writer_losses[i].reason, "count", (json_int_t)count)
                : NULL;
        if (event_writer_put(writer, json, (struct store_event){.kept = true})) {
            writer->unkept_count[i] = 0;
        }
    }
}

static void event_writer_deliver(struct event_writer *writer) {
    for (size_t i = 0; i < writer->n; i++) {
        if (writer->events[i].live) {
            struct event_bus_event event =
                queued_event_from_json(writer->jsons[i], writer->texts[i], writer->ids[i]);
            event_listeners_deliver(writer->listeners, &event);
        }
    }
}

/* What the node has told of its incidents is replaced by the events of the fleet. */
static void event_writer_take_told(struct event_writer *writer) {
    for (size_t i = 0; i < writer->n; i++) {
        char *text = writer->told[i];
        json_t *json = text && text[0] != '\0' ? json_from_text(text, strlen(text), 0) : NULL;
        if (json) {
            json_decref(writer->jsons[i]);
            free(writer->texts[i]);
            writer->jsons[i] = json;
            writer->texts[i] = text;
        } else {
            free(text);
        }
        writer->events[i].live = text ? json != NULL : writer->events[i].live;
    }
}

static int64_t event_writer_count_kept(const struct event_writer *writer) {
    int64_t count = 0;
    for (size_t i = 0; i < writer->n; i++) {
        count += writer->events[i].kept && writer->events[i].live;
    }
    return count;
}

/* A batch that could not be written is lost, except for those who listen here. */
static void event_writer_note_failure(struct event_writer *writer, enum err err, int64_t lost) {
    char detail[STORE_ERROR_LEN];
    store_last_error(writer->store, detail);
    log_event(LOG_DEBUG, "news_not_published", KS("error", err_name(err)), KS("detail", detail));
    for (size_t i = 0; i < writer->n; i++) {
        json_t *json = writer->jsons[i];
        if (writer->events[i].live) {
            lost++;
        } else { /* it was about others that are missing */
            for (size_t k = 0; k < EVENT_LOSS_COUNT; k++) {
                if (strcmp(queued_event_member(json, "reason"), event_writer_losses[k].reason) ==
                    0) {
                    writer->unkept_count[k] += json_integer_value(json_object_get(json, "count"));
                }
            }
        }
    }
    writer->unpublished_count = lost;
    event_writer_count_unkept(writer, EVENT_LOSS_REDIS, event_writer_count_kept(writer));
}

static void event_writer_clear(struct event_writer *writer) {
    for (size_t i = 0; i < writer->n; i++) {
        free(writer->texts[i]);
        json_decref(writer->jsons[i]);
    }
    writer->n = 0;
}

enum err event_writer_send(struct event_writer *writer, const struct event_writer_call *call) {
    int64_t lost = call->lost + writer->unpublished_count;
    event_writer_add_losses(writer);
    if (writer->n == 0 && lost == 0) {
        return ERR_OK;
    }
    enum err err =
        store_append_events(writer->store,
                            &(struct store_event_batch){.node = writer->conf->node_name,
                                                        .from = writer->own_id,
                                                        .number = ++writer->number,
                                                        .lost = lost,
                                                        .listened = call->listened,
                                                        .kept_max = writer->conf->events_kept_max,
                                                        .events = writer->events,
                                                        .n = writer->n},
                            writer->ids, writer->told);
    if (err == ERR_OK) {
        event_writer_take_told(writer);
        metric_add(METRIC_EVENTS_KEPT, event_writer_count_kept(writer));
        writer->unpublished_count = 0;
    } else {
        event_writer_note_failure(writer, err, lost);
    }
    if (err != ERR_OK || !call->subscribed) {
        writer->awaited_number = writer->number + 1;
        event_writer_deliver(writer);
    }
    event_writer_clear(writer);
    return err;
}

bool event_writer_expects(const struct event_writer *writer, const char *from, int64_t number) {
    return strcmp(from, writer->own_id) != 0 || (uint64_t)number >= writer->awaited_number;
}
