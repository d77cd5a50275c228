/* Stores the histories of clients that changed: a few per second, so that the next node knows them
 * if this one dies, and all of them when the node stops. A client that moves takes its own along
 * (handover.c). The agent thread, except for the last part. */
#include <stdlib.h>

#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"
#include "cluster/membership/agent_internal.h"

#define HISTORIES_AT_ONCE 50 /* while clients run: a worker waits until they are copied */

/* *saved: how many. */
static enum err histories_save_some(struct agent *agent, size_t *from, size_t rows_max,
                                    size_t *saved) {
    char incarnation[TEXT_ID_LEN];
    struct store_member member = agent_member(agent, incarnation);
    struct store_history_item items[STORE_BATCH_MAX];
    struct workers_unsaved *rows;
    size_t n, begun = *from;
    rows_max = rows_max < STORE_BATCH_MAX ? rows_max : STORE_BATCH_MAX;
    enum err err = workers_list_unsaved(agent->wiring.workers, from, rows_max, &rows, &n);
    for (size_t i = 0; i < n; i++) {
        items[i] = (struct store_history_item){rows[i].id, rows[i].epoch, rows[i].history};
    }
    if (n > 0) {
        err = store_save_histories(agent->wiring.store, &member, items, n);
    }
    for (size_t i = 0; i < n && err == ERR_OK; i++) {
        workers_mark_saved(agent->wiring.workers, &rows[i]);
    }
    if (err != ERR_OK) {
        *from = begun;
    }
    *saved = err == ERR_OK ? n : 0;
    metric_add(METRIC_HISTORIES_SAVED, (int64_t)*saved);
    workers_unsaved_free(rows, n);
    return err;
}

void histories_step(struct agent *agent) {
    size_t left = (size_t)agent->wiring.conf->history_save_rate * HISTORIES_MS / 1000;
    enum err err = ERR_OK;
    while (left > 0 && err == ERR_OK && agent_may_continue(agent)) {
        size_t saved, most = left < HISTORIES_AT_ONCE ? left : HISTORIES_AT_ONCE;
        err = histories_save_some(agent, &agent->histories_from, most, &saved);
        left -= saved;
        if (agent->histories_from == 0) {
            return;
        }
    }
}

void histories_save_all(struct agent *agent, int64_t deadline_ms) {
    size_t from = 0, saved = 0, all = 0;
    enum err err;
    do {
        err = histories_save_some(agent, &from, STORE_BATCH_MAX, &saved);
        all += saved;
    } while (err == ERR_OK && from > 0 && clock_ms() < deadline_ms);
    log_event(LOG_INFO, "histories_saved", KI("clients", all), KS("result", err_name(err)),
              KS("complete", err == ERR_OK && from == 0 ? "yes" : "no"));
}
