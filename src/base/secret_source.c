/* Owns the rules of what a reference to a secret may name, and reads it. Any thread. Must not know
 * what the secret is for. */
#include "base/secret_source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/small_file.h"
#include "base/text.h"

#define GUARDED_MAX 64
#define OWN_PREFIX  "MQFLEET_" /* the node's own settings, with their passwords */

static const char *after(const char *text, const char *prefix) {
    size_t len = strlen(prefix);
    return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

static bool is_below(const char *path, const char *folder, size_t folder_len) {
    while (folder_len > 1 && folder[folder_len - 1] == '/') {
        folder_len--;
    }
    return strncmp(path, folder, folder_len) == 0 && path[folder_len] == '/';
}

/* Calls fits for each folder of the list until one fits. */
static bool any_folder(const char *list, const char *path,
                       bool (*fits)(const char *path, const char *folder, size_t len)) {
    for (size_t len; *list != '\0'; list += len + (list[len] == ',')) {
        len = strcspn(list, ",");
        if (fits(path, list, len)) {
            return true;
        }
    }
    return false;
}

/* Where the folder really is: a file's real path is compared with it. */
static bool is_really_below(const char *path, const char *folder, size_t len) {
    char *named = text_copy(folder, len);
    char *real = named != NULL ? realpath(named, NULL) : NULL;
    bool below = real != NULL && is_below(path, real, strlen(real));
    free(named);
    free(real);
    return below;
}

static bool file_allowed(const struct conf *conf, const char *path, char *fault) {
    if (conf->secrets_files_allow[0] == '\0') {
        snprintf(fault, SECRET_BOX_FAULT_LEN,
                 "no file may be read: this node's secrets.files_allow is empty");
        return false;
    }
    if (!any_folder(conf->secrets_files_allow, path, is_below) || strstr(path, "/../") != NULL) {
        snprintf(fault, SECRET_BOX_FAULT_LEN,
                 "the file %.100s is not below a folder of this node's secrets.files_allow", path);
        return false;
    }
    return true;
}

static bool env_allowed(const struct conf *conf, const char *name, char *fault) {
    const char *prefix = conf->secrets_env_prefix;
    if (prefix[0] == '\0') {
        snprintf(fault, SECRET_BOX_FAULT_LEN,
                 "no environment variable may be read: this node's secrets.env_prefix is empty");
        return false;
    }
    if (after(name, prefix) == NULL || after(name, OWN_PREFIX) != NULL) {
        snprintf(fault, SECRET_BOX_FAULT_LEN,
                 "the variable %.64s does not begin with this node's secrets.env_prefix, %.64s",
                 name, prefix);
        return false;
    }
    return true;
}

bool secret_source_allowed(const struct conf *conf, const char *source,
                           char fault[SECRET_BOX_FAULT_LEN]) {
    const char *path = after(source, SECRET_FROM_FILE);
    return path != NULL ? file_allowed(conf, path, fault)
                        : env_allowed(conf, source + strlen(SECRET_FROM_ENV), fault);
}

static enum err refuse(char *fault, const char *path, const char *why) {
    snprintf(fault, SECRET_BOX_FAULT_LEN, "the file %.100s cannot be read: %s", path, why);
    return ERR_NOT_FOUND;
}

static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static char *guarded[GUARDED_MAX]; /* never freed; under guard_lock, as the count */
static size_t guarded_count;

bool secret_source_guard(const char *path) {
    bool known = path == NULL || path[0] == '\0';
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

static bool is_same_file(const char *path, const struct stat *file) {
    struct stat status;
    return path != NULL && path[0] != '\0' && stat(path, &status) == 0 &&
           status.st_dev == file->st_dev && status.st_ino == file->st_ino;
}

bool secret_source_guard_own(const struct conf *conf) {
    const char *const own[] = {conf->secrets_key_file, conf->http_tokens_file,
                               conf->fleet_secret_file, conf->http_tls_key_file};
    bool guarded_all = true;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        guarded_all = secret_source_guard(own[i]) && guarded_all;
    }
    return guarded_all;
}

/* The node's own secrets are not for its clients, wherever they lie. The names are looked at each
 * time: what they are of changes. */
static bool is_own(const struct stat *file) {
    bool same = false;
    pthread_mutex_lock(&guard_lock);
    for (size_t i = 0; i < guarded_count; i++) {
        same = same || is_same_file(guarded[i], file);
    }
    pthread_mutex_unlock(&guard_lock);
    return same;
}

bool secret_source_is_guarded(int fd) {
    struct stat status;
    return fstat(fd, &status) != 0 || is_own(&status);
}

/* Links may lead about below the folders, as those of Kubernetes do, but not out of them: what
 * counts is where the file really is. It is looked at through a descriptor that opens nothing, so
 * that no name can change in between. */
static enum err read_file(const struct conf *conf, const char *path, char **data, size_t *len,
                          char *fault) {
    char link[64], real[PATH_MAX + 1];
    struct stat status;
    const char *why = NULL;
    enum err result;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        result = refuse(fault, path, strerrordesc_np(errno));
        goto out;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t real_len = readlink(link, real, sizeof(real) - 1);
    if (real_len < 0) {
        result = refuse(fault, path, strerrordesc_np(errno));
        goto out;
    }
    real[real_len] = '\0';
    if (!any_folder(conf->secrets_files_allow, real, is_really_below) || is_own(&status)) {
        refuse(fault, path, "it leads out of secrets.files_allow, or is the node's own");
        result = ERR_REFUSED;
        goto out;
    }
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        result = refuse(fault, path, "others than its owner may write to it: chmod go-w");
        goto out;
    }
    result = small_file_read(link, SECRET_SOURCE_BYTES_MAX, data, len, NULL, &why);
    if (result != ERR_OK) {
        result = refuse(fault, path, why);
    }
out:
    if (fd >= 0) {
        close(fd);
    }
    return result;
}

/* One newline at the end is the editor's. */
static void strip_newline(char *data, size_t *len) {
    if (*len > 0 && data[*len - 1] == '\n') {
        data[--*len] = '\0';
        if (*len > 0 && data[*len - 1] == '\r') {
            data[--*len] = '\0';
        }
    }
}

static enum err read_env(const char *name, char **data, size_t *len, char *fault) {
    const char *value = getenv(name); /* nobody sets variables once threads run */
    if (value == NULL) {
        snprintf(fault, SECRET_BOX_FAULT_LEN, "the variable %.64s is not set on this node", name);
        return ERR_NOT_FOUND;
    }
    *len = strlen(value);
    *data = text_dup(value);
    return *data != NULL ? ERR_OK : ERR_MEMORY;
}

enum err secret_source_read(const struct conf *conf, const char *source, char **secret,
                            char fault[SECRET_BOX_FAULT_LEN]) {
    const char *path = after(source, SECRET_FROM_FILE);
    char *data = NULL;
    size_t len = 0;
    *secret = NULL;
    if (!secret_source_allowed(conf, source, fault)) {
        return ERR_REFUSED;
    }
    enum err result = path != NULL ? read_file(conf, path, &data, &len, fault)
                                   : read_env(source + strlen(SECRET_FROM_ENV), &data, &len, fault);
    if (result != ERR_OK) {
        return result;
    }
    strip_newline(data, &len);
    if (len == 0 || strlen(data) != len || len > SECRET_SOURCE_BYTES_MAX - 1) {
        snprintf(fault, SECRET_BOX_FAULT_LEN, "%.100s is %s", source,
                 len == 0 ? "empty" : "no text of at most 65535 bytes");
        explicit_bzero(data, len);
        free(data);
        return ERR_NOT_FOUND;
    }
    *secret = data;
    return ERR_OK;
}
