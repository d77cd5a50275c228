/* Requests that wait: the handler has returned without an answer, the connection sleeps, and no
 * thread is held. Whatever was waited for ends the wait from its own thread, and the request goes
 * on with `then`, which answers or waits again.
 *
 *   handler --pending_begin--> open --source: pending_claim, pending_resume--> then  (PENDING_DONE)
 *                                \----time over, caller gone, node stops-----> then  (the others)
 *
 * One of them ends it: pending_claim tells the source whether it is the one, and only then may it
 * write into `data`. Bounded in number: beyond, 503. Bodies are bounded by the server. */
#ifndef MQFLEET_SERVER_PENDING_H
#define MQFLEET_SERVER_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "http/server/request.h"
#include "http/server/response.h"

struct pendings; /* all of a server */
struct pending;

enum pending_end {
    PENDING_DONE,    /* the source has ended it */
    PENDING_TIMEOUT, /* the plan's time is over */
    PENDING_GONE,    /* the caller's connection has ended */
    PENDING_STOPPING /* the node stops */
};

/* Goes on with the request; data: the plan's, of which it must keep no reference. On a worker's
 * thread. */
typedef void pending_then(struct http_request *request, struct http_response *response,
                          enum pending_end end, void *data);

enum {
    PENDING_QUICK = 1,           /* `then` never blocks: it runs on the thread that ends the wait */
    PENDING_HEEDS_STOP = 2,      /* ends when the node begins to stop, not only when it must */
    PENDING_UNTIL_SOURCE = 4,    /* only the source ends it; that must be certain to do so */
    PENDING_OUTLIVES_CALLER = 8, /* goes on when the caller has gone: it counts what is under way */
    PENDING_FREES_BODY = 16      /* what is kept of the body is counted where it is kept */
};

struct pending_plan {
    int64_t timeout_ms;
    unsigned flags;
    pending_then *then;
    void *data;                    /* owned, in any case */
    void (*free_data)(void *data); /* NULL: none to free */
};

/* ---- handlers ---- */

/* The request waits once the handler, or `then`, returns; neither answers it. What is returned is
 * the source's: it must end with pending_resume or pending_drop. NULL: answered with 503. */
struct pending *pending_begin(struct http_request *request, struct http_response *response,
                              const struct pending_plan *plan);
/* There is no source after all, and the handler answers. Before it returns. */
void pending_cancel(struct http_request *request, struct pending *pending);

/* ---- sources: any thread ---- */

/* True: this ends the wait, and nobody else does; pending_resume must follow. False: it has ended;
 * pending_drop must follow. */
bool pending_claim(struct pending *pending);
void pending_resume(struct pending *pending);
void pending_drop(struct pending *pending);

/* ---- the server ---- */

/* Called with each request that may go on: once, by the thread that ended the wait. */
typedef void pending_continue(struct http_request *request, struct pending *pending);

/* max: requests at once. wake: when the next turn must come sooner. NULL: out of memory. */
struct pendings *pendings_create(size_t max, pending_continue *go_on, void (*wake)(void *context),
                                 void *context);
void pendings_destroy(struct pendings *pendings); /* after all have ended */
/* Ends what is due. One thread; returns after how many ms to call again. context: the pendings. */
int64_t pendings_turn(void *context, int64_t now_ms);
/* all: of those that do not heed the begin of a stop, too. */
void pendings_stop(struct pendings *pendings, bool all);
size_t pendings_count(struct pendings *pendings);

/* The handler has returned. go_on may be called before this returns. */
void pending_park(struct pending *pending);
bool pending_has_flag(const struct pending *pending, unsigned flag);
/* Runs `then`; the pending is gone afterwards. */
void pending_run(struct pending *pending, struct http_request *request,
                 struct http_response *response);

#endif
