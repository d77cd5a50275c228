/* Requests that wait. The handler has returned without an answer, the connection is suspended, and
 * no thread is held. The source, which may be any thread, ends the wait. The request then continues
 * with `then`, which answers or waits again.
 *
 *   handler --pending_begin--> open --source: pending_claim, pending_resume--> then  (PENDING_DONE)
 *                                \---timeout, caller gone, node stops--------> then  (the others)
 *
 * Exactly one of these ends a wait. pending_claim tells the source whether it is the one; only then
 * may it write to `data`. The number of waiting requests is limited; further ones are answered with
 * 503. The server limits the size of bodies. */
#ifndef MQFLEET_SERVER_PENDING_H
#define MQFLEET_SERVER_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "http/server/request.h"
#include "http/server/response.h"

struct pendings; /* all waiting requests of a server */
struct pending;

enum pending_end {
    PENDING_DONE,    /* the source has ended it */
    PENDING_TIMEOUT, /* the time of the plan has passed */
    PENDING_GONE,    /* the caller's connection has ended */
    PENDING_STOPPING /* the node stops */
};

/* Continues the request. data: from the plan; must not be kept. On a handler thread. */
typedef void pending_then(struct http_request *request, struct http_response *response,
                          enum pending_end end, void *data);

enum {
    PENDING_QUICK = 1,           /* `then` never blocks: it runs on the thread that ends the wait */
    PENDING_ENDS_AT_STOP = 2,    /* ends as soon as the node begins to stop */
    PENDING_UNTIL_SOURCE = 4,    /* only the source ends it, and must always do so */
    PENDING_OUTLIVES_CALLER = 8, /* continues without the caller: it counts running work */
    PENDING_FREES_BODY = 16      /* the body does not count towards the server's limit any more */
};

struct pending_plan {
    int64_t timeout_ms;
    unsigned flags;
    pending_then *then;
    void *data;                    /* owned, even if pending_begin fails */
    void (*free_data)(void *data); /* NULL: nothing to free */
};

/* ---- handlers ---- */

/* The request waits after the handler, or `then`, has returned without an answer. The returned
 * reference belongs to the source, which must end with pending_resume or pending_drop. NULL:
 * answered with 503. */
struct pending *pending_begin(struct http_request *request, struct http_response *response,
                              const struct pending_plan *plan);
/* The source could not be started; the handler answers. Call it before the handler returns. */
void pending_cancel(struct http_request *request, struct pending *pending);

/* ---- sources: any thread ---- */

/* True: the caller ends the wait; pending_resume must follow. False: it has already ended;
 * pending_drop must follow. */
bool pending_claim(struct pending *pending);
void pending_resume(struct pending *pending);
void pending_drop(struct pending *pending);

/* ---- the server ---- */

/* Called once for each request whose wait has ended, by the thread that ended it. */
typedef void pending_continue(struct http_request *request, struct pending *pending);

/* max: waiting requests. wake: called if the next turn must come earlier. NULL: out of memory. */
struct pendings *pendings_create(size_t max, pending_continue *continue_request,
                                 void (*wake)(void *context), void *context);
void pendings_destroy(struct pendings *pendings); /* after all waits have ended */
/* Ends the waits that are due. Returns after how many ms it must be called again. context: the
 * pendings. One thread. */
int64_t pendings_turn(void *context, int64_t now_ms);
/* Ends the waits with PENDING_ENDS_AT_STOP. all: and the others, without PENDING_UNTIL_SOURCE. */
void pendings_stop(struct pendings *pendings, bool all);
size_t pendings_count(struct pendings *pendings);

/* The handler has returned. The request may continue before this returns. */
void pending_park(struct pending *pending);
bool pending_has_flag(const struct pending *pending, unsigned flag);
/* Runs `then`, and frees the pending. */
void pending_run(struct pending *pending, struct http_request *request,
                 struct http_response *response);

#endif
