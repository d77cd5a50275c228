/* One route: its conditions other than topics, and its sinks. */
#ifndef MQFLEET_ROUTES_ROUTE_RULE_H
#define MQFLEET_ROUTES_ROUTE_RULE_H

#include "message/routes/route_table.h"
#include "message/shape/script.h"

struct route_label {
    const char *name;
    const json_t *values; /* array of strings */
};

enum route_operator { ROUTE_EQ, ROUTE_NE, ROUTE_GT, ROUTE_LT, ROUTE_EXISTS, ROUTE_IN };

struct route_when {
    const char *pointer;
    enum route_operator operator;
    const json_t *operand;
};

struct route_rule {
    json_t *source; /* the document, from which the following members borrow */
    const char *name;
    const json_t *topics; /* array of filters; NULL: every topic */
    const char *broker;   /* wildcards allowed; NULL: every broker */
    struct route_label *labels;
    size_t label_count;
    struct route_when *whens;
    size_t when_count;
    uint8_t qos;                /* bit n: QoS n */
    uint8_t retains;            /* bit 0: not retained, bit 1: retained */
    int64_t size_min, size_max; /* bytes of the payload */
    uint64_t to, also;          /* filled in by the table */
    bool stop;
    struct script *script; /* makes the messages that its sinks get; NULL: the message itself */
};

struct route_faults {
    route_fault_report *report;
    void *context;
    size_t index; /* of the route */
    bool any, out_of_memory;
};

/* place: "match/topic"; "" is the route itself. */
void route_fault(struct route_faults *faults, const char *place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Reported as a fault of the list. */
void route_fault_memory(struct route_faults *faults);

/* False: faults were reported. The caller always calls route_rule_fini. */
bool route_rule_parse(struct route_rule *rule, const json_t *document, struct route_faults *faults);
void route_rule_fini(struct route_rule *rule);
/* Whether a message that a client of that origin gets by that filter may match. */
bool route_rule_may_match(const struct route_rule *rule, const struct message_origin *origin,
                          const char *filter);
/* All conditions but the topic. */
bool route_rule_matches(const struct route_rule *rule, struct message_view *view);

#endif
