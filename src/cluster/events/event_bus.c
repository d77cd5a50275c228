/* Owns the queue of this node's client events and the Redis connections that carry events between
 * nodes. The event bus thread, unless the header says otherwise. */
#include "cluster/events/event_bus.h"

#include <assert.h>
#include <jansson.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/queue.h"
#include "base/system/clock.h"
#include "base/system/json_memory.h"
#include "base/telemetry/log.h"
#include "base/text.h"
#include "event_budget.h"
#include "event_listeners.h"
#include "event_sink.h"
#include "event_writer.h"
#include "net/redis/redis.h"
#include "topology_watch.h"

#define EVENT_BUS_QUEUE_MAX      65536
#define FLUSH_MS                 100  /* how long an event may wait to be sent with others */
#define EVENT_BUS_CHECK_MS       1000 /* between checks for listeners, and of the topology */
#define ANNOUNCEMENTS_RETRY_MS   5000 /* long: the checks find listeners without announcements */
#define LISTENING_TTL_MS         5000 /* of the key, unless a node with a listener renews it */
#define LISTENING_SEEN_BY_ALL_MS 1500 /* after this time, every node has read the key */
#define LISTENING_LEFT_MS_MIN    3000 /* of the key, for a listener that relies on it */
#define BATCHES_PER_FLUSH_MAX    160
#define SINK_STEP_MS             1000
#define REPLAY_MS                10 /* between pages of kept events */
#define MESSAGES_PER_TURN_MAX    256
#define SUBSCRIBE_RETRY_MS       500
#define RECENT_MS                3000 /* how old a change may be to be sent to a new listener */

/* Of this node to the channel of events. */
enum event_bus_subscription {
    EVENT_BUS_OFF,        /* this node has no listener */
    EVENT_BUS_CONNECTING, /* no event can have been missed yet */
    EVENT_BUS_SUBSCRIBED,
    EVENT_BUS_UNREACHABLE /* after EVENT_BUS_SUBSCRIBED; the listeners got a status */
};

struct event_bus {
    const struct conf *conf;
    struct store *store;
    const char *redis_url;
    event_bus_post_recent *post_recent; /* NULL: none */
    void *post_recent_context;
    char *events_channel, *announce_channel, *listening_key;
    struct queue *queue; /* of struct queued_event */
    int wake_fd;
    atomic_bool stopping;
    atomic_bool fleet_listens;    /* a node of the fleet has a listener */
    atomic_llong lost_count;      /* events that found the queue full */
    atomic_llong over_rate_count; /* events of clients beyond events.client_rate, not kept */
    struct event_budget budget;
    struct event_listeners listeners;

    /* Event bus thread only. */
    struct redis *publisher;           /* for the key and for PUBLISH */
    struct redis *subscriber;          /* NULL while this node has no listener */
    struct redis *announcements;       /* of nodes that get their first listener */
    int64_t announcements_retry_at_ms; /* no connection attempt before */
    bool announced;                    /* that this node has a listener */
    int64_t check_at_ms, flushed_at_ms, subscribe_retry_at_ms;
    int64_t listening_until_ms; /* of the key, if no other node renews it */
    struct event_writer writer;
    struct event_sink sink;
    int64_t sink_at_ms; /* next step of the sink */
    enum event_bus_subscription subscription;
    int64_t subscribed_since_ms; /* while EVENT_BUS_SUBSCRIBED */
    struct topology_watch *topology;
};

const char *event_bus_kind_name(enum event_bus_kind kind) {
    static const char *const names[] = {"client",   "node",    "leader", "notice",
                                        "incident", "dropped", "gap",    "status"};
    assert((size_t)kind < sizeof names / sizeof names[0]);
    return names[kind];
}

/* ---- life ------------------------------------------------------------------------------------ */

static char *event_bus_concat(const char *prefix, const char *name) {
    char *text = NULL;
    return asprintf(&text, "%s%s", prefix, name) < 0 ? NULL : text;
}

struct event_bus *event_bus_create(const struct conf *conf, struct store *store,
                                   const char *redis_url, struct router *router) {
    struct event_bus *bus = calloc(1, sizeof *bus);
    if (!bus) {
        return NULL;
    }
    event_listeners_init(&bus->listeners);
    event_budget_init(&bus->budget, conf->events_client_rate, clock_ms());
    event_writer_init(&bus->writer, conf, store, &bus->listeners);
    event_sink_init(&bus->sink, conf, store, router);
    bus->conf = conf;
    bus->store = store;
    bus->redis_url = redis_url;
    bus->events_channel = event_bus_concat(conf->key_prefix, "mqtt_fleet:events");
    bus->announce_channel = event_bus_concat(conf->key_prefix, "mqtt_fleet:listen");
    bus->listening_key = event_bus_concat(conf->key_prefix, "mqtt_fleet:listening");
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

void event_bus_on_announcement(struct event_bus *bus, event_bus_post_recent *post_recent,
                               void *context) {
    bus->post_recent = post_recent;
    bus->post_recent_context = context;
}

/* NULL: the queue is empty. */
static struct queued_event *event_bus_take_event(struct event_bus *bus) {
    void *item = NULL;
    return queue_pop(bus->queue, &item, 0) == ERR_OK ? item : NULL;
}

void event_bus_destroy(struct event_bus *bus) {
    if (!bus) {
        return;
    }
    event_listeners_fini(&bus->listeners);
    for (struct queued_event *event; bus->queue && (event = event_bus_take_event(bus));) {
        queued_event_free(event);
    }
    queue_destroy(bus->queue);
    event_sink_fini(&bus->sink);
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
    free(bus);
}

static void event_bus_wake(struct event_bus *bus) {
    (void)eventfd_write(bus->wake_fd, 1);
}

/* ---- any thread ------------------------------------------------------------------------------ */

/* Takes ownership; NULL counts as lost. */
static void event_bus_push_event(struct event_bus *bus, struct queued_event *event) {
    if (!event || queue_push(bus->queue, event) != ERR_OK) {
        queued_event_free(event);
        atomic_fetch_add(&bus->lost_count, 1);
    }
}

/* Whether an event of a client is kept. */
static bool event_bus_keeps(struct event_bus *bus, bool in_incident) {
    bool kept = !in_incident && event_budget_take(&bus->budget);
    if (!kept && !in_incident) {
        atomic_fetch_add_explicit(&bus->over_rate_count, 1, memory_order_relaxed);
    }
    return kept;
}

void event_bus_post_change(struct event_bus *bus, const struct workers_change *change) {
    enum client_state from = change->from, to = change->to;
    bool looks_same = strcmp(client_state_shown(from), client_state_shown(to)) == 0;
    if (to == CLIENT_CLOSING || (looks_same && from != to)) {
        return;
    }
    bool kept = from != to && event_bus_keeps(bus, change->in_incident);
    if (!kept && !atomic_load_explicit(&bus->fleet_listens, memory_order_relaxed)) {
        return;
    }
    struct queued_event *event = queued_event_create(change->id, change->reason, change->origin);
    if (event) {
        event->from = from;
        event->to = to;
        event->version = change->version;
        event->kept = kept;
    }
    event_bus_push_event(bus, event);
}

void event_bus_post_notice(struct event_bus *bus, const struct workers_notice *notice) {
    bool kept = event_bus_keeps(bus, false);
    if (!kept && !atomic_load_explicit(&bus->fleet_listens, memory_order_relaxed)) {
        return;
    }
    struct queued_event *event = queued_event_create(notice->id, notice->code, notice->origin);
    if (event && !(event->notice_text = text_dup(notice->message))) {
        queued_event_free(event);
        event = NULL;
    }
    if (event) {
        event->kept = kept;
    }
    event_bus_push_event(bus, event);
}

void event_bus_post_incident(struct event_bus *bus, const struct incident_report *report) {
    event_bus_push_event(bus, queued_event_create_incident(report, bus->conf->node_name));
}

enum err event_bus_listen(struct event_bus *bus, const struct event_bus_listener *listener,
                          const char *after) {
    struct store_event_place place;
    bool replays = after && listener->has_room && store_event_place_parse(after, &place);
    enum err err = event_listeners_add(&bus->listeners, listener, replays ? &place : NULL,
                                       &bus->fleet_listens);
    event_bus_wake(bus);
    return err;
}

/* ---- to the other nodes ---------------------------------------------------------------------- */

static void event_bus_deliver_client(struct event_bus *bus, const json_t *json, const char *text,
                                     const char *id) {
    const struct event_bus_event event = queued_event_from_json(json, text, id);
    event_listeners_deliver(&bus->listeners, &event);
}

static void event_bus_deliver_topology(void *context, const struct event_bus_event *event) {
    struct event_bus *bus = context;
    event_listeners_deliver(&bus->listeners, event);
}

/* False: the queue is empty, or Redis does not answer. */
static bool event_bus_flush_batch(struct event_bus *bus, int64_t lost) {
    struct queued_event *event = NULL;
    while (!event_writer_is_full(&bus->writer) && (event = event_bus_take_event(bus))) {
        event_writer_add(&bus->writer, event);
        queued_event_free(event);
    }
    enum err err = event_writer_send(
        &bus->writer,
        &(struct event_writer_call){.lost = lost,
                                    .listened = atomic_load(&bus->fleet_listens),
                                    .subscribed = bus->subscription == EVENT_BUS_SUBSCRIBED});
    return event && err == ERR_OK;
}

static void event_bus_flush(struct event_bus *bus) {
    int64_t lost = atomic_exchange(&bus->lost_count, 0);
    if (lost > 0) {
        event_listeners_deliver_lost(&bus->listeners, lost);
        event_writer_count_unkept(&bus->writer, EVENT_LOSS_QUEUE, lost);
    }
    event_writer_count_unkept(&bus->writer, EVENT_LOSS_RATE,
                              atomic_exchange(&bus->over_rate_count, 0));
    event_budget_refill(&bus->budget, clock_ms());
    for (int i = 0; i < BATCHES_PER_FLUSH_MAX && event_bus_flush_batch(bus, lost); i++) {
        lost = 0;
    }
}

/* ---- from the other nodes -------------------------------------------------------------------- */

static void event_bus_handle_batch(struct event_bus *bus, const char *payload) {
    json_t *batch = json_from_text(payload, strlen(payload), 0);
    const json_t *events = json_object_get(batch, "events");
    int64_t lost = json_integer_value(json_object_get(batch, "lost"));
    const json_t *ids = json_object_get(batch, "ids"); /* not from a node of an earlier version */
    size_t i;
    json_t *event;
    const char *from = queued_event_member(batch, "from");
    if (event_writer_expects(&bus->writer, from,
                             json_integer_value(json_object_get(batch, "batch")))) {
        if (lost > 0 && strcmp(from, bus->writer.own_id) != 0) {
            event_listeners_deliver_lost(&bus->listeners, lost);
        }
        json_array_foreach(events, i, event) {
            char *text = json_is_object(event) ? json_to_text(event, JSON_COMPACT) : NULL;
            const char *id = json_string_value(json_array_get(ids, i));
            if (text) {
                event_bus_deliver_client(bus, event, text, id ? id : "");
            }
            free(text);
        }
    }
    json_decref(batch);
}

/* The only function that changes bus->subscription. */
static void event_bus_set_subscription(struct event_bus *bus,
                                       enum event_bus_subscription subscription) {
    enum event_bus_subscription from = bus->subscription;
    if (from == subscription) {
        return;
    }
    bus->subscription = subscription;
    if (subscription == EVENT_BUS_SUBSCRIBED) {
        bus->subscribed_since_ms = clock_ms();
        if (from == EVENT_BUS_UNREACHABLE) {
            event_listeners_deliver_lost(&bus->listeners, 0);
        }
    } else if (subscription == EVENT_BUS_UNREACHABLE) {
        event_listeners_deliver_status(&bus->listeners,
                                       "Redis does not answer: events of other nodes are missing");
    }
}

static void event_bus_handle_unreachable(struct event_bus *bus, int64_t now_ms) {
    bus->subscribe_retry_at_ms = now_ms + SUBSCRIBE_RETRY_MS;
    if (bus->subscription == EVENT_BUS_SUBSCRIBED) {
        event_bus_set_subscription(bus, EVENT_BUS_UNREACHABLE);
    }
}

static void event_bus_unsubscribe(struct event_bus *bus) {
    redis_destroy(bus->subscriber);
    bus->subscriber = NULL;
    bus->subscribe_retry_at_ms = 0;
    event_bus_set_subscription(bus, EVENT_BUS_OFF);
}

static void event_bus_receive(struct event_bus *bus, int64_t now_ms) {
    if (now_ms < bus->subscribe_retry_at_ms) {
        return;
    }
    if (!bus->subscriber) {
        bus->subscriber = redis_create(bus->redis_url, bus->conf->redis_timeout_ms);
        event_bus_set_subscription(bus, EVENT_BUS_CONNECTING);
    }
    for (int i = 0; bus->subscriber && i < MESSAGES_PER_TURN_MAX; i++) {
        char *payload = NULL;
        enum err err = redis_next_message(bus->subscriber, bus->events_channel, 0, &payload);
        if (err == ERR_OK && payload) {
            event_bus_handle_batch(bus, payload);
        }
        free(payload);
        if (err == ERR_TIMEOUT) { /* subscribed, and no message is left */
            event_bus_set_subscription(bus, EVENT_BUS_SUBSCRIBED);
            return;
        }
        if (err != ERR_OK) {
            event_bus_handle_unreachable(bus, now_ms);
            return;
        }
    }
}

/* ---- which nodes have listeners -------------------------------------------------------------- */

static void event_bus_renew_listening_key(struct event_bus *bus) {
    char ttl_ms[24];
    const char *argv[] = {"SET", bus->listening_key, bus->conf->node_name, "PX", ttl_ms};
    snprintf(ttl_ms, sizeof ttl_ms, "%d", LISTENING_TTL_MS);
    struct redis_reply *reply = NULL;
    int64_t began_ms = clock_ms();
    if (redis_command(bus->publisher, 5, argv, NULL, &reply) == ERR_OK) {
        bus->listening_until_ms = began_ms + LISTENING_TTL_MS;
    } else {
        log_event(LOG_DEBUG, "news_not_published", KS("detail", redis_error(bus->publisher)));
    }
    redis_reply_free(reply);
}

/* Only when subscribed: the other nodes answer with their latest changes, which must arrive here.
 */
static void event_bus_announce(struct event_bus *bus) {
    const char *argv[] = {"PUBLISH", bus->announce_channel, bus->conf->node_name};
    struct redis_reply *reply = NULL;
    if (!bus->announced && bus->subscription == EVENT_BUS_SUBSCRIBED) {
        bus->announced = redis_command(bus->publisher, 3, argv, NULL, &reply) == ERR_OK;
    }
    redis_reply_free(reply);
}

/* A node gets its first listener: posts the latest changes of this node, and all changes from now
 * on. The next check keeps this state, because that node has already set the key. */
static void event_bus_receive_announcements(struct event_bus *bus, int64_t now_ms) {
    enum err err = now_ms >= bus->announcements_retry_at_ms ? ERR_OK : ERR_TIMEOUT;
    bool from_other = false;
    for (int i = 0; err == ERR_OK && i < MESSAGES_PER_TURN_MAX; i++) {
        char *payload = NULL;
        err = redis_next_message(bus->announcements, bus->announce_channel, 0, &payload);
        if (err == ERR_OK && payload) {
            atomic_store(&bus->fleet_listens, true);
            from_other = from_other || strcmp(payload, bus->conf->node_name) != 0;
        }
        free(payload);
    }
    if (from_other && bus->post_recent) {
        bus->post_recent(bus->post_recent_context, clock_wall_ms() - RECENT_MS);
    }
    if (err != ERR_OK && err != ERR_TIMEOUT) {
        bus->announcements_retry_at_ms = now_ms + ANNOUNCEMENTS_RETRY_MS;
    }
}

/* If Redis does not answer, fleet_listens keeps its value. */
static void event_bus_read_listening_key(struct event_bus *bus) {
    const char *argv[] = {"EXISTS", bus->listening_key};
    struct redis_reply *reply = NULL;
    if (redis_command(bus->publisher, 2, argv, NULL, &reply) == ERR_OK) {
        event_listeners_update_use(&bus->listeners, redis_reply_int(reply) > 0,
                                   &bus->fleet_listens);
    }
    redis_reply_free(reply);
}

static void event_bus_check_listeners(struct event_bus *bus, int64_t now_ms) {
    bus->check_at_ms = now_ms + EVENT_BUS_CHECK_MS;
    event_listeners_drop_closed(&bus->listeners);
    if (event_listeners_count(&bus->listeners) > 0) {
        event_bus_renew_listening_key(bus);
        topology_watch_check(bus->topology, event_bus_deliver_topology, bus);
        if (bus->subscription == EVENT_BUS_SUBSCRIBED &&
            now_ms - bus->subscribed_since_ms >= LISTENING_SEEN_BY_ALL_MS) {
            event_listeners_deliver_coverage(&bus->listeners);
        }
    } else {
        bus->announced = false;
        event_bus_unsubscribe(bus);
        topology_watch_reset(bus->topology);
        event_bus_read_listening_key(bus);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* True: there is more to read at once. A listener needs no more pages once it gets all that is
 * kept: the channel is open here, and the key makes every node publish. */
static bool event_bus_replay(struct event_bus *bus, int64_t now_ms) {
    bool live = bus->subscription == EVENT_BUS_SUBSCRIBED && bus->announced &&
                bus->listening_until_ms - now_ms >= LISTENING_LEFT_MS_MIN;
    return event_listeners_replay(&bus->listeners, bus->store, live);
}

static void event_bus_wait(struct event_bus *bus, int64_t now_ms, int64_t wait_ms_max) {
    bool busy = atomic_load(&bus->fleet_listens);
    int64_t until_ms = busy ? bus->flushed_at_ms + FLUSH_MS : bus->check_at_ms;
    int64_t wait_ms = until_ms > now_ms ? until_ms - now_ms : 0;
    struct pollfd fds[] = {
        {.fd = bus->wake_fd, .events = POLLIN},
        {.fd = bus->subscriber ? redis_fd(bus->subscriber) : -1, .events = POLLIN},
        {.fd = now_ms >= bus->announcements_retry_at_ms ? redis_fd(bus->announcements) : -1,
         .events = POLLIN}};
    eventfd_t count;
    int timeout_ms = (int)(wait_ms < wait_ms_max ? wait_ms : wait_ms_max);
    if (poll(fds, 3, timeout_ms) > 0 && (fds[0].revents & POLLIN)) {
        (void)eventfd_read(bus->wake_fd, &count);
        bus->check_at_ms = 0;
    }
}

void *event_bus_run(void *argument) {
    struct event_bus *bus = argument;
    while (!atomic_load(&bus->stopping)) {
        int64_t now_ms = clock_ms(), wait_ms_max = EVENT_BUS_CHECK_MS;
        event_bus_receive_announcements(bus, now_ms);
        if (now_ms >= bus->check_at_ms) {
            event_bus_check_listeners(bus, now_ms);
        }
        if (event_listeners_count(&bus->listeners) > 0) {
            event_bus_receive(bus, now_ms);
            event_bus_announce(bus);
            wait_ms_max = event_bus_replay(bus, now_ms) ? REPLAY_MS : EVENT_BUS_CHECK_MS;
        }
        if (now_ms - bus->flushed_at_ms >= FLUSH_MS) {
            bus->flushed_at_ms = now_ms;
            event_bus_flush(bus);
        }
        if (now_ms >= bus->sink_at_ms) {
            bool more = event_sink_step(&bus->sink);
            bus->sink_at_ms = now_ms + (more ? 0 : SINK_STEP_MS);
            wait_ms_max = more ? REPLAY_MS : wait_ms_max;
        }
        event_bus_wait(bus, clock_ms(), wait_ms_max);
    }
    event_bus_flush(bus);
    return NULL;
}

void event_bus_stop(struct event_bus *bus) {
    atomic_store(&bus->stopping, true);
    event_bus_wake(bus);
}
