/* POST /api/v1/clients:reencrypt: encrypts the secrets of all clients, and of the resources of the
 * fleet (reencrypt_resources.c), with the newest key. A job.
 * The time per request is bounded; the next cursor covers the rest. Each client is written as a new
 * version, on condition of the version that was read. No other write is lost, and the owner learns
 * the new text. */
#include "http/api/api.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/clock.h"
#include "cluster/operations/audit_record.h"
#include "cluster/resources/profile_reader.h"
#include "http/api/cursor.h"
#include "http/api/job.h"
#include "reencrypt.h"
#include "http/server/problem.h"
#include "base/system/json_memory.h"
#include "http/server/json.h"
#include "mqtt/config/client_secrets.h"

#define REENCRYPT_MS_MAX 5000
#define SCAN_COUNT       200
#define TRIES_MAX        3 /* attempts for a client that others change at the same time */

struct reencryption {
    const struct http_request *request;
    struct http_cursor cursor;
    struct reencrypt_counts counts;
    enum err result; /* of the store */
};

static enum err reencrypt_write_sealed(struct reencryption *work, const struct store_client *row,
                                       json_t *document) {
    struct client_config *config = NULL;
    struct client_faults faults;
    char *other_id = NULL;
    int64_t version;
    profile_reader_freshen(work->request->api->context.store, document);
    enum err err = client_config_parse(document, CLIENT_FROM_STORE, row->id, &config, &faults);
    char *identity = err == ERR_OK ? client_config_identity(config) : NULL;
    char *text = err == ERR_OK ? client_config_canonical(document) : NULL;
    char *record = err == ERR_OK ? audit_record(&(struct audit_change){
                                       .by = work->request->caller.name, .action = "reencrypt"})
                                 : NULL;
    if (err == ERR_OK) {
        const struct store_configuration configuration = {row->id, row->version, text, identity,
                                                          record};
        err = identity && text && record ? store_update(work->request->api->context.store,
                                                        &configuration, &version, &other_id)
                                         : ERR_MEMORY;
    }
    free(record);
    client_config_destroy(config);
    free(identity);
    free(text);
    free(other_id);
    return err;
}

/* ERR_VERSION: another caller wrote in between. A text that is not a JSON object has no secrets. */
static enum err reencrypt_row(struct reencryption *work, const struct store_client *row) {
    struct client_faults faults = {.count = 0};
    bool changed = false;
    json_t *document = NULL;
    enum err err =
        json_parse(&document, row->config, row->config_len, JSON_REJECT_DUPLICATES, NULL);
    if (err == ERR_MEMORY) {
        return err;
    }
    err = json_is_object(document)
              ? client_secrets_seal(document, row->id, work->request->api->context.secrets,
                                    &changed, &faults)
              : ERR_OK;
    if (err == ERR_ARGUMENT && faults.count > 0) {
        reencrypt_note_failure(&work->counts, row->id, faults.items[0].detail);
        err = ERR_OK;
    } else if (err == ERR_OK && changed) {
        err = reencrypt_write_sealed(work, row, document);
        work->counts.reencrypted += err == ERR_OK;
    } else if (err == ERR_OK) {
        work->counts.unchanged++;
    }
    json_decref(document);
    return err;
}

/* Not ERR_OK: Redis does not answer. */
static enum err reencrypt_row_with_retries(struct reencryption *work,
                                           const struct store_client *row) {
    enum err err = reencrypt_row(work, row);
    for (int tries = 1; err == ERR_VERSION && tries < TRIES_MAX; tries++) {
        struct store_client now = {0};
        err = store_get(work->request->api->context.store, row->id, &now);
        err = err == ERR_OK ? reencrypt_row(work, &now) : err;
        store_client_fini(&now);
    }
    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err == ERR_UNAVAILABLE || err == ERR_TIMEOUT) {
        return err;
    }
    if (err != ERR_OK) {
        reencrypt_note_failure(&work->counts, row->id, err_name(err));
    }
    return ERR_OK;
}

static enum err reencrypt_page(struct reencryption *work) {
    struct http_cursor *cursor = &work->cursor;
    enum store_client_state where = cursor->phase == CURSOR_OWNED ? STORE_OWNED : STORE_WAITING;
    uint64_t scan = cursor->scan;
    struct store_client *rows = NULL;
    size_t n = 0;
    enum err err =
        store_page(work->request->api->context.store, where, &scan, SCAN_COUNT, &rows, &n, NULL);
    for (size_t i = 0; err == ERR_OK && i < n; i++) {
        err = reencrypt_row_with_retries(work, &rows[i]);
    }
    store_clients_free(rows, n);
    cursor->scan = scan;
    if (err == ERR_OK && scan == 0 && cursor->phase == CURSOR_OWNED) {
        err = reencrypt_resources(work->request->api, &work->counts);
    }
    if (scan == 0) {
        cursor->phase = cursor->phase == CURSOR_WAITING ? CURSOR_OWNED : CURSOR_END;
    }
    return err;
}

static void reencrypt_answer_progress(const struct reencryption *work,
                                      struct http_response *response) {
    json_t *next = json_null();
    if (work->cursor.phase != CURSOR_END) {
        char text[HTTP_CURSOR_LEN];
        http_cursor_format(&work->cursor, text);
        next = json_string(text);
    }
    http_answer_json(response, 200,
                     json_pack("{s:I, s:I, s:I, s:O, s:o}", "reencrypted", work->counts.reencrypted,
                               "unchanged", work->counts.unchanged, "failed", work->counts.failed,
                               "failures", work->counts.failures, "next_cursor", next));
}

static void reencrypt_job_free(void *data) {
    struct reencryption *work = data;
    json_decref(work->counts.failures);
    free(work);
}

static void reencrypt_job_run(const struct http_request *request, void *data) {
    struct reencryption *work = data;
    int64_t end_ms = clock_ms() + REENCRYPT_MS_MAX;
    work->request = request;
    while (work->result == ERR_OK && work->cursor.phase != CURSOR_END && clock_ms() < end_ms &&
           atomic_load(&request->api->stop_stage) == HTTP_RUNNING) {
        work->result = reencrypt_page(work);
    }
}

static void reencrypt_job_answer(struct http_request *request, struct http_response *response,
                                 void *data) {
    const struct reencryption *work = data;
    (void)request;
    if (work->result == ERR_OK) {
        reencrypt_answer_progress(work, response);
    } else {
        http_problem_store(response, work->result);
    }
}

void api_clients_reencrypt(struct http_request *request, struct http_response *response) {
    const char *cursor = http_query_get(&request->query, "cursor");
    struct http_cursor from = {.phase = CURSOR_WAITING};
    if (cursor && cursor[0] != '\0' && http_cursor_parse(cursor, &from) != ERR_OK) {
        http_problem(response, PROBLEM_BAD_REQUEST, "cursor: must be a next_cursor of this list");
        return;
    }
    if (secret_box_key_count(request->api->context.secrets) == 0) {
        http_problem(response, PROBLEM_STATE, "this node has no secrets.key_file");
        return;
    }
    struct reencryption *work = calloc(1, sizeof *work);
    if (!work) {
        http_problem_memory(response);
        return;
    }
    work->cursor = from;
    work->counts.failures = json_array();
    http_job_start(
        request, response,
        &(struct http_job_plan){reencrypt_job_run, reencrypt_job_answer, work, reencrypt_job_free});
}
