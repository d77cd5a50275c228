/* The quotas of the fleet, and the clients that count for them. Any thread. Errors as in store.h.
 */
#ifndef MQFLEET_STORE_QUOTAS_H
#define MQFLEET_STORE_QUOTAS_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "store/store.h"

#define STORE_QUOTAS_MAX 200

/* *document: the caller frees it; NULL with *version 0: quotas were never set. clients[n]: the
 * number of clients that count for each of the n scopes. */
enum err store_quotas(struct store *store, const char *const *scopes, size_t n, int64_t *clients,
                      char **document, int64_t *version) MUST_CHECK;
/* expected_version: STORE_VERSION_ANY, or 0 for quotas that were never set. ERR_VERSION. */
enum err store_put_quotas(struct store *store, const char *document, int64_t expected_version,
                          int64_t *version) MUST_CHECK;

/* What a node reported of the use of rates: JSON, see cluster/resources/quota_shares.c. */
struct store_quota_use {
    char *node, *report; /* owned */
};
/* The reports of the last 10 s. The caller calls store_quota_uses_free. */
enum err store_quota_uses(struct store *store, struct store_quota_use **rows, size_t *n) MUST_CHECK;
/* Replaces the report of this node, and reads all. ERR_WRONG_STATE: it is not a member. */
enum err store_report_quota_use(struct store *store, const struct store_member *member,
                                const char *report, struct store_quota_use **rows,
                                size_t *n) MUST_CHECK;
void store_quota_uses_free(struct store_quota_use *rows, size_t n);

#define STORE_QUOTA_HASHES 3
/* Begins as {0}. When hash reaches STORE_QUOTA_HASHES, every client has been compared once. */
struct store_quota_scan {
    unsigned hash;
    uint64_t cursor;
};
/* Compares one page of clients with those that are counted for quotas, and corrects the counts. */
enum err store_count_quotas(struct store *store, struct store_quota_scan *scan) MUST_CHECK;

#endif
