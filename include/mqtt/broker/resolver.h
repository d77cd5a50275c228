/* Names to addresses, without ever blocking the asker: a pool of threads, a cache, many waiters for
 * one look-up. Any thread.
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
        addresses[RESOLVER_ADDRESSES_MAX]; /* in the order in which to try them; port 0 */
};

struct resolver_request { /* the asker's; must stay until done or canceled */
    struct resolver_answer answer;
    /* On a resolver thread, under the resolver's lock: must only hand over. */
    void (*done)(struct resolver_request *request);
    void *context;
    struct resolver_lookup *lookup; /* NULL: not waiting */
    struct resolver_request *prev, *next;
};

/* ttl_ms: how long answers are kept, 0: not at all. NULL: out of memory. */
struct resolver *resolver_create(int64_t ttl_ms);
void resolver_destroy(struct resolver *resolver); /* after all runs returned */

/* Address literals and fresh cache entries are answered at once: *at_once, the answer is in the
 * request and done is not called. Else done is called later. ERR_FULL, ERR_MEMORY: not asked. */
enum err resolver_ask(struct resolver *resolver, const char *name, struct resolver_request *request,
                      int *at_once) MUST_CHECK;
/* After this done is not called any more. Legal when not waiting. */
void resolver_cancel(struct resolver *resolver, struct resolver_request *request);

void *resolver_run(void *resolver); /* a thread's body */
void resolver_stop(struct resolver *resolver);

#endif
