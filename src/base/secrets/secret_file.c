/* Reads files of secrets and wraps the OpenSSL functions that compare them. Any thread. */
#include "base/secrets/secret_file.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "base/telemetry/log.h"
#include "base/secrets/small_file.h"

void secret_wipe(void *data, size_t len) {
    if (data) {
        OPENSSL_cleanse(data, len);
    }
}

void secret_hash(const void *data, size_t len, unsigned char out[SECRET_HASH_LEN]) {
    int ok = EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL);
    assert(ok == 1);
    (void)ok;
}

int secret_compare(const void *left, const void *right, size_t len) {
    return CRYPTO_memcmp(left, right, len);
}

enum err secret_random(void *out, size_t len) {
    return getrandom(out, len, 0) == (ssize_t)len ? ERR_OK : ERR_UNAVAILABLE;
}

/* ---- files ----------------------------------------------------------------------------------- */

static enum err secret_file_refuse(char fault[SECRET_FAULT_LEN], const char *path,
                                   const char *why) {
    snprintf(fault, SECRET_FAULT_LEN, "%.150s: %s", path, why);
    return ERR_ARGUMENT;
}

enum err secret_file_read(const char *path, unsigned char **data, size_t *len,
                          char fault[SECRET_FAULT_LEN]) {
    unsigned mode = 0;
    const char *why;
    char *text;
    *data = NULL;
    *len = 0;
    if (small_file_read(path, SECRET_FILE_BYTES_MAX, &text, len, &mode, &why) != ERR_OK) {
        return secret_file_refuse(fault, path, why);
    }
    if ((mode & (S_IWGRP | S_IWOTH)) != 0) {
        secret_wipe(text, *len);
        free(text);
        return secret_file_refuse(fault, path,
                                  "is writable by users other than its owner: chmod go-w");
    }
    *data = (unsigned char *)text;
    return ERR_OK;
}

void secret_file_warn(const char *path) {
    struct stat status;
    if (stat(path, &status) == 0 && (status.st_mode & S_IROTH) != 0) {
        log_event(LOG_WARN, "secret_readable_by_all", KS("file", path), KS("do", "chmod o-r"));
    }
}

static char *secret_file_trim(char *text) {
    text += strspn(text, " \t\r");
    size_t len = strlen(text);
    while (len > 0 && strchr(" \t\r", text[len - 1])) {
        text[--len] = '\0';
    }
    return text;
}

static size_t secret_file_count_lines(const char *data) {
    size_t count = 1;
    for (const char *at = strchr(data, '\n'); at; at = strchr(at + 1, '\n')) {
        count++;
    }
    return count;
}

enum err secret_file_load(const char *path, struct secret_file *out, char fault[SECRET_FAULT_LEN]) {
    *out = (struct secret_file){0};
    unsigned char *data = NULL;
    enum err err = secret_file_read(path, &data, &out->len, fault);
    out->data = (char *)data;
    if (err == ERR_OK && strlen(out->data) != out->len) {
        err = secret_file_refuse(fault, path, "contains a NUL character: must be text");
    }
    if (err != ERR_OK) {
        return err;
    }
    out->lines = calloc(secret_file_count_lines(out->data), sizeof *out->lines);
    if (!out->lines) {
        return secret_file_refuse(fault, path, "out of memory");
    }
    char *rest = out->data;
    size_t number = 0;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        number++;
        line = secret_file_trim(line);
        if (line[0] != '\0' && line[0] != '#') {
            out->lines[out->count++] = (struct secret_line){number, line};
        }
    }
    return ERR_OK;
}

void secret_file_fini(struct secret_file *file) {
    secret_wipe(file->data, file->len);
    free(file->data);
    free(file->lines);
    *file = (struct secret_file){0};
}
