/* Tests of mqtt/config/client_config: valid documents, and random ones. */
#include "mqtt/client_config_fixture.h"

/* Good documents */

START_TEST(flat_form_is_a_configuration) {
    struct client_config *config = config_of(
        "{'broker':'Broker.Example.org','port':1884,'username':'u','password':'p','sub_topic':'a/#',"
        "'client_id':'device-7'}");
    ck_assert_str_eq(config->id, "device-7");
    ck_assert_str_eq(config->client_id, "device-7");
    ck_assert_str_eq(config->host, "broker.example.org");
    ck_assert_int_eq(config->port, 1884);
    ck_assert_int_eq(config->scheme, SCHEME_MQTT);
    ck_assert_str_eq(config->username, "u");
    ck_assert_str_eq(config->password, "p");
    ck_assert_int_eq(config->protocol_version, 4);
    ck_assert_uint_eq(config->subscription_count, 1);
    ck_assert_str_eq(config->subscriptions[0].filter, "a/#");
    ck_assert_int_eq(config->subscriptions[0].qos, 1);
    ck_assert_ptr_null(config->path);
    client_config_destroy(config);
}
END_TEST

START_TEST(empty_inputs_of_a_form_mean_none) {
    struct client_config *config;
    ck_assert_int_eq(parse("{'broker':'h','port':'1883','username':'','password':'','sub_topic':'',"
                           "'client_id':'c','zzz':1}",
                           CLIENT_FROM_STORE, NULL, &config),
                     ERR_OK);
    ck_assert_int_eq(config->port, 1883);
    ck_assert_ptr_null(config->username);
    ck_assert_ptr_null(config->password);
    ck_assert_uint_eq(config->subscription_count, 0);
    client_config_destroy(config);
}
END_TEST

START_TEST(an_empty_password_with_a_username_is_one) {
    struct client_config *config =
        config_of("{'id':'c','url':'mqtt://h','username':'u','password':''}");
    ck_assert_str_eq(config->password, "");
    client_config_destroy(config);
    config = config_of("{'id':'c','url':'mqtt://h','username':'','password':''}");
    ck_assert_ptr_null(config->password);
    client_config_destroy(config);
    config = config_of("{'id':'c','broker':'h','port':1883,'username':'u','password':'',"
                       "'sub_topic':'a'}");
    ck_assert_ptr_null(config->password);
    client_config_destroy(config);
}
END_TEST

START_TEST(null_means_absent) {
    struct client_config *config = config_of(
        "{'id':'c','broker':null,'url':'mqtt://h','port':null,'username':null,'tls':null,'will':null,"
        "'protocol_version':null,'keepalive_s':null,'session_expiry_s':null,'subscriptions':null,"
        "'labels':null,'sink':null,'desired':null,'user_properties':null,'client_id':null}");
    ck_assert_str_eq(config->client_id, "c");
    ck_assert_int_eq(config->protocol_version, 4);
    ck_assert_int_eq(config->keepalive_s, 60);
    client_config_destroy(config);
}
END_TEST

START_TEST(defaults_are_as_the_header_says) {
    struct client_config *config = config_of("{'id':'c','url':'mqtt://h'}");
    ck_assert_int_eq(config->keepalive_s, 60);
    ck_assert(config->clean_start);
    ck_assert_uint_eq(config->session_expiry_s, 0);
    ck_assert_int_eq(config->receive_maximum, 0);
    ck_assert_int_eq(config->desired, DESIRED_RUNNING);
    ck_assert_ptr_null(config->will);
    ck_assert(config->request_problem_information);
    ck_assert(!config->request_response_information);
    ck_assert_ptr_null(config->sink);
    ck_assert_ptr_null(client_config_limits(config));
    ck_assert_ptr_null(config->source);
    ck_assert_int_eq(config->reconnect_min_ms, 0);
    client_config_destroy(config);
    config = config_of("{'id':'c','url':'mqtt://h','clean_start':false,'protocol_version':5}");
    ck_assert_uint_eq(config->session_expiry_s, 86400);
    client_config_destroy(config);
    config = config_of("{'id':'c','url':'mqtt://h','clean_start':false,'session_expiry_s':7}");
    ck_assert_uint_eq(config->session_expiry_s, 7);
    ck_assert_int_eq(config->protocol_version, 5);
    client_config_destroy(config);
}
END_TEST

START_TEST(full_form_fills_every_member) {
    struct client_config *config = config_of(
        "{'id':'i','client_id':'c/1','url':'wss://h:8084/ws?x=1','username':'u','password':'p',"
        "'protocol_version':5,'keepalive_s':65535,'clean_start':false,'session_expiry_s':4294967295,"
        "'receive_maximum':65535,'max_packet_size':268435460,"
        "'user_properties':[{'name':'a','value':'1'},{'name':'a','value':'2'}],"
        "'will':{'topic':'w','payload_base64':'AP8=','qos':2,'retain':true,'delay_s':9,"
        "'payload_format_indicator':1,'message_expiry_interval':60,'content_type':'text/x',"
        "'response_topic':'r/1','correlation_data':'AP8=','user_properties':{'u':'1','v':''}},"
        "'request_response_information':true,'request_problem_information':false,"
        "'tls':{'ca':'/etc/ca.pem','cert':'/c','key':'/k','alpn':['mqtt','x'],'server_name':'s',"
        "'insecure':true},"
        "'subscriptions':['a',{'filter':'b','qos':0,'no_local':true,'retain_as_published':true,"
        "'retain_handling':2},{'filter':'$share/g/c','qos':2,'no_local':false}],"
        "'sink':'null','labels':{'site.a':'north','x':''},'desired':'paused',"
        "'limits':{'messages_per_s':20,'bytes_per_s':4294967295,'burst':40},"
        "'reconnect_min_ms':10,'reconnect_max_ms':86400000}");
    ck_assert_str_eq(config->id, "i");
    ck_assert_uint_eq(client_config_limits(config)->messages_per_s, 20);
    ck_assert_uint_eq(client_config_limits(config)->bytes_per_s, UINT32_MAX);
    ck_assert_uint_eq(client_config_limits(config)->burst, 40);
    ck_assert_str_eq(config->client_id, "c/1");
    ck_assert_int_eq(config->scheme, SCHEME_WSS);
    ck_assert_int_eq(config->port, 8084);
    ck_assert_str_eq(config->path, "/ws?x=1");
    ck_assert_int_eq(config->keepalive_s, 65535);
    ck_assert_uint_eq(config->session_expiry_s, 4294967295U);
    ck_assert_int_eq(config->receive_maximum, 65535);
    ck_assert_uint_eq(config->max_packet_size, 268435460);
    ck_assert_uint_eq(config->user_property_count, 2);
    ck_assert_str_eq(config->user_properties[1].value, "2");
    ck_assert_str_eq(config->will->topic, "w");
    ck_assert_uint_eq(config->will->payload_len, 2);
    ck_assert_mem_eq(config->will->payload, "\0\xFF", 2);
    ck_assert_int_eq(config->will->qos, 2);
    ck_assert(config->will->retain);
    ck_assert_uint_eq(config->will->delay_s, 9);
    ck_assert_uint_eq(config->will->payload_format_indicator, 1);
    ck_assert_uint_eq(config->will->message_expiry_interval, 60);
    ck_assert_str_eq(config->will->content_type, "text/x");
    ck_assert_str_eq(config->will->response_topic, "r/1");
    ck_assert_uint_eq(config->will->correlation_data_len, 2);
    ck_assert_mem_eq(config->will->correlation_data, "\0\xFF", 2);
    ck_assert_uint_eq(config->will->user_property_count, 2);
    ck_assert_str_eq(config->will->user_properties[1].name, "v");
    ck_assert(config->request_response_information);
    ck_assert(!config->request_problem_information);
    ck_assert_str_eq(config->tls->ca, "/etc/ca.pem");
    ck_assert_str_eq(config->tls->key, "/k");
    ck_assert_uint_eq(config->tls->alpn_count, 2);
    ck_assert_str_eq(config->tls->alpn[1], "x");
    ck_assert_str_eq(config->tls->server_name, "s");
    ck_assert(config->tls->insecure);
    ck_assert_uint_eq(config->subscription_count, 3);
    ck_assert_int_eq(config->subscriptions[0].qos, 1);
    ck_assert(config->subscriptions[1].no_local);
    ck_assert(config->subscriptions[1].retain_as_published);
    ck_assert_int_eq(config->subscriptions[1].retain_handling, 2);
    ck_assert_int_eq(config->subscriptions[2].qos, 2);
    ck_assert_str_eq(config->sink, "null");
    ck_assert_uint_eq(config->label_count, 2);
    ck_assert_str_eq(config->labels[0].name, "site.a");
    ck_assert_int_eq(config->desired, DESIRED_PAUSED);
    ck_assert_int_eq(config->reconnect_max_ms, 86400000);
    client_config_destroy(config);
}
END_TEST

START_TEST(sub_topic_joins_the_subscriptions_in_any_order) {
    struct client_config *config =
        config_of("{'id':'c','sub_topic':'z','broker':'h','subscriptions':['a']}");
    ck_assert_uint_eq(config->subscription_count, 2);
    ck_assert_str_eq(config->subscriptions[0].filter, "a");
    ck_assert_str_eq(config->subscriptions[1].filter, "z");
    client_config_destroy(config);
}
END_TEST

START_TEST(user_properties_may_be_an_object_and_a_will_may_be_empty) {
    struct client_config *config =
        config_of("{'id':'c','broker':'h','user_properties':{'a':'1'},'will':{'topic':'w'}}");
    ck_assert_uint_eq(config->user_property_count, 1);
    ck_assert_str_eq(config->user_properties[0].name, "a");
    ck_assert_uint_eq(config->will->payload_len, 0);
    ck_assert_int_eq(config->protocol_version, 5);
    client_config_destroy(config);
}
END_TEST

static const struct {
    const char *address, *port; /* members broker or url, and port */
    enum client_scheme scheme;
    const char *host;
    int at;
    const char *path;
} ADDRESSES[] = {
    {"'broker':'h'", "", SCHEME_MQTT, "h", 1883, NULL},
    {"'broker':'h:99'", "", SCHEME_MQTT, "h", 99, NULL},
    {"'broker':'h:99'", ",'port':99", SCHEME_MQTT, "h", 99, NULL},
    {"'broker':'tcp://h:99'", "", SCHEME_MQTT, "h", 99, NULL},
    {"'broker':'tcp://h'", ",'port':65535", SCHEME_MQTT, "h", 65535, NULL},
    {"'broker':'ssl://h'", "", SCHEME_MQTTS, "h", 8883, NULL},
    {"'broker':'TLS://H/'", "", SCHEME_MQTTS, "h", 8883, NULL},
    {"'broker':'mqtts://h'", "", SCHEME_MQTTS, "h", 8883, NULL},
    {"'broker':'ws://h/x'", ",'port':8083", SCHEME_WS, "h", 8083, "/x"},
    {"'broker':'[::1]'", "", SCHEME_MQTT, "::1", 1883, NULL},
    {"'broker':'[::1]:99'", "", SCHEME_MQTT, "::1", 99, NULL},
    {"'url':'mqtt://h'", "", SCHEME_MQTT, "h", 1883, NULL},
    {"'url':'mqtt://h/'", "", SCHEME_MQTT, "h", 1883, NULL},
    {"'url':'mqtt://192.0.2.1:1'", "", SCHEME_MQTT, "192.0.2.1", 1, NULL},
    {"'url':'mqtts://my_host.a-b.'", "", SCHEME_MQTTS, "my_host.a-b.", 8883, NULL},
    {"'url':'ws://h'", "", SCHEME_WS, "h", 80, "/mqtt"},
    {"'url':'wss://h'", "", SCHEME_WSS, "h", 443, "/mqtt"},
    {"'url':'wss://h:1/'", "", SCHEME_WSS, "h", 1, "/"},
    {"'url':'ws://h/a@b?c=d'", "", SCHEME_WS, "h", 80, "/a@b?c=d"},
    {"'url':'mqtt://[2001:DB8:0::1]:5'", "", SCHEME_MQTT, "2001:db8::1", 5, NULL},
};

START_TEST(broker_addresses_are_read_in_all_spellings) {
    for (size_t i = 0; i < COUNT(ADDRESSES); i++) {
        char text[256];
        snprintf(text, sizeof(text), "{'id':'c',%s%s}", ADDRESSES[i].address, ADDRESSES[i].port);
        struct client_config *config = config_of(text);
        ck_assert_msg(config->scheme == ADDRESSES[i].scheme, "%s", text);
        ck_assert_str_eq(config->host, ADDRESSES[i].host);
        ck_assert_int_eq(config->port, ADDRESSES[i].at);
        ck_assert_pstr_eq(config->path, ADDRESSES[i].path);
        client_config_destroy(config);
    }
}
END_TEST

/* Identifiers */

static const struct {
    const char *members, *hint;
    const char *id, *client_id; /* id NULL: a fault at /id */
} IDENTIFIERS[] = {
    {"'id':'i'", NULL, "i", "i"},
    {"'id':'i','client_id':'c'", NULL, "i", "c"},
    {"'client_id':'c'", NULL, "c", "c"},
    {"'client_id':'c'", "h", "h", "c"},
    {"'id':'h','client_id':''", "h", "h", ""},
    {"'keepalive_s':1", "h", "h", "h"},
    {"'id':'i'", "h", NULL, NULL},
    {"'keepalive_s':1", "a/b", NULL, NULL},
    {"'id':'a/b'", "a/b", NULL, NULL},
    {"'keepalive_s':1", "", NULL, NULL},
};

START_TEST(id_comes_from_the_document_the_address_or_the_client_id) {
    for (size_t i = 0; i < COUNT(IDENTIFIERS); i++) {
        char text[256];
        struct client_config *config;
        snprintf(text, sizeof(text), "{'broker':'h',%s}", IDENTIFIERS[i].members);
        enum err err = parse(text, CLIENT_FROM_API, IDENTIFIERS[i].hint, &config);
        if (!IDENTIFIERS[i].id) {
            ck_assert_int_eq(err, ERR_ARGUMENT);
            ck_assert_str_eq(fault_pointers(), "/id");
            continue;
        }
        ck_assert_msg(err == ERR_OK, "%s", text);
        ck_assert_str_eq(config->id, IDENTIFIERS[i].id);
        ck_assert_str_eq(config->client_id, IDENTIFIERS[i].client_id);
        client_config_destroy(config);
    }
}
END_TEST

START_TEST(identity_is_equal_for_equal_brokers_and_client_ids) {
    static const char *const texts[][2] = {
        {"{'id':'a','client_id':'c','broker':'H'}", "h:1883/c"},
        {"{'id':'b','client_id':'c','url':'tcp://h:1883'}", "h:1883/c"},
        {"{'id':'b','client_id':'c','url':'mqtt://[0:0::1]'}", "::1:1883/c"},
        {"{'id':'b','client_id':'','url':'mqtt://h'}", "h:1883?b"},
        {"{'id':'b','client_id':'c','urls':['mqtt://h','ws://i/x']}", "h:1883/c\ni:80/c"},
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct client_config *config = config_of(texts[i][0]);
        char *identity = client_config_identity(config);
        ck_assert_str_eq(identity, texts[i][1]);
        free(identity);
        client_config_destroy(config);
    }
}
END_TEST

/* Text from the store */

START_TEST(unknown_fields_in_the_store_are_ignored) {
    struct client_config *config;
    const char *text = "{'broker':'h','foo':1,'retired_filters':['a',1,'#x','b']}";
    ck_assert_int_eq(parse_text(text, &config), ERR_OK);
    ck_assert_uint_eq(config->retired_filter_count, 2);
    ck_assert_str_eq(config->retired_filters[1], "b");
    ck_assert_uint_eq(strlen(config->source), strlen(text));
    client_config_destroy(config);
    ck_assert_int_eq(parse_text("{'broker':'h','retired_filters':7}", &config), ERR_OK);
    client_config_destroy(config);
}
END_TEST

START_TEST(text_that_is_no_object_is_one_fault_with_line_and_column) {
    static const char *const texts[][2] = {
        {"", "line 1, column 0: "},
        {"rubbish", "line 1, column 7: "},
        {"7", "line 1, column 1: "},
        {"[1]", "line 1, column 1: must be an object"},
        {"{'broker':'h',\n 'port' 5}", "line 2, column 9: "},
        {"{'broker':'h'} x", "line 1, column 16: end of file expected"},
        {"{'broker':'h','broker':'i'}", "line 1, column 22: duplicate object key"},
        {"{'password':'a\\u0000b'}", "line 1, column 22: \\u0000"},
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct client_config *config;
        ck_assert_int_eq(parse_text(texts[i][0], &config), ERR_ARGUMENT);
        ck_assert_uint_eq(faults.count, 1);
        ck_assert_str_eq(faults.items[0].pointer, "");
        ck_assert_msg(strncmp(faults.items[0].detail, texts[i][1], strlen(texts[i][1])) == 0,
                      "%s: %s", texts[i][0], faults.items[0].detail);
    }
}
END_TEST

START_TEST(broken_json_is_not_quoted) {
    static const char *const texts[] = {"{'password' 'hunter2'}",
                                        "{'password':'x' 'hunter2'}",
                                        "{'password':hunter2}",
                                        "{'password':'hunter2",
                                        "hunter2",
                                        "{'password':'hunter2\n'}"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct client_config *config;
        ck_assert_int_eq(parse_text(texts[i], &config), ERR_ARGUMENT);
        ck_assert_ptr_null(strstr(faults.items[0].detail, "hunter2"));
    }
}
END_TEST

START_TEST(too_deep_json_is_a_fault) {
    struct client_config *config;
    size_t depth = 100000;
    char *text = malloc(depth);
    ck_assert_ptr_nonnull(text);
    memset(text, '[', depth);
    ck_assert_int_eq(client_config_parse_text(text, depth, NULL, &config, &faults), ERR_ARGUMENT);
    ck_assert_uint_eq(faults.count, 1);
    free(text);
}
END_TEST

/* Random documents */

static const char *const SEEDS[] = {
    "{'broker':'h','port':'1883','username':'u','password':'p','sub_topic':'a','client_id':'c'}",
    "{" BASE ",'will':{'topic':'a','payload_base64':'eA=='},'tls':{'alpn':['x'],'cert':'/c',"
    "'key':'/k'},'subscriptions':['a',{'filter':'b','no_local':true}],'labels':{'a':'b'},"
    "'user_properties':[{'name':'a','value':'b'}],'retired_filters':['a'],'reconnect_min_ms':10}",
};

/* The same numbers in every run. */
static int dice(size_t sides) {
    static unsigned seed = 1;
    return (int)((size_t)rand_r(&seed) % sides);
}

/* Any value of another type in place of a member, or of a member of a member. */
static json_t *rubbish(void) {
    static const char *const texts[] = {
        "null", "true",    "-1",          "1e308",  "''", "'/'", "[]",           "{}",
        "[[]]", "{'':''}", "['\\u0001']", "[null]", "4",  "5",   "'mqtt://[::'", "'$share/'"};
    return json_of(texts[dice(COUNT(texts))]);
}

static void replace_some(json_t *value) {
    const char *name;
    json_t *member;
    json_object_foreach(value, name, member) {
        if (dice(4) == 0) {
            json_object_set_new(value, name, rubbish());
        } else {
            replace_some(member);
        }
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (dice(4) == 0) {
            json_array_set_new(value, i, rubbish());
        } else {
            replace_some(json_array_get(value, i));
        }
    }
}

static void use_all(json_t *document, enum client_source source) {
    struct client_config *config;
    enum err err = client_config_parse(document, source, NULL, &config, &faults);
    json_t *shown = client_config_redacted(document);
    client_config_keep_secrets(document, shown);
    json_decref(shown);
    if (err == ERR_OK) {
        ck_assert_int_eq(client_config_retire(document, config, config), ERR_OK);
        free(client_config_identity(config));
    } else {
        ck_assert_int_eq(err, ERR_ARGUMENT);
        ck_assert_uint_ge(faults.count, 1);
    }
    client_config_destroy(config);
}

START_TEST(no_document_is_too_odd_to_be_judged) {
    for (int i = 0; i < 5000; i++) {
        json_t *document = json_of(SEEDS[i % (int)COUNT(SEEDS)]);
        replace_some(document);
        use_all(document, i % 3 == 0 ? CLIENT_FROM_STORE : CLIENT_FROM_API);
        json_decref(document);
    }
}
END_TEST

START_TEST(no_text_is_too_odd_to_be_judged) {
    for (int i = 0; i < 5000; i++) {
        char text[DOCUMENT_MAX];
        struct client_config *config;
        quote(text, SEEDS[i % (int)COUNT(SEEDS)]);
        size_t len = strlen(text);
        for (int j = 0; j < 3; j++) {
            text[dice(len)] = (char)dice(256);
        }
        len = dice(10) == 0 ? (size_t)dice(len) : len;
        enum err err = client_config_parse_text(text, len, "h", &config, &faults);
        ck_assert(err == ERR_OK ? faults.count == 0 : faults.count >= 1);
        client_config_destroy(config);
    }
}
END_TEST

START_TEST(names_of_enums_are_those_of_the_api) {
    ck_assert_str_eq(client_desired_name(DESIRED_RUNNING), "running");
    ck_assert_str_eq(client_desired_name(DESIRED_PAUSED), "paused");
    ck_assert_str_eq(client_scheme_name(SCHEME_MQTT), "mqtt");
    ck_assert_str_eq(client_scheme_name(SCHEME_WSS), "wss");
    client_config_destroy(NULL);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {
        flat_form_is_a_configuration,
        empty_inputs_of_a_form_mean_none,
        an_empty_password_with_a_username_is_one,
        null_means_absent,
        defaults_are_as_the_header_says,
        full_form_fills_every_member,
        sub_topic_joins_the_subscriptions_in_any_order,
        user_properties_may_be_an_object_and_a_will_may_be_empty,
        broker_addresses_are_read_in_all_spellings,
        id_comes_from_the_document_the_address_or_the_client_id,
        identity_is_equal_for_equal_brokers_and_client_ids,
        unknown_fields_in_the_store_are_ignored,
        text_that_is_no_object_is_one_fault_with_line_and_column,
        broken_json_is_not_quoted,
        too_deep_json_is_a_fault,
        no_document_is_too_odd_to_be_judged,
        no_text_is_too_odd_to_be_judged,
        names_of_enums_are_those_of_the_api,
    };
    return run_suite("client_config", tests, COUNT(tests));
}
