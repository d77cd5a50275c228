/* Owns the queue of this node's changes, the two Redis connections they travel by, and who listens.
 * One thread, but for what the header says. Must not know how news are shown. */
#include "cluster/events/event_bus.h"

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
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/telemetry/log.h"
#include "base/queue.h"
#include "base/text.h"
#include "net/redis/redis.h"
#include "topology_watch.h"

#define EVENT_BUS_QUEUE_MAX      65536
#define FLUSH_MS                 100    /* so long news may wait for others to go with them */
#define EVENT_BUS_CHECK_MS       1000   /* at who listens, and at the register */
#define ANNOUNCEMENTS_RETRY_MS   5000   /* of the channel that only makes it sooner */
#define LISTENING_TTL_MS         "5000" /* ms of the key, without a listener to set it anew */
#define LISTENING_SEEN_BY_ALL_MS 1500   /* after the key was set every node has looked for it */
#define BATCH_EVENTS_MAX         500
#define BATCH_BYTES_MAX          ((size_t)256 * 1024)
#define BATCHES_PER_FLUSH_MAX    64
#define MESSAGES_PER_TURN_MAX    256
#define SUBSCRIBE_RETRY_MS       500
#define RECENT_MS                3000 /* what has changed since is told to who begins to listen */

/* One change of a client, or a notice about it, until it is told. */
struct queued_event {
    int64_t at_ms;
    enum client_state from, to;
    int64_t version;
    char *notice_text; /* of a notice; NULL: it is a change */
    char reason[96];   /* of a notice: its code */
    char id[];
};

struct entry {
    struct event_bus_listener listener;
    int64_t since_ms;
    bool coverage_told; /* was told that it hears the whole fleet */
};

struct event_bus {
    const struct conf *conf;
    const char *redis_url;
    news_recent *recent; /* NULL: none */
    void *recent_context;
    char *events_channel, *announce_channel, *listening_key;
    char own_id[TEXT_ID_LEN]; /* so that a node knows its own batches */
    struct queue *queue;
    int wake_fd;
    atomic_bool stopping;
    atomic_bool wanted;      /* by anybody in the fleet */
    atomic_llong lost_count; /* notes that found the queue full */

    pthread_mutex_t lock; /* guards entries */
    struct entry entries[EVENT_BUS_LISTENERS_MAX];
    atomic_size_t entry_count;

    /* The thread's own. */
    struct redis *publisher;           /* key and PUBLISH */
    struct redis *subscriber;          /* NULL while nobody listens here */
    struct redis *announcements;       /* of others who begin to listen */
    int64_t announcements_retry_at_ms; /* when its connection is tried again */
    bool announced;                    /* the others were told that somebody listens here */
    int64_t check_at_ms, flushed_at_ms, subscribe_retry_at_ms;
    int64_t unpublished_count; /* that did not get through to the other nodes, which do not know it
                                  yet */
    int64_t subscribed_since_ms; /* 0: the channel is not heard */
    bool outage_told;            /* listeners were told that Redis is away */
    struct topology_watch *topology;
};

const char *event_bus_kind_name(enum event_bus_kind kind) {
    static const char *const names[] = {"client", "node", "leader", "notice", "dropped", "remark"};
    assert((size_t)kind < sizeof(names) / sizeof(names[0]));
    return names[kind];
}

/* ---- life ------------------------------------------------------------------------------------ */

static char *event_bus_concat(const char *prefix, const char *name) {
    char *text = NULL;
    return asprintf(&text, "%s%s", prefix, name) < 0 ? NULL : text;
}

struct event_bus *event_bus_create(const struct conf *conf, struct store *store,
                                   const char *redis_url) {
    struct event_bus *bus = calloc(1, sizeof(*bus));
    if (bus == NULL) {
        return NULL;
    }
    pthread_mutex_init(&bus->lock, NULL);
    bus->conf = conf;
    bus->redis_url = redis_url;
    bus->events_channel = event_bus_concat(conf->key_prefix, "mqtt_fleet:events");
    bus->announce_channel = event_bus_concat(conf->key_prefix, "mqtt_fleet:listen");
    bus->listening_key = event_bus_concat(conf->key_prefix, "mqtt_fleet:listening");
    text_random_id(bus->own_id);
    bus->queue = queue_create(EVENT_BUS_QUEUE_MAX);
    bus->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bus->publisher = redis_create(redis_url, conf->redis_timeout_ms);
    bus->announcements = redis_create(redis_url, conf->redis_timeout_ms);
    bus->topology = topology_watch_create(store, conf->heartbeat_ttl_ms);
    if (!bus->events_channel || !bus->announce_channel || !bus->listening_key || !bus->queue ||
        bus->wake_fd < 0 || !bus->publisher || !bus->announcements || !bus->topology) {
        event_bus_destroy(bus);
        return NULL;
    }
    return bus;
}

void news_on_call(struct event_bus *bus, news_recent *recent, void *context) {
    bus->recent = recent;
    bus->recent_context = context;
}

/* NULL is legal. */
static void event_bus_queued_free(struct queued_event *queued_event) {
    if (queued_event != NULL) {
        free(queued_event->notice_text);
        free(queued_event);
    }
}

static struct queued_event *event_bus_queued_take(struct event_bus *bus) {
    void *item = NULL;
    return queue_pop(bus->queue, &item, 0) == ERR_OK ? item : NULL;
}

void event_bus_destroy(struct event_bus *bus) {
    if (bus == NULL) {
        return;
    }
    for (size_t i = 0; i < atomic_load(&bus->entry_count); i++) {
        bus->entries[i].listener.release(bus->entries[i].listener.context);
    }
    for (struct queued_event *queued_event;
         bus->queue && (queued_event = event_bus_queued_take(bus)) != NULL;) {
        event_bus_queued_free(queued_event);
    }
    queue_destroy(bus->queue);
    redis_destroy(bus->publisher);
    redis_destroy(bus->announcements);
    redis_destroy(bus->subscriber);
    topology_watch_destroy(bus->topology);
    if (bus->wake_fd >= 0) {
        close(bus->wake_fd);
    }
    free(bus->events_channel);
    free(bus->announce_channel);
    free(bus->listening_key);
    pthread_mutex_destroy(&bus->lock);
    free(bus);
}

static void event_bus_wake(struct event_bus *bus) {
    (void)eventfd_write(bus->wake_fd, 1);
}

/* ---- from outside ---------------------------------------------------------------------------- */

/* NULL: out of memory. */
static struct queued_event *event_bus_queued_create(const char *id, const char *reason) {
    size_t id_len = strlen(id);
    struct queued_event *queued_event = calloc(1, sizeof(*queued_event) + id_len + 1);
    if (queued_event != NULL) {
        queued_event->at_ms = clock_wall_ms();
        snprintf(queued_event->reason, sizeof(queued_event->reason), "%s", reason);
        memcpy(queued_event->id, id, id_len + 1);
    }
    return queued_event;
}

/* Takes ownership; NULL counts as lost. */
static void event_bus_queued_push(struct event_bus *bus, struct queued_event *queued_event) {
    if (queued_event == NULL || queue_push(bus->queue, queued_event) != ERR_OK) {
        event_bus_queued_free(queued_event);
        atomic_fetch_add(&bus->lost_count, 1);
    }
}

void event_bus_post_change(struct event_bus *bus, const char *id, enum client_state from,
                           enum client_state to, const char *reason, int64_t version) {
    if (!atomic_load_explicit(&bus->wanted, memory_order_relaxed)) {
        return;
    }
    bool shown_alike = strcmp(client_state_shown(from), client_state_shown(to)) == 0;
    if (to == CLIENT_CLOSING || (shown_alike && from != to)) {
        return;
    }
    struct queued_event *queued_event = event_bus_queued_create(id, reason);
    if (queued_event != NULL) {
        queued_event->from = from;
        queued_event->to = to;
        queued_event->version = version;
    }
    event_bus_queued_push(bus, queued_event);
}

void event_bus_post_notice(struct event_bus *bus, const char *id, const char *code,
                           const char *message) {
    if (!atomic_load_explicit(&bus->wanted, memory_order_relaxed)) {
        return;
    }
    struct queued_event *queued_event = event_bus_queued_create(id, code);
    if (queued_event != NULL && (queued_event->notice_text = text_dup(message)) == NULL) {
        event_bus_queued_free(queued_event);
        queued_event = NULL;
    }
    event_bus_queued_push(bus, queued_event);
}

enum err event_bus_listen(struct event_bus *bus, const struct event_bus_listener *listener) {
    enum err result = ERR_FULL;
    pthread_mutex_lock(&bus->lock);
    size_t n = atomic_load(&bus->entry_count);
    if (n < EVENT_BUS_LISTENERS_MAX) {
        bus->entries[n] = (struct entry){.listener = *listener, .since_ms = clock_ms()};
        atomic_store(&bus->entry_count, n + 1);
        atomic_store(&bus->wanted, true);
        result = ERR_OK;
    }
    pthread_mutex_unlock(&bus->lock);
    event_bus_wake(bus);
    return result;
}

/* ---- telling the listeners of this node ------------------------------------------------------ */

static void event_bus_deliver(struct event_bus *bus, const struct event_bus_event *item) {
    pthread_mutex_lock(&bus->lock);
    for (size_t i = 0; i < atomic_load(&bus->entry_count); i++) {
        bus->entries[i].listener.on_event(bus->entries[i].listener.context, item);
    }
    pthread_mutex_unlock(&bus->lock);
}

static void event_bus_deliver_topology(void *context, const struct event_bus_event *item) {
    event_bus_deliver(context, item);
}

static void event_bus_deliver_lost(struct event_bus *bus, int64_t count) {
    event_bus_deliver(
        bus,
        &(struct event_bus_event){
            .kind = EVENT_BUS_DROPPED, .subject = "", .state = "", .text = "", .count = count});
}

static void event_bus_deliver_status(struct event_bus *bus, const char *text) {
    event_bus_deliver(bus, &(struct event_bus_event){
                               .kind = EVENT_BUS_STATUS, .subject = "", .state = "", .text = text});
}

static void event_bus_drop_closed_listeners(struct event_bus *bus) {
    pthread_mutex_lock(&bus->lock);
    size_t n = atomic_load(&bus->entry_count);
    for (size_t i = n; i > 0; i--) {
        struct event_bus_listener *listener = &bus->entries[i - 1].listener;
        if (listener->is_closed(listener->context)) {
            listener->release(listener->context);
            bus->entries[i - 1] = bus->entries[--n];
        }
    }
    atomic_store(&bus->entry_count, n);
    pthread_mutex_unlock(&bus->lock);
}

static void event_bus_deliver_coverage(struct event_bus *bus, int64_t now_ms) {
    static const struct event_bus_event item = {.kind = EVENT_BUS_STATUS,
                                                .subject = "",
                                                .state = "",
                                                .text = "listening to the whole fleet",
                                                .covers_fleet = true};
    pthread_mutex_lock(&bus->lock);
    for (size_t i = 0; i < atomic_load(&bus->entry_count); i++) {
        struct entry *entry = &bus->entries[i];
        if (!entry->coverage_told && bus->subscribed_since_ms > 0 &&
            now_ms - bus->subscribed_since_ms >= LISTENING_SEEN_BY_ALL_MS) {
            entry->coverage_told = true;
            entry->listener.on_event(entry->listener.context, &item);
        }
    }
    pthread_mutex_unlock(&bus->lock);
}

/* ---- this node's own ------------------------------------------------------------------------- */

/* A client that is closed waits for another node, unless it is gone for good. */
static const char *event_bus_shown_state(const struct queued_event *queued_event) {
    bool deleted =
        queued_event->to == CLIENT_CLOSED && strcmp(queued_event->reason, "deleted") == 0;
    return deleted ? "deleted" : client_state_shown(queued_event->to);
}

static json_t *event_bus_notice_json(const struct event_bus *bus,
                                     const struct queued_event *queued_event) {
    char at[CLOCK_RFC3339_LEN];
    json_t *id = json_string(queued_event->id);
    json_t *message = json_string(queued_event->notice_text);
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:o}", "at", clock_rfc3339(queued_event->at_ms, at),
                     "kind", "notice", "id", id ? id : json_null(), "node", bus->conf->node_name,
                     "code", queued_event->reason, "message", message ? message : json_null());
}

static json_t *event_bus_change_json(const struct event_bus *bus,
                                     const struct queued_event *queued_event) {
    char at[CLOCK_RFC3339_LEN];
    json_t *id = json_string(queued_event->id);
    json_t *reason = json_string(queued_event->reason);
    return json_pack(
        "{s:s, s:s, s:o, s:s, s:s, s:s, s:o, s:I}", "at", clock_rfc3339(queued_event->at_ms, at),
        "kind", "client", "id", id ? id : json_null(), "node", bus->conf->node_name, "from",
        client_state_shown(queued_event->from), "state", event_bus_shown_state(queued_event),
        "reason", reason ? reason : json_null(), "version", (json_int_t)queued_event->version);
}

static const char *event_bus_string_member(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

/* What was published of a client, also by another node, which may be one that tells no version. */
static void event_bus_deliver_client(struct event_bus *bus, const json_t *event, const char *text) {
    bool is_notice =
        strcmp(event_bus_string_member(event, "kind"), event_bus_kind_name(EVENT_BUS_NOTICE)) == 0;
    const json_t *version = json_object_get(event, "version");
    event_bus_deliver(
        bus, &(struct event_bus_event){
                 .kind = is_notice ? EVENT_BUS_NOTICE : EVENT_BUS_CLIENT,
                 .subject = event_bus_string_member(event, "id"),
                 .state = is_notice ? "" : event_bus_string_member(event, "state"),
                 .text = text,
                 .version = version != NULL ? json_integer_value(version) : INT64_MAX,
                 .same_state = !is_notice && strcmp(event_bus_string_member(event, "from"),
                                                    event_bus_string_member(event, "state")) == 0});
}

static bool event_bus_publish(struct event_bus *bus, const struct buffer *batch) {
    const char *argv[] = {"PUBLISH", bus->events_channel, batch->data};
    struct redis_reply *reply = NULL;
    bool done = !batch->failed && redis_command(bus->publisher, 3, argv, NULL, &reply) == ERR_OK;
    if (!done) {
        log_event(LOG_DEBUG, "news_not_published", KS("detail", redis_error(bus->publisher)));
    }
    redis_reply_free(reply);
    return done;
}

/* {"from":self,"lost":n,"events":[...]}: at most BATCH_EVENTS_MAX. False: the queue is empty. What
 * does not get through is lost to the other nodes, which hear of it with the next that does. */
static bool event_bus_flush_batch(struct event_bus *bus, int64_t lost) {
    struct buffer batch;
    size_t n = 0;
    lost += bus->unpublished_count;
    buffer_init(&batch);
    buffer_printf(&batch, "{\"from\":\"%s\",\"lost\":%lld,\"events\":[", bus->own_id,
                  (long long)lost);
    struct queued_event *queued_event = NULL;
    while (n < BATCH_EVENTS_MAX && batch.len < BATCH_BYTES_MAX &&
           (queued_event = event_bus_queued_take(bus)) != NULL) {
        bool is_notice = queued_event->notice_text != NULL;
        json_t *json =
            (is_notice ? event_bus_notice_json : event_bus_change_json)(bus, queued_event);
        char *text = json != NULL ? json_to_text(json, JSON_COMPACT) : NULL;
        if (text != NULL) {
            event_bus_deliver_client(bus, json, text);
            buffer_append_str(&batch, n++ > 0 ? "," : "");
            buffer_append_str(&batch, text);
        }
        free(text);
        json_decref(json);
        event_bus_queued_free(queued_event);
    }
    buffer_append_str(&batch, "]}");
    if (n > 0 || lost > 0) {
        bus->unpublished_count = event_bus_publish(bus, &batch) ? 0 : lost + (int64_t)n;
    }
    buffer_fini(&batch);
    return n > 0;
}

static void event_bus_flush(struct event_bus *bus) {
    int64_t lost = atomic_exchange(&bus->lost_count, 0);
    if (lost > 0) {
        event_bus_deliver_lost(bus, lost);
    }
    for (int i = 0; i < BATCHES_PER_FLUSH_MAX && event_bus_flush_batch(bus, lost); i++) {
        lost = 0;
    }
}

/* ---- from the other nodes -------------------------------------------------------------------- */

static void event_bus_handle_batch(struct event_bus *bus, const char *payload) {
    json_t *batch = json_from_text(payload, strlen(payload), 0);
    const json_t *events = json_object_get(batch, "events");
    int64_t lost = json_integer_value(json_object_get(batch, "lost"));
    size_t i;
    json_t *event;
    if (strcmp(event_bus_string_member(batch, "from"), bus->own_id) != 0) {
        if (lost > 0) {
            event_bus_deliver_lost(bus, lost);
        }
        json_array_foreach(events, i, event) {
            char *text = json_is_object(event) ? json_to_text(event, JSON_COMPACT) : NULL;
            if (text != NULL) {
                event_bus_deliver_client(bus, event, text);
            }
            free(text);
        }
    }
    json_decref(batch);
}

static void event_bus_mark_unreachable(struct event_bus *bus, int64_t now_ms) {
    bus->subscribe_retry_at_ms = now_ms + SUBSCRIBE_RETRY_MS;
    if (bus->subscribed_since_ms > 0 && !bus->outage_told) {
        bus->outage_told = true;
        event_bus_deliver_status(bus,
                                 "Redis does not answer: changes of other nodes are not heard");
    }
    bus->subscribed_since_ms = 0;
}

static void event_bus_mark_subscribed(struct event_bus *bus, int64_t now_ms) {
    if (bus->subscribed_since_ms == 0) {
        bus->subscribed_since_ms = now_ms;
        if (bus->outage_told) {
            bus->outage_told = false;
            event_bus_deliver_lost(bus, 0);
        }
    }
}

/* Nobody listens here: the subscription goes. */
static void event_bus_unsubscribe(struct event_bus *bus) {
    redis_destroy(bus->subscriber);
    bus->subscriber = NULL;
    bus->subscribed_since_ms = 0;
    bus->outage_told = false;
    bus->subscribe_retry_at_ms = 0;
}

static void event_bus_receive(struct event_bus *bus, int64_t now_ms) {
    if (now_ms < bus->subscribe_retry_at_ms) {
        return;
    }
    if (bus->subscriber == NULL) {
        bus->subscriber = redis_create(bus->redis_url, bus->conf->redis_timeout_ms);
    }
    for (int i = 0; bus->subscriber != NULL && i < MESSAGES_PER_TURN_MAX; i++) {
        char *payload = NULL;
        enum err result = redis_next_message(bus->subscriber, bus->events_channel, 0, &payload);
        if (result == ERR_OK && payload != NULL) {
            event_bus_handle_batch(bus, payload);
        }
        free(payload);
        if (result != ERR_OK) {
            (result == ERR_TIMEOUT ? event_bus_mark_subscribed
                                   : event_bus_mark_unreachable)(bus, now_ms);
            return;
        }
    }
}

/* ---- who listens ----------------------------------------------------------------------------- */

static void event_bus_announce(struct event_bus *bus) {
    const char *argv[] = {"SET", bus->listening_key, bus->conf->node_name, "PX", LISTENING_TTL_MS};
    struct redis_reply *reply = NULL;
    if (redis_command(bus->publisher, 5, argv, NULL, &reply) != ERR_OK) {
        log_event(LOG_DEBUG, "news_not_published", KS("detail", redis_error(bus->publisher)));
    }
    redis_reply_free(reply);
}

/* Once the channel is heard, so that nothing of what the others tell then is missed. */
static void event_bus_call_others(struct event_bus *bus) {
    const char *argv[] = {"PUBLISH", bus->announce_channel, bus->conf->node_name};
    struct redis_reply *reply = NULL;
    if (!bus->announced && bus->subscribed_since_ms > 0) {
        bus->announced = redis_command(bus->publisher, 3, argv, NULL, &reply) == ERR_OK;
    }
    redis_reply_free(reply);
}

/* Somebody begins to listen: what changes from now on is told, and what has just changed. The key
 * is there already, should it be looked for next. */
static void event_bus_receive_announcements(struct event_bus *bus, int64_t now_ms) {
    enum err result = now_ms >= bus->announcements_retry_at_ms ? ERR_OK : ERR_TIMEOUT;
    bool called = false;
    for (int i = 0; result == ERR_OK && i < MESSAGES_PER_TURN_MAX; i++) {
        char *payload = NULL;
        result = redis_next_message(bus->announcements, bus->announce_channel, 0, &payload);
        if (result == ERR_OK && payload != NULL) {
            atomic_store(&bus->wanted, true);
            called = called || strcmp(payload, bus->conf->node_name) != 0;
        }
        free(payload);
    }
    if (called && bus->recent) {
        bus->recent(bus->recent_context, clock_wall_ms() - RECENT_MS);
    }
    if (result != ERR_OK && result != ERR_TIMEOUT) {
        bus->announcements_retry_at_ms =
            now_ms + ANNOUNCEMENTS_RETRY_MS; /* the look finds them meanwhile */
    }
}

/* Redis away: what was true before. */
static void event_bus_check_remote_listeners(struct event_bus *bus) {
    const char *argv[] = {"EXISTS", bus->listening_key};
    struct redis_reply *reply = NULL;
    if (redis_command(bus->publisher, 2, argv, NULL, &reply) == ERR_OK) {
        bool elsewhere = redis_reply_int(reply) > 0;
        pthread_mutex_lock(&bus->lock); /* somebody may begin to listen just now */
        atomic_store(&bus->wanted, elsewhere || atomic_load(&bus->entry_count) > 0);
        pthread_mutex_unlock(&bus->lock);
    }
    redis_reply_free(reply);
}

static void event_bus_check(struct event_bus *bus, int64_t now_ms) {
    bus->check_at_ms = now_ms + EVENT_BUS_CHECK_MS;
    event_bus_drop_closed_listeners(bus);
    if (atomic_load(&bus->entry_count) > 0) {
        event_bus_announce(bus);
        topology_watch_check(bus->topology, event_bus_deliver_topology, bus);
        event_bus_deliver_coverage(bus, now_ms);
    } else {
        bus->announced = false;
        event_bus_unsubscribe(bus);
        topology_watch_reset(bus->topology);
        event_bus_check_remote_listeners(bus);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void event_bus_wait(struct event_bus *bus, int64_t now_ms) {
    bool busy = atomic_load(&bus->wanted);
    int64_t until_ms = busy ? bus->flushed_at_ms + FLUSH_MS : bus->check_at_ms;
    int64_t wait_ms = until_ms > now_ms ? until_ms - now_ms : 0;
    struct pollfd fds[] = {
        {.fd = bus->wake_fd, .events = POLLIN},
        {.fd = bus->subscriber != NULL ? redis_fd(bus->subscriber) : -1, .events = POLLIN},
        {.fd = now_ms >= bus->announcements_retry_at_ms ? redis_fd(bus->announcements) : -1,
         .events = POLLIN}};
    eventfd_t count;
    if (poll(fds, 3, (int)(wait_ms < EVENT_BUS_CHECK_MS ? wait_ms : EVENT_BUS_CHECK_MS)) > 0 &&
        (fds[0].revents & POLLIN)) {
        (void)eventfd_read(bus->wake_fd, &count);
        bus->check_at_ms = 0;
    }
}

void *event_bus_run(void *argument) {
    struct event_bus *bus = argument;
    while (!atomic_load(&bus->stopping)) {
        int64_t now_ms = clock_ms();
        event_bus_receive_announcements(bus, now_ms);
        if (now_ms >= bus->check_at_ms) {
            event_bus_check(bus, now_ms);
        }
        if (atomic_load(&bus->entry_count) > 0) {
            event_bus_receive(bus, now_ms);
            event_bus_call_others(bus);
        }
        if (now_ms - bus->flushed_at_ms >= FLUSH_MS) {
            bus->flushed_at_ms = now_ms;
            event_bus_flush(bus);
        }
        event_bus_wait(bus, clock_ms());
    }
    event_bus_flush(bus);
    return NULL;
}

void event_bus_stop(struct event_bus *bus) {
    atomic_store(&bus->stopping, true);
    event_bus_wake(bus);
}
