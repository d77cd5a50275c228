/* Owns the parameters and the cursor: "<id of the last entry>:<time in ms of the first page>". */
#include "dead_letter_query.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include "http/api/api.h"
#include "http/server/problem.h"
#include "message/topic.h"

#define TIME_MS_MAX 9999999999999

static bool query_parse_number(const char **text, char end, int64_t *out) {
    size_t digits = strspn(*text, "0123456789");
    char number[20];
    if (digits == 0 || digits >= sizeof number || (*text)[digits] != end) {
        return false;
    }
    snprintf(number, sizeof number, "%.*s", (int)digits, *text);
    *text += digits + (end != '\0');
    return http_int_parse(number, 0, INT64_MAX, out);
}

static bool query_is_entry(const char *text) {
    int64_t number;
    return strlen(text) < DEAD_LETTER_ID_LEN && query_parse_number(&text, '-', &number) &&
           query_parse_number(&text, '\0', &number);
}

/* Milliseconds since 1970, or RFC 3339 in UTC: "2026-11-30T12:00:00Z". */
static bool query_parse_time(const char *text, int64_t *out) {
    struct tm parts = {0};
    if (http_int_parse(text, 0, TIME_MS_MAX, out)) {
        return true;
    }
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    if (rest && *rest == '.') {
        rest += 1 + strspn(rest + 1, "0123456789");
    }
    *out = rest && strcmp(rest, "Z") == 0 ? (int64_t)timegm(&parts) * 1000 : -1;
    return *out >= 0;
}

static bool query_read_time(const struct http_query *query, const char *name, int64_t *out,
                            struct http_response *response) {
    const char *text = http_query_get(query, name);
    *out = 0;
    if (text && *text != '\0' && !query_parse_time(text, out)) {
        http_problem(response, PROBLEM_BAD_REQUEST,
                     "%s: must be a time such as 2026-11-30T12:00:00Z, or milliseconds since 1970",
                     name);
        return false;
    }
    return true;
}

static bool query_parse_cursor(const char *text, struct dead_letter_query *out) {
    const char *colon = strchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (!colon || len >= sizeof out->after ||
        !http_int_parse(colon + 1, 0, TIME_MS_MAX, &out->selector.until_ms)) {
        return false;
    }
    snprintf(out->after, sizeof out->after, "%.*s", (int)len, text);
    return query_is_entry(out->after);
}

static bool query_read_cursor(const struct http_query *query, struct dead_letter_query *out,
                              struct http_response *response) {
    const char *text = http_query_get(query, "cursor");
    if (text && *text != '\0' && !query_parse_cursor(text, out)) {
        http_problem(response, PROBLEM_BAD_REQUEST, "cursor: must be a next_cursor of this list");
        return false;
    }
    return true;
}

static bool query_check_selector(const struct dead_letters_selector *selector,
                                 struct http_response *response) {
    const char *fault = selector->topic && *selector->topic
                            ? topic_filter_fault(selector->topic, strlen(selector->topic))
                            : NULL;
    if (fault) {
        http_problem(response, PROBLEM_BAD_REQUEST, "topic: %s", fault);
    } else if (selector->entry && *selector->entry && !query_is_entry(selector->entry)) {
        http_problem(response, PROBLEM_BAD_REQUEST, "entry: must be the entry of a dead letter");
    } else {
        return true;
    }
    return false;
}

static bool query_selects_all(const struct dead_letters_selector *selector) {
    const char *const texts[] = {selector->entry, selector->sink, selector->client,
                                 selector->topic};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i] && *texts[i] != '\0') {
            return false;
        }
    }
    return selector->since_ms == 0 && selector->until_ms == 0;
}

bool dead_letter_query_parse(const struct http_request *request, bool changes,
                             struct dead_letter_query *out, struct http_response *response) {
    const struct http_query *query = &request->query;
    bool all;
    *out = (struct dead_letter_query){.selector = {.entry = http_query_get(query, "entry"),
                                                   .sink = http_query_get(query, "sink"),
                                                   .client = http_query_get(query, "client"),
                                                   .topic = http_query_get(query, "topic"),
                                                   .label = request->caller.scope.label,
                                                   .label_value = request->caller.scope.value}};
    if (!query_read_time(query, "since", &out->selector.since_ms, response) ||
        !query_read_time(query, "until", &out->selector.until_ms, response) ||
        !http_read_flag(request, "all", &all, response) ||
        !http_read_flag(request, "dry_run", &out->dry_run, response) ||
        !query_check_selector(&out->selector, response)) {
        return false;
    }
    if (changes && !all && query_selects_all(&out->selector)) {
        http_problem(response, PROBLEM_INVALID,
                     "select dead letters by entry, sink, client, topic, since or until, or all of "
                     "them by all=true");
        return false;
    }
    return query_read_cursor(query, out, response);
}

void dead_letter_query_advance(struct dead_letter_query *query,
                               const struct dead_letters_page *page) {
    if (query->selector.until_ms == 0) {
        query->selector.until_ms = page->redis_ms;
    }
    memcpy(query->after, page->next, sizeof query->after);
}

bool dead_letter_query_is_over(const struct dead_letter_query *query) {
    return query->after[0] == '\0';
}

int64_t dead_letter_query_total(const struct dead_letter_query *query, int64_t total,
                                int64_t matched) {
    return *query->selector.label ? matched : total;
}

json_t *dead_letter_query_cursor(const struct dead_letter_query *query) {
    return dead_letter_query_is_over(query)
               ? json_null()
               : json_sprintf("%s:%lld", query->after, (long long)query->selector.until_ms);
}
