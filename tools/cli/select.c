/* Builds the list of clients for a command. */
#include "select.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "node.h"

#define PAGE_LEN        500
#define UNCONFIRMED_MAX 10 /* ids that no one asks about */

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

/* The options that are keys of a selector, besides --label. */
static const struct {
    enum cli_option option;
    const char *key;
} cli_select_keys[] = {
    {OPT_STATE, "state"},   {OPT_ERROR, "error"},         {OPT_BROKER, "broker"},
    {OPT_NODE, "node"},     {OPT_ID_PREFIX, "id_prefix"}, {OPT_PROFILE, "profile"},
    {OPT_SILENT, "silent"}, {OPT_DEGRADED, "degraded"},
};
#define KEY_COUNT (sizeof cli_select_keys / sizeof cli_select_keys[0])

static bool cli_select_has_filters(const struct cli *cli) {
    bool has = cli->labels[0] != NULL;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        has = has || cli_option_given(cli, cli_select_keys[i].option);
    }
    return has;
}

enum cli_exit cli_select_check(const struct cli *cli) {
    const char *query = cli->values[OPT_SELECTOR];
    if (query && cli_select_has_filters(cli)) {
        cli_error("%s: --selector stands alone, without other filters", cli->command->name);
        return CLI_USAGE;
    }
    if (query && query[strspn(query, "& ")] == '\0') {
        cli_error("--selector: is empty; such as label.site=north or id_prefix=pump-");
        return CLI_INVALID;
    }
    return CLI_OK;
}

/* It is a query already; only illegal characters are escaped. */
static void cli_select_append_selector(const struct cli *cli, struct buffer *path) {
    const char *query = cli->values[OPT_SELECTOR];
    for (const char *at = query ? query : ""; *at != '\0'; at++) {
        bool is_legal = *at > ' ' && *at <= '~' && *at != '#';
        buffer_printf(path, is_legal ? "%c" : "%%%02X", (unsigned char)*at);
    }
}

void cli_select_append_filters(const struct cli *cli, struct buffer *path) {
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const char *value = cli->values[cli_select_keys[i].option];
        const char *key = cli_select_keys[i].key;
        bool is_flag = !cli_option_rows[cli_select_keys[i].option].argument;
        if (value) {
            cli_select_add_parameter(path, "", key, strlen(key), is_flag ? "true" : value);
        }
    }
    for (size_t i = 0; cli->labels[i]; i++) {
        const char *equals = strchr(cli->labels[i], '=');
        cli_select_add_parameter(path, "label.", cli->labels[i], (size_t)(equals - cli->labels[i]),
                                 equals + 1);
    }
    if (cli_option_given(cli, OPT_SELECTOR)) {
        buffer_append_str(path, "&");
        cli_select_append_selector(cli, path);
    }
}

bool cli_select_is_given(const struct cli *cli) {
    return cli_option_given(cli, OPT_SELECTOR) || cli_select_has_filters(cli);
}

bool cli_select_report_incomplete(const json_t *answer) {
    const json_t *incomplete = json_object_get(answer, "incomplete"), *node;
    size_t i;
    json_array_foreach(incomplete, i, node) {
        cli_error("without the clients of node %s: %s", cli_json_text(node, "node"),
                  cli_json_text(node, "reason"));
    }
    return json_array_size(incomplete) > 0;
}

static char *cli_select_page_path(const struct cli *cli, const char *cursor) {
    struct buffer path;
    buffer_init(&path);
    buffer_printf(&path, "/api/v1/clients?limit=%d", PAGE_LEN);
    cli_select_append_filters(cli, &path);
    if (cli_option_given(cli, OPT_SORT)) {
        cli_select_add_parameter(&path, "", "sort", 4, cli->values[OPT_SORT]);
    }
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

enum cli_exit cli_select_clients(struct cli *cli, cli_select_page *take, void *context) {
    char *cursor = NULL;
    json_t *seen = json_object();
    enum cli_exit code = CLI_OK;
    bool incomplete = false;
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
            const char *next = cli_json_text(answer.json, "next_cursor");
            json_t *clients = json_object_get(answer.json, "clients");
            cli_select_remove_seen(seen, clients);
            incomplete = incomplete || cli_select_report_incomplete(answer.json);
            more = take(context, clients) && next;
            cursor = more ? strdup(next) : NULL;
        }
        cli_answer_fini(&answer);
    }
    json_decref(seen);
    free(cursor);
    return code == CLI_OK && incomplete ? CLI_FAILED : code;
}

/* ---- ids ------------------------------------------------------------------------------------- */

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
    json_t *ids = json_array();
    bool good = true;
    for (int i = 0; good && i < cli->word_count; i++) {
        bool input = strcmp(cli->words[i], "-") == 0;
        good = input ? cli_select_read_ids(ids) : cli_select_add_id(ids, cli->words[i]);
    }
    bool many = json_array_size(ids) > UNCONFIRMED_MAX;
    if (!good ||
        (many && !cli_confirm(cli, "%s %zu clients?", cli->command->name, json_array_size(ids)))) {
        json_decref(ids);
        ids = NULL;
    }
    *code = ids ? CLI_OK : CLI_USAGE;
    return ids;
}
