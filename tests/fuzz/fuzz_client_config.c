/* Fuzzes the body of POST /api/v1/clients: JSON, then a client's configuration by both sources. An
 * accepted document has a canonical text that is accepted again, with the same text and the same
 * identity. The document that is shown contains no secret. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "http/server/json.h"
#include "mqtt/config/client_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct client_config *config, json_t *document) {
    char *canonical = client_config_canonical(document);
    char *identity = client_config_identity(config);
    assert(canonical && identity);
    struct client_config *again;
    struct client_faults faults = {.count = 0};
    enum err err =
        client_config_parse_text(canonical, strlen(canonical), config->id, &again, &faults);
    assert(err == ERR_OK);
    char *identity_again = client_config_identity(again);
    json_t *document_again = json_loads(canonical, 0, NULL);
    char *canonical_again = client_config_canonical(document_again);
    assert(strcmp(identity, identity_again) == 0);
    assert(strcmp(canonical, canonical_again) == 0);
    json_decref(document_again);
    client_config_destroy(again);
    free(canonical);
    free(canonical_again);
    free(identity);
    free(identity_again);
}

static void check_shown(const struct client_config *config, json_t *document) {
    json_t *shown = client_config_redacted(document);
    assert(shown);
    const char *password = json_string_value(json_object_get(document, "password"));
    const char *seen = json_string_value(json_object_get(shown, "password"));
    assert(!password || (seen && strcmp(seen, "***") == 0));
    (void)config;
    json_decref(shown);
}

static void check_source(const uint8_t *data, size_t size, enum client_source source) {
    json_t *document;
    bool repaired;
    char detail[HTTP_JSON_DETAIL_LEN];
    if (http_json_parse((const char *)data, size, &document, &repaired, detail) != ERR_OK) {
        return;
    }
    struct client_config *config = NULL;
    struct client_faults faults = {.count = 0};
    if (json_is_object(document)) {
        enum err err = client_config_parse(document, source, NULL, &config, &faults);
        http_json_text_faults(document, repaired, &faults);
        assert(err == ERR_OK || faults.count > 0);
        if (faults.count == 0) {
            check_again(config, document);
        }
        check_shown(config, document);
        json_t *list = http_faults_json(&faults, "/0", NULL);
        assert(list);
        json_decref(list);
    }
    client_config_destroy(config);
    json_decref(document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check_source(data, size, CLIENT_FROM_API);
    check_source(data, size, CLIENT_FROM_STORE);
    return 0;
}
