/* A change of a stored configuration: replaced, patched, paused or resumed. Requests and operations
 * of the fleet make it in the same way. Handler threads, and the thread of the operations. */
#ifndef MQFLEET_CLIENTS_CLIENT_EDIT_H
#define MQFLEET_CLIENTS_CLIENT_EDIT_H

#include "http/api/api.h"

struct client_edit {
    const struct http_api *api;
    const struct scope *scope;      /* of the caller; never NULL */
    const struct store_client *row; /* as stored; borrowed */
    struct client_input input;      /* result: what to store in its place. An edit that changes
                                       nothing gives the stored text, which keeps its version */
    struct client_faults faults;
};

/* All: once for each edit. ERR_ARGUMENT: see faults. ERR_WRONG_STATE: the stored text is not a
 * valid configuration, and the edit needs one; the first fault says why. ERR_MEMORY. */

/* Replaces the configuration. "***" keeps a stored secret; a paused client stays so unless the
 * document says otherwise. */
enum err client_edit_replace(struct client_edit *edit, const json_t *document) MUST_CHECK;
/* Merges a patch (RFC 7396) into the configuration as the API shows it, and replaces it. Secrets
 * are thus kept by the same rules. */
enum err client_edit_merge(struct client_edit *edit, const json_t *patch) MUST_CHECK;
enum err client_edit_set_desired(struct client_edit *edit, enum client_desired desired) MUST_CHECK;
/* The record of a successful edit for the audit trail (audit_record.h). operation NULL: a single
 * change. NULL: out of memory. free(). */
char *client_edit_record(const struct client_edit *edit, const char *by, const char *action,
                         const char *operation);
/* Stores a successful edit with its record, on condition of the version of the row. As
 * store_update. */
enum err client_edit_write(const struct client_edit *edit, const char *by, const char *action,
                           int64_t *version, char **other_id) MUST_CHECK;
void client_edit_fini(struct client_edit *edit);

#endif
