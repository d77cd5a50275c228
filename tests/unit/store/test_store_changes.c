/* Tests of how a node follows its set: changes, gaps, digests. With a real Redis. */
#include "fleet_check.h"

#define MANY 450 /* more than two pages */

static const char *const NODES[] = {"a", "b", NULL};

/* All pages after `applied`; store_changes_free. */
static struct store_change *changes(struct store_member who, int64_t applied, struct store_set *set,
                                    size_t *n) {
    struct store_change *all = NULL, *page, last = {0};
    size_t more;
    *n = 0;
    do {
        ck_assert_int_eq(store_changes(store, &who, applied, *n ? &last : NULL, set, &page, &more),
                         ERR_OK);
        ck_assert_uint_le(more, STORE_BATCH_MAX);
        ck_assert_uint_le(*n, 10 * MANY); /* the pages end */
        all = realloc(all, (*n + more + 1) * sizeof *all);
        if (more > 0) {
            memcpy(all + *n, page, more * sizeof *all);
        }
        free(page);
        *n += more;
        if (more > 0) {
            last = all[*n - 1];
        }
    } while (more > 0);
    return all;
}

/* How many there are. */
static size_t count_changes(struct store_member who, int64_t applied, struct store_set *set) {
    size_t n;
    struct store_change *rows = changes(who, applied, set, &n);
    store_changes_free(rows, n);
    return n;
}

/* Nothing is left to read after this rev. */
static int64_t applied_now(struct store_member who) {
    struct store_set set;
    (void)count_changes(who, 0, &set);
    return set.rev;
}

static struct store_set set_of(struct store_member who) {
    struct store_set set;
    ck_assert_uint_eq(count_changes(who, INT64_C(1) << 52, &set), 0);
    return set;
}

/* The digest of the whole list, computed like a node. */
static int64_t digest_of(struct store_member who, int64_t *rev) {
    struct store_assignment *rows;
    struct store_set set;
    int64_t digest = 0;
    size_t n;
    ck_assert_int_eq(store_list_assignments(store, &who, &rows, &n, &set), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        digest = store_digest_add(digest, rows[i].id, rows[i].epoch, rows[i].version);
    }
    store_assignments_free(rows, n);
    if (rev) {
        *rev = set.rev;
    }
    return digest;
}

/* After a full pass, as a node does it. */
static void keep_digest(struct store_member who) {
    int64_t rev, digest = digest_of(who, &rev);
    ck_assert_int_eq(store_save_digest(store, &who, rev, digest), ERR_OK);
}

static void assign_many(struct store_member who, int from, int to) {
    for (int i = from; i < to; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%d", i);
        must_create(id);
        must_assign(who, id);
    }
}

/* ---- what a change says ------------------------------------------------------------------------
 */

START_TEST(changes_bring_what_came_what_changed_and_what_went_the_oldest_first) {
    struct store_member a = joined("a", "1", 10);
    struct store_set set;
    size_t n;
    assign_many(a, 0, 3);
    int64_t applied = applied_now(a);
    must_create("new");
    int64_t epoch = must_assign(a, "new");
    int64_t version = must_update("id-1", "{\"c\":2}", "b/1");
    ck_assert_int_eq(store_delete(store, "id-2", 0, NULL), ERR_OK);
    struct store_change *rows = changes(a, applied, &set, &n);
    ck_assert_uint_eq(n, 3);
    ck_assert_str_eq(rows[0].id, "new");
    ck_assert_int_eq(rows[0].epoch, epoch);
    ck_assert_int_eq(rows[0].version, version_of("new"));
    ck_assert_str_eq(rows[0].config, "{\"c\":1}");
    ck_assert_str_eq(rows[1].id, "id-1");
    ck_assert_int_eq(rows[1].version, version);
    ck_assert_str_eq(rows[1].config, "{\"c\":2}");
    ck_assert_uint_eq(rows[1].config_len, 7);
    ck_assert_str_eq(rows[2].id, "id-2");
    ck_assert(rows[2].epoch == 0 && !rows[2].config);
    ck_assert(applied < rows[0].rev && rows[0].rev < rows[1].rev && rows[1].rev < rows[2].rev);
    ck_assert(set.rev == rows[2].rev && set.rev == rev_of("a"));
    ck_assert(set.gap_rev <= applied && !set.restoring);
    store_changes_free(rows, n);
    assert_fleet(NODES);
}
END_TEST

START_TEST(an_id_that_changed_twice_comes_once_as_it_is_now) {
    struct store_member a = joined("a", "1", 10);
    struct store_set set;
    size_t n;
    must_create("x");
    int64_t applied = applied_now(a);
    int64_t epoch = must_assign(a, "x");
    ck_assert_uint_eq(release(a, "x", epoch, 0, false), 1);
    epoch = must_assign(a, "x");
    struct store_change *rows = changes(a, applied, &set, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(rows[0].epoch, epoch);
    store_changes_free(rows, n);
}
END_TEST

START_TEST(what_was_applied_is_forgotten) {
    struct store_member a = joined("a", "1", 10);
    struct store_set set;
    assign_many(a, 0, 5);
    ck_assert_int_eq(RAW_INT("ZCARD", "mqtt_fleet:changed:a"), 5);
    ck_assert_uint_eq(count_changes(a, rev_of("a"), &set), 0);
    ck_assert_int_eq(RAW_INT("ZCARD", "mqtt_fleet:changed:a"), 0);
}
END_TEST

START_TEST(changes_are_of_one_incarnation_and_fenced_for_any_other) {
    struct store_member a = joined("a", "1", 10), old = a;
    struct store_change *rows;
    struct store_set set;
    size_t n;
    assign_many(a, 0, 3);
    stop_beating(a);
    a = joined("a", "2", 10);
    ck_assert_int_eq(store_changes(store, &old, 0, NULL, &set, &rows, &n), ERR_FENCED);
    ck_assert_int_eq(store_save_digest(store, &old, rev_of("a"), 7), ERR_FENCED);
    ck_assert_uint_eq(count_changes(a, 0, &set), 0);
    ck_assert_int_eq(set.digest, 0);
}
END_TEST

/* ---- pages --------------------------------------------------------------------------------- */

static void check_all_once(struct store_member a) {
    static bool seen[MANY];
    struct store_set set;
    size_t n;
    struct store_change *rows = changes(a, 0, &set, &n);
    memset(seen, 0, sizeof seen);
    ck_assert_uint_eq(n, MANY);
    for (size_t i = 0; i < n; i++) {
        bool *one = &seen[atoi(strpbrk(rows[i].id, "0123456789"))];
        ck_assert(!*one);
        *one = true;
        ck_assert(i == 0 || rows[i].rev >= rows[i - 1].rev);
    }
    store_changes_free(rows, n);
}

START_TEST(pages_bring_each_change_once) {
    struct store_member a = joined("a", "1", 1000);
    assign_many(a, 0, MANY);
    check_all_once(a);
}
END_TEST

/* The changes of one script share one rev: the page ends among them. */
START_TEST(pages_bring_each_of_many_changes_with_one_rev_once_whatever_their_names) {
    static const char *const HEADS[] = {"a", "B", "Z", "_", "\xc3\xa4", "-"};
    struct store_member a = joined("a", "1", 1000);
    for (int i = 0; i < MANY; i++) {
        char id[24], rev[24];
        snprintf(id, sizeof id, "%s%d", HEADS[i % 6], i);
        must_create(id);
        must_assign(a, id);
        snprintf(rev, sizeof rev, "%d", 5000 + i / 150); /* 150 of each */
        RAW("ZADD", "mqtt_fleet:changed:a", rev, id);
    }
    check_all_once(a);
}
END_TEST

START_TEST(a_page_ends_before_its_texts_grow_too_long) {
    enum { LEN = 400000 };
    struct store_member a = joined("a", "1", 10);
    struct store_change *rows;
    struct store_set set;
    size_t n;
    char *text = malloc(LEN + 1);
    memset(text, 'x', LEN);
    text[LEN] = '\0';
    for (int i = 0; i < 7; i++) {
        char id[8];
        snprintf(id, sizeof id, "x%d", i);
        ck_assert_int_eq(create(id, text, id).outcome, STORE_CREATED);
        must_assign(a, id);
    }
    ck_assert_int_eq(store_changes(store, &a, 0, NULL, &set, &rows, &n), ERR_OK);
    ck_assert(n >= 1 && n < 5);
    ck_assert_uint_eq(rows[0].config_len, LEN);
    store_changes_free(rows, n);
    ck_assert_uint_eq(count_changes(a, 0, &set), 7);
    free(text);
}
END_TEST

/* ---- gaps --------------------------------------------------------------------------------------
 */

START_TEST(a_rev_that_was_raised_without_a_note_is_a_gap_until_the_list_was_read) {
    struct store_member a = joined("a", "1", 10);
    assign_many(a, 0, 2);
    keep_digest(a);
    ck_assert_int_eq(set_of(a).gap_rev, 0);
    int64_t rev = RAW_INT("INCR", "mqtt_fleet:rev:a"); /* by hand, or by an older version */
    ck_assert_int_eq(set_of(a).gap_rev, rev);
    must_create("x");
    must_assign(a, "x"); /* noted, and the gap stays where it was */
    ck_assert_int_eq(set_of(a).gap_rev, rev);
    ck_assert_int_gt(set_of(a).rev, rev);
    keep_digest(a);
    ck_assert_int_eq(set_of(a).gap_rev, 0);
    assert_fleet(NODES);
}
END_TEST

/* While many clients are assigned to a node, it reads changes, not its whole list each time. */
START_TEST(a_gap_does_not_go_on_with_changes_that_are_noted) {
    struct store_member a = joined("a", "1", 10);
    int64_t rev = rev_of("a");
    ck_assert_int_eq(set_of(a).gap_rev, rev); /* of the join */
    assign_many(a, 0, 5);
    ck_assert_int_eq(set_of(a).gap_rev, rev);
}
END_TEST

START_TEST(a_set_whose_keys_were_spoilt_is_a_gap_and_mended_by_the_next_change) {
    static const char *const KEYS[] = {"mqtt_fleet:set:a", "mqtt_fleet:changed:a",
                                       "mqtt_fleet:rev:a"};
    struct store_member a = joined("a", "1", 100);
    struct store_set set;
    for (int i = 0; i < 3; i++) {
        assign_many(a, 10 * i, 10 * i + 2);
        keep_digest(a);
        int64_t before = rev_of("a");
        RAW("DEL", KEYS[i]);
        RAW("RPUSH", KEYS[i], "of another type");
        (void)count_changes(a, before, &set);
        assign_many(a, 10 * i + 2, 10 * i + 4);
        size_t n = count_changes(a, before, &set);
        ck_assert(set.gap_rev > before || n == 2 || set.rev < before);
        keep_digest(a);
        assert_fleet(NODES);
        ck_assert_int_eq(set_of(a).digest, digest_of(a, NULL));
    }
}
END_TEST

START_TEST(too_many_changes_that_nobody_reads_become_a_gap) {
    struct store_member a = joined("a", "1", 10);
    assign_many(a, 0, 1);
    keep_digest(a);
    RAW("EVAL", "for i = 1, 20000 do redis.call('ZADD', 'mqtt_fleet:changed:a', i, 'n' .. i) end",
        "0");
    must_create("x");
    must_assign(a, "x");
    struct store_set set = set_of(a);
    ck_assert(set.gap_rev == set.rev && set.rev == rev_of("a"));
    ck_assert_int_eq(RAW_INT("EXISTS", "mqtt_fleet:changed:a"), 0);
    ck_assert_int_eq(set.digest, digest_of(a, NULL)); /* which is correct nevertheless */
}
END_TEST

START_TEST(a_join_is_a_gap_and_keeps_the_digest_of_the_same_incarnation) {
    struct store_member a = joined("a", "1", 10);
    assign_many(a, 0, 4);
    keep_digest(a);
    joined("a", "1", 10);
    struct store_set set = set_of(a);
    ck_assert_int_eq(set.gap_rev, set.rev);
    ck_assert_int_eq(set.digest, digest_of(a, NULL));
    assert_fleet(NODES);
}
END_TEST

/* ---- digests -----------------------------------------------------------------------------------
 */

START_TEST(the_digest_of_nothing_is_0_and_the_order_does_not_matter) {
    struct store_member a = joined("a", "1", 10);
    ck_assert_int_eq(set_of(a).digest, 0);
    int64_t first = store_digest_add(0, "x", 1796010963751000, 1796010963751);
    int64_t both = store_digest_add(first, "y", 7, 1);
    int64_t second = store_digest_add(0, "y", 7, 1);
    ck_assert_int_eq(store_digest_add(second, "x", 1796010963751000, 1796010963751), both);
    ck_assert(first != second && first > 0 && both >= 0 && both < INT64_C(1) << 48);
    ck_assert_int_ne(store_digest_add(0, "y", 7, 2), second);
    ck_assert_int_ne(store_digest_add(0, "y", 8, 1), second);
    /* sha1("y\n7\n1"), its first 12 digits */
    ck_assert_int_eq(second, RAW_INT("EVAL",
                                     "return string.format('%.0f', tonumber(string.sub("
                                     "redis.sha1hex('y\\n7\\n1'), 1, 12), 16))",
                                     "0"));
}
END_TEST

START_TEST(the_digest_is_exact_whatever_the_scripts_do_with_many) {
    static struct store_release_item items[MANY];
    struct store_assignment *rows;
    struct store_member a = joined("a", "1", 1000), b = joined("b", "1", 1000);
    struct store_set set;
    size_t n, moved;
    bool finished = false;
    assign_many(a, 0, MANY);
    ck_assert_int_eq(set_of(a).digest, digest_of(a, NULL));
    must_update("id-7", "{\"c\":2}", "b/7");
    ck_assert_int_eq(store_delete(store, "id-8", 0, NULL), ERR_OK);
    ck_assert_int_eq(set_of(a).digest, digest_of(a, NULL));
    ck_assert_int_eq(store_list_assignments(store, &a, &rows, &n, &set), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        items[i] = (struct store_release_item){
            .id = rows[i].id, .epoch = rows[i].epoch, .code = "", .message = ""};
    }
    ck_assert_int_eq(store_release(store, &a, items, n - 20, &moved), ERR_OK);
    store_assignments_free(rows, n);
    ck_assert_int_ne(set_of(a).digest, 0);
    ck_assert_int_eq(set_of(a).digest, digest_of(a, NULL));
    stop_beating(a);
    ck_assert_int_eq(store_fence(store, &b, &a), ERR_OK);
    while (!finished) {
        ck_assert_int_eq(store_reap(store, &a, &moved, &finished), ERR_OK);
    }
    assert_fleet(NODES);
}
END_TEST

START_TEST(a_digest_is_not_kept_when_the_list_has_changed_since) {
    struct store_member a = joined("a", "1", 10);
    int64_t rev, digest = digest_of(a, &rev);
    assign_many(a, 0, 1);
    ck_assert_int_eq(store_save_digest(store, &a, rev, digest), ERR_WRONG_STATE);
    ck_assert_int_eq(set_of(a).digest, digest_of(a, NULL));
}
END_TEST

/* Changes that no script made are found by comparing the digests. */
START_TEST(an_owner_record_that_was_changed_by_hand_makes_the_sums_differ) {
    struct store_member a = joined("a", "1", 10);
    assign_many(a, 0, 3);
    keep_digest(a);
    RAW("HSET", "mqtt_fleet:owner", "id-1",
        "{\"node\":\"a\",\"incarnation\":\"1\",\"epoch\":\"7\",\"version\":1}");
    ck_assert_int_ne(set_of(a).digest, digest_of(a, NULL));
    keep_digest(a);
    ck_assert_int_eq(set_of(a).digest, digest_of(a, NULL));
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, changes_bring_what_came_what_changed_and_what_went_the_oldest_first);
    tcase_add_test(tcase, an_id_that_changed_twice_comes_once_as_it_is_now);
    tcase_add_test(tcase, what_was_applied_is_forgotten);
    tcase_add_test(tcase, changes_are_of_one_incarnation_and_fenced_for_any_other);
    tcase_add_test(tcase, pages_bring_each_change_once);
    tcase_add_test(tcase, pages_bring_each_of_many_changes_with_one_rev_once_whatever_their_names);
    tcase_add_test(tcase, a_page_ends_before_its_texts_grow_too_long);
    tcase_add_test(tcase, a_rev_that_was_raised_without_a_note_is_a_gap_until_the_list_was_read);
    tcase_add_test(tcase, a_gap_does_not_go_on_with_changes_that_are_noted);
    tcase_add_test(tcase, a_set_whose_keys_were_spoilt_is_a_gap_and_mended_by_the_next_change);
    tcase_add_test(tcase, too_many_changes_that_nobody_reads_become_a_gap);
    tcase_add_test(tcase, a_join_is_a_gap_and_keeps_the_digest_of_the_same_incarnation);
    tcase_add_test(tcase, the_digest_of_nothing_is_0_and_the_order_does_not_matter);
    tcase_add_test(tcase, the_digest_is_exact_whatever_the_scripts_do_with_many);
    tcase_add_test(tcase, a_digest_is_not_kept_when_the_list_has_changed_since);
    tcase_add_test(tcase, an_owner_record_that_was_changed_by_hand_makes_the_sums_differ);
}

int main(void) {
    return fixture_run("store_changes", add);
}
