/* Every transition of the store once, as the life of one node and the death of another. For tests
 * of different Redis setups. */
#ifndef MQFLEET_TEST_WHOLE_LIFE_H
#define MQFLEET_TEST_WHOLE_LIFE_H

#include "store/operations.h"
#include "store/events.h"
#include "store_fixture.h"

#define LIFE_CLIENTS 450 /* more than two batches */

static inline struct store_member life_join(const char *node, int64_t ttl_ms, char *generation) {
    struct store_join join = {.member = {node, node},
                              .host = "127.0.0.1",
                              .type = "mqtt",
                              .version = "1",
                              .port = 8080,
                              .size = 1000,
                              .heartbeat_ttl_ms = ttl_ms};
    ck_assert_int_eq(store_join(store, &join, generation), ERR_OK);
    return join.member;
}

static inline void life_create_all(void) {
    static char ids[LIFE_CLIENTS][16];
    static struct store_create_item items[LIFE_CLIENTS];
    static struct store_create_result results[LIFE_CLIENTS];
    size_t done;
    for (size_t i = 0; i < LIFE_CLIENTS; i++) {
        snprintf(ids[i], sizeof ids[i], "c%zu", i);
        items[i] = (struct store_create_item){.id = ids[i], .config = "{}", .identity = ids[i]};
    }
    ck_assert_int_eq(store_create(store, items, LIFE_CLIENTS, results, &done), ERR_OK);
    ck_assert_uint_eq(done, LIFE_CLIENTS);
}

static inline void life_assign_all(struct store_member who) {
    static char ids[LIFE_CLIENTS][16];
    static struct store_assign_item items[LIFE_CLIENTS];
    static struct store_assign_result results[LIFE_CLIENTS];
    size_t done;
    for (size_t i = 0; i < LIFE_CLIENTS; i++) {
        snprintf(ids[i], sizeof ids[i], "c%zu", i);
        items[i] = (struct store_assign_item){.id = ids[i], .identity = ids[i]};
    }
    ck_assert_int_eq(store_assign(store, &who, items, LIFE_CLIENTS, results, &done), ERR_OK);
    for (size_t i = 0; i < done; i++) {
        ck_assert_int_eq(results[i].outcome, STORE_ASSIGNED);
    }
}

static inline int64_t digest_of_rows(const struct store_assignment *rows, size_t n) {
    int64_t digest = 0;
    for (size_t i = 0; i < n; i++) {
        digest = store_digest_add(digest, rows[i].id, rows[i].epoch, rows[i].version);
    }
    return digest;
}

static inline void life_look(struct store_member who, int64_t waiting, int64_t owned) {
    struct store_counts counts;
    struct store_set set;
    struct store_change *changes;
    struct store_missing *missing;
    size_t all;
    int64_t redis_ms;
    uint64_t cursor = 0;
    size_t n;
    struct store_node *nodes;
    struct store_client *rows;
    struct store_assignment *assigned;
    ck_assert_int_eq(store_counts(store, &counts), ERR_OK);
    ck_assert_int_eq(counts.waiting, waiting);
    ck_assert_int_eq(counts.owned, owned);
    ck_assert_int_eq(store_list_assignments(store, &who, &assigned, &n, &set), ERR_OK);
    ck_assert_int_eq((int64_t)n, owned);
    ck_assert_int_eq(store_save_digest(store, &who, set.rev, digest_of_rows(assigned, n)), ERR_OK);
    store_assignments_free(assigned, n);
    ck_assert_int_eq(store_changes(store, &who, set.rev - 1, NULL, &set, &changes, &n), ERR_OK);
    store_changes_free(changes, n);
    ck_assert_int_eq(store_find_missing(store, &missing, &n, &all), ERR_OK);
    ck_assert_uint_eq(n, 0);
    store_missing_free(missing, n);
    ck_assert_int_eq(store_nodes(store, 1200, &nodes, &n, NULL), ERR_OK);
    ck_assert_uint_ge(n, 1);
    store_nodes_free(nodes, n);
    ck_assert_int_eq(store_page(store, STORE_OWNED, &cursor, 10, &rows, &n, &redis_ms), ERR_OK);
    store_clients_free(rows, n);
}

static inline void life_change_one(struct store_member who, const char *generation) {
    struct store_client client;
    struct store_heartbeat beat;
    enum store_ownership_status evidence;
    int64_t version, epoch;
    size_t moved;
    char *other_id;
    ck_assert_int_eq(store_heartbeat(store, &who, generation, 60000, "{}", &beat), ERR_OK);
    ck_assert_int_eq(store_get(store, "c1", &client), ERR_OK);
    int64_t created = client.version;
    store_client_fini(&client);
    ck_assert_int_eq(
        store_update(store, &(struct store_configuration){"c1", created, "{\"a\":1}", "c1", NULL},
                     &version, &other_id),
        ERR_OK);
    ck_assert_int_gt(version, created);
    ck_assert_int_eq(store_get(store, "c1", &client), ERR_OK);
    ck_assert_int_eq(client.version, version);
    epoch = client.owner.epoch;
    store_client_fini(&client);
    ck_assert_int_eq(store_mark_stable(store, &who, (const char *[]){"c1"}, 1), ERR_OK);
    struct store_held held = {"c1", epoch, version};
    ck_assert_int_eq(store_ownership_status(store, &who, &held, 1, &evidence), ERR_OK);
    ck_assert_int_eq(evidence, STORE_OWNERSHIP_MINE);
    ck_assert_uint_eq(release(who, "c1", epoch, 1000, true), 1);
    ck_assert_int_eq(store_set_cooldown(store, "c1", 1000, "code", "message", NULL), ERR_OK);
    ck_assert_int_eq(store_delete(store, "c1", 0, NULL), ERR_OK);
    ck_assert_int_eq(store_adopt_orphans(store, &moved), ERR_OK);
    struct store_strays strays;
    ck_assert_int_eq(store_clean_strays(store, &strays), ERR_OK);
    struct store_restore_item lost = {
        .id = "lost", .epoch = 5, .config = "{}", .identity = "lost", .version = 7};
    struct store_restore_result restored;
    ck_assert_int_eq(store_restore(store, &who, &lost, 1, &restored, &moved), ERR_OK);
    ck_assert(restored.mine);
    ck_assert_int_eq(store_delete(store, "lost", 0, NULL), ERR_OK);
}

/* An operation on two clients, one of which is deleted; another operation is cancelled. */
static inline void life_operate(struct store_member who) {
    static const char *const ids[] = {"c7", "c8"};
    struct store_operation operation = {
        .id = (char *)"o1", .action = (char *)"patch", .by = (char *)"alice", .rate = 1};
    struct store_client *rows;
    size_t n;
    int64_t position;
    bool ended;
    store_set_audit_keep_ms(store, 60000);
    ck_assert_int_eq(store_create_operation(store, &operation, ids, 2), ERR_OK);
    ck_assert_int_eq(store_operation_batch(store, "o1", 9, &position, &rows, &n), ERR_OK);
    ck_assert_uint_eq(n, 2);
    struct store_step_item items[] = {{.id = ids[0],
                                       .what = STORE_STEP_UPDATE,
                                       .version = rows[0].version,
                                       .config = "{\"o\":1}",
                                       .identity = "c7",
                                       .record = "{}"},
                                      {.id = ids[1], .what = STORE_STEP_FAILED, .reason = "x"}};
    ck_assert_int_eq(store_operation_step(store, &who, &operation, position, items, 2, &ended),
                     ERR_OK);
    ck_assert(ended);
    store_clients_free(rows, n);
    struct store_audit_record *records;
    ck_assert_int_eq(store_audit_trail(store, "c7", &records, &n), ERR_OK);
    ck_assert_uint_eq(n, 1);
    store_audit_free(records, n);
    struct store_audited *audited;
    ck_assert_int_eq(store_audit_page(store, 0, NULL, &audited, &n), ERR_OK);
    ck_assert_uint_ge(n, 1);
    store_audit_page_free(audited, n);
    operation.id = (char *)"o2";
    operation.action = (char *)"delete";
    ck_assert_int_eq(store_create_operation(store, &operation, ids, 2), ERR_OK);
    items[0] = (struct store_step_item){.id = "none", .what = STORE_STEP_DELETE, .record = "{}"};
    ck_assert_int_eq(store_operation_step(store, &who, &operation, 0, items, 1, &ended), ERR_OK);
    ck_assert_int_eq(store_cancel_operation(store, "o2", "bob"), ERR_OK);
    struct store_operation *operations;
    ck_assert_int_eq(store_operations(store, NULL, &operations, &n), ERR_OK);
    ck_assert_uint_eq(n, 2);
    store_operations_free(operations, n);
}

static inline void life_save_history(struct store_member who) {
    const struct store_history_item item = {"c1", 1, "{}"};
    ck_assert_int_eq(store_save_histories(store, &who, &item, 1), ERR_OK);
}

static inline void life_keep_events(void) {
    const struct store_event event = {"{}", true, true, NULL};
    const struct store_event_batch batch = {.node = "one",
                                            .from = "process",
                                            .number = 1,
                                            .listened = true,
                                            .kept_max = 1000,
                                            .events = &event,
                                            .n = 1};
    char id[1][STORE_EVENT_ID_LEN];
    char *texts[1];
    struct store_event_page page;
    ck_assert_int_eq(store_append_events(store, &batch, id, texts), ERR_OK);
    ck_assert_int_eq(store_read_events(store, "0-0", 10, &page), ERR_OK);
    ck_assert_uint_ge(page.n, 1);
    store_event_page_fini(&page);
    enum err err = store_forward_events(store, "one", id[0], 10, &page);
    ck_assert(err == ERR_OK || err == ERR_REFUSED);
    store_event_page_fini(&page);
}

/* On an empty Redis. Leaves it without nodes, and with one client less than were created. */
static inline void live_a_whole_life(void) {
    char generation[TEXT_ID_LEN];
    bool finished = false;
    enum store_role role;
    size_t moved = 0;
    struct store_member one = life_join("one", 60000, generation);
    struct store_member two = life_join("two", 60000, generation);
    life_keep_events();
    life_save_history(one);
    life_create_all();
    life_look(one, LIFE_CLIENTS, 0);
    life_assign_all(two);
    life_look(two, 0, LIFE_CLIENTS);
    life_change_one(two, generation);
    life_operate(two);
    ck_assert_int_eq(store_lead(store, &one, 1000, "{}", &role), ERR_OK);
    ck_assert_int_eq(role, STORE_ROLE_LEADER);
    ck_assert_int_eq(store_drain(store, "two", true), ERR_OK);
    (void)life_join("two", 1, generation); /* its last beat */
    clock_sleep_ms(20);
    ck_assert_int_eq(store_fence(store, &one, &two), ERR_OK);
    for (int i = 0; i < 10 && !finished; i++) {
        ck_assert_int_eq(store_reap(store, &two, &moved, &finished), ERR_OK);
    }
    ck_assert(finished);
    ck_assert_int_eq(store_resign(store, &one), ERR_OK);
    ck_assert_int_eq(store_mark_leaving(store, &one), ERR_OK);
    ck_assert_int_eq(store_leave(store, &one), ERR_OK);
    struct store_counts counts;
    ck_assert_int_eq(store_counts(store, &counts), ERR_OK);
    ck_assert_int_eq(counts.waiting, LIFE_CLIENTS - 1);
    ck_assert_int_eq(counts.owned, 0);
    ck_assert_int_eq(store_ping(store), ERR_OK);
}

#endif
