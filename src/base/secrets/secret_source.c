/* Owns the rules for references to secrets, and reads the secrets. Any thread. */
#include "base/secrets/secret_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/secrets/client_file.h"
#include "base/secrets/small_file.h"
#include "base/text.h"

#define ENV_NAME_MAX 256
#define PATH_LEN_MAX 4095
#define OWN_PREFIX   "MQFLEET_" /* the node's own environment settings, which include passwords */

static bool secret_source_is_env_name(const char *name) {
    static const char ALLOWED[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    size_t len = strlen(name);
    return len > 0 && len <= ENV_NAME_MAX && strspn(name, ALLOWED) == len;
}

static bool secret_source_is_secret_path(const char *path) {
    size_t len = strlen(path);
    return path[0] == '/' && len <= PATH_LEN_MAX && text_is_utf8(path, len) &&
           !text_has_control(path, len) && !strstr(path, "/../");
}

char *secret_source_parse(const json_t *value, const char **why) {
    const char *file = json_string_value(json_object_get(value, "file"));
    const char *env = json_string_value(json_object_get(value, "env"));
    char *source = NULL;
    if (json_object_size(value) != 1 || (!file && !env)) {
        *why = "must be the secret itself, {\"file\": path} or {\"env\": name}";
    } else if (file && !secret_source_is_secret_path(file)) {
        *why = "must name the absolute path of a file, without \"..\"";
    } else if (env && !secret_source_is_env_name(env)) {
        *why = "must name a variable of letters, digits and _";
    } else if (asprintf(&source, "%s%s", file ? SECRET_FROM_FILE : SECRET_FROM_ENV,
                        file ? file : env) < 0) {
        source = NULL; /* why is kept */
    }
    return source;
}

static const char *secret_source_skip_prefix(const char *text, const char *prefix) {
    size_t len = strlen(prefix);
    return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

static bool secret_source_file_allowed(const struct conf *conf, const char *path, char *fault) {
    const char *why = client_file_refusal(conf, CLIENT_FILE_PRIVATE, path);
    if (why) {
        snprintf(fault, SECRET_BOX_FAULT_LEN, "the file %.100s may not be read: %s", path, why);
    }
    return !why;
}

static bool secret_source_env_allowed(const struct conf *conf, const char *name, char *fault) {
    const char *prefix = conf->secrets_env_prefix;
    if (prefix[0] == '\0') {
        snprintf(fault, SECRET_BOX_FAULT_LEN,
                 "no environment variable may be read: this node's secrets.env_prefix is empty");
        return false;
    }
    if (!secret_source_skip_prefix(name, prefix) || secret_source_skip_prefix(name, OWN_PREFIX)) {
        snprintf(fault, SECRET_BOX_FAULT_LEN,
                 "the variable %.64s does not begin with this node's secrets.env_prefix, %.64s",
                 name, prefix);
        return false;
    }
    return true;
}

bool secret_source_allowed(const struct conf *conf, const char *source,
                           char fault[SECRET_BOX_FAULT_LEN]) {
    const char *path = secret_source_skip_prefix(source, SECRET_FROM_FILE);
    return path ? secret_source_file_allowed(conf, path, fault)
                : secret_source_env_allowed(conf, source + strlen(SECRET_FROM_ENV), fault);
}

static enum err secret_source_refuse(char *fault, const char *path, const char *why) {
    snprintf(fault, SECRET_BOX_FAULT_LEN, "the file %.100s cannot be read: %s", path, why);
    return ERR_NOT_FOUND;
}

static enum err secret_source_read_file(const struct conf *conf, const char *path, char **data,
                                        size_t *len, char *fault) {
    char link[CLIENT_FILE_LINK_LEN];
    struct stat status;
    const char *why;
    int fd = client_file_find(conf, CLIENT_FILE_PRIVATE, path, &status, &why);
    if (fd < 0) {
        return secret_source_refuse(fault, path, why);
    }
    enum err err;
    client_file_link(fd, link);
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        err = secret_source_refuse(fault, path,
                                   "it is writable by users other than its owner: chmod go-w");
    } else if (small_file_read(link, SECRET_SOURCE_BYTES_MAX, data, len, NULL, &why) != ERR_OK) {
        err = secret_source_refuse(fault, path, why);
    } else {
        err = ERR_OK;
    }
    close(fd);
    return err;
}

/* Most editors add one newline at the end. */
static void secret_source_strip_newline(char *data, size_t *len) {
    if (*len > 0 && data[*len - 1] == '\n') {
        data[--*len] = '\0';
        if (*len > 0 && data[*len - 1] == '\r') {
            data[--*len] = '\0';
        }
    }
}

static enum err secret_source_read_env(const char *name, char **data, size_t *len, char *fault) {
    const char *value = getenv(name); /* no thread changes the environment after the start */
    if (!value) {
        snprintf(fault, SECRET_BOX_FAULT_LEN, "the variable %.64s is not set on this node", name);
        return ERR_NOT_FOUND;
    }
    *len = strlen(value);
    *data = text_dup(value);
    return *data ? ERR_OK : ERR_MEMORY;
}

enum err secret_source_read(const struct conf *conf, const char *source, char **secret,
                            char fault[SECRET_BOX_FAULT_LEN]) {
    const char *path = secret_source_skip_prefix(source, SECRET_FROM_FILE);
    char *data = NULL;
    size_t len = 0;
    *secret = NULL;
    if (!secret_source_allowed(conf, source, fault)) {
        return ERR_REFUSED;
    }
    enum err err =
        path ? secret_source_read_file(conf, path, &data, &len, fault)
             : secret_source_read_env(source + strlen(SECRET_FROM_ENV), &data, &len, fault);
    if (err != ERR_OK) {
        return err;
    }
    secret_source_strip_newline(data, &len);
    if (len == 0 || strlen(data) != len || len > SECRET_SOURCE_BYTES_MAX - 1) {
        snprintf(fault, SECRET_BOX_FAULT_LEN, "%.100s is %s", source,
                 len == 0 ? "empty" : "not text of at most 65535 bytes");
        explicit_bzero(data, len);
        free(data);
        return ERR_NOT_FOUND;
    }
    *secret = data;
    return ERR_OK;
}
