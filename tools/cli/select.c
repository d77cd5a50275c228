/* Builds the list of clients for a command. */
#include "select.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "node.h"

#define PAGE_LEN 500

static void cli_select_add_parameter(struct buffer *path, const char *prefix, const char *name,
                                     size_t name_len, const char *value) {
    char *key = strndup(name, name_len);
    char *escaped_key = key ? cli_node_escape(key) : NULL;
    char *escaped = cli_node_escape(value);
    buffer_printf(path, "&%s%s=%s", prefix, escaped_key ? escaped_key : "", escaped ? escaped : "");
    free(key);
    free(escaped_key);
    free(escaped);
}

void cli_select_append_filters(const struct cli *cli, struct buffer *path) {
    if (cli_option_given(cli, OPT_STATE)) {
        cli_select_add_parameter(path, "", "state", 5, cli->values[OPT_STATE]);
    }
    if (cli_option_given(cli, OPT_DEGRADED)) {
        cli_select_add_parameter(path, "", "degraded", 8, "true");
    }
    if (cli_option_given(cli, OPT_NODE)) {
        cli_select_add_parameter(path, "", "node", 4, cli->values[OPT_NODE]);
    }
    for (size_t i = 0; cli->labels[i]; i++) {
        const char *equals = strchr(cli->labels[i], '=');
        cli_select_add_parameter(path, "label.", cli->labels[i], (size_t)(equals - cli->labels[i]),
                                 equals + 1);
    }
}

static char *cli_select_page_path(const struct cli *cli, const char *cursor) {
    struct buffer path;
    buffer_init(&path);
    buffer_printf(&path, "/api/v1/clients?limit=%d", PAGE_LEN);
    cli_select_append_filters(cli, &path);
    if (cursor) {
        cli_select_add_parameter(&path, "", "cursor", 6, cursor);
    }
    return buffer_take(&path);
}

/* Removes clients that an earlier page contained. */
static void cli_select_remove_seen(json_t *seen, json_t *clients) {
    for (size_t i = json_array_size(clients); i > 0; i--) {
        const char *id = json_string_value(json_object_get(json_array_get(clients, i - 1), "id"));
        if (id && json_object_get(seen, id)) {
            json_array_remove(clients, i - 1);
        } else if (id) {
            json_object_set_new(seen, id, json_true());
        }
    }
}

/* Nothing was found: checks whether the node exists. */
static enum cli_exit cli_select_check_node_exists(struct cli *cli, const char *node) {
    struct cli_answer answer;
    char *path = cli_node_path("nodes", node, "");
    cli_node_call(cli, "GET", path ? path : "/", NULL, 0, &answer);
    enum cli_exit code = cli_answer_succeeded(&answer) ? CLI_OK : cli_answer_explain(&answer, node);
    cli_answer_fini(&answer);
    free(path);
    return code;
}

enum cli_exit cli_select_clients(struct cli *cli, cli_select_page *take, void *context) {
    char *cursor = NULL;
    json_t *seen = json_object();
    enum cli_exit code = CLI_OK;
    for (bool more = true; more && !cli_interrupted();) {
        struct cli_answer answer;
        char *path = cli_select_page_path(cli, cursor);
        free(cursor);
        cursor = NULL;
        cli_node_call(cli, "GET", path ? path : "/", NULL, 0, &answer);
        free(path);
        if (!cli_answer_succeeded(&answer)) {
            code = cli_answer_explain(&answer, NULL);
            more = false;
        } else {
            const char *next = json_string_value(json_object_get(answer.json, "next_cursor"));
            json_t *clients = json_object_get(answer.json, "clients");
            cli_select_remove_seen(seen, clients);
            more = take(context, clients) && next;
            cursor = more ? strdup(next) : NULL;
        }
        cli_answer_fini(&answer);
    }
    if (code == CLI_OK && json_object_size(seen) == 0 && cli_option_given(cli, OPT_NODE) &&
        !cli_interrupted()) {
        code = cli_select_check_node_exists(cli, cli->values[OPT_NODE]);
    }
    json_decref(seen);
    free(cursor);
    return code;
}

/* ---- ids ------------------------------------------------------------------------------------- */

static bool cli_select_add_page_ids(void *context, json_t *clients) {
    size_t i;
    json_t *client;
    json_array_foreach(clients, i, client) {
        json_array_append(context, json_object_get(client, "id"));
    }
    return true;
}

static bool cli_select_add_id(json_t *ids, const char *id) {
    if (json_array_append_new(ids, json_string(id)) != 0) {
        cli_error("an id must be UTF-8");
        return false;
    }
    return true;
}

static bool cli_select_read_ids(json_t *ids) {
    char line[4096];
    bool good = true;
    while (good && fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\r\n")] = '\0';
        good = line[0] == '\0' || cli_select_add_id(ids, line);
    }
    return good;
}

json_t *cli_select_ids(struct cli *cli, enum cli_exit *code) {
    bool filtered = cli_option_given(cli, OPT_STATE) || cli_option_given(cli, OPT_DEGRADED) ||
                    cli_option_given(cli, OPT_NODE) || cli->labels[0];
    json_t *ids = json_array();
    *code = CLI_OK;
    if (filtered == (cli->word_count > 0)) {
        cli_error(
            "%s: name ids (- reads them from standard input), or filters: --state, --degraded, "
            "--node, --label",
            cli->command->name);
        *code = CLI_USAGE;
    } else if (filtered) {
        *code = cli_select_clients(cli, cli_select_add_page_ids, ids);
    } else {
        bool good = true;
        for (int i = 0; good && i < cli->word_count; i++) {
            bool input = strcmp(cli->words[i], "-") == 0;
            good = input ? cli_select_read_ids(ids) : cli_select_add_id(ids, cli->words[i]);
        }
        *code = good ? CLI_OK : CLI_USAGE;
    }
    if (*code == CLI_OK && json_array_size(ids) > 1 && (filtered || json_array_size(ids) > 10) &&
        !cli_confirm(cli, "%s %zu clients?", cli->command->name, json_array_size(ids))) {
        *code = CLI_USAGE;
    }
    if (*code != CLI_OK) {
        json_decref(ids);
        return NULL;
    }
    return ids;
}
