/* Owns the quotas of a node. A bucket is a point in time, as in rate_limit.c: full at F, it lacks
 * what its rate gives in F - now. Several threads take from it.
 *
 * An entry is never freed before the registry: with Paho, a thread may still use the quota that its
 * client had a moment ago. One that nobody refers to is used for the next new quota. */
#include "message/rate_quota.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/telemetry/metrics.h"
#include "base/text.h"

#define NS_PER_S            INT64_C(1000000000)
#define NS_PER_MS           INT64_C(1000000)
#define SHARE_MIN           0.001           /* per second */
#define DEBT_NS_MAX         (NS_PER_S / 10) /* of those who raced; beyond it, nothing is charged */
#define LOOK_AGAIN_MS_MIN   20
#define LOOK_AGAIN_MS_MAX   500
#define CLIENTS_PER_LOOK_MS 10

struct rate_bucket {
    _Atomic uint32_t per_s;  /* of the fleet; 0: no limit */
    _Atomic int64_t cost_ns; /* of one, at this node's share */
    _Atomic int64_t full_at_ns;
    _Atomic int64_t allowed, delayed, refused;
    atomic_bool limited; /* since the last sample */
    int64_t sampled;     /* `allowed` at the last sample; guarded by the lock of the registry */
};

struct rate_quota {
    char *value, *scope; /* constant while there is a reference, or it is listed */
    bool listed;         /* guarded by the lock of the registry */
    bool kept;           /* while quotas are replaced */
    atomic_size_t references;
    struct rate_bucket buckets[RATE_QUOTA_COUNT];
    struct rate_quota *next;
};

struct rate_quotas {
    pthread_mutex_t lock; /* guards the rest */
    char *label;          /* NULL: there are no quotas */
    struct rate_quota *list;
    int64_t sampled_at_ns; /* 0: never */
    atomic_bool exist;
};

const char *rate_quota_name(enum rate_quota_kind kind) {
    static const char *const names[] = {
#define RATE_QUOTA_NAME(symbol, name) name,
        RATE_QUOTA_TABLE(RATE_QUOTA_NAME)
#undef RATE_QUOTA_NAME
    };
    return names[kind];
}

struct rate_quotas *rate_quotas_create(void) {
    struct rate_quotas *quotas = calloc(1, sizeof *quotas);
    if (quotas) {
        pthread_mutex_init(&quotas->lock, NULL);
    }
    return quotas;
}

static void rate_quota_free(struct rate_quota *quota) {
    if (quota) {
        free(quota->value);
        free(quota->scope);
        free(quota);
    }
}

void rate_quotas_destroy(struct rate_quotas *quotas) {
    struct rate_quota *quota, *next;
    if (!quotas) {
        return;
    }
    LL_FOREACH_SAFE(quotas->list, quota, next) {
        rate_quota_free(quota);
    }
    free(quotas->label);
    pthread_mutex_destroy(&quotas->lock);
    free(quotas);
}

/* ---- a bucket -------------------------------------------------------------------------------- */

static int64_t rate_bucket_get(const _Atomic int64_t *value) {
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void rate_bucket_add(_Atomic int64_t *count) {
    atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
}

static bool rate_bucket_is_limited(const struct rate_bucket *bucket) {
    return atomic_load_explicit(&bucket->per_s, memory_order_relaxed) > 0;
}

/* It holds what the share gives in a second, at least one. */
static int64_t rate_bucket_capacity_ns(int64_t cost_ns) {
    return cost_ns > NS_PER_S ? cost_ns : NS_PER_S;
}

/* Returns the cost of one before. */
static int64_t rate_bucket_set_cost(struct rate_bucket *bucket, double share) {
    share = share > SHARE_MIN ? share : SHARE_MIN;
    return atomic_exchange_explicit(&bucket->cost_ns, (int64_t)((double)NS_PER_S / share),
                                    memory_order_relaxed);
}

/* What a small share lacked for minutes, a larger one gives soon: at most all that it holds is
 * missing. A share that shrinks lacks as many as before. */
static void rate_bucket_set_share(struct rate_bucket *bucket, double share, int64_t now_ns) {
    int64_t cost_before_ns = rate_bucket_set_cost(bucket, share);
    int64_t cost_ns = rate_bucket_get(&bucket->cost_ns);
    int64_t most_ns = rate_bucket_capacity_ns(cost_ns);
    int64_t before_ns = rate_bucket_get(&bucket->full_at_ns);
    double shrinks = cost_ns > cost_before_ns && cost_before_ns > 0
                         ? (double)cost_ns / (double)cost_before_ns
                         : 1;
    int64_t after_ns;
    do {
        double lacks_ns = (double)(before_ns - now_ns) * shrinks;
        if (lacks_ns <= 0) {
            return;
        }
        after_ns = now_ns + (lacks_ns < (double)most_ns ? (int64_t)lacks_ns : most_ns);
    } while (!atomic_compare_exchange_weak(&bucket->full_at_ns, &before_ns, after_ns));
}

static double rate_bucket_share(const struct rate_bucket *bucket) {
    int64_t cost_ns = rate_bucket_get(&bucket->cost_ns);
    return cost_ns > 0 ? (double)NS_PER_S / (double)cost_ns : 0;
}

/* Negative: there is room for more than one. */
static int64_t rate_bucket_wait_ns(const struct rate_bucket *bucket, int64_t full_at_ns,
                                   int64_t now_ns) {
    int64_t cost_ns = rate_bucket_get(&bucket->cost_ns);
    int64_t from_ns = full_at_ns > now_ns ? full_at_ns : now_ns;
    return from_ns - now_ns + cost_ns - rate_bucket_capacity_ns(cost_ns);
}

/* Takes one while the wait is at most wait_ns_max. */
static bool rate_bucket_take(struct rate_bucket *bucket, int64_t now_ns, int64_t wait_ns_max) {
    int64_t cost_ns = rate_bucket_get(&bucket->cost_ns);
    int64_t before_ns = rate_bucket_get(&bucket->full_at_ns);
    int64_t after_ns;
    do {
        if (rate_bucket_wait_ns(bucket, before_ns, now_ns) > wait_ns_max) {
            return false;
        }
        after_ns = (before_ns > now_ns ? before_ns : now_ns) + cost_ns;
    } while (!atomic_compare_exchange_weak_explicit(&bucket->full_at_ns, &before_ns, after_ns,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

/* ---- use ------------------------------------------------------------------------------------- */

int64_t rate_quota_wait_ns(const struct rate_quota *quota, enum rate_quota_kind kind,
                           int64_t now_ns) {
    const struct rate_bucket *bucket = &quota->buckets[kind];
    if (!rate_bucket_is_limited(bucket)) {
        return 0;
    }
    int64_t wait_ns = rate_bucket_wait_ns(bucket, rate_bucket_get(&bucket->full_at_ns), now_ns);
    return wait_ns > 0 ? wait_ns : 0;
}

int64_t rate_quota_look_again_ns(const struct rate_quota *quota, enum rate_quota_kind kind,
                                 int64_t now_ns) {
    int64_t wait_ns = rate_quota_wait_ns(quota, kind, now_ns);
    int64_t clients = (int64_t)atomic_load_explicit(&quota->references, memory_order_relaxed);
    int64_t least_ms = clients / CLIENTS_PER_LOOK_MS;
    least_ms = least_ms < LOOK_AGAIN_MS_MIN ? LOOK_AGAIN_MS_MIN : least_ms;
    least_ms = least_ms > LOOK_AGAIN_MS_MAX ? LOOK_AGAIN_MS_MAX : least_ms;
    if (wait_ns == 0) {
        return 0;
    }
    wait_ns = wait_ns > least_ms * NS_PER_MS ? wait_ns : least_ms * NS_PER_MS;
    return wait_ns < LOOK_AGAIN_MS_MAX * NS_PER_MS ? wait_ns : LOOK_AGAIN_MS_MAX * NS_PER_MS;
}

size_t rate_quota_room(const struct rate_quota *quota, enum rate_quota_kind kind, int64_t now_ns,
                       size_t most) {
    const struct rate_bucket *bucket = &quota->buckets[kind];
    if (!rate_bucket_is_limited(bucket)) {
        return most;
    }
    int64_t cost_ns = rate_bucket_get(&bucket->cost_ns);
    int64_t wait_ns = rate_bucket_wait_ns(bucket, rate_bucket_get(&bucket->full_at_ns), now_ns);
    size_t room = wait_ns > 0 ? 0 : 1 + (size_t)(-wait_ns / (cost_ns > 0 ? cost_ns : 1));
    return room < most ? room : most;
}

bool rate_quota_take(struct rate_quota *quota, enum rate_quota_kind kind, int64_t now_ns) {
    struct rate_bucket *bucket = &quota->buckets[kind];
    if (!rate_bucket_is_limited(bucket)) {
        return true;
    }
    bool taken = rate_bucket_take(bucket, now_ns, 0);
    if (taken) {
        rate_bucket_add(&bucket->allowed);
    }
    return taken;
}

void rate_quota_charge(struct rate_quota *quota, enum rate_quota_kind kind, int64_t now_ns) {
    struct rate_bucket *bucket = &quota->buckets[kind];
    if (rate_bucket_is_limited(bucket)) {
        (void)rate_bucket_take(bucket, now_ns, DEBT_NS_MAX);
        rate_bucket_add(&bucket->allowed);
    }
}

void rate_quota_note_waiting(struct rate_quota *quota, enum rate_quota_kind kind) {
    struct rate_bucket *bucket = &quota->buckets[kind];
    if (!atomic_load_explicit(&bucket->limited, memory_order_relaxed)) {
        atomic_store_explicit(&bucket->limited, true, memory_order_relaxed);
    }
}

void rate_quota_note_delayed(struct rate_quota *quota, enum rate_quota_kind kind) {
    metric_add(METRIC_QUOTA_CONNECTS + kind, 1);
    rate_bucket_add(&quota->buckets[kind].delayed);
    rate_quota_note_waiting(quota, kind);
}

void rate_quota_note_refused(struct rate_quota *quota, enum rate_quota_kind kind) {
    metric_add(METRIC_QUOTA_CONNECTS + kind, 1);
    rate_bucket_add(&quota->buckets[kind].refused);
    rate_quota_note_waiting(quota, kind);
}

const char *rate_quota_scope(const struct rate_quota *quota) {
    return quota->scope;
}

uint32_t rate_quota_per_s(const struct rate_quota *quota, enum rate_quota_kind kind) {
    return atomic_load_explicit(&quota->buckets[kind].per_s, memory_order_relaxed);
}

/* ---- the registry ---------------------------------------------------------------------------- */

/* Called with the lock. NULL: there is none. */
static struct rate_quota *rate_quotas_find(const struct rate_quotas *quotas, const char *value) {
    struct rate_quota *quota;
    LL_FOREACH(quotas->list, quota) {
        if (quota->listed && strcmp(quota->value, value) == 0) {
            return quota;
        }
    }
    return NULL;
}

/* Called with the lock. An entry that nobody refers to, or a new one. NULL: out of memory. */
static struct rate_quota *rate_quotas_free_entry(struct rate_quotas *quotas) {
    struct rate_quota *quota;
    LL_FOREACH(quotas->list, quota) {
        if (!quota->listed && !quota->kept && atomic_load(&quota->references) == 0) {
            return quota;
        }
    }
    quota = calloc(1, sizeof *quota);
    if (quota) {
        LL_PREPEND(quotas->list, quota);
    }
    return quota;
}

/* Called with the lock. Marks the entry of the row as kept; a new one is listed later. */
static bool rate_quotas_prepare(struct rate_quotas *quotas, const struct rate_quota_row *row) {
    struct rate_quota *quota = rate_quotas_find(quotas, row->value);
    if (quota && strcmp(quota->scope, row->scope) == 0) { /* otherwise, of another label */
        quota->kept = true;
        return true;
    }
    char *value = text_dup(row->value), *scope = text_dup(row->scope);
    quota = value && scope ? rate_quotas_free_entry(quotas) : NULL;
    if (!quota) {
        free(value);
        free(scope);
        return false;
    }
    free(quota->value);
    free(quota->scope);
    quota->value = value;
    quota->scope = scope;
    quota->kept = true;
    memset(quota->buckets, 0, sizeof quota->buckets);
    return true;
}

/* Called with the lock. A rate that changes keeps the part that this node has of it. What a bucket
 * lacks is adapted when the share is set next. */
static void rate_quotas_set_rates(struct rate_quota *quota, const struct rate_quota_row *row,
                                  size_t nodes) {
    for (size_t kind = 0; kind < RATE_QUOTA_COUNT; kind++) {
        struct rate_bucket *bucket = &quota->buckets[kind];
        double before = atomic_load_explicit(&bucket->per_s, memory_order_relaxed);
        double part = before > 0 ? rate_bucket_share(bucket) / before : 1 / (double)nodes;
        if (row->per_s[kind] > 0) {
            (void)rate_bucket_set_cost(bucket, part * row->per_s[kind]);
        }
        atomic_store_explicit(&bucket->per_s, row->per_s[kind], memory_order_relaxed);
    }
}

/* Called with the lock, once all rows have an entry. */
static void rate_quotas_list(struct rate_quotas *quotas, const struct rate_quota_row *rows,
                             size_t n, size_t nodes) {
    struct rate_quota *quota;
    LL_FOREACH(quotas->list, quota) {
        quota->listed = quota->kept;
        quota->kept = false;
        for (size_t kind = 0; !quota->listed && kind < RATE_QUOTA_COUNT; kind++) {
            quota->buckets[kind].per_s = 0; /* whoever waits goes on */
        }
    }
    for (size_t i = 0; i < n; i++) {
        rate_quotas_set_rates(rate_quotas_find(quotas, rows[i].value), &rows[i], nodes);
    }
    quotas->exist = n > 0;
}

static void rate_quotas_forget_kept(struct rate_quotas *quotas) {
    struct rate_quota *quota;
    LL_FOREACH(quotas->list, quota) {
        quota->kept = false;
    }
}

bool rate_quotas_apply(struct rate_quotas *quotas, const char *label,
                       const struct rate_quota_row *rows, size_t n, size_t nodes) {
    char *copy = text_dup(label);
    bool prepared = copy != NULL;
    pthread_mutex_lock(&quotas->lock);
    for (size_t i = 0; prepared && i < n; i++) {
        prepared = rate_quotas_prepare(quotas, &rows[i]);
    }
    if (prepared) {
        rate_quotas_list(quotas, rows, n, nodes > 0 ? nodes : 1);
        free(quotas->label);
        quotas->label = copy;
    } else {
        rate_quotas_forget_kept(quotas);
        free(copy);
    }
    pthread_mutex_unlock(&quotas->lock);
    return prepared;
}

bool rate_quotas_exist(const struct rate_quotas *quotas) {
    return atomic_load_explicit(&quotas->exist, memory_order_relaxed);
}

struct rate_quota *rate_quotas_take(struct rate_quotas *quotas, const struct message_label *labels,
                                    size_t count) {
    struct rate_quota *quota = NULL;
    pthread_mutex_lock(&quotas->lock);
    for (size_t i = 0; quotas->label && i < count; i++) {
        if (strcmp(labels[i].name, quotas->label) == 0) {
            quota = rate_quotas_find(quotas, labels[i].value);
        }
    }
    rate_quota_retain(quota);
    pthread_mutex_unlock(&quotas->lock);
    return quota;
}

struct rate_quota *rate_quota_retain(struct rate_quota *quota) {
    if (quota) {
        atomic_fetch_add(&quota->references, 1);
    }
    return quota;
}

void rate_quota_release(struct rate_quota *quota) {
    if (quota) {
        atomic_fetch_sub(&quota->references, 1);
    }
}

/* ---- shares ---------------------------------------------------------------------------------- */

/* Called with the lock. */
static void rate_quota_sample_use(struct rate_bucket *bucket, double seconds,
                                  struct rate_quota_use *out) {
    int64_t allowed = rate_bucket_get(&bucket->allowed);
    *out = (struct rate_quota_use){
        .per_s = atomic_load_explicit(&bucket->per_s, memory_order_relaxed),
        .use = seconds > 0 ? (double)(allowed - bucket->sampled) / seconds : 0,
        .limited = atomic_exchange_explicit(&bucket->limited, false, memory_order_relaxed),
        .share = rate_bucket_share(bucket),
        .allowed = allowed,
        .delayed = rate_bucket_get(&bucket->delayed),
        .refused = rate_bucket_get(&bucket->refused)};
    bucket->sampled = allowed;
}

/* Called with the lock. */
static void rate_quota_reset_shares(struct rate_quota *quota, size_t nodes, int64_t now_ns) {
    for (size_t kind = 0; kind < RATE_QUOTA_COUNT; kind++) {
        double per_s = atomic_load_explicit(&quota->buckets[kind].per_s, memory_order_relaxed);
        if (per_s > 0) {
            rate_bucket_set_share(&quota->buckets[kind], per_s / (double)(nodes > 0 ? nodes : 1),
                                  now_ns);
        }
    }
}

/* Called with the lock. */
static size_t rate_quotas_count_listed(const struct rate_quotas *quotas) {
    const struct rate_quota *quota;
    size_t n = 0;
    LL_FOREACH(quotas->list, quota) {
        n += quota->listed;
    }
    return n;
}

/* Called with the lock. False: out of memory. */
static bool rate_quota_sample(struct rate_quota *quota, double seconds,
                              struct rate_quota_sample *out) {
    *out = (struct rate_quota_sample){.scope = text_dup(quota->scope),
                                      .clients = atomic_load(&quota->references)};
    for (size_t kind = 0; kind < RATE_QUOTA_COUNT; kind++) {
        rate_quota_sample_use(&quota->buckets[kind], seconds, &out->uses[kind]);
    }
    return out->scope != NULL;
}

enum err rate_quotas_sample(struct rate_quotas *quotas, int64_t now_ns, size_t nodes,
                            struct rate_quota_sample **rows, size_t *n) {
    struct rate_quota *quota;
    pthread_mutex_lock(&quotas->lock);
    *rows = calloc(rate_quotas_count_listed(quotas) + 1, sizeof **rows);
    enum err err = *rows ? ERR_OK : ERR_MEMORY;
    double seconds =
        quotas->sampled_at_ns > 0 ? (double)(now_ns - quotas->sampled_at_ns) / (double)NS_PER_S : 0;
    *n = 0;
    LL_FOREACH(quotas->list, quota) {
        if (err == ERR_OK && quota->listed && atomic_load(&quota->references) > 0) {
            err = rate_quota_sample(quota, seconds, &(*rows)[(*n)++]) ? ERR_OK : ERR_MEMORY;
        } else if (err == ERR_OK && quota->listed) {
            rate_quota_reset_shares(quota, nodes, now_ns);
        }
    }
    quotas->sampled_at_ns = now_ns;
    pthread_mutex_unlock(&quotas->lock);
    if (err != ERR_OK) {
        rate_quota_samples_free(*rows, *n);
        *rows = NULL;
        *n = 0;
    }
    return err;
}

void rate_quota_samples_free(struct rate_quota_sample *rows, size_t n) {
    for (size_t i = 0; rows && i < n; i++) {
        free(rows[i].scope);
    }
    free(rows);
}

void rate_quotas_set_share(struct rate_quotas *quotas, const char *scope, enum rate_quota_kind kind,
                           double share, int64_t now_ns) {
    struct rate_quota *quota;
    pthread_mutex_lock(&quotas->lock);
    LL_FOREACH(quotas->list, quota) {
        if (quota->listed && strcmp(quota->scope, scope) == 0) {
            rate_bucket_set_share(&quota->buckets[kind], share, now_ns);
        }
    }
    pthread_mutex_unlock(&quotas->lock);
}
