/* Owns the conclusions from the end of a connection about a client's filters: which are to blame.
 * They are charged once the broker is reachable. The plan of subscriptions
 * (mqtt/client/subscribing.h) does the rest. Worker thread only. */
#include <stdio.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/text.h"
#include "mqtt/worker/worker.h"

#define BLAME_ACQUITTALS_MAX 3

static size_t worker_blame_filter_count(const struct client *client) {
    return client->config->config->subscription_count;
}

enum client_blame worker_blame_find(const struct client *client, enum client_error error) {
    bool asked = subscribing_has_pending(&client->subscribing, worker_blame_filter_count(client));
    if (client->unsubscribing) {
        return BLAME_UNSUBSCRIBE;
    }
    if (error == CLIENT_ERROR_ANSWER_UNFIT) {
        return asked ? BLAME_UNFIT : BLAME_NOTHING;
    }
    if (error != CLIENT_ERROR_SUBSCRIBE_TIMEOUT &&
        subscribing_was_just_refused(&client->subscribing, clock_ms())) {
        return BLAME_REFUSED; /* others were only in flight */
    }
    return asked ? BLAME_ASKED : BLAME_NOTHING;
}

bool worker_blame_set(struct client *client, enum client_blame blame) {
    client->blame = blame & 0x7F;
    return blame != BLAME_NOTHING;
}

void worker_blame_clear(struct client *client) {
    if (client->blame != BLAME_NOTHING && client->blame_clears < BLAME_ACQUITTALS_MAX) {
        client->blame = BLAME_NOTHING;
        client->blame_clears++;
    }
}

/* The first filter in doubt, and how many there are. */
static const char *worker_blame_pending(const struct client *client, size_t *n) {
    const char *first = NULL;
    *n = 0;
    for (size_t i = worker_blame_filter_count(client); i-- > 0;) {
        if (client->subscribing.filters[i].flags & FILTER_PENDING) {
            first = client->config->config->subscriptions[i].filter;
            (*n)++;
        }
    }
    return first;
}

static void worker_blame_note_asked(struct client *client, const char *filter, size_t n) {
    static const char ended[] = "the broker ended the connection when the node requested",
                      unfit[] =
                          "the broker's acknowledgement did not match when the node requested";
    const char *what = client->blame == BLAME_UNFIT ? unfit : ended;
    char message[400];
    enum client_error error =
        n > 1 ? CLIENT_ERROR_FILTERS_HALVED : CLIENT_ERROR_SUBSCRIPTION_ENDS_CONNECTION;
    if (n > 1) {
        snprintf(message, sizeof message,
                 "%s %zu filters at once; the next connection requests half as many", what, n);
    } else {
        snprintf(message, sizeof message, "%s the filter %.*s alone", what,
                 text_truncated_len(filter, strlen(filter), WORKER_FILTER_SHOWN_LEN), filter);
    }
    worker_note_error(client, error, message);
    log_event(LOG_INFO, "filters_blamed", KS("client", client->id), KI("filters", (int64_t)n),
              KS("first", filter));
}

static void worker_blame_refused(struct client *client) {
    struct subscribing_rules rules = worker_subscribe_rules(client);
    char message[400];
    size_t n;
    pthread_mutex_lock(&client->worker->lock);
    size_t first = subscribing_blame_refused(
        &client->subscribing, worker_blame_filter_count(client), &rules, clock_ms(), &n);
    pthread_mutex_unlock(&client->worker->lock);
    if (n == 0) {
        return; /* the list has changed */
    }
    const char *filter = client->config->config->subscriptions[first].filter;
    snprintf(message, sizeof message,
             "the broker refused %zu of %zu filters, and ended the connection: %.*s%s", n,
             worker_blame_filter_count(client),
             text_truncated_len(filter, strlen(filter), WORKER_FILTER_SHOWN_LEN), filter,
             n > 1 ? ", ..." : "");
    worker_note_error(client, CLIENT_ERROR_SUBSCRIPTION_ENDS_CONNECTION, message);
    worker_subscribe_note_refusals(client, false);
}

static void worker_blame_asked(struct client *client) {
    struct subscribing_rules rules = worker_subscribe_rules(client);
    size_t n;
    const char *filter = worker_blame_pending(client, &n);
    pthread_mutex_lock(&client->worker->lock);
    bool progress = subscribing_blame(&client->subscribing, worker_blame_filter_count(client),
                                      &rules, clock_ms());
    pthread_mutex_unlock(&client->worker->lock);
    if (progress) {
        worker_blame_note_asked(client, filter, n);
        worker_subscribe_note_refusals(client, false);
    }
}

static void worker_blame_unsubscribe(struct client *client) {
    struct subscribing_rules rules = worker_subscribe_rules(client);
    pthread_mutex_lock(&client->worker->lock);
    (void)subscribing_blame_unsubscribe(&client->subscribing, worker_blame_filter_count(client),
                                        &rules);
    pthread_mutex_unlock(&client->worker->lock);
}

void worker_blame_apply(struct client *client) {
    switch (client->blame) {
    case BLAME_UNSUBSCRIBE:
        worker_blame_unsubscribe(client);
        break;
    case BLAME_ASKED:
    case BLAME_UNFIT:
        worker_blame_asked(client);
        break;
    case BLAME_REFUSED:
        worker_blame_refused(client);
        break;
    default:
        break;
    }
    client->blame = BLAME_NOTHING;
}
