/* Owns the queue of this node's changes, the two Redis connections they travel by, and who listens.
 * One thread, but for what the header says. Must not know how news are shown. */
#include "cluster/news.h"

#include <assert.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/json_memory.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/text.h"
#include "net/redis.h"
#include "news_register.h"

#define QUEUE_MAX          65536
#define FLUSH_MS           100    /* so long news may wait for others to go with them */
#define LOOK_MS            1000   /* at who listens, and at the register */
#define CALLS_RETRY_MS     5000   /* of the channel that only makes it sooner */
#define LISTENING_TTL      "5000" /* ms of the key, without a listener to set it anew */
#define HEARD_BY_ALL_MS    1500   /* after the key was set every node has looked for it */
#define BATCH_MAX          500
#define BATCH_BYTES_MAX    ((size_t)256 * 1024)
#define BATCHES_PER_FLUSH  64
#define MESSAGES_PER_TURN  256
#define SUBSCRIBE_RETRY_MS 500
#define RECENT_MS          3000 /* what has changed since is told to who begins to listen */

/* One change of a client, or a notice about it, until it is told. */
struct note {
    int64_t at_ms;
    enum client_state from, to;
    int64_t version;
    char *message;   /* of a notice; NULL: it is a change */
    char reason[96]; /* of a notice: its code */
    char id[];
};

struct entry {
    struct news_listener listener;
    int64_t since_ms;
    bool complete; /* was told that it hears the whole fleet */
};

struct news {
    const struct conf *conf;
    const char *redis_url;
    news_recent *recent; /* NULL: none */
    void *recent_context;
    char *channel, *call_channel, *key;
    char self[TEXT_ID_LEN]; /* so that a node knows its own batches */
    struct queue *notes;
    int wake_fd;
    atomic_bool stopping;
    atomic_bool wanted; /* by anybody in the fleet */
    atomic_llong lost;  /* notes that found the queue full */

    pthread_mutex_t lock; /* guards entries */
    struct entry entries[NEWS_LISTENERS_MAX];
    atomic_size_t entry_count;

    /* The thread's own. */
    struct redis *talk;       /* key and PUBLISH */
    struct redis *subscribed; /* NULL while nobody listens here */
    struct redis *calls;      /* of others who begin to listen */
    int64_t calls_at_ms;      /* when its connection is tried again */
    bool called;              /* the others were told that somebody listens here */
    int64_t look_at_ms, flushed_at_ms, subscribe_at_ms;
    int64_t unpublished; /* that did not get through to the other nodes, which do not know it yet */
    int64_t hearing_since_ms; /* 0: the channel is not heard */
    bool was_deaf;            /* listeners were told that Redis is away */
    struct news_register *nodes;
};

const char *news_kind_name(enum news_kind kind) {
    static const char *const names[] = {"client", "node", "leader", "notice", "dropped", "remark"};
    assert((size_t)kind < sizeof(names) / sizeof(names[0]));
    return names[kind];
}

/* ---- life ------------------------------------------------------------------------------------ */

static char *joined(const char *prefix, const char *name) {
    char *text = NULL;
    return asprintf(&text, "%s%s", prefix, name) < 0 ? NULL : text;
}

struct news *news_create(const struct conf *conf, struct store *store, const char *redis_url) {
    struct news *news = calloc(1, sizeof(*news));
    if (news == NULL) {
        return NULL;
    }
    pthread_mutex_init(&news->lock, NULL);
    news->conf = conf;
    news->redis_url = redis_url;
    news->channel = joined(conf->key_prefix, "mqtt_fleet:events");
    news->call_channel = joined(conf->key_prefix, "mqtt_fleet:listen");
    news->key = joined(conf->key_prefix, "mqtt_fleet:listening");
    text_random_id(news->self);
    news->notes = queue_create(QUEUE_MAX);
    news->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    news->talk = redis_create(redis_url, conf->redis_timeout_ms);
    news->calls = redis_create(redis_url, conf->redis_timeout_ms);
    news->nodes = news_register_create(store, conf->heartbeat_ttl_ms);
    if (!news->channel || !news->call_channel || !news->key || !news->notes || news->wake_fd < 0 ||
        !news->talk || !news->calls || !news->nodes) {
        news_destroy(news);
        return NULL;
    }
    return news;
}

void news_on_call(struct news *news, news_recent *recent, void *context) {
    news->recent = recent;
    news->recent_context = context;
}

/* NULL is legal. */
static void note_free(struct note *note) {
    if (note != NULL) {
        free(note->message);
        free(note);
    }
}

static struct note *note_take(struct news *news) {
    void *item = NULL;
    return queue_pop(news->notes, &item, 0) == ERR_OK ? item : NULL;
}

void news_destroy(struct news *news) {
    if (news == NULL) {
        return;
    }
    for (size_t i = 0; i < atomic_load(&news->entry_count); i++) {
        news->entries[i].listener.forget(news->entries[i].listener.context);
    }
    for (struct note *note; news->notes && (note = note_take(news)) != NULL;) {
        note_free(note);
    }
    queue_destroy(news->notes);
    redis_destroy(news->talk);
    redis_destroy(news->calls);
    redis_destroy(news->subscribed);
    news_register_destroy(news->nodes);
    if (news->wake_fd >= 0) {
        close(news->wake_fd);
    }
    free(news->channel);
    free(news->call_channel);
    free(news->key);
    pthread_mutex_destroy(&news->lock);
    free(news);
}

static void wake(struct news *news) {
    (void)eventfd_write(news->wake_fd, 1);
}

/* ---- from outside ---------------------------------------------------------------------------- */

/* NULL: out of memory. */
static struct note *note_create(const char *id, const char *reason) {
    size_t id_len = strlen(id);
    struct note *note = calloc(1, sizeof(*note) + id_len + 1);
    if (note != NULL) {
        note->at_ms = clock_wall_ms();
        snprintf(note->reason, sizeof(note->reason), "%s", reason);
        memcpy(note->id, id, id_len + 1);
    }
    return note;
}

/* Takes ownership; NULL counts as lost. */
static void note_push(struct news *news, struct note *note) {
    if (note == NULL || queue_push(news->notes, note) != ERR_OK) {
        note_free(note);
        atomic_fetch_add(&news->lost, 1);
    }
}

void news_client(struct news *news, const char *id, enum client_state from, enum client_state to,
                 const char *reason, int64_t version) {
    if (!atomic_load_explicit(&news->wanted, memory_order_relaxed)) {
        return;
    }
    bool shown_alike = strcmp(client_state_shown(from), client_state_shown(to)) == 0;
    if (to == CLIENT_CLOSING || (shown_alike && from != to)) {
        return;
    }
    struct note *note = note_create(id, reason);
    if (note != NULL) {
        note->from = from;
        note->to = to;
        note->version = version;
    }
    note_push(news, note);
}

void news_notice(struct news *news, const char *id, const char *code, const char *message) {
    if (!atomic_load_explicit(&news->wanted, memory_order_relaxed)) {
        return;
    }
    struct note *note = note_create(id, code);
    if (note != NULL && (note->message = text_dup(message)) == NULL) {
        note_free(note);
        note = NULL;
    }
    note_push(news, note);
}

enum err news_listen(struct news *news, const struct news_listener *listener) {
    enum err result = ERR_FULL;
    pthread_mutex_lock(&news->lock);
    size_t n = atomic_load(&news->entry_count);
    if (n < NEWS_LISTENERS_MAX) {
        news->entries[n] = (struct entry){.listener = *listener, .since_ms = clock_ms()};
        atomic_store(&news->entry_count, n + 1);
        atomic_store(&news->wanted, true);
        result = ERR_OK;
    }
    pthread_mutex_unlock(&news->lock);
    wake(news);
    return result;
}

/* ---- telling the listeners of this node ------------------------------------------------------ */

static void tell(struct news *news, const struct news_item *item) {
    pthread_mutex_lock(&news->lock);
    for (size_t i = 0; i < atomic_load(&news->entry_count); i++) {
        news->entries[i].listener.heard(news->entries[i].listener.context, item);
    }
    pthread_mutex_unlock(&news->lock);
}

static void tell_register(void *context, const struct news_item *item) {
    tell(context, item);
}

static void tell_lost(struct news *news, int64_t count) {
    tell(news, &(struct news_item){
                   .kind = NEWS_DROPPED, .subject = "", .state = "", .text = "", .count = count});
}

static void remark(struct news *news, const char *text) {
    tell(news, &(struct news_item){.kind = NEWS_REMARK, .subject = "", .state = "", .text = text});
}

static void forget_those_over(struct news *news) {
    pthread_mutex_lock(&news->lock);
    size_t n = atomic_load(&news->entry_count);
    for (size_t i = n; i > 0; i--) {
        struct news_listener *listener = &news->entries[i - 1].listener;
        if (listener->over(listener->context)) {
            listener->forget(listener->context);
            news->entries[i - 1] = news->entries[--n];
        }
    }
    atomic_store(&news->entry_count, n);
    pthread_mutex_unlock(&news->lock);
}

static void tell_complete(struct news *news, int64_t now_ms) {
    static const struct news_item item = {.kind = NEWS_REMARK,
                                          .subject = "",
                                          .state = "",
                                          .text = "listening to the whole fleet",
                                          .complete = true};
    pthread_mutex_lock(&news->lock);
    for (size_t i = 0; i < atomic_load(&news->entry_count); i++) {
        struct entry *entry = &news->entries[i];
        if (!entry->complete && news->hearing_since_ms > 0 &&
            now_ms - news->hearing_since_ms >= HEARD_BY_ALL_MS) {
            entry->complete = true;
            entry->listener.heard(entry->listener.context, &item);
        }
    }
    pthread_mutex_unlock(&news->lock);
}

/* ---- this node's own ------------------------------------------------------------------------- */

/* A client that is closed waits for another node, unless it is gone for good. */
static const char *shown(const struct note *note) {
    bool deleted = note->to == CLIENT_CLOSED && strcmp(note->reason, "deleted") == 0;
    return deleted ? "deleted" : client_state_shown(note->to);
}

static json_t *notice_json(const struct news *news, const struct note *note) {
    char at[CLOCK_RFC3339_LEN];
    json_t *id = json_string(note->id);
    json_t *message = json_string(note->message);
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:o}", "at", clock_rfc3339(note->at_ms, at), "kind",
                     "notice", "id", id ? id : json_null(), "node", news->conf->node_name, "code",
                     note->reason, "message", message ? message : json_null());
}

static json_t *change_json(const struct news *news, const struct note *note) {
    char at[CLOCK_RFC3339_LEN];
    json_t *id = json_string(note->id);
    json_t *reason = json_string(note->reason);
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:s, s:o, s:I}", "at",
                     clock_rfc3339(note->at_ms, at), "kind", "client", "id", id ? id : json_null(),
                     "node", news->conf->node_name, "from", client_state_shown(note->from), "state",
                     shown(note), "reason", reason ? reason : json_null(), "version",
                     (json_int_t)note->version);
}

static const char *text_of(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

/* What was published of a client, also by another node, which may be one that tells no version. */
static void tell_client(struct news *news, const json_t *event, const char *text) {
    bool is_notice = strcmp(text_of(event, "kind"), news_kind_name(NEWS_NOTICE)) == 0;
    const json_t *version = json_object_get(event, "version");
    tell(news,
         &(struct news_item){.kind = is_notice ? NEWS_NOTICE : NEWS_CLIENT,
                             .subject = text_of(event, "id"),
                             .state = is_notice ? "" : text_of(event, "state"),
                             .text = text,
                             .version = version != NULL ? json_integer_value(version) : INT64_MAX,
                             .same = !is_notice &&
                                     strcmp(text_of(event, "from"), text_of(event, "state")) == 0});
}

static bool publish(struct news *news, const struct buffer *batch) {
    const char *argv[] = {"PUBLISH", news->channel, batch->data};
    struct redis_reply *reply = NULL;
    bool done = !batch->failed && redis_command(news->talk, 3, argv, NULL, &reply) == ERR_OK;
    if (!done) {
        log_event(LOG_DEBUG, "news_not_published", KS("detail", redis_error(news->talk)));
    }
    redis_reply_free(reply);
    return done;
}

/* {"from":self,"lost":n,"events":[...]}: at most BATCH_MAX. False: the queue is empty. What does
 * not get through is lost to the other nodes, which hear of it with the next that does. */
static bool flush_batch(struct news *news, int64_t lost) {
    struct buffer batch;
    size_t n = 0;
    lost += news->unpublished;
    buffer_init(&batch);
    buffer_printf(&batch, "{\"from\":\"%s\",\"lost\":%lld,\"events\":[", news->self,
                  (long long)lost);
    struct note *note = NULL;
    while (n < BATCH_MAX && batch.len < BATCH_BYTES_MAX && (note = note_take(news)) != NULL) {
        bool is_notice = note->message != NULL;
        json_t *json = (is_notice ? notice_json : change_json)(news, note);
        char *text = json != NULL ? json_text(json, JSON_COMPACT) : NULL;
        if (text != NULL) {
            tell_client(news, json, text);
            buffer_append_str(&batch, n++ > 0 ? "," : "");
            buffer_append_str(&batch, text);
        }
        free(text);
        json_decref(json);
        note_free(note);
    }
    buffer_append_str(&batch, "]}");
    if (n > 0 || lost > 0) {
        news->unpublished = publish(news, &batch) ? 0 : lost + (int64_t)n;
    }
    buffer_fini(&batch);
    return n > 0;
}

static void flush(struct news *news) {
    int64_t lost = atomic_exchange(&news->lost, 0);
    if (lost > 0) {
        tell_lost(news, lost);
    }
    for (int i = 0; i < BATCHES_PER_FLUSH && flush_batch(news, lost); i++) {
        lost = 0;
    }
}

/* ---- from the other nodes -------------------------------------------------------------------- */

static void hear(struct news *news, const char *payload) {
    json_t *batch = json_of_text(payload, strlen(payload), 0);
    const json_t *events = json_object_get(batch, "events");
    int64_t lost = json_integer_value(json_object_get(batch, "lost"));
    size_t i;
    json_t *event;
    if (strcmp(text_of(batch, "from"), news->self) != 0) {
        if (lost > 0) {
            tell_lost(news, lost);
        }
        json_array_foreach(events, i, event) {
            char *text = json_is_object(event) ? json_text(event, JSON_COMPACT) : NULL;
            if (text != NULL) {
                tell_client(news, event, text);
            }
            free(text);
        }
    }
    json_decref(batch);
}

static void deaf(struct news *news, int64_t now_ms) {
    news->subscribe_at_ms = now_ms + SUBSCRIBE_RETRY_MS;
    if (news->hearing_since_ms > 0 && !news->was_deaf) {
        news->was_deaf = true;
        remark(news, "Redis does not answer: changes of other nodes are not heard");
    }
    news->hearing_since_ms = 0;
}

static void hearing(struct news *news, int64_t now_ms) {
    if (news->hearing_since_ms == 0) {
        news->hearing_since_ms = now_ms;
        if (news->was_deaf) {
            news->was_deaf = false;
            tell_lost(news, 0);
        }
    }
}

/* Nobody listens here: the subscription goes. */
static void stop_hearing(struct news *news) {
    redis_destroy(news->subscribed);
    news->subscribed = NULL;
    news->hearing_since_ms = 0;
    news->was_deaf = false;
    news->subscribe_at_ms = 0;
}

static void hear_all(struct news *news, int64_t now_ms) {
    if (now_ms < news->subscribe_at_ms) {
        return;
    }
    if (news->subscribed == NULL) {
        news->subscribed = redis_create(news->redis_url, news->conf->redis_timeout_ms);
    }
    for (int i = 0; news->subscribed != NULL && i < MESSAGES_PER_TURN; i++) {
        char *payload = NULL;
        enum err result = redis_subscribed_message(news->subscribed, news->channel, 0, &payload);
        if (result == ERR_OK && payload != NULL) {
            hear(news, payload);
        }
        free(payload);
        if (result != ERR_OK) {
            (result == ERR_TIMEOUT ? hearing : deaf)(news, now_ms);
            return;
        }
    }
}

/* ---- who listens ----------------------------------------------------------------------------- */

static void say_listening(struct news *news) {
    const char *argv[] = {"SET", news->key, news->conf->node_name, "PX", LISTENING_TTL};
    struct redis_reply *reply = NULL;
    if (redis_command(news->talk, 5, argv, NULL, &reply) != ERR_OK) {
        log_event(LOG_DEBUG, "news_not_published", KS("detail", redis_error(news->talk)));
    }
    redis_reply_free(reply);
}

/* Once the channel is heard, so that nothing of what the others tell then is missed. */
static void call_others(struct news *news) {
    const char *argv[] = {"PUBLISH", news->call_channel, news->conf->node_name};
    struct redis_reply *reply = NULL;
    if (!news->called && news->hearing_since_ms > 0) {
        news->called = redis_command(news->talk, 3, argv, NULL, &reply) == ERR_OK;
    }
    redis_reply_free(reply);
}

/* Somebody begins to listen: what changes from now on is told, and what has just changed. The key
 * is there already, should it be looked for next. */
static void hear_calls(struct news *news, int64_t now_ms) {
    enum err result = now_ms >= news->calls_at_ms ? ERR_OK : ERR_TIMEOUT;
    bool called = false;
    for (int i = 0; result == ERR_OK && i < MESSAGES_PER_TURN; i++) {
        char *payload = NULL;
        result = redis_subscribed_message(news->calls, news->call_channel, 0, &payload);
        if (result == ERR_OK && payload != NULL) {
            atomic_store(&news->wanted, true);
            called = called || strcmp(payload, news->conf->node_name) != 0;
        }
        free(payload);
    }
    if (called && news->recent) {
        news->recent(news->recent_context, clock_wall_ms() - RECENT_MS);
    }
    if (result != ERR_OK && result != ERR_TIMEOUT) {
        news->calls_at_ms = now_ms + CALLS_RETRY_MS; /* the look finds them meanwhile */
    }
}

/* Redis away: what was true before. */
static void look_for_listeners(struct news *news) {
    const char *argv[] = {"EXISTS", news->key};
    struct redis_reply *reply = NULL;
    if (redis_command(news->talk, 2, argv, NULL, &reply) == ERR_OK) {
        bool elsewhere = redis_reply_int(reply) > 0;
        pthread_mutex_lock(&news->lock); /* somebody may begin to listen just now */
        atomic_store(&news->wanted, elsewhere || atomic_load(&news->entry_count) > 0);
        pthread_mutex_unlock(&news->lock);
    }
    redis_reply_free(reply);
}

static void look(struct news *news, int64_t now_ms) {
    news->look_at_ms = now_ms + LOOK_MS;
    forget_those_over(news);
    if (atomic_load(&news->entry_count) > 0) {
        say_listening(news);
        news_register_look(news->nodes, tell_register, news);
        tell_complete(news, now_ms);
    } else {
        news->called = false;
        stop_hearing(news);
        news_register_forget(news->nodes);
        look_for_listeners(news);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void wait_for_something(struct news *news, int64_t now_ms) {
    bool busy = atomic_load(&news->wanted);
    int64_t until_ms = busy ? news->flushed_at_ms + FLUSH_MS : news->look_at_ms;
    int64_t wait_ms = until_ms > now_ms ? until_ms - now_ms : 0;
    struct pollfd fds[] = {
        {.fd = news->wake_fd, .events = POLLIN},
        {.fd = news->subscribed != NULL ? redis_fd(news->subscribed) : -1, .events = POLLIN},
        {.fd = now_ms >= news->calls_at_ms ? redis_fd(news->calls) : -1, .events = POLLIN}};
    eventfd_t count;
    if (poll(fds, 3, (int)(wait_ms < LOOK_MS ? wait_ms : LOOK_MS)) > 0 &&
        (fds[0].revents & POLLIN)) {
        (void)eventfd_read(news->wake_fd, &count);
        news->look_at_ms = 0;
    }
}

void *news_run(void *argument) {
    struct news *news = argument;
    while (!atomic_load(&news->stopping)) {
        int64_t now_ms = clock_ms();
        hear_calls(news, now_ms);
        if (now_ms >= news->look_at_ms) {
            look(news, now_ms);
        }
        if (atomic_load(&news->entry_count) > 0) {
            hear_all(news, now_ms);
            call_others(news);
        }
        if (now_ms - news->flushed_at_ms >= FLUSH_MS) {
            news->flushed_at_ms = now_ms;
            flush(news);
        }
        wait_for_something(news, clock_ms());
    }
    flush(news);
    return NULL;
}

void news_stop(struct news *news) {
    atomic_store(&news->stopping, true);
    wake(news);
}
