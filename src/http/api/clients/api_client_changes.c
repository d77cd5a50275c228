/* GET /api/v1/clients/{id}/changes and /api/v1/changes: who changed a client, or any, when, and
 * which fields. Handler threads. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/text.h"
#include "http/api/cursor.h"
#include "http/server/json.h"
#include "http/server/problem.h"

#define CHANGES_DEFAULT   100
#define CHANGES_MAX       1000
#define CHANGES_PAGES_MAX 10 /* of the store, by one request; the next one continues */

/* A record that is not JSON, which somebody wrote by hand, is shown without its contents. */
static json_t *changes_row(const struct store_audit_record *record) {
    json_t *content = json_from_text(record->record, strlen(record->record), 0);
    json_t *row = json_pack("{s:o, s:I, s:o}", "at", http_json_time(record->at_ms), "from_version",
                            (json_int_t)record->from, "to_version",
                            record->to > 0 ? json_integer(record->to) : json_null());
    static const char *const members[] = {"by", "action", "fields", "operation"};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        json_t *value = json_object_get(content, members[i]);
        if (value) {
            json_object_set(row, members[i], value);
        }
    }
    json_decref(content);
    return row;
}

/* The first record that the caller may see. A client of another tenant may have had the id before:
 * a token with a scope sees what has happened since this client was created. */
static size_t changes_first(const struct http_request *request,
                            const struct store_audit_record *records, size_t n) {
    size_t first = scope_is_set(&request->caller.scope) ? n : 0;
    while (first > 0 && records[first - 1].to > 0) {
        first--;
        if (records[first].from == 0) {
            break;
        }
    }
    return first;
}

void api_client_changes(struct http_request *request, struct http_response *response) {
    struct store_audit_record *records;
    size_t n;
    enum err err = store_audit_trail(request->api->context.store, request->parameter, &records, &n);
    if (err == ERR_NOT_FOUND) {
        http_problem(response, PROBLEM_NOT_FOUND, "there is no client %s", request->parameter);
    } else if (err != ERR_OK) {
        http_problem_store(response, err);
    } else {
        json_t *list = json_array();
        for (size_t i = changes_first(request, records, n); i < n; i++) {
            json_array_append_new(list, changes_row(&records[i]));
        }
        http_answer_json(response, 200, json_pack("{s:o}", "changes", list));
    }
    store_audit_free(records, n);
}

/* ---- of all clients -------------------------------------------------------------------------- */

/* One answer. Strings are borrowed from the request. */
struct changes_list {
    const char *id_prefix, *by, *action; /* NULL: any */
    size_t limit;
    json_t *rows;
    struct http_key_cursor place; /* the last client that was read; id NULL: none yet */
    bool ended;
};

static bool changes_list_is(const char *wanted, const json_t *row, const char *member) {
    const char *value = json_string_value(json_object_get(row, member));
    return !wanted || (value && strcmp(wanted, value) == 0);
}

/* The latest record first. */
static void changes_list_add(struct changes_list *list, const struct store_audited *client) {
    if (list->id_prefix && strncmp(client->id, list->id_prefix, strlen(list->id_prefix)) != 0) {
        return;
    }
    for (size_t i = client->n; i > 0; i--) {
        json_t *row = changes_row(&client->records[i - 1]);
        if (changes_list_is(list->by, row, "by") && changes_list_is(list->action, row, "action")) {
            json_object_set_new(row, "client", http_json_string(client->id));
            json_array_append(list->rows, row);
        }
        json_decref(row);
    }
}

static enum err changes_list_move(struct changes_list *list, const struct store_audited *client) {
    char *id = text_dup(client->id);
    if (!id) {
        return ERR_MEMORY;
    }
    free(list->place.id);
    list->place.id = id;
    list->place.key = client->at_ms;
    return ERR_OK;
}

static enum err changes_list_read_page(struct changes_list *list, struct store *store) {
    struct store_audited *clients;
    size_t n, i = 0;
    enum err err = store_audit_page(store, list->place.key, list->place.id, &clients, &n);
    while (err == ERR_OK && i < n && json_array_size(list->rows) < list->limit) {
        changes_list_add(list, &clients[i]);
        err = changes_list_move(list, &clients[i++]);
    }
    list->ended = i == n && n < STORE_BATCH_MAX;
    store_audit_page_free(clients, n);
    return err;
}

static enum err changes_list_read(struct changes_list *list, struct store *store) {
    enum err err = ERR_OK;
    for (size_t page = 0; err == ERR_OK && page < CHANGES_PAGES_MAX && !list->ended &&
                          json_array_size(list->rows) < list->limit;
         page++) {
        err = changes_list_read_page(list, store);
    }
    return err;
}

/* NULL: any. */
static const char *changes_list_text(const struct http_query *query, const char *name) {
    const char *text = http_query_get(query, name);
    return text && *text != '\0' ? text : NULL;
}

/* False: answered. */
static bool changes_list_parse(const struct http_request *request, struct changes_list *list,
                               struct http_response *response) {
    const struct http_query *query = &request->query;
    const char *cursor = http_query_get(query, "cursor");
    int64_t limit;
    *list = (struct changes_list){.id_prefix = changes_list_text(query, "id_prefix"),
                                  .by = changes_list_text(query, "by"),
                                  .action = changes_list_text(query, "action")};
    if (http_query_int(query, "limit", 1, CHANGES_MAX, CHANGES_DEFAULT, &limit) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "limit: must be a number from 1 to %d",
                     CHANGES_MAX);
        return false;
    }
    list->limit = (size_t)limit;
    enum err err = cursor && *cursor ? http_key_cursor_parse(cursor, &list->place) : ERR_OK;
    if (err == ERR_ARGUMENT) {
        http_problem(response, PROBLEM_BAD_REQUEST, "cursor: must be a next_cursor of this list");
    } else if (err != ERR_OK) {
        http_problem_memory(response);
    }
    return err == ERR_OK;
}

void api_changes(struct http_request *request, struct http_response *response) {
    struct changes_list list;
    if (!changes_list_parse(request, &list, response)) {
        return;
    }
    list.rows = json_array();
    enum err err = list.rows ? changes_list_read(&list, request->api->context.store) : ERR_MEMORY;
    char *next =
        err == ERR_OK && !list.ended && list.place.id ? http_key_cursor_format(&list.place) : NULL;
    if (err != ERR_OK) {
        http_problem_store(response, err);
    } else {
        http_answer_json(response, 200,
                         json_pack("{s:O, s:s?}", "changes", list.rows, "next_cursor", next));
    }
    free(next);
    free(list.place.id);
    json_decref(list.rows);
}
