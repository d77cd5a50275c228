/* Workers with a fake owner, for tests. The test decides when the lease lapses and when the sink
 * accepts the messages that it keeps; releases are recorded. */
#ifndef MQFLEET_TEST_OWNER_FIXTURE_H
#define MQFLEET_TEST_OWNER_FIXTURE_H

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include "doubles/queue_double.h"
#include "message/router.h"
#include "base/text.h"
#include "mqtt/worker/worker.h"
#include "mqtt/workers/workers.h"
#include "broker_fixture.h"

#define KEPT_MAX 20000

struct kept {
    struct message *message;
    struct receipt *receipt; /* NULL: nobody waits for it, or it is answered */
};

struct fixture {
    struct conf *conf;
    struct workers *workers;
    struct router *router;
    struct message_queue *queue; /* stays empty */
    pthread_t threads[8];
    size_t thread_count;
    atomic_bool lease;
    _Atomic(bool (*)(void)) lease_asked; /* replaces the answer, on the worker thread; or NULL */
    atomic_bool accept;                  /* at once */
    atomic_bool full;                    /* QoS 1 and 2 are refused */
    atomic_int room_waits;
    pthread_mutex_t lock; /* guards the rest */
    struct kept kept[KEPT_MAX];
    size_t kept_count;
    size_t releases;
    char release_id[64], release_code[64];
    int64_t release_delay_ms, release_cooldown_ms_max;
    size_t stables;
};

static inline bool owner_lease(void *context) {
    struct fixture *f = context;
    bool (*asked)(void) = f->lease_asked;
    return asked ? asked() : f->lease;
}

static inline void owner_release(void *context, const struct workers_release *release) {
    struct fixture *f = context;
    pthread_mutex_lock(&f->lock);
    f->releases++;
    snprintf(f->release_id, sizeof(f->release_id), "%s", release->id);
    snprintf(f->release_code, sizeof(f->release_code), "%s", client_error_code(release->error));
    f->release_delay_ms = release->delay_ms;
    f->release_cooldown_ms_max = release->cooldown_ms_max;
    pthread_mutex_unlock(&f->lock);
}

static inline void owner_stable(void *context, const char *id) {
    struct fixture *f = context;
    (void)id;
    pthread_mutex_lock(&f->lock);
    f->stables++;
    pthread_mutex_unlock(&f->lock);
}

static struct fixture *owner_current; /* whose sink it is */

static inline void owner_answer(struct receipt *receipt, enum err err) {
    struct receipts *owner = receipt->owner;
    receipt_answer(receipt, err);
    receipts_wake(owner);
}

static inline enum err owner_put(struct message_queue *queue, struct message *message,
                                 struct receipt *receipt) {
    struct fixture *f = owner_current;
    (void)queue;
    if (message->qos > 0 && f->full) {
        return ERR_FULL;
    }
    pthread_mutex_lock(&f->lock);
    ck_assert_uint_lt(f->kept_count, KEPT_MAX);
    struct kept *kept = &f->kept[f->kept_count++];
    *kept = (struct kept){.message = message};
    bool at_once = f->accept; /* read once: a message is accepted once */
    if (!at_once) {
        kept->receipt = receipt;
    }
    pthread_mutex_unlock(&f->lock);
    if (at_once && receipt) {
        owner_answer(receipt, ERR_OK);
    }
    return ERR_OK;
}

static inline bool owner_has_room(const struct message_queue *queue) {
    (void)queue;
    owner_current->room_waits++;
    return !owner_current->full;
}

static inline void fixture_accept_kept(struct fixture *f, enum err err) {
    for (size_t i = 0;; i++) {
        pthread_mutex_lock(&f->lock);
        bool any = i < f->kept_count;
        struct kept kept = any ? f->kept[i] : (struct kept){0};
        if (any) {
            f->kept[i].receipt = NULL;
        }
        pthread_mutex_unlock(&f->lock);
        if (!any) {
            return;
        }
        if (kept.receipt) {
            owner_answer(kept.receipt, err);
        }
    }
}

/* The threads of a node, as main starts them. */
static inline void fixture_start_workers(struct fixture *f) {
    struct workers_owner owner = {.context = f,
                                  .lease_valid = owner_lease,
                                  .wants_release = owner_release,
                                  .stable = owner_stable,
                                  .router = f->router};
    owner_current = f;
    queue_double = (struct queue_double){.put = owner_put, .has_room = owner_has_room};
    f->workers = workers_create(f->conf, &owner);
    ck_assert_ptr_nonnull(f->workers);
    for (size_t i = 0; i < workers_thread_count(f->workers); i++) {
        pthread_create(&f->threads[f->thread_count++], NULL, workers_run,
                       workers_thread(f->workers, i));
    }
    pthread_create(&f->threads[f->thread_count++], NULL, workers_resolver_run, f->workers);
    workers_accept(f->workers, "inc");
}

static inline struct fixture *fixture_create(const char *const *sets, size_t n) {
    struct fixture *f = calloc(1, sizeof *f);
    char fault[CONF_FAULT_LEN] = "";
    pthread_mutex_init(&f->lock, NULL);
    f->lease = true;
    f->accept = true;
    f->router = router_create();
    f->queue = message_queue_create(1, 1, 1);
    router_add_sink(f->router, "kept", f->queue);
    enum err err = conf_load(&f->conf, NULL, sets, n, fault);
    ck_assert_msg(err == ERR_OK, "%s", fault);
    fixture_start_workers(f);
    return f;
}

static inline void fixture_destroy(struct fixture *f) {
    workers_stop_threads(f->workers);
    for (size_t i = 0; i < f->thread_count; i++) {
        pthread_join(f->threads[i], NULL);
    }
    fixture_accept_kept(f, ERR_CANCELED);
    workers_destroy(f->workers);
    router_destroy(f->router);
    message_queue_destroy(f->queue);
    for (size_t i = 0; i < f->kept_count; i++) {
        message_destroy(f->kept[i].message);
    }
    conf_destroy(f->conf);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static inline struct client_config *fixture_config(const char *text) {
    struct client_config *config = NULL;
    struct client_faults faults = {0};
    enum err err = client_config_parse_text(text, strlen(text), NULL, &config, &faults);
    ck_assert_msg(err == ERR_OK, "%s %s in %s", faults.items[0].pointer, faults.items[0].detail,
                  text);
    return config;
}

/* format: the fields of the document besides id, with one %d for the port. */
static inline struct client_config *fixture_client(const char *id, int port, const char *fields) {
    char text[8192];
    snprintf(text, sizeof(text), "{\"id\":\"%s\",\"url\":\"mqtt://127.0.0.1:%d\"%s%s}", id, port,
             fields[0] ? "," : "", fields);
    return fixture_config(text);
}

static inline void fixture_start(struct fixture *f, struct client_config *config, int64_t version) {
    ck_assert_int_eq(
        workers_start(f->workers, config, &(struct workers_assignment){"inc", 1, version, NULL}),
        ERR_OK);
}

static inline enum client_state fixture_state(struct fixture *f, const char *id) {
    struct client_status status;
    if (workers_status(f->workers, id, &status) != ERR_OK) {
        return CLIENT_STATE_COUNT;
    }
    enum client_state state = status.state;
    client_status_fini(&status);
    return state;
}

static inline bool fixture_error_is(struct fixture *f, const char *id, const char *code) {
    struct client_status status;
    if (workers_status(f->workers, id, &status) != ERR_OK) {
        return false;
    }
    bool is =
        status.error != CLIENT_ERROR_NONE && strcmp(client_error_code(status.error), code) == 0;
    client_status_fini(&status);
    return is;
}

static inline bool fixture_engine_is(const struct fixture *f, const char *name) {
    return strcmp(f->conf->engine, name) == 0;
}

static inline int64_t fixture_online_count(struct fixture *f) {
    int64_t counts[CLIENT_STATE_COUNT];
    workers_state_counts(f->workers, counts);
    return counts[CLIENT_ONLINE];
}

static inline size_t fixture_kept_count(struct fixture *f) {
    pthread_mutex_lock(&f->lock);
    size_t n = f->kept_count;
    pthread_mutex_unlock(&f->lock);
    return n;
}

/* Whether a message of that topic and payload was kept. */
static inline bool fixture_kept(struct fixture *f, const char *topic, const void *payload,
                                size_t len) {
    bool found = false;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->kept_count && !found; i++) {
        const struct message *message = f->kept[i].message;
        found = strcmp(message->topic, topic) == 0 && message->payload_len == len &&
                memcmp(message->payload, payload, len) == 0;
    }
    pthread_mutex_unlock(&f->lock);
    return found;
}

#endif
