/* Owns the rules for documents of sinks. */
#include "cluster/resources/sink_document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/secrets/client_file.h"
#include "base/secrets/secret_source.h"
#include "sink/sink_secrets.h"
#include "sink/sink_types.h"

#define POINTER_LEN 200
#define HOST_LEN    256
#define NO_FILES    "names a file, but sink.files_allow of this node permits no folder"

struct document_tables {
    const struct sink_field *rows[3];
};

static struct document_tables document_tables_of(const struct sink_type *type) {
    return (struct document_tables){{sink_common_fields, type ? type->fields : NULL, NULL}};
}

const struct sink_type *sink_document_type(const json_t *document, char *fault) {
    return sink_types_find(json_string_value(json_object_get(document, "type")), fault);
}

json_t *sink_document_settings(const json_t *document) {
    json_t *settings = json_deep_copy(document);
    json_object_del(settings, "type");
    return settings;
}

/* ---- what a node permits --------------------------------------------------------------------- */

struct document_check {
    const struct sink_document_rules *rules;
    sink_document_report *report;
    void *context;
    bool failed;
};

static void document_fault(struct document_check *check, const char *field, const char *detail) {
    char pointer[POINTER_LEN];
    snprintf(pointer, sizeof pointer, "%s%.180s", *field ? "/" : "", field);
    check->failed = true;
    check->report(check->context, pointer, detail);
}

static void document_settings_fault(void *context, const char *field, const char *fault) {
    document_fault(context, field, fault);
}

/* One of "host", "host:port", "[address]:port". */
static void document_check_host(struct document_check *check, const char *field, const char *text,
                                size_t len) {
    char host[HOST_LEN], detail[SINK_DOCUMENT_FAULT_LEN];
    const char *why = NULL;
    snprintf(host, sizeof host, "%.*s", (int)len, text);
    char *end = host[0] == '[' ? strchr(host, ']') : strchr(host, ':');
    if (end) {
        *end = '\0';
    }
    const char *name = host[0] == '[' ? host + 1 : host;
    if (check->rules->policy && !address_policy_host(check->rules->policy, name, &why)) {
        snprintf(detail, sizeof detail, "must not lead to %.200s: %s", name, why);
        document_fault(check, field, detail);
    }
}

static void document_check_hosts(struct document_check *check, const char *field, const char *hosts,
                                 size_t len) {
    while (len > 0) {
        size_t blank = strspn(hosts, " ,");
        blank = blank < len ? blank : len;
        hosts += blank;
        len -= blank;
        size_t host = strcspn(hosts, " ,");
        host = host < len ? host : len;
        if (host > 0) {
            document_check_host(check, field, hosts, host);
        }
        hosts += host;
        len -= host;
    }
}

static void document_check_url(struct document_check *check, const char *field, const char *url) {
    const char *scheme = strstr(url, "://");
    if (!*url) {
        return;
    }
    if (!scheme) {
        document_fault(check, field, "must be a URL with a host, SCHEME://HOST");
        return;
    }
    const char *begin = scheme + 3;
    const char *end = begin + strcspn(begin, "/?#");
    const char *at = memrchr(begin, '@', (size_t)(end - begin));
    begin = at ? at + 1 : begin;
    document_check_hosts(check, field, begin, (size_t)(end - begin));
}

/* A path below one of the folders, without "..". */
static bool document_is_below(const char *folders, const char *path) {
    while (*folders) {
        size_t len = strcspn(folders, ",");
        size_t folder = len > 0 && folders[len - 1] == '/' ? len - 1 : len;
        if (folder > 0 && strncmp(path, folders, folder) == 0 && path[folder] == '/') {
            return !strstr(path, "/../") && !strstr(path, "/./");
        }
        folders += len + (folders[len] == ',');
    }
    return false;
}

static void document_check_written_file(struct document_check *check, const char *field,
                                        const char *path) {
    const char *folders = check->rules->conf->sink_files_allow;
    char detail[SINK_DOCUMENT_FAULT_LEN];
    if (*path && !document_is_below(folders, path)) {
        snprintf(detail, sizeof detail,
                 *folders ? "must be a path in one of the folders of "
                            "sink.files_allow: %.300s"
                          : NO_FILES "%s",
                 *folders ? folders : "");
        document_fault(check, field, detail);
    }
}

/* What may be PEM text or a path. */
static void document_check_read_file(struct document_check *check, const char *field,
                                     const char *text) {
    const char *why = text[0] == '/' && strncmp(field, "tls_", 4) == 0
                          ? client_file_refusal(check->rules->conf, CLIENT_FILE_AUTHORITY, text)
                          : NULL;
    if (why) {
        document_fault(check, field, why);
    }
}

static void document_check_field(struct document_check *check, const struct sink_field *field,
                                 const char *text) {
    switch (field->kind) {
    case SINK_FIELD_URL:
        document_check_url(check, field->name, text);
        break;
    case SINK_FIELD_HOSTS:
        document_check_hosts(check, field->name, text, strlen(text));
        break;
    case SINK_FIELD_FILE:
        document_check_written_file(check, field->name, text);
        break;
    case SINK_FIELD_TEXT:
    case SINK_FIELD_SECRET:
        document_check_read_file(check, field->name, text);
        break;
    default:
        break;
    }
}

/* A secret that the node is to read. Its form is right, or another fault says so. */
static void document_check_reference(struct document_check *check, const char *field,
                                     const json_t *reference) {
    char fault[SECRET_BOX_FAULT_LEN];
    const char *why = NULL;
    char *source = secret_source_parse(reference, &why);
    if (source && !secret_source_allowed(check->rules->conf, source, fault)) {
        document_fault(check, field, fault);
    }
    free(source);
}

static void document_check_references(struct document_check *check, const struct sink_field *field,
                                      const json_t *value) {
    const char *name;
    json_t *member;
    if (!sink_secrets_may_refer(field) || !json_is_object(value)) {
        return;
    }
    if (field->kind != SINK_FIELD_MAP) {
        document_check_reference(check, field->name, value);
        return;
    }
    json_object_foreach((json_t *)value, name, member) {
        if (json_is_object(member)) {
            document_check_reference(check, field->name, member);
        }
    }
}

static void document_check_settings(struct document_check *check, const struct sink_type *type,
                                    const json_t *document) {
    struct document_tables tables = document_tables_of(type);
    json_t *settings = sink_document_settings(document);
    const char *name;
    json_t *value;
    json_decref(sink_settings_complete(tables.rows, settings, document_settings_fault, check));
    json_object_foreach(settings, name, value) {
        const struct sink_field *field = sink_settings_field(tables.rows, name);
        if (field && json_is_string(value)) {
            document_check_field(check, field, json_string_value(value));
        } else if (field) {
            document_check_references(check, field, value);
        }
    }
    json_decref(settings);
}

const struct sink_type *sink_document_check(const json_t *document,
                                            const struct sink_document_rules *rules,
                                            sink_document_report *report, void *context) {
    struct document_check check = {.rules = rules, .report = report, .context = context};
    char fault[SINK_FAULT_LEN] = "";
    if (!json_is_object(document)) {
        document_fault(&check, "", "must be an object");
        return NULL;
    }
    const struct sink_type *type = sink_document_type(document, fault);
    if (!type) {
        document_fault(&check, "type", fault);
        return NULL;
    }
    document_check_settings(&check, type, document);
    return check.failed ? NULL : type;
}

/* ---- secrets --------------------------------------------------------------------------------- */

json_t *sink_document_masked(const json_t *document) {
    char fault[SINK_FAULT_LEN];
    struct document_tables tables = document_tables_of(sink_document_type(document, fault));
    return sink_settings_masked(tables.rows, document);
}

struct document_secrets {
    char id[SINK_NAME_LEN + 8];
    struct secret_box *box;
    char *fault;
    enum err err; /* ERR_OK is 0 */
    bool changed;
};

static json_t *document_seal_one(void *context, const char *pointer, const char *secret) {
    struct document_secrets *secrets = context;
    char *sealed = NULL;
    enum err err = secret_is_sealed(secret)
                       ? ERR_OK
                       : secret_seal(secrets->box, secrets->id, pointer, secret, &sealed);
    secrets->err = err == ERR_OK || err == ERR_UNSUPPORTED ? secrets->err : err;
    json_t *text = sealed ? json_string(sealed) : NULL;
    free(sealed);
    return text;
}

/* A sealed URL has neither scheme nor query: it is recognized by its prefix. */
static json_t *document_open_one(void *context, const char *pointer, const char *secret) {
    struct document_secrets *secrets = context;
    char fault[SECRET_BOX_FAULT_LEN] = "";
    char *plain = NULL;
    bool newest;
    if (!secret_is_sealed(secret)) {
        return NULL;
    }
    enum err err = secret_open(secrets->box, secrets->id, pointer, secret, &plain, &newest, fault);
    if (err != ERR_OK) {
        secrets->err = err;
        snprintf(secrets->fault, SINK_DOCUMENT_FAULT_LEN, "%.100s: %.300s", pointer, fault);
        return NULL;
    }
    json_t *text = json_string(plain);
    explicit_bzero(plain, strlen(plain));
    free(plain);
    return text;
}

static json_t *document_reseal_one(void *context, const char *pointer, const char *secret) {
    struct document_secrets *secrets = context;
    char fault[SECRET_BOX_FAULT_LEN] = "";
    char *plain = NULL, *sealed = NULL;
    bool newest = false;
    enum err err = ERR_OK;
    if (secret_is_sealed(secret)) {
        err = secret_open(secrets->box, secrets->id, pointer, secret, &plain, &newest, fault);
    }
    if (err == ERR_OK && !newest) {
        err = secret_seal(secrets->box, secrets->id, pointer, plain ? plain : secret, &sealed);
    }
    if (err != ERR_OK) {
        secrets->err = err;
        snprintf(secrets->fault, SINK_DOCUMENT_FAULT_LEN, "%.100s: %.300s", pointer,
                 *fault ? fault : err_name(err));
    }
    if (plain) {
        explicit_bzero(plain, strlen(plain));
    }
    json_t *text = sealed ? json_string(sealed) : NULL;
    secrets->changed = secrets->changed || text;
    free(plain);
    free(sealed);
    return text;
}

static enum err document_visit(json_t *document, const char *name, struct document_secrets *secrets,
                               sink_secret_visit *visit) {
    char type_fault[SINK_FAULT_LEN];
    struct document_tables tables = document_tables_of(sink_document_type(document, type_fault));
    snprintf(secrets->id, sizeof secrets->id, "sink:%s", name);
    sink_settings_visit_secrets(tables.rows, document, visit, secrets);
    return secrets->err;
}

enum err sink_document_seal(json_t *document, const char *name, struct secret_box *box) {
    char fault[SINK_DOCUMENT_FAULT_LEN];
    struct document_secrets secrets = {.box = box, .fault = fault};
    return document_visit(document, name, &secrets, document_seal_one);
}

enum err sink_document_open(json_t *document, const char *name, struct secret_box *box,
                            char *fault) {
    struct document_secrets secrets = {.box = box, .fault = fault};
    return document_visit(document, name, &secrets, document_open_one);
}

enum err sink_document_reseal(json_t *document, const char *name, struct secret_box *box,
                              bool *changed, char *fault) {
    struct document_secrets secrets = {.box = box, .fault = fault};
    char why[SINK_FAULT_LEN];
    if (!sink_document_type(document, why)) { /* not known which fields are secret */
        snprintf(fault, SINK_DOCUMENT_FAULT_LEN, "%s", why);
        return ERR_ARGUMENT;
    }
    enum err err = document_visit(document, name, &secrets, document_reseal_one);
    *changed = secrets.changed;
    return err;
}

/* ---- masks ----------------------------------------------------------------------------------- */

/* Whether the target is the same: what fields of URLs and hosts show without credentials. */
static bool document_same_target(const struct document_tables *tables, const json_t *masked,
                                 const json_t *stored_masked) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)masked, name, value) {
        const struct sink_field *field = sink_settings_field(tables->rows, name);
        bool is_target =
            field && (field->kind == SINK_FIELD_URL || field->kind == SINK_FIELD_HOSTS);
        if (is_target && !json_equal(value, json_object_get(stored_masked, name))) {
            return false;
        }
    }
    return true;
}

static bool document_is_mask(const json_t *value) {
    const char *text = json_string_value(value);
    return text && strstr(text, SINK_SECRET_SHOWN);
}

static void document_keep_value(struct document_check *check, bool same_target, json_t *object,
                                const char *name, const json_t *stored, const json_t *mask,
                                const char *field) {
    json_t *value = json_object_get(object, name);
    if (!document_is_mask(value)) {
        return;
    }
    json_t *secret = json_object_get(stored, name);
    if (!secret || !json_equal(value, json_object_get(mask, name))) {
        document_fault(check, field, "must be the secret itself: no secret is stored for ***");
    } else if (!same_target) {
        document_fault(check, field, "must be given again, because the target has changed");
    } else {
        json_object_set(object, name, secret);
    }
}

void sink_document_keep_secrets(json_t *document, const json_t *stored,
                                sink_document_report *report, void *context) {
    struct document_check check = {.report = report, .context = context};
    char fault[SINK_FAULT_LEN];
    struct document_tables tables = document_tables_of(sink_document_type(document, fault));
    json_t *masked = sink_document_masked(document), *mask = sink_document_masked(stored);
    bool same = document_same_target(&tables, masked, mask);
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(document, next, name, value) {
        const struct sink_field *field = sink_settings_field(tables.rows, name);
        if (field && field->secret && json_is_object(value)) {
            const char *key;
            json_t *item;
            void *after;
            json_object_foreach_safe(value, after, key, item) {
                document_keep_value(&check, same, value, key, json_object_get(stored, name),
                                    json_object_get(mask, name), name);
            }
        } else if (field && (field->kind == SINK_FIELD_SECRET || field->kind == SINK_FIELD_URL)) {
            document_keep_value(&check, same, document, name, stored, mask, name);
        }
    }
    json_decref(masked);
    json_decref(mask);
}
