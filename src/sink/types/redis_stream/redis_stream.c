/* The sink that appends to Redis streams, one entry per message. Owns the settings of the type; the
 * other files of this folder:
 *
 *   stream_writer    a batch: pipelines of XADD to the nodes of Redis, and their replies
 *     streams        which stream a message belongs to
 *       stream_trim  when a stream is trimmed, and the state of its groups
 *     stream_entry   the fields of an entry
 *     redis_quota    how much of the fleet's Redis messages may fill */
#include "sink/sink_type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "stream_writer.h"

static const struct sink_field stream_sink_fields[] = {
    {.name = "url",
     .kind = SINK_FIELD_URL,
     .description = "address of the Redis; empty: the Redis of the fleet"},
    {.name = "key",
     .kind = SINK_FIELD_TEXT,
     .required = true,
     .description = "key of the stream, a template; key_prefix is put in front"},
    {.name = "shards",
     .kind = SINK_FIELD_INTEGER,
     .number = 1,
     .min = 1,
     .max = STREAMS_SHARDS_MAX,
     .unit = "streams",
     .description = "streams over which the clients are distributed by their id, key:0 to "
                    "key:n-1; 1: the stream is key itself"},
    {.name = "maxlen",
     .kind = SINK_FIELD_INTEGER,
     .number = 1000000,
     .max = 1000000000,
     .unit = "messages",
     .description = "approximate length of each stream; with trim consumed: length at which the "
                    "sink pauses; 0: no limit"},
    {.name = "trim",
     .kind = SINK_FIELD_CHOICE,
     .text = "maxlen",
     .choices = "maxlen|bytes|consumed",
     .description = "what is trimmed: the oldest entries beyond maxlen or bytes_max, read or not; "
                    "or only entries that every consumer group has read and acknowledged"},
    {.name = "bytes_max",
     .kind = SINK_FIELD_INTEGER,
     .max = 1099511627776,
     .unit = "bytes",
     .description = "approximate size to which trim bytes trims the stream; with consumed: size "
                    "at which the sink pauses; 0: no limit"},
    {.name = "ignore_groups",
     .kind = SINK_FIELD_LIST,
     .description = "consumer groups that trim consumed does not wait for"},
    {.name = "redis_bytes_max",
     .kind = SINK_FIELD_INTEGER,
     .max = 1099511627776,
     .unit = "bytes",
     .description = "used memory of the fleet's Redis at which the sink pauses (not with a url); "
                    "0: three quarters of maxmemory"},
    {.name = "min_replicas",
     .kind = SINK_FIELD_INTEGER,
     .max = 16,
     .unit = "replicas",
     .description = "replicas that must have a message before it is accepted"},
    {.name = "measure_idle",
     .kind = SINK_FIELD_BOOLEAN,
     .number = 1,
     .description = "whether the stream is measured before the first message is written"},
    {0}};

static void stream_sink_close(void *state) {
    stream_writer_destroy(state);
}

static enum err stream_sink_open(void **state, const struct sink_environment *environment,
                                 const json_t *settings, char *fault) {
    struct stream_writer *writer = NULL;
    enum err err = stream_writer_create(&writer, environment, settings, fault);
    *state = writer;
    return err;
}

static enum err stream_sink_write(void *state, struct sink_batch *batch) {
    return stream_writer_write(state, batch);
}

static void stream_sink_maintain(void *state) {
    stream_writer_refresh(state);
}

static void stream_sink_status(void *state, struct sink_status *out) {
    stream_writer_status(state, out);
}

/* --- a test --- */

/* A command without effect. False: it failed, and the step was reported. */
static bool stream_sink_test_command(struct redis *redis, int argc, const char *const *argv,
                                     const struct sink_test_report *report, const char *step,
                                     const char *advice, char *answer, size_t size) {
    struct redis_reply *reply = NULL;
    char error[SINK_ERROR_LEN];
    enum err err = redis_command(redis, argc, argv, NULL, &reply);
    const char *text = err == ERR_OK ? redis_reply_str(reply, NULL) : NULL;
    snprintf(answer, size, "%s", text ? text : "");
    redis_describe_error(redis, error, sizeof error);
    bool failed = err != ERR_OK || redis_reply_type(reply) == REDIS_ERROR;
    if (failed) {
        report->step(report->context, step, false, err == ERR_OK ? answer : error, advice);
    }
    redis_reply_free(reply);
    return !failed;
}

static void stream_sink_test_key(struct redis *redis, const char *key,
                                 const struct sink_test_report *report) {
    char answer[SINK_ERROR_LEN];
    const char *const type[] = {"TYPE", key};
    if (!stream_sink_test_command(redis, 2, type, report, "permission",
                                  "allow the user this key (ACL SETUSER)", answer, sizeof answer)) {
        return;
    }
    bool fits = strcmp(answer, "stream") == 0 || strcmp(answer, "none") == 0;
    char detail[SINK_ERROR_LEN * 2];
    snprintf(detail, sizeof detail, "the key %.100s is %s%s", key,
             strcmp(answer, "none") == 0 ? "free" : "a ", fits && answer[0] == 'n' ? "" : answer);
    report->step(report->context, "permission", fits, detail, "use another key");
}

static void stream_sink_test(const struct sink_environment *environment, const json_t *settings,
                             const struct sink_test_report *report) {
    const char *url = sink_settings_text(settings, "url");
    char answer[SINK_ERROR_LEN], fault[SINK_FAULT_LEN] = "", key[512];
    const char *const ping[] = {"PING"};
    bool shared = *url == '\0' || strcmp(url, environment->redis_url) == 0;
    url = shared ? environment->redis_url : url;
    if (redis_url_check(url, fault) != ERR_OK) {
        report->step(report->context, "settings", false, fault, "correct the url");
        return;
    }
    struct redis *redis = redis_create(url, environment->redis_timeout_ms);
    if (redis && !shared) {
        redis_restrict(redis, &(struct redis_access){.allowed = environment->address_allowed,
                                                     .context = environment->address_context});
    }
    if (redis && stream_sink_test_command(redis, 1, ping, report, "connect",
                                          "check host, port, TLS, user and password", answer,
                                          sizeof answer)) {
        report->step(report->context, "connect", true, "connected and authenticated", NULL);
        snprintf(key, sizeof key, "%s%s", environment->key_prefix,
                 sink_settings_text(settings, "key"));
        stream_sink_test_key(redis, key, report);
    }
    redis_destroy(redis);
}

const struct sink_type sink_type_redis_stream = {.version = MQFLEET_VERSION,
                                                 .name = "redis_stream",
                                                 .fields = stream_sink_fields,
                                                 .open = stream_sink_open,
                                                 .write = stream_sink_write,
                                                 .close = stream_sink_close,
                                                 .maintain = stream_sink_maintain,
                                                 .test = stream_sink_test,
                                                 .status = stream_sink_status};
