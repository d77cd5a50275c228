/* Owns the reactions to a failed or lost connection, and to the expiry of a client's timer. Worker
 * thread only.
 *
 * Another client uses the identifier if a broker that speaks MQTT 5 says so (0x8E), or if
 * connections end repeatedly and nothing else explains it (worker_verdict.c). */
#include <stdlib.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "base/text.h"
#include "mqtt/worker/worker.h"

/* ---- conflicts ---- */

static int64_t worker_loss_jittered_ms(int64_t time_ms) {
    return time_ms + text_random_between(0, time_ms / 4);
}

/* Requests the first and the longest cool-down; the store, which knows all nodes, doubles it. */
static void worker_loss_ask_cooldown(struct client *client) {
    const struct conf *conf = client->worker->conf;
    worker_request_release(client, worker_loss_jittered_ms(conf->conflict_min_ms),
                           worker_loss_jittered_ms(conf->conflict_max_ms));
}

static void worker_loss_enter_conflict(struct client *client, enum client_error error,
                                       const char *message) {
    bool was_online = client->state == CLIENT_ONLINE;
    worker_note_error(client, error, message);
    worker_tear_down(client, false);
    worker_clear_suspicion(client);
    worker_subscribe_all(client); /* the other client may have changed the session */
    if (!worker_change_state(client, CLIENT_EV_TAKEN_OVER, client_error_code(error))) {
        return;
    }
    metric_add(METRIC_CONFLICTS, 1);
    metric_add(METRIC_LOST_TOLD, was_online);
    worker_loss_ask_cooldown(client);
}

/* ---- losses ---- */

/* The judgement comes before the timer expires: it may shorten the wait. */
static void worker_loss_schedule(struct client *client, int64_t delay_ms) {
    struct loss_facts *loss = client->loss;
    worker_schedule_retry(client, delay_ms);
    if (!loss || client->release_requested) {
        return;
    }
    int64_t first_ms = worker_backoff_first_ms(client);
    first_ms = first_ms < delay_ms ? first_ms : delay_ms;
    loss->retry_wait_ms = delay_ms - first_ms;
    if (loss->check_fd >= 0 && first_ms > WORKER_CHECK_MS) {
        loss->judge_in_ms = first_ms - WORKER_CHECK_MS;
        first_ms = WORKER_CHECK_MS;
    }
    worker_set_timer(client, first_ms);
}

static void worker_loss_note_error(struct client *client, const struct engine_closed *closed) {
    bool before_suback =
        client->state == CLIENT_SUBSCRIBING && closed->error == CLIENT_ERROR_CONNECTION_LOST;
    if (before_suback) {
        worker_note_error(client, CLIENT_ERROR_CLOSED_BEFORE_SUBACK, NULL);
    } else if (!worker_report_steady_age(client)) {
        worker_note_error(client, closed->error, closed->message);
    }
}

static void worker_loss_handle(struct client *client, const struct engine_closed *closed) {
    worker_loss_note_error(client, closed);
    bool progress = worker_note_loss(client, closed); /* which may find the cause */
    bool was_online = client->state == CLIENT_ONLINE;
    if (!progress && (client->failures > 0 || !was_online)) {
        worker_urls_next(client); /* it was not stable here */
    }
    metric_add(was_online ? client_error_loss_metric(closed->error)
                          : client_error_connect_metric(closed->error),
               1);
    worker_tear_down(client, false);
    client->failures += !progress;
    if (worker_change_state(client, CLIENT_EV_LOST, client_error_code(closed->error))) {
        worker_loss_schedule(client, progress ? worker_backoff_first_ms(client)
                                              : worker_backoff_ms(client));
    }
}

static void worker_loss_closed_by_us(struct client *client) {
    client->closing = false;
    if (client->state == CLIENT_QUEUED) {
        worker_enqueue(client);
    } else if (client->state == CLIENT_CLOSING) {
        worker_client_closed(client);
    }
}

/* A broker that accepts a connection and refuses the client is reachable: by CONNACK, by its
 * certificate, or by an answer that is not MQTT; unless it reports that it is unavailable. */
static void worker_loss_note_answer(struct client *client, const struct engine_closed *closed) {
    if (closed->address >= 0 && !worker_is_broker_failure(closed->error)) {
        incident_answered(client->broker->incident, client_number(client), clock_ms());
    }
}

void worker_connection_closed(void *context, const struct engine_closed *closed) {
    struct client *client = context;
    client->worker->connection_count--;
    client->connection = NULL;
    worker_note_address(client, client->closing ? -1 : closed->address, false);
    client->workarounds |= closed->workarounds;
    shared_config_release(client->opened);
    client->opened = NULL;
    if (client->closing) {
        worker_loss_closed_by_us(client);
    } else if (closed->error == CLIENT_ERROR_MQTT_TAKEN_OVER) {
        worker_loss_enter_conflict(client, closed->error, closed->message);
    } else if (client->state == CLIENT_OPENING) {
        worker_loss_note_answer(client, closed);
        worker_fail_connect(client, closed->error, closed->message);
    } else {
        worker_loss_handle(client, closed);
    }
}

/* ---- timer ---- */

static void worker_loss_mark_stable(struct client *client) {
    client->stable_reported = true;
    client->failures = 0;
    client->urls_failed = 0;
    worker_clear_suspicion(client);
    client->worker->owner->stable(client->worker->owner->context, client->id);
}

/* A second online may end an incident. */
static void worker_loss_check_online(struct client *client) {
    int64_t now_ms = clock_ms();
    incident_tick(client->broker->incident, now_ms);
    if (!client->stable_reported &&
        now_ms - client->connack_at_ms >= client->worker->conf->stable_ms) {
        worker_loss_mark_stable(client);
    }
    if (worker_silence_check(client)) {
        worker_subscribe_retry(client);
    }
}

static void worker_loss_connect_expired(struct client *client) {
    worker_tear_down(client, false);
    if (worker_change_state(client, CLIENT_EV_FAILED, "release_after")) {
        worker_schedule_retry(client, worker_backoff_ms(client)); /* requests the release */
    }
}

/* How long the next try still has to wait. */
static int64_t worker_loss_judge_first(struct client *client) {
    if (!client->loss || client->release_requested) {
        return 0;
    }
    if (client->loss->check_fd >= 0) {
        worker_check_broker_again(client);
        if (client->loss->judge_in_ms > 0) {
            return client->loss->judge_in_ms;
        }
    }
    return worker_judge_loss(client);
}

static void worker_loss_retry(struct client *client) {
    int64_t wait_ms = worker_loss_judge_first(client);
    if (client->release_requested) {
        worker_request_release(client, client->release_delay_ms, 0);
    } else if (worker_is_in_conflict(client)) {
        worker_loss_enter_conflict(client, CLIENT_ERROR_CONFLICT, NULL);
    } else if (wait_ms > 0) {
        worker_set_timer(client, wait_ms);
    } else if (!worker_urls_choose(client)) {
        worker_await_broker(client);
    } else if (worker_change_state(client, CLIENT_EV_TIMER, "retry")) {
        connect_limiter_leave(&client->worker->connect_limiter,
                              &client->ticket); /* it may have waited for another broker */
        worker_enqueue(client);
    }
}

static const struct engine_closed worker_loss_no_suback = {.error = CLIENT_ERROR_SUBSCRIBE_TIMEOUT,
                                                           .reason_code = -1};

static int64_t worker_last_received_ms(const struct client *client) {
    int64_t message_at_ms = client->route.last_message_at_ms;
    return message_at_ms > client->last_answer_at_ms ? message_at_ms : client->last_answer_at_ms;
}

/* Messages that a session has saved come before SUBACK and wait for a sink; a new connection would
 * only receive them again. But a broker that keeps sending and never acknowledges is faulty. Other
 * clients may connect meanwhile. */
static bool worker_loss_extend_wait(struct client *client) {
    const struct conf *conf = client->worker->conf;
    int64_t timeout_ms = worker_connect_timeout_ms(client);
    bool receiving = client->state == CLIENT_SUBSCRIBING &&
                     clock_ms() - worker_last_received_ms(client) < timeout_ms / 2 &&
                     clock_ms() - client->connack_at_ms < conf->release_after_ms;
    bool held = !route_has_room(&client->route) || route_is_held_back(&client->route);
    if (!held && !receiving) {
        return false;
    }
    connect_limiter_leave(&client->worker->connect_limiter, &client->ticket);
    worker_set_timer(client, timeout_ms);
    return true;
}

void worker_handle_timer(struct client *client) {
    switch (client->state) {
    case CLIENT_QUEUED:
    case CLIENT_RESOLVING:
        worker_loss_connect_expired(client);
        break;
    case CLIENT_OPENING:
        worker_note_address(client, 0, false);
        worker_fail_connect(client, CLIENT_ERROR_CONNECT_TIMEOUT, NULL);
        break;
    case CLIENT_SUBSCRIBING:
        if (!worker_loss_extend_wait(client)) {
            worker_loss_handle(client, &worker_loss_no_suback);
        }
        break;
    case CLIENT_ONLINE:
        if (!client->work) {
            worker_loss_check_online(client);
        } else if (!worker_loss_extend_wait(client)) {
            worker_loss_handle(client, &worker_loss_no_suback);
        }
        break;
    case CLIENT_BACKOFF:
        worker_loss_retry(client);
        break;
    case CLIENT_CONFLICT:
        worker_loss_ask_cooldown(client);
        break;
    default:
        break;
    }
}
