/* Writes the resources of the fleet as documents. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buffer.h"
#include "manifest.h"
#include "node.h"
#include "progress.h"
#include "select.h"
#include "table.h"

struct export {
    struct cli *cli;
    FILE *file;
    const char *file_name; /* for messages */
    json_t *seen;          /* ids: a client that moves may appear twice */
    size_t written, skipped, total;
};

static bool cli_export_write(struct export *export, const json_t *document) {
    const char *kind_name = cli_json_text(document, "kind");
    const char *id = cli_json_text(document, "id");
    if (id && json_object_get(export->seen, id)) {
        return true;
    }
    for (size_t i = 0; kind_name && i < MANIFEST_KIND_COUNT; i++) {
        if (strcmp(kind_name, manifest_kinds[i].kind) != 0) {
            continue;
        }
        const char *member = manifest_kinds[i].name_member;
        const char *name = member ? cli_json_text(document, member) : NULL;
        bool good = manifest_write(export->file, (enum manifest_kind)i, name ? name : "", document);
        export->written += good;
        return good && (!id || json_object_set_new(export->seen, id, json_true()) == 0);
    }
    cli_error("export: the node has documents of the kind %s, which this program does not know",
              kind_name ? kind_name : "?");
    return false;
}

static char *cli_export_path(const struct cli *cli, const char *cursor) {
    struct buffer path;
    buffer_init(&path);
    buffer_printf(&path, "/api/v1/export?secrets=%s",
                  cli_option_given(cli, OPT_SECRETS) ? cli->values[OPT_SECRETS] : "masked");
    cli_select_append_filters(cli, &path);
    if (cursor) {
        char *escaped = cli_node_escape(cursor);
        buffer_printf(&path, "&cursor=%s", escaped ? escaped : "");
        free(escaped);
    }
    return buffer_take(&path);
}

/* Resources that the node cannot export. */
static void cli_export_report_skipped(struct export *export, const json_t *skipped) {
    size_t i;
    const json_t *one;
    json_array_foreach(skipped, i, one) {
        char safe_name[300], safe[600];
        const char *kind = cli_json_text(one, "kind"), *name = cli_json_text(one, "name");
        const char *detail = cli_json_text(one, "detail");
        cli_progress_clear();
        cli_error("%s %s is not exported: %s", kind ? kind : "?",
                  table_printable(name ? name : "?", safe_name, sizeof safe_name),
                  table_printable(detail ? detail : "", safe, sizeof safe));
        export->skipped++;
    }
}

/* One page. *cursor: replaced; NULL: the end. */
static enum cli_exit cli_export_page(struct export *export, char **cursor) {
    struct cli_answer answer;
    size_t i;
    const json_t *document;
    char *path = cli_export_path(export->cli, *cursor);
    free(*cursor);
    *cursor = NULL;
    cli_node_call(export->cli, "GET", path ? path : "/", NULL, 5000, &answer);
    free(path);
    enum cli_exit code = cli_answer_check(&answer, NULL);
    export->total += (size_t)cli_json_number(answer.json, "total");
    json_array_foreach(json_object_get(answer.json, "documents"), i, document) {
        if (code == CLI_OK && !cli_export_write(export, document)) {
            cli_error("%s: %s", export->file_name, errno ? strerror(errno) : "not written");
            code = CLI_FAILED;
        }
    }
    cli_export_report_skipped(export, json_object_get(answer.json, "skipped"));
    if (code == CLI_OK && cli_select_report_incomplete(answer.json)) {
        code = CLI_FAILED;
    }
    const char *next = cli_json_text(answer.json, "next_cursor");
    *cursor = code == CLI_OK && next ? strdup(next) : NULL;
    cli_answer_fini(&answer);
    cli_progress_show("export", export->written, export->total);
    return code;
}

static enum cli_exit cli_export_all(struct export *export) {
    char *cursor = NULL;
    enum cli_exit code = CLI_OK;
    do {
        code = cli_export_page(export, &cursor);
    } while (code == CLI_OK && cursor && !cli_interrupted());
    free(cursor);
    cli_progress_clear();
    return cli_interrupted() ? CLI_INTERRUPTED : code;
}

/* fd: consumed; negative: errno is why, and the answer CLI_USAGE. */
static enum cli_exit cli_export_to_fd(struct export *export, const char *name, int fd) {
    export->file = fd >= 0 ? fdopen(fd, "w") : NULL;
    enum cli_exit code = export->file ? cli_export_all(export) : CLI_USAGE;
    bool good = export->file && fflush(export->file) == 0 &&
                (fsync(fd) == 0 || errno == EINVAL); /* a pipe or device has none */
    good = (!export->file || fclose(export->file) == 0) && good;
    if (code == CLI_USAGE || (code == CLI_OK && !good)) {
        cli_error("file %s: %s", name, strerror(errno));
        return code == CLI_OK ? CLI_FAILED : code;
    }
    return code;
}

/* Into a new file beside it, which takes its place once it is complete. Only its owner may read it.
 */
static enum cli_exit cli_export_replace(struct export *export, const char *name) {
    struct buffer part;
    buffer_init(&part);
    buffer_printf(&part, "%s.part", name);
    if (part.data) {
        (void)unlink(part.data); /* what is left of an earlier export may be readable by others */
    }
    int fd = part.data ? open(part.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    enum cli_exit code = cli_export_to_fd(export, name, fd);
    if (code == CLI_OK && rename(part.data, name) != 0) {
        cli_error("file %s: %s", name, strerror(errno));
        code = CLI_FAILED;
    } else if (code != CLI_OK && code != CLI_USAGE) {
        cli_error("file %s is not written, because the export is not complete", name);
    }
    if (code != CLI_OK && part.data) {
        (void)unlink(part.data);
    }
    buffer_fini(&part);
    return code;
}

/* What is no regular file, such as a pipe or /dev/stdout, is written to and stays what it is; so
 * does a link to a file. */
static enum cli_exit cli_export_to_file(struct export *export, const char *name) {
    struct stat found;
    bool exists = stat(name, &found) == 0;
    if (exists && !S_ISREG(found.st_mode)) {
        return cli_export_to_fd(export, name, open(name, O_WRONLY | O_CLOEXEC));
    }
    char *target = exists ? realpath(name, NULL) : strdup(name);
    enum cli_exit code = CLI_USAGE;
    if (target) {
        code = cli_export_replace(export, target);
    } else {
        cli_error("file %s: %s", name, strerror(errno));
    }
    free(target);
    return code;
}

enum cli_exit command_export(struct cli *cli) {
    const char *name = cli->values[OPT_FILE];
    struct export export = {.cli = cli,
                            .file = stdout,
                            .file_name = name ? name : "standard output",
                            .seen = json_object()};
    const char *secrets = cli->values[OPT_SECRETS];
    enum cli_exit code = cli_select_check(cli);
    if (code != CLI_OK) {
        json_decref(export.seen);
        return code;
    }
    if (secrets && strcmp(secrets, "masked") != 0 && strcmp(secrets, "encrypted") != 0) {
        cli_error("--secrets %s: must be masked or encrypted", secrets);
        json_decref(export.seen);
        return CLI_USAGE;
    }
    cli_catch_interrupts();
    errno = 0;
    bool named = name && strcmp(name, "-") != 0;
    code = named ? cli_export_to_file(&export, name) : cli_export_all(&export);
    if (code == CLI_OK && named) {
        fprintf(stderr, "%zu documents written to %s\n", export.written, name);
    }
    json_decref(export.seen);
    return code == CLI_OK && export.skipped > 0 ? CLI_FAILED : code;
}
