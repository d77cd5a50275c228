/* Tests of http/server/pending: what ends a wait, when, and only once. */
#include "http/server/pending.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "http/api/api.h"
#include "http/http_check.h"

static struct http_api api;
static struct http_request request;
static struct http_response response;
static atomic_int went_on, freed, wakes, ran;
static enum pending_end how;
static struct pending *ended;

static void go_on(struct http_request *of, struct pending *pending) {
    ck_assert_ptr_eq(of, &request);
    ended = pending;
    atomic_fetch_add(&went_on, 1);
}

static void wake(void *context) {
    (void)context;
    atomic_fetch_add(&wakes, 1);
}

static void then(struct http_request *of, struct http_response *answer, enum pending_end end,
                 void *data) {
    (void)of;
    (void)answer;
    ck_assert_ptr_eq(data, &freed);
    how = end;
    ran++;
}

static void free_data(void *data) {
    atomic_fetch_add((atomic_int *)data, 1);
}

static void setup(void) {
    went_on = freed = wakes = ran = 0;
    ended = NULL;
    api.pendings = pendings_create(2, go_on, wake, NULL);
    ck_assert_ptr_nonnull(api.pendings);
    http_request_init(&request, &api);
    response = (struct http_response){0};
}

static void teardown(void) {
    http_response_fini(&response);
    http_request_fini(&request);
    pendings_destroy(api.pendings);
}

static struct pending *begin(int64_t timeout_ms, unsigned flags) {
    const struct pending_plan plan = {.timeout_ms = timeout_ms,
                                      .flags = flags,
                                      .then = then,
                                      .data = &freed,
                                      .free_data = free_data};
    struct pending *pending = pending_begin(&request, &response, &plan);
    request.pending = NULL;
    return pending;
}

static void check_went_on(enum pending_end end) {
    ck_assert_int_eq(went_on, 1);
    pending_run(ended, &request, &response);
    ck_assert_int_eq(ran, 1);
    ck_assert_int_eq(how, end);
    ck_assert_uint_eq(pendings_count(api.pendings), 0);
}

START_TEST(the_source_ends_it_before_or_after_the_handler_has_returned) {
    struct pending *pending = begin(10000, 0);
    if (_i == 0) {
        pending_park(pending);
    }
    ck_assert(pending_claim(pending));
    pending_resume(pending);
    ck_assert_int_eq(went_on, _i == 0);
    if (_i == 1) {
        pending_park(pending);
    }
    check_went_on(PENDING_DONE);
    ck_assert_int_eq(freed, 1);
}
END_TEST

START_TEST(when_its_time_is_over_the_source_comes_too_late) {
    struct pending *pending = begin(20, 0);
    pending_park(pending);
    int64_t now_ms = clock_ms();
    ck_assert_int_le(pendings_turn(api.pendings, now_ms), 20);
    ck_assert_int_eq(went_on, 0);
    pendings_turn(api.pendings, now_ms + 1000);
    check_went_on(PENDING_TIMEOUT);
    ck_assert_int_eq(freed, 0);
    ck_assert(!pending_claim(pending));
    pending_drop(pending);
    ck_assert_int_eq(freed, 1);
}
END_TEST

START_TEST(it_ends_when_its_caller_has_gone) {
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    request.socket = pair[0];
    struct pending *pending = begin(100000, 0);
    pending_park(pending);
    int64_t now_ms = clock_ms();
    pendings_turn(api.pendings, now_ms);
    ck_assert_int_eq(went_on, 0);
    close(pair[1]);
    pendings_turn(api.pendings, now_ms + 2000);
    check_went_on(PENDING_GONE);
    pending_drop(pending);
    close(pair[0]);
}
END_TEST

START_TEST(one_that_counts_what_is_under_way_outlives_its_caller) {
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    request.socket = pair[0];
    struct pending *pending = begin(100000, PENDING_OUTLIVES_CALLER);
    pending_park(pending);
    close(pair[1]);
    pendings_turn(api.pendings, clock_ms() + 2000);
    ck_assert_int_eq(went_on, 0);
    pendings_turn(api.pendings, clock_ms() + 200000);
    check_went_on(PENDING_TIMEOUT);
    pending_drop(pending);
    close(pair[0]);
}
END_TEST

START_TEST(a_stop_ends_those_that_heed_it_and_then_all_but_the_sources) {
    struct pending *heeds = begin(100000, PENDING_ENDS_AT_STOP);
    pending_park(heeds);
    pendings_stop(api.pendings, false);
    check_went_on(PENDING_STOPPING);
    pending_drop(heeds);
    went_on = ran = 0;
    struct pending *other = begin(100000, 0);
    pending_park(other);
    pendings_stop(api.pendings, false);
    ck_assert_int_eq(went_on, 0);
    pendings_stop(api.pendings, true);
    check_went_on(PENDING_STOPPING);
    pending_drop(other);
    went_on = ran = 0;
    struct pending *job = begin(0, PENDING_UNTIL_SOURCE);
    pending_park(job);
    pendings_stop(api.pendings, true);
    pendings_turn(api.pendings, clock_ms() + 5000);
    ck_assert_int_eq(went_on, 0);
    ck_assert(pending_claim(job));
    pending_resume(job);
    check_went_on(PENDING_DONE);
}
END_TEST

START_TEST(one_that_begins_while_all_stop_ends_at_the_next_turn) {
    pendings_stop(api.pendings, true);
    pendings_turn(api.pendings, clock_ms());
    struct pending *late = begin(100000, 0);
    ck_assert_int_ge(wakes, 1);
    pending_park(late);
    pendings_turn(api.pendings, clock_ms());
    check_went_on(PENDING_TIMEOUT);
    pending_drop(late);
}
END_TEST

START_TEST(beyond_the_bound_it_is_503_and_a_cancelled_one_makes_room) {
    struct pending *first = begin(1000, 0), *second = begin(1000, 0);
    ck_assert_ptr_null(begin(1000, 0));
    ck_assert_int_eq(response.status, 503);
    ck_assert_int_eq(freed, 1);
    http_response_fini(&response);
    request.pending = second;
    pending_cancel(&request, second);
    ck_assert_int_eq(freed, 2);
    second = begin(1000, 0);
    ck_assert_ptr_nonnull(second);
    request.pending = first;
    pending_cancel(&request, first);
    request.pending = second;
    pending_cancel(&request, second);
    ck_assert_int_eq(went_on, 0);
    ck_assert_int_eq(freed, 4);
}
END_TEST

START_TEST(a_sooner_deadline_wakes_the_turn_a_later_one_does_not) {
    struct pending *first = begin(500, 0);
    pendings_turn(api.pendings, clock_ms());
    wakes = 0;
    struct pending *second = begin(5000, 0);
    ck_assert_int_eq(wakes, 0);
    request.pending = second;
    pending_cancel(&request, second);
    second = begin(1, 0);
    ck_assert_int_eq(wakes, 1);
    request.pending = second;
    pending_cancel(&request, second);
    request.pending = first;
    pending_cancel(&request, first);
}
END_TEST

static atomic_bool racing;

static void *race_turn(void *argument) {
    (void)argument;
    while (atomic_load(&racing)) {
        pendings_turn(api.pendings, clock_ms());
    }
    return NULL;
}

static void *race_source(void *argument) {
    struct pending *pending = argument;
    if (pending_claim(pending)) {
        pending_resume(pending);
    } else {
        pending_drop(pending);
    }
    return NULL;
}

START_TEST(source_deadline_and_handler_race_and_it_goes_on_once) {
    pthread_t turns, source;
    racing = true;
    pthread_create(&turns, NULL, race_turn, NULL);
    for (int i = 0; i < 300; i++) {
        went_on = 0;
        struct pending *pending = begin(i % 2, 0);
        pthread_create(&source, NULL, race_source, pending);
        pending_park(pending);
        pthread_join(source, NULL);
        int64_t end_ms = clock_ms() + 5000;
        while (atomic_load(&went_on) == 0 && clock_ms() < end_ms) {
            clock_sleep_ms(0);
        }
        ck_assert_int_eq(went_on, 1);
        pending_run(ended, &request, &response);
    }
    racing = false;
    pthread_join(turns, NULL);
    ck_assert_int_eq(freed, 300);
}
END_TEST

static void *race_due(void *argument) {
    (void)argument;
    while (atomic_load(&racing)) {
        pendings_turn(api.pendings, clock_ms() + 60000);
    }
    return NULL;
}

/* What is touched after it was freed looks as if it had been parked. */
START_TEST(deadline_and_cancel_race_and_it_does_not_go_on) {
    pthread_t turns;
    mallopt(M_PERTURB, 0xff);
    racing = true;
    pthread_create(&turns, NULL, race_due, NULL);
    for (int i = 0; i < 500000; i++) {
        struct pending *pending = begin(0, 0);
        request.pending = pending;
        pending_cancel(&request, pending);
    }
    racing = false;
    pthread_join(turns, NULL);
    ck_assert_int_eq(went_on, 0);
    ck_assert_int_eq(freed, 500000);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("pending");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_loop_test(cases, the_source_ends_it_before_or_after_the_handler_has_returned, 0, 2);
    tcase_add_test(cases, when_its_time_is_over_the_source_comes_too_late);
    tcase_add_test(cases, it_ends_when_its_caller_has_gone);
    tcase_add_test(cases, one_that_counts_what_is_under_way_outlives_its_caller);
    tcase_add_test(cases, a_stop_ends_those_that_heed_it_and_then_all_but_the_sources);
    tcase_add_test(cases, one_that_begins_while_all_stop_ends_at_the_next_turn);
    tcase_add_test(cases, beyond_the_bound_it_is_503_and_a_cancelled_one_makes_room);
    tcase_add_test(cases, a_sooner_deadline_wakes_the_turn_a_later_one_does_not);
    tcase_add_test(cases, source_deadline_and_handler_race_and_it_goes_on_once);
    tcase_add_test(cases, deadline_and_cancel_race_and_it_does_not_go_on);
    return run_cases(cases, "http/pending");
}
