/* Tests of the stream of events with a real Redis. */
#include <jansson.h>
#include "store/events.h"
#include "store_fixture.h"

#define KEY "mqtt_fleet:event_log"

static struct store_event_page page;
static char ids[STORE_BATCH_MAX][STORE_EVENT_ID_LEN];
static char *texts[STORE_BATCH_MAX];

static enum err append(uint64_t number, const struct store_event *events, size_t n,
                       int64_t kept_max) {
    const struct store_event_batch batch = {.node = "one",
                                            .from = "process",
                                            .number = number,
                                            .listened = true,
                                            .kept_max = kept_max,
                                            .events = events,
                                            .n = n};
    return store_append_events(store, &batch, ids, texts);
}

static void read_after(const char *after, size_t max) {
    store_event_page_fini(&page);
    ck_assert_int_eq(store_read_events(store, after, max, &page), ERR_OK);
}

/* The texts of the whole stream, one after the other. */
static const char *all(void) {
    static char text[4096];
    text[0] = '\0';
    read_after("0-0", 1000);
    for (size_t i = 0; i < page.n; i++) {
        strcat(text, store_event_page_text(&page, i));
    }
    store_event_page_fini(&page);
    return text;
}

START_TEST(events_are_kept_in_order_and_read_in_pages) {
    const struct store_event events[] = {{"{\"a\":1}", true, true, NULL},
                                         {"{\"live\":1}", false, true, NULL},
                                         {"{\"kept\":1}", true, false, NULL}};
    ck_assert_int_eq(append(1, events, 3, 1000), ERR_OK);
    ck_assert_str_ne(ids[0], "");
    ck_assert_str_eq(ids[1], "");
    struct store_event_place first, second;
    ck_assert(store_event_place_parse(ids[0], &first) && store_event_place_parse(ids[2], &second));
    ck_assert_int_lt(store_event_place_compare(first, second), 0);
    char one[STORE_EVENT_ID_LEN], two[STORE_EVENT_ID_LEN];
    strcpy(one, ids[0]);
    strcpy(two, ids[2]);
    ck_assert_str_eq(all(), "{\"a\":1}{\"kept\":1}");
    read_after("0-0", 1);
    ck_assert(!page.known);
    ck_assert_uint_eq(page.n, 1);
    ck_assert_str_eq(store_event_page_id(&page, 0), one);
    ck_assert_str_eq(page.first, one);
    read_after(one, 10);
    ck_assert(page.known);
    ck_assert_uint_eq(page.n, 1);
    ck_assert_str_eq(store_event_page_id(&page, 0), two);
    read_after(two, 10);
    ck_assert(page.known);
    ck_assert_uint_eq(page.n, 0);
    store_event_page_fini(&page);
}
END_TEST

START_TEST(a_batch_whose_answer_was_lost_is_not_added_again) {
    const struct store_event event = {"{\"a\":1}", true, true, NULL};
    ck_assert_int_eq(append(1, &event, 1, 1000), ERR_OK);
    ck_assert_int_eq(append(1, &event, 1, 1000), ERR_OK);
    ck_assert_str_eq(ids[0], "");
    ck_assert_str_eq(all(), "{\"a\":1}");
    ck_assert_int_eq(append(2, &event, 1, 1000), ERR_OK);
    ck_assert_str_eq(all(), "{\"a\":1}{\"a\":1}");
}
END_TEST

START_TEST(the_stream_is_bounded_and_tells_what_it_has_no_more) {
    struct store_event events[STORE_BATCH_MAX];
    char first[STORE_EVENT_ID_LEN];
    for (size_t i = 0; i < STORE_BATCH_MAX; i++) {
        events[i] = (struct store_event){"{\"a\":1}", true, true, NULL};
    }
    for (uint64_t number = 1; number <= 20; number++) {
        ck_assert_int_eq(append(number, events, STORE_BATCH_MAX, 1000), ERR_OK);
        if (number == 1) {
            strcpy(first, ids[0]);
        }
    }
    ck_assert_int_lt(RAW_INT("XLEN", KEY), 1300);
    read_after(first, 10);
    ck_assert(!page.known);
    ck_assert_str_ne(page.first, first);
    ck_assert_uint_eq(page.n, 10);
    store_event_page_fini(&page);
}
END_TEST

START_TEST(a_key_of_another_type_is_replaced) {
    const struct store_event event = {"{\"a\":1}", true, true, NULL};
    RAW("SET", KEY, "by hand");
    read_after("0-0", 10);
    ck_assert_uint_eq(page.n, 0);
    ck_assert_int_eq(append(1, &event, 1, 1000), ERR_OK);
    ck_assert_str_eq(all(), "{\"a\":1}");
}
END_TEST

/* Somebody used up the ids by hand: only the events are missing. */
START_TEST(a_stream_without_ids_stops_no_node) {
    enum store_role role;
    size_t moved;
    bool finished;
    RAW("XADD", KEY, "18446744073709551615-18446744073709551615", "event", "{}");
    struct store_member one = joined("one", "1", 10), two = joined("two", "2", 10);
    ck_assert_int_eq(store_lead(store, &one, TTL_MS, "", &role), ERR_OK);
    ck_assert_int_eq(role, STORE_ROLE_LEADER);
    ck_assert_int_eq(store_drain(store, "two", true), ERR_OK);
    stop_beating(two);
    ck_assert_int_eq(store_fence(store, &one, &two), ERR_OK);
    ck_assert_int_eq(store_reap(store, &two, &moved, &finished), ERR_OK);
    ck_assert_int_eq(store_leave(store, &one), ERR_OK);
    ck_assert_int_eq(RAW_INT("XLEN", KEY), 1);
}
END_TEST

/* Whether the stream has exactly one event with these words. */
static bool told_once(const char *name, const char *state, const char *reason) {
    char what[3][200];
    int found = 0;
    snprintf(what[0], sizeof what[0], "\"name\":%s", name);
    snprintf(what[1], sizeof what[1], "\"state\":\"%s\"", state);
    snprintf(what[2], sizeof what[2], "\"reason\":\"%s", reason);
    read_after("0-0", 1000);
    for (size_t i = 0; i < page.n; i++) {
        const char *text = store_event_page_text(&page, i);
        found += strstr(text, what[0]) && strstr(text, what[1]) && strstr(text, what[2]);
    }
    store_event_page_fini(&page);
    return found == 1;
}

START_TEST(nodes_and_leaders_are_told_once_by_the_scripts_that_change_them) {
    struct store_member one = joined("one", "1", 10), two = joined("two", "2", 10);
    enum store_role role;
    size_t moved;
    bool finished;
    joined("one", "1", 10);
    ck_assert(told_once("\"one\"", "live", "joined"));
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(store_lead(store, &one, TTL_MS, "", &role), ERR_OK);
        ck_assert(told_once("\"one\"", "leading", "elected"));
        ck_assert_int_eq(store_drain(store, "two", true), ERR_OK);
        ck_assert(told_once("\"two\"", "draining", "releases its clients"));
    }
    ck_assert_int_eq(store_resign(store, &one), ERR_OK);
    ck_assert_int_eq(store_resign(store, &one), ERR_OK);
    ck_assert(told_once("null", "none", "no leader"));
    stop_beating(two);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(store_fence(store, &one, &two), ERR_OK);
        ck_assert(told_once("\"two\"", "dead", "fenced: no heartbeat"));
    }
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(store_reap(store, &two, &moved, &finished), ERR_OK);
        ck_assert(told_once("\"two\"", "gone", "fenced; all its clients are reaped"));
    }
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(store_leave(store, &one), ERR_OK);
        ck_assert(told_once("\"one\"", "gone", "left"));
    }
}
END_TEST

START_TEST(scripts_write_the_time_as_nodes_do) {
    char at[CLOCK_RFC3339_LEN];
    struct store_event_place place;
    joined("one", "1", 10);
    read_after("0-0", 1);
    ck_assert(store_event_place_parse(store_event_page_id(&page, 0), &place));
    /* Redis may make the id some milliseconds after the script has read the clock. */
    bool found = false;
    for (int64_t ago_ms = 0; !found && ago_ms < 5000; ago_ms++) {
        clock_rfc3339((int64_t)place.ms - ago_ms, at);
        found = strstr(store_event_page_text(&page, 0), at) != NULL;
    }
    ck_assert_msg(found, "%s", store_event_page_text(&page, 0));
    store_event_page_fini(&page);
}
END_TEST

START_TEST(only_the_leader_passes_events_on_and_the_next_one_goes_on) {
    const struct store_event events[] = {{"{\"a\":1}", true, true, NULL},
                                         {"{\"b\":1}", true, true, NULL},
                                         {"{\"c\":1}", true, true, NULL}};
    struct store_member one = joined("one", "1", 10);
    enum store_role role;
    ck_assert_int_eq(store_forward_events(store, "one", "", 10, &page), ERR_REFUSED);
    store_event_page_fini(&page);
    ck_assert_int_eq(store_lead(store, &one, TTL_MS, "", &role), ERR_OK);
    RAW("DEL", KEY);
    ck_assert_int_eq(append(1, events, 3, 1000), ERR_OK);
    ck_assert_int_eq(store_forward_events(store, "two", ids[2], 10, &page), ERR_REFUSED);
    store_event_page_fini(&page);
    for (int i = 0; i < 2; i++) { /* until it says that it has passed them on */
        ck_assert_int_eq(store_forward_events(store, "one", "", 2, &page), ERR_OK);
        ck_assert_uint_eq(page.n, 2);
        ck_assert_str_eq(store_event_page_text(&page, 1), "{\"b\":1}");
        store_event_page_fini(&page);
    }
    ck_assert_int_eq(store_forward_events(store, "one", ids[1], 2, &page), ERR_OK);
    ck_assert_uint_eq(page.n, 1);
    ck_assert_str_eq(store_event_page_id(&page, 0), ids[2]);
    store_event_page_fini(&page);
    /* Not back to what an earlier leader remembers. */
    for (int i = 2; i >= 0; i--) {
        ck_assert_int_eq(store_forward_events(store, "one", ids[i], 2, &page), ERR_OK);
        ck_assert_uint_eq(page.n, 0);
        store_event_page_fini(&page);
    }
}
END_TEST

START_TEST(what_was_removed_before_it_was_passed_on_is_told) {
    const struct store_event events[] = {{"{\"a\":1}", true, true, NULL},
                                         {"{\"b\":1}", true, true, NULL},
                                         {"{\"c\":1}", true, true, NULL}};
    struct store_member one = joined("one", "1", 10);
    enum store_role role;
    char wanted[200];
    ck_assert_int_eq(store_lead(store, &one, TTL_MS, "", &role), ERR_OK);
    RAW("DEL", KEY);
    ck_assert_int_eq(append(1, events, 3, 1000), ERR_OK);
    RAW("XDEL", KEY, ids[0]);
    RAW("XDEL", KEY, ids[1]);
    for (int i = 0; i < 2; i++) { /* until an event behind the gap was passed on */
        ck_assert_int_eq(store_forward_events(store, "one", ids[0], 10, &page), ERR_OK);
        ck_assert_uint_eq(page.n, 2);
        ck_assert_str_eq(store_event_page_id(&page, 0), ids[0]);
        snprintf(wanted, sizeof wanted, "\"first\":\"%s\"", ids[2]);
        ck_assert_ptr_nonnull(strstr(store_event_page_text(&page, 0), wanted));
        ck_assert_ptr_nonnull(strstr(store_event_page_text(&page, 0), "\"kind\":\"gap\""));
        ck_assert_str_eq(store_event_page_id(&page, 1), ids[2]);
        store_event_page_fini(&page);
    }
    ck_assert_int_eq(store_forward_events(store, "one", ids[2], 10, &page), ERR_OK);
    ck_assert_uint_eq(page.n, 0);
    store_event_page_fini(&page);
    RAW("SET", "mqtt_fleet:events_sent", "yesterday"); /* by hand: as if none was */
    ck_assert_int_eq(store_forward_events(store, "one", "", 10, &page), ERR_OK);
    ck_assert_uint_eq(page.n, 1);
    store_event_page_fini(&page);
}
END_TEST

/* ---- incidents ------------------------------------------------------------------------------- */

#define INCIDENTS "mqtt_fleet:incidents"

/* What a node tells of its own incident. Returns the event of the fleet; NULL: there is none. */
static json_t *tell(const char *node, const char *phase, int clients) {
    static uint64_t number;
    char text[300];
    bool ends = strcmp(phase, "ended") == 0;
    snprintf(
        text, sizeof text,
        "{\"at\":\"now\",\"kind\":\"incident\",\"broker\":\"b:1\",\"node\":\"%s\",\"nodes\":[\"%s\"],"
        "\"state\":\"%s\",\"reason\":\"%s\",\"code\":\"%s\",\"message\":null,\"clients\":%d,"
        "\"waiting\":1,\"failures\":3,\"lasted_ms\":5000}",
        node, node, ends ? "ended" : "began", ends ? "broker_back" : "broker_away", phase, clients);
    const struct store_event event = {text, true, true, phase};
    const struct store_event_batch batch = {.node = node,
                                            .from = "process",
                                            .number = ++number,
                                            .kept_max = 1000,
                                            .events = &event,
                                            .n = 1};
    ck_assert_int_eq(store_append_events(store, &batch, ids, texts), ERR_OK);
    ck_assert_ptr_nonnull(texts[0]);
    json_t *json = texts[0][0] != '\0' ? json_loads(texts[0], 0, NULL) : NULL;
    ck_assert_int_eq(ids[0][0] != '\0', json != NULL);
    free(texts[0]);
    return json;
}

static void check_event(json_t *json, const char *state, const char *nodes, int clients) {
    ck_assert_ptr_nonnull(json);
    char *names = json_dumps(json_object_get(json, "nodes"), JSON_COMPACT);
    ck_assert_str_eq(json_string_value(json_object_get(json, "state")), state);
    ck_assert_str_eq(names, nodes);
    ck_assert_int_eq(json_integer_value(json_object_get(json, "clients")), clients);
    free(names);
    json_decref(json);
}

static int kept_incidents(const char *reason) {
    char what[100];
    int found = 0;
    snprintf(what, sizeof what, "\"reason\":\"%s\"", reason);
    read_after("0-0", 1000);
    for (size_t i = 0; i < page.n; i++) {
        found += strstr(store_event_page_text(&page, i), what) != NULL;
    }
    store_event_page_fini(&page);
    return found;
}

START_TEST(the_incidents_of_several_nodes_are_one_event) {
    joined("one", "1", 10);
    joined("two", "2", 10);
    check_event(tell("one", "began", 5), "began", "[\"one\"]", 5);
    ck_assert_ptr_null(tell("two", "began", 7));
    ck_assert_ptr_null(tell("two", "began", 7));
    ck_assert_ptr_null(tell("two", "lasts", 8));
    ck_assert_ptr_null(tell("three", "ended", 9)); /* it never told of one */
    ck_assert_ptr_null(tell("one", "ended", 4));
    json_t *event = tell("two", "ended", 9);
    ck_assert_int_ge(json_integer_value(json_object_get(event, "lasted_ms")), 5000);
    ck_assert_int_eq(json_integer_value(json_object_get(event, "failures")), 6);
    check_event(event, "ended", "[\"one\",\"two\"]", 13);
    ck_assert_ptr_null(tell("two", "ended", 9));
    ck_assert_int_eq(RAW_INT("EXISTS", INCIDENTS), 0);
    ck_assert_int_eq(kept_incidents("broker_away"), 1);
    ck_assert_int_eq(kept_incidents("broker_back"), 1);
    /* Its begin did not arrive, or Redis has lost it. */
    check_event(tell("two", "lasts", 8), "began", "[\"two\"]", 8);
}
END_TEST

static void lead_anew(const struct store_member *who) {
    enum store_role role;
    RAW("DEL", INCIDENTS "_checked", "mqtt_fleet:leader");
    ck_assert_int_eq(store_lead(store, who, TTL_MS, "", &role), ERR_OK);
    ck_assert_int_eq(role, STORE_ROLE_LEADER);
}

START_TEST(an_incident_ends_without_nodes_that_are_gone_or_silent) {
    struct store_member one = joined("one", "1", 10), two = joined("two", "2", 10);
    json_decref(tell("one", "began", 5));
    ck_assert_ptr_null(tell("two", "began", 7));
    lead_anew(&one);
    stop_beating(two);
    ck_assert_int_eq(store_fence(store, &one, &two), ERR_OK);
    lead_anew(&one);
    ck_assert_int_eq(kept_incidents("unconfirmed"), 0);
    ck_assert_ptr_null(tell("two", "ended", 7));
    check_event(tell("one", "ended", 12), "ended", "[\"one\",\"two\"]", 12);

    json_decref(tell("one", "began", 5));
    RAW("EVAL",
        "local t = redis.call('HGET', KEYS[1], 'b:1') "
        "redis.call('HSET', KEYS[1], 'b:1', (t:gsub('\"at\":%d+', '\"at\":1')))",
        "1", INCIDENTS);
    lead_anew(&one);
    ck_assert_int_eq(kept_incidents("unconfirmed"), 1);
    ck_assert_int_eq(RAW_INT("EXISTS", INCIDENTS), 0);

    json_decref(tell("one", "began", 5));
    stop_beating(one);
    joined("one", "9", 10);
    lead_anew(&(struct store_member){"one", "9"});
    ck_assert_int_eq(kept_incidents("unconfirmed"), 2);
    RAW("HSET", INCIDENTS, "b:1", "by hand");
    lead_anew(&(struct store_member){"one", "9"});
    ck_assert_int_eq(RAW_INT("EXISTS", INCIDENTS), 0);
}
END_TEST

START_TEST(incidents_of_very_many_brokers_are_told_by_each_node) {
    joined("one", "1", 10);
    RAW("EVAL", "for i = 1, 1000 do redis.call('HSET', KEYS[1], i, '{}') end", "1", INCIDENTS);
    check_event(tell("one", "began", 5), "began", "[\"one\"]", 5);
    ck_assert_ptr_null(tell("one", "lasts", 5));
    check_event(tell("two", "began", 6), "began", "[\"two\"]", 6);
    check_event(tell("one", "ended", 5), "ended", "[\"one\"]", 5);
    ck_assert_int_eq(RAW_INT("HLEN", INCIDENTS), 1000);
}
END_TEST

static const struct {
    const char *text;
    bool valid;
    uint64_t ms, sequence;
} places[] = {{"0", true, 0, 0},
              {"0-0", true, 0, 0},
              {"1764507600123-7", true, 1764507600123, 7},
              {"18446744073709551615-1", true, UINT64_MAX, 1},
              {"18446744073709551615-18446744073709551615", false, 0, 0},
              {"18446744073709551616", false, 0, 0},
              {"", false, 0, 0},
              {"-1", false, 0, 0},
              {"1-", false, 0, 0},
              {"1-2-3", false, 0, 0},
              {"+1", false, 0, 0},
              {" 1", false, 0, 0},
              {"$", false, 0, 0},
              {"abc", false, 0, 0}};

START_TEST(an_id_is_a_place_or_refused) {
    struct store_event_place place;
    ck_assert_int_eq(store_event_place_parse(places[_i].text, &place), places[_i].valid);
    if (places[_i].valid) {
        ck_assert_uint_eq(place.ms, places[_i].ms);
        ck_assert_uint_eq(place.sequence, places[_i].sequence);
    }
}
END_TEST

static void add(TCase *tcase) {
    tcase_add_test(tcase, events_are_kept_in_order_and_read_in_pages);
    tcase_add_test(tcase, a_batch_whose_answer_was_lost_is_not_added_again);
    tcase_add_test(tcase, the_stream_is_bounded_and_tells_what_it_has_no_more);
    tcase_add_test(tcase, a_key_of_another_type_is_replaced);
    tcase_add_test(tcase, a_stream_without_ids_stops_no_node);
    tcase_add_test(tcase, nodes_and_leaders_are_told_once_by_the_scripts_that_change_them);
    tcase_add_test(tcase, what_was_removed_before_it_was_passed_on_is_told);
    tcase_add_test(tcase, only_the_leader_passes_events_on_and_the_next_one_goes_on);
    tcase_add_test(tcase, scripts_write_the_time_as_nodes_do);
    tcase_add_test(tcase, the_incidents_of_several_nodes_are_one_event);
    tcase_add_test(tcase, an_incident_ends_without_nodes_that_are_gone_or_silent);
    tcase_add_test(tcase, incidents_of_very_many_brokers_are_told_by_each_node);
    tcase_add_loop_test(tcase, an_id_is_a_place_or_refused, 0, sizeof places / sizeof places[0]);
}

int main(void) {
    return fixture_run("store_events", add);
}
