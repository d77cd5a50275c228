/* Owns the subscriptions of a client at its broker: one packet after the other after CONNACK, after
 * changes, and when refused filters are tried again. The plan (mqtt/client/subscribing.h) decides
 * the next step. Worker thread only. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/text.h"
#include "mqtt/reason_codes.h"
#include "mqtt/worker/worker.h"

#define SUBSCRIBE_DEFERRED_MS_MAX 3600000
#define SUBSCRIBE_MEMORY_MS       1000 /* until the next try after memory was short */

static size_t worker_subscribe_count(const struct client *client) {
    return client->config->config->subscription_count;
}

struct subscribing_rules worker_subscribe_rules(const struct client *client) {
    const struct client_config *config = client->config->config;
    const struct conf *conf = client->worker->conf;
    int64_t own_max = config->subscribe_filters_max;
    int64_t min_ms =
        config->reconnect_min_ms > 0 ? config->reconnect_min_ms : conf->reconnect_min_ms;
    int64_t max_ms =
        config->reconnect_max_ms > 0 ? config->reconnect_max_ms : conf->reconnect_max_ms;
    return (struct subscribing_rules){
        .packet_max = (size_t)(own_max > 0 ? own_max : conf->subscribe_filters_max),
        .version = config->protocol_version,
        .retry_ms_min = min_ms,
        .retry_ms_max = max_ms,
        .deferred_ms_min = max_ms,
        .deferred_ms_max = max_ms > SUBSCRIBE_DEFERRED_MS_MAX ? max_ms : SUBSCRIBE_DEFERRED_MS_MAX,
    };
}

void worker_drop_work(struct client *client) {
    struct subscribe_work *work = client->work;
    if (work) {
        subscriptions_removed_fini(&work->removed);
        shared_config_release(work->from);
        shared_config_release(work->to);
        shared_config_release(work->asked_of);
        free(work);
        client->work = NULL;
    }
}

/* ---- refused filters ---- */

/* "2 of 20 subscriptions refused; a/b: not authorized" */
static enum client_error worker_subscribe_describe(const struct client *client, size_t refused,
                                                   char *out, size_t size) {
    const struct client_config *config = client->config->config;
    for (size_t i = config->subscription_count; i-- > 0;) {
        const struct subscribing_filter *filter = &client->subscribing.filters[i];
        enum client_error why = subscribing_refusal(filter);
        if (why != CLIENT_ERROR_NONE) {
            const char *text = config->subscriptions[i].filter;
            snprintf(out, size, "%zu of %zu subscriptions refused; %.*s: %s", refused,
                     worker_subscribe_count(client),
                     text_truncated_len(text, strlen(text), WORKER_FILTER_SHOWN_LEN), text,
                     client_error_text(why));
            return why;
        }
    }
    return CLIENT_ERROR_NONE;
}

void worker_subscribe_note_refusals(struct client *client, bool changed) {
    struct worker *worker = client->worker;
    bool first = client->state != CLIENT_ONLINE, before = client->degraded;
    char message[400] = "";
    size_t refused =
        subscribing_refused_count(&client->subscribing, worker_subscribe_count(client));
    pthread_mutex_lock(&worker->lock);
    client->degraded = refused > 0;
    worker->degraded_count += client->degraded - before;
    pthread_mutex_unlock(&worker->lock);
    enum client_error why = worker_subscribe_describe(client, refused, message, sizeof message);
    if (client->degraded && (!before || changed)) {
        worker_notify_error(client, why, message);
    } else if (client->degraded && first) {
        worker_note_error(client, why, message);
    }
}

/* ---- filters that stay in the session ---- */

static void worker_subscribe_keep(struct subscribe_work *work, size_t removed,
                                  enum client_error why) {
    if (work->kept++ == 0) {
        work->first_kept = work->removed.filters[removed];
        work->kept_why = why;
    }
}

/* Reported when it begins, and shown as the last error of every connection. */
static void worker_subscribe_note_kept(struct client *client) {
    struct subscribe_work *work = client->work;
    char message[400];
    for (size_t i = work->unsubscribed; i < work->removed.count; i++) {
        worker_subscribe_keep(work, i, CLIENT_ERROR_UNSUBSCRIBE_ENDS_CONNECTION);
    }
    if (work->kept == 0) {
        client->kept_reported &= work->removed.count == 0;
        return;
    }
    snprintf(
        message, sizeof message,
        "%zu of %zu filters that are no longer wanted stay in the session; %.*s: %s", work->kept,
        work->removed.count,
        text_truncated_len(work->first_kept, strlen(work->first_kept), WORKER_FILTER_SHOWN_LEN),
        work->first_kept, client_error_text(work->kept_why));
    if (client->kept_reported) {
        worker_note_error(client, work->kept_why, message);
    } else {
        worker_notify_error(client, work->kept_why, message);
    }
    client->kept_reported = true;
}

/* ---- end of the work ---- */

/* The timer watches the work while there is any, then until the connection is stable or something
 * is tried again. */
void worker_subscribe_watch(struct client *client) {
    if (client->work) {
        return;
    }
    struct subscribing_rules rules = worker_subscribe_rules(client);
    int64_t now_ms = clock_ms();
    int64_t at_ms =
        subscribing_due_ms(&client->subscribing, worker_subscribe_count(client), &rules, now_ms);
    int64_t stable_at_ms = client->connack_at_ms + client->worker->conf->stable_ms;
    if (worker_broker_is_unreachable(client) && stable_at_ms > now_ms + INCIDENT_STABLE_MS) {
        stable_at_ms = now_ms + INCIDENT_STABLE_MS; /* a stable connection may end the incident */
    }
    if (!client->stable_reported && (at_ms == 0 || stable_at_ms < at_ms)) {
        at_ms = stable_at_ms;
    }
    int64_t silence_at_ms = worker_silence_due_ms(client);
    if (silence_at_ms != 0 && (at_ms == 0 || silence_at_ms < at_ms)) {
        at_ms = silence_at_ms;
    }
    if (at_ms != 0) {
        worker_set_timer(client, at_ms > now_ms ? at_ms - now_ms : 0);
    } else {
        timers_clear(&client->worker->timers, &client->timer);
    }
}

static void worker_subscribe_done(struct client *client) {
    bool changed = client->work->from != NULL;
    worker_subscribe_note_kept(client);
    worker_drop_work(client);
    client->blame_clears = 0;
    pthread_mutex_lock(&client->worker->lock);
    subscribing_complete(&client->subscribing, worker_subscribe_count(client));
    pthread_mutex_unlock(&client->worker->lock);
    worker_subscribe_note_refusals(client, changed);
    connect_limiter_leave(&client->worker->connect_limiter, &client->ticket);
    worker_change_state(client, CLIENT_EV_SUBSCRIBED, "subscribed");
    if (client->state == CLIENT_ONLINE && client->worker->ops->resume_publications) {
        client->worker->ops->resume_publications(client->connection);
    }
    worker_subscribe_watch(client);
    if (client->state == CLIENT_ONLINE) {
        worker_update_subscriptions(client); /* the configuration may have changed meanwhile */
    }
}

/* ---- packets ---- */

enum worker_subscribe_step {
    SUBSCRIBE_SENT,
    SUBSCRIBE_SKIPPED, /* nothing was sent, and there may be more */
    SUBSCRIBE_NOTHING,
    SUBSCRIBE_FAILED,
};

/* ERR_UNAVAILABLE: its closed event is pending. */
static enum worker_subscribe_step worker_subscribe_step_of(enum err err) {
    return err == ERR_OK || err == ERR_UNAVAILABLE ? SUBSCRIBE_SENT : SUBSCRIBE_FAILED;
}

static enum worker_subscribe_step worker_subscribe_send_unsubscribe(struct client *client) {
    struct subscribe_work *work = client->work;
    struct subscribing_rules rules = worker_subscribe_rules(client);
    size_t most = subscribing_unsubscribe_max(&client->subscribing, &rules);
    size_t left = work->removed.count - work->unsubscribed;
    if (left == 0 || most == 0) {
        return SUBSCRIBE_NOTHING;
    }
    size_t n = left < most ? left : most;
    enum err err = client->worker->ops->unsubscribe(client->connection,
                                                    work->removed.filters + work->unsubscribed, &n);
    if (n == 0) {
        worker_subscribe_keep(work, work->unsubscribed++, CLIENT_ERROR_UNSUBSCRIBE_TOO_LONG);
        return SUBSCRIBE_SKIPPED;
    }
    work->in_flight = n;
    work->unsubscribing = client->unsubscribing = true;
    return worker_subscribe_step_of(err);
}

/* Retained messages that the session already had must not be sent again (MQTT 5.0 section 3.8.3.1).
 */
static struct client_subscription
worker_subscribe_options(const struct client *client, const struct client_subscription *wanted) {
    struct client_subscription asked = *wanted;
    if (asked.retain_handling == RETAIN_HANDLING_STANDARD) {
        asked.retain_handling = client->session_present || client->work->again ? 1 : 0;
    }
    return asked;
}

static enum worker_subscribe_step worker_subscribe_send(struct client *client) {
    struct subscribe_work *work = client->work;
    struct client_subscription some[SUBSCRIBE_FILTERS_MAX];
    const struct client_config *config = client->config->config;
    struct subscribing_rules rules = worker_subscribe_rules(client);
    size_t n = subscribing_next(&client->subscribing, config, &rules, work->asked);
    if (n == 0) {
        return SUBSCRIBE_NOTHING;
    }
    shared_config_release(work->asked_of);
    work->asked_of = shared_config_hold(client->config);
    for (size_t i = 0; i < n; i++) {
        some[i] = worker_subscribe_options(client, &config->subscriptions[work->asked[i]]);
    }
    enum err err = client->worker->ops->subscribe(client->connection, some, &n);
    pthread_mutex_lock(&client->worker->lock);
    if (n == 0) {
        subscribing_refuse_too_long(&client->subscribing, work->asked[0]);
    } else {
        subscribing_asked(&client->subscribing, work->asked, n);
    }
    pthread_mutex_unlock(&client->worker->lock);
    work->in_flight = n;
    work->unsubscribing = client->unsubscribing = false;
    return n == 0 ? SUBSCRIBE_SKIPPED : worker_subscribe_step_of(err);
}

static void worker_subscribe_go_on(struct client *client) {
    enum worker_subscribe_step step;
    do { /* each skipped filter is one less */
        step = worker_subscribe_send_unsubscribe(client);
        if (step == SUBSCRIBE_NOTHING) {
            step = worker_subscribe_send(client);
        }
    } while (step == SUBSCRIBE_SKIPPED);
    if (step == SUBSCRIBE_NOTHING) {
        worker_subscribe_done(client);
        return;
    }
    worker_set_timer(client, worker_connect_timeout_ms(client));
    if (step == SUBSCRIBE_FAILED) {
        /* Not sent, so there will be no answer: the timer ends the connection. */
        worker_note_error(client, CLIENT_ERROR_SUBSCRIBE_FAILED, NULL);
    }
}

static struct subscribe_work *worker_subscribe_work_create(struct client *client) {
    struct subscribe_work *work = calloc(1, sizeof *work);
    if (work) {
        work->to = shared_config_hold(client->config);
    }
    return work;
}

static void worker_subscribe_out_of_memory(struct client *client) {
    worker_drop_work(client);
    worker_note_error(client, CLIENT_ERROR_OUT_OF_MEMORY, NULL);
    bool online = client->state == CLIENT_ONLINE;
    worker_set_timer(client, online ? SUBSCRIBE_MEMORY_MS : 0); /* tries again, or reconnects */
}

/* from NULL: only the existence of the session is known. False: out of memory. */
static bool worker_subscribe_begin(struct client *client, struct shared_config *from) {
    struct subscribe_work *work = client->work = worker_subscribe_work_create(client);
    bool known = from || client->session_present;
    if (!work || (known && subscriptions_removed_init(&work->removed, from ? from->config : NULL,
                                                      work->to->config) != ERR_OK)) {
        worker_subscribe_out_of_memory(client);
        return false;
    }
    work->from = shared_config_hold(from);
    worker_subscribe_go_on(client);
    return true;
}

/* False: out of memory. */
static bool worker_subscribe_update(struct client *client) {
    if (client->work || client->applied == client->config) {
        return true; /* busy: checked again when it is done */
    }
    struct shared_config *before = client->applied;
    client->applied = shared_config_hold(client->config);
    if (!client_config_same_subscriptions(before->config, client->config->config) &&
        !worker_subscribe_begin(client, before)) {
        shared_config_release(client->applied);
        client->applied = before;
        return false;
    }
    shared_config_release(before);
    return true;
}

void worker_update_subscriptions(struct client *client) {
    assert(client->state == CLIENT_ONLINE);
    (void)worker_subscribe_update(client);
}

void worker_subscribe_retry(struct client *client) {
    struct subscribing_rules rules = worker_subscribe_rules(client);
    size_t count = worker_subscribe_count(client);
    int64_t now_ms = clock_ms();
    if (!worker_subscribe_update(client) || client->work) { /* out of memory */
        return;
    }
    int64_t due_ms = subscribing_due_ms(&client->subscribing, count, &rules, now_ms);
    if (due_ms == 0 || due_ms > now_ms) {
        worker_subscribe_watch(client);
        return;
    }
    pthread_mutex_lock(&client->worker->lock);
    subscribing_retry(&client->subscribing, count, &rules, now_ms);
    pthread_mutex_unlock(&client->worker->lock);
    client->work = worker_subscribe_work_create(client);
    if (!client->work) {
        worker_subscribe_out_of_memory(client);
        return;
    }
    worker_subscribe_go_on(client);
}

void worker_subscribe_again(struct client *client) {
    client->work = worker_subscribe_work_create(client);
    if (!client->work) {
        worker_subscribe_out_of_memory(client);
        return;
    }
    client->work->again = true;
    pthread_mutex_lock(&client->worker->lock);
    subscribing_connected(&client->subscribing, worker_subscribe_count(client), true, false);
    pthread_mutex_unlock(&client->worker->lock);
    worker_subscribe_go_on(client);
}

/* ---- events ---- */

/* The place of the subscription in the present configuration; -1: it is removed, or has changed. */
static int32_t worker_subscribe_place(const struct client *client, uint16_t asked) {
    const struct client_config *config = client->config->config;
    const struct subscribe_work *work = client->work;
    const struct client_subscription *one = &work->asked_of->config->subscriptions[asked];
    if (work->asked_of == client->config) {
        return asked;
    }
    for (size_t i = 0; i < config->subscription_count; i++) {
        if (strcmp(config->subscriptions[i].filter, one->filter) == 0) {
            return subscription_same_options(&config->subscriptions[i], one) ? (int32_t)i : -1;
        }
    }
    return -1;
}

void worker_subscribed(void *context, const uint8_t *codes, size_t n) {
    struct client *client = context;
    struct subscribe_work *work = client->work;
    int32_t places[SUBSCRIBE_FILTERS_MAX];
    client->last_answer_at_ms = clock_ms();
    if (!work || work->in_flight == 0 || work->unsubscribing) {
        return;
    }
    n = n < work->in_flight ? n : work->in_flight;
    for (size_t i = 0; i < n; i++) {
        places[i] = worker_subscribe_place(client, work->asked[i]);
    }
    work->in_flight = 0;
    pthread_mutex_lock(&client->worker->lock);
    subscribing_acknowledged(&client->subscribing, worker_subscribe_count(client), places, codes, n,
                             clock_ms());
    pthread_mutex_unlock(&client->worker->lock);
    worker_subscribe_go_on(client);
}

void worker_unsubscribed(void *context, const uint8_t *codes, size_t n) {
    struct client *client = context;
    struct subscribe_work *work = client->work;
    client->last_answer_at_ms = clock_ms();
    if (!work || work->in_flight == 0 || !work->unsubscribing) {
        return;
    }
    for (size_t i = 0; i < n && i < work->in_flight; i++) {
        if (reason_is_error(codes[i])) {
            worker_subscribe_keep(work, work->unsubscribed + i, CLIENT_ERROR_UNSUBSCRIBE_REFUSED);
        }
    }
    work->unsubscribed += work->in_flight;
    work->in_flight = 0;
    client->unsubscribing = false;
    worker_subscribe_go_on(client);
}

/* ---- next connection ---- */

void worker_subscribe_all(struct client *client) {
    pthread_mutex_lock(&client->worker->lock);
    subscribing_forget_session(&client->subscribing, worker_subscribe_count(client));
    subscribing_expedite(&client->subscribing);
    pthread_mutex_unlock(&client->worker->lock);
}

void worker_subscribe_other_url(struct client *client) {
    pthread_mutex_lock(&client->worker->lock);
    subscribing_forget_session(&client->subscribing, worker_subscribe_count(client));
    pthread_mutex_unlock(&client->worker->lock);
}

void worker_subscribe_reset(struct client *client) {
    client->blame = BLAME_NOTHING;
    client->unsubscribing = client->kept_reported = false;
    client->blame_clears = 0;
    pthread_mutex_lock(&client->worker->lock);
    subscribing_reset(&client->subscribing, worker_subscribe_count(client));
    client->worker->degraded_count -= client->degraded;
    client->degraded = false;
    pthread_mutex_unlock(&client->worker->lock);
}

void worker_begin_subscribing(struct client *client) {
    bool skip = client->config->config->protocol_version ==
                4; /* 3.1.1 cannot ask for "no retained messages" */
    client->applied = shared_config_hold(client->config);
    worker_blame_apply(client);
    client->unsubscribing = false;
    pthread_mutex_lock(&client->worker->lock);
    subscribing_connected(&client->subscribing, worker_subscribe_count(client),
                          client->session_present, skip);
    pthread_mutex_unlock(&client->worker->lock);
    (void)worker_subscribe_begin(client, NULL);
}
