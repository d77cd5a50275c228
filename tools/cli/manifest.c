/* Reads and writes documents with resources of the fleet. */
#include "manifest.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/buffer.h"
#include "base/text.h"
#include "manifest_yaml.h"

#define FOLDER_DEPTH_MAX 16

#define KIND_ROW(symbol, kind, name, collection) [symbol] = {kind, name, collection},
const struct manifest_kind_row manifest_kinds[MANIFEST_KIND_COUNT] = {
    MANIFEST_KIND_TABLE(KIND_ROW)};
#undef KIND_ROW

/* A file that is being read. */
struct manifest_source {
    struct manifest *manifest;
    const char *file; /* its name in messages, owned by the manifest */
    size_t documents; /* that were read */
};

static void manifest_fault(struct manifest_source *source, size_t line, const char *why) {
    source->manifest->faults++;
    cli_error("%s: line %zu: %s", source->file, line, why);
}

/* ---- one document ---------------------------------------------------------------------------- */

/* MANIFEST_KIND_COUNT: none. */
static enum manifest_kind manifest_find_kind(const json_t *document) {
    const char *kind = json_string_value(json_object_get(document, "kind"));
    size_t i = 0;
    while (i < MANIFEST_KIND_COUNT && (!kind || strcmp(kind, manifest_kinds[i].kind) != 0)) {
        i++;
    }
    return (enum manifest_kind)i;
}

/* False: a document of that kind and name was read before. */
static bool manifest_note_name(struct manifest_source *source, const struct manifest_item *item) {
    char key[1200], place[1200], why[2600];
    snprintf(key, sizeof key, "%s/%.1024s", manifest_kinds[item->kind].kind, item->name);
    snprintf(place, sizeof place, "%.1024s, line %zu", item->file, item->line);
    const char *before = json_string_value(json_object_get(source->manifest->seen, key));
    if (before) {
        snprintf(why, sizeof why, "%s is also in %s", key, before);
        manifest_fault(source, item->line, why);
        return false;
    }
    return json_object_set_new(source->manifest->seen, key, json_string(place)) == 0;
}

/* A copy of the name of the resource, for a client possibly its client_id. NULL: there is none, and
 * the fault was recorded. */
static char *manifest_name(struct manifest_source *source, enum manifest_kind kind,
                           const json_t *document, size_t line) {
    const char *member = manifest_kinds[kind].name_member;
    if (!member) {
        return strdup(manifest_kinds[kind].kind);
    }
    const json_t *name = json_object_get(document, member);
    if (!name && kind == MANIFEST_CLIENT) {
        name = json_object_get(document, "client_id");
    }
    if (!json_is_string(name) || json_string_length(name) == 0) {
        char why[120];
        snprintf(why, sizeof why, "a %s needs the member %s, a text", manifest_kinds[kind].kind,
                 member);
        manifest_fault(source, line, why);
        return NULL;
    }
    return strdup(json_string_value(name));
}

static bool manifest_grow(struct manifest *manifest) {
    if (manifest->count < manifest->capacity) {
        return true;
    }
    size_t capacity = manifest->capacity > 0 ? manifest->capacity * 2 : 64;
    struct manifest_item *items = realloc(manifest->items, capacity * sizeof *items);
    if (items) {
        manifest->items = items;
        manifest->capacity = capacity;
    }
    return items != NULL;
}

/* Takes ownership of the document. False: out of memory. A fault of the document is counted, and
 * the next one is read. */
static bool manifest_add(struct manifest_source *source, json_t *document, size_t line) {
    struct manifest *manifest = source->manifest;
    struct manifest_item item = {.kind = manifest_find_kind(document),
                                 .file = source->file,
                                 .line = line,
                                 .number = ++source->documents,
                                 .document = document};
    if (!json_is_object(document) || item.kind == MANIFEST_KIND_COUNT) {
        manifest_fault(source, line,
                       json_is_object(document)
                           ? "the member kind must be sink, client-profile, routes or client"
                           : "must be an object with the member kind");
        json_decref(document);
        return true;
    }
    item.name = manifest_name(source, item.kind, document, line);
    json_object_del(document, "kind");
    if (item.kind != MANIFEST_CLIENT && manifest_kinds[item.kind].name_member) {
        json_object_del(document, manifest_kinds[item.kind].name_member);
    }
    if (!item.name || !manifest_note_name(source, &item) || !manifest_grow(manifest)) {
        free(item.name);
        json_decref(document);
        return manifest->faults > 0;
    }
    manifest->items[manifest->count++] = item;
    return true;
}

/* An empty document (between two ---, or a file of comments) is no resource. A list holds several.
 */
static bool manifest_take(void *context, json_t *document, size_t line) {
    size_t i;
    json_t *one;
    bool good = true;
    if (json_is_null(document)) {
        json_decref(document);
        return true;
    }
    if (!json_is_array(document)) {
        return manifest_add(context, document, line);
    }
    json_array_foreach(document, i, one) {
        good = good && manifest_add(context, json_incref(one), line);
    }
    json_decref(document);
    return good;
}

/* ---- files ----------------------------------------------------------------------------------- */

static size_t manifest_lines(const char *from, const char *to) {
    size_t lines = 0;
    for (; from < to; from++) {
        lines += *from == '\n';
    }
    return lines;
}

/* JSON values one after another. */
static bool manifest_read_json(struct manifest_source *source, const char *text, size_t len) {
    const char *at = text, *end = text + len;
    size_t line = 1;
    for (;;) {
        json_error_t fault;
        const char *begin = at;
        while (at < end && *at != '\0' && strchr(" \t\r\n", *at)) {
            at++;
        }
        line += manifest_lines(begin, at);
        if (at == end) {
            return true;
        }
        json_t *value = json_loadb(at, (size_t)(end - at),
                                   JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &fault);
        if (!value) {
            manifest_fault(source, line + (size_t)(fault.line > 0 ? fault.line - 1 : 0),
                           fault.text);
            return false;
        }
        begin = at;
        at += fault.position;
        if (!manifest_take(source, value, line)) {
            return false;
        }
        line += manifest_lines(begin, at);
    }
}

static bool manifest_has_suffix(const char *name, const char *suffix) {
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

static bool manifest_is_json(const char *name, const char *text, size_t len) {
    size_t blank = strspn(text, " \t\r\n");
    bool unnamed = !manifest_has_suffix(name, ".yaml") && !manifest_has_suffix(name, ".yml");
    return manifest_has_suffix(name, ".json") ||
           (unnamed && blank < len && strchr("{[", text[blank]));
}

/* The name of the file, kept for messages. */
static const char *manifest_keep_file(struct manifest *manifest, const char *path) {
    char **files = realloc(manifest->files, (manifest->file_count + 1) * sizeof *files);
    if (files) {
        manifest->files = files;
        files[manifest->file_count] = strdup(strcmp(path, "-") == 0 ? "standard input" : path);
    }
    return files && files[manifest->file_count] ? files[manifest->file_count++] : NULL;
}

static bool manifest_read_file(struct manifest *manifest, const char *path) {
    struct buffer data;
    struct manifest_source source = {manifest, manifest_keep_file(manifest, path), 0};
    bool good = cli_read_path(path, &data) && source.file;
    if (good) {
        size_t bom_len = text_bom_len(data.data, data.len);
        const char *text = (data.data ? data.data : "") + bom_len;
        size_t len = data.len - bom_len;
        good = manifest_is_json(path, text, len)
                   ? manifest_read_json(&source, text, len)
                   : manifest_yaml_read(source.file, text, len, manifest_take, &source);
    }
    manifest->faults += !good;
    buffer_fini(&data);
    return good;
}

/* A folder that is being read. */
struct manifest_folder {
    const struct manifest_folder *parent; /* NULL: none */
    dev_t device;
    ino_t inode;
    unsigned depth;
};

static bool manifest_read_path(struct manifest *manifest, const char *path,
                               const struct manifest_folder *parent);

/* NULL: it can be read. With several links to a folder above, the paths would double at each level.
 */
static const char *manifest_folder_fault(const struct manifest_folder *folder) {
    for (const struct manifest_folder *at = folder->parent; at; at = at->parent) {
        if (at->device == folder->device && at->inode == folder->inode) {
            return "is a link to a folder that contains it";
        }
    }
    return folder->depth > FOLDER_DEPTH_MAX ? "nested too deeply"
           : cli_interrupted()              ? "interrupted"
                                            : NULL;
}

static int manifest_filter(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* In the order of their names. Files with other endings are left out. */
static bool manifest_read_folder(struct manifest *manifest, const char *path,
                                 const struct manifest_folder *folder) {
    struct dirent **entries;
    bool good = true;
    const char *fault = manifest_folder_fault(folder);
    int n = fault ? -1 : scandir(path, &entries, manifest_filter, alphasort);
    if (n < 0) {
        cli_error("folder %s: %s", path, fault ? fault : strerror(errno));
        manifest->faults++;
        return false;
    }
    for (int i = 0; i < n; i++) {
        struct buffer name;
        struct stat about;
        buffer_init(&name);
        buffer_printf(&name, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/",
                      entries[i]->d_name);
        bool is_folder = name.data && stat(name.data, &about) == 0 && S_ISDIR(about.st_mode);
        bool wanted = name.data && (is_folder || manifest_has_suffix(name.data, ".yaml") ||
                                    manifest_has_suffix(name.data, ".yml") ||
                                    manifest_has_suffix(name.data, ".json"));
        good = (!wanted || manifest_read_path(manifest, name.data, folder)) && good;
        buffer_fini(&name);
        free(entries[i]);
    }
    free(entries);
    return good;
}

static bool manifest_read_path(struct manifest *manifest, const char *path,
                               const struct manifest_folder *parent) {
    struct stat about;
    if (strcmp(path, "-") == 0 || stat(path, &about) != 0 || !S_ISDIR(about.st_mode)) {
        return manifest_read_file(manifest, path);
    }
    const struct manifest_folder folder = {parent, about.st_dev, about.st_ino,
                                           parent ? parent->depth + 1 : 0};
    return manifest_read_folder(manifest, path, &folder);
}

/* ---- all ------------------------------------------------------------------------------------- */

/* Whether it is a sink with a dead letter sink that a document after `placed` has. */
static bool manifest_waits(const struct manifest *manifest, const struct manifest_item *item,
                           const bool *placed) {
    const json_t *other = json_object_get(item->document, "dead_letter");
    const char *name = item->kind == MANIFEST_SINK ? json_string_value(other) : NULL;
    for (size_t i = 0; name && i < manifest->count; i++) {
        const struct manifest_item *one = &manifest->items[i];
        if (!placed[i] && one != item && one->kind == MANIFEST_SINK &&
            strcmp(one->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Appends the documents of a kind that wait for none; returns how many. all: those that wait, too.
 */
static size_t manifest_place(struct manifest *manifest, enum manifest_kind kind, bool all,
                             bool *placed, struct manifest_item *sorted) {
    size_t n = 0;
    for (size_t i = 0; i < manifest->count; i++) {
        const struct manifest_item *item = &manifest->items[i];
        if (item->kind == kind && !placed[i] && (all || !manifest_waits(manifest, item, placed))) {
            sorted[n++] = *item;
            placed[i] = true;
        }
    }
    return n;
}

/* By kind; a sink after the sink that gets its dead letters. Otherwise the order stays. */
static bool manifest_sort(struct manifest *manifest) {
    struct manifest_item *sorted = calloc(manifest->count + 1, sizeof *sorted);
    bool *placed = calloc(manifest->count + 1, sizeof *placed);
    size_t n = 0;
    for (size_t kind = 0; sorted && placed && kind < MANIFEST_KIND_COUNT; kind++) {
        size_t more;
        do {
            more = manifest_place(manifest, (enum manifest_kind)kind, false, placed, sorted + n);
            n += more;
        } while (more > 0);
        n += manifest_place(manifest, (enum manifest_kind)kind, true, placed, sorted + n);
    }
    free(placed);
    if (!sorted || n != manifest->count) {
        free(sorted);
        return false;
    }
    free(manifest->items);
    manifest->items = sorted;
    return true;
}

bool manifest_read(struct manifest *manifest, const char *path) {
    *manifest = (struct manifest){.seen = json_object()};
    bool good = manifest_read_path(manifest, path, NULL) && manifest->faults == 0;
    if (good && manifest->count == 0) {
        cli_error("%s: has no documents (*.yaml, *.yml, *.json in a folder)", path);
        good = false;
    }
    return good && manifest_sort(manifest);
}

void manifest_fini(struct manifest *manifest) {
    for (size_t i = 0; i < manifest->count; i++) {
        json_decref(manifest->items[i].document);
        free(manifest->items[i].name);
    }
    for (size_t i = 0; i < manifest->file_count; i++) {
        free(manifest->files[i]);
    }
    free(manifest->items);
    free(manifest->files);
    json_decref(manifest->seen);
    *manifest = (struct manifest){0};
}

bool manifest_write(FILE *file, enum manifest_kind kind, const char *name, const json_t *document) {
    const struct manifest_kind_row *row = &manifest_kinds[kind];
    json_t *whole = json_pack("{s:s}", "kind", row->kind);
    bool good = whole && (!row->name_member ||
                          json_object_set_new(whole, row->name_member, json_string(name)) == 0);
    good = good && json_object_update_missing(whole, (json_t *)document) == 0 &&
           manifest_yaml_write(file, whole);
    json_decref(whole);
    return good;
}
