/* Owns the state of a probe's filters. */
#include "probe_filters.h"

#include <stdio.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/text.h"
#include "message/topic.h"

#define PROBE_FILTERS_LOSSES_MAX 24
#define PROBE_FILTERS_SHOWN      3
#define PROBE_FILTERS_FILTER_LEN 40

size_t probe_filters_exclude_shared(struct client_config *config) {
    uint16_t kept = 0;
    for (size_t i = 0; i < config->subscription_count; i++) {
        struct client_subscription one = config->subscriptions[i];
        if (!topic_filter_takes_from_others(one.filter)) {
            config->subscriptions[i] = config->subscriptions[kept];
            one.retain_handling = 2; /* the broker sends no retained messages */
            config->subscriptions[kept++] = one;
        }
    }
    size_t excluded = config->subscription_count - kept;
    config->subscription_count = kept;
    return excluded;
}

void probe_filters_include_shared(struct client_config *config, size_t excluded) {
    config->subscription_count += (uint16_t)excluded;
}

enum err probe_filters_init(struct probe_filters *filters, const struct client_config *config,
                            const struct conf *conf) {
    int64_t own_max = config->subscribe_filters_max;
    *filters = (struct probe_filters){
        .config = config,
        .rules = {.packet_max = (size_t)(own_max > 0 ? own_max : conf->subscribe_filters_max),
                  .version = config->protocol_version,
                  .deferred_ms_min = conf->reconnect_max_ms,
                  .deferred_ms_max = conf->reconnect_max_ms}};
    return subscribing_init(&filters->plan, config);
}

void probe_filters_fini(struct probe_filters *filters) {
    subscribing_fini(&filters->plan);
}

void probe_filters_connected(struct probe_filters *filters) {
    filters->in_flight = 0;
    subscribing_connected(&filters->plan, filters->config->subscription_count, false, false);
}

bool probe_filters_ask(struct probe_filters *filters, struct engine_connection *connection) {
    struct client_subscription some[SUBSCRIBE_FILTERS_MAX];
    size_t n;
    while ((n = subscribing_next(&filters->plan, filters->config, &filters->rules,
                                 filters->asked)) > 0) {
        for (size_t i = 0; i < n; i++) {
            some[i] = filters->config->subscriptions[filters->asked[i]];
        }
        /* An error: the closed event is on its way. */
        (void)engine_reactor.subscribe(connection, some, &n);
        if (n > 0) {
            subscribing_asked(&filters->plan, filters->asked, n);
            filters->in_flight = n;
            return true;
        }
        subscribing_refuse_too_long(&filters->plan, filters->asked[0]);
    }
    subscribing_complete(&filters->plan, filters->config->subscription_count);
    return false;
}

void probe_filters_answered(struct probe_filters *filters, const uint8_t *codes, size_t n) {
    int32_t places[SUBSCRIBE_FILTERS_MAX];
    n = n < filters->in_flight ? n : filters->in_flight;
    for (size_t i = 0; i < n; i++) {
        places[i] = filters->asked[i];
    }
    filters->in_flight = 0;
    subscribing_acknowledged(&filters->plan, filters->config->subscription_count, places, codes, n,
                             clock_ms());
}

bool probe_filters_lost(struct probe_filters *filters, enum client_error error) {
    size_t count = filters->config->subscription_count, n = 0;
    int64_t now_ms = clock_ms();
    if (filters->losses++ >= PROBE_FILTERS_LOSSES_MAX) {
        return false;
    }
    if (error != CLIENT_ERROR_ANSWER_UNFIT &&
        subscribing_was_just_refused(&filters->plan, now_ms)) {
        (void)subscribing_blame_refused(&filters->plan, count, &filters->rules, now_ms, &n);
        return n > 0;
    }
    return subscribing_blame(&filters->plan, count, &filters->rules, now_ms);
}

/* "2 of 20 filters refused: a/b (not authorized), ..." */
static enum client_error probe_filters_describe_refused(const struct probe_filters *filters,
                                                        size_t refused, char *out, size_t size) {
    const struct client_config *config = filters->config;
    enum client_error last = CLIENT_ERROR_NONE;
    size_t shown = 0, count = config->subscription_count;
    size_t len = (size_t)snprintf(out, size, "%zu of %zu filters refused:", refused, count);
    for (size_t i = 0; i < count && shown < PROBE_FILTERS_SHOWN; i++) {
        enum client_error why = subscribing_refusal(&filters->plan.filters[i]);
        if (why != CLIENT_ERROR_NONE && len < size) {
            const char *text = config->subscriptions[i].filter;
            len +=
                (size_t)snprintf(out + len, size - len, "%s %.*s (%s)", shown > 0 ? "," : "",
                                 text_truncated_len(text, strlen(text), PROBE_FILTERS_FILTER_LEN),
                                 text, client_error_text(why));
            last = why;
            shown++;
        }
    }
    return last;
}

enum client_error probe_filters_describe(const struct probe_filters *filters, char *out,
                                         size_t size) {
    size_t count = filters->config->subscription_count;
    size_t refused = subscribing_refused_count(&filters->plan, count);
    if (refused > 0) {
        return probe_filters_describe_refused(filters, refused, out, size);
    }
    int len = snprintf(out, size, "%zu filter%s granted", count, count == 1 ? "" : "s");
    if (filters->losses > 0) {
        snprintf(
            out + len, size - (size_t)len,
            ", at most %u in one SUBSCRIBE: the broker closes the connection if there are more",
            (unsigned)filters->plan.learned->packet_good);
    }
    return CLIENT_ERROR_NONE;
}
