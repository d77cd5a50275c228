/* Owns the sums of one scrape. */
#include "client_groups.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/telemetry/exposition.h"
#include "base/text.h"

#define GROUP_VALUE_LEN 600 /* of a label value or a broker, escaped */
#define GROUP_OTHER     "other"

static const char *const client_group_states[] = {"online", "connecting", "backoff", "conflict",
                                                  "paused"};
#define GROUP_STATES (sizeof client_group_states / sizeof *client_group_states)

struct client_group {
    int64_t counts[GROUP_STATES];
    UT_hash_handle hh;
    char value[];
};

/* All values of one label; or the brokers. */
struct client_groups_key {
    char *label; /* NULL: the brokers */
    struct client_group *table;
    int64_t lost[GROUP_STATES]; /* clients for which there was no memory: in "other" */
};

struct client_groups {
    size_t shown_max;
    size_t key_count;
    struct client_groups_key keys[CLIENT_GROUPS_LABELS_MAX + 1];
};

/* ---- life ------------------------------------------------------------------------------------ */

static bool client_groups_add_labels(struct client_groups *groups, const char *names) {
    char *list = strdup(names), *rest = list;
    bool added = list != NULL;
    for (char *name; added && (name = strsep(&rest, ","));) {
        if (*name != '\0' && groups->key_count < CLIENT_GROUPS_LABELS_MAX) {
            added = (groups->keys[groups->key_count++].label = strdup(name)) != NULL;
        }
    }
    free(list);
    return added;
}

struct client_groups *client_groups_create(const struct conf *conf) {
    struct client_groups *groups = calloc(1, sizeof *groups);
    if (!groups || !client_groups_add_labels(groups, conf->metrics_by_label)) {
        client_groups_destroy(groups);
        return NULL;
    }
    groups->key_count += conf->metrics_by_broker; /* the last one, without a label */
    groups->shown_max = (size_t)conf->metrics_groups_max;
    return groups;
}

static void client_groups_free_table(struct client_group *table) {
    struct client_group *group, *next;
    HASH_ITER(hh, table, group, next) {
        HASH_DEL(table, group);
        free(group);
    }
}

void client_groups_destroy(struct client_groups *groups) {
    for (size_t i = 0; groups && i < groups->key_count; i++) {
        client_groups_free_table(groups->keys[i].table);
        free(groups->keys[i].label);
    }
    free(groups);
}

bool client_groups_is_used(const struct client_groups *groups) {
    return groups->key_count > 0;
}

/* ---- sums ------------------------------------------------------------------------------------ */

/* NULL: out of memory. */
static struct client_group *client_groups_find(struct client_groups_key *key, const char *value) {
    struct client_group *group;
    size_t len = strlen(value);
    HASH_FIND(hh, key->table, value, len, group);
    if (!group && (group = calloc(1, sizeof *group + len + 1))) {
        memcpy(group->value, value, len);
        HASH_ADD_KEYPTR(hh, key->table, group->value, len, group);
    }
    return group;
}

static void client_groups_count(struct client_groups_key *key, const char *value,
                                const char *state) {
    struct client_group *group = client_groups_find(key, value);
    int64_t *counts = group ? group->counts : key->lost;
    for (size_t i = 0; i < GROUP_STATES; i++) {
        counts[i] += strcmp(client_group_states[i], state) == 0;
    }
}

/* Clients without the label are not counted. */
void client_groups_add(void *context, const struct workers_visited *client) {
    struct client_groups *groups = context;
    const struct client_facts *facts = &client->facts;
    for (size_t i = 0; i < groups->key_count; i++) {
        struct client_groups_key *key = &groups->keys[i];
        const char *value =
            key->label ? client_facts_get(facts, CLIENT_SELECTOR_LABEL, key->label) : facts->broker;
        if (value) {
            client_groups_count(key, value, facts->state);
        }
    }
}

/* ---- the page -------------------------------------------------------------------------------- */

static int64_t client_group_troubled(const struct client_group *group) {
    return group->counts[1] + group->counts[2] + group->counts[3];
}

static int64_t client_group_sum(const struct client_group *group) {
    return client_group_troubled(group) + group->counts[0] + group->counts[4];
}

static int client_group_compare(const void *left, const void *right) {
    const struct client_group *a = *(struct client_group *const *)left;
    const struct client_group *b = *(struct client_group *const *)right;
    int64_t difference = client_group_troubled(b) - client_group_troubled(a);
    if (difference == 0) {
        difference = client_group_sum(b) - client_group_sum(a);
    }
    return difference != 0 ? (difference < 0 ? -1 : 1) : strcmp(a->value, b->value);
}

static void client_groups_put_row(const struct client_groups_key *key, const char *value,
                                  const int64_t counts[GROUP_STATES], struct buffer *out) {
    char labels[GROUP_VALUE_LEN + 200], escaped[GROUP_VALUE_LEN];
    exposition_escape(value, escaped, sizeof escaped);
    for (size_t i = 0; i < GROUP_STATES; i++) {
        if (key->label) {
            snprintf(labels, sizeof labels, "label=\"%s\",value=\"%s\",state=\"%s\"", key->label,
                     escaped, client_group_states[i]);
        } else {
            snprintf(labels, sizeof labels, "broker=\"%s\",state=\"%s\"", escaped,
                     client_group_states[i]);
        }
        exposition_int(out, key->label ? "mqfleet_label_clients" : "mqfleet_broker_clients", labels,
                       counts[i]);
    }
}

/* Returns how many values are in "other"; a value of that name always is. */
static int64_t client_groups_put_key(const struct client_groups *groups,
                                     const struct client_groups_key *key, struct buffer *out) {
    size_t n = 0, shown = 0;
    int64_t others = 0, other_counts[GROUP_STATES];
    struct client_group **rows = calloc(HASH_COUNT(key->table) + 1, sizeof *rows);
    struct client_group *group, *next;
    if (!rows) {
        return 0; /* out of memory: omitted */
    }
    HASH_ITER(hh, key->table, group, next) {
        rows[n++] = group;
    }
    memcpy(other_counts, key->lost, sizeof other_counts);
    qsort(rows, n, sizeof *rows, client_group_compare);
    for (size_t i = 0; i < n; i++) {
        if (shown < groups->shown_max && strcmp(rows[i]->value, GROUP_OTHER) != 0) {
            client_groups_put_row(key, rows[i]->value, rows[i]->counts, out);
            shown++;
        } else {
            others++;
            for (size_t state = 0; state < GROUP_STATES; state++) {
                other_counts[state] += rows[i]->counts[state];
            }
        }
    }
    client_groups_put_row(key, GROUP_OTHER, other_counts, out);
    free(rows);
    return others;
}

void client_groups_put(const struct client_groups *groups, struct buffer *out) {
    int64_t others[CLIENT_GROUPS_LABELS_MAX + 1] = {0};
    exposition_family(out, "mqfleet_label_clients", "gauge",
                      "Clients of this node by the values of the labels in metrics.by_label, and "
                      "by state. other: beyond metrics.groups_max.");
    for (size_t i = 0; i < groups->key_count && groups->keys[i].label; i++) {
        others[i] = client_groups_put_key(groups, &groups->keys[i], out);
    }
    exposition_family(out, "mqfleet_broker_clients", "gauge",
                      "With metrics.by_broker, clients of this node by broker and state. other: "
                      "beyond metrics.groups_max.");
    size_t last = groups->key_count - 1;
    if (groups->key_count > 0 && !groups->keys[last].label) {
        others[last] = client_groups_put_key(groups, &groups->keys[last], out);
    }
    exposition_family(out, "mqfleet_groups_in_other", "gauge",
                      "How many values of the label, or brokers, are summed as other.");
    for (size_t i = 0; i < groups->key_count; i++) {
        char labels[200];
        snprintf(labels, sizeof labels, "by=\"%s%s\"", groups->keys[i].label ? "label." : "broker",
                 groups->keys[i].label ? groups->keys[i].label : "");
        exposition_int(out, "mqfleet_groups_in_other", labels, others[i]);
    }
}
