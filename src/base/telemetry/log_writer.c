/* Owns the ring of log lines and the thread that writes them to stderr. */
#include "base/telemetry/log_writer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"

#define BATCH_DELAY_MS   2    /* delay after a line; lines within it need not wake the thread */
#define WRITE_RETRY_MS   1000 /* delay before a failed write (disk full, no reader) is retried */
#define REPORT_PERIOD_MS 1000 /* between two reports of lost lines */
#define WRITE_STALL_MS   1000 /* without a byte written: stderr is not read */

enum log_writer_state {
    LOG_WRITER_OFF,      /* no thread: a line is written at once, by the thread that logs it */
    LOG_WRITER_RUNNING,  /* from here on, lines go through the ring */
    LOG_WRITER_STOPPING, /* the thread must end, at the latest when a write fails */
    LOG_WRITER_ENDED     /* the thread has stopped writing, and is not joined yet */
};

static struct {
    _Atomic enum log_writer_state state;
    struct log_ring *ring;
    void (*report_lost)(const struct log_lost *lost);
    pthread_t thread;
    sem_t wake;             /* posted by the caller that clears `waiting` */
    atomic_bool waiting;    /* the thread waits on `wake`, or is about to */
    atomic_bool urgent;     /* the process ends: losses are reported without delay */
    atomic_bool reporting;  /* losses have left the ring but are not written yet */
    _Atomic size_t written; /* bytes so far; shows whether stderr is read */
} writer;

static _Thread_local bool is_writer; /* true on the writer's thread */

static const enum metric dropped_metrics[LOG_LEVEL_COUNT] = {[LOG_DEBUG] = METRIC_LOG_DROPPED_DEBUG,
                                                             [LOG_INFO] = METRIC_LOG_DROPPED_INFO,
                                                             [LOG_WARN] = METRIC_LOG_DROPPED_WARN,
                                                             [LOG_ERROR] = METRIC_LOG_DROPPED_ERROR,
                                                             [LOG_AUDIT] =
                                                                 METRIC_LOG_DROPPED_AUDIT};

/* ---- the thread ------------------------------------------------------------------------------ */

/* Waits for a post, at most ms (negative: without limit). May return early. */
static void log_writer_sleep(int64_t ms) {
    if (ms < 0) {
        sem_wait(&writer.wake);
        return;
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += (time_t)(ms / 1000 + until.tv_nsec / 1000000000);
    until.tv_nsec %= 1000000000;
    sem_clockwait(&writer.wake, CLOCK_MONOTONIC, &until);
}

static void log_writer_wake(void) {
    if (atomic_load(&writer.waiting) && atomic_exchange(&writer.waiting, false)) {
        sem_post(&writer.wake);
    }
}

/* Another process that shares the descriptor may have set it to non-blocking. */
static bool log_writer_would_block(int error) {
    return error == EAGAIN || error == EWOULDBLOCK;
}

/* Retries a failed write from the same byte, so that no line is cut (a full disk may have room
 * later). False: it failed while the thread must stop. */
static bool log_writer_write_all(const char *data, size_t len) {
    while (len > 0) { /* bounded by len, or by the reader */
        ssize_t n = write(STDERR_FILENO, data, len);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
            atomic_fetch_add(&writer.written, (size_t)n);
        } else if (n < 0 && log_writer_would_block(errno)) {
            poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, WRITE_RETRY_MS);
            clock_sleep_ms(BATCH_DELAY_MS); /* the pipe may have less room than a batch needs */
        } else if (n == 0 || errno != EINTR) {
            if (atomic_load(&writer.state) == LOG_WRITER_STOPPING) {
                return false;
            }
            log_writer_sleep(WRITE_RETRY_MS);
        }
    }
    return true;
}

/* Reports lost lines, at most once in REPORT_PERIOD_MS. reported_ms: time of the last report. */
static void log_writer_report_lost(int64_t *reported_ms) {
    struct log_lost lost;
    int64_t now_ms = clock_ms();
    if (log_ring_has_lost(writer.ring) &&
        (now_ms - *reported_ms >= REPORT_PERIOD_MS || atomic_load(&writer.urgent))) {
        *reported_ms = now_ms;
        atomic_store(&writer.reporting, true);
        log_ring_take_lost(writer.ring, &lost);
        writer.report_lost(&lost); /* calls log_writer_write recursively */
        atomic_store(&writer.reporting, false);
    }
}

/* Writes until the ring is empty. False: see log_writer_write_all. */
static bool log_writer_drain(int64_t *reported_ms) {
    char batch[LOG_LINE_LEN_MAX];
    size_t len;
    while ((len = log_ring_take(writer.ring, batch, sizeof batch)) > 0) {
        if (!log_writer_write_all(batch, len)) {
            return false;
        }
        log_ring_release(writer.ring);
        log_writer_report_lost(reported_ms); /* returns to the caller even if lines arrive faster
                                                than stderr is read */
    }
    log_writer_report_lost(reported_ms);
    log_ring_reset(writer.ring);
    return true;
}

static void *log_writer_run(void *argument) {
    int64_t reported_ms = clock_ms() - REPORT_PERIOD_MS;
    (void)argument;
    is_writer = true;
    while (log_writer_drain(&reported_ms)) {
        if (!atomic_load(&writer.urgent)) {
            clock_sleep_ms(BATCH_DELAY_MS);
        }
        atomic_store(&writer.waiting, true); /* first: a line after the next check must post */
        bool lossy = log_ring_has_lost(writer.ring);
        if (log_ring_is_empty(writer.ring)) {
            if (!lossy && atomic_load(&writer.state) == LOG_WRITER_STOPPING) {
                break;
            }
            log_writer_sleep(lossy ? REPORT_PERIOD_MS : -1);
        }
        atomic_store(&writer.waiting, false);
    }
    atomic_store(&writer.state, LOG_WRITER_ENDED);
    return NULL;
}

/* Signals of the process must be handled by other threads: the main thread, or one that can report
 * a crash. */
static int log_writer_start_thread(void) {
    static const int left[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGABRT,
                               SIGBUS, SIGFPE, SIGILL,  SIGSEGV, SIGSYS};
    sigset_t blocked, before;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        sigaddset(&blocked, left[i]);
    }
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    int error = pthread_create(&writer.thread, NULL, log_writer_run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) {
        pthread_setname_np(writer.thread, "log");
    }
    return error;
}

/* ---- public ---------------------------------------------------------------------------------- */

enum err log_writer_start(size_t buffer_bytes, void (*lost)(const struct log_lost *lost)) {
    log_ring_destroy(
        writer.ring); /* an earlier start keeps its ring until now: threads may still log */
    enum err err = log_ring_create(&writer.ring, buffer_bytes);
    if (err != ERR_OK) {
        return err;
    }
    writer.report_lost = lost;
    atomic_store(&writer.state, LOG_WRITER_OFF);
    atomic_store(&writer.waiting, false);
    atomic_store(&writer.urgent, false);
    atomic_store(&writer.reporting, false);
    sem_init(&writer.wake, 0, 0);
    if (log_writer_start_thread() != 0) {
        return ERR_UNAVAILABLE;
    }
    atomic_store(&writer.state, LOG_WRITER_RUNNING);
    return ERR_OK;
}

void log_writer_write(enum log_level level, const char *line, size_t len) {
    if (atomic_load_explicit(&writer.state, memory_order_acquire) == LOG_WRITER_OFF) {
        /* A log that cannot be written cannot report it. */
        (void)!write(STDERR_FILENO, line, len);
    } else if (is_writer) { /* the report of lost lines: the ring may be full again */
        (void)log_writer_write_all(line, len);
    } else if (log_ring_put(writer.ring, level, line, len)) {
        log_writer_wake();
    } else {
        metric_add(dropped_metrics[level], 1);
    }
}

static bool log_writer_is_flushed(void) {
    return log_ring_is_empty(writer.ring) && !log_ring_has_lost(writer.ring) &&
           !atomic_load(&writer.reporting);
}

static bool log_writer_has_ended(void) {
    return atomic_load(&writer.state) == LOG_WRITER_ENDED;
}

/* Waits for done() or the end of the thread while the thread makes progress, at most timeout_ms. */
static bool log_writer_await(bool (*done)(void), int64_t timeout_ms) {
    atomic_store(&writer.urgent, true);
    sem_post(&writer.wake);
    size_t written = atomic_load(&writer.written);
    int64_t begun_ms = clock_ms(), moved_ms = begun_ms, now_ms = begun_ms;
    while (!done() && !log_writer_has_ended() && now_ms - begun_ms < timeout_ms &&
           now_ms - moved_ms < WRITE_STALL_MS) {
        poll(NULL, 0, 1); /* nanosleep is not async-signal-safe */
        now_ms = clock_ms();
        if (atomic_load(&writer.written) != written) {
            written = atomic_load(&writer.written);
            moved_ms = now_ms;
        }
    }
    return done();
}

bool log_writer_flush(int64_t timeout_ms) {
    return atomic_load(&writer.state) == LOG_WRITER_OFF ||
           log_writer_await(log_writer_is_flushed, timeout_ms);
}

void log_writer_stop(int64_t timeout_ms) {
    if (atomic_load(&writer.state) == LOG_WRITER_OFF) {
        return;
    }
    enum log_writer_state running = LOG_WRITER_RUNNING; /* otherwise, an earlier stop continues */
    atomic_compare_exchange_strong(&writer.state, &running, LOG_WRITER_STOPPING);
    if (log_writer_await(
            log_writer_has_ended,
            timeout_ms)) { /* all lines are written, or stderr fails and waiting is useless */
        pthread_join(writer.thread, NULL);
        atomic_store(&writer.state, LOG_WRITER_OFF);
    }
}
