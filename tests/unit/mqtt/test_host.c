/* A host with the Paho engine against a real mosquitto. */
#include "owner_fixture.h"

static struct fixture_broker broker;
static struct fixture *f;

static const char *const quick[] = {
    "reconnect_min_ms=50", "reconnect_max_ms=400", "stable_ms=1000",
    "connect_timeout_ms=1500", "log.level=warn", "node_info.name=test",
};

static void setup(void) {
    broker_start(&broker);
    f = fixture_create(quick, sizeof(quick) / sizeof(quick[0]));
}

static void teardown(void) {
    fixture_destroy(f);
    broker_end(&broker);
}

#define SUB_ALL "\"subscriptions\":[{\"filter\":\"t/#\",\"qos\":2}]"

static void publish_with_mosquitto(const char *topic, int qos, const char *text) {
    fixture_run("mosquitto_pub -h 127.0.0.1 -p %d -t '%s' -q %d -m '%s'", broker.port, topic, qos,
                text);
}

START_TEST(a_client_comes_online_and_delivers) {
    fixture_start(f, fixture_client("a", broker.port, SUB_ALL), 1);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_ONLINE);
    publish_with_mosquitto("t/0", 0, "zero");
    publish_with_mosquitto("t/1", 1, "one");
    publish_with_mosquitto("t/2", 2, "two");
    EVENTUALLY(fixture_kept(f, "t/0", "zero", 4));
    EVENTUALLY(fixture_kept(f, "t/1", "one", 3));
    EVENTUALLY(fixture_kept(f, "t/2", "two", 3));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("host");
    TCase *tcase = tcase_create("host");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, a_client_comes_online_and_delivers);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
