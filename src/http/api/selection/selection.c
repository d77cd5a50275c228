/* Owns the items and sums of one selection. */
#include "http/api/selection/selection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"

#define ITEMS_FIRST 256 /* room at the beginning */

static const char *const selection_sort_names[SELECTION_SORT_COUNT] = {
#define SELECTION_SORT_NAME(symbol, name) [symbol] = name,
    SELECTION_SORT_TABLE(SELECTION_SORT_NAME)
#undef SELECTION_SORT_NAME
};

/* ---- the query ------------------------------------------------------------------------------- */

void selection_query_fini(struct selection_query *query) {
    client_selector_destroy(query->selector);
    client_selector_destroy(query->scope);
    free(query->by_label);
    free(query->after.id);
    *query = (struct selection_query){0};
}

enum err selection_query_group(struct selection_query *query, const char *by) {
    const char *label;
    enum client_selector_key key = client_selector_key_of(by, &label);
    if (key == CLIENT_SELECTOR_KEY_COUNT || key == CLIENT_SELECTOR_ID_PREFIX) {
        return ERR_ARGUMENT;
    }
    query->grouped = true;
    query->by = key;
    query->by_label = text_dup(label);
    return !label || query->by_label ? ERR_OK : ERR_MEMORY;
}

enum err selection_query_sort(struct selection_query *query, const char *sort) {
    query->descending = sort[0] == '-';
    for (int i = 0; i < SELECTION_SORT_COUNT; i++) {
        if (strcmp(sort + query->descending, selection_sort_names[i]) == 0) {
            query->sort = (enum selection_sort)i;
            return ERR_OK;
        }
    }
    return ERR_ARGUMENT;
}

unsigned selection_query_order(const struct selection_query *query) {
    return 2 * (unsigned)query->sort + query->descending;
}

/* ---- order ----------------------------------------------------------------------------------- */

/* The first 8 bytes order all states. */
static int64_t selection_state_key(const char *state) {
    uint64_t key = 0;
    for (int i = 0; i < 8; i++) {
        key = key << 7 | (uint64_t)(*state & 0x7F);
        state += *state != '\0';
    }
    return (int64_t)key;
}

static int64_t selection_key(enum selection_sort sort, const struct workers_visited *client) {
    switch (sort) {
    case SELECTION_BY_STATE:
        return selection_state_key(client->facts.state);
    case SELECTION_BY_SINCE:
        return client->since_ms;
    case SELECTION_BY_CHANGED:
        return client->version;
    case SELECTION_BY_ID:
    case SELECTION_SORT_COUNT:
        break;
    }
    return 0;
}

static int selection_compare(const struct selection_item *a, const struct selection_item *b,
                             bool descending) {
    int order = a->key != b->key ? (a->key < b->key ? -1 : 1) : strcmp(a->id, b->id);
    return descending ? -order : order;
}

static int selection_compare_up(const void *left, const void *right) {
    return selection_compare(left, right, false);
}

static int selection_compare_down(const void *left, const void *right) {
    return selection_compare(left, right, true);
}

static int selection_compare_ids(const void *left, const void *right) {
    const struct selection_item *a = left, *b = right;
    return strcmp(a->id, b->id);
}

/* ---- items ----------------------------------------------------------------------------------- */

void selection_init(struct selection *selection, const struct selection_query *query) {
    *selection = (struct selection){.query = query};
}

static void selection_cut(struct selection *selection, size_t n) {
    while (selection->item_count > n) {
        free(selection->items[--selection->item_count].id);
    }
}

void selection_fini(struct selection *selection) {
    selection_cut(selection, 0);
    free(selection->items);
    tally_fini(&selection->tally);
    *selection = (struct selection){0};
}

/* Keeps the first `limit` items. */
static void selection_sort_and_cut(struct selection *selection) {
    const struct selection_query *query = selection->query;
    if (selection->item_count > 0) {
        qsort(selection->items, selection->item_count, sizeof *selection->items,
              query->descending ? selection_compare_down : selection_compare_up);
    }
    if (selection->item_count > query->limit) {
        selection->more = selection->is_cut = true;
        selection_cut(selection, query->limit);
    }
}

/* False: out of memory. At most twice the limit is kept. */
static bool selection_make_room(struct selection *selection) {
    size_t limit = selection->query->limit;
    if (limit < SELECTION_ALL / 2 && selection->item_count >= 2 * limit &&
        selection->item_count >= ITEMS_FIRST) {
        selection_sort_and_cut(selection);
    }
    if (selection->item_count < selection->item_capacity) {
        return true;
    }
    size_t capacity = selection->item_capacity > 0 ? selection->item_capacity * 2 : ITEMS_FIRST;
    struct selection_item *grown = realloc(selection->items, capacity * sizeof *grown);
    if (grown) {
        selection->items = grown;
        selection->item_capacity = capacity;
    }
    return grown != NULL;
}

/* Whether it is known already that the item is not among the first `limit`. */
static bool selection_is_too_late(const struct selection *selection,
                                  const struct selection_item *item) {
    const struct selection_query *query = selection->query;
    return selection->is_cut &&
           selection_compare(item, &selection->items[query->limit - 1], query->descending) > 0;
}

static void selection_add_item(struct selection *selection, const char *id, int64_t key) {
    const struct selection_query *query = selection->query;
    struct selection_item item = {.id = (char *)(uintptr_t)id, .key = key};
    if (query->limit == 0 ||
        (query->after.id && selection_compare(&item, &query->after, query->descending) <= 0) ||
        selection_is_too_late(selection, &item)) {
        return;
    }
    item.id = text_dup(id);
    if (!item.id || !selection_make_room(selection)) {
        free(item.id);
        selection->out_of_memory = true;
        return;
    }
    selection->items[selection->item_count++] = item;
}

void selection_add(void *context, const struct workers_visited *client) {
    struct selection *selection = context;
    const struct selection_query *query = selection->query;
    selection->seen++;
    if (!client_selector_matches(query->selector, &client->facts) ||
        !client_selector_matches(query->scope, &client->facts)) {
        return;
    }
    selection->count++;
    if (query->grouped) {
        tally_add(&selection->tally, client_facts_get(&client->facts, query->by, query->by_label),
                  1, query->by == CLIENT_SELECTOR_ERROR ? client->facts.id : NULL);
    }
    selection_add_item(selection, client->facts.id, selection_key(query->sort, client));
}

/* A client that moves may be reported by two nodes. */
static void selection_remove_duplicates(struct selection *selection) {
    struct selection_item *items = selection->items;
    size_t kept = 0;
    if (selection->item_count == 0) {
        return;
    }
    qsort(items, selection->item_count, sizeof *items, selection_compare_ids);
    for (size_t i = 0; i < selection->item_count; i++) {
        if (kept > 0 && strcmp(items[kept - 1].id, items[i].id) == 0) {
            free(items[i].id);
        } else {
            items[kept++] = items[i];
        }
    }
    selection->item_count = kept;
}

void selection_finish(struct selection *selection) {
    selection_remove_duplicates(selection);
    selection_sort_and_cut(selection);
}

/* ---- between nodes --------------------------------------------------------------------------- */

static json_t *selection_item_to_json(const struct selection_item *item) {
    return json_pack("[I, s]", (json_int_t)item->key, item->id);
}

/* "state", "label.tenant": how selection_query_group reads it. NULL: not grouped, or out of memory.
 */
static json_t *selection_group_to_json(const struct selection_query *query) {
    return query->grouped ? json_sprintf("%s%s", client_selector_key_name(query->by),
                                         query->by_label ? query->by_label : "")
                          : NULL;
}

/* NULL: empty, or out of memory. */
static json_t *selection_selector_to_json(const struct client_selector *selector) {
    char *query = client_selector_is_empty(selector) ? NULL : client_selector_query(selector);
    json_t *json = query ? json_string(query) : NULL;
    free(query);
    return json;
}

json_t *selection_query_to_json(const struct selection_query *query) {
    json_int_t limit = query->limit == SELECTION_ALL ? -1 : (json_int_t)query->limit;
    json_t *selector = selection_selector_to_json(query->selector);
    json_t *scope = selection_selector_to_json(query->scope);
    bool failed = (!selector && !client_selector_is_empty(query->selector)) ||
                  (!scope && !client_selector_is_empty(query->scope));
    json_t *json = json_pack(
        "{s:o*, s:o*, s:o*, s:I, s:o, s:o*}", "selector", selector, "scope", scope, "by",
        selection_group_to_json(query), "limit", limit, "sort",
        json_sprintf("%s%s", query->descending ? "-" : "", selection_sort_names[query->sort]),
        "after", query->after.id ? selection_item_to_json(&query->after) : NULL);
    if (failed) { /* never more than was asked for */
        json_decref(json);
        json = NULL;
    }
    return json;
}

/* *out: id is owned. */
static enum err selection_item_from_json(const json_t *json, struct selection_item *out) {
    const char *id = json_string_value(json_array_get(json, 1));
    out->key = json_integer_value(json_array_get(json, 0));
    out->id = text_dup(id);
    return !id ? ERR_ARGUMENT : out->id ? ERR_OK : ERR_MEMORY;
}

/* *out NULL: json is NULL. */
static enum err selection_selector_from_json(const json_t *json, struct client_selector **out,
                                             char fault[CLIENT_SELECTOR_FAULT_LEN]) {
    *out = NULL;
    if (!json) {
        return ERR_OK;
    }
    return json_is_string(json) ? client_selector_parse_query(json_string_value(json), out, fault)
                                : ERR_ARGUMENT;
}

enum err selection_query_from_json(const json_t *json, struct selection_query *out,
                                   char fault[CLIENT_SELECTOR_FAULT_LEN]) {
    *out = (struct selection_query){0};
    const char *by = json_string_value(json_object_get(json, "by"));
    const char *sort = json_string_value(json_object_get(json, "sort"));
    const json_t *after = json_object_get(json, "after"), *limit = json_object_get(json, "limit");
    snprintf(fault, CLIENT_SELECTOR_FAULT_LEN, "it is not a query for clients");
    enum err err =
        selection_selector_from_json(json_object_get(json, "selector"), &out->selector, fault);
    if (err == ERR_OK) {
        err = selection_selector_from_json(json_object_get(json, "scope"), &out->scope, fault);
    }
    if (err == ERR_OK && by) {
        err = selection_query_group(out, by);
    }
    if (err == ERR_OK) {
        err = sort && json_is_integer(limit) ? selection_query_sort(out, sort) : ERR_ARGUMENT;
    }
    if (err == ERR_OK && after) {
        err = selection_item_from_json(after, &out->after);
    }
    json_int_t number = json_integer_value(limit);
    out->limit = number < 0 ? SELECTION_ALL : (size_t)number;
    return err;
}

json_t *selection_to_json(const struct selection *selection) {
    json_t *items = json_array();
    for (size_t i = 0; i < selection->item_count; i++) {
        json_t *item = selection_item_to_json(&selection->items[i]);
        if (item) { /* otherwise the id is not UTF-8, and cannot be one of a client that runs */
            json_array_append_new(items, item);
        }
    }
    return json_pack("{s:I, s:I, s:o*, s:o, s:b}", "seen", (json_int_t)selection->seen, "count",
                     (json_int_t)selection->count, "groups",
                     selection->query->grouped ? tally_to_json(&selection->tally) : NULL, "items",
                     items, "more", selection->more);
}

enum err selection_merge_json(struct selection *selection, const json_t *json) {
    const json_t *seen = json_object_get(json, "seen"), *count = json_object_get(json, "count");
    const json_t *items = json_object_get(json, "items"), *item;
    size_t i;
    if (!json_is_integer(seen) || !json_is_integer(count) || !json_is_array(items)) {
        return ERR_ARGUMENT;
    }
    json_array_foreach(items, i, item) {
        const char *id = json_string_value(json_array_get(item, 1));
        if (id) {
            selection_add_item(selection, id, json_integer_value(json_array_get(item, 0)));
        }
    }
    selection->seen += json_integer_value(seen);
    selection->count += json_integer_value(count);
    selection->more = selection->more || json_is_true(json_object_get(json, "more"));
    return selection->query->grouped
               ? tally_merge_json(&selection->tally, json_object_get(json, "groups"))
               : ERR_OK;
}
