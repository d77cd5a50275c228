/* What outlives a connection. */
#include <check.h>
#include <stdlib.h>
#include <utlist.h>
#include "mqtt/reactor/reactor.h"

static struct engine engine;
static struct engine_connection first, second;
static struct engine_session *session;
static int unanswered;

static void on_published(void *client, uint64_t token, const struct publish_result *result) {
    ck_assert_ptr_eq(client, &engine);
    ck_assert(token == 1 && result->err == ERR_UNAVAILABLE && result->reason_code == 0);
    unanswered--;
}

static const struct engine_events events = {.published = on_published};

static void setup(void) {
    engine = (struct engine){.events = &events};
    ck_assert_int_eq(inbound_table_init(&engine.inbound), ERR_OK);
    session = session_create(&engine);
    session_attach(session, &first);
}

static void teardown(void) {
    session->connection = NULL;
    session_end(&engine, session);
    ck_assert_int_eq(unanswered, 0);
    inbound_table_fini(&engine.inbound); /* asserts that it is empty */
}

static struct inbound *hold(uint16_t packet_id, enum inbound_state state) {
    struct inbound *inbound = calloc(1, sizeof *inbound);
    inbound->session = session;
    inbound->packet_id = packet_id;
    inbound->connection_number = session->connection_number;
    inbound->state = (uint8_t)state;
    inbound_table_add(&engine.inbound, inbound);
    if (state == INBOUND_RECEIVED) {
        DL_APPEND(session->received, inbound);
    } else {
        DL_APPEND(session->unacknowledged, inbound);
    }
    session->offered += state == INBOUND_OFFERED;
    return inbound;
}

static void publish_as(uint16_t packet_id) {
    struct outbound *outbound = calloc(1, sizeof *outbound);
    outbound->packet_id = packet_id;
    outbound->token = 1;
    outbound->qos = 1;
    DL_APPEND(session->outbound, outbound);
    unanswered++;
}

START_TEST(what_is_not_acknowledged_waits_in_order_for_the_next_connection) {
    struct inbound *offered = hold(1, INBOUND_OFFERED);
    struct inbound *accepted = hold(2, INBOUND_ACCEPTED);
    session->connection = NULL;
    session_attach(session, &second);
    ck_assert_ptr_null(session->unacknowledged);
    ck_assert_uint_eq(session->offered, 0);
    ck_assert_ptr_eq(session->earlier, offered);
    ck_assert_ptr_eq(offered->next, accepted);
    session_forget(&engine, offered);
    ck_assert_uint_eq(session->offered, 0);
    ck_assert_ptr_null(offered->session);
    ck_assert_ptr_eq(session->earlier, accepted);
    free(offered);
}
END_TEST

START_TEST(what_is_with_a_sink_outlives_being_forgotten) {
    struct inbound *offered = hold(1, INBOUND_OFFERED);
    hold(2, INBOUND_ACCEPTED);
    hold(3, INBOUND_RECEIVED);
    session_forget_inbound(&engine, session);
    ck_assert_uint_eq(engine.inbound.count, 0);
    ck_assert_uint_eq(session->offered, 0);
    ck_assert_ptr_null(session->unacknowledged);
    ck_assert_ptr_null(session->received);
    ck_assert_ptr_null(offered->session);
    free(offered);
}
END_TEST

START_TEST(packet_identifiers_go_round_and_leave_out_what_is_in_use) {
    publish_as(65535);
    publish_as(2);
    session->last_packet_id = 65534;
    ck_assert_uint_eq(session_packet_id(session, 1), 3);
    ck_assert_uint_eq(session_packet_id(session, 0), 4);
}
END_TEST

START_TEST(only_a_kept_session_outlives_its_connection) {
    static const struct {
        int version;
        bool clean_start;
        uint32_t expiry_s;
        bool outlives;
    } rows[] = {{4, true, 0, false},  {4, false, 0, true},   {5, true, 100, false},
                {5, false, 0, false}, {5, false, 100, true}, {5, true, 0, false}};
    const struct client_config config = {.protocol_version = rows[_i].version,
                                         .clean_start = rows[_i].clean_start,
                                         .session_expiry_s = rows[_i].expiry_s};
    ck_assert_int_eq(client_config_keeps_session(&config), rows[_i].outlives);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("session");
    TCase *tcase = tcase_create("session");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_is_not_acknowledged_waits_in_order_for_the_next_connection);
    tcase_add_test(tcase, what_is_with_a_sink_outlives_being_forgotten);
    tcase_add_test(tcase, packet_identifiers_go_round_and_leave_out_what_is_in_use);
    tcase_add_loop_test(tcase, only_a_kept_session_outlives_its_connection, 0, 6);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
