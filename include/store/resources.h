/* The resources of the fleet in Redis: sinks, profiles and routes, which every node applies; quotas
 * are in store/quotas.h. Any
 * thread; errors as in store.h, which includes this. */
#ifndef MQFLEET_STORE_RESOURCES_H
#define MQFLEET_STORE_RESOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct store;

/* ---- sinks and profiles of the fleet ------------------------------------------------------- */

enum store_resource_kind { STORE_SINKS, STORE_PROFILES };

#define STORE_SINKS_MAX          50
#define STORE_PROFILES_MAX       256
#define STORE_PROFILES_BYTES_MAX 8388608 /* of all documents */

struct store_resource {
    char *name, *type, *document; /* owned */
    int64_t version;              /* time of the write in ms, or more */
};
/* Reads the resources of one kind, sorted by name. name: only this one; NULL: all. *revision: that
 * of all resources, as in struct store_heartbeat; may be NULL. The caller calls
 * store_resources_free. */
enum err store_resources(struct store *store, enum store_resource_kind kind, const char *name,
                         struct store_resource **rows, size_t *n, int64_t *revision) MUST_CHECK;
void store_resources_free(struct store_resource *rows, size_t n);

struct store_put {
    int64_t expected_version; /* 0: any */
    int64_t version;          /* result */
    bool created;             /* result */
    char *other_type;         /* result of ERR_WRONG_STATE; owned */
};
/* Creates or replaces a resource. ERR_NOT_FOUND: a version is expected, but there is no such
 * resource; ERR_VERSION: it has another version; ERR_WRONG_STATE: it has another type; ERR_REFUSED:
 * there would be too many resources, or their total size would be too large. */
enum err store_put_resource(struct store *store, enum store_resource_kind kind,
                            const struct store_resource *resource,
                            struct store_put *put) MUST_CHECK;
/* ERR_NOT_FOUND, ERR_VERSION. */
enum err store_delete_resource(struct store *store, enum store_resource_kind kind, const char *name,
                               int64_t expected_version) MUST_CHECK;

/* ---- routes of the fleet ------------------------------------------------------------------- */

/* *document: the caller frees it; NULL with *version 0: routes were never set. */
enum err store_routes(struct store *store, char **document, int64_t *version) MUST_CHECK;
#define STORE_VERSION_ANY (-1)
/* expected_version: STORE_VERSION_ANY, or 0 for routes that were never set. ERR_VERSION. */
enum err store_put_routes(struct store *store, const char *document, int64_t expected_version,
                          int64_t *version) MUST_CHECK;

/* What a node knows of the resources. Everything is borrowed. */
struct store_all_resources {
    const struct store_resource *sinks, *profiles;
    size_t sink_count, profile_count;
    const char *routes; /* NULL: none */
    int64_t routes_version;
    const char *quotas; /* NULL: none */
    int64_t quotas_version;
    int64_t revision;
};
/* After Redis lost all of them: puts these back. *restored false: Redis has resources. */
enum err store_restore_resources(struct store *store, const struct store_all_resources *resources,
                                 bool *restored) MUST_CHECK;

#endif
