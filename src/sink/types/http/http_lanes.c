/* Owns the order of requests, and the outcomes of their messages. The sink's thread. */
#include "http_lanes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/text.h"

#define START_MS         1000 /* a batch for a slow target is not finished in one write */
#define POLL_MS          100
#define DOUBTS_MAX       16 /* enough to find one message among 10,000 */
#define RETRY_AFTER_MS   60000
#define HASHED_BYTES_MAX 64

bool http_lanes_init(struct http_lanes *lanes, const struct http_target *target,
                     struct http_client *client, size_t count) {
    *lanes = (struct http_lanes){
        .target = target, .client = client, .items = calloc(count, sizeof *lanes->items)};
    bool made = lanes->items;
    while (made && lanes->count < count) {
        struct http_lane *lane = &lanes->items[lanes->count++];
        lane->lanes = lanes;
        made = http_upload_init(&lane->upload, target);
    }
    return made;
}

void http_lanes_fini(struct http_lanes *lanes) {
    for (size_t i = 0; i < lanes->count; i++) {
        http_upload_fini(&lanes->items[i].upload);
    }
    free(lanes->items);
    free(lanes->indices);
    free(lanes->lane_of);
}

static enum err http_lanes_reserve(struct http_lanes *lanes, size_t count) {
    if (count <= lanes->capacity) {
        return ERR_OK;
    }
    free(lanes->indices);
    free(lanes->lane_of);
    lanes->indices = calloc(count, sizeof *lanes->indices);
    lanes->lane_of = calloc(count, sizeof *lanes->lane_of);
    lanes->capacity = lanes->indices && lanes->lane_of ? count : 0;
    return lanes->capacity > 0 ? ERR_OK : ERR_MEMORY;
}

/* ---- the share of each lane -------------------------------------------------------------------
 */

/* As few as the limits of a request allow: fewer and fuller requests are cheaper. */
static size_t http_lanes_wanted(const struct http_lanes *lanes, const struct sink_batch *batch) {
    const struct http_target *target = lanes->target;
    size_t bytes = 0;
    for (size_t i = 0; i < batch->count; i++) {
        bytes += batch->messages[i]->payload_len;
    }
    size_t by_count = (batch->count + target->messages_max - 1) / target->messages_max;
    size_t by_bytes = bytes / target->body_bytes_max + 1;
    size_t wanted = by_count > by_bytes ? by_count : by_bytes;
    return wanted < lanes->count ? wanted : lanes->count;
}

static void http_lanes_share(struct http_lanes *lanes, const struct sink_batch *batch) {
    size_t wanted = http_lanes_wanted(lanes, batch);
    size_t counts[lanes->count + 1];
    memset(counts, 0, sizeof counts);
    for (size_t i = 0; i < batch->count; i++) {
        const char *id = batch->messages[i]->id;
        size_t lane = wanted > 1 ? text_hash(id, HASHED_BYTES_MAX) % wanted : 0;
        lanes->lane_of[i] = lane;
        counts[lane + 1]++;
    }
    for (size_t i = 0, begin = 0; i < lanes->count; i++) {
        struct http_lane *lane = &lanes->items[i];
        lane->indices = lanes->indices + begin;
        lane->next = lane->end = lane->split_count = lane->doubts = 0;
        lane->ended = false;
        begin += counts[i + 1];
    }
    for (size_t i = 0; i < batch->count; i++) {
        struct http_lane *lane = &lanes->items[lanes->lane_of[i]];
        lanes->indices[(size_t)(lane->indices - lanes->indices) + lane->end++] = i;
    }
}

/* ---- one lane ---------------------------------------------------------------------------------
 */

static struct http_range http_lane_range(const struct http_lane *lane,
                                         const struct http_lane_part *part) {
    return (struct http_range){.batch = lane->lanes->batch,
                               .indices = lane->indices + part->begin,
                               .count = part->end - part->begin};
}

static bool http_lane_may_start(const struct http_lane *lane) {
    return !lane->ended && (lane->split_count > 0 || lane->next < lane->end) &&
           clock_ms() <= lane->lanes->start_until_ms;
}

/* Chooses the next messages, and makes their body. False: out of memory. */
static bool http_lane_fill(struct http_lane *lane) {
    bool split = lane->split_count > 0;
    struct http_lane_part part = {lane->next, lane->end};
    if (split) {
        part = lane->splits[--lane->split_count];
    }
    size_t taken = 0;
    struct http_range range = http_lane_range(lane, &part);
    if (http_upload_fill(&lane->upload, &range, &taken) != ERR_OK) {
        (void)sink_batch_fail(range.batch, ERR_MEMORY, "out of memory");
        lane->ended = true;
        return false;
    }
    assert(!split || taken == part.end - part.begin); /* a part of one request */
    lane->sent = (struct http_lane_part){part.begin, part.begin + range.count};
    lane->next = split ? lane->next : part.begin + taken;
    return true;
}

/* False: no messages are left, or the lane has ended. */
static bool http_lane_prepare(struct http_lane *lane) {
    bool filled = false;
    while (!filled && http_lane_may_start(lane)) { /* each turn takes messages, or ends the lane */
        filled = http_lane_fill(lane) && lane->sent.end > lane->sent.begin;
    }
    return filled;
}

static void http_lane_done(struct http_client_request *request, void *context);

static void http_lane_advance(struct http_lane *lane) {
    if (!http_lane_prepare(lane)) {
        return;
    }
    enum err err = http_upload_start(&lane->upload, lane->lanes->client, http_lane_done, lane);
    if (err == ERR_OK) {
        lane->lanes->busy++;
    } else {
        (void)sink_batch_fail(lane->lanes->batch, err, "cannot start a request: %s", err_name(err));
        lane->ended = true;
    }
}

static void http_lane_split(struct http_lane *lane) {
    struct http_lane_part sent = lane->sent;
    size_t middle = sent.begin + (sent.end - sent.begin) / 2;
    assert(lane->split_count + 2 <= HTTP_SPLITS_MAX);
    lane->splits[lane->split_count++] = (struct http_lane_part){middle, sent.end};
    lane->splits[lane->split_count++] = (struct http_lane_part){sent.begin, middle};
}

/* ---- outcomes ---------------------------------------------------------------------------------
 */

static void http_lane_fail(struct http_lane *lane, const struct http_response *response) {
    const struct http_client_request *request = &lane->upload.request;
    char quoted[HTTP_TEXT_LEN], wait[48] = "";
    const char *advice = http_outcome_advice(response->status);
    http_outcome_quote(response->body, response->body_len, quoted);
    if (request->retry_after_s > 0) {
        snprintf(wait, sizeof wait, ", asks to wait %lld s", (long long)request->retry_after_s);
    }
    (void)sink_batch_fail(lane->lanes->batch, ERR_REFUSED, "status %ld%s%s%s%s%s", response->status,
                          wait, *advice ? ": " : "", advice, *quoted ? ": " : "", quoted);
}

/* A target that is overloaded says how long it wants to be left alone. */
static void http_lane_note_wait(struct http_lane *lane) {
    int64_t wait_ms = lane->upload.request.retry_after_s;
    wait_ms = wait_ms < RETRY_AFTER_MS / 1000 ? wait_ms * 1000 : RETRY_AFTER_MS;
    if (wait_ms > 0) {
        lane->lanes->not_before_ms = clock_ms() + wait_ms;
        lane->lanes->start_until_ms = 0;
    }
}

static void http_lane_accept(struct http_lane *lane, const struct http_response *response) {
    struct http_range range = http_lane_range(lane, &lane->sent);
    const struct http_format *format = lane->lanes->target->format;
    lane->doubts = 0;
    if (format->settle) {
        lane->ended = format->settle(response, &range) != HTTP_ACCEPTED;
        return;
    }
    for (size_t i = 0; i < range.count; i++) {
        sink_batch_accept(range.batch, range.indices[i]);
    }
}

static void http_lane_refuse(struct http_lane *lane, const struct http_response *response) {
    char quoted[HTTP_TEXT_LEN];
    if (lane->sent.end - lane->sent.begin > 1) {
        http_lane_split(lane);
        return;
    }
    http_outcome_quote(response->body, response->body_len, quoted);
    sink_batch_reject(lane->lanes->batch, lane->indices[lane->sent.begin], "status %ld%s%s",
                      response->status, *quoted ? ": " : "", quoted);
}

/* One message may be the cause: it is isolated like a refused one, and retried. Other messages
 * then do not wait for it, unless all messages must stay in order. */
static void http_lane_doubt(struct http_lane *lane, const struct http_response *response) {
    if (++lane->doubts > DOUBTS_MAX) {
        http_lane_fail(lane, response);
        lane->ended = true;
    } else if (lane->sent.end - lane->sent.begin > 1) {
        http_lane_split(lane);
    } else {
        http_lane_fail(lane, response);
        lane->ended = lane->lanes->count == 1;
    }
}

static enum http_outcome http_lane_judge(const struct http_lane *lane,
                                         const struct http_response *response) {
    const struct http_format *format = lane->lanes->target->format;
    enum http_outcome outcome = http_outcome_of_status(response->status);
    return outcome != HTTP_ACCEPTED && format->judge ? format->judge(response) : outcome;
}

/* There is no whole response. */
static void http_lane_explain(const struct http_lane *lane,
                              const struct http_client_request *request) {
    char status[48] = "";
    if (request->status > 0) {
        snprintf(status, sizeof status, "status %ld, then: ", request->status);
    }
    (void)sink_batch_fail(lane->lanes->batch, request->result, "%s%s", status, request->fault);
}

static void http_lane_settle(struct http_lane *lane) {
    const struct http_client_request *request = &lane->upload.request;
    struct http_response response = {.status = request->status,
                                     .body = request->response.len ? request->response.data : "",
                                     .body_len = request->response.len};
    if (request->result != ERR_OK) {
        http_lane_explain(lane, request);
        lane->ended = true;
        return;
    }
    switch (http_lane_judge(lane, &response)) {
    case HTTP_ACCEPTED:
        http_lane_accept(lane, &response);
        break;
    case HTTP_REFUSED:
        http_lane_refuse(lane, &response);
        break;
    case HTTP_DOUBTFUL:
        http_lane_doubt(lane, &response);
        break;
    case HTTP_FAILED:
        http_lane_fail(lane, &response);
        http_lane_note_wait(lane);
        lane->ended = true;
        break;
    }
}

static void http_lane_done(struct http_client_request *request, void *context) {
    struct http_lane *lane = context;
    lane->lanes->busy--;
    http_lane_settle(lane);
    buffer_fini(&request->response);
    http_lane_advance(lane);
}

/* ---- a batch ----------------------------------------------------------------------------------
 */

/* Nothing, unless the write is over before its time. */
static void http_lanes_cancel(struct http_lanes *lanes) {
    for (size_t i = 0; lanes->busy > 0 && i < lanes->count; i++) {
        struct http_client_request *request = &lanes->items[i].upload.request;
        if (request->transfer) {
            http_client_cancel_request(lanes->client, request);
            buffer_fini(&request->response);
            (void)sink_batch_fail(lanes->batch, ERR_CANCELED, "the sink stops");
            lanes->busy--;
        }
    }
}

enum err http_lanes_write(struct http_lanes *lanes, struct sink_batch *batch) {
    int64_t now_ms = clock_ms();
    assert(lanes->busy == 0);
    if (now_ms < lanes->not_before_ms) {
        return sink_batch_fail(batch, ERR_BUSY, "the target asked to wait, %lld s are left",
                               (long long)((lanes->not_before_ms - now_ms + 999) / 1000));
    }
    if (http_lanes_reserve(lanes, batch->count) != ERR_OK) {
        return sink_batch_fail(batch, ERR_MEMORY, "out of memory");
    }
    lanes->batch = batch;
    lanes->start_until_ms = now_ms + START_MS;
    http_lanes_share(lanes, batch);
    for (size_t i = 0; i < lanes->count; i++) {
        http_lane_advance(&lanes->items[i]);
    }
    while (lanes->busy > 0 && !sink_batch_is_over(batch)) { /* bounded by the timeouts */
        http_client_poll(lanes->client, POLL_MS);
    }
    http_lanes_cancel(lanes);
    lanes->batch = NULL;
    return *batch->error ? ERR_UNAVAILABLE : ERR_OK;
}
