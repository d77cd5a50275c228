/* Private to incident.c and incident_views.c: the record of a broker. */
#ifndef MQFLEET_BROKER_INCIDENT_INTERNAL_H
#define MQFLEET_BROKER_INCIDENT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>
#include "mqtt/broker/incident.h"

/* Distinct clients with the same result, in a row. */
struct incident_clients {
    uint64_t clients[INCIDENT_CLIENTS_MIN];
    size_t count;
};

struct incident_open { /* allocated while it is open */
    int64_t began_at_ms, began_wall_ms, failed_at_ms;
    enum client_error error, first_error;
    char cause[INCIDENT_CAUSE_MAX];
    int64_t failures;
    int64_t next_probe_ms, next_log_ms;
    int64_t next_release_ms, release_pause_ms; /* 0: no client has asked yet */
    uint64_t proof;                            /* the client whose connection must last; 0: none */
    int64_t proof_at_ms;
    struct incident_clients answered;
    size_t answers;         /* CONNACKs of these clients */
    int64_t answered_at_ms; /* of the first of them */
};

struct incident {
    struct incidents *all;
    char *broker;
    UT_hash_handle hh;
    unsigned clients;
    size_t online, waiting;
    struct loss_watch losses;
    struct loss_ages *ages; /* NULL: none yet */
    int64_t burst_at_ms;    /* start of the losses that count as one burst */
    uint64_t burst_client;  /* the first of them; 0: none yet */
    bool burst_of_several;
    bool burst_of_bystanders; /* one of them had nothing unacknowledged */
    int64_t emptied_at_ms;    /* when a burst last took the last client; 0: never */
    int64_t refused_at_ms;
    struct broker_meter meter;
    int64_t certificate_expires_at_ms; /* wall clock; 0: unknown */
    struct incident_clients failing;
    struct incident_open *open;
    atomic_bool is_open;
    _Atomic int64_t ended_at_ms;
};

struct incidents {
    incidents_observer *observer; /* NULL: none. Read-only while threads use it, as its context */
    void *observer_context;
    pthread_mutex_t lock; /* guards the rest */
    struct incident *table;
};

/* It is open, and the lock is held. */
struct incident_view incident_make_view(const struct incident *incident);

#endif
