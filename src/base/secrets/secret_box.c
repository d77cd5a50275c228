/* Owns the keys of a box. Any thread; a reload replaces all keys at once. The only user of
 * OpenSSL's ciphers.
 *
 * The nonce is not random: it is the HMAC-SHA256 of the secret and its place, under a separate key
 * that is derived from the key of the file. Equal configurations therefore give equal texts, and
 * Redis recognizes a repeated request even when the first answer was lost. A nonce serves two
 * different secrets only if 96 bits collide. An observer learns only that a secret has a value that
 * it had before in the same place. */
#include "base/secrets/secret_box.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/secrets/secret_file.h"
#include "base/text.h"

#define KEY_LEN       32
#define NONCE_LEN     12
#define TAG_LEN       16
#define NONCE_PURPOSE "mqfleet secret nonce v1"

struct secret_key {
    char id[SECRET_KEY_ID_LEN];
    uint8_t cipher[KEY_LEN];
    uint8_t nonce[KEY_LEN];
};

struct secret_keys {
    size_t count;
    struct secret_key items[SECRET_KEYS_MAX];
};

struct secret_box {
    pthread_rwlock_t lock; /* guards keys */
    struct secret_keys keys;
    EVP_CIPHER *cipher;
};

struct secret_box *secret_box_create(void) {
    struct secret_box *box = calloc(1, sizeof *box);
    if (!box) {
        return NULL;
    }
    pthread_rwlock_init(&box->lock, NULL);
    box->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    if (!box->cipher) {
        secret_box_destroy(box);
        return NULL;
    }
    return box;
}

void secret_box_destroy(struct secret_box *box) {
    if (!box) {
        return;
    }
    EVP_CIPHER_free(box->cipher);
    pthread_rwlock_destroy(&box->lock);
    OPENSSL_cleanse(&box->keys, sizeof(box->keys));
    free(box);
}

size_t secret_box_key_count(struct secret_box *box) {
    if (!box) {
        return 0;
    }
    pthread_rwlock_rdlock(&box->lock);
    size_t count = box->keys.count;
    pthread_rwlock_unlock(&box->lock);
    return count;
}

size_t secret_box_key_ids(struct secret_box *box, char ids[SECRET_KEYS_MAX][SECRET_KEY_ID_LEN]) {
    if (!box) {
        return 0;
    }
    pthread_rwlock_rdlock(&box->lock);
    size_t count = box->keys.count;
    for (size_t i = 0; i < count; i++) {
        memcpy(ids[i], box->keys.items[i].id, SECRET_KEY_ID_LEN);
    }
    pthread_rwlock_unlock(&box->lock);
    return count;
}

/* ---- the key file ---------------------------------------------------------------------------- */

static bool secret_box_hmac(const uint8_t key[KEY_LEN], const void *data, size_t len,
                            uint8_t out[KEY_LEN]) {
    unsigned out_len = KEY_LEN;
    return HMAC(EVP_sha256(), key, KEY_LEN, data, len, out, &out_len) != NULL;
}

/* Returns NULL, or the error in the line. */
static const char *secret_box_parse_key(const char *line, struct secret_keys *keys) {
    static const char ID_BYTES[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._";
    size_t id_len = strspn(line, ID_BYTES);
    if (line[id_len] != ':' || id_len == 0 || id_len >= SECRET_KEY_ID_LEN) {
        return "must be key-id:key with an id of 1 to 32 letters, digits, - . _";
    }
    if (keys->count == SECRET_KEYS_MAX) {
        return "exceeds the limit of 8 keys";
    }
    struct secret_key *key = &keys->items[keys->count];
    snprintf(key->id, sizeof(key->id), "%.*s", (int)id_len, line);
    for (size_t i = 0; i < keys->count; i++) {
        if (strcmp(keys->items[i].id, key->id) == 0) {
            return "repeats the id of an earlier line";
        }
    }
    uint8_t *bytes = NULL;
    size_t len = 0;
    const char *text = line + id_len + 1;
    bool right = text_base64_decode(text, strlen(text), &bytes, &len) == ERR_OK && len == KEY_LEN;
    if (right) {
        memcpy(key->cipher, bytes, KEY_LEN);
        right = secret_box_hmac(key->cipher, NONCE_PURPOSE, strlen(NONCE_PURPOSE), key->nonce);
    }
    OPENSSL_cleanse(bytes, bytes ? len : 0);
    free(bytes);
    keys->count += right;
    return right ? NULL
                 : "must have the base64 of 32 bytes after the colon: see mqfleetd --new-key";
}

static enum err secret_box_parse_keys(const struct secret_file *file, const char *path,
                                      struct secret_keys *keys, char *fault) {
    for (size_t i = 0; i < file->count; i++) {
        const char *why = secret_box_parse_key(file->lines[i].text, keys);
        if (why) {
            snprintf(fault, SECRET_BOX_FAULT_LEN, "%.150s: line %zu %s", path,
                     file->lines[i].number, why);
            return ERR_ARGUMENT;
        }
    }
    if (keys->count == 0) {
        snprintf(fault, SECRET_BOX_FAULT_LEN, "%.150s: contains no key: see mqfleetd --new-key",
                 path);
        return ERR_ARGUMENT;
    }
    return ERR_OK;
}

static enum err secret_box_read_keys(const char *path, struct secret_keys *keys, char *fault) {
    struct secret_file file;
    char detail[SECRET_FAULT_LEN];
    enum err err = secret_file_load(path, &file, detail);
    if (err == ERR_OK) {
        err = secret_box_parse_keys(&file, path, keys, fault);
    } else {
        snprintf(fault, SECRET_BOX_FAULT_LEN, "%.240s", detail);
    }
    secret_file_fini(&file);
    return err;
}

enum err secret_box_load(struct secret_box *box, const char *path,
                         char fault[SECRET_BOX_FAULT_LEN]) {
    struct secret_keys keys = {0};
    enum err err = path[0] != '\0' ? secret_box_read_keys(path, &keys, fault) : ERR_OK;
    if (err == ERR_OK) {
        pthread_rwlock_wrlock(&box->lock);
        box->keys = keys;
        pthread_rwlock_unlock(&box->lock);
    }
    OPENSSL_cleanse(&keys, sizeof(keys));
    return err;
}

char *secret_new_key(void) {
    uint8_t bytes[KEY_LEN];
    char id[TEXT_ID_LEN];
    char *line = NULL;
    text_random_id(id);
    char *text = RAND_bytes(bytes, sizeof(bytes)) == 1 ? text_base64_encode(bytes, KEY_LEN) : NULL;
    if (text && asprintf(&line, "k%.8s:%s", id, text) < 0) {
        line = NULL;
    }
    free(text);
    OPENSSL_cleanse(bytes, sizeof(bytes));
    return line;
}

/* ---- sealing and opening --------------------------------------------------------------------- */

bool secret_is_sealed(const char *text) {
    return strncmp(text, SECRET_SEALED, strlen(SECRET_SEALED)) == 0;
}

/* Finds the key with that id; id NULL: the first key. False: no such key. */
static bool secret_box_copy_key(struct secret_box *box, const char *id, struct secret_key *out,
                                bool *newest) {
    bool found = false;
    if (!box) {
        return false;
    }
    pthread_rwlock_rdlock(&box->lock);
    for (size_t i = 0; i < box->keys.count && !found; i++) {
        found = !id || strcmp(box->keys.items[i].id, id) == 0;
        if (found) {
            *out = box->keys.items[i];
            *newest = i == 0;
        }
    }
    pthread_rwlock_unlock(&box->lock);
    return found;
}

/* The context that a secret is bound to; neither part contains a newline. */
static void secret_box_append_context(struct buffer *buffer, const char *id, const char *place) {
    buffer_printf(buffer, "%s\n%s", id, place);
}

static bool secret_box_make_nonce(const struct secret_key *key, const char *id, const char *place,
                                  const char *secret, uint8_t nonce[NONCE_LEN]) {
    struct buffer message;
    uint8_t digest[KEY_LEN];
    buffer_init(&message);
    secret_box_append_context(&message, id, place);
    buffer_append(&message, "", 1);
    buffer_append_str(&message, secret);
    bool done = !message.failed && secret_box_hmac(key->nonce, message.data, message.len, digest);
    memcpy(nonce, digest, done ? NONCE_LEN : 0);
    OPENSSL_cleanse(message.data, message.len);
    buffer_fini(&message);
    return done;
}

/* Runs the cipher over len bytes. Encryption writes the tag, decryption checks it. */
static bool secret_box_run_cipher(const EVP_CIPHER *cipher, const struct secret_key *key,
                                  bool encrypts, const struct buffer *place, const uint8_t *nonce,
                                  const uint8_t *in, size_t len, uint8_t *out, uint8_t *tag) {
    int done = 0;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    bool right =
        context && EVP_CipherInit_ex(context, cipher, NULL, key->cipher, nonce, encrypts) == 1 &&
        (encrypts || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_LEN, tag) == 1) &&
        EVP_CipherUpdate(context, NULL, &done, (const uint8_t *)place->data, (int)place->len) ==
            1 &&
        EVP_CipherUpdate(context, out, &done, in, (int)len) == 1 &&
        EVP_CipherFinal_ex(context, out + len, &done) == 1 &&
        (!encrypts || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_LEN, tag) == 1);
    EVP_CIPHER_CTX_free(context);
    return right;
}

static enum err secret_box_encrypt(struct secret_box *box, const struct secret_key *key,
                                   const char *id, const char *place, const char *secret,
                                   char **sealed) {
    size_t len = strlen(secret);
    struct buffer bound;
    buffer_init(&bound);
    secret_box_append_context(&bound, id, place);
    uint8_t *bytes = malloc(NONCE_LEN + len + TAG_LEN);
    char *text = NULL;
    if (bytes && !bound.failed && secret_box_make_nonce(key, id, place, secret, bytes) &&
        secret_box_run_cipher(box->cipher, key, true, &bound, bytes, (const uint8_t *)secret, len,
                              bytes + NONCE_LEN, bytes + NONCE_LEN + len)) {
        text = text_base64_encode(bytes, NONCE_LEN + len + TAG_LEN);
    }
    if (text && asprintf(sealed, SECRET_SEALED "%s:%s", key->id, text) < 0) {
        *sealed = NULL;
    }
    free(text);
    free(bytes);
    buffer_fini(&bound);
    return *sealed ? ERR_OK : ERR_MEMORY;
}

enum err secret_seal(struct secret_box *box, const char *id, const char *place, const char *secret,
                     char **sealed) {
    struct secret_key key;
    bool newest;
    *sealed = NULL;
    if (!secret_box_copy_key(box, NULL, &key, &newest)) {
        return ERR_UNSUPPORTED;
    }
    enum err err = secret_box_encrypt(box, &key, id, place, secret, sealed);
    OPENSSL_cleanse(&key, sizeof(key));
    return err;
}

/* Splits a sealed text into the id of its key and the bytes. False: invalid form. */
bool secret_key_id(const char *sealed, char id[SECRET_KEY_ID_LEN]) {
    const char *begin = sealed + strlen(SECRET_SEALED);
    const char *colon = secret_is_sealed(sealed) ? strchr(begin, ':') : NULL;
    if (!colon || colon == begin || colon - begin >= SECRET_KEY_ID_LEN) {
        return false;
    }
    snprintf(id, SECRET_KEY_ID_LEN, "%.*s", (int)(colon - begin), begin);
    return text_is_utf8(id, strlen(id)) && !text_has_control(id, strlen(id));
}

static bool secret_box_split_sealed(const char *sealed, char id[SECRET_KEY_ID_LEN], uint8_t **bytes,
                                    size_t *len) {
    *bytes = NULL;
    if (!secret_key_id(sealed, id)) {
        return false;
    }
    const char *encoded = sealed + strlen(SECRET_SEALED) + strlen(id) + 1;
    return text_base64_decode(encoded, strlen(encoded), bytes, len) == ERR_OK &&
           *len >= NONCE_LEN + TAG_LEN;
}

static enum err secret_box_decrypt(struct secret_box *box, const struct secret_key *key,
                                   const char *id, const char *place, uint8_t *bytes, size_t len,
                                   char **secret) {
    size_t secret_len = len - NONCE_LEN - TAG_LEN;
    struct buffer bound;
    buffer_init(&bound);
    secret_box_append_context(&bound, id, place);
    char *text = calloc(1, secret_len + 1);
    enum err err = ERR_MEMORY;
    if (text && !bound.failed) {
        bool right =
            secret_box_run_cipher(box->cipher, key, false, &bound, bytes, bytes + NONCE_LEN,
                                  secret_len, (uint8_t *)text, bytes + NONCE_LEN + secret_len) &&
            strlen(text) == secret_len;
        err = right ? ERR_OK : ERR_ARGUMENT;
    }
    if (err == ERR_OK) {
        *secret = text;
    } else {
        OPENSSL_cleanse(text, text ? secret_len : 0);
        free(text);
    }
    buffer_fini(&bound);
    return err;
}

enum err secret_open(struct secret_box *box, const char *id, const char *place, const char *sealed,
                     char **secret, bool *newest, char fault[SECRET_BOX_FAULT_LEN]) {
    struct secret_key key;
    char key_id[SECRET_KEY_ID_LEN];
    uint8_t *bytes;
    size_t len = 0;
    enum err err = ERR_ARGUMENT;
    *secret = NULL;
    if (!secret_box_split_sealed(sealed, key_id, &bytes, &len)) {
        snprintf(fault, SECRET_BOX_FAULT_LEN,
                 "begins with " SECRET_SEALED " but is not an encrypted secret");
    } else if (!secret_box_copy_key(box, key_id, &key, newest)) {
        snprintf(fault, SECRET_BOX_FAULT_LEN,
                 "is encrypted with key %s, which is not in this node's secrets.key_file", key_id);
    } else {
        err = secret_box_decrypt(box, &key, id, place, bytes, len, secret);
        if (err != ERR_OK) {
            snprintf(fault, SECRET_BOX_FAULT_LEN,
                     "cannot be decrypted with key %s: it is damaged, or was encrypted for another "
                     "client or field",
                     key_id);
        }
        OPENSSL_cleanse(&key, sizeof(key));
    }
    free(bytes);
    return err;
}
