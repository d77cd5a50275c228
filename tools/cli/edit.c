/* Opens one resource of the fleet in an editor, and stores what was changed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/buffer.h"
#include "manifest.h"
#include "node.h"

struct edit {
    struct cli *cli;
    enum manifest_kind kind;
    const char *name;  /* "routes" for the routes */
    char file[64];     /* what the editor opens; "": none yet */
    struct buffer was; /* its text before the editor */
};

/* ---- reading --------------------------------------------------------------------------------- */

/* The words of the command: KIND NAME, or routes. */
static bool cli_edit_parse(struct edit *edit) {
    const struct cli *cli = edit->cli;
    for (size_t i = 0; i < MANIFEST_KIND_COUNT; i++) {
        int words = manifest_kinds[i].name_member ? 2 : 1;
        if (strcmp(cli->words[0], manifest_kinds[i].kind) == 0 && cli->word_count == words) {
            edit->kind = (enum manifest_kind)i;
            edit->name = cli->words[words - 1];
            return true;
        }
    }
    cli_error("usage: mqfleet edit client ID, client-profile NAME, sink NAME, or routes");
    return false;
}

static char *cli_edit_path(const struct edit *edit) {
    const struct manifest_kind_row *row = &manifest_kinds[edit->kind];
    char *path = NULL;
    if (row->name_member) {
        return cli_node_path(row->collection, edit->name, "");
    }
    return asprintf(&path, "/api/v1/%s", row->collection) >= 0 ? path : NULL;
}

/* What the API shows and takes again: the configuration, or the routes. The caller releases it. */
static json_t *cli_edit_document(const struct edit *edit, const json_t *shown) {
    if (edit->kind == MANIFEST_ROUTES) {
        return json_pack("{s:O}", "routes", json_object_get(shown, "routes"));
    }
    json_t *document = json_deep_copy(json_object_get(shown, "config"));
    (void)json_object_del(document, "id");
    return document;
}

static bool cli_edit_write_file(struct edit *edit, const json_t *document) {
    const char *folder = getenv("TMPDIR");
    int len = snprintf(edit->file, sizeof edit->file, "%s/mqfleet-edit-XXXXXX.yaml",
                       folder && strlen(folder) < 32 ? folder : "/tmp");
    int fd = len > 0 ? mkstemps(edit->file, (int)strlen(".yaml")) : -1; /* mode 0600 */
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!file) {
        cli_error("%s: %s", edit->file, strerror(errno));
        edit->file[0] = '\0';
        return false;
    }
    fprintf(file,
            "# Save and leave the editor to store the changes. A secret shown as \"***\" keeps "
            "its value.\n");
    bool good = manifest_write(file, edit->kind, edit->name, document);
    good = fclose(file) == 0 && good;
    return good && cli_read_path(edit->file, &edit->was);
}

static enum cli_exit cli_edit_read(struct edit *edit) {
    struct cli_answer answer;
    char *path = cli_edit_path(edit);
    cli_node_call(edit->cli, "GET", path ? path : "/", NULL, 5000, &answer);
    free(path);
    enum cli_exit code = cli_answer_check(&answer, edit->name);
    if (code == CLI_OK) {
        json_t *document = cli_edit_document(edit, answer.json);
        long long version = cli_json_number(answer.json, "version");
        snprintf(edit->cli->if_match, sizeof edit->cli->if_match, "\"%lld\"", version);
        if (!document) {
            cli_error("%s: the stored configuration cannot be edited; replace it", edit->name);
            code = CLI_INVALID;
        } else if (!cli_edit_write_file(edit, document)) {
            code = CLI_FAILED;
        }
        json_decref(document);
    }
    cli_answer_fini(&answer);
    return code;
}

/* ---- the editor ------------------------------------------------------------------------------ */

static const char *cli_edit_program(void) {
    const char *program = getenv("VISUAL");
    program = program && *program ? program : getenv("EDITOR");
    return program && *program ? program : "vi";
}

/* Waits until the command ends; -1: it could not begin. Meanwhile, interrupts from the terminal are
 * meant for the editor. */
static int cli_edit_run(const char *command, const char *file) {
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction interrupt, quit;
    int status = -1;
    sigaction(SIGINT, &ignore, &interrupt);
    sigaction(SIGQUIT, &ignore, &quit);
    pid_t pid = fork();
    if (pid == 0) {
        sigaction(SIGINT, &interrupt, NULL);
        sigaction(SIGQUIT, &quit, NULL);
        execl("/bin/sh", "sh", "-c", command, "sh", file, (char *)NULL);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGQUIT, &quit, NULL);
    return status;
}

/* The variable may hold arguments, so a shell splits it. False: the error was printed. */
static bool cli_edit_open(const struct edit *edit) {
    struct buffer command;
    buffer_init(&command);
    buffer_printf(&command, "%s \"$1\"", cli_edit_program());
    int status = command.data ? cli_edit_run(command.data, edit->file) : -1;
    buffer_fini(&command);
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!good) {
        cli_error("the editor (%s) failed; nothing was changed", cli_edit_program());
    }
    return good;
}

static bool cli_edit_is_unchanged(const struct edit *edit) {
    struct buffer now;
    bool same = cli_read_path(edit->file, &now) && now.len == edit->was.len &&
                (now.len == 0 || memcmp(now.data, edit->was.data, now.len) == 0);
    buffer_fini(&now);
    return same;
}

/* ---- storing --------------------------------------------------------------------------------- */

static enum cli_exit cli_edit_put(struct edit *edit, const struct manifest_item *item) {
    struct cli_answer answer;
    char *path = cli_edit_path(edit);
    json_t *document = json_deep_copy(item->document);
    cli_node_call(edit->cli, "PUT", path ? path : "/", document, 5000, &answer);
    free(path);
    enum cli_exit code = cli_answer_check(&answer, edit->name);
    if (code == CLI_OK && edit->cli->format == CLI_FORMAT_JSON) {
        cli_answer_print(&answer);
    } else if (code == CLI_OK) {
        printf("%s changed\n", edit->name);
    }
    cli_answer_fini(&answer);
    return code;
}

/* The file must still describe the same resource. */
static enum cli_exit cli_edit_store(struct edit *edit) {
    struct manifest manifest;
    enum cli_exit code = CLI_INVALID;
    if (!manifest_read(&manifest, edit->file)) {
        /* told */
    } else if (manifest.count != 1 || manifest.items[0].kind != edit->kind ||
               strcmp(manifest.items[0].name, edit->name) != 0) {
        cli_error("the file must keep its kind and name; use apply for other resources");
    } else {
        code = cli_edit_put(edit, &manifest.items[0]);
    }
    manifest_fini(&manifest);
    return code;
}

/* Until it is stored, or the user gives up. */
static enum cli_exit cli_edit_loop(struct edit *edit) {
    for (;;) {
        if (!cli_edit_open(edit)) {
            return CLI_FAILED;
        }
        if (cli_edit_is_unchanged(edit)) {
            puts("not changed");
            return CLI_OK;
        }
        enum cli_exit code = cli_edit_store(edit);
        if (code != CLI_INVALID || !isatty(STDIN_FILENO) ||
            !cli_confirm(edit->cli, "edit it again?")) {
            return code;
        }
    }
}

enum cli_exit command_edit(struct cli *cli) {
    struct edit edit = {.cli = cli};
    if (!cli_edit_parse(&edit)) {
        return CLI_USAGE;
    }
    buffer_init(&edit.was);
    enum cli_exit code = cli_edit_read(&edit);
    code = code == CLI_OK ? cli_edit_loop(&edit) : code;
    if (edit.file[0] && code != CLI_OK) {
        cli_error("your text is in %s", edit.file);
    } else if (edit.file[0]) {
        (void)unlink(edit.file);
    }
    buffer_fini(&edit.was);
    return code;
}
