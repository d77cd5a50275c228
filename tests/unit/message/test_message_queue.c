/* The queue between engines and a sink: bounds, room, batches, the end. tests/unit/sink tests the
 * use by sinks. */
#include "message/message_queue.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/system/clock.h"

#define WAIT_MS   20000
#define TAKEN_MAX 64
#define ROOM      1000

static bool ALL[TAKEN_MAX]; /* true */

static struct message_queue *queue;
static struct receipts receipts;

static void setup(void) {
    memset(ALL, true, sizeof ALL);
    queue = message_queue_create(8, 100000, 4);
    ck_assert_ptr_nonnull(queue);
    ck_assert(receipts_init(&receipts));
}

/* Returns how many there were. */
static size_t take(size_t most) {
    struct message *batch[TAKEN_MAX];
    struct message_queue_entry entries[TAKEN_MAX];
    size_t n = message_queue_peek(queue, batch, most, SIZE_MAX, 0);
    message_queue_take(queue, ALL, entries, n);
    for (size_t i = 0; i < n; i++) {
        message_destroy(entries[i].message);
    }
    return n;
}

static void drain(void) {
    while (take(TAKEN_MAX) > 0) {
    }
}

static void teardown(void) {
    drain();
    message_queue_destroy(queue);
    receipts_fini(&receipts);
}

static struct message *message_of(uint8_t qos, size_t payload_len) {
    uint8_t *payload = calloc(1, payload_len + 1);
    struct message *message = message_create(&(struct message){.id = "i",
                                                               .client_id = "c",
                                                               .topic = "t",
                                                               .payload = payload,
                                                               .payload_len = payload_len,
                                                               .qos = qos});
    ck_assert_ptr_nonnull(message);
    free(payload);
    return message;
}

static void must_put(uint8_t qos) {
    ck_assert_int_eq(message_queue_put(queue, NULL, message_of(qos, 10), NULL), ERR_OK);
}

static struct message *numbered(int number) {
    uint8_t payload = (uint8_t)number;
    struct message from = {
        .id = "i", .client_id = "c", .topic = "t", .payload = &payload, .payload_len = 1, .qos = 1};
    return message_create(&from);
}

START_TEST(a_batch_stays_until_it_is_taken_and_keeps_its_receipts) {
    struct message *batch[8];
    struct message_queue_entry entries[8];
    struct message_queue_status status;
    struct receipt mine[2] = {{.owner = &receipts}, {.owner = &receipts}};
    struct message *first = message_of(1, 10), *second = message_of(2, 10);
    ck_assert_int_eq(message_queue_put(queue, NULL, first, &mine[0]), ERR_OK);
    ck_assert_int_eq(message_queue_put(queue, NULL, second, &mine[1]), ERR_OK);
    ck_assert_uint_eq(message_queue_peek(queue, batch, 1, SIZE_MAX, 0), 1);
    ck_assert_uint_eq(message_queue_peek(queue, batch, 8, SIZE_MAX, 0), 2);
    ck_assert(batch[0] == first && batch[1] == second);
    message_queue_get_status(queue, &status);
    ck_assert_uint_eq(status.messages, 2);
    message_queue_take(queue, ALL, entries, 2);
    ck_assert(entries[0].message == first && entries[0].receipt == &mine[0]);
    ck_assert(entries[1].message == second && entries[1].receipt == &mine[1]);
    message_queue_get_status(queue, &status);
    ck_assert_uint_eq(status.messages, 0);
    ck_assert_uint_eq(status.bytes, 0);
    message_destroy(first);
    message_destroy(second);
}
END_TEST

START_TEST(a_batch_ends_once_it_has_its_bytes) {
    struct message *batch[8];
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(message_queue_put(queue, NULL, message_of(1, 1000), NULL), ERR_OK);
    }
    ck_assert_uint_eq(message_queue_peek(queue, batch, 8, 2000, 0), 2);
}
END_TEST

START_TEST(room_is_there_again_after_a_single_departure) {
    struct message *batch[1];
    struct message_queue_entry entry;
    for (int i = 0; i < 8; i++) {
        must_put(1);
    }
    struct message *held = message_of(1, 10);
    ck_assert_int_eq(message_queue_put(queue, NULL, held, NULL), ERR_FULL);
    ck_assert(!message_queue_has_room(queue, NULL));
    ck_assert_uint_eq(message_queue_peek(queue, batch, 1, SIZE_MAX, 0), 1);
    ck_assert(!message_queue_has_room(queue, NULL));
    message_queue_take(queue, ALL, &entry, 1);
    ck_assert(message_queue_has_room(queue, NULL));
    ck_assert_int_eq(message_queue_put(queue, NULL, held, NULL), ERR_OK);
    message_destroy(entry.message);
}
END_TEST

START_TEST(the_last_eighth_is_not_for_qos_0) {
    struct message_queue_status status;
    for (int i = 0; i < 7; i++) {
        must_put(0);
    }
    ck_assert_int_eq(message_queue_put(queue, NULL, message_of(0, 10), NULL), ERR_REFUSED);
    must_put(2);
    message_queue_get_status(queue, &status);
    ck_assert_int_eq(status.dropped, 1);
}
END_TEST

START_TEST(a_closed_queue_takes_nothing_and_gives_what_it_has) {
    struct message *batch[8];
    struct message *late = message_of(1, 10);
    must_put(1);
    message_queue_close(queue);
    ck_assert_int_eq(message_queue_put(queue, NULL, late, NULL), ERR_WRONG_STATE);
    ck_assert(
        message_queue_has_room(queue, NULL)); /* callers that wait for room must be notified */
    ck_assert_uint_eq(message_queue_peek(queue, batch, 8, SIZE_MAX, -1), 1);
    ck_assert(!message_queue_is_over(queue));
    drain();
    ck_assert_uint_eq(message_queue_peek(queue, batch, 8, SIZE_MAX, -1), 0);
    ck_assert(message_queue_is_over(queue));
    message_destroy(late);
}
END_TEST

static void *peek_one(void *context) {
    struct message *batch[8];
    *(size_t *)context = message_queue_peek(queue, batch, 8, SIZE_MAX, WAIT_MS);
    return NULL;
}

/* By the flush, by a full batch without it (4), or by the end. */
START_TEST(a_thread_that_waits_is_woken) {
    static const int puts[] = {1, 4, 0};
    pthread_t thread;
    size_t seen = 99;
    int64_t begin_ms = clock_ms();
    ck_assert_int_eq(pthread_create(&thread, NULL, peek_one, &seen), 0);
    clock_sleep_ms(20); /* the thread most likely sleeps now; otherwise this tests nothing */
    for (int i = 0; i < puts[_i]; i++) {
        must_put(1);
    }
    if (_i == 0) {
        message_queue_flush(queue);
    } else if (_i == 2) {
        message_queue_close(queue);
    }
    pthread_join(thread, NULL);
    ck_assert_int_lt(clock_ms() - begin_ms, WAIT_MS / 2);
    ck_assert(_i == 2 ? seen == 0 : seen > 0);
}
END_TEST

/* The rest of a batch keeps its order, and comes before what was put later. */
START_TEST(what_stays_of_a_batch_is_still_the_oldest_and_in_order) {
    static const bool leaves[] = {true, false, true, false, false, true};
    struct message *batch[8];
    struct message_queue_entry out[8];
    for (int round = 0; round < 3; round++) { /* beyond the end of the ring */
        for (int i = 0; i < 6; i++) {
            ck_assert_int_eq(message_queue_put(queue, NULL, numbered(i), NULL), ERR_OK);
        }
        ck_assert_uint_eq(message_queue_peek(queue, batch, 8, SIZE_MAX, 0), 6);
        ck_assert_int_eq(message_queue_put(queue, NULL, numbered(6), NULL), ERR_OK);
        ck_assert_uint_eq(message_queue_take(queue, leaves, out, 6), 3);
        static const int left[] = {0, 2, 5};
        for (int i = 0; i < 3; i++) {
            ck_assert_int_eq(*out[i].message->payload, left[i]);
            message_destroy(out[i].message);
        }
        static const int stayed[] = {1, 3, 4, 6};
        ck_assert_uint_eq(message_queue_peek(queue, batch, 8, SIZE_MAX, 0), 4);
        for (int i = 0; i < 4; i++) {
            ck_assert_int_eq(*batch[i]->payload, stayed[i]);
        }
        drain();
    }
}
END_TEST

/* ---- shares ---- */

static struct message_queue_share shares[16];

static void setup_shares(void) {
    memset(ALL, true, sizeof ALL);
    queue = message_queue_create(ROOM, ROOM * 1000, ROOM);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        shares[i] = (struct message_queue_share){0};
    }
    ck_assert(receipts_init(&receipts));
}

static enum err put(struct message_queue_share *share, uint8_t qos, size_t payload_len) {
    struct message *message = message_of(qos, payload_len);
    enum err err = message_queue_put(queue, share, message, NULL);
    if (err == ERR_FULL || err == ERR_WRONG_STATE) {
        message_destroy(message);
    }
    return err;
}

/* How many messages are taken until one is not. */
static int put_all(struct message_queue_share *share, uint8_t qos, size_t payload_len) {
    int n = 0;
    while (put(share, qos, payload_len) == ERR_OK) {
        n++;
    }
    return n;
}

START_TEST(a_client_alone_gets_four_fifths_in_messages_or_in_bytes) {
    struct message *one = message_of(1, 10000);
    ck_assert_int_eq(put_all(&shares[0], 1, 10), ROOM * 4 / 5);
    drain();
    int most = (int)(ROOM * 1000 * 4 / 5 / one->size);
    int n = put_all(&shares[0], 1, 10000);
    ck_assert_int_ge(n, most);
    ck_assert_int_le(n, most + 1);
    drain();
    ck_assert_int_eq(put_all(&shares[0], 0, 10), ROOM * 7 / 8 * 4 / 5);
    message_destroy(one);
}
END_TEST

/* In turn, as far as each of them comes. */
START_TEST(greedy_clients_get_equal_shares_and_leave_room) {
    int counts[10] = {0};
    for (int round = 0; round < ROOM; round++) {
        for (int i = 0; i < 10; i++) {
            counts[i] += put(&shares[i], 1, 10) == ERR_OK;
        }
    }
    for (int i = 0; i < 10; i++) {
        ck_assert_int_ge(counts[i], ROOM * 4 / 41 - 1);
        ck_assert_int_le(counts[i], ROOM * 4 / 41 + 2);
    }
    ck_assert_int_ge(put_all(&shares[10], 1, 10), ROOM / 41 / 2);
}
END_TEST

START_TEST(a_quiet_client_loses_nothing_beside_a_greedy_one_in_a_queue_that_stands) {
    struct message_queue_status status;
    for (int i = 0; i < 80; i++) {
        put_all(&shares[0], 0, 10);
        ck_assert_int_eq(put(&shares[1], 0, 10), ERR_OK);
    }
    ck_assert_int_eq(put(&shares[0], 0, 10), ERR_BUSY);
    message_queue_get_status(queue, &status);
    ck_assert_int_eq(status.dropped, 81);
    ck_assert_int_eq(status.dropped_over_share, 81);
}
END_TEST

START_TEST(a_client_beyond_its_share_has_room_when_there_is_and_others_have_it_before) {
    struct message_queue_share *greedy = &shares[0], *quiet = &shares[1];
    put_all(greedy, 1, 10);
    ck_assert(!message_queue_has_room(queue, greedy));
    ck_assert(message_queue_has_room(queue, quiet));
    ck_assert_uint_eq(take(1), 1);
    ck_assert(message_queue_has_room(queue, greedy));
    ck_assert_int_eq(put(greedy, 1, 10), ERR_OK);
    ck_assert_int_eq(put(greedy, 1, 10), ERR_FULL);
    drain();
    ck_assert_int_eq(put_all(greedy, 1, 10), ROOM * 4 / 5); /* what has left counts no more */
}
END_TEST

/* The room that a greedy client frees is for those who have less. */
START_TEST(room_for_a_client_depends_on_what_others_have_too) {
    put_all(&shares[0], 1, 10);
    put_all(&shares[1], 1, 10);
    int left = 0;
    while (!message_queue_has_room(queue, &shares[0])) {
        left += (int)take(1);
    }
    ck_assert_int_gt(left, 1);
    ck_assert_int_eq(put(&shares[0], 1, 10), ERR_OK);
}
END_TEST

START_TEST(room_is_asked_for_the_message_that_was_not_taken) {
    ck_assert_int_eq(put(&shares[0], 1, 500000), ERR_OK);
    ck_assert_int_eq(put(&shares[1], 1, 600000), ERR_FULL);
    ck_assert(!message_queue_has_room(queue, &shares[1]));
    ck_assert(message_queue_has_room(queue, &shares[2]));
    ck_assert_int_eq(put(&shares[1], 1, 10), ERR_OK);
    ck_assert(message_queue_has_room(queue, &shares[1]));
    drain();
    ck_assert_int_eq(put(&shares[1], 1, 2 * ROOM * 1000), ERR_OK); /* the queue is empty */
}
END_TEST

/* A new client may get the memory of one that is gone. */
START_TEST(a_client_may_go_while_its_messages_are_queued) {
    put_all(&shares[0], 1, 10);
    shares[0] = (struct message_queue_share){0};
    int n = put_all(&shares[0], 1, 10);
    ck_assert_int_gt(n, ROOM / 5 / 2);
    ck_assert_int_lt(n, ROOM / 5);
    drain();
    ck_assert_int_eq(put_all(&shares[0], 1, 10), ROOM * 4 / 5);
}
END_TEST

START_TEST(more_clients_than_the_queue_has_places_may_come_and_go) {
    for (int i = 0; i < 3 * ROOM; i++) {
        struct message_queue_share share = {0};
        ck_assert_int_eq(put(&share, 1, 10), ERR_OK);
        take(1);
    }
}
END_TEST

/* Of a share of another queue, or whose messages have left while others came. */
START_TEST(a_share_that_is_out_of_date_counts_for_nobody) {
    struct message_queue *other = message_queue_create(ROOM, ROOM * 1000, ROOM);
    struct message_queue *first = queue;
    ck_assert_int_eq(put(&shares[0], 1, 10), ERR_OK);
    struct message_queue_share before = {.key = shares[0].key};
    queue = other;
    ck_assert_int_eq(put(&shares[1], 1, 10), ERR_OK);
    put_all(&shares[1], 1, 10);
    ck_assert(message_queue_has_room(queue, &before));
    drain();
    message_queue_destroy(other);
    queue = first;
    drain();
    put_all(&shares[2], 1, 10); /* in the slot that was the first one's */
    ck_assert(message_queue_has_room(queue, &before));
    ck_assert_int_eq(put(&before, 1, 10), ERR_OK);
    ck_assert(before.key != shares[2].key);
}
END_TEST

static void *put_many(void *context) {
    struct message_queue_share *share = context;
    for (int i = 0; i < 20000; i++) {
        (void)put(share, (uint8_t)(i % 3), 10);
        (void)message_queue_has_room(queue, share);
    }
    return NULL;
}

/* ThreadSanitizer judges, and the asserts of the queue. */
START_TEST(clients_of_several_threads_put_while_the_sink_takes) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, put_many, &shares[i]), 0);
    }
    for (int i = 0; i < 2000; i++) {
        take(50);
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    drain();
    ck_assert_int_eq(put_all(&shares[0], 1, 10), ROOM * 4 / 5);
}
END_TEST

static size_t messages_in(struct message_queue *some_queue) {
    struct message_queue_status status;
    message_queue_get_status(some_queue, &status);
    return status.messages;
}

static void drain_other(struct message_queue *other) {
    struct message_queue *kept = queue;
    queue = other;
    drain();
    queue = kept;
}

START_TEST(several_queues_take_a_message_all_or_none) {
    struct message_queue *small = message_queue_create(2, 100000, 1);
    struct receipt receipt = {.owner = &receipts};
    struct message *message = message_of(1, 10);
    size_t full = 7;
    for (int i = 0; i < 3; i++) {
        struct message_delivery both[] = {{.queue = queue, .message = message_retain(message)},
                                          {.queue = small, .message = message_retain(message)}};
        receipt_expect(&receipt, 2);
        enum err err = message_queue_put_all(both, 2, &receipt, &full);
        ck_assert_int_eq(err, i < 2 ? ERR_OK : ERR_FULL);
        if (err != ERR_OK) {
            ck_assert_ptr_eq(both[full].queue, small);
            message_destroy(message);
            message_destroy(message);
        }
    }
    ck_assert_uint_eq(messages_in(queue), 2);
    ck_assert_uint_eq(messages_in(small), 2);
    message_queue_close(small);
    struct message_delivery both[] = {{.queue = small, .message = message},
                                      {.queue = queue, .message = message}};
    ck_assert_int_eq(message_queue_put_all(both, 2, &receipt, &full), ERR_WRONG_STATE);
    ck_assert_uint_eq(messages_in(queue), 2);
    drain_other(small);
    drain();
    ck_assert_uint_eq(message->references, 1);
    message_destroy(message);
    message_queue_destroy(small);
}
END_TEST

/* Else they would wait for ever. */
START_TEST(messages_of_one_that_exceed_an_empty_queue_are_taken) {
    struct message_queue *small = message_queue_create(2, 1000, 1);
    struct message_delivery deliveries[40];
    struct message_queue_entry entries[40];
    struct message *batch[40];
    bool leaves[40];
    size_t full;
    for (int i = 0; i < 40; i++) {
        deliveries[i] = (struct message_delivery){.queue = small, .message = numbered(i)};
    }
    ck_assert_int_eq(message_queue_put_all(deliveries, 40, NULL, &full), ERR_OK);
    struct message *next = numbered(0);
    ck_assert_int_eq(message_queue_put(small, NULL, next, NULL), ERR_FULL);
    message_destroy(next);
    ck_assert_uint_eq(message_queue_peek(small, batch, 40, SIZE_MAX, 0), 40);
    for (int i = 0; i < 40; i++) {
        ck_assert_int_eq(*batch[i]->payload, i);
        leaves[i] = true;
    }
    ck_assert_uint_eq(message_queue_take(small, leaves, entries, 40), 40);
    for (int i = 0; i < 40; i++) {
        message_destroy(entries[i].message);
    }
    message_queue_destroy(small);
}
END_TEST

START_TEST(several_messages_for_one_queue_count_together_and_keep_their_order) {
    struct message_queue_share share = {0};
    struct message_delivery deliveries[9];
    struct message *batch[9];
    size_t full;
    for (int i = 0; i < 9; i++) {
        deliveries[i] =
            (struct message_delivery){.queue = queue, .share = &share, .message = numbered(i)};
    }
    must_put(1);
    ck_assert_int_eq(message_queue_put_all(deliveries, 9, NULL, &full), ERR_FULL);
    ck_assert_uint_eq(messages_in(queue), 1);
    drain();
    ck_assert_int_eq(message_queue_put_all(deliveries, 6, NULL, &full), ERR_OK);
    ck_assert_uint_eq(message_queue_peek(queue, batch, 9, SIZE_MAX, 0), 6);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(*batch[i]->payload, i);
    }
    for (int i = 6; i < 9; i++) {
        message_destroy(deliveries[i].message);
    }
    drain(); /* and with the messages, the count of the client leaves */
    must_put(1);
    ck_assert_int_eq(message_queue_put(queue, &share, numbered(0), NULL), ERR_OK);
}
END_TEST

static struct message_queue *pair[2];

static void *put_into_both(void *argument) {
    int turn = *(int *)argument;
    for (int i = 0; i < 2000; i++) {
        struct message *message = message_of(1, 10);
        struct message_delivery both[] = {{.queue = pair[turn], .message = message_retain(message)},
                                          {.queue = pair[1 - turn], .message = message}};
        size_t full;
        while (message_queue_put_all(both, 2, NULL, &full) == ERR_FULL) {
            usleep(10);
        }
    }
    return NULL;
}

/* Two threads that name the queues in another order; sinks that take meanwhile. */
START_TEST(threads_that_put_into_the_same_queues_do_not_block_each_other) {
    pthread_t threads[2];
    int turns[] = {0, 1};
    size_t taken[2] = {0, 0};
    pair[0] = queue;
    pair[1] = message_queue_create(8, 100000, 4);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, put_into_both, &turns[i]), 0);
    }
    int64_t end_ms = clock_ms() + WAIT_MS;
    while (taken[0] + taken[1] < 8000 && clock_ms() < end_ms) {
        for (int i = 0; i < 2; i++) {
            queue = pair[i];
            taken[i] += take(TAKEN_MAX);
        }
    }
    ck_assert_uint_eq(taken[0], 4000);
    ck_assert_uint_eq(taken[1], 4000);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    queue = pair[0];
    message_queue_destroy(pair[1]);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("message_queue");
    TCase *fair = tcase_create("shares");
    tcase_add_checked_fixture(fair, setup_shares, teardown);
    tcase_add_test(fair, a_client_alone_gets_four_fifths_in_messages_or_in_bytes);
    tcase_add_test(fair, greedy_clients_get_equal_shares_and_leave_room);
    tcase_add_test(fair, a_quiet_client_loses_nothing_beside_a_greedy_one_in_a_queue_that_stands);
    tcase_add_test(fair,
                   a_client_beyond_its_share_has_room_when_there_is_and_others_have_it_before);
    tcase_add_test(fair, room_for_a_client_depends_on_what_others_have_too);
    tcase_add_test(fair, room_is_asked_for_the_message_that_was_not_taken);
    tcase_add_test(fair, a_client_may_go_while_its_messages_are_queued);
    tcase_add_test(fair, more_clients_than_the_queue_has_places_may_come_and_go);
    tcase_add_test(fair, a_share_that_is_out_of_date_counts_for_nobody);
    tcase_add_test(fair, clients_of_several_threads_put_while_the_sink_takes);
    suite_add_tcase(suite, fair);
    TCase *tcase = tcase_create("message_queue");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_stays_of_a_batch_is_still_the_oldest_and_in_order);
    tcase_add_test(tcase, a_batch_stays_until_it_is_taken_and_keeps_its_receipts);
    tcase_add_test(tcase, a_batch_ends_once_it_has_its_bytes);
    tcase_add_test(tcase, room_is_there_again_after_a_single_departure);
    tcase_add_test(tcase, the_last_eighth_is_not_for_qos_0);
    tcase_add_test(tcase, a_closed_queue_takes_nothing_and_gives_what_it_has);
    tcase_add_loop_test(tcase, a_thread_that_waits_is_woken, 0, 3);
    tcase_add_test(tcase, several_queues_take_a_message_all_or_none);
    tcase_add_test(tcase, messages_of_one_that_exceed_an_empty_queue_are_taken);
    tcase_add_test(tcase, several_messages_for_one_queue_count_together_and_keep_their_order);
    tcase_add_test(tcase, threads_that_put_into_the_same_queues_do_not_block_each_other);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
