/* Owns the reading of certificates and keys: PEM text from the configuration, or regular files of a
 * sensible size. Host thread; knows nothing of what the PEM means. Keys pass through here: no text
 * of a material may reach a message. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/secret_source.h"
#include "base/text.h"
#include "fault.h"
#include "tls_internal.h"

#define FILE_MAX (4 * 1024 * 1024)

static bool is_path(const char *setting) {
    return setting[0] == '/'; /* as the configuration's check has it */
}

static enum err unreadable(const char *name, const char *path, const char *why,
                           struct stream_fault *fault) {
    fault_tell(fault, CLIENT_ERROR_TLS_FILE_UNREADABLE, "%s cannot be read, %s: %s", name, why,
               path);
    return ERR_IO;
}

static const char *status_fault(const struct stat *status) {
    if (!S_ISREG(status->st_mode)) {
        return "it is no regular file";
    }
    return status->st_size > FILE_MAX ? "it is larger than 4 MiB" : NULL;
}

static bool digest_file(EVP_MD_CTX *digest, const char *path, const struct stat *status) {
    const int64_t marks[] = {
        (int64_t)status->st_dev,          (int64_t)status->st_ino,
        (int64_t)status->st_size,         (int64_t)status->st_mtim.tv_sec,
        (int64_t)status->st_mtim.tv_nsec, (int64_t)status->st_ctim.tv_sec,
        (int64_t)status->st_ctim.tv_nsec,
    };
    return EVP_DigestUpdate(digest, path, strlen(path) + 1) == 1 &&
           EVP_DigestUpdate(digest, marks, sizeof(marks)) == 1;
}

enum err tls_material_digest(EVP_MD_CTX *digest, const char *name, const char *setting,
                             struct stream_fault *fault) {
    struct stat status;
    bool done;
    if (setting == NULL) {
        done = EVP_DigestUpdate(digest, "none", sizeof("none")) == 1;
    } else if (!is_path(setting)) {
        done = EVP_DigestUpdate(digest, setting, strlen(setting) + 1) == 1;
    } else if (stat(setting, &status) != 0) {
        return unreadable(name, setting, strerrordesc_np(errno), fault);
    } else if (status_fault(&status) != NULL) {
        return unreadable(name, setting, status_fault(&status), fault);
    } else {
        done = digest_file(digest, setting, &status);
    }
    if (!done) {
        fault_tell(fault, CLIENT_ERROR_OUT_OF_MEMORY, "out of memory for TLS");
        return ERR_MEMORY;
    }
    return ERR_OK;
}

/* Up to what the file had when it was opened; less if it shrank meanwhile. */
static enum err read_whole(int fd, size_t size, struct tls_material *out) {
    out->text = malloc(size + 1);
    if (out->text == NULL) {
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

/* A pipe or a device must stop nobody: it is not waited for, and not read. */
static enum err read_file(const char *name, const char *path, struct tls_material *out,
                          struct stream_fault *fault) {
    struct stat status;
    enum err result = ERR_OK;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        result = unreadable(name, path, strerrordesc_np(errno), fault);
    } else if (status_fault(&status) != NULL) {
        result = unreadable(name, path, status_fault(&status), fault);
    } else if (secret_source_is_guarded(fd)) {
        result = unreadable(name, path, "it is the node's own", fault);
    } else {
        result = read_whole(fd, (size_t)status.st_size, out);
        if (result == ERR_IO) {
            result = unreadable(name, path, strerrordesc_np(errno), fault);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return result;
}

enum err tls_material_read(const char *name, const char *setting, struct tls_material *out,
                           struct stream_fault *fault) {
    *out = (struct tls_material){0};
    enum err result = ERR_OK;
    if (is_path(setting)) {
        result = read_file(name, setting, out, fault);
    } else {
        out->text = text_dup(setting);
        out->len = strlen(setting);
        result = out->text == NULL ? ERR_MEMORY : ERR_OK;
    }
    if (result == ERR_MEMORY) {
        fault_tell(fault, CLIENT_ERROR_OUT_OF_MEMORY, "out of memory for %s", name);
    }
    if (result != ERR_OK) {
        tls_material_fini(out);
    }
    return result;
}

void tls_material_fini(struct tls_material *material) {
    if (material->text != NULL) {
        OPENSSL_cleanse(material->text, material->len);
        free(material->text);
    }
    *material = (struct tls_material){0};
}
