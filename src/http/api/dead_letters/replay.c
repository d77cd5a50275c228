/* Owns the messages that are replayed, from the read of their entries until their answers. POST
 * /api/v1/dead-letters:replay, a job (http/api/job.h).
 *
 *   entries --message, receipt--> queue of the sink --answer--> XDEL
 *
 * The entry of a message outlives it, so a crash in between replays the message twice. */
#include "http/api/replay.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "dead_letter_entry.h"
#include "dead_letter_query.h"
#include "http/api/api.h"
#include "http/api/job.h"
#include "http/server/json.h"
#include "http/server/problem.h"
#include "message/receipt.h"
#include "message/sink_name.h"

#define REPLAY_MS_MAX         5000 /* of one request, in addition to one page */
#define REPLAY_ANSWERS_MS_MAX 5000 /* for the answers to one page */
#define REPLAY_PAGE           100
#define REPLAY_POLL_MS        50
#define FAILURES_LISTED_MAX   100 /* listed; all are counted */

struct replay_item {
    struct receipt receipt; /* must be first */
    char entry[DEAD_LETTER_ID_LEN];
};

struct replay {
    struct store *store;
    struct sinks *sinks;
    atomic_bool busy; /* whoever set it owns the rest */
    struct receipts receipts;
    size_t outstanding;
};

struct replay_job {
    struct replay *replay;
    struct dead_letter_query query;
    int64_t matched, replayed, failed, total;
    json_t *failures;
    enum err result; /* of the store; ERR_BUSY: an earlier replay is not complete */
    bool stalled;    /* a sink has no room, or does not answer in time */
};

struct replay *replay_create(struct store *store, struct sinks *sinks) {
    struct replay *replay = calloc(1, sizeof *replay);
    if (!replay) {
        return NULL;
    }
    replay->store = store;
    replay->sinks = sinks;
    if (!receipts_init(&replay->receipts)) {
        free(replay);
        return NULL;
    }
    return replay;
}

void replay_destroy(struct replay *replay) {
    if (!replay) {
        return;
    }
    struct receipt *receipt = receipts_take(&replay->receipts);
    while (receipt) {
        struct receipt *next = receipt->next;
        free(receipt);
        receipt = next;
    }
    receipts_fini(&replay->receipts);
    free(replay);
}

/* ---- answers --------------------------------------------------------------------------------- */

static enum err replay_delete_entry(struct replay *replay, const char *entry) {
    struct dead_letters_page page;
    enum err err =
        store_dead_letters(replay->store, DEAD_LETTERS_DROP,
                           &(struct dead_letters_selector){.entry = entry}, "", 1, &page);
    dead_letters_page_fini(&page);
    return err;
}

/* An entry that could not be deleted is replayed again. */
static void replay_take_answers(struct replay_job *job) {
    struct replay *replay = job->replay;
    struct receipt *receipt = receipts_take(&replay->receipts);
    while (receipt) {
        struct receipt *next = receipt->next;
        struct replay_item *item = (struct replay_item *)receipt;
        if (receipt->result == ERR_OK) {
            enum err err = replay_delete_entry(replay, item->entry);
            job->result = job->result == ERR_OK ? err : job->result;
            job->replayed++;
            metric_add(METRIC_DEAD_LETTERS_REPLAYED, 1);
        }
        replay->outstanding--;
        free(item);
        receipt = next;
    }
}

static void replay_sleep(struct replay *replay) {
    struct pollfd polled = {.fd = replay->receipts.wake_fd, .events = POLLIN};
    eventfd_t wakes;
    if (!receipts_begin_wait(&replay->receipts)) {
        (void)poll(&polled, 1, REPLAY_POLL_MS);
        (void)eventfd_read(replay->receipts.wake_fd, &wakes);
    }
    receipts_end_wait(&replay->receipts);
}

static bool replay_is_cancelled(const struct http_request *request) {
    return atomic_load(&request->api->stop_stage) != HTTP_RUNNING;
}

static void replay_await_answers(struct replay_job *job, const struct http_request *request) {
    int64_t end_ms = clock_ms() + REPLAY_ANSWERS_MS_MAX;
    replay_take_answers(job);
    while (job->replay->outstanding > 0 && clock_ms() < end_ms && !replay_is_cancelled(request)) {
        replay_sleep(job->replay);
        replay_take_answers(job);
    }
    job->stalled = job->stalled || job->replay->outstanding > 0;
}

/* ---- messages -------------------------------------------------------------------------------- */

static void replay_note_failure(struct replay_job *job, const char *entry, const char *sink,
                                const char *detail) {
    job->failed++;
    if (json_array_size(job->failures) < FAILURES_LISTED_MAX) {
        json_array_append_new(job->failures,
                              json_pack("{s:o, s:o, s:s}", "entry", http_json_string(entry), "sink",
                                        http_json_string(sink), "detail", detail));
    }
}

/* ERR_FULL: the sink has no room. */
static enum err replay_submit(struct replay_job *job, const char *sink, const char *entry,
                              struct message *message) {
    struct replay *replay = job->replay;
    struct replay_item *item = calloc(1, sizeof *item);
    if (!item) {
        message_destroy(message);
        return ERR_MEMORY;
    }
    item->receipt.owner = &replay->receipts;
    snprintf(item->entry, sizeof item->entry, "%s", entry);
    replay->outstanding++;
    enum err err = sinks_submit(replay->sinks, sink, message, &item->receipt);
    if (err != ERR_OK) {
        replay->outstanding--;
        free(item);
    }
    return err;
}

/* False: the replay cannot go on now. */
static bool replay_entry(struct replay_job *job, const struct dead_letters_page *page,
                         size_t index) {
    const char *entry = dead_letters_page_id(page, index);
    const char *sink = dead_letter_entry_text(page, index, "dead_letter_sink");
    struct message *message;
    enum err err = dead_letter_entry_message(page, index, &message);
    if (err == ERR_OK) {
        err = replay_submit(job, sink, entry, message);
    }
    if (err == ERR_NOT_FOUND && strcmp(sink, SINK_ROUTES) == 0) {
        replay_note_failure(job, entry, sink,
                            "the script of a route failed, and other routes have delivered the "
                            "message: publish it again once the script is correct, or drop it");
    } else if (err == ERR_NOT_FOUND) {
        replay_note_failure(job, entry, sink, "this node has no such sink");
    } else if (err == ERR_ARGUMENT) {
        replay_note_failure(job, entry, sink, "the entry is not a dead letter");
    }
    return err == ERR_OK || err == ERR_NOT_FOUND || err == ERR_ARGUMENT;
}

/* Continues after the last entry that was submitted. */
static void replay_page(struct replay_job *job, const struct http_request *request,
                        const struct dead_letters_page *page) {
    size_t done = 0;
    while (done < page->count && !job->stalled) {
        if (replay_entry(job, page, done)) {
            done++;
        } else if (job->replay->outstanding > 0) { /* their answers make room */
            replay_await_answers(job, request);
        } else {
            job->stalled = true;
        }
    }
    job->matched += (int64_t)done;
    if (done == page->count) {
        dead_letter_query_advance(&job->query, page);
    } else if (done > 0) {
        snprintf(job->query.after, sizeof job->query.after, "%s",
                 dead_letters_page_id(page, done - 1));
    }
    replay_await_answers(job, request);
}

static enum dead_letters_action replay_action(const struct replay_job *job) {
    return job->query.dry_run ? DEAD_LETTERS_COUNT : DEAD_LETTERS_LIST;
}

static bool replay_read_page(struct replay_job *job, const struct http_request *request) {
    struct dead_letters_page page;
    int64_t replayed = job->replayed;
    size_t matches_max = job->query.dry_run ? DEAD_LETTERS_MATCHES_MAX : REPLAY_PAGE;
    job->result = store_dead_letters(job->replay->store, replay_action(job), &job->query.selector,
                                     job->query.after, matches_max, &page);
    if (job->result == ERR_OK && job->query.dry_run) {
        job->matched += page.matched;
        dead_letter_query_advance(&job->query, &page);
    } else if (job->result == ERR_OK) {
        if (job->query.selector.until_ms == 0) {
            job->query.selector.until_ms = page.redis_ms;
        }
        replay_page(job, request, &page);
    }
    job->total = page.total - (job->replayed - replayed);
    dead_letters_page_fini(&page);
    return job->result == ERR_OK && !job->stalled && !dead_letter_query_is_over(&job->query);
}

/* ---- the job --------------------------------------------------------------------------------- */

/* Answers to an earlier replay first. */
static bool replay_begin(struct replay_job *job) {
    replay_take_answers(job);
    job->replayed = 0;
    if (job->result == ERR_OK && job->replay->outstanding > 0) {
        job->result = ERR_BUSY;
    }
    return job->result == ERR_OK;
}

static void replay_run(const struct http_request *request, void *data) {
    struct replay_job *job = data;
    int64_t end_ms = clock_ms() + REPLAY_MS_MAX;
    if (atomic_exchange(&job->replay->busy, true)) {
        job->result = ERR_BUSY;
        return;
    }
    if (replay_begin(job)) {
        while (replay_read_page(job, request) && clock_ms() < end_ms &&
               !replay_is_cancelled(request)) {
        }
    }
    atomic_store(&job->replay->busy, false);
}

static void replay_answer(struct http_request *request, struct http_response *response,
                          void *data) {
    struct replay_job *job = data;
    (void)request;
    if (job->result == ERR_BUSY) {
        http_problem(response, PROBLEM_BUSY,
                     "a replay runs on this node, or messages of the last one still wait for their "
                     "sink; try again later");
        return;
    }
    if (job->result != ERR_OK) {
        http_problem_store(response, job->result);
        return;
    }
    http_answer_json(response, 200,
                     json_pack("{s:I, s:I, s:I, s:O, s:b, s:I, s:o}", "matched",
                               (json_int_t)job->matched, "replayed", (json_int_t)job->replayed,
                               "failed", (json_int_t)job->failed, "failures", job->failures,
                               "stalled", job->stalled, "total",
                               (json_int_t)dead_letter_query_total(&job->query, job->total,
                                                                   job->matched - job->replayed),
                               "next_cursor", dead_letter_query_cursor(&job->query)));
}

static void replay_job_free(void *data) {
    struct replay_job *job = data;
    json_decref(job->failures);
    free(job);
}

void api_dead_letters_replay(struct http_request *request, struct http_response *response) {
    struct replay_job *job = calloc(1, sizeof *job);
    if (!job) {
        http_problem_memory(response);
        return;
    }
    if (!dead_letter_query_parse(request, true, &job->query, response)) {
        free(job);
        return;
    }
    job->replay = request->api->replay;
    job->failures = json_array();
    http_job_start(request, response,
                   &(struct http_job_plan){replay_run, replay_answer, job, replay_job_free});
}
