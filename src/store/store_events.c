/* The stream of events. Any thread. */
#include "store/events.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "internal.h"

static void store_events_copy_id(char out[STORE_EVENT_ID_LEN], const struct redis_reply *reply) {
    const char *id = redis_reply_str(reply, NULL);
    snprintf(out, STORE_EVENT_ID_LEN, "%s", id ? id : "");
}

static const char *store_events_use(const struct store_event *event) {
    return event->incident ? event->incident
           : !event->live  ? "kept"
           : event->kept   ? "both"
                           : "live";
}

/* answer: NULL: none. */
static void store_events_read_answer(const struct redis_reply *answer, char id[STORE_EVENT_ID_LEN],
                                     char **text) {
    bool of_incident = answer && redis_reply_type(answer) == REDIS_ARRAY;
    const char *told = of_incident ? redis_reply_str(redis_reply_at(answer, 1), NULL) : NULL;
    store_events_copy_id(id, of_incident ? redis_reply_at(answer, 0) : answer);
    *text = told ? text_dup(told) : NULL;
}

enum err store_append_events(struct store *store, const struct store_event_batch *batch,
                             char (*ids)[STORE_EVENT_ID_LEN], char **texts) {
    struct store_call call;
    struct redis_reply *reply;
    assert(batch->n <= STORE_BATCH_MAX);
    store_call_begin(&call, store, SCRIPT_APPEND_EVENTS);
    store_call_str(&call, batch->node);
    store_call_str(&call, batch->from);
    store_call_int(&call, (int64_t)batch->number);
    store_call_int(&call, batch->lost);
    store_call_int(&call, batch->listened);
    store_call_int(&call, batch->kept_max);
    for (size_t i = 0; i < batch->n; i++) {
        store_call_str(&call, store_events_use(&batch->events[i]));
        store_call_str(&call, batch->events[i].text);
    }
    enum err err = store_call_run(store, &call, &reply);
    for (size_t i = 0; i < batch->n; i++) {
        store_events_read_answer(redis_reply_at(err == ERR_OK ? reply : NULL, i + 1), ids[i],
                                 &texts[i]);
    }
    redis_reply_free(reply);
    return err;
}

enum err store_read_events(struct store *store, const char *after, size_t max,
                           struct store_event_page *page) {
    struct store_call call;
    *page = (struct store_event_page){0};
    store_call_begin(&call, store, SCRIPT_READ_EVENTS);
    store_call_str(&call, after);
    store_call_int(&call, (int64_t)max);
    enum err err = store_call_run(store, &call, &page->reply);
    if (err == ERR_OK) {
        page->known = store_reply_int(page->reply, 1) > 0;
        store_events_copy_id(page->first, redis_reply_at(page->reply, 2));
        page->rows = redis_reply_at(page->reply, 3);
        page->n = redis_reply_count(page->rows) / 2;
    }
    return err;
}

enum err store_forward_events(struct store *store, const char *node, const char *done, size_t max,
                              struct store_event_page *page) {
    struct store_call call;
    *page = (struct store_event_page){0};
    store_call_begin(&call, store, SCRIPT_FORWARD_EVENTS);
    store_call_str(&call, node);
    store_call_str(&call, done);
    store_call_int(&call, (int64_t)max);
    enum err err = store_call_run(store, &call, &page->reply);
    if (err == ERR_OK) {
        page->rows = redis_reply_at(page->reply, 1);
        page->n = redis_reply_count(page->rows) / 2;
    }
    return err;
}

void store_event_page_fini(struct store_event_page *page) {
    redis_reply_free(page->reply);
    *page = (struct store_event_page){0};
}

static const char *store_events_row(const struct store_event_page *page, size_t index) {
    const char *text = redis_reply_str(redis_reply_at(page->rows, index), NULL);
    return text ? text : "";
}

const char *store_event_page_id(const struct store_event_page *page, size_t index) {
    return store_events_row(page, 2 * index);
}

const char *store_event_page_text(const struct store_event_page *page, size_t index) {
    return store_events_row(page, 2 * index + 1);
}

/* ---- order ----------------------------------------------------------------------------------- */

/* Returns what follows the digits; NULL: there are none, or too many. */
static const char *store_events_read_number(const char *text, uint64_t *out) {
    char *end;
    if (*text < '0' || *text > '9') {
        return NULL;
    }
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 ? end : NULL;
}

bool store_event_place_parse(const char *id, struct store_event_place *out) {
    *out = (struct store_event_place){0};
    const char *rest = store_events_read_number(id, &out->ms);
    if (rest && *rest == '-') {
        rest = store_events_read_number(rest + 1, &out->sequence);
    }
    bool last = out->ms == UINT64_MAX && out->sequence == UINT64_MAX; /* nothing can follow it */
    return rest && *rest == '\0' && !last;
}

int store_event_place_compare(struct store_event_place a, struct store_event_place b) {
    int ms = (a.ms > b.ms) - (a.ms < b.ms);
    return ms != 0 ? ms : (a.sequence > b.sequence) - (a.sequence < b.sequence);
}
