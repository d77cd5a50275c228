/* Owns DNS: the threads that may block on it, the names that wait for them, and the cache. */
#include "mqtt/broker/resolver.h"

#include <assert.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>
#include "base/system/clock.h"

#define RESOLVER_QUEUE_MAX       10000 /* names waiting or being looked up */
#define RESOLVER_CACHE_MAX       10000 /* the oldest goes first */
#define RESOLVER_NEGATIVE_TTL_MS 1000

enum resolver_lookup_state {
    RESOLVER_LOOKUP_QUEUED,
    RESOLVER_LOOKUP_RUNNING,
    RESOLVER_LOOKUP_DONE
};

struct resolver_lookup { /* one name */
    char *name;
    enum resolver_lookup_state state;
    int64_t fresh_until_ms;
    struct resolver_answer answer;
    struct resolver_request *waiters;
    struct resolver_lookup *prev, *next; /* resolver->queue */
    UT_hash_handle hh;                   /* resolver->names, oldest first */
};

struct resolver {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t filled;
    int64_t ttl_ms;
    bool stopped;
    struct resolver_lookup *names;
    struct resolver_lookup *queue;
    size_t busy; /* names queued or running */
};

struct resolver *resolver_create(int64_t ttl_ms) {
    struct resolver *resolver = calloc(1, sizeof *resolver);
    if (resolver) {
        pthread_mutex_init(&resolver->lock, NULL);
        pthread_cond_init(&resolver->filled, NULL);
        resolver->ttl_ms = ttl_ms;
    }
    return resolver;
}

static void resolver_forget(struct resolver *resolver, struct resolver_lookup *lookup) {
    HASH_DEL(resolver->names, lookup);
    free(lookup->name);
    free(lookup);
}

void resolver_destroy(struct resolver *resolver) {
    if (!resolver) {
        return;
    }
    struct resolver_lookup *lookup, *next;
    HASH_ITER(hh, resolver->names, lookup, next) {
        resolver_forget(resolver, lookup);
    }
    pthread_cond_destroy(&resolver->filled);
    pthread_mutex_destroy(&resolver->lock);
    free(resolver);
}

/* ---- look-up ---- */

static bool resolver_is_usable(const struct addrinfo *info) {
    return (info->ai_family == AF_INET && info->ai_addrlen == sizeof(struct sockaddr_in)) ||
           (info->ai_family == AF_INET6 && info->ai_addrlen == sizeof(struct sockaddr_in6));
}

static bool resolver_has_address(const struct resolver_answer *answer,
                                 const struct addrinfo *info) {
    for (size_t i = 0; i < answer->count; i++) {
        if (memcmp(&answer->addresses[i], info->ai_addr, info->ai_addrlen) == 0) {
            return true;
        }
    }
    return false;
}

/* Returns the next address of that family, or end. */
static const struct addrinfo *resolver_next_of_family(const struct addrinfo **at, int family) {
    while (*at && ((*at)->ai_family != family || !resolver_is_usable(*at))) {
        *at = (*at)->ai_next;
    }
    const struct addrinfo *found = *at;
    *at = found ? found->ai_next : NULL;
    return found;
}

/* Alternates the families (RFC 8305 section 4), starting with that of the first address; within
 * each, the order of getaddrinfo (RFC 6724). */
static void resolver_interleave_families(struct resolver_answer *answer,
                                         const struct addrinfo *list) {
    const struct addrinfo *at[2] = {list, list};
    int first = list->ai_family == AF_INET6 ? AF_INET6 : AF_INET;
    const int families[2] = {first, first == AF_INET6 ? AF_INET : AF_INET6};
    for (size_t turn = 0; at[0] || at[1]; turn++) {
        const struct addrinfo *one = resolver_next_of_family(&at[turn % 2], families[turn % 2]);
        if (one && !resolver_has_address(answer, one) && answer->count < RESOLVER_ADDRESSES_MAX) {
            memcpy(&answer->addresses[answer->count++], one->ai_addr, one->ai_addrlen);
        }
    }
}

static void resolver_resolve_name(const char *name, int flags, struct resolver_answer *answer) {
    struct addrinfo hints = {.ai_flags = flags, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    memset(answer, 0, sizeof *answer);
    int failed = getaddrinfo(name, NULL, &hints, &list);
    if (failed == 0) {
        resolver_interleave_families(answer, list);
        freeaddrinfo(list);
    }
    if (answer->count > 0) {
        return;
    }
    bool unknown = failed == EAI_NONAME, empty = failed == EAI_NODATA || failed == 0;
    answer->result = unknown || failed == EAI_NODATA ? ERR_NOT_FOUND : ERR_UNAVAILABLE;
    answer->error = unknown ? CLIENT_ERROR_DNS_NAME_UNKNOWN
                    : empty ? CLIENT_ERROR_DNS_NO_ADDRESS
                            : CLIENT_ERROR_DNS_FAILED;
    answer->message = failed ? gai_strerror(failed) : client_error_text(answer->error);
}

static bool resolver_take_literal(const char *name, struct resolver_answer *answer) {
    resolver_resolve_name(name, AI_NUMERICHOST, answer);
    return answer->result == ERR_OK;
}

void resolver_look_up(const char *name, struct resolver_answer *answer) {
    resolver_resolve_name(name, 0, answer);
}

/* ---- requests ---- */

/* Makes room by removing the oldest finished entry. */
static bool resolver_trim_cache(struct resolver *resolver) {
    struct resolver_lookup *lookup, *next;
    if (HASH_COUNT(resolver->names) < RESOLVER_CACHE_MAX + RESOLVER_QUEUE_MAX) {
        return true;
    }
    HASH_ITER(hh, resolver->names, lookup, next) {
        if (lookup->state == RESOLVER_LOOKUP_DONE) {
            resolver_forget(resolver, lookup);
            return true;
        }
    }
    return false;
}

static enum err resolver_enqueue(struct resolver *resolver, struct resolver_lookup *lookup) {
    if (resolver->busy >= RESOLVER_QUEUE_MAX || resolver->stopped) {
        return ERR_FULL;
    }
    resolver->busy++;
    lookup->state = RESOLVER_LOOKUP_QUEUED;
    DL_APPEND(resolver->queue, lookup);
    pthread_cond_signal(&resolver->filled);
    return ERR_OK;
}

static enum err resolver_find_or_add(struct resolver *resolver, const char *name,
                                     struct resolver_lookup **out) {
    HASH_FIND_STR(resolver->names, name, *out);
    if (*out) {
        return ERR_OK;
    }
    if (!resolver_trim_cache(resolver)) {
        return ERR_FULL;
    }
    struct resolver_lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup || !(lookup->name = strdup(name))) {
        free(lookup);
        return ERR_MEMORY;
    }
    lookup->state = RESOLVER_LOOKUP_DONE; /* and expired */
    HASH_ADD_KEYPTR(hh, resolver->names, lookup->name, strlen(lookup->name), lookup);
    *out = lookup;
    return ERR_OK;
}

static enum err resolver_ask_locked(struct resolver *resolver, const char *name,
                                    struct resolver_request *request, int *at_once) {
    struct resolver_lookup *lookup;
    enum err err = resolver_find_or_add(resolver, name, &lookup);
    if (err != ERR_OK) {
        return err;
    }
    if (lookup->state == RESOLVER_LOOKUP_DONE && clock_ms() < lookup->fresh_until_ms) {
        request->answer = lookup->answer;
        *at_once = 1;
        return ERR_OK;
    }
    if (lookup->state == RESOLVER_LOOKUP_DONE) {
        err = resolver_enqueue(resolver, lookup);
    }
    if (err == ERR_OK) {
        request->lookup = lookup;
        DL_APPEND(lookup->waiters, request);
    }
    return err;
}

enum err resolver_ask(struct resolver *resolver, const char *name, struct resolver_request *request,
                      int *at_once) {
    assert(!request->lookup);
    *at_once = resolver_take_literal(name, &request->answer);
    if (*at_once) {
        return ERR_OK;
    }
    pthread_mutex_lock(&resolver->lock);
    enum err err = resolver_ask_locked(resolver, name, request, at_once);
    pthread_mutex_unlock(&resolver->lock);
    return err;
}

void resolver_cancel(struct resolver *resolver, struct resolver_request *request) {
    pthread_mutex_lock(&resolver->lock);
    if (request->lookup) {
        DL_DELETE(request->lookup->waiters, request);
        request->lookup = NULL;
    }
    pthread_mutex_unlock(&resolver->lock);
}

/* ---- threads ---- */

static void resolver_answer_waiters(struct resolver_lookup *lookup) {
    struct resolver_request *request, *next;
    DL_FOREACH_SAFE(lookup->waiters, request, next) {
        DL_DELETE(lookup->waiters, request);
        request->lookup = NULL;
        request->answer = lookup->answer;
        request->done(request);
    }
}

static void resolver_finish(struct resolver *resolver, struct resolver_lookup *lookup,
                            const struct resolver_answer *answer) {
    int64_t ttl_ms = resolver->ttl_ms;
    if (answer->result != ERR_OK && ttl_ms > RESOLVER_NEGATIVE_TTL_MS) {
        ttl_ms = RESOLVER_NEGATIVE_TTL_MS;
    }
    lookup->answer = *answer;
    lookup->state = RESOLVER_LOOKUP_DONE;
    lookup->fresh_until_ms = clock_ms() + ttl_ms;
    resolver->busy--;
    resolver_answer_waiters(lookup);
    if (ttl_ms == 0) {
        resolver_forget(resolver, lookup);
    }
}

void *resolver_run(void *argument) {
    struct resolver *resolver = argument;
    struct resolver_answer answer;
    pthread_mutex_lock(&resolver->lock);
    while (!resolver->stopped) {
        struct resolver_lookup *lookup = resolver->queue;
        if (!lookup) {
            pthread_cond_wait(&resolver->filled, &resolver->lock);
            continue;
        }
        DL_DELETE(resolver->queue, lookup);
        lookup->state = RESOLVER_LOOKUP_RUNNING;
        pthread_mutex_unlock(&resolver->lock);
        resolver_resolve_name(lookup->name, 0, &answer);
        pthread_mutex_lock(&resolver->lock);
        resolver_finish(resolver, lookup, &answer);
    }
    pthread_mutex_unlock(&resolver->lock);
    return NULL;
}

void resolver_stop(struct resolver *resolver) {
    pthread_mutex_lock(&resolver->lock);
    resolver->stopped = true;
    pthread_cond_broadcast(&resolver->filled);
    pthread_mutex_unlock(&resolver->lock);
}
