/* Reads the files that commands take. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "base/text.h"
#include "cli.h"

#define FILE_BYTES_MAX ((size_t)1024 * 1024 * 1024)
#define READ_BYTES     65536

static bool cli_file_read_stream(FILE *file, const char *name, struct buffer *out) {
    char block[READ_BYTES];
    size_t len;
    while ((len = fread(block, 1, sizeof(block), file)) > 0 && out->len < FILE_BYTES_MAX) {
        buffer_append(out, block, len);
    }
    if (ferror(file) || out->failed || out->len >= FILE_BYTES_MAX) {
        cli_error("%s: %s", name,
                  ferror(file)  ? strerror(errno)
                  : out->failed ? "out of memory"
                                : "larger than a gigabyte");
        return false;
    }
    return true;
}

bool cli_read_path(const char *name, struct buffer *out) {
    buffer_init(out);
    if (strcmp(name, "-") == 0) {
        return cli_file_read_stream(stdin, "standard input", out);
    }
    FILE *file = fopen(name, "re");
    if (!file) {
        cli_error("file %s: %s", name, strerror(errno));
        return false;
    }
    bool good = cli_file_read_stream(file, name, out);
    fclose(file);
    return good;
}

bool cli_read_file(const struct cli *cli, struct buffer *out) {
    const char *name = cli->values[OPT_FILE];
    if (!name) {
        buffer_init(out);
        cli_error("%s: requires --file FILE, or --file - for standard input", cli->command->name);
        return false;
    }
    return cli_read_path(name, out);
}

/* The text of the file in data, which is released. */
static json_t *cli_file_parse(const char *name, struct buffer *data) {
    json_error_t fault;
    const char *document = data->data ? data->data : "";
    size_t bom_len = text_bom_len(document, data->len);
    json_t *json =
        json_loadb(document + bom_len, data->len - bom_len, JSON_REJECT_DUPLICATES, &fault);
    buffer_fini(data);
    if (!json) {
        bool yaml = strstr(fault.text, "'[' or '{' expected") != NULL; /* no JSON at all */
        cli_error("file %s: line %d: %s%s", name, fault.line, fault.text,
                  yaml ? " (must be JSON; mqfleet apply takes YAML)" : "");
    }
    return json;
}

json_t *cli_read_json(const char *name, enum cli_exit *code) {
    struct buffer data;
    *code = CLI_USAGE;
    if (!cli_read_path(name, &data)) {
        buffer_fini(&data);
        return NULL;
    }
    json_t *json = cli_file_parse(name, &data);
    *code = json ? CLI_OK : CLI_INVALID;
    return json;
}

json_t *cli_read_object(const struct cli *cli, const char *what, enum cli_exit *code) {
    struct buffer data;
    *code = CLI_USAGE;
    if (!cli_read_file(cli, &data)) {
        buffer_fini(&data);
        return NULL;
    }
    json_t *object = cli_file_parse(cli->values[OPT_FILE], &data);
    *code = json_is_object(object) ? CLI_OK : CLI_INVALID;
    if (object && *code != CLI_OK) {
        cli_error("file %s: must be %s (an object)", cli->values[OPT_FILE], what);
        json_decref(object);
    }
    return *code == CLI_OK ? object : NULL;
}
