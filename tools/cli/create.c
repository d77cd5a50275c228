/* Creating clients from a file, in batches, and trying one configuration. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "node.h"
#include "progress.h"
#include "table.h"

#define BATCH_LEN      1000
#define FILE_BYTES_MAX ((size_t)1024 * 1024 * 1024)
#define READ_BYTES     65536

static const char *text(const json_t *object, const char *name) {
    return json_string_value(json_object_get(object, name));
}

/* ---- the file -------------------------------------------------------------------------------- */

static bool read_stream(FILE *file, const char *name, struct buffer *out) {
    char block[READ_BYTES];
    size_t len;
    while ((len = fread(block, 1, sizeof(block), file)) > 0 && out->len < FILE_BYTES_MAX) {
        buffer_append(out, block, len);
    }
    if (ferror(file) || out->failed || out->len >= FILE_BYTES_MAX) {
        cli_complain("%s: %s", name,
                     ferror(file)  ? strerror(errno)
                     : out->failed ? "out of memory"
                                   : "larger than a gigabyte");
        return false;
    }
    return true;
}

static bool read_file(const struct cli *cli, struct buffer *out) {
    const char *name = cli->values[OPT_FILE];
    buffer_init(out);
    if (name == NULL) {
        cli_complain("%s: needs --file FILE, or --file - for standard input", cli->command->name);
        return false;
    }
    if (strcmp(name, "-") == 0) {
        return read_stream(stdin, "standard input", out);
    }
    FILE *file = fopen(name, "re");
    if (file == NULL) {
        cli_complain("--file %s: %s", name, strerror(errno));
        return false;
    }
    bool good = read_stream(file, name, out);
    fclose(file);
    return good;
}

/* The values of a text one after the other: an object, an array, or an object in each line. */
struct reader {
    const char *data;
    size_t len, at;
    size_t line;    /* of `at` */
    size_t counted; /* bytes whose lines are in `line` */
};

static void count_lines(struct reader *reader) {
    for (; reader->counted < reader->at; reader->counted++) {
        reader->line += reader->data[reader->counted] == '\n';
    }
}

static void skip_blanks(struct reader *reader) {
    while (reader->at < reader->len && strchr(" \t\r\n", reader->data[reader->at]) != NULL) {
        reader->at++;
    }
    count_lines(reader);
}

/* The next value; NULL: the end, or `fault` says what is wrong with a line, which is left out. */
static json_t *next_value(struct reader *reader, json_error_t *fault) {
    fault->text[0] = '\0';
    skip_blanks(reader);
    if (reader->at >= reader->len) {
        return NULL;
    }
    json_t *value = json_loadb(reader->data + reader->at, reader->len - reader->at,
                               JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, fault);
    if (value != NULL) {
        reader->at += (size_t)fault->position;
        fault->text[0] = '\0';
        return value;
    }
    const char *end = memchr(reader->data + reader->at, '\n', reader->len - reader->at);
    reader->at = end != NULL ? (size_t)(end + 1 - reader->data) : reader->len;
    return NULL;
}

/* ---- create ---------------------------------------------------------------------------------- */

struct creation {
    struct cli *cli;
    json_t *batch;
    size_t lines[BATCH_LEN]; /* where each of the batch begins */
    size_t created, unchanged, failed;
    const struct reader *reader;
    enum cli_exit code;
    bool over; /* the node cannot be used */
};

static void fail_line(struct creation *creation, size_t line, const char *id, const char *detail) {
    char safe_id[128], safe[600];
    progress_clear();
    creation->failed++;
    fprintf(stderr, "line %zu%s%s: %s\n", line, id != NULL ? ", " : "",
            id != NULL ? table_printable(id, safe_id, sizeof(safe_id)) : "",
            table_printable(detail, safe, sizeof(safe)));
}

static void take_failures(struct creation *creation, const json_t *failed) {
    size_t i;
    const json_t *one;
    json_array_foreach(failed, i, one) {
        size_t index = (size_t)json_integer_value(json_object_get(one, "index"));
        fail_line(creation, index < BATCH_LEN ? creation->lines[index] : 0, text(one, "id"),
                  text(one, "detail") != NULL ? text(one, "detail") : "failed");
    }
}

static char *create_path(const struct cli *cli, long *extra_ms) {
    const char *given = cli->values[OPT_TIMEOUT];
    double seconds = given != NULL ? strtod(given, NULL) : 30;
    char *path = NULL;
    *extra_ms = 0;
    if (!cli_given(cli, OPT_WAIT)) {
        return strdup("/api/v1/clients");
    }
    *extra_ms = seconds < 60 ? (long)(seconds * 1000) : 60000;
    return asprintf(&path, "/api/v1/clients?wait_ms=%ld", *extra_ms) >= 0 ? path : NULL;
}

static void send_batch(struct creation *creation) {
    struct answer answer;
    long extra_ms;
    size_t n = json_array_size(creation->batch);
    if (n == 0 || creation->over) {
        return;
    }
    char *path = create_path(creation->cli, &extra_ms);
    node_call(creation->cli, "POST", path != NULL ? path : "/", creation->batch, extra_ms, &answer);
    free(path);
    creation->batch = json_array();
    if (answer_good(&answer)) {
        creation->created += (size_t)json_integer_value(json_object_get(answer.json, "created"));
        creation->unchanged +=
            (size_t)json_integer_value(json_object_get(answer.json, "unchanged"));
        take_failures(creation, json_object_get(answer.json, "failed"));
        if (creation->cli->json) {
            answer_print(&answer);
        }
    } else {
        progress_clear();
        creation->code = answer_explain(&answer, NULL);
        creation->failed += n;
        creation->over = true;
    }
    answer_fini(&answer);
    progress_show("create", creation->reader->at, creation->reader->len);
}

static void add_client(struct creation *creation, json_t *client, size_t line) {
    if (!json_is_object(client)) {
        fail_line(creation, line, NULL, "must be a client (an object)");
        return;
    }
    creation->lines[json_array_size(creation->batch)] = line;
    json_array_append(creation->batch, client);
    if (json_array_size(creation->batch) == BATCH_LEN) {
        send_batch(creation);
    }
}

static void add_value(struct creation *creation, json_t *value, size_t line) {
    json_t *list = json_is_array(value) ? value : json_object_get(value, "clients");
    size_t i;
    json_t *client;
    if (!json_is_array(list)) {
        add_client(creation, value, line);
        return;
    }
    json_array_foreach(list, i, client) {
        if (creation->over || cli_interrupted()) {
            break;
        }
        add_client(creation, client, line); /* within an array only its first line is known */
    }
}

enum cli_exit command_create(struct cli *cli) {
    struct buffer data;
    if (!read_file(cli, &data)) {
        buffer_fini(&data);
        return CLI_USAGE;
    }
    struct reader reader = {.data = data.data != NULL ? data.data : "", .len = data.len, .line = 1};
    struct creation *creation = calloc(1, sizeof(*creation));
    if (creation == NULL) {
        buffer_fini(&data);
        return CLI_FAILED;
    }
    creation->cli = cli;
    creation->reader = &reader;
    creation->batch = json_array();
    while (!creation->over && !cli_interrupted()) {
        json_error_t fault;
        json_t *value = next_value(&reader, &fault);
        if (value != NULL) {
            add_value(creation, value, reader.line);
            json_decref(value);
        } else if (fault.text[0] != '\0') {
            fail_line(creation, reader.line + (size_t)(fault.line > 0 ? fault.line - 1 : 0), NULL,
                      fault.text);
        } else {
            break;
        }
    }
    send_batch(creation);
    progress_clear();
    if (!cli->json) {
        printf("%zu created, %zu unchanged, %zu failed\n", creation->created, creation->unchanged,
               creation->failed);
    }
    size_t total = creation->created + creation->unchanged + creation->failed;
    enum cli_exit code = creation->code != CLI_OK    ? creation->code
                         : creation->failed == 0     ? CLI_OK
                         : creation->failed == total ? CLI_INVALID
                                                     : CLI_FAILED;
    json_decref(creation->batch);
    free(creation);
    buffer_fini(&data);
    return code;
}

/* ---- test ------------------------------------------------------------------------------------ */

static void print_steps(const json_t *report) {
    size_t i;
    const json_t *step;
    char safe[600];
    json_array_foreach(json_object_get(report, "steps"), i, step) {
        bool ok = json_is_true(json_object_get(step, "ok"));
        const char *advice = text(step, "advice");
        printf("%s%-6s%s %-10s %8.1f ms  %s\n", table_colour(ok ? "ok" : "failed"),
               ok ? "ok" : "failed", TABLE_PLAIN, text(step, "step"),
               json_number_value(json_object_get(step, "ms")),
               table_printable(text(step, "detail"), safe, sizeof(safe)));
        if (advice != NULL) {
            printf("       %s\n", table_printable(advice, safe, sizeof(safe)));
        }
    }
}

enum cli_exit command_test(struct cli *cli) {
    struct buffer data;
    struct answer answer;
    json_error_t fault;
    if (!read_file(cli, &data)) {
        buffer_fini(&data);
        return CLI_USAGE;
    }
    json_t *config =
        json_loadb(data.data != NULL ? data.data : "", data.len, JSON_REJECT_DUPLICATES, &fault);
    buffer_fini(&data);
    if (!json_is_object(config)) {
        cli_complain("--file %s: line %d: %s", cli->values[OPT_FILE], fault.line,
                     config == NULL ? fault.text : "must be one client (an object)");
        json_decref(config);
        return CLI_INVALID;
    }
    node_call(cli, "POST", "/api/v1/clients:test", config, 5000, &answer);
    enum cli_exit code = CLI_OK;
    if (!answer_good(&answer)) {
        code = answer_explain(&answer, NULL);
    } else {
        code = json_is_true(json_object_get(answer.json, "ok")) ? CLI_OK : CLI_FAILED;
        if (cli->json) {
            answer_print(&answer);
        } else {
            print_steps(answer.json);
        }
    }
    answer_fini(&answer);
    return code;
}
