/* Decides what becomes of one client of an operation. No state. */
#include "http/api/operations/operation_change.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/text.h"
#include "cluster/operations/audit_record.h"
#include "http/api/clients/client_edit.h"
#include "http/auth/scope.h"

#define DETAIL_LEN 540

static enum err operation_change_skip(struct operation_change *out, const char *reason) {
    out->what = STORE_STEP_SKIPPED;
    out->reason = reason;
    return ERR_OK;
}

/* The first fault of an edit. */
static enum err operation_change_fail(struct operation_change *out,
                                      const struct client_faults *faults) {
    char detail[DETAIL_LEN];
    const struct client_fault *first = &faults->items[0];
    snprintf(detail, sizeof detail, "%s%s%s", first->pointer, *first->pointer ? ": " : "",
             first->detail);
    out->what = STORE_STEP_FAILED;
    out->reason = "invalid";
    out->detail = text_dup(detail);
    return out->detail ? ERR_OK : ERR_MEMORY;
}

static enum err operation_change_edit(struct client_edit *edit, enum operation_action action,
                                      const json_t *patch) {
    return action == OPERATION_PATCH
               ? client_edit_merge(edit, patch)
               : client_edit_set_desired(edit, action == OPERATION_PAUSE ? DESIRED_PAUSED
                                                                         : DESIRED_RUNNING);
}

static enum err operation_change_update(struct client_edit *edit,
                                        const struct store_operation *operation,
                                        enum operation_action action, const json_t *patch,
                                        struct operation_change *out) {
    enum err err = operation_change_edit(edit, action, patch);
    if (err == ERR_ARGUMENT || err == ERR_WRONG_STATE) {
        return operation_change_fail(out, &edit->faults);
    }
    if (err != ERR_OK) {
        return err;
    }
    out->what = STORE_STEP_UPDATE;
    out->record = client_edit_record(edit, operation->by, operation->action, operation->id);
    out->config = text_dup(edit->input.text);
    out->identity = text_dup(edit->input.identity);
    return out->record && out->config && out->identity ? ERR_OK : ERR_MEMORY;
}

static enum err operation_change_delete(const struct store_operation *operation,
                                        struct operation_change *out) {
    out->what = STORE_STEP_DELETE;
    out->record = audit_record(&(struct audit_change){
        .by = operation->by, .action = operation->action, .operation = operation->id});
    return out->record ? ERR_OK : ERR_MEMORY;
}

/* A client that has changed its node since the operation began was moved by it, or by something
 * else. */
static enum err operation_change_by_owner(const struct store_operation *operation,
                                          enum operation_action action,
                                          const struct store_client *row,
                                          struct operation_change *out) {
    if (row->state != STORE_OWNED) {
        return operation_change_skip(out, "waiting");
    }
    if (action == OPERATION_RELEASE && row->owner.since_ms > operation->started_ms) {
        return operation_change_skip(out, "moved_already");
    }
    out->what = STORE_STEP_DONE;
    return ERR_OK;
}

enum err operation_change_prepare(void *context, const struct store_operation *operation,
                                  enum operation_action action, const json_t *patch,
                                  const struct store_client *row, struct operation_change *out) {
    struct scope scope = {0};
    if (operation->scope && !scope_parse(operation->scope, &scope)) {
        return operation_change_skip(out, "not_found"); /* written by hand: it changes nothing */
    }
    if (!scope_includes_text(&scope, row->id, row->config, row->config_len)) {
        return operation_change_skip(out, "not_found");
    }
    if (action == OPERATION_PATCH && !patch) {
        return operation_change_skip(out, "no_patch"); /* the same */
    }
    if (operation_action_is_of_owner(action)) {
        return operation_change_by_owner(operation, action, row, out);
    }
    if (action == OPERATION_DELETE) {
        return operation_change_delete(operation, out);
    }
    struct client_edit edit = {.api = context, .scope = &scope, .row = row};
    enum err err = operation_change_update(&edit, operation, action, patch, out);
    client_edit_fini(&edit);
    return err;
}
