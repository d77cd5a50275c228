/* Copies what incident.c owns, for views and metrics. Any thread. */
#include <stdio.h>
#include <string.h>
#include "incident_internal.h"

static bool incident_views_is_stale(const struct incident *incident, int64_t now_ms) {
    return incident->waiting == 0 && now_ms - incident->open->failed_at_ms >= INCIDENT_STALE_MS;
}

size_t incidents_snapshot(struct incidents *incidents, struct incident_view *out, size_t max,
                          int64_t now_ms) {
    size_t n = 0;
    pthread_mutex_lock(&incidents->lock);
    const struct incident *incident, *next;
    HASH_ITER(hh, incidents->table, incident, next) {
        if (!incident->open || incident_views_is_stale(incident, now_ms)) {
            continue;
        }
        if (n < max) {
            out[n] = incident_make_view(incident);
        }
        n++;
    }
    pthread_mutex_unlock(&incidents->lock);
    return n;
}

struct incidents_sum incidents_sum(struct incidents *incidents, int64_t now_ms) {
    struct incidents_sum sum = {0};
    pthread_mutex_lock(&incidents->lock);
    const struct incident *incident, *next;
    HASH_ITER(hh, incidents->table, incident, next) {
        if (incident->open && !incident_views_is_stale(incident, now_ms)) {
            sum.open++;
            bool fresh = now_ms - incident->open->began_at_ms < INCIDENT_FRESH_MS;
            sum.clients += fresh ? (int64_t)incident->clients : 0;
        }
    }
    pthread_mutex_unlock(&incidents->lock);
    return sum;
}

void incidents_visit(struct incidents *incidents, int64_t now_ms, incidents_visitor *visitor,
                     void *context) {
    pthread_mutex_lock(&incidents->lock);
    const struct incident *incident, *next;
    HASH_ITER(hh, incidents->table, incident, next) {
        bool open = incident->open && !incident_views_is_stale(incident, now_ms);
        struct broker_view view = {
            .broker = incident->broker,
            .incident_since_ms = open ? incident->open->began_wall_ms : 0,
            .first_error = open ? incident->open->first_error : CLIENT_ERROR_NONE,
            .certificate_expires_at_ms = incident->certificate_expires_at_ms};
        broker_meter_read(&incident->meter, now_ms, &view.rates);
        visitor(context, &view);
    }
    pthread_mutex_unlock(&incidents->lock);
}
