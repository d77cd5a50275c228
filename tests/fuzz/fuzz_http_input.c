/* Fuzzes the other parsers of an HTTP request: the first byte selects the body of .../publish, a
 * query, a path, an entity tag, a cursor or the fields of a head. Escaping again gives the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/percent.h"
#include "base/text.h"
#include "http/api/cursor.h"
#include "http/server/framing.h"
#include "http/server/json.h"
#include "http/api/clients/publication.h"
#include "http/server/request.h"
#include "http/api/routes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_publication(const char *text, size_t len) {
    json_t *document;
    bool repaired;
    char detail[HTTP_JSON_DETAIL_LEN];
    if (http_json_parse(text, len, &document, &repaired, detail) != ERR_OK) {
        return;
    }
    if (json_is_object(document)) {
        struct publication_input *input = publication_parse(document);
        assert(input);
        if (input->faults.count == 0) {
            assert(text_is_mqtt_string(input->publication.topic, strlen(input->publication.topic)));
            assert(input->publication.qos <= 2);
            assert(input->publication.property_count <= PUBLICATION_PROPERTIES_MAX);
        }
        publication_destroy(input);
    }
    json_decref(document);
}

static void fuzz_query(const char *text, size_t len) {
    struct http_query query = {.count = 0};
    int64_t number;
    (void)len;
    if (http_query_parse(text, &query) == ERR_OK) {
        assert(query.count <= HTTP_QUERY_MAX);
        for (size_t i = 0; i < query.count; i++) {
            assert(text_is_utf8(query.items[i].value, strlen(query.items[i].value)));
        }
        if (http_query_int(&query, "limit", 1, 1000, 100, &number) == ERR_OK) {
            assert(number >= 1 && number <= 1000);
        }
    }
    http_query_fini(&query);
}

static void fuzz_path(const char *text, size_t len) {
    static const char *const methods[] = {"GET", "POST", "PUT", "DELETE", "PATCH", ""};
    const struct http_route *route;
    const char *parameter;
    size_t parameter_len;
    char allow[HTTP_ALLOW_LEN], *decoded = NULL;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        (void)http_route_find(methods[i], text, &route, &parameter, &parameter_len, allow);
    }
    if (percent_decode(text, len, false, &decoded) == ERR_OK) {
        char *encoded = percent_encode(decoded), *again = NULL;
        assert(encoded);
        enum err err = percent_decode(encoded, strlen(encoded), false, &again);
        assert(err == ERR_OK && strcmp(decoded, again) == 0);
        free(encoded);
        free(again);
        free(decoded);
    }
}

static void fuzz_tag(const char *text, size_t len) {
    int64_t version;
    (void)len;
    if (http_etag_parse(text, &version) == ERR_OK) {
        assert(version >= 0);
    }
    struct http_request request = {.address = ""};
    http_request_set_id(&request, text);
    assert(request.id[0] != '\0' && strlen(request.id) < sizeof(request.id));
}

static void fuzz_cursor(const char *text, size_t len) {
    struct http_cursor cursor, again;
    char formatted[HTTP_CURSOR_LEN];
    (void)len;
    if (http_cursor_parse(text, &cursor) == ERR_OK) {
        http_cursor_format(&cursor, formatted);
        enum err err = http_cursor_parse(formatted, &again);
        assert(err == ERR_OK && again.phase == cursor.phase && again.scan == cursor.scan &&
               again.after == cursor.after);
    }
}

/* Lines "name:value"; what is accepted has one host and at most one way to tell its end. */
static void fuzz_framing(const char *text, size_t len) {
    struct http_framing framing = {0};
    (void)len;
    while (*text != '\0') {
        size_t line_len = strcspn(text, "\n");
        char *line = text_copy(text, line_len);
        assert(line);
        char *colon = strchr(line, ':');
        if (colon) {
            *colon = '\0';
            http_framing_field(&framing, line, colon + 1);
        }
        free(line);
        text += line_len + (text[line_len] == '\n');
    }
    if (!http_framing_fault(&framing, "/", "HTTP/1.1")) {
        assert(framing.hosts == 1 && framing.lengths + framing.codings <= 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const parts[])(const char *text, size_t len) = {
        fuzz_publication, fuzz_query, fuzz_path, fuzz_tag, fuzz_cursor, fuzz_framing};
    if (size == 0) {
        return 0;
    }
    char *text = text_copy(data + 1, size - 1); /* NUL-terminated, and its end is seen */
    assert(text);
    parts[data[0] % (sizeof(parts) / sizeof(parts[0]))](text, size - 1);
    free(text);
    return 0;
}
