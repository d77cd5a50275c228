/* Owns the records of a node's brokers and their incidents. Any thread. */
#include "mqtt/broker/incident.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"
#include "incident_internal.h"

#define INCIDENT_LOG_MS         60000
#define INCIDENT_BURST_MS       1000 /* all clients must be lost within this time */
#define INCIDENT_RELEASE_MS_MIN 1000

/* Logged and reported after the lock is released. */
struct incident_event {
    bool happened;
    struct incident_report report;
};

/* ---- life ---- */

struct incidents *incidents_create(void) {
    struct incidents *incidents = calloc(1, sizeof *incidents);
    if (incidents) {
        pthread_mutex_init(&incidents->lock, NULL);
    }
    return incidents;
}

void incidents_observe(struct incidents *incidents, incidents_observer *observer, void *context) {
    incidents->observer = observer;
    incidents->observer_context = context;
}

static void incident_free(struct incident *incident) {
    free(incident->broker);
    free(incident->ages);
    free(incident->open);
    free(incident);
}

void incidents_destroy(struct incidents *incidents) {
    if (!incidents) {
        return;
    }
    struct incident *incident, *next;
    HASH_ITER(hh, incidents->table, incident, next) {
        HASH_DEL(incidents->table, incident);
        incident_free(incident);
    }
    pthread_mutex_destroy(&incidents->lock);
    free(incidents);
}

static struct incident *incident_add(struct incidents *incidents, const char *broker) {
    struct incident *incident = calloc(1, sizeof *incident);
    if (!incident || !(incident->broker = text_dup(broker))) {
        free(incident);
        return NULL;
    }
    incident->all = incidents;
    HASH_ADD_KEYPTR(hh, incidents->table, incident->broker, strlen(incident->broker), incident);
    return incident;
}

struct incident *incident_acquire(struct incidents *incidents, const char *broker) {
    struct incident *incident;
    pthread_mutex_lock(&incidents->lock);
    HASH_FIND_STR(incidents->table, broker, incident);
    if (!incident) {
        incident = incident_add(incidents, broker);
    }
    if (incident) {
        incident->clients++;
    }
    pthread_mutex_unlock(&incidents->lock);
    return incident;
}

/* ---- begin and end; the lock is held ---- */

struct incident_view incident_make_view(const struct incident *incident) {
    struct incident_view view = {.error = incident->open->error,
                                 .first_error = incident->open->first_error,
                                 .since_ms = incident->open->began_wall_ms,
                                 .failures = incident->open->failures,
                                 .clients = incident->clients,
                                 .waiting = incident->waiting};
    snprintf(view.broker, sizeof view.broker, "%s", incident->broker);
    snprintf(view.cause, sizeof view.cause, "%s", incident->open->cause);
    return view;
}

static struct incident_event incident_make_event(const struct incident *incident,
                                                 enum incident_phase phase, int64_t now_ms) {
    return (struct incident_event){true,
                                   {.phase = phase,
                                    .view = incident_make_view(incident),
                                    .lasted_ms = now_ms - incident->open->began_at_ms}};
}

static void incident_tell(const struct incidents *incidents, const struct incident_event *event) {
    static const char *const names[] = {"broker_incident_began", "broker_incident",
                                        "broker_incident_ended", "broker_incident_ended"};
    const struct incident_view *view = &event->report.view;
    if (!event->happened) {
        return;
    }
    log_event(LOG_WARN, names[event->report.phase], KS("broker", view->broker),
              KS("code", client_error_code(view->error)), KS("cause", view->cause),
              KI("clients", view->clients), KI("waiting", view->waiting),
              KI("failures", view->failures), KI("lasted_ms", event->report.lasted_ms));
    if (incidents->observer) {
        incidents->observer(incidents->observer_context, &event->report);
    }
}

/* The last failure describes the present problem best: a name may no longer exist where at first
 * only the port was closed. */
static void incident_note_cause(struct incident_open *open,
                                const struct incident_failure *failure) {
    open->error = failure->error;
    snprintf(open->cause, sizeof open->cause, "%s",
             failure->message ? failure->message : client_error_text(failure->error));
}

static struct incident_event
incident_begin(struct incident *incident, const struct incident_failure *failure, int64_t now_ms) {
    struct incident_open *open = calloc(1, sizeof *open);
    if (!open) {
        return (struct incident_event){0}; /* opened at the next failure */
    }
    open->began_at_ms = now_ms;
    open->failed_at_ms = now_ms;
    open->began_wall_ms = clock_wall_ms();
    incident_note_cause(open, failure);
    open->first_error = failure->error;
    open->failures = (int64_t)incident->failing.count;
    open->next_log_ms = now_ms + INCIDENT_LOG_MS;
    incident->open = open;
    incident->is_open = true;
    metric_add(METRIC_INCIDENTS, 1);
    return incident_make_event(incident, INCIDENT_BEGAN, now_ms);
}

static struct incident_event incident_end(struct incident *incident, int64_t now_ms) {
    struct incident_event event = incident_make_event(incident, INCIDENT_ENDED, now_ms);
    free(incident->open);
    incident->open = NULL;
    incident->failing.count = 0;
    incident->ended_at_ms = now_ms;
    incident->is_open = false;
    return event;
}

void incident_release(struct incident *incident) {
    struct incidents *incidents = incident->all;
    struct incident_event event = {0};
    pthread_mutex_lock(&incidents->lock);
    if (--incident->clients == 0) {
        if (incident->open) {
            event = incident_make_event(incident, INCIDENT_ABANDONED, clock_ms());
        }
        HASH_DEL(incidents->table, incident);
        incident_free(incident);
    }
    pthread_mutex_unlock(&incidents->lock);
    incident_tell(incidents, &event);
}

static bool incident_is_over(const struct incident *incident, int64_t now_ms) {
    const struct incident_open *open = incident->open;
    size_t several =
        incident->clients < INCIDENT_CLIENTS_MIN ? incident->clients : INCIDENT_CLIENTS_MIN;
    bool lives = open->proof != 0 && now_ms - open->proof_at_ms >= INCIDENT_STABLE_MS;
    /* The other clients may be paused. */
    bool enough = open->answered.count >= several || open->answers >= INCIDENT_CLIENTS_MIN;
    bool answers =
        open->answers > 0 && enough && now_ms - open->answered_at_ms >= INCIDENT_ANSWERS_MS;
    return lives || answers;
}

/* ---- evidence ---- */

static void incident_clients_add(struct incident_clients *row, uint64_t client) {
    for (size_t i = 0; i < row->count; i++) {
        if (row->clients[i] == client) {
            return;
        }
    }
    if (row->count < INCIDENT_CLIENTS_MIN) {
        row->clients[row->count++] = client;
    }
}

/* A broker with one client has no incident: there are no other clients to spare. */
static bool incident_is_due(const struct incident *incident) {
    size_t several = incident->clients < INCIDENT_CLIENTS_MIN ? 2 : INCIDENT_CLIENTS_MIN;
    return !incident->open && incident->failing.count >= several;
}

void incident_failed(struct incident *incident, const struct incident_failure *failure,
                     int64_t now_ms) {
    struct incident_event event = {0};
    pthread_mutex_lock(&incident->all->lock);
    if (failure->refused) {
        incident->refused_at_ms = now_ms;
    }
    if (incident->online == 0) {
        incident_clients_add(&incident->failing, failure->client);
    }
    if (incident_is_due(incident)) {
        event = incident_begin(incident, failure, now_ms);
    } else if (incident->open) {
        incident->open->failures++;
        incident_note_cause(incident->open, failure);
        incident->open->failed_at_ms = now_ms;
        incident->open->answered.count = 0;
        incident->open->answers = 0;
    }
    pthread_mutex_unlock(&incident->all->lock);
    incident_tell(incident->all, &event);
}

void incident_answered(struct incident *incident, uint64_t client, int64_t now_ms) {
    pthread_mutex_lock(&incident->all->lock);
    incident->failing.count = 0;
    if (incident->open) {
        struct incident_open *open = incident->open;
        open->answered_at_ms = open->answers == 0 ? now_ms : open->answered_at_ms;
        open->answers++;
        incident_clients_add(&open->answered, client);
    }
    pthread_mutex_unlock(&incident->all->lock);
}

void incident_online(struct incident *incident, uint64_t client, int64_t now_ms) {
    pthread_mutex_lock(&incident->all->lock);
    incident->online++;
    incident->failing.count = 0;
    if (incident->open && incident->open->proof == 0) {
        incident->open->proof = client;
        incident->open->proof_at_ms = now_ms;
    }
    pthread_mutex_unlock(&incident->all->lock);
}

void incident_offline(struct incident *incident, uint64_t client, int64_t now_ms) {
    pthread_mutex_lock(&incident->all->lock);
    assert(incident->online > 0);
    incident->online--;
    bool together = now_ms - incident->burst_at_ms < INCIDENT_BURST_MS &&
                    incident->burst_of_several && incident->burst_of_bystanders;
    if (incident->online == 0 && together) {
        incident->emptied_at_ms = now_ms;
    }
    if (incident->open && incident->open->proof == client) {
        incident->open->proof = 0;
    }
    pthread_mutex_unlock(&incident->all->lock);
}

uint64_t incident_lost(struct incident *incident, const struct incident_loss *loss,
                       int64_t now_ms) {
    pthread_mutex_lock(&incident->all->lock);
    if (incident->burst_client == 0 || now_ms - incident->burst_at_ms >= INCIDENT_BURST_MS) {
        incident->burst_at_ms = now_ms;
        incident->burst_client = loss->client;
        incident->burst_of_several = false;
        incident->burst_of_bystanders = false;
    }
    incident->burst_of_several |= incident->burst_client != loss->client;
    incident->burst_of_bystanders |= loss->bystander;
    uint64_t window = loss_watch_note(&incident->losses, loss->client, now_ms,
                                      incident->online + (loss->was_online ? 0 : 1));
    pthread_mutex_unlock(&incident->all->lock);
    return window;
}

/* ---- measurements ---- */

void incident_note_connect(struct incident *incident, int64_t now_ms) {
    pthread_mutex_lock(&incident->all->lock);
    broker_meter_note_connect(&incident->meter, now_ms);
    pthread_mutex_unlock(&incident->all->lock);
}

void incident_note_ping(struct incident *incident, int64_t us, int64_t now_ms) {
    pthread_mutex_lock(&incident->all->lock);
    broker_meter_note_ping(&incident->meter, us, now_ms);
    pthread_mutex_unlock(&incident->all->lock);
}

void incident_note_certificate(struct incident *incident, int64_t expires_at_ms) {
    pthread_mutex_lock(&incident->all->lock);
    if (expires_at_ms != 0) {
        incident->certificate_expires_at_ms = expires_at_ms;
    }
    pthread_mutex_unlock(&incident->all->lock);
}

/* ---- explanations of a loss ---- */

enum incident_explanation incident_explain(struct incident *incident, int64_t lost_at_ms) {
    pthread_mutex_lock(&incident->all->lock);
    int64_t from_ms = lost_at_ms - INCIDENT_BURST_MS;
    bool refused = incident->refused_at_ms != 0 && incident->refused_at_ms >= from_ms;
    bool emptied = incident->emptied_at_ms != 0 && incident->emptied_at_ms >= from_ms &&
                   incident->emptied_at_ms <= lost_at_ms + INCIDENT_BURST_MS;
    bool away = incident->open || refused;
    pthread_mutex_unlock(&incident->all->lock);
    return away      ? INCIDENT_EXPLAINS_UNREACHABLE
           : emptied ? INCIDENT_EXPLAINS_ALL_LOST
                     : INCIDENT_EXPLAINS_NOTHING;
}

bool incident_was_mass(struct incident *incident, uint64_t window) {
    pthread_mutex_lock(&incident->all->lock);
    bool mass = loss_watch_was_mass(&incident->losses, window);
    pthread_mutex_unlock(&incident->all->lock);
    return mass;
}

bool incident_note_age(struct incident *incident, uint64_t client, int64_t age_ms,
                       int64_t lost_at_ms) {
    bool steady = false;
    pthread_mutex_lock(&incident->all->lock);
    if (!incident->ages) {
        incident->ages = calloc(1, sizeof *incident->ages);
    }
    if (incident->ages) {
        loss_ages_note(incident->ages, client, age_ms, lost_at_ms);
        steady = loss_ages_steady(incident->ages, age_ms);
    }
    pthread_mutex_unlock(&incident->all->lock);
    return steady;
}

bool incident_age_is_steady(struct incident *incident, int64_t age_ms) {
    pthread_mutex_lock(&incident->all->lock);
    bool steady = incident->ages && loss_ages_steady(incident->ages, age_ms);
    pthread_mutex_unlock(&incident->all->lock);
    return steady;
}

/* ---- the open incident ---- */

bool incident_is_open(const struct incident *incident) {
    return incident->is_open;
}

int64_t incident_ended_at_ms(const struct incident *incident) {
    return incident->ended_at_ms;
}

void incident_wait(struct incident *incident, bool begins) {
    pthread_mutex_lock(&incident->all->lock);
    assert(begins || incident->waiting > 0);
    incident->waiting = begins ? incident->waiting + 1 : incident->waiting - 1;
    pthread_mutex_unlock(&incident->all->lock);
}

bool incident_may_probe(struct incident *incident, int64_t now_ms) {
    pthread_mutex_lock(&incident->all->lock);
    struct incident_open *open = incident->open;
    bool may = open && open->next_probe_ms <= now_ms;
    if (may) {
        open->next_probe_ms = now_ms + INCIDENT_PROBE_MS;
    }
    pthread_mutex_unlock(&incident->all->lock);
    return may;
}

bool incident_may_release(struct incident *incident, int64_t release_after_ms, int64_t now_ms) {
    pthread_mutex_lock(&incident->all->lock);
    struct incident_open *open = incident->open;
    bool may = false;
    if (open && open->release_pause_ms == 0) {
        open->release_pause_ms = release_after_ms;
        open->next_release_ms = open->began_at_ms + INCIDENT_RELEASE_FACTOR * release_after_ms;
    }
    if (open && open->next_release_ms <= now_ms) {
        may = true;
        open->next_release_ms = now_ms + open->release_pause_ms;
        open->release_pause_ms /= 2;
        if (open->release_pause_ms < INCIDENT_RELEASE_MS_MIN) {
            open->release_pause_ms = INCIDENT_RELEASE_MS_MIN;
        }
    }
    pthread_mutex_unlock(&incident->all->lock);
    return may;
}

void incident_tick(struct incident *incident, int64_t now_ms) {
    struct incident_event event = {0};
    pthread_mutex_lock(&incident->all->lock);
    struct incident_open *open = incident->open;
    if (open && incident_is_over(incident, now_ms)) {
        event = incident_end(incident, now_ms);
    } else if (open && open->next_log_ms <= now_ms) {
        open->next_log_ms = now_ms + INCIDENT_LOG_MS;
        event = incident_make_event(incident, INCIDENT_LASTS, now_ms);
    }
    pthread_mutex_unlock(&incident->all->lock);
    incident_tell(incident->all, &event);
}

bool incident_describe(struct incident *incident, enum client_error *error, char *text,
                       size_t size) {
    pthread_mutex_lock(&incident->all->lock);
    const struct incident_open *open = incident->open;
    if (open) {
        char since[CLOCK_RFC3339_LEN];
        clock_rfc3339(open->began_wall_ms, since);
        *error = open->error;
        snprintf(text, size, "%s; no client of this node has reached the broker since %s",
                 open->cause, since);
    }
    pthread_mutex_unlock(&incident->all->lock);
    return open != NULL;
}
