/* Tests of http/streams/event_stream: events that fit arrive complete and in order, others are
 * counted and reported, and a put never waits. */
#include "http/streams/event_stream.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/system/clock.h"
#include "http/http_check.h"

#define RING 256

static struct event_streams *streams;
static struct event_stream *stream;
static int sleeps, wakes;

static void on_sleep(void *connection) {
    (void)connection;
    sleeps++;
}

static void on_wake(void *connection) {
    (void)connection;
    wakes++;
}

static const struct event_stream_reader reader = {on_sleep, on_wake};

static void setup(void) {
    sleeps = wakes = 0;
    streams = event_streams_create(2);
    ck_assert_int_eq(event_stream_open(streams, RING, &stream), ERR_OK);
    event_stream_attach(stream, &reader, NULL, -1);
}

static void teardown(void) {
    event_stream_release(stream);
    event_stream_detach(stream);
    event_streams_destroy(streams);
}

static enum err put(const char *text) {
    return event_stream_put(stream, text, strlen(text));
}

/* All there is, into a static text; *end: whether the stream ended. */
static const char *drain(bool *end) {
    static char text[65536];
    ssize_t n;
    size_t len = 0;
    while ((n = event_stream_read(stream, text + len, 7)) > 0) {
        len += (size_t)n;
    }
    text[len] = '\0';
    *end = n < 0;
    return text;
}

START_TEST(what_is_put_comes_out_in_order_also_around_the_end_of_the_ring) {
    bool end;
    for (int i = 0; i < 100; i++) {
        char text[64];
        snprintf(text, sizeof(text), "data: number %d of many that go around\n\n", i);
        ck_assert_int_eq(put(text), ERR_OK);
        ck_assert_str_eq(drain(&end), text);
        ck_assert(!end);
    }
    ck_assert_int_eq(sleeps, 100);
    ck_assert_int_eq(wakes, 99);
}
END_TEST

START_TEST(what_does_not_fit_is_dropped_whole_and_told_where_it_was_missing) {
    bool end;
    char large[120];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    ck_assert_int_eq(put(large), ERR_OK);
    ck_assert_int_eq(put(large), ERR_OK);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(put(large), ERR_FULL);
    }
    const char *text = drain(&end);
    ck_assert_int_eq(strspn(text, "x"), 2 * (sizeof(large) - 1));
    ck_assert_str_eq(text + 2 * (sizeof(large) - 1), "event: dropped\ndata: {\"count\":5}\n\n");
    ck_assert_int_eq(put("after"), ERR_OK);
    ck_assert_str_eq(drain(&end), "after");
}
END_TEST

START_TEST(the_count_of_dropped_comes_before_what_is_put_later) {
    bool end;
    char large[250], some[200];
    memset(large, 'x', sizeof(large));
    ck_assert_int_eq(event_stream_put(stream, large, sizeof(large)), ERR_OK);
    ck_assert_int_eq(put("lost"), ERR_OK); /* six bytes are left */
    ck_assert_int_eq(put("lost"), ERR_FULL);
    ck_assert_int_eq(event_stream_read(stream, some, sizeof(some)), 200);
    ck_assert_int_eq(put("later"), ERR_OK);
    const char *text = drain(&end);
    ck_assert_ptr_nonnull(strstr(text, "{\"count\":1}\n\nlater"));
}
END_TEST

START_TEST(an_ended_stream_gives_what_is_left_and_takes_no_more) {
    bool end;
    ck_assert_int_eq(put("last"), ERR_OK);
    event_stream_end(stream);
    ck_assert(event_stream_is_ended(stream));
    ck_assert_int_eq(put("more"), ERR_WRONG_STATE);
    ck_assert_str_eq(drain(&end), "last");
    ck_assert(end);
}
END_TEST

START_TEST(the_end_wakes_a_sleeping_connection) {
    bool end;
    drain(&end);
    ck_assert_int_eq(wakes, 0);
    event_streams_close(streams);
    ck_assert_int_eq(wakes, 1);
    drain(&end);
    ck_assert(end);
    ck_assert_int_eq(sleeps, 1);
    struct event_stream *late;
    ck_assert_int_eq(event_stream_open(streams, RING, &late), ERR_WRONG_STATE);
}
END_TEST

START_TEST(there_are_never_more_streams_than_allowed) {
    struct event_stream *second, *third;
    ck_assert_int_eq(event_stream_open(streams, RING, &second), ERR_OK);
    ck_assert_int_eq(event_stream_open(streams, RING, &third), ERR_FULL);
    event_stream_detach(second);
    ck_assert(event_stream_is_ended(second));
    ck_assert_int_eq(event_stream_open(streams, RING, &third), ERR_OK);
    event_stream_release(second);
    event_stream_release(third);
    event_stream_detach(third);
}
END_TEST

START_TEST(a_silent_stream_says_that_it_lives_and_notices_a_peer_that_left) {
    bool end;
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    event_stream_attach(stream, &reader, NULL, pair[0]);
    drain(&end);
    event_streams_tick(streams);
    ck_assert_str_eq(drain(&end), "");
    clock_advance_ms(15000);
    event_streams_tick(streams);
    ck_assert_str_eq(drain(&end), ": keep-alive\n\n");
    event_streams_tick(streams);
    ck_assert_str_eq(drain(&end), "");
    close(pair[1]);
    event_streams_tick(streams);
    ck_assert(event_stream_is_ended(stream));
    close(pair[0]);
}
END_TEST

#define PUTTERS 3
#define PUTS    20000

static void *put_many(void *argument) {
    size_t *taken = argument;
    for (int i = 0; i < PUTS; i++) {
        *taken += put("event: x\n\n") == ERR_OK;
    }
    return NULL;
}

START_TEST(every_event_of_many_threads_is_read_or_counted) {
    pthread_t ids[PUTTERS];
    size_t taken[PUTTERS] = {0}, read = 0, dropped = 0, sum = 0;
    struct buffer all;
    buffer_init(&all);
    for (int i = 0; i < PUTTERS; i++) {
        pthread_create(&ids[i], NULL, put_many, &taken[i]);
    }
    char part[64];
    for (int i = 0; i < 200000 && read + dropped < (size_t)PUTTERS * PUTS; i++) {
        ssize_t n = event_stream_read(stream, part, sizeof(part));
        buffer_append(&all, part, n > 0 ? (size_t)n : 0);
    }
    for (int i = 0; i < PUTTERS; i++) {
        pthread_join(ids[i], NULL);
        sum += taken[i];
    }
    for (ssize_t n; (n = event_stream_read(stream, part, sizeof(part))) > 0;) {
        buffer_append(&all, part, (size_t)n);
    }
    for (const char *at = all.data; (at = strstr(at, "event: ")); at++) {
        read += strncmp(at, "event: x\n\n", 10) == 0;
        dropped +=
            strncmp(at, "event: dropped", 14) == 0 ? (size_t)atol(strstr(at, "count\":") + 7) : 0;
    }
    ck_assert_int_eq(read, sum);
    ck_assert_int_eq(read + dropped, (size_t)PUTTERS * PUTS);
    buffer_fini(&all);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("event_stream");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, what_is_put_comes_out_in_order_also_around_the_end_of_the_ring);
    tcase_add_test(cases, what_does_not_fit_is_dropped_whole_and_told_where_it_was_missing);
    tcase_add_test(cases, the_count_of_dropped_comes_before_what_is_put_later);
    tcase_add_test(cases, an_ended_stream_gives_what_is_left_and_takes_no_more);
    tcase_add_test(cases, the_end_wakes_a_sleeping_connection);
    tcase_add_test(cases, there_are_never_more_streams_than_allowed);
    tcase_add_test(cases, a_silent_stream_says_that_it_lives_and_notices_a_peer_that_left);
    tcase_add_test(cases, every_event_of_many_threads_is_read_or_counted);
    return run_cases(cases, "event_stream");
}
