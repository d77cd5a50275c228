/* Owns the list of the node's own files and the rules for the files of clients. Any thread. */
#include "base/secrets/client_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"

#define GUARDED_MAX 64

/* Public on every machine. Most files in the first are links into the others. */
#define SYSTEM_FOLDERS                                                                             \
    "/etc/ssl/certs,/usr/lib/ssl/certs,/usr/share/ca-certificates,/usr/local/share/ca-certificates"

/* ---- the node's own files -------------------------------------------------------------------- */

static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static char *guarded[GUARDED_MAX]; /* never freed; guard_lock guards it and the count */
static size_t guarded_count;

bool client_file_guard(const char *path) {
    bool known = !path || path[0] == '\0';
    pthread_mutex_lock(&guard_lock);
    for (size_t i = 0; i < guarded_count; i++) {
        known = known || strcmp(guarded[i], path) == 0;
    }
    if (!known && guarded_count < GUARDED_MAX) {
        guarded[guarded_count] = strdup(path);
        known = guarded[guarded_count] != NULL;
        guarded_count += known;
    }
    pthread_mutex_unlock(&guard_lock);
    return known;
}

bool client_file_guard_own(const struct conf *conf) {
    const char *const own[] = {conf->secrets_key_file, conf->http_tokens_file,
                               conf->fleet_secret_file, conf->http_tls_key_file,
                               conf->redis_tls_key_file};
    bool guarded_all = true;
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        guarded_all = client_file_guard(own[i]) && guarded_all;
    }
    return guarded_all;
}

static bool client_file_is_same(const char *path, const struct stat *file) {
    struct stat status;
    return stat(path, &status) == 0 && status.st_dev == file->st_dev &&
           status.st_ino == file->st_ino;
}

/* Looks the names up each time, because the files behind them may change. */
static bool client_file_is_own(const struct stat *file) {
    bool same = false;
    pthread_mutex_lock(&guard_lock);
    for (size_t i = 0; i < guarded_count; i++) {
        same = same || client_file_is_same(guarded[i], file);
    }
    pthread_mutex_unlock(&guard_lock);
    return same;
}

/* ---- folders --------------------------------------------------------------------------------- */

static bool client_file_is_below(const char *path, const char *folder, size_t folder_len) {
    while (folder_len > 1 && folder[folder_len - 1] == '/') {
        folder_len--;
    }
    return strncmp(path, folder, folder_len) == 0 && path[folder_len] == '/';
}

/* For a path without links. A folder that is a link itself is resolved. */
static bool client_file_is_really_below(const char *path, const char *folder, size_t len) {
    if (client_file_is_below(path, folder, len)) {
        return true;
    }
    char *named = text_copy(folder, len);
    char *real = named ? realpath(named, NULL) : NULL;
    bool below = real && client_file_is_below(path, real, strlen(real));
    free(named);
    free(real);
    return below;
}

typedef bool client_file_fits(const char *path, const char *folder, size_t len);

static bool client_file_any_folder(const char *list, const char *path, client_file_fits *fits) {
    for (size_t len; *list != '\0'; list += len + (list[len] == ',')) {
        len = strcspn(list, ",");
        if (fits(path, list, len)) {
            return true;
        }
    }
    return false;
}

static bool client_file_is_within(const struct conf *conf, enum client_file_kind kind,
                                  const char *path, client_file_fits *fits) {
    const char *allowed = conf->secrets_files_allow ? conf->secrets_files_allow : "";
    return client_file_any_folder(allowed, path, fits) ||
           (kind == CLIENT_FILE_AUTHORITY && client_file_any_folder(SYSTEM_FOLDERS, path, fits));
}

/* ---- files ----------------------------------------------------------------------------------- */

static bool client_file_climbs(const char *path) {
    size_t len = strlen(path);
    return strstr(path, "/../") || (len >= 3 && strcmp(path + len - 3, "/..") == 0);
}

const char *client_file_refusal(const struct conf *conf, enum client_file_kind kind,
                                const char *path) {
    if (client_file_is_within(conf, kind, path, client_file_is_below) &&
        !client_file_climbs(path)) {
        return NULL;
    }
    return conf->secrets_files_allow && conf->secrets_files_allow[0] != '\0'
               ? "it is not below a folder of this node's secrets.files_allow"
               : "this node's secrets.files_allow is empty";
}

void client_file_link(int fd, char link[CLIENT_FILE_LINK_LEN]) {
    snprintf(link, CLIENT_FILE_LINK_LEN, "/proc/self/fd/%d", fd);
}

/* Links may point anywhere below the folders, as those of Kubernetes do, but not out of them. The
 * resolved location counts. */
static bool client_file_is_allowed(const struct conf *conf, enum client_file_kind kind, int fd,
                                   struct stat *status) {
    char link[CLIENT_FILE_LINK_LEN], real[PATH_MAX + 1];
    if (fd < 0 || fstat(fd, status) != 0) {
        return false;
    }
    client_file_link(fd, link);
    ssize_t len = readlink(link, real, sizeof real - 1);
    if (len < 0) {
        return false;
    }
    real[len] = '\0';
    return client_file_is_within(conf, kind, real, client_file_is_really_below) &&
           !client_file_is_own(status);
}

int client_file_find(const struct conf *conf, enum client_file_kind kind, const char *path,
                     struct stat *status, const char **why) {
    *why = client_file_refusal(conf, kind, path);
    if (*why) {
        return -1;
    }
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (!client_file_is_allowed(conf, kind, fd, status)) {
        /* One answer for all cases: a specific one would reveal which files exist elsewhere. */
        *why = "it does not exist, is outside secrets.files_allow, or is a file of the node itself";
    } else if (!S_ISREG(status->st_mode)) {
        *why = "it is not a regular file";
    } else {
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

int client_file_open(const struct conf *conf, enum client_file_kind kind, const char *path,
                     struct stat *status, const char **why) {
    char link[CLIENT_FILE_LINK_LEN];
    int found = client_file_find(conf, kind, path, status, why);
    if (found < 0) {
        return -1;
    }
    client_file_link(found, link);
    int fd = open(link, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        *why = strerrordesc_np(errno);
    }
    close(found);
    return fd;
}
