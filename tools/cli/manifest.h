/* The documents that `apply` and `import` read: files of YAML or JSON with one resource of the
 * fleet in each document. The member `kind` names what it is; the others are those of the API. One
 * thread. */
#ifndef MQFLEET_CLI_MANIFEST_H
#define MQFLEET_CLI_MANIFEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "cli.h"

/* X(symbol, kind, member with the name or NULL, collection in the API), in the order in which they
 * are applied: what others name comes first. They are removed in the reverse order. */
#define MANIFEST_KIND_TABLE(X)                                                                     \
    X(MANIFEST_SINK, "sink", "name", "sinks")                                                      \
    X(MANIFEST_PROFILE, "client-profile", "name", "client-profiles")                               \
    X(MANIFEST_ROUTES, "routes", NULL, "routes")                                                   \
    X(MANIFEST_CLIENT, "client", "id", "clients")

enum manifest_kind {
#define MANIFEST_KIND_SYMBOL(symbol, kind, name, collection) symbol,
    MANIFEST_KIND_TABLE(MANIFEST_KIND_SYMBOL)
#undef MANIFEST_KIND_SYMBOL
        MANIFEST_KIND_COUNT
};

struct manifest_kind_row {
    const char *kind, *name_member, *collection;
};
extern const struct manifest_kind_row manifest_kinds[MANIFEST_KIND_COUNT];

struct manifest_item {
    enum manifest_kind kind;
    char *name;       /* owned; "routes" for the routes */
    json_t *document; /* owned; the body for the API, without kind, and without a name that the path
                         has */
    const char *file; /* borrowed from the manifest */
    size_t line;
    size_t number; /* of the document in its file, from 1 */
};

struct manifest {
    struct manifest_item *items; /* in the order of MANIFEST_KIND_TABLE, then as read */
    size_t count, capacity;
    char **files;
    size_t file_count;
    json_t *seen; /* "kind/name" to its place, to refuse duplicates */
    size_t faults;
};

/* Reads a file, "-" for standard input, or all *.yaml, *.yml and *.json of a folder and its
 * subfolders. False: faults were printed, one line each. The caller calls manifest_fini in any
 * case. */
bool manifest_read(struct manifest *manifest, const char *path);
void manifest_fini(struct manifest *manifest);

/* Writes one resource as a YAML document, its kind and name first. False: not written. */
bool manifest_write(FILE *file, enum manifest_kind kind, const char *name, const json_t *document);

#endif
