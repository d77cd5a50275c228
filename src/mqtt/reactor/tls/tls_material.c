/* Owns the reading of certificates and keys: PEM text from the configuration, or regular files of
 * limited size. Worker thread. Keys pass through here, so no message may contain text of a
 * material. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/secrets/client_file.h"
#include "base/text.h"
#include "mqtt/reactor/stream/stream_fault.h"
#include "tls_internal.h"

#define TLS_MATERIAL_FILE_MAX (4 * 1024 * 1024)

static bool tls_material_is_path(const char *setting) {
    return setting[0] == '/'; /* the same rule as in the check of the configuration */
}

static enum err tls_material_set_unreadable(const char *name, const char *path, const char *why,
                                            struct stream_fault *fault) {
    stream_fault_format(fault, CLIENT_ERROR_TLS_FILE_UNREADABLE, "%s cannot be read: %s: %s", name,
                        why, path);
    return ERR_IO;
}

static bool tls_material_digest_file(EVP_MD_CTX *digest, const char *path,
                                     const struct stat *status) {
    const int64_t marks[] = {
        (int64_t)status->st_dev,          (int64_t)status->st_ino,
        (int64_t)status->st_size,         (int64_t)status->st_mtim.tv_sec,
        (int64_t)status->st_mtim.tv_nsec, (int64_t)status->st_ctim.tv_sec,
        (int64_t)status->st_ctim.tv_nsec,
    };
    return EVP_DigestUpdate(digest, path, strlen(path) + 1) == 1 &&
           EVP_DigestUpdate(digest, marks, sizeof(marks)) == 1;
}

/* Nothing about a client's path may be revealed before it is known to be allowed. */
static enum client_file_kind tls_material_kind_of(const char *name) {
    return strcmp(name, TLS_MATERIAL_CA) == 0 ? CLIENT_FILE_AUTHORITY : CLIENT_FILE_PRIVATE;
}

static bool tls_material_digest_text(EVP_MD_CTX *digest, const char *text) {
    return EVP_DigestUpdate(digest, text, strlen(text) + 1) == 1;
}

static enum err tls_material_digest_fault(bool done, struct stream_fault *fault) {
    if (!done) {
        stream_fault_format(fault, CLIENT_ERROR_OUT_OF_MEMORY, "out of memory for TLS");
    }
    return done ? ERR_OK : ERR_MEMORY;
}

enum err tls_material_digest(const struct tls_contexts *contexts, const char *name,
                             const char *setting, struct stream_fault *fault) {
    if (!setting || !tls_material_is_path(setting)) {
        return tls_material_digest_fault(
            tls_material_digest_text(contexts->digest, setting ? setting : "none"), fault);
    }
    struct stat status;
    const char *why;
    int fd = client_file_find(contexts->conf, tls_material_kind_of(name), setting, &status, &why);
    if (fd < 0) {
        return tls_material_set_unreadable(name, setting, why, fault);
    }
    close(fd);
    return tls_material_digest_fault(tls_material_digest_file(contexts->digest, setting, &status),
                                     fault);
}

enum err tls_material_digest_system(const struct tls_contexts *contexts, const char *path,
                                    struct stream_fault *fault) {
    struct stat status;
    bool known = path && stat(path, &status) == 0;
    return tls_material_digest_fault(known
                                         ? tls_material_digest_file(contexts->digest, path, &status)
                                         : tls_material_digest_text(contexts->digest, "none"),
                                     fault);
}

/* Reads up to the size that the file had when it was opened; less if it has shrunk. */
static enum err tls_material_read_whole(int fd, size_t size, struct tls_material *out) {
    out->text = malloc(size + 1);
    if (!out->text) {
        return ERR_MEMORY;
    }
    while (out->len < size) {
        ssize_t n = read(fd, out->text + out->len, size - out->len);
        if (n < 0) {
            return ERR_IO;
        }
        if (n == 0) {
            break;
        }
        out->len += (size_t)n;
    }
    out->text[out->len] = '\0';
    return ERR_OK;
}

static enum err tls_material_read_file(const struct conf *conf, const char *name, const char *path,
                                       struct tls_material *out, struct stream_fault *fault) {
    struct stat status;
    const char *why;
    int fd = client_file_open(conf, tls_material_kind_of(name), path, &status, &why);
    if (fd < 0) {
        return tls_material_set_unreadable(name, path, why, fault);
    }
    enum err err;
    if (status.st_size > TLS_MATERIAL_FILE_MAX) {
        err = tls_material_set_unreadable(name, path, "it is larger than 4 MiB", fault);
    } else {
        err = tls_material_read_whole(fd, (size_t)status.st_size, out);
        if (err == ERR_IO) {
            err = tls_material_set_unreadable(name, path, strerrordesc_np(errno), fault);
        }
    }
    close(fd);
    return err;
}

enum err tls_material_read(const struct conf *conf, const char *name, const char *setting,
                           struct tls_material *out, struct stream_fault *fault) {
    *out = (struct tls_material){0};
    enum err err = ERR_OK;
    if (tls_material_is_path(setting)) {
        err = tls_material_read_file(conf, name, setting, out, fault);
    } else {
        out->text = text_dup(setting);
        out->len = strlen(setting);
        err = !out->text ? ERR_MEMORY : ERR_OK;
    }
    if (err == ERR_MEMORY) {
        stream_fault_format(fault, CLIENT_ERROR_OUT_OF_MEMORY, "out of memory for %s", name);
    }
    if (err != ERR_OK) {
        tls_material_fini(out);
    }
    return err;
}

void tls_material_fini(struct tls_material *material) {
    if (material->text) {
        OPENSSL_cleanse(material->text, material->len);
        free(material->text);
    }
    *material = (struct tls_material){0};
}
