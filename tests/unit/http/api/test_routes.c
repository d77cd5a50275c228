/* Tests of http/api/routes: which handler answers which request. */
#include "http/api/routes.h"

#include <check.h>
#include <string.h>
#include "http/api/api.h"
#include "http/http_check.h"

static const struct http_route *route;
static const char *parameter;
static size_t parameter_len;
static char allow[HTTP_ALLOW_LEN];

static enum http_route_result find(const char *method, const char *path) {
    route = NULL;
    return http_route_find(method, path, &route, &parameter, &parameter_len, allow);
}

START_TEST(every_row_of_the_table_is_found_by_its_own_pattern) {
    size_t count;
    const struct http_route *rows = http_routes(&count);
    ck_assert_uint_gt(count, 25);
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(find(rows[i].method, rows[i].pattern), HTTP_ROUTE_FOUND);
        ck_assert_msg(route == &rows[i], "%s %s is hidden by %s", rows[i].method, rows[i].pattern,
                      route->pattern);
    }
}
END_TEST

START_TEST(every_row_says_what_a_token_with_a_scope_gets) {
    size_t count;
    const struct http_route *rows = http_routes(&count);
    for (size_t i = 0; i < count; i++) {
        bool one_client = strncmp(rows[i].pattern, "/api/v1/clients/{id}", 20) == 0;
        bool open = (rows[i].flags & ROUTE_PUBLIC) != 0;
        ck_assert_msg(rows[i].scope != SCOPE_UNDECIDED, "%s", rows[i].pattern);
        ck_assert_msg(one_client == (rows[i].scope == SCOPE_CLIENT), "%s", rows[i].pattern);
        ck_assert_msg(!open || rows[i].scope == SCOPE_EVERYONE, "%s", rows[i].pattern);
    }
}
END_TEST

START_TEST(a_parameter_is_the_raw_segment) {
    ck_assert_int_eq(find("POST", "/api/v1/clients/a%2Fb/publish"), HTTP_ROUTE_FOUND);
    ck_assert(route->handler == api_client_publish);
    ck_assert_uint_eq(parameter_len, 5);
    ck_assert_int_eq(strncmp(parameter, "a%2Fb/", 6), 0);
}
END_TEST

START_TEST(a_path_without_parameter_gives_none) {
    ck_assert_int_eq(find("GET", "/api/v1/clients"), HTTP_ROUTE_FOUND);
    ck_assert_ptr_null(parameter);
}
END_TEST

START_TEST(head_is_answered_by_get) {
    ck_assert_int_eq(find("HEAD", "/api/v1/nodes/n1"), HTTP_ROUTE_FOUND);
    ck_assert(route->handler == api_node_get);
    ck_assert_int_eq(find("HEAD", "/create_mqtt"), HTTP_ROUTE_NO_METHOD);
}
END_TEST

START_TEST(a_known_path_with_another_method_tells_what_is_allowed) {
    ck_assert_int_eq(find("POST", "/api/v1/clients/x"), HTTP_ROUTE_NO_METHOD);
    ck_assert_str_eq(allow, "GET, HEAD, PUT, PATCH, DELETE");
    ck_assert_int_eq(find("GET", "/api/v1/clients/x/pause"), HTTP_ROUTE_NO_METHOD);
    ck_assert_str_eq(allow, "POST");
    ck_assert_int_eq(find("get", "/livez"), HTTP_ROUTE_NO_METHOD);
}
END_TEST

START_TEST(what_is_not_in_the_table_is_not_found) {
    static const char *const paths[] = {
        "",
        "/",
        "//",
        "/api",
        "/api/v1/clients/",
        "/livez/",
        "//livez",
        "/livezz",
        "/live",
        "/api/v1/clients/x/",
        "/{id}",
        "livez",
        "*",
        "/api/v1/clients/x/unknown",
        "/api/v1//",
        "/api/v1/clients/x/publish/y",
        "/api/v1/clients//publish",
    };
    for (size_t i = 0; i < COUNT(paths); i++) {
        ck_assert_msg(find("GET", paths[i]) == HTTP_ROUTE_NO_PATH, "%s", paths[i]);
        ck_assert_ptr_null(parameter);
    }
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("routes");
    tcase_add_test(cases, every_row_of_the_table_is_found_by_its_own_pattern);
    tcase_add_test(cases, every_row_says_what_a_token_with_a_scope_gets);
    tcase_add_test(cases, a_parameter_is_the_raw_segment);
    tcase_add_test(cases, a_path_without_parameter_gives_none);
    tcase_add_test(cases, head_is_answered_by_get);
    tcase_add_test(cases, a_known_path_with_another_method_tells_what_is_allowed);
    tcase_add_test(cases, what_is_not_in_the_table_is_not_found);
    return run_cases(cases, "routes");
}
