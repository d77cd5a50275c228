/* A worker whose client has a rival for its identifier, or seems to. */
#include "worker_trouble_fixture.h"

/* From the first cool-down to the longest, each with a jitter of a quarter; the store doubles it.
 * Returns the longest. */
static int64_t assert_asked_for_a_rest(void) {
    pthread_mutex_lock(&f->lock);
    int64_t least_ms = f->release_delay_ms, wait_ms_max = f->release_cooldown_ms_max;
    pthread_mutex_unlock(&f->lock);
    ck_assert_int_ge(least_ms, 200);
    ck_assert_int_le(least_ms, 250);
    ck_assert_int_ge(wait_ms_max, 60000);
    ck_assert_int_le(wait_ms_max, 75000);
    return wait_ms_max;
}

static size_t stable_count(void) {
    pthread_mutex_lock(&f->lock);
    size_t n = f->stables;
    pthread_mutex_unlock(&f->lock);
    return n;
}

/* A foreign client that always takes the identifier back after a second. */
static pid_t foreign_client(const char *id, const char *version) {
    char command[512];
    snprintf(command, sizeof(command),
             "exec mosquitto_sub -h 127.0.0.1 -p %d -i %s -t x -V %s >/dev/null 2>&1", broker.port,
             id, version);
    char *const argv[] = {"sh", "-c", command, NULL};
    pid_t pid = fixture_spawn(broker.folder, argv);
    return pid;
}

/* KNOWN-FAILURES 5, 20 */
START_TEST(kf05_a_foreign_client_with_the_identifier_ends_in_conflict) {
    static const char *const versions[] = {"\"protocol_version\":4," SUB_ALL,
                                           "\"protocol_version\":5," SUB_ALL};
    start_online("fought", versions[_i]);
    pid_t foreign = foreign_client("fought", "mqttv311");
    EVENTUALLY(fixture_state(f, "fought") == CLIENT_CONFLICT);
    EVENTUALLY(release_count() >= 1);
    ck_assert_str_eq(f->release_code, "taken_over");
    int64_t wait_ms_max = assert_asked_for_a_rest();
    int connects = broker_logged(&broker, "as fought");
    usleep(700000);
    ck_assert_int_le(broker_logged(&broker, "as fought") - connects, 2); /* quiet */
    ck_assert_int_eq(workers_retry(f->workers, "fought", 1, 10), ERR_OK);
    EVENTUALLY(release_count() >= 2);
    ck_assert_int_ne(assert_asked_for_a_rest(),
                     wait_ms_max); /* two of 15,001 values: not in step */
    fixture_kill(&foreign, SIGKILL);
    int64_t retried_ms = clock_ms();
    ck_assert_int_eq(workers_retry(f->workers, "fought", 1, 10), ERR_OK);
    EVENTUALLY(fixture_state(f, "fought") == CLIENT_ONLINE);
    /* online, but not for long enough, unless the machine was suspended meanwhile */
    ck_assert(stable_count() == 0 || clock_ms() - retried_ms >= 4000);
    EVENTUALLY(stable_count() == 1);
    ck_assert_int_eq(fixture_state(f, "fought"), CLIENT_ONLINE);
}
END_TEST

START_TEST(a_broker_that_restarts_again_and_again_puts_nobody_into_conflict) {
    for (int i = 0; i < 40; i++) {
        char id[16];
        snprintf(id, sizeof(id), "c%d", i);
        fixture_start(f, fixture_client(id, broker.port, SUB_ALL), 1);
    }
    for (int i = 0; i < 4; i++) {
        EVENTUALLY(fixture_online_count(f) == 40);
        broker_stop(&broker);
        broker_run(&broker);
        EVENTUALLY(fixture_online_count(f) < 40);
    }
    EVENTUALLY(fixture_online_count(f) == 40);
    ck_assert_uint_eq(release_count(), 0);
}
END_TEST

/* A broker for one connection that accepts it and then sends DISCONNECT with a reason code. */
struct terse_broker {
    int fd, port;
    uint8_t reason_code;
    atomic_int connects;
    pthread_t thread;
};

static void *terse_broker_run(void *argument) {
    struct terse_broker *terse = argument;
    for (int fd; (fd = accept(terse->fd, NULL, NULL)) >= 0; close(fd)) {
        uint8_t packet[512];
        static const uint8_t connack[] = {0x20, 0x03, 0x00, 0x00, 0x00};
        uint8_t disconnect[] = {0xE0, 0x02, terse->reason_code, 0x00};
        terse->connects++;
        if (recv(fd, packet, sizeof(packet), 0) > 0) {
            send(fd, connack, sizeof(connack), MSG_NOSIGNAL);
            send(fd, disconnect, sizeof(disconnect), MSG_NOSIGNAL);
            while (recv(fd, packet, sizeof(packet), 0) > 0) {
            }
        }
    }
    return NULL;
}

static void terse_broker_start(struct terse_broker *terse, uint8_t reason_code) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    terse->fd = socket(AF_INET, SOCK_STREAM, 0);
    terse->reason_code = reason_code;
    ck_assert_int_eq(bind(terse->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(terse->fd, 10), 0);
    getsockname(terse->fd, (struct sockaddr *)&address, &len);
    terse->port = ntohs(address.sin_port);
    pthread_create(&terse->thread, NULL, terse_broker_run, terse);
}

static void terse_broker_end(struct terse_broker *terse) {
    shutdown(terse->fd, SHUT_RDWR);
    pthread_join(terse->thread, NULL);
    close(terse->fd);
}

START_TEST(disconnect_with_session_taken_over_is_a_conflict_at_once) {
    struct terse_broker terse = {0};
    terse_broker_start(&terse, 0x8E);
    fixture_start(f, fixture_client("a", terse.port, "\"protocol_version\":5"), 1);
    EVENTUALLY(fixture_state(f, "a") == CLIENT_CONFLICT);
    EVENTUALLY(release_count() == 1);
    ck_assert(fixture_error_is(f, "a", "taken_over"));
    ck_assert_int_eq(terse.connects, 1);
    ck_assert_int_eq(workers_stop_all(f->workers, "test", true, 10000), ERR_OK);
    terse_broker_end(&terse);
}
END_TEST

START_TEST(disconnect_with_another_reason_is_no_conflict) {
    struct terse_broker terse = {0};
    terse_broker_start(&terse, 0x8B);
    fixture_start(f, fixture_client("a", terse.port, "\"protocol_version\":5"), 1);
    EVENTUALLY(terse.connects >= 6);
    ck_assert(fixture_error_is(f, "a", "server_shutting_down"));
    ck_assert_uint_eq(release_count(), 0);
    ck_assert_int_eq(workers_stop_all(f->workers, "test", true, 10000), ERR_OK);
    terse_broker_end(&terse);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("worker_rivals");
    const struct trouble_test rivals[] = {
        {kf05_a_foreign_client_with_the_identifier_ends_in_conflict, 2},
        {a_broker_that_restarts_again_and_again_puts_nobody_into_conflict, 1},
        {disconnect_with_session_taken_over_is_a_conflict_at_once, 1},
        {disconnect_with_another_reason_is_no_conflict, 1},
    };
    add_tests(suite, "rivals", setup, rivals, sizeof rivals / sizeof *rivals);
    return run_suite(suite);
}
