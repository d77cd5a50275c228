/* The table of a client's life: every pair of state and event. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "mqtt/client/client_state.h"

/* One row per state, one column per event, as in the header; "." means no transition. Independent
 * of the table under test, so that a slip in either shows. */
static const struct row {
    enum client_state from;
    const char *to[CLIENT_EVENT_COUNT];
} expected[CLIENT_STATE_COUNT] = {
    /*                 admitted     resolved   connected      subscribed failed     lost
                       taken_over   timer      pause          resume     stop       closed
                       requeue */
    {CLIENT_QUEUED,
     {"resolving", ".", ".", ".", "backoff", ".", ".", ".", "paused", ".", "closing", ".", "."}},
    {CLIENT_RESOLVING,
     {".", "opening", ".", ".", "backoff", ".", ".", ".", "paused", ".", "closing", ".", "queued"}},
    {CLIENT_OPENING,
     {".", ".", "subscribing", ".", "backoff", ".", "conflict", ".", "paused", ".", "closing", ".",
      "queued"}},
    {CLIENT_SUBSCRIBING,
     {".", ".", ".", "online", "backoff", "backoff", "conflict", ".", "paused", ".", "closing", ".",
      "queued"}},
    {CLIENT_ONLINE,
     {".", ".", ".", ".", ".", "backoff", "conflict", ".", "paused", ".", "closing", ".",
      "queued"}},
    {CLIENT_BACKOFF,
     {".", ".", ".", ".", ".", ".", "conflict", "queued", "paused", ".", "closing", ".", "queued"}},
    {CLIENT_CONFLICT,
     {".", ".", ".", ".", ".", ".", ".", ".", "paused", "backoff", "closing", ".", "queued"}},
    {CLIENT_PAUSED, {".", ".", ".", ".", ".", ".", ".", ".", ".", "queued", "closing", ".", "."}},
    {CLIENT_CLOSING, {".", ".", ".", ".", ".", ".", ".", ".", ".", ".", ".", "closed", "."}},
    {CLIENT_CLOSED,
     {".", ".", ".", ".", ".", ".", ".", ".", "paused", "queued", "closing", ".", "."}},
};

START_TEST(every_pair_of_state_and_event_does_what_the_table_says) {
    for (int state = 0; state < CLIENT_STATE_COUNT; state++) {
        ck_assert_int_eq((int)expected[state].from, state);
        for (int event = 0; event < CLIENT_EVENT_COUNT; event++) {
            enum client_state next = CLIENT_STATE_COUNT;
            bool means = client_state_next(state, event, &next);
            const char *to = expected[state].to[event];
            ck_assert_msg(strcmp(means ? client_state_name(next) : ".", to) == 0,
                          "%s + %s: %s, not %s", client_state_name(state), client_event_name(event),
                          means ? client_state_name(next) : ".", to);
            ck_assert(means || next == CLIENT_STATE_COUNT);
        }
    }
}
END_TEST

START_TEST(states_are_shown_by_the_words_of_the_api) {
    static const char *const words[] = {"waiting", "connecting", "online",
                                        "backoff", "conflict",   "paused"};
    for (int state = 0; state < CLIENT_STATE_COUNT; state++) {
        bool known = false;
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
            known = known || strcmp(words[i], client_state_shown(state)) == 0;
        }
        ck_assert_msg(known, "%s", client_state_shown(state));
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("client_state");
    TCase *tcase = tcase_create("client_state");
    tcase_add_test(tcase, every_pair_of_state_and_event_does_what_the_table_says);
    tcase_add_test(tcase, states_are_shown_by_the_words_of_the_api);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
