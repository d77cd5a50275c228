/* Owns the names and the number of the earlier files, and the compression of one at a time:
 *
 *   path.STAMP --gzip, a part per step--> path.STAMP.gz.part --rename--> path.STAMP.gz
 *
 * The original is deleted only once the compressed one is on the disk. */
#include "archive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include "base/system/clock.h"
#include "base/telemetry/log.h"
#include "base/text.h"

#define STEP_BYTES  262144 /* read for one step: a few ms */
#define NAMES_MAX   4096   /* looked at in one step */
#define NAME_LEN    4096
#define RETRY_MS    10000
#define NAMES_TRIED 1000

struct archive {
    char *folder, *base; /* of path; the base ends with a dot */
    const char *path;
    bool compress;
    size_t keep;
    bool idle; /* nothing was found to do since the last file was moved away */
    int64_t retry_at_ms;
    int64_t last_stamp_ms; /* wall clock */
    int from;              /* being compressed; -1: none */
    gzFile to;
    char name[NAME_LEN]; /* of `from` */
};

/* ---- life ------------------------------------------------------------------------------------ */

static bool archive_split_path(struct archive *archive, const char *path) {
    const char *slash = strrchr(path, '/');
    archive->folder = slash ? text_copy(path, (size_t)(slash - path) + 1) : text_dup("./");
    const char *name = slash ? slash + 1 : path;
    archive->base = malloc(strlen(name) + 2);
    if (!archive->folder || !archive->base) {
        return false;
    }
    sprintf(archive->base, "%s.", name);
    return true;
}

struct archive *archive_create(const char *path, bool compress, size_t keep) {
    struct archive *archive = calloc(1, sizeof *archive);
    if (!archive) {
        return NULL;
    }
    archive->path = path;
    archive->compress = compress;
    archive->keep = keep;
    archive->from = -1;
    if (!archive_split_path(archive, path)) {
        archive_destroy(archive);
        return NULL;
    }
    return archive;
}

static void archive_abandon(struct archive *archive) {
    if (archive->to) {
        gzclose(archive->to);
        archive->to = NULL;
    }
    if (archive->from >= 0) {
        close(archive->from);
        archive->from = -1;
    }
}

void archive_destroy(struct archive *archive) {
    if (!archive) {
        return;
    }
    archive_abandon(archive);
    free(archive->folder);
    free(archive->base);
    free(archive);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* 20261130T120000.000Z, and perhaps what follows. */
static bool archive_is_stamp(const char *text) {
    static const char form[] = "########T######.###Z";
    for (size_t i = 0; form[i]; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (form[i] == '#' ? !digit : text[i] != form[i]) {
            return false;
        }
    }
    return true;
}

struct archive_scan {
    size_t count;                /* of earlier files, compressed or not */
    char oldest[NAME_LEN];       /* "": none */
    char uncompressed[NAME_LEN]; /* the oldest; "": none */
};

static void archive_note_older(char *oldest, const char *name) {
    if (*oldest == '\0' || strcmp(name, oldest) < 0) {
        snprintf(oldest, NAME_LEN, "%s", name);
    }
}

static void archive_look_at(const struct archive *archive, struct archive_scan *scan,
                            const char *name) {
    size_t base_len = strlen(archive->base);
    if (strncmp(name, archive->base, base_len) != 0 || !archive_is_stamp(name + base_len)) {
        return;
    }
    const char *rest = name + base_len + strlen("########T######.###Z");
    if (*rest == '\0') {
        archive_note_older(scan->uncompressed, name);
    }
    if (*rest == '\0' || strcmp(rest, ".gz") == 0) {
        archive_note_older(scan->oldest, name);
        scan->count++;
    }
}

static bool archive_scan(const struct archive *archive, struct archive_scan *scan) {
    DIR *folder = opendir(archive->folder);
    *scan = (struct archive_scan){0};
    if (!folder) {
        return false;
    }
    struct dirent *entry = readdir(folder);
    for (size_t i = 0; entry && i < NAMES_MAX; i++) {
        archive_look_at(archive, scan, entry->d_name);
        entry = readdir(folder);
    }
    closedir(folder);
    return true;
}

/* ---- work ------------------------------------------------------------------------------------ */

static void archive_postpone(struct archive *archive, const char *what) {
    int error = errno;
    archive_abandon(archive);
    archive->retry_at_ms = clock_ms() + RETRY_MS;
    log_event(LOG_WARN, "sink_archive_failed", KS("path", archive->path), KS("step", what),
              KS("error", strerror(error)));
}

/* EEXIST: there is a file of that name. Not every file system can tell (EINVAL). */
static bool archive_rename(const char *from, const char *to) {
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) {
        return true;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return false;
    }
    if (access(to, F_OK) == 0) {
        errno = EEXIST;
        return false;
    }
    return rename(from, to) == 0;
}

/* A time that no earlier file of this process has. */
static int64_t archive_next_stamp_ms(struct archive *archive) {
    int64_t now_ms = clock_wall_ms();
    archive->last_stamp_ms = now_ms > archive->last_stamp_ms ? now_ms : archive->last_stamp_ms + 1;
    return archive->last_stamp_ms;
}

static void archive_name_file(struct archive *archive, char name[NAME_LEN]) {
    char stamp[32];
    struct tm utc;
    int64_t at_ms = archive_next_stamp_ms(archive);
    time_t seconds = (time_t)(at_ms / 1000);
    gmtime_r(&seconds, &utc);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", &utc);
    snprintf(name, NAME_LEN, "%s.%s.%03dZ", archive->path, stamp, (int)(at_ms % 1000));
}

bool archive_take(struct archive *archive) {
    char name[NAME_LEN], compressed[NAME_LEN + 4];
    if (clock_ms() < archive->retry_at_ms) {
        return false;
    }
    errno = EEXIST;
    for (int i = 0; i < NAMES_TRIED && errno == EEXIST; i++) {
        archive_name_file(archive, name);
        snprintf(compressed, sizeof compressed, "%s.gz", name);
        if (access(compressed, F_OK) == 0) {
            continue;
        }
        if (archive_rename(archive->path, name)) {
            archive->idle = false;
            return true;
        }
    }
    archive_postpone(archive, "move");
    return false;
}

static void archive_begin(struct archive *archive, const char *name) {
    char part[NAME_LEN + 16];
    int needed = snprintf(archive->name, sizeof archive->name, "%s%s", archive->folder, name);
    if (needed < 0 || (size_t)needed >= sizeof archive->name) {
        errno = ENAMETOOLONG;
        archive_postpone(archive, "name");
        return;
    }
    snprintf(part, sizeof part, "%s.gz.part", archive->name);
    archive->from = open(archive->name, O_RDONLY | O_CLOEXEC);
    int to = archive->from < 0 ? -1 : open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    archive->to = to < 0 ? NULL : gzdopen(to, "wb6");
    if (!archive->to) {
        if (to >= 0) {
            close(to);
        }
        archive_postpone(archive, "open");
    }
}

static bool archive_sync(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return synced;
}

static void archive_end(struct archive *archive) {
    char part[NAME_LEN + 16], whole[NAME_LEN + 16];
    snprintf(part, sizeof part, "%s.gz.part", archive->name);
    snprintf(whole, sizeof whole, "%s.gz", archive->name);
    gzFile to = archive->to;
    archive->to = NULL;
    bool done = gzclose(to) == Z_OK && archive_sync(part, O_WRONLY) && rename(part, whole) == 0 &&
                archive_sync(archive->folder, O_RDONLY | O_DIRECTORY) && unlink(archive->name) == 0;
    if (!done) {
        archive_postpone(archive, "compress");
        return;
    }
    archive_abandon(archive);
}

static void archive_step(struct archive *archive) {
    static _Thread_local char data[STEP_BYTES];
    ssize_t n = read(archive->from, data, sizeof data);
    if (n == 0) {
        archive_end(archive);
    } else if (n < 0 || gzwrite(archive->to, data, (unsigned)n) != (int)n) {
        archive_postpone(archive, "compress");
    }
}

static void archive_delete(struct archive *archive, const char *name) {
    char path[NAME_LEN * 2];
    snprintf(path, sizeof path, "%s%s", archive->folder, name);
    if (unlink(path) != 0 && errno != ENOENT) {
        archive_postpone(archive, "delete");
    }
}

void archive_work(struct archive *archive) {
    if (archive->from >= 0) {
        archive_step(archive);
        return;
    }
    bool wanted = archive->compress || archive->keep > 0;
    if (!wanted || archive->idle || clock_ms() < archive->retry_at_ms) {
        return;
    }
    struct archive_scan scan;
    if (!archive_scan(archive, &scan)) {
        archive_postpone(archive, "list");
    } else if (archive->keep > 0 && scan.count > archive->keep) {
        archive_delete(archive, scan.oldest);
    } else if (archive->compress && *scan.uncompressed) {
        archive_begin(archive, scan.uncompressed);
    } else {
        archive->idle = true;
    }
}
