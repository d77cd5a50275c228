/* Owns what main's thread does again and again while the node runs. */
#include <malloc.h>
#include <stdlib.h>
#include "app.h"
#include "base/clock.h"
#include "base/notify.h"
#include "base/out_of_memory.h"
#include "base/pulse.h"

#define COMPLAINT_MS   10000
#define AWAY_MS        1000
#define FREE_BYTES_MIN 4194304
#define FEW_SHARE      16
#define RARELY_MS      300000

/* What starts and full queues left behind goes back to the system once it is a good part of all:
 * the heap of ten thousand clients would otherwise look like that of twenty thousand. A look stops
 * the heap for milliseconds when it is large: rare ones do unless many clients came or went. */
static void return_memory(struct app *app) {
    static int64_t looked_ms, looked_count;
    int64_t now_ms = clock_ms(), count = (int64_t)hosts_count(app->hosts);
    if (llabs(count - looked_count) <= looked_count / FEW_SHARE && now_ms - looked_ms < RARELY_MS) {
        return;
    }
    looked_ms = now_ms;
    looked_count = count;
    struct mallinfo2 info = mallinfo2();
    if (info.fordblks > FREE_BYTES_MIN && info.fordblks > (info.uordblks + info.fordblks) / 4) {
        malloc_trim(0);
    }
}

static void tend_memory(struct app *app) {
    (void)app;
    out_of_memory_tell();
}

static int64_t watchdog_turn_ms; /* between two turns */

static void tend_redis(struct app *app) {
    if (app->redis_server) {
        redis_server_tend(app->redis_server);
    }
}

/* Only while all that matters makes progress, this thread included: else the service manager ends
 * the process and starts it anew. */
static void tend_watchdog(struct app *app) {
    static int64_t pinged_ms, complained_ms, looked_ms;
    int64_t still_ms, now_ms = clock_ms();
    const char *hanging = pulse_stalled(&still_ms);
    (void)app;
    /* The whole process, or the machine, stood still: the others are to have their turn first. */
    hanging = now_ms - looked_ms > AWAY_MS ? NULL : hanging;
    looked_ms = now_ms;
    if (hanging != NULL && now_ms - complained_ms >= COMPLAINT_MS) {
        complained_ms = now_ms;
        log_event(LOG_ERROR, "thread_hangs", KS("thread", hanging), KI("still_ms", still_ms));
    }
    int64_t period_ms = notify_watchdog_ms();
    if (hanging == NULL && period_ms > 0 && now_ms - pinged_ms >= period_ms - watchdog_turn_ms) {
        pinged_ms = now_ms;
        notify_hint("WATCHDOG=1");
    }
}

static void tend_status(struct app *app) {
    int64_t counts[CLIENT_STATE_COUNT];
    hosts_state_counts(app->hosts, counts);
    notify_hint("STATUS=%s: %lld clients, %lld online",
                node_membership_name(node_membership(app->node)),
                (long long)hosts_count(app->hosts), (long long)counts[CLIENT_ONLINE]);
}

void app_tend(struct app *app, int64_t turn_ms) {
    watchdog_turn_ms = turn_ms;
    static struct {
        int64_t period_ms, done_at_ms;
        void (*run)(struct app *app);
    } rows[] = {{0, 0, tend_watchdog},
                {1000, 0, tend_redis},
                {1000, 0, tend_memory},
                {5000, 0, tend_status},
                {10000, 0, return_memory}};
    int64_t now_ms = clock_ms();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (now_ms - rows[i].done_at_ms >= rows[i].period_ms) {
            rows[i].done_at_ms = now_ms;
            rows[i].run(app);
        }
    }
}
