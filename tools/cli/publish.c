/* The command that publishes as a client. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/text.h"
#include "node.h"

#define PAYLOAD_MAX ((size_t)64 * 1024 * 1024)

/* Properties with numbers, and the other names of MQTT 5; all others are user properties. */
static const struct {
    const char *name;
    bool number;
} properties[] = {
    {"content_type", false},           {"response_topic", false},
    {"correlation_data", false},       {"payload_format_indicator", true},
    {"message_expiry_interval", true},
};

static bool cli_publish_check_stored(int result) {
    if (result != 0) {
        cli_error("--property: must be UTF-8");
    }
    return result == 0;
}

static bool cli_publish_set_property(json_t *known, json_t *user, const char *given) {
    const char *equals = strchr(given, '=');
    size_t len = (size_t)(equals - given);
    for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++) {
        if (strlen(properties[i].name) == len && memcmp(properties[i].name, given, len) == 0) {
            char *end;
            errno = 0;
            long long value = strtoll(equals + 1, &end, 10);
            if (properties[i].number && (*end != '\0' || end == equals + 1 || errno != 0)) {
                cli_error("--property %s: must be a whole number", given);
                return false;
            }
            return cli_publish_check_stored(json_object_set_new(
                known, properties[i].name,
                properties[i].number ? json_integer(value) : json_string(equals + 1)));
        }
    }
    return cli_publish_check_stored(json_array_append_new(
        user, json_pack("{s:s%, s:s}", "name", given, len, "value", equals + 1)));
}

static bool cli_publish_add_properties(const struct cli *cli, json_t *body) {
    json_t *known = json_object(), *user = json_array();
    bool good = true;
    for (size_t i = 0; good && cli->properties[i]; i++) {
        good = cli_publish_set_property(known, user, cli->properties[i]);
    }
    if (json_array_size(user) > 0) {
        json_object_set(known, "user_properties", user);
    }
    if (json_object_size(known) > 0) {
        json_object_set(body, "properties", known);
    }
    json_decref(known);
    json_decref(user);
    return good;
}

static bool cli_publish_read_payload(const struct cli *cli, struct buffer *out) {
    const char *name = cli->values[OPT_FILE];
    char block[65536];
    size_t len;
    if (cli_option_given(cli, OPT_MESSAGE) && name) {
        cli_error("publish: --message or --file, not both");
        return false;
    }
    if (cli_option_given(cli, OPT_MESSAGE)) {
        buffer_append_str(out, cli->values[OPT_MESSAGE]);
        return !out->failed;
    }
    bool input = !name || strcmp(name, "-") == 0;
    FILE *file = input ? stdin : fopen(name, "re");
    if (!file) {
        cli_error("--file %s: %s", name, strerror(errno));
        return false;
    }
    if (input && isatty(STDIN_FILENO)) {
        fputs("mqfleet: no --message: the payload is what you type; Ctrl-D ends it\n", stderr);
    }
    while ((len = fread(block, 1, sizeof(block), file)) > 0 && out->len <= PAYLOAD_MAX) {
        buffer_append(out, block, len);
    }
    bool good = !ferror(file) && !out->failed && out->len <= PAYLOAD_MAX;
    if (!good) {
        cli_error("the payload cannot be read, or is larger than 64 MiB");
    }
    if (!input) {
        fclose(file);
    }
    return good;
}

/* Empty standard input is more often a mistake than intended. */
static bool cli_publish_check_not_empty(const struct cli *cli, const struct buffer *payload) {
    bool meant = payload->len > 0 || cli_option_given(cli, OPT_MESSAGE);
    if (!meant) {
        cli_error("publish: the payload is empty; to send an empty message, use --message ''%s",
                  cli_option_given(cli, OPT_RETAIN) ? ", which clears the retained one" : "");
    }
    return meant;
}

static bool cli_publish_add_payload(const struct cli *cli, json_t *body) {
    struct buffer payload;
    buffer_init(&payload);
    bool good =
        cli_publish_read_payload(cli, &payload) && cli_publish_check_not_empty(cli, &payload);
    const char *data = payload.data ? payload.data : "";
    if (good && text_is_utf8(data, payload.len) && !memchr(data, '\0', payload.len)) {
        json_object_set_new(body, "payload", json_stringn(data, payload.len));
    } else if (good) {
        char *encoded = text_base64_encode(data, payload.len);
        json_object_set_new(body, "payload_base64", json_string(encoded));
        free(encoded);
    }
    buffer_fini(&payload);
    return good;
}

enum cli_exit command_publish(struct cli *cli) {
    const char *qos = cli->values[OPT_QOS] ? cli->values[OPT_QOS] : "0";
    if (strlen(qos) != 1 || qos[0] < '0' || qos[0] > '2') {
        cli_error("--qos %s: must be 0, 1 or 2", qos);
        return CLI_USAGE;
    }
    json_t *body = json_pack("{s:s, s:i, s:b}", "topic", cli->words[1], "qos", qos[0] - '0',
                             "retain", cli_option_given(cli, OPT_RETAIN));
    if (!body) {
        cli_error("TOPIC: must be UTF-8");
        return CLI_USAGE;
    }
    if (!cli_publish_add_payload(cli, body) || !cli_publish_add_properties(cli, body)) {
        json_decref(body);
        return CLI_USAGE;
    }
    struct cli_answer answer;
    char *path = cli_node_path("clients", cli->words[0], "publish");
    cli_node_call(cli, "POST", path, body, 0, &answer);
    free(path);
    enum cli_exit code = cli_answer_check(&answer, cli->words[0]);
    if (code == CLI_OK && cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    }
    cli_answer_fini(&answer);
    return code;
}
