/* Owns a libcurl multi handle with its connection cache and a pool of easy handles. One thread at a
 * time. The only file that includes libcurl. Knows nothing of what the requests mean. */
#include "net/http_client.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <curl/curl.h>
#include "base/clock.h"

#define POOL_MAX    256L /* easy handles and idle connections kept */
#define KEEPALIVE_S 30L
#define POLL_MS_MAX 1000

struct http_client {
    CURLM *multi;
    CURL *pool[POOL_MAX];
    size_t pool_len;
    int64_t timeout_ms;
    size_t answer_bytes_max;
    const char *ca_file; /* NULL: the system's */
};

/* What libcurl gives back is told apart by this, which comes first in both. */
enum transfer { TRANSFER_EXCHANGE, TRANSFER_FEED };

/* One exchange under way. */
struct running {
    enum transfer transfer;
    CURL *easy;               /* NULL: not begun, or over */
    http_exchange_done *done; /* NULL: of http_client_run */
    void *context;
    struct curl_slist *headers;
    struct http_exchange *exchange;
    size_t answer_bytes_max;
};

enum err http_client_global_init(void) {
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? ERR_OK : ERR_UNAVAILABLE;
}

struct http_client *http_client_create(int64_t timeout_ms, size_t answer_bytes_max,
                                       const char *ca_file) {
    assert(timeout_ms > 0);
    struct http_client *client = calloc(1, sizeof *client);
    if (!client) {
        return NULL;
    }
    client->timeout_ms = timeout_ms;
    client->answer_bytes_max = answer_bytes_max;
    client->ca_file = ca_file && ca_file[0] ? ca_file : NULL;
    client->multi = curl_multi_init();
    if (!client->multi) {
        free(client);
        return NULL;
    }
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, POOL_MAX);
    return client;
}

void http_client_destroy(struct http_client *client) {
    if (!client) {
        return;
    }
    for (size_t i = 0; i < client->pool_len; i++) {
        curl_easy_cleanup(client->pool[i]);
    }
    curl_multi_cleanup(client->multi);
    free(client);
}

/* --- one exchange --- */

/* A short count tells libcurl to give the transfer up. */
static size_t take_answer(char *data, size_t size, size_t count, void *argument) {
    struct running *running = argument;
    struct buffer *answer = &running->exchange->answer;
    size_t len = size * count;
    if (len > running->answer_bytes_max - answer->len) {
        return 0;
    }
    buffer_append(answer, data, len);
    return answer->failed ? 0 : len;
}

/* Header lines of ours first: what is sent is JSON, and at once, without asking for leave. */
static enum err build_headers(struct running *running) {
    const struct http_exchange *exchange = running->exchange;
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    if (list && exchange->body) {
        struct curl_slist *longer = curl_slist_append(list, "Content-Type: application/json");
        if (!longer) {
            curl_slist_free_all(list);
        }
        list = longer;
    }
    for (size_t i = 0; list && exchange->headers && exchange->headers[i]; i++) {
        struct curl_slist *longer = curl_slist_append(list, exchange->headers[i]);
        if (!longer) {
            curl_slist_free_all(list);
        }
        list = longer;
    }
    running->headers = list;
    return list ? ERR_OK : ERR_MEMORY;
}

static bool has_body(const struct http_exchange *exchange) {
    return exchange->body || strcmp(exchange->method, "POST") == 0 ||
           strcmp(exchange->method, "PUT") == 0 || strcmp(exchange->method, "PATCH") == 0;
}

/* The body is borrowed by libcurl until the exchange is over. */
static void set_request(CURL *easy, struct running *running) {
    const struct http_exchange *exchange = running->exchange;
    if (has_body(exchange)) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(exchange->body ? exchange->body_len : 0));
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, exchange->body ? exchange->body : "");
    } else if (strcmp(exchange->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, exchange->method);
    curl_easy_setopt(easy, CURLOPT_URL, exchange->url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, running->headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, running);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, running);
}

static void set_limits(CURL *easy, int64_t timeout_ms) {
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_S);
}

static void set_trust(CURL *easy, const struct http_client *client) {
    if (client->ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
}

static CURL *pool_take(struct http_client *client) {
    if (client->pool_len == 0) {
        return curl_easy_init();
    }
    CURL *easy = client->pool[--client->pool_len];
    curl_easy_reset(easy);
    return easy;
}

static void pool_give(struct http_client *client, CURL *easy) {
    if (client->pool_len < POOL_MAX) {
        client->pool[client->pool_len++] = easy;
    } else {
        curl_easy_cleanup(easy);
    }
}

/* Sets the result and gives back what the exchange used. */
static void finish(struct http_client *client, struct running *running, enum err result) {
    long sent_bytes = 0;
    running->exchange->result = result;
    if (running->easy) {
        curl_easy_getinfo(running->easy, CURLINFO_RESPONSE_CODE, &running->exchange->status);
        curl_easy_getinfo(running->easy, CURLINFO_REQUEST_SIZE, &sent_bytes);
        curl_multi_remove_handle(client->multi, running->easy);
        curl_easy_setopt(running->easy, CURLOPT_HTTPHEADER, NULL);
        pool_give(client, running->easy);
    }
    running->exchange->unsent = sent_bytes == 0;
    curl_slist_free_all(running->headers);
    running->easy = NULL;
    running->headers = NULL;
}

static void begin(struct http_client *client, struct running *running, int64_t timeout_ms) {
    running->exchange->status = 0;
    running->exchange->result = ERR_OK;
    running->answer_bytes_max = client->answer_bytes_max;
    buffer_init(&running->exchange->answer);
    running->easy = build_headers(running) == ERR_OK ? pool_take(client) : NULL;
    if (!running->easy) {
        finish(client, running, ERR_MEMORY);
        return;
    }
    set_request(running->easy, running);
    set_limits(running->easy, timeout_ms);
    set_trust(running->easy, client);
    if (curl_multi_add_handle(client->multi, running->easy) != CURLM_OK) {
        finish(client, running, ERR_UNAVAILABLE);
    }
}

/* --- all of them --- */

static enum err result_of(CURLcode code, const struct http_exchange *exchange) {
    if (code == CURLE_OK) {
        return ERR_OK;
    }
    if (code == CURLE_OUT_OF_MEMORY || exchange->answer.failed) {
        return ERR_MEMORY;
    }
    return code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_UNAVAILABLE;
}

static void reap_done(struct http_client *client) {
    int queued = 0;
    const CURLMsg *done = curl_multi_info_read(client->multi, &queued);
    while (done) { /* bounded by the number of exchanges */
        struct running *running = NULL;
        CURLcode code = done->data.result;
        curl_easy_getinfo(done->easy_handle, CURLINFO_PRIVATE, &running);
        finish(client, running, result_of(code, running->exchange));
        done = curl_multi_info_read(client->multi, &queued);
    }
}

static void drive(struct http_client *client, int64_t deadline_ms) {
    int under_way = 1;
    int64_t left_ms = client->timeout_ms;
    while (under_way > 0 && left_ms > 0) { /* bounded by the deadline */
        if (curl_multi_perform(client->multi, &under_way) != CURLM_OK) {
            return;
        }
        reap_done(client);
        left_ms = deadline_ms - clock_ms();
        if (under_way > 0 && left_ms > 0) {
            int wait_ms = left_ms < POLL_MS_MAX ? (int)left_ms : POLL_MS_MAX;
            curl_multi_poll(client->multi, NULL, 0, wait_ms, NULL);
        }
    }
}

void http_client_set_timeout(struct http_client *client, int64_t timeout_ms) {
    assert(timeout_ms > 0);
    client->timeout_ms = timeout_ms;
}

void http_client_run(struct http_client *client, struct http_exchange *exchanges, size_t n) {
    int64_t deadline_ms = clock_ms() + client->timeout_ms;
    struct running *running = calloc(n ? n : 1, sizeof *running);
    for (size_t i = 0; i < n; i++) {
        if (!running) {
            exchanges[i].result = ERR_MEMORY;
            buffer_init(&exchanges[i].answer);
            continue;
        }
        running[i].exchange = &exchanges[i];
        begin(client, &running[i], client->timeout_ms);
    }
    if (!running) {
        return;
    }
    drive(client, deadline_ms);
    for (size_t i = 0; i < n; i++) {
        if (running[i].easy) {
            finish(client, &running[i], ERR_TIMEOUT);
        }
    }
    free(running);
}

/* --- exchanges that are followed --- */

enum err http_exchange_begin(struct http_client *client, struct http_exchange *exchange,
                             int64_t timeout_ms, http_exchange_done *done, void *context) {
    struct running *running = calloc(1, sizeof *running);
    buffer_init(&exchange->answer);
    exchange->transfer = NULL;
    if (!running) {
        return ERR_MEMORY;
    }
    *running = (struct running){.exchange = exchange, .done = done, .context = context};
    begin(client, running, timeout_ms > 0 ? timeout_ms : 1);
    if (!running->easy) {
        free(running);
        return exchange->result;
    }
    exchange->transfer = running;
    return ERR_OK;
}

void http_exchange_abandon(struct http_client *client, struct http_exchange *exchange) {
    struct running *running = exchange->transfer;
    if (running) {
        exchange->transfer = NULL;
        finish(client, running, ERR_CANCELED);
        free(running);
    }
}

static void exchange_is_done(struct http_client *client, struct running *running, CURLcode code) {
    struct http_exchange *exchange = running->exchange;
    http_exchange_done *done = running->done;
    void *context = running->context;
    finish(client, running, result_of(code, exchange));
    free(running);
    exchange->transfer = NULL;
    done(exchange, context);
}

/* --- feeds --- */

struct http_feed {
    enum transfer transfer;
    struct http_client *client;
    CURL *easy;
    struct curl_slist *headers;
    http_feed_take *take;
    void *context;
    bool over;
    long status;
};

static size_t take_feed(char *data, size_t size, size_t count, void *argument) {
    struct http_feed *feed = argument;
    long status = 0;
    curl_easy_getinfo(feed->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        return size * count;
    }
    return feed->take(feed->context, data, size * count) ? size * count : 0;
}

struct http_feed *http_feed_open(struct http_client *client, const char *url,
                                 const char *const *headers, long silence_s, http_feed_take *take,
                                 void *context) {
    struct http_feed *feed = calloc(1, sizeof *feed);
    struct http_exchange exchange = {.method = "GET", .url = url, .headers = headers};
    struct running running = {.exchange = &exchange};
    if (!feed || build_headers(&running) != ERR_OK) {
        free(feed);
        return NULL;
    }
    *feed = (struct http_feed){.transfer = TRANSFER_FEED,
                               .client = client,
                               .headers = running.headers,
                               .take = take,
                               .context = context};
    feed->easy = pool_take(client);
    if (!feed->easy) {
        http_feed_close(feed);
        return NULL;
    }
    set_request(feed->easy, &running);
    set_limits(feed->easy, client->timeout_ms);
    set_trust(feed->easy, client);
    curl_easy_setopt(feed->easy, CURLOPT_TIMEOUT_MS, 0L);
    curl_easy_setopt(feed->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(feed->easy, CURLOPT_LOW_SPEED_TIME, silence_s);
    curl_easy_setopt(feed->easy, CURLOPT_WRITEFUNCTION, take_feed);
    curl_easy_setopt(feed->easy, CURLOPT_WRITEDATA, feed);
    curl_easy_setopt(feed->easy, CURLOPT_PRIVATE, feed);
    feed->over = curl_multi_add_handle(client->multi, feed->easy) != CURLM_OK;
    return feed;
}

bool http_feed_is_over(const struct http_feed *feed, long *status) {
    *status = feed->status;
    return feed->over;
}

void http_feed_close(struct http_feed *feed) {
    if (!feed) {
        return;
    }
    if (feed->easy) { /* an answer cut off leaves a connection that is of no more use */
        curl_multi_remove_handle(feed->client->multi, feed->easy);
        curl_easy_cleanup(feed->easy);
    }
    curl_slist_free_all(feed->headers);
    free(feed);
}

static void transfer_is_done(struct http_client *client, CURL *easy, CURLcode code) {
    char *private = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    if (*(enum transfer *)(void *)private == TRANSFER_EXCHANGE) {
        exchange_is_done(client, (struct running *)(void *)private, code);
        return;
    }
    struct http_feed *feed = (struct http_feed *)(void *)private;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &feed->status);
    feed->over = true;
}

void http_client_follow(struct http_client *client, int64_t wait_ms) {
    int under_way = 0, queued = 0;
    curl_multi_poll(client->multi, NULL, 0, (int)wait_ms, NULL);
    (void)curl_multi_perform(client->multi, &under_way);
    const CURLMsg *done = curl_multi_info_read(client->multi, &queued);
    while (done) { /* bounded by the number of transfers */
        transfer_is_done(client, done->easy_handle, done->data.result);
        done = curl_multi_info_read(client->multi, &queued);
    }
}

void http_client_wake(struct http_client *client) {
    curl_multi_wakeup(client->multi);
}
