/* Reads all keys of a fleet like redis-cli and checks the invariants that every script must keep.
 * Shares only the names of the keys with the code under test. */
#ifndef MQFLEET_TEST_FLEET_CHECK_H
#define MQFLEET_TEST_FLEET_CHECK_H

#include <jansson.h>
#include "store_fixture.h"

#define FLEET_NODES_MAX 8
#define FLEET_FAULT_LEN 512

struct fleet {
    struct redis_reply *no, *use, *owner, *meta, *identity, *attempt, *retry, *epoch, *registered;
    const char *const *nodes; /* names that may ever exist */
    size_t node_count;
    struct redis_reply *bind[FLEET_NODES_MAX], *size[FLEET_NODES_MAX];
    struct redis_reply *rev[FLEET_NODES_MAX], *set[FLEET_NODES_MAX];
    bool spoilt[FLEET_NODES_MAX]; /* the digest of that node is known to be wrong */
    char fault[FLEET_FAULT_LEN];  /* "": none */
};

/* Value of a field in a HGETALL answer, or NULL. */
static inline const char *fleet_field(const struct redis_reply *hash, const char *field) {
    for (size_t i = 0; i + 1 < redis_reply_count(hash); i += 2) {
        if (strcmp(redis_reply_str(redis_reply_at(hash, i), NULL), field) == 0) {
            return redis_reply_str(redis_reply_at(hash, i + 1), NULL);
        }
    }
    return NULL;
}

static inline size_t fleet_listed(const struct redis_reply *list, const char *id) {
    size_t times = 0;
    for (size_t i = 0; i < redis_reply_count(list); i++) {
        times += strcmp(redis_reply_str(redis_reply_at(list, i), NULL), id) == 0;
    }
    return times;
}

static inline void fleet_send(const char *verb, const char *prefix, const char *name,
                              const char *last1, const char *last2) {
    char key[160];
    snprintf(key, sizeof key, "%s%s", prefix, name);
    int argc = last2 ? 4 : 2;
    const char *argv[] = {verb, key, last1, last2};
    ck_assert_int_eq(redis_append(raw_redis, argc, argv, NULL), ERR_OK);
}

static inline void fleet_read(struct fleet *fleet, const char *const *nodes, size_t node_count) {
    struct redis_reply **replies[] = {&fleet->no,        &fleet->use,      &fleet->owner,
                                      &fleet->meta,      &fleet->identity, &fleet->attempt,
                                      &fleet->registered};
    const char *names[] = {"mqtt_config:no",  "mqtt_config:use",     "mqtt_fleet:owner",
                           "mqtt_fleet:meta", "mqtt_fleet:identity", "mqtt_fleet:attempt",
                           "register:mqtt"};
    *fleet = (struct fleet){.nodes = nodes, .node_count = node_count};
    for (size_t i = 0; i < 7; i++) {
        fleet_send("HGETALL", "", names[i], NULL, NULL);
    }
    fleet_send("ZRANGE", "", "mqtt_fleet:retry", "0", "-1");
    fleet_send("GET", "", "mqtt_fleet:epoch", NULL, NULL);
    for (size_t i = 0; i < node_count; i++) {
        fleet_send("LRANGE", "node_bind:", nodes[i], "0", "-1");
        fleet_send("GET", "mqtt_size:", nodes[i], NULL, NULL);
        fleet_send("GET", "mqtt_fleet:rev:", nodes[i], NULL, NULL);
        fleet_send("HGETALL", "mqtt_fleet:set:", nodes[i], NULL, NULL);
    }
    for (size_t i = 0; i < 7; i++) {
        ck_assert_int_eq(redis_read(raw_redis, replies[i]), ERR_OK);
    }
    ck_assert_int_eq(redis_read(raw_redis, &fleet->retry), ERR_OK);
    ck_assert_int_eq(redis_read(raw_redis, &fleet->epoch), ERR_OK);
    for (size_t i = 0; i < node_count; i++) {
        ck_assert_int_eq(redis_read(raw_redis, &fleet->bind[i]), ERR_OK);
        ck_assert_int_eq(redis_read(raw_redis, &fleet->size[i]), ERR_OK);
        ck_assert_int_eq(redis_read(raw_redis, &fleet->rev[i]), ERR_OK);
        ck_assert_int_eq(redis_read(raw_redis, &fleet->set[i]), ERR_OK);
    }
}

static inline void fleet_free(struct fleet *fleet) {
    struct redis_reply *replies[] = {fleet->no,         fleet->use,      fleet->owner,
                                     fleet->meta,       fleet->identity, fleet->attempt,
                                     fleet->registered, fleet->retry,    fleet->epoch};
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        redis_reply_free(replies[i]);
    }
    for (size_t i = 0; i < fleet->node_count; i++) {
        redis_reply_free(fleet->bind[i]);
        redis_reply_free(fleet->size[i]);
        redis_reply_free(fleet->rev[i]);
        redis_reply_free(fleet->set[i]);
    }
}

static inline void fleet_fault(struct fleet *fleet, const char *what, const char *id,
                               const char *more) {
    if (fleet->fault[0] == '\0') {
        snprintf(fleet->fault, sizeof fleet->fault, "%s: id=%s %s", what, id, more ? more : "");
    }
}

/* An owned id is in exactly one list, once: that of the owner in its record. */
static inline void fleet_check_owned(struct fleet *fleet, const char *id) {
    const char *text = fleet_field(fleet->owner, id);
    json_t *record = json_loads(text ? text : "", 0, NULL);
    const char *node = json_string_value(json_object_get(record, "node"));
    const char *epoch = json_string_value(json_object_get(record, "epoch"));
    size_t times = 0, named = 0;
    for (size_t i = 0; i < fleet->node_count; i++) {
        size_t listed = fleet_listed(fleet->bind[i], id);
        times += listed;
        named += node && strcmp(fleet->nodes[i], node) == 0 ? listed : 0;
    }
    if (!node || !epoch) {
        fleet_fault(fleet, "owned without an owner record", id, text);
    } else if (times != 1 || named != 1) {
        fleet_fault(fleet, "not in exactly the list of its owner", id, text);
    } else if (strtoll(epoch, NULL, 10) > redis_reply_int(fleet->epoch)) {
        fleet_fault(fleet, "epoch beyond the counter", id, text);
    } else if (!fleet_field(fleet->registered, node)) {
        fleet_fault(fleet, "its owner is not registered", id, text);
    }
    const char *meta_text = fleet_field(fleet->meta, id);
    json_t *meta = json_loads(meta_text ? meta_text : "", 0, NULL);
    if (json_integer_value(json_object_get(meta, "version")) !=
        json_integer_value(json_object_get(record, "version"))) {
        fleet_fault(fleet, "owner record of another version", id, text);
    }
    json_decref(meta);
    json_decref(record);
}

/* From a record in `meta`: one, or several with a line each; NULL: invalid. */
static inline const char *fleet_identities(json_t *meta) {
    const char *several = json_string_value(json_object_get(meta, "identities"));
    const char *one = json_string_value(json_object_get(meta, "identity"));
    return several && one && one[0] ? NULL : several ? several : one;
}

/* The next line, and the position after it; "": none. */
static inline const char *fleet_next_identity(const char *at, char out[FLEET_FAULT_LEN]) {
    size_t len = strcspn(at, "\n");
    snprintf(out, FLEET_FAULT_LEN, "%.*s", (int)len, at);
    return at + len + (at[len] == '\n');
}

static inline void fleet_check_identity(struct fleet *fleet, const char *id, const char *text) {
    json_t *meta = json_loads(text, 0, NULL);
    const char *identities = fleet_identities(meta);
    char one[FLEET_FAULT_LEN];
    if (!identities) {
        fleet_fault(fleet, "identity not recorded for its id", id, text);
    }
    for (const char *at = identities; at && *at;) {
        at = fleet_next_identity(at, one);
        const char *holder = fleet_field(fleet->identity, one);
        if (!holder || strcmp(holder, id) != 0) {
            fleet_fault(fleet, "identity not recorded for its id", id, text);
        }
    }
    if (!fleet_field(fleet->no, id) && !fleet_field(fleet->use, id)) {
        fleet_fault(fleet, "meta of an id that is gone", id, text);
    }
    json_decref(meta);
}

static inline size_t fleet_pairs(const struct redis_reply *hash) {
    return redis_reply_count(hash) / 2;
}

static inline const char *fleet_key(const struct redis_reply *hash, size_t pair) {
    return redis_reply_str(redis_reply_at(hash, pair * 2), NULL);
}

/* An epoch is the number of one assignment. */
static inline void fleet_check_epochs(struct fleet *fleet) {
    for (size_t i = 0; i < fleet_pairs(fleet->owner); i++) {
        char quoted[64];
        const char *id = fleet_key(fleet->owner, i);
        json_t *record = json_loads(fleet_field(fleet->owner, id), 0, NULL);
        const char *epoch = json_string_value(json_object_get(record, "epoch"));
        snprintf(quoted, sizeof quoted, "\"%s\"", epoch ? epoch : "");
        for (size_t j = 0; j < i; j++) {
            if (strstr(fleet_field(fleet->owner, fleet_key(fleet->owner, j)), quoted)) {
                fleet_fault(fleet, "two ids of one epoch", id, quoted);
            }
        }
        json_decref(record);
    }
}

/* The digest that scripts keep of a node matches the owner records, unless a change was not
 * recorded. */
static inline void fleet_check_digest(struct fleet *fleet, size_t node) {
    const char *digest = fleet_field(fleet->set[node], "digest");
    const char *noted = fleet_field(fleet->set[node], "rev");
    const char *rev = redis_reply_str(fleet->rev[node], NULL);
    int64_t sum = 0;
    if (fleet->spoilt[node] || !fleet_field(fleet->registered, fleet->nodes[node]) || !digest ||
        !noted || !rev || strcmp(noted, rev) != 0) {
        return;
    }
    for (size_t i = 0; i < fleet_pairs(fleet->owner); i++) {
        const char *id = fleet_key(fleet->owner, i);
        json_t *record = json_loads(fleet_field(fleet->owner, id), 0, NULL);
        const char *owner = json_string_value(json_object_get(record, "node"));
        const char *epoch = json_string_value(json_object_get(record, "epoch"));
        if (owner && epoch && strcmp(owner, fleet->nodes[node]) == 0) {
            sum = store_digest_add(sum, id, strtoll(epoch, NULL, 10),
                                   json_integer_value(json_object_get(record, "version")));
        }
        json_decref(record);
    }
    if (strtoll(digest, NULL, 10) != sum) {
        fleet_fault(fleet, "digest is not that of what it owns", fleet->nodes[node], digest);
    }
}

/* written: ids for which somebody wrote into `no` by hand while they were owned,
 * NULL-terminated. */
static inline void fleet_check(struct fleet *fleet, const char *const *written) {
    size_t listed = 0;
    for (size_t i = 0; i < fleet_pairs(fleet->use); i++) {
        const char *id = fleet_key(fleet->use, i);
        bool by_hand = false;
        for (const char *const *name = written; name && *name; name++) {
            by_hand = by_hand || strcmp(*name, id) == 0;
        }
        if (fleet_field(fleet->no, id) && !by_hand) {
            fleet_fault(fleet, "waiting and owned", id, NULL);
        }
        fleet_check_owned(fleet, id);
    }
    for (size_t i = 0; i < fleet->node_count; i++) {
        size_t len = redis_reply_count(fleet->bind[i]);
        const char *size = redis_reply_str(fleet->size[i], NULL);
        listed += len;
        if (size ? (size_t)atoll(size) != len : len > 0) {
            fleet_fault(fleet, "mqtt_size is not the list's length", fleet->nodes[i], size);
        }
        fleet_check_digest(fleet, i);
    }
    fleet_check_epochs(fleet);
    if (listed != fleet_pairs(fleet->use) || fleet_pairs(fleet->owner) != listed) {
        fleet_fault(fleet, "lists, owner records and owned ids differ in number", "", NULL);
    }
    for (size_t i = 0; i < fleet_pairs(fleet->meta); i++) {
        const char *id = fleet_key(fleet->meta, i);
        fleet_check_identity(fleet, id, fleet_field(fleet->meta, id));
    }
    for (size_t i = 0; i < fleet_pairs(fleet->attempt); i++) {
        const char *id = fleet_key(fleet->attempt, i);
        if (!fleet_field(fleet->no, id) && !fleet_field(fleet->use, id)) {
            fleet_fault(fleet, "attempt of an id that is gone", id, NULL);
        }
    }
    for (size_t i = 0; i < redis_reply_count(fleet->retry); i++) {
        const char *id = redis_reply_str(redis_reply_at(fleet->retry, i), NULL);
        if (!fleet_field(fleet->no, id)) {
            fleet_fault(fleet, "not-before of an id that does not wait", id, NULL);
        }
    }
    for (size_t i = 0; i < fleet_pairs(fleet->identity); i++) {
        const char *id = fleet_field(fleet->identity, fleet_key(fleet->identity, i));
        const char *text = fleet_field(fleet->meta, id);
        json_t *meta = json_loads(text ? text : "", 0, NULL);
        bool borne_out = false;
        char one[FLEET_FAULT_LEN];
        for (const char *at = fleet_identities(meta); at && *at;) {
            at = fleet_next_identity(at, one);
            borne_out |= strcmp(one, fleet_key(fleet->identity, i)) == 0;
        }
        if (!borne_out) {
            fleet_fault(fleet, "identity that its id does not bear out", id, text);
        }
        json_decref(meta);
    }
}

static inline void assert_fleet_and_digests(const char *const *nodes, bool digests) {
    struct fleet fleet;
    size_t n = 0;
    while (nodes[n]) {
        n++;
    }
    fleet_read(&fleet, nodes, n);
    for (size_t i = 0; i < n; i++) {
        fleet.spoilt[i] = !digests;
    }
    fleet_check(&fleet, NULL);
    ck_assert_msg(fleet.fault[0] == '\0', "%s", fleet.fault);
    fleet_free(&fleet);
}

/* For other tests: fails if an invariant is violated among these nodes, NULL-terminated. */
static inline void assert_fleet(const char *const *nodes) {
    assert_fleet_and_digests(nodes, true);
}

/* After somebody changed owner records by hand, which no digest includes. */
static inline void assert_fleet_by_hand(const char *const *nodes) {
    assert_fleet_and_digests(nodes, false);
}

#endif
