/* A connection to a broker with several addresses, until TCP has connected to one: loopback
 * addresses with listeners of the test, some of which do not answer. */
#include <sys/resource.h>
#include "mqtt/broker/address_list.h"
#include "mqtt/reactor_fixture.h"

#define SILENT_PLUGS 4

static int allowed, allowed_max;
static struct address_list list;
static int silent[ADDRESS_LIST_MAX][1 + SILENT_PLUGS];
static size_t silent_count;

static bool may_connect(void *client) {
    (void)client;
    if (allowed == allowed_max) {
        return false;
    }
    allowed++;
    return true;
}

static void socket_over(void *client) {
    (void)client;
    ck_assert_int_gt(allowed--, 0);
}

static struct engine_events events;

static void setup(void) {
    bench_setup(5, 4194304);
    engine_reactor.destroy(bench.engine);
    events = bench_events;
    events.may_connect = may_connect;
    events.socket_done = socket_over;
    bench.engine = engine_reactor.create(&bench.conf, &events);
    allowed = 0;
    allowed_max = 100;
    list.count = 0;
    silent_count = 0;
}

static void teardown(void) {
    bench_teardown();
    ck_assert_int_eq(allowed, 0);
    for (size_t i = 0; i < silent_count; i++) {
        for (size_t j = 0; j <= SILENT_PLUGS; j++) {
            close(silent[i][j]);
        }
    }
}

static struct sockaddr_in *add(uint8_t last_byte) {
    struct sockaddr_in *address = &list.items[list.count++].v4;
    *address = bench.address;
    address->sin_addr.s_addr = htonl(0x7F000000u | last_byte);
    return address;
}

/* A listener with a full backlog, so that SYNs are dropped. */
static void add_silent(uint8_t last_byte) {
    struct sockaddr_in *address = add(last_byte);
    int *fds = silent[silent_count++];
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fds[0], (struct sockaddr *)address, sizeof *address), 0);
    ck_assert_int_eq(listen(fds[0], 0), 0);
    for (size_t i = 1; i <= SILENT_PLUGS; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(fds[i], (struct sockaddr *)address, sizeof *address);
    }
}

static void open_raced(int64_t timeout_ms) {
    struct engine_open open = {.config = &bench.config,
                               .address_len = sizeof(struct sockaddr_in),
                               .addresses = &list,
                               .connect_timeout_ms = timeout_ms,
                               .keepalive_s = 60,
                               .session = &bench.session,
                               .client = &bench};
    memcpy(&open.address, &list.items[0], sizeof(struct sockaddr_in));
    bench.connected = bench.closed = 0;
    ck_assert_int_eq(engine_reactor.open(bench.engine, &open, &bench.connection), ERR_OK);
}

static void poll_for(int64_t time_ms) {
    for (int64_t end_ms = clock_ms() + time_ms; clock_ms() < end_ms;) {
        engine_reactor.poll(bench.engine, 10);
    }
}

/* How long until the broker has the connection, which it then accepts. */
static int64_t let_in_ms(void) {
    int64_t began_ms = clock_ms();
    UNTIL((bench.peer = accept4(bench.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0);
    int64_t took_ms = clock_ms() - began_ms;
    bench_expect(PACKET_CONNECT);
    ck_assert_int_eq(allowed, 0); /* the other sockets were closed before */
    bench_accept_connection(false);
    ck_assert_int_eq(bench.connected, 1);
    return took_ms;
}

START_TEST(the_next_address_follows_after_a_quarter_of_a_second) {
    add_silent(2);
    add_silent(3);
    add(1);
    open_raced(60000);
    int64_t took_ms = let_in_ms();
    ck_assert_int_ge(took_ms, 400);
    ck_assert_int_lt(took_ms, 2000);
}
END_TEST

START_TEST(the_next_address_follows_at_once_after_a_failure) {
    for (uint8_t i = 2; i < 9; i++) {
        add(i);
    }
    add(1);
    open_raced(60000);
    ck_assert_int_lt(let_in_ms(), 200);
}
END_TEST

/* When the next address is due, the first is closed for it, and no socket can be opened. */
START_TEST(where_no_address_is_left_it_ends_before_its_time) {
    struct rlimit before, none;
    allowed_max = 0;
    add_silent(2);
    add(3);
    open_raced(60000);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    poll_for(1000);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_int_eq(bench.closed, 1);
}
END_TEST

START_TEST(without_leave_for_a_second_socket_the_first_makes_room) {
    allowed_max = 0;
    add_silent(2);
    add(1);
    open_raced(60000);
    ck_assert_int_ge(let_in_ms(), 450);
}
END_TEST

START_TEST(what_made_room_is_tried_again_when_all_others_have_failed) {
    allowed_max = 0;
    add_silent(2);
    add(3);
    open_raced(1500);
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "connect_timeout");
}
END_TEST

START_TEST(the_first_is_tried_again_while_others_do_not_answer) {
    add(1);
    add_silent(2);
    close(bench.listener);
    open_raced(60000);
    poll_for(300);
    bench.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(bench.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    ck_assert_int_eq(bind(bench.listener, (struct sockaddr *)&bench.address, sizeof(bench.address)),
                     0);
    ck_assert_int_eq(listen(bench.listener, 8), 0);
    ck_assert_int_lt(let_in_ms(), 3000);
}
END_TEST

START_TEST(each_address_is_told_where_none_is_reached) {
    add(2);
    add(3);
    open_raced(60000);
    UNTIL(bench.closed == 1);
    ck_assert_str_eq(bench.code, "connection_refused");
    ck_assert_int_eq(allowed, 0);
}
END_TEST

START_TEST(a_race_may_be_closed_while_it_lasts) {
    add_silent(2);
    add_silent(3);
    add_silent(4);
    open_raced(60000);
    UNTIL(allowed == 2);
    engine_reactor.close(bench.connection, false);
    UNTIL(bench.closed == 1);
    ck_assert_int_eq(allowed, 0);
}
END_TEST

/* ---- the order ---- */

static union socket_address numbered(uint8_t last_byte) {
    list.count = 0;
    add(last_byte);
    return list.items[0];
}

START_TEST(addresses_are_moved_and_bounded) {
    union socket_address two = numbered(2), three = numbered(3), nine = numbered(9);
    list.count = 0;
    for (uint8_t i = 1; i <= 4; i++) {
        add(i);
    }
    address_list_move_first(&list, &three);
    address_list_move_last(&list, &two);
    address_list_move_last(&list, &nine); /* not there */
    const uint8_t order[] = {3, 1, 4, 2};
    ck_assert_uint_eq(list.count, 4);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(ntohl(list.items[i].v4.sin_addr.s_addr) & 0xFF, order[i]);
    }
    for (uint8_t i = 10; i < 20; i++) {
        union socket_address one = nine;
        one.v4.sin_addr.s_addr = htonl(0x7F000000u | i);
        address_list_put_last(&list, &one);
    }
    ck_assert_uint_eq(list.count, ADDRESS_LIST_MAX);
    ck_assert_uint_eq(ntohl(list.items[7].v4.sin_addr.s_addr) & 0xFF, 19);
    list.count = 0;
}
END_TEST

int main(void) {
    const TTest *const tests[] = {
        the_next_address_follows_after_a_quarter_of_a_second,
        the_next_address_follows_at_once_after_a_failure,
        where_no_address_is_left_it_ends_before_its_time,
        without_leave_for_a_second_socket_the_first_makes_room,
        what_made_room_is_tried_again_when_all_others_have_failed,
        the_first_is_tried_again_while_others_do_not_answer,
        each_address_is_told_where_none_is_reached,
        a_race_may_be_closed_while_it_lasts,
        addresses_are_moved_and_bounded,
    };
    Suite *suite = suite_create("race");
    TCase *tcase = tcase_create("race");
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        tcase_add_test(tcase, tests[i]);
    }
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
