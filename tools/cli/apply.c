/* Makes the fleet as its documents say: `apply` and `import`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "apply_internal.h"
#include "faults.h"
#include "node.h"
#include "progress.h"
#include "table.h"

#define BATCH_LEN       500               /* clients in one request */
#define BATCH_BYTES_MAX ((size_t)1 << 20) /* of them, unless it is one; nodes limit a body */

static const struct {
    const char *name, *planned;
} apply_outcomes[APPLY_OUTCOME_COUNT] = {
    [APPLY_CREATED] = {"created", "would create"},  [APPLY_CHANGED] = {"changed", "would change"},
    [APPLY_UNCHANGED] = {"unchanged", "unchanged"}, [APPLY_DELETED] = {"deleted", "would delete"},
    [APPLY_FAILED] = {"failed", "would fail"},
};

bool cli_apply_stopped(const struct apply *apply) {
    return apply->code != CLI_OK || cli_interrupted();
}

/* ---- what is told ---------------------------------------------------------------------------- */

static void cli_apply_print_value(const char *sign, const json_t *value) {
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    char safe[2048];
    if (text) {
        printf("    %s %s\n", sign, table_printable(text, safe, sizeof safe));
    }
    free(text);
}

static void cli_apply_print_changes(const json_t *changes) {
    size_t i;
    const json_t *change;
    json_array_foreach(changes, i, change) {
        char safe[512];
        const char *field = cli_json_text(change, "field");
        if (!field) {
            printf("  %lld more\n", (long long)cli_json_number(change, "more"));
            continue;
        }
        printf("  %s\n", table_printable(field, safe, sizeof safe));
        cli_apply_print_value("-", json_object_get(change, "before"));
        cli_apply_print_value("+", json_object_get(change, "after"));
    }
}

/* Counts and prints what became of a document. result: the answer for it; NULL: none. */
void cli_apply_report(struct apply *apply, enum manifest_kind kind, const char *name,
                      enum apply_outcome outcome, const json_t *result) {
    const char *kind_name = manifest_kinds[kind].kind;
    const json_t *changes = json_object_get(result, "changes");
    char safe[512];
    apply->counts[outcome]++;
    if (outcome == APPLY_UNCHANGED || outcome == APPLY_FAILED) {
        return; /* faults are on stderr */
    }
    cli_progress_clear();
    if (apply->cli->format == CLI_FORMAT_JSON) {
        json_t *line =
            json_pack("{s:s, s:s, s:s, s:b, s:O*}", "kind", kind_name, "name", name, "outcome",
                      apply_outcomes[outcome].name, "dry_run", apply->dry_run, "changes", changes);
        json_dumpf(line, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(line);
        return;
    }
    printf("%s %s%s%s\n",
           apply->dry_run ? apply_outcomes[outcome].planned : apply_outcomes[outcome].name,
           kind_name, manifest_kinds[kind].name_member ? " " : "",
           manifest_kinds[kind].name_member ? table_printable(name, safe, sizeof safe) : "");
    if (apply->diff) {
        cli_apply_print_changes(changes);
    }
}

/* The pointers are those of the document. */
static void cli_apply_print_failed(const struct apply *apply, const struct manifest_item *item,
                                   const json_t *errors, size_t skip, const char *detail) {
    json_t *list = json_array();
    size_t i;
    const json_t *error;
    json_array_foreach(errors, i, error) {
        const char *pointer = cli_faults_pointer(error, skip);
        json_array_append_new(list, json_pack("{s:s, s:s}", "pointer", pointer ? pointer : "",
                                              "detail", cli_json_text_or_empty(error, "detail")));
    }
    json_t *line = json_pack("{s:s, s:s, s:s, s:b, s:s, s:I, s:I, s:s, s:o}", "kind",
                             manifest_kinds[item->kind].kind, "name", item->name, "outcome",
                             apply_outcomes[APPLY_FAILED].name, "dry_run", apply->dry_run, "file",
                             item->file, "line", (json_int_t)item->line, "document",
                             (json_int_t)item->number, "detail", detail, "errors", list);
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(line);
}

/* errors: of the answer, or NULL; skip: the number of segments of a pointer before those of the
 * document. */
static void cli_apply_fail(struct apply *apply, const struct manifest_item *item,
                           const json_t *errors, size_t skip, const char *detail) {
    struct faults_place place = {item->file, item->line, item->number,
                                 manifest_kinds[item->kind].kind, item->name};
    place.name = manifest_kinds[item->kind].name_member ? place.name : NULL;
    apply->counts[APPLY_FAILED]++;
    cli_faults_print(&apply->faults_shown, &place, errors, skip, detail);
    if (apply->cli->format == CLI_FORMAT_JSON) {
        cli_apply_print_failed(apply, item, errors, skip, detail);
    }
}

/* ---- documents that name what a dry run would create ----------------------------------------- */

/* The text at a JSON pointer; NULL: none. */
static const char *cli_apply_text_at(const json_t *document, const char *pointer) {
    while (document && *pointer == '/') {
        char member[256];
        size_t len = strcspn(++pointer, "/");
        snprintf(member, sizeof member, "%.*s", (int)len, pointer);
        document = json_is_array(document) ? json_array_get(document, strtoul(member, NULL, 10))
                                           : json_object_get(document, member);
        pointer += len;
    }
    return json_string_value(document);
}

/* Whether each fault is only the name of a resource that the plan creates. skip: the number of
 * segments of a pointer before those of the document. */
static bool cli_apply_names_planned(const struct apply *apply, const json_t *document,
                                    const json_t *errors, size_t skip) {
    size_t i;
    const json_t *error;
    json_array_foreach(errors, i, error) {
        const char *pointer = cli_faults_pointer(error, skip);
        const char *name = pointer ? cli_apply_text_at(document, pointer) : NULL;
        if (!name || !json_object_get(apply->created, name)) {
            return false;
        }
    }
    return apply->dry_run && json_array_size(errors) > 0;
}

static enum apply_outcome cli_apply_outcome_of(const json_t *result) {
    const char *name = cli_json_text(result, "outcome");
    for (size_t i = 0; name && i < APPLY_FAILED; i++) {
        if (strcmp(name, apply_outcomes[i].name) == 0) {
            return (enum apply_outcome)i;
        }
    }
    return APPLY_FAILED;
}

/* What a dry run cannot ask the node, because it depends on what would be created first. */
static enum apply_outcome cli_apply_planned_outcome(struct apply *apply,
                                                    const struct manifest_item *item) {
    const struct manifest_kind_row *row = &manifest_kinds[item->kind];
    struct cli_answer answer;
    char *path = row->name_member ? cli_node_path(row->collection, item->name, "") : NULL;
    if (!path) {
        return APPLY_CHANGED;
    }
    cli_node_call(apply->cli, "GET", path, NULL, 5000, &answer);
    bool absent = answer.status == 404;
    cli_answer_fini(&answer);
    free(path);
    return absent ? APPLY_CREATED : APPLY_CHANGED;
}

/* ---- sinks, client profiles, routes ---------------------------------------------------------- */

/* False: the error was printed, and the resource counts as failed, or nothing can be applied. */
static bool cli_apply_put(struct apply *apply, const struct manifest_item *item, bool dry_run,
                          struct cli_answer *answer) {
    const char *collection = manifest_kinds[item->kind].collection;
    struct buffer path;
    char *named =
        manifest_kinds[item->kind].name_member ? cli_node_path(collection, item->name, "") : NULL;
    buffer_init(&path);
    buffer_printf(&path, "%s%s", named ? "" : "/api/v1/", named ? named : collection);
    free(named);
    buffer_append_str(&path, dry_run ? "?dry_run=true" : "");
    cli_node_call(apply->cli, "PUT", path.data ? path.data : "/", json_incref(item->document), 5000,
                  answer);
    buffer_fini(&path);
    if (cli_answer_succeeded(answer)) {
        return true;
    }
    cli_progress_clear();
    const json_t *errors = json_object_get(answer->json, "errors");
    if (cli_apply_names_planned(apply, item->document, errors, 0)) {
        cli_apply_report(apply, item->kind, item->name, cli_apply_planned_outcome(apply, item),
                         NULL);
        json_object_set_new(apply->created, item->name, json_true());
        return false;
    }
    if (json_array_size(errors) == 0) {
        enum cli_exit code = cli_answer_explain(answer, item->name);
        apply->code = code == CLI_UNREACHABLE || code == CLI_REFUSED ? code : apply->code;
    }
    cli_apply_fail(apply, item, errors, 0, "not applied");
    return false;
}

static void cli_apply_resource(struct apply *apply, const struct manifest_item *item) {
    struct cli_answer plan, answer;
    if (cli_apply_put(apply, item, true, &plan)) {
        enum apply_outcome outcome = cli_apply_outcome_of(plan.json);
        bool done = outcome == APPLY_UNCHANGED || apply->dry_run;
        if (!done) {
            done = cli_apply_put(apply, item, false, &answer);
            cli_answer_fini(&answer);
        }
        if (done) {
            cli_apply_report(apply, item->kind, item->name, outcome, plan.json);
        }
        if (outcome == APPLY_CREATED) {
            json_object_set_new(apply->created, item->name, json_true());
        }
    }
    cli_answer_fini(&plan);
    apply->done++;
}

/* ---- clients --------------------------------------------------------------------------------- */

static void cli_apply_take_results(struct apply *apply, const struct manifest_item *items, size_t n,
                                   const json_t *answer) {
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(answer, "results"), i, one) {
        size_t index = (size_t)cli_json_number(one, "index");
        if (index < n) {
            cli_apply_report(apply, items[index].kind, items[index].name, cli_apply_outcome_of(one),
                             one);
        }
    }
    json_array_foreach(json_object_get(answer, "failed"), i, one) {
        size_t index = (size_t)cli_json_number(one, "index");
        const char *detail = cli_json_text(one, "detail");
        if (index < n && cli_apply_names_planned(apply, items[index].document,
                                                 json_object_get(one, "errors"), 1)) {
            cli_apply_report(apply, items[index].kind, items[index].name,
                             cli_apply_planned_outcome(apply, &items[index]), NULL);
        } else if (index < n) {
            cli_apply_fail(apply, &items[index], json_object_get(one, "errors"), 1,
                           detail ? detail : "not applied");
        }
    }
}

/* How many of the next documents, which begin with a client, go into one request: at least one. */
static size_t cli_apply_batch_len(const struct manifest_item *items, size_t count) {
    size_t n = 0, bytes = 0;
    while (n < count && n < BATCH_LEN && items[n].kind == MANIFEST_CLIENT) {
        bytes += json_dumpb(items[n].document, NULL, 0, JSON_COMPACT);
        if (n > 0 && bytes > BATCH_BYTES_MAX) {
            break;
        }
        n++;
    }
    return n;
}

static void cli_apply_clients(struct apply *apply, const struct manifest_item *items, size_t n) {
    struct cli_answer answer;
    json_t *batch = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append(batch, items[i].document);
    }
    cli_node_call(apply->cli, "POST",
                  apply->dry_run ? "/api/v1/clients:apply?dry_run=true" : "/api/v1/clients:apply",
                  batch, 30000, &answer);
    if (cli_answer_succeeded(&answer)) {
        cli_apply_take_results(apply, items, n, answer.json);
    } else {
        cli_progress_clear();
        apply->code = cli_answer_explain(&answer, NULL);
    }
    cli_answer_fini(&answer);
    apply->done += n;
}

static void cli_apply_all(struct apply *apply) {
    const struct manifest *manifest = &apply->manifest;
    for (size_t i = 0; i < manifest->count && !cli_apply_stopped(apply);) {
        const struct manifest_item *item = &manifest->items[i];
        size_t n = 1;
        if (item->kind == MANIFEST_CLIENT) {
            n = cli_apply_batch_len(item, manifest->count - i);
            cli_apply_clients(apply, item, n);
        } else {
            cli_apply_resource(apply, item);
        }
        i += n;
        cli_progress_show("apply", apply->done, apply->total);
    }
    cli_progress_clear();
}

/* ---- the command ----------------------------------------------------------------------------- */

/* So that a second fleet does not run the same clients at once. */
static void cli_apply_pause_clients(struct apply *apply) {
    for (size_t i = 0; i < apply->manifest.count; i++) {
        if (apply->manifest.items[i].kind == MANIFEST_CLIENT) {
            json_object_set_new(apply->manifest.items[i].document, "desired",
                                json_string("paused"));
        }
    }
}

static void cli_apply_print_totals(const struct apply *apply) {
    if (apply->cli->format == CLI_FORMAT_JSON) {
        json_t *totals = json_pack("{s:b}", "dry_run", apply->dry_run);
        for (size_t i = 0; i < APPLY_OUTCOME_COUNT; i++) {
            json_object_set_new(totals, apply_outcomes[i].name,
                                json_integer((json_int_t)apply->counts[i]));
        }
        json_dumpf(totals, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(totals);
        return;
    }
    for (size_t i = 0; i < APPLY_OUTCOME_COUNT; i++) {
        printf("%s%zu %s", i > 0 ? ", " : "", apply->counts[i], apply_outcomes[i].name);
    }
    puts(apply->dry_run ? " (nothing was changed)" : "");
}

/* With --diff as of diff(1): 0 no difference, 1 differences, more: it could not be told. */
static enum cli_exit cli_apply_exit_code(const struct apply *apply) {
    size_t differences =
        apply->counts[APPLY_CREATED] + apply->counts[APPLY_CHANGED] + apply->counts[APPLY_DELETED];
    bool failed = apply->counts[APPLY_FAILED] > 0;
    if (apply->code != CLI_OK) {
        return apply->code;
    }
    if (apply->diff) {
        return failed ? CLI_INVALID : differences > 0 ? CLI_FAILED : CLI_OK;
    }
    return !failed                                            ? CLI_OK
           : differences + apply->counts[APPLY_UNCHANGED] > 0 ? CLI_FAILED
                                                              : CLI_INVALID;
}

static enum cli_exit cli_apply_run(struct cli *cli, const char *path) {
    struct apply apply = {
        .cli = cli, .diff = cli_option_given(cli, OPT_DIFF), .created = json_object()};
    apply.dry_run = apply.diff || cli_option_given(cli, OPT_DRY_RUN);
    enum cli_exit code;
    if (!manifest_read(&apply.manifest, path)) {
        code = CLI_INVALID;
    } else if (!cli_apply_select(&apply)) {
        code = apply.code;
    } else {
        if (cli_option_given(cli, OPT_PAUSED)) {
            cli_apply_pause_clients(&apply);
        }
        apply.total = apply.manifest.count;
        cli_apply_all(&apply);
        /* What is left of a failed apply may be what its documents replace. */
        bool complete = !cli_apply_stopped(&apply) && apply.counts[APPLY_FAILED] == 0;
        if (cli_option_given(cli, OPT_PRUNE) && complete) {
            cli_apply_prune(&apply);
        } else if (cli_option_given(cli, OPT_PRUNE) && !cli_apply_stopped(&apply)) {
            cli_error("nothing is pruned, because documents failed");
        }
        cli_apply_print_totals(&apply);
        code = cli_interrupted() ? CLI_INTERRUPTED : cli_apply_exit_code(&apply);
    }
    json_decref(apply.created);
    manifest_fini(&apply.manifest);
    return code;
}

enum cli_exit command_apply(struct cli *cli) {
    if (!cli_option_given(cli, OPT_FILE)) {
        cli_error("apply: requires --file DIR, a file, or - for standard input");
        return CLI_USAGE;
    }
    cli_catch_interrupts();
    return cli_apply_run(cli, cli->values[OPT_FILE]);
}

enum cli_exit command_import(struct cli *cli) {
    cli_catch_interrupts();
    return cli_apply_run(cli, cli->word_count > 0 ? cli->words[0] : "-");
}
