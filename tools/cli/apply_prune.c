/* Deletes the resources of the fleet that no document has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "apply_internal.h"
#include "base/buffer.h"
#include "node.h"
#include "progress.h"
#include "select.h"

/* The names in the fleet that no document has. */
struct apply_surplus {
    const struct manifest *manifest;
    enum manifest_kind kind;
    json_t *names;
};

static void cli_apply_note_surplus(struct apply_surplus *surplus, const char *name) {
    struct buffer key;
    buffer_init(&key);
    buffer_printf(&key, "%s/%s", manifest_kinds[surplus->kind].kind, name);
    if (key.data && !json_object_get(surplus->manifest->seen, key.data)) {
        json_array_append_new(surplus->names, json_string(name));
    }
    buffer_fini(&key);
}

static bool cli_apply_note_page(void *context, json_t *clients) {
    size_t i;
    const json_t *client;
    json_array_foreach(clients, i, client) {
        const char *id = cli_json_text(client, "id");
        if (id) {
            cli_apply_note_surplus(context, id);
        }
    }
    return true;
}

/* Sinks of the settings of a node are not the fleet's to remove. */
static bool cli_apply_is_of_fleet(enum manifest_kind kind, const json_t *row) {
    return kind != MANIFEST_SINK || json_is_object(json_object_get(row, "sink"));
}

static enum cli_exit cli_apply_find_resources(struct apply *apply, struct apply_surplus *surplus) {
    const char *collection = manifest_kinds[surplus->kind].collection;
    struct cli_answer answer;
    char path[64];
    size_t i;
    const json_t *row;
    snprintf(path, sizeof path, "/api/v1/%s", collection);
    cli_node_call(apply->cli, "GET", path, NULL, 5000, &answer);
    enum cli_exit code = cli_answer_check(&answer, collection);
    const char *list = surplus->kind == MANIFEST_PROFILE ? "profiles" : collection;
    json_array_foreach(json_object_get(answer.json, list), i, row) {
        const char *name = cli_json_text(row, "name");
        if (name && cli_apply_is_of_fleet(surplus->kind, row)) {
            cli_apply_note_surplus(surplus, name);
        }
    }
    cli_answer_fini(&answer);
    return code;
}

static void cli_apply_delete(struct apply *apply, enum manifest_kind kind, const char *name) {
    struct cli_answer answer = {0};
    char *path = cli_node_path(manifest_kinds[kind].collection, name, "");
    bool gone = apply->dry_run;
    if (!gone) {
        cli_node_call(apply->cli, "DELETE", path ? path : "/", NULL, 5000, &answer);
        gone = cli_answer_succeeded(&answer) || answer.status == 404;
    }
    if (!gone) {
        cli_progress_clear();
        enum cli_exit code = cli_answer_explain(&answer, name);
        apply->code = code == CLI_UNREACHABLE || code == CLI_REFUSED ? code : apply->code;
    }
    cli_apply_report(apply, kind, name, gone ? APPLY_DELETED : APPLY_FAILED, NULL);
    cli_answer_fini(&answer);
    free(path);
}

static bool cli_apply_has_kind(const struct manifest *manifest, enum manifest_kind kind) {
    size_t i = 0;
    while (i < manifest->count && manifest->items[i].kind != kind) {
        i++;
    }
    return i < manifest->count;
}

/* Deletes what is of a kind that the documents have, matches the selector, and is in none. */
static void cli_apply_prune_kind(struct apply *apply, enum manifest_kind kind) {
    struct apply_surplus surplus = {&apply->manifest, kind, json_array()};
    apply->code = kind == MANIFEST_CLIENT
                      ? cli_select_clients(apply->cli, cli_apply_note_page, &surplus)
                      : cli_apply_find_resources(apply, &surplus);
    size_t n = json_array_size(surplus.names);
    if (apply->code == CLI_OK && n > 0 && !apply->dry_run &&
        !cli_confirm(apply->cli, "delete %zu %s that no document has?", n,
                     manifest_kinds[kind].collection)) {
        apply->code = CLI_USAGE;
    }
    for (size_t i = 0; i < n && !cli_apply_stopped(apply); i++) {
        cli_apply_delete(apply, kind, json_string_value(json_array_get(surplus.names, i)));
        cli_progress_show("delete", i + 1, n);
    }
    cli_progress_clear();
    json_decref(surplus.names);
}

void cli_apply_prune(struct apply *apply) {
    if (apply->manifest.count == 0) { /* perhaps it is the wrong folder, or selector */
        cli_error("nothing is pruned, because no document matches");
    }
    for (size_t kind = MANIFEST_KIND_COUNT; kind > 0 && !cli_apply_stopped(apply); kind--) {
        enum manifest_kind one = (enum manifest_kind)(kind - 1);
        if (manifest_kinds[one].name_member && cli_apply_has_kind(&apply->manifest, one)) {
            cli_apply_prune_kind(apply, one);
        }
    }
}
