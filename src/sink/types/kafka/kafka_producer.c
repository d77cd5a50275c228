/* Owns the handle of librdkafka, its callbacks, and the rate of its log. */
#include "kafka_producer.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "kafka_settings.h"

#define KAFKA_CLOSE_MS      1000
#define KAFKA_LOG_LINES_MAX 10 /* in a period */
#define KAFKA_LOG_PERIOD_MS 10000
#define KAFKA_CLIENT_LEN    256
#define KAFKA_HOST_LEN      256

struct kafka_log {
    pthread_mutex_t lock; /* guards all below; any thread of librdkafka */
    int64_t period_end_ms;
    int64_t lines, suppressed; /* of the period */
};

struct kafka_producer {
    rd_kafka_t *handle;
    kafka_report *report;
    void *context;
    const struct sink_environment *environment;
    const char *topic;            /* names the sink in the log */
    _Atomic(const char *) denied; /* why an address was; NULL: none was since the last error */
    bool dead;
    char error[SINK_ERROR_LEN];
    struct kafka_log log;
};

/* ---- callbacks ------------------------------------------------------------------------------- */

/* Syslog's levels. */
static enum log_level kafka_log_level(int level) {
    return level <= 4 ? LOG_WARN : level <= 6 ? LOG_INFO : LOG_DEBUG;
}

/* Whether one more line may be written. *suppressed: lines that were not, now to be told. */
static bool kafka_log_admit(struct kafka_log *log, int64_t *suppressed) {
    *suppressed = 0;
    pthread_mutex_lock(&log->lock);
    int64_t now_ms = clock_ms();
    if (now_ms >= log->period_end_ms) {
        *suppressed = log->suppressed;
        log->period_end_ms = now_ms + KAFKA_LOG_PERIOD_MS;
        log->lines = 0;
        log->suppressed = 0;
    }
    bool admitted = log->lines < KAFKA_LOG_LINES_MAX;
    *(admitted ? &log->lines : &log->suppressed) += 1;
    pthread_mutex_unlock(&log->lock);
    return admitted;
}

/* Any thread of librdkafka. */
static void kafka_on_log(const rd_kafka_t *handle, int level, const char *facility,
                         const char *text) {
    struct kafka_producer *producer = rd_kafka_opaque(handle);
    int64_t suppressed;
    if (!log_enabled(kafka_log_level(level)) || !kafka_log_admit(&producer->log, &suppressed)) {
        return;
    }
    log_event(kafka_log_level(level), "kafka_log", KS("topic", producer->topic),
              KS("facility", facility), KS("text", text), KI("suppressed", suppressed));
}

/* name: "HOST:PORT". */
static bool kafka_is_allowed(struct kafka_producer *producer, const char *name,
                             const struct sockaddr *address) {
    const struct sink_environment *environment = producer->environment;
    const char *colon = strrchr(name, ':');
    char host[KAFKA_HOST_LEN];
    const char *why = NULL;
    snprintf(host, sizeof host, "%.*s", (int)(colon ? (size_t)(colon - name) : strlen(name)), name);
    bool allowed = environment->address_allowed(environment->address_context, host, address, &why);
    if (!allowed) {
        atomic_store(&producer->denied, why);
    }
    return allowed;
}

/* Any thread of librdkafka. Also for brokers that another broker names. Returns 0 or an errno. */
static int kafka_on_connect(int fd, const struct sockaddr *address, int address_len,
                            const char *name, void *opaque) {
    if (!kafka_is_allowed(opaque, name, address)) {
        return EACCES;
    }
    bool begun = connect(fd, address, (socklen_t)address_len) == 0 || errno == EINPROGRESS;
    return begun ? 0 : errno;
}

static void kafka_on_error(rd_kafka_t *handle, int error, const char *reason, void *opaque) {
    struct kafka_producer *producer = opaque;
    (void)handle;
    if (producer->dead) {
        return; /* its cause is what counts */
    }
    producer->dead = error == RD_KAFKA_RESP_ERR__FATAL;
    /* "All brokers are down" says less than the error before it. */
    if (error != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || *producer->error == '\0') {
        const char *denied = atomic_exchange(&producer->denied, NULL);
        snprintf(producer->error, sizeof producer->error, "%.*s%s%.50s",
                 denied ? 100 : SINK_ERROR_LEN - 1, reason, denied ? ": " : "",
                 denied ? denied : "");
    }
    if (producer->dead) {
        rd_kafka_fatal_error(handle, producer->error, sizeof producer->error);
        rd_kafka_yield(handle);
    }
}

static void kafka_on_report(rd_kafka_t *handle, const rd_kafka_message_t *report, void *opaque) {
    struct kafka_producer *producer = opaque;
    (void)handle;
    producer->report(producer->context, report);
}

/* ---- life ------------------------------------------------------------------------------------ */

static enum err kafka_producer_start(struct kafka_producer *producer, rd_kafka_conf_t *conf,
                                     char *fault) {
    rd_kafka_conf_set_opaque(conf, producer);
    rd_kafka_conf_set_log_cb(conf, kafka_on_log);
    rd_kafka_conf_set_error_cb(conf, kafka_on_error);
    rd_kafka_conf_set_dr_msg_cb(conf, kafka_on_report);
    if (producer->environment->address_allowed) {
        rd_kafka_conf_set_connect_cb(conf, kafka_on_connect);
    }
    producer->handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, fault, SINK_FAULT_LEN);
    if (producer->handle) {
        return ERR_OK;
    }
    rd_kafka_conf_destroy(conf);
    return rd_kafka_last_error() == RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE ? ERR_UNAVAILABLE
                                                                         : ERR_ARGUMENT;
}

static void kafka_producer_free(struct kafka_producer *producer) {
    pthread_mutex_destroy(&producer->log.lock);
    free(producer);
}

enum err kafka_producer_create(struct kafka_producer **out,
                               const struct kafka_producer_config *config, char *fault) {
    char client[KAFKA_CLIENT_LEN];
    snprintf(client, sizeof client, "mqfleet-%s", config->environment->node);
    rd_kafka_conf_t *conf = kafka_settings_configure(config->settings, client, fault);
    if (!conf) {
        return ERR_ARGUMENT;
    }
    struct kafka_producer *producer = calloc(1, sizeof *producer);
    if (!producer) {
        rd_kafka_conf_destroy(conf);
        return ERR_MEMORY;
    }
    producer->report = config->report;
    producer->context = config->context;
    producer->environment = config->environment;
    producer->topic = sink_settings_text(config->settings, "topic");
    pthread_mutex_init(&producer->log.lock, NULL);
    enum err err = kafka_producer_start(producer, conf, fault);
    if (err != ERR_OK) {
        kafka_producer_free(producer);
        return err;
    }
    *out = producer;
    return ERR_OK;
}

void kafka_producer_close(struct kafka_producer *producer) {
    if (!producer) {
        return;
    }
    rd_kafka_purge(producer->handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(producer->handle, KAFKA_CLOSE_MS);
    rd_kafka_destroy(producer->handle);
    kafka_producer_free(producer);
}

/* ---- use ------------------------------------------------------------------------------------- */

rd_kafka_t *kafka_producer_handle(struct kafka_producer *producer) {
    return producer->handle;
}

void kafka_producer_wait(struct kafka_producer *producer, int64_t timeout_ms) {
    rd_kafka_flush(producer->handle, (int)timeout_ms);
}

void kafka_producer_interrupt(struct kafka_producer *producer) {
    rd_kafka_yield(producer->handle);
}

bool kafka_producer_is_dead(const struct kafka_producer *producer) {
    return producer->dead;
}

const char *kafka_producer_error(const struct kafka_producer *producer) {
    return producer->error;
}

void kafka_producer_clear_error(struct kafka_producer *producer) {
    if (!producer->dead) {
        *producer->error = '\0';
    }
}
