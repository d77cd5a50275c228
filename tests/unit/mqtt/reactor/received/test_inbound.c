/* The table of messages in progress. */
#include <check.h>
#include <stdlib.h>
#include "mqtt/reactor/received/inbound.h"

#define SESSIONS 2000
#define IDS      3

static struct inbound_table table;

/* Only their addresses matter. */
static struct engine_session *session_of(size_t i) {
    return (struct engine_session *)(uintptr_t)(0x10000 + i * i * i * 16);
}

static void setup(void) {
    ck_assert_int_eq(inbound_table_init(&table), ERR_OK);
}

static void teardown(void) {
    inbound_table_fini(&table);
}

START_TEST(a_message_is_found_by_its_session_and_identifier_and_no_other) {
    struct inbound one = {.session = session_of(0), .packet_id = 7};
    inbound_table_add(&table, &one);
    ck_assert_ptr_eq(inbound_table_find(&table, session_of(0), 7), &one);
    ck_assert_ptr_null(inbound_table_find(&table, session_of(0), 8));
    ck_assert_ptr_null(inbound_table_find(&table, session_of(1), 7));
    inbound_table_remove(&table, &one);
    ck_assert_ptr_null(inbound_table_find(&table, session_of(0), 7));
}
END_TEST

START_TEST(all_are_found_after_the_table_has_grown_and_while_it_empties) {
    struct inbound *all = calloc(SESSIONS * IDS, sizeof *all);
    for (size_t i = 0; i < SESSIONS * IDS; i++) {
        all[i].session = session_of(i % SESSIONS);
        all[i].packet_id = (uint16_t)(1 + i / SESSIONS * 600);
        inbound_table_add(&table, &all[i]);
    }
    ck_assert_uint_ge(table.bucket_count, SESSIONS * IDS);
    for (size_t i = 0; i < SESSIONS * IDS; i++) {
        ck_assert_ptr_eq(inbound_table_find(&table, all[i].session, all[i].packet_id), &all[i]);
        if (i % 2 == 0) {
            inbound_table_remove(&table, &all[i]);
        }
    }
    for (size_t i = 0; i < SESSIONS * IDS; i++) {
        struct inbound *found = inbound_table_find(&table, all[i].session, all[i].packet_id);
        ck_assert_ptr_eq(found, i % 2 == 0 ? NULL : &all[i]);
        if (found) {
            inbound_table_remove(&table, found);
        }
    }
    ck_assert_uint_eq(table.count, 0);
    free(all);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("inbound");
    TCase *tcase = tcase_create("inbound");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_message_is_found_by_its_session_and_identifier_and_no_other);
    tcase_add_test(tcase, all_are_found_after_the_table_has_grown_and_while_it_empties);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
