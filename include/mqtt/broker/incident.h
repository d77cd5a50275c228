/* The node-wide record of each broker (host and port) that its clients use: whether a client
 * reaches it, when which clients were lost, and the incident while no client reaches it.
 *
 *   several clients fail in a row, none is online             -> open: clients wait, a few probe
 *   one online for a second, or several CONNACKs for two      -> ended: all reconnect, rate-limited
 *
 * A record exists while a client of the node uses the broker. Any thread; one lock guards all
 * records and is never held during I/O. Times are monotonic ms unless stated otherwise. client: see
 * client_number. */
#ifndef MQFLEET_BROKER_INCIDENT_H
#define MQFLEET_BROKER_INCIDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "mqtt/client_error.h"
#include "mqtt/broker/broker_meter.h"
#include "mqtt/client/loss.h"

#define INCIDENT_CLIENTS_MIN    3      /* clients; all of them if a broker has only two */
#define INCIDENT_PROBE_MS       200    /* between two probes of the node */
#define INCIDENT_STABLE_MS      1000   /* of the connection that ends it */
#define INCIDENT_ANSWERS_MS     2000   /* during which only CONNACKs may arrive, to end it */
#define INCIDENT_STALE_MS       900000 /* without an attempt; longer than any connect_timeout_ms */
#define INCIDENT_RELEASE_FACTOR 4
#define INCIDENT_FRESH_MS       300000 /* then it is no sign any more that this node is in trouble */
#define INCIDENT_BROKER_MAX     264
#define INCIDENT_CAUSE_MAX      200

struct incidents; /* of a node */
struct incident;  /* the record of one broker, with or without an open incident */

struct incidents *incidents_create(void); /* NULL: out of memory */
/* Of a phase of an incident, to incidents_observe; defined below. */
struct incident_report;
typedef void incidents_observer(void *context, const struct incident_report *report);
/* Called without a lock, by the thread that ends or begins it. Before other threads use incidents.
 */
void incidents_observe(struct incidents *incidents, incidents_observer *observer, void *context);
void incidents_destroy(struct incidents *incidents);

/* One client more, or less, uses the broker. NULL: out of memory. */
struct incident *incident_acquire(struct incidents *incidents, const char *broker);
void incident_release(struct incident *incident);

/* ---- evidence ---- */

struct incident_failure {
    uint64_t client;
    enum client_error error;
    const char *message; /* borrowed; NULL: the error's own text */
    bool refused;        /* connection refused, or the broker reported that it is unavailable */
};

/* A connect failed in a way that counts against the broker. */
void incident_failed(struct incident *incident, const struct incident_failure *failure,
                     int64_t now_ms);
/* Another CONNACK arrived, or any other answer that only a reachable broker can send. */
void incident_answered(struct incident *incident, uint64_t client, int64_t now_ms);
void incident_online(struct incident *incident, uint64_t client, int64_t now_ms);
void incident_offline(struct incident *incident, uint64_t client, int64_t now_ms);
struct incident_loss {
    uint64_t client;
    bool was_online;
    bool bystander; /* no publication of the client was unacknowledged */
};

/* An established connection was lost; call before incident_offline. Returns the window for
 * incident_was_mass. */
uint64_t incident_lost(struct incident *incident, const struct incident_loss *loss, int64_t now_ms);

/* ---- measurements ---- */

void incident_note_connect(struct incident *incident, int64_t now_ms);
void incident_note_ping(struct incident *incident, int64_t us, int64_t now_ms);
/* Of the latest connection; wall clock. 0: unknown, no effect. */
void incident_note_certificate(struct incident *incident, int64_t expires_at_ms);

/* ---- explanations of a loss ---- */

enum incident_explanation {
    INCIDENT_EXPLAINS_NOTHING,
    /* All other clients were lost within a second as well, one of them a bystander. Without a
     * bystander, back-ends may have sent many clients a publication that the broker refuses to all
     * of them. */
    INCIDENT_EXPLAINS_ALL_LOST,
    INCIDENT_EXPLAINS_UNREACHABLE, /* an incident is open, or a connect was refused since */
};
enum incident_explanation incident_explain(struct incident *incident, int64_t lost_at_ms);
/* See loss_watch_was_mass. */
bool incident_was_mass(struct incident *incident, uint64_t window);
/* Records a loss while the broker was reachable. True: see loss_ages_steady. */
bool incident_note_age(struct incident *incident, uint64_t client, int64_t age_ms,
                       int64_t lost_at_ms);
/* Judged by the losses before this one. */
bool incident_age_is_steady(struct incident *incident, int64_t age_ms);

/* ---- the open incident ---- */

bool incident_is_open(const struct incident *incident);
/* 0: it has had none. */
int64_t incident_ended_at_ms(const struct incident *incident);
/* A client starts (true) or stops waiting for the end of the incident. */
void incident_wait(struct incident *incident, bool begins);
/* Whether a waiting client may make an attempt now; if so, no other client may for
 * INCIDENT_PROBE_MS. */
bool incident_may_probe(struct incident *incident, int64_t now_ms);
/* Whether a waiting client should be released, because another node may reach the broker: the first
 * when the incident has lasted INCIDENT_RELEASE_FACTOR times release_after_ms, the next after
 * release_after_ms, then each after half of the previous interval, down to a second. */
bool incident_may_release(struct incident *incident, int64_t release_after_ms, int64_t now_ms);
/* Ends the incident if it is time; logs once a minute. */
void incident_tick(struct incident *incident, int64_t now_ms);
/* For a waiting client: the cause, and since when. False: none is open. */
bool incident_describe(struct incident *incident, enum client_error *error, char *text,
                       size_t size);

/* ---- views ---- */

struct incident_view {
    char broker[INCIDENT_BROKER_MAX]; /* "host:port" */
    enum client_error error;          /* of the last failure */
    enum client_error first_error;
    char cause[INCIDENT_CAUSE_MAX];
    int64_t since_ms; /* wall clock */
    int64_t failures; /* since the incident began */
    size_t clients;   /* of this node that use the broker */
    size_t waiting;   /* of these, waiting for its end */
};

enum incident_phase {
    INCIDENT_BEGAN,
    INCIDENT_LASTS, /* once a minute */
    INCIDENT_ENDED,
    INCIDENT_ABANDONED /* no client of this node uses the broker any more */
};
struct incident_report { /* borrowed during the call */
    enum incident_phase phase;
    struct incident_view view;
    int64_t lasted_ms;
};

/* Copies at most `max` open incidents in any order and returns how many there are. Leaves out
 * incidents for which no client waits or makes attempts any more because all are paused. */
size_t incidents_snapshot(struct incidents *incidents, struct incident_view *out, size_t max,
                          int64_t now_ms);
struct incidents_sum {
    int64_t open;    /* incidents, as incidents_snapshot has them */
    int64_t clients; /* of this node that use a broker whose incident is younger than
                        INCIDENT_FRESH_MS */
};
struct incidents_sum incidents_sum(struct incidents *incidents, int64_t now_ms);

/* A broker of the node, with or without an open incident. */
struct broker_view {
    const char *broker;                /* borrowed during the call */
    int64_t incident_since_ms;         /* wall clock; 0: none */
    enum client_error first_error;     /* of the incident */
    int64_t certificate_expires_at_ms; /* wall clock; 0: no TLS, or unknown */
    struct broker_rates rates;
};
/* Called with the lock: must not block, nor call functions of this module. */
typedef void incidents_visitor(void *context, const struct broker_view *view);
void incidents_visit(struct incidents *incidents, int64_t now_ms, incidents_visitor *visitor,
                     void *context);

#endif
