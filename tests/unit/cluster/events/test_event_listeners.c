/* Tests of the listeners that first get kept events: with a real Redis, and a listener that notes
 * what it got. Also of the budget of kept events. */
#include "cluster/events/event_budget.h"
#include "cluster/events/event_listeners.h"
#include "store/store_fixture.h"

static struct event_listeners listeners;
static atomic_bool in_use;
static int room_left;  /* for that many events */
static char got[8192]; /* ids of events, "gap", "dropped" */
static char ids[STORE_BATCH_MAX][STORE_EVENT_ID_LEN];
static char *texts[STORE_BATCH_MAX];

static void on_event(void *context, const struct event_bus_event *event) {
    (void)context;
    bool has_id = event->id && event->id[0] != '\0';
    room_left -= has_id;
    strcat(strcat(got, has_id ? event->id : event_bus_kind_name(event->kind)), " ");
}

static bool is_closed(void *context) {
    (void)context;
    return false;
}

static void release_listener(void *context) {
    (void)context;
}

static bool room(void *context) {
    (void)context;
    return room_left > 0;
}

static void listen_after(const char *after) {
    const struct event_bus_listener listener = {NULL, on_event, is_closed, release_listener, room};
    struct store_event_place place;
    event_listeners_init(&listeners);
    room_left = 1000;
    got[0] = '\0';
    ck_assert(store_event_place_parse(after, &place));
    ck_assert_int_eq(event_listeners_add(&listeners, &listener, &place, &in_use), ERR_OK);
}

static void keep(uint64_t number, size_t n) {
    struct store_event events[STORE_BATCH_MAX];
    for (size_t i = 0; i < n; i++) {
        events[i] = (struct store_event){"{\"kind\":\"client\",\"id\":\"c\",\"state\":\"online\"}",
                                         true, true, NULL};
    }
    const struct store_event_batch batch = {.node = "one",
                                            .from = "process",
                                            .number = number,
                                            .kept_max = 100000,
                                            .events = events,
                                            .n = n};
    ck_assert_int_eq(store_append_events(store, &batch, ids, texts), ERR_OK);
}

static void deliver(const char *id) {
    event_listeners_deliver(&listeners,
                            &(struct event_bus_event){.kind = EVENT_BUS_CLIENT, .id = id});
}

static void check_got(const char *first, const char *second) {
    char wanted[200];
    snprintf(wanted, sizeof wanted, "%s%s%s%s", first, first[0] ? " " : "", second,
             second[0] ? " " : "");
    ck_assert_str_eq(got, wanted);
    got[0] = '\0';
}

START_TEST(what_followed_the_id_comes_first_and_nothing_comes_twice) {
    keep(1, 3);
    listen_after(ids[0]);
    deliver(ids[1]);
    deliver("");
    check_got("", "");
    ck_assert(!event_listeners_replay(&listeners, store, true));
    check_got(ids[1], ids[2]);
    deliver(ids[1]);
    deliver(ids[2]);
    check_got("", "");
    deliver("");
    check_got("client", "");
    keep(2, 1);
    deliver(ids[0]);
    check_got(ids[0], "");
    ck_assert(!event_listeners_replay(&listeners, store, true));
    check_got("", "");
    event_listeners_fini(&listeners);
}
END_TEST

START_TEST(it_gets_pages_until_all_that_is_kept_is_also_published) {
    keep(1, STORE_BATCH_MAX);
    listen_after("0");
    ck_assert(event_listeners_replay(&listeners, store, false));
    ck_assert(event_listeners_replay(&listeners, store, false));
    ck_assert(!event_listeners_replay(&listeners, store, false));
    char *at = got;
    for (size_t i = 0; i < STORE_BATCH_MAX; i++) {
        ck_assert_int_eq(strncmp(at, ids[i], strlen(ids[i])), 0);
        at += strlen(ids[i]) + 1;
    }
    ck_assert_str_eq(at, "");
    got[0] = '\0';
    keep(2, 1);
    deliver(ids[0]);
    check_got("", "");
    ck_assert(!event_listeners_replay(&listeners, store, true));
    check_got(ids[0], "");
    event_listeners_fini(&listeners);
}
END_TEST

START_TEST(a_reader_without_room_waits_and_loses_nothing) {
    keep(1, 1);
    listen_after("0");
    room_left = 0;
    ck_assert(!event_listeners_replay(&listeners, store, true));
    deliver(ids[0]);
    check_got("", "");
    room_left = 1;
    ck_assert(!event_listeners_replay(&listeners, store, true));
    check_got(ids[0], "");
    event_listeners_fini(&listeners);
}
END_TEST

START_TEST(a_page_ends_where_there_is_no_room) {
    keep(1, 3);
    listen_after("0");
    room_left = 2;
    ck_assert(event_listeners_replay(&listeners, store, true));
    check_got(ids[0], ids[1]);
    ck_assert(!event_listeners_replay(&listeners, store, true));
    deliver(ids[2]);
    check_got("", "");
    room_left = 1;
    ck_assert(!event_listeners_replay(&listeners, store, true));
    check_got(ids[2], "");
    event_listeners_fini(&listeners);
}
END_TEST

/* There are more readers than one turn has pages for. The others get theirs in later turns. */
START_TEST(many_readers_take_turns) {
    const struct event_bus_listener listener = {NULL, on_event, is_closed, release_listener, room};
    const struct store_event_place start = {0};
    size_t turns = 1;
    keep(1, 1);
    listen_after("0");
    for (size_t i = 1; i < 40; i++) {
        ck_assert_int_eq(event_listeners_add(&listeners, &listener, &start, &in_use), ERR_OK);
    }
    while (event_listeners_replay(&listeners, store, true)) {
        turns++;
    }
    ck_assert_int_eq(room_left, 1000 - 40);
    ck_assert_uint_gt(turns, 1);
    event_listeners_fini(&listeners);
}
END_TEST

START_TEST(an_id_that_is_no_longer_kept_is_told_once) {
    keep(1, 2);
    RAW("XDEL", "mqtt_fleet:event_log", ids[0]);
    listen_after(ids[0]);
    ck_assert(!event_listeners_replay(&listeners, store, false));
    check_got("gap", ids[1]);
    ck_assert(!event_listeners_replay(&listeners, store, true));
    check_got("", "");
    event_listeners_fini(&listeners);
    /* Redis has lost everything: what comes is new. */
    RAW("DEL", "mqtt_fleet:event_log");
    listen_after("99999999999999-0");
    ck_assert(event_listeners_replay(&listeners, store, true));
    check_got("gap", "");
    keep(3, 1);
    ck_assert(!event_listeners_replay(&listeners, store, true));
    check_got(ids[0], "");
    event_listeners_fini(&listeners);
}
END_TEST

START_TEST(a_slow_reader_is_told_what_was_removed_meanwhile) {
    keep(1, EVENT_BUS_PAGE_EVENTS + 2);
    listen_after("0");
    ck_assert(event_listeners_replay(&listeners, store, true));
    got[0] = '\0';
    RAW("XDEL", "mqtt_fleet:event_log", ids[EVENT_BUS_PAGE_EVENTS - 1], ids[EVENT_BUS_PAGE_EVENTS]);
    ck_assert(!event_listeners_replay(&listeners, store, true));
    check_got("gap", ids[EVENT_BUS_PAGE_EVENTS + 1]);
    event_listeners_fini(&listeners);
}
END_TEST

START_TEST(events_about_the_subscription_are_not_held_up) {
    keep(1, 1);
    listen_after("0");
    event_listeners_deliver_lost(&listeners, 3);
    check_got("dropped", "");
    event_listeners_fini(&listeners);
}
END_TEST

START_TEST(the_budget_is_a_rate_with_bursts) {
    struct event_budget budget;
    int taken = 0;
    event_budget_init(&budget, 3, 1000);
    while (event_budget_take(&budget)) {
        taken++;
    }
    ck_assert_int_eq(taken, 3 * EVENT_BUDGET_BURST);
    event_budget_refill(&budget, 1200); /* less than one */
    ck_assert(!event_budget_take(&budget));
    event_budget_refill(&budget, 1400);
    ck_assert(event_budget_take(&budget));
    ck_assert(!event_budget_take(&budget));
    event_budget_refill(&budget, 2000); /* of the second, two are left */
    ck_assert(event_budget_take(&budget) && event_budget_take(&budget));
    ck_assert(!event_budget_take(&budget));
    event_budget_refill(&budget, 10000000);
    for (taken = 0; event_budget_take(&budget);) {
        taken++;
    }
    ck_assert_int_eq(taken, 3 * EVENT_BUDGET_BURST);
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, what_followed_the_id_comes_first_and_nothing_comes_twice);
    tcase_add_test(tcase, it_gets_pages_until_all_that_is_kept_is_also_published);
    tcase_add_test(tcase, a_reader_without_room_waits_and_loses_nothing);
    tcase_add_test(tcase, a_page_ends_where_there_is_no_room);
    tcase_add_test(tcase, many_readers_take_turns);
    tcase_add_test(tcase, an_id_that_is_no_longer_kept_is_told_once);
    tcase_add_test(tcase, a_slow_reader_is_told_what_was_removed_meanwhile);
    tcase_add_test(tcase, events_about_the_subscription_are_not_held_up);
    tcase_add_test(tcase, the_budget_is_a_rate_with_bursts);
}

int main(void) {
    return fixture_run("event_listeners", add);
}
