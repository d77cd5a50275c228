/* Tests of mqtt/client/subscribing: the plan against simulated brokers that close connections for
 * various reasons. */
#include "mqtt/client/subscribing.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILTERS_MAX     1000
#define CONNECTIONS_MAX 400
#define HOUR_MS         3600000

/* A simulated broker and its client. */
static struct game {
    struct client_subscription subscriptions[FILTERS_MAX];
    struct client_config config;
    struct subscribing plan;
    struct subscribing_rules rules;
    int64_t now_ms;

    size_t packet_limit, total_limit; /* 0: none */
    bool bad[FILTERS_MAX];            /* a SUBSCRIBE with one of these ends the connection */
    bool denied[FILTERS_MAX]; /* SUBACK refuses the first of these and all filters after it */
    bool closes;              /* the broker closes after a SUBACK that refuses */
    bool ends;                /* it closes once all filters were requested, if it refused one */
    bool keeps, skips; /* the session outlives the connection; filters of the session are skipped */
    bool held[FILTERS_MAX]; /* by the broker's session */

    size_t connections, packets, packet_most;
    bool online;
} game;

static void game_begin(size_t count) {
    static char filter[] = "a";
    memset(&game, 0, sizeof game);
    for (size_t i = 0; i < count; i++) {
        game.subscriptions[i] = (struct client_subscription){.filter = filter, .qos = 1};
    }
    game.config =
        (struct client_config){.subscriptions = game.subscriptions, .subscription_count = count};
    game.rules = (struct subscribing_rules){.packet_max = 64,
                                            .version = 5,
                                            .retry_ms_min = 1000,
                                            .retry_ms_max = 60000,
                                            .deferred_ms_min = 60000,
                                            .deferred_ms_max = HOUR_MS};
    game.now_ms = 1000000;
    ck_assert_int_eq(subscribing_init(&game.plan, &game.config), ERR_OK);
}

static void game_end(void) {
    subscribing_fini(&game.plan);
}

static size_t game_held(void) {
    size_t n = 0;
    for (size_t i = 0; i < game.config.subscription_count; i++) {
        n += game.held[i];
    }
    return n;
}

/* False: the broker closes. */
static bool game_takes(const uint16_t *filters, size_t n) {
    game.packets++;
    game.packet_most = n > game.packet_most ? n : game.packet_most;
    if (game.packet_limit > 0 && n > game.packet_limit) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        bool fresh = !game.held[filters[i]];
        if (game.bad[filters[i]] ||
            (fresh && game.total_limit > 0 && game_held() >= game.total_limit)) {
            return false;
        }
        game.held[filters[i]] = true;
    }
    return true;
}

/* Whether the SUBACK refuses one. */
static bool game_answers(const uint16_t *filters, size_t n, uint8_t *codes) {
    bool denied = false;
    for (size_t i = 0; i < n; i++) {
        denied = denied || game.denied[filters[i]];
        codes[i] = denied ? 0x87 : 0;
        game.held[filters[i]] = game.held[filters[i]] && !denied;
    }
    return denied;
}

/* False: the connection ended. */
static bool game_subscribe(void) {
    uint16_t filters[256];
    int32_t places[256];
    uint8_t codes[256] = {0};
    size_t n;
    bool denied = false;
    while ((n = subscribing_next(&game.plan, &game.config, &game.rules, filters)) > 0) {
        ck_assert_uint_le(n, game.rules.packet_max);
        subscribing_asked(&game.plan, filters, n);
        if (!game_takes(filters, n)) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            ck_assert_uint_eq(game.subscriptions[filters[i]].identifier,
                              game.subscriptions[filters[0]].identifier);
            places[i] = filters[i];
        }
        bool now = game_answers(filters, n, codes);
        subscribing_acknowledged(&game.plan, game.config.subscription_count, places, codes, n,
                                 game.now_ms);
        denied = denied || now;
        if (now && game.closes) {
            return false;
        }
    }
    if (denied && game.ends) {
        return false;
    }
    subscribing_complete(&game.plan, game.config.subscription_count);
    return true;
}

static void game_connect(void) {
    size_t count = game.config.subscription_count;
    game.connections++;
    if (!game.keeps) {
        memset(game.held, 0, sizeof game.held);
    }
    subscribing_connected(&game.plan, count, game.keeps && game.connections > 1, game.skips);
    game.online = game_subscribe();
    game.now_ms += 1000;
    if (!game.online && subscribing_was_just_refused(&game.plan, game.now_ms)) {
        size_t n = 0;
        size_t first = subscribing_blame_refused(&game.plan, count, &game.rules, game.now_ms, &n);
        ck_assert_uint_ge(n, 1);
        ck_assert_uint_lt(first, count);
    } else if (!game.online) {
        ck_assert(subscribing_blame(&game.plan, count, &game.rules, game.now_ms));
    }
}

/* Connects until everything possible is subscribed. */
static void game_play(void) {
    do {
        game_connect();
        ck_assert_uint_lt(game.connections, CONNECTIONS_MAX);
    } while (!game.online);
}

static bool game_named(size_t i) {
    return (game.plan.filters[i].flags & FILTER_ENDS_CONNECTION) != 0;
}

/* Every filter is granted or reported as refused, and no good filter is reported. */
static void game_expect_named_are_bad(void) {
    for (size_t i = 0; i < game.config.subscription_count; i++) {
        ck_assert_msg(game_named(i) == game.bad[i], "filter %zu", i);
        ck_assert_msg(game.bad[i] || game.held[i], "filter %zu is not held", i);
    }
}

/* ---- limits ---- */

START_TEST(all_is_asked_for_in_packets_of_the_setting) {
    static const struct {
        size_t count, packets, most;
    } cases[] = {{1, 1, 1}, {64, 1, 64}, {65, 2, 64}, {1000, 16, 64}};
    game_begin(cases[_i].count);
    game_play();
    ck_assert_uint_eq(game.connections, 1);
    ck_assert_uint_eq(game.packets, cases[_i].packets);
    ck_assert_uint_eq(game.packet_most, cases[_i].most);
    ck_assert_ptr_null(game.plan.learned); /* a healthy client keeps no extra memory */
    game_end();
}
END_TEST

START_TEST(a_packet_holds_filters_of_one_identifier) {
    game_begin(130);
    for (size_t i = 0; i < 130; i++) {
        game.subscriptions[i].identifier = (uint32_t)(i % 3);
    }
    game_play();
    ck_assert_uint_eq(game.packets, 3);
    game_end();
}
END_TEST

/* B1 */
START_TEST(a_limit_of_filters_in_a_packet_is_found_by_halves_and_remembered) {
    static const size_t counts[] = {9, 20, 64, 65, 1000};
    game_begin(counts[_i]);
    game.packet_limit = 8;
    game_play();
    game_expect_named_are_bad();
    ck_assert_uint_le(game.connections, 5);
    game_play();
    ck_assert_uint_le(game.connections, 6); /* at once */
    game_end();
}
END_TEST

START_TEST(a_broker_that_takes_one_filter_at_a_time_gets_so) {
    game_begin(200);
    game.packet_limit = 1;
    game_play();
    game_expect_named_are_bad();
    ck_assert_uint_le(game.connections, 9);
    game_end();
}
END_TEST

/* Like AWS IoT: 8 in a packet, 50 on a connection. */
START_TEST(a_limit_of_filters_on_a_connection_is_found) {
    static const size_t counts[] = {51, 60, 100, 1000};
    game_begin(counts[_i / 4]);
    game.keeps = _i & 1;
    game.skips = _i & 2;
    game.packet_limit = 8;
    game.total_limit = 50;
    game_play();
    ck_assert_uint_eq(game_held(), 50);
    ck_assert_uint_le(game.connections, 24);
    ck_assert_uint_eq(subscribing_refused_count(&game.plan, game.config.subscription_count),
                      game.config.subscription_count - 50);
    size_t before = game.connections;
    game_play();
    ck_assert_uint_eq(game.connections, before + 1);
    game_end();
}
END_TEST

/* ---- filters that end the connection ---- */

/* B3 */
START_TEST(one_bad_filter_is_named_and_the_others_are_held) {
    static const struct {
        size_t count, bad, connections;
    } cases[] = {{1, 0, 3},       {2, 1, 4},       {20, 0, 8},    {20, 19, 8},
                 {20, 7, 8},      {65, 64, 4},     {1000, 0, 10}, {1000, 1, 10},
                 {1000, 999, 10}, {1000, 500, 10}, {1000, 2, 10}, {64, 63, 10}};
    for (int kept = 0; kept < 3; kept++) {
        game_begin(cases[_i].count);
        game.bad[cases[_i].bad] = true;
        game.keeps = kept > 0;
        game.skips = kept > 1;
        game_play();
        game_expect_named_are_bad();
        ck_assert_uint_le(game.connections, cases[_i].connections);
        size_t packets = game.packets, connections = game.connections;
        game_play();
        ck_assert_uint_eq(game.connections, connections + 1);
        ck_assert_uint_le(game.packets - packets, 16 + 8); /* large packets for the good filters */
        game_end();
    }
}
END_TEST

START_TEST(several_bad_filters_are_named) {
    static const size_t sets[][4] = {{0, 1, 2, 3},     {0, 999, 500, 250}, {60, 61, 62, 63},
                                     {62, 63, 64, 65}, {0, 64, 128, 192},  {996, 997, 998, 999},
                                     {10, 20, 30, 40}};
    for (int kept = 0; kept < 3; kept++) {
        game_begin(1000);
        game.keeps = kept > 0;
        game.skips = kept > 1;
        for (size_t k = 0; k < 4; k++) {
            game.bad[sets[_i][k]] = true;
        }
        game_play();
        ck_assert_uint_eq(game_held(), 996);
        ck_assert_uint_eq(subscribing_refused_count(&game.plan, 1000), 4);
        ck_assert_uint_le(game.connections, 4 * 9 + 1);
        game_end();
    }
}
END_TEST

START_TEST(random_sets_of_bad_filters_come_to_an_end) {
    srandom((unsigned)_i + 1);
    game_begin((size_t)random() % 300 + 1);
    game.packet_limit = random() % 2 ? 0 : (size_t)random() % 70 + 1;
    game.keeps = random() % 2;
    game.skips = random() % 2;
    size_t bad = (size_t)random() % 4;
    for (size_t k = 0; k < bad; k++) {
        game.bad[(size_t)random() % game.config.subscription_count] = true;
    }
    game_play();
    ck_assert_uint_le(game.connections, 10 + bad * 9);
    for (size_t i = 0; i < game.config.subscription_count; i++) {
        ck_assert_msg(game.bad[i] || !game_named(i), "filter %zu is good, and named", i);
        ck_assert_msg(game.bad[i] || game.held[i] || game.plan.filters[i].flags & FILTER_DEFERRED,
                      "filter %zu", i);
    }
    game_end();
}
END_TEST

START_TEST(a_broker_that_closes_at_any_filter_has_the_client_online_without) {
    game_begin(_i == 0 ? 20 : 1000);
    memset(game.bad, true, sizeof game.bad);
    game_play();
    ck_assert_uint_le(game.connections, 14);
    ck_assert_uint_eq(subscribing_refused_count(&game.plan, game.config.subscription_count),
                      game.config.subscription_count);
    game_end();
}
END_TEST

START_TEST(many_bad_filters_do_not_keep_the_client_offline) {
    game_begin(1000);
    for (size_t i = 0; i < 1000; i += 2) {
        game.bad[i] = true;
    }
    game_play();
    ck_assert_uint_le(game.connections, 60);
    game_end();
}
END_TEST

/* For example, a permission was revoked: before, the broker accepted all of them. */
START_TEST(what_a_kept_session_holds_may_become_bad) {
    static const struct {
        size_t count, bad, connections;
    } cases[] = {{20, 20, 14}, {1000, 1000, 62}, {1000, 100, 62}};
    game_begin(cases[_i].count);
    game.keeps = true;
    game_play();
    memset(game.bad, true, cases[_i].bad);
    size_t before = game.connections;
    game_play();
    ck_assert_uint_le(game.connections - before, cases[_i].connections);
    ck_assert_uint_ge(subscribing_refused_count(&game.plan, cases[_i].count), cases[_i].bad);
    game_end();
}
END_TEST

START_TEST(a_limit_that_sinks_does_not_keep_the_client_offline) {
    game_begin(1000);
    game.keeps = true;
    game.total_limit = 355;
    game_play();
    game.total_limit = 19;
    game.bad[7] = game.bad[8] = true;
    size_t before = game.connections;
    game_play();
    ck_assert_uint_le(game.connections - before, 62);
    game_end();
}
END_TEST

/* ---- later ---- */

static int64_t game_due_ms(void) {
    return subscribing_due_ms(&game.plan, game.config.subscription_count, &game.rules, game.now_ms);
}

/* Tries what is due; false: the connection ended. */
static bool game_try_again(void) {
    int64_t due_ms = game_due_ms();
    ck_assert_int_gt(due_ms, 0);
    game.now_ms = due_ms > game.now_ms ? due_ms : game.now_ms;
    subscribing_retry(&game.plan, game.config.subscription_count, &game.rules, game.now_ms);
    return game_subscribe();
}

START_TEST(a_named_filter_is_tried_alone_ever_more_seldom) {
    game_begin(20);
    game.bad[7] = true;
    game_play();
    int64_t rest_ms = 0;
    for (int i = 0; i < 10; i++) {
        int64_t from_ms = game.now_ms;
        game.packet_most = 0;
        ck_assert(!game_try_again());
        ck_assert_uint_eq(game.packet_most, 1);
        ck_assert_int_ge(game.now_ms - from_ms, i == 0 ? 0 : rest_ms - 1000);
        ck_assert_int_le(game.now_ms - from_ms, HOUR_MS);
        rest_ms = rest_ms == 0 ? 60000 : rest_ms * 2 > HOUR_MS ? HOUR_MS : rest_ms * 2;
        ck_assert(subscribing_blame(&game.plan, 20, &game.rules, game.now_ms));
        game_connect();
        ck_assert(game.online); /* with the others */
        game_expect_named_are_bad();
    }
    game_end();
}
END_TEST

START_TEST(a_named_filter_that_is_granted_is_on_trial_first) {
    game_begin(20);
    game.bad[7] = true;
    game_play();
    game.bad[7] = false;
    ck_assert(game_try_again());
    ck_assert(subscribing_has_pending(&game.plan, 20));
    ck_assert(game_named(7));
    if (_i == 0) { /* the broker closes after all */
        ck_assert(subscribing_blame(&game.plan, 20, &game.rules, game.now_ms));
        ck_assert(game_named(7));
        game_connect();
        ck_assert(game.online);
        ck_assert_uint_eq(subscribing_refused_count(&game.plan, 20), 1);
    } else {
        ck_assert(game_try_again());
        ck_assert(!subscribing_has_pending(&game.plan, 20));
        ck_assert_uint_eq(subscribing_refused_count(&game.plan, 20), 0);
        ck_assert_int_eq(game_due_ms(), 0);
        game_expect_named_are_bad();
    }
    game_end();
}
END_TEST

START_TEST(filters_that_were_put_off_follow_once_one_of_them_is_granted) {
    game_begin(100);
    memset(game.bad, true, sizeof game.bad);
    game_play();
    memset(game.bad, false, sizeof game.bad);
    ck_assert(game_try_again());
    ck_assert_uint_ge(game_held(), 90);
    game_end();
}
END_TEST

START_TEST(a_filter_beyond_the_limit_follows_when_another_goes) {
    game_begin(60);
    game.total_limit = 50;
    game_play();
    ck_assert_uint_eq(game_held(), 50);
    game.total_limit = 0;
    while (!game_try_again()) {
        ck_assert(subscribing_blame(&game.plan, 60, &game.rules, game.now_ms));
        game_play();
    }
    game_expect_named_are_bad();
    ck_assert_uint_eq(subscribing_refused_count(&game.plan, 60), 0);
    game_end();
}
END_TEST

START_TEST(a_loss_that_is_not_blamed_charges_nothing) {
    game_begin(20);
    game.bad[7] = true;
    for (int i = 0; i < 10; i++) {
        uint16_t filters[256];
        subscribing_connected(&game.plan, 20, false, false);
        size_t n = subscribing_next(&game.plan, &game.config, &game.rules, filters);
        ck_assert_uint_eq(n, 20);
        subscribing_asked(&game.plan, filters, n);
    }
    subscribing_connected(&game.plan, 20, false, false);
    ck_assert(!subscribing_has_pending(&game.plan, 20));
    ck_assert(!subscribing_blame(&game.plan, 20, &game.rules, 0));
    ck_assert_ptr_null(game.plan.learned);
    game_end();
}
END_TEST

/* B5 */
START_TEST(what_is_refused_for_the_moment_is_asked_for_again) {
    static const struct {
        int version;
        uint8_t code;
        bool again;
    } cases[] = {{5, 0x80, true},  {4, 0x80, false}, {5, 0x83, true},  {5, 0x91, true},
                 {5, 0x97, true},  {5, 0x87, false}, {5, 0x8F, false}, {5, 0x9E, false},
                 {5, 0xA1, false}, {5, 0xA2, false}, {5, 2, false},    {4, 0x91, true},
                 {4, 0x97, true},  {4, 0x83, true},  {4, 0x8F, false}};
    uint16_t filters[256];
    game_begin(3);
    game.rules.version = cases[_i].version;
    subscribing_connected(&game.plan, 3, false, false);
    ck_assert_uint_eq(subscribing_next(&game.plan, &game.config, &game.rules, filters), 3);
    subscribing_asked(&game.plan, filters, 3);
    const uint8_t codes[] = {1, cases[_i].code, 1};
    subscribing_acknowledged(&game.plan, 3, (const int32_t[]){0, 1, 2}, codes, 3, game.now_ms);
    subscribing_complete(&game.plan, 3);
    ck_assert_int_eq(game_due_ms() > 0, cases[_i].again);
    if (cases[_i].again) {
        int64_t due_ms = game_due_ms();
        ck_assert_int_ge(due_ms - game.now_ms, 1000);
        subscribing_retry(&game.plan, 3, &game.rules, due_ms);
        ck_assert_uint_eq(subscribing_next(&game.plan, &game.config, &game.rules, filters), 1);
        ck_assert_uint_eq(filters[0], 1);
        subscribing_acknowledged(&game.plan, 3, (const int32_t[]){1}, codes, 1, due_ms);
        ck_assert_int_eq(game_due_ms(), 0);
    }
    game_end();
}
END_TEST

/* B6 */
START_TEST(what_the_session_holds_is_skipped_where_that_is_wanted) {
    uint16_t filters[256];
    game_begin(3);
    game.keeps = true;
    game_play();
    subscribing_connected(&game.plan, 3, true, true);
    ck_assert_uint_eq(subscribing_next(&game.plan, &game.config, &game.rules, filters), 0);
    subscribing_connected(&game.plan, 3, true, false);
    ck_assert_uint_eq(subscribing_next(&game.plan, &game.config, &game.rules, filters), 3);
    subscribing_connected(&game.plan, 3, false, true); /* the broker has lost it */
    ck_assert_uint_eq(subscribing_next(&game.plan, &game.config, &game.rules, filters), 3);
    subscribing_connected(&game.plan, 3, true, true); /* nothing was granted in this session */
    ck_assert_uint_eq(subscribing_next(&game.plan, &game.config, &game.rules, filters), 3);
    game_play();
    subscribing_forget_session(&game.plan, 3);
    subscribing_connected(&game.plan, 3, true, true);
    ck_assert_uint_eq(subscribing_next(&game.plan, &game.config, &game.rules, filters), 3);
    game_end();
}
END_TEST

START_TEST(a_changed_list_keeps_what_is_known_of_the_same_filters) {
    char names[4][2] = {"a", "b", "c", "d"};
    struct client_subscription before[] = {{.filter = names[0]}, {.filter = names[1]}},
                               after[] = {{.filter = names[2]},
                                          {.filter = names[1]},
                                          {.filter = names[0], .qos = 1}};
    struct client_config from = {.subscriptions = before, .subscription_count = 2},
                         to = {.subscriptions = after, .subscription_count = 3};
    struct subscribing plan;
    uint16_t filters[256];
    game_begin(1);
    ck_assert_int_eq(subscribing_init(&plan, &from), ERR_OK);
    subscribing_asked(&plan, (const uint16_t[]){0, 1}, 2);
    subscribing_acknowledged(&plan, 2, (const int32_t[]){0, 1}, (const uint8_t[]){0, 0}, 2, 0);
    ck_assert_int_eq(subscribing_change(&plan, &from, &to), ERR_OK);
    ck_assert_uint_eq(subscribing_next(&plan, &to, &game.rules, filters), 2);
    ck_assert_uint_eq(filters[0], 0);
    ck_assert_uint_eq(filters[1], 2); /* its options changed */
    subscribing_fini(&plan);
    game_end();
}
END_TEST

START_TEST(unsubscribing_is_given_up_when_the_broker_closes_at_each) {
    game_begin(1);
    size_t losses = 0;
    ck_assert_uint_eq(subscribing_unsubscribe_max(&game.plan, &game.rules), 64);
    while (subscribing_blame_unsubscribe(&game.plan, 1, &game.rules)) {
        losses++;
        ck_assert_uint_le(losses, 10);
    }
    ck_assert_uint_eq(subscribing_unsubscribe_max(&game.plan, &game.rules), 0);
    game_end();
}
END_TEST

/* ---- a SUBACK that refuses, and the end of the connection ---- */

static void game_expect_named_are_denied(void) {
    for (size_t i = 0; i < game.config.subscription_count; i++) {
        ck_assert_msg(game_named(i) == game.denied[i], "filter %zu", i);
        ck_assert_msg(game.denied[i] || game.held[i], "filter %zu is not held", i);
    }
}

/* Like RabbitMQ 4, at once or when everything has been requested. */
START_TEST(a_broker_that_refuses_and_closes_has_those_it_refuses_named) {
    static const struct {
        size_t count, denied[4], n;
    } cases[] = {{1, {0}, 1},           {2, {0}, 1},
                 {20, {19}, 1},         {20, {0}, 1},
                 {20, {3, 4, 5, 6}, 4}, {64, {0, 21, 42, 63}, 4},
                 {200, {70, 71, 3}, 3}, {200, {0, 64, 128, 192}, 4}};
    for (int late = 0; late < 2; late++) {
        game_begin(cases[_i].count);
        game.closes = !late;
        game.ends = late;
        for (size_t k = 0; k < cases[_i].n; k++) {
            game.denied[cases[_i].denied[k]] = true;
        }
        game_play();
        game_expect_named_are_denied();
        ck_assert_uint_le(game.connections, cases[_i].n * (1 + (size_t)!late * 6) + 8);
        size_t before = game.connections;
        game_play();
        ck_assert_uint_eq(game.connections, before + 1); /* they are not requested again */
        game_end();
    }
}
END_TEST

/* The same symptoms as a rival that returns within a second, with some refusals: soon the losses
 * are no longer blamed on filters, so that the rival can be detected. */
START_TEST(filters_that_are_refused_explain_few_losses) {
    game_begin(1000);
    game.ends = true;
    memset(game.denied, true, sizeof game.denied);
    game_play();
    ck_assert_uint_le(game.connections, 9);
    game_end();
}
END_TEST

START_TEST(a_broker_that_refuses_all_and_closes_has_the_client_online_without) {
    game_begin(1000);
    game.closes = true;
    memset(game.denied, true, sizeof game.denied);
    game_play();
    ck_assert_uint_le(game.connections, 62);
    game_end();
}
END_TEST

START_TEST(a_filter_that_is_too_long_is_not_taken_for_one_that_the_broker_refused) {
    const int32_t place = 1;
    const uint16_t asked = 1;
    const uint8_t code = 0x87;
    size_t n = 9;
    game_begin(2);
    subscribing_refuse_too_long(&game.plan, 0);
    ck_assert(!subscribing_was_just_refused(&game.plan, 1000));
    subscribing_blame_refused(&game.plan, 2, &game.rules, 1000, &n);
    ck_assert_uint_eq(n, 0);
    subscribing_asked(&game.plan, &asked, 1);
    subscribing_acknowledged(&game.plan, 2, &place, &code, 1, 1000);
    ck_assert_uint_eq(subscribing_blame_refused(&game.plan, 2, &game.rules, 1000, &n), 1);
    ck_assert_uint_eq(n, 1);
    ck_assert(!game_named(0));
    ck_assert(game_named(1));
    ck_assert_int_eq(subscribing_refusal(&game.plan.filters[0]),
                     CLIENT_ERROR_SUBSCRIPTION_TOO_LONG);
    ck_assert_int_eq(subscribing_shown_code(&game.plan.filters[0]), 0x95);
    game_end();
}
END_TEST

/* Temporarily refused, and in flight again when the connection ends. */
START_TEST(what_was_refused_and_is_asked_for_again_is_still_what_was_refused) {
    const int32_t place = 0;
    const uint16_t asked = 0;
    const uint8_t code = 0x97;
    size_t n = 0;
    game_begin(1);
    subscribing_asked(&game.plan, &asked, 1);
    subscribing_acknowledged(&game.plan, 1, &place, &code, 1, 1000);
    int64_t again_ms = subscribing_due_ms(&game.plan, 1, &game.rules, 1000);
    subscribing_retry(&game.plan, 1, &game.rules, again_ms);
    subscribing_asked(&game.plan, &asked, 1);
    ck_assert(subscribing_was_just_refused(&game.plan, again_ms));
    subscribing_blame_refused(&game.plan, 1, &game.rules, again_ms, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert(game_named(0));
    ck_assert(!subscribing_has_pending(&game.plan, 1));
    game_end();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("subscribing");
    TCase *limits = tcase_create("limits"), *bad = tcase_create("bad filters"),
          *later = tcase_create("later");
    tcase_add_loop_test(limits, all_is_asked_for_in_packets_of_the_setting, 0, 4);
    tcase_add_test(limits, a_packet_holds_filters_of_one_identifier);
    tcase_add_loop_test(limits, a_limit_of_filters_in_a_packet_is_found_by_halves_and_remembered, 0,
                        5);
    tcase_add_test(limits, a_broker_that_takes_one_filter_at_a_time_gets_so);
    tcase_add_loop_test(limits, a_limit_of_filters_on_a_connection_is_found, 0, 16);
    tcase_add_loop_test(bad, one_bad_filter_is_named_and_the_others_are_held, 0, 12);
    tcase_add_loop_test(bad, several_bad_filters_are_named, 0, 7);
    tcase_add_loop_test(bad, random_sets_of_bad_filters_come_to_an_end, 0, 300);
    tcase_add_loop_test(bad, a_broker_that_closes_at_any_filter_has_the_client_online_without, 0,
                        2);
    tcase_add_test(bad, many_bad_filters_do_not_keep_the_client_offline);
    tcase_add_loop_test(bad, what_a_kept_session_holds_may_become_bad, 0, 3);
    tcase_add_test(bad, a_filter_that_is_too_long_is_not_taken_for_one_that_the_broker_refused);
    tcase_add_loop_test(bad, a_broker_that_refuses_and_closes_has_those_it_refuses_named, 0, 8);
    tcase_add_test(bad, filters_that_are_refused_explain_few_losses);
    tcase_add_test(bad, a_broker_that_refuses_all_and_closes_has_the_client_online_without);
    tcase_add_test(bad, what_was_refused_and_is_asked_for_again_is_still_what_was_refused);
    tcase_add_test(bad, a_limit_that_sinks_does_not_keep_the_client_offline);
    tcase_add_test(later, a_named_filter_is_tried_alone_ever_more_seldom);
    tcase_add_loop_test(later, a_named_filter_that_is_granted_is_on_trial_first, 0, 2);
    tcase_add_test(later, filters_that_were_put_off_follow_once_one_of_them_is_granted);
    tcase_add_test(later, a_filter_beyond_the_limit_follows_when_another_goes);
    tcase_add_test(later, a_loss_that_is_not_blamed_charges_nothing);
    tcase_add_loop_test(later, what_is_refused_for_the_moment_is_asked_for_again, 0, 15);
    tcase_add_test(later, what_the_session_holds_is_skipped_where_that_is_wanted);
    tcase_add_test(later, a_changed_list_keeps_what_is_known_of_the_same_filters);
    tcase_add_test(later, unsubscribing_is_given_up_when_the_broker_closes_at_each);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, bad);
    suite_add_tcase(suite, later);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
