/* One question to all nodes: each answers from memory for the clients that it runs, and the node
 * that was asked adds the waiting clients from Redis. Handler threads; the request waits for the
 * other nodes. */
#ifndef MQFLEET_SELECTION_SELECT_ROUND_H
#define MQFLEET_SELECTION_SELECT_ROUND_H

#include "http/api/selection/selection.h"
#include "http/server/request.h"
#include "http/server/response.h"

struct select_round;

/* Continues the request with the finished selection. The round is destroyed afterwards; `context`
 * may be taken out of it. */
typedef void select_round_then(struct http_request *request, struct http_response *response,
                               struct select_round *round);

/* Another question than the selection. */
struct select_round_kind {
    const char *path; /* POST, with the query as body */
    /* ERR_ARGUMENT: not such a document. */
    enum err (*merge)(struct select_round *round, const json_t *answer);
    enum err (*add_own)(struct select_round *round, const struct http_request *request);
};

struct select_round {
    const struct select_round_kind *kind; /* NULL: the selection */
    struct selection_query query;
    struct selection selection; /* of all nodes that answered, and of the waiting clients */
    json_t *incomplete;         /* [{"node","clients","reason"}]: nodes that did not answer */
    int64_t starting;           /* clients that have an owner which does not run them yet */
    bool has_old_nodes;         /* a node answers, but does not know the question */
    select_round_then *then;
    void *context; /* of `then`, owned; NULL: none */
    void (*free_context)(void *context);
};

struct select_round_plan {
    const struct select_round_kind *kind; /* NULL: the selection */
    select_round_then *then;
    void *context;
    void (*free_context)(void *context);
};

/* For answers: a caller with a scope is not told how many other clients there are. */
json_t *select_round_starting_json(const struct select_round *round);
/* Asks all nodes, and continues with `then`. After an error the request is answered instead. Takes
 * over the contents of the query and plan->context, also after an error. */
void select_round_begin(struct http_request *request, struct http_response *response,
                        struct selection_query *query, const struct select_round_plan *plan);

#endif
