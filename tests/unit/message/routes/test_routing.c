/* Tests of routing: which queues get what, when all must, when it is best effort, and what scripts
 * make. */
#include "message/routes/routing.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "message/sink_name.h"

enum { SINKS = 5 };

static const char *const names[SINKS] = {"standard", "x", "y", "z", "dead"};
static struct message_queue *queues[SINKS];
static struct routing *routing;
static struct receipts receipts;
static struct receipt receipt;
static struct routing_client client;
static struct message_queue_share shares[8], standard_share;
static struct routing_result result;

static struct message_queue *find(void *context, const char *name) {
    (void)context;
    for (int i = 0; i < SINKS; i++) {
        if (strcmp(names[i], name) == 0) {
            return queues[i];
        }
    }
    return NULL;
}

static void note_fault(void *context, const char *pointer, const char *detail) {
    (void)context;
    ck_abort_msg("%s: %s", pointer, detail);
}

static void use(const char *list) {
    json_t *json = json_loads(list, 0, NULL);
    ck_assert_ptr_nonnull(json);
    routing_release(routing);
    routing = routing_create(route_table_create(json, note_fault, NULL),
                             &(struct routing_sinks){.find = find, .dead_letters = queues[4]});
    ck_assert_ptr_nonnull(routing);
    json_decref(json);
}

static struct route_table *table_of(const char *list) {
    json_t *json = json_loads(list, 0, NULL);
    ck_assert_ptr_nonnull(json);
    struct route_table *table = route_table_create(json, note_fault, NULL);
    json_decref(json);
    return table;
}

/* Of a client with routes of its own. fleet NULL: that has none. */
static void use_own(const char *own, const char *fleet) {
    const struct routing_sinks sinks = {.find = find, .dead_letters = queues[4]};
    routing_release(routing);
    routing = routing_create_own(table_of(own),
                                 fleet ? routing_create(table_of(fleet), &sinks) : NULL, &sinks);
    ck_assert_ptr_nonnull(routing);
}

static void setup(void) {
    for (int i = 0; i < SINKS; i++) {
        queues[i] = message_queue_create(4, 1000000, 4);
    }
    routing = NULL;
    ck_assert(receipts_init(&receipts));
    receipt = (struct receipt){.owner = &receipts};
    memset(shares, 0, sizeof shares);
    standard_share = (struct message_queue_share){0};
    client = (struct routing_client){
        .standard = queues[0], .standard_share = &standard_share, .shares = shares};
}

static char contents[1024];

/* "topic payload;" of each message of a queue, which is empty then; each receipt is answered. */
static const char *take(const char *name) {
    static const bool all[16] = {true, true, true, true, true, true, true, true,
                                 true, true, true, true, true, true, true, true};
    struct message *batch[16];
    struct message_queue_entry entries[16];
    struct message_queue *queue = find(NULL, name);
    size_t n = message_queue_peek(queue, batch, 16, SIZE_MAX, 0);
    message_queue_take(queue, all, entries, n);
    *contents = '\0';
    for (size_t i = 0; i < n; i++) {
        const struct message *message = entries[i].message;
        strcat(strcat(strcat(contents, message->topic), " "), (const char *)message->payload);
        if (message->rejection) {
            strcat(strcat(strcat(contents, " "), message->rejection->sink), " ");
            strcat(contents, message->rejection->reason);
        }
        strcat(contents, ";");
        message_destroy(entries[i].message);
        if (entries[i].receipt) {
            receipt_answer(entries[i].receipt, ERR_OK);
        }
    }
    return contents;
}

static void teardown(void) {
    routing_release(routing);
    for (int i = 0; i < SINKS; i++) {
        take(names[i]);
        message_queue_destroy(queues[i]);
    }
    receipts_fini(&receipts);
}

static enum err submit(const char *topic, const char *payload, uint8_t qos) {
    struct message *message = message_create(&(struct message){.id = "i",
                                                               .client_id = "c",
                                                               .topic = topic,
                                                               .payload = (const uint8_t *)payload,
                                                               .payload_len = strlen(payload),
                                                               .qos = qos});
    receipt = (struct receipt){.owner = &receipts};
    enum err err = routing_submit(routing, &client, message, qos ? &receipt : NULL, &result);
    if (err != ERR_OK) {
        ck_assert_uint_eq(message->references, 1);
        message_destroy(message);
    }
    return err;
}

START_TEST(all_sinks_in_to_must_accept_before_the_answer) {
    use("[{\"match\":{\"topic\":\"a\"},\"to\":[\"x\",\"y\"],\"also\":[\"z\"]}]");
    ck_assert_int_eq(submit("a", "1", 1), ERR_OK);
    ck_assert_str_eq(take("z"), "a 1;");
    ck_assert_str_eq(take("x"), "a 1;");
    ck_assert_ptr_null(receipts_take(&receipts));
    ck_assert_str_eq(take("y"), "a 1;");
    ck_assert_ptr_eq(receipts_take(&receipts), &receipt);
    ck_assert_str_eq(take("standard"), "");
}
END_TEST

START_TEST(without_a_match_the_default_gets_it) {
    use("[{\"match\":{\"topic\":\"a\"},\"to\":[\"x\"]},"
        "{\"match\":{\"topic\":\"b\"},\"also\":[\"z\"]}]");
    ck_assert_int_eq(submit("other", "1", 1), ERR_OK);
    ck_assert_int_eq(submit("b", "2", 2), ERR_OK);
    ck_assert_str_eq(take("standard"), "other 1;b 2;");
    ck_assert_str_eq(take("z"), "b 2;");
}
END_TEST

START_TEST(a_full_sink_in_to_holds_the_message_and_none_has_it) {
    use("[{\"to\":[\"x\",\"y\"],\"also\":[\"z\"]}]");
    client.shares = NULL; /* shares are tested with the queue */
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(submit("t", "1", 1), ERR_OK);
    }
    take("x");
    ck_assert_int_eq(submit("t", "2", 1), ERR_FULL);
    ck_assert_ptr_eq(result.full, queues[2]);
    ck_assert_str_eq(take("x"), "");
    ck_assert_str_eq(take("z"), "t 1;t 1;t 1;t 1;");
    take("y");
    ck_assert_int_eq(submit("t", "2", 1), ERR_OK);
    ck_assert_str_eq(take("x"), "t 2;");
    ck_assert_str_eq(take("y"), "t 2;");
    ck_assert_ptr_eq(receipts_take(&receipts), &receipt);
}
END_TEST

START_TEST(a_full_sink_in_also_loses_its_copy_and_it_is_counted) {
    use("[{\"to\":[\"x\"],\"also\":[\"z\"]}]");
    client.shares = NULL;
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(submit("t", "1", 1), ERR_OK);
        ck_assert_uint_eq(result.dropped_also, 0);
    }
    take("x");
    ck_assert_int_eq(submit("t", "2", 1), ERR_OK);
    ck_assert_uint_eq(result.dropped_also, 1);
    ck_assert_str_eq(take("x"), "t 2;");
}
END_TEST

START_TEST(qos_0_goes_where_there_is_room) {
    use("[{\"to\":[\"x\",\"y\"]}]");
    client.shares = NULL;
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(submit("t", "1", 1), ERR_OK);
    }
    take("x");
    ck_assert_int_eq(submit("t", "2", 0), ERR_OK);
    ck_assert_uint_eq(result.dropped, 1);
    ck_assert_str_eq(take("x"), "t 2;");
    ck_assert_str_eq(take("y"), "t 1;t 1;t 1;t 1;");
}
END_TEST

START_TEST(a_sink_that_the_node_does_not_have_holds_the_message) {
    use("[{\"match\":{\"topic\":\"a\"},\"to\":[\"x\",\"nowhere\"]}]");
    ck_assert_int_eq(submit("a", "1", 1), ERR_FULL);
    ck_assert_ptr_null(result.full);
    ck_assert_str_eq(take("x"), "");
    ck_assert_int_eq(submit("a", "2", 0), ERR_OK);
    ck_assert_uint_eq(result.dropped, 1);
    ck_assert_str_eq(take("x"), "a 2;");
    client.standard = NULL;
    ck_assert_int_eq(submit("b", "3", 1), ERR_FULL);
}
END_TEST

START_TEST(a_closed_queue_says_so) {
    use("[{\"to\":[\"x\",\"y\"]}]");
    message_queue_close(queues[2]);
    ck_assert_int_eq(submit("a", "1", 1), ERR_WRONG_STATE);
    ck_assert_str_eq(take("x"), "");
}
END_TEST

START_TEST(a_script_makes_none_one_or_several_for_its_sinks) {
    use("[{\"match\":{\"topic\":\"s/#\"},\"to\":[\"x\",\"y\"],\"lua\":\"return function(m) "
        "local r = {} for i = 1, tonumber(m.payload) do "
        "r[i] = {topic = m.topic .. '/' .. i, payload = 'p', user_properties = {}} end "
        "return r end\"}, {\"match\":{\"topic\":\"s/2\"},\"to\":[\"z\"]}]");
    ck_assert_int_eq(submit("s/1", "2", 1), ERR_OK);
    ck_assert_str_eq(take("x"), "s/1/1 p;s/1/2 p;");
    ck_assert_ptr_null(receipts_take(&receipts));
    ck_assert_str_eq(take("y"), "s/1/1 p;s/1/2 p;");
    ck_assert_ptr_eq(receipts_take(&receipts), &receipt);
    ck_assert_str_eq(take("standard"), "");
    ck_assert_int_eq(submit("s/2", "1", 1), ERR_OK);
    ck_assert_str_eq(take("x"), "s/2/1 p;");
    ck_assert_str_eq(take("z"), "s/2 1;"); /* the message itself */
    take("y");
    receipts_take(&receipts);
    ck_assert_int_eq(submit("s/1", "0", 1), ERR_OK);
    ck_assert(result.filtered);
    ck_assert_ptr_eq(receipts_take(&receipts), &receipt);
    ck_assert_int_eq(receipt.result, ERR_OK);
}
END_TEST

START_TEST(a_script_that_fails_makes_a_dead_letter) {
    use("[{\"name\":\"bad\",\"match\":{\"topic\":\"s\"},\"to\":[\"x\"],\"lua\":\"return function(m) "
        "error('no such thing') end\"},{\"match\":{\"topic\":\"s\"},\"to\":[\"y\"]}]");
    ck_assert_int_eq(submit("s", "1", 1), ERR_OK);
    ck_assert_str_eq(take("x"), "");
    ck_assert_str_eq(take("y"), "s 1;");
    ck_assert_ptr_null(receipts_take(&receipts)); /* only once the dead letter is stored */
    ck_assert_str_eq(take("dead"), "s 1 " SINK_ROUTES " route 0 bad: lua:1: no such thing;");
    ck_assert_ptr_eq(receipts_take(&receipts), &receipt);
}
END_TEST

START_TEST(too_many_deliveries_are_a_dead_letter_and_stall_nothing) {
    use("[{\"to\":[\"x\",\"y\",\"z\",\"standard\",\"dead\"],\"lua\":\"return function(m) local r = {} "
        "for i = 1, 64 do r[i] = m end return r end\"},"
        "{\"to\":[\"x\",\"y\",\"z\",\"standard\",\"dead\"],\"lua\":\"return function(m) local r = {} "
        "for i = 1, 64 do r[i] = m end return r end\"}]");
    ck_assert_int_eq(submit("s", "1", 1), ERR_OK);
    ck_assert_str_eq(take("dead"), "s 1 " SINK_ROUTES " route 0: too many deliveries;");
    ck_assert_str_eq(take("x"), "");
}
END_TEST

/* ---- routes of a client ---------------------------------------------------------------------- */

static const struct {
    const char *own, *fleet, *to; /* sinks that get it */
    size_t sinks;                 /* that may get one */
} chains[] = {
    {"[{\"to\":[\"x\"]}]", NULL, "x ", 1},
    {"[{\"to\":[\"x\"]}]", "[{\"to\":[\"y\"]}]", "x y ", 2},
    {"[{\"to\":[\"x\"],\"stop\":true}]", "[{\"to\":[\"y\"]}]", "x ", 2},
    {"[{\"match\":{\"topic\":\"no\"},\"to\":[\"x\"],\"stop\":true}]", "[{\"to\":[\"y\"]}]", "y ",
     2},
    {"[{\"match\":{\"topic\":\"no\"},\"to\":[\"x\"]}]",
     "[{\"match\":{\"topic\":\"no\"},\"to\":[\"y\"]}]", "standard ", 2},
    {"[{\"also\":[\"x\"]}]", NULL, "standard x ", 1},
    {"[{\"also\":[\"x\"],\"stop\":true}]", "[{\"to\":[\"y\"]}]", "standard x ", 2},
    {"[{\"also\":[\"x\"]}]", "[{\"to\":[\"y\"]}]", "x y ", 2},
    /* a sink that both name gets one message */
    {"[{\"to\":[\"x\",\"y\"]}]", "[{\"to\":[\"z\",\"x\"]}]", "x y z ", 4},
    {"[{\"also\":[\"x\"]}]", "[{\"to\":[\"z\",\"x\"]}]", "x z ", 3},
    {"[{\"to\":[\"x\"]}]", "[{\"also\":[\"z\",\"x\"]}]", "x z ", 3},
    {"[{\"also\":[\"x\"]}]", "[{\"also\":[\"z\",\"x\"]}]", "standard x z ", 3},
};

START_TEST(routes_of_a_client_precede_those_of_the_fleet) {
    char got[64] = "";
    use_own(chains[_i].own, chains[_i].fleet);
    ck_assert_uint_eq(routing_sink_count(routing), chains[_i].sinks);
    ck_assert_int_eq(submit("a", "1", 1), ERR_OK);
    for (int i = 0; i < SINKS; i++) {
        const char *taken = take(names[i]);
        ck_assert_msg(!*taken || strcmp(taken, "a 1;") == 0, "%s has %s", names[i], taken);
        strcat(strcat(got, *taken ? names[i] : ""), *taken ? " " : "");
    }
    ck_assert_str_eq(got, chains[_i].to);
    ck_assert_ptr_eq(receipts_take(&receipts), &receipt);
}
END_TEST

START_TEST(sinks_of_both_lists_must_all_have_room) {
    use_own("[{\"to\":[\"x\"]}]", "[{\"to\":[\"y\"],\"also\":[\"z\"]}]");
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(submit("a", "1", 1), ERR_OK);
        take("x");
    }
    ck_assert_int_eq(submit("a", "2", 1), ERR_FULL);
    ck_assert_ptr_eq(result.full, find(NULL, "y"));
    ck_assert_ptr_eq(result.full_share, &shares[1]); /* behind those of the client's sinks */
    ck_assert_str_eq(take("x"), "");
}
END_TEST

START_TEST(a_sink_of_a_client_that_the_node_does_not_have_holds_the_message) {
    use_own("[{\"to\":[\"gone\"]}]", "[{\"to\":[\"y\"]}]");
    ck_assert_int_eq(submit("a", "1", 1), ERR_FULL);
    ck_assert(result.sink_missing);
    ck_assert_str_eq(result.missing, "gone");
    ck_assert_str_eq(take("y"), "");
}
END_TEST

START_TEST(a_script_of_a_client_that_fails_is_told_from_one_of_the_fleet) {
    static const char bad[] = "[{\"to\":[\"x\"],\"lua\":\"return function(m) error('no') end\"}]";
    use_own(bad, bad);
    ck_assert_int_eq(submit("s", "1", 1), ERR_OK);
    ck_assert_str_eq(take("dead"),
                     "s 1 " SINK_ROUTES " route 0 of the client: lua:1: no;s 1 " SINK_ROUTES
                     " route 0: lua:1: no;");
}
END_TEST

START_TEST(equal_lists_are_one_table_as_long_as_somebody_has_it) {
    static const char *const lists[] = {"[{\"to\":[\"x\"],\"stop\":true}]",
                                        " [ {\"stop\":true, \"to\":[\"x\"]} ]",
                                        "[{\"to\":[\"y\"]}]"};
    struct route_table *tables[3], *again;
    for (int i = 0; i < 3; i++) {
        json_t *json = json_loads(lists[i], 0, NULL);
        ck_assert_int_eq(route_table_share(json, &tables[i], note_fault, NULL), ERR_OK);
        json_decref(json);
    }
    ck_assert_ptr_eq(tables[0], tables[1]);
    ck_assert_ptr_ne(tables[0], tables[2]);
    route_table_release(tables[0]);
    json_t *json = json_loads(lists[1], 0, NULL);
    ck_assert_int_eq(route_table_share(json, &again, note_fault, NULL), ERR_OK);
    ck_assert_ptr_eq(again, tables[1]);
    route_table_release(again);
    route_table_release(tables[1]);
    ck_assert_int_eq(route_table_share(json, &again, note_fault, NULL), ERR_OK); /* made anew */
    ck_assert_uint_eq(route_table_count(again), 1);
    route_table_release(again);
    route_table_release(tables[2]);
    json_decref(json);
}
END_TEST

#define SHARE_THREADS 4
#define SHARE_TURNS   2000

static void *share_and_release(void *list) {
    for (int i = 0; i < SHARE_TURNS; i++) {
        struct route_table *table;
        ck_assert_int_eq(route_table_share(list, &table, note_fault, NULL), ERR_OK);
        ck_assert_uint_eq(route_table_sink_count(table), 1);
        route_table_release(table);
    }
    return NULL;
}

START_TEST(threads_share_a_table_while_others_release_it) {
    pthread_t threads[SHARE_THREADS];
    json_t *list = json_loads("[{\"to\":[\"x\"]}]", 0, NULL);
    for (int i = 0; i < SHARE_THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, share_and_release, list), 0);
    }
    for (int i = 0; i < SHARE_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    json_decref(list);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("routing");
    TCase *tcase = tcase_create("routing");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, all_sinks_in_to_must_accept_before_the_answer);
    tcase_add_test(tcase, without_a_match_the_default_gets_it);
    tcase_add_test(tcase, a_full_sink_in_to_holds_the_message_and_none_has_it);
    tcase_add_test(tcase, a_full_sink_in_also_loses_its_copy_and_it_is_counted);
    tcase_add_test(tcase, qos_0_goes_where_there_is_room);
    tcase_add_test(tcase, a_sink_that_the_node_does_not_have_holds_the_message);
    tcase_add_test(tcase, a_closed_queue_says_so);
    tcase_add_test(tcase, a_script_makes_none_one_or_several_for_its_sinks);
    tcase_add_test(tcase, a_script_that_fails_makes_a_dead_letter);
    tcase_add_loop_test(tcase, routes_of_a_client_precede_those_of_the_fleet, 0,
                        sizeof chains / sizeof chains[0]);
    tcase_add_test(tcase, sinks_of_both_lists_must_all_have_room);
    tcase_add_test(tcase, a_sink_of_a_client_that_the_node_does_not_have_holds_the_message);
    tcase_add_test(tcase, a_script_of_a_client_that_fails_is_told_from_one_of_the_fleet);
    tcase_add_test(tcase, equal_lists_are_one_table_as_long_as_somebody_has_it);
    tcase_add_test(tcase, threads_share_a_table_while_others_release_it);
    tcase_add_test(tcase, too_many_deliveries_are_a_dead_letter_and_stall_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
