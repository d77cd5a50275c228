/* Resolves names to addresses without blocking the caller: a pool of threads, a cache, one look-up
 * for all callers that wait for the same name. Any thread.
 *
 *   resolver_ask --> [ names to look up, bounded ] --> resolver_run threads --> done(request) */
#ifndef MQFLEET_BROKER_RESOLVER_H
#define MQFLEET_BROKER_RESOLVER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/err.h"
#include "mqtt/client_error.h"

#define RESOLVER_ADDRESSES_MAX 8

struct resolver;

struct resolver_answer {
    enum err result;         /* ERR_OK; ERR_NOT_FOUND: no such name; ERR_UNAVAILABLE: no answer */
    enum client_error error; /* when not ERR_OK */
    const char *message;     /* static text when not ERR_OK */
    size_t count;
    struct sockaddr_storage
        addresses[RESOLVER_ADDRESSES_MAX]; /* in the order of the attempts; port 0 */
};

struct resolver_request { /* owned by the caller; must stay valid until done or canceled */
    struct resolver_answer answer;
    /* Called on a resolver thread, under the resolver's lock: must only pass the request on. */
    void (*done)(struct resolver_request *request);
    void *context;
    struct resolver_lookup *lookup; /* NULL: not waiting */
    struct resolver_request *prev, *next;
};

/* ttl_ms: how long answers are kept; 0: not at all. NULL: out of memory. */
struct resolver *resolver_create(int64_t ttl_ms);
void resolver_destroy(struct resolver *resolver); /* after all runs have returned */

/* Address literals and fresh cache entries are answered immediately: *at_once is set, the answer is
 * in the request, and done is not called. Otherwise done is called later. ERR_FULL, ERR_MEMORY: the
 * request is not queued. */
enum err resolver_ask(struct resolver *resolver, const char *name, struct resolver_request *request,
                      int *at_once) MUST_CHECK;
/* Afterwards, done is not called any more. Has no effect if the request does not wait. */
void resolver_cancel(struct resolver *resolver, struct resolver_request *request);

/* The same on the caller's thread, which waits as long as the system's resolver does. */
void resolver_look_up(const char *name, struct resolver_answer *answer);

void *resolver_run(void *resolver); /* a thread's body */
void resolver_stop(struct resolver *resolver);

#endif
