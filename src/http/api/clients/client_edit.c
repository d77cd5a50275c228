/* Changes a stored configuration. No state; any thread that may block on the disk. */
#include "http/api/clients/client_edit.h"

#include <stdlib.h>
#include <string.h>
#include "base/system/json_memory.h"
#include "base/system/out_of_memory.h"
#include "cluster/operations/audit_record.h"
#include "cluster/resources/profile_reader.h"
#include "http/server/json.h"
#include "mqtt/config/client_secrets.h"

void client_edit_fini(struct client_edit *edit) {
    client_input_fini(&edit->input);
}

/* The stored text. ERR_WRONG_STATE: it is not a JSON object. */
static enum err client_edit_read_stored(struct client_edit *edit, json_t **stored) {
    const struct store_client *row = edit->row;
    enum err err = json_parse(stored, row->config, row->config_len, JSON_REJECT_DUPLICATES, NULL);
    if (err == ERR_MEMORY || json_is_object(*stored)) {
        return err;
    }
    json_decref(*stored);
    *stored = NULL;
    http_fault_add(&edit->faults, "", "it is not a JSON object");
    return ERR_WRONG_STATE;
}

/* The filters that a session may still have stay recorded. The text is written again, because the
 * document may have other members than the one that was checked. */
static enum err client_edit_retire_filters(struct client_edit *edit, json_t *document) {
    struct client_input *input = &edit->input;
    struct client_config *before = NULL;
    struct client_faults faults;
    enum err err = client_config_parse_text(edit->row->config, edit->row->config_len, edit->row->id,
                                            &before, &faults);
    if (err == ERR_OK) {
        free(input->text);
        input->text = NULL;
        err = client_config_retire(document, input->config, before);
        input->text = err == ERR_OK ? client_config_canonical(document) : NULL;
        err = input->text && !out_of_memory_seen() ? ERR_OK : ERR_MEMORY;
    }
    client_config_destroy(before);
    return err == ERR_ARGUMENT ? ERR_OK : err;
}

/* stored: NULL if the stored text is not an object, and has nothing to keep. Changes document. */
static enum err client_edit_store(struct client_edit *edit, json_t *stored, json_t *document) {
    if (stored) {
        client_config_keep_secrets(document, stored);
    }
    enum err err = client_input_check(edit->api, edit->scope, document, CLIENT_FROM_API,
                                      edit->row->id, false, &edit->input, &edit->faults);
    return err == ERR_OK ? client_edit_retire_filters(edit, document) : err;
}

enum err client_edit_replace(struct client_edit *edit, const json_t *document) {
    json_t *stored = NULL, *copy = json_whole_copy(document);
    enum err err = copy ? client_edit_read_stored(edit, &stored) : ERR_MEMORY;
    if (err == ERR_OK || err == ERR_WRONG_STATE) {
        edit->faults.count = 0;
        json_t *desired = json_object_get(stored, "desired");
        if (desired && !json_object_get(copy, "desired")) {
            json_object_set(copy, "desired", desired);
        }
        err = client_edit_store(edit, stored, copy);
    }
    json_decref(stored);
    json_decref(copy);
    return err;
}

enum err client_edit_merge(struct client_edit *edit, const json_t *patch) {
    json_t *stored = NULL, *document = NULL;
    enum err err = client_edit_read_stored(edit, &stored);
    if (err == ERR_OK) {
        document = client_config_redacted(stored);
        err = document ? json_merge_patch(document, patch) : ERR_MEMORY;
    }
    if (err == ERR_OK) {
        err = client_edit_store(edit, stored, document);
    }
    json_decref(stored);
    json_decref(document);
    return err;
}

/* Secrets that this node cannot decrypt stay encrypted. */
static enum err client_edit_write_desired(struct client_edit *edit, json_t *document,
                                          enum client_desired desired) {
    bool set =
        json_object_set_new(document, "desired", json_string(client_desired_name(desired))) == 0;
    enum err err =
        client_secrets_seal(document, edit->row->id, edit->api->context.secrets, NULL, NULL);
    edit->input.text = set && err != ERR_MEMORY ? client_config_canonical(document) : NULL;
    return edit->input.text ? ERR_OK : ERR_MEMORY;
}

enum err client_edit_set_desired(struct client_edit *edit, enum client_desired desired) {
    const struct store_client *row = edit->row;
    struct client_input *input = &edit->input;
    json_t *document = json_from_text(row->config, row->config_len, 0);
    profile_reader_freshen(edit->api->context.store, document);
    json_decref(document);
    document = NULL;
    enum err err = client_config_parse_text(row->config, row->config_len, row->id, &input->config,
                                            &edit->faults);
    if (err != ERR_OK) {
        return err == ERR_ARGUMENT ? ERR_WRONG_STATE : err;
    }
    if (input->config->desired == desired) {
        input->text = strdup(row->config);
        err = input->text ? ERR_OK : ERR_MEMORY;
    } else {
        err = client_edit_read_stored(edit, &document);
        err = err == ERR_OK ? client_edit_write_desired(edit, document, desired) : err;
    }
    input->identity = client_config_identity(input->config);
    json_decref(document);
    return err == ERR_OK && !input->identity ? ERR_MEMORY : err;
}

char *client_edit_record(const struct client_edit *edit, const char *by, const char *action,
                         const char *operation) {
    return audit_record(&(struct audit_change){.by = by,
                                               .action = action,
                                               .operation = operation,
                                               .before = edit->row->config,
                                               .before_len = edit->row->config_len,
                                               .after = edit->input.text});
}

enum err client_edit_write(const struct client_edit *edit, const char *by, const char *action,
                           int64_t *version, char **other_id) {
    char *record = client_edit_record(edit, by, action, NULL);
    const struct store_configuration configuration = {
        edit->row->id, edit->row->version, edit->input.text, edit->input.identity, record};
    enum err err = record
                       ? store_update(edit->api->context.store, &configuration, version, other_id)
                       : ERR_MEMORY;
    free(record);
    return err;
}
