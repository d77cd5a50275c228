/* Steps of test_store_property.c for one client: create, update, delete, set_cooldown, and writes
 * by hand. */
#ifndef MQFLEET_TEST_PROPERTY_CLIENT_H
#define MQFLEET_TEST_PROPERTY_CLIENT_H

#include "property_world.h"
#include "store/operations.h"

static void step_create(void) {
    int i = any_id();
    struct truth *truth = &world.ids[i];
    char config[TEXT_LEN], identity[TEXT_LEN];
    any_config(config);
    any_identity(i, identity);
    struct store_create_result result = create(truth->id, config, identity);
    NOTE("create %s %s %s: %d", truth->id, config, identity, result.outcome);
    switch (result.outcome) {
    case STORE_CREATED:
        MUST(!truth->exists, "created what exists");
        MUST(result.version > truth->version_max, "a version twice");
        snprintf(truth->config, TEXT_LEN, "%s", config);
        truth->exists = true;
        truth->deleted = false;
        break;
    case STORE_UNCHANGED:
        MUST(truth->exists && strcmp(latest(truth), config) == 0, "not unchanged");
        break;
    case STORE_OTHER_CONFIG:
        MUST(truth->exists && strcmp(latest(truth), config) != 0, "no other configuration");
        break;
    case STORE_OVER_QUOTA:
        MUST(false, "a quota, and none is set");
        break;
    case STORE_IDENTITY_TAKEN:
        MUST(!truth->exists && result.other_id, "identity");
        MUST(world.ids[index_of(result.other_id)].exists, "taken by what is gone");
        break;
    }
    if (AGAIN()) {
        struct store_create_result second = create(truth->id, config, identity);
        MUST(second.outcome == result.outcome ||
                 (result.outcome == STORE_CREATED && second.outcome == STORE_UNCHANGED),
             "second create differs");
        MUST(second.version == result.version, "second create has another version");
        free(second.other_id);
    }
    free(result.other_id);
}

static void step_update(void) {
    int i = any_id();
    struct truth *truth = &world.ids[i];
    char config[TEXT_LEN], identity[TEXT_LEN];
    any_config(config);
    any_identity(i, identity);
    int64_t before = version_of(truth->id), version, second_version;
    int64_t expected = chance(50) ? before : (int64_t)random_below(5);
    char *other = NULL;
    enum err err = store_update(
        store, &(struct store_configuration){truth->id, expected, config, identity, NULL}, &version,
        &other);
    NOTE("update %s %s %s at %" PRId64 " of %" PRId64 ": %s", truth->id, config, identity, expected,
         before, err_name(err));
    MUST((err == ERR_NOT_FOUND) == !truth->exists, "update of what is not there");
    MUST(err != ERR_VERSION || (expected != 0 && expected != before), "version");
    MUST(err != ERR_EXISTS || world.ids[index_of(other)].exists, "identity of what is gone");
    if (err == ERR_OK) {
        bool same = strcmp(latest(truth), config) == 0;
        MUST(same ? version == before : version > truth->version_max, "new version");
        if (!same) {
            snprintf(truth->config, TEXT_LEN, "%s", config);
            truth->written[0] = '\0';
        }
    }
    free(other);
    if (AGAIN()) {
        enum err second = store_update(
            store, &(struct store_configuration){truth->id, expected, config, identity, NULL},
            &second_version, &other);
        MUST(second == err, "second update differs");
        MUST(second_version == version, "second update has another version");
        free(other);
    }
}

static void note_deleted(struct truth *truth) {
    truth->exists = false;
    truth->deleted = true;
    truth->written[0] = '\0';
    const char *buried = RAW_TEXT("HGET", "mqtt_fleet:buried", truth->id);
    MUST(sscanf(buried, "%*d %" SCNd64 " %" SCNd64, &truth->buried_version, &truth->buried_epoch) ==
             2,
         buried);
    MUST(truth->buried_epoch >= truth->owner_epoch, "the tombstone is older than what it buries");
}

static void step_delete(void) {
    struct truth *truth = &world.ids[any_id()];
    int64_t before = version_of(truth->id);
    int64_t expected = chance(70) ? 0 : (int64_t)random_below(4);
    enum err err = store_delete(store, truth->id, expected, NULL);
    NOTE("delete %s at %" PRId64 " of %" PRId64 ": %s", truth->id, expected, before, err_name(err));
    MUST((err == ERR_NOT_FOUND) == !truth->exists, "delete of what is not there");
    MUST((err == ERR_VERSION) == (truth->exists && expected != 0 && expected != before), "version");
    world.may_lose_any = true;
    if (err == ERR_OK) {
        note_deleted(truth);
        MUST(truth->buried_version >= before, "the tombstone is older than what it buries");
        if (AGAIN()) {
            MUST(store_delete(store, truth->id, expected, NULL) == ERR_NOT_FOUND, "second delete");
        }
    }
}

/* One step of an operation that deletes some ids, and the same step again. The executor is any
 * member. */
static void step_operate(void) {
    static int number;
    struct store_step_item items[8];
    const char *ids[8];
    bool there[8], ended;
    size_t n = 1 + random_below(8);
    int node = (int)random_below(NODES);
    char id[32];
    snprintf(id, sizeof id, "o%d", number++);
    for (size_t i = 0; i < n; i++) {
        ids[i] = world.ids[any_id()].id;
        items[i] = (struct store_step_item){.id = ids[i], .what = STORE_STEP_DELETE};
    }
    struct store_operation operation = {.id = id, .action = (char *)"delete", .rate = 1};
    struct store_member who = {NODE_NAMES[node], world.now[node].incarnation};
    MUST(store_create_operation(store, &operation, ids, n) == ERR_OK, "operation");
    for (size_t i = 0; i < n; i++) {
        there[i] = world.ids[index_of(ids[i])].exists;
    }
    enum err err = store_operation_step(store, &who, &operation, 0, items, n, &ended);
    NOTE("operate on %zu ids as %s: %s", n, who.node, err_name(err));
    MUST(err == ERR_OK || err == ERR_FENCED, "step");
    world.may_lose_any = true;
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        struct truth *truth = &world.ids[index_of(ids[i])];
        if (there[i] && truth->exists) {
            note_deleted(truth);
        }
    }
    MUST(store_operation_step(store, &who, &operation, 0, items, n, &ended) ==
             (err == ERR_OK ? ERR_WRONG_STATE : ERR_FENCED),
         "the same step again");
    enum err cancelled = store_cancel_operation(store, id, "x");
    MUST(cancelled == (err == ERR_OK ? ERR_WRONG_STATE : ERR_OK), "cancel");
}

/* Simulates somebody at redis-cli. */
static void step_write_by_hand(void) {
    struct truth *truth = &world.ids[any_id()];
    char config[TEXT_LEN];
    any_config(config);
    RAW("HSET", "mqtt_config:no", truth->id, config);
    NOTE("by hand %s %s", truth->id, config);
    if (truth->exists && truth->owner >= 0) {
        snprintf(truth->written, TEXT_LEN, "%s", config);
    } else {
        snprintf(truth->config, TEXT_LEN, "%s", config);
        truth->exists = true;
        truth->deleted = false;
    }
}

static void step_orphan_by_hand(void) {
    struct truth *truth = &world.ids[any_id()];
    size_t moved = 0;
    if (truth->exists) {
        return;
    }
    any_config(truth->config);
    RAW("HSET", "mqtt_config:use", truth->id, truth->config);
    enum err err = store_adopt_orphans(store, &moved);
    NOTE("orphan %s: %s, %zu moved", truth->id, err_name(err), moved);
    MUST(err == ERR_OK && moved == 1, "orphan not adopted");
    truth->exists = true;
    truth->deleted = false;
}

static void step_defer(void) {
    struct truth *truth = &world.ids[any_id()];
    NOTE("defer %s", truth->id);
    for (int i = 0; i < 1 + AGAIN(); i++) {
        MUST(store_set_cooldown(store, truth->id, 3600000, "unreadable", "no broker", NULL) ==
                 ERR_OK,
             "defer");
    }
}

/* All delays have passed. */
static void step_time_passes(void) {
    struct redis_reply *ids = raw("ZRANGE", "mqtt_fleet:retry", "0", "-1", NULL);
    for (size_t i = 0; i < redis_reply_count(ids); i++) {
        RAW("ZADD", "mqtt_fleet:retry", "1", redis_reply_str(redis_reply_at(ids, i), NULL));
    }
    redis_reply_free(ids);
    restoring_is_over();
    NOTE("time passes");
}

#endif
