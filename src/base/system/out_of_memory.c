/* Owns the count of failed allocations. Any thread. */
#include "base/system/out_of_memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/telemetry/metrics.h"

#define REPORT_PERIOD_MS 10000

/* initial-exec: the first use of another model may allocate, within malloc. */
static _Thread_local __attribute__((tls_model("initial-exec"))) bool seen;
static _Atomic size_t last_bytes;

void out_of_memory_note(size_t bytes) {
    seen = true;
    atomic_store_explicit(&last_bytes, bytes, memory_order_relaxed);
    metric_add(METRIC_OUT_OF_MEMORY, 1);
}

bool out_of_memory_seen(void) {
    return seen;
}

void out_of_memory_forget(void) {
    seen = false;
}

void out_of_memory_report(void) {
    static int64_t reported, reported_at_ms;
    int64_t count = metric_get(METRIC_OUT_OF_MEMORY), now_ms = clock_ms();
    if (count == reported || (reported > 0 && now_ms - reported_at_ms < REPORT_PERIOD_MS)) {
        return;
    }
    log_event(LOG_ERROR, "out_of_memory", KI("failed", count - reported),
              KI("last_bytes", atomic_load_explicit(&last_bytes, memory_order_relaxed)),
              KS("detail", "allocations failed; the operations were refused or will be retried"));
    reported = count;
    reported_at_ms = now_ms;
}
