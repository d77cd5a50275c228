/* Tests of operations and of the audit trail in Redis: each step is committed once, whoever
 * executes it. With a real Redis. */
#include "fleet_check.h"
#include "store/operations.h"

#define KEEP_MS 600000

static struct store_member executor;
static struct store_client *rows;
static size_t row_count;
static int64_t position;

static void begin(const char *id, const char *action, const char *const *ids, size_t n) {
    store_set_audit_keep_ms(store, KEEP_MS);
    executor = joined("m1", "i1", 1000);
    const struct store_operation new = {.id = (char *)id,
                                        .action = (char *)action,
                                        .selector = (char *)"label.site=north",
                                        .by = (char *)"alice",
                                        .patch = (char *)"{\"p\":1}",
                                        .rate = 100};
    ck_assert_int_eq(store_create_operation(store, &new, ids, n), ERR_OK);
}

static struct store_operation *only(const char *which) {
    struct store_operation *operations;
    size_t n;
    ck_assert_int_eq(store_operations(store, which, &operations, &n), ERR_OK);
    ck_assert_uint_eq(n, 1);
    return operations;
}

static enum err next(const char *id, size_t count) {
    store_clients_free(rows, row_count);
    return store_operation_batch(store, id, count, &position, &rows, &row_count);
}

static enum err step(const char *id, const char *action, const struct store_step_item *items,
                     size_t n, bool *ended) {
    const struct store_operation operation = {.id = (char *)id, .action = (char *)action};
    return store_operation_step(store, &executor, &operation, position, items, n, ended);
}

static struct store_step_item updated(const struct store_client *row) {
    return (struct store_step_item){.id = row->id,
                                    .what = STORE_STEP_UPDATE,
                                    .version = row->version,
                                    .config = "{\"new\":1}",
                                    .identity = row->id,
                                    .record = "{\"by\":\"alice\"}"};
}

static size_t records_of(const char *id) {
    struct store_audit_record *records;
    size_t n;
    enum err err = store_audit_trail(store, id, &records, &n);
    ck_assert(err == ERR_OK || err == ERR_NOT_FOUND);
    store_audit_free(records, n);
    return n;
}

/* ---- audit trail ----------------------------------------------------------------------------- */

START_TEST(a_change_is_recorded_with_its_versions_and_outlives_the_client) {
    struct store_audit_record *records;
    size_t n;
    int64_t version;
    char *other;
    ck_assert_int_eq(store_audit_trail(store, "a", &records, &n), ERR_NOT_FOUND);
    must_create("a");
    int64_t first = version_of("a");
    struct store_configuration change = {"a", 0, "{\"c\":2}", "b/a", "{\"by\":\"alice\"}"};
    ck_assert_int_eq(store_update(store, &change, &version, &other), ERR_OK);
    ck_assert_uint_eq(records_of("a"), 0); /* nothing is kept */
    store_set_audit_keep_ms(store, KEEP_MS);
    first = version;
    ck_assert_int_eq(store_update(store, &change, &version, &other), ERR_OK);
    ck_assert_uint_eq(records_of("a"), 0); /* nothing changed */
    change.config = "{\"c\":3}";
    ck_assert_int_eq(store_update(store, &change, &version, &other), ERR_OK);
    ck_assert_int_eq(store_delete(store, "a", 0, "{\"by\":\"bob\"}"), ERR_OK);
    ck_assert_int_eq(store_audit_trail(store, "a", &records, &n), ERR_OK);
    ck_assert_uint_eq(n, 2);
    ck_assert(records[0].from == first && records[0].to == version && records[0].at_ms > 0);
    ck_assert_str_eq(records[0].record, "{\"by\":\"alice\"}");
    ck_assert(records[1].from == version && records[1].to == 0);
    ck_assert_str_eq(records[1].record, "{\"by\":\"bob\"}");
    store_audit_free(records, n);
}
END_TEST

START_TEST(a_creation_is_recorded_once) {
    struct store_create_item items[] = {{"a", "{\"c\":1}", "b/a", "{\"by\":\"alice\"}"},
                                        {"b", "{\"c\":1}", "b/b", NULL}};
    struct store_create_result results[2];
    struct store_audit_record *records;
    size_t n;
    store_set_audit_keep_ms(store, KEEP_MS);
    for (int again = 0; again < 2; again++) {
        ck_assert_int_eq(store_create(store, items, 2, results, &n), ERR_OK);
        ck_assert_uint_eq(n, 2);
        ck_assert_int_eq(results[0].outcome, again ? STORE_UNCHANGED : STORE_CREATED);
    }
    ck_assert_uint_eq(records_of("b"), 0);
    ck_assert_int_eq(store_audit_trail(store, "a", &records, &n), ERR_OK);
    ck_assert_uint_eq(n, 1);
    ck_assert(records[0].from == 0 && records[0].to == results[0].version);
    ck_assert_str_eq(records[0].record, "{\"by\":\"alice\"}");
    store_audit_free(records, n);
}
END_TEST

START_TEST(the_trail_is_bounded_in_length_and_age) {
    store_set_audit_keep_ms(store, KEEP_MS);
    must_create("a");
    for (int i = 0; i < 20; i++) {
        char config[32];
        int64_t version;
        char *other;
        snprintf(config, sizeof config, "{\"c\":%d}", i + 10);
        ck_assert_int_eq(store_update(store,
                                      &(struct store_configuration){"a", 0, config, "b/a", "{}"},
                                      &version, &other),
                         ERR_OK);
    }
    ck_assert_uint_eq(records_of("a"), 16);
    RAW("HSET", "mqtt_fleet:audit", "old", "1 1 2 {}");
    RAW("ZADD", "mqtt_fleet:audited", "1", "old");
    ck_assert_uint_eq(records_of("old"), 0);
    ck_assert_int_eq(store_delete(store, "a", 0, "{}"), ERR_OK);
    ck_assert_int_eq(RAW_INT("HEXISTS", "mqtt_fleet:audit", "old"), 0);
    RAW("SET", "mqtt_fleet:audit",
        "of another type"); /* does not keep a client from being changed */
    must_create("b");
    ck_assert_int_eq(store_delete(store, "b", 0, "{}"), ERR_OK);
    ck_assert_uint_eq(records_of("b"), 1);
}
END_TEST

/* The ids of all pages, in their order; returns how many pages. */
static size_t read_audit_pages(char ids[][24], size_t max, size_t *count) {
    char after[24] = "";
    int64_t at_ms = 0;
    size_t pages = 0, n = STORE_BATCH_MAX;
    for (*count = 0; n == STORE_BATCH_MAX; pages++) {
        struct store_audited *found;
        ck_assert_int_eq(store_audit_page(store, at_ms, pages > 0 ? after : NULL, &found, &n),
                         ERR_OK);
        for (size_t i = 0; i < n; i++) {
            ck_assert_uint_lt(*count, max);
            snprintf(ids[(*count)++], 24, "%s", found[i].id);
        }
        if (n > 0) {
            snprintf(after, sizeof after, "%s", found[n - 1].id);
            at_ms = found[n - 1].at_ms;
        }
        store_audit_page_free(found, n);
    }
    return pages;
}

START_TEST(the_trail_of_all_clients_is_read_in_pages_the_latest_first) {
    static char ids[600][24];
    char id[24], at[24], line[64];
    size_t count;
    store_set_audit_keep_ms(store, KEEP_MS);
    RAW("DEL", "mqtt_fleet:audit", "mqtt_fleet:audited");
    must_create("newest");
    int64_t now_ms = RAW_INT("EVAL", "return tonumber(redis.call('TIME')[1]) * 1000", "0");
    for (int i = 0; i < 450; i++) { /* those of one operation have the same time */
        int64_t at_ms = i < 10 ? 1 : now_ms - 2000;
        snprintf(id, sizeof id, i % 2 ? "c%d" : "C%d", i);
        snprintf(at, sizeof at, "%lld", (long long)at_ms);
        snprintf(line, sizeof line, "%s 1 2 {}", at);
        RAW("HSET", "mqtt_fleet:audit", id, line);
        RAW("ZADD", "mqtt_fleet:audited", at, id);
    }
    ck_assert_int_eq(store_delete(store, "newest", 0, "{\"by\":\"alice\"}"), ERR_OK);
    ck_assert_uint_eq(read_audit_pages(ids, 600, &count), 3);
    ck_assert_str_eq(ids[0], "newest");
    for (size_t i = 2; i < count; i++) {
        ck_assert_msg(strcmp(ids[i - 1], ids[i]) > 0, "%s before %s", ids[i - 1], ids[i]);
    }
    ck_assert_uint_eq(count, 441); /* ten were too old */
}
END_TEST

/* ---- operations ------------------------------------------------------------------------------ */

START_TEST(a_step_is_committed_once_and_counts_what_became_of_each_client) {
    static char names[450][16];
    static const char *ids[450];
    bool ended;
    for (size_t i = 0; i < 450; i++) {
        snprintf(names[i], sizeof names[i], "c%zu", i);
        ids[i] = names[i];
    }
    for (size_t i = 0; i < 4; i++) {
        must_create(ids[i]);
    }
    begin("o1", "patch", ids, 450);
    must_assign(executor, "c1");
    ck_assert_int_eq(next("o1", 200), ERR_OK);
    ck_assert(position == 0 && row_count == 200);
    ck_assert(rows[1].state == STORE_OWNED && rows[3].state == STORE_WAITING);
    ck_assert(rows[4].state == STORE_ABSENT && strcmp(rows[4].id, "c4") == 0);
    struct store_step_item items[200];
    for (size_t i = 0; i < 200; i++) {
        items[i] = (struct store_step_item){
            .id = rows[i].id, .what = STORE_STEP_SKIPPED, .reason = "not_found"};
    }
    for (size_t i = 0; i < 3; i++) {
        items[i] = updated(&rows[i]);
    }
    must_update("c2", "{\"changed\":1}", "x/c2"); /* in the meantime */
    items[3] = (struct store_step_item){
        .id = "c3", .what = STORE_STEP_FAILED, .reason = "invalid", .detail = "because\n\"x\""};
    ck_assert_int_eq(step("o1", "patch", items, 200, &ended), ERR_OK);
    ck_assert(!ended && strstr(RAW_TEXT("HGET", "mqtt_config:use", "c1"), "new"));
    int64_t once = version_of("c0");
    ck_assert_int_eq(step("o1", "patch", items, 200, &ended), ERR_WRONG_STATE);
    ck_assert(version_of("c0") == once && records_of("c0") == 1 && records_of("c2") == 0);

    struct store_operation *operation = only("o1");
    ck_assert(operation->state == OPERATION_RUNNING && operation->total == 450);
    ck_assert(operation->done == 2 && operation->failed == 1 && operation->skipped == 196);
    ck_assert(operation->position == 200 && operation->reason_count == 2);
    ck_assert_str_eq(operation->patch, "{\"p\":1}");
    ck_assert_str_eq(operation->executor, "m1");
    ck_assert_ptr_nonnull(strstr(operation->failures, "because\\n\\\"x\\\""));
    store_operations_free(operation, 1);

    /* c2 comes again, after the others. */
    while (next("o1", 200) == ERR_OK) {
        for (size_t i = 0; i < row_count; i++) {
            items[i] = rows[i].state == STORE_ABSENT
                           ? (struct store_step_item){.id = rows[i].id,
                                                      .what = STORE_STEP_SKIPPED,
                                                      .reason = "not_found"}
                           : updated(&rows[i]);
        }
        ck_assert_int_eq(step("o1", "patch", items, row_count, &ended), ERR_OK);
    }
    ck_assert(ended && records_of("c2") == 1);
    operation = only("o1");
    ck_assert(operation->state == OPERATION_DONE && operation->done == 3);
    ck_assert(operation->skipped == 446 && operation->ended_ms > 0 && !operation->patch);
    store_operations_free(operation, 1);
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_fleet:operation_ids:o1"), 0);
    assert_fleet((const char *const[]){"m1", NULL});
}
END_TEST

START_TEST(a_step_that_deletes_leaves_nothing_of_its_clients) {
    static const char *ids[] = {"a", "b", "gone"};
    bool ended;
    must_create("a");
    must_create("b");
    begin("o1", "delete", ids, 3);
    must_assign(executor, "a");
    ck_assert_int_eq(next("o1", 10), ERR_OK);
    struct store_step_item items[3];
    for (size_t i = 0; i < 3; i++) {
        items[i] = (struct store_step_item){
            .id = ids[i], .what = STORE_STEP_DELETE, .version = rows[i].version, .record = "{}"};
    }
    ck_assert_int_eq(step("o1", "delete", items, 3, &ended), ERR_OK);
    ck_assert(ended && where("a") == STORE_ABSENT && where("b") == STORE_ABSENT);
    ck_assert(records_of("a") == 1 && records_of("gone") == 0);
    struct store_operation *operation = only("o1");
    ck_assert(operation->done == 2 && operation->skipped == 1);
    store_operations_free(operation, 1);
    assert_fleet((const char *const[]){"m1", NULL});
}
END_TEST

START_TEST(only_a_member_executes_and_a_cancelled_operation_ends) {
    static const char *ids[] = {"a"};
    bool ended;
    must_create("a");
    begin("o1", "patch", ids, 1);
    ck_assert_int_eq(next("o1", 10), ERR_OK);
    struct store_step_item item = updated(&rows[0]);
    executor.incarnation = "another";
    ck_assert_int_eq(step("o1", "patch", &item, 1, &ended), ERR_FENCED);
    executor.incarnation = "i1";
    ck_assert_int_eq(store_cancel_operation(store, "none", "bob"), ERR_NOT_FOUND);
    ck_assert_int_eq(store_cancel_operation(store, "o1", "bob"), ERR_OK);
    ck_assert_int_eq(store_cancel_operation(store, "o1", "bob"), ERR_OK);
    ck_assert_int_eq(step("o1", "patch", &item, 1, &ended), ERR_WRONG_STATE);
    ck_assert_int_eq(next("o1", 10), ERR_WRONG_STATE);
    struct store_operation *operation = only(NULL);
    ck_assert(operation->state == OPERATION_CANCELLED && operation->done == 0);
    ck_assert_str_eq(operation->cancelled_by, "bob");
    ck_assert_ptr_null(strstr(RAW_TEXT("HGET", "mqtt_config:no", "a"), "new"));
    store_operations_free(operation, 1);
    begin("o2", "patch", ids, 0);
    ck_assert_int_eq(store_cancel_operation(store, "o2", "bob"), ERR_WRONG_STATE);
}
END_TEST

START_TEST(their_number_is_bounded) {
    static const char *ids[] = {"a"};
    char id[16];
    must_create("a");
    for (int i = 0; i < 120; i++) {
        snprintf(id, sizeof id, "e%d", i);
        begin(id, "patch", ids, 0);
        clock_sleep_ms(1);
    }
    struct store_operation *operations;
    size_t n;
    ck_assert_int_eq(store_operations(store, NULL, &operations, &n), ERR_OK);
    ck_assert(n >= 100 && n <= 101);
    ck_assert_str_eq(operations[0].id, "e119");
    store_operations_free(operations, n);
    for (int i = 0; i < 16; i++) {
        snprintf(id, sizeof id, "r%d", i);
        begin(id, "patch", ids, 1);
    }
    const struct store_operation new = {.id = (char *)"r16", .action = (char *)"pause"};
    ck_assert_int_eq(store_create_operation(store, &new, ids, 1), ERR_REFUSED);
    ck_assert_int_eq(store_operations(store, "running", &operations, &n), ERR_OK);
    ck_assert_uint_eq(n, 16);
    store_operations_free(operations, n);
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_fleet:operation_ids:r16"), 0);
}
END_TEST

static enum err begin_in_scope(const char *id, const char *scope, const char *const *ids,
                               size_t n) {
    const struct store_operation new = {
        .id = (char *)id, .action = (char *)"pause", .scope = (char *)scope, .rate = 1};
    return store_create_operation(store, &new, ids, n);
}

START_TEST(operations_of_a_scope_leave_those_of_others_alone) {
    static const char *ids[] = {"a"};
    struct store_operation *operations;
    char id[16];
    size_t n;
    must_create("a");
    begin("mine", "pause", ids, 0);
    ck_assert_int_eq(begin_in_scope("theirs", "label.tenant=a", ids, 0), ERR_OK);
    for (int i = 0; i < 120; i++) {
        snprintf(id, sizeof id, "b%d", i);
        ck_assert_int_eq(begin_in_scope(id, "label.tenant=b", ids, 0), ERR_OK);
        clock_sleep_ms(1);
    }
    ck_assert_int_eq(store_operations(store, NULL, &operations, &n), ERR_OK);
    ck_assert(n >= 102 && n <= 103);
    store_operations_free(operations, n);
    store_operations_free(only("mine"), 1);
    store_operations_free(only("theirs"), 1);
    for (int i = 0; i < STORE_OPERATIONS_SCOPE_MAX; i++) {
        snprintf(id, sizeof id, "r%d", i);
        ck_assert_int_eq(begin_in_scope(id, "label.tenant=b", ids, 1), ERR_OK);
    }
    ck_assert_int_eq(begin_in_scope("more", "label.tenant=b", ids, 1), ERR_REFUSED);
    ck_assert_int_eq(begin_in_scope("other", "label.tenant=a", ids, 1), ERR_OK);
    for (int i = 0; i < STORE_OPERATIONS_MAX; i++) {
        snprintf(id, sizeof id, "w%d", i);
        ck_assert_int_eq(begin_in_scope(id, NULL, ids, 1), ERR_OK);
    }
    ck_assert_int_eq(begin_in_scope("w", NULL, ids, 1), ERR_REFUSED);
}
END_TEST

START_TEST(a_client_that_cannot_be_changed_fails_in_the_end) {
    static const char *ids[] = {"a"};
    bool ended = false;
    must_create("a");
    begin("o1", "restart", ids, 1);
    int steps = 0;
    for (; !ended && steps < 100; steps++) {
        ck_assert_int_eq(next("o1", 10), ERR_OK);
        struct store_step_item item = {
            .id = "a", .what = STORE_STEP_LATER, .reason = "owner_unreachable", .detail = "m2"};
        ck_assert_int_eq(step("o1", "restart", &item, 1, &ended), ERR_OK);
    }
    ck_assert_int_eq(steps, 21);
    struct store_operation *operation = only("o1");
    ck_assert(operation->failed == 1 && operation->reason_count == 1);
    ck_assert_str_eq(operation->reasons[0].reason, "owner_unreachable");
    store_operations_free(operation, 1);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, a_change_is_recorded_with_its_versions_and_outlives_the_client);
    tcase_add_test(tcase, a_creation_is_recorded_once);
    tcase_add_test(tcase, the_trail_is_bounded_in_length_and_age);
    tcase_add_test(tcase, the_trail_of_all_clients_is_read_in_pages_the_latest_first);
    tcase_add_test(tcase, a_step_is_committed_once_and_counts_what_became_of_each_client);
    tcase_add_test(tcase, a_step_that_deletes_leaves_nothing_of_its_clients);
    tcase_add_test(tcase, only_a_member_executes_and_a_cancelled_operation_ends);
    tcase_add_test(tcase, their_number_is_bounded);
    tcase_add_test(tcase, operations_of_a_scope_leave_those_of_others_alone);
    tcase_add_test(tcase, a_client_that_cannot_be_changed_fails_in_the_end);
}

int main(void) {
    return fixture_run("store_operations", add);
}
