/* Creating clients from a file in batches, and testing one configuration. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/system/clock.h"
#include "base/text.h"
#include "faults.h"
#include "node.h"
#include "progress.h"
#include "table.h"

#define BATCH_LEN    1000
#define WAIT_POLL_MS 200

/* ---- the file -------------------------------------------------------------------------------- */

/* The values of a text in sequence: one object, one array, or one object per line. */
struct reader {
    const char *data;
    size_t len, at;
    size_t line;     /* of `at` */
    size_t counted;  /* number of bytes whose lines are counted in `line` */
    bool incomplete; /* the rest after a fault was not read */
};

static void cli_create_count_lines(struct reader *reader) {
    for (; reader->counted < reader->at; reader->counted++) {
        reader->line += reader->data[reader->counted] == '\n';
    }
}

static void cli_create_skip_blanks(struct reader *reader) {
    while (reader->at < reader->len && strchr(" \t\r\n", reader->data[reader->at])) {
        reader->at++;
    }
    cli_create_count_lines(reader);
}

/* The next value; NULL: the end, or `fault` describes an invalid line, which is skipped. */
static json_t *cli_create_next_value(struct reader *reader, json_error_t *fault) {
    fault->text[0] = '\0';
    cli_create_skip_blanks(reader);
    if (reader->at >= reader->len) {
        return NULL;
    }
    json_t *value = json_loadb(reader->data + reader->at, reader->len - reader->at,
                               JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, fault);
    if (value) {
        reader->at += (size_t)fault->position;
        fault->text[0] = '\0';
        return value;
    }
    const char *start = reader->data + reader->at;
    const char *end = memchr(start, '\n', reader->len - reader->at);
    const char *last = end ? end : reader->data + reader->len;
    while (last > start && strchr(" \t\r", last[-1])) {
        last--;
    }
    /* The next value can only be found if each line is an object. */
    bool is_line = fault->line == 1 && start[0] != '[' && (start[0] != '{' || last[-1] == '}');
    reader->incomplete = !is_line;
    reader->at = is_line && end ? (size_t)(end + 1 - reader->data) : reader->len;
    return NULL;
}

/* ---- create ---------------------------------------------------------------------------------- */

struct create_place {
    size_t line;     /* of an array only the first */
    size_t document; /* number of the client in the file, from 1 */
};

struct cli_creation {
    struct cli *cli;
    json_t *batch;
    struct create_place places[BATCH_LEN]; /* of each value in the batch */
    size_t created, unchanged, failed, unknown, faults_shown;
    size_t documents; /* that were read */
    json_t *refused;  /* values that were not sent, reported as JSON */
    json_t *awaited;  /* ids that should come online; NULL: do not wait */
    const struct reader *reader;
    enum cli_exit code;
    bool aborted; /* the node cannot be used */
};

/* Reports values that were not sent to the node. */
static void cli_create_refuse(struct cli_creation *creation, const struct create_place *place,
                              const char *detail) {
    struct faults_place shown = {NULL, place->line, place->document, NULL, NULL};
    creation->failed++;
    cli_faults_print(&creation->faults_shown, &shown, NULL, 0, detail);
    json_array_append_new(creation->refused,
                          json_pack("{s:I, s:I, s:s}", "line", (json_int_t)place->line, "document",
                                    (json_int_t)place->document, "detail", detail));
}

/* Each value is reported with its line, so that programs find it in the file. */
static void cli_create_take_failures(struct cli_creation *creation, json_t *failed) {
    size_t i;
    json_t *one;
    json_array_foreach(failed, i, one) {
        size_t index = (size_t)cli_json_number(one, "index");
        struct create_place place = {0};
        place = index < BATCH_LEN ? creation->places[index] : place;
        struct faults_place shown = {NULL, place.line, place.document, NULL,
                                     cli_json_text(one, "id")};
        const char *detail = cli_json_text(one, "detail");
        json_object_set_new(one, "line", json_integer((json_int_t)place.line));
        json_object_set_new(one, "document", json_integer((json_int_t)place.document));
        creation->failed++;
        cli_faults_print(&creation->faults_shown, &shown, json_object_get(one, "errors"), 1,
                         detail ? detail : "failed");
    }
}

/* Reports the values of a batch that the node accepted. */
static void cli_create_add_awaited(struct cli_creation *creation, json_t *batch,
                                   const json_t *failed) {
    size_t i;
    const json_t *client, *one;
    json_array_foreach(failed, i, one) {
        json_array_set_new(batch, (size_t)cli_json_number(one, "index"), json_null());
    }
    json_array_foreach(batch, i, client) {
        const char *id = cli_json_text(client, "id") ? cli_json_text(client, "id")
                                                     : cli_json_text(client, "client_id");
        if (creation->awaited && id) {
            json_array_append_new(creation->awaited, json_string(id));
        }
    }
}

static void cli_create_print_json(const json_t *answer) {
    json_dumpf(answer, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
    putchar('\n');
}

static void cli_create_send_batch(struct cli_creation *creation) {
    struct cli_answer answer;
    size_t n = json_array_size(creation->batch);
    if (n == 0 || creation->aborted) {
        return;
    }
    json_t *batch = json_incref(creation->batch);
    cli_node_call(creation->cli, "POST", "/api/v1/clients", creation->batch, 0, &answer);
    creation->batch = json_array();
    if (cli_answer_succeeded(&answer)) {
        creation->created += (size_t)cli_json_number(answer.json, "created");
        creation->unchanged += (size_t)cli_json_number(answer.json, "unchanged");
        cli_create_take_failures(creation, json_object_get(answer.json, "failed"));
        cli_create_add_awaited(creation, batch, json_object_get(answer.json, "failed"));
        if (creation->cli->format == CLI_FORMAT_JSON) {
            cli_create_print_json(answer.json); /* the node's error text contains no lines */
        }
    } else {
        cli_progress_clear();
        creation->code = cli_answer_explain(&answer, NULL);
        *(answer.status == 0 ? &creation->unknown : &creation->failed) += n;
        creation->aborted = true;
    }
    json_decref(batch);
    cli_answer_fini(&answer);
    cli_progress_show("create, bytes", creation->reader->at, creation->reader->len);
}

/* The configuration of a client as `mqfleet clients` and `get` print it, with its status; any other
 * value as it is. Borrowed. */
static json_t *cli_create_unwrap(json_t *client) {
    json_t *config = json_object_get(client, "config"), *id = json_object_get(client, "id");
    if (!json_is_object(config) || !json_object_get(client, "status")) {
        return client;
    }
    if (!json_object_get(config, "id") && json_is_string(id)) {
        json_object_set(config, "id", id);
    }
    return config;
}

static void cli_create_add_client(struct cli_creation *creation, json_t *client, size_t line) {
    struct create_place place = {line, ++creation->documents};
    client = cli_create_unwrap(client);
    if (!json_is_object(client)) {
        cli_create_refuse(creation, &place, "must be a client (an object)");
        return;
    }
    creation->places[json_array_size(creation->batch)] = place;
    json_array_append(creation->batch, client);
    if (json_array_size(creation->batch) == BATCH_LEN) {
        cli_create_send_batch(creation);
    }
}

static void cli_create_add_value(struct cli_creation *creation, json_t *value, size_t line) {
    json_t *list = json_is_array(value) ? value : json_object_get(value, "clients");
    size_t i;
    json_t *client;
    if (!json_is_array(list)) {
        cli_create_add_client(creation, value, line);
        return;
    }
    json_array_foreach(list, i, client) {
        if (creation->aborted || cli_interrupted()) {
            break;
        }
        cli_create_add_client(creation, client, line);
    }
}

/* ---- --wait ---------------------------------------------------------------------------------- */

struct cli_wait_result {
    size_t online, paused, failed;
};

static void cli_create_print_state(const char *id, const char *state, const json_t *status) {
    const json_t *error = json_object_get(status, "last_error");
    const char *message = cli_json_text(error, "message"), *advice = cli_json_text(error, "advice");
    char line[800], safe[900], waiting[256];
    message = message ? message : cli_answer_waiting(status, waiting, sizeof(waiting));
    snprintf(line, sizeof(line), "%s: %s%s%s", id, state, message ? ", " : "",
             message ? message : "");
    fprintf(stderr, "%s\n", table_printable(line, safe, sizeof(safe)));
    if (advice) {
        fprintf(stderr, "  %s\n", table_printable(advice, safe, sizeof(safe)));
    }
}

/* False: not decided yet. */
static bool cli_create_check_client(struct cli_creation *creation, const char *id, bool last,
                                    struct cli_wait_result *wait_result) {
    struct cli_answer answer;
    char *path = cli_node_path("clients", id, "");
    cli_node_call(creation->cli, "GET", path ? path : "/", NULL, 0, &answer);
    free(path);
    if (answer.status ==
        0) { /* once for all: a separate wait for each would take up to --timeout */
        cli_progress_clear();
        creation->code = cli_answer_explain(&answer, NULL);
        creation->aborted = true;
    }
    const json_t *status = json_object_get(answer.json, "status");
    const char *state = cli_json_text(status, "state");
    bool online = state && strcmp(state, "online") == 0;
    bool paused = state && strcmp(state, "paused") == 0;
    bool failed = answer.status == 404 ||
                  (state && (strcmp(state, "backoff") == 0 || strcmp(state, "conflict") == 0));
    if (last && !online && !paused && !creation->aborted) {
        cli_progress_clear();
        cli_create_print_state(id, state ? state : "not known", status);
    }
    wait_result->online += online;
    wait_result->paused += paused;
    wait_result->failed += failed;
    cli_answer_fini(&answer);
    return online || paused || failed;
}

/* Waits until each is online or has failed, at most for --timeout; then prints those that are not
 * online. */
static void cli_create_wait_online(struct cli_creation *creation) {
    const char *given = creation->cli->values[OPT_TIMEOUT];
    int64_t until_ms = clock_ms() + (int64_t)((given ? strtod(given, NULL) : 30) * 1000);
    struct cli_wait_result wait_result = {0};
    size_t total = json_array_size(creation->awaited);
    bool last = false;
    while (json_array_size(creation->awaited) > 0 && !cli_interrupted() && !creation->aborted) {
        for (size_t i = json_array_size(creation->awaited);
             i > 0 && !cli_interrupted() && !creation->aborted; i--) {
            const char *id = json_string_value(json_array_get(creation->awaited, i - 1));
            struct cli_wait_result before = wait_result;
            bool decided = cli_create_check_client(creation, id, last, &wait_result);
            if (decided && wait_result.failed > before.failed && !last) {
                (void)cli_create_check_client(creation, id, true,
                                              &(struct cli_wait_result){0}); /* prints the reason */
            }
            if (decided || last) {
                json_array_remove(creation->awaited, i - 1);
            }
        }
        cli_progress_show("online", total - json_array_size(creation->awaited), total);
        last = clock_ms() >= until_ms;
        if (json_array_size(creation->awaited) > 0 && !last && !cli_sleep_ms(WAIT_POLL_MS)) {
            return;
        }
    }
    cli_progress_clear();
    if (creation->aborted) {
        return;
    }
    size_t missing = total - wait_result.online - wait_result.paused;
    if (missing > 0) {
        creation->code = CLI_FAILED;
        cli_error("%zu of %zu are not online", missing, total);
    }
}

/* ---- the command ----------------------------------------------------------------------------- */

static void cli_create_read_and_send(struct cli_creation *creation, struct reader *reader) {
    while (!creation->aborted && !cli_interrupted()) {
        json_error_t fault;
        json_t *value = cli_create_next_value(reader, &fault);
        if (value) {
            cli_create_add_value(creation, value, reader->line);
            json_decref(value);
        } else if (fault.text[0] != '\0') {
            struct create_place place = {reader->line +
                                             (size_t)(fault.line > 0 ? fault.line - 1 : 0),
                                         ++creation->documents};
            cli_create_refuse(creation, &place, fault.text);
        } else {
            break;
        }
    }
    cli_create_send_batch(creation);
    cli_progress_clear();
}

static void cli_create_print_totals(const struct cli_creation *creation) {
    const struct reader *reader = creation->reader;
    if (creation->cli->format != CLI_FORMAT_JSON) {
        printf("%zu created, %zu unchanged, %zu failed", creation->created, creation->unchanged,
               creation->failed);
        if (creation->unknown > 0) {
            printf(", %zu with an unknown outcome", creation->unknown);
        }
        putchar('\n');
    } else if (json_array_size(creation->refused) > 0) {
        json_t *answer =
            json_pack("{s:i, s:i, s:O}", "created", 0, "unchanged", 0, "failed", creation->refused);
        cli_create_print_json(answer);
        json_decref(answer);
    }
    if (reader->incomplete || (creation->aborted && reader->at < reader->len)) {
        cli_error("create: the rest of the file was not %s",
                  reader->incomplete ? "read; correct it, and repeat the command" : "sent");
    }
    if (creation->unknown > 0) {
        cli_error("create: repeat the command: clients that exist stay unchanged");
    }
}

static enum cli_exit cli_create_exit_code(const struct cli_creation *creation) {
    size_t total = creation->created + creation->unchanged + creation->failed;
    if (creation->code != CLI_OK || creation->failed == 0) {
        return creation->code;
    }
    return creation->failed == total ? CLI_INVALID : CLI_FAILED;
}

enum cli_exit command_create(struct cli *cli) {
    struct buffer data;
    if (!cli_read_file(cli, &data)) {
        buffer_fini(&data);
        return CLI_USAGE;
    }
    struct reader reader = {.data = data.data ? data.data : "",
                            .len = data.len,
                            .at = text_bom_len(data.data, data.len),
                            .line = 1};
    struct cli_creation *creation = calloc(1, sizeof *creation);
    if (!creation) {
        buffer_fini(&data);
        return CLI_FAILED;
    }
    creation->cli = cli;
    creation->reader = &reader;
    creation->batch = json_array();
    creation->refused = json_array();
    creation->awaited = cli_option_given(cli, OPT_WAIT) ? json_array() : NULL;
    cli_create_read_and_send(creation, &reader);
    cli_create_print_totals(creation);
    if (creation->awaited && !creation->aborted) {
        fflush(stdout);
        cli_create_wait_online(creation);
    }
    enum cli_exit code = cli_create_exit_code(creation);
    json_decref(creation->batch);
    json_decref(creation->refused);
    json_decref(creation->awaited);
    free(creation);
    buffer_fini(&data);
    return code;
}

/* ---- test ------------------------------------------------------------------------------------ */

/* Prints the result of each address or broker. */
static void cli_create_print_endpoints(const json_t *report, const char *list, const char *name) {
    size_t i;
    const json_t *place;
    char safe[1000];
    json_array_foreach(json_object_get(report, list), i, place) {
        bool ok = json_is_true(json_object_get(place, "ok"));
        printf("%s%-6s%s %s  %s\n", table_colour(ok ? "ok" : "failed"), ok ? "ok" : "failed",
               TABLE_PLAIN, cli_json_text(place, name),
               table_printable(cli_json_text(place, "detail"), safe, sizeof(safe)));
    }
}

void cli_print_steps(const json_t *report) {
    size_t i;
    const json_t *step;
    char safe[1000];
    json_array_foreach(json_object_get(report, "steps"), i, step) {
        bool ok = json_is_true(json_object_get(step, "ok"));
        const char *advice = cli_json_text(step, "advice");
        printf("%s%-6s%s %-10s %8.1f ms  %s\n", table_colour(ok ? "ok" : "failed"),
               ok ? "ok" : "failed", TABLE_PLAIN, cli_json_text(step, "step"),
               json_number_value(json_object_get(step, "ms")),
               table_printable(cli_json_text(step, "detail"), safe, sizeof(safe)));
        if (advice) {
            printf("       %s\n", table_printable(advice, safe, sizeof(safe)));
        }
    }
    cli_create_print_endpoints(report, "addresses", "address");
    cli_create_print_endpoints(report, "brokers", "broker");
}

enum cli_exit command_test(struct cli *cli) {
    struct cli_answer answer;
    enum cli_exit code;
    json_t *config = cli_read_object(cli, "one client", &code);
    if (!config) {
        return code;
    }
    cli_node_call(cli, "POST", "/api/v1/clients:test", config, 5000, &answer);
    if (!cli_answer_succeeded(&answer)) {
        code = cli_answer_explain(&answer, NULL);
    } else {
        code = json_is_true(json_object_get(answer.json, "ok")) ? CLI_OK : CLI_FAILED;
        if (cli->format == CLI_FORMAT_JSON) {
            cli_answer_print(&answer);
        } else {
            cli_print_steps(answer.json);
        }
    }
    cli_answer_fini(&answer);
    return code;
}
