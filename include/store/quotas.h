/* The quotas of the fleet, and the clients that count for them. Any thread. Errors as in store.h.
 */
#ifndef MQFLEET_STORE_QUOTAS_H
#define MQFLEET_STORE_QUOTAS_H

#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "store/store.h"

#define STORE_QUOTAS_MAX 200

/* *document: new; NULL: none were ever set, and *version is 0. clients[n]: how many count for each
 * of the scopes. */
enum err store_quotas(struct store *store, const char *const *scopes, size_t n, int64_t *clients,
                      char **document, int64_t *version) MUST_CHECK;
/* expected_version 0: none were ever set. ERR_VERSION. */
enum err store_put_quotas(struct store *store, const char *document, int64_t expected_version,
                          int64_t *version) MUST_CHECK;

#define STORE_QUOTA_HASHES 3
/* Zero at first; after STORE_QUOTA_HASHES hashes everything was compared once. */
struct store_quota_scan {
    unsigned hash;
    uint64_t cursor;
};
/* One step of comparing the clients with what counts for quotas. */
enum err store_count_quotas(struct store *store, struct store_quota_scan *scan) MUST_CHECK;

#endif
