/* A router with two sinks, "first" (the default) and "second", and the route of one client. */
#ifndef MQFLEET_ROUTER_FIXTURE_H
#define MQFLEET_ROUTER_FIXTURE_H

#include <check.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "message/router.h"

static struct router *router;
static struct message_queue *first, *second;
static struct route route;

static void fail_on_fault(void *context, const char *pointer, const char *detail) {
    (void)context;
    ck_abort_msg("%s: %s", pointer, detail);
}

static struct route_table *table_of(const char *list) {
    json_t *json = json_loads(list, 0, NULL);
    ck_assert_ptr_nonnull(json);
    struct route_table *table = route_table_create(json, fail_on_fault, NULL);
    json_decref(json);
    return table;
}

static struct message_origin *oslo(void) {
    static const struct message_label label = {"site", "oslo"};
    return message_origin_create("broker:1883", &label, 1);
}

static void setup_router(void) {
    router = router_create();
    first = message_queue_create(100, 1000000, 10);
    second = message_queue_create(100, 1000000, 10);
    ck_assert(router_add_sink(router, "first", first));
    ck_assert(router_add_sink(router, "second", second));
    route = (struct route){0};
}

static size_t drain(struct message_queue *queue) {
    static const bool all[100] = {[0 ... 99] = true};
    struct message *batch[100];
    struct message_queue_entry entries[100];
    size_t n = message_queue_peek(queue, batch, 100, SIZE_MAX, 0);
    message_queue_take(queue, all, entries, n);
    for (size_t i = 0; i < n; i++) {
        message_destroy(entries[i].message);
    }
    return n;
}

static void teardown_router(void) {
    route_fini(&route);
    drain(first);
    drain(second);
    router_destroy(router);
    message_queue_destroy(first);
    message_queue_destroy(second);
}

static struct message *message_to(const char *topic, uint8_t qos) {
    return message_create(&(struct message){
        .id = "i", .client_id = "c", .topic = topic, .payload = (const uint8_t *)"", .qos = qos});
}

#endif
