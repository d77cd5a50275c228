/* Compares documents. */
#include "http/api/document_changes.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "http/server/problem.h"

struct document_comparison {
    json_t *changes;
    size_t more, *bytes_left;
    bool failed;
};

/* before, after: their references are shared, not taken over. */
static void document_note_change(struct document_comparison *comparison, const char *pointer,
                                 const json_t *before, const json_t *after) {
    json_t *change = NULL;
    bool full = json_array_size(comparison->changes) == DOCUMENT_CHANGES_MAX;
    if (!full) {
        change = json_pack("{s:s, s:O*, s:O*}", "field", pointer, "before", before, "after", after);
        comparison->failed |= !change;
    }
    size_t len = change ? json_dumpb(change, NULL, 0, JSON_COMPACT) : 0;
    if (full || len > *comparison->bytes_left) {
        comparison->more++;
    } else if (json_array_append(comparison->changes, change) == 0) {
        *comparison->bytes_left -= len;
    } else {
        comparison->failed = true;
    }
    json_decref(change);
}

/* A member of a JSON pointer (RFC 6901). The caller frees it. */
static char *document_pointer(const char *pointer, const char *member) {
    struct buffer out;
    buffer_init(&out);
    buffer_append_str(&out, pointer);
    buffer_append_str(&out, "/");
    for (; *member; member++) {
        const char *escaped = *member == '~' ? "~0" : *member == '/' ? "~1" : NULL;
        buffer_append(&out, escaped ? escaped : member, escaped ? 2 : 1);
    }
    return buffer_take(&out);
}

static void document_compare(struct document_comparison *comparison, const char *pointer,
                             struct document_side before, struct document_side after);

static struct document_side document_member(struct document_side side, const char *name) {
    return (struct document_side){json_object_get(side.value, name),
                                  json_object_get(side.shown, name)};
}

static void document_compare_member(struct document_comparison *comparison, const char *pointer,
                                    const char *name, struct document_side before,
                                    struct document_side after) {
    char *here = document_pointer(pointer, name);
    if (here) {
        document_compare(comparison, here, document_member(before, name),
                         document_member(after, name));
    }
    comparison->failed |= !here;
    free(here);
}

static void document_compare_objects(struct document_comparison *comparison, const char *pointer,
                                     struct document_side before, struct document_side after) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)before.value, name, value) {
        document_compare_member(comparison, pointer, name, before, after);
    }
    json_object_foreach((json_t *)after.value, name, value) {
        if (!json_object_get(before.value, name)) {
            document_compare_member(comparison, pointer, name, before, after);
        }
    }
}

static struct document_side document_element(struct document_side side, size_t index) {
    return (struct document_side){json_array_get(side.value, index),
                                  json_array_get(side.shown, index)};
}

static void document_compare_lists(struct document_comparison *comparison, const char *pointer,
                                   struct document_side before, struct document_side after) {
    for (size_t i = 0; i < json_array_size(before.value); i++) {
        struct buffer here;
        buffer_init(&here);
        buffer_printf(&here, "%s/%zu", pointer, i);
        document_compare(comparison, here.data ? here.data : pointer, document_element(before, i),
                         document_element(after, i));
        buffer_fini(&here);
    }
}

/* Recurses as deep as the documents, which the parser limits. */
static void document_compare(struct document_comparison *comparison, const char *pointer,
                             struct document_side before, struct document_side after) {
    if (before.value && after.value && json_equal(before.value, after.value)) {
        return;
    }
    if (json_is_object(before.value) && json_is_object(after.value)) {
        document_compare_objects(comparison, pointer, before, after);
    } else if (json_is_array(before.value) && json_is_array(after.value) &&
               json_array_size(before.value) == json_array_size(after.value)) {
        document_compare_lists(comparison, pointer, before, after);
    } else {
        document_note_change(comparison, pointer, before.shown, after.shown);
    }
}

json_t *document_changes(struct document_side before, struct document_side after,
                         size_t *bytes_left) {
    struct document_comparison comparison = {.changes = json_array(), .bytes_left = bytes_left};
    if (comparison.changes) {
        document_compare(&comparison, "", before, after);
    }
    if (comparison.more > 0) {
        json_t *more = json_pack("{s:I}", "more", (json_int_t)comparison.more);
        comparison.failed |= json_array_append_new(comparison.changes, more) != 0;
    }
    if (comparison.failed) {
        json_decref(comparison.changes);
        return NULL;
    }
    return comparison.changes;
}

void document_changes_answer(struct http_response *response, struct document_side before,
                             struct document_side after) {
    size_t bytes_left = DOCUMENT_CHANGES_BYTES_MAX;
    json_t *changes = before.value ? document_changes(before, after, &bytes_left) : json_array();
    if (!changes) {
        http_problem_memory(response);
        return;
    }
    const char *outcome = !before.value                  ? "created"
                          : json_array_size(changes) > 0 ? "changed"
                                                         : "unchanged";
    http_answer_json(
        response, 200,
        json_pack("{s:b, s:s, s:o}", "dry_run", 1, "outcome", outcome, "changes", changes));
}
