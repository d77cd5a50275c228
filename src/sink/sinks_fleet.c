/* Owns how the sinks of a node become those that the fleet wants: each step works on one slot, with
 * apply_lock. */
#include "sinks_internal.h"

#include <stdio.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "sink/sink_secrets.h"
#include "sink/sink_types.h"

#define SINKS_REMOVE_MS 30000 /* to write what a removed sink has queued */
#define SINKS_RETRY_MS  5000  /* between two attempts to create or change one */

static void sinks_note_fault(struct sinks *sinks, struct sinks_slot *slot, const char *fault) {
    bool same = strcmp(slot->fault, fault) == 0;
    pthread_mutex_lock(&sinks->lock);
    slot->fault_since_ms = *slot->fault ? slot->fault_since_ms : clock_ms();
    slot->retry_at_ms = clock_ms() + SINKS_RETRY_MS;
    snprintf(slot->fault, sizeof slot->fault, "%s", fault);
    pthread_mutex_unlock(&sinks->lock);
    if (*fault && !same) {
        log_event(LOG_WARN, "sink_not_applied", KS("sink", slot->name), KS("detail", fault));
    }
}

static void sinks_note_applied(struct sinks *sinks, struct sinks_slot *slot) {
    pthread_mutex_lock(&sinks->lock);
    slot->version = slot->wish.version;
    slot->fault[0] = '\0';
    pthread_mutex_unlock(&sinks->lock);
}

static bool sinks_is_due(const struct sinks_slot *slot) {
    return !*slot->fault || clock_ms() >= slot->retry_at_ms;
}

static enum err sinks_create_sink(struct sinks *sinks, struct sinks_slot *slot, struct sink **out,
                                  char *fault) {
    slot->queue = slot->queue ? slot->queue : message_queue_create(1, 1, 1);
    if (!slot->queue) {
        return ERR_MEMORY;
    }
    if (sinks_running_count(sinks) == SINKS_MAX) {
        snprintf(fault, SINK_FAULT_LEN, "a node has at most %d sinks", SINKS_MAX);
        return ERR_FULL;
    }
    return sink_create(out,
                       &(struct sink_config){.name = slot->name,
                                             .type = slot->wish.type,
                                             .environment = &sinks->environment,
                                             .settings = slot->wish.settings,
                                             .queue = slot->queue},
                       fault);
}

static void sinks_begin(struct sinks *sinks, struct sinks_slot *slot) {
    char fault[SINK_FAULT_LEN] = "out of memory";
    struct sink *sink = NULL;
    enum err err = sinks_create_sink(sinks, slot, &sink, fault);
    if (err == ERR_OK) {
        sinks_set_sink(sinks, slot, sink);
        err = sinks_start_slot(slot, fault);
    }
    if (err != ERR_OK) {
        sinks_set_sink(sinks, slot, NULL);
        sink_destroy(sink);
        sinks_note_fault(sinks, slot, fault);
        return;
    }
    slot->unread = false;
    sinks_note_applied(sinks, slot);
    sinks_name_dead_letter(slot, slot->wish.settings);
    sinks_require_origin(sinks, slot->wish.type, slot->wish.settings);
    sinks_route(sinks, sink);
    log_event(LOG_INFO, "sink_added", KS("sink", slot->name), KS("type", slot->wish.type));
}

/* It runs until its queue is empty, at most for SINKS_REMOVE_MS. */
static void sinks_leave(struct sinks *sinks, struct sinks_slot *slot) {
    router_remove_sink(sinks->router, slot->name);
    pthread_mutex_lock(&sinks->lock);
    slot->leaving = true;
    pthread_mutex_unlock(&sinks->lock);
    sink_stop(slot->sink, SINKS_REMOVE_MS);
}

static void sinks_end_if_left(struct sinks *sinks, struct sinks_slot *slot) {
    if (!slot->leaving || !slot->ended) {
        return;
    }
    struct sink *sink = slot->sink;
    sinks_join_slot(slot);
    pthread_mutex_lock(&sinks->lock);
    slot->sink = NULL;
    slot->leaving = false;
    pthread_mutex_unlock(&sinks->lock);
    sink_destroy(sink);
    log_event(LOG_INFO, "sink_removed", KS("sink", slot->name));
}

/* Reads the secrets of the node for it. */
static void sinks_offer_change(struct sinks *sinks, struct sinks_slot *slot) {
    char fault[SINK_FAULT_LEN] = "out of memory";
    slot->read_at_ms = clock_ms() + SINKS_RETRY_MS;
    sinks_require_origin(sinks, slot->wish.type, slot->wish.settings);
    slot->unread = sink_change(slot->sink, slot->wish.settings, fault) != ERR_OK;
    if (slot->unread) {
        sinks_note_fault(sinks, slot, fault);
        return;
    }
    sinks_name_dead_letter(slot, slot->wish.settings);
    pthread_mutex_lock(&sinks->lock);
    slot->version = slot->wish.version;
    slot->retry_at_ms = clock_ms() + SINKS_RETRY_MS;
    pthread_mutex_unlock(&sinks->lock);
}

static void sinks_change(struct sinks *sinks, struct sinks_slot *slot) {
    if (sinks_is_due(slot)) {
        sinks_offer_change(sinks, slot);
    }
}

static bool sinks_has_reference(const struct sinks_slot *slot) {
    char fault[SINK_FAULT_LEN];
    const struct sink_type *type = sink_types_find(slot->wish.type, fault);
    const struct sink_field *const tables[] = {sink_common_fields, type ? type->fields : NULL,
                                               NULL};
    return slot->wish.settings && sink_secrets_has_reference(tables, slot->wish.settings);
}

/* Takes over the result of a change that the sink's thread has tried. A failed change is tried
 * again, and secrets of the node are read again, because they may have changed. */
static void sinks_check_change(struct sinks *sinks, struct sinks_slot *slot) {
    struct sink_status status;
    sink_status(slot->sink, &status);
    char missing[SINK_FAULT_LEN] = "";
    if (status.changing) {
        return;
    }
    bool connected = sinks_connect(sinks, slot, missing);
    if (clock_ms() >= slot->read_at_ms && sinks_has_reference(slot)) {
        sinks_offer_change(sinks, slot);
    } else if (slot->unread) {
        return;
    } else if (!connected && !*status.change_fault) {
        sinks_note_fault(sinks, slot, missing);
    } else if (!*status.change_fault || !*slot->fault) {
        sinks_note_fault(sinks, slot, status.change_fault);
    } else {
        sinks_change(sinks, slot);
    }
}

static void sinks_fulfil(struct sinks *sinks, struct sinks_slot *slot) {
    const struct sinks_wish *wish = &slot->wish;
    sinks_end_if_left(sinks, slot);
    if (slot->leaving) {
        return;
    }
    if (!wish->wanted) {
        sinks_note_fault(sinks, slot, "");
        if (slot->sink) {
            sinks_leave(sinks, slot);
        }
    } else if (!wish->settings) { /* its earlier version keeps running */
        sinks_note_fault(sinks, slot, wish->fault);
    } else if (!slot->sink) {
        if (sinks_is_due(slot)) {
            sinks_begin(sinks, slot);
        }
    } else if (strcmp(sink_type_name(slot->sink), wish->type) != 0) { /* deleted and created */
        sinks_leave(sinks, slot);
    } else if (slot->version != wish->version) {
        sinks_change(sinks, slot);
    } else {
        sinks_check_change(sinks, slot);
    }
}

static void sinks_fulfil_all(struct sinks *sinks) {
    for (size_t i = 0; i < sinks->count && sinks->started && !sinks->stopped; i++) {
        if (sinks->slots[i]->of_fleet) {
            sinks_fulfil(sinks, sinks->slots[i]);
        }
    }
}

static void sinks_wish(struct sinks *sinks, struct sinks_slot *slot,
                       const struct sinks_document *document) {
    struct sinks_wish *wish = &slot->wish;
    pthread_mutex_lock(&sinks->lock);
    slot->of_fleet = slot->of_fleet || !slot->sink;
    bool changed = wish->version != document->version;
    wish->wanted = true;
    wish->version = document->version;
    snprintf(wish->type, sizeof wish->type, "%s", document->type);
    snprintf(wish->fault, sizeof wish->fault, "%s", document->fault ? document->fault : "");
    json_decref(wish->settings);
    wish->settings = json_deep_copy(document->settings);
    slot->retry_at_ms = changed ? 0 : slot->retry_at_ms;
    pthread_mutex_unlock(&sinks->lock);
}

static void sinks_forget_wishes(struct sinks *sinks, const struct sinks_document *documents,
                                size_t count) {
    pthread_mutex_lock(&sinks->lock);
    for (size_t i = 0; i < sinks->count; i++) {
        bool listed = false;
        for (size_t at = 0; at < count && !listed; at++) {
            listed = sinks_is_named(sinks->slots[i], documents[at].name);
        }
        sinks->slots[i]->wish.wanted = listed;
    }
    pthread_mutex_unlock(&sinks->lock);
}

void sinks_apply(struct sinks *sinks, const struct sinks_document *documents, size_t count) {
    pthread_mutex_lock(&sinks->apply_lock);
    sinks_forget_wishes(sinks, documents, count);
    for (size_t i = 0; i < count; i++) {
        struct sinks_slot *slot = sinks_find(sinks, documents[i].name);
        if (!slot) {
            slot = sinks_new_slot(sinks, documents[i].name);
        }
        if (slot) {
            sinks_wish(sinks, slot, &documents[i]);
        } else {
            log_event(LOG_ERROR, "sink_not_applied", KS("sink", documents[i].name),
                      KS("detail", "too many names of sinks: restart the node"));
        }
    }
    sinks_fulfil_all(sinks);
    pthread_mutex_unlock(&sinks->apply_lock);
}

void sinks_maintain(struct sinks *sinks) {
    pthread_mutex_lock(&sinks->apply_lock);
    sinks_fulfil_all(sinks);
    pthread_mutex_unlock(&sinks->apply_lock);
}
