/* Owns the periodic work of the main thread while the node runs. */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include "app.h"
#include "base/system/clock.h"
#include "base/system/notify.h"
#include "base/system/out_of_memory.h"
#include "base/system/thread_watchdog.h"
#include "base/telemetry/metrics.h"

#define WARNING_PERIOD_MS 10000
#define PROCESS_PAUSE_MS  1000
#define FREE_BYTES_MIN    4194304
#define TRIM_CHANGE_SHARE 16
#define TRIM_PERIOD_MS    300000

/* Returns free heap memory to the system when it is a large part of all. Otherwise the heap of ten
 * thousand clients would look like that of twenty thousand after the start. A measurement of a
 * large heap blocks it for milliseconds, so it is rare unless many clients came or went. */
static void maintenance_trim_heap(struct app *app) {
    static int64_t looked_ms, looked_count;
    int64_t now_ms = clock_ms(), count = (int64_t)workers_count(app->workers);
    if (llabs(count - looked_count) <= looked_count / TRIM_CHANGE_SHARE &&
        now_ms - looked_ms < TRIM_PERIOD_MS) {
        return;
    }
    looked_ms = now_ms;
    looked_count = count;
    struct mallinfo2 info = mallinfo2();
    if (info.fordblks > FREE_BYTES_MIN && info.fordblks > (info.uordblks + info.fordblks) / 4) {
        malloc_trim(0);
    }
}

static void maintenance_report_out_of_memory(struct app *app) {
    (void)app;
    out_of_memory_report();
}

static int64_t maintenance_turn_ms; /* between two turns */

static void maintenance_supervise_redis(struct app *app) {
    if (app->redis_server) {
        redis_server_supervise(app->redis_server);
    }
}

static void maintenance_tend_sinks(struct app *app) {
    sinks_maintain(app->sinks);
}

/* Only while all watched threads make progress, including this one. Otherwise the service manager
 * restarts the process. */
static void maintenance_send_watchdog(struct app *app) {
    static int64_t pinged_ms, complained_ms, looked_ms;
    int64_t still_ms, now_ms = clock_ms();
    const char *hanging = thread_watchdog_stalled(&still_ms);
    (void)app;
    /* The whole process or machine was suspended: the other threads must run first. */
    hanging = now_ms - looked_ms > PROCESS_PAUSE_MS ? NULL : hanging;
    looked_ms = now_ms;
    if (hanging && now_ms - complained_ms >= WARNING_PERIOD_MS) {
        complained_ms = now_ms;
        log_event(LOG_ERROR, "thread_hangs", KS("thread", hanging), KI("still_ms", still_ms));
    }
    int64_t period_ms = notify_watchdog_ms();
    if (!hanging && period_ms > 0 && now_ms - pinged_ms >= period_ms - maintenance_turn_ms) {
        pinged_ms = now_ms;
        notify_try_send("WATCHDOG=1");
    }
}

static void maintenance_send_status(struct app *app) {
    int64_t counts[CLIENT_STATE_COUNT];
    workers_state_counts(app->workers, counts);
    notify_try_send("STATUS=%s: %lld clients, %lld online",
                    node_membership_name(node_membership(app->node)),
                    (long long)workers_count(app->workers), (long long)counts[CLIENT_ONLINE]);
}

/* Several states are shown as one. */
static void maintenance_count_clients(struct app *app, int64_t values[SERIES_COUNT]) {
    int64_t counts[CLIENT_STATE_COUNT];
    workers_state_counts(app->workers, counts);
    for (enum series series = SERIES_ONLINE; series <= SERIES_PAUSED; series++) {
        for (enum client_state state = 0; state < CLIENT_STATE_COUNT; state++) {
            bool shown = strcmp(client_state_shown(state), series_name(series)) == 0;
            values[series] += shown ? counts[state] : 0;
        }
    }
}

static int64_t maintenance_sum(enum metric first, enum metric last) {
    int64_t sum = 0;
    for (enum metric metric = first; metric <= last; metric++) {
        sum += metric_get(metric);
    }
    return sum;
}

static void maintenance_sample(struct app *app) {
    int64_t wall_ms = clock_wall_ms(), values[SERIES_COUNT] = {0};
    if (!time_series_is_due(app->time_series, wall_ms)) {
        return;
    }
    maintenance_count_clients(app, values);
    values[SERIES_MESSAGES_IN] = maintenance_sum(METRIC_RECEIVED_QOS0, METRIC_RECEIVED_QOS2);
    values[SERIES_BYTES_IN] = metric_get(METRIC_BYTES_RECEIVED);
    values[SERIES_MESSAGES_OUT] = metric_get(METRIC_MESSAGES_SENT);
    values[SERIES_BYTES_OUT] = metric_get(METRIC_BYTES_SENT);
    values[SERIES_PUBLICATIONS_FAILED] = metric_get(METRIC_PUBLISH_FAILED);
    values[SERIES_MESSAGES_DROPPED] =
        maintenance_sum(METRIC_DROPPED_SINK_FULL, METRIC_DROPPED_DEAD_LETTER);
    time_series_add(app->time_series, wall_ms, clock_ms(), values);
}

void app_maintain(struct app *app, int64_t turn_ms) {
    maintenance_turn_ms = turn_ms;
    static struct {
        int64_t period_ms, done_at_ms;
        void (*run)(struct app *app);
    } rows[] = {{0, 0, maintenance_send_watchdog},      {0, 0, maintenance_sample},
                {1000, 0, maintenance_supervise_redis}, {1000, 0, maintenance_report_out_of_memory},
                {1000, 0, maintenance_tend_sinks},      {5000, 0, maintenance_send_status},
                {10000, 0, maintenance_trim_heap}};
    int64_t now_ms = clock_ms();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (now_ms - rows[i].done_at_ms >= rows[i].period_ms) {
            rows[i].done_at_ms = now_ms;
            rows[i].run(app);
        }
    }
}
