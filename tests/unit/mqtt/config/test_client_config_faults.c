/* Tests of mqtt/config/client_config: invalid documents and their faults. */
#include "mqtt/client_config_fixture.h"
#include "message/sink_name.h"
#include "base/text.h"

static const struct {
    const char *text;
    const char *pointers; /* of all faults, in order */
} BAD[] = {
    {"[]", ""},
    {"'x'", ""},
    {"{}", "/id /broker"},
    {"{'id':'c'}", "/broker"},
    {"{'id':'c','broker':'h','url':'mqtt://h'}", "/url"},
    {"{'id':'c','broker':''}", "/broker"},
    {"{'id':'c','broker':1}", "/broker"},
    {"{'id':'c','broker':'h h'}", "/broker"},
    {"{'id':'c','broker':'h:'}", "/broker"},
    {"{'id':'c','broker':'h:0'}", "/broker"},
    {"{'id':'c','broker':'h:65536'}", "/broker"},
    {"{'id':'c','broker':'h:99999999999999999999'}", "/broker"},
    {"{'id':'c','broker':'::1'}", "/broker"},
    {"{'id':'c','broker':'[::1'}", "/broker"},
    {"{'id':'c','broker':'[::1]x'}", "/broker"},
    {"{'id':'c','broker':'[fe80::1%eth0]'}", "/broker"},
    {"{'id':'c','broker':'a..b'}", "/broker"},
    {"{'id':'c','broker':'.'}", "/broker"},
    {"{'id':'c','broker':'u:p@h'}", "/broker"},
    {"{'id':'c','broker':'h/path'}", "/broker"},
    {"{'id':'c','broker':'http://h'}", "/broker"},
    {"{'id':'c','broker':'h\xC3\xBC'}", "/broker"},
    {"{'id':'c','broker':'h:1','port':2}", "/port"},
    {"{'id':'c','broker':'h','port':0}", "/port"},
    {"{'id':'c','broker':'h','port':65536}", "/port"},
    {"{'id':'c','broker':'h','port':'x'}", "/port"},
    {"{'id':'c','broker':'h','port':'1883'}", "/port"},
    {"{" BASE ",'username':'u','password':'***'}", "/password"},
    {"{" BASE ",'tls':{'cert':'/c','key':'***'}}", "/tls/key"},
    {"{'id':'c','broker':'h','port':''}", "/port"},
    {"{'id':'c','broker':'h','port':'1883 '}", "/port"},
    {"{'id':'c','broker':'h','port':1.5}", "/port"},
    {"{'id':'c','broker':'h','port':-1}", "/port"},
    {"{'id':'c','url':'mqtt://h','port':1883}", "/port"},
    {"{'id':'c','url':'h'}", "/url"},
    {"{'id':'c','url':'h:1883'}", "/url"},
    {"{'id':'c','url':'ftp://h'}", "/url"},
    {"{'id':'c','url':'mqtt://'}", "/url"},
    {"{'id':'c','url':'mqtt:///x'}", "/url"},
    {"{'id':'c','url':'mqtt://h/x'}", "/url"},
    {"{'id':'c','url':'mqtt://h?x'}", "/url"},
    {"{'id':'c','url':'ws://h/a#b'}", "/url"},
    {"{'id':'c','url':'ws://h?x'}", "/url"},
    {"{'id':'c','url':'mqtt://u:p@h'}", "/url"},
    {"{'id':'','url':'mqtt://h'}", "/id"},
    {"{'id':'a/b','url':'mqtt://h'}", "/id"},
    {"{'id':'..','url':'mqtt://h'}", "/id"},
    {"{'id':'a\\nb','url':'mqtt://h'}", "/id"},
    {"{'id':'a\\u0085b','url':'mqtt://h'}", "/id"},
    {"{'id':7,'url':'mqtt://h'}", "/id"},
    {"{'client_id':'a/b','url':'mqtt://h'}", "/id"},
    {"{'client_id':'','url':'mqtt://h'}", "/id"},
    {"{'client_id':7,'url':'mqtt://h'}", "/client_id"},
    {"{" BASE ",'client_id':'','clean_start':false}", "/client_id"},
    {"{" BASE ",'username':1}", "/username"},
    {"{" BASE ",'password':1}", "/password"},
    {"{" BASE ",'password':'p'}", "/password"},
    {"{" BASE ",'password':'p','protocol_version':4}", "/password"},
    {"{" BASE ",'protocol_version':3}", "/protocol_version"},
    {"{" BASE ",'protocol_version':6}", "/protocol_version"},
    {"{" BASE ",'protocol_version':'5'}", "/protocol_version"},
    {"{" BASE ",'protocol_version':5.0}", "/protocol_version"},
    {"{" BASE ",'keepalive_s':-1}", "/keepalive_s"},
    {"{" BASE ",'keepalive_s':65536}", "/keepalive_s"},
    {"{" BASE ",'keepalive_s':'60'}", "/keepalive_s"},
    {"{" BASE ",'clean_start':1}", "/clean_start"},
    {"{" BASE ",'session_expiry_s':4294967296}", "/session_expiry_s"},
    {"{" BASE ",'receive_maximum':0}", "/receive_maximum"},
    {"{" BASE ",'receive_maximum':65536}", "/receive_maximum"},
    {"{" BASE ",'max_packet_size':0}", "/max_packet_size"},
    {"{" BASE ",'max_packet_size':268435461}", "/max_packet_size"},
    /* fields of MQTT 5 with 3.1.1, wherever the version is */
    {"{" BASE ",'session_expiry_s':1,'protocol_version':4}", "/session_expiry_s"},
    {"{" BASE ",'protocol_version':4,'receive_maximum':1,'max_packet_size':99,'user_properties':{},"
     "'will':{'topic':'t','delay_s':1},'subscriptions':[{'filter':'a','no_local':false,"
     "'retain_as_published':true,'retain_handling':0}]}",
     "/receive_maximum /max_packet_size /user_properties /will/delay_s /subscriptions/0/no_local "
     "/subscriptions/0/retain_as_published /subscriptions/0/retain_handling"},
    {"{" BASE ",'protocol_version':4,'request_response_information':false,'will':{'topic':'t',"
     "'payload_format_indicator':0,'message_expiry_interval':1,'content_type':'',"
     "'response_topic':'a','correlation_data':'','user_properties':[]}}",
     "/request_response_information /will/payload_format_indicator /will/message_expiry_interval "
     "/will/content_type /will/response_topic /will/correlation_data /will/user_properties"},
    {"{" BASE ",'will':{'topic':'t','payload_format_indicator':2,'message_expiry_interval':0,"
     "'content_type':1,'response_topic':'a/#','correlation_data':'e',"
     "'user_properties':[{'name':'a'}]}}",
     "/will/payload_format_indicator /will/message_expiry_interval /will/content_type "
     "/will/response_topic /will/correlation_data /will/user_properties/0/value"},
    {"{" BASE ",'request_problem_information':1}", "/request_problem_information"},
    {"{" BASE ",'user_properties':'x'}", "/user_properties"},
    {"{" BASE ",'user_properties':['x']}", "/user_properties/0"},
    {"{" BASE ",'user_properties':[{'name':'a'}]}", "/user_properties/0/value"},
    {"{" BASE ",'user_properties':[{'name':1,'value':'1','x':2}]}",
     "/user_properties/0/name /user_properties/0/x"},
    {"{" BASE ",'user_properties':{'a~b/c':1}}", "/user_properties/a~0b~1c"},
    {"{" BASE ",'will':'x'}", "/will"},
    {"{" BASE ",'will':{}}", "/will/topic"},
    {"{" BASE ",'will':{'topic':'a/#'}}", "/will/topic"},
    {"{" BASE ",'will':{'topic':''}}", "/will/topic"},
    {"{" BASE ",'will':{'topic':'a','qos':3,'retain':'no'}}", "/will/qos /will/retain"},
    {"{" BASE ",'will':{'topic':'a','payload':'x','payload_base64':'eA=='}}",
     "/will/payload_base64"},
    {"{" BASE ",'will':{'topic':'a','payload_base64':'eA==','payload':'x'}}", "/will/payload"},
    {"{" BASE ",'will':{'topic':'a','payload_base64':'e'}}", "/will/payload_base64"},
    {"{" BASE ",'will':{'topic':'a','payload_base64':1}}", "/will/payload_base64"},
    {"{" BASE ",'will':{'topic':'a','payload':{}}}", "/will/payload"},
    {"{" BASE ",'tls':[]}", "/tls"},
    {"{" BASE ",'tls':{'ca':'x'}}", "/tls/ca"},
    {"{" BASE ",'tls':{'ca':''}}", "/tls/ca"},
    {"{" BASE ",'tls':{'cert':'/c'}}", "/tls/key"},
    {"{" BASE ",'tls':{'key':'/k'}}", "/tls/cert"},
    {"{" BASE ",'tls':{'alpn':'mqtt'}}", "/tls/alpn"},
    {"{" BASE ",'tls':{'alpn':['mqtt','',7]}}", "/tls/alpn/1 /tls/alpn/2"},
    {"{" BASE ",'tls':{'server_name':'a b','insecure':0}}", "/tls/server_name /tls/insecure"},
    {"{'id':'c','url':'mqtt://h','tls':{'insecure':true}}", "/tls"},
    {"{'id':'c','broker':'ws://h','tls':{'ca':'/c'}}", "/tls"},
    {"{" BASE ",'sub_topic':1}", "/sub_topic"},
    {"{" BASE ",'sub_topic':'a/#/b'}", "/sub_topic"},
    {"{" BASE ",'sub_topic':'a','subscriptions':['a']}", "/sub_topic"},
    {"{" BASE ",'subscriptions':'a'}", "/subscriptions"},
    {"{" BASE ",'subscriptions':[1]}", "/subscriptions/0"},
    {"{" BASE ",'subscriptions':['']}", "/subscriptions/0"},
    {"{" BASE ",'subscriptions':['a','a']}", "/subscriptions/1"},
    {"{" BASE ",'subscriptions':['a','b',{'filter':'a','qos':0}]}", "/subscriptions/2/filter"},
    {"{" BASE ",'subscriptions':[{}]}", "/subscriptions/0/filter"},
    {"{" BASE ",'subscriptions':[{'filter':null}]}", "/subscriptions/0/filter"},
    {"{" BASE ",'subscriptions':['a',{'filter':'a+','qos':3}]}",
     "/subscriptions/1/filter /subscriptions/1/qos"},
    {"{" BASE ",'subscriptions':[{'filter':'a','retain_handling':3}]}",
     "/subscriptions/0/retain_handling"},
    {"{" BASE ",'subscriptions':[{'filter':'$share/g/a','no_local':true}]}",
     "/subscriptions/0/no_local"},
    {"{" BASE ",'sink':'Kafka'}", "/sink"},
    {"{" BASE ",'labels':[]}", "/labels"},
    {"{" BASE ",'labels':{'a b':'1','ok':2,'':'x'}}", "/labels/a b /labels/ok /labels/"},
    {"{" BASE ",'desired':'stopped'}", "/desired"},
    {"{" BASE ",'reconnect_min_ms':9}", "/reconnect_min_ms"},
    {"{" BASE ",'reconnect_max_ms':86400001}", "/reconnect_max_ms"},
    {"{" BASE ",'reconnect_min_ms':20,'reconnect_max_ms':10}", "/reconnect_min_ms"},
    {"{" BASE ",'limits':5}", "/limits"},
    {"{" BASE ",'limits':{'messages_per_s':0,'bytes_per_s':1.5}}",
     "/limits/messages_per_s /limits/bytes_per_s"},
    {"{" BASE ",'limits':{'messages_per_s':1000001}}", "/limits/messages_per_s"},
    {"{" BASE ",'limits':{'bytes_per_s':4294967296}}", "/limits/bytes_per_s"},
    {"{" BASE ",'limits':{'messages_per_s':1,'burst':1}}", "/limits/burst"},
    {"{" BASE ",'limits':{'messages_per_s':10,'burst':9}}", "/limits/burst"},
    {"{" BASE ",'limits':{'bytes_per_s':10,'burst':9}}", "/limits/burst"},
    {"{" BASE ",'limits':{'messages':10}}", "/limits/messages"},
    {"{" BASE ",'routes':{}}", "/routes"},
    {"{" BASE ",'routes':[5,{'to':['x'],'match':{'qos':3}}]}", "/routes/0 /routes/1/match/qos"},
    {"{" BASE ",'routes':[{'to':['X']}]}", "/routes/0/to"},
    {"{" BASE ",'retired_filters':['a']}", "/retired_filters"},
    {"{" BASE ",'foo':1,'tls':{'bar':1},'a/b':null}", "/foo /tls/bar /a~1b"},
    {"{'id':'a/b','url':'x','keepalive_s':'1','subscriptions':['#a',2],'nope':0}",
     "/id /url /keepalive_s /subscriptions/0 /subscriptions/1 /nope"},
};

START_TEST(each_fault_of_a_document_has_its_pointer) {
    for (size_t i = 0; i < COUNT(BAD); i++) {
        struct client_config *config;
        enum err err = parse(BAD[i].text, CLIENT_FROM_API, NULL, &config);
        ck_assert_msg(err == ERR_ARGUMENT, "accepted: %s", BAD[i].text);
        ck_assert_ptr_null(config);
        ck_assert_msg(strcmp(fault_pointers(), BAD[i].pointers) == 0, "%s\nsaid %s\nnot  %s (%s)",
                      BAD[i].text, fault_pointers(), BAD[i].pointers, faults.items[0].detail);
        for (size_t j = 0; j < faults.count; j++) {
            ck_assert_uint_gt(strlen(faults.items[j].detail), 10);
        }
    }
}
END_TEST

#define CREDENTIALS_IN_URL                                                                         \
    "seems to hold a user name and a password: move them into username and password, as they are " \
    "(in a URL, characters of a password such as # / ? @ would have to be percent-encoded)"

static const struct {
    const char *text, *detail;
} DETAILS[] = {
    {"{" BASE ",'keepalive':60}", "unknown field \"keepalive\", did you mean keepalive_s?"},
    {"{" BASE ",'keep_alive':60}", "unknown field \"keep_alive\", did you mean keepalive_s?"},
    {"{" BASE ",'clientId':'x'}", "unknown field \"clientId\", did you mean client_id?"},
    {"{" BASE ",'ID':'x'}", "unknown field \"ID\", did you mean id?"},
    {"{" BASE ",'session_expiry':1}",
     "unknown field \"session_expiry\", did you mean session_expiry_s?"},
    {"{" BASE ",'subscriptions':[{'filter':'a','Qos':1}]}",
     "unknown field \"Qos\", did you mean qos?"},
    {"{" BASE ",'retired_filter':1}", "unknown field \"retired_filter\"; it must be omitted"},
    {"{" BASE ",'zzz':1}", "unknown field \"zzz\"; it must be omitted"},
    {"{" BASE ",'keepalive_s':70000}", "must be a whole number from 0 to 65535, not 70000"},
    {"{" BASE ",'keepalive_s':'x'}", "must be a whole number from 0 to 65535, not a string"},
    {"{" BASE ",'sink':'X'}", "must be the name of a sink: " SINK_NAME_FORMAT},
    {"{" BASE ",'limits':{'messages_per_s':10,'burst':9}}", "must be at least messages_per_s, 10"},
    {"{" BASE ",'limits':{'bytes_per_s':10,'burst':9}}",
     "must be omitted without messages_per_s: it is a number of messages"},
    {"{'id':'c','url':'mqtt://u:p@h'}",
     "must have no user information: use the fields username and password"},
    {"{'id':'c','url':'mqtt://user:top#001@host'}", CREDENTIALS_IN_URL},
    {"{'id':'c','url':'mqtts://user:to/p@host:8883'}", CREDENTIALS_IN_URL},
    {"{'id':'c','url':'wss://us?er:top@host/mqtt'}", CREDENTIALS_IN_URL},
    {"{'id':'c','broker':'user:top#001@host'}", CREDENTIALS_IN_URL},
    {"[]", "must be an object, not an array"},
};

START_TEST(a_fault_says_what_is_wrong_and_what_would_be_right) {
    for (size_t i = 0; i < COUNT(DETAILS); i++) {
        struct client_config *config;
        ck_assert_int_eq(parse(DETAILS[i].text, CLIENT_FROM_API, NULL, &config), ERR_ARGUMENT);
        ck_assert_str_eq(faults.items[0].detail, DETAILS[i].detail);
    }
}
END_TEST

START_TEST(no_fault_shows_a_secret) {
    static const char *const texts[] = {
        "{'id':'c','url':'mqtt://user:hunter2@h'}",
        "{'id':'c','url':'mqtt://user:hunter2'}",
        "{'id':'c','broker':'user:hunter2@h'}",
        "{'id':'c','broker':'h','password':{'hunter2':'hunter2'}}",
        "{'id':'c','broker':'h','username':'u','password':['hunter2']}",
        "{'id':'c','broker':'h','password':'hunter2'}",
        "{'id':'c','url':'mqtts://h','tls':{'key':'hunter2'}}",
        "{'id':'c','url':'mqtts://h','tls':{'key':'" PEM_KEY "'}}",
        "{'id':'c','url':'mqtts://h','tls':'hunter2'}",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct client_config *config;
        ck_assert_int_eq(parse(texts[i], CLIENT_FROM_API, NULL, &config), ERR_ARGUMENT);
        for (size_t j = 0; j < faults.count; j++) {
            ck_assert_ptr_null(strstr(faults.items[j].detail, "hunter2"));
            ck_assert_ptr_null(strstr(faults.items[j].pointer, "hunter2"));
        }
    }
}
END_TEST

START_TEST(faults_are_bounded) {
    struct client_config *config;
    json_t *document = json_of("{'id':'c','broker':'h'}");
    for (int i = 0; i < 100; i++) {
        char name[32];
        snprintf(name, sizeof(name), "unknown-%d", i);
        json_object_set_new(document, name, json_true());
    }
    ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_API, NULL, &config, &faults),
                     ERR_ARGUMENT);
    ck_assert_uint_eq(faults.count, CLIENT_FAULTS_MAX);
    json_decref(document);
}
END_TEST

/* name as an unknown field, and as a wrong label. */
static void expect_whole_characters(const char *name) {
    struct client_config *config;
    json_t *document = json_of("{'id':'c','broker':'h','labels':{}}");
    json_object_set_new(json_object_get(document, "labels"), name, json_string("x"));
    json_object_set_new(document, name, json_string("x"));
    ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_API, NULL, &config, &faults),
                     ERR_ARGUMENT);
    ck_assert_uint_eq(faults.count, 2);
    for (size_t i = 0; i < 2; i++) {
        const char *pointer = faults.items[i].pointer;
        ck_assert_uint_lt(strnlen(pointer, sizeof(faults.items[i].pointer)),
                          sizeof(faults.items[i].pointer));
        ck_assert(text_is_utf8(pointer, strlen(pointer)));
        ck_assert(text_is_utf8(faults.items[i].detail, strlen(faults.items[i].detail)));
        for (const char *c = strchr(pointer, '~'); c; c = strchr(c + 1, '~')) {
            ck_assert(c[1] == '0' || c[1] == '1');
        }
    }
    json_decref(document);
}

START_TEST(long_names_are_never_cut_within_a_character) {
    for (size_t units = 1; units < 300; units++) {
        for (size_t ahead = 0; ahead < 2; ahead++) {
            char name[1024] = "x";
            name[ahead] = '\0';
            for (size_t i = 0; i < units; i++) {
                strcat(name, units % 2 == 0 ? "~" : "\xC3\xA4");
            }
            expect_whole_characters(name);
        }
    }
}
END_TEST

START_TEST(bounds_hold_at_their_edges) {
    struct client_config *config;
    json_t *document = json_of("{'id':'c','broker':'h'}");
    json_t *subscriptions = json_array();
    for (int i = 0; i < 1000; i++) {
        json_array_append_new(subscriptions, json_sprintf("t/%d", i));
    }
    json_object_set_new(document, "subscriptions", subscriptions);
    ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_API, NULL, &config, &faults),
                     ERR_OK);
    ck_assert_uint_eq(config->subscription_count, 1000);
    client_config_destroy(config);
    json_object_set_new(document, "sub_topic", json_string("x"));
    ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_API, NULL, &config, &faults),
                     ERR_ARGUMENT);
    ck_assert_str_eq(fault_pointers(), "/sub_topic");
    json_object_del(document, "sub_topic");
    json_array_append_new(subscriptions, json_string("x"));
    ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_API, NULL, &config, &faults),
                     ERR_ARGUMENT);
    ck_assert_str_eq(fault_pointers(), "/subscriptions");
    json_decref(document);

    static const struct {
        const char *member;
        size_t bytes_max;
    } texts[] = {{"id", 256}, {"client_id", 65535}, {"username", 65535}, {"sub_topic", 65535}};
    for (size_t i = 0; i < COUNT(texts); i++) {
        char *value = malloc(texts[i].bytes_max + 2);
        ck_assert_ptr_nonnull(value);
        memset(value, 'x', texts[i].bytes_max + 1);
        value[texts[i].bytes_max + 1] = '\0';
        document = json_of("{'id':'c','broker':'h'}");
        json_object_set_new(document, texts[i].member, json_string(value));
        ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_API, NULL, &config, &faults),
                         ERR_ARGUMENT);
        ck_assert_str_eq(faults.items[0].pointer + 1, texts[i].member);
        value[texts[i].bytes_max] = '\0';
        json_object_set_new(document, texts[i].member, json_string(value));
        ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_API, NULL, &config, &faults),
                         ERR_OK);
        client_config_destroy(config);
        json_decref(document);
        free(value);
    }
}
END_TEST

START_TEST(nul_and_ill_formed_utf8_in_strings_are_faults) {
    static const char *const members[] = {"id", "client_id", "username", "password", "sub_topic"};
    for (size_t i = 0; i < COUNT(members); i++) {
        struct client_config *config;
        json_t *document = json_of("{'id':'c','broker':'h','username':'u'}");
        json_object_set_new(document, members[i], json_stringn("a\0b", 3));
        ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_API, NULL, &config, &faults),
                         ERR_ARGUMENT);
        ck_assert_str_eq(faults.items[0].pointer + 1, members[i]);
        if (strcmp(members[i], "password") != 0) {
            json_object_set_new_nocheck(document, members[i], json_stringn_nocheck("\xC0\x80", 2));
            ck_assert_int_eq(client_config_parse(document, CLIENT_FROM_API, NULL, &config, &faults),
                             ERR_ARGUMENT);
        }
        json_decref(document);
    }
}
END_TEST

int main(void) {
    const TTest *const tests[] = {
        each_fault_of_a_document_has_its_pointer,
        a_fault_says_what_is_wrong_and_what_would_be_right,
        no_fault_shows_a_secret,
        faults_are_bounded,
        long_names_are_never_cut_within_a_character,
        bounds_hold_at_their_edges,
        nul_and_ill_formed_utf8_in_strings_are_faults,
    };
    return run_suite("client_config_faults", tests, COUNT(tests));
}
