/* Commands that show past and new events and messages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/text.h"
#include "node.h"
#include "table.h"

struct stream {
    struct cli *cli;
    long remaining; /* -1: no limit */
    bool cut;       /* a payload was truncated, although all of it was requested */
};

static struct stream cli_streams_init(struct cli *cli) {
    const char *limit = cli->values[OPT_LIMIT];
    return (struct stream){cli, limit ? strtol(limit, NULL, 10) : -1, false};
}

/* False: stop. */
static bool cli_streams_count_down(struct stream *stream) {
    stream->remaining -= stream->remaining > 0;
    return fflush(stdout) == 0 && stream->remaining != 0;
}

static void cli_streams_print_json(const json_t *data) {
    json_dumpf(data, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
    putchar('\n');
}

static void cli_streams_report_dropped(const json_t *data) {
    const json_t *count = json_object_get(data, "count");
    if (json_is_integer(count)) {
        fprintf(stderr, "mqfleet: %lld were skipped because they arrived too fast\n",
                (long long)json_integer_value(count));
    } else {
        fputs("mqfleet: some were skipped\n", stderr);
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

static void cli_streams_print_notice(const json_t *data) {
    char id[256], message[600];
    printf("%s  notice  %s  %s  %s\n", cli_json_text_or_empty(data, "at"),
           table_printable(cli_json_text_or_empty(data, "id"), id, sizeof(id)),
           cli_json_text_or_empty(data, "code"),
           table_printable(cli_json_text_or_empty(data, "message"), message, sizeof(message)));
}

static void cli_streams_print_incident(const json_t *data) {
    char broker[300], message[600], where[80];
    size_t nodes = json_array_size(json_object_get(data, "nodes"));
    table_printable(cli_json_text_or_empty(data, "node"), where, sizeof(where));
    if (nodes > 1) {
        snprintf(where, sizeof(where), "%zu nodes", nodes);
    }
    printf("%s  incident  %s  %s on %s  %s  %lld clients\n", cli_json_text_or_empty(data, "at"),
           table_printable(cli_json_text_or_empty(data, "broker"), broker, sizeof(broker)),
           cli_json_text_or_empty(data, "state"), where,
           table_printable(cli_json_text_or_empty(data, "message"), message, sizeof(message)),
           (long long)json_integer_value(json_object_get(data, "clients")));
}

static void cli_streams_print_event(const json_t *data) {
    char what[256], reason[400], safe[64];
    const char *kind = cli_json_text_or_empty(data, "kind"),
               *state = cli_json_text_or_empty(data, "state");
    const char *name = cli_json_text_or_empty(data, strcmp(kind, "client") == 0 ? "id" : "name");
    const char *from = table_printable(cli_json_text_or_empty(data, "from"), safe, sizeof(safe));
    printf("%s  %-6s  %s  %s%s%s%s%s  %s\n", cli_json_text_or_empty(data, "at"), kind,
           table_printable(name[0] != '\0' ? name : "-", what, sizeof(what)), from,
           from[0] != '\0' ? " -> " : "", table_colour(state), state,
           table_colour(state)[0] != '\0' ? TABLE_PLAIN : "",
           table_printable(cli_json_text_or_empty(data, "reason"), reason, sizeof(reason)));
}

static bool cli_streams_on_event(void *context, const char *event, json_t *data) {
    struct stream *stream = context;
    if (strcmp(event, "dropped") == 0) {
        cli_streams_report_dropped(data);
        return true;
    }
    if (strcmp(event, "gap") == 0) {
        fprintf(stderr, "mqfleet: changes after %s are no longer kept\n",
                cli_json_text_or_empty(data, "after"));
        return true;
    }
    if (stream->cli->format == CLI_FORMAT_JSON) {
        cli_streams_print_json(data);
    } else if (strcmp(event, "notice") == 0) {
        cli_streams_print_notice(data);
    } else if (strcmp(event, "incident") == 0) {
        cli_streams_print_incident(data);
    } else {
        cli_streams_print_event(data);
    }
    return cli_streams_count_down(stream);
}

static enum cli_exit cli_streams_follow_events(struct cli *cli) {
    static const struct {
        enum cli_option option;
        const char *name;
    } filters[] = {{OPT_KIND, "kind"}, {OPT_STATE, "state"}, {OPT_CLIENT, "client"}};
    struct stream stream = cli_streams_init(cli);
    struct buffer path;
    buffer_init(&path);
    buffer_append_str(&path, "/api/v1/events");
    if (cli->word_count > 0) {
        cli->values[OPT_CLIENT] = cli->words[0];
    }
    if (cli->values[OPT_AFTER]) {
        snprintf(cli->last_event_id, sizeof(cli->last_event_id), "%s", cli->values[OPT_AFTER]);
    }
    for (size_t i = 0, n = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        const char *value = cli->values[filters[i].option];
        char *escaped = value ? cli_node_escape(value) : NULL;
        if (escaped) {
            buffer_printf(&path, "%s%s=%s", n++ == 0 ? "?" : "&", filters[i].name, escaped);
        }
        free(escaped);
    }
    enum cli_exit code =
        path.failed ? CLI_FAILED : cli_node_follow(cli, path.data, cli_streams_on_event, &stream);
    buffer_fini(&path);
    return code;
}

static enum cli_exit cli_streams_last_changes(struct cli *cli) {
    static const char *const headings[] = {"AT", "FROM", "TO", "REASON", "NODE", NULL};
    struct cli_answer answer;
    char *path = cli_node_path("clients", cli->words[0], "events");
    cli_node_call(cli, "GET", path, NULL, 0, &answer);
    free(path);
    enum cli_exit code = cli_answer_check(&answer, cli->words[0]);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        struct table *table = table_create(headings);
        size_t i;
        const json_t *change;
        json_array_foreach(json_object_get(answer.json, "events"), i, change) {
            table_put(table, cli_json_text_or_empty(change, "at"));
            table_put(table, cli_json_text_or_empty(change, "from"));
            table_put(table, cli_json_text_or_empty(change, "to"));
            table_put(table, cli_json_text_or_empty(change, "reason"));
            table_put(table, cli_json_text_or_empty(change, "node"));
        }
        table_print(table);
        table_destroy(table);
    }
    cli_answer_fini(&answer);
    return code;
}

enum cli_exit command_events(struct cli *cli) {
    static const enum cli_option of_following[] = {OPT_LIMIT, OPT_STATE, OPT_KIND, OPT_CLIENT,
                                                   OPT_AFTER};
    if (cli_option_given(cli, OPT_FOLLOW) || cli->word_count == 0) {
        return cli_streams_follow_events(cli);
    }
    for (size_t i = 0; i < sizeof(of_following) / sizeof(of_following[0]); i++) {
        if (cli_option_given(cli, of_following[i])) {
            cli_error("events %s: --%s requires --follow", cli->words[0],
                      cli_option_rows[of_following[i]].name);
            return CLI_USAGE;
        }
    }
    return cli_streams_last_changes(cli);
}

/* ---- tail ------------------------------------------------------------------------------------ */

/* The payload, decoded; free(). */
static char *cli_streams_decode_payload(const json_t *data, size_t *len) {
    const json_t *plain = json_object_get(data, "payload");
    const char *encoded = cli_json_text_or_empty(data, "payload_base64");
    uint8_t *decoded = NULL;
    if (json_is_string(plain)) {
        *len = json_string_length(plain);
        return text_copy(json_string_value(plain), *len);
    }
    *len = 0;
    return text_base64_decode(encoded, strlen(encoded), &decoded, len) == ERR_OK ? (char *)decoded
                                                                                 : NULL;
}

static void cli_streams_print_payload(const char *payload, size_t len) {
    bool shown = text_is_utf8(payload, len) && !memchr(payload, '\0', len);
    for (size_t i = 0; shown && i < len; i++) {
        shown = (unsigned char)payload[i] >= 0x20 || payload[i] == '\n' || payload[i] == '\t';
    }
    if (shown) {
        char *copy = text_copy(payload, len), *safe = malloc(len + 1);
        if (copy && safe) {
            for (char *at = copy; *at != '\0'; at++) {
                *at = *at == '\n' || *at == '\t' ? ' ' : *at;
            }
            fputs(table_printable(copy, safe, len + 1), stdout);
        }
        free(copy);
        free(safe);
        return;
    }
    fputs("0x", stdout);
    for (size_t i = 0; i < len && i < 64; i++) {
        printf("%02x", (unsigned)(unsigned char)payload[i]);
    }
    printf("%s", len > 64 ? "..." : "");
}

static void cli_streams_print_message(const struct cli *cli, const json_t *data) {
    size_t len = 0;
    char *payload = cli_streams_decode_payload(data, &len), topic[600];
    if (payload && cli_option_given(cli, OPT_RAW)) {
        fwrite(payload, 1, len, stdout);
        putchar('\n');
    } else if (payload) {
        printf("%s  %s%s%s  q%lld%s  ", cli_json_text_or_empty(data, "received_at"), TABLE_BOLD,
               table_printable(cli_json_text_or_empty(data, "topic"), topic, sizeof(topic)),
               TABLE_PLAIN, cli_json_number(data, "qos"),
               json_is_true(json_object_get(data, "retain")) ? " retained" : "");
        cli_streams_print_payload(payload, len);
        if (json_is_true(json_object_get(data, "truncated"))) {
            printf(" ... (%lld bytes)", cli_json_number(data, "size"));
        }
        putchar('\n');
    }
    free(payload);
}

static bool cli_streams_on_message(void *context, const char *event, json_t *data) {
    struct stream *stream = context;
    if (strcmp(event, "dropped") == 0) {
        cli_streams_report_dropped(data);
        return true;
    }
    if (strcmp(event, "message") != 0) {
        return true;
    }
    if (stream->cli->format == CLI_FORMAT_JSON) {
        cli_streams_print_json(data);
    } else {
        cli_streams_print_message(stream->cli, data);
    }
    if (cli_option_given(stream->cli, OPT_RAW) &&
        json_is_true(json_object_get(data, "truncated"))) {
        fprintf(stderr, "mqfleet: a payload of %lld bytes was truncated by the node\n",
                cli_json_number(data, "size"));
        stream->cut = true;
    }
    return cli_streams_count_down(stream);
}

enum cli_exit command_tail(struct cli *cli) {
    struct stream stream = cli_streams_init(cli);
    char *path = cli_node_path("clients", cli->words[0], "messages");
    enum cli_exit code =
        path ? cli_node_follow(cli, path, cli_streams_on_message, &stream) : CLI_FAILED;
    free(path);
    return code == CLI_OK && stream.cut ? CLI_FAILED : code;
}
