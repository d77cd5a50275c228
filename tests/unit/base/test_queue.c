/* Tests of base/queue: order, bounds, waiting, the eventfd, closing, many threads. */
#include "base/queue.h"

#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/system/clock.h"

#define PRODUCERS          4
#define CONSUMERS          3
#define ITEMS_PER_PRODUCER 5000

static bool is_readable(struct queue *queue) {
    struct pollfd descriptor = {.fd = queue_fd(queue), .events = POLLIN};
    return poll(&descriptor, 1, 0) == 1;
}

START_TEST(items_leave_in_the_order_they_came) {
    struct queue *queue = queue_create(3);
    int items[10];
    void *out = NULL;
    for (size_t i = 0; i < 10; i++) { /* more than the capacity: the ring wraps around */
        ck_assert_int_eq(queue_push(queue, &items[i]), ERR_OK);
        if (i >= 1) {
            ck_assert_int_eq(queue_pop(queue, &out, 0), ERR_OK);
            ck_assert_ptr_eq(out, &items[i - 1]);
        }
    }
    ck_assert_uint_eq(queue_len(queue), 1);
    queue_destroy(queue);
    queue_destroy(NULL);
}
END_TEST

START_TEST(a_full_queue_refuses_at_once_and_keeps_what_it_has) {
    struct queue *queue = queue_create(2);
    int items[3];
    void *out = NULL;
    ck_assert_int_eq(queue_push(queue, &items[0]), ERR_OK);
    ck_assert_int_eq(queue_push(queue, &items[1]), ERR_OK);
    ck_assert_int_eq(queue_push(queue, &items[2]), ERR_FULL);
    ck_assert_uint_eq(queue_len(queue), 2);
    ck_assert_int_eq(queue_pop(queue, &out, 0), ERR_OK);
    ck_assert_ptr_eq(out, &items[0]);
    ck_assert_int_eq(queue_push(queue, &items[2]), ERR_OK);
    queue_destroy(queue);
}
END_TEST

START_TEST(an_empty_queue_times_out_not_before_its_time) {
    struct queue *queue = queue_create(1);
    void *out = &out;
    ck_assert_int_eq(queue_pop(queue, &out, 0), ERR_TIMEOUT);
    ck_assert_ptr_null(out);
    int64_t start = clock_us();
    ck_assert_int_eq(queue_pop(queue, &out, 30), ERR_TIMEOUT);
    ck_assert_int_ge(clock_us() - start, 29000);
    queue_destroy(queue);
}
END_TEST

START_TEST(the_descriptor_is_readable_while_something_is_queued) {
    struct queue *queue = queue_create(4);
    int item;
    void *out;
    ck_assert(!is_readable(queue));
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(queue_push(queue, &item), ERR_OK);
        ck_assert_int_eq(queue_push(queue, &item), ERR_OK);
        ck_assert(is_readable(queue));
        ck_assert_int_eq(queue_pop(queue, &out, 0), ERR_OK);
        ck_assert(is_readable(queue));
        ck_assert_int_eq(queue_pop(queue, &out, 0), ERR_OK);
        ck_assert(!is_readable(queue));
    }
    queue_destroy(queue);
}
END_TEST

START_TEST(a_closed_queue_gives_what_is_left_and_takes_no_more) {
    struct queue *queue = queue_create(4);
    int item;
    void *out;
    ck_assert_int_eq(queue_push(queue, &item), ERR_OK);
    queue_close(queue);
    queue_close(queue);
    ck_assert_int_eq(queue_push(queue, &item), ERR_WRONG_STATE);
    ck_assert_int_eq(queue_pop(queue, &out, 1000), ERR_OK);
    ck_assert_ptr_eq(out, &item);
    ck_assert_int_eq(queue_pop(queue, &out, 1000), ERR_WRONG_STATE);
    ck_assert(is_readable(queue)); /* a consumer that polls also notices the end */
    queue_destroy(queue);
}
END_TEST

struct waiter {
    struct queue *queue;
    pthread_t thread;
    _Atomic int id; /* of the kernel, 0: not started */
    enum err result;
};

static void *wait_for_end(void *argument) {
    struct waiter *waiter = argument;
    void *out = NULL;
    atomic_store(&waiter->id, gettid());
    waiter->result = queue_pop(waiter->queue, &out, INT64_MAX);
    return NULL;
}

/* The kernel reports whether a thread sleeps: the state follows its name in parentheses. */
static bool is_asleep(struct waiter *waiter) {
    char path[64];
    char line[256] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", atomic_load(&waiter->id));
    FILE *file = fopen(path, "r");
    if (!file) {
        return false;
    }
    char *end = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
    fclose(file);
    return end && end[2] == 'S';
}

START_TEST(closing_wakes_every_waiting_consumer) {
    struct waiter waiters[CONSUMERS] = {0};
    struct queue *queue = queue_create(1);
    for (int i = 0; i < CONSUMERS; i++) {
        waiters[i].queue = queue;
        ck_assert_int_eq(pthread_create(&waiters[i].thread, NULL, wait_for_end, &waiters[i]), 0);
    }
    for (int i = 0; i < CONSUMERS;) { /* bounded by the limit of the test */
        i = is_asleep(&waiters[i]) ? i + 1 : i;
        sched_yield();
    }
    queue_close(queue);
    for (int i = 0; i < CONSUMERS; i++) {
        pthread_join(waiters[i].thread, NULL);
        ck_assert_int_eq(waiters[i].result, ERR_WRONG_STATE);
    }
    queue_destroy(queue);
}
END_TEST

struct connection_limit {
    struct queue *queue;
    _Atomic int taken[PRODUCERS * ITEMS_PER_PRODUCER];
    _Atomic int next_producer;
};

static void *produce(void *argument) {
    struct connection_limit *limit = argument;
    int first = atomic_fetch_add(&limit->next_producer, 1) * ITEMS_PER_PRODUCER;
    for (int i = 0; i < ITEMS_PER_PRODUCER;) {
        if (queue_push(limit->queue, &limit->taken[first + i]) == ERR_OK) {
            i++;
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void *consume(void *argument) {
    struct connection_limit *limit = argument;
    void *item;
    while (queue_pop(limit->queue, &item, 10000) == ERR_OK) {
        atomic_fetch_add((_Atomic int *)item, 1);
    }
    return NULL;
}

START_TEST(every_item_reaches_exactly_one_of_many_consumers) {
    static struct connection_limit limit;
    limit.queue = queue_create(16);
    pthread_t producers[PRODUCERS];
    pthread_t consumers[CONSUMERS];
    for (int i = 0; i < CONSUMERS; i++) {
        ck_assert_int_eq(pthread_create(&consumers[i], NULL, consume, &limit), 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        ck_assert_int_eq(pthread_create(&producers[i], NULL, produce, &limit), 0);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(producers[i], NULL);
    }
    queue_close(limit.queue);
    for (int i = 0; i < CONSUMERS; i++) {
        pthread_join(consumers[i], NULL);
    }
    for (int i = 0; i < PRODUCERS * ITEMS_PER_PRODUCER; i++) {
        ck_assert_int_eq(atomic_load(&limit.taken[i]), 1);
    }
    queue_destroy(limit.queue);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("queue");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, items_leave_in_the_order_they_came);
    tcase_add_test(cases, a_full_queue_refuses_at_once_and_keeps_what_it_has);
    tcase_add_test(cases, an_empty_queue_times_out_not_before_its_time);
    tcase_add_test(cases, the_descriptor_is_readable_while_something_is_queued);
    tcase_add_test(cases, a_closed_queue_gives_what_is_left_and_takes_no_more);
    tcase_add_test(cases, closing_wakes_every_waiting_consumer);
    tcase_add_test(cases, every_item_reaches_exactly_one_of_many_consumers);
    Suite *suite = suite_create("queue");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
