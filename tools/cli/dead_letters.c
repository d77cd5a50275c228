/* Commands for dead letters: messages that sinks gave up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/buffer.h"
#include "node.h"
#include "table.h"

#define LIST_LIMIT 100 /* without --limit */
#define PAGE_LEN   100
#define EXTRA_MS   30000 /* that a replay may take, in addition to the timeout */

/* ---- paths ----------------------------------------------------------------------------------- */

static const struct {
    enum cli_option option;
    const char *parameter;
} cli_dead_letters_selectors[] = {{OPT_ENTRY, "entry"},   {OPT_SINK, "sink"},
                                  {OPT_CLIENT, "client"}, {OPT_TOPIC, "topic"},
                                  {OPT_SINCE, "since"},   {OPT_UNTIL, "until"}};

#define SELECTOR_COUNT (sizeof cli_dead_letters_selectors / sizeof cli_dead_letters_selectors[0])

static void cli_dead_letters_add(struct buffer *path, const char *name, const char *value) {
    char *escaped = cli_node_escape(value);
    bool first = !memchr(path->data, '?', path->len);
    buffer_printf(path, "%c%s=%s", first ? '?' : '&', name, escaped ? escaped : "");
    free(escaped);
}

/* "90s", "15m", "2h", "3d": before now. Other texts are passed on. */
static const char *cli_dead_letters_time(const char *text, char out[32]) {
    static const struct {
        char letter;
        long long ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    char *end;
    long long number = strtoll(text, &end, 10);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (end != text && number >= 0 && number < 100000000 && end[0] == units[i].letter &&
            end[1] == '\0') {
            long long now_ms = (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
            snprintf(out, 32, "%lld", now_ms - number * units[i].ms);
            return out;
        }
    }
    return text;
}

/* verb: "", ":replay" or ":drop". cursor: NULL for the first. The caller frees it. */
static char *cli_dead_letters_path(const struct cli *cli, const char *verb, bool dry_run, int limit,
                                   const char *cursor) {
    struct buffer path;
    buffer_init(&path);
    buffer_printf(&path, "/api/v1/dead-letters%s", verb);
    if (limit > 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", limit);
        cli_dead_letters_add(&path, "limit", number);
    }
    for (size_t i = 0; i < SELECTOR_COUNT; i++) {
        const char *value = cli->values[cli_dead_letters_selectors[i].option];
        char room[32];
        if (value) {
            cli_dead_letters_add(&path, cli_dead_letters_selectors[i].parameter,
                                 cli_dead_letters_time(value, room));
        }
    }
    if (*verb != '\0' && cli_option_given(cli, OPT_ALL)) {
        cli_dead_letters_add(&path, "all", "true");
    }
    if (dry_run) {
        cli_dead_letters_add(&path, "dry_run", "true");
    }
    if (cursor) {
        cli_dead_letters_add(&path, "cursor", cursor);
    }
    return buffer_take(&path);
}

/* One page. *cursor: of this page, then of the next; NULL: there is none. Owned. */
static enum cli_exit cli_dead_letters_call(struct cli *cli, const char *verb, bool dry_run,
                                           int limit, char **cursor, struct cli_answer *answer) {
    char *path = cli_dead_letters_path(cli, verb, dry_run, limit, *cursor);
    cli_node_call(cli, *verb ? "POST" : "GET", path ? path : "/", NULL, *verb ? EXTRA_MS : 0,
                  answer);
    free(path);
    free(*cursor);
    *cursor = NULL;
    if (!cli_answer_succeeded(answer)) {
        return cli_answer_explain(answer, NULL);
    }
    const char *next = cli_json_text(answer->json, "next_cursor");
    *cursor = next ? strdup(next) : NULL;
    return CLI_OK;
}

/* ---- list ------------------------------------------------------------------------------------ */

static void cli_dead_letters_put_row(struct table *table, const json_t *row) {
    static const char *const texts[] = {"entry", "sink", "client", "topic"};
    char ago[32];
    table_put(table, table_ago(cli_json_text(row, "rejected_at"), ago, sizeof ago));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        table_put(table, json_string_value(json_object_get(row, texts[i])));
    }
    table_printf(table, "%lld", cli_json_number(row, "size"));
    table_put(table, cli_json_text(row, "reason"));
}

static void cli_dead_letters_show_page(const struct cli *cli, struct table *table,
                                       const json_t *rows, json_t *all) {
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        if (cli->format == CLI_FORMAT_JSON) {
            json_array_append(all, row);
        } else if (cli->format == CLI_FORMAT_ID) {
            puts(cli_json_text(row, "entry"));
        } else {
            cli_dead_letters_put_row(table, row);
        }
    }
    if (cli->format == CLI_FORMAT_TABLE) {
        table_print(table);
    }
}

static enum cli_exit cli_dead_letters_list(struct cli *cli) {
    static const char *const headings[] = {"REJECTED", "ENTRY",  "SINK",   "CLIENT",
                                           "TOPIC",    ">BYTES", "REASON", NULL};
    struct table *table = table_create(headings);
    json_t *all = json_array();
    const char *limit = cli->values[OPT_LIMIT];
    long long left = limit ? strtoll(limit, NULL, 10) : LIST_LIMIT;
    long long total = 0;
    char *cursor = NULL;
    enum cli_exit code = CLI_OK;
    do { /* bounded by the limit */
        struct cli_answer answer;
        code = cli_dead_letters_call(cli, "", false, left < PAGE_LEN ? (int)left : PAGE_LEN,
                                     &cursor, &answer);
        const json_t *rows = json_object_get(answer.json, "dead_letters");
        cli_dead_letters_show_page(cli, table, code == CLI_OK ? rows : NULL, all);
        left -= (long long)json_array_size(rows);
        total = cli_json_number(answer.json, "total");
        cli_answer_fini(&answer);
    } while (code == CLI_OK && cursor && left > 0 && !cli_interrupted());
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        json_t *document = json_pack("{s:O, s:I}", "dead_letters", all, "total", (json_int_t)total);
        json_dumpf(document, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(document);
    } else if (code == CLI_OK && cli->format == CLI_FORMAT_TABLE && cursor && !limit) {
        fprintf(stderr, "there are more; --limit shows them\n");
    }
    free(cursor);
    json_decref(all);
    table_destroy(table);
    return code;
}

/* ---- replay and drop ------------------------------------------------------------------------- */

struct cli_dead_letters_work {
    long long matched, done, failed, total;
    bool stalled;
    json_t *failures;
};

static void cli_dead_letters_add_up(struct cli_dead_letters_work *work, const json_t *page,
                                    const char *done) {
    work->matched += cli_json_number(page, "matched");
    work->done += cli_json_number(page, done);
    work->failed += cli_json_number(page, "failed");
    work->total = cli_json_number(page, "total");
    work->stalled = json_is_true(json_object_get(page, "stalled"));
    json_array_extend(work->failures, json_object_get(page, "failures"));
}

static enum cli_exit cli_dead_letters_run(struct cli *cli, const char *verb, bool dry_run,
                                          struct cli_dead_letters_work *work) {
    bool replays = strcmp(verb, ":replay") == 0;
    char *cursor = NULL;
    enum cli_exit code;
    do { /* ends at what was there at the beginning */
        struct cli_answer answer;
        code = cli_dead_letters_call(cli, verb, dry_run, 0, &cursor, &answer);
        if (code == CLI_OK) {
            cli_dead_letters_add_up(work, answer.json, replays ? "replayed" : "dropped");
        }
        cli_answer_fini(&answer);
    } while (code == CLI_OK && cursor && !work->stalled && !cli_interrupted());
    free(cursor);
    return code;
}

static void cli_dead_letters_explain_failures(const json_t *failures) {
    size_t i;
    const json_t *failure;
    json_array_foreach(failures, i, failure) {
        cli_error("%s, sink %s: %s", cli_json_text(failure, "entry"),
                  cli_json_text(failure, "sink"), cli_json_text(failure, "detail"));
    }
}

static void cli_dead_letters_report(const struct cli *cli, const char *verb, bool dry_run,
                                    const struct cli_dead_letters_work *work) {
    const char *done = strcmp(verb, ":replay") == 0 ? "replayed" : "dropped";
    if (cli->format == CLI_FORMAT_JSON) {
        json_t *document =
            json_pack("{s:I, s:I, s:I, s:O, s:b, s:I}", "matched", (json_int_t)work->matched, done,
                      (json_int_t)work->done, "failed", (json_int_t)work->failed, "failures",
                      work->failures, "stalled", work->stalled, "total", (json_int_t)work->total);
        json_dumpf(document, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(document);
    } else if (dry_run) {
        printf("%lld match, of %lld\n", work->matched, work->total);
    } else {
        cli_dead_letters_explain_failures(work->failures);
        printf("%lld %s, %lld failed, %lld left\n", work->done, done, work->failed, work->total);
    }
    if (work->stalled) {
        cli_error("a sink has no room, or does not store the messages in time; try again later");
    }
}

static bool cli_dead_letters_confirm(struct cli *cli, const char *verb) {
    struct cli_dead_letters_work count = {.failures = json_array()};
    enum cli_exit code =
        cli_option_given(cli, OPT_YES) ? CLI_OK : cli_dead_letters_run(cli, verb, true, &count);
    json_decref(count.failures);
    return code == CLI_OK && cli_confirm(cli, "%s %lld dead letters?", verb + 1, count.matched);
}

static enum cli_exit cli_dead_letters_act(struct cli *cli, const char *verb) {
    bool dry_run = cli_option_given(cli, OPT_DRY_RUN);
    bool selects = cli_option_given(cli, OPT_ALL);
    for (size_t i = 0; i < SELECTOR_COUNT; i++) {
        selects = selects || cli_option_given(cli, cli_dead_letters_selectors[i].option);
    }
    if (!selects) {
        cli_error("dead-letters %s: select some with --entry, --sink, --client, --topic, --since "
                  "or --until, or --all",
                  verb + 1);
        return CLI_USAGE;
    }
    if (!dry_run && !cli_dead_letters_confirm(cli, verb)) {
        return CLI_USAGE;
    }
    struct cli_dead_letters_work work = {.failures = json_array()};
    enum cli_exit code = cli_dead_letters_run(cli, verb, dry_run, &work);
    if (code == CLI_OK) {
        cli_dead_letters_report(cli, verb, dry_run, &work);
        code = work.stalled || work.failed > 0 ? CLI_FAILED : CLI_OK;
    }
    json_decref(work.failures);
    return code;
}

enum cli_exit command_dead_letters(struct cli *cli) {
    const char *action = cli->word_count > 0 ? cli->words[0] : "list";
    if (strcmp(action, "list") == 0) {
        return cli_dead_letters_list(cli);
    }
    if (strcmp(action, "replay") == 0) {
        return cli_dead_letters_act(cli, ":replay");
    }
    if (strcmp(action, "drop") == 0) {
        return cli_dead_letters_act(cli, ":drop");
    }
    cli_error("dead-letters %s: must be list, replay or drop", action);
    return CLI_USAGE;
}
