/* The queue between engines and a sink: bounds, room, batches, the end. tests/unit/sink tests the
 * use by sinks. */
#include "message/message_queue.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include "base/system/clock.h"

#define WAIT_MS 20000

static const bool ALL[8] = {true, true, true, true, true, true, true, true};

static struct message_queue *queue;
static struct receipts receipts;

static void setup(void) {
    queue = message_queue_create(8, 100000, 4);
    ck_assert_ptr_nonnull(queue);
    ck_assert(receipts_init(&receipts));
}

static void drain(void) {
    struct message *batch[8];
    struct message_queue_entry entries[8];
    size_t n = message_queue_peek(queue, batch, 8, SIZE_MAX, 0);
    message_queue_take(queue, ALL, entries, n);
    for (size_t i = 0; i < n; i++) {
        message_destroy(entries[i].message);
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
    ck_assert_int_eq(message_queue_put(queue, message_of(qos, 10), NULL), ERR_OK);
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
    ck_assert_int_eq(message_queue_put(queue, first, &mine[0]), ERR_OK);
    ck_assert_int_eq(message_queue_put(queue, second, &mine[1]), ERR_OK);
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
        ck_assert_int_eq(message_queue_put(queue, message_of(1, 1000), NULL), ERR_OK);
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
    ck_assert(message_queue_has_room(queue)); /* nothing was refused yet */
    struct message *held = message_of(1, 10);
    ck_assert_int_eq(message_queue_put(queue, held, NULL), ERR_FULL);
    ck_assert(!message_queue_has_room(queue));
    ck_assert_uint_eq(message_queue_peek(queue, batch, 1, SIZE_MAX, 0), 1);
    ck_assert(!message_queue_has_room(queue));
    message_queue_take(queue, ALL, &entry, 1);
    ck_assert(message_queue_has_room(queue));
    ck_assert_int_eq(message_queue_put(queue, held, NULL), ERR_OK);
    message_destroy(entry.message);
}
END_TEST

START_TEST(the_last_eighth_is_not_for_qos_0) {
    struct message_queue_status status;
    for (int i = 0; i < 7; i++) {
        must_put(0);
    }
    ck_assert_int_eq(message_queue_put(queue, message_of(0, 10), NULL), ERR_REFUSED);
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
    ck_assert_int_eq(message_queue_put(queue, late, NULL), ERR_WRONG_STATE);
    ck_assert(message_queue_has_room(queue)); /* callers that wait for room must be notified */
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
            ck_assert_int_eq(message_queue_put(queue, numbered(i), NULL), ERR_OK);
        }
        ck_assert_uint_eq(message_queue_peek(queue, batch, 8, SIZE_MAX, 0), 6);
        ck_assert_int_eq(message_queue_put(queue, numbered(6), NULL), ERR_OK);
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

int main(void) {
    Suite *suite = suite_create("message_queue");
    TCase *tcase = tcase_create("message_queue");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_stays_of_a_batch_is_still_the_oldest_and_in_order);
    tcase_add_test(tcase, a_batch_stays_until_it_is_taken_and_keeps_its_receipts);
    tcase_add_test(tcase, a_batch_ends_once_it_has_its_bytes);
    tcase_add_test(tcase, room_is_there_again_after_a_single_departure);
    tcase_add_test(tcase, the_last_eighth_is_not_for_qos_0);
    tcase_add_test(tcase, a_closed_queue_takes_nothing_and_gives_what_it_has);
    tcase_add_loop_test(tcase, a_thread_that_waits_is_woken, 0, 3);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
