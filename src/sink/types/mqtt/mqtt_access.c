/* Owns the translation of settings into a client's configuration. */
#include "mqtt_access.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/secrets/small_file.h"
#include "base/text.h"

#define PEM_BYTES_MAX 1048576
#define RANDOM_DIGITS 8

/* ---- client identifier ----------------------------------------------------------------------- */

static bool mqtt_access_append_placeholder(struct buffer *out, const char *name, size_t len,
                                           const struct sink_environment *environment) {
    char random[TEXT_ID_LEN];
    text_random_id(random);
    random[RANDOM_DIGITS] = '\0';
    const struct {
        const char *name, *value;
    } placeholders[] = {
        {"node", environment->node}, {"sink", environment->sink}, {"random", random}};
    for (size_t i = 0; i < sizeof placeholders / sizeof placeholders[0]; i++) {
        if (strlen(placeholders[i].name) == len && memcmp(placeholders[i].name, name, len) == 0) {
            buffer_append_str(out, placeholders[i].value);
            return true;
        }
    }
    return false;
}

enum err mqtt_access_client_id(const struct sink_environment *environment, const json_t *settings,
                               char **out, char *fault) {
    struct buffer text;
    buffer_init(&text);
    const char *at = sink_settings_text(settings, "client_id");
    bool valid = true;
    while (valid && *at) { /* a part of the text each */
        size_t plain = strcspn(at, "{");
        buffer_append(&text, at, plain);
        at += plain;
        if (*at == '{') {
            size_t len = strcspn(at + 1, "}");
            valid = at[1 + len] == '}' &&
                    mqtt_access_append_placeholder(&text, at + 1, len, environment);
            at += len + (valid ? 2 : 0);
        }
    }
    if (!valid || text.len == 0) {
        snprintf(fault, SINK_FAULT_LEN,
                 "client_id must be text with {node}, {sink} and {random}, and not empty");
        buffer_fini(&text);
        return ERR_ARGUMENT;
    }
    *out = buffer_take(&text);
    return *out ? ERR_OK : ERR_MEMORY;
}

/* ---- files of TLS ---------------------------------------------------------------------------- */

/* A path stays a path unless files must be read: the configuration accepts both. NULL: see fault.
 */
static json_t *mqtt_access_pem(const json_t *settings, const char *name, bool reads, char *fault) {
    const char *text = sink_settings_text(settings, name);
    const char *why;
    char *pem = NULL;
    size_t len;
    if (!reads || *text != '/') {
        return json_string(text);
    }
    if (small_file_read(text, PEM_BYTES_MAX, &pem, &len, NULL, &why) != ERR_OK) {
        snprintf(fault, SINK_FAULT_LEN, "%s: cannot read %.120s: %s", name, text, why);
        return NULL;
    }
    json_t *content = json_stringn(pem, len);
    if (!content) {
        snprintf(fault, SINK_FAULT_LEN, "%s: %.120s is not PEM", name, text);
    }
    free(pem);
    return content;
}

/* NULL: see fault, or out of memory. Empty: TLS, if the scheme wants it, with its defaults. */
static json_t *mqtt_access_tls(const json_t *settings, bool reads, char *fault) {
    static const struct {
        const char *field, *member;
    } rows[] = {{"tls_ca", "ca"}, {"tls_cert", "cert"}, {"tls_key", "key"}};
    json_t *tls = json_object();
    bool ok = tls != NULL;
    for (size_t i = 0; ok && i < sizeof rows / sizeof rows[0]; i++) {
        if (*sink_settings_text(settings, rows[i].field) != '\0') {
            ok = json_object_set_new(tls, rows[i].member,
                                     mqtt_access_pem(settings, rows[i].field, reads, fault)) == 0;
        }
    }
    if (ok && !sink_settings_boolean(settings, "tls_verify")) {
        ok = json_object_set_new(tls, "insecure", json_true()) == 0;
    }
    if (!ok) {
        json_decref(tls);
        return NULL;
    }
    return tls;
}

/* ---- configuration --------------------------------------------------------------------------- */

static json_t *mqtt_access_document(const json_t *settings, const char *client_id, bool reads,
                                    char *fault) {
    json_t *tls = mqtt_access_tls(settings, reads, fault);
    json_t *document =
        tls ? json_pack(
                  "{s:s, s:s, s:s, s:I, s:I, s:b}", "id", "sink", "url",
                  sink_settings_text(settings, "url"), "client_id", client_id, "protocol_version",
                  (json_int_t)sink_settings_integer(settings, "protocol_version"), "keepalive_s",
                  (json_int_t)sink_settings_integer(settings, "keepalive_s"), "clean_start", 1)
            : NULL;
    static const char *const optional[] = {"username", "password"};
    bool ok = document != NULL;
    for (size_t i = 0; ok && i < sizeof optional / sizeof optional[0]; i++) {
        const char *text = sink_settings_text(settings, optional[i]);
        ok = !*text || json_object_set_new(document, optional[i], json_string(text)) == 0;
    }
    if (ok && json_object_size(tls) > 0) {
        ok = json_object_set(document, "tls", tls) == 0;
    }
    json_decref(tls);
    if (!ok) {
        json_decref(document);
        return NULL;
    }
    return document;
}

/* "/tls/ca" is the field tls_ca. */
static void mqtt_access_name_fault(const struct client_fault *first, char *fault) {
    char name[64];
    snprintf(name, sizeof name, "%s", *first->pointer == '/' ? first->pointer + 1 : "");
    for (char *at = name; *at; at++) {
        *at = (char)(*at == '/' ? '_' : *at);
    }
    snprintf(fault, SINK_FAULT_LEN, "%s %.180s", name, first->detail);
}

static enum err mqtt_access_make(const json_t *settings, const char *client_id, bool reads,
                                 struct client_config **out, char *fault) {
    struct client_faults faults = {.count = 0};
    *fault = '\0';
    json_t *document = mqtt_access_document(settings, client_id, reads, fault);
    if (!document) {
        return *fault ? ERR_IO : ERR_MEMORY;
    }
    enum err err = client_config_parse(document, CLIENT_FROM_API, NULL, out, &faults);
    json_decref(document);
    if (err == ERR_ARGUMENT) {
        mqtt_access_name_fault(&faults.items[0], fault);
    }
    return err;
}

enum err mqtt_access_check(const json_t *settings, const char *client_id,
                           struct client_config **out, char *fault) {
    return mqtt_access_make(settings, client_id, false, out, fault);
}

enum err mqtt_access_load(const json_t *settings, const char *client_id, struct client_config **out,
                          char *fault) {
    return mqtt_access_make(settings, client_id, true, out, fault);
}
