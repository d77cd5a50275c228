/* GET /api/v1/dead-letters and POST /api/v1/dead-letters:drop. The handler threads. The work per
 * request is bounded; the next cursor covers the rest. */
#include "http/api/api.h"

#include "base/system/clock.h"
#include "base/telemetry/metrics.h"
#include "dead_letter_entry.h"
#include "dead_letter_query.h"
#include "http/server/problem.h"

#define LIMIT_DEFAULT 20
#define LIMIT_MAX     1000
#define DROP_MS_MAX   2000

/* ---- list ------------------------------------------------------------------------------------ */

static void dead_letters_answer_list(const struct dead_letters_page *page,
                                     const struct dead_letter_query *query,
                                     struct http_response *response) {
    json_t *list = json_array();
    int failed = !list;
    for (size_t i = 0; i < page->count && !failed; i++) {
        failed = json_array_append_new(list, dead_letter_entry_json(page, i));
    }
    if (failed) {
        json_decref(list);
        http_problem_memory(response);
        return;
    }
    http_answer_json(
        response, 200,
        json_pack("{s:o, s:I, s:o}", "dead_letters", list, "total",
                  (json_int_t)dead_letter_query_total(query, page->total, page->matched),
                  "next_cursor", dead_letter_query_cursor(query)));
}

void api_dead_letters_list(struct http_request *request, struct http_response *response) {
    struct dead_letter_query query;
    struct dead_letters_page page;
    int64_t limit;
    if (http_query_int(&request->query, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &limit) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "limit: must be a number from 1 to %d",
                     LIMIT_MAX);
        return;
    }
    if (!dead_letter_query_parse(request, false, &query, response)) {
        return;
    }
    enum err err = store_dead_letters(request->api->context.store, DEAD_LETTERS_LIST,
                                      &query.selector, query.after, (size_t)limit, &page);
    if (err == ERR_OK) {
        dead_letter_query_advance(&query, &page);
        dead_letters_answer_list(&page, &query, response);
    } else {
        http_problem_store(response, err);
    }
    dead_letters_page_fini(&page);
}

/* ---- drop ------------------------------------------------------------------------------------ */

struct dead_letters_drop {
    int64_t matched, total;
};

static enum err dead_letters_drop_pages(const struct http_request *request,
                                        struct dead_letter_query *query,
                                        struct dead_letters_drop *done) {
    enum dead_letters_action action = query->dry_run ? DEAD_LETTERS_COUNT : DEAD_LETTERS_DROP;
    int64_t end_ms = clock_ms() + DROP_MS_MAX;
    enum err err = ERR_OK;
    do { /* bounded by the time */
        struct dead_letters_page page;
        err = store_dead_letters(request->api->context.store, action, &query->selector,
                                 query->after, DEAD_LETTERS_MATCHES_MAX, &page);
        if (err == ERR_OK) {
            dead_letter_query_advance(query, &page);
            done->matched += page.matched;
            done->total = page.total;
        }
        dead_letters_page_fini(&page);
    } while (err == ERR_OK && !dead_letter_query_is_over(query) && clock_ms() < end_ms);
    return err;
}

void api_dead_letters_drop(struct http_request *request, struct http_response *response) {
    struct dead_letter_query query;
    struct dead_letters_drop done = {0};
    if (!dead_letter_query_parse(request, true, &query, response)) {
        return;
    }
    enum err err = dead_letters_drop_pages(request, &query, &done);
    int64_t dropped = query.dry_run ? 0 : done.matched;
    metric_add(METRIC_DEAD_LETTERS_DROPPED, dropped);
    if (err != ERR_OK) {
        http_problem_store(response, err);
        return;
    }
    http_answer_json(
        response, 200,
        json_pack("{s:I, s:I, s:I, s:o}", "matched", (json_int_t)done.matched, "dropped",
                  (json_int_t)dropped, "total",
                  (json_int_t)dead_letter_query_total(&query, done.total, done.matched - dropped),
                  "next_cursor", dead_letter_query_cursor(&query)));
}
