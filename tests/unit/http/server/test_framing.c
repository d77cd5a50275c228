/* Tests of http/server/framing: each fault alone, and well-framed requests. */
#include "http/server/framing.h"

#include <string.h>
#include "http/http_check.h"

struct client_field {
    const char *name, *value;
};

#define FIELDS_MAX 4

static const char *fault_of(const struct client_field *fields, const char *target,
                            const char *version) {
    struct http_framing framing = {0};
    for (size_t i = 0; i < FIELDS_MAX && fields[i].name; i++) {
        http_framing_field(&framing, fields[i].name, fields[i].value);
    }
    return http_framing_fault(&framing, target, version);
}

START_TEST(what_is_well_framed_has_no_fault) {
    static const struct client_field good[][FIELDS_MAX] = {
        {{"Host", "localhost:80"}},
        {{"host", ""}},
        {{"HOST", "[::1]:80"}, {"content-length", "0"}},
        {{"Host", "a"}, {"Transfer-Encoding", "Chunked"}},
        {{"Host", "a"}, {"X-A", "\t\xc3\xa4 b"}, {"!#$%&'*+-.^_`|~", "x"}},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        ck_assert_msg(!fault_of(good[i], "/a?b=%20", "HTTP/1.1"), "%zu", i);
    }
    static const struct client_field none[FIELDS_MAX];
    ck_assert_ptr_null(fault_of(none, "/", "HTTP/1.0"));
}
END_TEST

START_TEST(what_can_be_read_in_two_ways_has_one) {
    static const struct client_field bad[][FIELDS_MAX] = {
        {{NULL, NULL}},
        {{"Host", "a"}, {"hOST", "a"}},
        {{"Host", "a b"}},
        {{"Host", "a/b"}},
        {{"Host", "a"}, {"Content-Length", "1"}, {"Content-Length", "1"}},
        {{"Host", "a"}, {"Content-Length", ""}},
        {{"Host", "a"}, {"Content-Length", "1,1"}},
        {{"Host", "a"}, {"Content-Length", "-1"}},
        {{"Host", "a"}, {"Content-Length", "1 "}},
        {{"Host", "a"}, {"Content-Length", "1"}, {"Transfer-Encoding", "chunked"}},
        {{"Host", "a"}, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}},
        {{"Host", "a"}, {"Transfer-Encoding", "identity"}},
        {{"Host", "a"}, {"Transfer-Encoding", "gzip, chunked"}},
        {{"Host", "a"}, {"Transfer-Encoding ", "chunked"}},
        {{"Host", "a"}, {"", "b"}},
        {{"Host", "a"}, {"X(", "b"}},
        {{"Host", "a"}, {"X", "b\rc"}},
        {{"Host", "a"}, {"X", "b\x7f"}},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        ck_assert_msg(fault_of(bad[i], "/", "HTTP/1.1") != NULL, "%zu", i);
    }
}
END_TEST

START_TEST(a_target_has_no_blanks_and_1_0_no_transfer_encoding) {
    static const struct client_field host[FIELDS_MAX] = {{"Host", "a"}};
    static const struct client_field coded[FIELDS_MAX] = {{"Host", "a"},
                                                          {"Transfer-Encoding", "chunked"}};
    ck_assert_ptr_nonnull(fault_of(host, "/a b", "HTTP/1.1"));
    ck_assert_ptr_nonnull(fault_of(host, "/a\tb", "HTTP/1.1"));
    ck_assert_ptr_nonnull(fault_of(coded, "/", "HTTP/1.0"));
    ck_assert_ptr_null(fault_of(coded, "/", "HTTP/1.1"));
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("framing");
    tcase_add_test(cases, what_is_well_framed_has_no_fault);
    tcase_add_test(cases, what_can_be_read_in_two_ways_has_one);
    tcase_add_test(cases, a_target_has_no_blanks_and_1_0_no_transfer_encoding);
    return run_cases(cases, "http/framing");
}
