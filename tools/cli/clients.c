/* Commands that list clients, show one, and change many. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "node.h"
#include "operations.h"
#include "progress.h"
#include "select.h"
#include "table.h"

/* ---- clients --------------------------------------------------------------------------------- */

struct listing {
    struct cli *cli;
    struct table *table;
    long remaining; /* -1: all */
};

/* "mqtt://host:port", from any form of the configuration; of several, or if the profile has it, the
 * current broker. */
static const char *cli_clients_broker_url(const json_t *client, char *out, size_t size) {
    const json_t *config = json_object_get(client, "config");
    const char *url = cli_json_text(config, "url"), *broker = cli_json_text(config, "broker");
    const char *at = cli_json_text(json_object_get(client, "status"), "broker");
    const json_t *urls = json_object_get(config, "urls");
    if (json_array_size(urls) > 0) {
        return at ? at : json_string_value(json_array_get(urls, 0));
    }
    if (url || !broker) {
        return url ? url : at;
    }
    if (!json_object_get(config, "port")) {
        return at ? at : broker;
    }
    snprintf(out, size, "%s:%lld", broker, cli_json_number(config, "port"));
    return out;
}

/* Why it has no node, and its last error; "": neither. */
static const char *cli_clients_explain(const json_t *status, char *out, size_t size) {
    char waiting[256];
    const char *why = cli_answer_waiting(status, waiting, sizeof(waiting));
    const char *error = cli_json_text(json_object_get(status, "last_error"), "message");
    snprintf(out, size, "%s%s%s", why ? why : "", why && error ? "; " : "", error ? error : "");
    return out;
}

static void cli_clients_put_row(struct table *table, const json_t *client) {
    const json_t *status = json_object_get(client, "status");
    const char *state = cli_json_text(status, "state");
    bool well = state && strcmp(state, "online") == 0 &&
                !json_is_true(json_object_get(status, "degraded")) &&
                !json_is_true(json_object_get(status, "silent"));
    char ago[32], broker[300], why[512];
    table_put(table, cli_json_text(client, "id"));
    table_put(table, state);
    table_put(table, table_ago(cli_json_text(status, "since"), ago, sizeof(ago)));
    table_put(table, cli_json_text(json_object_get(client, "placement"), "node"));
    table_printf(table, "%lld", cli_json_number(status, "messages_in"));
    table_printf(table, "%lld", cli_json_number(status, "messages_out"));
    table_put(table, cli_clients_broker_url(client, broker, sizeof(broker)));
    table_put(table, well ? "" : cli_clients_explain(status, why, sizeof(why)));
}

static void cli_clients_print_json(const json_t *value) {
    char *line = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    puts(line ? line : "null");
    free(line);
}

static bool cli_clients_show_page(void *context, json_t *clients) {
    struct listing *listing = context;
    size_t i;
    json_t *client;
    json_array_foreach(clients, i, client) {
        if (listing->remaining == 0) {
            break;
        }
        listing->remaining -= listing->remaining > 0;
        if (listing->cli->format == CLI_FORMAT_JSON) {
            cli_clients_print_json(client);
        } else if (listing->cli->format == CLI_FORMAT_ID) {
            puts(cli_json_text(client, "id") ? cli_json_text(client, "id") : "");
        } else {
            cli_clients_put_row(listing->table, client);
        }
    }
    if (listing->table) {
        table_print(listing->table);
    }
    return listing->remaining != 0 && fflush(stdout) == 0;
}

static enum cli_exit cli_clients_count(struct cli *cli) {
    struct cli_answer answer;
    struct buffer path;
    buffer_init(&path);
    buffer_printf(&path, "/api/v1/clients?limit=1&count=true");
    cli_select_append_filters(cli, &path);
    char *whole = buffer_take(&path);
    cli_node_call(cli, "GET", whole ? whole : "/", NULL, 0, &answer);
    free(whole);
    enum cli_exit code = cli_answer_check(&answer, NULL);
    const json_t *count = json_object_get(answer.json, "count");
    if (code == CLI_OK && json_is_integer(count)) {
        printf("%lld\n", (long long)json_integer_value(count));
        code = cli_select_report_incomplete(answer.json) ? CLI_FAILED : CLI_OK;
    } else if (code == CLI_OK) {
        cli_error("a node of an earlier version is in the fleet and cannot count");
        code = CLI_FAILED;
    }
    cli_answer_fini(&answer);
    return code;
}

enum cli_exit command_clients(struct cli *cli) {
    static const char *const headings[] = {"ID",   "STATE",  "SINCE", "NODE", ">IN",
                                           ">OUT", "BROKER", "WHY",   NULL};
    const char *limit = cli->values[OPT_LIMIT];
    enum cli_exit code = cli_select_check(cli);
    if (code != CLI_OK || cli_option_given(cli, OPT_COUNT)) {
        return code != CLI_OK ? code : cli_clients_count(cli);
    }
    struct listing listing = {.cli = cli, .remaining = limit ? strtol(limit, NULL, 10) : -1};
    if (cli->format == CLI_FORMAT_TABLE) {
        listing.table = table_create(headings);
    }
    code = cli_select_clients(cli, cli_clients_show_page, &listing);
    table_destroy(listing.table);
    return code;
}

/* ---- get ------------------------------------------------------------------------------------- */

static void cli_clients_show_line(const char *name, const char *value) {
    char safe[1024];
    if (value) {
        printf("%-14s %s%s%s\n", name, table_colour(value),
               table_printable(value, safe, sizeof(safe)),
               table_colour(value)[0] != '\0' ? TABLE_PLAIN : "");
    }
}

static void cli_clients_show_time(const char *name, const json_t *object, const char *member) {
    char ago[32], line[96];
    const char *time = cli_json_text(object, member);
    if (time) {
        snprintf(line, sizeof(line), "%s (%s)", time, table_ago(time, ago, sizeof(ago)));
        cli_clients_show_line(name, line);
    }
}

/* Prints why the client has no node; NULL: it has one. */
static const char *cli_clients_refusal_message(const json_t *refused, const char *filter) {
    size_t i;
    const json_t *one;
    json_array_foreach(refused, i, one) {
        const char *name = cli_json_text(one, "filter");
        if (name && filter && strcmp(name, filter) == 0) {
            return cli_json_text(one, "message");
        }
    }
    return NULL;
}

static void cli_clients_show_subscriptions(const json_t *status) {
    size_t i;
    const json_t *one;
    char line[512];
    const json_t *refused = json_object_get(status, "refused_filters");
    json_array_foreach(json_object_get(status, "subscriptions"), i, one) {
        const json_t *granted = json_object_get(one, "granted");
        long long value = (long long)json_integer_value(granted);
        snprintf(line, sizeof(line), "%s  QoS %lld, %s", cli_json_text(one, "filter"),
                 cli_json_number(one, "qos"),
                 cli_clients_refusal_message(refused, cli_json_text(one, "filter")) ? "refused"
                 : json_is_null(granted) ? "not acknowledged yet"
                 : value >= 0x80         ? "refused"
                                         : "granted");
        cli_clients_show_line(i == 0 ? "subscriptions" : "", line);
    }
}

static void cli_clients_show_held_by(const json_t *status) {
    size_t i;
    const json_t *one;
    char line[512];
    json_array_foreach(json_object_get(status, "held_by"), i, one) {
        const char *error = cli_json_text(one, "last_error");
        snprintf(line, sizeof(line), "sink %s is %s%s%s", cli_json_text(one, "sink"),
                 cli_json_text(one, "reason"), error ? ": " : "", error ? error : "");
        cli_clients_show_line(i == 0 ? "held by" : "", line);
        cli_clients_show_time("", one, "since");
    }
}

/* Line by line, because the contents may come from anyone. */
static void cli_clients_show_config(const json_t *config) {
    char *dumped = json_dumps(config, JSON_INDENT(2) | JSON_ENCODE_ANY), *rest = dumped;
    char *safe = dumped ? malloc(strlen(dumped) + 1) : NULL;
    const char *name = "config         ";
    for (char *line = safe ? strsep(&rest, "\n") : NULL; line; line = strsep(&rest, "\n")) {
        printf("%s%s\n", name, table_printable(line, safe, strlen(line) + 1));
        name = "";
    }
    free(safe);
    free(dumped);
}

static void cli_clients_show_client(const json_t *client) {
    const json_t *status = json_object_get(client, "status");
    const json_t *error = json_object_get(status, "last_error");
    char line[1200];
    cli_clients_show_line("id", cli_json_text(client, "id"));
    cli_clients_show_line("state", cli_json_text(status, "state"));
    cli_clients_show_line("reason", cli_json_text(status, "reason"));
    cli_clients_show_line("waiting", cli_answer_waiting(status, line, sizeof(line)));
    cli_clients_show_time("since", status, "since");
    cli_clients_show_line("node", cli_json_text(json_object_get(client, "placement"), "node"));
    cli_clients_show_line("broker", cli_json_text(status, "broker"));
    cli_clients_show_line("desired", cli_json_text(client, "desired"));
    snprintf(line, sizeof(line), "%lld", cli_json_number(client, "version"));
    cli_clients_show_line("version", line);
    cli_clients_show_time("connected", status, "connected_at");
    cli_clients_show_time("next retry", status, "next_retry_at");
    cli_clients_show_time("certificate", status, "certificate_expires_at");
    if (json_is_object(error)) {
        snprintf(line, sizeof(line), "%s: %s", cli_json_text(error, "code"),
                 cli_json_text(error, "message"));
        cli_clients_show_line("last error", line);
        cli_clients_show_line("advice", cli_json_text(error, "advice"));
        cli_clients_show_time("", error, "at");
    }
    snprintf(line, sizeof(line), "%lld in, %lld out, %lld dropped, %lld reconnects",
             cli_json_number(status, "messages_in"), cli_json_number(status, "messages_out"),
             cli_json_number(status, "messages_dropped"), cli_json_number(status, "reconnects"));
    cli_clients_show_line("messages", line);
    if (json_is_true(json_object_get(status, "limited"))) {
        cli_clients_show_line("limits", "exceeded: messages wait, or are dropped (QoS 0)");
    }
    cli_clients_show_held_by(status);
    cli_clients_show_subscriptions(status);
    cli_clients_show_config(json_object_get(client, "config"));
}

enum cli_exit command_get(struct cli *cli) {
    struct cli_answer answer;
    char *path = cli_node_path("clients", cli->words[0], "");
    cli_node_call(cli, "GET", path, NULL, 0, &answer);
    free(path);
    enum cli_exit code = cli_answer_check(&answer, NULL);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK && cli->format == CLI_FORMAT_ID) {
        puts(cli_json_text(answer.json, "id") ? cli_json_text(answer.json, "id") : "");
    } else if (code == CLI_OK) {
        cli_clients_show_client(answer.json);
    }
    cli_answer_fini(&answer);
    return code;
}

/* ---- delete pause resume restart release patch ------------------------------------------------
 */

/* The method for one client; NULL: POST, with the name of the command at the end of the path. */
static const char *cli_clients_method(const struct cli *cli) {
    return strcmp(cli->command->name, "delete") == 0  ? "DELETE"
           : strcmp(cli->command->name, "patch") == 0 ? "PATCH"
                                                      : NULL;
}

/* patch: the body; NULL: none. */
static enum cli_exit cli_clients_act_on_client(struct cli *cli, const char *id, json_t *patch) {
    struct cli_answer answer;
    const char *method = cli_clients_method(cli);
    char *path = cli_node_path("clients", id, method ? "" : cli->command->name);
    cli_node_call(cli, method ? method : "POST", path, json_incref(patch), 0, &answer);
    free(path);
    enum cli_exit code = CLI_OK;
    if (!cli_answer_succeeded(&answer)) {
        cli_progress_clear();
        code = cli_answer_explain(&answer, id);
    } else if (cli->format == CLI_FORMAT_JSON && answer.text_len > 0) {
        cli_answer_print(&answer);
    } else if (cli->format == CLI_FORMAT_ID) {
        puts(id);
    }
    cli_answer_fini(&answer);
    return code;
}

/* The patch in --file, for that command alone. False: *code is the exit code. */
static bool cli_clients_read_patch(struct cli *cli, json_t **patch, enum cli_exit *code) {
    *patch = NULL;
    if (strcmp(cli->command->name, "patch") == 0) {
        *patch = cli_read_object(cli, "a JSON merge patch", code);
        return *patch != NULL;
    }
    return true;
}

static enum cli_exit cli_clients_act_on_each(struct cli *cli, json_t *patch) {
    enum cli_exit code;
    size_t i, done = 0, failed = 0;
    const json_t *id;
    json_t *ids = cli_select_ids(cli, &code);
    size_t total = json_array_size(ids);
    enum cli_exit last = CLI_OK;
    json_array_foreach(ids, i, id) {
        if (cli_interrupted() || last == CLI_UNREACHABLE || last == CLI_REFUSED) {
            break; /* the remaining requests would fail as well */
        }
        last = cli_clients_act_on_client(cli, json_string_value(id), patch);
        failed += last != CLI_OK;
        done++;
        code = last != CLI_OK ? last : code;
        cli_progress_show(cli->command->name, done, total);
    }
    cli_progress_clear();
    if (ids && total != 1 && cli->format == CLI_FORMAT_TABLE) {
        fprintf(stderr, "%s: %zu done, %zu failed%s\n", cli->command->name, done - failed, failed,
                done < total ? ", the others were not tried" : "");
    }
    json_decref(ids);
    return total > 1 && code != CLI_OK && failed < done ? CLI_FAILED : code;
}

enum cli_exit command_act(struct cli *cli) {
    enum cli_exit code = CLI_USAGE;
    json_t *patch;
    bool selected = cli_select_is_given(cli);
    if (selected == (cli->word_count > 0)) {
        cli_error(
            "%s: name ids (- reads them from standard input), or filters: --selector, --state, "
            "--error, --broker, --node, --label, --id-prefix, --profile, --silent, --degraded",
            cli->command->name);
        return CLI_USAGE;
    }
    if (!selected && (cli_option_given(cli, OPT_RATE) || cli_option_given(cli, OPT_DRY_RUN))) {
        cli_error("%s: --rate and --dry-run need filters, and stand without ids",
                  cli->command->name);
        return CLI_USAGE;
    }
    if ((code = cli_select_check(cli)) != CLI_OK || !cli_clients_read_patch(cli, &patch, &code)) {
        return code;
    }
    code = selected ? cli_operations_run(cli, patch) : cli_clients_act_on_each(cli, patch);
    json_decref(patch);
    return code;
}
