/* Owns the form in which the history of a client is stored, and the table of the nodes that occur
 * in histories. Any thread. */
#include "mqtt/client/client_history.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/json_text.h"
#include "base/system/json_memory.h"
#include "base/text.h"

#define HISTORY_NODES_MAX 254
#define HISTORY_OTHER     255

/* ---- nodes ----------------------------------------------------------------------------------- */

static pthread_mutex_t client_history_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the next two */
static char *client_history_nodes[HISTORY_NODES_MAX];                   /* never freed */
static size_t client_history_node_count;

uint8_t client_history_node_number(const char *name) {
    size_t i = 0;
    if (name[0] == '\0') {
        return 0;
    }
    pthread_mutex_lock(&client_history_lock);
    while (i < client_history_node_count && strcmp(client_history_nodes[i], name) != 0) {
        i++;
    }
    if (i == client_history_node_count && i < HISTORY_NODES_MAX) {
        client_history_nodes[i] = text_dup(name);
        client_history_node_count += client_history_nodes[i] != NULL;
    }
    bool known = i < client_history_node_count;
    pthread_mutex_unlock(&client_history_lock);
    return known ? (uint8_t)(i + 1) : HISTORY_OTHER;
}

const char *client_history_node_name(uint8_t number) {
    if (number == 0 || number == HISTORY_OTHER) {
        return number == 0 ? "" : "other";
    }
    pthread_mutex_lock(&client_history_lock);
    const char *name = client_history_nodes[number - 1];
    pthread_mutex_unlock(&client_history_lock);
    return name;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void client_history_append_text(struct buffer *out, const char *text, const char *after) {
    json_text_append(out, text, strlen(text));
    buffer_append_str(out, after);
}

char *client_history_format(const struct client_history *history, const char *node) {
    struct buffer out;
    buffer_init(&out);
    for (size_t i = 0; i < HISTORY_COUNT; i++) {
        buffer_printf(&out, "%s%lld", i == 0 ? "{\"counts\":[" : ",",
                      (long long)history->counts[i]);
    }
    buffer_append_str(&out, "],\"changes\":[");
    for (size_t i = 0; i < history->n; i++) {
        const struct client_change *change = &history->changes[i];
        buffer_printf(&out, "%s[%lld,\"%s\",\"%s\",", i == 0 ? "" : ",", (long long)change->at_ms,
                      client_state_name(change->from), client_state_name(change->to));
        client_history_append_text(&out, change->reason, ",");
        client_history_append_text(&out, change->node[0] != '\0' ? change->node : node, "]");
    }
    buffer_append_str(&out, "]}");
    return buffer_take(&out);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* CLIENT_STATE_COUNT: none. */
static enum client_state client_history_find_state(const json_t *name) {
    enum client_state state = CLIENT_QUEUED;
    const char *text = json_string_value(name);
    while (text && state < CLIENT_STATE_COUNT && strcmp(client_state_name(state), text) != 0) {
        state++;
    }
    return text ? state : CLIENT_STATE_COUNT;
}

static void client_history_copy(char *out, size_t size, const json_t *text) {
    const char *value = json_string_value(text);
    snprintf(out, size, "%s", value ? value : "");
}

static void client_history_parse_change(struct client_history *history, const json_t *row) {
    struct client_change *change = &history->changes[history->n];
    enum client_state from = client_history_find_state(json_array_get(row, 1)),
                      to = client_history_find_state(json_array_get(row, 2));
    int64_t at_ms = json_integer_value(json_array_get(row, 0));
    if (from == CLIENT_STATE_COUNT || to == CLIENT_STATE_COUNT || at_ms <= 0 ||
        history->n == CLIENT_CHANGES_MAX) {
        return;
    }
    *change = (struct client_change){.at_ms = at_ms, .from = from, .to = to};
    client_history_copy(change->reason, sizeof change->reason, json_array_get(row, 3));
    client_history_copy(change->node, sizeof change->node, json_array_get(row, 4));
    history->n++;
}

int64_t client_history_since(const char *text) {
    static const char head[] = "{\"since\":";
    bool known = strncmp(text, head, sizeof head - 1) == 0;
    return known ? strtoll(text + sizeof head - 1, NULL, 10) : 0;
}

struct client_history *client_history_parse(const char *text) {
    json_t *json = json_from_text(text, strlen(text), 0);
    const json_t *counts = json_object_get(json, "counts");
    const json_t *changes = json_object_get(json, "changes");
    bool valid = json_is_array(counts) && json_is_array(changes);
    struct client_history *history = valid ? calloc(1, sizeof *history) : NULL;
    for (size_t i = 0; history && i < HISTORY_COUNT; i++) {
        int64_t count = json_integer_value(json_array_get(counts, i));
        history->counts[i] = count > 0 ? count : 0;
    }
    for (size_t i = 0; history && i < json_array_size(changes); i++) {
        client_history_parse_change(history, json_array_get(changes, i));
    }
    json_decref(json);
    return history;
}
