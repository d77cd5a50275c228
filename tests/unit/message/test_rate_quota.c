/* Quotas of a node: what passes, whose clients count, and what survives a change. */
#include "message/rate_quota.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "message/router.h"

#define SECOND     INT64_C(1000000000)
#define PASSED_MAX 1000000

static struct rate_quotas *quotas;
static int64_t now;

static void setup(void) {
    quotas = rate_quotas_create();
    ck_assert_ptr_nonnull(quotas);
    now = 1000 * SECOND;
}

static void teardown(void) {
    rate_quotas_destroy(quotas);
}

static const struct rate_quota_row acme_row = {
    .value = "acme", .scope = "label.tenant=acme", .per_s = {5, 100, 1}};

static void apply(const char *label, struct rate_quota_row row, size_t nodes) {
    ck_assert(rate_quotas_apply(quotas, label, &row, 1, nodes));
}

static struct rate_quota *take_of(const char *value) {
    const struct message_label labels[] = {{"site", "acme"}, {"tenant", value}};
    return rate_quotas_take(quotas, labels, 2);
}

static int pass(struct rate_quota *quota, enum rate_quota_kind kind) {
    int n = 0;
    while (n < PASSED_MAX && rate_quota_take(quota, kind, now)) {
        n++;
    }
    return n;
}

static struct rate_quota_use sampled(enum rate_quota_kind kind) {
    struct rate_quota_sample *rows;
    size_t n;
    ck_assert_int_eq(rate_quotas_sample(quotas, now, 1, &rows, &n), ERR_OK);
    ck_assert_uint_eq(n, 1);
    struct rate_quota_use use = rows[0].uses[kind];
    rate_quota_samples_free(rows, n);
    return use;
}

START_TEST(a_client_counts_for_the_quota_of_its_label) {
    ck_assert(!rate_quotas_exist(quotas));
    ck_assert_ptr_null(take_of("acme"));
    apply("tenant", acme_row, 1);
    ck_assert(rate_quotas_exist(quotas));
    struct rate_quota *quota = take_of("acme");
    ck_assert_str_eq(rate_quota_scope(quota), "label.tenant=acme");
    ck_assert_ptr_null(take_of("globex"));
    ck_assert_ptr_eq(take_of("acme"), quota);
    rate_quota_release(quota);
    rate_quota_release(quota);
}
END_TEST

START_TEST(what_a_second_allows_passes_at_once_and_then_the_rate) {
    apply("tenant", acme_row, 1);
    struct rate_quota *quota = take_of("acme");
    ck_assert_int_eq(pass(quota, RATE_MESSAGES), 100);
    ck_assert_int_eq(pass(quota, RATE_CONNECTS), 5);
    ck_assert_int_eq(pass(quota, RATE_PUBLICATIONS), 1);
    ck_assert_int_eq(rate_quota_wait_ns(quota, RATE_MESSAGES, now), SECOND / 100);
    ck_assert_uint_eq(rate_quota_room(quota, RATE_MESSAGES, now, 1000), 0);
    now += SECOND / 2;
    ck_assert_uint_eq(rate_quota_room(quota, RATE_MESSAGES, now, 1000), 50);
    ck_assert_uint_eq(rate_quota_room(quota, RATE_MESSAGES, now, 7), 7);
    ck_assert_int_eq(pass(quota, RATE_MESSAGES), 50);
    now += 1000 * SECOND;
    ck_assert_int_eq(pass(quota, RATE_MESSAGES), 100);
    rate_quota_release(quota);
}
END_TEST

START_TEST(a_new_quota_is_divided_equally_and_a_share_is_set) {
    apply("tenant", acme_row, 4);
    struct rate_quota *quota = take_of("acme");
    ck_assert_int_eq(pass(quota, RATE_MESSAGES), 25);
    ck_assert_int_eq(pass(quota, RATE_PUBLICATIONS), 1); /* a quarter: one may pass */
    now += 3 * SECOND;
    ck_assert_int_eq(pass(quota, RATE_PUBLICATIONS), 0);
    rate_quotas_set_share(quotas, "label.tenant=acme", RATE_MESSAGES, 70, now);
    rate_quotas_set_share(quotas, "label.tenant=globex", RATE_MESSAGES, 1, now);
    now += 10 * SECOND;
    ck_assert_int_eq(pass(quota, RATE_MESSAGES), 70);
    /* A rate that changes: the node keeps its part. */
    struct rate_quota_row doubled = acme_row;
    doubled.per_s[RATE_MESSAGES] = 200;
    apply("tenant", doubled, 4);
    now += 10 * SECOND;
    ck_assert_int_eq(pass(quota, RATE_MESSAGES), 140);
    rate_quota_release(quota);
}
END_TEST

START_TEST(who_waits_for_a_small_share_passes_soon_after_it_has_grown) {
    apply("tenant", acme_row, 1);
    struct rate_quota *quota = take_of("acme");
    rate_quotas_set_share(quotas, "label.tenant=acme", RATE_PUBLICATIONS, 0.01, now);
    ck_assert_int_eq(pass(quota, RATE_PUBLICATIONS), 1);
    ck_assert_int_eq(rate_quota_wait_ns(quota, RATE_PUBLICATIONS, now), 100 * SECOND);
    rate_quotas_set_share(quotas, "label.tenant=acme", RATE_PUBLICATIONS, 10, now);
    ck_assert_int_eq(rate_quota_wait_ns(quota, RATE_PUBLICATIONS, now), SECOND / 10);
    now += SECOND;
    ck_assert_int_eq(pass(quota, RATE_PUBLICATIONS), 10); /* and not what 100 s would have given */
    /* Likewise when a higher rate of the fleet is shared. */
    struct rate_quota_row higher = acme_row;
    rate_quotas_set_share(quotas, "label.tenant=acme", RATE_PUBLICATIONS, 0.01, now);
    higher.per_s[RATE_PUBLICATIONS] = 1000;
    apply("tenant", higher, 1);
    rate_quotas_set_share(quotas, "label.tenant=acme", RATE_PUBLICATIONS, 10, now);
    ck_assert_int_le(rate_quota_wait_ns(quota, RATE_PUBLICATIONS, now), SECOND / 10);
    rate_quota_release(quota);
}
END_TEST

START_TEST(a_share_that_changes_to_and_fro_gives_nothing) {
    apply("tenant", acme_row, 1);
    struct rate_quota *quota = take_of("acme");
    int passed = 0;
    for (int i = 0; i < 1000; i++) {
        rate_quotas_set_share(quotas, "label.tenant=acme", RATE_PUBLICATIONS, i % 2 ? 1 : 0.01,
                              now);
        passed += pass(quota, RATE_PUBLICATIONS);
        now += SECOND / 100;
    }
    ck_assert_int_le(passed, 10); /* in 10 s, half of them at one per second */
    rate_quota_release(quota);
}
END_TEST

START_TEST(a_quota_that_is_removed_limits_nobody_and_its_entry_is_used_again) {
    apply("tenant", acme_row, 1);
    struct rate_quota *quota = take_of("acme");
    pass(quota, RATE_MESSAGES);
    ck_assert(rate_quotas_apply(quotas, "", NULL, 0, 1));
    ck_assert_int_eq(pass(quota, RATE_MESSAGES), PASSED_MAX);
    ck_assert_ptr_null(take_of("acme"));
    apply("tenant", acme_row, 1);
    struct rate_quota *other = take_of("acme");
    ck_assert_ptr_ne(other, quota); /* a client still refers to the first */
    ck_assert_int_eq(pass(other, RATE_MESSAGES), 100);
    rate_quota_release(quota);
    struct rate_quota_row globex = {
        .value = "acme", .scope = "label.site=acme", .per_s = {0, 7, 0}};
    apply("site", globex, 1); /* the same value of another label is another quota */
    struct rate_quota *third = take_of("globex");
    ck_assert_ptr_eq(third, quota);
    ck_assert_int_eq(pass(third, RATE_MESSAGES), 7);
    ck_assert_int_eq(pass(third, RATE_CONNECTS), PASSED_MAX);
    rate_quota_release(other);
    rate_quota_release(third);
}
END_TEST

START_TEST(a_sample_has_the_use_since_the_last_one) {
    apply("tenant", acme_row, 1);
    struct rate_quota_sample *rows;
    size_t n;
    ck_assert_int_eq(rate_quotas_sample(quotas, now, 1, &rows, &n), ERR_OK);
    ck_assert_uint_eq(n, 0); /* no client */
    rate_quota_samples_free(rows, n);
    struct rate_quota *quota = take_of("acme");
    pass(quota, RATE_MESSAGES);
    rate_quota_note_refused(quota, RATE_MESSAGES);
    rate_quota_note_delayed(quota, RATE_MESSAGES);
    now += 2 * SECOND;
    struct rate_quota_use use = sampled(RATE_MESSAGES);
    ck_assert(use.use == 50 && use.limited && use.per_s == 100);
    ck_assert(use.allowed == 100 && use.refused == 1 && use.delayed == 1);
    now += SECOND;
    use = sampled(RATE_MESSAGES);
    ck_assert(use.use == 0 && !use.limited && use.allowed == 100);
    rate_quota_release(quota);
}
END_TEST

START_TEST(a_node_whose_clients_have_left_begins_again_with_an_equal_part) {
    struct rate_quota_sample *rows;
    size_t n;
    apply("tenant", acme_row, 1);
    rate_quota_release(take_of("acme"));
    ck_assert_int_eq(rate_quotas_sample(quotas, now, 5, &rows, &n), ERR_OK);
    rate_quota_samples_free(rows, n);
    struct rate_quota *quota = take_of("acme");
    ck_assert_int_eq(pass(quota, RATE_MESSAGES), 20);
    rate_quota_release(quota);
}
END_TEST

START_TEST(who_waits_looks_again_the_later_the_more_clients_there_are) {
    apply("tenant", acme_row, 1);
    struct rate_quota *quota = take_of("acme");
    ck_assert_int_eq(rate_quota_look_again_ns(quota, RATE_MESSAGES, now), 0);
    pass(quota, RATE_MESSAGES);
    ck_assert_int_eq(rate_quota_look_again_ns(quota, RATE_MESSAGES, now), SECOND / 50);
    for (int i = 1; i < 1000; i++) {
        rate_quota_retain(quota);
    }
    ck_assert_int_eq(rate_quota_look_again_ns(quota, RATE_MESSAGES, now), SECOND / 10);
    for (int i = 0; i < 1000; i++) {
        rate_quota_release(quota);
    }
}
END_TEST

static bool tells_of_waiting(void) {
    return sampled(RATE_MESSAGES).limited;
}

START_TEST(only_a_client_whose_message_waits_for_the_quota_is_held_back_by_it) {
    struct route route = {0}, other = {0};
    apply("tenant", acme_row, 1000); /* one message in 10 s */
    struct rate_quota *quota = take_of("acme");
    ck_assert(route_set_quota(&route, quota));
    ck_assert(route_set_quota(&other, rate_quota_retain(quota)));
    ck_assert(rate_quota_take(quota, RATE_MESSAGES, clock_us() * 1000));
    ck_assert(!route_is_held_back(&route) && !tells_of_waiting());
    int64_t wait_ms = route_limit_wait_ms(&route);
    ck_assert(wait_ms > 0 && wait_ms < 1000); /* each sample, a second apart, knows of it */
    ck_assert(route_is_held_back(&route) && tells_of_waiting() && !tells_of_waiting());
    ck_assert(!route_is_held_back(&other));
    route_fini(&route);
    route_fini(&other);
}
END_TEST

START_TEST(who_passes_after_a_race_is_charged_but_not_without_bound) {
    apply("tenant", acme_row, 1);
    struct rate_quota *quota = take_of("acme");
    for (int i = 0; i < 1000; i++) {
        rate_quota_charge(quota, RATE_MESSAGES, now);
    }
    int64_t wait_ns = rate_quota_wait_ns(quota, RATE_MESSAGES, now);
    ck_assert_int_gt(wait_ns, SECOND / 100);
    ck_assert_int_le(wait_ns, SECOND / 5);
    rate_quota_release(quota);
}
END_TEST

static pthread_barrier_t start_line;
static _Atomic int raced;

static void *race(void *context) {
    int taken = 0;
    pthread_barrier_wait(&start_line);
    while (taken <= RATE_QUOTA_MAX && rate_quota_take(context, RATE_MESSAGES, now)) {
        taken++;
    }
    raced += taken;
    return NULL;
}

/* There is so much that all of them take for a while. */
START_TEST(threads_together_get_no_more_than_there_is) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    struct rate_quota_row row = acme_row;
    row.per_s[RATE_MESSAGES] = RATE_QUOTA_MAX;
    apply("tenant", row, 1);
    struct rate_quota *quota = take_of("acme");
    raced = 0;
    pthread_barrier_init(&start_line, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, race, quota), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&start_line);
    ck_assert_int_eq(raced, RATE_QUOTA_MAX);
    rate_quota_release(quota);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("rate_quota");
    TCase *tcase = tcase_create("rate_quota");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_client_counts_for_the_quota_of_its_label);
    tcase_add_test(tcase, what_a_second_allows_passes_at_once_and_then_the_rate);
    tcase_add_test(tcase, a_new_quota_is_divided_equally_and_a_share_is_set);
    tcase_add_test(tcase, who_waits_for_a_small_share_passes_soon_after_it_has_grown);
    tcase_add_test(tcase, a_share_that_changes_to_and_fro_gives_nothing);
    tcase_add_test(tcase, a_quota_that_is_removed_limits_nobody_and_its_entry_is_used_again);
    tcase_add_test(tcase, a_sample_has_the_use_since_the_last_one);
    tcase_add_test(tcase, a_node_whose_clients_have_left_begins_again_with_an_equal_part);
    tcase_add_test(tcase, who_waits_looks_again_the_later_the_more_clients_there_are);
    tcase_add_test(tcase, only_a_client_whose_message_waits_for_the_quota_is_held_back_by_it);
    tcase_add_test(tcase, who_passes_after_a_race_is_charged_but_not_without_bound);
    tcase_add_test(tcase, threads_together_get_no_more_than_there_is);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
