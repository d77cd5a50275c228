/* Tests of docs/openapi.json as it is built in: it has every route, and no other, and every field
 * of a client's configuration. tests/e2e/test_openapi.py tests its descriptions. */
#include <check.h>
#include <jansson.h>
#include <string.h>
#include <strings.h>
#include "mqtt/config/client_config_fields.h"
#include "http/api/api.h"
#include "http/api/routes.h"
#include "http/http_check.h"

static json_t *document;

static void setup(void) {
    json_error_t error;
    document = json_loads(openapi_json, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(document != NULL, "line %d: %s", error.line, error.text);
}

static void teardown(void) {
    json_decref(document);
}

static const json_t *operation_of(const struct http_route *route) {
    char method[16] = "";
    for (size_t i = 0; route->method[i] != '\0' && i + 1 < sizeof(method); i++) {
        method[i] = (char)(route->method[i] | 0x20);
    }
    const json_t *path = json_object_get(json_object_get(document, "paths"), route->pattern);
    return json_object_get(path, method);
}

START_TEST(every_route_is_documented_and_nothing_else_is) {
    size_t count, documented = 0;
    const struct http_route *routes = http_routes(&count);
    for (size_t i = 0; i < count; i++) {
        ck_assert_msg(operation_of(&routes[i]) != NULL, "%s %s is not in docs/openapi.json",
                      routes[i].method, routes[i].pattern);
    }
    const char *path;
    json_t *operations;
    json_object_foreach(json_object_get(document, "paths"), path, operations) {
        documented += json_object_size(operations);
    }
    ck_assert_int_eq(documented, count);
}
END_TEST

START_TEST(what_nodes_ask_each_other_is_marked_as_internal) {
    size_t count;
    const struct http_route *routes = http_routes(&count);
    for (size_t i = 0; i < count; i++) {
        bool internal = json_is_true(json_object_get(operation_of(&routes[i]), "x-internal"));
        ck_assert_msg(internal == ((routes[i].flags & ROUTE_FLEET) != 0), "%s", routes[i].pattern);
    }
}
END_TEST

static const char *role_of(unsigned flags) {
    if (flags & ROUTE_PUBLIC) {
        return "public";
    }
    if (flags & ROUTE_FLEET) {
        return "node";
    }
    if (flags & ROUTE_ADMIN) {
        return "admin";
    }
    return flags & (ROUTE_OPERATOR | ROUTE_CONTENTS) ? "operator" : "viewer";
}

START_TEST(the_roles_are_those_that_the_routes_ask_for) {
    size_t count;
    const struct http_route *routes = http_routes(&count);
    for (size_t i = 0; i < count; i++) {
        const char *role = json_string_value(json_object_get(operation_of(&routes[i]), "x-role"));
        ck_assert_msg(role && strcmp(role, role_of(routes[i].flags)) == 0, "%s %s: %s",
                      routes[i].method, routes[i].pattern, role);
    }
}
END_TEST

/* A parameter, or the shared one that it refers to. */
static const json_t *parameter_of(const json_t *parameter) {
    static const char prefix[] = "#/components/parameters/";
    const char *reference = json_string_value(json_object_get(parameter, "$ref"));
    if (!reference || strncmp(reference, prefix, strlen(prefix)) != 0) {
        return parameter;
    }
    const json_t *shared = json_object_get(json_object_get(document, "components"), "parameters");
    return json_object_get(shared, reference + strlen(prefix));
}

/* Only names that a route reads, and all of them. */
START_TEST(the_parameters_are_those_that_the_routes_take) {
    size_t count, i, k;
    const struct http_route *routes = http_routes(&count);
    for (i = 0; i < count; i++) {
        size_t known = 0;
        json_t *parameter;
        json_array_foreach(json_object_get(operation_of(&routes[i]), "parameters"), k, parameter) {
            const json_t *real = parameter_of(parameter);
            const char *in = json_string_value(json_object_get(real, "in"));
            const char *name = json_string_value(json_object_get(real, "name"));
            if (routes[i].query && in && strcmp(in, "query") == 0) {
                ck_assert_msg(strstr(routes[i].query, name) != NULL, "%s?%s", routes[i].pattern,
                              name);
                known++;
            }
        }
        size_t taken = 0;
        for (const char *at = routes[i].query; at && *at != '\0'; taken++) {
            at += strcspn(at, " ");
            at += strspn(at, " ");
        }
        ck_assert_msg(known == taken, "%s: %zu of \"%s\"", routes[i].pattern, known,
                      routes[i].query);
    }
}
END_TEST

static void fields_are_documented(const struct client_field_table *table, const char *schema) {
    const json_t *properties = json_object_get(
        json_object_get(json_object_get(json_object_get(document, "components"), "schemas"),
                        schema),
        "properties");
    size_t shown = 0;
    for (size_t i = 0; i < table->count; i++) {
        const struct client_field *field = &table->rows[i];
        if (field->flags & CLIENT_FIELD_INTERNAL) {
            continue;
        }
        shown++;
        ck_assert_msg(json_object_get(properties, field->name) != NULL, "%s of %s", field->name,
                      schema);
    }
    ck_assert_int_eq(json_object_size(properties), shown);
}

START_TEST(every_field_of_a_configuration_is_documented) {
    fields_are_documented(&client_fields, "ClientConfig");
    fields_are_documented(&client_subscription_fields, "Subscription");
    fields_are_documented(client_field_find(&client_fields, "will")->members, "Will");
    fields_are_documented(client_field_find(&client_fields, "tls")->members, "Tls");
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("openapi");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, every_route_is_documented_and_nothing_else_is);
    tcase_add_test(cases, what_nodes_ask_each_other_is_marked_as_internal);
    tcase_add_test(cases, the_roles_are_those_that_the_routes_ask_for);
    tcase_add_test(cases, the_parameters_are_those_that_the_routes_take);
    tcase_add_test(cases, every_field_of_a_configuration_is_documented);
    return run_cases(cases, "openapi");
}
