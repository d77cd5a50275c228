/* The sink that appends to a file, one JSON object per line (NDJSON), or a line by template. Runs
 * on the sink's thread. The file is opened again after it was moved away, so logrotate needs no
 * signal; the sink can also rotate it by itself. */
#include "sink/sink_type.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "archive.h"
#include "base/buffer.h"
#include "base/system/clock.h"
#include "base/text.h"
#include "line_file.h"
#include "sink/message_json.h"
#include "sink/sink_template.h"

static const struct sink_field file_sink_fields[] = {
    {.name = "path",
     .kind = SINK_FIELD_FILE,
     .required = true,
     .description = "path of the file, in an existing folder; each node needs its own"},
    {.name = "line",
     .kind = SINK_FIELD_TEXT,
     .description = "template of a line; empty: a JSON object"},
    {.name = "fsync",
     .kind = SINK_FIELD_CHOICE,
     .text = "acknowledged",
     .choices = "acknowledged|always|never",
     .description =
         "which batches are synced to disk before they are accepted: those with QoS 1 or 2 "
         "messages, all, or none"},
    {.name = "rotate_bytes",
     .kind = SINK_FIELD_INTEGER,
     .max = 1099511627776,
     .unit = "bytes",
     .description = "size at which the file is moved away to PATH.TIME; 0: never"},
    {.name = "rotate_ms",
     .kind = SINK_FIELD_INTEGER,
     .max = 31536000000,
     .unit = "ms",
     .description = "age at which the file is moved away; 0: never"},
    {.name = "rotate_keep",
     .kind = SINK_FIELD_INTEGER,
     .max = 1000,
     .unit = "files",
     .description = "number of files moved away that are kept; older ones are deleted; 0: all"},
    {.name = "compress",
     .kind = SINK_FIELD_CHOICE,
     .text = "none",
     .choices = "none|gzip",
     .description = "how files that were moved away are compressed"},
    {0}};

enum file_sink_fsync { FSYNC_ACKNOWLEDGED, FSYNC_ALWAYS, FSYNC_NEVER };

struct file_sink {
    const char *node;
    struct sink_template line; /* without a template: a JSON object */
    struct line_file file;
    struct archive *archive;
    enum file_sink_fsync fsync;
    int64_t rotate_bytes, rotate_ms; /* 0: never */
    struct buffer lines;
};

/* A missing folder at the start is a fault of the settings. An error of the file may be
 * temporary, so it is a state of the sink. */
static bool file_sink_folder_exists(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? text_copy(path, (size_t)(slash - path) + 1) : NULL;
    bool there = !slash || (folder && access(folder, F_OK) == 0);
    free(folder);
    return there;
}

static enum file_sink_fsync file_sink_parse_fsync(const char *name) {
    return strcmp(name, "always") == 0  ? FSYNC_ALWAYS
           : strcmp(name, "never") == 0 ? FSYNC_NEVER
                                        : FSYNC_ACKNOWLEDGED;
}

static void file_sink_close(void *state) {
    struct file_sink *sink = state;
    line_file_close(&sink->file);
    archive_destroy(sink->archive);
    sink_template_fini(&sink->line);
    buffer_fini(&sink->lines);
    free(sink);
}

/* Line ends in the values are only found when a line is made. */
static enum err file_sink_compile_line(struct file_sink *sink,
                                       const struct sink_environment *environment,
                                       const json_t *settings, char *fault) {
    const char *line = sink_settings_text(settings, "line");
    if (strpbrk(line, "\r\n")) {
        snprintf(fault, SINK_FAULT_LEN, "line must not contain a line end");
        return ERR_ARGUMENT;
    }
    return *line ? sink_template_init(&sink->line, environment, settings, "line", fault) : ERR_OK;
}

static enum err file_sink_open(void **state, const struct sink_environment *environment,
                               const json_t *settings, char *fault) {
    const char *path = sink_settings_text(settings, "path");
    if (!file_sink_folder_exists(path)) {
        snprintf(fault, SINK_FAULT_LEN, "path %.150s: its folder does not exist", path);
        return ERR_ARGUMENT;
    }
    struct file_sink *sink = calloc(1, sizeof *sink);
    if (!sink) {
        return ERR_MEMORY;
    }
    sink->node = environment->node;
    sink->fsync = file_sink_parse_fsync(sink_settings_text(settings, "fsync"));
    sink->rotate_bytes = sink_settings_integer(settings, "rotate_bytes");
    sink->rotate_ms = sink_settings_integer(settings, "rotate_ms");
    line_file_init(&sink->file, path);
    buffer_init(&sink->lines);
    bool compress = strcmp(sink_settings_text(settings, "compress"), "gzip") == 0;
    size_t keep = (size_t)sink_settings_integer(settings, "rotate_keep");
    sink->archive = archive_create(path, compress, keep);
    enum err err =
        sink->archive ? file_sink_compile_line(sink, environment, settings, fault) : ERR_MEMORY;
    if (err != ERR_OK) {
        file_sink_close(sink);
        return err;
    }
    *state = sink;
    return ERR_OK;
}

/* --- a batch --- */

static size_t file_sink_count_lines(const struct buffer *lines, size_t len) {
    size_t count = 0;
    for (size_t i = 0; i < len; i++) {
        count += lines->data[i] == '\n';
    }
    return count;
}

/* The index behind the message of line n. Each message that was not rejected has one line. */
static size_t file_sink_lines_end(const struct sink_batch *batch, size_t n) {
    size_t i = 0;
    for (; n > 0 && i < batch->count; i++) {
        n -= batch->outcomes[i] != SINK_REJECTED;
    }
    return i;
}

/* The broker forgets an acknowledged message, so it must be on the disk. end: index. */
static bool file_sink_must_sync(const struct file_sink *sink, const struct sink_batch *batch,
                                size_t end) {
    bool sync = sink->fsync == FSYNC_ALWAYS && end > 0;
    for (size_t i = 0; !sync && sink->fsync == FSYNC_ACKNOWLEDGED && i < end; i++) {
        sync = batch->messages[i]->qos > 0 && batch->outcomes[i] != SINK_REJECTED;
    }
    return sync;
}

static void file_sink_accept(struct sink_batch *batch, size_t end) {
    for (size_t i = 0; i < end; i++) {
        if (batch->outcomes[i] != SINK_REJECTED) {
            sink_batch_accept(batch, i);
        }
    }
}

/* By template. A message whose line would be two is rejected. */
static enum err file_sink_format_line(struct file_sink *sink, struct sink_batch *batch, size_t i) {
    struct buffer *lines = &sink->lines;
    size_t begin = lines->len;
    char reason[SINK_REASON_LEN];
    enum err err = sink_template_render(&sink->line, batch->messages[i], lines, reason);
    if (err == ERR_OK && lines->len > begin &&
        (memchr(lines->data + begin, '\n', lines->len - begin) ||
         memchr(lines->data + begin, '\r', lines->len - begin))) {
        snprintf(reason, sizeof reason, "line: it would contain a line end; :json escapes it");
        err = ERR_NOT_FOUND;
    }
    if (err == ERR_NOT_FOUND && !lines->failed) {
        lines->len = begin;
        sink_batch_reject(batch, i, "%s", reason);
        return ERR_OK;
    }
    buffer_append(lines, "\n", 1);
    return err;
}

static enum err file_sink_format_lines(struct file_sink *sink, struct sink_batch *batch) {
    enum err err = ERR_OK;
    buffer_clear(&sink->lines);
    for (size_t i = 0; i < batch->count && err == ERR_OK; i++) {
        if (sink->line.template) {
            err = file_sink_format_line(sink, batch, i);
        } else {
            message_json_append(&sink->lines, batch->messages[i], sink->node);
            buffer_append(&sink->lines, "\n", 1);
        }
    }
    if (err != ERR_OK || sink->lines.failed) {
        buffer_fini(&sink->lines);
        buffer_init(&sink->lines);
        return sink_batch_fail(batch, ERR_MEMORY, "out of memory");
    }
    return ERR_OK;
}

/* If the file cannot be moved away, the sink keeps writing to it and only reports the failure. */
static void file_sink_rotate_if_due(struct file_sink *sink) {
    const struct line_file *file = &sink->file;
    bool large = sink->rotate_bytes > 0 && file->size >= sink->rotate_bytes;
    bool old = sink->rotate_ms > 0 && file->size > 0 &&
               clock_wall_ms() - file->created_at_ms >= sink->rotate_ms;
    if (file->fd >= 0 && (large || old) && archive_take(sink->archive)) {
        line_file_close(&sink->file);
    }
    archive_work(sink->archive);
}

static enum err file_sink_write(void *state, struct sink_batch *batch) {
    struct file_sink *sink = state;
    size_t len = 0;
    enum err err = file_sink_format_lines(sink, batch);
    if (err == ERR_OK) {
        err = line_file_ensure_open(&sink->file, batch->error);
    }
    if (err == ERR_OK) {
        err = line_file_append(&sink->file, &sink->lines, &len, batch->error);
    }
    size_t end = file_sink_lines_end(batch, file_sink_count_lines(&sink->lines, len));
    if (file_sink_must_sync(sink, batch, end)) {
        enum err synced = line_file_sync(&sink->file, batch->error);
        if (synced != ERR_OK) {
            return synced;
        }
    }
    file_sink_accept(batch, end);
    file_sink_rotate_if_due(sink);
    return err;
}

static void file_sink_maintain(void *state) {
    file_sink_rotate_if_due(state);
}

static void file_sink_test(const struct sink_environment *environment, const json_t *settings,
                           const struct sink_test_report *report) {
    const char *path = sink_settings_text(settings, "path");
    char detail[SINK_FAULT_LEN];
    const char *slash = strrchr(path, '/');
    char *folder = slash ? text_copy(path, (size_t)(slash - path) + 1) : text_copy("./", 2);
    (void)environment;
    bool exists = folder && access(folder, F_OK) == 0;
    snprintf(detail, sizeof detail, "folder %.150s: %s", folder ? folder : "?",
             exists ? "exists" : strerror(errno));
    report->step(report->context, "folder", exists, detail, "create the folder on this node");
    if (exists) {
        bool is_new = access(path, F_OK) != 0;
        bool writable = access(is_new ? folder : path, W_OK) == 0;
        snprintf(detail, sizeof detail, "%.150s: %s", is_new ? folder : path,
                 writable ? "may be written" : strerror(errno));
        report->step(report->context, "permission", writable, detail,
                     "allow the user of mqfleetd to write there (ReadWritePaths= of the unit)");
    }
    free(folder);
}

const struct sink_type sink_type_file = {.version = MQFLEET_VERSION,
                                         .name = "file",
                                         .fields = file_sink_fields,
                                         .open = file_sink_open,
                                         .write = file_sink_write,
                                         .close = file_sink_close,
                                         .maintain = file_sink_maintain,
                                         .test = file_sink_test};
