/* GET /api/v1/clients/{id}/changes: who changed a client, when, and which fields. Handler threads.
 */
#include "http/api/api.h"

#include <string.h>
#include "base/system/json_memory.h"
#include "http/server/json.h"
#include "http/server/problem.h"

/* A record that is not JSON, which somebody wrote by hand, is shown without its contents. */
static json_t *api_client_changes_row(const struct store_audit_record *record) {
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
        for (size_t i = 0; i < n; i++) {
            json_array_append_new(list, api_client_changes_row(&records[i]));
        }
        http_answer_json(response, 200, json_pack("{s:o}", "changes", list));
    }
    store_audit_free(records, n);
}
