/* Owns what the end of a connection says about a client's filters: which are to blame, and that
 * they are once the broker is seen alive. What follows from it is the plan's (mqtt/subscribing.h).
 * Host thread only. */
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "mqtt/host.h"

#define BLAME_ACQUITTALS_MAX 3

static size_t blame_count(const struct client *client) {
    return client->config->config->subscription_count;
}

enum client_blame host_subscribe_doubt(const struct client *client, enum client_error error) {
    bool asked = subscribing_in_doubt(&client->subscribing, blame_count(client));
    if (client->unsubscribing) {
        return BLAME_UNSUBSCRIBE;
    }
    if (error == CLIENT_ERROR_ANSWER_UNFIT) {
        return asked ? BLAME_UNFIT : BLAME_NOTHING;
    }
    if (error != CLIENT_ERROR_SUBSCRIBE_TIMEOUT &&
        subscribing_refused_just_now(&client->subscribing, clock_ms())) {
        return BLAME_REFUSED; /* others were only under way meanwhile */
    }
    return asked ? BLAME_ASKED : BLAME_NOTHING;
}

bool host_subscribe_blame(struct client *client, enum client_blame blame) {
    client->blame = (uint8_t)blame;
    return blame != BLAME_NOTHING;
}

void host_subscribe_acquit(struct client *client) {
    if (client->blame != BLAME_NOTHING && client->acquittals < BLAME_ACQUITTALS_MAX) {
        client->blame = BLAME_NOTHING;
        client->acquittals++;
    }
}

/* The first that is in doubt, and how many are. */
static const char *blame_doubted(const struct client *client, size_t *n) {
    const char *first = NULL;
    *n = 0;
    for (size_t i = blame_count(client); i-- > 0;) {
        if (client->subscribing.filters[i].flags & FILTER_ASKED) {
            first = client->config->config->subscriptions[i].filter;
            (*n)++;
        }
    }
    return first;
}

static void blame_note_asked(struct client *client, const char *filter, size_t n) {
    static const char ended[] = "the broker ended the connection when it was asked for",
                      unfit[] = "the broker's answer did not fit when it was asked for";
    const char *what = client->blame == BLAME_UNFIT ? unfit : ended;
    char message[400];
    enum client_error error =
        n > 1 ? CLIENT_ERROR_FILTERS_HALVED : CLIENT_ERROR_SUBSCRIPTION_ENDS_CONNECTION;
    if (n > 1) {
        snprintf(message, sizeof message, "%s %zu filters at once: half as many are next", what, n);
    } else {
        snprintf(message, sizeof message, "%s the filter %.*s alone", what,
                 text_shown_len(filter, strlen(filter), HOST_FILTER_SHOWN_LEN), filter);
    }
    host_note_error(client, error, message);
    log_event(LOG_INFO, "filters_blamed", KS("client", client->id), KI("filters", (int64_t)n),
              KS("first", filter));
}

static void blame_refused(struct client *client) {
    struct subscribing_rules rules = host_subscribe_rules(client);
    char message[400];
    size_t n;
    pthread_mutex_lock(&client->host->lock);
    size_t first = subscribing_blame_refused(&client->subscribing, blame_count(client), &rules,
                                             clock_ms(), &n);
    pthread_mutex_unlock(&client->host->lock);
    if (n == 0) {
        return; /* the list has changed */
    }
    const char *filter = client->config->config->subscriptions[first].filter;
    snprintf(message, sizeof message,
             "the broker refused %zu of %zu filters, and ended the connection: %.*s%s", n,
             blame_count(client), text_shown_len(filter, strlen(filter), HOST_FILTER_SHOWN_LEN),
             filter, n > 1 ? ", ..." : "");
    host_note_error(client, CLIENT_ERROR_SUBSCRIPTION_ENDS_CONNECTION, message);
    host_subscribe_note_refusals(client, false);
}

static void blame_asked(struct client *client) {
    struct subscribing_rules rules = host_subscribe_rules(client);
    size_t n;
    const char *filter = blame_doubted(client, &n);
    pthread_mutex_lock(&client->host->lock);
    bool progress =
        subscribing_blame(&client->subscribing, blame_count(client), &rules, clock_ms());
    pthread_mutex_unlock(&client->host->lock);
    if (progress) {
        blame_note_asked(client, filter, n);
        host_subscribe_note_refusals(client, false);
    }
}

static void blame_unsubscribe(struct client *client) {
    struct subscribing_rules rules = host_subscribe_rules(client);
    pthread_mutex_lock(&client->host->lock);
    (void)subscribing_blame_unsubscribe(&client->subscribing, blame_count(client), &rules);
    pthread_mutex_unlock(&client->host->lock);
}

void host_subscribe_carry_out_blame(struct client *client) {
    switch (client->blame) {
    case BLAME_UNSUBSCRIBE:
        blame_unsubscribe(client);
        break;
    case BLAME_ASKED:
    case BLAME_UNFIT:
        blame_asked(client);
        break;
    case BLAME_REFUSED:
        blame_refused(client);
        break;
    default:
        break;
    }
    client->blame = BLAME_NOTHING;
}
