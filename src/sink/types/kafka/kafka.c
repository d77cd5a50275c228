/* The sink that produces records to a topic of Kafka, by librdkafka. A batch is produced in groups.
 * A group is complete when each of its messages has its delivery report. If reports are missing at
 * the end of a write, the next write waits for them, so a live producer writes each message once.
 *
 * A broker refuses a whole record batch because of one record. Then the group is halved until that
 * record is alone, and grows again. */
#include "sink/sink_type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "kafka_flight.h"
#include "kafka_producer.h"
#include "kafka_record.h"
#include "kafka_settings.h"
#include "kafka_test.h"

#define KAFKA_WRITE_MS_MAX 1000
#define KAFKA_SLICE_MS     100 /* without a report for so long, a write that had some ends */
#define KAFKA_GROUP_MAX    10000

enum kafka_group_result {
    KAFKA_GROUP_DONE,
    KAFKA_GROUP_SLOW,    /* reports are due; the next write continues */
    KAFKA_GROUP_REFUSED, /* for some message, which is not known */
    KAFKA_GROUP_FAILED
};

struct kafka_sink {
    const json_t *settings;
    const struct sink_environment *environment;
    struct kafka_shape *shape;
    struct kafka_producer *producer; /* NULL: not created yet */
    struct kafka_flight flight;
    size_t group_max;

    /* during a write */
    struct sink_batch *batch; /* NULL: there is none */
    bool alone;               /* one message is in flight */
    size_t settled;           /* of the batch */
    enum kafka_group_result result;
};

/* ---- delivery reports ------------------------------------------------------------------------ */

/* The data table: errors by which Kafka refuses a message because of its content. After any
 * other error the message is produced again, also after RD_KAFKA_RESP_ERR_INVALID_MSG (damaged
 * in transit). */
static bool kafka_is_refusal(rd_kafka_resp_err_t error) {
    switch (error) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE: /* larger than a segment of the log */
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:     /* too far from the broker's time */
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
        return true;
    default:
        return false;
    }
}

static void kafka_note_failure(struct kafka_sink *kafka, const rd_kafka_message_t *report) {
    const char *topic = report->rkt ? rd_kafka_topic_name(report->rkt) : "";
    kafka->result = KAFKA_GROUP_FAILED;
    sink_batch_fail(kafka->batch, ERR_IO, "topic %.60s: %s", topic, rd_kafka_err2str(report->err));
}

static void kafka_note_report(void *context, const rd_kafka_message_t *report) {
    struct kafka_sink *kafka = context;
    size_t index = kafka_flight_remove(&kafka->flight, report->_private);
    if (index == KAFKA_NO_INDEX) {
        return;
    }
    kafka->settled++;
    if (report->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        sink_batch_accept(kafka->batch, index);
        kafka_producer_clear_error(kafka->producer);
    } else if (!kafka_is_refusal(report->err)) {
        kafka_note_failure(kafka, report);
    } else if (kafka->alone) {
        sink_batch_reject(kafka->batch, index, "%s", rd_kafka_err2str(report->err));
    } else if (kafka->result == KAFKA_GROUP_DONE) {
        kafka->result = KAFKA_GROUP_REFUSED;
    }
    if (kafka->flight.due == 0) {
        kafka_producer_interrupt(kafka->producer);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static enum err kafka_create_producer(struct kafka_sink *kafka, char *fault) {
    struct kafka_producer_config config = {
        .settings = kafka->settings,
        .environment = kafka->environment,
        .report = kafka_note_report,
        .context = kafka,
    };
    return kafka_producer_create(&kafka->producer, &config, fault);
}

/* The outcome of messages in flight is unknown: the next producer produces them again. */
static void kafka_replace_producer(struct kafka_sink *kafka) {
    log_event(LOG_WARN, "kafka_producer_replaced",
              KS("topic", sink_settings_text(kafka->settings, "topic")),
              KI("unknown", kafka->flight.due), KS("error", kafka_producer_error(kafka->producer)));
    kafka_producer_close(kafka->producer);
    kafka->producer = NULL;
    kafka_flight_fini(&kafka->flight);
}

static void kafka_close(void *state) {
    struct kafka_sink *kafka = state;
    kafka_flight_abandon(&kafka->flight);
    kafka_producer_close(kafka->producer);
    kafka_flight_fini(&kafka->flight);
    kafka_shape_destroy(kafka->shape);
    free(kafka);
}

static enum err kafka_open(void **state, const struct sink_environment *environment,
                           const json_t *settings, char *fault) {
    struct kafka_sink *kafka = calloc(1, sizeof *kafka);
    if (!kafka) {
        return ERR_MEMORY;
    }
    kafka->settings = settings;
    kafka->environment = environment;
    kafka->group_max = KAFKA_GROUP_MAX;
    kafka_flight_init(&kafka->flight);
    enum err err = kafka_shape_create(&kafka->shape, settings, environment->node, fault);
    if (err == ERR_OK) {
        err = kafka_create_producer(kafka, fault);
        err = err == ERR_UNAVAILABLE ? ERR_OK : err; /* a write tries again */
    }
    if (err != ERR_OK) {
        kafka_close(kafka);
        return err;
    }
    *state = kafka;
    return ERR_OK;
}

/* ---- a group --------------------------------------------------------------------------------- */

static rd_kafka_resp_err_t kafka_produce(struct kafka_sink *kafka, struct kafka_record *record,
                                         struct kafka_delivery *delivery) {
    /* A copy: the sink may give up a message while librdkafka has it. */
    rd_kafka_resp_err_t error = rd_kafka_producev(
        kafka_producer_handle(kafka->producer), RD_KAFKA_V_TOPIC(record->topic),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(record->key, record->key_len),
        RD_KAFKA_V_VALUE((void *)(uintptr_t)record->value, record->value_len),
        RD_KAFKA_V_TIMESTAMP(record->timestamp_ms), RD_KAFKA_V_HEADERS(record->headers),
        RD_KAFKA_V_OPAQUE(delivery), RD_KAFKA_V_END);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR && record->headers) {
        rd_kafka_headers_destroy(record->headers);
    }
    return error;
}

/* ERR_FULL: librdkafka has no room until others are delivered. */
static enum err kafka_send_record(struct kafka_sink *kafka, size_t index,
                                  struct kafka_record *record) {
    struct kafka_delivery *delivery = kafka_flight_add(&kafka->flight, kafka->batch, index);
    if (!delivery) {
        rd_kafka_headers_destroy(record->headers);
        return ERR_MEMORY;
    }
    rd_kafka_resp_err_t error = kafka_produce(kafka, record, delivery);
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
        return ERR_OK;
    }
    kafka_flight_remove(&kafka->flight, delivery);
    if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        return ERR_FULL;
    }
    if (kafka_is_refusal(error)) {
        sink_batch_reject(kafka->batch, index, "%s (message.max.bytes)", rd_kafka_err2str(error));
        return ERR_OK;
    }
    return sink_batch_fail(kafka->batch, ERR_IO, "topic %.60s: %s", record->topic,
                           rd_kafka_err2str(error));
}

static enum err kafka_send_message(struct kafka_sink *kafka, size_t index) {
    char reason[SINK_REASON_LEN];
    struct kafka_record record;
    enum err err = kafka_record_make(kafka->shape, kafka->batch->messages[index], &record, reason);
    if (err == ERR_NOT_FOUND) {
        sink_batch_reject(kafka->batch, index, "%s", reason);
        return ERR_OK;
    }
    return err == ERR_OK ? kafka_send_record(kafka, index, &record) : err;
}

/* *end: up to which index they were sent. */
static enum err kafka_send_group(struct kafka_sink *kafka, size_t begin, size_t *end) {
    enum err err = ERR_OK;
    size_t at = begin;
    while (at < *end && err == ERR_OK) {
        bool settled = kafka->batch->outcomes[at] != SINK_RETRY;
        err = settled || kafka_flight_has(&kafka->flight, at) ? ERR_OK
                                                              : kafka_send_message(kafka, at);
        at += err == ERR_OK;
    }
    *end = at;
    if (err == ERR_FULL && at > begin) {
        return ERR_OK; /* the rest comes with the next group */
    }
    return err == ERR_OK ? ERR_OK : sink_batch_fail(kafka->batch, err, "%s", err_name(err));
}

/* Returns when there is nothing to wait for any more. */
static void kafka_await_reports(struct kafka_sink *kafka, int64_t deadline_ms) {
    int64_t left_ms = deadline_ms - clock_ms();
    bool stalled = false;
    while (kafka->flight.due > 0 && left_ms > 0 && !stalled && !sink_batch_is_over(kafka->batch) &&
           !kafka_producer_is_dead(kafka->producer)) {
        size_t settled = kafka->settled;
        kafka_producer_wait(kafka->producer, left_ms < KAFKA_SLICE_MS ? left_ms : KAFKA_SLICE_MS);
        stalled = settled > 0 && settled == kafka->settled;
        left_ms = deadline_ms - clock_ms();
    }
}

/* A slow target is no failure, unless it has settled no message. */
static enum err kafka_judge_wait(struct kafka_sink *kafka) {
    const char *error = kafka_producer_error(kafka->producer);
    if (kafka_producer_is_dead(kafka->producer)) {
        return sink_batch_fail(kafka->batch, ERR_UNAVAILABLE, "%s", error);
    }
    if (kafka->flight.due > 0 && kafka->settled == 0) {
        return sink_batch_fail(kafka->batch, ERR_TIMEOUT, "%s",
                               *error ? error : "no acknowledgement from the brokers yet");
    }
    if (kafka->flight.due > 0 && kafka->result == KAFKA_GROUP_DONE) {
        kafka->result = KAFKA_GROUP_SLOW;
    }
    return kafka->result == KAFKA_GROUP_FAILED ? ERR_IO : ERR_OK;
}

static enum err kafka_write_group(struct kafka_sink *kafka, size_t begin, size_t *end,
                                  int64_t deadline_ms) {
    kafka->result = KAFKA_GROUP_DONE;
    enum err err = kafka_send_group(kafka, begin, end);
    kafka->alone = kafka->flight.due + kafka->flight.abandoned == 1;
    kafka_await_reports(kafka, deadline_ms);
    enum err judged = kafka_judge_wait(kafka);
    return err == ERR_OK ? judged : err;
}

/* ---- a batch --------------------------------------------------------------------------------- */

static size_t kafka_group_end(const struct kafka_sink *kafka, size_t begin) {
    size_t left = kafka->batch->count - begin;
    return begin + (left < kafka->group_max ? left : kafka->group_max);
}

/* Every turn settles a group or halves it, and the deadline ends them all. */
static enum err kafka_write_groups(struct kafka_sink *kafka, int64_t deadline_ms) {
    size_t begin = 0;
    enum err err = ERR_OK;
    kafka->result = KAFKA_GROUP_DONE;
    kafka->settled = 0;
    while (begin < kafka->batch->count && err == ERR_OK && kafka->result != KAFKA_GROUP_SLOW) {
        size_t end = kafka_group_end(kafka, begin);
        err = kafka_write_group(kafka, begin, &end, deadline_ms);
        if (kafka->result == KAFKA_GROUP_REFUSED) {
            kafka->group_max = (end - begin + 1) / 2;
        } else {
            begin = end;
            kafka->group_max += kafka->group_max / 16 + 1;
        }
        if (kafka->group_max > KAFKA_GROUP_MAX) {
            kafka->group_max = KAFKA_GROUP_MAX;
        }
    }
    return err;
}

static enum err kafka_ensure_producer(struct kafka_sink *kafka) {
    char fault[SINK_FAULT_LEN] = "";
    if (kafka->producer) {
        return ERR_OK;
    }
    enum err err = kafka_create_producer(kafka, fault);
    return err == ERR_OK ? ERR_OK : sink_batch_fail(kafka->batch, err, "%s", fault);
}

static enum err kafka_write(void *state, struct sink_batch *batch) {
    struct kafka_sink *kafka = state;
    kafka->batch = batch;
    enum err err = kafka_ensure_producer(kafka);
    if (err == ERR_OK) {
        err = kafka_flight_adopt(&kafka->flight, batch);
    }
    if (err == ERR_OK) {
        err = kafka_write_groups(kafka, clock_ms() + KAFKA_WRITE_MS_MAX);
    }
    if (kafka->producer && kafka_producer_is_dead(kafka->producer)) {
        kafka_replace_producer(kafka);
    }
    kafka->batch = NULL;
    return err == ERR_OK ? ERR_OK : sink_batch_fail(batch, err, "%s", err_name(err));
}

/* The queue is empty: all messages in flight were given up. */
static void kafka_maintain(void *state) {
    struct kafka_sink *kafka = state;
    kafka_flight_abandon(&kafka->flight);
    if (!kafka->producer) {
        return;
    }
    kafka_producer_wait(kafka->producer, 0);
    if (kafka_producer_is_dead(kafka->producer)) {
        kafka_replace_producer(kafka);
    }
}

const struct sink_type sink_type_kafka = {.version = MQFLEET_VERSION,
                                          .name = "kafka",
                                          .fields = kafka_fields,
                                          .open = kafka_open,
                                          .write = kafka_write,
                                          .close = kafka_close,
                                          .test = kafka_test,
                                          .maintain = kafka_maintain};
