/* The stream of dead letters. Any thread. */
#include "store/dead_letters.h"

#include <stdio.h>
#include "internal.h"

static const char *const action_names[] = {
    [DEAD_LETTERS_LIST] = "list", [DEAD_LETTERS_COUNT] = "count", [DEAD_LETTERS_DROP] = "drop"};

static void dead_letters_put_text(struct store_call *call, const char *text) {
    store_call_str(call, text ? text : "");
}

static void dead_letters_put_time(struct store_call *call, int64_t ms) {
    if (ms > 0) {
        store_call_int(call, ms);
    } else {
        store_call_str(call, "");
    }
}

enum err store_dead_letters(struct store *store, enum dead_letters_action action,
                            const struct dead_letters_selector *selector, const char *after,
                            size_t matches_max, struct dead_letters_page *out) {
    struct store_call call;
    *out = (struct dead_letters_page){0};
    store_call_begin(&call, store, SCRIPT_DEAD_LETTERS);
    store_call_str(&call, action_names[action]);
    store_call_str(&call, after);
    dead_letters_put_time(&call, selector->since_ms);
    dead_letters_put_time(&call, selector->until_ms);
    dead_letters_put_text(&call, selector->entry);
    dead_letters_put_text(&call, selector->sink);
    dead_letters_put_text(&call, selector->client);
    dead_letters_put_text(&call, selector->topic);
    store_call_int(
        &call,
        (int64_t)(matches_max < DEAD_LETTERS_MATCHES_MAX ? matches_max : DEAD_LETTERS_MATCHES_MAX));
    dead_letters_put_text(&call, selector->label);
    dead_letters_put_text(&call, selector->label_value);
    enum err err = store_call_run(store, &call, &out->reply);
    if (err == ERR_OK) {
        const char *next = redis_reply_str(redis_reply_at(out->reply, 2), NULL);
        snprintf(out->next, sizeof out->next, "%s", next ? next : "");
        out->redis_ms = store_reply_int(out->reply, 1);
        out->matched = store_reply_int(out->reply, 3);
        out->total = store_reply_int(out->reply, 4);
        out->count = redis_reply_count(redis_reply_at(out->reply, 5));
    }
    return err;
}

void dead_letters_page_fini(struct dead_letters_page *page) {
    redis_reply_free(page->reply);
    *page = (struct dead_letters_page){0};
}

static const struct redis_reply *dead_letters_page_entry(const struct dead_letters_page *page,
                                                         size_t index) {
    return redis_reply_at(redis_reply_at(page->reply, 5), index);
}

const char *dead_letters_page_id(const struct dead_letters_page *page, size_t index) {
    const char *id = redis_reply_str(redis_reply_at(dead_letters_page_entry(page, index), 0), NULL);
    return id ? id : "";
}

size_t dead_letters_page_fields(const struct dead_letters_page *page, size_t index) {
    return redis_reply_count(redis_reply_at(dead_letters_page_entry(page, index), 1)) / 2;
}

void dead_letters_page_field(const struct dead_letters_page *page, size_t index, size_t field,
                             const char **name, const char **value, size_t *len) {
    const struct redis_reply *fields = redis_reply_at(dead_letters_page_entry(page, index), 1);
    *name = redis_reply_str(redis_reply_at(fields, 2 * field), NULL);
    *value = redis_reply_str(redis_reply_at(fields, 2 * field + 1), len);
    *name = *name ? *name : "";
    if (!*value) {
        *value = "";
        *len = 0;
    }
}
