/* Owns the admission of clients that wait to connect: rate limits, quotas and the lease. Worker
 * thread only. */
#include <stddef.h>
#include <stdlib.h>
#include <utlist.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "mqtt/worker/worker.h"

/* ---- lease ---- */

static void worker_admit_close_in_flight(struct worker *worker) {
    struct client *client, *next;
    size_t n = 0;
    pthread_mutex_lock(&worker->lock);
    struct client **in_flight =
        malloc((size_t)(worker->counts[CLIENT_RESOLVING] + worker->counts[CLIENT_OPENING] + 1) *
               sizeof *in_flight);
    HASH_ITER(hh, worker->clients, client, next) {
        if (in_flight && (client->state == CLIENT_RESOLVING || client->state == CLIENT_OPENING)) {
            in_flight[n++] = client;
        }
    }
    pthread_mutex_unlock(&worker->lock);
    for (size_t i = 0; i < n; i++) {
        worker_requeue(in_flight[i], "lease_lapsed");
    }
    free(in_flight);
}

void worker_check_lease(struct worker *worker) {
    bool valid = worker->owner->lease_valid(worker->owner->context);
    if (worker->lease_was_valid && !valid) {
        log_event(HASH_COUNT(worker->clients) > 0 ? LOG_WARN : LOG_DEBUG, "lease_lapsed",
                  KI("connecting", worker->counts[CLIENT_OPENING]));
        worker_admit_close_in_flight(worker);
    }
    worker->lease_was_valid = valid;
}

/* While anybody waits to connect, the loop gets here every LEASE_CHECK_MS. */
static void worker_admit_divide_limit(struct worker *worker) {
    const struct workers_owner *owner = worker->owner;
    size_t fleet_size = owner->fleet_size ? owner->fleet_size(owner->context) : 0;
    if (fleet_size != worker->fleet_size) {
        worker->fleet_size = fleet_size;
        connect_limiter_set_nodes(&worker->connect_limiter, &worker->brokers, fleet_size);
    }
}

static struct client *worker_admit_client_of(struct connect_limiter_ticket *ticket) {
    return (struct client *)((char *)ticket - offsetof(struct client, ticket));
}

/* ---- quotas ---- */

static void worker_admit_show_held(struct client *client, bool held) {
    if (client->held_by_quota != held) {
        pthread_mutex_lock(&client->worker->lock);
        client->held_by_quota = held;
        pthread_mutex_unlock(&client->worker->lock);
    }
}

/* False: the quota of its scope is used up, and the client waits without being released. A probe
 * does not wait: others wait for it. */
static bool worker_admit_take_quota(struct client *client, int64_t now_us) {
    struct worker *worker = client->worker;
    struct rate_quota *quota = route_quota(&client->route);
    if (quota && client->ticket.probe) {
        rate_quota_charge(quota, RATE_CONNECTS, now_us * 1000);
        return true;
    }
    if (!quota || rate_quota_take(quota, RATE_CONNECTS, now_us * 1000) ||
        !connect_limiter_hold(&worker->connect_limiter, &client->ticket, quota)) {
        return true;
    }
    if (!client->held_by_quota) { /* otherwise, another worker was faster */
        rate_quota_note_delayed(quota, RATE_CONNECTS);
    }
    timers_clear(&worker->timers, &client->timer);
    worker_admit_show_held(client, true);
    return false;
}

static void worker_admit_join_again(struct client *client) {
    client->offline_since_ms = clock_ms();
    connect_limiter_join(&client->worker->connect_limiter, &client->ticket, client->broker);
    worker_set_timer(client, worker_release_left_ms(client));
}

void worker_check_hold(struct client *client) {
    if (client->ticket.place == CONNECT_LIMITER_HELD &&
        client->ticket.hold->quota != route_quota(&client->route)) {
        connect_limiter_leave(&client->worker->connect_limiter, &client->ticket);
        worker_admit_show_held(client, false);
        worker_admit_join_again(client);
    }
}

/* As many as may connect now join the queues of their brokers again, behind those of other scopes
 * that wait already. */
static void worker_admit_resume_held(struct worker *worker, int64_t now_us) {
    struct connect_hold *hold, *next;
    DL_FOREACH_SAFE(worker->connect_limiter.holds, hold, next) {
        size_t room =
            rate_quota_room(hold->quota, RATE_CONNECTS, now_us * 1000, WORKER_PER_TURN_MAX);
        rate_quota_note_waiting(hold->quota, RATE_CONNECTS);
        for (bool more = true; more && room > 0; room--) {
            more = hold->tickets->next != NULL;
            worker_admit_join_again(
                worker_admit_client_of(connect_limiter_held_next(&worker->connect_limiter, hold)));
        }
    }
}

/* ---- admission ---- */

static void worker_admit_client(struct client *client) {
    worker_admit_show_held(client, false);
    if (worker_change_state(client, CLIENT_EV_ADMITTED, "admitted")) {
        client->untried = false;
        worker_set_timer(client, worker_release_left_ms(client));
        worker_resolve(client);
    }
}

void worker_admit(struct worker *worker, int64_t now_us) {
    worker_admit_divide_limit(worker);
    if (worker->lease_was_valid) {
        worker_admit_resume_held(worker, now_us);
    }
    for (int i = 0; i < WORKER_PER_TURN_MAX && worker->lease_was_valid; i++) {
        struct connect_limiter_ticket *ticket =
            connect_limiter_next(&worker->connect_limiter, now_us);
        if (!ticket) {
            return;
        }
        struct client *client = worker_admit_client_of(ticket);
        if (worker_broker_is_unreachable(client) && !ticket->probe) {
            worker_await_broker(client);
        } else if (worker_admit_take_quota(client, now_us)) {
            worker_admit_client(client);
        }
    }
}
