/* Owns the fields of the type kafka, and which properties of librdkafka an operator may set. */
#include "kafka_settings.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const struct sink_field kafka_fields[] = {
    {.name = "brokers",
     .kind = SINK_FIELD_HOSTS,
     .required = true,
     .description = "bootstrap brokers, HOST:PORT, separated by commas"},
    {.name = "topic",
     .kind = SINK_FIELD_TEXT,
     .required = true,
     .description = "topic of Kafka; a template"},
    {.name = "key",
     .kind = SINK_FIELD_TEXT,
     .text = "{id}",
     .description = "key of the record, which chooses its partition; a template. By default "
                    "messages of a client stay in order"},
    {.name = "value",
     .kind = SINK_FIELD_TEXT,
     .text = "{payload}",
     .description = "value of the record; a template"},
    {.name = "standard_headers",
     .kind = SINK_FIELD_BOOLEAN,
     .number = 1,
     .description = "write the headers that docs/sinks.md lists"},
    {.name = "headers", .kind = SINK_FIELD_MAP, .description = "more headers: templates by name"},
    {.name = "partitioner",
     .kind = SINK_FIELD_CHOICE,
     .text = "murmur2_random",
     .choices = "murmur2_random|consistent_random|fnv1a_random",
     .description = "how the key chooses the partition; murmur2_random is that of the Java client, "
                    "consistent_random that of librdkafka, fnv1a_random that of Sarama"},
    {.name = "compression",
     .kind = SINK_FIELD_CHOICE,
     .text = "none",
     .choices = "none|gzip|snappy|lz4|zstd",
     .description = "compression of batches"},
    {.name = "tls", .kind = SINK_FIELD_BOOLEAN, .description = "connect with TLS"},
    {.name = "tls_ca",
     .kind = SINK_FIELD_TEXT,
     .description = "CA certificates, as PEM text or an absolute path; empty: those of the system"},
    {.name = "tls_cert",
     .kind = SINK_FIELD_TEXT,
     .description = "certificate of this client, as PEM text or an absolute path"},
    {.name = "tls_key",
     .kind = SINK_FIELD_SECRET,
     .description = "its private key, as PEM text or an absolute path"},
    {.name = "tls_key_password",
     .kind = SINK_FIELD_SECRET,
     .description = "password of the private key"},
    {.name = "sasl_mechanism",
     .kind = SINK_FIELD_CHOICE,
     .text = "none",
     .choices = "none|PLAIN|SCRAM-SHA-256|SCRAM-SHA-512",
     .description = "authentication mechanism"},
    {.name = "username", .kind = SINK_FIELD_TEXT, .description = "user name for SASL"},
    {.name = "password", .kind = SINK_FIELD_SECRET, .description = "password for SASL"},
    {.name = "options",
     .kind = SINK_FIELD_MAP,
     .secret = true,
     .description = "further properties of librdkafka by name, such as message.max.bytes"},
    {0}};

/* ---- options --------------------------------------------------------------------------------- */

/* The first row that matches decides. A name that ends with "." is a prefix. */
static const struct {
    const char *name;
    const char *refused; /* why; NULL: it is permitted */
} options[] = {
    {"ssl.cipher.suites", NULL},
    {"ssl.curves.list", NULL},
    {"ssl.sigalgs.list", NULL},
    {"ssl.", "the fields tls and tls_* set it"},
    {"https.", "the fields tls and tls_* set it"},
    {"sasl.", "the fields sasl_mechanism, username and password set it"},
    {"security.protocol", "the fields tls and sasl_mechanism set it"},
    {"metadata.broker.list", "the field brokers sets it"},
    {"bootstrap.servers", "the field brokers sets it"},
    {"partitioner", "the field partitioner sets it"},
    {"compression.codec", "the field compression sets it"},
    {"compression.type", "the field compression sets it"},
    {"plugin.", "it loads libraries"},
    {"enable.idempotence", "messages would be duplicated"},
    {"enable.gapless.guarantee", "one refused record would stop all others"},
    {"enable.sasl.oauthbearer.unsecure.jwt", "it is not safe"},
    {"enable.ssl.certificate.verification", "it is not safe"},
    {"acks", "acknowledged messages could be lost"},
    {"request.required.acks", "acknowledged messages could be lost"},
    {"message.timeout.ms", "messages could be duplicated or out of order"},
    {"delivery.timeout.ms", "messages could be duplicated or out of order"},
    {"retries", "messages could be duplicated or out of order"},
    {"message.send.max.retries", "messages could be duplicated or out of order"},
    {"max.in.flight", "messages could be out of order"},
    {"max.in.flight.requests.per.connection", "messages could be out of order"},
    {"queuing.strategy", "messages could be out of order"},
    {"delivery.report.only.error", "no message would be acknowledged"},
    {"transactional.id", "the sink has no transactions"},
    {"transaction.timeout.ms", "the sink has no transactions"},
    {"test.", "it is for tests"},
    {"internal.termination.signal", "it sends signals to the program"},
    {"statistics.interval.ms", "the sink does not read them"},
    {"client.id", "it is set to mqfleet-NODE"},
};

static const char *kafka_option_refusal(const char *name) {
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        size_t len = strlen(options[i].name);
        bool prefix = options[i].name[len - 1] == '.';
        if (prefix ? strncmp(name, options[i].name, len) == 0
                   : strcmp(name, options[i].name) == 0) {
            return options[i].refused;
        }
    }
    return NULL;
}

/* ---- the configuration ----------------------------------------------------------------------- */

struct kafka_settings {
    const json_t *settings;
    rd_kafka_conf_t *conf;
    char *fault; /* "" as long as there is none */
};

static void kafka_set(struct kafka_settings *to, const char *field, const char *property,
                      const char *value) {
    char text[SINK_FAULT_LEN];
    if (*to->fault == '\0' &&
        rd_kafka_conf_set(to->conf, property, value, text, sizeof text) != RD_KAFKA_CONF_OK) {
        snprintf(to->fault, SINK_FAULT_LEN, "%.60s %.180s", field, text);
    }
}

static void kafka_set_field(struct kafka_settings *to, const char *field, const char *property) {
    const char *value = sink_settings_text(to->settings, field);
    if (*value != '\0') {
        kafka_set(to, field, property, value);
    }
}

/* PEM text has one property, the path of a file another. */
static void kafka_set_pem(struct kafka_settings *to, const char *field, const char *pem,
                          const char *path) {
    const char *value = sink_settings_text(to->settings, field);
    if (*value == '/') {
        kafka_set(to, field, path, value);
    } else if (strncmp(value, "-----BEGIN ", 11) == 0) {
        kafka_set(to, field, pem, value);
    } else if (*value != '\0' && *to->fault == '\0') {
        snprintf(to->fault, SINK_FAULT_LEN,
                 "%s must be PEM text (it begins with -----BEGIN) or an absolute path", field);
    }
}

static void kafka_set_options(struct kafka_settings *to) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)sink_settings_json(to->settings, "options"), name, value) {
        const char *refusal = kafka_option_refusal(name);
        if (refusal && *to->fault == '\0') {
            snprintf(to->fault, SINK_FAULT_LEN, "options %.60s may not be set: %s", name, refusal);
        }
        kafka_set(to, "options", name, json_string_value(value));
    }
}

/* The properties that ensure the guarantees. */
static void kafka_set_guarantees(struct kafka_settings *to) {
    static const char *const values[][2] = {
        {"enable.idempotence", "true"},
        {"acks", "all"},
        {"message.timeout.ms", "0"}, /* librdkafka retries without a time limit */
        {"delivery.report.only.error", "false"},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        kafka_set(to, "kafka", values[i][0], values[i][1]);
    }
}

/* What an operator may change. A group of messages is sent at once by rd_kafka_flush: the linger
 * time only keeps librdkafka from sending the first messages alone. */
static void kafka_set_defaults(struct kafka_settings *to) {
    static const char *const values[][2] = {
        {"queue.buffering.max.ms", "50"},     {"socket.nagle.disable", "true"},
        {"socket.keepalive.enable", "true"},  {"log.connection.close", "false"},
        {"reconnect.backoff.max.ms", "2000"},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        kafka_set(to, "kafka", values[i][0], values[i][1]);
    }
}

static void kafka_set_security(struct kafka_settings *to) {
    static const char *const protocols[2][2] = {{"plaintext", "sasl_plaintext"},
                                                {"ssl", "sasl_ssl"}};
    const char *mechanism = sink_settings_text(to->settings, "sasl_mechanism");
    bool tls = sink_settings_boolean(to->settings, "tls");
    bool sasl = strcmp(mechanism, "none") != 0;
    kafka_set(to, "tls", "security.protocol", protocols[tls][sasl]);
    if (tls) {
        kafka_set_pem(to, "tls_ca", "ssl.ca.pem", "ssl.ca.location");
        kafka_set_pem(to, "tls_cert", "ssl.certificate.pem", "ssl.certificate.location");
        kafka_set_pem(to, "tls_key", "ssl.key.pem", "ssl.key.location");
        kafka_set_field(to, "tls_key_password", "ssl.key.password");
    }
    if (sasl) {
        kafka_set(to, "sasl_mechanism", "sasl.mechanism", mechanism);
        kafka_set_field(to, "username", "sasl.username");
        kafka_set_field(to, "password", "sasl.password");
    }
}

rd_kafka_conf_t *kafka_settings_configure(const json_t *settings, const char *client, char *fault) {
    struct kafka_settings to = {settings, rd_kafka_conf_new(), fault};
    *fault = '\0';
    kafka_set_defaults(&to);
    kafka_set_options(&to);
    kafka_set_field(&to, "brokers", "bootstrap.servers");
    kafka_set_field(&to, "partitioner", "partitioner");
    kafka_set_field(&to, "compression", "compression.codec");
    kafka_set(&to, "kafka", "client.id", client);
    kafka_set_security(&to);
    kafka_set_guarantees(&to);
    if (*fault != '\0') {
        rd_kafka_conf_destroy(to.conf);
        return NULL;
    }
    return to.conf;
}
