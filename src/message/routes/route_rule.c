/* Owns the language of one route: a row per field, a row per operator. */
#include "route_rule.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/text.h"
#include "message/topic.h"
#include "message/routes/topic_trie.h"

#define LIST_MAX       64 /* values of one condition */
#define POINTER_LEN    128
#define NAME_MAX_LEN   64
#define SIZE_MAX_BYTES 268435455 /* of an MQTT packet */

void route_fault(struct route_faults *faults, const char *place, const char *format, ...) {
    char pointer[POINTER_LEN], detail[MESSAGE_FAULT_LEN];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    snprintf(pointer, sizeof pointer, "/%zu%s%s", faults->index, *place ? "/" : "", place);
    faults->any = true;
    faults->report(faults->context, pointer, detail);
}

void route_fault_memory(struct route_faults *faults) {
    faults->any = faults->out_of_memory = true;
    faults->report(faults->context, "", "out of memory");
}

/* ---- fields ---------------------------------------------------------------------------------- */

static bool route_rule_is_list(const json_t *value, bool (*is_item)(const json_t *item)) {
    bool fits =
        json_is_array(value) && json_array_size(value) > 0 && json_array_size(value) <= LIST_MAX;
    for (size_t i = 0; fits && i < json_array_size(value); i++) {
        fits = is_item(json_array_get(value, i));
    }
    return fits;
}

static bool route_rule_is_text(const json_t *item) {
    return json_is_string(item) && strlen(json_string_value(item)) == json_string_length(item);
}

static bool route_rule_is_scalar(const json_t *item) {
    return item && !json_is_array(item) && !json_is_object(item);
}

/* One text stands for a list of it: it is replaced in the copy of the document. */
static const json_t *route_rule_list_of_texts(json_t *parent, const char *field) {
    json_t *value = json_object_get(parent, field);
    if (route_rule_is_text(value)) {
        json_object_set_new(parent, field, json_pack("[O]", value));
        value = json_object_get(parent, field);
    }
    return route_rule_is_list(value, route_rule_is_text) ? value : NULL;
}

static void route_rule_take_topics(struct route_rule *rule, json_t *match,
                                   struct route_faults *faults) {
    rule->topics = route_rule_list_of_texts(match, "topic");
    if (!rule->topics) {
        route_fault(faults, "match/topic", "must be a topic filter or 1 to %d of them", LIST_MAX);
    }
    for (size_t i = 0; i < json_array_size(rule->topics); i++) {
        const json_t *item = json_array_get(rule->topics, i);
        const char *filter = json_string_value(item);
        const char *fault = topic_filter_fault(filter, json_string_length(item));
        fault = !fault && topic_filter_takes_from_others(filter)
                    ? "must not be shared: a route sees what the client receives"
                    : fault;
        if (fault) {
            route_fault(faults, "match/topic", "\"%.100s\" %s", filter, fault);
        }
    }
}

static void route_rule_take_labels(struct route_rule *rule, json_t *match,
                                   struct route_faults *faults) {
    json_t *labels = json_object_get(match, "labels");
    size_t count = json_object_size(labels);
    if (!json_is_object(labels) || count == 0 || count > LIST_MAX) {
        route_fault(faults, "match/labels", "must be an object of 1 to %d labels", LIST_MAX);
        return;
    }
    rule->labels = calloc(count, sizeof *rule->labels);
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(labels, next, name, value) {
        const json_t *values = route_rule_list_of_texts(labels, name);
        if (!values || !rule->labels) {
            route_fault(faults, "match/labels", "label %.60s must be a value or 1 to %d of them",
                        name, LIST_MAX);
            return;
        }
        rule->labels[rule->label_count++] = (struct route_label){name, values};
    }
}

static void route_rule_take_broker(struct route_rule *rule, json_t *match,
                                   struct route_faults *faults) {
    const json_t *broker = json_object_get(match, "broker");
    if (!route_rule_is_text(broker) || !strchr(json_string_value(broker), ':')) {
        route_fault(faults, "match/broker", "must be host:port; * matches any characters");
        return;
    }
    rule->broker = json_string_value(broker);
}

static bool route_rule_is_qos(const json_t *item) {
    return json_is_integer(item) && json_integer_value(item) >= 0 && json_integer_value(item) <= 2;
}

static void route_rule_take_qos(struct route_rule *rule, json_t *match,
                                struct route_faults *faults) {
    const json_t *qos = json_object_get(match, "qos");
    if (route_rule_is_qos(qos)) {
        rule->qos = (uint8_t)(1 << json_integer_value(qos));
        return;
    }
    if (!route_rule_is_list(qos, route_rule_is_qos)) {
        route_fault(faults, "match/qos", "must be 0, 1 or 2, or an array of these");
        return;
    }
    rule->qos = 0;
    for (size_t i = 0; i < json_array_size(qos); i++) {
        rule->qos |= (uint8_t)(1 << json_integer_value(json_array_get(qos, i)));
    }
}

static void route_rule_take_retain(struct route_rule *rule, json_t *match,
                                   struct route_faults *faults) {
    const json_t *retain = json_object_get(match, "retain");
    if (!json_is_boolean(retain)) {
        route_fault(faults, "match/retain", "must be true or false");
        return;
    }
    rule->retains = json_is_true(retain) ? 2 : 1;
}

static void route_rule_take_size(struct route_rule *rule, json_t *match,
                                 struct route_faults *faults) {
    json_int_t min = 0, max = SIZE_MAX_BYTES;
    json_t *size = json_object_get(match, "size");
    bool fits = json_is_object(size) && json_object_size(size) > 0 &&
                json_unpack(size, "{s?I, s?I !}", "min", &min, "max", &max) == 0;
    if (!fits || min < 0 || max < min) {
        route_fault(faults, "match/size",
                    "must be {\"min\": bytes, \"max\": bytes}, one of them or both");
        return;
    }
    rule->size_min = min;
    rule->size_max = max;
}

/* ---- when ------------------------------------------------------------------------------------ */

static double route_rule_number(const json_t *value) {
    return json_number_value(value);
}

static bool route_rule_equal(const json_t *left, const json_t *right) {
    bool numbers = json_is_number(left) && json_is_number(right);
    bool integers = json_is_integer(left) && json_is_integer(right);
    return numbers && !integers ? route_rule_number(left) == route_rule_number(right)
                                : json_equal(left, right) != 0;
}

static bool route_rule_is_in(const json_t *value, const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (route_rule_equal(value, json_array_get(list, i))) {
            return true;
        }
    }
    return false;
}

static bool route_rule_order(const json_t *value, const json_t *operand, int sign) {
    if (json_is_string(value) && json_is_string(operand)) {
        int order = strcmp(json_string_value(value), json_string_value(operand));
        return sign > 0 ? order > 0 : order < 0;
    }
    bool numbers = json_is_number(value) && json_is_number(operand);
    double difference = numbers ? route_rule_number(value) - route_rule_number(operand) : 0;
    return difference * sign > 0;
}

static bool route_rule_is_ordered(const json_t *item) {
    return json_is_number(item) || route_rule_is_text(item);
}

static bool route_rule_is_list_of_scalars(const json_t *item) {
    return route_rule_is_list(item, route_rule_is_scalar);
}

static bool route_rule_is_truth(const json_t *item) {
    return json_is_boolean(item);
}

static const struct {
    const char *name;
    bool (*fits)(const json_t *operand);
    const char *should;
} operators[] = {
    [ROUTE_EQ] = {"eq", route_rule_is_scalar,
                  "must have a string, a number, true, false or null in eq"},
    [ROUTE_NE] = {"ne", route_rule_is_scalar,
                  "must have a string, a number, true, false or null in ne"},
    [ROUTE_GT] = {"gt", route_rule_is_ordered, "must have a number or a string in gt"},
    [ROUTE_LT] = {"lt", route_rule_is_ordered, "must have a number or a string in lt"},
    [ROUTE_EXISTS] = {"exists", route_rule_is_truth, "must have true or false in exists"},
    [ROUTE_IN] = {"in", route_rule_is_list_of_scalars,
                  "must have an array of 1 to 64 scalars in in"},
};

static bool route_rule_when_matches(const struct route_when *when, struct message_view *view) {
    const json_t *value = message_view_json(view, when->pointer);
    if (when->operator== ROUTE_EXISTS) {
        return json_is_true(when->operand) == (value != NULL);
    }
    if (!value) {
        return false;
    }
    switch (when->operator) {
    case ROUTE_EQ:
        return route_rule_equal(value, when->operand);
    case ROUTE_NE:
        return !route_rule_equal(value, when->operand);
    case ROUTE_GT:
        return route_rule_order(value, when->operand, 1);
    case ROUTE_LT:
        return route_rule_order(value, when->operand, -1);
    default: /* ROUTE_IN */
        return route_rule_is_in(value, when->operand);
    }
}

/* NULL: valid. */
static const char *route_rule_take_when(struct route_when *when, const json_t *document) {
    static const char shape[] =
        "must be {\"pointer\": \"/a/b\", and one of eq, ne, gt, lt, exists, "
        "in with its value}";
    const json_t *pointer = json_object_get(document, "pointer");
    when->operand = NULL;
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        const json_t *operand = json_object_get(document, operators[i].name);
        if (operand) {
            when->operator=(enum route_operator) i;
            when->operand = operand;
        }
    }
    if (!route_rule_is_text(pointer) || !when->operand || json_object_size(document) != 2) {
        return shape;
    }
    when->pointer = json_string_value(pointer);
    if (!message_pointer_is_valid(when->pointer)) {
        return "must have a JSON pointer in pointer: \"\", or \"/a/b\" (RFC 6901)";
    }
    return operators[when->operator].fits(when->operand) ? NULL
                                                         : operators[when->operator].should;
}

static void route_rule_take_whens(struct route_rule *rule, json_t *match,
                                  struct route_faults *faults) {
    json_t *when = json_object_get(match, "when");
    if (json_is_object(when)) {
        json_object_set_new(match, "when", json_pack("[O]", when));
        when = json_object_get(match, "when");
    }
    size_t count = json_array_size(when);
    rule->whens = count > 0 && count <= LIST_MAX ? calloc(count, sizeof *rule->whens) : NULL;
    if (!rule->whens) {
        route_fault(faults, "match/when", "must be a condition or 1 to %d of them", LIST_MAX);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        char place[32];
        const char *fault = route_rule_take_when(&rule->whens[i], json_array_get(when, i));
        snprintf(place, sizeof place, "match/when/%zu", i);
        if (fault) {
            route_fault(faults, place, "%s", fault);
            return;
        }
    }
    rule->when_count = count;
}

/* ---- a route --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*take)(struct route_rule *rule, json_t *match, struct route_faults *faults);
} conditions[] = {
    {"topic", route_rule_take_topics},  {"labels", route_rule_take_labels},
    {"broker", route_rule_take_broker}, {"qos", route_rule_take_qos},
    {"retain", route_rule_take_retain}, {"size", route_rule_take_size},
    {"when", route_rule_take_whens},
};

static void route_rule_take_condition(struct route_rule *rule, json_t *match, const char *name,
                                      struct route_faults *faults) {
    for (size_t i = 0; i < sizeof conditions / sizeof conditions[0]; i++) {
        if (strcmp(conditions[i].name, name) == 0) {
            conditions[i].take(rule, match, faults);
            return;
        }
    }
    route_fault(faults, "match",
                "has no %.60s; there are topic, labels, broker, qos, retain, size, when", name);
}

static void route_rule_take_match(struct route_rule *rule, struct route_faults *faults) {
    json_t *match = json_object_get(rule->source, "match");
    const char *name;
    json_t *value;
    void *next;
    if (match && !json_is_object(match)) {
        route_fault(faults, "match", "must be an object of conditions");
        return;
    }
    json_object_foreach_safe(match, next, name, value) {
        route_rule_take_condition(rule, match, name, faults);
    }
}

static bool route_rule_is_name(const json_t *value) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    const char *name = json_string_value(value);
    size_t len = json_string_length(value);
    return name && len > 0 && len <= NAME_MAX_LEN && strspn(name, allowed) == len;
}

static void route_rule_take_name(struct route_rule *rule, struct route_faults *faults) {
    const json_t *name = json_object_get(rule->source, "name");
    if (name && !route_rule_is_name(name)) {
        route_fault(faults, "name", "must be 1 to %d of a-z, 0-9, - and _", NAME_MAX_LEN);
        return;
    }
    rule->name = json_string_value(name);
}

static void route_rule_check_sinks(struct route_rule *rule, const char *field,
                                   struct route_faults *faults) {
    const json_t *sinks = json_object_get(rule->source, field);
    if (sinks && !route_rule_is_list(sinks, route_rule_is_name)) {
        route_fault(faults, field, "must be an array of 1 to %d names of sinks", LIST_MAX);
    }
}

static void route_rule_take_stop(struct route_rule *rule, struct route_faults *faults) {
    const json_t *stop = json_object_get(rule->source, "stop");
    if (stop && !json_is_boolean(stop)) {
        route_fault(faults, "stop", "must be true or false");
    }
    rule->stop = json_is_true(stop);
}

static void route_rule_take_script(struct route_rule *rule, struct route_faults *faults) {
    char detail[SCRIPT_FAULT_LEN];
    const json_t *lua = json_object_get(rule->source, "lua");
    if (!lua) {
        return;
    }
    if (!route_rule_is_text(lua)) {
        route_fault(faults, "lua", "must be a text: return function(m) ... end");
        return;
    }
    enum err err = script_create(&rule->script, json_string_value(lua), detail);
    if (err == ERR_MEMORY) {
        route_fault_memory(faults);
    } else if (err != ERR_OK) {
        route_fault(faults, "lua", "%s", detail);
    }
}

static void route_rule_check_fields(const json_t *document, struct route_faults *faults) {
    static const char *const known[] = {"name", "match", "to", "also", "lua", "stop", "comment"};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)document, name, value) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            found = found || strcmp(known[i], name) == 0;
        }
        if (!found) {
            route_fault(faults, "",
                        "has no %.60s; there are name, match, to, also, lua, stop, comment", name);
        }
    }
    const json_t *to = json_object_get(document, "to");
    if (!to && !json_object_get(document, "also")) {
        route_fault(faults, "", "must name sinks in to, in also, or in both");
    }
}

bool route_rule_parse(struct route_rule *rule, const json_t *document,
                      struct route_faults *faults) {
    *rule = (struct route_rule){.qos = 7, .retains = 3, .size_max = SIZE_MAX_BYTES};
    if (!json_is_object(document)) {
        route_fault(faults, "", "must be an object");
        return false;
    }
    rule->source = json_whole_copy(document);
    if (!rule->source) {
        route_fault_memory(faults);
        return false;
    }
    bool any_before = faults->any;
    faults->any = false;
    route_rule_check_fields(rule->source, faults);
    route_rule_take_name(rule, faults);
    route_rule_take_match(rule, faults);
    route_rule_check_sinks(rule, "to", faults);
    route_rule_check_sinks(rule, "also", faults);
    route_rule_take_script(rule, faults);
    route_rule_take_stop(rule, faults);
    bool valid = !faults->any;
    faults->any = any_before || !valid;
    return valid;
}

void route_rule_fini(struct route_rule *rule) {
    free(rule->labels);
    free(rule->whens);
    script_destroy(rule->script);
    json_decref(rule->source);
}

/* ---- match ----------------------------------------------------------------------------------- */

static bool route_rule_labels_match(const struct route_rule *rule,
                                    const struct message_origin *origin) {
    for (size_t i = 0; i < rule->label_count; i++) {
        const char *value = message_origin_label(origin, rule->labels[i].name);
        bool found = false;
        for (size_t k = 0; value && !found && k < json_array_size(rule->labels[i].values); k++) {
            found =
                strcmp(json_string_value(json_array_get(rule->labels[i].values, k)), value) == 0;
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

static bool route_rule_whens_match(const struct route_rule *rule, struct message_view *view) {
    for (size_t i = 0; i < rule->when_count; i++) {
        if (!route_rule_when_matches(&rule->whens[i], view)) {
            return false;
        }
    }
    return true;
}

static bool route_rule_broker_matches(const struct route_rule *rule,
                                      const struct message_origin *origin) {
    return !rule->broker || (origin && text_wildcard_match(rule->broker, origin->broker));
}

bool route_rule_may_match(const struct route_rule *rule, const struct message_origin *origin,
                          const char *filter) {
    bool topic = !rule->topics;
    for (size_t i = 0; !topic && i < json_array_size(rule->topics); i++) {
        topic = topic_filters_overlap(json_string_value(json_array_get(rule->topics, i)), filter);
    }
    return topic && route_rule_broker_matches(rule, origin) &&
           route_rule_labels_match(rule, origin);
}

bool route_rule_matches(const struct route_rule *rule, struct message_view *view) {
    const struct message *message = view->message;
    int64_t size = (int64_t)message->payload_len;
    if (!(rule->qos & 1 << message->qos) || !(rule->retains & (message->retain ? 2 : 1)) ||
        size < rule->size_min || size > rule->size_max) {
        return false;
    }
    return route_rule_broker_matches(rule, message->origin) &&
           route_rule_labels_match(rule, message->origin) && route_rule_whens_match(rule, view);
}
