/* Tests of base/config/conf: precedence, bounds, faults, rules, computed settings, printing. */
#include "base/config/conf.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"

static char fault[CONF_FAULT_LEN];
static char path[] = "/tmp/mqfleet-test-conf-XXXXXX"; /* the configuration file of the test */

static void setup(void) {
    strcpy(path, "/tmp/mqfleet-test-conf-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    unsetenv("STATE_DIRECTORY");
    unsetenv("XDG_STATE_HOME");
    setenv("HOME", "/home/tester", 1);
}

static void teardown(void) {
    unlink(path);
}

static void write_file(const char *text, size_t len) {
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, len, file), len);
    fclose(file);
}

static struct conf *load_sets(const char *file, const char *const *sets, size_t count) {
    struct conf *conf = NULL;
    enum err err = conf_load(&conf, file, sets, count, fault);
    ck_assert_msg(err == ERR_OK, "%s", fault);
    ck_assert_str_eq(fault, "");
    return conf;
}

static struct conf *load_file(const char *text) {
    write_file(text, strlen(text));
    return load_sets(path, NULL, 0);
}

/* Loads NULL-terminated "key=value" texts. */
#define LOAD(...)                                                                                  \
    load_sets(NULL, (const char *const[]){__VA_ARGS__},                                            \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* The fault must contain all expected parts, and be one line, or several if a line end is expected.
 */
static void assert_fault_has(const char *const *parts, size_t count) {
    ck_assert_uint_gt(strlen(fault), 0);
    ck_assert(text_is_utf8(fault, strlen(fault)));
    bool several = false;
    for (size_t i = 0; i < count; i++) {
        several = several || parts[i][0] == '\n';
        ck_assert_msg(strstr(fault, parts[i]) != NULL, "\"%s\" not in: %s", parts[i], fault);
    }
    ck_assert_msg((strchr(fault, '\n') != NULL) == several, "%s", fault);
}

static void refuse_sets(const char *const *sets, size_t set_count, const char *const *parts,
                        size_t part_count) {
    struct conf *conf = NULL;
    enum err err = conf_load(&conf, NULL, sets, set_count, fault);
    ck_assert_msg(err == ERR_ARGUMENT, "accepted: %s", sets[0]);
    ck_assert_ptr_null(conf);
    assert_fault_has(parts, part_count);
}

static void refuse_bytes(const char *text, size_t len, const char *const *parts, size_t count) {
    struct conf *conf = NULL;
    write_file(text, len);
    enum err err = conf_load(&conf, path, NULL, 0, fault);
    ck_assert_msg(err == ERR_ARGUMENT, "accepted: %s", text);
    ck_assert_ptr_null(conf);
    assert_fault_has(parts, count);
}

#define PARTS(...)                                                                                 \
    (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)
#define REFUSE_SET(set, ...)         refuse_sets(PARTS(set), PARTS(__VA_ARGS__))
#define REFUSE_SETS(one, other, ...) refuse_sets(PARTS(one, other), PARTS(__VA_ARGS__))
#define REFUSE_FILE(text, ...)       refuse_bytes(text, sizeof(text) - 1, PARTS(__VA_ARGS__))

static char *print(const struct conf *conf) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    conf_print(conf, out);
    fclose(out);
    return text;
}

START_TEST(defaults_load_and_are_those_of_the_table) {
    struct conf *conf = load_sets(NULL, NULL, 0);
    ck_assert_int_eq(conf->node_port, 8080);
    ck_assert_str_eq(conf->engine, "reactor");
    ck_assert_str_eq(conf->sink_type, "redis_stream");
    ck_assert_str_eq(conf->http_listen, "127.0.0.1");
    ck_assert(!conf->http_insecure);
    ck_assert_str_eq(conf->redis_url, "embedded");
    ck_assert_str_eq(conf->broker_deny, "");
    conf_destroy(conf);
    conf_destroy(NULL);
}
END_TEST

START_TEST(flag_wins_over_environment_over_file_over_default) {
    const char *set = "node_info.size=4";
    write_file("node_info: {size: 2, type: file, port: 2}\n", 42);
    setenv("MQFLEET_NODE_INFO_SIZE", "3", 1);
    setenv("MQFLEET_NODE_INFO_TYPE", "environment", 1);
    struct conf *conf = load_sets(path, &set, 1);
    ck_assert_int_eq(conf->node_size, 4);
    ck_assert_str_eq(conf->node_type, "environment");
    ck_assert_int_eq(conf->node_port, 2);
    ck_assert_str_eq(conf->node_host, "127.0.0.1");
    conf_destroy(conf);
}
END_TEST

START_TEST(the_last_of_several_flags_wins) {
    struct conf *conf = LOAD("node_info.port=1", "node_info.port=2");
    ck_assert_int_eq(conf->node_port, 2);
    conf_destroy(conf);
}
END_TEST

START_TEST(a_configuration_file_of_go_iot_is_taken_as_it_is) {
    struct conf *conf = load_file("node_info:\n  host: 10.0.0.7\n  port: 8007\n  name: node7\n"
                                  "  type: mqtt\n  size: 5000\n"
                                  "redis_config:\n  host: 10.0.0.1\n  port: 6380\n  db: 3\n"
                                  "  password: \"p@ss:w/rd%\"\n");
    ck_assert_str_eq(conf->node_host, "10.0.0.7");
    ck_assert_int_eq(conf->node_port, 8007);
    ck_assert_str_eq(conf->node_name, "node7");
    ck_assert_int_eq(conf->node_size, 5000);
    ck_assert_str_eq(conf->redis_url, "redis://:p%40ss%3Aw%2Frd%25@10.0.0.1:6380/3");
    conf_destroy(conf);
}
END_TEST

START_TEST(maps_dotted_keys_and_lists_are_all_read) {
    struct conf *conf = load_file("node_info.port: 81\nlog: {level: debug}\nsink:\n"
                                  "broker_deny: [10.0.0.0/8, \" *.lan \"]\n"
                                  "broker_allow:\n  - ::1\n  - a-b.c\n");
    ck_assert_int_eq(conf->node_port, 81);
    ck_assert_str_eq(conf->log_level, "debug");
    ck_assert_str_eq(conf->broker_deny, "10.0.0.0/8,*.lan");
    ck_assert_str_eq(conf->broker_allow, "::1,a-b.c");
    conf_destroy(conf);
}
END_TEST

START_TEST(an_empty_file_is_a_configuration_of_defaults) {
    static const char *const EMPTY[] = {"", "# nothing\n", "---\n", "{}\n"};
    for (size_t i = 0; i < sizeof(EMPTY) / sizeof(EMPTY[0]); i++) {
        struct conf *conf = load_file(EMPTY[i]);
        ck_assert_int_eq(conf->node_port, 8080);
        conf_destroy(conf);
    }
}
END_TEST

START_TEST(a_bad_number_is_one_line_with_place_key_value_and_bounds) {
    REFUSE_SET("node_info.port=70000", "--set: ", "node_info.port 70000", "1 to 65535");
    REFUSE_SET("heartbeat_ms=99", "heartbeat_ms 99", "100 to 60000 ms");
    static const char *const BAD[] = {"",    " 80", "80 ", "+80",  "8e1", "0x50",
                                      "080", "-1",  "8,0", "80.0", "-",   "99999999999999999999"};
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
        char set[64];
        snprintf(set, sizeof(set), "node_info.port=%s", BAD[i]);
        REFUSE_SET(set, "node_info.port ", "1 to 65535");
    }
    struct conf *conf = LOAD("node_info.port=65535", "node_info.size=0");
    ck_assert_int_eq(conf->node_port, 65535);
    ck_assert_int_eq(conf->node_size, 0);
    conf_destroy(conf);
}
END_TEST

START_TEST(a_bad_choice_is_one_line_with_the_choices) {
    REFUSE_SET("log.level=loud", "log.level loud", "debug, info, warn, error");
    REFUSE_SET("log.level=", "log.level \"\"", "debug, info");
    REFUSE_SET("log.level=info|warn", "log.level info|warn");
    REFUSE_SET("log.level=inf", "log.level inf:");
    REFUSE_SET("http.insecure=yes", "http.insecure yes", "true or false");
    struct conf *conf = LOAD("sink.type=null", "log.level=error", "http.insecure=true");
    ck_assert_str_eq(conf->sink_type, "null");
    ck_assert_str_eq(conf->log_level, "error");
    ck_assert(conf->http_insecure);
    conf_destroy(conf);
}
END_TEST

START_TEST(a_bad_value_in_the_file_names_file_and_line) {
    char place[64];
    snprintf(place, sizeof(place), "%s:3: ", path);
    REFUSE_FILE("node_info:\n  size: 1\n  port: abc\n", place, "node_info.port abc", "1 to 65535");
    REFUSE_FILE("\n\nnode_info: {prot: 1}\n", place, "node_info.prot", "node_info.port");
    REFUSE_FILE("log.level: info\nlog:\n  level: warn\n", place, "log.level", "twice", "line 1");
    REFUSE_FILE("\n\nmq_config:\n  broker: x\n", ":4: ", "mq_config.broker", "did you mean");
    REFUSE_FILE("\n\nmq_config: {}\n", place, "unknown setting mq_config");
    REFUSE_FILE("\n\nmq_config:\n", place, "unknown setting mq_config");
    REFUSE_FILE("\n\nnode_info: [1]\n", place, "unknown setting node_info");
    REFUSE_FILE("\n\nkey_prefix: [a]\n", place, "key_prefix", "one value");
    REFUSE_FILE("\n\nkey_prefix: {a: b}\n", place, "must be a value, not a map");
    REFUSE_FILE("\n\nbroker_deny: [[a]]\n", place, "plain values");
    REFUSE_FILE("a: &x 1\n", "unknown setting a");
    REFUSE_FILE("key_prefix: &x a\n\nsink.key: *x\n", place, "aliases");
    REFUSE_FILE("\n\n? [a]\n: b\n", place, "key");
    REFUSE_FILE("\n\n- a\n", place, "map of settings");
    REFUSE_FILE("---\nkey_prefix: a\n---\nkey_prefix: b\n", place, "one document");
    REFUSE_FILE("\n\nkey_prefix: \"a\\0b\"\n", place, "key_prefix", "NUL");
    REFUSE_FILE("\n\nkey_prefix: \"a\\nb\"\n", place, "key_prefix a?b", "control");
    REFUSE_FILE("\n\na: {b: {c: {d: {e: {f: {g: 1}}}}}}\n", place, "nested");
}
END_TEST

START_TEST(all_faults_of_values_are_told_at_once_up_to_a_bound) {
    REFUSE_FILE("http:\n  workers: many\nnosuch: 1\nengine: fast\nheartbeat_ms: 1000\n",
                ":2: http.workers", "\n", ":3: unknown setting nosuch", ":4: engine");
    static const char *const sets[] = {"node_info.port=0", "nosuch.at=all"};
    refuse_sets(sets, 2, PARTS("node_info.port 0", "\n", "nosuch.at"));
    REFUSE_SETS("redis_config.url=redis", "heartbeat_ms=60000", "heartbeat_ttl_ms 1200", "\n",
                "redis_config.url: must be");
    char text[4096] = "", *end = text;
    for (int i = 0; i < 40; i++) {
        end += sprintf(end, "nosuch%d: 1\n", i);
    }
    refuse_bytes(text, strlen(text), PARTS("nosuch0", "\n", "nosuch3"));
    ck_assert_uint_lt(strlen(fault), CONF_FAULT_LEN);
    ck_assert_ptr_null(strstr(fault, "nosuch20"));
}
END_TEST

START_TEST(what_is_no_yaml_is_one_line_with_line_and_column) {
    REFUSE_FILE("log:\n\tlevel: info\n", ":2: column 1", "invalid YAML");
    REFUSE_FILE("broker_deny: [a\n", ":2: column 1", "invalid YAML");
    REFUSE_FILE("node_info:\n  port: 1\n size: 2\n", ":3: column 2", "invalid YAML");
    REFUSE_FILE("log.level: info\nkey_prefix: a\xFF\n", ":2: column 14", "invalid YAML");
    REFUSE_FILE("key_prefix: \x01\n", ":1: column 13", "invalid YAML");
    REFUSE_FILE("%", "invalid YAML");
}
END_TEST

START_TEST(a_file_that_cannot_be_read_is_one_line) {
    struct conf *conf = NULL;
    ck_assert_int_eq(conf_load(&conf, "/nowhere/x.yml", NULL, 0, fault), ERR_ARGUMENT);
    assert_fault_has(PARTS("/nowhere/x.yml", "No such file"));
    ck_assert_int_eq(conf_load(&conf, "/tmp", NULL, 0, fault), ERR_ARGUMENT);
    assert_fault_has(PARTS("/tmp", "directory"));
    char *long_file = malloc(1048577 + 4096);
    memset(long_file, '#', 1048577 + 4096);
    refuse_bytes(long_file, 1048577 + 4096, PARTS(path, "1 MiB"));
    free(long_file);
}
END_TEST

START_TEST(a_bad_environment_variable_is_named) {
    struct conf *conf = NULL;
    setenv("MQFLEET_NODE_INFO_PORT", "abc", 1);
    ck_assert_int_eq(conf_load(&conf, NULL, NULL, 0, fault), ERR_ARGUMENT);
    assert_fault_has(PARTS("MQFLEET_NODE_INFO_PORT: ", "node_info.port abc", "1 to 65535"));
    unsetenv("MQFLEET_NODE_INFO_PORT");
}
END_TEST

START_TEST(an_unknown_environment_variable_stops_nothing) {
    struct conf *conf = NULL;
    setenv("MQFLEET_PORT", "tcp://10.0.0.1:8080", 1);
    ck_assert_int_eq(conf_load(&conf, NULL, NULL, 0, fault), ERR_OK);
    ck_assert_int_eq(conf->node_port, 8080);
    conf_destroy(conf);
    unsetenv("MQFLEET_PORT");
}
END_TEST

START_TEST(an_unknown_flag_is_named_with_the_nearest_setting) {
    REFUSE_SET("heartbeatms=1", "--set: ", "heartbeatms", "did you mean heartbeat_ms?");
    REFUSE_SET("sink.level=info", "did you mean log.level");
    REFUSE_SET("foo=1", "unknown setting foo; mqfleetd --print-reference lists all");
    REFUSE_SET("node_info.port", "key=value");
    REFUSE_SET("=1", "unknown setting");
    char set[1000];
    memset(set, 'k', sizeof(set) - 3);
    strcpy(set + sizeof(set) - 3, "=1");
    REFUSE_SET(set, "unknown setting kkk");
}
END_TEST

START_TEST(a_fault_stays_one_line_whatever_the_value_holds) {
    char set[CONF_FAULT_LEN * 4] = "node_info.port=";
    for (size_t i = strlen(set); i + 3 < sizeof(set); i += 2) {
        memcpy(set + i, "\xC3\xA4", 3);
    }
    REFUSE_SET(set, "node_info.port", "1 to 65535");
    REFUSE_SET("node_info.port=1\n2\x1b[31m\xFF", "node_info.port 1?2?[31m?", "1 to 65535");
}
END_TEST

START_TEST(known_failure_29_a_fault_never_shows_a_secret) {
    static const char *const SETS[] = {"redis_config.password=hunter2\n",
                                       "redis_config.url=http://user:hunter2@h",
                                       "redis_config.url=rediss://hunter2@h",
                                       "redis_config.url=redis://user:hunter2",
                                       "redis_config.url=redis://hunter2@h",
                                       "redis_config.url=unix:",
                                       "redis_config.url=redis+sentinel://u:hunter2@h",
                                       "redis_config.url=redis+sentinel://u:hunter2@h/m/x",
                                       "redis_config.url=rediss+sentinel://u:hunter2@h"};
    for (size_t i = 0; i < sizeof(SETS) / sizeof(SETS[0]); i++) {
        REFUSE_SET(SETS[i], "--set: redis_config.");
        ck_assert_ptr_null(strstr(fault, "hunter2"));
    }
    REFUSE_FILE("redis_config.password: *hunter2\n", ":1: ");
    ck_assert_ptr_null(strstr(fault, "hunter2"));
}
END_TEST

START_TEST(rules_between_settings_name_both) {
    REFUSE_SET("heartbeat_ms=1200", "--set: ", "heartbeat_ttl_ms 1200", "more than heartbeat_ms",
               "1200");
    REFUSE_SET("reconnect_max_ms=999", "reconnect_max_ms 999", "at least reconnect_min_ms", "1000");
    REFUSE_SET("conflict_min_ms=600001", "conflict_max_ms 600000", "conflict_min_ms", "600001");
    struct conf *conf =
        LOAD("heartbeat_ms=1199", "reconnect_max_ms=1000", "conflict_min_ms=600000");
    conf_destroy(conf);
    REFUSE_SETS("redis_config.url=embedded", "redis_config.host=h", "redis_config.url",
                "redis_config.host", "only one");
    REFUSE_SETS("redis_config.url=unix:/x", "redis_config.password=p", "redis_config.url",
                "redis_config.password");
    REFUSE_SET("redis_config.host=a/b", "redis_config.host a/b");
    REFUSE_SET("sink.type=file", "sink.type", "sink.path");
    REFUSE_SET("sink.redis_trim=bytes", "sink.redis_trim", "sink.redis_stream_bytes_max");
    REFUSE_SET("node_info.host=", "node_info.host", "empty");
    conf = LOAD("sink.type=file", "sink.path=/tmp/x");
    conf_destroy(conf);
}
END_TEST

START_TEST(known_failure_28_beyond_loopback_needs_http_insecure) {
    static const char *const BEYOND[] = {"0.0.0.0", "::", "192.0.2.1", "fe80::1",
                                         "::ffff:192.0.2.1"};
    static const char *const LOOPBACK[] = {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"};
    static const char *const NO_ADDRESS[] = {"", "localhost", "0.0.0.0:80", "[::1]", "127.1"};
    char set[64];
    for (size_t i = 0; i < sizeof(BEYOND) / sizeof(BEYOND[0]); i++) {
        snprintf(set, sizeof(set), "http.listen=%s", BEYOND[i]);
        REFUSE_SET(set, "http.listen", BEYOND[i], "not a loopback address", "http.insecure");
        conf_destroy(LOAD(set, "http.insecure=true"));
    }
    for (size_t i = 0; i < sizeof(LOOPBACK) / sizeof(LOOPBACK[0]); i++) {
        snprintf(set, sizeof(set), "http.listen=%s", LOOPBACK[i]);
        conf_destroy(LOAD(set));
    }
    for (size_t i = 0; i < sizeof(NO_ADDRESS) / sizeof(NO_ADDRESS[0]); i++) {
        snprintf(set, sizeof(set), "http.listen=%s", NO_ADDRESS[i]);
        REFUSE_SETS(set, "http.insecure=true", "http.listen", "IP address");
    }
}
END_TEST

START_TEST(broker_lists_hold_patterns_addresses_and_networks) {
    conf_destroy(LOAD("broker_allow=*", "broker_deny=a.b-c.*, 10.0.0.1 ,10.0.0.0/8,::/0,fd00::1"));
    static const char *const BAD[] = {"a_b", "10.0.0.0/33", "::/129",     "10.0.0.0/",
                                      "a/8", "10.0.0.300",  "10.0.0.0/x", "10.0.0.0/8/8",
                                      "a b", "mqtt://a",    "a:1883",     "10.0.0.0/0008"};
    for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
        char set[64];
        snprintf(set, sizeof(set), "broker_deny=ok,%s", BAD[i]);
        REFUSE_SET(set, "broker_deny", BAD[i], "host pattern");
    }
    REFUSE_SET("broker_deny=a,,b", "broker_deny a,,b", "empty");
    REFUSE_SET("broker_deny=a,", "broker_deny a,", "empty");
}
END_TEST

START_TEST(node_name_is_computed_from_host_and_port_or_bounded) {
    char hostname[65] = "";
    char expected[100];
    gethostname(hostname, sizeof(hostname) - 1);
    snprintf(expected, sizeof(expected), "%s-81", hostname);
    struct conf *conf = LOAD("node_info.port=81");
    ck_assert_str_eq(conf->node_name, expected);
    conf_destroy(conf);
    char set[160] = "node_info.name=";
    memset(set + 15, 'n', 128);
    conf_destroy(LOAD(set));
    set[15 + 128] = 'n';
    REFUSE_SET(set, "node_info.name", "128 bytes");
    memcpy(set, "key_prefix=1234", 15);
    REFUSE_SET(set, "key_prefix", "128 bytes");
    REFUSE_SET("node_info.name=a\tb", "node_info.name", "control");
    REFUSE_SET("node_info.name=\xFF", "node_info.name", "UTF-8");
}
END_TEST

START_TEST(redis_url_is_computed_from_its_parts) {
    static const struct {
        const char *host;
        const char *user;
        const char *password;
        const char *url;
    } CASES[] = {
        {"h", "", "", "redis://h:6379/0"},
        {"::1", "", "", "redis://[::1]:6379/0"},
        {"h", "u:@", "", "redis://u%3A%40:@h:6379/0"},
        {"h", "u", "\xC3\xA4~", "redis://u:%C3%A4~@h:6379/0"},
        {"", "", "", "embedded"},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        setenv("MQFLEET_REDIS_CONFIG_HOST", CASES[i].host, 1);
        setenv("MQFLEET_REDIS_CONFIG_USERNAME", CASES[i].user, 1);
        setenv("MQFLEET_REDIS_CONFIG_PASSWORD", CASES[i].password, 1);
        struct conf *conf = load_sets(NULL, NULL, 0);
        ck_assert_str_eq(conf->redis_url, CASES[i].url);
        conf_destroy(conf);
    }
}
END_TEST

START_TEST(redis_urls_of_every_form_are_taken) {
    static const char *const URLS[] = {"embedded",
                                       "unix:/run/redis.sock",
                                       "redis://h",
                                       "redis://h:1",
                                       "redis://h/2",
                                       "redis://:p@h:1/2",
                                       "redis://u:p%40@[::1]:1/2",
                                       "redis://:p@h:1,[::1]:2,g/0",
                                       "redis+sentinel://h/fleet",
                                       "redis+sentinel://u:p@a:1,b:2/my.fleet-1/3"};
    for (size_t i = 0; i < sizeof(URLS) / sizeof(URLS[0]); i++) {
        setenv("MQFLEET_REDIS_CONFIG_URL", URLS[i], 1);
        struct conf *conf = load_sets(NULL, NULL, 0);
        ck_assert_str_eq(conf->redis_url, URLS[i]);
        conf_destroy(conf);
    }
}
END_TEST

static void assert_state_dir(const char *expected) {
    struct conf *conf = LOAD("node_info.name=../n");
    ck_assert_str_eq(conf->state_dir, expected);
    conf_destroy(conf);
}

START_TEST(state_dir_follows_systemd_then_xdg_then_home) {
    assert_state_dir("/home/tester/.local/state/mqfleet/_._n");
    setenv("XDG_STATE_HOME", "relative", 1);
    assert_state_dir("/home/tester/.local/state/mqfleet/_._n");
    setenv("XDG_STATE_HOME", "/xdg", 1);
    assert_state_dir("/xdg/mqfleet/_._n");
    setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two", 1);
    assert_state_dir("/var/lib/one");
    struct conf *conf = LOAD("state_dir=mine");
    ck_assert_str_eq(conf->state_dir, "mine");
    conf_destroy(conf);
    unsetenv("STATE_DIRECTORY");
    unsetenv("XDG_STATE_HOME");
    unsetenv("HOME");
    REFUSE_SET("node_info.name=n", "state_dir", "HOME");
    conf_destroy(LOAD("redis_config.host=h"));
}
END_TEST

START_TEST(what_is_printed_loads_again_and_prints_the_same) {
    struct conf *conf =
        LOAD("node_info.name=q\"uo\\te: # \xC3\xA4", "key_prefix=- x",
             "broker_deny=*.lan,10.0.0.0/8", "sink.path= spaced ", "redis_config.host=h",
             "redis_config.password=hunter2", "http.insecure=true");
    char *first = print(conf);
    conf_destroy(conf);
    ck_assert_ptr_null(strstr(first, "hunter2"));
    conf = load_file(first);
    char *second = print(conf);
    ck_assert_str_eq(first, second);
    ck_assert_str_eq(conf->node_name, "q\"uo\\te: # \xC3\xA4");
    ck_assert_str_eq(conf->key_prefix, "- x");
    ck_assert_str_eq(conf->sink_path, " spaced ");
    ck_assert_str_eq(conf->broker_deny, "*.lan,10.0.0.0/8");
    ck_assert_str_eq(conf->redis_password, "***");
    ck_assert(conf->http_insecure);
    conf_destroy(conf);
    free(first);
    free(second);
}
END_TEST

START_TEST(known_failure_29_printing_never_shows_a_secret) {
    struct conf *conf = LOAD("redis_config.url=redis://u:hunter2%40@h:1/2");
    char *text = print(conf);
    conf_destroy(conf);
    ck_assert_ptr_null(strstr(text, "hunter2"));
    ck_assert_ptr_nonnull(strstr(text, "***"));
    ck_assert_ptr_nonnull(strstr(text, "@h:1/2"));
    conf_destroy(load_file(text));
    free(text);
}
END_TEST

static const char *sink_text(const struct conf *conf, const char *sink, const char *field) {
    return json_string_value(json_object_get(json_object_get(conf->sinks, sink), field));
}

START_TEST(sinks_are_kept_as_texts_with_their_places) {
    struct conf *conf = load_file("sinks:\n"
                                  "  a-1:\n"
                                  "    type: kafka\n"
                                  "    port: 0123\n"
                                  "    hosts: [h1, \"h 2\"]\n"
                                  "    headers: {x: y}\n"
                                  "    empty:\n"
                                  "  b: {type: \"null\"}\n");
    const json_t *sink = json_object_get(conf->sinks, "a-1");
    const json_t *hosts = json_object_get(sink, "hosts"),
                 *headers = json_object_get(sink, "headers");
    char place[64];
    snprintf(place, sizeof place, "%s:4", path);
    ck_assert_uint_eq(json_object_size(conf->sinks), 2);
    ck_assert_str_eq(sink_text(conf, "a-1", "type"), "kafka");
    ck_assert_str_eq(sink_text(conf, "a-1", "port"), "0123");
    ck_assert_str_eq(json_string_value(json_array_get(hosts, 1)), "h 2");
    ck_assert_str_eq(json_string_value(json_object_get(headers, "x")), "y");
    ck_assert(json_is_null(json_object_get(sink, "empty")));
    ck_assert_str_eq(sink_text(conf, "b", "type"), "null");
    ck_assert_str_eq(json_string_value(json_object_get(conf->sink_origins, "a-1.port")), place);
    conf_destroy(conf);
}
END_TEST

START_TEST(a_flag_sets_a_field_of_a_sink) {
    struct conf *conf = LOAD("sinks.a.type=kafka", "sinks.a.key=x.y");
    struct conf *other = LOAD("sinks.a.type=kafka");
    const char *names[4];
    ck_assert_str_eq(sink_text(conf, "a", "key"), "x.y");
    ck_assert_uint_eq(conf_differences(conf, other, names, 4), 1);
    ck_assert_str_eq(names[0], "sinks");
    ck_assert_uint_eq(conf_differences(conf, conf, names, 4), 0);
    conf_destroy(conf);
    conf_destroy(other);
    REFUSE_SET("sinks.a=kafka", "--set", "sinks.a", "sinks.NAME.FIELD");
}
END_TEST

START_TEST(sinks_of_another_shape_are_refused_with_their_place) {
    REFUSE_FILE("\nsinks: [a]", ":2: ", "sinks", "map");
    REFUSE_FILE("sinks:\n  a: b", ":2: ", "sinks.a", "map");
    REFUSE_FILE("sinks:\n  a: {}\n  a: {}", ":3: ", "sinks.a", "twice", ":2");
    REFUSE_FILE("sinks:\n  a:\n    x: 1\n    x: 2", ":4: ", "sinks.a.x", "twice");
    REFUSE_FILE("sinks:\n  a:\n    x: {y: [z]}", ":3: ", "plain values");
    REFUSE_FILE("sinks:\n  a:\n    x: [{y: z}]", ":3: ", "plain values");
    REFUSE_FILE("sinks:\n  a:\n    x: {y: 1, y: 2}", ":3: ", "twice");
    REFUSE_FILE("sinks:\n  a:\n    x: &b 1\n    y: *b", ":4: ", "aliases");
    conf_destroy(load_file("sinks:\n"));
}
END_TEST

START_TEST(the_reference_is_a_table_with_a_row_for_every_setting) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    conf_print_reference(out);
    fclose(out);
#define COUNT_ROW(...) +1
    size_t expected = 3 CONF_TABLE(COUNT_ROW, COUNT_ROW, COUNT_ROW, COUNT_ROW, COUNT_ROW);
    ck_assert_ptr_nonnull(strstr(text, "| `heartbeat_ms` | `1000` | 100 to 60000 | ms | "));
    ck_assert_ptr_nonnull(strstr(text, "| `log.level` | `info` | `debug`, `info`, `warn`, "));
    size_t rows = 0;
    char *rest = text;
    for (char *row = strsep(&rest, "\n"); rest; row = strsep(&rest, "\n")) {
        size_t bars = 0;
        for (char *at = row; *at != '\0'; at++) {
            bars += *at == '|' && (at == row || at[-1] != '\\') ? 1 : 0;
        }
        ck_assert_uint_eq(bars, 6);
        rows++;
    }
    ck_assert_uint_eq(rows, expected);
    free(text);
}
END_TEST

START_TEST(the_example_file_is_valid_and_holds_the_defaults) {
    char example[4096];
    const char *tests = strstr(__FILE__, "tests/unit/base/");
    ck_assert_ptr_nonnull(tests);
    snprintf(example, sizeof(example), "%.*sconf/mqfleet.yml", (int)(tests - __FILE__), __FILE__);
    struct conf *from_file = load_sets(example, NULL, 0);
    struct conf *defaults = load_sets(NULL, NULL, 0);
    char *left = print(from_file);
    char *right = print(defaults);
    ck_assert_str_eq(left, right);
    free(left);
    free(right);
    conf_destroy(from_file);
    conf_destroy(defaults);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("conf");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, defaults_load_and_are_those_of_the_table);
    tcase_add_test(cases, flag_wins_over_environment_over_file_over_default);
    tcase_add_test(cases, the_last_of_several_flags_wins);
    tcase_add_test(cases, a_configuration_file_of_go_iot_is_taken_as_it_is);
    tcase_add_test(cases, maps_dotted_keys_and_lists_are_all_read);
    tcase_add_test(cases, an_empty_file_is_a_configuration_of_defaults);
    tcase_add_test(cases, a_bad_number_is_one_line_with_place_key_value_and_bounds);
    tcase_add_test(cases, a_bad_choice_is_one_line_with_the_choices);
    tcase_add_test(cases, a_bad_value_in_the_file_names_file_and_line);
    tcase_add_test(cases, all_faults_of_values_are_told_at_once_up_to_a_bound);
    tcase_add_test(cases, what_is_no_yaml_is_one_line_with_line_and_column);
    tcase_add_test(cases, a_file_that_cannot_be_read_is_one_line);
    tcase_add_test(cases, a_bad_environment_variable_is_named);
    tcase_add_test(cases, an_unknown_environment_variable_stops_nothing);
    tcase_add_test(cases, an_unknown_flag_is_named_with_the_nearest_setting);
    tcase_add_test(cases, a_fault_stays_one_line_whatever_the_value_holds);
    tcase_add_test(cases, known_failure_29_a_fault_never_shows_a_secret);
    tcase_add_test(cases, rules_between_settings_name_both);
    tcase_add_test(cases, known_failure_28_beyond_loopback_needs_http_insecure);
    tcase_add_test(cases, broker_lists_hold_patterns_addresses_and_networks);
    tcase_add_test(cases, node_name_is_computed_from_host_and_port_or_bounded);
    tcase_add_test(cases, redis_url_is_computed_from_its_parts);
    tcase_add_test(cases, redis_urls_of_every_form_are_taken);
    tcase_add_test(cases, state_dir_follows_systemd_then_xdg_then_home);
    tcase_add_test(cases, what_is_printed_loads_again_and_prints_the_same);
    tcase_add_test(cases, known_failure_29_printing_never_shows_a_secret);
    tcase_add_test(cases, sinks_are_kept_as_texts_with_their_places);
    tcase_add_test(cases, a_flag_sets_a_field_of_a_sink);
    tcase_add_test(cases, sinks_of_another_shape_are_refused_with_their_place);
    tcase_add_test(cases, the_reference_is_a_table_with_a_row_for_every_setting);
    tcase_add_test(cases, the_example_file_is_valid_and_holds_the_defaults);
    Suite *suite = suite_create("conf");
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
