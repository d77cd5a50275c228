/* Owns the hashes of the accepted secrets and the text of the secret to send. Any thread. */
#include "cluster/membership/fleet_secret.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secrets/secret_file.h"
#include "base/text.h"

struct fleet_secret {
    char *path;           /* "": none */
    pthread_mutex_t lock; /* guards what follows */
    unsigned char accepted[FLEET_SECRETS_MAX][SECRET_HASH_LEN];
    size_t accepted_count;
    char current[FLEET_SECRET_LEN_MAX + 1];
};

static enum err fleet_secret_check_lines(const struct secret_file *file, const char *path,
                                         char *fault) {
    if (file->count == 0 || file->count > FLEET_SECRETS_MAX) {
        snprintf(fault, SECRET_FAULT_LEN, "%.150s: must contain 1 to %d secrets, one per line",
                 path, FLEET_SECRETS_MAX);
        return ERR_ARGUMENT;
    }
    for (size_t i = 0; i < file->count; i++) {
        size_t len = strlen(file->lines[i].text);
        bool printable = true;
        for (const char *at = file->lines[i].text; *at != '\0'; at++) {
            printable = printable && *at > ' ' && *at < 0x7F;
        }
        if (len < FLEET_SECRET_LEN_MIN || len > FLEET_SECRET_LEN_MAX || !printable) {
            snprintf(fault, SECRET_FAULT_LEN,
                     "%.120s line %zu: a secret must be %d to %d printable ASCII characters "
                     "without blanks",
                     path, file->lines[i].number, FLEET_SECRET_LEN_MIN, FLEET_SECRET_LEN_MAX);
            return ERR_ARGUMENT;
        }
    }
    return ERR_OK;
}

enum err fleet_secret_reload(struct fleet_secret *secret, char *fault) {
    if (secret->path[0] == '\0') {
        return ERR_OK;
    }
    struct secret_file file;
    enum err err = secret_file_load(secret->path, &file, fault);
    if (err == ERR_OK) {
        err = fleet_secret_check_lines(&file, secret->path, fault);
    }
    if (err == ERR_OK) {
        pthread_mutex_lock(&secret->lock);
        secret->accepted_count = file.count;
        for (size_t i = 0; i < file.count; i++) {
            secret_hash(file.lines[i].text, strlen(file.lines[i].text), secret->accepted[i]);
        }
        snprintf(secret->current, sizeof(secret->current), "%s", file.lines[0].text);
        pthread_mutex_unlock(&secret->lock);
    }
    secret_file_fini(&file);
    return err;
}

enum err fleet_secret_create(struct fleet_secret **out, const char *path, char *fault) {
    *out = NULL;
    struct fleet_secret *secret = calloc(1, sizeof *secret);
    char *copy = text_dup(path);
    if (!secret || !copy) {
        free(secret);
        free(copy);
        snprintf(fault, SECRET_FAULT_LEN, "out of memory");
        return ERR_MEMORY;
    }
    secret->path = copy;
    pthread_mutex_init(&secret->lock, NULL);
    enum err err = fleet_secret_reload(secret, fault);
    if (err != ERR_OK) {
        fleet_secret_destroy(secret);
        return err;
    }
    *out = secret;
    return ERR_OK;
}

void fleet_secret_destroy(struct fleet_secret *secret) {
    if (!secret) {
        return;
    }
    pthread_mutex_destroy(&secret->lock);
    secret_wipe(secret->current, sizeof(secret->current));
    free(secret->path);
    free(secret);
}

bool fleet_secret_exists(const struct fleet_secret *secret) {
    return secret && secret->path[0] != '\0';
}

bool fleet_secret_matches(struct fleet_secret *secret, const char *presented) {
    unsigned char hash[SECRET_HASH_LEN];
    bool matching = false;
    secret_hash(presented, strlen(presented), hash);
    pthread_mutex_lock(&secret->lock);
    for (size_t i = 0; i < secret->accepted_count; i++) {
        matching |= secret_compare(hash, secret->accepted[i], sizeof(hash)) == 0;
    }
    pthread_mutex_unlock(&secret->lock);
    return matching;
}

bool fleet_secret_current(struct fleet_secret *secret, char out[FLEET_SECRET_LEN_MAX + 1]) {
    if (!fleet_secret_exists(secret)) {
        return false;
    }
    pthread_mutex_lock(&secret->lock);
    memcpy(out, secret->current, sizeof(secret->current));
    pthread_mutex_unlock(&secret->lock);
    return true;
}
