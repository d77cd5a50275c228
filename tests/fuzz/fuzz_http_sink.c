/* Fuzzes the http sink: the first byte selects a response of a database, or a message whose topic
 * and payload are the halves of the rest. Documents are valid JSON, and a point of InfluxDB has the
 * same number of parts whatever it contains. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "base/text.h"
#include "sink/types/http/http_clickhouse.h"
#include "sink/types/http/http_elasticsearch.h"
#include "sink/types/http/http_format.h"

#define ITEMS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_response(const char *text, size_t len) {
    size_t indices[ITEMS] = {2, 0, 1};
    enum sink_outcome outcomes[ITEMS] = {0};
    char reasons[ITEMS][SINK_REASON_LEN];
    struct sink_batch batch = {.count = ITEMS, .outcomes = outcomes, .reasons = reasons};
    struct http_range range = {&batch, indices, ITEMS};
    struct http_response response = {200, text, len};
    enum http_outcome outcome = http_elasticsearch_settle(&response, &range);
    bool retried = false;
    for (size_t i = 0; i < ITEMS; i++) {
        retried |= outcomes[i] == SINK_RETRY;
    }
    assert((outcome == HTTP_ACCEPTED) == !retried);
    assert(retried == (*batch.error != '\0'));
    (void)http_clickhouse_judge(&response);
}

static void fuzz_json(struct buffer *out, const char *name, const struct message *message,
                      const struct http_document *document) {
    const size_t flags = JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES;
    buffer_clear(out);
    http_format_find(name)->append(out, message, document);
    json_t *json = json_loadb(out->data, out->len, flags, NULL);
    assert(json);
    json_decref(json);
}

/* The parts of a line, separated by spaces that are neither escaped nor in quotes. A text begins
 * directly after the unescaped = of its field; other quotes are characters of names. */
static size_t fuzz_count_parts(const char *line, size_t len) {
    size_t parts = 1;
    size_t value_at = 0;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        if (line[i] == '\\') {
            i++;
        } else if (quoted || (line[i] == '"' && parts == 2 && i == value_at)) {
            quoted = line[i] != '"' || !quoted;
        } else if (line[i] == '=') {
            value_at = i + 1;
        } else {
            assert(line[i] != '\n');
            parts += line[i] == ' ';
        }
    }
    assert(!quoted);
    return parts;
}

/* A template that passes the check makes JSON of every message. */
static void fuzz_template(struct buffer *out, const struct message *message) {
    static const char text[] =
        "{{\"t\":{topic:json},\"p\":{payload:json|null},\"j\":[{json:json|0},{json./a/0:json|1}],"
        "\"b\":\"{payload:base64}\",\"m\":\"{message_id}\",{topic.2:json|\"none\"}:{qos}}}";
    char fault[MESSAGE_FAULT_LEN];
    struct template *template = NULL;
    struct message_view view;
    enum err err = template_compile(&template, text, fault);
    assert(err == ERR_OK && template_check_json(template, true, fault) == ERR_OK);
    buffer_clear(out);
    message_view_init(&view, message, "node");
    err = template_render(template, &view, out, fault);
    message_view_fini(&view);
    template_destroy(template);
    assert(err == ERR_OK || err == ERR_NOT_FOUND);
    json_t *json = err == ERR_OK ? json_loadb(out->data, out->len, JSON_ALLOW_NUL, NULL) : NULL;
    assert(json_is_object(json) || err == ERR_NOT_FOUND);
    assert(!memchr(out->data, '\n', out->len));
    json_decref(json);
}

static void fuzz_message(const char *text, size_t len) {
    static const struct http_document document = {
        .node = "node", .index = "index", .line_start = "mqtt"};
    char *topic = text_copy(text, len / 2);
    struct message message = {.id = topic,
                              .client_id = "c",
                              .topic = topic,
                              .payload = (const uint8_t *)text + len / 2,
                              .payload_len = len - len / 2};
    struct buffer out;
    buffer_init(&out);
    fuzz_json(&out, "json", &message, &document);
    fuzz_json(&out, "ndjson", &message, &document);
    fuzz_template(&out, &message);
    buffer_clear(&out);
    http_format_find("influx")->append(&out, &message, &document);
    assert(out.data[out.len - 1] == '\n' && text_is_utf8(out.data, out.len));
    assert(fuzz_count_parts(out.data, out.len - 1) == 3);
    buffer_fini(&out);
    free(topic);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = size > 0 ? text_copy(data + 1, size - 1) : NULL;
    if (text) {
        if (data[0] % 2 == 0) {
            fuzz_response(text, size - 1);
        } else {
            fuzz_message(text, size - 1);
        }
    }
    free(text);
    return 0;
}
