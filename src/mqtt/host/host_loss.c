/* Owns what follows when a connection failed, was lost, or a client's time is over. Host thread
 * only.
 *
 * Somebody else holds the identifier when a broker that speaks MQTT 5 says so (0x8E), or when
 * connections end again and again and nothing else explains it (host_judge.c). */
#include <stdlib.h>
#include "base/clock.h"
#include "base/metrics.h"
#include "base/text.h"
#include "mqtt/host.h"

/* ---- conflicts ---- */

static int64_t jittered_ms(int64_t time_ms) {
    return time_ms + text_random_between(0, time_ms / 4);
}

/* For how long it rests at first and at most; the store, which knows of all nodes, doubles it. */
static void ask_for_rest(struct client *client) {
    const struct conf *conf = client->host->conf;
    host_ask_release(client, jittered_ms(conf->conflict_min_ms),
                     jittered_ms(conf->conflict_max_ms));
}

static void enter_conflict(struct client *client, enum client_error error, const char *message) {
    bool was_online = client->state == CLIENT_ONLINE;
    host_note_error(client, error, message);
    host_tear_down(client, false);
    host_clear_suspicion(client);
    host_subscribe_all(client); /* the other may have changed the session */
    if (!host_change(client, CLIENT_EV_TAKEN_OVER, client_error_code(error))) {
        return;
    }
    metric_add(METRIC_CONFLICTS, 1);
    metric_add(METRIC_LOST_TOLD, was_online);
    ask_for_rest(client);
}

/* ---- losses ---- */

/* The judgement comes before the time is over: then the rest may be left out. */
static void schedule_judged(struct client *client, int64_t delay_ms) {
    struct loss_facts *loss = client->loss;
    host_schedule(client, delay_ms);
    if (loss == NULL || client->release_asked) {
        return;
    }
    int64_t first_ms = host_backoff_first_ms(client);
    first_ms = first_ms < delay_ms ? first_ms : delay_ms;
    loss->rest_ms = delay_ms - first_ms;
    if (loss->look >= 0 && first_ms > HOST_LOOK_MS) {
        loss->judge_ms = first_ms - HOST_LOOK_MS;
        first_ms = HOST_LOOK_MS;
    }
    host_set_timer(client, first_ms);
}

static void note_lost(struct client *client, const struct engine_closed *closed) {
    bool before_suback =
        client->state == CLIENT_SUBSCRIBING && closed->error == CLIENT_ERROR_CONNECTION_LOST;
    if (before_suback) {
        host_note_error(client, CLIENT_ERROR_CLOSED_BEFORE_SUBACK, NULL);
    } else if (!host_tell_age(client)) {
        host_note_error(client, closed->error, closed->message);
    }
}

static void lost(struct client *client, const struct engine_closed *closed) {
    note_lost(client, closed);
    bool progress = host_note_loss(client, closed); /* which may know better */
    bool was_online = client->state == CLIENT_ONLINE;
    if (!progress && (client->failures > 0 || !was_online)) {
        host_urls_next(client); /* it was not stable here */
    }
    metric_add(was_online ? client_error_loss_metric(closed->error)
                          : client_error_connect_metric(closed->error),
               1);
    host_tear_down(client, false);
    client->failures += !progress;
    if (host_change(client, CLIENT_EV_LOST, client_error_code(closed->error))) {
        schedule_judged(client, progress ? host_backoff_first_ms(client) : host_backoff_ms(client));
    }
}

static void closed_as_told(struct client *client) {
    client->closing = false;
    if (client->state == CLIENT_QUEUED) {
        host_enqueue(client);
    } else if (client->state == CLIENT_CLOSING) {
        host_closed(client);
    }
}

/* Whoever takes a connection and refuses is there, by CONNACK, a certificate, or no MQTT at all;
 * unless that is what it says. */
static void note_answer(struct client *client, const struct engine_closed *closed) {
    if (closed->address >= 0 && !host_speaks_against_broker(closed->error)) {
        incident_answered(client->broker->incident, client_number(client), clock_ms());
    }
}

void host_connection_closed(void *context, const struct engine_closed *closed) {
    struct client *client = context;
    client->host->connection_count--;
    client->connection = NULL;
    host_note_address(client, client->closing ? -1 : closed->address, false);
    client->lessons |= closed->lessons;
    shared_config_release(client->opened);
    client->opened = NULL;
    if (client->closing) {
        closed_as_told(client);
    } else if (closed->error == CLIENT_ERROR_MQTT_TAKEN_OVER) {
        enter_conflict(client, closed->error, closed->message);
    } else if (client->state == CLIENT_OPENING) {
        note_answer(client, closed);
        host_fail(client, closed->error, closed->message);
    } else {
        lost(client, closed);
    }
}

/* ---- time is over ---- */

static void stable(struct client *client) {
    client->stable_told = true;
    client->failures = 0;
    client->urls_failed = 0;
    host_clear_suspicion(client);
    client->host->owner->stable(client->host->owner->context, client->id);
}

/* The first second may end an incident. */
static void lived_on(struct client *client) {
    int64_t now_ms = clock_ms();
    incident_tick(client->broker->incident, now_ms);
    if (!client->stable_told && now_ms - client->connack_at_ms >= client->host->conf->stable_ms) {
        stable(client);
    }
    host_subscribe_again(client);
}

static void never_let_in(struct client *client) {
    host_tear_down(client, false);
    if (host_change(client, CLIENT_EV_FAILED, "release_after")) {
        host_schedule(client, host_backoff_ms(client)); /* asks for the release */
    }
}

/* For how long the next try has to wait still. */
static int64_t judge_first(struct client *client) {
    if (client->loss == NULL || client->release_asked) {
        return 0;
    }
    if (client->loss->look >= 0) {
        host_look_again(client);
        if (client->loss->judge_ms > 0) {
            return client->loss->judge_ms;
        }
    }
    return host_judge_loss(client);
}

static void try_again(struct client *client) {
    int64_t rest_ms = judge_first(client);
    if (client->release_asked) {
        host_ask_release(client, client->release_delay_ms, 0);
    } else if (host_in_conflict(client)) {
        enter_conflict(client, CLIENT_ERROR_CONFLICT, NULL);
    } else if (rest_ms > 0) {
        host_set_timer(client, rest_ms);
    } else if (!host_urls_choose(client)) {
        host_await_broker(client);
    } else if (host_change(client, CLIENT_EV_TIMER, "retry")) {
        pacer_leave(&client->host->pacer, &client->ticket); /* it may have waited for another */
        host_enqueue(client);
    }
}

static const struct engine_closed unacknowledged = {.error = CLIENT_ERROR_SUBSCRIBE_TIMEOUT,
                                                    .reason_code = -1};

/* What a session has saved up comes before the SUBACK, and waits for a sink: to begin anew would
 * only bring it again. But a broker that sends for ever and never acknowledges is no good. Others
 * may connect meanwhile. */
static bool keeps_waiting(struct client *client) {
    const struct conf *conf = client->host->conf;
    int64_t timeout_ms = host_connect_timeout_ms(client);
    bool receiving = client->state == CLIENT_SUBSCRIBING &&
                     clock_ms() - client->heard_at_ms < timeout_ms / 2 &&
                     clock_ms() - client->connack_at_ms < conf->release_after_ms;
    if (host_has_room(client) && !receiving) {
        return false;
    }
    pacer_leave(&client->host->pacer, &client->ticket);
    host_set_timer(client, timeout_ms);
    return true;
}

void host_timer(struct client *client) {
    switch (client->state) {
    case CLIENT_QUEUED:
    case CLIENT_RESOLVING:
        never_let_in(client);
        break;
    case CLIENT_OPENING:
        host_note_address(client, 0, false);
        host_fail(client, CLIENT_ERROR_CONNECT_TIMEOUT, NULL);
        break;
    case CLIENT_SUBSCRIBING:
        if (!keeps_waiting(client)) {
            lost(client, &unacknowledged);
        }
        break;
    case CLIENT_ONLINE:
        if (client->work == NULL) {
            lived_on(client);
        } else if (!keeps_waiting(client)) {
            lost(client, &unacknowledged);
        }
        break;
    case CLIENT_BACKOFF:
        try_again(client);
        break;
    case CLIENT_CONFLICT:
        ask_for_rest(client);
        break;
    default:
        break;
    }
}
