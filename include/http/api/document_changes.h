/* How a stored document differs from the one that would replace it. Pure; any thread. */
#ifndef MQFLEET_API_DOCUMENT_CHANGES_H
#define MQFLEET_API_DOCUMENT_CHANGES_H

#include <jansson.h>
#include "http/server/response.h"

#define DOCUMENT_CHANGES_MAX       200
#define DOCUMENT_CHANGES_BYTES_MAX ((size_t)8 * 1024 * 1024) /* of all documents in one answer */

struct document_side {
    const json_t *value; /* compared, with its secrets */
    const json_t *shown; /* the same with masked secrets */
};

/* [{"field", "before", "after"}]: field is a JSON pointer; before or after is missing where there
 * is no value. Lists of the same length are compared by element. *bytes_left: of JSON text that the
 * answer may still have, reduced. The changes beyond that and beyond DOCUMENT_CHANGES_MAX are only
 * counted, in one {"more"} at the end. Empty: the documents are equal. NULL: out of memory. */
json_t *document_changes(struct document_side before, struct document_side after,
                         size_t *bytes_left);

/* Answers a write with dry_run=true: {"dry_run", "outcome": "created" "changed" or "unchanged",
 * "changes"}. before.value NULL: nothing is stored yet. */
void document_changes_answer(struct http_response *response, struct document_side before,
                             struct document_side after);

#endif
