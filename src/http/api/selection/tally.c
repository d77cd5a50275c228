/* Owns the groups of one sum. */
#include "http/api/selection/tally.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/text.h"

struct tally_group {
    int64_t count;
    char *example; /* NULL: none */
    UT_hash_handle hh;
    char value[];
};

void tally_fini(struct tally *tally) {
    struct tally_group *group, *next;
    HASH_ITER(hh, tally->groups, group, next) {
        HASH_DEL(tally->groups, group);
        free(group->example);
        free(group);
    }
    *tally = (struct tally){0};
}

/* NULL: there are too many, or out of memory. */
static struct tally_group *tally_create_group(struct tally *tally, const char *value, size_t len) {
    if (HASH_COUNT(tally->groups) >= TALLY_GROUPS_MAX) {
        return NULL;
    }
    struct tally_group *group = malloc(sizeof *group + len + 1);
    if (group) {
        group->count = 0;
        group->example = NULL;
        memcpy(group->value, value, len + 1);
        HASH_ADD_KEYPTR(hh, tally->groups, group->value, len, group);
    }
    return group;
}

void tally_add(struct tally *tally, const char *value, int64_t count, const char *example) {
    if (!value) {
        tally->without += count;
        return;
    }
    struct tally_group *group;
    size_t len = strlen(value);
    HASH_FIND(hh, tally->groups, value, len, group);
    if (!group) {
        group = tally_create_group(tally, value, len);
    }
    if (group) {
        group->count += count;
        group->example = group->example ? group->example : text_dup(example);
    } else {
        tally->others += count;
    }
}

static int tally_compare_rows(const void *left, const void *right) {
    const struct tally_row *a = left, *b = right;
    if (a->count != b->count) {
        return a->count > b->count ? -1 : 1;
    }
    if (!a->value || !b->value) {
        return a->value ? -1 : 1;
    }
    return strcmp(a->value, b->value);
}

struct tally_row *tally_rows(const struct tally *tally, size_t *n) {
    struct tally_row *rows = calloc(HASH_COUNT(tally->groups) + 1, sizeof *rows);
    *n = 0;
    if (!rows) {
        return NULL;
    }
    for (const struct tally_group *group = tally->groups; group; group = group->hh.next) {
        rows[(*n)++] = (struct tally_row){group->value, group->example, group->count};
    }
    if (tally->without > 0) {
        rows[(*n)++] = (struct tally_row){NULL, NULL, tally->without};
    }
    qsort(rows, *n, sizeof *rows, tally_compare_rows);
    return rows;
}

json_t *tally_to_json(const struct tally *tally) {
    json_t *groups = json_object(), *examples = json_object();
    int64_t others = tally->others;
    for (const struct tally_group *group = tally->groups; group; group = group->hh.next) {
        if (json_object_set_new(groups, group->value, json_integer(group->count)) != 0) {
            others += group->count; /* not UTF-8 */
        } else if (group->example) {
            json_object_set_new(examples, group->value, json_string(group->example));
        }
    }
    return json_pack("{s:o, s:o, s:I, s:I}", "groups", groups, "examples", examples, "without",
                     (json_int_t)tally->without, "others", (json_int_t)others);
}

static int64_t tally_count_of(const json_t *json) {
    int64_t count = json_integer_value(json);
    return count > 0 ? count : 0;
}

enum err tally_merge_json(struct tally *tally, const json_t *json) {
    json_t *groups = json_object_get(json, "groups");
    const json_t *examples = json_object_get(json, "examples");
    const char *value;
    json_t *count;
    if (!json_is_object(groups)) {
        return ERR_ARGUMENT;
    }
    json_object_foreach(groups, value, count) {
        tally_add(tally, value, tally_count_of(count),
                  json_string_value(json_object_get(examples, value)));
    }
    tally->without += tally_count_of(json_object_get(json, "without"));
    tally->others += tally_count_of(json_object_get(json, "others"));
    return ERR_OK;
}
