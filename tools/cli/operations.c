/* Commands for operations on many clients, and for the changes of one. */
#include "operations.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "node.h"
#include "progress.h"
#include "select.h"
#include "table.h"

#define POLL_MS         300
#define FAILURES_LISTED 10
#define UNREACHABLE_MAX 20 /* polls without an answer: the node may have died, and come back */

/* ---- one operation --------------------------------------------------------------------------- */

static char *cli_operations_path(const struct cli *cli, bool dry_run) {
    struct buffer path;
    buffer_init(&path);
    buffer_printf(&path, "/api/v1/clients:%s?dry_run=%s", cli->command->name,
                  dry_run ? "true" : "false");
    cli_select_append_filters(cli, &path);
    if (cli_option_given(cli, OPT_RATE)) {
        buffer_printf(&path, "&rate=%s", cli->values[OPT_RATE]);
    }
    return buffer_take(&path);
}

/* *out: the answer's document, owned; NULL after an error. */
static enum cli_exit cli_operations_call(struct cli *cli, const char *method, char *path,
                                         json_t *body, json_t **out) {
    struct cli_answer answer;
    cli_node_call(cli, method, path ? path : "/", body ? json_incref(body) : NULL, 0, &answer);
    free(path);
    bool good = cli_answer_succeeded(&answer);
    enum cli_exit code = good ? CLI_OK : cli_answer_explain(&answer, NULL);
    *out = good ? json_incref(answer.json) : NULL;
    cli_answer_fini(&answer);
    return code;
}

static void cli_operations_print_json(const json_t *document) {
    char *line = json_dumps(document, JSON_COMPACT);
    puts(line ? line : "null");
    free(line);
}

static void cli_operations_print_failures(const json_t *operation) {
    size_t i;
    const json_t *failure;
    char safe[600];
    json_array_foreach(json_object_get(operation, "failures"), i, failure) {
        if (i == FAILURES_LISTED) {
            break;
        }
        const char *id = cli_json_text(failure, "id");
        const char *detail = cli_json_text(failure, "detail");
        fprintf(stderr, "  %s: ", table_printable(id ? id : "?", safe, sizeof safe));
        fprintf(stderr, "%s", cli_json_text(failure, "reason"));
        fprintf(stderr, "%s%s\n", detail ? ": " : "",
                table_printable(detail ? detail : "", safe, sizeof safe));
    }
}

/* out: of the sentence for people. */
static enum cli_exit cli_operations_report(const struct cli *cli, const json_t *operation,
                                           FILE *out) {
    long long failed = cli_json_number(operation, "failed");
    const char *state = cli_json_text(operation, "state");
    if (cli->format == CLI_FORMAT_JSON) {
        cli_operations_print_json(operation);
    } else if (cli->format == CLI_FORMAT_ID) {
        puts(cli_json_text(operation, "id"));
    } else {
        fprintf(out, "%s: %lld done, %lld skipped, %lld failed%s (operation %s)\n",
                cli_json_text(operation, "action"), cli_json_number(operation, "done"),
                cli_json_number(operation, "skipped"), failed,
                state && strcmp(state, "cancelled") == 0 ? ", cancelled" : "",
                cli_json_text(operation, "id"));
        cli_operations_print_failures(operation);
    }
    return failed > 0 || !state || strcmp(state, "done") != 0 ? CLI_FAILED : CLI_OK;
}

/* Shows the progress until the operation ends, also while the node does not answer for a moment. */
static enum cli_exit cli_operations_follow(struct cli *cli, const char *id) {
    char path[128];
    enum cli_exit code = CLI_OK;
    snprintf(path, sizeof path, "/api/v1/operations/%.64s", id);
    for (int failures = 0; failures < UNREACHABLE_MAX && !cli_interrupted();) {
        struct cli_answer answer;
        cli_node_call(cli, "GET", path, NULL, 0, &answer);
        bool good = cli_answer_succeeded(&answer);
        const char *state = good ? cli_json_text(answer.json, "state") : NULL;
        bool running = state && strcmp(state, "running") == 0;
        failures = good ? 0 : failures + 1;
        if (running) {
            cli_progress_show(cli->command->name,
                              (size_t)(cli_json_number(answer.json, "done") +
                                       cli_json_number(answer.json, "skipped") +
                                       cli_json_number(answer.json, "failed")),
                              (size_t)cli_json_number(answer.json, "total"));
        } else if (good) {
            cli_progress_clear();
            code = cli_operations_report(cli, answer.json, stderr);
        } else if (failures == UNREACHABLE_MAX) {
            cli_progress_clear();
            code = cli_answer_explain(&answer, NULL);
        }
        cli_answer_fini(&answer);
        if (good && !running) {
            return code;
        }
        (void)cli_sleep_ms(POLL_MS);
    }
    cli_progress_clear();
    fprintf(stderr, "the operation goes on; mqfleet operations cancel %s ends it\n", id);
    return cli_interrupted() ? CLI_INTERRUPTED : code;
}

/* How many clients match; -1: *code is the exit code. */
static long long cli_operations_count(struct cli *cli, json_t *patch, enum cli_exit *code) {
    json_t *counted;
    *code = cli_operations_call(cli, "POST", cli_operations_path(cli, true), patch, &counted);
    long long total = counted ? cli_json_number(counted, "total") : -1;
    if (counted && cli_option_given(cli, OPT_DRY_RUN)) {
        if (cli->format == CLI_FORMAT_JSON) {
            cli_operations_print_json(counted);
        } else {
            printf("%lld clients match\n", total);
        }
    }
    json_decref(counted);
    return total;
}

enum cli_exit cli_operations_run(struct cli *cli, json_t *patch) {
    enum cli_exit code;
    json_t *operation;
    long long total = cli_operations_count(cli, patch, &code);
    if (total < 0 || cli_option_given(cli, OPT_DRY_RUN)) {
        return code;
    }
    if (total > 0 && !cli_confirm(cli, "%s %lld clients?", cli->command->name, total)) {
        return CLI_USAGE;
    }
    code = cli_operations_call(cli, "POST", cli_operations_path(cli, false), patch, &operation);
    const char *id = cli_json_text(operation, "id");
    if (id) {
        cli_catch_interrupts();
        code = cli_operations_follow(cli, id);
    }
    json_decref(operation);
    return code;
}

/* ---- mqfleet operations ---------------------------------------------------------------------- */

static void cli_operations_put_row(struct table *table, const json_t *operation) {
    char ago[32];
    table_put(table, cli_json_text(operation, "id"));
    table_put(table, cli_json_text(operation, "action"));
    table_put(table, cli_json_text(operation, "state"));
    static const char *const numbers[] = {"total", "done", "skipped", "failed"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        table_printf(table, "%lld", cli_json_number(operation, numbers[i]));
    }
    table_printf(table, "%.0f", json_real_value(json_object_get(operation, "speed")));
    table_put(table, cli_json_text(operation, "by"));
    table_put(table, table_ago(cli_json_text(operation, "started_at"), ago, sizeof(ago)));
    table_put(table, cli_json_text(operation, "selector"));
}

static enum cli_exit cli_operations_list(struct cli *cli) {
    static const char *const headings[] = {"ID",    "ACTION",   "STATE",    ">TOTAL",
                                           ">DONE", ">SKIPPED", ">FAILED",  ">PER S",
                                           "BY",    "STARTED",  "SELECTOR", NULL};
    json_t *document;
    size_t i;
    const json_t *operation;
    enum cli_exit code =
        cli_operations_call(cli, "GET", strdup("/api/v1/operations"), NULL, &document);
    struct table *table = cli->format == CLI_FORMAT_TABLE ? table_create(headings) : NULL;
    json_array_foreach(json_object_get(document, "operations"), i, operation) {
        if (table) {
            cli_operations_put_row(table, operation);
        } else if (cli->format == CLI_FORMAT_JSON) {
            cli_operations_print_json(operation);
        } else {
            puts(cli_json_text(operation, "id"));
        }
    }
    if (table && document) {
        table_print(table);
    }
    table_destroy(table);
    json_decref(document);
    return code;
}

enum cli_exit command_operations(struct cli *cli) {
    const char *verb = cli->word_count > 0 ? cli->words[0] : "list";
    bool cancels = strcmp(verb, "cancel") == 0;
    if (strcmp(verb, "list") == 0 && cli->word_count < 2) {
        return cli_operations_list(cli);
    }
    if ((!cancels && strcmp(verb, "show") != 0) || cli->word_count != 2) {
        cli_error("usage: mqfleet operations [list|show ID|cancel ID]");
        return CLI_USAGE;
    }
    char *id = cli_node_escape(cli->words[1]), path[256];
    snprintf(path, sizeof path, "/api/v1/operations/%.200s%s", id ? id : "",
             cancels ? ":cancel" : "");
    free(id);
    json_t *operation;
    enum cli_exit code =
        cli_operations_call(cli, cancels ? "POST" : "GET", strdup(path), NULL, &operation);
    if (operation) {
        (void)cli_operations_report(cli, operation, stdout);
    }
    json_decref(operation);
    return code;
}

/* ---- mqfleet changes ------------------------------------------------------------------------- */

#define CHANGES_LIMIT 100 /* unless --limit is given */
#define CHANGES_PAGE  1000

/* Changes of one client, or of all. */
struct changes {
    struct cli *cli;
    struct table *table; /* NULL: another form of output */
    char *cursor;        /* NULL: the first page, or the last was the end */
    long long left;
};

static void cli_operations_put_change(const struct changes *changes, const json_t *change) {
    struct table *table = changes->table;
    struct buffer fields;
    size_t i;
    const json_t *name;
    buffer_init(&fields);
    buffer_append_str(&fields, "");
    json_array_foreach(json_object_get(change, "fields"), i, name) {
        buffer_printf(&fields, "%s%s", i > 0 ? " " : "", json_string_value(name));
    }
    table_put(table, cli_json_text(change, "at"));
    if (changes->cli->word_count == 0) {
        table_put(table, cli_json_text(change, "client"));
    }
    table_put(table, cli_json_text(change, "by"));
    table_put(table, cli_json_text(change, "action"));
    table_put(table, fields.data);
    table_printf(table, "%lld", cli_json_number(change, "to_version"));
    table_put(table, cli_json_text(change, "operation"));
    buffer_fini(&fields);
}

static char *cli_operations_changes_path(const struct changes *changes) {
    struct buffer path;
    if (changes->cli->word_count > 0) {
        return cli_node_path("clients", changes->cli->words[0], "changes");
    }
    buffer_init(&path);
    buffer_printf(&path, "/api/v1/changes?limit=%lld",
                  changes->left < CHANGES_PAGE ? changes->left : CHANGES_PAGE);
    cli_select_append_filters(changes->cli, &path);
    if (changes->cursor) {
        char *escaped = cli_node_escape(changes->cursor);
        buffer_printf(&path, "&cursor=%s", escaped ? escaped : "");
        free(escaped);
    }
    return buffer_take(&path);
}

static enum cli_exit cli_operations_changes_page(struct changes *changes) {
    json_t *document;
    size_t i;
    const json_t *change;
    enum cli_exit code = cli_operations_call(changes->cli, "GET",
                                             cli_operations_changes_path(changes), NULL, &document);
    json_array_foreach(json_object_get(document, "changes"), i, change) {
        if (changes->left-- <= 0) {
            break;
        }
        if (changes->table) {
            cli_operations_put_change(changes, change);
        } else {
            cli_operations_print_json(change);
        }
    }
    const char *next = cli_json_text(document, "next_cursor");
    free(changes->cursor);
    changes->cursor = next ? strdup(next) : NULL;
    json_decref(document);
    return code;
}

enum cli_exit command_changes(struct cli *cli) {
    static const char *const headings[] = {"AT",     "CLIENT",   "BY",        "ACTION",
                                           "FIELDS", ">VERSION", "OPERATION", NULL};
    static const char *const of_one[] = {"AT",       "BY",        "ACTION", "FIELDS",
                                         ">VERSION", "OPERATION", NULL};
    const char *limit = cli->values[OPT_LIMIT];
    if (cli->word_count > 0 && (limit || cli_option_given(cli, OPT_ID_PREFIX))) {
        cli_error("changes: --limit and --id-prefix stand without an id");
        return CLI_USAGE;
    }
    struct changes changes = {.cli = cli, .left = limit ? atoll(limit) : CHANGES_LIMIT};
    changes.table = cli->format == CLI_FORMAT_JSON
                        ? NULL
                        : table_create(cli->word_count > 0 ? of_one : headings);
    enum cli_exit code;
    cli_catch_interrupts();
    do {
        code = cli_operations_changes_page(&changes);
    } while (code == CLI_OK && changes.cursor && changes.left > 0 && !cli_interrupted());
    if (changes.table && code == CLI_OK) {
        table_print(changes.table);
    }
    table_destroy(changes.table);
    free(changes.cursor);
    return cli_interrupted() ? CLI_INTERRUPTED : code;
}
