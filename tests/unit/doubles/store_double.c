#include "store_double.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/system/clock.h"
#include "store/internal.h"

#define PLANS_MAX 8
#define LATE_MS   700 /* of a random fault: within the bounds of all settings */

static const char *const SCRIPTS[] = {
#define SCRIPT_NAME(symbol, name, kind) name,
    SCRIPT_TABLE(SCRIPT_NAME)
#undef SCRIPT_NAME
};

static struct {
    pthread_mutex_t mutex;
    const struct store *store; /* NULL: all */
    struct store_plan plans[PLANS_MAX];
    size_t plan_count;
    unsigned calls[SCRIPT_COUNT];
    uint64_t random; /* 0: no random faults */
    unsigned percent;
} store_double = {.mutex = PTHREAD_MUTEX_INITIALIZER};

enum err __real_store_call_run(struct store *store, struct store_call *call,
                               struct redis_reply **reply);
enum err __wrap_store_call_run(struct store *store, struct store_call *call,
                               struct redis_reply **reply);
enum err __wrap_store_call_run_plain(struct store *store, struct store_call *call);

void store_double_reset(const struct store *store) {
    pthread_mutex_lock(&store_double.mutex);
    store_double.store = store;
    store_double.plan_count = 0;
    store_double.random = 0;
    memset(store_double.calls, 0, sizeof store_double.calls);
    pthread_mutex_unlock(&store_double.mutex);
}

void store_double_plan(struct store_plan plan) {
    assert(store_double.plan_count < PLANS_MAX);
    if (plan.err == ERR_OK) {
        plan.err = ERR_TIMEOUT;
    }
    pthread_mutex_lock(&store_double.mutex);
    store_double.plans[store_double.plan_count++] = plan;
    pthread_mutex_unlock(&store_double.mutex);
}

void store_double_random(uint64_t seed, unsigned percent) {
    const char *given = getenv("STORE_DOUBLE_SEED");
    if (seed == 0) {
        seed = given ? strtoull(given, NULL, 10) : (uint64_t)clock_us();
    }
    pthread_mutex_lock(&store_double.mutex);
    store_double.random = seed | 1;
    store_double.percent = percent;
    pthread_mutex_unlock(&store_double.mutex);
    printf("STORE_DOUBLE_SEED=%" PRIu64 "\n", seed);
    fflush(stdout);
}

unsigned store_double_calls(const char *script) {
    unsigned calls = 0;
    pthread_mutex_lock(&store_double.mutex);
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        calls += !script || strcmp(script, SCRIPTS[i]) == 0 ? store_double.calls[i] : 0;
    }
    pthread_mutex_unlock(&store_double.mutex);
    return calls;
}

/* ---- the fate of a call ---------------------------------------------------------------- */

/* xorshift64 */
static uint64_t draw(uint64_t below) {
    store_double.random ^= store_double.random << 13;
    store_double.random ^= store_double.random >> 7;
    store_double.random ^= store_double.random << 17;
    return (store_double.random >> 11) % below;
}

static bool plan_applies(struct store_plan *plan, const char *script) {
    if (plan->script && strcmp(plan->script, script) != 0) {
        return false;
    }
    if (plan->after > 0) {
        plan->after--;
        return false;
    }
    return true;
}

/* The first plan for a call of that script. */
static bool decide_by_plan(enum store_script_id script, struct store_plan *out) {
    for (size_t i = 0; i < store_double.plan_count; i++) {
        struct store_plan *plan = &store_double.plans[i];
        if (plan_applies(plan, SCRIPTS[script])) {
            *out = *plan;
            if (plan->times > 0 && --plan->times == 0) {
                size_t behind = --store_double.plan_count - i;
                memmove(plan, plan + 1, behind * sizeof *plan);
            }
            return true;
        }
    }
    return false;
}

/* The fate of the next call of that script. */
static struct store_plan decide(const struct store *store, enum store_script_id script) {
    struct store_plan found = {.fault = STORE_PASSES};
    pthread_mutex_lock(&store_double.mutex);
    bool of_another = store_double.store && store_double.store != store;
    store_double.calls[script] += !of_another;
    if (!of_another && !decide_by_plan(script, &found) && store_double.random != 0 &&
        draw(100) < store_double.percent) {
        found = (struct store_plan){.fault = STORE_FAILS + (enum store_fault)draw(4),
                                    .err = draw(2) ? ERR_TIMEOUT : ERR_UNAVAILABLE,
                                    .late_ms = LATE_MS};
    }
    pthread_mutex_unlock(&store_double.mutex);
    return found;
}

static enum err lose(struct redis_reply **reply, enum err err) {
    redis_reply_free(*reply);
    *reply = NULL;
    return err;
}

enum err __wrap_store_call_run(struct store *store, struct store_call *call,
                               struct redis_reply **reply) {
    struct store_plan plan = decide(store, call->script);
    *reply = NULL;
    if (plan.before) {
        plan.before(plan.context);
    }
    if (plan.fault == STORE_FAILS) {
        return plan.err;
    }
    enum err err = __real_store_call_run(store, call, reply);
    if (plan.fault == STORE_REPLY_LOST) {
        return lose(reply, plan.err);
    }
    if (plan.fault == STORE_TWICE) {
        redis_reply_free(*reply);
        call->retried = true; /* as when a connection breaks and the call is sent again */
        err = __real_store_call_run(store, call, reply);
    }
    if (plan.fault == STORE_LATE) {
        clock_advance_ms(plan.late_ms);
    }
    return err;
}

enum err __wrap_store_call_run_plain(struct store *store, struct store_call *call) {
    struct redis_reply *reply;
    enum err err = __wrap_store_call_run(store, call, &reply);
    redis_reply_free(reply);
    return err;
}
