/* A record for the audit trail of a client: who changed which fields. Never a value of a field.
 * Pure; any thread. */
#ifndef MQFLEET_OPERATIONS_AUDIT_RECORD_H
#define MQFLEET_OPERATIONS_AUDIT_RECORD_H

#include <stddef.h>

#define AUDIT_FIELDS_MAX 32 /* names in a record */

/* All borrowed. */
struct audit_change {
    const char *by;        /* name of the caller */
    const char *action;    /* "replace" "patch" "pause" ... */
    const char *operation; /* NULL: a single change */
    const char *before;    /* the stored text; NULL with `after` NULL: no fields */
    size_t before_len;
    const char *after; /* NULL: it is deleted */
};

/* A JSON object in one line: "by", "action", "fields" (names of the outermost fields that differ),
 * "operation". NULL: out of memory. free(). */
char *audit_record(const struct audit_change *change);

#endif
